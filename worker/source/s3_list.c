/*
 * s3_list.c - the walk over a bucket: which prefixes are asked for, page after page, several at once, until all say that
 * they are whole.
 *
 * s3.c calls s3_list once a task. A unit is one prefix on its way through its pages. Without recursion, and where whole
 * directories are needed (done_file, in_progress_suffixes, max_depth), units ask with a delimiter, a directory each; else
 * keys come flat, and a unit whose first page shows few large directories hands them to units of their own. Only
 * IsTruncated ends a unit. Nothing here sleeps: what must wait, waits in the list.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/source/s3.h"
#include "common/escape.h"
#include "common/glob.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define TRIES_MAX 4                 /* of one page, after the first */
#define RETRIES_MAX 64              /* of one listing */
#define DELAY_NS 200000000          /* before the first of them; doubles */
#define WAIT_MAX_MS 10000           /* what is to wait longer is for the whole task to repeat */
#define EMPTY_MAX 100               /* pages without an entry that say that more follow, one after the other */
#define PENDING_HIGH 1000           /* prefixes waiting: their finder pauses */
#define PENDING_LOW 500
#define HEADS_MAX 16
#define SPLIT_KEYS 10               /* a first page of fewer keys tells nothing of the folders */
#define SPLIT_SHARE 100             /* a page of n keys is worth splitting with at most n / this many directories */
/* Behind every key that begins with a prefix ending before it: U+10FFFF */
#define LAST_CHAR "\xf4\x8f\xbf\xbf"

enum from { FROM_START, FROM_TOKEN, FROM_KEY };

struct unit {
	struct s3_request q;        /* first: so that its transfer is the unit */
	struct listing *l;
	struct unit *next;          /* in listing.units */
	struct tree_dir *dir;       /* where its entries go */
	char *prefix;               /* of all its keys; bytes without NUL */
	size_t prefix_n;
	bool delimited;             /* asks with a delimiter */
	bool splitter;              /* its common prefixes become units */
	bool may_split;             /* its first page decides whether it becomes one */
	bool root;                  /* what the job itself asked for */
	bool active;                /* a request is under way */
	int64_t not_before;         /* run_clock; while not active */
	enum from from;             /* of the next page */
	struct buf token, after, after_version;
	struct buf last_token, first, last; /* of the page before */
	unsigned tries, empty;
	uint64_t pages;
	char region[65];            /* it was signed for */
	/* of the page in hand */
	bool behind;                /* a key came that had come before */
	struct buf page_first, component;
	uint64_t keys, components;
};

struct listing {
	struct conn *c;
	struct run *run;
	struct tree *tree;
	struct tree_dir *root;      /* NULL while none, and where directories are units */
	const char *only;           /* NULL, or the one key that is wanted */
	struct unit *units;
	unsigned n_units, n_active, width;
	struct strlist pending;     /* prefixes, last first */
	unsigned retries;
	uint64_t entries;           /* keys and prefixes seen */
	bool by_dirs, v1, versions, region_tried, page_seen;
	int stopped;                /* a callback's RUN_STOP or -1 */
	struct s3_page page;
	char endpoint[300];
	struct err *e;              /* for callbacks */
};

/* ---- units ---- */

static int
compare(const void *a, size_t an, const void *b, size_t bn)
{
	size_t n = an < bn ? an : bn;
	int order = n ? memcmp(a, b, n) : 0;

	return order ? order : an < bn ? -1 : an > bn;
}

static void
set_buf(struct buf *b, const void *p, size_t n)
{
	buf_clear(b);
	buf_add(b, p, n);
}

static struct unit *
unit_new(struct listing *l, struct tree_dir *dir, const char *prefix, size_t n)
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

static void
unit_free(struct unit *u)
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

static int
ask(struct unit *u, struct err *e)
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
		add(v, &n, "delimiter", "/", 1);
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

/* ---- entries ---- */

/* Where the name below its directory begins. The root ends with its '/', the others do not. */
static size_t
name_at(const struct tree_dir *d)
{
	return d->path_n + (d->depth > 0);
}

static int
callback_failed(struct listing *l)
{
	l->stopped = -1;
	return -1;
}

static bool
begins_with(const char *p, size_t n, const char *head, size_t head_n)
{
	return n >= head_n && !memcmp(p, head, head_n);
}

static int
stray(struct listing *l, const char *what)
{
	err_set(l->e, ERR_PROTOCOL, "the server listed %s that is not below the prefix it was asked for", what);
	return callback_failed(l);
}

static bool
in_list(const struct strlist *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], s))
			return true;
	return false;
}

static const char *
text(const struct s3_object *o, enum s3_text which)
{
	return o->text[which].len ? o->text[which].p : "";
}

static bool
text_is(const struct s3_object *o, enum s3_text which, const char *want)
{
	return o->text[which].len == strlen(want) && !memcmp(text(o, which), want, strlen(want));
}

/* Storage class, archive, delete marker: is the object for the job? */
static bool
class_fits(const struct run *r, const struct s3_object *o)
{
	const struct field_value *f = r->task->source.v;
	char class[65];

	if (o->delete_marker)
		return f[SF_S3_INCLUDE_DELETE_MARKERS].i;
	snprintf(class, sizeof(class), "%.*s", o->text[S3_STORAGE_CLASS].len < 64 ? (int)o->text[S3_STORAGE_CLASS].len : 64,
	    text(o, S3_STORAGE_CLASS));
	if (!*class)
		snprintf(class, sizeof(class), "STANDARD");
	if (f[SF_S3_STORAGE_CLASSES].l.n && !in_list(&f[SF_S3_STORAGE_CLASSES].l, class))
		return false;
	if (in_list(&f[SF_S3_EXCLUDE_STORAGE_CLASSES].l, class))
		return false;
	if (!f[SF_S3_SKIP_ARCHIVED].i || (strcmp(class, "GLACIER") && strcmp(class, "DEEP_ARCHIVE")))
		return true;
	return text_is(o, S3_RESTORING, "false") && o->text[S3_RESTORE_EXPIRY].len;
}

static bool
visible(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return true;
}

static void
set_version(struct record *rec, const struct s3_object *o)
{
	const char *tag = text(o, S3_ETAG);
	size_t n = o->text[S3_ETAG].len;

	if (n >= 2 && tag[0] == '"' && tag[n - 1] == '"') {
		tag++;
		n -= 2;
	}
	if (n && n <= 256 && visible(tag, n)) {
		rec->checksum = rec->version = tag;
		rec->checksum_n = rec->version_n = n;
		snprintf(rec->checksum_algorithm, sizeof(rec->checksum_algorithm), "etag");
		snprintf(rec->checksum_origin, sizeof(rec->checksum_origin), "etag");
	}
	n = o->text[S3_VERSION_ID].len;
	if (n && n <= 1024) {
		rec->version = text(o, S3_VERSION_ID);
		rec->version_n = n;
	}
}

static void
set_attrs(const struct listing *l, struct entry *en, const struct s3_object *o)
{
	static const struct { enum source_attr attr; enum s3_text text; } told[] = {
		{ SA_S3_VERSION_ID, S3_VERSION_ID }, { SA_S3_IS_LATEST, S3_IS_LATEST }, { SA_S3_ETAG, S3_ETAG },
		{ SA_S3_STORAGE_CLASS, S3_STORAGE_CLASS }, { SA_S3_LAST_MODIFIED, S3_LAST_MODIFIED },
		{ SA_S3_CHECKSUM_ALGORITHM, S3_CHECKSUM_ALGORITHM }, { SA_S3_CHECKSUM_TYPE, S3_CHECKSUM_TYPE },
		{ SA_S3_OWNER_ID, S3_OWNER_ID }, { SA_S3_OWNER_NAME, S3_OWNER_NAME },
		{ SA_S3_RESTORE_IN_PROGRESS, S3_RESTORING }, { SA_S3_RESTORE_EXPIRY, S3_RESTORE_EXPIRY },
	};
	const char *bucket = run_str(l->run, SF_S3_BUCKET), *region = s3_where(l->c)->region;

	entry_attr_str(en, SA_S3_BUCKET, bucket, strlen(bucket));
	entry_attr_str(en, SA_S3_KEY, o->key, o->key_n);
	entry_attr_str(en, SA_S3_REGION, region, strlen(region));
	entry_attr_str(en, SA_S3_ENDPOINT, l->endpoint, strlen(l->endpoint));
	for (size_t i = 0; i < ARRAY_LEN(told); i++)
		entry_attr_str(en, told[i].attr, text(o, told[i].text), o->text[told[i].text].len);
	if (l->versions)
		entry_attr_str(en, SA_S3_IS_DELETE_MARKER, o->delete_marker ? "true" : "false", o->delete_marker ? 4 : 5);
}

/* What stands for a directory, and is none of the job's files. */
static bool
is_dir_marker(const struct s3_object *o)
{
	return o->key[o->key_n - 1] == '/' && o->size <= 0;
}

static int
report(struct unit *u, struct entry *en, const struct s3_object *o)
{
	struct listing *l = u->l;
	int rc;

	if (!class_fits(l->run, o)) {
		run_skipped(l->run);
		return 0;
	}
	en->rec.size = o->size;
	en->rec.mtime_ns = o->mtime_ns;
	if (o->mtime_ns != TIME_UNKNOWN)
		en->rec.precision = o->mtime_ns % INT64_C(1000000000) ? MTIME_NS : MTIME_S;
	set_version(&en->rec, o);
	set_attrs(l, en, o);
	rc = tree_report(l->tree, u->dir, en, l->e);
	if (rc != RUN_GO_ON)
		l->stopped = rc;
	return rc;
}

static int
on_object(void *arg, const struct s3_object *o)
{
	struct unit *u = arg;
	struct listing *l = u->l;
	const char *after = run_str(l->run, SF_S3_START_AFTER);
	size_t at = name_at(u->dir);
	enum entry_type type = ENTRY_FILE;
	struct entry en;

	l->entries++;
	if (!begins_with(o->key, o->key_n, u->prefix, u->prefix_n) || o->key_n < at)
		return stray(l, "a key");
	if (*after && compare(o->key, o->key_n, after, strlen(after)) <= 0)
		return 0;
	/* the directory of the job itself */
	if (o->key_n == at && !u->dir->depth)
		return 0;
	if (is_dir_marker(o) && !run_int(l->run, SF_S3_INCLUDE_DIR_MARKERS))
		type = ENTRY_OTHER;
	/* Beside the one file that is wanted, others count only for what waits for them. */
	if (l->only && compare(o->key, o->key_n, l->only, strlen(l->only)))
		type = ENTRY_OTHER;
	entry_init(&en, o->key + at, o->key_n - at, type);
	switch (tree_ask(l->tree, u->dir, &en, l->e)) {
	case TREE_FAILED:
		return callback_failed(l);
	case TREE_YES:
		return report(u, &en, o);
	default:
		return 0;
	}
}

/* No filter shuts it out, itself or what it lies in. */
static bool
prefix_wanted(const struct listing *l, const char *p, size_t n)
{
	const char *rel = p + l->root->path_n;
	size_t rel_n = n - l->root->path_n;

	for (const char *s = rel; (s = memchr(s, '/', (size_t)(rel + rel_n - s))); s++)
		if (s > rel && filter_dir(l->run->filter, rel, (size_t)(s - rel)) != FILTER_YES)
			return false;
	return true;
}

static int
on_prefix(void *arg, const char *p, size_t n)
{
	struct unit *u = arg;
	struct listing *l = u->l;
	size_t at = name_at(u->dir);
	struct entry en;

	l->entries++;
	if (!begins_with(p, n, u->prefix, u->prefix_n) || n <= u->prefix_n || n <= at || p[n - 1] != '/')
		return stray(l, "a common prefix");
	/* Dropped where a page was asked for again from within it. */
	if (u->from == FROM_KEY && u->pages && compare(p, n, u->after.p, u->after.len) <= 0)
		return 0;
	if (u->splitter) {
		char *copy;

		if (memchr(p, '\0', n))
			return run_unreadable(l->run, p, n, "the key holds a NUL", l->e) ? callback_failed(l) : 0;
		if (!prefix_wanted(l, p, n))
			return 0;
		copy = xmemdup0(p, n);
		strlist_add(&l->pending, copy);
		free(copy);
		return 0;
	}
	entry_init(&en, p + at, n - at - 1, ENTRY_DIR);
	return tree_ask(l->tree, u->dir, &en, l->e) == TREE_FAILED ? callback_failed(l) : 0;
}

/* ---- looking at a page before anything of it is reported ---- */

static int
survey_object(void *arg, const struct s3_object *o)
{
	struct unit *u = arg;
	const char *rest = o->key + u->prefix_n, *slash;

	if (!u->keys++)
		set_buf(&u->page_first, o->key, o->key_n);
	if (u->from == FROM_KEY && u->pages && compare(o->key, o->key_n, u->after.p, u->after.len) <= 0)
		u->behind = true;
	if (o->key_n < u->prefix_n)
		return 0;
	slash = memchr(rest, '/', o->key_n - u->prefix_n);
	/* A file in the place itself counts as a directory of its own: it does not get faster. */
	if (slash && u->component.len == (size_t)(slash - rest) && !memcmp(u->component.p, rest, u->component.len) && u->components)
		return 0;
	u->components++;
	set_buf(&u->component, rest, slash ? (size_t)(slash - rest) : 0);
	return 0;
}

static enum s3_page_result
survey(struct unit *u, struct err *e)
{
	struct s3_page *p = &u->l->page;

	u->keys = u->components = 0;
	u->behind = false;
	buf_clear(&u->component);
	p->object = survey_object;
	p->prefix = NULL;
	p->arg = u;
	return s3_page_parse(p, u->q.body.p, u->q.body.len, e);
}

/* Is it worth asking for the directories first, and then for several at once? */
static bool
worth_splitting(const struct unit *u)
{
	const struct listing *l = u->l;

	return l->page.truncated && u->keys >= SPLIT_KEYS &&
	    (u->components == 1 || u->components * SPLIT_SHARE <= u->keys) && l->n_units + l->pending.n < l->width;
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
	if (p->text[S3_MESSAGE].len) {
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
	unit_free(u);
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
		return rc ? -1 : ask(u, e);
	if (f.v1 && !l->v1 && !l->versions && !l->page_seen) {
		l->v1 = true;
		return ask(u, e);
	}
	server_error(u, status, f.cls, e);
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

	set_buf(b, p->last_key.p, p->last_key.len);
	if (u->delimited && b->len > u->prefix_n && b->p[b->len - 1] == '/')
		buf_puts(b, LAST_CHAR);
}

/* The next page begins behind this key. */
static int
go_behind(struct unit *u, const char *p, size_t n, const struct buf *version, struct err *e)
{
	int order = compare(p, n, u->after.p, u->after.len);
	bool first = u->from != FROM_KEY || !u->pages;

	if (!n)
		return loop_found(u, "a page without a key says that more follow", e);
	if (!first && (order < 0 || (!order && compare(version->p, version->len, u->after_version.p, u->after_version.len) == 0)))
		return loop_found(u, "the last key came again", e);
	set_buf(&u->after, p, n);
	set_buf(&u->after_version, version->p, version->len);
	u->from = FROM_KEY;
	return 0;
}

static int
go_by_token(struct unit *u, struct err *e)
{
	const struct s3_page *p = &u->l->page;
	const struct buf *token = &p->text[S3_NEXT_TOKEN];

	if (u->from == FROM_TOKEN && !compare(token->p, token->len, u->token.p, u->token.len))
		return loop_found(u, "its continuation token came again", e);
	/* A ring of tokens brings the same pages again. */
	if (u->from == FROM_TOKEN && p->last_key.len && u->last.len &&
	    compare(p->last_key.p, p->last_key.len, u->last.p, u->last.len) <= 0 &&
	    compare(u->page_first.p, u->page_first.len, u->first.p, u->first.len) <= 0)
		return loop_found(u, "its keys came again", e);
	set_buf(&u->token, token->p, token->len);
	set_buf(&u->last, p->last_key.p, p->last_key.len);
	set_buf(&u->first, u->page_first.p, u->page_first.len);
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

	if (!p->encoded || !compare(token->p, token->len, p->last_key.p, p->last_key.len))
		return false;
	is = !s3_decode(&plain, token->p, token->len) && !compare(plain.p, plain.len, p->last_key.p, p->last_key.len);
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
	if (l->versions && !broken && p->text[S3_NEXT_KEY_MARKER].len && compare(p->text[S3_NEXT_KEY_MARKER].p,
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

	unit_free(u);
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
	return ask(u, e);
}

/* What the page is, before it counts: 0; 1: asked again or split, nothing more to do; -1 */
static int
look_first(struct unit *u, struct err *e)
{
	struct listing *l = u->l;

	if (l->versions || (!(u->may_split && !u->pages) && !(u->from == FROM_KEY && u->pages)))
		return 0;
	if (survey(u, e) != S3_PAGE_WHOLE) {
		err_clear(e);
		if (!u->behind)
			return 0;
	}
	if (u->behind) {
		if (l->v1)
			return loop_found(u, "keys came again", e);
		/* It does not know start-after: that is version 1. */
		l->v1 = true;
		return ask(u, e) ? -1 : 1;
	}
	if (u->may_split && !u->pages && worth_splitting(u)) {
		u->splitter = u->delimited = true;
		u->may_split = false;
		return ask(u, e) ? -1 : 1;
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

static int
note_first(void *arg, const struct s3_object *o)
{
	struct unit *u = arg;

	if (!u->keys++)
		set_buf(&u->page_first, o->key, o->key_n);
	return on_object(arg, o);
}

static enum s3_page_result
tell(struct unit *u, struct err *e)
{
	struct s3_page *p = &u->l->page;

	u->keys = 0;
	buf_clear(&u->page_first);
	p->object = note_first;
	p->prefix = on_prefix;
	p->arg = u;
	u->l->stopped = 0;
	u->l->e = e;
	return s3_page_parse(p, u->q.body.p, u->q.body.len, e);
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
		set_buf(&u->after, u->last.p, u->last.len);
		u->from = FROM_KEY;
	}
	return ask(u, e);
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
	result = tell(u, e);
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

static int fill(struct listing *, struct err *);

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
		return rc ? rc : fill(l, e);
	}
	if (u->q.body_too_long)
		return err_set(e, ERR_PROTOCOL, "the server's answer is longer than %d MiB", S3_BODY_MAX >> 20);
	s3_request_text(&u->q, what, sizeof(what));
	curl_session_error(t, code, what, e);
	/* The server answered before in this listing: the connection broke, not the source. */
	if (l->page_seen && (e->cls == ERR_TRANSIENT || e->cls == ERR_TRUNCATED || e->cls == ERR_PROTOCOL) && !again(u, 0, e))
		return fill(l, e);
	return -1;
}

/* ---- the whole ---- */

static struct unit *
ready_unit(struct listing *l, int64_t now)
{
	for (struct unit *u = l->units; u; u = u->next)
		if (!u->active && u->not_before <= now && !(u->splitter && l->pending.n > PENDING_LOW))
			return u;
	return NULL;
}

static struct unit *
pending_unit(struct listing *l)
{
	struct unit *u;
	char *prefix;

	if (!l->pending.n)
		return NULL;
	/* strlist_add grows at powers of two, so the memory is there for the next */
	prefix = l->pending.v[l->pending.n - 1];
	u = unit_new(l, l->root, prefix, strlen(prefix));
	u->may_split = true;
	return u;
}

static void
pending_pop(struct listing *l)
{
	free(l->pending.v[--l->pending.n]);
	if (!l->pending.n)
		strlist_release(&l->pending);
}

static struct unit *
dir_unit(struct listing *l)
{
	struct tree_dir *d = l->by_dirs ? tree_next(l->tree) : NULL;
	struct buf b = BUF_INIT;
	struct unit *u;

	if (!d)
		return NULL;
	buf_add(&b, d->path, d->path_n);
	if (d->depth)
		buf_putc(&b, '/');
	u = unit_new(l, d, b.p, b.len);
	u->delimited = true;
	u->root = !d->depth;
	buf_release(&b);
	return u;
}

/* As many requests as may be under way at once. */
static int
fill(struct listing *l, struct err *e)
{
	while (l->n_active < l->width) {
		struct unit *u = ready_unit(l, run_clock());

		if (!u && (u = pending_unit(l)))
			pending_pop(l);
		if (!u)
			u = dir_unit(l);
		if (!u)
			return 0;
		if (ask(u, e))
			return -1;
	}
	return 0;
}

static int64_t
earliest(const struct listing *l)
{
	int64_t at = INT64_MAX;

	for (const struct unit *u = l->units; u; u = u->next)
		if (!u->active && u->not_before < at)
			at = u->not_before;
	return at;
}

/* RUN_STOP, 0 or -1 */
static int
walk(struct listing *l, struct err *e)
{
	int rc;

	for (;;) {
		if (fill(l, e))
			return -1;
		if (!l->n_active && !l->units)
			return 0;
		rc = l->n_active ? curl_session_run(s3_session(l->c), e) : run_wait(l->run, earliest(l), e);
		if (rc)
			return rc;
	}
}

/* ---- where it begins ---- */

static void
root_unit(struct listing *l, const char *prefix, size_t n, bool may_split)
{
	struct unit *u = unit_new(l, l->root, prefix, n);
	const char *after = run_str(l->run, SF_S3_START_AFTER);

	u->root = true;
	u->delimited = !run_int(l->run, SF_COMMON_RECURSIVE) || l->only;
	u->may_split = may_split && !u->delimited && !*after && !l->versions;
	buf_puts(&u->after, after);
}

/* What every path that a pattern matches begins with; "" where that says nothing. */
static char *
head_of(const struct listing *l, const char *pattern)
{
	struct err e = ERR_INIT;
	struct glob *g = glob_new(pattern, strlen(pattern), l->run->task->filter.ignore_case, &e);
	bool recursive = run_int(l->run, SF_COMMON_RECURSIVE);
	const char *p, *slash;
	char *head;
	size_t n;

	if (!g)
		return xstrdup("");
	n = glob_prefix(g, &p);
	/* A pattern for names says nothing of the folders before them. */
	if (recursive && !glob_wants_path(g))
		n = 0;
	slash = recursive ? NULL : memchr(p, '/', n);
	head = xmemdup0(p, slash ? (size_t)(slash - p) : n);
	glob_free(g);
	return head;
}

static int
by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t
common_head(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

/* One unit for each head of the patterns; those that begin with another are in that. */
static void
narrowed_units(struct listing *l, const char *prefix)
{
	const struct strlist *patterns = &l->run->task->filter.patterns;
	struct strlist heads = { NULL, 0 };
	const char *last = NULL;
	size_t root_n = l->root->path_n;

	for (size_t i = 0; i < patterns->n; i++) {
		char *head = head_of(l, patterns->v[i]);
		char *whole = xasprintf("%.*s%s", (int)root_n, prefix, head);

		/* The job's own prefix may go further than its last '/'. */
		if (!strncmp(prefix, whole, strlen(whole)))
			strlist_add(&heads, prefix);
		else if (!strncmp(prefix, whole, strlen(prefix)))
			strlist_add(&heads, whole);
		free(whole);
		free(head);
	}
	if (heads.n)
		qsort(heads.v, heads.n, sizeof(*heads.v), by_bytes);
	if (heads.n > HEADS_MAX) {
		root_unit(l, heads.v[0], common_head(heads.v[0], heads.v[heads.n - 1]), true);
	} else {
		for (size_t i = 0; i < heads.n; i++) {
			if (last && !strncmp(heads.v[i], last, strlen(last)))
				continue;
			last = heads.v[i];
			root_unit(l, last, strlen(last), true);
		}
	}
	strlist_release(&heads);
}

static void
listing_release(struct listing *l)
{
	struct err ignored = ERR_INIT;

	while (l->units) {
		if (l->by_dirs && l->units->dir)
			tree_dir_refused(l->tree, l->units->dir, ERR_CANCELLED, "", &ignored);
		unit_free(l->units);
	}
	if (l->root)
		tree_dir_refused(l->tree, l->root, ERR_CANCELLED, "", &ignored);
	strlist_release(&l->pending);
	s3_page_release(&l->page);
	tree_free(l->tree);
}

static unsigned
width_of(const struct run *r)
{
	const struct field_value *v = &r->task->source.v[SF_NETWORK_MAX_CONNECTIONS];

	return v->set && v->i > 0 ? (unsigned)v->i : S3_CONNECTIONS;
}

/* prefix: of every key. only: the one key that is wanted, or NULL. *entries: how many there were. 0, RUN_STOP or -1. */
static int
list_prefix(struct conn *c, struct run *r, const char *prefix, const char *only, uint64_t *entries, struct err *e)
{
	struct listing l = { .c = c, .run = r, .only = only, .width = width_of(r), .versions = run_int(r, SF_S3_VERSIONS),
		.v1 = run_int(r, SF_S3_LIST_TYPE) == 1 };
	const char *slash = strrchr(prefix, '/');
	int rc;

	l.tree = tree_new(r, prefix, slash ? (size_t)(slash - prefix) + 1 : 0, e);
	if (!l.tree)
		return -1;
	tree_keys(l.tree);
	s3_page_init(&l.page);
	s3_address_url(s3_where(c), l.endpoint, sizeof(l.endpoint));
	l.by_dirs = !only && !prefix[slash ? slash - prefix + 1 : 0] && run_int(r, SF_COMMON_RECURSIVE) &&
	    (tree_holds(l.tree) || run_int(r, SF_COMMON_MAX_DEPTH)) && !*run_str(r, SF_S3_START_AFTER);
	if (!l.by_dirs) {
		l.root = tree_next(l.tree);
		if (only || tree_holds(l.tree))
			root_unit(&l, prefix, strlen(prefix), !only);
		else
			narrowed_units(&l, prefix);
	}
	rc = walk(&l, e);
	if (!rc && l.root) {
		rc = tree_dir_done(l.tree, l.root, e);
		l.root = NULL;
	}
	*entries = l.entries;
	listing_release(&l);
	return rc;
}

int
s3_list(struct conn *c, struct run *r, struct err *e)
{
	const char *path = run_str(r, SF_COMMON_PATH);
	uint64_t entries;
	char *folder;
	int rc;

	if (r->task->source.v[SF_S3_PREFIX].set || !*path) {
		rc = list_prefix(c, r, run_str(r, SF_S3_PREFIX), NULL, &entries, e);
		return rc == RUN_STOP ? 0 : rc;
	}
	folder = xasprintf("%s/", path);
	rc = list_prefix(c, r, folder, NULL, &entries, e);
	free(folder);
	/* Nothing lies below it: it may be a key itself. */
	if (!rc && !entries)
		rc = list_prefix(c, r, path, path, &entries, e);
	return rc == RUN_STOP ? 0 : rc;
}
