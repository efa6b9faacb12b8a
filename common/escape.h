/*
 * escape.h - the one place where foreign bytes are made safe for a log, a terminal, JSON, a page or a URL.
 */
#ifndef COMMON_ESCAPE_H
#define COMMON_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Reads one character of at least one byte: its length 1..4 and *cp, or minus the length (1..3) of the longest
 * ill-formed start, as Unicode's table of well-formed sequences has it; *cp is of no use then. */
int utf8_step(const void *p, size_t n, uint32_t *cp);
/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool utf8_valid(const void *p, size_t n);
/* Appends p with every maximal ill-formed run replaced by U+FFFD (Unicode 15, section 3.9, practice of W3C). */
void utf8_replace(struct buf *, const void *p, size_t n);

/* A JSON string with its quotes. Ill-formed UTF-8 is replaced as above; control characters, DEL, C1 controls,
 * U+2028, U+2029 and bidirectional controls are written as \uXXXX, so that the line is also safe on a terminal. */
void escape_json(struct buf *, const void *p, size_t n);
/* For a terminal or console log: printable UTF-8 as it is, the rest as \xNN, \n, \t, \\ ; bidi controls and C1 as \u{XXXX}. */
void escape_term(struct buf *, const void *p, size_t n);
/* HTML text and attribute values: & < > " ' as entities; ill-formed UTF-8, controls and bidi controls replaced by U+FFFD. */
void escape_html(struct buf *, const void *p, size_t n);
/* RFC 3986 path: unreserved characters, '/' and !$()*,;= stay; the rest as %XX upper case (also '+', which many
 * readers take for a space, and & ' : @). */
void escape_url_path(struct buf *, const void *p, size_t n);
void base64_encode(struct buf *, const void *p, size_t n);
/* Strict RFC 4648 (padding required, no white space). 0 or -1 with nothing appended. */
int base64_decode(struct buf *, const char *s, size_t n);

#endif
