/*
 * uuid.h - name-based UUIDs (RFC 9562 version 5) and SHA-256, by libcrypto.
 */
#ifndef COMMON_UUID_H
#define COMMON_UUID_H

#include <stddef.h>
#include <stdint.h>

#define UUID_TEXT 37

/* The parts are hashed with a 4-byte big-endian length before each, so that ("ab","c") and ("a","bc") differ. */
struct uuid_part { const void *p; size_t n; };
/* ns: 16 bytes, the namespace. Aborts only if libcrypto has no SHA-1. */
void uuid5(const uint8_t ns[16], const struct uuid_part *parts, size_t n, char out[UUID_TEXT]);
/* The project's own namespace. */
extern const uint8_t uuid_ns_poller[16];
void sha256_hex(const void *p, size_t n, char out[65]);

#endif
