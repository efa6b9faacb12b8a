/*
 * master_tenants.c - unit tests of tenants.c and share.c: quotas delay and lose nothing, and nobody holds all workers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

struct item { struct jobrec rec; struct job job; struct source_conf source; struct task task; char org[16]; char endpoint[32]; bool running; };

static struct config_set set;
static struct master m;
static struct slot slot;
static struct item *items[4096];
static size_t n_items;

static void
begin(const char *text)
{
	struct config_args args = { .file = NULL };

	ck_assert_int_eq(config_load_text(&set, "t.yaml", text, strlen(text), &args), 0);
	memset(&m, 0, sizeof(m));
	memset(&slot, 0, sizeof(slot));
	m.cfg = &set.c;
	m.loop = loop_new();
	m.pool = pool_new(&m);
	m.endpoints = endpoints_new();
	m.tenants = tenants_new(&m);
	m.sched = sched_new(&m, pool_crews(m.pool));
	slot.m = &m;
	metrics_init();
}

static void
end(void)
{
	for (size_t i = 0; i < n_items; i++) {
		if (items[i]->running)
			endpoint_ended(&m, &items[i]->task, false);
	}
	for (size_t pool = 0; pool < pool_crews(m.pool); pool++)
		for (struct task *t; (t = sched_pop(m.sched, pool, ROLE_LOCAL, ""));)
			;
	for (size_t i = 0; i < n_items; i++)
		tenant_unpark(&items[i]->task);
	sched_free(m.sched);
	tenants_free(m.tenants);
	endpoints_free(m.endpoints);
	pool_free(m.pool);
	loop_free(m.loop);
	metrics_free();
	while (n_items)
		free(items[--n_items]);
	config_set_release(&set);
}

static struct item *
make(const char *org, enum job_priority p, size_t pool)
{
	struct item *i = xcalloc(1, sizeof(*i));

	ck_assert_uint_lt(n_items, ARRAY_LEN(items));
	items[n_items++] = i;
	i->source.type = SOURCE_LOCAL;
	snprintf(i->org, sizeof(i->org), "%s", org);
	i->job = (struct job){ .sources = &i->source, .n_sources = 1, .priority = p };
	i->rec = (struct jobrec){ .m = &m, .job = &i->job, .org_id = i->org, .id = n_items };
	i->task.job = &i->rec;
	i->task.pool = pool;
	tenant_seen(&m, org, pool);
	sched_push(m.sched, &i->task);
	return i;
}

static struct item *
push_of(const char *org, enum job_priority p)
{
	return make(org, p, 0);
}

static struct item *
push_in(const char *org, size_t pool)
{
	return make(org, PRIORITY_NORMAL, pool);
}

static struct item *
push(const char *org)
{
	return push_of(org, PRIORITY_NORMAL);
}

/* As dispatch.c does it with a free worker. */
static struct item *
start_in(size_t pool)
{
	struct task *t = sched_pop(m.sched, pool, ROLE_LOCAL, "");
	struct item *i = t ? (struct item *)((char *)t - offsetof(struct item, task)) : NULL;

	if (!i)
		return NULL;
	endpoint_started(&m, t, &slot);
	i->rec.started_ns = 1;
	i->running = true;
	return i;
}

static struct item *
start(void)
{
	return start_in(0);
}

static struct item *
running(const char *org)
{
	for (size_t i = 0; i < n_items; i++)
		if (items[i]->running && !strcmp(items[i]->org, org))
			return items[i];
	return NULL;
}

static void
stop(struct item *i)
{
	if (!i) {
		ck_abort_msg("nothing was started");
		return;
	}
	i->running = false;
	endpoint_ended(&m, &i->task, false);
}

/* Starts what can start with so many free workers; how many of this tenant's. */
static int
start_all(size_t workers, const char *org)
{
	size_t busy = 0;
	int n = 0;

	for (size_t i = 0; i < n_items; i++)
		busy += items[i]->running;
	while (busy < workers && start())
		busy++;
	for (size_t i = 0; i < n_items; i++)
		n += items[i]->running && !strcmp(items[i]->org, org);
	return n;
}

static size_t
waiting(void)
{
	return tenants_parked(m.tenants, PRIORITY_HIGH) + tenants_parked(m.tenants, PRIORITY_NORMAL) + tenants_parked(m.tenants, PRIORITY_LOW);
}

START_TEST(tasks_at_once)
{
	struct item *a[5], *high, *b;

	begin("tenants: {a: {tasks: 2}}\n");
	for (int i = 0; i < 5; i++)
		a[i] = push("a");
	ck_assert_ptr_eq(start(), a[0]);
	ck_assert_ptr_eq(start(), a[1]);
	ck_assert_ptr_null(start());
	ck_assert_uint_eq(waiting(), 3);
	ck_assert_uint_eq(sched_depth(m.sched, PRIORITY_NORMAL), 3);
	ck_assert_uint_eq(sched_waiting(m.sched, 0, ROLE_LOCAL), 0);
	/* Nobody else waits behind them. */
	b = push("b");
	ck_assert_ptr_eq(start(), b);
	/* A higher priority comes first, then the order of arrival. */
	high = push_of("a", PRIORITY_HIGH);
	ck_assert_ptr_null(start());
	stop(a[1]);
	ck_assert_ptr_eq(start(), high);
	stop(a[0]);
	/* One is cancelled while it waits, one after it was called. */
	sched_remove(m.sched, &a[3]->task);
	ck_assert_ptr_null(a[3]->task.waits_at);
	sched_remove(m.sched, &a[2]->task);
	ck_assert_ptr_eq(start(), a[4]);
	ck_assert_uint_eq(waiting(), 0);
	end();
}
END_TEST

START_TEST(one_tenant_has_all_workers)
{
	begin("workers: {count: 8}\n");
	for (int i = 0; i < 20; i++)
		push("a");
	ck_assert_int_eq(start_all(8, "a"), 8);
	ck_assert_uint_eq(waiting(), 0);
	end();
}
END_TEST

START_TEST(half_is_spared)
{
	/* Whatever the others have: theirs may never end. */
	begin("workers: {count: 8}\n");
	push("b");
	push("c");
	stop(start());
	stop(start());
	for (int i = 0; i < 100; i++)
		push("a");
	ck_assert_int_eq(start_all(8, "a"), 4);
	for (int i = 0; i < 100; i++)
		push("b");
	/* Its fair part of what is left, and a third one still finds a worker. */
	ck_assert_int_eq(start_all(8, "b"), 2);
	push("c");
	ck_assert_int_eq(start_all(8, "c"), 1);
	end();
}
END_TEST

START_TEST(who_comes_finds_a_worker)
{
	begin("workers: {count: 8, tenant_share: 0.75}\n");
	push("b");
	stop(start());
	for (int i = 0; i < 2000; i++)
		push("a");
	ck_assert_int_eq(start_all(8, "a"), 6);
	ck_assert_uint_eq(sched_waiting(m.sched, 0, ROLE_LOCAL), 0);
	for (int i = 0; i < 20; i++)
		push("b");
	ck_assert_int_eq(start_all(8, "b"), 2);
	/* As a's tasks end, b gets its half, and not more. */
	for (int left = 6, n = 0; left > 4; left--, n = 0) {
		while (!items[n]->running || strcmp(items[n]->org, "a"))
			n++;
		stop(items[n]);
		ck_assert_int_eq(start_all(8, "b"), 9 - left);
	}
	ck_assert_int_eq(start_all(8, "a"), 4);
	/* b's end: its next one comes, not a's. */
	for (size_t i = n_items; i-- > 0;)
		if (items[i]->running && !strcmp(items[i]->org, "b")) {
			stop(items[i]);
			break;
		}
	ck_assert_int_eq(start_all(8, "b"), 4);
	ck_assert_int_eq(start_all(8, "a"), 4);
	end();
}
END_TEST

START_TEST(several_leave_a_worker)
{
	/* However many tenants have more than they can do. */
	begin("workers: {count: 8}\n");
	push("quiet");
	stop(start());
	for (int i = 0; i < 100; i++) {
		push("a");
		push("b");
		push("c");
	}
	start_all(8, "a");
	push("quiet");
	ck_assert_int_eq(start_all(8, "quiet"), 1);
	end();
}
END_TEST

/* So many of a's, one after the other, each of which holds its worker for this long. */
static void
each_took(int n, int64_t ms)
{
	while (n--) {
		struct item *i;

		push("a");
		i = start();
		ck_assert_ptr_nonnull(i);
		i->task.began_ms = loop_now(m.loop) - ms;
		stop(i);
	}
}

START_TEST(the_brief_may_have_one_more)
{
	begin("workers: {count: 8}\n");
	push("b");
	stop(start());
	each_took(7, 100);
	for (int i = 0; i < 7; i++)
		push("a");
	ck_assert_int_eq(start_all(8, "a"), 4);
	for (int i = 0; i < 4; i++)
		stop(running("a"));
	start_all(8, "a");
	while (running("a"))
		stop(running("a"));
	/* One took long, since: what ends in the cases above began long ago. */
	each_took(1, 1001);
	each_took(8, 100);
	for (int i = 0; i < 7; i++)
		push("a");
	ck_assert_int_eq(start_all(8, "a"), 5);
	push("b");
	ck_assert_int_eq(start_all(8, "b"), 1);
	end();
}
END_TEST

/* With many that wait it would keep what it is lent. */
START_TEST(who_has_many_is_lent_none)
{
	begin("workers: {count: 8}\n");
	push("b");
	stop(start());
	each_took(8, 100);
	for (int i = 0; i < 20; i++)
		push("a");
	ck_assert_int_eq(start_all(8, "a"), 5);
	stop(running("a"));
	ck_assert_int_eq(start_all(8, "a"), 4);
	end();
}
END_TEST

/* The others need what is left. */
START_TEST(none_is_lent_of_the_last)
{
	begin("workers: {count: 8}\n");
	for (int i = 0; i < 3; i++)
		push("b");
	ck_assert_int_eq(start_all(8, "b"), 3);
	each_took(8, 100);
	for (int i = 0; i < 7; i++)
		push("a");
	ck_assert_int_eq(start_all(8, "a"), 4);
	end();
}
END_TEST

START_TEST(of_few_none_is_spared)
{
	begin("workers: {count: 3}\n");
	push("b");
	stop(start());
	for (int i = 0; i < 5; i++)
		push("a");
	ck_assert_int_eq(start_all(3, "a"), 3);
	end();
}
END_TEST

START_TEST(by_weight)
{
	begin("workers: {count: 8}\ntenants: {a: {weight: 3}}\n");
	for (int i = 0; i < 100; i++) {
		push("a");
		push("b");
	}
	ck_assert_int_eq(start_all(8, "a"), 6);
	ck_assert_int_eq(start_all(8, "b"), 2);
	end();
}
END_TEST

START_TEST(jobs_a_minute)
{
	struct item *second;
	int n;

	/* 600 a minute: 60 at once, then one every 100 ms. */
	begin("workers: {count: 1000}\ntenants: {a: {jobs_per_minute: 600}}\n");
	for (int i = 0; i < 80; i++)
		push("a");
	for (n = 0; start(); n++)
		;
	ck_assert_int_ge(n, 60);
	ck_assert_int_lt(n, 80);
	ck_assert_uint_eq(waiting(), (size_t)(80 - n));
	/* A job that has begun needs no other token, and others do not wait for its tenant. */
	second = push("a");
	second->rec.started_ns = 1;
	ck_assert_ptr_eq(start(), second);
	ck_assert_ptr_nonnull(push("b"));
	ck_assert_ptr_nonnull(start());
	/* All of them come, by the loop's timer alone. */
	while (n < 80) {
		loop_once(m.loop, 1000);
		while (start())
			n++;
	}
	ck_assert_uint_eq(waiting(), 0);
	end();
}
END_TEST

static struct item *
push_to(const char *org, const char *endpoint)
{
	struct item *i = push(org);

	snprintf(i->endpoint, sizeof(i->endpoint), "%s", endpoint);
	i->source.endpoint = i->endpoint;
	return i;
}

START_TEST(in_order_of_arrival)
{
	struct item *b, *a[8], *i;
	int n = 2;

	/* Another tenant has the endpoint; a's tasks are called in turn, and all wait there. */
	begin("workers: {count: 8}\nnetwork: {tasks_per_endpoint: 1}\ntenants: {a: {tasks: 2}}\n");
	b = push_to("b", "sftp://x:22");
	ck_assert_ptr_eq(start(), b);
	a[0] = push("a");
	a[1] = push("a");
	ck_assert_ptr_eq(start(), a[0]);
	ck_assert_ptr_eq(start(), a[1]);
	for (int k = 2; k < 8; k++)
		a[k] = push_to("a", "sftp://x:22");
	ck_assert_ptr_null(start());
	ck_assert_uint_eq(waiting(), 6);
	stop(a[0]);
	ck_assert_ptr_null(start());
	stop(a[1]);
	ck_assert_ptr_null(start());
	/* They go there and back. */
	push("a");
	push("a");
	ck_assert_ptr_nonnull(start());
	ck_assert_ptr_nonnull(start());
	stop(b);
	ck_assert_ptr_null(start());
	for (size_t k = 0; k < n_items; k++)
		if (items[k]->running)
			stop(items[k]);
	while ((i = start())) {
		ck_assert_ptr_eq(i, a[n]);
		n++;
		stop(i);
	}
	ck_assert_int_eq(n, 8);
	end();
}
END_TEST

/* A place at an endpoint, and always a fresh task that its tenant has called for it: whoever waits there for longer gets it. */
START_TEST(called_by_age)
{
	struct item *old, *young, *held, *a;

	begin("workers: {count: 8}\nnetwork: {tasks_per_endpoint: 1}\ntenants: {a: {tasks: 1}}\n");
	held = push_to("b", "sftp://x:22");
	ck_assert_ptr_eq(start(), held);
	old = push_to("c", "sftp://x:22");
	old->task.queued_ms = 1;
	ck_assert_ptr_null(start());
	ck_assert_ptr_nonnull(old->task.parked);
	a = push("a");
	ck_assert_ptr_eq(start(), a);
	young = push_of("a", PRIORITY_HIGH);
	young->source.endpoint = held->endpoint;
	young->task.queued_ms = 2;
	ck_assert_ptr_null(start());
	/* The endpoint calls the one, the tenant the other, which is asked first. */
	stop(held);
	stop(a);
	ck_assert_ptr_eq(start(), old);
	ck_assert_ptr_null(start());
	stop(old);
	ck_assert_ptr_eq(a = start(), young);
	/* And the other way round: it is the tenant's that waits for longer. */
	old = push_to("a", "sftp://x:22");
	old->task.queued_ms = 3;
	push_to("b", "sftp://x:22")->task.queued_ms = 4;
	ck_assert_ptr_null(start());
	stop(a);
	ck_assert_ptr_eq(start(), old);
	end();
}
END_TEST

START_TEST(no_more_are_called_than_can_start)
{
	struct config_args args = { .file = NULL };
	static const char more[] = "workers: {count: 3}\n";
	struct config_set fresh;
	struct item *first, *a[20];

	begin("workers: {count: 3}\ntenants: {a: {tasks: 1}}\n");
	first = push("a");
	ck_assert_ptr_eq(start(), first);
	for (int i = 0; i < 20; i++)
		a[i] = push("a");
	ck_assert_ptr_null(start());
	ck_assert_int_eq(config_load_text(&fresh, "t.yaml", more, strlen(more), &args), 0);
	config_take_reloadable(&set, &fresh);
	config_set_release(&fresh);
	tenants_reloaded(&m);
	ck_assert_uint_eq(sched_waiting(m.sched, 0, ROLE_LOCAL), 2);
	ck_assert_ptr_eq(start(), a[0]);
	ck_assert_ptr_eq(start(), a[1]);
	stop(first);
	ck_assert_uint_eq(sched_waiting(m.sched, 0, ROLE_LOCAL), 1);
	ck_assert_ptr_eq(start(), a[2]);
	end();
}
END_TEST

START_TEST(one_token_for_all_sources)
{
	struct item *i = xcalloc(1, sizeof(*i)), *other;
	struct task task[3] = { { .job = &i->rec, .index = 0 }, { .job = &i->rec, .index = 1 }, { .job = &i->rec, .index = 2 } };
	struct task *t;

	/* Six at once, then one a second. */
	begin("workers: {count: 20}\ntenants: {a: {jobs_per_minute: 60}}\n");
	items[n_items++] = i;
	snprintf(i->org, sizeof(i->org), "a");
	i->source.type = SOURCE_LOCAL;
	i->job = (struct job){ .sources = (struct source_conf[3]){ i->source, i->source, i->source }, .n_sources = 3, .priority = PRIORITY_NORMAL };
	for (int k = 0; k < 6; k++) {
		other = push("a");
		ck_assert_ptr_eq(start(), other);
	}
	i->rec = (struct jobrec){ .m = &m, .job = &i->job, .org_id = i->org, .id = 9, .tasks = task, .n_tasks = 3 };
	for (int k = 0; k < 3; k++)
		sched_push(m.sched, &task[k]);
	ck_assert_ptr_null(sched_pop(m.sched, 0, ROLE_LOCAL, ""));
	ck_assert_uint_eq(waiting(), 3);
	while (waiting() == 3)
		loop_once(m.loop, 1000);
	t = sched_pop(m.sched, 0, ROLE_LOCAL, "");
	ck_assert_ptr_eq(t, &task[0]);
	/* The first one has the job's token: the others go with it. */
	endpoint_started(&m, t, &slot);
	i->rec.started_ns = 1;
	for (int k = 1; k < 3; k++) {
		t = sched_pop(m.sched, 0, ROLE_LOCAL, "");
		ck_assert_ptr_eq(t, &task[k]);
		endpoint_started(&m, t, &slot);
	}
	ck_assert_uint_eq(waiting(), 0);
	for (int k = 0; k < 3; k++)
		endpoint_ended(&m, &task[k], false);
	end();
}
END_TEST

START_TEST(a_wait_ends_with_its_attempt)
{
	struct item *a, *b;
	struct tenant_view v[2];
	size_t all;

	begin("tenants: {a: {tasks: 1}}\n");
	a = push("a");
	b = push("a");
	ck_assert_ptr_eq(start(), a);
	ck_assert_ptr_null(start());
	stop(a);
	/* It was called, and fails without a worker; the next attempt comes at once. */
	ck_assert_ptr_eq(sched_pop(m.sched, 0, ROLE_LOCAL, ""), &b->task);
	ck_assert(b->task.was_called);
	endpoint_left(&m, &b->task);
	b->task.state = TASK_RETRY;
	task_set_state(&m, &b->task, TASK_QUEUED);
	ck_assert(!b->task.was_called);
	loop_once(m.loop, 20);
	ck_assert_ptr_eq(start(), b);
	tenants_view(&m, v, 2, &all);
	ck_assert_int_eq(v[0].waited_ms, 0);
	b->task.state = TASK_RUNNING;
	end();
}
END_TEST

START_TEST(a_reload_lets_them_go)
{
	struct config_args args = { .file = NULL };
	static const char more[] = "tenants: {a: {tasks: 3}}\n";
	struct config_set fresh;

	begin("tenants: {a: {tasks: 1}, b: {jobs_per_minute: 1}}\n");
	for (int i = 0; i < 5; i++) {
		push("a");
		push("b");
	}
	ck_assert_int_eq(start_all(8, "a"), 1);
	ck_assert_int_eq(start_all(8, "b"), 1);
	ck_assert_uint_eq(waiting(), 8);
	ck_assert_int_eq(config_load_text(&fresh, "t.yaml", more, strlen(more), &args), 0);
	config_take_reloadable(&set, &fresh);
	config_set_release(&fresh);
	tenants_reloaded(&m);
	ck_assert_int_eq(start_all(8, "a"), 3);
	ck_assert_int_ge(start_all(8, "b"), 4);
	end();
}
END_TEST

START_TEST(held_until_its_worker_is_free)
{
	struct item *a, *b, *c;

	/* Its listing is done, its spool is being published: the worker is its tenant's still, its place at the endpoint is another's. */
	begin("network: {tasks_per_endpoint: 1}\ntenants: {a: {tasks: 1}}\n");
	a = push_to("a", "sftp://x:22");
	ck_assert_ptr_eq(start(), a);
	task_set_state(&m, &a->task, TASK_RUNNING);
	a->task.slot = &slot;
	b = push("a");
	c = push_to("c", "sftp://x:22");
	ck_assert_ptr_null(start());
	task_set_state(&m, &a->task, TASK_PUBLISHING);
	ck_assert_ptr_eq(start(), c);
	ck_assert_ptr_null(start());
	ck_assert_uint_eq(waiting(), 1);
	a->task.slot = NULL;
	tenant_ended(&m, &a->task);
	ck_assert_ptr_eq(start(), b);
	/* Once is enough, however often it is told. */
	tenant_ended(&m, &a->task);
	endpoint_ended(&m, &a->task, false);
	push("a");
	ck_assert_ptr_null(start());
	a->running = false;
	end();
}
END_TEST

START_TEST(only_those_of_the_pool_share_it)
{
	struct item *i;

	begin("pools:\n  mine: {workers: 4, tenants: [a, c]}\n  rest: {workers: 4}\n");
	for (int n = 0; n < 20; n++) {
		push("a");
		i = push_in("b", 1);
		if (n < 4)
			ck_assert_ptr_eq(start_in(1), i);
	}
	/* b has more than it can do, and a's pool is not for it. */
	ck_assert_int_eq(start_all(8, "a"), 4);
	ck_assert_uint_eq(waiting(), 0);
	/* Once another has work for it, one stays free for whoever comes. */
	while ((i = running("a")))
		stop(i);
	while ((i = running("b")))
		stop(i);
	push_in("c", 0);
	ck_assert_int_eq(start_all(4, "a"), 2);
	ck_assert_int_eq(start_all(4, "c"), 1);
	end();
}
END_TEST

START_TEST(metrics_have_a_bucket_for_the_rest)
{
	char name[16];

	begin("metrics: {tenants: 2}\n");
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		tenants_count_job(&m, name, "completed");
		tenants_count_job(&m, name, "failed");
	}
	ck_assert(metric_get(METRIC_TENANT_JOBS, "t0", "completed") == 1);
	ck_assert(metric_get(METRIC_TENANT_JOBS, "t1", "failed") == 1);
	ck_assert(metric_get(METRIC_TENANT_JOBS, "other", "completed") == 8);
	ck_assert(metric_get(METRIC_TENANT_JOBS, "t2", "completed") == 0);
	end();
}
END_TEST

START_TEST(the_idle_are_forgotten)
{
	struct tenant_view v[4];
	char name[16];
	size_t all;

	begin("tenants: {a: {tasks: 1}}\n");
	push("a");
	start();
	push("a");
	for (int i = 0; i < 9000; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		tenant_seen(&m, name, 0);
	}
	ck_assert_uint_eq(tenants_view(&m, v, 4, &all), 4);
	ck_assert_uint_eq(all, 4096);
	ck_assert_str_eq(v[0].name, "a");
	ck_assert_uint_eq(v[0].running, 1);
	end();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_tenants");
	TCase *t = tcase_create("tenants");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, tasks_at_once);
	tcase_add_test(t, one_tenant_has_all_workers);
	tcase_add_test(t, half_is_spared);
	tcase_add_test(t, who_comes_finds_a_worker);
	tcase_add_test(t, several_leave_a_worker);
	tcase_add_test(t, the_brief_may_have_one_more);
	tcase_add_test(t, who_has_many_is_lent_none);
	tcase_add_test(t, none_is_lent_of_the_last);
	tcase_add_test(t, of_few_none_is_spared);
	tcase_add_test(t, by_weight);
	tcase_add_test(t, jobs_a_minute);
	tcase_add_test(t, in_order_of_arrival);
	tcase_add_test(t, called_by_age);
	tcase_add_test(t, no_more_are_called_than_can_start);
	tcase_add_test(t, one_token_for_all_sources);
	tcase_add_test(t, a_wait_ends_with_its_attempt);
	tcase_add_test(t, a_reload_lets_them_go);
	tcase_add_test(t, held_until_its_worker_is_free);
	tcase_add_test(t, only_those_of_the_pool_share_it);
	tcase_add_test(t, metrics_have_a_bucket_for_the_rest);
	tcase_add_test(t, the_idle_are_forgotten);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
