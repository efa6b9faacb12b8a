/*
 * defer_record.c - a record of the deferred topic as key, bytes and the headers we know: from Kafka, into the store and back.
 *
 * Called by deferred.c. Headers of others are left out; a value that is longer than any of ours is cut, and refused when it
 * is read. Pure but for the message that it is read from.
 */
#include <string.h>

#include "common/cursor.h"
#include "common/xalloc.h"
#include "master/deferred_priv.h"
#include "common/banned.h"

#define HEADER_KEPT 4097        /* bytes of one header's value: more than any of ours may have */

/* Headers that are kept, beside the key and the bytes. */
static const char *const names[] = {
	"deferred_version", "deferred_until", "deferred_reason", "deferred_count", "deferred_tasks", "origin_topic", "origin_partition",
	"origin_offset", "received_at", "started_at", "job_id", "org_id", "error_type", "traceparent", "deferred_mark",
};

static int
name_index(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

void
defer_record_of(const rd_kafka_message_t *msg, struct defer_record *r)
{
	rd_kafka_headers_t *headers = NULL;
	const char *name;
	const void *value;
	size_t n;

	memset(r, 0, sizeof(*r));
	r->has_key = msg->key != NULL;
	r->key = msg->key;
	r->key_n = msg->key ? msg->key_len : 0;
	r->value = msg->payload;
	r->n = msg->payload ? msg->len : 0;
	if (rd_kafka_message_headers(msg, &headers))
		return;
	for (size_t i = 0; r->n_headers <= DEFER_HEADERS_MAX && !rd_kafka_header_get_all(headers, i, &name, &value, &n); i++) {
		int known = name_index(name);

		if (known >= 0)
			r->h[r->n_headers++] = (struct out_header){ .name = names[known], .value = value, .n = value ? n < HEADER_KEPT ? n : HEADER_KEPT : 0 };
	}
}

void
defer_record_pack(const struct defer_record *r, struct buf *b)
{
	buf_u8(b, r->has_key);
	buf_bytes(b, r->key, r->key_n);
	buf_bytes(b, r->value, r->n);
	buf_u8(b, (uint8_t)r->n_headers);
	for (size_t i = 0; i < r->n_headers; i++) {
		buf_u8(b, (uint8_t)name_index(r->h[i].name));
		buf_bytes(b, r->h[i].value, r->h[i].n);
	}
}

/* What we packed ourselves, and nobody could change: anything wrong with it is a bug. */
void
defer_record_unpack(const struct buf *b, struct defer_record *r)
{
	struct cursor c;
	size_t n;

	memset(r, 0, sizeof(*r));
	cursor_init(&c, b->p, b->len);
	r->has_key = cursor_u8(&c);
	r->key = cursor_bytes(&c, &r->key_n, b->len);
	r->value = cursor_bytes(&c, &r->n, b->len);
	n = cursor_u8(&c);
	for (size_t i = 0; i < n && i <= DEFER_HEADERS_MAX; i++) {
		uint8_t name = cursor_u8(&c);

		r->h[i].value = cursor_bytes(&c, &r->h[i].n, HEADER_KEPT);
		r->h[i].name = name < ARRAY_LEN(names) ? names[name] : "";
		r->n_headers++;
	}
	if (!cursor_end(&c))
		BUG("a kept record is not what was packed");
}
