/*
 * spawn.c - starts and forgets a child: its socket, its stderr, posix_spawn, pidfd. Called by slot_start.c and
 * httpd.c, from the main thread only. When and how often one is started, and what its end means, is theirs.
 *
 * Never fork without exec: librdkafka's threads do not survive it, and a forked child would see every tenant's
 * secrets. What a child inherits is named in one place: the descriptors of struct spawn_spec and `environment` below.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

/* Children read nothing from the environment; the C library needs these few, the sanitizers theirs. */
static const char *const inherited[] = { "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS" };

/* Above all numbers that posix_spawn's dup2 targets use, so that one never overwrites another's source. */
#define SAFE_FD 16

/* The child's ends of its two channels, until it has them. */
struct ends { int socket_fd, stderr_fd, refused_fd; };

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Ours never block; all are close-on-exec. What was opened is the caller's to close, on failure too. */
static int
open_ends(int *socket_fd, int *stderr_fd, struct ends *theirs, struct err *e)
{
	int sv[2], p[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, ERR_SYSTEM, "cannot make a socket pair for a child");
	*socket_fd = sv[0];
	theirs->socket_fd = sv[1];
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, ERR_SYSTEM, "cannot make a child's stderr");
	*stderr_fd = p[0];
	theirs->stderr_fd = p[1];
	if (fcntl(sv[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(p[0], F_SETFL, O_NONBLOCK) < 0)
		return err_errno(e, ERR_SYSTEM, "cannot make a child's channels non-blocking");
	return 0;
}

static char **
environment(void)
{
	char **env = xcalloc(ARRAY_LEN(inherited) + 2, sizeof(*env));
	size_t n = 0;

	env[n++] = xstrdup("LC_ALL=C");
	for (size_t i = 0; i < ARRAY_LEN(inherited); i++) {
		const char *v = getenv(inherited[i]);

		if (v)
			env[n++] = xasprintf("%s=%s", inherited[i], v);
	}
	return env;
}

static void
environment_free(char **env)
{
	for (size_t i = 0; env[i]; i++)
		free(env[i]);
	free(env);
}

#define ENDS 5

/* Moves the child's descriptors out of the way of 0..6 and plans the dup2 of each. */
static int
plan_fds(posix_spawn_file_actions_t *fa, const struct spawn_spec *s, const struct ends *ends, int moved[ENDS])
{
	const struct { int fd, to; } plan[] = {
		{ ends->socket_fd, IPC_FD }, { s->spool_fd, IPC_SPOOL_FD }, { ends->refused_fd, IPC_REFUSED_FD },
		{ s->listen_fd, IPC_LISTEN_FD }, { ends->stderr_fd, 2 },
	};
	int last = 2;

	posix_spawn_file_actions_addopen(fa, 0, "/dev/null", O_RDONLY, 0);
	for (size_t i = 0; i < ARRAY_LEN(plan); i++) {
		if (plan[i].fd < 0) {
			/* A hole would let a later descriptor slip into a number that means something. */
			if (plan[i].to < IPC_LISTEN_FD && plan[i].to > 2)
				posix_spawn_file_actions_addopen(fa, plan[i].to, "/dev/null", O_RDONLY, 0);
			continue;
		}
		moved[i] = fcntl(plan[i].fd, F_DUPFD_CLOEXEC, SAFE_FD);
		if (moved[i] < 0)
			return -1;
		posix_spawn_file_actions_adddup2(fa, moved[i], plan[i].to);
		if (plan[i].to > last)
			last = plan[i].to;
	}
	posix_spawn_file_actions_adddup2(fa, moved[ENDS - 1], 1);
	posix_spawn_file_actions_addclosefrom_np(fa, last + 1);
	return 0;
}

static int
spawn(const struct spawn_spec *s, const struct ends *ends, pid_t *pid, int *pidfd, struct err *e)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int moved[ENDS] = { -1, -1, -1, -1, -1 }, rc, ret = -1;
	char **env = environment();
	union { const char *const *in; char *const *out; } argv = { .in = s->argv };

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	/* A group of its own: Control-C at a terminal is the master's alone, which then lets tasks end. */
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	if (plan_fds(&fa, s, ends, moved) < 0) {
		err_errno(e, ERR_SYSTEM, "no descriptor left for a child");
		goto out;
	}
	rc = posix_spawn(pid, s->path, &fa, &attr, argv.out, env);
	if (rc) {
		errno = rc;
		err_errno(e, ERR_SYSTEM, "cannot start %s", s->path);
		goto out;
	}
	/* Race-free: only this loop reaps, so the number cannot have been used again. */
	*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
	if (*pidfd < 0) {
		err_errno(e, ERR_SYSTEM, "cannot watch process %d", (int)*pid);
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
		*pid = 0;
		goto out;
	}
	ret = 0;
out:
	for (size_t i = 0; i < ARRAY_LEN(moved); i++)
		if (moved[i] >= 0)
			close(moved[i]);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	environment_free(env);
	return ret;
}

void
child_init(struct child *c)
{
	*c = (struct child){ .pidfd = -1, .fd = -1, .refused_fd = -1, .err.fd = -1 };
}

int
child_start(struct child *c, struct loop *l, const struct spawn_spec *s, struct err *e)
{
	struct ends theirs = { -1, -1, -1 };
	int stderr_fd = -1, ret = -1;
	bool watched;

	if (open_ends(&c->fd, &stderr_fd, &theirs, e) < 0)
		goto out;
	c->refused_fd = refused_create();
	if (c->refused_fd < 0) {
		err_errno(e, ERR_SYSTEM, "cannot make a child's page for refused calls");
		goto out;
	}
	theirs.refused_fd = c->refused_fd;
	if (spawn(s, &theirs, &c->pid, &c->pidfd, e) < 0)
		goto out;
	/* child_forget closes it, watched or not */
	watched = stderr_open(&c->err, l, stderr_fd, s->on_stderr, s->arg) == 0;
	stderr_fd = -1;
	c->w_sock = loop_watch(l, c->fd, EPOLLIN, s->on_socket, s->arg);
	c->w_pid = loop_watch(l, c->pidfd, EPOLLIN, s->on_exit, s->arg);
	if (!c->w_sock || !c->w_pid || !watched) {
		err_errno(e, ERR_SYSTEM, "cannot watch process %d", (int)c->pid);
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
		goto out;
	}
	ret = 0;
out:
	close_fd(&theirs.socket_fd);
	close_fd(&theirs.stderr_fd);
	close_fd(&stderr_fd);
	if (ret < 0)
		child_forget(c, l);
	return ret;
}

void
child_forget(struct child *c, struct loop *l)
{
	loop_unwatch(l, &c->w_sock);
	loop_unwatch(l, &c->w_pid);
	close_fd(&c->fd);
	close_fd(&c->pidfd);
	close_fd(&c->refused_fd);
	stderr_close(&c->err);
	c->pid = 0;
}

int
child_signal(const struct child *c, int sig)
{
	return (int)syscall(SYS_pidfd_send_signal, c->pidfd, sig, NULL, 0);
}

char *
spawn_find(const struct master *m, const char *setting, const char *name, struct err *e)
{
	/* Beside the daemon (a build), in its own prefix (wherever it was installed), in the prefix it was built for. */
	char *prefix = xasprintf("%s/../libexec/iis-poller", m->libexec), *path = NULL;
	const char *const dirs[] = { m->libexec, prefix, LIBEXECDIR };

	if (*setting && access(setting, X_OK) == 0)
		path = xstrdup(setting);
	else if (*setting)
		err_errno(e, ERR_CONFIG, "cannot run %s", setting);
	for (size_t i = 0; !*setting && !path && i < ARRAY_LEN(dirs); i++) {
		path = xasprintf("%s/%s", dirs[i], name);
		if (access(path, X_OK) < 0) {
			free(path);
			path = NULL;
		}
	}
	if (!*setting && !path)
		err_set(e, ERR_CONFIG, "%s is neither in %s nor in %s nor in %s: is the installation complete?", name, m->libexec, prefix,
		    LIBEXECDIR);
	free(prefix);
	return path;
}
