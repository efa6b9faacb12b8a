/*
 * master_hostkeys.c - what a worker may say of a server's key, what is kept of it, and what a damaged file leaves.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHqf"
#define OTHER "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIABC"

static char dir[64], path[96], host[] = "Host.example", tenant[] = "acme co";
static struct config cfg;
static struct master m;
static struct job job;
static struct source_conf source;
static struct jobrec rec;
static struct task task;

static void
setup(void)
{
	struct err e = ERR_INIT;

	snprintf(dir, sizeof(dir), "/tmp/hostkeys.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/known_hosts", dir);
	cfg.state_dir = dir;
	m.cfg = &cfg;
	source.type = SOURCE_SFTP;
	source.v[SF_SFTP_HOST].s = host;
	source.v[SF_SFTP_PORT].i = 2222;
	source.v[SF_SFTP_HOST_KEY_CHECK].i = 2;
	job.sources = &source;
	job.n_sources = 1;
	rec.job = &job;
	rec.m = &m;
	rec.org_id = tenant;
	task.job = &rec;
	m.hostkeys = hostkeys_new(&m, &e);
	ck_assert_msg(m.hostkeys != NULL, "%s", e.text);
}

static void
teardown(void)
{
	hostkeys_free(m.hostkeys);
	unlink(path);
	rmdir(dir);
}

static int
say(const char *key, size_t n, struct err *e)
{
	struct frame f = { .type = MSG_HOSTKEY, .payload = (const uint8_t *)key, .n = n };

	*e = (struct err)ERR_INIT;
	return hostkeys_frame(&m, &task, &f, e);
}

static const char *
known(void)
{
	static char key[TASK_HOST_KEY];
	struct err e = ERR_INIT;

	ck_assert_int_eq(hostkeys_lend(&m, &task, key, sizeof(key), &e), 0);
	return key;
}

static void
write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	hostkeys_reloaded(m.hostkeys);
}

static const struct { const char *text; size_t n; } bad[] = {
	{ "ssh-ed25519", 11 }, { "ssh-ed25519 ", 12 }, { " AAAA", 5 }, { "ssh-ed25519  AAAA", 17 }, { "ssh-ed25519 AA AA", 17 },
	{ "ssh-ed25519 AAAA\n", 17 }, { "ssh-ed25519 AA\0A", 16 }, { "ssh\0ed25519 AAAA", 16 }, { "ssh-ed25519\nAAAA", 16 }, { "#ssh-ed25519 AAAA", 17 },
	{ "\x1b[2Jssh AAAA", 12 },
	{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa AAAA", 69 },
};

START_TEST(what_is_no_key_is_refused)
{
	struct err e;

	ck_assert_int_eq(say(bad[_i].text, bad[_i].n, &e), -1);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	ck_assert_str_eq(known(), "");
	ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(kept_by_tenant_host_and_port)
{
	char other[] = "beta", upper[] = "HOST.example";
	struct err e;

	ck_assert_int_eq(say(KEY, strlen(KEY), &e), 0);
	ck_assert_str_eq(known(), KEY);
	ck_assert_int_eq(say(KEY, strlen(KEY), &e), 0);
	ck_assert_int_eq(say(OTHER, strlen(OTHER), &e), -1);
	ck_assert_int_eq(e.cls, ERR_PERMANENT);
	source.v[SF_SFTP_HOST].s = upper;
	ck_assert_str_eq(known(), KEY);
	source.v[SF_SFTP_PORT].i = 22;
	ck_assert_str_eq(known(), "");
	source.v[SF_SFTP_PORT].i = 2222;
	rec.org_id = other;
	ck_assert_str_eq(known(), "");
	ck_assert_int_eq(say(OTHER, strlen(OTHER), &e), 0);
	rec.org_id = tenant;
	hostkeys_reloaded(m.hostkeys);
	ck_assert_str_eq(known(), KEY);
	rec.org_id = other;
	ck_assert_str_eq(known(), OTHER);
}
END_TEST

START_TEST(only_accept_new_remembers)
{
	struct err e;

	for (int check = 0; check < 4; check++) {
		source.v[SF_SFTP_HOST_KEY_CHECK].i = check;
		ck_assert_int_eq(say(KEY, strlen(KEY), &e), check == 2 ? 0 : -1);
		ck_assert_str_eq(known(), check == 2 ? KEY : "");
	}
	source.type = SOURCE_FTP;
	ck_assert_int_eq(say(KEY, strlen(KEY), &e), -1);
}
END_TEST

static const struct { const char *text, *key; } files[] = {
	{ "[host.example]:2222 " KEY " acme co", KEY },
	{ "\n# comment\n\n[host.example]:2222 " KEY " acme co\n\n", KEY },
	{ "garbage\n[host.example]:2222 " KEY " acme co\n", KEY },
	/* the first one counts: a line behind it cannot undo it */
	{ "[host.example]:2222 " KEY " acme co\n[host.example]:2222 " OTHER " acme co\n", KEY },
	{ "", "" }, { "\n\n\n", "" }, { "[host.example]:2222", "" }, { "[host.example]:2222 ", "" }, { "[host.example]:2222 ssh-ed25519", "" },
	{ "[host.example]:2222 " KEY, "" }, { "[host.example]:2222 " KEY " ", "" }, { "[host.example]:2222 " KEY " acme", "" },
	{ "host.example " KEY " acme co", "" }, { "[host.example]:2222 ssh-ed25519 !!! acme co", "" },
};

START_TEST(lines)
{
	write_file(files[_i].text);
	ck_assert_str_eq(known(), files[_i].key);
}
END_TEST

START_TEST(a_cut_line_costs_itself_alone)
{
	struct err e;

	write_file("[other.example]:22 ssh-ed25519 AAA");
	ck_assert_int_eq(say(KEY, strlen(KEY), &e), 0);
	hostkeys_reloaded(m.hostkeys);
	ck_assert_str_eq(known(), KEY);
}
END_TEST

START_TEST(an_unreadable_file_is_no_empty_one)
{
	struct err e = ERR_INIT;

	ck_assert_int_eq(say(KEY, strlen(KEY), &e), 0);
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	hostkeys_reloaded(m.hostkeys);
	ck_assert_str_eq(known(), KEY);
	ck_assert_ptr_null(hostkeys_new(&m, &e));
	ck_assert_int_eq(e.cls, ERR_CONFIG);
	rmdir(path);
	ck_assert_int_eq(symlink("/etc/hostname", path), 0);
	ck_assert_ptr_null(hostkeys_new(&m, &e));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hostkeys");
	TCase *tc = tcase_create("hostkeys");
	SRunner *sr;
	int failed;

	log_set_level(LOG_ERROR);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, what_is_no_key_is_refused, 0, ARRAY_LEN(bad));
	tcase_add_test(tc, kept_by_tenant_host_and_port);
	tcase_add_test(tc, only_accept_new_remembers);
	tcase_add_loop_test(tc, lines, 0, ARRAY_LEN(files));
	tcase_add_test(tc, a_cut_line_costs_itself_alone);
	tcase_add_test(tc, an_unreadable_file_is_no_empty_one);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
