/*
 * sftp_wire.c - packets of the file transfer protocol of SSH, version 3: made, and taken apart.
 *
 * sftp.c asks and feeds it. One table tells which packet may answer which request, another what a status means. It
 * never waits, never allocates by a length that the server claims before it is checked, and holds at most one packet
 * and a read more.
 */
#include <stdio.h>
#include <string.h>

#include "worker/source/sftp_wire.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define PROTOCOL_VERSION 3

/* Section 3 of the draft. */
enum {
	P_INIT = 1, P_VERSION = 2, P_CLOSE = 4, P_LSTAT = 7, P_OPENDIR = 11, P_READDIR = 12, P_REALPATH = 16, P_STAT = 17,
	P_READLINK = 19, P_STATUS = 101, P_HANDLE = 102, P_NAME = 104, P_ATTRS = 105
};

static const struct op_row { const char *name; uint8_t request, reply; } op_rows[SFTP_OP__MAX] = {
	[SFTP_OPENDIR] = { "OPENDIR", P_OPENDIR, P_HANDLE },
	[SFTP_READDIR] = { "READDIR", P_READDIR, P_NAME },
	[SFTP_CLOSE] = { "CLOSE", P_CLOSE, P_STATUS },
	[SFTP_REALPATH] = { "REALPATH", P_REALPATH, P_NAME },
	[SFTP_STAT] = { "STAT", P_STAT, P_ATTRS },
	[SFTP_LSTAT] = { "LSTAT", P_LSTAT, P_ATTRS },
	[SFTP_READLINK] = { "READLINK", P_READLINK, P_NAME },
};

/*
 * draft-ietf-secsh-filexfer-02, section 7. Servers say FAILURE for all that has no code (OpenSSH: every errno it does not
 * know) and BAD_MESSAGE for a path that is too long, so that both are about the path. A code of a later version is the
 * server's own.
 */
static const struct { enum err_class cls; const char *text; } status_rows[SFTP_STATUS__MAX] = {
	[SFTP_OK] = { ERR_OK, "ok" },
	[SFTP_EOF] = { ERR_PROTOCOL, "end of file" },
	[SFTP_NO_SUCH_FILE] = { ERR_NOT_FOUND, "no such file" },
	[SFTP_PERMISSION_DENIED] = { ERR_AUTH, "permission denied" },
	[SFTP_FAILURE] = { ERR_PERMANENT, "failure" },
	[SFTP_BAD_MESSAGE] = { ERR_PERMANENT, "bad message" },
	[SFTP_NO_CONNECTION] = { ERR_TRANSIENT, "no connection" },
	[SFTP_CONNECTION_LOST] = { ERR_TRANSIENT, "connection lost" },
	[SFTP_OP_UNSUPPORTED] = { ERR_PERMANENT, "operation unsupported" },
};

const char *
sftp_op_name(enum sftp_op op)
{
	return op_rows[op].name;
}

enum err_class
sftp_status_class(uint32_t status)
{
	return status < SFTP_STATUS__MAX ? status_rows[status].cls : ERR_PERMANENT;
}

const char *
sftp_status_text(uint32_t status)
{
	return status < SFTP_STATUS__MAX ? status_rows[status].text : "a status of no known meaning";
}

/* ---- numbers and strings, big-endian -------------------------------------------------------- */

static void
put_u32(struct buf *b, uint32_t v)
{
	unsigned char p[4] = { (unsigned char)(v >> 24), (unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v };

	buf_add(b, p, 4);
}

static void
put_string(struct buf *b, const void *p, size_t n)
{
	put_u32(b, (uint32_t)n);
	buf_add(b, p, n);
}

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t
get_u32(struct cursor *c)
{
	uint32_t v;

	if (cursor_left(c) < 4) {
		cursor_fail(c);
		return 0;
	}
	v = be32(c->p);
	c->p += 4;
	return v;
}

static uint64_t
get_u64(struct cursor *c)
{
	uint64_t high = get_u32(c);

	return high << 32 | get_u32(c);
}

static const char *
get_string(struct cursor *c, size_t *n, size_t max)
{
	uint32_t len = get_u32(c);
	const char *p = (const char *)c->p;

	*n = 0;
	if (c->bad || len > max || len > cursor_left(c)) {
		cursor_fail(c);
		return "";
	}
	c->p += len;
	*n = len;
	return p;
}

/* ---- requests ------------------------------------------------------------------------------- */

void
sftp_wire_init(struct sftp_wire *w)
{
	memset(w, 0, sizeof(*w));
	put_u32(&w->out, 5);
	buf_u8(&w->out, P_INIT);
	put_u32(&w->out, PROTOCOL_VERSION);
	w->due = w->out.len;
}

void
sftp_wire_release(struct sftp_wire *w)
{
	buf_release(&w->out);
	buf_release(&w->in);
}

/* A reply that comes twice, or late, must meet no request: numbers are not used again soon. */
static struct sftp_request *
new_request(struct sftp_wire *w)
{
	if (w->under_way >= SFTP_UNDER_WAY_MAX)
		BUG("more requests than there is room for");
	while (w->requests[w->next % SFTP_UNDER_WAY_MAX].busy)
		w->next++;
	w->under_way++;
	w->requests[w->next % SFTP_UNDER_WAY_MAX].id = w->next;
	return &w->requests[w->next++ % SFTP_UNDER_WAY_MAX];
}

void
sftp_wire_ask(struct sftp_wire *w, enum sftp_op op, const void *what, size_t n, void *arg)
{
	struct sftp_request *q = new_request(w);

	q->busy = true;
	q->op = op;
	q->arg = arg;
	put_u32(&w->out, (uint32_t)(1 + 4 + 4 + n));
	buf_u8(&w->out, op_rows[op].request);
	put_u32(&w->out, q->id);
	put_string(&w->out, what, n);
	w->queued++;
}

void
sftp_wire_let_go(struct sftp_wire *w)
{
	w->due += 4 + be32((const uint8_t *)w->out.p + w->due);
	w->queued--;
}

/* ---- replies -------------------------------------------------------------------------------- */

void
sftp_wire_feed(struct sftp_wire *w, const void *p, size_t n)
{
	if (w->at) {
		buf_consume(&w->in, w->at);
		w->at = 0;
	}
	buf_add(&w->in, p, n);
}

bool
sftp_wire_partial(const struct sftp_wire *w)
{
	return w->in.len > w->at;
}

static void
get_attrs(struct cursor *c, struct sftp_attrs *a)
{
	uint32_t more;

	memset(a, 0, sizeof(*a));
	a->flags = get_u32(c);
	/* What an unknown flag brings has no known length. */
	if (a->flags & ~(uint32_t)(SFTP_HAS_SIZE | SFTP_HAS_IDS | SFTP_HAS_MODE | SFTP_HAS_TIMES | SFTP_HAS_MORE))
		cursor_fail(c);
	if (a->flags & SFTP_HAS_SIZE)
		a->size = get_u64(c);
	if (a->flags & SFTP_HAS_IDS) {
		a->uid = get_u32(c);
		a->gid = get_u32(c);
	}
	if (a->flags & SFTP_HAS_MODE)
		a->mode = get_u32(c);
	if (a->flags & SFTP_HAS_TIMES) {
		a->atime = get_u32(c);
		a->mtime = get_u32(c);
	}
	if (!(a->flags & (uint32_t)SFTP_HAS_MORE))
		return;
	more = get_u32(c);
	for (size_t n; more && !c->bad; more--) {
		get_string(c, &n, SFTP_STRING_MAX);
		get_string(c, &n, SFTP_STRING_MAX);
	}
}

static int
malformed(const char *what, struct err *e)
{
	return err_set(e, ERR_PROTOCOL, "the SFTP server sent a malformed %s", what);
}

static const char *
type_name(unsigned type, char room[16])
{
	switch (type) {
	case P_VERSION: return "VERSION";
	case P_STATUS: return "STATUS";
	case P_HANDLE: return "HANDLE";
	case P_NAME: return "NAME";
	case P_ATTRS: return "ATTRS";
	}
	snprintf(room, 16, "packet type %u", type);
	return room;
}

/* A login script that prints is the commonest reason for a first packet that is none. */
static int
bad_length(const struct sftp_wire *w, uint32_t n, struct err *e)
{
	const char *p = w->in.p + w->at;
	struct buf shown = BUF_INIT;
	bool text = !w->ready;

	for (int i = 0; i < 4; i++)
		text = text && ((p[i] >= ' ' && p[i] < 127) || p[i] == '\n' || p[i] == '\r' || p[i] == '\t');
	if (!text)
		return err_set(e, ERR_PROTOCOL, "the SFTP server sent a packet of %u bytes; at most %d are taken", n, SFTP_PACKET_MAX);
	escape_term(&shown, p, w->in.len - w->at > 80 ? 80 : w->in.len - w->at);
	err_set(e, ERR_PROTOCOL, "the server sent text instead of SFTP: \"%s\"; a login script of the user must print nothing",
	    buf_str(&shown));
	buf_release(&shown);
	return -1;
}

/* The next whole packet: 1 and its content behind the length; 0 not there yet. */
static int
next_packet(struct sftp_wire *w, struct cursor *c, struct err *e)
{
	size_t have = w->in.len - w->at;
	const uint8_t *p = (const uint8_t *)w->in.p + w->at;
	uint32_t n;

	if (have < 4)
		return 0;
	n = be32(p);
	if (n < 5 || n > SFTP_PACKET_MAX)
		return bad_length(w, n, e);
	if (have - 4 < n)
		return 0;
	cursor_init(c, p + 4, n);
	w->at += 4 + n;
	return 1;
}

static int
read_version(struct sftp_wire *w, struct cursor *c, struct err *e)
{
	uint8_t type = *c->p++;
	uint32_t version = get_u32(c);
	char room[16];

	if (type != P_VERSION)
		return err_set(e, ERR_PROTOCOL, "the SFTP server sent %s where VERSION was due", type_name(type, room));
	if (version != PROTOCOL_VERSION)
		return err_set(e, ERR_PERMANENT, "the SFTP server speaks version %u of the protocol; %d was asked for", version, PROTOCOL_VERSION);
	for (size_t n; cursor_left(c) && !c->bad;) {
		get_string(c, &n, SFTP_STRING_MAX);
		get_string(c, &n, SFTP_STRING_MAX);
	}
	w->ready = true;
	return c->bad ? malformed("VERSION", e) : 0;
}

static void
get_status(struct cursor *c, struct sftp_reply *r)
{
	size_t n;

	r->status = get_u32(c);
	/* Old servers leave the text and its language away. */
	if (!cursor_left(c))
		return;
	r->text = get_string(c, &r->text_n, SFTP_PACKET_MAX);
	if (cursor_left(c))
		get_string(c, &n, SFTP_STRING_MAX);
}

static int
read_reply(uint8_t type, struct cursor *c, struct sftp_reply *r, struct err *e)
{
	char room[16];

	switch (type) {
	case P_STATUS:
		get_status(c, r);
		/* OK is no answer to what must bring something. */
		if (!c->bad && r->status == SFTP_OK && r->op != SFTP_CLOSE)
			return err_set(e, ERR_PROTOCOL, "the SFTP server answered %s with a bare OK", op_rows[r->op].name);
		break;
	case P_HANDLE:
		r->handle = get_string(c, &r->handle_n, SFTP_HANDLE_MAX);
		break;
	case P_ATTRS:
		get_attrs(c, &r->attrs);
		break;
	default:
		r->names = get_u32(c);
		/* Each name has two lengths and the flags of its attributes, at least. */
		if (r->names > cursor_left(c) / 12 || (r->op != SFTP_READDIR && r->names != 1))
			cursor_fail(c);
		r->left = *c;
		if (!r->names && cursor_left(c))
			cursor_fail(c);
		return c->bad ? malformed("NAME", e) : 1;
	}
	return cursor_end(c) ? 1 : malformed(type_name(type, room), e);
}

int
sftp_wire_next(struct sftp_wire *w, struct sftp_reply *r, struct err *e)
{
	struct sftp_request *q;
	struct cursor c;
	char room[16];
	uint32_t id;
	uint8_t type;
	int rc = next_packet(w, &c, e);

	if (rc == 1 && !w->ready) {
		if (read_version(w, &c, e))
			return -1;
		rc = next_packet(w, &c, e);
	}
	if (rc <= 0)
		return rc;
	type = *c.p++;
	id = get_u32(&c);
	q = &w->requests[id % SFTP_UNDER_WAY_MAX];
	if (!q->busy || q->id != id)
		return err_set(e, ERR_PROTOCOL, "the SFTP server sent %s for request %u, which is not under way", type_name(type, room), id);
	if (type != P_STATUS && type != op_rows[q->op].reply)
		return err_set(e, ERR_PROTOCOL, "the SFTP server answered %s with %s", op_rows[q->op].name, type_name(type, room));
	q->busy = false;
	w->under_way--;
	memset(r, 0, sizeof(*r));
	r->op = q->op;
	r->arg = q->arg;
	r->text = "";
	return read_reply(type, &c, r, e);
}

int
sftp_reply_name(struct sftp_reply *r, struct sftp_name *out, struct err *e)
{
	if (!r->names)
		return 0;
	r->names--;
	out->name = get_string(&r->left, &out->name_n, SFTP_STRING_MAX);
	out->longname = get_string(&r->left, &out->longname_n, SFTP_STRING_MAX);
	get_attrs(&r->left, &out->attrs);
	if (r->left.bad || (!r->names && cursor_left(&r->left)))
		return malformed("NAME", e);
	return 1;
}

/* ---- long names ----------------------------------------------------------------------------- */

static bool
next_word(const char **p, const char *end, const char **word, size_t *n)
{
	while (*p < end && **p == ' ')
		++*p;
	*word = *p;
	while (*p < end && **p != ' ')
		++*p;
	*n = (size_t)(*p - *word);
	return *n > 0;
}

bool
sftp_longname_owners(const struct sftp_name *in, const char **owner, size_t *owner_n, const char **group, size_t *group_n)
{
	const char *p = in->longname, *end = p + in->longname_n, *word;
	size_t n;

	/* "-rw-r--r--    1 user     group         348911 Mar 25 14:29 t-filexfer", section 7 of the draft */
	if (!next_word(&p, end, &word, &n) || n < 10 || n > 11 || !memchr("-dlbcpsD", *word, 8))
		return false;
	for (size_t i = 1; i < 10; i++)
		if (!memchr("-rwxsStTl", word[i], 9))
			return false;
	if (!next_word(&p, end, &word, &n) || !next_word(&p, end, owner, owner_n) || !next_word(&p, end, group, group_n))
		return false;
	/* Something must follow: else one of the columns is missing. */
	return next_word(&p, end, &word, &n);
}
