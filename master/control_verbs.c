/*
 * control_verbs.c - what each verb of the control socket answers: JSON from the rooms, and the few actions.
 *
 * Called by control.c, which has checked the peer's rights. Reads the rooms; changes something only by their own
 * calls. Every string leaves escaped. Lists are bounded and say how much they leave out.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "master/control_priv.h"
#include "master/status_priv.h"
#include "common/banned.h"

static double
seconds_since(const struct master *m, int64_t ms)
{
	return ms ? (double)(loop_now(m->loop) - ms) / 1000 : 0;
}

static int
no_arguments(const struct control_request *rq, struct buf *out)
{
	return rq->n == 1 ? 0 : control_fail(out, EX_USAGE, "%s takes no argument", rq->word[0]);
}

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

int
control_ping(const struct control_request *rq, struct buf *out)
{
	const char *why = master_not_ready(rq->m);
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "pid", getpid());
	jsonw_bool(&j, "ready", !why);
	jsonw_str(&j, "reason", why);
	jsonw_str(&j, "phase", status_phase(rq->m));
	jsonw_str(&j, "version", VERSION);
	jsonw_end_object(&j);
	return 0;
}

int
control_status(const struct control_request *rq, struct buf *out)
{
	if (no_arguments(rq, out))
		return EX_USAGE;
	status_json(rq->m, out);
	return 0;
}

static void
put_worker(struct jsonw *j, const struct master *m, const struct slot *s)
{
	const struct task *t = s->task;

	jsonw_object(j, NULL);
	jsonw_int(j, "slot", s->index);
	jsonw_str(j, "state", worker_state_name(s->state));
	jsonw_str(j, "pool", slot_pool(s));
	jsonw_str(j, "role", worker_role_name(s->role));
	jsonw_str(j, "bound_to", slot_bound_to(s));
	if (s->proc.pid)
		jsonw_int(j, "pid", s->proc.pid);
	else
		jsonw_null(j, "pid");
	jsonw_int(j, "generation", s->generation);
	jsonw_dbl(j, "since_seconds", seconds_since(m, s->since_ms), 3);
	jsonw_dbl(j, "age_seconds", s->proc.pid ? seconds_since(m, s->started_ms) : 0, 3);
	jsonw_int(j, "tasks_served", (int64_t)s->tasks_served);
	jsonw_int(j, "failures", s->failures);
	jsonw_bool(j, "paused", s->paused);
	jsonw_str(j, "job_id", t ? t->job->job_id : NULL);
	jsonw_str(j, "org_id", t ? t->job->org_id : NULL);
	jsonw_str(j, "source_type", t ? source_rows[t->job->job->sources[t->index].type].name : NULL);
	jsonw_str(j, "source_id", t ? t->job->job->sources[t->index].source_id : NULL);
	jsonw_int(j, "attempt", t ? t->attempt : 0);
	jsonw_int(j, "listed", (int64_t)s->listed);
	jsonw_int(j, "matched", (int64_t)s->matched);
	jsonw_str(j, "sandbox", *s->sandbox ? s->sandbox : NULL);
	jsonw_str(j, "sandbox_mode", *s->sandbox ? sandbox_mode_name(s->confined.mode) : NULL);
	jsonw_int(j, "landlock", *s->sandbox ? s->confined.landlock : 0);
	jsonw_bool(j, "filter", *s->sandbox && s->confined.filter);
	jsonw_int(j, "uid", *s->sandbox ? s->confined.uid : 0);
	jsonw_end_object(j);
}

int
control_workers(const struct control_request *rq, struct buf *out)
{
	const struct master *m = rq->m;
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "restarts", (int64_t)pool_restarts(m->pool));
	jsonw_array(&j, "workers");
	for (size_t i = 0; i < pool_size(m->pool); i++)
		put_worker(&j, m, pool_slot(m->pool, i));
	jsonw_end_array(&j);
	broker_json(&j, m);
	jsonw_end_object(&j);
	return 0;
}

#define ENDPOINTS_SHOWN 1024

int
control_endpoints(const struct control_request *rq, struct buf *out)
{
	static struct endpoint_view v[ENDPOINTS_SHOWN];
	size_t n;
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	n = endpoints_view(rq->m, v, ENDPOINTS_SHOWN);
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "tasks_per_endpoint", rq->m->cfg->network_tasks);
	jsonw_int(&j, "requests_per_second", rq->m->cfg->network_endpoint_requests);
	jsonw_int(&j, "endpoint_connections", rq->m->cfg->network_endpoint_connections);
	jsonw_array(&j, "endpoints");
	for (size_t i = 0; i < n; i++) {
		jsonw_object(&j, NULL);
		jsonw_str(&j, "endpoint", v[i].name);
		jsonw_int(&j, "running", v[i].running);
		jsonw_int(&j, "waiting", v[i].waiting);
		jsonw_str(&j, "waits_for", v[i].waits_for);
		jsonw_int(&j, "connections", v[i].held);
		if (rq->m->cfg->network_endpoint_connections)
			jsonw_int(&j, "connections_max", rq->m->cfg->network_endpoint_connections);
		else
			jsonw_null(&j, "connections_max");
		jsonw_int(&j, "kept_connections", v[i].kept);
		jsonw_int(&j, "reused_connections", (int64_t)v[i].reused);
		jsonw_int(&j, "reconnections", (int64_t)v[i].reconnected);
		jsonw_dbl(&j, "connection_wait_seconds", (double)v[i].connection_wait_ms / 1000, 3);
		jsonw_bool(&j, "answers", v[i].answers);
		jsonw_int(&j, "requests", (int64_t)v[i].requests);
		jsonw_dbl(&j, "request_wait_seconds", (double)v[i].request_wait_ms / 1000, 3);
		jsonw_int(&j, "tasks", (int64_t)v[i].tasks);
		jsonw_int(&j, "failed", (int64_t)v[i].failed);
		jsonw_time(&j, "certificate_ends_at", v[i].cert_expires ? v[i].cert_expires * 1000000000 : TIME_UNKNOWN);
		jsonw_dbl(&j, "idle_seconds", v[i].running ? 0 : (double)v[i].idle_ms / 1000, 3);
		jsonw_end_object(&j);
	}
	jsonw_end_array(&j);
	jsonw_end_object(&j);
	return 0;
}

#define TENANTS_SHOWN 1000

int
control_tenants(const struct control_request *rq, struct buf *out)
{
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "more", (int64_t)tenants_json(&j, rq->m, TENANTS_SHOWN));
	jsonw_end_object(&j);
	return 0;
}

static void
put_death(struct jsonw *j, const struct death *d)
{
	const struct verdict *v = &d->verdict;

	jsonw_object(j, NULL);
	jsonw_time(j, "at", d->at_ns);
	jsonw_int(j, "slot", d->slot);
	jsonw_int(j, "generation", d->generation);
	jsonw_int(j, "pid", v->pid);
	jsonw_str(j, "cause", death_cause_name(d->cause));
	jsonw_int(j, "signal", v->signal);
	jsonw_int(j, "exit_code", v->exit_code);
	jsonw_int(j, "syscall", v->syscall);
	jsonw_str(j, "syscall_name", v->syscall_name[0] ? v->syscall_name : NULL);
	jsonw_str(j, "job_id", *d->job_id ? d->job_id : NULL);
	jsonw_str(j, "org_id", *d->org_id ? d->org_id : NULL);
	jsonw_str(j, "source_type", *d->source_type ? d->source_type : NULL);
	jsonw_str(j, "phase", *d->job_id ? task_phase_name(v->phase) : NULL);
	jsonw_dbl(j, "cpu_seconds", v->cpu_seconds, 3);
	jsonw_int(j, "max_rss_bytes", v->max_rss_bytes);
	jsonw_str(j, "text", d->text);
	jsonw_str(j, "stderr_tail", *v->stderr_tail ? v->stderr_tail : NULL);
	jsonw_end_object(j);
}

int
control_crashes(const struct control_request *rq, struct buf *out)
{
	const struct death *d;
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_array(&j, "crashes");
	for (size_t i = 0; (d = deaths_get(pool_deaths(rq->m->pool), i)); i++)
		put_death(&j, d);
	jsonw_end_array(&j);
	jsonw_end_object(&j);
	return 0;
}

/* The state of a job is that of its furthest task that has not ended. */
static const char *
job_state(const struct jobrec *rec)
{
	static const enum task_state order[] = { TASK_RUNNING, TASK_PUBLISHING, TASK_QUEUED, TASK_RETRY, TASK_NEW };

	if (rec->finishing)
		return "finishing";
	for (size_t o = 0; o < ARRAY_LEN(order); o++)
		for (size_t i = 0; i < rec->n_tasks; i++)
			if (rec->tasks[i].state == order[o])
				return order[o] == TASK_NEW ? "waiting" : task_state_name(order[o]);
	return "ending";
}

/* The first of its sources that waits for more than a worker: the setting, or what it is. */
static const char *
job_waits_for(const struct jobrec *rec)
{
	for (size_t i = 0; i < rec->n_tasks; i++) {
		const struct task *t = &rec->tasks[i];

		if (t->parked)
			return endpoint_waits_for(t);
		if (t->waits_at)
			return tenant_waits_for(t);
		if (t->awaits)
			return "credentials";
	}
	return NULL;
}

static void
put_job(struct jsonw *j, const struct jobrec *rec)
{
	uint32_t attempt = 0;
	uint64_t listed = 0;
	const struct slot *slot = NULL;

	for (size_t i = 0; i < rec->n_tasks; i++) {
		const struct task *t = &rec->tasks[i];

		if (t->attempt > attempt)
			attempt = t->attempt;
		if (t->slot)
			slot = t->slot;
		listed += t->slot ? t->slot->listed : t->done->listed;
	}
	jsonw_object(j, NULL);
	jsonw_str(j, "job_id", rec->job_id);
	jsonw_str(j, "org_id", rec->org_id);
	jsonw_str(j, "state", job_state(rec));
	jsonw_str(j, "waits_for", job_waits_for(rec));
	jsonw_dbl(j, "age_seconds", seconds_since(rec->m, rec->received_ms), 3);
	jsonw_str(j, "priority", rec->job ? job_priority_name(rec->job->priority) : NULL);
	jsonw_str(j, "source", rec->job ? job_source_label(rec->job) : NULL);
	jsonw_int(j, "sources", (int64_t)rec->n_tasks);
	jsonw_int(j, "attempt", attempt);
	if (slot)
		jsonw_int(j, "slot", slot->index);
	else
		jsonw_null(j, "slot");
	jsonw_int(j, "listed", (int64_t)listed);
	jsonw_bool(j, "cancelled", rec->cancelled);
	jsonw_int(j, "partition", rec->origin.partition);
	jsonw_int(j, "offset", rec->origin.offset);
	jsonw_end_object(j);
}

static int
jobs_options(const struct control_request *rq, const char **state, bool *deferred, int64_t *limit, struct buf *out)
{
	static const char *const states[] = { "waiting", "queued", "running", "publishing", "retry", "finishing", "ending" };
	bool known = false;

	for (size_t i = 1; i < rq->n; i++) {
		if (!strncmp(rq->word[i], "--state=", 8))
			*state = rq->word[i] + 8;
		else if (!strcmp(rq->word[i], "--deferred"))
			*deferred = true;
		else if (strncmp(rq->word[i], "--limit=", 8) || units_int(rq->word[i] + 8, limit) < 0 || *limit < 0)
			return control_fail(out, EX_USAGE, "jobs: not an option: %.64s", rq->word[i]);
	}
	if (*limit > CONTROL_JOBS_MAX)
		*limit = CONTROL_JOBS_MAX;
	if (*state && *deferred)
		return control_fail(out, EX_USAGE, "jobs: a deferred job has no state: --state or --deferred");
	for (size_t i = 0; *state && i < ARRAY_LEN(states); i++)
		known |= !strcmp(*state, states[i]);
	if (*state && !known)
		return control_fail(out, EX_USAGE, "jobs: no such state: %.64s (one of waiting, queued, running, publishing, retry, "
		    "finishing, ending)", *state);
	return 0;
}

static void
jobs_deferred(struct master *m, int64_t limit, struct buf *out)
{
	struct jsonw j;
	size_t more;

	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_array(&j, "jobs");
	more = deferred_list(m->deferred, &j, (size_t)limit);
	jsonw_end_array(&j);
	jsonw_int(&j, "more", (int64_t)more);
	jsonw_int(&j, "deferred", (int64_t)deferred_count(m->deferred));
	jsonw_end_object(&j);
}

int
control_jobs(const struct control_request *rq, struct buf *out)
{
	const char *state = NULL;
	bool deferred = false;
	int64_t limit = CONTROL_JOBS_MAX, shown = 0, more = 0;
	struct jsonw j;

	if (jobs_options(rq, &state, &deferred, &limit, out))
		return EX_USAGE;
	if (deferred) {
		jobs_deferred(rq->m, limit, out);
		return 0;
	}
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_array(&j, "jobs");
	for (struct jobrec *rec = jobs_first(rq->m->jobs); rec; rec = TAILQ_NEXT(rec, entry)) {
		if (state && strcmp(job_state(rec), state))
			continue;
		if (shown == limit) {
			more++;
			continue;
		}
		put_job(&j, rec);
		shown++;
	}
	jsonw_end_array(&j);
	jsonw_int(&j, "more", more);
	jsonw_int(&j, "active", (int64_t)jobs_count(rq->m->jobs));
	jsonw_end_object(&j);
	return 0;
}

static void
put_or_null(struct jsonw *j, const char *key, int64_t v)
{
	if (v < 0)
		jsonw_null(j, key);
	else
		jsonw_int(j, key, v);
}

int
control_lag(const struct control_request *rq, struct buf *out)
{
	static struct partition_view views[STATUS_PARTITIONS];
	size_t n;
	int64_t total = 0;
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	n = consumer_partitions(rq->m->consumer, views, STATUS_PARTITIONS);
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "topic", rq->m->cfg->topic_jobs);
	jsonw_str(&j, "group", rq->m->cfg->kafka_group_id);
	jsonw_array(&j, "partitions");
	for (size_t i = 0; i < n; i++) {
		int64_t lag = status_lag(&views[i]);

		jsonw_object(&j, NULL);
		jsonw_str(&j, "topic", views[i].topic);
		jsonw_int(&j, "partition", views[i].partition);
		put_or_null(&j, "committed", views[i].committed);
		jsonw_int(&j, "frontier", views[i].frontier);
		jsonw_int(&j, "next", views[i].next);
		jsonw_int(&j, "done_beyond", views[i].done_beyond);
		jsonw_int(&j, "unfinished", views[i].unfinished);
		put_or_null(&j, "high_watermark", views[i].high);
		put_or_null(&j, "lag", lag);
		jsonw_bool(&j, "paused", views[i].paused);
		jsonw_end_object(&j);
		total += lag > 0 ? lag : 0;
	}
	jsonw_end_array(&j);
	jsonw_int(&j, "lag", total);
	jsonw_end_object(&j);
	return 0;
}

int
control_config(const struct control_request *rq, struct buf *out)
{
	bool changed = rq->n == 2 && !strcmp(rq->word[1], "--changed");

	if (rq->n != 1 && !changed)
		return control_fail(out, EX_USAGE, "config takes --changed or nothing");
	config_json(&rq->m->set, changed, out);
	return 0;
}

/* ---- acting ------------------------------------------------------------------------------------------------------------ */

static void
cancelled_json(struct buf *out, const char *job_id, size_t n)
{
	struct jsonw j;

	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "job_id", job_id);
	jsonw_int(&j, "cancelled", (int64_t)n);
	jsonw_end_object(&j);
}

static void
cancel_told(const struct deferred_asker *a, size_t recorded, size_t others, const char *why)
{
	struct buf out = BUF_INIT;
	int status = 0;

	if (others)
		status = control_fail(&out, EX_TEMPFAIL, "%zu cancelled; %zu deferred with the job_id %s not, or not for sure: %s; ask again", a->in_hand + recorded,
		    others, a->job_id, why);
	else
		cancelled_json(&out, a->job_id, a->in_hand + recorded);
	LOG(LOG_INFO, "control_action", LS("verb", "job-cancel"), LS("argument", a->job_id), LI("peer_uid", a->uid), LI("peer_pid", a->pid), LI("status", status));
	control_answer(a->m->control, a->seat, status, &out);
	buf_release(&out);
}

int
control_job_cancel(const struct control_request *rq, struct buf *out)
{
	struct deferred_asker a = { .told = cancel_told, .m = rq->m, .seat = rq->seat, .uid = rq->uid, .pid = rq->pid };

	if (rq->n != 2)
		return control_fail(out, EX_USAGE, "job-cancel takes one job_id");
	a.in_hand = jobs_cancel(rq->m->jobs, rq->word[1]);
	/* No job has a longer one. */
	if (strlen(rq->word[1]) < sizeof(a.job_id)) {
		snprintf(a.job_id, sizeof(a.job_id), "%s", rq->word[1]);
		if (deferred_cancel(rq->m->deferred, &a))
			return CONTROL_LATER;
	}
	if (!a.in_hand)
		return control_fail(out, EX_NOINPUT, "no job in hand and none deferred of the partitions held has the job_id %s, or it is ending already",
		    rq->word[1]);
	cancelled_json(out, rq->word[1], a.in_hand);
	return 0;
}

int
control_reload(const struct control_request *rq, struct buf *out)
{
	struct err e = ERR_INIT;
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	if (master_reload(rq->m, &e) < 0)
		return control_fail(out, EX_CONFIG, "%s; the configuration before it stays in force", e.text);
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "generation", rq->m->config_generation);
	jsonw_end_object(&j);
	return 0;
}

int
control_stop(const struct control_request *rq, struct buf *out)
{
	struct jsonw j;

	if (no_arguments(rq, out))
		return EX_USAGE;
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "pid", getpid());
	jsonw_bool(&j, "hard", rq->m->phase == MASTER_DRAINING);
	jsonw_int(&j, "jobs", (int64_t)jobs_count(rq->m->jobs));
	jsonw_end_object(&j);
	master_stop(rq->m, "iis-pollerctl stop");
	return 0;
}
