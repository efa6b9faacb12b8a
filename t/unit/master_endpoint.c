/*
 * master_endpoint.c - unit tests of endpoint.c: the cap of one server's tasks, who waits, what becomes of them.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"

struct item { struct jobrec rec; struct job job; struct source_conf source; struct task task; char org[16], endpoint[32]; };

static struct master m;
static struct config cfg;
static struct config_set set;
static struct slot slot;
static struct crew crew;
static struct item *items[64];
static size_t n_items;

static void
before(void)
{
	memset(&m, 0, sizeof(m));
	memset(&cfg, 0, sizeof(cfg));
	cfg.network_tasks = 2;
	m.cfg = &cfg;
	m.loop = loop_new();
	m.endpoints = endpoints_new();
	m.sched = sched_new(&m, 1);
	memset(&slot, 0, sizeof(slot));
	slot.m = &m;
	slot.crew = &crew;
	child_init(&slot.proc);
	timer_init(&slot.drop_timer, NULL, NULL);
	n_items = 0;
}

static void
after(void)
{
	m.phase = MASTER_STOPPED;
	slot_forget(&slot);
	sched_free(m.sched);
	endpoints_free(m.endpoints);
	loop_free(m.loop);
	while (n_items)
		free(items[--n_items]);
}

static struct item *
item(const char *org, const char *endpoint)
{
	struct item *i = xcalloc(1, sizeof(*i));

	ck_assert_uint_lt(n_items, ARRAY_LEN(items));
	items[n_items++] = i;
	snprintf(i->org, sizeof(i->org), "%s", org);
	snprintf(i->endpoint, sizeof(i->endpoint), "%s", endpoint ? endpoint : "");
	i->source.type = SOURCE_SFTP;
	i->source.endpoint = endpoint ? i->endpoint : NULL;
	i->job.priority = PRIORITY_NORMAL;
	i->job.sources = &i->source;
	i->job.n_sources = 1;
	i->rec.job = &i->job;
	i->rec.org_id = i->org;
	i->rec.m = &m;
	i->task.job = &i->rec;
	sched_push(m.sched, &i->task);
	return i;
}

static struct item *
pop(void)
{
	struct task *t = sched_pop(m.sched, 0, ROLE_NETWORK, "");

	if (t)
		endpoint_started(&m, t, &slot);
	return t ? (struct item *)((char *)t - offsetof(struct item, task)) : NULL;
}

START_TEST(cap)
{
	struct item *a = item("t", "sftp://a:22"), *b = item("t", "sftp://a:22"), *c = item("t", "sftp://a:22"),
		    *d = item("t", "sftp://b:22"), *l = item("t", NULL);

	ck_assert_ptr_eq(pop(), a);
	ck_assert_ptr_eq(pop(), b);
	/* c waits, the others do not wait for it */
	ck_assert_ptr_eq(pop(), d);
	ck_assert_ptr_nonnull(c->task.parked);
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 2);
	ck_assert_ptr_eq(pop(), l);
	ck_assert_ptr_null(pop());
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 1);
	endpoint_ended(&m, &d->task, false);
	ck_assert_ptr_null(pop());
	endpoint_ended(&m, &a->task, false);
	endpoint_ended(&m, &a->task, false);    /* once counts */
	ck_assert_ptr_null(c->task.parked);
	ck_assert_ptr_eq(pop(), c);
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 0);
	endpoint_ended(&m, &b->task, true);
	endpoint_ended(&m, &c->task, false);
}
END_TEST

/* The first that waited is its tenant's next, before what came later. */
START_TEST(order)
{
	struct item *run[2], *first, *second, *later;

	run[0] = item("t", "http://a:80");
	run[1] = item("t", "http://a:80");
	first = item("t", "http://a:80");
	second = item("t", "http://a:80");
	ck_assert_ptr_eq(pop(), run[0]);
	ck_assert_ptr_eq(pop(), run[1]);
	ck_assert_ptr_null(pop());
	later = item("t", NULL);
	endpoint_ended(&m, &run[0]->task, false);
	ck_assert_ptr_eq(pop(), first);
	ck_assert_ptr_eq(pop(), later);
	endpoint_ended(&m, &run[1]->task, false);
	ck_assert_ptr_eq(pop(), second);
	endpoint_ended(&m, &first->task, false);
	endpoint_ended(&m, &second->task, false);
}
END_TEST

START_TEST(cancelled_while_it_waits)
{
	struct item *run[2] = { item("t", "http://a:80"), item("t", "http://a:80") }, *waits = item("t", "http://a:80");

	ck_assert_ptr_eq(pop(), run[0]);
	ck_assert_ptr_eq(pop(), run[1]);
	ck_assert_ptr_null(pop());
	sched_remove(m.sched, &waits->task);
	ck_assert_ptr_null(waits->task.parked);
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 0);
	endpoint_ended(&m, &run[0]->task, false);
	ck_assert_ptr_null(pop());
	endpoint_ended(&m, &run[1]->task, false);
}
END_TEST

/* Whatever becomes of the one that is called next: the others are not forgotten, though nothing runs there any more. */
START_TEST(called_and_gone)
{
	struct item *run[2] = { item("t", "http://a:80"), item("t", "http://a:80") }, *w[3];

	for (size_t i = 0; i < ARRAY_LEN(w); i++)
		w[i] = item("t", "http://a:80");
	pop();
	pop();
	ck_assert_ptr_null(pop());
	endpoint_ended(&m, &run[0]->task, false);
	endpoint_ended(&m, &run[1]->task, false);
	ck_assert_ptr_nonnull(w[2]->task.parked);
	if (_i == 0) {          /* cancelled or revoked before it started */
		sched_remove(m.sched, &w[0]->task);
	} else {                /* no worker was given it: its secret is missing */
		struct task *t = sched_pop(m.sched, 0, ROLE_NETWORK, "");

		ck_assert_ptr_nonnull(t);
		endpoint_left(&m, t);
	}
	ck_assert_ptr_null(w[2]->task.parked);
	ck_assert_ptr_nonnull(pop());
	ck_assert_ptr_nonnull(pop());
	ck_assert_ptr_null(pop());
	for (size_t i = 0; i < ARRAY_LEN(w); i++)
		endpoint_ended(&m, &w[i]->task, false);
}
END_TEST

START_TEST(reloaded)
{
	struct item *i[6];

	for (size_t k = 0; k < ARRAY_LEN(i); k++)
		i[k] = item("t", "http://a:80");
	ck_assert_ptr_eq(pop(), i[0]);
	ck_assert_ptr_eq(pop(), i[1]);
	ck_assert_ptr_null(pop());
	cfg.network_tasks = 4;
	endpoints_reloaded(&m);
	ck_assert_ptr_eq(pop(), i[2]);
	ck_assert_ptr_eq(pop(), i[3]);
	ck_assert_ptr_null(pop());
	cfg.network_tasks = 1;
	endpoints_reloaded(&m);
	for (size_t k = 0; k < 3; k++) {
		endpoint_ended(&m, &i[k]->task, false);
		ck_assert_ptr_null(pop());
	}
	endpoint_ended(&m, &i[3]->task, false);
	ck_assert_ptr_eq(pop(), i[4]);
	ck_assert_ptr_null(pop());
	endpoint_ended(&m, &i[4]->task, false);
	ck_assert_ptr_eq(pop(), i[5]);
	endpoint_ended(&m, &i[5]->task, false);
}
END_TEST

/* One that crashed a worker counts like any other. */
START_TEST(alone)
{
	struct item *i[3] = { item("t", "http://a:80"), item("t", "http://a:80"), NULL };

	pop();
	pop();
	i[2] = item("t", "http://a:80");
	sched_remove(m.sched, &i[2]->task);
	i[2]->task.alone = true;
	sched_push(m.sched, &i[2]->task);
	ck_assert_ptr_null(sched_pop_alone(m.sched, 0, ROLE_NETWORK));
	ck_assert(!sched_wants_fresh(m.sched, 0, ROLE_NETWORK));
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 1);
	endpoint_ended(&m, &i[0]->task, false);
	ck_assert(sched_wants_fresh(m.sched, 0, ROLE_NETWORK));
	ck_assert_ptr_eq(sched_pop_alone(m.sched, 0, ROLE_NETWORK), &i[2]->task);
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 0);
	endpoint_ended(&m, &i[1]->task, false);
}
END_TEST

static bool
any_key(void *arg, struct sched_key *k)
{
	(void)arg;
	(void)k;
	return true;
}

/* As pool_share.c asks: by the key's own name, which must outlive its last task's leaving. Seen by a sanitizer or valgrind. */
START_TEST(the_last_of_its_key_waits)
{
	struct item *run[2] = { item("t", "http://a:80"), item("t", "http://a:80") }, *waits;
	struct sched_key *k;

	pop();
	pop();
	waits = item("t", "http://a:80");
	sched_remove(m.sched, &waits->task);
	waits->task.key = "t";
	sched_push(m.sched, &waits->task);
	k = sched_walk(m.sched, 0, ROLE_NETWORK, PRIORITY_NORMAL, any_key, NULL);
	ck_assert_ptr_nonnull(k);
	ck_assert_str_eq(k->name, "t");
	ck_assert_ptr_null(sched_pop(m.sched, 0, ROLE_NETWORK, k->name));
	ck_assert_ptr_nonnull(waits->task.parked);
	ck_assert_uint_eq(sched_keys(m.sched, 0, ROLE_NETWORK), 0);
	endpoint_ended(&m, &run[0]->task, false);
	ck_assert_ptr_eq(sched_pop(m.sched, 0, ROLE_NETWORK, "t"), &waits->task);
	endpoint_ended(&m, &run[1]->task, false);
}
END_TEST

/* ---- several pools ---------------------------------------------------------------------------------------------------- */

static void
two_pools_with(const char *tasks_per_endpoint, const char *silent_share)
{
	struct config_args args = { .file = NULL };
	char text[256];

	snprintf(text, sizeof(text), "network: {tasks_per_endpoint: %s, endpoint_share: 0.75, silent_share: %s}\n"
	    "pools: {big: {workers: 16, tenants: [a]}, small: {workers: 4, tenants: [b]}}\n", tasks_per_endpoint, silent_share);
	ck_assert_int_eq(config_load_text(&set, "t.yaml", text, strlen(text), &args), 0);
	m.cfg = &set.c;
	m.pool = pool_new(&m);
	sched_free(m.sched);
	m.sched = sched_new(&m, pool_crews(m.pool));
}

static void
two_pools(const char *tasks_per_endpoint)
{
	two_pools_with(tasks_per_endpoint, "1");
}

static void
no_pools(void)
{
	for (size_t i = 0; i < n_items; i++)
		endpoint_ended(&m, &items[i]->task, false);
	sched_free(m.sched);
	m.sched = NULL;
	pool_free(m.pool);
	m.pool = NULL;
	config_set_release(&set);
}

static struct item *
item_in(size_t pool, const char *endpoint)
{
	struct item *i = item(pool ? "b" : "a", endpoint);

	sched_lift(m.sched, &i->task);
	i->task.pool = pool;
	sched_push(m.sched, &i->task);
	return i;
}

static struct item *
pop_in(size_t pool)
{
	struct task *t = sched_pop(m.sched, pool, ROLE_NETWORK, "");

	if (t)
		endpoint_started(&m, t, &slot);
	return t ? (struct item *)((char *)t - offsetof(struct item, task)) : NULL;
}

/* Each pool spares workers of its own from now on. */
static void
others_in_both(void)
{
	for (size_t pool = 0; pool < 2; pool++) {
		struct item *other = item_in(pool, "http://other:80");

		ck_assert_ptr_eq(pop_in(pool), other);
		endpoint_ended(&m, &other->task, false);
	}
}

/* The big pool has more tasks there than the small one may, and always a further one. */
START_TEST(a_steady_pool_starves_no_other)
{
	struct item *a[9], *b;

	two_pools("8");
	others_in_both();
	for (size_t i = 0; i < 8; i++) {
		a[i] = item_in(0, "http://x:80");
		ck_assert_ptr_eq(pop_in(0), a[i]);
	}
	b = item_in(1, "http://x:80");
	ck_assert_ptr_null(pop_in(1));
	a[8] = item_in(0, "http://x:80");
	endpoint_ended(&m, &a[0]->task, false);
	/* It was called: the place is kept for it, whoever asks first. */
	ck_assert_ptr_null(pop_in(0));
	ck_assert_ptr_eq(pop_in(1), b);
	endpoint_ended(&m, &a[1]->task, false);
	ck_assert_ptr_eq(pop_in(0), a[8]);
	no_pools();
}
END_TEST

/* 12 of 16 and 3 of 4 workers; whoever waits for his own pool's share is passed by. */
START_TEST(each_pool_has_its_share)
{
	struct item *a[14], *b[4];

	two_pools("16");
	others_in_both();
	for (size_t i = 0; i < ARRAY_LEN(a); i++)
		a[i] = item_in(0, "http://x:80");
	for (size_t i = 0; i < 12; i++)
		ck_assert_ptr_eq(pop_in(0), a[i]);
	ck_assert_ptr_null(pop_in(0));
	for (size_t i = 0; i < ARRAY_LEN(b); i++)
		b[i] = item_in(1, "http://x:80");
	for (size_t i = 0; i < 3; i++)
		ck_assert_ptr_eq(pop_in(1), b[i]);
	ck_assert_ptr_null(pop_in(1));
	endpoint_ended(&m, &b[0]->task, false);
	ck_assert_ptr_nonnull(a[12]->task.parked);
	ck_assert_ptr_null(pop_in(0));
	ck_assert_ptr_eq(pop_in(1), b[3]);
	endpoint_ended(&m, &a[0]->task, false);
	ck_assert_ptr_eq(pop_in(0), a[12]);
	ck_assert_ptr_null(pop_in(0));
	ck_assert_ptr_nonnull(a[13]->task.parked);
	/* While it waits a reload gives it to the other pool: that one's share counts. */
	a[13]->task.pool = 1;
	endpoint_ended(&m, &b[1]->task, false);
	ck_assert_ptr_eq(pop_in(1), a[13]);
	no_pools();
}
END_TEST

/* What is at work in another pool wants none of this one's workers. */
START_TEST(a_pool_without_other_work_spares_none)
{
	struct item *other;

	two_pools("64");
	other = item_in(1, "http://other:80");
	ck_assert_ptr_eq(pop_in(1), other);
	for (size_t i = 0; i < 16; i++)
		item_in(0, "http://x:80");
	for (size_t i = 0; i < 16; i++)
		ck_assert_ptr_nonnull(pop_in(0));
	/* The other one does. */
	for (size_t i = 0; i < 4; i++)
		item_in(1, "http://x:80");
	for (size_t i = 0; i < 3; i++)
		ck_assert_ptr_nonnull(pop_in(1));
	ck_assert_ptr_null(pop_in(1));
	no_pools();
}
END_TEST

/* Its worker was gone: nobody takes its place meanwhile. */
START_TEST(once_more)
{
	struct item *run[2] = { item("t", "http://a:80"), item("t", "http://a:80") }, *w[2], *later;
	struct task *t;

	w[0] = item("t", "http://a:80");
	w[1] = item("t", "http://a:80");
	pop();
	pop();
	ck_assert_ptr_null(pop());
	endpoint_ended(&m, &run[0]->task, false);
	later = item("t", NULL);
	t = sched_pop(m.sched, 0, ROLE_NETWORK, "");
	ck_assert_ptr_eq(t, &w[0]->task);
	endpoint_again(&m, t);
	endpoint_ended(&m, &later->task, false);
	endpoints_reloaded(&m);
	ck_assert_ptr_nonnull(w[1]->task.parked);
	ck_assert_ptr_eq(pop(), w[0]);
	ck_assert_ptr_eq(pop(), later);
	ck_assert_ptr_null(pop());
	/* Cancelled instead: the place is the next one's. */
	endpoint_ended(&m, &w[0]->task, false);
	t = sched_pop(m.sched, 0, ROLE_NETWORK, "");
	ck_assert_ptr_eq(t, &w[1]->task);
	endpoint_again(&m, t);
	w[0] = item("t", "http://a:80");
	ck_assert_ptr_eq(sched_pop(m.sched, 0, ROLE_NETWORK, ""), t);
	endpoint_again(&m, t);
	sched_remove(m.sched, t);
	ck_assert_ptr_eq(pop(), w[0]);
	endpoint_ended(&m, &w[0]->task, false);
	endpoint_ended(&m, &run[1]->task, false);
}
END_TEST

/* The setting became less while two were called: the first stays the first. */
START_TEST(called_in_vain)
{
	struct item *run[2] = { item("t", "http://a:80"), item("t", "http://a:80") }, *w[3];

	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		w[i] = item("t", "http://a:80");
		w[i]->task.queued_ms = (int64_t)i + 1;
	}
	pop();
	pop();
	ck_assert_ptr_null(pop());
	endpoint_ended(&m, &run[0]->task, false);
	ck_assert_ptr_null(w[0]->task.parked);
	cfg.network_tasks = 1;
	ck_assert_ptr_null(pop());
	ck_assert_ptr_nonnull(w[0]->task.parked);
	endpoint_ended(&m, &run[1]->task, false);
	ck_assert_ptr_eq(pop(), w[0]);
	ck_assert_ptr_null(pop());
	endpoint_ended(&m, &w[0]->task, false);
	ck_assert_ptr_eq(pop(), w[1]);
	endpoint_ended(&m, &w[1]->task, false);
	ck_assert_ptr_eq(pop(), w[2]);
	endpoint_ended(&m, &w[2]->task, false);
}
END_TEST

/* Those that start now: so many of the pool's 16. */
static size_t
start_all(struct item *to[], size_t at)
{
	while ((to[at] = pop_in(0)))
		at++;
	return at;
}

static void
times_out(struct item *i, uint64_t listed)
{
	static struct task_done done;

	done.listed = listed;
	i->task.done = &done;
	i->task.error.cls = ERR_TIMEOUT;
	endpoint_ended(&m, &i->task, true);
}

/* Until its first answer it has a part of its share, and again after time-outs in a row. */
START_TEST(silent)
{
	struct item *run[40];
	size_t n;

	two_pools_with("64", "0.25");
	others_in_both();
	for (size_t i = 0; i < 30; i++)
		item_in(0, "http://x:80");
	n = start_all(run, 0);
	ck_assert_uint_eq(n, 4);
	/* Nothing is known by a task that was cancelled, or whose worker died. */
	run[0]->task.error.cls = ERR_CANCELLED;
	endpoint_ended(&m, &run[0]->task, true);
	ck_assert_uint_eq(start_all(run, n), n + 1);
	endpoint_answered(&m, &run[1]->task);
	n = start_all(run, n + 1);
	ck_assert_uint_eq(n, 13);
	/* Two are chance, and one that has listed something was answered. */
	times_out(run[1], 0);
	times_out(run[2], 0);
	ck_assert_uint_eq(start_all(run, n), n + 2);
	times_out(run[3], 1);
	times_out(run[4], 0);
	times_out(run[5], 0);
	n = start_all(run, n + 2);
	ck_assert_uint_eq(n, 18);
	times_out(run[6], 0);
	ck_assert_uint_eq(start_all(run, n), n);
	/* Any other end is an answer. */
	run[7]->task.error.cls = ERR_AUTH;
	endpoint_ended(&m, &run[7]->task, true);
	ck_assert_uint_eq(start_all(run, n), n + 2);
	no_pools();
}
END_TEST

START_TEST(what_the_slot_remembers)
{
	struct item *a = item("t", "s3://x:443"), *b = item("t", "s3://x:443"), *c = item("t", "s3://x:443");

	pop();
	pop();
	ck_assert_ptr_null(pop());

	endpoint_ended(&m, &a->task, true);
	ck_assert_ptr_null(c->task.parked);
	sched_remove(m.sched, &c->task);
	endpoint_ended(&m, &b->task, false);
	ck_assert_str_eq(slot.tenant, "t");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_endpoint");
	TCase *t = tcase_create("endpoint");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_test(t, cap);
	tcase_add_test(t, order);
	tcase_add_test(t, cancelled_while_it_waits);
	tcase_add_loop_test(t, called_and_gone, 0, 2);
	tcase_add_test(t, reloaded);
	tcase_add_test(t, alone);
	tcase_add_test(t, the_last_of_its_key_waits);
	tcase_add_test(t, a_steady_pool_starves_no_other);
	tcase_add_test(t, each_pool_has_its_share);
	tcase_add_test(t, a_pool_without_other_work_spares_none);
	tcase_add_test(t, silent);
	tcase_add_test(t, once_more);
	tcase_add_test(t, called_in_vain);
	tcase_add_test(t, what_the_slot_remembers);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
