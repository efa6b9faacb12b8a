/*
 * deferred_view.c - what others may see and do of the jobs that wait in the deferred topic: list, cancel, metrics.
 *
 * Called by control_verbs.c and status.c. Only the partitions that this poller holds: another daemon has the others.
 */
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "master/deferred_priv.h"
#include "common/banned.h"

size_t
deferred_count(const struct deferred *d)
{
	return deferred_known(d) - d->held;
}

static int
by_due(const void *a, const void *b)
{
	const struct defer_entry *x = *(struct defer_entry *const *)a, *y = *(struct defer_entry *const *)b;

	return x->due_ns != y->due_ns ? (x->due_ns < y->due_ns ? -1 : 1) : (x->offset > y->offset) - (x->offset < y->offset);
}

/* Those that wait, in no order; caller frees. */
static struct defer_entry **
collect(const struct deferred *d, size_t *n)
{
	struct defer_entry **list = xcalloc(d->index.n + 1, sizeof(struct defer_entry *));

	*n = 0;
	for (size_t i = 0; i < d->n_parts; i++) {
		const struct defer_part *p = d->parts[i];

		for (size_t k = p ? p->line.head : 0; p && k < p->line.n; k++)
			if (p->line.row[k].e && p->line.row[k].e->state == DEFER_WAITING)
				list[(*n)++] = p->line.row[k].e;
	}
	return list;
}

static void
put(struct deferred *d, struct jsonw *j, const struct defer_entry *en)
{
	const struct defer_part *p = (const struct defer_part *)en->line;
	static struct buf bytes;
	static struct deferral df;
	struct err e = ERR_INIT;
	struct defer_record r;
	bool good = deferred_load(d, en, &bytes, &r) == 0 && deferral_read(r.h, r.n_headers, &df, &e) == 0;

	jsonw_object(j, NULL);
	jsonw_str(j, "job_id", good ? df.job_id : NULL);
	jsonw_str(j, "org_id", good ? df.org_id : NULL);
	jsonw_time(j, "due", good ? df.due_ns : TIME_UNKNOWN);
	jsonw_dbl(j, "seconds", good ? (double)(df.due_ns - clock_real_ns()) / 1e9 : 0, 3);
	jsonw_str(j, "reason", good ? defer_why_name(df.why) : NULL);
	jsonw_str(j, "error", good && df.error[0] ? df.error : NULL);
	jsonw_int(j, "times", good ? df.count : 0);
	jsonw_bool(j, "cancelled", en->cancel);
	jsonw_object(j, "origin");
	jsonw_str(j, "topic", good ? df.topic : NULL);
	jsonw_int(j, "partition", good ? df.partition : 0);
	jsonw_int(j, "offset", good ? df.offset : 0);
	jsonw_end_object(j);
	jsonw_int(j, "partition", p->id);
	jsonw_int(j, "offset", en->offset);
	jsonw_end_object(j);
	if (bytes.p)
		explicit_bzero(bytes.p, bytes.len);
}

size_t
deferred_list(struct deferred *d, struct jsonw *j, size_t max)
{
	size_t n, shown;
	struct defer_entry **list = collect(d, &n);

	qsort(list, n, sizeof(struct defer_entry *), by_due);
	shown = n < max ? n : max;
	for (size_t i = 0; i < shown; i++)
		put(d, j, list[i]);
	free(list);
	return n - shown;
}

static bool
is_job(struct deferred *d, const struct defer_entry *en, const char *job_id)
{
	static struct buf bytes;
	static struct deferral df;
	struct err e = ERR_INIT;
	struct defer_record r;
	bool is = deferred_load(d, en, &bytes, &r) == 0 && deferral_read(r.h, r.n_headers, &df, &e) == 0 && !strcmp(df.job_id, job_id);

	if (bytes.p)
		explicit_bzero(bytes.p, bytes.len);
	return is;
}

static void
set_due(struct deferred *d, struct defer_entry *e, int64_t due_ns)
{
	/* Else as soon as its partition releases. */
	bool waits = e->heap != 0;

	if (waits)
		defer_unwait(&d->index, e);
	e->due_ns = due_ns;
	if (waits)
		defer_wait(&d->index, e);
}

void
deferred_quotas_changed(struct deferred *d)
{
	int64_t now = clock_real_ns();
	size_t n, hurried = 0;
	struct defer_entry **list = collect(d, &n);

	qsort(list, n, sizeof(struct defer_entry *), by_due);
	for (size_t i = 0; i < n; i++)
		if (list[i]->quota && !list[i]->cancel && list[i]->due_ns > now)
			set_due(d, list[i], now + (int64_t)hurried++);
	free(list);
	if (!hurried)
		return;
	LOG(LOG_INFO, "deferred_quotas_changed", LI("jobs", hurried));
	deferred_kick(d);
}

size_t
deferred_cancel(struct deferred *d, const char *job_id)
{
	uint64_t hash = defer_hash(job_id, strlen(job_id));
	size_t n, cancelled = 0;
	struct defer_entry **list = collect(d, &n);

	for (size_t i = 0; i < n; i++) {
		struct defer_entry *e = list[i];

		if (e->job_hash != hash || e->cancel || !is_job(d, e, job_id))
			continue;
		LOG(LOG_WARN, "job_cancel", LS("job_id", job_id), LI("deferred_partition", ((struct defer_part *)e->line)->id),
		    LI("deferred_offset", e->offset));
		e->cancel = true;
		cancelled++;
		set_due(d, e, 0);
	}
	free(list);
	if (cancelled)
		deferred_kick(d);
	return cancelled;
}

const char *
deferred_trouble(const struct deferred *d)
{
	return d->trouble[0] ? d->trouble : d->no_room[0] ? d->no_room : NULL;
}

void
deferred_refresh_metrics(const struct deferred *d)
{
	const struct defer_entry *e = defer_next(&d->index);
	int64_t late = e ? clock_real_ns() - e->due_ns : 0;

	metric_set(METRIC_DEFERRED_WAITING, (double)deferred_count(d), NULL, NULL);
	metric_set(METRIC_DEFERRED_NEXT, e ? (double)(e->due_ns / 1000000) / 1000 : 0, NULL, NULL);
	metric_set(METRIC_DEFERRED_LATE, e && e->due_ns && late > 0 ? (double)(late / 1000000) / 1000 : 0, NULL, NULL);
}
