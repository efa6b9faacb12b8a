/*
 * common_hosts.c - host names against patterns, addresses and networks; what an entry of proxy.no_proxy may be.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/hosts.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct { const char *list, *host; bool want; } rows[] = {
	{ "a.example", "a.example", true }, { "a.example", "A.EXAMPLE", true }, { "A.Example", "a.example", true },
	{ "a.example", "b.a.example", false }, { "a.example", "a.example.org", false }, { "*.example", "a.example", true },
	{ "*.example", "b.a.example", true }, { "*.example", "example", false }, { "*", "anything", true },
	{ "10.0.0.0/8", "10.1.2.3", true }, { "10.0.0.0/8", "11.1.2.3", false }, { "10.0.0.0/8", "ten.example", false },
	{ "10.0.0.0/8", "0x0a.1", false }, { "10.0.0.0/8", "::ffff:10.0.0.1", false }, { "10.1.2.0/23", "10.1.3.255", true },
	{ "10.1.2.0/23", "10.1.4.0", false }, { "0.0.0.0/0", "192.0.2.1", true }, { "2001:db8::/32", "2001:db8::1", true },
	{ "2001:db8::/32", "2001:db9::1", false }, { "2001:db8::/32", "10.0.0.1", false }, { "10.1.2.3", "10.1.2.3", true },
	{ "x.example 10.0.0.0/8 y.example", "y.example", true }, { "x.example 10.0.0.0/8 y.example", "z.example", false },
	{ "a.example", "", false }, { "a.example", "a.example/b", false }, { "[", "[", false },
};

static struct strlist
list(const char *s)
{
	struct strlist l = { NULL, 0 };
	char *copy = xstrdup(s), *rest = copy, *one;

	while ((one = strsep(&rest, " ")))
		if (*one)
			strlist_add(&l, one);
	free(copy);
	return l;
}

START_TEST(hold)
{
	struct strlist l = list(rows[_i].list);

	ck_assert_msg(hosts_hold(&l, rows[_i].host) == rows[_i].want, "%s in %s", rows[_i].host, rows[_i].list);
	strlist_release(&l);
}
END_TEST

START_TEST(any)
{
	static const struct { const char *list; bool want; } lists[] = { { "", true }, { "*", true }, { "a *", true }, { "a", false }, { "**", false } };

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct strlist l = list(lists[i].list);

		ck_assert_msg(hosts_any(&l) == lists[i].want, "%s", lists[i].list);
		strlist_release(&l);
	}
}
END_TEST

static const struct { const char *url, *host; } urls[] = {
	{ "https://a.example:443", "a.example" }, { "ftp://a.example", "a.example" }, { "a.example", "a.example" },
	{ "http://u:p@a.example:80/x", "a.example" }, { "http://u@v@a.example/x", "a.example" }, { "http://a.example/u@b.example", "a.example" },
	{ "http://a.example?u@b.example", "a.example" }, { "http://a.example#u@b.example", "a.example" }, { "https://[::1]:443/", "::1" },
	{ "https://a.example./", "a.example" }, { "https://:443/", NULL }, { "https://", NULL }, { "", NULL }, { "https://./", NULL },
};

START_TEST(of_url)
{
	char host[HOSTS_TEXT];
	bool got = hosts_of_url(urls[_i].url, host);

	ck_assert_msg(got == (urls[_i].host != NULL), "%s", urls[_i].url);
	if (got)
		ck_assert_str_eq(host, urls[_i].host);
}
END_TEST

START_TEST(long_name)
{
	char host[HOSTS_TEXT], *url = xmalloc(400);

	memset(url, 'a', 400);
	url[399] = '\0';
	ck_assert(!hosts_of_url(url, host));
	url[255] = '\0';
	ck_assert(hosts_of_url(url, host));
	ck_assert_uint_eq(strlen(host), 255);
	free(url);
}
END_TEST

static const struct { const char *entry; bool good; } entries[] = {
	{ "*", true }, { "example.org", true }, { ".example.org", true }, { "*.example.org", true }, { "host_1", true }, { "10.0.0.0/8", true },
	{ "10.1.2.3", true }, { "::1", true }, { "2001:db8::/32", true }, { "", false }, { ".", false }, { "*.", false }, { "..a", false },
	{ "*example", false }, { "a*", false }, { "a b", false }, { "example.org:8080", false }, { "10.1.2.3:80", false }, { "10.1.2.3/8", false },
	{ "10.0.0.0/33", false }, { "10.1", false }, { "[::1]", false }, { "http://a", false }, { "a,b", false }, { "\xc3\xa4.example", false },
};

START_TEST(no_proxy)
{
	ck_assert_msg(!hosts_no_proxy_fault(entries[_i].entry) == entries[_i].good, "%s", entries[_i].entry);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hosts");
	TCase *t = tcase_create("hosts");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, hold, 0, (int)ARRAY_LEN(rows));
	tcase_add_test(t, any);
	tcase_add_loop_test(t, of_url, 0, (int)ARRAY_LEN(urls));
	tcase_add_test(t, long_name);
	tcase_add_loop_test(t, no_proxy, 0, (int)ARRAY_LEN(entries));
	suite_add_tcase(s, t);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
