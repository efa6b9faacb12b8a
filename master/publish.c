/*
 * publish.c - the idempotent producer: takes records, and tells each one's ticket once what Kafka said.
 *
 * Called by dispatch.c and jobs.c. Records never time out: Kafka's trouble is waited out, and the bound is our own
 * count of what is outstanding. After a fatal error the producer is thrown away, what was outstanding is held (its
 * senders replay it), and a new one is made after a back-off. Never blocks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/kafka.h"
#include "master/master.h"
#include "common/banned.h"

#define OUTSTANDING_BYTES_MAX ((size_t)64 << 20)
#define REPORTS_A_ROUND 4096
#define MEND_FIRST_MS 100
#define MEND_MAX_MS 10000
#define REFUSED_MS 10000        /* a topic's refusal is shown for so long after the last one */
#define RECORD_OVERHEAD 128     /* batch and record framing at most */
#define HEADER_OVERHEAD 10

struct sent {                   /* one record on its way; librdkafka's message points here */
	LIST_ENTRY(sent) entry;
	struct ticket *ticket;
	enum out_topic topic;
	size_t bytes;
};

struct publisher {
	struct master *m;
	rd_kafka_t *rk;             /* NULL: not started, or being mended */
	rd_kafka_queue_t *queue;
	rd_kafka_topic_t *rkt[OUT__MAX]; /* made at first use: a producer's handle may create its topic */
	int fd;                     /* eventfd, written by librdkafka when the queue is no longer empty */
	struct watch *watch;
	struct timer more;          /* the queue was not drained in one round */
	struct timer mend;
	int64_t mend_ms;
	LIST_HEAD(, sent) sent;
	size_t outstanding, bytes;
	bool *room_refused;         /* apart, since publish_room only asks */
	bool fatal;                 /* seen where mending was not possible yet */
	bool up;
	char trouble[512];          /* "" none; brokers' */
	char refused[512];          /* a topic's */
	enum out_topic refused_topic;
	int64_t refused_until;      /* loop ms */
};

static int producer_open(struct publisher *, struct err *);

void
out_record_init(struct out_record *r)
{
	memset(r, 0, sizeof(*r));
	r->partition = -1;
	buf_init(&r->key);
	buf_init(&r->value);
	buf_init(&r->text);
}

void
out_record_release(struct out_record *r)
{
	buf_release(&r->key);
	buf_release(&r->value);
	buf_release(&r->text);
	out_record_init(r);
}

const char *
out_topic_name(const struct config *c, enum out_topic t)
{
	switch (t) {
	case OUT_EVENTS:
		return c->topic_events;
	case OUT_RESULTS:
		return c->topic_results;
	case OUT_DLQ:
		return c->topic_dlq;
	case OUT_DEFERRED:
		return c->topic_deferred;
	case OUT__MAX:
		break;
	}
	BUG("no such topic");
}

static void
count(const struct publisher *p, enum out_topic t, const char *status)
{
	metric_add(METRIC_KAFKA_PUBLISHED, 1, out_topic_name(p->m->cfg, t), status);
}

/* ---- trouble -------------------------------------------------------------------------------------------------------- */

static void
trouble_set(struct publisher *p, const char *what, const char *reason)
{
	if (!p->trouble[0])
		LOG(LOG_ERROR, "producer_trouble", LS("what", what), LS("reason", reason));
	snprintf(p->trouble, sizeof(p->trouble), "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
	p->up = false;
	if (p->m->consumer)
		consumer_probe_now(p->m->consumer);
}

static void
trouble_clear(struct publisher *p)
{
	if (p->trouble[0])
		LOG0(LOG_INFO, "producer_recovered");
	p->trouble[0] = '\0';
	p->up = p->rk != NULL;
}

void
publisher_probe_ok(struct publisher *p)
{
	if (p->rk)
		trouble_clear(p);
}

/* A topic refuses what we send: told by name, and nothing is consumed while it lasts. */
static void
topic_refused(struct publisher *p, enum out_topic t, rd_kafka_resp_err_t err)
{
	bool news = loop_now(p->m->loop) >= p->refused_until;

	kafka_topic_trouble(p->refused, sizeof(p->refused), out_topic_name(p->m->cfg, t), err);
	p->refused_topic = t;
	p->refused_until = loop_now(p->m->loop) + REFUSED_MS;
	if (news)
		LOG(LOG_ERROR, "topic_refused", LS("trouble", p->refused));
	if (p->m->consumer)
		consumer_probe_now(p->m->consumer);
}

bool
publisher_up(const struct publisher *p)
{
	return p->rk && p->up;
}

const char *
publisher_trouble(const struct publisher *p)
{
	if (!p->rk)
		return p->trouble[0] ? p->trouble : "the producer is not started";
	if (p->trouble[0])
		return p->trouble;
	return loop_now(p->m->loop) < p->refused_until ? p->refused : NULL;
}

/* ---- delivery ------------------------------------------------------------------------------------------------------- */

static bool
too_large(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || err == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE ||
	    err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
}

static bool
of_topic(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
	    err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION || err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION ||
	    err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
}

static void
finish(struct publisher *p, struct sent *s, enum delivery how, const char *why)
{
	static const char *const status[] = {
		[DELIVERY_OK] = "success", [DELIVERY_TOO_LARGE] = "error", [DELIVERY_HOLD] = "held",
	};
	struct ticket *t = s->ticket;

	count(p, s->topic, status[how]);
	LIST_REMOVE(s, entry);
	p->outstanding--;
	p->bytes -= s->bytes;
	free(s);
	t->delivered(t, how, why);
}

static void
reported(struct publisher *p, struct sent *s, rd_kafka_resp_err_t err)
{
	if (!err) {
		p->mend_ms = MEND_FIRST_MS;
		if (s->topic == p->refused_topic)
			p->refused_until = 0;
		if (p->trouble[0] || !p->up)
			trouble_clear(p);
		finish(p, s, DELIVERY_OK, NULL);
		return;
	}
	if (of_topic(err))
		topic_refused(p, s->topic, err);
	if (err == RD_KAFKA_RESP_ERR__FATAL)
		p->fatal = true;
	finish(p, s, too_large(err) ? DELIVERY_TOO_LARGE : DELIVERY_HOLD, rd_kafka_err2str(err));
}

static int
on_reports(struct publisher *p, rd_kafka_event_t *ev)
{
	const rd_kafka_message_t *msg;
	int n = 0;

	for (; (msg = rd_kafka_event_message_next(ev)); n++)
		reported(p, msg->_private, msg->err);
	return n;
}

static void
on_error(struct publisher *p, rd_kafka_event_t *ev)
{
	rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
	const char *reason = rd_kafka_event_error_string(ev);

	if (err == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_event_error_is_fatal(ev)) {
		p->fatal = true;
		return;
	}
	LOG(LOG_WARN, "producer_error", LS("error", rd_kafka_err2name(err)), LS("reason", reason));
	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		trouble_set(p, "no broker can be reached for producing", NULL);
	else if (err == RD_KAFKA_RESP_ERR__AUTHENTICATION || err == RD_KAFKA_RESP_ERR__SSL ||
	    err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
		trouble_set(p, "the brokers refuse the producer", reason);
}

static int
on_event(struct publisher *p, rd_kafka_event_t *ev)
{
	const char *fac, *text;
	int level;

	switch (rd_kafka_event_type(ev)) {
	case RD_KAFKA_EVENT_DR:
		return on_reports(p, ev);
	case RD_KAFKA_EVENT_ERROR:
		on_error(p, ev);
		break;
	case RD_KAFKA_EVENT_LOG:
		if (rd_kafka_event_log(ev, &fac, &text, &level) == 0)
			kafka_log(p->rk, level, fac, text);
		break;
	default:
		break;
	}
	return 1;
}

/* ---- the handle --------------------------------------------------------------------------------------------------------- */

static void
producer_close(struct publisher *p, bool now)
{
	rd_kafka_t *rk = p->rk;

	if (!rk)
		return;
	rd_kafka_queue_io_event_enable(p->queue, -1, NULL, 0);
	for (size_t i = 0; i < OUT__MAX; i++) {
		if (p->rkt[i])
			rd_kafka_topic_destroy(p->rkt[i]);
		p->rkt[i] = NULL;
	}
	rd_kafka_queue_destroy(p->queue);
	rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
	p->rk = NULL;
	p->queue = NULL;
	if (now || !p->m->consumer)
		rd_kafka_destroy(rk);
	else
		consumer_dispose(p->m->consumer, rk);
	loop_unwatch(p->m->loop, &p->watch);
	timer_cancel(p->m->loop, &p->more);
}

/* Whatever was on its way may or may not have arrived: held, so that its sender replays it. */
static void
hold_all(struct publisher *p, const char *why)
{
	size_t n = p->outstanding;

	/* what a ticket sends now is refused, since there is no handle */
	for (; n && !LIST_EMPTY(&p->sent); n--)
		finish(p, LIST_FIRST(&p->sent), DELIVERY_HOLD, why);
}

static void
producer_mend(struct publisher *p)
{
	char why[256] = "";
	rd_kafka_resp_err_t err = rd_kafka_fatal_error(p->rk, why, sizeof(why));

	p->fatal = false;
	metric_add(METRIC_PRODUCER_RESETS, 1, NULL, NULL);
	LOG(LOG_WARN, "producer_reset", LS("error", rd_kafka_err2name(err)), LS("reason", why),
	    LI("outstanding", p->outstanding), LI("retry_ms", p->mend_ms));
	producer_close(p, false);
	snprintf(p->trouble, sizeof(p->trouble), "the producer is being made anew after a fatal error: %s", why);
	p->up = false;
	timer_set(p->m->loop, &p->mend, p->mend_ms);
	p->mend_ms = p->mend_ms * 2 > MEND_MAX_MS ? MEND_MAX_MS : p->mend_ms * 2;
	hold_all(p, "the producer was reset");
}

static void
mend_due(void *arg)
{
	struct publisher *p = arg;
	struct err e = ERR_INIT;

	if (producer_open(p, &e) < 0) {
		LOG(LOG_ERROR, "producer_failed", LS("error", e.text));
		timer_set(p->m->loop, &p->mend, MEND_MAX_MS);
		return;
	}
	trouble_clear(p);
	if (*p->room_refused) {
		*p->room_refused = false;
		dispatch_room(p->m);
	}
}

/* The descriptor fires only when the queue was empty: drained here, or the timer goes on. */
static void
producer_serve(struct publisher *p)
{
	rd_kafka_event_t *ev = NULL;
	int n = 0;

	while (n < REPORTS_A_ROUND && (ev = rd_kafka_queue_poll(p->queue, 0))) {
		n += on_event(p, ev);
		rd_kafka_event_destroy(ev);
	}
	if (ev)
		timer_set(p->m->loop, &p->more, 0);
	if (p->fatal || rd_kafka_fatal_error(p->rk, NULL, 0))
		producer_mend(p);
	if (*p->room_refused && publish_room(p, 1)) {
		*p->room_refused = false;
		dispatch_room(p->m);
	}
}

static void
serve_more(void *arg)
{
	struct publisher *p = arg;

	if (p->rk)
		producer_serve(p);
}

static void
serve_fd(void *arg, int fd, uint32_t events)
{
	struct publisher *p = arg;
	uint64_t n;

	(void)events;
	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN && errno != EINTR)
		BUG("eventfd cannot be read");
	if (p->rk)
		producer_serve(p);
}

static int
producer_open(struct publisher *p, struct err *e)
{
	static const uint64_t one = 1;
	rd_kafka_conf_t *conf = kafka_conf(p->m->cfg, KAFKA_PRODUCER, e);

	if (!conf)
		return -1;
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
	p->rk = kafka_new(RD_KAFKA_PRODUCER, conf, e);
	if (!p->rk)
		return -1;
	p->queue = rd_kafka_queue_get_main(p->rk);
	rd_kafka_set_log_queue(p->rk, p->queue);
	rd_kafka_queue_io_event_enable(p->queue, p->fd, &one, sizeof(one));
	p->watch = loop_watch(p->m->loop, p->fd, EPOLLIN, serve_fd, p);
	/* what came before the descriptor was enabled */
	timer_set(p->m->loop, &p->more, 0);
	return 0;
}

struct publisher *
publisher_new(struct master *m)
{
	struct publisher *p = xcalloc(1, sizeof(*p));

	p->m = m;
	p->fd = -1;
	p->mend_ms = MEND_FIRST_MS;
	p->room_refused = xcalloc(1, sizeof(*p->room_refused));
	LIST_INIT(&p->sent);
	timer_init(&p->more, serve_more, p);
	timer_init(&p->mend, mend_due, p);
	return p;
}

int
publisher_start(struct publisher *p, struct err *e)
{
	p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->fd < 0)
		return err_errno(e, ERR_SYSTEM, "eventfd");
	return producer_open(p, e);
}

/* The tickets may be gone by now: nobody is told. */
void
publisher_free(struct publisher *p)
{
	struct sent *s;

	if (!p)
		return;
	timer_cancel(p->m->loop, &p->mend);
	producer_close(p, true);
	while ((s = LIST_FIRST(&p->sent))) {
		LIST_REMOVE(s, entry);
		free(s);
	}
	if (p->fd >= 0)
		close(p->fd);
	free(p->room_refused);
	free(p);
}

/* ---- sending -------------------------------------------------------------------------------------------------------------- */

bool
publish_room(const struct publisher *p, size_t n)
{
	bool room = !p->outstanding || (p->outstanding + n <= (size_t)p->m->cfg->kafka_queue_messages &&
	    p->bytes < OUTSTANDING_BYTES_MAX);

	if (!room)
		*p->room_refused = true;
	return room;
}

size_t
publish_outstanding(const struct publisher *p)
{
	return p->outstanding;
}

static size_t
record_size(const struct out_record *r)
{
	size_t n = RECORD_OVERHEAD + (r->has_key ? r->key.len : 0) + r->value.len;

	for (size_t i = 0; i < r->n_headers; i++)
		n += strlen(r->h[i].name) + r->h[i].n + HEADER_OVERHEAD;
	return n;
}

static rd_kafka_topic_t *
topic_handle(struct publisher *p, enum out_topic t)
{
	if (!p->rkt[t])
		p->rkt[t] = rd_kafka_topic_new(p->rk, out_topic_name(p->m->cfg, t), NULL);
	return p->rkt[t];
}

static rd_kafka_headers_t *
headers(const struct out_record *r)
{
	rd_kafka_headers_t *h = rd_kafka_headers_new(r->n_headers);

	for (size_t i = 0; i < r->n_headers; i++)
		rd_kafka_header_add(h, r->h[i].name, -1, r->h[i].value, (ssize_t)r->h[i].n);
	return h;
}

/* The headers go as one object of ours: librdkafka 2.0.2 frees those it collected itself twice where the topic is
 * known to refuse records. */
static rd_kafka_error_t *
produce(struct publisher *p, rd_kafka_topic_t *rkt, const struct out_record *r, struct sent *s)
{
	rd_kafka_headers_t *h = headers(r);
	rd_kafka_error_t *error;
	rd_kafka_vu_t vu[7];

	vu[0].vtype = RD_KAFKA_VTYPE_RKT;
	vu[0].u.rkt = rkt;
	vu[1].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
	vu[1].u.i = RD_KAFKA_MSG_F_COPY;
	vu[2].vtype = RD_KAFKA_VTYPE_OPAQUE;
	vu[2].u.ptr = s;
	vu[3].vtype = RD_KAFKA_VTYPE_VALUE;
	vu[3].u.mem.ptr = r->value.p;
	vu[3].u.mem.size = r->value.len;
	vu[4].vtype = RD_KAFKA_VTYPE_KEY;
	vu[4].u.mem.ptr = r->has_key ? (r->key.p ? r->key.p : (void *)(uintptr_t)"") : NULL;
	vu[4].u.mem.size = r->has_key ? r->key.len : 0;
	vu[5].vtype = RD_KAFKA_VTYPE_HEADERS;
	vu[5].u.headers = h;
	vu[6].vtype = RD_KAFKA_VTYPE_PARTITION;
	vu[6].u.i32 = r->partition >= 0 ? r->partition : RD_KAFKA_PARTITION_UA;
	error = rd_kafka_produceva(p->rk, vu, ARRAY_LEN(vu));
	if (error)
		rd_kafka_headers_destroy(h);
	return error;
}

/* librdkafka did not take the record: nothing will be reported for it. */
static int
not_taken(struct publisher *p, enum out_topic t, rd_kafka_resp_err_t err, struct err *e)
{
	if (too_large(err)) {
		count(p, t, "error");
		return err_set(e, ERR_MESSAGE_TOO_LARGE, "a record for topic %s is larger than kafka.message_max",
		    out_topic_name(p->m->cfg, t));
	}
	count(p, t, "held");
	if (of_topic(err))
		topic_refused(p, t, err);
	if (err == RD_KAFKA_RESP_ERR__FATAL) {
		p->fatal = true;
		timer_set(p->m->loop, &p->more, 0);
	}
	return err_set(e, ERR_KAFKA, "topic %s: %s", out_topic_name(p->m->cfg, t), rd_kafka_err2str(err));
}

int
publish_send(struct publisher *p, enum out_topic t, const struct out_record *r, struct ticket *ticket, struct err *e)
{
	size_t bytes = record_size(r);
	rd_kafka_topic_t *rkt;
	rd_kafka_resp_err_t err;
	rd_kafka_error_t *error;
	struct sent *s;

	if (bytes > (size_t)p->m->cfg->kafka_message_max)
		return not_taken(p, t, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, e);
	if (!p->rk)
		return not_taken(p, t, RD_KAFKA_RESP_ERR__STATE, e);
	rkt = topic_handle(p, t);
	if (!rkt)
		return not_taken(p, t, rd_kafka_last_error(), e);
	s = xcalloc(1, sizeof(*s));
	s->ticket = ticket;
	s->topic = t;
	s->bytes = bytes;
	error = produce(p, rkt, r, s);
	if (error) {
		err = rd_kafka_error_code(error);
		rd_kafka_error_destroy(error);
		free(s);
		return not_taken(p, t, err, e);
	}
	LIST_INSERT_HEAD(&p->sent, s, entry);
	p->outstanding++;
	p->bytes += bytes;
	return 0;
}
