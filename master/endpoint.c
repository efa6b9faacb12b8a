/*
 * endpoint.c - the servers that tasks go to: how many tasks each has now, how many it may have, who waits.
 *
 * schedule.c asks before it gives a task out, and tenants.c is asked here first; a task whose endpoint is full waits here, in order, and goes to the front of
 * its tenant's queue when one there ends, so that a slow server holds back only its own jobs. What of it concerns connections
 * is endpoint_conns.c's. An endpoint is scheme, host and port, as the job check wrote it.
 *
 * One that has not answered yet, or has let several tasks in a row time out without a word, may hold fewer workers than
 * one that answers: a task that waits for nothing cannot be told from one that works, and its worker cannot be had back
 * before the deadline. The first answer (entries, a host key, any end but a time-out) gives it the rest.
 */
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "common/xalloc.h"
#include "master/endpoint_priv.h"
#include "common/banned.h"

#define ENDPOINTS_KEPT 1024             /* idle ones beyond so many are forgotten, the longest idle first */
#define LATELY_MS 300000                /* other work may come back so long after the last of it */
#define SECOND_NS INT64_C(1000000000)
#define SILENT_AFTER 3                  /* tasks in a row that timed out without an answer */

struct begun {                          /* in one pool */
	const struct endpoint *last;    /* of the task that was begun last; NULL: one without; never followed */
	int64_t last_ms, before_ms;     /* loop time of that; of the last one that went elsewhere; 0: none */
};

struct endpoints {
	struct endpoint *by_name;
	size_t parked[PRIORITY__MAX];
	size_t pools;
	struct begun *begun;            /* of each pool; made with the first task */
};

struct endpoints *
endpoints_new(void)
{
	return xcalloc(1, sizeof(struct endpoints));
}

static void
endpoint_free(struct endpoints *all, struct endpoint *p)
{
	HASH_DEL(all->by_name, p);
	free(p->name);
	free(p->in);
	free(p);
}

void
endpoints_free(struct endpoints *all)
{
	struct endpoint *p, *next;

	if (!all)
		return;
	HASH_ITER(hh, all->by_name, p, next)
		endpoint_free(all, p);
	free(all->begun);
	free(all);
}

const char *
endpoint_name(const struct task *t)
{
	const struct job *j = t->job->job;

	/* On its way to STS or a metadata service, not there. */
	if (t->needs_keys)
		return NULL;
	return t->index < j->n_sources ? j->sources[t->index].endpoint : NULL;
}

/* The one idle for longest makes room; all in use: there are as many as the pool and the queue have tasks. */
static void
forget_one(struct endpoints *all)
{
	struct endpoint *p, *next, *oldest = NULL;

	HASH_ITER(hh, all->by_name, p, next)
		if (!p->running && !p->n_parked && !p->called && !p->workers && (!oldest || p->used_ms < oldest->used_ms))
			oldest = p;
	if (oldest)
		endpoint_free(all, oldest);
}

static struct begun *
begun_in(const struct master *m, size_t pool)
{
	struct endpoints *all = m->endpoints;

	if (!all->begun) {
		all->pools = m->pool ? pool_crews(m->pool) : 1;
		all->begun = xcalloc(all->pools, sizeof(*all->begun));
	}
	if (pool >= all->pools)
		BUG("a task of no pool");
	return &all->begun[pool];
}

struct endpoint *
endpoint_find(const struct master *m, const char *name)
{
	struct endpoint *p = NULL;

	if (name)
		HASH_FIND_STR(m->endpoints->by_name, name, p);
	return p;
}

static struct endpoint *
endpoint_of(struct master *m, const char *name)
{
	struct endpoints *all = m->endpoints;
	struct endpoint *p = endpoint_find(m, name);

	if (p)
		return p;
	if (HASH_COUNT(all->by_name) >= ENDPOINTS_KEPT)
		forget_one(all);
	p = xcalloc(1, sizeof(*p));
	p->name = xstrdup(name);
	begun_in(m, 0);
	p->in = xcalloc(all->pools, sizeof(*p->in));
	TAILQ_INIT(&p->parked);
	TAILQ_INIT(&p->calls);
	HASH_ADD_KEYPTR(hh, all->by_name, p->name, strlen(p->name), p);
	return p;
}

/* Was anything but this endpoint's tasks begun lately by the pool's workers? They spare none for what goes to others. */
static bool
others_lately(const struct master *m, const struct endpoint *p, size_t pool)
{
	const struct begun *b = begun_in(m, pool);
	int64_t at = b->last == p ? b->before_ms : b->last_ms;

	return at && loop_now(m->loop) - at < LATELY_MS;
}

static struct rate
rate_now(const struct master *m)
{
	return rate_of(m->cfg->network_endpoint_requests, SECOND_NS);
}

/* Tasks at once of one pool: less than all its workers while there is other work for them. */
static unsigned
most_in(const struct master *m, const struct endpoint *p, size_t pool)
{
	unsigned max = (unsigned)m->cfg->network_tasks;
	int64_t workers = m->pool ? (int64_t)pool_workers(m->pool, pool) : 0, share;

	/* More of them would only wait for the same requests. */
	if (workers && bucket_short(&p->requests, rate_now(m), loop_now(m->loop)))
		max = rates_tasks(workers) < max ? rates_tasks(workers) : max;
	if (workers < SHARE_WORKERS_MIN || !others_lately(m, p, pool))
		return max;
	share = m->cfg->network_endpoint_share;
	if (!p->answers && share > m->cfg->network_silent_share)
		share = m->cfg->network_silent_share;
	share = workers * share / 1000;
	if (share < 1)
		share = 1;
	return share < max ? (unsigned)share : max;
}

static bool
queued_before(const struct task *a, const struct task *b)
{
	return a->queued_ms != b->queued_ms ? a->queued_ms < b->queued_ms : a->job->id < b->job->id;
}

/*
 * The setting's number counts all tasks, the share those of the task's pool. Those that were called here have their places
 * before any that comes anew, and are not in one another's way. One that its tenant has called yields to those that wait
 * for longer, and to no others: whoever was queued first of all that were called, here and there, is sent away by nobody,
 * so that neither two of them can send each other away for ever, nor those of the one kind starve those of the other.
 */
static bool
has_room(const struct master *m, const struct endpoint *p, const struct task *t)
{
	const struct count *in = &p->in[t->pool];
	unsigned before = 0, before_in = 0;
	const struct task *c;

	if (!t->called)
		TAILQ_FOREACH(c, &p->calls, calls)
			if (!t->was_called || queued_before(c, t)) {
				before++;
				before_in += c->endpoint_in == t->pool;
			}
	return p->running + before < (unsigned)m->cfg->network_tasks && in->running + before_in < most_in(m, p, t->pool) &&
	    conns_room(m, p, t, before);
}

/* Of a task without an endpoint, p is NULL. */
static void
began(struct master *m, const struct endpoint *p, size_t pool)
{
	struct begun *b = begun_in(m, pool);

	if (b->last != p)
		b->before_ms = b->last_ms;
	b->last = p;
	b->last_ms = loop_now(m->loop);
}

/* Out of where it waits. */
static void
unpark(struct master *m, struct task *t)
{
	struct endpoint *p = t->parked;

	TAILQ_REMOVE(&p->parked, t, entry);
	p->n_parked--;
	tenant_back(t);
	if (t->lacks_ms) {
		int64_t ms = loop_now(m->loop) - t->lacks_ms;

		p->lacked_ms += ms;
		metric_add(METRIC_CONNECTION_WAIT, (double)ms / 1000, NULL, NULL);
	}
	t->lacks_ms = 0;
	t->parked = NULL;
	m->endpoints->parked[t->job->job->priority]--;
}

static void
call(struct endpoint *p, struct task *t)
{
	t->called = p;
	t->endpoint_in = t->pool;
	p->called++;
	p->in[t->pool].called++;
	TAILQ_INSERT_TAIL(&p->calls, t, calls);
}

/* How many of each pool have room now; the sum of all, of which no more than the whole endpoint has. */
static unsigned
rooms(const struct master *m, struct endpoint *p)
{
	unsigned max = (unsigned)m->cfg->network_tasks, used = p->running + p->called, sum = 0;

	if (used >= max)
		return 0;
	for (size_t i = 0; i < m->endpoints->pools; i++) {
		struct count *in = &p->in[i];
		unsigned most = most_in(m, p, i), of_it = in->running + in->called;

		in->room = of_it < most ? most - of_it : 0;
		sum += in->room;
	}
	return sum < max - used ? sum : max - used;
}

static void
lacks_connection(const struct master *m, struct task *t)
{
	if (!t->lacks_ms)
		t->lacks_ms = loop_now(m->loop) > 0 ? loop_now(m->loop) : 1;
}

/*
 * As many as have room now go to the scheduler; one whose pool has none holds up no other pool's, one that lacks a
 * connection all behind it. Called whenever there may be more room than before, which is not only at a task's end: one that
 * was called may be cancelled, or fail without a worker, and then nothing here would ever end.
 */
void
endpoint_call_next(struct master *m, struct endpoint *p)
{
	struct task *t = TAILQ_FIRST(&p->parked), *last = NULL, *before, *next = NULL;
	unsigned room, lacking = 0;

	/* Nothing starts any more. */
	if (m->phase > MASTER_RUNNING)
		return;
	room = t ? rooms(m, p) : 0;
	p->lacking = false;
	for (; t && room; t = TAILQ_NEXT(t, entry)) {
		if (!p->in[t->pool].room)
			continue;
		p->in[t->pool].room--;
		room--;
		if (lacking || !conns_room(m, p, t, p->called)) {
			next = next ? next : t;
			lacking++;
			lacks_connection(m, t);
			continue;
		}
		call(p, t);
		last = t;
	}
	p->lacking = lacking;
	/* The last one first, since each goes to the front. */
	for (t = last; t; t = before) {
		before = TAILQ_PREV(t, taskq, entry);
		if (!t->called)
			continue;
		unpark(m, t);
		sched_push_first(m->sched, t);
	}
	conns_ask(m, p, lacking, next);
}

static void
came_back(struct task *t)
{
	if (t->called) {
		t->called->called--;
		t->called->in[t->endpoint_in].called--;
		TAILQ_REMOVE(&t->called->calls, t, calls);
	}
	t->called = NULL;
}

/* One that was called and finds no room any more keeps its turn. */
static void
park(struct master *m, struct endpoint *p, struct task *t, bool called)
{
	struct task *after = called ? TAILQ_FIRST(&p->parked) : NULL;

	while (after && after->queued_ms <= t->queued_ms)
		after = TAILQ_NEXT(after, entry);
	if (after)
		TAILQ_INSERT_BEFORE(after, t, entry);
	else
		TAILQ_INSERT_TAIL(&p->parked, t, entry);
	p->n_parked++;
	tenant_away(m, t);
	t->parked = p;
	m->endpoints->parked[t->job->job->priority]++;
}

void
endpoint_left(struct master *m, struct task *t)
{
	const char *name = endpoint_name(t);
	struct endpoint *p = NULL;

	came_back(t);
	if (name)
		HASH_FIND_STR(m->endpoints->by_name, name, p);
	if (p)
		endpoint_call_next(m, p);
	if (!t->waits_at)
		tenant_passed(m, t);
}

void
endpoints_reloaded(struct master *m)
{
	struct endpoint *p, *next;

	HASH_ITER(hh, m->endpoints->by_name, p, next)
		endpoint_call_next(m, p);
}

bool
endpoint_would_admit(struct master *m, const struct task *t)
{
	const char *name = endpoint_name(t);
	const struct endpoint *p = NULL;

	if (name)
		HASH_FIND_STR(m->endpoints->by_name, name, p);
	return tenant_would_admit(m, t) && (!p || has_room(m, p, t));
}

bool
endpoint_admit(struct master *m, struct task *t)
{
	const char *name = endpoint_name(t);
	bool called = t->called, room;
	struct endpoint *p;

	if (!tenant_admit(m, t)) {
		/* Its place there is another's. */
		if (t->called)
			endpoint_left(m, t);
		return false;
	}
	if (!name)
		return true;
	p = endpoint_of(m, name);
	room = has_room(m, p, t);
	came_back(t);
	if (room)
		return true;
	park(m, p, t, called || t->was_called);
	/* Its place may be another pool's, and a connection that somebody keeps may be closed for it. */
	if (called || m->cfg->network_endpoint_connections)
		endpoint_call_next(m, p);
	tenant_passed(m, t);
	return false;
}

void
endpoint_wait(struct master *m, struct task *t)
{
	struct endpoint *p = endpoint_of(m, endpoint_name(t));

	park(m, p, t, true);
	p->lacking = true;
	lacks_connection(m, t);
	/* Not called again at once: what it was called for was not there. */
	conns_ask(m, p, 1, t);
	tenant_passed(m, t);
}

void
endpoint_again(struct master *m, struct task *t)
{
	const char *name = endpoint_name(t);

	if (name)
		call(endpoint_of(m, name), t);
	sched_push_first(m->sched, t);
}

void
endpoint_unpark(struct master *m, struct task *t)
{
	struct endpoint *p = t->parked;

	unpark(m, t);
	/* Those behind it may do with what it could not. */
	if (p->lacking)
		endpoint_call_next(m, p);
}

static const char *
waits_for(const struct master *m, const struct endpoint *p)
{
	if (p->lacking)
		return "endpoint_connections";
	if (p->running + p->called >= (unsigned)m->cfg->network_tasks)
		return "tasks_per_endpoint";
	if (bucket_short(&p->requests, rate_now(m), loop_now(m->loop)))
		return "endpoint_requests_per_second";
	return p->answers ? "endpoint_share" : "silent_share";
}

const char *
endpoint_waits_for(const struct task *t)
{
	return waits_for(t->job->m, t->parked);
}

size_t
endpoints_parked(const struct endpoints *all, enum job_priority p)
{
	return all ? all->parked[p] : 0;
}

void
endpoint_started(struct master *m, struct task *t, struct slot *s)
{
	const char *name = endpoint_name(t);

	snprintf(s->tenant, sizeof(s->tenant), "%s", t->job->org_id);
	tenant_started(m, t);
	if (!name) {
		began(m, NULL, t->pool);
		return;
	}
	t->endpoint = endpoint_of(m, name);
	t->endpoint_in = t->pool;
	began(m, t->endpoint, t->pool);
	t->endpoint->running++;
	t->endpoint->in[t->pool].running++;
	t->endpoint->tasks++;
	conns_granted(s, t->endpoint, t->connections);
	t->endpoint->used_ms = loop_now(m->loop);
}

static void
answered(struct master *m, struct endpoint *p)
{
	p->silent = 0;
	if (p->answers)
		return;
	p->answers = true;
	LOG(LOG_DEBUG, "endpoint_answers", LS("endpoint", p->name));
	endpoint_call_next(m, p);
}

static void
not_answered(struct endpoint *p)
{
	if (++p->silent != SILENT_AFTER || !p->answers)
		return;
	p->answers = false;
	LOG(LOG_INFO, "endpoint_silent", LS("endpoint", p->name), LI("timeouts", p->silent));
}

void
endpoint_answered(struct master *m, const struct task *t)
{
	if (t->endpoint)
		answered(m, t->endpoint);
}

/* What the end of a task says of the server: what ended on our side says nothing. */
static void
judge(struct master *m, struct endpoint *p, const struct task *t)
{
	switch (t->error.cls) {
	case ERR_TIMEOUT:
		if (t->done && t->done->listed)
			answered(m, p);
		else
			not_answered(p);
		break;
	case ERR_CANCELLED:
	case ERR_WORKER_CRASH:
	case ERR_WORKER_LOST:
	case ERR_WORKER_PROTOCOL:
	case ERR_SPOOL_FULL:
	case ERR_SYSTEM:
	case ERR_INTERNAL:
		break;
	default:
		answered(m, p);
	}
}

void
endpoint_ended(struct master *m, struct task *t, bool failed)
{
	struct endpoint *p = t->endpoint;

	rates_left(m, t);
	/* Its worker is not free while the spool is published: until then its tenant holds it. */
	if (!t->slot)
		tenant_ended(m, t);
	if (!p)
		return;
	t->endpoint = NULL;
	p->running--;
	p->in[t->endpoint_in].running--;
	p->failed += failed;
	p->used_ms = loop_now(m->loop);
	judge(m, p, t);
	endpoint_call_next(m, p);
}

struct bucket *
endpoint_bucket(struct master *m, const struct task *t, struct rate *r)
{
	static struct bucket none;
	const char *name = endpoint_name(t);

	*r = name ? rate_now(m) : (struct rate){ 0, 0 };
	return name ? &endpoint_of(m, name)->requests : &none;
}

size_t
endpoints_ending(const struct master *m)
{
	struct endpoint *p, *next;
	size_t n = 0;

	HASH_ITER(hh, m->endpoints->by_name, p, next)
		n += certificate_counts(m, p);
	return n;
}

size_t
endpoints_view(const struct master *m, struct endpoint_view *out, size_t max)
{
	struct endpoint *p, *next;
	size_t n = 0;

	HASH_ITER(hh, m->endpoints->by_name, p, next) {
		struct endpoint_view *v = &out[n];

		if (n == max)
			break;
		*v = (struct endpoint_view){ .name = p->name, .running = p->running, .waiting = p->n_parked,
			.held = p->held, .waits_for = p->n_parked ? waits_for(m, p) : NULL, .connection_wait_ms = p->lacked_ms, .reused = p->reused, .reconnected = p->reconnected, .tasks = p->tasks, .failed = p->failed, .answers = p->answers, .requests = p->requests.given, .request_wait_ms = p->requests.waited_ms, .idle_ms = loop_now(m->loop) - p->used_ms, .cert_expires = p->cert_expires };
		for (size_t i = 0; i < pool_size(m->pool); i++) {
			const struct slot *s = pool_slot(m->pool, i);

			if (s->kept_at == p)
				v->kept += s->kept;
		}
		n++;
	}
	return n;
}
