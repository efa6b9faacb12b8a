/*
 * walk.c - lists a tree of real files, for the sources dummy and local.
 *
 * Everything below the configured root is opened by openat2 beneath it, so that neither "..", nor a link, nor a rename
 * at the wrong moment leads out. Depth first; a level keeps its place in its own directory buffer; beyond a window of
 * open levels the upper ones are closed and later opened again at their offset, so that memory and descriptors are
 * bounded at any depth. Names are bytes: matched first, and looked at with statx only where they match.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define WALK_DEPTH_MAX 1000
#define WALK_BUFFER 32768
#define WALK_WINDOW 40          /* levels open at once, the source's path itself apart */
#define WALK_DIR_STATS (STATX_BASIC_STATS | STATX_MNT_ID)
#define WALK_LOOKS 1024         /* files of a directory given to two threads at once */
#define WALK_LOOKS_MIN 16       /* fewer are not worth waking the other one */

struct level {
	int fd;                 /* -1: closed for now */
	char *buf;              /* WALK_BUFFER bytes while open; NULL while closed */
	size_t pos, n;          /* the entry to come, and the end, in buf */
	int64_t offset;         /* where in the directory the entry to come is found again */
	size_t path_n;          /* bytes of the walk's path that name this level, with the '/' at the end */
	uint64_t dev, ino;
	uint64_t mount;         /* which mount; 0 before Linux 5.8 */
	int done_there;         /* whether the directory's one done file is there; -1: not known, or each file has its own */
};

struct walk {
	struct walk_how how;
	const char *root;       /* task->root */
	size_t root_n;          /* bytes of the path that name the root, without a '/' */
	size_t rel_off;         /* where the part relative to the source's path begins */
	int root_fd;
	uint64_t root_dev, root_mount;
	bool single;            /* the path is one file; levels[0] is its directory */
	char *single_name;
	size_t depth;           /* levels in use */
	size_t window;
	struct level levels[WALK_DEPTH_MAX + 1];
	struct buf companion;   /* a name looked for beside an entry */
	char path[RECORD_PATH_MAX + 260];
	size_t path_n;
	const char *name;       /* the entry in hand: in the deepest level */
	struct content content;
	const char *fs_name;    /* of the file system fs_dev; NULL: unknown */
	uint64_t fs_dev;
	bool fs_known;
	char text[WALK_TEXT][48];
	char target[4096];
	size_t looks, look;     /* files that are being looked at (ahead.c), and the one whose turn it is */
	struct look ahead[WALK_LOOKS];
};

struct raw_entry {                  /* of getdents64 */
	uint64_t ino;
	int64_t offset;
	uint16_t len;
	uint8_t type;
	char name[];
};

static uint64_t
device(const struct statx *st)
{
	return (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;
}

/* Opening */

static bool
follows(const struct walk *w)
{
	return w->how.follow != FOLLOW_NEVER;
}

/* The class of an error at the source's own path. */
static int
top_error(const char *root, const char *below, struct err *e)
{
	const char *path = below;

	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		return err_errno(e, ERR_NOT_FOUND, "%s below %s", path, root);
	case EACCES:
	case EPERM:
		return err_errno(e, ERR_AUTH, "%s below %s", path, root);
	case EXDEV:
		return err_set(e, ERR_POLICY, "%s leads outside the root %s", path, root);
	case ELOOP:
		return err_set(e, ERR_PERMANENT,
		    "%s below %s holds a symbolic link, and follow_symlinks is never, or links lead in a circle", path, root);
	case ENAMETOOLONG:
		return err_errno(e, ERR_PERMANENT, "%s below %s", path, root);
	case EIO:
	case ESTALE:
	case EAGAIN:
		return err_errno(e, ERR_TRANSIENT, "%s below %s", path, root);
	default:
		return err_errno(e, ERR_SYSTEM, "%s below %s", path, root);
	}
}

/* A root of SETUP, or what a tenant has of it: opened beneath that, so that no link leads from one tenant's to another's. */
static int
open_root(const struct setup *s, const char *root, struct err *e)
{
	const char *rest, *given = path_under(&s->roots, root, &rest);
	int top, fd;

	/* Another worker, started with the settings of today, will do. */
	if (!given)
		return err_set(e, ERR_SYSTEM, "this worker was not given the root \"%s\"", root);
	top = open(given, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || !strcmp(rest, "."))
		return top < 0 ? top_error(given, ".", e) : top;
	fd = beneath_open(top, rest, O_PATH | O_DIRECTORY, true);
	if (fd < 0 && errno == ENOSYS)
		fd = beneath_by_names(top, rest, O_PATH | O_DIRECTORY);
	if (fd < 0)
		top_error(given, rest, e);
	close(top);
	return fd;
}

static void
push(struct walk *w, int fd, const struct statx *st)
{
	struct level *l = &w->levels[w->depth];

	/* The window moves on: what is above it closes, all but the source's own path. */
	if (w->depth > w->window) {
		struct level *up = &w->levels[w->depth - w->window];

		if (up->fd >= 0)
			close(up->fd);
		free(up->buf);
		up->fd = -1;
		up->buf = NULL;
		up->pos = up->n = 0;
	}
	*l = (struct level){
		.fd = fd,
		.path_n = w->path_n,
		.dev = device(st),
		.ino = st->stx_ino,
		.mount = st->stx_mask & STATX_MNT_ID ? st->stx_mnt_id : 0,
		.done_there = -1,
	};
	w->depth++;
}

static void
pop(struct walk *w)
{
	struct level *l = &w->levels[--w->depth];

	if (l->fd >= 0)
		close(l->fd);
	free(l->buf);
	l->fd = -1;
	l->buf = NULL;
}

static void
set_path(struct walk *w, const char *below)
{
	w->root_n = strcmp(w->root, "/") ? strlen(w->root) : 0;
	memcpy(w->path, w->root, w->root_n);
	w->path[w->root_n] = '/';
	w->path_n = w->root_n + 1;
	if (strcmp(below, ".")) {
		size_t n = strlen(below);

		memcpy(w->path + w->path_n, below, n);
		w->path_n += n;
		w->path[w->path_n++] = '/';
	}
	w->rel_off = w->path_n;
}

/* Is it on what is mounted somewhere below the root, where that does not count as the root's? */
static bool
beyond(const struct walk *w, const struct statx *st)
{
	if (w->how.cross_mounts)
		return false;
	return w->root_mount && st->stx_mask & STATX_MNT_ID ? st->stx_mnt_id != w->root_mount : device(st) != w->root_dev;
}

/* The source's path is one file: its directory becomes the only level. */
static int
open_single(struct walk *w, const char *below, struct err *e)
{
	const char *slash = strrchr(below, '/');
	char *dir = slash ? xmemdup0(below, (size_t)(slash - below)) : xstrdup(".");
	struct statx st;
	int fd = beneath_open(w->root_fd, dir, O_PATH | O_DIRECTORY, follows(w));

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, WALK_DIR_STATS, &st) < 0) {
		top_error(w->root, dir, e);
		if (fd >= 0)
			close(fd);
		free(dir);
		return -1;
	}
	set_path(w, dir);
	push(w, fd, &st);
	w->single = true;
	w->single_name = xstrdup(slash ? slash + 1 : below);
	free(dir);
	return 0;
}

static int
open_top(struct walk *w, const char *below, struct err *e)
{
	struct statx st;
	int fd = beneath_open(w->root_fd, below, O_PATH, follows(w));

	if (fd < 0)
		return top_error(w->root, below, e);
	if (statx(fd, "", AT_EMPTY_PATH, WALK_DIR_STATS, &st) < 0) {
		top_error(w->root, below, e);
		close(fd);
		return -1;
	}
	close(fd);
	if (beyond(w, &st))
		return err_set(e, ERR_POLICY, "%s is on what is mounted below the root %s: only with local.cross_mounts does that belong to it", below, w->root);
	if (S_ISREG(st.stx_mode))
		return open_single(w, below, e);
	if (!S_ISDIR(st.stx_mode))
		return err_set(e, ERR_PERMANENT, "%s below %s is neither a directory nor a regular file", below, w->root);
	fd = beneath_open(w->root_fd, below, O_RDONLY | O_DIRECTORY, follows(w));
	if (fd < 0)
		return top_error(w->root, below, e);
	if (statx(fd, "", AT_EMPTY_PATH, WALK_DIR_STATS, &st) < 0) {
		top_error(w->root, below, e);
		close(fd);
		return -1;
	}
	/* Mounted since the look before. */
	if (beyond(w, &st)) {
		close(fd);
		errno = EXDEV;
		return top_error(w->root, below, e);
	}
	set_path(w, below);
	push(w, fd, &st);
	return 0;
}

struct walk *
walk_open(struct run *r, const struct walk_how *how, struct err *e)
{
	const char *root = r->task->root, *below = r->task->below;
	int root_fd = open_root(r->setup, root, e);
	struct statx st;
	struct walk *w;

	if (root_fd < 0)
		return NULL;
	w = xcalloc(1, sizeof(*w));
	w->how = *how;
	w->root = root;
	w->window = WALK_WINDOW;
	/* Beside the window: standard ones, socket, spool, root, two levels, and a few that come and go. */
	if (r->setup->open_files < WALK_WINDOW + 14)
		w->window = r->setup->open_files < 18 ? 2 : (size_t)(r->setup->open_files - 14);
	w->root_fd = root_fd;
	if (statx(root_fd, "", AT_EMPTY_PATH, WALK_DIR_STATS, &st) < 0) {
		top_error(root, ".", e);
		walk_close(w);
		return NULL;
	}
	w->root_dev = device(&st);
	w->root_mount = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0;
	if (open_top(w, below[0] ? below : ".", e)) {
		walk_close(w);
		return NULL;
	}
	return w;
}

void
walk_close(struct walk *w)
{
	if (!w)
		return;
	while (w->depth)
		pop(w);
	if (w->root_fd >= 0)
		close(w->root_fd);
	content_release(&w->content);
	free(w->single_name);
	buf_release(&w->companion);
	free(w);
}

/* Below the source's path */

/* What an errno there means: 0 go on (the entry vanished, or was named), -1 the listing failed. */
static int
below_error(struct walk *w, struct run *r, const char *link, struct err *e)
{
	char reason[128];

	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		run_skipped(r);
		return 0;
	case EIO:
	case ESTALE:
	case EAGAIN:
		return err_errno(e, ERR_TRANSIENT, "%.*s", (int)w->path_n, w->path);
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOSYS:
		return err_errno(e, ERR_SYSTEM, "%.*s", (int)w->path_n, w->path);
	case EXDEV:
		snprintf(reason, sizeof(reason), "leads outside the root, or into what is mounted below it%s",
		    link && link[0] == '/' ? " (links by an absolute path count as such)" : "");
		break;
	default:
		snprintf(reason, sizeof(reason), "%s", strerror(errno));
	}
	return run_unreadable(r, w->path, w->path_n, reason, e);
}

void
walk_attr_int(struct record *rec, enum source_attr id, int64_t v)
{
	rec->attrs[rec->n_attrs++] = (struct record_attr){ .id = (uint16_t)id, .is_int = true, .i = v };
}

void
walk_attr_str(struct record *rec, enum source_attr id, const char *s)
{
	rec->attrs[rec->n_attrs++] = (struct record_attr){ .id = (uint16_t)id, .s = s, .n = strlen(s) };
}

void
walk_mode_text(unsigned mode, char out[48])
{
	for (int i = 0; i < 4; i++)
		out[i] = (char)('0' + ((mode >> (9 - 3 * i)) & 7));
	out[4] = '\0';
}

static bool
exists(int fd, const char *name)
{
	return faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* While NAME with such an ending lies beside it, NAME is still being written. */
static bool
in_progress(struct walk *w, const struct run *r, int fd, const char *name)
{
	const struct strlist *l = &r->task->filter.in_progress_suffixes;

	for (size_t i = 0; i < l->n; i++) {
		buf_clear(&w->companion);
		buf_puts(&w->companion, name);
		buf_puts(&w->companion, l->v[i]);
		if (exists(fd, buf_str(&w->companion)))
			return true;
	}
	return false;
}

static bool
done_there(struct walk *w, const struct run *r, struct level *l, const char *name)
{
	const char *rule = r->task->filter.done_file;

	/* One done file for the whole directory is looked for once. */
	if (l->done_there >= 0)
		return l->done_there;
	buf_clear(&w->companion);
	if (!filter_done_name(r->filter, name, strlen(name), &w->companion))
		return true;
	if (rule && strstr(rule, "{name}"))
		return exists(l->fd, buf_str(&w->companion));
	l->done_there = exists(l->fd, buf_str(&w->companion));
	return l->done_there;
}

static void
fill_times(struct record *rec, const struct statx *st)
{
	int64_t ns;

	if (__builtin_mul_overflow(st->stx_mtime.tv_sec, INT64_C(1000000000), &ns) ||
	    __builtin_add_overflow(ns, (int64_t)st->stx_mtime.tv_nsec, &ns) || ns == TIME_UNKNOWN)
		return;
	rec->mtime_ns = ns;
	rec->precision = MTIME_NS;
}

/* Entries come in runs of one file system. fd is on the entry's, or -1. */
static const char *
filesystem(struct walk *w, int fd, const struct statx *st)
{
	if (w->fs_known && w->fs_dev == device(st))
		return w->fs_name;
	if (fd < 0)
		return NULL;
	w->fs_known = true;
	w->fs_dev = device(st);
	w->fs_name = local_filesystem(fd);
	return w->fs_name;
}

/* What the link leads to, beneath the root: first from its own directory, which is short, then from the root. */
static int
open_link(struct walk *w, struct level *l, const char *name, int flags)
{
	int fd = beneath_open(l->fd, name, flags, follows(w));

	if (fd < 0 && errno == EXDEV)
		fd = beneath_open_long(w->root_fd, w->path + w->root_n + 1, w->path_n - w->root_n - 1, flags, follows(w));
	return fd;
}

/* Checksums */

/* For reading; nothing that it could have become meanwhile makes this wait. */
static int
open_content(struct walk *w, bool link)
{
	struct level *l = &w->levels[w->depth - 1];
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (w->how.noatime ? O_NOATIME : 0), fd;

	for (;;) {
		fd = link ? open_link(w, l, w->name, flags) : beneath_open(l->fd, w->name, flags | O_NOFOLLOW, false);
		/* Only the owner may ask for that. */
		if (fd >= 0 || errno != EPERM || !(flags & O_NOATIME))
			return fd;
		flags &= ~O_NOATIME;
	}
}

/* A file that cannot be read is listed all the same: it is only without a checksum, and the result says so. */
static int
add_checksum(struct walk *w, struct run *r, struct record *rec, const struct statx *st, struct err *e)
{
	enum task_note note = NOTE_HASH_TOO_LARGE;
	int fd = -1, rc = 1;

	if (w->how.hash_max_size < 0 || st->stx_size <= (uint64_t)w->how.hash_max_size) {
		fd = open_content(w, rec->is_symlink);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE))
			return err_errno(e, ERR_SYSTEM, "opening a file for its checksum");
		/* Gone, or a link where none is followed. */
		note = errno == ENOENT || errno == ELOOP ? NOTE_HASH_CHANGED : NOTE_HASH_UNREADABLE;
	}
	if (fd >= 0) {
		rc = content_digest(&w->content, r, fd, st, w->how.hash, &note, e);
		close(fd);
	}
	if (rc < 0)
		return -1;
	if (rc) {
		run_note(r, note);
		return 0;
	}
	rec->checksum = w->content.hash;
	rec->checksum_n = strlen(w->content.hash);
	snprintf(rec->checksum_algorithm, sizeof(rec->checksum_algorithm), "%s", digest_name(w->how.hash));
	snprintf(rec->checksum_origin, sizeof(rec->checksum_origin), "local");
	return 0;
}

/* A matching entry to the job. fd: on its file system, or -1. link: what the link holds that it is, or that led to it; NULL:
 * none. */
static int
report(struct walk *w, struct run *r, enum file_kind kind, int fd, const struct statx *st, const char *link, struct err *e)
{
	struct record rec;

	record_init(&rec);
	rec.path = w->path;
	rec.path_n = w->path_n;
	rec.rel_off = w->rel_off;
	rec.kind = kind;
	if (kind == FILE_PLAIN)
		rec.size = (int64_t)st->stx_size;
	fill_times(&rec, st);
	rec.is_symlink = link != NULL;
	rec.link_target = link;
	rec.link_target_n = link ? strlen(link) : 0;
	if (filter_attrs(r->filter, rec.size, rec.mtime_ns) != FILTER_YES) {
		run_skipped(r);
		return 0;
	}
	if (kind == FILE_PLAIN && w->how.hash != DIGEST_NONE && !run_only_watches(r) && add_checksum(w, r, &rec, st, e))
		return -1;
	w->how.attrs(&rec, st, w->root, filesystem(w, fd, st), w->text);
	if (w->how.before && w->how.before(w->how.arg, r, e))
		return -1;
	return run_emit(r, &rec, e);
}

static bool
wants(const struct run *r, enum file_kind kind)
{
	return r->task->filter.types & FILE_BIT(kind);
}

static bool
name_matches(struct walk *w, struct run *r)
{
	return w->depth - 1 >= (size_t)w->how.min_depth &&
	    filter_name(r->filter, w->path + w->rel_off, w->path_n - w->rel_off) == FILTER_YES;
}

/* Companions first, the file's size and time after: a writer that ended in between has then ended for both. */
static bool
companions_allow(struct walk *w, const struct run *r, struct level *l, const char *name)
{
	return done_there(w, r, l, name) && !in_progress(w, r, l->fd, name);
}

enum { TYPE_UNKNOWN = 0, TYPE_DIR = 4, TYPE_REG = 8, TYPE_LNK = 10 };

/* The path is the level's with the name behind it; false where it is too long to report. */
static bool
name_path(struct walk *w, const struct level *l, const char *name)
{
	size_t n = strlen(name);

	w->path_n = l->path_n;
	if (n > 256 || w->path_n + n > RECORD_PATH_MAX)
		return false;
	memcpy(w->path + w->path_n, name, n);
	w->path_n += n;
	return true;
}

/*
 * The file whose turn it is, and those that follow it in the buffer up to the next entry that is none: two threads look at
 * what of them matches. Not where something is asked or done between the files, which must come before the look, nor where
 * they are read: a look from long before the reading would call more of them changed.
 */
static void
look_ahead(struct walk *w, struct run *r, struct level *l, const char *name)
{
	const struct filter_spec *f = &r->task->filter;

	if (w->single || !ahead_there() || w->how.before || w->how.hash != DIGEST_NONE || f->done_file || f->in_progress_suffixes.n ||
	    l->n - l->pos < WALK_LOOKS_MIN * 32)
		return;
	w->ahead[0].name = name;
	w->looks = 1;
	for (size_t at = l->pos; at < l->n && w->looks < WALK_LOOKS;) {
		const struct raw_entry *d = (const struct raw_entry *)(const void *)(l->buf + at);

		if (d->type != TYPE_REG)
			break;
		if (name_path(w, l, d->name) && name_matches(w, r))
			w->ahead[w->looks++].name = d->name;
		at += d->len;
	}
	name_path(w, l, name);
	w->look = 0;
	if (w->looks < WALK_LOOKS_MIN)
		w->looks = 0;
	else
		ahead_begin(l->fd, w->ahead, w->looks);
}

static bool
looked_ahead(const struct walk *w, const char *name)
{
	return w->look < w->looks && w->ahead[w->look].name == name;
}

static void
looks_end(struct walk *w)
{
	if (w->looks)
		ahead_end();
	w->looks = 0;
}

/* statx of a name that matched; 0, or -1 with errno */
static int
look_at(struct walk *w, const struct level *l, const char *name, struct statx *st)
{
	struct look *k = &w->ahead[w->look];
	int error;

	if (!looked_ahead(w, name))
		return statx(l->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, AHEAD_MASK, st);
	ahead_wait(k);
	*st = k->st;
	error = k->error;
	if (++w->look == w->looks)
		looks_end(w);
	errno = error;
	return error ? -1 : 0;
}

/* Entries as themselves: files, and what else filters.types names. */
static int
itself(struct walk *w, struct run *r, struct level *l, const char *name, enum file_kind kind, struct err *e)
{
	static const mode_t modes[] = { [FILE_PLAIN] = S_IFREG, [FILE_DIR] = S_IFDIR, [FILE_LINK] = S_IFLNK };
	struct statx st;
	ssize_t n;
	int on;

	if (!looked_ahead(w, name)) {
		if (!wants(r, kind) || !name_matches(w, r) || !companions_allow(w, r, l, name)) {
			run_skipped(r);
			return 0;
		}
		if (kind == FILE_PLAIN && !w->looks)
			look_ahead(w, r, l, name);
	}
	if (look_at(w, l, name, &st) < 0)
		return below_error(w, r, NULL, e);
	if (beyond(w, &st) && kind == FILE_DIR) {
		run_skipped(r);
		return 0;
	}
	if (beyond(w, &st)) {
		errno = EXDEV;
		return below_error(w, r, NULL, e);
	}
	/* It was made something else since its name was read. */
	if ((st.stx_mode & S_IFMT) != modes[kind]) {
		run_skipped(r);
		return 0;
	}
	/* Something may be mounted on it. */
	on = device(&st) == l->dev ? l->fd : -1;
	if (kind != FILE_LINK)
		return report(w, r, kind, on, &st, NULL, e);
	n = readlinkat(l->fd, name, w->target, sizeof(w->target) - 1);
	if (n <= 0) {
		if (!n || errno == EINVAL)
			errno = ENOENT;
		return below_error(w, r, NULL, e);
	}
	w->target[n] = '\0';
	return report(w, r, kind, on, &st, w->target, e);
}

/* May the level below the current one be entered at all? */
static bool
may_enter(const struct walk *w)
{
	return w->how.recursive && (!w->how.max_depth || w->depth <= (size_t)w->how.max_depth);
}

static int
depth_limit(const struct walk *w, struct err *e)
{
	return err_set(e, ERR_LIMIT, "%.*s is more than %d levels deep", (int)(w->path_n > 700 ? 700 : w->path_n),
	    w->path, WALK_DEPTH_MAX);
}

static bool
is_ancestor(const struct walk *w, const struct statx *st)
{
	for (size_t i = 0; i < w->depth; i++)
		if (w->levels[i].dev == device(st) && w->levels[i].ino == st->stx_ino)
			return true;
	return false;
}

/* Another file system; or a part of this one that is mounted here a second time (mount --bind), from wherever it is. */
static bool
elsewhere(const struct walk *w, const struct statx *st)
{
	const struct level *top = &w->levels[0];

	return device(st) != top->dev ||
	    (top->mount && (st->stx_mask & STATX_MNT_ID) && st->stx_mnt_id != top->mount);
}

/* Does the directory hold the name of exclude_if_present? */
static bool
is_marked(int fd, const struct run *r)
{
	const char *marker = r->task->filter.exclude_if_present;

	return marker && exists(fd, marker);
}

/* fd is taken. via_link: a link led here, so that it may be a loop. */
static int
enter(struct walk *w, const struct run *r, int fd, bool via_link, struct err *e)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, WALK_DIR_STATS, &st) < 0) {
		err_errno(e, ERR_TRANSIENT, "%.*s", (int)w->path_n, w->path);
		close(fd);
		return -1;
	}
	if ((via_link && is_ancestor(w, &st)) || (w->how.one_file_system && elsewhere(w, &st)) || beyond(w, &st) || is_marked(fd, r)) {
		close(fd);
		return 0;
	}
	if (w->depth > WALK_DEPTH_MAX) {
		close(fd);
		return depth_limit(w, e);
	}
	w->path[w->path_n++] = '/';
	push(w, fd, &st);
	return 0;
}

static int
directory(struct walk *w, struct run *r, struct level *l, const char *name, struct err *e)
{
	bool fits = filter_dir(r->filter, w->path + w->rel_off, w->path_n - w->rel_off) == FILTER_YES;
	int fd, rc;

	/* Only where directories are reported do they count as listed. */
	if (wants(r, FILE_DIR)) {
		rc = run_listed(r, e) ? RUN_FAILED : RUN_GO_ON;
		if (!rc && fits)
			rc = itself(w, r, l, name, FILE_DIR, e);
		else if (!rc)
			run_skipped(r);
		if (rc)
			return rc;
	}
	if (!fits || !may_enter(w))
		return 0;
	fd = beneath_open(l->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, false);
	/* Gone, or made a link or a file since the name was read: not a directory of this listing. */
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return 0;
	if (fd < 0)
		return below_error(w, r, NULL, e);
	return enter(w, r, fd, false, e);
}

static int
link_to_directory(struct walk *w, struct run *r, struct level *l, const char *name, struct err *e)
{
	int fd;

	if (w->how.follow != FOLLOW_ALL || !may_enter(w) ||
	    filter_dir(r->filter, w->path + w->rel_off, w->path_n - w->rel_off) != FILTER_YES) {
		run_skipped(r);
		return 0;
	}
	fd = open_link(w, l, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return below_error(w, r, w->target, e);
	run_skipped(r);
	return enter(w, r, fd, true, e);
}

static int
link_to_file(struct walk *w, struct run *r, struct level *l, const char *name, int fd, struct err *e)
{
	struct statx st;

	if (!wants(r, FILE_PLAIN) || !name_matches(w, r) || !companions_allow(w, r, l, name)) {
		run_skipped(r);
		return 0;
	}
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &st) < 0)
		return below_error(w, r, w->target, e);
	if (beyond(w, &st)) {
		errno = EXDEV;
		return below_error(w, r, w->target, e);
	}
	return report(w, r, FILE_PLAIN, fd, &st, w->target, e);
}

static int
symlink_entry(struct walk *w, struct run *r, struct level *l, const char *name, struct err *e)
{
	struct statx st;
	ssize_t n;
	int fd, rc;

	if (wants(r, FILE_LINK))
		return itself(w, r, l, name, FILE_LINK, e);
	if (w->how.follow == FOLLOW_NEVER || (w->how.follow == FOLLOW_FILES && !name_matches(w, r))) {
		run_skipped(r);
		return 0;
	}
	n = readlinkat(l->fd, name, w->target, sizeof(w->target) - 1);
	/* EINVAL: it was made something else since its name was read. */
	if (n <= 0) {
		if (!n || errno == EINVAL)
			errno = ENOENT;
		return below_error(w, r, NULL, e);
	}
	w->target[n] = '\0';
	fd = open_link(w, l, name, O_PATH);
	if (fd < 0)
		return below_error(w, r, w->target, e);
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0) {
		rc = below_error(w, r, w->target, e);
	} else if (S_ISREG(st.stx_mode)) {
		rc = link_to_file(w, r, l, name, fd, e);
	} else if (S_ISDIR(st.stx_mode)) {
		close(fd);
		return link_to_directory(w, r, l, name, e);
	} else {
		run_skipped(r);
		rc = 0;
	}
	close(fd);
	return rc;
}

static int
type_of(struct level *l, const char *name)
{
	struct statx st;

	if (statx(l->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0)
		return -1;
	return (st.stx_mode & S_IFMT) >> 12;    /* as d_type has it */
}

static int
entry(struct walk *w, struct run *r, struct level *l, const char *name, int type, struct err *e)
{
	w->name = name;
	if (!name_path(w, l, name)) {
		if (run_listed(r, e))
			return -1;
		return run_unreadable(r, w->path, w->path_n, "the path is too long", e);
	}
	if (type == TYPE_UNKNOWN && (type = type_of(l, name)) < 0) {
		if (run_listed(r, e))
			return -1;
		return below_error(w, r, NULL, e);
	}
	if (type == TYPE_DIR)
		return run_turn(r, e) ? -1 : directory(w, r, l, name, e);
	if (run_listed(r, e))
		return -1;
	if (type == TYPE_REG)
		return itself(w, r, l, name, FILE_PLAIN, e);
	if (type == TYPE_LNK)
		return symlink_entry(w, r, l, name, e);
	run_skipped(r);
	return 0;
}

/* A level that the window closed, at its place again. 1: not to be had any more, and said so. */
static int
reopen(struct walk *w, struct run *r, struct level *l, struct err *e)
{
	struct statx st;
	size_t at = w->root_n + 1;

	w->path_n = l->path_n;
	/* without the '/' at its end */
	l->fd = beneath_open_long(w->root_fd, w->path + at, l->path_n - at - 1, O_RDONLY | O_DIRECTORY, follows(w));
	if (l->fd >= 0 && statx(l->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) == 0 && st.stx_ino == l->ino &&
	    device(&st) == l->dev &&
	    lseek(l->fd, l->offset, SEEK_SET) >= 0) {
		l->buf = xmalloc(WALK_BUFFER);
		l->pos = l->n = 0;
		return 0;
	}
	if (l->fd < 0 && (errno == EMFILE || errno == ENFILE || errno == EIO || errno == ESTALE))
		return below_error(w, r, NULL, e);
	w->path_n = l->path_n - 1;
	return run_unreadable(r, w->path, w->path_n, "moved or removed while it was listed", e) ? -1 : 1;
}

/* The buffer's next part of the directory: 1, 0 at its end, -1. */
static int
fill(struct walk *w, struct run *r, struct level *l, struct err *e)
{
	long n;
	int rc;

	if (l->fd < 0) {
		rc = reopen(w, r, l, e);
		if (rc)
			return rc < 0 ? -1 : 0;
	}
	if (!l->buf)
		l->buf = xmalloc(WALK_BUFFER);
	n = syscall(SYS_getdents64, l->fd, l->buf, WALK_BUFFER);
	if (n >= 0) {
		l->pos = 0;
		l->n = (size_t)n;
		return n > 0;
	}
	w->path_n = l->path_n - 1;
	/* Removed while it was open: it has no more entries. */
	if (errno == ENOENT)
		return 0;
	if (w->depth == 1 && (errno == EACCES || errno == EPERM))
		return err_errno(e, ERR_AUTH, "%.*s", (int)w->path_n, w->path);
	return below_error(w, r, NULL, e) ? -1 : 0;
}

static bool
dot_or_dotdot(const char *s)
{
	return s[0] == '.' && (!s[1] || (s[1] == '.' && !s[2]));
}

/* The deepest level's next entry. */
static int
step(struct walk *w, struct run *r, struct err *e)
{
	struct level *l = &w->levels[w->depth - 1];
	const struct raw_entry *d;
	int rc;

	if (l->pos >= l->n) {
		rc = fill(w, r, l, e);
		if (rc < 0)
			return -1;
		if (!rc) {
			pop(w);
			return 0;
		}
	}
	d = (const struct raw_entry *)(const void *)(l->buf + l->pos);
	l->pos += d->len;
	l->offset = d->offset;
	return dot_or_dotdot(d->name) ? 0 : entry(w, r, l, d->name, d->type, e);
}

int
walk_list(struct walk *w, struct run *r, struct err *e)
{
	int rc = 0;

	/* The source's own path may be one that is passed over. */
	if (!w->single && is_marked(w->levels[0].fd, r))
		return 0;
	if (w->single)
		rc = entry(w, r, &w->levels[0], w->single_name, TYPE_UNKNOWN, e);
	else
		while (w->depth && !rc)
			rc = step(w, r, e);
	looks_end(w);
	return rc == RUN_STOP ? 0 : rc;
}
