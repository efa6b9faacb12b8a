/*
 * partition.c - the polling queues' partitions that are ours, and the commits of what is done of them.
 *
 * Called by consume.c, rebalance.c and jobs.c. At most one commit is in flight; what was not acknowledged is
 * committed again. Never blocks: the result comes as an event.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/consumer.h"
#include "master/defer.h"
#include "common/banned.h"

#define PARTITIONS_MAX 1000000
#define COMMIT_RETRY_MS 1000

/* ---- partitions -------------------------------------------------------------------------------------------------------- */

void
written_set(struct written *w, int64_t offset, const char *meta, size_t n)
{
	char *copy = xmemdup0(n ? meta : "", n);

	free(w->meta);
	w->meta = copy;
	w->offset = offset;
}

bool
written_is(const struct written *w, int64_t offset, const char *meta, size_t n)
{
	return w->meta && w->offset == offset && strlen(w->meta) == n && (!n || !memcmp(w->meta, meta, n));
}

void
consumer_part_acked(struct part *p, int64_t offset, const char *meta, size_t n)
{
	written_set(&p->acked, offset, meta, n);
	p->acked_read = false;
}

/* Its place in the table, which may be beyond the end; SIZE_MAX: no topic and number of ours. */
static size_t
slot_of(const struct consumer *c, const char *topic, int32_t id)
{
	size_t q = 0;

	while (topic && q < c->n_queues && strcmp(topic, c->queues[q]))
		q++;
	return id < 0 || id >= PARTITIONS_MAX || q >= c->n_queues ? SIZE_MAX : (size_t)id * c->n_queues + q;
}

struct part *
consumer_part(struct consumer *c, const char *topic, int32_t id)
{
	size_t slot = slot_of(c, topic, id);

	return slot < c->n_parts ? c->parts[slot] : NULL;
}

struct part *
consumer_part_add(struct consumer *c, const char *topic, int32_t id)
{
	size_t slot = slot_of(c, topic, id);
	struct part *p;

	if (slot == SIZE_MAX)
		return NULL;
	if (slot >= c->n_parts) {
		size_t n = slot + 16;

		c->parts = xreallocarray(c->parts, n, sizeof(struct part *));
		memset(c->parts + c->n_parts, 0, (n - c->n_parts) * sizeof(struct part *));
		c->n_parts = n;
	}
	p = xcalloc(1, sizeof(*p));
	p->topic = c->queues[slot % c->n_queues];
	p->slot = slot;
	p->id = id;
	offsets_init(&p->of);
	c->parts[slot] = p;
	return p;
}

void
consumer_stash_free(struct consumer *c, struct part *p)
{
	for (size_t i = 0; i < p->n_stash; i++)
		rd_kafka_message_destroy(p->stash[i]);
	c->stashed -= p->n_stash;
	p->n_stash = 0;
}

void
consumer_part_free(struct consumer *c, struct part *p)
{
	c->parts[p->slot] = NULL;
	consumer_stash_free(c, p);
	if (p->queue)
		rd_kafka_queue_destroy(p->queue);
	offsets_release(&p->of);
	offsets_release(&p->acked_of);
	free(p->stash);
	free(p->acked.meta);
	free(p->sent.meta);
	free(p);
}

void
consumer_pause(struct consumer *c, struct part *p, bool paused)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err;

	rd_kafka_topic_partition_list_add(list, p->topic, p->id);
	err = paused ? rd_kafka_pause_partitions(c->rk, list) : rd_kafka_resume_partitions(c->rk, list);
	if (!err)
		err = list->elems[0].err;
	rd_kafka_topic_partition_list_destroy(list);
	p->paused = paused;
	if (paused)
		tenants_window_full(c->m);
	LOG(err ? LOG_WARN : LOG_INFO, paused ? "partition_paused" : "partition_resumed", LS("topic", p->topic), LI("partition", p->id),
	    LI("in_hand", p->of.open), LI("span", p->of.end - p->of.frontier), LS("error", err ? rd_kafka_err2str(err) : NULL));
}

/* The text of a commit is read at most once, and only where the frontier alone does not say it. */
static bool
part_committed(struct part *p, int64_t offset)
{
	if (!p->acked.meta || p->acked.offset < 0)
		return false;
	if (offset < p->acked.offset)
		return true;
	if (!p->acked_read)
		offsets_load(&p->acked_of, p->acked.offset, p->acked.meta, strlen(p->acked.meta));
	p->acked_read = true;
	return offsets_done(&p->acked_of, offset);
}

enum consumer_place
consumer_place(struct consumer *c, uint64_t topic, int32_t partition, int64_t offset)
{
	for (size_t q = 0; q < c->n_queues; q++) {
		struct part *p;

		if (defer_hash(c->queues[q], strlen(c->queues[q])) != topic)
			continue;
		p = consumer_part(c, c->queues[q], partition);
		return !p ? PLACE_ELSEWHERE : part_committed(p, offset) ? PLACE_COMMITTED : PLACE_OPEN;
	}
	return PLACE_ELSEWHERE;
}

static bool
is_jammed(const struct part *p)
{
	return p && p->assigned && p->paused && !offsets_half(&p->of);
}

bool
consumer_jammed(const struct consumer *c)
{
	for (size_t i = 0; i < c->n_parts; i++)
		if (is_jammed(c->parts[i]))
			return true;
	return false;
}

void
consumer_windows_clear(struct consumer *c)
{
	for (size_t i = 0; i < c->n_parts; i++)
		if (c->parts[i])
			c->parts[i]->in_window = 0;
}

size_t *
consumer_window(struct consumer *c, const struct origin *at)
{
	struct part *p = at->deferred ? NULL : consumer_part(c, origin_topic(c->m->cfg, at), at->partition);

	return is_jammed(p) && p->epoch == at->epoch ? &p->in_window : NULL;
}

/* ---- commits ---------------------------------------------------------------------------------------------------------------- */

static bool
part_dirty(const struct part *p)
{
	return p && p->assigned && p->of.known && p->of.changes != p->acked_changes;
}

bool
consumer_dirty(const struct consumer *c)
{
	for (size_t i = 0; i < c->n_parts; i++)
		if (part_dirty(c->parts[i]))
			return true;
	return deferred_dirty(c->m->deferred);
}

static void
commit_part(const struct consumer *c, rd_kafka_topic_partition_list_t *list, struct part *p, struct buf *text)
{
	rd_kafka_topic_partition_t *t = rd_kafka_topic_partition_list_add(list, p->topic, p->id);

	offsets_encode(&p->of, text);
	t->offset = p->of.frontier;
	if (text->len) {
		/* the list frees it */
		t->metadata = xmemdup0(text->p, text->len);
		t->metadata_size = text->len;
	}
	written_set(&p->sent, t->offset, text->p, text->len);
	p->sent_changes = p->of.changes;
	p->sent_seq = c->commit_seq;
}

void
consumer_commit(struct consumer *c)
{
	rd_kafka_topic_partition_list_t *list;
	struct buf text = BUF_INIT;
	rd_kafka_resp_err_t err;

	timer_cancel(c->m->loop, &c->commit);
	if (c->committing || !consumer_dirty(c))
		return;
	c->commit_seq++;
	list = rd_kafka_topic_partition_list_new(16);
	for (size_t i = 0; i < c->n_parts; i++)
		if (part_dirty(c->parts[i]))
			commit_part(c, list, c->parts[i], &text);
	deferred_commit_add(c->m->deferred, list, c->commit_seq);
	err = rd_kafka_commit_queue(c->rk, list, c->events, NULL, (void *)c->commit_seq);
	rd_kafka_topic_partition_list_destroy(list);
	buf_release(&text);
	c->committing = !err;
	if (err) {
		metric_add(METRIC_COMMITS, 1, "error", NULL);
		LOG(LOG_WARN, "commit_failed", LS("error", rd_kafka_err2str(err)));
		timer_set(c->m->loop, &c->commit, COMMIT_RETRY_MS);
	}
}

static void
commit_soon(struct consumer *c, int64_t ms)
{
	if (!c->committing && !timer_armed(&c->commit))
		timer_set(c->m->loop, &c->commit, ms);
}

void
consumer_commit_soon(struct consumer *c)
{
	commit_soon(c, c->m->cfg->kafka_commit_interval);
}

void
consumer_commit_due(void *arg)
{
	struct consumer *c = arg;

	if (c->rebalancing == REB_NONE && c->closing == CLOSE_NO)
		consumer_commit(c);
}

static rd_kafka_resp_err_t
commit_error(rd_kafka_event_t *ev, const rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_resp_err_t err = rd_kafka_event_error(ev);

	for (int i = 0; list && i < list->cnt && !err; i++)
		err = list->elems[i].err;
	return err;
}

void
consumer_committed(struct consumer *c, rd_kafka_event_t *ev)
{
	const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(ev);
	rd_kafka_resp_err_t err = commit_error(ev, list);
	uintptr_t seq = (uintptr_t)rd_kafka_event_opaque(ev);

	if (seq != c->commit_seq || !c->committing)
		return;
	c->committing = false;
	metric_add(METRIC_COMMITS, 1, err ? "error" : "success", NULL);
	for (int i = 0; list && i < list->cnt && !err; i++) {
		struct part *p = consumer_part(c, list->elems[i].topic, list->elems[i].partition);

		if (!strcmp(list->elems[i].topic, c->m->cfg->topic_deferred)) {
			deferred_committed(c->m->deferred, list->elems[i].partition, seq);
			continue;
		}
		if (!p || p->sent_seq != seq)
			continue;
		consumer_part_acked(p, p->sent.offset, p->sent.meta, strlen(p->sent.meta));
		p->acked_changes = p->sent_changes;
	}
	/* what is not acknowledged stays dirty; in a rebalance that is usual */
	if (err)
		LOG(c->rebalancing == REB_NONE ? LOG_WARN : LOG_INFO, "commit_failed", LS("error", rd_kafka_err2str(err)));
	rebalance_step(c);
	consumer_close_step(c);
	if (consumer_dirty(c))
		commit_soon(c, err ? COMMIT_RETRY_MS : c->m->cfg->kafka_commit_interval);
}

void
consumer_completed(struct consumer *c, const struct origin *o)
{
	struct part *p = consumer_part(c, o->topic, o->partition);

	if (!p || p->epoch != o->epoch)
		return;
	if (!offsets_complete(&p->of, o->offset)) {
		LOG(LOG_ERROR, "completed_twice", LS("topic", p->topic), LI("partition", o->partition), LI("offset", o->offset));
		return;
	}
	if (p->paused && !p->n_stash && offsets_half(&p->of))
		consumer_pause(c, p, false);
	if (p->n_stash)
		consumer_kick(c);
	commit_soon(c, c->m->cfg->kafka_commit_interval);
}

/* ---- what others may know -------------------------------------------------------------------------------------------------------- */

static void
view(const struct consumer *c, const struct part *p, struct partition_view *v)
{
	int64_t low = -1, high = -1;

	memset(v, 0, sizeof(*v));
	v->topic = p->topic;
	v->partition = p->id;
	v->frontier = p->of.frontier;
	v->next = p->of.next;
	v->done_beyond = offsets_done_beyond(&p->of);
	v->unfinished = p->of.open;
	v->paused = p->paused;
	v->committed = p->acked.meta && p->acked.offset >= 0 ? p->acked.offset : -1;
	/* what the last fetch said; asks nobody */
	if (rd_kafka_get_watermark_offsets(c->rk, p->topic, p->id, &low, &high) || high < 0)
		high = -1;
	v->high = high;
}

size_t
consumer_partitions(const struct consumer *c, struct partition_view *out, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_parts && n < max; i++)
		if (c->parts[i] && c->parts[i]->assigned)
			view(c, c->parts[i], &out[n++]);
	return n;
}
