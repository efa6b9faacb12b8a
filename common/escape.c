/*
 * escape.c - makes foreign bytes safe for a log, a terminal, JSON, a page or a URL.
 *
 * Everything that shows a name, a banner or an error text goes through here. Runs of harmless ASCII are
 * copied whole, since most of what passes is that. Never fails on input; only base64_decode refuses.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/escape.h"
#include "common/banned.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

int
utf8_step(const void *s, size_t n, uint32_t *cp)
{
	const uint8_t *p = s;
	uint8_t lo = 0x80, hi = 0xbf, c = p[0];
	int len;

	if (c < 0x80) {
		*cp = c;
		return 1;
	}
	if (c < 0xc2 || c > 0xf4)
		return -1;
	len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	/* Only the second byte has narrower bounds: overlong forms, surrogates, the end of Unicode. */
	if (c == 0xe0)
		lo = 0xa0;
	else if (c == 0xed)
		hi = 0x9f;
	else if (c == 0xf0)
		lo = 0x90;
	else if (c == 0xf4)
		hi = 0x8f;
	*cp = c & (0x7fu >> len);
	for (int i = 1; i < len; i++) {
		if ((size_t)i >= n || p[i] < lo || p[i] > hi)
			return -i;
		*cp = *cp << 6 | (p[i] & 0x3f);
		lo = 0x80;
		hi = 0xbf;
	}
	return len;
}

/* Characters that are well-formed and yet change how a line is shown or where it ends. */
static bool
is_sly(uint32_t cp)
{
	return (cp >= 0x80 && cp <= 0x9f) || cp == 0x061c || cp == 0x200e || cp == 0x200f ||
	    (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

bool
utf8_valid(const void *s, size_t n)
{
	const uint8_t *p = s;
	uint64_t eight;
	uint32_t cp;
	int k;

	for (size_t i = 0; i < n; i += (size_t)k) {
		/* Most names are ASCII: eight bytes at a time. */
		if (n - i >= sizeof(eight)) {
			memcpy(&eight, p + i, sizeof(eight));
			if (!(eight & UINT64_C(0x8080808080808080))) {
				k = sizeof(eight);
				continue;
			}
		}
		k = p[i] < 0x80 ? 1 : utf8_step(p + i, n - i, &cp);
		if (k < 0)
			return false;
	}
	return true;
}

void
utf8_replace(struct buf *b, const void *s, size_t n)
{
	const uint8_t *p = s;
	size_t from = 0, i = 0;
	uint32_t cp;

	while (i < n) {
		int k = p[i] < 0x80 ? 1 : utf8_step(p + i, n - i, &cp);

		if (k < 0) {
			buf_add(b, p + from, i - from);
			buf_puts(b, replacement);
			k = -k;
			from = i + (size_t)k;
		}
		i += (size_t)k;
	}
	buf_add(b, p + from, i - from);
}

/*
 * What every sink does the same: plain runs are copied, the rest is given to `odd` one character at a
 * time; k is utf8_step's answer for it.
 */
typedef void odd_fn(struct buf *, const uint8_t *p, int k, uint32_t cp);

/* One bit for each ASCII character that a sink shows as it is: 0..63, 64..127. */
struct plain {
	uint64_t half[2];
};

/* The run of plain characters at the start. */
static size_t
plain_run(const uint8_t *p, size_t n, const struct plain *plain)
{
	const uint64_t low = plain->half[0], high = plain->half[1];
	size_t i = 0;

	while (i < n && p[i] < 0x80 && ((p[i] & 0x40 ? high : low) >> (p[i] & 63) & 1))
		i++;
	return i;
}

#define BIT(c) (UINT64_C(1) << ((c) & 63))
#define PRINTABLE0 (~UINT64_C(0) << 32)
#define PRINTABLE1 (~BIT(0x7f))

static void
walk(struct buf *b, const void *s, size_t n, const struct plain *plain, odd_fn *odd)
{
	const uint8_t *p = s;
	size_t from = 0, i = 0;

	while ((i += plain_run(p + i, n - i, plain)) < n) {
		uint32_t cp = p[i];
		int k = 1;

		if (cp >= 0x80)
			k = utf8_step(p + i, n - i, &cp);
		if (k > 1 && !is_sly(cp)) {
			i += (size_t)k;
			continue;
		}
		buf_add(b, p + from, i - from);
		odd(b, p + i, k, cp);
		i += (size_t)(k < 0 ? -k : k);
		from = i;
	}
	buf_add(b, p + from, i - from);
}

static void
odd_json(struct buf *b, const uint8_t *p, int k, uint32_t cp)
{
	char text[8];

	(void)p;
	if (k < 0) {
		buf_puts(b, replacement);
	} else if (cp == '"' || cp == '\\') {
		buf_putc(b, '\\');
		buf_putc(b, (char)cp);
	} else {
		snprintf(text, sizeof(text), "\\u%04x", (unsigned)(cp & 0xffff));
		buf_add(b, text, 6);
	}
}

void
escape_json(struct buf *b, const void *p, size_t n)
{
	static const struct plain plain = { { PRINTABLE0 & ~BIT('"'), PRINTABLE1 & ~BIT('\\') } };

	buf_room(b, n + 2);
	buf_putc(b, '"');
	walk(b, p, n, &plain, odd_json);
	buf_putc(b, '"');
}

static void
odd_term(struct buf *b, const uint8_t *p, int k, uint32_t cp)
{
	char text[16];

	if (k < 0) {
		for (int i = 0; i < -k; i++) {
			snprintf(text, sizeof(text), "\\x%02x", p[i]);
			buf_puts(b, text);
		}
		return;
	}
	if (cp == '\n')
		buf_puts(b, "\\n");
	else if (cp == '\t')
		buf_puts(b, "\\t");
	else if (cp == '\\')
		buf_puts(b, "\\\\");
	else {
		snprintf(text, sizeof(text), cp < 0x80 ? "\\x%02x" : "\\u{%04x}", (unsigned)cp);
		buf_puts(b, text);
	}
}

void
escape_term(struct buf *b, const void *p, size_t n)
{
	static const struct plain plain = { { PRINTABLE0, PRINTABLE1 & ~BIT('\\') } };

	walk(b, p, n, &plain, odd_term);
}

static void
odd_html(struct buf *b, const uint8_t *p, int k, uint32_t cp)
{
	(void)p;
	if (k != 1)
		buf_puts(b, replacement);
	else if (cp == '&')
		buf_puts(b, "&amp;");
	else if (cp == '<')
		buf_puts(b, "&lt;");
	else if (cp == '>')
		buf_puts(b, "&gt;");
	else if (cp == '"')
		buf_puts(b, "&quot;");
	else if (cp == '\'')
		buf_puts(b, "&#39;");
	else
		buf_puts(b, replacement);
}

void
escape_html(struct buf *b, const void *p, size_t n)
{
	static const struct plain plain = {
		{ PRINTABLE0 & ~(BIT('&') | BIT('<') | BIT('>') | BIT('"') | BIT('\'')), PRINTABLE1 }
	};

	walk(b, p, n, &plain, odd_html);
}

void
escape_url_path(struct buf *b, const void *s, size_t n)
{
	/* -._~/!$()*,;= and digits; letters, _ and ~ */
	static const struct plain plain = { {
		BIT('-') | BIT('.') | BIT('/') | BIT('!') | BIT('$') | BIT('(') | BIT(')') | BIT('*') | BIT(',') | BIT(';') |
		    BIT('=') | UINT64_C(0x3ff) << '0',
		BIT('_') | BIT('~') | UINT64_C(0x3ffffff) << ('A' & 63) | UINT64_C(0x3ffffff) << ('a' & 63)
	} };
	static const char digit[] = "0123456789ABCDEF";
	const uint8_t *p = s;

	for (size_t i = 0; i < n; i++) {
		size_t run = plain_run(p + i, n - i, &plain);
		char hex[3];

		buf_add(b, p + i, run);
		i += run;
		if (i == n)
			return;
		hex[0] = '%';
		hex[1] = digit[p[i] >> 4];
		hex[2] = digit[p[i] & 15];
		buf_add(b, hex, sizeof(hex));
	}
}

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
base64_encode(struct buf *b, const void *s, size_t n)
{
	const uint8_t *p = s;

	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t v = (uint32_t)p[i] << 16;

		if (left > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (left > 2)
			v |= p[i + 2];
		buf_putc(b, base64[v >> 18]);
		buf_putc(b, base64[v >> 12 & 63]);
		buf_putc(b, left > 1 ? base64[v >> 6 & 63] : '=');
		buf_putc(b, left > 2 ? base64[v & 63] : '=');
	}
}

static int
base64_value(char c)
{
	const char *at = c ? strchr(base64, c) : NULL;

	return at ? (int)(at - base64) : -1;
}

/* One group of four; gives the count of bytes, or -1. Bits that the padding leaves over must be zero. */
static int
base64_group(const char *s, bool last, uint8_t out[3])
{
	int len = !last || s[3] != '=' ? 3 : s[2] != '=' ? 2 : 1;
	uint32_t v = 0;

	for (int i = 0; i < 4; i++) {
		int d = i <= len ? base64_value(s[i]) : 0;

		if (d < 0)
			return -1;
		v = v << 6 | (uint32_t)d;
	}
	if ((len == 1 && (v & 0xffff)) || (len == 2 && (v & 0xff)))
		return -1;
	for (int i = 0; i < 3; i++)
		out[i] = (uint8_t)(v >> (16 - 8 * i));
	return len;
}

int
base64_decode(struct buf *b, const char *s, size_t n)
{
	size_t before = b->len;
	uint8_t out[3];

	if (n % 4)
		return -1;
	for (size_t i = 0; i < n; i += 4) {
		int len = base64_group(s + i, i + 4 == n, out);

		if (len < 0) {
			b->len = before;
			return -1;
		}
		buf_add(b, out, (size_t)len);
	}
	return 0;
}
