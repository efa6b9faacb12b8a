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
/* Asks brokers and topics, blocking at most timeout_ms; for -t --online. 0, or -1 with the first trouble (ERR_KAFKA). */
int kafka_online_check(const struct config *, int timeout_ms, struct err *);

#endif
