/*
 * connector_resolve.c - names to addresses, each in a thread, so that a slow name server holds up its own asker alone.
 *
 * connector.c asks and is called back in the loop. The threads share one queue in and one out behind a lock, and touch
 * nothing else. getaddrinfo(3) can be neither stopped nor bounded, and goes on when its asker has gone: a question waits in
 * connector_turns.c until a thread is free for it, and one tenant holds at most a quarter of the threads.
 */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "worker/connector.h"
#include "worker/worker.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define STACK (256 * 1024)
#define THREADS_A_SLOT 4
#define THREADS_MIN 8
#define THREADS_MAX 128
#define SHARE_MIN 2                     /* threads that one tenant may hold */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct resolved *first, **last;  /* for the next free thread, of which there is one for each */
	struct resolved *ready;          /* answered */
	int event;
	/* the loop's alone */
	void (*done)(struct resolved *);
	unsigned threads, max;           /* started; at most */
	unsigned under_way;              /* given to threads, and not yet done */
} resolver = { .lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER, .event = -1 };

static void
look_up(struct resolved *r)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = r->family, .ai_flags = AI_NUMERICSERV }, *list = NULL;
	char service[8];

	snprintf(service, sizeof(service), "%u", r->port);
	r->rc = getaddrinfo(r->host, service, &hints, &list);
	r->error = errno;
	if (r->rc)
		return;
	for (const struct addrinfo *a = list; a && r->n < ARRAY_LEN(r->addr); a = a->ai_next)
		if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
			memcpy(&r->addr[r->n++], a->ai_addr, a->ai_addrlen);
	freeaddrinfo(list);
}

static void *
work(void *arg)
{
	(void)arg;
	for (;;) {
		struct resolved *r;
		uint64_t one = 1;

		pthread_mutex_lock(&resolver.lock);
		while (!resolver.first)
			pthread_cond_wait(&resolver.some, &resolver.lock);
		r = resolver.first;
		resolver.first = r->next;
		if (!resolver.first)
			resolver.last = &resolver.first;
		pthread_mutex_unlock(&resolver.lock);
		look_up(r);
		pthread_mutex_lock(&resolver.lock);
		r->next = resolver.ready;
		resolver.ready = r;
		pthread_mutex_unlock(&resolver.lock);
		/* a full counter wakes the loop just as well */
		if (write(resolver.event, &one, sizeof(one)) != sizeof(one))
			continue;
	}
	return NULL;
}

/* 0, or an errno */
static int
start_thread(void)
{
	pthread_attr_t attr;
	pthread_t t;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&t, &attr, work, NULL);
	pthread_attr_destroy(&attr);
	resolver.threads += !rc;
	return rc;
}

static unsigned
share(void)
{
	return resolver.max / 4 > SHARE_MIN ? resolver.max / 4 : SHARE_MIN;
}

/* Gives threads what may be looked up now. */
static void
dispatch(void)
{
	struct resolved *r;

	while (resolver.under_way < resolver.max) {
		if (resolver.under_way == resolver.threads && start_thread()) {
			/* these are all that the machine allows */
			resolver.max = resolver.threads;
			return;
		}
		r = turns_take(share());
		if (!r)
			return;
		resolver.under_way++;
		pthread_mutex_lock(&resolver.lock);
		*resolver.last = r;
		resolver.last = &r->next;
		pthread_cond_signal(&resolver.some);
		pthread_mutex_unlock(&resolver.lock);
	}
}

static void
on_event(void *arg, int fd, uint32_t events)
{
	struct resolved *r, *next;
	uint64_t n;

	(void)arg;
	(void)events;
	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return;
	pthread_mutex_lock(&resolver.lock);
	r = resolver.ready;
	resolver.ready = NULL;
	pthread_mutex_unlock(&resolver.lock);
	for (; r; r = next) {
		next = r->next;
		resolver.under_way--;
		turns_done(r);
		resolver.done(r);
	}
	dispatch();
}

int
resolver_start(struct loop *l, unsigned slots, void (*done)(struct resolved *), struct err *e)
{
	resolver.last = &resolver.first;
	resolver.done = done;
	resolver.max = slots * THREADS_A_SLOT;
	if (resolver.max < THREADS_MIN)
		resolver.max = THREADS_MIN;
	if (resolver.max > THREADS_MAX)
		resolver.max = THREADS_MAX;
	resolver.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (resolver.event < 0 || !loop_watch(l, resolver.event, EPOLLIN, on_event, NULL))
		return err_errno(e, ERR_SYSTEM, "cannot watch for names");
	/* without one of them it is of no use; the others when they are needed */
	errno = start_thread();
	return errno ? err_errno(e, ERR_SYSTEM, "cannot start a thread") : 0;
}

void
resolver_ask(const struct peer *p, const struct broker_ask *q)
{
	struct resolved *r = xcalloc(1, sizeof(*r));

	r->peer = p->id;
	r->turn = p->turn;
	r->slot = p->slot;
	r->seq = q->seq;
	r->family = q->family;
	r->port = q->port;
	memcpy(r->host, q->host, sizeof(r->host));
	turns_add(r, p->grant.org_id);
	dispatch();
}

bool
resolver_drop(const struct peer *p)
{
	struct resolved *r = turns_drop(p->id);

	free(r);
	return r != NULL;
}

int
resolver_error(const struct resolved *r, struct err *e)
{
	return net_resolve_error(r->rc, r->error, r->host, r->family, e);
}
