/*
 * glob_bits.c - follows a file pattern by bits, one for each place of its program.
 *
 * Called by glob.c once an automaton was seen to need ever new states. Places stand in the order of the pattern,
 * so that most lead to themselves, the next or the next but one: those moves are shifts of the whole set. The
 * others, mostly at the ends of braces, are looked up one by one. The cost of a character does not depend on the
 * names that came before.
 */
#include <stdlib.h>
#include <string.h>

#include "common/glob_prog.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define WORDS_MAX 16                   /* of 64 places */
#define CELLS_MAX (16 * 1024)          /* bound on classes x words */
#define SHIFTS 3

struct glob_bits {
	size_t words;
	uint64_t start[WORDS_MAX], match[WORDS_MAX];
	uint64_t shift[SHIFTS][WORDS_MAX]; /* places that lead to themselves, + 1, + 2 */
	uint64_t far[WORDS_MAX];           /* places that lead elsewhere too */
	uint64_t *lead;                    /* [place][word]: where the far ones lead */
	uint64_t *reads;                   /* [class][word]: the places that read it */
};

static void
set_bit(uint64_t *set, size_t i)
{
	set[i / 64] |= UINT64_C(1) << (i % 64);
}

/* One place that reads: which classes, and where it leads. */
static void
add_place(struct glob_bits *b, const struct glob_prog *p, struct glob_reach *r, const uint16_t *place_of,
    size_t i, const struct glob_inst *in)
{
	for (size_t c = 0; c < p->classes; c++)
		if (glob_prog_reads(p, in, (uint16_t)c))
			set_bit(b->reads + c * b->words, i);
	glob_reach_clear(r, p);
	glob_reach_add(r, p, in->a);
	for (size_t k = 0; k < r->n; k++) {
		size_t to = place_of[r->set[k]];

		if (to >= i && to - i < SHIFTS) {
			set_bit(b->shift[to - i], i);
			continue;
		}
		set_bit(b->far, i);
		set_bit(b->lead + i * b->words, to);
	}
}

struct glob_bits *
glob_bits_new(const struct glob_prog *p, struct glob_reach *r)
{
	size_t words = (p->places + 63) / 64, n = 0;
	uint16_t *place_of;
	struct glob_bits *b;

	if (words > WORDS_MAX || words * p->classes > CELLS_MAX)
		return NULL;
	b = xcalloc(1, sizeof(*b));
	b->words = words;
	b->lead = xcalloc(p->places * words, sizeof(uint64_t));
	b->reads = xcalloc(p->classes * words, sizeof(uint64_t));
	place_of = xcalloc(p->insts, sizeof(*place_of));
	for (size_t pc = 0; pc < p->insts; pc++)
		if (p->inst[pc].op != GLOB_SPLIT && p->inst[pc].op != GLOB_JUMP)
			place_of[pc] = (uint16_t)n++;
	glob_reach_clear(r, p);
	glob_reach_add(r, p, 0);
	for (size_t k = 0; k < r->n; k++)
		set_bit(b->start, place_of[r->set[k]]);
	for (size_t pc = 0; pc < p->insts; pc++) {
		const struct glob_inst *in = &p->inst[pc];

		if (in->op == GLOB_MATCH)
			set_bit(b->match, place_of[pc]);
		else if (in->op != GLOB_SPLIT && in->op != GLOB_JUMP)
			add_place(b, p, r, place_of, place_of[pc], in);
	}
	free(place_of);
	return b;
}

void
glob_bits_free(struct glob_bits *b)
{
	if (!b)
		return;
	free(b->lead);
	free(b->reads);
	free(b);
}

/* Replaces the set by what it leads to on reading the class. false: to nothing. */
static bool
move(const struct glob_bits *b, uint64_t *at, uint16_t cls)
{
	const uint64_t *reads = b->reads + cls * b->words;
	uint64_t far[WORDS_MAX], carry = 0, any = 0;

	for (size_t w = 0; w < b->words; w++) {
		uint64_t took = at[w] & reads[w];
		uint64_t one = took & b->shift[1][w], two = took & b->shift[2][w];

		at[w] = (took & b->shift[0][w]) | one << 1 | two << 2 | carry;
		carry = one >> 63 | two >> 62;
		far[w] = took & b->far[w];
		any |= at[w] | far[w];
	}
	for (size_t w = 0; w < b->words; w++) {
		for (; far[w]; far[w] &= far[w] - 1) {
			const uint64_t *lead =
			    b->lead + (w * 64 + (size_t)__builtin_ctzll(far[w])) * b->words;

			for (size_t k = 0; k < b->words; k++)
				at[k] |= lead[k];
		}
	}
	return any;
}

bool
glob_bits_match(const struct glob_bits *b, const struct glob_prog *p, const char *s, size_t n)
{
	uint64_t at[WORDS_MAX], ends = 0;
	size_t k;

	memcpy(at, b->start, sizeof(at));
	for (size_t i = 0; i < n; i += k)
		if (!move(b, at, glob_next_class(p, s + i, n - i, &k)))
			return false;
	for (size_t w = 0; w < b->words; w++)
		ends |= at[w] & b->match[w];
	return ends;
}
