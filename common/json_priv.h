/*
 * json_priv.h - what json.c and json_scalar.c share: the states of the scanner and its open objects.
 */
#ifndef COMMON_JSON_PRIV_H
#define COMMON_JSON_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/json.h"

enum state {
	S_VALUE, /* a value must come */
	S_FIRST_ITEM, /* after '[': a value or ']' */
	S_FIRST_KEY, /* after '{': a key or '}' */
	S_KEY, /* after ',' in an object */
	S_COLON,
	S_AFTER, /* after a value: ',' or the end of the array or object */
	S_DONE,
	S_STRING,
	S_ESCAPE,
	S_HEX,
	S_LOW_BACKSLASH,
	S_LOW_U,
	S_UTF8,
	S_LITERAL,
	S_MINUS,
	S_ZERO,
	S_INT,
	S_DOT,
	S_FRACTION,
	S_E,
	S_E_SIGN,
	S_EXPONENT
};

struct key_slot {
	uint32_t hash, at, n;
}; /* at: offset in keys + 1; 0: free */

struct json_level {
	bool object;
	bool has_key; /* object: a key was read and its value is at hand */
	size_t index; /* array */
	size_t base; /* object: its first key in keys */
	size_t key, key_n; /* object: the key at hand */
	struct key_slot *slots; /* owned; cap is 0 or a power of two */
	uint32_t cap, used;
};

/* json.c */
/* -1, with the place and the pointer to it. */
int json_fail(struct json_scan *, uint64_t pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int json_unexpected(struct json_scan *, uint8_t c, const char *wanted);
/* Only while something is open. */
struct json_level *json_top(struct json_scan *);
/* false: the object has that key already */
bool json_keys_add(struct json_scan *, struct json_level *);
int json_value_end(struct json_scan *);

/* json_scalar.c */
/* In the states from S_STRING to S_UTF8. */
int json_string_step(struct json_scan *, uint8_t c);
int json_number_start(struct json_scan *, uint8_t c);
/* 1: the byte was eaten; 0: the number ended before it; -1 */
int json_number_byte(struct json_scan *, uint8_t c);
int json_number_end(struct json_scan *);

#endif
