/*
 * master_rates.c - unit tests of the buckets of rates.c: what they give over a span of time, and what a reload leaves.
 */
#include <check.h>

#include "common/xalloc.h"
#include "master/master.h"

#define SECOND INT64_C(1000000000)
#define START (1000 * SECOND)

START_TEST(no_limit)
{
	struct bucket b = { .full_ns = 0 };
	struct rate r = rate_of(0, SECOND);

	ck_assert_uint_eq(bucket_has(&b, r, START), UINT32_MAX);
	ck_assert_int_eq(bucket_wait(&b, r, START), 0);
	bucket_take(&b, r, START, 1000);
	ck_assert_uint_eq(b.given, 0);
	b.short_ms = 1;
	ck_assert(!bucket_short(&b, r, 2));
}
END_TEST

static const struct { int64_t requests, span; uint32_t burst; } rows[] = {
	{ 1, 1, 1 }, { 10, 1, 1 }, { 19, 1, 1 }, { 20, 1, 2 }, { 1000000, 1, 100000 }, { 1, 60, 1 }, { 7, 60, 1 }, { 300, 60, 30 }, { 10000000, 60, 1000000 },
};

/* Asked every now and then, for ten spans: no moment has more than burst + rate * t. */
START_TEST(law)
{
	int64_t requests = rows[_i].requests, span = rows[_i].span * SECOND, step = span / 137;
	struct rate r = rate_of(requests, span);
	struct bucket b = { .full_ns = 0 };

	ck_assert_uint_eq(bucket_has(&b, r, START), rows[_i].burst);
	for (int64_t at = 0; at <= 10 * span; at += step) {
		uint32_t has = bucket_has(&b, r, START + at);

		ck_assert_int_eq(!has, bucket_wait(&b, r, START + at) > 0);
		/* Now some of it, now all. */
		bucket_take(&b, r, START + at, at / step % 3 ? has : has / 2);
		ck_assert_uint_le(b.given, rows[_i].burst + (uint64_t)((double)at * (double)requests / (double)span));
	}
}
END_TEST

/* Who waits as long as it is told gets one then, and not a moment before: in the end it had all that the rate gives. */
START_TEST(waits)
{
	struct rate r = rate_of(rows[_i].requests, rows[_i].span * SECOND);
	struct bucket b = { .full_ns = 0 };
	int64_t at = START;

	bucket_take(&b, r, at, rows[_i].burst);
	for (int i = 0; i < 1000; i++) {
		int64_t wait = bucket_wait(&b, r, at);

		ck_assert_int_gt(wait, 0);
		ck_assert_uint_eq(bucket_has(&b, r, at + wait - 1), 0);
		at += wait;
		ck_assert_uint_eq(bucket_has(&b, r, at), 1);
		bucket_take(&b, r, at, 1);
	}
	ck_assert_int_eq(at - START, 1000 * r.each_ns);
}
END_TEST

/* Of a rate that was lower nothing is left but one bucket. */
START_TEST(reload)
{
	struct rate slow = rate_of(1, 60 * SECOND), fast = rate_of(1000, SECOND);
	struct bucket b = { .full_ns = 0 };

	bucket_take(&b, slow, START, 1);
	ck_assert_int_gt(bucket_wait(&b, slow, START), 59 * SECOND);
	ck_assert_int_le(bucket_wait(&b, fast, START), SECOND);
}
END_TEST

START_TEST(shortness)
{
	struct rate r = rate_of(10, SECOND);
	struct bucket b = { .full_ns = 0 };

	ck_assert(!bucket_short(&b, r, 5000));
	b.short_ms = 5000;
	ck_assert(bucket_short(&b, r, 5000));
	ck_assert(bucket_short(&b, r, 5999));
	ck_assert(!bucket_short(&b, r, 6000));
	ck_assert_uint_eq(rates_tasks(1), 1);
	ck_assert_uint_eq(rates_tasks(2), 1);
	ck_assert_uint_eq(rates_tasks(3), 1);
	ck_assert_uint_eq(rates_tasks(8), 4);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_rates");
	TCase *t = tcase_create("rates");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, no_limit);
	tcase_add_loop_test(t, law, 0, (int)ARRAY_LEN(rows));
	tcase_add_loop_test(t, waits, 0, (int)ARRAY_LEN(rows));
	tcase_add_test(t, reload);
	tcase_add_test(t, shortness);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
