/*
 * netproxy.c - a TCP proxy for tests that makes a network slow, or breaks it at a byte.
 *
 *	netproxy --listen ADDRESS:PORT --to ADDRESS:PORT [--map ADDRESS:FIRST-LAST=ADDRESS]
 *	    [--delay-ms N] [--rate BYTES] [--cut-at N | --reset-at N | --freeze-at N]
 *	    [--direction down|up] [--connection K] [--where all|main|map]
 *
 * Prints the port it listens on. --map takes the same ports of another address of loopback (FTP's data connections).
 * --delay-ms is one way, so half of a round trip; a connection costs what its handshake would. --rate is for each
 * connection and direction. The break comes when N bytes have passed down (to the client) or up on a connection; of all
 * connections, or of the K-th, counted since the start or the last order to break; on those of --listen or --map alone.
 * cut: both sides see an orderly end. reset: both see RST. freeze: nothing passes any more, and nothing is closed.
 *
 * Orders come as lines on standard input: stats, whole, cut-at N, reset-at N, freeze-at N (for connections to come),
 * cut, reset, freeze (for all that are open, now). Each is answered by the counts as one line of JSON, as SIGTERM is at
 * the end. Knows no protocol; addresses are numbers, names are never looked up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define CHUNK 65536
#define WAITING_MAX (4 << 20)   /* bytes under way in one direction; more is not read */
#define LISTENERS_MAX 300
#define LIVE_MAX 2000
#define EVENTS 64
#define ORDER_MAX 100
#define NEVER INT64_MAX
#define USEC 1000000
#define DELAY_MAX_MS 60000

enum how { WHOLE, CUT, RESET, FREEZE };
enum where { ALL, MAIN, MAP };
enum way { DOWN, UP };

struct addr {
	struct sockaddr_storage ss;
	socklen_t n;
};

struct chunk {
	struct chunk *next;
	int64_t due;
	size_t n, off;
	char bytes[];
};

/* Bytes on their way from one socket to the other. */
struct pipe {
	struct chunk *head, **tail;
	size_t waiting;
	bool eof;               /* no more will come */
	bool ended;             /* and its receiver was told */
	int64_t next;           /* by --rate: not sooner */
	uint64_t passed;
};

struct end {                    /* what an epoll event leads to */
	enum { LISTENER, CLIENT, SERVER, SIGNALS, ORDERS, TIMER } kind;
	int fd;
	uint32_t watched;
	struct conn *conn;
	struct addr to;         /* LISTENER */
	bool mapped;
};

struct conn {
	struct conn *next;
	struct end client, server;
	struct pipe way[2];
	int64_t accepted;
	struct addr to;
	bool started, connected;
	bool frozen;
	bool reset;             /* one side ended by RST; so will the other, behind what is under way */
	bool draining;          /* cut: the client is read until it goes, so that it sees no RST */
	bool dead;
	bool breaks;
	bool mapped;
};

static struct {
	int64_t delay, rate;
	enum how how;
	uint64_t at;
	enum way way;
	enum where where;
	uint64_t connection;    /* 0: each */
} opt;

static struct {
	uint64_t connections, mapped, refused, broken, bytes[2], mapped_down;
} count;

static int epfd = -1, timer_fd = -1;
static uint64_t counted;        /* connections that --connection counts */
static size_t live;
static struct conn *conns;
static struct end listeners[LISTENERS_MAX];
static size_t n_listeners;
static struct end signals = { .kind = SIGNALS }, orders = { .kind = ORDERS }, timer_end = { .kind = TIMER };

static void
die(const char *what)
{
	fprintf(stderr, "netproxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
usage(const char *why)
{
	fprintf(stderr, "netproxy: %s\n", why);
	exit(64);
}

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * USEC + ts.tv_nsec / 1000;
}

static void
print_counts(void)
{
	size_t open = 0;

	for (const struct conn *c = conns; c; c = c->next)
		open += !c->dead;
	printf("{\"connections\": %llu, \"mapped\": %llu, \"refused\": %llu, \"broken\": %llu, \"open\": %zu, \"down\": %llu, \"mapped_down\": %llu, "
	    "\"up\": %llu}\n",
	    (unsigned long long)count.connections, (unsigned long long)count.mapped, (unsigned long long)count.refused,
	    (unsigned long long)count.broken, open, (unsigned long long)count.bytes[DOWN],
	    (unsigned long long)count.mapped_down, (unsigned long long)count.bytes[UP]);
	fflush(stdout);
}

/* ---- sockets ------------------------------------------------------------------------------------------------------------ */

static void
watch(struct end *e, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = e };

	if (e->fd < 0 || e->watched == events)
		return;
	if (epoll_ctl(epfd, EPOLL_CTL_MOD, e->fd, &ev))
		die("epoll_ctl");
	e->watched = events;
}

static void
watch_first(struct end *e, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = e };

	/* A regular file as standard input gives no orders. */
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, e->fd, &ev) && errno != EPERM)
		die("epoll_ctl");
	e->watched = events;
}

static void
end_close(struct end *e, bool rst)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	if (e->fd < 0)
		return;
	if (rst)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(e->fd);
	e->fd = -1;
}

static void
pipe_clear(struct pipe *p)
{
	struct chunk *c;

	while ((c = p->head)) {
		p->head = c->next;
		free(c);
	}
	p->tail = &p->head;
	p->waiting = 0;
}

/* Its memory goes after the round: events of it may still be in hand. */
static void
conn_end(struct conn *c, bool rst)
{
	end_close(&c->client, rst);
	end_close(&c->server, rst);
	c->dead = true;
}

static struct end *
from_of(struct conn *c, enum way w)
{
	return w == DOWN ? &c->server : &c->client;
}

static struct end *
to_of(struct conn *c, enum way w)
{
	return w == DOWN ? &c->client : &c->server;
}

/* ---- the break ---------------------------------------------------------------------------------------------------------- */

static void
break_now(struct conn *c, enum how how)
{
	if (c->dead || c->frozen || c->draining)
		return;
	count.broken++;
	c->breaks = false;
	if (how == RESET) {
		conn_end(c, true);
		return;
	}
	pipe_clear(&c->way[DOWN]);
	pipe_clear(&c->way[UP]);
	if (how == FREEZE) {
		c->frozen = true;
		return;
	}
	c->draining = true;
	end_close(&c->server, false);
	if (shutdown(c->client.fd, SHUT_WR))
		conn_end(c, false);
}

/* How many of n bytes may still pass before the break. */
static size_t
before_break(const struct conn *c, enum way w, size_t n)
{
	uint64_t passed = c->way[w].passed;

	if (!c->breaks || w != opt.way)
		return n;
	return passed >= opt.at ? 0 : opt.at - passed < n ? (size_t)(opt.at - passed) : n;
}

static bool
break_due(const struct conn *c)
{
	return c->breaks && c->way[opt.way].passed >= opt.at;
}

/* ---- bytes -------------------------------------------------------------------------------------------------------------- */

static void
take(struct conn *c, enum way w, const char *bytes, size_t n, int64_t now)
{
	struct pipe *p = &c->way[w];
	struct chunk *k = xmalloc(sizeof(*k) + n);
	int64_t from = now;

	/* The client believes in its connection at once; over a wire it would have waited for one round trip. */
	if (w == UP && from < c->accepted + 2 * opt.delay)
		from = c->accepted + 2 * opt.delay;
	*k = (struct chunk){ .due = from + opt.delay, .n = n };
	memcpy(k->bytes, bytes, n);
	*p->tail = k;
	p->tail = &k->next;
	p->waiting += n;
}

/* This end is gone; what it sent before may still be under way to the other side, which is told then. */
static void
finished(struct end *e, enum way from, bool rst)
{
	struct conn *c = e->conn;
	enum way to = from == DOWN ? UP : DOWN;

	if (c->draining || c->frozen) {
		conn_end(c, false);
		return;
	}
	end_close(e, false);
	c->reset = rst;
	c->way[from].eof = true;
	pipe_clear(&c->way[to]);
	c->way[to].eof = c->way[to].ended = true;
}

static void
receive(struct conn *c, enum way w)
{
	static char bytes[CHUNK];
	struct end *from = from_of(c, w);
	ssize_t n = recv(from->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		finished(from, w, true);
		return;
	}
	if (c->draining || c->frozen) {
		/* Only the end of the one who was cut off counts; a frozen one that goes ends both. */
		if (!n)
			conn_end(c, false);
		return;
	}
	if (!n)
		c->way[w].eof = true;
	else if (!c->way[w].ended)
		take(c, w, bytes, (size_t)n, now_us());
}

/* At most this many bytes a turn, so that a rate is even. */
static size_t
by_rate(size_t n)
{
	size_t turn = (size_t)(opt.rate / 100);

	if (!opt.rate)
		return n;
	turn = turn ? turn : 1;
	return n < turn ? n : turn;
}

/* Sends what is due; gives the time of what is next, NEVER if it waits for a socket or has nothing. */
static int64_t
send_due(struct conn *c, enum way w, int64_t now)
{
	struct pipe *p = &c->way[w];
	struct end *to = to_of(c, w);
	struct chunk *k;

	while (!p->ended && (k = p->head)) {
		int64_t due = k->due > p->next ? k->due : p->next;
		ssize_t n;

		if (due > now)
			return due;
		n = send(to->fd, k->bytes + k->off, before_break(c, w, by_rate(k->n - k->off)), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return NEVER;
		if (n < 0) {
			conn_end(c, true);
			return NEVER;
		}
		k->off += (size_t)n;
		p->waiting -= (size_t)n;
		p->passed += (uint64_t)n;
		count.bytes[w] += (uint64_t)n;
		if (w == DOWN && c->mapped)
			count.mapped_down += (uint64_t)n;
		if (opt.rate)
			p->next = now + (int64_t)n * USEC / opt.rate;
		if (k->off == k->n) {
			p->head = k->next;
			if (!p->head)
				p->tail = &p->head;
			free(k);
		}
		if (break_due(c))
			return NEVER;
	}
	if (p->eof && !p->ended) {
		p->ended = true;
		/* Where it has been closed already this fails, and nothing is lost. */
		if (!c->reset)
			shutdown(to->fd, SHUT_WR);
	}
	return NEVER;
}

/* ---- connections -------------------------------------------------------------------------------------------------------- */

static void
connect_server(struct conn *c)
{
	int one = 1, fd = socket(c->to.ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->started = true;
	c->server.fd = fd;
	watch_first(&c->server, EPOLLOUT);
	if (connect(fd, (const struct sockaddr *)&c->to.ss, c->to.n) && errno != EINPROGRESS) {
		count.refused++;
		conn_end(c, true);
	}
}

static void
connected(struct conn *c)
{
	int err = 0;
	socklen_t n = sizeof(err);

	if (getsockopt(c->server.fd, SOL_SOCKET, SO_ERROR, &err, &n) || err) {
		count.refused++;
		conn_end(c, true);
		return;
	}
	c->connected = true;
}

static void
accept_one(struct end *l)
{
	int one = 1, fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct conn *c;

	if (fd < 0)
		return;
	if (live >= LIVE_MAX) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c = xcalloc(1, sizeof(*c));
	c->client = (struct end){ .kind = CLIENT, .fd = fd, .conn = c };
	c->server = (struct end){ .kind = SERVER, .fd = -1, .conn = c };
	c->way[DOWN].tail = &c->way[DOWN].head;
	c->way[UP].tail = &c->way[UP].head;
	c->to = l->to;
	c->accepted = now_us();
	c->next = conns;
	conns = c;
	live++;
	count.connections++;
	c->mapped = l->mapped;
	count.mapped += l->mapped;
	if (opt.where == ALL || (opt.where == MAP) == l->mapped) {
		counted++;
		c->breaks = opt.how != WHOLE && (!opt.connection || counted == opt.connection);
	}
	watch_first(&c->client, EPOLLIN);
}

/* What to wait for on each side; gives the time of the next thing to do. */
static int64_t
conn_work(struct conn *c, int64_t now)
{
	int64_t due, next = NEVER;

	if (!c->started && !c->frozen && !c->draining) {
		next = c->accepted + 3 * opt.delay;
		if (next <= now) {
			connect_server(c);
			next = NEVER;
		}
	}
	for (enum way w = DOWN; c->connected && w <= UP; w++) {
		if (c->dead || c->frozen || c->draining)
			break;
		due = send_due(c, w, now);
		next = due < next ? due : next;
	}
	if (!c->dead && break_due(c))
		break_now(c, opt.how);
	if (c->dead)
		return NEVER;
	if (c->way[DOWN].ended && c->way[UP].ended) {
		conn_end(c, c->reset);
		return NEVER;
	}
	if (c->draining || c->frozen) {
		/* Of a frozen one nothing is read; that its peer is gone shows as EPOLLRDHUP. */
		watch(&c->client, c->draining ? EPOLLIN : EPOLLRDHUP);
		watch(&c->server, EPOLLRDHUP);
		return NEVER;
	}
	for (enum way w = DOWN; w <= UP; w++) {
		bool room = !c->way[w].eof && c->way[w].waiting < WAITING_MAX, behind = false;
		const struct pipe *back = &c->way[w == DOWN ? UP : DOWN];

		/* This end reads for w and writes for the other way. */
		if (back->head && back->head->due <= now && back->next <= now)
			behind = true;
		if (from_of(c, w) == &c->server && !c->connected)
			watch(&c->server, EPOLLOUT);
		else
			watch(from_of(c, w), (room ? EPOLLIN : 0u) | (behind ? EPOLLOUT : 0u));
	}
	return next;
}

/* The server may go, and the client is not told; when the client goes there is nothing left to show. */
static void
frozen_event(struct end *e)
{
	if (e->kind == SERVER)
		end_close(e, false);
	else
		conn_end(e->conn, false);
}

static void
conn_event(struct end *e, uint32_t events)
{
	struct conn *c = e->conn;
	enum way from = e->kind == SERVER ? DOWN : UP;

	if (c->dead || e->fd < 0)
		return;
	if (e->kind == SERVER && !c->connected) {
		connected(c);
		return;
	}
	if (c->frozen)
		frozen_event(e);
	else if (events & EPOLLIN)
		receive(c, from);
	else if (events & (EPOLLHUP | EPOLLERR))
		finished(e, from, (events & EPOLLERR) != 0);
}

static void
reap(void)
{
	struct conn **at = &conns, *c;

	while ((c = *at)) {
		if (!c->dead) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		pipe_clear(&c->way[DOWN]);
		pipe_clear(&c->way[UP]);
		free(c);
		live--;
	}
}

static void
set_timer(int64_t due)
{
	struct itimerspec t = { { 0, 0 }, { 0, 0 } };

	if (due != NEVER) {
		t.it_value.tv_sec = due / USEC;
		t.it_value.tv_nsec = due % USEC * 1000;
	}
	if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL))
		die("timerfd_settime");
}

/* ---- orders ------------------------------------------------------------------------------------------------------------- */

static bool
break_word(const char *word, enum how *how)
{
	*how = !strcmp(word, "cut-at") ? CUT : !strcmp(word, "reset-at") ? RESET : !strcmp(word, "freeze-at") ? FREEZE : WHOLE;
	return *how != WHOLE;
}

static void
obey(char *line)
{
	char *space = strchr(line, ' ');
	enum how how;
	int64_t n;

	if (space)
		*space++ = '\0';
	if (break_word(line, &how) && space && !units_int(space, &n) && n >= 0) {
		/* A connection breaks by the order that held when it came. */
		for (struct conn *c = conns; c; c = c->next)
			c->breaks = false;
		opt.how = how;
		opt.at = (uint64_t)n;
		counted = 0;
	} else if (!strcmp(line, "whole")) {
		opt.how = WHOLE;
		for (struct conn *c = conns; c; c = c->next)
			c->breaks = false;
	} else if (!strcmp(line, "cut") || !strcmp(line, "reset") || !strcmp(line, "freeze")) {
		for (struct conn *c = conns; c; c = c->next)
			break_now(c, *line == 'c' ? CUT : *line == 'r' ? RESET : FREEZE);
	} else if (strcmp(line, "stats")) {
		printf("ERR unknown order\n");
		fflush(stdout);
		return;
	}
	print_counts();
}

static void
read_orders(void)
{
	static char line[ORDER_MAX];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, line + have, sizeof(line) - 1 - have);
	char *nl;

	if (n <= 0 || have + (size_t)n == sizeof(line) - 1) {
		if (epoll_ctl(epfd, EPOLL_CTL_DEL, STDIN_FILENO, NULL))
			die("epoll_ctl");
		return;
	}
	have += (size_t)n;
	while ((nl = memchr(line, '\n', have))) {
		*nl++ = '\0';
		obey(line);
		have -= (size_t)(nl - line);
		memmove(line, nl, have);
	}
}

/* ---- start -------------------------------------------------------------------------------------------------------------- */

/* "127.0.0.1:80" or "[::1]:80"; the port may be left out for --map */
static void
parse_addr(const char *text, struct addr *a)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->ss;
	char *host = xstrdup(text), *port = strrchr(host, ':'), *bracket = strchr(host, ']');
	int64_t n = 0;

	memset(a, 0, sizeof(*a));
	if (port && (!bracket || port > bracket)) {
		*port++ = '\0';
		if (units_int(port, &n) || n < 0 || n > 65535)
			usage("not a port");
	}
	if (*host == '[' && bracket) {
		*bracket = '\0';
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)n);
		a->n = sizeof(*v6);
		if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
			usage("not an address");
	} else {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)n);
		a->n = sizeof(*v4);
		if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
			usage("not an address");
	}
	free(host);
}

static void
set_port(struct addr *a, unsigned port)
{
	if (a->ss.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&a->ss)->sin6_port = htons((uint16_t)port);
	else
		((struct sockaddr_in *)&a->ss)->sin_port = htons((uint16_t)port);
}

static void
add_listener(const struct addr *at, const struct addr *to, bool mapped)
{
	struct end *e = &listeners[n_listeners];
	int one = 1;

	if (n_listeners++ == LISTENERS_MAX)
		usage("too many ports");
	*e = (struct end){ .kind = LISTENER, .to = *to, .mapped = mapped };
	e->fd = socket(at->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (e->fd < 0)
		die("socket");
	setsockopt(e->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(e->fd, (const struct sockaddr *)&at->ss, at->n) || listen(e->fd, 512))
		die("listen");
	watch_first(e, EPOLLIN);
}

/* ADDRESS:FIRST-LAST=ADDRESS */
static void
add_map(const char *text)
{
	char *map = xstrdup(text), *to_text = strchr(map, '='), *range, *dash;
	struct addr at, to;
	int64_t first, last;

	if (!to_text)
		usage("--map wants ADDRESS:FIRST-LAST=ADDRESS");
	*to_text++ = '\0';
	range = strrchr(map, ':');
	dash = range ? strchr(range, '-') : NULL;
	if (!dash)
		usage("--map wants ADDRESS:FIRST-LAST=ADDRESS");
	*range++ = *dash++ = '\0';
	if (units_int(range, &first) || units_int(dash, &last) || first < 1 || last > 65535 || first > last)
		usage("not a range of ports");
	parse_addr(map, &at);
	parse_addr(to_text, &to);
	for (int64_t p = first; p <= last; p++) {
		set_port(&at, (unsigned)p);
		set_port(&to, (unsigned)p);
		add_listener(&at, &to, true);
	}
	free(map);
}

static int64_t
number(const char *text, int64_t max)
{
	int64_t n;

	if (units_int(text, &n) || n < 0 || n > max)
		usage("not a number, or too large");
	return n;
}

static void
option(const char *name, const char *value, struct addr *listen_at, struct addr *to)
{
	if (!strcmp(name, "listen"))
		parse_addr(value, listen_at);
	else if (!strcmp(name, "to"))
		parse_addr(value, to);
	else if (!strcmp(name, "map"))
		add_map(value);
	else if (!strcmp(name, "delay-ms"))
		opt.delay = number(value, DELAY_MAX_MS) * 1000;
	else if (!strcmp(name, "rate"))
		opt.rate = number(value, INT64_C(1) << 40);
	else if (!strcmp(name, "connection"))
		opt.connection = (uint64_t)number(value, INT64_MAX);
	else if (!strcmp(name, "direction") && (!strcmp(value, "down") || !strcmp(value, "up")))
		opt.way = *value == 'd' ? DOWN : UP;
	else if (!strcmp(name, "where") && (!strcmp(value, "all") || !strcmp(value, "main") || !strcmp(value, "map")))
		opt.where = *value == 'a' ? ALL : value[2] == 'i' ? MAIN : MAP;
	else if (opt.how == WHOLE && break_word(name, &opt.how))
		opt.at = (uint64_t)number(value, INT64_MAX);
	else
		usage("the head of netproxy.c names the options");
}

static void
start(int argc, char **argv)
{
	struct addr at = { .n = 0 }, to = { .n = 0 };
	struct sockaddr_storage ss;
	socklen_t n = sizeof(ss);

	for (int i = 1; i < argc; i += 2) {
		if (strncmp(argv[i], "--", 2) || i + 1 == argc)
			usage("the head of netproxy.c names the options");
		option(argv[i] + 2, argv[i + 1], &at, &to);
	}
	if (!at.n || !to.n)
		usage("--listen and --to are needed");
	add_listener(&at, &to, false);
	if (getsockname(listeners[n_listeners - 1].fd, (struct sockaddr *)&ss, &n))
		die("getsockname");
	printf("%u\n", ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port : ((struct sockaddr_in *)&ss)->sin_port));
	fflush(stdout);
}

/* One round of events; true: the end was asked for. */
static bool
turn(void)
{
	struct epoll_event ev[EVENTS];
	uint64_t expired;
	int n = epoll_wait(epfd, ev, EVENTS, -1);
	bool stop = false;

	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < n; i++) {
		struct end *e = ev[i].data.ptr;

		if (e->kind == LISTENER)
			accept_one(e);
		else if (e->kind == SIGNALS)
			stop = true;
		else if (e->kind == ORDERS)
			read_orders();
		else if (e->kind == TIMER)
			(void)!read(timer_fd, &expired, sizeof(expired));
		else
			conn_event(e, ev[i].events);
	}
	return stop;
}

int
main(int argc, char **argv)
{
	sigset_t set;
	bool stop = false;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (epfd < 0 || timer_fd < 0 || signals.fd < 0)
		die("start");
	timer_end.fd = timer_fd;
	watch_first(&signals, EPOLLIN);
	watch_first(&timer_end, EPOLLIN);
	watch_first(&orders, EPOLLIN);  /* its descriptor is 0, standard input */
	start(argc, argv);
	while (!stop) {
		int64_t next = NEVER, now;

		stop = turn();
		now = now_us();
		for (struct conn *c = conns; c; c = c->next) {
			int64_t due = c->dead ? NEVER : conn_work(c, now);

			next = due < next ? due : next;
		}
		reap();
		set_timer(next);
	}
	print_counts();
	return 0;
}
