/*
 * deferred_done.c - what is done of the deferred topic, kept in Kafka: commits of the frontier, marks beyond it.
 *
 * Called by deferred.c, and by partition.c for the commits. deferred.c says how the two go together. A mark or a commit
 * that Kafka does not take is sent again; one that never arrives repeats a job and loses none.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/deferred_priv.h"
#include "common/banned.h"

#define RETRY_MS 1000

/* A stop waits for records that are on their way, not for timers. */
static void
mark_soon(struct deferred *d)
{
	if (d->m->phase == MASTER_DRAINING)
		deferred_flush(d);
	else if (!timer_armed(&d->mark))
		timer_set(d->m->loop, &d->mark, d->m->cfg->kafka_commit_interval);
}

void
deferred_offset_done(struct deferred *d, struct defer_part *p, int64_t offset, bool ended)
{
	consumer_commit_soon(d->m->consumer);
	if (offset < deferred_frontier(p))
		return;
	if (p->n_done == p->done_cap) {
		p->done_cap = p->done_cap ? p->done_cap * 2 : 64;
		p->done = xreallocarray(p->done, p->done_cap, sizeof(*p->done));
	}
	p->done[p->n_done++] = (struct defer_done){ .offset = offset, .ended = ended };
	mark_soon(d);
}

void
deferred_entry_done(struct deferred *d, struct defer_part *p, struct defer_entry *e, bool ended)
{
	struct defer_entry *shadow = e->shadow, *next;
	int64_t offset = e->offset;

	if (ended)
		deferred_remember(d, e);
	else
		deferred_entry_free(d, e);
	deferred_offset_done(d, p, offset, ended);
	for (; shadow; shadow = next) {
		next = shadow->shadow;
		offset = shadow->offset;
		deferred_entry_free(d, shadow);
		deferred_offset_done(d, p, offset, ended);
	}
	if (d->full && deferred_known(d) * 10 < (size_t)d->m->cfg->deferred_jobs * 9)
		d->full = false;
}

void
deferred_completed(struct deferred *d, const struct origin *o)
{
	struct defer_part *p = deferred_part_of(d, o->partition);
	struct defer_entry *e = p && p->epoch == o->epoch ? defer_find(&p->line, o->offset) : NULL;

	if (!e)
		return;
	if (e->state != DEFER_IN_HAND)
		BUG("a deferred job ended without having been released");
	deferred_entry_done(d, p, e, true);
}

struct mark {
	struct ticket ticket;
	struct deferred *d;
	int32_t partition;
	uint32_t epoch;
	size_t n;
	struct defer_done done[];
};

static void
marked(struct ticket *ticket, enum delivery how, const char *why)
{
	struct mark *k = (struct mark *)((char *)ticket - offsetof(struct mark, ticket));
	struct deferred *d = k->d;
	struct defer_part *p = deferred_part_of(d, k->partition);

	if (p && p->epoch == k->epoch) {
		p->marking = false;
		if (how != DELIVERY_OK) {
			LOG(LOG_WARN, "deferred_mark_held", LI("partition", k->partition), LS("reason", why));
			for (size_t i = 0; i < k->n; i++)
				deferred_offset_done(d, p, k->done[i].offset, k->done[i].ended);
			timer_set(d->m->loop, &d->mark, RETRY_MS);
		} else if (p->n_done) {
			mark_soon(d);
		}
	}
	free(k);
}

static void
part_mark(struct deferred *d, struct defer_part *p)
{
	static struct out_record out;
	int64_t frontier = deferred_frontier(p);
	struct err e = ERR_INIT;
	struct mark *k;
	size_t left = 0;

	/* Meanwhile the commit may say it. */
	for (size_t i = 0; i < p->n_done; i++)
		if (p->done[i].offset >= frontier)
			p->done[left++] = p->done[i];
	p->n_done = left;
	if (!left || p->marking || !p->acked_key || !p->assigned)
		return;
	k = xcalloc(1, sizeof(*k) + DEFER_MARK_MAX * sizeof(k->done[0]));
	k->ticket.delivered = marked;
	k->d = d;
	k->partition = p->id;
	k->epoch = p->epoch;
	k->n = left < DEFER_MARK_MAX ? left : DEFER_MARK_MAX;
	memcpy(k->done, p->done, k->n * sizeof(k->done[0]));
	defer_mark_write(p->key, p->id, k->done, k->n, &out);
	if (publish_send(d->m->publisher, OUT_DEFERRED, &out, &k->ticket, &e) < 0) {
		free(k);
		timer_set(d->m->loop, &d->mark, RETRY_MS);
		return;
	}
	p->n_done -= k->n;
	memmove(p->done, p->done + k->n, p->n_done * sizeof(p->done[0]));
	p->marking = true;
}

void
deferred_flush(struct deferred *d)
{
	timer_cancel(d->m->loop, &d->mark);
	for (size_t i = 0; i < d->n_parts; i++)
		if (d->parts[i] && d->parts[i]->n_done)
			part_mark(d, d->parts[i]);
}

void
deferred_mark_due(void *arg)
{
	deferred_flush(arg);
}

/* ---- commits ----------------------------------------------------------------------------------------------------------- */

static bool
part_dirty(const struct defer_part *p)
{
	int64_t frontier = p && p->assigned ? deferred_frontier(p) : -1;

	return frontier >= 0 && (frontier != p->acked || !p->acked_key);
}

bool
deferred_dirty(const struct deferred *d)
{
	for (size_t i = 0; i < d->n_parts; i++)
		if (part_dirty(d->parts[i]))
			return true;
	return false;
}

void
deferred_commit_add(struct deferred *d, rd_kafka_topic_partition_list_t *list, uintptr_t seq)
{
	for (size_t i = 0; i < d->n_parts; i++) {
		struct defer_part *p = d->parts[i];
		rd_kafka_topic_partition_t *t;
		char meta[DEFER_META_TEXT];

		if (!part_dirty(p))
			continue;
		t = rd_kafka_topic_partition_list_add(list, d->m->cfg->topic_deferred, p->id);
		t->offset = p->sent = deferred_frontier(p);
		defer_meta_write(p->key, meta);
		/* the list frees it */
		t->metadata = xmemdup0(meta, DEFER_META_TEXT - 1);
		t->metadata_size = DEFER_META_TEXT - 1;
		p->sent_seq = seq;
	}
}

void
deferred_committed(struct deferred *d, int32_t partition, uintptr_t seq)
{
	struct defer_part *p = deferred_part_of(d, partition);

	if (!p || p->sent_seq != seq)
		return;
	p->acked = p->sent;
	p->acked_key = true;
	if (p->n_done)
		mark_soon(d);
}
