/*
 * worker_http_token.c - OAuth 2: the form and the login that are sent, and answers of token endpoints, right, wrong and hostile.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/http_token.h"
#include "common/xalloc.h"
#include "common/banned.h"

START_TEST(form)
{
	struct strlist scopes = { NULL, 0 };
	struct buf b = BUF_INIT;

	http_token_form(&b, "a b&c", "s=e/c", false, &scopes);
	ck_assert_str_eq(buf_str(&b), "grant_type=client_credentials");
	strlist_add(&scopes, "files.read");
	strlist_add(&scopes, "a&b=c");
	buf_clear(&b);
	http_token_form(&b, "a b&c", "s=e/c", true, &scopes);
	ck_assert_str_eq(buf_str(&b), "grant_type=client_credentials&scope=files.read%20a%26b%3Dc&client_id=a%20b%26c&client_secret=s%3De%2Fc");
	buf_clear(&b);
	http_token_login(&b, "me", "s:e c");
	/* me:s%3Ae%20c */
	ck_assert_str_eq(buf_str(&b), "Authorization: Basic bWU6cyUzQWUlMjBj");
	strlist_release(&scopes);
	buf_release(&b);
}
END_TEST

#define T "\"access_token\":\"t0k.en~+/=\""

static const struct {
	const char *text;
	unsigned status;
	enum err_class cls;     /* OK: taken */
	int64_t seconds;
	const char *words;
} answers[] = {
	{ "{" T "}", 200, ERR_OK, 0, NULL },
	{ " {\"token_type\":\"bearer\",\"expires_in\":3600,\"scope\":[\"x\"],\"o\":{\"access_token\":\"no\"}," T "}\n", 200, ERR_OK, 3600, NULL },
	{ "{" T ",\"expires_in\":\"599\",\"token_type\":\"Bearer\"}", 200, ERR_OK, 599, NULL },
	{ "{" T ",\"expires_in\":99999999999}", 200, ERR_OK, HTTP_TOKEN_SECONDS_MAX, NULL },
	{ "{\"access_token\":\"t0k.en~+\\/=\"}", 200, ERR_OK, 0, NULL },
	{ "{" T ",\"expires_in\":-1}", 200, ERR_PROTOCOL, 0, "expires_in" },
	{ "{" T ",\"expires_in\":1e9}", 200, ERR_PROTOCOL, 0, "expires_in" },
	{ "{" T ",\"expires_in\":\"soon\"}", 200, ERR_PROTOCOL, 0, "expires_in" },
	{ "{" T ",\"token_type\":\"mac\"}", 200, ERR_PROTOCOL, 0, "another type" },
	{ "{" T ",\"access_token\":\"twice\"}", 200, ERR_PROTOCOL, 0, "no JSON" },
	{ "{\"access_token\":\"a\\r\\nX: y\"}", 200, ERR_PROTOCOL, 0, "no access_token" },
	{ "{\"access_token\":\"a\\u000ab\"}", 200, ERR_PROTOCOL, 0, "no access_token" },
	{ "{\"access_token\":\"a b\"}", 200, ERR_PROTOCOL, 0, "no header" },
	{ "{\"access_token\":\"\xc3\xa4\"}", 200, ERR_PROTOCOL, 0, "no header" },
	{ "{\"access_token\":\"\"}", 200, ERR_PROTOCOL, 0, "no access_token" },
	{ "{\"access_token\":{\"a\":1}}", 200, ERR_PROTOCOL, 0, "no access_token" },
	{ "{\"access_token\":null}", 200, ERR_PROTOCOL, 0, "no access_token" },
	{ "[{" T "}]", 200, ERR_PROTOCOL, 0, "no access_token" },
	{ "\"t0ken\"", 200, ERR_PROTOCOL, 0, "no access_token" },
	{ "", 200, ERR_PROTOCOL, 0, "no JSON" }, { "<html>", 200, ERR_PROTOCOL, 0, "no JSON" }, { "{" T, 200, ERR_PROTOCOL, 0, "no JSON" }, { "{" T "}x", 200, ERR_PROTOCOL, 0, "no JSON" },
	{ "{" T "}", 201, ERR_PROTOCOL, 0, "201" },
	{ "{\"error\":\"invalid_client\",\"error_description\":\"secret s3cret\"}", 401, ERR_AUTH, 0, "401 invalid_client" },
	{ "{\"error\":\"invalid_scope\"}", 400, ERR_AUTH, 0, "400 invalid_scope" },
	{ "{\"error\":\"\\u001b[2J\"}", 400, ERR_AUTH, 0, "answered 400: check" },
	{ "no JSON", 403, ERR_AUTH, 0, "answered 403: check" }, { "", 404, ERR_NOT_FOUND, 0, "404" }, { "", 500, ERR_TRANSIENT, 0, "500" }, { "", 503, ERR_TRANSIENT, 0, "503" },
	{ "", 302, ERR_PROTOCOL, 0, "not followed" },
};

START_TEST(answer)
{
	struct buf token = BUF_INIT;
	struct err e = ERR_INIT;
	int64_t seconds = 7;
	int rc = http_token_read(answers[_i].text, strlen(answers[_i].text), answers[_i].status, &token, &seconds, &e);

	ck_assert_msg(e.cls == answers[_i].cls && !rc == !answers[_i].cls, "%s: %s", answers[_i].text, e.text);
	ck_assert_int_eq(seconds, answers[_i].seconds);
	ck_assert_str_eq(buf_str(&token), rc ? "" : "t0k.en~+/=");
	if (rc)
		ck_assert_msg(strstr(e.text, answers[_i].words) != NULL, "%s: %s", answers[_i].text, e.text);
	ck_assert_ptr_null(strstr(e.text, "s3cret"));
	ck_assert_ptr_null(strchr(e.text, 0x1b));
	buf_release(&token);
}
END_TEST

/* Long, and deep. */
START_TEST(too_much)
{
	struct buf b = BUF_INIT, token = BUF_INIT;
	struct err e = ERR_INIT;
	int64_t seconds;

	buf_puts(&b, "{\"access_token\":\"");
	for (int i = 0; i <= HTTP_TOKEN_MAX; i++)
		buf_putc(&b, 'a');
	buf_puts(&b, "\"}");
	ck_assert_int_eq(http_token_read(b.p, b.len, 200, &token, &seconds, &e), -1);
	ck_assert_int_eq(e.cls, ERR_PROTOCOL);
	buf_clear(&b);
	buf_puts(&b, "{" T ",\"x\":");
	for (int i = 0; i < 1000; i++)
		buf_putc(&b, '[');
	ck_assert_int_eq(http_token_read(b.p, b.len, 200, &token, &seconds, &e), -1);
	ck_assert_uint_eq(token.len, 0);
	buf_release(&b);
	buf_release(&token);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("http_token");
	TCase *t = tcase_create("http_token");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, form);
	tcase_add_loop_test(t, answer, 0, (int)ARRAY_LEN(answers));
	tcase_add_test(t, too_much);
	suite_add_tcase(s, t);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
