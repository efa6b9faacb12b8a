/*
 * endpoint_priv.h - what endpoint.c, endpoint_conns.c and certificate.c share: one server, and who calls whom. Nobody else includes it.
 */
#ifndef MASTER_ENDPOINT_PRIV_H
#define MASTER_ENDPOINT_PRIV_H

#include <uthash.h>

#include "master/master.h"

struct count {                          /* tasks of one pool */
	unsigned running, called;
	unsigned room;                  /* call_next's */
};

struct endpoint {
	char *name;
	struct taskq parked;
	unsigned n_parked, running;
	unsigned called;                /* taken out of here and given to the scheduler, not yet come back from it */
	struct taskq calls;             /* these */
	struct count *in;               /* of both, those of each pool */
	struct bucket requests;
	unsigned held;                  /* connections that workers have open or may open: each its kept ones, or its task's if those are more */
	unsigned workers;               /* that hold any */
	bool lacking;                   /* a task that waits lacks nothing but a connection: none that comes goes before it */
	uint64_t reused, reconnected;   /* kept connections that served again; that the server had closed */
	int64_t lacked_ms;              /* all such waits together */
	uint64_t tasks, failed;
	bool answers;
	unsigned silent;                /* in a row, without an answer */
	int64_t used_ms;                /* loop time of the last start or end */
	int64_t cert_expires, cert_ms;  /* task.h's, of the last task that met one, and the loop time then */
	int64_t cert_logged_ms;         /* 0: never */
	UT_hash_handle hh;              /* in order of first use */
};

/* endpoint.c */
/* The server that the task goes to; NULL: to none, or not yet. */
const char *endpoint_name(const struct task *);
/* NULL: nobody has gone there. */
struct endpoint *endpoint_find(const struct master *, const char *name);
/* There may be more room than before. */
void endpoint_call_next(struct master *, struct endpoint *);

/* endpoint_conns.c */
/* Is there a connection for one more task, beside the `before` that were called and have not started? */
bool conns_room(const struct master *, const struct endpoint *, const struct task *, unsigned before);
/* So many tasks lack nothing but a connection, next is the first of them (0, NULL: none): workers that keep some idle are asked to
 * close them. */
void conns_ask(struct master *, struct endpoint *, unsigned lacking, const struct task *next);
/* The worker's task may open so many. */
void conns_granted(struct slot *, struct endpoint *, unsigned n);

/* certificate.c */

/* The task's account came. */
void certificate_seen(const struct master *, struct endpoint *, const struct task *);
/* It ends soon, or has ended, and was met within the last day. */
bool certificate_counts(const struct master *, const struct endpoint *);

#endif
