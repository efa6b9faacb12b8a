/*
 * event.c - what one event costs: records of a listing to JSON, key and headers, without Kafka.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define EVENTS 2000000

static struct job *
make_job(const struct strlist *roots)
{
	static const char text[] = "{\"job_id\":\"bench\",\"source_config\":{\"source_type\":\"local\",\"path\":\"/srv/in\"}}";
	struct job_limits l = { .message_max = 4096, .metadata_max = 4096, .source_max = 4096, .timeout_max_ms = 1000,
		.dummy_root = "/srv", .local_roots = roots };
	struct err e = ERR_INIT;
	struct job *j = job_parse(text, sizeof(text) - 1, &l, NULL, NULL, NULL, &e);

	if (!j)
		fprintf(stderr, "%s\n", e.text);
	return j;
}

int
main(void)
{
	struct config cfg = { .event_key = 0 };
	struct strlist roots = { .n = 0 };
	struct jobrec rec = { .id = 1 };
	struct task task = { .job = &rec, .attempt = 1 };
	struct event_ctx *x;
	struct out_record out;
	struct record r;
	char path[64];
	uint64_t bytes = 0;
	int64_t ms;

	strlist_add(&roots, "/srv");
	rec.job = make_job(&roots);
	if (!rec.job)
		return EXIT_FAILURE;
	rec.job_id = rec.job->job_id;
	rec.org_id = rec.job->org_id;
	out_record_init(&out);
	x = event_ctx_new(&cfg, &task);
	record_init(&r);
	r.precision = MTIME_NS;
	r.utf8 = true;
	r.n_attrs = 3;
	r.attrs[0] = (struct record_attr){ .id = SA_LOCAL_ROOT, .s = "/srv", .n = 4 };
	r.attrs[1] = (struct record_attr){ .id = SA_LOCAL_INODE, .is_int = true };
	r.attrs[2] = (struct record_attr){ .id = SA_LOCAL_MODE, .s = "0644", .n = 4 };
	ms = clock_mono_ms();
	for (int i = 0; i < EVENTS; i++) {
		r.path = path;
		r.path_n = (size_t)snprintf(path, sizeof(path), "/srv/in/2026/report_%07d.csv", i);
		r.rel_off = 8;
		r.size = i;
		r.mtime_ns = INT64_C(1767323045000000000) + (int64_t)i * 1000000007;
		r.attrs[1].i = i;
		event_write(x, &r, &out);
		bytes += out.value.len;
	}
	ms = clock_mono_ms() - ms;
	printf("event_write: %.0f ns an event, %.2f million a second, %llu bytes each\n", (double)ms * 1e6 / EVENTS,
	    EVENTS / ((double)ms * 1e3), (unsigned long long)(bytes / EVENTS));
	event_ctx_free(x);
	out_record_release(&out);
	job_free(rec.job);
	strlist_release(&roots);
	return EXIT_SUCCESS;
}
