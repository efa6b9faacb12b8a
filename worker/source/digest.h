/*
 * digest.h - checksums that a local source makes itself; see digest.c.
 */
#ifndef WORKER_SOURCE_DIGEST_H
#define WORKER_SOURCE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define DIGEST_BYTES 32
#define DIGEST_TEXT (2 * DIGEST_BYTES + 1)

enum digest_kind { DIGEST_NONE, DIGEST_MD5, DIGEST_SHA256, DIGEST_CRC32 };      /* in the order of the field hash */

struct digest {                 /* zero before the first digest_begin */
	enum digest_kind kind;
	uint32_t crc;
	struct evp_md_ctx_st *ctx;
};

const char *digest_name(enum digest_kind);
/* Not DIGEST_NONE. May be used again for the next file. 0; -1 (UNSUPPORTED): the library refuses. */
int digest_begin(struct digest *, enum digest_kind, struct err *);
void digest_add(struct digest *, const void *p, size_t n);
/* The bytes; how many. Not for CRC32. */
unsigned digest_bytes(struct digest *, uint8_t out[DIGEST_BYTES]);
/* Lower-case hexadecimal digits. */
void digest_end(struct digest *, char out[DIGEST_TEXT]);
void digest_release(struct digest *);

#endif
