/*
 * glob.c - file patterns, matched in time linear in the name.
 *
 * Used by filter.c for every source. The pattern becomes a
 * small program (glob_prog.c); the matcher runs it as an automaton over classes of characters, made state by
 * state as names need them and kept within bounds. Patterns that would need too many states are followed by
 * bits instead (glob_bits.c). Never backtracks, never recurses. One thread a glob.
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

	struct state state[STATES_MAX];
	size_t states, states_max, places;
	uint16_t first;        /* state before the first character */
	uint16_t slot[2 * STATES_MAX]; /* hash table of states; UNKNOWN is free */
	uint64_t steps, made;  /* since the last flush */

	struct glob_reach reach;  /* the set at hand */
	struct glob_bits *bits;   /* NULL until the automaton was found not to pay */
	bool bits_tried;
};

/* the automaton */

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
	const struct glob_reach *r = &g->reach;
	struct state *s = &g->state[g->states];
	size_t n = g->prog.classes;

	*s = (struct state){ .n = (uint16_t)r->n, .hash = hash };
	s->places = xreallocarray(NULL, r->n, sizeof(uint16_t));
	if (r->n)
		memcpy(s->places, r->set, r->n * sizeof(uint16_t));
	for (size_t i = 0; i < r->n; i++)
		if (g->prog.inst[r->set[i]].op == GLOB_MATCH)
			s->accepts = true;
	s->next = xreallocarray(NULL, n, sizeof(uint16_t));
	memset(s->next, 0xff, n * sizeof(uint16_t));
	g->places += r->n;
	g->made++;
	return (uint16_t)g->states++;
}

/* The state of the set at hand; it is made if it is new and there is room, else UNKNOWN. */
static uint16_t
state_of_set(struct glob *g)
{
	const struct glob_reach *r = &g->reach;
	uint32_t h = 2166136261u, i;

	for (size_t k = 0; k < r->n; k++)
		h = (h ^ r->set[k]) * 16777619u;
	for (i = h % (2 * STATES_MAX); g->slot[i] != UNKNOWN; i = (i + 1) % (2 * STATES_MAX)) {
		const struct state *s = &g->state[g->slot[i]];

		if (s->hash == h && s->n == r->n &&
		    !memcmp(s->places, r->set, r->n * sizeof(uint16_t)))
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
	glob_reach_clear(&g->reach, &g->prog);
	state_of_set(g);
	glob_reach_add(&g->reach, &g->prog, 0);
	g->first = state_of_set(g);
}

/* With no room left the cache is emptied; the set at hand is kept as one of the first states of the next. */
static uint16_t
make_room(struct glob *g)
{
	size_t n = g->reach.n;
	uint16_t *keep = xreallocarray(NULL, n, sizeof(uint16_t));

	if (!g->bits_tried && g->steps < g->made * THRASH) {
		struct glob_reach r;

		glob_reach_init(&r, &g->prog);
		g->bits = glob_bits_new(&g->prog, &r);
		g->bits_tried = true;
		glob_reach_release(&r);
	}
	memcpy(keep, g->reach.set, n * sizeof(uint16_t));
	restart(g);
	memcpy(g->reach.set, keep, n * sizeof(uint16_t));
	g->reach.n = n;
	free(keep);
	return state_of_set(g);
}

/* Makes the state that follows `from` by a class. */
static uint16_t
step(struct glob *g, uint16_t from, uint16_t cls)
{
	const struct state *s = &g->state[from];
	uint16_t to;

	glob_reach_clear(&g->reach, &g->prog);
	for (uint16_t i = 0; i < s->n; i++) {
		const struct glob_inst *in = &g->prog.inst[s->places[i]];

		if (in->op != GLOB_MATCH && glob_prog_reads(&g->prog, in, cls))
			glob_reach_add(&g->reach, &g->prog, in->a);
	}
	to = state_of_set(g);
	if (to == UNKNOWN)
		return make_room(g);
	g->state[from].next[cls] = to;
	return to;
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
		uint16_t cls = glob_next_class(&g->prog, s + i, n - i, &k);

		to = g->state[at].next[cls];
		at = to != UNKNOWN ? to : step(g, at, cls);
	}
	return g->state[at].accepts;
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
	max = CELLS_MAX / g->prog.classes;
	g->states_max = max < STATES_MIN ? STATES_MIN : max > STATES_MAX ? STATES_MAX : max;
	glob_reach_init(&g->reach, &g->prog);
	return g;
}

void
glob_free(struct glob *g)
{
	if (!g)
		return;
	flush(g);
	glob_prog_release(&g->prog);
	glob_reach_release(&g->reach);
	glob_bits_free(g->bits);
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
	if (g->bits)
		return glob_bits_match(g->bits, &g->prog, s, n);
	return match_states(g, s, n);
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
