/*
 * ftp.c - the source ftp: what is listed when, and over which of its control connections.
 *
 * table.c binds it; the first handshake and login happen in open, everything else in list. Directories go to whatever
 * control connection is free; a further one is opened as directories come, so that a small tree costs one login. MLSD
 * where the server has it, else LIST; a command that the server turns out not to have is replaced once, before anything
 * was reported. Never waits but in curl_session_run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/ftp_conn.h"
#include "common/banned.h"

#define FAR_NS INT64_C(3000000) /* a long way: round trips cost more than what is listed */
#define LOGINS 7                /* under way at once: pure-ftpd's queue of those that come takes 9 */
#define AHEAD (1 + LOGINS)      /* connections when nothing is known of the tree yet */

enum { LIST_AUTO, LIST_MLSD, LIST_LIST, LIST_HIDDEN };  /* in the order of the field list_command */

static int ended(struct transfer *, CURLcode, struct err *);

/* ---- opening ---- */

static void
ftp_close(struct conn *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < FTP_CONTROLS; i++)
		ftp_control_free(c->ctl[i]);
	curl_session_free(c->session);
	free(c->home);
	free(c->root);
	buf_release(&c->name);
	buf_release(&c->target);
	buf_release(&c->path);
	buf_release(&c->url_text);
	free(c);
}

/* Before it is known to be far: what the job says, or less than is granted. */
static unsigned
controls_first(const struct run *r)
{
	unsigned most = r->task->connections;

	return r->task->source.v[SF_NETWORK_MAX_CONNECTIONS].set || most < FTP_CONNECTIONS ? most : FTP_CONNECTIONS;
}

static bool
is_far(const struct conn *c)
{
	return c->rtt_ns >= FAR_NS;
}

static struct ftp_control *
control(struct conn *c, unsigned i)
{
	if (!c->ctl[i]) {
		c->ctl[i] = ftp_control_new(c);
		c->ctl[i]->t.ended = ended;
	}
	return c->ctl[i];
}

static void
make_url(struct conn *c)
{
	const char *host = run_str(c->run, SF_FTP_HOST);
	bool implicit = run_int(c->run, SF_FTP_TLS_MODE) == FTP_TLS_IMPLICIT, v6 = strchr(host, ':');

	snprintf(c->url, sizeof(c->url), "%s://%s%s%s:%u/", implicit ? "ftps" : "ftp", v6 ? "[" : "", host, v6 ? "]" : "",
	    (unsigned)run_int(c->run, SF_FTP_PORT));
}

static void
note_home(struct conn *c)
{
	char *path = NULL;

	if (curl_easy_getinfo(c->ctl[0]->t.easy, CURLINFO_FTP_ENTRY_PATH, &path) || !path || *path != '/')
		return;
	free(c->home);
	c->home = xstrdup(path);
}

/* The job check refused them, too; a command must not end where nobody means it to. */
static int
check_commands(const struct run *r, struct err *e)
{
	static const enum source_field fields[] = { SF_COMMON_PATH, SF_FTP_USERNAME, SF_FTP_PASSWORD, SF_FTP_HOST };

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		const char *s = run_str(r, fields[i]);

		if (!ftp_sendable(s, strlen(s)))
			return err_set(e, ERR_PERMANENT, "%s holds a line break", field_rows[fields[i]].name);
	}
	return 0;
}

static struct conn *
ftp_open(struct run *r, struct err *e)
{
	struct conn *c;

	if (check_commands(r, e))
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->run = r;
	c->fresh = true;
	c->encoding = (enum ftp_encoding)run_int(r, SF_FTP_ENCODING);
	make_url(c);
	c->session = curl_session_new(r, "ftp,ftps", run_str(r, SF_FTP_HOST), (uint16_t)run_int(r, SF_FTP_PORT),
	    r->task->connections, e);
	c->cap = FTP_CONTROLS;
	/* Each transfer takes a turn of a rate; where there is none, what follows the login need not be waited for here. */
	if (!c->session || (pace_on(r) ? ftp_hello : ftp_log_in)(control(c, 0), e) || curl_session_run(c->session, e)) {
		ftp_close(c);
		return NULL;
	}
	note_home(c);
	return c;
}

static bool
ftp_keepable(struct conn *c)
{
	return curl_session_connections(c->session) > 0;
}

static unsigned
ftp_connections(const struct conn *c)
{
	return curl_session_connections(c->session);
}

/* ---- the plan of a task ---- */

static int
choose_command(struct conn *c, struct err *e)
{
	const struct filter_spec *f = &c->run->task->filter;
	int64_t wanted = run_int(c->run, SF_FTP_LIST_COMMAND);

	c->mlsd = wanted == LIST_MLSD || (wanted == LIST_AUTO && (c->has_mlst || !c->has_feat));
	/* Dot names are for LIST -a; a server that is no Unix would take that for a name. */
	c->hidden_asked = wanted == LIST_HIDDEN;
	c->hidden = c->hidden_asked ||
	    (wanted == LIST_AUTO && (f->include_hidden || (f->exclude_if_present && *f->exclude_if_present == '.')) && strstr(c->system, "UNIX"));
	c->proved = false;
	if (wanted == LIST_MLSD && c->has_feat && !c->has_mlst)
		return err_set(e, ERR_PERMANENT, "%.*s: the server does not have MLSD (FEAT does not name it); use list_command: auto or list",
		    (int)strlen(c->url) - 1, c->url);
	return 0;
}

static void
choose_zone(struct conn *c)
{
	const char *zone = run_str(c->run, SF_FTP_SERVER_TIMEZONE);

	c->east = 0;
	c->zone_wanted = !*zone && run_int(c->run, SF_FTP_PROBE_MDTM_OFFSET);
	if (*zone && ftp_zone(zone, &c->east))
		c->east = 0;
}

/* The job's path as records have it: absolute. */
static int
choose_root(struct conn *c, struct err *e)
{
	const char *path = run_str(c->run, SF_COMMON_PATH);
	struct buf b = BUF_INIT;

	free(c->root);
	c->root = NULL;
	if (*path != '/' && *path) {
		if (!c->home)
			return err_set(e, ERR_PERMANENT, "the path is relative, and the server does not say where the login ends: give an absolute one");
		ftp_decode(&b, c->encoding, c->home, strlen(c->home));
		while (b.len > 1 && b.p[b.len - 1] == '/')
			b.len--;
		if (strcmp(path, ".")) {
			if (b.p[b.len - 1] != '/')
				buf_putc(&b, '/');
			buf_puts(&b, path);
		}
	} else {
		buf_puts(&b, *path ? path : "/");
	}
	c->root = buf_take(&b);
	return 0;
}

/* ---- one directory ---- */

/* Begins ctl->dir. 0, 1: it cannot be listed and was refused, so that ctl is free; -1. */
static int
start_listing(struct ftp_control *ctl, struct err *e)
{
	struct tree_dir *d = ctl->dir;
	struct err why = ERR_INIT;
	int rc = ftp_list_start(ctl, &why);

	if (rc < 0)
		*e = why;
	if (rc <= 0)
		return rc;
	ctl->dir = NULL;
	return tree_dir_refused(ctl->c->tree, d, why.cls, why.text, e) ? -1 : 1;
}

static unsigned
logging_in(const struct conn *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FTP_CONTROLS && c->ctl[i]; i++)
		n += c->ctl[i]->step == FTP_HELLO;
	return n;
}

/* Gives the next directories to free connections. */
static int
fill(struct conn *c, struct err *e)
{
	for (unsigned i = 0; i < c->allowed; i++) {
		struct ftp_control *ctl = control(c, i);
		int rc;

		if (ctl->step != FTP_IDLE || (ftp_logs_in_first(ctl) && logging_in(c) >= LOGINS))
			continue;
		ctl->dir = tree_next(c->tree);
		if (!ctl->dir)
			return 0;
		c->used = i + 1 > c->used ? i + 1 : c->used;
		rc = start_listing(ctl, e);
		if (rc < 0)
			return -1;
		if (rc)
			i--;
	}
	return 0;
}

static unsigned
most_far(const struct conn *c)
{
	unsigned most = FTP_CONNECTIONS_FAR < c->cap ? FTP_CONNECTIONS_FAR : c->cap;

	return c->run->task->connections < most ? c->run->task->connections : most;
}

/*
 * A login costs as many round trips as two or three directories: one more for each directory that was read, at once as
 * many as there are pairs of them that wait. Until LIST's zone is known, the first one must do. Where each round trip
 * counts and the job does not say how many, there may be more than on short ways.
 */
static void
allow_more(struct conn *c)
{
	size_t pairs = tree_waiting(c->tree) / 2;

	if (c->zone_wanted && !c->mlsd)
		return;
	if (is_far(c) && pairs >= FTP_CONNECTIONS_FAR && c->limit == FTP_CONNECTIONS && !c->run->task->source.v[SF_NETWORK_MAX_CONNECTIONS].set)
		c->limit = most_far(c);
	c->allowed = pairs > c->allowed ? (pairs < c->limit ? (unsigned)pairs : c->limit) : c->allowed + 1;
	if (c->allowed > c->limit)
		c->allowed = c->limit;
}

static int
go_on(struct ftp_control *ctl, struct err *e)
{
	struct conn *c = ctl->c;

	ctl->step = FTP_IDLE;
	allow_more(c);
	return tree_stopped(c->tree) ? RUN_STOP : fill(c, e);
}

static int
dir_done(struct ftp_control *ctl, struct err *e)
{
	struct tree_dir *d = ctl->dir;

	ctl->dir = NULL;
	if (tree_dir_done(ctl->c->tree, d, e))
		return -1;
	return go_on(ctl, e);
}

/* To be read anew, by whatever connection. */
static int
dir_again(struct ftp_control *ctl, struct err *e)
{
	struct tree_dir *d = ctl->dir;

	ctl->dir = NULL;
	if (++d->tries > 5) {
		tree_dir_refused(ctl->c->tree, d, ERR_TRANSIENT, "the directory was begun five times in vain", e);
		return err_set(e, ERR_TRANSIENT, "%.*s: the server broke off every attempt to list a directory", (int)strlen(ctl->c->url) - 1, ctl->c->url);
	}
	tree_dir_again(ctl->c->tree, d);
	ctl->step = FTP_IDLE;
	return fill(ctl->c, e);
}

/* What stopped a callback. */
static int
stopped(const struct ftp_control *ctl, struct err *e)
{
	if (ctl->stop)
		return RUN_STOP;
	*e = ctl->why;
	return -1;
}

/* All lines were taken: what is left is to ask about some. */
static int
details(struct ftp_control *ctl, struct err *e)
{
	int rc = ctl->pending.len ? ftp_lines_ask(ctl, e) : 0;

	return rc > 0 ? 0 : rc < 0 ? -1 : dir_done(ctl, e);
}

/* Its listing did not come because of what the server said of this directory. */
static int
dir_refused(struct ftp_control *ctl, struct err *why, struct err *e)
{
	struct tree_dir *d = ctl->dir;
	const char *reason = strstr(why->text, ": ");

	if (!d->depth) {
		*e = *why;
		return -1;
	}
	ctl->dir = NULL;
	if (tree_dir_refused(ctl->c->tree, d, why->cls, reason ? reason + 2 : why->text, e))
		return -1;
	return go_on(ctl, e);
}

/* Is the job's path a file? Asked once its CWD was refused. */
static int
ask_root(struct ftp_control *ctl, struct err *e)
{
	struct conn *c = ctl->c;
	const char *path = c->path.p;
	size_t n;

	if (ftp_bytes(c, c->root, strlen(c->root)))
		return err_set(e, ERR_PERMANENT, "the path has characters that the field encoding lacks");
	path = c->path.p;
	n = c->path.len;
	ftp_ask_begin(ctl);
	ctl->found[0] = (struct ftp_found){ .size = -1, .mtime_ns = TIME_UNKNOWN };
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "*TYPE I", NULL, 0);
	ftp_ask(ctl, FTP_ASK_SIZE, 0, "*SIZE", path, n);
	ftp_ask(ctl, FTP_ASK_MDTM, 0, "*MDTM", path, n);
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "*TYPE A", NULL, 0);
	return ftp_ask_start(ctl, FTP_ABOUT_ROOT, "/", 1, e);
}

static int
root_answered(struct ftp_control *ctl, struct err *e)
{
	struct conn *c = ctl->c;
	struct tree_dir *d = ctl->dir;
	char *slash = strrchr(c->root, '/');
	struct err ignored = ERR_INIT;
	int rc;

	/* Nothing: what CWD said stands. */
	if (ctl->found[0].size < 0 && ctl->found[0].mtime_ns == TIME_UNKNOWN) {
		*e = ctl->why;
		return -1;
	}
	ctl->dir = NULL;
	tree_dir_refused(c->tree, d, ERR_NOT_FOUND, "", &ignored);
	tree_free(c->tree);
	c->tree = tree_new(c->run, c->root, slash == c->root ? 1 : (size_t)(slash - c->root), e);
	if (!c->tree)
		return -1;
	tree_one_file(c->tree);
	ctl->dir = tree_next(c->tree);
	rc = ftp_lines_single(ctl, e);
	return rc ? -1 : dir_done(ctl, e);
}

/* The plan needs what the server told of itself. */
static int
begin(struct conn *c, struct err *e)
{
	if (choose_command(c, e) || choose_root(c, e))
		return -1;
	c->tree = tree_new(c->run, c->root, strlen(c->root), e);
	return c->tree ? fill(c, e) : -1;
}

/* ---- the ends of transfers ---- */

static bool
is_listing_verb(const struct ftp_control *ctl)
{
	return !strcmp(ctl->verb, "MLSD") || !strcmp(ctl->verb, "LIST");
}

/* Another command, or less of them, may do: true, and the connection knows. */
static bool
other_command(struct ftp_control *ctl)
{
	struct conn *c = ctl->c;
	int64_t wanted = run_int(c->run, SF_FTP_LIST_COMMAND);

	if (!is_listing_verb(ctl) || tree_dir_begun(ctl->dir) || c->proved || !ftp_reply_unknown_command(ctl->reply.code))
		return false;
	if (c->mlsd && wanted == LIST_AUTO) {
		c->mlsd = false;
		return true;
	}
	if (!c->mlsd && c->hidden && !c->hidden_asked) {
		c->hidden = false;
		return true;
	}
	return false;
}

/*
 * A further connection that the server, or what stands before it, does not let in is not needed: a reply says so, or
 * there is none. A login that was refused for good is the first one's to tell.
 */
static bool
one_too_many(const struct ftp_control *ctl, CURLcode code, const struct err *why)
{
	if (ctl == ctl->c->ctl[0] || ctl->asks_hello || (ctl->dir && tree_dir_begun(ctl->dir)) || ftp_verb_phase(ctl->verb) != FTP_LOGIN)
		return false;
	return why->cls == ERR_TRANSIENT || (ftp_replied(ctl, code) ? why->cls == ERR_AUTH : why->cls == ERR_TIMEOUT);
}

/* As many as there are but for this one, which goes behind them all: it is given no more, nor are new ones opened. */
static int
fewer_controls(struct ftp_control *ctl, struct err *e)
{
	struct conn *c = ctl->c;
	struct tree_dir *d = ctl->dir;
	unsigned n = 0, i = 0;

	while (n < c->limit && c->ctl[n])
		n++;
	while (c->ctl[i] != ctl)
		i++;
	ctl->dir = NULL;
	ctl->step = FTP_IDLE;
	if (d)
		tree_dir_again(c->tree, d);
	if (i < n) {
		c->ctl[i] = c->ctl[n - 1];
		c->ctl[n - 1] = ctl;
		c->limit = c->cap = n - 1;
	}
	if (c->allowed > c->limit)
		c->allowed = c->limit;
	return c->tree ? fill(c, e) : 0;
}

/* The server closed a connection that had nothing to do for a while, or is about to: another one will do, once. */
static bool
was_idle_too_long(const struct ftp_control *ctl, CURLcode code)
{
	if (!*ctl->verb || tree_dir_begun(ctl->dir) || ctl->dir->tries)
		return false;
	if (ftp_replied(ctl, code))
		return ctl->reply.code == 421 || (ctl->reply.code == 500 && strstr(ctl->reply.text, "OOPS"));
	return !ctl->logged_in && !ctl->lines &&
	    (code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING);
}

static int
listing_failed(struct ftp_control *ctl, CURLcode code, struct err *e)
{
	struct conn *c = ctl->c;
	struct err why = ERR_INIT;
	bool below = ctl->dir->depth > 0;

	/* Behind lines it is no word on an empty directory. */
	if (!ctl->lines && is_listing_verb(ctl) && ftp_reply_no_files(ctl->reply.code, ctl->reply.text))
		return dir_done(ctl, e);
	if (was_idle_too_long(ctl, code) || (ftp_replied(ctl, code) && other_command(ctl)))
		return dir_again(ctl, e);
	ftp_error(ctl, code, below, &why);
	if (one_too_many(ctl, code, &why))
		return fewer_controls(ctl, e);
	if (!ftp_replied(ctl, code)) {
		*e = why;
		return -1;
	}
	if (!below && !strcmp(ctl->verb, "CWD") && why.cls == ERR_NOT_FOUND && c->root[1] && !c->proved) {
		ctl->why = why;
		return ask_root(ctl, e);
	}
	if (ftp_verb_phase(ctl->verb) == FTP_LOGIN || tree_dir_begun(ctl->dir)) {
		*e = why;
		return -1;
	}
	return dir_refused(ctl, &why, e);
}

/* vsftpd answers so where it may not read a directory. */
static bool
failed_to_open(const char *text)
{
	return strstr(text, "failed to open directory") != NULL;
}

static int
listing_ended(struct ftp_control *ctl, CURLcode code, struct err *e)
{
	struct conn *c = ctl->c;
	struct err why = ERR_INIT;

	if (ctl->t.lane && ctl->lane.odd && !tree_dir_begun(ctl->dir)) {
		c->lane_off = true;
		return dir_again(ctl, e);
	}
	if (ctl->again)
		return dir_again(ctl, e);
	if (ctl->overflow) {
		/* Too long to wait for the zone: it is asked first, and the directory read anew. */
		int rc = ftp_lines_ask_zone(ctl, e);

		if (rc > 0)
			return 0;
		c->zone_wanted = false;
		return rc < 0 ? -1 : dir_again(ctl, e);
	}
	if (ctl->stop || ctl->why.cls != ERR_OK)
		return stopped(ctl, e);
	if (code || ctl->reply.code >= 400)
		return listing_failed(ctl, code, e);
	if (failed_to_open(ctl->reply.text)) {
		err_set(&why, ERR_AUTH, "LIST: the server failed to open the directory");
		return dir_refused(ctl, &why, e);
	}
	if (ftp_lines_end(ctl))
		return stopped(ctl, e);
	c->proved = true;
	if (ctl->deferring) {
		int rc = ftp_lines_ask_zone(ctl, e);

		if (rc)
			return rc > 0 ? 0 : -1;
		/* No file of it could tell; another directory's may. */
		if (ftp_lines_deferred(ctl))
			return stopped(ctl, e);
	}
	return details(ctl, e);
}

static int
asking_ended(struct ftp_control *ctl, CURLcode code, struct err *e)
{
	if (code)
		return ftp_error(ctl, code, false, e);
	switch (ctl->about) {
	case FTP_ABOUT_ROOT:
		return root_answered(ctl, e);
	case FTP_ABOUT_ZONE:
		ftp_lines_zone(ctl);
		if (ctl->overflow)
			return dir_again(ctl, e);
		if (ftp_lines_deferred(ctl))
			return stopped(ctl, e);
		return details(ctl, e);
	default:
		if (ftp_lines_answered(ctl))
			return stopped(ctl, e);
		return details(ctl, e);
	}
}

/*
 * The first connection, when it is opened, and when it has been asked for system and features; a further one, ahead of the
 * directories it is for or before its first one.
 */
static int
logged_in(struct ftp_control *ctl, CURLcode code, struct err *e)
{
	struct conn *c = ctl->c;
	struct err why = ERR_INIT;

	if (ctl->t.lane && ctl->lane.odd) {
		c->lane_off = true;
		return ftp_hello(ctl, e);
	}
	if (code)
		ftp_error(ctl, code, false, &why);
	if (code && one_too_many(ctl, code, &why))
		return fewer_controls(ctl, e);
	if (code && ctl->dir)
		return listing_failed(ctl, code, e);
	*e = why;
	if (code)
		return -1;
	if (ctl->dir) {
		int rc = start_listing(ctl, e);

		if (rc <= 0)
			return rc ? rc : fill(c, e);
	}
	ctl->step = FTP_IDLE;
	c->greeted |= ctl->asks_hello;
	if (c->tree)
		return fill(c, e);
	return ctl->asks_hello && !c->fresh ? begin(c, e) : 0;
}

static int
ended(struct transfer *t, CURLcode code, struct err *e)
{
	struct ftp_control *ctl = (struct ftp_control *)t;

	if (ctl->step == FTP_LISTING)
		return listing_ended(ctl, code, e);
	if (ctl->step == FTP_ASKING)
		return asking_ended(ctl, code, e);
	return logged_in(ctl, code, e);
}

/* ---- one task ---- */

/*
 * A recursive job over a long way: what further logins take passes while the first directory is listed. No more than may log
 * in at once, for the tree may be small; on a kept connection no more than its last task had use for.
 */
static int
log_in_ahead(struct conn *c, unsigned n, struct err *e)
{
	if (!is_far(c) || !run_int(c->run, SF_COMMON_RECURSIVE) || pace_on(c->run))
		return 0;
	for (unsigned i = 1; i < n && i < c->limit; i++) {
		struct ftp_control *ctl = control(c, i);

		if (ctl->step == FTP_IDLE && !curl_session_has(c->session, &ctl->t) && ftp_log_in(ctl, e))
			return -1;
	}
	return 0;
}

/* What a run that ended early left open. */
static void
clear(struct conn *c)
{
	struct err ignored = ERR_INIT;

	for (unsigned i = 0; i < FTP_CONTROLS; i++) {
		struct ftp_control *ctl = c->ctl[i];

		if (!ctl)
			continue;
		if (ctl->dir)
			tree_dir_refused(c->tree, ctl->dir, ERR_NOT_FOUND, "", &ignored);
		ctl->dir = NULL;
		ctl->setup = ctl->entered = false;
		ftp_control_clear(ctl);
	}
	tree_free(c->tree);
	c->tree = NULL;
}

static int
ftp_list(struct conn *c, struct run *r, struct err *e)
{
	unsigned ahead;
	int rc;

	c->run = r;
	if (!c->fresh && curl_session_use(c->session, r, e))
		return -1;
	/* What the server refused once it may take now: one more each time. */
	c->cap += !c->fresh && c->cap < FTP_CONTROLS;
	ahead = !c->fresh && c->used < AHEAD ? c->used : AHEAD;
	c->fresh = false;
	c->limit = controls_first(r);
	if (c->limit > c->cap)
		c->limit = c->cap;
	/* Of more than it may have now libcurl closes what is its own, as others are opened. */
	for (unsigned i = c->limit; i < FTP_CONTROLS; i++)
		if (c->ctl[i])
			curl_session_release(&c->ctl[i]->t);
	c->allowed = 1;
	choose_zone(c);
	c->used = 0;
	rc = c->greeted ? begin(c, e) : ftp_hello(control(c, 0), e);
	if (!rc)
		rc = log_in_ahead(c, ahead, e);
	if (!rc)
		rc = curl_session_run(c->session, e);
	if (!rc && (tree_open_dirs(c->tree) || !tree_stopped(c->tree)) && tree_next(c->tree))
		BUG("directories were left unread");
	clear(c);
	return rc < 0 ? -1 : 0;
}

const struct source source_ftp = {
	.name = "ftp",
	.open = ftp_open,
	.keepable = ftp_keepable,
	.list = ftp_list,
	.close = ftp_close,
	.connections = ftp_connections,
};
