/*
 * daemon.c - the verbs that ask the daemon: ping, status, workers, endpoints, tenants, crashes, jobs, job cancel, config, reload, stop, lag --daemon.
 *
 * Each sends one line and shows the JSON that comes back, as it is or as a table. A status that is not 0 is the exit
 * code.
 */
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

#define ASK_MS 10000
#define DEPTH 64

static struct json_object *
parse(const struct buf *b)
{
	struct json_tokener *t = json_tokener_new_ex(DEPTH);
	struct json_object *o = t && b->len < INT32_MAX ? json_tokener_parse_ex(t, b->p, (int)b->len) : NULL;

	if (t && !o && json_tokener_get_error(t) == json_tokener_continue)
		o = json_tokener_parse_ex(t, "", -1);
	if (t)
		json_tokener_free(t);
	return o;
}

/* What the connection's failure is worth. */
static int
no_answer(struct ctl *c, const struct err *e)
{
	ctl_fail(c, 0, "%s", e->text);
	switch (e->cls) {
	case ERR_AUTH: return EX_NOPERM;
	case ERR_CONFIG: return EX_CONFIG;
	case ERR_SYSTEM: return EX_OSERR;
	default: return EX_UNAVAILABLE;
	}
}

/* Asks; *o is the answer (caller puts) where 0 is returned, else the exit code. With --json the answer is printed. */
static int
ask(struct ctl *c, const char *line, struct json_object **o)
{
	struct buf body = BUF_INIT;
	struct err e = ERR_INIT;
	struct json_object *text = NULL;
	int status = client_ask(c->cfg->control_socket, line, ASK_MS, &body, &e);

	*o = NULL;
	if (status < 0) {
		status = no_answer(c, &e);
	} else if (!(*o = parse(&body))) {
		status = ctl_fail(c, EX_UNAVAILABLE, "the daemon's answer is not JSON");
	} else if (status > 0) {
		json_object_object_get_ex(*o, "error", &text);
		ctl_fail(c, status, "%s", text ? json_object_get_string(text) : "the daemon refuses");
		json_object_put(*o);
		*o = NULL;
	} else if (c->json) {
		while (body.len && body.p[body.len - 1] == '\n')
			body.len--;
		buf_putc(&body, '\n');
		if (out_buf(c, &body) < 0)
			status = EX_IOERR;
	}
	buf_release(&body);
	return status;
}

static const char *
text_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "";
}

static int64_t
number_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : 0;
}

static struct json_object *
member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v;
}

int
ctl_ping(struct ctl *c)
{
	struct json_object *o;
	int status = ask(c, "ping", &o);
	bool ready;

	if (status)
		return 2;
	ready = json_object_get_boolean(member(o, "ready"));
	if (!c->json && ready)
		fprintf(c->out, "ready: iis-pollerd %s, pid %lld\n", text_of(o, "version"), (long long)number_of(o, "pid"));
	if (!c->json && !ready) {
		fputs("not ready: ", c->out);
		out_term(c->out, text_of(o, "reason"), strlen(text_of(o, "reason")));
		putc('\n', c->out);
	}
	json_object_put(o);
	return ready ? 0 : 1;
}

int
ctl_status(struct ctl *c)
{
	struct json_object *o;
	int status = ask(c, "status", &o);

	if (!status && !c->json)
		json_outline(c, o);
	json_object_put(o);
	return status;
}

static int
show_list(struct ctl *c, const char *line, const char *list, const char *columns)
{
	struct json_object *o;
	int status = ask(c, line, &o);

	if (!status && !c->json) {
		json_table(c, member(o, list), columns);
		if (number_of(o, "more") > 0)
			fprintf(c->out, "and %lld more\n", (long long)number_of(o, "more"));
	}
	json_object_put(o);
	return status;
}

/* Of one kind of ask: the numbers whose names begin so. */
static int64_t
asks_of(struct json_object *o, const char *op, const char *begin)
{
	int64_t n = 0;

	json_object_object_foreach(member(o, op), key, v)
		if (!strncmp(key, begin, strlen(begin)))
			n += json_object_get_int64(v);
	return n;
}

static void
connector_line(struct ctl *c, struct json_object *o)
{
	static const char *const ops[][2] = { { "resolve", "names" }, { "connect", "connections" } };

	if (!json_object_is_type(o, json_type_object))
		return;
	fputs("connector: ", c->out);
	out_term(c->out, text_of(o, "state"), strlen(text_of(o, "state")));
	fprintf(c->out, " for %lld s, pid %lld, %lld restarts", (long long)number_of(o, "since_seconds"), (long long)number_of(o, "pid"),
	    (long long)number_of(o, "restarts"));
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		fprintf(c->out, "; %s: %lld, %lld in flight, %lld refused, %lld failed", ops[i][1], (long long)asks_of(o, ops[i][0], "ok"),
		    (long long)asks_of(o, ops[i][0], "in_flight"), (long long)asks_of(o, ops[i][0], "refused_"),
		    (long long)(asks_of(o, ops[i][0], "not_found") + asks_of(o, ops[i][0], "failed") + asks_of(o, ops[i][0], "timeout")));
	if (*text_of(o, "last_death")) {
		fputs("\nlast death: ", c->out);
		out_term(c->out, text_of(o, "last_death"), strlen(text_of(o, "last_death")));
	}
	putc('\n', c->out);
}

int
ctl_workers(struct ctl *c)
{
	struct json_object *o;
	int status = ask(c, "workers", &o);

	if (!status && !c->json) {
		json_table(c, member(o, "workers"), ">SLOT=slot|POOL=pool|STATE=state|ROLE=role|BOUND=bound_to|>SINCE=since_seconds|>PID=pid|>TASKS=tasks_served|"
	    ">AGE=age_seconds|SANDBOX=sandbox_mode|>LANDLOCK=landlock|>UID=uid|>LISTED=listed|>MATCHED=matched|PAUSED=paused|TENANT=org_id|SOURCE=source_id|>TRY=attempt|JOB=job_id");
		connector_line(c, member(o, "connector"));
	}
	json_object_put(o);
	return status;
}

int
ctl_endpoints(struct ctl *c)
{
	return show_list(c, "endpoints", "endpoints", "ENDPOINT=endpoint|>RUNNING=running|>WAITING=waiting|WAITS FOR=waits_for|>CONNECTIONS=connections|>MOST=connections_max|>KEPT=kept_connections|>REUSED=reused_connections|>LOST=reconnections|ANSWERS=answers|"
	    ">REQUESTS=requests|>RATE WAIT=request_wait_seconds|>TASKS=tasks|>FAILED=failed|CERTIFICATE ENDS=certificate_ends_at|>IDLE=idle_seconds");
}

int
ctl_tenants(struct ctl *c)
{
	return show_list(c, "tenants", "tenants", "TENANT=org_id|ENTRY=entry|>RUNNING=running|>TASKS=tasks|>WAITING=waiting|WAITS FOR=waits_for|"
	    ">WEIGHT=weight|>JOBS/MIN=jobs_per_minute|>REQUESTS/MIN=requests_per_minute|>REQUESTS=requests|>RATE WAIT=request_wait_seconds|ISOLATION=isolation|>STARTED=started|>WAITED=waited_seconds|"
	    ">IDLE=idle_seconds");
}

int
ctl_crashes(struct ctl *c)
{
	return show_list(c, "crashes", "crashes", "WHEN=at|>SLOT=slot|CAUSE=cause|>SIGNAL=signal|>EXIT=exit_code|SYSCALL=syscall_name|"
	    "JOB=job_id|TENANT=org_id|SOURCE=source_type|PHASE=phase|>CPU=cpu_seconds|>MEMORY=max_rss_bytes|TEXT=text");
}

int
ctl_jobs(struct ctl *c)
{
	static const char waiting[] = "JOB=job_id|TENANT=org_id|DUE=due|>SECONDS=seconds|REASON=reason|ERROR=error|>TIMES=times|ORIGIN=origin|"
	    ">PART=partition|>OFFSET=offset";
	const char *state = ctl_opt(c, "state");
	bool deferred = ctl_opt(c, "deferred") != NULL;
	int64_t limit = 1000;
	char *line;
	int rc;

	if (ctl_opt_int(c, "limit", 0, 1000, &limit) < 0)
		return EX_USAGE;
	if (state && strpbrk(state, " \n"))
		return ctl_fail(c, EX_USAGE, "no such state: %s", state);
	line = xasprintf("jobs --limit=%lld%s%s%s", (long long)limit, state ? " --state=" : "", state ? state : "", deferred ? " --deferred" : "");
	rc = show_list(c, line, "jobs", deferred ? waiting : "JOB=job_id|STATE=state|WAITS FOR=waits_for|>AGE=age_seconds|TENANT=org_id|PRIORITY=priority|SOURCE=source|"
	    ">TRY=attempt|>SLOT=slot|>LISTED=listed|>PART=partition|>OFFSET=offset");
	free(line);
	return rc;
}

int
ctl_lag_daemon(struct ctl *c)
{
	return show_list(c, "lag", "partitions", "TOPIC=topic|>PARTITION=partition|>COMMITTED=committed|>FRONTIER=frontier|>NEXT=next|"
	    ">DONE-BEYOND=done_beyond|>UNFINISHED=unfinished|>HIGH=high_watermark|>LAG=lag|PAUSED=paused");
}

int
ctl_job_cancel(struct ctl *c)
{
	struct json_object *o;
	char *line;
	int status;

	if (!*c->arg[0] || strpbrk(c->arg[0], "\t\r\n") || strlen(c->arg[0]) > 255)
		return ctl_fail(c, EX_USAGE, "a job_id has 1 to 255 bytes of visible characters: %s", c->arg[0]);
	line = xasprintf("job-cancel %s", c->arg[0]);
	status = ask(c, line, &o);
	free(line);
	if (!status && !c->json)
		fprintf(c->out, "cancelled: %lld\n", (long long)number_of(o, "cancelled"));
	json_object_put(o);
	return status;
}

/* ---- configuration -------------------------------------------------------------------------------------------------------- */

static void
config_rows_table(struct ctl *c, struct json_object *o)
{
	struct table t;

	table_init(&t, "SETTING|VALUE|DEFAULT|ORIGIN");
	json_object_object_foreach(o, key, row) {
		struct buf b = BUF_INIT;

		table_cell(&t, key);
		json_words(&b, NULL, member(row, "value"));
		table_celln(&t, b.p, b.len);
		buf_clear(&b);
		json_words(&b, NULL, member(row, "default"));
		table_celln(&t, b.p, b.len);
		table_cell(&t, text_of(row, "origin"));
		buf_release(&b);
	}
	table_print(&t, c);
	table_release(&t);
}

static int
local_config(struct ctl *c)
{
	struct buf b = BUF_INIT;

	if (c->json) {
		config_json(&c->set, ctl_opt(c, "changed") != NULL, &b);
		if (b.len && b.p[b.len - 1] != '\n')
			buf_putc(&b, '\n');
	} else {
		config_print(&c->set, ctl_opt(c, "changed") != NULL, &b);
	}
	return out_buf(c, &b) < 0 ? EX_IOERR : 0;
}

int
ctl_config(struct ctl *c)
{
	struct buf b = BUF_INIT;
	struct json_object *o;
	int status;

	if (ctl_opt(c, "defaults")) {
		config_template(&b);
		return out_buf(c, &b) < 0 ? EX_IOERR : 0;
	}
	if (ctl_opt(c, "local"))
		return local_config(c);
	status = ask(c, ctl_opt(c, "changed") ? "config --changed" : "config", &o);
	if (!status && !c->json)
		config_rows_table(c, o);
	json_object_put(o);
	return status;
}

int
ctl_reload(struct ctl *c)
{
	struct json_object *o;
	int status = ask(c, "reload", &o);

	if (!status && !c->json)
		fprintf(c->out, "read again: generation %lld is in force\n", (long long)number_of(o, "generation"));
	json_object_put(o);
	return status;
}

int
ctl_stop(struct ctl *c)
{
	struct json_object *o;
	int status = ask(c, "stop", &o);

	if (!status && !c->json)
		fprintf(c->out, "pid %lld %s; %lld job%s in hand\n", (long long)number_of(o, "pid"),
		    json_object_get_boolean(member(o, "hard")) ? "stops at once" : "is draining", (long long)number_of(o, "jobs"),
		    units_s((long long)number_of(o, "jobs")));
	json_object_put(o);
	return status;
}
