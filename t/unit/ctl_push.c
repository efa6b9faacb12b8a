/*
 * ctl_push.c - unit tests of push: jobs from options and from texts, their ids.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/ctl/ctl.h"

#define WORDS 14

static const struct {
	const char *argv[WORDS];    /* behind "push" */
	const char *want;           /* the job; NULL: refused */
	const char *error;
} made[] = {
	{ { "-t", "dummy" }, "{\"source_config\":{\"source_type\":\"dummy\"}}", NULL },
	{ { "-t", "dummy", "-p", "./x", "-g", "*.csv", "-i", "j1", "-O", "org" },
	    "{\"job_id\":\"j1\",\"org_id\":\"org\",\"source_config\":{\"source_type\":\"dummy\",\"path\":\"./x\"},\"file_pattern\":\"*.csv\"}", NULL },
	{ { "-t", "local", "-p", "/a", "-r", "-g", "a", "-g", "b" },
	    "{\"source_config\":{\"source_type\":\"local\",\"path\":\"/a\",\"recursive\":true},\"file_pattern\":[\"a\",\"b\"]}", NULL },
	{ { "-t", "dummy", "-s", "files=3", "-s", "delay=1s", "-s", "recursive=yes", "-s", "size=10KiB" },
	    "{\"source_config\":{\"source_type\":\"dummy\",\"files\":3,\"delay\":\"1s\",\"recursive\":true,\"size\":\"10KiB\"}}", NULL },
	{ { "-t", "dummy", "-s", "retry_backoff=1.5", "-s", "name_template=a=b" },
	    "{\"source_config\":{\"source_type\":\"dummy\",\"retry_backoff\":1.5,\"name_template\":\"a=b\"}}", NULL },
	{ { "-t", "dummy", "-P", "high", "-T", "5s", "--publish", "stream", "-m", "{\"a\": [1]}" },
	    "{\"source_config\":{\"source_type\":\"dummy\"},\"priority\":\"high\",\"timeout\":\"5s\",\"publish\":\"stream\","
	    "\"metadata\":{\"a\": [1]}}", NULL },
	{ { "-t", "dummy", "-p", "quote\"back\\" }, "{\"source_config\":{\"source_type\":\"dummy\",\"path\":\"quote\\\"back\\\\\"}}", NULL },
	{ { "-t", "dummy", "-s", "files=three" }, "{\"source_config\":{\"source_type\":\"dummy\",\"files\":\"three\"}}", NULL },
	{ { "-t", "http", "-s", "url=http://h/", "-s", "tls.verify=false", "-s", "auth.type=basic", "-s", "tls.min_version=1.3", "-s", "headers.X-K=v" },
	    "{\"source_config\":{\"source_type\":\"http\",\"url\":\"http://h/\",\"tls\":{\"verify\":false,\"min_version\":\"1.3\"},"
	    "\"auth\":{\"type\":\"basic\"},\"headers\":{\"X-K\":\"v\"}}}", NULL },
	{ { "-g", "*.csv" }, NULL, "--type is missing" },
	{ { "-t", "dummy", "-p", "\xff" }, NULL, "--path: not UTF-8" },
	{ { "-t", "dummy", "-g", "a", "-g", "\xc0\xaf" }, NULL, "--pattern: not UTF-8" },
	{ { "-t", "dummy", "-s", "files" }, NULL, "not field=value" },
	{ { "-t", "dummy", "-s", "=3" }, NULL, "not field=value" },
	{ { "-t", "dummy", "-s", "a\":1,\"b=3" }, NULL, "not field=value" },
	{ { "-t", "dummy", "-m", "{\"a\":1,}" }, NULL, "comma" },
	{ { "-t", "dummy", "-m", "{} {}" }, NULL, "" },
};

START_TEST(jobs_from_options)
{
	struct ctl c = { .out = stdout, .err = stderr };
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;
	char *argv[WORDS + 3] = { xstrdup("ctl"), xstrdup("push") };
	int argc = 2;

	for (; argc < WORDS + 2 && made[_i].argv[argc - 2]; argc++)
		argv[argc] = xstrdup(made[_i].argv[argc - 2]);
	ck_assert_msg(ctl_parse(&c, argc, argv, &e) == 0, "%s", e.text);
	if (made[_i].want) {
		ck_assert_msg(push_from_options(&c, &b, &e) == 0, "%s", e.text);
		ck_assert_str_eq(buf_str(&b), made[_i].want);
	} else {
		ck_assert_int_eq(push_from_options(&c, &b, &e), -1);
		ck_assert_msg(strstr(e.text, made[_i].error) && *e.text, "%s", e.text);
	}
	buf_release(&b);
	while (argc > 0)
		free(argv[--argc]);
}
END_TEST

static const struct { const char *text; int jobs; const char *error; } texts[] = {
	{ "{\"job_id\":\"a\"}", 1, NULL },
	{ "{\n\"job_id\":\n\"a\"}\n", 1, NULL },
	{ "{\"job_id\":\"a\"}\n{\"job_id\":\"b\"}\n", 2, NULL },
	{ "{\"job_id\":\"a\"}\r\n\r\n  \n{\"job_id\":\"b\"}", 2, NULL },
	{ "", -1, "no job" },
	{ " \n\t\n", -1, "no job" },
	{ "{\"job_id\":\"a\"}\n{\"job_id\":}\n", -1, "line 2" },
	{ "{\"job_id\":\"a\"}\n{\"a\":1}{\"b\":1}\n", -1, "line 2" },
	{ "{\"job_id\":\n\"a\",}\n", -1, "byte 15" },
	{ "not json", -1, "byte 0" },
};

START_TEST(jobs_from_texts)
{
	struct push_list l = { 0 };
	struct err e = ERR_INIT;
	int rc = push_from_text(texts[_i].text, strlen(texts[_i].text), &l, &e);

	if (texts[_i].jobs < 0) {
		ck_assert_int_eq(rc, -1);
		ck_assert_msg(strstr(e.text, texts[_i].error) != NULL, "%s", e.text);
	} else {
		ck_assert_msg(rc == 0, "%s", e.text);
		ck_assert_uint_eq(l.n, (size_t)texts[_i].jobs);
		for (size_t i = 0; i < l.n; i++)
			ck_assert_uint_eq(strlen(l.job[i]), l.len[i]);
	}
	push_list_release(&l);
}
END_TEST

static const struct { const char *in, *suffix, *want, *id; } stamps[] = {
	{ "{ \"job_id\": \"a\" }", NULL, "{ \"job_id\": \"a\" }", "a" },
	{ "{ \"job_id\": \"a\", \"n\": 1.50 }", "-7", "{\"job_id\":\"a-7\",\"n\":1.50}", "a-7" },
	{ "{\"n\":1,\"job_id\":\"a\",\"s\":\"a/b\"}", "-1", "{\"n\":1,\"job_id\":\"a-1\",\"s\":\"a/b\"}", "a-1" },
	{ "{\"job_id\":7}", "-1", "{\"job_id\":7}", "" },
	{ "[1]", NULL, NULL, NULL },
	{ "{", NULL, NULL, NULL },
	{ "{\"a\":1,\"a\":2}", "-1", NULL, NULL },
};

START_TEST(ids_are_stamped)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	char *id = NULL;
	int rc = push_stamp(stamps[_i].in, strlen(stamps[_i].in), stamps[_i].suffix, &b, &id, &e);

	if (stamps[_i].want) {
		ck_assert_int_eq(rc, 0);
		ck_assert_str_eq(buf_str(&b), stamps[_i].want);
		ck_assert_str_eq(id, stamps[_i].id);
	} else {
		ck_assert_int_eq(rc, -1);
		ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
	}
	free(id);
	buf_release(&b);
}
END_TEST

START_TEST(a_job_without_an_id_gets_a_random_one)
{
	struct buf a = BUF_INIT, b = BUF_INIT;
	struct err e = ERR_INIT;
	char *x, *y;

	ck_assert_int_eq(push_stamp("{}", 2, NULL, &a, &x, &e), 0);
	ck_assert_int_eq(push_stamp("{}", 2, NULL, &b, &y, &e), 0);
	ck_assert_uint_eq(strlen(x), 36);
	ck_assert_int_eq(x[14], '4');
	ck_assert(strchr("89ab", x[19]) != NULL);
	ck_assert_str_ne(x, y);
	ck_assert_ptr_nonnull(strstr(buf_str(&a), x));
	free(x);
	/* what the user wrote keeps its place */
	ck_assert_int_eq(push_stamp("\n{ \"n\": [1.50] }\n", 17, NULL, &a, &x, &e), 0);
	ck_assert_ptr_nonnull(strstr(buf_str(&a), x));
	ck_assert_int_eq(strncmp(buf_str(&a), "\n{ \"n\": [1.50] ,\"job_id\":\"", 26), 0);
	ck_assert_str_eq(buf_str(&a) + a.len - 3, "\"}\n");
	free(x);
	free(y);
	buf_release(&a);
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ctl_push");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_loop_test(t, jobs_from_options, 0, ARRAY_LEN(made));
	tcase_add_loop_test(t, jobs_from_texts, 0, ARRAY_LEN(texts));
	tcase_add_loop_test(t, ids_are_stamped, 0, ARRAY_LEN(stamps));
	tcase_add_test(t, a_job_without_an_id_gets_a_random_one);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
