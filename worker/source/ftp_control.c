/*
 * ftp_control.c - one control connection: its libcurl handle, the commands that go with a transfer, the replies.
 *
 * libcurl logs in, opens data connections and speaks TLS; what the server answers is read along, because libcurl's codes
 * alone do not tell a refused path from a refused login, or a whole listing from one that was cut. Commands that libcurl
 * does not know are sent as its QUOTE, and end with the server in the directory that libcurl believes it in. Called by
 * ftp.c and ftp_lines.c; never opens a socket itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/ftp_conn.h"
#include "common/banned.h"

/* A refused option is a bug; a lack of memory ends the worker, as everywhere. */
static void
set_ok(CURLcode code)
{
	if (code)
		BUG("libcurl refused an option");
}
#define SET(easy, option, value) set_ok(curl_easy_setopt((easy), (option), (value)))

/* ---- replies ---- */

/* "SIZE", "MLST type*;size*;modify*;", "UTF8" of FEAT; RFC 2389 section 3.2 has each behind a blank. */
static void
feature(struct conn *c, const char *p, size_t n)
{
	static const char *const wanted[] = { "type", "size", "modify", "unique", "perm", "UNIX.mode", "UNIX.owner",
		"UNIX.group", "UNIX.uid", "UNIX.gid", "UNIX.ownername", "UNIX.groupname" };
	size_t len = 0;
	bool off = false;

	while (n && *p == ' ') {
		p++;
		n--;
	}
	if (n >= 4 && !strncasecmp(p, "UTF8", 4))
		c->has_utf8 = true;
	if (n < 4 || strncasecmp(p, "MLST", 4))
		return;
	c->has_mlst = true;
	/* Facts that are there but not on ('*') are asked for. */
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		size_t w = strlen(wanted[i]);

		for (const char *at = p + 4; at + w < p + n; at++) {
			if ((at[-1] != ' ' && at[-1] != ';') || strncasecmp(at, wanted[i], w) || (at[w] != '*' && at[w] != ';'))
				continue;
			off |= at[w] != '*';
			len += (size_t)snprintf(c->mlst_facts + len, sizeof(c->mlst_facts) - len, "%s;", wanted[i]);
			break;
		}
	}
	if (!off)
		c->mlst_facts[0] = '\0';
}

/* 257 "path" with doubled quotes: RFC 959 appendix II */
static char *
quoted_path(const char *text)
{
	const char *p = strchr(text, '"');
	struct buf b = BUF_INIT;

	if (!p)
		return NULL;
	for (p++; *p; p++) {
		if (*p == '"' && *++p != '"')
			return buf_take(&b);
		buf_putc(&b, *p);
	}
	buf_release(&b);
	return NULL;
}

static void
answer(struct ftp_control *ctl, const struct ftp_ask *ask)
{
	struct ftp_found *f = &ctl->found[ask->k];
	size_t n = strcspn(ctl->reply.text, " \r\n");

	if (ask->kind == FTP_ASK_CWD) {
		f->dir = ctl->reply.code / 100 == 2;
	} else if (ask->kind == FTP_ASK_PWD && ctl->reply.code == 257 && f->dir && !f->pwd) {
		f->pwd = quoted_path(ctl->reply.text);
	} else if (ask->kind == FTP_ASK_SIZE && ctl->reply.code == 213) {
		char number[24];

		snprintf(number, sizeof(number), "%.*s", n < 20 ? (int)n : 0, ctl->reply.text);
		if (units_int(number, &f->size) || f->size < 0)
			f->size = -1;
	} else if (ask->kind == FTP_ASK_MDTM && ctl->reply.code == 213) {
		if (!ftp_time_val(ctl->reply.text, n, &f->mtime_ns))
			snprintf(f->modify, sizeof(f->modify), "%.*s", (int)n, ctl->reply.text);
	}
}

static void
reply_ended(struct ftp_control *ctl)
{
	struct conn *c = ctl->c;

	int64_t took = run_clock() - ctl->asked_ns;

	/* The least of them is the round trip. */
	if (!c->rtt_ns || took < c->rtt_ns)
		c->rtt_ns = took;
	if (ctl->ask_now >= 0 && ctl->reply.code >= 200) {
		answer(ctl, &ctl->asks[ctl->ask_now]);
		ctl->ask_now = -1;
	}
	if (ctl->step == FTP_HELLO && !strcmp(ctl->verb, "SYST") && ctl->reply.code == 215)
		snprintf(c->system, sizeof(c->system), "%s", ctl->reply.text);
	if (!strcmp(ctl->verb, "FEAT") && ctl->reply.code == 211)
		c->has_feat = true;
}

bool
ftp_told_line(struct ftp_control *ctl, const char *p, size_t n)
{
	bool whole = ctl->reply.multi != 0;

	while (n && (p[n - 1] == '\n' || p[n - 1] == '\r'))
		n--;
	if (whole && !strcmp(ctl->verb, "FEAT") && ctl->step == FTP_HELLO)
		feature(ctl->c, p, n);
	whole = ftp_reply_line(&ctl->reply, p, n);
	if (whole)
		reply_ended(ctl);
	return whole;
}

static void
command_sent(struct ftp_control *ctl, const char *p, size_t n)
{
	struct curl_slist *l = ctl->quote;
	const char *text;
	size_t verb = 0;

	while (n && (p[n - 1] == '\n' || p[n - 1] == '\r'))
		n--;
	while (verb < n && p[verb] != ' ' && verb < sizeof(ctl->verb) - 1)
		verb++;
	if (verb == 4 && !memcmp(p, "QUIT", 4))
		ctl->leaving = true;
	if (ctl->leaving)
		return;
	memcpy(ctl->verb, p, verb);
	ctl->verb[verb] = '\0';
	ctl->reply.code = ctl->reply.multi = 0;
	ctl->reply.text[0] = '\0';
	ctl->asked_ns = run_clock();
	if (!strcmp(ctl->verb, "USER")) {
		ctl->logged_in = true;
		/* A new connection: nothing was set up on it, and libcurl knows where the server is. */
		ctl->setup = ctl->setup_goes;
		ctl->typed = ctl->strayed = false;
	}
	/* Is it the next one of ours? libcurl sends its own before and after them. */
	for (size_t i = 0; i < ctl->next_ask && l; i++)
		l = l->next;
	if (!l || ctl->next_ask >= ctl->n_asks)
		return;
	text = l->data + (l->data[0] == '*');
	if (strlen(text) == n && !memcmp(text, p, n))
		ctl->ask_now = (int)ctl->next_ask++;
}

/* libcurl's words about TLS are the only place where version and cipher are told. */
static void
note_tls(struct conn *c, const char *p, size_t n)
{
	static const char head[] = "SSL connection using ";
	char text[128];
	char *slash;

	if (n <= sizeof(head) || memcmp(p, head, sizeof(head) - 1))
		return;
	snprintf(text, sizeof(text), "%.*s", (int)(n - sizeof(head) + 1), p + sizeof(head) - 1);
	text[strcspn(text, "\r\n")] = '\0';
	slash = strstr(text, " / ");
	if (!slash)
		return;
	*slash = '\0';
	snprintf(c->tls_version, sizeof(c->tls_version), "%s", text);
	snprintf(c->tls_cipher, sizeof(c->tls_cipher), "%s", slash + 3);
}

static void
told(struct transfer *t, curl_infotype type, const char *p, size_t n)
{
	static const char end[] = "(IN), TLS alert, close notify";
	struct ftp_control *ctl = (struct ftp_control *)t;

	if (type == CURLINFO_HEADER_OUT) {
		command_sent(ctl, p, n);
	} else if (type == CURLINFO_HEADER_IN && !ctl->leaving) {
		ftp_told_line(ctl, p, n);
	} else if (type == CURLINFO_TEXT) {
		note_tls(ctl->c, p, n);
		/* The control connection stays open: this is the data connection's. */
		ctl->told_end |= memmem(p, n, end, sizeof(end) - 1) != NULL;
	}
}

/* ---- handles ---- */

bool
ftp_setup(const struct conn *c, unsigned k, char *text, size_t n)
{
	int64_t utf8 = run_int(c->run, SF_FTP_UTF8);

	if ((utf8 == 1 || (!utf8 && c->has_utf8 && c->encoding == FTP_UTF8)) && k-- == 0) {
		snprintf(text, n, "OPTS UTF8 ON");
		return true;
	}
	if (!c->mlst_facts[0] || k)
		return false;
	snprintf(text, n, "OPTS MLST %s", c->mlst_facts);
	return true;
}

static bool
needs_setup(const struct conn *c)
{
	char text[256];

	return ftp_setup(c, 0, text, sizeof(text));
}

static size_t
received(char *p, size_t size, size_t n, void *arg)
{
	struct ftp_control *ctl = arg;

	if (ctl->step != FTP_LISTING)
		return size * n;
	/* libcurl had to log in anew, and the options that names depend on were not sent: nothing of this counts. */
	if (ctl->logged_in && !ctl->setup && needs_setup(ctl->c)) {
		ctl->again = true;
		return 0;
	}
	return ftp_lines_feed(ctl, p, size * n) ? 0 : size * n;
}

struct ftp_control *
ftp_control_new(struct conn *c)
{
	struct ftp_control *ctl = xcalloc(1, sizeof(*ctl));
	const struct run *r = c->run;
	const char *user = run_str(r, SF_FTP_USERNAME), *password = run_str(r, SF_FTP_PASSWORD);
	bool tls = run_int(r, SF_FTP_TLS_MODE) != FTP_TLS_NONE;
	static unsigned serial;
	CURL *easy = curl_session_easy(c->session);
	char pin[32];

	ctl->c = c;
	ctl->t.easy = easy;
	ctl->t.told = told;
	ctl->held = 2;
	ctl->ask_now = -1;
	ctl->lane.control = ctl->lane.data = -1;
	SET(easy, CURLOPT_USERNAME, *user ? user : "anonymous");
	SET(easy, CURLOPT_PASSWORD, *password || (*user && strcmp(user, "anonymous")) ? password : "iis-poller@");
	if (tls) {
		/* ALL and CONTROL both never go on in clear. */
		SET(easy, CURLOPT_USE_SSL, (long)(run_int(r, SF_FTP_DATA_TLS) ? CURLUSESSL_CONTROL : CURLUSESSL_ALL));
		SET(easy, CURLOPT_FTPSSLAUTH, (long)CURLFTPAUTH_TLS);
		SET(easy, CURLOPT_SSL_SESSIONID_CACHE, run_int(r, SF_FTP_TLS_SESSION_REUSE) ? 1L : 0L);
	}
	SET(easy, CURLOPT_FTP_USE_EPSV, run_int(r, SF_FTP_DISABLE_EPSV) ? 0L : 1L);
	SET(easy, CURLOPT_FTP_SKIP_PASV_IP, 1L);
	SET(easy, CURLOPT_FTP_FILEMETHOD, (long)(run_int(r, SF_FTP_CWD_METHOD) ? CURLFTPMETHOD_MULTICWD : CURLFTPMETHOD_SINGLECWD));
	SET(easy, CURLOPT_PATH_AS_IS, 1L);
	SET(easy, CURLOPT_WRITEFUNCTION, received);
	SET(easy, CURLOPT_WRITEDATA, ctl);
	/*
	 * libcurl gives a connection of the pool only to a handle with the same account, so that each handle keeps its own:
	 * a data connection that resumed the TLS session of another control connection would be refused (425). Servers
	 * that ask for an account (332) are refused in ftp_reply.c.
	 */
	snprintf(pin, sizeof(pin), "none-%u", ++serial);
	SET(easy, CURLOPT_FTP_ACCOUNT, pin);
	return ctl;
}

void
ftp_control_clear(struct ftp_control *ctl)
{
	curl_slist_free_all(ctl->quote);
	ctl->quote = NULL;
	ctl->n_asks = ctl->next_ask = 0;
	ctl->ask_now = -1;
	ctl->step = FTP_IDLE;
	buf_clear(&ctl->line);
	buf_clear(&ctl->deferred);
	buf_clear(&ctl->pending);
	ctl->pending_at = 0;
	ctl->held = 2;
	ctl->lines = 0;
	ctl->repeats = (struct again){ .n = 0 };
	ctl->format = FTP_ANY;
	ctl->deferring = ctl->overflow = ctl->stop = ctl->again = false;
	err_clear(&ctl->why);
	for (size_t i = 0; i < FTP_BATCH; i++) {
		free(ctl->found[i].pwd);
		ctl->found[i].pwd = NULL;
	}
}

void
ftp_control_free(struct ftp_control *ctl)
{
	if (!ctl)
		return;
	ftp_control_clear(ctl);
	curl_session_recycle(ctl->c->session, ctl->t.easy);
	buf_release(&ctl->lane.out);
	buf_release(&ctl->lane.in);
	buf_release(&ctl->line);
	buf_release(&ctl->deferred);
	buf_release(&ctl->pending);
	buf_release(&ctl->slot[0].line);
	buf_release(&ctl->slot[1].line);
	free(ctl);
}

/* ---- commands ---- */

static void
add_quote(struct ftp_control *ctl, struct ftp_ask ask, const char *text)
{
	struct curl_slist *l;

	if (ctl->n_asks == FTP_ASKS)
		BUG("more commands than one transfer takes");
	l = curl_slist_append(ctl->quote, text);
	if (!l)
		BUG("curl_slist_append");
	ctl->quote = l;
	ctl->asks[ctl->n_asks++] = ask;
}

void
ftp_ask_begin(struct ftp_control *ctl)
{
	curl_slist_free_all(ctl->quote);
	ctl->quote = NULL;
	ctl->n_asks = ctl->next_ask = 0;
	ctl->ask_now = -1;
	ctl->verb[0] = ctl->reply.text[0] = '\0';
	ctl->reply.code = ctl->reply.multi = 0;
	ctl->logged_in = ctl->leaving = ctl->told_end = ctl->setup_goes = ctl->asks_hello = false;
}

void
ftp_ask(struct ftp_control *ctl, enum ftp_ask_kind kind, unsigned k, const char *verb, const char *path, size_t n)
{
	struct buf b = BUF_INIT;

	if (path && !ftp_sendable(path, n))
		BUG("a path that would end its command");
	buf_puts(&b, verb);
	if (path) {
		buf_putc(&b, ' ');
		buf_add(&b, path, n);
	}
	add_quote(ctl, (struct ftp_ask){ kind, k }, buf_str(&b));
	buf_release(&b);
}

/* The options of this server, once for each connection and task. */
static void
add_setup(struct ftp_control *ctl)
{
	char text[256];

	if (ctl->setup)
		return;
	for (unsigned k = 0; ftp_setup(ctl->c, k, text + 1, sizeof(text) - 1); k++) {
		text[0] = '*';
		ftp_ask(ctl, FTP_ASK_OTHER, 0, text, NULL, 0);
	}
	ctl->setup = ctl->setup_goes = true;
}

static void
aim(struct ftp_control *ctl, const char *url)
{
	curl_session_aim(ctl->c->session, ctl->t.easy, url, run_int(ctl->c->run, SF_FTP_TLS_MODE) != FTP_TLS_NONE);
}

/* The URL of a directory: "ftp://host:21/" and the absolute path, whose own '/' makes it absolute. */
static void
set_url(struct ftp_control *ctl, const char *dir, size_t n)
{
	struct buf *b = &ctl->c->url_text;

	buf_clear(b);
	buf_puts(b, ctl->c->url);
	ftp_url_path(b, dir, n);
	if (n && dir[n - 1] != '/')
		buf_putc(b, '/');
	aim(ctl, buf_str(b));
}

static int
start(struct ftp_control *ctl, enum ftp_step step, bool body, const char *command, struct err *e)
{
	ctl->step = step;
	ctl->t.lane = NULL;
	SET(ctl->t.easy, CURLOPT_NOBODY, body ? 0L : 1L);
	SET(ctl->t.easy, CURLOPT_CUSTOMREQUEST, command);
	SET(ctl->t.easy, CURLOPT_QUOTE, ctl->quote);
	return curl_session_start(ctl->c->session, &ctl->t, e);
}

int
ftp_hello(struct ftp_control *ctl, struct err *e)
{
	ftp_ask_begin(ctl);
	if (ftp_lane_ready(ctl)) {
		ctl->asks_hello = true;
		return ftp_lane_hello(ctl, e);
	}
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "*SYST", NULL, 0);
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "*FEAT", NULL, 0);
	ctl->asks_hello = true;
	aim(ctl, ctl->c->url);
	return start(ctl, FTP_HELLO, false, NULL, e);
}

int
ftp_log_in(struct ftp_control *ctl, struct err *e)
{
	ftp_ask_begin(ctl);
	aim(ctl, ctl->c->url);
	return start(ctl, FTP_HELLO, false, NULL, e);
}

int
ftp_bytes(struct conn *c, const char *path, size_t n)
{
	buf_clear(&c->path);
	return ftp_encode(&c->path, c->encoding, path, n);
}

const char *
ftp_list_verb(const struct conn *c)
{
	return c->mlsd ? "MLSD" : c->hidden ? "LIST -a" : "LIST";
}

static bool
has_control(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20)
			return true;
	return false;
}

/*
 * libcurl takes no control characters in a URL. Such a directory is named in the command itself, with a CWD before that
 * shows whether it is there; LIST would take some characters for a pattern.
 */
static int
list_odd(struct ftp_control *ctl, const char *p, size_t n, struct err *e)
{
	struct buf command = BUF_INIT;
	int rc;

	for (size_t i = 0; !ctl->c->mlsd && i < n; i++)
		if (strchr("*?[]{}\\ ", p[i])) {
			err_set(e, ERR_PERMANENT, "a path with control characters beside blanks or patterns cannot be sent with LIST");
			return 1;
		}
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "CWD", p, n);
	buf_printf(&command, "%s ", ftp_list_verb(ctl->c));
	buf_add(&command, p, n);
	set_url(ctl, "/", 1);
	rc = start(ctl, FTP_LISTING, true, buf_str(&command), e);
	buf_release(&command);
	return rc;
}

/* Logged in on, it can be a lane's. A login of its own takes a turn of a rate. */
bool
ftp_logs_in_first(const struct ftp_control *ctl)
{
	return ftp_lane_may(ctl) && !pace_on(ctl->c->run) && !ctl->entered && !curl_session_has(ctl->c->session, &ctl->t);
}

int
ftp_list_start(struct ftp_control *ctl, struct err *e)
{
	struct conn *c = ctl->c;

	if (ftp_bytes(c, ctl->dir->path, ctl->dir->path_n)) {
		err_set(e, ERR_PERMANENT, "the path has characters that the field encoding lacks");
		return 1;
	}
	if (!ftp_sendable(c->path.p, c->path.len)) {
		err_set(e, ERR_PERMANENT, "a command of FTP cannot carry the line break in the name");
		return 1;
	}
	ftp_control_clear(ctl);
	ctl->deferring = !c->mlsd && c->zone_wanted;
	ctl->format = (enum ftp_format)run_int(c->run, SF_FTP_LIST_FORMAT);
	ftp_ask_begin(ctl);
	if (ftp_lane_ready(ctl))
		return ftp_lane_start(ctl, e);
	if (ftp_logs_in_first(ctl)) {
		ctl->entered = true;
		return ftp_log_in(ctl, e);
	}
	add_setup(ctl);
	if (has_control(c->path.p, c->path.len))
		return list_odd(ctl, c->path.p, c->path.len, e);
	/* libcurl believes that the server is where its own last transfer was, and sends no CWD there. */
	if (ctl->strayed)
		ftp_ask(ctl, FTP_ASK_OTHER, 0, "CWD", c->path.p, c->path.len);
	set_url(ctl, c->path.p, c->path.len);
	return start(ctl, FTP_LISTING, true, ftp_list_verb(c), e);
}

int
ftp_ask_start(struct ftp_control *ctl, enum ftp_about about, const char *dir, size_t n, struct err *e)
{
	bool odd = has_control(dir, n);

	ctl->about = about;
	/* libcurl may believe that the server is there already, and send no CWD of its own. */
	ftp_ask(ctl, FTP_ASK_OTHER, 0, "CWD", odd ? "/" : dir, odd ? 1 : n);
	set_url(ctl, odd ? "/" : dir, odd ? 1 : n);
	return start(ctl, FTP_ASKING, false, NULL, e);
}

/* ---- errors ---- */

bool
ftp_replied(const struct ftp_control *ctl, CURLcode code)
{
	bool negative = ctl->reply.code >= 400 || ctl->reply.code == 120 || ctl->reply.code == 331 || ctl->reply.code == 332;

	switch (code) {
	case CURLE_OK:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_REMOTE_ACCESS_DENIED:
	case CURLE_FTP_WEIRD_PASS_REPLY:
	case CURLE_FTP_WEIRD_PASV_REPLY:
	case CURLE_FTP_COULDNT_SET_TYPE:
	case CURLE_FTP_COULDNT_RETR_FILE:
	case CURLE_QUOTE_ERROR:
	case CURLE_LOGIN_DENIED:
	case CURLE_USE_SSL_FAILED:
	case CURLE_PARTIAL_FILE:
	case CURLE_REMOTE_FILE_NOT_FOUND:
	case CURLE_REMOTE_DISK_FULL:
		return negative;
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	/* This is what libcurl makes of 421. */
	case CURLE_OPERATION_TIMEDOUT:
		return ctl->reply.code == 421;
	default:
		return false;
	}
}

/* Texts that leave no doubt that a path is not there. */
static bool
surely_absent(const char *text)
{
	static const char *const words[] = { "no such", "not found", "cannot find", "can't find", "not exist", "doesn't exist" };

	/* RFC 959's own words leave it open: "File unavailable (e.g., file not found, no access)". */
	if (strcasestr(text, "access") || strcasestr(text, "unavailable"))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcasestr(text, words[i]))
			return true;
	return false;
}

static void
put_what(struct buf *b, const struct ftp_control *ctl)
{
	const struct conn *c = ctl->c;

	if (ctl->step == FTP_HELLO || !ctl->dir) {
		buf_puts(b, *ctl->verb ? ctl->verb : "greeting");
		buf_puts(b, " at ");
		escape_term(b, c->url, strlen(c->url) - 1);
		return;
	}
	buf_printf(b, "%s for ", *ctl->verb ? ctl->verb : "login");
	escape_term(b, c->url, strlen(c->url) - 1);
	escape_term(b, ctl->dir->path, ctl->dir->path_n < 300 ? ctl->dir->path_n : 300);
}

int
ftp_error(const struct ftp_control *ctl, CURLcode code, bool below, struct err *e)
{
	struct buf b = BUF_INIT;
	const char *what = "";
	enum err_class cls;

	put_what(&b, ctl);
	/* libcurl goes on to PASV where policy refused what EPSV named, and has only that reply to show. */
	if (!ftp_replied(ctl, code) || curl_session_refused(&ctl->t)) {
		curl_session_error(&ctl->t, code, buf_str(&b), e);
		buf_release(&b);
		return -1;
	}
	cls = ftp_reply_class(ftp_verb_phase(ctl->verb), ctl->reply.code, ctl->reply.text, &what);
	/* ACCT came of our pin: ftp_control_new. */
	if (!strcmp(ctl->verb, "ACCT")) {
		cls = ERR_AUTH;
		what = "the server wants an account (ACCT), which is not served";
	}
	if (code == CURLE_USE_SSL_FAILED && cls != ERR_TRANSIENT) {
		cls = ERR_PERMANENT;
		what = "the server does not take TLS, and tls_mode never goes on without";
	}
	/*
	 * Below the job's path an absent directory is one that vanished meanwhile, and passed over. So it must be sure:
	 * many servers have one reply for no access and for not there, and read byte 255 as a sign of telnet.
	 */
	if (below && cls == ERR_NOT_FOUND && (!surely_absent(ctl->reply.text) || memchr(ctl->dir->path, '\xff', ctl->dir->path_n)))
		cls = ERR_AUTH;
	buf_printf(&b, ": %s: %u ", what, ctl->reply.code);
	/* Some servers repeat the command that they do not take, and PASS is one. */
	if (run_repeats_secret(ctl->c->run, ctl->reply.text, strlen(ctl->reply.text)))
		buf_puts(&b, "(its words repeat the password)");
	else
		escape_term(&b, ctl->reply.text, strlen(ctl->reply.text));
	err_set(e, cls, "%s", buf_str(&b));
	buf_release(&b);
	return -1;
}
