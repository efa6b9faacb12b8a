/*
 * ftp_lane.c - lists a directory over a control connection that libcurl has logged in on, in three round trips.
 *
 * libcurl 7.88 waits for the reply to each command: four round trips for a directory, and one for each option before the
 * first. A listing over a long way consists of such waits. Here what does not depend on a reply goes out at once: options,
 * type, CWD and EPSV, then the listing's command with the data connection. RFC 959 forbids nothing of it, and servers read
 * their commands one by one; one that loses some, or answers what it should not, is left to libcurl for the whole task.
 * In clear and without a proxy only: there libcurl has no state in between that matters. Called by ftp_control.c; sockets
 * come from curl_socket.c. The codes are those that libcurl gives for the same, so that ftp.c need not know the difference.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/xalloc.h"
#include "worker/source/ftp_conn.h"
#include "common/banned.h"

#define LINE_MOST 8192          /* bytes of a line of a reply: a path of the longest kind fits */
#define REPLY_MOST 65536        /* of all its lines */
#define DATA_BYTES 65536
#define DATA_TURNS 4            /* reads before others have their turn */
#define PATIENCE_MS 3000        /* for a server that has not shown yet that it takes commands at once */

/* ---- the end ---- */

/* whole: the control connection has nothing left on it. */
static bool
finish(struct ftp_control *ctl, bool whole)
{
	struct ftp_lane *l = &ctl->lane;
	struct curl_session *s = ctl->c->session;

	if (l->data >= 0)
		curl_session_close(s, l->data);
	if (l->control >= 0)
		curl_session_lend_over(s, l->control, whole && !l->spoilt && !l->in.len && !l->out.len);
	l->data = l->control = -1;
	buf_clear(&l->in);
	buf_clear(&l->out);
	return true;
}

static bool
fail(struct ftp_control *ctl, CURLcode result, bool whole, const char *why, CURLcode *code)
{
	snprintf(ctl->t.error, sizeof(ctl->t.error), "%s", why);
	*code = result;
	return finish(ctl, whole);
}

static bool
odd(struct ftp_control *ctl, bool whole, CURLcode *code)
{
	ctl->lane.odd = true;
	return fail(ctl, CURLE_WEIRD_SERVER_REPLY, whole, "the server does not take commands ahead of their replies", code);
}

static void
dropped(struct transfer *t)
{
	struct ftp_control *ctl = (struct ftp_control *)t;

	/* It never showed that it takes several commands at once, so libcurl is to tell what is wrong. */
	ctl->lane.odd |= ctl->lane.at == FTP_LANE_FLIGHT && !ctl->c->lane_proved;
	finish(ctl, false);
}

/* ---- commands ---- */

static void
add(struct ftp_control *ctl, const char *command, const char *path, size_t n)
{
	struct ftp_lane *l = &ctl->lane;
	size_t verb = strcspn(command, " ");

	if (l->n_due == FTP_FLIGHT || verb >= sizeof(l->due[0]) || (path && !ftp_sendable(path, n)))
		BUG("a command that cannot be sent");
	memcpy(l->due[l->n_due], command, verb);
	l->due[l->n_due++][verb] = '\0';
	buf_puts(&l->out, command);
	if (path) {
		buf_putc(&l->out, ' ');
		buf_add(&l->out, path, n);
	}
	buf_puts(&l->out, "\r\n");
}

/* The reply that is due is that of due[due_at]. */
static void
await(struct ftp_control *ctl)
{
	struct ftp_lane *l = &ctl->lane;

	memset(&l->reply, 0, sizeof(l->reply));
	l->reply_bytes = 0;
	if (l->refused)
		return;
	snprintf(ctl->verb, sizeof(ctl->verb), "%s", l->due[l->due_at]);
	memset(&ctl->reply, 0, sizeof(ctl->reply));
}

static void
begin(struct ftp_control *ctl, enum ftp_lane_at at)
{
	ctl->lane.at = at;
	ctl->lane.due_at = 0;
	await(ctl);
	ctl->asked_ns = run_clock();
	curl_session_asked(&ctl->t, false);
}

static void
ask_for_data(struct ftp_control *ctl)
{
	ctl->lane.n_due = 0;
	add(ctl, ctl->c->pasv ? "PASV" : "EPSV", NULL, 0);
	begin(ctl, FTP_LANE_FLIGHT);
}

static void
ask_for_listing(struct ftp_control *ctl)
{
	ctl->lane.n_due = 0;
	add(ctl, ftp_list_verb(ctl->c), NULL, 0);
	begin(ctl, FTP_LANE_LIST);
}

/* In the order in which libcurl sends them. */
static void
ask_first(struct ftp_control *ctl)
{
	const struct buf *path = &ctl->c->path;
	/* As libcurl, whose CWD has no '/' at the end */
	size_t n = path->len > 1 && path->p[path->len - 1] == '/' ? path->len - 1 : path->len;
	char text[256];

	for (unsigned k = 0; !ctl->setup && ftp_setup(ctl->c, k, text, sizeof(text)); k++)
		add(ctl, text, NULL, 0);
	ctl->setup = true;
	if (!ctl->typed)
		add(ctl, "TYPE A", NULL, 0);
	add(ctl, "CWD", path->p, n);
	add(ctl, ctl->c->pasv ? "PASV" : "EPSV", NULL, 0);
}

/* False: the connection broke. */
static bool
send_out(struct ftp_lane *l)
{
	while (l->out_at < l->out.len) {
		ssize_t n = send(l->control, l->out.p + l->out_at, l->out.len - l->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EINTR)
			return errno == EAGAIN;
		l->out_at += n > 0 ? (size_t)n : 0;
	}
	buf_clear(&l->out);
	l->out_at = 0;
	return true;
}

/* ---- the data connection ---- */

static bool
open_data(struct ftp_control *ctl, CURLcode *code)
{
	struct ftp_lane *l = &ctl->lane;
	bool connected;

	l->data = curl_session_data_socket(&ctl->t, l->control, l->port, &connected);
	if (l->data < 0 && curl_session_refused(&ctl->t))
		return fail(ctl, CURLE_COULDNT_CONNECT, true, "", code);
	if (l->data < 0)
		return odd(ctl, true, code);
	l->at = FTP_LANE_CONNECT;
	if (connected)
		ask_for_listing(ctl);
	else
		curl_session_asked(&ctl->t, true);
	return false;
}

/* True: it has ended, in vain; libcurl tries in its ways, and says what is wrong. */
static bool
look_at_connecting(struct ftp_control *ctl, CURLcode *code)
{
	struct pollfd p = { .fd = ctl->lane.data, .events = POLLOUT };
	int error = 0;
	socklen_t n = sizeof(error);

	if (poll(&p, 1, 0) <= 0)
		return false;
	if (getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &error, &n) || error)
		return odd(ctl, true, code);
	ask_for_listing(ctl);
	return false;
}

static bool
read_data(struct ftp_control *ctl, CURLcode *code)
{
	static char bytes[DATA_BYTES];
	struct ftp_lane *l = &ctl->lane;

	for (int turn = 0; turn < DATA_TURNS; turn++) {
		ssize_t n = recv(l->data, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (n < 0)
			return fail(ctl, CURLE_RECV_ERROR, false, strerror(errno), code);
		if (!n) {
			curl_session_close(ctl->c->session, l->data);
			l->data = -1;
			l->eof = true;
			if (!l->ended)
				curl_session_asked(&ctl->t, false);
			return false;
		}
		curl_session_heard(&ctl->t, true);
		if (ftp_lines_feed(ctl, bytes, ftp_line_ends(bytes, (size_t)n, &l->cr)))
			return fail(ctl, CURLE_WRITE_ERROR, false, "", code);
	}
	return false;
}

/* ---- replies ---- */

static bool
port_replied(struct ftp_control *ctl, CURLcode *code)
{
	struct conn *c = ctl->c;
	struct ftp_lane *l = &ctl->lane;
	const struct ftp_reply *r = &l->reply;

	if (!c->pasv && r->code >= 500 && r->code < 600) {
		c->pasv = true;
		ask_for_data(ctl);
		return false;
	}
	if (r->code != (c->pasv ? 227 : 229) || (c->pasv ? ftp_pasv_port : ftp_epsv_port)(r->text, &l->port))
		return odd(ctl, false, code);
	c->lane_proved = true;
	ctl->t.patience_ms = 0;
	return open_data(ctl, code);
}

/* One of the first flight. */
static bool
first_replied(struct ftp_control *ctl, CURLcode *code)
{
	struct ftp_lane *l = &ctl->lane;
	const char *verb = l->due[l->due_at];
	unsigned c = l->reply.code;
	bool last = l->due_at + 1 == l->n_due;

	/* What belongs to another command shows that one was lost. */
	if (c < 200 || c == 221 || (!last && (c == 227 || c == 229)))
		return odd(ctl, false, code);
	if (!strcmp(verb, "TYPE")) {
		if (c / 100 != 2)
			return odd(ctl, false, code);
		ctl->typed = true;
	}
	if (!strcmp(verb, "CWD")) {
		l->refused = c / 100 != 2;
		ctl->strayed = true;
	}
	if (!last) {
		l->due_at++;
		await(ctl);
		curl_session_asked(&ctl->t, false);
		return false;
	}
	if (l->refused)
		return fail(ctl, CURLE_REMOTE_ACCESS_DENIED, true, "", code);
	return port_replied(ctl, code);
}

static bool
listing_replied(struct ftp_control *ctl, CURLcode *code)
{
	struct ftp_lane *l = &ctl->lane;
	unsigned c = l->reply.code;

	if (!l->begun) {
		if (c >= 200)
			return fail(ctl, CURLE_FTP_COULDNT_RETR_FILE, true, "", code);
		l->begun = true;
		memset(&l->reply, 0, sizeof(l->reply));
		l->reply_bytes = 0;
		return false;
	}
	l->ended = true;
	if (c != 226 && c != 250)
		return fail(ctl, CURLE_PARTIAL_FILE, true, "", code);
	return false;
}

/* To SYST or FEAT; what it tells is taken. */
static bool
hello_replied(struct ftp_control *ctl, CURLcode *code)
{
	struct ftp_lane *l = &ctl->lane;

	if (ctl->reply.code == 421)
		return fail(ctl, CURLE_OPERATION_TIMEDOUT, false, "", code);
	if (ctl->reply.code < 200 || ctl->reply.code == 221)
		return odd(ctl, false, code);
	if (++l->due_at == l->n_due) {
		ctl->c->lane_proved = true;
		return finish(ctl, true);
	}
	await(ctl);
	curl_session_asked(&ctl->t, false);
	return false;
}

/* Takes one reply; true: the lane has ended. */
static bool
replied(struct ftp_control *ctl, CURLcode *code)
{
	struct ftp_lane *l = &ctl->lane;

	if (ctl->step == FTP_HELLO)
		return hello_replied(ctl, code);
	if (l->ended) {
		/* One too many: the next command must not take it for its own. */
		l->spoilt = true;
		return false;
	}
	if (!l->refused)
		ctl->reply = l->reply;
	/* This is what libcurl makes of it. */
	if (l->reply.code == 421 && !l->refused)
		return fail(ctl, CURLE_OPERATION_TIMEDOUT, false, "", code);
	if (l->at == FTP_LANE_CONNECT)
		return odd(ctl, false, code);
	return l->at == FTP_LANE_FLIGHT ? first_replied(ctl, code) : listing_replied(ctl, code);
}

/* The lines that are there. */
static bool
take_lines(struct ftp_control *ctl, CURLcode *code)
{
	struct ftp_lane *l = &ctl->lane;
	char *nl;

	while (l->control >= 0 && l->in.len && (nl = memchr(l->in.p, '\n', l->in.len))) {
		size_t n = (size_t)(nl + 1 - l->in.p);
		bool whole = ctl->step == FTP_HELLO ? ftp_told_line(ctl, l->in.p, n) : ftp_reply_line(&l->reply, l->in.p, n);

		l->reply_bytes += n;
		memmove(l->in.p, l->in.p + n, l->in.len - n);
		l->in.len -= n;
		if (whole && replied(ctl, code))
			return true;
		if (l->reply_bytes > REPLY_MOST)
			break;
	}
	if (l->in.len > LINE_MOST || l->reply_bytes > REPLY_MOST)
		return fail(ctl, CURLE_WEIRD_SERVER_REPLY, false, "a reply without end", code);
	return false;
}

static bool
read_control(struct ftp_control *ctl, CURLcode *code)
{
	struct ftp_lane *l = &ctl->lane;
	ssize_t n = recv(l->control, buf_room(&l->in, LINE_MOST), LINE_MOST, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		return fail(ctl, CURLE_RECV_ERROR, false, n ? strerror(errno) : "the server closed the control connection", code);
	l->in.len += (size_t)n;
	curl_session_heard(&ctl->t, false);
	return take_lines(ctl, code);
}

/* ---- the lane ---- */

static void
watch(struct ftp_control *ctl)
{
	const struct ftp_lane *l = &ctl->lane;

	ctl->t.watch[0] = (struct curl_waitfd){ .fd = l->control, .events = CURL_WAIT_POLLIN };
	if (l->out.len)
		ctl->t.watch[0].events |= CURL_WAIT_POLLOUT;
	ctl->t.watch[1] = (struct curl_waitfd){ .fd = l->data,
		.events = l->at == FTP_LANE_CONNECT ? CURL_WAIT_POLLOUT : CURL_WAIT_POLLIN };
}

static bool
work(struct transfer *t, CURLcode *code)
{
	struct ftp_control *ctl = (struct ftp_control *)t;
	struct ftp_lane *l = &ctl->lane;

	if (l->at == FTP_LANE_OUT)
		begin(ctl, FTP_LANE_FLIGHT);
	/* The data first: the last reply may stand behind it. */
	if (l->data >= 0 && t->watch[1].revents && (l->at == FTP_LANE_CONNECT ? look_at_connecting(ctl, code) : read_data(ctl, code)))
		return true;
	if (l->ended && l->eof)
		return finish(ctl, true);
	if (t->watch[0].revents && read_control(ctl, code))
		return true;
	if (l->ended && l->eof)
		return finish(ctl, true);
	if (!send_out(l))
		return fail(ctl, CURLE_SEND_ERROR, false, strerror(errno), code);
	watch(ctl);
	return false;
}

static const struct lane lane = { .work = work, .drop = dropped };

bool
ftp_lane_may(const struct ftp_control *ctl)
{
	const struct run *r = ctl->c->run;

	return !ctl->c->lane_off && run_int(r, SF_FTP_TLS_MODE) == FTP_TLS_NONE && !run_int(r, SF_FTP_CWD_METHOD);
}

bool
ftp_lane_ready(struct ftp_control *ctl)
{
	if (ftp_lane_may(ctl))
		ctl->lane.control = curl_session_lend(ctl->c->session, &ctl->t);
	return ftp_lane_may(ctl) && ctl->lane.control >= 0;
}

static void
reset(struct ftp_control *ctl)
{
	struct ftp_lane *l = &ctl->lane;

	l->at = FTP_LANE_OUT;
	l->n_due = l->due_at = 0;
	l->refused = l->begun = l->ended = l->eof = l->spoilt = l->cr = l->odd = false;
	buf_clear(&l->in);
	buf_clear(&l->out);
	l->out_at = 0;
}

static int
start(struct ftp_control *ctl, enum ftp_step step, struct err *e)
{
	struct conn *c = ctl->c;

	ctl->step = step;
	ctl->t.lane = &lane;
	ctl->t.patience_ms = c->lane_proved ? 0 : PATIENCE_MS + 10 * c->rtt_ns / 1000000;
	for (unsigned k = 0; k < LANE_SOCKETS; k++)
		ctl->t.watch[k] = (struct curl_waitfd){ .fd = -1 };
	if (curl_session_start(c->session, &ctl->t, e)) {
		finish(ctl, false);
		return -1;
	}
	return 0;
}

int
ftp_lane_hello(struct ftp_control *ctl, struct err *e)
{
	reset(ctl);
	add(ctl, "SYST", NULL, 0);
	add(ctl, "FEAT", NULL, 0);
	return start(ctl, FTP_HELLO, e);
}

int
ftp_lane_start(struct ftp_control *ctl, struct err *e)
{
	struct conn *c = ctl->c;

	reset(ctl);
	c->pasv |= run_int(c->run, SF_FTP_DISABLE_EPSV);
	ask_first(ctl);
	return start(ctl, FTP_LISTING, e);
}
