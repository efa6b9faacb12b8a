/*
 * master_journal.c - unit tests of journal.c: deaths are counted across processes, and only of what was in hand.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/master.h"

static char dir[64];

static void
setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/journal-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void
teardown(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/journal", dir);
	unlink(path);
	rmdir(dir);
}

/* A process that dies by SIGKILL, holding what `hold` says (-1: nothing). */
static void
die(int64_t hold)
{
	struct err e = ERR_INIT;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct journal *j = journal_open(dir, "topic group", &e);
		struct origin other = { .partition = 1, .offset = 99 }, o = { .partition = 3, .offset = hold };

		if (!j)
			_exit(1);
		journal_hold(j, &other);
		journal_clear(j);
		if (hold >= 0)
			journal_hold(j, &o);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

START_TEST(counts_deaths_of_what_was_in_hand)
{
	struct err e = ERR_INIT;
	struct journal *j;

	die(7);
	die(-1);
	die(7);
	j = journal_open(dir, "topic group", &e);
	ck_assert_ptr_nonnull(j);
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 3, .offset = 7 }), 2);
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 3, .offset = 8 }), 0);
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .topic = "another", .partition = 3, .offset = 7 }), 0);
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 1, .offset = 99 }), 0);
	journal_forget(j, &(struct origin){ .partition = 3, .offset = 7 });
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 3, .offset = 7 }), 0);
	journal_close(j);
}
END_TEST

START_TEST(another_topic_starts_empty)
{
	struct err e = ERR_INIT;
	struct journal *j;

	die(7);
	j = journal_open(dir, "other group", &e);
	ck_assert_ptr_nonnull(j);
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 3, .offset = 7 }), 0);
	journal_close(j);
}
END_TEST

START_TEST(more_deaths_than_rows_keep_the_newest)
{
	struct err e = ERR_INIT;
	struct journal *j;

	for (int i = 0; i < 70; i++)
		die(1000 + i);
	j = journal_open(dir, "topic group", &e);
	ck_assert_ptr_nonnull(j);
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 3, .offset = 1069 }), 1);
	ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 3, .offset = 1000 }), 0);
	journal_close(j);
}
END_TEST

START_TEST(two_at_once_are_refused)
{
	struct err e = ERR_INIT;
	struct journal *j = journal_open(dir, "topic group", &e);

	ck_assert_ptr_nonnull(j);
	ck_assert_ptr_null(journal_open(dir, "topic group", &e));
	ck_assert_int_eq(e.cls, ERR_CONFIG);
	ck_assert_ptr_nonnull(strstr(e.text, "another iis-pollerd"));
	journal_close(j);
}
END_TEST

START_TEST(damage_starts_empty)
{
	static const char *const contents[] = { "", "short", "this is not a journal at all, but it is long enough to be looked at" };
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
		char path[96];
		FILE *f;
		struct journal *j;

		snprintf(path, sizeof(path), "%s/journal", dir);
		f = fopen(path, "w");
		ck_assert_ptr_nonnull(f);
		fputs(contents[i], f);
		fclose(f);
		j = journal_open(dir, "topic group", &e);
		ck_assert_ptr_nonnull(j);
		ck_assert_uint_eq(journal_deaths(j, &(struct origin){ .partition = 0, .offset = 0 }), 0);
		journal_close(j);
	}
}
END_TEST

START_TEST(a_missing_directory_is_named)
{
	struct err e = ERR_INIT;

	ck_assert_ptr_null(journal_open("/nonexistent/state", "topic group", &e));
	ck_assert_ptr_nonnull(strstr(e.text, "/nonexistent/state"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("journal");
	TCase *tc = tcase_create("journal");
	SRunner *sr;
	int failed;

	log_set_level(LOG_ERROR);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, counts_deaths_of_what_was_in_hand);
	tcase_add_test(tc, another_topic_starts_empty);
	tcase_add_test(tc, more_deaths_than_rows_keep_the_newest);
	tcase_add_test(tc, two_at_once_are_refused);
	tcase_add_test(tc, damage_starts_empty);
	tcase_add_test(tc, a_missing_directory_is_named);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
