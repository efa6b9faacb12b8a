/*
 * jsonw.c - writes JSON straight into a buffer.
 *
 * Every event, record, status page and state file is made here. Numbers are written without printf where a
 * million events pay for it. Never checks the text of jsonw_raw; unbalanced calls are bugs and abort.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/escape.h"
#include "common/jsonw.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define DEPTH_MAX 32

void
jsonw_init(struct jsonw *j, struct buf *b)
{
	*j = (struct jsonw){ .b = b };
}

/* The comma, if one is due, and the key. */
static void
begin(struct jsonw *j, const char *key)
{
	uint32_t bit = j->depth ? UINT32_C(1) << (j->depth - 1) : 0;
	char *p, *start;
	size_t n;

	if (!j->depth && key)
		BUG("the outermost value has no key");
	n = key ? strlen(key) : 0;
	p = buf_room(j->b, n + 4);
	start = p;
	if (j->some & bit)
		*p++ = ',';
	j->some |= bit;
	if (key) {
		*p++ = '"';
		memcpy(p, key, n);
		p += n;
		*p++ = '"';
		*p++ = ':';
	}
	j->b->len += (size_t)(p - start);
}

static void
deeper(struct jsonw *j, const char *key, char bracket)
{
	begin(j, key);
	if (j->depth == DEPTH_MAX)
		BUG("JSON nested too deeply");
	j->depth++;
	j->some &= ~(UINT32_C(1) << (j->depth - 1));
	buf_putc(j->b, bracket);
}

static void
higher(struct jsonw *j, char bracket)
{
	if (!j->depth)
		BUG("JSON closed more often than opened");
	j->depth--;
	buf_putc(j->b, bracket);
}

void
jsonw_object(struct jsonw *j, const char *key)
{
	deeper(j, key, '{');
}

void
jsonw_array(struct jsonw *j, const char *key)
{
	deeper(j, key, '[');
}

void
jsonw_end_object(struct jsonw *j)
{
	higher(j, '}');
}

void
jsonw_end_array(struct jsonw *j)
{
	higher(j, ']');
}

void
jsonw_str(struct jsonw *j, const char *key, const char *s)
{
	if (s)
		jsonw_strn(j, key, s, strlen(s));
	else
		jsonw_null(j, key);
}

void
jsonw_strn(struct jsonw *j, const char *key, const char *s, size_t n)
{
	begin(j, key);
	escape_json(j->b, s, n);
}

void
jsonw_int(struct jsonw *j, const char *key, int64_t v)
{
	char text[24], *p = text + sizeof(text);
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;

	begin(j, key);
	do {
		*--p = (char)('0' + u % 10);
		u /= 10;
	} while (u);
	if (v < 0)
		*--p = '-';
	buf_add(j->b, p, (size_t)(text + sizeof(text) - p));
}

void
jsonw_dbl(struct jsonw *j, const char *key, double v, int decimals)
{
	if (!isfinite(v)) {
		jsonw_null(j, key);
		return;
	}
	begin(j, key);
	buf_printf(j->b, "%.*f", decimals, v);
}

void
jsonw_bool(struct jsonw *j, const char *key, bool v)
{
	begin(j, key);
	buf_puts(j->b, v ? "true" : "false");
}

void
jsonw_null(struct jsonw *j, const char *key)
{
	begin(j, key);
	buf_add(j->b, "null", 4);
}

void
jsonw_time(struct jsonw *j, const char *key, int64_t ns)
{
	char text[UNITS_TEXT];

	if (ns == TIME_UNKNOWN) {
		jsonw_null(j, key);
		return;
	}
	units_time_text(ns, 3, text);
	begin(j, key);
	buf_putc(j->b, '"');
	buf_puts(j->b, text);
	buf_putc(j->b, '"');
}

void
jsonw_raw(struct jsonw *j, const char *key, const char *json, size_t n)
{
	begin(j, key);
	buf_add(j->b, json, n);
}
