/*
 * sftp.c - the source sftp: connects and logs in, finds out what the path is, keeps the connection.
 *
 * run.c calls it through the table. The socket is libcurl's (proxies, the egress policy), the session libssh2's
 * (ssh_session.c), the file protocol our own (sftp_wire.c), the listing sftp_list.c's. Requests of a listing share one
 * channel. It never opens a file and never changes anything on the server.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "worker/source/sftp.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define READ_BYTES 65536

/* ---- the stream ----------------------------------------------------------------------------- */

static ssize_t
stream_recv(void *arg, void *p, size_t n)
{
	struct conn *c = arg;
	size_t got = 0;
	CURLcode code = curl_easy_recv(c->stream, p, n, &got);

	return !code ? (ssize_t)got : code == CURLE_AGAIN ? -EAGAIN : -ECONNRESET;
}

static ssize_t
stream_send(void *arg, const void *p, size_t n)
{
	struct conn *c = arg;
	size_t put = 0;
	CURLcode code = curl_easy_send(c->stream, p, n, &put);

	return !code ? (ssize_t)put : code == CURLE_AGAIN ? -EAGAIN : -ECONNRESET;
}

static int
connect_stream(struct conn *c, struct err *e)
{
	int fd = curl_session_socket(c->curl, &c->stream, e);

	if (fd < 0)
		return -1;
	c->io = (struct ssh_io){ .fd = fd, .arg = c, .recv = stream_recv, .send = stream_send };
	return 0;
}

static void
drop_stream(struct conn *c)
{
	curl_session_recycle(c->curl, c->stream);
	c->stream = NULL;
}

/* ---- open and close ------------------------------------------------------------------------- */

static void
sftp_close(struct conn *c)
{
	ssh_close(c->ssh);
	if (c->curl)
		drop_stream(c);
	curl_session_free(c->curl);
	sftp_wire_release(&c->wire);
	free(c);
}

/* The pinned key may not be the first that the server shows: then once more on a fresh connection, at most once a type. */
static int
log_in(struct conn *c, struct run *r, int64_t deadline, struct err *e)
{
	struct ssh_asked asked = { 0 };
	enum ssh_result rc;

	for (;;) {
		if (connect_stream(c, e))
			return -1;
		rc = ssh_open(r, &c->io, deadline, &asked, &c->ssh, e);
		if (rc == SSH_DONE)
			return 0;
		drop_stream(c);
		if (rc == SSH_FAILED)
			return -1;
	}
}

static struct conn *
sftp_open(struct run *r, struct err *e)
{
	int64_t deadline = run_clock() + run_int(r, SF_NETWORK_CONNECT_TIMEOUT) * 1000000;
	struct conn *c = xcalloc(1, sizeof(*c));

	sftp_wire_init(&c->wire);
	c->curl = curl_session_new(r, "http", run_str(r, SF_SFTP_HOST), (uint16_t)run_int(r, SF_SFTP_PORT), 1, e);
	if (!c->curl || log_in(c, r, deadline, e)) {
		sftp_close(c);
		return NULL;
	}
	return c;
}

/* ---- requests ------------------------------------------------------------------------------- */

static int
overdue(struct conn *c, struct run *r, struct err *e)
{
	bool partial = sftp_wire_partial(&c->wire);
	enum source_field field = partial ? SF_NETWORK_IDLE_TIMEOUT : SF_NETWORK_RESPONSE_TIMEOUT;

	return err_set(e, ERR_TIMEOUT, "%s port %lld: %s for %lld ms (%s; %u requests wait for their replies)", run_str(r, SF_SFTP_HOST),
	    (long long)run_int(r, SF_SFTP_PORT), partial ? "a reply stopped in its midst" : "no reply", (long long)run_int(r, field),
	    field_rows[field].name, c->wire.under_way);
}

/* Requests whose turn has come may be sent; the others stay where they are. ns until the next one's turn comes. */
static int64_t
take_turns(struct sftp_wire *w, struct run *r)
{
	int64_t wait = INT64_MAX;

	while (w->queued) {
		if (!pace_take(r, w->queued, &wait))
			return wait;
		sftp_wire_let_go(w);
	}
	return INT64_MAX;
}

/* The server owes a reply, or the rest of one; nothing for what it was not asked. */
static bool
is_owed(const struct sftp_wire *w)
{
	return w->under_way > w->queued || sftp_wire_partial(w);
}

/* Until the server is late, or the next request's turn comes. */
static int
wait_for_replies(struct conn *c, struct run *r, int64_t turn_ns, struct err *e)
{
	enum source_field field = sftp_wire_partial(&c->wire) ? SF_NETWORK_IDLE_TIMEOUT : SF_NETWORK_RESPONSE_TIMEOUT;
	int64_t until = c->heard + run_int(r, field) * 1000000, now = run_clock();
	int rc;

	if (turn_ns < until - now || (c->wire.queued && !is_owed(&c->wire)))
		return ssh_wait(c->ssh, now + turn_ns, e) < 0 ? -1 : 0;
	rc = ssh_wait(c->ssh, until, e);
	return rc > 0 ? 0 : rc < 0 ? -1 : overdue(c, r, e);
}

int
sftp_turn(struct conn *c, struct run *r, struct err *e)
{
	static char room[READ_BYTES];   /* one thread, one source at a time */
	size_t before = c->wire.out.len;
	int64_t turn_ns;
	ssize_t n;

	if (!is_owed(&c->wire))
		c->busy = true;
	turn_ns = take_turns(&c->wire, r);
	if (ssh_write(c->ssh, &c->wire.out, c->wire.due, e))
		return -1;
	c->wire.due -= before - c->wire.out.len;
	n = ssh_read(c->ssh, room, sizeof(room), e);
	if (n < 0)
		return -1;
	if (n > 0) {
		c->busy = true;
		r->answered = true;
		sftp_wire_feed(&c->wire, room, (size_t)n);
		return 0;
	}
	if (c->busy) {
		c->heard = run_clock();
		c->busy = false;
	}
	return wait_for_replies(c, r, turn_ns, e);
}

int
sftp_ask(struct conn *c, struct run *r, enum sftp_op op, const void *what, size_t n, struct sftp_reply *reply, struct err *e)
{
	int rc;

	c->busy = true;
	sftp_wire_ask(&c->wire, op, what, n, NULL);
	while (!(rc = sftp_wire_next(&c->wire, reply, e)))
		if (sftp_turn(c, r, e))
			return -1;
	return rc < 0 ? -1 : 0;
}

int
sftp_refused(const struct sftp_reply *reply, const void *path, size_t n, struct err *e)
{
	struct buf shown = BUF_INIT, words = BUF_INIT;

	escape_term(&shown, path, n > 400 ? 400 : n);
	escape_term(&words, reply->text, reply->text_n > 200 ? 200 : reply->text_n);
	err_set(e, sftp_status_class(reply->status), "%s of %s: %s (status %u%s%s)", sftp_op_name(reply->op), buf_str(&shown),
	    sftp_status_text(reply->status), reply->status, words.len ? ": " : "", buf_str(&words));
	buf_release(&shown);
	buf_release(&words);
	return -1;
}

/* ---- the path ------------------------------------------------------------------------------- */

/* The whole path as the server has it; caller frees. */
static char *
real_path(struct conn *c, struct run *r, struct err *e)
{
	const char *path = run_str(r, SF_COMMON_PATH);
	struct sftp_reply reply;
	struct sftp_name name;
	size_t n;

	if (!*path)
		path = ".";
	if (sftp_ask(c, r, SFTP_REALPATH, path, strlen(path), &reply, e))
		return NULL;
	if (reply.status != SFTP_OK) {
		sftp_refused(&reply, path, strlen(path), e);
		return NULL;
	}
	if (sftp_reply_name(&reply, &name, e) != 1)
		return NULL;
	n = name.name_n;
	/* Paths of records begin with it. */
	if (!n || name.name[0] != '/' || memchr(name.name, '\0', n)) {
		err_set(e, ERR_PROTOCOL, "the SFTP server answered REALPATH of %s with what is no whole path", path);
		return NULL;
	}
	while (n > 1 && name.name[n - 1] == '/')
		n--;
	return xmemdup0(name.name, n);
}

enum entry_type
sftp_mode_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return ENTRY_FILE;
	case S_IFDIR: return ENTRY_DIR;
	case S_IFLNK: return ENTRY_LINK;
	}
	return ENTRY_OTHER;
}

static int
list_place(struct sftp_place *p, struct run *r, struct err *e)
{
	struct sftp_reply reply;
	enum entry_type type;

	if (sftp_ask(p->conn, r, SFTP_STAT, p->real, p->real_n, &reply, e))
		return -1;
	if (reply.status != SFTP_OK)
		return sftp_refused(&reply, p->real, p->real_n, e);
	/* A server that tells no mode: what is no directory is told by OPENDIR. */
	type = reply.attrs.flags & SFTP_HAS_MODE ? sftp_mode_type(reply.attrs.mode) : ENTRY_DIR;
	if (type == ENTRY_DIR)
		return sftp_list_tree(p, r, e);
	if (type == ENTRY_FILE)
		return sftp_list_file(p, r, &reply.attrs, e);
	return err_set(e, ERR_PERMANENT, "%s is neither a directory nor a regular file", p->real);
}

static int
sftp_list(struct conn *c, struct run *r, struct err *e)
{
	struct sftp_place p = { .conn = c };
	char *real;
	int rc;

	ssh_use(c->ssh, r);
	if (!*r->done.peer) {
		struct sockaddr_storage sa = { 0 };
		socklen_t n = sizeof(sa);

		/* A kept connection: nothing was connected for this task. */
		if (!getpeername(c->io.fd, (struct sockaddr *)&sa, &n))
			run_peer(r, (struct sockaddr *)&sa);
	}
	real = real_path(c, r, e);
	if (!real)
		return -1;
	/* It has answered, so it was not dead. */
	r->done.reused += c->kept;
	c->kept = true;
	p.real = real;
	p.real_n = strlen(real);
	rc = list_place(&p, r, e);
	free(real);
	return rc;
}

static bool
sftp_keepable(struct conn *c)
{
	return !c->wire.under_way && !c->wire.out.len && !sftp_wire_partial(&c->wire) && ssh_quiet(c->ssh);
}

static unsigned
sftp_connections(const struct conn *c)
{
	return c->stream ? 1 : 0;
}

const struct source source_sftp = {
	.name = "sftp",
	.open = sftp_open,
	.keepable = sftp_keepable,
	.list = sftp_list,
	.close = sftp_close,
	.connections = sftp_connections,
};
