/*
 * master_endpoint_conns.c - unit tests of endpoint_conns.c: who is granted how many connections, what a worker may say that it
 * keeps, who is asked to close what it keeps. The workers are made up: what a true one does, in whatever order, is played by
 * `act`, and no moment of it may show more connections than the setting allows.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"

#define WORKERS_MAX 6
#define ITEMS_MAX 512
#define FRAMES_MAX 8
#define SERVERS 2

struct item { struct jobrec rec; struct job job; struct source_conf source; struct task task; char org[16]; int server, secret; };

struct said { enum msg_type type; uint32_t n; };
struct played {                         /* a worker, as it is behind its socket */
	int fd;
	int server;                     /* of what it has open */
	unsigned open, told;
	char tenant[16];
	int secret;
	struct item *job;               /* that it has; NULL: it waits */
	bool begun;
	unsigned granted;
	struct said said[FRAMES_MAX];   /* on their way to the master */
	size_t n_said;
};

static const char *const names[SERVERS] = { "http://a:80", "http://b:80" };
static struct master m;
static struct config cfg;
static struct pool pool;
static struct crew crew;
static struct slot slots[WORKERS_MAX + 1];
static struct played played[WORKERS_MAX];
static struct item *items[ITEMS_MAX];
static size_t n_items, done_items;
static uint32_t seed;
static struct err e;

static unsigned
pick(unsigned n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

/* ---- the room ------------------------------------------------------------------------------------------------------------ */

static void
before(void)
{
	memset(&m, 0, sizeof(m));
	memset(&cfg, 0, sizeof(cfg));
	memset(&pool, 0, sizeof(pool));
	memset(slots, 0, sizeof(slots));
	memset(played, 0, sizeof(played));
	cfg.network_tasks = 100;
	cfg.network_connections = 16;
	cfg.network_endpoint_connections = 3;
	cfg.timeout_cancel = cfg.timeout_kill = 60000;
	cfg.workers_age = 3600000;
	m.cfg = &cfg;
	m.phase = MASTER_RUNNING;
	m.loop = loop_new();
	m.endpoints = endpoints_new();
	m.sched = sched_new(&m, 1);
	m.pool = &pool;
	crew = (struct crew){ .p = &pool, .name = "test", .isolation = ISOLATION_TENANT, .exchanges = 8, .exchanges_ms = loop_now(m.loop) };
	crew.types = ~0u;
	crew.next_role = ROLE_NETWORK;
	timer_init(&crew.linger, NULL, NULL);
	pool.m = &m;
	pool.crews = &crew;
	pool.n_crews = 1;
	pool.slots = slots;
	n_items = done_items = 0;
	err_clear(&e);
}

static void
ready(struct slot *s)
{
	struct played *w = &played[s->index];
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd), 0);
	if (w->fd)
		close(w->fd);
	*w = (struct played){ .fd = fd[1] };
	s->proc.fd = fd[0];
	s->proc.pid = 1 << 30;
	s->role = ROLE_NETWORK;
	s->tasks_served = 0;
	s->turning = false;
	s->state = WORKER_IDLE;
	s->started_ms = s->since_ms = loop_now(m.loop);
}

static void
workers(size_t n)
{
	crew.workers = pool.n = n;
	for (size_t i = 0; i <= n; i++) {
		slot_init(&slots[i], &m, (int)i, &crew);
		slots[i].tasks_max = 1000000;
		if (i < n)
			ready(&slots[i]);
	}
	pool.spare = &slots[n];
}

static void
after(void)
{
	m.phase = MASTER_STOPPED;
	for (size_t i = 0; i <= pool.n; i++) {
		slots[i].proc.pid = 0;
		slot_forget(&slots[i]);
		if (i < pool.n)
			close(played[i].fd);
	}
	timer_cancel(m.loop, &crew.linger);
	sched_free(m.sched);
	endpoints_free(m.endpoints);
	loop_free(m.loop);
	while (n_items)
		free(items[--n_items]);
}

static struct item *
put(const char *org, int server, int64_t connections)
{
	struct item *i = xcalloc(1, sizeof(*i));

	ck_assert_uint_lt(n_items, ITEMS_MAX);
	items[n_items++] = i;
	snprintf(i->org, sizeof(i->org), "%s", org);
	i->server = server;
	i->source.type = SOURCE_HTTP;
	i->source.endpoint = (char *)(uintptr_t)names[server];
	i->source.v[SF_NETWORK_MAX_CONNECTIONS] = (struct field_value){ .set = connections, .i = connections };
	i->job.sources = &i->source;
	i->job.n_sources = 1;
	i->job.priority = PRIORITY_NORMAL;
	i->rec.job = &i->job;
	i->rec.org_id = i->org;
	i->rec.id = n_items;
	i->rec.m = &m;
	i->task.job = &i->rec;
	i->task.key = i->org;
	i->task.done = &task_no_account;
	sched_push(m.sched, &i->task);
	return i;
}

/* As dispatch.c does. */
static void
give(void)
{
	struct slot *s;
	struct task *t;

	crew.exchanges = 8;
	while ((t = pool_next(&pool, &s))) {
		struct played *w = &played[s->index];

		t->connections = endpoint_grant(&m, t, s);
		if (!t->connections) {
			endpoint_wait(&m, t);
			continue;
		}
		t->slot = s;
		s->task = t;
		pool_bind(s, t);
		s->state = WORKER_BUSY;
		endpoint_started(&m, t, s);
		w->job = (struct item *)((char *)t - offsetof(struct item, task));
		w->begun = false;
		w->granted = t->connections;
	}
}

static unsigned
held(int server)
{
	struct endpoint_view v[SERVERS];
	size_t n = endpoints_view(&m, v, SERVERS);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].name, names[server]))
			return v[i].held;
	return 0;
}

static unsigned
open_at(int server)
{
	unsigned n = 0;

	for (size_t i = 0; i < pool.n; i++)
		n += played[i].server == server ? played[i].open : 0;
	return n;
}

/* ---- a worker ------------------------------------------------------------------------------------------------------------- */

static void
say(struct played *w, enum msg_type type, uint32_t n)
{
	ck_assert_uint_lt(w->n_said, FRAMES_MAX);
	w->said[w->n_said++] = (struct said){ type, n };
}

static void
say_kept(struct played *w)
{
	if (w->open == w->told)
		return;
	w->told = w->open;
	say(w, MSG_KEPT, w->open);
}

static bool
asked_to_drop(struct played *w)
{
	static uint8_t buf[IPC_FRAME_MAX + 1];
	struct frame f;
	bool any = false;

	while (ipc_recv(w->fd, MSG_DONTWAIT, buf, &f, &e) == 1)
		any = any || f.type == MSG_DROP;
	return any;
}

static void
begin(struct played *w)
{
	const struct item *i = w->job;

	if (w->open && (w->server != i->server || strcmp(w->tenant, i->org) || w->secret != i->secret || w->open > w->granted)) {
		w->open = 0;
		say_kept(w);
	}
	w->server = i->server;
	w->secret = i->secret;
	snprintf(w->tenant, sizeof(w->tenant), "%s", i->org);
	w->begun = true;
}

static void
finish(struct played *w)
{
	w->open = pick(4) ? pick(w->open + 1) : 0;
	say_kept(w);
	say(w, MSG_DONE, 0);
	w->job = NULL;
}

static int
kept(struct slot *s, uint32_t n)
{
	struct frame f = { .type = MSG_KEPT, .payload = (const uint8_t *)&n, .n = sizeof(n) };

	err_clear(&e);
	return endpoint_kept(s, &f, &e);
}

/* The end of its task, as slot.c and jobs.c have it. */
static void
task_over(struct slot *s)
{
	struct task *t = s->task;

	endpoint_task_done(s);
	s->task = NULL;
	t->slot = NULL;
	s->tasks_served++;
	s->since_ms = loop_now(m.loop);
	s->state = WORKER_IDLE;
	endpoint_worker_free(s);
	endpoint_ended(&m, t, false);
	done_items++;
}

static void
hear(struct slot *s)
{
	struct played *w = &played[s->index];
	struct said f = w->said[0];

	memmove(w->said, w->said + 1, --w->n_said * sizeof(*w->said));
	if (f.type == MSG_DONE)
		task_over(s);
	else
		ck_assert_msg(kept(s, f.n) == 0, "%s", e.text);
}

static void
die(struct slot *s)
{
	struct task *t = s->task;

	played[s->index].open = 0;
	slot_forget(s);
	s->task = NULL;
	if (t) {
		endpoint_ended(&m, t, true);
		t->slot = NULL;
		sched_push(m.sched, t);
	}
	s->role = ROLE_NETWORK;
	ready(s);
}

/* One thing that it may do now. */
static void
act(struct slot *s)
{
	struct played *w = &played[s->index];

	if (w->n_said && pick(2)) {
		hear(s);
		return;
	}
	if (s->state == WORKER_DRAINING && !s->task) {
		die(s);
		return;
	}
	if (!w->job || !w->begun) {
		if (asked_to_drop(w) || (!w->job && w->open && !pick(8))) {
			w->open = 0;
			say_kept(w);
			return;
		}
		if (w->job)
			begin(w);
		return;
	}
	if (!pick(40))
		die(s);
	else if (w->open < w->granted && pick(3))
		w->open++;
	else if (!pick(3))
		finish(w);
}

/* ---- all of it, in any order ---------------------------------------------------------------------------------------------- */

START_TEST(never_more_than_the_cap)
{
	size_t steps = 0, sent = 0;

	seed = (uint32_t)_i + 1;
	cfg.network_endpoint_connections = 1 + _i % 5;
	workers(2 + (size_t)_i % (WORKERS_MAX - 1));
	while (done_items < ITEMS_MAX) {
		if (sent < ITEMS_MAX && !pick(4)) {
			char org[2] = { (char)('p' + pick(3 + (unsigned)_i % 3)), '\0' };
			struct item *i = put(org, pick(5) ? 0 : 1, pick(2) ? 1 + pick(8) : 0);

			i->secret = pick(6) == 0;
			sent++;
		}
		act(&slots[pick((unsigned)pool.n)]);
		give();
		for (int v = 0; v < SERVERS; v++) {
			ck_assert_uint_le(open_at(v), (unsigned)cfg.network_endpoint_connections);
			ck_assert_uint_le(held(v), (unsigned)cfg.network_endpoint_connections);
			ck_assert_uint_le(open_at(v), held(v));
		}
		/* Some would wait for ever. */
		ck_assert_uint_lt(++steps, 400000);
	}
	/* Nothing is left of it but what is kept. */
	for (size_t k = 0; k < pool.n; k++) {
		while (played[k].n_said)
			hear(&slots[k]);
		ck_assert_ptr_null(slots[k].granted_at);
		ck_assert_uint_eq(slots[k].kept, played[k].open);
	}
	for (int v = 0; v < SERVERS; v++)
		ck_assert_uint_eq(held(v), open_at(v));
}
END_TEST

/* ---- one thing after the other -------------------------------------------------------------------------------------------- */

static struct slot *
with(const struct item *i)
{
	return i->task.slot;
}

START_TEST(fewer_than_asked_for)
{
	struct item *a, *b, *c;

	workers(3);
	a = put("a", 0, 2);
	give();
	b = put("b", 0, 8);
	give();
	c = put("c", 0, 8);
	give();
	ck_assert_uint_eq(a->task.connections, 2);
	ck_assert_uint_eq(b->task.connections, 1);
	ck_assert_ptr_nonnull(c->task.parked);
	ck_assert_str_eq(endpoint_waits_for(&c->task), "endpoint_connections");
	ck_assert_uint_eq(held(0), 3);
	task_over(with(a));
	give();
	ck_assert_ptr_nonnull(with(c));
	ck_assert_uint_eq(c->task.connections, 2);
}
END_TEST

/* Two wait: what comes free is for both. */
START_TEST(parted)
{
	struct item *a, *b, *c;

	cfg.network_endpoint_connections = 5;
	workers(3);
	a = put("a", 0, 8);
	give();
	ck_assert_uint_eq(a->task.connections, 5);
	b = put("b", 0, 8);
	c = put("c", 0, 8);
	give();
	ck_assert_ptr_nonnull(b->task.parked);
	ck_assert_ptr_nonnull(c->task.parked);
	task_over(with(a));
	give();
	ck_assert_uint_ge(b->task.connections, 2);
	ck_assert_uint_ge(c->task.connections, 2);
	ck_assert_uint_eq(b->task.connections + c->task.connections, 5);
}
END_TEST

START_TEST(kept_ones_are_used_again)
{
	struct item *a, *b;

	workers(3);
	a = put("a", 0, 8);
	give();
	ck_assert_int_eq(kept(with(a), 3), 0);
	task_over(&slots[0]);
	ck_assert_uint_eq(held(0), 3);
	b = put("a", 0, 8);
	give();
	ck_assert_ptr_eq(with(b), &slots[0]);
	ck_assert_uint_eq(b->task.connections, 3);
	ck_assert_uint_eq(held(0), 3);
	ck_assert(!asked_to_drop(&played[0]));
}
END_TEST

START_TEST(kept_ones_make_room)
{
	struct item *a, *b, *later;

	workers(3);
	a = put("a", 0, 8);
	give();
	ck_assert_int_eq(kept(with(a), 3), 0);
	task_over(&slots[0]);
	b = put("b", 0, 8);
	give();
	ck_assert_ptr_nonnull(b->task.parked);
	ck_assert(asked_to_drop(&played[0]));
	ck_assert(slots[0].dropping);
	/* First come: it could go on with what is kept, and does not. */
	later = put("a", 0, 8);
	give();
	ck_assert_ptr_nonnull(later->task.parked);
	ck_assert(!asked_to_drop(&played[0]));
	ck_assert_int_eq(kept(&slots[0], 0), 0);
	ck_assert(!slots[0].dropping && !timer_armed(&slots[0].drop_timer));
	give();
	ck_assert_ptr_nonnull(with(b));
	ck_assert_ptr_nonnull(with(later));
	ck_assert_uint_eq(b->task.connections + later->task.connections, 3);
}
END_TEST

/* Several keep some: one is asked, and another's owner has its next task, which could go on at once. It goes behind. */
START_TEST(none_overtakes_one_that_lacks)
{
	struct item *b, *later;
	struct slot *asked = NULL;

	workers(4);
	for (int i = 0; i < 3; i++)
		put("a", 0, 1);
	give();
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(kept(&slots[i], 1), 0);
	for (size_t i = 0; i < 3; i++)
		task_over(&slots[i]);
	ck_assert_uint_eq(held(0), 3);
	b = put("b", 0, 1);
	give();
	ck_assert_ptr_nonnull(b->task.parked);
	for (size_t i = 0; i < 4; i++) {
		if (!asked_to_drop(&played[i]))
			continue;
		ck_assert_ptr_null(asked);
		asked = &slots[i];
	}
	ck_assert_ptr_nonnull(asked);
	later = put("a", 0, 1);
	give();
	ck_assert_ptr_null(later->task.slot);
	ck_assert_ptr_nonnull(later->task.parked);
	/* Once that one has what it lacked, the other goes on with what is kept for it. */
	ck_assert_int_eq(kept(asked, 0), 0);
	give();
	ck_assert_ptr_nonnull(b->task.slot);
	ck_assert_ptr_nonnull(later->task.slot);
	ck_assert_ptr_ne(later->task.slot, asked);
	ck_assert_uint_eq(later->task.slot->kept, 1);
	ck_assert_uint_eq(held(0), 3);
}
END_TEST

/* It keeps some at one server, and is given a task at another: there it is counted until it says that they are closed. */
START_TEST(counted_until_told)
{
	struct item *a, *b, *c;

	workers(2);
	a = put("a", 0, 8);
	give();
	ck_assert_int_eq(kept(with(a), 2), 0);
	task_over(&slots[0]);
	b = put("a", 1, 2);
	give();
	ck_assert_ptr_eq(with(b), &slots[0]);
	ck_assert_uint_eq(held(0), 2);
	ck_assert_uint_eq(held(1), 2);
	c = put("c", 0, 8);
	give();
	ck_assert_uint_eq(c->task.connections, 1);
	/* Not before it has said so may it have others. */
	ck_assert_int_eq(kept(&slots[0], 1), -1);
	ck_assert_int_eq(kept(&slots[0], 0), 0);
	ck_assert_uint_eq(held(0), 1);
	ck_assert_int_eq(kept(&slots[0], 2), 0);
	ck_assert_uint_eq(held(1), 2);
	slot_forget(&slots[0]);
	ck_assert_uint_eq(held(1), 0);
	slots[0].state = WORKER_BACKOFF;
	slots[0].task = NULL;
}
END_TEST

static const struct { bool task, done; unsigned before; uint32_t n; bool ok; } lies[] = {
	{ false, false, 0, 0, true }, { false, false, 0, 1, false },
	{ true, false, 0, 2, true }, { true, false, 0, 3, false }, { true, false, 0, UINT32_MAX, false },
	{ true, true, 2, 2, true }, { true, true, 1, 2, false }, { true, true, 1, 1, true }, { true, true, 0, 1, false },
};

START_TEST(what_it_may_say)
{
	const struct item *i;

	workers(1);
	if (lies[_i].task) {
		i = put("a", 0, 2);
		give();
		ck_assert_uint_eq(i->task.connections, 2);
		if (lies[_i].before)
			ck_assert_int_eq(kept(&slots[0], lies[_i].before), 0);
		if (lies[_i].done)
			task_over(&slots[0]);
	}
	ck_assert_int_eq(kept(&slots[0], lies[_i].n), lies[_i].ok ? 0 : -1);
	if (!lies[_i].ok)
		ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	ck_assert_uint_eq(slots[0].kept, lies[_i].ok ? lies[_i].n : lies[_i].before);
}
END_TEST

START_TEST(not_of_four_bytes)
{
	struct frame f = { .type = MSG_KEPT, .payload = (const uint8_t *)"abc", .n = 3 };

	workers(1);
	ck_assert_int_eq(endpoint_kept(&slots[0], &f, &e), -1);
}
END_TEST

/* It does not answer DROP: ended, and who waits goes on. */
START_TEST(one_that_keeps_them_all_the_same)
{
	struct item *a, *b;

	workers(2);
	a = put("a", 0, 8);
	give();
	ck_assert_int_eq(kept(with(a), 3), 0);
	task_over(&slots[0]);
	b = put("b", 0, 8);
	give();
	ck_assert(timer_armed(&slots[0].drop_timer));
	endpoint_not_dropped(&slots[0]);
	ck_assert_int_eq(slots[0].killed_for, DEATH_PROTOCOL);
	ck_assert_int_eq(slots[0].state, WORKER_DYING);
	ck_assert_ptr_nonnull(b->task.parked);
	slot_forget(&slots[0]);
	slots[0].state = WORKER_BACKOFF;
	give();
	ck_assert_uint_eq(b->task.connections, 3);
}
END_TEST

START_TEST(reloaded)
{
	struct item *a, *b, *c;

	cfg.network_endpoint_connections = 0;
	workers(3);
	a = put("a", 0, 8);
	b = put("b", 0, 8);
	give();
	ck_assert_uint_eq(a->task.connections, 8);
	ck_assert_uint_eq(b->task.connections, 8);
	ck_assert_int_eq(kept(with(a), 8), 0);
	task_over(with(a));
	ck_assert_uint_eq(held(0), 16);
	/* Less than is open: what is idle of it is closed, and nobody begins before the rest has gone. */
	cfg.network_endpoint_connections = 4;
	endpoints_reloaded(&m);
	ck_assert(asked_to_drop(&played[0]));
	c = put("c", 0, 0);
	ck_assert_int_eq(kept(&slots[0], 0), 0);
	give();
	ck_assert_ptr_nonnull(c->task.parked);
	task_over(with(b));
	give();
	ck_assert_uint_eq(c->task.connections, 4);
	cfg.network_endpoint_connections = 0;
	put("a", 0, 0);
	endpoints_reloaded(&m);
	give();
	ck_assert_uint_eq(held(0), 4 + CONNECTIONS_DEFAULT);
}
END_TEST

/* The first in line is cancelled: the next one is not forgotten, though it lacks nothing. */
START_TEST(cancelled)
{
	struct item *a, *b, *c;

	workers(2);
	a = put("a", 0, 8);
	give();
	b = put("b", 0, 8);
	c = put("a", 0, 8);
	give();
	ck_assert_ptr_nonnull(b->task.parked);
	ck_assert_ptr_nonnull(c->task.parked);
	sched_remove(m.sched, &b->task);
	ck_assert_int_eq(kept(with(a), 3), 0);
	task_over(with(a));
	give();
	ck_assert_ptr_eq(with(c), &slots[0]);
	ck_assert_uint_eq(c->task.connections, 3);
}
END_TEST

START_TEST(sftp_is_one)
{
	struct item *a = put("a", 0, 8);

	a->source.type = SOURCE_SFTP;
	workers(1);
	give();
	ck_assert_uint_eq(a->task.connections, 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_endpoint_conns");
	TCase *t = tcase_create("connections");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_loop_test(t, never_more_than_the_cap, 0, 40);
	tcase_add_test(t, fewer_than_asked_for);
	tcase_add_test(t, parted);
	tcase_add_test(t, kept_ones_are_used_again);
	tcase_add_test(t, kept_ones_make_room);
	tcase_add_test(t, none_overtakes_one_that_lacks);
	tcase_add_test(t, counted_until_told);
	tcase_add_loop_test(t, what_it_may_say, 0, (int)ARRAY_LEN(lies));
	tcase_add_test(t, not_of_four_bytes);
	tcase_add_test(t, one_that_keeps_them_all_the_same);
	tcase_add_test(t, reloaded);
	tcase_add_test(t, cancelled);
	tcase_add_test(t, sftp_is_one);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
