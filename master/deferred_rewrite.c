/*
 * deferred_rewrite.c - deferred jobs are written again before their topic would remove them.
 *
 * Called by its timer. Records of a partition stand in the order of their writing: only the first ones have to be looked
 * at. One that is older than deferred.rewrite_interval (or a quarter of the topic's retention.ms, if that is less) is sent
 * again to the same partition, byte for byte; when the copy is read back it takes the place of the old one (deferred.c),
 * and until then neither is released.
 * The same is done with the first ones of a partition whose records are done for the most part, so that what a start has
 * to read stays in proportion to what waits. A copy that is lost is sent again. While there is no room to read (deferred.c)
 * nothing is written: its copy would not be read, and it would be written again and again.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/deferred_priv.h"
#include "master/event_priv.h"
#include "common/banned.h"

#define SWEEP_MIN_MS 100
#define SWEEP_MAX_MS 60000
#define IN_FLIGHT_MAX 500
#define AGAIN_MS 60000
#define SETTLED_MS 10000        /* once there is room, until what stood unread has been read */
#define SPAN_FREE 20000         /* records that may be done beyond as many as wait */

struct copy { struct ticket ticket; struct deferred *d; int32_t partition; uint32_t epoch; int64_t offset; };

static void
copied(struct ticket *ticket, enum delivery how, const char *why)
{
	struct copy *c = (struct copy *)((char *)ticket - offsetof(struct copy, ticket));
	struct deferred *d = c->d;
	struct defer_part *p = deferred_part_of(d, c->partition);
	struct defer_entry *en = p && p->epoch == c->epoch ? defer_find(&p->line, c->offset) : NULL;

	if (how != DELIVERY_OK) {
		LOG(LOG_WARN, "deferred_rewrite_held", LS("reason", why));
		if (en && en->state == DEFER_WAITING) {
			en->rewritten_ms = 0;
			if (p->assigned && p->caught_up)
				defer_wait(&d->index, en);
		}
	}
	free(c);
	/* the next ones at once */
	if (d->rewriting-- == IN_FLIGHT_MAX || !d->rewriting)
		timer_set(d->m->loop, &d->sweep, 0);
}

static void
rewrite(struct deferred *d, struct defer_part *p, struct defer_entry *en, const char *reason)
{
	static struct out_record out;
	static struct buf bytes;
	struct copy *c;
	struct err e = ERR_INIT;
	struct defer_record r;

	if (deferred_load(d, en, &bytes, &r) < 0)
		return;
	out_begin(&out, 0);
	out.partition = p->id;
	out.has_key = r.has_key;
	if (r.has_key)
		buf_add(&out.key, r.key, r.key_n);
	buf_add(&out.value, r.value, r.n);
	for (size_t i = 0; i < r.n_headers; i++)
		out_header(&out, r.h[i].name, r.h[i].value, r.h[i].n);
	c = xcalloc(1, sizeof(*c));
	*c = (struct copy){ .ticket = { copied }, .d = d, .partition = p->id, .epoch = p->epoch, .offset = en->offset };
	d->rewriting++;
	if (publish_send(d->m->publisher, OUT_DEFERRED, &out, &c->ticket, &e) < 0) {
		d->rewriting--;
		free(c);
	} else {
		/* Not released before the copy was read: it would be done, and then the copy again. */
		en->rewritten_ms = loop_now(d->m->loop);
		d->copies = true;
		defer_unwait(&d->index, en);
		metric_add(METRIC_DEFERRED_REWRITTEN, 1, reason, NULL);
	}
	explicit_bzero(bytes.p, bytes.len);
	buf_wipe(&out.value);
}

static int64_t
interval(const struct deferred *d)
{
	int64_t own = d->m->cfg->deferred_rewrite;

	return d->retention_ms >= 0 && d->retention_ms / 4 < own ? d->retention_ms / 4 : own;
}

/* NULL: it may stay where it is. */
static const char *
reason(const struct deferred *d, const struct defer_part *p, const struct defer_entry *e, int64_t now_ms)
{
	if (now_ms - e->written_ms > interval(d))
		return "retention";
	return (uint64_t)(p->next - e->offset) > 2 * p->line.live + SPAN_FREE ? "span" : NULL;
}

static void
part_sweep(struct deferred *d, struct defer_part *p, int64_t now_ms)
{
	int64_t loop_ms = loop_now(d->m->loop);

	for (size_t i = p->line.head; i < p->line.n && d->rewriting < IN_FLIGHT_MAX && publish_room(d->m->publisher, 1); i++) {
		struct defer_entry *e = p->line.row[i].e;
		const char *why = e ? reason(d, p, e, now_ms) : NULL;

		if (e && !why)
			return;
		/* One that is in hand ends soon, and one that is cancelled: by a record that has to stand behind it. */
		if (e && e->state == DEFER_WAITING && !e->cancel && !e->wished && (!e->rewritten_ms || loop_ms - e->rewritten_ms > AGAIN_MS))
			rewrite(d, p, e, why);
	}
}

static bool
settled(const struct deferred *d)
{
	return !d->held_ms || loop_now(d->m->loop) - d->held_ms > SETTLED_MS;
}

void
deferred_sweep_due(void *arg)
{
	struct deferred *d = arg;
	int64_t wait = interval(d) / 10;

	if (d->m->phase == MASTER_RUNNING && !publisher_trouble(d->m->publisher) && deferred_room(d) && settled(d))
		for (size_t i = 0; i < d->n_parts; i++)
			if (d->parts[i] && d->parts[i]->assigned && d->parts[i]->caught_up)
				part_sweep(d, d->parts[i], clock_real_ns() / 1000000);
	timer_set(d->m->loop, &d->sweep, wait < SWEEP_MIN_MS ? SWEEP_MIN_MS : wait > SWEEP_MAX_MS ? SWEEP_MAX_MS : wait);
}

/* ---- the topic's retention ---------------------------------------------------------------------------------------------- */

void
deferred_ask_retention(struct deferred *d, rd_kafka_t *rk, rd_kafka_queue_t *answer)
{
	rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_ConfigResource_t *r = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, d->m->cfg->topic_deferred);

	rd_kafka_DescribeConfigs(rk, &r, 1, o, answer);
	rd_kafka_ConfigResource_destroy(r);
	rd_kafka_AdminOptions_destroy(o);
}

/* Without the right to ask, or where the brokers do not know the question, the setting alone says when. */
void
deferred_retention(struct deferred *d, rd_kafka_event_t *ev)
{
	const rd_kafka_ConfigResource_t **list = NULL;
	const rd_kafka_ConfigEntry_t **entries;
	size_t n = 0, m = 0;

	if (!rd_kafka_event_error(ev))
		list = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(ev), &n);
	for (size_t i = 0; list && i < n && !rd_kafka_ConfigResource_error(list[i]); i++) {
		entries = rd_kafka_ConfigResource_configs(list[i], &m);
		for (size_t k = 0; k < m; k++) {
			const char *v = rd_kafka_ConfigEntry_value(entries[k]);

			if (v && !strcmp(rd_kafka_ConfigEntry_name(entries[k]), "retention.ms"))
				d->retention_ms = strtoll(v, NULL, 10);
		}
	}
	/* the sweep may be waiting for as long as the setting alone says */
	timer_set(d->m->loop, &d->sweep, 0);
	LOG(rd_kafka_event_error(ev) ? LOG_DEBUG : LOG_INFO, "deferred_retention", LI("retention_ms", d->retention_ms), LI("rewrite_ms", interval(d)),
	    LS("error", rd_kafka_event_error(ev) ? rd_kafka_event_error_string(ev) : NULL));
}
