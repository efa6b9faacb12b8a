/*
 * jobs.c - one record per job: its tasks tried again or given up, its terminal records sent, its offset completed.
 *
 * Called by accept.c, dispatch.c and control_verbs.c; frees every job.
 *
 * A job ends in one way only: jobs_finish() sends its dead letter where something failed, then its terminal record; when
 * both are acknowledged the offset is completed. Until then a death of the master replays the whole job. What an
 * error means for the job is read off errors.def, here and nowhere else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/defer.h"
#include "master/jobs_priv.h"
#include "common/banned.h"

#define HOLD_FIRST_MS 1000
#define HOLD_MAX_MS 30000
#define RECORDS_HOLD_MAX_MS 8000

struct jobs {
	struct master *m;
	struct job_list list;           /* accepted and not ended, in order of arrival */
	struct job_list gone;           /* revoked, but a worker or Kafka still holds on to them */
	struct jobrec *placed;          /* of list, by origin; the first of several of one origin */
	size_t n, bytes;
	uint64_t next_id;
};

static const char *const state_names[TASK__MAX] = {
	[TASK_NEW] = "new", [TASK_QUEUED] = "queued", [TASK_RUNNING] = "running", [TASK_PUBLISHING] = "publishing",
	[TASK_RETRY] = "retry", [TASK_DONE] = "done", [TASK_DEAD] = "dead",
};
static const char *const outcome_names[OUTCOME__MAX] = {
	[OUTCOME_COMPLETED] = "completed", [OUTCOME_PARTIAL] = "partial", [OUTCOME_FAILED] = "failed", [OUTCOME_CANCELLED] = "cancelled",
};

static void send_records(struct jobrec *);

const char *
task_state_name(enum task_state s)
{
	return state_names[s];
}

const char *
job_outcome_name(enum job_outcome o)
{
	return outcome_names[o];
}

struct master *
jobs_master(const struct jobrec *rec)
{
	return rec->m;
}

void
task_set_state(struct master *m, struct task *t, enum task_state to)
{
	if (t->state == to)
		return;
	LOG(LOG_DEBUG, "task_state", LS("job_id", t->job->job_id), LI("source", t->index), LI("attempt", t->attempt),
	    LS("from", state_names[t->state]), LS("to", state_names[to]));
	if (t->state == TASK_RUNNING)
		endpoint_ended(m, t, t->error.cls != ERR_OK);
	t->state = to;
	if (to == TASK_QUEUED) {
		struct err e = ERR_INIT;

		t->queued_ms = loop_now(m->loop);
		/* It has not waited yet; the attempt before may have failed without a worker. */
		t->was_called = false;
		t->waits_ms = 0;
		/* Where nothing takes it any more since a reload, it is refused when its turn comes. */
		pool_assign(m->pool, t, &e);
		t->needs_keys = keyring_wanted(m, t);
		tenant_seen(m, t->job->org_id, t->pool);
		sched_push(m->sched, t);
	}
}

/* ---- outcome ------------------------------------------------------------------------------------------------------- */

/* Something of this source did reach its consumers, or could not be read, although it did not simply fail. */
static bool
task_partial(const struct task *t)
{
	if (t->state == TASK_DONE)
		return t->done->unreadable > 0;
	return t->streamed_before || (t->job->job->publish == PUBLISH_STREAM && t->published > 0);
}

enum job_outcome
job_outcome(const struct jobrec *rec)
{
	size_t done = 0, partial = 0;

	for (size_t i = 0; i < rec->n_tasks; i++) {
		done += rec->tasks[i].state == TASK_DONE;
		partial += task_partial(&rec->tasks[i]);
	}
	if (rec->n_tasks && done == rec->n_tasks)
		return partial ? OUTCOME_PARTIAL : OUTCOME_COMPLETED;
	if (rec->cancelled)
		return OUTCOME_CANCELLED;
	return done || partial ? OUTCOME_PARTIAL : OUTCOME_FAILED;
}

const struct err *
job_error(const struct jobrec *rec)
{
	if (rec->parse_error.cls != ERR_OK)
		return &rec->parse_error;
	for (size_t i = 0; i < rec->n_tasks; i++)
		if (rec->tasks[i].state == TASK_DEAD)
			return &rec->tasks[i].error;
	return NULL;
}

/* ---- life and death of a record ---------------------------------------------------------------------------------------- */

struct task_done task_no_account;

void
task_account_forget(struct task *t)
{
	if (t->done != &task_no_account)
		free(t->done);
	t->done = &task_no_account;
}

struct task_done *
task_account(struct task *t)
{
	task_account_forget(t);
	t->done = xcalloc(1, sizeof(*t->done));
	return t->done;
}

/* Thousands of tasks may wait for their next attempt, each with its last account: without names it is a tenth. */
void
task_account_trim(struct task *t)
{
	if (t->done != &task_no_account)
		t->done = xreallocarray(t->done, 1, offsetof(struct task_done, named) + t->done->n_named * sizeof(t->done->named[0]));
}

static void
free_record(struct jobrec *rec)
{
	struct loop *l = rec->m->loop;

	for (size_t i = 0; i < rec->n_tasks; i++) {
		timer_cancel(l, &rec->tasks[i].timer);
		event_ctx_free(rec->tasks[i].events);
		task_account_forget(&rec->tasks[i]);
	}
	timer_cancel(l, &rec->timer);
	free(rec->tasks);
	job_free(rec->job);
	if (rec->payload)
		explicit_bzero(rec->payload, rec->payload_n);
	free(rec->payload);
	free((void *)(uintptr_t)rec->origin.topic);
	free(rec->key);
	free(rec->job_id);
	free(rec->org_id);
	free(rec->masked);
	free(rec->refused_metadata);
	free(rec);
}

static bool
held_elsewhere(const struct jobrec *rec)
{
	if (rec->pending)
		return true;
	for (size_t i = 0; i < rec->n_tasks; i++)
		if (rec->tasks[i].slot || rec->tasks[i].pending)
			return true;
	return false;
}

/* A revoked job is freed when neither a worker nor Kafka can come back to it. */
void
jobs_drop_if_free(struct jobrec *rec)
{
	if (!rec->revoked || held_elsewhere(rec))
		return;
	TAILQ_REMOVE(&rec->m->jobs->gone, rec, entry);
	free_record(rec);
}

static void
leave_list(struct jobrec *rec)
{
	struct jobs *j = rec->m->jobs;

	tenant_gave(rec, rec->finishing && !rec->deferring);
	TAILQ_REMOVE(&j->list, rec, entry);
	if (rec->placed)
		HASH_DEL(j->placed, rec);
	rec->placed = false;
	j->n--;
	j->bytes -= rec->bytes;
}

static void
place_of(const struct jobs *j, const struct origin *o, struct job_place *p)
{
	const char *topic = origin_topic(j->m->cfg, o);

	*p = (struct job_place){ .topic = defer_hash(topic, strlen(topic)), .partition = o->partition, .offset = o->offset };
}

void
jobs_enter(struct jobs *j, struct jobrec *rec)
{
	struct jobrec *other;

	TAILQ_INSERT_TAIL(&j->list, rec, entry);
	rec->id = ++j->next_id;
	j->n++;
	j->bytes += rec->bytes;

	place_of(j, &rec->origin, &rec->place);
	HASH_FIND(hh, j->placed, &rec->place, sizeof(rec->place), other);
	if (other)
		return;
	HASH_ADD(hh, j->placed, place, sizeof(rec->place), rec);
	rec->placed = true;
}

void
jobs_grow(struct jobrec *rec, size_t bytes)
{
	rec->m->jobs->bytes += bytes;
	rec->bytes += bytes;
}

struct jobrec *
jobs_find(const struct jobs *j, const struct origin *o)
{
	const struct config *cfg = j->m->cfg;
	struct jobrec *rec;
	struct job_place key;

	place_of(j, o, &key);
	HASH_FIND(hh, j->placed, &key, sizeof(key), rec);
	return rec && !strcmp(origin_topic(cfg, &rec->origin), origin_topic(cfg, o)) ? rec : NULL;
}

static const char *
label(const struct jobrec *rec)
{
	return rec->job ? job_source_label(rec->job) : "none";
}

void
jobs_gone(struct jobrec *rec)
{
	struct master *m = rec->m;

	leave_list(rec);
	if (rec->at.deferred)
		deferred_completed(m->deferred, &rec->at);
	else
		consumer_completed(m->consumer, &rec->at);
	free_record(rec);
	deferred_kick(m->deferred);
	consumer_kick(m->consumer);
}

/* Its outcome is durable: counted, committed, forgotten. */
static void
ended(struct jobrec *rec)
{
	struct master *m = rec->m;
	enum job_outcome o = job_outcome(rec);
	const struct err *e = job_error(rec);
	double seconds = rec->started_ms ? (double)(loop_now(m->loop) - rec->started_ms) / 1000 : 0;
	uint64_t published = 0;

	for (size_t i = 0; i < rec->n_tasks; i++)
		published += rec->tasks[i].state == TASK_DONE ? rec->tasks[i].published : 0;
	metric_add(METRIC_JOBS, 1, outcome_names[o], label(rec));
	tenants_count_job(m, rec->org_id, outcome_names[o]);
	metric_observe(METRIC_JOB_DURATION, seconds, label(rec));
	metric_set(METRIC_LAST_JOB, (double)(clock_real_ns() / 1000000) / 1000, NULL, NULL);
	if (e)
		metric_add(METRIC_DLQ, 1, err_name(e->cls), NULL);
	LOG(o == OUTCOME_COMPLETED ? LOG_INFO : LOG_WARN, "job_done", LS("job_id", rec->job_id), LS("org_id", rec->org_id),
	    LS("outcome", outcome_names[o]), LI("published", published), LD("seconds", seconds),
	    LS("error_class", e ? err_name(e->cls) : NULL), LS("error", e ? e->text : NULL),
	    LI("partition", rec->origin.partition), LI("offset", rec->origin.offset));
	if (e)
		LOG(LOG_WARN, "dead_letter", LS("job_id", rec->job_id), LS("org_id", rec->org_id), LS("error_class", err_name(e->cls)),
		    LS("error", e->text), LS("todo", err_todo(e->cls)));
	journal_forget(m->journal, &rec->origin);
	jobs_gone(rec);
}

void
jobs_send_again(void *arg)
{
	struct jobrec *rec = arg;

	if (rec->deferring)
		defer_send(rec);
	else
		send_records(rec);
}

void
jobs_send_later(struct jobrec *rec)
{
	int64_t ms = HOLD_FIRST_MS;

	for (uint32_t i = 0; i < rec->holds && ms < RECORDS_HOLD_MAX_MS; i++)
		ms *= 2;
	rec->holds++;
	timer_set(rec->m->loop, &rec->timer, ms);
}

static void
records_settled(struct jobrec *rec)
{
	if (rec->revoked) {
		jobs_drop_if_free(rec);
		return;
	}
	if (rec->held) {
		/* Only what was not taken goes again: the topic that works must not fill up while the other one does not. */
		jobs_send_later(rec);
		return;
	}
	rec->holds = 0;
	if (!rec->letter_due) {
		ended(rec);
		return;
	}
	rec->letter_due = rec->small_records = false;
	send_records(rec);
}

static void
record_delivered(struct ticket *ticket, enum delivery d, const char *why)
{
	struct jobrec *rec = (struct jobrec *)((char *)ticket - offsetof(struct jobrec, ticket));

	rec->pending--;
	if (d != DELIVERY_OK) {
		if (!rec->held)
			LOG(LOG_WARN, "result_held", LS("job_id", rec->job_id), LS("reason", why));
		rec->held = true;
	}
	if (d == DELIVERY_TOO_LARGE)
		rec->small_records = true;
	if (!rec->pending)
		records_settled(rec);
}

static void
send_one(struct jobrec *rec, enum out_topic topic, const struct out_record *r)
{
	struct err e = ERR_INIT;

	rec->pending++;
	if (publish_send(rec->m->publisher, topic, r, &rec->ticket, &e) == 0)
		return;
	rec->pending--;
	rec->held = true;
	if (e.cls == ERR_MESSAGE_TOO_LARGE)
		rec->small_records = true;
	LOG(LOG_WARN, "result_held", LS("job_id", rec->job_id), LS("reason", e.text));
}

static void
send_records(struct jobrec *rec)
{
	static struct out_record out;
	const struct config *cfg = rec->m->cfg;

	rec->held = false;
	rec->ticket.delivered = record_delivered;
	/* The dead letter first: a terminal record says that all there is to know can be read by now. */
	if (rec->letter_due) {
		dead_letter_write(cfg, rec, &out);
		send_one(rec, OUT_DLQ, &out);
	} else {
		result_write(cfg, rec, &out);
		send_one(rec, OUT_RESULTS, &out);
	}
	if (!rec->pending)
		records_settled(rec);
}

void
jobs_finish(struct jobrec *rec)
{
	rec->finishing = true;
	rec->finished_ns = clock_real_ns();
	rec->letter_due = job_error(rec) != NULL;
	send_records(rec);
}

/* ---- attempts ------------------------------------------------------------------------------------------------------------ */

static void
task_final(struct task *t, enum task_state state)
{
	struct jobrec *rec = t->job;

	task_set_state(rec->m, t, state);
	event_ctx_free(t->events);
	t->events = NULL;
	if (--rec->tasks_left == 0)
		jobs_finish(rec);
}

static void
later(struct task *t, int64_t ms)
{
	task_set_state(t->job->m, t, TASK_RETRY);
	timer_set(t->job->m->loop, &t->timer, ms);
}

static int64_t
field_or(const struct source_conf *c, enum source_field f, int64_t otherwise)
{
	return c->v[f].set ? c->v[f].i : otherwise;
}

/* Exponential, capped, with a jitter of 20 % so that jobs that failed together do not come back together. */
static int64_t
retry_wait(const struct task *t)
{
	const struct config *cfg = t->job->m->cfg;
	const struct source_conf *c = &t->job->job->sources[t->index];
	double ms = (double)field_or(c, SF_COMMON_RETRY_DELAY, cfg->retry_delay);
	double factor = (double)field_or(c, SF_COMMON_RETRY_BACKOFF, cfg->retry_backoff) / 1000;
	double max = (double)field_or(c, SF_COMMON_RETRY_MAX_DELAY, cfg->retry_max_delay);
	uint16_t r = 0;

	for (uint32_t i = 1; i < t->charged && ms < max; i++)
		ms *= factor;
	if (ms > max)
		ms = max;
	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = (uint16_t)t->wire;
	return (int64_t)(ms * (0.8 + 0.4 * r / 65536.0)) + 1;
}

static void
count_retry(const struct task *t, int64_t ms)
{
	metric_add(METRIC_RETRIES, 1, err_name(t->error.cls), NULL);
	LOG(LOG_WARN, "job_retry", LS("job_id", t->job->job_id), LI("attempt", t->attempt), LS("error_class", err_name(t->error.cls)),
	    LS("error", t->error.text), LI("wait_ms", ms));
}

static void
retry(struct task *t, int64_t ms)
{
	count_retry(t, ms);
	later(t, ms);
}

/* After its own wait, or after what the server asks for, where that is longer; beyond jobs.hold_max by way of the deferred
 * topic. False: it cannot be deferred for as long as the server asks; t->error says so. */
static bool
retry_charged(struct task *t)
{
	const struct config *cfg = t->job->m->cfg;
	int64_t asked = t->done->retry_after_ms > INT64_MAX / 2000000 ? INT64_MAX / 2000000 : (int64_t)t->done->retry_after_ms;
	int64_t own = retry_wait(t), wait = own < asked ? asked : own;
	struct err why = ERR_INIT, was = t->error;

	if (wait > cfg->jobs_hold_max) {
		task_set_state(t->job->m, t, TASK_RETRY);
		if (jobs_defer(t->job, clock_real_ns() + wait * 1000000, DEFER_RETRY, &why) == 0) {
			count_retry(t, wait);
			return true;
		}
		if (asked > cfg->jobs_hold_max) {
			err_set(&t->error, was.cls, "%s; it asks to wait %lld s, which is beyond jobs.hold_max, and the job cannot be deferred: %s",
			    was.text, (long long)(asked / 1000), why.text);
			return false;
		}
		/* Nobody asked for so long a wait but we: the longest there is here will do. */
		wait = asked > cfg->jobs_hold_max || own > cfg->jobs_hold_max ? cfg->jobs_hold_max : own;
	}
	retry(t, wait);
	return true;
}

static void
attempt_failed(struct task *t)
{
	struct master *m = t->job->m;
	const struct source_conf *c = &t->job->job->sources[t->index];
	int64_t budget = field_or(c, SF_COMMON_RETRIES, m->cfg->retry_max), wait;

	metric_add(METRIC_CONNECTION_ERRORS, 1, source_rows[c->type].name, err_name(t->error.cls));
	if (t->job->job->publish == PUBLISH_STREAM && t->published)
		t->streamed_before = true;
	/* Temporary credentials that ended before their time: not the job's fault. */
	if (t->done->stale_login && keyring_stale(m, t)) {
		retry(t, 0);
		return;
	}
	switch (err_disposition(t->error.cls)) {
	case ERR_DO_HOLD:
		/* Kafka's trouble: never on the job's account. */
		wait = HOLD_FIRST_MS;
		for (uint32_t i = 0; i < t->holds && wait < HOLD_MAX_MS; i++)
			wait *= 2;
		t->holds++;
		retry(t, wait < HOLD_MAX_MS ? wait : HOLD_MAX_MS);
		return;
	case ERR_DO_RETRY:
		if (t->charged++ < (uint32_t)budget && retry_charged(t))
			return;
		break;
	case ERR_DO_ALONE:
		if (++t->crashes == 1) {
			t->alone = true;
			retry(t, 0);
			return;
		}
		break;
	case ERR_DO_DEAD:
	case ERR_DO_NONE:
		break;
	}
	task_final(t, TASK_DEAD);
}

void
jobs_task_ended(struct master *m, struct task *t)
{
	t->listed_all = false;
	endpoint_ended(m, t, t->error.cls != ERR_OK);
	event_ctx_free(t->events);
	t->events = NULL;
	if (t->job->revoked) {
		jobs_drop_if_free(t->job);
		return;
	}
	/* Also where it would be tried again: what an operator ended stays ended. */
	if (t->cancel && (t->error.cls == ERR_OK ? t->published < t->done->matched : err_disposition(t->error.cls) != ERR_DO_DEAD))
		err_set(&t->error, ERR_CANCELLED, "cancelled by an operator");
	if (t->error.cls == ERR_OK && t->held)
		err_set(&t->error, ERR_KAFKA, "Kafka did not take all events");
	if (t->error.cls == ERR_OK && t->too_large)
		err_set(&t->error, ERR_MESSAGE_TOO_LARGE, "an event is larger than Kafka takes (kafka.message_max %lld, and the topic's max.message.bytes)",
		    (long long)m->cfg->kafka_message_max);
	if (t->done_ms && t->published)
		metric_observe(METRIC_JOB_PHASE, (double)(loop_now(m->loop) - t->done_ms) / 1000, "publish");
	if (t->error.cls == ERR_OK)
		task_final(t, TASK_DONE);
	else
		attempt_failed(t);
}

void
jobs_task_started(struct master *m, struct task *t)
{
	struct jobrec *rec = t->job;

	if (rec->started_ns)
		return;
	rec->started_ns = clock_real_ns();
	rec->started_ms = loop_now(m->loop);
	metric_observe(METRIC_JOB_QUEUE, (double)(rec->started_ms - rec->received_ms) / 1000, NULL);
	LOG(LOG_INFO, "job_started", LS("job_id", rec->job_id), LS("org_id", rec->org_id), LI("slot", t->slot->index));
}

/* ---- ending it from outside ----------------------------------------------------------------------------------------------- */

/* Takes a waiting task out of wherever it waits; false: it is with a worker or with Kafka. */
bool
jobs_unqueue(struct task *t)
{
	struct master *m = t->job->m;

	switch (t->state) {
	case TASK_QUEUED:
		sched_remove(m->sched, t);
		return true;
	case TASK_NEW:
	case TASK_RETRY:
		timer_cancel(m->loop, &t->timer);
		return true;
	default:
		return false;
	}
}

void
jobs_revoke(struct jobs *j, int32_t partition, uint32_t epoch)
{
	struct jobrec *rec, *next;
	size_t n = 0;

	for (rec = TAILQ_FIRST(&j->list); rec; rec = next) {
		next = TAILQ_NEXT(rec, entry);
		if (rec->at.epoch != epoch)
			continue;
		leave_list(rec);
		TAILQ_INSERT_TAIL(&j->gone, rec, entry);
		rec->revoked = true;
		timer_cancel(j->m->loop, &rec->timer);
		for (size_t i = 0; i < rec->n_tasks; i++) {
			struct task *t = &rec->tasks[i];

			t->cancel = true;
			if (!jobs_unqueue(t) && t->slot)
				dispatch_cancel(j->m, t);
		}
		metric_add(METRIC_JOBS_REVOKED, 1, NULL, NULL);
		n++;
		jobs_drop_if_free(rec);
	}
	if (n)
		LOG(LOG_WARN, "jobs_revoked", LI("partition", partition), LI("jobs", n));
}

void
jobs_cancel_one(struct jobrec *rec)
{
	rec->cancelled = true;
	/* tasks_left must not reach 0 before the last task was seen: the record would be gone under the loop. */
	rec->tasks_left++;
	for (size_t i = 0; i < rec->n_tasks; i++) {
		struct task *t = &rec->tasks[i];

		t->cancel = true;
		if (jobs_unqueue(t)) {
			err_set(&t->error, ERR_CANCELLED, "cancelled by an operator");
			task_final(t, TASK_DEAD);
		} else if (t->state == TASK_RUNNING && t->slot) {
			dispatch_cancel(rec->m, t);
		}
	}
	if (--rec->tasks_left == 0)
		jobs_finish(rec);
}

/* It leaves for the deferred topic, which does not take it: it is in hand as before. */
static void
take_back(struct jobrec *rec)
{
	if (!rec->deferring || rec->pending)
		return;
	timer_cancel(rec->m->loop, &rec->timer);
	rec->deferring = rec->finishing = false;
	rec->holds = 0;
}

size_t
jobs_cancel(struct jobs *j, const char *job_id)
{
	struct jobrec *rec, *next;
	size_t n = 0;

	for (rec = TAILQ_FIRST(&j->list); rec; rec = next) {
		next = TAILQ_NEXT(rec, entry);
		if (!rec->job_id || strcmp(rec->job_id, job_id) || rec->cancelled)
			continue;
		take_back(rec);
		if (!rec->finishing) {
			LOG(LOG_WARN, "job_cancel", LS("job_id", job_id), LI("partition", rec->origin.partition),
			    LI("offset", rec->origin.offset));
			jobs_cancel_one(rec);
			n++;
		}
	}
	return n;
}

void
jobs_cancel_at(struct jobs *j, const struct origin *at)
{
	struct jobrec *rec;

	TAILQ_FOREACH(rec, &j->list, entry)
		if (rec->at.deferred == at->deferred && rec->at.epoch == at->epoch && rec->at.partition == at->partition && rec->at.offset == at->offset)
			break;
	if (!rec || rec->cancelled)
		return;
	take_back(rec);
	if (!rec->finishing)
		jobs_cancel_one(rec);
}

static void
lift(struct jobs *j, struct task *t)
{
	sched_lift(j->m->sched, t);
}

static void
put_back(struct jobs *j, struct task *t)
{
	struct err e = ERR_INIT;

	/* Where nothing takes it any more, it is refused when its turn comes. */
	pool_assign(j->m->pool, t, &e);
	if (!t->parked && !t->waits_at && !t->awaits)
		sched_push(j->m->sched, t);
}

static void
each_queued(struct jobs *j, void (*what)(struct jobs *, struct task *))
{
	struct jobrec *rec;

	TAILQ_FOREACH(rec, &j->list, entry)
		for (size_t i = 0; i < rec->n_tasks; i++)
			if (rec->tasks[i].state == TASK_QUEUED)
				what(j, &rec->tasks[i]);
}

void
jobs_reloaded(struct jobs *j)
{
	each_queued(j, lift);
	each_queued(j, put_back);
}

/* ---- the rest ----------------------------------------------------------------------------------------------------------------- */

struct master *
jobs_owner(const struct jobs *j)
{
	return j->m;
}

struct jobs *
jobs_new(struct master *m)
{
	struct jobs *j = xcalloc(1, sizeof(*j));

	j->m = m;
	TAILQ_INIT(&j->list);
	TAILQ_INIT(&j->gone);
	return j;
}

void
jobs_free(struct jobs *j)
{
	struct jobrec *rec;

	if (!j)
		return;
	HASH_CLEAR(hh, j->placed);
	while ((rec = TAILQ_FIRST(&j->list))) {
		TAILQ_REMOVE(&j->list, rec, entry);
		free_record(rec);
	}
	while ((rec = TAILQ_FIRST(&j->gone))) {
		TAILQ_REMOVE(&j->gone, rec, entry);
		free_record(rec);
	}
	free(j);
}

bool
jobs_room(const struct jobs *j, size_t more, size_t bytes)
{
	const struct config *c = j->m->cfg;

	return j->m->phase == MASTER_RUNNING && j->n + more < (size_t)c->jobs_queue_max && j->bytes + bytes < (size_t)c->jobs_queue_bytes;
}

size_t
jobs_count(const struct jobs *j)
{
	return j->n;
}

size_t
jobs_bytes(const struct jobs *j)
{
	return j->bytes;
}

struct jobrec *
jobs_first(const struct jobs *j)
{
	return TAILQ_FIRST(&j->list);
}

struct jobrec *
jobs_last(const struct jobs *j)
{
	return TAILQ_LAST(&j->list, job_list);
}
