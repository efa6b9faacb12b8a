/*
 * ctl_table.c - unit tests of the admin tool's lists and of its command line.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/ctl/ctl.h"

#define WORDS 10

START_TEST(every_verb_is_found_by_its_words)
{
	for (int v = 0; v < CTL_VERB__MAX; v++) {
		char *copy = xstrdup(ctl_cmds[v].name), *save = NULL, *words[4] = { NULL };
		size_t n = 0, used = 0;

		for (char *w = strtok_r(copy, " ", &save); w && n < 4; w = strtok_r(NULL, " ", &save))
			words[n++] = w;
		ck_assert_int_eq(ctl_find(words, n, &used), v);
		ck_assert_uint_eq(used, n);
		free(copy);
	}
}
END_TEST

START_TEST(help_tells_of_every_option)
{
	int verb = -1;

	for (size_t i = 0; i < ctl_n_opts; i++) {
		struct buf b = BUF_INIT;
		char *want;

		if (!ctl_opts[i].name) {
			verb = ctl_opts[i].verb;
			continue;
		}
		want = xasprintf("--%s", ctl_opts[i].name);
		if (ctl_opts[i].verb == -1)
			ctl_usage(&b);
		else
			ctl_help((enum ctl_verb)verb, &b);
		ck_assert_msg(strstr(buf_str(&b), want) != NULL, "%s", want);
		ck_assert_uint_gt(strlen(ctl_opts[i].help), 5);
		free(want);
		buf_release(&b);
	}
}
END_TEST

/* A letter or name that stands twice in a verb would hide one of them. */
START_TEST(names_and_letters_are_unique)
{
	for (size_t i = 0; i < ctl_n_opts; i++)
		for (size_t k = i + 1; ctl_opts[i].name && k < ctl_n_opts && ctl_opts[k].name; k++) {
			ck_assert_msg(strcmp(ctl_opts[i].name, ctl_opts[k].name), "%s", ctl_opts[i].name);
			ck_assert_msg(!ctl_opts[i].letter || ctl_opts[i].letter != ctl_opts[k].letter, "-%c", ctl_opts[i].letter);
		}
}
END_TEST

START_TEST(usage_and_manual_tell_of_every_verb)
{
	struct buf usage = BUF_INIT, manual = BUF_INIT;

	ctl_usage(&usage);
	ctl_mdoc(&manual);
	for (int v = 0; v < CTL_VERB__MAX; v++) {
		char *in_usage = xasprintf("\n  %s ", ctl_cmds[v].name), *in_manual = xasprintf("\n.It Cm %s", ctl_cmds[v].name);

		ck_assert_msg(strstr(buf_str(&usage), in_usage) != NULL, "%s", in_usage);
		ck_assert_msg(strstr(buf_str(&manual), in_manual) != NULL, "%s", in_manual);
		free(in_usage);
		free(in_manual);
	}
	buf_release(&usage);
	buf_release(&manual);
}
END_TEST

START_TEST(the_completion_file_is_what_the_list_gives)
{
	FILE *f = fopen("conf/completion/iis-pollerctl.bash", "r");
	struct buf want = BUF_INIT;
	char *got;

	ck_assert_msg(f != NULL, "run from the top of the tree");
	ctl_completion_bash(&want);
	got = xcalloc(1, want.len + 2);
	ck_assert_uint_eq(fread(got, 1, want.len + 1, f), want.len);
	ck_assert_msg(!memcmp(got, want.p, want.len), "make it anew: iis-pollerctl completion bash");
	fclose(f);
	free(got);
	buf_release(&want);
}
END_TEST

static const struct { const char *word, *near; } nearest[] = {
	{ "pusch", "push" }, { "pign", "ping" }, { "worker", "workers" }, { "stauts", "status" }, { "crash", "crashes" },
	{ "xyzzy-plugh", NULL },
};

START_TEST(did_you_mean)
{
	const char *got = ctl_nearest(nearest[_i].word);

	if (nearest[_i].near)
		ck_assert_str_eq(got ? got : "nothing", nearest[_i].near);
	else
		ck_assert_ptr_null(got);
}
END_TEST

/* ---- command lines ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *argv[WORDS];
	const char *verb;           /* NULL: an error */
	const char *option, *value; /* one of those given; value NULL: not given */
	const char *arg;
	const char *error;          /* in the message */
} lines[] = {
	{ { "ping" }, "ping", "json", NULL, NULL, NULL },
	{ { "--json", "ping" }, "ping", "json", "", NULL, NULL },
	{ { "ping", "--json" }, "ping", "json", "", NULL, NULL },
	{ { "-J", "-c", "file", "ping" }, "ping", "config", "file", NULL, NULL },
	{ { "-cfile", "ping" }, "ping", "config", "file", NULL, NULL },
	{ { "--config=file", "ping" }, "ping", "config", "file", NULL, NULL },
	{ { "--config", "file", "ping" }, "ping", "config", "file", NULL, NULL },
	{ { "job", "cancel", "x" }, "job cancel", "json", NULL, "x", NULL },
	{ { "jobs", "-s", "running" }, "jobs", "state", "running", NULL, NULL },
	{ { "peek", "events", "-fn", "3" }, "peek", "last", "3", "events", NULL },
	{ { "peek", "events", "-fn3" }, "peek", "follow", "", "events", NULL },
	{ { "peek", "-n", "3", "-n", "4", "events" }, "peek", "last", "4", "events", NULL },
	{ { "push", "--set", "files=3" }, "push", "set", "files=3", NULL, NULL },
	{ { "push", "-" }, "push", "type", NULL, "-", NULL },
	{ { "push", "--", "--odd" }, "push", "type", NULL, "--odd", NULL },
	{ { "push", "--metadata", "-1" }, "push", "metadata", "-1", NULL, NULL },
	{ { "pusch" }, NULL, NULL, NULL, NULL, "did you mean push?" },
	{ { "job" }, NULL, NULL, NULL, NULL, "unknown verb job" },
	{ { "ping", "--jsn" }, NULL, NULL, NULL, NULL, "did you mean --json?" },
	{ { "-n", "3", "peek", "jobs" }, NULL, NULL, NULL, NULL, "unknown option -n" },
	{ { "ping", "--json=1" }, NULL, NULL, NULL, NULL, "takes no value" },
	{ { "ping", "-c" }, NULL, NULL, NULL, NULL, "wants a value" },
	{ { "ping", "--config" }, NULL, NULL, NULL, NULL, "wants a value" },
	{ { "ping", "now" }, NULL, NULL, NULL, NULL, "one argument too many: now" },
	{ { "peek", "jobs", "events" }, NULL, NULL, NULL, NULL, "one argument too many: events" },
};

START_TEST(command_lines)
{
	struct ctl c = { .out = stdout, .err = stderr };
	struct err e = ERR_INIT;
	char *argv[WORDS + 2] = { xstrdup("iis-pollerctl") };
	int argc = 1, rc;

	for (; argc <= WORDS && lines[_i].argv[argc - 1]; argc++)
		argv[argc] = xstrdup(lines[_i].argv[argc - 1]);
	rc = ctl_parse(&c, argc, argv, &e);
	if (lines[_i].verb) {
		const char *value;

		ck_assert_msg(rc == 0, "%s", e.text);
		ck_assert_str_eq(ctl_cmds[c.verb].name, lines[_i].verb);
		value = ctl_opt(&c, lines[_i].option);
		ck_assert_str_eq(value ? value : "not given", lines[_i].value ? lines[_i].value : "not given");
		ck_assert_uint_eq(c.n_args, lines[_i].arg ? 1 : 0);
		if (lines[_i].arg)
			ck_assert_str_eq(c.arg[0], lines[_i].arg);
	} else {
		ck_assert_int_eq(rc, -1);
		ck_assert_msg(strstr(e.text, lines[_i].error) != NULL, "%s", e.text);
	}
	while (argc > 0)
		free(argv[--argc]);
}
END_TEST

START_TEST(repeated_options_keep_their_order)
{
	char word[][10] = { "ctl", "push", "-g", "a", "--pattern", "b", "-gc" };
	char *argv[] = { word[0], word[1], word[2], word[3], word[4], word[5], word[6] };
	struct ctl c = { .out = stdout, .err = stderr };
	struct err e = ERR_INIT;

	ck_assert_int_eq(ctl_parse(&c, 7, argv, &e), 0);
	ck_assert_str_eq(ctl_opt_nth(&c, "pattern", 0), "a");
	ck_assert_str_eq(ctl_opt_nth(&c, "pattern", 1), "b");
	ck_assert_str_eq(ctl_opt_nth(&c, "pattern", 2), "c");
	ck_assert_ptr_null(ctl_opt_nth(&c, "pattern", 3));
}
END_TEST

START_TEST(too_many_options_are_refused)
{
	static char word[] = "--json", verb[] = "ping";
	char *argv[CTL_GIVEN_MAX + 3];
	struct ctl c = { .out = stdout, .err = stderr };
	struct err e = ERR_INIT;

	argv[0] = argv[1] = verb;
	for (int i = 2; i < CTL_GIVEN_MAX + 3; i++)
		argv[i] = word;
	ck_assert_int_eq(ctl_parse(&c, CTL_GIVEN_MAX + 2, argv, &e), 0);
	memset(&c, 0, sizeof(c));
	ck_assert_int_eq(ctl_parse(&c, CTL_GIVEN_MAX + 3, argv, &e), -1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ctl_table");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, every_verb_is_found_by_its_words);
	tcase_add_test(t, help_tells_of_every_option);
	tcase_add_test(t, names_and_letters_are_unique);
	tcase_add_test(t, usage_and_manual_tell_of_every_verb);
	tcase_add_test(t, the_completion_file_is_what_the_list_gives);
	tcase_add_loop_test(t, did_you_mean, 0, ARRAY_LEN(nearest));
	tcase_add_loop_test(t, command_lines, 0, ARRAY_LEN(lines));
	tcase_add_test(t, repeated_options_keep_their_order);
	tcase_add_test(t, too_many_options_are_refused);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
