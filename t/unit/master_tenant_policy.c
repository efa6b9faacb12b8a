/*
 * master_tenant_policy.c - unit tests of tenant_policy.c: what each setting of a tenant refuses, and how it says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

static const char settings[] =
    "local: {allowed_roots: [/srv]}\n"
    "credentials: {file_roots: [/etc/keys]}\n"
    "tenants:\n"
    "  types: {source_types: [dummy, local]}\n"
    "  every: {source_types: [\"*\"], hosts: [\"*\"], credentials: [\"*\"]}\n"
    "  roots: {roots: [/srv/a, /srv/b/c]}\n"
    "  hosts: {hosts: [\"*.a.example\", B.example, 10.1.0.0/16, \"fd00:1::/32\", 192.0.2.7]}\n"
    "  creds: {credentials: [\"x-*\", y, \"/etc/keys/x/*\"]}\n"
    "  none: {credentials: [none]}\n"
    "  inline: {credentials_inline: false}\n"
    "  topics: {topics: [one, two]}\n"
    "  time: {timeout_max: 5m}\n"
    "  default: {source_types: [local, sftp, http, s3]}\n";

#define SFTP(host, more) "\"source_type\":\"sftp\",\"host\":\"" host "\",\"username\":\"u\",\"path\":\"/in\",\"host_key_check\":\"off\"" more
#define HOST(host) SFTP(host, ",\"password\":\"p\"")
#define LOCAL(path) "\"source_type\":\"local\",\"path\":\"" path "\""
#define HTTP(url, more) "\"source_type\":\"http\",\"url\":\"" url "\"" more

static const struct {
	const char *org, *source, *more, *topic, *refused;  /* refused: words of the text, NULL: permitted */
} rows[] = {
	{ "types", LOCAL("/srv/x"), "", "one", NULL },
	{ "types", HOST("h"), "", "one", "the source type is sftp: tenants.types.source_types does not allow it" },
	{ "every", SFTP("h", ",\"password_ref\":\"z\""), "", "one", NULL },
	{ "roots", LOCAL("/srv/a/deep"), "", "one", NULL },
	{ "roots", LOCAL("/srv/a"), "", "one", NULL },
	{ "roots", LOCAL("/srv/ab"), "", "one", "the path is /srv/ab: tenants.roots.roots does not allow it" },
	{ "roots", LOCAL("/srv/b"), "", "one", "tenants.roots.roots" },
	{ "roots", LOCAL("/srv"), "", "one", "tenants.roots.roots" },
	{ "hosts", HOST("x.a.example"), "", "one", NULL },
	{ "hosts", HOST("x.y.A.example."), "", "one", NULL },
	{ "hosts", HOST("a.example"), "", "one", "the source is on the host a.example: tenants.hosts.hosts does not allow it" },
	{ "hosts", HOST("xa.example"), "", "one", "tenants.hosts.hosts" },
	{ "hosts", HOST("b.example"), "", "one", NULL },
	{ "hosts", HOST("10.1.255.3"), "", "one", NULL },
	{ "hosts", HOST("10.2.0.1"), "", "one", "tenants.hosts.hosts" },
	{ "hosts", HOST("192.0.2.7"), "", "one", NULL },
	{ "hosts", HOST("[fd00:1::9]"), "", "one", NULL },
	{ "hosts", HOST("[fd00:2::9]"), "", "one", "tenants.hosts.hosts" },
	{ "hosts", HTTP("https://b.example/x/", ""), "", "one", NULL },
	{ "hosts", HTTP("https://c.example/b.example/", ""), "", "one", "c.example" },
	{ "hosts", HTTP("https://b.example/x/", ",\"proxy\":{\"url\":\"http://c.example:3128\"}"), "", "one", "the proxy is on the host c.example: tenants.hosts.hosts" },
	{ "hosts", HTTP("https://b.example/x/", ",\"proxy\":{\"url\":\"http://10.1.2.3:3128\"}"), "", "one", NULL },
	{ "hosts", LOCAL("/srv/x"), "", "one", NULL },
	{ "creds", SFTP("h", ",\"password_ref\":\"x-1\""), "", "one", NULL },
	{ "creds", SFTP("h", ",\"credentials_ref\":\"y\""), "", "one", NULL },
	{ "creds", SFTP("h", ",\"credentials_ref\":\"z\""), "", "one", "credentials_ref names z: tenants.creds.credentials does not allow it" },
	{ "creds", SFTP("h", ",\"password_ref\":\"zx-1\""), "", "one", "password_ref names zx-1: tenants.creds.credentials" },
	{ "creds", SFTP("h", ",\"private_key_file\":\"/etc/keys/x/id\""), "", "one", NULL },
	{ "creds", SFTP("h", ",\"private_key_file\":\"/etc/keys/x-1\""), "", "one", "private_key_file names /etc/keys/x-1: tenants.creds.credentials" },
	{ "creds", SFTP("h", ",\"known_hosts_file\":\"/etc/keys/hosts\",\"password\":\"p\""), "", "one", NULL },
	{ "creds", SFTP("h", ",\"password\":\"own\""), "", "one", NULL },
	{ "none", SFTP("h", ",\"password_ref\":\"none\""), "", "one", "tenants.none.credentials" },
	{ "none", SFTP("h", ",\"password\":\"own\""), "", "one", NULL },
	{ "inline", SFTP("h", ",\"password\":\"own\""), "", "one", "password in a job: tenants.inline.credentials_inline forbids it" },
	{ "inline", SFTP("h", ",\"password_ref\":\"p\""), "", "one", NULL },
	{ "topics", LOCAL("/srv/x"), "", "two", NULL },
	{ "topics", LOCAL("/srv/x"), "", "three", "a job of the tenant topics from the topic three: tenants.topics.topics does not allow it" },
	{ "time", LOCAL("/srv/x"), ",\"timeout\":300", "one", NULL },
	{ "time", LOCAL("/srv/x"), ",\"timeout\":301", "one", "timeout is longer than tenants.time.timeout_max (5m)" },
	{ "unheard of", LOCAL("/srv/x"), "", "one", NULL },
	{ "unheard of", "\"source_type\":\"dummy\"", "", "one", "the source type is dummy: tenants.default.source_types" },
	{ "roots", "\"source_type\":\"dummy\"", "", "one", "tenants.roots.source_types" },   /* handed down */
};

static struct config_set set;

static void
setup(void)
{
	struct config_args args = { .file = NULL };

	ck_assert_int_eq(config_load_text(&set, "t.yaml", settings, strlen(settings), &args), 0);
}

static struct job *
job_of(const char *org, const char *source, const char *more)
{
	struct job_limits l = { .message_max = 65536, .metadata_max = 1024, .source_max = 4096, .timeout_max_ms = 86400000,
		.allow_inline = true, .allow_unknown_hosts = true, .connections_max = 4, .file_roots = &set.c.credentials_file_roots,
		.dummy_root = "/srv/dummy", .local_roots = &set.c.local_roots };
	char *text = xasprintf("{\"job_id\":\"j\",\"org_id\":\"%s\",\"source_config\":{%s}%s}", org, source, more);
	struct err e = ERR_INIT;
	struct job *j = job_parse(text, strlen(text), &l, NULL, NULL, NULL, &e);

	ck_assert_msg(j != NULL, "%s: %s", text, e.text);
	free(text);
	return j;
}

START_TEST(each_setting)
{
	struct job *j = job_of(rows[_i].org, rows[_i].source, rows[_i].more);
	struct err e = ERR_INIT;
	int ret = tenant_permits_job(&set.c, j, rows[_i].topic, &e);

	if (rows[_i].refused) {
		ck_assert_msg(ret == -1, "%s %s is permitted", rows[_i].org, rows[_i].source);
		ck_assert_int_eq(e.cls, ERR_POLICY);
		ck_assert_msg(strstr(e.text, rows[_i].refused) != NULL, "%s", e.text);
	} else {
		ck_assert_msg(ret == 0, "%s %s: %s", rows[_i].org, rows[_i].source, e.text);
	}
	job_free(j);
	config_set_release(&set);
}
END_TEST

START_TEST(deadline)
{
	struct job *j = job_of("time", LOCAL("/srv/x"), "");

	set.c.timeout_job = 600000;
	ck_assert_int_eq(tenant_deadline(&set.c, j), 300000);
	j->timeout_ms = 1000;
	ck_assert_int_eq(tenant_deadline(&set.c, j), 1000);
	job_free(j);
	j = job_of("topics", LOCAL("/srv/x"), "");
	ck_assert_int_eq(tenant_deadline(&set.c, j), 600000);
	job_free(j);
	config_set_release(&set);
}
END_TEST

START_TEST(no_table_no_limits)
{
	struct config_args args = { .file = NULL };
	struct job *j = job_of("any", SFTP("h", ",\"password_ref\":\"p\""), "");
	struct err e = ERR_INIT;

	config_set_release(&set);
	ck_assert_int_eq(config_load_text(&set, "t.yaml", "", 0, &args), 0);
	ck_assert_int_eq(tenant_permits_job(&set.c, j, "one", &e), 0);
	ck_assert_ptr_eq(tenant_roots(&set.c, "any"), &set.c.local_roots);
	job_free(j);
	config_set_release(&set);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_tenant_policy");
	TCase *t = tcase_create("policy");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, each_setting, 0, ARRAY_LEN(rows));
	tcase_add_test(t, deadline);
	tcase_add_test(t, no_table_no_limits);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
