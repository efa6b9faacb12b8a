/*
 * master_metrics.c - text format 0.0.4: every series by its own line, histograms, bounds, escapes, what is there at the start.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

static struct buf page;

static const char *
render(void)
{
	buf_clear(&page);
	metrics_render(&page);
	return buf_str(&page);
}

/* The whole line is there exactly once. */
static bool
has_line(const char *line)
{
	const char *text = render(), *at = text;
	size_t n = strlen(line);
	int found = 0;

	while ((at = strstr(at, line))) {
		found += (at == text || at[-1] == '\n') && at[n] == '\n';
		at += n;
	}
	return found == 1;
}

static void
setup(void)
{
	metrics_init();
}

static void
teardown(void)
{
	metrics_free();
	buf_release(&page);
}

static const char *const at_start[] = {
	"# TYPE poller_jobs_total counter",
	"# TYPE poller_job_duration_seconds histogram",
	"# TYPE poller_active_jobs gauge",
	"poller_active_jobs 0",
	"poller_jobs_total{status=\"completed\",source_type=\"local\"} 0",
	"poller_jobs_total{status=\"cancelled\",source_type=\"mixed\"} 0",
	"poller_jobs_total{status=\"failed\",source_type=\"none\"} 0",
	"poller_files_processed_total{status=\"skipped\",source_type=\"dummy\"} 0",
	"poller_files_published_total{status=\"success\"} 0",
	"poller_connection_errors_total{source_type=\"local\",error_type=\"not_found\"} 0",
	"poller_dlq_messages_total{reason=\"invalid_job\"} 0",
	"poller_job_retries_total{reason=\"transient\"} 0",
	"poller_workers{state=\"backoff\"} 0",
	"poller_worker_restarts_total{cause=\"crash\"} 0",
	"poller_queue_depth{priority=\"high\"} 0",
	"poller_http_requests_total{status=\"refused\"} 0",
	"poller_worker_start_seconds_bucket{le=\"+Inf\"} 0",
	"poller_worker_start_seconds_bucket{le=\"0.005\"} 0",
	"poller_job_queue_seconds_bucket{le=\"600\"} 0",
	"poller_job_queue_seconds_count 0",
};

START_TEST(known_series_start_at_0)
{
	ck_assert_msg(has_line(at_start[_i]), "%s", at_start[_i]);
}
END_TEST

/* Every metric of the list has its two lines; the whole stays small; build info names this build. */
START_TEST(all_metrics)
{
	static const char *const names[] = {
#define METRIC(id, name, kind, labels, help) name,
#include "master/metrics.def"
#undef METRIC
	};
	struct buf line = BUF_INIT;
	size_t series = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		buf_clear(&line);
		buf_printf(&line, "\n# TYPE %s ", names[i]);
		ck_assert_ptr_nonnull(strstr(render(), buf_str(&line)));
	}
	buf_clear(&line);
	buf_printf(&line, "poller_build_info{version=\"%s\",build=\"%s\"} 1", VERSION, ipc_build_id);
	ck_assert(has_line(buf_str(&line)));
	for (const char *p = render(); *p; p = strchr(p, '\n') + 1)
		series += *p != '#';
	ck_assert_uint_le(series, 300);   /* topics and partitions come on top: 320 in all */
	buf_release(&line);
}
END_TEST

START_TEST(counting)
{
	metric_add(METRIC_JOBS, 1, "completed", "local");
	metric_add(METRIC_JOBS, 2, "completed", "local");
	metric_add(METRIC_JOBS, 1, "failed", "local");
	ck_assert(metric_get(METRIC_JOBS, "completed", "local") == 3);
	ck_assert(metric_get(METRIC_JOBS, "completed", "dummy") == 0);
	ck_assert(metric_get(METRIC_JOBS, "never", "seen") == 0);
	ck_assert(has_line("poller_jobs_total{status=\"completed\",source_type=\"local\"} 3"));
	ck_assert(has_line("poller_jobs_total{status=\"failed\",source_type=\"local\"} 1"));
	metric_set(METRIC_OLDEST_JOB, 1.5, NULL, NULL);
	ck_assert(has_line("poller_oldest_job_age_seconds 1.5"));
	metric_set(METRIC_OLDEST_JOB, 0, NULL, NULL);
	ck_assert(has_line("poller_oldest_job_age_seconds 0"));
	metric_add(METRIC_JOBS_ACCEPTED, 123456789012345.0, NULL, NULL);
	ck_assert(has_line("poller_jobs_accepted_total 123456789012345"));
}
END_TEST

START_TEST(histograms)
{
	static const double seen[] = { 0.001, 0.005, 0.0051, 0.3, 700, 60 };

	for (size_t i = 0; i < ARRAY_LEN(seen); i++)
		metric_observe(METRIC_JOB_DURATION, seen[i], "local");
	/* A bound belongs to its own bucket; each bucket counts those below it, too. */
	ck_assert(has_line("poller_job_duration_seconds_bucket{source_type=\"local\",le=\"0.005\"} 2"));
	ck_assert(has_line("poller_job_duration_seconds_bucket{source_type=\"local\",le=\"0.025\"} 3"));
	ck_assert(has_line("poller_job_duration_seconds_bucket{source_type=\"local\",le=\"0.5\"} 4"));
	ck_assert(has_line("poller_job_duration_seconds_bucket{source_type=\"local\",le=\"120\"} 5"));
	ck_assert(has_line("poller_job_duration_seconds_bucket{source_type=\"local\",le=\"600\"} 5"));
	ck_assert(has_line("poller_job_duration_seconds_bucket{source_type=\"local\",le=\"+Inf\"} 6"));
	ck_assert(has_line("poller_job_duration_seconds_count{source_type=\"local\"} 6"));
	ck_assert(metric_get(METRIC_JOB_DURATION, "local", NULL) > 760.3 && metric_get(METRIC_JOB_DURATION, "local", NULL) < 760.32);
	ck_assert(has_line("poller_job_duration_seconds_count{source_type=\"dummy\"} 0"));
	metric_observe(METRIC_WORKER_START, 0.0021, NULL);
	ck_assert(has_line("poller_worker_start_seconds_bucket{le=\"0.002\"} 0"));
	ck_assert(has_line("poller_worker_start_seconds_bucket{le=\"0.003\"} 1"));
}
END_TEST

/* Observations that were counted elsewhere join those that are there. */
START_TEST(merged)
{
	static const uint32_t in[] = { 5, 0, 1, 0, 0, 0, 0, 0, 2 };

	broker_init_metrics();
	ck_assert(has_line("poller_connector_seconds_count{op=\"connect\"} 0"));
	metric_observe(METRIC_CONNECTOR_SECONDS, 0.02, "connect");
	metric_merge(METRIC_CONNECTOR_SECONDS, "connect", in, 100);
	ck_assert(has_line("poller_connector_seconds_bucket{op=\"connect\",le=\"0.001\"} 5"));
	ck_assert(has_line("poller_connector_seconds_bucket{op=\"connect\",le=\"0.005\"} 5"));
	ck_assert(has_line("poller_connector_seconds_bucket{op=\"connect\",le=\"0.025\"} 7"));
	ck_assert(has_line("poller_connector_seconds_bucket{op=\"connect\",le=\"30\"} 7"));
	ck_assert(has_line("poller_connector_seconds_bucket{op=\"connect\",le=\"+Inf\"} 9"));
	ck_assert(has_line("poller_connector_seconds_count{op=\"connect\"} 9"));
	ck_assert(metric_get(METRIC_CONNECTOR_SECONDS, "connect", NULL) > 100.01);
	ck_assert(has_line("poller_connector_seconds_count{op=\"resolve\"} 0"));
}
END_TEST

/* Labels beyond the bound share one series, and nothing is lost. */
START_TEST(bounded)
{
	double sum = 0;
	size_t series = 0;
	char name[16];

	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "p%d", i);
		metric_add(METRIC_LAG, 1, name, "t");
	}
	for (const char *p = render(); (p = strstr(p, "\npoller_consumer_lag_records{")); p++) {
		sum += strtod(strchr(p, ' '), NULL);
		series++;
	}
	ck_assert(sum == 1000);
	ck_assert_uint_eq(series, METRIC_SERIES_MAX + 1);
	ck_assert(has_line("poller_consumer_lag_records{partition=\"p191\",topic=\"t\"} 1"));
	ck_assert(has_line("poller_consumer_lag_records{partition=\"other\",topic=\"other\"} 808"));
	metric_reset(METRIC_LAG);
	ck_assert_ptr_null(strstr(render(), "poller_consumer_lag_records{"));
	metric_set(METRIC_LAG, 7, "3", "t");
	ck_assert(has_line("poller_consumer_lag_records{partition=\"3\",topic=\"t\"} 7"));
}
END_TEST

static const struct { const char *value, *line; } escapes[] = {
	{ "a\\b", "poller_dlq_messages_total{reason=\"a\\\\b\"} 1" },
	{ "a\"} 9", "poller_dlq_messages_total{reason=\"a\\\"} 9\"} 1" },
	{ "a\nb", "poller_dlq_messages_total{reason=\"a\\nb\"} 1" },
	{ "a\xff" "b", "poller_dlq_messages_total{reason=\"a\xef\xbf\xbd" "b\"} 1" },
	{ "\xc3\xa4", "poller_dlq_messages_total{reason=\"\xc3\xa4\"} 1" },
};

START_TEST(escaped)
{
	metric_add(METRIC_DLQ, 1, escapes[_i].value, NULL);
	ck_assert_msg(has_line(escapes[_i].line), "%s", escapes[_i].line);
}
END_TEST

START_TEST(too_few_labels_are_a_bug)
{
	metric_add(METRIC_JOBS, 1, "completed", NULL);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("metrics");
	TCase *t = tcase_create("metrics");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, known_series_start_at_0, 0, (int)ARRAY_LEN(at_start));
	tcase_add_test(t, all_metrics);
	tcase_add_test(t, counting);
	tcase_add_test(t, histograms);
	tcase_add_test(t, merged);
	tcase_add_test(t, bounded);
	tcase_add_loop_test(t, escaped, 0, (int)ARRAY_LEN(escapes));
	tcase_add_test_raise_signal(t, too_few_labels_are_a_bug, SIGABRT);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
