/*
 * glob.c - file patterns, matched in time linear in the name.
 *
 * Used by filter.c for every source. The pattern becomes a
 * small program (glob_prog.c); the matcher runs it as an automaton over classes of characters, made state by
 * state as names need them and kept within bounds. Patterns that would need too many states are followed by
 * bits instead. Never backtracks, never recurses. One thread a glob.
 */
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/glob.h"
#include "common/glob_prog.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define STATES_MAX 256         /* kept at a time */
#define CELLS_MAX (64 * 1024)  /* bound on states x classes, and on the places that the states hold */
#define STATES_MIN 4
#define BITS 64                /* patterns of at most so many places can be followed by bits */
#define THRASH 16              /* fewer steps than this for each state made: the cache does not pay */

#define DEAD 0                 /* the state without a place */
#define UNKNOWN UINT16_MAX

/* A state: the places of the program that may read the next character. */
struct state {
	uint16_t *places;      /* sorted by when they were found; n of them */
	uint16_t n;
	bool accepts;
	uint32_t hash;
	uint16_t *next;        /* by class; UNKNOWN until asked for */
};

/* Patterns with at most one star need no automaton. */
enum simple { SIMPLE_NO, SIMPLE_LITERAL, SIMPLE_STAR };

struct glob {
	struct glob_prog prog;
	enum simple simple;
	size_t head;           /* simple: bytes of prog.lit before the star */
	uint16_t ascii[128];   /* class of each ASCII character */

	struct state state[STATES_MAX];
	size_t states, states_max, places;
	uint16_t first;        /* state before the first character */
	uint16_t slot[2 * STATES_MAX]; /* hash table of states; UNKNOWN is free */
	uint64_t steps, made;  /* since the last flush */

	/* scratch: a sparse set of places, and a stack */
	uint16_t *set, *stack;
	uint32_t *mark, round; /* mark[pc] == round: pc was seen */
	size_t set_n;

	/* by bits; follow is NULL until the automaton was found not to pay */
	bool by_bits;
	uint16_t bit_of[BITS];
	uint64_t start_bits, match_bits;
	uint64_t (*follow)[256]; /* [byte of the set][its value]: where its places lead */
	uint64_t *reads;       /* by class: the places that take it */
};

/* the automaton */

/* Adds pc and all that is reached from it without reading. */
static void
reach(struct glob *g, uint16_t pc)
{
	size_t n = 0;

	g->stack[n++] = pc;
	while (n) {
		const struct glob_inst *in;

		pc = g->stack[--n];
		if (g->mark[pc] == g->round)
			continue;
		g->mark[pc] = g->round;
		in = &g->prog.inst[pc];
		if (in->op == GLOB_SPLIT) {
			g->stack[n++] = in->b;
			g->stack[n++] = in->a;
		} else if (in->op == GLOB_JUMP) {
			g->stack[n++] = in->a;
		} else {
			g->set[g->set_n++] = pc;
		}
	}
}

static void
new_set(struct glob *g)
{
	g->set_n = 0;
	if (!++g->round) {
		memset(g->mark, 0, g->prog.insts * sizeof(*g->mark));
		g->round = 1;
	}
}

static void
flush(struct glob *g)
{
	for (size_t i = 0; i < g->states; i++) {
		free(g->state[i].places);
		free(g->state[i].next);
	}
	g->states = g->places = 0;
	g->steps = g->made = 0;
	memset(g->slot, 0xff, sizeof(g->slot));
}

static uint16_t
add_state(struct glob *g, uint32_t hash)
{
	struct state *s = &g->state[g->states];
	size_t n = g->prog.classes;

	*s = (struct state){ .n = (uint16_t)g->set_n, .hash = hash };
	s->places = xreallocarray(NULL, g->set_n, sizeof(uint16_t));
	if (g->set_n)
		memcpy(s->places, g->set, g->set_n * sizeof(uint16_t));
	for (size_t i = 0; i < g->set_n; i++)
		if (g->prog.inst[g->set[i]].op == GLOB_MATCH)
			s->accepts = true;
	s->next = xreallocarray(NULL, n, sizeof(uint16_t));
	memset(s->next, 0xff, n * sizeof(uint16_t));
	g->places += g->set_n;
	g->made++;
	return (uint16_t)g->states++;
}

/* The state of the set at hand; it is made if it is new and there is room, else UNKNOWN. */
static uint16_t
state_of_set(struct glob *g)
{
	uint32_t h = 2166136261u, i;

	for (size_t k = 0; k < g->set_n; k++)
		h = (h ^ g->set[k]) * 16777619u;
	for (i = h % (2 * STATES_MAX); g->slot[i] != UNKNOWN; i = (i + 1) % (2 * STATES_MAX)) {
		const struct state *s = &g->state[g->slot[i]];

		if (s->hash == h && s->n == g->set_n &&
		    !memcmp(s->places, g->set, g->set_n * sizeof(uint16_t)))
			return g->slot[i];
	}
	if (g->states == g->states_max || (g->places > CELLS_MAX && g->states >= STATES_MIN))
		return UNKNOWN;
	return g->slot[i] = add_state(g, h);
}

/* An empty cache: the dead state and the first. */
static void
restart(struct glob *g)
{
	flush(g);
	new_set(g);
	state_of_set(g);
	new_set(g);
	reach(g, 0);
	g->first = state_of_set(g);
}

/*
 * Makes the state that follows `from` by a class. With no room left the cache is emptied; the set at hand
 * is then kept as one of the first states of the next.
 */
static uint16_t
step(struct glob *g, uint16_t from, uint16_t cls)
{
	const struct state *s = &g->state[from];
	uint16_t to, *keep;
	size_t n;

	new_set(g);
	for (uint16_t i = 0; i < s->n; i++) {
		const struct glob_inst *in = &g->prog.inst[s->places[i]];

		if (in->op != GLOB_MATCH && glob_prog_reads(&g->prog, in, cls))
			reach(g, in->a);
	}
	to = state_of_set(g);
	if (to != UNKNOWN) {
		g->state[from].next[cls] = to;
		return to;
	}
	if (g->prog.places <= BITS && g->steps < g->made * THRASH)
		g->by_bits = true;
	n = g->set_n;
	keep = xreallocarray(NULL, n, sizeof(uint16_t));
	memcpy(keep, g->set, n * sizeof(uint16_t));
	restart(g);
	memcpy(g->set, keep, n * sizeof(uint16_t));
	g->set_n = n;
	free(keep);
	return state_of_set(g);
}

/* Class of the next character, which is *k bytes long. */
static uint16_t
next_class(const struct glob *g, const char *s, size_t n, size_t *k)
{
	unsigned char c = (unsigned char)*s;
	uint32_t cp;
	int len;

	*k = 1;
	if (c < 0x80)
		return g->ascii[c];
	len = utf8_step(s, n, &cp);
	if (len < 0)
		return glob_prog_class(&g->prog, GLOB_BYTE(c));
	*k = (size_t)len;
	return glob_prog_class(&g->prog, cp);
}

static bool
match_states(struct glob *g, const char *s, size_t n)
{
	uint16_t at, to;
	size_t k;

	if (!g->states)
		restart(g);
	at = g->first;
	g->steps += n;
	for (size_t i = 0; i < n && at != DEAD; i += k) {
		uint16_t cls = next_class(g, s + i, n - i, &k);

		to = g->state[at].next[cls];
		at = to != UNKNOWN ? to : step(g, at, cls);
	}
	return g->state[at].accepts;
}

/* by bits */

static uint64_t
bits_of_set(const struct glob *g)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < g->set_n; i++)
		for (size_t k = 0; k < g->prog.places; k++)
			if (g->bit_of[k] == g->set[i])
				bits |= UINT64_C(1) << k;
	return bits;
}

static void
make_bits(struct glob *g)
{
	const struct glob_prog *p = &g->prog;
	size_t n = 0, bytes = (p->places + 7) / 8;
	uint64_t lead[BITS] = { 0 };

	for (size_t pc = 0; pc < p->insts; pc++)
		if (p->inst[pc].op != GLOB_SPLIT && p->inst[pc].op != GLOB_JUMP)
			g->bit_of[n++] = (uint16_t)pc;
	g->reads = xcalloc(p->classes, sizeof(uint64_t));
	g->follow = xcalloc(bytes, sizeof(*g->follow));
	new_set(g);
	reach(g, 0);
	g->start_bits = bits_of_set(g);
	for (size_t k = 0; k < n; k++) {
		const struct glob_inst *in = &p->inst[g->bit_of[k]];

		if (in->op == GLOB_MATCH) {
			g->match_bits |= UINT64_C(1) << k;
			continue;
		}
		new_set(g);
		reach(g, in->a);
		lead[k] = bits_of_set(g);
		for (size_t c = 0; c < p->classes; c++)
			if (glob_prog_reads(p, in, (uint16_t)c))
				g->reads[c] |= UINT64_C(1) << k;
	}
	for (size_t byte = 0; byte < bytes; byte++)
		for (unsigned v = 1; v < 256; v++)
			g->follow[byte][v] = g->follow[byte][v & (v - 1)] |
			    lead[byte * 8 + (unsigned)__builtin_ctz(v)];
}

static bool
match_bits(struct glob *g, const char *s, size_t n)
{
	size_t k, bytes = (g->prog.places + 7) / 8;
	uint64_t at, took;

	if (!g->follow)
		make_bits(g);
	at = g->start_bits;
	for (size_t i = 0; i < n && at; i += k) {
		took = at & g->reads[next_class(g, s + i, n - i, &k)];
		at = 0;
		for (size_t byte = 0; byte < bytes; byte++, took >>= 8)
			at |= g->follow[byte][took & 255];
	}
	return at & g->match_bits;
}

/* the public side */

static bool
match_simple(const struct glob *g, const char *s, size_t n)
{
	const char *lit = g->prog.lit;
	size_t len = g->prog.lit_len, tail = len - g->head;

	if (n < len || (g->simple == SIMPLE_LITERAL && n > len))
		return false;
	if (memcmp(s + n - tail, lit + g->head, tail) || memcmp(s, lit, g->head))
		return false;
	return g->simple == SIMPLE_LITERAL || !memchr(s + g->head, '/', n - len);
}

/*
 * Literal text with at most one star. The text must be whole characters: then comparing bytes is the same as
 * comparing characters.
 */
static enum simple
simple_form(struct glob *g)
{
	const struct glob_prog *p = &g->prog;

	if (p->ignore_case || p->others || p->stars > 1)
		return SIMPLE_NO;
	if (!utf8_valid(p->lit, p->star_at) ||
	    !utf8_valid(p->lit + p->star_at, p->lit_len - p->star_at))
		return SIMPLE_NO;
	g->head = p->star_at;
	return p->stars ? SIMPLE_STAR : SIMPLE_LITERAL;
}

struct glob *
glob_new(const char *pattern, size_t n, bool ignore_case, struct err *e)
{
	struct glob *g = xcalloc(1, sizeof(*g));
	size_t max;

	if (glob_prog_init(&g->prog, pattern, n, ignore_case, e)) {
		free(g);
		return NULL;
	}
	g->simple = simple_form(g);
	if (g->simple != SIMPLE_NO)
		return g;
	for (uint32_t c = 0; c < 128; c++)
		g->ascii[c] = glob_prog_class(&g->prog, c);
	max = CELLS_MAX / g->prog.classes;
	g->states_max = max < STATES_MIN ? STATES_MIN : max > STATES_MAX ? STATES_MAX : max;
	g->set = xcalloc(g->prog.insts, sizeof(uint16_t));
	g->stack = xcalloc(2 * g->prog.insts + 2, sizeof(uint16_t));
	g->mark = xcalloc(g->prog.insts, sizeof(uint32_t));
	return g;
}

void
glob_free(struct glob *g)
{
	if (!g)
		return;
	flush(g);
	glob_prog_release(&g->prog);
	free(g->set);
	free(g->stack);
	free(g->mark);
	free(g->follow);
	free(g->reads);
	free(g);
}

bool
glob_wants_path(const struct glob *g)
{
	return g->prog.wants_path;
}

bool
glob_match(struct glob *g, const char *s, size_t n)
{
	if (g->simple != SIMPLE_NO)
		return match_simple(g, s, n);
	return g->by_bits ? match_bits(g, s, n) : match_states(g, s, n);
}

bool
glob_match_entry(struct glob *g, const char *rel, size_t n)
{
	const char *slash = g->prog.wants_path ? NULL : memrchr(rel, '/', n);

	if (slash) {
		n -= (size_t)(slash + 1 - rel);
		rel = slash + 1;
	}
	return glob_match(g, rel, n);
}

size_t
glob_prefix(const struct glob *g, const char **p)
{
	*p = g->prog.lit;
	return g->prog.prefix;
}
