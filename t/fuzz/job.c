/*
 * job.c - fuzz target: any bytes as a job message.
 *
 * What is taken must be whole: masked text and metadata that the scanner takes, a source that survives its frame.
 */
#include <stdlib.h>
#include <string.h>

#include "common/job.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
check_source(const struct source_conf *s)
{
	struct buf b = BUF_INIT;
	struct source_conf back;
	struct cursor c;

	source_conf_encode(s, &b);
	cursor_init(&c, b.p, b.len);
	if (source_conf_decode(&back, &c) || !cursor_end(&c))
		BUG("a source does not survive its frame");
	source_conf_release(&back);
	buf_release(&b);
}

static void
check_json(const char *s)
{
	struct err e = ERR_INIT;

	if (s && json_check(s, strlen(s), JSON_DEPTH_MAX, &e))
		BUG("writes what it would not read");
}

/* What is a job can be shown. */
static void
check_masked(const char *p, size_t n)
{
	struct buf text = BUF_INIT;
	struct err e = ERR_INIT;

	if (job_mask_message(p, n, &text, &e))
		BUG("a job that cannot be shown");
	buf_putc(&text, '\0');
	check_json(text.p);
	buf_release(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static char *root[] = { (char *)(uintptr_t)"/srv/in" };
	static const struct strlist roots = { root, 1 };
	const struct job_limits limits = {
		.message_max = 1 << 20, .metadata_max = 16384, .source_max = 49152, .timeout_max_ms = 86400000,
		.allow_faults = true, .allow_inline = true, .allow_unverified_tls = true, .allow_unknown_hosts = true, .connections_max = 32,
		.file_roots = &roots, .dummy_root = "/srv/dummy_data", .local_roots = &roots,
	};
	char *id, *org, *masked;
	struct err e = ERR_INIT;
	struct job *j = job_parse((const char *)p, n, &limits, &id, &org, &masked, &e);

	if (!j && (e.cls == ERR_OK || !*e.text))
		BUG("refuses without a reason");
	if (j)
		check_masked((const char *)p, n);
	check_json(masked);
	check_json(j ? j->metadata : NULL);
	for (size_t i = 0; j && i < j->n_sources; i++)
		check_source(&j->sources[i]);
	job_free(j);
	free(id);
	free(org);
	free(masked);
	return 0;
}
