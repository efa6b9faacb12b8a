/*
 * peek.c - the verb peek: records of a topic as a table or as JSON lines. Reads partitions one by one, joins no group.
 *
 * What is shown first is what was there when it began (the last N by time, or all from a place); with --follow it goes
 * on until interrupted. Values are foreign: parsed by json-c only after the strict check, else shown as text.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "common/escape.h"
#include "common/job.h"
#include "common/json.h"
#include "common/jsonw.h"
#include "common/loop.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

#define DEPTH 40
#define LAST_MAX 1000000
#define RAW_SHOWN 120
#define POLL_MS 100

static volatile sig_atomic_t interrupted;

static const struct view {
	const char *name;
	const char *heads;
	const char *keys;               /* paths into the value, one for each column after OFFSET and JOB */
} views[] = {
	{ "jobs", "TIME|>PART|>OFFSET|JOB|TENANT|PRIORITY|SOURCE|PATH|PATTERN",
	    "org_id|priority|source_config.source_type|source_config.path|file_pattern" },
	{ "events", "TIME|>PART|>OFFSET|JOB|>SIZE|MODIFIED|FILE", "file_size|modified_at|file_url" },
	{ "results", "TIME|>PART|>OFFSET|JOB|EVENT|>MATCHED|>PUBLISHED|>SECONDS|>TRY|ERROR|MESSAGE",
	    "event_type|matched|published|duration_seconds|attempt|error.class|error.message" },
	{ "dlq", "TIME|>PART|>OFFSET|JOB|ERROR|>RETRIES|MESSAGE", "failure_info.error_type|failure_info.retry_count|failure_info.error_message" },
};

struct peek {
	struct ctl *c;
	const struct view *view;
	const char *topic, *job;
	int64_t last, max, wait_ms, from; /* from: RD_KAFKA_OFFSET_*, or an offset */
	bool follow, all;               /* all: from was given, show as it comes */
	bool mask;                      /* jobs without --raw */
	bool last_given;
	int64_t shown;
	struct broker b;
	struct reader r;
	int64_t *high;                  /* of each started partition, when we began */
	bool *done;                     /* everything below high was seen */
	size_t n_done;
	rd_kafka_message_t **kept;      /* owned */
	size_t n_kept, cap_kept;
	struct table table;
	bool broken;                    /* stdout is gone */
};

/* ---- a record as JSON ---------------------------------------------------------------------------------------------------- */

static void
put_bytes(struct jsonw *j, const char *key, const char *key64, const void *p, size_t n)
{
	struct buf b = BUF_INIT;

	if (!p) {
		jsonw_null(j, key);
		return;
	}
	jsonw_strn(j, key, p, n);
	if (utf8_valid(p, n))
		return;
	base64_encode(&b, p, n);
	jsonw_strn(j, key64, b.p, b.len);
	buf_release(&b);
}

/* The same name twice: the last one counts, as for rd_kafka_header_get_last. */
static void
put_headers(struct buf *b, const rd_kafka_message_t *m)
{
	rd_kafka_headers_t *h = NULL;
	const char *name;
	const void *p, *last;
	size_t n, last_n;
	bool some = false;

	buf_putc(b, '{');
	for (size_t i = 0; rd_kafka_message_headers(m, &h) == 0 && rd_kafka_header_get_all(h, i, &name, &p, &n) == 0; i++) {
		/* A name is shown where it first stands. */
		if (rd_kafka_header_get(h, 0, name, &last, &last_n) == 0 && last != p)
			continue;
		rd_kafka_header_get_last(h, name, &last, &last_n);
		if (some)
			buf_putc(b, ',');
		some = true;
		escape_json(b, name, strlen(name));
		buf_putc(b, ':');
		if (last)
			escape_json(b, last, last_n);
		else
			buf_puts(b, "null");
	}
	buf_putc(b, '}');
}

/* Jobs carry secrets: what is no job says how long it is, and why it is none. */
static void
put_masked(struct jsonw *j, const rd_kafka_message_t *m)
{
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;

	if (m->payload && job_mask_message(m->payload, m->len, &b, &e) == 0) {
		jsonw_raw(j, "value", b.p, b.len);
	} else {
		jsonw_null(j, "value");
		jsonw_int(j, "value_size", (int64_t)m->len);
		if (m->payload)
			jsonw_str(j, "value_error", e.text);
	}
	buf_release(&b);
}

static void
put_value(struct jsonw *j, const rd_kafka_message_t *m)
{
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;

	if (m->payload && json_check(m->payload, m->len, DEPTH, &e) == 0) {
		json_compact(&b, m->payload, m->len);
		jsonw_raw(j, "value", b.p, b.len);
		buf_release(&b);
		return;
	}
	put_bytes(j, "value", "value_base64", m->payload, m->len);
	if (m->payload)
		jsonw_str(j, "value_error", e.text);
}

void
peek_json(struct buf *b, const rd_kafka_message_t *m, const char *topic, bool mask)
{
	rd_kafka_timestamp_type_t type;
	int64_t ms = rd_kafka_message_timestamp(m, &type);
	struct buf headers = BUF_INIT;
	struct jsonw j;

	put_headers(&headers, m);
	jsonw_init(&j, b);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "topic", topic);
	jsonw_int(&j, "partition", m->partition);
	jsonw_int(&j, "offset", m->offset);
	jsonw_time(&j, "timestamp", type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || ms < 0 || ms > INT64_MAX / 1000000 ?
	    TIME_UNKNOWN : ms * 1000000);
	put_bytes(&j, "key", "key_base64", m->key, m->key_len);
	jsonw_raw(&j, "headers", headers.p, headers.len);
	if (mask)
		put_masked(&j, m);
	else
		put_value(&j, m);
	jsonw_end_object(&j);
	buf_release(&headers);
}

/* ---- which job ------------------------------------------------------------------------------------------------------------- */

static struct json_object *
parse_text(const char *p, size_t n)
{
	struct err e = ERR_INIT;
	struct json_tokener *t;
	struct json_object *o;

	if (!p || n > INT32_MAX || json_check(p, n, DEPTH, &e) < 0)
		return NULL;
	t = json_tokener_new_ex(DEPTH + 1);
	o = json_tokener_parse_ex(t, p, (int)n);
	json_tokener_free(t);
	return o;
}

static struct json_object *
parse(const rd_kafka_message_t *m)
{
	return parse_text(m->payload, m->len);
}

static struct json_object *
parse_masked(const rd_kafka_message_t *m)
{
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;
	struct json_object *o = NULL;

	if (m->payload && job_mask_message(m->payload, m->len, &b, &e) == 0)
		o = parse_text(b.p, b.len);
	buf_release(&b);
	return o;
}

static struct json_object *
at(struct json_object *o, const char *path, size_t n)
{
	while (o && n) {
		const char *dot = memchr(path, '.', n);
		size_t len = dot ? (size_t)(dot - path) : n;
		char *name = xmemdup0(path, len);
		struct json_object *next = NULL;

		if (json_object_is_type(o, json_type_object))
			json_object_object_get_ex(o, name, &next);
		free(name);
		o = next;
		path += len + (dot != NULL);
		n -= len + (dot != NULL);
	}
	return o;
}

static bool
same(const void *p, size_t n, const char *s)
{
	return p && n == strlen(s) && !memcmp(p, s, n);
}

bool
peek_is_job(const rd_kafka_message_t *m, const char *job_id)
{
	rd_kafka_headers_t *h = NULL;
	struct json_object *o, *v;
	const void *p;
	size_t n = strlen(job_id), len;
	bool is;

	if (same(m->key, m->key_len, job_id))
		return true;
	if (rd_kafka_message_headers(m, &h) == 0 && rd_kafka_header_get_last(h, "job_id", &p, &len) == 0 && p)
		return same(p, len, job_id);
	/* Cheap first: most records are of other jobs. An id with an escape in it needs the parser. */
	if (!m->payload || (!memmem(m->payload, m->len, job_id, n) && !memchr(m->payload, '\\', m->len)))
		return false;
	o = parse(m);
	v = at(o, "job_id", 6);
	is = json_object_is_type(v, json_type_string) && !strcmp(json_object_get_string(v), job_id);
	json_object_put(o);
	return is;
}

/* ---- a record as a row ------------------------------------------------------------------------------------------------------ */

static void
job_cell(struct table *t, const rd_kafka_message_t *m, struct json_object *o)
{
	rd_kafka_headers_t *h = NULL;
	struct json_object *v = at(o, "job_id", 6);
	const void *p;
	size_t n;

	if (json_object_is_type(v, json_type_string))
		table_celln(t, json_object_get_string(v), (size_t)json_object_get_string_len(v));
	else if (rd_kafka_message_headers(m, &h) == 0 && rd_kafka_header_get_last(h, "job_id", &p, &n) == 0)
		table_celln(t, p, p ? n : 0);
	else
		table_celln(t, m->key, m->key ? m->key_len : 0);
}

static void
row(struct peek *k, const rd_kafka_message_t *m)
{
	rd_kafka_timestamp_type_t type;
	int64_t ms = rd_kafka_message_timestamp(m, &type);
	struct json_object *o = k->mask ? parse_masked(m) : parse(m);
	char when[UNITS_TEXT] = "";

	if (type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && ms >= 0 && ms < INT64_C(253402300800000))
		units_time_text(ms * 1000000, 3, when);
	table_cell(&k->table, when);
	table_cellf(&k->table, "%d", (int)m->partition);
	table_cellf(&k->table, "%lld", (long long)m->offset);
	job_cell(&k->table, m, o);
	for (const char *p = k->view->keys; *p;) {
		size_t n = strcspn(p, "|");
		struct json_object *v = at(o, p, n);
		struct buf b = BUF_INIT;

		if (v)
			json_words(&b, NULL, v);
		if (!o && !p[n] && m->payload && k->mask)
			table_cellf(&k->table, "(%zu bytes that are no job; --raw shows them)", m->len);
		else if (!o && !p[n] && m->payload)
			table_celln(&k->table, m->payload, m->len < RAW_SHOWN ? m->len : RAW_SHOWN);
		else
			table_celln(&k->table, b.p, b.len);
		buf_release(&b);
		p += n + (p[n] == '|');
	}
	json_object_put(o);
}

static void
show(struct peek *k, const rd_kafka_message_t *m)
{
	struct buf b = BUF_INIT;

	k->shown++;
	if (!k->c->json) {
		row(k, m);
		return;
	}
	peek_json(&b, m, k->topic, k->mask);
	buf_putc(&b, '\n');
	if (fwrite(b.p, 1, b.len, k->c->out) != b.len)
		k->broken = true;
	buf_release(&b);
}

/* To the reader of our output, now. */
static void
flush_rows(struct peek *k)
{
	if (!k->c->json)
		table_print(&k->table, k->c);
	if (fflush(k->c->out))
		k->broken = true;
}

static bool
enough(const struct peek *k)
{
	return k->max > 0 && k->shown >= k->max;
}

/* ---- what was there when we began ----------------------------------------------------------------------------------------- */

static int
by_time(const void *a, const void *b)
{
	const rd_kafka_message_t *x = *(rd_kafka_message_t *const *)a, *y = *(rd_kafka_message_t *const *)b;
	int64_t tx = rd_kafka_message_timestamp(x, NULL), ty = rd_kafka_message_timestamp(y, NULL);

	if (x->partition == y->partition)
		return x->offset < y->offset ? -1 : x->offset > y->offset;
	if (tx != ty)
		return tx < ty ? -1 : 1;
	return x->partition < y->partition ? -1 : 1;
}

static void
keep_last(struct peek *k)
{
	size_t drop;

	if (k->n_kept > 1)
		qsort(k->kept, k->n_kept, sizeof(*k->kept), by_time);
	if ((int64_t)k->n_kept <= k->last)
		return;
	drop = k->n_kept - (size_t)k->last;
	for (size_t i = 0; i < drop; i++)
		rd_kafka_message_destroy(k->kept[i]);
	memmove(k->kept, k->kept + drop, (k->n_kept - drop) * sizeof(*k->kept));
	k->n_kept -= drop;
}

/* Takes m. */
static void
keep(struct peek *k, rd_kafka_message_t *m)
{
	if (k->n_kept == k->cap_kept) {
		k->cap_kept = k->cap_kept ? k->cap_kept * 2 : 64;
		k->kept = xreallocarray(k->kept, k->cap_kept, sizeof(*k->kept));
	}
	k->kept[k->n_kept++] = m;
	if ((int64_t)k->n_kept >= 2 * k->last + 1024)
		keep_last(k);
}

static void
set_done(struct peek *k, size_t i)
{
	k->n_done += !k->done[i];
	k->done[i] = true;
}

static void
note_done(struct peek *k, const rd_kafka_message_t *m)
{
	for (size_t i = 0; i < k->r.n; i++)
		if (k->r.at_end[i] || (m && m->partition == k->r.part[i] && m->offset + 1 >= k->high[i]))
			set_done(k, i);
}

static int
history(struct peek *k, struct err *e)
{
	int64_t quiet_until = clock_mono_ms() + k->wait_ms;
	int rc = 0;

	while (rc == 0 && k->n_done < k->r.n && !interrupted && !enough(k) && !k->broken) {
		rd_kafka_message_t *m = reader_next(&k->r, POLL_MS, &rc, e);

		note_done(k, m);
		if (m)
			quiet_until = clock_mono_ms() + k->wait_ms;
		else if (clock_mono_ms() > quiet_until && rc == 0 && k->n_done < k->r.n)
			rc = broker_error(&k->b, "the brokers send nothing", RD_KAFKA_RESP_ERR__TIMED_OUT, e);
		if (m && (!k->job || peek_is_job(m, k->job))) {
			if (!k->all) {
				keep(k, m);
				continue;
			}
			show(k, m);
			flush_rows(k);
		}
		if (m)
			rd_kafka_message_destroy(m);
	}
	keep_last(k);
	for (size_t i = 0; i < k->n_kept && !enough(k) && rc == 0; i++)
		show(k, k->kept[i]);
	if (rc == 0)
		flush_rows(k);
	return rc;
}

static int
follow(struct peek *k, struct err *e)
{
	int64_t until = clock_mono_ms() + k->wait_ms;
	bool bounded = k->job && ctl_opt(k->c, "wait") && !k->shown;
	int rc = 0;

	while (rc == 0 && !interrupted && !enough(k) && !k->broken) {
		rd_kafka_message_t *m = reader_next(&k->r, POLL_MS, &rc, e);

		if (m && (!k->job || peek_is_job(m, k->job))) {
			bounded = false;
			show(k, m);
			flush_rows(k);
		}
		if (m)
			rd_kafka_message_destroy(m);
		if (bounded && clock_mono_ms() > until)
			rc = err_set(e, ERR_NOT_FOUND, "no record of job %s in time", k->job);
	}
	return rc;
}

/* ---- beginning ---------------------------------------------------------------------------------------------------------------- */

static int64_t
begin_at(const struct peek *k, int64_t low, int64_t high)
{
	int64_t start;

	if (k->all)
		start = k->from == RD_KAFKA_OFFSET_BEGINNING ? low : k->from == RD_KAFKA_OFFSET_END ? high : k->from;
	else if (!k->last)
		start = high;
	else
		start = k->job ? low : high - k->last;
	return start < low ? low : start > high ? high : start;
}

static int
start_all(struct peek *k, int n, int64_t only, struct err *e)
{
	k->high = xcalloc((size_t)n, sizeof(*k->high));
	k->done = xcalloc((size_t)n, sizeof(*k->done));
	for (int32_t p = 0; p < n; p++) {
		int64_t low = 0, high = 0, start;

		if (only >= 0 && only != p)
			continue;
		if (broker_watermarks(&k->b, k->topic, p, (int)k->wait_ms, &low, &high, e) < 0)
			return -1;
		start = begin_at(k, low, high);
		if (start >= high && !k->follow)
			continue;
		k->high[k->r.n] = high;
		if (reader_start(&k->r, p, start, e) < 0)
			return -1;
		if (start >= high)
			set_done(k, k->r.n - 1);
	}
	return 0;
}

/* The exit code. */
static int
run(struct peek *k, int64_t only)
{
	struct err e = ERR_INIT;
	int n = broker_partitions(&k->b, k->topic, (int)k->wait_ms, &e);

	/* Only the brokers know how many there are, but it is the command line that is wrong. */
	if (n == 1 && only >= n)
		return ctl_fail(k->c, EX_USAGE, "--partition: %s has only partition 0", k->topic);
	if (n > 1 && only >= n)
		return ctl_fail(k->c, EX_USAGE, "--partition: %s has partitions 0 to %d", k->topic, n - 1);
	if (n < 0 || reader_open(&k->r, &k->b, k->topic, &e) < 0 || start_all(k, n, only, &e) < 0 || history(k, &e) < 0 ||
	    (k->follow && follow(k, &e) < 0))
		return ctl_fail(k->c, EX_UNAVAILABLE, "%s", e.text);
	return k->broken ? EX_IOERR : 0;
}

static void
on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

static int
options(struct peek *k, int64_t *only)
{
	struct ctl *c = k->c;
	const char *from = ctl_opt(c, "from");

	for (size_t i = 0; i < ARRAY_LEN(views); i++)
		if (!strcmp(views[i].name, c->arg[0]))
			k->view = &views[i];
	if (!k->view)
		return ctl_fail(c, EX_USAGE, "%s is none of jobs, events, results, dlq", c->arg[0]);
	if (ctl_opt(c, "topic") && k->view != views)
		return ctl_fail(c, EX_USAGE, "--topic goes with jobs: there is one topic of %s", k->view->name);
	k->topic = k->view == views ? ctl_queue(c) : !strcmp(k->view->name, "events") ? c->cfg->topic_events :
	    !strcmp(k->view->name, "results") ? c->cfg->topic_results : c->cfg->topic_dlq;
	if (!k->topic)
		return EX_USAGE;
	if (ctl_opt(c, "raw") && k->view != views)
		return ctl_fail(c, EX_USAGE, "--raw goes with jobs: %s hold no secrets", k->view->name);
	k->mask = k->view == views && !ctl_opt(c, "raw");
	k->job = ctl_opt(c, "job");
	k->follow = ctl_opt(c, "follow") != NULL;
	k->all = from != NULL;
	k->last_given = ctl_opt(c, "last") != NULL;
	if (ctl_opt_int(c, "last", 0, LAST_MAX, &k->last) < 0 || ctl_opt_int(c, "max", 1, INT64_MAX, &k->max) < 0 ||
	    ctl_opt_int(c, "partition", 0, INT32_MAX, only) < 0 || ctl_opt_ms(c, "wait", &k->wait_ms) < 0)
		return EX_USAGE;
	if (from && !strcmp(from, "beginning"))
		k->from = RD_KAFKA_OFFSET_BEGINNING;
	else if (from && !strcmp(from, "end"))
		k->from = RD_KAFKA_OFFSET_END;
	else if (from && (units_int(from, &k->from) < 0 || k->from < 0))
		return ctl_fail(c, EX_USAGE, "--from: %s is none of beginning, end, or an offset", from);
	/* To wait for what a job leaves behind: its N records, then the end. */
	if (k->follow && k->job && k->last_given && k->last && !k->max)
		k->max = k->last;
	return 0;
}

static void
release(struct peek *k)
{
	for (size_t i = 0; i < k->n_kept; i++)
		rd_kafka_message_destroy(k->kept[i]);
	free(k->kept);
	reader_close(&k->r);
	broker_close(&k->b);
	free(k->high);
	free(k->done);
	table_release(&k->table);
}

int
ctl_peek(struct ctl *c)
{
	struct peek k = { .c = c, .last = 10, .wait_ms = 15000 };
	struct sigaction sa = { .sa_handler = on_interrupt };
	struct err e = ERR_INIT;
	int64_t only = -1;
	int rc = options(&k, &only);

	if (rc)
		return rc;
	table_init(&k.table, k.view->heads);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (broker_open(&k.b, c->cfg, RD_KAFKA_CONSUMER, NULL, &e) < 0)
		rc = ctl_fail(c, EX_CONFIG, "%s", e.text);
	else
		rc = run(&k, only);
	release(&k);
	return rc;
}
