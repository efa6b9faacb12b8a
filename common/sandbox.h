/*
 * sandbox.h - what a child gives up before it says READY. Two calls, in this order, from the only thread.
 *
 * prepare: parent-death signal and the check that the parent still lives, not dumpable, no core, closed descriptors
 * (all above `keep_fds`), clean signal state. enter: rlimits, no_new_privs; system call filters and Landlock
 * come behind the same call. Both return 0 or -1 with err (class SYSTEM); a child that fails ends with exit 71.
 */
#ifndef COMMON_SANDBOX_H
#define COMMON_SANDBOX_H

#include <stdint.h>
#include <stddef.h>

#include "common/err.h"

struct sandbox {
	int keep_fds;            /* descriptors 0..keep_fds-1 stay */
	int parent_pid;          /* who must still be the parent */
	int64_t file_max;        /* RLIMIT_FSIZE in bytes */
	int64_t data_max;        /* RLIMIT_DATA in bytes; 0: none (sanitizers need terabytes) */
	int64_t cpu_max_s;       /* RLIMIT_CPU soft; hard is 5 s more; 0: none */
	int64_t open_files;      /* RLIMIT_NOFILE */
};

int sandbox_prepare(const struct sandbox *, struct err *);
/* Writes what is active, in words, into out. */
int sandbox_enter(const struct sandbox *, char *out, size_t n, struct err *);

#endif
