/*
 * glob_prog.c - compiles a file pattern into a program of characters, choices and loops.
 *
 * Called by glob_new alone. Linear in the pattern: braces become choices and are never multiplied out, nesting
 * is kept on a list and not on the stack. Refuses a bad pattern with the position of the byte that is wrong.
 */
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/glob.h"
#include "common/glob_prog.h"
#include "common/xalloc.h"
#include "common/banned.h"

/*
 * How far into a path component the pattern stands: "**" + '/' is special only where one begins, and a '/' is only an
 * anchor where nothing came before. The lower value is the safe one where alternatives differ.
 */
enum where { MIDDLE, BEGIN_COMPONENT, BEGIN_PATTERN };

/* An open brace. */
struct brace {
	size_t pos;            /* of the '{' */
	uint16_t split;        /* the choice between this alternative and the next */
	uint16_t jumps;        /* last jump to the end; each holds the one before in a; NONE ends the list */
	enum where before;     /* where the alternatives begin */
	enum where after;      /* the least of where they end */
};

struct parser {
	struct glob_prog *g;
	const char *p;
	size_t n, i;
	enum where where;
	struct brace *brace;
	size_t braces, braces_cap;
	struct err *e;
};

#define NONE UINT16_MAX

static int
bad(struct parser *ps, size_t pos, const char *why)
{
	err_set(ps->e, ERR_INVALID_JOB, "file pattern: %s at byte %zu", why, pos);
	ps->e->pos = (long long)pos;
	return -1;
}

static uint16_t
emit(struct parser *ps, enum glob_op op, uint32_t c, size_t a, size_t b)
{
	struct glob_inst *in = &ps->g->inst[ps->g->insts];

	*in = (struct glob_inst){ .op = op, .c = c, .a = (uint16_t)a, .b = (uint16_t)b };
	if (op != GLOB_SPLIT && op != GLOB_JUMP)
		ps->g->places++;
	return (uint16_t)ps->g->insts++;
}

/* An instruction that reads one character and goes on behind itself. */
static void
emit_one(struct parser *ps, enum glob_op op, uint32_t c)
{
	emit(ps, op, c, ps->g->insts + 1, 0);
}

static void
emit_loop(struct parser *ps, enum glob_op op)
{
	size_t at = ps->g->insts;

	emit(ps, GLOB_SPLIT, 0, at + 1, at + 2);
	emit(ps, op, 0, at, 0);
}

/* Takes the next character of the pattern. */
static uint32_t
take(struct parser *ps)
{
	uint32_t c;
	int k = utf8_step(ps->p + ps->i, ps->n - ps->i, &c);

	if (k < 0) {
		c = GLOB_BYTE((unsigned char)ps->p[ps->i]);
		k = 1;
	}
	ps->i += (size_t)k;
	return c;
}

static bool
is_letter(uint32_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void
literal(struct parser *ps)
{
	struct glob_prog *g = ps->g;
	size_t from = ps->i;
	uint32_t c = take(ps);

	if (c == '/' && ps->where == BEGIN_PATTERN) {
		ps->where = BEGIN_COMPONENT;
		g->wants_path = true;
		return;
	}
	emit_one(ps, GLOB_CHAR, c);
	/* A prefix is compared byte by byte, so a letter whose case does not matter ends it. */
	if (g->prefix == g->lit_len && !g->stars && !g->others &&
	    !(g->ignore_case && is_letter(c)))
		g->prefix += ps->i - from;
	memcpy(g->lit + g->lit_len, ps->p + from, ps->i - from);
	g->lit_len += ps->i - from;
	if (!g->stars)
		g->star_at = g->lit_len;
	ps->where = c == '/' ? BEGIN_COMPONENT : MIDDLE;
	if (c == '/')
		g->wants_path = true;
}

static void
stars(struct parser *ps)
{
	size_t from = ps->i, at = ps->g->insts;
	bool begins = ps->where != MIDDLE;

	while (ps->i < ps->n && ps->p[ps->i] == '*')
		ps->i++;
	ps->where = MIDDLE;
	if (ps->i - from == 1) {
		ps->g->stars++;
		emit_loop(ps, GLOB_ANY);
		return;
	}
	ps->g->others++;
	if (!begins || ps->i == ps->n || ps->p[ps->i] != '/') {
		emit_loop(ps, GLOB_ALL);
		return;
	}
	/* Any number of directories, none too. */
	ps->i++;
	emit(ps, GLOB_SPLIT, 0, at + 1, at + 4);
	emit_loop(ps, GLOB_ALL);
	emit_one(ps, GLOB_CHAR, '/');
	ps->g->wants_path = true;
	ps->where = BEGIN_COMPONENT;
}

static void
add_range(struct glob_prog *g, uint32_t lo, uint32_t hi)
{
	if (g->ranges == g->ranges_cap) {
		g->ranges_cap = g->ranges_cap ? g->ranges_cap * 2 : 16;
		g->range = xreallocarray(g->range, g->ranges_cap, sizeof(*g->range));
	}
	g->range[g->ranges++] = (struct glob_range){ lo, hi };
}

/* One character of a class, escaped or not. */
static int
class_char(struct parser *ps, size_t open, uint32_t *c)
{
	if (ps->i < ps->n && ps->p[ps->i] == '\\')
		ps->i++;
	if (ps->i >= ps->n)
		return bad(ps, open, "'[' without ']'");
	*c = take(ps);
	return 0;
}

static int
class_item(struct parser *ps, size_t open)
{
	size_t from = ps->i;
	uint32_t lo, hi;

	if (class_char(ps, open, &lo))
		return -1;
	hi = lo;
	if (ps->i + 1 < ps->n && ps->p[ps->i] == '-' && ps->p[ps->i + 1] != ']') {
		ps->i++;
		if (class_char(ps, open, &hi))
			return -1;
	}
	if (hi < lo || (lo < GLOB_BYTE(0) && hi >= GLOB_BYTE(0)))
		return bad(ps, from, "range ends before it begins");
	add_range(ps->g, lo, hi);
	return 0;
}

static int
class(struct parser *ps)
{
	struct glob_prog *g = ps->g;
	struct glob_set set = { .from = g->ranges };
	size_t open = ps->i++;

	if (ps->i < ps->n && (ps->p[ps->i] == '!' || ps->p[ps->i] == '^')) {
		set.negated = true;
		ps->i++;
	}
	/* A ']' that comes first is one of the characters. */
	do {
		if (class_item(ps, open))
			return -1;
		if (ps->i >= ps->n)
			return bad(ps, open, "'[' without ']'");
	} while (ps->p[ps->i] != ']');
	ps->i++;
	set.n = g->ranges - set.from;
	if (g->sets == g->sets_cap) {
		g->sets_cap = g->sets_cap ? g->sets_cap * 2 : 4;
		g->set = xreallocarray(g->set, g->sets_cap, sizeof(*g->set));
	}
	g->set[g->sets] = set;
	emit_one(ps, GLOB_SET, (uint32_t)g->sets++);
	g->others++;
	ps->where = MIDDLE;
	return 0;
}

static void
open_brace(struct parser *ps)
{
	struct brace *b;

	if (ps->braces == ps->braces_cap) {
		ps->braces_cap = ps->braces_cap ? ps->braces_cap * 2 : 8;
		ps->brace = xreallocarray(ps->brace, ps->braces_cap, sizeof(*ps->brace));
	}
	b = &ps->brace[ps->braces++];
	*b = (struct brace){ ps->i++, 0, NONE, ps->where, BEGIN_PATTERN };
	b->split = emit(ps, GLOB_SPLIT, 0, ps->g->insts + 1, 0);
	ps->g->others++;
}

static void
end_alternative(struct parser *ps, struct brace *b)
{
	b->jumps = emit(ps, GLOB_JUMP, 0, b->jumps, 0);
	if (ps->where < b->after)
		b->after = ps->where;
}

static void
comma(struct parser *ps)
{
	struct brace *b = &ps->brace[ps->braces - 1];

	ps->i++;
	end_alternative(ps, b);
	ps->g->inst[b->split].b = (uint16_t)ps->g->insts;
	b->split = emit(ps, GLOB_SPLIT, 0, ps->g->insts + 1, 0);
	ps->where = b->before;
}

static void
close_brace(struct parser *ps)
{
	struct brace *b = &ps->brace[--ps->braces];
	struct glob_inst *inst = ps->g->inst;
	uint16_t jump, before;

	ps->i++;
	end_alternative(ps, b);
	/* The last alternative has no other beside it. */
	inst[b->split].b = inst[b->split].a;
	for (jump = b->jumps; jump != NONE; jump = before) {
		before = inst[jump].a;
		inst[jump].a = (uint16_t)ps->g->insts;
	}
	ps->where = b->after;
}

static int
element(struct parser *ps)
{
	switch (ps->p[ps->i]) {
	case '*':
		stars(ps);
		return 0;
	case '?':
		ps->i++;
		emit_one(ps, GLOB_ANY, 0);
		ps->g->others++;
		ps->where = MIDDLE;
		return 0;
	case '[':
		return class(ps);
	case '{':
		open_brace(ps);
		return 0;
	case '\\':
		if (ps->i + 1 == ps->n)
			return bad(ps, ps->i, "backslash at the end");
		ps->i++;
		break;
	default:
		if (ps->braces && ps->p[ps->i] == ',') {
			comma(ps);
			return 0;
		}
		if (ps->braces && ps->p[ps->i] == '}') {
			close_brace(ps);
			return 0;
		}
	}
	literal(ps);
	return 0;
}

/* classes of characters */

static bool
in_ranges(const struct glob_prog *g, const struct glob_set *s, uint32_t c)
{
	for (size_t i = 0; i < s->n; i++)
		if (c >= g->range[s->from + i].lo && c <= g->range[s->from + i].hi)
			return true;
	return false;
}

static bool
in_set(const struct glob_prog *g, const struct glob_set *s, uint32_t c)
{
	bool in = in_ranges(g, s, c) ||
	    (g->ignore_case && is_letter(c) && in_ranges(g, s, c ^ 0x20));

	return c != '/' && in != s->negated;
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static void
add_bound(struct glob_prog *g, uint32_t c)
{
	g->bound[g->bounds++] = c;
}

/* A character of its own: begins at c, and something else begins after it. */
static void
bound_char(struct glob_prog *g, uint32_t c)
{
	add_bound(g, c);
	add_bound(g, c + 1);
}

static void
bound_all(struct glob_prog *g)
{
	/* At most 2 for each place and range, 4 where case is ignored; and what is said below. */
	g->bound = xreallocarray(NULL, 4 * (g->insts + g->ranges) + 128, sizeof(*g->bound));
	add_bound(g, 0);
	bound_char(g, '/');
	add_bound(g, GLOB_BYTE(0));
	for (size_t i = 0; i < g->insts; i++) {
		if (g->inst[i].op != GLOB_CHAR)
			continue;
		bound_char(g, g->inst[i].c);
		if (g->ignore_case && is_letter(g->inst[i].c))
			bound_char(g, g->inst[i].c ^ 0x20);
	}
	for (size_t i = 0; i < g->ranges; i++) {
		add_bound(g, g->range[i].lo);
		add_bound(g, g->range[i].hi + 1);
	}
	for (uint32_t c = 'A'; g->ignore_case && g->ranges && c <= 'Z'; c++) {
		add_bound(g, c);
		add_bound(g, c ^ 0x20);
	}
	if (g->ignore_case && g->ranges) {
		add_bound(g, 'Z' + 1);
		add_bound(g, 'z' + 1);
	}
}

static void
sort_bounds(struct glob_prog *g)
{
	size_t n = 0;

	qsort(g->bound, g->bounds, sizeof(*g->bound), by_value);
	for (size_t i = 0; i < g->bounds; i++)
		if (!n || g->bound[n - 1] != g->bound[i])
			g->bound[n++] = g->bound[i];
	g->bounds = n;
}

static size_t
interval(const struct glob_prog *g, uint32_t c)
{
	size_t lo = 0, hi = g->bounds;

	while (hi - lo > 1) {
		size_t mid = (lo + hi) / 2;

		if (g->bound[mid] <= c)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/*
 * Gives every interval a class. Class 0 is all that the pattern does not speak of; a letter that stands for
 * both cases is in one class with its twin.
 */
static void
make_classes(struct glob_prog *g)
{
	bool *spoken;

	bound_all(g);
	sort_bounds(g);
	g->class_of = xcalloc(g->bounds, sizeof(*g->class_of));
	g->sample = xcalloc(g->bounds + 1, sizeof(*g->sample));
	spoken = xcalloc(g->bounds, sizeof(*spoken));
	spoken[interval(g, '/')] = true;
	for (size_t i = 0; i < g->insts; i++) {
		if (g->inst[i].op != GLOB_CHAR)
			continue;
		spoken[interval(g, g->inst[i].c)] = true;
		if (g->ignore_case && is_letter(g->inst[i].c))
			spoken[interval(g, g->inst[i].c ^ 0x20)] = true;
	}
	for (size_t i = 0; i < g->ranges; i++) {
		size_t to = interval(g, g->range[i].hi);

		for (size_t k = interval(g, g->range[i].lo); k <= to; k++)
			spoken[k] = true;
	}
	for (uint32_t c = 0; c < 128; c++)
		if (g->ignore_case && is_letter(c) && spoken[interval(g, c)])
			spoken[interval(g, c ^ 0x20)] = true;
	g->classes = 1;
	for (size_t i = 0; i < g->bounds; i++) {
		uint32_t c = g->bound[i];

		if (!spoken[i]) {
			g->sample[0] = c;
		} else if (g->ignore_case && c >= 'a' && c <= 'z') {
			g->class_of[i] = g->class_of[interval(g, c ^ 0x20)];
		} else {
			g->sample[g->classes] = c;
			g->class_of[i] = (uint16_t)g->classes++;
		}
	}
	for (uint32_t c = 0; c < 128; c++)
		g->ascii[c] = g->class_of[interval(g, c)];
	free(spoken);
}

uint16_t
glob_prog_class(const struct glob_prog *g, uint32_t c)
{
	return g->class_of[interval(g, c)];
}

uint16_t
glob_next_class(const struct glob_prog *g, const char *s, size_t n, size_t *k)
{
	unsigned char c = (unsigned char)*s;
	uint32_t cp;
	int len;

	*k = 1;
	if (c < 0x80)
		return g->ascii[c];
	len = utf8_step(s, n, &cp);
	if (len < 0)
		return glob_prog_class(g, GLOB_BYTE(c));
	*k = (size_t)len;
	return glob_prog_class(g, cp);
}

bool
glob_prog_reads(const struct glob_prog *g, const struct glob_inst *in, uint16_t cls)
{
	uint32_t c = g->sample[cls];

	if (in->op == GLOB_ALL)
		return true;
	if (in->op == GLOB_ANY)
		return c != '/';
	if (in->op == GLOB_SET)
		return in_set(g, &g->set[in->c], c);
	return c == in->c || (g->ignore_case && is_letter(c) && (c ^ 0x20) == in->c);
}

int
glob_prog_init(struct glob_prog *g, const char *p, size_t n, bool ignore_case, struct err *e)
{
	struct parser ps = { .g = g, .p = p, .n = n, .where = BEGIN_PATTERN, .e = e };
	int rc = 0;

	*g = (struct glob_prog){ .ignore_case = ignore_case };
	if (n > GLOB_MAX)
		return bad(&ps, GLOB_MAX, "more than 4096 bytes");
	if (!n)
		return bad(&ps, 0, "empty");
	for (size_t i = 0; i < n; i++)
		if (!p[i] || p[i] == '\r' || p[i] == '\n')
			return bad(&ps, i, "NUL or end of line");
	/* No byte makes more than two instructions, and one ends the program. */
	g->inst = xcalloc(2 * n + 1, sizeof(*g->inst));
	g->lit = xcalloc(n + 1, 1);
	while (!rc && ps.i < n)
		rc = element(&ps);
	if (!rc && ps.braces)
		rc = bad(&ps, ps.brace[ps.braces - 1].pos, "'{' without '}'");
	free(ps.brace);
	if (rc) {
		glob_prog_release(g);
		return -1;
	}
	emit(&ps, GLOB_MATCH, 0, 0, 0);
	make_classes(g);
	return 0;
}

void
glob_prog_release(struct glob_prog *g)
{
	free(g->inst);
	free(g->set);
	free(g->range);
	free(g->bound);
	free(g->class_of);
	free(g->sample);
	free(g->lit);
}

/* what is reached without reading */

void
glob_reach_init(struct glob_reach *r, const struct glob_prog *g)
{
	r->set = xcalloc(g->insts, sizeof(uint16_t));
	/* Each instruction is looked at once and names at most two more. */
	r->stack = xcalloc(2 * g->insts + 1, sizeof(uint16_t));
	r->mark = xcalloc(g->insts, sizeof(uint32_t));
	r->round = 1;
	r->n = 0;
}

void
glob_reach_release(struct glob_reach *r)
{
	free(r->set);
	free(r->stack);
	free(r->mark);
}

void
glob_reach_clear(struct glob_reach *r, const struct glob_prog *g)
{
	r->n = 0;
	if (!++r->round) {
		memset(r->mark, 0, g->insts * sizeof(*r->mark));
		r->round = 1;
	}
}

void
glob_reach_add(struct glob_reach *r, const struct glob_prog *g, uint16_t pc)
{
	size_t n = 0;

	r->stack[n++] = pc;
	while (n) {
		const struct glob_inst *in;

		pc = r->stack[--n];
		if (r->mark[pc] == r->round)
			continue;
		r->mark[pc] = r->round;
		in = &g->inst[pc];
		if (in->op == GLOB_SPLIT) {
			r->stack[n++] = in->b;
			r->stack[n++] = in->a;
		} else if (in->op == GLOB_JUMP) {
			r->stack[n++] = in->a;
		} else {
			r->set[r->n++] = pc;
		}
	}
}
