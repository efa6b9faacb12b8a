/*
 * verify.c - the verb verify: is everything there that the poller needs? One line a check, with what to do.
 *
 * Disturbs nobody: producing is checked by the id that the brokers give an idempotent producer, reading by one fetch
 * of each partition without a group. --round-trip alone sends a job; it matches no file, so no event is published.
 * A question that the brokers do not know (the embedded one) is a WARN.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "common/escape.h"
#include "common/jsonw.h"
#include "common/loop.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

enum grade { OK, WARN, FAIL };

struct verify {
	struct ctl *c;
	struct broker b;                /* a consumer's handle */
	int wait_ms;
	bool failed;
	int partitions[KAFKA_TOPICS_MAX]; /* -1: trouble */
	const char *topics[KAFKA_TOPICS_MAX];
	size_t n_topics;
};

static void line(struct verify *, enum grade, const char *check, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

static void
line_json(struct verify *v, const char *grade, const char *check, const char *text, const char *hint)
{
	struct buf b = BUF_INIT;
	struct jsonw j;

	jsonw_init(&j, &b);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "check", check);
	jsonw_str(&j, "result", grade);
	jsonw_str(&j, "text", text);
	jsonw_str(&j, "hint", hint);
	jsonw_end_object(&j);
	buf_putc(&b, '\n');
	out_buf(v->c, &b);
}

static void
line(struct verify *v, enum grade g, const char *check, const char *hint, const char *fmt, ...)
{
	static const char *const words[] = { "OK", "WARN", "FAIL" }, *const colours[] = { "\033[32m", "\033[33m", "\033[31m" };
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	v->failed |= g == FAIL;
	if (v->c->json) {
		line_json(v, words[g], check, text, hint);
		return;
	}
	fprintf(v->c->out, "%s%-4s%s  %-12s ", v->c->colour ? colours[g] : "", words[g], v->c->colour ? "\033[0m" : "", check);
	out_term(v->c->out, text, strlen(text));
	if (hint)
		fprintf(v->c->out, "\n                   -> %s", hint);
	putc('\n', v->c->out);
	fflush(v->c->out);
}

/* ---- brokers and topics --------------------------------------------------------------------------------------------------- */

static int
check_brokers(struct verify *v)
{
	int64_t began = clock_mono_ms();
	const struct rd_kafka_metadata *md = NULL;
	rd_kafka_resp_err_t err = rd_kafka_metadata(v->b.rk, 0, NULL, &md, v->wait_ms);
	struct err e = ERR_INIT;

	if (err) {
		broker_error(&v->b, "no answer", err, &e);
		line(v, FAIL, "brokers", "correct kafka.bootstrap_servers, start the brokers, look at the network, TLS and SASL settings",
		    "%s: %s", v->c->cfg->kafka_bootstrap_servers, e.text);
		return -1;
	}
	line(v, OK, "brokers", NULL, "%d answer%s at %s, the first after %lld ms", md->broker_cnt,
	    md->broker_cnt == 1 ? "s" : "", v->c->cfg->kafka_bootstrap_servers,
	    (long long)(clock_mono_ms() - began));
	rd_kafka_metadata_destroy(md);
	return 0;
}

static const char *
admin_hint(rd_kafka_resp_err_t err)
{
	if (err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED || err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
		return "create the topic as somebody who may";
	return "create the topic with Kafka's own tools";
}

static bool
unsupported(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__TIMED_OUT || err == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE ||
	    err == RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION;
}

static void
created(struct verify *v, rd_kafka_event_t *ev)
{
	const rd_kafka_CreateTopics_result_t *res = rd_kafka_event_CreateTopics_result(ev);
	const rd_kafka_topic_result_t **list;
	size_t n = 0;

	if (rd_kafka_event_error(ev)) {
		bool un = unsupported(rd_kafka_event_error(ev));

		line(v, un ? WARN : FAIL, "create", admin_hint(rd_kafka_event_error(ev)), un ? "not supported by this broker: %s" : "%s",
		    rd_kafka_event_error_string(ev));
		return;
	}
	list = rd_kafka_CreateTopics_result_topics(res, &n);
	for (size_t i = 0; i < n; i++) {
		rd_kafka_resp_err_t err = rd_kafka_topic_result_error(list[i]);
		const char *why = rd_kafka_topic_result_error_string(list[i]);

		if (!err || err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			line(v, OK, "create", NULL, "topic %s created", rd_kafka_topic_result_name(list[i]));
		else
			line(v, FAIL, "create", admin_hint(err), "topic %s: %s", rd_kafka_topic_result_name(list[i]),
			    why ? why : rd_kafka_err2str(err));
	}
}

/* Hands the request's event to show(); the options are the request's own. */
static void
await(struct verify *v, rd_kafka_queue_t *q, const char *check, void (*show)(struct verify *, rd_kafka_event_t *))
{
	rd_kafka_event_t *ev = rd_kafka_queue_poll(q, v->wait_ms + 2000);

	if (ev)
		show(v, ev);
	else
		line(v, WARN, check, NULL, "not supported by this broker: no answer");
	if (ev)
		rd_kafka_event_destroy(ev);
	rd_kafka_queue_destroy(q);
}

static rd_kafka_AdminOptions_t *
admin_options(struct verify *v, rd_kafka_admin_op_t op)
{
	rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(v->b.rk, op);
	char text[128];

	rd_kafka_AdminOptions_set_request_timeout(o, v->wait_ms, text, sizeof(text));
	if (op == RD_KAFKA_ADMIN_OP_CREATETOPICS)
		rd_kafka_AdminOptions_set_operation_timeout(o, v->wait_ms, text, sizeof(text));
	return o;
}

/* Brokers tell of a new topic a little after they have made it. */
static void
await_topics(struct verify *v, bool *made)
{
	int64_t until = clock_mono_ms() + v->wait_ms;

	for (size_t i = 0; i < v->n_topics; i++) {
		struct err e = ERR_INIT;

		while (made[i] && clock_mono_ms() < until && broker_partitions(&v->b, v->topics[i], v->wait_ms, &e) < 0)
			broker_poll(&v->b, 50);
	}
}

static int
create_topics(struct verify *v)
{
	bool made[KAFKA_TOPICS_MAX] = { false };
	rd_kafka_NewTopic_t *list[KAFKA_TOPICS_MAX];
	rd_kafka_AdminOptions_t *o;
	rd_kafka_queue_t *q;
	int64_t partitions = -1, copies = -1;
	size_t n = 0;
	char text[256];

	if (ctl_opt_int(v->c, "partitions", 1, 100000, &partitions) < 0 || ctl_opt_int(v->c, "replication", 1, 100, &copies) < 0)
		return -1;
	for (size_t i = 0; i < v->n_topics; i++) {
		struct err e = ERR_INIT;
		rd_kafka_NewTopic_t *t;

		if (broker_partitions(&v->b, v->topics[i], v->wait_ms, &e) >= 0 || e.cls != ERR_NOT_FOUND)
			continue;
		t = rd_kafka_NewTopic_new(v->topics[i], (int)partitions, (int)copies, text, sizeof(text));
		made[i] = t != NULL;
		if (t)
			list[n++] = t;
		else
			line(v, FAIL, "create", "correct the settings topics.*", "topic %s: %s", v->topics[i], text);
	}
	if (!n)
		return 0;
	q = rd_kafka_queue_new(v->b.rk);
	o = admin_options(v, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_CreateTopics(v->b.rk, list, n, o, q);
	rd_kafka_AdminOptions_destroy(o);
	rd_kafka_NewTopic_destroy_array(list, n);
	await(v, q, "create", created);
	if (!v->failed)
		await_topics(v, made);
	return 0;
}

/* kafka_topic_trouble says what is wrong with a topic, then what to do: the second part is the hint. */
static void
topic_line(struct verify *v, const char *topic, const struct err *e)
{
	size_t head = strlen("topic ") + strlen(topic);
	const char *colon = e->cls == ERR_NOT_FOUND && strlen(e->text) > head ? strstr(e->text + head, ": ") : NULL;

	/* With nothing between name and colon it is only what the brokers say. */
	if (!colon || colon == e->text + head)
		line(v, FAIL, "topic", "look at the brokers' logs", "%s", e->text);
	else
		line(v, FAIL, "topic", colon + 2, "%.*s", (int)(colon - e->text), e->text);
}

static void
check_topics(struct verify *v)
{
	for (size_t i = 0; i < v->n_topics; i++) {
		struct err e = ERR_INIT;

		v->partitions[i] = broker_partitions(&v->b, v->topics[i], v->wait_ms, &e);
		if (v->partitions[i] < 0)
			topic_line(v, v->topics[i], &e);
		else
			line(v, OK, "topic", NULL, "%s has %d partition%s", v->topics[i], v->partitions[i],
			    units_s(v->partitions[i]));
	}
}

/* ---- reading and writing ---------------------------------------------------------------------------------------------------- */

/* One fetch of each partition: a record or its end. */
static int
fetch(struct verify *v, const char *topic, int n, struct err *e)
{
	int64_t until = clock_mono_ms() + v->wait_ms;
	struct reader r;
	size_t seen = 0;
	bool *got = xcalloc((size_t)n, sizeof(*got));
	int rc = reader_open(&r, &v->b, topic, e);

	for (int32_t p = 0; rc == 0 && p < n; p++)
		rc = reader_start(&r, p, RD_KAFKA_OFFSET_TAIL(1), e);
	while (rc == 0 && seen < (size_t)n && clock_mono_ms() < until) {
		rd_kafka_message_t *m = reader_next(&r, 100, &rc, e);

		if (m && m->partition < n)
			got[m->partition] = true;
		if (m)
			rd_kafka_message_destroy(m);
		seen = 0;
		for (size_t i = 0; i < r.n; i++)
			seen += got[r.part[i]] || r.at_end[i];
	}
	if (rc == 0 && seen < (size_t)n)
		rc = err_set(e, ERR_KAFKA, "%zu of %d partition%s %s not answer", (size_t)n - seen, n, units_s(n),
		    (size_t)n - seen == 1 ? "does" : "do");
	reader_close(&r);
	free(got);
	return rc;
}

static void
check_reading(struct verify *v)
{
	for (size_t i = 0; i < v->n_topics; i++) {
		struct err e = ERR_INIT;
		int64_t began = clock_mono_ms();

		if (v->partitions[i] < 0)
			continue;
		if (fetch(v, v->topics[i], v->partitions[i], &e) == 0)
			line(v, OK, "consume", NULL, "%s was read in %lld ms", v->topics[i], (long long)(clock_mono_ms() - began));
		else if (kafka_topic_consumed(i))
			line(v, FAIL, "consume", "grant READ on the topic; look at its partitions' leaders", "%s: %s", v->topics[i], e.text);
		else
			line(v, WARN, "consume", "the poller only writes here; 'peek' needs READ", "%s: %s", v->topics[i], e.text);
	}
}

static void
check_group(struct verify *v)
{
	const struct broker_property group[] = { { "group.id", v->c->cfg->kafka_group_id }, { NULL, NULL } };
	rd_kafka_topic_partition_list_t *l;
	struct broker b = { 0 };
	struct err e = ERR_INIT;
	rd_kafka_resp_err_t err;

	if (v->partitions[0] < 0)
		return;
	/* A handle of its own: the one that reads records knows of no group, so it can commit nothing. */
	if (broker_open(&b, v->c->cfg, RD_KAFKA_CONSUMER, group, &e) < 0) {
		line(v, FAIL, "group", "correct the named setting", "%s", e.text);
		return;
	}
	l = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(l, v->topics[0], 0);
	err = rd_kafka_committed(b.rk, l, v->wait_ms);
	if (!err)
		err = l->elems[0].err;
	rd_kafka_topic_partition_list_destroy(l);
	broker_close(&b);
	if (err)
		line(v, FAIL, "group", "grant READ on the group, or look at the brokers' group coordinator", "%s: %s",
		    v->c->cfg->kafka_group_id, rd_kafka_err2str(err));
	else
		line(v, OK, "group", NULL, "%s: its offsets can be read", v->c->cfg->kafka_group_id);
}

static void
check_producing(struct verify *v)
{
	static const struct broker_property stats[] = { { "statistics.interval.ms", "100" }, { NULL, NULL } };
	int64_t began = clock_mono_ms();
	struct broker p = { 0 };
	struct err e = ERR_INIT;

	if (broker_open(&p, v->c->cfg, RD_KAFKA_PRODUCER, stats, &e) < 0) {
		line(v, FAIL, "produce", "correct the named setting", "%s", e.text);
		return;
	}
	while (!p.has_pid && !p.fatal && clock_mono_ms() - began < v->wait_ms)
		broker_poll(&p, 50);
	if (p.has_pid)
		line(v, OK, "produce", NULL, "the brokers gave the idempotent producer its id within %lld ms", (long long)(clock_mono_ms() - began));
	else
		line(v, FAIL, "produce", "grant IDEMPOTENT_WRITE on the cluster and WRITE on the topics",
		    "the brokers give the idempotent producer no id%s%s", p.trouble[0] ? ": " : "", p.trouble);
	broker_close(&p);
}

/* ---- sizes --------------------------------------------------------------------------------------------------------------------- */

static void
size_line(struct verify *v, const char *topic, long long max)
{
	long long ours = (long long)v->c->cfg->kafka_message_max;

	if (max < ours)
		line(v, WARN, "size", "raise max.message.bytes of the topic, or lower kafka.message_max",
		    "%s takes records of %lld bytes, kafka.message_max is %lld", topic, max, ours);
	else
		line(v, OK, "size", NULL, "%s takes records of %lld bytes, kafka.message_max is %lld", topic, max, ours);
}

/* Jobs may wait there for weeks: nothing but the poller may remove them. */
static void
keeping_line(struct verify *v, const char *topic, const char *name, const char *value)
{
	long long ms = strtoll(value, NULL, 10), rewrite = (long long)v->c->cfg->deferred_rewrite;

	if (!strcmp(name, "cleanup.policy") && strstr(value, "compact"))
		line(v, WARN, "retention", "set cleanup.policy=delete: of jobs with one key only the last would be kept",
		    "%s is compacted (cleanup.policy=%s)", topic, value);
	else if (!strcmp(name, "retention.bytes") && strtoll(value, NULL, 10) >= 0)
		line(v, WARN, "retention", "set retention.bytes=-1: deferred jobs could be removed before their time",
		    "%s keeps at most %s bytes of a partition (retention.bytes)", topic, value);
	else if (!strcmp(name, "retention.ms") && ms >= 0 && ms < 4 * rewrite)
		line(v, WARN, "retention", "raise retention.ms, or lower deferred.rewrite_interval (the poller takes a quarter of retention.ms where it may read it)",
		    "%s keeps records for %lld s, a deferred job is written again after %lld s", topic, ms / 1000, rewrite / 1000);
	else if (!strcmp(name, "retention.ms"))
		line(v, OK, "retention", NULL, "%s keeps records for %s ms, a deferred job is written again after %lld s", topic, value, rewrite / 1000);
}

static void
described(struct verify *v, rd_kafka_event_t *ev)
{
	const rd_kafka_ConfigResource_t **list;
	size_t n = 0, m = 0;

	if (rd_kafka_event_error(ev)) {
		line(v, WARN, "size", NULL, unsupported(rd_kafka_event_error(ev)) ? "not supported by this broker: %s" : "%s",
		    rd_kafka_event_error_string(ev));
		return;
	}
	list = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(ev), &n);
	for (size_t i = 0; i < n; i++) {
		const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(list[i], &m);

		if (rd_kafka_ConfigResource_error(list[i]))
			line(v, WARN, "size", "grant DESCRIBE_CONFIGS on the topic to have this checked", "%s: %s",
			    rd_kafka_ConfigResource_name(list[i]), rd_kafka_err2str(rd_kafka_ConfigResource_error(list[i])));
		for (size_t k = 0; k < m; k++) {
			const char *topic = rd_kafka_ConfigResource_name(list[i]), *name = rd_kafka_ConfigEntry_name(entries[k]);
			const char *value = rd_kafka_ConfigEntry_value(entries[k]);

			if (value && !strcmp(name, "max.message.bytes"))
				size_line(v, topic, strtoll(value, NULL, 10));
			else if (value && !strcmp(topic, v->topics[KAFKA_TOPIC_DEFERRED]))
				keeping_line(v, topic, name, value);
		}
	}
}

static void
check_sizes(struct verify *v)
{
	rd_kafka_ConfigResource_t *list[KAFKA_TOPICS_MAX];
	rd_kafka_AdminOptions_t *o;
	rd_kafka_queue_t *q;
	size_t n = 0;

	for (size_t i = 1; i < KAFKA_TOPICS_FIXED; i++)
		if (v->partitions[i] >= 0)
			list[n++] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, v->topics[i]);
	if (!n)
		return;
	q = rd_kafka_queue_new(v->b.rk);
	o = admin_options(v, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_DescribeConfigs(v->b.rk, list, n, o, q);
	rd_kafka_AdminOptions_destroy(o);
	rd_kafka_ConfigResource_destroy_array(list, n);
	await(v, q, "size", described);
}

/* ---- round trip ------------------------------------------------------------------------------------------------------------------ */

struct trip {
	bool acknowledged, failed;
	char why[256];
};

static void
trip_delivered(struct broker *b, const rd_kafka_message_t *m)
{
	struct trip *t = b->arg;

	t->acknowledged = !m->err;
	t->failed = m->err != 0;
	snprintf(t->why, sizeof(t->why), "%s", m->err ? rd_kafka_err2str(m->err) : "");
}

static int
trip_send(struct verify *v, const char *id, struct err *e)
{
	struct trip t = { 0 };
	struct broker p = { .arg = &t, .delivered = trip_delivered };
	int64_t until = clock_mono_ms() + v->wait_ms;
	struct buf b = BUF_INIT;
	rd_kafka_resp_err_t err;

	if (broker_open(&p, v->c->cfg, RD_KAFKA_PRODUCER, NULL, e) < 0)
		return -1;
	/* One generated file that the pattern does not match: completed, and no event. */
	buf_printf(&b, "{\"job_id\":\"%s\",\"source_config\":{\"source_type\":\"dummy\",\"files\":1},"
	    "\"file_pattern\":\"matches-no-generated-file\",\"priority\":\"high\",\"timeout\":\"30s\"}", id);
	err = rd_kafka_producev(p.rk, RD_KAFKA_V_TOPIC(v->topics[0]), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
	    RD_KAFKA_V_KEY(id, strlen(id)), RD_KAFKA_V_VALUE(b.p, b.len), RD_KAFKA_V_END);
	buf_release(&b);
	while (!err && !t.acknowledged && !t.failed && !p.fatal && clock_mono_ms() < until)
		broker_poll(&p, 50);
	if (err || !t.acknowledged)
		err_set(e, ERR_KAFKA, "the job was not acknowledged: %s", err ? rd_kafka_err2str(err) : t.failed ? t.why : "no answer in time");
	broker_close(&p);
	return t.acknowledged ? 0 : -1;
}

/* "job.completed", from the terminal record. */
static void
outcome(const rd_kafka_message_t *m, char *out, size_t n)
{
	char *text = xmemdup0(m->payload ? m->payload : "", m->payload ? m->len : 0);
	struct json_object *o = json_tokener_parse(text), *v = NULL;

	if (json_object_is_type(o, json_type_object))
		json_object_object_get_ex(o, "event_type", &v);
	snprintf(out, n, "%s", v ? json_object_get_string(v) : "not JSON");
	json_object_put(o);
	free(text);
}

static void
trip_await(struct verify *v, struct reader *r, const char *id, int64_t began, int64_t wait_ms)
{
	static const char hint[] = "is iis-pollerd running with these topics and this group? Ask 'iis-pollerctl ping'; a group takes "
	    "seconds to form";
	struct err e = ERR_INIT;
	int rc = 0;

	while (rc == 0 && clock_mono_ms() - began < wait_ms) {
		rd_kafka_message_t *m = reader_next(r, 100, &rc, &e);
		char how[64];
		bool ended;

		if (!m || !peek_is_job(m, id)) {
			if (m)
				rd_kafka_message_destroy(m);
			continue;
		}
		outcome(m, how, sizeof(how));
		rd_kafka_message_destroy(m);
		ended = !strcmp(how, "job.completed");
		line(v, ended ? OK : FAIL, "round trip", ended ? NULL : "its record says why: 'iis-pollerctl --json peek results --job ID'",
		    "%s: %s after %lld ms", id, how, (long long)(clock_mono_ms() - began));
		return;
	}
	line(v, FAIL, "round trip", hint, "%s: %s", id, rc < 0 ? e.text : "no terminal record in time");
}

static void
round_trip(struct verify *v, int64_t wait_ms)
{
	char uuid[37], id[64];
	struct err e = ERR_INIT;
	struct reader r = { 0 };
	int64_t began;
	int rc;

	if (v->partitions[0] < 0 || v->partitions[1] < 0)
		return;
	push_random_id(uuid);
	snprintf(id, sizeof(id), "verify-%s", uuid);
	rc = reader_open(&r, &v->b, v->topics[1], &e);
	/* Where the topic ends is asked before the job is sent, or its record could be missed. */
	for (int32_t p = 0; rc == 0 && p < v->partitions[1]; p++) {
		int64_t low, high;

		rc = broker_watermarks(&v->b, v->topics[1], p, v->wait_ms, &low, &high, &e);
		if (rc == 0)
			rc = reader_start(&r, p, high, &e);
	}
	began = clock_mono_ms();
	if (rc == 0)
		rc = trip_send(v, id, &e);
	if (rc < 0)
		line(v, FAIL, "round trip", "grant WRITE on the polling queue and READ on the results", "%s", e.text);
	else
		trip_await(v, &r, id, began, wait_ms);
	reader_close(&r);
}

int
ctl_verify(struct ctl *c)
{
	struct verify v = { .c = c };
	struct err e = ERR_INIT;
	int64_t wait_ms = 10000, trip_ms = 30000;

	if (ctl_opt_ms(c, "wait", &wait_ms) < 0)
		return EX_USAGE;
	if (ctl_opt(c, "wait"))
		trip_ms = wait_ms;
	v.wait_ms = (int)wait_ms;
	v.n_topics = kafka_topics(c->cfg, v.topics);
	line(&v, OK, "settings", NULL, "read and valid");
	if (broker_open(&v.b, c->cfg, RD_KAFKA_CONSUMER, NULL, &e) < 0) {
		line(&v, FAIL, "settings", "correct the named setting", "%s", e.text);
		return EX_CONFIG;
	}
	if (check_brokers(&v) < 0 || (ctl_opt(c, "create-topics") && create_topics(&v) < 0)) {
		broker_close(&v.b);
		return v.failed ? EX_UNAVAILABLE : EX_USAGE;
	}
	check_topics(&v);
	check_group(&v);
	check_reading(&v);
	check_producing(&v);
	check_sizes(&v);
	if (ctl_opt(c, "round-trip"))
		round_trip(&v, trip_ms);
	broker_close(&v.b);
	return v.failed ? EX_UNAVAILABLE : 0;
}
