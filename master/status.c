/*
 * status.c - what the poller shows of itself: the gauges read off the rooms, health, /status.json.
 *
 * httpd.c asks for all of it every second, control.c when an operator does. It reads the rooms and changes nothing but
 * gauges. Foreign strings leave escaped; secrets are not looked at. status_html.c holds the page for people.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/status_priv.h"
#include "common/banned.h"

#define DEATHS_SHOWN 16

/* ---- gauges ------------------------------------------------------------------------------------------------------------ */

static double
resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long size, resident = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	fclose(f);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	double n = -3;          /* ".", ".." and the descriptor that reads them */

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void
refresh_process(const struct master *m)
{
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) == 0)
		metric_set(METRIC_CPU, (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec
		    + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6, NULL, NULL);
	metric_set(METRIC_RSS, resident_bytes(), NULL, NULL);
	metric_set(METRIC_FDS, open_descriptors(), NULL, NULL);
	metric_set(METRIC_START_TIME, (double)(m->started_ns / 1000000) / 1000, NULL, NULL);
	metric_set(METRIC_LOG_DROPPED, (double)log_dropped(), NULL, NULL);
	metric_set(METRIC_RELOAD_OK, m->last_reload_ok, NULL, NULL);
	metric_set(METRIC_RELOAD_TIME, (double)(m->last_reload_ns / 1000000) / 1000, NULL, NULL);
	metric_set(METRIC_NOT_READY, master_not_ready(m) == NULL, NULL, NULL);
}

static void
refresh_pool(const struct master *m)
{
	double spooled = 0, kept = 0;
	struct stat st;

	for (int i = 0; i < WORKER__MAX; i++)
		metric_set(METRIC_WORKERS, (double)pool_in_state(m->pool, (enum worker_state)i), worker_state_name((enum worker_state)i), NULL);
	for (size_t i = 0; i < pool_size(m->pool); i++) {
		const struct slot *s = pool_slot(m->pool, i);

		if (s->spool_fd >= 0 && fstat(s->spool_fd, &st) == 0)
			spooled += (double)st.st_blocks * 512;
		kept += s->kept;
	}
	metric_set(METRIC_CONNECTIONS, kept, NULL, NULL);
	metric_set(METRIC_SPOOL_BYTES, spooled, NULL, NULL);
	metric_set(METRIC_CERTIFICATES, (double)endpoints_ending(m), NULL, NULL);
}

int64_t
status_lag(const struct partition_view *v)
{
	int64_t lag = v->high - v->frontier - v->done_beyond;

	return v->high < 0 ? -1 : lag > 0 ? lag : 0;
}

/* A group may have more partitions than a metric has series: the rest are added up. */
static void
refresh_lag(const struct master *m)
{
	static struct partition_view views[STATUS_PARTITIONS];
	size_t n = consumer_partitions(m->consumer, views, STATUS_PARTITIONS);
	double rest = 0;

	metric_reset(METRIC_LAG);
	for (size_t i = 0; i < n; i++) {
		int64_t lag = status_lag(&views[i]);
		char name[16];

		if (lag < 0)
			continue;
		snprintf(name, sizeof(name), "%d", (int)views[i].partition);
		if (i < METRIC_SERIES_MAX)
			metric_set(METRIC_LAG, (double)lag, name, views[i].topic);
		else
			metric_set(METRIC_LAG, rest += (double)lag, "other", "other");
	}
}

/* Series whose label is a topic's name can only be made once the settings are read. */
static void
refresh_topics(const struct master *m)
{
	static const char *const published[] = { "success", "held", "error" };
	static const char *const consumed[] = { "accepted", "skipped" };

	for (int t = 0; t < OUT__MAX; t++)
		for (size_t i = 0; i < ARRAY_LEN(published); i++)
			metric_add(METRIC_KAFKA_PUBLISHED, 0, out_topic_name(m->cfg, (enum out_topic)t), published[i]);
	for (size_t i = 0; i < ARRAY_LEN(consumed); i++)
		metric_add(METRIC_KAFKA_CONSUMED, 0, m->cfg->topic_jobs, consumed[i]);
	for (size_t i = 0; i < ARRAY_LEN(consumed); i++)
		metric_add(METRIC_KAFKA_CONSUMED, 0, m->cfg->topic_deferred, consumed[i]);
}

double
status_oldest_seconds(const struct master *m)
{
	const struct jobrec *first = jobs_first(m->jobs);

	return first ? (double)(loop_now(m->loop) - first->received_ms) / 1000 : 0;
}

void
status_refresh_metrics(struct master *m)
{
	refresh_process(m);
	refresh_pool(m);
	refresh_lag(m);
	refresh_topics(m);
	broker_refresh_metrics(m);
	deferred_refresh_metrics(m->deferred);
	metric_set(METRIC_ACTIVE_JOBS, (double)jobs_count(m->jobs), NULL, NULL);
	metric_set(METRIC_OLDEST_JOB, status_oldest_seconds(m), NULL, NULL);
	tenants_refresh_metrics(m);
	metric_set(METRIC_OUTSTANDING, (double)publish_outstanding(m->publisher), NULL, NULL);
	for (int i = 0; i < PRIORITY__MAX; i++)
		metric_set(METRIC_QUEUE_DEPTH, (double)sched_depth(m->sched, (enum job_priority)i), job_priority_name((enum job_priority)i), NULL);
}

/* ---- health ------------------------------------------------------------------------------------------------------------ */

/* pass, warn or fail of each check; the worst of them is the whole's. */
enum verdict_word { PASS, WARN, FAIL };

static void
check(struct jsonw *j, enum verdict_word *worst, const char *name, enum verdict_word v, const char *text)
{
	static const char *const words[] = { "pass", "warn", "fail" };

	jsonw_object(j, name);
	jsonw_str(j, "status", words[v]);
	jsonw_str(j, "output", text);
	jsonw_end_object(j);
	if (v > *worst)
		*worst = v;
}

static void
check_workers(struct jsonw *j, enum verdict_word *worst, const struct master *m)
{
	size_t idle = pool_in_state(m->pool, WORKER_IDLE), busy = pool_in_state(m->pool, WORKER_BUSY);
	size_t waiting = pool_in_state(m->pool, WORKER_BACKOFF);
	char text[96];

	snprintf(text, sizeof(text), "%zu of %zu ready, %zu waiting to be started again", idle + busy, pool_size(m->pool), waiting);
	check(j, worst, "workers", pool_broken(m->pool) || !pool_sound(m->pool) ? FAIL : waiting ? WARN : PASS, text);
}

const char *
status_phase(const struct master *m)
{
	static const char *const names[] = {
		[MASTER_STARTING] = "starting", [MASTER_RUNNING] = "running", [MASTER_DRAINING] = "draining", [MASTER_STOPPED] = "stopped",
	};

	return names[m->phase];
}

void
status_health(struct master *m, struct buf *b, int *http_status)
{
	static const char *const words[] = { "healthy", "degraded", "unhealthy" };
	const char *consumer = consumer_trouble(m->consumer), *publisher = publisher_trouble(m->publisher);
	const char *why = master_not_ready(m);
	enum verdict_word worst = PASS;
	struct buf checks = BUF_INIT;
	struct jsonw j;

	jsonw_init(&j, &checks);
	jsonw_object(&j, NULL);
	check(&j, &worst, "ready", why ? FAIL : PASS, why ? why : "takes jobs");
	check(&j, &worst, "kafka_consumer", consumer || !consumer_joined(m->consumer) ? FAIL : PASS,
	    consumer ? consumer : consumer_joined(m->consumer) ? "member of the group" : "not yet a member of the group");
	check(&j, &worst, "kafka_producer", publisher || !publisher_up(m->publisher) ? FAIL : PASS,
	    publisher ? publisher : publisher_up(m->publisher) ? "connected" : "not connected");
	check_workers(&j, &worst, m);
	check(&j, &worst, "configuration", m->last_reload_ok ? PASS : WARN,
	    m->last_reload_ok ? "in force" : "the last reload was refused; the one before it is in force");
	jsonw_end_object(&j);

	jsonw_init(&j, b);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "status", words[worst]);
	jsonw_time(&j, "timestamp", clock_real_ns());
	jsonw_dbl(&j, "uptime", (double)(loop_now(m->loop) - m->started_ms) / 1000, 3);
	jsonw_str(&j, "version", VERSION);
	jsonw_raw(&j, "checks", checks.p, checks.len);
	jsonw_end_object(&j);
	buf_putc(b, '\n');
	buf_release(&checks);
	*http_status = worst == FAIL ? 503 : 200;
}

/* ---- status.json --------------------------------------------------------------------------------------------------------- */

static void
json_jobs(struct jsonw *j, const struct master *m)
{
	jsonw_object(j, "jobs");
	jsonw_int(j, "active", (int64_t)jobs_count(m->jobs));
	jsonw_int(j, "bytes", (int64_t)jobs_bytes(m->jobs));
	jsonw_dbl(j, "oldest_age_seconds", status_oldest_seconds(m), 3);
	jsonw_object(j, "queued");
	for (int i = 0; i < PRIORITY__MAX; i++)
		jsonw_int(j, job_priority_name((enum job_priority)i), (int64_t)sched_depth(m->sched, (enum job_priority)i));
	jsonw_end_object(j);
	jsonw_object(j, "ended");
	for (int i = 0; i < OUTCOME__MAX; i++) {
		const char *name = job_outcome_name((enum job_outcome)i);

		jsonw_int(j, name, (int64_t)status_jobs_ended(name));
	}
	jsonw_end_object(j);
	jsonw_end_object(j);
}

uint64_t
status_jobs_ended(const char *outcome)
{
	double n = metric_get(METRIC_JOBS, outcome, "mixed") + metric_get(METRIC_JOBS, outcome, "none")
	    + metric_get(METRIC_JOBS, "other", "other");

	for (int i = 0; i < SOURCE__MAX; i++)
		n += metric_get(METRIC_JOBS, outcome, source_rows[i].name);
	return (uint64_t)n;
}

/* What this machine gives, and what of it is missing. */
static void
json_sandbox(struct jsonw *j, const struct master *m)
{
	jsonw_object(j, "sandbox");
	jsonw_str(j, "mode", sandbox_mode_name(m->sandbox.mode));
	jsonw_bool(j, "seccomp", m->kernel.seccomp);
	jsonw_int(j, "landlock_kernel", m->kernel.landlock);
	jsonw_int(j, "landlock", confine_landlock(m));
	jsonw_int(j, "uid", m->sandbox.uid ? m->sandbox.uid : geteuid());
	jsonw_str(j, "lacks", confine_lacks(m));
	jsonw_end_object(j);
}

static void
json_worker(struct jsonw *j, const struct master *m, const struct slot *s)
{
	const struct task *t = s->task;

	jsonw_object(j, NULL);
	jsonw_int(j, "slot", s->index);
	if (s->proc.pid)
		jsonw_int(j, "pid", s->proc.pid);
	else
		jsonw_null(j, "pid");
	jsonw_int(j, "generation", s->generation);
	jsonw_str(j, "state", worker_state_name(s->state));
	jsonw_str(j, "pool", slot_pool(s));
	jsonw_str(j, "role", worker_role_name(s->role));
	jsonw_str(j, "bound_to", slot_bound_to(s));
	jsonw_dbl(j, "since_seconds", (double)(loop_now(m->loop) - s->since_ms) / 1000, 3);
	jsonw_int(j, "tasks_served", (int64_t)s->tasks_served);
	jsonw_bool(j, "paused", s->paused);
	jsonw_str(j, "job_id", t ? t->job->job_id : NULL);
	jsonw_str(j, "org_id", t ? t->job->org_id : NULL);
	jsonw_str(j, "source_id", t ? t->job->job->sources[t->index].source_id : NULL);
	jsonw_str(j, "source_type", t ? source_rows[t->job->job->sources[t->index].type].name : NULL);
	jsonw_int(j, "listed", (int64_t)s->listed);
	jsonw_int(j, "matched", (int64_t)s->matched);
	jsonw_str(j, "sandbox", s->sandbox[0] ? s->sandbox : NULL);
	jsonw_str(j, "sandbox_mode", s->sandbox[0] ? sandbox_mode_name(s->confined.mode) : NULL);
	jsonw_int(j, "landlock", s->sandbox[0] ? s->confined.landlock : 0);
	jsonw_end_object(j);
}

static void
json_partitions(struct jsonw *j, const struct master *m)
{
	static struct partition_view views[STATUS_PARTITIONS];
	size_t n = consumer_partitions(m->consumer, views, STATUS_PARTITIONS);

	jsonw_array(j, "partitions");
	for (size_t i = 0; i < n; i++) {
		const struct partition_view *v = &views[i];

		jsonw_object(j, NULL);
		jsonw_str(j, "topic", v->topic);
		jsonw_int(j, "partition", v->partition);
		jsonw_int(j, "frontier", v->frontier);
		jsonw_int(j, "next", v->next);
		jsonw_int(j, "done_beyond", v->done_beyond);
		jsonw_int(j, "unfinished", v->unfinished);
		if (v->high < 0)
			jsonw_null(j, "high_watermark");
		else
			jsonw_int(j, "high_watermark", v->high);
		if (v->committed < 0)
			jsonw_null(j, "committed");
		else
			jsonw_int(j, "committed", v->committed);
		if (v->high < 0)
			jsonw_null(j, "lag");
		else
			jsonw_int(j, "lag", status_lag(v));
		jsonw_bool(j, "paused", v->paused);
		jsonw_end_object(j);
	}
	jsonw_end_array(j);
}

static void
json_kafka(struct jsonw *j, const struct master *m)
{
	jsonw_object(j, "kafka");
	jsonw_str(j, "bootstrap_servers", m->cfg->kafka_bootstrap_servers);
	jsonw_str(j, "group_id", m->cfg->kafka_group_id);
	jsonw_str(j, "polling_queue", m->cfg->topic_jobs);
	jsonw_array(j, "more_polling_queues");
	for (size_t i = 0; i < m->cfg->topics_more.n; i++)
		jsonw_str(j, NULL, m->cfg->topics_more.v[i]);
	jsonw_end_array(j);
	jsonw_bool(j, "joined", consumer_joined(m->consumer));
	jsonw_str(j, "consumer_trouble", consumer_trouble(m->consumer));
	jsonw_bool(j, "producer_up", publisher_up(m->publisher));
	jsonw_str(j, "producer_trouble", publisher_trouble(m->publisher));
	jsonw_int(j, "outstanding", (int64_t)publish_outstanding(m->publisher));
	json_partitions(j, m);
	jsonw_end_object(j);
}

static void
json_deaths(struct jsonw *j, const struct master *m)
{
	const struct death *d;

	jsonw_array(j, "deaths");
	for (size_t i = 0; i < DEATHS_SHOWN && (d = deaths_get(pool_deaths(m->pool), i)); i++) {
		jsonw_object(j, NULL);
		jsonw_time(j, "at", d->at_ns);
		jsonw_int(j, "slot", d->slot);
		jsonw_int(j, "pid", d->verdict.pid);
		jsonw_str(j, "cause", death_cause_name(d->cause));
		jsonw_str(j, "job_id", d->job_id[0] ? d->job_id : NULL);
		jsonw_str(j, "org_id", d->org_id[0] ? d->org_id : NULL);
		jsonw_str(j, "source_type", d->source_type[0] ? d->source_type : NULL);
		jsonw_str(j, "text", d->text);
		jsonw_end_object(j);
	}
	jsonw_end_array(j);
}

void
status_json(struct master *m, struct buf *b)
{
	const char *why = master_not_ready(m);
	struct jsonw j;

	jsonw_init(&j, b);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "program", "iis-pollerd");
	jsonw_str(&j, "version", VERSION);
	jsonw_str(&j, "build", ipc_build_id);
	jsonw_int(&j, "pid", getpid());
	jsonw_str(&j, "phase", status_phase(m));
	jsonw_bool(&j, "demo", m->demo);
	jsonw_bool(&j, "ready", !why);
	jsonw_str(&j, "not_ready", why);
	jsonw_time(&j, "timestamp", clock_real_ns());
	jsonw_time(&j, "started_at", m->started_ns);
	jsonw_dbl(&j, "uptime", (double)(loop_now(m->loop) - m->started_ms) / 1000, 3);
	jsonw_object(&j, "configuration");
	jsonw_int(&j, "generation", m->config_generation);
	jsonw_time(&j, "read_at", m->last_reload_ns);
	jsonw_bool(&j, "last_reload_ok", m->last_reload_ok);
	jsonw_end_object(&j);
	json_jobs(&j, m);
	json_kafka(&j, m);
	json_sandbox(&j, m);
	jsonw_int(&j, "worker_restarts", (int64_t)pool_restarts(m->pool));
	jsonw_array(&j, "workers");
	for (size_t i = 0; i < pool_size(m->pool); i++)
		json_worker(&j, m, pool_slot(m->pool, i));
	jsonw_end_array(&j);
	broker_json(&j, m);
	jsonw_int(&j, "tenants_more", (int64_t)tenants_json(&j, m, STATUS_TENANTS));
	json_deaths(&j, m);
	jsonw_end_object(&j);
	buf_putc(b, '\n');
}
