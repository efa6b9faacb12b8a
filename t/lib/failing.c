/*
 * failing.c - a preloaded library that lets an allocation of the daemon or the worker fail: below their own heap
 * (common/heap.c), which is built on these.
 *
 * FAIL_AT=N: the N-th one of the process fails, and each one after it where FAIL_ON is set. FAIL_PROGRAM: only in the
 * program of this name.
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/banned.h"

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static atomic_long asked;
static long fail_at;            /* 0: none */
static int fail_on;

__attribute__((constructor)) static void
begin(void)
{
	const char *at = getenv("FAIL_AT"), *program = getenv("FAIL_PROGRAM");

	if (!at || (program && strcmp(program, program_invocation_short_name)))
		return;
	fail_on = getenv("FAIL_ON") != NULL;
	fail_at = strtol(at, NULL, 10);
	atomic_store(&asked, 0);
}

static int
fails(void)
{
	long n = atomic_fetch_add(&asked, 1) + 1;

	return fail_at && (n == fail_at || (fail_on && n > fail_at));
}

void *
__libc_malloc(size_t n)
{
	return fails() ? NULL : memalign(16, n);
}

void *
__libc_calloc(size_t n, size_t size)
{
	void *p;

	if (size && n > (size_t)-1 / size)
		return NULL;
	p = __libc_malloc(n * size);
	return p ? memset(p, 0, n * size) : NULL;
}

void *
__libc_realloc(void *p, size_t n)
{
	size_t had = p ? malloc_usable_size(p) : 0;
	void *q = __libc_malloc(n);

	if (q && p) {
		memcpy(q, p, had < n ? had : n);
		free(p);
	}
	return q;
}
