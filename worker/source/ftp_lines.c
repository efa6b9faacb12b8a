/*
 * ftp_lines.c - from the bytes of a listing to entries for the tree.
 *
 * A line is taken only when the line after it has come: one that is nothing a listing has is the rest of a name with a
 * line break, and the entry before it, whose name is then cut, is named as unreadable instead of being invented. Where
 * LIST's zone is still unknown, the first directory's lines wait until MDTM of one of its files told. Called by libcurl
 * through ftp_control.c, and by ftp.c between transfers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/ftp_conn.h"
#include "common/banned.h"

#define LINE_MAX_BYTES (RECORD_PATH_MAX + 1024)
#define DEFERRED_MAX (256 << 10)        /* bytes of lines that wait for the zone */
#define PENDING_MAX (8 << 20)           /* bytes of lines that wait to be asked about */
#define BROKEN_MAX 4096                 /* bytes kept of a name with line breaks */
#define ZONE_FILES 3                    /* files whose MDTM is asked */
#define NS INT64_C(1000000000)

static int
fail(struct ftp_control *ctl, enum err_class cls, const char *why, const char *p, size_t n)
{
	struct buf b = BUF_INIT;

	escape_term(&b, ctl->c->url, strlen(ctl->c->url) - 1);
	escape_term(&b, ctl->dir->path, ctl->dir->path_n < 300 ? ctl->dir->path_n : 300);
	buf_printf(&b, ": %s: %s", ftp_list_verb(ctl->c), why);
	if (p) {
		buf_puts(&b, ": \"");
		escape_term(&b, p, n < 200 ? n : 200);
		buf_puts(&b, n < 200 ? "\"" : "...\"");
	}
	err_set(&ctl->why, cls, "%s", buf_str(&b));
	buf_release(&b);
	return -1;
}

/* ---- one entry ---- */

static enum ftp_line
parse(struct ftp_control *ctl, const char *p, size_t n, bool first, struct ftp_entry *en, const char **why)
{
	if (ctl->c->mlsd)
		return ftp_mlsd_line(p, n, en, why);
	return ftp_list_line(p, n, first, ctl->c->run->task->now_ns, &ctl->format, en, why);
}

/* The year was guessed by the server's clock, which the zone has moved. */
static int64_t
entry_time(const struct conn *c, const struct ftp_entry *en)
{
	if (en->mtime_ns == TIME_UNKNOWN || en->utc || en->precision == MTIME_DAY)
		return en->mtime_ns;
	return en->mtime_ns - c->east * NS;
}

static int64_t
id_of(struct ftp_text t)
{
	int64_t v = 0;

	if (!t.n || t.n > 15)
		return -1;
	for (size_t i = 0; i < t.n; i++)
		v = v * 10 + (t.p[i] - '0');
	return v;
}

static void
attr(struct entry *out, enum source_attr id, struct ftp_text t)
{
	entry_attr_str(out, id, t.p, t.n);
}

struct room { char mode[48], permissions[10]; };

static void
put_mode(struct entry *out, const struct ftp_entry *en, struct room *room)
{
	if (en->mode < 0)
		return;
	walk_mode_text((unsigned)en->mode, room->mode);
	entry_attr_str(out, SA_FTP_MODE, room->mode, strlen(room->mode));
	if (en->permissions.p) {
		attr(out, SA_FTP_PERMISSIONS, en->permissions);
		return;
	}
	for (int i = 0; i < 9; i++)
		room->permissions[i] = en->mode & (0400 >> i) ? "rwx"[i % 3] : '-';
	if (en->mode & 04000)
		room->permissions[2] = en->mode & 0100 ? 's' : 'S';
	if (en->mode & 02000)
		room->permissions[5] = en->mode & 0010 ? 's' : 'S';
	if (en->mode & 01000)
		room->permissions[8] = en->mode & 0001 ? 't' : 'T';
	entry_attr_str(out, SA_FTP_PERMISSIONS, room->permissions, 9);
}

static void
put_place(struct ftp_control *ctl, struct entry *out)
{
	const struct conn *c = ctl->c;
	const char *host = run_str(c->run, SF_FTP_HOST), *user = run_str(c->run, SF_FTP_USERNAME);

	entry_attr_str(out, SA_FTP_HOST, host, strlen(host));
	entry_attr_int(out, SA_FTP_PORT, run_int(c->run, SF_FTP_PORT));
	entry_attr_str(out, SA_FTP_USERNAME, user, strlen(user));
	entry_attr_str(out, SA_FTP_PATH, ctl->dir->path, ctl->dir->path_n);
	entry_attr_str(out, SA_FTP_SYSTEM, c->system, strlen(c->system));
	entry_attr_str(out, SA_FTP_TLS_VERSION, c->tls_version, strlen(c->tls_version));
	entry_attr_str(out, SA_FTP_TLS_CIPHER, c->tls_cipher, strlen(c->tls_cipher));
}

static void
fill(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *line, struct entry *out, struct room *room)
{
	struct conn *c = ctl->c;
	const char *verb = ftp_list_verb(c), *type;

	put_place(ctl, out);
	entry_attr_str(out, SA_FTP_LIST_COMMAND, verb, strlen(verb));
	type = out->type == ENTRY_DIR ? "dir" : out->type == ENTRY_LINK || out->rec.is_symlink ? "symlink" : "file";
	entry_attr_str(out, SA_FTP_TYPE, type, strlen(type));
	attr(out, SA_FTP_UNIQUE, en->unique);
	attr(out, SA_FTP_PERM, en->perm);
	if (en->modify.p)
		attr(out, SA_FTP_MODIFY_FACT, en->modify);
	put_mode(out, en, room);
	attr(out, SA_FTP_OWNER, en->owner);
	attr(out, SA_FTP_GROUP, en->group);
	if (id_of(en->uid) >= 0)
		entry_attr_int(out, SA_FTP_UID, id_of(en->uid));
	if (id_of(en->gid) >= 0)
		entry_attr_int(out, SA_FTP_GID, id_of(en->gid));
	if (out->rec.link_target)
		entry_attr_str(out, SA_FTP_LINK_TARGET, out->rec.link_target, out->rec.link_target_n);
	if (run_int(c->run, SF_FTP_INCLUDE_RAW))
		entry_attr_str(out, SA_FTP_RAW, line->p, line->len);
}

static void
begin(struct ftp_control *ctl, const struct ftp_entry *en, struct entry *out)
{
	static const enum entry_type types[] = { ENTRY_FILE, ENTRY_DIR, ENTRY_LINK, ENTRY_OTHER };
	struct conn *c = ctl->c;
	const char *name = en->name.p, *target = en->target.p;
	size_t name_n = en->name.n, target_n = en->target.n;

	if (c->encoding != FTP_UTF8) {
		buf_clear(&c->name);
		ftp_decode(&c->name, c->encoding, name, name_n);
		name = c->name.p;
		name_n = c->name.len;
		buf_clear(&c->target);
		ftp_decode(&c->target, c->encoding, target, target_n);
		target = target ? c->target.p : NULL;
		target_n = c->target.len;
	}
	entry_init(out, name, name_n, types[en->type]);
	out->rec.size = en->size;
	out->rec.mtime_ns = entry_time(c, en);
	out->rec.precision = out->rec.mtime_ns == TIME_UNKNOWN ? MTIME_NONE : en->precision;
	if (target && target_n) {
		out->rec.link_target = target;
		out->rec.link_target_n = target_n;
	}
}

/* Does the listing lack what the job wants of a file? */
static bool
lacks(const struct conn *c, const struct ftp_entry *en)
{
	int64_t mdtm = run_int(c->run, SF_FTP_MDTM);

	return (en->size < 0 && !run_int(c->run, SF_FTP_SIZE)) || mdtm == 1 || (!mdtm && en->mtime_ns == TIME_UNKNOWN);
}

static int
postpone(struct ftp_control *ctl, const struct buf *line)
{
	if (ctl->pending.len + line->len > PENDING_MAX)
		return fail(ctl, ERR_LIMIT, "too many files of one directory must be asked about one by one (links, or no size or time in the listing)", NULL, 0);
	buf_add(&ctl->pending, line->p, line->len);
	buf_putc(&ctl->pending, '\n');
	return 0;
}

static int
result(struct ftp_control *ctl, int rc)
{
	ctl->stop = rc == RUN_STOP;
	return rc == RUN_GO_ON ? 0 : -1;
}

/* Lines with a CR are those that alien() put together: libcurl leaves none. */
static bool
is_broken(const struct buf *line)
{
	return line->len && memchr(line->p, '\r', line->len);
}

/* The name goes on behind a line break: what it really is, FTP cannot say. */
static int
name_broken(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *line)
{
	struct run *r = ctl->c->run;
	struct buf b = BUF_INIT;
	size_t at = (size_t)(en->name.p - line->p);
	int rc;

	buf_add(&b, ctl->dir->path, ctl->dir->path_n);
	if (b.len && b.p[b.len - 1] != '/')
		buf_putc(&b, '/');
	ftp_decode(&b, ctl->c->encoding, line->p + at, line->len - at);
	for (char *p = b.p; (p = memchr(p, '\r', (size_t)(b.p + b.len - p)));)
		*p = '\n';
	rc = run_listed(r, &ctl->why) ||
	    run_unreadable(r, b.p, b.len, "a line break in the name: a listing of FTP cannot carry it", &ctl->why);
	buf_release(&b);
	return rc ? -1 : 0;
}

static int
take(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *line)
{
	struct entry out;
	struct room room;

	if (!en->name.n || is_broken(line))
		return name_broken(ctl, en, line);
	begin(ctl, en, &out);
	switch (tree_ask(ctl->c->tree, ctl->dir, &out, &ctl->why)) {
	case TREE_NO:
		return 0;
	case TREE_RESOLVE:
		return postpone(ctl, line);
	case TREE_YES:
		/* SIZE and MDTM are for files, and follow links. */
		if (out.type == ENTRY_FILE && lacks(ctl->c, en))
			return postpone(ctl, line);
		fill(ctl, en, line, &out, &room);
		return result(ctl, tree_report(ctl->c->tree, ctl->dir, &out, &ctl->why));
	default:
		return -1;
	}
}

/* ---- lines ---- */

static int
defer(struct ftp_control *ctl, const struct buf *line)
{
	if (ctl->deferred.len + line->len > DEFERRED_MAX) {
		ctl->overflow = true;
		return -1;
	}
	buf_add(&ctl->deferred, line->p, line->len);
	buf_putc(&ctl->deferred, '\n');
	return 0;
}

/* The line that waited is whole. */
static int
release(struct ftp_control *ctl)
{
	struct ftp_slot *s;

	if (ctl->held == 2)
		return 0;
	s = &ctl->slot[ctl->held];
	ctl->held = 2;
	if (ctl->deferring)
		return defer(ctl, &s->line);
	return take(ctl, &s->en, &s->line);
}

static int
alien(struct ftp_control *ctl, const char *p, size_t n, const char *why)
{
	struct ftp_slot *s;

	if (ctl->held == 2)
		return fail(ctl, ERR_PROTOCOL, why, p, n);
	s = &ctl->slot[ctl->held];
	if (s->line.len + n < BROKEN_MAX || !is_broken(&s->line)) {
		size_t at = (size_t)(s->en.name.p - s->line.p);

		buf_putc(&s->line, '\r');
		buf_add(&s->line, p, n < BROKEN_MAX ? n : BROKEN_MAX);
		s->en.name.p = s->line.p + at;
	}
	return 0;
}

static int
line(struct ftp_control *ctl, const char *p, size_t n)
{
	unsigned free_slot = ctl->held == 0 ? 1 : 0;
	struct ftp_slot *s = &ctl->slot[free_slot];
	const char *why = "";
	bool first = ctl->lines++ == 0;

	if (n && p[n - 1] == '\r')
		n--;
	buf_clear(&s->line);
	buf_add(&s->line, p, n);
	buf_str(&s->line);
	switch (parse(ctl, s->line.p, n, first, &s->en, &why)) {
	case FTP_LINE_PASS:
		return release(ctl);
	case FTP_LINE_BAD:
		return fail(ctl, ERR_PROTOCOL, why, p, n);
	case FTP_LINE_ALIEN:
		return alien(ctl, p, n, why);
	case FTP_LINE_ENTRY:
	case FTP_LINE_NAMELESS:
		break;
	}
	if (again_begins(&ctl->repeats, s->line.p, n))
		return fail(ctl, ERR_LISTING_LOOP, "the server sends the same lines again and again", NULL, 0);
	if (release(ctl))
		return -1;
	ctl->held = free_slot;
	return 0;
}

int
ftp_lines_feed(struct ftp_control *ctl, const char *p, size_t n)
{
	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) : n;
		int rc;

		if (ctl->line.len + len > LINE_MAX_BYTES)
			return fail(ctl, ERR_PROTOCOL, "a line that is longer than any path", p, len);
		if (!nl) {
			buf_add(&ctl->line, p, len);
			return 0;
		}
		if (ctl->line.len) {
			buf_add(&ctl->line, p, len);
			rc = line(ctl, ctl->line.p, ctl->line.len);
			buf_clear(&ctl->line);
		} else {
			rc = line(ctl, p, len);
		}
		if (rc)
			return -1;
		p += len + 1;
		n -= len + 1;
	}
	return 0;
}

static bool
data_is_tls(const struct run *r)
{
	return run_int(r, SF_FTP_TLS_MODE) != FTP_TLS_NONE && !run_int(r, SF_FTP_DATA_TLS);
}

int
ftp_lines_end(struct ftp_control *ctl)
{
	int64_t matches = ftp_reply_matches(ctl->reply.text);

	if (ctl->line.len)
		return fail(ctl, ERR_TRUNCATED, "the last line has no end", ctl->line.p, ctl->line.len);
	/* libcurl 7.88 takes any end of a TLS connection for a good one. */
	if (data_is_tls(ctl->c->run) && !ctl->told_end && run_int(ctl->c->run, SF_FTP_REQUIRE_CLOSE_NOTIFY))
		return fail(ctl, ERR_TRUNCATED, "the data connection ended without TLS's close_notify; see require_close_notify", NULL, 0);
	if (ftp_reply_cut(ctl->reply.text))
		return fail(ctl, ERR_TRUNCATED, "the server says that it cut the listing", ctl->reply.text, strlen(ctl->reply.text));
	if (matches >= 0 && (uint64_t)matches > ctl->lines)
		return fail(ctl, ERR_TRUNCATED, "fewer lines came than the server says it sent", ctl->reply.text, strlen(ctl->reply.text));
	return release(ctl);
}

static bool
is_entry(enum ftp_line what)
{
	return what == FTP_LINE_ENTRY || what == FTP_LINE_NAMELESS;
}

/* Calls one for each line of a store. */
static int
each(struct ftp_control *ctl, struct buf *store, size_t *at,
    int (*one)(struct ftp_control *, const struct ftp_entry *, const struct buf *, unsigned), unsigned max)
{
	struct buf text = BUF_INIT;
	int rc = 0;

	for (unsigned k = 0; !rc && k < max && *at < store->len; k++) {
		const char *p = store->p + *at, *nl = memchr(p, '\n', store->len - *at), *why;
		struct ftp_entry en;

		buf_clear(&text);
		buf_add(&text, p, (size_t)(nl - p));
		buf_str(&text);
		*at += text.len + 1;
		if (!is_entry(parse(ctl, text.p, text.len, false, &en, &why)))
			BUG("a line that was an entry is none");
		rc = one(ctl, &en, &text, k);
	}
	buf_release(&text);
	return rc;
}

static int
take_again(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *text, unsigned k)
{
	(void)k;
	return take(ctl, en, text);
}

int
ftp_lines_deferred(struct ftp_control *ctl)
{
	size_t at = 0;
	int rc;

	ctl->deferring = false;
	rc = each(ctl, &ctl->deferred, &at, take_again, UINT32_MAX);
	buf_release(&ctl->deferred);
	return rc;
}

/* ---- what is asked about single names ---- */

/* The bytes of an entry's path, in c->path. */
static void
entry_bytes(struct ftp_control *ctl, const struct ftp_entry *en)
{
	struct conn *c = ctl->c;

	/* It was made of bytes by the same charset, so that there is a way back. */
	if (ftp_bytes(c, ctl->dir->path, ctl->dir->path_n))
		BUG("a directory that was listed cannot be named");
	if (!c->path.len || c->path.p[c->path.len - 1] != '/')
		buf_putc(&c->path, '/');
	buf_add(&c->path, en->name.p, en->name.n);
}

static int
ask_one(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *text, unsigned k)
{
	const struct buf *path = &ctl->c->path;

	(void)text;
	entry_bytes(ctl, en);
	ctl->batch = k + 1;
	if (!ftp_sendable(path->p, path->len))
		return 0;
	if (en->type == FTP_LINK) {
		ftp_ask(ctl, FTP_ASK_CWD, k, "*CWD", path->p, path->len);
		ftp_ask(ctl, FTP_ASK_PWD, k, "*PWD", NULL, 0);
	}
	if (en->size < 0 || en->type == FTP_LINK)
		ftp_ask(ctl, FTP_ASK_SIZE, k, "*SIZE", path->p, path->len);
	if (run_int(ctl->c->run, SF_FTP_MDTM) != 2)
		ftp_ask(ctl, FTP_ASK_MDTM, k, "*MDTM", path->p, path->len);
	return 0;
}

static void
forget_found(struct ftp_control *ctl)
{
	for (unsigned i = 0; i < FTP_BATCH; i++) {
		free(ctl->found[i].pwd);
		ctl->found[i] = (struct ftp_found){ .size = -1, .mtime_ns = TIME_UNKNOWN };
	}
	ctl->batch = 0;
}

/* Commands that tell of single files: the type first, since SIZE counts what a transfer would bring. */
static int
ask_about(struct ftp_control *ctl, struct buf *store, size_t at, enum ftp_about about,
    int (*one)(struct ftp_control *, const struct ftp_entry *, const struct buf *, unsigned), struct err *e)
{
	struct conn *c = ctl->c;

	forget_found(ctl);
	ftp_ask_begin(ctl);
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "*TYPE I", NULL, 0);
	each(ctl, store, &at, one, about == FTP_ABOUT_ZONE ? UINT32_MAX : FTP_BATCH);
	if (!ctl->batch)
		return 0;
	/* libcurl set the type of listings once, and believes in it. */
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "*TYPE A", NULL, 0);
	if (ftp_bytes(c, ctl->dir->path, ctl->dir->path_n))
		BUG("a directory that was listed cannot be named");
	return ftp_ask_start(ctl, about, c->path.p, c->path.len, e) ? -1 : 1;
}

int
ftp_lines_ask(struct ftp_control *ctl, struct err *e)
{
	return ask_about(ctl, &ctl->pending, ctl->pending_at, FTP_ABOUT_ENTRIES, ask_one, e);
}

/* The target's path by the listing's words, where the server did not say another than it was asked for. */
static void
link_path(struct ftp_control *ctl, const struct ftp_entry *en, const struct ftp_found *f, struct buf *real)
{
	struct err ignored = ERR_INIT;
	char *p;

	entry_bytes(ctl, en);
	if (f->pwd && strcmp(f->pwd, buf_str(&ctl->c->path))) {
		ftp_decode(real, ctl->c->encoding, f->pwd, strlen(f->pwd));
		return;
	}
	/* ".." of a text is not what it is of links, so that only plain targets count. */
	if (!en->target.n || *en->target.p != '/')
		return;
	ftp_decode(real, ctl->c->encoding, en->target.p, en->target.n);
	p = path_normalise(buf_str(real), "/", &ignored);
	buf_clear(real);
	if (p)
		buf_puts(real, p);
	free(p);
}

static int
answer_link(struct ftp_control *ctl, const struct ftp_entry *en, struct entry *out, const struct ftp_found *f)
{
	struct buf real = BUF_INIT;
	int rc;

	out->rec.is_symlink = true;
	out->rec.size = f->size;
	if (f->dir) {
		out->type = ENTRY_DIR;
		link_path(ctl, en, f, &real);
	} else {
		out->type = f->size >= 0 || f->mtime_ns != TIME_UNKNOWN ? ENTRY_FILE : ENTRY_OTHER;
	}
	rc = tree_link(ctl->c->tree, ctl->dir, out, real.len ? real.p : NULL, real.len, &ctl->why);
	buf_release(&real);
	return rc;
}

static int
answered_one(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *text, unsigned k)
{
	const struct ftp_found *f = &ctl->found[k];
	struct ftp_entry shown = *en;
	struct entry out;
	struct room room;

	begin(ctl, en, &out);
	if (out.rec.size < 0)
		out.rec.size = f->size;
	if (f->mtime_ns != TIME_UNKNOWN) {
		out.rec.mtime_ns = f->mtime_ns;
		out.rec.precision = MTIME_S;
		shown.modify = (struct ftp_text){ f->modify, strlen(f->modify) };
	}
	out.rec.is_symlink = en->type == FTP_LINK;
	fill(ctl, &shown, text, &out, &room);
	return result(ctl, en->type == FTP_LINK ? answer_link(ctl, en, &out, f) :
	    tree_report(ctl->c->tree, ctl->dir, &out, &ctl->why));
}

int
ftp_lines_answered(struct ftp_control *ctl)
{
	int rc = each(ctl, &ctl->pending, &ctl->pending_at, answered_one, FTP_BATCH);

	if (ctl->pending_at == ctl->pending.len) {
		buf_release(&ctl->pending);
		ctl->pending_at = 0;
	}
	return rc;
}

/* ---- the zone ---- */

static bool
tells_zone(const struct ftp_entry *en)
{
	return en->type == FTP_FILE && !en->utc && (en->precision == MTIME_MIN || en->precision == MTIME_S);
}

static int
ask_zone(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *text, unsigned k)
{
	const struct buf *path = &ctl->c->path;

	(void)text;
	(void)k;
	if (!tells_zone(en))
		return 0;
	entry_bytes(ctl, en);
	if (ftp_sendable(path->p, path->len))
		ftp_ask(ctl, FTP_ASK_MDTM, ctl->batch++, "*MDTM", path->p, path->len);
	/* Above 0 ends the loop: enough. */
	return ctl->batch == ZONE_FILES;
}

int
ftp_lines_ask_zone(struct ftp_control *ctl, struct err *e)
{
	return ask_about(ctl, &ctl->deferred, 0, FTP_ABOUT_ZONE, ask_zone, e);
}

/* A zone is a quarter of an hour's multiple; anything else is a file that was written in between. */
static int
compare_zone(struct ftp_control *ctl, const struct ftp_entry *en, const struct buf *text, unsigned k)
{
	const struct ftp_found *f = &ctl->found[ctl->batch];
	int64_t minutes;

	(void)text;
	(void)k;
	if (!tells_zone(en))
		return 0;
	entry_bytes(ctl, en);
	if (!ftp_sendable(ctl->c->path.p, ctl->c->path.len))
		return 0;
	ctl->batch++;
	if (f->mtime_ns != TIME_UNKNOWN) {
		minutes = en->mtime_ns / NS / 60 - f->mtime_ns / NS / 60;
		if (minutes % 15 == 0 && minutes >= -14 * 60 && minutes <= 14 * 60) {
			ctl->c->east = minutes * 60;
			return 1;
		}
	}
	return ctl->batch == ZONE_FILES;
}

void
ftp_lines_zone(struct ftp_control *ctl)
{
	size_t at = 0;

	ctl->batch = 0;
	ctl->c->zone_wanted = false;
	each(ctl, &ctl->deferred, &at, compare_zone, UINT32_MAX);
}

/* ---- a path that is one file ---- */

int
ftp_lines_single(struct ftp_control *ctl, struct err *e)
{
	const struct conn *c = ctl->c;
	const struct ftp_found *f = &ctl->found[0];
	const char *slash = strrchr(c->root, '/');
	struct entry out;

	entry_init(&out, slash + 1, strlen(slash + 1), ENTRY_FILE);
	out.rec.size = f->size;
	out.rec.mtime_ns = f->mtime_ns;
	out.rec.precision = f->mtime_ns == TIME_UNKNOWN ? MTIME_NONE : MTIME_S;
	put_place(ctl, &out);
	entry_attr_str(&out, SA_FTP_LIST_COMMAND, "MDTM", 4);
	entry_attr_str(&out, SA_FTP_TYPE, "file", 4);
	entry_attr_str(&out, SA_FTP_MODIFY_FACT, f->modify, strlen(f->modify));
	return tree_entry(c->tree, ctl->dir, &out, e) == TREE_FAILED ? -1 : 0;
}
