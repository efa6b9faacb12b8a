/*
 * try_process.c - attempts on processes: new programs and processes, threads, the memory of others, signals, limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "t/escape/escape.h"
#include "common/banned.h"

#define MANY_THREADS 2000

static int
came(long r)
{
	return r < 0 ? -1 : 0;
}

static void *
at(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/* Programs and processes */

static int
exec_self(const struct world *w, int dirfd, const char *path, int flags)
{
	union { const char *in[3]; char *out[3]; } argv = { .in = { w->self, "--was-here", NULL } };
	char *none[] = { NULL };

	return came(syscall(SYS_execveat, dirfd, path, argv.out, none, flags));
}

static int
a_execve(const struct world *w)
{
	union { const char *in[3]; char *out[3]; } argv = { .in = { w->self, "--was-here", NULL } };
	char *none[] = { NULL };

	return came(syscall(SYS_execve, w->self, argv.out, none));
}

static int a_execveat(const struct world *w) { return exec_self(w, AT_FDCWD, w->self, 0); }

/* The program from a file that has no name. */
static int
a_exec_memfd(const struct world *w)
{
	int in = open(w->self, O_RDONLY | O_CLOEXEC), out = (int)syscall(SYS_memfd_create, "evil", 0);
	char part[65536];
	ssize_t n;

	if (in < 0 || out < 0)
		return -1;
	while ((n = read(in, part, sizeof(part))) > 0)
		if (write(out, part, (size_t)n) != n)
			return -1;
	return exec_self(w, out, "", AT_EMPTY_PATH);
}

static int a_memfd(const struct world *w) { (void)w; return came(syscall(SYS_memfd_create, "evil", 0)); }

/* In the child of whatever made one; in the parent, whether there is a child. */
static int
new_process(long r)
{
	if (r < 0)
		return -1;
	if (!r) {
		say('I', NULL, 0);
		_exit(0);
	}
	waitpid((pid_t)r, NULL, 0);
	return 0;
}

static int a_clone(const struct world *w) { (void)w; return new_process(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
static int a_clone_parent(const struct world *w) { (void)w; return new_process(syscall(SYS_clone, CLONE_PARENT | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)); }
static int a_clone_user(const struct world *w) { (void)w; return new_process(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)); }
static int a_clone_net(const struct world *w) { (void)w; return new_process(syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0)); }

static int
a_fork(const struct world *w)
{
	(void)w;
#ifdef SYS_fork
	return new_process(syscall(SYS_fork));
#else
	return NOT_HERE;
#endif
}

static int
a_clone3(const struct world *w)
{
	struct clone_args a = { .exit_signal = SIGCHLD };

	(void)w;
	return new_process(syscall(SYS_clone3, &a, sizeof(a)));
}

static void *
idle(void *arg)
{
	(void)arg;
	for (;;)
		poll(NULL, 0, -1);
	return NULL;
}

static int
a_thread(const struct world *w)
{
	pthread_t t;
	int rc = pthread_create(&t, NULL, idle, NULL);

	(void)w;
	errno = rc;
	return rc ? -1 : 0;
}

/* With stacks as the C library gives them. */
static int
a_thread_bomb(const struct world *w)
{
	pthread_t t;

	(void)w;
	for (int i = 0; i < MANY_THREADS; i++) {
		int rc = pthread_create(&t, NULL, idle, NULL);

		errno = rc;
		if (rc)
			return -1;
	}
	return 0;
}

/* Threads exactly as the C library makes them, but for stacks of a page: less memory, more threads. */
#ifdef __x86_64__
static int
a_thread_small(const struct world *w)
{
	char *stacks = mmap(NULL, (size_t)MANY_THREADS * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static int gone;

	(void)w;
	if (stacks == MAP_FAILED)
		return -1;
	for (int i = 0; i < MANY_THREADS; i++) {
		register long flags __asm__("rdi") = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
		    CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
		register char *stack __asm__("rsi") = stacks + (size_t)(i + 1) * 4096;
		register int *ptid __asm__("rdx") = &gone;
		register int *ctid __asm__("r10") = &gone;
		register char *tls __asm__("r8") = stacks;
		long r = SYS_clone;

		/* the new one waits for ever, without a word of C */
		__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n0:\tmov $7, %%eax\n\txor %%edi, %%edi\n\txor %%esi, %%esi\n"
		    "\tmov $-1, %%rdx\n\tsyscall\n\tjmp 0b\n1:" : "+a"(r)
		    : "r"(flags), "r"(stack), "r"(ptid), "r"(ctid), "r"(tls) : "rcx", "r11", "memory");
		if (r < 0) {
			errno = (int)-r;
			return -1;
		}
	}
	return 0;
}
#else
static int a_thread_small(const struct world *w) { (void)w; return NOT_HERE; }
#endif

/* A process that shares memory and files, and no thread by its signal: not what the C library asks for. */
static int
a_clone_vm(const struct world *w)
{
	(void)w;
	return new_process(syscall(SYS_clone, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
}

static int a_setsid(const struct world *w) { (void)w; return came(syscall(SYS_setsid)); }
static int a_setpgid(const struct world *w) { return came(syscall(SYS_setpgid, 0, w->master)); }

/* The memory of others */

static int
a_attach(const struct world *w)
{
	return came(ptrace(PTRACE_ATTACH, w->sibling, NULL, NULL));
}

static int a_seize(const struct world *w) { return came(ptrace(PTRACE_SEIZE, w->sibling, NULL, NULL)); }
static int a_seize_master(const struct world *w) { return came(ptrace(PTRACE_SEIZE, w->master, NULL, NULL)); }
static int a_traceme(const struct world *w) { (void)w; return came(ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }

/* Word by word, once it has stopped. */
static int
a_peek(const struct world *w)
{
	char text[SECRET_LEN];
	int status;

	if (ptrace(PTRACE_ATTACH, w->sibling, NULL, NULL) < 0 || waitpid(w->sibling, &status, __WALL) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(text); i += sizeof(long)) {
		long word;

		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, w->sibling, at(w->secret_at + i), NULL);
		if (errno)
			return -1;
		memcpy(text + i, &word, sizeof(word));
	}
	return steal(text, sizeof(text));
}

static int
vm_read(pid_t pid, uint64_t from)
{
	char text[SECRET_LEN];
	struct iovec here = { text, sizeof(text) }, there = { at(from), sizeof(text) };
	ssize_t n = syscall(SYS_process_vm_readv, pid, &here, 1UL, &there, 1UL, 0UL);

	return n < 0 ? -1 : steal(text, (size_t)n);
}

static int
vm_write(pid_t pid, uint64_t to)
{
	char evil[] = "evil";
	struct iovec here = { evil, 4 }, there = { at(to), 4 };

	return came(syscall(SYS_process_vm_writev, pid, &here, 1UL, &there, 1UL, 0UL));
}

static int a_vm_read(const struct world *w) { return vm_read(w->sibling, w->secret_at); }
static int a_vm_read_master(const struct world *w) { return vm_read(w->master, w->secret_at); }
static int a_vm_write(const struct world *w) { return vm_write(w->sibling, w->precious_at); }
static int a_vm_write_master(const struct world *w) { return vm_write(w->master, w->precious_at); }

static int
mem_file(pid_t pid, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags);
}

static int
mem_read(pid_t pid, uint64_t from)
{
	char text[SECRET_LEN];
	int fd = mem_file(pid, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text), (off_t)from);

	return n < 0 ? -1 : steal(text, (size_t)n);
}

static int a_mem_read(const struct world *w) { return mem_read(w->sibling, w->secret_at); }
static int a_mem_read_master(const struct world *w) { return mem_read(w->master, w->secret_at); }

static int
a_mem_write(const struct world *w)
{
	int fd = mem_file(w->sibling, O_RDWR);

	return fd < 0 ? -1 : came(pwrite(fd, "evil", 4, (off_t)w->precious_at));
}

static int
a_getfd(const struct world *w)
{
	int pidfd = (int)syscall(SYS_pidfd_open, w->sibling, 0), fd;
	char text[256];
	ssize_t n;

	if (pidfd < 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, FD_SPOOL, 0);
	if (fd < 0)
		return -1;
	n = pread(fd, text, sizeof(text), 0);
	return n < 0 ? -1 : steal(text, (size_t)n);
}

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
/* A descriptor of the master from the worker's own socket, and with it one of the master's files. */
static int
a_peer_getfd(const struct world *w)
{
	int pidfd = -1, fd;
	socklen_t n = sizeof(pidfd);
	char text[256];
	ssize_t got;

	(void)w;
	if (getsockopt(FD_MASTER, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &n) < 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, FD_LEAKED, 0);
	if (fd < 0)
		return -1;
	got = pread(fd, text, sizeof(text), 0);
	return got < 0 ? -1 : steal(text, (size_t)got);
}

static int
a_shm(const struct world *w)
{
	const void *p = (const void *)syscall(SYS_shmat, w->shm_id, NULL, 010000);

	return p == MAP_FAILED ? -1 : steal(p, SECRET_LEN);
}

static int a_kcmp(const struct world *w) { return came(syscall(SYS_kcmp, w->master, w->sibling, KCMP_VM, 0UL, 0UL)); }
static int a_pidfd(const struct world *w) { int fd = (int)syscall(SYS_pidfd_open, w->sibling, 0); return fd < 0 ? -1 : came(fd); }

static int
a_madvise(const struct world *w)
{
	int fd = (int)syscall(SYS_pidfd_open, w->sibling, 0);
	struct iovec v = { at(w->secret_at & ~UINT64_C(4095)), 4096 };

	return fd < 0 ? -1 : came(syscall(SYS_process_madvise, fd, &v, 1UL, MADV_PAGEOUT, 0));
}

static int
a_move_pages(const struct world *w)
{
	void *page = at(w->secret_at & ~UINT64_C(4095));
	int status = 0;

	return came(syscall(SYS_move_pages, w->sibling, 1UL, &page, NULL, &status, 0));
}

/* Signals */

static int a_kill(const struct world *w) { return came(syscall(SYS_kill, w->sibling, SIGUSR1)); }
static int a_kill_hard(const struct world *w) { return came(syscall(SYS_kill, w->sibling, SIGKILL)); }
static int a_kill_stop(const struct world *w) { return came(syscall(SYS_kill, w->sibling, SIGSTOP)); }
static int a_kill_master(const struct world *w) { return came(syscall(SYS_kill, w->master, SIGUSR1)); }
static int a_kill_group(const struct world *w) { return came(syscall(SYS_kill, -w->master, SIGUSR1)); }
static int a_kill_zero(const struct world *w) { return came(syscall(SYS_kill, w->sibling, 0)); }
static int a_tkill(const struct world *w) { return came(syscall(SYS_tkill, w->sibling, SIGUSR1)); }
static int a_tgkill(const struct world *w) { return came(syscall(SYS_tgkill, w->sibling, w->sibling, SIGUSR1)); }
static int a_tgkill_master(const struct world *w) { return came(syscall(SYS_tgkill, w->master, w->master, SIGUSR1)); }

static int
a_sigqueue(const struct world *w)
{
	siginfo_t si;

	memset(&si, 0, sizeof(si));
	si.si_code = SI_QUEUE;
	return came(syscall(SYS_rt_sigqueueinfo, w->sibling, SIGUSR1, &si));
}

static int
a_tgsigqueue(const struct world *w)
{
	siginfo_t si;

	memset(&si, 0, sizeof(si));
	si.si_code = SI_QUEUE;
	return came(syscall(SYS_rt_tgsigqueueinfo, w->sibling, w->sibling, SIGUSR1, &si));
}

static int
a_pidfd_signal(const struct world *w)
{
	int fd = (int)syscall(SYS_pidfd_open, w->sibling, 0);

	return fd < 0 ? -1 : came(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0));
}

static int
a_peer_signal(const struct world *w)
{
	int fd = -1;
	socklen_t n = sizeof(fd);

	(void)w;
	if (getsockopt(FD_MASTER, SOL_SOCKET, SO_PEERPIDFD, &fd, &n) < 0)
		return -1;
	return came(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0));
}

/* Who owns a descriptor gets a signal when it becomes readable: the worker's own pair of sockets does. */
static int
owner_signal(const struct world *w, bool by_ioctl)
{
	int sv[2], pid = w->master, on = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0)
		return -1;
	if (by_ioctl) {
		if (ioctl(sv[0], FIOSETOWN, &pid) < 0 || ioctl(sv[0], FIOASYNC, &on) < 0)
			return -1;
	} else {
		if (fcntl(sv[0], F_SETOWN, pid) < 0 || fcntl(sv[0], F_SETSIG, SIGUSR1) < 0 || fcntl(sv[0], F_SETFL, O_ASYNC) < 0)
			return -1;
	}
	return write(sv[1], "x", 1) == 1 ? 0 : -1;
}

static int a_setown(const struct world *w) { return owner_signal(w, false); }
static int a_fiosetown(const struct world *w) { return owner_signal(w, true); }

/* The same for the socket that it was given, which the master itself will make readable. */
static int
a_setown_given(const struct world *w)
{
	return came(fcntl(FD_MASTER, F_SETOWN, w->sibling));
}

static int
a_setown_ex(const struct world *w)
{
	struct f_owner_ex who = { F_OWNER_PID, w->master };

	return came(fcntl(FD_MASTER, F_SETOWN_EX, &who));
}

static int a_lease(const struct world *w) { (void)w; return came(fcntl(FD_SPOOL, F_SETLEASE, F_WRLCK)); }

static int
a_timer(const struct world *w)
{
	struct sigevent ev;
	int id;

	(void)w;
	memset(&ev, 0, sizeof(ev));
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_signo = SIGUSR1;
	return came(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
}

/* Limits and priorities */

static int
a_prlimit(const struct world *w)
{
	struct rlimit r = { 7, 7 };

	return came(syscall(SYS_prlimit64, w->sibling, RLIMIT_NOFILE, &r, NULL));
}

static int
a_prlimit_read(const struct world *w)
{
	struct rlimit r;

	return came(syscall(SYS_prlimit64, w->sibling, RLIMIT_NOFILE, NULL, &r));
}

static int
raise_own(int what)
{
	struct rlimit r = { RLIM_INFINITY, RLIM_INFINITY };

	if (what == RLIMIT_NOFILE)
		r = (struct rlimit){ 128, 128 };
	return came(syscall(SYS_prlimit64, 0, what, &r, NULL));
}

static int a_raise_fsize(const struct world *w) { (void)w; return raise_own(RLIMIT_FSIZE); }
static int a_raise_nofile(const struct world *w) { (void)w; return raise_own(RLIMIT_NOFILE); }
static int a_raise_core(const struct world *w) { (void)w; return raise_own(RLIMIT_CORE); }
static int a_setrlimit(const struct world *w) { struct rlimit r = { RLIM_INFINITY, RLIM_INFINITY }; (void)w; return came(syscall(SYS_setrlimit, RLIMIT_CPU, &r)); }
static int a_nice(const struct world *w) { return came(syscall(SYS_setpriority, PRIO_PROCESS, w->sibling, 19)); }
static int a_nice_own(const struct world *w) { (void)w; return came(syscall(SYS_setpriority, PRIO_PROCESS, 0, -20)); }

static int
a_affinity(const struct world *w)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	return came(syscall(SYS_sched_setaffinity, w->sibling, sizeof(one), &one));
}

static int
a_scheduler(const struct world *w)
{
	struct sched_param p = { 0 };

	return came(syscall(SYS_sched_setscheduler, w->sibling, SCHED_IDLE, &p));
}

static int a_ioprio(const struct world *w) { return came(syscall(SYS_ioprio_set, 1, w->sibling, 3 << 13)); }

const struct attempt attempts_process[] = {
	{ "exec-execve", ALWAYS, W_IMAGE, a_execve, "another program" },
	{ "exec-execveat", ALWAYS, W_IMAGE, a_execveat, "the same by execveat" },
	{ "exec-memfd", ALWAYS, W_IMAGE, a_exec_memfd, "a program from memory" },
	{ "exec-memfd-create", ALWAYS, 0, a_memfd, "a file in memory" },
	{ "fork-fork", ALWAYS, W_IMAGE, a_fork, "a child process" },
	{ "fork-clone", ALWAYS, W_IMAGE, a_clone, "the same by clone" },
	{ "fork-clone3", ALWAYS, W_IMAGE, a_clone3, "the same by clone3" },
	{ "fork-vfork", ALWAYS, W_IMAGE, a_clone_vm, "a child that shares memory" },
	{ "fork-clone-parent", ALWAYS, W_IMAGE, a_clone_parent, "a child that the master would get" },
	{ "fork-user-namespace", ALWAYS, W_IMAGE, a_clone_user, "a child in a user namespace" },
	{ "fork-net-namespace", ALWAYS, W_IMAGE, a_clone_net, "a child in a network namespace" },
	{ "thread-one", NETWORK, 0, a_thread, "a thread (the resolver of network workers needs one)" },
	{ "thread-bomb", ALWAYS, 0, a_thread_bomb, "2,000 threads" },
	{ "thread-bomb-small", NETWORK, 0, a_thread_small, "2,000 threads with stacks of a page (the unit's TasksMax is their limit)" },
	{ "group-setsid", ALWAYS, 0, a_setsid, "a session of its own" },
	{ "group-setpgid", ALWAYS, 0, a_setpgid, "the master's process group" },
	{ "ptrace-attach", ALWAYS, W_SIGNAL, a_attach, "ptrace of a sibling" },
	{ "ptrace-seize", ALWAYS, 0, a_seize, "the same without a stop" },
	{ "ptrace-master", ALWAYS, 0, a_seize_master, "ptrace of the master" },
	{ "ptrace-me", ALWAYS, 0, a_traceme, "being traced by the master" },
	{ "ptrace-peek", ALWAYS, W_SECRET, a_peek, "a sibling's secret, word by word" },
	{ "memory-readv", ALWAYS, W_SECRET, a_vm_read, "a sibling's secret by process_vm_readv" },
	{ "memory-readv-master", ALWAYS, W_SECRET, a_vm_read_master, "the master's secret likewise" },
	{ "memory-writev", ALWAYS, W_MEMORY, a_vm_write, "writing into a sibling" },
	{ "memory-writev-master", ALWAYS, W_MEMORY, a_vm_write_master, "writing into the master" },
	{ "memory-proc", LANDLOCK, W_SECRET, a_mem_read, "a sibling's secret by /proc/SIBLING/mem" },
	{ "memory-proc-master", LANDLOCK, W_SECRET, a_mem_read_master, "the master's secret by /proc/MASTER/mem" },
	{ "memory-proc-write", ALWAYS, W_MEMORY, a_mem_write, "writing there" },
	{ "memory-getfd", ALWAYS, W_SECRET, a_getfd, "a sibling's spool by pidfd_getfd" },
	{ "memory-peer-getfd", ALWAYS, W_SECRET, a_peer_getfd, "a file of the master's through its end of the socket" },
	{ "memory-shm", ALWAYS, W_SECRET, a_shm, "a shared memory segment of the master" },
	{ "memory-kcmp", ALWAYS, 0, a_kcmp, "comparing processes" },
	{ "memory-pidfd", ALWAYS, 0, a_pidfd, "a descriptor of a sibling's process" },
	{ "memory-madvise", ALWAYS, 0, a_madvise, "advice on a sibling's memory" },
	{ "memory-move-pages", ALWAYS, 0, a_move_pages, "moving a sibling's pages" },
	{ "signal-kill", ALWAYS, W_SIGNAL, a_kill, "a signal to a sibling" },
	{ "signal-kill-hard", ALWAYS, W_SIGNAL, a_kill_hard, "SIGKILL to a sibling" },
	{ "signal-kill-stop", ALWAYS, W_SIGNAL, a_kill_stop, "SIGSTOP to a sibling" },
	{ "signal-kill-master", ALWAYS, W_SIGNAL, a_kill_master, "a signal to the master" },
	{ "signal-kill-group", ALWAYS, W_SIGNAL, a_kill_group, "a signal to the master's group" },
	{ "signal-kill-zero", ALWAYS, 0, a_kill_zero, "asking whether a process is there" },
	{ "signal-tkill", ALWAYS, W_SIGNAL, a_tkill, "tkill of a sibling" },
	{ "signal-tgkill", ALWAYS, W_SIGNAL, a_tgkill, "tgkill of a sibling" },
	{ "signal-tgkill-master", ALWAYS, W_SIGNAL, a_tgkill_master, "tgkill of the master" },
	{ "signal-sigqueue", ALWAYS, W_SIGNAL, a_sigqueue, "a signal with a value" },
	{ "signal-tgsigqueue", ALWAYS, W_SIGNAL, a_tgsigqueue, "the same to a thread" },
	{ "signal-pidfd", ALWAYS, W_SIGNAL, a_pidfd_signal, "a signal by a process descriptor" },
	{ "signal-peer-pidfd", ALWAYS, W_SIGNAL, a_peer_signal, "the same through the master's end of the socket" },
	{ "signal-setown", ALWAYS, W_SIGNAL, a_setown, "SIGIO to the master by F_SETOWN" },
	{ "signal-fiosetown", ALWAYS, W_SIGNAL, a_fiosetown, "the same by ioctl" },
	{ "signal-setown-given", ALWAYS, 0, a_setown_given, "another owner of the worker's socket" },
	{ "signal-setown-ex", ALWAYS, 0, a_setown_ex, "the same by F_SETOWN_EX" },
	{ "signal-lease", ALWAYS, 0, a_lease, "a lease on the spool" },
	{ "signal-timer", ALWAYS, 0, a_timer, "a timer with a signal" },
	{ "limit-prlimit", ALWAYS, W_PROCESS, a_prlimit, "a sibling's limits" },
	{ "limit-prlimit-read", ALWAYS, 0, a_prlimit_read, "reading a sibling's limits" },
	{ "limit-raise-fsize", ALWAYS, 0, a_raise_fsize, "a larger spool for itself" },
	{ "limit-raise-nofile", ALWAYS, 0, a_raise_nofile, "more descriptors for itself" },
	{ "limit-raise-core", ALWAYS, 0, a_raise_core, "a core file for itself" },
	{ "limit-setrlimit", ALWAYS, 0, a_setrlimit, "more processor time for itself" },
	{ "limit-nice", ALWAYS, W_PROCESS, a_nice, "a sibling's priority" },
	{ "limit-nice-own", ALWAYS, 0, a_nice_own, "a higher priority for itself" },
	{ "limit-affinity", ALWAYS, W_PROCESS, a_affinity, "a sibling's processors" },
	{ "limit-scheduler", ALWAYS, W_PROCESS, a_scheduler, "a sibling's scheduling" },
	{ "limit-ioprio", ALWAYS, W_PROCESS, a_ioprio, "a sibling's disk priority" },
	{ NULL, 0, 0, NULL, NULL },
};
