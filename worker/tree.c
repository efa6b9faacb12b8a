/*
 * tree.c - what every listing of a remote tree does alike: the queue of directories, depths, links, names, filters,
 * what is held back, loops. The network sources call it for each entry that a server tells them of.
 *
 * It asks no server anything. Directories wait as paths, deepest first, so that the queue stays short; files are emitted
 * as they come, but where done_file or in_progress_suffixes need the whole directory first. Both stores are bounded.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define QUEUE_BYTES_MAX (8 << 20)       /* paths of directories that wait */
#define HELD_BYTES_MAX (12 << 20)       /* records and companions held back until their directories end */
#define DEPTH_MAX 255
#define LOOP_TIMES 8                    /* so often must the last components repeat to be called a loop */
#define LOOP_PERIOD 4                   /* a loop of so many components at most */

struct dir {
	struct tree_dir pub;            /* first: handed out */
	char *path;
	char *real;                     /* canonical path where a link led here; NULL: path is all that is known */
	struct strlist chain;           /* the directories whose links led here, canonical: entering one again is a loop */
	bool begun;
	struct buf held;                /* encoded records */
	size_t n_held;
	size_t n_decided;               /* of them: emitted or skipped */
	size_t companion_bytes;
	bool marked;                    /* it holds the name of exclude_if_present: nothing of it counts */
	struct dir **below;             /* with exclude_if_present: its directories, until it is known that they count */
	size_t n_below;
	struct strlist companions;      /* whole relative paths that a held one may ask for */
};

struct tree {
	struct run *run;
	char *root;
	size_t root_n, rel_off;
	bool flat;                      /* names are keys: they may hold '/' */
	const char *delimiter;          /* flat: of their folders; NULL: '/' */
	bool recursive, holds, marks, stopped;
	unsigned types;
	int follow;
	int64_t min_depth, max_depth;
	struct dir **queue;
	size_t n, cap, queue_bytes, held_bytes;         /* queue_bytes: those in below, too */
	unsigned open;
	uint64_t refused;               /* directories that count as unreadable; entries that do were listed */
	struct buf path;
};

void
entry_init(struct entry *e, const char *name, size_t n, enum entry_type type)
{
	e->name = name;
	e->name_n = n;
	e->type = type;
	record_init(&e->rec);
}

void
entry_attr_str(struct entry *e, enum source_attr id, const char *s, size_t n)
{
	/* What a server says beside a file's name is no reason to fail its listing: cut to what a record may hold. */
	n = s ? strnlen(s, n < RECORD_ATTR_BYTES ? n : RECORD_ATTR_BYTES) : 0;
	if (!n || e->rec.n_attrs == RECORD_ATTR_MAX)
		return;
	e->rec.attrs[e->rec.n_attrs++] = (struct record_attr){ .id = (uint16_t)id, .s = s, .n = n };
}

void
entry_attr_int(struct entry *e, enum source_attr id, int64_t v)
{
	if (e->rec.n_attrs < RECORD_ATTR_MAX)
		e->rec.attrs[e->rec.n_attrs++] = (struct record_attr){ .id = (uint16_t)id, .is_int = true, .i = v };
}

/* ---- directories ----------------------------------------------------------------------------------------------------- */

static void
dir_free(struct dir *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n_below; i++)
		dir_free(d->below[i]);
	free(d->below);
	free(d->path);
	free(d->real);
	strlist_release(&d->chain);
	strlist_release(&d->companions);
	buf_release(&d->held);
	free(d->pub.data);
	free(d);
}

static struct dir *
dir_new(const struct tree *t, const char *path, size_t n, unsigned depth)
{
	struct dir *d = xcalloc(1, sizeof(*d));

	d->path = xmemdup0(path, n);
	d->pub.path = d->path;
	d->pub.path_n = n;
	d->pub.rel = n > t->rel_off ? d->path + t->rel_off : d->path + n;
	d->pub.rel_n = n > t->rel_off ? n - t->rel_off : 0;
	d->pub.depth = depth;
	return d;
}

static size_t
dir_cost(const struct dir *d)
{
	size_t n = sizeof(*d) + d->pub.path_n + (d->real ? strlen(d->real) : 0);

	for (size_t i = 0; i < d->chain.n; i++)
		n += strlen(d->chain.v[i]) + sizeof(char *);
	return n;
}

static void
append(struct tree *t, struct dir *d)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 64;
		t->queue = xreallocarray(t->queue, t->cap, sizeof(struct dir *));
	}
	t->queue[t->n++] = d;
	t->queue_bytes += dir_cost(d);
}

/* from: where it was found; NULL for the root. */
static int
push(struct tree *t, struct dir *from, struct dir *d, struct err *e)
{
	if (t->queue_bytes + dir_cost(d) > QUEUE_BYTES_MAX) {
		dir_free(d);
		return err_set(e, ERR_LIMIT, "more directories wait to be listed than %d MiB hold: narrow the job's path",
		    QUEUE_BYTES_MAX >> 20);
	}
	if (!from || !t->marks) {
		append(t, d);
		return 0;
	}
	/* Grows at powers of two. */
	if (!(from->n_below & (from->n_below - 1)))
		from->below = xreallocarray(from->below, from->n_below ? 2 * from->n_below : 1, sizeof(struct dir *));
	from->below[from->n_below++] = d;
	t->queue_bytes += dir_cost(d);
	return 0;
}

/* The directory was read and holds no marker: what lies below it may be listed. */
static void
release_below(struct tree *t, struct dir *d)
{
	for (size_t i = 0; i < d->n_below; i++) {
		t->queue_bytes -= dir_cost(d->below[i]);
		append(t, d->below[i]);
	}
	d->n_below = 0;
}

struct tree *
tree_new(struct run *r, const char *root, size_t n, struct err *e)
{
	struct tree *t = xcalloc(1, sizeof(*t));
	const struct filter_spec *f = &r->task->filter;

	t->run = r;
	t->root = xmemdup0(root, n);
	t->root_n = n;
	t->rel_off = n + (n && root[n - 1] != '/');
	t->recursive = run_int(r, SF_COMMON_RECURSIVE);
	t->follow = (int)run_int(r, SF_COMMON_FOLLOW_SYMLINKS);
	t->min_depth = run_int(r, SF_COMMON_MIN_DEPTH);
	t->max_depth = run_int(r, SF_COMMON_MAX_DEPTH);
	t->marks = f->exclude_if_present != NULL;
	t->holds = f->done_file || f->in_progress_suffixes.n || t->marks;
	t->types = f->types;
	if (n > RECORD_PATH_MAX / 2) {
		err_set(e, ERR_LIMIT, "the path is longer than %d bytes", RECORD_PATH_MAX / 2);
		tree_free(t);
		return NULL;
	}
	if (push(t, NULL, dir_new(t, root, n, 0), e)) {
		tree_free(t);
		return NULL;
	}
	return t;
}

/* A listing that max_files cut leaves entries that were asked for and will not be reported. */
static void
skip_the_rest(const struct tree *t)
{
	struct task_done *d = &t->run->done;
	uint64_t known = d->matched + d->skipped + d->unreadable - t->refused;

	if (t->stopped && d->listed > known)
		d->skipped += d->listed - known;
}

void
tree_free(struct tree *t)
{
	if (!t)
		return;
	skip_the_rest(t);
	while (t->n)
		dir_free(t->queue[--t->n]);
	free(t->queue);
	free(t->root);
	buf_release(&t->path);
	free(t);
}

void
tree_keys(struct tree *t)
{
	t->flat = true;
}

void
tree_one_file(struct tree *t)
{
	const struct filter_spec *f = &t->run->task->filter;

	t->marks = false;
	t->holds = f->done_file || f->in_progress_suffixes.n;
}

void
tree_delimiter(struct tree *t, const char *delimiter)
{
	t->delimiter = delimiter;
	/* none was between the root and what lies in it */
	t->rel_off = t->root_n;
}

bool
tree_holds(const struct tree *t)
{
	return t->holds;
}

struct tree_dir *
tree_next(struct tree *t)
{
	struct dir *d;

	if (!t->n || t->stopped)
		return NULL;
	d = t->queue[--t->n];
	t->queue_bytes -= dir_cost(d);
	t->open++;
	return &d->pub;
}

size_t
tree_waiting(const struct tree *t)
{
	return t->n;
}

unsigned
tree_open_dirs(const struct tree *t)
{
	return t->open;
}

bool
tree_stopped(const struct tree *t)
{
	return t->stopped;
}

bool
tree_dir_begun(const struct tree_dir *pub)
{
	return ((const struct dir *)pub)->begun;
}

static void
close_dir(struct tree *t, struct tree_dir *pub)
{
	struct dir *d = (struct dir *)pub;

	t->open--;
	t->held_bytes -= d->held.len + d->companion_bytes;
	/* Cut by max_files, or its directory broke off: nobody will say more of them. */
	for (; d->n_decided < d->n_held; d->n_decided++)
		run_skipped(t->run);
	for (size_t i = 0; i < d->n_below; i++)
		t->queue_bytes -= dir_cost(d->below[i]);
	dir_free(d);
}

void
tree_dir_again(struct tree *t, struct tree_dir *pub)
{
	struct dir *d = (struct dir *)pub;

	if (d->begun)
		BUG("a directory that was reported in part is not read again");
	t->open--;
	append(t, d);
}

int
tree_dir_refused(struct tree *t, struct tree_dir *pub, enum err_class cls, const char *reason, struct err *e)
{
	int rc = 0;

	if (!pub->depth || (cls != ERR_NOT_FOUND && cls != ERR_AUTH && cls != ERR_PERMANENT && cls != ERR_POLICY))
		rc = err_set(e, cls, "%s", reason);
	else if (cls != ERR_NOT_FOUND)
		rc = run_unreadable(t->run, pub->path, pub->path_n, reason, e);
	t->refused += !rc && cls != ERR_NOT_FOUND;
	close_dir(t, pub);
	return rc;
}

/* ---- paths ------------------------------------------------------------------------------------------------------------- */

/* The entry's whole path in t->path. */
static void
make_path(struct tree *t, const struct tree_dir *d, const struct entry *en)
{
	buf_clear(&t->path);
	buf_add(&t->path, d->path, d->path_n);
	/* A key's component may be empty, so that below the root a '/' at the end is no separator. */
	if ((t->flat && d->depth) || (!t->delimiter && d->path_n && d->path[d->path_n - 1] != '/'))
		buf_putc(&t->path, '/');
	buf_add(&t->path, en->name, en->name_n);
}

static const char *
rel_of(const struct tree *t)
{
	return t->path.p + t->rel_off;
}

static size_t
rel_n(const struct tree *t)
{
	return t->path.len - t->rel_off;
}

/* NULL, or why no file can have this name here. */
static const char *
name_fault(const struct tree *t, const struct tree_dir *d, const struct entry *en)
{
	if (memchr(en->name, '\0', en->name_n))
		return "the name holds a NUL";
	if (!t->flat && memchr(en->name, '/', en->name_n))
		return "the name holds a '/'";
	if (d->path_n + 1 + en->name_n > RECORD_PATH_MAX)
		return "the path is too long";
	return NULL;
}

static size_t
components(const char *p, size_t n, const char **at, size_t max)
{
	size_t count = 0;

	/* From the end: at[0] is the last one's start. */
	while (n && count < max) {
		const char *slash = memrchr(p, '/', n);

		at[count++] = slash ? slash + 1 : p;
		if (!slash)
			break;
		n = (size_t)(slash - p);
	}
	return count;
}

/* The last components are the same few, again and again: a link to a directory above, which the protocol does not show. */
static bool
repeats(const char *p, size_t n)
{
	const char *at[LOOP_PERIOD * LOOP_TIMES];
	size_t have = components(p, n, at, ARRAY_LEN(at));

	for (size_t period = 1; period <= LOOP_PERIOD && period * LOOP_TIMES <= have; period++) {
		size_t same = 0;

		for (size_t i = 0; i + period < period * LOOP_TIMES; i++) {
			const char *a = at[i], *b = at[i + period];
			size_t an = strcspn(a, "/"), bn = strcspn(b, "/");

			if (a + an > p + n)
				an = (size_t)(p + n - a);
			if (an != bn || memcmp(a, b, an))
				break;
			same++;
		}
		if (same == period * (LOOP_TIMES - 1))
			return true;
	}
	return false;
}

/* ---- directories below --------------------------------------------------------------------------------------------------- */

static bool
may_enter(const struct tree *t, unsigned depth)
{
	return t->recursive && (!t->max_depth || depth < (uint64_t)t->max_depth);
}

/* d: where it was found; the path is in t->path. real: where a link led, or NULL. */
static int
enter(struct tree *t, struct tree_dir *d, const char *real, size_t real_n, struct err *e)
{
	struct dir *from = (struct dir *)d, *fresh;

	buf_str(&t->path);
	/* Keys have no links: what repeats in one is its name. */
	if (!t->flat && repeats(rel_of(t), rel_n(t))) {
		struct buf shown = BUF_INIT;

		escape_term(&shown, t->path.p, t->path.len > 300 ? 300 : t->path.len);
		err_set(e, ERR_LISTING_LOOP, "the same directories come again and again: %s; limit max_depth or name the link in exclude_dirs",
		    buf_str(&shown));
		buf_release(&shown);
		return -1;
	}
	if (d->depth >= DEPTH_MAX)
		return err_set(e, ERR_LIMIT, "directories are more than %d levels deep", DEPTH_MAX);
	fresh = dir_new(t, t->path.p, t->path.len, d->depth + 1);
	for (size_t i = 0; i < from->chain.n; i++)
		strlist_add(&fresh->chain, from->chain.v[i]);
	if (real) {
		fresh->real = xmemdup0(real, real_n);
		strlist_add(&fresh->chain, from->real ? from->real : from->path);
	} else if (from->real) {
		const char *name = strrchr(fresh->path, '/');

		fresh->real = xasprintf("%s%s", from->real, name ? name : fresh->path);
	}
	return push(t, from, fresh, e);
}


/* ---- files -------------------------------------------------------------------------------------------------------------------- */

/* A key's own directories: deep enough, not too deep, none excluded. */
static bool
place_fits(struct tree *t, const struct tree_dir *d)
{
	const char *rel = rel_of(t);
	size_t n = rel_n(t);
	uint64_t depth = d->depth;

	if (t->delimiter)
		return t->recursive || !memmem(rel, n, t->delimiter, strlen(t->delimiter));
	if (t->flat) {
		/* rel begins at the source's root: its slashes are its depth. */
		depth = 0;
		for (const char *p = rel; (p = memchr(p, '/', (size_t)(rel + n - p))); p++) {
			if (filter_dir(t->run->filter, rel, (size_t)(p - rel)) != FILTER_YES && p > rel)
				return false;
			depth++;
		}
		if (depth && !t->recursive)
			return false;
		if (t->max_depth && depth > (uint64_t)t->max_depth)
			return false;
	}
	return depth >= (uint64_t)t->min_depth;
}

static bool
name_matches(struct tree *t, const struct tree_dir *d)
{
	return place_fits(t, d) && filter_name(t->run->filter, rel_of(t), rel_n(t)) == FILTER_YES;
}

static bool
wants(const struct tree *t, enum file_kind kind)
{
	return t->types & FILE_BIT(kind);
}

static int
too_many(struct err *e)
{
	return err_set(e, ERR_LIMIT, "done_file, in_progress_suffixes and exclude_if_present need a whole directory at once, and one has too many files");
}

/* Whatever its type: others may wait for it. */
static int
note_companion(struct tree *t, struct dir *d, const struct entry *en, struct err *e)
{
	const char *slash = t->flat ? memrchr(en->name, '/', en->name_n) : NULL, *name = slash ? slash + 1 : en->name;

	if (t->marks && !slash && filter_is_marker(t->run->filter, en->name, en->name_n))
		d->marked = true;
	if (!t->holds || !filter_is_companion(t->run->filter, name, en->name_n - (size_t)(name - en->name)))
		return 0;
	d->companion_bytes += t->path.len;
	t->held_bytes += t->path.len;
	if (t->held_bytes > HELD_BYTES_MAX)
		return too_many(e);
	strlist_add(&d->companions, buf_str(&t->path));
	return 0;
}

/* A directory: into the queue, and whether it is to be reported itself; only then does it count as listed. */
static enum tree_want
ask_directory(struct tree *t, struct tree_dir *pub, struct err *e)
{
	bool fits = !((struct dir *)pub)->marked && filter_dir(t->run->filter, rel_of(t), rel_n(t)) == FILTER_YES;

	if (wants(t, FILE_DIR) ? run_listed(t->run, e) : run_turn(t->run, e))
		return TREE_FAILED;
	if (fits && may_enter(t, pub->depth) && enter(t, pub, NULL, 0, e))
		return TREE_FAILED;
	if (!wants(t, FILE_DIR))
		return TREE_NO;
	if (fits && name_matches(t, pub))
		return TREE_YES;
	run_skipped(t->run);
	return TREE_NO;
}

enum tree_want
tree_ask(struct tree *t, struct tree_dir *pub, const struct entry *en, struct err *e)
{
	struct dir *d = (struct dir *)pub;
	const char *fault;

	if (!t->flat && (!en->name_n || (en->name[0] == '.' && (en->name_n == 1 || (en->name_n == 2 && en->name[1] == '.')))))
		return TREE_NO;
	d->begun = true;
	make_path(t, pub, en);
	fault = name_fault(t, pub, en);
	if (fault)
		return run_listed(t->run, e) || run_unreadable(t->run, t->path.p, t->path.len, fault, e) ? TREE_FAILED : TREE_NO;
	if (note_companion(t, d, en, e))
		return TREE_FAILED;
	if (en->type == ENTRY_DIR)
		return ask_directory(t, pub, e);
	if (run_listed(t->run, e))
		return TREE_FAILED;
	if (d->marked) {
		run_skipped(t->run);
		return TREE_NO;
	}
	if (en->type == ENTRY_LINK && wants(t, FILE_LINK) && name_matches(t, pub))
		return TREE_YES;
	if (en->type == ENTRY_LINK && !wants(t, FILE_LINK) && (t->follow == FOLLOW_ALL || (t->follow == FOLLOW_FILES && name_matches(t, pub))))
		return TREE_RESOLVE;
	if (en->type == ENTRY_FILE && wants(t, FILE_PLAIN) && name_matches(t, pub))
		return TREE_YES;
	run_skipped(t->run);
	return TREE_NO;
}

static int
hold(struct tree *t, struct dir *d, struct record *rec, struct err *e)
{
	size_t before = d->held.len;

	if (record_encode(rec, &d->held, e))
		return RUN_FAILED;
	d->n_held++;
	t->held_bytes += d->held.len - before;
	if (t->held_bytes > HELD_BYTES_MAX)
		return too_many(e);
	return RUN_GO_ON;
}

static int
emit(struct tree *t, struct record *rec, struct err *e)
{
	int rc = run_emit(t->run, rec, e);

	if (rc == RUN_STOP)
		t->stopped = true;
	return rc;
}

/* Whatever a server says of the size of what is no file. */
static void
set_kind(struct entry *en)
{
	en->rec.kind = en->type == ENTRY_DIR ? FILE_DIR : en->type == ENTRY_LINK ? FILE_LINK : FILE_PLAIN;
	if (en->rec.kind == FILE_PLAIN)
		return;
	en->rec.size = -1;
	en->rec.is_symlink = en->rec.kind == FILE_LINK;
}

int
tree_report(struct tree *t, struct tree_dir *pub, struct entry *en, struct err *e)
{
	if (t->stopped) {
		run_skipped(t->run);
		return RUN_STOP;
	}
	make_path(t, pub, en);
	en->rec.path = t->path.p;
	en->rec.path_n = t->path.len;
	en->rec.rel_off = t->rel_off;
	set_kind(en);
	if (filter_attrs(t->run->filter, en->rec.size, en->rec.mtime_ns) != FILTER_YES) {
		run_skipped(t->run);
		return RUN_GO_ON;
	}
	return t->holds ? hold(t, (struct dir *)pub, &en->rec, e) : emit(t, &en->rec, e);
}

enum tree_want
tree_entry(struct tree *t, struct tree_dir *d, struct entry *en, struct err *e)
{
	enum tree_want want = tree_ask(t, d, en, e);

	if (want != TREE_YES)
		return want;
	return tree_report(t, d, en, e) == RUN_FAILED ? TREE_FAILED : TREE_NO;
}

/* ---- links ---------------------------------------------------------------------------------------------------------------------- */

/* Is real the directory at `at`, or one above it? */
static bool
is_above(const char *real, size_t n, const char *at)
{
	while (n > 1 && real[n - 1] == '/')
		n--;
	if (n == 1 && *real == '/')
		return true;
	return !strncmp(at, real, n) && (!at[n] || at[n] == '/');
}

static bool
is_loop(const struct dir *d, const char *real, size_t n)
{
	if (is_above(real, n, d->real ? d->real : d->path))
		return true;
	for (size_t i = 0; i < d->chain.n; i++)
		if (is_above(real, n, d->chain.v[i]))
			return true;
	return false;
}

int
tree_link(struct tree *t, struct tree_dir *pub, struct entry *en, const char *real, size_t real_n, struct err *e)
{
	make_path(t, pub, en);
	if (en->type == ENTRY_FILE) {
		if (wants(t, FILE_PLAIN) && name_matches(t, pub))
			return tree_report(t, pub, en, e);
		run_skipped(t->run);
		return RUN_GO_ON;
	}
	run_skipped(t->run);
	if (en->type != ENTRY_DIR || t->follow != FOLLOW_ALL || !may_enter(t, pub->depth) ||
	    filter_dir(t->run->filter, rel_of(t), rel_n(t)) != FILTER_YES ||
	    (real && is_loop((struct dir *)pub, real, real_n)))
		return RUN_GO_ON;
	return enter(t, pub, real, real_n, e);
}

/* ---- what was held back ------------------------------------------------------------------------------------------------------- */

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool
has_companion(const struct dir *d, struct buf *path)
{
	const char *key = buf_str(path);

	return d->companions.n && bsearch(&key, d->companions.v, d->companions.n, sizeof(char *), by_text) != NULL;
}

/* Is its done file there, and none of it still being written? */
static bool
is_whole(struct tree *t, const struct dir *d, const struct record *rec)
{
	const struct strlist *l = &t->run->task->filter.in_progress_suffixes;
	const char *slash = memrchr(rec->path, '/', rec->path_n), *name = slash ? slash + 1 : rec->path;
	size_t n = rec->path_n - (size_t)(name - rec->path);
	struct buf wanted = BUF_INIT;
	bool ok;

	ok = !filter_done_name(t->run->filter, name, n, &wanted);
	if (!ok) {
		buf_clear(&t->path);
		buf_add(&t->path, rec->path, (size_t)(name - rec->path));
		buf_add(&t->path, wanted.p, wanted.len);
		ok = has_companion(d, &t->path);
	}
	for (size_t i = 0; ok && i < l->n; i++) {
		buf_clear(&t->path);
		buf_add(&t->path, rec->path, rec->path_n);
		buf_puts(&t->path, l->v[i]);
		ok = !has_companion(d, &t->path);
	}
	buf_release(&wanted);
	return ok;
}

int
tree_dir_done(struct tree *t, struct tree_dir *pub, struct err *e)
{
	struct dir *d = (struct dir *)pub;
	struct cursor c;
	int rc = 0;

	if (d->companions.n)
		qsort(d->companions.v, d->companions.n, sizeof(char *), by_text);
	cursor_init(&c, d->held.p, d->held.len);
	if (!d->marked)
		release_below(t, d);
	for (; d->n_decided < d->n_held && !d->marked && !rc && !t->stopped; d->n_decided++) {
		struct record rec;

		if (record_decode(&rec, &c, t->run->task->source.type, e))
			BUG("a record held back cannot be read again");
		if (is_whole(t, d, &rec))
			rc = emit(t, &rec, e);
		else
			run_skipped(t->run);
	}
	close_dir(t, pub);
	return rc == RUN_STOP ? 0 : rc;
}
