/*
 * pool_roles.c - how many workers have which role: who gives way to whom, and when. Called by dispatch.c before it hands
 * out tasks.
 *
 * A role is told in SETUP and never changes, so a worker of another role is another process: an idle worker is told to
 * stop and its slot starts the next one. All begin as ROLE_LOCAL, the role without a network; the others come with the
 * first task that needs them. Never ends a worker that has a task.
 */
#include <stdlib.h>

#include "master/pool_priv.h"
#include "common/banned.h"

/* An idle worker is lent to another role only after so long without a task: the next of its own may be near. */
#define LINGER_MS 200
/* More roles with work than workers: they take turns of at least this long. */
#define TURN_MS 1000

static const char *const role_names[ROLE__MAX] = {
	[ROLE_LOCAL] = "local", [ROLE_NETWORK] = "network", [ROLE_CREDENTIALS] = "credentials",
};

struct role_state {
	size_t waiting;                 /* tasks */
	size_t has;                     /* workers, with those on their way */
	size_t coming;                  /* those on their way */
	size_t idle;
	bool active;                    /* it has work */
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

static void
look(const struct pool *p, struct role_state st[ROLE__MAX])
{
	for (int r = 0; r < ROLE__MAX; r++) {
		st[r] = (struct role_state){ .waiting = sched_waiting(p->m->sched, r) };
		st[r].active = st[r].waiting > 0;
	}
	for (size_t i = 0; i <= p->n; i++) {
		const struct slot *s = &p->slots[i];

		if (s == p->spare)
			continue;
		if (s->task)
			st[s->role].active = true;
		if (s == p->leaving)
			continue;
		st[s->next_role].has++;
		st[s->next_role].coming += on_its_way(s);
		st[s->next_role].idle += s->state == WORKER_IDLE && !s->task;
	}
}

static void
turn_into(struct slot *s, enum worker_role to)
{
	LOG(LOG_DEBUG, "worker_role", LI("slot", s->index), LI("pid", s->proc.pid), LS("from", role_names[s->role]),
	    LS("to", role_names[to]));
	s->next_role = to;
	s->turning = true;
	/* The bucket is there for workers that die; this one is exchanged because it is well. */
	s->m->pool->tokens += 1;
	slot_kill(s, DEATH_RECYCLED, false);
}

static bool
can_turn(const struct pool *p, const struct slot *s)
{
	return s->state == WORKER_IDLE && !s->task && s != p->leaving && s != p->coming;
}

/* ---- who gives way ----------------------------------------------------------------------------------------------- */

/*
 * May this idle worker become one of role `to`? 0: now; else the ms after which to ask again, or -1: not as things are.
 * Where its own role has work, too, only what is beyond that role's equal share is given; where there are fewer workers
 * than roles with work, the worker's turn must be over.
 */
static int64_t
gives_way(const struct pool *p, const struct slot *s, const struct role_state st[ROLE__MAX], enum worker_role to, size_t share)
{
	const struct role_state *own = &st[s->role];
	int64_t now = loop_now(p->m->loop), left;

	if (own->waiting < own->idle) {
		left = st[to].has ? s->since_ms + LINGER_MS - now : 0;
		return left > 0 ? left : 0;
	}
	if (own->has > share && st[to].has < share)
		return 0;
	if (share || st[to].has)
		return -1;
	left = s->started_ms + TURN_MS - now;
	return left > 0 ? left : 0;
}

/* One worker for role `to`: true when it is on its way. *again: the soonest time to ask again, -1 none. */
static bool
find_one(struct pool *p, struct role_state st[ROLE__MAX], enum worker_role to, size_t share, int64_t *again)
{
	struct slot *best = NULL;

	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];
		int64_t left;

		if (!can_turn(p, s) || s->role == to)
			continue;
		left = gives_way(p, s, st, to, share);
		if (left > 0 && (*again < 0 || left < *again))
			*again = left;
		/* one without kept connections rather than one with them */
		if (left == 0 && (!best || (best->kept && !s->kept)))
			best = s;
	}
	if (!best)
		return false;
	st[best->role].has--;
	st[best->role].idle--;
	st[to].has++;
	st[to].coming++;
	turn_into(best, to);
	return true;
}

void
pool_balance(struct pool *p)
{
	struct role_state st[ROLE__MAX];
	size_t active = 0, share;
	int64_t again = -1;

	if (p->stopping || p->config_error)
		return;
	look(p, st);
	for (int r = 0; r < ROLE__MAX; r++)
		active += st[r].active;
	share = active ? p->n / active : 0;
	/* Whoever was served last is asked last. */
	for (int i = 0, first = p->next_turn; i < ROLE__MAX; i++) {
		int r = (first + i) % ROLE__MAX;

		/* While workers fail to start, one at a time tries; those that run are worth more. */
		while (st[r].waiting > st[r].coming + st[r].idle && !(p->failed_starts && st[r].coming) &&
		    find_one(p, st, r, share, &again))
			p->next_turn = (r + 1) % ROLE__MAX;
	}
	if (again >= 0)
		timer_set(p->m->loop, &p->linger, again);
}

/* ---- a fresh one ------------------------------------------------------------------------------------------------- */

void
pool_want_fresh(struct pool *p, enum worker_role role)
{
	struct slot *used = NULL;

	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		if (s == p->spare || s == p->leaving)
			continue;
		/* One only, since a new one is for all who wait. */
		if (on_its_way(s) && s->next_role == role)
			return;
		if (can_turn(p, s) && (!used || (used->role != role && s->role == role)))
			used = s;
	}
	if (used)
		turn_into(used, role);
}

/* The loop calls dispatch_run after this, which asks again. */
static void
on_linger(void *arg)
{
	(void)arg;
}

void
pool_roles_init(struct pool *p)
{
	p->next_turn = ROLE_NETWORK;
	timer_init(&p->linger, on_linger, p);
}
