/*
 * push.c - the verb push: jobs from options, a file or standard input, checked by job_parse as the daemon does, sent.
 *
 * Nothing is sent unless every job is right. The send waits for the brokers' acknowledgement of each record, bounded.
 * Called by options.c; verify.c sends its own job through push_stamp and broker.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "common/escape.h"
#include "common/field.h"
#include "common/json.h"
#include "common/jsonw.h"
#include "common/loop.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

#define INPUT_MAX (256 * 1024 * 1024)
#define COUNT_MAX 10000000
#define OUTSTANDING_MAX 20000
#define FAILURES_SHOWN 10
#define PROGRESS_EVERY 500

void
push_list_release(struct push_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->job[i]);
	free(l->job);
	free(l->len);
	memset(l, 0, sizeof(*l));
}

static void
list_add(struct push_list *l, const char *p, size_t n)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 16;
		l->job = xreallocarray(l->job, l->cap, sizeof(*l->job));
		l->len = xreallocarray(l->len, l->cap, sizeof(*l->len));
	}
	l->job[l->n] = xmemdup0(p, n);
	l->len[l->n++] = n;
}

void
push_random_id(char out[37])
{
	uint8_t r[16];

	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		BUG("getrandom failed");
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2], r[3], r[4], r[5],
	    r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15]);
}

void
push_limits(const struct config *c, struct job_limits *l)
{
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

/* ---- a job from options ------------------------------------------------------------------------------------------------ */

/* An option's text into the job: bytes that JSON cannot carry must not be changed silently. */
static int
put_text(struct jsonw *j, const char *key, const char *option, const char *s, struct err *e)
{
	if (!s)
		return 0;
	if (!utf8_valid(s, strlen(s)))
		return err_set(e, ERR_INVALID_JOB, "--%s: not UTF-8, which is all that a JSON job can carry", option);
	jsonw_str(j, key, s);
	return 0;
}

static void
put_list(struct jsonw *j, const char *key, const char *s)
{
	jsonw_array(j, key);
	while (*s) {
		size_t n = strcspn(s, ",");

		jsonw_strn(j, NULL, s, n);
		s += n + (s[n] == ',');
	}
	jsonw_end_array(j);
}

/* "field=value" or "object.member=value", as the field's kind wants it, under the name behind the dot; job_parse judges what
 * comes of it. */
static int
put_field(struct jsonw *j, int type, const char *s, struct err *e)
{
	const char *eq = strchr(s, '='), *value = eq ? eq + 1 : "", *key, *dot;
	char *name = eq ? xmemdup0(s, (size_t)(eq - s)) : NULL;
	int rc = 0, row, flag;
	int64_t number;

	if (!name || !*name || *name == '.' ||
	    strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") != strlen(name)) {
		rc = err_set(e, ERR_INVALID_JOB, "--set: %s is not field=value", s);
		goto out;
	}
	dot = strchr(name, '.');
	key = dot ? dot + 1 : name;
	row = field_find(field_rows, SF__MAX, type, name);
	if (row >= 0 && field_rows[row].kind == KIND_BOOL && units_bool(value, &flag) == 0)
		jsonw_bool(j, key, flag != 0);
	else if (row >= 0 && field_rows[row].kind == KIND_INT && units_int(value, &number) == 0)
		jsonw_int(j, key, number);
	else if (row >= 0 && field_rows[row].kind == KIND_DBL && json_check(value, strlen(value), 1, e) == 0)
		jsonw_raw(j, key, value, strlen(value));
	else if (row >= 0 && field_rows[row].kind == KIND_STRS)
		put_list(j, key, value);
	else
		rc = put_text(j, key, "set", value, e);
out:
	free(name);
	return rc;
}

/* Bytes of the object's name in "object.member=value"; 0: none. */
static size_t
group_of(const char *s)
{
	size_t n = strcspn(s, ".=");

	return s[n] == '.' ? n : 0;
}

/* The members of one object stand together, wherever they were said. */
static int
put_fields(struct ctl *c, struct jsonw *j, int type, struct err *e)
{
	const char *s, *other;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (s = ctl_opt_nth(c, "set", i)); i++) {
		size_t n = group_of(s);
		char *name;
		bool written = false;

		if (!n) {
			rc = put_field(j, type, s, e);
			continue;
		}
		for (size_t k = 0; k < i; k++) {
			other = ctl_opt_nth(c, "set", k);
			written |= group_of(other) == n && !memcmp(other, s, n);
		}
		if (written)
			continue;
		name = xmemdup0(s, n);
		jsonw_object(j, name);
		free(name);
		for (size_t k = i; rc == 0 && (other = ctl_opt_nth(c, "set", k)); k++)
			if (group_of(other) == n && !memcmp(other, s, n))
				rc = put_field(j, type, other, e);
		jsonw_end_object(j);
	}
	return rc;
}

static int
put_source(struct ctl *c, struct jsonw *j, struct err *e)
{
	const char *type = ctl_opt(c, "type");
	int rc;

	jsonw_object(j, "source_config");
	rc = put_text(j, "source_type", "type", type, e);
	if (rc == 0)
		rc = put_text(j, "path", "path", ctl_opt(c, "path"), e);
	if (rc == 0 && ctl_opt(c, "recursive"))
		jsonw_bool(j, "recursive", true);
	if (rc == 0)
		rc = put_fields(c, j, source_by_name(type), e);
	jsonw_end_object(j);
	return rc;
}

static int
put_patterns(struct ctl *c, struct jsonw *j, struct err *e)
{
	const char *s;
	int rc = 0;

	if (!ctl_opt(c, "pattern"))
		return 0;
	if (!ctl_opt_nth(c, "pattern", 1))
		return put_text(j, "file_pattern", "pattern", ctl_opt(c, "pattern"), e);
	jsonw_array(j, "file_pattern");
	for (size_t i = 0; rc == 0 && (s = ctl_opt_nth(c, "pattern", i)); i++)
		rc = put_text(j, NULL, "pattern", s, e);
	jsonw_end_array(j);
	return rc;
}

int
push_from_options(struct ctl *c, struct buf *job, struct err *e)
{
	const char *metadata = ctl_opt(c, "metadata");
	struct jsonw j;

	if (!ctl_opt(c, "type"))
		return err_set(e, ERR_INVALID_JOB, "--type is missing (or name a file with jobs, or - for standard input)");
	jsonw_init(&j, job);
	jsonw_object(&j, NULL);
	if (put_text(&j, "job_id", "id", ctl_opt(c, "id"), e) < 0 || put_text(&j, "org_id", "org", ctl_opt(c, "org"), e) < 0 ||
	    put_source(c, &j, e) < 0 || put_patterns(c, &j, e) < 0 ||
	    put_text(&j, "priority", "priority", ctl_opt(c, "priority"), e) < 0 ||
	    put_text(&j, "timeout", "timeout", ctl_opt(c, "timeout"), e) < 0 ||
	    put_text(&j, "publish", "publish", ctl_opt(c, "publish"), e) < 0)
		return -1;
	if (metadata && json_check(metadata, strlen(metadata), JSON_DEPTH_MAX - 1, e) < 0)
		return -1;
	if (metadata)
		jsonw_raw(&j, "metadata", metadata, strlen(metadata));
	jsonw_end_object(&j);
	return 0;
}

/* ---- jobs from a text -------------------------------------------------------------------------------------------------- */

static bool
blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!memchr(" \t\r\n", p[i], 4))
			return false;
	return true;
}

static int
lines(const char *p, size_t n, struct push_list *l, struct err *e)
{
	struct err one = ERR_INIT;
	size_t number = 0;

	for (size_t at = 0; at < n;) {
		const char *nl = memchr(p + at, '\n', n - at);
		size_t len = nl ? (size_t)(nl - (p + at)) : n - at;

		number++;
		if (!blank(p + at, len)) {
			if (json_check(p + at, len, JSON_DEPTH_MAX, &one) < 0)
				return err_set(e, ERR_INVALID_JOB, "line %zu, byte %lld: %s", number, one.pos, one.text);
			list_add(l, p + at, len);
		}
		at += len + 1;
	}
	return 0;
}

int
push_from_text(const char *p, size_t n, struct push_list *l, struct err *e)
{
	struct err whole = ERR_INIT, first = ERR_INIT;
	const char *nl = n ? memchr(p, '\n', n) : NULL;

	if (blank(p, n))
		return err_set(e, ERR_INVALID_JOB, "there is no job in it");
	if (json_check(p, n, JSON_DEPTH_MAX, &whole) == 0) {
		list_add(l, p, n);
		return 0;
	}
	/* A job a line, if the first line is a document of its own. */
	if (nl && json_check(p, (size_t)(nl - p), JSON_DEPTH_MAX, &first) == 0)
		return lines(p, n, l, e);
	return err_set(e, ERR_INVALID_JOB, "byte %lld: %s", whole.pos, whole.text);
}

int
push_stamp(const char *p, size_t n, const char *suffix, struct buf *out, char **id, struct err *e)
{
	struct json_tokener *t;
	struct json_object *o, *old = NULL;
	char fresh[37];

	*id = NULL;
	buf_clear(out);
	if (json_check(p, n, JSON_DEPTH_MAX, e) < 0)
		return -1;
	t = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
	o = json_tokener_parse_ex(t, p, (int)n);
	json_tokener_free(t);
	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return err_set(e, ERR_INVALID_JOB, "a job is a JSON object");
	}
	json_object_object_get_ex(o, "job_id", &old);
	push_random_id(fresh);
	if (old && !json_object_is_type(old, json_type_string))
		*id = xstrdup("");      /* job_parse says what is wrong with it */
	else
		*id = xasprintf("%s%s", old ? json_object_get_string(old) : fresh, suffix ? suffix : "");
	if (!old) {
		/* Put in at the end, so that a position in what comes before stays that of the user's text. */
		size_t end = (size_t)((const char *)memrchr(p, '}', n) - p);

		buf_add(out, p, end);
		buf_printf(out, "%s\"job_id\":\"%s\"", json_object_object_length(o) ? "," : "", *id);
		buf_add(out, p + end, n - end);
	} else if (**id && suffix) {
		json_object_object_add(o, "job_id", json_object_new_string(*id));
		buf_puts(out, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	} else {
		buf_add(out, p, n);
	}
	json_object_put(o);
	return 0;
}

static int
read_all(int fd, struct buf *b, struct err *e)
{
	for (;;) {
		ssize_t n = read(fd, buf_room(b, 65536), 65536);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_errno(e, ERR_SYSTEM, "cannot read it");
		if (n > 0)
			b->len += (size_t)n;
		if (b->len > INPUT_MAX)
			return err_set(e, ERR_LIMIT, "more than %d bytes: send it in parts", INPUT_MAX);
	}
}

/* ---- checking ------------------------------------------------------------------------------------------------------------ */

/* Where the settings that forbid things are nowhere set, we cannot know the poller's. */
static bool
policy_unknown(const struct ctl *c)
{
	static const enum config_id ids[] = { CONFIG_local_roots, CONFIG_dummy_path, CONFIG_dummy_faults, CONFIG_timeout_job_max };

	for (size_t i = 0; i < ARRAY_LEN(ids); i++)
		if (!c->set.origin[ids[i]].file || strcmp(c->set.origin[ids[i]].file, "default"))
			return false;
	return true;
}

static int
check_one(struct ctl *c, const char *p, size_t n, const char *which)
{
	struct job_limits limits;
	struct err e = ERR_INIT;
	struct job *job;

	push_limits(c->cfg, &limits);
	job = job_parse(p, n, &limits, NULL, NULL, NULL, &e);
	if (!job && e.cls == ERR_POLICY && (ctl_opt(c, "force") || policy_unknown(c)))
		return ctl_fail(c, 0, "%s%s; sent all the same: the poller's own settings decide", which, e.text);
	if (!job)
		return ctl_fail(c, EX_DATAERR, e.pos >= 0 ? "%s%s: %s%s%s (byte %lld)" : "%s%s: %s%s%s", which, err_name(e.cls), e.text,
		    *e.pointer ? " at " : "", e.pointer, e.pos);
	for (size_t i = 0; i < job->warnings.n; i++)
		ctl_fail(c, 0, "%swarning: %s", which, job->warnings.v[i]);
	job_free(job);
	return 0;
}

/* A job_id of its own for each that has none, before copies are made of it. */
static int
name_all(struct ctl *c, struct push_list *l)
{
	struct err e = ERR_INIT;

	for (size_t i = 0; i < l->n; i++) {
		struct buf b = BUF_INIT;
		char *id;

		if (push_stamp(l->job[i], l->len[i], NULL, &b, &id, &e) < 0)
			return ctl_fail(c, EX_DATAERR, "job %zu: %s", i + 1, e.text);
		free(id);
		free(l->job[i]);
		l->len[i] = b.len;
		l->job[i] = buf_take(&b);
	}
	return 0;
}

/* Each job as its last copy would be sent: the longest job_id. */
static int
check_all(struct ctl *c, const struct push_list *l, int64_t count)
{
	char suffix[32] = "", which[40] = "";
	struct err e = ERR_INIT;
	int rc = 0, bad = 0;

	if (count > 1)
		snprintf(suffix, sizeof(suffix), "-%lld", (long long)count);
	for (size_t i = 0; i < l->n; i++) {
		struct buf b = BUF_INIT;
		char *id = NULL;

		if (l->n > 1)
			snprintf(which, sizeof(which), "job %zu: ", i + 1);
		if (push_stamp(l->job[i], l->len[i], count > 1 ? suffix : NULL, &b, &id, &e) < 0)
			rc = ctl_fail(c, EX_DATAERR, "%sbyte %lld: %s", which, e.pos, e.text);
		else
			rc = check_one(c, b.p, b.len, which);
		free(id);
		buf_release(&b);
		if (rc && ++bad == FAILURES_SHOWN)
			break;
		if (rc)
			e = (struct err)ERR_INIT;
	}
	return bad ? EX_DATAERR : 0;
}

/* ---- sending ------------------------------------------------------------------------------------------------------------- */

struct sending {
	struct ctl *c;
	int64_t total, sent, ok, failed;
	bool each;                      /* one line a job; else a summary */
	const char *topic;
	int64_t began_ms;
};

static void
print_sent(struct sending *s, const rd_kafka_message_t *m, const char *id)
{
	struct buf b = BUF_INIT;
	struct jsonw j;

	if (s->c->json) {
		jsonw_init(&j, &b);
		jsonw_object(&j, NULL);
		jsonw_str(&j, "job_id", id);
		jsonw_str(&j, "topic", s->topic);
		jsonw_int(&j, "partition", m->partition);
		jsonw_int(&j, "offset", m->offset);
		jsonw_end_object(&j);
		buf_putc(&b, '\n');
	} else if (s->each) {
		escape_term(&b, id, strlen(id));
		buf_printf(&b, " %d@%lld\n", (int)m->partition, (long long)m->offset);
	}
	if (b.len)
		fwrite(b.p, 1, b.len, s->c->out);
	buf_release(&b);
}

static void
delivered(struct broker *b, const rd_kafka_message_t *m)
{
	struct sending *s = b->arg;
	char *id = m->_private;

	if (!m->err) {
		s->ok++;
		print_sent(s, m, id);
	} else if (s->failed++ < FAILURES_SHOWN) {
		ctl_fail(s->c, 0, "job %s was not acknowledged: %s", id, m->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
		    m->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ? "the brokers did not answer in time; it may or may not be there" :
		    rd_kafka_err2str(m->err));
	}
	free(id);
}

static void
progress(const struct sending *s, bool end)
{
	double seconds = (double)(clock_mono_ms() - s->began_ms) / 1000;
	double rate = seconds > 0 ? (double)s->ok / seconds : 0;

	if (!s->c->progress || s->total < PROGRESS_EVERY)
		return;
	fprintf(s->c->err, "\r%lld of %lld, %.0f/s%s", (long long)s->ok, (long long)s->total, rate, end ? "\n" : "   ");
}

/* One record; waits for room, never beyond until. */
static int
produce(struct broker *b, struct sending *s, const char *p, size_t n, char *id, int64_t until)
{
	rd_kafka_resp_err_t err;

	while (rd_kafka_outq_len(b->rk) >= OUTSTANDING_MAX && clock_mono_ms() < until)
		broker_poll(b, 50);
	if (clock_mono_ms() >= until || b->fatal) {
		free(id);
		return -1;
	}
	err = rd_kafka_producev(b->rk, RD_KAFKA_V_TOPIC(s->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
	    RD_KAFKA_V_KEY(id, strlen(id)), RD_KAFKA_V_VALUE((void *)(uintptr_t)p, n), RD_KAFKA_V_OPAQUE(id), RD_KAFKA_V_END);
	if (err) {
		if (s->failed++ < FAILURES_SHOWN)
			ctl_fail(s->c, 0, "job %s: %s", id, rd_kafka_err2str(err));
		free(id);
		return 0;
	}
	s->sent++;
	broker_poll(b, 0);
	return 0;
}

static int
produce_all(struct broker *b, struct sending *s, const struct push_list *l, int64_t count, int64_t wait_ms)
{
	int64_t until = clock_mono_ms() + wait_ms, last = 0;
	struct buf text = BUF_INIT;
	struct err e = ERR_INIT;
	char suffix[32];
	int rc = 0;

	for (int64_t k = 1; rc == 0 && k <= count; k++)
		for (size_t i = 0; rc == 0 && i < l->n; i++) {
			char *id;

			snprintf(suffix, sizeof(suffix), "-%lld", (long long)k);
			rc = push_stamp(l->job[i], l->len[i], count > 1 ? suffix : NULL, &text, &id, &e);
			if (rc == 0)
				rc = produce(b, s, text.p, text.len, id, until);
			/* the bound is for an answer that does not come, not for many jobs */
			if (s->ok != last) {
				until = clock_mono_ms() + wait_ms;
				if (s->ok / PROGRESS_EVERY != last / PROGRESS_EVERY)
					progress(s, false);
				last = s->ok;
			}
		}
	while (rd_kafka_outq_len(b->rk) > 0 && clock_mono_ms() < until && !b->fatal) {
		broker_poll(b, 50);
		if (s->ok != last)
			until = clock_mono_ms() + wait_ms;
		last = s->ok;
	}
	buf_release(&text);
	return rc;
}

static int
send_list(struct ctl *c, const struct push_list *l, int64_t count, int64_t wait_ms)
{
	static const struct broker_property properties[] = { { NULL, NULL } };
	struct sending s = { .c = c, .total = (int64_t)l->n * count, .each = count == 1, .topic = ctl_queue(c) };
	struct broker b = { .arg = &s, .delivered = delivered };
	struct err e = ERR_INIT;
	double seconds;

	if (!s.topic)
		return EX_USAGE;
	if (broker_open(&b, c->cfg, RD_KAFKA_PRODUCER, properties, &e) < 0)
		return ctl_fail(c, EX_CONFIG, "%s", e.text);
	if (broker_partitions(&b, s.topic, wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms, &e) < 0) {
		broker_close(&b);
		return ctl_fail(c, EX_UNAVAILABLE, "%s", e.text);
	}
	s.began_ms = clock_mono_ms();
	produce_all(&b, &s, l, count, wait_ms);
	broker_close(&b);
	progress(&s, true);
	seconds = (double)(clock_mono_ms() - s.began_ms) / 1000;
	if (!c->json && !s.each && s.ok)
		fprintf(c->out, "%lld job%s acknowledged by %s in %.2f s\n", (long long)s.ok, units_s((long long)s.ok), s.topic, seconds);
	if (s.ok == s.total)
		return 0;
	return ctl_fail(c, EX_UNAVAILABLE, "%lld of %lld job%s %s not acknowledged%s%s", (long long)(s.total - s.ok), (long long)s.total,
	    units_s((long long)s.total), s.total - s.ok == 1 ? "was" : "were", b.trouble[0] ? ": " : "", b.trouble);
}

/* ---- the verb ------------------------------------------------------------------------------------------------------------ */

static int
gather(struct ctl *c, struct push_list *l)
{
	static const char *const single[] = { "type", "path", "pattern", "set", "recursive", "priority", "id", "org", "timeout",
		"publish", "metadata" };
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;
	int rc, fd = STDIN_FILENO;

	if (!c->n_args) {
		rc = push_from_options(c, &b, &e);
		if (rc == 0)
			list_add(l, b.p, b.len);
		buf_release(&b);
		return rc < 0 ? ctl_fail(c, EX_USAGE, "%s", e.text) : 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(single); i++)
		if (ctl_opt(c, single[i]))
			return ctl_fail(c, EX_USAGE, "--%s makes a job; with a file the jobs are in there", single[i]);
	if (strcmp(c->arg[0], "-"))
		fd = open(c->arg[0], O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return ctl_fail(c, EX_NOINPUT, "cannot open %s: %s", c->arg[0], strerror(errno));
	rc = read_all(fd, &b, &e);
	if (fd != STDIN_FILENO)
		close(fd);
	if (rc == 0)
		rc = push_from_text(b.p, b.len, l, &e);
	buf_release(&b);
	if (rc < 0)
		return ctl_fail(c, e.cls == ERR_SYSTEM ? EX_NOINPUT : EX_DATAERR, "%s: %s", c->arg[0], e.text);
	return 0;
}

static int
dry_run(struct ctl *c, const struct push_list *l, int64_t count)
{
	struct buf text = BUF_INIT, out = BUF_INIT;
	struct err e = ERR_INIT;
	char suffix[32];
	int rc = 0;

	for (int64_t k = 1; rc == 0 && k <= count; k++)
		for (size_t i = 0; rc == 0 && i < l->n; i++) {
			char *id = NULL;

			snprintf(suffix, sizeof(suffix), "-%lld", (long long)k);
			if (push_stamp(l->job[i], l->len[i], count > 1 ? suffix : NULL, &text, &id, &e) == 0) {
				json_compact(&out, text.p, text.len);
				buf_putc(&out, '\n');
			}
			free(id);
			rc = out_buf(c, &out);
		}
	buf_release(&text);
	return rc < 0 ? EX_IOERR : 0;
}

/* As the daemon has it: a relative dummy path is one of the directory we are in. */
static int
settle_dummy_path(struct ctl *c)
{
	struct err e = ERR_INIT;
	char *cwd = getcwd(NULL, 0), *path = path_normalise(c->cfg->dummy_path, cwd ? cwd : "/", &e);

	free(cwd);
	if (!path)
		return ctl_fail(c, EX_CONFIG, "dummy.data_path: %s", e.text);
	free(c->cfg->dummy_path);
	c->cfg->dummy_path = path;
	return 0;
}

int
ctl_push(struct ctl *c)
{
	struct push_list l = { 0 };
	int64_t count = 1, wait_ms = 30000;
	int rc;

	if (ctl_opt_int(c, "count", 1, COUNT_MAX, &count) < 0 || ctl_opt_ms(c, "wait", &wait_ms) < 0)
		return EX_USAGE;
	rc = settle_dummy_path(c);
	if (!rc)
		rc = gather(c, &l);
	if (!rc)
		rc = name_all(c, &l);
	if (!rc)
		rc = check_all(c, &l, count);
	if (!rc)
		rc = ctl_opt(c, "dry-run") ? dry_run(c, &l, count) : send_list(c, &l, count, wait_ms);
	push_list_release(&l);
	return rc;
}
