/*
 * metrics.h - counters, gauges and histograms of metrics.def, in text format 0.0.4.
 *
 * Label values come from fixed lists only; a series that was not declared is counted under "other" once
 * METRIC_SERIES_MAX of a metric exist. Known series start at 0.
 */
#ifndef MASTER_METRICS_H
#define MASTER_METRICS_H

#include <stdint.h>

#include "common/buf.h"

enum metric {
#define METRIC(id, name, type, labels, help) METRIC_##id,
#include "master/metrics.def"
#undef METRIC
	METRIC__MAX
};

#define METRIC_SERIES_MAX 192

void metrics_init(void);
void metrics_free(void);
/* l1, l2: values of the metric's labels in order; NULL where it has fewer. */
void metric_add(enum metric, double n, const char *l1, const char *l2);
void metric_set(enum metric, double v, const char *l1, const char *l2);
void metric_observe(enum metric, double v, const char *l1);
/* Observations counted elsewhere: so many within each bound, the last beyond them all; NULL: none. sum: of their values. */
void metric_merge(enum metric, const char *l1, const uint32_t *in, double sum);
/* Drops all series of a gauge (partitions that went away). */
void metric_reset(enum metric);
double metric_get(enum metric, const char *l1, const char *l2);
void metrics_render(struct buf *);

#endif
