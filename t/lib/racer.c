/*
 * racer.c - changes the names in a tree as fast as it can, for tests of who lists it meanwhile.
 *
 *   racer ROOT [--mounts OUTSIDE]
 *
 * ROOT holds pairs NAME and NAME.link, which change places: a directory and a link that leads out, a file and a link to
 * one outside. A directory moved/ goes out to ../moved and comes back. With --mounts, OUTSIDE is mounted on ROOT/mounted and taken
 * away again. Goes on until its standard input ends, at most ROUNDS_MAX rounds; then prints how many there were.
 * A pair's halves are always there: who finds neither has found a bug.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "common/banned.h"

#define PAIRS_MAX 512
#define ROUNDS_MAX 50000000L

static struct { char a[256], b[256]; } pairs[PAIRS_MAX];
static size_t n_pairs;

static int
fail(const char *what)
{
	fprintf(stderr, "racer: %s: %s\n", what, strerror(errno));
	return 71;
}

static void
find_pairs(const char *root)
{
	DIR *d = opendir(root);
	const struct dirent *e;

	while (d && (e = readdir(d)) && n_pairs < PAIRS_MAX) {
		size_t n = strlen(e->d_name);

		if (n <= 5 || strcmp(e->d_name + n - 5, ".link"))
			continue;
		snprintf(pairs[n_pairs].a, sizeof(pairs[0].a), "%.*s", (int)n - 5, e->d_name);
		snprintf(pairs[n_pairs].b, sizeof(pairs[0].b), "%s", e->d_name);
		n_pairs++;
	}
	if (d)
		closedir(d);
}

static bool
told_to_end(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

int
main(int argc, char **argv)
{
	bool mounts = argc == 4 && !strcmp(argv[2], "--mounts");
	long rounds = 0;

	if (argc != 2 && !mounts)
		return 64;
	if (chdir(argv[1]) < 0)
		return fail(argv[1]);
	find_pairs(".");
	if (!n_pairs)
		return fail("no pairs");
	printf("READY %zu\n", n_pairs);
	fflush(stdout);
	for (; rounds < ROUNDS_MAX; rounds++) {
		size_t i = (size_t)rounds % n_pairs;

		if (renameat2(AT_FDCWD, pairs[i].a, AT_FDCWD, pairs[i].b, RENAME_EXCHANGE) < 0)
			return fail(pairs[i].a);
		if (i)
			continue;
		if (told_to_end())
			break;
		if (rename("moved", "../moved") < 0 || rename("../moved", "moved") < 0)
			return fail("moved");
		if (mounts && (mount(argv[3], "mounted", NULL, MS_BIND, NULL) < 0 || umount2("mounted", MNT_DETACH) < 0))
			return fail("mounted");
	}
	printf("ROUNDS %ld\n", rounds);
	return 0;
}
