/*
 * common_http_query.c - queries of links: cleaned, freed of signatures and secrets, as part of a name.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/http_query.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct { const char *in, *want; } cleaned[] = {
	{ "", "" }, { "a=1&b=2", "a=1&b=2" }, { "a=%2f%20&b", "a=%2f%20&b" }, { "a=%", "a=%25" }, { "a=%4", "a=%254" }, { "a=%zz", "a=%25zz" },
	{ "a b\"<>\\^`{|}", "a%20b%22%3C%3E%5C%5E%60%7B%7C%7D" }, { "\xc3\xa4", "%C3%A4" }, { "a/b?c:@!$'()*+,;", "a/b?c:@!$'()*+,;" }, { "a#b", "a%23b" },
	{ "a\r\nb", "a%0D%0Ab" }, { "a[0]=1", "a%5B0%5D=1" },
};

START_TEST(clean)
{
	struct buf b = BUF_INIT;

	http_query_clean(&b, cleaned[_i].in, strlen(cleaned[_i].in));
	ck_assert_str_eq(buf_str(&b), cleaned[_i].want);
	buf_release(&b);
}
END_TEST

static const struct { const char *in, *want; enum http_query_hidden hidden; } shown[] = {
	{ "", "", HTTP_QUERY_WHOLE }, { "id=7", "id=7", HTTP_QUERY_WHOLE }, { "b=2&a=1&b=1", "b=2&a=1&b=1", HTTP_QUERY_WHOLE },
	{ "file=a.csv&", "file=a.csv", HTTP_QUERY_WHOLE },
	{ "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F1&X-Amz-Date=1&x-amz-expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=abc", "", HTTP_QUERY_SIGNATURE },
	{ "versionId=3&X-Amz-Signature=abc&X-Amz-Security-Token=t", "versionId=3", HTTP_QUERY_SIGNATURE },
	{ "sv=2020&sr=b&sp=r&se=2026&sig=a%2Fb", "", HTTP_QUERY_SIGNATURE }, { "sv=2020&sr=b", "sv=2020&sr=b", HTTP_QUERY_WHOLE },
	{ "Expires=1&Signature=x&Key-Pair-Id=K&v=2", "v=2", HTTP_QUERY_SIGNATURE }, { "expires=1&v=2", "expires=1&v=2", HTTP_QUERY_WHOLE },
	{ "%73%69%67=x&v=2", "v=2", HTTP_QUERY_SIGNATURE }, { "SIG=x", "", HTTP_QUERY_SIGNATURE },
	{ "id=7&access_token=abc", "id=7", HTTP_QUERY_SECRET }, { "api%5Fkey=abc&id=7", "id=7", HTTP_QUERY_SECRET }, { "token=a=b&id=1", "id=1", HTTP_QUERY_SECRET },
	{ "v=2&&X-Amz-Date=1", "v=2", HTTP_QUERY_SIGNATURE }, { "&&X-Amz-Date=1", "", HTTP_QUERY_SIGNATURE }, { "&v=2", "&v=2", HTTP_QUERY_WHOLE },
	{ "key=a", "", HTTP_QUERY_SECRET }, { "sig=x&token=y", "", HTTP_QUERY_SECRET }, { "token", "", HTTP_QUERY_SECRET },
};

START_TEST(show)
{
	struct buf b = BUF_INIT;

	ck_assert_int_eq(http_query_shown(&b, shown[_i].in, strlen(shown[_i].in)), shown[_i].hidden);
	ck_assert_msg(!strcmp(buf_str(&b), shown[_i].want), "%s: %s", shown[_i].in, buf_str(&b));
	buf_release(&b);
}
END_TEST

START_TEST(name)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "get.php");
	http_query_name(&b, "", 0);
	ck_assert_str_eq(buf_str(&b), "get.php");
	http_query_name(&b, "f=a/b/../c", 10);
	ck_assert_str_eq(buf_str(&b), "get.php?f=a%2Fb%2F..%2Fc");
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("http_query");
	TCase *t = tcase_create("http_query");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, clean, 0, (int)ARRAY_LEN(cleaned));
	tcase_add_loop_test(t, show, 0, (int)ARRAY_LEN(shown));
	tcase_add_test(t, name);
	suite_add_tcase(s, t);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
