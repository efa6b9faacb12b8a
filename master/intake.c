/*
 * intake.c - messages that were read and are not jobs yet: the tenants take turns.
 *
 * Called by consume.c. To read a message costs a twentieth of what it costs to check it and make a job of it. So all
 * that Kafka has is read first, and a message that lies behind ten thousand of another tenant's waits for their reading,
 * not for their checking. Pure: knows no Kafka and no job.
 */
#include <stdlib.h>
#include <sys/queue.h>

#include <uthash.h>

#include "common/xalloc.h"
#include "master/intake.h"
#include "common/banned.h"

struct node {
	struct intake_item item;
	size_t bytes;
	STAILQ_ENTRY(node) next;
};

struct line {                           /* has at least one message */
	char *tenant;
	STAILQ_HEAD(nodes, node) nodes;
	TAILQ_ENTRY(line) turn;
	UT_hash_handle hh;
};

struct intake {
	struct line *by_tenant;
	TAILQ_HEAD(lines, line) turns;  /* first: whose turn it is */
	size_t n, bytes;
};

struct intake *
intake_new(void)
{
	struct intake *in = xcalloc(1, sizeof(*in));

	TAILQ_INIT(&in->turns);
	return in;
}

void
intake_free(struct intake *in)
{
	free(in);
}

static struct line *
line_of(struct intake *in, const char *tenant, size_t n)
{
	struct line *l;

	HASH_FIND(hh, in->by_tenant, tenant, n, l);
	if (l)
		return l;
	l = xcalloc(1, sizeof(*l));
	l->tenant = xmemdup0(tenant, n);
	STAILQ_INIT(&l->nodes);
	HASH_ADD_KEYPTR(hh, in->by_tenant, l->tenant, n, l);
	TAILQ_INSERT_TAIL(&in->turns, l, turn);
	return l;
}

void
intake_put(struct intake *in, const char *tenant, size_t n, const struct intake_item *item, size_t bytes)
{
	struct node *node = xcalloc(1, sizeof(*node));
	struct line *l = line_of(in, tenant ? tenant : "", tenant ? n : 0);

	node->item = *item;
	node->bytes = bytes;
	STAILQ_INSERT_TAIL(&l->nodes, node, next);
	in->n++;
	in->bytes += bytes;
}

bool
intake_next(struct intake *in, struct intake_item *out)
{
	struct line *l = TAILQ_FIRST(&in->turns);
	struct node *node;

	if (!l)
		return false;
	node = STAILQ_FIRST(&l->nodes);
	STAILQ_REMOVE_HEAD(&l->nodes, next);
	in->n--;
	in->bytes -= node->bytes;
	*out = node->item;
	free(node);
	TAILQ_REMOVE(&in->turns, l, turn);
	if (!STAILQ_EMPTY(&l->nodes)) {
		TAILQ_INSERT_TAIL(&in->turns, l, turn);
		return true;
	}
	HASH_DEL(in->by_tenant, l);
	free(l->tenant);
	free(l);
	return true;
}

size_t
intake_count(const struct intake *in)
{
	return in->n;
}

size_t
intake_bytes(const struct intake *in)
{
	return in->bytes;
}
