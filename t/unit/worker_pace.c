/*
 * worker_pace.c - the rate of one task's requests: never more than its bucket gave, and all of that.
 */
#include "t/unit/worker_mini.h"
#include "common/banned.h"

#define MS INT64_C(1000000)

static struct setup setup;
static struct task_spec task;
static struct channel channel;
static struct run run;

static void
before(void)
{
	setup_init(&setup);
	mini_task(&task, SOURCE_HTTP, "");
	run = (struct run){ .setup = &setup, .task = &task, .ch = &channel };
}

static void
after(void)
{
	task_spec_release(&task);
	setup_release(&setup);
}

static void
rate(int64_t ops, int64_t burst)
{
	mini_set(&task, SF_NETWORK_RATE_LIMIT_OPS, ops);
	mini_set(&task, SF_NETWORK_RATE_LIMIT_BURST, burst);
	pace_begin(&run);
}

/* As many as may start at once. */
static unsigned
at_once(int64_t *wait)
{
	unsigned n = 0;

	while (n < 10000 && pace_take(&run, 1, wait))
		n++;
	return n;
}

START_TEST(no_limit)
{
	int64_t wait = 1;

	pace_begin(&run);
	ck_assert(!pace_on(&run));
	ck_assert_uint_eq(at_once(&wait), 10000);
	ck_assert_int_eq(wait, 0);
	pace_owe(&run);
	ck_assert(pace_take(&run, 1, &wait));
}
END_TEST

/* Rates so slow that no time that the test takes counts: what may start at once, and how long the next one waits. */
static const struct { int64_t ops, burst; unsigned n; int64_t wait_ms; } rows[] = {
	{ 1, 1, 1, 1000 }, { 1, 5, 5, 1000 }, { 1, 0, 1, 1000 }, { 3, 2, 2, 333 }, { 20, 0, 2, 50 }, { 2, 1000, 1000, 500 },
};

START_TEST(bursts)
{
	int64_t began = run_clock(), wait, spent;

	rate(rows[_i].ops, rows[_i].burst);
	ck_assert(pace_on(&run));
	ck_assert_uint_eq(at_once(&wait), rows[_i].n);
	spent = run_clock() - began;
	ck_assert_int_le(wait, rows[_i].wait_ms * MS + MS);
	ck_assert_int_ge(wait, rows[_i].wait_ms * MS - spent);
	/* A request that was made unasked is waited for, too. */
	pace_owe(&run);
	ck_assert(!pace_take(&run, 1, &wait));
	spent = run_clock() - began;
	ck_assert_int_le(wait, 2 * (rows[_i].wait_ms * MS + MS));
	ck_assert_int_ge(wait, 2 * rows[_i].wait_ms * MS - spent);
}
END_TEST

/* At every moment n <= burst + rate * t. */
START_TEST(law)
{
	const int64_t each = 1000 * MS / 2000;
	int64_t began, wait;

	rate(2000, 3);
	began = run_clock();
	for (unsigned n = 0; n < 400;) {
		if (pace_take(&run, 1, &wait)) {
			ck_assert_int_le(++n, 3 + (run_clock() - began) / each);
			continue;
		}
		ck_assert_int_gt(wait, 0);
		ck_assert_int_le(wait, each);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_pace");
	TCase *t = tcase_create("pace");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_test(t, no_limit);
	tcase_add_loop_test(t, bursts, 0, (int)ARRAY_LEN(rows));
	tcase_add_test(t, law);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
