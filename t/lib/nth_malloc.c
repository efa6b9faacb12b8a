/*
 * nth_malloc.c - the parsers of foreign bytes, with the n-th allocation failing, for each n until none fails.
 *
 *	nth_malloc TARGET FILE ...
 *
 * A target is one of t/fuzz, linked with the heap of the programs (common/heap.c); each run is a child of its own. A line
 * for each file: how many allocations it took, how many of the runs ended with 71, and in how many it was not so: ended
 * otherwise, whatever it said. Exit status 1 when there was one.
 */
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "common/banned.h"

#define FILE_MAX (1 << 20)

typedef int target_fn(const uint8_t *, size_t);
/* TARGETS: TARGET(name) for each file of t/fuzz, by the makefile */
#define TARGET(name) int fuzz_##name(const uint8_t *, size_t);
TARGETS
#undef TARGET
#define TARGET(name) { #name, fuzz_##name },
static const struct { const char *name; target_fn *run; } targets[] = { TARGETS };

/* What heap.c is built on, in place of the C library's. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static long left = -1;          /* allocations until the one that fails; below 0: none does */
static long asked;

static bool
fails(void)
{
	asked++;
	return left >= 0 && left-- == 0;
}

void *
__libc_malloc(size_t n)
{
	return fails() ? NULL : memalign(16, n);
}

void *
__libc_calloc(size_t n, size_t size)
{
	void *p = __libc_malloc(n * size);

	return p ? memset(p, 0, n * size) : NULL;
}

void *
__libc_realloc(void *p, size_t n)
{
	size_t had = p ? malloc_usable_size(p) : 0;
	void *q = __libc_malloc(n);

	if (q && p)
		memcpy(q, p, had < n ? had : n);
	if (q)
		free(p);
	return q;
}

/* The exit status of a run whose n-th allocation fails; a signal as 128 and more. *reached: there were so many. */
static int
one(target_fn *run, const uint8_t *p, size_t n, long nth, const int *fds)
{
	struct rlimit no_core = { 0, 0 };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		if (dup2(fds[1], STDERR_FILENO) < 0)
			_exit(EX_OSERR + 1);
		left = nth;
		run(p, n);
		/* It was not reached, or nobody was told of it. */
		_exit(left >= 0 ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int
each_n(const char *name, target_fn *run, const char *path)
{
	static uint8_t data[FILE_MAX];
	FILE *f = fopen(path, "rb");
	size_t n = f ? fread(data, 1, sizeof(data), f) : 0;
	long ended = 0, otherwise = 0, nth;
	int fds[2], status = 0, worst = 0;

	if (!f || pipe(fds) < 0) {
		perror(path);
		return -1;
	}
	fclose(f);
	/* Once whole: what libraries allocate for ever is there. */
	run(data, n);
	for (nth = 0;; nth++) {
		status = one(run, data, n, nth, fds);
		if (status == 0)
			break;
		if (status == EX_OSERR) {
			char text[256];

			ended += read(fds[0], text, sizeof(text)) > 0;
		} else {
			otherwise++;
			worst = status;
		}
	}
	printf("%s %s: %ld allocations, %ld ended with 71 and said so, %ld did not (%d)\n", name, path, nth, ended, otherwise, worst);
	fflush(stdout);
	close(fds[0]);
	close(fds[1]);
	return otherwise || ended != nth ? -1 : 0;
}

int
main(int argc, char **argv)
{
	int rc = 0;

	for (size_t i = 0; argc > 2 && i < ARRAY_LEN(targets); i++) {
		if (strcmp(targets[i].name, argv[1]))
			continue;
		for (int k = 2; k < argc; k++)
			rc |= each_n(targets[i].name, targets[i].run, argv[k]);
		return rc ? 1 : 0;
	}
	return EX_USAGE;
}
