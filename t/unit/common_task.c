/*
 * common_task.c - payloads of SETUP, JOB, DONE, HELLO, READY, PROGRESS and LOG: round trips, each bound broken,
 * truncation at every byte, random bytes.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/task.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

static struct err e = ERR_INIT;

typedef int decoder(const void *p, size_t n);

static int
d_setup(const void *p, size_t n)
{
	struct setup s;
	int r = setup_decode(&s, p, n, &e);

	if (!r)
		setup_release(&s);
	return r;
}

static int
d_job(const void *p, size_t n)
{
	struct task_spec t;
	int r = task_spec_decode(&t, p, n, &e);

	if (!r)
		task_spec_release(&t);
	return r;
}

static int
d_done(const void *p, size_t n)
{
	struct task_done d;

	return task_done_decode(&d, p, n, &e);
}

static int
d_hello(const void *p, size_t n)
{
	struct hello h;

	return hello_decode(&h, p, n, &e);
}

static int
d_ready(const void *p, size_t n)
{
	struct ready r;

	return ready_decode(&r, p, n, &e);
}

static int
d_progress(const void *p, size_t n)
{
	struct progress g;

	return progress_decode(&g, p, n, &e);
}

static void
no_sink(void *arg, enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	(void)arg;
	(void)level;
	(void)event;
	(void)f;
	(void)n;
}

static int
d_log(const void *p, size_t n)
{
	log_set_sink(no_sink, NULL);
	return log_frame_relay(p, n, 1, 2, &e);
}

static void
e_setup(struct buf *b)
{
	struct setup s;

	setup_init(&s);
	s.role = ROLE_LOCAL;
	s.log_level = LOG_DEBUG;
	strlist_add(&s.roots, "/srv/in");
	strlist_add(&s.roots, "/");
	s.spool_max = 1 << 20;
	s.memory_max = 1 << 28;
	s.open_files = 64;
	s.allow_faults = true;
	setup_encode(&s, b);
	setup_release(&s);
}

static void
job(struct task_spec *t)
{
	task_spec_init(t);
	t->source.type = SOURCE_DUMMY;
	t->source.v[SF_DUMMY_FILES] = (struct field_value){ .set = true, .i = 5 };
	t->source.v[SF_DUMMY_NAME_TEMPLATE] = (struct field_value){ .set = true, .s = xstrdup("f{index}.csv") };
	t->source.v[SF_COMMON_RECURSIVE] = (struct field_value){ .set = true, .i = 1 };
	strlist_add(&t->filter.patterns, "*.csv");
	t->publish = PUBLISH_STREAM;
	t->attempt = 3;
	t->deadline_ms = 1000;
	t->now_ns = 1700000000000000000;
	t->entries_max = 99;
	memcpy(t->root, "/srv", 5);
	memcpy(t->below, "a/b", 4);
	t->last = t->narrows = t->cross_mounts = t->asks = true;
	strlist_add(&t->narrow, "/srv/a");
	strlist_add(&t->egress.deny, "10.0.0.0/8");
	strlist_add(&t->egress.only, "::/0");
	strlist_add(&t->egress.ports, "8000-8999");
	strlist_add(&t->egress.schemes, "https");
	strlist_add(&t->hosts, "*.a.example");
	strlist_add(&t->hosts, "10.0.0.0/8");
}

static void
e_job(struct buf *b)
{
	struct task_spec t;

	job(&t);
	task_spec_encode(&t, b);
	task_spec_release(&t);
}

static void
done(struct task_done *d)
{
	memset(d, 0, sizeof(*d));
	d->cls = ERR_LIMIT;
	memcpy(d->text, "too much", 9);
	d->phase = PHASE_LIST;
	d->listed = 10;
	d->matched = 4;
	d->skipped = 5;
	d->unreadable = 2;
	d->notes[NOTE_HASH_CHANGED] = 3;
	d->truncated = true;
	memcpy(d->peer, "192.0.2.1", 10);
	d->spool_bytes = 77;
	d->phase_us[PHASE_LIST] = 5;
	d->n_named = 2;
	d->reused = 7;
	d->cert_expires = TASK_TIME_MAX;
	memcpy(d->cert_host, "h2.example", 11);
	d->reconnected = TASK_REUSED_MAX;
	memcpy(d->named[0].path, "/a\xff", 4);
	memcpy(d->named[0].reason, "Permission denied", 18);
}

static void
e_done(struct buf *b)
{
	struct task_done d;

	done(&d);
	task_done_encode(&d, b);
}

static void
e_hello(struct buf *b)
{
	hello_encode(b);
}

static void
e_ready(struct buf *b)
{
	struct ready r = { .sandbox = "rlimits", .active = { SANDBOX_LOG, 6, true, 1234 } };

	ready_encode(&r, b);
}

static void
e_progress(struct buf *b)
{
	struct progress g = { 7, 3 };

	progress_encode(&g, b);
}

static void
e_log(struct buf *b)
{
	struct log_field f[] = { LS("path", "a\nb"), LS("none", NULL), LI("n", -1), LD("x", 0.5), LT("ok", true) };

	log_frame_encode(b, LOG_WARN, "walk_odd", f, 5);
}

static const struct { const char *what; void (*encode)(struct buf *); decoder *decode; } payloads[] = {
	{ "SETUP", e_setup, d_setup }, { "JOB", e_job, d_job }, { "DONE", e_done, d_done },
	{ "HELLO", e_hello, d_hello }, { "READY", e_ready, d_ready }, { "PROGRESS", e_progress, d_progress },
	{ "LOG", e_log, d_log },
};
#define N_PAYLOADS (sizeof(payloads) / sizeof(payloads[0]))

START_TEST(whole_truncated_and_longer)
{
	struct buf b = BUF_INIT;

	payloads[_i].encode(&b);
	ck_assert_int_eq(payloads[_i].decode(b.p, b.len), 0);
	for (size_t n = 0; n < b.len; n++) {
		char *copy = xmalloc(n);

		memcpy(copy, b.p, n);
		ck_assert_msg(payloads[_i].decode(copy, n) == -1, "%s cut at %zu of %zu was taken",
		    payloads[_i].what, n, b.len);
		free(copy);
	}
	buf_putc(&b, 0);
	ck_assert_int_eq(payloads[_i].decode(b.p, b.len), -1);
	buf_release(&b);
}
END_TEST

START_TEST(random_bytes)
{
	struct buf b = BUF_INIT;
	size_t n;
	int taken = 0;

	srandom((unsigned)_i + 1);
	payloads[_i].encode(&b);
	n = b.len;
	for (int round = 0; round < 100000; round++) {
		char *copy = xmalloc(n);

		memcpy(copy, b.p, n);
		for (long k = random() % 5; k >= 0; k--)
			copy[(size_t)random() % n] = (char)random();
		if (random() % 4 == 0)
			for (size_t i = (size_t)random() % n; i < n; i++)
				copy[i] = (char)random();
		taken += payloads[_i].decode(copy, n) == 0;
		free(copy);
	}
	/* most changes must be noticed or harmless, none may crash; some are harmless in every payload */
	ck_assert_int_lt(taken, 100000);
	buf_release(&b);
}
END_TEST

START_TEST(setup_round)
{
	struct buf b = BUF_INIT;
	struct setup s;

	e_setup(&b);
	ck_assert_int_eq(setup_decode(&s, b.p, b.len, &e), 0);
	ck_assert_uint_eq(s.roots.n, 2);
	ck_assert_str_eq(s.roots.v[0], "/srv/in");
	ck_assert_int_eq(s.log_level, LOG_DEBUG);
	ck_assert_int_eq(s.open_files, 64);
	ck_assert(s.allow_faults);
	setup_release(&s);
	buf_release(&b);
}
END_TEST

static void s_role(struct setup *s) { s->role = ROLE__MAX; }
static void s_level(struct setup *s) { s->log_level = LOG_DEBUG + 1; }
static void s_spool(struct setup *s) { s->spool_max = -1; }
static void s_memory(struct setup *s) { s->memory_max = -1; }
static void s_files(struct setup *s) { s->open_files = 3; }
static void s_root(struct setup *s) { strlist_add(&s->roots, "srv"); }
static void s_roots(struct setup *s) { for (int i = 0; i <= FILTER_LIST_MAX; i++) strlist_add(&s->roots, "/x"); }
static void (*const bad_setups[])(struct setup *) = { s_role, s_level, s_spool, s_memory, s_files, s_root, s_roots };

START_TEST(setup_bounds)
{
	struct buf b = BUF_INIT;
	struct setup s;

	setup_init(&s);
	s.open_files = 64;
	setup_encode(&s, &b);
	ck_assert_int_eq(d_setup(b.p, b.len), 0);
	buf_clear(&b);
	bad_setups[_i](&s);
	setup_encode(&s, &b);
	ck_assert_int_eq(d_setup(b.p, b.len), -1);
	setup_release(&s);
	buf_release(&b);
}
END_TEST

START_TEST(job_round)
{
	struct buf b = BUF_INIT;
	struct task_spec t;

	e_job(&b);
	ck_assert_int_eq(task_spec_decode(&t, b.p, b.len, &e), 0);
	ck_assert_int_eq(t.source.type, SOURCE_DUMMY);
	ck_assert_int_eq(t.source.v[SF_DUMMY_FILES].i, 5);
	ck_assert_str_eq(t.source.v[SF_DUMMY_NAME_TEMPLATE].s, "f{index}.csv");
	ck_assert(!t.source.v[SF_DUMMY_SEED].set);
	ck_assert_str_eq(t.filter.patterns.v[0], "*.csv");
	ck_assert_int_eq(t.publish, PUBLISH_STREAM);
	ck_assert_uint_eq(t.attempt, 3);
	ck_assert_int_eq(t.entries_max, 99);
	ck_assert_str_eq(t.root, "/srv");
	ck_assert_str_eq(t.below, "a/b");
	ck_assert(t.last && t.narrows && t.asks);
	ck_assert_uint_eq(t.narrow.n, 1);
	ck_assert_str_eq(t.narrow.v[0], "/srv/a");
	ck_assert_uint_eq(t.hosts.n, 2);
	ck_assert_str_eq(t.hosts.v[0], "*.a.example");
	ck_assert_uint_eq(t.egress.allow.n, 0);
	ck_assert_str_eq(t.egress.deny.v[0], "10.0.0.0/8");
	ck_assert_str_eq(t.egress.only.v[0], "::/0");
	ck_assert_str_eq(t.egress.ports.v[0], "8000-8999");
	ck_assert_str_eq(t.egress.schemes.v[0], "https");
	task_spec_release(&t);
	buf_release(&b);
}
END_TEST

static const struct { const char *root, *below; int attempt, publish, want; } jobs[] = {
	{ "/", ".", 1, 0, 0 }, { "", "", 1, 1, 0 }, { "/srv", "a", 1, 0, 0 }, { "/srv", "..a/b..", 1, 0, 0 },
	{ "srv", ".", 1, 0, -1 }, { "/srv", "/etc", 1, 0, -1 }, { "/srv", "..", 1, 0, -1 },
	{ "/srv", "a/../../etc", 1, 0, -1 }, { "/srv", "a/..", 1, 0, -1 }, { "/srv", "a//b", 1, 0, -1 },
	{ "/srv", "a/", 1, 0, -1 }, { "/srv", ".", 0, 0, -1 }, { "/srv", ".", 1, 2, -1 },
};

START_TEST(job_connections)
{
	static const struct { uint32_t n; int want; } v[] = { { 0, -1 }, { 1, 0 }, { 64, 0 }, { 65, -1 }, { UINT32_MAX, -1 } };
	struct buf b = BUF_INIT;
	struct task_spec t;

	job(&t);
	t.connections = v[_i].n;
	task_spec_encode(&t, &b);
	ck_assert_int_eq(d_job(b.p, b.len), v[_i].want);
	task_spec_release(&t);
	buf_release(&b);
}
END_TEST

START_TEST(job_bounds)
{
	struct buf b = BUF_INIT;
	struct task_spec t;

	job(&t);
	memset(t.root, 0, sizeof(t.root));
	memset(t.below, 0, sizeof(t.below));
	memcpy(t.root, jobs[_i].root, strlen(jobs[_i].root));
	memcpy(t.below, jobs[_i].below, strlen(jobs[_i].below));
	t.attempt = (uint32_t)jobs[_i].attempt;
	t.publish = (enum job_publish)jobs[_i].publish;
	task_spec_encode(&t, &b);
	ck_assert_int_eq(d_job(b.p, b.len), jobs[_i].want);
	task_spec_release(&t);
	buf_release(&b);
}
END_TEST

START_TEST(done_round)
{
	struct buf b = BUF_INIT;
	struct task_done d;

	e_done(&b);
	ck_assert_int_eq(task_done_decode(&d, b.p, b.len, &e), 0);
	ck_assert_int_eq(d.cls, ERR_LIMIT);
	ck_assert_str_eq(d.text, "too much");
	ck_assert_int_eq(d.phase, PHASE_LIST);
	ck_assert_str_eq(task_phase_name(d.phase), "list");
	ck_assert_uint_eq(d.listed, 10);
	ck_assert_uint_eq(d.matched, 4);
	ck_assert_uint_eq(d.skipped, 5);
	ck_assert_uint_eq(d.unreadable, 2);
	ck_assert_uint_eq(d.notes[NOTE_HASH_CHANGED], 3);
	ck_assert_uint_eq(d.notes[NOTE_HASH_TOO_LARGE], 0);
	ck_assert(d.truncated);
	ck_assert_str_eq(d.peer, "192.0.2.1");
	ck_assert_uint_eq(d.spool_bytes, 77);
	ck_assert_uint_eq(d.phase_us[PHASE_LIST], 5);
	ck_assert_uint_eq(d.n_named, 2);
	ck_assert_uint_eq(d.reused, 7);
	ck_assert_int_eq(d.cert_expires, TASK_TIME_MAX);
	ck_assert_str_eq(d.cert_host, "h2.example");
	ck_assert_uint_eq(d.reconnected, TASK_REUSED_MAX);
	ck_assert_str_eq(d.named[0].path, "/a\xff");
	buf_release(&b);
}
END_TEST

static void n_matched(struct task_done *d) { d->matched = 11; }
static void n_skipped(struct task_done *d) { d->skipped = 7; }
static void n_wrap(struct task_done *d) { d->matched = 2; d->skipped = UINT64_MAX; }
static void n_phase(struct task_done *d) { d->phase = PHASE__MAX; }
static void n_named(struct task_done *d) { d->unreadable = 1; }
static void n_note(struct task_done *d) { d->notes[NOTE__MAX - 1] = 11; }
static void n_class(struct task_done *d) { d->cls = ERR__MAX; }
static void n_reused(struct task_done *d) { d->reused = TASK_REUSED_MAX + 1; }
static void n_reconnected(struct task_done *d) { d->reconnected = UINT32_MAX; }
static void n_before_time(struct task_done *d) { d->cert_expires = -1; }
static void n_beyond_time(struct task_done *d) { d->cert_expires = TASK_TIME_MAX + 1; }
static void (*const bad_dones[])(struct task_done *) = { n_before_time, n_beyond_time, n_reused, n_reconnected, n_matched, n_skipped, n_wrap, n_phase, n_named, n_note, n_class };

START_TEST(done_bounds)
{
	struct buf b = BUF_INIT;
	struct task_done d;

	done(&d);
	bad_dones[_i](&d);
	task_done_encode(&d, &b);
	ck_assert_int_eq(d_done(b.p, b.len), -1);
	buf_release(&b);
}
END_TEST

/* What only the master may say of a task. */
START_TEST(done_classes)
{
	static const enum err_class masters[] = {
		ERR_WORKER_CRASH, ERR_WORKER_LOST, ERR_WORKER_PROTOCOL, ERR_MASTER_CRASH, ERR_KAFKA, ERR_CONFIG,
		ERR_INVALID_JOB, ERR_EXPIRED, ERR_MESSAGE_TOO_LARGE, ERR_UNKNOWN_SOURCE,
	};
	bool forbidden = false;
	struct buf b = BUF_INIT;
	struct task_done d;

	for (size_t i = 0; i < sizeof(masters) / sizeof(masters[0]); i++)
		forbidden |= masters[i] == (enum err_class)_i;
	done(&d);
	d.cls = (enum err_class)_i;
	task_done_encode(&d, &b);
	ck_assert_msg(d_done(b.p, b.len) == (forbidden ? -1 : 0), "%s", err_name(d.cls));
	ck_assert_int_eq(task_class_allowed(d.cls), !forbidden);
	buf_release(&b);
}
END_TEST

static struct { enum log_level level; char event[64]; size_t n; struct log_field f[20]; int calls; } seen;

static void
sink(void *arg, enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	(void)arg;
	seen.calls++;
	seen.level = level;
	seen.n = n;
	snprintf(seen.event, sizeof(seen.event), "%s", event);
	memcpy(seen.f, f, n * sizeof(*f));
}

START_TEST(log_round)
{
	struct buf b = BUF_INIT;

	log_set_sink(sink, NULL);
	e_log(&b);
	ck_assert_int_eq(log_frame_relay(b.p, b.len, 4, 99, &e), 0);
	ck_assert_int_eq(seen.calls, 1);
	ck_assert_int_eq(seen.level, LOG_WARN);
	ck_assert_str_eq(seen.event, "walk_odd");
	ck_assert_uint_eq(seen.n, 7);
	ck_assert_str_eq(seen.f[0].key, "slot");
	ck_assert_int_eq(seen.f[0].i, 4);
	ck_assert_str_eq(seen.f[1].key, "worker_pid");
	ck_assert_int_eq(seen.f[1].i, 99);
	ck_assert_uint_eq(seen.f[2].n, 3);
	ck_assert_mem_eq(seen.f[2].s, "a\nb", 3);
	ck_assert_ptr_null(seen.f[3].s);
	ck_assert_int_eq(seen.f[4].i, -1);
	ck_assert(seen.f[5].d == 0.5);
	ck_assert_int_eq(seen.f[6].i, 1);
	buf_release(&b);
}
END_TEST

START_TEST(log_is_bounded)
{
	static char text[9000];
	struct buf b = BUF_INIT;
	struct log_field f[20];

	memset(text, 'x', sizeof(text) - 1);
	log_set_sink(sink, NULL);
	for (size_t i = 0; i < 20; i++) {
		static char keys[20][4];

		snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		f[i] = LS(keys[i], text);
	}
	log_frame_encode(&b, LOG_INFO, "long", f, 20);
	ck_assert_uint_le(b.len, 8192);
	ck_assert_int_eq(log_frame_relay(b.p, b.len, 0, 1, &e), 0);
	ck_assert_uint_ge(seen.n, 3);
	buf_release(&b);
}
END_TEST

static const struct { const char *event, *key1, *key2; int level; } bad_logs[] = {
	{ "", "a", "b", 2 }, { "Bad", "a", "b", 2 }, { "a b", "a", "b", 2 }, { "a\nb", "a", "b", 2 },
	{ "ok", "", "b", 2 }, { "ok", "a\"", "b", 2 }, { "ok", "a", "a", 2 }, { "ok", "pid", "b", 2 },
	{ "ok", "slot", "b", 2 }, { "ok", "event", "b", 2 }, { "ok", "a", "b", 4 },
};

START_TEST(log_illegal)
{
	struct buf b = BUF_INIT;
	struct log_field f[] = { LI(bad_logs[_i].key1, 1), LI(bad_logs[_i].key2, 2) };

	log_set_sink(sink, NULL);
	log_frame_encode(&b, (enum log_level)bad_logs[_i].level, bad_logs[_i].event, f, 2);
	ck_assert_int_eq(log_frame_relay(b.p, b.len, 0, 1, &e), -1);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	ck_assert_int_eq(seen.calls, 0);
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_task");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, whole_truncated_and_longer, 0, N_PAYLOADS);
	tcase_add_loop_test(t, random_bytes, 0, N_PAYLOADS);
	tcase_add_test(t, setup_round);
	tcase_add_loop_test(t, setup_bounds, 0, sizeof(bad_setups) / sizeof(bad_setups[0]));
	tcase_add_test(t, job_round);
	tcase_add_loop_test(t, job_connections, 0, 5);
	tcase_add_loop_test(t, job_bounds, 0, sizeof(jobs) / sizeof(jobs[0]));
	tcase_add_test(t, done_round);
	tcase_add_loop_test(t, done_bounds, 0, sizeof(bad_dones) / sizeof(bad_dones[0]));
	tcase_add_loop_test(t, done_classes, 0, ERR__MAX);
	tcase_add_test(t, log_round);
	tcase_add_test(t, log_is_bounded);
	tcase_add_loop_test(t, log_illegal, 0, sizeof(bad_logs) / sizeof(bad_logs[0]));
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
