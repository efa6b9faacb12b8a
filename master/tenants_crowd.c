/*
 * tenants_crowd.c - who gives way where the jobs' queue is all but full, or a partition's window is.
 *
 * Behind either wait the messages of tenants that nobody knows of yet, so here it does not matter who was seen lately, nor
 * what a job waits for. A tenant whose jobs in hand will not have ended half a minute from now, at the pace of the last
 * seconds, gives up the newest of those that wait, beyond its part of the queue and beyond a part of the full window: they
 * go to the deferred topic by way of jobs_defer(). One whose jobs end faster keeps all it has, so that a tenant with very
 * many quick jobs goes through the queue and nowhere else. jobs.c and accept.c tell what each holds; timers do the rest,
 * since the scheduler must not be under way.
 */
#include "master/consumer.h"
#include "master/tenants_priv.h"
#include "common/banned.h"

#define LOOK_MS 1000
#define LOOKS 2                         /* so many in a row must find it slow */
#define TURN_MS 30000                   /* what it holds ends within so long: then it is not */
#define SOON_MS 10000                   /* who waits for a time that is nearer is left alone */
#define GIVE_MS 100
#define GIVE_AGAIN_MS 2
#define GIVE_JOBS 200                   /* at once: nothing else is done meanwhile */
#define WINDOW_PART 4                   /* of a full window's holes so many may be jobs of slow tenants: a half makes it read on */

/* n quarters of the jobs' queue are full. */
static bool
queue_over(const struct master *m, int n)
{
	return jobs_count(m->jobs) > (size_t)(m->cfg->jobs_queue_max * n / 4) || jobs_bytes(m->jobs) > (size_t)(m->cfg->jobs_queue_bytes * n / 4);
}

static bool
gives_way(const struct tenant_use *u)
{
	return u && u->slow >= LOOKS;
}

static void
give_soon(struct tenants *all, int64_t ms)
{
	if (!timer_armed(&all->give) || timer_left(all->m->loop, &all->give) > ms)
		timer_set(all->m->loop, &all->give, ms);
}

/* ---- who is slow --------------------------------------------------------------------------------------------------------- */

static void
forget_pace(struct tenants *all)
{
	struct tenant_use *u, *next;

	HASH_ITER(hh, all->by_name, u, next) {
		u->slow = 0;
		u->ended = 0;
	}
	all->looked_ms = loop_now(all->m->loop);
}

static void
look_at(struct tenant_use *u, int64_t ms)
{
	if (!u->held || (int64_t)u->held * ms <= (int64_t)u->ended * TURN_MS) {
		u->slow = 0;
	} else if (u->slow < LOOKS && ++u->slow == LOOKS) {
		LOG(LOG_INFO, "tenant_slow", LS("org_id", u->name), LI("jobs", u->held), LI("bytes", u->held_bytes), LI("ended", u->ended), LI("ms", ms));
		give_soon(u->all, 0);
	}
	u->ended = 0;
}

static size_t
jobs_of(const struct tenant_use *u)
{
	return u->held;
}

static size_t
bytes_of(const struct tenant_use *u)
{
	return u->held_bytes;
}

/* How much each may hold, so that a quarter of it all stays free: half of it, or less where several hold that much. */
static size_t
level(struct tenants *all, size_t most, size_t (*of)(const struct tenant_use *))
{
	size_t each = most / 2, sum;

	for (;; each -= each > 4 ? each / 4 : 1) {
		struct tenant_use *u, *next;

		sum = 0;
		HASH_ITER(hh, all->by_name, u, next)
			sum += of(u) < each ? of(u) : each;
		if (sum <= most - most / 4 || each <= 1)
			return each;
	}
}

/* Where nothing can end it is nobody's fault, and to defer helps nobody. */
static bool
at_work(const struct master *m)
{
	return consumer_is_well(m->consumer) && pool_in_state(m->pool, WORKER_IDLE) + pool_in_state(m->pool, WORKER_BUSY) > 0;
}

void
tenants_look_due(void *arg)
{
	struct tenants *all = arg;
	struct master *m = all->m;
	int64_t ms = loop_now(m->loop) - all->looked_ms;
	struct tenant_use *u, *next;

	if (m->phase != MASTER_RUNNING || (!queue_over(m, 2) && !consumer_jammed(m->consumer))) {
		forget_pace(all);
		return;
	}
	timer_set(m->loop, &all->look, LOOK_MS);
	if (!at_work(m)) {
		forget_pace(all);
		return;
	}
	all->part_jobs = level(all, (size_t)m->cfg->jobs_queue_max, jobs_of);
	all->part_bytes = level(all, (size_t)m->cfg->jobs_queue_bytes, bytes_of);
	HASH_ITER(hh, all->by_name, u, next)
		look_at(u, ms);
	all->looked_ms = loop_now(m->loop);
	give_soon(all, GIVE_MS);
}

static void
look_soon(struct tenants *all)
{
	if (timer_armed(&all->look))
		return;
	forget_pace(all);
	timer_set(all->m->loop, &all->look, LOOK_MS);
}

/* ---- what is given up -------------------------------------------------------------------------------------------------------- */

/* ns until it comes back; 0: it stays. One that waits for its time comes back then, and not before. */
static int64_t
leaves_for(struct jobrec *rec, enum defer_why *why)
{
	const struct config *cfg = rec->m->cfg;
	int64_t left = 0, ms;
	bool queued = false;

	if (!jobs_deferrable(rec))
		return 0;
	*why = DEFER_QUOTA;
	for (size_t i = 0; i < rec->n_tasks; i++) {
		struct task *t = &rec->tasks[i];

		if (t->alone)
			return 0;
		queued = queued || t->state == TASK_QUEUED;
		ms = timer_armed(&t->timer) ? timer_left(rec->m->loop, &t->timer) : 0;
		if (ms > left)
			left = ms;
		if (t->state != TASK_QUEUED)
			*why = t->state == TASK_RETRY ? DEFER_RETRY : DEFER_SCHEDULE;
	}
	if (queued && !left) {
		*why = DEFER_QUOTA;
		ms = tenant_later_part(rec->holder, rec) / 1000000;
		return (ms < cfg->deferred_longest ? ms : cfg->deferred_longest) * 1000000;
	}
	return left < SOON_MS || left > cfg->deferred_longest ? 0 : left * 1000000;
}

static bool
beyond_part(const struct tenants *all, const struct tenant_use *u)
{
	return u->held > all->part_jobs || u->held_bytes > all->part_bytes;
}

static bool
anyone_beyond(const struct tenants *all)
{
	struct tenant_use *u, *next;

	HASH_ITER(hh, all->by_name, u, next)
		if (gives_way(u) && beyond_part(all, u))
			return true;
	return false;
}

static void
count_windows(struct master *m)
{
	size_t *in_window;

	consumer_windows_clear(m->consumer);
	for (struct jobrec *rec = jobs_first(m->jobs); rec; rec = TAILQ_NEXT(rec, entry))
		if (!rec->deferring && (in_window = consumer_window(m->consumer, &rec->at)))
			++*in_window;
}

/* One that waits for its time takes a place of its window for jobs.hold_max at most. True: it has left. */
static bool
give_one(struct tenants *all, struct jobrec *rec, bool queue, bool windows)
{
	size_t *in_window = windows ? consumer_window(all->m->consumer, &rec->at) : NULL;
	bool beyond = queue && beyond_part(all, rec->holder);
	struct err ignored = ERR_INIT;
	enum defer_why why;
	int64_t ns;

	if (in_window && *in_window <= OFFSETS_HOLES_MAX / WINDOW_PART)
		in_window = NULL;
	if (!in_window && !beyond)
		return false;
	ns = leaves_for(rec, &why);
	if (!ns || (!beyond && why != DEFER_QUOTA) || jobs_defer(rec, clock_real_ns() + ns, why, &ignored) < 0)
		return false;
	if (in_window)
		--*in_window;
	return true;
}

/* Those of one priority, the newest first. Returns how many. */
static int
give_some(struct tenants *all, enum job_priority p, int max)
{
	struct master *m = all->m;
	bool windows = consumer_jammed(m->consumer), queue = queue_over(m, 2) && anyone_beyond(all);
	struct jobrec *rec = all->held[p] ? jobs_last(m->jobs) : NULL, *before;
	int n = 0;

	for (; rec && n < max && (queue || windows) && publish_room(m->publisher, 1); rec = before) {
		struct tenant_use *u = rec->holder;

		before = TAILQ_PREV(rec, job_list, entry);
		if (!gives_way(u) || rec->job->priority != p || !give_one(all, rec, queue, windows))
			continue;
		n++;
		if (queue && !beyond_part(all, u))
			queue = anyone_beyond(all);
	}
	return n;
}

/* The lowest priority first. */
void
tenants_give_due(void *arg)
{
	struct tenants *all = arg;
	int n = 0;

	if (all->m->phase != MASTER_RUNNING || !at_work(all->m))
		return;
	if (consumer_jammed(all->m->consumer))
		count_windows(all->m);
	for (int p = PRIORITY__MAX - 1; p >= 0; p--)
		n += give_some(all, (enum job_priority)p, GIVE_JOBS - n);
	if (n == GIVE_JOBS)
		give_soon(all, GIVE_AGAIN_MS);
}

/* ---- what is held ------------------------------------------------------------------------------------------------------------ */

void
tenant_took(struct jobrec *rec)
{
	struct tenants *all = rec->m->tenants;
	struct tenant_use *u;

	if (!all)
		return;
	u = rec->holder = tenant_use_of(all, rec->org_id);
	u->held++;
	u->held_bytes += rec->bytes;
	all->held[rec->job->priority]++;
	if (gives_way(u))
		give_soon(all, queue_over(rec->m, 3) ? GIVE_AGAIN_MS : GIVE_MS);
	else if (queue_over(rec->m, 3))
		look_soon(all);
}

void
tenant_gave(struct jobrec *rec, bool ended)
{
	struct tenant_use *u = rec->holder;

	if (!u)
		return;
	u->held--;
	u->held_bytes -= rec->bytes;
	u->all->held[rec->job->priority]--;
	u->ended += ended;
	rec->holder = NULL;
}

void
tenants_window_full(struct master *m)
{
	if (m->tenants)
		look_soon(m->tenants);
}
