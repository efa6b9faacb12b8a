/*
 * http.h - the role header of iis-poller-http: what its rooms show one another, grouped by file name.
 */
#ifndef MASTER_HTTP_HTTP_H
#define MASTER_HTTP_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/loop.h"
#include "common/page.h"

/* ---- pages.c: the last whole snapshot, and what a path is answered --------------------------------------------------- */

#define PAGES_STALE_MS 10000

struct pages;
struct pages *pages_new(void);
void pages_free(struct pages *);
/* Takes one piece; a page is shown when its last piece is here. -1: pieces out of order. now: ms, for its age. */
int pages_put(struct pages *, const struct page_piece *, int64_t now, struct err *);

struct answer {
	unsigned status;
	const char *content_type;
	const char *body;        /* borrowed until the next call on the pages */
	size_t n;
};
void pages_answer(struct pages *, const char *path, int64_t now, struct answer *);

/* ---- server.c: libmicrohttpd on our loop ------------------------------------------------------------------------------ */

struct server;
/* listen_fd: listening; stays its owner's. NULL with err. */
struct server *server_new(struct loop *, struct pages *, int listen_fd, unsigned connections, int64_t deadline_ms, struct err *);
void server_free(struct server *);
void server_stat(const struct server *, struct page_stat *);

#endif
