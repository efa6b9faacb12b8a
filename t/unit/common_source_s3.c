/*
 * common_source_s3.c - where a source of type s3 is, from its fields; which jobs of it are refused.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/job.h"
#include "common/source_s3.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct {
	const char *endpoint, *region, *bucket;
	int style;              /* force_path_style: -1 not given */
	bool dualstack, fips;
	const char *want;       /* URL of the service, " host path-style region base"; or the field at fault */
} addresses[] = {
	{ NULL, NULL, "b-1", -1, false, false, "https://s3.us-east-1.amazonaws.com b-1.s3.us-east-1.amazonaws.com 0 us-east-1 " },
	{ NULL, "eu-west-3", "b-1", -1, false, false, "https://s3.eu-west-3.amazonaws.com b-1.s3.eu-west-3.amazonaws.com 0 eu-west-3 " },
	{ NULL, "eu-west-3", "b.1", -1, false, false, "https://s3.eu-west-3.amazonaws.com s3.eu-west-3.amazonaws.com 1 eu-west-3 " },
	{ NULL, "eu-west-3", "Old_Bucket", -1, false, false, "https://s3.eu-west-3.amazonaws.com s3.eu-west-3.amazonaws.com 1 eu-west-3 " },
	{ NULL, "eu-west-3", "b-1", 1, false, false, "https://s3.eu-west-3.amazonaws.com s3.eu-west-3.amazonaws.com 1 eu-west-3 " },
	{ NULL, "eu-west-3", "b-1", 1, true, false, "https://s3.dualstack.eu-west-3.amazonaws.com s3.dualstack.eu-west-3.amazonaws.com 1 eu-west-3 " },
	{ NULL, "us-west-2", "b-1", 1, false, true, "https://s3-fips.us-west-2.amazonaws.com s3-fips.us-west-2.amazonaws.com 1 us-west-2 " },
	{ NULL, "us-west-2", "b-1", 1, true, true, "https://s3-fips.dualstack.us-west-2.amazonaws.com s3-fips.dualstack.us-west-2.amazonaws.com 1 us-west-2 " },
	{ NULL, "cn-north-1", "b-1", 1, false, false, "https://s3.cn-north-1.amazonaws.com.cn s3.cn-north-1.amazonaws.com.cn 1 cn-north-1 " },
	{ "https://S3.eu-central-1.amazonaws.com", NULL, "b-1", -1, false, false, "https://s3.eu-central-1.amazonaws.com s3.eu-central-1.amazonaws.com 1 eu-central-1 " },
	{ "http://127.0.0.1:9000", NULL, "b-1", -1, false, false, "http://127.0.0.1:9000 127.0.0.1 1 us-east-1 " },
	{ "http://Store.Example:80/", NULL, "b-1", -1, false, false, "http://store.example store.example 1 us-east-1 " },
	{ "https://store.example:443/s3/", "x", "b-1", -1, false, false, "https://store.example store.example 1 x /s3" },
	{ "store.example:9000", NULL, "b-1", -1, false, false, "https://store.example:9000 store.example 1 us-east-1 " },
	{ "http://store.example:9000", NULL, "b-1", 0, false, false, "http://store.example:9000 b-1.store.example 0 us-east-1 " },
	{ "http://[::1]:9000", NULL, "b-1", -1, false, false, "http://[::1]:9000 [::1] 1 us-east-1 " },
	{ "http://store.example", NULL, "tenant:b", -1, false, false, "http://store.example store.example 1 us-east-1 " },
	{ "http://[::1]:9000", NULL, "b-1", 0, false, false, "bucket" },
	{ "http://store.example", NULL, "B_1", 0, false, false, "bucket" },
	{ "http://store.example", NULL, "../b", -1, false, false, "bucket" },
	{ "http://store.example", NULL, "a/b", -1, false, false, "bucket" },
	{ "http://store.example", NULL, "-b", -1, false, false, "bucket" },
	{ "ftp://store.example", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://u:p@store.example", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://store.example?x", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://store.example:0", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://store.example:65536", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://store.example:", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://sto re", NULL, "b-1", -1, false, false, "endpoint" },
	{ "http://store.example/a/../b", NULL, "b-1", -1, false, false, "endpoint" },
	{ NULL, "eu west", "b-1", -1, false, false, "region" },
	{ NULL, "evil.example/", "b-1", -1, false, false, "region" },
};

static void
set(struct source_conf *s, enum source_field f, const char *text)
{
	if (!text)
		return;
	s->v[f].set = true;
	s->v[f].s = xstrdup(text);
}

START_TEST(test_address)
{
	struct err e = ERR_INIT;
	struct s3_address a;
	char url[300], *got;
	struct source_conf s;

	memset(&s, 0, sizeof(s));
	s.type = SOURCE_S3;
	set(&s, SF_S3_ENDPOINT, addresses[_i].endpoint);
	set(&s, SF_S3_REGION, addresses[_i].region);
	set(&s, SF_S3_BUCKET, addresses[_i].bucket);
	s.v[SF_S3_FORCE_PATH_STYLE].set = addresses[_i].style >= 0;
	s.v[SF_S3_FORCE_PATH_STYLE].i = addresses[_i].style > 0;
	s.v[SF_S3_USE_DUALSTACK].i = addresses[_i].dualstack;
	s.v[SF_S3_USE_FIPS].i = addresses[_i].fips;
	if (s3_address(&s, NULL, &a, &e)) {
		ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
		got = xstrdup(e.pointer);
	} else {
		s3_address_url(&a, url, sizeof(url));
		got = xasprintf("%s %s %d %s %s", url, a.host, a.path_style, a.region, a.base);
	}
	ck_assert_str_eq(got, addresses[_i].want);
	free(got);
	source_conf_release(&s);
}
END_TEST

START_TEST(test_other_region)
{
	struct err e = ERR_INIT;
	struct source_conf s;
	struct s3_address a;

	memset(&s, 0, sizeof(s));
	s.type = SOURCE_S3;
	set(&s, SF_S3_BUCKET, "b-1");
	set(&s, SF_S3_REGION, "us-east-1");
	ck_assert_int_eq(s3_address(&s, "eu-west-1", &a, &e), 0);
	ck_assert_str_eq(a.host, "b-1.s3.eu-west-1.amazonaws.com");
	ck_assert(a.amazon);
	ck_assert_int_eq(s3_address(&s, "evil.example/x", &a, &e), -1);
	/* a server of one's own stays where it is */
	set(&s, SF_S3_ENDPOINT, "http://store.example");
	ck_assert_int_eq(s3_address(&s, "eu-west-1", &a, &e), 0);
	ck_assert_str_eq(a.host, "store.example");
	ck_assert_str_eq(a.region, "eu-west-1");
	ck_assert(!a.amazon);
	source_conf_release(&s);
}
END_TEST

#define KEY "\"access_key_id\":\"i\",\"secret_access_key\":\"s\""

static const struct {
	const char *fields;
	enum err_class cls;     /* OK: taken */
	const char *want;       /* canonical, endpoint, url_base; or the pointer */
} jobs[] = {
	{ "\"bucket\":\"b-1\"," KEY, ERR_OK, "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket_name\":\"b-1\",\"aws_region\":\"x-1\",\"access_key\":\"i\",\"secret_key\":\"s\"", ERR_OK,
	    "s3:https://s3.x-1.amazonaws.com/b-1/ https://s3.x-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"endpoint\":\"http://H:9000/x\",\"path\":\"/in/a/\"," KEY, ERR_OK, "s3:http://h:9000/x/b-1/in/a http://h:9000 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"endpoint\":\"http://h\",\"prefix\":\"/in//\"," KEY, ERR_OK, "s3:http://h/b-1//in// http://h:80 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"anonymous\":true", ERR_OK, "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"credentials_ref\":\"x\"", ERR_OK, "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"profile\":\"x\",\"shared_credentials_file\":\"/etc/c/creds\"", ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\"," KEY, ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"use_instance_role\":true", ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"env_auth\":\"true\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\"", ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"use_instance_role\":false," KEY, ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"web_identity_token_file\":\"/etc/c/t\",\"role_duration\":\"12h\",\"role_session_name\":\"a@b\"", ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"external_id\":\"a:/b\",\"sts_region\":\"eu-west-3\",\"credentials_ref\":\"x\"", ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:minio:iam:::role/idmp-lists\",\"sts_endpoint\":\"http://Store.example:9000\"," KEY, ERR_OK,
	    "s3:https://s3.us-east-1.amazonaws.com/b-1/ https://s3.us-east-1.amazonaws.com:443 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"endpoint\":\"http://h\",\"path\":\"a|b||\",\"delimiter\":\"|\"," KEY, ERR_OK, "s3:http://h/b-1/a|b http://h:80 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"endpoint\":\"http://h\",\"path\":\"a--\",\"delimiter\":\"---\",\"max_depth\":0," KEY, ERR_OK, "s3:http://h/b-1/a-- http://h:80 s3://b-1" },
	{ "\"bucket\":\"b-1\",\"delimiter\":\"|\",\"recursive\":true,\"max_depth\":1," KEY, ERR_INVALID_JOB, "/source_config/max_depth" },
	{ "\"bucket\":\"b-1\",\"delimiter\":\"|\",\"recursive\":true,\"min_depth\":1," KEY, ERR_INVALID_JOB, "/source_config/min_depth" },
	{ "\"bucket\":\"b-1\",\"delimiter\":\"\"," KEY, ERR_INVALID_JOB, "/source_config/delimiter" },
	{ KEY, ERR_INVALID_JOB, "/source_config/bucket" },
	{ "\"bucket\":\"b-1\"", ERR_INVALID_JOB, "/source_config/access_key_id" },
	{ "\"bucket\":\"b-1\",\"access_key_id\":\"i\"", ERR_INVALID_JOB, "/source_config/secret_access_key" },
	{ "\"bucket\":\"b-1\",\"secret_access_key_ref\":\"i\"", ERR_INVALID_JOB, "/source_config/access_key_id" },
	{ "\"bucket\":\"b-1\",\"anonymous\":true," KEY, ERR_INVALID_JOB, "/source_config/anonymous" },
	{ "\"bucket\":\"b-1\",\"profile\":\"p\"," KEY, ERR_INVALID_JOB, "/source_config/profile" },
	{ "\"bucket\":\"b-1\",\"profile\":\"p\"", ERR_INVALID_JOB, "/source_config/profile" },
	{ "\"bucket\":\"b-1\",\"shared_credentials_file\":\"/root/creds\"", ERR_POLICY, "/source_config/shared_credentials_file" },
	{ "\"bucket\":\"b-1\",\"path\":\"a\",\"prefix\":\"a\"," KEY, ERR_INVALID_JOB, "/source_config/prefix" },
	{ "\"bucket\":\"b-1\",\"endpoint\":\"ftp://x\"," KEY, ERR_INVALID_JOB, "/source_config/endpoint" },
	{ "\"bucket\":\"b-1\",\"max_keys\":0," KEY, ERR_INVALID_JOB, "/source_config/max_keys" },
	{ "\"bucket\":\"b-1\",\"max_keys\":1001," KEY, ERR_INVALID_JOB, "/source_config/max_keys" },
	{ "\"bucket\":\"b-1\",\"list_type\":3," KEY, ERR_INVALID_JOB, "/source_config/list_type" },
	{ "\"bucket\":\"b-1\",\"expected_bucket_owner\":\"12\"," KEY, ERR_INVALID_JOB, "/source_config/expected_bucket_owner" },
	{ "\"bucket\":\"b-1\",\"storage_classes\":[\"standard\"]," KEY, ERR_INVALID_JOB, "/source_config/storage_classes" },
	{ "\"bucket\":\"b-1\",\"versions\":true,\"start_after\":\"a\"," KEY, ERR_INVALID_JOB, "/source_config/start_after" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\"", ERR_INVALID_JOB, "/source_config/access_key_id" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::1:x\"," KEY, ERR_INVALID_JOB, "/source_config/role_arn" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"urn:aws:iam::123456789012:role/x\"," KEY, ERR_INVALID_JOB, "/source_config/role_arn" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x y\"," KEY, ERR_INVALID_JOB, "/source_config/role_arn" },
	{ "\"bucket\":\"b-1\",\"external_id\":\"abc\"," KEY, ERR_INVALID_JOB, "/source_config/external_id" },
	{ "\"bucket\":\"b-1\",\"role_duration\":\"1h\"," KEY, ERR_INVALID_JOB, "/source_config/role_duration" },
	{ "\"bucket\":\"b-1\",\"sts_endpoint\":\"https://sts.example\"," KEY, ERR_INVALID_JOB, "/source_config/sts_endpoint" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"role_duration\":\"1m\"," KEY, ERR_INVALID_JOB, "/source_config/role_duration" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"role_session_name\":\"a\"," KEY, ERR_INVALID_JOB, "/source_config/role_session_name" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"role_session_name\":\"a/b\"," KEY, ERR_INVALID_JOB, "/source_config/role_session_name" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"external_id\":\"a b\"," KEY, ERR_INVALID_JOB, "/source_config/external_id" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"sts_region\":\"eu west\"," KEY, ERR_INVALID_JOB, "/source_config/sts_region" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"sts_endpoint\":\"ftp://sts.example\"," KEY, ERR_INVALID_JOB, "/source_config/sts_endpoint" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"sts_endpoint\":\"https://sts.example/path\"," KEY, ERR_INVALID_JOB, "/source_config/sts_endpoint" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"sts_endpoint\":\"https://u:p@sts.example\"," KEY, ERR_INVALID_JOB, "/source_config/sts_endpoint" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"endpoint\":\"http://store.example\"," KEY, ERR_INVALID_JOB, "/source_config/sts_endpoint" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"anonymous\":true", ERR_INVALID_JOB, "/source_config/anonymous" },
	{ "\"bucket\":\"b-1\",\"use_instance_role\":true," KEY, ERR_INVALID_JOB, "/source_config/access_key_id" },
	{ "\"bucket\":\"b-1\",\"use_instance_role\":true,\"credentials_ref\":\"x\"", ERR_INVALID_JOB, "/source_config/credentials_ref" },
	{ "\"bucket\":\"b-1\",\"use_instance_role\":true,\"anonymous\":true", ERR_INVALID_JOB, "/source_config/anonymous" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"use_instance_role\":true,\"web_identity_token_file\":\"/etc/c/t\"", ERR_INVALID_JOB, "/source_config/web_identity_token_file" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"web_identity_token_file\":\"/etc/c/t\"," KEY, ERR_INVALID_JOB, "/source_config/access_key_id" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"web_identity_token_file\":\"/etc/c/t\",\"external_id\":\"abc\"", ERR_INVALID_JOB, "/source_config/external_id" },
	{ "\"bucket\":\"b-1\",\"web_identity_token_file\":\"/etc/c/t\"", ERR_INVALID_JOB, "/source_config/web_identity_token_file" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"web_identity_token_file\":\"/etc/passwd\"", ERR_POLICY, "/source_config/web_identity_token_file" },
	{ "\"bucket\":\"b-1\",\"role_arn\":\"arn:aws:iam::123456789012:role/x\",\"web_identity_token_file\":\"/etc/c/../t\"", ERR_INVALID_JOB, "/source_config/web_identity_token_file" },
	{ "\"bucket\":\"b-1\",\"signature_version\":\"s3\"," KEY, ERR_INVALID_JOB, "/source_config/signature_version" },
};

START_TEST(test_jobs)
{
	struct strlist none = { NULL, 0 }, files = { NULL, 0 };
	struct job_limits limits = { .message_max = 1 << 20, .metadata_max = 1 << 16, .source_max = 1 << 16,
		.timeout_max_ms = 86400000, .allow_inline = true, .connections_max = 16, .file_roots = &files, .local_roots = &none };
	char *text = xasprintf("{\"job_id\":\"j\",\"source_config\":{\"source_type\":\"s3\",%s}}", jobs[_i].fields), *got;
	struct err e = ERR_INIT;
	struct job *j;

	strlist_add(&files, "/etc/c");
	j = job_parse(text, strlen(text), &limits, NULL, NULL, NULL, &e);
	ck_assert_msg((j ? ERR_OK : e.cls) == jobs[_i].cls, "%s: %s: %s", text, err_name(e.cls), e.text);
	got = j ? xasprintf("%s %s %s", j->sources[0].canonical, j->sources[0].endpoint, j->sources[0].url_base) : xstrdup(e.pointer);
	ck_assert_str_eq(got, jobs[_i].want);
	free(got);
	job_free(j);
	strlist_release(&files);
	free(text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_source_s3");
	TCase *c = tcase_create("s3");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(c, test_address, 0, ARRAY_LEN(addresses));
	tcase_add_test(c, test_other_region);
	tcase_add_loop_test(c, test_jobs, 0, ARRAY_LEN(jobs));
	suite_add_tcase(s, c);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
