/*
 * glob.h - file patterns: one matcher for every source, in time linear in the name.
 *
 * '*' and '?' do not cross '/', '**' does, [a-z] [!a-z] [^a-z], {a,b} (nesting allowed), backslash takes the next byte
 * as it is. Works on bytes; '?' and classes take one byte, or one whole well-formed UTF-8 character. A pattern
 * without '/' is matched against the name, one with '/' against the path relative to the source's root (a leading
 * '/' only anchors it there). An unclosed [ or {, a trailing backslash, NUL, CR or LF, or more than GLOB_MAX bytes is an
 * error with a position, and so are an empty pattern and a range that runs backwards. Braces are alternatives inside
 * the automaton, never expanded, so no pattern explodes.
 *
 * A whole component '**' stands for any number of directories, none too: put before '/x.csv' it matches x.csv at the
 * top as well, and a, '**', b matches a/b. At the end, after dir and a slash, it matches everything below dir at any
 * depth, but not dir itself. No class and no '?' matches '/'. A name is read as characters: a byte that is not part of well-formed UTF-8
 * is one character of its own, which only stars, '?', a negated class and the same byte in the pattern match.
 */
#ifndef COMMON_GLOB_H
#define COMMON_GLOB_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

#define GLOB_MAX 4096

struct glob;

/* NULL with ERR_INVALID_JOB and the byte position. ignore_case: ASCII letters only. */
struct glob *glob_new(const char *pattern, size_t n, bool ignore_case, struct err *);
void glob_free(struct glob *);
/* Does the pattern hold a '/'? Then match the relative path, else the name. */
bool glob_wants_path(const struct glob *);
/* Not const: the matcher caches states (bounded). */
bool glob_match(struct glob *, const char *s, size_t n);
/* glob_match on the name or the path, as the pattern wants. */
bool glob_match_entry(struct glob *, const char *rel, size_t n);
/* The bytes that every match must begin with (of the path, if it wants the path); for prefix narrowing. */
size_t glob_prefix(const struct glob *, const char **p);

#endif
