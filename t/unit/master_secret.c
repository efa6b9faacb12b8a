/*
 * master_secret.c - unit tests of secret.c: which files are taken as secrets, what of them reaches a task, what is refused.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/secret.h"

static char dir[] = "/tmp/secrets.XXXXXX", made[64];
static struct config cfg;
static struct source_conf source;
static struct secrets secrets;
static struct err e;

static void
put(const char *name, const char *text, size_t n, mode_t mode)
{
	char *path = xasprintf("%s/%s", made, name);
	FILE *f;

	unlink(path);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, n, f), n);
	fclose(f);
	ck_assert_int_eq(chmod(path, mode), 0);
	free(path);
}

static void
puts_file(const char *name, const char *text)
{
	put(name, text, strlen(text), 0400);
}

static void
say(enum source_field id, const char *value)
{
	source.v[id] = (struct field_value){ .set = true, .s = xstrdup(value) };
}

static void
before(void)
{
	err_clear(&e);
	snprintf(made, sizeof(made), "%s", dir);
	ck_assert_ptr_nonnull(mkdtemp(made));
	memset(&source, 0, sizeof(source));
	source.type = SOURCE_SFTP;
	memset(&cfg, 0, sizeof(cfg));
	cfg.credentials_dir = made;
	strlist_add(&cfg.credentials_file_roots, made);
}

static void
after(void)
{
	char *cmd = xasprintf("rm -r '%s'", made);

	secrets_wipe(&secrets);
	source_conf_release(&source);
	strlist_release(&cfg.credentials_file_roots);
	ck_assert_int_eq(system(cmd), 0);
	free(cmd);
}

static const char *org = "acme";

static int
load(void)
{
	return secrets_load(&cfg, org, &source, &secrets, &e);
}

/* What a worker would be given. */
static const char *
lent(enum source_field id)
{
	static char value[70000];
	struct source_conf shallow = source;

	secrets_lend(&secrets, &shallow);
	snprintf(value, sizeof(value), "%s", shallow.v[id].s ? shallow.v[id].s : "(none)");
	return value;
}

START_TEST(one_secret_a_file)
{
	puts_file("pw", "s3cr3t \n");
	say(SF_NETWORK_PROXY_PASSWORD_REF, "pw");
	ck_assert_msg(!load(), "%s", e.text);
	ck_assert_str_eq(lent(SF_NETWORK_PROXY_PASSWORD), "s3cr3t ");
	/* Read anew each time. */
	secrets_wipe(&secrets);
	puts_file("pw", "changed");
	ck_assert_msg(!load(), "%s", e.text);
	ck_assert_str_eq(lent(SF_NETWORK_PROXY_PASSWORD), "changed");
}
END_TEST

START_TEST(lines_stay_in_texts)
{
	static const char pem[] = "-----BEGIN X-----\nabc\n-----END X-----\n";
	char *path = xasprintf("%s/key.pem", made);

	puts_file("key", pem);
	put("key.pem", "file\n", 5, 0400);
	say(SF_NETWORK_TLS_KEY_REF, "key");
	ck_assert_msg(!load(), "%s", e.text);
	ck_assert_str_eq(lent(SF_NETWORK_TLS_KEY_PEM), pem);
	secrets_wipe(&secrets);
	free(source.v[SF_NETWORK_TLS_KEY_REF].s);
	source.v[SF_NETWORK_TLS_KEY_REF] = (struct field_value){ 0 };
	say(SF_NETWORK_TLS_KEY_FILE, path);
	ck_assert_msg(!load(), "%s", e.text);
	ck_assert_str_eq(lent(SF_NETWORK_TLS_KEY_PEM), "file\n");
	free(path);
}
END_TEST

START_TEST(a_set_wins)
{
	puts_file("set", "{ \"proxy\": { \"username\": \"u\", \"password\": \"from-set\" }, \"tls\": { \"key_pem\": \"a\\nb\" } }");
	say(SF_NETWORK_CREDENTIALS_REF, "set");
	say(SF_NETWORK_PROXY_PASSWORD, "inline");
	ck_assert_msg(!load(), "%s", e.text);
	ck_assert_str_eq(lent(SF_NETWORK_PROXY_PASSWORD), "from-set");
	ck_assert_str_eq(lent(SF_NETWORK_PROXY_USERNAME), "u");
	ck_assert_str_eq(lent(SF_NETWORK_TLS_KEY_PEM), "a\nb");
	ck_assert_uint_eq(secrets.n, 3);
}
END_TEST

static const struct { const char *set; const char *job[2]; const char *want; } headers[] = {
	{ "\"A\": \"1\"", { NULL, NULL }, "A: 1" },
	{ "\"A\": \"1\"", { "B: 2", "C: 3" }, "A: 1|B: 2|C: 3" },
	{ "\"X-Key\": \"set\", \"B\": \"2\"", { "x-KEY: job", "X-Key-2: stays" }, "X-Key: set|B: 2|X-Key-2: stays" },
	{ NULL, { "B: 2", NULL }, "B: 2" },
};

START_TEST(headers_are_merged)
{
	struct source_conf shallow;
	struct buf got = BUF_INIT;
	char *text = headers[_i].set ? xasprintf("{ \"auth\": { \"username\": \"u\" }, \"headers\": { %s } }", headers[_i].set) :
	    xstrdup("{ \"auth\": { \"username\": \"u\" } }");

	source.type = SOURCE_HTTP;
	puts_file("set", text);
	say(SF_NETWORK_CREDENTIALS_REF, "set");
	for (size_t i = 0; i < 2 && headers[_i].job[i]; i++) {
		source.v[SF_HTTP_HEADERS].set = true;
		strlist_add(&source.v[SF_HTTP_HEADERS].l, headers[_i].job[i]);
	}
	ck_assert_msg(!load(), "%s", e.text);
	shallow = source;
	secrets_lend(&secrets, &shallow);
	for (size_t i = 0; i < shallow.v[SF_HTTP_HEADERS].l.n; i++)
		buf_printf(&got, "%s%s", i ? "|" : "", shallow.v[SF_HTTP_HEADERS].l.v[i]);
	ck_assert_str_eq(buf_str(&got), headers[_i].want);
	buf_release(&got);
	free(text);
}
END_TEST

START_TEST(too_many_headers_together)
{
	struct buf b = BUF_INIT;
	char one[32];

	source.type = SOURCE_HTTP;
	source.v[SF_HTTP_HEADERS].set = true;
	for (int i = 0; i < FILTER_LIST_MAX; i++) {
		snprintf(one, sizeof(one), "J%d: 1", i);
		strlist_add(&source.v[SF_HTTP_HEADERS].l, one);
	}
	buf_puts(&b, "{ \"headers\": { \"S\": \"1\" } }");
	puts_file("set", buf_str(&b));
	say(SF_NETWORK_CREDENTIALS_REF, "set");
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_AUTH);
	ck_assert_ptr_nonnull(strstr(e.text, "more headers together"));
	buf_release(&b);
}
END_TEST

static const struct { const char *text; const char *why; } bad_sets[] = {
	{ "", "" },
	{ "[]", "not a JSON object" },
	{ "{\"proxy\":{\"password\":\"hunter2\"}", "" },
	{ "{\"proxy\":{\"password\":\"hunter2\"},}", "" },
	{ "{\"proxy\":{\"pasword\":\"hunter2\"}}", "no field of this source type" },
	{ "{\"passwort\":\"hunter2\"}", "no field of this source type" },
	{ "{\"proxy\":\"hunter2\"}", "must be an object" },
	{ "{\"proxy\":{\"password\":17}}", "must be a string" },
	{ "{\"proxy\":{\"password\":\"hunter2\\nx\"}}", "NUL, CR or LF" },
	{ "{\"connect_timeout\":\"1s\"}", "neither a secret nor a login" },
	{ "{\"proxy\":{\"url\":\"http://hunter2\"}}", "neither a secret nor a login" },
};

START_TEST(sets_that_are_wrong)
{
	puts_file("set", bad_sets[_i].text);
	say(SF_NETWORK_CREDENTIALS_REF, "set");
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_AUTH);
	ck_assert_msg(strstr(e.text, bad_sets[_i].why) && strstr(e.text, "/set"), "%s", e.text);
	ck_assert_msg(!strstr(e.text, "hunter2"), "%s", e.text);
	ck_assert_uint_eq(secrets.n, 0);
}
END_TEST

static const struct { const char *text; size_t n; mode_t mode; bool taken; const char *why; } files[] = {
	{ "pw", 2, 0400, true, NULL },
	{ "pw", 2, 0440, true, NULL },          /* as systemd shows its credentials */
	{ "pw", 2, 0600, true, NULL },
	{ "pw", 2, 0444, false, "chmod 0400" },
	{ "pw", 2, 0402, false, "chmod 0400" },
	{ "pw", 2, 0660, false, "chmod 0400" },
	{ "", 0, 0400, false, "empty" },
	{ "\n", 1, 0400, false, "empty" },
	{ "a\nb", 3, 0400, false, "several lines" },
	{ "a\0b", 3, 0400, false, "NUL" },
};

START_TEST(files_as_secrets)
{
	put("pw", files[_i].text, files[_i].n, files[_i].mode);
	say(SF_NETWORK_PROXY_PASSWORD_REF, "pw");
	ck_assert_int_eq(load(), files[_i].taken ? 0 : -1);
	if (files[_i].taken)
		return;
	ck_assert_int_eq(e.cls, ERR_AUTH);
	ck_assert_msg(strstr(e.text, files[_i].why) != NULL, "%s", e.text);
}
END_TEST

START_TEST(not_there)
{
	say(SF_NETWORK_PROXY_PASSWORD_REF, "pw");
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_AUTH);
	ck_assert_ptr_nonnull(strstr(e.text, "/pw"));
}
END_TEST

START_TEST(no_way_out)
{
	char *path = xasprintf("%s/up", made);

	ck_assert_int_eq(symlink("/etc/hostname", path), 0);
	say(SF_NETWORK_PROXY_PASSWORD_REF, "up");
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_AUTH);
	/* A link that stays inside is how some hosts keep secrets. */
	ck_assert_int_eq(unlink(path), 0);
	puts_file("real", "pw");
	ck_assert_int_eq(symlink("real", path), 0);
	ck_assert_msg(!load(), "%s", e.text);
	secrets_wipe(&secrets);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(load(), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "not a regular file"));
	free(path);
}
END_TEST

START_TEST(too_large)
{
	char *big = xcalloc(1, 70001);

	memset(big, 'x', 70000);
	put("big", big, 70000, 0400);
	say(SF_NETWORK_TLS_KEY_REF, "big");
	ck_assert_int_eq(load(), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "larger than"));
	/* fits the file's limit, not the field's */
	put("big", big, 20000, 0400);
	ck_assert_int_eq(load(), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "too long"));
	free(big);
}
END_TEST

START_TEST(files_below_the_roots_only)
{
	say(SF_NETWORK_TLS_CA_FILE, "/etc/ssl/certs/ca-certificates.crt");
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_POLICY);
	ck_assert_ptr_nonnull(strstr(e.text, "credentials.file_roots"));
}
END_TEST

START_TEST(public_files_may_be_public)
{
	char *path = xasprintf("%s/ca.pem", made);

	put("ca.pem", "cert\n", 5, 0444);
	say(SF_NETWORK_TLS_CA_FILE, path);
	ck_assert_msg(!load(), "%s", e.text);
	ck_assert_str_eq(lent(SF_NETWORK_TLS_CA_PEM), "cert\n");
	free(path);
}
END_TEST

static const char aws[] = "# comment\n[default]\naws_access_key_id = AKD\naws_secret_access_key=sD\n\n[profile prod]\r\n"
    "aws_access_key_id\t=  AKP \r\naws_secret_access_key = s=P/+\r\naws_session_token = tok\r\nregion = eu-west-1\n"
    "; more\n[half]\naws_access_key_id = x\n";

static const struct { const char *text, *profile, *id, *secret, *token, *why; } profiles[] = {
	{ aws, "default", "AKD", "sD", NULL, NULL },
	{ aws, "prod", "AKP", "s=P/+", "tok", NULL },
	{ aws, "half", NULL, NULL, NULL, "lacks" },
	{ aws, "other", NULL, NULL, NULL, "no section [other]" },
	{ "", "default", NULL, NULL, NULL, "no section" },
	{ "[default]\nhunter2\n", "default", NULL, NULL, NULL, "line 2" },
	{ "hunter2\n", "default", NULL, NULL, NULL, "line 1" },
	{ "[default\naws_access_key_id = a", "default", NULL, NULL, NULL, "line 1" },
	{ "[", "default", NULL, NULL, NULL, "line 1" },
	{ "[default]\naws_access_key_id = a\naws_secret_access_key =", "default", NULL, NULL, NULL, "empty" },
};

START_TEST(sections_of_a_shared_file)
{
	char *path = xasprintf("%s/aws", made);

	put("aws", profiles[_i].text, strlen(profiles[_i].text), 0600);
	source.type = SOURCE_S3;
	say(SF_S3_SHARED_CREDENTIALS_FILE, path);
	if (strcmp(profiles[_i].profile, "default"))
		say(SF_S3_PROFILE, profiles[_i].profile);
	free(path);
	ck_assert_msg(load() == (profiles[_i].why ? -1 : 0), "%s", e.text);
	if (profiles[_i].why) {
		ck_assert_int_eq(e.cls, ERR_AUTH);
		ck_assert_msg(strstr(e.text, profiles[_i].why) && !strstr(e.text, "hunter2"), "%s", e.text);
		ck_assert_uint_eq(secrets.n, 0);
		return;
	}
	ck_assert_str_eq(lent(SF_S3_ACCESS_KEY_ID), profiles[_i].id);
	ck_assert_str_eq(lent(SF_S3_SECRET_ACCESS_KEY), profiles[_i].secret);
	ck_assert_str_eq(lent(SF_S3_SESSION_TOKEN), profiles[_i].token ? profiles[_i].token : "(none)");
}
END_TEST

START_TEST(where_they_lie)
{
	struct config none = { .credentials_dir = (char[1]){ "" } };

	unsetenv("CREDENTIALS_DIRECTORY");
	ck_assert_str_eq(secret_dir(&none), "/etc/iis-poller/credentials.d");
	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/iis-poller.service", 1);
	ck_assert_str_eq(secret_dir(&none), "/run/credentials/iis-poller.service");
	ck_assert_str_eq(secret_dir(&cfg), made);
}
END_TEST

#ifndef SANITIZED
#define MARK_BYTES 24

/* How often the bytes stand in what malloc gives. */
static unsigned
copies(const char *mark)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long from, to;
	unsigned n = 0;

	ck_assert_ptr_nonnull(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (!strstr(line, "[heap]") || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		for (const char *p = (const char *)from; (p = memmem(p, to - (size_t)p, mark, MARK_BYTES)); p++)
			n++;
	}
	fclose(maps);
	return n;
}

static const struct { const char *before, *after; enum source_field id; size_t room; } places[] = {
	{ "", "", SF_SFTP_PRIVATE_KEY_REF, 12000 },
	{ "", "\n", SF_SFTP_PASSWORD_REF, 900 },
	{ "{\"username\":\"u\",\"password\":\"", "\"}", SF_NETWORK_CREDENTIALS_REF, 900 },
	{ "{\"username\":\"u\",\"password\":\"", "\",\"private_key\":\"abc\\ndef\"}", SF_NETWORK_CREDENTIALS_REF, 900 },
	{ "{\"password\":\"", "\",\"pass\":\"x\"}", SF_NETWORK_CREDENTIALS_REF, 900 },
	{ "{\"pass_word\":[\"", "\"]}", SF_NETWORK_CREDENTIALS_REF, 900 },
	{ "\"", "\"", SF_NETWORK_CREDENTIALS_REF, 900 },
};

/* Taken or refused: once wiped, no copy stays behind in freed memory. */
START_TEST(nothing_stays)
{
	static char text[16384];
	char mark[MARK_BYTES];
	char *path = xasprintf("%s/s", made);
	size_t at = strlen(places[_i].before);
	int fd;

	for (size_t i = 0; i < sizeof(mark); i++)
		mark[i] = (char)('a' + (i * 7 + (size_t)getpid()) % 26);
	memset(text, 'x', sizeof(text));
	memcpy(text, places[_i].before, at);
	memcpy(text + at, mark, sizeof(mark));
	memcpy(text + at + places[_i].room, places[_i].after, strlen(places[_i].after));
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0400);
	at += places[_i].room + strlen(places[_i].after);
	ck_assert_int_eq(write(fd, text, at), (ssize_t)at);
	close(fd);
	say(places[_i].id, "s");
	load();
	secrets_wipe(&secrets);
	ck_assert_uint_eq(copies(mark), 0);
	ck_assert_ptr_null(memmem(&e, sizeof(e), mark, 8));
	free(path);
}
END_TEST
#endif

START_TEST(whose_secret_comes_before_the_file)
{
	static const char text[] = "tenants: {acme: {credentials: [\"acme-*\", \"/srv/acme/*\"]}, other: {credentials: [none]}}\n";
	struct config_args args = { .file = NULL };
	struct config_set set;

	ck_assert_int_eq(config_load_text(&set, "t.yaml", text, strlen(text), &args), 0);
	cfg.table[CONFIG_TABLE_TENANTS] = set.c.table[CONFIG_TABLE_TENANTS];
	/* Neither file is there: a refusal does not tell that. */
	say(SF_SFTP_PASSWORD_REF, "beta-login");
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_POLICY);
	ck_assert_str_eq(e.text, "password_ref names beta-login: tenants.acme.credentials does not allow it");
	free(source.v[SF_SFTP_PASSWORD_REF].s);
	say(SF_SFTP_PASSWORD_REF, "acme-login");
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_AUTH);
	puts_file("acme-login", "pw\n");
	ck_assert_int_eq(load(), 0);
	secrets_wipe(&secrets);
	org = "other";
	ck_assert_int_eq(load(), -1);
	ck_assert_int_eq(e.cls, ERR_POLICY);
	org = "acme";
	say(SF_SFTP_PRIVATE_KEY_FILE, "/srv/beta/key");
	ck_assert_int_eq(load(), -1);
	ck_assert_str_eq(e.text, "private_key_file names /srv/beta/key: tenants.acme.credentials does not allow it");
	memset(&cfg.table, 0, sizeof(cfg.table));
	config_set_release(&set);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_secret");
	TCase *t = tcase_create("secret");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_test(t, one_secret_a_file);
	tcase_add_test(t, lines_stay_in_texts);
	tcase_add_test(t, a_set_wins);
	tcase_add_loop_test(t, headers_are_merged, 0, (int)ARRAY_LEN(headers));
	tcase_add_test(t, too_many_headers_together);
	tcase_add_loop_test(t, sets_that_are_wrong, 0, (int)ARRAY_LEN(bad_sets));
	tcase_add_loop_test(t, files_as_secrets, 0, (int)ARRAY_LEN(files));
	tcase_add_test(t, not_there);
	tcase_add_test(t, no_way_out);
	tcase_add_test(t, too_large);
	tcase_add_test(t, files_below_the_roots_only);
	tcase_add_test(t, public_files_may_be_public);
	tcase_add_loop_test(t, sections_of_a_shared_file, 0, (int)ARRAY_LEN(profiles));
	tcase_add_test(t, whose_secret_comes_before_the_file);
	tcase_add_test(t, where_they_lie);
#ifndef SANITIZED
	tcase_add_loop_test(t, nothing_stays, 0, (int)ARRAY_LEN(places));
#endif
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
