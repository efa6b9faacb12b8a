/*
 * defer_index.c - the deferred records that are not done: by partition and offset, by origin, and by due time.
 *
 * Called by deferred.c. Pure: knows no Kafka and no clock. An entry takes some 170 bytes and each operation the
 * logarithm of their number at most, so that 100,000 of them cost nothing while they wait.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/defer.h"
#include "common/banned.h"

#define BUCKETS_MIN 256
#define ROWS_MIN 64

uint64_t
defer_hash(const void *p, size_t n)
{
	const uint8_t *s = p;
	uint64_t h = 14695981039346656037ull;

	for (size_t i = 0; i < n; i++)
		h = (h ^ s[i]) * 1099511628211ull;
	return h ^ h >> 29;
}

/* ---- by origin ------------------------------------------------------------------------------------------------------ */

static bool
same_origin(const struct defer_origin *a, const struct defer_origin *b)
{
	return a->offset == b->offset && a->partition == b->partition && a->topic == b->topic && !memcmp(a->digest, b->digest, sizeof(a->digest));
}

/* The digest spreads them: it is of bytes that nobody can choose for a crowded bucket at will. */
static struct defer_entry **
bucket(const struct defer_index *x, const struct defer_origin *o)
{
	uint64_t h;

	memcpy(&h, o->digest, sizeof(h));
	h = (h ^ (uint64_t)o->offset) * 0x9e3779b97f4a7c15ull ^ (uint64_t)o->partition;
	return &x->bucket[(h ^ h >> 32) & (x->n_buckets - 1)];
}

static void
buckets_grow(struct defer_index *x)
{
	struct defer_entry **old = x->bucket;
	size_t n = x->n_buckets;

	if (x->n < n)
		return;
	x->n_buckets = n ? n * 2 : BUCKETS_MIN;
	x->bucket = xcalloc(x->n_buckets, sizeof(struct defer_entry *));
	for (size_t i = 0; i < n; i++) {
		for (struct defer_entry *e = old[i], *next; e; e = next) {
			struct defer_entry **b = bucket(x, &e->origin);

			next = e->same;
			e->same = *b;
			*b = e;
		}
	}
	free(old);
}

static void
bucket_remove(struct defer_index *x, struct defer_entry *e)
{
	struct defer_entry **p = bucket(x, &e->origin);

	while (*p != e)
		p = &(*p)->same;
	*p = e->same;
}

struct defer_entry *
defer_find_origin(const struct defer_index *x, const struct defer_line *l, const struct defer_origin *o)
{
	struct defer_entry *e = x->n_buckets ? *bucket(x, o) : NULL;

	while (e && (!same_origin(&e->origin, o) || (l && e->line != l) || e->state == DEFER_SHADOW))
		e = e->same;
	return e;
}

/* ---- by due time ---------------------------------------------------------------------------------------------------- */

static bool
before(const struct defer_entry *a, const struct defer_entry *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->offset < b->offset;
}

static void
heap_put(struct defer_index *x, size_t at, struct defer_entry *e)
{
	x->heap[at] = e;
	e->heap = at + 1;
}

static void
heap_up(struct defer_index *x, size_t at, struct defer_entry *e)
{
	while (at && before(e, x->heap[(at - 1) / 2])) {
		heap_put(x, at, x->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_put(x, at, e);
}

static void
heap_down(struct defer_index *x, size_t at, struct defer_entry *e)
{
	for (size_t child; (child = 2 * at + 1) < x->n_heap; at = child) {
		if (child + 1 < x->n_heap && before(x->heap[child + 1], x->heap[child]))
			child++;
		if (!before(x->heap[child], e))
			break;
		heap_put(x, at, x->heap[child]);
	}
	heap_put(x, at, e);
}

void
defer_wait(struct defer_index *x, struct defer_entry *e)
{
	if (e->heap)
		return;
	if (x->n_heap == x->heap_cap) {
		x->heap_cap = x->heap_cap ? x->heap_cap * 2 : ROWS_MIN;
		x->heap = xreallocarray(x->heap, x->heap_cap, sizeof(struct defer_entry *));
	}
	heap_up(x, x->n_heap++, e);
	if (e->early)
		TAILQ_INSERT_TAIL(&e->early->waiting, e, next_early);
}

void
defer_unwait(struct defer_index *x, struct defer_entry *e)
{
	size_t at = e->heap - 1;
	struct defer_entry *last;

	if (!e->heap)
		return;
	e->heap = 0;
	if (e->early)
		TAILQ_REMOVE(&e->early->waiting, e, next_early);
	last = x->heap[--x->n_heap];
	if (last == e)
		return;
	if (at && before(last, x->heap[(at - 1) / 2]))
		heap_up(x, at, last);
	else
		heap_down(x, at, last);
}

struct defer_entry *
defer_next(const struct defer_index *x)
{
	return x->n_heap ? x->heap[0] : NULL;
}

/* ---- by tenant ------------------------------------------------------------------------------------------------------ */

void
defer_early(struct defer_index *x, struct defer_entry *e, const char *tenant)
{
	struct defer_tenant *t;

	HASH_FIND_STR(x->tenants, tenant, t);
	if (!t) {
		t = xcalloc(1, sizeof(*t));
		t->name = xstrdup(tenant);
		TAILQ_INIT(&t->waiting);
		HASH_ADD_KEYPTR(hh, x->tenants, t->name, strlen(t->name), t);
	}
	t->n++;
	e->early = t;
}

static void
early_forget(struct defer_index *x, struct defer_entry *e)
{
	struct defer_tenant *t = e->early;

	e->early = NULL;
	if (!t || --t->n)
		return;
	HASH_DEL(x->tenants, t);
	free(t->name);
	free(t);
}

struct defer_entry *
defer_next_early(const struct defer_index *x, bool (*has_room)(void *, const char *tenant), void *arg)
{
	const struct defer_tenant *t;

	for (t = x->tenants; t; t = t->hh.next)
		if (!TAILQ_EMPTY(&t->waiting) && has_room(arg, t->name))
			return TAILQ_FIRST(&t->waiting);
	return NULL;
}

/* ---- ended, and remembered ------------------------------------------------------------------------------------------ */

static void
ended_leave(struct defer_index *x, struct defer_entry *e)
{
	TAILQ_REMOVE(&x->ended[e->holds].list, e, next_ended);
	x->ended[e->holds].n--;
}

/* ---- by offset ------------------------------------------------------------------------------------------------------ */

/* Makes room: rows that are done go when they are the most, so that each is moved once or twice at most. */
static void
rows_reserve(struct defer_line *l)
{
	size_t n = 0;

	if (l->n < l->cap)
		return;
	if (l->live * 2 <= l->n) {
		for (size_t i = l->head; i < l->n; i++)
			if (l->row[i].e)
				l->row[n++] = l->row[i];
		l->head = 0;
		l->n = n;
	}
	if (l->n * 4 < l->cap * 3)
		return;
	l->cap = l->cap ? l->cap * 2 : ROWS_MIN;
	l->row = xreallocarray(l->row, l->cap, sizeof(*l->row));
}

struct defer_entry *
defer_add(struct defer_index *x, struct defer_line *l, int64_t offset, const struct defer_origin *o)
{
	struct defer_entry *e = xcalloc(1, sizeof(*e)), **b;

	e->line = l;
	e->offset = offset;
	e->origin = *o;
	buckets_grow(x);
	b = bucket(x, o);
	e->same = *b;
	*b = e;
	rows_reserve(l);
	l->row[l->n++] = (struct defer_row){ .offset = offset, .e = e };
	l->live++;
	x->n++;
	return e;
}

static struct defer_row *
row_of(const struct defer_line *l, int64_t offset)
{
	size_t lo = l->head, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->row[mid].offset < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < l->n && l->row[lo].offset == offset ? &l->row[lo] : NULL;
}

struct defer_entry *
defer_find(const struct defer_line *l, int64_t offset)
{
	struct defer_row *r = row_of(l, offset);

	return r ? r->e : NULL;
}

static void
row_drop(struct defer_entry *e)
{
	struct defer_line *l = e->line;
	struct defer_row *r = row_of(l, e->offset);

	if (!r || r->e != e)
		BUG("a deferred job without its row");
	r->e = NULL;
	l->live--;
	while (l->head < l->n && !l->row[l->head].e)
		l->head++;
}

void
defer_remove(struct defer_index *x, struct defer_entry *e)
{
	if (e->state == DEFER_ENDED)
		ended_leave(x, e);
	if (e->state != DEFER_ENDED || e->holds)
		row_drop(e);
	defer_unwait(x, e);
	early_forget(x, e);
	bucket_remove(x, e);
	x->n--;
	free(e);
}

bool
defer_end(struct defer_index *x, struct defer_entry *e, bool holds)
{
	struct defer_ended *to = &x->ended[holds];

	defer_unwait(x, e);
	early_forget(x, e);
	if (e->state == DEFER_ENDED)
		ended_leave(x, e);
	if (!holds && (e->state != DEFER_ENDED || e->holds))
		row_drop(e);
	e->state = DEFER_ENDED;
	e->holds = holds;
	if (!to->n)
		TAILQ_INIT(&to->list);
	TAILQ_INSERT_TAIL(&to->list, e, next_ended);
	if (++to->n <= DEFER_ENDED_MAX)
		return false;
	defer_remove(x, TAILQ_FIRST(&to->list));
	return true;
}

size_t
defer_ended(const struct defer_index *x)
{
	return x->ended[0].n + x->ended[1].n;
}

struct defer_entry *
defer_line_first(const struct defer_line *l)
{
	return l->head < l->n ? l->row[l->head].e : NULL;
}

void
defer_line_clear(struct defer_index *x, struct defer_line *l)
{
	struct defer_entry *e, *next;

	while ((e = defer_line_first(l)))
		defer_remove(x, e);
	for (e = x->ended[0].n ? TAILQ_FIRST(&x->ended[0].list) : NULL; e; e = next) {
		next = TAILQ_NEXT(e, next_ended);
		if (e->line == l)
			defer_remove(x, e);
	}
	free(l->row);
	*l = (struct defer_line){ .row = NULL };
}

void
defer_index_release(struct defer_index *x)
{
	free(x->heap);
	free(x->bucket);
	memset(x, 0, sizeof(*x));
}
