/*
 * endpoint_conns.c - connections to the servers that tasks go to: how many each task may open, how many workers keep open
 * between tasks, and that both together stay within network.endpoint_connections.
 *
 * A worker holds at one server what its running task was granted, or what it keeps there, if that is more: it closes what it
 * keeps before it opens anything else, and says so (KEPT). What it holds is counted from its JOB on until it says otherwise,
 * or is gone; so no moment's connections are more than what is counted. A worker that is given the next task of the server
 * it keeps connections to goes on with those. Where somebody else lacks one, workers that keep some idle are asked to close
 * them (DROP); one that does not is ended. endpoint.c asks from here whether there is room, and calls those that wait.
 */
#include <string.h>

#include "common/cursor.h"
#include "common/units.h"
#include "master/endpoint_priv.h"
#include "common/banned.h"

#define DROP_MS 5000                    /* it only has to close sockets */

static unsigned
cap(const struct master *m)
{
	return (unsigned)m->cfg->network_endpoint_connections;
}

/* ---- the account -------------------------------------------------------------------------------------------------------- */

static unsigned
held_at(const struct slot *s, const struct endpoint *p)
{
	unsigned granted = s->granted_at == p ? s->granted : 0, kept = s->kept_at == p ? s->kept : 0;

	return granted > kept ? granted : kept;
}

static void
count(struct slot *s, int by)
{
	struct endpoint *a = s->granted_at, *b = s->kept_at != a ? s->kept_at : NULL;

	for (int i = 0; i < 2; i++) {
		struct endpoint *p = i ? b : a;

		if (!p)
			continue;
		p->held += (unsigned)by * held_at(s, p);
		p->workers += (unsigned)by;
	}
}

/* p NULL: its task is over. */
static void
set_granted(struct slot *s, struct endpoint *p, unsigned n)
{
	count(s, -1);
	s->granted_at = p;
	s->granted = n;
	count(s, 1);
}

static void
set_kept(struct slot *s, struct endpoint *p, unsigned n)
{
	count(s, -1);
	s->kept_at = n ? p : NULL;
	s->kept = n;
	count(s, 1);
	if (n)
		return;
	s->dropping = false;
	timer_cancel(s->m->loop, &s->drop_timer);
}

void
conns_granted(struct slot *s, struct endpoint *p, unsigned n)
{
	set_granted(s, p, n);
}

void
endpoint_task_done(struct slot *s)
{
	struct endpoint *p = s->granted_at;
	const struct task *t = s->task;

	if (!p)
		return;
	p->reused += t->done->reused;
	p->reconnected += t->done->reconnected;
	certificate_seen(s->m, p, t);
	set_granted(s, NULL, 0);
	endpoint_call_next(s->m, p);
}

void
endpoint_worker_gone(struct slot *s)
{
	struct endpoint *granted = s->granted_at, *kept = s->kept_at;

	if (granted)
		set_granted(s, NULL, 0);
	if (kept)
		set_kept(s, NULL, 0);
	if (granted)
		endpoint_call_next(s->m, granted);
	if (kept && kept != granted)
		endpoint_call_next(s->m, kept);
}

void
endpoint_worker_free(struct slot *s)
{
	if (s->kept_at && s->kept_at->lacking)
		endpoint_call_next(s->m, s->kept_at);
}

/* What it says must be what it can have: it was granted so many, or kept as many before. */
int
endpoint_kept(struct slot *s, const struct frame *f, struct err *e)
{
	struct endpoint *before = s->kept_at, *at = s->granted_at ? s->granted_at : s->kept_at;
	unsigned most = at ? held_at(s, at) : 0;
	struct cursor c;
	uint32_t n;

	cursor_init(&c, f->payload, f->n);
	n = cursor_u32(&c);
	if (!cursor_end(&c))
		return err_set(e, ERR_WORKER_PROTOCOL, "KEPT of %zu bytes", f->n);
	if (n && !at)
		return err_set(e, ERR_WORKER_PROTOCOL, "KEPT without a task of a network source");
	if (n > most)
		return err_set(e, ERR_WORKER_PROTOCOL, "KEPT of %u connection%s, it may have %u", n, units_s(n), most);
	if (n && before && before != at)
		return err_set(e, ERR_WORKER_PROTOCOL, "KEPT of %u connection%s, but those to another server are not told to be closed", n, units_s(n));
	set_kept(s, at, n);
	if (before)
		endpoint_call_next(s->m, before);
	return 0;
}

/* ---- who may have them -------------------------------------------------------------------------------------------------- */

/* The task can go on with what this worker keeps for the same tenant, now or once the spool of its last task is published. */
static bool
will_serve(const struct master *m, const struct slot *s, const struct endpoint *p, const struct task *t)
{
	return s->kept_at == p && !s->granted_at && (s->state == WORKER_IDLE || s->state == WORKER_BUSY) && !s->dropping && !s->single &&
	    !t->alone && s->setup == m->setup_generation && !strcmp(s->tenant, t->job->org_id) && sched_key_serves(m->sched, s->key, t);
}

static bool
serves(const struct master *m, const struct slot *s, const struct endpoint *p, const struct task *t)
{
	return s->state == WORKER_IDLE && !s->task && will_serve(m, s, p, t);
}

static unsigned
servers(const struct master *m, const struct endpoint *p, const struct task *t)
{
	unsigned n = 0;

	for (size_t i = 0; m->pool && i < pool_size(m->pool); i++)
		n += serves(m, pool_slot(m->pool, i), p, t);
	return n;
}

struct slot *
endpoint_worker(struct master *m, const struct task *t, struct slot *s)
{
	const struct endpoint *p = endpoint_find(m, endpoint_name(t));

	for (size_t i = 0; p && i < pool_size(m->pool); i++) {
		struct slot *other = pool_slot(m->pool, i);

		if (serves(m, other, p, t))
			return other;
	}
	return s;
}

bool
conns_room(const struct master *m, const struct endpoint *p, const struct task *t, unsigned before)
{
	unsigned most = cap(m);

	if (!most)
		return true;
	if (p->held > most || (p->lacking && !t->called))
		return false;
	return most - p->held > before || most - p->held + servers(m, p, t) > before;
}

/* Those that were called take their parts after it, each at least one. */
unsigned
endpoint_grant(struct master *m, const struct task *t, const struct slot *s)
{
	const struct endpoint *p = endpoint_find(m, endpoint_name(t));
	unsigned wants = 1, others, left, part;

	if (endpoint_name(t)) {
		wants = source_connections(&t->job->job->sources[t->index], cap(m));
		if (wants > (unsigned)m->cfg->network_connections)
			wants = (unsigned)m->cfg->network_connections;
	}
	if (!cap(m) || !p)
		return wants;
	others = p->held - held_at(s, p);
	left = others < cap(m) ? cap(m) - others : 0;
	part = (left + p->called) / (p->called + 1);
	return part < wants ? part : wants;
}

/* ---- closing what is kept ----------------------------------------------------------------------------------------------- */

/* It keeps some there, no task of its own is using them, and neither the next in line nor one that was called is to go on with them. */
static bool
may_drop(const struct slot *s, const struct endpoint *p, const struct task *next)
{
	const struct task *c;

	if (s->kept_at != p || s->granted_at || (s->state != WORKER_IDLE && s->state != WORKER_BUSY))
		return false;
	if (p->held > cap(s->m))
		return true;
	if (next && will_serve(s->m, s, p, next))
		return false;
	TAILQ_FOREACH(c, &p->calls, calls)
		if (serves(s->m, s, p, c))
			return false;
	return true;
}

static void
drop(struct slot *s)
{
	struct buf b = BUF_INIT;

	ipc_begin(&b, MSG_DROP, s->generation, 0);
	ipc_finish(&b);
	/* Not taken by one that does not read: its time runs. */
	ipc_send(s->proc.fd, &b);
	buf_release(&b);
	s->dropping = true;
	timer_set(s->m->loop, &s->drop_timer, DROP_MS);
}

void
endpoint_not_dropped(void *arg)
{
	struct slot *s = arg;

	snprintf(s->err_tail, sizeof(s->err_tail), "it was asked to close the connections that it keeps, and did not within %d s", DROP_MS / 1000);
	LOG(LOG_ERROR, "connections_not_dropped", LI("slot", s->index), LI("pid", s->proc.pid), LS("endpoint", s->kept_at ? s->kept_at->name : NULL),
	    LI("connections", s->kept));
	slot_kill(s, DEATH_PROTOCOL, true);
}

/* Idle for longest. */
static struct slot *
who_drops(const struct master *m, const struct endpoint *p, const struct task *next)
{
	struct slot *best = NULL;

	for (size_t i = 0; i < pool_size(m->pool); i++) {
		struct slot *s = pool_slot(m->pool, i);

		if (!s->dropping && may_drop(s, p, next) && (!best || s->since_ms < best->since_ms))
			best = s;
	}
	return best;
}

void
conns_ask(struct master *m, struct endpoint *p, unsigned lacking, const struct task *next)
{
	unsigned most = cap(m), over = p->held > most ? p->held - most : 0, wanted = over + lacking, coming = 0;
	struct slot *s;

	if (!most || !wanted || !m->pool)
		return;
	for (size_t i = 0; i < pool_size(m->pool); i++) {
		s = pool_slot(m->pool, i);
		coming += s->dropping && s->kept_at == p ? s->kept : 0;
	}
	while (coming < wanted && (s = who_drops(m, p, next))) {
		coming += s->kept;
		drop(s);
	}
}
