/*
 * sandbox.c - what the sandbox costs: a worker's start to READY, its processor time, and one small task, with the sandbox,
 * with filters that only log and no Landlock, and without, for both kinds of worker, in turns. Prints medians and their ratios; drives the real program as the
 * master does. Not a test, because it measures the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/ipc.h"
#include "common/task.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define ROUNDS 40
#define TASKS 200
#define FILES 100

enum figure { START_MS, CPU_MS, TASK_US, FIGURES };
static const char *const figures[FIGURES] = { "start to READY, ms", "processor time of a start, ms", "processor time of a listing, us" };

static double got[2][SANDBOX_MODE__MAX][FIGURES][ROUNDS];
static uint8_t in[IPC_FRAME_MAX + 1];
static char root[64];

static double
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void __attribute__((noreturn))
fail(const char *what)
{
	fprintf(stderr, "sandbox: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static pid_t
start(int *sock)
{
	const char *build = getenv("BUILD");
	char *path = xasprintf("%s/iis-poller-worker", build ? build : "build");
	int s[2], page = refused_create(), spool = memfd_create("spool", MFD_CLOEXEC);
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0 || page < 0 || spool < 0)
		fail("descriptors");
	pid = vfork();
	if (!pid) {
		dup2(fcntl(s[1], F_DUPFD_CLOEXEC, 50), IPC_FD);
		dup2(fcntl(spool, F_DUPFD_CLOEXEC, 50), IPC_SPOOL_FD);
		dup2(fcntl(page, F_DUPFD_CLOEXEC, 50), IPC_REFUSED_FD);
		execl(path, path, "--worker", "0", "1", (char *)NULL);
		_exit(127);
	}
	close(s[1]);
	close(page);
	close(spool);
	free(path);
	*sock = s[0];
	return pid;
}

static void
expect(int sock, enum msg_type type)
{
	struct err e = ERR_INIT;
	struct frame f;

	do
		if (ipc_recv(sock, 0, in, &f, &e) != 1)
			fail(ipc_name(type));
	while (f.type != type);
}

static void
send_frame(int sock, struct buf *b)
{
	ipc_finish(b);
	if (ipc_send(sock, b) != 1)
		fail("sending");
}

static void
send_setup(int sock, struct buf *b, enum worker_role role, enum sandbox_mode mode)
{
	struct setup s;

	setup_init(&s);
	s.role = role;
	s.log_level = LOG_WARN;
	s.spool_max = 1 << 30;
	s.memory_max = INT64_C(256) << 20;
	s.open_files = 64;
	s.sandbox = (struct sandbox_rules){ .mode = mode, .landlock_max = 99 };
	if (role == ROLE_LOCAL)
		strlist_add(&s.roots, root);
	ipc_begin(b, MSG_SETUP, 1, 0);
	setup_encode(&s, b);
	send_frame(sock, b);
	setup_release(&s);
}

static void
tasks(int sock, struct buf *b)
{
	struct task_spec t;

	task_spec_init(&t);
	t.source.type = SOURCE_LOCAL;
	t.publish = PUBLISH_STREAM;
	t.attempt = 1;
	t.deadline_ms = 60000;
	snprintf(t.tenant, sizeof(t.tenant), "bench");
	snprintf(t.root, sizeof(t.root), "%s", root);
	snprintf(t.below, sizeof(t.below), ".");
	for (uint64_t i = 1; i <= TASKS; i++) {
		ipc_begin(b, MSG_JOB, 1, i);
		task_spec_encode(&t, b);
		send_frame(sock, b);
		expect(sock, MSG_DONE);
	}
	task_spec_release(&t);
}

static void
measure(enum worker_role role, enum sandbox_mode mode, int round)
{
	const bool working = role == ROLE_LOCAL && round % 4 == 0;
	double *to[FIGURES], since = now_us(), cpu;
	struct buf b = BUF_INIT;
	struct rusage ru;
	int sock, status;
	pid_t pid = start(&sock);

	for (int i = 0; i < FIGURES; i++)
		to[i] = &got[role != ROLE_LOCAL][mode][i][round];
	expect(sock, MSG_HELLO);
	send_setup(sock, &b, role, mode);
	expect(sock, MSG_READY);
	*to[START_MS] = (now_us() - since) / 1e3;
	if (working)
		tasks(sock, &b);
	close(sock);
	if (wait4(pid, &status, 0, &ru) != pid || status)
		fail("the worker");
	cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1e6 + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
	/* with that of its start, which is taken off at the end: less noise than the clock on a machine that others use */
	*to[TASK_US] = working ? cpu / TASKS : 0;
	*to[CPU_MS] = working ? 0 : cpu / 1e3;
	buf_release(&b);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Of those that were measured; 0: none. */
static double
median(const double *v)
{
	double sorted[ROUNDS];
	size_t n = 0;

	for (size_t i = 0; i < ROUNDS; i++)
		if (v[i] > 0)
			sorted[n++] = v[i];
	qsort(sorted, n, sizeof(sorted[0]), by_value);
	return n ? sorted[n / 2] : 0;
}

static double
figure(int role, enum sandbox_mode mode, int i)
{
	double v = median(got[role][mode][i]);

	return i == TASK_US && v > 0 ? v - median(got[role][mode][CPU_MS]) * 1e3 / TASKS : v;
}

static void
make_tree(void)
{
	snprintf(root, sizeof(root), "/tmp/iis-bench.XXXXXX");
	if (!mkdtemp(root))
		fail("mkdtemp");
	for (int i = 0; i < FILES; i++) {
		char *p = xasprintf("%s/file_%d.csv", root, i);

		close(open(p, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
		free(p);
	}
}

static void
remove_tree(void)
{
	for (int i = 0; i < FILES; i++) {
		char *p = xasprintf("%s/file_%d.csv", root, i);

		unlink(p);
		free(p);
	}
	rmdir(root);
}

int
main(void)
{
	static const enum sandbox_mode modes[] = { SANDBOX_OFF, SANDBOX_LOG, SANDBOX_ENFORCE };

	make_tree();
	for (int round = 0; round < ROUNDS; round++)
		for (int role = 0; role < 2; role++)
			for (size_t i = 0; i < ARRAY_LEN(modes); i++)
				measure(role ? ROLE_NETWORK : ROLE_LOCAL, modes[(i + (size_t)round) % ARRAY_LEN(modes)], round);
	remove_tree();
	printf("%-10s %-32s %10s %10s %10s %8s\n", "role", "median", "off", "log", "enforce", "ratio");
	for (int role = 0; role < 2; role++)
		for (int i = 0; i < FIGURES; i++) {
			double off = figure(role, SANDBOX_OFF, i), on = figure(role, SANDBOX_ENFORCE, i), log = figure(role, SANDBOX_LOG, i);

			if (off > 0)
				printf("%-10s %-32s %10.2f %10.2f %10.2f %8.2f\n", role ? "network" : "local", figures[i], off, log, on, on / off);
		}
	return EXIT_SUCCESS;
}
