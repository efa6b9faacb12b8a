/*
 * glob.c - fuzz target of the file patterns. The input is a pattern, a line end, and a name; the first byte chooses
 * whether case is ignored. What must hold: no crash, an error has its position, the answer is the same when it is
 * asked again or found by bits, a match begins with the prefix, and the name that the pattern spells literally is matched.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/glob.h"
#include "common/glob_prog.h"
#include "common/xalloc.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_match(struct glob *g, const char *s, size_t n)
{
	bool first = glob_match(g, s, n);
	const char *prefix;
	size_t len = glob_prefix(g, &prefix);

	if (glob_match(g, s, n) != first)
		BUG("two answers for one name");
	if (first && (n < len || memcmp(s, prefix, len)))
		BUG("a match without the prefix");
}

/* The automaton and the bits are two ways to one answer. */
static void
check_bits(struct glob *g, const char *pattern, size_t pattern_n, bool fold, const char *s, size_t n)
{
	struct err e = ERR_INIT;
	struct glob_prog prog;
	struct glob_reach reach;
	struct glob_bits *bits;

	if (glob_prog_init(&prog, pattern, pattern_n, fold, &e))
		BUG("a pattern is taken once only");
	glob_reach_init(&reach, &prog);
	bits = glob_bits_new(&prog, &reach);
	if (bits && glob_bits_match(bits, &prog, s, n) != glob_match(g, s, n))
		BUG("bits and states differ");
	glob_bits_free(bits);
	glob_reach_release(&reach);
	glob_prog_release(&prog);
}

/* Every byte behind a backslash is the pattern of just this text. */
static void
check_literal(const char *s, size_t n, bool fold)
{
	struct err e = ERR_INIT;
	char *p = xmalloc(2 * n);
	size_t m = 0;
	struct glob *g;

	for (size_t i = 0; i < n; i++) {
		/* before whole characters only: what follows their first byte is not escaped */
		if ((s[i] & 0x80) == 0)
			p[m++] = '\\';
		p[m++] = s[i];
	}
	g = glob_new(p, m, fold, &e);
	if (g && s[0] != '/' && !glob_match(g, s, n))
		BUG("a literal does not match itself");
	glob_free(g);
	free(p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *pattern = (const char *)data + 1, *end, *name;
	struct err e = ERR_INIT;
	struct glob *g;
	size_t pattern_n, name_n;

	if (n < 2 || !(end = memchr(pattern, '\n', n - 1)))
		return 0;
	pattern_n = (size_t)(end - pattern);
	name = end + 1;
	name_n = n - 2 - pattern_n;
	g = glob_new(pattern, pattern_n, data[0] & 1, &e);
	if (!g && (e.cls != ERR_INVALID_JOB || e.pos < 0 || e.pos > (long long)pattern_n))
		BUG("an error without its position");
	if (g) {
		check_match(g, name, name_n);
		check_bits(g, pattern, pattern_n, data[0] & 1, name, name_n);
	}
	glob_free(g);
	if (name_n)
		check_literal(name, name_n, data[0] & 1);
	return 0;
}
