/*
 * taken_over.c - the real worker program, taken over by its job: for tests that give it to the daemon as workers.path.
 *
 * It is iis-poller-worker's own objects with one function wrapped: a frame of files on its way to the master that holds
 * the name "taken:ATTACK:PID" commits that attack, inside of the sandbox, in the middle of a task, against the process
 * PID. What came of it goes to stderr, which the daemon logs: "ATTACK done ..." or "ATTACK refused ERROR"; where
 * the worker lives on it serves its task to the end. Installed nowhere.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/units.h"
#include "worker/worker.h"
#include "common/banned.h"

/* What every secret of these tests begins with, each letter one too high: this program itself must not hold it. */
#define SECRET_SHIFTED "dbobsz.pg.b.ufobou."

int __real_channel_send_data(struct channel *, const struct buf *, struct err *);
int __wrap_channel_send_data(struct channel *, const struct buf *, struct err *);

struct target {
	pid_t pid;
	struct channel *ch;
	char found[80];         /* of a secret */
};

static int
came(long r)
{
	return r < 0 ? -1 : 0;
}

static const char *
proc(pid_t pid, const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return path;
}

static int
open_proc(pid_t pid, const char *name, int flags)
{
	return (int)syscall(SYS_openat, AT_FDCWD, proc(pid, name), flags | O_CLOEXEC);
}

/* A secret in n bytes: 0 and what of it is there. */
static int
search(struct target *t, const char *p, size_t n)
{
	char want[sizeof(SECRET_SHIFTED)];
	const char *at;

	for (size_t i = 0; i < sizeof(want); i++)
		want[i] = (char)(SECRET_SHIFTED[i] ? SECRET_SHIFTED[i] - 1 : 0);
	at = memmem(p, n, want, sizeof(want) - 1);
	explicit_bzero(want, sizeof(want));
	if (!at) {
		errno = ENOENT;
		return -1;
	}
	snprintf(t->found, sizeof(t->found), "%.*s", (int)((size_t)(p + n - at) < 60 ? (size_t)(p + n - at) : 60), at);
	return 0;
}

/* Signals */

static int a_kill(struct target *t) { return came(syscall(SYS_kill, t->pid, SIGTERM)); }
static int a_tkill(struct target *t) { return came(syscall(SYS_tkill, t->pid, SIGTERM)); }
static int a_tgkill(struct target *t) { return came(syscall(SYS_tgkill, t->pid, t->pid, SIGTERM)); }
static int a_setown(struct target *t) { return came(fcntl(IPC_FD, F_SETOWN, t->pid)); }

static int
a_sigqueue(struct target *t)
{
	siginfo_t si;

	memset(&si, 0, sizeof(si));
	si.si_code = SI_QUEUE;
	return came(syscall(SYS_rt_sigqueueinfo, t->pid, SIGTERM, &si));
}

/* Memory and files of others */

static int a_ptrace(struct target *t) { return came(ptrace(PTRACE_SEIZE, t->pid, NULL, NULL)); }
static int a_pidfd(struct target *t) { return came(syscall(SYS_pidfd_open, t->pid, 0)); }

static int
a_readv(struct target *t)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { (void *)(uintptr_t)&t, 1 };

	/* the address is anybody's guess; the answer is not EFAULT */
	return syscall(SYS_process_vm_readv, t->pid, &here, 1UL, &there, 1UL, 0UL) < 0 && errno != EFAULT ? -1 : 0;
}

/* All that is mapped there and can be read. */
static int
a_memory(struct target *t)
{
	int mem = open_proc(t->pid, "mem", O_RDONLY);
	FILE *maps = mem < 0 ? NULL : fopen(proc(t->pid, "maps"), "re");
	static char part[1 << 16];
	char line[512];
	int rc = -1, saved;

	while (maps && rc < 0 && fgets(line, sizeof(line), maps)) {
		char *end;
		unsigned long from = strtoul(line, &end, 16), to = *end == '-' ? strtoul(end + 1, &end, 16) : 0;

		if (end[0] != ' ' || end[1] != 'r' || strstr(line, "[v"))
			continue;
		for (; from < to && rc < 0; from += sizeof(part) - 128) {
			size_t want = to - from < sizeof(part) ? to - from : sizeof(part);
			ssize_t n = pread(mem, part, want, (off_t)from);

			if (n > 0)
				rc = search(t, part, (size_t)n);
		}
	}
	saved = errno;
	if (maps)
		fclose(maps);
	if (mem >= 0)
		close(mem);
	errno = saved;
	return rc;
}

static int a_spool(struct target *t) { return came(open_proc(t->pid, "fd/4", O_RDONLY)); }
static int a_socket_of(struct target *t) { return came(open_proc(t->pid, "fd/3", O_RDWR)); }
static int a_environ(struct target *t) { return came(open_proc(t->pid, "environ", O_RDONLY)); }
static int a_config(struct target *t) { return came(open_proc(t->pid, "cwd/iis-poller.yaml", O_RDONLY)); }
static int a_log(struct target *t) { return came(open_proc(t->pid, "fd/2", O_WRONLY)); }

static int
a_prlimit(struct target *t)
{
	struct rlimit r = { 5, 5 };

	return came(syscall(SYS_prlimit64, t->pid, RLIMIT_NOFILE, &r, NULL));
}

static int a_nice(struct target *t) { return came(syscall(SYS_setpriority, PRIO_PROCESS, t->pid, 19)); }

/*
 * Its own memory: whatever an earlier task, or the master before exec, may have left. Heap and data; a kernel that
 * copies from an address says whether there is anything.
 */
extern char __data_start[], _end[];

static int
a_own_memory(struct target *t)
{
	char *top = sbrk(0), *from = top - (4 << 20), *p;
	int fds[2] = { -1, IPC_SPOOL_FD };

	/* down to where the heap begins */
	for (p = top; p > from; p -= 4096)
		if (pwrite(fds[1], p - 4096, 1, INT64_C(1) << 20) != 1)
			break;
	if (ftruncate(fds[1], 0) < 0)
		return -1;
	if (p < top && search(t, p, (size_t)(top - p)) == 0)
		return 0;
	return search(t, __data_start, (size_t)(_end - __data_start));
}

/* Descriptors that are nobody's business here: beyond the socket and the spool a local worker has none open now. */
static int
a_fds(struct target *t)
{
	(void)t;
	for (int fd = IPC_SPOOL_FD + 1; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			return 0;
	errno = EBADF;
	return -1;
}

/* More of itself */

static int a_fork(struct target *t) { long r = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); (void)t; if (!r) _exit(0); return came(r); }

static int
a_exec(struct target *t)
{
	char *argv[] = { (char[]){ "true" }, NULL }, *env[] = { NULL };

	(void)t;
	return came(syscall(SYS_execve, "/bin/true", argv, env));
}

static void *
wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int
a_thread(struct target *t)
{
	pthread_t id;

	(void)t;
	errno = pthread_create(&id, NULL, wait_for_ever, NULL);
	return errno ? -1 : 0;
}

static int a_socket(struct target *t) { (void)t; return came(syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0)); }
static int a_mkdir(struct target *t) { (void)t; return came(syscall(SYS_mkdirat, AT_FDCWD, "/tmp/iis-poller-taken-over", 0700)); }
static int a_write(struct target *t) { (void)t; return came(syscall(SYS_openat, AT_FDCWD, "/tmp/iis-poller-taken-over", O_WRONLY | O_CREAT, 0600)); }
static int a_shadow(struct target *t) { (void)t; return came(syscall(SYS_openat, AT_FDCWD, "/etc/shadow", O_RDONLY)); }

static void
go_on(int sig)
{
	(void)sig;
}

/* Its own handler for what the sandbox traps: the call must not be made for that. */
static int
a_handler(struct target *t)
{
	struct sigaction sa = { .sa_handler = go_on };

	(void)t;
	if (sigaction(SIGSYS, &sa, NULL) < 0)
		return -1;
	errno = ENOSYS;
	return syscall(SYS_mkdirat, AT_FDCWD, "/tmp/iis-poller-taken-over", 0700) == 0 ? 0 : -1;
}

/* A death that speaks of a call there is not, and of arguments that are none of its own. */
static int
a_verdict(struct target *t)
{
	const uint64_t args[3] = { UINT64_MAX, UINT64_MAX, UINT64_MAX };

	(void)t;
	refused_note(4095, args);
	signal(SIGSYS, SIG_DFL);
	raise(SIGSYS);
	return 0;
}

/* Frames of others: the neighbour's task is one of the last numbers given out. */

static int
forge(struct target *t, uint64_t task, uint32_t generation)
{
	struct task_done d;
	struct buf b = BUF_INIT;
	int rc;

	memset(&d, 0, sizeof(d));
	d.phase = PHASE_CLOSE;
	ipc_begin(&b, MSG_DONE, generation, task);
	task_done_encode(&d, &b);
	ipc_finish(&b);
	rc = came(send(t->ch->fd, b.p, b.len, MSG_NOSIGNAL));
	buf_release(&b);
	return rc;
}

static int a_forge_before(struct target *t) { return forge(t, t->ch->task - 1, t->ch->generation); }
static int a_forge_first(struct target *t) { return forge(t, 1, t->ch->generation); }
static int a_forge_generation(struct target *t) { return forge(t, t->ch->task, t->ch->generation + 1); }

static const struct { const char *name; int (*run)(struct target *); } attacks[] = {
	{ "kill", a_kill }, { "tkill", a_tkill }, { "tgkill", a_tgkill }, { "sigqueue", a_sigqueue }, { "setown", a_setown },
	{ "ptrace", a_ptrace }, { "pidfd", a_pidfd }, { "readv", a_readv }, { "memory", a_memory }, { "spool", a_spool },
	{ "socket_of", a_socket_of }, { "environ", a_environ }, { "config", a_config }, { "log", a_log },
	{ "prlimit", a_prlimit }, { "nice", a_nice }, { "own_memory", a_own_memory }, { "fds", a_fds }, { "fork", a_fork },
	{ "exec", a_exec }, { "thread", a_thread }, { "socket", a_socket }, { "mkdir", a_mkdir }, { "write", a_write },
	{ "shadow", a_shadow }, { "handler", a_handler }, { "verdict", a_verdict }, { "forge_before", a_forge_before },
	{ "forge_first", a_forge_first }, { "forge_generation", a_forge_generation },
};

static void
commit(struct channel *ch, const char *name, size_t n)
{
	struct target t = { .ch = ch };
	char word[64], *colon;
	int64_t pid;

	snprintf(word, sizeof(word), "%.*s", (int)n, name);
	colon = strchr(word, ':');
	if (!colon || units_int(colon + 1, &pid))
		return;
	*colon = '\0';
	t.pid = (pid_t)pid;
	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (strcmp(attacks[i].name, word))
			continue;
		errno = 0;
		if (attacks[i].run(&t) == 0)
			dprintf(STDERR_FILENO, "%s done %s\n", word, t.found);
		else
			dprintf(STDERR_FILENO, "%s refused %s\n", word, strerrorname_np(errno));
		return;
	}
	dprintf(STDERR_FILENO, "%s unknown\n", word);
}

int
__wrap_channel_send_data(struct channel *ch, const struct buf *b, struct err *e)
{
	static const char mark[] = "taken:";
	const char *at = memmem(b->p, b->len, mark, sizeof(mark) - 1);

	if (at) {
		const char *name = at + sizeof(mark) - 1;
		size_t n = 0;

		while (name + n < b->p + b->len && (strchr("_:", name[n]) || (name[n] >= '0' && name[n] <= '9') || (name[n] >= 'a' && name[n] <= 'z')))
			n++;
		commit(ch, name, n);
	}
	return __real_channel_send_data(ch, b, e);
}
