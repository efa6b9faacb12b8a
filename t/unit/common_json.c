/*
 * common_json.c - the strict scanner: what it takes, what it refuses, and where it says the fault is.
 *
 * Each row is scanned whole and cut at every byte into two feeds, which must give the same answer.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "common/banned.h"

struct row {
	const char *s;
	size_t n;
	long long pos;          /* of the fault */
	const char *pointer;
	const char *text;       /* a part of the message */
};

#define OK(s) { s, sizeof(s) - 1, 0, NULL, NULL }
#define NO(s, pos, pointer, text) { s, sizeof(s) - 1, pos, pointer, text }

static const struct row good[] = {
	OK("{}"), OK("[]"), OK(" \t\r\n{}\n "), OK("null"), OK("true"), OK("false"), OK("0"), OK("\"\""),
	OK("{\"a\":1,\"b\":{\"a\":1},\"c\":[{\"a\":1},{\"a\":1}]}"),
	OK("{\"\":0,\" \":0}"), OK("{\"a\":1,\"A\":1}"),
	OK("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"]"),
	OK("\"\\uD834\\uDD1E\\uFFFF\\uE000\\uD7FF\""), OK("\"\\u2028 \\u0001 \\u007f\""),
	OK("\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf \xed\x9f\xbf \xee\x80\x80\""),
	OK("\"\x7f\""), OK("[1,-1,10,0.5,-0.5,1e5,1E+5,1e-5,0e0,0.0,0.000,1.0]"),
	OK("9223372036854775807"), OK("-9223372036854775808"), OK("9007199254740993"),
	OK("1.2345678901234567"), OK("0.00012345678901234567"), OK("1.50000000000000000000000000000"),
	OK("100000000000000000000000.0"), OK("123456789012345670000e-3"), OK("1.7976931348623157e308"),
	OK("5e-324"), OK("0e99999999999999999999"), OK("0.1e1"), OK("1e00005"), OK("1e-0"),
};

static const struct row bad[] = {
	/* the same key twice */
	NO("{\"a\":1,\"a\":1}", 7, "/a", "twice"),
	NO("{\"a\":1,\"\\u0061\":2}", 7, "/a", "twice"),
	NO("{\"x\":[{\"b/c\":1,\"d\":2,\"b\\/c\":3}]}", 21, "/x/0/b~1c", "twice"),
	NO("{\"\":1,\"\":1}", 6, "/", "twice"),
	NO("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":1}", 18, "/\xf0\x9f\x98\x80", "twice"),
	/* NaN and infinities */
	NO("{\"a\":NaN}", 5, "/a", "NaN"), NO("[Infinity]", 1, "/0", "infinities"),
	NO("[-Infinity]", 2, "/0", "infinities"), NO("nan", 0, "", "words"), NO("[inf]", 1, "/0", "infinities"),
	/* comments */
	NO("{}// end", 2, "", "comments"), NO("/* a */{}", 0, "", "comments"), NO("{\"a\":1 # one\n}", 7, "/a", "comments"),
	NO("[1,/**/2]", 3, "/1", "comments"),
	/* quotes */
	NO("{'a':1}", 1, "", "double quotes"), NO("['a']", 1, "/0", "double quotes"), NO("{a:1}", 1, "", "unexpected 'a'"),
	NO("{\"a\":b}", 5, "/a", "unexpected 'b'"), NO("{\xe2\x80\x9c\x61\xe2\x80\x9d:1}", 1, "", "unexpected byte 0xe2"),
	/* trailing text */
	NO("{} {}", 3, "", "complete"), NO("{}x", 2, "", "complete"), NO("1 2", 2, "", "complete"),
	NO("{}\0", 2, "", "complete"), NO("[],", 2, "", "comma"), NO("{}}", 2, "", "complete"), NO("nullx", 4, "", "complete"),
	/* commas and colons */
	NO("[1,]", 3, "/1", "comma"), NO("{\"a\":1,}", 7, "", "comma"), NO("[,1]", 1, "/0", "comma"),
	NO("{\"a\" 1}", 5, "/a", "':'"), NO("[1 2]", 3, "/0", "','"), NO("{\"a\":1 \"b\":2}", 7, "/a", "','"),
	NO("{\"a\":}", 5, "/a", "comma"), NO("[1}", 2, "/0", "','"), NO("{\"a\":1]", 6, "/a", "','"), NO("{1:2}", 1, "", "key"),
	/* cut short */
	NO("{", 1, "", "object"), NO("{\"a\"", 4, "/a", "object"), NO("[1,", 3, "/1", "array"), NO("\"abc", 4, "", "string"),
	NO("{\"a\":\"\\u12", 10, "/a", "string"), NO("tru", 3, "", "word"), NO("[1.", 3, "/0", "number"), NO("-", 1, "", "number"),
	NO("\"\xe2\x82", 3, "", "string"), NO("[1e", 3, "/0", "number"), NO("{\"a\":{\"b\":[", 11, "/a/b/0", "array"),
	/* UTF-8: bad, overlong, surrogates, too large */
	NO("\"\x80\"", 1, "", "0x80"), NO("\"a\xff\"", 2, "", "0xff"), NO("[\"\xc3(\"]", 2, "/0", "cut short"),
	NO("\"\xe2\x82\"", 1, "", "cut short"), NO("\"\xfe\xff\"", 1, "", "0xfe"),
	NO("\"\xc0\xaf\"", 1, "", "0xc0"), NO("\"\xc1\xbf\"", 1, "", "0xc1"), NO("\"\xe0\x80\xaf\"", 1, "", "overlong"),
	NO("\"\xf0\x80\x80\xaf\"", 1, "", "overlong"), NO("\"\xe0\x9f\xbf\"", 1, "", "overlong"),
	NO("\"\xed\xa0\x80\"", 1, "", "surrogate"), NO("\"\xed\xbf\xbf\"", 1, "", "surrogate"),
	NO("{\"\xed\xa0\xbd\xed\xb8\x80\":1}", 2, "", "surrogate"),
	NO("\"\xf4\x90\x80\x80\"", 1, "", "above"), NO("\"\xf5\x80\x80\x80\"", 1, "", "0xf5"), NO("\xc3\xa9", 0, "", "0xc3"),
	/* control bytes */
	NO("\"a\nb\"", 2, "", "control byte 0x0a"), NO("\"\0\"", 1, "", "control byte 0x00"), NO("[\"\t\"]", 2, "/0", "0x09"),
	NO("{\"a\x1f\":1}", 3, "", "0x1f"), NO("[1\v]", 2, "/0", "0x0b"), NO("\f[]", 0, "", "0x0c"),
	/* escapes */
	NO("\"\\x41\"", 1, "", "escape"), NO("\"a\\'\"", 2, "", "escape"), NO("\"\\0\"", 1, "", "escape"), NO("\"\\U0041\"", 1, "", "escape"),
	NO("\"\\u12g4\"", 1, "", "hexadecimal"), NO("\"\\u 123\"", 1, "", "hexadecimal"), NO("\"\\\n\"", 1, "", "escape"),
	NO("\"\\u0000\"", 1, "", "NUL"), NO("{\"a\\u0000b\":1}", 3, "", "NUL"), NO("[\"x\", \"\\u0000\"]", 7, "/1", "NUL"),
	/* lone surrogates */
	NO("\"\\ud800\"", 1, "", "high surrogate"), NO("\"\\udc00\"", 1, "", "low surrogate"), NO("\"\\ud800\\ud800\"", 1, "", "high surrogate"),
	NO("\"\\ud83dx\"", 1, "", "high surrogate"), NO("\"\\ud83d\\n\"", 1, "", "high surrogate"), NO("\"\\ud83d\\u0041\"", 1, "", "high surrogate"),
	NO("\"\\ude00\\ud83d\"", 1, "", "low surrogate"),
	/* numbers too large */
	NO("9223372036854775808", 0, "", "64 bits"), NO("[-9223372036854775809]", 1, "/0", "64 bits"),
	NO("[1,123456789012345678901234567890]", 3, "/1", "64 bits"), NO("18446744073709551616", 0, "", "64 bits"),
	NO("-18446744073709551616", 0, "", "64 bits"), NO("1e999", 0, "", "double"), NO("-1e309", 0, "", "double"), NO("1.8e308", 0, "", "double"),
	NO("1e-400", 0, "", "double"), NO("0.1e99999999999999999999", 0, "", "double"), NO("1e-99999999999999999999", 0, "", "double"),
	/* too precise */
	NO("0.123456789012345678", 0, "", "significant"), NO("[1.00000000000000000001]", 1, "/0", "significant"),
	NO("123456789012345678e1", 0, "", "significant"), NO("-1234567890.12345678901234567890", 0, "", "significant"),
	/* negative zero */
	NO("-0", 0, "", "negative zero"), NO("[-0.0]", 1, "/0", "negative zero"), NO("{\"a\":-0e5}", 5, "/a", "negative zero"),
	NO("-0.000e-7", 0, "", "negative zero"),
	/* leading zeros and other spellings */
	NO("01", 0, "", "zero"), NO("[-01]", 1, "/0", "zero"), NO("00.5", 0, "", "zero"), NO("{\"a\":007}", 5, "/a", "zero"),
	NO("+1", 0, "", "digit"), NO(".5", 0, "", "digit"), NO("1.", 2, "", "number"), NO("[1.,2]", 1, "/0", "decimal point"), NO("[1e]", 1, "/0", "exponent"),
	NO("[1e+]", 1, "/0", "exponent"), NO("0x10", 1, "", "complete"), NO("[1_000]", 2, "/0", "','"), NO("[--1]", 1, "/0", "'-'"), NO("[1.2.3]", 4, "/0", "number"),
	/* empty */
	NO("", 0, "", "empty"), NO(" \n", 2, "", "empty"), NO("\t", 1, "", "empty"),
	/* marks and other encodings */
	NO("\xef\xbb\xbf{}", 0, "", "byte order mark"), NO("\xff\xfe{\0}\0", 0, "", "0xff"), NO("\0{\0}", 0, "", "0x00"),
	NO("True", 0, "", "unexpected 'T'"), NO("[nul]", 1, "/0", "words"), NO("[trve]", 1, "/0", "words"), NO("undefined", 0, "", "unexpected 'u'"),
};

static int
scan_cut(const struct row *r, size_t cut, struct err *e)
{
	struct json_scan s;
	int rc;

	json_scan_init(&s, JSON_DEPTH_MAX);
	rc = json_scan_feed(&s, r->s, cut, e) || json_scan_feed(&s, r->s + cut, r->n - cut, e) ||
	    json_scan_finish(&s, e);
	json_scan_release(&s);
	return rc ? -1 : 0;
}

START_TEST(takes)
{
	const struct row *r = &good[_i];

	for (size_t cut = 0; cut <= r->n; cut++) {
		struct err e = ERR_INIT;

		ck_assert_msg(!scan_cut(r, cut, &e), "%s: %s at %lld", r->s, e.text, e.pos);
	}
}
END_TEST

START_TEST(refuses)
{
	const struct row *r = &bad[_i];
	struct err e = ERR_INIT;

	ck_assert_msg(json_check(r->s, r->n, JSON_DEPTH_MAX, &e) == -1, "taken: %s", r->s);
	ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
	ck_assert_msg(strstr(e.text, r->text) != NULL, "%s: \"%s\" lacks \"%s\"", r->s, e.text, r->text);
	ck_assert_msg(e.pos == r->pos, "%s: %s at %lld, not %lld", r->s, e.text, e.pos, r->pos);
	ck_assert_msg(!strcmp(e.pointer, r->pointer), "%s: pointer %s, not %s", r->s, e.pointer, r->pointer);
	for (size_t cut = 0; cut <= r->n; cut++) {
		struct err f = ERR_INIT;

		ck_assert_int_eq(scan_cut(r, cut, &f), -1);
		ck_assert_str_eq(f.text, e.text);
		ck_assert_int_eq(f.pos, e.pos);
	}
}
END_TEST

static void
repeat(struct buf *b, const char *s, size_t n)
{
	while (n--)
		buf_puts(b, s);
}

START_TEST(depth)
{
	static const struct { const char *open, *close; unsigned step; } rows[] = {
		{ "[", "]", 1 }, { "{\"a\":", "}", 1 }, { "[{\"a\":", "}]", 2 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned n = JSON_DEPTH_MAX / rows[i].step;
		struct buf b = BUF_INIT;
		struct err e = ERR_INIT;

		repeat(&b, rows[i].open, n);
		buf_putc(&b, '1');
		repeat(&b, rows[i].close, n);
		ck_assert_int_eq(json_check(b.p, b.len, JSON_DEPTH_MAX, &e), 0);
		buf_clear(&b);
		repeat(&b, rows[i].open, n + 1);
		ck_assert_int_eq(json_check(b.p, b.len, JSON_DEPTH_MAX, &e), -1);
		ck_assert_ptr_nonnull(strstr(e.text, "deeper than 32"));
		ck_assert_int_eq(e.pos, (long long)(n * strlen(rows[i].open)));
		buf_release(&b);
	}
}
END_TEST

START_TEST(huge_strings)
{
	static const char *const around[][3] = {
		{ "\"", "x", "\"" }, { "{\"", "k", "\":1}" }, { "[\"", "\\u00e9", "\"]" }, { "{\"a\":\"", "\xc3\xa9", "\"}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(around); i++) {
		struct buf b = BUF_INIT;
		struct err e = ERR_INIT;

		buf_puts(&b, around[i][0]);
		repeat(&b, around[i][1], 1000000);
		buf_puts(&b, around[i][2]);
		ck_assert_int_eq(json_check(b.p, b.len, JSON_DEPTH_MAX, &e), 0);
		b.len--;
		ck_assert_int_eq(json_check(b.p, b.len, JSON_DEPTH_MAX, &e), -1);
		ck_assert_int_eq(e.pos, (long long)b.len);
		ck_assert_uint_lt(strlen(e.pointer), ERR_POINTER_MAX);
		buf_release(&b);
	}
}
END_TEST

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

START_TEST(many_keys)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	double start = seconds();

	buf_putc(&b, '{');
	for (int i = 0; i < 100000; i++)
		buf_printf(&b, "%s\"k%d\":%d", i ? "," : "", i, i);
	buf_putc(&b, '}');
	ck_assert_int_eq(json_check(b.p, b.len, JSON_DEPTH_MAX, &e), 0);
	/* A table that was large once must not be cleared again for each small object after it. */
	b.len--;
	buf_puts(&b, ",\"list\":[{\"a\":1}");
	repeat(&b, ",{\"a\":1}", 200000);
	buf_puts(&b, "]}");
	ck_assert_int_eq(json_check(b.p, b.len, JSON_DEPTH_MAX, &e), 0);
	b.len--;
	buf_puts(&b, ",\"k77777\":1}");
	ck_assert_int_eq(json_check(b.p, b.len, JSON_DEPTH_MAX, &e), -1);
	ck_assert_str_eq(e.pointer, "/k77777");
	ck_assert_double_lt(seconds() - start, 20);
	buf_release(&b);
}
END_TEST

START_TEST(keys_are_forgotten)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct json_scan s;

	/* Memory is for the keys of open objects only. */
	json_scan_init(&s, JSON_DEPTH_MAX);
	ck_assert_int_eq(json_scan_feed(&s, "[0", 2, &e), 0);
	buf_puts(&b, ",{\"a long key that would add up\":{\"and another one\":1}}");
	for (int i = 0; i < 100000; i++)
		ck_assert_int_eq(json_scan_feed(&s, b.p, b.len, &e), 0);
	ck_assert_uint_lt(s.keys.cap, 4096);
	ck_assert_int_eq(json_scan_feed(&s, "]", 1, &e), 0);
	ck_assert_int_eq(json_scan_finish(&s, &e), 0);
	json_scan_release(&s);
	buf_release(&b);
}
END_TEST

START_TEST(locates)
{
	static const char text[] = " {\"a\": {\"b~/c\": [1, {\"d\": \"x\"}, -3]}, \"\": 0}";
	static const struct { const char *pointer; const char *at; } rows[] = {
		{ "", "{\"a\"" }, { "/a", "{\"b~" }, { "/a/b~0~1c", "[1" }, { "/a/b~0~1c/0", "1, " }, { "/a/b~0~1c/1/d", "\"x\"" },
		{ "/a/b~0~1c/2", "-3" }, { "/", "0}" }, { "/b", NULL }, { "/a/b~0~1c/3", NULL }, { "/a/0", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		long long want = rows[i].at ? strstr(text, rows[i].at) - text : -1;

		ck_assert_msg(json_locate(text, sizeof(text) - 1, rows[i].pointer) == want, "%s", rows[i].pointer);
	}
}
END_TEST

START_TEST(pointers_are_bounded)
{
	char pointer[ERR_POINTER_MAX] = "", before[ERR_POINTER_MAX];
	struct buf b = BUF_INIT;

	repeat(&b, "~/", 200);
	json_pointer_add(pointer, "a", 1);
	json_pointer_add(pointer, b.p, b.len);
	ck_assert_str_eq(pointer, "/a/...");
	json_pointer_index(pointer, 7);
	ck_assert_str_eq(pointer, "/a/...");
	pointer[0] = '\0';
	for (int i = 0; i < 300; i++) {
		memcpy(before, pointer, sizeof(before));
		json_pointer_index(pointer, (size_t)i);
		ck_assert_uint_lt(strlen(pointer), ERR_POINTER_MAX);
		ck_assert_int_eq(strncmp(pointer, before, strlen(before)), 0);
	}
	ck_assert_str_eq(pointer + strlen(pointer) - 4, "/...");
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_json");
	TCase *t = tcase_create("json");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, takes, 0, (int)ARRAY_LEN(good));
	tcase_add_loop_test(t, refuses, 0, (int)ARRAY_LEN(bad));
	tcase_add_test(t, depth);
	tcase_add_test(t, huge_strings);
	tcase_add_test(t, many_keys);
	tcase_add_test(t, keys_are_forgotten);
	tcase_add_test(t, locates);
	tcase_add_test(t, pointers_are_bounded);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
