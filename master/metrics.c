/*
 * metrics.c - counters, gauges and histograms of metrics.def, kept and printed in text format 0.0.4.
 *
 * Every room of the master calls it; httpd.c and control.c have it printed. Only the master counts: workers report
 * numbers in DONE, so a crash loses nothing. Series of known label values are made at the start with 0, from the
 * same lists that name the values elsewhere. The number of series is bounded whatever the labels say.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/broker.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

enum kind { COUNTER, GAUGE, HISTOGRAM };

struct row {
	const char *name;
	enum kind kind;
	const char *labels;             /* space separated, at most two */
	const char *help;
};

static const struct row rows[METRIC__MAX] = {
#define METRIC(id, name, kind, labels, help) [METRIC_##id] = { name, kind, labels, help },
#include "master/metrics.def"
#undef METRIC
};

#define BOUNDS_MAX 16

struct bounds {
	size_t n;
	double v[BOUNDS_MAX];
};

/* A job takes from milliseconds to its deadline; a start of a worker some milliseconds. */
static const struct bounds job_bounds = { 8, { 0.005, 0.025, 0.1, 0.5, 2.5, 15, 120, 600 } };
static const struct bounds start_bounds = {
	12, { 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 10 }
};

static const struct bounds connector_bounds = { BROKER_N_BOUNDS, { BROKER_BOUNDS } };

struct series {
	char *l1, *l2;                  /* owned; NULL where the metric has fewer labels */
	double v;                       /* the value; the sum of a histogram */
	uint64_t count;                 /* of a histogram */
	uint64_t *in;                   /* of a histogram: observations in each bucket, not cumulated */
};

struct family {
	struct series *v;
	size_t n, last;                 /* last: found by the last look-up */
};

static struct family families[METRIC__MAX];

static const struct bounds *
bounds_of(enum metric m)
{
	return m == METRIC_WORKER_START ? &start_bounds : m == METRIC_CONNECTOR_SECONDS ? &connector_bounds : &job_bounds;
}

static size_t
label_count(enum metric m)
{
	const char *l = rows[m].labels;

	return *l ? strchr(l, ' ') ? 2 : 1 : 0;
}

static bool
same(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static struct series *
find(struct family *f, const char *l1, const char *l2)
{
	/* The same series is asked for in runs: a delivery report for each event. */
	if (f->last < f->n && same(f->v[f->last].l1, l1) && same(f->v[f->last].l2, l2))
		return &f->v[f->last];
	for (size_t i = 0; i < f->n; i++)
		if (same(f->v[i].l1, l1) && same(f->v[i].l2, l2)) {
			f->last = i;
			return &f->v[i];
		}
	return NULL;
}

static struct series *
make(enum metric m, const char *l1, const char *l2)
{
	struct family *f = &families[m];
	struct series *s;

	if (!f->v)
		f->v = xcalloc(METRIC_SERIES_MAX + 1, sizeof(*f->v));
	s = &f->v[f->n++];
	*s = (struct series){ .l1 = l1 ? xstrdup(l1) : NULL, .l2 = l2 ? xstrdup(l2) : NULL };
	if (rows[m].kind == HISTOGRAM)
		s->in = xcalloc(bounds_of(m)->n, sizeof(*s->in));
	return s;
}

static struct series *
series_of(enum metric m, const char *l1, const char *l2)
{
	size_t n = label_count(m);
	struct series *s;

	if ((n > 0) != (l1 != NULL) || (n > 1) != (l2 != NULL))
		BUG("a metric is given too many or too few labels");
	s = find(&families[m], l1, l2);
	if (s)
		return s;
	if (families[m].n >= METRIC_SERIES_MAX) {
		/* One more than the limit: the place for all the rest. */
		l1 = n > 0 ? "other" : NULL;
		l2 = n > 1 ? "other" : NULL;
		s = find(&families[m], l1, l2);
	}
	return s ? s : make(m, l1, l2);
}

void
metric_add(enum metric m, double n, const char *l1, const char *l2)
{
	series_of(m, l1, l2)->v += n;
}

void
metric_set(enum metric m, double v, const char *l1, const char *l2)
{
	series_of(m, l1, l2)->v = v;
}

void
metric_observe(enum metric m, double v, const char *l1)
{
	const struct bounds *b = bounds_of(m);
	struct series *s = series_of(m, l1, NULL);
	size_t i = 0;

	if (rows[m].kind != HISTOGRAM)
		BUG("an observation of what is no histogram");
	while (i < b->n && v > b->v[i])
		i++;
	if (i < b->n)
		s->in[i]++;
	s->count++;
	s->v += v;
}

void
metric_merge(enum metric m, const char *l1, const uint32_t *in, double sum)
{
	const struct bounds *b = bounds_of(m);
	struct series *s = series_of(m, l1, NULL);

	if (rows[m].kind != HISTOGRAM)
		BUG("observations of what is no histogram");
	for (size_t i = 0; in && i <= b->n; i++) {
		if (i < b->n)
			s->in[i] += in[i];
		s->count += in[i];
	}
	s->v += sum;
}

void
metric_reset(enum metric m)
{
	struct family *f = &families[m];

	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].l1);
		free(f->v[i].l2);
		free(f->v[i].in);
	}
	free(f->v);
	*f = (struct family){ 0 };
}

/* The sum of a histogram's observations; 0 where there is no such series. */
double
metric_get(enum metric m, const char *l1, const char *l2)
{
	const struct series *s = find(&families[m], l1, l2);

	return s ? s->v : 0;
}

/* ---- the series that exist from the start ----------------------------------------------------------------------- */

/* What alerts ask for, of each source: from the start, at 0. The others appear when they happen: with six types, all of
 * them would be a third of the page. */
static const enum err_class expected[] = { ERR_NOT_FOUND, ERR_AUTH, ERR_TRANSIENT, ERR_TIMEOUT };

static void
init_sources(const char *type, bool one_source)
{
	static const char *const entries[] = { "matched", "skipped", "error" };

	for (int o = 0; o < OUTCOME__MAX; o++)
		/* What was not even parsed can only fail. */
		if (o == OUTCOME_FAILED || strcmp(type, "none"))
			metric_add(METRIC_JOBS, 0, job_outcome_name((enum job_outcome)o), type);
	if (!one_source)
		return;
	series_of(METRIC_JOB_DURATION, type, NULL);
	for (size_t i = 0; i < ARRAY_LEN(entries); i++)
		metric_add(METRIC_FILES_PROCESSED, 0, entries[i], type);
	for (size_t i = 0; i < ARRAY_LEN(expected); i++)
		metric_add(METRIC_CONNECTION_ERRORS, 0, type, err_name(expected[i]));
}

static void
init_classes(void)
{
	for (int i = 0; i < ERR__MAX; i++) {
		enum err_class c = (enum err_class)i;
		enum err_disposition d = err_disposition(c);

		if (d == ERR_DO_RETRY || d == ERR_DO_ALONE || d == ERR_DO_HOLD)
			metric_add(METRIC_RETRIES, 0, err_name(c), NULL);
		if (d != ERR_DO_NONE && d != ERR_DO_HOLD)
			metric_add(METRIC_DLQ, 0, err_name(c), NULL);
	}
}

void
metrics_init(void)
{
	static const struct { enum metric m; const char *l1; } single[] = {
		{ METRIC_JOB_PHASE, "open" }, { METRIC_JOB_PHASE, "list" }, { METRIC_JOB_PHASE, "publish" },
		{ METRIC_FILES_PUBLISHED, "success" }, { METRIC_FILES_PUBLISHED, "error" },
		{ METRIC_REBALANCES, "assign" }, { METRIC_REBALANCES, "revoke" }, { METRIC_REBALANCES, "lost" },
		{ METRIC_COMMITS, "success" }, { METRIC_COMMITS, "error" },
		{ METRIC_JOBS_DEFERRED, "schedule" }, { METRIC_JOBS_DEFERRED, "retry" }, { METRIC_JOBS_DEFERRED, "quota" },
		{ METRIC_DEFERRED_REWRITTEN, "retention" }, { METRIC_DEFERRED_REWRITTEN, "span" },
		{ METRIC_HTTP_REQUESTS, "served" }, { METRIC_HTTP_REQUESTS, "refused" },
	};

	metrics_free();
	for (int i = 0; i < SOURCE__MAX; i++)
		if (!source_rows[i].later)
			init_sources(source_rows[i].name, true);
	init_sources("mixed", false);
	init_sources("none", false);    /* not even parsed */
	init_classes();
	for (int i = 0; i < WORKER__MAX; i++)
		metric_set(METRIC_WORKERS, 0, worker_state_name((enum worker_state)i), NULL);
	for (int i = 0; i < DEATH__MAX; i++)
		metric_add(METRIC_WORKER_RESTARTS, 0, death_cause_name((enum death_cause)i), NULL);
	for (int i = 0; i < PRIORITY__MAX; i++)
		metric_set(METRIC_QUEUE_DEPTH, 0, job_priority_name((enum job_priority)i), NULL);
	for (size_t i = 0; i < ARRAY_LEN(single); i++)
		series_of(single[i].m, single[i].l1, NULL);
	for (int i = 0; i < METRIC__MAX; i++)
		if (!label_count((enum metric)i))
			series_of((enum metric)i, NULL, NULL);
	metric_set(METRIC_BUILD_INFO, 1, VERSION, ipc_build_id);
}

void
metrics_free(void)
{
	for (int i = 0; i < METRIC__MAX; i++)
		metric_reset((enum metric)i);
}

/* ---- printing ----------------------------------------------------------------------------------------------------- */

/* Label values: \, " and newline are escaped in this format, and all must be UTF-8. */
static void
print_value(struct buf *b, const char *s)
{
	size_t at = b->len, n;
	char *copy;

	utf8_replace(b, s, strlen(s));
	n = b->len - at;
	if (!strpbrk(s, "\\\"\n"))
		return;
	copy = xmemdup0(b->p + at, n);
	b->len = at;
	for (size_t i = 0; i < n; i++) {
		if (copy[i] == '\\' || copy[i] == '"')
			buf_putc(b, '\\');
		if (copy[i] == '\n')
			buf_puts(b, "\\n");
		else
			buf_putc(b, copy[i]);
	}
	free(copy);
}

static void
print_label(struct buf *b, char *before, const char *name, size_t n, const char *value)
{
	buf_putc(b, *before);
	*before = ',';
	buf_add(b, name, n);
	buf_puts(b, "=\"");
	print_value(b, value);
	buf_putc(b, '"');
}

static void
print_number(struct buf *b, double v)
{
	if (v == floor(v) && fabs(v) < 9e15)
		buf_printf(b, "%.0f", v);
	else
		buf_printf(b, "%.17g", v);
}

/* name{labels,le="..."} value; le NULL: none */
static void
print_sample(struct buf *b, enum metric m, const char *suffix, const struct series *s, const char *le, double v)
{
	const char *labels = rows[m].labels, *space = strchr(labels, ' ');
	size_t first = space ? (size_t)(space - labels) : strlen(labels);
	char before = '{';

	buf_puts(b, rows[m].name);
	buf_puts(b, suffix);
	if (s->l1)
		print_label(b, &before, labels, first, s->l1);
	if (s->l2 && space)
		print_label(b, &before, space + 1, strlen(space + 1), s->l2);
	if (le)
		print_label(b, &before, "le", 2, le);
	if (before == ',')
		buf_putc(b, '}');
	buf_putc(b, ' ');
	print_number(b, v);
	buf_putc(b, '\n');
}

static void
print_histogram(struct buf *b, enum metric m, const struct series *s)
{
	const struct bounds *bounds = bounds_of(m);
	struct buf le = BUF_INIT;
	uint64_t sum = 0;

	for (size_t i = 0; i < bounds->n; i++) {
		sum += s->in[i];
		buf_clear(&le);
		buf_printf(&le, "%g", bounds->v[i]);
		print_sample(b, m, "_bucket", s, buf_str(&le), (double)sum);
	}
	print_sample(b, m, "_bucket", s, "+Inf", (double)s->count);
	print_sample(b, m, "_sum", s, NULL, s->v);
	print_sample(b, m, "_count", s, NULL, (double)s->count);
	buf_release(&le);
}

void
metrics_render(struct buf *b)
{
	static const char *const kinds[] = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };

	for (int i = 0; i < METRIC__MAX; i++) {
		enum metric m = (enum metric)i;
		const struct family *f = &families[m];

		/* A metric without a sample yet is no finding, one whose name is missing is: both lines always. */
		buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", rows[m].name, rows[m].help, rows[m].name, kinds[rows[m].kind]);
		for (size_t k = 0; k < f->n; k++) {
			if (rows[m].kind == HISTOGRAM)
				print_histogram(b, m, &f->v[k]);
			else
				print_sample(b, m, "", &f->v[k], NULL, f->v[k].v);
		}
	}
}
