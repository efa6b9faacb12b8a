/*
 * master_pool_share.c - unit tests of pool_share.c: who serves whom, who gives way, what is never mixed. The slots are
 * made up; what is told to stop is seen by its state.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"

struct item { struct jobrec rec; struct job job; struct source_conf source; struct task task; char org[16]; };

#define SLOTS_MAX 8
#define ITEMS_MAX 2048

static struct master m;
static struct config cfg;
static struct pool pool;
static struct crew crew;
static struct slot slots[SLOTS_MAX + 1];
static struct item *items[ITEMS_MAX];
static size_t n_items;
static char endpoint[] = "sftp://x:22";

static void
before(void)
{
	memset(&m, 0, sizeof(m));
	memset(&cfg, 0, sizeof(cfg));
	memset(&pool, 0, sizeof(pool));
	memset(&crew, 0, sizeof(crew));
	memset(slots, 0, sizeof(slots));
	cfg.network_tasks = 100;
	cfg.timeout_cancel = cfg.timeout_kill = 60000;
	cfg.workers_age = 3600000;
	m.cfg = &cfg;
	m.loop = loop_new();
	m.endpoints = endpoints_new();
	m.sched = sched_new(&m, 1);
	m.pool = &pool;
	crew = (struct crew){ .p = &pool, .name = "test", .isolation = ISOLATION_TENANT, .exchanges = 8, .exchanges_ms = loop_now(m.loop) };
	crew.types = ~0u;
	timer_init(&crew.linger, NULL, NULL);
	pool.m = &m;
	pool.crews = &crew;
	pool.n_crews = 1;
	pool.slots = slots;
	n_items = 0;
}

/* So many workers and spares, all fresh, idle and local. */
static void
workers(size_t n, size_t spares)
{
	crew.workers = n;
	crew.spares = spares;
	pool.n = n + spares;
	for (size_t i = 0; i <= pool.n; i++) {
		slot_init(&slots[i], &m, (int)i, &crew);
		slots[i].tasks_max = 1000;
		slots[i].started_ms = slots[i].since_ms = loop_now(m.loop);
		if (i < pool.n) {
			slots[i].state = WORKER_IDLE;
			slots[i].proc.pid = 1 << 30;    /* nobody's: a frame cannot be sent, and no step after it is waited for */
		}
	}
	pool.spare = &slots[pool.n];
}

static void
after(void)
{
	for (size_t i = 0; i <= pool.n; i++) {
		slots[i].proc.pid = 0;
		slot_forget(&slots[i]);
	}
	timer_cancel(m.loop, &crew.linger);
	sched_free(m.sched);
	endpoints_free(m.endpoints);
	loop_free(m.loop);
	while (n_items)
		free(items[--n_items]);
}

static struct task *
put(const char *org, enum job_priority p, enum source_type type)
{
	struct item *i = xcalloc(1, sizeof(*i));

	ck_assert_uint_lt(n_items, ITEMS_MAX);
	items[n_items++] = i;
	snprintf(i->org, sizeof(i->org), "%s", org);
	i->source.type = type;
	i->job.sources = &i->source;
	i->job.n_sources = 1;
	i->job.priority = p;
	i->rec.job = &i->job;
	i->rec.org_id = i->org;
	i->rec.m = &m;
	i->task.job = &i->rec;
	i->task.key = i->org;
	sched_push(m.sched, &i->task);
	return &i->task;
}

static void
put_many(const char *org, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put(org, PRIORITY_NORMAL, SOURCE_LOCAL);
}

/* What dispatch.c does with what it is given; NULL: nothing was. */
static struct slot *
next(struct task **out)
{
	struct slot *s = NULL;
	struct task *t = pool_next(&pool, &s);

	if (out)
		*out = t;
	if (!t)
		return NULL;
	ck_assert_ptr_nonnull(s);
	ck_assert_int_eq(s->state, WORKER_IDLE);
	ck_assert_ptr_null(s->task);
	ck_assert_int_eq(s->role, task_role(t));
	pool_bind(s, t);
	/* Never of another tenant than its first. */
	if (t->key && *t->key)
		ck_assert_str_eq(s->key->name, t->job->org_id);
	if (t->alone)
		ck_assert_uint_eq(s->tasks_served, 0);
	s->task = t;
	s->state = WORKER_BUSY;
	return s;
}

static size_t
fill(void)
{
	size_t n = 0;

	while (next(NULL))
		n++;
	return n;
}

static void
done(struct slot *s)
{
	ck_assert_ptr_nonnull(s->task);
	s->task = NULL;
	s->tasks_served++;
	s->state = WORKER_IDLE;
	s->since_ms = loop_now(m.loop);
}

/* A worker that was told to stop has gone, and its slot's next one is READY. */
static size_t
reborn(void)
{
	size_t n = 0;

	for (size_t i = 0; i < pool.n; i++) {
		struct slot *s = &slots[i];

		if (s->state != WORKER_DRAINING)
			continue;
		ck_assert(s->turning);
		slot_forget(s);
		s->proc.pid = 1 << 30;
		s->role = s->next_role;
		s->tasks_served = 0;
		s->turning = false;
		s->state = WORKER_IDLE;
		s->started_ms = s->since_ms = loop_now(m.loop);
		n++;
	}
	return n;
}

static size_t
bound_to(const char *org)
{
	size_t n = 0;

	for (size_t i = 0; i < pool.n; i++)
		n += slots[i].key && slots[i].state != WORKER_DRAINING && !strcmp(slots[i].key->name, org);
	return n;
}

static size_t
in_state(enum worker_state st)
{
	size_t n = 0;

	for (size_t i = 0; i < pool.n; i++)
		n += slots[i].state == st;
	return n;
}

/* ---- one tenant --------------------------------------------------------------------------------------------------- */

START_TEST(one_tenant_costs_nothing)
{
	workers(4, 0);
	put_many("a", 100);
	ck_assert_uint_eq(fill(), 4);
	for (int i = 0; i < 96; i++) {
		done(&slots[i % 4]);
		ck_assert_ptr_eq(next(NULL), &slots[i % 4]);
		ck_assert_uint_eq(in_state(WORKER_DRAINING), 0);
	}
	for (int i = 0; i < 4; i++)
		done(&slots[i]);
	ck_assert_uint_eq(fill(), 0);
	ck_assert_uint_eq(in_state(WORKER_IDLE), 4);
}
END_TEST

START_TEST(a_bound_worker_before_a_fresh_one)
{
	struct slot *s;

	workers(3, 0);
	put_many("a", 1);
	s = next(NULL);
	done(s);
	put_many("a", 1);
	ck_assert_ptr_eq(next(NULL), s);
	ck_assert_uint_eq(bound_to("a"), 1);
}
END_TEST

/* ---- several ------------------------------------------------------------------------------------------------------- */

START_TEST(another_tenant_is_another_process)
{
	struct slot *s;

	workers(1, 0);
	put_many("a", 1);
	s = next(NULL);
	put_many("b", 1);
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(s->state, WORKER_BUSY);
	done(s);
	/* Nothing waits for its own tenant: at once, since the other has none. */
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(s->state, WORKER_DRAINING);
	/* One is enough, however often it is asked. */
	ck_assert_ptr_null(next(NULL));
	ck_assert_uint_eq(reborn(), 1);
	ck_assert_ptr_eq(next(NULL), s);
	ck_assert_uint_eq(bound_to("b"), 1);
}
END_TEST

START_TEST(shares_where_both_have_work)
{
	workers(4, 0);
	put_many("a", 50);
	ck_assert_uint_eq(fill(), 4);
	put_many("b", 50);
	/* As they become free, and no more than half of them. */
	for (int i = 0; i < 40; i++) {
		if (slots[i % 4].task)
			done(&slots[i % 4]);
		fill();
		reborn();
		fill();
		ck_assert_uint_eq(in_state(WORKER_BUSY), 4);
	}
	ck_assert_uint_eq(bound_to("a"), 2);
	ck_assert_uint_eq(bound_to("b"), 2);
}
END_TEST

START_TEST(a_turn_where_there_are_more_tenants_than_workers)
{
	static const char *const orgs[] = { "a", "b", "c", "d", "e" };
	size_t served[5] = { 0 }, exchanges = 0, tasks = 0;

	workers(1, 0);
	for (size_t i = 0; i < 5; i++)
		put_many(orgs[i], 40);
	for (int i = 0; i < 400; i++) {
		struct task *t;

		if (!next(&t)) {
			exchanges += reborn();
			continue;
		}
		tasks++;
		for (size_t o = 0; o < 5; o++)
			served[o] += !strcmp(t->job->org_id, orgs[o]);
		done(&slots[0]);
		crew.exchanges = 8;
		/* All have had their turn by now. */
		if (tasks == 40)
			for (size_t o = 0; o < 5; o++)
				ck_assert_uint_eq(served[o], 8);
	}
	ck_assert_uint_eq(tasks, 200);
	ck_assert_uint_eq(exchanges, 24);
}
END_TEST

/* Beyond a few at once a turn lasts its time: an exchange costs more than the tasks of a short one. */
START_TEST(turns_are_longer_when_there_are_many)
{
	size_t exchanges = 0, tasks = 0;

	workers(1, 0);
	put_many("a", 300);
	put_many("b", 300);
	while (tasks < 200) {
		if (!next(NULL)) {
			exchanges += reborn();
			continue;
		}
		tasks++;
		done(&slots[0]);
	}
	ck_assert_uint_eq(exchanges, 8);
	slots[0].bound_ms -= 250;
	ck_assert_ptr_null(next(NULL));
	ck_assert_uint_eq(reborn(), 1);
	/* and come back */
	crew.exchanges_ms -= 100;
	for (int i = 0; i < 8; i++) {
		ck_assert_ptr_nonnull(next(NULL));
		done(&slots[0]);
	}
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(slots[0].state, WORKER_DRAINING);
}
END_TEST

/* Two tenants whose single jobs alternate do not cost an exchange each, nor wait for long. */
START_TEST(alternating_jobs)
{
	size_t exchanges = 0;

	workers(1, 0);
	put_many("a", 1);
	next(NULL);
	for (int i = 0; i < 8; i++) {
		done(&slots[0]);
		put_many(i % 2 ? "a" : "b", 1);
		ck_assert_ptr_null(next(NULL));
		exchanges += reborn();
		ck_assert_ptr_nonnull(next(NULL));
	}
	ck_assert_uint_eq(exchanges, 8);
	done(&slots[0]);
	put_many("b", 1);
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(slots[0].state, WORKER_IDLE);
	ck_assert(timer_armed(&crew.linger));
	put_many("a", 1);
	ck_assert_ptr_nonnull(next(NULL));
	slots[0].bound_ms -= 250;
	done(&slots[0]);
	ck_assert_ptr_null(next(NULL));
	ck_assert_uint_eq(reborn(), 1);
	ck_assert_ptr_nonnull(next(NULL));
	ck_assert_uint_eq(bound_to("b"), 1);
}
END_TEST

START_TEST(a_turn_of_slow_tasks_is_over_by_time)
{
	struct slot *s;

	workers(1, 0);
	put_many("a", 5);
	put_many("b", 5);
	s = next(NULL);
	done(s);
	ck_assert_ptr_eq(next(NULL), s);
	s->bound_ms -= 250;
	done(s);
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(s->state, WORKER_DRAINING);
}
END_TEST

START_TEST(no_worker_ends_for_one_that_may_not_start)
{
	struct task *first, *t;
	struct slot *s, *b;

	workers(2, 0);
	cfg.network_tasks = 1;
	first = put("a", PRIORITY_NORMAL, SOURCE_LOCAL);
	first->job->job->sources->endpoint = endpoint;
	s = next(&t);
	ck_assert_ptr_eq(t, first);
	endpoint_started(&m, first, s);
	put_many("b", 1);
	b = next(NULL);
	done(b);
	/* Its endpoint is full, however often one more of it comes; and the same for one that needs a fresh worker. */
	for (int i = 0; i < 6; i++) {
		t = put("c", i % 3, SOURCE_LOCAL);
		t->job->job->sources->endpoint = endpoint;
		if (i > 3) {
			sched_lift(m.sched, t);
			t->alone = true;
			sched_push(m.sched, t);
		}
		ck_assert_ptr_null(next(NULL));
		ck_assert_ptr_nonnull(t->parked);
	}
	ck_assert_uint_eq(in_state(WORKER_DRAINING), 0);
	ck_assert_uint_eq(bound_to("b"), 1);
	/* Now one of them may. */
	endpoint_ended(&m, first, false);
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(b->state, WORKER_DRAINING);
	reborn();
	ck_assert_ptr_eq(next(NULL), b);
	ck_assert_uint_eq(bound_to("c"), 1);
}
END_TEST

START_TEST(a_worker_lingers_for_its_own)
{
	struct slot *s, *other;

	workers(2, 0);
	put_many("a", 1);
	s = next(NULL);
	put_many("b", 3);
	other = next(NULL);
	done(s);
	/* b has one; for a further one a's stays for a moment. */
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(s->state, WORKER_IDLE);
	ck_assert(timer_armed(&crew.linger));
	put_many("a", 1);
	ck_assert_ptr_eq(next(NULL), s);
	done(s);
	s->since_ms -= 200;
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(s->state, WORKER_DRAINING);
	ck_assert_int_eq(other->state, WORKER_BUSY);
}
END_TEST

/* ---- priorities ---------------------------------------------------------------------------------------------------- */

START_TEST(high_overtakes_across_tenants)
{
	struct task *t, *urgent;

	workers(1, 0);
	put_many("a", 50);
	next(NULL);
	done(&slots[0]);
	urgent = put("b", PRIORITY_HIGH, SOURCE_LOCAL);
	ck_assert_ptr_null(next(NULL));
	ck_assert_uint_eq(reborn(), 1);
	ck_assert_ptr_nonnull(next(&t));
	ck_assert_ptr_eq(t, urgent);
}
END_TEST

/* Tenants with high work outnumber the workers; each gets new work as it is served. */
START_TEST(low_is_never_starved)
{
	static const char *const orgs[] = { "a", "b", "c", "d", "e" };
	bool low = false, normal = false;
	int tasks = 0;

	workers(1, 0);
	for (size_t i = 0; i < 5; i++)
		put(orgs[i], PRIORITY_HIGH, SOURCE_LOCAL);
	put("low", PRIORITY_LOW, SOURCE_LOCAL);
	put("normal", PRIORITY_NORMAL, SOURCE_LOCAL);
	while (tasks < 1000 && !(low && normal)) {
		struct task *t;

		if (!next(&t)) {
			slots[0].bound_ms -= 250;
			crew.lower_ms -= 50;
			reborn();
			continue;
		}
		tasks++;
		slots[0].bound_ms -= 10;
		done(&slots[0]);
		low = low || t->job->job->priority == PRIORITY_LOW;
		normal = normal || t->job->job->priority == PRIORITY_NORMAL;
		if (t->job->job->priority == PRIORITY_HIGH)
			put(t->job->org_id, PRIORITY_HIGH, SOURCE_LOCAL);
	}
	ck_assert(low && normal);
}
END_TEST

/* ---- isolation ----------------------------------------------------------------------------------------------------- */

START_TEST(job_takes_a_fresh_one_each)
{
	workers(2, 2);
	crew.isolation = ISOLATION_JOB;
	for (int i = 0; i < 6; i++)
		put("a", PRIORITY_NORMAL, SOURCE_LOCAL)->key = "";
	ck_assert_uint_eq(fill(), 2);
	ck_assert_uint_eq(in_state(WORKER_IDLE), 2);
	/* slot_release ends it. */
	done(&slots[0]);
	slot_exchange(&slots[0]);
	ck_assert_ptr_eq(next(NULL), &slots[2]);
	ck_assert_uint_eq(in_state(WORKER_BUSY), 2);
	ck_assert_uint_eq(reborn(), 1);
	ck_assert_ptr_null(next(NULL));
}
END_TEST

START_TEST(a_spare_is_there_at_once)
{
	workers(1, 1);
	put_many("a", 1);
	ck_assert_ptr_eq(next(NULL), &slots[0]);
	put_many("b", 1);
	/* One at once, though another process is idle. */
	ck_assert_ptr_null(next(NULL));
	done(&slots[0]);
	ck_assert_ptr_eq(next(NULL), &slots[1]);
	ck_assert_int_eq(slots[0].state, WORKER_DRAINING);
	ck_assert_uint_eq(reborn(), 1);
	ck_assert_ptr_null(slots[0].key);
}
END_TEST

START_TEST(alone_means_fresh)
{
	struct task *t;
	struct slot *s;

	workers(1, 0);
	put_many("a", 2);
	s = next(NULL);
	t = put("a", PRIORITY_NORMAL, SOURCE_LOCAL);
	sched_remove(m.sched, t);
	t->alone = true;
	sched_push(m.sched, t);
	done(s);
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(s->state, WORKER_DRAINING);
	reborn();
	ck_assert_ptr_eq(next(&t), s);
	ck_assert(t->alone);
	/* And it ends with it: slot_release exchanges it. */
	ck_assert(s->single);
	done(s);
	ck_assert_ptr_null(next(NULL));
	slot_exchange(s);
	reborn();
	ck_assert_ptr_eq(next(&t), s);
	ck_assert(!t->alone && !s->single);
}
END_TEST

START_TEST(a_role_is_another_process)
{
	workers(2, 0);
	put("a", PRIORITY_NORMAL, SOURCE_FTP);
	ck_assert_ptr_null(next(NULL));
	ck_assert_uint_eq(in_state(WORKER_DRAINING), 1);
	reborn();
	ck_assert_int_eq(next(NULL)->role, ROLE_NETWORK);
}
END_TEST

START_TEST(what_was_set_up_before_a_reload_serves_nobody)
{
	workers(1, 0);
	m.setup_generation++;
	put_many("a", 1);
	ck_assert_ptr_null(next(NULL));
	ck_assert_int_eq(slots[0].state, WORKER_DRAINING);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("pool_share");
	TCase *tc = tcase_create("pool_share");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, before, after);
	tcase_add_test(tc, one_tenant_costs_nothing);
	tcase_add_test(tc, a_bound_worker_before_a_fresh_one);
	tcase_add_test(tc, another_tenant_is_another_process);
	tcase_add_test(tc, shares_where_both_have_work);
	tcase_add_test(tc, a_turn_where_there_are_more_tenants_than_workers);
	tcase_add_test(tc, turns_are_longer_when_there_are_many);
	tcase_add_test(tc, alternating_jobs);
	tcase_add_test(tc, a_turn_of_slow_tasks_is_over_by_time);
	tcase_add_test(tc, no_worker_ends_for_one_that_may_not_start);
	tcase_add_test(tc, a_worker_lingers_for_its_own);
	tcase_add_test(tc, high_overtakes_across_tenants);
	tcase_add_test(tc, low_is_never_starved);
	tcase_add_test(tc, job_takes_a_fresh_one_each);
	tcase_add_test(tc, a_spare_is_there_at_once);
	tcase_add_test(tc, alone_means_fresh);
	tcase_add_test(tc, a_role_is_another_process);
	tcase_add_test(tc, what_was_set_up_before_a_reload_serves_nobody);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
