/*
 * zero_free.c - memory that a worker gives back is zero, whoever asked for it.
 *
 * Secrets pass through libcurl, libssh2, libxml2, OpenSSL and the C library, which free most of what held them as it is;
 * what is free is the first that a later overflow reads. So free and realloc of the whole program are these. Linked into
 * the program alone: tests, sanitizers and valgrind keep their own. Live memory (a kept connection's login) is conn.c's.
 */
#ifndef SANITIZED
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "common/banned.h"

/* glibc's own, behind the names that may be replaced (malloc/malloc.c). */
extern void __libc_free(void *);
extern void *__libc_realloc(void *, size_t);

/* A block this large is a mapping of its own: it goes back to the kernel, and grows without being copied. */
#define OWN_MAPPING (1u << 20)

void
free(void *p)
{
	int saved = errno;
	size_t n = p ? malloc_usable_size(p) : 0;

	if (n && n < OWN_MAPPING)
		explicit_bzero(p, n);
	__libc_free(p);
	errno = saved;
}

void *
realloc(void *p, size_t n)
{
	size_t had = p ? malloc_usable_size(p) : 0;
	void *q;

	if (!p || !n || had >= OWN_MAPPING)
		return __libc_realloc(p, n);
	if (n <= had) {
		/* It stays where it is; what is beyond its new end is as good as freed. */
		explicit_bzero((char *)p + n, had - n);
		return p;
	}
	q = malloc(n);
	if (!q)
		return NULL;
	memcpy(q, p, had);
	free(p);
	return q;
}
#endif
