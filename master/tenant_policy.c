/*
 * tenant_policy.c - what a tenant's job may ask for: its entry of `tenants:` (tenant.def) held against the job.
 *
 * jobs.c asks when it takes a job, dispatch.c again before each attempt, since a reload may have changed the entry, and
 * secret.c where a secret is read. A refusal is the class policy and names the setting that says so. Asks nobody and
 * changes nothing. How much a tenant may do at once is tenants.c's business.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/field.h"
#include "common/glob.h"
#include "common/hosts.h"
#include "common/units.h"
#include "master/master.h"
#include "common/banned.h"

static int refuse(struct err *e, const struct tenant_conf *t, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* "...; tenants.acme.hosts does not allow it" */
static int
refuse(struct err *e, const struct tenant_conf *t, const char *key, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(e, ERR_POLICY, "%.600s: tenants.%s.%s does not allow it", text, tenant_entry_name(t), key);
}

static bool
listed(const struct strlist *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], s))
			return true;
	return false;
}

/* Empty, or everything by its one word. */
static bool
any(const struct strlist *l)
{
	return !l->n || listed(l, "*");
}

static bool
matches(const char *pattern, const char *s, bool path)
{
	struct err e = ERR_INIT;
	struct glob *g = glob_new(pattern, strlen(pattern), false, &e);
	bool yes = g && glob_wants_path(g) == path && glob_match(g, s, strlen(s));

	glob_free(g);
	return yes;
}

/* ---- hosts ---- */

static int
check_host(const struct tenant_conf *t, const char *what, const char *url, struct err *e)
{
	char host[HOSTS_TEXT];

	if (!hosts_of_url(url, host))
		return refuse(e, t, "hosts", "the %s names no host that can be compared", what);
	if (!hosts_hold(&t->hosts, host))
		return refuse(e, t, "hosts", "the %s is on the host %s", what, host);
	return 0;
}

static int
check_hosts(const struct tenant_conf *t, const struct source_conf *c, struct err *e)
{
	const struct field_value *proxy = &c->v[SF_NETWORK_PROXY_URL], *name = &c->v[SF_NETWORK_TLS_SERVER_NAME];

	if (hosts_any(&t->hosts) || !c->endpoint)
		return 0;
	if (check_host(t, "source", c->endpoint, e))
		return -1;
	/* A server that many share goes by this name. */
	if (name->set && check_host(t, "server that TLS asks for", name->s, e))
		return -1;
	if (c->type == SOURCE_HTTP && c->v[SF_HTTP_AUTH_TOKEN_URL].set && check_host(t, "auth.token_url", c->v[SF_HTTP_AUTH_TOKEN_URL].s, e))
		return -1;
	return proxy->set ? check_host(t, "proxy", proxy->s, e) : 0;
}

/* ---- secrets ---- */

/* Does this field name a secret that the poller keeps? Certificates and host keys are none. */
static bool
names_secret(const struct source_conf *c, int id)
{
	unsigned flags = field_rows[id].flags;

	if (!c->v[id].set || !c->v[id].s)
		return false;
	if (id == SF_NETWORK_CREDENTIALS_REF || id == SF_S3_SHARED_CREDENTIALS_FILE || id == SF_S3_WEB_IDENTITY_TOKEN_FILE || flags & FIELD_REF)
		return true;
	return flags & FIELD_FILE && field_rows[field_target(field_rows, id)].flags & FIELD_SECRET;
}

/* A pattern without '/' is of names in credentials.dir, one with it of files. */
static bool
secret_listed(const struct strlist *l, const char *name)
{
	bool path = *name == '/';

	for (size_t i = 0; i < l->n; i++)
		if (matches(l->v[i], path ? name + 1 : name, path))
			return true;
	return false;
}

int
tenant_permits_secret(const struct config *cfg, const char *org_id, const struct source_conf *c, int id, struct err *e)
{
	const struct tenant_conf *t = tenants_get(cfg, org_id);
	bool none = t->credentials.n == 1 && !strcmp(t->credentials.v[0], "none");

	if (any(&t->credentials) || !names_secret(c, id) || (!none && secret_listed(&t->credentials, c->v[id].s)))
		return 0;
	return refuse(e, t, "credentials", "%s names %s", field_rows[id].name, c->v[id].s);
}

static int
check_secrets(const struct config *cfg, const struct tenant_conf *t, const char *org_id, const struct source_conf *c, struct err *e)
{
	for (int i = 0; i < SF__MAX; i++) {
		if (!c->v[i].set)
			continue;
		if (field_rows[i].flags & FIELD_SECRET && !t->credentials_inline)
			return err_set(e, ERR_POLICY, "%s in a job: tenants.%s.credentials_inline forbids it; name a secret that the poller keeps",
			    field_rows[i].name, tenant_entry_name(t));
		if (tenant_permits_secret(cfg, org_id, c, i, e))
			return -1;
	}
	return 0;
}

/* ---- all of it ---- */

const struct strlist *
tenant_roots(const struct config *cfg, const char *org_id)
{
	const struct tenant_conf *t = tenants_get(cfg, org_id);

	return t->roots.n ? &t->roots : &cfg->local_roots;
}

int
tenant_permits_source(const struct config *cfg, const char *org_id, const struct source_conf *c, struct err *e)
{
	const struct tenant_conf *t = tenants_get(cfg, org_id);
	const char *type = source_rows[c->type].name, *rest;

	if (!any(&t->source_types) && !listed(&t->source_types, type))
		return refuse(e, t, "source_types", "the source type is %s", type);
	if (c->type == SOURCE_LOCAL && t->roots.n && !path_under(&t->roots, c->v[SF_COMMON_PATH].s, &rest))
		return refuse(e, t, "roots", "the path is %.300s", c->v[SF_COMMON_PATH].s);
	if (check_hosts(t, c, e))
		return -1;
	return check_secrets(cfg, t, org_id, c, e);
}

int
tenant_permits_job(const struct config *cfg, const struct job *j, const char *topic, struct err *e)
{
	const struct tenant_conf *t = tenants_get(cfg, j->org_id);
	char limit[UNITS_TEXT];

	if (t->topics.n && !listed(&t->topics, topic))
		return refuse(e, t, "topics", "a job of the tenant %s from the topic %s", j->org_id, topic);
	if (t->timeout_max && j->timeout_ms > t->timeout_max) {
		units_duration_text(t->timeout_max, limit);
		return err_set(e, ERR_POLICY, "timeout is longer than tenants.%s.timeout_max (%s)", tenant_entry_name(t), limit);
	}
	for (size_t i = 0; i < j->n_sources; i++)
		if (tenant_permits_source(cfg, j->org_id, &j->sources[i], e))
			return -1;
	return 0;
}

int64_t
tenant_deadline(const struct config *cfg, const struct job *j)
{
	const struct tenant_conf *t = tenants_get(cfg, j->org_id);
	int64_t ms = j->timeout_ms >= 0 ? j->timeout_ms : cfg->timeout_job;

	return t->timeout_max && t->timeout_max < ms ? t->timeout_max : ms;
}
