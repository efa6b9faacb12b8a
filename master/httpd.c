/*
 * httpd.c - the master's side of the status pages: the listening socket, the child that serves it, a snapshot a second.
 *
 * Called by main.c. The child (iis-poller-http) parses what browsers and scrapers send, so that this process never
 * does; it gets the listening socket and finished pages and nothing else. It is started again when it dies, with
 * growing waits; what it sends is checked like a worker's frames. A child that does not take its pages is ended.
 */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/page.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define TICK_MS 1000
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 30000
#define STUCK_MS 20000           /* a child that has taken no page for so long is ended */
#define MEMORY_MAX (INT64_C(128) << 20)
#define FDS_BESIDE 32            /* descriptors of the child that are not connections */
#define STDERR_LINE_MAX 512

struct httpd {
	struct master *m;
	int listen_fd;
	char url[320];
	char *path;                     /* the program */
	enum worker_state state;        /* STARTING, IDLE (serving), DYING, BACKOFF */
	uint32_t generation;
	struct child proc;
	struct timer timer;             /* READY deadline, back-off, kill */
	struct timer tick;
	unsigned failures;              /* deaths in a row without a served page between */
	bool stopping;
	struct buf queue;               /* finished frames of one snapshot, one after the other */
	size_t sent;                    /* of queue */
	int64_t taken_ms;               /* when the queue was last empty */
	struct buf page;                /* rendering */
	struct buf frame;
	struct page_stat stat;          /* of this child so far */
	uint8_t in[IPC_FRAME_MAX + 1];
};

static void start_child(struct httpd *);

/* ---- listening ------------------------------------------------------------------------------------------------------ */

/* "host:port", "[address]:port" or ":port" into its parts. */
static int
split_listen(const char *s, char *host, size_t host_n, const char **port, struct err *e)
{
	const char *colon = strrchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : 0;
	int64_t number;

	if (!colon || units_int(colon + 1, &number) < 0 || number < 0 || number > 65535)
		return err_set(e, ERR_CONFIG, "http.listen: %s is not address:port", s);
	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		s++;
		n -= 2;
	}
	if (n >= host_n)
		return err_set(e, ERR_CONFIG, "http.listen: the address is too long");
	memcpy(host, s, n);
	host[n] = '\0';
	*port = colon + 1;
	return 0;
}

static int
bind_one(const struct addrinfo *a)
{
	int on = 1, fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 128) == 0)
		return fd;
	on = errno;
	close(fd);
	errno = on;
	return -1;
}

/* The address that was really taken: port 0 asks for a free one. */
static void
note_url(struct httpd *h)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getsockname(h->listen_fd, (struct sockaddr *)&a, &n) < 0 ||
	    getnameinfo((const struct sockaddr *)&a, n, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	snprintf(h->url, sizeof(h->url), strchr(host, ':') ? "http://[%.200s]:%s" : "http://%.200s:%s", host, port);
}

static int
open_listener(struct httpd *h, struct err *e)
{
	const char *where = h->m->cfg->http_listen, *port = NULL;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *list = NULL;
	char host[256];
	int rc;

	if (split_listen(where, host, sizeof(host), &port, e) < 0)
		return -1;
	rc = getaddrinfo(*host ? host : NULL, port, &hints, &list);
	if (rc)
		return err_set(e, ERR_CONFIG, "http.listen: %s: %s", where, gai_strerror(rc));
	for (const struct addrinfo *a = list; a && h->listen_fd < 0; a = a->ai_next)
		h->listen_fd = bind_one(a);
	rc = errno;
	freeaddrinfo(list);
	errno = rc;
	if (h->listen_fd >= 0) {
		note_url(h);
		return 0;
	}
	if (errno == EADDRINUSE)
		return err_set(e, ERR_CONFIG, "http.listen: %s is taken by another program (another iis-pollerd?): "
		    "stop it, or set http.listen to another port, or to port 0 for a free one", where);
	return err_errno(e, ERR_CONFIG, "http.listen: cannot listen on %s", where);
}

/* ---- pages -------------------------------------------------------------------------------------------------------------- */

static void
queue_page(struct httpd *h, enum page page, int status)
{
	size_t at = 0;

	if (h->page.len > PAGE_TOTAL_MAX)
		h->page.len = PAGE_TOTAL_MAX;
	do {
		size_t n = h->page.len - at;
		struct page_piece piece = {
			.page = page, .status = (uint16_t)status, .total = (uint32_t)h->page.len, .offset = (uint32_t)at,
			.p = h->page.p ? h->page.p + at : NULL, .n = n > PAGE_PIECE_MAX ? PAGE_PIECE_MAX : n,
		};

		ipc_begin(&h->frame, MSG_PAGE, h->generation, 0);
		page_piece_encode(&piece, &h->frame);
		ipc_finish(&h->frame);
		buf_add(&h->queue, h->frame.p, h->frame.len);
		at += piece.n;
	} while (at < h->page.len);
	buf_clear(&h->page);
}

static void
render(struct httpd *h)
{
	const char *why = master_not_ready(h->m);
	int status = 200;

	buf_clear(&h->queue);
	h->sent = 0;
	status_refresh_metrics(h->m);
	metrics_render(&h->page);
	queue_page(h, PAGE_METRICS, 200);
	if (why)
		buf_printf(&h->page, "not ready: %s\n", why);
	else
		buf_puts(&h->page, "ready\n");
	queue_page(h, PAGE_READYZ, why ? 503 : 200);
	status_health(h->m, &h->page, &status);
	queue_page(h, PAGE_HEALTH, status);
	status_html(h->m, &h->page);
	queue_page(h, PAGE_STATUS, 200);
	status_json(h->m, &h->page);
	queue_page(h, PAGE_STATUS_JSON, 200);
}

/* Sends what the socket takes; the rest when there is room. */
static void
pump(struct httpd *h)
{
	while (h->sent < h->queue.len) {
		struct buf one = { .p = h->queue.p + h->sent };
		uint32_t n;
		int r;

		memcpy(&n, one.p, sizeof(n));
		one.len = one.cap = n;
		r = ipc_send(h->proc.fd, &one);
		if (r <= 0) {
			/* Gone: its exit is on the way. Full: it is told apart by STUCK_MS. */
			loop_watch_set(h->proc.w_sock, r == 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
			return;
		}
		h->sent += n;
	}
	h->taken_ms = loop_now(h->m->loop);
	loop_watch_set(h->proc.w_sock, EPOLLIN);
}

static void
kill_child(struct httpd *h, const char *why)
{
	if (!h->proc.pid || h->state == WORKER_DYING)
		return;
	LOG(LOG_ERROR, "http_child_killed", LI("pid", h->proc.pid), LS("reason", why));
	h->state = WORKER_DYING;
	child_signal(&h->proc, SIGKILL);
}

void
httpd_refresh(struct httpd *h)
{
	if (h->state == WORKER_IDLE && h->proc.w_sock && h->sent == h->queue.len) {
		render(h);
		pump(h);
	}
}

static void
on_tick(void *arg)
{
	struct httpd *h = arg;

	timer_set(h->m->loop, &h->tick, TICK_MS);
	if (h->state != WORKER_IDLE || !h->proc.w_sock)
		return;
	if (h->sent < h->queue.len) {
		if (loop_now(h->m->loop) - h->taken_ms > STUCK_MS)
			kill_child(h, "it does not take its pages");
		return;
	}
	httpd_refresh(h);
}

/* ---- frames ---------------------------------------------------------------------------------------------------------------- */

static int
send_setup(struct httpd *h, struct err *e)
{
	struct setup s;
	int ret;

	setup_init(&s);
	s.role = ROLE_LOCAL;
	s.log_level = log_get_level();
	s.memory_max = MEMORY_MAX;
	s.sandbox = h->m->sandbox;
	s.open_files = h->m->cfg->http_connections + FDS_BESIDE;
	ipc_begin(&h->frame, MSG_SETUP, h->generation, 0);
	setup_encode(&s, &h->frame);
	ipc_finish(&h->frame);
	ret = ipc_send(h->proc.fd, &h->frame) == 1 ? 0 : err_errno(e, ERR_SYSTEM, "cannot send SETUP");
	setup_release(&s);
	return ret;
}

static int
on_hello(struct httpd *h, const struct frame *f, struct err *e)
{
	struct hello hello;

	if (hello_decode(&hello, f->payload, f->n, e) < 0)
		return -1;
	if (hello.version != IPC_VERSION || strcmp(hello.build_id, ipc_build_id))
		return err_set(e, ERR_CONFIG, "%s is of another build (%s, the master is %s): restart iis-pollerd", h->path,
		    hello.build_id, ipc_build_id);
	return send_setup(h, e);
}

static int
on_ready(struct httpd *h, const struct frame *f, struct err *e)
{
	struct ready r;

	if (ready_decode(&r, f->payload, f->n, e) < 0)
		return -1;
	timer_cancel(h->m->loop, &h->timer);
	h->state = WORKER_IDLE;
	h->taken_ms = loop_now(h->m->loop);
	LOG(LOG_INFO, "http_child_ready", LI("pid", h->proc.pid), LS("url", h->url), LS("sandbox", r.sandbox));
	render(h);
	pump(h);
	return 0;
}

static int
on_stat(struct httpd *h, const struct frame *f, struct err *e)
{
	struct page_stat s;

	if (page_stat_decode(&s, f->payload, f->n, e) < 0)
		return -1;
	if (s.served < h->stat.served || s.refused < h->stat.refused)
		return err_set(e, ERR_WORKER_PROTOCOL, "STAT counts backwards");
	metric_add(METRIC_HTTP_REQUESTS, (double)(s.served - h->stat.served), "served", NULL);
	metric_add(METRIC_HTTP_REQUESTS, (double)(s.refused - h->stat.refused), "refused", NULL);
	h->stat = s;
	h->failures = 0;
	return 0;
}

static int
handle_frame(struct httpd *h, const struct frame *f, struct err *e)
{
	if (ipc_check(f, f->type == MSG_STAT ? IPC_HTTP : IPC_WORKER, h->state, e) < 0)
		return -1;
	if (f->generation != h->generation)
		return err_set(e, ERR_WORKER_PROTOCOL, "%s of generation %u, this child is %u", ipc_name(f->type), f->generation,
		    h->generation);
	switch (f->type) {
	case MSG_HELLO:
		return on_hello(h, f, e);
	case MSG_READY:
		return on_ready(h, f, e);
	case MSG_STAT:
		return on_stat(h, f, e);
	default:
		return err_set(e, ERR_WORKER_PROTOCOL, "%s is not for the status child to send", ipc_name(f->type));
	}
}

static void
on_socket(void *arg, int fd, uint32_t events)
{
	struct httpd *h = arg;
	struct err e = ERR_INIT;
	struct frame f;
	int r;

	(void)fd;
	for (int i = 0; i < 8 && h->proc.w_sock && h->state != WORKER_DYING; i++) {
		r = ipc_recv(h->proc.fd, MSG_DONTWAIT, h->in, &f, &e);
		if (r == 0)
			break;
		if (r == -1) {
			loop_unwatch(h->m->loop, &h->proc.w_sock);
			/* It should end by itself any moment. */
			timer_set(h->m->loop, &h->timer, h->m->cfg->timeout_kill);
			return;
		}
		if (r == -2 || handle_frame(h, &f, &e) < 0) {
			kill_child(h, e.text);
			return;
		}
	}
	if (h->proc.w_sock && (events & EPOLLOUT) && h->state == WORKER_IDLE)
		pump(h);
}

static void
on_stderr_line(void *arg, const char *p, size_t n)
{
	struct httpd *h = arg;

	LOG(LOG_WARN, "http_stderr", LI("pid", h->proc.pid), LB("text", p, n));
}

/* ---- the process --------------------------------------------------------------------------------------------------------- */

static void
forget_process(struct httpd *h)
{
	struct loop *l = h->m->loop;

	child_forget(&h->proc, l);
	timer_cancel(l, &h->timer);
	buf_clear(&h->queue);
	h->sent = 0;
	h->stat = (struct page_stat){ 0 };
}

static void
backoff(struct httpd *h)
{
	int64_t ms = BACKOFF_FIRST_MS;

	for (unsigned i = 0; i < h->failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	h->failures++;
	h->state = WORKER_BACKOFF;
	if (!h->stopping)
		timer_set(h->m->loop, &h->timer, ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS);
}

/* The call for which its sandbox ended it; NULL: none, or none that is known. Caller frees. */
static char *
refused_call(const struct httpd *h, int status)
{
	struct refused r = { .nr = -1 };

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		refused_read(h->proc.refused_fd, &r);
	return r.nr >= 0 ? refused_name(r.nr) : NULL;
}

static void
on_exit_of(void *arg, int fd, uint32_t events)
{
	struct httpd *h = arg;
	char *name;
	int status;

	(void)fd;
	(void)events;
	if (waitpid(h->proc.pid, &status, WNOHANG) != h->proc.pid)
		return;
	stderr_drain(&h->proc.err);
	name = refused_call(h, status);
	LOG(h->stopping ? LOG_INFO : LOG_WARN, "http_child_died", LI("pid", h->proc.pid),
	    LI("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0), LI("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
	    LS("refused_call", name));
	free(name);
	forget_process(h);
	backoff(h);
}

static void
on_timer(void *arg)
{
	struct httpd *h = arg;

	if (h->state == WORKER_BACKOFF)
		start_child(h);
	else if (h->state == WORKER_STARTING)
		kill_child(h, "it was not READY in time");
	else
		kill_child(h, h->stopping ? "it does not stop" : "it closed its socket and lives on");
}

static int
spawn_http(struct httpd *h, struct err *e)
{
	char connections[24], deadline[24], generation[16];
	const char *const argv[] = { "iis-poller-http", "--http", connections, deadline, generation, NULL };
	const struct spawn_spec spec = { .path = h->path, .argv = argv, .spool_fd = -1, .listen_fd = h->listen_fd,
		.on_socket = on_socket, .on_exit = on_exit_of, .on_stderr = on_stderr_line, .arg = h };

	snprintf(connections, sizeof(connections), "%lld", (long long)h->m->cfg->http_connections);
	snprintf(deadline, sizeof(deadline), "%lld", (long long)h->m->cfg->http_deadline);
	snprintf(generation, sizeof(generation), "%u", ++h->generation);
	return child_start(&h->proc, h->m->loop, &spec, e);
}

static void
start_child(struct httpd *h)
{
	struct err e = ERR_INIT;

	if (h->stopping)
		return;
	if (spawn_http(h, &e) < 0) {
		LOG(LOG_ERROR, "http_start_failed", LS("error", e.text));
		forget_process(h);
		backoff(h);
		return;
	}
	h->state = WORKER_STARTING;
	timer_set(h->m->loop, &h->timer, h->m->cfg->timeout_start);
}

/* ---- interface ---------------------------------------------------------------------------------------------------------------- */

struct httpd *
httpd_new(struct master *m)
{
	struct httpd *h = xcalloc(1, sizeof(*h));

	h->m = m;
	h->listen_fd = -1;
	child_init(&h->proc);
	h->state = WORKER_BACKOFF;
	timer_init(&h->timer, on_timer, h);
	timer_init(&h->tick, on_tick, h);
	return h;
}

int
httpd_start(struct httpd *h, struct err *e)
{
	h->path = spawn_find(h->m, h->m->cfg->http_path, "iis-poller-http", e);
	if (!h->path || open_listener(h, e) < 0)
		return -1;
	start_child(h);
	timer_set(h->m->loop, &h->tick, TICK_MS);
	return 0;
}

void
httpd_stop(struct httpd *h)
{
	h->stopping = true;
	timer_cancel(h->m->loop, &h->tick);
	timer_cancel(h->m->loop, &h->timer);
	if (!h->proc.pid)
		return;
	ipc_begin(&h->frame, MSG_STOP, h->generation, 0);
	ipc_finish(&h->frame);
	if (h->proc.fd < 0 || ipc_send(h->proc.fd, &h->frame) != 1)
		kill_child(h, "it does not take STOP");
	else
		timer_set(h->m->loop, &h->timer, h->m->cfg->timeout_cancel);
}

bool
httpd_empty(const struct httpd *h)
{
	return !h->proc.pid;
}

const char *
httpd_url(const struct httpd *h)
{
	return h->url;
}

void
httpd_free(struct httpd *h)
{
	if (!h)
		return;
	if (h->proc.pid)
		child_signal(&h->proc, SIGKILL);
	forget_process(h);
	timer_cancel(h->m->loop, &h->tick);
	if (h->listen_fd >= 0)
		close(h->listen_fd);
	buf_release(&h->queue);
	buf_release(&h->page);
	buf_release(&h->frame);
	free(h->path);
	free(h);
}
