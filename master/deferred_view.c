/*
 * deferred_view.c - what others may see and do of the jobs that wait in the deferred topic: list, cancel, metrics.
 *
 * Called by control_verbs.c and status.c. Only the partitions that this poller holds: another daemon has the others.
 *
 * A job that is to be cancelled may not be released at once, and a restart must not forget it: so the wish is a record of
 * its partition, signed as marks are, and whoever asked is told when Kafka has acknowledged it, or that this is not so.
 * It names the job by its origin: copies of before and after are meant, too. Nothing is cancelled before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "master/deferred_priv.h"
#include "master/event_priv.h"
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

/* ---- cancelling ---------------------------------------------------------------------------------------------------------- */

#define WISH_MS 5000

struct wish { struct ticket ticket; struct wishes *all; int32_t partition; uint32_t epoch; struct defer_origin origin; };

struct wishes {                         /* those of one request */
	struct deferred *d;
	struct deferred_asker asker;
	struct timer late;
	LIST_ENTRY(wishes) entry;
	size_t n, pending, recorded;
	size_t refused;                 /* of them no record could be written */
	bool told;
	char why[256];                  /* of one that is not recorded */
	struct wish wish[];
};

void
deferred_wish(struct deferred *d, struct defer_part *p, const struct defer_origin *o)
{
	struct defer_entry *e = defer_find_origin(&d->index, &p->line, o);

	if (!e || e->cancel || e->state == DEFER_ENDED)
		return;
	LOG(LOG_INFO, "deferred_cancelled", LI("partition", p->id), LI("offset", e->offset));
	e->cancel = true;
	if (e->state == DEFER_IN_HAND) {
		const struct origin at = { .partition = p->id, .offset = e->offset, .epoch = p->epoch, .deferred = true };

		jobs_cancel_at(d->m->jobs, &at);
		return;
	}
	set_due(d, e, 0);
	deferred_kick(d);
}

static void
tell(struct wishes *w)
{
	if (!w->told)
		w->asker.told(&w->asker, w->recorded, w->refused + w->n - w->recorded, w->why);
	w->told = true;
}

static void
wishes_free(struct wishes *w)
{
	timer_cancel(w->d->m->loop, &w->late);
	LIST_REMOVE(w, entry);
	free(w);
}

/* What Kafka takes later on is granted nevertheless. */
static void
late(void *arg)
{
	struct wishes *w = arg;

	if (w->pending)
		snprintf(w->why, sizeof(w->why), "Kafka has not acknowledged it for %d s", WISH_MS / 1000);
	tell(w);
	if (!w->pending)
		wishes_free(w);
}

void
deferred_wishes_free(struct deferred *d)
{
	while (!LIST_EMPTY(&d->wishes))
		wishes_free(LIST_FIRST(&d->wishes));
}

static void
wish_failed(struct deferred *d, struct wish *k, const char *why)
{
	struct defer_part *p = deferred_part_of(d, k->partition);
	struct defer_entry *e = p && p->epoch == k->epoch ? defer_find_origin(&d->index, &p->line, &k->origin) : NULL;

	if (e)
		e->wished = false;
	snprintf(k->all->why, sizeof(k->all->why), "%s", why);
}

static void
wish_delivered(struct ticket *ticket, enum delivery how, const char *why)
{
	struct wish *k = (struct wish *)((char *)ticket - offsetof(struct wish, ticket));
	struct wishes *w = k->all;
	struct deferred *d = w->d;
	struct defer_part *p = deferred_part_of(d, k->partition);

	if (how != DELIVERY_OK) {
		wish_failed(d, k, why);
	} else if (!p || p->epoch != k->epoch) {
		/* Its next owner may have read to the end before it stood there. */
		wish_failed(d, k, "another poller has been given its partition");
	} else {
		w->recorded++;
		deferred_wish(d, p, &k->origin);
	}
	if (--w->pending)
		return;
	tell(w);
	wishes_free(w);
}

/* NULL: the record is on its way. Else why not. */
static const char *
wish_send(struct wishes *w, struct defer_entry *en)
{
	static struct out_record out;
	static struct err e;
	struct defer_part *p = (struct defer_part *)en->line;
	struct wish *k = &w->wish[w->n];

	if (!p->assigned || !p->acked_key)
		return "its partition is just being given to a poller";
	*k = (struct wish){ .ticket = { wish_delivered }, .all = w, .partition = p->id, .epoch = p->epoch, .origin = en->origin };
	defer_cancel_write(p->key, p->id, &en->origin, &out);
	e = (struct err)ERR_INIT;
	if (publish_send(w->d->m->publisher, OUT_DEFERRED, &out, &k->ticket, &e) < 0)
		return e.text;
	en->wished = true;
	w->n++;
	w->pending++;
	return NULL;
}

size_t
deferred_cancel(struct deferred *d, const struct deferred_asker *asker)
{
	const char *job_id = asker->job_id, *why;
	uint64_t hash = defer_hash(job_id, strlen(job_id));
	size_t n, found = 0;
	struct defer_entry **list = collect(d, &n);
	struct wishes *w;

	for (size_t i = 0; i < n; i++)
		if (list[i]->job_hash == hash && !list[i]->cancel && is_job(d, list[i], job_id))
			list[found++] = list[i];
	w = found ? xcalloc(1, sizeof(*w) + found * sizeof(w->wish[0])) : NULL;
	if (w) {
		w->d = d;
		w->asker = *asker;
		timer_init(&w->late, late, w);
		LIST_INSERT_HEAD(&d->wishes, w, entry);
	}
	for (size_t i = 0; i < found; i++) {
		LOG(LOG_WARN, "job_cancel", LS("job_id", job_id), LI("deferred_partition", ((struct defer_part *)list[i]->line)->id),
		    LI("deferred_offset", list[i]->offset));
		why = wish_send(w, list[i]);
		w->refused += why != NULL;
		if (why)
			snprintf(w->why, sizeof(w->why), "%s", why);
	}
	free(list);
	/* Never before the caller knows that it is to be told. */
	if (w)
		timer_set(d->m->loop, &w->late, w->pending ? WISH_MS : 0);
	return found;
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
