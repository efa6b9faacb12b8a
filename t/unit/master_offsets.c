/*
 * master_offsets.c - the completed set of a partition against a naive model, its bounds, and hostile metadata.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "master/offsets.h"
#include "common/banned.h"

static struct buf text;

/* ck_assert writes to a pipe each time: not for a million calls. */
#define EXPECT(what) do { if (!(what)) ck_abort_msg("%s", #what); } while (0)

static enum offsets_meta
reload(struct offsets *to, const struct offsets *from)
{
	offsets_encode(from, &text);
	ck_assert_uint_le(text.len, OFFSETS_TEXT_MAX);
	return offsets_load(to, from->frontier, text.p, text.len);
}

START_TEST(straight)
{
	struct offsets o;

	offsets_init(&o);
	ck_assert_int_eq(offsets_resume(&o), -1);
	ck_assert(offsets_room(&o));
	for (int i = 100; i < 110; i++)
		ck_assert_int_eq(offsets_take(&o, i), OFFSETS_NEW);
	ck_assert_int_eq(o.frontier, 100);
	ck_assert_int_eq(o.open, 10);
	for (int i = 109; i > 100; i--)
		ck_assert(offsets_complete(&o, i));
	ck_assert(!offsets_complete(&o, 105));
	ck_assert(!offsets_complete(&o, 99));
	ck_assert(!offsets_complete(&o, 110));
	ck_assert_int_eq(o.frontier, 100);
	ck_assert_int_eq(offsets_done_beyond(&o), 9);
	ck_assert_int_eq(offsets_resume(&o), 110);
	ck_assert(offsets_complete(&o, 100));
	ck_assert_int_eq(o.frontier, 110);
	ck_assert_int_eq(offsets_done_beyond(&o), 0);
	offsets_encode(&o, &text);
	ck_assert_uint_eq(text.len, 0);
	ck_assert_int_eq(offsets_take(&o, 105), OFFSETS_BELOW);
	offsets_reset(&o);
	ck_assert_int_eq(offsets_take(&o, 5), OFFSETS_NEW);
	ck_assert_int_eq(o.frontier, 5);
	offsets_release(&o);
}
END_TEST

/* A restart skips what was done, takes the holes, and the frontier may run ahead of the reading. */
START_TEST(restart_skips)
{
	struct offsets a, b;

	offsets_init(&a);
	offsets_init(&b);
	for (int i = 0; i < 8; i++)
		offsets_take(&a, i);
	for (int i = 1; i < 7; i++)
		if (i != 4)
			offsets_complete(&a, i);
	ck_assert_int_eq(reload(&b, &a), OFFSETS_META_OK);
	ck_assert_int_eq(offsets_resume(&b), 0);
	ck_assert_int_eq(offsets_take(&b, 0), OFFSETS_NEW);
	ck_assert(offsets_complete(&b, 0));
	ck_assert_int_eq(b.frontier, 4);
	ck_assert_int_eq(offsets_resume(&b), 4);
	ck_assert_int_eq(offsets_take(&b, 1), OFFSETS_REPEAT);
	ck_assert_int_eq(offsets_take(&b, 3), OFFSETS_REPEAT);
	ck_assert_int_eq(offsets_take(&b, 4), OFFSETS_NEW);
	ck_assert_int_eq(offsets_take(&b, 5), OFFSETS_REPEAT);
	ck_assert_int_eq(offsets_take(&b, 5), OFFSETS_BELOW);
	ck_assert_int_eq(offsets_take(&b, 7), OFFSETS_NEW);
	ck_assert(offsets_complete(&b, 7));
	ck_assert(offsets_complete(&b, 4));
	ck_assert_int_eq(b.frontier, 8);
	/* a hole that never comes again is closed by a higher offset */
	ck_assert_int_eq(reload(&b, &a), OFFSETS_META_OK);
	ck_assert_int_eq(offsets_take(&b, 6), OFFSETS_REPEAT);
	ck_assert_int_eq(b.frontier, 7);
	ck_assert_int_eq(b.holes, 0);
	offsets_release(&a);
	offsets_release(&b);
}
END_TEST

START_TEST(gaps)
{
	struct offsets o;

	offsets_init(&o);
	ck_assert_int_eq(offsets_take(&o, 10), OFFSETS_NEW);
	ck_assert_int_eq(offsets_take(&o, 20), OFFSETS_NEW);
	ck_assert_int_eq(offsets_done_beyond(&o), 9);
	offsets_complete(&o, 10);
	ck_assert_int_eq(o.frontier, 20);
	/* far beyond the window while something is open: not now */
	ck_assert_int_eq(offsets_take(&o, 20 + OFFSETS_SPAN_MAX), OFFSETS_FULL);
	ck_assert_int_eq(offsets_take(&o, 20 + OFFSETS_SPAN_MAX - 1), OFFSETS_NEW);
	offsets_complete(&o, 20);
	ck_assert_int_eq(o.frontier, 20 + OFFSETS_SPAN_MAX - 1);
	ck_assert_int_eq(offsets_take(&o, (int64_t)1 << 60), OFFSETS_FULL);
	offsets_complete(&o, 20 + OFFSETS_SPAN_MAX - 1);
	ck_assert_int_eq(offsets_take(&o, (int64_t)1 << 60), OFFSETS_NEW);
	ck_assert_int_eq(o.frontier, (int64_t)1 << 60);
	offsets_release(&o);
}
END_TEST

/* Alternating offsets done: the worst bitmap. */
START_TEST(worst_bitmap)
{
	struct offsets o, b;
	int64_t i = 0;

	offsets_init(&o);
	offsets_init(&b);
	while (offsets_room(&o))
		ck_assert_int_eq(offsets_take(&o, i++), OFFSETS_NEW);
	ck_assert_int_eq(i, OFFSETS_SPAN_BITMAP);
	ck_assert_int_eq(offsets_take(&o, i), OFFSETS_FULL);
	for (i = 1; i < OFFSETS_SPAN_BITMAP; i += 2)
		offsets_complete(&o, i);
	ck_assert(!offsets_room(&o));
	ck_assert(!offsets_half(&o));
	ck_assert_int_eq(reload(&b, &o), OFFSETS_META_OK);
	ck_assert_uint_eq(text.len, OFFSETS_TEXT_BITMAP_MAX);
	ck_assert_int_eq(text.p[0], 'B');
	ck_assert_int_eq(b.holes, OFFSETS_SPAN_BITMAP / 2);
	for (i = 0; i < OFFSETS_SPAN_BITMAP; i++)
		ck_assert_int_eq(offsets_take(&b, i), i % 2 ? OFFSETS_REPEAT : OFFSETS_NEW);
	for (i = 0; i < OFFSETS_SPAN_BITMAP / 2; i += 2)
		offsets_complete(&o, i);
	ck_assert(offsets_half(&o));
	ck_assert(offsets_room(&o));
	offsets_release(&o);
	offsets_release(&b);
}
END_TEST

/* Unfinished offsets stand at the given distances; the rest of the span is done. */
static int64_t
spread(struct offsets *o, int holes, int64_t wide, int64_t narrow, int n_wide)
{
	int64_t at = 0;

	for (int i = 0; i < holes; i++) {
		EXPECT(offsets_take(o, at) == OFFSETS_NEW);
		for (int64_t end = at + (i < n_wide ? wide : narrow); ++at <= end;) {
			EXPECT(offsets_take(o, at) == OFFSETS_NEW);
			offsets_complete(o, at);
		}
	}
	return at;
}

/* 899 holes can stand before a done offset; 57 of the runs between them can be long enough for three bytes. */
START_TEST(worst_runs)
{
	struct offsets o, b;
	int64_t end;

	offsets_init(&o);
	offsets_init(&b);
	end = spread(&o, OFFSETS_HOLES_MAX - 1, 16384, 128, 57);
	ck_assert_int_lt(end, OFFSETS_SPAN_MAX);
	ck_assert_int_eq(reload(&b, &o), OFFSETS_META_OK);
	ck_assert_uint_eq(text.len, OFFSETS_TEXT_MAX);
	ck_assert_uint_le(text.len, 4096 - 400);
	ck_assert_int_eq(text.p[0], 'R');
	ck_assert_int_eq(b.holes, OFFSETS_HOLES_MAX - 1);
	ck_assert_int_eq(b.end, end);
	/* one more may be open, then the window is full */
	ck_assert_int_eq(offsets_take(&o, end), OFFSETS_NEW);
	ck_assert(!offsets_room(&o));
	ck_assert_int_eq(offsets_take(&o, end + 1), OFFSETS_FULL);
	ck_assert_int_eq(reload(&b, &o), OFFSETS_META_OK);
	ck_assert_uint_eq(text.len, OFFSETS_TEXT_MAX);
	/* the restarted reader takes the same holes and gets no further than the first one did */
	for (int64_t i = 0; i < end; i++)
		EXPECT(offsets_take(&b, i) != OFFSETS_FULL);
	ck_assert_int_eq(b.open, OFFSETS_HOLES_MAX - 1);
	ck_assert_int_eq(offsets_take(&b, end), OFFSETS_NEW);
	ck_assert_int_eq(offsets_take(&b, end + 1), OFFSETS_FULL);
	offsets_release(&o);
	offsets_release(&b);
}
END_TEST

/* One slow job does not stop its partition before 2^20 offsets. */
START_TEST(one_slow)
{
	struct offsets o;
	int64_t i = 1;

	offsets_init(&o);
	ck_assert_int_eq(offsets_take(&o, 0), OFFSETS_NEW);
	for (; offsets_room(&o); i++) {
		EXPECT(offsets_take(&o, i) == OFFSETS_NEW);
		EXPECT(offsets_complete(&o, i));
	}
	ck_assert_int_eq(i, OFFSETS_SPAN_MAX);
	offsets_encode(&o, &text);
	ck_assert_uint_lt(text.len, 16);
	ck_assert(offsets_complete(&o, 0));
	ck_assert_int_eq(o.frontier, OFFSETS_SPAN_MAX);
	ck_assert(offsets_room(&o));
	offsets_release(&o);
}
END_TEST

/* ---- random walk against naive sets --------------------------------------------------------------------------- */

#define WORLD 60000
enum { M_UNSEEN, M_OPEN, M_DONE };
struct model { uint8_t state[WORLD]; int64_t frontier, seen; };

static void
model_settle(struct model *m)
{
	while (m->frontier < m->seen && m->state[m->frontier] == M_DONE)
		m->frontier++;
}

static void
model_compare(const struct model *m, const struct offsets *o)
{
	int64_t done = 0, open = 0;

	for (int64_t i = m->frontier; i < WORLD; i++) {
		done += m->state[i] == M_DONE;
		open += m->state[i] == M_OPEN;
	}
	ck_assert_int_eq(o->open, open);
	if (m->seen > o->frontier || done == 0) {
		ck_assert_int_eq(o->frontier, m->frontier);
		ck_assert_int_eq(offsets_done_beyond(o), done);
	}
}

static void
model_take(struct model *m, struct offsets *o)
{
	int64_t at = m->seen + (rand() % 20 == 0 ? rand() % 50 : 0);
	bool was = at < WORLD && m->state[at] == M_DONE;
	enum offsets_take how;

	if (at >= WORLD)
		return;
	how = offsets_take(o, at);
	if (how == OFFSETS_FULL)
		return;
	EXPECT(how == (was ? OFFSETS_REPEAT : OFFSETS_NEW));
	for (int64_t i = m->seen; i < at; i++)
		m->state[i] = M_DONE;
	if (!was)
		m->state[at] = M_OPEN;
	m->seen = at + 1;
	model_settle(m);
}

static void
model_complete(struct model *m, struct offsets *o)
{
	int64_t span = m->seen - m->frontier, at;

	if (span < 1)
		return;
	at = m->frontier + (rand() % 4 ? rand() % span : 0);
	for (int64_t i = 0; i < span && m->state[at] != M_OPEN; i++)
		at = at + 1 < m->seen ? at + 1 : m->frontier;
	if (m->state[at] != M_OPEN) {
		EXPECT(!offsets_complete(o, at));
		return;
	}
	EXPECT(offsets_complete(o, at));
	m->state[at] = M_DONE;
	model_settle(m);
}

/* What a crash leaves: the done set; the open ones come again. */
static void
model_crash(struct model *m, struct offsets *o)
{
	struct offsets fresh;

	offsets_init(&fresh);
	ck_assert_int_eq(reload(&fresh, o), OFFSETS_META_OK);
	offsets_release(o);
	*o = fresh;
	for (int64_t i = 0; i < WORLD; i++)
		if (m->state[i] == M_OPEN)
			m->state[i] = M_UNSEEN;
	m->seen = m->frontier;
}

START_TEST(random_walk)
{
	struct model *m = xcalloc(1, sizeof(*m));
	struct offsets o;

	srand((unsigned)_i * 7919 + 1);
	offsets_init(&o);
	offsets_load(&o, 0, NULL, 0);
	for (int i = 0; i < 40000; i++) {
		int bias = i / 5000 % 2 ? 40 : 60;

		if (rand() % 100 < bias)
			model_take(m, &o);
		else
			model_complete(m, &o);
		if (i % 997 == 0)
			model_compare(m, &o);
		if (i % 9001 == 9000)
			model_crash(m, &o);
	}
	model_compare(m, &o);
	for (int64_t i = 0; i < WORLD; i++)
		if (m->state[i] == M_OPEN)
			ck_assert(offsets_complete(&o, i));
	ck_assert_int_eq(o.open, 0);
	offsets_release(&o);
	free(m);
}
END_TEST

/* ---- metadata that is not ours ------------------------------------------------------------------------------------ */

struct hostile { const char *what, *text; size_t n; enum offsets_meta want; };
#define T(s) s, sizeof(s) - 1
static const struct hostile hostile[] = {
	{ "a word", T("checkpoint"), OFFSETS_META_FOREIGN },
	{ "one letter", T("B"), OFFSETS_META_FOREIGN },
	{ "JSON", T("{\"offset\":1}"), OFFSETS_META_FOREIGN },
	{ "NUL bytes", T("\0\0\0\0"), OFFSETS_META_FOREIGN },
	{ "bad UTF-8", T("\xff\xfe\x80"), OFFSETS_META_FOREIGN },
	{ "version 0", T("B0AAAA"), OFFSETS_META_FOREIGN },
	{ "version 2", T("B2AAAA"), OFFSETS_META_LATER },
	{ "version 9", T("R9"), OFFSETS_META_LATER },
	{ "no body", T("B1"), OFFSETS_META_GARBLED },
	{ "check byte alone", T("R1AA"), OFFSETS_META_GARBLED },
	{ "impossible length", T("R1AAAAA"), OFFSETS_META_GARBLED },
	{ "not base64", T("R1A*AA"), OFFSETS_META_GARBLED },
	{ "padded", T("R1AAA="), OFFSETS_META_GARBLED },
	{ "NUL inside", T("R1AA\0A"), OFFSETS_META_GARBLED },
	{ "white space", T("R1AA A"), OFFSETS_META_GARBLED },
	{ "wrong check byte", T("R1AAEB"), OFFSETS_META_GARBLED },
};

static void
expect_ignored(const char *p, size_t n, enum offsets_meta want, const char *what)
{
	struct offsets o;
	enum offsets_meta how;

	offsets_init(&o);
	how = offsets_load(&o, 1000, p, n);
	ck_assert_msg(how == want, "%s: %s, wanted %s", what, offsets_meta_name(how), offsets_meta_name(want));
	ck_assert_int_eq(o.frontier, 1000);
	ck_assert_int_eq(o.end, 1000);
	ck_assert_int_eq(o.holes, 0);
	ck_assert_int_eq(offsets_take(&o, 1000), OFFSETS_NEW);
	offsets_release(&o);
}

START_TEST(hostile_text)
{
	expect_ignored(hostile[_i].text, hostile[_i].n, hostile[_i].want, hostile[_i].what);
}
END_TEST

/* The right check byte on a body that breaks a rule: as an attacker, or another program, would make it. */
static void
forge(char kind, const void *body, size_t n)
{
	struct buf whole = BUF_INIT;
	uint32_t h = 2166136261u ^ (uint8_t)kind;

	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)body)[i]) * 16777619u;
	h ^= h >> 16;
	buf_u8(&whole, (uint8_t)(h ^ h >> 8));
	buf_add(&whole, body, n);
	buf_clear(&text);
	buf_putc(&text, kind);
	buf_putc(&text, '1');
	base64_encode(&text, whole.p, whole.len);
	while (text.len && text.p[text.len - 1] == '=')
		text.len--;
	buf_release(&whole);
}

static const struct { const char *what; char kind; const char *body; size_t n; } forged[] = {
	{ "frontier done", 'B', T("\x03") },
	{ "trailing zero byte", 'B', T("\x02\0") },
	{ "all zero", 'B', T("\0") },
	{ "run of nothing", 'R', T("\0\x01") },
	{ "nothing done", 'R', T("\x01\0") },
	{ "odd count of runs", 'R', T("\x01\x01\x01") },
	{ "varint cut", 'R', T("\x01\x80") },
	{ "varint too long", 'R', T("\x01\x81\x80\x80\x01") },
	{ "varint not shortest", 'R', T("\x01\x81\x00") },
	{ "span too long", 'R', T("\x01\xff\xff\x7f") },
};

START_TEST(hostile_body)
{
	struct offsets o;

	forge('R', "\x01\x01", 2); /* the forge itself is right */
	offsets_init(&o);
	ck_assert_int_eq(offsets_load(&o, 5, text.p, text.len), OFFSETS_META_OK);
	ck_assert_int_eq(o.end, 7);
	ck_assert_int_eq(o.holes, 1);
	offsets_release(&o);
	forge(forged[_i].kind, forged[_i].body, forged[_i].n);
	expect_ignored(text.p, text.len, OFFSETS_META_GARBLED, forged[_i].what);
}
END_TEST

START_TEST(hostile_sizes)
{
	char body[OFFSETS_TEXT_MAX];

	memset(body, 1, sizeof(body));
	body[0] = 2;
	forge('B', body, 2049);
	expect_ignored(text.p, text.len, OFFSETS_META_GARBLED, "bitmap of 2,049 bytes");
	memset(body, 1, sizeof(body));
	forge('R', body, 2900);
	expect_ignored(text.p, text.len, OFFSETS_META_GARBLED, "text longer than ours can be");
	/* 20,000 offsets, 1,000 of them holes: a window that this program never makes */
	for (int i = 0; i < 2000; i++)
		body[i] = i % 2 ? 19 : 1;
	forge('R', body, 2000);
	expect_ignored(text.p, text.len, OFFSETS_META_GARBLED, "too many holes");
	/* a good text at an offset where it cannot stand */
	forge('R', "\x01\x01", 2);
	struct offsets o;
	offsets_init(&o);
	ck_assert_int_eq(offsets_load(&o, INT64_MAX - 3, text.p, text.len), OFFSETS_META_FOREIGN);
	ck_assert_int_eq(offsets_load(&o, -1001, text.p, text.len), OFFSETS_META_FOREIGN);
	ck_assert(!o.known);
	ck_assert_int_eq(offsets_load(&o, -1001, NULL, 0), OFFSETS_META_OK);
	offsets_release(&o);
}
END_TEST

/* Every byte of a real text turned: ignored, or a valid set; never a broken state. */
START_TEST(garbled_anywhere)
{
	struct offsets o, b;
	size_t ignored = 0;
	struct buf real = BUF_INIT;

	offsets_init(&o);
	offsets_init(&b);
	for (int i = 0; i < 600; i++)
		offsets_take(&o, i);
	srand(3);
	for (int i = 0; i < 400; i++)
		offsets_complete(&o, 1 + rand() % 599);
	offsets_encode(&o, &real);
	for (size_t i = 0; i < real.len; i++) {
		char was = real.p[i];

		real.p[i] = (char)(was ^ (1 << rand() % 8));
		ignored += offsets_load(&b, 0, real.p, real.len) != OFFSETS_META_OK;
		for (int64_t at = 0; at < 700; at++)
			if (offsets_take(&b, at) == OFFSETS_NEW)
				EXPECT(offsets_complete(&b, at));
		ck_assert_int_eq(b.frontier, 700);
		real.p[i] = was;
	}
	ck_assert_uint_ge(ignored * 100, real.len * 95);
	buf_release(&real);
	offsets_release(&o);
	offsets_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("offsets");
	TCase *t = tcase_create("offsets");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_test(t, straight);
	tcase_add_test(t, restart_skips);
	tcase_add_test(t, gaps);
	tcase_add_test(t, worst_bitmap);
	tcase_add_test(t, worst_runs);
	tcase_add_test(t, one_slow);
	tcase_add_loop_test(t, random_walk, 0, 12);
	tcase_add_loop_test(t, hostile_text, 0, (int)ARRAY_LEN(hostile));
	tcase_add_loop_test(t, hostile_body, 0, (int)ARRAY_LEN(forged));
	tcase_add_test(t, hostile_sizes);
	tcase_add_test(t, garbled_anywhere);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
