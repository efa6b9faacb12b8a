/*
 * http.c - the source type http: directories as index pages, WebDAV collections or a manifest, details by HEAD.
 *
 * The only one who asks the server is http_request.c; pages go through the readers of http_index.h as they come, and are
 * never held. Several pages and HEADs are under way at once, at most max_connections; a server that answers 503 or 429
 * gets fewer. HEADs that wait hold their pages back, so that memory stays bounded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/escape.h"
#include "common/units.h"
#include "worker/source/http.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define CONNECTIONS 8
#define QUEUE_HIGH 2048                 /* HEADs that wait: pages pause above */
#define QUEUE_LOW 512
#define QUEUE_BYTES (12 << 20)          /* where no page may pause: the most they may take */
#define TRIES 6                         /* of a page or HEAD that the server refuses for now */
#define TRIES_500 2                     /* of a HEAD that ends in 500: a broken link, for some servers */
#define PATIENCE_MS 2000                /* a Retry-After up to this is waited for here */

struct http_listing {                   /* one directory; lives until its HEADs are back */
	struct http_listing *next, **at;
	struct conn *c;
	struct tree_dir *dir;
	struct http_url base;           /* what references are relative to */
	struct http_url page;           /* where the page at hand came from */
	bool based;                     /* <base> was seen */
	struct buf path;                /* page's path as bytes, up to and with its last '/' */
	const struct index_format *format;
	unsigned pending;               /* HEADs queued or under way */
	unsigned pages;
	bool read;                      /* the last page is read */
	bool proved;                    /* HTML: it is an index */
	struct http_names names, visited;
	char server[64];
};

struct http_head {                      /* a file whose details are asked for */
	struct http_head *next;
	struct http_listing *listing;
	int64_t size, mtime_ns;
	bool approximate;
	enum mtime_precision precision;
	unsigned tries;
	size_t n;
	char name[];
};

static const struct index_format *const formats[] = {
	[HTTP_FORMAT_HTML] = &index_html, [HTTP_FORMAT_JSON] = &index_json, [HTTP_FORMAT_XML] = &index_xml,
	[HTTP_FORMAT_LINKS] = &index_html, [HTTP_FORMAT_TEXT] = &index_text, [HTTP_FORMAT_JSONL] = &index_jsonl,
	[HTTP_FORMAT_WEBDAV] = &index_webdav,
};

static bool
is_manifest(const struct conn *c)
{
	return c->wanted == HTTP_FORMAT_TEXT || c->wanted == HTTP_FORMAT_JSONL;
}

/* Names of these are paths below the address, and no directory is entered. */
static bool
is_flat(const struct conn *c)
{
	return is_manifest(c) || c->wanted == HTTP_FORMAT_LINKS;
}

static unsigned
active(const struct conn *c)
{
	return c->pages + c->heads;
}

/* ---- life of a listing ------------------------------------------------------------------------------------------------- */

static struct http_listing *
listing_new(struct conn *c, struct tree_dir *d)
{
	struct http_listing *l = xcalloc(1, sizeof(*l));

	l->c = c;
	l->dir = d;
	l->next = c->listings;
	l->at = &c->listings;
	if (l->next)
		l->next->at = &l->next;
	c->listings = l;
	return l;
}

static void
listing_free(struct http_listing *l)
{
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	http_url_release(&l->base);
	http_url_release(&l->page);
	buf_release(&l->path);
	http_names_release(&l->names);
	http_names_release(&l->visited);
	free(l);
}

/* Read to its end and all HEADs back: what was held back is decided. */
static int
listing_done(struct http_listing *l, struct err *e)
{
	int rc;

	if (!l->read || l->pending)
		return RUN_GO_ON;
	rc = tree_dir_done(l->c->tree, l->dir, e);
	listing_free(l);
	return rc;
}

/* ---- entries ---------------------------------------------------------------------------------------------------------------- */

/* The name of a reference below the page, in c->name. */
enum place { BELOW, SELF, ABOVE, ELSEWHERE, WRONG };

static const char hidden_code[] = "the link holds %2F or %00, which no name can hold";

/* "name", "name/", "./name": what nearly all links are. colon: none can begin with a scheme. */
static bool
is_plain(const char *p, size_t n, bool colon)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f || (p[i] == ':' && !colon) || p[i] == '?' || p[i] == '#' ||
		    (p[i] == '/' && i + 1 < n))
			return false;
	return n && *p != '.' && *p != '/' && *p != '%';
}

static enum place
below(struct http_listing *l, const char *path)
{
	struct buf *b = &l->c->name;
	size_t n = l->path.len;

	buf_clear(b);
	if (http_path_decode(path, strlen(path), b))
		return WRONG;
	if (b->len <= n) {
		if (b->len == n && !memcmp(b->p, l->path.p, n))
			return SELF;
		/* "/a" for "/a/": the collection itself, as some WebDAV servers name it */
		if (b->len + 1 == n && !memcmp(b->p, l->path.p, b->len))
			return SELF;
		return b->len && b->p[b->len - 1] == '/' && !memcmp(b->p, l->path.p, b->len) ? ABOVE : ELSEWHERE;
	}
	if (memcmp(b->p, l->path.p, n))
		return ELSEWHERE;
	buf_consume(b, n);
	return BELOW;
}

static enum place
resolve(struct http_listing *l, const char *ref, size_t n)
{
	size_t skip = n > 2 && ref[0] == '.' && ref[1] == '/' ? 2 : 0;
	struct http_url u;
	enum http_ref found;
	enum place at;

	if (!l->based && is_plain(ref + skip, n - skip, skip)) {
		buf_clear(&l->c->name);
		return http_path_decode(ref + skip, n - skip, &l->c->name) ? WRONG : BELOW;
	}
	if (*ref == '#')
		return SELF;
	found = http_url_resolve(&l->base, ref, n, &u);
	if (found != HTTP_REF_OK)
		return found == HTTP_REF_OTHER ? ELSEWHERE : WRONG;
	at = !http_url_same_origin(&l->page, &u) ? ELSEWHERE : below(l, u.path);
	/* "?C=M;O=A" sorts, and "x?dl=1" is not the file x; the page's own name with a query is itself, too. */
	if (u.query && at == BELOW)
		at = ELSEWHERE;
	http_url_release(&u);
	return at;
}

/* NULL, or what is wrong with a path of several components. */
static const char *
flat_fault(const char *p, size_t n)
{
	for (const char *end = p + n; p <= end;) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		size_t part = (size_t)((slash ? slash : end) - p);

		if (!part || (part <= 2 && *p == '.' && p[part - 1] == '.'))
			return "the path holds an empty component, \".\" or \"..\"";
		if (!slash)
			return NULL;
		p = slash + 1;
	}
	return NULL;
}

static bool
needs_head(const struct conn *c, int64_t size, bool approximate, int64_t mtime_ns)
{
	switch (run_int(c->run, SF_HTTP_HEAD_MODE)) {
	case HTTP_HEAD_NONE:
		return false;
	case HTTP_HEAD_ALL:
		return true;
	default:
		return size < 0 || mtime_ns == TIME_UNKNOWN || (approximate && filter_needs_attrs(c->run->filter));
	}
}

static void
attr_text(struct entry *en, enum source_attr id, const char *s)
{
	entry_attr_str(en, id, s, strlen(s));
}

/* The address of a file below the directory, in c->url. */
static void
file_url(struct http_listing *l, const char *name, size_t n)
{
	struct buf *b = &l->c->url;

	buf_clear(b);
	http_url_origin(&l->c->origin, false, b);
	escape_url_path(b, l->dir->path, l->dir->path_n);
	if (l->dir->path_n && l->dir->path[l->dir->path_n - 1] != '/')
		buf_putc(b, '/');
	escape_url_path(b, name, n);
}

static void
size_attrs(struct entry *en, int64_t size, bool approximate)
{
	if (!approximate)
		en->rec.size = size;
	else if (size >= 0)
		entry_attr_int(en, SA_HTTP_SIZE_APPROXIMATE, size);
}

static void
time_attrs(struct entry *en, int64_t ns, enum mtime_precision p, const char *from)
{
	if (ns == TIME_UNKNOWN)
		return;
	en->rec.mtime_ns = ns;
	en->rec.precision = p;
	attr_text(en, SA_HTTP_MODIFIED_SOURCE, from);
}

static void
common_attrs(struct http_listing *l, struct entry *en)
{
	entry_attr_str(en, SA_HTTP_URL, l->c->url.p, l->c->url.len);
	attr_text(en, SA_HTTP_INDEX_FORMAT, l->c->wanted == HTTP_FORMAT_LINKS ? "links" : l->format ? l->format->name : "none");
}

static void
etag_attrs(struct entry *en, const char *etag)
{
	if (!*etag)
		return;
	attr_text(en, SA_HTTP_ETAG, etag);
	en->rec.version = etag;
	en->rec.version_n = strlen(etag);
}

/* All that is to know stands in the index. */
static int
report(struct http_listing *l, struct entry *en, const struct index_entry *ix, struct err *e)
{
	file_url(l, en->name, en->name_n);
	common_attrs(l, en);
	size_attrs(en, ix->size, ix->approximate);
	time_attrs(en, ix->mtime_ns, ix->precision, "index");
	etag_attrs(en, ix->etag);
	attr_text(en, SA_HTTP_CONTENT_TYPE, ix->content_type);
	attr_text(en, SA_HTTP_SERVER, l->server);
	return tree_report(l->c->tree, l->dir, en, e);
}

static int
queue_head(struct http_listing *l, const struct entry *en, const struct index_entry *ix, struct err *e)
{
	struct conn *c = l->c;
	struct http_head *h = xcalloc(1, sizeof(*h) + en->name_n + 1);

	h->listing = l;
	h->size = ix->size;
	h->approximate = ix->approximate;
	h->mtime_ns = ix->mtime_ns;
	h->precision = ix->precision;
	h->n = en->name_n;
	memcpy(h->name, en->name, en->name_n);
	*c->last = h;
	c->last = &h->next;
	c->queued++;
	c->queued_bytes += sizeof(*h) + h->n;
	l->pending++;
	if (c->queued_bytes > QUEUE_BYTES)
		return err_set(e, ERR_LIMIT, "too many files wait for their HEAD while one connection reads the index: "
		    "raise max_connections, or use head_mode: none");
	return 0;
}

static int
unreadable(struct http_listing *l, const char *name, size_t n, const char *why, struct err *e)
{
	struct buf *b = &l->c->text;

	buf_clear(b);
	buf_add(b, l->dir->path, l->dir->path_n);
	if (b->len && b->p[b->len - 1] != '/')
		buf_putc(b, '/');
	buf_add(b, name, n);
	return run_unreadable(l->c->run, b->p, b->len, why, e);
}

/* A page that is no index, but has links: the first link that could be a file must be proved to be one. */
static int
prove(struct http_listing *l, const struct index_entry *ix, struct err *e)
{
	if (l->proved || l->format != &index_html || l->c->wanted == HTTP_FORMAT_LINKS)
		return 0;
	l->proved = ix->mtime_ns != TIME_UNKNOWN;
	if (l->proved)
		return 0;
	return err_set(e, ERR_PERMANENT, "the page is no index of a directory (it has no such heading, no link to the parent, no dates); "
	    "index_format: links takes pages of any kind");
}

static int
take(struct http_listing *l, const char *name, size_t n, const struct index_entry *ix, struct err *e)
{
	struct conn *c = l->c;
	bool dir = ix->kind == INDEX_DIR;
	struct entry en;
	int rc;

	while (n && name[n - 1] == '/') {
		n--;
		dir = dir || ix->kind == INDEX_UNSAID;
	}
	if (!n)
		return 0;
	if (memchr(name, '/', n)) {
		/* Not of this directory; a directory of its own page will name it. */
		if (!is_flat(c))
			return ix->is_ref ? 0 : unreadable(l, name, n, "the name holds a '/'", e);
		if (flat_fault(name, n))
			return unreadable(l, name, n, flat_fault(name, n), e);
	}
	rc = prove(l, ix, e);
	if (rc || http_names_add(&l->names, name, n))
		return rc;
	if (dir && is_flat(c))
		return run_turn(c->run, e);
	if (ix->status >= 300)
		return unreadable(l, name, n, "the server refuses its properties", e);
	entry_init(&en, name, n, dir ? ENTRY_DIR : ix->kind == INDEX_OTHER ? ENTRY_OTHER : ENTRY_FILE);
	switch (tree_ask(c->tree, l->dir, &en, e)) {
	case TREE_FAILED:
		return -1;
	case TREE_YES:
		return needs_head(c, ix->size, ix->approximate, ix->mtime_ns) ? queue_head(l, &en, ix, e) : report(l, &en, ix, e);
	default:
		return 0;
	}
}

static int
on_entry(void *arg, const struct index_entry *ix, struct err *e)
{
	struct http_request *q = arg;
	struct http_listing *l = q->listing;

	l->proved = l->proved || q->parser->heading;
	if (!ix->is_ref)
		return take(l, ix->name, ix->n, ix, e);
	switch (resolve(l, ix->name, ix->n)) {
	case BELOW:
		return take(l, l->c->name.p, l->c->name.len, ix, e);
	case ABOVE:
		l->proved = true;
		return 0;
	case WRONG:
		return prove(l, ix, e) || unreadable(l, ix->name, ix->n, hidden_code, e) ? -1 : 0;
	case ELSEWHERE:
		/* A manifest's lines are all meant. */
		return is_manifest(l->c) ? unreadable(l, ix->name, ix->n, "it is not below the manifest's own folder", e) : 0;
	default:
		return 0;
	}
}

static int
on_base(void *arg, const char *ref, size_t n, struct err *e)
{
	struct http_request *q = arg;
	struct http_listing *l = q->listing;
	struct http_url u;

	if (l->based)
		return 0;
	if (http_url_resolve(&l->page, ref, n, &u) != HTTP_REF_OK)
		return err_set(e, ERR_PROTOCOL, "the page's <base> is no address");
	if (!http_url_same_origin(&u, &l->page)) {
		http_url_release(&u);
		return err_set(e, ERR_PERMANENT, "the page's <base> is of another origin");
	}
	http_url_release(&l->base);
	l->base = u;
	l->based = true;
	return 0;
}

/* ---- pages --------------------------------------------------------------------------------------------------------------------- */

static bool
type_is(const struct http_answer *a, const char *type)
{
	size_t n = strlen(type);

	return !strncasecmp(a->type, type, n) && (!a->type[n] || a->type[n] == ';' || a->type[n] == ' ');
}

static const struct index_format *
by_type(const struct http_answer *a)
{
	if (type_is(a, "text/html") || type_is(a, "application/xhtml+xml"))
		return &index_html;
	if (type_is(a, "application/json") || type_is(a, "text/json"))
		return &index_json;
	if (type_is(a, "text/xml") || type_is(a, "application/xml"))
		return &index_xml;
	return NULL;
}

static int
choose(struct http_request *q, char first, struct err *e)
{
	struct index_sink sink = { on_entry, on_base, q };
	struct http_listing *l = q->listing;
	struct buf shown = BUF_INIT;
	int rc = 0;

	l->format = q->c->wanted == HTTP_FORMAT_AUTO ? by_type(&q->answer) : formats[q->c->wanted];
	if (!l->format && !*q->answer.type)
		l->format = first == '[' ? &index_json : first == '<' ? &index_html : NULL;
	if (l->format) {
		q->parser = index_new(l->format, &sink);
	} else {
		escape_term(&shown, q->answer.type, strlen(q->answer.type));
		rc = err_set(e, ERR_PERMANENT, "what came is no index, but %s", shown.len ? buf_str(&shown) : "of no type");
		buf_release(&shown);
	}
	return rc;
}

/* Where it came from, behind redirects: what its references are relative to. */
static int
set_page(struct http_request *q, struct err *e)
{
	struct http_listing *l = q->listing;
	size_t n;

	http_url_release(&l->page);
	http_url_release(&l->base);
	http_url_copy(&l->page, &q->url);
	http_url_copy(&l->base, &q->url);
	l->based = false;
	/* A collection's members are below it, with or without a '/' at the end of what was asked for. */
	n = strlen(l->page.path);
	if (q->c->wanted == HTTP_FORMAT_WEBDAV && l->page.path[n - 1] != '/') {
		char *path = xasprintf("%s/", l->page.path);

		free(l->page.path);
		l->page.path = path;
		free(l->base.path);
		l->base.path = xstrdup(path);
	}
	buf_clear(&l->path);
	if (http_path_decode(l->page.path, strlen(l->page.path), &l->path))
		return err_set(e, ERR_PROTOCOL, "a redirect's path holds %%2F or %%00");
	while (l->path.len && l->path.p[l->path.len - 1] != '/')
		l->path.len--;
	if (!*l->server && strlen(q->answer.server) < sizeof(l->server))
		memcpy(l->server, q->answer.server, strlen(q->answer.server) + 1);
	return 0;
}

static int
on_body(struct http_request *q, const char *p, size_t n, struct err *e)
{
	if (!n)
		return 0;
	if (!q->parser && (set_page(q, e) || choose(q, *p, e)))
		return -1;
	return q->parser->format->feed(q->parser, p, n, e);
}

/* A page waits while many HEADs do, but only when those can go on. */
static bool
page_ready(struct http_request *q)
{
	return q->c->queued < QUEUE_HIGH || !q->c->heads;
}

static int page_send(struct http_listing *, const struct http_url *, struct err *);
static int refill(struct http_request *, struct err *);

/* The server wants less, or later: fewer requests, and a pause. */
static int
slow_down(struct http_request *q, unsigned tries, struct err *e)
{
	struct conn *c = q->c;
	struct timespec ts;
	uint64_t ms;
	int64_t until;

	clock_gettime(CLOCK_REALTIME, &ts);
	ms = http_retry_after(&q->answer, ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec);
	if (ms > PATIENCE_MS || tries >= TRIES) {
		if (ms)
			run_retry_after(c->run, ms);
		return http_request_refused(q, e);
	}
	c->limit = c->limit > 1 ? c->limit / 2 : 1;
	if (!ms)
		ms = UINT64_C(25) << (tries < 6 ? tries : 6);
	until = run_clock() + (int64_t)ms * 1000000;
	if (until > c->resume_ns)
		c->resume_ns = until;
	return 0;
}

static bool
is_busy(unsigned status)
{
	return status == 503 || status == 429;
}

static int
page_failed(struct http_request *q, struct err *why, struct err *e)
{
	struct http_listing *l = q->listing;
	struct buf b = BUF_INIT;
	struct err full = *why;
	char brief[128];
	int rc;

	/* What the reader found has no address yet. */
	if (!strstr(why->text, "://"))
		err_set(&full, why->cls, "%s: %.600s", http_request_text(q, &b), why->text);
	buf_release(&b);
	if (tree_dir_begun(l->dir)) {
		*e = full;
		return -1;
	}
	/* Below the root the path is named beside the reason. */
	snprintf(brief, sizeof(brief), "%u %s", q->answer.status, http_status_words(q->answer.status));
	rc = tree_dir_refused(q->c->tree, l->dir, full.cls,
	    !l->dir->depth || (full.cls != ERR_AUTH && full.cls != ERR_PERMANENT && full.cls != ERR_POLICY) ? full.text :
	    !q->rc && q->answer.status != q->expected ? brief : why->text, e);
	listing_free(l);
	return rc;
}

/* The header names a further page. */
static int
next_page(struct http_request *q, bool *more, struct err *e)
{
	struct http_listing *l = q->listing;
	struct buf ref = BUF_INIT, b = BUF_INIT;
	struct http_url u;
	int rc = 0;

	*more = q->answer.link.len && http_link_next(q->answer.link.p, q->answer.link.len, &ref);
	if (!*more)
		goto out;
	if (!run_int(q->c->run, SF_HTTP_NEXT_LINK)) {
		rc = err_set(e, ERR_TRUNCATED, "the page has a next one (Link: rel=next), and next_link is false");
		goto out;
	}
	if (http_url_resolve(&q->url, ref.p, ref.len, &u) != HTTP_REF_OK) {
		rc = err_set(e, ERR_PROTOCOL, "the link to the next page is no address");
		goto out;
	}
	http_url_text(&u, true, &b);
	if (!http_url_same_origin(&u, &q->url))
		rc = err_set(e, ERR_POLICY, "the link to the next page leads to another origin");
	else if (http_names_add(&l->visited, b.p, b.len))
		rc = err_set(e, ERR_LISTING_LOOP, "the pages are a ring: one that was read is named as the next");
	else if (l->pages >= (uint64_t)run_int(q->c->run, SF_HTTP_MAX_PAGES))
		rc = err_set(e, ERR_LIMIT, "the directory has more than %lld pages (max_pages)",
		    (long long)run_int(q->c->run, SF_HTTP_MAX_PAGES));
	else
		rc = page_send(l, &u, e);
	http_url_release(&u);
out:
	buf_release(&ref);
	buf_release(&b);
	return rc;
}

static int
page_whole(struct http_request *q, struct err *e)
{
	struct http_listing *l = q->listing;
	const struct http_answer *a = &q->answer;
	bool framed = a->framed && !a->compressed;
	int rc;

	if (!q->parser) {
		/* No byte came: an empty page is no index, but an empty manifest is one. */
		if (!is_manifest(q->c) || !framed)
			return err_set(e, ERR_PROTOCOL, "the page is empty");
		return set_page(q, e) || choose(q, 0, e) ? -1 : 0;
	}
	rc = l->format->finish(q->parser, framed, e);
	if (rc)
		return rc;
	l->proved = l->proved || q->parser->heading;
	if (l->format == &index_html && !l->proved && q->c->wanted != HTTP_FORMAT_LINKS)
		return err_set(e, ERR_PERMANENT, "the page is no index of a directory (it has no such heading, no link to the parent, "
		    "no files); index_format: links takes pages of any kind");
	return 0;
}

static int
page_done(struct http_request *q, struct err *e)
{
	struct http_listing *l = q->listing;
	struct err why = ERR_INIT;
	bool more = false;
	int rc;

	if (q->rc)
		return page_failed(q, &q->why, e);
	if (is_busy(q->answer.status) && !tree_dir_begun(l->dir)) {
		if (slow_down(q, l->dir->tries, e))
			return -1;
		l->dir->tries++;
		tree_dir_again(q->c->tree, l->dir);
		listing_free(l);
		return RUN_GO_ON;
	}
	if (q->answer.status != q->expected) {
		http_request_refused(q, &why);
		return page_failed(q, &why, e);
	}
	rc = page_whole(q, &why);
	if (!rc)
		rc = next_page(q, &more, &why);
	if (rc == RUN_STOP)
		return rc;
	if (rc)
		return page_failed(q, &why, e);
	l->read = !more;
	return listing_done(l, e);
}

static int
page_send(struct http_listing *l, const struct http_url *u, struct err *e)
{
	struct http_request *q = http_request_new(l->c, HTTP_PAGE, u);

	q->listing = l;
	q->body = on_body;
	q->ready = page_ready;
	q->done = refill;
	q->expected = l->c->wanted == HTTP_FORMAT_WEBDAV ? 207 : (unsigned)run_int(l->c->run, SF_HTTP_EXPECT_STATUS);
	l->pages++;
	return http_request_send(q, e);
}

/* The first page of a directory: the job's own address, or the directory's path with '/' at its end. */
static int
list_dir(struct conn *c, struct tree_dir *d, struct err *e)
{
	struct http_listing *l = listing_new(c, d);
	struct http_url u;
	struct buf b = BUF_INIT;
	int rc;

	http_url_copy(&u, &c->origin);
	if (d->depth) {
		escape_url_path(&b, d->path, d->path_n);
		buf_putc(&b, '/');
		free(u.path);
		u.path = buf_take(&b);
	}
	http_url_text(&u, true, &b);
	http_names_add(&l->visited, b.p, b.len);
	rc = page_send(l, &u, e);
	http_url_release(&u);
	buf_release(&b);
	return rc;
}

/* ---- heads ------------------------------------------------------------------------------------------------------------------------ */

static void
resume_pages(struct conn *c)
{
	if (c->queued > QUEUE_LOW && c->heads)
		return;
	for (struct http_request *q = c->requests; q; q = q->next)
		http_request_resume(q);
}

static void
answer_attrs(struct http_request *q, struct entry *en)
{
	const struct http_answer *a = &q->answer;
	struct buf *b = &q->c->text;

	entry_attr_int(en, SA_HTTP_STATUS, a->status);
	if (a->length >= 0)
		entry_attr_int(en, SA_HTTP_CONTENT_LENGTH, a->length);
	etag_attrs(en, a->etag);
	attr_text(en, SA_HTTP_LAST_MODIFIED, a->modified);
	attr_text(en, SA_HTTP_CONTENT_TYPE, a->type);
	attr_text(en, SA_HTTP_CONTENT_ENCODING, a->encoding);
	attr_text(en, SA_HTTP_CONTENT_DISPOSITION, a->disposition);
	attr_text(en, SA_HTTP_ACCEPT_RANGES, a->ranges);
	attr_text(en, SA_HTTP_CACHE_CONTROL, a->cache);
	attr_text(en, SA_HTTP_SERVER, a->server);
	if (q->redirects) {
		buf_clear(b);
		http_url_text(&q->url, false, b);
		entry_attr_str(en, SA_HTTP_FINAL_URL, b->p, b->len);
	}
}

/* By the head where it tells, else by the index. */
static int
report_head(struct http_request *q, struct http_head *h, struct err *e)
{
	const struct http_answer *a = &q->answer;
	struct http_listing *l = h->listing;
	bool told = a->status / 100 == 2;
	struct entry en;

	entry_init(&en, h->name, h->n, ENTRY_FILE);
	file_url(l, h->name, h->n);
	common_attrs(l, &en);
	if (told)
		answer_attrs(q, &en);
	if (told && a->length >= 0 && !a->compressed)
		size_attrs(&en, a->length, false);
	else if (!told || !a->compressed)
		size_attrs(&en, h->size, h->approximate);
	if (told && a->modified_ns != TIME_UNKNOWN)
		time_attrs(&en, a->modified_ns, MTIME_S, "header");
	else
		time_attrs(&en, h->mtime_ns, h->precision, "index");
	return tree_report(q->c->tree, l->dir, &en, e);
}

/* A link without '/' at its end led to a directory. */
static bool
became_dir(const struct http_request *q)
{
	const struct http_head *h = q->head;
	size_t n = strlen(q->url.path);

	return q->redirects && !q->foreign && n && q->url.path[n - 1] == '/' && h->listing->dir && !is_flat(q->c);
}

static int
head_answered(struct http_request *q, struct http_head *h, struct err *e)
{
	struct http_listing *l = h->listing;
	unsigned status = q->answer.status;
	struct entry en;

	if (became_dir(q)) {
		entry_init(&en, h->name, h->n, ENTRY_DIR);
		run_skipped(q->c->run);
		return tree_ask(q->c->tree, l->dir, &en, e) == TREE_FAILED ? -1 : 0;
	}
	/* HEAD itself is what the server does not do: the index's word stands. */
	if (status / 100 == 2 || status == 405 || status == 501)
		return report_head(q, h, e);
	switch (status == 500 ? ERR_PERMANENT : http_status_class(status)) {
	case ERR_NOT_FOUND:
		run_skipped(q->c->run);
		return 0;
	case ERR_AUTH:
	case ERR_PERMANENT: {
		char why[64];

		snprintf(why, sizeof(why), "HEAD: %u %s", status, http_status_words(status));
		return unreadable(l, h->name, h->n, why, e);
	}
	default:
		return http_request_refused(q, e);
	}
}

static void
push_front(struct conn *c, struct http_head *h)
{
	h->next = c->first;
	c->first = h;
	if (!h->next)
		c->last = &h->next;
	c->queued++;
	c->queued_bytes += sizeof(*h) + h->n;
}

static int
head_done(struct http_request *q, struct err *e)
{
	struct conn *c = q->c;
	struct http_head *h = q->head;
	struct http_listing *l = h->listing;
	int rc;

	q->head = NULL;
	if (q->rc) {
		free(h);
		*e = q->why;
		return -1;
	}
	if (is_busy(q->answer.status) || (q->answer.status == 500 && h->tries < TRIES_500)) {
		rc = slow_down(q, h->tries, e);
		if (!rc) {
			h->tries++;
			push_front(c, h);
			resume_pages(c);
			return RUN_GO_ON;
		}
	} else {
		q->head = h;
		rc = head_answered(q, h, e);
		q->head = NULL;
	}
	free(h);
	l->pending--;
	if (rc)
		return rc;
	rc = listing_done(l, e);
	if (!rc)
		resume_pages(c);
	return rc;
}

static int
start_head(struct conn *c, struct err *e)
{
	struct http_head *h = c->first;
	struct http_request *q;
	struct http_url u;

	c->first = h->next;
	if (!c->first)
		c->last = &c->first;
	c->queued--;
	c->queued_bytes -= sizeof(*h) + h->n;
	u = c->origin;
	u.query = NULL;
	buf_clear(&c->text);
	escape_url_path(&c->text, h->listing->dir->path, h->listing->dir->path_n);
	if (c->text.len && c->text.p[c->text.len - 1] != '/')
		buf_putc(&c->text, '/');
	escape_url_path(&c->text, h->name, h->n);
	buf_str(&c->text);
	u.path = c->text.p;
	q = http_request_new(c, HTTP_HEAD, &u);
	q->head = h;
	q->done = refill;
	return http_request_send(q, e);
}

/* ---- what url names -------------------------------------------------------------------------------------------------------------------- */

static int
probe_done(struct http_request *q, struct err *e)
{
	const struct http_answer *a = &q->answer;
	size_t n = strlen(q->url.path);

	if (q->rc) {
		*e = q->why;
		return -1;
	}
	if (is_busy(a->status))
		return slow_down(q, TRIES, e);
	/* Whatever else it says, the page itself will say better. */
	if (a->status / 100 != 2)
		return RUN_GO_ON;
	if (q->url.path[n - 1] == '/') {
		if (!q->foreign) {
			free(q->c->origin.path);
			q->c->origin.path = xstrdup(q->url.path);
		}
		return RUN_GO_ON;
	}
	if (q->c->wanted == HTTP_FORMAT_WEBDAV || (q->c->wanted == HTTP_FORMAT_AUTO && !by_type(a)))
		q->c->is_file = true;
	return RUN_GO_ON;
}

/* The one file that url names, by the head that was just asked for. */
static int
report_file(struct http_request *q, struct err *e)
{
	struct conn *c = q->c;
	struct buf path = BUF_INIT;
	struct http_listing *l;
	struct http_head *h;
	struct entry en;
	enum tree_want want;
	size_t cut;
	int rc = -1;

	http_path_decode(c->origin.path, strlen(c->origin.path), &path);
	cut = (size_t)((char *)memrchr(path.p, '/', path.len) - path.p);
	c->tree = tree_new(c->run, path.p, cut ? cut : 1, e);
	if (!c->tree)
		goto out;
	l = listing_new(c, tree_next(c->tree));
	h = xcalloc(1, sizeof(*h) + path.len);
	h->listing = l;
	h->size = -1;
	h->mtime_ns = TIME_UNKNOWN;
	h->n = path.len - cut - 1;
	memcpy(h->name, path.p + cut + 1, h->n);
	entry_init(&en, h->name, h->n, ENTRY_FILE);
	want = tree_ask(c->tree, l->dir, &en, e);
	rc = want == TREE_FAILED ? -1 : want == TREE_YES ? report_head(q, h, e) : 0;
	free(h);
	l->read = true;
	if (rc >= 0)
		rc = listing_done(l, e) ? -1 : rc;
out:
	buf_release(&path);
	return rc;
}

static int
probe_ended(struct http_request *q, struct err *e)
{
	int rc = probe_done(q, e);

	return !rc && q->c->is_file ? report_file(q, e) : rc;
}

/* url without '/' at its end: a file, or a directory that the server redirects to? */
static int
probe(struct conn *c, struct err *e)
{
	size_t n = strlen(c->origin.path);
	struct http_request *q;

	c->is_file = false;
	if (c->origin.path[n - 1] == '/' || is_flat(c))
		return 0;
	q = http_request_new(c, HTTP_PROBE, &c->origin);
	q->done = probe_ended;
	if (http_request_send(q, e))
		return -1;
	return curl_session_run(c->session, e);
}

/* ---- the listing --------------------------------------------------------------------------------------------------------------------------- */

static int
fill(struct conn *c, struct err *e)
{
	struct tree_dir *d;

	while (active(c) < c->limit && !tree_stopped(c->tree) && run_clock() >= c->resume_ns) {
		int rc;

		if (c->first && c->heads < c->head_most)
			rc = start_head(c, e);
		else if (c->queued < QUEUE_LOW && (d = tree_next(c->tree)))
			rc = list_dir(c, d, e);
		else
			return 0;
		if (rc)
			return rc;
	}
	return 0;
}

/* The hook of every request's end: what comes next is started at once. */
static int
refill(struct http_request *q, struct err *e)
{
	int rc = q->what == HTTP_PAGE ? page_done(q, e) : head_done(q, e);

	return rc ? rc : fill(q->c, e);
}

static int
list_tree(struct conn *c, struct err *e)
{
	struct buf root = BUF_INIT;
	int rc = -1;

	http_path_decode(c->origin.path, strlen(c->origin.path), &root);
	if (is_flat(c))
		while (root.len && root.p[root.len - 1] != '/')
			root.len--;
	while (root.len > 1 && root.p[root.len - 1] == '/')
		root.len--;
	c->tree = tree_new(c->run, root.p, root.len, e);
	buf_release(&root);
	if (!c->tree)
		return -1;
	if (is_flat(c))
		tree_keys(c->tree);
	for (;;) {
		rc = fill(c, e);
		if (rc)
			return rc;
		if (!active(c) && run_clock() >= c->resume_ns)
			return tree_stopped(c->tree) || !c->first ? 0 : err_set(e, ERR_INTERNAL, "HEADs are left over");
		rc = active(c) ? curl_session_run(c->session, e) : run_wait(c->run, c->resume_ns, e);
		if (rc)
			return rc;
	}
}

/* Everything of the task; what is kept is the session. */
static void
forget(struct conn *c)
{
	while (c->requests) {
		free(c->requests->head);
		http_request_free(c->requests);
	}
	while (c->first) {
		struct http_head *h = c->first;

		c->first = h->next;
		free(h);
	}
	c->last = &c->first;
	c->queued = c->queued_bytes = 0;
	while (c->listings) {
		struct err unused = ERR_INIT;

		/* closes the directory, whatever was seen of it */
		tree_dir_refused(c->tree, c->listings->dir, ERR_TRANSIENT, "given up", &unused);
		listing_free(c->listings);
	}
	tree_free(c->tree);
	c->tree = NULL;
	http_url_release(&c->origin);
}

static int
read_origin(struct conn *c, struct run *r, struct err *e)
{
	char *s = xasprintf("%s%s", run_str(r, SF_HTTP_URL), run_str(r, SF_COMMON_PATH));
	int rc;

	http_url_release(&c->origin);
	rc = http_url_parse(s, strlen(s), &c->origin, e);
	free(s);
	return rc;
}

static void
read_task(struct conn *c, struct run *r)
{
	bool token = *run_str(r, SF_HTTP_AUTH_TOKEN), user = *run_str(r, SF_HTTP_AUTH_USERNAME);
	int64_t most = run_int(r, SF_NETWORK_MAX_CONNECTIONS), heads = run_int(r, SF_HTTP_HEAD_CONCURRENCY);

	c->run = r;
	c->wanted = (int)run_int(r, SF_HTTP_INDEX_FORMAT);
	c->auth = (int)run_int(r, SF_HTTP_AUTH_TYPE);
	if (c->auth == HTTP_AUTH_AUTO)
		c->auth = user ? HTTP_AUTH_BASIC : token ? HTTP_AUTH_BEARER : HTTP_AUTH_NONE;
	c->most = c->limit = most ? (unsigned)most : CONNECTIONS;
	c->head_most = heads && heads < c->most ? (unsigned)heads : c->most;
	c->resume_ns = 0;
	c->last = &c->first;
}

/* A secret set's headers have not been seen by the job's check. */
static int
check_headers(const struct run *r, struct err *e)
{
	const struct strlist *l = &r->task->source.v[SF_HTTP_HEADERS].l;

	for (size_t i = 0; i < l->n; i++)
		if (http_header_fault(l->v[i]))
			return err_set(e, ERR_PERMANENT, "headers %s", http_header_fault(l->v[i]));
	return 0;
}

static struct conn *
http_open(struct run *r, struct err *e)
{
	struct conn *c = xcalloc(1, sizeof(*c));

	c->fresh = true;
	read_task(c, r);
	if (!read_origin(c, r, e))
		c->session = curl_session_new(r, "http,https", c->origin.host, c->origin.port, c->most, e);
	if (!c->session) {
		http_url_release(&c->origin);
		free(c);
		return NULL;
	}
	return c;
}

static int
http_list(struct conn *c, struct run *r, struct err *e)
{
	int rc;

	read_task(c, r);
	rc = read_origin(c, r, e);
	if (!rc && !c->fresh)
		rc = curl_session_use(c->session, r, e);
	c->fresh = false;
	if (!rc)
		rc = check_headers(r, e);
	if (!rc)
		rc = probe(c, e);
	if (!rc && !c->is_file)
		rc = list_tree(c, e);
	c->broken = rc < 0;
	forget(c);
	return rc == RUN_STOP ? 0 : rc;
}

static bool
http_keepable(struct conn *c)
{
	return !c->broken && !curl_session_active(c->session);
}

static unsigned
http_connections(const struct conn *c)
{
	return curl_session_connections(c->session);
}

static void
http_close(struct conn *c)
{
	forget(c);
	curl_session_free(c->session);
	buf_release(&c->name);
	buf_release(&c->text);
	buf_release(&c->url);
	free(c);
}

const struct source source_http = {
	.name = "http",
	.open = http_open,
	.keepable = http_keepable,
	.list = http_list,
	.close = http_close,
	.connections = http_connections,
};
