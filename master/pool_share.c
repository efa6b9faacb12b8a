/*
 * pool_share.c - which worker gets which task, and who gives way to whom. Called by dispatch.c.
 *
 * A worker is bound by its first task: to the tenant, or under the isolation `shared` to the tenant's group; under
 * `job` it takes no second one. Its role was told in SETUP. Neither changes, so another tenant or role is another
 * process: an idle worker is told to stop and its slot starts a fresh one, which has no tenant yet. Of a pool's
 * processes at most `workers` are bound at once; what it has more are fresh ones that are READY before they are needed.
 * Those that share a worker are a key of the scheduler; keys share the workers as they become free, see gives_way.
 * Never ends a worker that has a task.
 */
#include <stdlib.h>

#include "master/pool_priv.h"
#include "common/banned.h"

/* An idle worker is given away for a further worker of another key only after so long without a task: the next of its own may be near. */
#define LINGER_MS 200
/* More keys with work than workers: they take turns; one is over after so many tasks, or so long. */
#define TURN_TASKS 8
#define TURN_MS 250
/*
 * An exchange costs as much as many small tasks. So many are at once, and so many a second; beyond these a turn lasts its whole
 * time, and a worker lingers also for a key that has none.
 */
#define EXCHANGES_BURST 8
#define EXCHANGES_A_SECOND 10
/* And one of lower priority, where all the others keep the workers busy, gets one no more often than this. */
#define LOWER_MS 50
/* Beyond the exchanges above one of higher priority, too, waits for so much of a turn. */
#define HIGHER_MS 50
/* After so many fresh workers for tasks of higher priority the next one is for a lower, of four the last one for low ones. */
#define LOWER_AFTER 8
#define LOWER_ROUND 4

static const char *const role_names[ROLE__MAX] = {
	[ROLE_LOCAL] = "local", [ROLE_NETWORK] = "network", [ROLE_CREDENTIALS] = "credentials",
};

const char *
worker_role_name(enum worker_role r)
{
	return role_names[r];
}

/* No worker now, or one that ends without being given another task. */
static bool
on_its_way(const struct slot *s)
{
	return s->state == WORKER_STARTING || s->state == WORKER_BACKOFF || s->state == WORKER_DYING ||
	    (s->state == WORKER_DRAINING && !s->task);
}

/* ---- a look at the pool ------------------------------------------------------------------------------------------- */

static void
key_seen(struct crew *c, struct sched_key *k)
{
	if (k->look == c->look)
		return;
	k->look = c->look;
	k->has = k->idle = 0;
	k->met = false;
}

static void
look_at(struct crew *c, struct slot *s)
{
	const struct pool *p = c->p;

	/* It was set up with what a reload has changed since. */
	if (s->state == WORKER_IDLE && !s->task && s->setup != p->m->setup_generation)
		slot_exchange(s);
	if (on_its_way(s)) {
		if (s != p->leaving)
			c->coming[s->next_role]++;
	} else if (!s->key) {
		c->fresh[s->role]++;
	} else {
		key_seen(c, s->key);
		/* The last tasks of a key that has none that wait. */
		if (s->task && !s->key->total && !s->key->has)
			c->active++;
		s->key->has++;
		s->key->idle += !s->task;
		c->has[s->role]++;
		c->bound++;
	}
}

static void
refill(struct crew *c)
{
	int64_t now = loop_now(c->p->m->loop);

	c->exchanges += (double)(now - c->exchanges_ms) * EXCHANGES_A_SECOND / 1000;
	if (c->exchanges > EXCHANGES_BURST)
		c->exchanges = EXCHANGES_BURST;
	c->exchanges_ms = now;
}

static void
look(struct crew *c)
{
	struct pool *p = c->p;

	refill(c);
	c->look++;
	c->bound = c->active = 0;
	for (int r = 0; r < ROLE__MAX; r++) {
		c->fresh[r] = c->coming[r] = c->has[r] = 0;
		c->active += sched_keys(p->m->sched, c->index, r);
	}
	for (size_t i = 0; i <= p->n; i++)
		if (p->slots[i].crew == c && &p->slots[i] != p->spare)
			look_at(c, &p->slots[i]);
	for (int r = 0; r < ROLE__MAX; r++)
		c->unclaimed[r] = c->fresh[r] + c->coming[r];
	c->share = c->active ? c->workers / c->active : 0;
}

/* ---- who gives way ------------------------------------------------------------------------------------------------ */

static bool
can_give(const struct pool *p, const struct slot *s)
{
	return s->state == WORKER_IDLE && !s->task && s != p->leaving && s != p->coming;
}

static enum job_priority
highest(const struct sched_key *k)
{
	enum job_priority p = 0;

	while (p < PRIORITY__MAX - 1 && !k->n[p])
		p++;
	return p;
}

static int64_t
not_before(const struct pool *p, int64_t since, int64_t ms)
{
	int64_t left = since + ms - loop_now(p->m->loop);

	return left > 0 ? left : 0;
}

/* One that has nothing to do for its own key. */
static int64_t
lingers(const struct crew *c, const struct slot *s, const struct sched_key *to)
{
	int64_t idle = not_before(c->p, s->since_ms, LINGER_MS), turn = not_before(c->p, s->bound_ms, TURN_MS);

	if (to->has)
		return idle;
	if (c->exchanges >= 1)
		return 0;
	return idle < turn ? idle : turn;
}

/*
 * May this idle worker make room for one of the key `to`? 0: now; else the ms after which to ask again, or -1: not as
 * things are. A worker without work goes, at once where the other has none at all. One with work goes for a task of
 * higher priority, and for a key below its share where its own has more than that. Where there are more keys than
 * workers its turn must be over, and where the other's tasks are of lower priority that is not asked too often.
 */
static int64_t
gives_way(const struct crew *c, const struct slot *s, const struct sched_key *to)
{
	const struct sched_key *own = s->key;
	enum job_priority theirs = highest(to);
	bool cheap = c->exchanges >= 1;
	int64_t turn, lower;

	if (own->total < own->idle)
		return lingers(c, s, to);
	if (theirs < highest(own))
		return cheap ? 0 : not_before(c->p, s->bound_ms, HIGHER_MS);
	if (theirs == highest(own) && own->has > c->share && to->has < c->share)
		return 0;
	if (to->has)
		return -1;
	turn = cheap && s->tasks_served >= TURN_TASKS ? 0 : not_before(c->p, s->bound_ms, TURN_MS);
	lower = theirs > highest(own) ? not_before(c->p, c->lower_ms, LOWER_MS) : 0;
	return turn > lower ? turn : lower;
}

/* One without work, then one without kept connections, then one of the key that has the most. */
static bool
better(const struct slot *a, const struct slot *b)
{
	bool a_free = a->key->total < a->key->idle, b_free = b->key->total < b->key->idle;

	if (a_free != b_free)
		return a_free;
	if (!a->kept != !b->kept)
		return !a->kept;
	return a->key->has > b->key->has;
}

static void
ask_again(struct crew *c, int64_t ms)
{
	if (ms > 0 && (c->again < 0 || ms < c->again))
		c->again = ms;
}

/* A bound worker that gives way to the key now; NULL: none. */
static struct slot *
who_gives_way(struct crew *c, const struct sched_key *to)
{
	struct pool *p = c->p;
	struct slot *best = NULL;

	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];
		int64_t left;

		if (s->crew != c || !can_give(p, s) || !s->key || s->key == to)
			continue;
		left = gives_way(c, s, to);
		ask_again(c, left);
		if (left == 0 && (!best || better(s, best)))
			best = s;
	}
	return best;
}

/* A fresh worker of a role that has no task for it. */
static struct slot *
fresh_of_another(struct crew *c, enum worker_role role)
{
	struct pool *p = c->p;

	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];
		int64_t left;

		if (s->crew != c || !can_give(p, s) || s->key || s->role == role || sched_waiting(p->m->sched, c->index, s->role))
			continue;
		left = c->has[role] + c->fresh[role] + c->coming[role] ? not_before(p, s->since_ms, LINGER_MS) : 0;
		ask_again(c, left);
		if (left == 0)
			return s;
	}
	return NULL;
}

static struct slot *
fresh_idle(const struct crew *c, enum worker_role role)
{
	const struct pool *p = c->p;

	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		if (s->crew == c && s->state == WORKER_IDLE && !s->task && !s->key && s->role == role)
			return s;
	}
	return NULL;
}

/* Its slot's next process is a fresh one of this role. */
static void
exchange(struct crew *c, struct slot *s, enum worker_role to)
{
	if (to != s->role)
		LOG(LOG_DEBUG, "worker_role", LI("slot", s->index), LI("pid", s->proc.pid), LS("from", role_names[s->role]),
		    LS("to", role_names[to]));
	if (s->key) {
		LOG(LOG_DEBUG, "worker_exchanged", LI("slot", s->index), LI("pid", s->proc.pid), LS("bound_to", slot_bound_to(s)),
		    LI("tasks_served", s->tasks_served));
		c->exchanges = c->exchanges >= 1 ? c->exchanges - 1 : 0;
		s->key->has--;
		s->key->idle--;
		c->has[s->role]--;
		c->bound--;
	} else {
		c->fresh[s->role]--;
	}
	c->coming[to]++;
	s->next_role = to;
	slot_exchange(s);
}

/* ---- what a key gets ---------------------------------------------------------------------------------------------- */

/* A worker for the key: the one it can have now, or NULL: one is on its way (the key's need is met), or there is none. */
static struct slot *
worker_for(struct crew *c, enum worker_role role, struct sched_key *k)
{
	bool room = c->bound < c->workers;
	struct slot *s, *giving = NULL;

	s = fresh_idle(c, role);
	if (!s && c->unclaimed[role]) {
		c->unclaimed[role]--;
		k->met = true;
		return NULL;
	}
	/* While workers fail to start, one at a time tries; those that run are worth more. */
	if (!s && c->p->failed_starts && c->coming[role])
		return NULL;
	if (!s && room)
		giving = fresh_of_another(c, role);
	if (!giving && !(s && room) && !(giving = who_gives_way(c, k)))
		return NULL;
	if (giving) {
		if (giving->key && giving->key->total && highest(k) > highest(giving->key))
			c->lower_ms = loop_now(c->p->m->loop);
		exchange(c, giving, role);
	}
	/* s stays unclaimed until it has a task: where all of the key's must wait, it is another's. */
	k->met = !s;
	return s;
}

struct search { struct crew *c; struct sched_key *first, *more; };

/* Stops at the first key that has no worker at all; the first that has too few is remembered. */
static bool
search(void *arg, struct sched_key *k)
{
	struct search *f = arg;

	key_seen(f->c, k);
	if (k->met || k->total <= k->idle)
		return false;
	if (!k->has) {
		f->first = k;
		return true;
	}
	if (!f->more || k->has < f->more->has)
		f->more = k;
	return false;
}

/* Who may not start anything shall not end another's worker. False: all its tasks have left the queue; others are to be looked for. */
static bool
may_start(const struct search *f, enum worker_role role)
{
	struct sched *sched = f->c->p->m->sched;

	return (!f->first || sched_may_start(sched, f->c->index, role, f->first)) &&
	    (!f->more || sched_may_start(sched, f->c->index, role, f->more));
}

/* The order in which the priorities are asked: the highest first, but for the turns of the others. */
static void
order_of(const struct crew *c, enum job_priority order[PRIORITY__MAX])
{
	enum job_priority first = PRIORITY_HIGH;
	size_t n = 0;

	if (c->passed >= LOWER_AFTER)
		first = c->lower_turn % LOWER_ROUND == LOWER_ROUND - 1 ? PRIORITY_LOW : PRIORITY_NORMAL;
	order[n++] = first;
	for (enum job_priority p = 0; p < PRIORITY__MAX; p++)
		if (p != first)
			order[n++] = p;
}

/* A task of this priority was given a fresh worker: how often were lower ones passed over? */
static void
count_passed(struct crew *c, enum worker_role role, enum job_priority p)
{
	bool lower = false;

	for (enum job_priority q = p + 1; q < PRIORITY__MAX; q++)
		lower = lower || sched_queued(c->p->m->sched, c->index, role, q);
	/* Also where the one whose turn it was could not be given any: then it is another's. */
	c->lower_turn += c->passed >= LOWER_AFTER;
	if (!lower || (c->passed >= LOWER_AFTER && p != PRIORITY_HIGH))
		c->passed = 0;
	else
		c->passed++;
}

/* The next task that needs a fresh worker and gets one; NULL: none. */
static struct task *
claim(struct crew *c, enum worker_role role, struct slot **out)
{
	struct sched *sched = c->p->m->sched;
	enum job_priority order[PRIORITY__MAX];

	order_of(c, order);
	for (size_t i = 0; i < PRIORITY__MAX;) {
		enum job_priority p = order[i];
		struct search f = { .c = c };
		struct sched_key *k;
		struct task *t;

		sched_walk(sched, c->index, role, p, search, &f);
		if (!may_start(&f, role))
			continue;
		k = f.first;
		*out = k ? worker_for(c, role, k) : NULL;
		if (!*out && !(k && k->met) && (k = f.more))
			*out = worker_for(c, role, k);
		if (*out && (t = sched_pop(sched, c->index, role, k->name))) {
			*out = endpoint_worker(c->p->m, t, *out);
			count_passed(c, role, p);
			return t;
		}
		/* Its need is met, or its tasks wait for their endpoint: who else is there? */
		if (!*out && !(k && k->met))
			i++;
	}
	return NULL;
}

/* A task that waits alone: a fresh worker, where need be in the place of any that is idle. */
static struct task *
alone(struct crew *c, enum worker_role role, struct slot **out)
{
	struct pool *p = c->p;
	bool room = c->bound < c->workers;
	struct slot *used = NULL;
	struct task *t;

	if (!sched_wants_fresh(p->m->sched, c->index, role))
		return NULL;
	*out = fresh_idle(c, role);
	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		if (s->crew == c && can_give(p, s) && (s->key || (room && s->role != role)) && (!used || (used->role != role && s->role == role)))
			used = s;
	}
	if (*out) {
		t = room || used ? sched_pop_alone(p->m->sched, c->index, role) : NULL;
		if (t && !room)
			exchange(c, used, role);
		return t;
	}
	/* One only, since a new one is for all who wait. */
	if (!c->coming[role] && used)
		exchange(c, used, role);
	return NULL;
}

/* A bound worker goes on with its own. */
static struct task *
go_on(struct crew *c, struct slot **out)
{
	struct pool *p = c->p;

	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];
		struct task *t;

		if (s->crew != c || s->state != WORKER_IDLE || s->task || !s->key || !s->key->total || s->single)
			continue;
		t = sched_pop(p->m->sched, c->index, s->role, s->key->name);
		if (!t)
			continue;
		*out = endpoint_worker(p->m, t, s);
		return t;
	}
	return NULL;
}

static struct task *
next_of(struct crew *c, struct slot **out)
{
	struct sched *sched = c->p->m->sched;
	struct task *t = NULL;
	bool waiting = false;

	for (int r = 0; r < ROLE__MAX; r++)
		waiting = waiting || sched_waiting(sched, c->index, r);
	if (!waiting)
		return NULL;
	look(c);
	/* First, since in a pool that always has work no worker would ever be fresh again. */
	for (int r = 0; r < ROLE__MAX && !t; r++)
		t = alone(c, r, out);
	/* Whichever role was served last is asked last. */
	for (int i = 0, first = c->next_role; i < ROLE__MAX && !t; i++) {
		t = claim(c, (first + i) % ROLE__MAX, out);
		if (t)
			c->next_role = (first + i + 1) % ROLE__MAX;
	}
	return t ? t : go_on(c, out);
}

struct task *
pool_next(struct pool *p, struct slot **out)
{
	struct task *t;

	if (p->stopping || p->config_error)
		return NULL;
	for (size_t i = 0; i < p->n_crews; i++) {
		struct crew *c = &p->crews[i];

		c->again = -1;
		if ((t = next_of(c, out)))
			return t;
		/* The loop calls dispatch_run after this, which asks again. */
		if (c->again >= 0)
			timer_set(p->m->loop, &c->linger, c->again);
	}
	return NULL;
}

void
pool_spent(struct slot *s)
{
	s->spent = true;
	s->next_role = ROLE_NETWORK;
}

void
pool_bind(struct slot *s, const struct task *t)
{
	if (s->key)
		return;
	s->key = sched_key_hold(s->m->sched, t);
	s->bound_ms = loop_now(s->m->loop);
	/* What a task did that crashed a worker before is nobody else's to live with. */
	s->single = t->alone || crew_single(s->crew, t->job->org_id);
}
