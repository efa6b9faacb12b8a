/*
 * json.h - the strict scanner that every message passes before json-c may see it.
 *
 * RFC 8259 and nothing beside it, one pass, fed in pieces of any size. Memory: the keys of the objects that are
 * open, and nothing else. Where the RFC leaves a choice, this one refuses what readers understand differently:
 *   - a key twice in one object (compared after unescaping), a byte order mark
 *   - integers outside of int64; numbers with a fraction or exponent that overflow or underflow a double, or have more
 *     than 17 significant digits (leading and trailing zeros do not count)
 *   - negative zero in any spelling (-0, -0.0, -0e1): it prints as 0 in one language and -0 in the next
 *   - \u0000 anywhere: legal JSON, but no text field of ours may hold a NUL, and C readers would cut there
 */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

#define JSON_DEPTH_MAX 32          /* of job messages; an array in an object has depth 2 */

/* 0, or -1 with ERR_INVALID_JOB, text, byte position and JSON pointer of the place. */
int json_check(const char *p, size_t n, unsigned max_depth, struct err *);

/* Byte at which the value that the pointer names begins; -1: no such value, or not JSON. */
long long json_locate(const char *p, size_t n, const char *pointer);

/* Appends "/key" with '~' and '/' escaped. A pointer that would be too long ends in "/..." for good. */
void json_pointer_add(char pointer[ERR_POINTER_MAX], const char *key, size_t n);
void json_pointer_index(char pointer[ERR_POINTER_MAX], size_t index);

struct json_level;

struct json_number {               /* the number at hand, digit by digit */
	char digits[18];           /* significant ones without trailing zeros */
	unsigned n;                /* of digits */
	unsigned long long zeros;  /* seen since the last digit kept; may turn out to be trailing */
	long long point;           /* value = 0.DIGITS * 10^(point + exponent) */
	long long exponent;
	uint64_t integer;
	bool negative, real, exponent_negative, too_precise, overflow;
};

struct json_scan {
	unsigned state;
	unsigned max_depth, depth;
	struct json_level *levels; /* owned; max_depth of them are allocated when first needed */
	unsigned n_levels;
	struct buf keys;           /* unescaped keys of all open objects, innermost last */
	size_t key_start;          /* where the key at hand begins in keys */
	bool in_key;
	uint64_t pos;              /* bytes eaten */
	uint64_t start;            /* where the string, number, escape or character at hand began */
	uint64_t string_start;
	const char *literal;       /* rest of true, false or null that must follow */
	uint32_t unit, high;       /* \uXXXX at hand; the high surrogate before it, or 0 */
	unsigned left;             /* hex digits or UTF-8 bytes still to come */
	uint8_t lo, hi;            /* bounds of the next UTF-8 byte */
	struct json_number num;
	const char *want;          /* json_locate: the pointer looked for, or NULL */
	long long found;
	struct err *e;             /* of the call at hand */
};

void json_scan_init(struct json_scan *, unsigned max_depth);
/* After -1 nothing more may be fed. */
int json_scan_feed(struct json_scan *, const void *p, size_t n, struct err *);
/* The text ends here: is it whole? */
int json_scan_finish(struct json_scan *, struct err *);
void json_scan_release(struct json_scan *);

#endif
