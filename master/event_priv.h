/*
 * event_priv.h - what event.c, result.c and deadletter.c share: the headers of a record, and its size.
 */
#ifndef MASTER_EVENT_PRIV_H
#define MASTER_EVENT_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "master/master.h"

/* Clears the record. Up to `text` bytes of header values may be kept in out->text without moving. */
void out_begin(struct out_record *, size_t text);
/* A header whose value is borrowed until the record is sent. */
void out_header(struct out_record *, const char *name, const char *value, size_t n);
/* A header whose value is copied into out->text, within the room asked for. */
void out_header_text(struct out_record *, const char *name, const char *value, size_t n);
/* "/iis-poller", with "/<part>" percent-encoded for each that is not NULL: a CloudEvents source. */
void ce_source(struct buf *, const char *org_id, const char *source_id);
/* The CloudEvents headers and content-type; all but id and time are borrowed. */
void out_ce(struct out_record *, const char *id, const char *source, size_t source_n, const char *type, const char *time);
/* Bytes on the wire, no less than librdkafka counts. */
size_t out_size(const struct out_record *);
/* The key of a job's records: its id, else its message's own key, else none. */
void out_job_key(struct out_record *, const struct jobrec *);

#endif
