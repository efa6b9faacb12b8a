/*
 * crew.c - the pools of the configuration: what each is for, and which of them a task goes to. Called by pool.c and
 * jobs.c.
 *
 * A task goes to the first pool, in the order of the configuration, that takes its source type, whose roots hold its
 * path, that is for its tenant, and whose isolation is at least what the tenant demands. Without `pools` there is one
 * of workers.count that takes everything. Starts no worker and chooses none: pool_share.c does.
 */
#include <stdlib.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"
#include "common/banned.h"

static const char *const isolation_names[ISOLATION__MAX] = {
	[ISOLATION_SHARED] = "shared", [ISOLATION_TENANT] = "tenant", [ISOLATION_JOB] = "job",
};

const char *
isolation_name(enum isolation i)
{
	return isolation_names[i];
}

enum worker_role
crew_first_role(const struct crew *c)
{
	return c->role[ROLE_LOCAL] ? ROLE_LOCAL : ROLE_NETWORK;
}

void
crew_roots(const struct crew *c, struct strlist *out)
{
	const struct config *cfg = c->p->m->cfg;

	for (size_t i = 0; i < cfg->local_roots.n; i++)
		strlist_add(out, cfg->local_roots.v[i]);
	strlist_add(out, cfg->dummy_path);
}

/* An idle worker may give way by now: the loop calls dispatch_run after this, which asks again. */
static void
on_linger(void *arg)
{
	(void)arg;
}

static void
crew_init(struct pool *p, struct crew *c)
{
	c->p = p;
	c->index = (size_t)(c - p->crews);
	c->next_role = ROLE_NETWORK;
	timer_init(&c->linger, on_linger, c);
}

void
crews_init(struct pool *p)
{
	p->n_crews = 1;
	p->crews = xcalloc(p->n_crews, sizeof(*p->crews));
	for (struct crew *c = p->crews; c < p->crews + p->n_crews; c++)
		crew_init(p, c);
	p->crews[0].name = "default";
	p->crews[0].isolation = ISOLATION_TENANT;
	p->crews[0].workers = (size_t)p->m->cfg->workers_count;
	for (int r = 0; r < ROLE__MAX; r++)
		p->crews[0].role[r] = true;
}

void
crews_release(struct pool *p)
{
	for (struct crew *c = p->crews; c < p->crews + p->n_crews; c++)
		timer_cancel(p->m->loop, &c->linger);
	free(p->crews);
}
