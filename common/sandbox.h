/*
 * sandbox.h - what a child gives up before it says READY. Two calls, in this order, from the only thread.
 *
 * prepare: parent-death signal and the check that the parent still lives, not dumpable, no core, closed descriptors
 * (all above `keep_fds`), clean signal state. enter: another user, rlimits, no_new_privs, Landlock, system call filters;
 * what libraries read or load once must be read before it. Both return 0 or -1 with err (class SYSTEM, or CONFIG where the
 * machine cannot do what the rules demand); a child that fails ends with exit 71 or 78.
 *
 * The filters come from one list, syscalls.def, by role. What is never legal kills the process; another unlisted call
 * is trapped: its number goes into a page that the master reads (struct refused), and the process dies of SIGSYS.
 */
#ifndef COMMON_SANDBOX_H
#define COMMON_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum sandbox_mode { SANDBOX_ENFORCE, SANDBOX_LOG, SANDBOX_OFF, SANDBOX_MODE__MAX };   /* the words of sandbox.mode */
enum sandbox_unlisted { SANDBOX_TRAP, SANDBOX_KILL, SANDBOX_UNLISTED__MAX };          /* those of sandbox.unlisted */

/* Whose filter: the bits of syscalls.def. */
enum sandbox_role { SANDBOX_LOCAL = 1, SANDBOX_NETWORK = 2, SANDBOX_CREDENTIALS = 4, SANDBOX_HTTP = 8, SANDBOX_BROKERED = 16 };

/* The newest Landlock whose rights are known here; a newer kernel's are used up to it. */
#define LANDLOCK_ABI_KNOWN 7

struct sandbox_rules {           /* what the configuration asks for; travels in SETUP */
	enum sandbox_mode mode;
	enum sandbox_unlisted unlisted;
	unsigned landlock_max;   /* no newer Landlock ABI is used; 0: none */
	uint32_t uid, gid;       /* the user to become; uid 0: stays what it is */
};

struct sandbox {
	int keep_fds;            /* descriptors 0..keep_fds-1 stay */
	int parent_pid;          /* who must still be the parent */
	int64_t file_max;        /* RLIMIT_FSIZE in bytes */
	int64_t data_max;        /* RLIMIT_DATA in bytes; 0: none (sanitizers need terabytes) */
	int64_t cpu_max_s;       /* RLIMIT_CPU soft; hard is 5 s more; 0: none */
	int64_t open_files;      /* RLIMIT_NOFILE */
	enum sandbox_role role;
	struct sandbox_rules rules;
	const char *const *roots; /* directories whose files may be read; role LOCAL only */
	size_t n_roots;
	void (*threads)(void);    /* makes threads that live on, between Landlock, which it thus has, and the filters, which it gets; NULL: none */
};

struct sandbox_active {          /* what holds now; travels in READY */
	enum sandbox_mode mode;
	uint8_t landlock;        /* ABI in use; 0: none */
	bool filter;             /* system calls are filtered */
	uint32_t uid;            /* who it runs as */
};

int sandbox_prepare(const struct sandbox *, struct err *);
/* Writes what is active, for programs and in words, into *active and out. */
int sandbox_enter(const struct sandbox *, struct sandbox_active *active, char *out, size_t n, struct err *);
/*
 * One more layer, after enter: of all directories only this one may be read from now on. For a process that serves one
 * task and ends. 1 done, 0 there is no Landlock to do it with, -1 with err: the process must not go on.
 */
int sandbox_narrow(const char *root, struct err *);
/* The same with several directories, or none: for a process that serves nobody who may read others. */
int sandbox_narrow_to(const char *const *roots, size_t n, struct err *);
/*
 * Is a directory or file that enter gave leave to read another one by now (replaced, mounted upon, made since)? Landlock knows
 * the old one only: the worker must leave, so that a fresh one takes the task.
 */
bool sandbox_stale(void);
const char *sandbox_mode_name(enum sandbox_mode);

/* What this kernel has: asked by the master before it starts any child. */
struct sandbox_kernel {
	unsigned landlock;       /* ABI; 0: none */
	bool seccomp;            /* filters with all actions that are needed */
};
void sandbox_kernel(struct sandbox_kernel *);

/* ---- the page that names the refused call ---- */

struct refused {                 /* of no call: nr -1 */
	int nr;
	uint64_t args[3];
};
/* Master: a sealed page, for the child's descriptor IPC_REFUSED_FD; -1 with errno. */
int refused_create(void);
/* Master: what the dead child left there. Foreign: checked, and believed in nothing but its own refusal. */
void refused_read(int fd, struct refused *);
/* Child: takes the page from this descriptor and closes it; without one the number is kept to itself. */
void refused_map(int fd);
/* "mlock"; NULL where the number has no name on this machine. Caller frees. */
char *refused_name(int nr);

/* ---- inside sandbox*.c, and for their tests ---- */

unsigned landlock_kernel(void);         /* its ABI; 0: none */
int landlock_enter(const struct sandbox *, uint8_t *abi, struct err *);
int seccomp_enter(const struct sandbox *, uint8_t landlock, struct err *);
/* The two filters of a role, as the kernel's program; -1 with err. which: 0 calls, 1 arguments. fd: where to. */
int seccomp_write(const struct sandbox *, uint8_t landlock, int which, int fd, struct err *);
void refused_note(int nr, const uint64_t args[3]);

#endif
