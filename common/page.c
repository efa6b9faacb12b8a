/*
 * page.c - the catalogue of the status pages and the payloads that carry them; see page.h.
 *
 * master/httpd.c encodes pages and reads statistics, master/http the other way round. Decoders are bounded and must
 * end exactly at the end of the payload. Never allocates beyond the caller's buffer.
 */
#include "common/cursor.h"
#include "common/page.h"
#include "common/banned.h"

const struct page_row page_rows[PAGE__MAX] = {
	[PAGE_METRICS] = { "/metrics", "text/plain; version=0.0.4; charset=utf-8", "for Prometheus" },
	[PAGE_LIVEZ] = { "/livez", "text/plain; charset=utf-8", "200 while the poller's main loop turns" },
	[PAGE_READYZ] = { "/readyz", "text/plain; charset=utf-8", "200 while the poller takes jobs" },
	[PAGE_HEALTH] = { "/health", "application/json", "healthy, degraded or unhealthy, and why" },
	[PAGE_STATUS] = { "/status", "text/html; charset=utf-8", "the state of the poller, for people" },
	[PAGE_STATUS_JSON] = { "/status.json", "application/json", "the same for programs" },
};

void
page_piece_encode(const struct page_piece *c, struct buf *b)
{
	buf_u8(b, (uint8_t)c->page);
	buf_u8(b, 0);
	buf_u16(b, c->status);
	buf_u32(b, c->total);
	buf_u32(b, c->offset);
	buf_bytes(b, c->p, c->n);
}

int
page_piece_decode(struct page_piece *out, const void *p, size_t n, struct err *e)
{
	struct cursor c;

	cursor_init(&c, p, n);
	out->page = (enum page)cursor_u8(&c);
	cursor_u8(&c);
	out->status = cursor_u16(&c);
	out->total = cursor_u32(&c);
	out->offset = cursor_u32(&c);
	out->p = cursor_bytes(&c, &out->n, PAGE_PIECE_MAX);
	if (!cursor_end(&c))
		return err_set(e, ERR_WORKER_PROTOCOL, "PAGE is not of its own form");
	if ((unsigned)out->page >= PAGE__MAX || out->status < 200 || out->status > 599)
		return err_set(e, ERR_WORKER_PROTOCOL, "PAGE of an unknown page or status");
	if (out->total > PAGE_TOTAL_MAX || out->offset > out->total || out->n > out->total - out->offset ||
	    (!out->n && out->total))
		return err_set(e, ERR_WORKER_PROTOCOL, "PAGE with a piece outside of its page");
	return 0;
}

void
page_stat_encode(const struct page_stat *s, struct buf *b)
{
	buf_u64(b, s->served);
	buf_u64(b, s->refused);
}

int
page_stat_decode(struct page_stat *s, const void *p, size_t n, struct err *e)
{
	struct cursor c;

	cursor_init(&c, p, n);
	s->served = cursor_u64(&c);
	s->refused = cursor_u64(&c);
	return cursor_end(&c) ? 0 : err_set(e, ERR_WORKER_PROTOCOL, "STAT is not of its own form");
}
