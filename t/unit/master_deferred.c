/*
 * master_deferred.c - unit tests of deferred.c and deferred_rewrite.c without Kafka: what happens where there is no room.
 *
 * The consumer, the publisher and the jobs are stand-ins below; records and reports come when a test says so.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/deferred_priv.h"
#include "master/event_priv.h"
#include "common/banned.h"

static struct config_set set;
static struct master m;
static struct deferred *d;
static uint32_t epoch;
static int64_t accepted[100];           /* offsets, in the order of their release */
static size_t n_accepted;
static struct ticket *tickets[100];     /* records on their way */
static size_t n_sent;
static enum defer_why why;              /* of the message that is being read, and whose it is */
static const char *org;
static size_t backlog;                  /* tasks of any tenant that wait: what is released waits */
static size_t beside;                   /* jobs in hand beside them */
static struct out_record record;        /* the headers of the message that is being read */
static enum consumer_place place;       /* of any first message */
static bool first_in_hand;              /* any first message, as it came from the polling queue */
static struct out_record marked;        /* the last mark that was sent */
static int64_t cancelled_at;            /* offset of the job in hand that was cancelled */
static size_t told_recorded, told_others;

/* ---- stand-ins --------------------------------------------------------------------------------------------------------- */

uint32_t consumer_epoch(struct consumer *c) { (void)c; return ++epoch; }
void consumer_kick(struct consumer *c) { (void)c; }
void consumer_commit_soon(struct consumer *c) { (void)c; }
bool consumer_may_read(const struct consumer *c) { (void)c; return true; }
bool consumer_traceparent_valid(const char *text) { return text[0] != '\0'; }
const char *publisher_trouble(const struct publisher *p) { (void)p; return NULL; }
bool publish_room(const struct publisher *p, size_t n) { (void)p; (void)n; return true; }
void jobs_revoke(struct jobs *j, int32_t partition, uint32_t of) { (void)j; (void)partition; (void)of; }
const char *origin_topic(const struct config *cfg, const struct origin *o) { return o->topic ? o->topic : cfg->topic_jobs; }
enum consumer_place consumer_place(struct consumer *c, uint64_t topic, int32_t p, int64_t o) { (void)c; (void)topic; (void)p; (void)o; return place; }
void jobs_cancel_at(struct jobs *j, const struct origin *at) { (void)j; cancelled_at = at->offset; }
int spool_open(struct master *mm, struct err *e) { (void)mm; (void)e; return memfd_create("spool", MFD_CLOEXEC); }

size_t jobs_bytes(const struct jobs *j) { (void)j; return 0; }
size_t jobs_count(const struct jobs *j) { (void)j; return beside + backlog; }
void tenant_gave(struct jobrec *rec, bool ended) { (void)rec; (void)ended; }
size_t tenant_backlog(const struct master *mm, const char *name) { (void)mm; (void)name; return backlog; }

/* Of the bytes that all messages here have. */
struct jobrec *
jobs_find(const struct jobs *j, const struct origin *o)
{
	static struct jobrec rec;
	static const char zeros[10];

	(void)j;
	(void)o;
	sha256_hex(zeros, sizeof(zeros), rec.payload_sha256);
	return first_in_hand ? &rec : NULL;
}

void
jobs_accept(struct jobs *j, const struct message *msg)
{
	(void)j;
	ck_assert_uint_lt(n_accepted, ARRAY_LEN(accepted));
	accepted[n_accepted++] = msg->at.offset;
	backlog++;
}

int
publish_send(struct publisher *p, enum out_topic topic, const struct out_record *r, struct ticket *t, struct err *e)
{
	(void)p;
	(void)e;
	ck_assert_int_eq(topic, OUT_DEFERRED);
	if (defer_mark_is(r->h, r->n_headers)) {
		buf_clear(&marked.value);
		buf_add(&marked.value, r->value.p, r->value.len);
	}
	ck_assert_uint_lt(n_sent, ARRAY_LEN(tickets));
	tickets[n_sent++] = t;
	return 0;
}

void metric_add(enum metric id, double v, const char *a, const char *b) { (void)id; (void)v; (void)a; (void)b; }
void metric_set(enum metric id, double v, const char *a, const char *b) { (void)id; (void)v; (void)a; (void)b; }

void
kafka_topic_trouble(char *out, size_t size, const char *topic, rd_kafka_resp_err_t err)
{
	snprintf(out, size, "%s: %s", topic, rd_kafka_err2name(err));
}

/* librdkafka's: a message here is one of ours */
void rd_kafka_message_destroy(rd_kafka_message_t *msg) { free(msg); }

rd_kafka_resp_err_t
rd_kafka_message_headers(const rd_kafka_message_t *msg, rd_kafka_headers_t **h)
{
	(void)msg;
	*h = (rd_kafka_headers_t *)&record;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

rd_kafka_resp_err_t
rd_kafka_header_get_all(const rd_kafka_headers_t *h, size_t i, const char **name, const void **value, size_t *n)
{
	const struct out_record *r = (const void *)h;

	if (i >= r->n_headers)
		return RD_KAFKA_RESP_ERR__NOENT;
	*name = r->h[i].name;
	*value = r->h[i].value;
	*n = r->h[i].n;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

int64_t
rd_kafka_message_timestamp(const rd_kafka_message_t *msg, rd_kafka_timestamp_type_t *type)
{
	*type = RD_KAFKA_TIMESTAMP_CREATE_TIME;
	return msg->partition ? -1 : 1;  /* as old as can be */
}

static void
quiet(void *arg, enum log_level l, const char *event, const struct log_field *f, size_t n)
{
	(void)arg;
	(void)l;
	(void)event;
	(void)f;
	(void)n;
}

/* ---- what the tests do -------------------------------------------------------------------------------------------------- */

static void
begin(const char *text)
{
	struct config_args args = { .file = NULL };
	struct err e = ERR_INIT;

	log_set_sink(quiet, NULL);
	ck_assert_int_eq(config_load_text(&set, "t.yaml", text, strlen(text), &args), 0);
	memset(&m, 0, sizeof(m));
	m.cfg = &set.c;
	m.loop = loop_new();
	m.phase = MASTER_RUNNING;
	m.deferred = d = deferred_new(&m);
	ck_assert_int_eq(deferred_start(d, &e), 0);
	timer_cancel(m.loop, &d->sweep);
	n_accepted = n_sent = backlog = beside = 0;
	place = PLACE_COMMITTED;
	first_in_hand = false;
	cancelled_at = -1;
	told_recorded = told_others = SIZE_MAX;
	buf_clear(&marked.value);
	why = DEFER_SCHEDULE;
	org = "acme";
}

static void
end(void)
{
	for (size_t i = 0; i < n_sent; i++)
		if (tickets[i])
			tickets[i]->delivered(tickets[i], DELIVERY_OK, NULL);
	deferred_close(d);
	deferred_free(d);
	loop_free(m.loop);
	config_set_release(&set);
}

static void
assign(void)
{
	rd_kafka_topic_partition_t t = { .partition = 0, .offset = RD_KAFKA_OFFSET_INVALID };

	deferred_assign(d, &t, 0);
}

static void
end_of_partition(int64_t offset)
{
	rd_kafka_message_t *msg = xcalloc(1, sizeof(*msg));

	msg->err = RD_KAFKA_RESP_ERR__PARTITION_EOF;
	msg->offset = offset;
	deferred_message(d, msg);
}

/* The job of this number, due in so many seconds, is read at the offset. */
static void
arrives(int64_t offset, int64_t job, int64_t seconds, size_t bytes)
{
	rd_kafka_message_t *msg = xcalloc(1, sizeof(*msg) + bytes);
	struct deferral df = { .offset = job, .due_ns = clock_real_ns() + seconds * 1000000000, .received_ns = 1, .why = why, .count = 1, .n_tasks = 1 };

	snprintf(df.topic, sizeof(df.topic), "jobs");
	snprintf(df.job_id, sizeof(df.job_id), "j-%lld", (long long)job);
	snprintf(df.org_id, sizeof(df.org_id), "%s", org);
	out_begin(&record, DEFER_HEADER_BYTES_MAX);
	deferral_write(&df, &record);
	msg->offset = offset;
	msg->payload = msg + 1;
	msg->len = bytes;
	deferred_message(d, msg);
}

static void
ends(int64_t offset)
{
	struct origin o = { .partition = 0, .offset = offset, .epoch = d->parts[0]->epoch, .deferred = true };

	deferred_completed(d, &o);
}

/* As if all of them had become due. */
static void
release_all(void)
{
	for (struct defer_line *l = &d->parts[0]->line; d->index.n_heap;) {
		struct defer_entry *e = defer_next(&d->index);

		defer_unwait(&d->index, e);
		e->due_ns = 0;
		defer_wait(&d->index, e);
		ck_assert_ptr_eq(e->line, l);
		ck_assert(timer_armed(&d->due) || (deferred_kick(d), timer_armed(&d->due)));
		d->due.fn(d->due.arg);
	}
}

/* ---- tests -------------------------------------------------------------------------------------------------------------- */

START_TEST(full_rewrites_nothing)
{
	begin("deferred: {jobs_max: 16}\n");
	assign();
	for (int i = 0; i < 15; i++)
		arrives(i, i, 1000, 10);
	end_of_partition(15);
	ck_assert(deferred_room(d));
	/* old as they are, all are written again, and wait for their copies */
	deferred_sweep_due(d);
	ck_assert_uint_eq(n_sent, 15);
	ck_assert_uint_eq(d->index.n_heap, 0);
	/* others come first, and there is no room to read the copies */
	arrives(15, 15, 1000, 10);
	ck_assert(!deferred_room(d));
	ck_assert_msg(d->index.n_heap == 16, "%zu of 16 can be released", d->index.n_heap);
	deferred_sweep_due(d);
	ck_assert_msg(n_sent == 15, "nothing is written again while its copy could not be read, but %zu were", n_sent - 15);
	release_all();
	ck_assert_uint_eq(n_accepted, 16);
	/* their ends make room; the copy of one that has ended is done once more, that of one in hand ends with it */
	for (int i = 0; i < 8; i++)
		ends(i);
	ck_assert(deferred_room(d));
	arrives(16, 0, -1, 10);
	arrives(17, 9, -1, 10);
	ck_assert_uint_eq(d->index.n_heap, 1);
	ends(9);
	ck_assert_uint_eq(deferred_frontier(d->parts[0]), 8);
	/* what stands unread is read first, then it goes on */
	deferred_sweep_due(d);
	ck_assert_uint_eq(n_sent, 15);
	d->held_ms -= 3600000;
	deferred_sweep_due(d);
	ck_assert_uint_eq(n_sent, 16);
	end();
}
END_TEST

START_TEST(never_later_than_the_longest)
{
	const int64_t longest = 3600, year = 365 * 86400;
	int64_t before = clock_real_ns(), due;

	begin("deferred: {longest: 1h}\n");
	assign();
	arrives(0, 0, 20 * year, 10);
	arrives(1, 1, longest - 60, 10);
	end_of_partition(2);
	due = defer_find(&d->parts[0]->line, 0)->due_ns;
	ck_assert_int_ge(due, before + longest * 1000000000);
	ck_assert_int_le(due, clock_real_ns() + longest * 1000000000);
	ck_assert_int_lt(defer_find(&d->parts[0]->line, 1)->due_ns, due);
	/* Written again it is due when it was. */
	arrives(2, 0, 20 * year, 10);
	ck_assert_ptr_null(defer_find(&d->parts[0]->line, 0));
	ck_assert_int_eq(defer_find(&d->parts[0]->line, 2)->due_ns, due);
	ck_assert_uint_eq(d->index.n_heap, 2);
	release_all();
	ck_assert_uint_eq(n_accepted, 2);
	end();
}
END_TEST

static void
arrives_for(int64_t offset, enum defer_why reason, const char *whose)
{
	why = reason;
	org = whose;
	arrives(offset, offset, 1000, 10);
}

/* What waits for room of its tenant has it as soon as there is some; what waits for a time waits. */
START_TEST(early)
{
	begin("jobs: {queue_max: 160}\ntenants: {paced: {jobs_per_minute: 6}}\n");
	assign();
	arrives_for(0, DEFER_SCHEDULE, "acme");
	arrives_for(1, DEFER_QUOTA, "paced");
	arrives_for(2, DEFER_RETRY, "acme");
	for (int i = 3; i < 7; i++)
		arrives_for(i, DEFER_QUOTA, "acme");
	backlog = 20;
	end_of_partition(7);
	d->due.fn(d->due.arg);
	deferred_kick(d);
	ck_assert(timer_left(m.loop, &d->due) > 0);
	ck_assert_uint_eq(n_accepted, 0);
	/* Nor where its tenant has little that waits, and the queue is half full: it would be in the way again. */
	backlog = 18;
	beside = 80 - 18;
	deferred_kick(d);
	d->due.fn(d->due.arg);
	ck_assert(timer_left(m.loop, &d->due) > 0);
	ck_assert_uint_eq(n_accepted, 0);
	beside = 0;
	deferred_kick(d);
	ck_assert_int_eq(timer_left(m.loop, &d->due), 0);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 2);
	ck_assert_int_eq(accepted[0], 3);
	ck_assert_int_eq(accepted[1], 4);
	/* One that is written again is not released before its copy was read. */
	deferred_sweep_due(d);
	backlog = 0;
	deferred_kick(d);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 2);
	arrives_for(7, DEFER_QUOTA, "acme");
	end_of_partition(8);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 3);
	ck_assert_int_eq(accepted[2], 7);
	end();
}
END_TEST

START_TEST(full_store_releases)
{
	int64_t n = 0;

	begin("deferred: {store_max: 1MiB}\n");
	assign();
	for (; deferred_room(d); n++)
		arrives(n, n, 1000, 100000);
	/* the last one found no room */
	ck_assert_uint_eq(d->index.n, n - 1);
	ck_assert_ptr_nonnull(deferred_trouble(d));
	ck_assert_msg(strstr(deferred_trouble(d), "deferred.store_max") != NULL, "%s", deferred_trouble(d));
	release_all();
	ck_assert_msg(n_accepted == (size_t)n - 1, "known jobs are released, but %zu of %lld are", n_accepted, (long long)n - 1);
	deferred_tick(d);
	ck_assert(!deferred_room(d));
	ends(0);
	deferred_tick(d);
	ck_assert(deferred_room(d));
	ck_assert_ptr_null(deferred_trouble(d));
	ck_assert_uint_eq(d->index.n, n - 1);
	end();
}
END_TEST

/* Bytes that cannot be read again are another thing: that ends by a restart only. */
START_TEST(broken_store_stays)
{
	int64_t n = 0;

	begin("deferred: {store_max: 1MiB}\n");
	assign();
	arrives(n++, 0, -1, 100);
	d->parts[0]->line.row[0].e->slot.n++;
	end_of_partition(1);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 0);
	ck_assert_msg(strstr(deferred_trouble(d), "restart") != NULL, "%s", deferred_trouble(d));
	for (; deferred_room(d); n++)
		arrives(n, n, -1, 100000);
	deferred_tick(d);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 0);
	ck_assert_msg(strstr(deferred_trouble(d), "restart") != NULL, "%s", deferred_trouble(d));
	d->parts[0]->line.row[0].e->slot.n--;
	end();
}
END_TEST

/* Given again while full: with nothing read it would not be known to be ready. */
START_TEST(full_and_rebalanced)
{
	begin("deferred: {jobs_max: 16}\n");
	assign();
	for (int i = 0; i < 16; i++)
		arrives(i, i, 1000, 10);
	ck_assert(!deferred_room(d));
	deferred_unassign(d);
	ck_assert_uint_eq(d->index.n_heap, 0);
	assign();
	ck_assert(deferred_room(d));
	arrives(16, 16, 1000, 10);
	ck_assert(!deferred_room(d));
	ck_assert_uint_eq(d->index.n_heap, 17);
	end();
}
END_TEST

START_TEST(marks_after_going_back)
{
	struct defer_part *p;

	begin("deferred: {jobs_max: 1000}\n");
	assign();
	p = d->parts[0];
	p->acked_key = true;
	for (int i = 0; i < 3; i++)
		arrives(i, i, -1, 10);
	end_of_partition(3);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 3);
	ends(2);
	deferred_flush(d);
	ck_assert_uint_eq(n_sent, 1);
	/* the topic was made anew: it begins at 0 */
	for (int i = 0; i < 3; i++)
		arrives(i, i + 10, -1, 10);
	tickets[0]->delivered(tickets[0], DELIVERY_OK, NULL);
	tickets[0] = NULL;
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 6);
	ends(1);
	deferred_flush(d);
	ck_assert_msg(n_sent == 2, "what is done is marked again");
	end();
}
END_TEST

/* Is the first message of this job to be skipped when it comes again? */
static bool
known(int64_t job)
{
	static const char zeros[10];
	const struct origin o = { .topic = "jobs", .partition = 0, .offset = job };
	char sha256[65];

	sha256_hex(zeros, sizeof(zeros), sha256);
	return deferred_holds(d, &o, sha256);
}

/* The record is read at the offset. */
static void
arrives_mark(int64_t offset)
{
	rd_kafka_message_t *msg = xcalloc(1, sizeof(*msg) + record.value.len);

	msg->offset = offset;
	msg->payload = msg + 1;
	msg->len = record.value.len;
	memcpy(msg + 1, record.value.p, record.value.len);
	deferred_message(d, msg);
}

/* To the next poller, with the same key. */
static void
given_again(void)
{
	char meta[DEFER_META_TEXT];
	rd_kafka_topic_partition_t t = { .partition = 0, .offset = 0, .metadata = meta };
	rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(1);

	defer_meta_write(d->parts[0]->key, meta);
	deferred_drop_lost(d, none);
	rd_kafka_topic_partition_list_destroy(none);
	deferred_assign(d, &t, DEFER_META_TEXT - 1);
}

/* Given to the next poller, with what the last mark said. */
static void
read_again(int64_t jobs)
{
	struct defer_done done[8];
	size_t n = 0;

	for (const char *p = buf_str(&marked.value); *p; n++) {
		char *end;

		done[n].offset = strtoll(p, &end, 10);
		done[n].ended = *end == 'e';
		p = end + (*end == 'e');
		p += *p == ',';
	}
	given_again();
	for (int i = 0; i < jobs; i++)
		arrives(i, i, 1000, 10);
	defer_mark_write(d->parts[0]->key, 0, done, n, &record);
	arrives_mark(jobs);
	end_of_partition(jobs + 1);
}

/* Ended before its first message's offset was committed: remembered, here and by the next one, until it is. */
START_TEST(ended_is_remembered)
{
	begin("deferred: {jobs_max: 16}\n");
	assign();
	d->parts[0]->acked_key = true;
	for (int i = 0; i < 4; i++)
		arrives(i, i, i < 3 ? -1 : 1000, 10);
	end_of_partition(4);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 3);
	/* committed long ago: as good as never seen */
	ends(0);
	ck_assert(!known(0));
	ck_assert_int_eq(deferred_frontier(d->parts[0]), 1);
	place = PLACE_OPEN;
	ends(1);
	place = PLACE_ELSEWHERE;
	ends(2);
	ck_assert(known(1) && known(2) && known(3) && !known(4));
	ck_assert_uint_eq(deferred_count(d), 1);
	ck_assert_int_eq(deferred_frontier(d->parts[0]), 1);
	deferred_flush(d);
	ck_assert_str_eq(buf_str(&marked.value), "1e,2e");
	/* a copy of it that was written by whoever read the message again */
	arrives(5, 1, -1, 10);
	ck_assert_uint_eq(deferred_known(d), 1);
	place = PLACE_OPEN;
	read_again(4);
	ck_assert(known(0) && known(1) && known(2) && known(3));
	ck_assert_uint_eq(deferred_known(d), 2);
	ck_assert_uint_eq(defer_ended(&d->index), 2);
	/* its partition went elsewhere: the line is let go */
	release_all();
	place = PLACE_ELSEWHERE;
	ends(0);
	deferred_forget(d);
	ck_assert(known(1) && known(2));
	ck_assert_int_eq(deferred_frontier(d->parts[0]), 3);
	place = PLACE_COMMITTED;
	deferred_forget(d);
	ck_assert(!known(0) && !known(1) && !known(2) && known(3));
	ck_assert_uint_eq(d->index.n, 1);
	end();
}
END_TEST

/* A copy of a message that is in hand itself is of no use, but its job has not ended: the message that comes again is the job. */
START_TEST(useless_is_not_ended)
{
	begin("deferred: {jobs_max: 16}\n");
	assign();
	d->parts[0]->acked_key = true;
	place = PLACE_OPEN;
	arrives(0, 0, 1000, 10);
	first_in_hand = true;
	arrives(1, 1, -1, 10);
	first_in_hand = false;
	ck_assert(known(0) && !known(1));
	deferred_flush(d);
	ck_assert_str_eq(buf_str(&marked.value), "1");
	read_again(2);
	ck_assert(known(0) && !known(1));
	end();
}
END_TEST

static void
told(const struct deferred_asker *a, size_t recorded, size_t others, const char *reason)
{
	(void)a;
	ck_assert_msg(!others == !reason[0], "why: %s", reason);
	ck_assert_msg(told_recorded == SIZE_MAX, "told once");
	told_recorded = recorded;
	told_others = others;
}

static size_t
cancel(int64_t job)
{
	struct deferred_asker a = { .told = told };

	told_recorded = told_others = SIZE_MAX;
	snprintf(a.job_id, sizeof(a.job_id), "j-%lld", (long long)job);
	return deferred_cancel(d, &a);
}

static void
delivered(size_t i, enum delivery how)
{
	struct ticket *t = tickets[i];

	tickets[i] = NULL;
	t->delivered(t, how, "as the test says");
}

static bool
is_cancelled(int64_t offset)
{
	return defer_find(&d->parts[0]->line, offset)->cancel;
}

/* A wish counts when Kafka has it, whatever happens to the job's record and to the poller. */
START_TEST(cancelled_for_good)
{
	struct defer_origin o;

	begin("deferred: {jobs_max: 16}\n");
	assign();
	for (int i = 0; i < 3; i++)
		arrives(i, i, 1000, 10);
	end_of_partition(3);
	ck_assert_uint_eq(cancel(9), 0);
	/* nobody after us could know it for ours */
	ck_assert_uint_eq(cancel(0), 1);
	ck_assert_uint_eq(told_recorded, SIZE_MAX);
	loop_once(m.loop, 0);
	ck_assert(told_recorded == 0 && told_others == 1 && n_sent == 0 && LIST_EMPTY(&d->wishes));
	d->parts[0]->acked_key = true;
	ck_assert_uint_eq(cancel(0), 1);
	ck_assert_uint_eq(n_sent, 1);
	ck_assert_uint_eq(told_recorded, SIZE_MAX);
	/* it must stand behind the record */
	deferred_sweep_due(d);
	ck_assert_uint_eq(n_sent, 3);
	delivered(0, DELIVERY_HOLD);
	ck_assert(told_recorded == 0 && told_others == 1 && !is_cancelled(0) && LIST_EMPTY(&d->wishes));
	ck_assert_uint_eq(cancel(0), 1);
	delivered(3, DELIVERY_OK);
	ck_assert(told_recorded == 1 && told_others == 0 && is_cancelled(0) && !is_cancelled(1));
	/* its copy was on its way */
	ck_assert_uint_eq(cancel(1), 1);
	delivered(4, DELIVERY_OK);
	arrives(3, 1, 1000, 10);
	ck_assert(is_cancelled(3));
	/* it came due meanwhile */
	ck_assert_uint_eq(cancel(2), 1);
	arrives(4, 2, -1, 10);
	d->due.fn(d->due.arg);
	ck_assert_uint_eq(n_accepted, 3);
	delivered(5, DELIVERY_OK);
	ck_assert_int_eq(cancelled_at, 4);
	/* the next one */
	o = defer_find(&d->parts[0]->line, 4)->origin;
	given_again();
	arrives(0, 0, 1000, 10);
	arrives(1, 1, 1000, 10);
	arrives(2, 2, 1000, 10);
	defer_cancel_write(d->parts[0]->key, 1, &o, &record);
	arrives_mark(3);
	ck_assert(!is_cancelled(0) && !is_cancelled(1) && !is_cancelled(2));
	defer_cancel_write(d->parts[0]->key, 0, &o, &record);
	arrives_mark(4);
	ck_assert(!is_cancelled(0) && !is_cancelled(1) && is_cancelled(2));
	end_of_partition(5);
	ck_assert_ptr_eq(defer_next(&d->index), defer_find(&d->parts[0]->line, 2));
	/* the partition went elsewhere before Kafka had it */
	d->parts[0]->acked_key = true;
	ck_assert_uint_eq(cancel(0), 1);
	given_again();
	delivered(n_sent - 1, DELIVERY_OK);
	ck_assert(told_recorded == 0 && told_others == 1);
	end();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("deferred");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, full_rewrites_nothing);
	tcase_add_test(t, never_later_than_the_longest);
	tcase_add_test(t, early);
	tcase_add_test(t, full_store_releases);
	tcase_add_test(t, broken_store_stays);
	tcase_add_test(t, full_and_rebalanced);
	tcase_add_test(t, marks_after_going_back);
	tcase_add_test(t, ended_is_remembered);
	tcase_add_test(t, useless_is_not_ended);
	tcase_add_test(t, cancelled_for_good);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
