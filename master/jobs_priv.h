/*
 * jobs_priv.h - what jobs.c and defer.c share; nobody else includes it.
 */
#ifndef MASTER_JOBS_PRIV_H
#define MASTER_JOBS_PRIV_H

#include "master/master.h"

/* jobs.c */
/* The job's end: dead letter where something failed, then the terminal record. */
void jobs_finish(struct jobrec *);
/* Its outcome is durable, or it was handed on: its message is completed, the record freed. */
void jobs_gone(struct jobrec *);
/* A revoked job is freed when neither a worker nor Kafka can come back to it. */
void jobs_drop_if_free(struct jobrec *);
/* Takes a waiting task out of wherever it waits; false: it is with a worker or with Kafka. */
bool jobs_unqueue(struct task *);
/* Its record was not taken: sent again after a wait that grows. */
void jobs_send_later(struct jobrec *);

/* Ends every task that can be ended now, the others soon: it ends as cancelled. */
void jobs_cancel_one(struct jobrec *);
/* A timer's function: its record goes again. */
void jobs_send_again(void *jobrec);
struct master *jobs_owner(const struct jobs *);
/* Counts and lists it. */
void jobs_enter(struct jobs *, struct jobrec *);
/* It takes more of jobs.queue_bytes than was known. */
void jobs_grow(struct jobrec *, size_t bytes);

/* defer.c */
void defer_send(struct jobrec *);

#endif
