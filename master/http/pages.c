/*
 * pages.c - keeps the last whole copy of each page that the master rendered, and says what a path is answered.
 *
 * main.c puts the pieces in, server.c asks. Nothing is shown that is older than PAGES_STALE_MS: a master that hangs
 * sends nothing, and its last words must not pass for its present state. /livez is decided here, by that age alone.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/http/http.h"
#include "common/banned.h"

#define PLAIN "text/plain; charset=utf-8"

struct kept {
	struct buf whole, coming;
	unsigned status, coming_status;
	uint32_t total;          /* of what is coming */
};

struct pages {
	struct kept v[PAGE__MAX];
	int64_t newest;          /* when a page was last completed; -1 never */
	struct buf text;         /* an answer of our own */
};

struct pages *
pages_new(void)
{
	struct pages *p = xcalloc(1, sizeof(*p));

	p->newest = -1;
	return p;
}

void
pages_free(struct pages *p)
{
	if (!p)
		return;
	for (int i = 0; i < PAGE__MAX; i++) {
		buf_release(&p->v[i].whole);
		buf_release(&p->v[i].coming);
	}
	buf_release(&p->text);
	free(p);
}

int
pages_put(struct pages *p, const struct page_piece *c, int64_t now, struct err *e)
{
	struct kept *k = &p->v[c->page];
	struct buf old;

	if (!c->offset) {
		buf_clear(&k->coming);
		k->total = c->total;
		k->coming_status = c->status;
	}
	if (c->offset != k->coming.len || c->total != k->total || c->status != k->coming_status)
		return err_set(e, ERR_WORKER_PROTOCOL, "a piece of %s is out of order", page_rows[c->page].path);
	buf_add(&k->coming, c->p, c->n);
	if (k->coming.len < k->total)
		return 0;
	old = k->whole;
	k->whole = k->coming;
	k->coming = old;
	buf_clear(&k->coming);
	k->status = k->coming_status;
	p->newest = now;
	return 0;
}

static void
plain(struct pages *p, unsigned status, struct answer *a)
{
	*a = (struct answer){ status, PLAIN, buf_str(&p->text), p->text.len };
}

static void
not_found(struct pages *p, struct answer *a)
{
	buf_puts(&p->text, "There is no such page. There are:\n");
	for (int i = 0; i < PAGE__MAX; i++)
		buf_printf(&p->text, "  %-14s %s\n", page_rows[i].path, page_rows[i].help);
	plain(p, 404, a);
}

static int
page_by_path(const char *path)
{
	for (int i = 0; i < PAGE__MAX; i++)
		if (!strcmp(path, page_rows[i].path))
			return i;
	return -1;
}

void
pages_answer(struct pages *p, const char *path, int64_t now, struct answer *a)
{
	int i = page_by_path(path);

	buf_clear(&p->text);
	if (p->newest < 0) {
		buf_puts(&p->text, "the poller is starting: nothing has come from its main loop yet\n");
		plain(p, 503, a);
	} else if (now - p->newest > PAGES_STALE_MS) {
		buf_printf(&p->text, "the poller's main loop has not answered for %lld s\n", (long long)((now - p->newest) / 1000));
		plain(p, 503, a);
	} else if (i < 0) {
		not_found(p, a);
	} else if (i == PAGE_LIVEZ) {
		buf_puts(&p->text, "ok\n");
		plain(p, 200, a);
	} else if (!p->v[i].status) {
		buf_puts(&p->text, "this page has not come yet\n");
		plain(p, 503, a);
	} else {
		*a = (struct answer){ p->v[i].status, page_rows[i].content_type, p->v[i].whole.p ? p->v[i].whole.p : "",
			p->v[i].whole.len };
	}
}
