/*
 * server.c - serves the pages by libmicrohttpd, driven by our own loop: no thread, no polling of its own.
 *
 * Started by main.c. One request a connection, GET and HEAD only, at most REQUEST_MAX bytes of it, and an absolute
 * deadline from the connect to the last byte: the library's own timeout starts anew with every byte, so a slow client
 * could hold a connection for ever. Overdue sockets are shut down; the library then finds them closed and lets go.
 */
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "common/xalloc.h"
#include "master/http/http.h"
#include "common/banned.h"

#define REQUEST_MAX 4096
/* What the library may use for a connection: request, reply's headers and its own notes. */
#define CONNECTION_MEMORY 8192

struct client {
	int fd;
	int64_t due;             /* loop ms */
	bool answered, overdue;
	TAILQ_ENTRY(client) entry;
};

TAILQ_HEAD(client_list, client);

struct server {
	struct loop *loop;
	struct pages *pages;
	struct MHD_Daemon *daemon;
	struct watch *watch;
	struct timer run;        /* what the library wants to go on with by itself */
	struct timer deadline;   /* of the first client */
	int64_t deadline_ms;
	bool again;              /* a connection ended: the library listens anew only when it is run once more */
	struct client_list clients; /* in order of their deadlines */
	struct page_stat stat;
};

static const struct { const char *name, *value; } headers[] = {
	{ "Connection", "close" },
	{ "Cache-Control", "no-store" },
	{ "X-Content-Type-Options", "nosniff" },
	{ "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
	{ "Referrer-Policy", "no-referrer" },
};

static enum MHD_Result
reply(struct MHD_Connection *c, const struct answer *a)
{
	char *copy = xmemdup0(a->body, a->n);
	struct MHD_Response *r = MHD_create_response_from_buffer(a->n, copy, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result ret;

	if (!r) {
		free(copy);
		return MHD_NO;
	}
	for (size_t i = 0; i < ARRAY_LEN(headers); i++)
		MHD_add_response_header(r, headers[i].name, headers[i].value);
	MHD_add_response_header(r, "Content-Type", a->content_type);
	if (a->status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, "Allow", "GET, HEAD");
	ret = MHD_queue_response(c, a->status, r);
	MHD_destroy_response(r);
	return ret;
}

static void
refuse(unsigned status, const char *text, struct answer *a)
{
	*a = (struct answer){ status, "text/plain; charset=utf-8", text, strlen(text) };
}

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *upload,
    size_t *upload_n, void **state)
{
	struct server *s = arg;
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	const union MHD_ConnectionInfo *own = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct client *client = own ? own->socket_context : NULL;
	struct answer a;

	(void)version;
	(void)upload;
	(void)upload_n;
	(void)state;
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		refuse(MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n", &a);
	else if (info && info->header_size > REQUEST_MAX)
		refuse(MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is larger than 4096 bytes\n", &a);
	else
		pages_answer(s->pages, url, loop_now(s->loop), &a);
	if (client)
		client->answered = true;
	if (a.status == 200 || a.status == 503)
		s->stat.served++;
	else
		s->stat.refused++;
	return reply(c, &a);
}

static void
set_deadline(struct server *s)
{
	struct client *first = TAILQ_FIRST(&s->clients);

	if (first)
		timer_set(s->loop, &s->deadline, first->due - loop_now(s->loop));
	else
		timer_cancel(s->loop, &s->deadline);
}

static void
on_connection(void *arg, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code)
{
	struct server *s = arg;
	struct client *client = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		client = xcalloc(1, sizeof(*client));
		client->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		client->due = loop_now(s->loop) + s->deadline_ms;
		TAILQ_INSERT_TAIL(&s->clients, client, entry);
		*context = client;
	} else if (client) {
		/* It went, or was cut, without a request that could be answered. */
		if (!client->answered)
			s->stat.refused++;
		if (!client->overdue)
			TAILQ_REMOVE(&s->clients, client, entry);
		free(client);
		*context = NULL;
		s->again = true;
	}
	set_deadline(s);
}

static void
run(struct server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;

	do {
		s->again = false;
		MHD_run(s->daemon);
	} while (s->again);
	if (MHD_get_timeout(s->daemon, &ms) == MHD_YES)
		timer_set(s->loop, &s->run, ms > 1000 ? 1000 : (int64_t)ms);
	else
		timer_cancel(s->loop, &s->run);
}

static void
on_epoll(void *arg, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	run(arg);
}

static void
on_run(void *arg)
{
	run(arg);
}

static void
on_deadline(void *arg)
{
	struct server *s = arg;
	struct client *client;

	while ((client = TAILQ_FIRST(&s->clients)) && client->due <= loop_now(s->loop)) {
		TAILQ_REMOVE(&s->clients, client, entry);
		client->overdue = true;
		shutdown(client->fd, SHUT_RDWR);
	}
	set_deadline(s);
	run(s);
}

struct server *
server_new(struct loop *loop, struct pages *pages, int listen_fd, unsigned connections, int64_t deadline_ms, struct err *e)
{
	struct server *s = xcalloc(1, sizeof(*s));
	const union MHD_DaemonInfo *info;

	s->loop = loop;
	s->pages = pages;
	s->deadline_ms = deadline_ms;
	TAILQ_INIT(&s->clients);
	timer_init(&s->run, on_run, s);
	timer_init(&s->deadline, on_deadline, s);
	s->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, s,
	    MHD_OPTION_LISTEN_SOCKET, listen_fd,
	    MHD_OPTION_CONNECTION_LIMIT, connections,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
	    MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
	    MHD_OPTION_END);
	if (!s->daemon) {
		free(s);
		err_set(e, ERR_SYSTEM, "cannot start the HTTP library on the listening socket");
		return NULL;
	}
	info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info)
		s->watch = loop_watch(loop, info->epoll_fd, EPOLLIN, on_epoll, s);
	if (!s->watch) {
		server_free(s);
		err_set(e, ERR_SYSTEM, "cannot watch the HTTP library");
		return NULL;
	}
	return s;
}

void
server_free(struct server *s)
{
	if (!s)
		return;
	loop_unwatch(s->loop, &s->watch);
	MHD_stop_daemon(s->daemon);
	timer_cancel(s->loop, &s->run);
	timer_cancel(s->loop, &s->deadline);
	free(s);
}

void
server_stat(const struct server *s, struct page_stat *out)
{
	*out = s->stat;
}
