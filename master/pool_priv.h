/*
 * pool_priv.h - what pool.c, slot.c and slot_start.c share: the pool's own data and the steps of a slot's life.
 */
#ifndef MASTER_POOL_PRIV_H
#define MASTER_POOL_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/master.h"

struct pool {
	struct master *m;
	struct slot *slots;             /* n + 1: one is empty, see `spare` */
	size_t n;                       /* workers wanted */
	struct slot *spare;             /* the empty one */
	struct slot *coming, *leaving;  /* an exchange: when the first is READY the second leaves; NULL: none under way */
	char *path;                     /* the worker program */
	double tokens;
	int64_t tokens_ms;
	unsigned failed_starts;         /* deaths before READY since the last READY, of all slots */
	bool stopping;
	bool config_error;              /* a worker ended with EX_CONFIG: starting more cannot help */
	uint64_t restarts;
	struct timer recycle;
	struct timer linger;            /* an idle worker may change its role then; pool_roles.c */
	int next_turn;                  /* the role that is asked first whether it needs a worker */
	struct deaths deaths;
	uint8_t frame[IPC_FRAME_MAX + 1];
};

/* pool.c */
/* What a worker must know before its first task, in answer to its HELLO. */
int pool_send_setup(struct slot *, struct err *);
/* Has this worker served as many tasks, or lived as long, as one may? */
bool slot_due(const struct slot *);
/* One exchange at a time: the spare starts, and when it is READY the old one leaves. */
void pool_exchange(struct pool *, struct slot *old);
/* An empty slot: the next worker, or, after an exchange, it is kept for the next one. */
void pool_refill(struct slot *);

/* pool_roles.c */
void pool_roles_init(struct pool *);

/* slot.c */
void slot_init(struct slot *, struct master *, int index);
/* Everything of the process but the spool, which dispatch.c may still read. */
void slot_forget(struct slot *);
void slot_signal(struct slot *, int sig);
void slot_on_socket(void *slot, int fd, uint32_t events);
void slot_on_exit(void *slot, int fd, uint32_t events);

/* slot_start.c */
/* Now, or when a start is allowed again. */
void slot_start(struct slot *);
/* A worker that was not READY: the slot waits, longer each time. */
void slot_failed_early(struct slot *);
int slot_hello(struct slot *, const struct frame *, struct err *);
int slot_ready(struct slot *, const struct frame *, struct err *);
/* The spool: a file without a name, so that nothing stays behind whoever dies. -1: with err. */
int spool_open(struct master *, struct err *);
/* What a listing took of the disk is given back at once, whoever ended it. */
void spool_empty(struct slot *);
void spool_close(struct slot *);

#endif
