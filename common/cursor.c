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

static const uint8_t *
take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || n > (size_t)(c->end - c->p)) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	return p;
}

#define READ(name, type)                                                                           \
	type cursor_##name(struct cursor *c)                                                       \
	{                                                                                          \
		const uint8_t *p = take(c, sizeof(type));                                          \
		type v = 0;                                                                        \
		if (p)                                                                             \
			memcpy(&v, p, sizeof(v));                                                  \
		return v;                                                                          \
	}

READ(u8, uint8_t)
READ(u16, uint16_t)
READ(u32, uint32_t)
READ(u64, uint64_t)
READ(i64, int64_t)

const char *
cursor_bytes(struct cursor *c, size_t *n, size_t max)
{
	uint32_t len = cursor_u32(c);
	const uint8_t *p = NULL;

	if (!c->bad && len > max)
		c->bad = true;
	if (!c->bad)
		p = take(c, len);
	*n = p ? len : 0;
	return p ? (const char *)p : "";
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
