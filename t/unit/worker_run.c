/*
 * worker_run.c - drives the real worker program over a socketpair, as the master does: start, tasks, cancel, stop,
 * end of file, full spool, injected faults, a master that breaks the rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "t/unit/worker_mini.h"
#include "common/log.h"
#include "common/banned.h"

#define GENERATION 77

static int sock = -1, spool = -1;
static pid_t pid;
static uint8_t in[IPC_FRAME_MAX + 1];
static struct frame f;
static struct err e = ERR_INIT;
static struct task_spec task;
static struct listing got;
static uint64_t next_task = 100;
static struct setup setup;

static void
program(char out[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	ck_assert_int_gt(n, 0);
	self[n] = '\0';
	/* build/t/unit/worker_run.t */
	for (int i = 0; i < 3; i++) {
		slash = strrchr(self, '/');
		ck_assert_ptr_nonnull(slash);
		*slash = '\0';
	}
	snprintf(out, PATH_MAX, "%s/iis-poller-worker", self);
}

static void
start(void)
{
	char path[PATH_MAX], generation[20];
	int s[2], low, low_spool;

	program(path);
	snprintf(generation, sizeof(generation), "%d", GENERATION);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
	/* out of the way of 3 and 4; and no copy of the worker's end may stay, or its end is not seen */
	low = s[1];
	s[1] = fcntl(low, F_DUPFD_CLOEXEC, 50);
	close(low);
	low_spool = memfd_create("spool", MFD_CLOEXEC);
	spool = fcntl(low_spool, F_DUPFD_CLOEXEC, 60);
	close(low_spool);
	sock = s[0];
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		int null = open("/dev/null", O_RDONLY);

		dup2(null, 0);
		dup2(s[1], IPC_FD);
		dup2(spool, IPC_SPOOL_FD);
		/* one too many: the worker must close it */
		dup2(null, 30);
		execl(path, path, "--worker", "0", generation, (char *)NULL);
		_exit(127);
	}
	close(s[1]);
}

/* The next frame, within a bound that is only there to fail instead of hanging. 0 at the end of file. */
static int
next(void)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	int r;

	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	r = ipc_recv(sock, 0, in, &f, &e);
	if (r == -1)
		return 0;
	if (r == 1)
		ck_assert_uint_eq(f.generation, GENERATION);
	return r;
}

/* The next frame of that type; LOG and PROGRESS may come before. */
static void
expect(enum msg_type type)
{
	do
		ck_assert_msg(next() == 1, "end of file where %s was due", ipc_name(type));
	while (f.type != type && (f.type == MSG_LOG || f.type == MSG_PROGRESS));
	ck_assert_str_eq(ipc_name(f.type), ipc_name(type));
}

static void
send_payload(enum msg_type type, uint64_t id, const struct buf *payload)
{
	struct buf b = BUF_INIT;

	ipc_begin(&b, type, GENERATION, id);
	if (payload)
		buf_add(&b, payload->p, payload->len);
	ipc_finish(&b);
	ck_assert_int_eq(ipc_send(sock, &b), 1);
	buf_release(&b);
}

static void
send_setup(void)
{
	struct buf b = BUF_INIT;

	setup_encode(&setup, &b);
	send_payload(MSG_SETUP, 0, &b);
	buf_release(&b);
}

static void
send_job(void)
{
	struct buf b = BUF_INIT;

	task_spec_encode(&task, &b);
	send_payload(MSG_JOB, ++next_task, &b);
	buf_release(&b);
}

static char sandbox_said[sizeof(((struct ready *)0)->sandbox)];     /* by the last worker that was READY */

static void
ready(void)
{
	struct hello h;
	struct ready r;

	start();
	expect(MSG_HELLO);
	ck_assert_int_eq(hello_decode(&h, f.payload, f.n, &e), 0);
	ck_assert_uint_eq(h.version, IPC_VERSION);
	ck_assert_str_eq(h.build_id, ipc_build_id);
	send_setup();
	expect(MSG_READY);
	ck_assert_int_eq(ready_decode(&r, f.payload, f.n, &e), 0);
	ck_assert_ptr_nonnull(strstr(r.sandbox, "no_new_privs"));
	snprintf(sandbox_said, sizeof(sandbox_said), "%s", r.sandbox);
#ifndef SANITIZED
	ck_assert_int_eq(r.active.mode, SANDBOX_ENFORCE);
	ck_assert(r.active.filter);
#endif
}

static int
ended(void)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	pid = 0;
	return status;
}

static void
ended_with(int code)
{
	int status = ended();

	ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
	ck_assert_int_eq(WEXITSTATUS(status), code);
}

static void
done(enum err_class cls)
{
	while (f.type != MSG_DONE) {
		ck_assert_int_eq(next(), 1);
		if (f.type == MSG_FILES)
			take_files(&got, &f, task.source.type);
	}
	ck_assert_uint_eq(f.task, next_task);
	ck_assert_int_eq(task_done_decode(&got.done, f.payload, f.n, &e), 0);
	ck_assert_msg(got.done.cls == cls, "%s: %s", err_name(got.done.cls), got.done.text);
}

static void
job(enum err_class cls)
{
	listing_release(&got);
	send_job();
	f.type = MSG__NONE;
	done(cls);
}

static void
before(void)
{
	setup_init(&setup);
	setup.log_level = LOG_INFO;
	setup.spool_max = 1 << 26;
	setup.memory_max = 64 << 20;
	setup.open_files = 64;
	setup.allow_faults = true;
	mini_task(&task, SOURCE_DUMMY, "");
	mini_set(&task, SF_DUMMY_FILES, 10);
	mini_set(&task, SF_DUMMY_FANOUT, 10);
	mini_str(&task, SF_DUMMY_NAME_TEMPLATE, "file_{index}.csv");
	task.publish = PUBLISH_STREAM;
}

static void
after(void)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (sock >= 0)
		close(sock);
	if (spool >= 0)
		close(spool);
	listing_release(&got);
	task_spec_release(&task);
	setup_release(&setup);
}

START_TEST(tasks_one_after_the_other)
{
	ready();
	for (int i = 0; i < 50; i++) {
		job(ERR_OK);
		ck_assert_uint_eq(got.n, 10);
		ck_assert_uint_eq(got.done.matched, 10);
	}
	send_payload(MSG_STOP, 0, NULL);
	ck_assert_int_eq(next(), 0);
	ended_with(EX_OK);
}
END_TEST

START_TEST(atomic_goes_to_the_spool)
{
	ready();
	task.publish = PUBLISH_ATOMIC;
	mini_set(&task, SF_DUMMY_FILES, 20000);
	job(ERR_OK);
	ck_assert_uint_eq(got.n, 0);
	take_spool(&got, spool, SOURCE_DUMMY, GENERATION, next_task);
	ck_assert_uint_eq(got.n, 20000);
	/* the next one begins at its beginning */
	mini_set(&task, SF_DUMMY_FILES, 3);
	job(ERR_OK);
	take_spool(&got, spool, SOURCE_DUMMY, GENERATION, next_task);
	ck_assert_uint_eq(got.n, 3);
}
END_TEST

START_TEST(full_spool)
{
	struct stat st;

	setup.spool_max = 100000;
	ready();
	task.publish = PUBLISH_ATOMIC;
	mini_set(&task, SF_DUMMY_FILES, 20000);
	job(ERR_SPOOL_FULL);
	ck_assert_uint_eq(got.done.spool_bytes, 0);
	ck_assert_int_eq(fstat(spool, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	mini_set(&task, SF_DUMMY_FILES, 100);
	job(ERR_OK);
	take_spool(&got, spool, SOURCE_DUMMY, GENERATION, next_task);
	ck_assert_uint_eq(got.n, 100);
}
END_TEST

START_TEST(cancel_while_listing)
{
	ready();
	task.publish = PUBLISH_ATOMIC;
	setup.spool_max = INT64_C(1) << 40;
	mini_set(&task, SF_DUMMY_FILES, 100000000);
	strlist_add(&task.filter.exclude, "*");
	send_job();
	expect(MSG_PROGRESS);
	send_payload(MSG_CANCEL, next_task, NULL);
	done(ERR_CANCELLED);
	ck_assert_uint_gt(got.done.listed, 0);
	strlist_release(&task.filter.exclude);
	mini_set(&task, SF_DUMMY_FILES, 10);
	job(ERR_OK);
}
END_TEST

START_TEST(cancel_while_waiting)
{
	ready();
	mini_set(&task, SF_DUMMY_DELAY, 3600000);
	send_job();
	send_payload(MSG_CANCEL, next_task, NULL);
	f.type = MSG__NONE;
	done(ERR_CANCELLED);
	ck_assert_uint_eq(got.done.listed, 0);
}
END_TEST

/* The master does not read: the worker stands in send, and must hear the CANCEL there. */
START_TEST(cancel_while_nobody_reads)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };
	char stat_path[64], line[512];
	int fd;

	ready();
	mini_set(&task, SF_DUMMY_FILES, 100000000);
	send_job();
	/* Until it sleeps with its socket full; its state is the third word of its stat file. */
	snprintf(stat_path, sizeof(stat_path), "/proc/%d/stat", (int)pid);
	for (int i = 0, asleep = 0; asleep < 20; i++) {
		ssize_t n;

		ck_assert_int_lt(i, 5000);
		fd = open(stat_path, O_RDONLY);
		n = read(fd, line, sizeof(line) - 1);
		close(fd);
		ck_assert_int_gt(n, 0);
		line[n] = '\0';
		asleep = strstr(line, ") S ") ? asleep + 1 : 0;
		poll(&p, 0, 1);
	}
	send_payload(MSG_CANCEL, next_task, NULL);
	f.type = MSG__NONE;
	done(ERR_CANCELLED);
	ck_assert_uint_lt(got.done.listed, 1000000);
	/* the frame it stood with was given up: its records are no matches, or the master takes DONE for a lie */
	ck_assert_uint_eq(got.done.matched, got.n);
	ck_assert_uint_eq(got.done.listed, got.done.matched + got.done.skipped + 1);
}
END_TEST

START_TEST(late_and_foreign_cancel)
{
	ready();
	job(ERR_OK);
	send_payload(MSG_CANCEL, next_task, NULL);
	mini_set(&task, SF_DUMMY_DELAY, 50);
	send_job();
	send_payload(MSG_CANCEL, next_task + 1, NULL);
	f.type = MSG__NONE;
	done(ERR_OK);
}
END_TEST

START_TEST(stop_finishes_the_task)
{
	ready();
	mini_set(&task, SF_DUMMY_DELAY, 100);
	send_job();
	send_payload(MSG_STOP, 0, NULL);
	f.type = MSG__NONE;
	done(ERR_OK);
	ck_assert_uint_eq(got.n, 10);
	ck_assert_int_eq(next(), 0);
	ended_with(EX_OK);
}
END_TEST

START_TEST(master_gone)
{
	ready();
	if (_i) {
		mini_set(&task, SF_DUMMY_FILES, 100000000);
		send_job();
		expect(MSG_FILES);
	}
	close(sock);
	sock = -1;
	ended_with(EX_OK);
}
END_TEST

/* Slow listings show while they run. */
START_TEST(slow_stream_is_flushed)
{
	ready();
	mini_set(&task, SF_DUMMY_FILES, 1000);
	mini_set(&task, SF_DUMMY_RATE, 20);
	send_job();
	expect(MSG_FILES);
	take_files(&got, &f, SOURCE_DUMMY);
	ck_assert_uint_lt(got.n, 20);
	send_payload(MSG_CANCEL, next_task, NULL);
	done(ERR_CANCELLED);
}
END_TEST

START_TEST(progress_comes)
{
	struct progress g;

	ready();
	mini_set(&task, SF_DUMMY_RATE, 4);
	send_job();
	do
		ck_assert_int_eq(next(), 1);
	while (f.type != MSG_PROGRESS);
	ck_assert_int_eq(progress_decode(&g, f.payload, f.n, &e), 0);
	ck_assert_uint_ge(g.listed, 1);
	ck_assert_uint_lt(g.listed, 10);
}
END_TEST

static void m_job_twice(void) { send_job(); send_job(); }
static void m_setup_again(void) { send_setup(); }
static void m_ready(void) { send_payload(MSG_READY, 0, NULL); }
static void m_garbage(void) { ck_assert_int_gt(send(sock, "garbage garbage garbage garbage", 31, 0), 0); }
static void
m_bad_job(void)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "0123456789abcdef01234567");
	send_payload(MSG_JOB, 5, &b);
	buf_release(&b);
}

static void
m_generation(void)
{
	struct buf b = BUF_INIT;

	ipc_begin(&b, MSG_STOP, GENERATION + 1, 0);
	ipc_finish(&b);
	ck_assert_int_eq(ipc_send(sock, &b), 1);
	buf_release(&b);
}

/* SETUP said local. */
static void
m_other_role(void)
{
	task.source.type = SOURCE_SFTP;
	send_job();
}

static void (*const sins[])(void) = { m_job_twice, m_setup_again, m_ready, m_garbage, m_bad_job, m_generation, m_other_role };

START_TEST(master_that_breaks_rules)
{
	ready();
	mini_set(&task, SF_DUMMY_DELAY, 5000);
	sins[_i]();
	while (next() == 1)
		;
	ended_with(EX_SOFTWARE);
}
END_TEST

START_TEST(bad_setup)
{
	struct buf b = BUF_INIT;

	start();
	expect(MSG_HELLO);
	buf_puts(&b, "nonsense of some length");
	send_payload(_i ? MSG_SETUP : MSG_JOB, 0, &b);
	ck_assert_int_eq(next(), 0);
	ended_with(EX_CONFIG);
	buf_release(&b);
}
END_TEST

START_TEST(stop_before_setup)
{
	start();
	expect(MSG_HELLO);
	send_payload(MSG_STOP, 0, NULL);
	ended_with(EX_OK);
}
END_TEST

static int
run_by_hand(const char *a, const char *b, const char *c, char *text, size_t n)
{
	char path[PATH_MAX];
	int p[2], status;
	ssize_t got_n, at = 0;

	program(path);
	ck_assert_int_eq(pipe(p), 0);
	pid = fork();
	if (!pid) {
		dup2(p[1], 1);
		dup2(p[1], 2);
		for (int fd = 3; fd < 20; fd++)
			close(fd);
		execl(path, path, a, b, c, (char *)NULL);
		_exit(127);
	}
	close(p[1]);
	while ((got_n = read(p[0], text + at, n - 1 - (size_t)at)) > 0)
		at += got_n;
	text[at] = '\0';
	close(p[0]);
	status = ended();
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const struct { const char *a, *b, *c; int code; const char *text; } hands[] = {
	{ "--help", NULL, NULL, 0, "usage" }, { "--version", NULL, NULL, 0, VERSION },
	{ NULL, NULL, NULL, 64, "usage" }, { "--worker", "0", "1", 64, "started by iis-pollerd" },
	{ "--worker", "0", NULL, 64, "usage" }, { "--worker", "x", "1", 64, "usage" },
	{ "--worker", "0", "4294967296", 64, "usage" }, { "--worker", "-1", "1", 64, "usage" },
	{ "--frob", NULL, NULL, 64, "usage" },
};

START_TEST(by_hand)
{
	char text[4096];

	ck_assert_int_eq(run_by_hand(hands[_i].a, hands[_i].b, hands[_i].c, text, sizeof(text)), hands[_i].code);
	ck_assert_msg(strstr(text, hands[_i].text) != NULL, "%s", text);
}
END_TEST

/* Index of the word in sources.def, as job_parse gives it. */
static int
crash_index(const char *word)
{
	const char *s = field_rows[SF_DUMMY_CRASH].range;
	size_t n = strlen(word);

	for (int i = 0; s; i++) {
		if (!strncmp(s, word, n) && (s[n] == '|' || !s[n]))
			return i;
		s = strchr(s, '|');
		s = s ? s + 1 : NULL;
	}
	return -1;
}

static const struct { const char *kind; int sig, code; } deaths[] = {
	{ "segv", SIGSEGV, 0 }, { "abrt", SIGABRT, 0 }, { "bus", SIGBUS, 0 }, { "fpe", SIGFPE, 0 }, { "ill", SIGILL, 0 },
	{ "sys", SIGSYS, 0 }, { "kill", SIGKILL, 0 }, { "term", SIGTERM, 0 }, { "xcpu", SIGXCPU, 0 },
	{ "spin", SIGXCPU, 0 }, { "oom", 0, EX_OSERR }, { "exit", 0, 1 },
};

START_TEST(deaths_on_purpose)
{
	int status;

	setup.cpu_max_s = 1;
	ready();
	mini_set(&task, SF_DUMMY_CRASH, crash_index(deaths[_i].kind));
	mini_set(&task, SF_DUMMY_FAIL_AFTER, 5);
	send_job();
	expect(MSG_FILES);
	take_files(&got, &f, SOURCE_DUMMY);
	ck_assert_uint_eq(got.n, 5);
	ck_assert_int_eq(next(), 0);
	status = ended();
	if (deaths[_i].sig) {
		ck_assert_msg(WIFSIGNALED(status), "exit %d", WEXITSTATUS(status));
		ck_assert_int_eq(WTERMSIG(status), deaths[_i].sig);
	} else {
		ck_assert(WIFEXITED(status));
		ck_assert_int_eq(WEXITSTATUS(status), deaths[_i].code);
	}
}
END_TEST

START_TEST(hang_is_deaf_but_not_to_term)
{
	ready();
	mini_set(&task, SF_DUMMY_CRASH, crash_index("hang"));
	mini_set(&task, SF_DUMMY_FAIL_AFTER, 1);
	send_job();
	expect(MSG_FILES);
	send_payload(MSG_CANCEL, next_task, NULL);
	kill(pid, SIGTERM);
	ck_assert_int_eq(next(), 0);
	ck_assert_int_eq(WTERMSIG(ended()), SIGTERM);
}
END_TEST

START_TEST(leak_costs_the_worker)
{
	ready();
	mini_set(&task, SF_DUMMY_CRASH, crash_index("fdleak"));
	job(ERR_SYSTEM);
	while (next() == 1)
		ck_assert_int_eq(f.type, MSG_LOG);
	ended_with(EX_TEMPFAIL);
}
END_TEST

START_TEST(frames_that_are_wrong)
{
	static const char *const kinds[] = { "garbage", "oversize", "turn" };
	int r;

	ready();
	mini_set(&task, SF_DUMMY_CRASH, crash_index(kinds[_i]));
	send_job();
	r = next();
	ck_assert_int_eq(r, _i < 2 ? -2 : 1);
	if (r == 1)
		ck_assert_int_eq(ipc_check(&f, IPC_WORKER, WORKER_BUSY, &e), -1);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
}
END_TEST

START_TEST(faults_stop_after_their_attempts)
{
	ready();
	mini_set(&task, SF_DUMMY_CRASH, crash_index("segv"));
	mini_set(&task, SF_DUMMY_ATTEMPTS, 1);
	task.attempt = 2;
	job(ERR_OK);
	ck_assert_uint_eq(got.n, 10);
}
END_TEST

START_TEST(last_means_last)
{
	ready();
	job(ERR_OK);
	task.last = true;
	job(ERR_OK);
	ck_assert_uint_eq(got.n, 10);
	/* whatever the master believes: nobody's task follows in this process */
	send_job();
	while (next() == 1)
		ck_assert_int_ne(f.type, MSG_DONE);
	ended_with(EX_SOFTWARE);
}
END_TEST

static void
file_in(const char *dir)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/x.csv", dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
}

static void
remove_in(const char *dir)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/x.csv", dir);
	unlink(path);
	rmdir(dir);
}

static void
list_root(const char *dir, enum err_class cls)
{
	snprintf(task.root, sizeof(task.root), "%s", dir);
	job(cls);
	if (cls == ERR_OK)
		ck_assert_uint_eq(got.n, 1);
}

/* Of the roots of its SETUP it reads those of its tenant alone once it has one: the kernel's word, not the worker's. */
START_TEST(narrows_to_the_tenants_roots)
{
	char ours[] = "/tmp/worker_run.XXXXXX", theirs[] = "/tmp/worker_run.XXXXXX";
	enum err_class beyond;

	ck_assert_ptr_nonnull(mkdtemp(ours));
	ck_assert_ptr_nonnull(mkdtemp(theirs));
	file_in(ours);
	file_in(theirs);
	strlist_add(&setup.roots, ours);
	strlist_add(&setup.roots, theirs);
	setup.sandbox.landlock_max = LANDLOCK_ABI_KNOWN;
	task_spec_release(&task);
	mini_task(&task, SOURCE_LOCAL, "");
	task.publish = PUBLISH_STREAM;
	snprintf(task.below, sizeof(task.below), ".");
	ready();
	/* As the worker itself says: a sanitized build has none, and under valgrind the worker has what this process has not. */
	beyond = strstr(sandbox_said, " landlock_") ? ERR_AUTH : ERR_OK;
	list_root(theirs, ERR_OK);
	list_root(ours, ERR_OK);
	task.narrows = true;
	strlist_add(&task.narrow, ours);
	list_root(ours, ERR_OK);
	task.narrows = false;
	strlist_release(&task.narrow);
	list_root(ours, ERR_OK);
	list_root(theirs, beyond);
	/* and to none at all */
	task.narrows = true;
	list_root(ours, beyond);
	remove_in(ours);
	remove_in(theirs);
}
END_TEST

/* What the sandbox promises, as far as it can be read from outside. */
START_TEST(limits_are_set)
{
	char path[64], text[4096];
	ssize_t n;
	int fd;

	setup.spool_max = 12345;
	setup.open_files = 33;
	setup.cpu_max_s = 17;
	ready();
	snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	fd = open(path, O_RDONLY);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	ck_assert_int_gt(n, 0);
	text[n] = '\0';
	ck_assert_ptr_nonnull(strstr(text, "Max file size             12345                12345"));
	ck_assert_ptr_nonnull(strstr(text, "Max open files            33                   33"));
	ck_assert_ptr_nonnull(strstr(text, "Max cpu time              17                   22"));
	ck_assert_ptr_nonnull(strstr(text, "Max core file size        0                    0"));
#ifndef SANITIZED
	ck_assert_ptr_nonnull(strstr(text, "Max data size             67108864             67108864"));
#endif
	snprintf(path, sizeof(path), "/proc/%d/fd/30", (int)pid);
	ck_assert_int_eq(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	fd = open(path, O_RDONLY);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	ck_assert_ptr_nonnull(strstr(text, "NoNewPrivs:\t1"));
#ifndef SANITIZED
	/* its calls are filtered, by both filters */
	ck_assert_ptr_nonnull(strstr(text, "Seccomp:\t2"));
	ck_assert_ptr_nonnull(strstr(text, "Seccomp_filters:\t2"));
#endif
}
END_TEST

/* Ten million files through the socket: the worker's memory must not know. */
START_TEST(memory_is_flat)
{
	const long files = getenv("WORKER_FILES") ? strtol(getenv("WORKER_FILES"), NULL, 10) : 1000000;
	char path[64], text[4096], *p;
	uint64_t n = 0;
	long kib;
	ssize_t len;
	int fd;
	int64_t since = run_clock();

	ready();
	mini_set(&task, SF_DUMMY_FILES, files);
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	mini_set(&task, SF_DUMMY_DEPTH, 3);
	send_job();
	for (f.type = MSG__NONE; f.type != MSG_DONE;) {
		uint32_t count;

		ck_assert_int_eq(next(), 1);
		if (f.type == MSG_FILES) {
			memcpy(&count, f.payload, sizeof(count));
			n += count;
		}
	}
	ck_assert_uint_eq(n, (uint64_t)files);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	fd = open(path, O_RDONLY);
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	p = strstr(text, "VmHWM:");
	ck_assert_ptr_nonnull(p);
	kib = p ? strtol(p + 6, NULL, 10) : 0;
	printf("# %ld files in %.2f s, worker VmHWM %ld KiB\n", files, (double)(run_clock() - since) / 1e9, kib);
	fflush(stdout);
#ifndef SANITIZED
	ck_assert_int_lt(kib, 32 * 1024);
#endif
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_run");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_test(t, tasks_one_after_the_other);
	tcase_add_test(t, atomic_goes_to_the_spool);
	tcase_add_test(t, full_spool);
	tcase_add_test(t, cancel_while_listing);
	tcase_add_test(t, cancel_while_waiting);
	tcase_add_test(t, cancel_while_nobody_reads);
	tcase_add_test(t, late_and_foreign_cancel);
	tcase_add_test(t, stop_finishes_the_task);
	tcase_add_loop_test(t, master_gone, 0, 2);
	tcase_add_test(t, slow_stream_is_flushed);
	tcase_add_test(t, progress_comes);
	tcase_add_loop_test(t, master_that_breaks_rules, 0, sizeof(sins) / sizeof(sins[0]));
	tcase_add_loop_test(t, bad_setup, 0, 2);
	tcase_add_test(t, stop_before_setup);
	tcase_add_loop_test(t, by_hand, 0, sizeof(hands) / sizeof(hands[0]));
	tcase_add_loop_test(t, deaths_on_purpose, 0, sizeof(deaths) / sizeof(deaths[0]));
	tcase_add_test(t, hang_is_deaf_but_not_to_term);
	tcase_add_test(t, leak_costs_the_worker);
	tcase_add_loop_test(t, frames_that_are_wrong, 0, 3);
	tcase_add_test(t, faults_stop_after_their_attempts);
	tcase_add_test(t, limits_are_set);
	tcase_add_test(t, memory_is_flat);
	tcase_add_test(t, last_means_last);
	tcase_add_test(t, narrows_to_the_tenants_roots);
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
