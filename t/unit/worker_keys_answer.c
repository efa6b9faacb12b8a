/*
 * worker_keys_answer.c - answers of metadata services and STS: what is taken, what is refused and why, and that no error repeats
 * a secret.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/keys_answer.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NOW INT64_C(1893456000000000000)        /* 2030-01-01 */
#define J(id, secret, token, until) "{\"Code\":\"Success\",\"AccessKeyId\":" id ",\"SecretAccessKey\":" secret ",\"Token\":" token ",\"Expiration\":" until "}"
#define UNTIL "\"2030-01-01T06:00:00Z\""
#define X(body) "<AssumeRoleResponse xmlns=\"x\"><AssumeRoleResult>" body "</AssumeRoleResult></AssumeRoleResponse>"
#define C(id, secret, token, until) "<Credentials><AccessKeyId>" id "</AccessKeyId><SecretAccessKey>" secret \
	"</SecretAccessKey><SessionToken>" token "</SessionToken><Expiration>" until "</Expiration></Credentials>"
#define E(code, words) "<ErrorResponse><Error><Code>" code "</Code><Message>" words "</Message></Error></ErrorResponse>"
#define LATER "2030-01-01T06:00:00Z"

static const struct {
	bool xml;
	const char *body;
	const char *want;       /* "id secret token" of what is taken; "CODE: words" of a refusal; else a part of the error's text */
	int rc;
} rows[] = {
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOkEn\"", UNTIL), "ASIA sEcReT tOkEn", 0 },
	{ false, J("\"ASIA\"", "\"a\\/b\\u002Bc\"", "\"t\\u003d\\\\\"", UNTIL), "ASIA a/b+c t=\\", 0 },
	{ false, "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":" UNTIL ",\"More\":{\"Token\":\"x\"}}", "A s t", 0 },
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOkEn\"", "\"2029-12-31T23:59:59Z\""), "expired already", -1 },
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOkEn\"", "\"2031-01-01T00:00:00Z\""), "more than a week", -1 },
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOkEn\"", "\"soon\""), "the expiry is no time", -1 },
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOkEn\"", "1893477600"), "the expiry is missing", -1 },
	{ false, J("\"ASIA\"", "\"sEc\\nReT\"", "\"tOkEn\"", UNTIL), "odd characters", -1 },
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOk\\u0000En\"", UNTIL), "no JSON", -1 },
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOk\\u00e4En\"", UNTIL), "ASIA sEcReT tOk?En", 0 },
	{ false, J("\"ASIA\"", "\"sEcReT\"", "\"tOk\xc3\xa4" "En\"", UNTIL), "odd characters", -1 },
	{ false, J("\"ASIA\"", "null", "\"tOkEn\"", UNTIL), "the secret key is missing", -1 },
	{ false, J("\"ASIA\"", "\"\"", "\"tOkEn\"", UNTIL), "the secret key is missing", -1 },
	{ false, J("[\"ASIA\"]", "\"sEcReT\"", "\"tOkEn\"", UNTIL), "the access key id is missing", -1 },
	{ false, "{\"Token\":\"sEcReT\",\"Token\":\"tOkEn\"}", "no JSON", -1 },
	{ false, "[]", "missing", -1 }, { false, "", "no JSON", -1 }, { false, "null", "missing", -1 }, { false, "\"sEcReT\"", "missing", -1 },
	{ false, "[[[[[[[[[[[[\"sEcReT\"]]]]]]]]]]]]", "no JSON", -1 },
	{ false, "{\"Code\":\"Failed\",\"Message\":\"no role\"}", "Failed: no role", 0 },
	{ false, "{\"code\":\"NoId\",\"message\":\"x\"}", "NoId: x", 0 },
	{ false, "{\"Code\":\"a b\"}", "code has odd characters", -1 },
	{ true, X(C("ASIA", "sEcReT", "tOkEn", LATER)), "ASIA sEcReT tOkEn", 0 },
	{ true, X("<Other><Deep><X/></Deep></Other>" C("ASIA", "<![CDATA[sEcReT]]>", "t&#79;k&amp;", LATER)), "ASIA sEcReT tOk&", 0 },
	{ true, "<AssumeRoleWithWebIdentityResponse>" C("ASIA", "s", "t", LATER) "</AssumeRoleWithWebIdentityResponse>", "ASIA s t", 0 },
	{ true, "<ns:AssumeRoleResponse xmlns:ns=\"x\">" C("ASIA", "s", "t", LATER) "</ns:AssumeRoleResponse>", "ASIA s t", 0 },
	{ true, X(C("ASIA", "sEcReT", "tOkEn", "2029-01-01T00:00:00Z")), "expired already", -1 },
	{ true, X(C("ASIA", "sEcReT", "tOk En", LATER)), "odd characters", -1 },
	{ true, X(C("ASIA", "sEcReT", "", LATER)), "the session token is missing", -1 },
	{ true, X(C("ASIA", "<b>sEcReT</b>", "tOkEn", LATER)), "within a text", -1 },
	{ true, X(C("ASIA", "sEcReT", "tOkEn", LATER) C("ASIB", "sEcReT", "tOkEn", LATER)), "twice", -1 },
	{ true, X("<Credentials><In><SecretAccessKey>sEcReT</SecretAccessKey></In></Credentials>"), "access key id is missing", -1 },
	{ true, "<Other>" C("ASIA", "sEcReT", "tOkEn", LATER) "</Other>", "none of STS", -1 },
	{ true, X(C("ASIA", "sEcReT", "tOkEn", LATER)) "x", "no well-formed XML", -1 },
	{ true, "<!DOCTYPE a [<!ENTITY e \"sEcReT\">]>" X(C("ASIA", "&e;", "tOkEn", LATER)), "DTD", -1 },
	{ true, X(C("ASIA", "&e;", "tOkEn", LATER)), "no well-formed XML", -1 },
	{ true, "<AssumeRoleResponse><a><a><a><a><a><a><a><a>", "too deep", -1 },
	{ true, "", "no well-formed XML", -1 }, { true, "sEcReT", "no well-formed XML", -1 },
	{ true, E("AccessDenied", "no"), "AccessDenied: no", 0 },
	{ true, E("AccessDenied", "no") "<", "no well-formed XML", -1 },
	{ true, E("a b", "no"), "code has odd characters", -1 },
};

START_TEST(answers)
{
	struct keys_answer a;
	struct err e = ERR_INIT;
	char got[256];
	int rc = (rows[_i].xml ? keys_answer_xml : keys_answer_json)(rows[_i].body, strlen(rows[_i].body), NOW, &a, &e);

	ck_assert_msg(rc == rows[_i].rc, "%s: %s", rows[_i].body, e.text);
	if (rc) {
		ck_assert_int_eq(e.cls, ERR_PROTOCOL);
		ck_assert_msg(strstr(e.text, rows[_i].want) != NULL, "%s: %s", rows[_i].body, e.text);
		ck_assert_msg(!strstr(e.text, "sEcReT") && !strstr(e.text, "tOkEn"), "%s", e.text);
		ck_assert_ptr_null(a.keys.secret_access_key);
	} else if (*a.code) {
		snprintf(got, sizeof(got), "%s: %s", a.code, a.message);
		ck_assert_str_eq(got, rows[_i].want);
		ck_assert_ptr_null(a.keys.secret_access_key);
	} else {
		snprintf(got, sizeof(got), "%s %s %s", a.keys.access_key_id, a.keys.secret_access_key, a.keys.session_token);
		ck_assert_str_eq(got, rows[_i].want);
		ck_assert_int_eq(a.keys.expires_ns, NOW + INT64_C(6) * 3600 * 1000000000);
	}
	keys_answer_wipe(&a);
	ck_assert_ptr_null(a.keys.access_key_id);
}
END_TEST

/* Each text at its longest, and one byte more. */
START_TEST(lengths)
{
	static const size_t max[] = { 255, 1024, 8192 };
	struct keys_answer a;
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;

	for (int which = 0; which < 3; which++)
		for (size_t more = 0; more < 2; more++)
			for (int xml = 0; xml < 2; xml++) {
				char *v[3] = { xstrdup("A"), xstrdup("s"), xstrdup("t") };

				free(v[which]);
				v[which] = xcalloc(1, max[which] + 2);
				memset(v[which], 'k', max[which] + more);
				buf_clear(&b);
				buf_printf(&b, xml ? X(C("%s", "%s", "%s", LATER)) : J("\"%s\"", "\"%s\"", "\"%s\"", UNTIL), v[0], v[1], v[2]);
				ck_assert_int_eq((xml ? keys_answer_xml : keys_answer_json)(b.p, b.len, NOW, &a, &e), more ? -1 : 0);
				keys_answer_wipe(&a);
				for (int i = 0; i < 3; i++)
					free(v[i]);
			}
	buf_clear(&b);
	while (b.len <= KEYS_BODY_MAX)
		buf_putc(&b, ' ');
	ck_assert_int_eq(keys_answer_json(b.p, b.len, NOW, &a, &e), -1);
	ck_assert_int_eq(keys_answer_xml(b.p, b.len, NOW, &a, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "too long"));
	buf_release(&b);
}
END_TEST

/* An answer that is cut anywhere is never taken for one. */
START_TEST(cut)
{
	static const char *const whole[] = { J("\"ASIA\"", "\"sEcReT\"", "\"tOkEn\"", UNTIL), X(C("ASIA", "sEcReT", "tOkEn", LATER)) };

	for (int xml = 0; xml < 2; xml++)
		for (size_t n = 0; n < strlen(whole[xml]); n++) {
			struct keys_answer a;
			struct err e = ERR_INIT;

			ck_assert_msg((xml ? keys_answer_xml : keys_answer_json)(whole[xml], n, NOW, &a, &e) == -1, "%zu bytes", n);
			keys_answer_wipe(&a);
		}
}
END_TEST

/* API reference of STS: "Common errors", and those of AssumeRole and AssumeRoleWithWebIdentity. */
static const struct { const char *code; long status; enum err_class cls; } classes[] = {
	{ "AccessDenied", 403, ERR_AUTH }, { "AccessDeniedException", 400, ERR_AUTH }, { "ExpiredToken", 400, ERR_AUTH },
	{ "ExpiredTokenException", 400, ERR_AUTH }, { "IDPRejectedClaim", 403, ERR_AUTH }, { "IDPCommunicationError", 400, ERR_TRANSIENT },
	{ "IncompleteSignature", 400, ERR_AUTH }, { "InternalFailure", 500, ERR_TRANSIENT }, { "InvalidAction", 400, ERR_PERMANENT },
	{ "InvalidClientTokenId", 403, ERR_AUTH }, { "InvalidIdentityToken", 400, ERR_AUTH }, { "InvalidParameterValue", 400, ERR_PERMANENT },
	{ "MalformedPolicyDocument", 400, ERR_PERMANENT }, { "MissingAuthenticationToken", 403, ERR_AUTH },
	{ "MissingParameter", 400, ERR_PERMANENT }, { "NotAuthorized", 400, ERR_AUTH }, { "OptInRequired", 403, ERR_AUTH },
	{ "PackedPolicyTooLarge", 400, ERR_PERMANENT }, { "RegionDisabledException", 403, ERR_PERMANENT },
	{ "RequestExpired", 400, ERR_AUTH }, { "RequestLimitExceeded", 400, ERR_TRANSIENT }, { "ServiceUnavailable", 503, ERR_TRANSIENT },
	{ "SignatureDoesNotMatch", 403, ERR_AUTH }, { "Throttling", 400, ERR_TRANSIENT }, { "ThrottlingException", 400, ERR_TRANSIENT },
	{ "ValidationError", 400, ERR_PERMANENT }, { "ValidationException", 400, ERR_PERMANENT },
	/* a code that nobody knows: the status tells */
	{ "FutureError", 400, ERR_PERMANENT }, { "FutureError", 403, ERR_AUTH }, { "FutureError", 429, ERR_TRANSIENT },
	{ "FutureError", 500, ERR_TRANSIENT }, { "FutureError", 503, ERR_TRANSIENT },
	/* neither a part of a code nor more than one */
	{ "Throttl", 400, ERR_PERMANENT }, { "throttling", 400, ERR_PERMANENT }, { "ThrottlingExceptions", 400, ERR_PERMANENT },
};

START_TEST(every_code)
{
	enum err_class got = keys_answer_class(classes[_i].code, classes[_i].status);

	ck_assert_msg(got == classes[_i].cls, "%s, status %ld: %s, wanted %s", classes[_i].code, classes[_i].status, err_name(got), err_name(classes[_i].cls));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_keys_answer");
	TCase *t = tcase_create("answers");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, answers, 0, (int)ARRAY_LEN(rows));
	tcase_add_loop_test(t, every_code, 0, (int)ARRAY_LEN(classes));
	tcase_add_test(t, lengths);
	tcase_add_test(t, cut);
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
