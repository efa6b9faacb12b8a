/*
 * jobs.c - one record per job: taken from a message, its tasks queued, tried again or given up, its terminal records
 * sent, its offset completed. Called by consume.c, dispatch.c and control.c; frees every job.
 *
 * A job ends in one way only: finish() sends its dead letter where something failed, then its terminal record; when
 * both are acknowledged the offset is completed. Until then a death of the master replays the whole job. What an
 * error means for the job is read off errors.def, here and nowhere else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <json-c/json.h>

#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define HOLD_FIRST_MS 1000
#define HOLD_MAX_MS 30000
#define RECORDS_HOLD_MAX_MS 8000
#define MASTER_DEATHS_MAX 2
#define TASK_BYTES (sizeof(struct task) + sizeof(struct source_conf))

TAILQ_HEAD(job_list, jobrec);

struct jobs {
	struct master *m;
	struct job_list list;           /* accepted and not ended, in order of arrival */
	struct job_list gone;           /* revoked, but a worker or Kafka still holds on to them */
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

static void finish(struct jobrec *);
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
		/* Where nothing takes it any more since a reload, it is refused when its turn comes. */
		pool_assign(m->pool, t, &e);
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
static void
drop_if_free(struct jobrec *rec)
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

	TAILQ_REMOVE(&j->list, rec, entry);
	j->n--;
	j->bytes -= rec->bytes;
}

static const char *
label(const struct jobrec *rec)
{
	return rec->job ? job_source_label(rec->job) : "none";
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
	journal_forget(m->journal, rec->origin.partition, rec->origin.offset);
	leave_list(rec);
	consumer_completed(m->consumer, &rec->origin);
	free_record(rec);
	consumer_kick(m->consumer);
}

static void
send_again(void *arg)
{
	send_records(arg);
}

static void
records_settled(struct jobrec *rec)
{
	int64_t ms = HOLD_FIRST_MS;

	if (rec->revoked) {
		drop_if_free(rec);
		return;
	}
	if (rec->held) {
		/* Only what was not taken goes again: the topic that works must not fill up while the other one does not. */
		for (uint32_t i = 0; i < rec->holds && ms < RECORDS_HOLD_MAX_MS; i++)
			ms *= 2;
		rec->holds++;
		timer_set(rec->m->loop, &rec->timer, ms);
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

static void
finish(struct jobrec *rec)
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
		finish(rec);
}

static void
queue_again(void *arg)
{
	struct task *t = arg;
	int64_t due = t->job->job->scheduled_at_ns, early = due == TIME_UNKNOWN ? 0 : due - clock_real_ns();

	/* The timer runs by the monotonic clock, not-before by the other, which may have been slowed meanwhile. */
	if (t->state == TASK_NEW && early > 0) {
		timer_set(t->job->m->loop, &t->timer, early / 1000000 + 1);
		return;
	}
	task_set_state(t->job->m, t, TASK_QUEUED);
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
retry(struct task *t, int64_t ms)
{
	metric_add(METRIC_RETRIES, 1, err_name(t->error.cls), NULL);
	LOG(LOG_WARN, "job_retry", LS("job_id", t->job->job_id), LI("attempt", t->attempt), LS("error_class", err_name(t->error.cls)),
	    LS("error", t->error.text), LI("wait_ms", ms));
	later(t, ms);
}

static void
attempt_failed(struct task *t)
{
	struct master *m = t->job->m;
	const struct source_conf *c = &t->job->job->sources[t->index];
	int64_t budget = field_or(c, SF_COMMON_RETRIES, m->cfg->retry_max), wait;
	uint64_t asked;

	metric_add(METRIC_CONNECTION_ERRORS, 1, source_rows[c->type].name, err_name(t->error.cls));
	if (t->job->job->publish == PUBLISH_STREAM && t->published)
		t->streamed_before = true;
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
		/* What the server asks for, where a retry can wait so long; until later the job cannot be held. */
		asked = t->done->retry_after_ms;
		if (asked > (uint64_t)m->cfg->jobs_hold_max) {
			struct err why = t->error;

			err_set(&t->error, why.cls, "%s; it asks to wait %llu s, which is beyond jobs.hold_max", why.text,
			    (unsigned long long)(asked / 1000));
			break;
		}
		if (t->charged++ < (uint32_t)budget) {
			wait = retry_wait(t);
			retry(t, wait < (int64_t)asked ? (int64_t)asked : wait);
			return;
		}
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
		drop_if_free(t->job);
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

/* ---- taking a job ----------------------------------------------------------------------------------------------------------- */

static void
limits(const struct master *m, struct job_limits *l)
{
	const struct config *c = m->cfg;

	*l = (struct job_limits){
		.message_max = (size_t)c->jobs_message_max,
		.metadata_max = (size_t)c->jobs_metadata_max,
		.source_max = (size_t)c->jobs_source_max,
		.timeout_max_ms = c->timeout_job_max,
		.reject_unknown = c->jobs_unknown_fields == 1,
		.allow_faults = c->dummy_faults,
		.allow_inline = c->credentials_inline,
		.allow_unverified_tls = c->network_unverified_tls,
		.allow_unknown_hosts = c->network_unknown_hosts,
		.connections_max = c->network_connections,
		.file_roots = &c->credentials_file_roots,
		.dummy_root = c->dummy_path,
		.local_roots = &c->local_roots,
	};
}

static int
check_times(const struct jobrec *rec, int64_t *wait_ms, struct err *e)
{
	const struct config *c = rec->m->cfg;
	const struct job *j = rec->job;

	*wait_ms = 0;
	if (c->jobs_max_age && j->created_at_ns != TIME_UNKNOWN && rec->received_ns - j->created_at_ns > c->jobs_max_age * 1000000)
		return err_set(e, ERR_EXPIRED, "created_at is %lld s ago, jobs.max_age is %lld s",
		    (long long)((rec->received_ns - j->created_at_ns) / 1000000000), (long long)(c->jobs_max_age / 1000));
	if (j->scheduled_at_ns == TIME_UNKNOWN || j->scheduled_at_ns <= rec->received_ns)
		return 0;
	*wait_ms = (j->scheduled_at_ns - rec->received_ns) / 1000000 + 1;
	if (*wait_ms > c->jobs_hold_max)
		return err_set(e, ERR_UNSUPPORTED, "scheduled_at is %lld s away; this version holds a job for at most jobs.hold_max (%lld s)",
		    (long long)(*wait_ms / 1000), (long long)(c->jobs_hold_max / 1000));
	return 0;
}

/* A job of which a source fits no pool is refused before any of it is begun. */
static int
check_pools(struct jobrec *rec, struct err *e)
{
	for (size_t i = 0; i < rec->job->n_sources; i++) {
		struct task probe = { .job = rec, .index = i };

		if (pool_assign(rec->m->pool, &probe, e) < 0)
			return -1;
	}
	return 0;
}

static void
make_tasks(struct jobrec *rec, int64_t wait_ms)
{
	rec->n_tasks = rec->tasks_left = rec->job->n_sources;
	rec->tasks = xcalloc(rec->n_tasks, sizeof(*rec->tasks));
	for (size_t i = 0; i < rec->n_tasks; i++) {
		struct task *t = &rec->tasks[i];

		t->job = rec;
		t->index = i;
		t->error = (struct err)ERR_INIT;
		t->done = &task_no_account;
		timer_init(&t->timer, queue_again, t);
		if (wait_ms)
			/* From now, not from the beginning of the loop's round: never before its time. */
			timer_set(rec->m->loop, &t->timer, wait_ms + clock_mono_ms() - loop_now(rec->m->loop));
		else
			task_set_state(rec->m, t, TASK_QUEUED);
	}
}

/* Records and log lines show the text alone: it has to say which field is wrong. */
static void
name_field(struct err *e)
{
	char text[ERR_TEXT_MAX];

	if (!e->pointer[0])
		return;
	memcpy(text, e->text, sizeof(text));
	text[sizeof(text) - sizeof(e->pointer) - 3] = '\0';
	snprintf(e->text, sizeof(e->text), "%s: %s", e->pointer, text);
}

/* A message that was refused but is a JSON object: its terminal record echoes what a job's would. */
static void
echo_refused(struct jobrec *rec)
{
	struct json_object *o = rec->masked ? json_tokener_parse(rec->masked) : NULL, *v;
	struct buf text = BUF_INIT;

	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return;
	}
	if (!rec->org_id && !json_object_object_get_ex(o, "org_id", NULL))
		rec->org_id = xstrdup("default");
	if (json_object_object_get_ex(o, "metadata", &v) && json_object_is_type(v, json_type_object)) {
		job_echo_write(v, &text);
		if (text.len <= (size_t)rec->m->cfg->jobs_metadata_max)
			rec->refused_metadata = xmemdup0(text.p, text.len);
		buf_release(&text);
	}
	json_object_put(o);
}

static void
parse(struct jobrec *rec, const struct message *msg, int64_t *wait_ms)
{
	struct job_limits l;

	limits(rec->m, &l);
	rec->job = job_parse(msg->payload, msg->n, &l, &rec->job_id, &rec->org_id, &rec->masked, &rec->parse_error);
	if (!rec->job) {
		name_field(&rec->parse_error);
		echo_refused(rec);
		return;
	}
	free(rec->job_id);
	free(rec->org_id);
	rec->job_id = xstrdup(rec->job->job_id);
	rec->org_id = xstrdup(rec->job->org_id);
	rec->parse_error = (struct err)ERR_INIT;
	if (!tenant_permits_job(rec->m->cfg, rec->job, rec->m->cfg->topic_jobs, &rec->parse_error) &&
	    !check_pools(rec, &rec->parse_error))
		check_times(rec, wait_ms, &rec->parse_error);
}

void
jobs_accept(struct jobs *j, const struct message *msg)
{
	struct master *m = j->m;
	struct jobrec *rec = xcalloc(1, sizeof(*rec));
	int64_t wait_ms = 0;

	rec->m = m;
	rec->id = ++j->next_id;
	rec->origin = msg->origin;
	rec->key = msg->key ? xmemdup0(msg->key, msg->key_n) : NULL;
	rec->key_n = msg->key_n;
	rec->bytes = msg->n + sizeof(*rec);
	rec->payload_n = msg->n;
	rec->received_ns = clock_real_ns();
	rec->received_ms = loop_now(m->loop);
	rec->parse_error = (struct err)ERR_INIT;
	snprintf(rec->traceparent, sizeof(rec->traceparent), "%s", msg->traceparent ? msg->traceparent : "");
	timer_init(&rec->timer, send_again, rec);
	sha256_hex(msg->payload, msg->n, rec->payload_sha256);
	TAILQ_INSERT_TAIL(&j->list, rec, entry);
	j->n++;
	j->bytes += rec->bytes;
	metric_add(METRIC_JOBS_ACCEPTED, 1, NULL, NULL);

	if (journal_deaths(m->journal, msg->origin.partition, msg->origin.offset) >= MASTER_DEATHS_MAX) {
		/* Not even parsed: the parser may be what it kills. */
		err_set(&rec->parse_error, ERR_MASTER_CRASH, "the master died %d times with this message in hand", MASTER_DEATHS_MAX);
	} else {
		journal_hold(m->journal, &msg->origin);
		parse(rec, msg, &wait_ms);
		journal_clear(m->journal);
	}
	LOG(LOG_INFO, "job_accepted", LS("job_id", rec->job_id), LS("org_id", rec->org_id), LI("partition", rec->origin.partition),
	    LI("offset", rec->origin.offset));
	if (rec->parse_error.cls != ERR_OK) {
		finish(rec);
		return;
	}
	/* A short message can name many sources, each of which takes far more than its text. */
	j->bytes += (rec->job->n_sources - 1) * TASK_BYTES;
	rec->bytes += (rec->job->n_sources - 1) * TASK_BYTES;
	make_tasks(rec, wait_ms);
}

/* ---- ending it from outside ----------------------------------------------------------------------------------------------- */

/* Takes a waiting task out of wherever it waits; false: it is with a worker or with Kafka. */
static bool
unqueue(struct task *t)
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
		if (rec->origin.partition != partition || rec->origin.epoch != epoch)
			continue;
		leave_list(rec);
		TAILQ_INSERT_TAIL(&j->gone, rec, entry);
		rec->revoked = true;
		timer_cancel(j->m->loop, &rec->timer);
		for (size_t i = 0; i < rec->n_tasks; i++) {
			struct task *t = &rec->tasks[i];

			t->cancel = true;
			if (!unqueue(t) && t->slot)
				dispatch_cancel(j->m, t);
		}
		metric_add(METRIC_JOBS_REVOKED, 1, NULL, NULL);
		n++;
		drop_if_free(rec);
	}
	if (n)
		LOG(LOG_WARN, "jobs_revoked", LI("partition", partition), LI("jobs", n));
}

static void
cancel(struct jobrec *rec)
{
	rec->cancelled = true;
	/* tasks_left must not reach 0 before the last task was seen: the record would be gone under the loop. */
	rec->tasks_left++;
	for (size_t i = 0; i < rec->n_tasks; i++) {
		struct task *t = &rec->tasks[i];

		t->cancel = true;
		if (unqueue(t)) {
			err_set(&t->error, ERR_CANCELLED, "cancelled by an operator");
			task_final(t, TASK_DEAD);
		} else if (t->state == TASK_RUNNING && t->slot) {
			dispatch_cancel(rec->m, t);
		}
	}
	if (--rec->tasks_left == 0)
		finish(rec);
}

size_t
jobs_cancel(struct jobs *j, const char *job_id)
{
	struct jobrec *rec, *next;
	size_t n = 0;

	for (rec = TAILQ_FIRST(&j->list); rec; rec = next) {
		next = TAILQ_NEXT(rec, entry);
		if (rec->job_id && !strcmp(rec->job_id, job_id) && !rec->finishing && !rec->cancelled) {
			LOG(LOG_WARN, "job_cancel", LS("job_id", job_id), LI("partition", rec->origin.partition),
			    LI("offset", rec->origin.offset));
			cancel(rec);
			n++;
		}
	}
	return n;
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
	if (!t->parked)
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
jobs_room(const struct jobs *j)
{
	const struct config *c = j->m->cfg;

	return j->m->phase == MASTER_RUNNING && j->n < (size_t)c->jobs_queue_max && j->bytes < (size_t)c->jobs_queue_bytes;
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
