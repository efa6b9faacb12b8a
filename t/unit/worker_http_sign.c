/*
 * worker_http_sign.c - signed requests of the http source: the spelling of addresses, Amazon's own vectors, encoding twice.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/http_sign.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct { const char *in, *want; } spelled[] = {
	{ "http://h/", "http://h/" }, { "http://h/a%20b/%7E%41%2f%c3%a4", "http://h/a%20b/~A%2F%C3%A4" }, { "http://h/a!(b)*c;d=e,f", "http://h/a%21%28b%29%2Ac%3Bd%3De%2Cf" },
	{ "http://h/100%/%zz", "http://h/100%25/%25zz" }, { "http://h//a//b", "http://h//a//b" }, { "http://h/a+b", "http://h/a%2Bb" },
	{ "http://h/?b=2&a=1&a=0", "http://h/?a=0&a=1&b=2" }, { "http://h/?lifecycle", "http://h/?lifecycle=" }, { "http://h/?", "http://h/" }, { "http://h/?&&", "http://h/" },
	{ "http://h/?a=x/y+z&=v&&", "http://h/?=v&a=x%2Fy%20z" }, { "http://h/?a-b=1&a=2", "http://h/?a=2&a-b=1" },
	{ "http://h/?a=%2b%20%2B=c", "http://h/?a=%2B%20%2B%3Dc" }, { "https://H:443/x?y=%e4", "https://h/x?y=%E4" },
};

static void
parse(const char *s, struct http_url *to)
{
	struct http_url u;
	struct err e = ERR_INIT;

	ck_assert_int_eq(http_url_parse(s, strlen(s), &u, &e), 0);
	http_sign_url(&u, to);
	http_url_release(&u);
}

START_TEST(spelling)
{
	struct buf b = BUF_INIT;
	struct http_url u;

	parse(spelled[_i].in, &u);
	http_url_text(&u, true, &b);
	ck_assert_str_eq(buf_str(&b), spelled[_i].want);
	http_url_release(&u);
	/* once more changes nothing */
	parse(spelled[_i].want, &u);
	buf_clear(&b);
	http_url_text(&u, true, &b);
	ck_assert_str_eq(buf_str(&b), spelled[_i].want);
	http_url_release(&u);
	buf_release(&b);
}
END_TEST

/* The first two are those of the documentation of S3; the others were computed by t/26-http.t's verifier, in Python. */
#define DOCS "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
static const struct { const char *url, *service, *id, *key, *token, *signature; } vectors[] = {
	{ "https://examplebucket.s3.amazonaws.com/?lifecycle", "s3", DOCS, "", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
	{ "https://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2", "s3", DOCS, "", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
	{ "http://h.example:8080/a%20b//c?x=1", "s3", DOCS, "", "a40dc5a0a6afd587042c1ec252d02f2b98336c00ad4abf473d2ecb1c8cfca1fa" },
	{ "http://h.example:8080/a%20b//c?x=1", "execute-api", DOCS, "to/ken", "64d538bf6c92774067c426b4107e44c2dea4315d0808e84ecdb07d7686a9f0b5" },
};

static void
gather(void *arg, const char *line)
{
	buf_puts(arg, line);
	buf_putc(arg, '\n');
}

START_TEST(signing)
{
	struct http_signing g = {
		.method = "GET", .region = "us-east-1", .service = vectors[_i].service, .access_key_id = vectors[_i].id,
		.secret_access_key = vectors[_i].key, .session_token = vectors[_i].token, .payload_sha256 = S3_EMPTY_SHA256, .seconds = 1369353600,
	};
	struct buf b = BUF_INIT;
	struct http_url u;
	char want[128];

	parse(vectors[_i].url, &u);
	http_sign(&g, &u, gather, &b);
	snprintf(want, sizeof(want), "Signature=%s\n", vectors[_i].signature);
	ck_assert_msg(strstr(buf_str(&b), want) != NULL, "%s: %s", vectors[_i].url, buf_str(&b));
	ck_assert_ptr_nonnull(strstr(buf_str(&b), "x-amz-date: 20130524T000000Z\n"));
	ck_assert_int_eq(strstr(buf_str(&b), "x-amz-security-token: to/ken\n") != NULL, *vectors[_i].token != '\0');
	ck_assert_ptr_null(strstr(buf_str(&b), vectors[_i].key));
	http_url_release(&u);
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("http_sign");
	TCase *t = tcase_create("http_sign");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, spelling, 0, (int)ARRAY_LEN(spelled));
	tcase_add_loop_test(t, signing, 0, (int)ARRAY_LEN(vectors));
	suite_add_tcase(s, t);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
