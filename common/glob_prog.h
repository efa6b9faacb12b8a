/*
 * glob_prog.h - what a file pattern is compiled to; between glob_prog.c, glob_bits.c and glob.c only.
 *
 * A character is a code point, or one byte (GLOB_BYTE) where the name is not well-formed UTF-8. Characters that no
 * place of the pattern tells apart are one class, so that an automaton needs one column for all of them.
 */
#ifndef COMMON_GLOB_PROG_H
#define COMMON_GLOB_PROG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define GLOB_BYTE(b) (UINT32_C(0x110000) + (b))
#define GLOB_CHAR_END (UINT32_C(0x110100))

enum glob_op {
	GLOB_CHAR,   /* reads the character c */
	GLOB_SET,    /* reads a character of set c */
	GLOB_ANY,    /* reads anything but '/' */
	GLOB_ALL,    /* reads anything */
	GLOB_SPLIT,  /* goes on at a and at b */
	GLOB_JUMP,   /* goes on at a */
	GLOB_MATCH,
};

struct glob_inst {
	enum glob_op op;
	uint32_t c;
	uint16_t a, b;
};

struct glob_range { uint32_t lo, hi; };

/* [a-z]: ranges from..from+n of prog.range */
struct glob_set {
	size_t from, n;
	bool negated;
};

struct glob_prog {
	struct glob_inst *inst;
	size_t insts;
	size_t places;          /* instructions that read, and the match */
	struct glob_set *set;
	size_t sets, sets_cap;
	struct glob_range *range;
	size_t ranges, ranges_cap;
	bool ignore_case;
	bool wants_path;

	uint32_t *bound;        /* sorted: interval i of characters is bound[i]..bound[i+1]-1 */
	uint16_t *class_of;     /* by interval */
	uint32_t *sample;       /* by class: one of its characters */
	uint16_t ascii[128];    /* class of each ASCII character, to save the search */
	size_t bounds, classes;

	char *lit;              /* the literal bytes in order, without escapes */
	size_t lit_len;
	size_t prefix;          /* lit bytes before anything that is not literal */
	size_t star_at;         /* lit bytes before the first star; all of them if there is none */
	size_t stars, others;   /* how many '*', and how much else that is not literal */
};

int glob_prog_init(struct glob_prog *, const char *pattern, size_t n, bool ignore_case, struct err *);
void glob_prog_release(struct glob_prog *);
uint16_t glob_prog_class(const struct glob_prog *, uint32_t c);
/* Does this instruction read the characters of a class? */
bool glob_prog_reads(const struct glob_prog *, const struct glob_inst *, uint16_t cls);

/* A set of places that is being put together. */
struct glob_reach {
	uint16_t *set;         /* in the order in which they were found */
	size_t n;
	uint16_t *stack;
	uint32_t *mark, round; /* mark[pc] == round: pc was seen */
};

void glob_reach_init(struct glob_reach *, const struct glob_prog *);
void glob_reach_release(struct glob_reach *);
void glob_reach_clear(struct glob_reach *, const struct glob_prog *);
/* Adds pc, or where nothing is read there all places that are reached from it without reading. */
void glob_reach_add(struct glob_reach *, const struct glob_prog *, uint16_t pc);

/* glob_bits.c: the same answers without states to keep; NULL where the program is too large for it. */
struct glob_bits;

struct glob_bits *glob_bits_new(const struct glob_prog *, struct glob_reach *);
void glob_bits_free(struct glob_bits *);
bool glob_bits_match(const struct glob_bits *, const struct glob_prog *, const char *s, size_t n);

/* Class of the character that s begins with, which is *k bytes long. */
uint16_t glob_next_class(const struct glob_prog *, const char *s, size_t n, size_t *k);

#endif
