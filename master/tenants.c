/*
 * tenants.c - how much each tenant has in hand, and what of its tasks has to wait: tasks at once, jobs a minute, its share of
 * the workers.
 *
 * endpoint.c asks before a task is given out, so that a task passes here first. One that may not start waits here and goes
 * to the front of its tenant's queue when it may: nothing is dropped, and no other tenant's task waits behind it. A job whose
 * token is further away than jobs.hold_max, and what a tenant has waiting, here or at its endpoints, beyond half of the jobs'
 * queue, goes to the deferred topic, so that no tenant's backlog keeps others' jobs from being read (of one that is alone, or
 * within its limits: tenants_crowd.c). Limits are those of tenant.def and count per daemon.
 * A tenant that has nothing in hand and was not seen for a while is forgotten.
 */
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "common/xalloc.h"
#include "master/tenants_priv.h"
#include "common/banned.h"

#define TENANTS_KEPT 4096               /* idle ones beyond so many are forgotten, the longest idle first */
#define LATELY_MS 300000                /* so long after its last task a tenant counts as one that may come back */
#define LOOK_MS 100                     /* who was here lately is counted again after so long */
#define TICK_MS 1000                    /* shares grow when others have been away for long enough */
#define ASKED_MAX 32                    /* tasks of a tenant that are asked in turn whether their pool has a place */
#define BURST_PART 10                   /* of a minute's jobs, so many may start at once */
#define BRIEF_MS 1000                   /* a worker held for no longer is back before it is missed */
#define BRIEF_TASKS 8                   /* so many in a row, and no more that wait: its next ones will be as brief */
#define SWEEP_MS 100                    /* so long after a task had to wait it is seen whether jobs must be deferred */

static const char *const wait_names[WAIT__MAX] = { "", "tasks", "share", "jobs_per_minute", "requests_per_minute" };

/* ---- the tenants that are known ---------------------------------------------------------------------------------------- */

static void tick_due(void *);
static void token_due(void *);

/* Who is active may be others by now, in any pool. */
static void
look_again(struct tenants *all)
{
	for (size_t i = 0; i < all->pools; i++)
		all->pool[i].stale = true;
}

struct tenants *
tenants_new(struct master *m)
{
	struct tenants *all = xcalloc(1, sizeof(*all));

	all->m = m;
	all->pools = pool_crews(m->pool);
	all->pool = xcalloc(all->pools, sizeof(*all->pool));
	look_again(all);
	TAILQ_INIT(&all->waiting);
	timer_init(&all->tick, tick_due, all);
	timer_init(&all->sweep, tenants_sweep_due, all);
	timer_init(&all->look, tenants_look_due, all);
	timer_init(&all->give, tenants_give_due, all);
	return all;
}

static void
forget(struct tenants *all, struct tenant_use *u)
{
	timer_cancel(all->m->loop, &u->timer);
	HASH_DEL(all->by_name, u);
	all->shown -= u->shown;
	look_again(all);
	free(u->name);
	free(u->part);
	free(u);
}

void
tenants_free(struct tenants *all)
{
	struct tenant_use *u, *next;

	if (!all)
		return;
	HASH_ITER(hh, all->by_name, u, next)
		forget(all, u);
	timer_cancel(all->m->loop, &all->tick);
	timer_cancel(all->m->loop, &all->sweep);
	timer_cancel(all->m->loop, &all->look);
	timer_cancel(all->m->loop, &all->give);
	free(all->pool);
	free(all);
}

static bool
idle(const struct tenant_use *u)
{
	return !u->held && !u->running && !u->called && !u->n_room && !u->n_rate && !u->n_away;
}

/* One with metrics of its own stays: its counters must not move to another name. */
static void
forget_one(struct tenants *all)
{
	struct tenant_use *u, *next, *oldest = NULL;

	HASH_ITER(hh, all->by_name, u, next)
		if (idle(u) && !u->shown && !timer_armed(&u->timer) && (!oldest || u->seen_ms < oldest->seen_ms))
			oldest = u;
	if (oldest)
		forget(all, oldest);
}

struct tenant_use *
tenant_use_of(struct tenants *all, const char *name)
{
	struct tenant_use *u;

	HASH_FIND_STR(all->by_name, name, u);
	if (u)
		return u;
	if (HASH_COUNT(all->by_name) >= TENANTS_KEPT)
		forget_one(all);
	u = xcalloc(1, sizeof(*u));
	u->all = all;
	u->name = xstrdup(name);
	u->part = xcalloc(all->pools, sizeof(*u->part));
	for (int p = 0; p < PRIORITY__MAX; p++) {
		TAILQ_INIT(&u->room[p]);
		TAILQ_INIT(&u->rate[p]);
		TAILQ_INIT(&u->away[p]);
	}
	timer_init(&u->timer, token_due, u);
	/* Long ago: it was not seen yet. */
	u->seen_ms = loop_now(all->m->loop) - LATELY_MS;
	for (size_t i = 0; i < all->pools; i++)
		u->part[i].seen_ms = u->seen_ms;
	HASH_ADD_KEYPTR(hh, all->by_name, u->name, strlen(u->name), u);
	return u;
}

const struct tenant_conf *
tenant_use_conf(const struct tenant_use *u)
{
	return tenants_get(u->all->m->cfg, u->name);
}

/* What it has elsewhere needs none of this pool's workers. */
static bool
lately(const struct tenant_use *u, size_t pool)
{
	const struct tenant_part *p = &u->part[pool];

	return p->in || p->waiting || loop_now(u->all->m->loop) - p->seen_ms < LATELY_MS;
}

static void
seen(struct tenant_use *u, size_t pool)
{
	if (!lately(u, pool))
		u->all->pool[pool].stale = true;
	u->seen_ms = u->part[pool].seen_ms = loop_now(u->all->m->loop);
}

void
tenant_seen(struct master *m, const char *org_id, size_t pool)
{
	if (m->tenants)
		seen(tenant_use_of(m->tenants, org_id), pool);
}

int64_t
tenant_weight(const struct master *m, const char *org_id)
{
	return m && m->cfg ? tenants_get(m->cfg, org_id)->weight : 1;
}

/* ---- may it start? --------------------------------------------------------------------------------------------------------- */

/* Of one pool's workers, among those that have work for it. */
static const struct share *
share_now(struct tenants *all, size_t pool)
{
	struct pool_use *p = &all->pool[pool];
	struct share *s = &p->share;
	int64_t now = loop_now(all->m->loop);
	struct tenant_use *u, *next;

	s->workers = pool_workers(all->m->pool, pool);
	s->limit = all->m->cfg->workers_tenant_share;
	if (!p->stale && now - p->looked_ms < LOOK_MS)
		return s;
	s->active = 0;
	s->weights = 0;
	HASH_ITER(hh, all->by_name, u, next)
		if (lately(u, pool)) {
			s->active++;
			s->weights += tenant_use_conf(u)->weight;
		}
	p->looked_ms = now;
	p->stale = false;
	return s;
}

/* One task more, or less, that runs or was called there. */
static void
count_in(struct tenant_use *u, size_t pool, int by)
{
	u->part[pool].in += (unsigned)by;
	u->all->pool[pool].share.busy += (size_t)by;
}

static int64_t
now_ns(void)
{
	return clock_mono_ms() * 1000000;
}

/* ns until a job may start after `before` others; 0: now. The bucket holds a tenth of a minute's jobs. */
int64_t
tenant_token_wait(const struct tenant_use *u, size_t before)
{
	const struct tenant_conf *c = tenant_use_conf(u);
	int64_t each, burst, now = now_ns(), full = u->next_ns > now ? u->next_ns : now;

	if (!c->jobs_per_minute)
		return 0;
	each = MINUTE_NS / c->jobs_per_minute;
	burst = c->jobs_per_minute / BURST_PART > 1 ? c->jobs_per_minute / BURST_PART : 1;
	full += (int64_t)before * each - (burst - 1) * each;
	return full > now ? full - now : 0;
}

static void
token_take(struct tenant_use *u)
{
	const struct tenant_conf *c = tenant_use_conf(u);
	int64_t now = now_ns();

	if (!c->jobs_per_minute)
		return;
	if (u->next_ns < now)
		u->next_ns = now;
	u->next_ns += MINUTE_NS / c->jobs_per_minute;
}

/* A job that has begun has its token. */
static bool
wants_token(const struct task *t)
{
	return !t->job->started_ns;
}

/* Its tasks come and go, and none is held up now. */
static bool
is_brief(const struct tenant_use *u, size_t pool)
{
	const struct tenant_part *p = &u->part[pool];

	return p->brief >= BRIEF_TASKS && u->n_room <= BRIEF_TASKS && loop_now(u->all->m->loop) - p->moved_ms <= BRIEF_MS;
}

static enum wait
share_wait(struct tenant_use *u, size_t pool, int64_t weight)
{
	const struct share *s = share_now(u->all, pool);
	unsigned in = u->part[pool].in;

	return share_allows(s, in, weight) || (is_brief(u, pool) && share_lends(s, in, weight)) ? WAIT_NO : WAIT_SHARE;
}

/* For one more of its tasks, beside those that run and those that were called. */
static enum wait
room_wait(struct tenant_use *u, const struct task *t)
{
	const struct tenant_conf *c = tenant_use_conf(u);

	if (c->tasks && u->running + u->called >= (unsigned)c->tasks)
		return WAIT_TASKS;
	/* More of them would only wait for the same requests. */
	if (bucket_short(&u->requests, rate_of(c->requests_per_minute, MINUTE_NS), loop_now(u->all->m->loop)) &&
	    u->part[t->pool].in >= rates_tasks((int64_t)pool_workers(u->all->m->pool, t->pool)))
		return WAIT_REQUESTS;
	return share_wait(u, t->pool, c->weight);
}

static enum wait
why_wait(struct tenant_use *u, const struct task *t)
{
	enum wait w = room_wait(u, t);

	if (w == WAIT_NO && wants_token(t) && tenant_token_wait(u, u->called_rate) > 0)
		w = WAIT_RATE;
	return w;
}

/* More than can start are not called: they would only wait elsewhere, before those that come with a higher priority. */
static bool
a_worker_is_free(const struct tenant_use *u, const struct task *t)
{
	return u->all->pool[t->pool].share.busy < pool_workers(u->all->m->pool, t->pool);
}

/* The first that may have a place now; of many that have none not all are asked. */
static struct task *
first_of(struct tenant_use *u, struct taskq q[PRIORITY__MAX])
{
	struct task *t;
	int asked = 0;

	for (int p = 0; p < PRIORITY__MAX; p++)
		TAILQ_FOREACH(t, &q[p], entry) {
			if (a_worker_is_free(u, t) && room_wait(u, t) == WAIT_NO)
				return t;
			if (++asked == ASKED_MAX)
				return NULL;
		}
	return NULL;
}

static void
arm(struct tenant_use *u)
{
	/* Without a place the minute is not what it waits for. */
	if (u->n_rate && !timer_armed(&u->timer) && first_of(u, u->rate))
		timer_set(u->all->m->loop, &u->timer, tenant_token_wait(u, u->called_rate) / 1000000 + 1);
	if (!timer_armed(&u->all->tick))
		timer_set(u->all->m->loop, &u->all->tick, TICK_MS);
}

/* By arrival: one that was called and found the place taken, or is read back from the deferred topic, has its old turn. */
static bool
came_before(const struct task *a, const struct task *b)
{
	const struct jobrec *x = a->job, *y = b->job;

	if (x->first_received_ns != y->first_received_ns)
		return x->first_received_ns < y->first_received_ns;
	return x->id != y->id ? x->id < y->id : a->index < b->index;
}

static void
enqueue(struct taskq *q, struct task *t)
{
	bool early = t->was_called || t->job->deferrals;
	struct task *at = early ? TAILQ_FIRST(q) : TAILQ_LAST(q, taskq);

	if (early) {
		while (at && !came_before(t, at))
			at = TAILQ_NEXT(at, entry);
		if (at)
			TAILQ_INSERT_BEFORE(at, t, entry);
		else
			TAILQ_INSERT_TAIL(q, t, entry);
		return;
	}
	while (at && came_before(t, at))
		at = TAILQ_PREV(at, taskq, entry);
	if (at)
		TAILQ_INSERT_AFTER(q, at, t, entry);
	else
		TAILQ_INSERT_HEAD(q, t, entry);
}

static void
relist(struct tenant_use *u, struct task *t)
{
	t->waits_at = u;
	if (t->waits_rate)
		u->n_rate++;
	else
		u->n_room++;
	t->counts_in = t->pool;
	u->part[t->counts_in].waiting++;
	u->all->parked[t->job->job->priority]++;
	if (!u->listed)
		TAILQ_INSERT_TAIL(&u->all->waiting, u, entry);
	u->listed = true;
	arm(u);
}

static void
grew(struct tenant_use *u)
{
	u->grew = true;
	if (!timer_armed(&u->all->sweep))
		timer_set(u->all->m->loop, &u->all->sweep, SWEEP_MS);
}

static void
park(struct tenant_use *u, struct task *t, enum wait why)
{
	enum job_priority p = t->job->job->priority;
	struct taskq *q = why == WAIT_RATE ? &u->rate[p] : &u->room[p];

	enqueue(q, t);
	if (!t->was_called) {
		u->waited++;
		t->waits_ms = loop_now(u->all->m->loop);
	}
	t->waits_rate = why == WAIT_RATE;
	u->why = why;
	grew(u);
	relist(u, t);
}

static void
unpark(struct task *t)
{
	struct tenant_use *u = t->waits_at;
	enum job_priority p = t->job->job->priority;

	TAILQ_REMOVE(t->waits_rate ? &u->rate[p] : &u->room[p], t, entry);
	if (t->waits_rate)
		u->n_rate--;
	else
		u->n_room--;
	t->waits_at = NULL;
	u->part[t->counts_in].waiting--;
	u->all->parked[p]--;
	if (!u->n_room && !u->n_rate) {
		TAILQ_REMOVE(&u->all->waiting, u, entry);
		u->listed = false;
		u->why = WAIT_NO;
		timer_cancel(u->all->m->loop, &u->timer);
	}
}

/* It waits for its minute no longer, but for a place. */
static void
move_to_room(struct tenant_use *u, struct task *t)
{
	unpark(t);
	t->waits_rate = false;
	enqueue(&u->room[t->job->job->priority], t);
	relist(u, t);
}

/* The next that may start is put behind those that go to the scheduler; false: none may. */
static bool
call_one(struct tenant_use *u, struct taskq *called)
{
	struct task *t = first_of(u, u->room);

	/* Those that were called take tokens, too. */
	if (!t && tenant_token_wait(u, u->called_rate) == 0)
		t = first_of(u, u->rate);
	if (!t)
		return false;
	u->called_rate += t->waits_rate;
	unpark(t);
	t->waits_called = u;
	t->was_called = true;
	u->called++;
	t->counts_in = t->pool;
	count_in(u, t->counts_in, 1);
	TAILQ_INSERT_TAIL(called, t, entry);
	return true;
}

/* The last one first, since each goes to the front. */
static void
push_called(struct tenants *all, struct taskq *called)
{
	struct task *t;

	while ((t = TAILQ_LAST(called, taskq))) {
		TAILQ_REMOVE(called, t, entry);
		sched_push_first(all->m->sched, t);
	}
}

/* One of each tenant. Whoever was called is asked last the next time. */
static bool
call_round(struct tenants *all, struct taskq *called)
{
	struct tenant_use *u, *next, *last = TAILQ_LAST(&all->waiting, tenant_uses);
	bool more = last != NULL, any = false;

	for (u = TAILQ_FIRST(&all->waiting); more && u; u = next) {
		bool one;

		next = TAILQ_NEXT(u, entry);
		more = u != last;
		one = call_one(u, called);
		any = any || one;
		if (!u->listed)
			continue;
		arm(u);
		if (!one)
			continue;
		TAILQ_REMOVE(&all->waiting, u, entry);
		TAILQ_INSERT_TAIL(&all->waiting, u, entry);
	}
	return any;
}

/* Some task has ended, or a limit has changed: who waits may be called. */
static void
call_next(struct tenants *all)
{
	struct taskq called = TAILQ_HEAD_INITIALIZER(called);

	while (call_round(all, &called))
		;
	push_called(all, &called);
}

static void
tick_due(void *arg)
{
	struct tenants *all = arg;

	look_again(all);
	call_next(all);
}

static void
token_due(void *arg)
{
	struct tenant_use *u = arg;
	struct taskq called = TAILQ_HEAD_INITIALIZER(called);

	while (call_one(u, &called))
		;
	if (u->listed)
		arm(u);
	push_called(u->all, &called);
}

/* ---- what endpoint.c tells ---------------------------------------------------------------------------------------------------- */

static void
came_back(struct task *t)
{
	struct tenant_use *u = t->waits_called;

	if (!u)
		return;
	u->called--;
	u->called_rate -= t->waits_rate;
	count_in(u, t->counts_in, -1);
	t->waits_called = NULL;
}

bool
tenant_would_admit(struct master *m, const struct task *t)
{
	/* One that was called has its place. */
	return !m || !m->tenants || t->waits_called || why_wait(tenant_use_of(m->tenants, t->job->org_id), t) == WAIT_NO;
}

bool
tenant_admit(struct master *m, struct task *t)
{
	struct tenant_use *u;
	enum wait w;

	if (!m || !m->tenants)
		return true;
	u = tenant_use_of(m->tenants, t->job->org_id);
	seen(u, t->pool);
	came_back(t);
	w = why_wait(u, t);
	if (w == WAIT_NO)
		return true;
	park(u, t, w);
	return false;
}

const char *
tenant_waits_for(const struct task *t)
{
	const char *why = wait_names[t->waits_rate ? WAIT_RATE : room_wait(t->waits_at, t)];

	return *why ? why : NULL;
}

void
tenant_away(struct master *m, struct task *t)
{
	struct tenant_use *u;

	if (!m->tenants)
		return;
	u = t->away_of = tenant_use_of(m->tenants, t->job->org_id);
	TAILQ_INSERT_TAIL(&u->away[t->job->job->priority], t, away);
	u->n_away++;
	grew(u);
}

void
tenant_back(struct task *t)
{
	struct tenant_use *u = t->away_of;

	if (!u)
		return;
	TAILQ_REMOVE(&u->away[t->job->job->priority], t, away);
	u->n_away--;
	t->away_of = NULL;
}

bool
tenant_beside_others(struct tenant_use *u, size_t pool)
{
	return share_now(u->all, pool)->active > 1;
}

bool
tenant_unpark(struct task *t)
{
	if (!t->waits_at)
		return false;
	unpark(t);
	t->was_called = false;
	return true;
}

/* Its other sources that wait for the minute wait for a place alone now. */
static bool
has_its_token(struct tenant_use *u, struct jobrec *rec)
{
	bool any = false;

	for (size_t i = 0; i < rec->n_tasks; i++) {
		struct task *t = &rec->tasks[i];

		if (t->waits_at == u && t->waits_rate) {
			move_to_room(u, t);
			any = true;
		}
	}
	return any;
}

void
tenant_started(struct master *m, struct task *t)
{
	struct tenant_use *u;
	bool moved = false;

	if (!m->tenants)
		return;
	u = t->tenant = tenant_use_of(m->tenants, t->job->org_id);
	if (wants_token(t)) {
		token_take(u);
		moved = has_its_token(u, t->job);
	}
	if (t->was_called) {
		int64_t ms = loop_now(m->loop) - t->waits_ms;

		u->waited_ms += ms;
		if (m->cfg->metrics_tenants)
			metric_add(METRIC_TENANT_WAIT, (double)ms / 1000, tenant_label(m, u->name), NULL);
	}
	t->was_called = false;
	u->running++;
	u->started++;
	if (!u->part[t->pool].in)
		u->part[t->pool].moved_ms = loop_now(m->loop);
	count_in(u, t->pool, 1);
	seen(u, t->pool);
	if (moved)
		call_next(m->tenants);
}

void
tenant_ended(struct master *m, struct task *t)
{
	struct tenant_use *u = t->tenant;

	if (!u)
		return;
	t->tenant = NULL;
	u->part[t->pool].brief = loop_now(m->loop) - t->began_ms <= BRIEF_MS ? u->part[t->pool].brief + 1 : 0;
	u->part[t->pool].moved_ms = loop_now(m->loop);
	u->running--;
	count_in(u, t->pool, -1);
	seen(u, t->pool);
	if (!TAILQ_EMPTY(&m->tenants->waiting))
		call_next(m->tenants);
}

struct bucket *
tenant_bucket(struct master *m, const struct task *t, struct rate *r)
{
	struct tenant_use *u = tenant_use_of(m->tenants, t->job->org_id);

	*r = rate_of(tenant_use_conf(u)->requests_per_minute, MINUTE_NS);
	return &u->requests;
}

/* It did not start: another may come in its place. */
void
tenant_passed(struct master *m, struct task *t)
{
	came_back(t);
	if (m && m->tenants && !TAILQ_EMPTY(&m->tenants->waiting))
		call_next(m->tenants);
}

void
tenants_reloaded(struct master *m)
{
	struct tenant_use *u, *next;

	look_again(m->tenants);
	HASH_ITER(hh, m->tenants->by_name, u, next) {
		struct task *t;

		/* The rate may be another, or none. */
		timer_cancel(m->loop, &u->timer);
		u->later_ns = 0;
		u->grew = u->listed;
		if (u->next_ns > now_ns() + MINUTE_NS)
			u->next_ns = now_ns() + MINUTE_NS;
		/* One that waits for its minute may wait for a place now. */
		for (int p = 0; p < PRIORITY__MAX && !tenant_use_conf(u)->jobs_per_minute; p++)
			while ((t = TAILQ_FIRST(&u->rate[p])))
				move_to_room(u, t);
	}
	call_next(m->tenants);
	timer_set(m->loop, &m->tenants->sweep, SWEEP_MS);
}

size_t
tenant_backlog(const struct master *m, const char *org_id)
{
	const struct tenant_use *u;

	HASH_FIND_STR(m->tenants->by_name, org_id, u);
	return u ? u->n_room + u->n_rate + u->n_away : 0;
}

size_t
tenants_parked(const struct tenants *all, enum job_priority p)
{
	return all ? all->parked[p] : 0;
}

/* ---- what others may know ----------------------------------------------------------------------------------------------------- */

const char *
tenant_label(struct master *m, const char *org_id)
{
	struct tenant_use *u = tenant_use_of(m->tenants, org_id);

	if (!u->shown && m->tenants->shown < (size_t)m->cfg->metrics_tenants) {
		u->shown = true;
		m->tenants->shown++;
	}
	return u->shown ? u->name : "other";
}

void
tenants_count_job(struct master *m, const char *org_id, const char *outcome)
{
	if (m->tenants && m->cfg->metrics_tenants && org_id)
		metric_add(METRIC_TENANT_JOBS, 1, tenant_label(m, org_id), outcome);
}

void
tenants_refresh_metrics(struct master *m)
{
	struct tenant_use *u, *next;

	metric_reset(METRIC_TENANT_RUNNING);
	metric_reset(METRIC_TENANT_WAITING);
	if (!m->cfg->metrics_tenants)
		return;
	HASH_ITER(hh, m->tenants->by_name, u, next) {
		const char *label = tenant_label(m, u->name);

		metric_add(METRIC_TENANT_RUNNING, u->running, label, NULL);
		metric_add(METRIC_TENANT_WAITING, u->n_room + u->n_rate, label, NULL);
	}
}

static void
view(const struct tenant_use *u, struct tenant_view *v)
{
	const struct tenant_conf *c = tenant_use_conf(u);

	*v = (struct tenant_view){ .name = u->name, .entry = tenant_entry_name(c), .conf = c, .running = u->running,
		.waiting = u->n_room + u->n_rate, .why = wait_names[u->why], .started = u->started, .waited = u->waited,
		.requests = u->requests.given, .request_wait_ms = u->requests.waited_ms, .waited_ms = u->waited_ms, .idle_ms = idle(u) ? loop_now(u->all->m->loop) - u->seen_ms : 0 };
}

size_t
tenants_view(const struct master *m, struct tenant_view *out, size_t max, size_t *all)
{
	struct tenant_use *u, *next;
	size_t n = 0;

	*all = HASH_COUNT(m->tenants->by_name);
	/* First who has something in hand. */
	for (int busy = 1; busy >= 0; busy--)
		HASH_ITER(hh, m->tenants->by_name, u, next)
			if (n < max && idle(u) == !busy)
				view(u, &out[n++]);
	return n;
}
