/*
 * kafka.h - what consumer, producer and the admin tool share of librdkafka: configuration, refused properties, names.
 */
#ifndef MASTER_KAFKA_H
#define MASTER_KAFKA_H

#include <librdkafka/rdkafka.h>

#include "common/config.h"
#include "common/err.h"

enum kafka_role { KAFKA_CONSUMER, KAFKA_PRODUCER, KAFKA_ADMIN /* short-lived handles of the admin tool and of -t --online */ };

/* A fresh configuration for the role from the settings (bootstrap, client id, group, properties, password file). Caller
 * destroys, or rd_kafka_new takes it. NULL with ERR_CONFIG. */
rd_kafka_conf_t *kafka_conf(const struct config *, enum kafka_role, struct err *);
/* For config_args.property_check: NULL when the property may be set, else why not, in words. */
const char *kafka_property_check(const char *name, const char *value, char *why, size_t n);
/* librdkafka's log_cb: to our log, escaped; runs on library threads only where log.queue is not used. */
void kafka_log(const rd_kafka_t *, int level, const char *fac, const char *buf);
/* rd_kafka_new, which takes conf on success and frees it here on failure; SASL's callbacks run in the background.
 * NULL with ERR_CONFIG and librdkafka's words. */
rd_kafka_t *kafka_new(rd_kafka_type_t, rd_kafka_conf_t *conf, struct err *);
/* What to know besides of a refusal that librdkafka tells in these words; "" mostly. */
const char *kafka_refusal_note(const char *reason);
/* A trouble of one of our topics as a sentence with what to do about it; into text. */
void kafka_topic_trouble(char *text, size_t n, const char *topic, rd_kafka_resp_err_t);
#define KAFKA_TOPIC_DEFERRED 4
#define KAFKA_TOPICS_FIXED 5
#define KAFKA_QUEUES_MAX (1 + CONFIG_TOPICS_MORE_MAX)
#define KAFKA_TOPICS_MAX (KAFKA_TOPICS_FIXED + CONFIG_TOPICS_MORE_MAX)
/* The topics this poller uses: the polling queue, those it writes, the deferred topic, the further polling queues. Their
 * number; borrowed from the configuration. */
size_t kafka_topics(const struct config *, const char *out[KAFKA_TOPICS_MAX]);
/* Is the topic of this place in kafka_topics read by the group? */
bool kafka_topic_consumed(size_t place);
/* The polling queues, topics.polling_queue first; likewise. */
size_t kafka_queues(const struct config *, const char *out[KAFKA_QUEUES_MAX]);

/* ---- what consume.c and publish.c tell one another ---- */

struct consumer;
struct publisher;
/* Asks the brokers at once, and each second until they answer well. */
void consumer_probe_now(struct consumer *);
/* Destroys a producer whose events nobody serves any more, where that may block: in the probe's thread. */
void consumer_dispose(struct consumer *, rd_kafka_t *);
/* The brokers answered and all topics are there. */
void publisher_probe_ok(struct publisher *);

/* Asks brokers and topics, blocking at most timeout_ms; for -t --online. 0, or -1 with the first trouble (ERR_KAFKA). */
int kafka_online_check(const struct config *, int timeout_ms, struct err *);

#endif
