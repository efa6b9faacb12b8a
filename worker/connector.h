/*
 * connector.h - what the connector_*.c files show one another; nobody else includes it.
 */
#ifndef WORKER_CONNECTOR_H
#define WORKER_CONNECTOR_H

#include "common/broker.h"
#include "common/loop.h"

#define KNOWN_MAX 256                   /* addresses of one task */

struct known { struct broker_addr addr; uint16_t port; bool own; };

struct peer {                           /* a slot's worker */
	struct loop *loop;
	uint64_t id;                    /* of this grant; no other of any channel ever has it */
	uint32_t slot;
	int fd;
	struct watch *w;
	bool granted;
	struct broker_grant grant;
	struct egress daemon, tenant;
	struct known known[KNOWN_MAX];  /* what its names came to, since the grant */
	size_t n_known;
	bool busy;                      /* an ask is under way */
	uint64_t turn;                  /* of the ask: one more with each, so that no answer is taken for another's */
	struct broker_ask ask;
	int64_t since_us;               /* when it came */
	struct attempt *attempt;        /* CONNECT */
	unsigned resolving;             /* names that wait or are looked up since the grant, given up ones too */
};

/* connector_policy.c: 0, or -1 (POLICY) with why */
int peer_grant(struct peer *, const struct broker_grant *, struct err *);
void peer_ungrant(struct peer *);
/* May it? OK, or which rule is against it, with err (POLICY). */
enum broker_outcome peer_may_resolve(const struct peer *, const struct broker_ask *, struct err *);
enum broker_outcome peer_may_connect(const struct peer *, const struct broker_ask *, const struct broker_addr *, struct err *);
/* The address of the name that was asked for: checked, and known from now on. */
int peer_learn(struct peer *, const struct sockaddr *, struct broker_addr *, struct err *);

/* connector_resolve.c: names in threads */
struct line;
struct resolved {                       /* one question and its outcome */
	struct resolved *next;
	struct line *line;              /* its tenant's */
	uint64_t peer, turn;
	uint32_t slot, seq;
	int family;
	uint16_t port;
	char host[256];
	int rc, error;                  /* getaddrinfo's, and errno */
	size_t n;
	struct sockaddr_storage addr[BROKER_ADDRS * 2];
};
/* Threads for so many workers. done is called in the loop for each question; it frees it. 0 or -1 with err. */
int resolver_start(struct loop *, unsigned slots, void (*done)(struct resolved *), struct err *);
void resolver_ask(const struct peer *, const struct broker_ask *);
/* Forgets the peer's question where no thread has taken it yet: true; done is not called for it. */
bool resolver_drop(const struct peer *);
/* What getaddrinfo's outcome means. Always -1. */
int resolver_error(const struct resolved *, struct err *);

/* connector_turns.c: whose name is next */
void turns_add(struct resolved *, const char *org_id);
/* The next one of a tenant with fewer than share under way, under way from now on; NULL none. */
struct resolved *turns_take(unsigned share);
void turns_done(struct resolved *);
/* The question of this peer that waits, the caller's to free; NULL none. */
struct resolved *turns_drop(uint64_t peer);

/* connector_attempt.c: one connection, by whichever address answers first */
struct attempt;
/* Calls done once, unless it is freed before: fd (the callee's) and which address, or -1 with why. */
struct attempt *attempt_new(struct peer *, void (*done)(struct peer *, int fd, size_t which, const struct err *, int error));
void attempt_free(struct attempt *);

/* connector_tally.c: what was done, told to the master */
void tally_start(struct loop *, uint32_t generation);
void tally_flight(enum broker_op, int more);            /* so many more, or fewer, are under way */
void tally_ended(enum broker_op, enum broker_outcome, int64_t us);
void tally_send(void);                                  /* at once */
int64_t tally_now_us(void);

#endif
