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

struct cursor {
	const uint8_t *p;    /* borrowed */
	const uint8_t *end;
	bool bad;            /* a read went past the end, or cursor_fail was called */
};

void cursor_init(struct cursor *, const void *p, size_t n);
uint8_t cursor_u8(struct cursor *);
uint16_t cursor_u16(struct cursor *);
uint32_t cursor_u32(struct cursor *);
uint64_t cursor_u64(struct cursor *);
int64_t cursor_i64(struct cursor *);
/* u32 length + bytes, at most max of them; borrowed from the frame, not NUL-ended. */
const char *cursor_bytes(struct cursor *, size_t *n, size_t max);
/* The same as a fresh C string (caller frees); a NUL inside is bad. NULL when bad. */
char *cursor_strdup(struct cursor *, size_t max);
/* The same into a fixed array of size n, NUL-ended; longer, or a NUL inside, is bad. */
void cursor_str(struct cursor *, char *out, size_t n);
size_t cursor_left(const struct cursor *);
void cursor_fail(struct cursor *);
/* true when everything was read and nothing was bad */
bool cursor_end(const struct cursor *);

#endif
