/*
 * sftp_list.c - lists a tree over one SFTP channel with many requests under way, so that a round trip does not cost a
 * directory: dozens of directories open at once, several READDIRs for each.
 *
 * sftp.c calls it with the root's path. What the job wants is tree.c's to say; here is only what the server must be
 * asked, in which order, and when a directory is whole: it has been read up to the status EOF, and nothing of it is
 * under way. Everything a server can make grow (requests, links that wait) is bounded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/again.h"
#include "worker/source/sftp.h"
#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define OPEN_MAX 48             /* directories at once */
#define READS_MAX 144           /* READDIRs under way, shared by the open directories */
#define READS_FEWEST 2          /* for one of many; ... */
#define READS_MOST 16           /* ... and for a lone one */
#define LINKS_MAX 512           /* questions about links that may wait before no more names are asked for */
#define EMPTY_MAX 8             /* replies in a row that hold no name */
#define QUESTION_BYTES_MAX (8 << 20)
#define ROOM 64                 /* requests left for CLOSE and links */

struct folder {                 /* a directory being read; tree.c frees it as the data of its tree_dir */
	struct tree_dir *dir;
	bool alone;             /* no other was open when it was asked for */
	bool opened, ended, failed;
	unsigned reads;         /* READDIRs under way */
	unsigned questions;     /* links and types of it that are still asked */
	unsigned empty;
	struct again repeats;
	enum err_class cls;     /* failed: why */
	size_t handle_n;
	char handle[SFTP_HANDLE_MAX];
	char reason[128];
};

enum question_step { ASK_TYPE, ASK_ATTRS, LINK_SELF, LINK_STAT, LINK_READ, LINK_REAL, ASK_NOTHING };

/* Something about one name that its directory did not tell. */
struct question {
	struct question *next;
	struct folder *folder;
	enum question_step step;
	enum entry_type type;   /* of the name, or of what a link leads to */
	struct sftp_name name;  /* its texts are in text */
	size_t target_n;
	char *target;
	char text[];
};

struct listing {
	struct sftp_place *place;
	struct conn *c;
	struct run *run;
	struct tree *tree;
	struct folder *open[OPEN_MAX];
	unsigned n_open;
	unsigned limit;         /* so many of them; fewer where the server has few handles */
	unsigned handles;       /* how many the server had given when it refused one more */
	const struct folder *trial;     /* asked for alone; the others wait for its reply */
	unsigned reads;
	bool lstat;             /* stat_mode: files are asked for one by one */
	struct question *first, **last;         /* those that wait for their turn */
	unsigned questions;     /* all: waiting and under way */
	size_t question_bytes;
};

/* ---- what is reported ----------------------------------------------------------------------- */

static const char *
permissions(uint32_t mode, char out[10])
{
	static const char letters[] = "rwxrwxrwx";

	for (int i = 0; i < 9; i++)
		out[i] = mode & (0400U >> i) ? letters[i] : '-';
	if (mode & S_ISUID)
		out[2] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		out[5] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		out[8] = mode & S_IXOTH ? 't' : 'T';
	out[9] = '\0';
	return out;
}

static void
put_str(struct entry *en, enum source_attr id, const char *s)
{
	entry_attr_str(en, id, s, strlen(s));
}

static void
put_place(struct entry *en, const struct sftp_place *p, const struct run *r)
{
	put_str(en, SA_SFTP_HOST, run_str(r, SF_SFTP_HOST));
	entry_attr_int(en, SA_SFTP_PORT, run_int(r, SF_SFTP_PORT));
	put_str(en, SA_SFTP_USERNAME, run_str(r, SF_SFTP_USERNAME));
	put_str(en, SA_SFTP_PATH, *run_str(r, SF_COMMON_PATH) ? run_str(r, SF_COMMON_PATH) : ".");
	entry_attr_str(en, SA_SFTP_REALPATH, p->real, p->real_n);
	put_str(en, SA_SFTP_HOST_KEY_FINGERPRINT, ssh_host_fingerprint(p->conn->ssh));
	put_str(en, SA_SFTP_SERVER_BANNER, ssh_banner(p->conn->ssh));
}

struct shown { char mode[48], permissions[10], atime[UNITS_TEXT], mtime[UNITS_TEXT]; };

static void
put_attrs(struct entry *en, const struct sftp_name *n, struct shown *t)
{
	const struct sftp_attrs *a = &n->attrs;
	const char *owner, *group;
	size_t owner_n, group_n;

	if (a->flags & SFTP_HAS_IDS) {
		entry_attr_int(en, SA_SFTP_UID, a->uid);
		entry_attr_int(en, SA_SFTP_GID, a->gid);
	}
	if (sftp_longname_owners(n, &owner, &owner_n, &group, &group_n)) {
		entry_attr_str(en, SA_SFTP_OWNER, owner, owner_n);
		entry_attr_str(en, SA_SFTP_GROUP, group, group_n);
	}
	if (a->flags & SFTP_HAS_MODE) {
		walk_mode_text(a->mode, t->mode);
		put_str(en, SA_SFTP_MODE, t->mode);
		put_str(en, SA_SFTP_PERMISSIONS, permissions(a->mode, t->permissions));
	}
	if (a->flags & SFTP_HAS_TIMES) {
		units_time_text(a->atime * INT64_C(1000000000), 0, t->atime);
		units_time_text(a->mtime * INT64_C(1000000000), 0, t->mtime);
		put_str(en, SA_SFTP_ATIME, t->atime);
		put_str(en, SA_SFTP_MTIME, t->mtime);
	}
	put_str(en, SA_SFTP_TYPE, en->type == ENTRY_DIR ? "dir" : en->type == ENTRY_LINK || en->rec.is_symlink ? "symlink" : "file");
	entry_attr_str(en, SA_SFTP_LONGNAME, n->longname, n->longname_n);
}

/* Size, time and source{} of a file. t: room for texts, which must live until it was reported. */
static void
fill_entry(struct entry *en, const struct sftp_place *p, const struct run *r, const struct sftp_name *n, struct shown *t)
{
	const struct sftp_attrs *a = &n->attrs;

	if (a->flags & SFTP_HAS_SIZE && a->size <= INT64_MAX)
		en->rec.size = (int64_t)a->size;
	if (a->flags & SFTP_HAS_TIMES) {
		en->rec.mtime_ns = a->mtime * INT64_C(1000000000);
		en->rec.precision = MTIME_S;
	}
	put_place(en, p, r);
	put_attrs(en, n, t);
}

static int
report(struct listing *l, struct folder *f, struct entry *en, const struct sftp_name *n, struct err *e)
{
	struct shown t;

	fill_entry(en, l->place, l->run, n, &t);
	return tree_report(l->tree, f->dir, en, e) == RUN_FAILED ? -1 : 0;
}

/* ---- questions about single names ----------------------------------------------------------- */

static size_t
question_cost(const struct sftp_name *n)
{
	return sizeof(struct question) + n->name_n + n->longname_n;
}

static void
question_free(struct listing *l, struct question *q)
{
	q->folder->questions--;
	l->questions--;
	l->question_bytes -= question_cost(&q->name);
	free(q->target);
	free(q);
}

static void
enqueue(struct listing *l, struct question *q)
{
	q->next = NULL;
	*l->last = q;
	l->last = &q->next;
}

static int
question_new(struct listing *l, struct folder *f, enum question_step step, enum entry_type type, const struct sftp_name *n, struct err *e)
{
	struct question *q;

	l->question_bytes += question_cost(n);
	if (l->question_bytes > QUESTION_BYTES_MAX)
		return err_set(e, ERR_LIMIT, "the SFTP server sends names of links faster than they can be followed: more than %d MiB of them",
		    QUESTION_BYTES_MAX >> 20);
	q = xcalloc(1, question_cost(n));
	q->folder = f;
	q->step = step;
	q->type = type;
	q->name = *n;
	memcpy(q->text, n->name, n->name_n);
	memcpy(q->text + n->name_n, n->longname, n->longname_n);
	q->name.name = q->text;
	q->name.longname = q->text + n->name_n;
	f->questions++;
	l->questions++;
	enqueue(l, q);
	return 0;
}

static void
question_path(const struct question *q, struct buf *path)
{
	const struct tree_dir *d = q->folder->dir;

	buf_add(path, d->path, d->path_n);
	if (d->path_n && d->path[d->path_n - 1] != '/')
		buf_putc(path, '/');
	buf_add(path, q->name.name, q->name.name_n);
}

static void
ask_question(struct listing *l, struct question *q)
{
	static const enum sftp_op ops[] = { [ASK_TYPE] = SFTP_LSTAT, [ASK_ATTRS] = SFTP_LSTAT, [LINK_SELF] = SFTP_READLINK,
		[LINK_STAT] = SFTP_STAT, [LINK_READ] = SFTP_READLINK, [LINK_REAL] = SFTP_REALPATH };
	struct buf path = BUF_INIT;

	question_path(q, &path);
	sftp_wire_ask(&l->c->wire, ops[q->step], path.p, path.len, q);
	buf_release(&path);
}

static int
name_listed(struct listing *l, struct folder *f, const struct sftp_name *n, struct err *e);

/* Nothing is known of what the name is: it is named, unless it is only gone. */
static int
unanswered(struct listing *l, struct question *q, const struct sftp_reply *r, struct err *e)
{
	enum err_class cls = sftp_status_class(r->status);
	struct buf path = BUF_INIT;
	char reason[128];
	int rc = 0;

	question_path(q, &path);
	if (cls == ERR_TRANSIENT || cls == ERR_PROTOCOL) {
		rc = sftp_refused(r, path.p, path.len, e);
	} else if (cls != ERR_NOT_FOUND) {
		snprintf(reason, sizeof(reason), "%s: %s", sftp_op_name(r->op), sftp_status_text(r->status));
		rc = run_unreadable(l->run, path.p, path.len, reason, e);
	}
	buf_release(&path);
	return rc;
}

static void
put_target(struct entry *en, const struct question *q)
{
	if (!q->target)
		return;
	en->rec.link_target = q->target;
	en->rec.link_target_n = q->target_n;
	entry_attr_str(en, SA_SFTP_LINK_TARGET, q->target, q->target_n);
}

/* A link is known now as far as the job needs it. */
static int
link_known(struct listing *l, struct question *q, const char *real, size_t real_n, struct err *e)
{
	struct entry en;
	struct shown t;

	entry_init(&en, q->name.name, q->name.name_n, q->type);
	en.rec.is_symlink = true;
	put_target(&en, q);
	if (q->type == ENTRY_FILE)
		fill_entry(&en, l->place, l->run, &q->name, &t);
	return tree_link(l->tree, q->folder->dir, &en, real, real_n, e) == RUN_FAILED ? -1 : 0;
}

static int
link_stat(struct listing *l, struct question *q, const struct sftp_reply *r, struct err *e)
{
	q->type = ENTRY_OTHER;
	if (r->status != SFTP_OK) {
		/* One that leads nowhere, or in a circle, is no news. */
		if (sftp_status_class(r->status) != ERR_PERMANENT && unanswered(l, q, r, e))
			return -1;
		return link_known(l, q, NULL, 0, e);
	}
	if (r->attrs.flags & SFTP_HAS_MODE)
		q->type = sftp_mode_type(r->attrs.mode);
	/* The file's own size and time; owner and mode are the file's, too, as with stat(2). */
	q->name.attrs = r->attrs;
	if (q->type == ENTRY_OTHER || q->type == ENTRY_LINK)
		return link_known(l, q, NULL, 0, e);
	q->step = LINK_READ;
	enqueue(l, q);
	return 1;
}

/* The only name of a READLINK's or REALPATH's reply; NULL where it was refused. -1: malformed. */
static int
only_name(struct sftp_reply *r, const char **p, size_t *n, struct err *e)
{
	struct sftp_name name;

	*p = NULL;
	*n = 0;
	if (r->status != SFTP_OK)
		return 0;
	if (sftp_reply_name(r, &name, e) != 1)
		return -1;
	*p = name.name;
	*n = name.name_n;
	return 0;
}

/* The reply to READLINK */
static int
keep_target(struct question *q, struct sftp_reply *r, struct err *e)
{
	const char *p;
	size_t n;

	if (only_name(r, &p, &n, e))
		return -1;
	if (n && n <= RECORD_PATH_MAX && !memchr(p, '\0', n)) {
		q->target = xmemdup0(p, n);
		q->target_n = n;
	}
	return 0;
}

static int
link_read(struct listing *l, struct question *q, struct sftp_reply *r, struct err *e)
{
	if (keep_target(q, r, e))
		return -1;
	if (q->type == ENTRY_FILE || run_int(l->run, SF_COMMON_FOLLOW_SYMLINKS) != FOLLOW_ALL)
		return link_known(l, q, NULL, 0, e);
	q->step = LINK_REAL;
	enqueue(l, q);
	return 1;
}

static int
link_real(struct listing *l, struct question *q, struct sftp_reply *r, struct err *e)
{
	const char *p;
	size_t n;

	if (only_name(r, &p, &n, e))
		return -1;
	/* Without it a loop would only be found when it repeats. */
	if (n && (p[0] != '/' || memchr(p, '\0', n)))
		p = NULL;
	return link_known(l, q, p, p ? n : 0, e);
}

/* From the mode; where the server tells none, from the first letter of a line like that of ls -l. */
static bool
type_of(const struct sftp_name *n, enum entry_type *type)
{
	const char *p;
	size_t len;

	if (n->attrs.flags & SFTP_HAS_MODE && n->attrs.mode & S_IFMT) {
		*type = sftp_mode_type(n->attrs.mode);
		return true;
	}
	*type = ENTRY_OTHER;
	if (!sftp_longname_owners(n, &p, &len, &p, &len))
		return false;
	*type = *n->longname == '-' ? ENTRY_FILE : *n->longname == 'd' ? ENTRY_DIR : *n->longname == 'l' ? ENTRY_LINK : ENTRY_OTHER;
	return true;
}

static int
type_untold(struct listing *l, const struct question *q, struct err *e)
{
	struct buf path = BUF_INIT;
	int rc;

	question_path(q, &path);
	rc = run_listed(l->run, e) || run_unreadable(l->run, path.p, path.len, "the server does not tell what it is", e) ? -1 : 0;
	buf_release(&path);
	return rc;
}

static int
lstat_known(struct listing *l, struct question *q, const struct sftp_reply *r, struct err *e)
{
	enum entry_type type;
	struct entry en;

	if (r->status != SFTP_OK)
		return unanswered(l, q, r, e);
	q->name.attrs = r->attrs;
	if (q->step == ASK_TYPE) {
		/* Asked once: what a server does not tell even here is nothing that could be passed over. */
		return type_of(&q->name, &type) ? name_listed(l, q->folder, &q->name, e) : type_untold(l, q, e);
	}
	entry_init(&en, q->name.name, q->name.name_n, q->type);
	return report(l, q->folder, &en, &q->name, e);
}

/* A link that is reported as itself; without what it holds where the server does not tell. */
static int
link_self(struct listing *l, struct question *q, struct sftp_reply *r, struct err *e)
{
	struct entry en;

	if (keep_target(q, r, e))
		return -1;
	entry_init(&en, q->name.name, q->name.name_n, ENTRY_LINK);
	put_target(&en, q);
	return report(l, q->folder, &en, &q->name, e);
}

static int
answered(struct listing *l, struct question *q, struct sftp_reply *r, struct err *e)
{
	int rc = 0;

	switch (tree_stopped(l->tree) ? ASK_NOTHING : q->step) {
	case ASK_NOTHING: break;
	case LINK_SELF: rc = link_self(l, q, r, e); break;
	case LINK_STAT: rc = link_stat(l, q, r, e); break;
	case LINK_READ: rc = link_read(l, q, r, e); break;
	case LINK_REAL: rc = link_real(l, q, r, e); break;
	default: rc = lstat_known(l, q, r, e);
	}
	/* 1: it was put back with its next step. */
	if (rc <= 0)
		question_free(l, q);
	return rc < 0 ? -1 : 0;
}

/* ---- names ---------------------------------------------------------------------------------- */

static int
name_listed(struct listing *l, struct folder *f, const struct sftp_name *n, struct err *e)
{
	const uint32_t needed = SFTP_HAS_SIZE | SFTP_HAS_TIMES;
	struct entry en;
	enum entry_type type;

	if (!type_of(n, &type))
		return question_new(l, f, ASK_TYPE, ENTRY_OTHER, n, e);
	entry_init(&en, n->name, n->name_n, type);
	switch (tree_ask(l->tree, f->dir, &en, e)) {
	case TREE_FAILED:
		return -1;
	case TREE_RESOLVE:
		return question_new(l, f, LINK_STAT, ENTRY_OTHER, n, e);
	case TREE_YES:
		if (type == ENTRY_LINK)
			return question_new(l, f, LINK_SELF, type, n, e);
		if ((n->attrs.flags & needed) == needed && !l->lstat)
			return report(l, f, &en, n, e);
		return question_new(l, f, ASK_ATTRS, type, n, e);
	default:
		return 0;
	}
}

static bool
is_dots(const struct sftp_name *n)
{
	return n->name_n && n->name[0] == '.' && (n->name_n == 1 || (n->name_n == 2 && n->name[1] == '.'));
}

static int
names_came(struct listing *l, struct folder *f, struct sftp_reply *r, struct err *e)
{
	struct sftp_name n;
	int rc;

	f->empty = r->names ? 0 : f->empty + 1;
	if (f->empty > EMPTY_MAX)
		return err_set(e, ERR_PROTOCOL, "the SFTP server answers READDIR without names and without an end");
	while ((rc = sftp_reply_name(r, &n, e)) == 1) {
		/* Stopped by max_files: what is under way comes in, and is let go. */
		if (tree_stopped(l->tree) || is_dots(&n))
			continue;
		if (again_begins(&f->repeats, n.name, n.name_n))
			return err_set(e, ERR_LISTING_LOOP, "the SFTP server sends the same names of %.*s again and again", (int)(f->dir->path_n < 300 ? f->dir->path_n : 300), f->dir->path);
		if (name_listed(l, f, &n, e))
			return -1;
	}
	return rc;
}

/* ---- directories ---------------------------------------------------------------------------- */

static void
forget(struct listing *l, struct folder *f)
{
	for (unsigned i = 0; i < l->n_open; i++)
		if (l->open[i] == f) {
			l->open[i] = l->open[--l->n_open];
			return;
		}
	BUG("a directory that is not open was closed");
}

static int
refuse(struct listing *l, struct tree_dir *d, const struct folder *f, struct err *e)
{
	struct buf text = BUF_INIT;
	int rc;

	/* The root's is the whole listing's error, and names its path. */
	if (!d->depth) {
		escape_term(&text, d->path, d->path_n > 400 ? 400 : d->path_n);
		buf_puts(&text, ": ");
	}
	buf_puts(&text, f->reason);
	rc = tree_dir_refused(l->tree, d, f->cls, buf_str(&text), e);
	buf_release(&text);
	return rc;
}

/* Read to its end and nothing of it under way: the tree's verdict, and the handle back. */
static int
settle(struct listing *l, struct folder *f, struct err *e)
{
	struct tree_dir *d = f->dir;

	if (f->reads || f->questions || !(f->failed || f->ended || (f->opened && tree_stopped(l->tree))))
		return 0;
	if (f->opened)
		sftp_wire_ask(&l->c->wire, SFTP_CLOSE, f->handle, f->handle_n, NULL);
	forget(l, f);
	return f->failed ? refuse(l, d, f, e) : tree_dir_done(l->tree, d, e);
}

static void
start(struct listing *l, struct tree_dir *d)
{
	struct folder *f = xcalloc(1, sizeof(*f));

	free(d->data);
	d->data = f;
	f->dir = d;
	f->alone = !l->n_open;
	l->trial = d->tries ? f : NULL;
	l->open[l->n_open++] = f;
	sftp_wire_ask(&l->c->wire, SFTP_OPENDIR, d->path, d->path_n, f);
}

static bool
room(const struct listing *l)
{
	return l->c->wire.under_way < SFTP_UNDER_WAY_MAX - ROOM;
}

/* More names of one directory, as many requests as are worth it now. */
static void
read_on(struct listing *l, struct folder *f)
{
	unsigned want = READS_MAX / l->n_open;

	if (!f->opened || f->ended || f->failed || l->questions > LINKS_MAX || tree_stopped(l->tree))
		return;
	want = want < READS_FEWEST ? READS_FEWEST : want > READS_MOST ? READS_MOST : want;
	/* All but the first may turn out to be too many, and each takes a turn. */
	if (pace_on(l->run))
		want = 1;
	while (f->reads < want && room(l)) {
		sftp_wire_ask(&l->c->wire, SFTP_READDIR, f->handle, f->handle_n, f);
		f->reads++;
	}
}

/* Keeps the channel busy. */
static void
fill(struct listing *l)
{
	struct tree_dir *d;

	while (l->first && room(l)) {
		struct question *q = l->first;

		l->first = q->next;
		if (!l->first)
			l->last = &l->first;
		ask_question(l, q);
	}
	while (l->n_open < l->limit && room(l) && !l->trial && (d = tree_next(l->tree))) {
		if (d->tries && l->n_open) {
			tree_dir_again(l->tree, d);
			break;
		}
		start(l, d);
	}
	for (unsigned i = 0; i < l->n_open; i++)
		read_on(l, l->open[i]);
}

/* FAILURE may mean that the server has no more handles: the directory is tried once more when no other is open, and if it
 * opens then, no more are held open from there on than the server had given. */
static bool
try_alone(struct listing *l, struct folder *f, const struct sftp_reply *r)
{
	struct tree_dir *d = f->dir;

	if (r->status != SFTP_FAILURE || f->alone)
		return false;
	d->tries++;
	l->handles = 0;
	for (unsigned i = 0; i < l->n_open; i++)
		l->handles += l->open[i]->opened;
	forget(l, f);
	tree_dir_again(l->tree, d);
	return true;
}

static void
fail_folder(struct folder *f, const struct sftp_reply *r)
{
	struct buf words = BUF_INIT;

	escape_term(&words, r->text, r->text_n > 60 ? 60 : r->text_n);
	f->failed = true;
	f->cls = sftp_status_class(r->status);
	snprintf(f->reason, sizeof(f->reason), "%s: %s%s%s", sftp_op_name(r->op), sftp_status_text(r->status), words.len ? ": " : "",
	    buf_str(&words));
	buf_release(&words);
}

static int
opened(struct listing *l, struct folder *f, const struct sftp_reply *r, struct err *e)
{
	if (l->trial == f)
		l->trial = NULL;
	if (r->status == SFTP_OK) {
		f->opened = true;
		f->handle_n = r->handle_n;
		memcpy(f->handle, r->handle, r->handle_n);
		if (f->dir->tries && l->handles < l->limit)
			l->limit = l->handles ? l->handles : 1;
		return settle(l, f, e);
	}
	if (try_alone(l, f, r))
		return 0;
	fail_folder(f, r);
	return settle(l, f, e);
}

static int
was_read(struct listing *l, struct folder *f, struct sftp_reply *r, struct err *e)
{
	f->reads--;
	if (r->status == SFTP_EOF)
		f->ended = true;
	else if (r->status != SFTP_OK)
		fail_folder(f, r);
	else if (names_came(l, f, r, e))
		return -1;
	return settle(l, f, e);
}

static int
handle(struct listing *l, struct sftp_reply *r, struct err *e)
{
	struct question *q;
	struct folder *f;

	switch (r->op) {
	case SFTP_OPENDIR:
		return opened(l, r->arg, r, e);
	case SFTP_READDIR:
		return was_read(l, r->arg, r, e);
	case SFTP_CLOSE:
		return 0;
	default:
		q = r->arg;
		f = q->folder;
		return answered(l, q, r, e) ? -1 : settle(l, f, e);
	}
}

/* ---- the loop ------------------------------------------------------------------------------- */

static int
replies(struct listing *l, struct err *e)
{
	struct sftp_reply r;
	int rc;

	while ((rc = sftp_wire_next(&l->c->wire, &r, e)) == 1)
		if (handle(l, &r, e))
			return -1;
	return rc;
}

/* max_files was reached: directories of which nothing is under way have no reply to wait for. */
static int
stop(struct listing *l, struct err *e)
{
	if (!tree_stopped(l->tree))
		return 0;
	for (unsigned i = l->n_open; i-- > 0;)
		if (settle(l, l->open[i], e))
			return -1;
	return 0;
}

static int
loop(struct listing *l, struct err *e)
{
	l->c->busy = true;
	for (;;) {
		fill(l);
		if (!l->n_open && !l->c->wire.under_way)
			return 0;
		if (sftp_turn(l->c, l->run, e) || replies(l, e) || stop(l, e))
			return -1;
	}
}

/* After a failure: what is still open goes back to the tree, which frees it. */
static void
abandon(struct listing *l)
{
	struct err ignored = ERR_INIT;
	struct question *q;

	while ((q = l->first)) {
		l->first = q->next;
		question_free(l, q);
	}
	for (size_t i = 0; i < SFTP_UNDER_WAY_MAX; i++) {
		const struct sftp_request *w = &l->c->wire.requests[i];

		if (w->busy && w->op >= SFTP_REALPATH && w->arg)
			question_free(l, w->arg);
	}
	while (l->n_open)
		tree_dir_refused(l->tree, l->open[--l->n_open]->dir, ERR_NOT_FOUND, "", &ignored);
}

int
sftp_list_tree(struct sftp_place *p, struct run *r, struct err *e)
{
	struct listing l = { .place = p, .c = p->conn, .run = r, .limit = OPEN_MAX };
	int rc;

	l.lstat = run_int(r, SF_SFTP_STAT_MODE);
	l.last = &l.first;
	l.tree = tree_new(r, p->real, p->real_n, e);
	if (!l.tree)
		return -1;
	rc = loop(&l, e);
	abandon(&l);
	tree_free(l.tree);
	return rc;
}

/* ---- one file ------------------------------------------------------------------------------- */

/* done_file and in_progress_suffixes ask for names beside it. */
static int
ask_beside(struct listing *l, struct tree_dir *d, struct buf *path, struct err *e)
{
	const char *slash = memrchr(path->p, '/', path->len);
	size_t at = (size_t)(slash - path->p) + 1;
	struct sftp_reply r;
	struct entry en;

	if (sftp_ask(l->c, l->run, SFTP_LSTAT, path->p, path->len, &r, e))
		return -1;
	if (r.status != SFTP_OK)
		return 0;
	entry_init(&en, path->p + at, path->len - at, ENTRY_OTHER);
	return tree_ask(l->tree, d, &en, e) == TREE_FAILED ? -1 : 0;
}

static int
companions(struct listing *l, struct tree_dir *d, const char *name, size_t n, struct err *e)
{
	const struct strlist *suffixes = &l->run->task->filter.in_progress_suffixes;
	struct buf path = BUF_INIT, done = BUF_INIT;
	int rc = 0;

	if (filter_done_name(l->run->filter, name, n, &done)) {
		buf_add(&path, l->place->real, l->place->real_n - n);
		buf_add(&path, done.p, done.len);
		rc = ask_beside(l, d, &path, e);
	}
	for (size_t i = 0; i < suffixes->n && !rc; i++) {
		buf_clear(&path);
		buf_add(&path, l->place->real, l->place->real_n);
		buf_puts(&path, suffixes->v[i]);
		rc = ask_beside(l, d, &path, e);
	}
	buf_release(&path);
	buf_release(&done);
	return rc;
}

static int
one_file(struct listing *l, struct tree_dir *d, const struct sftp_name *n, struct err *e)
{
	struct entry en;
	struct shown t;

	if (tree_holds(l->tree) && companions(l, d, n->name, n->name_n, e))
		return -1;
	entry_init(&en, n->name, n->name_n, ENTRY_FILE);
	fill_entry(&en, l->place, l->run, n, &t);
	return tree_entry(l->tree, d, &en, e) == TREE_FAILED ? -1 : 0;
}

int
sftp_list_file(struct sftp_place *p, struct run *r, const struct sftp_attrs *a, struct err *e)
{
	struct listing l = { .place = p, .c = p->conn, .run = r };
	const char *slash = memrchr(p->real, '/', p->real_n);
	size_t dir_n = (size_t)(slash - p->real);
	struct sftp_name n = { .name = slash + 1, .name_n = p->real_n - dir_n - 1, .longname = "", .attrs = *a };
	struct err ignored = ERR_INIT;
	struct tree_dir *d;
	int rc;

	l.tree = tree_new(r, p->real, dir_n ? dir_n : 1, e);
	if (!l.tree)
		return -1;
	tree_one_file(l.tree);
	d = tree_next(l.tree);
	rc = one_file(&l, d, &n, e);
	if (!rc)
		rc = tree_dir_done(l.tree, d, e);
	else
		tree_dir_refused(l.tree, d, ERR_NOT_FOUND, "", &ignored);
	tree_free(l.tree);
	return rc;
}
