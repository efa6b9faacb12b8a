/*
 * stable.c - filters.stability: which files are the same in each of several passes over a source.
 *
 * run.c lists the source again and again and shows every file that matches; only in the last pass are those sent that
 * were there, and the same, in all before. Of a file 16 bytes are kept: part of a cryptographic digest, so that nobody
 * who names files can make one pass for another, and the last pass that saw it.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

struct mark { uint8_t id[14]; uint16_t pass; };         /* pass 0: free */

struct stable {
	struct digest digest;
	uint16_t pass, last;
	struct mark *v;         /* open addressing; cap is a power of two */
	size_t n, cap;
};

struct stable *
stable_new(int64_t checks)
{
	struct stable *s = xcalloc(1, sizeof(*s));

	s->last = (uint16_t)(checks + 1);
	s->cap = 1024;
	s->v = xcalloc(s->cap, sizeof(*s->v));
	return s;
}

void
stable_free(struct stable *s)
{
	if (!s)
		return;
	digest_release(&s->digest);
	free(s->v);
	free(s);
}

bool
stable_next(struct stable *s)
{
	if (s->pass == s->last)
		return false;
	s->pass++;
	return true;
}

bool
stable_is_last(const struct stable *s)
{
	return s->pass == s->last;
}

/* Where this id is, or would be. */
static struct mark *
find(const struct stable *s, const uint8_t id[14])
{
	size_t i;

	memcpy(&i, id, sizeof(i));
	while (s->v[i &= s->cap - 1].pass && memcmp(s->v[i].id, id, 14))
		i++;
	return &s->v[i];
}

static void
grow(struct stable *s)
{
	struct mark *old = s->v;
	size_t n = s->cap;

	s->cap *= 2;
	s->v = xcalloc(s->cap, sizeof(*s->v));
	for (size_t i = 0; i < n; i++)
		if (old[i].pass)
			*find(s, old[i].id) = old[i];
	free(old);
}

/* All that tells one state of a file from another. Each text goes with its length. */
static int
identify(struct stable *s, const struct record *r, uint8_t id[14], struct err *e)
{
	/* A server may call a tag weak while the file is young (Apache, for a second): RFC 9110 section 8.8.3.2, weak comparison. */
	size_t weak = r->version_n > 2 && !memcmp(r->version, "W/", 2) ? 2 : 0;
	const int64_t numbers[] = { (int64_t)r->path_n, r->version ? (int64_t)(r->version_n - weak) : -1, r->size, r->mtime_ns, r->precision, r->kind };
	uint8_t md[DIGEST_BYTES];

	if (digest_begin(&s->digest, DIGEST_SHA256, e))
		return -1;
	digest_add(&s->digest, numbers, sizeof(numbers));
	digest_add(&s->digest, r->path, r->path_n);
	if (r->version)
		digest_add(&s->digest, r->version + weak, r->version_n - weak);
	digest_bytes(&s->digest, md);
	memcpy(id, md, 14);
	return 0;
}

int
stable_look(struct stable *s, const struct record *r, struct err *e)
{
	uint8_t id[14];
	struct mark *m;

	/* Nothing tells whether its content changes. */
	if (r->kind == FILE_PLAIN && r->size < 0 && !r->version)
		return 0;
	if (identify(s, r, id, e))
		return -1;
	m = find(s, id);
	if (s->pass > 1) {
		if (m->pass + 1 < s->pass || !m->pass)
			return 0;
		m->pass = s->pass;
		return 1;
	}
	if (m->pass)
		return 1;
	if (s->n == STABLE_FILES_MAX)
		return err_set(e, ERR_LIMIT, "more than %d files match: too many to be watched for filters.stability", STABLE_FILES_MAX);
	memcpy(m->id, id, sizeof(m->id));
	m->pass = 1;
	if (++s->n > s->cap / 8 * 7)
		grow(s);
	return 1;
}
