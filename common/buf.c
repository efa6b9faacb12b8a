/*
 * buf.c - a growable run of bytes; see buf.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/xalloc.h"
#include "common/banned.h"

void
buf_init(struct buf *b)
{
	*b = (struct buf)BUF_INIT;
}

void
buf_release(struct buf *b)
{
	free(b->p);
	buf_init(b);
}

void
buf_wipe(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	buf_release(b);
}

void
buf_clear(struct buf *b)
{
	b->len = 0;
}

char *
buf_room(struct buf *b, size_t n)
{
	size_t want = b->len + n + 1, cap = b->cap ? b->cap : 64;

	if (n < b->cap - b->len)
		return b->p + b->len;
	if (want < n)
		BUG("buffer size overflow");
	if (want > b->cap) {
		while (cap < want)
			cap = cap > SIZE_MAX / 2 ? want : cap * 2;
		b->p = xreallocarray(b->p, cap, 1);
		b->cap = cap;
	}
	return b->p + b->len;
}

void
buf_add(struct buf *b, const void *p, size_t n)
{
	if (!n)
		return;
	memcpy(buf_room(b, n), p, n);
	b->len += n;
}

void
buf_puts(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void
buf_putc(struct buf *b, char c)
{
	*buf_room(b, 1) = c;
	b->len++;
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		BUG("bad format");
	vsnprintf(buf_room(b, (size_t)n), (size_t)n + 1, fmt, again);
	va_end(again);
	b->len += (size_t)n;
}

void
buf_consume(struct buf *b, size_t n)
{
	if (n > b->len)
		BUG("consumes more than the buffer holds");
	memmove(b->p, b->p + n, b->len - n);
	b->len -= n;
}

const char *
buf_str(struct buf *b)
{
	*buf_room(b, 0) = '\0';
	return b->p;
}

char *
buf_take(struct buf *b)
{
	char *s;

	buf_str(b);
	s = b->p;
	buf_init(b);
	return s;
}

void
buf_u8(struct buf *b, uint8_t v)
{
	buf_add(b, &v, sizeof(v));
}

void
buf_u16(struct buf *b, uint16_t v)
{
	buf_add(b, &v, sizeof(v));
}

void
buf_u32(struct buf *b, uint32_t v)
{
	buf_add(b, &v, sizeof(v));
}

void
buf_u64(struct buf *b, uint64_t v)
{
	buf_add(b, &v, sizeof(v));
}

void
buf_i64(struct buf *b, int64_t v)
{
	buf_add(b, &v, sizeof(v));
}

void
buf_bytes(struct buf *b, const void *p, size_t n)
{
	if (n > UINT32_MAX)
		BUG("frame string too long");
	buf_u32(b, (uint32_t)n);
	buf_add(b, p, n);
}

void
buf_cstr(struct buf *b, const char *s)
{
	buf_bytes(b, s, s ? strlen(s) : 0);
}
