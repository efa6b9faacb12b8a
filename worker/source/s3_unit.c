/*
 * s3_unit.c - one prefix of a bucket on its way through its pages: asks, judges what came, goes on or asks again.
 *
 * s3_list.c makes units and starts them; all else happens when a request has ended. Only IsTruncated ends a unit. Where a
 * server's way to go on cannot be trusted, the next page begins behind the last key; what does not advance is a loop.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/s3_list.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define TRIES_MAX 4                 /* of one page, after the first */
#define RETRIES_MAX 64              /* of one listing */
#define DELAY_NS 200000000          /* before the first of them; doubles */
#define WAIT_MAX_MS 10000           /* what is to wait longer is for the whole task to repeat */
#define EMPTY_MAX 100               /* pages without an entry that say that more follow, one after the other */
#define PENDING_HIGH 1000           /* prefixes waiting: their finder pauses */
#define SPLIT_KEYS 10               /* a first page of fewer keys tells nothing of the folders */
#define SPLIT_SHARE 100             /* a page of n keys is worth splitting with at most n / this many directories */
/* Behind every key that begins with a prefix ending before it: U+10FFFF */
#define LAST_CHAR "\xf4\x8f\xbf\xbf"

/* ---- units ---- */

int
s3_compare(const void *a, size_t an, const void *b, size_t bn)
{
	size_t n = an < bn ? an : bn;
	int order = n ? memcmp(a, b, n) : 0;

	return order ? order : an < bn ? -1 : an > bn;
}

void
s3_set_buf(struct buf *b, const void *p, size_t n)
{
	buf_clear(b);
	buf_add(b, p, n);
}

bool
s3_ends_folder(const struct listing *l, const char *p, size_t n)
{
	return n >= l->delimiter_n && !memcmp(p + n - l->delimiter_n, l->delimiter, l->delimiter_n);
}

struct unit *
s3_unit_new(struct listing *l, struct tree_dir *dir, const char *prefix, size_t n)
{
	struct unit *u = xcalloc(1, sizeof(*u));

	u->l = l;
	u->dir = dir;
	u->q.conn = l->c;
	u->prefix = xmemdup0(prefix, n);
	u->prefix_n = n;
	u->next = l->units;
	l->units = u;
	l->n_units++;
	return u;
}

void
s3_unit_free(struct unit *u)
{
	struct listing *l = u->l;
	struct unit **at = &l->units;

	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	l->n_units--;
	l->n_active -= u->active;
	s3_request_release(&u->q);
	buf_release(&u->q.query);
	buf_release(&u->token);
	buf_release(&u->after);
	buf_release(&u->after_version);
	buf_release(&u->last_token);
	buf_release(&u->first);
	buf_release(&u->last);
	buf_release(&u->page_first);
	buf_release(&u->component);
	buf_release(&u->decided);
	free(u->prefix);
	free(u);
}

/* ---- asking for a page ---- */

static int page_ended(struct transfer *, CURLcode, struct err *);

static void
add(struct s3_pair *v, size_t *n, const char *name, const char *value, size_t len)
{
	v[(*n)++] = (struct s3_pair){ name, value, len };
}

/* How the next page is named. */
static void
continuation(const struct unit *u, struct s3_pair *v, size_t *n)
{
	const struct listing *l = u->l;

	if (u->from == FROM_TOKEN && !l->v1) {
		add(v, n, "continuation-token", u->token.p, u->token.len);
		return;
	}
	if (!u->after.len)
		return;
	if (l->versions) {
		add(v, n, "key-marker", u->after.p, u->after.len);
		if (u->after_version.len)
			add(v, n, "version-id-marker", u->after_version.p, u->after_version.len);
	} else {
		add(v, n, l->v1 ? "marker" : "start-after", u->after.p, u->after.len);
	}
}

int
s3_unit_ask(struct unit *u, struct err *e)
{
	struct listing *l = u->l;
	struct s3_pair v[10];
	char max_keys[24];
	size_t n = 0;

	add(v, &n, "encoding-type", "url", 3);
	if (l->versions)
		add(v, &n, "versions", "", 0);
	else if (!l->v1)
		add(v, &n, "list-type", "2", 1);
	if (!l->v1 && !l->versions && run_int(l->run, SF_S3_FETCH_OWNER))
		add(v, &n, "fetch-owner", "true", 4);
	if (u->delimited)
		add(v, &n, "delimiter", l->delimiter, l->delimiter_n);
	if (u->prefix_n)
		add(v, &n, "prefix", u->prefix, u->prefix_n);
	if (run_int(l->run, SF_S3_MAX_KEYS) != 1000) {
		snprintf(max_keys, sizeof(max_keys), "%lld", (long long)run_int(l->run, SF_S3_MAX_KEYS));
		add(v, &n, "max-keys", max_keys, strlen(max_keys));
	}
	continuation(u, v, &n);
	s3_request_release(&u->q);
	snprintf(u->region, sizeof(u->region), "%s", s3_where(l->c)->region);
	u->q.t.ended = page_ended;
	u->active = true;
	l->n_active++;
	return s3_request_start(&u->q, v, n, e);
}

/* The same page again, later. 0, or -1 with e as it stands: it has been tried enough. */
static int
again(struct unit *u, uint64_t wait_ms, struct err *e)
{
	struct listing *l = u->l;
	int64_t delay = (int64_t)DELAY_NS << u->tries;

	if (u->tries >= TRIES_MAX || l->retries >= RETRIES_MAX || wait_ms > WAIT_MAX_MS)
		return -1;
	if (delay < (int64_t)wait_ms * 1000000)
		delay = (int64_t)wait_ms * 1000000;
	u->tries++;
	l->retries++;
	u->not_before = run_clock() + delay;
	err_clear(e);
	return 0;
}

/* ---- errors of the server ---- */

static void
add_shown(struct buf *b, const struct buf *s, size_t max)
{
	escape_term(b, s->p, s->len < max ? s->len : max);
}

static int
server_error(struct unit *u, long status, enum err_class cls, struct err *e)
{
	const struct s3_page *p = &u->l->page;
	struct buf b = BUF_INIT;
	char what[700];

	s3_request_text(&u->q, what, sizeof(what));
	buf_printf(&b, "%s: status %ld", what, status);
	if (p->text[S3_CODE].len) {
		buf_puts(&b, ", ");
		add_shown(&b, &p->text[S3_CODE], 64);
	}
	if (p->text[S3_MESSAGE].len && !run_repeats_secret(u->l->run, p->text[S3_MESSAGE].p, p->text[S3_MESSAGE].len)) {
		buf_puts(&b, ": ");
		add_shown(&b, &p->text[S3_MESSAGE], 200);
	}
	if (p->text[S3_REQUEST_ID].len) {
		buf_puts(&b, " (request ");
		add_shown(&b, &p->text[S3_REQUEST_ID], 64);
		buf_putc(&b, ')');
	}
	if (p->text[S3_CODE].len == 20 && !memcmp(p->text[S3_CODE].p, "RequestTimeTooSkewed", 20))
		buf_puts(&b, "; set the clock of the poller's host");
	if (u->q.region[0] || p->text[S3_REGION].len) {
		buf_puts(&b, "; the bucket's region is ");
		if (p->text[S3_REGION].len)
			add_shown(&b, &p->text[S3_REGION], 64);
		else
			buf_puts(&b, u->q.region);
	}
	err_set(e, cls, "%s", buf_str(&b));
	buf_release(&b);
	return -1;
}

/* The server says which region is right, and that is another one: true, and it is taken. -1 in *rc where that failed. */
static bool
other_region(struct unit *u, int *rc, struct err *e)
{
	struct listing *l = u->l;
	char region[65];
	const struct buf *told = &l->page.text[S3_REGION];

	*rc = 0;
	snprintf(region, sizeof(region), "%.*s", told->len < 65 ? (int)told->len : 0, told->len ? told->p : "");
	if (!s3_region_ok(region))
		snprintf(region, sizeof(region), "%s", u->q.region);
	if (!s3_region_ok(region) || !strcmp(region, u->region))
		return false;
	/* Another unit was told before. */
	if (!strcmp(region, s3_where(l->c)->region))
		return true;
	if (l->region_tried)
		return false;
	l->region_tried = true;
	*rc = s3_set_region(l->c, region, e);
	return true;
}

static bool
code_is(const struct listing *l, const char *code)
{
	return l->page.text[S3_CODE].len == strlen(code) && !memcmp(l->page.text[S3_CODE].p, code, strlen(code));
}

/* This prefix alone is refused: named, and the listing goes on. */
static int
prefix_refused(struct unit *u, struct err *e)
{
	struct listing *l = u->l;
	char why[ERR_TEXT_MAX];
	int rc;

	snprintf(why, sizeof(why), "%s", e->text);
	err_clear(e);
	if (l->by_dirs) {
		struct tree_dir *dir = u->dir;

		u->dir = NULL;
		rc = tree_dir_refused(l->tree, dir, ERR_AUTH, why, e);
	} else {
		rc = run_unreadable(l->run, u->prefix, u->prefix_n, why, e);
	}
	s3_unit_free(u);
	return rc;
}

static int
refused(struct unit *u, long status, struct err *e)
{
	struct listing *l = u->l;
	struct s3_failure f;
	struct err ignored = ERR_INIT;
	int rc;

	l->page.object = NULL;
	l->page.prefix = NULL;
	s3_page_parse(&l->page, u->q.body.p, u->q.body.len, &ignored);
	f = s3_failure_of(l->page.text[S3_CODE].p ? l->page.text[S3_CODE].p : "", l->page.text[S3_CODE].len, status);
	if ((f.region || status == 400) && other_region(u, &rc, e))
		return rc ? -1 : s3_unit_ask(u, e);
	if (f.v1 && !l->v1 && !l->versions && !l->page_seen) {
		l->v1 = true;
		return s3_unit_ask(u, e);
	}
	server_error(u, status, f.cls, e);
	if (f.stale)
		run_stale_login(l->run);
	if (f.again) {
		uint64_t wait = u->q.retry_after_ms;

		/* Fewer at once is what it asks for. */
		if (l->width > 1)
			l->width /= 2;
		if (!again(u, wait, e))
			return 0;
		run_retry_after(l->run, wait);
	}
	if (code_is(l, "AccessDenied") && !u->root && !u->pages)
		return prefix_refused(u, e);
	return -1;
}

/* ---- from page to page ---- */

static int
loop_found(const struct unit *u, const char *why, struct err *e)
{
	struct buf b = BUF_INIT;

	escape_term(&b, u->prefix, u->prefix_n < 200 ? u->prefix_n : 200);
	err_set(e, ERR_LISTING_LOOP, "the listing of prefix \"%s\" does not advance: %s", buf_str(&b), why);
	buf_release(&b);
	return -1;
}

static void
last_entry(const struct unit *u, struct buf *b)
{
	const struct s3_page *p = &u->l->page;

	s3_set_buf(b, p->last_key.p, p->last_key.len);
	if (u->delimited && b->len > u->prefix_n && s3_ends_folder(u->l, b->p, b->len))
		buf_puts(b, LAST_CHAR);
}

/* The next page begins behind this key. */
static int
go_behind(struct unit *u, const char *p, size_t n, const struct buf *version, struct err *e)
{
	int order = s3_compare(p, n, u->after.p, u->after.len);
	bool first = u->from != FROM_KEY || !u->pages;

	if (!n)
		return loop_found(u, "a page without a key says that more follow", e);
	if (!first && (order < 0 || (!order && s3_compare(version->p, version->len, u->after_version.p, u->after_version.len) == 0)))
		return loop_found(u, "the last key came again", e);
	s3_set_buf(&u->after, p, n);
	s3_set_buf(&u->after_version, version->p, version->len);
	u->from = FROM_KEY;
	return 0;
}

static int
go_by_token(struct unit *u, struct err *e)
{
	const struct s3_page *p = &u->l->page;
	const struct buf *token = &p->text[S3_NEXT_TOKEN];

	if (u->from == FROM_TOKEN && !s3_compare(token->p, token->len, u->token.p, u->token.len))
		return loop_found(u, "its continuation token came again", e);
	/* A ring of tokens brings the same pages again. */
	if (u->from == FROM_TOKEN && p->last_key.len && u->last.len &&
	    s3_compare(p->last_key.p, p->last_key.len, u->last.p, u->last.len) <= 0 &&
	    s3_compare(u->page_first.p, u->page_first.len, u->first.p, u->first.len) <= 0)
		return loop_found(u, "its keys came again", e);
	s3_set_buf(&u->token, token->p, token->len);
	s3_set_buf(&u->last, p->last_key.p, p->last_key.len);
	s3_set_buf(&u->first, u->page_first.p, u->page_first.len);
	u->from = FROM_TOKEN;
	return 0;
}

/*
 * Is the token the last key, percent-encoded as keys in pages are? There are servers that write it so and take it back as
 * it stands, which passes over keys or never ends. Behind the last key is the same place without it.
 */
static bool
token_is_encoded_key(const struct unit *u)
{
	const struct s3_page *p = &u->l->page;
	const struct buf *token = &p->text[S3_NEXT_TOKEN];
	struct buf plain = BUF_INIT;
	bool is;

	if (!p->encoded || !s3_compare(token->p, token->len, p->last_key.p, p->last_key.len))
		return false;
	is = !s3_decode(&plain, token->p, token->len) && !s3_compare(plain.p, plain.len, p->last_key.p, p->last_key.len);
	buf_release(&plain);
	return is;
}

/* Where the next page begins. broken: the page was not well-formed; what came of it is right. */
static int
advance(struct unit *u, bool broken, struct err *e)
{
	static const struct buf none = BUF_INIT;
	struct listing *l = u->l;
	struct s3_page *p = &l->page;
	struct buf last = BUF_INIT;
	int rc;

	u->empty = p->objects + p->prefixes ? 0 : u->empty + 1;
	if (u->empty > EMPTY_MAX)
		return loop_found(u, "page after page is empty and says that more follow", e);
	last_entry(u, &last);
	/* Behind what came last, where that is what the marker means: there are servers that write a wrong version there. */
	if (l->versions && !broken && p->text[S3_NEXT_KEY_MARKER].len && s3_compare(p->text[S3_NEXT_KEY_MARKER].p,
	    p->text[S3_NEXT_KEY_MARKER].len, p->last_key.p, p->last_key.len))
		rc = go_behind(u, p->text[S3_NEXT_KEY_MARKER].p, p->text[S3_NEXT_KEY_MARKER].len, &p->text[S3_NEXT_VERSION], e);
	else if (l->versions)
		rc = go_behind(u, last.p, last.len, &p->last_version, e);
	else if (!broken && !l->v1 && p->text[S3_NEXT_TOKEN].len && !token_is_encoded_key(u))
		rc = go_by_token(u, e);
	else if (!broken && u->delimited && p->text[S3_NEXT_MARKER].len)
		rc = go_behind(u, p->text[S3_NEXT_MARKER].p, p->text[S3_NEXT_MARKER].len, &none, e);
	else
		rc = go_behind(u, last.p, last.len, &none, e);
	/* Who gives a marker and no token speaks version 1. */
	if (!broken && !l->v1 && !l->versions && !p->text[S3_NEXT_TOKEN].len && p->text[S3_NEXT_MARKER].len)
		l->v1 = true;
	buf_release(&last);
	return rc;
}

static int
unit_done(struct unit *u, struct err *e)
{
	struct listing *l = u->l;
	struct tree_dir *dir = u->dir;

	s3_unit_free(u);
	return l->by_dirs ? tree_dir_done(l->tree, dir, e) : 0;
}

/* The page is told of. A full queue of prefixes lets their finder wait. */
static int
go_on(struct unit *u, bool broken, struct err *e)
{
	struct listing *l = u->l;

	if (advance(u, broken, e))
		return -1;
	u->pages++;
	u->tries = 0;
	l->page_seen = true;
	if (u->splitter && l->pending.n >= PENDING_HIGH) {
		u->not_before = 0;
		return 0;
	}
	return s3_unit_ask(u, e);
}

/* Is it worth asking for the directories first, and then for several at once? */
static bool
worth_splitting(const struct unit *u)
{
	const struct listing *l = u->l;

	return l->page.truncated && u->keys >= SPLIT_KEYS &&
	    (u->components == 1 || u->components * SPLIT_SHARE <= u->keys) && l->n_units + l->pending.n < l->width;
}

/* What the page is, before it counts: 0; 1: asked again or split, nothing more to do; -1 */
static int
look_first(struct unit *u, struct err *e)
{
	struct listing *l = u->l;

	if (l->versions || (!(u->may_split && !u->pages) && !(u->from == FROM_KEY && u->pages)))
		return 0;
	if (s3_unit_survey(u, e) != S3_PAGE_WHOLE) {
		err_clear(e);
		if (!u->behind)
			return 0;
	}
	if (u->behind) {
		if (l->v1)
			return loop_found(u, "keys came again", e);
		/* It does not know start-after: that is version 1. */
		l->v1 = true;
		return s3_unit_ask(u, e) ? -1 : 1;
	}
	if (u->may_split && !u->pages && worth_splitting(u)) {
		u->splitter = u->delimited = true;
		u->may_split = false;
		return s3_unit_ask(u, e) ? -1 : 1;
	}
	return 0;
}

static int
not_a_listing(struct unit *u, struct err *e)
{
	char what[700];

	s3_request_text(&u->q, what, sizeof(what));
	return err_set(e, ERR_PROTOCOL, "%s: the server's answer is no listing of S3%s", what,
	    u->l->page.root == S3_ROOT_NONE ? ": it is empty or no XML" : "");
}

/* Not well-formed before its first key. A token may be what is ill-formed: pages of version 1 have none. */
static int
no_progress(struct unit *u, struct err *e)
{
	struct listing *l = u->l;

	if (l->v1 || l->versions)
		return again(u, 0, e);
	err_clear(e);
	l->v1 = true;
	if (u->from == FROM_TOKEN) {
		s3_set_buf(&u->after, u->last.p, u->last.len);
		u->from = FROM_KEY;
	}
	return s3_unit_ask(u, e);
}

static int
page_came(struct unit *u, struct err *e)
{
	struct listing *l = u->l;
	const struct s3_page *p = &l->page;
	enum s3_page_result result;
	int rc = look_first(u, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	result = s3_unit_tell(u, e);
	if (result == S3_PAGE_STOPPED)
		return l->stopped;
	if (result == S3_PAGE_REFUSED)
		return -1;
	if (p->root == S3_ROOT_ERROR)
		return refused(u, 200, e);
	if (p->root != (l->versions ? S3_ROOT_VERSIONS : S3_ROOT_LIST))
		return not_a_listing(u, e);
	if (result == S3_PAGE_BROKEN) {
		if (!p->objects && !p->prefixes)
			return no_progress(u, e);
		err_clear(e);
		return go_on(u, true, e);
	}
	if (!p->truncated_told)
		return err_set(e, ERR_PROTOCOL, "the server's listing does not say whether it is whole (IsTruncated)");
	if (!p->truncated) {
		l->page_seen = true;
		return unit_done(u, e);
	}
	return go_on(u, false, e);
}

static int
page_ended(struct transfer *t, CURLcode code, struct err *e)
{
	struct unit *u = (struct unit *)t;
	struct listing *l = u->l;
	long status = 0;
	char what[700];
	int rc;

	u->active = false;
	l->n_active--;
	if (code == CURLE_OK) {
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
		rc = status == 200 ? page_came(u, e) : refused(u, status, e);
		return rc ? rc : s3_listing_fill(l, e);
	}
	if (u->q.body_too_long)
		return err_set(e, ERR_PROTOCOL, "the server's answer is longer than %d MiB", S3_BODY_MAX >> 20);
	s3_request_text(&u->q, what, sizeof(what));
	curl_session_error(t, code, what, e);
	/* The server answered before in this listing: the connection broke, not the source. */
	if (l->page_seen && (e->cls == ERR_TRANSIENT || e->cls == ERR_TRUNCATED || e->cls == ERR_PROTOCOL) && !again(u, 0, e))
		return s3_listing_fill(l, e);
	return -1;
}
