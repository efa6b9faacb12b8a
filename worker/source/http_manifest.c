/*
 * http_manifest.c - text manifests and lists of links: one reference a line; '#' begins a comment line.
 *
 * Relative references are meant from the manifest's own address. JSON lines are http_index_json.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "worker/source/http_index.h"
#include "common/banned.h"

struct text {
	struct index_parser pub;
	struct buf line;
	uint64_t lines;
};

static struct index_parser *
text_new(void)
{
	struct text *t = xcalloc(1, sizeof(*t));

	return &t->pub;
}

static void
text_free(struct index_parser *p)
{
	struct text *t = (struct text *)p;

	buf_release(&t->line);
	free(t);
}

static int
line_ends(struct text *t, struct err *e)
{
	struct index_entry en;
	const char *p = t->line.p;
	size_t n = t->line.len;
	int rc = 0;

	t->lines++;
	while (n && (p[n - 1] == '\r' || p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	while (n && (*p == ' ' || *p == '\t')) {
		p++;
		n--;
	}
	if (n && *p != '#') {
		index_entry_init(&en);
		en.name = p;
		en.n = n;
		en.is_ref = true;
		rc = index_emit(&t->pub, &en, e);
	}
	buf_clear(&t->line);
	return rc;
}

static int
text_feed(struct index_parser *p, const char *s, size_t n, struct err *e)
{
	struct text *t = (struct text *)p;

	while (n) {
		const char *end = memchr(s, '\n', n);
		size_t part = end ? (size_t)(end - s) : n;
		int rc;

		if (t->line.len + part > INDEX_NAME_MAX)
			return err_set(e, ERR_PROTOCOL, "line %llu of the manifest is longer than %d bytes",
			    (unsigned long long)t->lines + 1, INDEX_NAME_MAX);
		buf_add(&t->line, s, part);
		rc = end ? line_ends(t, e) : 0;
		if (rc)
			return rc;
		part += end != NULL;
		s += part;
		n -= part;
	}
	return 0;
}

static int
text_finish(struct index_parser *p, bool framed, struct err *e)
{
	struct text *t = (struct text *)p;

	if (!framed)
		return err_set(e, ERR_PROTOCOL, "nothing tells where the manifest ends (no Content-Length, no chunks), so that a cut would not show");
	return t->line.len ? line_ends(t, e) : 0;
}

const struct index_format index_text = {
	.name = "manifest-text",
	.new = text_new,
	.feed = text_feed,
	.finish = text_finish,
	.free = text_free,
};
