/*
 * keyring.h - temporary credentials that workers of the role credentials fetched, and who waits for them. See keyring.c.
 */
#ifndef MASTER_KEYRING_H
#define MASTER_KEYRING_H

#include "common/keys.h"
#include "master/master.h"

enum keyring_reply {
	KEYRING_ASK,                /* the request is written: this task's worker fetches for all who wait */
	KEYRING_WAIT,               /* another task's worker is at it; this one waits here */
	KEYRING_HAVE,               /* they are there by now */
	KEYRING_FAILED              /* err says why */
};
/* With a worker of the role credentials at hand: appends the payload of KEYS_ASK. */
enum keyring_reply keyring_ask(struct master *, struct task *, struct buf *, struct err *);
/* The request was sent. */
void keyring_began(struct master *, struct task *);
/* KEYS came for it: kept, and who waited goes on. 0, or -1 with the rule that the frame breaks. */
int keyring_take(struct master *, struct task *, const struct frame *, struct err *);
/* There are none (t->error). true: those of before are still good, the task goes on with them. */
bool keyring_failed(struct master *, struct task *);
/* Into a shallow copy of the source, borrowed until the next call here. 0; -1 with err: policy, or lately refused. */
int keyring_lend(struct master *, struct task *, struct source_conf *, struct err *);

/* keyfetch.c */

/* Gives the task to a worker of the role credentials. */
void keyfetch_start(struct master *, struct task *, struct slot *);
/* A frame of that worker. 0, or -1 with the rule that it breaks. */
int keyfetch_frame(struct master *, struct slot *, const struct frame *, struct err *);

#endif
