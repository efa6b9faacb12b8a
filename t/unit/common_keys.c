/*
 * common_keys.c - the frames KEYS_ASK and KEYS: round trips, truncation at every byte, members that do not fit one another; and
 * where a role is assumed.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/keys.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NOW INT64_C(1893456000000000000)
#define HOUR (INT64_C(3600) * 1000000000)

static struct err e = ERR_INIT;

static void
put(struct source_conf *c, enum source_field f, const char *text)
{
	free(c->v[f].s);
	c->v[f] = (struct field_value){ .set = text != NULL, .s = text ? xstrdup(text) : NULL };
}

static void
ask_make(struct keys_ask *a, enum keys_base base, bool role)
{
	keys_ask_init(a);
	a->base = base;
	a->url = xstrdup(base == KEYS_METADATA ? "http://169.254.169.254" : base == KEYS_CONTAINER ? "http://169.254.170.2/x?y=1" : "");
	a->token = xstrdup(base == KEYS_CONTAINER ? "Bearer x" : base == KEYS_WEB_IDENTITY ? "eyJ.x.y" : "");
	a->role_arn = xstrdup(role ? "arn:aws:iam::123456789012:role/x" : "");
	a->session_name = xstrdup(role ? "s" : "");
	a->external_id = xstrdup("");
	a->duration_s = 3600;
	a->sts_url = xstrdup(role ? "https://sts.x.amazonaws.com:443" : "");
	a->sts_region = xstrdup(role ? "x" : "");
	strlist_add(&a->egress.only, "10.0.0.0/8");
	a->conf.type = SOURCE_S3;
	if (base == KEYS_STATIC) {
		put(&a->conf, SF_S3_ACCESS_KEY_ID, "AKIA");
		put(&a->conf, SF_S3_SECRET_ACCESS_KEY, "secret");
	}
}

static int
send_ask(const struct keys_ask *a, struct keys_ask *got)
{
	struct buf b = BUF_INIT;
	int rc;

	keys_ask_encode(a, &b);
	rc = keys_ask_decode(got, b.p, b.len, &e);
	buf_release(&b);
	return rc;
}

START_TEST(asks)
{
	for (int base = 0; base < KEYS_BASE__MAX; base++)
		for (int role = 0; role < 2; role++) {
			struct keys_ask a, got;
			struct buf b = BUF_INIT;

			/* a key or a token is not asked for anything but a role */
			bool right = role || base == KEYS_METADATA || base == KEYS_CONTAINER;

			ask_make(&a, base, role);
			ck_assert_msg(send_ask(&a, &got) == (right ? 0 : -1), "base %d role %d", base, role);
			if (right) {
				ck_assert_str_eq(got.url, a.url);
				ck_assert_str_eq(got.token, a.token);
				ck_assert_str_eq(got.sts_url, a.sts_url);
				ck_assert_str_eq(got.egress.only.v[0], "10.0.0.0/8");
				ck_assert_int_eq(got.conf.v[SF_S3_SECRET_ACCESS_KEY].set, base == KEYS_STATIC);
				keys_ask_release(&got);
			}
			keys_ask_encode(&a, &b);
			for (size_t n = 0; n < b.len; n++)
				ck_assert_int_eq(keys_ask_decode(&got, b.p, n, &e), -1);
			buf_putc(&b, 0);
			ck_assert_int_eq(keys_ask_decode(&got, b.p, b.len, &e), -1);
			ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
			keys_ask_release(&a);
			buf_release(&b);
		}
}
END_TEST

#define WRONG(base_, what) do { struct keys_ask a, got; ask_make(&a, base_, true); what; ck_assert_int_eq(send_ask(&a, &got), -1); \
	keys_ask_release(&a); } while (0)
#define TEXT(member, text) do { free(a.member); a.member = xstrdup(text); } while (0)

START_TEST(misfits)
{
	WRONG(KEYS_METADATA, TEXT(token, "x"));
	WRONG(KEYS_METADATA, TEXT(url, ""));
	WRONG(KEYS_STATIC, TEXT(url, "http://x"));
	WRONG(KEYS_STATIC, TEXT(token, "x"));
	WRONG(KEYS_STATIC, TEXT(sts_url, ""));
	WRONG(KEYS_STATIC, TEXT(sts_region, ""));
	WRONG(KEYS_STATIC, put(&a.conf, SF_S3_SECRET_ACCESS_KEY, NULL));
	WRONG(KEYS_METADATA, (put(&a.conf, SF_S3_ACCESS_KEY_ID, "A"), put(&a.conf, SF_S3_SECRET_ACCESS_KEY, "s")));
	WRONG(KEYS_WEB_IDENTITY, TEXT(token, ""));
	WRONG(KEYS_WEB_IDENTITY, TEXT(token, "a b"));
	WRONG(KEYS_WEB_IDENTITY, TEXT(external_id, "xx"));
	WRONG(KEYS_CONTAINER, TEXT(token, "a\r\nb"));
	WRONG(KEYS_CONTAINER, TEXT(url, "http://a b/"));
	WRONG(KEYS_STATIC, TEXT(role_arn, "arn\n"));
	WRONG(KEYS_STATIC, a.base = KEYS_BASE__MAX);
	WRONG(KEYS_STATIC, a.conf.type = SOURCE_HTTP);
}
END_TEST

START_TEST(keys_travel)
{
	struct keys k = { xstrdup("ASIA"), xstrdup("secret"), xstrdup("token"), NOW + HOUR }, got;
	struct buf b = BUF_INIT;

	keys_encode(&k, &b);
	ck_assert_int_eq(keys_decode(&got, b.p, b.len, NOW, &e), 0);
	ck_assert_str_eq(got.session_token, "token");
	keys_wipe(&got);
	ck_assert_ptr_null(got.session_token);
	for (size_t n = 0; n < b.len; n++)
		ck_assert_int_eq(keys_decode(&got, b.p, n, NOW, &e), -1);
	ck_assert_int_eq(keys_decode(&got, b.p, b.len, NOW + HOUR, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "expired already"));
	ck_assert_int_eq(keys_decode(&got, b.p, b.len, NOW - 200 * HOUR, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "week"));
	k.session_token[0] = '\n';
	buf_clear(&b);
	keys_encode(&k, &b);
	ck_assert_int_eq(keys_decode(&got, b.p, b.len, NOW, &e), -1);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	ck_assert_ptr_null(strstr(e.text, "secret\""));
	keys_wipe(&k);
	buf_release(&b);
}
END_TEST

static const struct { const char *endpoint, *region, *sts, *sts_region, *want; } places[] = {
	{ NULL, NULL, NULL, NULL, "https://sts.us-east-1.amazonaws.com:443 us-east-1" },
	{ NULL, "eu-west-3", NULL, NULL, "https://sts.eu-west-3.amazonaws.com:443 eu-west-3" },
	{ NULL, "eu-west-3", NULL, "us-west-2", "https://sts.us-west-2.amazonaws.com:443 us-west-2" },
	{ NULL, "cn-north-1", NULL, NULL, "https://sts.cn-north-1.amazonaws.com.cn:443 cn-north-1" },
	{ "https://s3.eu-central-1.amazonaws.com", NULL, NULL, NULL, "https://sts.eu-central-1.amazonaws.com:443 eu-central-1" },
	{ "http://store.example:9000", "x", "http://Store.example:9000/", NULL, "http://store.example:9000 x" },
	{ NULL, NULL, "https://sts.example", "y", "https://sts.example:443 y" },
	{ "http://store.example", NULL, NULL, NULL, NULL }, { "https://amazonaws.com.evil.example", NULL, NULL, NULL, NULL },
	{ "https://evilamazonaws.com", NULL, NULL, NULL, NULL }, { NULL, NULL, "https://a/b", NULL, NULL },
	{ NULL, NULL, "https://a?b", NULL, NULL }, { NULL, NULL, NULL, "a.b/", NULL },
};

START_TEST(where_sts_is)
{
	struct source_conf c = { .type = SOURCE_S3 };
	char *url, *region, *got;

	put(&c, SF_S3_BUCKET, "bucket");
	put(&c, SF_S3_ENDPOINT, places[_i].endpoint);
	put(&c, SF_S3_REGION, places[_i].region);
	put(&c, SF_S3_STS_ENDPOINT, places[_i].sts);
	put(&c, SF_S3_STS_REGION, places[_i].sts_region);
	if (!places[_i].want) {
		ck_assert_int_eq(keys_sts(&c, &url, &region, &e), -1);
		ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
	} else {
		ck_assert_msg(!keys_sts(&c, &url, &region, &e), "%s", e.text);
		got = xasprintf("%s %s", url, region);
		ck_assert_str_eq(got, places[_i].want);
		free(got);
	}
	free(url);
	free(region);
	source_conf_release(&c);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_keys");
	TCase *t = tcase_create("keys");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(t, asks);
	tcase_add_test(t, misfits);
	tcase_add_test(t, keys_travel);
	tcase_add_loop_test(t, where_sts_is, 0, (int)ARRAY_LEN(places));
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
