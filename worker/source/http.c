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

#define QUEUE_HIGH 2048                 /* HEADs that wait: pages pause above */
#define QUEUE_LOW 512
#define TRIES 6                         /* of a page or HEAD that the server refuses for now */
#define TRIES_500 2                     /* of a HEAD that ends in 500: a broken link, for some servers */
#define PATIENCE_MS 2000                /* a Retry-After up to this is waited for here */

static const struct index_format *const formats[] = {
	[HTTP_FORMAT_HTML] = &index_html, [HTTP_FORMAT_JSON] = &index_json, [HTTP_FORMAT_XML] = &index_xml,
	[HTTP_FORMAT_LINKS] = &index_html, [HTTP_FORMAT_TEXT] = &index_text, [HTTP_FORMAT_JSONL] = &index_jsonl,
	[HTTP_FORMAT_WEBDAV] = &index_webdav,
};

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
	http_url_release(&l->place);
	buf_release(&l->path);
	buf_release(&l->url);
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
	struct index_sink sink = { http_on_entry, http_on_base, q };
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
	http_moved_page(l, q);
	buf_clear(&l->url);
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

static int page_send(struct http_listing *, const struct http_url *, bool post, struct err *);
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
		rc = page_send(l, &u, false, e);
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
		if (!http_is_manifest(q->c) || !framed)
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
page_send(struct http_listing *l, const struct http_url *u, bool post, struct err *e)
{
	struct http_request *q = http_request_new(l->c, HTTP_PAGE, u);

	q->listing = l;
	q->post = post;
	q->body = on_body;
	q->ready = page_ready;
	q->done = refill;
	q->expected = l->c->wanted == HTTP_FORMAT_WEBDAV ? 207 : (unsigned)run_int(l->c->run, SF_HTTP_EXPECT_STATUS);
	l->pages++;
	return http_moved_send(q, e);
}

/* The first page of a directory: the job's own address, or the directory's path with '/' at its end. */
static int
list_dir(struct conn *c, struct tree_dir *d, struct err *e)
{
	struct http_listing *l = listing_new(c, d);
	bool post = run_int(c->run, SF_HTTP_METHOD) != 0;
	struct http_url u;
	struct buf b = BUF_INIT;
	int rc;

	if (!d->depth)
		http_url_copy(&u, &c->origin);
	else if (http_moved_dir(c, d, &u, &post))
		http_moved_under(l, &u);
	http_url_text(&u, true, &b);
	http_names_add(&l->visited, b.p, b.len);
	rc = page_send(l, &u, post, e);
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

/* A link without '/' at its end led to a directory. */
static bool
became_dir(const struct http_request *q)
{
	const struct http_head *h = q->head;
	size_t n = strlen(q->url.path);

	return q->redirects && !q->foreign && !h->query_n && n && q->url.path[n - 1] == '/' && h->listing->dir && !http_is_flat(q->c);
}

static int
head_answered(struct http_request *q, struct http_head *h, struct err *e)
{
	struct http_listing *l = h->listing;
	unsigned status = q->answer.status;
	enum tree_want want;
	struct entry en;

	q->c->answered++;
	if (became_dir(q) || (h->open && status / 100 == 2 && by_type(&q->answer) == &index_html)) {
		/* One that was asked about as a file was counted as one. */
		if (!h->open)
			run_skipped(q->c->run);
		return http_report_dir(l, h, e);
	}
	if (h->open) {
		entry_init(&en, h->name, h->n, ENTRY_FILE);
		want = tree_ask(q->c->tree, l->dir, &en, e);
		if (want != TREE_YES)
			return want == TREE_FAILED ? -1 : 0;
	}
	/* HEAD itself is what the server does not do: the index's word stands. */
	if (status / 100 == 2 || status == 405 || status == 501)
		return http_report_head(q, h, e);
	switch (status == 500 ? ERR_PERMANENT : http_status_class(status)) {
	case ERR_NOT_FOUND:
		q->c->gone++;
		run_skipped(q->c->run);
		return 0;
	case ERR_AUTH:
	case ERR_PERMANENT: {
		char why[64];

		snprintf(why, sizeof(why), "HEAD: %u %s", status, http_status_words(status));
		return http_unreadable(l, h->name, h->n, why, e);
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
	c->queued_bytes += http_head_cost(h);
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
	char *query = NULL;

	c->first = h->next;
	if (!c->first)
		c->last = &c->first;
	c->queued--;
	c->queued_bytes -= http_head_cost(h);
	u = h->listing->moved ? h->listing->place : c->origin;
	if (h->query_n)
		query = xmemdup0(h->name + h->n, h->query_n);
	u.query = query;
	buf_clear(&c->text);
	http_moved_name(h->listing, h->name, h->path_n, &c->text);
	buf_str(&c->text);
	u.path = c->text.p;
	q = http_request_new(c, HTTP_HEAD, &u);
	free(query);
	q->head = h;
	q->done = refill;
	return http_moved_send(q, e);
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
	q->c->beside = q->c->wanted == HTTP_FORMAT_HTML || (q->c->wanted == HTTP_FORMAT_AUTO && by_type(a) == &index_html);
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
	tree_one_file(c->tree);
	l = listing_new(c, tree_next(c->tree));
	h = xcalloc(1, sizeof(*h) + path.len);
	h->listing = l;
	h->size = -1;
	h->mtime_ns = TIME_UNKNOWN;
	h->n = path.len - cut - 1;
	h->path_n = h->n;
	memcpy(h->name, path.p + cut + 1, h->n);
	entry_init(&en, h->name, h->n, ENTRY_FILE);
	want = tree_ask(c->tree, l->dir, &en, e);
	rc = want == TREE_FAILED ? -1 : want == TREE_YES ? http_report_head(q, h, e) : 0;
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

	c->is_file = c->beside = false;
	if (c->origin.path[n - 1] == '/' || http_is_flat(c))
		return 0;
	c->beside = c->wanted == HTTP_FORMAT_HTML;
	/* What a POST gets is an index, and a HEAD would tell nothing of it. */
	if (run_int(c->run, SF_HTTP_METHOD)) {
		c->beside = true;
		return 0;
	}
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

	while (active(c) < c->limit && !c->renewing && !tree_stopped(c->tree) && run_clock() >= c->resume_ns) {
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

/* One that the index showed a moment ago may have vanished. That all have is more likely a server that does not take HEAD. */
static int
all_gone(const struct conn *c, struct err *e)
{
	if (c->gone < 2 || c->gone < c->answered)
		return 0;
	return err_set(e, ERR_TRANSIENT, "the server answered 404 to the HEAD of each of %llu files that its index shows: where it does not take HEAD, "
	    "head_mode: none is for it", (unsigned long long)c->gone);
}

static int
list_tree(struct conn *c, struct err *e)
{
	struct buf root = BUF_INIT;
	int rc = -1;

	http_path_decode(c->origin.path, strlen(c->origin.path), &root);
	if (http_is_flat(c) || (c->beside && c->origin.path[strlen(c->origin.path) - 1] != '/'))
		while (root.len && root.p[root.len - 1] != '/')
			root.len--;
	while (root.len > 1 && root.p[root.len - 1] == '/')
		root.len--;
	c->tree = tree_new(c->run, root.p, root.len, e);
	buf_release(&root);
	if (!c->tree)
		return -1;
	if (http_is_flat(c))
		tree_keys(c->tree);
	for (;;) {
		rc = fill(c, e);
		if (rc)
			return rc;
		if (!active(c) && run_clock() >= c->resume_ns)
			return tree_stopped(c->tree) ? 0 : c->first ? err_set(e, ERR_INTERNAL, "HEADs are left over") : all_gone(c, e);
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
	http_moved_forget(c);
	http_url_release(&c->origin);
	/* No handle has it any more: each request gave its own back. */
	if (c->jar && curl_share_cleanup(c->jar))
		BUG("a cookie jar is in use behind its task");
	c->jar = NULL;
	c->cookie_bytes = 0;
}

static void
open_jar(struct conn *c)
{
	if (!run_int(c->run, SF_HTTP_KEEP_COOKIES))
		return;
	c->jar = curl_share_init();
	if (!c->jar || curl_share_setopt(c->jar, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE))
		BUG("libcurl gave no cookie jar");
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
	int64_t heads = run_int(r, SF_HTTP_HEAD_CONCURRENCY);

	c->run = r;
	c->wanted = (int)run_int(r, SF_HTTP_INDEX_FORMAT);
	c->auth = (int)run_int(r, SF_HTTP_AUTH_TYPE);
	if (c->auth == HTTP_AUTH_AUTO)
		c->auth = user ? HTTP_AUTH_BASIC : token ? HTTP_AUTH_BEARER : *run_str(r, SF_HTTP_AUTH_TOKEN_URL) ? HTTP_AUTH_OAUTH2 : HTTP_AUTH_NONE;
	c->most = c->limit = r->task->connections;
	c->head_most = heads && heads < c->most ? (unsigned)heads : c->most;
	c->resume_ns = 0;
	c->entries = c->answered = c->gone = 0;
	c->last = &c->first;
}

/* What a secret set was to bring. */
static int
check_auth(const struct conn *c, struct err *e)
{
	static const enum source_field needed[] = { SF_HTTP_AUTH_REGION, SF_HTTP_AUTH_ACCESS_KEY_ID, SF_HTTP_AUTH_SECRET_ACCESS_KEY };

	for (size_t i = 0; c->auth == HTTP_AUTH_SIGV4 && i < ARRAY_LEN(needed); i++)
		if (!*run_str(c->run, needed[i]))
			return err_set(e, ERR_AUTH, "auth.type aws_sigv4 needs %s, and neither the job nor its secret set has it", field_rows[needed[i]].name);
	return 0;
}

/* A secret set's headers have not been seen by the job's check. */
static int
check_headers(const struct run *r, struct err *e)
{
	const struct strlist *l = &r->task->source.v[SF_HTTP_HEADERS].l;

	for (size_t i = 0; i < l->n; i++)
		if (http_header_fault(l->v[i]))
			return err_set(e, ERR_PERMANENT, "headers %s", http_header_fault(l->v[i]));
	if (http_cookies_fault(run_str(r, SF_HTTP_COOKIES)))
		return err_set(e, ERR_PERMANENT, "cookies %s", http_cookies_fault(run_str(r, SF_HTTP_COOKIES)));
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
		rc = check_auth(c, e);
	if (!rc)
		open_jar(c);
	if (!rc)
		rc = http_auth_begin(c, e);
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
	http_auth_forget(c);
	curl_session_free(c->session);
	buf_release(&c->name);
	buf_release(&c->text);
	buf_release(&c->url);
	buf_release(&c->query);
	buf_release(&c->shown);
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
