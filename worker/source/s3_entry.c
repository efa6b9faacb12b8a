/*
 * s3_entry.c - what stands in a page of a bucket: objects to records, common prefixes to directories or units.
 *
 * s3_unit.c calls it with a page that came whole. A page that is to be judged first is read twice: surveyed, then told.
 * Keys are bytes and stay as they are; what is not below the prefix that was asked for makes the listing fail.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/s3_list.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

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
set_place(const struct listing *l, struct entry *en, const char *key, size_t n)
{
	const char *bucket = run_str(l->run, SF_S3_BUCKET), *region = s3_where(l->c)->region;

	entry_attr_str(en, SA_S3_BUCKET, bucket, strlen(bucket));
	entry_attr_str(en, SA_S3_KEY, key, n);
	entry_attr_str(en, SA_S3_REGION, region, strlen(region));
	entry_attr_str(en, SA_S3_ENDPOINT, l->endpoint, strlen(l->endpoint));
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

	set_place(l, en, o->key, o->key_n);
	for (size_t i = 0; i < ARRAY_LEN(told); i++)
		entry_attr_str(en, told[i].attr, text(o, told[i].text), o->text[told[i].text].len);
	if (l->versions)
		entry_attr_str(en, SA_S3_IS_DELETE_MARKER, o->delete_marker ? "true" : "false", o->delete_marker ? 4 : 5);
}

/* What stands for a directory, and is none of the job's files. */
static bool
is_dir_marker(const struct listing *l, const struct s3_object *o)
{
	return (o->key[o->key_n - 1] == '/' || s3_ends_folder(l, o->key, o->key_n)) && o->size <= 0;
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

/*
 * version_at: is this what the key held at that time? Versions of a key come newest first, and all of a key before the next:
 * the first that is not younger decides, also where it says that the object was deleted. 1 yes, 0 no, -1.
 */
static int
held_then(struct unit *u, const struct s3_object *o)
{
	struct listing *l = u->l;
	int order = s3_compare(o->key, o->key_n, u->decided.p, u->decided.len);

	if (o->mtime_ns == TIME_UNKNOWN || (u->decided.len && order < 0)) {
		err_set(l->e, ERR_PROTOCOL, "version_at: the server lists versions %s", order < 0 ? "in another order than that of their keys" :
		    "without their time");
		return callback_failed(l);
	}
	if (o->mtime_ns > l->at_ns || (u->decided.len && !order))
		return 0;
	s3_set_buf(&u->decided, o->key, o->key_n);
	return !o->delete_marker;
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
	if (*after && s3_compare(o->key, o->key_n, after, strlen(after)) <= 0)
		return 0;
	if (l->at_ns != TIME_UNKNOWN) {
		int held = held_then(u, o);

		if (held <= 0)
			return held;
	}
	/* the directory of the job itself */
	if (o->key_n == at && !u->dir->depth)
		return 0;
	if (is_dir_marker(l, o) && !run_int(l->run, SF_S3_INCLUDE_DIR_MARKERS))
		type = ENTRY_OTHER;
	/* Beside the one file that is wanted, others count only for what waits for them. */
	if (l->only && s3_compare(o->key, o->key_n, l->only, strlen(l->only)))
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

	/* What names folders goes with '/' alone. */
	for (const char *s = rel; *l->delimiter == '/' && (s = memchr(s, '/', (size_t)(rel + rel_n - s))); s++)
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
	enum tree_want want;
	struct entry en;

	l->entries++;
	if (!begins_with(p, n, u->prefix, u->prefix_n) || n <= u->prefix_n || n <= at || !s3_ends_folder(l, p, n))
		return stray(l, "a common prefix");
	/* Dropped where a page was asked for again from within it. */
	if (u->from == FROM_KEY && u->pages && s3_compare(p, n, u->after.p, u->after.len) <= 0)
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
	entry_init(&en, p + at, n - at - l->delimiter_n, l->only ? ENTRY_OTHER : ENTRY_DIR);
	want = tree_ask(l->tree, u->dir, &en, l->e);
	if (want == TREE_FAILED)
		return callback_failed(l);
	if (want != TREE_YES)
		return 0;
	set_place(l, &en, p, n);
	l->stopped = tree_report(l->tree, u->dir, &en, l->e);
	return l->stopped;
}

/* ---- looking at a page before anything of it is reported ---- */

static int
survey_object(void *arg, const struct s3_object *o)
{
	struct unit *u = arg;
	const char *rest = o->key + u->prefix_n, *slash;

	if (!u->keys++)
		s3_set_buf(&u->page_first, o->key, o->key_n);
	if (u->from == FROM_KEY && u->pages && s3_compare(o->key, o->key_n, u->after.p, u->after.len) <= 0)
		u->behind = true;
	if (o->key_n < u->prefix_n)
		return 0;
	slash = memmem(rest, o->key_n - u->prefix_n, u->l->delimiter, u->l->delimiter_n);
	/* A file in the place itself counts as a directory of its own: it does not get faster. */
	if (slash && u->component.len == (size_t)(slash - rest) && !memcmp(u->component.p, rest, u->component.len) && u->components)
		return 0;
	u->components++;
	s3_set_buf(&u->component, rest, slash ? (size_t)(slash - rest) : 0);
	return 0;
}

enum s3_page_result
s3_unit_survey(struct unit *u, struct err *e)
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

/* ---- reporting ---- */

static int
note_first(void *arg, const struct s3_object *o)
{
	struct unit *u = arg;

	if (!u->keys++)
		s3_set_buf(&u->page_first, o->key, o->key_n);
	return on_object(arg, o);
}

enum s3_page_result
s3_unit_tell(struct unit *u, struct err *e)
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
