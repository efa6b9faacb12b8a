/*
 * worker_curl.c - the libcurl session against small servers of this file: what proxies are told, what the policy stops,
 * each timeout, reuse, cancel, TLS, and the class of every code.
 *
 * A server is a child process that answers one connection a child; what it was asked lies in shared memory.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "t/unit/worker_mini.h"
#include "worker/source/curl.h"
#include "common/banned.h"

#define LOG_MAX 65536
#define BODY "0123456789abcdef"

static struct shared {
	atomic_uint accepted, len;
	char log[LOG_MAX];
} *shared;

static struct channel channel;
static struct setup setup;
static struct task_spec task;
static struct run run;
static struct curl_session *session;
static struct err e = ERR_INIT;
static int master = -1;                 /* the other end of the channel */
static int body_came[2];                /* a byte for each piece of a body that the client has */

/* --- servers --- */

static void
record(const char *p, size_t n)
{
	unsigned at = atomic_fetch_add(&shared->len, (unsigned)n);

	if (at + n < LOG_MAX)
		memcpy(shared->log + at, p, n);
}

static void
say(int fd, const char *text)
{
	size_t n = strlen(text);

	/* a client that has gone is its own affair */
	if (send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
		_exit(0);
}

/* Up to and with `end`, recorded. */
static void
read_to(int fd, const char *end, char *out, size_t size)
{
	size_t n = 0, m = strlen(end);

	while (n + 1 < size) {
		if (recv(fd, out + n, 1, 0) != 1)
			_exit(0);
		n++;
		if (n >= m && !memcmp(out + n - m, end, m))
			break;
	}
	out[n] = '\0';
	record(out, n);
}

static void
until_closed(int fd)
{
	char c;

	while (recv(fd, &c, 1, 0) > 0)
		;
	_exit(0);
}

static void
serve_http(int fd)
{
	char req[8192];

	for (;;) {
		read_to(fd, "\r\n\r\n", req, sizeof(req));
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" BODY);
	}
}

static void
serve_silent(int fd)
{
	char req[8192];

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	until_closed(fd);
}

static void
serve_stall(int fd)
{
	char req[8192];

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n01234567");
	until_closed(fd);
}

static void
serve_cut(int fd)
{
	char req[8192];

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n01234567");
	_exit(0);
}

static void
serve_reset(int fd)
{
	struct linger now = { 1, 0 };
	char req[8192], c;

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n01234567");
	/* the reset must not overtake the half answer */
	if (read(body_came[0], &c, 1) != 1)
		_exit(1);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	_exit(0);
}

static void
serve_nothing(int fd)
{
	char req[8192];

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	_exit(0);
}

/* Accepts and says nothing: no greeting, no handshake. */
static void
serve_deaf(int fd)
{
	until_closed(fd);
}

/* Gone as soon as something comes. */
static void
serve_slam(int fd)
{
	char c;

	recv(fd, &c, 1, 0);
	_exit(0);
}

/* One request a connection, which is then closed in silence. */
static void
serve_once(int fd)
{
	char req[8192];

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" BODY);
	_exit(0);
}

static void
serve_cancel(int fd)
{
	struct buf b = BUF_INIT;
	char req[8192];

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	ipc_begin(&b, MSG_CANCEL, 1, 7);
	ipc_finish(&b);
	ipc_send(master, &b);
	until_closed(fd);
}

static void
serve_connect(int fd)
{
	char req[8192];

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	say(fd, "HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n");
	serve_http(fd);
}

/* What an HTTP proxy answers to CONNECT (RFC 9110, sections 9.3.6 and 15), and what comes of it. */
static const struct { int status; enum err_class cls; const char *text; } connect_answers[] = {
	{ 300, ERR_PERMANENT, "refuses the connection (it answered 300)" },
	{ 400, ERR_PERMANENT, "refuses the connection (it answered 400)" },
	{ 401, ERR_AUTH, "proxy.username and proxy.password (it answered 401)" },
	{ 403, ERR_AUTH, "rules forbid the connection (it answered 403)" },
	{ 404, ERR_PERMANENT, "refuses the connection (it answered 404)" },
	{ 405, ERR_PERMANENT, "refuses the connection (it answered 405)" },
	{ 407, ERR_AUTH, "proxy.username and proxy.password (it answered 407)" },
	{ 408, ERR_TRANSIENT, "for now (it answered 408)" },
	{ 429, ERR_TRANSIENT, "for now (it answered 429)" },
	{ 451, ERR_PERMANENT, "refuses the connection (it answered 451)" },
	{ 500, ERR_TRANSIENT, "for now (it answered 500)" },
	{ 502, ERR_TRANSIENT, "for now (it answered 502)" },
	{ 503, ERR_TRANSIENT, "for now (it answered 503)" },
	{ 504, ERR_TRANSIENT, "for now (it answered 504)" },
};
static int connect_row;

static void
serve_connect_refused(int fd)
{
	char req[8192], answer[200];
	int status = connect_answers[connect_row].status;

	read_to(fd, "\r\n\r\n", req, sizeof(req));
	snprintf(answer, sizeof(answer), "HTTP/1.1 %d No\r\n%sContent-Length: 0\r\n\r\n", status,
	    status == 407 ? "Proxy-Authenticate: Basic realm=\"x\"\r\n" : "");
	say(fd, answer);
	until_closed(fd);
}

static void
take(int fd, unsigned char *p, size_t n)
{
	if (recv(fd, p, n, MSG_WAITALL) != (ssize_t)n)
		_exit(0);
}

/* RFC 1928; the request is recorded as "socks5 TYPE ADDRESS PORT". Reply: what the proxy answers. */
static uint16_t
socks(int fd, unsigned char reply)
{
	unsigned char b[512];
	char text[INET6_ADDRSTRLEN] = "name", line[700];
	size_t n;

	take(fd, b, 2);
	take(fd, b + 2, b[1]);
	if (memchr(b + 2, 2, b[1])) {
		send(fd, "\5\2", 2, MSG_NOSIGNAL);
		take(fd, b, 2);
		take(fd, b + 2, (size_t)b[1] + 1);
		n = (size_t)b[1] + 2;
		take(fd, b + n + 1, b[n]);
		snprintf(line, sizeof(line), "login %.*s %.*s\n", b[1], (char *)b + 2, b[n], (char *)b + n + 1);
		record(line, strlen(line));
		send(fd, "\1\0", 2, MSG_NOSIGNAL);
	} else {
		send(fd, "\5\0", 2, MSG_NOSIGNAL);
	}
	take(fd, b, 4);
	n = b[3] == 1 ? 4 : b[3] == 4 ? 16 : 0;
	if (!n)
		take(fd, b + 4, 1);
	n = n ? n : b[4];
	take(fd, b + 5, n);
	if (b[3] != 3)
		inet_ntop(b[3] == 1 ? AF_INET : AF_INET6, b + 5, text, sizeof(text));
	take(fd, b + 5 + n, 2);
	snprintf(line, sizeof(line), "socks5 type %d %s %d\n", b[3], text, b[5 + n] << 8 | b[6 + n]);
	record(line, strlen(line));
	n = (size_t)(b[5 + n] << 8 | b[6 + n]);
	memcpy(b, "\5\0\0\1\177\0\0\1\0\1", 10);
	b[1] = reply;
	send(fd, b, 10, MSG_NOSIGNAL);
	return (uint16_t)n;
}

static void
serve_socks(int fd)
{
	socks(fd, 0);
	serve_http(fd);
}

/* What a SOCKS5 proxy says: its choice of a login ("": it hangs up), its word on the login, its reply to the request. */
static const struct {
	const char *choice, *login;
	int reply;                      /* of RFC 1928, section 6; only where choice is "no login" */
	size_t username, password;      /* bytes of ours; 0: none */
	enum err_class cls;
	const char *text;
} socks_answers[] = {
	{ "", "", 0, 0, 0, ERR_TRANSIENT, "the proxy closed the connection" },
	{ "\4\1", "", 0, 0, 0, ERR_PROTOCOL, "does not speak SOCKS5" },
	{ "\5\377", "", 0, 0, 0, ERR_AUTH, "none of the ways to log in" },
	{ "\5\177", "", 0, 0, 0, ERR_PROTOCOL, "choice of login makes no sense" },
	{ "\5\2", "\1\1", 0, 5, 5, ERR_AUTH, "refuses proxy.username and proxy.password" },
	{ "\5\2", "\1\1", 0, 256, 5, ERR_PERMANENT, "proxy.username is too long" },
	{ "\5\2", "\1\1", 0, 5, 256, ERR_PERMANENT, "proxy.password is too long" },
	{ "\5", "", 1, 0, 0, ERR_TRANSIENT, "the proxy failed" },
	{ "\5", "", 2, 0, 0, ERR_AUTH, "the proxy's rules forbid" },
	{ "\5", "", 3, 0, 0, ERR_TRANSIENT, "cannot reach the server's network" },
	{ "\5", "", 4, 0, 0, ERR_TRANSIENT, "cannot reach the server" },
	{ "\5", "", 5, 0, 0, ERR_TRANSIENT, "refused the proxy's connection" },
	{ "\5", "", 6, 0, 0, ERR_TRANSIENT, "did not reach the server in time" },
	{ "\5", "", 7, 0, 0, ERR_PERMANENT, "the proxy does not connect" },
	{ "\5", "", 8, 0, 0, ERR_PERMANENT, "this family of addresses" },
	{ "\5", "", 9, 0, 0, ERR_TRANSIENT, "the proxy failed" },      /* unassigned */
};
static int socks_row;

static void
serve_socks_refused(int fd)
{
	const char *choice = socks_answers[socks_row].choice, *login = socks_answers[socks_row].login;
	unsigned char b[600];

	if (socks_answers[socks_row].reply) {
		socks(fd, (unsigned char)socks_answers[socks_row].reply);
		until_closed(fd);
	}
	take(fd, b, 2);
	take(fd, b + 2, b[1]);
	say(fd, choice);
	if (*choice && *login) {
		take(fd, b, 2);
		take(fd, b + 2, (size_t)b[1] + 1);
		take(fd, b, b[2 + b[1]]);
		say(fd, login);
	}
	if (*choice)
		until_closed(fd);
}

static int
listener(const char *addr, uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	socklen_t n = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, addr, &sa.sin_addr);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 50) ||
	    getsockname(fd, (struct sockaddr *)&sa, &n))
		return -1;
	*port = ntohs(sa.sin_port);
	return fd;
}

/* The least of RFC 959 that a LIST needs; PASV names 127.0.0.2, where nothing listens. */
static void
serve_ftp(int fd)
{
	char line[1024], text[100];
	uint16_t port = 0;
	int l = listener("127.0.0.1", &port), data;

	say(fd, "220 hello\r\n");
	for (;;) {
		read_to(fd, "\r\n", line, sizeof(line));
		if (!strncmp(line, "USER", 4)) {
			say(fd, "331 password\r\n");
		} else if (!strncmp(line, "PASS", 4)) {
			say(fd, "230 in\r\n");
		} else if (!strncmp(line, "PWD", 3)) {
			say(fd, "257 \"/\"\r\n");
		} else if (!strncmp(line, "PASV", 4)) {
			snprintf(text, sizeof(text), "227 passive (127,0,0,2,%d,%d)\r\n", port >> 8, port & 255);
			say(fd, text);
		} else if (!strncmp(line, "LIST", 4)) {
			say(fd, "150 here\r\n");
			data = accept(l, NULL, NULL);
			say(data, BODY);
			close(data);
			say(fd, "226 done\r\n");
		} else if (!strncmp(line, "TYPE", 4) || !strncmp(line, "CWD", 3)) {
			say(fd, "200 fine\r\n");
		} else {
			say(fd, "500 no\r\n");
		}
	}
}

/* Port 21 is serve_ftp; others are its data connections, passed on. */
static void
serve_socks_ftp(int fd)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint16_t port = socks(fd, 0);
	char data[sizeof(BODY)] = "";
	int to;

	if (port == 21)
		serve_ftp(fd);
	sa.sin_port = htons(port);
	to = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(to, (struct sockaddr *)&sa, sizeof(sa)))
		_exit(1);
	take(to, (unsigned char *)data, sizeof(data) - 1);
	say(fd, data);
	_exit(0);
}

/* Logs in and then does not answer. */
static void
serve_ftp_silent(int fd)
{
	char line[1024];

	say(fd, "220 hello\r\n");
	read_to(fd, "\r\n", line, sizeof(line));
	say(fd, "331 password\r\n");
	read_to(fd, "\r\n", line, sizeof(line));
	say(fd, "230 in\r\n");
	until_closed(fd);
}

static void
serve_ftp_denied(int fd)
{
	char line[1024];

	say(fd, "220 hello\r\n");
	read_to(fd, "\r\n", line, sizeof(line));
	say(fd, "331 password\r\n");
	read_to(fd, "\r\n", line, sizeof(line));
	say(fd, "530 Login incorrect\r\n");
	until_closed(fd);
}

/* Logs in; to NOOP it says what nobody will have read when the client goes, or what comes behind that. */
static void
serve_ftp_left(int fd)
{
	static const char stray[] = "150 stray\r\n226 of what was asked before\r\n";
	char line[1024];

	say(fd, "220 hello\r\n");
	for (;;) {
		read_to(fd, "\r\n", line, sizeof(line));
		if (!strncmp(line, "NOOP late", 9)) {
			while (recv(fd, line, sizeof(line), 0) > 0)
				;
			say(fd, stray);
			record("said", 4);
			for (;;)
				pause();
		}
		say(fd, !strncmp(line, "USER", 4) ? "331 password\r\n" : !strncmp(line, "PASS", 4) ? "230 in\r\n" :
		    !strncmp(line, "PWD", 3) ? "257 \"/\"\r\n" : !strncmp(line, "NOOP", 4) ? stray : "200 fine\r\n");
	}
}

/* A child for the server and one for each of its connections; they end with this process. */
static uint16_t
server(void (*serve)(int))
{
	uint16_t port = 0;
	int l = listener("127.0.0.1", &port), fd;
	pid_t test = getpid();

	ck_assert_int_ge(l, 0);
	if (fork()) {
		close(l);
		return port;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCHLD, SIG_IGN);
	if (getppid() != test)
		_exit(0);
	while ((fd = accept(l, NULL, NULL)) >= 0) {
		atomic_fetch_add(&shared->accepted, 1);
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve(fd);
			_exit(0);
		}
		close(fd);
	}
	_exit(0);
}

/* --- the client's side --- */

static void
policy(const char *allow, const char *deny)
{
	strlist_release(&setup.egress.allow);
	strlist_release(&setup.egress.deny);
	if (*allow)
		strlist_add(&setup.egress.allow, allow);
	if (*deny)
		strlist_add(&setup.egress.deny, deny);
	ck_assert_int_eq(net_init(&setup, &e), 0);
}

static void
new_run(void)
{
	memset(&run, 0, sizeof(run));
	run.setup = &setup;
	run.task = &task;
	run.ch = &channel;
	run.flushed_ns = run.polled_ns = run.progress_ns = run_clock();
}

static void
before(void)
{
	int fds[2];

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(shared != MAP_FAILED);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	ck_assert_int_eq(pipe(body_came), 0);
	channel_init(&channel, fds[0], 1);
	channel.busy = true;
	channel.task = 7;
	master = fds[1];
	setup_init(&setup);
	policy("127.0.0.0/8", "");
	mini_task(&task, SOURCE_HTTP, "");
	mini_set(&task, SF_NETWORK_CONNECT_TIMEOUT, 20000);
	mini_set(&task, SF_NETWORK_RESPONSE_TIMEOUT, 20000);
	mini_set(&task, SF_NETWORK_IDLE_TIMEOUT, 20000);
	new_run();
}

static void
after(void)
{
	curl_session_free(session);
	task_spec_release(&task);
	setup_release(&setup);
	channel_release(&channel);
}

static struct curl_session *
open_session(const char *schemes, const char *host, uint16_t port)
{
	session = curl_session_new(&run, schemes, host, port, 2, &e);
	ck_assert_msg(session != NULL, "%s", e.text);
	return session;
}

struct request {
	struct transfer t;
	CURLcode code;
	unsigned ended, threads;
	char body[64];
	size_t n;
};

static unsigned
count_dir(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static size_t
take_body(char *p, size_t size, size_t n, void *arg)
{
	struct request *r = arg;

	ck_assert_uint_lt(r->n + size * n, sizeof(r->body));
	memcpy(r->body + r->n, p, size * n);
	r->n += size * n;
	ck_assert_int_eq(write(body_came[1], "", 1), 1);
	r->threads = count_dir("/proc/self/task") - 2;
	return size * n;
}

static int
request_ended(struct transfer *t, CURLcode code, struct err *err)
{
	struct request *r = (struct request *)t;
	char *url = NULL;

	r->ended++;
	r->code = code;
	if (!code)
		return RUN_GO_ON;
	curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url);
	return curl_session_error(t, code, url, err);
}

static void
start(struct request *r, const char *url)
{
	memset(r, 0, sizeof(*r));
	r->t.easy = curl_session_easy(session);
	r->t.ended = request_ended;
	curl_session_aim(session, r->t.easy, url, !strncmp(url, "https", 5));
	curl_easy_setopt(r->t.easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(r->t.easy, CURLOPT_WRITEDATA, r);
	/* of FTP a directory alone: no listing, just the login */
	curl_easy_setopt(r->t.easy, CURLOPT_NOBODY, (long)(!strncmp(url, "ftp", 3) && url[strlen(url) - 1] == '/'));
	ck_assert_int_eq(curl_session_start(session, &r->t, &e), 0);
}

/* One request from its start to its end; the class, and the text in e. */
static enum err_class
get(const char *url)
{
	struct request r;
	int rc;

	err_clear(&e);
	start(&r, url);
	rc = curl_session_run(session, &e);
	ck_assert_uint_eq(curl_session_active(session), 0);
	ck_assert_int_eq(rc, e.cls == ERR_OK ? 0 : -1);
	if (!rc)
		ck_assert_mem_eq(r.body, BODY, 16);
	curl_session_recycle(session, r.t.easy);
	return e.cls;
}

static const char *
url_of(const char *scheme, const char *host, uint16_t port)
{
	static char url[300];

	snprintf(url, sizeof(url), "%s://%s:%u/x", scheme, host, port);
	return url;
}

static void
wants(enum err_class cls, const char *text)
{
	ck_assert_msg(e.cls == cls, "%s, wanted %s: %s", err_name(e.cls), err_name(cls), e.text);
	ck_assert_msg(strstr(e.text, text) != NULL, "no \"%s\" in: %s", text, e.text);
}

static void
asked(const char *text)
{
	ck_assert_msg(strstr(shared->log, text) != NULL, "no \"%s\" in what was asked: %s", text, shared->log);
}

static void
proxy(const char *scheme, uint16_t port)
{
	char url[100];

	snprintf(url, sizeof(url), "%s://127.0.0.1:%u", scheme, port);
	mini_str(&task, SF_NETWORK_PROXY_URL, url);
}

/* --- the base --- */

START_TEST(reuse_and_accounting)
{
	uint16_t port = server(serve_http);
	struct request r;
	char peer[40];
	unsigned fds = count_dir("/proc/self/fd");

	open_session("http,https", "localhost", port);
	ck_assert_uint_eq(curl_session_connections(session), 0);
	ck_assert_uint_eq(count_dir("/proc/self/fd"), fds + 2);
	ck_assert_int_eq(get(url_of("http", "localhost", port)), ERR_OK);
	ck_assert_int_eq(get(url_of("http", "LOCALHOST", port)), ERR_OK);
	asked("Host: localhost");
	ck_assert_ptr_null(strstr(shared->log, "Cookie"));
	snprintf(peer, sizeof(peer), "127.0.0.1:%u", port);
	ck_assert_str_eq(run.done.peer, peer);
	/* the next task, which has no connection to make but still tells its peer */
	new_run();
	ck_assert_int_eq(curl_session_use(session, &run, &e), 0);
	err_clear(&e);
	start(&r, url_of("http", "localhost", port));
	ck_assert_int_eq(curl_session_run(session, &e), 0);
	ck_assert_uint_eq(r.ended, 1);
	ck_assert_uint_eq(r.threads, 1);
	curl_session_recycle(session, r.t.easy);
	ck_assert_str_eq(run.done.peer, peer);
	ck_assert_uint_eq(shared->accepted, 1);
	ck_assert_uint_eq(curl_session_connections(session), 1);
	ck_assert_uint_eq(count_dir("/proc/self/fd"), fds + 3);
	curl_session_free(session);
	session = NULL;
	ck_assert_uint_eq(count_dir("/proc/self/fd"), fds);
}
END_TEST

START_TEST(connections_are_capped)
{
	uint16_t port = server(serve_http);
	struct request r[6];

	open_session("http", "localhost", port);
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		start(&r[i], url_of("http", "localhost", port));
	ck_assert_uint_eq(curl_session_active(session), 6);
	ck_assert_int_eq(curl_session_run(session, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		ck_assert_uint_eq(r[i].ended, 1);
		ck_assert_mem_eq(r[i].body, BODY, 16);
		curl_session_recycle(session, r[i].t.easy);
	}
	ck_assert_uint_le(shared->accepted, 2);
	ck_assert_uint_le(curl_session_connections(session), 2);
}
END_TEST

static void
paced(int64_t ops, int64_t burst)
{
	mini_set(&task, SF_NETWORK_RATE_LIMIT_OPS, ops);
	mini_set(&task, SF_NETWORK_RATE_LIMIT_BURST, burst);
	pace_begin(&run);
}

/* None starts before its turn; and the server is not late for what it was not asked. */
START_TEST(requests_take_turns)
{
	uint16_t port = server(serve_http);
	struct request r[4];
	int64_t began;

	mini_set(&task, SF_NETWORK_RESPONSE_TIMEOUT, 900);
	paced(1, 2);
	open_session("http", "localhost", port);
	began = run_clock();
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		start(&r[i], url_of("http", "localhost", port));
	ck_assert_uint_eq(curl_session_active(session), 4);
	ck_assert_msg(curl_session_run(session, &e) == 0, "%s", e.text);
	ck_assert_int_ge(run_clock() - began, 2 * INT64_C(1000000000));
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		ck_assert_uint_eq(r[i].ended, 1);
		ck_assert_mem_eq(r[i].body, BODY, 16);
		curl_session_recycle(session, r[i].t.easy);
	}
}
END_TEST

START_TEST(cancelled_before_its_turn)
{
	uint16_t port = server(serve_http);
	struct buf b = BUF_INIT;
	int64_t wait;

	paced(1, 1);
	ck_assert(pace_take(&run, 1, &wait));
	open_session("http", "localhost", port);
	ipc_begin(&b, MSG_CANCEL, 1, 7);
	ipc_finish(&b);
	ck_assert_int_eq(ipc_send(master, &b), 1);
	buf_release(&b);
	ck_assert_int_eq(get(url_of("http", "localhost", port)), ERR_CANCELLED);
	ck_assert_uint_eq(shared->accepted, 0);
}
END_TEST

/* An idle connection that the server has closed costs a new one and nothing else. */
START_TEST(closed_while_idle)
{
	uint16_t port = server(serve_once);

	open_session("http", "localhost", port);
	for (int i = 0; i < 5; i++)
		ck_assert_msg(get(url_of("http", "localhost", port)) == ERR_OK, "%s", e.text);
	ck_assert_uint_eq(shared->accepted, 5);
}
END_TEST

static int
stop_at_first(struct transfer *t, CURLcode code, struct err *err)
{
	(void)request_ended(t, code, err);
	return RUN_STOP;
}

START_TEST(stopped_by_its_source)
{
	uint16_t port = server(serve_http), silent = server(serve_silent);
	struct request r[2];

	open_session("http", "localhost", port);
	ck_assert_int_eq(curl_session_host(session, "localhost", silent, &e), 0);
	start(&r[0], url_of("http", "localhost", port));
	r[0].t.ended = stop_at_first;
	start(&r[1], url_of("http", "localhost", silent));
	ck_assert_int_eq(curl_session_run(session, &e), RUN_STOP);
	ck_assert_uint_eq(curl_session_active(session), 0);
	ck_assert_uint_eq(r[0].ended, 1);
	ck_assert_uint_eq(r[1].ended, 0);
	curl_session_recycle(session, r[0].t.easy);
	curl_session_recycle(session, r[1].t.easy);
}
END_TEST

START_TEST(cancelled)
{
	uint16_t port = server(serve_cancel);

	open_session("http", "localhost", port);
	ck_assert_int_eq(get(url_of("http", "localhost", port)), ERR_CANCELLED);
}
END_TEST

START_TEST(master_gone)
{
	uint16_t port = server(serve_silent);

	open_session("http", "localhost", port);
	shutdown(master, SHUT_RDWR);
	ck_assert_int_eq(get(url_of("http", "localhost", port)), ERR_SYSTEM);
	ck_assert(channel.gone);
}
END_TEST

/* --- breaks and timeouts --- */

static const struct {
	void (*serve)(int);
	const char *scheme;
	enum source_field limit;     /* of 300 ms; TYPE: none */
	enum err_class cls;
	const char *text;
} breaks[] = {
	{ serve_silent, "http", SF_NETWORK_RESPONSE_TIMEOUT, ERR_TIMEOUT, "no answer within 0.3 s (response_timeout) (server 127.0.0.1 port" },
	{ serve_stall, "http", SF_NETWORK_IDLE_TIMEOUT, ERR_TIMEOUT, "nothing for 0.3 s (idle_timeout)" },
	{ serve_deaf, "https", SF_NETWORK_CONNECT_TIMEOUT, ERR_TIMEOUT, "TLS or login took longer than 0.3 s (connect_timeout)" },
	{ serve_deaf, "ftp", SF_NETWORK_CONNECT_TIMEOUT, ERR_TIMEOUT, "TLS or login took longer than 0.3 s (connect_timeout)" },
	{ serve_ftp_silent, "ftp", SF_NETWORK_RESPONSE_TIMEOUT, ERR_TIMEOUT, "no answer within 0.3 s (response_timeout)" },
	{ serve_ftp_denied, "ftp", SF_COMMON_TYPE, ERR_AUTH, "the server refuses the login" },
	{ serve_cut, "http", SF_COMMON_TYPE, ERR_TRUNCATED, "the answer was cut" },
	{ serve_nothing, "http", SF_COMMON_TYPE, ERR_TRANSIENT, "without an answer" },
	{ serve_ftp_denied, "https", SF_COMMON_TYPE, ERR_PERMANENT, "no TLS session" },
	{ serve_slam, "https", SF_COMMON_TYPE, ERR_TRANSIENT, "while TLS began" },
};

START_TEST(broken_servers)
{
	uint16_t port = server(breaks[_i].serve);

	if (breaks[_i].limit != SF_COMMON_TYPE)
		mini_set(&task, breaks[_i].limit, 300);
	open_session("http,https,ftp", "localhost", port);
	get(url_of(breaks[_i].scheme, "localhost", port));
	wants(breaks[_i].cls, breaks[_i].text);
}
END_TEST

START_TEST(reset_in_the_middle)
{
	uint16_t port = server(serve_reset);

	open_session("http", "localhost", port);
	get(url_of("http", "localhost", port));
	wants(ERR_TRUNCATED, "in the middle of the answer");
}
END_TEST

START_TEST(nobody_listens)
{
	uint16_t port = 0;
	int fd = listener("127.0.0.1", &port);

	close(fd);
	open_session("http", "localhost", port);
	get(url_of("http", "localhost", port));
	wants(ERR_TRANSIENT, "no connection (server 127.0.0.1 port");
	ck_assert_ptr_nonnull(strstr(e.text, "refused"));
	ck_assert_uint_eq(curl_session_connections(session), 0);
}
END_TEST

/* --- the policy --- */

START_TEST(refused_when_resolved)
{
	policy("", "");
	ck_assert_ptr_null(curl_session_new(&run, "http", "localhost", 80, 1, &e));
	wants(ERR_POLICY, "a loopback address; egress.allow can allow it");
	ck_assert_ptr_null(curl_session_new(&run, "http", "169.254.169.254", 80, 1, &e));
	wants(ERR_POLICY, "metadata");
}
END_TEST

START_TEST(refused_when_connected)
{
	uint16_t port = server(serve_http);

	open_session("http", "localhost", port);
	policy("", "");
	get(url_of("http", "localhost", port));
	wants(ERR_POLICY, "127.0.0.1 is refused: a loopback address");
	ck_assert_uint_eq(shared->accepted, 0);
}
END_TEST

/* What a session was not told of is not reached, whatever a URL says. */
static const struct { const char *url; enum err_class cls; } strays[] = {
	{ "http://127.0.0.2:9/x", ERR_INTERNAL },
	{ "http://0x7f000002:9/x", ERR_INTERNAL },
	{ "http://other.invalid:9/x", ERR_INTERNAL },
	{ "http://user:secret@localhost/x", ERR_AUTH },
	{ "ftp://localhost/x", ERR_PERMANENT },
	{ "file:///etc/passwd", ERR_PERMANENT },
	{ "gopher://localhost/x", ERR_PERMANENT },
};

START_TEST(strays_go_nowhere)
{
	uint16_t port = server(serve_http);

	open_session("http,https", "localhost", port);
	ck_assert_int_eq(get(strays[_i].url), strays[_i].cls);
	ck_assert_uint_eq(shared->accepted, 0);
}
END_TEST

START_TEST(redirect_hosts)
{
	uint16_t port = server(serve_http);

	policy("127.0.0.0/8", "127.0.0.2");
	open_session("http", "localhost", port);
	ck_assert_int_eq(curl_session_host(session, "127.0.0.1", port, &e), 0);
	ck_assert_int_eq(get(url_of("http", "127.0.0.1", port)), ERR_OK);
	ck_assert_int_eq(curl_session_host(session, "127.0.0.2", port, &e), -1);
	wants(ERR_POLICY, "egress.deny has 127.0.0.2/32");
	ck_assert_int_eq(curl_session_host(session, "169.254.169.254", 80, &e), -1);
	wants(ERR_POLICY, "metadata");
	for (int i = 1; i <= 30; i++)
		ck_assert_int_eq(curl_session_host(session, "127.0.0.1", (uint16_t)i, &e), 0);
	ck_assert_int_eq(curl_session_host(session, "127.0.0.1", 31, &e), -1);
	wants(ERR_LIMIT, "more than 32 hosts");
}
END_TEST

static enum err_class
ftp_list(uint16_t port, long skip_foreign)
{
	struct request r;
	char url[100];

	err_clear(&e);
	open_session("ftp", "localhost", port);
	start(&r, url_of("ftp", "localhost", port));
	snprintf(url, sizeof(url), "ftp://localhost:%u/", port);
	curl_session_aim(session, r.t.easy, url, false);
	curl_easy_setopt(r.t.easy, CURLOPT_FTP_SKIP_PASV_IP, skip_foreign);
	(void)curl_session_run(session, &e);
	curl_session_recycle(session, r.t.easy);
	return e.cls;
}

static void
note_commands(struct transfer *t, curl_infotype type, const char *p, size_t n)
{
	if (type == CURLINFO_HEADER_OUT)
		buf_add(t->arg, p, n);
}

START_TEST(told_of_commands)
{
	struct buf sent = BUF_INIT;
	uint16_t port = server(serve_http);
	struct request r;

	open_session("http", "localhost", port);
	start(&r, url_of("http", "localhost", port));
	r.t.told = note_commands;
	r.t.arg = &sent;
	ck_assert_int_eq(curl_session_run(session, &e), 0);
	ck_assert_str_eq(buf_str(&sent), shared->log);
	curl_session_recycle(session, r.t.easy);
	buf_release(&sent);
}
END_TEST

START_TEST(data_connections)
{
	uint16_t port = server(serve_ftp);
	char peer[40];

	/* a foreign address in the answer to PASV is ignored ... */
	ck_assert_msg(ftp_list(port, 1) == ERR_OK, "%s", e.text);
	snprintf(peer, sizeof(peer), "127.0.0.1:%u", port);
	ck_assert_str_eq(run.done.peer, peer);
	ck_assert_uint_eq(curl_session_connections(session), 1);
	curl_session_free(session);
	/* ... and were it not, the policy would see it */
	policy("127.0.0.0/8", "127.0.0.2");
	ftp_list(port, 0);
	wants(ERR_POLICY, "127.0.0.2 is refused: egress.deny");
}
END_TEST

/* --- proxies --- */

START_TEST(connect_proxy_gets_an_address)
{
	uint16_t port = server(serve_connect);
	char *first;

	proxy("http", port);
	mini_str(&task, SF_NETWORK_PROXY_USERNAME, "alice");
	mini_str(&task, SF_NETWORK_PROXY_PASSWORD, "secret");
	open_session("http", "localhost", 81);
	ck_assert_msg(get(url_of("http", "localhost", 81)) == ERR_OK, "%s", e.text);
	asked("CONNECT 127.0.0.1:81 HTTP/1.1\r\n");
	asked("Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n");
	asked("GET /x HTTP/1.1\r\nHost: localhost:81\r\n");
	first = strstr(shared->log, "\r\n\r\n");
	ck_assert_ptr_nonnull(first);
	*first = '\0';
	ck_assert_ptr_null(strstr(shared->log, "localhost"));
	ck_assert_ptr_null(strstr(first + 1, "Proxy-"));
	ck_assert_str_eq(run.done.peer, "127.0.0.1:81");
}
END_TEST

START_TEST(connect_proxy_and_ipv6)
{
	proxy("http", server(serve_connect));
	policy("127.0.0.0/8", "");
	open_session("http", "2001:db8::7", 81);
	ck_assert_msg(get("http://[2001:db8::7]:81/x") == ERR_OK, "%s", e.text);
	asked("CONNECT [2001:db8::7]:81 HTTP/1.1\r\n");
	ck_assert_str_eq(run.done.peer, "[2001:db8::7]:81");
}
END_TEST

static const struct { const char *scheme; bool login; } socks_rows[] = {
	{ "socks5", false }, { "socks5h", false }, { "socks5h", true },
};

START_TEST(socks_proxy_gets_an_address)
{
	proxy(socks_rows[_i].scheme, server(serve_socks));
	if (socks_rows[_i].login) {
		mini_str(&task, SF_NETWORK_PROXY_USERNAME, "alice");
		mini_str(&task, SF_NETWORK_PROXY_PASSWORD, "secret");
	}
	open_session("http", "localhost", 81);
	ck_assert_msg(get(url_of("http", "localhost", 81)) == ERR_OK, "%s", e.text);
	asked("socks5 type 1 127.0.0.1 81\n");
	asked("Host: localhost:81\r\n");
	ck_assert_int_eq(strstr(shared->log, "login alice secret\n") != NULL, socks_rows[_i].login);
}
END_TEST

START_TEST(proxied_data_connections)
{
	char *first, *second;

	proxy("socks5", server(serve_socks_ftp));
	ck_assert_msg(ftp_list(21, 1) == ERR_OK, "%s", e.text);
	first = strstr(shared->log, "socks5 type 1 127.0.0.1 21\n");
	ck_assert_ptr_nonnull(first);
	second = strstr(first + 1, "socks5 type 1 127.0.0.1 ");
	ck_assert_ptr_nonnull(second);
	ck_assert_ptr_null(strstr(shared->log, "socks5 type 3"));
}
END_TEST

START_TEST(proxied_destinations_are_checked)
{
	uint16_t port = server(serve_connect);

	proxy("http", port);
	policy("127.0.0.0/8", "");
	ck_assert_ptr_null(curl_session_new(&run, "http", "169.254.169.254", 80, 1, &e));
	wants(ERR_POLICY, "metadata");
	policy("127.0.0.0/8", "127.0.0.2");
	ck_assert_ptr_null(curl_session_new(&run, "http", "127.0.0.2", 80, 1, &e));
	wants(ERR_POLICY, "egress.deny");
	/* and the proxy itself */
	policy("", "");
	ck_assert_ptr_null(curl_session_new(&run, "http", "192.0.2.1", 80, 1, &e));
	wants(ERR_POLICY, "127.0.0.1 is refused");
	ck_assert_uint_eq(shared->accepted, 0);
}
END_TEST

static const struct {
	void (*serve)(int);
	const char *scheme;
	enum err_class cls;
	const char *text;
} proxy_breaks[] = {
	{ serve_deaf, "http", ERR_TIMEOUT, "0.3 s" },
	{ serve_deaf, "socks5", ERR_TIMEOUT, "0.3 s (connect_timeout)" },
};

START_TEST(broken_proxies)
{
	proxy(proxy_breaks[_i].scheme, server(proxy_breaks[_i].serve));
	if (proxy_breaks[_i].serve == serve_deaf)
		mini_set(&task, SF_NETWORK_CONNECT_TIMEOUT, 300);
	open_session("http", "localhost", 81);
	get(url_of("http", "localhost", 81));
	wants(proxy_breaks[_i].cls, proxy_breaks[_i].text);
}
END_TEST

START_TEST(every_answer_to_connect)
{
	connect_row = _i;
	proxy("http", server(serve_connect_refused));
	open_session("http", "localhost", 81);
	get(url_of("http", "localhost", 81));
	wants(connect_answers[_i].cls, connect_answers[_i].text);
	wants(connect_answers[_i].cls, "(proxy 127.0.0.1 port");
}
END_TEST

START_TEST(every_answer_of_socks)
{
	char text[300];

	socks_row = _i;
	proxy("socks5", server(serve_socks_refused));
	memset(text, 'x', sizeof(text));
	text[socks_answers[_i].username] = '\0';
	if (*text) {
		mini_str(&task, SF_NETWORK_PROXY_USERNAME, text);
		memset(text, 'x', sizeof(text));
		text[socks_answers[_i].password] = '\0';
		mini_str(&task, SF_NETWORK_PROXY_PASSWORD, text);
	}
	open_session("http", "localhost", 81);
	get(url_of("http", "localhost", 81));
	wants(socks_answers[_i].cls, socks_answers[_i].text);
}
END_TEST

static const struct { const char *url, *text; } bad_proxies[] = {
	{ "socks4://127.0.0.1:1", "the scheme is none of" },
	{ "ftp://127.0.0.1:1", "the scheme is none of" },
	{ "http://u:p@127.0.0.1:1", "belong into proxy.username" },
	{ "127.0.0.1:1", "not a URL" },
	{ "http://", "" },
	/* other readers see another host there */
	{ "http:/127.0.0.1:1/x://good.example", "more than scheme://host:port" },
	{ "http:///127.0.0.1:1/x://good.example", "more than scheme://host:port" },
	{ "http://127.0.0.1:1/x", "more than scheme://host:port" },
	{ "http://127.0.0.1:1?x", "more than scheme://host:port" },
	{ "http://127.0.0.1:1\\@good.example", "more than scheme://host:port" },
};

START_TEST(wrong_proxy_urls)
{
	mini_str(&task, SF_NETWORK_PROXY_URL, bad_proxies[_i].url);
	ck_assert_ptr_null(curl_session_new(&run, "http", "localhost", 80, 1, &e));
	wants(ERR_PERMANENT, "proxy.url: ");
	wants(ERR_PERMANENT, bad_proxies[_i].text);
}
END_TEST

/* --- sockets for others --- */

/* A lane that was cut off: what was on its way to it comes before the end, or behind it. */
START_TEST(lent_and_broken)
{
	static const char *const noop[] = { "NOOP\r\n", "NOOP late\r\n" };

	for (int late = 0; late < 2; late++) {
		uint16_t port = server(serve_ftp_left);
		struct pollfd p = { .events = POLLIN };
		unsigned before = shared->accepted;
		struct request r;
		char url[100];

		snprintf(url, sizeof(url), "ftp://localhost:%u/", port);
		open_session("ftp", "localhost", port);
		start(&r, url);
		ck_assert_int_eq(curl_session_run(session, &e), 0);
		p.fd = curl_session_lend(session, &r.t);
		ck_assert_int_ge(p.fd, 0);
		ck_assert_int_eq(send(p.fd, noop[late], strlen(noop[late]), 0), (ssize_t)strlen(noop[late]));
		if (!late)
			ck_assert_int_eq(poll(&p, 1, 20000), 1);
		curl_session_lend_over(session, p.fd, false);
		while (late && !strstr(shared->log, "said"))
			poll(NULL, 0, 1);
		ck_assert(!curl_session_has(session, &r.t));
		ck_assert_int_eq(curl_session_start(session, &r.t, &e), 0);
		ck_assert_msg(!curl_session_run(session, &e), "late %d: %s", late, e.text);
		ck_assert_msg(shared->accepted - before == 2, "late %d: libcurl goes on with a connection that was cut off", late);
		curl_session_recycle(session, r.t.easy);
		curl_session_free(session);
		session = NULL;
	}
}
END_TEST

START_TEST(plain_socket)
{
	uint16_t port = server(serve_http), through = server(serve_connect);
	CURL *owner = NULL;
	char answer[16];
	int fd;

	for (int i = 0; i < 2; i++) {
		struct pollfd p = { .events = POLLIN };

		open_session("http", "localhost", port);
		fd = curl_session_socket(session, &owner, &e);
		ck_assert_msg(fd >= 0, "%s", e.text);
		ck_assert_uint_eq(curl_session_connections(session), 1);
		ck_assert_uint_eq(curl_session_active(session), 0);
		ck_assert_int_eq(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, 0), 18);
		p.fd = fd;
		ck_assert_int_eq(poll(&p, 1, 20000), 1);
		ck_assert_int_eq(recv(fd, answer, 12, 0), 12);
		ck_assert_mem_eq(answer, "HTTP/1.1 200", 12);
		curl_session_recycle(session, owner);
		ck_assert_uint_eq(curl_session_connections(session), 0);
		curl_session_free(session);
		session = NULL;
		proxy("http", through);
	}
	asked("CONNECT 127.0.0.1:");
}
END_TEST

START_TEST(no_plain_socket)
{
	uint16_t port = 0;
	CURL *owner = NULL;
	int fd = listener("127.0.0.1", &port);

	close(fd);
	open_session("http", "localhost", port);
	ck_assert_int_eq(curl_session_socket(session, &owner, &e), -1);
	wants(ERR_TRANSIENT, "connecting to localhost:");
	policy("", "");
	ck_assert_int_eq(curl_session_socket(session, &owner, &e), -1);
	wants(ERR_POLICY, "127.0.0.1 is refused");
	ck_assert_uint_eq(curl_session_connections(session), 0);
}
END_TEST

/* --- TLS --- */

#define OPENSSL(...) openssl((const char *const[]){ "openssl", __VA_ARGS__, NULL })

static char dir[] = "/tmp/worker_curl.XXXXXX";
static const char *const made[] = { "ca.key", "ca.pem", "key", "pem", "csr", "ext", "ca.srl" };

static const char *
in_dir(const char *name)
{
	static char path[8][64];
	static unsigned i;

	snprintf(path[++i % 8], sizeof(path[0]), "%s/%s", dir, name);
	return path[i % 8];
}

static void
openssl(const char *const argv[])
{
	char *args[24] = { NULL };
	int status;
	pid_t pid;

	for (size_t i = 0; argv[i]; i++)
		args[i] = xstrdup(argv[i]);
	pid = fork();
	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execvp("openssl", args);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(!status, "openssl %s: %d", argv[1], status);
	for (size_t i = 0; args[i]; i++)
		free(args[i]);
}

static char *
slurp(const char *path)
{
	char *text = xcalloc(1, 8192);
	int fd = open(path, O_RDONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_gt(read(fd, text, 8191), 0);
	close(fd);
	return text;
}

/* An authority, and a certificate of it: valid from now (days) for localhost or another name; it serves clients, too. */
static void
make_certificates(const char *name, bool expired)
{
	int fd;
	char ext[100];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	OPENSSL("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
	    in_dir("ca.key"), "-out", in_dir("ca.pem"), "-subj", "/CN=authority", "-days", "2");
	OPENSSL("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", in_dir("key"),
	    "-out", in_dir("csr"), "-subj", "/CN=leaf");
	fd = open(in_dir("ext"), O_WRONLY | O_CREAT, 0600);
	snprintf(ext, sizeof(ext), "subjectAltName=DNS:%s\n", name);
	ck_assert_int_eq(write(fd, ext, strlen(ext)), (ssize_t)strlen(ext));
	close(fd);
	OPENSSL("x509", "-req", "-in", in_dir("csr"), "-CA", in_dir("ca.pem"), "-CAkey", in_dir("ca.key"),
	    "-CAcreateserial", "-extfile", in_dir("ext"), "-out", in_dir("pem"), "-days", expired ? "-1" : "2");
}

static void
remove_certificates(void)
{
	for (size_t i = 0; i < ARRAY_LEN(made); i++)
		unlink(in_dir(made[i]));
	rmdir(dir);
}

/* openssl s_server in a child, on a port it says itself. */
static uint16_t
tls_server(const char *version, bool clients)
{
	const char *key = in_dir("key"), *cert = in_dir("pem"), *ca = in_dir("ca.pem");
	char line[200], *colon;
	int out[2];
	FILE *f;

	ck_assert_int_eq(pipe(out), 0);
	if (!fork()) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 0);
		dup2(out[1], 1);
		dup2(null, 2);
		execlp("openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-www", "-key", key, "-cert", cert,
		    version, clients ? "-Verify" : (char *)NULL, "1", "-verify_return_error", "-CAfile", ca, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	f = fdopen(out[0], "r");
	ck_assert_ptr_nonnull(f);
	do
		ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	while (strncmp(line, "ACCEPT", 6));
	colon = strrchr(line, ':');
	ck_assert_ptr_nonnull(colon);
	/* f stays open: the server writes on */
	return (uint16_t)strtoul(colon + 1, NULL, 10);
}

static size_t
drop_body(char *p, size_t size, size_t n, void *arg)
{
	(void)p;
	(void)arg;
	return size * n;
}

static enum err_class
get_tls(uint16_t port)
{
	struct request r;

	err_clear(&e);
	start(&r, url_of("https", "localhost", port));
	curl_easy_setopt(r.t.easy, CURLOPT_WRITEFUNCTION, drop_body);
	(void)curl_session_run(session, &e);
	curl_session_recycle(session, r.t.easy);
	return e.cls;
}

static const struct tls_row {
	const char *name, *version;
	bool expired, own_ca, unverified, client_wanted, client_given;
	int64_t min_version;         /* 1: 1.3 */
	const char *pin, *ciphers;
	enum err_class cls;
	const char *text;
} tls_rows[] = {
	{ "localhost", "-tls1_3", false, true, false, false, false, 0, "", "", ERR_OK, "" },
	{ "localhost", "-tls1_2", false, true, false, false, false, 0, "", "ECDHE-ECDSA-AES256-GCM-SHA384", ERR_OK, "" },
	{ "localhost", "-tls1_2", false, true, false, false, false, 0, "", "nonsense", ERR_PERMANENT, "tls.ciphers" },
	{ "localhost", "-tls1_2", false, true, false, false, false, 1, "", "", ERR_PERMANENT, "no TLS session" },
	{ "localhost", "-tls1_3", false, false, false, false, false, 0, "", "", ERR_PERMANENT, "unable to get local issuer" },
	{ "localhost", "-tls1_3", false, false, true, false, false, 0, "", "", ERR_OK, "" },
	{ "other", "-tls1_3", false, true, false, false, false, 0, "", "", ERR_PERMANENT, "target host name 'localhost'" },
	{ "other", "-tls1_3", false, true, true, false, false, 0, "", "", ERR_OK, "" },
	{ "localhost", "-tls1_3", true, true, false, false, false, 0, "", "", ERR_PERMANENT, "certificate has expired" },
	{ "localhost", "-tls1_3", false, true, false, false, false, 0, "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "",
		ERR_PERMANENT, "tls.pinned_pubkey" },
	{ "localhost", "-tls1_3", false, true, false, true, true, 0, "", "", ERR_OK, "" },
	{ "localhost", "-tls1_3", false, true, false, true, false, 0, "", "", ERR_AUTH, "client certificate" },
};

START_TEST(tls)
{
	const struct tls_row *t = &tls_rows[_i];
	char *ca, *cert, *key;
	uint16_t port;

	make_certificates(t->name, t->expired);
	ca = slurp(in_dir("ca.pem"));
	cert = slurp(in_dir("pem"));
	key = slurp(in_dir("key"));
	port = tls_server(t->version, t->client_wanted);
	remove_certificates();
	if (t->own_ca)
		mini_str(&task, SF_NETWORK_TLS_CA_PEM, ca);
	if (t->unverified)
		mini_set(&task, SF_NETWORK_TLS_VERIFY, 0);
	if (t->client_given) {
		mini_str(&task, SF_NETWORK_TLS_CERT_PEM, cert);
		mini_str(&task, SF_NETWORK_TLS_KEY_PEM, key);
	}
	mini_set(&task, SF_NETWORK_TLS_MIN_VERSION, t->min_version);
	mini_str(&task, SF_NETWORK_TLS_PINNED_PUBKEY, t->pin);
	mini_str(&task, SF_NETWORK_TLS_CIPHERS, t->ciphers);
	open_session("https", "localhost", port);
	get_tls(port);
	wants(t->cls, t->text);
	free(ca);
	free(cert);
	free(key);
}
END_TEST

/* --- the table --- */

static const struct { CURLcode code; enum err_class cls; } codes[] = {
	{ CURLE_UNSUPPORTED_PROTOCOL, ERR_PERMANENT }, { CURLE_FAILED_INIT, ERR_INTERNAL },
	{ CURLE_URL_MALFORMAT, ERR_PERMANENT }, { CURLE_NOT_BUILT_IN, ERR_UNSUPPORTED },
	{ CURLE_COULDNT_RESOLVE_PROXY, ERR_INTERNAL }, { CURLE_COULDNT_RESOLVE_HOST, ERR_INTERNAL },
	{ CURLE_COULDNT_CONNECT, ERR_TRANSIENT }, { CURLE_WEIRD_SERVER_REPLY, ERR_PROTOCOL },
	{ CURLE_REMOTE_ACCESS_DENIED, ERR_AUTH }, { CURLE_FTP_ACCEPT_FAILED, ERR_TRANSIENT },
	{ CURLE_FTP_WEIRD_PASS_REPLY, ERR_PROTOCOL }, { CURLE_FTP_ACCEPT_TIMEOUT, ERR_TIMEOUT },
	{ CURLE_FTP_WEIRD_PASV_REPLY, ERR_PROTOCOL }, { CURLE_FTP_WEIRD_227_FORMAT, ERR_PROTOCOL },
	{ CURLE_FTP_CANT_GET_HOST, ERR_PROTOCOL }, { CURLE_HTTP2, ERR_PROTOCOL },
	{ CURLE_FTP_COULDNT_SET_TYPE, ERR_PROTOCOL }, { CURLE_PARTIAL_FILE, ERR_TRUNCATED },
	{ CURLE_FTP_COULDNT_RETR_FILE, ERR_PERMANENT }, { CURLE_QUOTE_ERROR, ERR_PERMANENT },
	{ CURLE_HTTP_RETURNED_ERROR, ERR_PERMANENT }, { CURLE_WRITE_ERROR, ERR_INTERNAL },
	{ CURLE_UPLOAD_FAILED, ERR_PERMANENT }, { CURLE_READ_ERROR, ERR_INTERNAL },
	{ CURLE_OUT_OF_MEMORY, ERR_SYSTEM }, { CURLE_OPERATION_TIMEDOUT, ERR_TIMEOUT },
	{ CURLE_FTP_PORT_FAILED, ERR_PROTOCOL }, { CURLE_FTP_COULDNT_USE_REST, ERR_PROTOCOL },
	{ CURLE_RANGE_ERROR, ERR_PROTOCOL }, { CURLE_HTTP_POST_ERROR, ERR_INTERNAL },
	{ CURLE_SSL_CONNECT_ERROR, ERR_PERMANENT }, { CURLE_BAD_DOWNLOAD_RESUME, ERR_PROTOCOL },
	{ CURLE_FUNCTION_NOT_FOUND, ERR_UNSUPPORTED }, { CURLE_ABORTED_BY_CALLBACK, ERR_INTERNAL },
	{ CURLE_BAD_FUNCTION_ARGUMENT, ERR_INTERNAL }, { CURLE_INTERFACE_FAILED, ERR_SYSTEM },
	{ CURLE_TOO_MANY_REDIRECTS, ERR_PERMANENT }, { CURLE_UNKNOWN_OPTION, ERR_INTERNAL },
	{ CURLE_GOT_NOTHING, ERR_TRANSIENT }, { CURLE_SSL_ENGINE_NOTFOUND, ERR_INTERNAL },
	{ CURLE_SSL_ENGINE_SETFAILED, ERR_INTERNAL }, { CURLE_SEND_ERROR, ERR_TRANSIENT },
	{ CURLE_RECV_ERROR, ERR_TRANSIENT }, { CURLE_SSL_CERTPROBLEM, ERR_AUTH },
	{ CURLE_SSL_CIPHER, ERR_PERMANENT }, { CURLE_PEER_FAILED_VERIFICATION, ERR_PERMANENT },
	{ CURLE_BAD_CONTENT_ENCODING, ERR_PROTOCOL }, { CURLE_FILESIZE_EXCEEDED, ERR_LIMIT },
	{ CURLE_USE_SSL_FAILED, ERR_PERMANENT }, { CURLE_SEND_FAIL_REWIND, ERR_TRANSIENT },
	{ CURLE_SSL_ENGINE_INITFAILED, ERR_INTERNAL }, { CURLE_LOGIN_DENIED, ERR_AUTH },
	{ CURLE_REMOTE_DISK_FULL, ERR_TRANSIENT }, { CURLE_REMOTE_FILE_EXISTS, ERR_PERMANENT },
	{ CURLE_SSL_CACERT_BADFILE, ERR_PERMANENT }, { CURLE_REMOTE_FILE_NOT_FOUND, ERR_NOT_FOUND },
	{ CURLE_SSH, ERR_INTERNAL }, { CURLE_SSL_SHUTDOWN_FAILED, ERR_TRANSIENT }, { CURLE_AGAIN, ERR_INTERNAL },
	{ CURLE_SSL_CRL_BADFILE, ERR_PERMANENT }, { CURLE_SSL_ISSUER_ERROR, ERR_PERMANENT },
	{ CURLE_FTP_PRET_FAILED, ERR_PROTOCOL }, { CURLE_FTP_BAD_FILE_LIST, ERR_PROTOCOL },
	{ CURLE_CHUNK_FAILED, ERR_INTERNAL }, { CURLE_NO_CONNECTION_AVAILABLE, ERR_SYSTEM },
	{ CURLE_SSL_PINNEDPUBKEYNOTMATCH, ERR_PERMANENT }, { CURLE_SSL_INVALIDCERTSTATUS, ERR_PERMANENT },
	{ CURLE_HTTP2_STREAM, ERR_PROTOCOL }, { CURLE_RECURSIVE_API_CALL, ERR_INTERNAL },
	{ CURLE_AUTH_ERROR, ERR_AUTH }, { CURLE_HTTP3, ERR_PROTOCOL }, { CURLE_QUIC_CONNECT_ERROR, ERR_PROTOCOL },
	{ CURLE_PROXY, ERR_TRANSIENT }, { CURLE_SSL_CLIENTCERT, ERR_AUTH }, { CURLE_UNRECOVERABLE_POLL, ERR_SYSTEM },
};

/* RFC 8446, section 6.2: alerts by number, and whether they are about our certificate. OpenSSL words them, not this test. */
static const struct { int alert; bool certificate; } alerts[] = {
	{ 42, true }, { 43, true }, { 44, true }, { 45, true }, { 46, true }, { 48, true }, { 49, true }, { 116, true },
	{ 10, false }, { 20, false }, { 22, false }, { 40, false }, { 47, false }, { 50, false }, { 51, false }, { 70, false }, { 71, false },
	{ 80, false }, { 86, false }, { 112, false }, { 120, false },
};

START_TEST(every_alert)
{
	static const struct { CURLcode code; enum err_class other; } when[] = {
		{ CURLE_SSL_CONNECT_ERROR, ERR_PERMANENT }, { CURLE_RECV_ERROR, ERR_TRANSIENT },
	};
	struct request r;
	const char *words;
	char text[256];
	uint16_t port = server(serve_slam);

	/* its first handshake makes OpenSSL load its words */
	open_session("https", "localhost", port);
	get(url_of("https", "localhost", port));
	wants(ERR_TRANSIENT, "while TLS began");
	start(&r, url_of("https", "localhost", port));
	for (size_t i = 0; i < ARRAY_LEN(alerts); i++) {
		/* SSL_AD_REASON_OFFSET of ssl.h; 1.3's own have reasons of their own, at the same numbers */
		ERR_error_string_n(ERR_PACK(ERR_LIB_SSL, 0, 1000 + alerts[i].alert), text, sizeof(text));
		words = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, 1000 + alerts[i].alert));
		ck_assert_msg(words != NULL, "OpenSSL has no words for alert %d", alerts[i].alert);
		for (size_t k = 0; k < ARRAY_LEN(when); k++) {
			snprintf(r.t.error, sizeof(r.t.error), "OpenSSL SSL_read: %s, errno 0", text);
			curl_session_error(&r.t, when[k].code, "GET /", &e);
			ck_assert_msg(e.cls == (alerts[i].certificate ? ERR_AUTH : when[k].other), "alert %d: %s: %s", alerts[i].alert, err_name(e.cls), e.text);
			ck_assert_int_eq(strstr(e.text, "refuses the client certificate") != NULL, alerts[i].certificate);
		}
	}
	curl_session_recycle(session, r.t.easy);
}
END_TEST

START_TEST(every_code)
{
	struct request r;

	open_session("http", "localhost", 9);
	start(&r, "http://localhost:9/");
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		ck_assert_int_eq(curl_session_error(&r.t, codes[i].code, "GET /", &e), -1);
		ck_assert_msg(e.cls == codes[i].cls, "%d: %s: %s", codes[i].code, err_name(e.cls), e.text);
		ck_assert_ptr_null(strstr(e.text, "not foreseen"));
		ck_assert(task_class_allowed(e.cls));
	}
	/* the other numbers are retired, or of protocols that are not spoken here */
	for (int code = 1, known, other = 0; code < CURL_LAST; code++, other += !known) {
		known = 0;
		for (size_t i = 0; i < ARRAY_LEN(codes); i++)
			known |= (int)codes[i].code == code;
		if (!known) {
			curl_session_error(&r.t, (CURLcode)code, "GET /", &e);
			wants(ERR_INTERNAL, "not foreseen");
		}
		ck_assert_int_le(other, 25);
	}
	/* what the server makes libcurl say is made safe */
	snprintf(r.t.error, sizeof(r.t.error), "530 \033[31m\r\n");
	curl_session_error(&r.t, CURLE_LOGIN_DENIED, "GET /", &e);
	wants(ERR_AUTH, "530 \\x1b[31m\\x0d\\n");
	snprintf(r.t.error, sizeof(r.t.error), "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to x");
	curl_session_error(&r.t, CURLE_SSL_CONNECT_ERROR, "GET /", &e);
	wants(ERR_TRANSIENT, "while TLS began");
	curl_session_recycle(session, r.t.easy);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_curl");
	TCase *t = tcase_create("curl");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_test(t, reuse_and_accounting);
	tcase_add_test(t, connections_are_capped);
	tcase_add_test(t, requests_take_turns);
	tcase_add_test(t, cancelled_before_its_turn);
	tcase_add_test(t, closed_while_idle);
	tcase_add_test(t, stopped_by_its_source);
	tcase_add_test(t, cancelled);
	tcase_add_test(t, master_gone);
	tcase_add_loop_test(t, broken_servers, 0, (int)ARRAY_LEN(breaks));
	tcase_add_test(t, reset_in_the_middle);
	tcase_add_test(t, nobody_listens);
	tcase_add_test(t, refused_when_resolved);
	tcase_add_test(t, refused_when_connected);
	tcase_add_loop_test(t, strays_go_nowhere, 0, (int)ARRAY_LEN(strays));
	tcase_add_test(t, redirect_hosts);
	tcase_add_test(t, told_of_commands);
	tcase_add_test(t, data_connections);
	tcase_add_test(t, connect_proxy_gets_an_address);
	tcase_add_test(t, connect_proxy_and_ipv6);
	tcase_add_loop_test(t, socks_proxy_gets_an_address, 0, (int)ARRAY_LEN(socks_rows));
	tcase_add_test(t, proxied_data_connections);
	tcase_add_test(t, proxied_destinations_are_checked);
	tcase_add_loop_test(t, broken_proxies, 0, (int)ARRAY_LEN(proxy_breaks));
	tcase_add_loop_test(t, wrong_proxy_urls, 0, (int)ARRAY_LEN(bad_proxies));
	tcase_add_test(t, lent_and_broken);
	tcase_add_test(t, plain_socket);
	tcase_add_test(t, no_plain_socket);
	tcase_add_loop_test(t, tls, 0, (int)ARRAY_LEN(tls_rows));
	tcase_add_loop_test(t, every_answer_to_connect, 0, (int)ARRAY_LEN(connect_answers));
	tcase_add_loop_test(t, every_answer_of_socks, 0, (int)ARRAY_LEN(socks_answers));
	tcase_add_test(t, every_alert);
	tcase_add_test(t, every_code);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
