/*
 * http_entry.c - what an index shows becomes entries of the tree: where a reference leads, whether its file needs a HEAD,
 * what the event's source{} says.
 *
 * The readers' sink; http.c calls the rest when a HEAD has come back. Asks the server nothing; a name that no file can
 * have is named as unreadable, never changed to one that could.
 */
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/units.h"
#include "worker/source/http.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define QUEUE_BYTES (12 << 20)          /* where no page may pause: the most they may take */

bool
http_is_manifest(const struct conn *c)
{
	return c->wanted == HTTP_FORMAT_TEXT || c->wanted == HTTP_FORMAT_JSONL;
}

bool
http_is_flat(const struct conn *c)
{
	return http_is_manifest(c) || c->wanted == HTTP_FORMAT_LINKS;
}

/* ---- entries ---------------------------------------------------------------------------------------------------------------- */

/* The name of a reference below the page, in c->name. */
enum place { BELOW, SELF, ABOVE, ELSEWHERE, WRONG, LONG, NO_ADDRESS };

static const char hidden_code[] = "the link holds %2F or %00, which no name can hold";
static const char no_address[] = "the link is no address";
static const char not_a_member[] = "the server names it as a member, but not below the directory that was asked for";
static const char unencoded[] = "a '#' in an address of the multistatus: the server does not encode names";
static const char long_query[] = "the link's query is too long";
static const char secrets_differ[] = "the link differs from another one only in parameters that are named like secrets, which events do not show";

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

/* Is the entry at hand the page itself? */
static bool
is_page(struct http_listing *l)
{
	struct buf *b = &l->c->text;

	buf_clear(b);
	return !http_path_decode(l->page.path, strlen(l->page.path), b) && b->len == l->path.len + l->c->name.len &&
	    !memcmp(b->p + l->path.len, l->c->name.p, l->c->name.len);
}

/*
 * A link below with a query. "?C=M;O=A" and "index.php?page=2" are the page itself, sorted or cut in another way; a directory
 * with a query is one already without. What is left is a file: its name is the path and what may be shown of the query.
 */
static enum place
with_query(struct http_listing *l, const char *query)
{
	struct conn *c = l->c;

	if (!run_int(c->run, SF_HTTP_QUERY_LINKS) || !c->name.len || c->name.p[c->name.len - 1] == '/' || is_page(l))
		return ELSEWHERE;
	c->path_n = c->name.len;
	http_query_clean(&c->query, query, strlen(query));
	c->hidden = http_query_shown(&c->shown, c->query.p, c->query.len);
	if (c->shown.len > RECORD_ATTR_BYTES)
		return LONG;
	http_query_name(&c->name, c->shown.p, c->shown.len);
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
		return found == HTTP_REF_OTHER ? ELSEWHERE : NO_ADDRESS;
	/* A multistatus names members of the collection alone. Behind a proxy servers give them an origin that is not ours to ask. */
	at = l->format != &index_webdav && !http_url_same_origin(&l->page, &u) ? ELSEWHERE : below(l, u.path);
	if (u.query && at == BELOW)
		at = with_query(l, u.query);
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

/* The address of a file below the directory, in c->url. n: of its name's path; query: NULL, or what of it is shown. */
static void
file_url(struct http_listing *l, const char *name, size_t n, const struct buf *query, bool dir)
{
	struct buf *b = &l->c->url;

	/* What all of the directory begin with. */
	if (!l->url.len) {
		http_url_origin(l->moved ? &l->place : &l->c->origin, false, &l->url);
		http_moved_name(l, "", 0, &l->url);
	}
	buf_clear(b);
	buf_add(b, l->url.p, l->url.len);
	escape_url_path(b, name, n);
	if (dir)
		buf_putc(b, '/');
	if (query && query->len) {
		buf_putc(b, '?');
		buf_add(b, query->p, query->len);
	}
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
common_attrs(struct http_listing *l, struct entry *en, const struct buf *query)
{
	entry_attr_str(en, SA_HTTP_URL, l->c->url.p, l->c->url.len);
	if (query)
		entry_attr_str(en, SA_HTTP_QUERY, query->p, query->len);
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
	const struct conn *c = l->c;

	file_url(l, en->name, c->query.len ? c->path_n : en->name_n, &c->shown, en->type == ENTRY_DIR);
	common_attrs(l, en, &c->shown);
	size_attrs(en, ix->size, ix->approximate);
	time_attrs(en, ix->mtime_ns, ix->precision, "index");
	etag_attrs(en, ix->etag);
	attr_text(en, SA_HTTP_CONTENT_TYPE, ix->content_type);
	attr_text(en, SA_HTTP_SERVER, l->server);
	return tree_report(l->c->tree, l->dir, en, e);
}

size_t
http_head_cost(const struct http_head *h)
{
	return sizeof(*h) + h->n + h->query_n;
}

static int
queue_head(struct http_listing *l, const struct entry *en, const struct index_entry *ix, bool open, struct err *e)
{
	struct conn *c = l->c;
	struct http_head *h = xcalloc(1, sizeof(*h) + en->name_n + c->query.len + 1);

	h->listing = l;
	h->open = open;
	h->size = ix->size;
	h->approximate = ix->approximate;
	h->mtime_ns = ix->mtime_ns;
	h->precision = ix->precision;
	h->n = en->name_n;
	h->path_n = c->query.len ? c->path_n : h->n;
	h->query_n = c->query.len;
	memcpy(h->name, en->name, en->name_n);
	if (h->query_n)
		memcpy(h->name + h->n, c->query.p, h->query_n);
	*c->last = h;
	c->last = &h->next;
	c->queued++;
	c->queued_bytes += http_head_cost(h);
	l->pending++;
	if (c->queued_bytes > QUEUE_BYTES)
		return err_set(e, ERR_LIMIT, "too many files wait for their HEAD while one connection reads the index: "
		    "raise max_connections, or use head_mode: none");
	return 0;
}

int
http_unreadable(struct http_listing *l, const char *name, size_t n, const char *why, struct err *e)
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

/* no_slash: a link that says of itself neither that it is a directory, nor how large a file. */
static bool
may_be_dir(const struct http_listing *l, const struct index_entry *ix)
{
	return l->format == &index_html && !http_is_flat(l->c) && !l->c->query.len && ix->kind == INDEX_UNSAID && ix->size < 0 && run_int(l->c->run, SF_HTTP_NO_SLASH);
}

/* Not shown before. *twin: its name was, but it is another link, as far as can be told. */
static bool
is_new(struct http_listing *l, const char *name, size_t n, bool *twin)
{
	struct conn *c = l->c;
	bool known = http_names_add(&l->names, name, n);

	*twin = false;
	if (c->hidden != HTTP_QUERY_SECRET)
		return !known;
	buf_clear(&c->text);
	buf_add(&c->text, name, n);
	buf_putc(&c->text, '\0');
	buf_add(&c->text, c->query.p, c->query.len);
	*twin = !http_names_add(&l->names, c->text.p, c->text.len) && known;
	return !known;
}

static int
take(struct http_listing *l, const char *name, size_t n, const struct index_entry *ix, struct err *e)
{
	struct conn *c = l->c;
	int64_t max = run_int(c->run, SF_HTTP_MAX_ENTRIES);
	uint64_t most = max ? (uint64_t)max : UINT64_MAX;
	bool dir = ix->kind == INDEX_DIR && !c->query.len, twin;
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
		if (!http_is_flat(c))
			return ix->is_ref ? 0 : http_unreadable(l, name, n, "the name holds a '/'", e);
		if (flat_fault(name, n))
			return http_unreadable(l, name, n, flat_fault(name, n), e);
	}
	rc = prove(l, ix, e);
	if (rc)
		return rc;
	if (!is_new(l, name, n, &twin))
		return twin ? http_unreadable(l, name, n, secrets_differ, e) : 0;
	if (dir && http_is_flat(c))
		return run_turn(c->run, e);
	if (ix->status >= 300)
		return http_unreadable(l, name, n, "the server refuses its properties", e);
	if (c->entries++ >= most)
		return err_set(e, ERR_LIMIT, "the indexes show more than %llu entries (max_entries)", (unsigned long long)most);
	entry_init(&en, name, n, dir ? ENTRY_DIR : ix->kind == INDEX_OTHER ? ENTRY_OTHER : ENTRY_FILE);
	if (en.type == ENTRY_FILE && may_be_dir(l, ix))
		return queue_head(l, &en, ix, true, e);
	if (dir && http_moved_keep(l, e))
		return -1;
	switch (tree_ask(c->tree, l->dir, &en, e)) {
	case TREE_FAILED:
		return -1;
	case TREE_YES:
		return !dir && needs_head(c, ix->size, ix->approximate, ix->mtime_ns) ? queue_head(l, &en, ix, false, e) : report(l, &en, ix, e);
	default:
		return 0;
	}
}

/* A reference is named as it stands, below the directory only where it is relative. */
static int
unreadable_ref(struct http_listing *l, const char *ref, size_t n, const char *why, struct err *e)
{
	if (n && (*ref == '/' || memmem(ref, n, "://", 3))) {
		struct buf *b = &l->c->text;

		buf_clear(b);
		http_ref_shown(ref, n, b);
		return run_unreadable(l->c->run, buf_str(b), b->len, why, e);
	}
	return http_unreadable(l, ref, n, why, e);
}

/* What PROPFIND says of the collection itself. */
static int
on_self(const struct index_entry *ix, struct err *e)
{
	const char *words = http_status_words(ix->status);

	if (ix->status < 300)
		return 0;
	/* 507: the server has left out members, RFC 6578 section 3.6 */
	return err_set(e, ix->status == 507 ? ERR_TRUNCATED : http_status_class(ix->status), "the multistatus says %u%s%s of the directory itself",
	    ix->status, *words ? " " : "", words);
}

int
http_on_entry(void *arg, const struct index_entry *ix, struct err *e)
{
	struct http_request *q = arg;
	struct http_listing *l = q->listing;
	const char *query = ix->is_ref ? memchr(ix->name, '?', ix->n) : NULL;
	size_t shown_n = query ? (size_t)(query - ix->name) : ix->n;    /* it may be signed */

	l->proved = l->proved || q->parser->heading;
	buf_clear(&l->c->query);
	buf_clear(&l->c->shown);
	l->c->hidden = HTTP_QUERY_WHOLE;
	if (!ix->is_ref)
		return take(l, ix->name, ix->n, ix, e);
	if (l->format == &index_webdav && memchr(ix->name, '#', ix->n))
		return unreadable_ref(l, ix->name, shown_n, unencoded, e);
	switch (resolve(l, ix->name, ix->n)) {
	case SELF:
		return on_self(ix, e);
	case BELOW:
		return take(l, l->c->name.p, l->c->name.len, ix, e);
	case ABOVE:
		l->proved = true;
		return 0;
	case WRONG:
		return prove(l, ix, e) || unreadable_ref(l, ix->name, shown_n, hidden_code, e) ? -1 : 0;
	case NO_ADDRESS:
		return prove(l, ix, e) || unreadable_ref(l, ix->name, shown_n, no_address, e) ? -1 : 0;
	case LONG:
		return prove(l, ix, e) || unreadable_ref(l, ix->name, shown_n, long_query, e) ? -1 : 0;
	case ELSEWHERE:
		/* All members of a collection are meant, and all lines of a manifest. */
		if (l->format == &index_webdav)
			return unreadable_ref(l, ix->name, shown_n, not_a_member, e);
		return http_is_manifest(l->c) ? unreadable_ref(l, ix->name, shown_n, "it is not below the manifest's own folder", e) : 0;
	default:
		return 0;
	}
}

int
http_on_base(void *arg, const char *ref, size_t n, struct err *e)
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

/* The HEAD led to where a directory is: the index did not tell. */
int
http_report_dir(struct http_listing *l, const struct http_head *h, struct err *e)
{
	struct entry en;

	if (http_moved_keep(l, e))
		return RUN_FAILED;
	entry_init(&en, h->name, h->n, ENTRY_DIR);
	switch (tree_ask(l->c->tree, l->dir, &en, e)) {
	case TREE_FAILED:
		return RUN_FAILED;
	case TREE_YES:
		file_url(l, h->name, h->n, NULL, true);
		common_attrs(l, &en, NULL);
		time_attrs(&en, h->mtime_ns, h->precision, "index");
		return tree_report(l->c->tree, l->dir, &en, e);
	default:
		return RUN_GO_ON;
	}
}

/* By the head where it tells, else by the index. */
int
http_report_head(struct http_request *q, struct http_head *h, struct err *e)
{
	const struct http_answer *a = &q->answer;
	struct http_listing *l = h->listing;
	bool told = a->status / 100 == 2;
	struct buf shown = BUF_INIT;
	struct entry en;
	int rc;

	entry_init(&en, h->name, h->n, ENTRY_FILE);
	if (h->query_n)
		http_query_shown(&shown, h->name + h->n, h->query_n);
	file_url(l, h->name, h->path_n, &shown, false);
	common_attrs(l, &en, &shown);
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
	rc = tree_report(q->c->tree, l->dir, &en, e);
	buf_release(&shown);
	return rc;
}
