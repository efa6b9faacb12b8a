/*
 * deadletter.c - the dead letter of a job that could not be served: what it was, why it failed, where it stands.
 *
 * jobs.c calls it beside result_write for every job with an error. The original goes out with its secrets masked; where
 * it could not be parsed it does not go out at all, since raw text could hold one: size, digest and position tell, and
 * the pointer leads back to the message. Larger than Kafka takes, it falls back to the pointer. Never fails.
 */
#include <stdio.h>
#include <string.h>

#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/event_priv.h"
#include "common/banned.h"

#define HEADER_TEXT 4096
#define ERROR_TEXT_SMALL 200
#define CE_TYPE "com.iis.poller.job.dead_lettered.v1"

/* The source whose error stands for the job; NULL where the message itself is at fault. */
static const struct task *
failed_task(const struct jobrec *rec, const struct err *e)
{
	for (size_t i = 0; i < rec->n_tasks; i++)
		if (&rec->tasks[i].error == e)
			return &rec->tasks[i];
	return NULL;
}

static const char *
disposition_word(enum err_class c)
{
	switch (err_disposition(c)) {
	case ERR_DO_RETRY:
	case ERR_DO_HOLD:
		return "transient";
	case ERR_DO_ALONE:
		return "crash";
	default:
		return "permanent";
	}
}

static int64_t
retries_of(const struct task *t)
{
	return t && t->attempt ? t->attempt - 1 : 0;
}

static int64_t
max_retries_of(const struct config *cfg, const struct task *t)
{
	const struct field_value *v = t ? &t->job->job->sources[t->index].v[SF_COMMON_RETRIES] : NULL;

	return v && v->set ? v->i : cfg->retry_max;
}

static void
write_number(struct jsonw *j, const char *key, bool known, int64_t v)
{
	if (known)
		jsonw_int(j, key, v);
	else
		jsonw_null(j, key);
}

static void
write_position(struct jsonw *j, const struct err *e)
{
	jsonw_object(j, "position");
	write_number(j, "byte", e->pos >= 0, e->pos);
	jsonw_str(j, "pointer", e->pointer[0] ? e->pointer : NULL);
	jsonw_end_object(j);
}

/* How the worker of the last attempt died. */
static void
write_worker(struct jsonw *j, const struct task *t, bool small)
{
	const struct verdict *v = t ? &t->verdict : NULL;

	if (!v || !v->pid) {
		jsonw_null(j, "worker");
		return;
	}
	jsonw_object(j, "worker");
	jsonw_int(j, "pid", v->pid);
	write_number(j, "signal", v->signal > 0, v->signal);
	jsonw_str(j, "signal_name", v->signal > 0 ? sigabbrev_np(v->signal) : NULL);
	write_number(j, "exit_code", v->signal <= 0 && v->exit_code >= 0, v->exit_code);
	write_number(j, "syscall", v->syscall > 0, v->syscall);
	jsonw_str(j, "syscall_name", v->syscall_name[0] ? v->syscall_name : NULL);
	jsonw_dbl(j, "cpu_seconds", v->cpu_seconds, 3);
	jsonw_int(j, "max_rss_bytes", v->max_rss_bytes);
	jsonw_str(j, "phase", task_phase_name(v->phase));
	jsonw_str(j, "stderr", v->stderr_tail[0] && !small ? v->stderr_tail : NULL);
	jsonw_end_object(j);
}

static void
write_failure(struct jsonw *j, const struct config *cfg, const struct jobrec *rec, const struct err *e, bool small)
{
	const struct task *t = failed_task(rec, e);
	char reason[512];
	size_t n = strlen(e->text);

	snprintf(reason, sizeof(reason), "%s; %s", err_what(e->cls), err_todo(e->cls));
	jsonw_object(j, "failure_info");
	jsonw_str(j, "error_type", err_name(e->cls));
	jsonw_str(j, "error_class", disposition_word(e->cls));
	jsonw_strn(j, "error_message", e->text, small && n > ERROR_TEXT_SMALL ? ERROR_TEXT_SMALL : n);
	jsonw_str(j, "failure_reason", small ? err_what(e->cls) : reason);
	jsonw_str(j, "source_id", t ? rec->job->sources[t->index].source_id : NULL);
	jsonw_int(j, "retry_count", retries_of(t));
	jsonw_int(j, "max_retries", max_retries_of(cfg, t));
	jsonw_time(j, "failed_at", rec->finished_ns);
	jsonw_int(j, "original_size", (int64_t)rec->payload_n);
	jsonw_str(j, "original_sha256", rec->payload_sha256[0] ? rec->payload_sha256 : NULL);
	write_position(j, e);
	write_worker(j, t, small);
	jsonw_end_object(j);
}

/* The job as it came, but for its secrets. Costs a parse: few jobs need it. */
static void
write_original(struct jsonw *j, const struct jobrec *rec, bool small)
{
	struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;

	if (rec->masked && !small)
		buf_puts(&text, rec->masked);
	else if (rec->payload && !small)
		job_mask_message(rec->payload, rec->payload_n, &text, &ignored);
	/* A message that is JSON but no object was no job. */
	if (text.len && text.p[0] == '{')
		jsonw_raw(j, "original_job", text.p, text.len);
	else
		jsonw_null(j, "original_job");
	buf_release(&text);
}

static void
write_value(const struct config *cfg, const struct jobrec *rec, const struct err *e, bool small, struct buf *out)
{
	struct jsonw j;

	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "schema_version", 1);
	write_original(&j, rec, small);
	write_failure(&j, cfg, rec, e, small);
	jsonw_object(&j, "metadata");
	jsonw_str(&j, "dlq_topic", cfg->topic_dlq);
	jsonw_str(&j, "original_topic", origin_topic(cfg, &rec->origin));
	jsonw_int(&j, "original_partition", rec->origin.partition);
	jsonw_int(&j, "original_offset", rec->origin.offset);
	jsonw_end_object(&j);
	jsonw_end_object(&j);
}

/* As a result's id: the same dead letter, sent again, has the same one. */
static void
letter_id(const struct config *cfg, const struct origin *o, char out[UUID_TEXT])
{
	char result[UUID_TEXT];
	struct uuid_part parts[] = { { "dead_letter", 11 }, { result, UUID_TEXT - 1 } };

	result_id(cfg, o, result);
	uuid5(uuid_ns_poller, parts, ARRAY_LEN(parts), out);
}

static void
write_headers(const struct config *cfg, const struct jobrec *rec, const struct err *e, struct out_record *out)
{
	struct buf source = BUF_INIT;
	char id[UUID_TEXT], when[UNITS_TEXT], retries[24];
	size_t at;

	letter_id(cfg, &rec->origin, id);
	units_time_text(rec->finished_ns, 3, when);
	snprintf(retries, sizeof(retries), "%lld", (long long)retries_of(failed_task(rec, e)));
	ce_source(&source, rec->org_id, NULL);
	at = out->text.len;
	buf_add(&out->text, source.p, source.len);
	if (rec->job_id)
		out_header_text(out, "job_id", rec->job_id, strlen(rec->job_id));
	if (rec->org_id)
		out_header_text(out, "org_id", rec->org_id, strlen(rec->org_id));
	out_header(out, "error_type", err_name(e->cls), strlen(err_name(e->cls)));
	out_header_text(out, "retry_count", retries, strlen(retries));
	out_header_text(out, "failed_at", when, strlen(when));
	out_ce(out, id, out->text.p + at, source.len, CE_TYPE, when);
	if (rec->traceparent[0])
		out_header_text(out, "traceparent", rec->traceparent, strlen(rec->traceparent));
	buf_release(&source);
}

void
dead_letter_write(const struct config *cfg, const struct jobrec *rec, struct out_record *out)
{
	const struct err *e = job_error(rec);

	if (!e)
		BUG("a dead letter for a job without an error");
	out_begin(out, HEADER_TEXT);
	out_job_key(out, rec);
	write_headers(cfg, rec, e, out);
	write_value(cfg, rec, e, rec->small_records, &out->value);
	if (out_size(out) > (size_t)cfg->kafka_message_max) {
		buf_clear(&out->value);
		write_value(cfg, rec, e, true, &out->value);
	}
}
