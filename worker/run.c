/*
 * run.c - one task, from its JOB frame to its DONE: find the source, open, list, match, emit, account.
 *
 * main.c calls run_task; the sources call the rest while they list. Whatever goes wrong in a listing ends in DONE with
 * its class; only a lost master leaves a task without an answer. The deadline is the master's: here is no timer.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "worker/worker.h"
#include "common/escape.h"
#include "common/field.h"
#include "common/log.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define POLL_ENTRIES 256
#define POLL_NS 50000000
#define FLUSH_NS 200000000
#define PROGRESS_NS 1000000000

int64_t
run_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

int64_t
run_int(const struct run *r, enum source_field f)
{
	return r->task->source.v[f].i;
}

const char *
run_str(const struct run *r, enum source_field f)
{
	const char *s = r->task->source.v[f].s;

	return s ? s : "";
}

static int
send_progress(struct run *r, struct err *e)
{
	struct progress g = { r->done.listed, r->done.matched };

	progress_encode(&g, channel_begin(r->ch, MSG_PROGRESS));
	return channel_send(r->ch, e);
}

/* Listens, lets slow listings show, tells how far it is. */
static int
turn(struct run *r, int64_t now, struct err *e)
{
	r->since_poll = 0;
	r->polled_ns = now;
	if (channel_poll(r->ch, 0, e))
		return -1;
	if (r->task->publish == PUBLISH_STREAM && now - r->flushed_ns >= FLUSH_NS) {
		r->flushed_ns = now;
		if (emit_flush(r->emit, e))
			return -1;
	}
	if (now - r->progress_ns >= PROGRESS_NS) {
		r->progress_ns = now;
		return send_progress(r, e);
	}
	return 0;
}

int
run_look(struct run *r, struct err *e)
{
	int64_t now = run_clock();

	if (r->since_poll < POLL_ENTRIES && now - r->polled_ns < POLL_NS)
		return 0;
	return turn(r, now, e);
}

int
run_turn(struct run *r, struct err *e)
{
	/* The clock costs less than the system call, but is not free either: every 16th entry. */
	return ++r->since_poll % 16 ? 0 : run_look(r, e);
}

int
run_wait(struct run *r, int64_t until_ns, struct err *e)
{
	int64_t now;

	while ((now = run_clock()) < until_ns) {
		int64_t left = until_ns - now, next;

		if (turn(r, now, e))
			return -1;
		next = r->progress_ns + PROGRESS_NS - now;
		if (r->emit->count && r->task->publish == PUBLISH_STREAM)
			next = FLUSH_NS;
		if (next < left)
			left = next;
		if (channel_poll(r->ch, (int)((left + 999999) / 1000000), e))
			return -1;
	}
	return 0;
}

int
run_listed(struct run *r, struct err *e)
{
	r->done.listed++;
	if (r->task->entries_max && r->done.listed > (uint64_t)r->task->entries_max)
		return err_set(e, ERR_LIMIT, "more than %lld entries (jobs.entries_max)", (long long)r->task->entries_max);
	return run_turn(r, e);
}

void
run_note(struct run *r, enum task_note n)
{
	r->done.notes[n]++;
}

void
run_skipped(struct run *r)
{
	r->done.skipped++;
}

bool
run_only_watches(const struct run *r)
{
	return r->stable && !stable_is_last(r->stable);
}

int
run_emit(struct run *r, struct record *rec, struct err *e)
{
	int same = r->stable ? stable_look(r->stable, rec, e) : 1;

	if (same < 0)
		return RUN_FAILED;
	if (!same || run_only_watches(r)) {
		run_skipped(r);
		if (!same)
			run_note(r, NOTE_UNSTABLE);
		return RUN_GO_ON;
	}
	if (r->task->filter.max_files && r->done.matched >= (uint64_t)r->task->filter.max_files) {
		r->done.truncated = true;
		run_skipped(r);
		return RUN_STOP;
	}
	if (emit_add(r->emit, rec, e))
		return RUN_FAILED;
	r->done.matched++;
	return RUN_GO_ON;
}

bool
run_repeats_secret(const struct run *r, const char *p, size_t n)
{
	enum { SHORTEST = 4, PIECE = 12 };      /* a shorter one is found in any words */

	for (int i = 0; p && i < SF__MAX; i++) {
		const char *s = r->task->source.v[i].s;
		size_t len = field_rows[i].flags & FIELD_SECRET && s ? strlen(s) : 0, piece = len < PIECE ? len : PIECE;

		for (size_t at = 0; len >= SHORTEST && at + piece <= len; at++)
			if (memmem(p, n, s + at, piece))
				return true;
	}
	return false;
}

int
run_unreadable(struct run *r, const char *path, size_t n, const char *reason, struct err *e)
{
	struct task_done *d = &r->done;

	if (run_int(r, SF_COMMON_ON_UNREADABLE) == 1) {
		struct buf shown = BUF_INIT;

		escape_term(&shown, path, n > 512 ? 512 : n);
		err_set(e, ERR_AUTH, "%s: %s", buf_str(&shown), reason);
		buf_release(&shown);
		return -1;
	}
	d->unreadable++;
	if (d->n_named < TASK_UNREADABLE_MAX) {
		struct task_unreadable *u = &d->named[d->n_named++];

		snprintf(u->path, sizeof(u->path), "%.*s", (int)(n < sizeof(u->path) ? n : sizeof(u->path) - 1), path);
		snprintf(u->reason, sizeof(u->reason), "%s", reason);
	}
	return 0;
}

/* Each phase ends where the next begins. */
static void
enter_phase(struct run *r, enum task_phase phase, int64_t *since)
{
	int64_t now = run_clock();

	r->done.phase_us[r->done.phase] += (uint64_t)(now - *since) / 1000;
	r->done.phase = phase;
	*since = now;
}

void
run_retry_after(struct run *r, uint64_t ms)
{
	r->done.retry_after_ms = ms;
}

void
run_stale_login(struct run *r)
{
	r->done.stale_login = true;
}

void
run_peer(struct run *r, const struct sockaddr *sa)
{
	char address[EGRESS_TEXT];
	bool v6 = sa->sa_family == AF_INET6;
	uint16_t port = v6 ? ((const struct sockaddr_in6 *)(const void *)sa)->sin6_port :
	    ((const struct sockaddr_in *)(const void *)sa)->sin_port;

	egress_addr_text(sa, address);
	snprintf(r->done.peer, sizeof(r->done.peer), v6 ? "[%s]:%u" : "%s:%u", address, ntohs(port));
}

static int
list_once(struct run *r, struct conns *conns, bool *reused, int64_t *since, struct err *e)
{
	struct conn *conn;
	int rc;

	enter_phase(r, PHASE_OPEN, since);
	conn = conns_open(conns, r, reused, e);
	if (!conn)
		return -1;
	enter_phase(r, PHASE_LIST, since);
	rc = source_find(r->task->source.type)->list(conn, r, e);
	if (!rc)
		rc = emit_flush(r->emit, e);
	if (!rc)
		enter_phase(r, PHASE_CLOSE, since);
	conns_put(conns, r, conn, rc != 0);
	return rc;
}

/* A server may close a kept connection whenever it likes: that is no failure of the task, once. */
static bool
was_stale(const struct run *r, bool reused, const struct err *e)
{
	return reused && !r->answered && !r->done.listed && !r->done.unreadable && !r->ch->cancelled &&
	    (e->cls == ERR_TRANSIENT || e->cls == ERR_TRUNCATED || e->cls == ERR_PROTOCOL);
}

static int
list(struct run *r, struct conns *conns, int64_t *since, struct err *e)
{
	uint32_t before = r->done.reconnected;
	bool reused;
	int rc = list_once(r, conns, &reused, since, e);

	if (rc && was_stale(r, reused, e)) {
		err_clear(e);
		/* Where the session has not counted itself what it found closed. */
		r->done.reconnected += r->done.reconnected == before;
		rc = list_once(r, conns, &reused, since, e);
	}
	return rc;
}

/* The counts are those of the last pass. */
static void
forget_pass(struct run *r)
{
	struct task_done *d = &r->done;

	d->listed = d->matched = d->skipped = d->unreadable = 0;
	memset(d->notes, 0, sizeof(d->notes));
	d->n_named = 0;
	r->answered = false;
}

static int
list_all_passes(struct run *r, struct conns *conns, int64_t *since, struct err *e)
{
	const struct filter_spec *f = &r->task->filter;
	int rc = 0;

	if (!f->stable_checks)
		return list(r, conns, since, e);
	r->stable = stable_new(f->stable_checks);
	for (int64_t pass = 0; !rc && stable_next(r->stable); pass++) {
		if (pass) {
			forget_pass(r);
			enter_phase(r, PHASE_LIST, since);
			rc = run_wait(r, run_clock() + f->stable_interval_ms * 1000000, e);
		}
		if (!rc)
			rc = list(r, conns, since, e);
	}
	stable_free(r->stable);
	r->stable = NULL;
	return rc;
}

/* A class of our own libraries that is not a worker's to report (a pattern the master took and we do not) is a bug. */
static void
account(struct run *r, int rc, const struct err *e)
{
	struct task_done *d = &r->done;
	struct err late = ERR_INIT;

	/* What a stream found before it broke is right, and is counted: it goes out. */
	if (!rc)
		d->spool_bytes = r->emit->spool_bytes;
	else if (r->task->publish == PUBLISH_ATOMIC || emit_flush(r->emit, &late))
		emit_discard(r->emit);
	/* A frame that was given up (cancelled while nobody read) took its records with it: they were no matches that anyone got. */
	if (rc && r->task->publish == PUBLISH_STREAM && d->matched > r->emit->sent) {
		d->skipped += d->matched - r->emit->sent;
		d->matched = r->emit->sent;
	}
	d->cls = !rc ? ERR_OK : task_class_allowed(e->cls) && e->cls != ERR_OK ? e->cls : ERR_INTERNAL;
	d->stale_login = d->stale_login && d->cls == ERR_AUTH;
	if (rc)
		snprintf(d->text, sizeof(d->text), "%s", e->text);
}

static void
run_begin(struct run *r, struct channel *ch, struct emit *m, const struct setup *setup, const struct task_spec *t)
{
	memset(r, 0, sizeof(*r));
	r->setup = setup;
	r->task = t;
	r->ch = ch;
	r->emit = m;
	r->flushed_ns = r->polled_ns = r->progress_ns = run_clock();
	pace_begin(r);
}

/* A process that may read more than this task's tenant may is of no use for it, nor for any after it. */
static int
narrow(struct channel *ch, const struct task_spec *t, struct err *e)
{
	const char *const *roots = (const char *const *)t->narrow.v;

	if (sandbox_narrow_to(roots, t->narrow.n, e) >= 0 && !ahead_narrow(roots, t->narrow.n, e))
		return 0;
	ch->stop = true;
	return -1;
}

int
run_task(struct channel *ch, struct emit *m, struct conns *conns, const struct setup *setup, const struct frame *f,
    enum err_class *cls, struct err *e)
{
	struct task_spec task;
	struct run r;
	struct err why = ERR_INIT;
	int64_t since = run_clock();
	bool leave;
	int rc;

	if (ch->last) {
		ch->broken = true;
		return err_set(e, ERR_WORKER_PROTOCOL, "the master sent a task after the one that was to be the last");
	}
	ch->task = f->task;
	ch->busy = true;
	ch->cancelled = false;
	rc = task_spec_decode(&task, f->payload, f->n, e);
	/* The secrets live in task alone from here. */
	explicit_bzero(ch->in, sizeof(ch->in));
	/* A JOB that cannot be read, or is not for this role, is the master's fault, and no answer to it would be understood. */
	if (rc) {
		ch->broken = true;
		return -1;
	}
	if (source_rows[task.source.type].role != setup->role) {
		ch->broken = true;
		err_set(e, ERR_WORKER_PROTOCOL, "the master sent a task of type %s to a worker of another role",
		    source_rows[task.source.type].name);
		task_spec_release(&task);
		return -1;
	}
	ch->last = task.last;
	run_begin(&r, ch, m, setup, &task);
	rc = task.narrows ? narrow(ch, &task, &why) : 0;
	if (!rc)
		rc = emit_start(m, task.publish, &why);
	if (!rc && setup->role != ROLE_LOCAL)
		rc = net_task(&task, &why);
	if (!rc) {
		r.filter = filter_new(&task.filter, task.now_ns, &why);
		rc = r.filter ? list_all_passes(&r, conns, &since, &why) : -1;
	}
	account(&r, rc, &why);
	enter_phase(&r, r.done.phase, &since);
	filter_free(r.filter);
	task_spec_release(&task);
	*cls = r.done.cls;
	leave = rc && broker_gone() && !m->sent;
	rc = -1;
	if (ch->gone || ch->broken) {
		*e = why;
	} else if (leave) {
		/* Answered by leaving: nothing has come of the task, and nobody is charged. */
		err_set(e, ERR_SYSTEM, "the connector is gone; a fresh worker takes over");
	} else {
		task_done_encode(&r.done, channel_begin(ch, MSG_DONE));
		rc = channel_send(ch, e);
	}
	ch->busy = ch->cancelled = ch->asks = false;
	return rc;
}
