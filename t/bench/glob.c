/*
 * glob.c - how fast the file patterns are: names a second for patterns of every kind, on names of 30 bytes, and each
 * as a ratio to the fastest automaton. Ends with 1 where a pattern is both under a million names a second and more
 * than ten times slower than that; not part of the tests, because it measures the machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/buf.h"
#include "common/glob.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NAMES 1000
#define NAME 30

enum kind { SIMPLE, NORMAL, WORST };

static const struct {
	enum kind kind;
	const char *what, *pattern;
} patterns[] = {
	{ SIMPLE, "any name", "*" },
	{ SIMPLE, "suffix", "*.csv" },
	{ SIMPLE, "prefix and suffix", "report_*.csv" },
	{ NORMAL, "class and suffix", "*_[0-9][0-9].csv" },
	{ NORMAL, "braces", "*.{csv,txt,json,xml,pdf}" },
	{ NORMAL, "date", "*[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*" },
	{ NORMAL, "any depth", "**/*.csv" },
	{ WORST, "stars", "*a*a*a*a*b" },
	{ WORST, "many stars", "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b" },
	{ WORST, "nested braces", "{a,{a,{a,{a,{a,{a,a*}*}*}*}*}*}*{a,b{c,d}}*b" },
	{ WORST, "braces of stars", "{*a*,*aa*,*aaa*,*aaaa*,*aaaaa*}{*a*,*b*,*c*}b" },
	{ WORST, "empty alternatives", "{,a}{,a}{,a}{,a}{,a}{,a}{,a}{,a}{,a}{,a}aaaaaaaaab" },
	{ WORST, "too many states", "*a???????????????" },
	{ WORST, "too many states, 60 places", "*a??????????????*a?????????????*b????????????" },
	{ WORST, "too many states, 130 places",
	    "{*a??????????????,*b???????????????,*c????????????????,*a?????????????b??????,*[ab]????????????????????????"
	    "}*[bc]?????????????????" },
};

static char names[3][NAMES][NAME];

/* 0: all 'a'; 1: 'a', 'b', 'c' at random; 2: as files are called */
static void
make_names(void)
{
	uint32_t seed = 1;

	for (int i = 0; i < NAMES; i++) {
		struct buf text = BUF_INIT;

		memset(names[0][i], 'a', NAME);
		for (int k = 0; k < NAME; k++) {
			seed = seed * 1664525 + 1013904223;
			names[1][i][k] = "abc"[(seed >> 16) % 3];
		}
		buf_printf(&text, "report_2026-%02d-%02d_%08u.csv", i % 12 + 1, i % 28 + 1, seed % 100000000);
		memcpy(names[2][i], text.p, NAME);
		buf_release(&text);
	}
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Names a second, of the slowest of the three kinds of names. */
static double
measure(const char *pattern, long *matched)
{
	double slowest = 0;

	for (int kind = 0; kind < 3; kind++) {
		struct err e = ERR_INIT;
		struct glob *g = glob_new(pattern, strlen(pattern), false, &e);
		double begun = now(), took = 0;
		long n = 0;

		if (!g) {
			fprintf(stderr, "%s: %s\n", pattern, e.text);
			exit(2);
		}
		for (; took < 0.1; took = now() - begun, n += NAMES)
			for (int i = 0; i < NAMES; i++)
				*matched += glob_match(g, names[kind][i], NAME);
		glob_free(g);
		if (!slowest || (double)n / took < slowest)
			slowest = (double)n / took;
	}
	return slowest;
}

int
main(void)
{
	double rate[ARRAY_LEN(patterns)], best = 0;
	long matched = 0;
	int slow = 0;

	make_names();
	for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
		rate[i] = measure(patterns[i].pattern, &matched);
		if (patterns[i].kind != SIMPLE && rate[i] > best)
			best = rate[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
		bool bad = rate[i] < 1e6 && rate[i] * 10 < best;

		printf("%-28s %8.2f M names/s  %6.2f of the fastest automaton%s\n", patterns[i].what, rate[i] / 1e6,
		    rate[i] / best, bad ? "  TOO SLOW" : "");
		slow |= bad;
	}
	/* What was matched is shown so that no compiler leaves the work out. */
	printf("(%ld matches)\n", matched);
	return slow;
}
