/*
 * page.h - the status pages: their catalogue, and the payloads of PAGE and STAT between master and status child.
 *
 * The master renders all pages every second and sends them in pieces; the child puts each together and serves the
 * last whole one. /livez has no page: the child answers it by the age of what it has.
 */
#ifndef COMMON_PAGE_H
#define COMMON_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

enum page { PAGE_METRICS, PAGE_LIVEZ, PAGE_READYZ, PAGE_HEALTH, PAGE_STATUS, PAGE_STATUS_JSON, PAGE__MAX };

struct page_row { const char *path, *content_type, *help; };
extern const struct page_row page_rows[PAGE__MAX];

#define PAGE_PIECE_MAX 60000
#define PAGE_TOTAL_MAX (16 << 20)

struct page_piece {
	enum page page;
	uint16_t status;         /* HTTP status of the whole page */
	uint32_t total;          /* bytes of the whole page */
	uint32_t offset;         /* where this piece stands in it; pieces come in order */
	const char *p;           /* borrowed; at most PAGE_PIECE_MAX bytes, at least 1 unless the page is empty */
	size_t n;
};
void page_piece_encode(const struct page_piece *, struct buf *);
int page_piece_decode(struct page_piece *, const void *p, size_t n, struct err *);

struct page_stat { uint64_t served, refused; };
void page_stat_encode(const struct page_stat *, struct buf *);
int page_stat_decode(struct page_stat *, const void *p, size_t n, struct err *);

#endif
