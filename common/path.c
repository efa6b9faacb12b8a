/*
 * path.c - paths as text: normal form, and which root holds one.
 *
 * Called by the job parser and by the master when it makes a task. Never looks at the file system:
 * what a path really leads to is decided by the worker, which opens it beneath its root and lets
 * the kernel refuse the rest.
 */
#include <string.h>

#include "common/job.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define PATH_BYTES 4096

static int
add_components(struct buf *b, const char *s, struct err *e)
{
	while (*s) {
		size_t n = strcspn(s, "/");

		if (n == 2 && s[0] == '.' && s[1] == '.')
			return err_set(e, ERR_INVALID_JOB, "a path must not hold \"..\"");
		if (n && !(n == 1 && *s == '.')) {
			buf_putc(b, '/');
			buf_add(b, s, n);
		}
		s += n;
		s += *s == '/';
	}
	return 0;
}

char *
path_normalise(const char *path, const char *base, struct err *e)
{
	struct buf b = BUF_INIT;

	if (*path != '/' && !base) {
		err_set(e, ERR_INVALID_JOB, "the path must begin with '/'");
		return NULL;
	}
	if ((*path != '/' && add_components(&b, base, e)) || add_components(&b, path, e))
		goto fail;
	if (!b.len)
		buf_putc(&b, '/');
	if (b.len > PATH_BYTES) {
		err_set(e, ERR_INVALID_JOB, "the path is longer than %d bytes", PATH_BYTES);
		goto fail;
	}
	return buf_take(&b);
fail:
	buf_release(&b);
	return NULL;
}

const char *
path_under(const struct strlist *l, const char *path, const char **rest)
{
	const char *best = NULL;
	size_t best_n = 0;

	/* The longest root wins: it is the narrowest door to the path. */
	for (size_t i = 0; l && i < l->n; i++) {
		const char *root = l->v[i];
		size_t n = strlen(root);

		while (n && root[n - 1] == '/')
			n--;
		if (*root != '/' || strncmp(path, root, n) || (path[n] && path[n] != '/') ||
		    (best && n <= best_n))
			continue;
		best = root;
		best_n = n;
		*rest = path[n] && path[n + 1] ? path + n + 1 : ".";
	}
	return best;
}
