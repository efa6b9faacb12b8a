/*
 * connector_turns.c - which name is looked up next: that of the tenant with the fewest under way, so that one whose names
 * are not answered delays itself alone.
 *
 * connector_resolve.c calls it, in the loop only. A line for each tenant that has a name here, in the order in which they
 * were served last; with equally few under way the first one's turn it is. Lines are few: each worker waits for one name,
 * and what is under way is bounded by the threads.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/connector.h"
#include "common/xalloc.h"
#include "common/banned.h"

struct line {
	struct line *next;
	char org_id[sizeof(((struct broker_grant *)NULL)->org_id)];
	unsigned under_way;             /* taken and not done */
	struct resolved *first, **last; /* wait */
};

static struct line *lines;

static struct line **
line_of(const char *org_id)
{
	struct line **l = &lines;

	while (*l && strcmp((*l)->org_id, org_id))
		l = &(*l)->next;
	return l;
}

/* Takes out and frees one of which nothing is left. */
static void
lift(struct line **at)
{
	struct line *l = *at;

	if (!l || l->first || l->under_way)
		return;
	*at = l->next;
	free(l);
}

void
turns_add(struct resolved *r, const char *org_id)
{
	struct line **at = line_of(org_id), *l = *at;

	if (!l) {
		l = *at = xcalloc(1, sizeof(*l));
		memcpy(l->org_id, org_id, strnlen(org_id, sizeof(l->org_id) - 1));
		l->last = &l->first;
	}
	r->line = l;
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

struct resolved *
turns_take(unsigned share)
{
	struct line **best = NULL, **end = &lines, *l;
	struct resolved *r;

	for (; *end; end = &(*end)->next)
		if ((*end)->first && (*end)->under_way < share && (!best || (*end)->under_way < (*best)->under_way))
			best = end;
	if (!best)
		return NULL;
	l = *best;
	r = l->first;
	l->first = r->next;
	if (!l->first)
		l->last = &l->first;
	l->under_way++;
	/* behind all others */
	*end = l;
	*best = l->next;
	l->next = NULL;
	r->next = NULL;
	return r;
}

void
turns_done(struct resolved *r)
{
	r->line->under_way--;
	lift(line_of(r->line->org_id));
	r->line = NULL;
}

struct resolved *
turns_drop(uint64_t peer)
{
	for (struct line **at = &lines, *l; (l = *at); at = &l->next) {
		for (struct resolved **p = &l->first, *r; (r = *p); p = &r->next) {
			if (r->peer != peer)
				continue;
			*p = r->next;
			if (!r->next)
				l->last = p;
			lift(at);
			return r;
		}
	}
	return NULL;
}
