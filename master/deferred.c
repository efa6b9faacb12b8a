/*
 * deferred.c - jobs of the deferred topic: read back, held in an index until due, released to jobs.c, marked as done.
 *
 * DESIGN.md rule 8, the reading half. The consumer's group is subscribed to both topics, so deferred partitions spread
 * over the daemons and move in rebalances as all do; this file keeps their state, consume.c, partition.c and rebalance.c
 * call it.
 *
 * Jobs of one partition are due at any time, in no order. Each record is read once; its bytes go to an unlinked, sealed
 * file (defer_store.c), its place and time to an index in memory (defer_index.c); a timer fires when the next is due.
 * Nothing is asked of Kafka or of the index while they wait. A partition is first read to its end (the event of the end
 * of partition), then releases: only then all marks are known.
 *
 * What is done: the commit of the frontier, the lowest offset that is not done, says it for all below. For those beyond it
 * the set may be of any shape and does not fit a commit's metadata; so a mark, a record at the end of the same partition,
 * names them, some hundred at once, and whoever reads the partition later finds it behind them. A mark counts only with the
 * signature of the partition's key, which travels in the commit's metadata: the right to write to the topic is not enough
 * to make a job vanish. Marks wait until the key is committed. A lost mark repeats a job, with the same result_id.
 *
 * The same message twice (a crash between the acknowledgement of its deferral and the commit of its own offset; a copy
 * that was written again): both copies carry the same origin, the same bytes and the same count, and stand in the same
 * partition. The later one stands for both; a lower count is a leftover. What has ended before its first message's offset
 * was committed is remembered for as long (deferred_ended.c), so that neither message nor copy is done once more. Records
 * that are none of a poller's are released at once and end as dead letters of class invalid_job, under their place in this
 * topic.
 *
 * What was deferred because its tenant had too much waiting, and nothing else, is also released before it is due, once the
 * tenant has little.
 *
 * No room (deferred.jobs_max, deferred.store_max, a full disk): reading stops, releasing goes on, and what ends makes room.
 * Marks and copies may stand unread meanwhile: then a job is repeated, with the same result_id, rather than held.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cursor.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/deferred_priv.h"
#include "master/event_priv.h"
#include "common/banned.h"

#define RELEASED_A_ROUND 200
#define EARLY_PART 8            /* of the queue: a tenant that has less than this is given back what was deferred because it had half */
#define LOOK_MS 60000           /* the wall clock may have been set */
#define RETRY_MS 1000
#define CATCH_UP_MS 10000
#define GIVE_BACK_FROM 10000
#define PARTITIONS_MAX 1000000
#define RISK "meanwhile further deferred jobs are late, none is written again, and what stands longer than the topic's retention.ms is lost"

/* ---- a record's bytes ------------------------------------------------------------------------------------------------ */

int
deferred_load(struct deferred *d, const struct defer_entry *en, struct buf *b, struct defer_record *r)
{
	struct err e = ERR_INIT;

	if (defer_store_get(d->store, en->slot, b, &e) < 0) {
		if (!d->trouble[0])
			LOG(LOG_ERROR, "deferred_trouble", LS("trouble", e.text));
		snprintf(d->trouble, sizeof(d->trouble), "%s; restart the poller: it reads the jobs from Kafka again", e.text);
		return -1;
	}
	defer_record_unpack(b, r);
	return 0;
}

/* ---- partitions -------------------------------------------------------------------------------------------------------- */

struct defer_part *
deferred_part_of(const struct deferred *d, int32_t id)
{
	return id >= 0 && (size_t)id < d->n_parts ? d->parts[id] : NULL;
}

int64_t
deferred_frontier(const struct defer_part *p)
{
	const struct defer_entry *first = defer_line_first(&p->line);

	return first ? first->offset : p->next;
}

void
deferred_entry_free(struct deferred *d, struct defer_entry *e)
{
	if (e->state == DEFER_IN_HAND || e->state == DEFER_SHADOW)
		d->held--;
	if (e->state != DEFER_ENDED)
		defer_store_drop(d->store, e->slot);
	defer_remove(&d->index, e);
}

size_t
deferred_known(const struct deferred *d)
{
	return d->index.n - defer_ended(&d->index);
}

static void
part_clear(struct deferred *d, struct defer_part *p)
{
	struct defer_entry *e;

	while ((e = defer_line_first(&p->line)))
		deferred_entry_free(d, e);
	defer_line_clear(&d->index, &p->line);
	p->n_done = 0;
	d->full = false;
}

/* What we knew of it is not ours any more, and its jobs in hand are somebody else's. */
static void
part_drop(struct deferred *d, struct defer_part *p)
{
	int32_t id = p->id;
	uint32_t epoch = p->epoch;

	d->parts[id] = NULL;
	part_clear(d, p);
	free(p->done);
	free(p);
	jobs_revoke(d->m->jobs, id, epoch);
}

static struct defer_part *
part_add(struct deferred *d, int32_t id)
{
	struct defer_part *p;

	if (id < 0 || id >= PARTITIONS_MAX)
		return NULL;
	if ((size_t)id >= d->n_parts) {
		size_t n = (size_t)id + 16;

		d->parts = xreallocarray(d->parts, n, sizeof(struct defer_part *));
		memset(d->parts + d->n_parts, 0, (n - d->n_parts) * sizeof(struct defer_part *));
		d->n_parts = n;
	}
	p = xcalloc(1, sizeof(*p));
	p->id = id;
	p->next = p->acked = p->sent = -1;
	p->epoch = consumer_epoch(d->m->consumer);
	d->parts[id] = p;
	return p;
}

/* Its entries are in the heap, or not, as the partition may release. */
static void
part_activate(struct deferred *d, struct defer_part *p, bool on)
{
	for (size_t i = p->line.head; i < p->line.n; i++) {
		struct defer_entry *e = p->line.row[i].e;

		if (!e || e->state != DEFER_WAITING)
			continue;
		if (!on)
			defer_unwait(&d->index, e);
		else if (!e->rewritten_ms)
			defer_wait(&d->index, e);
	}
}

static bool
releases(const struct defer_part *p)
{
	return p->assigned && p->caught_up;
}

/* ---- rebalances -------------------------------------------------------------------------------------------------------- */

void
deferred_unassign(struct deferred *d)
{
	for (size_t i = 0; i < d->n_parts; i++) {
		struct defer_part *p = d->parts[i];

		if (!p || !p->assigned)
			continue;
		part_activate(d, p, false);
		p->assigned = p->caught_up = false;
	}
	if (d->stuck)
		rd_kafka_message_destroy(d->stuck);
	d->stuck = NULL;
	/* Whoever is given next finds out anew: with nothing read it would never be known to be ready. */
	d->no_room[0] = '\0';
	d->full = false;
}

void
deferred_drop_lost(struct deferred *d, const rd_kafka_topic_partition_list_t *kept)
{
	for (size_t i = 0; i < d->n_parts; i++)
		if (d->parts[i] && !rd_kafka_topic_partition_list_find(kept, d->m->cfg->topic_deferred, (int32_t)i))
			part_drop(d, d->parts[i]);
}

static void
part_load(struct defer_part *p, const rd_kafka_topic_partition_t *t, size_t meta_n)
{
	p->acked = p->sent = t->offset >= 0 ? t->offset : -1;
	p->next = p->acked;
	p->acked_key = defer_meta_read(t->metadata, meta_n, p->key);
	if (p->acked_key)
		return;
	defer_key_make(p->key);
	if (t->offset < 0)
		return;
	/* Marks of before cannot be told from forged ones any more. */
	metric_add(METRIC_METADATA_IGNORED, 1, NULL, NULL);
	LOG(LOG_WARN, "deferred_metadata_ignored", LI("partition", p->id), LI("offset", t->offset), LI("bytes", meta_n),
	    LS("todo", "if offsets were set by hand, deferred jobs that are done may be done once more"));
}

/* Where another poller had it in between, the commit shows it; if it committed nothing, its marks are still to be read. */
static bool
part_untouched(const struct defer_part *p, const rd_kafka_topic_partition_t *t, size_t meta_n)
{
	uint8_t key[DEFER_KEY];

	if (t->offset < 0)
		return p->acked < 0 && p->sent < 0;
	return (t->offset == p->acked || t->offset == p->sent) && defer_meta_read(t->metadata, meta_n, key) && !memcmp(key, p->key, sizeof(key));
}

int64_t
deferred_assign(struct deferred *d, const rd_kafka_topic_partition_t *t, size_t meta_n)
{
	struct defer_part *p = deferred_part_of(d, t->partition);

	if (p && !part_untouched(p, t, meta_n)) {
		LOG(LOG_INFO, "deferred_was_elsewhere", LI("partition", p->id), LI("offset", t->offset));
		part_drop(d, p);
		p = NULL;
	}
	if (!p) {
		p = part_add(d, t->partition);
		if (p)
			part_load(p, t, meta_n);
	}
	if (!p)
		return -1;
	p->assigned = true;
	p->caught_up = false;
	d->assigned_ms = loop_now(d->m->loop);
	LOG(LOG_INFO, "deferred_assigned", LI("partition", p->id), LI("committed", t->offset), LI("start", p->next), LI("known", p->line.live));
	return p->next;
}

/* ---- reading back ------------------------------------------------------------------------------------------------------- */

static void
digest_of(const char *sha256_hex_text, uint8_t out[16])
{
	for (int i = 0; i < 16; i++) {
		int v = 0;

		for (int k = 0; k < 2; k++) {
			char c = sha256_hex_text[2 * i + k];

			v = v * 16 + (c >= 'a' ? c - 'a' + 10 : c - '0');
		}
		out[i] = (uint8_t)v;
	}
}

static void
origin_key(const char *topic, int32_t partition, int64_t offset, const char *sha256, struct defer_origin *o)
{
	*o = (struct defer_origin){ .topic = defer_hash(topic, strlen(topic)), .partition = partition, .offset = offset };
	digest_of(sha256, o->digest);
}

bool
deferred_holds(const struct deferred *d, const struct origin *o, const char *payload_sha256)
{
	struct defer_origin key;

	origin_key(origin_topic(d->m->cfg, o), o->partition, o->offset, payload_sha256, &key);
	return defer_find_origin(&d->index, NULL, &key) != NULL;
}

/* Its message is in hand as it came from the polling queue: the copy, of before a crash, has nothing to add. */
static bool
in_hand(const struct deferred *d, const struct deferral *df, const char *sha256)
{
	const struct origin o = { .topic = df->topic, .partition = df->partition, .offset = df->offset };
	const struct jobrec *rec = jobs_find(d->m->jobs, &o);

	return rec && !rec->at.deferred && !rec->deferring && !strcmp(rec->payload_sha256, sha256);
}

static struct defer_entry *
entry_add(struct deferred *d, struct defer_part *p, const rd_kafka_message_t *msg, const struct defer_origin *o, struct defer_slot slot)
{
	struct defer_entry *e = defer_add(&d->index, &p->line, msg->offset, o);
	rd_kafka_timestamp_type_t type;

	e->slot = slot;
	e->written_ms = rd_kafka_message_timestamp(msg, &type);
	if (e->written_ms < 0)
		e->written_ms = clock_real_ns() / 1000000;
	return e;
}

/* One that no poller wrote: released at once, so that it ends as a dead letter. */
static void
take_foreign(struct deferred *d, struct defer_part *p, const rd_kafka_message_t *msg, const char *sha256, struct defer_slot slot)
{
	struct defer_origin o;
	struct defer_entry *e;

	origin_key(d->m->cfg->topic_deferred, p->id, msg->offset, sha256, &o);
	e = entry_add(d, p, msg, &o, slot);
	if (releases(p))
		defer_wait(&d->index, e);
}

/* Nothing is deferred for longer than the setting: a record that says otherwise, whoever wrote it, does not hide its job. */
static int64_t
due_of(const struct deferred *d, const struct deferral *df, const struct defer_part *p, int64_t offset)
{
	int64_t latest = clock_real_ns() + d->m->cfg->deferred_longest * 1000000;

	if (df->due_ns <= latest)
		return df->due_ns;
	LOG(LOG_WARN, "deferred_too_far", LS("job_id", df->job_id), LI("partition", p->id), LI("offset", offset),
	    LI("seconds", (df->due_ns - latest) / 1000000000 + d->m->cfg->deferred_longest / 1000));
	return latest;
}

static void
take_deferral(struct deferred *d, struct defer_part *p, const rd_kafka_message_t *msg, const struct deferral *df, const char *sha256,
    struct defer_slot slot)
{
	struct defer_entry *e, *old;
	struct defer_origin o;
	bool ended;

	origin_key(df->topic, df->partition, df->offset, sha256, &o);
	/* One that ended by being deferred anew: this says as much, and for longer. */
	while ((old = defer_find_origin(&d->index, &p->line, &o)) && old->state == DEFER_ENDED && df->count > old->count)
		deferred_entry_free(d, old);
	ended = old && old->state == DEFER_ENDED;
	if (ended || (old && df->count < old->count) || in_hand(d, df, sha256)) {
		defer_store_drop(d->store, slot);
		metric_add(METRIC_JOBS_SKIPPED, 1, NULL, NULL);
		metric_add(METRIC_KAFKA_CONSUMED, 1, d->m->cfg->topic_deferred, "skipped");
		deferred_offset_done(d, p, msg->offset, ended);
		return;
	}
	e = entry_add(d, p, msg, &o, slot);
	e->due_ns = due_of(d, df, p, msg->offset);
	e->count = df->count;
	e->quota = df->why == DEFER_QUOTA;
	/* With so many a minute each has a minute of its own. */
	if (e->quota && !tenants_get(d->m->cfg, df->org_id)->jobs_per_minute)
		defer_early(&d->index, e, df->org_id);
	e->job_hash = defer_hash(df->job_id, strlen(df->job_id));
	if (old && old->state == DEFER_IN_HAND && df->count == old->count) {
		e->state = DEFER_SHADOW;
		d->held++;
		e->shadow = old->shadow;
		old->shadow = e;
		return;
	}
	if (old && old->state == DEFER_WAITING) {
		e->cancel = old->cancel;
		e->wished = old->wished;
		if (e->cancel)
			e->due_ns = 0;
		/* The quota was changed while it was written again; or it was too far ahead, and is not put off by each copy. */
		else if (e->count == old->count && old->due_ns < e->due_ns)
			e->due_ns = old->due_ns;
		deferred_entry_done(d, p, old, false);
	}
	if (releases(p))
		defer_wait(&d->index, e);
}

static void
take_mark(struct deferred *d, struct defer_part *p, const rd_kafka_message_t *msg, const struct defer_record *r)
{
	static struct defer_done done[DEFER_MARK_MAX];
	struct defer_origin o;
	int n;

	if (defer_cancel_read(p->key, p->id, r->h, r->n_headers, r->value, r->n, &o)) {
		deferred_wish(d, p, &o);
		return;
	}
	n = defer_mark_read(p->key, p->id, r->h, r->n_headers, r->value, r->n, done);

	if (n < 0) {
		metric_add(METRIC_DEFERRED_REFUSED, 1, NULL, NULL);
		LOG(LOG_WARN, "deferred_mark_refused", LI("partition", p->id), LI("offset", msg->offset));
		return;
	}
	for (int i = 0; i < n; i++) {
		struct defer_entry *e = done[i].offset < msg->offset ? defer_find(&p->line, done[i].offset) : NULL;

		if (!e || e->state != DEFER_WAITING)
			continue;
		if (done[i].ended)
			deferred_remember(d, e);
		else
			deferred_entry_free(d, e);
	}
	consumer_commit_soon(d->m->consumer);
}

/* False: there is no room to keep it. */
static bool
take(struct deferred *d, struct defer_part *p, const rd_kafka_message_t *msg)
{
	static struct buf packed;
	static struct deferral df;
	struct err e = ERR_INIT;
	struct defer_record r;
	struct defer_slot slot;
	char sha256[65];

	defer_record_of(msg, &r);
	if (defer_mark_is(r.h, r.n_headers)) {
		p->next = msg->offset + 1;
		take_mark(d, p, msg, &r);
		return true;
	}
	buf_clear(&packed);
	defer_record_pack(&r, &packed);
	if (defer_store_put(d->store, d->m->cfg->deferred_store, packed.p, packed.len, &slot, &e) < 0) {
		if (!d->no_room[0])
			LOG(LOG_ERROR, "deferred_no_room", LS("trouble", e.text), LI("jobs", deferred_known(d)), LS("todo", "make room: " RISK));
		snprintf(d->no_room, sizeof(d->no_room), "deferred jobs are not read back: %s; %s", e.text, err_todo(e.cls));
		return false;
	}
	p->next = msg->offset + 1;
	sha256_hex(r.value, r.n, sha256);
	if (deferral_read(r.h, r.n_headers, &df, &e) < 0)
		take_foreign(d, p, msg, sha256, slot);
	else
		take_deferral(d, p, msg, &df, sha256, slot);
	explicit_bzero(packed.p, packed.len);
	return true;
}

static void
due_now(struct deferred *d)
{
	timer_set(d->m->loop, &d->due, 0);
}

/* What librdkafka had fetched and freed again is three times what is kept of it; glibc would keep it for good. */
static void
give_back(const struct deferred *d)
{
	for (size_t i = 0; i < d->n_parts; i++)
		if (d->parts[i] && d->parts[i]->assigned && !d->parts[i]->caught_up)
			return;
	if (d->index.n >= GIVE_BACK_FROM)
		malloc_trim(0);
}

/* Read to its end: every mark behind a record is known. */
static void
caught_up(struct deferred *d, struct defer_part *p)
{
	if (p->caught_up)
		return;
	p->caught_up = true;
	part_activate(d, p, true);
	LOG(LOG_INFO, "deferred_ready", LI("partition", p->id), LI("jobs", p->line.live), LI("next", p->next), LI("file_bytes", defer_store_bytes(d->store)));
	consumer_commit_soon(d->m->consumer);
	give_back(d);
	due_now(d);
	consumer_kick(d->m->consumer);
}

bool
deferred_catching_up(const struct deferred *d)
{
	if (loop_now(d->m->loop) - d->assigned_ms > CATCH_UP_MS)
		return false;
	for (size_t i = 0; i < d->n_parts; i++)
		if (d->parts[i] && d->parts[i]->assigned && !d->parts[i]->caught_up)
			return true;
	return false;
}

static void
went_back(struct deferred *d, struct defer_part *p, int64_t offset)
{
	uint32_t epoch = p->epoch;

	LOG(LOG_WARN, "deferred_went_back", LI("partition", p->id), LI("offset", offset), LI("expected", p->next), LI("jobs", p->line.live));
	part_clear(d, p);
	p->epoch = consumer_epoch(d->m->consumer);
	/* the report of a mark that is on its way is of the epoch before */
	p->marking = false;
	jobs_revoke(d->m->jobs, p->id, epoch);
}

/* The copies that they wait for will not be read: they are released themselves when they are due. */
static void
part_uncopied(struct deferred *d, struct defer_part *p)
{
	for (size_t i = p->line.head; i < p->line.n; i++) {
		struct defer_entry *e = p->line.row[i].e;

		if (!e || !e->rewritten_ms)
			continue;
		e->rewritten_ms = 0;
		if (e->state == DEFER_WAITING && releases(p))
			defer_wait(&d->index, e);
	}
}

/* There are more than can be known: what is known is released, since nobody knows when the end will be read. */
static void
hold(struct deferred *d)
{
	d->held_ms = loop_now(d->m->loop);
	for (size_t i = 0; i < d->n_parts; i++) {
		if (d->parts[i] && d->copies)
			part_uncopied(d, d->parts[i]);
		if (d->parts[i] && d->parts[i]->assigned)
			caught_up(d, d->parts[i]);
	}
	d->copies = false;
	deferred_kick(d);
}

static void
hold_full(struct deferred *d)
{
	if (!d->full)
		LOG(LOG_WARN, "deferred_full", LI("jobs", deferred_known(d)), LS("todo", "raise deferred.jobs_max: " RISK));
	d->full = true;
	hold(d);
}

bool
deferred_room(const struct deferred *d)
{
	return !d->full && !d->stuck;
}

void
deferred_message(struct deferred *d, rd_kafka_message_t *msg)
{
	struct defer_part *p = deferred_part_of(d, msg->partition);

	if (!p || !p->assigned) {
		rd_kafka_message_destroy(msg);
		return;
	}
	if (msg->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
		if (p->next < 0)
			p->next = msg->offset;
		caught_up(d, p);
	} else if (msg->err) {
		char text[512];

		kafka_topic_trouble(text, sizeof(text), d->m->cfg->topic_deferred, msg->err);
		LOG(msg->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ? LOG_ERROR : LOG_WARN, "deferred_error", LI("partition", msg->partition),
		    LS("error", rd_kafka_err2name(msg->err)), LS("reason", text));
	} else {
		if (msg->offset < p->next)
			went_back(d, p, msg->offset);
		if (!take(d, p, msg)) {
			d->stuck = msg;
			hold(d);
			return;
		}
		d->no_room[0] = '\0';
		if (deferred_known(d) >= (size_t)d->m->cfg->deferred_jobs)
			hold_full(d);
		if (p->caught_up)
			due_now(d);
	}
	rd_kafka_message_destroy(msg);
}

/* ---- releasing ---------------------------------------------------------------------------------------------------------- */

static void
release(struct deferred *d, struct defer_entry *en)
{
	static struct buf bytes;
	static struct deferral df;
	struct defer_part *p = (struct defer_part *)en->line;
	struct message msg = { .at = { .partition = p->id, .offset = en->offset, .epoch = p->epoch, .deferred = true } };
	struct err e = ERR_INIT;
	struct defer_record r;

	if (deferred_load(d, en, &bytes, &r) < 0) {
		timer_set(d->m->loop, &d->due, RETRY_MS);
		return;
	}
	msg.key = r.has_key ? r.key : NULL;
	msg.key_n = r.key_n;
	msg.payload = r.value;
	msg.n = r.n;
	msg.timestamp_ms = en->written_ms;
	msg.cancel = en->cancel;
	if (deferral_read(r.h, r.n_headers, &df, &e) < 0) {
		msg.bad = &e;
		msg.origin = (struct origin){ .topic = d->m->cfg->topic_deferred, .partition = p->id, .offset = en->offset };
	} else {
		msg.deferral = &df;
		msg.traceparent = consumer_traceparent_valid(df.traceparent) ? df.traceparent : NULL;
		msg.origin = (struct origin){ .topic = df.topic, .partition = df.partition, .offset = df.offset };
	}
	defer_unwait(&d->index, en);
	en->state = DEFER_IN_HAND;
	d->held++;
	jobs_accept(d->m->jobs, &msg);
	explicit_bzero(bytes.p, bytes.len);
}

/* Of what its jobs may take of the queue a small part, of a queue that is not half full: those that return find room, and go
 * nowhere again. */
static bool
has_room(void *arg, const char *tenant)
{
	const struct master *m = arg;

	return jobs_count(m->jobs) < (size_t)m->cfg->jobs_queue_max / 2 &&
	    tenant_backlog(m, tenant) < (size_t)m->cfg->jobs_queue_max / EARLY_PART && jobs_bytes(m->jobs) < (size_t)m->cfg->jobs_queue_bytes / EARLY_PART;
}

static struct defer_entry *
next_early(const struct deferred *d)
{
	return defer_next_early(&d->index, has_room, d->m);
}

static void
release_due(void *arg)
{
	struct deferred *d = arg;
	struct defer_entry *e;
	int64_t left = -1;
	int n = 0;

	for (; (e = defer_next(&d->index)) && !d->trouble[0]; n++) {
		left = e->due_ns - clock_real_ns();
		if (left > 0)
			break;
		/* consumer_kick and the second's tick come back to it */
		if (!consumer_may_read(d->m->consumer))
			return;
		if (n == RELEASED_A_ROUND) {
			due_now(d);
			return;
		}
		release(d, e);
	}
	for (; n < RELEASED_A_ROUND && !d->trouble[0] && consumer_may_read(d->m->consumer) && (e = next_early(d)); n++)
		release(d, e);
	e = defer_next(&d->index);
	left = e ? e->due_ns - clock_real_ns() : 0;
	if (n == RELEASED_A_ROUND)
		due_now(d);
	else if (e && left > 0)
		timer_set(d->m->loop, &d->due, left / 1000000 < LOOK_MS ? left / 1000000 + 1 : LOOK_MS);
}

void
deferred_kick(struct deferred *d)
{
	const struct defer_entry *e = defer_next(&d->index);

	if (e && (!timer_armed(&d->due) || timer_left(d->m->loop, &d->due)) &&
	    (e->due_ns <= clock_real_ns() || (consumer_may_read(d->m->consumer) && next_early(d))))
		due_now(d);
}

/* Once a second: what was in the way may be over. */
void
deferred_tick(struct deferred *d)
{
	rd_kafka_message_t *msg = d->stuck;

	if (!deferred_room(d))
		d->held_ms = loop_now(d->m->loop);
	if (d->full && deferred_known(d) < (size_t)d->m->cfg->deferred_jobs)
		d->full = false;
	deferred_forget(d);
	if (msg) {
		d->stuck = NULL;
		deferred_message(d, msg);
	}
	deferred_kick(d);
}

/* ---- begin and end ------------------------------------------------------------------------------------------------------ */

struct deferred *
deferred_new(struct master *m)
{
	struct deferred *d = xcalloc(1, sizeof(*d));

	d->m = m;
	d->retention_ms = -1;
	timer_init(&d->due, release_due, d);
	timer_init(&d->mark, deferred_mark_due, d);
	timer_init(&d->sweep, deferred_sweep_due, d);
	LIST_INIT(&d->wishes);
	return d;
}

int
deferred_start(struct deferred *d, struct err *e)
{
	int fd = spool_open(d->m, e);

	if (fd < 0)
		return -1;
	d->store = defer_store_new(fd);
	timer_set(d->m->loop, &d->sweep, 0);
	return 0;
}

/* Messages, before the handle they came from. */
void
deferred_close(struct deferred *d)
{
	if (d && d->stuck)
		rd_kafka_message_destroy(d->stuck);
	if (d)
		d->stuck = NULL;
}

void
deferred_free(struct deferred *d)
{
	if (!d)
		return;
	timer_cancel(d->m->loop, &d->due);
	timer_cancel(d->m->loop, &d->mark);
	timer_cancel(d->m->loop, &d->sweep);
	for (size_t i = 0; i < d->n_parts; i++) {
		if (!d->parts[i])
			continue;
		part_clear(d, d->parts[i]);
		free(d->parts[i]->done);
		free(d->parts[i]);
	}
	free(d->parts);
	deferred_wishes_free(d);
	defer_index_release(&d->index);
	defer_store_free(d->store);
	free(d);
}
