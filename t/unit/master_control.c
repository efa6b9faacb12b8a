/*
 * master_control.c - unit tests of control.c: who may ask, what a request may be, one master a socket.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/master.h"

static struct master m;
static char dir[64], path[96];
static char *env[] = { NULL };
static const char *why_not;
static int reloads, stops;

/* What main.c has. */
const char *
master_not_ready(const struct master *x)
{
	(void)x;
	return why_not;
}

int
master_reload(struct master *x, struct err *e)
{
	x->config_generation++;
	return reloads++ ? err_set(e, ERR_CONFIG, "file:1:2: wrong") : 0;
}

void
master_stop(struct master *x, const char *why)
{
	(void)x;
	(void)why;
	stops++;
}

static void
quiet(void *arg, enum log_level l, const char *event, const struct log_field *f, size_t n)
{
	(void)arg;
	(void)l;
	(void)event;
	(void)f;
	(void)n;
}

static void
setup(void)
{
	struct config_args args = { .environ_ = env };

	log_set_sink(quiet, NULL);
	snprintf(dir, sizeof(dir), "/tmp/control-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	ck_assert_int_eq(config_load_text(&m.set, "test", "", 0, &args), 0);
	m.cfg = &m.set.c;
	free(m.cfg->control_socket);
	m.cfg->control_socket = xstrdup(path);
	m.loop = loop_new();
	m.phase = MASTER_RUNNING;
	m.jobs = jobs_new(&m);
	m.deferred = deferred_new(&m);
	m.control = control_new(&m);
}

static void
teardown(void)
{
	control_free(m.control);
	deferred_free(m.deferred);
	jobs_free(m.jobs);
	loop_free(m.loop);
	config_set_release(&m.set);
	ck_assert_msg(access(path, F_OK) < 0, "the socket file is gone");
	rmdir(dir);
}

static void
start(void)
{
	struct err e = ERR_INIT;

	ck_assert_msg(control_start(m.control, &e) == 0, "%s", e.text);
}

static int
dial(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Sends, turns the loop until the other side has closed, gives all that came. */
static const char *
ask(int fd, const void *p, size_t n)
{
	static char text[65536];
	size_t got = 0;

	ck_assert_int_ge(fd, 0);
	if (n)
		ck_assert_int_eq(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
	for (int i = 0; i < 200; i++) {
		ssize_t r;

		loop_once(m.loop, 10);
		r = recv(fd, text + got, sizeof(text) - 1 - got, MSG_DONTWAIT);
		if (r > 0)
			got += (size_t)r;
		if (r == 0 || (r < 0 && errno == ECONNRESET))
			break;
	}
	text[got] = '\0';
	close(fd);
	return text;
}

static void
expect_status(const char *answer, int status, const char *holds)
{
	const char *body = strchr(answer, '\n');

	ck_assert_msg(body != NULL, "no answer: '%s'", answer);
	ck_assert_int_eq(strtol(answer, NULL, 10), status);
	ck_assert_uint_eq(strtoul(strchr(answer, ' '), NULL, 10), strlen(body + 1));
	ck_assert_msg(strstr(body, holds) != NULL, "%s", body);
}

static const struct { const char *line; int status; const char *holds; } requests[] = {
	{ "ping\n", 0, "\"ready\":true" },
	{ "ping\r\n", 0, "\"ready\":true" },
	{ "  ping  \n", 0, "\"ready\":true" },
	{ "ping\nping\n", 0, "\"ready\":true" },
	{ "config --changed\n", 0, "control" },
	{ "ping now\n", 64, "takes no argument" },
	{ "\n", 64, "one verb" },
	{ "a b c d e f g h i j\n", 64, "one verb" },
	{ "pin\n", 64, "no such verb: pin" },
	{ "\033[2J\"\n", 64, "no such verb: \\u001b[2J\\\"" },
	{ "job-cancel\n", 64, "one job_id" },
	{ "job-cancel \n", 64, "one job_id" },
	{ "job-cancel nobody\n", 66, "nobody" },
	{ "job-cancel no body  at all \n", 66, "job_id no body  at all ," },
	{ "jobs --state=running --limit=5\n", 0, "{\"jobs\":[],\"more\":0,\"active\":0}" },
	{ "jobs --state=nowhere\n", 64, "no such state" },
	{ "jobs --limit=-1\n", 64, "not an option" },
	{ "config --all\n", 64, "--changed" },
};

START_TEST(requests_and_answers)
{
	start();
	expect_status(ask(dial(), requests[_i].line, strlen(requests[_i].line)), requests[_i].status, requests[_i].holds);
}
END_TEST

START_TEST(not_ready_has_a_reason)
{
	why_not = "no \"broker\"";
	start();
	expect_status(ask(dial(), "ping\n", 5), 0, "\"ready\":false,\"reason\":\"no \\\"broker\\\"\"");
	why_not = NULL;
}
END_TEST

START_TEST(actions)
{
	start();
	expect_status(ask(dial(), "reload\n", 7), 0, "\"generation\":1");
	expect_status(ask(dial(), "reload\n", 7), 78, "file:1:2: wrong");
	expect_status(ask(dial(), "stop\n", 5), 0, "\"hard\":false");
	ck_assert_int_eq(stops, 1);
}
END_TEST

START_TEST(a_line_in_pieces)
{
	int fd;

	start();
	fd = dial();
	ck_assert_int_eq(send(fd, "pi", 2, 0), 2);
	for (int i = 0; i < 3; i++)
		loop_once(m.loop, 0);
	expect_status(ask(fd, "ng\n", 3), 0, "ready");
}
END_TEST

START_TEST(a_line_that_never_ends)
{
	char line[8192];

	memset(line, 'x', sizeof(line));
	start();
	expect_status(ask(dial(), line, sizeof(line)), 64, "longer than 4096");
	line[4095] = '\n';
	expect_status(ask(dial(), line, 4096), 64, "no such verb");
	line[10] = '\0';
	expect_status(ask(dial(), line, 4096), 64, "NUL");
}
END_TEST

START_TEST(a_client_that_goes)
{
	start();
	for (int i = 0; i < 50; i++) {
		int fd = dial();

		if (i % 2)
			ck_assert_int_eq(send(fd, "ping\n", 5, 0), 5);
		close(fd);
		for (int k = 0; k < 4; k++)
			loop_once(m.loop, 0);
	}
	expect_status(ask(dial(), "ping\n", 5), 0, "ready");
}
END_TEST

/* The test is the daemon's own user: twelve of the sixteen seats. */
START_TEST(connections_of_one_user_are_capped)
{
	int fd[12];

	start();
	for (int i = 0; i < 12; i++) {
		fd[i] = dial();
		ck_assert_int_ge(fd[i], 0);
	}
	loop_once(m.loop, 100);
	expect_status(ask(dial(), "", 0), 75, "too many connections");
	expect_status(ask(fd[0], "ping\n", 5), 0, "ready");
	fd[0] = dial();
	expect_status(ask(fd[0], "ping\n", 5), 0, "ready");
	for (int i = 1; i < 12; i++)
		close(fd[i]);
}
END_TEST

START_TEST(the_file_is_for_owner_and_group)
{
	struct stat st;
	mode_t before = umask(0);

	start();
	umask(before);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0660);
}
END_TEST

START_TEST(a_second_master_is_refused_by_name)
{
	struct err e = ERR_INIT;
	struct control *second;
	char pid[32];
	pid_t child;
	int how;

	start();
	snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	child = fork();
	if (child == 0) {
		struct master other = m;

		/* It has a loop of its own; this process goes on turning the first one's. */
		other.loop = loop_new();
		second = control_new(&other);
		if (control_start(second, &e) == 0 || e.cls != ERR_CONFIG || !strstr(e.text, path) || !strstr(e.text, pid))
			_exit(1);
		control_free(second);
		_exit(access(path, F_OK) ? 2 : 0);
	}
	while (waitpid(child, &how, WNOHANG) == 0)
		loop_once(m.loop, 10);
	ck_assert_msg(WIFEXITED(how) && WEXITSTATUS(how) == 0, "status %x", how);
	expect_status(ask(dial(), "ping\n", 5), 0, "ready");
}
END_TEST

START_TEST(a_stale_socket_is_replaced)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(fd);
	start();
	expect_status(ask(dial(), "ping\n", 5), 0, "ready");
}
END_TEST

START_TEST(what_is_no_socket_stays)
{
	struct err e = ERR_INIT;
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(control_start(m.control, &e), -1);
	ck_assert_int_eq(e.cls, ERR_CONFIG);
	ck_assert_ptr_nonnull(strstr(e.text, path));
	ck_assert_int_eq(access(path, F_OK), 0);
	unlink(path);
}
END_TEST

static const char *const bad_paths[] = { "", "relative", "/nonexistent/dir/socket",
	"/tmp/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };

START_TEST(paths_that_cannot_be)
{
	struct err e = ERR_INIT;

	free(m.cfg->control_socket);
	m.cfg->control_socket = xstrdup(bad_paths[_i]);
	ck_assert_int_eq(control_start(m.control, &e), -1);
	ck_assert_int_eq(e.cls, ERR_CONFIG);
}
END_TEST

START_TEST(an_unknown_group_is_refused)
{
	struct err e = ERR_INIT;

	free(m.cfg->control_group);
	m.cfg->control_group = xstrdup("no-such-group");
	ck_assert_int_eq(control_start(m.control, &e), -1);
	ck_assert_int_eq(e.cls, ERR_CONFIG);
	ck_assert_ptr_nonnull(strstr(e.text, "no-such-group"));
}
END_TEST

/* As another user: asks, and exits with the answer's status. */
static int
ask_as(uid_t uid, gid_t gid, gid_t extra, const char *line)
{
	pid_t child = fork();
	int how;

	if (child == 0) {
		char text[4096];
		ssize_t n;
		int fd;

		if (setgroups(extra ? 1 : 0, &extra) < 0 || setgid(gid) < 0 || setuid(uid) < 0 || (fd = dial()) < 0)
			_exit(200);
		/* who is turned away may find the other end closed, and its answer waiting */
		if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 && errno != EPIPE)
			_exit(201);
		n = recv(fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = '\0';
		_exit(n > 0 ? (int)strtol(text, NULL, 10) : 202);
	}
	while (waitpid(child, &how, WNOHANG) == 0)
		loop_once(m.loop, 10);
	return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

/* Needs root to become somebody else. */
START_TEST(members_of_the_group_may_read)
{
	const struct group *g = getgrgid(65534);

	ck_assert_ptr_nonnull(g);
	free(m.cfg->control_group);
	m.cfg->control_group = xstrdup(g->gr_name);
	ck_assert_int_eq(chmod(dir, 0711), 0);
	start();
	ck_assert_int_eq(ask_as(12345, 65534, 0, "ping\n"), 0);
	ck_assert_int_eq(ask_as(12345, 12345, 65534, "ping\n"), 0);
	ck_assert_int_eq(ask_as(12345, 65534, 0, "reload\n"), 77);
	ck_assert_int_eq(ask_as(12345, 12345, 65534, "stop\n"), 77);
	ck_assert_int_eq(reloads + stops, 0);
	/* others are kept out by the file's mode; where that was widened by hand, by us */
	ck_assert_int_eq(ask_as(12345, 12345, 0, "ping\n"), 200);
	ck_assert_int_eq(chmod(path, 0666), 0);
	ck_assert_int_eq(ask_as(12345, 12345, 0, "ping\n"), 77);
	ck_assert_int_eq(ask_as(0, 0, 0, "reload\n"), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_control");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, requests_and_answers, 0, ARRAY_LEN(requests));
	tcase_add_test(t, not_ready_has_a_reason);
	tcase_add_test(t, actions);
	tcase_add_test(t, a_line_in_pieces);
	tcase_add_test(t, a_line_that_never_ends);
	tcase_add_test(t, a_client_that_goes);
	tcase_add_test(t, connections_of_one_user_are_capped);
	tcase_add_test(t, the_file_is_for_owner_and_group);
	tcase_add_test(t, a_second_master_is_refused_by_name);
	tcase_add_test(t, a_stale_socket_is_replaced);
	tcase_add_test(t, what_is_no_socket_stays);
	tcase_add_loop_test(t, paths_that_cannot_be, 0, ARRAY_LEN(bad_paths));
	tcase_add_test(t, an_unknown_group_is_refused);
	if (geteuid() == 0)
		tcase_add_test(t, members_of_the_group_may_read);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
