/*
 * loop.c - the event loop: epoll and a heap of timers.
 *
 * One a process, in master, http child and tests. Removed watchers are marked at once and freed after the
 * round, since the round's events may still point at them. Never closes a descriptor of its callers, never
 * handles signals (they come as a descriptor). What the kernel refuses to a correct caller is a bug: abort.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "common/loop.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define EVENTS_A_ROUND 64

struct watch {
	struct loop *loop;
	struct watch *next, *prev; /* in loop->live, or next alone in loop->dead */
	int fd;
	uint32_t events;           /* 0: paused, and then not in the epoll set */
	watch_fn *fn;
	void *arg;
	bool dead;
};

struct loop {
	int epoll;
	bool stop;
	bool in_round;
	int64_t now;               /* ms; of the present round */
	struct watch *live, *dead;
	struct timer **heap;       /* earliest first; timer->slot is its index + 1 */
	size_t timers, timers_cap;
	uint64_t seq;              /* given to timers as they are set: order among equals */
	void (*after)(void *arg);
	void *after_arg;
};

int64_t
clock_mono_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t
clock_real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct loop *
loop_new(void)
{
	struct loop *l;
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return NULL;
	l = xcalloc(1, sizeof(*l));
	l->epoll = fd;
	return l;
}

static void
reap(struct loop *l)
{
	struct watch *w;

	while ((w = l->dead)) {
		l->dead = w->next;
		free(w);
	}
}

void
loop_free(struct loop *l)
{
	if (!l)
		return;
	if (l->in_round)
		BUG("loop freed by its own callback");
	while (l->live) {
		struct watch *w = l->live;

		loop_unwatch(l, &w);
	}
	reap(l);
	for (size_t i = 0; i < l->timers; i++)
		l->heap[i]->slot = 0;
	free(l->heap);
	close(l->epoll);
	free(l);
}

int64_t
loop_now(struct loop *l)
{
	if (!l->in_round)
		l->now = clock_mono_ms();
	return l->now;
}

void
loop_stop(struct loop *l)
{
	l->stop = true;
}

void
loop_set_after(struct loop *l, void (*fn)(void *arg), void *arg)
{
	l->after = fn;
	l->after_arg = arg;
}

/* watchers */

static int
control(struct watch *w, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	return epoll_ctl(w->loop->epoll, op, w->fd, &ev);
}

struct watch *
loop_watch(struct loop *l, int fd, uint32_t events, watch_fn *fn, void *arg)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	w->loop = l;
	w->fd = fd;
	w->events = events;
	w->fn = fn;
	w->arg = arg;
	/* Added even if it begins paused, so that a descriptor that cannot be watched is refused now. */
	if (control(w, EPOLL_CTL_ADD, events)) {
		int saved = errno;

		free(w);
		errno = saved;
		return NULL;
	}
	if (!events)
		control(w, EPOLL_CTL_DEL, 0);
	w->next = l->live;
	if (w->next)
		w->next->prev = w;
	l->live = w;
	return w;
}

void
loop_watch_set(struct watch *w, uint32_t events)
{
	/* Out of the set when paused: for events 0 epoll would still report errors and hang-ups. */
	int op = !events ? EPOLL_CTL_DEL : w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (w->dead)
		BUG("watcher set after its removal");
	if (events == w->events)
		return;
	if (control(w, op, events))
		BUG("descriptor of a watcher was closed before the watcher was removed");
	w->events = events;
}

void
loop_unwatch(struct loop *l, struct watch **wp)
{
	struct watch *w = *wp;

	if (!w)
		return;
	*wp = NULL;
	if (w->dead)
		BUG("watcher removed twice");
	if (w->events)
		control(w, EPOLL_CTL_DEL, 0);
	w->dead = true;
	if (w->prev)
		w->prev->next = w->next;
	else
		l->live = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->next = l->dead;
	l->dead = w;
	if (!l->in_round)
		reap(l);
}

/* timers */

static bool
earlier(const struct timer *a, const struct timer *b)
{
	return a->due < b->due || (a->due == b->due && a->seq < b->seq);
}

static void
put(struct loop *l, size_t i, struct timer *t)
{
	l->heap[i] = t;
	t->slot = i + 1;
}

static void
sift_up(struct loop *l, size_t i, struct timer *t)
{
	for (; i && earlier(t, l->heap[(i - 1) / 2]); i = (i - 1) / 2)
		put(l, i, l->heap[(i - 1) / 2]);
	put(l, i, t);
}

static void
sift_down(struct loop *l, size_t i, struct timer *t)
{
	size_t kid;

	while ((kid = 2 * i + 1) < l->timers) {
		if (kid + 1 < l->timers && earlier(l->heap[kid + 1], l->heap[kid]))
			kid++;
		if (!earlier(l->heap[kid], t))
			break;
		put(l, i, l->heap[kid]);
		i = kid;
	}
	put(l, i, t);
}

void
timer_init(struct timer *t, timer_fn *fn, void *arg)
{
	*t = (struct timer){ .fn = fn, .arg = arg };
}

void
timer_set(struct loop *l, struct timer *t, int64_t ms)
{
	timer_cancel(l, t);
	if (__builtin_add_overflow(loop_now(l), ms > 0 ? ms : 0, &t->due))
		t->due = INT64_MAX;
	t->seq = l->seq++;
	if (l->timers == l->timers_cap) {
		l->timers_cap = l->timers_cap ? l->timers_cap * 2 : 16;
		l->heap = xreallocarray(l->heap, l->timers_cap, sizeof(struct timer *));
	}
	sift_up(l, l->timers++, t);
}

void
timer_cancel(struct loop *l, struct timer *t)
{
	size_t i = t->slot - 1;
	struct timer *last;

	if (!t->slot)
		return;
	t->slot = 0;
	last = l->heap[--l->timers];
	if (last == t)
		return;
	if (i && earlier(last, l->heap[(i - 1) / 2]))
		sift_up(l, i, last);
	else
		sift_down(l, i, last);
}

bool
timer_armed(const struct timer *t)
{
	return t->slot != 0;
}

int64_t
timer_left(struct loop *l, const struct timer *t)
{
	int64_t now = loop_now(l);

	return t->slot && t->due > now ? t->due - now : 0;
}

/* Timers that are set by these callbacks wait for the next round, even with 0 ms: no round is endless. */
static void
run_timers(struct loop *l)
{
	uint64_t limit = l->seq;

	while (l->timers && l->heap[0]->due <= l->now && l->heap[0]->seq < limit) {
		struct timer *t = l->heap[0];

		timer_cancel(l, t);
		t->fn(t->arg);
	}
}

/* rounds */

static int
wait_ms(struct loop *l, int max_ms)
{
	int64_t left;

	if (l->stop)
		return 0;
	if (!l->timers)
		return max_ms;
	left = timer_left(l, l->heap[0]);
	if (max_ms >= 0 && left > max_ms)
		return max_ms;
	return left > 3600000 ? 3600000 : (int)left;
}

void
loop_once(struct loop *l, int max_ms)
{
	struct epoll_event ev[EVENTS_A_ROUND];
	int n;

	if (l->in_round)
		BUG("round within a round");
	n = epoll_wait(l->epoll, ev, EVENTS_A_ROUND, wait_ms(l, max_ms));
	if (n < 0 && errno != EINTR)
		BUG("epoll_wait");
	l->now = clock_mono_ms();
	l->in_round = true;
	for (int i = 0; i < n; i++) {
		struct watch *w = ev[i].data.ptr;
		uint32_t got = ev[i].events & (w->events | EPOLLERR | EPOLLHUP);

		/* An earlier callback of this round may have removed, paused or narrowed it. */
		if (!w->dead && w->events && got)
			w->fn(w->arg, w->fd, got);
	}
	run_timers(l);
	if (l->after)
		l->after(l->after_arg);
	l->in_round = false;
	reap(l);
}

void
loop_run(struct loop *l)
{
	while (!l->stop)
		loop_once(l, -1);
	l->stop = false;
}
