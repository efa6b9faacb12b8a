/*
 * main.c - one run of all attempts to get out of the sandbox, under one role and one version of Landlock.
 *
 *   escape --list                          class-what, where it is to be refused, what is seen from outside, in words
 *   escape --role local|network|credentials|http|control --landlock N [--unlisted trap|kill] [--only NAME] [--user UID] DIR
 *
 * --user: master, sibling and worker are this user's and no root's, and not dumpable, as in an installation.
 * The role control enters no sandbox at all: what fails there, too, proves nothing about the sandbox. For each attempt a
 * line: name, verdict, detail, witnesses. Verdicts: done, refused (detail: errno), killed (signal, and the call where
 * the sandbox named it), exit, hang, skipped. Read by t/lib/escapes.py.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "t/escape/escape.h"
#include "common/banned.h"

#define WAIT_MS 10000
#define OUTPUT 1024

static const struct attempt *const tables[] = { attempts_files, attempts_process, attempts_memory, attempts_net, attempts_kernel };
#define N_TABLES (sizeof(tables) / sizeof(tables[0]))

struct how {                    /* a run; handed to the worker with its world */
	enum sandbox_role role;         /* 0: control */
	enum sandbox_unlisted unlisted;
	unsigned landlock;
};

struct start {
	struct how how;
	struct world world;
	char attempt[64];
};

static bool undumpable;

static const struct attempt *
find(const char *name)
{
	for (size_t t = 0; t < N_TABLES; t++)
		for (const struct attempt *a = tables[t]; a->name; a++)
			if (!strcmp(a->name, name))
				return a;
	return NULL;
}

/* ---- the worker ---- */

int
say(char kind, const void *p, size_t n)
{
	char m[8192];

	if (n > sizeof(m) - 1)
		n = sizeof(m) - 1;
	m[0] = kind;
	if (n)
		memcpy(m + 1, p, n);
	return send(FD_MASTER, m, n + 1, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

int
steal(const void *p, size_t n)
{
	return say('S', p, n);
}

const char *
in_dir(const char *dir, const char *name)
{
	static char paths[4][256];
	static unsigned turn;
	char *p = paths[turn++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

/* As worker/main.c does it, with the settings' defaults. */
static int
enter(const struct start *st)
{
	const char *roots[] = { st->world.root };
	struct sandbox s = {
		.keep_fds = st->how.role == SANDBOX_HTTP ? FD_LISTEN + 1 : FD_REFUSED + 1,
		.parent_pid = st->world.master,
		.file_max = INT64_C(4) << 30,
		.data_max = INT64_C(256) << 20,
		.cpu_max_s = 3600,
		.open_files = 64,
		.role = st->how.role,
		.rules = { .mode = SANDBOX_ENFORCE, .unlisted = st->how.unlisted, .landlock_max = st->how.landlock },
		.roots = roots,
		.n_roots = st->how.role == SANDBOX_LOCAL,
	};
	struct sandbox_active active;
	struct err e = ERR_INIT;
	char words[512];

	tzset();
	if (sandbox_prepare(&s, &e) == 0) {
		refused_map(FD_REFUSED);
		if (sandbox_enter(&s, &active, words, sizeof(words), &e) == 0)
			return say('A', words, strlen(words));
	}
	dprintf(2, "escape: %s\n", e.text);
	return -1;
}

static int
worker(void)
{
	struct start st;
	const struct attempt *a;
	char c;
	int rc;

	if (recv(FD_MASTER, &st, sizeof(st), 0) != sizeof(st) || !(a = find(st.attempt)))
		return 64;
	if (st.how.role && enter(&st) < 0)
		return 71;
	errno = 0;
	rc = a->run(&st.world);
	rc = rc == NOT_HERE ? -NOT_HERE : rc < 0 ? errno : 0;
	say('R', &rc, sizeof(rc));
	/* The master looks now, and then ends this. */
	while (recv(FD_MASTER, &c, 1, 0) > 0)
		;
	return 0;
}

/* ---- the master of one attempt ---- */

struct outcome {
	bool answered;
	int rc;                 /* of the attempt, as the worker tells */
	unsigned witness;
	char note[64];          /* which socket it was */
	char active[512];
};

static pid_t
start_worker(const struct start *st, int refused, int *fd)
{
	int sv[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pid_t pid;

	if (null < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid) {
		int spool = open(st->world.dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
		int high = fcntl(sv[1], F_DUPFD_CLOEXEC, 200), high_spool = fcntl(spool, F_DUPFD_CLOEXEC, 200);
		int high_refused = fcntl(refused, F_DUPFD_CLOEXEC, 200);

		setpgid(0, 0);
		for (int sig = 1; sig < NSIG; sig++)
			signal(sig, SIG_DFL);
		if (dup2(null, 0) < 0 || dup2(high, FD_MASTER) < 0 || dup2(high_spool, FD_SPOOL) < 0 || dup2(high_refused, FD_REFUSED) < 0)
			_exit(71);
		/* and what it was not to inherit, as a forgotten O_CLOEXEC would have it */
		fcntl(FD_LISTEN, F_SETFD, 0);
		fcntl(FD_LEAKED, F_SETFD, 0);
		fcntl(FD_LEAKED_DIR, F_SETFD, 0);
		execl("/proc/self/exe", "escape", "--worker", (char *)NULL);
		_exit(71);
	}
	close(null);
	close(sv[1]);
	*fd = sv[0];
	return send(sv[0], st, sizeof(*st), MSG_NOSIGNAL) == sizeof(*st) ? pid : -1;
}

static void
message(struct outcome *o, const char *m, size_t n)
{
	int k[3];
	uint16_t port;

	switch (m[0]) {
	case 'A':
		snprintf(o->active, sizeof(o->active), "%.*s", (int)n - 1, m + 1);
		break;
	case 'S':
		if (world_secret(m + 1, n - 1))
			o->witness |= W_SECRET;
		break;
	case 'I':
		o->witness |= W_IMAGE;
		break;
	case 'K':
		if (n == 1 + sizeof(k)) {
			memcpy(k, m + 1, sizeof(k));
			snprintf(o->note, sizeof(o->note), "socket(%d,%d,%d)", k[0], k[1], k[2]);
		}
		break;
	case 'L':
		memcpy(&port, m + 1, sizeof(port));
		if (world_connects(port))
			o->witness |= W_NET;
		break;
	case 'R':
		if (n == 1 + sizeof(o->rc)) {
			memcpy(&o->rc, m + 1, sizeof(o->rc));
			o->answered = true;
		}
		break;
	default:
		break;
	}
}

/* Until it answers or is dead. False: neither came. */
static bool
listen_to_worker(int fd, struct outcome *o)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	static char m[16384];

	while (!o->answered) {
		ssize_t n;

		int r = poll(&p, 1, WAIT_MS);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		n = recv(fd, m, sizeof(m), MSG_DONTWAIT);
		/* EOF: the last holder of the other end is gone */
		if (n <= 0)
			return true;
		message(o, m, (size_t)n);
	}
	/* a child of the worker's may have more to tell */
	for (;;) {
		ssize_t n = recv(fd, m, sizeof(m), MSG_DONTWAIT);

		if (n <= 0)
			return true;
		message(o, m, (size_t)n);
	}
}

static void
describe(const struct outcome *o, bool in_time, int status, int refused, char *out, size_t n)
{
	struct refused call;
	char *name = NULL;

	refused_read(refused, &call);
	if (o->answered && !o->rc)
		snprintf(out, n, "done\t%s", o->note);
	else if (o->answered && o->rc == -NOT_HERE)
		snprintf(out, n, "skipped\t");
	else if (o->answered)
		snprintf(out, n, "refused\t%s", strerrorname_np(o->rc));
	else if (o->witness & W_IMAGE)
		snprintf(out, n, "done\t");
	else if (!in_time)
		snprintf(out, n, "hang\t");
	else if (WIFSIGNALED(status) && call.nr >= 0 && (name = refused_name(call.nr)))
		snprintf(out, n, "killed\t%s %s", sigabbrev_np(WTERMSIG(status)), name);
	else if (WIFSIGNALED(status))
		snprintf(out, n, "killed\t%s", sigabbrev_np(WTERMSIG(status)));
	else
		snprintf(out, n, "exit\t%d", WEXITSTATUS(status));
	free(name);
}

static int
master(const struct attempt *a, const struct how *how, const char *dir, int out)
{
	struct start st;
	struct outcome o;
	struct seen *seen;
	char line[OUTPUT], verdict[256];
	int fd = -1, status = 0, refused;
	bool in_time;
	pid_t pid;

	memset(&st, 0, sizeof(st));
	memset(&o, 0, sizeof(o));
	st.how = *how;
	snprintf(st.attempt, sizeof(st.attempt), "%s", a->name);
	refused = refused_create();
	if (refused < 0 || world_make(&st.world, dir, &seen) < 0 || (pid = start_worker(&st, refused, &fd)) < 0) {
		dprintf(2, "escape: %s: the world cannot be made: %s\n", a->name, strerror(errno));
		return 71;
	}
	in_time = listen_to_worker(fd, &o);
	o.witness |= world_look(&st.world, seen);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	/* an end that it brought about only in dying */
	o.witness |= world_look(&st.world, seen);
	describe(&o, in_time, status, refused, verdict, sizeof(verdict));
	snprintf(line, sizeof(line), "%s\t%s\t%u\t%s\n", a->name, verdict, o.witness, o.active);
	world_end(&st.world);
	return write(out, line, strlen(line)) == (ssize_t)strlen(line) ? 0 : 71;
}

/* ---- the run ---- */

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int
attempt(const struct attempt *a, const struct how *how, const char *base)
{
	char dir[64], line[OUTPUT];
	int p[2], status = 0;
	ssize_t n;
	pid_t pid;

	snprintf(dir, sizeof(dir), "%s/%s", base, a->name);
	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (undumpable)
			prctl(PR_SET_DUMPABLE, 0);
		_exit(master(a, how, dir, p[1]));
	}
	close(p[1]);
	n = read(p[0], line, sizeof(line));
	close(p[0]);
	waitpid(pid, &status, 0);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	if (n > 0)
		return write(1, line, (size_t)n) == n ? 0 : -1;
	if (WIFSIGNALED(status)) {
		/* whatever it was, the master is dead of it */
		dprintf(1, "%s\tdone\tmaster killed by %s\t%d\t\n", a->name, sigabbrev_np(WTERMSIG(status)), W_SIGNAL);
		return 0;
	}
	return -1;
}

static int
list(void)
{
	static const char *const holds[] = {
		[ALWAYS] = "always", [LANDLOCK] = "landlock", [LOCAL_ABI_3] = "local-abi-3", [LOCAL_NAMES] = "local-names",
		[LOCAL_OPENAT2] = "local-openat2",
		[NAMES] = "names", [NETWORK] = "network", [HTTP] = "http", [OWN_FILES] = "own-files",
		[OPEN] = "open",
	};

	for (size_t t = 0; t < N_TABLES; t++)
		for (const struct attempt *a = tables[t]; a->name; a++)
			printf("%s\t%s\t%u\t%s\n", a->name, holds[a->holds], a->witness, a->what);
	return 0;
}

static int
role_of(const char *word, enum sandbox_role *role)
{
	static const struct { const char *word; int role; } roles[] = {
		{ "control", 0 }, { "local", SANDBOX_LOCAL }, { "network", SANDBOX_NETWORK },
		{ "credentials", SANDBOX_CREDENTIALS }, { "http", SANDBOX_HTTP },
	};

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (!strcmp(word, roles[i].word)) {
			*role = (enum sandbox_role)roles[i].role;
			return 0;
		}
	return -1;
}

int
main(int argc, char **argv)
{
	struct how how = { .unlisted = SANDBOX_TRAP };
	const char *only = NULL;
	int64_t landlock = 0, user = 0;
	int failed = 0;

	if (argc == 2 && !strcmp(argv[1], "--was-here"))
		return say('I', NULL, 0);
	if (argc == 2 && !strcmp(argv[1], "--worker"))
		return worker();
	if (argc == 2 && !strcmp(argv[1], "--list"))
		return list();
	for (int i = 1; i + 2 < argc; i += 2) {
		if (!strcmp(argv[i], "--role") && role_of(argv[i + 1], &how.role) == 0)
			continue;
		if (!strcmp(argv[i], "--landlock") && units_int(argv[i + 1], &landlock) == 0)
			continue;
		if (!strcmp(argv[i], "--unlisted")) {
			how.unlisted = strcmp(argv[i + 1], "kill") ? SANDBOX_TRAP : SANDBOX_KILL;
			continue;
		}
		if (!strcmp(argv[i], "--user") && units_int(argv[i + 1], &user) == 0)
			continue;
		if (strcmp(argv[i], "--only"))
			return 64;
		only = argv[i + 1];
	}
	if (argc < 2)
		return 64;
	how.landlock = (unsigned)landlock;
	if (user && (setgroups(0, NULL) < 0 || setresgid((gid_t)user, (gid_t)user, (gid_t)user) < 0 ||
	    setresuid((uid_t)user, (uid_t)user, (uid_t)user) < 0)) {
		perror("escape: becoming another user");
		return 71;
	}
	undumpable = user != 0;
	for (size_t t = 0; t < N_TABLES; t++)
		for (const struct attempt *a = tables[t]; a->name; a++)
			if (!only || !strcmp(only, a->name))
				failed |= attempt(a, &how, argv[argc - 1]) < 0;
	return failed ? 71 : 0;
}
