/*
 * schedule.c - which task next: priority first, and a fair turn for each tenant within it.
 *
 * A lane holds what waits for workers of one pool and one role, so that no lane's tasks hold up another's. Within a lane
 * a key names who may share one process: a tenant, a group of them, or "" for all where each task has one of its own;
 * which key gets a worker is pool_share.c's business.
 * Of every SCHED_ROUND turns of a key one is the low queue's and three may be the normal queue's, whatever waits above
 * them: a saturated high queue slows the others and never stops them. All other turns go to the highest queue that has
 * something. Within a priority tenants take turns by their weight (start-time fair queueing: the ring is kept in the
 * order of what each was given, divided by its weight), each with a queue of its own in order of arrival. A task that
 * crashed a worker needs a fresh one and waits apart. Owns no task; jobs.c does.
 */
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define SCHED_ROUND 10
#define STRIDE 1000000              /* what a turn costs a tenant of weight 1 */

struct tenant {
	char *name;
	struct sched_key *key;          /* alive as long as a task waits */
	struct taskq tasks;
	size_t n;
	int64_t pass;                   /* the turns it was given, by its weight: the least comes first */
	TAILQ_ENTRY(tenant) turn;       /* in its queue's ring while it has tasks */
	UT_hash_handle hh;
};

struct queue {
	TAILQ_HEAD(ring, tenant) turns; /* first: whose turn it is */
	int64_t pass;                   /* the least of the ring: who comes begins one turn behind it */
	struct tenant *by_name;
	size_t n;
};

struct lane {
	struct queue q[PRIORITY__MAX];
	struct sched_key *keys;
	size_t n_keys;                  /* of those, how many have tasks that wait */
	struct taskq alone;             /* need a fresh worker */
	size_t n_alone[PRIORITY__MAX];
};

struct sched {
	struct master *m;
	struct lane *lane;              /* ROLE__MAX of each pool */
	size_t n;
};

enum worker_role
task_role(const struct task *t)
{
	return t->needs_keys ? ROLE_CREDENTIALS : source_rows[t->job->job->sources[t->index].type].role;
}

struct sched *
sched_new(struct master *m, size_t pools)
{
	struct sched *s = xcalloc(1, sizeof(*s));

	s->m = m;
	s->n = pools * ROLE__MAX;
	s->lane = xcalloc(s->n, sizeof(*s->lane));
	for (struct lane *l = s->lane; l < s->lane + s->n; l++) {
		for (int p = 0; p < PRIORITY__MAX; p++)
			TAILQ_INIT(&l->q[p].turns);
		TAILQ_INIT(&l->alone);
	}
	return s;
}

static struct lane *
lane_of(const struct sched *s, size_t pool, enum worker_role role)
{
	if (pool * ROLE__MAX + role >= s->n)
		BUG("a task of no pool");
	return &s->lane[pool * ROLE__MAX + role];
}

static void
tenant_drop(struct queue *q, struct tenant *t)
{
	TAILQ_REMOVE(&q->turns, t, turn);
	HASH_DEL(q->by_name, t);
	free(t->name);
	free(t);
}

/* ---- keys --------------------------------------------------------------------------------------------------------- */

static struct sched_key *
key_of(struct lane *l, const char *name)
{
	struct sched_key *k;

	HASH_FIND_STR(l->keys, name, k);
	if (k)
		return k;
	k = xcalloc(1, sizeof(*k));
	k->name = xstrdup(name);
	HASH_ADD_KEYPTR(hh, l->keys, k->name, strlen(k->name), k);
	return k;
}

/* Its turns are counted while it has work or a worker. */
static void
key_drop(struct lane *l, struct sched_key *k)
{
	if (k->total || k->workers)
		return;
	HASH_DEL(l->keys, k);
	free(k->name);
	free(k);
}

static void
key_count(struct lane *l, struct sched_key *k, enum job_priority p, int by)
{
	l->n_keys -= k->total > 0;
	k->n[p] += (size_t)by;
	k->total += (size_t)by;
	l->n_keys += k->total > 0;
}

bool
sched_key_serves(const struct sched *s, const struct sched_key *k, const struct task *t)
{
	const char *name = t->key ? t->key : "";
	struct sched_key *theirs;

	HASH_FIND_STR(lane_of(s, t->pool, task_role(t))->keys, name, theirs);
	return k && k == theirs;
}

struct sched_key *
sched_key_hold(struct sched *s, const struct task *t)
{
	struct sched_key *k = key_of(lane_of(s, t->pool, task_role(t)), t->key ? t->key : "");

	k->workers++;
	return k;
}

void
sched_key_release(struct sched *s, size_t pool, enum worker_role role, struct sched_key *k)
{
	if (!k)
		return;
	k->workers--;
	key_drop(lane_of(s, pool, role), k);
}

size_t
sched_keys(const struct sched *s, size_t pool, enum worker_role role)
{
	return lane_of(s, pool, role)->n_keys;
}

struct sched_key *
sched_walk(const struct sched *s, size_t pool, enum worker_role role, enum job_priority p, bool (*stop)(void *, struct sched_key *), void *arg)
{
	const struct tenant *tn;

	TAILQ_FOREACH(tn, &lane_of(s, pool, role)->q[p].turns, turn)
		if (stop(arg, tn->key))
			return tn->key;
	return NULL;
}

/* ---- in and out --------------------------------------------------------------------------------------------------- */

void
sched_free(struct sched *s)
{
	struct tenant *t;
	struct sched_key *k, *next;

	if (!s)
		return;
	for (struct lane *l = s->lane; l < s->lane + s->n; l++) {
		for (int p = 0; p < PRIORITY__MAX; p++)
			while ((t = TAILQ_FIRST(&l->q[p].turns)))
				tenant_drop(&l->q[p], t);
		HASH_ITER(hh, l->keys, k, next) {
			k->total = k->workers = 0;
			key_drop(l, k);
		}
	}
	free(s->lane);
	free(s);
}

/* Behind all that were given as much or less; most often that is the end. */
static void
ring_insert(struct queue *q, struct tenant *t)
{
	struct tenant *before = TAILQ_LAST(&q->turns, ring);

	while (before && before->pass > t->pass)
		before = TAILQ_PREV(before, ring, turn);
	if (before)
		TAILQ_INSERT_AFTER(&q->turns, before, t, turn);
	else
		TAILQ_INSERT_HEAD(&q->turns, t, turn);
}

static int64_t
stride(const struct sched *s, const char *name)
{
	return STRIDE / tenant_weight(s->m, name);
}

/* make: 0, or its stride: it is made if there is none. */
static struct tenant *
tenant_of(struct queue *q, const char *name, int64_t make)
{
	struct tenant *t;

	HASH_FIND_STR(q->by_name, name, t);
	if (t || !make)
		return t;
	t = xcalloc(1, sizeof(*t));
	t->name = xstrdup(name);
	TAILQ_INIT(&t->tasks);
	HASH_ADD_KEYPTR(hh, q->by_name, t->name, strlen(t->name), t);
	t->pass = q->pass + make;
	ring_insert(q, t);
	return t;
}

/* One whose quota has room is not put before those for which there was room already. */
static void
push_front(struct taskq *q, struct task *t)
{
	struct task *at = TAILQ_FIRST(q);

	while (at && t->waits_called && at->waits_called && at->job->id < t->job->id)
		at = TAILQ_NEXT(at, entry);
	if (at)
		TAILQ_INSERT_BEFORE(at, t, entry);
	else
		TAILQ_INSERT_TAIL(q, t, entry);
}

static void
push(struct sched *s, struct task *t, bool first)
{
	enum job_priority p = t->job->job->priority;
	struct lane *l = lane_of(s, t->pool, task_role(t));
	struct tenant *tn;

	if (t->alone) {
		TAILQ_INSERT_TAIL(&l->alone, t, entry);
		l->n_alone[p]++;
		return;
	}
	tn = tenant_of(&l->q[p], t->job->org_id, stride(s, t->job->org_id));
	tn->key = key_of(l, t->key ? t->key : "");
	key_count(l, tn->key, p, 1);
	if (first)
		push_front(&tn->tasks, t);
	else
		TAILQ_INSERT_TAIL(&tn->tasks, t, entry);
	tn->n++;
	l->q[p].n++;
}

void
sched_push(struct sched *s, struct task *t)
{
	push(s, t, false);
}

void
sched_push_first(struct sched *s, struct task *t)
{
	push(s, t, true);
}

static void
take(struct lane *l, enum job_priority p, struct tenant *tn, struct task *t)
{
	struct queue *q = &l->q[p];
	struct sched_key *k = tn->key;

	TAILQ_REMOVE(&tn->tasks, t, entry);
	q->n--;
	if (--tn->n == 0)
		tenant_drop(q, tn);
	key_count(l, k, p, -1);
	key_drop(l, k);
}

static void
take_out(struct sched *s, struct task *t)
{
	enum job_priority p = t->job->job->priority;
	struct lane *l = lane_of(s, t->pool, task_role(t));
	struct tenant *tn;

	if (t->alone) {
		TAILQ_REMOVE(&l->alone, t, entry);
		l->n_alone[p]--;
		return;
	}
	tn = tenant_of(&l->q[p], t->job->org_id, 0);
	if (!tn)
		BUG("a queued task without its tenant");
	take(l, p, tn, t);
}

void
sched_lift(struct sched *s, struct task *t)
{
	if (!t->parked && !t->waits_at && !t->awaits)
		take_out(s, t);
}

void
sched_remove(struct sched *s, struct task *t)
{
	if (tenant_unpark(t))
		return;
	if (t->parked) {
		endpoint_unpark(s->m, t);
		return;
	}
	if (t->awaits) {
		keyring_unpark(s->m, t);
		return;
	}
	take_out(s, t);
	endpoint_left(s->m, t);
}

/* ---- whose turn ---------------------------------------------------------------------------------------------------- */

/* The queue whose turn it is, or the highest that has something; the key has a task. */
static enum job_priority
whose_turn(struct sched_key *k)
{
	static const enum job_priority reserved[SCHED_ROUND] = {
		[2] = PRIORITY_NORMAL, [5] = PRIORITY_NORMAL, [8] = PRIORITY_NORMAL, [9] = PRIORITY_LOW,
	};
	enum job_priority p = reserved[k->turn++ % SCHED_ROUND];

	if (!k->n[p])
		for (p = 0; !k->n[p]; p++)
			;
	return p;
}

/* The first in the ring of those that share the key: its only one, or the first of a group. */
static struct tenant *
tenant_with(struct queue *q, const struct sched_key *k)
{
	struct tenant *tn = tenant_of(q, k->name, 0);

	if (tn && tn->key == k)
		return tn;
	TAILQ_FOREACH(tn, &q->turns, turn)
		if (tn->key == k)
			return tn;
	BUG("a key's tasks belong to nobody");
}

/* It had its turn. */
static void
charge(const struct sched *s, struct queue *q, const struct task *t, int64_t pass)
{
	struct tenant *tn = tenant_of(q, t->job->org_id, 0);

	if (tn) {
		tn->pass = pass + stride(s, tn->name);
		TAILQ_REMOVE(&q->turns, tn, turn);
		ring_insert(q, tn);
	}
	if (!TAILQ_EMPTY(&q->turns))
		pass = TAILQ_FIRST(&q->turns)->pass;
	if (pass > q->pass)
		q->pass = pass;
}

/* One whose endpoint is full leaves the queue and waits there; each does so once. NULL: all of the key's do. */
static struct task *
pop_admitted(struct sched *s, struct lane *l, struct sched_key *k)
{
	while (k->total) {
		enum job_priority p = whose_turn(k);
		struct tenant *tn = tenant_with(&l->q[p], k);
		struct task *t = TAILQ_FIRST(&tn->tasks);
		int64_t pass = tn->pass;

		take(l, p, tn, t);
		if (endpoint_admit(s->m, t)) {
			charge(s, &l->q[p], t, pass);
			return t;
		}
	}
	return NULL;
}

/* False: it has left the queue for where it waits. */
static bool
stays(struct sched *s, struct task *t)
{
	if (endpoint_would_admit(s->m, t))
		return true;
	take_out(s, t);
	if (!endpoint_admit(s->m, t))
		return false;
	sched_push_first(s, t);
	return true;
}

bool
sched_may_start(struct sched *s, size_t pool, enum worker_role role, struct sched_key *k)
{
	struct lane *l = lane_of(s, pool, role);
	bool may = false;

	/* Held, since its last task may leave it here. */
	k->workers++;
	for (enum job_priority p = 0; p < PRIORITY__MAX && !may; p++)
		while (k->n[p] && !may)
			may = stays(s, TAILQ_FIRST(&tenant_with(&l->q[p], k)->tasks));
	k->workers--;
	key_drop(l, k);
	return may;
}

struct task *
sched_pop(struct sched *s, size_t pool, enum worker_role role, const char *name)
{
	struct lane *l = lane_of(s, pool, role);
	struct sched_key *k;
	struct task *t;

	HASH_FIND_STR(l->keys, name, k);
	if (!k)
		return NULL;
	/* Held, since its last task may leave it here, and the name may be the key's own. */
	k->workers++;
	t = pop_admitted(s, l, k);
	k->workers--;
	key_drop(l, k);
	return t;
}

struct task *
sched_pop_alone(struct sched *s, size_t pool, enum worker_role role)
{
	struct task *t;

	while ((t = TAILQ_FIRST(&lane_of(s, pool, role)->alone))) {
		take_out(s, t);
		if (endpoint_admit(s->m, t))
			return t;
	}
	return NULL;
}

/* ---- how many ------------------------------------------------------------------------------------------------------ */

bool
sched_wants_fresh(struct sched *s, size_t pool, enum worker_role role)
{
	struct task *t;

	while ((t = TAILQ_FIRST(&lane_of(s, pool, role)->alone)))
		if (stays(s, t))
			return true;
	return false;
}

size_t
sched_waiting(const struct sched *s, size_t pool, enum worker_role role)
{
	const struct lane *l = lane_of(s, pool, role);
	size_t n = 0;

	for (int p = 0; p < PRIORITY__MAX; p++)
		n += l->q[p].n + l->n_alone[p];
	return n;
}

size_t
sched_queued(const struct sched *s, size_t pool, enum worker_role role, enum job_priority p)
{
	return lane_of(s, pool, role)->q[p].n;
}

size_t
sched_depth(const struct sched *s, enum job_priority p)
{
	size_t n = s->m ? endpoints_parked(s->m->endpoints, p) + keyring_waiting(s->m->keyring, p) + tenants_parked(s->m->tenants, p) : 0;

	for (const struct lane *l = s->lane; l < s->lane + s->n; l++)
		n += l->q[p].n + l->n_alone[p];
	return n;
}
