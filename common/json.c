/*
 * json.c - strict push-style scanner for RFC 8259; see json.h.
 *
 * job_parse runs it over each message before json-c, and the tests over all that the program
 * writes. One state machine, a byte at a time but for runs of plain text inside strings; what is
 * inside a string or a number is json_scalar.c's. It never builds values and never recurses; a key
 * set is a hash table with a secret seed, so that no choice of keys makes it slow.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "common/json_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define SLOTS_FIRST 16
#define SLOTS_KEEP 64 /* larger tables are freed when their object ends */
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

struct json_level *
json_top(struct json_scan *s)
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

int
json_fail(struct json_scan *s, uint64_t pos, const char *fmt, ...)
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

int
json_unexpected(struct json_scan *s, uint8_t c, const char *wanted)
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
		return json_fail(s, s->pos, "%s; %s should stand here", why, wanted);
	if (c > 0x20 && c < 0x7f)
		return json_fail(s, s->pos, "unexpected '%c'; %s should stand here", c, wanted);
	return json_fail(s, s->pos, "unexpected byte 0x%02x; %s should stand here", c, wanted);
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

bool
json_keys_add(struct json_scan *s, struct json_level *l)
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
		return json_fail(s, s->pos, "nested deeper than %u", s->max_depth);
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

int
json_value_end(struct json_scan *s)
{
	s->state = s->depth ? S_AFTER : S_DONE;
	return 0;
}

static int
pop(struct json_scan *s)
{
	struct json_level *l = json_top(s);

	if (l->object) {
		s->keys.len = l->base;
		slots_clear(l);
	}
	s->depth--;
	return json_value_end(s);
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
		return json_number_start(s, c);
	}
}

static int
key_start(struct json_scan *s, uint8_t c)
{
	if (c != '"')
		return json_unexpected(s, c, "a key in double quotes");
	s->string_start = s->pos;
	s->in_key = true;
	s->key_start = s->keys.len;
	s->state = S_STRING;
	return 0;
}

static int
after_value(struct json_scan *s, uint8_t c)
{
	struct json_level *l = json_top(s);

	if (c == (l->object ? '}' : ']'))
		return pop(s);
	if (c != ',')
		return json_unexpected(s, c, l->object ? "',' or '}'" : "',' or ']'");
	if (l->object) {
		l->has_key = false;
		s->state = S_KEY;
	} else {
		l->index++;
		s->state = S_VALUE;
	}
	return 0;
}

/* ---- the machine ---- */

static int
literal_byte(struct json_scan *s, uint8_t c)
{
	if (c != (uint8_t)*s->literal)
		return json_fail(
		    s, s->start, "not a value; only true, false and null are words of JSON");
	s->literal++;
	return *s->literal ? 0 : json_value_end(s);
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
			return json_unexpected(s, c, "':'");
		s->state = S_VALUE;
		return 0;
	case S_AFTER:
		return after_value(s, c);
	default:
		return json_unexpected(s, c, "nothing: the text was complete");
	}
}

static int
step(struct json_scan *s, uint8_t c)
{
	int rc;

	switch (s->state) {
	case S_STRING:
	case S_ESCAPE:
	case S_HEX:
	case S_LOW_BACKSLASH:
	case S_LOW_U:
	case S_UTF8:
		return json_string_step(s, c);
	case S_LITERAL:
		return literal_byte(s, c);
	default:
		if (s->state < S_MINUS)
			return outside(s, c);
		rc = json_number_byte(s, c);
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
		return json_fail(s, s->pos, "the text is too long");
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
		if (json_number_end(s))
			return -1;
	if (s->state == S_DONE)
		return 0;
	if (!s->depth && s->state == S_VALUE)
		return json_fail(s, s->pos, "the message is empty");
	return json_fail(s, s->pos, "the text ends in the middle of %s",
	    s->state >= S_MINUS         ? "a number"
		: s->state == S_LITERAL ? "a word"
		: s->state >= S_STRING  ? "a string"
		: json_top(s)->object        ? "an object"
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
