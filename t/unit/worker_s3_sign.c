/*
 * worker_s3_sign.c - the signer against the examples that AWS publishes: those of the S3 API reference ("Signature
 * Calculations for the Authorization Header") and of the Signature Version 4 test suite.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/s3_sign.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define H(name, value) { name, value, sizeof(value) - 1 }
#define S3_KEY "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SUITE_KEY "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3_HOST H("host", "examplebucket.s3.amazonaws.com")
#define S3_DATE H("x-amz-date", "20130524T000000Z")
#define S3_HASH H("x-amz-content-sha256", S3_EMPTY_SHA256)
#define SUITE_HOST H("host", "example.amazonaws.com")
#define SUITE_DATE H("x-amz-date", "20150830T123600Z")

static const struct {
	const char *method, *path, *query, *service, *date, *id, *secret;
	struct s3_pair headers[6];
	const char *names, *signature;
} vectors[] = {
	{ "GET", "/test.txt", "", "s3", "20130524T000000Z", S3_KEY,
	    { S3_DATE, H("range", "bytes=0-9"), S3_HASH, S3_HOST }, "host;range;x-amz-content-sha256;x-amz-date",
	    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
	{ "GET", "/", "lifecycle=", "s3", "20130524T000000Z", S3_KEY, { S3_HOST, S3_DATE, S3_HASH },
	    "host;x-amz-content-sha256;x-amz-date",
	    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
	{ "GET", "/", "max-keys=2&prefix=J", "s3", "20130524T000000Z", S3_KEY, { S3_HOST, S3_DATE, S3_HASH },
	    "host;x-amz-content-sha256;x-amz-date",
	    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
	/* get-vanilla */
	{ "GET", "/", "", "service", "20150830T123600Z", SUITE_KEY, { SUITE_DATE, SUITE_HOST }, "host;x-amz-date",
	    "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
	/* get-vanilla-query-order-key-case */
	{ "GET", "/", "Param1=value1&Param2=value2", "service", "20150830T123600Z", SUITE_KEY,
	    { SUITE_DATE, SUITE_HOST }, "host;x-amz-date",
	    "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
	/* get-utf8 */
	{ "GET", "/%E1%88%B4", "", "service", "20150830T123600Z", SUITE_KEY, { SUITE_DATE, SUITE_HOST },
	    "host;x-amz-date", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85" },
	/* get-vanilla-utf8-query */
	{ "GET", "/", "%E1%88%B4=bar", "service", "20150830T123600Z", SUITE_KEY, { SUITE_DATE, SUITE_HOST },
	    "host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04" },
	/* get-unreserved */
	{ "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "", "service",
	    "20150830T123600Z", SUITE_KEY, { SUITE_DATE, SUITE_HOST }, "host;x-amz-date",
	    "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f" },
	/* get-header-value-trim */
	{ "GET", "/", "", "service", "20150830T123600Z", SUITE_KEY,
	    { SUITE_DATE, H("my-header1", " value1"), H("my-header2", " \"a   b   c\""), SUITE_HOST },
	    "host;my-header1;my-header2;x-amz-date",
	    "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736" },
	/* post-sts-header-before: the session token is signed */
	{ "POST", "/", "", "service", "20150830T123600Z", SUITE_KEY,
	    { SUITE_DATE, SUITE_HOST, H("x-amz-security-token",
	    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqT"
	    "flfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9"
	    "HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYv"
	    "KTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==") },
	    "host;x-amz-date;x-amz-security-token",
	    "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead" },
};

START_TEST(test_vectors)
{
	struct s3_pair headers[ARRAY_LEN(vectors[0].headers)];
	struct s3_signing s = {
		.method = vectors[_i].method, .path = vectors[_i].path, .query = vectors[_i].query,
		.region = "us-east-1", .service = vectors[_i].service,
		.access_key_id = vectors[_i].id, .secret_access_key = vectors[_i].secret,
		.payload_sha256 = S3_EMPTY_SHA256, .headers = headers,
	};
	struct buf got = BUF_INIT;
	char *want = xasprintf("AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, SignedHeaders=%s, "
	    "Signature=%s", vectors[_i].id, vectors[_i].date, vectors[_i].service, vectors[_i].names,
	    vectors[_i].signature);

	memcpy(headers, vectors[_i].headers, sizeof(headers));
	memcpy(s.date, vectors[_i].date, sizeof(s.date));
	while (s.n_headers < ARRAY_LEN(headers) && headers[s.n_headers].name)
		s.n_headers++;
	s3_authorization(&s, &got);
	ck_assert_str_eq(buf_str(&got), want);
	buf_release(&got);
	free(want);
}
END_TEST

static const struct { const char *bytes; size_t n; bool slash; const char *want; } encodings[] = {
	{ "plain-._~", 9, false, "plain-._~" },
	{ "a b+c", 5, false, "a%20b%2Bc" },
	{ "a/b", 3, false, "a%2Fb" },
	{ "a/b", 3, true, "a/b" },
	{ "*'()!", 5, false, "%2A%27%28%29%21" },
	{ "\xc3\xa9%", 3, false, "%C3%A9%25" },
	{ "\x01\n\xff\0", 4, false, "%01%0A%FF%00" },
	{ "", 0, false, "" },
};

START_TEST(test_encode)
{
	struct buf b = BUF_INIT;

	s3_encode(&b, encodings[_i].bytes, encodings[_i].n, encodings[_i].slash);
	ck_assert_str_eq(buf_str(&b), encodings[_i].want);
	buf_release(&b);
}
END_TEST

START_TEST(test_query)
{
	struct s3_pair v[] = { H("prefix", "a b/"), H("list-type", "2"), H("versions", ""), H("continuation-token", "x/+=") };
	struct buf b = BUF_INIT;

	s3_query(&b, v, ARRAY_LEN(v));
	ck_assert_str_eq(buf_str(&b), "continuation-token=x%2F%2B%3D&list-type=2&prefix=a%20b%2F&versions=");
	buf_release(&b);
}
END_TEST

START_TEST(test_date)
{
	char text[S3_DATE_TEXT];

	s3_date(1369353600, text);
	ck_assert_str_eq(text, "20130524T000000Z");
	s3_date(0, text);
	ck_assert_str_eq(text, "19700101T000000Z");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_s3_sign");
	TCase *c = tcase_create("sign");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(c, test_vectors, 0, ARRAY_LEN(vectors));
	tcase_add_loop_test(c, test_encode, 0, ARRAY_LEN(encodings));
	tcase_add_test(c, test_query);
	tcase_add_test(c, test_date);
	suite_add_tcase(s, c);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
