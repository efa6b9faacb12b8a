/*
 * outrec.c - keys, headers and sizes of the records that the master produces.
 *
 * Called by event.c, result.c and deadletter.c. Header values either live as long as their owner (the constant parts
 * of a task) or in out->text, which is given its room first, since what points into it must not move.
 */
#include <string.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "master/event_priv.h"
#include "common/banned.h"

/* What a record costs beside its bytes: lengths, time, attributes; more than the format's own maximum. */
#define RECORD_OVERHEAD 70
#define HEADER_OVERHEAD 10

void
out_begin(struct out_record *r, size_t text)
{
	buf_clear(&r->key);
	buf_clear(&r->value);
	buf_clear(&r->text);
	buf_room(&r->text, text);
	r->has_key = false;
	r->n_headers = 0;
	r->partition = -1;
}

void
out_header(struct out_record *r, const char *name, const char *value, size_t n)
{
	if (r->n_headers == OUT_HEADERS_MAX)
		BUG("too many headers");
	r->h[r->n_headers++] = (struct out_header){ .name = name, .value = value, .n = n };
}

void
out_header_text(struct out_record *r, const char *name, const char *value, size_t n)
{
	char *at = r->text.p + r->text.len;

	if (r->text.cap - r->text.len <= n)
		BUG("header values are longer than the room asked for");
	buf_add(&r->text, value, n);
	out_header(r, name, at, n);
}

static void
path_part(struct buf *b, const char *s)
{
	buf_putc(b, '/');
	for (;;) {
		size_t n = strcspn(s, "/");

		escape_url_path(b, s, n);
		s += n;
		if (!*s)
			return;
		buf_puts(b, "%2F");
		s++;
	}
}

void
ce_source(struct buf *b, const char *org_id, const char *source_id)
{
	buf_puts(b, "/iis-poller");
	if (org_id)
		path_part(b, org_id);
	if (source_id)
		path_part(b, source_id);
}

void
out_ce(struct out_record *r, const char *id, const char *source, size_t source_n, const char *type, const char *time)
{
	out_header(r, "ce_specversion", "1.0", 3);
	out_header_text(r, "ce_id", id, strlen(id));
	out_header(r, "ce_source", source, source_n);
	out_header(r, "ce_type", type, strlen(type));
	out_header_text(r, "ce_time", time, strlen(time));
	out_header(r, "content-type", "application/json", 16);
}

size_t
out_size(const struct out_record *r)
{
	size_t n = RECORD_OVERHEAD + r->value.len + (r->has_key ? r->key.len : 0);

	for (size_t i = 0; i < r->n_headers; i++)
		n += HEADER_OVERHEAD + strlen(r->h[i].name) + r->h[i].n;
	return n;
}

void
out_job_key(struct out_record *r, const struct jobrec *rec)
{
	if (rec->job_id)
		buf_puts(&r->key, rec->job_id);
	else if (rec->key)
		buf_add(&r->key, rec->key, rec->key_n);
	r->has_key = rec->job_id || rec->key;
}
