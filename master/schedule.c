/*
 * schedule.c - which task next: priority first, and a fair turn for each tenant within it.
 *
 * Each role of worker has queues of its own, so that tasks which wait for a worker of one role hold up no other's; how
 * many workers a role gets is pool_roles.c's business.
 * Of every SCHED_ROUND turns one is the low queue's and three may be the normal queue's, whatever waits above them:
 * a saturated high queue slows the others and never stops them. All other turns go to the highest queue that has
 * something. Within a priority tenants take turns, each with a queue of its own in order of arrival. A task that
 * crashed a worker needs a fresh one and waits apart. Owns no task; jobs.c does.
 */
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define SCHED_ROUND 10

struct tenant {
	char *name;
	struct taskq tasks;
	size_t n;
	TAILQ_ENTRY(tenant) turn;       /* in its queue's ring while it has tasks */
	UT_hash_handle hh;
};

struct queue {
	TAILQ_HEAD(, tenant) turns;     /* first: whose turn it is */
	struct tenant *by_name;
	size_t n;
};

struct lane {                           /* what waits for workers of one role */
	struct queue q[PRIORITY__MAX];
	struct taskq alone;             /* need a fresh worker */
	size_t n_alone[PRIORITY__MAX];
	unsigned turn;
};

struct sched {
	struct master *m;
	struct lane lane[ROLE__MAX];
};

enum worker_role
task_role(const struct task *t)
{
	return source_rows[t->job->job->sources[t->index].type].role;
}

struct sched *
sched_new(struct master *m)
{
	struct sched *s = xcalloc(1, sizeof(*s));

	s->m = m;
	for (struct lane *l = s->lane; l < s->lane + ROLE__MAX; l++) {
		for (int p = 0; p < PRIORITY__MAX; p++)
			TAILQ_INIT(&l->q[p].turns);
		TAILQ_INIT(&l->alone);
	}
	return s;
}

static void
tenant_drop(struct queue *q, struct tenant *t)
{
	TAILQ_REMOVE(&q->turns, t, turn);
	HASH_DEL(q->by_name, t);
	free(t->name);
	free(t);
}

void
sched_free(struct sched *s)
{
	struct tenant *t;

	if (!s)
		return;
	for (struct lane *l = s->lane; l < s->lane + ROLE__MAX; l++)
		for (int p = 0; p < PRIORITY__MAX; p++)
			while ((t = TAILQ_FIRST(&l->q[p].turns)))
				tenant_drop(&l->q[p], t);
	free(s);
}

static struct tenant *
tenant_of(struct queue *q, const char *name, bool make)
{
	struct tenant *t;

	HASH_FIND_STR(q->by_name, name, t);
	if (t || !make)
		return t;
	t = xcalloc(1, sizeof(*t));
	t->name = xstrdup(name);
	TAILQ_INIT(&t->tasks);
	HASH_ADD_KEYPTR(hh, q->by_name, t->name, strlen(t->name), t);
	TAILQ_INSERT_TAIL(&q->turns, t, turn);
	return t;
}

static void
push(struct sched *s, struct task *t, bool first)
{
	enum job_priority p = t->job->job->priority;
	struct lane *l = &s->lane[task_role(t)];
	struct tenant *tn;

	if (t->alone) {
		TAILQ_INSERT_TAIL(&l->alone, t, entry);
		l->n_alone[p]++;
		return;
	}
	tn = tenant_of(&l->q[p], t->job->org_id, true);
	if (first)
		TAILQ_INSERT_HEAD(&tn->tasks, t, entry);
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
take(struct queue *q, struct tenant *tn, struct task *t)
{
	TAILQ_REMOVE(&tn->tasks, t, entry);
	q->n--;
	if (--tn->n == 0) {
		tenant_drop(q, tn);
		return;
	}
	TAILQ_REMOVE(&q->turns, tn, turn);
	TAILQ_INSERT_TAIL(&q->turns, tn, turn);
}

static void
take_out(struct sched *s, struct task *t)
{
	enum job_priority p = t->job->job->priority;
	struct lane *l = &s->lane[task_role(t)];
	struct tenant *tn;

	if (t->alone) {
		TAILQ_REMOVE(&l->alone, t, entry);
		l->n_alone[p]--;
		return;
	}
	tn = tenant_of(&l->q[p], t->job->org_id, false);
	if (!tn)
		BUG("a queued task without its tenant");
	take(&l->q[p], tn, t);
}

void
sched_remove(struct sched *s, struct task *t)
{
	if (t->parked) {
		endpoint_unpark(s->m, t);
		return;
	}
	take_out(s, t);
	endpoint_left(s->m, t);
}

/* The queue whose turn it is, or the highest that has something. */
static struct queue *
whose_turn(struct lane *l)
{
	static const enum job_priority reserved[SCHED_ROUND] = {
		[2] = PRIORITY_NORMAL, [5] = PRIORITY_NORMAL, [8] = PRIORITY_NORMAL, [9] = PRIORITY_LOW,
	};
	struct queue *q = &l->q[reserved[l->turn % SCHED_ROUND]];

	if (!q->n)
		for (q = l->q; q < l->q + PRIORITY__MAX && !q->n; q++)
			;
	if (q == l->q + PRIORITY__MAX)
		return NULL;
	l->turn++;
	return q;
}

struct task *
sched_pop(struct sched *s, enum worker_role role, bool fresh)
{
	struct lane *l = &s->lane[role];
	struct queue *q;
	struct tenant *tn;
	struct task *t;

	while (fresh && (t = TAILQ_FIRST(&l->alone))) {
		take_out(s, t);
		if (endpoint_admit(s->m, t))
			return t;
	}
	/* One whose endpoint is full leaves the queue and waits there; each does so once. */
	do {
		q = whose_turn(l);
		if (!q)
			return NULL;
		tn = TAILQ_FIRST(&q->turns);
		t = TAILQ_FIRST(&tn->tasks);
		take(q, tn, t);
	} while (!endpoint_admit(s->m, t));
	return t;
}

bool
sched_wants_fresh(const struct sched *s, enum worker_role role)
{
	return !TAILQ_EMPTY(&s->lane[role].alone);
}

size_t
sched_waiting(const struct sched *s, enum worker_role role)
{
	size_t n = 0;

	for (int p = 0; p < PRIORITY__MAX; p++)
		n += s->lane[role].q[p].n + s->lane[role].n_alone[p];
	return n;
}

size_t
sched_depth(const struct sched *s, enum job_priority p)
{
	size_t n = s->m ? endpoints_parked(s->m->endpoints, p) : 0;

	for (const struct lane *l = s->lane; l < s->lane + ROLE__MAX; l++)
		n += l->q[p].n + l->n_alone[p];
	return n;
}
