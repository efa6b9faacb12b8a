/*
 * accept.c - takes a job: from a message to a record with its tasks, or to the error that it ends with.
 *
 * Called by consume.c with messages of the polling queues, and by deferred.c with those that come back from the deferred
 * topic. Every message that is accepted becomes a record of jobs.c, whatever is wrong with it. One that must wait
 * longer than jobs.hold_max goes on to the deferred topic at once (defer.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/defer.h"
#include "master/jobs_priv.h"
#include "common/banned.h"

#define MASTER_DEATHS_MAX 2
#define TASK_BYTES (sizeof(struct task) + sizeof(struct source_conf))

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
		.allow_mounts = c->local_mounts,
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
	/* One that was deferred had its age when it was taken first. */
	if (c->jobs_max_age && !rec->deferrals && j->created_at_ns != TIME_UNKNOWN && rec->received_ns - j->created_at_ns > c->jobs_max_age * 1000000)
		return err_set(e, ERR_EXPIRED, "created_at is %lld s ago, jobs.max_age is %lld s",
		    (long long)((rec->received_ns - j->created_at_ns) / 1000000000), (long long)(c->jobs_max_age / 1000));
	if (j->scheduled_at_ns == TIME_UNKNOWN || j->scheduled_at_ns <= rec->received_ns)
		return 0;
	*wait_ms = (j->scheduled_at_ns - rec->received_ns) / 1000000 + 1;
	if (*wait_ms > c->deferred_longest)
		return err_set(e, ERR_POLICY, "scheduled_at is %lld s away, deferred.longest is %lld s", (long long)(*wait_ms / 1000),
		    (long long)(c->deferred_longest / 1000));
	return 0;
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

/* What earlier attempts, before it was deferred, have cost and come to. */
static void
task_resume(struct task *t, const struct defer_task *was)
{
	t->attempt = was->attempt;
	t->charged = was->charged;
	t->crashes = was->crashes;
	t->alone = was->crashes > 0;
	t->streamed_before = was->streamed;
}

static void
make_tasks(struct jobrec *rec, int64_t wait_ms, const struct deferral *d)
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
		if (d)
			task_resume(t, &d->task[i]);
		if (rec->waits_long)
			continue;
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

/* Its dead letter shows it, and its bytes are not kept. */
static void
mask_refused(struct jobrec *rec, const struct message *msg)
{
	struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;

	if (job_mask_message(msg->payload, msg->n, &text, &ignored) == 0)
		rec->masked = buf_take(&text);
	buf_release(&text);
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
	if (msg->bad)
		rec->parse_error = *msg->bad;
	else if (msg->deferral && (msg->deferral->n_tasks != rec->job->n_sources || strcmp(msg->deferral->job_id, rec->job_id) ||
	    strcmp(msg->deferral->org_id, rec->org_id)))
		err_set(&rec->parse_error, ERR_INVALID_JOB, "the headers of the deferred job are not those of its message");
	else if (!tenant_permits_job(rec->m->cfg, rec->job, origin_topic(rec->m->cfg, &rec->origin), &rec->parse_error) &&
	    !check_pools(rec, &rec->parse_error))
		check_times(rec, wait_ms, &rec->parse_error);
	if (rec->parse_error.cls != ERR_OK)
		mask_refused(rec, msg);
}

/* It comes back from the deferred topic: what is known of it from before. */
static void
resume(struct jobrec *rec, const struct deferral *d)
{
	rec->deferrals = d->count;
	rec->first_received_ns = d->received_ns;
	rec->started_ns = d->started_ns;
	rec->started_ms = d->started_ns ? rec->received_ms : 0;
}

/* It was deferred before, and its offset not committed since: the copy that waits is the job. */
static void
skip(struct master *m, const struct message *msg)
{
	LOG(LOG_INFO, "job_deferred_before", LS("topic", origin_topic(m->cfg, &msg->origin)), LI("partition", msg->origin.partition), LI("offset", msg->origin.offset));
	metric_add(METRIC_JOBS_SKIPPED, 1, NULL, NULL);
	metric_add(METRIC_KAFKA_CONSUMED, 1, origin_topic(m->cfg, &msg->at), "skipped");
	consumer_completed(m->consumer, &msg->at);
}

void
jobs_accept(struct jobs *j, const struct message *msg)
{
	struct master *m = jobs_owner(j);
	struct jobrec *rec;
	char digest[65];
	int64_t wait_ms = 0;

	sha256_hex(msg->payload, msg->n, digest);
	if (!msg->at.deferred && deferred_holds(m->deferred, &msg->origin, digest)) {
		skip(m, msg);
		return;
	}
	rec = xcalloc(1, sizeof(*rec));

	rec->m = m;
	rec->origin = msg->origin;
	rec->origin.topic = msg->origin.topic && strcmp(msg->origin.topic, m->cfg->topic_jobs) ? xstrdup(msg->origin.topic) : NULL;
	rec->at = msg->at;
	rec->key = msg->key ? xmemdup0(msg->key, msg->key_n) : NULL;
	rec->key_n = msg->key_n;
	rec->bytes = msg->n + sizeof(*rec);
	rec->payload_n = msg->n;
	rec->received_ns = clock_real_ns();
	rec->received_ms = loop_now(m->loop);
	rec->first_received_ns = rec->received_ns;
	if (msg->deferral)
		resume(rec, msg->deferral);
	rec->parse_error = (struct err)ERR_INIT;
	snprintf(rec->traceparent, sizeof(rec->traceparent), "%s", msg->traceparent ? msg->traceparent : "");
	timer_init(&rec->timer, jobs_send_again, rec);
	memcpy(rec->payload_sha256, digest, sizeof(digest));
	jobs_enter(j, rec);
	metric_add(METRIC_JOBS_ACCEPTED, 1, NULL, NULL);
	metric_add(METRIC_KAFKA_CONSUMED, 1, msg->at.deferred ? m->cfg->topic_deferred : origin_topic(m->cfg, &msg->at), "accepted");

	if (journal_deaths(m->journal, &rec->origin) >= MASTER_DEATHS_MAX) {
		/* Not even parsed: the parser may be what it kills. */
		err_set(&rec->parse_error, ERR_MASTER_CRASH, "the master died %d times with this message in hand", MASTER_DEATHS_MAX);
	} else {
		journal_hold(m->journal, &rec->origin);
		parse(rec, msg, &wait_ms);
		journal_clear(m->journal);
	}
	LOG(LOG_INFO, "job_accepted", LS("job_id", rec->job_id), LS("org_id", rec->org_id), LI("partition", rec->origin.partition),
	    LI("offset", rec->origin.offset));
	if (rec->parse_error.cls != ERR_OK) {
		jobs_finish(rec);
		return;
	}
	/* A short message can name many sources, each of which takes far more than its text. */
	jobs_grow(rec, (rec->job->n_sources - 1) * TASK_BYTES);
	rec->payload = xmemdup0(msg->payload, msg->n);
	tenant_took(rec);
	rec->waits_long = wait_ms > m->cfg->jobs_hold_max;
	make_tasks(rec, wait_ms, msg->deferral);
	if (msg->cancel)
		jobs_cancel_one(rec);
	else if (rec->waits_long && jobs_defer(rec, rec->job->scheduled_at_ns, DEFER_SCHEDULE, &rec->parse_error) < 0)
		jobs_finish(rec);
}
