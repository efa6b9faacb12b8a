/*
 * xalloc.c - allocation that cannot fail for its caller; see xalloc.h.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "common/banned.h"

static void (*out_of_memory)(size_t wanted);

void
xalloc_set_handler(void (*handler)(size_t wanted))
{
	out_of_memory = handler;
}

void
xalloc_failed(size_t wanted)
{
	static const char text[] = "out of memory\n";
	static atomic_flag failed = ATOMIC_FLAG_INIT;

	/* What the handler calls to say so may want memory, too. */
	if (atomic_flag_test_and_set(&failed))
		_exit(EX_OSERR);
	if (out_of_memory)
		out_of_memory(wanted);
	/* No handler was set (a unit test): say it without allocating. */
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
		/* nothing left to tell it to */
	}
	_exit(EX_OSERR);
}

void *
xmalloc(size_t n)
{
	void *p = malloc(n ? n : 1);

	if (!p)
		xalloc_failed(n);
	return p;
}

void *
xcalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		xalloc_failed(size);
	return p;
}

void *
xreallocarray(void *p, size_t n, size_t size)
{
	void *q;

	if (!n || !size)
		n = size = 1;
	q = reallocarray(p, n, size);
	if (!q)
		xalloc_failed(size);
	return q;
}

char *
xstrdup(const char *s)
{
	return xmemdup0(s, strlen(s));
}

char *
xmemdup0(const void *p, size_t n)
{
	char *q = xmalloc(n + 1);

	if (n)
		memcpy(q, p, n);
	q[n] = '\0';
	return q;
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		xalloc_failed(0);
	return s;
}

void
bug_at(const char *file, int line, const char *msg)
{
	dprintf(STDERR_FILENO, "BUG at %s:%d: %s\n", file, line, msg);
	abort();
}
