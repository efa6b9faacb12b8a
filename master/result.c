/*
 * result.c - the terminal record: how a job ended, one JSON object on the results topic.
 *
 * jobs.c calls it when all tasks of a job have ended, and again with the same result where Kafka did not take the
 * record. An empty listing, a failed one and a partial one are told apart by event_type; what is not known is null.
 * A record that Kafka would not take is written again with less in it, never left out.
 */
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/event_priv.h"
#include "common/banned.h"

#define HEADER_TEXT 4096         /* job_id and org_id as bytes, and in percent-encoding */

/* What is left out, step by step, until the record fits. */
enum detail { DETAIL_ALL, DETAIL_NO_LISTS, DETAIL_NO_SOURCES };

#define ERROR_TEXT_SMALL 200

struct sums { uint64_t listed, matched, skipped, published; bool known, truncated; uint32_t attempts; };

const char *
origin_topic(const struct config *cfg, const struct origin *o)
{
	return o->topic ? o->topic : cfg->topic_jobs;
}

void
result_id(const struct config *cfg, const struct origin *o, char out[UUID_TEXT])
{
	char where[64];
	int n = snprintf(where, sizeof(where), "%d:%lld", (int)o->partition, (long long)o->offset);
	const struct uuid_part parts[] = {
		{ "result", 6 }, { origin_topic(cfg, o), strlen(origin_topic(cfg, o)) }, { where, (size_t)n },
	};

	uuid5(uuid_ns_poller, parts, ARRAY_LEN(parts), out);
}

/* Did a worker account for the last attempt? One that died did not: its numbers are unknown, not 0. */
static bool
accounted(const struct task *t)
{
	if (t->state == TASK_DONE || t->done->listed)
		return true;
	return t->attempt && t->done->cls != ERR_OK && !t->verdict.pid;
}

static struct sums
add_up(const struct jobrec *rec)
{
	struct sums s = { 0 };

	for (size_t i = 0; i < rec->n_tasks; i++) {
		const struct task *t = &rec->tasks[i];

		s.published += t->published;
		if (t->attempt > s.attempts)
			s.attempts = t->attempt;
		if (!accounted(t))
			continue;
		s.known = true;
		s.listed += t->done->listed;
		s.matched += t->done->matched;
		s.skipped += t->done->skipped;
		s.truncated |= t->done->truncated;
	}
	return s;
}

static void
write_count(struct jsonw *j, const char *key, bool known, uint64_t v)
{
	if (known)
		jsonw_int(j, key, v > INT64_MAX ? INT64_MAX : (int64_t)v);
	else
		jsonw_null(j, key);
}

static void
write_error(struct jsonw *j, const struct err *e, enum detail detail)
{
	size_t n = e ? strlen(e->text) : 0;

	if (!e || e->cls == ERR_OK) {
		jsonw_null(j, "error");
		return;
	}
	if (detail == DETAIL_NO_SOURCES && n > ERROR_TEXT_SMALL)
		n = ERROR_TEXT_SMALL;
	jsonw_object(j, "error");
	jsonw_str(j, "class", err_name(e->cls));
	jsonw_strn(j, "message", e->text, n);
	jsonw_end_object(j);
}

static void
write_unreadable(struct jsonw *j, const struct task_done *d, enum detail detail)
{
	jsonw_array(j, "unreadable_entries");
	for (uint32_t i = 0; detail == DETAIL_ALL && i < d->n_named; i++) {
		jsonw_object(j, NULL);
		jsonw_str(j, "path", d->named[i].path);
		jsonw_str(j, "reason", d->named[i].reason);
		jsonw_end_object(j);
	}
	jsonw_end_array(j);
}

static void
write_source(struct jsonw *j, const struct task *t, enum detail detail)
{
	const struct source_conf *c = &t->job->job->sources[t->index];
	const struct task_done *d = t->done;
	bool known = accounted(t);

	jsonw_object(j, NULL);
	jsonw_str(j, "source_id", c->source_id);
	jsonw_str(j, "source_type", source_rows[c->type].name);
	write_count(j, "listed", known, d->listed);
	write_count(j, "matched", known, d->matched);
	write_count(j, "published", t->attempt > 0, t->published);
	write_count(j, "skipped", known, d->skipped);
	if (known)
		jsonw_bool(j, "truncated", d->truncated);
	else
		jsonw_null(j, "truncated");
	write_count(j, "unreadable", known, d->unreadable);
	write_unreadable(j, d, detail);
	jsonw_str(j, "peer", d->peer[0] ? d->peer : NULL);
	jsonw_str(j, "phase", known ? task_phase_name(d->phase) : NULL);
	jsonw_int(j, "attempts", t->attempt);
	write_error(j, t->state == TASK_DEAD ? &t->error : NULL, detail);
	jsonw_end_object(j);
}

static void
write_task_warnings(struct jsonw *j, const struct config *cfg, const struct task *t)
{
	const char *id = t->job->job->sources[t->index].source_id;
	struct buf text = BUF_INIT;
	size_t head;

	if (t->done->unreadable) {
		buf_printf(&text, "%s: %llu %s could not be read", id, (unsigned long long)t->done->unreadable,
		    t->done->unreadable == 1 ? "entry" : "entries");
		jsonw_strn(j, NULL, text.p, text.len);
	}
	for (int i = 0; i < NOTE__MAX; i++) {
		uint64_t n = t->done->notes[i];

		if (!n)
			continue;
		buf_clear(&text);
		buf_printf(&text, "%s: %llu %s %s", id, (unsigned long long)n, n == 1 ? "file" : "files", task_note_text((enum task_note)i));
		jsonw_strn(j, NULL, text.p, text.len);
	}
	buf_clear(&text);
	if (t->done->truncated) {
		buf_printf(&text, "%s: more files match than filters.max_files", id);
		jsonw_strn(j, NULL, text.p, text.len);
	}
	buf_clear(&text);
	buf_printf(&text, "%s: ", id);
	head = text.len;
	certificate_warning(cfg, t->done, t->job->finished_ns, &text);
	if (text.len > head)
		jsonw_strn(j, NULL, text.p, text.len);
	buf_release(&text);
}

static void
write_warnings(struct jsonw *j, const struct config *cfg, const struct jobrec *rec, enum detail detail)
{
	jsonw_array(j, "warnings");
	if (detail != DETAIL_ALL)
		jsonw_str(j, NULL, "metadata, warnings and names are left out: the record was larger than Kafka takes");
	for (size_t i = 0; detail == DETAIL_ALL && rec->job && i < rec->job->warnings.n; i++)
		jsonw_str(j, NULL, rec->job->warnings.v[i]);
	for (size_t i = 0; detail == DETAIL_ALL && i < rec->n_tasks; i++)
		write_task_warnings(j, cfg, &rec->tasks[i]);
	jsonw_end_array(j);
}

static void
write_times(struct jsonw *j, const struct jobrec *rec)
{
	int64_t took = rec->finished_ns - rec->started_ns;

	jsonw_time(j, "received_at", rec->first_received_ns);
	jsonw_time(j, "started_at", rec->started_ns ? rec->started_ns : TIME_UNKNOWN);
	jsonw_time(j, "finished_at", rec->finished_ns);
	if (rec->started_ns)
		jsonw_dbl(j, "duration_seconds", took > 0 ? (double)took / 1e9 : 0, 3);
	else
		jsonw_null(j, "duration_seconds");
}

static void
write_value(const struct config *cfg, const struct jobrec *rec, const char *id, enum detail detail, struct buf *out)
{
	struct sums s = add_up(rec);
	struct jsonw j;
	char type[32];

	snprintf(type, sizeof(type), "job.%s", job_outcome_name(job_outcome(rec)));
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_int(&j, "schema_version", 1);
	jsonw_str(&j, "result_id", id);
	jsonw_str(&j, "event_type", type);
	jsonw_str(&j, "job_id", rec->job_id);
	jsonw_str(&j, "org_id", rec->org_id);
	write_count(&j, "attempt", s.attempts > 0, s.attempts);
	write_times(&j, rec);
	write_count(&j, "listed", s.known, s.listed);
	write_count(&j, "matched", s.known, s.matched);
	jsonw_int(&j, "published", (int64_t)s.published);
	write_count(&j, "skipped", s.known, s.skipped);
	jsonw_bool(&j, "truncated", s.truncated);
	jsonw_array(&j, "sources");
	for (size_t i = 0; detail != DETAIL_NO_SOURCES && i < rec->n_tasks; i++)
		write_source(&j, &rec->tasks[i], detail);
	jsonw_end_array(&j);
	write_error(&j, job_error(rec), detail);
	write_warnings(&j, cfg, rec, detail);
	if (rec->job && detail == DETAIL_ALL)
		jsonw_raw(&j, "metadata", rec->job->metadata, rec->job->metadata_n);
	else if (rec->refused_metadata && detail == DETAIL_ALL)
		jsonw_raw(&j, "metadata", rec->refused_metadata, strlen(rec->refused_metadata));
	else
		jsonw_null(&j, "metadata");
	jsonw_object(&j, "origin");
	jsonw_str(&j, "topic", origin_topic(cfg, &rec->origin));
	jsonw_int(&j, "partition", rec->origin.partition);
	jsonw_int(&j, "offset", rec->origin.offset);
	jsonw_end_object(&j);
	jsonw_end_object(&j);
}

static const char *
ce_type(enum job_outcome o)
{
	static const char *const types[OUTCOME__MAX] = {
		[OUTCOME_COMPLETED] = "com.iis.poller.job.completed.v1",
		[OUTCOME_PARTIAL] = "com.iis.poller.job.partial.v1",
		[OUTCOME_FAILED] = "com.iis.poller.job.failed.v1",
		[OUTCOME_CANCELLED] = "com.iis.poller.job.cancelled.v1",
	};

	return types[o];
}

static void
write_headers(const struct jobrec *rec, const char *id, struct out_record *out)
{
	struct buf source = BUF_INIT;
	char when[UNITS_TEXT];
	size_t at = 0;

	units_time_text(rec->finished_ns, 3, when);
	ce_source(&source, rec->org_id, NULL);
	at = out->text.len;
	buf_add(&out->text, source.p, source.len);
	if (rec->job_id)
		out_header_text(out, "job_id", rec->job_id, strlen(rec->job_id));
	if (rec->org_id)
		out_header_text(out, "org_id", rec->org_id, strlen(rec->org_id));
	out_ce(out, id, out->text.p + at, source.len, ce_type(job_outcome(rec)), when);
	if (rec->traceparent[0])
		out_header_text(out, "traceparent", rec->traceparent, strlen(rec->traceparent));
	buf_release(&source);
}

void
result_write(const struct config *cfg, const struct jobrec *rec, struct out_record *out)
{
	char id[UUID_TEXT];
	/* Refused again: the topic takes less than kafka.message_max, so less is said. */
	int detail = !rec->small_records ? DETAIL_ALL : rec->holds < 2 ? DETAIL_NO_LISTS : DETAIL_NO_SOURCES;

	out_begin(out, HEADER_TEXT);
	result_id(cfg, &rec->origin, id);
	out_job_key(out, rec);
	write_headers(rec, id, out);
	write_value(cfg, rec, id, (enum detail)detail, &out->value);
	while (out_size(out) > (size_t)cfg->kafka_message_max && detail < DETAIL_NO_SOURCES) {
		buf_clear(&out->value);
		write_value(cfg, rec, id, (enum detail)++detail, &out->value);
	}
}
