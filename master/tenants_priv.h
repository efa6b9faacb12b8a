/*
 * tenants_priv.h - what tenants.c and tenants_sweep.c share; nobody else includes it.
 */
#ifndef MASTER_TENANTS_PRIV_H
#define MASTER_TENANTS_PRIV_H

#include <uthash.h>

#include "master/master.h"

#define MINUTE_NS 60000000000LL

enum wait { WAIT_NO, WAIT_TASKS, WAIT_SHARE, WAIT_RATE, WAIT_REQUESTS, WAIT__MAX };

struct tenant_part {                    /* a tenant in one pool */
	unsigned in;                    /* tasks that run or were called */
	unsigned waiting;               /* that wait for a place or for their minute */
	int64_t seen_ms;                /* loop time of the last task that came, started or ended */
	unsigned brief;                 /* tasks in a row that held their workers for a moment */
	int64_t moved_ms;               /* loop time when one ended, or the first of those that run began */
};

struct tenant_use {
	struct tenants *all;
	char *name;
	struct taskq room[PRIORITY__MAX]; /* wait for a place */
	struct taskq rate[PRIORITY__MAX]; /* wait for their minute */
	struct taskq away[PRIORITY__MAX]; /* have waited here, or not at all, and wait at their endpoints */
	unsigned n_room, n_rate, n_away, running;
	struct tenant_part *part;       /* of each pool */
	unsigned called;                /* taken out of here and given to the scheduler, not yet come back from it */
	unsigned called_rate;           /* of these, those that waited for their minute */
	enum wait why;                  /* of the last one that had to wait */
	uint64_t started, waited;       /* tasks; those that had to wait */
	int64_t waited_ms;
	int64_t next_ns;                /* CLOCK_MONOTONIC: when the bucket of jobs a minute is full again */
	struct bucket requests;
	int64_t later_ns;               /* CLOCK_MONOTONIC: the token that the last deferred job comes back for */
	unsigned later_seq;
	bool grew;                      /* since the last sweep a task had to wait */
	int64_t seen_ms;                /* the latest of its parts' */
	bool shown;                     /* has metrics of its own */
	struct timer timer;             /* the next job's token */
	size_t held, held_bytes;        /* jobs in hand, but those that leave for the deferred topic */
	size_t ended;                   /* of them since the last look */
	unsigned slow;                  /* looks in a row that found it so */
	TAILQ_ENTRY(tenant_use) entry;      /* of those with tasks that wait here */
	bool listed;
	UT_hash_handle hh;              /* in order of first use */
};

struct pool_use {
	struct share share;             /* busy: tasks that run or were called, always; the rest as of the last look */
	int64_t looked_ms;
	bool stale;                     /* who is active has changed since */
};

struct tenants {
	struct master *m;
	struct tenant_use *by_name;
	TAILQ_HEAD(tenant_uses, tenant_use) waiting;
	size_t parked[PRIORITY__MAX];
	size_t pools;
	struct pool_use *pool;          /* of each pool */
	size_t shown;
	struct timer tick;
	struct timer sweep;
	size_t held[PRIORITY__MAX];     /* by all */
	struct timer look, give;        /* where the queue or a window is full */
	int64_t looked_ms;
	size_t part_jobs, part_bytes;   /* what one may hold, as of the last look */
};

/* tenants.c */
const struct tenant_conf *tenant_use_conf(const struct tenant_use *);
/* ns until a job may start after `before` others; 0: now. */
int64_t tenant_token_wait(const struct tenant_use *, size_t before);

/* Was work of other tenants seen there lately? */
bool tenant_beside_others(struct tenant_use *, size_t pool);

/* The one of that name, made if there is none. */
struct tenant_use *tenant_use_of(struct tenants *, const char *name);

/* tenants_sweep.c */
void tenants_sweep_due(void *tenants);
/* ns after which a job that was too much for the queue asks again. */
int64_t tenant_later_part(struct tenant_use *, const struct jobrec *);

/* tenants_crowd.c */
void tenants_look_due(void *tenants);
void tenants_give_due(void *tenants);

#endif
