/*
 * try_kernel.c - attempts on the kernel: mounts, namespaces, keys, programs in the kernel, identity, prctl, and ways in
 * that a filter of 64-bit calls does not see.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "t/escape/escape.h"
#include "common/banned.h"

/* of <sys/mount.h>, which does not go with <linux/mount.h> */
#define UMOUNT_LAZY 2
#define BIND_MOUNT 4096
#define KEYRING_SESSION (-3)
#define KEYRING_PROCESS (-2)

static int
came(long r)
{
	return r < 0 ? -1 : 0;
}

#define CALL(name, ...) \
	static int name(const struct world *w) { (void)w; return came(syscall(__VA_ARGS__)); }

/* Mounts and namespaces */

CALL(a_mount, SYS_mount, "none", in_dir(w->root, "sub"), "tmpfs", 0UL, NULL)
CALL(a_bind, SYS_mount, w->outside, in_dir(w->root, "sub"), NULL, BIND_MOUNT, NULL)
CALL(a_umount, SYS_umount2, w->dir, UMOUNT_LAZY)
CALL(a_pivot, SYS_pivot_root, w->dir, w->root)
CALL(a_chroot, SYS_chroot, w->outside)
CALL(a_open_tree, SYS_open_tree, AT_FDCWD, w->outside, OPEN_TREE_CLONE)
CALL(a_fsopen, SYS_fsopen, "tmpfs", 0)
CALL(a_fspick, SYS_fspick, AT_FDCWD, w->dir, 0)
CALL(a_unshare_mount, SYS_unshare, CLONE_NEWNS)
CALL(a_unshare_user, SYS_unshare, CLONE_NEWUSER)
CALL(a_unshare_net, SYS_unshare, CLONE_NEWNET)
CALL(a_unshare_files, SYS_unshare, CLONE_FILES)

static int
a_move_mount(const struct world *w)
{
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, w->outside, OPEN_TREE_CLONE);

	if (fd < 0)
		return -1;
	return came(syscall(SYS_move_mount, fd, "", AT_FDCWD, in_dir(w->root, "sub"), MOVE_MOUNT_F_EMPTY_PATH));
}

static int
a_mount_setattr(const struct world *w)
{
	struct mount_attr a = { .attr_set = MOUNT_ATTR_NOEXEC };

	return came(syscall(SYS_mount_setattr, AT_FDCWD, w->dir, 0, &a, sizeof(a)));
}

static int
a_setns(const struct world *w)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/uts", (int)w->master);
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
	return fd < 0 ? -1 : came(syscall(SYS_setns, fd, 0));
}

static int
a_setns_pidfd(const struct world *w)
{
	int fd = (int)syscall(SYS_pidfd_open, w->master, 0);

	return fd < 0 ? -1 : came(syscall(SYS_setns, fd, CLONE_NEWUTS));
}

/* Keys */

CALL(a_add_key, SYS_add_key, "user", "evil", "x", 1UL, KEYRING_PROCESS)
CALL(a_request_key, SYS_request_key, "user", "evil", NULL, KEYRING_PROCESS)
CALL(a_keyctl, SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEYRING_SESSION, 0)
CALL(a_join, SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "evil")

/* Programs and queues in the kernel */

static int
a_bpf_map(const struct world *w)
{
	union bpf_attr a;

	(void)w;
	memset(&a, 0, sizeof(a));
	a.map_type = BPF_MAP_TYPE_ARRAY;
	a.key_size = a.value_size = 4;
	a.max_entries = 1;
	return came(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a)));
}

static int
perf(pid_t pid)
{
	struct perf_event_attr a;

	memset(&a, 0, sizeof(a));
	a.type = PERF_TYPE_SOFTWARE;
	a.size = sizeof(a);
	a.config = PERF_COUNT_SW_TASK_CLOCK;
	a.exclude_kernel = 1;
	return came(syscall(SYS_perf_event_open, &a, pid, -1, -1, 0UL));
}

static int a_perf(const struct world *w) { (void)w; return perf(0); }
static int a_perf_sibling(const struct world *w) { return perf(w->sibling); }

static int
a_uring(const struct world *w)
{
	struct io_uring_params p;

	(void)w;
	memset(&p, 0, sizeof(p));
	return came(syscall(SYS_io_uring_setup, 4, &p));
}

CALL(a_uring_enter, SYS_io_uring_enter, FD_SPOOL, 1, 0, 0, NULL, 0)
CALL(a_uring_register, SYS_io_uring_register, FD_SPOOL, 0, NULL, 0)
CALL(a_userfaultfd, SYS_userfaultfd, O_CLOEXEC)

static int
a_aio(const struct world *w)
{
	unsigned long context = 0;

	(void)w;
	return came(syscall(SYS_io_setup, 4, &context));
}

static int
a_seccomp_listener(const struct world *w)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog p = { 1, &all };

	(void)w;
	return came(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p));
}

CALL(a_module, SYS_init_module, "x", 1UL, "")
CALL(a_finit, SYS_finit_module, FD_SPOOL, "", 0)
CALL(a_delete_module, SYS_delete_module, "no_such_module", 0)
CALL(a_kexec, SYS_kexec_load, 0UL, 0UL, NULL, 0UL)
CALL(a_reboot, SYS_reboot, 0, 0, 0, NULL)       /* with wrong magic numbers: even without a filter nothing happens */
CALL(a_swapon, SYS_swapon, w->outside, 0)
CALL(a_acct, SYS_acct, NULL)
CALL(a_syslog, SYS_syslog, 10, NULL, 0)
CALL(a_hostname, SYS_sethostname, "evil", 4UL)
CALL(a_domain, SYS_setdomainname, "evil", 4UL)
CALL(a_quota, SYS_quotactl, 0x800001 << 8, NULL, 0, NULL)

static int
a_clock(const struct world *w)
{
	struct timespec wrong = { -1, 0 };

	(void)w;
	return came(syscall(SYS_clock_settime, CLOCK_REALTIME, &wrong));
}

static int
a_adjtimex(const struct world *w)
{
	struct timex t;

	(void)w;
	memset(&t, 0, sizeof(t));
	return came(syscall(SYS_adjtimex, &t));
}

static int
a_ioports(const struct world *w)
{
	(void)w;
#ifdef SYS_ioperm
	return came(syscall(SYS_ioperm, 0x80UL, 1UL, 1));
#else
	return NOT_HERE;
#endif
}

static int
a_iopl(const struct world *w)
{
	(void)w;
#ifdef SYS_iopl
	return came(syscall(SYS_iopl, 3));
#else
	return NOT_HERE;
#endif
}

static int
a_ldt(const struct world *w)
{
	(void)w;
#ifdef SYS_modify_ldt
	char text[64];

	return came(syscall(SYS_modify_ldt, 0, text, sizeof(text)));
#else
	return NOT_HERE;
#endif
}

/* Queues and segments that other processes see */

CALL(a_shmget, SYS_shmget, 0x1155, 4096UL, 01600)
CALL(a_msgget, SYS_msgget, 0x1155, 01600)
CALL(a_semget, SYS_semget, 0x1155, 1, 01600)

static int
a_mq(const struct world *w)
{
	(void)w;
	return came(syscall(SYS_mq_open, "iis-poller-evil", O_RDWR | O_CREAT, 0600, NULL));
}

/* Identity */

CALL(a_setuid, SYS_setuid, 1)
CALL(a_setresuid, SYS_setresuid, 0, 0, 0)
CALL(a_setgid, SYS_setgid, 1)
CALL(a_setgroups, SYS_setgroups, 0, NULL)
CALL(a_setfsuid, SYS_setfsuid, 0)

static int
a_capset(const struct world *w)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];

	(void)w;
	memset(d, 0, sizeof(d));
	return came(syscall(SYS_capset, &h, d));
}

/* prctl and its like */

#define PRCTL(name, ...) \
	static int name(const struct world *w) { (void)w; return came(syscall(SYS_prctl, __VA_ARGS__)); }
PRCTL(a_dumpable, PR_SET_DUMPABLE, 1, 0, 0, 0)
PRCTL(a_pdeathsig, PR_SET_PDEATHSIG, 0, 0, 0, 0)
PRCTL(a_ptracer, PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
PRCTL(a_subreaper, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
PRCTL(a_securebits, PR_SET_SECUREBITS, 0, 0, 0, 0)
PRCTL(a_keepcaps, PR_SET_KEEPCAPS, 1, 0, 0, 0)
PRCTL(a_capbset, PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0)
PRCTL(a_mm, PR_SET_MM, PR_SET_MM_ARG_START, 0, 0, 0)
PRCTL(a_dispatch, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0)
PRCTL(a_tsc, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0)
PRCTL(a_seccomp_off, PR_SET_SECCOMP, 0, 0, 0, 0)
CALL(a_personality, SYS_personality, READ_IMPLIES_EXEC)
CALL(a_mlock, SYS_mlockall, 1)

/* Ways in */

static int
a_int80(const struct world *w)
{
	(void)w;
#ifdef __x86_64__
	long r = 20;            /* getpid of 32-bit programs */

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	if (r < 0)
		errno = (int)-r;
	return r < 0 ? -1 : 0;
#else
	return NOT_HERE;
#endif
}

/* execve by the other entry, whose number is that of munmap here. */
static int
a_int80_exec(const struct world *w)
{
	(void)w;
#ifdef __x86_64__
	long r = 11;

	__asm__ volatile("int $0x80" : "+a"(r) : "b"(0), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
	if (r < 0)
		errno = (int)-r;
	return r < 0 ? -1 : 0;
#else
	return NOT_HERE;
#endif
}

#ifdef __x86_64__
CALL(a_x32, 0x40000000 + SYS_getpid)
CALL(a_x32_exec, 0x40000000 + 520, w->self, NULL, NULL)
#else
static int a_x32(const struct world *w) { (void)w; return NOT_HERE; }
static int a_x32_exec(const struct world *w) { (void)w; return NOT_HERE; }
#endif
/* The kernel looks at 32 bits of these, a filter perhaps at all. */
#define HIGH (INT64_C(1) << 32)
CALL(a_high_fcntl, SYS_fcntl, FD_MASTER, HIGH | F_SETOWN, w->master)
CALL(a_high_prctl, SYS_prctl, HIGH | PR_SET_DUMPABLE, 1, 0, 0, 0)
CALL(a_high_prlimit, SYS_prlimit64, HIGH | w->sibling, 7, &(struct { uint64_t v[2]; }){ { 7, 7 } }, NULL)
CALL(a_high_tgkill, SYS_tgkill, HIGH | w->sibling, HIGH | w->sibling, SIGUSR1)
CALL(a_high_socket, SYS_socket, HIGH | 16, HIGH | 3, 0)
CALL(a_high_ioctl, SYS_ioctl, FD_MASTER, HIGH | 0x8901, &(int){ w->master })

static void
go_on(int sig)
{
	(void)sig;
}

/* A handler of its own for what a filter traps: the call may come back, but must not have been made. */
static int
a_own_handler(const struct world *w)
{
	struct sigaction sa = { .sa_handler = go_on };

	if (sigaction(SIGSYS, &sa, NULL) < 0)
		return -1;
	errno = ENOSYS;
	return syscall(SYS_unlinkat, AT_FDCWD, in_dir(w->outside, "file"), 0) == 0 ? 0 : -1;
}

CALL(a_unknown, 999)
CALL(a_negative, -7)

const struct attempt attempts_kernel[] = {
	{ "mount-tmpfs", ALWAYS, W_MOUNT, a_mount, "a file system" },
	{ "mount-bind", ALWAYS, W_MOUNT, a_bind, "a directory outside, into the root" },
	{ "mount-umount", ALWAYS, W_MOUNT, a_umount, "unmounting" },
	{ "mount-pivot", ALWAYS, W_MOUNT, a_pivot, "another root" },
	{ "mount-chroot", ALWAYS, 0, a_chroot, "chroot" },
	{ "mount-open-tree", ALWAYS, 0, a_open_tree, "a copy of a mount" },
	{ "mount-fsopen", ALWAYS, 0, a_fsopen, "a file system by the new calls" },
	{ "mount-fspick", ALWAYS, 0, a_fspick, "options of a file system" },
	{ "mount-move", ALWAYS, W_MOUNT, a_move_mount, "a mount moved into the root" },
	{ "mount-setattr", ALWAYS, W_MOUNT, a_mount_setattr, "attributes of a mount" },
	{ "namespace-mount", ALWAYS, 0, a_unshare_mount, "a mount namespace" },
	{ "namespace-user", ALWAYS, 0, a_unshare_user, "a user namespace" },
	{ "namespace-net", ALWAYS, 0, a_unshare_net, "a network namespace" },
	{ "namespace-files", ALWAYS, 0, a_unshare_files, "unshare of the descriptors" },
	{ "namespace-setns", ALWAYS, 0, a_setns, "a namespace of the master" },
	{ "namespace-setns-pidfd", ALWAYS, 0, a_setns_pidfd, "the same by a process descriptor" },
	{ "key-add", ALWAYS, 0, a_add_key, "a key" },
	{ "key-request", ALWAYS, 0, a_request_key, "somebody's key" },
	{ "key-keyring", ALWAYS, 0, a_keyctl, "the session's keys" },
	{ "key-join", ALWAYS, 0, a_join, "another session's keys" },
	{ "kernel-bpf", ALWAYS, 0, a_bpf_map, "bpf" },
	{ "kernel-perf", ALWAYS, 0, a_perf, "perf events" },
	{ "kernel-perf-sibling", ALWAYS, 0, a_perf_sibling, "perf events of a sibling" },
	{ "kernel-io-uring", ALWAYS, 0, a_uring, "io_uring" },
	{ "kernel-io-uring-enter", ALWAYS, 0, a_uring_enter, "io_uring_enter" },
	{ "kernel-io-uring-register", ALWAYS, 0, a_uring_register, "io_uring_register" },
	{ "kernel-userfaultfd", ALWAYS, 0, a_userfaultfd, "userfaultfd" },
	{ "kernel-aio", ALWAYS, 0, a_aio, "asynchronous input" },
	{ "kernel-seccomp", ALWAYS, 0, a_seccomp_listener, "a filter with a listener" },
	{ "kernel-module", ALWAYS, 0, a_module, "a module" },
	{ "kernel-module-fd", ALWAYS, 0, a_finit, "a module from a descriptor" },
	{ "kernel-module-delete", ALWAYS, 0, a_delete_module, "removing a module" },
	{ "kernel-kexec", ALWAYS, 0, a_kexec, "another kernel" },
	{ "kernel-reboot", ALWAYS, 0, a_reboot, "reboot" },
	{ "kernel-swapon", ALWAYS, 0, a_swapon, "swap" },
	{ "kernel-acct", ALWAYS, 0, a_acct, "accounting" },
	{ "kernel-syslog", ALWAYS, 0, a_syslog, "the kernel's log" },
	{ "kernel-hostname", ALWAYS, W_HOST, a_hostname, "the host's name" },
	{ "kernel-domainname", ALWAYS, 0, a_domain, "the domain's name" },
	{ "kernel-quota", ALWAYS, 0, a_quota, "quotas" },
	{ "kernel-clock", ALWAYS, 0, a_clock, "the clock" },
	{ "kernel-adjtimex", ALWAYS, 0, a_adjtimex, "the clock's speed" },
	{ "kernel-ioperm", ALWAYS, 0, a_ioports, "input and output ports" },
	{ "kernel-iopl", ALWAYS, 0, a_iopl, "all of them" },
	{ "kernel-ldt", ALWAYS, 0, a_ldt, "segments" },
	{ "ipc-shm", ALWAYS, 0, a_shmget, "a shared memory segment" },
	{ "ipc-msg", ALWAYS, 0, a_msgget, "a message queue" },
	{ "ipc-sem", ALWAYS, 0, a_semget, "semaphores" },
	{ "ipc-mq", ALWAYS, 0, a_mq, "a POSIX queue" },
	{ "id-setuid", ALWAYS, 0, a_setuid, "another user" },
	{ "id-setresuid", ALWAYS, 0, a_setresuid, "root" },
	{ "id-setgid", ALWAYS, 0, a_setgid, "another group" },
	{ "id-setgroups", ALWAYS, 0, a_setgroups, "other groups" },
	{ "id-setfsuid", ALWAYS, 0, a_setfsuid, "another user for files" },
	{ "id-capset", ALWAYS, 0, a_capset, "capabilities" },
	{ "prctl-dumpable", ALWAYS, 0, a_dumpable, "core files and tracing again" },
	{ "prctl-pdeathsig", ALWAYS, 0, a_pdeathsig, "outliving the master" },
	{ "prctl-ptracer", ALWAYS, 0, a_ptracer, "any tracer" },
	{ "prctl-subreaper", ALWAYS, 0, a_subreaper, "adopting processes" },
	{ "prctl-securebits", ALWAYS, 0, a_securebits, "secure bits" },
	{ "prctl-keepcaps", ALWAYS, 0, a_keepcaps, "keeping capabilities" },
	{ "prctl-capbset", ALWAYS, 0, a_capbset, "reading the bounding set" },
	{ "prctl-mm", ALWAYS, 0, a_mm, "its own memory map" },
	{ "prctl-dispatch", ALWAYS, 0, a_dispatch, "dispatch of system calls" },
	{ "prctl-tsc", ALWAYS, 0, a_tsc, "the time stamp counter" },
	{ "prctl-seccomp", ALWAYS, 0, a_seccomp_off, "seccomp off" },
	{ "prctl-personality", ALWAYS, 0, a_personality, "readable memory executable" },
	{ "prctl-mlockall", ALWAYS, 0, a_mlock, "all memory locked" },
	{ "entry-int80", ALWAYS, 0, a_int80, "a 32-bit call" },
	{ "entry-int80-exec", ALWAYS, 0, a_int80_exec, "a 32-bit call whose number is harmless in 64 bits" },
	{ "entry-x32", ALWAYS, 0, a_x32, "an x32 call" },
	{ "entry-x32-exec", ALWAYS, 0, a_x32_exec, "execve of x32" },
	{ "entry-high-fcntl", ALWAYS, 0, a_high_fcntl, "an owner of the socket, with bits that the kernel drops" },
	{ "entry-high-prctl", ALWAYS, 0, a_high_prctl, "dumpable again, likewise" },
	{ "entry-high-prlimit", ALWAYS, W_PROCESS, a_high_prlimit, "a sibling's limits, likewise" },
	{ "entry-high-tgkill", ALWAYS, W_SIGNAL, a_high_tgkill, "a signal to a sibling, likewise" },
	{ "entry-high-socket", ALWAYS, 0, a_high_socket, "netlink, likewise" },
	{ "entry-high-ioctl", ALWAYS, 0, a_high_ioctl, "an owner of the socket by ioctl, likewise" },
	{ "entry-own-handler", ALWAYS, W_FILE, a_own_handler, "a call that traps, with a handler of its own" },
	{ "entry-unknown", ALWAYS, 0, a_unknown, "a call that is not there yet" },
	{ "entry-negative", ALWAYS, 0, a_negative, "a negative number" },
	{ NULL, 0, 0, NULL, NULL },
};
