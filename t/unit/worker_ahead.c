/*
 * worker_ahead.c - the second thread of a local worker: what two look at is what one would have seen, however early it
 * ends; and it may read no more than the first one.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/sandbox.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define FILES 700
#define ROUNDS 150

static char top[64];
static char names[FILES][16];
static int dir;

static void
make_top(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(top, sizeof(top), "%.40s/ahead.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(top));
}

/* Outside of the tests' processes, one of which gives up its rights. */
static void
remove_top(void)
{
	pid_t pid = fork();

	if (!pid) {
		execlp("rm", "rm", "-rf", "--", top, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static void
make_files(void)
{
	dir = open(top, O_RDONLY | O_DIRECTORY);
	ck_assert_int_ge(dir, 0);
	for (int i = 0; i < FILES; i++) {
		int fd;

		snprintf(names[i], sizeof(names[i]), "f%d", i);
		/* every tenth is gone, one is a link that leads nowhere */
		if (i == 5)
			ck_assert_int_eq(symlinkat("nowhere", dir, names[i]), 0);
		if (i == 5 || i % 10 == 3)
			continue;
		fd = openat(dir, names[i], O_WRONLY | O_CREAT | O_EXCL, 0600);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(ftruncate(fd, i), 0);
		close(fd);
	}
}

/* A thread is of one process: each test has its own. */
static void
start(void)
{
	ahead_start();
	ck_assert(ahead_there());
}

/* Freed by each round, so that a look after the end is one at memory that is no more. */
static struct look *
begin(size_t n)
{
	struct look *v = xcalloc(n, sizeof(*v));

	for (size_t i = 0; i < n; i++)
		v[i].name = names[i];
	ahead_begin(dir, v, n);
	return v;
}

static void
check_look(struct look *k, int i)
{
	ahead_wait(k);
	if (i % 10 == 3) {
		ck_assert_int_eq(k->error, ENOENT);
		return;
	}
	ck_assert_int_eq(k->error, 0);
	ck_assert_uint_eq(k->st.stx_size, i == 5 ? strlen("nowhere") : (size_t)i);
	ck_assert_int_eq(S_ISLNK(k->st.stx_mode) != 0, i == 5);
}

START_TEST(each_is_looked_at)
{
	for (int round = 0; round < ROUNDS; round++) {
		struct look *v = begin(FILES);

		for (int i = 0; i < FILES; i++)
			check_look(&v[i], i);
		ahead_end();
		free(v);
	}
}
END_TEST

START_TEST(ended_early)
{
	for (int round = 0; round < ROUNDS; round++) {
		size_t n = (size_t)(1 + round * 131 % FILES);
		struct look *v = begin(n);

		for (int i = 0; i < round % 7 && (size_t)i < n; i++)
			check_look(&v[i], i);
		ahead_end();
		free(v);
	}
}
END_TEST

/* ---- what it may read: asked by a signal that it gets ---- */

static char inside[80], outside[80];
static atomic_int asked, in_error, out_error;

static int
opened(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static void
on_signal(int sig)
{
	int saved = errno;

	(void)sig;
	in_error = opened(inside);
	out_error = opened(outside);
	asked = 1;
	errno = saved;
}

static pid_t
second_thread(DIR *d)
{
	const struct dirent *t;
	pid_t found = 0;
	int64_t id;

	while ((t = readdir(d)))
		if (!units_int(t->d_name, &id) && (pid_t)id != getpid())
			found = (pid_t)id;
	return found;
}

static void
ask(pid_t thread)
{
	asked = 0;
	ck_assert_int_eq(syscall(SYS_tgkill, getpid(), thread, SIGUSR1), 0);
	while (!asked)
		sched_yield();
}

START_TEST(narrowed_with_the_first)
{
	struct sandbox s = { .role = SANDBOX_LOCAL, .rules.landlock_max = LANDLOCK_ABI_KNOWN };
	const char *roots[] = { top }, *narrow[] = { NULL };
	char a[70], b[70];
	struct err e = ERR_INIT;
	DIR *threads = opendir("/proc/self/task");      /* not to be opened later */
	uint8_t abi;
	pid_t thread;

	ck_assert_ptr_nonnull(threads);
	snprintf(a, sizeof(a), "%s/a", top);
	snprintf(b, sizeof(b), "%s/b", top);
	ck_assert(mkdir(a, 0755) == 0 && mkdir(b, 0755) == 0);
	snprintf(inside, sizeof(inside), "%s/file", a);
	snprintf(outside, sizeof(outside), "%s/file", b);
	close(open(inside, O_WRONLY | O_CREAT, 0600));
	close(open(outside, O_WRONLY | O_CREAT, 0600));
	narrow[0] = a;
	s.roots = roots;
	s.n_roots = 1;
	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(landlock_enter(&s, &abi, &e), 0);
	ahead_start();
	ck_assert(ahead_there());
	thread = second_thread(threads);
	closedir(threads);
	ck_assert_int_gt(thread, 0);
	ck_assert_ptr_ne(signal(SIGUSR1, on_signal), SIG_ERR);
	ask(thread);
	ck_assert_int_eq(in_error, 0);
	ck_assert_int_eq(out_error, 0);
	ck_assert_int_ge(sandbox_narrow_to(narrow, 1, &e), 0);
	ck_assert_int_eq(opened(outside), EACCES);
	ask(thread);
	ck_assert_int_eq(out_error, 0);
	ck_assert_int_eq(ahead_narrow(narrow, 1, &e), 0);
	ask(thread);
	ck_assert_int_eq(in_error, 0);
	ck_assert_int_eq(out_error, EACCES);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_ahead");
	TCase *t = tcase_create("looks"), *n = tcase_create("narrow");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_unchecked_fixture(t, make_top, remove_top);
	tcase_add_unchecked_fixture(t, make_files, NULL);
	tcase_add_checked_fixture(t, start, NULL);
	tcase_add_test(t, each_is_looked_at);
	tcase_add_test(t, ended_early);
	suite_add_tcase(s, t);
	tcase_set_timeout(n, 60);
	tcase_add_unchecked_fixture(n, make_top, remove_top);
#ifndef SANITIZED
	if (landlock_kernel())
		tcase_add_test(n, narrowed_with_the_first);
	else
		printf("# without Landlock here: that the thread is narrowed was not tested\n");
#else
	/* What looks for leaks at the end reads /proc. */
	(void)narrowed_with_the_first;
	printf("# a sanitized build has no Landlock: that the thread is narrowed was not tested\n");
#endif
	fflush(stdout);
	suite_add_tcase(s, n);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
