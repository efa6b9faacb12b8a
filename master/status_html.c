/*
 * status_html.c - /status: one page that a person can read, on a telephone too, without a script.
 *
 * httpd.c has it rendered every second. Every string that came from outside goes through escape_html.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/escape.h"
#include "common/units.h"
#include "master/status_priv.h"
#include "common/banned.h"

#define WORKERS_SHOWN 64
#define PARTITIONS_SHOWN 64
#define DEATHS_SHOWN 10

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta http-equiv=\"refresh\" content=\"5\">\n"
    "<title>iis-poller</title>\n<style>\n"
    ":root{--bg:#fff;--fg:#1c2024;--dim:#5c656e;--line:#d5dae0;--good:#116329;--bad:#a40e26}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#15181c;--fg:#e3e7eb;--dim:#98a2ad;--line:#343b43;--good:#5fd38a;--bad:#ff8b8b}}\n"
    "body{background:var(--bg);color:var(--fg);font:16px/1.45 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.4rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}\n"
    ".good{color:var(--good)}.bad{color:var(--bad)}.dim{color:var(--dim)}\n"
    "dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0}\n"
    "dl div{border:1px solid var(--line);border-radius:.4rem;padding:.5rem .7rem}\n"
    "dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-size:1.25rem;overflow-wrap:anywhere}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}\n"
    "th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}\n"
    "th{color:var(--dim);font-weight:600}td.n,th.n{text-align:right}\n"
    "</style></head><body>\n";

static void
text(struct buf *b, const char *s)
{
	escape_html(b, s, strlen(s));
}

static void
fact(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, "<div><dt>%s</dt><dd>", name);
	text(b, value);
	buf_puts(b, "</dd></div>\n");
}

static void __attribute__((format(printf, 3, 4)))
factf(struct buf *b, const char *name, const char *fmt, ...)
{
	char value[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	fact(b, name, value);
}

static void
cell(struct buf *b, const char *s)
{
	buf_puts(b, "<td>");
	text(b, s ? s : "");
	buf_puts(b, "</td>");
}

static void
cell_number(struct buf *b, int64_t v)
{
	if (v < 0)
		buf_puts(b, "<td class=\"n\">?</td>");
	else
		buf_printf(b, "<td class=\"n\">%lld</td>", (long long)v);
}

static void
age_text(int64_t ms, char out[UNITS_TEXT])
{
	long long s = ms / 1000;

	if (s < 120)
		snprintf(out, UNITS_TEXT, "%lld s", s);
	else if (s < 7200)
		snprintf(out, UNITS_TEXT, "%lld min", s / 60);
	else if (s < 172800)
		snprintf(out, UNITS_TEXT, "%lld h", s / 3600);
	else
		snprintf(out, UNITS_TEXT, "%lld days", s / 86400);
}

static void
title(struct buf *b, const struct master *m)
{
	const char *why = master_not_ready(m);
	char now[UNITS_TEXT], up[UNITS_TEXT];

	units_time_text(clock_real_ns(), 0, now);
	age_text(loop_now(m->loop) - m->started_ms, up);
	buf_printf(b, "<h1>iis-poller: <span class=\"%s\">", why ? "bad" : "good");
	text(b, why ? "not ready" : m->phase == MASTER_RUNNING ? "ready" : status_phase(m));
	buf_puts(b, "</span></h1>\n<p>");
	if (why) {
		buf_puts(b, "<strong class=\"bad\">");
		text(b, why);
		buf_puts(b, "</strong><br>");
	}
	buf_printf(b, "<span class=\"dim\">%s, up %s, version %s%s</span></p>\n", now, up, VERSION, m->demo ? ", demonstration" : "");
}

static int64_t
sum_lag(const struct partition_view *v, size_t n)
{
	int64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (status_lag(&v[i]) > 0)
			sum += status_lag(&v[i]);
	return sum;
}

static void
facts(struct buf *b, const struct master *m, const struct partition_view *v, size_t n)
{
	size_t queued = 0;
	char age[UNITS_TEXT];

	for (int i = 0; i < PRIORITY__MAX; i++)
		queued += sched_depth(m->sched, (enum job_priority)i);
	age_text((int64_t)(status_oldest_seconds(m) * 1000), age);
	buf_puts(b, "<dl>\n");
	factf(b, "Jobs at hand", "%zu", jobs_count(m->jobs));
	factf(b, "Sources waiting", "%zu", queued);
	fact(b, "Oldest job", jobs_count(m->jobs) ? age : "none");
	factf(b, "Workers busy", "%zu of %zu", pool_in_state(m->pool, WORKER_BUSY), pool_size(m->pool));
	factf(b, "Messages behind", "%lld", (long long)sum_lag(v, n));
	factf(b, "Records on their way", "%zu", publish_outstanding(m->publisher));
	for (int i = 0; i < OUTCOME__MAX; i++) {
		const char *name = job_outcome_name((enum job_outcome)i);
		char shown[32];

		snprintf(shown, sizeof(shown), "Jobs %s", name);
		factf(b, shown, "%llu", (unsigned long long)status_jobs_ended(name));
	}
	factf(b, "Worker restarts", "%llu", (unsigned long long)pool_restarts(m->pool));
	fact(b, "Last reload", m->last_reload_ok ? "taken" : "refused");
	buf_puts(b, "</dl>\n");
}

static void
kafka(struct buf *b, const struct master *m, const struct partition_view *v, size_t n)
{
	const char *consumer = consumer_trouble(m->consumer), *publisher = publisher_trouble(m->publisher);

	buf_puts(b, "<h2>Kafka</h2>\n<p>Group ");
	text(b, m->cfg->kafka_group_id);
	buf_puts(b, m->cfg->topics_more.n ? ", topics " : ", topic ");
	text(b, m->cfg->topic_jobs);
	for (size_t i = 0; i < m->cfg->topics_more.n; i++) {
		buf_puts(b, ", ");
		text(b, m->cfg->topics_more.v[i]);
	}
	buf_puts(b, consumer_joined(m->consumer) ? ", joined" : ", <span class=\"bad\">not joined</span>");
	buf_puts(b, publisher_up(m->publisher) ? ", producer connected" : ", <span class=\"bad\">producer not connected</span>");
	for (int i = 0; i < 2; i++) {
		const char *trouble = i ? publisher : consumer;

		if (!trouble)
			continue;
		buf_puts(b, "<br><span class=\"bad\">");
		text(b, trouble);
		buf_puts(b, "</span>");
	}
	buf_puts(b, "</p>\n");
	if (!n)
		return;
	buf_puts(b, "<div class=\"wide\"><table><tr><th>Topic</th><th class=\"n\">Partition</th><th class=\"n\">Done up to</th>"
	    "<th class=\"n\">Done beyond</th><th class=\"n\">At hand</th><th class=\"n\">Behind</th><th></th></tr>\n");
	for (size_t i = 0; i < n && i < PARTITIONS_SHOWN; i++) {
		buf_puts(b, "<tr>");
		cell(b, v[i].topic);
		cell_number(b, v[i].partition);
		cell_number(b, v[i].frontier);
		cell_number(b, v[i].done_beyond);
		cell_number(b, v[i].unfinished);
		cell_number(b, status_lag(&v[i]));
		cell(b, v[i].paused ? "paused" : "");
		buf_puts(b, "</tr>\n");
	}
	buf_puts(b, "</table></div>\n");
	if (n > PARTITIONS_SHOWN)
		buf_printf(b, "<p class=\"dim\">and %zu more partitions</p>\n", n - PARTITIONS_SHOWN);
}

static void
worker(struct buf *b, const struct master *m, const struct slot *s)
{
	const struct task *t = s->task;
	char age[UNITS_TEXT];

	age_text(loop_now(m->loop) - s->since_ms, age);
	buf_puts(b, "<tr>");
	cell_number(b, s->index);
	if (s->proc.pid)
		cell_number(b, s->proc.pid);
	else
		cell(b, "");
	cell(b, s->paused ? "waits for Kafka" : worker_state_name(s->state));
	cell(b, slot_pool(s));
	cell(b, worker_role_name(s->role));
	cell(b, slot_bound_to(s) ? slot_bound_to(s) : "");
	cell(b, age);
	cell(b, t ? t->job->job_id : "");
	cell(b, t ? t->job->job->sources[t->index].source_id : "");
	cell_number(b, (int64_t)s->listed);
	cell_number(b, (int64_t)s->tasks_served);
	buf_puts(b, "</tr>\n");
}

/* One line: what children are held to, and what of it this machine cannot give. */
static void
sandbox(struct buf *b, const struct master *m)
{
	const char *lacks = confine_lacks(m);
	unsigned abi = confine_landlock(m);

	buf_printf(b, "<p>Sandbox: %s, system calls %s, Landlock ", sandbox_mode_name(m->sandbox.mode),
	    m->sandbox.mode == SANDBOX_ENFORCE ? "filtered" : m->sandbox.mode == SANDBOX_LOG ? "logged" : "not filtered");
	if (abi)
		buf_printf(b, "ABI %u", abi);
	else
		buf_puts(b, "none");
	buf_printf(b, ", user %u.%s%s</p>\n", m->sandbox.uid ? m->sandbox.uid : geteuid(), lacks ? " Not held: " : "", lacks ? lacks : "");
}

/* One line, where there is one. */
static void
connector(struct buf *b, const struct master *m)
{
	struct broker_view v;
	struct broker_work w;
	char age[UNITS_TEXT];

	if (!m->broker)
		return;
	broker_view(m->broker, &v);
	broker_work(&w);
	age_text(loop_now(m->loop) - v.since_ms, age);
	buf_printf(b, "<p>Connector: <span class=\"%s\">%s</span> for %s, process %lld: %lld names, %lld connections, %lld in flight, %lld refused, "
	    "%lld failed, %llu restarts", broker_ready(m->broker) ? "good" : "bad", v.state, age, (long long)v.pid, (long long)w.names,
	    (long long)w.connections, (long long)w.in_flight, (long long)w.refused, (long long)w.failed, (unsigned long long)v.restarts);
	if (*v.last_death) {
		buf_puts(b, ", the last: ");
		text(b, v.last_death);
	}
	buf_puts(b, "</p>\n");
}

static void
workers(struct buf *b, const struct master *m)
{
	size_t n = pool_size(m->pool);

	buf_puts(b, "<h2>Workers</h2>\n<div class=\"wide\"><table><tr><th class=\"n\">Slot</th><th class=\"n\">Process</th><th>State</th>"
	    "<th>Pool</th><th>Role</th><th>Bound to</th><th>For</th><th>Job</th><th>Source</th><th class=\"n\">Listed</th><th class=\"n\">Tasks</th></tr>\n");
	for (size_t i = 0; i < n && i < WORKERS_SHOWN; i++)
		worker(b, m, pool_slot(m->pool, i));
	buf_puts(b, "</table></div>\n");
	if (n > WORKERS_SHOWN)
		buf_printf(b, "<p class=\"dim\">and %zu more workers</p>\n", n - WORKERS_SHOWN);
	sandbox(b, m);
	connector(b, m);
}

static void
tenants(struct buf *b, const struct master *m)
{
	static struct tenant_view v[STATUS_TENANTS];
	size_t all, n = tenants_view(m, v, STATUS_TENANTS, &all);

	if (!n)
		return;
	buf_puts(b, "<h2>Tenants</h2>\n<div class=\"wide\"><table><tr><th>Tenant</th><th>Settings</th><th class=\"n\">Running</th>"
	    "<th class=\"n\">Held back</th><th>For</th><th class=\"n\">Started</th></tr>\n");
	for (size_t i = 0; i < n; i++) {
		buf_puts(b, "<tr>");
		cell(b, v[i].name);
		cell(b, v[i].entry);
		cell_number(b, v[i].running);
		cell_number(b, v[i].waiting);
		cell(b, v[i].why);
		cell_number(b, (int64_t)v[i].started);
		buf_puts(b, "</tr>\n");
	}
	buf_puts(b, "</table></div>\n");
	if (all > n)
		buf_printf(b, "<p class=\"dim\">and %zu more tenants</p>\n", all - n);
}

static void
deaths(struct buf *b, const struct master *m)
{
	const struct death *d = deaths_get(pool_deaths(m->pool), 0);

	buf_puts(b, "<h2>Last deaths of workers</h2>\n");
	if (!d) {
		buf_puts(b, "<p>None.</p>\n");
		return;
	}
	buf_puts(b, "<div class=\"wide\"><table><tr><th>When</th><th>Cause</th><th>Job</th><th>What</th></tr>\n");
	for (size_t i = 0; i < DEATHS_SHOWN && (d = deaths_get(pool_deaths(m->pool), i)); i++) {
		char when[UNITS_TEXT];

		units_time_text(d->at_ns, 0, when);
		buf_puts(b, "<tr>");
		cell(b, when);
		cell(b, death_cause_name(d->cause));
		cell(b, d->job_id);
		cell(b, d->text);
		buf_puts(b, "</tr>\n");
	}
	buf_puts(b, "</table></div>\n");
}

void
status_html(struct master *m, struct buf *b)
{
	static struct partition_view views[STATUS_PARTITIONS];
	size_t n = consumer_partitions(m->consumer, views, STATUS_PARTITIONS);

	buf_puts(b, head);
	title(b, m);
	facts(b, m, views, n);
	kafka(b, m, views, n);
	workers(b, m);
	tenants(b, m);
	deaths(b, m);
	buf_puts(b, "<p class=\"dim\">For programs: /status.json, /metrics, /health, /readyz, /livez.</p>\n</body></html>\n");
}
