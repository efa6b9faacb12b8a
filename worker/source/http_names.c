/*
 * http_names.c - the names that one directory's pages have shown, so that a link that stands there twice is one file.
 *
 * Kept as 128 bits each, keyed by nothing: who forges a page can only hide files of that page. 100,000 names take 4 MiB.
 */
#include <stdlib.h>

#include "worker/source/http.h"
#include "common/xalloc.h"
#include "common/banned.h"

static uint64_t
mix(uint64_t h)
{
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

static void
hash(const unsigned char *p, size_t n, uint64_t out[2])
{
	uint64_t a = UINT64_C(0xcbf29ce484222325), b = UINT64_C(0x9e3779b97f4a7c15) ^ n;

	for (size_t i = 0; i < n; i++) {
		a = (a ^ p[i]) * UINT64_C(0x100000001b3);
		b = (b << 7 | b >> 57) + p[i] * UINT64_C(0xbf58476d1ce4e5b9);
		b ^= b >> 29;
	}
	out[0] = mix(a);
	out[1] = mix(b) | 1; /* 0: an empty place */
}

static uint64_t *
place(struct http_names *s, const uint64_t h[2])
{
	size_t i = (size_t)h[0] & (s->cap - 1);

	while (s->v[i][1] && (s->v[i][0] != h[0] || s->v[i][1] != h[1]))
		i = (i + 1) & (s->cap - 1);
	return s->v[i];
}

static void
grow(struct http_names *s)
{
	struct http_names old = *s;

	s->cap = old.cap ? 2 * old.cap : 64;
	s->v = xcalloc(s->cap, sizeof(*s->v));
	for (size_t i = 0; i < old.cap; i++)
		if (old.v[i][1]) {
			uint64_t *to = place(s, old.v[i]);

			to[0] = old.v[i][0];
			to[1] = old.v[i][1];
		}
	free(old.v);
}

bool
http_names_add(struct http_names *s, const void *p, size_t n)
{
	uint64_t h[2], *at;

	if (s->n * 3 >= s->cap * 2)
		grow(s);
	hash(p, n, h);
	at = place(s, h);
	if (at[1])
		return true;
	at[0] = h[0];
	at[1] = h[1];
	s->n++;
	return false;
}

void
http_names_release(struct http_names *s)
{
	free(s->v);
	s->v = NULL;
	s->n = s->cap = 0;
}
