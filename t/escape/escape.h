/*
 * escape.h - attempts to get out of a worker's sandbox, and the world in which they are made.
 *
 * main.c makes a world for every single attempt: a master, a sibling worker, files in and outside of a root, listening
 * sockets; and a worker, exec'd with a worker's descriptors, that enters the sandbox and then makes that one attempt.
 * What came of it is told by the worker and, where it can be, seen by the master: a witness. try_*.c hold the attempts.
 */
#ifndef T_ESCAPE_H
#define T_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	FD_MASTER = 3,          /* a worker's numbers: common/ipc.h */
	FD_SPOOL = 4,
	FD_REFUSED = 5,
	FD_LISTEN = 6,          /* the status child's */
	FD_LEAKED = 77,         /* a file outside of the root, which nobody should inherit */
	FD_LEAKED_DIR = 78,     /* "/" */
};

#define SECRET_LEN 32
#define PRECIOUS "nobody has touched this"

/* What the worker is told before it enters the sandbox. */
/* Where the world listens: at an address of its own, since other tests knock at ports of 127.0.0.1 that were theirs. */
#define WORLD_ADDRESS 0x7f2e2e01u      /* 127.46.46.1 */

struct world {
	char dir[64];           /* holds root/ and outside/ */
	char root[96], outside[96];
	char unix_stream[96], unix_dgram[96];
	char abstract[32];      /* name of an abstract listener, without the zero byte */
	char self[256];         /* the program itself, to exec */
	pid_t master, sibling;
	uint64_t secret_at;     /* where both hold the secret of SECRET_LEN letters */
	uint64_t precious_at;   /* where both hold PRECIOUS */
	int shm_id;             /* holds the secret, too */
	uint16_t tcp_port, tcp6_port, udp_port;
};

/* What the master sees by itself. */
enum witness {
	W_SECRET = 1,           /* the secret came out */
	W_FILE = 2,             /* a file is not what it was */
	W_SIGNAL = 4,           /* a signal came to the master or the sibling, or the sibling is dead or stopped */
	W_MEMORY = 8,           /* memory of the sibling or the master changed */
	W_PROCESS = 16,         /* limits, priority, processors of the sibling changed */
	W_NET = 32,             /* a connection or a packet came, or was let in */
	W_MOUNT = 64,
	W_HOST = 128,           /* the host name */
	W_IMAGE = 256,          /* another program or process answered on the worker's socket */
	W__BITS = 9
};

/* Where an attempt is refused; t/lib/escapes.py holds what comes out against it. */
enum holds {
	ALWAYS,                 /* in every role, with or without Landlock */
	LANDLOCK,               /* while there is Landlock of any version */
	LOCAL_ABI_3,            /* in the role local only by Landlock 3 and newer, or where there is none: no openat2 then */
	LOCAL_NAMES,            /* nowhere in the role local, everywhere else: names and metadata of files */
	LOCAL_OPENAT2,          /* likewise, by openat2, which there is only with Landlock */
	NAMES,                  /* nowhere: names and metadata of files */
	NETWORK,                /* but in the roles network and credentials, whose work it is */
	HTTP,                   /* but in the role http, whose work it is */
	OWN_FILES,              /* but in the role local; where there is no Landlock it is as open as other files */
	OPEN,                   /* nowhere, and it does no harm: the row says why */
};

struct attempt {
	const char *name;       /* class-what */
	enum holds holds;
	unsigned witness;       /* what must be seen where it succeeds */
	int (*run)(const struct world *);       /* 0, -1 with errno, or NOT_HERE */
	const char *what;
};
#define NOT_HERE 2              /* this machine has no such thing */

extern const struct attempt attempts_files[], attempts_process[], attempts_net[], attempts_kernel[], attempts_memory[];

/* ---- the world of one attempt, world.c ---- */

struct seen;                    /* how the world was before */
/* In the master's process; the sibling lives then. -1 with errno: this machine cannot do it. */
int world_make(struct world *, const char *dir, struct seen **);
/* How it differs from what it was. */
unsigned world_look(const struct world *, const struct seen *);
/* Does it hold the world's secret? */
bool world_secret(const void *p, size_t n);
/* The worker listens there, it says: is that so? */
bool world_connects(uint16_t port);
void world_end(const struct world *);

/* ---- for the attempts, main.c ---- */

/* For the worker: hands to the master what it should not have; 0. */
int steal(const void *p, size_t n);
int say(char kind, const void *p, size_t n);
/* "dir/name" in a buffer of its own, good until the fourth call after. */
const char *in_dir(const char *dir, const char *name);

#endif
