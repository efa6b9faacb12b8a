/*
 * common_loop.c - unit of the event loop: order of timers, removal from within callbacks, pausing, what is due
 * when, and a random run of the timer heap against a sorted list. Nothing here depends on how fast it runs.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/xalloc.h"
#include "common/banned.h"

static struct loop *loop;
static struct buf seen; /* what the callbacks say, in order */

static void
setup(void)
{
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	buf_init(&seen);
}

static void
teardown(void)
{
	loop_free(loop);
	buf_release(&seen);
}

struct step {
	struct timer timer;
	const char *name;
	struct step *cancel, *again;
	bool stop;
};

static void
on_step(void *arg)
{
	struct step *s = arg;

	buf_puts(&seen, s->name);
	if (s->cancel)
		timer_cancel(loop, &s->cancel->timer);
	if (s->again)
		timer_set(loop, &s->again->timer, 0);
	if (s->stop)
		loop_stop(loop);
}

static void
step_init(struct step *s, const char *name)
{
	*s = (struct step){ .name = name };
	timer_init(&s->timer, on_step, s);
}

static const struct {
	const char *name;
	int ms;
} order[] = { { "f", 4 }, { "c", 1 }, { "a", 0 }, { "d", 1 }, { "e", 2 }, { "b", -5 }, { "g", 4 }, { ".", 5 } };

static struct step ordered[ARRAY_LEN(order)];

/* In a callback the time stands still, so that a slow machine changes nothing. */
static void
set_all(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		step_init(&ordered[i], order[i].name);
		ordered[i].stop = *order[i].name == '.';
		ck_assert(!timer_armed(&ordered[i].timer));
		timer_set(loop, &ordered[i].timer, order[i].ms);
		ck_assert(timer_armed(&ordered[i].timer));
		ck_assert_int_eq(timer_left(loop, &ordered[i].timer), order[i].ms > 0 ? order[i].ms : 0);
	}
}

START_TEST(timers_in_order)
{
	struct timer t;

	timer_init(&t, set_all, NULL);
	timer_set(loop, &t, 0);
	loop_run(loop);
	ck_assert_str_eq(buf_str(&seen), "abcdefg.");
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		ck_assert(!timer_armed(&ordered[i].timer));
}
END_TEST

START_TEST(timer_cancels_another)
{
	struct step a, b, c;

	step_init(&a, "a");
	step_init(&b, "b");
	step_init(&c, "c");
	a.cancel = &b;
	timer_set(loop, &a.timer, 0);
	timer_set(loop, &b.timer, 0);
	timer_set(loop, &c.timer, 0);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "ac");
	ck_assert(!timer_armed(&b.timer));
	timer_cancel(loop, &b.timer);
}
END_TEST

START_TEST(timer_set_again_waits_a_round)
{
	struct step a, b;

	step_init(&a, "a");
	step_init(&b, "b");
	a.again = &a;
	timer_set(loop, &a.timer, 0);
	timer_set(loop, &b.timer, 0);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "ab");
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "aba");
	timer_cancel(loop, &a.timer);
	timer_set(loop, &b.timer, 0);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "abab");
}
END_TEST

START_TEST(timer_left_and_far)
{
	struct step a;

	step_init(&a, "a");
	ck_assert_int_eq(timer_left(loop, &a.timer), 0);
	timer_set(loop, &a.timer, INT64_MAX);
	ck_assert_int_gt(timer_left(loop, &a.timer), INT64_MAX / 2);
	timer_set(loop, &a.timer, 3600000);
	ck_assert_int_gt(timer_left(loop, &a.timer), 3000000);
	ck_assert_int_le(timer_left(loop, &a.timer), 3600000);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "");
	timer_cancel(loop, &a.timer);
	ck_assert_int_eq(timer_left(loop, &a.timer), 0);
}
END_TEST

#define MANY 500

/* The heap against the rule: at every removal of the first, nothing that is armed is earlier. */
START_TEST(heap_at_random)
{
	struct step *s = xcalloc(MANY, sizeof(*s));
	uint32_t seed = 5;

	for (int i = 0; i < MANY; i++)
		step_init(&s[i], "x");
	for (int i = 0; i < 20000; i++) {
		struct step *t;

		seed = seed * 1664525 + 1013904223;
		t = &s[(seed >> 8) % MANY];
		if (seed >> 30)
			timer_set(loop, &t->timer, 100000 + (seed >> 12) % 1000);
		else
			timer_cancel(loop, &t->timer);
		ck_assert_int_eq(timer_armed(&t->timer), seed >> 30 != 0);
	}
	for (int armed = 0;; armed = 0) {
		struct step *first = NULL;

		for (int i = 0; i < MANY; i++) {
			armed += timer_armed(&s[i].timer);
			ck_assert_uint_le(s[i].timer.slot, MANY);
			if (s[i].timer.slot == 1)
				first = &s[i];
		}
		if (!armed)
			break;
		ck_assert_ptr_nonnull(first);
		for (int i = 0; i < MANY; i++)
			if (timer_armed(&s[i].timer))
				ck_assert_int_le(first->timer.due, s[i].timer.due);
		timer_cancel(loop, &first->timer);
	}
	free(s);
}
END_TEST

START_TEST(freeing_disarms)
{
	struct step a;
	struct loop *other = loop_new();

	ck_assert_ptr_nonnull(other);
	step_init(&a, "a");
	timer_set(other, &a.timer, 1000);
	loop_free(other);
	ck_assert(!timer_armed(&a.timer));
}
END_TEST

/* An object on the heap with a watcher, as the real users are. */
struct end {
	struct watch *w;
	int fd;
	const char *name;
	struct end **kill;    /* frees this one when called */
	struct end *pause;
	bool read, stop;
};

static void
on_end(void *arg, int fd, uint32_t events)
{
	struct end *e = arg;
	char c;

	ck_assert_int_eq(fd, e->fd);
	buf_puts(&seen, e->name);
	if (events & EPOLLHUP)
		buf_puts(&seen, "!");
	if (e->read)
		ck_assert_int_eq(read(fd, &c, 1), 1);
	if (e->pause)
		loop_watch_set(e->pause->w, 0);
	if (e->kill && *e->kill) {
		struct end *victim = *e->kill;

		*e->kill = NULL;
		loop_unwatch(loop, &victim->w);
		ck_assert_ptr_null(victim->w);
		free(victim);
	}
}

static struct end *
end_new(int fd, const char *name, uint32_t events)
{
	struct end *e = xcalloc(1, sizeof(*e));

	e->fd = fd;
	e->name = name;
	e->w = loop_watch(loop, fd, events, on_end, e);
	ck_assert_ptr_nonnull(e->w);
	return e;
}

static void
end_free(struct end *e)
{
	loop_unwatch(loop, &e->w);
	free(e);
}

START_TEST(removed_by_another)
{
	int a[2], b[2];
	struct end *x, *y;

	ck_assert_int_eq(pipe(a), 0);
	ck_assert_int_eq(pipe(b), 0);
	x = end_new(a[0], "x", EPOLLIN);
	y = end_new(b[0], "y", EPOLLIN);
	/* Both are ready; whichever comes first frees the other, whose event is in the same round. */
	x->kill = &y;
	y->kill = &x;
	ck_assert_int_eq(write(a[1], "1", 1), 1);
	ck_assert_int_eq(write(b[1], "1", 1), 1);
	loop_once(loop, -1);
	ck_assert_uint_eq(seen.len, 1);
	ck_assert((x == NULL) != (y == NULL));
	loop_once(loop, -1);
	ck_assert_uint_eq(seen.len, 2);
	end_free(x ? x : y);
	loop_once(loop, 0);
	ck_assert_uint_eq(seen.len, 2);
}
END_TEST

START_TEST(removes_itself)
{
	int a[2];
	struct end *x;

	ck_assert_int_eq(pipe(a), 0);
	x = end_new(a[0], "x", EPOLLIN);
	x->kill = &x;
	ck_assert_int_eq(write(a[1], "1", 1), 1);
	loop_once(loop, -1);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "x");
	ck_assert_ptr_null(x);
	/* The number may be watched anew, with the old one just gone. */
	x = end_new(a[0], "z", EPOLLIN);
	loop_once(loop, -1);
	ck_assert_str_eq(buf_str(&seen), "xz");
	end_free(x);
}
END_TEST

START_TEST(pauses)
{
	int a[2];
	struct end *x;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
	x = end_new(a[0], "x", EPOLLIN);
	ck_assert_int_eq(write(a[1], "12", 2), 2);
	loop_watch_set(x->w, 0);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "");
	/* A hang-up is not told while it is paused, or the loop would spin. */
	close(a[1]);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "");
	loop_watch_set(x->w, EPOLLOUT);
	loop_watch_set(x->w, EPOLLIN);
	loop_watch_set(x->w, EPOLLIN);
	loop_once(loop, -1);
	ck_assert_str_eq(buf_str(&seen), "x!");
	loop_watch_set(x->w, 0);
	loop_watch_set(x->w, 0);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "x!");
	end_free(x);
	close(a[0]);
}
END_TEST

START_TEST(begins_paused)
{
	int a[2];
	struct end *x;

	ck_assert_int_eq(pipe(a), 0);
	ck_assert_int_eq(write(a[1], "1", 1), 1);
	x = end_new(a[0], "x", 0);
	loop_once(loop, 0);
	ck_assert_str_eq(buf_str(&seen), "");
	loop_watch_set(x->w, EPOLLIN);
	loop_once(loop, -1);
	ck_assert_str_eq(buf_str(&seen), "x");
	end_free(x);
}
END_TEST

START_TEST(paused_in_the_same_round)
{
	int a[2], b[2];
	struct end *x, *y;

	ck_assert_int_eq(pipe(a), 0);
	ck_assert_int_eq(pipe(b), 0);
	x = end_new(a[0], "x", EPOLLIN);
	y = end_new(b[0], "y", EPOLLIN);
	x->pause = y;
	y->pause = x;
	ck_assert_int_eq(write(a[1], "1", 1), 1);
	ck_assert_int_eq(write(b[1], "1", 1), 1);
	/* Hung up too, which epoll tells unasked. */
	close(a[1]);
	close(b[1]);
	loop_once(loop, -1);
	ck_assert(!strcmp(buf_str(&seen), "x!") || !strcmp(seen.p, "y!"));
	end_free(x);
	end_free(y);
}
END_TEST

START_TEST(cannot_be_watched)
{
	char path[] = "/tmp/iis-poller-loop-XXXXXX";
	int file = mkstemp(path);

	ck_assert_int_ge(file, 0);
	unlink(path);
	errno = 0;
	ck_assert_ptr_null(loop_watch(loop, file, EPOLLIN, on_end, NULL));
	ck_assert_int_eq(errno, EPERM);
	ck_assert_ptr_null(loop_watch(loop, file, 0, on_end, NULL));
	close(file);
	ck_assert_ptr_null(loop_watch(loop, file, EPOLLIN, on_end, NULL));
	ck_assert_int_eq(errno, EBADF);
}
END_TEST

static int rounds;

static void
on_after(void *arg)
{
	struct end **e = arg;

	rounds++;
	if (*e)
		loop_unwatch(loop, &(*e)->w);
}

START_TEST(after_each_round)
{
	int a[2];
	struct end *x;

	ck_assert_int_eq(pipe(a), 0);
	x = end_new(a[0], "x", EPOLLIN);
	ck_assert_int_eq(write(a[1], "1", 1), 1);
	loop_set_after(loop, on_after, &x);
	loop_once(loop, 0);
	loop_once(loop, 0);
	ck_assert_int_eq(rounds, 2);
	ck_assert_str_eq(buf_str(&seen), "x");
	free(x);
}
END_TEST

START_TEST(stop_before_run)
{
	struct step a;

	step_init(&a, "a");
	timer_set(loop, &a.timer, 0);
	loop_stop(loop);
	loop_run(loop);
	ck_assert_str_eq(buf_str(&seen), "");
	a.stop = true;
	loop_run(loop);
	ck_assert_str_eq(buf_str(&seen), "a");
}
END_TEST

START_TEST(left_watchers_are_freed)
{
	int a[2];
	struct loop *l = loop_new();

	ck_assert_ptr_nonnull(l);
	ck_assert_int_eq(pipe(a), 0);
	ck_assert_ptr_nonnull(loop_watch(l, a[0], EPOLLIN, on_end, NULL));
	ck_assert_ptr_nonnull(loop_watch(l, a[1], EPOLLOUT, on_end, NULL));
	loop_free(l);
	ck_assert_int_ne(fcntl(a[0], F_GETFD), -1);
}
END_TEST

static void
run_nested(void *arg)
{
	loop_once(arg, 0);
}

START_TEST(round_within_a_round)
{
	struct timer t;

	timer_init(&t, run_nested, loop);
	timer_set(loop, &t, 0);
	loop_once(loop, 0);
}
END_TEST

START_TEST(clocks)
{
	int64_t mono = clock_mono_ms(), real = clock_real_ns();

	ck_assert_int_ge(clock_mono_ms(), mono);
	ck_assert_int_ge(loop_now(loop), mono);
	/* after 2020 and before 2200 */
	ck_assert_int_gt(real, INT64_C(1577836800000000000));
	ck_assert_int_lt(real, INT64_C(7258118400000000000));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_loop");
	TCase *t = tcase_create("loop");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, timers_in_order);
	tcase_add_test(t, timer_cancels_another);
	tcase_add_test(t, timer_set_again_waits_a_round);
	tcase_add_test(t, timer_left_and_far);
	tcase_add_test(t, heap_at_random);
	tcase_add_test(t, freeing_disarms);
	tcase_add_test(t, removed_by_another);
	tcase_add_test(t, removes_itself);
	tcase_add_test(t, pauses);
	tcase_add_test(t, begins_paused);
	tcase_add_test(t, paused_in_the_same_round);
	tcase_add_test(t, cannot_be_watched);
	tcase_add_test(t, after_each_round);
	tcase_add_test(t, stop_before_run);
	tcase_add_test(t, left_watchers_are_freed);
	tcase_add_test_raise_signal(t, round_within_a_round, SIGABRT);
	tcase_add_test(t, clocks);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
