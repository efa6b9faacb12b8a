/*
 * buf.h - a growable run of bytes, and the typed writers that ipc frames are made with.
 *
 * BUF_INIT is a valid empty buffer; buf_release frees and leaves it empty and reusable. buf_wipe clears
 * the bytes first (secrets). The bytes may hold NULs; buf_str ends them with one for C callers.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
	char *p;     /* owned; NULL while cap is 0 */
	size_t len;  /* bytes in use */
	size_t cap;  /* bytes allocated */
};

#define BUF_INIT { NULL, 0, 0 }

void buf_init(struct buf *);
void buf_release(struct buf *);
void buf_wipe(struct buf *);
/* Forgets the content, keeps the memory. */
void buf_clear(struct buf *);
/* Room for n more bytes; returns where they go (not yet counted in len). */
char *buf_room(struct buf *, size_t n);
void buf_add(struct buf *, const void *p, size_t n);
void buf_puts(struct buf *, const char *s);
void buf_putc(struct buf *, char c);
void buf_printf(struct buf *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops n bytes from the front. */
void buf_consume(struct buf *, size_t n);
/* The content as a C string, valid until the next call on the buffer. */
const char *buf_str(struct buf *);
/* Takes the content out as a NUL-ended string; caller frees; the buffer is empty then. */
char *buf_take(struct buf *);

/* Frame fields, host byte order: both ends are the same machine and the same build. */
void buf_u8(struct buf *, uint8_t);
void buf_u16(struct buf *, uint16_t);
void buf_u32(struct buf *, uint32_t);
void buf_u64(struct buf *, uint64_t);
void buf_i64(struct buf *, int64_t);
/* u32 length + bytes; NULL with n 0 is the empty string. */
void buf_bytes(struct buf *, const void *p, size_t n);
void buf_cstr(struct buf *, const char *s);

#endif
