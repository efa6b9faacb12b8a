/*
 * broker.c - short-lived handles to Kafka for push, peek, verify and lag. Blocks, but always with a bound.
 *
 * Nothing here joins a group or commits: partitions are read one by one through a queue of their own (the consumer
 * group API is not used), so looking disturbs nobody.
 */
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

#define FLUSH_MS 1000

static void
on_error(rd_kafka_t *rk, int err, const char *reason, void *arg)
{
	struct broker *b = arg;
	char text[sizeof(b->trouble)];

	if (err == RD_KAFKA_RESP_ERR__FATAL) {
		rd_kafka_resp_err_t why = rd_kafka_fatal_error(rk, text, sizeof(text));

		snprintf(b->trouble, sizeof(b->trouble), "%s: %s", rd_kafka_err2name(why), text);
		b->fatal = true;
	} else if (err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && !b->trouble[0]) {
		snprintf(b->trouble, sizeof(b->trouble), "%s%s", reason, kafka_refusal_note(reason));
	}
}

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
	struct broker *b = arg;

	(void)rk;
	if (b->delivered)
		b->delivered(b, m);
}

/* librdkafka tells of the producer's id in its statistics only. */
static int
on_stats(rd_kafka_t *rk, char *json, size_t n, void *arg)
{
	static const char key[] = "\"idemp_state\"", word[] = "\"Assigned\"";
	struct broker *b = arg;
	const char *at = memmem(json, n, key, sizeof(key) - 1);
	size_t left = at ? n - (size_t)(at - json) : 0;

	(void)rk;
	/* the value stands close behind its key */
	b->has_pid |= at && memmem(at, left < 40 ? left : 40, word, sizeof(word) - 1);
	return 0;
}

static int
put_property(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *e)
{
	char text[256] = "";

	if (rd_kafka_conf_set(conf, name, value, text, sizeof(text)) == RD_KAFKA_CONF_OK)
		return 0;
	return err_set(e, ERR_CONFIG, "%s", text);
}

int
broker_open(struct broker *b, const struct config *cfg, rd_kafka_type_t type, const struct broker_property *p, struct err *e)
{
	rd_kafka_conf_t *conf = kafka_conf(cfg, type == RD_KAFKA_PRODUCER ? KAFKA_PRODUCER : KAFKA_ADMIN, e);
	int rc;

	if (!conf)
		return -1;
	b->cfg = cfg;
	rd_kafka_conf_set_opaque(conf, b);
	rd_kafka_conf_set_log_cb(conf, NULL);
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_stats_cb(conf, on_stats);
	if (type == RD_KAFKA_PRODUCER)
		rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rc = put_property(conf, "log.queue", "false", e);
	if (rc == 0 && type == RD_KAFKA_CONSUMER && (put_property(conf, "enable.partition.eof", "true", e) < 0 ||
	    put_property(conf, "enable.auto.commit", "false", e) < 0 || put_property(conf, "auto.offset.reset", "earliest", e) < 0 ||
	    put_property(conf, "fetch.wait.max.ms", "100", e) < 0))
		rc = -1;
	for (; rc == 0 && p && p->name; p++)
		rc = put_property(conf, p->name, p->value, e);
	if (rc < 0) {
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	b->rk = kafka_new(type, conf, e);
	return b->rk ? 0 : -1;
}

void
broker_close(struct broker *b)
{
	if (!b->rk)
		return;
	if (rd_kafka_type(b->rk) == RD_KAFKA_PRODUCER) {
		rd_kafka_purge(b->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
		rd_kafka_flush(b->rk, FLUSH_MS);
	}
	rd_kafka_destroy_flags(b->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	b->rk = NULL;
}

void
broker_poll(struct broker *b, int ms)
{
	rd_kafka_poll(b->rk, ms);
}

int
broker_error(struct broker *b, const char *what, rd_kafka_resp_err_t err, struct err *e)
{
	broker_poll(b, 0);
	if (b->trouble[0] && (err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__TIMED_OUT ||
	    err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || err == RD_KAFKA_RESP_ERR__FATAL))
		return err_set(e, ERR_KAFKA, "%s: %s", what, b->trouble);
	return err_set(e, ERR_KAFKA, "%s: %s", what, rd_kafka_err2str(err));
}

int
broker_partitions(struct broker *b, const char *topic, int ms, struct err *e)
{
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(b->rk, topic, NULL);
	const struct rd_kafka_metadata *md = NULL;
	char text[512];
	rd_kafka_resp_err_t err;
	int n;

	if (!rkt)
		return broker_error(b, topic, rd_kafka_last_error(), e);
	err = rd_kafka_metadata(b->rk, 0, rkt, &md, ms);
	rd_kafka_topic_destroy(rkt);
	if (err) {
		snprintf(text, sizeof(text), "brokers %s do not answer", b->cfg->kafka_bootstrap_servers);
		return broker_error(b, text, err, e);
	}
	n = md->topic_cnt == 1 ? md->topics[0].partition_cnt : 0;
	err = md->topic_cnt == 1 ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	rd_kafka_metadata_destroy(md);
	if (err || !n) {
		kafka_topic_trouble(text, sizeof(text), topic, err ? err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
		return err_set(e, ERR_NOT_FOUND, "%s", text);
	}
	return n;
}

int
broker_watermarks(struct broker *b, const char *topic, int32_t partition, int ms, int64_t *low, int64_t *high, struct err *e)
{
	rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(b->rk, topic, partition, low, high, ms);
	char what[300];

	if (!err)
		return 0;
	snprintf(what, sizeof(what), "offsets of %s[%d]", topic, (int)partition);
	return broker_error(b, what, err, e);
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

int
reader_open(struct reader *r, struct broker *b, const char *topic, struct err *e)
{
	memset(r, 0, sizeof(*r));
	r->b = b;
	r->rkt = rd_kafka_topic_new(b->rk, topic, NULL);
	if (!r->rkt)
		return broker_error(b, topic, rd_kafka_last_error(), e);
	r->q = rd_kafka_queue_new(b->rk);
	return 0;
}

int
reader_start(struct reader *r, int32_t partition, int64_t offset, struct err *e)
{
	if (rd_kafka_consume_start_queue(r->rkt, partition, offset, r->q) < 0)
		return broker_error(r->b, rd_kafka_topic_name(r->rkt), rd_kafka_last_error(), e);
	if (r->n == r->cap) {
		r->cap = r->cap ? r->cap * 2 : 16;
		r->part = xreallocarray(r->part, r->cap, sizeof(*r->part));
		r->at_end = xreallocarray(r->at_end, r->cap, sizeof(*r->at_end));
	}
	r->part[r->n] = partition;
	r->at_end[r->n++] = false;
	return 0;
}

static void
note_end(struct reader *r, int32_t partition, bool end)
{
	for (size_t i = 0; i < r->n; i++) {
		if (r->part[i] != partition || r->at_end[i] == end)
			continue;
		r->at_end[i] = end;
		r->n_at_end = end ? r->n_at_end + 1 : r->n_at_end - 1;
	}
}

rd_kafka_message_t *
reader_next(struct reader *r, int ms, int *rc, struct err *e)
{
	rd_kafka_message_t *m = rd_kafka_consume_queue(r->q, ms);
	char what[300];

	*rc = 0;
	broker_poll(r->b, 0);
	if (!m)
		return NULL;
	if (!m->err) {
		note_end(r, m->partition, false);
		return m;
	}
	if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
		note_end(r, m->partition, true);
	} else if (m->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED || m->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
	    m->err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || m->err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) {
		kafka_topic_trouble(what, sizeof(what), rd_kafka_topic_name(r->rkt), m->err);
		*rc = err_set(e, ERR_KAFKA, "%s", what);
	}
	/* other errors pass, or the caller's time runs out */
	rd_kafka_message_destroy(m);
	return NULL;
}

void
reader_close(struct reader *r)
{
	for (size_t i = 0; i < r->n; i++)
		rd_kafka_consume_stop(r->rkt, r->part[i]);
	if (r->q)
		rd_kafka_queue_destroy(r->q);
	if (r->rkt)
		rd_kafka_topic_destroy(r->rkt);
	free(r->part);
	free(r->at_end);
	memset(r, 0, sizeof(*r));
}

const char *
ctl_queue(struct ctl *c)
{
	const char *queues[KAFKA_QUEUES_MAX], *wanted = ctl_opt(c, "topic");
	size_t n = kafka_queues(c->cfg, queues);

	if (!wanted)
		return queues[0];
	for (size_t i = 0; i < n; i++)
		if (!strcmp(queues[i], wanted))
			return queues[i];
	ctl_fail(c, 0, "the topic %s is neither topics.polling_queue nor one of topics.more_polling_queues: no poller with these settings reads it", wanted);
	return NULL;
}
