/*
 * intake.h - messages that were read and are not jobs yet, each tenant's in a line of its own. consume.c's alone.
 */
#ifndef MASTER_INTAKE_H
#define MASTER_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

struct intake_item {
	rd_kafka_message_t *msg;        /* who takes it out owns it */
	uint32_t epoch;                 /* of its partition when it was read */
};

struct intake *intake_new(void);
/* It is empty: whoever owns the messages has taken them out. */
void intake_free(struct intake *);
/* tenant: n bytes of any kind, NULL: none was seen. bytes: what the message takes. */
void intake_put(struct intake *, const char *tenant, size_t n, const struct intake_item *, size_t bytes);
/* The next in turn: one of each tenant that has any, in order of arrival within a tenant. False: it is empty. */
bool intake_next(struct intake *, struct intake_item *out);
size_t intake_count(const struct intake *);
size_t intake_bytes(const struct intake *);

#endif
