/*
 * consume.c - the consumer on the loop: reads the polling queues while there is room, commits what is done.
 *
 * Called by main.c and jobs.c; see consumer.h for its neighbours. Messages of all partitions come through one jobs
 * queue; a partition whose own window is full is paused alone. What was read waits in the intake, a line for each tenant,
 * until it is its turn to be made a job of: so a message waits behind others' for as long as their reading takes, and no
 * longer. Nothing is dropped once librdkafka has handed it out: a lower offset that never came would count as done.
 * Never blocks on a broker, never exits on Kafka's trouble.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/consumer.h"
#include "common/banned.h"

#define EVENTS_A_ROUND 1000
#define JOBS_A_ROUND 50         /* so that workers, deliveries and timers wait for no more than these */
#define MESSAGES_A_ROUND 1000   /* nor for these, which are only read */
#define MESSAGE_BYTES 256       /* what librdkafka keeps of each beside its text */
#define TICK_MS 1000
#define UNWELL_CHECK_MS 1000
#define CLOSE_STEP_MS 2500      /* for the last commit, and for leaving the group */
#define CLOSE_STEP_UNWELL_MS 400 /* where the brokers are known to be away */
#define CLOSE_LOOK_MS 20
#define PROBE_JOIN_MS 1000
#define EVENTS (RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG)

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

bool
consumer_is_well(const struct consumer *c)
{
	return c->subscribed && !c->stopped && c->closing == CLOSE_NO && c->rebalancing == REB_NONE && c->probe_good &&
	    !c->fatal[0] && !publisher_trouble(c->m->publisher);
}

bool
consumer_may_read(const struct consumer *c)
{
	return consumer_is_well(c) && jobs_room(c->m->jobs, 0, 0);
}

/* May a message more be read, to wait for its turn? */
static bool
may_take_in(const struct consumer *c)
{
	return consumer_is_well(c) && jobs_room(c->m->jobs, intake_count(c->intake), intake_bytes(c->intake));
}

static bool
hex_field(const char *p, size_t n)
{
	bool zero = true;

	for (size_t i = 0; i < n; i++) {
		if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
			return false;
		zero = zero && p[i] == '0';
	}
	return !zero;
}

/* 00-<32 hex>-<16 hex>-<2 hex>, neither id all zero; anything else is as if it were not there. */
static bool
traceparent_valid(const char *p, size_t n)
{
	char flags[2];

	if (n != 55 || memcmp(p, "00-", 3) || p[35] != '-' || p[52] != '-')
		return false;
	/* flags may be zero */
	flags[0] = p[53] == '0' ? '1' : p[53];
	flags[1] = p[54];
	return hex_field(p + 3, 32) && hex_field(p + 36, 16) && hex_field(flags, 2);
}

bool
consumer_traceparent_valid(const char *text)
{
	return traceparent_valid(text, strlen(text));
}

uint32_t
consumer_epoch(struct consumer *c)
{
	return ++c->epochs;
}

static const char *
traceparent(const rd_kafka_message_t *msg, char out[56])
{
	rd_kafka_headers_t *headers;
	const void *value;
	size_t n;

	if (rd_kafka_message_headers(msg, &headers) ||
	    rd_kafka_header_get_last(headers, "traceparent", &value, &n) || !value || !traceparent_valid(value, n))
		return NULL;
	memcpy(out, value, n);
	out[n] = '\0';
	return out;
}

static void
accept_message(struct consumer *c, const struct part *p, const rd_kafka_message_t *msg)
{
	rd_kafka_timestamp_type_t type;
	struct message out;
	char trace[56];

	memset(&out, 0, sizeof(out));
	out.origin = out.at = (struct origin){ .topic = p->topic, .partition = p->id, .offset = msg->offset, .epoch = p->epoch };
	out.key = msg->key;
	out.key_n = msg->key ? msg->key_len : 0;
	out.payload = msg->payload;
	out.n = msg->payload ? msg->len : 0;
	out.timestamp_ms = rd_kafka_message_timestamp(msg, &type);
	out.traceparent = traceparent(msg, trace);
	jobs_accept(c->m->jobs, &out);
}

/* The log was cut or made anew: what we knew of the partition means other messages now. */
static void
part_restart(struct consumer *c, struct part *p, int64_t offset)
{
	uint32_t epoch = p->epoch;

	LOG(LOG_WARN, "partition_went_back", LS("topic", p->topic), LI("partition", p->id), LI("offset", offset), LI("expected", p->of.next),
	    LI("in_hand", p->of.open));
	offsets_reset(&p->of);
	p->epoch = ++c->epochs;
	jobs_revoke(c->m->jobs, p->id, epoch);
}

/* OFFSETS_NEW: it is to be made a job of; OFFSETS_FULL: outside of the window, not taken. */
static enum offsets_take
judge(struct consumer *c, struct part *p, int64_t offset)
{
	enum offsets_take how = offsets_take(&p->of, offset);

	if (how == OFFSETS_BELOW) {
		part_restart(c, p, offset);
		how = offsets_take(&p->of, offset);
	}
	if (how != OFFSETS_NEW && how != OFFSETS_FULL) {
		metric_add(METRIC_KAFKA_CONSUMED, 1, p->topic, "skipped");
		metric_add(METRIC_JOBS_SKIPPED, 1, NULL, NULL);
	}
	return how;
}

/* Owns msg, unless it says false: outside of the window, not taken. */
static bool
take_in(struct consumer *c, struct part *p, rd_kafka_message_t *msg)
{
	enum offsets_take how = judge(c, p, msg->offset);
	const char *tenant;
	size_t n = 0;

	if (how == OFFSETS_FULL)
		return false;
	if (how != OFFSETS_NEW) {
		rd_kafka_message_destroy(msg);
		return true;
	}
	tenant = msg->payload ? job_glance_tenant(msg->payload, msg->len, &n) : NULL;
	intake_put(c->intake, tenant, n, &(struct intake_item){ .msg = msg, .epoch = p->epoch }, MESSAGE_BYTES + msg->len + msg->key_len);
	return true;
}

/* The next in turn becomes a job, unless its partition went elsewhere meanwhile. */
static void
accept_next(struct consumer *c)
{
	struct intake_item item;
	struct part *p;

	if (!intake_next(c->intake, &item))
		return;
	p = consumer_part(c, rd_kafka_topic_name(item.msg->rkt), item.msg->partition);
	if (p && p->epoch == item.epoch)
		accept_message(c, p, item.msg);
	rd_kafka_message_destroy(item.msg);
}

static void
accept_some(struct consumer *c)
{
	for (int n = 0; n < JOBS_A_ROUND && intake_count(c->intake) && consumer_may_read(c); n++)
		accept_next(c);
}

static void
stash(struct consumer *c, struct part *p, rd_kafka_message_t *msg)
{
	if (p->n_stash == p->stash_cap) {
		p->stash_cap = p->stash_cap ? p->stash_cap * 2 : 16;
		p->stash = xreallocarray(p->stash, p->stash_cap, sizeof(*p->stash));
	}
	p->stash[p->n_stash++] = msg;
	c->stashed++;
}

static void
partition_error(struct consumer *c, const rd_kafka_message_t *msg)
{
	LOG(LOG_WARN, "partition_error", LS("topic", rd_kafka_topic_name(msg->rkt)), LI("partition", msg->partition), LS("error", rd_kafka_err2name(msg->err)),
	    LS("reason", rd_kafka_message_errstr(msg)));
	if (msg->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
	    msg->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
		kafka_topic_trouble(c->trouble, sizeof(c->trouble), rd_kafka_topic_name(msg->rkt), msg->err);
		consumer_probe_now(c);
	}
}

/* Owns msg. Messages of partitions that are not ours any more are not ours to judge. */
static void
take_message(struct consumer *c, rd_kafka_message_t *msg)
{
	struct part *p = consumer_part(c, rd_kafka_topic_name(msg->rkt), msg->partition);

	if (msg->err && msg->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
		partition_error(c, msg);
	if (msg->err || !p || !p->assigned)
		rd_kafka_message_destroy(msg);
	else if (p->n_stash || !take_in(c, p, msg))
		stash(c, p, msg);
	if (p && p->assigned && !p->paused && (p->n_stash || !offsets_room(&p->of)))
		consumer_pause(c, p, true);
}

static void
part_unstash(struct consumer *c, struct part *p)
{
	size_t n = 0;

	while (n < p->n_stash && may_take_in(c) && take_in(c, p, p->stash[n])) {
		n++;
		c->stashed--;
	}
	p->n_stash -= n;
	memmove(p->stash, p->stash + n, p->n_stash * sizeof(*p->stash));
}

static void
unstash_all(struct consumer *c)
{
	for (size_t i = 0; i < c->n_parts && c->stashed; i++) {
		struct part *p = c->parts[i];

		if (!p || !p->n_stash)
			continue;
		part_unstash(c, p);
		if (!p->n_stash && p->paused && offsets_half(&p->of))
			consumer_pause(c, p, false);
	}
}

static void
read_jobs(struct consumer *c)
{
	rd_kafka_message_t *msg;
	int n = 0;

	if (deferred_catching_up(c->m->deferred))
		return;
	if (c->stashed && may_take_in(c))
		unstash_all(c);
	for (; c->jobs_ready && n < MESSAGES_A_ROUND && may_take_in(c); n++) {
		msg = rd_kafka_consume_queue(c->jobs, 0);
		if (!msg)
			c->jobs_ready = false;
		else
			take_message(c, msg);
	}
	accept_some(c);
	if ((c->jobs_ready && n == MESSAGES_A_ROUND) || (intake_count(c->intake) && consumer_may_read(c)))
		timer_set(c->m->loop, &c->read, 0);
}

static void
read_due(void *arg)
{
	read_jobs(arg);
}

/* Deferred jobs are read whether there is room for a job now or not: they wait in a file of their own. */
static void
read_deferred(void *arg)
{
	struct consumer *c = arg;
	rd_kafka_message_t *msg;
	int n = 0;

	for (; c->deferred_ready && n < JOBS_A_ROUND && c->closing == CLOSE_NO && c->rebalancing == REB_NONE && deferred_room(c->m->deferred); n++) {
		msg = rd_kafka_consume_queue(c->deferred, 0);
		if (!msg)
			c->deferred_ready = false;
		else
			deferred_message(c->m->deferred, msg);
	}
	if (c->deferred_ready && n == JOBS_A_ROUND)
		timer_set(c->m->loop, &c->read_deferred, 0);
}

void
consumer_kick(struct consumer *c)
{
	if ((c->jobs_ready || c->stashed || intake_count(c->intake)) && !timer_armed(&c->read))
		timer_set(c->m->loop, &c->read, 0);
}

static void
fd_clear(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN && errno != EINTR)
		BUG("eventfd cannot be read");
}

static void
on_jobs_fd(void *arg, int fd, uint32_t events)
{
	struct consumer *c = arg;

	(void)events;
	fd_clear(fd);
	c->jobs_ready = true;
	read_jobs(c);
}

static void
on_deferred_fd(void *arg, int fd, uint32_t events)
{
	struct consumer *c = arg;

	(void)events;
	fd_clear(fd);
	c->deferred_ready = true;
	read_deferred(c);
}

/* ---- events -------------------------------------------------------------------------------------------------------------------- */

static void
set_fatal(struct consumer *c, const char *reason)
{
	snprintf(c->fatal, sizeof(c->fatal), "the consumer has ended for good: %s; %s", reason,
	    c->m->cfg->kafka_group_instance_id[0] ?
	    "look for another poller with the same kafka.group_instance_id, then restart this one" : "restart the poller");
	LOG(LOG_ERROR, "consumer_fatal", LS("trouble", c->fatal));
}

static void
on_error(struct consumer *c, rd_kafka_event_t *ev)
{
	rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
	const char *reason = rd_kafka_event_error_string(ev);

	if (err == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_event_error_is_fatal(ev)) {
		set_fatal(c, reason);
		return;
	}
	LOG(LOG_WARN, "consumer_error", LS("error", rd_kafka_err2name(err)), LS("reason", reason));
	switch (err) {
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		snprintf(c->group_trouble, sizeof(c->group_trouble),
		    "group %s is forbidden to this client: grant it the right in the brokers' ACLs", c->m->cfg->kafka_group_id);
		break;
	case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		snprintf(c->trouble, sizeof(c->trouble), "no broker of %s can be reached", c->m->cfg->kafka_bootstrap_servers);
		c->trouble_told = true;
		consumer_probe_now(c);
		break;
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR__SSL:
		snprintf(c->trouble, sizeof(c->trouble), "the brokers refuse this client: %s%s", reason,
		    kafka_refusal_note(reason));
		c->trouble_told = true;
		consumer_probe_now(c);
		break;
	default:
		/* connections come and go; the probe tells whether it matters */
		consumer_probe_now(c);
		break;
	}
}

/* Messages never come this way: their partitions are forwarded before they are assigned. Dropping one would lose it. */
static void
on_stray(struct consumer *c, rd_kafka_event_t *ev)
{
	const rd_kafka_message_t *msg;
	enum offsets_take how;

	while ((msg = rd_kafka_event_message_next(ev))) {
		struct part *p = consumer_part(c, rd_kafka_topic_name(msg->rkt), msg->partition);

		if (msg->err)
			continue;
		if (!strcmp(rd_kafka_topic_name(msg->rkt), c->m->cfg->topic_deferred))
			BUG("a deferred job came outside of its queue");
		if (!p || !p->assigned)
			continue;
		how = p->n_stash ? OFFSETS_FULL : judge(c, p, msg->offset);
		if (how == OFFSETS_FULL)
			BUG("a message came outside of the jobs queue");
		if (how == OFFSETS_NEW)
			accept_message(c, p, msg);
	}
}

static void
on_event(struct consumer *c, rd_kafka_event_t *ev)
{
	const char *fac, *text;
	int level;

	switch (rd_kafka_event_type(ev)) {
	case RD_KAFKA_EVENT_REBALANCE:
		rebalance_event(c, ev);
		break;
	case RD_KAFKA_EVENT_OFFSET_COMMIT:
		consumer_committed(c, ev);
		break;
	case RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT:
		rebalance_offsets(c, ev);
		break;
	case RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT:
		deferred_retention(c->m->deferred, ev);
		break;
	case RD_KAFKA_EVENT_ERROR:
		on_error(c, ev);
		break;
	case RD_KAFKA_EVENT_LOG:
		if (rd_kafka_event_log(ev, &fac, &text, &level) == 0)
			kafka_log(c->rk, level, fac, text);
		break;
	case RD_KAFKA_EVENT_FETCH:
		on_stray(c, ev);
		break;
	default:
		break;
	}
}

static void
serve_queue(struct consumer *c, rd_kafka_queue_t *q)
{
	rd_kafka_event_t *ev;

	int n = 0;

	for (; n < EVENTS_A_ROUND && (ev = rd_kafka_queue_poll(q, 0)); n++) {
		on_event(c, ev);
		rd_kafka_event_destroy(ev);
	}
	if (n == EVENTS_A_ROUND)
		c->events_left = true;
}

static void
serve(struct consumer *c)
{
	c->events_left = false;
	serve_queue(c, c->events);
	if (c->closing == CLOSE_LEAVE)
		serve_queue(c, c->leaving);
	if (c->events_left)
		timer_set(c->m->loop, &c->tick, 0);
	/* an assignment, or an end of trouble, may be what reading waited for */
	deferred_kick(c->m->deferred);
	consumer_kick(c);
	if (c->deferred_ready && !timer_armed(&c->read_deferred))
		timer_set(c->m->loop, &c->read_deferred, 0);
}

static void
on_events_fd(void *arg, int fd, uint32_t events)
{
	(void)events;
	fd_clear(fd);
	serve(arg);
}

/* librdkafka bounds the time between two polls; and what stops reading may have passed without an event. */
static void
tick_due(void *arg)
{
	struct consumer *c = arg;

	c->jobs_ready = c->deferred_ready = true;
	timer_set(c->m->loop, &c->tick, TICK_MS);
	serve(c);
	deferred_tick(c->m->deferred);
	read_deferred(c);
}

/* ---- are brokers and topics well? ------------------------------------------------------------------------------------------- */

static void
probe_start(struct consumer *c)
{
	timer_cancel(c->m->loop, &c->check);
	if (c->probe_busy) {
		c->probe_again = true;
		return;
	}
	c->probe_busy = true;
	c->probe_again = false;
	probe_ask(c->probe);
}

static void
check_due(void *arg)
{
	probe_start(arg);
}

/* Errors come in heaps: at most one question a second follows from them. */
void
consumer_probe_now(struct consumer *c)
{
	if (!c->probe)
		return;
	if (c->probe_busy)
		c->probe_again = true;
	else if (!timer_armed(&c->check) || timer_left(c->m->loop, &c->check) > UNWELL_CHECK_MS)
		timer_set(c->m->loop, &c->check, c->probe_good ? 0 : UNWELL_CHECK_MS);
}

void
consumer_dispose(struct consumer *c, rd_kafka_t *rk)
{
	if (c->probe)
		probe_dispose(c->probe, rk);
	else
		rd_kafka_destroy(rk);
}

static void
subscribe(struct consumer *c)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < c->n_queues; i++)
		rd_kafka_topic_partition_list_add(list, c->queues[i], RD_KAFKA_PARTITION_UA);
	rd_kafka_topic_partition_list_add(list, c->m->cfg->topic_deferred, RD_KAFKA_PARTITION_UA);
	err = rd_kafka_subscribe(c->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	c->subscribed = !err;
	if (err)
		LOG(LOG_ERROR, "subscribe_failed", LS("error", rd_kafka_err2str(err)));
}

/* Writes what is wrong; false: all is well. */
static bool
answer_trouble(struct consumer *c, const struct probe_answer *a, char *text, size_t n)
{
	const char *topics[KAFKA_TOPICS_MAX];
	size_t n_topics;

	if (a->err) {
		snprintf(text, n, "brokers %s do not answer: %s", c->m->cfg->kafka_bootstrap_servers, rd_kafka_err2str(a->err));
		return true;
	}
	n_topics = kafka_topics(c->m->cfg, topics);
	for (size_t i = 0; i < n_topics; i++) {
		if (a->topic[i]) {
			kafka_topic_trouble(text, n, topics[i], a->topic[i]);
			return true;
		}
	}
	return false;
}

static void
on_answer(struct consumer *c, const struct probe_answer *a)
{
	char text[sizeof(c->trouble)] = "";
	bool bad = answer_trouble(c, a, text, sizeof(text));

	/* why the connections fail says more than that nobody answered */
	if (!(a->err && c->trouble_told)) {
		if (bad && strcmp(text, c->trouble))
			LOG(LOG_ERROR, "kafka_trouble", LS("trouble", text));
		snprintf(c->trouble, sizeof(c->trouble), "%s", text);
		c->trouble_told = false;
	}
	if (!bad && a->partitions[KAFKA_TOPIC_DEFERRED] > 0)
		c->deferred_partitions = a->partitions[KAFKA_TOPIC_DEFERRED];
	if (!bad && !c->probe_good)
		LOG0(LOG_INFO, "kafka_well");
	c->probe_good = !bad;
	timer_set(c->m->loop, &c->check, bad || c->probe_again ? UNWELL_CHECK_MS : c->m->cfg->kafka_topic_check);
	if (bad)
		return;
	publisher_probe_ok(c->m->publisher);
	if (!c->subscribed && !c->stopped && c->closing == CLOSE_NO)
		subscribe(c);
	consumer_kick(c);
}

static void
on_probe_fd(void *arg, int fd, uint32_t events)
{
	struct consumer *c = arg;
	struct probe_answer a;

	(void)fd;
	(void)events;
	if (!probe_answer(c->probe, &a))
		return;
	c->probe_busy = false;
	on_answer(c, &a);
}

/* ---- begin and end --------------------------------------------------------------------------------------------------------------- */

static void
close_finish(struct consumer *c)
{
	c->closing = CLOSE_DONE;
	timer_cancel(c->m->loop, &c->close);
}

static void
close_leave(struct consumer *c)
{
	rd_kafka_error_t *error;

	rebalance_abandon(c);
	c->closing = CLOSE_LEAVE;
	timer_set(c->m->loop, &c->close, CLOSE_LOOK_MS);
	error = rd_kafka_consumer_close_queue(c->rk, c->leaving);
	if (!error)
		return;
	LOG(LOG_WARN, "leave_failed", LS("error", rd_kafka_error_string(error)));
	rd_kafka_error_destroy(error);
	close_finish(c);
}

/* The last commit is on its way, or over. */
void
consumer_close_step(struct consumer *c)
{
	if (c->closing != CLOSE_COMMIT || c->committing)
		return;
	if (!c->revoke_committed && consumer_dirty(c)) {
		c->revoke_committed = true;
		consumer_commit(c);
	}
	if (!c->committing)
		close_leave(c);
}

static void
close_due(void *arg)
{
	struct consumer *c = arg;

	if (c->closing == CLOSE_COMMIT) {
		LOG(LOG_WARN, "last_commit_late", LI("waited_ms", c->close_ms));
		close_leave(c);
		return;
	}
	serve(c);
	if (c->closing != CLOSE_LEAVE)
		return;
	if (rd_kafka_consumer_closed(c->rk)) {
		close_finish(c);
	} else if ((c->left_ms += CLOSE_LOOK_MS) > c->close_ms) {
		LOG(LOG_WARN, "leave_late", LI("waited_ms", c->close_ms));
		close_finish(c);
	} else {
		timer_set(c->m->loop, &c->close, CLOSE_LOOK_MS);
	}
}

void
consumer_close(struct consumer *c)
{
	if (c->closing != CLOSE_NO)
		return;
	c->stopped = true;
	if (!c->subscribed) {
		c->closing = CLOSE_DONE;
		return;
	}
	c->closing = CLOSE_COMMIT;
	c->revoke_committed = false;
	c->left_ms = 0;
	c->close_ms = c->trouble[0] ? CLOSE_STEP_UNWELL_MS : CLOSE_STEP_MS;
	if (c->rebalancing == REB_ASKING)
		rebalance_abandon(c);
	timer_set(c->m->loop, &c->close, c->close_ms);
	consumer_close_step(c);
}

bool
consumer_closed(const struct consumer *c)
{
	return c->closing == CLOSE_DONE || !c->rk;
}

void
consumer_stop(struct consumer *c)
{
	c->stopped = true;
	deferred_flush(c->m->deferred);
}

static rd_kafka_queue_t *
watched(rd_kafka_queue_t *q, int fd)
{
	static const uint64_t one = 1;

	rd_kafka_queue_io_event_enable(q, fd, &one, sizeof(one));
	return q;
}

struct consumer *
consumer_new(struct master *m)
{
	struct consumer *c = xcalloc(1, sizeof(*c));
	const char *queues[KAFKA_QUEUES_MAX];

	c->m = m;
	c->n_queues = kafka_queues(m->cfg, queues);
	for (size_t i = 0; i < c->n_queues; i++)
		c->queues[i] = xstrdup(queues[i]);
	c->intake = intake_new();
	c->events_fd = c->jobs_fd = c->deferred_fd = -1;
	timer_init(&c->tick, tick_due, c);
	timer_init(&c->read, read_due, c);
	timer_init(&c->read_deferred, read_deferred, c);
	timer_init(&c->commit, consumer_commit_due, c);
	timer_init(&c->rebalance, rebalance_due, c);
	timer_init(&c->close, close_due, c);
	timer_init(&c->check, check_due, c);
	snprintf(c->trouble, sizeof(c->trouble), "brokers and topics have not been checked yet");
	return c;
}

static int
open_handle(struct consumer *c, struct err *e)
{
	rd_kafka_conf_t *conf = kafka_conf(c->m->cfg, KAFKA_CONSUMER, e);

	if (!conf)
		return -1;
	rd_kafka_conf_set_events(conf, EVENTS);
	c->rk = kafka_new(RD_KAFKA_CONSUMER, conf, e);
	if (!c->rk)
		return -1;
	rd_kafka_poll_set_consumer(c->rk);
	c->events = watched(rd_kafka_queue_get_consumer(c->rk), c->events_fd);
	c->leaving = watched(rd_kafka_queue_new(c->rk), c->events_fd);
	c->jobs = watched(rd_kafka_queue_new(c->rk), c->jobs_fd);
	c->deferred = watched(rd_kafka_queue_new(c->rk), c->deferred_fd);
	rd_kafka_set_log_queue(c->rk, c->events);
	c->probe = probe_new(c->rk, c->m->cfg, e);
	return c->probe ? 0 : -1;
}

int
consumer_start(struct consumer *c, struct err *e)
{
	c->events_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->jobs_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->deferred_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->events_fd < 0 || c->jobs_fd < 0 || c->deferred_fd < 0)
		return err_errno(e, ERR_SYSTEM, "eventfd");
	if (open_handle(c, e) < 0)
		return -1;
	c->w_events = loop_watch(c->m->loop, c->events_fd, EPOLLIN, on_events_fd, c);
	c->w_jobs = loop_watch(c->m->loop, c->jobs_fd, EPOLLIN, on_jobs_fd, c);
	c->w_deferred = loop_watch(c->m->loop, c->deferred_fd, EPOLLIN, on_deferred_fd, c);
	c->w_probe = loop_watch(c->m->loop, probe_fd(c->probe), EPOLLIN, on_probe_fd, c);
	timer_set(c->m->loop, &c->tick, TICK_MS);
	probe_start(c);
	return 0;
}

/* A reference that is left makes the destruction wait for ever: queues and messages go first. */
static void
close_handle(struct consumer *c)
{
	struct intake_item item;

	while (intake_next(c->intake, &item))
		rd_kafka_message_destroy(item.msg);
	for (size_t i = 0; i < c->n_parts; i++)
		if (c->parts[i])
			consumer_part_free(c, c->parts[i]);
	deferred_close(c->m->deferred);
	if (!c->rk)
		return;
	rd_kafka_queue_io_event_enable(c->events, -1, NULL, 0);
	rd_kafka_queue_io_event_enable(c->leaving, -1, NULL, 0);
	rd_kafka_queue_io_event_enable(c->jobs, -1, NULL, 0);
	rd_kafka_queue_io_event_enable(c->deferred, -1, NULL, 0);
	rd_kafka_queue_destroy(c->jobs);
	rd_kafka_queue_destroy(c->deferred);
	rd_kafka_queue_destroy(c->leaving);
	rd_kafka_queue_destroy(c->events);
	if (probe_free(c->probe, PROBE_JOIN_MS))
		rd_kafka_destroy_flags(c->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	else
		LOG(LOG_WARN, "consumer_left_behind", LS("reason", "a call to the brokers has not returned"));
}

void
consumer_free(struct consumer *c)
{
	if (!c)
		return;
	timer_cancel(c->m->loop, &c->tick);
	timer_cancel(c->m->loop, &c->read);
	timer_cancel(c->m->loop, &c->read_deferred);
	timer_cancel(c->m->loop, &c->commit);
	timer_cancel(c->m->loop, &c->rebalance);
	timer_cancel(c->m->loop, &c->close);
	timer_cancel(c->m->loop, &c->check);
	loop_unwatch(c->m->loop, &c->w_events);
	loop_unwatch(c->m->loop, &c->w_jobs);
	loop_unwatch(c->m->loop, &c->w_deferred);
	loop_unwatch(c->m->loop, &c->w_probe);
	if (c->wanted)
		rd_kafka_topic_partition_list_destroy(c->wanted);
	close_handle(c);
	if (c->events_fd >= 0)
		close(c->events_fd);
	if (c->jobs_fd >= 0)
		close(c->jobs_fd);
	if (c->deferred_fd >= 0)
		close(c->deferred_fd);
	for (size_t i = 0; i < c->n_queues; i++)
		free(c->queues[i]);
	free(c->parts);
	intake_free(c->intake);
	free(c);
}

/* ---- what others may know -------------------------------------------------------------------------------------------------------- */

uint32_t
consumer_deferred_partitions(const struct consumer *c)
{
	return c->deferred_partitions > 0 ? (uint32_t)c->deferred_partitions : 1;
}

bool
consumer_joined(const struct consumer *c)
{
	return c->joined;
}

const char *
consumer_trouble(const struct consumer *c)
{
	if (c->fatal[0])
		return c->fatal;
	if (c->trouble[0])
		return c->trouble;
	return c->group_trouble[0] ? c->group_trouble : NULL;
}
