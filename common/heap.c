/*
 * heap.c - the heap of the daemon and the worker: what is freed is zero, and no allocation fails, whoever asks.
 *
 * Secrets pass through libcurl, libssh2, libxml2, OpenSSL, librdkafka, json-c and the C library, which free most of what
 * held them as it is; what is free is the first that a later overflow reads. And they differ in what they make of memory
 * that is not to be had: json-c takes a string for null, and a job would be refused, or done otherwise, for a shortage
 * that passes. So the functions of the whole program are these: a failure ends the process as one of xalloc's does.
 * Linked into the daemon and the worker alone: tests, sanitizers and valgrind keep their own. Live memory is its owner's:
 * a kept connection's login (conn.c), the jobs in hand (jobs.c).
 */
#ifndef SANITIZED
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "common/banned.h"

/* glibc's own, behind the names that may be replaced (malloc/malloc.c). */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

/*
 * A block that is a mapping of its own goes back to the kernel, and grows without being copied. From which size on that is
 * so moves with what is freed; the block's head tells (malloc/malloc.c, IS_MMAPPED). To fix the size instead costs a page
 * fault for each page of each batch of events.
 */
static bool
own_mapping(const void *p)
{
	return ((const size_t *)p)[-1] & 2;
}

void *
malloc(size_t n)
{
	void *p = __libc_malloc(n);

	if (!p)
		xalloc_failed(n);
	return p;
}

void *
calloc(size_t n, size_t size)
{
	void *p = __libc_calloc(n, size);

	if (!p)
		xalloc_failed(size);
	return p;
}

void
free(void *p)
{
	int saved = errno;

	if (p && !own_mapping(p))
		explicit_bzero(p, malloc_usable_size(p));
	__libc_free(p);
	errno = saved;
}

void *
realloc(void *p, size_t n)
{
	size_t had = p ? malloc_usable_size(p) : 0;
	void *q;

	if (!p || !n || own_mapping(p)) {
		q = __libc_realloc(p, n);
		if (!q && n)
			xalloc_failed(n);
		return q;
	}
	if (n <= had) {
		/* It stays where it is; what is beyond its new end is as good as freed. */
		explicit_bzero((char *)p + n, had - n);
		return p;
	}
	q = malloc(n);
	memcpy(q, p, had);
	free(p);
	return q;
}
#endif
