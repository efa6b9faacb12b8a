/*
 * offsets.c - frontier and completed set of one partition; see offsets.h. Called by consume.c and rebalance.c.
 *
 * Text: a letter for the encoding ('B' bitmap, 'R' runs), a digit for the version, then base64 without padding of a
 * check byte and the body. Bitmap: bit i of byte i/8 is offset frontier + i. Runs: lengths as varints, not done and
 * done in turn, from the frontier, which is not done by definition, to the last done offset. Never trusts a text.
 */
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "master/offsets.h"
#include "common/banned.h"

#define VERSION_DIGIT '1'
#define CAP_MIN 1024
#define BITMAP_BYTES (OFFSETS_SPAN_BITMAP / 8)

void
offsets_init(struct offsets *o)
{
	memset(o, 0, sizeof(*o));
}

void
offsets_release(struct offsets *o)
{
	free(o->bits);
	offsets_init(o);
}

void
offsets_reset(struct offsets *o)
{
	uint64_t changes = o->changes;

	offsets_release(o);
	o->changes = changes + 1;
}

static bool
bit_get(const struct offsets *o, int64_t at)
{
	size_t i = (size_t)at & (o->cap - 1);

	return o->bits[i / 64] >> (i % 64) & 1;
}

static void
bit_put(struct offsets *o, int64_t at, bool done)
{
	size_t i = (size_t)at & (o->cap - 1);
	uint64_t mask = (uint64_t)1 << (i % 64);

	if (done)
		o->bits[i / 64] |= mask;
	else
		o->bits[i / 64] &= ~mask;
}

/* First offset in [from, to) whose bit is as asked; to where there is none. A word at a time. */
static int64_t
bit_find(const struct offsets *o, int64_t from, int64_t to, bool done)
{
	while (from < to) {
		size_t i = (size_t)from & (o->cap - 1);
		uint64_t word = o->bits[i / 64];

		word = (done ? word : ~word) >> (i % 64);
		if (word) {
			from += __builtin_ctzll(word);
			return from < to ? from : to;
		}
		from += 64 - (int64_t)(i % 64);
	}
	return to;
}

/* The ring must hold the whole span; grows by doubling, up to OFFSETS_SPAN_MAX bits. */
static void
ring_reserve(struct offsets *o, int64_t span)
{
	struct offsets old = *o;
	size_t cap = o->cap ? o->cap : CAP_MIN;

	while ((int64_t)cap < span)
		cap *= 2;
	if (cap > OFFSETS_SPAN_MAX)
		BUG("completed set beyond its window");
	if (cap == o->cap)
		return;
	o->cap = cap;
	o->bits = xcalloc(cap / 64, sizeof(*o->bits));
	if (!old.cap)
		return;
	for (int64_t at = old.frontier; at < old.end; at++)
		if (bit_get(&old, at))
			bit_put(o, at, true);
	free(old.bits);
}

static void
frontier_advance(struct offsets *o)
{
	while (o->frontier < o->end && bit_get(o, o->frontier))
		bit_put(o, o->frontier++, false);
}

/* What lies between the last offset seen and this one will never arrive. */
static void
gap_close(struct offsets *o, int64_t offset)
{
	int64_t from = o->next > o->frontier ? o->next : o->frontier;
	int64_t to = offset < o->end ? offset : o->end;

	for (int64_t at = bit_find(o, from, to, false); at < to; at = bit_find(o, at + 1, to, false)) {
		bit_put(o, at, true);
		o->holes--;
		o->changes++;
	}
	frontier_advance(o);
	if (offset <= o->end)
		return;
	if (o->frontier == o->end) {
		o->frontier = o->end = offset;
		o->changes++;
		return;
	}
	ring_reserve(o, offset - o->frontier);
	for (int64_t at = o->end; at < offset; at++)
		bit_put(o, at, true);
	o->end = offset;
	o->changes++;
}

static bool
window_fits(int64_t span, int64_t holes)
{
	return span <= OFFSETS_SPAN_BITMAP || (holes <= OFFSETS_HOLES_MAX && span <= OFFSETS_SPAN_MAX);
}

/* Every hole below next is open, and taking an offset beyond the end closes the others: open + 1 remain. */
static bool
may_take(const struct offsets *o, int64_t offset)
{
	if (!o->open || offset < o->end)
		return true;
	return window_fits(offset - o->frontier + 1, o->open + 1);
}

enum offsets_take
offsets_take(struct offsets *o, int64_t offset)
{
	if (!o->known) {
		o->known = true;
		o->frontier = o->next = o->end = offset;
	}
	if (offset < o->next)
		return OFFSETS_BELOW;
	if (offset < o->frontier) {
		o->next = offset + 1;
		return OFFSETS_REPEAT;
	}
	if (!may_take(o, offset))
		return OFFSETS_FULL;
	gap_close(o, offset);
	o->next = offset + 1;
	/* closing the gap may have moved the frontier over it */
	if (offset < o->frontier || (offset < o->end && bit_get(o, offset)))
		return OFFSETS_REPEAT;
	if (offset == o->end) {
		ring_reserve(o, offset - o->frontier + 1);
		o->end++;
		o->holes++;
	}
	o->open++;
	return OFFSETS_NEW;
}

bool
offsets_complete(struct offsets *o, int64_t offset)
{
	if (!o->known || offset < o->frontier || offset >= o->next || bit_get(o, offset))
		return false;
	bit_put(o, offset, true);
	o->holes--;
	o->open--;
	o->changes++;
	frontier_advance(o);
	return true;
}

bool
offsets_room(const struct offsets *o)
{
	return !o->known || may_take(o, o->next);
}

bool
offsets_half(const struct offsets *o)
{
	int64_t span = o->end - o->frontier;

	return !o->open || span <= OFFSETS_SPAN_BITMAP / 2 ||
	    (o->holes <= OFFSETS_HOLES_MAX / 2 && span <= OFFSETS_SPAN_MAX / 2);
}

int64_t
offsets_resume(const struct offsets *o)
{
	if (!o->known)
		return -1;
	return o->next > o->frontier ? o->next : o->frontier;
}

int64_t
offsets_done_beyond(const struct offsets *o)
{
	return o->end - o->frontier - o->holes;
}

bool
offsets_done(const struct offsets *o, int64_t offset)
{
	return o->known && (offset < o->frontier || (offset < o->end && bit_get(o, offset)));
}

/* ---- the text ---------------------------------------------------------------------------------------------- */

static uint8_t
check_byte(char kind, const char *body, size_t n)
{
	uint32_t h = 2166136261u ^ (uint8_t)kind;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)body[i]) * 16777619u;
	h ^= h >> 16;
	return (uint8_t)(h ^ h >> 8);
}

static void
varint_put(struct buf *b, int64_t v)
{
	for (; v >= 128; v >>= 7)
		buf_u8(b, (uint8_t)(v | 128));
	buf_u8(b, (uint8_t)v);
}

/* At most three bytes, none superfluous, never 0; 0 says that it is not so. */
static int64_t
varint_get(const uint8_t *p, size_t n, size_t *at)
{
	int64_t v = 0;

	for (int shift = 0; shift < 21 && *at < n; shift += 7) {
		uint8_t byte = p[(*at)++];

		v |= (int64_t)(byte & 127) << shift;
		if (byte < 128)
			return byte || !shift ? v : 0;
	}
	return 0;
}

static int64_t
last_done(const struct offsets *o)
{
	int64_t at = o->end;

	while (at > o->frontier && !bit_get(o, at - 1))
		at--;
	return at;
}

static void
body_runs(const struct offsets *o, int64_t end, size_t max, struct buf *b)
{
	for (int64_t at = o->frontier; at < end && b->len <= max;) {
		int64_t done = bit_find(o, at, end, true), todo = bit_find(o, done, end, false);

		varint_put(b, done - at);
		varint_put(b, todo - done);
		at = todo;
	}
}

static void
body_bitmap(const struct offsets *o, int64_t end, struct buf *b)
{
	size_t n = (size_t)(end - o->frontier + 7) / 8;
	char *p = buf_room(b, n);

	memset(p, 0, n);
	for (int64_t at = bit_find(o, o->frontier, end, true); at < end; at = bit_find(o, at + 1, end, true)) {
		int64_t i = at - o->frontier;

		p[i / 8] = (char)((uint8_t)p[i / 8] | 1u << (i % 8));
	}
	b->len += n;
}

void
offsets_encode(const struct offsets *o, struct buf *text)
{
	int64_t end = o->cap ? last_done(o) : o->frontier, span = end - o->frontier;
	size_t bitmap = span <= OFFSETS_SPAN_BITMAP ? (size_t)(span + 7) / 8 : SIZE_MAX;
	struct buf body = BUF_INIT, whole = BUF_INIT;
	char kind = 'R';

	buf_clear(text);
	if (!span)
		return;
	body_runs(o, end, bitmap, &body);
	if (body.len > bitmap) {
		buf_clear(&body);
		body_bitmap(o, end, &body);
		kind = 'B';
	}
	buf_u8(&whole, check_byte(kind, body.p, body.len));
	buf_add(&whole, body.p, body.len);
	buf_putc(text, kind);
	buf_putc(text, VERSION_DIGIT);
	base64_encode(text, whole.p, whole.len);
	while (text->p[text->len - 1] == '=')
		text->len--;
	if (text->len > (kind == 'B' ? OFFSETS_TEXT_BITMAP_MAX : OFFSETS_TEXT_MAX))
		BUG("commit metadata beyond its bound");
	buf_release(&body);
	buf_release(&whole);
}

/* Appends a run to the ring; the caller has checked that it fits. */
static void
run_add(struct offsets *o, int64_t n, bool done)
{
	ring_reserve(o, o->end + n - o->frontier);
	for (int64_t to = o->end + n; o->end < to; o->end++)
		if (done)
			bit_put(o, o->end, true);
	if (!done)
		o->holes += n;
}

static bool
load_runs(struct offsets *o, const uint8_t *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		int64_t todo = varint_get(p, n, &at), done = varint_get(p, n, &at);

		if (!todo || !done || o->end - o->frontier + todo + done > OFFSETS_SPAN_MAX)
			return false;
		run_add(o, todo, false);
		run_add(o, done, true);
	}
	/* the last offset taken is unfinished at first, so that a text of ours has one less than the window */
	return window_fits(o->end - o->frontier, o->holes + 1);
}

static bool
load_bitmap(struct offsets *o, const uint8_t *p, size_t n)
{
	int64_t end;

	if (n > BITMAP_BYTES || p[0] & 1 || !p[n - 1])
		return false;
	end = (int64_t)n * 8;
	while (!(p[n - 1] >> ((end - 1) % 8) & 1))
		end--;
	for (int64_t i = 0; i < end; i++)
		run_add(o, 1, p[i / 8] >> (i % 8) & 1);
	return true;
}

/* base64 without padding: the bytes it stands for, or false. */
static bool
text_decode(const char *p, size_t n, struct buf *out)
{
	struct buf padded = BUF_INIT;
	bool good = n % 4 != 1 && !memchr(p, '=', n);

	if (good) {
		buf_add(&padded, p, n);
		while (padded.len % 4)
			buf_putc(&padded, '=');
		good = base64_decode(out, padded.p, padded.len) == 0;
	}
	buf_release(&padded);
	return good;
}

static enum offsets_meta
load_text(struct offsets *o, const char *meta, size_t n)
{
	struct buf b = BUF_INIT;
	const uint8_t *body;
	bool good;

	if (n < 2 || (meta[0] != 'B' && meta[0] != 'R') || meta[1] < '0' || meta[1] > '9')
		return OFFSETS_META_FOREIGN;
	if (meta[1] != VERSION_DIGIT)
		return meta[1] > VERSION_DIGIT ? OFFSETS_META_LATER : OFFSETS_META_FOREIGN;
	if (n > OFFSETS_TEXT_MAX || !text_decode(meta + 2, n - 2, &b) || b.len < 2) {
		buf_release(&b);
		return OFFSETS_META_GARBLED;
	}
	body = (const uint8_t *)b.p;
	good = body[0] == check_byte(meta[0], b.p + 1, b.len - 1) &&
	    (meta[0] == 'B' ? load_bitmap(o, body + 1, b.len - 1) : load_runs(o, body + 1, b.len - 1));
	buf_release(&b);
	return good ? OFFSETS_META_OK : OFFSETS_META_GARBLED;
}

static void
load_start(struct offsets *o, int64_t committed)
{
	offsets_reset(o);
	if (committed >= 0) {
		o->known = true;
		o->frontier = o->next = o->end = committed;
	}
}

enum offsets_meta
offsets_load(struct offsets *o, int64_t committed, const char *meta, size_t n)
{
	enum offsets_meta how;

	load_start(o, committed);
	if (!n)
		return OFFSETS_META_OK;
	/* a completed set without a frontier, or beyond the largest offset, cannot be ours */
	if (committed < 0 || committed > INT64_MAX - 2 * OFFSETS_SPAN_MAX)
		return OFFSETS_META_FOREIGN;
	how = load_text(o, meta, n);
	if (how != OFFSETS_META_OK)
		load_start(o, committed);
	return how;
}

const char *
offsets_meta_name(enum offsets_meta how)
{
	static const char *const names[] = {
		[OFFSETS_META_OK] = "ok", [OFFSETS_META_FOREIGN] = "foreign",
		[OFFSETS_META_LATER] = "later_version", [OFFSETS_META_GARBLED] = "garbled",
	};

	return names[how];
}
