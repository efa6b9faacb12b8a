/*
 * json_scalar.c - the inside of strings and numbers, a byte at a time: escapes, UTF-8, surrogates,
 * digits.
 *
 * Called by json.c alone, which knows where a string or a number may stand. Keeps the text of keys,
 * and of a number its digits, only to judge it; the text of other strings is never kept.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_priv.h"
#include "common/banned.h"

#define DIGITS_MAX 17
#define EXPONENT_CAP 100000000 /* larger exponents are all the same: too large */

/* ---- strings ---- */

static void
key_put(struct json_scan *s, uint32_t cp)
{
	struct buf *b = &s->keys;

	if (!s->in_key)
		return;
	if (cp < 0x80) {
		buf_putc(b, (char)cp);
	} else if (cp < 0x800) {
		buf_putc(b, (char)(0xc0 | cp >> 6));
		buf_putc(b, (char)(0x80 | (cp & 0x3f)));
	} else if (cp < 0x10000) {
		buf_putc(b, (char)(0xe0 | cp >> 12));
		buf_putc(b, (char)(0x80 | (cp >> 6 & 0x3f)));
		buf_putc(b, (char)(0x80 | (cp & 0x3f)));
	} else {
		buf_putc(b, (char)(0xf0 | cp >> 18));
		buf_putc(b, (char)(0x80 | (cp >> 12 & 0x3f)));
		buf_putc(b, (char)(0x80 | (cp >> 6 & 0x3f)));
		buf_putc(b, (char)(0x80 | (cp & 0x3f)));
	}
}

static int
string_end(struct json_scan *s)
{
	struct json_level *l;

	if (!s->in_key)
		return json_value_end(s);
	l = json_top(s);
	l->key = s->key_start;
	l->key_n = s->keys.len - s->key_start;
	l->has_key = true;
	if (!json_keys_add(s, l))
		return json_fail(s, s->string_start, "the key stands twice in this object");
	s->state = S_COLON;
	return 0;
}

/* The first byte of a character outside ASCII: how many follow, and what the next one may be. */
static int
utf8_start(struct json_scan *s, uint8_t c)
{
	s->start = s->pos;
	if (c < 0xc2 || c > 0xf4)
		return json_fail(s, s->pos, "byte 0x%02x is not UTF-8", c);
	s->left = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	s->lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	s->hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	s->state = S_UTF8;
	if (s->in_key)
		buf_putc(&s->keys, (char)c);
	return 0;
}

static int
utf8_next(struct json_scan *s, uint8_t c)
{
	if (c < s->lo || c > s->hi) {
		const char *kind = c < 0x80 || c > 0xbf ? "cut short"
		    : s->lo > 0x80                      ? "overlong"
		    : s->hi == 0x9f                     ? "a surrogate"
							: "above U+10FFFF";

		return json_fail(s, s->start, "not UTF-8: the character is %s", kind);
	}
	s->lo = 0x80;
	s->hi = 0xbf;
	if (s->in_key)
		buf_putc(&s->keys, (char)c);
	if (!--s->left)
		s->state = S_STRING;
	return 0;
}

static int
string_byte(struct json_scan *s, uint8_t c)
{
	if (c == '"')
		return string_end(s);
	if (c == '\\') {
		s->start = s->pos;
		s->state = S_ESCAPE;
		return 0;
	}
	if (c < 0x20)
		return json_fail(s, s->pos, "control byte 0x%02x inside a string must be escaped", c);
	if (c >= 0x80)
		return utf8_start(s, c);
	key_put(s, c);
	return 0;
}

static int
escape_byte(struct json_scan *s, uint8_t c)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = c ? strchr(from, c) : NULL;

	if (c == 'u') {
		s->unit = 0;
		s->left = 4;
		s->high = 0;
		s->state = S_HEX;
		return 0;
	}
	if (!at)
		return json_fail(s, s->start,
		    "no such escape; only \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX exist");
	key_put(s, (uint8_t)to[at - from]);
	s->state = S_STRING;
	return 0;
}

static int
unit_end(struct json_scan *s)
{
	uint32_t u = s->unit;

	if (s->high) {
		if (u < 0xdc00 || u > 0xdfff)
			return json_fail(s, s->start, "a high surrogate without its low one");
		key_put(s, 0x10000 + ((s->high - 0xd800) << 10) + (u - 0xdc00));
		s->state = S_STRING;
		return 0;
	}
	if (u >= 0xdc00 && u <= 0xdfff)
		return json_fail(s, s->start, "a low surrogate without its high one");
	if (u >= 0xd800 && u <= 0xdbff) {
		s->high = u;
		s->state = S_LOW_BACKSLASH;
		return 0;
	}
	if (!u)
		return json_fail(s, s->start, "\\u0000 is refused: no text may hold a NUL");
	key_put(s, u);
	s->state = S_STRING;
	return 0;
}

static int
hex_byte(struct json_scan *s, uint8_t c)
{
	unsigned v;

	if (c >= '0' && c <= '9')
		v = c - '0';
	else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		v = (c | 0x20) - 'a' + 10;
	else
		return json_fail(s, s->start, "\\u takes four hexadecimal digits");
	s->unit = s->unit << 4 | v;
	return --s->left ? 0 : unit_end(s);
}

static int
low_surrogate(struct json_scan *s, uint8_t c)
{
	if (c != (s->state == S_LOW_BACKSLASH ? '\\' : 'u'))
		return json_fail(s, s->start, "a high surrogate without its low one");
	if (s->state == S_LOW_BACKSLASH) {
		s->state = S_LOW_U;
		return 0;
	}
	s->unit = 0;
	s->left = 4;
	s->state = S_HEX;
	return 0;
}

int
json_string_step(struct json_scan *s, uint8_t c)
{
	switch (s->state) {
	case S_ESCAPE:
		return escape_byte(s, c);
	case S_HEX:
		return hex_byte(s, c);
	case S_LOW_BACKSLASH:
	case S_LOW_U:
		return low_surrogate(s, c);
	case S_UTF8:
		return utf8_next(s, c);
	default:
		return string_byte(s, c);
	}
}

/* ---- numbers ---- */

static bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* Zeros are held back until a digit follows, so that trailing ones never count. */
static void
digit(struct json_number *m, uint8_t c, bool fraction)
{
	unsigned d = c - '0';

	if (!fraction) {
		if (m->integer > (UINT64_MAX - d) / 10)
			m->overflow = true;
		else
			m->integer = m->integer * 10 + d;
	}
	if (!m->n && !d) {
		m->point -= fraction;
		return;
	}
	m->point += !fraction;
	if (!d) {
		m->zeros++;
		return;
	}
	if (m->too_precise || m->n + m->zeros + 1 > DIGITS_MAX) {
		m->too_precise = true;
		return;
	}
	while (m->zeros) {
		m->digits[m->n++] = '0';
		m->zeros--;
	}
	m->digits[m->n++] = (char)c;
}

int
json_number_start(struct json_scan *s, uint8_t c)
{
	if (c != '-' && !is_digit(c))
		return json_unexpected(s, c, "a value");
	memset(&s->num, 0, sizeof(s->num));
	s->num.negative = c == '-';
	s->state = c == '-' ? S_MINUS : c == '0' ? S_ZERO : S_INT;
	if (c != '-')
		digit(&s->num, c, false);
	return 0;
}

static int
real_end(struct json_scan *s)
{
	struct json_number *m = &s->num;
	long long e = m->exponent_negative ? -m->exponent : m->exponent;
	char text[64];
	double d;

	if (m->too_precise)
		return json_fail(
		    s, s->start, "the number has more than %d significant digits", DIGITS_MAX);
	if (!m->n)
		return m->negative ? json_fail(s, s->start, "negative zero") : json_value_end(s);
	snprintf(
	    text, sizeof(text), "%.*se%lld", (int)m->n, m->digits, m->point - (long long)m->n + e);
	d = strtod(text, NULL);
	if (!isfinite(d) || d <= 0)
		return json_fail(s, s->start, "the number does not fit a double");
	return json_value_end(s);
}

int
json_number_end(struct json_scan *s)
{
	const struct json_number *m = &s->num;

	if (m->real)
		return real_end(s);
	if (m->negative && !m->integer && !m->overflow)
		return json_fail(s, s->start, "negative zero");
	if (m->overflow || m->integer > (uint64_t)INT64_MAX + m->negative)
		return json_fail(s, s->start, "the integer does not fit 64 bits");
	return json_value_end(s);
}

int
json_number_byte(struct json_scan *s, uint8_t c)
{
	struct json_number *m = &s->num;

	switch (s->state) {
	case S_MINUS:
	case S_ZERO:
	case S_INT:
		if (is_digit(c)) {
			if (s->state == S_ZERO)
				return json_fail(s, s->start, "a number must not begin with a zero");
			s->state = c == '0' && s->state == S_MINUS ? S_ZERO : S_INT;
			digit(m, c, false);
			return 1;
		}
		if (s->state == S_MINUS)
			return c == 'I' || c == 'N' ? json_unexpected(s, c, "a digit")
						    : json_fail(s, s->start, "'-' without a number");
		break;
	case S_DOT:
	case S_FRACTION:
		if (is_digit(c)) {
			s->state = S_FRACTION;
			digit(m, c, true);
			return 1;
		}
		if (s->state == S_DOT)
			return json_fail(s, s->start, "no digit after the decimal point");
		break;
	default:
		if (is_digit(c)) {
			s->state = S_EXPONENT;
			if (m->exponent < EXPONENT_CAP)
				m->exponent = m->exponent * 10 + (c - '0');
			return 1;
		}
		if (s->state == S_E && (c == '+' || c == '-')) {
			m->exponent_negative = c == '-';
			s->state = S_E_SIGN;
			return 1;
		}
		if (s->state != S_EXPONENT)
			return json_fail(s, s->start, "no digit in the exponent");
		return json_number_end(s);
	}
	if (c == '.' && !m->real) {
		m->real = true;
		s->state = S_DOT;
		return 1;
	}
	if (c == 'e' || c == 'E') {
		m->real = true;
		s->state = S_E;
		return 1;
	}
	return json_number_end(s);
}
