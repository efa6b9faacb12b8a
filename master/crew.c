/*
 * crew.c - the pools of the configuration: what each is for, and which of them a task goes to. Called by pool.c, jobs.c
 * and dispatch.c.
 *
 * A task goes to the first pool, in the order of the configuration, that takes its source type, its path and its tenant;
 * a pool whose isolation is at least what the tenant demands goes before one where the task alone has it. Without
 * `pools` there is one for everything. Starts no worker and chooses none: pool_share.c does.
 */
#include <stdlib.h>
#include <string.h>

#include "common/glob.h"
#include "common/xalloc.h"
#include "master/pool_priv.h"
#include "common/banned.h"

/* Pools that a refusal names. */
#define NAMED_MAX 4
/* Cannot begin a tenant's name. */
#define GROUP_MARK "\tgroup "

static const char *const isolation_names[ISOLATION__MAX] = {
	[ISOLATION_SHARED] = "shared", [ISOLATION_TENANT] = "tenant", [ISOLATION_JOB] = "job",
};

const char *
isolation_name(enum isolation i)
{
	return isolation_names[i];
}

static int
strength(enum isolation i)
{
	return i == ISOLATION_SHARED ? 0 : i == ISOLATION_TENANT ? 1 : 2;
}

static enum isolation
stronger(enum isolation a, enum isolation b)
{
	return strength(a) >= strength(b) ? a : b;
}

/* ---- what it is for ------------------------------------------------------------------------------------------------ */

static bool
for_type(const struct crew *c, enum source_type type)
{
	return c->types & 1u << type;
}

static bool
name_matches(struct glob *g, const char *pattern, const char *name)
{
	if (!strcmp(pattern, name) || !strcmp(pattern, "*"))
		return true;
	/* A pattern without a slash is for a last component; here a name is one whole. */
	return g && glob_wants_path(g) == (strchr(name, '/') != NULL) && glob_match(g, name, strlen(name));
}

static bool
for_tenant(const struct crew *c, const char *org_id)
{
	if (!c->conf || !c->conf->tenants.n)
		return true;
	for (size_t i = 0; i < c->conf->tenants.n; i++)
		if (name_matches(c->tenants[i], c->conf->tenants.v[i], org_id))
			return true;
	return false;
}

/* What a reload has taken out of local.allowed_roots is not read any more, though the pool may still name it. */
static bool
root_allowed(const struct crew *c, const char *root)
{
	const char *rest;

	return path_under(&c->p->m->cfg->local_roots, root, &rest);
}

static void
local_roots(const struct crew *c, struct strlist *out)
{
	const struct strlist *all = c->conf && c->conf->roots.n ? &c->conf->roots : &c->p->m->cfg->local_roots;

	for (size_t i = 0; i < all->n; i++)
		if (root_allowed(c, all->v[i]))
			strlist_add(out, all->v[i]);
}

void
crew_roots(const struct crew *c, struct strlist *out)
{
	if (for_type(c, SOURCE_LOCAL))
		local_roots(c, out);
	if (for_type(c, SOURCE_DUMMY))
		strlist_add(out, c->p->m->cfg->dummy_path);
}

const char *
pool_root(const struct pool *p, const struct task *t, const char *path)
{
	const struct crew *c = &p->crews[t->pool];
	const struct strlist *all = c->conf && c->conf->roots.n ? &c->conf->roots : &p->m->cfg->local_roots;
	const char *rest, *root = path_under(all, path, &rest);

	return root && root_allowed(c, root) ? root : NULL;
}

/* Of the pool's directories and the tenant's what both hold. */
static void
tenants_roots(const struct crew *c, const char *org_id, struct strlist *out)
{
	const struct strlist *theirs = tenant_roots(c->p->m->cfg, org_id);
	struct strlist ours = { .n = 0 };
	const char *rest, *root;

	local_roots(c, &ours);
	for (size_t i = 0; i < theirs->n; i++)
		if (path_under(&ours, theirs->v[i], &rest))
			strlist_add(out, theirs->v[i]);
	for (size_t i = 0; i < ours.n; i++)
		if ((root = path_under(theirs, ours.v[i], &rest)) && strcmp(root, ours.v[i]))
			strlist_add(out, ours.v[i]);
	strlist_release(&ours);
}

void
pool_confine(const struct slot *s, const struct task *t, struct task_spec *spec)
{
	const struct crew *c = s->crew;
	const char *org_id = t->job->org_id;

	spec->last = t->alone || crew_single(c, org_id);
	if (task_role(t) != ROLE_LOCAL)
		return;
	if (spec->last) {
		/* Exactly what it lists; what generates its files reads none. */
		spec->narrows = true;
		if (spec->root[0])
			strlist_add(&spec->narrow, spec->root);
	} else if (!s->key && t->key == org_id && tenants_get(c->p->m->cfg, org_id)->roots.n) {
		/* Its first task tells whose it is from now on. */
		spec->narrows = true;
		tenants_roots(c, org_id, &spec->narrow);
		if (for_type(c, SOURCE_DUMMY))
			strlist_add(&spec->narrow, c->p->m->cfg->dummy_path);
	}
}

enum worker_role
crew_first_role(const struct crew *c)
{
	for (int t = 0; t < SOURCE__MAX; t++)
		if (for_type(c, t) && source_rows[t].role == ROLE_LOCAL)
			return ROLE_LOCAL;
	return ROLE_NETWORK;
}

/* ---- where a task goes --------------------------------------------------------------------------------------------- */

static enum isolation
demanded(const struct pool *p, const char *org_id)
{
	return (enum isolation)tenants_get(p->m->cfg, org_id)->isolation;
}

/* NULL: it fits; else why not. */
static const char *
misfit(const struct crew *c, const struct task *t)
{
	const struct source_conf *s = &t->job->job->sources[t->index];

	if (!for_type(c, s->type))
		return "is not for its source type";
	if (!for_tenant(c, t->job->org_id))
		return "is not for its tenant";
	if (s->type == SOURCE_LOCAL && !pool_root(c->p, t, s->v[SF_COMMON_PATH].s))
		return "has no root that holds its path";
	return NULL;
}

static int
refuse(const struct pool *p, struct task *t, struct err *e)
{
	const struct source_conf *s = &t->job->job->sources[t->index];
	size_t before = t->pool;
	struct buf b = BUF_INIT;

	buf_printf(&b, "no pool takes a task of the source type %s for the tenant %s:", source_rows[s->type].name, t->job->org_id);
	for (size_t i = 0; i < p->n_crews && i < NAMED_MAX; i++) {
		t->pool = i;
		buf_printf(&b, "%s %s %s", i ? "," : "", p->crews[i].name, misfit(&p->crews[i], t));
	}
	if (p->n_crews > NAMED_MAX)
		buf_puts(&b, ", and so on");
	err_set(e, ERR_POLICY, "%s", buf_str(&b));
	buf_release(&b);
	t->pool = before;
	return -1;
}

/* Kept for good: as many as groups were ever named. */
static const char *
group_key(struct pool *p, const char *group)
{
	size_t skip = strlen(GROUP_MARK);
	char *key;

	for (size_t i = 0; i < p->groups.n; i++)
		if (!strcmp(p->groups.v[i] + skip, group))
			return p->groups.v[i];
	key = xasprintf(GROUP_MARK "%s", group);
	strlist_add(&p->groups, key);
	free(key);
	return p->groups.v[p->groups.n - 1];
}

static const char *
key_for(struct crew *c, const char *org_id)
{
	/* Nobody shares a process with anybody: they take turns as tenants, not by processes. */
	if (c->isolation == ISOLATION_JOB)
		return "";
	if (stronger(c->isolation, demanded(c->p, org_id)) == ISOLATION_SHARED)
		return group_key(c->p, tenants_get(c->p->m->cfg, org_id)->group);
	return org_id;
}

int
pool_assign(struct pool *p, struct task *t, struct err *e)
{
	struct crew *weaker = NULL, *c;
	enum isolation want = demanded(p, t->job->org_id);
	size_t before = t->pool;

	for (c = p->crews; c < p->crews + p->n_crews; c++) {
		t->pool = c->index;
		if (misfit(c, t))
			continue;
		if (strength(c->isolation) >= strength(want))
			break;
		if (!weaker)
			weaker = c;
	}
	if (c == p->crews + p->n_crews)
		c = weaker;
	t->pool = before;
	if (!c)
		return refuse(p, t, e);
	t->pool = c->index;
	t->key = key_for(c, t->job->org_id);
	return 0;
}

int
pool_fits(const struct pool *p, const struct task *t, struct err *e)
{
	const char *why = misfit(&p->crews[t->pool], t);

	return why ? err_set(e, ERR_POLICY, "the task's pool %s %s", p->crews[t->pool].name, why) : 0;
}

bool
crew_single(const struct crew *c, const char *org_id)
{
	return stronger(c->isolation, demanded(c->p, org_id)) == ISOLATION_JOB;
}

const char *
slot_pool(const struct slot *s)
{
	return s->crew->name;
}

const char *
slot_bound_to(const struct slot *s)
{
	return s->key && *s->key->name ? s->key->name + (*s->key->name == *GROUP_MARK) : NULL;
}

/* ---- beginning and end ---------------------------------------------------------------------------------------------- */

/* An idle worker may give way by now: the loop calls dispatch_run after this, which asks again. */
static void
on_linger(void *arg)
{
	(void)arg;
}

static unsigned
types_of(const struct strlist *names)
{
	unsigned types = 0;

	for (size_t i = 0; i < names->n; i++)
		for (int t = 0; t < SOURCE__MAX; t++)
			if (!strcmp(names->v[i], source_rows[t].name) || !strcmp(names->v[i], "*"))
				types |= 1u << t;
	return names->n ? types : ~0u;
}

static void
configured(struct crew *c, const struct pool_conf *conf)
{
	struct err e = ERR_INIT;

	c->conf = conf;
	c->name = conf->e.name;
	c->isolation = (enum isolation)conf->isolation;
	c->workers = (size_t)conf->workers;
	c->spares = (size_t)conf->spares;
	c->types = types_of(&conf->source_types);
	c->tenants = xcalloc(conf->tenants.n + 1, sizeof(*c->tenants));
	for (size_t i = 0; i < conf->tenants.n; i++)
		c->tenants[i] = glob_new(conf->tenants.v[i], strlen(conf->tenants.v[i]), false, &e);
}

void
crews_init(struct pool *p)
{
	const struct config *cfg = p->m->cfg;
	size_t n = config_entries(cfg, CONFIG_TABLE_POOLS);

	p->n_crews = n ? n : 1;
	p->crews = xcalloc(p->n_crews, sizeof(*p->crews));
	/* Without any the tenants alone say who shares what. */
	p->crews[0] = (struct crew){ .name = "default", .isolation = ISOLATION_SHARED, .workers = (size_t)cfg->workers_count,
		.spares = (size_t)cfg->workers_spares, .types = ~0u };
	for (size_t i = 0; i < p->n_crews; i++) {
		struct crew *c = &p->crews[i];

		if (n)
			configured(c, (const struct pool_conf *)config_entry_at(cfg, CONFIG_TABLE_POOLS, i));
		c->p = p;
		c->index = i;
		c->next_role = ROLE_NETWORK;
		timer_init(&c->linger, on_linger, c);
	}
}

void
crews_release(struct pool *p)
{
	for (struct crew *c = p->crews; c < p->crews + p->n_crews; c++) {
		timer_cancel(p->m->loop, &c->linger);
		for (size_t i = 0; c->tenants && i < c->conf->tenants.n; i++)
			glob_free(c->tenants[i]);
		free(c->tenants);
	}
	strlist_release(&p->groups);
	free(p->crews);
}
