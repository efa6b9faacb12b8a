/*
 * loop.h - the event loop: epoll, timers, nothing else. One loop a process, one thread.
 *
 * A callback may remove any watcher, its own too: removal takes effect at once (no later callback of the
 * removed one runs, not even for an event of the same round), the memory is freed after the round.
 * Time is CLOCK_MONOTONIC in milliseconds, read once a round (loop_now).
 */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

struct loop;
struct watch; /* one descriptor; owned by the loop; the caller keeps the handle until loop_unwatch */

/* events: EPOLLIN | EPOLLOUT as in epoll(7), level triggered; 0 pauses the watcher (errors and hang-ups too). */
typedef void watch_fn(void *arg, int fd, uint32_t events);
typedef void timer_fn(void *arg);

struct timer {        /* embedded in its owner; timer_init before anything else */
	int64_t due;      /* loop ms */
	uint64_t seq;     /* among equals the one set first fires first */
	size_t slot;      /* place in the heap + 1; 0: not armed */
	timer_fn *fn;
	void *arg;
};

/* NULL with errno */
struct loop *loop_new(void);
/* Frees the watchers that are left as well and disarms the timers; not within a callback. */
void loop_free(struct loop *);
/* Runs until loop_stop. */
void loop_run(struct loop *);
/* One round: waits at most max_ms (-1: until something happens), then handles what is due. */
void loop_once(struct loop *, int max_ms);
void loop_stop(struct loop *);
int64_t loop_now(struct loop *);
/* Called after every round; for work that callbacks have put off (reaping, scheduling). */
void loop_set_after(struct loop *, void (*fn)(void *arg), void *arg);

/* NULL with errno where the descriptor cannot be watched (a regular file: EPERM). */
struct watch *loop_watch(struct loop *, int fd, uint32_t events, watch_fn *fn, void *arg);
void loop_watch_set(struct watch *, uint32_t events);
/* Removes and sets *w to NULL; the descriptor stays open: its owner closes it. NULL is fine. */
void loop_unwatch(struct loop *, struct watch **w);

void timer_init(struct timer *, timer_fn *fn, void *arg);
/* Sets or sets anew; 0 or less: in the next round. */
void timer_set(struct loop *, struct timer *, int64_t ms_from_now);
void timer_cancel(struct loop *, struct timer *);
bool timer_armed(const struct timer *);
/* ms until it fires; 0 if it is due or not armed */
int64_t timer_left(struct loop *, const struct timer *);

/* CLOCK_MONOTONIC in ms and CLOCK_REALTIME in ns, outside of any loop */
int64_t clock_mono_ms(void);
int64_t clock_real_ns(void);

#endif
