/*
 * common_units.c - unit of durations, sizes, numbers and times: what is taken, what is refused and leaves the
 * result alone, and that what is written is read back.
 */
#include <check.h>
#include <string.h>
#include <time.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define UNTOUCHED INT64_C(-424242)
#define S INT64_C(1000000000)

typedef int read_fn(const char *, int64_t *);

static const struct {
	read_fn *fn;
	const char *in;
	int64_t out;   /* UNTOUCHED: refused */
} rows[] = {
	{ units_duration, "0", 0 }, { units_duration, "30", 30000 }, { units_duration, "250ms", 250 },
	{ units_duration, "30s", 30000 }, { units_duration, "5m", 300000 }, { units_duration, "2h", 7200000 },
	{ units_duration, "1d", 86400000 }, { units_duration, "1.5s", 1500 }, { units_duration, "0.25", 250 },
	{ units_duration, "1.5h", 5400000 }, { units_duration, "0.001s", 1 }, { units_duration, "0.5ms", UNTOUCHED },
	{ units_duration, "0.0005s", UNTOUCHED }, { units_duration, "", UNTOUCHED }, { units_duration, "s", UNTOUCHED },
	{ units_duration, "-1s", UNTOUCHED }, { units_duration, "+1s", UNTOUCHED }, { units_duration, " 1s", UNTOUCHED },
	{ units_duration, "1s ", UNTOUCHED }, { units_duration, "1 s", UNTOUCHED }, { units_duration, "1S", UNTOUCHED },
	{ units_duration, "1.s", UNTOUCHED }, { units_duration, ".5s", UNTOUCHED }, { units_duration, "1e3", UNTOUCHED },
	{ units_duration, "1h30m", UNTOUCHED }, { units_duration, "01s", UNTOUCHED }, { units_duration, "0x10", UNTOUCHED },
	{ units_duration, "9223372036854775807ms", INT64_MAX }, { units_duration, "9223372036854775808ms", UNTOUCHED },
	{ units_duration, "106751991168d", UNTOUCHED }, { units_duration, "99999999999999999999", UNTOUCHED },
	{ units_duration, "1.0000000000s", UNTOUCHED }, { units_duration, "1.000000000s", 1000 },
	{ units_size, "0", 0 }, { units_size, "512", 512 }, { units_size, "10KiB", 10240 },
	{ units_size, "64MiB", 67108864 }, { units_size, "4GiB", INT64_C(4294967296) },
	{ units_size, "1TiB", INT64_C(1099511627776) }, { units_size, "10KB", 10000 }, { units_size, "1MB", 1000000 },
	{ units_size, "2GB", INT64_C(2000000000) }, { units_size, "3TB", INT64_C(3000000000000) },
	{ units_size, "4k", UNTOUCHED }, { units_size, "4K", UNTOUCHED }, { units_size, "1.5MiB", UNTOUCHED },
	{ units_size, "-1", UNTOUCHED }, { units_size, "1 MiB", UNTOUCHED }, { units_size, "1mib", UNTOUCHED },
	{ units_size, "", UNTOUCHED }, { units_size, "KiB", UNTOUCHED }, { units_size, "8388607TiB", 8388607LL << 40 },
	{ units_size, "8388608TiB", UNTOUCHED }, { units_size, "010", UNTOUCHED }, { units_size, "10KiBx", UNTOUCHED },
	{ units_int, "0", 0 }, { units_int, "-7", -7 }, { units_int, "9223372036854775807", INT64_MAX },
	{ units_int, "-9223372036854775808", INT64_MIN }, { units_int, "9223372036854775808", UNTOUCHED },
	{ units_int, "-9223372036854775809", UNTOUCHED }, { units_int, "", UNTOUCHED }, { units_int, "-", UNTOUCHED },
	{ units_int, "+1", UNTOUCHED }, { units_int, "0x1", UNTOUCHED }, { units_int, "1_0", UNTOUCHED },
	{ units_int, " 1", UNTOUCHED }, { units_int, "1 ", UNTOUCHED }, { units_int, "01", UNTOUCHED },
	{ units_int, "-01", UNTOUCHED }, { units_int, "1.0", UNTOUCHED }, { units_int, "1e2", UNTOUCHED },
	{ units_int, "--1", UNTOUCHED }, { units_int, "\xd9\xa1", UNTOUCHED }, { units_int, "1\n", UNTOUCHED },
	{ units_time, "1970-01-01T00:00:00Z", 0 }, { units_time, "2026-01-02T03:04:05.678Z", 1767323045678 * INT64_C(1000000) },
	{ units_time, "2026-01-02T03:04:05+02:00", 1767315845 * S }, { units_time, "2026-01-02T03:04:05-23:59", 1767409385 * S },
	{ units_time, "2026-01-02t03:04:05z", 1767323045 * S }, { units_time, "2026-01-02T03:04:05-00:00", 1767323045 * S },
	{ units_time, "1970-01-01T00:00:00+00:01", -60 * S }, { units_time, "2000-02-29T12:00:00Z", 951825600 * S },
	{ units_time, "2024-02-29T00:00:00.123456789Z", 1709164800123456789 }, { units_time, "2023-02-29T00:00:00Z", UNTOUCHED },
	{ units_time, "2100-02-29T00:00:00Z", UNTOUCHED }, { units_time, "2026-04-31T00:00:00Z", UNTOUCHED },
	{ units_time, "2026-00-10T00:00:00Z", UNTOUCHED }, { units_time, "2026-13-10T00:00:00Z", UNTOUCHED },
	{ units_time, "2026-01-00T00:00:00Z", UNTOUCHED }, { units_time, "2026-01-01T24:00:00Z", UNTOUCHED },
	{ units_time, "2026-01-01T00:60:00Z", UNTOUCHED }, { units_time, "2026-01-01T00:00:61Z", UNTOUCHED },
	{ units_time, "2016-12-31T23:59:60Z", 1483228799999999999 }, { units_time, "2017-01-01T00:59:60+01:00", 1483228799999999999 },
	{ units_time, "2016-12-31T23:59:60.5Z", 1483228799999999999 }, { units_time, "2016-12-31T22:59:60Z", UNTOUCHED },
	{ units_time, "1969-12-31T23:59:59Z", UNTOUCHED }, { units_time, "2026-01-02T03:04:05", UNTOUCHED },
	{ units_time, "2026-01-02 03:04:05Z", UNTOUCHED }, { units_time, "2026-01-02T03:04Z", UNTOUCHED },
	{ units_time, "2026-1-2T03:04:05Z", UNTOUCHED }, { units_time, "20260102T030405Z", UNTOUCHED },
	{ units_time, "2026-01-02T03:04:05.Z", UNTOUCHED }, { units_time, "2026-01-02T03:04:05.1234567890Z", UNTOUCHED },
	{ units_time, "2026-01-02T03:04:05,5Z", UNTOUCHED }, { units_time, "2026-01-02T03:04:05+0200", UNTOUCHED },
	{ units_time, "2026-01-02T03:04:05+24:00", UNTOUCHED }, { units_time, "2026-01-02T03:04:05+02:60", UNTOUCHED },
	{ units_time, "2026-01-02T03:04:05+02", UNTOUCHED }, { units_time, "2026-01-02T03:04:05Z ", UNTOUCHED },
	{ units_time, " 2026-01-02T03:04:05Z", UNTOUCHED }, { units_time, "2026-01-02T03:04:05ZZ", UNTOUCHED },
	{ units_time, "-026-01-02T03:04:05Z", UNTOUCHED }, { units_time, "12026-01-02T03:04:05Z", UNTOUCHED },
	{ units_time, "", UNTOUCHED }, { units_time, "2026", UNTOUCHED }, { units_time, "2026-01-02T03:04:0", UNTOUCHED },
	{ units_time, "2262-04-11T23:47:16.854775807Z", INT64_MAX }, { units_time, "2262-04-11T23:47:16.854775806Z", INT64_MAX - 1 },
	{ units_time, "9999-12-31T23:59:59Z", INT64_MAX },
};

START_TEST(table)
{
	int64_t v = UNTOUCHED;
	int rc = rows[_i].fn(rows[_i].in, &v);

	ck_assert_msg(v == rows[_i].out && rc == (rows[_i].out == UNTOUCHED ? -1 : 0), "'%s': %d, %lld",
	    rows[_i].in, rc, (long long)v);
}
END_TEST

START_TEST(words)
{
	static const struct {
		const char *in;
		int out; /* 7: refused */
	} t[] = {
		{ "true", 1 }, { "yes", 1 }, { "on", 1 }, { "false", 0 }, { "no", 0 }, { "off", 0 }, { "", 7 },
		{ "True", 7 }, { "y", 7 }, { "1", 7 }, { "true ", 7 }, { "tru", 7 }, { "onoff", 7 },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		int v = 7, rc = units_bool(t[i].in, &v);

		ck_assert_msg(v == t[i].out && rc == (v == 7 ? -1 : 0), "'%s'", t[i].in);
	}
}
END_TEST

/* libc's calendar is the judge: every day from 1970 to 2261, each at another second. */
START_TEST(calendar)
{
	for (int64_t day = 0; day < 106750; day++) {
		time_t t = (time_t)(day * 86400 + day * 7919 % 86400);
		char want[UNITS_TEXT], got[UNITS_TEXT];
		int64_t back;
		struct tm tm;

		ck_assert_ptr_nonnull(gmtime_r(&t, &tm));
		ck_assert_uint_eq(strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%SZ", &tm), 20);
		units_time_text(t * S + 999999999, 0, got);
		ck_assert_str_eq(got, want);
		ck_assert_int_eq(units_time(want, &back), 0);
		ck_assert_int_eq(back, t * S);
	}
}
END_TEST

START_TEST(time_texts)
{
	static const struct {
		int64_t ns;
		int digits;
		const char *text;
	} t[] = {
		{ 0, 0, "1970-01-01T00:00:00Z" }, { 0, 3, "1970-01-01T00:00:00.000Z" },
		{ 1767323045678901234, 0, "2026-01-02T03:04:05Z" }, { 1767323045678901234, 3, "2026-01-02T03:04:05.678Z" },
		{ 1767323045678901234, 6, "2026-01-02T03:04:05.678901Z" },
		{ 1767323045678901234, 9, "2026-01-02T03:04:05.678901234Z" }, { -1, 9, "1969-12-31T23:59:59.999999999Z" },
		{ -S, 3, "1969-12-31T23:59:59.000Z" }, { INT64_MAX, 9, "2262-04-11T23:47:16.854775807Z" },
		{ INT64_MIN, 9, "1677-09-21T00:12:43.145224192Z" }, { -2203891200 * S, 0, "1900-03-01T00:00:00Z" },
		{ -2203891200 * S - 1, 0, "1900-02-28T23:59:59Z" },
	};
	char got[UNITS_TEXT];

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		size_t n = units_time_text(t[i].ns, t[i].digits, got);

		ck_assert_str_eq(got, t[i].text);
		ck_assert_uint_eq(n, strlen(got));
	}
}
END_TEST

typedef void text_fn(int64_t, char *);

START_TEST(texts)
{
	static const struct {
		text_fn *fn;
		int64_t v;
		const char *text;
	} t[] = {
		{ units_duration_text, 0, "0s" }, { units_duration_text, 1, "1ms" }, { units_duration_text, 1500, "1500ms" },
		{ units_duration_text, 300000, "5m" }, { units_duration_text, 90000, "90s" },
		{ units_duration_text, 7200000, "2h" }, { units_duration_text, 172800000, "2d" },
		{ units_duration_text, -300000, "-5m" }, { units_duration_text, INT64_MAX, "9223372036854775807ms" },
		{ units_duration_text, INT64_MIN, "-9223372036854775808ms" }, { units_size_text, 0, "0" },
		{ units_size_text, 1, "1" }, { units_size_text, 1023, "1023" }, { units_size_text, 1024, "1KiB" },
		{ units_size_text, 1048576, "1MiB" }, { units_size_text, 1000000, "1MB" }, { units_size_text, 1536, "1536" },
		{ units_size_text, INT64_C(3) << 30, "3GiB" }, { units_size_text, INT64_MAX, "9223372036854775807" },
	};
	char got[UNITS_TEXT];

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		int64_t back = UNTOUCHED;

		t[i].fn(t[i].v, got);
		ck_assert_str_eq(got, t[i].text);
		if (t[i].v < 0)
			continue;
		ck_assert_int_eq((t[i].fn == units_size_text ? units_size : units_duration)(got, &back), 0);
		ck_assert_int_eq(back, t[i].v);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_units");
	TCase *t = tcase_create("units");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, table, 0, (int)ARRAY_LEN(rows));
	tcase_add_test(t, words);
	tcase_add_test(t, calendar);
	tcase_add_test(t, time_texts);
	tcase_add_test(t, texts);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
