/*
 * tenants_show.c - the tenants as JSON, for the verb tenants and for /status.json: what each has in hand, what it waits
 * for, what it may. Called by control_verbs.c and status.c; changes nothing.
 */
#include <stdlib.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

static const char *const isolations[] = { "tenant", "job", "shared" };

static void
limit(struct jsonw *j, const char *key, int64_t v)
{
	if (v)
		jsonw_int(j, key, v);
	else
		jsonw_null(j, key);
}

static void
show(struct jsonw *j, const struct tenant_view *v)
{
	jsonw_object(j, NULL);
	jsonw_str(j, "org_id", v->name);
	jsonw_str(j, "entry", v->entry);
	jsonw_int(j, "running", v->running);
	limit(j, "tasks", v->conf->tasks);
	jsonw_int(j, "waiting", v->waiting);
	jsonw_str(j, "waits_for", *v->why ? v->why : NULL);
	jsonw_int(j, "weight", v->conf->weight);
	limit(j, "jobs_per_minute", v->conf->jobs_per_minute);
	limit(j, "requests_per_minute", v->conf->requests_per_minute);
	jsonw_int(j, "requests", (int64_t)v->requests);
	jsonw_dbl(j, "request_wait_seconds", (double)v->request_wait_ms / 1000, 3);
	jsonw_str(j, "isolation", isolations[v->conf->isolation]);
	jsonw_int(j, "started", (int64_t)v->started);
	jsonw_int(j, "waited", (int64_t)v->waited);
	jsonw_dbl(j, "waited_seconds", (double)v->waited_ms / 1000, 3);
	jsonw_dbl(j, "idle_seconds", (double)v->idle_ms / 1000, 3);
	jsonw_end_object(j);
}

size_t
tenants_json(struct jsonw *j, const struct master *m, size_t max)
{
	struct tenant_view *v = xcalloc(max, sizeof(*v));
	size_t all, n = tenants_view(m, v, max, &all);

	jsonw_array(j, "tenants");
	for (size_t i = 0; i < n; i++)
		show(j, &v[i]);
	jsonw_end_array(j);
	free(v);
	return all - n;
}
