/*
 * master_keyring.c - unit tests of keyring.c: who may have temporary credentials, who is given which, who waits, what is kept
 * and when it is asked for anew.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/keyring.h"

#define ARN "arn:aws:iam::123456789012:role/x"
#define SECOND INT64_C(1000000000)

struct item { struct jobrec rec; struct job job; struct source_conf source; struct task task; char org[16]; };

static struct master m;
static struct config cfg;
static struct item *items[32];
static size_t n_items;
static struct err e = ERR_INIT;
static struct buf b = BUF_INIT;

static void
before(void)
{
	memset(&m, 0, sizeof(m));
	memset(&cfg, 0, sizeof(cfg));
	cfg.network_tasks = 100;
	m.cfg = &cfg;
	m.loop = loop_new();
	m.endpoints = endpoints_new();
	m.sched = sched_new(&m, 1);
	m.keyring = keyring_new(&m);
	n_items = 0;
	e = (struct err)ERR_INIT;
}

static void
after(void)
{
	sched_free(m.sched);
	endpoints_free(m.endpoints);
	keyring_free(m.keyring);
	loop_free(m.loop);
	strlist_release(&cfg.credentials_instance);
	strlist_release(&cfg.credentials_sts);
	buf_release(&b);
	while (n_items) {
		struct item *i = items[--n_items];

		source_conf_release(&i->source);
		free(i);
	}
}

static void
put(struct item *i, enum source_field f, const char *text)
{
	free(i->source.v[f].s);
	i->source.v[f] = (struct field_value){ .set = true, .i = 1, .s = xstrdup(text) };
}

/* A source that assumes a role with a key of its own. */
static struct item *
item(const char *org, const char *secret)
{
	struct item *i = xcalloc(1, sizeof(*i));

	ck_assert_uint_lt(n_items, ARRAY_LEN(items));
	items[n_items++] = i;
	snprintf(i->org, sizeof(i->org), "%s", org);
	i->source.type = SOURCE_S3;
	put(i, SF_S3_BUCKET, "bucket");
	put(i, SF_S3_ROLE_ARN, ARN);
	put(i, SF_S3_ROLE_SESSION_NAME, "s");
	put(i, SF_S3_ACCESS_KEY_ID, "AKIA");
	put(i, SF_S3_SECRET_ACCESS_KEY, secret);
	i->source.v[SF_S3_ROLE_DURATION].i = 3600000;
	i->job.priority = PRIORITY_NORMAL;
	i->job.sources = &i->source;
	i->job.n_sources = 1;
	i->rec.job = &i->job;
	i->rec.org_id = i->org;
	i->rec.m = &m;
	i->task.job = &i->rec;
	i->task.error = (struct err)ERR_INIT;
	return i;
}

static enum keyring_reply
ask(struct item *i)
{
	buf_clear(&b);
	return keyring_ask(&m, &i->task, &b, &e);
}

static void
began(struct item *i)
{
	ck_assert_msg(ask(i) == KEYRING_ASK, "%s", e.text);
	keyring_began(&m, &i->task);
}

/* KEYS as a worker sends it */
static void
arrive(struct item *i, const char *id, int64_t seconds)
{
	char secret[] = "secret", token[] = "token", name[32];
	struct keys k = { name, secret, token, clock_real_ns() + seconds * SECOND };
	struct buf p = BUF_INIT;
	struct frame f = { .type = MSG_KEYS };

	snprintf(name, sizeof(name), "%s", id);
	keys_encode(&k, &p);
	f.payload = (const uint8_t *)p.p;
	f.n = p.len;
	ck_assert_msg(!keyring_take(&m, &i->task, &f, &e), "%s", e.text);
	buf_release(&p);
}

static const char *
lent(struct item *i)
{
	static char id[64];
	struct source_conf c = i->source;

	if (keyring_lend(&m, &i->task, &c, &e))
		return NULL;
	ck_assert_str_eq(c.v[SF_S3_SECRET_ACCESS_KEY].s, "secret");
	ck_assert_str_eq(c.v[SF_S3_SESSION_TOKEN].s, "token");
	snprintf(id, sizeof(id), "%s", c.v[SF_S3_ACCESS_KEY_ID].s);
	return id;
}

START_TEST(never_shared)
{
	struct item *a = item("acme", "s1"), *other = item("beta", "s1"), *wrong = item("acme", "s2"), *role = item("acme", "s1"),
	    *same = item("acme", "s1"), *region = item("acme", "s1"), *proxied = item("acme", "s1");

	put(role, SF_S3_ROLE_ARN, ARN "y");
	put(region, SF_S3_REGION, "eu-west-1");
	put(proxied, SF_NETWORK_PROXY_URL, "http://proxy:1");
	put(same, SF_S3_BUCKET, "another-bucket");
	began(a);
	arrive(a, "ASIA-A", 3600);
	ck_assert_str_eq(lent(a), "ASIA-A");
	ck_assert_str_eq(lent(same), "ASIA-A");
	ck_assert(ask(same) == KEYRING_HAVE);
	for (struct item **i = (struct item *[]){ other, wrong, role, region, proxied, NULL }; *i; i++) {
		ck_assert(keyring_wanted(&m, &(*i)->task));
		ck_assert_ptr_null(lent(*i));
		ck_assert(ask(*i) == KEYRING_ASK);
	}
	began(other);
	arrive(other, "ASIA-B", 3600);
	ck_assert_str_eq(lent(other), "ASIA-B");
	ck_assert_str_eq(lent(a), "ASIA-A");
	keyring_reloaded(m.keyring);
	ck_assert_ptr_null(lent(a));
	ck_assert_ptr_null(lent(other));
}
END_TEST

START_TEST(one_asks)
{
	struct item *first = item("acme", "s"), *second = item("acme", "s"), *third = item("acme", "s"), *beta = item("beta", "s");

	began(first);
	ck_assert(ask(second) == KEYRING_WAIT);
	ck_assert(ask(third) == KEYRING_WAIT);
	ck_assert(ask(beta) == KEYRING_ASK);
	ck_assert_uint_eq(keyring_waiting(m.keyring, PRIORITY_NORMAL), 2);
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 2);
	/* cancelled while it waits */
	sched_remove(m.sched, &third->task);
	ck_assert_uint_eq(keyring_waiting(m.keyring, PRIORITY_NORMAL), 1);
	/* its worker died: who waits asks */
	keyring_gave_up(&m, &first->task);
	ck_assert_uint_eq(keyring_waiting(m.keyring, PRIORITY_NORMAL), 0);
	ck_assert(second->task.needs_keys);
	ck_assert_ptr_eq(sched_pop(m.sched, 0, ROLE_CREDENTIALS, ""), &second->task);
	began(second);
	ck_assert(ask(first) == KEYRING_WAIT);
	arrive(second, "ASIA", 3600);
	ck_assert(!first->task.needs_keys);
	ck_assert_ptr_eq(sched_pop(m.sched, 0, ROLE_NETWORK, ""), &first->task);
}
END_TEST

START_TEST(refusals)
{
	struct item *a = item("acme", "s"), *late = item("acme", "s");

	began(a);
	ck_assert(ask(late) == KEYRING_WAIT);
	err_set(&a->task.error, ERR_AUTH, "not you");
	ck_assert(!keyring_failed(&m, &a->task));
	/* who waited is told the same at once, and so is the next */
	ck_assert(!late->task.needs_keys);
	ck_assert(!keyring_wanted(&m, &a->task));
	ck_assert_ptr_null(lent(a));
	ck_assert_str_eq(e.text, "not you");
	ck_assert(ask(a) == KEYRING_FAILED);
	ck_assert_int_eq(e.cls, ERR_AUTH);
	/* an operator's cancel says nothing of the credentials */
	keyring_reloaded(m.keyring);
	began(a);
	err_set(&a->task.error, ERR_CANCELLED, "cancelled");
	ck_assert(!keyring_failed(&m, &a->task));
	ck_assert(ask(a) == KEYRING_ASK);
}
END_TEST

START_TEST(refreshing_fails)
{
	struct item *a = item("acme", "s");

	began(a);
	arrive(a, "ASIA", 40);
	/* as when they are to be fetched anew and STS does not answer */
	keyring_began(&m, &a->task);
	err_set(&a->task.error, ERR_TRANSIENT, "no answer");
	ck_assert(keyring_failed(&m, &a->task));
	ck_assert_str_eq(lent(a), "ASIA");
	/* refused: those of before are not used any more */
	keyring_began(&m, &a->task);
	err_set(&a->task.error, ERR_AUTH, "the role is gone");
	ck_assert(!keyring_failed(&m, &a->task));
	ck_assert_ptr_null(lent(a));
	ck_assert_str_eq(e.text, "the role is gone");
	/* too near their end to go on with */
	keyring_reloaded(m.keyring);
	began(a);
	arrive(a, "ASIA", 20);
	keyring_began(&m, &a->task);
	err_set(&a->task.error, ERR_TIMEOUT, "no answer");
	ck_assert(!keyring_failed(&m, &a->task));
}
END_TEST

START_TEST(stale_ones)
{
	struct item *a = item("acme", "s"), *other = item("acme", "s");

	ck_assert(!keyring_stale(&m, &a->task));
	began(a);
	arrive(a, "ASIA-1", 3600);
	ck_assert_str_eq(lent(a), "ASIA-1");
	ck_assert_str_eq(lent(other), "ASIA-1");
	ck_assert(keyring_stale(&m, &a->task));
	ck_assert(keyring_wanted(&m, &a->task));
	began(a);
	arrive(a, "ASIA-2", 3600);
	/* the other one had the old ones: the new ones stay */
	ck_assert(keyring_stale(&m, &other->task));
	ck_assert_str_eq(lent(other), "ASIA-2");
	/* once for each task */
	ck_assert_str_eq(lent(a), "ASIA-2");
	ck_assert(!keyring_stale(&m, &a->task));
}
END_TEST

START_TEST(wrong_frames)
{
	static const uint8_t short_[] = { 1, 0, 0, 0, 'A' };
	struct item *a = item("acme", "s");
	struct frame f = { .type = MSG_KEYS, .payload = short_, .n = sizeof(short_) };

	began(a);
	ck_assert_int_eq(keyring_take(&m, &a->task, &f, &e), -1);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	ck_assert_ptr_nonnull(a->task.fetches);
	keyring_gave_up(&m, &a->task);
	ck_assert_ptr_null(a->task.fetches);
	ck_assert_ptr_null(lent(a));
}
END_TEST

static struct item *
instance(const char *org)
{
	struct item *i = item(org, "s");

	for (size_t k = 0; k < 4; k++) {
		static const enum source_field f[] = { SF_S3_ROLE_ARN, SF_S3_ROLE_SESSION_NAME, SF_S3_ACCESS_KEY_ID, SF_S3_SECRET_ACCESS_KEY };

		free(i->source.v[f[k]].s);
		i->source.v[f[k]] = (struct field_value){ .set = false };
	}
	i->source.v[SF_S3_USE_INSTANCE_ROLE] = (struct field_value){ .set = true, .i = 1 };
	return i;
}

START_TEST(who_may)
{
	struct item *a = instance("acme"), *beta = instance("beta"), *sts = item("acme", "s");

	ck_assert(ask(a) == KEYRING_FAILED);
	ck_assert_int_eq(e.cls, ERR_POLICY);
	/* refused without a worker of that role */
	ck_assert(!keyring_wanted(&m, &a->task));
	ck_assert_ptr_null(lent(a));
	strlist_add(&cfg.credentials_instance, "acme");
	ck_assert(ask(a) == KEYRING_ASK);
	ck_assert(ask(beta) == KEYRING_FAILED);
	began(a);
	arrive(a, "ASIA", 3600);
	strlist_release(&cfg.credentials_instance);
	ck_assert_ptr_null(lent(a));
	ck_assert_int_eq(e.cls, ERR_POLICY);
	strlist_add(&cfg.credentials_instance, "*");
	ck_assert(ask(beta) == KEYRING_ASK);
	put(sts, SF_S3_STS_ENDPOINT, "https://sts.example");
	ck_assert(ask(sts) == KEYRING_FAILED);
	ck_assert_int_eq(e.cls, ERR_POLICY);
	strlist_add(&cfg.credentials_sts, "https://sts.example:8443");
	ck_assert(ask(sts) == KEYRING_FAILED);
	strlist_add(&cfg.credentials_sts, "https://STS.example:443/");
	ck_assert(ask(sts) == KEYRING_ASK);
}
END_TEST

static const struct { const char *name, *value, *want; } environment[] = {
	{ "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.7/x", NULL },
	{ "AWS_CONTAINER_CREDENTIALS_FULL_URI", "ftp://127.0.0.1/x", NULL },
	{ "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://u:p@127.0.0.1/x", NULL },
	{ "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials", "http://169.254.170.23/v1/credentials" },
	{ "AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://agent.example/x", "https://agent.example/x" },
	{ "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:51679/x?y", "http://localhost:51679/x?y" },
	{ "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x", "http://169.254.170.2/v2/x" },
	{ "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/x", "http://169.254.170.2/@evil.example/x" },
	{ "AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9911", "http://127.0.0.1:9911" },
	{ "AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[fd00:ec2::254]", "http://[fd00:ec2::254]" },
	{ "AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://10.0.0.1", NULL },
	{ "AWS_EC2_METADATA_SERVICE_ENDPOINT", "https://metadata.example", NULL },
	{ "AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9911/path", NULL },
};

START_TEST(environments)
{
	struct item *a;
	struct keys_ask got;

	setenv(environment[_i].name, environment[_i].value, 1);
	keyring_free(m.keyring);
	m.keyring = keyring_new(&m);
	unsetenv(environment[_i].name);
	strlist_add(&cfg.credentials_instance, "*");
	a = instance("acme");
	if (!environment[_i].want) {
		ck_assert(ask(a) == KEYRING_FAILED);
		ck_assert_int_eq(e.cls, ERR_AUTH);
		ck_assert_ptr_nonnull(strstr(e.text, environment[_i].name));
		return;
	}
	ck_assert_msg(ask(a) == KEYRING_ASK, "%s", e.text);
	ck_assert_int_eq(keys_ask_decode(&got, b.p, b.len, &e), 0);
	ck_assert_str_eq(got.url, environment[_i].want);
	keys_ask_release(&got);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_keyring");
	TCase *t = tcase_create("keyring");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_test(t, never_shared);
	tcase_add_test(t, one_asks);
	tcase_add_test(t, refusals);
	tcase_add_test(t, refreshing_fails);
	tcase_add_test(t, stale_ones);
	tcase_add_test(t, wrong_frames);
	tcase_add_test(t, who_may);
	tcase_add_loop_test(t, environments, 0, (int)ARRAY_LEN(environment));
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
