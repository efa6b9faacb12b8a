/*
 * defer.c - a job in hand goes to the deferred topic: DESIGN.md rule 8, the writing half.
 *
 * Called by jobs.c (scheduled_at, long retries) and by whoever keeps a quota. The message is written again as it came,
 * its key and its bytes, with headers that say what deferred.c needs to go on: the first place of the message (so that
 * result_id, dead letters and the journal name the same message for ever), attempts and their budget, due time, reason.
 * A job is deferred as a whole and only while none of its sources runs or has ended: a finished listing is neither
 * repeated nor carried along. The message's offset is completed when Kafka has acknowledged the copy, not before. What
 * Kafka does not take is held and sent again; what is too large for it becomes a dead letter.
 */
#include <stdio.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/defer.h"
#include "master/event_priv.h"
#include "master/jobs_priv.h"
#include "common/banned.h"

/* Two copies of one message meet in one partition, whatever its key: so it is not the producer's choice. */
static uint32_t
spread(const struct deferral *d)
{
	uint64_t h = defer_hash(d->topic, strlen(d->topic)) ^ (uint64_t)d->partition * 0x9e3779b97f4a7c15ull ^ (uint64_t)d->offset * 0xc2b2ae3d27d4eb4full;

	h = (h ^ h >> 31) * 0xd6e8feb86659fd93ull;
	return (uint32_t)(h >> 33);
}

static void
describe(const struct jobrec *rec, struct deferral *d)
{
	const struct config *cfg = rec->m->cfg;

	memset(d, 0, sizeof(*d));
	snprintf(d->topic, sizeof(d->topic), "%s", origin_topic(cfg, &rec->origin));
	d->partition = rec->origin.partition;
	d->offset = rec->origin.offset;
	d->due_ns = rec->due_ns;
	d->received_ns = rec->first_received_ns;
	d->started_ns = rec->started_ns;
	d->why = rec->why;
	d->count = rec->deferrals + 1;
	d->n_tasks = rec->n_tasks;
	for (size_t i = 0; i < rec->n_tasks; i++) {
		const struct task *t = &rec->tasks[i];

		d->task[i] = (struct defer_task){ .attempt = t->attempt, .charged = t->charged < t->attempt ? t->charged : t->attempt,
			.crashes = t->crashes > 0, .streamed = t->streamed_before };
		if (t->error.cls != ERR_OK)
			snprintf(d->error, sizeof(d->error), "%s", err_name(t->error.cls));
	}
	snprintf(d->job_id, sizeof(d->job_id), "%s", rec->job_id);
	snprintf(d->org_id, sizeof(d->org_id), "%s", rec->org_id);
	snprintf(d->traceparent, sizeof(d->traceparent), "%s", rec->traceparent);
}

static void
deferred(struct jobrec *rec)
{
	metric_add(METRIC_JOBS_DEFERRED, 1, defer_why_name(rec->why), NULL);
	LOG(LOG_INFO, "job_deferred", LS("job_id", rec->job_id), LS("org_id", rec->org_id), LS("reason", defer_why_name(rec->why)),
	    LD("seconds", (double)(rec->due_ns - clock_real_ns()) / 1e9), LI("partition", rec->origin.partition), LI("offset", rec->origin.offset));
	journal_forget(rec->m->journal, &rec->origin);
	jobs_gone(rec);
}

/* It could never be read back: the job ends here, by name. */
static void
too_large(struct jobrec *rec)
{
	rec->deferring = rec->finishing = false;
	for (size_t i = 0; i < rec->n_tasks; i++) {
		err_set(&rec->tasks[i].error, ERR_MESSAGE_TOO_LARGE, "the job must wait until later, and with its headers it is larger than Kafka takes "
		    "(kafka.message_max %lld, and max.message.bytes of %s)", (long long)rec->m->cfg->kafka_message_max, rec->m->cfg->topic_deferred);
		task_set_state(rec->m, &rec->tasks[i], TASK_DEAD);
	}
	rec->tasks_left = 0;
	jobs_finish(rec);
}

static void
settled(struct jobrec *rec, enum delivery how, const char *why)
{
	if (rec->revoked) {
		jobs_drop_if_free(rec);
	} else if (how == DELIVERY_OK) {
		deferred(rec);
	} else if (how == DELIVERY_TOO_LARGE) {
		too_large(rec);
	} else {
		if (!rec->holds)
			LOG(LOG_WARN, "defer_held", LS("job_id", rec->job_id), LS("reason", why));
		jobs_send_later(rec);
	}
}

static void
delivered(struct ticket *ticket, enum delivery how, const char *why)
{
	struct jobrec *rec = (struct jobrec *)((char *)ticket - offsetof(struct jobrec, ticket));

	rec->pending--;
	settled(rec, how, why);
}

void
defer_send(struct jobrec *rec)
{
	static struct out_record out;
	static struct deferral d;
	struct err e = ERR_INIT;

	describe(rec, &d);
	out_begin(&out, DEFER_HEADER_BYTES_MAX);
	out.has_key = rec->key != NULL;
	if (rec->key)
		buf_add(&out.key, rec->key, rec->key_n);
	buf_add(&out.value, rec->payload, rec->payload_n);
	out.partition = (int32_t)(spread(&d) % consumer_deferred_partitions(rec->m->consumer));
	deferral_write(&d, &out);
	rec->ticket.delivered = delivered;
	rec->pending++;
	if (publish_send(rec->m->publisher, OUT_DEFERRED, &out, &rec->ticket, &e) < 0) {
		rec->pending--;
		settled(rec, e.cls == ERR_MESSAGE_TOO_LARGE ? DELIVERY_TOO_LARGE : DELIVERY_HOLD, e.text);
	}
	/* It may hold a secret. */
	buf_wipe(&out.value);
}

bool
jobs_deferrable(const struct jobrec *rec)
{
	if (rec->finishing || rec->revoked || rec->cancelled || !rec->payload)
		return false;
	for (size_t i = 0; i < rec->n_tasks; i++) {
		enum task_state s = rec->tasks[i].state;

		if (s != TASK_NEW && s != TASK_QUEUED && s != TASK_RETRY)
			return false;
	}
	return true;
}

int
jobs_defer(struct jobrec *rec, int64_t due_ns, enum defer_why why, struct err *e)
{
	const struct config *cfg = rec->m->cfg;
	int64_t wait_ms = (due_ns - clock_real_ns()) / 1000000;

	if (wait_ms > cfg->deferred_longest)
		return err_set(e, ERR_POLICY, "it would wait %lld s, deferred.longest is %lld s", (long long)(wait_ms / 1000),
		    (long long)(cfg->deferred_longest / 1000));
	if (rec->finishing || rec->revoked || rec->cancelled || !rec->payload)
		return err_set(e, ERR_UNSUPPORTED, "the job is ending");
	if (!jobs_deferrable(rec))
		return err_set(e, ERR_UNSUPPORTED, "another source of the job runs or has ended");
	for (size_t i = 0; i < rec->n_tasks; i++) {
		jobs_unqueue(&rec->tasks[i]);
		task_set_state(rec->m, &rec->tasks[i], TASK_RETRY);
	}
	tenant_gave(rec, false);
	rec->finishing = rec->deferring = true;
	rec->due_ns = due_ns;
	rec->why = why;
	rec->holds = 0;
	defer_send(rec);
	return 0;
}
