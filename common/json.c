/*
 * json.c - strict push-style scanner for RFC 8259; see json.h.
 *
 * job_parse runs it over each message before json-c, and the tests over all that the program
 * writes. One state machine, a byte at a time but for runs of plain text inside strings. It never
 * builds values and never recurses; a key set is a hash table with a secret seed, so that no choice
 * of keys makes it slow.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "common/banned.h"

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

#define SLOTS_FIRST 16
#define SLOTS_KEEP 64 /* larger tables are freed when their object ends */
#define DIGITS_MAX 17
#define EXPONENT_CAP 100000000 /* larger exponents are all the same: too large */

/* ---- hash: SipHash-1-3 with a seed that the kernel gave this process ---- */

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = ROTL(v[1], 13) ^ v[0];
	v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] = ROTL(v[0], 32) + v[3];
	v[2] += v[1];
	v[3] = ROTL(v[3], 21) ^ v[0];
	v[1] = ROTL(v[1], 17) ^ v[2];
	v[2] = ROTL(v[2], 32);
}

static uint32_t
key_hash(const char *p, size_t n)
{
	uint64_t k[2] = { 0, 0 }, m, v[4];
	const void *seed = (const void *)(uintptr_t)getauxval(AT_RANDOM);
	uint64_t last = (uint64_t)n << 56;

	if (seed)
		memcpy(k, seed, sizeof(k));
	v[0] = k[0] ^ 0x736f6d6570736575u;
	v[1] = k[1] ^ 0x646f72616e646f6du;
	v[2] = k[0] ^ 0x6c7967656e657261u;
	v[3] = k[1] ^ 0x7465646279746573u;
	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&m, p, 8);
		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)(uint8_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	m = v[0] ^ v[1] ^ v[2] ^ v[3];
	return (uint32_t)(m ^ m >> 32);
}

/* ---- pointers and errors ---- */

#define POINTER_CUT "/..."

void
json_pointer_add(char pointer[ERR_POINTER_MAX], const char *key, size_t n)
{
	size_t start = strlen(pointer), at = start, room = ERR_POINTER_MAX - sizeof(POINTER_CUT);
	size_t cut = sizeof(POINTER_CUT) - 1;

	if (start >= cut && !strcmp(pointer + start - cut, POINTER_CUT))
		return;
	if (at < room)
		pointer[at] = '/';
	at++;
	for (size_t i = 0; i < n && at < room; i++) {
		if (key[i] == '~' || key[i] == '/') {
			pointer[at++] = '~';
			if (at < room)
				pointer[at] = key[i] == '~' ? '0' : '1';
			at++;
		} else {
			pointer[at++] = key[i];
		}
	}
	if (at < room)
		pointer[at] = '\0';
	else
		memcpy(pointer + start, POINTER_CUT, sizeof(POINTER_CUT));
}

void
json_pointer_index(char pointer[ERR_POINTER_MAX], size_t index)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%zu", index);

	json_pointer_add(pointer, text, (size_t)n);
}

/* Only while something is open. */
static struct json_level *
top(struct json_scan *s)
{
	return &s->levels[s->depth - 1];
}

static void
pointer_here(const struct json_scan *s, char pointer[ERR_POINTER_MAX])
{
	pointer[0] = '\0';
	for (unsigned i = 0; i < s->depth; i++) {
		const struct json_level *l = &s->levels[i];

		if (!l->object)
			json_pointer_index(pointer, l->index);
		else if (l->has_key)
			json_pointer_add(pointer, s->keys.p + l->key, l->key_n);
	}
}

static int fail(struct json_scan *s, uint64_t pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int
fail(struct json_scan *s, uint64_t pos, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(s->e, ERR_INVALID_JOB, "%s", text);
	s->e->pos = (long long)pos;
	pointer_here(s, s->e->pointer);
	return -1;
}

static int
unexpected(struct json_scan *s, uint8_t c, const char *wanted)
{
	const char *why = NULL;

	if (c == '/' || c == '#')
		why = "comments are not JSON";
	else if (c == '\'')
		why = "strings take double quotes";
	else if (c == 0xef && !s->pos)
		why = "a byte order mark must not come before JSON";
	else if (c == 'N' || c == 'I' || c == 'i')
		why = "NaN and infinities are not JSON";
	else if (c == '+' || c == '.')
		why = "a number begins with a digit or '-'";
	else if (c == ',' || c == ']' || c == '}')
		why = "a comma too many, or a value is missing";
	if (why)
		return fail(s, s->pos, "%s; %s should stand here", why, wanted);
	if (c > 0x20 && c < 0x7f)
		return fail(s, s->pos, "unexpected '%c'; %s should stand here", c, wanted);
	return fail(s, s->pos, "unexpected byte 0x%02x; %s should stand here", c, wanted);
}

/* ---- key sets ---- */

static void
slots_grow(struct json_level *l)
{
	uint32_t cap = l->cap ? l->cap * 2 : SLOTS_FIRST;
	struct key_slot *slots = xcalloc(cap, sizeof(*slots));

	for (uint32_t i = 0; i < l->cap; i++) {
		uint32_t at = l->slots[i].hash & (cap - 1);

		if (!l->slots[i].at)
			continue;
		while (slots[at].at)
			at = (at + 1) & (cap - 1);
		slots[at] = l->slots[i];
	}
	free(l->slots);
	l->slots = slots;
	l->cap = cap;
}

/* false: the object has that key already */
static bool
slots_add(struct json_scan *s, struct json_level *l)
{
	uint32_t hash = key_hash(s->keys.p + l->key, l->key_n), at;

	if (l->used + l->used / 2 >= l->cap)
		slots_grow(l);
	for (at = hash & (l->cap - 1); l->slots[at].at; at = (at + 1) & (l->cap - 1)) {
		const struct key_slot *k = &l->slots[at];

		if (k->hash == hash && k->n == l->key_n &&
		    !memcmp(s->keys.p + k->at - 1, s->keys.p + l->key, l->key_n))
			return false;
	}
	l->slots[at] = (struct key_slot){ hash, (uint32_t)l->key + 1, (uint32_t)l->key_n };
	l->used++;
	return true;
}

static void
slots_clear(struct json_level *l)
{
	if (l->cap > SLOTS_KEEP) {
		free(l->slots);
		l->slots = NULL;
		l->cap = 0;
	} else if (l->used) {
		memset(l->slots, 0, l->cap * sizeof(*l->slots));
	}
	l->used = 0;
}

/* ---- structure ---- */

static int
push(struct json_scan *s, bool object)
{
	struct json_level *l;

	if (s->depth == s->max_depth)
		return fail(s, s->pos, "nested deeper than %u", s->max_depth);
	if (s->depth == s->n_levels) {
		unsigned n = s->n_levels ? s->n_levels * 2 : 8;

		s->levels = xreallocarray(s->levels, n, sizeof(*s->levels));
		memset(s->levels + s->n_levels, 0, (n - s->n_levels) * sizeof(*s->levels));
		s->n_levels = n;
	}
	l = &s->levels[s->depth++];
	l->object = object;
	l->has_key = false;
	l->index = 0;
	l->base = s->keys.len;
	buf_room(&s->keys, 0); /* an empty key, too, has an address */
	s->state = object ? S_FIRST_KEY : S_FIRST_ITEM;
	return 0;
}

static int
value_end(struct json_scan *s)
{
	s->state = s->depth ? S_AFTER : S_DONE;
	return 0;
}

static int
pop(struct json_scan *s)
{
	struct json_level *l = top(s);

	if (l->object) {
		s->keys.len = l->base;
		slots_clear(l);
	}
	s->depth--;
	return value_end(s);
}

/* Does the path to the value at hand spell the pointer looked for? Costs no more than the pointer
 * is long. */
static bool
is_wanted(const struct json_scan *s)
{
	char pointer[ERR_POINTER_MAX];
	size_t bytes = 0;

	for (unsigned i = 0; i < s->depth; i++)
		if (s->levels[i].object && (bytes += s->levels[i].key_n) > ERR_POINTER_MAX)
			return false;
	pointer_here(s, pointer);
	return !strcmp(pointer, s->want);
}

static void digit(struct json_number *, uint8_t c, bool fraction);

static bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static int
number_start(struct json_scan *s, uint8_t c)
{
	if (c != '-' && !is_digit(c))
		return unexpected(s, c, "a value");
	memset(&s->num, 0, sizeof(s->num));
	s->num.negative = c == '-';
	s->state = c == '-' ? S_MINUS : c == '0' ? S_ZERO : S_INT;
	if (c != '-')
		digit(&s->num, c, false);
	return 0;
}

static int
value_start(struct json_scan *s, uint8_t c)
{
	if (s->want && s->found < 0 && is_wanted(s))
		s->found = (long long)s->pos;
	s->start = s->pos;
	switch (c) {
	case '{':
		return push(s, true);
	case '[':
		return push(s, false);
	case '"':
		s->string_start = s->pos;
		s->in_key = false;
		s->state = S_STRING;
		return 0;
	case 't':
	case 'f':
	case 'n':
		s->literal = c == 't' ? "rue" : c == 'f' ? "alse" : "ull";
		s->state = S_LITERAL;
		return 0;
	default:
		return number_start(s, c);
	}
}

static int
key_start(struct json_scan *s, uint8_t c)
{
	if (c != '"')
		return unexpected(s, c, "a key in double quotes");
	s->string_start = s->pos;
	s->in_key = true;
	s->key_start = s->keys.len;
	s->state = S_STRING;
	return 0;
}

static int
after_value(struct json_scan *s, uint8_t c)
{
	struct json_level *l = top(s);

	if (c == (l->object ? '}' : ']'))
		return pop(s);
	if (c != ',')
		return unexpected(s, c, l->object ? "',' or '}'" : "',' or ']'");
	if (l->object) {
		l->has_key = false;
		s->state = S_KEY;
	} else {
		l->index++;
		s->state = S_VALUE;
	}
	return 0;
}

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
		return value_end(s);
	l = top(s);
	l->key = s->key_start;
	l->key_n = s->keys.len - s->key_start;
	l->has_key = true;
	if (!slots_add(s, l))
		return fail(s, s->string_start, "the key stands twice in this object");
	s->state = S_COLON;
	return 0;
}

/* The first byte of a character outside ASCII: how many follow, and what the next one may be. */
static int
utf8_start(struct json_scan *s, uint8_t c)
{
	s->start = s->pos;
	if (c < 0xc2 || c > 0xf4)
		return fail(s, s->pos, "byte 0x%02x is not UTF-8", c);
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

		return fail(s, s->start, "not UTF-8: the character is %s", kind);
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
		return fail(s, s->pos, "control byte 0x%02x inside a string must be escaped", c);
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
		return fail(s, s->start,
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
			return fail(s, s->start, "a high surrogate without its low one");
		key_put(s, 0x10000 + ((s->high - 0xd800) << 10) + (u - 0xdc00));
		s->state = S_STRING;
		return 0;
	}
	if (u >= 0xdc00 && u <= 0xdfff)
		return fail(s, s->start, "a low surrogate without its high one");
	if (u >= 0xd800 && u <= 0xdbff) {
		s->high = u;
		s->state = S_LOW_BACKSLASH;
		return 0;
	}
	if (!u)
		return fail(s, s->start, "\\u0000 is refused: no text may hold a NUL");
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
		return fail(s, s->start, "\\u takes four hexadecimal digits");
	s->unit = s->unit << 4 | v;
	return --s->left ? 0 : unit_end(s);
}

static int
low_surrogate(struct json_scan *s, uint8_t c)
{
	if (c != (s->state == S_LOW_BACKSLASH ? '\\' : 'u'))
		return fail(s, s->start, "a high surrogate without its low one");
	if (s->state == S_LOW_BACKSLASH) {
		s->state = S_LOW_U;
		return 0;
	}
	s->unit = 0;
	s->left = 4;
	s->state = S_HEX;
	return 0;
}

/* ---- numbers ---- */

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

static int
real_end(struct json_scan *s)
{
	struct json_number *m = &s->num;
	long long e = m->exponent_negative ? -m->exponent : m->exponent;
	char text[64];
	double d;

	if (m->too_precise)
		return fail(
		    s, s->start, "the number has more than %d significant digits", DIGITS_MAX);
	if (!m->n)
		return m->negative ? fail(s, s->start, "negative zero") : value_end(s);
	snprintf(
	    text, sizeof(text), "%.*se%lld", (int)m->n, m->digits, m->point - (long long)m->n + e);
	d = strtod(text, NULL);
	if (!isfinite(d) || d <= 0)
		return fail(s, s->start, "the number does not fit a double");
	return value_end(s);
}

static int
number_end(struct json_scan *s)
{
	const struct json_number *m = &s->num;

	if (m->real)
		return real_end(s);
	if (m->negative && !m->integer && !m->overflow)
		return fail(s, s->start, "negative zero");
	if (m->overflow || m->integer > (uint64_t)INT64_MAX + m->negative)
		return fail(s, s->start, "the integer does not fit 64 bits");
	return value_end(s);
}

/* 1: the byte was eaten; 0: the number ended before it; -1 */
static int
number_byte(struct json_scan *s, uint8_t c)
{
	struct json_number *m = &s->num;

	switch (s->state) {
	case S_MINUS:
	case S_ZERO:
	case S_INT:
		if (is_digit(c)) {
			if (s->state == S_ZERO)
				return fail(s, s->start, "a number must not begin with a zero");
			s->state = c == '0' && s->state == S_MINUS ? S_ZERO : S_INT;
			digit(m, c, false);
			return 1;
		}
		if (s->state == S_MINUS)
			return c == 'I' || c == 'N' ? unexpected(s, c, "a digit")
						    : fail(s, s->start, "'-' without a number");
		break;
	case S_DOT:
	case S_FRACTION:
		if (is_digit(c)) {
			s->state = S_FRACTION;
			digit(m, c, true);
			return 1;
		}
		if (s->state == S_DOT)
			return fail(s, s->start, "no digit after the decimal point");
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
			return fail(s, s->start, "no digit in the exponent");
		return number_end(s);
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
	return number_end(s);
}

/* ---- the machine ---- */

static int
literal_byte(struct json_scan *s, uint8_t c)
{
	if (c != (uint8_t)*s->literal)
		return fail(
		    s, s->start, "not a value; only true, false and null are words of JSON");
	s->literal++;
	return *s->literal ? 0 : value_end(s);
}

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Between values, keys and punctuation. */
static int
outside(struct json_scan *s, uint8_t c)
{
	if (is_space(c))
		return 0;
	switch (s->state) {
	case S_FIRST_ITEM:
		if (c == ']')
			return pop(s);
		/* fallthrough */
	case S_VALUE:
		return value_start(s, c);
	case S_FIRST_KEY:
		if (c == '}')
			return pop(s);
		/* fallthrough */
	case S_KEY:
		return key_start(s, c);
	case S_COLON:
		if (c != ':')
			return unexpected(s, c, "':'");
		s->state = S_VALUE;
		return 0;
	case S_AFTER:
		return after_value(s, c);
	default:
		return unexpected(s, c, "nothing: the text was complete");
	}
}

static int
step(struct json_scan *s, uint8_t c)
{
	int rc;

	switch (s->state) {
	case S_STRING:
		return string_byte(s, c);
	case S_ESCAPE:
		return escape_byte(s, c);
	case S_HEX:
		return hex_byte(s, c);
	case S_LOW_BACKSLASH:
	case S_LOW_U:
		return low_surrogate(s, c);
	case S_UTF8:
		return utf8_next(s, c);
	case S_LITERAL:
		return literal_byte(s, c);
	default:
		if (s->state < S_MINUS)
			return outside(s, c);
		rc = number_byte(s, c);
		return rc < 0 ? -1 : rc ? 0 : outside(s, c);
	}
}

/* How many bytes from p are plain text of a string? */
static size_t
plain_run(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\')
		i++;
	return i;
}

void
json_scan_init(struct json_scan *s, unsigned max_depth)
{
	memset(s, 0, sizeof(*s));
	s->state = S_VALUE;
	s->max_depth = max_depth;
	s->found = -1;
}

void
json_scan_release(struct json_scan *s)
{
	for (unsigned i = 0; i < s->n_levels; i++)
		free(s->levels[i].slots);
	free(s->levels);
	buf_wipe(&s->keys);
	memset(s, 0, sizeof(*s));
}

int
json_scan_feed(struct json_scan *s, const void *data, size_t n, struct err *e)
{
	const uint8_t *p = data;
	size_t i = 0;

	s->e = e;
	if (n > UINT32_MAX - 1 || s->pos > UINT32_MAX - 1 - n)
		return fail(s, s->pos, "the text is too long");
	while (i < n) {
		if (s->state == S_STRING) {
			size_t run = plain_run(p + i, n - i);

			if (s->in_key)
				buf_add(&s->keys, p + i, run);
			i += run;
			s->pos += run;
			if (i == n)
				break;
		}
		if (step(s, p[i]))
			return -1;
		i++;
		s->pos++;
	}
	return 0;
}

int
json_scan_finish(struct json_scan *s, struct err *e)
{
	s->e = e;
	if (s->state == S_ZERO || s->state == S_INT || s->state == S_FRACTION ||
	    s->state == S_EXPONENT)
		if (number_end(s))
			return -1;
	if (s->state == S_DONE)
		return 0;
	if (!s->depth && s->state == S_VALUE)
		return fail(s, s->pos, "the message is empty");
	return fail(s, s->pos, "the text ends in the middle of %s",
	    s->state >= S_MINUS         ? "a number"
		: s->state == S_LITERAL ? "a word"
		: s->state >= S_STRING  ? "a string"
		: top(s)->object        ? "an object"
					: "an array");
}

int
json_check(const char *p, size_t n, unsigned max_depth, struct err *e)
{
	struct json_scan s;
	int rc;

	json_scan_init(&s, max_depth);
	rc = json_scan_feed(&s, p, n, e);
	if (!rc)
		rc = json_scan_finish(&s, e);
	json_scan_release(&s);
	return rc;
}

long long
json_locate(const char *p, size_t n, const char *pointer)
{
	struct json_scan s;
	struct err e = ERR_INIT;
	long long found;

	json_scan_init(&s, UINT32_MAX);
	s.want = pointer;
	(void)json_scan_feed(&s, p, n, &e);
	found = s.found;
	json_scan_release(&s);
	return found;
}
