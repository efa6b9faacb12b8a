/*
 * common_glob.c - unit of the file patterns: a table of what matches and what does not, bad patterns and
 * their positions, prefixes, and random patterns against a plain backtracking matcher written for this test.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/glob.h"
#include "common/glob_prog.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct {
	const char *pattern;
	const char *name;   /* a relative path, given to glob_match_entry */
	bool fold, wanted;
} rows[] = {
	{ "*", "a", 0, 1 }, { "*", "", 0, 1 }, { "*", "d/a", 0, 1 }, { "*", ".x", 0, 1 },
	{ "*.csv", "a.csv", 0, 1 }, { "*.csv", ".csv", 0, 1 }, { "*.csv", "a.csvx", 0, 0 },
	{ "*.csv", "a.CSV", 0, 0 }, { "*.csv", "a.CSV", 1, 1 }, { "*.csv", "d/e/a.csv", 0, 1 },
	{ "a*", "abc", 0, 1 }, { "a*", "bac", 0, 0 }, { "a*z", "az", 0, 1 }, { "a*z", "a", 0, 0 },
	{ "aba*aba", "aba", 0, 0 }, { "aba*aba", "abaaba", 0, 1 },
	{ "abc", "abc", 0, 1 }, { "abc", "abcd", 0, 0 }, { "abc", "ab", 0, 0 }, { "abc", "ABC", 1, 1 },
	{ "a**c", "abc", 0, 1 }, { "**", "a", 0, 1 }, { "**", "d/a", 0, 1 },
	{ "?", "a", 0, 1 }, { "?", "", 0, 0 }, { "?", "ab", 0, 0 }, { "??", "ab", 0, 1 },
	{ "?", "\xc3\xa9", 0, 1 }, { "??", "\xc3\xa9", 0, 0 }, { "?", "\xf0\x9f\x98\x80", 0, 1 },
	{ "?", "\xc3", 0, 1 }, { "??", "\xe2\x82", 0, 1 }, { "?", "\xe2\x82", 0, 0 },
	{ "??", "\xc0\xaf", 0, 1 }, { "???", "\xed\xa0\x80", 0, 1 }, { "a?b", "a\xff" "b", 0, 1 },
	{ "\xff*", "\xff" "a", 0, 1 }, { "\xff*", "\xfe" "a", 0, 0 }, { "*\xa9", "\xc3\xa9", 0, 0 },
	{ "caf\xc3\xa9*", "caf\xc3\xa9s", 0, 1 }, { "*\xc3\xa9", "\xe2\x82\xc3\xa9", 0, 1 },
	{ "[abc]", "b", 0, 1 }, { "[abc]", "d", 0, 0 }, { "[a-c]", "b", 0, 1 }, { "[a-c]", "d", 0, 0 },
	{ "[!a-c]", "d", 0, 1 }, { "[^a-c]", "b", 0, 0 }, { "[!a]", "\xc3\xa9", 0, 1 },
	{ "[!a]", "\xc3", 0, 1 }, { "[!a]", "/", 0, 0 }, { "[]]", "]", 0, 1 }, { "[!]]", "]", 0, 0 },
	{ "[a-]", "-", 0, 1 }, { "[-a]", "-", 0, 1 }, { "[\\]]", "]", 0, 1 }, { "[a\\-c]", "b", 0, 0 },
	{ "[a\\-c]", "-", 0, 1 }, { "[!!]", "!", 0, 0 }, { "[!!]", "a", 0, 1 }, { "[a^]", "^", 0, 1 },
	{ "[\xc3\xa0-\xc3\xaf]", "\xc3\xa9", 0, 1 }, { "[\xc3\xa0-\xc3\xa8]", "\xc3\xa9", 0, 0 },
	{ "[a-z]", "M", 0, 0 }, { "[a-z]", "M", 1, 1 }, { "[A-Z]", "m", 1, 1 }, { "[!a-z]", "M", 1, 0 },
	{ "[A-z]", "_", 0, 1 }, { "[Y-b]", "a", 1, 1 }, { "[Y-b]", "y", 1, 1 }, { "[Y-b]", "C", 1, 0 },
	{ "[\x80-\xff]", "\xfe", 0, 1 }, { "[\x80-\xff]", "\xc3\xa9", 0, 0 }, { "[{}]", "{", 0, 1 },
	{ "\xc3\xa9", "\xc3\x89", 1, 0 }, { "K", "\xe2\x84\xaa", 1, 0 }, { "[,]", ",", 0, 1 },
	{ "{a,b}", "a", 0, 1 }, { "{a,b}", "b", 0, 1 }, { "{a,b}", "c", 0, 0 }, { "{a,b}", "ab", 0, 0 },
	{ "x{a,}y", "xy", 0, 1 }, { "x{a,}y", "xay", 0, 1 }, { "x{}y", "xy", 0, 1 }, { "{a}", "a", 0, 1 },
	{ "{a{b,c},d}e", "ace", 0, 1 }, { "{a{b,c},d}e", "de", 0, 1 }, { "{a{b,c},d}e", "ae", 0, 0 },
	{ "*.{csv,tx?}", "a.txt", 0, 1 }, { "*.{csv,tx?}", "a.tx", 0, 0 }, { "{*,b}c", "aac", 0, 1 },
	{ "{a,b*}{c,d}", "bxxd", 0, 1 }, { "{{a,b},{c,{d,e}}}", "e", 0, 1 }, { "a,b}", "a,b}", 0, 1 },
	{ "{a\\,b,c}", "a,b", 0, 1 }, { "{[,],x}", ",", 0, 1 }, { "{**,b}", "q", 0, 1 },
	{ "\\*", "*", 0, 1 }, { "\\*", "a", 0, 0 }, { "a\\?", "a?", 0, 1 }, { "\\a", "a", 0, 1 },
	{ "\\\\", "\\", 0, 1 }, { "\\[a]", "[a]", 0, 1 }, { "\\{a,b\\}", "{a,b}", 0, 1 },
	{ "d/*.csv", "d/a.csv", 0, 1 }, { "d/*.csv", "a.csv", 0, 0 }, { "d/*.csv", "d/e/a.csv", 0, 0 },
	{ "d/*.csv", "x/d/a.csv", 0, 0 }, { "d?a", "d/a", 0, 0 }, { "d[/]a", "d/a", 0, 0 },
	{ "*/a", "d/a", 0, 1 }, { "*/a", "d/e/a", 0, 0 }, { "*/*", "a", 0, 0 }, { "d/a*b", "d/a/b", 0, 0 },
	{ "/a.csv", "a.csv", 0, 1 }, { "/a.csv", "d/a.csv", 0, 0 }, { "/*", "a", 0, 1 }, { "/*", "d/a", 0, 0 },
	{ "{/a,/b}", "b", 0, 1 }, { "{/a,/b}", "d/b", 0, 0 }, { "/", "a", 0, 0 }, { "//a", "a", 0, 0 },
	{ "**/x.csv", "x.csv", 0, 1 }, { "**/x.csv", "a/x.csv", 0, 1 }, { "**/x.csv", "a/b/x.csv", 0, 1 },
	{ "**/x.csv", "ax.csv", 0, 0 }, { "**/x.csv", "a/bx.csv", 0, 0 }, { "/**/x", "x", 0, 1 },
	{ "a/**/b", "a/b", 0, 1 }, { "a/**/b", "a/c/d/b", 0, 1 }, { "a/**/b", "ab", 0, 0 },
	{ "a/**/b", "a/cb", 0, 0 }, { "dir/**", "dir/a", 0, 1 }, { "dir/**", "dir/a/b", 0, 1 },
	{ "dir/**", "dir", 0, 0 }, { "dir/**", "e/dir/a", 0, 0 }, { "a**/b", "ac/d/b", 0, 1 },
	{ "a**/b", "ab", 0, 0 }, { "a/**b", "a/c/db", 0, 1 }, { "**/**/x", "x", 0, 1 },
	{ "{a,b}/**/c", "b/c", 0, 1 }, { "{a/,b/}**/c", "a/c", 0, 1 }, { "{**/a,b}/c", "a/c", 0, 1 },
	{ "{**/a,b}/c", "d/e/a/c", 0, 1 }, { "a***b", "axb", 0, 1 }, { "***/b", "b", 0, 1 },
	{ "*a*a*a*b", "aaab", 0, 1 }, { "*a*a*a*b", "aab", 0, 0 }, { "*a*a*a*b", "aaaba", 0, 0 },
	{ "*[0-9][0-9][0-9][0-9]-[0-9][0-9]*.csv", "r_2026-11.csv", 0, 1 },
	{ "*a??????????????????????????????????????????????????????????????????????", "aaaa", 0, 0 },
};

START_TEST(table)
{
	struct err e = ERR_INIT;
	struct glob *g = glob_new(rows[_i].pattern, strlen(rows[_i].pattern), rows[_i].fold, &e);

	ck_assert_msg(g != NULL, "'%s': %s", rows[_i].pattern, e.text);
	/* Twice: the second answer comes from what the first has kept. */
	for (int i = 0; i < 2; i++)
		ck_assert_msg(glob_match_entry(g, rows[_i].name, strlen(rows[_i].name)) ==
		    rows[_i].wanted, "'%s' and '%s'", rows[_i].pattern, rows[_i].name);
	glob_free(g);
}
END_TEST

static const struct {
	const char *pattern;
	size_t n;
	long long pos;
} wrong[] = {
	{ "", 0, 0 }, { "[", 1, 0 }, { "a[b", 3, 1 }, { "[]", 2, 0 }, { "[!", 2, 0 }, { "[!]", 3, 0 },
	{ "[a-", 3, 0 }, { "a[b\\", 4, 1 }, { "[\\]", 3, 0 }, { "x[z-a]", 6, 2 }, { "{", 1, 0 },
	{ "a{b,c", 5, 1 }, { "{a{b}", 5, 0 }, { "{a{b", 4, 2 }, { "ab\\", 3, 2 }, { "a\0b", 3, 1 },
	{ "a\nb", 3, 1 }, { "a\r", 2, 1 }, { "[a\n]", 4, 2 }, { "\\\n", 2, 1 }, { "[a-\xff]", 5, 1 },
};

START_TEST(bad_patterns)
{
	struct err e = ERR_INIT;
	struct glob *g = glob_new(wrong[_i].pattern, wrong[_i].n, false, &e);

	ck_assert_msg(!g, "row %d was taken", _i);
	ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
	ck_assert_msg(e.pos == wrong[_i].pos, "row %d: position %lld", _i, e.pos);
}
END_TEST

START_TEST(longest)
{
	struct err e = ERR_INIT;
	char text[GLOB_MAX + 1];
	static const char *const units[] = { "*a", "{a,", "[a-c]", "**/", "?", "a", "\xc3\xa9", "{}" };

	for (size_t u = 0; u < ARRAY_LEN(units); u++) {
		size_t k = strlen(units[u]), n = GLOB_MAX / k * k;
		struct glob *g;

		for (size_t i = 0; i < n; i++)
			text[i] = units[u][i % k];
		/* As many braces are closed as were opened: only half of the length is there. */
		if (!strcmp(units[u], "{a,")) {
			n = n / 6 * 3;
			memset(text + n, '}', n / 3);
			n += n / 3;
		}
		g = glob_new(text, n, u % 2, &e);
		ck_assert_msg(g != NULL, "%s: %s", units[u], e.text);
		ck_assert(glob_match(g, text, n) || u != 5);
		ck_assert(!glob_match(g, "b", 1) || u == 3);
		glob_free(g);
	}
	memset(text, 'a', sizeof(text));
	ck_assert_ptr_null(glob_new(text, sizeof(text), false, &e));
	ck_assert_int_eq(e.pos, GLOB_MAX);
}
END_TEST

START_TEST(prefixes)
{
	static const struct {
		const char *pattern, *prefix;
		bool fold, path;
	} t[] = {
		{ "abc", "abc", 0, 0 }, { "ab*c", "ab", 0, 0 }, { "*", "", 0, 0 }, { "a\\*b?", "a*b", 0, 0 },
		{ "in/2026/*.csv", "in/2026/", 0, 1 }, { "/in/x[a]", "in/x", 0, 1 }, { "in/**/x", "in/", 0, 1 },
		{ "a{b,c}", "a", 0, 0 }, { "{b}c", "", 0, 0 }, { "12ab*", "12", 1, 0 }, { "ab", "", 1, 0 },
		{ "1-\xc3\xa9/b", "1-\xc3\xa9/", 1, 1 }, { "a[/]b", "a", 0, 0 }, { "a\\/b", "a/b", 0, 1 },
	};
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct glob *g = glob_new(t[i].pattern, strlen(t[i].pattern), t[i].fold, &e);
		const char *p;
		size_t n;

		ck_assert_ptr_nonnull(g);
		n = glob_prefix(g, &p);
		ck_assert_msg(n == strlen(t[i].prefix) && !memcmp(p, t[i].prefix, n), "'%s': '%.*s'",
		    t[i].pattern, (int)n, p);
		ck_assert_msg(glob_wants_path(g) == t[i].path, "'%s'", t[i].pattern);
		glob_free(g);
	}
}
END_TEST

/*
 * The reference: straight backtracking over the pattern's text. `k` continues with what follows the present
 * piece, which is how a brace goes on behind its end.
 */
struct rest {
	const char *p, *end;     /* pattern from here */
	bool alternative;        /* within braces: ends at ',' and '}' */
	const struct rest *up;   /* what follows the brace */
	bool begin;              /* at the begin of a component */
};

struct name {
	const char *s, *end;
};

static bool fold;
static long budget;

static int
one(const char *s, const char *end, uint32_t *c)
{
	int k = utf8_step(s, (size_t)(end - s), c);

	if (k > 0)
		return k;
	*c = 0x200000 + (unsigned char)*s;
	return 1;
}

static uint32_t
lower(uint32_t c)
{
	return fold && c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static uint32_t
upper(uint32_t c)
{
	return fold && c >= 'a' && c <= 'z' ? c - 32 : c;
}

/* Behind the closing bracket; *in says whether c is in the class. */
static const char *
ref_class(const char *p, const char *end, uint32_t c, bool *in)
{
	bool not = false;

	*in = false;
	p++;
	if (*p == '!' || *p == '^') {
		not = true;
		p++;
	}
	do {
		uint32_t lo, hi;

		p += *p == '\\';
		p += one(p, end, &lo);
		hi = lo;
		if (*p == '-' && p[1] != ']') {
			p++;
			p += *p == '\\';
			p += one(p, end, &hi);
		}
		if ((c >= lo && c <= hi) || (lower(c) >= lo && lower(c) <= hi) ||
		    (upper(c) >= lo && upper(c) <= hi))
			*in = true;
	} while (*p != ']');
	*in = *in != not && c != '/';
	return p + 1;
}

/* Behind the brace's end, or the next comma of the same brace where `comma` is set. */
static const char *
skip(const char *p, const char *end, bool comma)
{
	int depth = 0;

	for (; p < end; p++) {
		if (*p == '\\') {
			p++;
		} else if (*p == '[') {
			bool in;

			p = ref_class(p, end, 'x', &in) - 1;
		} else if (*p == '{') {
			depth++;
		} else if (*p == '}') {
			if (!depth--)
				return p + 1;
		} else if (*p == ',' && !depth && comma) {
			return p + 1;
		}
	}
	ck_abort_msg("unbalanced reference pattern");
	return NULL;
}

static bool ref(struct rest r, struct name n);

static bool
ref_brace(struct rest r, struct name n)
{
	const char *close = skip(r.p + 1, r.end, false), *alt = r.p + 1;
	struct rest up = r;

	up.p = close;
	while (alt < close) {
		if (ref((struct rest){ alt, close, true, &up, r.begin }, n))
			return true;
		alt = skip(alt, r.end, true);
		if (alt[-1] == '}')
			break;
	}
	return false;
}

static bool
ref_stars(struct rest r, struct name n)
{
	const char *p = r.p;
	bool all, begin = r.begin;

	while (p < r.end && *p == '*')
		p++;
	all = p - r.p > 1;
	r.p = p;
	r.begin = false;
	if (all && begin && p < r.end && *p == '/') {
		struct rest behind = r;

		behind.p++;
		behind.begin = true;
		if (ref(behind, n))
			return true;
	}
	for (;;) {
		uint32_t c;

		if (ref(r, n))
			return true;
		if (n.s == n.end || (*n.s == '/' && !all))
			return false;
		n.s += one(n.s, n.end, &c);
	}
}

static bool
ref(struct rest r, struct name n)
{
	uint32_t c = 0, d;
	bool in;

	if (--budget < 0)
		return false;
	while (r.p == r.end || (r.alternative && (*r.p == ',' || *r.p == '}'))) {
		bool begin = r.begin;

		if (!r.up)
			return r.p == r.end && n.s == n.end;
		r = *r.up;
		r.begin = begin;
	}
	if (*r.p == '{')
		return ref_brace(r, n);
	if (*r.p == '*')
		return ref_stars(r, n);
	if (n.s == n.end)
		return false;
	n.s += one(n.s, n.end, &c);
	r.begin = false;
	if (*r.p == '?') {
		r.p++;
		return c != '/' && ref(r, n);
	}
	if (*r.p == '[') {
		r.p = ref_class(r.p, r.end, c, &in);
		return in && ref(r, n);
	}
	r.p += *r.p == '\\';
	r.p += one(r.p, r.end, &d);
	r.begin = d == '/';
	return lower(c) == lower(d) && ref(r, n);
}

static uint32_t seed;

static unsigned
dice(unsigned n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

/* Random text of pieces, with balanced braces. */
static size_t
make(char *out, size_t max, const char *const *piece, size_t pieces, int depth)
{
	size_t n = 0, want = dice(6);

	for (size_t i = 0; i <= want && n + 16 < max; i++) {
		const char *p = piece[dice((unsigned)pieces)];

		if (*p != '{') {
			memcpy(out + n, p, strlen(p));
			n += strlen(p);
			continue;
		}
		if (depth > 2 || max - n < 64)
			continue;
		out[n++] = '{';
		for (unsigned k = dice(3) + 1; k; k--) {
			n += make(out + n, (max - n) / 2, piece, pieces, depth + 1);
			out[n++] = k > 1 ? ',' : '}';
		}
	}
	return n;
}

static const char *const pattern_pieces[] = {
	"a", "b", "c", "*", "*", "**", "?", "/", "[ab]", "[!a]", "[a-c]", "[^b\xc3\xa9]", "{", "{",
	"\\*", "\xc3\xa9", "\xc3", "\xa9", "A", "**/", "*a", "[\xff]",
};
static const char *const name_pieces[] = {
	"a", "b", "c", "a", "b", "/", "*", "\xc3\xa9", "\xc3", "\xa9", "A", "\xff", "ab", "ba",
};

/*
 * Differences that are meant: the automaton takes "begin of a component" after a brace only where all its
 * alternatives end so, the reference wherever this one does; such patterns are left out, and so is a '/' that
 * comes first.
 */
static bool
is_comparable(const char *p, size_t n)
{
	if (p[0] == '/' || memmem(p, n, "{/", 2) || memmem(p, n, ",/", 2) || memmem(p, n, "}/", 2))
		return false;
	return !memmem(p, n, "}*", 2) && !memmem(p, n, "}{", 2) && !memmem(p, n, "}}", 2);
}

/* The second way to match, which glob.c takes only for patterns of too many states. */
struct second {
	struct glob_prog prog;
	struct glob_reach reach;
	struct glob_bits *bits;
};

static void
second_init(struct second *b, const char *p, size_t n)
{
	struct err e = ERR_INIT;

	ck_assert_int_eq(glob_prog_init(&b->prog, p, n, fold, &e), 0);
	glob_reach_init(&b->reach, &b->prog);
	b->bits = glob_bits_new(&b->prog, &b->reach);
	ck_assert_ptr_nonnull(b->bits);
}

static void
second_release(struct second *b)
{
	glob_bits_free(b->bits);
	glob_reach_release(&b->reach);
	glob_prog_release(&b->prog);
}

START_TEST(random_patterns)
{
	char p[256], s[128];
	struct second second;
	long compared = 0, matched = 0;

	seed = 12345u + (unsigned)_i;
	for (int i = 0; i < 4000; i++) {
		struct err e = ERR_INIT;
		size_t n = make(p, sizeof(p), pattern_pieces, ARRAY_LEN(pattern_pieces), 0);
		struct glob *g;

		fold = dice(4) == 0;
		if (!n || !is_comparable(p, n))
			continue;
		p[n] = '\0';
		g = glob_new(p, n, fold, &e);
		ck_assert_msg(g != NULL, "'%s': %s", p, e.text);
		second_init(&second, p, n);
		for (int k = 0; k < 20; k++) {
			size_t m = make(s, sizeof(s), name_pieces, ARRAY_LEN(name_pieces), 0);
			bool wanted;

			s[m] = '\0';
			budget = 20000;
			wanted = ref((struct rest){ p, p + n, false, NULL, true },
			    (struct name){ s, s + m });
			if (budget < 0)
				continue;
			ck_assert_msg(glob_match(g, s, m) == wanted, "'%s' and '%s'%s: wanted %d", p, s,
			    fold ? " folded" : "", wanted);
			ck_assert_msg(glob_bits_match(second.bits, &second.prog, s, m) == wanted,
			    "by bits: '%s' and '%s'%s: wanted %d", p, s, fold ? " folded" : "", wanted);
			compared++;
			matched += wanted;
		}
		second_release(&second);
		glob_free(g);
	}
	/* The comparison is worth something only if both answers are common. */
	ck_assert_int_gt(compared, 10000);
	ck_assert_int_gt(matched, compared / 50);
}
END_TEST

/* Moves by one and by two over the border of every word. */
START_TEST(bits_over_words)
{
	char p[200], s[200];
	struct second second;

	fold = false;
	for (size_t n = 40; n < 150; n++) {
		memset(p, 'a', n);
		memcpy(p + n, "*bc", 3);
		memset(s, 'a', n);
		second_init(&second, p, n + 3);
		for (int between = 0; between < 3; between++) {
			memcpy(s + n, "xx", 2);
			memcpy(s + n + between, "bc", 2);
			ck_assert_msg(glob_bits_match(second.bits, &second.prog, s, n + 2 + (size_t)between),
			    "%zu, %d", n, between);
			ck_assert(!glob_bits_match(second.bits, &second.prog, s, n + 1 + (size_t)between));
		}
		second_release(&second);
	}
}
END_TEST

/*
 * More states than are kept: the automaton is emptied, and then followed by bits of one word, of two; or with too many
 * places for that only emptied, again and again.
 */
START_TEST(many_states)
{
	char p[2048], s[64];
	struct err e = ERR_INIT;
	long matched = 0;
	struct glob *g;
	int n = 0;

	if (_i == 2) {
		memset(p, 'z', 1100);
		p[0] = '{';
		p[1100] = ',';
		n = 1101;
	}
	n += snprintf(p + n, sizeof(p) - (size_t)n, "*a???????????????");
	for (int i = 0; _i == 1 && i < 6; i++)
		n += snprintf(p + n, sizeof(p) - (size_t)n, "{,b??????????c*}");
	if (_i == 2)
		p[n++] = '}';
	g = glob_new(p, (size_t)n, false, &e);
	ck_assert_ptr_nonnull(g);
	seed = 99;
	for (int i = 0; i < 3000; i++) {
		size_t m = 20 + dice(20);
		bool wanted;

		for (size_t k = 0; k < m; k++)
			s[k] = "abc"[dice(3)];
		budget = 2000000;
		wanted = ref((struct rest){ p, p + n, false, NULL, true }, (struct name){ s, s + m });
		ck_assert_int_ge(budget, 0);
		ck_assert_msg(glob_match(g, s, m) == wanted, "%.*s", (int)m, s);
		matched += wanted;
	}
	ck_assert_int_gt(matched, 300);
	glob_free(g);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_glob");
	TCase *t = tcase_create("glob");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, table, 0, (int)ARRAY_LEN(rows));
	tcase_add_loop_test(t, bad_patterns, 0, (int)ARRAY_LEN(wrong));
	tcase_add_test(t, longest);
	tcase_add_test(t, prefixes);
	tcase_add_loop_test(t, random_patterns, 0, 4);
	tcase_add_test(t, bits_over_words);
	tcase_add_loop_test(t, many_states, 0, 3);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
