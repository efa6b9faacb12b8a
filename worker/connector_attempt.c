/*
 * connector_attempt.c - one connection for a worker: its addresses one after the other, the next one a moment later or as
 * soon as the one before fails; the first that answers wins (RFC 8305).
 *
 * connector.c starts it, for addresses that were checked. It never blocks, and ends by its deadline.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/connector.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define STAGGER_MS 250

struct attempt {
	struct peer *peer;
	void (*done)(struct peer *, int fd, size_t which, const struct err *, int error);
	size_t next;                    /* of the ask's addresses */
	unsigned open;                  /* sockets under way */
	int error;                      /* the last errno */
	struct one { struct attempt *a; int fd; struct watch *w; } one[BROKER_ADDRS];
	struct timer stagger, deadline;
};

static void
drop(struct one *o)
{
	loop_unwatch(o->a->peer->loop, &o->w);
	if (o->fd >= 0) {
		close(o->fd);
		o->a->open--;
	}
	o->fd = -1;
}

void
attempt_free(struct attempt *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < BROKER_ADDRS; i++)
		drop(&a->one[i]);
	timer_cancel(a->peer->loop, &a->stagger);
	timer_cancel(a->peer->loop, &a->deadline);
	free(a);
}

static void
fail(struct attempt *a, enum err_class cls, const char *what)
{
	struct err e = ERR_INIT;

	if (a->error)
		err_set(&e, cls, "%s: %s", what, strerror(a->error));
	else
		err_set(&e, cls, "%s", what);
	a->done(a->peer, -1, 0, &e, a->error);
}

static void
succeed(struct attempt *a, size_t i)
{
	int fd = a->one[i].fd;

	loop_unwatch(a->peer->loop, &a->one[i].w);
	a->one[i].fd = -1;
	a->open--;
	a->done(a->peer, fd, i, NULL, 0);
}

static void begin_next(struct attempt *);

/* After a failure: the next one at once; with none left and none under way, the end. */
static void
go_on(struct attempt *a)
{
	while (a->next < a->peer->ask.n) {
		begin_next(a);
		if (a->open)
			return;
	}
	if (!a->open)
		fail(a, ERR_TRANSIENT, "connecting");
}

static void
on_connected(void *arg, int fd, uint32_t events)
{
	struct one *o = arg;
	struct attempt *a = o->a;
	int error = 0;
	socklen_t n = sizeof(error);

	(void)events;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		error = errno;
	if (!error) {
		succeed(a, (size_t)(o - a->one));
		return;
	}
	a->error = error;
	drop(o);
	go_on(a);
}

static void
on_stagger(void *arg)
{
	struct attempt *a = arg;

	if (a->next < a->peer->ask.n)
		go_on(a);
}

static void
on_deadline(void *arg)
{
	struct attempt *a = arg;

	a->error = 0;
	fail(a, ERR_TIMEOUT, "connecting: no answer within connect_timeout");
}

static void
begin_next(struct attempt *a)
{
	const struct broker_ask *q = &a->peer->ask;
	struct one *o = &a->one[a->next];
	struct sockaddr_storage sa;
	socklen_t n = broker_addr_to(&q->addr[a->next++], q->port, &sa);

	o->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (o->fd < 0) {
		a->error = errno;
		return;
	}
	a->open++;
	if (connect(o->fd, (const struct sockaddr *)&sa, n) < 0 && errno != EINPROGRESS) {
		a->error = errno;
		drop(o);
		return;
	}
	/* connected at once shows as writable, too */
	o->w = loop_watch(a->peer->loop, o->fd, EPOLLOUT, on_connected, o);
	if (!o->w) {
		a->error = errno;
		drop(o);
		return;
	}
	timer_set(a->peer->loop, &a->stagger, STAGGER_MS);
}

static void
on_begin(void *arg)
{
	struct attempt *a = arg;

	timer_init(&a->stagger, on_stagger, a);
	go_on(a);
}

struct attempt *
attempt_new(struct peer *p, void (*done)(struct peer *, int fd, size_t which, const struct err *, int error))
{
	struct attempt *a = xcalloc(1, sizeof(*a));

	a->peer = p;
	a->done = done;
	for (size_t i = 0; i < BROKER_ADDRS; i++)
		a->one[i] = (struct one){ .a = a, .fd = -1 };
	timer_init(&a->stagger, on_begin, a);
	timer_init(&a->deadline, on_deadline, a);
	timer_set(p->loop, &a->deadline, p->ask.timeout_ms ? p->ask.timeout_ms : 1);
	/* in the next round: done is never called from here */
	timer_set(p->loop, &a->stagger, 0);
	return a;
}
