/*
 * lag.c - the verb lag: what is not done yet, of each partition, as Kafka knows it, or as the daemon does.
 *
 * The group's committed offsets carry what is done beyond them (offsets.h); that is taken off. The group is asked, not
 * joined.
 */
#include <stdlib.h>
#include <string.h>

#include "common/jsonw.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "master/kafka.h"
#include "master/offsets.h"
#include "common/banned.h"

struct lag_row {
	const char *topic;              /* the configuration's */
	int32_t partition;
	int64_t low, high, committed;   /* committed -1: nothing yet */
	int64_t done_beyond, lag;
	enum offsets_meta meta;
};

static int
committed(struct broker *b, const char *topic, int n, int ms, rd_kafka_topic_partition_list_t **out, struct err *e)
{
	rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(n);
	rd_kafka_resp_err_t err;

	for (int32_t p = 0; p < n; p++)
		rd_kafka_topic_partition_list_add(l, topic, p);
	err = rd_kafka_committed(b->rk, l, ms);
	for (int i = 0; !err && i < l->cnt; i++)
		err = l->elems[i].err;
	if (err) {
		rd_kafka_topic_partition_list_destroy(l);
		return broker_error(b, "the group's offsets", err, e);
	}
	*out = l;
	return 0;
}

static void
measure(struct lag_row *r, const rd_kafka_topic_partition_t *tp)
{
	struct offsets o;
	int64_t base;

	offsets_init(&o);
	r->committed = tp->offset >= 0 ? tp->offset : -1;
	r->meta = offsets_load(&o, r->committed, tp->metadata, tp->metadata_size);
	r->done_beyond = r->committed >= 0 ? offsets_done_beyond(&o) : 0;
	offsets_release(&o);
	base = r->committed > r->low ? r->committed : r->low;
	r->lag = r->high - base - r->done_beyond;
	if (r->lag < 0)
		r->lag = 0;
}

/* Adds the rows of one polling queue to the n there are; their number then, or -1. */
static int
gather(struct broker *b, const char *topic, int ms, struct lag_row **rows, int n, struct err *e)
{
	int more = broker_partitions(b, topic, ms, e);
	rd_kafka_topic_partition_list_t *l = NULL;
	int rc = 0;

	if (more < 0 || committed(b, topic, more, ms, &l, e) < 0)
		return -1;
	*rows = xreallocarray(*rows, (size_t)(n + more), sizeof(**rows));
	for (int i = 0; i < more && rc == 0; i++) {
		struct lag_row *r = &(*rows)[n + i];

		*r = (struct lag_row){ .topic = topic, .partition = l->elems[i].partition };
		rc = broker_watermarks(b, topic, r->partition, ms, &r->low, &r->high, e);
		if (rc == 0)
			measure(r, &l->elems[i]);
	}
	rd_kafka_topic_partition_list_destroy(l);
	return rc < 0 ? -1 : n + more;
}

static int64_t
total(const struct lag_row *rows, int n)
{
	int64_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += rows[i].lag;
	return sum;
}

static void
print_json(struct ctl *c, const struct lag_row *rows, int n, struct buf *b)
{
	struct jsonw j;

	jsonw_init(&j, b);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "topic", c->cfg->topic_jobs);
	jsonw_str(&j, "group", c->cfg->kafka_group_id);
	jsonw_array(&j, "partitions");
	for (int i = 0; i < n; i++) {
		jsonw_object(&j, NULL);
		jsonw_str(&j, "topic", rows[i].topic);
		jsonw_int(&j, "partition", rows[i].partition);
		jsonw_int(&j, "low_watermark", rows[i].low);
		jsonw_int(&j, "high_watermark", rows[i].high);
		if (rows[i].committed < 0)
			jsonw_null(&j, "committed");
		else
			jsonw_int(&j, "committed", rows[i].committed);
		jsonw_int(&j, "done_beyond", rows[i].done_beyond);
		jsonw_str(&j, "metadata", offsets_meta_name(rows[i].meta));
		jsonw_int(&j, "lag", rows[i].lag);
		jsonw_end_object(&j);
	}
	jsonw_end_array(&j);
	jsonw_int(&j, "lag", total(rows, n));
	jsonw_end_object(&j);
	buf_putc(b, '\n');
}

static void
print_table(struct ctl *c, const struct lag_row *rows, int n)
{
	struct table t;

	table_init(&t, "TOPIC|>PARTITION|>LOW|>HIGH|>COMMITTED|>DONE-BEYOND|>LAG|METADATA");
	for (int i = 0; i < n; i++) {
		table_cell(&t, rows[i].topic);
		table_cellf(&t, "%d", (int)rows[i].partition);
		table_cellf(&t, "%lld", (long long)rows[i].low);
		table_cellf(&t, "%lld", (long long)rows[i].high);
		if (rows[i].committed < 0)
			table_cell(&t, NULL);
		else
			table_cellf(&t, "%lld", (long long)rows[i].committed);
		table_cellf(&t, "%lld", (long long)rows[i].done_beyond);
		table_cellf(&t, "%lld", (long long)rows[i].lag);
		table_cell(&t, offsets_meta_name(rows[i].meta));
	}
	table_cell(&t, "total");
	for (int i = 0; i < 5; i++)
		table_cell(&t, NULL);
	table_cellf(&t, "%lld", (long long)total(rows, n));
	table_cell(&t, NULL);
	table_print(&t, c);
	table_release(&t);
}

int
ctl_lag(struct ctl *c)
{
	const struct broker_property group[] = { { "group.id", c->cfg->kafka_group_id }, { NULL, NULL } };
	struct broker b = { 0 };
	struct lag_row *rows = NULL;
	struct err e = ERR_INIT;
	struct buf out = BUF_INIT;
	const char *queues[KAFKA_QUEUES_MAX];
	size_t n_queues = kafka_queues(c->cfg, queues);
	int64_t wait_ms = 15000;
	int n = 0, rc = 0;

	if (ctl_opt(c, "daemon"))
		return ctl_lag_daemon(c);
	if (ctl_opt_ms(c, "wait", &wait_ms) < 0)
		return EX_USAGE;
	if (broker_open(&b, c->cfg, RD_KAFKA_CONSUMER, group, &e) < 0)
		return ctl_fail(c, EX_CONFIG, "%s", e.text);
	for (size_t i = 0; i < n_queues && n >= 0; i++)
		n = gather(&b, queues[i], (int)wait_ms, &rows, n, &e);
	if (n < 0)
		rc = ctl_fail(c, EX_UNAVAILABLE, "%s", e.text);
	else if (c->json)
		print_json(c, rows, n, &out);
	else
		print_table(c, rows, n);
	if (out_buf(c, &out) < 0)
		rc = EX_IOERR;
	free(rows);
	broker_close(&b);
	return rc;
}
