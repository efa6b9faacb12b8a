/*
 * demo.c - the embedded broker of --demo: librdkafka's mock cluster, hosted by this process on loopback.
 *
 * Called by demo_run.c. It keeps everything in memory and forgets it at the end; it is no broker for anything else.
 */
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "common/xalloc.h"
#include "master/kafka.h"
#include "master/master.h"
#include "common/banned.h"

#define PARTITIONS 4

struct demo {
	rd_kafka_t *rk;                   /* the mock cluster lives in its threads */
	rd_kafka_mock_cluster_t *cluster;
};

static int
create_topics(struct demo *d, const struct config *cfg, struct err *e)
{
	const char *topics[KAFKA_TOPICS_MAX];
	size_t n = kafka_topics(cfg, topics);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < n; i++) {
		err = rd_kafka_mock_topic_create(d->cluster, topics[i], PARTITIONS, 1);
		if (err)
			return err_set(e, ERR_KAFKA, "embedded broker: topic %s: %s", topics[i], rd_kafka_err2str(err));
	}
	return 0;
}

struct demo *
demo_start(const struct config *cfg, struct err *e)
{
	struct demo *d = xcalloc(1, sizeof(*d));
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	rd_kafka_conf_set_log_cb(conf, NULL);
	d->rk = kafka_new(RD_KAFKA_PRODUCER, conf, e);
	if (d->rk && !(d->cluster = rd_kafka_mock_cluster_new(d->rk, 1)))
		err_set(e, ERR_SYSTEM, "the embedded broker cannot listen on loopback");
	if (d->cluster && create_topics(d, cfg, e) == 0)
		return d;
	demo_stop(d);
	return NULL;
}

const char *
demo_bootstrap(const struct demo *d)
{
	return rd_kafka_mock_cluster_bootstraps(d->cluster);
}

void
demo_stop(struct demo *d)
{
	if (!d)
		return;
	if (d->cluster)
		rd_kafka_mock_cluster_destroy(d->cluster);
	if (d->rk)
		rd_kafka_destroy(d->rk);
	free(d);
}
