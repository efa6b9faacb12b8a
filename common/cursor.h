/*
 * cursor.h - the bounded reader of frames: every read checks what is left.
 *
 * A read past the end sets `bad` for good and gives zeros, so that a decoder may read a whole group of
 * fields and ask once. A decoder is right only when it ends with cursor_end(): all read, nothing bad.
 */
#ifndef COMMON_CURSOR_H
#define COMMON_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cursor {
	const uint8_t *p;    /* borrowed */
	const uint8_t *end;
	bool bad;            /* a read went past the end, or cursor_fail was called */
};

void cursor_init(struct cursor *, const void *p, size_t n);
/* The next n bytes, borrowed; NULL when bad. */
static inline const uint8_t *
cursor_take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || n > (size_t)(c->end - c->p)) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	return p;
}

/* cursor_u8(c) and so on; here, because a listing's record is some fifty of them. */
#define CURSOR_READ(name, type)                                                                    \
	static inline type cursor_##name(struct cursor *c)                                         \
	{                                                                                          \
		const uint8_t *p = cursor_take(c, sizeof(type));                                   \
		type v = 0;                                                                        \
		if (p)                                                                             \
			memcpy(&v, p, sizeof(v));                                                  \
		return v;                                                                          \
	}

CURSOR_READ(u8, uint8_t)
CURSOR_READ(u16, uint16_t)
CURSOR_READ(u32, uint32_t)
CURSOR_READ(u64, uint64_t)
CURSOR_READ(i64, int64_t)
#undef CURSOR_READ

/* u32 length + bytes, at most max of them; borrowed from the frame, not NUL-ended. */
static inline const char *
cursor_bytes(struct cursor *c, size_t *n, size_t max)
{
	uint32_t len = cursor_u32(c);
	const uint8_t *p = NULL;

	if (!c->bad && len > max)
		c->bad = true;
	if (!c->bad)
		p = cursor_take(c, len);
	*n = p ? len : 0;
	return p ? (const char *)p : "";
}

/* The same as a fresh C string (caller frees); a NUL inside is bad. NULL when bad. */
char *cursor_strdup(struct cursor *, size_t max);
/* The same into a fixed array of size n, NUL-ended; longer, or a NUL inside, is bad. */
void cursor_str(struct cursor *, char *out, size_t n);
size_t cursor_left(const struct cursor *);
void cursor_fail(struct cursor *);
/* true when everything was read and nothing was bad */
bool cursor_end(const struct cursor *);

#endif
