/*
 * broker.h - what the master, the connector and brokered workers say to one another (egress.mode: broker).
 *
 * A brokered worker has no call that makes or connects a socket. Over a channel of its own (SOCK_SEQPACKET) it asks the
 * connector for the addresses of a name, and for a connected socket, which comes as a descriptor. What it may ask for the
 * connector knows from the master alone: one GRANT for each task, before the task's JOB. Asks and answers are small and
 * bounded; one ask is under way for each worker. Descriptors travel from the connector to a worker, and with CHANNEL from
 * the master to the connector, nowhere else.
 */
#ifndef COMMON_BROKER_H
#define COMMON_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/egress.h"
#include "common/filter.h"
#include "common/ipc.h"

#define BROKER_ADDRS 8
#define BROKER_HOSTS 4
#define BROKER_FRAME 4096               /* an ask or an answer at most */
#define BROKER_TIMEOUT_MAX 600000

enum broker_op { BROKER_RESOLVE = 1, BROKER_CONNECT = 2 };

struct broker_addr { bool v6; uint8_t b[16]; };

struct broker_ask {
	enum broker_op op;
	uint32_t seq;
	uint16_t port;
	uint32_t timeout_ms;            /* CONNECT */
	int family;                     /* RESOLVE: AF_UNSPEC, AF_INET, AF_INET6 */
	char host[256];                 /* RESOLVE */
	bool data;                      /* CONNECT: a data connection of FTP */
	size_t n;                       /* CONNECT: addresses to try, in this order */
	struct broker_addr addr[BROKER_ADDRS];
};
void broker_ask_encode(const struct broker_ask *, struct buf *);
int broker_ask_decode(struct broker_ask *, const void *p, size_t n, struct err *);

struct broker_answer {
	uint32_t seq;
	enum err_class cls;             /* OK, or why not, with text */
	uint32_t error;                 /* errno behind it; 0 none */
	char text[320];
	size_t n;                       /* RESOLVE: the addresses; CONNECT: the one that the descriptor leads to */
	struct broker_addr addr[BROKER_ADDRS];
};
void broker_answer_encode(const struct broker_answer *, struct buf *);
int broker_answer_decode(struct broker_answer *, const void *p, size_t n, struct err *);

/* own: where the machine's own credentials are had, as the poller's environment says: metadata addresses and loopback pass, and
 * the tenant's lists do not count. */
struct broker_host { char name[256]; uint16_t port; bool own; };

struct broker_grant {                   /* GRANT: what one worker's task may be connected to */
	uint32_t slot;
	bool on;                        /* false: nothing, until the next one */
	char org_id[129];               /* whose task it is: names are looked up by turns of tenants */
	bool any_host;                  /* other names than these, too: redirects */
	bool ftp;                       /* data connections: other ports of the same addresses */
	char suffix[64];                /* names that end so, at port 443; "" none */
	size_t n;
	struct broker_host host[BROKER_HOSTS];
	struct strlist hosts;           /* what any_host and suffix are held to: the tenant's hosts */
	struct egress_lists daemon, tenant;
};
void broker_grant_release(struct broker_grant *);
void broker_grant_encode(const struct broker_grant *, struct buf *);
int broker_grant_decode(struct broker_grant *, const void *p, size_t n, struct err *);

enum broker_outcome {
#define OUTCOME(id, name, work) BROKER_##id,
#include "common/broker_outcomes.def"
#undef OUTCOME
	BROKER_OUTCOME__MAX
};
const char *broker_outcome_name(enum broker_outcome);
bool broker_outcome_work(enum broker_outcome);  /* its time counts */

/* Upper bounds of the times of names and connections, in seconds. */
#define BROKER_BOUNDS 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 30
#define BROKER_N_BOUNDS 8

struct broker_tally {                   /* TALLY: what the connector has done since its last one */
	struct broker_count {           /* of resolving, of connecting */
		uint32_t in_flight;     /* now, waiting for a thread included; a lookup that was given up goes on all the same */
		uint32_t outcome[BROKER_OUTCOME__MAX];
		uint32_t took[BROKER_N_BOUNDS + 1]; /* of those that did work, by time; the last: longer */
		uint64_t us;            /* that they took */
	} op[2];
};
void broker_tally_encode(const struct broker_tally *, struct buf *);
int broker_tally_decode(struct broker_tally *, const void *p, size_t n, struct err *);

/* An address of IPv4 or IPv6, and back with a port. */
void broker_addr_from(struct broker_addr *, const struct sockaddr *);
socklen_t broker_addr_to(const struct broker_addr *, uint16_t port, struct sockaddr_storage *);

/* One message, with a descriptor (-1 none) that stays the caller's. 1 sent, 0 no room, -1 the other side is gone. */
int broker_send(int fd, const struct buf *, int passed);
/*
 * One message of at most n bytes. Its length; 0 nothing there; -1 the end; -2 what breaks a rule (too long; a descriptor
 * where passed is NULL, or several). *passed: the descriptor that came, the caller's from now on; -1 none.
 */
ssize_t broker_recv(int fd, void *p, size_t n, int *passed);

#endif
