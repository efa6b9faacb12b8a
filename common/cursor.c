/*
 * cursor.c - the bounded reader of frames; see cursor.h.
 */
#include <string.h>

#include "common/cursor.h"
#include "common/xalloc.h"
#include "common/banned.h"

void
cursor_init(struct cursor *c, const void *p, size_t n)
{
	c->p = p;
	c->end = c->p + n;
	c->bad = false;
}

char *
cursor_strdup(struct cursor *c, size_t max)
{
	size_t n;
	const char *p = cursor_bytes(c, &n, max);

	if (c->bad || memchr(p, '\0', n)) {
		c->bad = true;
		return NULL;
	}
	return xmemdup0(p, n);
}

void
cursor_str(struct cursor *c, char *out, size_t size)
{
	size_t n;
	const char *p = cursor_bytes(c, &n, size - 1);

	if (c->bad || memchr(p, '\0', n)) {
		c->bad = true;
		n = 0;
	}
	memcpy(out, p, n);
	out[n] = '\0';
}

size_t
cursor_left(const struct cursor *c)
{
	return c->bad ? 0 : (size_t)(c->end - c->p);
}

void
cursor_fail(struct cursor *c)
{
	c->bad = true;
}

bool
cursor_end(const struct cursor *c)
{
	return !c->bad && c->p == c->end;
}
