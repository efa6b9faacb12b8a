/*
 * tenants_sweep.c - of the tasks that wait for a quota or an endpoint, whose jobs wait too long here, or take too much of the queue.
 *
 * A timer that tenants.c sets when a task had to wait calls it. Such jobs go to the deferred topic by way of jobs_defer(),
 * which may refuse one: that stays. Never called from within the scheduler, since it takes tasks out of every queue.
 */
#include "master/tenants_priv.h"
#include "common/banned.h"

#define SWEEP_AGAIN_MS 2
#define SWEEP_JOBS 200                  /* of one tenant at once: nothing else is done meanwhile */
#define QUEUE_PART 2                    /* a tenant's waiting jobs take at most this part of the jobs' queue */
#define LATER_MAX_NS 3600000000000LL    /* a job deferred for its quota asks again after so long: the quota may be another by then */
#define LATER_SPREAD 1024
#define LATER_DOUBLED_MAX 3

struct sweep {
	size_t n;
	bool more;                      /* there are some that did not fit */
	struct { struct jobrec *rec; int64_t wait_ns; } job[SWEEP_JOBS];
};

static bool
sweep_add(struct sweep *w, struct jobrec *rec, int64_t wait_ns)
{
	int64_t longest = rec->m->cfg->deferred_longest * 1000000;

	if (w->n == SWEEP_JOBS) {
		w->more = true;
		return false;
	}
	w->job[w->n].rec = rec;
	w->job[w->n++].wait_ns = wait_ns < longest ? wait_ns : longest;
	return true;
}

/* Each comes back for a token of its own, so that they do not all come at once. */
static int64_t
later_rate(struct tenant_use *u, const struct jobrec *rec, int64_t wait_ns)
{
	int64_t each = MINUTE_NS / tenant_use_conf(u)->jobs_per_minute, now = clock_mono_ms() * 1000000, at = now + wait_ns;

	if (at < u->later_ns + each)
		at = u->later_ns + each;
	if (at - now > LATER_MAX_NS)
		return LATER_MAX_NS / 2 + (int64_t)(rec->id * 2654435761u % (LATER_MAX_NS / 2));
	u->later_ns = at;
	return at - now;
}

/* Jobs whose token is further away than they may be held here. */
static void
sweep_rate(struct tenant_use *u, struct sweep *w)
{
	int64_t hold_ns = u->all->m->cfg->jobs_hold_max * 1000000;
	const struct jobrec *last = NULL;
	size_t before = u->called_rate;
	struct task *t;

	for (int p = 0; p < PRIORITY__MAX; p++)
		TAILQ_FOREACH(t, &u->rate[p], entry) {
			int64_t wait;

			if (t->job == last)
				continue;
			last = t->job;
			wait = tenant_token_wait(u, before++);
			if (wait > hold_ns && jobs_deferrable(last) && !sweep_add(w, t->job, later_rate(u, t->job, wait)))
				return;
		}
}

/* Who knows when there is room? They ask again, each time after longer. */
int64_t
tenant_later_part(struct tenant_use *u, const struct jobrec *rec)
{
	int64_t ms = u->all->m->cfg->jobs_hold_max, doubled = rec->deferrals < LATER_DOUBLED_MAX ? rec->deferrals : LATER_DOUBLED_MAX;

	if (ms < 1000)
		ms = 1000;
	return ((ms << doubled) + ms * (u->later_seq++ % LATER_SPREAD) / LATER_SPREAD) * 1000000;
}

struct part { size_t n, bytes, n_max, bytes_max; const struct jobrec *last; };

/* One more to defer; false: the tenant has no more than its part now, or those are enough for this time. */
static bool
sweep_one(struct tenant_use *u, struct jobrec *rec, struct part *part, struct sweep *w)
{
	if (part->n <= part->n_max && part->bytes <= part->bytes_max)
		return false;
	if (rec == part->last)
		return true;
	part->last = rec;
	if (!jobs_deferrable(rec))
		return true;
	if (!sweep_add(w, rec, tenant_later_part(u, rec)))
		return false;
	part->n--;
	part->bytes -= rec->bytes;
	return true;
}

/* The newest of a queue. */
static bool
sweep_newest(struct tenant_use *u, struct taskq *q, struct part *part, struct sweep *w)
{
	struct task *t;

	TAILQ_FOREACH_REVERSE(t, q, taskq, entry)
		if (!sweep_one(u, t->job, part, w))
			return false;
	return true;
}

static bool
sweep_away(struct tenant_use *u, struct taskq *q, struct part *part, struct sweep *w)
{
	struct task *t;

	TAILQ_FOREACH_REVERSE(t, q, taskq, away)
		if (!sweep_one(u, t->job, part, w))
			return false;
	return true;
}

static void
count_job(const struct jobrec *rec, struct part *part)
{
	if (rec == part->last)
		return;
	part->last = rec;
	part->n++;
	part->bytes += rec->bytes;
}

static void
count_part(struct taskq q[PRIORITY__MAX], struct part *part)
{
	const struct task *t;

	for (int p = 0; p < PRIORITY__MAX; p++)
		TAILQ_FOREACH(t, &q[p], entry)
			count_job(t->job, part);
}

/* Where it is alone nobody waits behind them, and they may be called at any moment. False: it has none there that count. */
static bool
count_away(struct tenant_use *u, struct part *part)
{
	bool beside = false;
	struct task *t;

	for (int p = 0; p < PRIORITY__MAX && !beside; p++)
		if ((t = TAILQ_FIRST(&u->away[p])))
			beside = tenant_beside_others(u, t->pool);
	for (int p = 0; p < PRIORITY__MAX && beside; p++)
		TAILQ_FOREACH(t, &u->away[p], away)
			count_job(t->job, part);
	return beside;
}

static void
sweep_part(struct tenant_use *u, struct sweep *w)
{
	const struct config *cfg = u->all->m->cfg;
	struct part part = { .n_max = (size_t)cfg->jobs_queue_max / QUEUE_PART, .bytes_max = (size_t)cfg->jobs_queue_bytes / QUEUE_PART };
	bool away;

	count_part(u->room, &part);
	count_part(u->rate, &part);
	away = count_away(u, &part);
	part.last = NULL;
	for (int p = PRIORITY__MAX - 1; p >= 0; p--)
		if (!sweep_newest(u, &u->rate[p], &part, w) || !sweep_newest(u, &u->room[p], &part, w) ||
		    (away && !sweep_away(u, &u->away[p], &part, w)))
			return;
}

/* It takes tasks out of the queues, and not these alone: whoever was found is known by now. */
static void
sweep_defer(struct master *m, struct sweep *w)
{
	struct err ignored = ERR_INIT;

	for (size_t i = 0; i < w->n; i++) {
		if (!publish_room(m->publisher, 1)) {
			w->more = true;
			break;
		}
		jobs_defer(w->job[i].rec, clock_real_ns() + w->job[i].wait_ns, DEFER_QUOTA, &ignored);
	}
	w->n = 0;
}

void
tenants_sweep_due(void *arg)
{
	static struct sweep w;
	struct tenants *all = arg;
	struct tenant_use *u, *next;
	bool more = false;

	if (all->m->phase != MASTER_RUNNING)
		return;
	HASH_ITER(hh, all->by_name, u, next) {
		if (!u->grew)
			continue;
		w.n = 0;
		w.more = false;
		sweep_rate(u, &w);
		sweep_defer(all->m, &w);
		sweep_part(u, &w);
		sweep_defer(all->m, &w);
		u->grew = w.more;
		more = more || w.more;
	}
	if (more)
		timer_set(all->m->loop, &all->sweep, SWEEP_AGAIN_MS);
}
