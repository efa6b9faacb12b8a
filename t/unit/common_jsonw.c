/*
 * common_jsonw.c - unit of the JSON writer: exact text, read back by json-c, and the bugs that abort.
 */
#include <check.h>
#include <json-c/json.h>
#include <math.h>
#include <signal.h>
#include <string.h>

#include "common/jsonw.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

START_TEST(all_kinds)
{
	static const char want[] =
	    "{\"s\":\"a\\\"b\",\"n\":\"x\\u0000y\",\"none\":null,\"i\":-9223372036854775808,"
	    "\"max\":9223372036854775807,\"zero\":0,\"d\":1.500,\"nan\":null,\"inf\":null,\"yes\":true,"
	    "\"no\":false,\"nil\":null,\"t\":\"2026-01-02T03:04:05.678Z\",\"unknown\":null,\"raw\":[1,2],"
	    "\"a\":[1,\"two\",{},[],{\"k\":[]},null],\"o\":{\"x\":{\"y\":1},\"z\":2},\"last\":7}";
	struct buf b = BUF_INIT;
	struct jsonw j;
	struct json_object *o;

	jsonw_init(&j, &b);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "s", "a\"b");
	jsonw_strn(&j, "n", "x\0y", 3);
	jsonw_str(&j, "none", NULL);
	jsonw_int(&j, "i", INT64_MIN);
	jsonw_int(&j, "max", INT64_MAX);
	jsonw_int(&j, "zero", 0);
	jsonw_dbl(&j, "d", 1.5, 3);
	jsonw_dbl(&j, "nan", (double)NAN, 3);
	jsonw_dbl(&j, "inf", (double)-INFINITY, 3);
	jsonw_bool(&j, "yes", true);
	jsonw_bool(&j, "no", false);
	jsonw_null(&j, "nil");
	jsonw_time(&j, "t", 1767323045678901234);
	jsonw_time(&j, "unknown", TIME_UNKNOWN);
	jsonw_raw(&j, "raw", "[1,2]", 5);
	jsonw_array(&j, "a");
	jsonw_int(&j, NULL, 1);
	jsonw_str(&j, NULL, "two");
	jsonw_object(&j, NULL);
	jsonw_end_object(&j);
	jsonw_array(&j, NULL);
	jsonw_end_array(&j);
	jsonw_object(&j, NULL);
	jsonw_array(&j, "k");
	jsonw_end_array(&j);
	jsonw_end_object(&j);
	jsonw_null(&j, NULL);
	jsonw_end_array(&j);
	jsonw_object(&j, "o");
	jsonw_object(&j, "x");
	jsonw_int(&j, "y", 1);
	jsonw_end_object(&j);
	jsonw_int(&j, "z", 2);
	jsonw_end_object(&j);
	jsonw_int(&j, "last", 7);
	jsonw_end_object(&j);
	ck_assert_uint_eq(j.depth, 0);
	ck_assert_str_eq(buf_str(&b), want);
	o = json_tokener_parse(buf_str(&b));
	ck_assert_ptr_nonnull(o);
	ck_assert_int_eq(json_object_object_length(o), 18);
	json_object_put(o);
	buf_release(&b);
}
END_TEST

START_TEST(deepest)
{
	struct buf b = BUF_INIT;
	struct jsonw j;

	jsonw_init(&j, &b);
	for (int i = 0; i < 32; i++)
		jsonw_array(&j, NULL);
	jsonw_int(&j, NULL, 1);
	jsonw_int(&j, NULL, 2);
	for (int i = 0; i < 32; i++)
		jsonw_end_array(&j);
	ck_assert_uint_eq(b.len, 67);
	ck_assert_ptr_nonnull(strstr(buf_str(&b), "[1,2]"));
	buf_release(&b);
}
END_TEST

START_TEST(too_deep)
{
	struct buf b = BUF_INIT;
	struct jsonw j;

	jsonw_init(&j, &b);
	for (int i = 0; i < 33; i++)
		jsonw_array(&j, NULL);
}
END_TEST

START_TEST(closed_too_often)
{
	struct buf b = BUF_INIT;
	struct jsonw j;

	jsonw_init(&j, &b);
	jsonw_object(&j, NULL);
	jsonw_end_object(&j);
	jsonw_end_object(&j);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_jsonw");
	TCase *t = tcase_create("jsonw");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, all_kinds);
	tcase_add_test(t, deepest);
	tcase_add_test_raise_signal(t, too_deep, SIGABRT);
	tcase_add_test_raise_signal(t, closed_too_often, SIGABRT);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
