/*
 * rebalance.c - the consumer's answers when the group gives and takes partitions. Called by consume.c.
 *
 * Revoke: commit, await it for a bounded time, unassign; jobs in hand go on. Assign: ask for the committed offsets,
 * then assign from them: a partition that came back untouched goes on where it was; any other begins at what is
 * committed, and what we still had of it, or of partitions that went elsewhere, is dropped. Never blocks; librdkafka
 * waits until rd_kafka_assign answers it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/consumer.h"
#include "common/banned.h"

#define REVOKE_COMMIT_MS 5000
#define ASK_TIMEOUT_MS 5000
#define ASK_WAIT_FIRST_MS 100
#define ASK_WAIT_MAX_MS 5000

static void ask_offsets(struct consumer *);

static void
wanted_clear(struct consumer *c)
{
	if (c->wanted)
		rd_kafka_topic_partition_list_destroy(c->wanted);
	c->wanted = NULL;
}

static void
answer(struct consumer *c, const rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_resp_err_t err = rd_kafka_assign(c->rk, list);

	c->rebalancing = REB_NONE;
	timer_cancel(c->m->loop, &c->rebalance);
	if (err)
		LOG(LOG_ERROR, "assign_failed", LS("error", rd_kafka_err2str(err)));
}

/* ---- revoke ---------------------------------------------------------------------------------------------------------- */

/* State and jobs stay: most partitions come back with the next assignment. */
static void
unassign(struct consumer *c)
{
	for (size_t i = 0; i < c->n_parts; i++) {
		struct part *p = c->parts[i];

		if (!p)
			continue;
		if (p->paused)
			consumer_pause(c, p, false);
		p->assigned = false;
		consumer_stash_free(c, p);
	}
	deferred_unassign(c->m->deferred);
	answer(c, NULL);
}

void
rebalance_step(struct consumer *c)
{
	if (c->rebalancing != REB_REVOKING || c->committing)
		return;
	if (!c->revoke_committed && consumer_dirty(c)) {
		c->revoke_committed = true;
		consumer_commit(c);
		if (c->committing)
			return;
	}
	unassign(c);
}

static void
revoke(struct consumer *c)
{
	bool lost = rd_kafka_assignment_lost(c->rk) != 0;

	metric_add(METRIC_REBALANCES, 1, lost ? "lost" : "revoke", NULL);
	LOG(lost ? LOG_WARN : LOG_INFO, "partitions_revoked", LT("lost", lost));
	wanted_clear(c);
	if (lost)
		c->joined = false;
	if (lost || c->closing >= CLOSE_LEAVE) {
		unassign(c);
		return;
	}
	/* The next owner reads them behind the jobs: the sooner they are there the better. */
	deferred_flush(c->m->deferred);
	c->rebalancing = REB_REVOKING;
	c->revoke_committed = false;
	timer_set(c->m->loop, &c->rebalance, REVOKE_COMMIT_MS);
	rebalance_step(c);
}

/* ---- assign ---------------------------------------------------------------------------------------------------------- */

static void
ask_again(struct consumer *c, const char *why)
{
	LOG(LOG_WARN, "committed_offsets_unknown", LS("reason", why), LI("retry_ms", c->ask_wait_ms));
	c->ask_seq++;
	timer_set(c->m->loop, &c->rebalance, c->ask_wait_ms);
	c->ask_wait_ms = c->ask_wait_ms * 2 > ASK_WAIT_MAX_MS ? ASK_WAIT_MAX_MS : c->ask_wait_ms * 2;
}

static void
ask_offsets(struct consumer *c)
{
	rd_kafka_ListConsumerGroupOffsets_t *what =
	    rd_kafka_ListConsumerGroupOffsets_new(c->m->cfg->kafka_group_id, c->wanted);
	rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(c->rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
	char text[128];

	c->ask_seq++;
	rd_kafka_AdminOptions_set_request_timeout(o, ASK_TIMEOUT_MS, text, sizeof(text));
	rd_kafka_AdminOptions_set_opaque(o, (void *)c->ask_seq);
	rd_kafka_ListConsumerGroupOffsets(c->rk, &what, 1, o, c->events);
	rd_kafka_ListConsumerGroupOffsets_destroy(what);
	rd_kafka_AdminOptions_destroy(o);
	/* the coordinator may be unknown for longer than one request */
	timer_set(c->m->loop, &c->rebalance, 2 * ASK_TIMEOUT_MS);
}

/* Foreign metadata may hold NULs, and librdkafka 2.0.2 copies only up to the first one, whatever the size says. */
static size_t
meta_len(const rd_kafka_topic_partition_t *t)
{
	return t->metadata ? strnlen(t->metadata, t->metadata_size) : 0;
}

/* Its jobs in hand are somebody else's now. */
static void
part_drop(struct consumer *c, struct part *p)
{
	int32_t id = p->id;
	uint32_t epoch = p->epoch;

	consumer_part_free(c, p);
	jobs_revoke(c->m->jobs, id, epoch);
}

static void
drop_lost(struct consumer *c, const rd_kafka_topic_partition_list_t *kept)
{
	for (size_t i = 0; i < c->n_parts; i++)
		if (c->parts[i] && !rd_kafka_topic_partition_list_find(kept, c->parts[i]->topic, c->parts[i]->id))
			part_drop(c, c->parts[i]);
	deferred_drop_lost(c->m->deferred, kept);
}

static void
part_load(struct consumer *c, struct part *p, const rd_kafka_topic_partition_t *t)
{
	enum offsets_meta how;

	p->epoch = ++c->epochs;
	how = offsets_load(&p->of, t->offset, t->metadata, meta_len(t));
	if (how != OFFSETS_META_OK) {
		metric_add(METRIC_METADATA_IGNORED, 1, NULL, NULL);
		LOG(LOG_WARN, "commit_metadata_ignored", LS("topic", p->topic), LI("partition", p->id), LI("offset", t->offset),
		    LS("metadata", offsets_meta_name(how)), LI("bytes", t->metadata_size));
	}
	consumer_part_acked(p, t->offset, t->metadata, meta_len(t));
	written_set(&p->sent, t->offset, t->metadata, meta_len(t));
	p->acked_changes = p->sent_changes = p->of.changes;
}

/* Untouched since our last commit: nobody else has finished anything of it. */
static bool
part_untouched(const struct part *p, const rd_kafka_topic_partition_t *t)
{
	return written_is(&p->acked, t->offset, t->metadata, meta_len(t)) ||
	    written_is(&p->sent, t->offset, t->metadata, meta_len(t));
}

static struct part *
part_prepare(struct consumer *c, const rd_kafka_topic_partition_t *t)
{
	struct part *p = consumer_part(c, t->topic, t->partition);

	if (p && !part_untouched(p, t)) {
		LOG(LOG_INFO, "partition_was_elsewhere", LS("topic", p->topic), LI("partition", p->id), LI("offset", t->offset));
		part_drop(c, p);
		p = NULL;
	}
	if (!p) {
		p = consumer_part_add(c, t->topic, t->partition);
		if (p)
			part_load(c, p, t);
	}
	return p;
}

/* Its messages go to the jobs queue before the first one can arrive. */
static void
part_forward(struct consumer *c, struct part *p)
{
	if (p->queue)
		rd_kafka_queue_destroy(p->queue);
	p->queue = rd_kafka_queue_get_partition(c->rk, p->topic, p->id);
	if (p->queue)
		rd_kafka_queue_forward(p->queue, c->jobs);
	p->assigned = true;
}

static int64_t
deferred_prepare(struct consumer *c, const rd_kafka_topic_partition_t *t)
{
	rd_kafka_queue_t *q = rd_kafka_queue_get_partition(c->rk, t->topic, t->partition);

	if (q) {
		rd_kafka_queue_forward(q, c->deferred);
		rd_kafka_queue_destroy(q);
	}
	return deferred_assign(c->m->deferred, t, meta_len(t));
}

static int64_t
jobs_prepare(struct consumer *c, const rd_kafka_topic_partition_t *t)
{
	struct part *p = part_prepare(c, t);
	int64_t start = p ? offsets_resume(&p->of) : -1;

	if (!p)
		return -1;
	part_forward(c, p);
	LOG(LOG_INFO, "partition_assigned", LS("topic", p->topic), LI("partition", p->id), LI("committed", t->offset), LI("start", start),
	    LI("done_beyond", offsets_done_beyond(&p->of)), LI("in_hand", p->of.open));
	return start;
}

static void
assign(struct consumer *c, const rd_kafka_topic_partition_list_t *offsets)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(offsets->cnt);
	bool deferred = false;

	drop_lost(c, offsets);
	for (int i = 0; i < offsets->cnt; i++) {
		const rd_kafka_topic_partition_t *t = &offsets->elems[i];
		bool is_deferred = !strcmp(t->topic, c->m->cfg->topic_deferred);
		int64_t start = is_deferred ? deferred_prepare(c, t) : jobs_prepare(c, t);

		deferred |= is_deferred;
		rd_kafka_topic_partition_list_add(list, t->topic, t->partition)->offset = start < 0 ? RD_KAFKA_OFFSET_BEGINNING : start;
	}
	answer(c, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (deferred)
		deferred_ask_retention(c->m->deferred, c->rk, c->events);
	for (size_t i = 0; i < c->n_parts; i++)
		if (c->parts[i] && !offsets_room(&c->parts[i]->of))
			consumer_pause(c, c->parts[i], true);
	c->joined = true;
	c->group_trouble[0] = '\0';
	wanted_clear(c);
}

/* NULL: all right. Each partition we asked for must be answered for: one left out would begin at 0 again. */
static const char *
offsets_wrong(const struct consumer *c, const rd_kafka_topic_partition_list_t *got)
{
	for (int i = 0; i < c->wanted->cnt; i++) {
		const rd_kafka_topic_partition_t *w = &c->wanted->elems[i];
		const rd_kafka_topic_partition_t *t;

		t = rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)(uintptr_t)got, w->topic, w->partition);
		if (!t)
			return "a partition is missing in the answer";
		if (t->err)
			return rd_kafka_err2str(t->err);
	}
	return NULL;
}

void
rebalance_offsets(struct consumer *c, rd_kafka_event_t *ev)
{
	const rd_kafka_ListConsumerGroupOffsets_result_t *r = rd_kafka_event_ListConsumerGroupOffsets_result(ev);
	const rd_kafka_topic_partition_list_t *got = NULL;
	const rd_kafka_group_result_t **groups;
	const char *wrong = NULL;
	size_t n = 0;

	if (c->rebalancing != REB_ASKING || (uintptr_t)rd_kafka_event_opaque(ev) != c->ask_seq)
		return;
	if (rd_kafka_event_error(ev)) {
		ask_again(c, rd_kafka_event_error_string(ev));
		return;
	}
	groups = rd_kafka_ListConsumerGroupOffsets_result_groups(r, &n);
	if (n == 1 && rd_kafka_group_result_error(groups[0]))
		wrong = rd_kafka_error_string(rd_kafka_group_result_error(groups[0]));
	else if (n == 1)
		got = rd_kafka_group_result_partitions(groups[0]);
	if (!wrong)
		wrong = got ? offsets_wrong(c, got) : "the answer names no group";
	if (wrong)
		ask_again(c, wrong);
	else
		assign(c, got);
}

static void
begin_assign(struct consumer *c, rd_kafka_topic_partition_list_t *list)
{
	metric_add(METRIC_REBALANCES, 1, "assign", NULL);
	LOG(LOG_INFO, "partitions_given", LI("partitions", list->cnt));
	wanted_clear(c);
	if (c->closing != CLOSE_NO) {
		answer(c, NULL);
		return;
	}
	if (!list->cnt) {
		assign(c, list);
		return;
	}
	c->wanted = rd_kafka_topic_partition_list_copy(list);
	c->rebalancing = REB_ASKING;
	c->ask_wait_ms = ASK_WAIT_FIRST_MS;
	ask_offsets(c);
}

void
rebalance_event(struct consumer *c, rd_kafka_event_t *ev)
{
	rd_kafka_resp_err_t err = rd_kafka_event_error(ev);

	if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		begin_assign(c, rd_kafka_event_topic_partition_list(ev));
	} else if (err == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
		revoke(c);
	} else {
		LOG(LOG_WARN, "rebalance_failed", LS("error", rd_kafka_err2str(err)));
		wanted_clear(c);
		unassign(c);
	}
}

void
rebalance_due(void *arg)
{
	struct consumer *c = arg;

	if (c->rebalancing == REB_REVOKING) {
		LOG(LOG_WARN, "revoke_commit_late", LI("waited_ms", REVOKE_COMMIT_MS));
		unassign(c);
	} else if (c->rebalancing == REB_ASKING) {
		ask_offsets(c);
	}
}

void
rebalance_abandon(struct consumer *c)
{
	wanted_clear(c);
	if (c->rebalancing != REB_NONE)
		unassign(c);
}
