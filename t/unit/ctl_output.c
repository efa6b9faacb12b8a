/*
 * ctl_output.c - unit tests of the admin tool's tables and JSON, and of its talk with the daemon's socket.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include "common/xalloc.h"
#include "master/ctl/ctl.h"

static char *text;
static size_t text_n;

static struct ctl
open_ctl(void)
{
	struct ctl c = { .verb = -1, .out = open_memstream(&text, &text_n), .err = stderr };

	ck_assert_ptr_nonnull(c.out);
	return c;
}

static void
expect(struct ctl *c, const char *want)
{
	fclose(c->out);
	ck_assert_str_eq(text, want);
	free(text);
}

START_TEST(columns_are_aligned)
{
	struct ctl c = open_ctl();
	struct table t;

	table_init(&t, "NAME|>N|TEXT");
	table_cell(&t, "a");
	table_cellf(&t, "%d", 7);
	table_cell(&t, "x");
	table_cell(&t, "longer");
	table_cellf(&t, "%d", 12345);
	table_cell(&t, NULL);
	table_print(&t, &c);
	table_cell(&t, "later");
	table_cell(&t, "1");
	table_cell(&t, "y");
	table_print(&t, &c);
	table_release(&t);
	expect(&c, "NAME        N  TEXT\na           7  x\nlonger  12345  -\nlater       1  y\n");
}
END_TEST

START_TEST(wide_characters_count_once)
{
	struct ctl c = open_ctl();
	struct table t;

	table_init(&t, "A|B");
	table_cell(&t, "\xc3\xbc\xc3\xa4\xc3\xb6");
	table_cell(&t, "1");
	table_cell(&t, "abc");
	table_cell(&t, "2");
	table_print(&t, &c);
	table_release(&t);
	expect(&c, "A    B\n\xc3\xbc\xc3\xa4\xc3\xb6  1\nabc  2\n");
}
END_TEST

START_TEST(foreign_bytes_cannot_steer_a_terminal)
{
	struct ctl c = open_ctl();
	struct table t;

	table_init(&t, "A");
	table_celln(&t, "\033[2J\a\n\0\xff", 8);
	table_print(&t, &c);
	table_release(&t);
	fclose(c.out);
	for (const char *p = text; *p; p++)
		ck_assert_msg(*p == '\n' || ((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f), "byte %02x", (unsigned char)*p);
	ck_assert_uint_eq(strlen(text), text_n);
	ck_assert_ptr_eq(strchr(strchr(text, '\n') + 1, '\n') + 1, text + text_n);
	free(text);
}
END_TEST

static const struct { const char *in, *want; } compact[] = {
	{ "{ \"a\" : 1 ,\n\t\"b\" : [ 1 , 2 ] }\r\n", "{\"a\":1,\"b\":[1,2]}" },
	{ "\"a b\\n \\\" c\"", "\"a b\\n \\\" c\"" },
	{ "{\"x y\": \"  \\\\\" , \"z\":\" \"}", "{\"x y\":\"  \\\\\",\"z\":\" \"}" },
	{ "\"\xe2\x80\xae" "evil\"", "\"\\u202eevil\"" },
	{ "\"\x7f\xc2\x9b\"", "\"\\u007f\\u009b\"" },
	{ "\"\xc3\xbc\xf0\x9f\x98\x80\"", "\"\xc3\xbc\xf0\x9f\x98\x80\"" },
	{ " null ", "null" },
	{ "", "" },
};

START_TEST(json_loses_its_white_space)
{
	struct buf b = BUF_INIT;

	json_compact(&b, compact[_i].in, strlen(compact[_i].in));
	ck_assert_str_eq(buf_str(&b), compact[_i].want);
	buf_release(&b);
}
END_TEST

static const struct { const char *key, *json, *want; } words[] = {
	{ "x", "null", "-" }, { "x", "true", "yes" }, { "x", "false", "no" }, { "x", "12345", "12345" },
	{ "x_bytes", "0", "0 B" }, { "x_bytes", "1023", "1023 B" }, { "x_bytes", "1024", "1.0 KiB" }, { "bytes", "6921011", "6.6 MiB" },
	{ "age_seconds", "1.25", "1.2 s" }, { "x", "1.25", "1.250" }, { "x", "\"a b\"", "a b" }, { "x", "[1,\"a/b\"]", "[1,\"a/b\"]" },
};

START_TEST(values_in_words)
{
	struct json_object *o = json_tokener_parse(words[_i].json);
	struct buf b = BUF_INIT;

	json_words(&b, words[_i].key, o);
	ck_assert_str_eq(buf_str(&b), words[_i].want);
	buf_release(&b);
	json_object_put(o);
}
END_TEST

START_TEST(a_document_as_an_outline)
{
	struct json_object *o = json_tokener_parse("{\"a\":1,\"b\":{\"c\":\"x\",\"list\":[{\"n\":1,\"s\":\"u\"},{\"n\":22,\"s\":null}]},"
	    "\"empty\":[]}");
	struct ctl c = open_ctl();

	json_outline(&c, o);
	json_object_put(o);
	expect(&c, "WHAT   VALUE\na      1\nb.c    x\nempty  []\n\nb.list:\n n  s\n 1  u\n22  -\n");
}
END_TEST

START_TEST(an_array_as_a_table)
{
	struct json_object *o = json_tokener_parse("[{\"id\":\"j\",\"n\":1},{\"id\":\"k\"}]");
	struct ctl c = open_ctl();

	json_table(&c, o, "JOB=id|>N=n");
	json_table(&c, NULL, "JOB=id");
	json_object_put(o);
	expect(&c, "JOB  N\nj    1\nk    -\nJOB\n");
}
END_TEST

/* ---- the daemon's socket ------------------------------------------------------------------------------------------------ */

static char path[64];

/* A process that takes one connection, reads a line, writes `answer`, closes. */
static pid_t
fake_daemon(const char *answer, size_t n)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	pid_t pid;

	snprintf(path, sizeof(path), "/tmp/ctl-test.%d", (int)getpid());
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	unlink(path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	pid = fork();
	if (pid == 0) {
		int one = accept(fd, NULL, NULL);
		char line[100];

		/* Sent in two pieces: the client must put them together. */
		if (read(one, line, sizeof(line)) != 9 || memcmp(line, "question\n", 9))
			_exit(1);
		if (write(one, answer, n / 2) != (ssize_t)(n / 2) || write(one, answer + n / 2, n - n / 2) != (ssize_t)(n - n / 2))
			_exit(2);
		_exit(0);
	}
	close(fd);
	return pid;
}

static const struct { const char *answer; int status; const char *body; } answers[] = {
	{ "0 2\n{}", 0, "{}" },
	{ "77 13\n{\"error\":\"x\"}", 77, "{\"error\":\"x\"}" },
	{ "0 0\n", 0, "" },
	{ "0 3\n{}", -1, NULL },            /* cut */
	{ "0 1\n{}", -1, NULL },            /* too much */
	{ "", -1, NULL },
	{ "hello\n{}", -1, NULL },
	{ "0 2{}", -1, NULL },
	{ "0 -2\n{}", -1, NULL },
	{ "999 2\n{}", -1, NULL },
	{ "0 99999999999999999999\n{}", -1, NULL },
	{ "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", -1, NULL },
};

START_TEST(answers_of_a_daemon)
{
	pid_t pid = fake_daemon(answers[_i].answer, strlen(answers[_i].answer));
	struct buf body = BUF_INIT;
	struct err e = ERR_INIT;
	int how;

	ck_assert_int_eq(client_ask(path, "question", 5000, &body, &e), answers[_i].status);
	if (answers[_i].body)
		ck_assert_str_eq(buf_str(&body), answers[_i].body);
	else
		ck_assert_uint_gt(strlen(e.text), 10);
	ck_assert_int_eq(waitpid(pid, &how, 0), pid);
	ck_assert_msg(WIFEXITED(how) && WEXITSTATUS(how) == 0, "the fake daemon was not asked well");
	unlink(path);
	buf_release(&body);
}
END_TEST

START_TEST(a_daemon_that_hangs_is_left)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct buf body = BUF_INIT;
	struct err e = ERR_INIT;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/tmp/ctl-test.%d", (int)getpid());
	unlink(sa.sun_path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(client_ask(sa.sun_path, "question", 50, &body, &e), -1);
	ck_assert_int_eq(e.cls, ERR_TIMEOUT);
	close(fd);
	/* the file is there, but nobody listens any more */
	ck_assert_int_eq(client_ask(sa.sun_path, "question", 50, &body, &e), -1);
	ck_assert_int_eq(e.cls, ERR_NOT_FOUND);
	unlink(sa.sun_path);
	ck_assert_int_eq(client_ask(sa.sun_path, "question", 50, &body, &e), -1);
	ck_assert_int_eq(e.cls, ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(e.text, sa.sun_path));
	buf_release(&body);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ctl_output");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, columns_are_aligned);
	tcase_add_test(t, wide_characters_count_once);
	tcase_add_test(t, foreign_bytes_cannot_steer_a_terminal);
	tcase_add_loop_test(t, json_loses_its_white_space, 0, ARRAY_LEN(compact));
	tcase_add_loop_test(t, values_in_words, 0, ARRAY_LEN(words));
	tcase_add_test(t, a_document_as_an_outline);
	tcase_add_test(t, an_array_as_a_table);
	tcase_add_loop_test(t, answers_of_a_daemon, 0, ARRAY_LEN(answers));
	tcase_add_test(t, a_daemon_that_hangs_is_left);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
