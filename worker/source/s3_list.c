/*
 * s3_list.c - the walk over a bucket: which prefixes are asked for, page after page, several at once, until all say that
 * they are whole.
 *
 * s3.c calls s3_list once a task. A unit is one prefix on its way through its pages. Without recursion, and where whole
 * directories are needed (done_file, in_progress_suffixes, exclude_if_present, max_depth, directories in types), units ask with a delimiter, a directory each; else
 * keys come flat, and a unit whose first page shows few large directories hands them to units of their own. Nothing
 * here sleeps: what must wait, waits in the list.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/source/s3_list.h"
#include "common/glob.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define PENDING_LOW 500
#define HEADS_MAX 16

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
	u = s3_unit_new(l, l->root, prefix, strlen(prefix));
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
	u = s3_unit_new(l, d, b.p, b.len);
	u->delimited = true;
	u->root = !d->depth;
	buf_release(&b);
	return u;
}

/* As many requests as may be under way at once. */
int
s3_listing_fill(struct listing *l, struct err *e)
{
	while (l->n_active < l->width) {
		struct unit *u = ready_unit(l, run_clock());

		if (!u && (u = pending_unit(l)))
			pending_pop(l);
		if (!u)
			u = dir_unit(l);
		if (!u)
			return 0;
		if (s3_unit_ask(u, e))
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
		if (s3_listing_fill(l, e))
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
	struct unit *u = s3_unit_new(l, l->root, prefix, n);
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
	slash = recursive ? NULL : memmem(p, n, l->delimiter, l->delimiter_n);
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
		s3_unit_free(l->units);
	}
	if (l->root)
		tree_dir_refused(l->tree, l->root, ERR_CANCELLED, "", &ignored);
	strlist_release(&l->pending);
	s3_page_release(&l->page);
	tree_free(l->tree);
}

static const char *
delimiter_of(const struct run *r)
{
	const char *s = run_str(r, SF_S3_DELIMITER);

	return *s ? s : "/";
}

/* Bytes of the prefix up to its last delimiter and with it: the folder that it lies in. */
static size_t
folder_of(const struct listing *l, const char *prefix)
{
	size_t n = strlen(prefix);

	while (n && !s3_ends_folder(l, prefix, n))
		n--;
	return n;
}

/* prefix: of every key. only: the one key that is wanted, or NULL. *entries: how many there were. 0, RUN_STOP or -1. */
static int
list_prefix(struct conn *c, struct run *r, const char *prefix, const char *only, uint64_t *entries, struct err *e)
{
	const struct field_value *at = &r->task->source.v[SF_S3_VERSION_AT];
	struct listing l = { .c = c, .run = r, .only = only, .width = r->task->connections, .versions = at->set || run_int(r, SF_S3_VERSIONS),
		.at_ns = at->set ? at->i : TIME_UNKNOWN, .v1 = run_int(r, SF_S3_LIST_TYPE) == 1 };
	size_t folder_n;
	bool own;
	int rc;

	l.delimiter = delimiter_of(r);
	l.delimiter_n = strlen(l.delimiter);
	own = strcmp(l.delimiter, "/") != 0;
	folder_n = folder_of(&l, prefix);
	l.tree = tree_new(r, prefix, folder_n, e);
	if (!l.tree)
		return -1;
	tree_keys(l.tree);
	if (own)
		tree_delimiter(l.tree, l.delimiter);
	s3_page_init(&l.page);
	s3_address_url(s3_where(c), l.endpoint, sizeof(l.endpoint));
	l.by_dirs = !own && !only && !prefix[folder_n] && run_int(r, SF_COMMON_RECURSIVE) &&
	    (tree_holds(l.tree) || r->task->filter.types & FILE_BIT(FILE_DIR) || run_int(r, SF_COMMON_MAX_DEPTH)) &&
	    !*run_str(r, SF_S3_START_AFTER);
	if (only)
		tree_one_file(l.tree);
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
	folder = xasprintf("%s%s", path, delimiter_of(r));
	rc = list_prefix(c, r, folder, NULL, &entries, e);
	free(folder);
	/* Nothing lies below it: it may be a key itself. */
	if (!rc && !entries)
		rc = list_prefix(c, r, path, path, &entries, e);
	return rc == RUN_STOP ? 0 : rc;
}
