/*
 * pool_priv.h - what pool.c, pool_share.c, crew.c, slot.c and slot_start.c share: the pools' own data and the steps of a
 * slot's life. A crew is one pool of the configuration; struct pool is the set of all slots, of every crew.
 */
#ifndef MASTER_POOL_PRIV_H
#define MASTER_POOL_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/master.h"

struct crew {
	struct pool *p;
	size_t index;                   /* of the pool's crews; tasks carry it */
	const char *name;               /* of the configuration, borrowed: pools change at a restart only */
	const struct pool_conf *conf;   /* likewise; NULL: the one pool of a configuration that names none */
	struct glob **tenants;          /* of conf->tenants */
	unsigned types;                 /* bits of enum source_type */
	enum isolation isolation;
	size_t workers;                 /* bound at once at most */
	size_t spares;                  /* fresh ones beside them */
	struct timer linger;            /* an idle worker may give way then; pool_share.c */
	int next_role;                  /* the role that is asked first whether it needs a worker */
	int64_t lower_ms;               /* when a key of lower priority was last given a worker that had work */
	unsigned passed, lower_turn;    /* fresh workers since then for keys of higher priority; how often that was enough */
	double exchanges;               /* of sound workers that may follow one another at once; refilled since exchanges_ms */
	int64_t exchanges_ms;
	/* what pool_share.c saw at its last look, and what it has decided since */
	uint64_t look;
	size_t bound;                   /* workers that serve a key, idle or not */
	size_t has[ROLE__MAX];          /* of the bound ones */
	size_t fresh[ROLE__MAX], coming[ROLE__MAX]; /* fresh ones that are READY; on their way */
	size_t unclaimed[ROLE__MAX];    /* of both, those that no key has claimed */
	size_t active, share;           /* keys with work; workers each may have while all have work */
	int64_t again;                  /* ms after which a worker may give way that does not yet; -1 none */
};

struct pool {
	struct master *m;
	struct crew *crews;
	size_t n_crews;
	struct strlist groups;          /* keys of groups that tasks were given */
	struct slot *slots;             /* n + 1: one is empty, see `spare` */
	size_t n;                       /* workers wanted, of all crews */
	struct slot *spare;             /* the empty one */
	struct slot *coming, *leaving;  /* an exchange: when the first is READY the second leaves; NULL: none under way */
	char *path;                     /* the worker program */
	double tokens;
	int64_t tokens_ms;
	int64_t stale_ms;               /* when all workers were last taken for stale; 0: never */
	unsigned failed_starts;         /* deaths before READY since the last READY, of all slots */
	bool stopping;
	bool config_error;              /* a worker ended with EX_CONFIG: starting more cannot help */
	uint64_t restarts;
	struct timer recycle;
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

/* crew.c */
/* The crews of the configuration. */
void crews_init(struct pool *);
void crews_release(struct pool *);
/* The local directories that workers of it may read now, appended. */
void crew_roots(const struct crew *, struct strlist *);
/* Does a worker that takes a task of this tenant end with it? */
bool crew_single(const struct crew *, const char *org_id);
/* The role of a worker for which no task waits yet. */
enum worker_role crew_first_role(const struct crew *);

/* slot.c */
void slot_init(struct slot *, struct master *, int index, struct crew *);
/* A sound worker ends, and its slot starts the next one at once: no start of the bucket, and not counted as trouble. */
void slot_exchange(struct slot *);
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
/* What a listing took of the disk is given back at once, whoever ended it. */
void spool_empty(struct slot *);
void spool_close(struct slot *);

#endif
