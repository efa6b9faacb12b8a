/*
 * common_config.c - settings: the corpus of wrong files, precedence, reload, and what is printed.
 *
 * Every row names the place and a part of the text of one error; a file must give exactly its
 * rows. REGENERATE=1 writes conf/iis-poller.yaml anew from the list.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/config.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

struct row {
	const char *file;
	int line, column;
	const char *text;    /* NULL: the file is right */
};

static const struct row rows[] = {
	{ "unknown_key_swap", 3, 3,
		"unknown key \"gruop_id\" in kafka (did you mean \"group_id\"?)" },
	{ "unknown_key_section", 1, 1, "unknown section \"kafak\" (did you mean \"kafka\"?)" },
	{ "unknown_key_elsewhere", 2, 3, "unknown key \"level\" in kafka; it belongs to log" },
	{ "unknown_key_top", 1, 1, "unknown section \"group_id\"; it belongs to kafka" },
	{ "unknown_key_dotted", 1, 1, "write \"level\" on a line of its own beneath \"log:\"" },
	{ "unknown_key_flow", 1, 23, "did you mean \"bootstrap_servers\"?" },
	{ "unknown_key_far", 2, 3, "known there: max_attempts, delay, backoff, max_delay" },
	{ "unknown_key_hyphen", 2, 5, "did you mean \"max_tasks\"?" },
	{ "unknown_key_camel", 2, 3, "did you mean \"bootstrap_servers\"?" },
	{ "unknown_key_controls", 2, 3, "unknown key \"a\033[31m\007\" in kafka" },
	{ "type_list_for_text", 2, 13, "kafka.group_id: a text is wanted, not a list" },
	{ "type_map_for_number", 3, 5, "workers.count: a whole number is wanted, not a map" },
	{ "type_text_for_list", 2, 18,
		"a list ([a, b], or lines that begin with \"-\") is wanted, not one value" },
	{ "type_quoted_number", 2, 10,
		"a whole number is wanted, not a text; remove the quotes" },
	{ "type_bool_for_text", 2, 14, "a text is wanted, not true or false" },
	{ "type_empty", 2, 9, "log.level: no value" },
	{ "type_word_for_bool", 2, 12, "\"maybe\" is not true or false" },
	{ "type_section_scalar", 1, 8,
		"section \"kafka\" wants its keys on indented lines, not one value" },
	{ "type_section_list", 2, 3,
		"section \"log\" wants its keys on indented lines, not a list" },
	{ "type_root_list", 1, 1, "the file must be a map of sections, not a list" },
	{ "type_list_entry", 4, 7, "an entry must be a text" },
	{ "type_word_for_number", 2, 17, "\"three\" is not a whole decimal number" },
	{ "number_junk", 2, 10, "\"3x\" is not a whole decimal number" },
	{ "number_underscore", 2, 14, "\"1_000\" is not a whole decimal number" },
	{ "number_octal", 2, 15, "\"0o17\" is not" },
	{ "number_zero", 2, 15, "\"017\" is not a whole decimal number" },
	{ "number_exponent", 2, 9, "\"1e3\" is not a whole" },
	{ "number_decimals", 2, 12,
		"\"1.2345\" is not a decimal number with at most 3 decimals" },
	{ "number_huge", 2, 10, "workers.count: " },
	{ "number_nan", 2, 12, "\".nan\" is not a decimal" },
	{ "range_low", 2, 8, "timeouts.job: 5ms is out of range (100ms.." },
	{ "range_high", 2, 10, "workers.count: 2000 is out of range (1..1024)" },
	{ "range_size", 2, 16, "kafka.message_max: 10 is out of range (4" },
	{ "range_negative", 2, 17, "retry.max_attempts: -1 is out of range (0..100)" },
	{ "range_factor", 2, 12, "retry.backoff: 0.5 is out of range (1.0..10.0)" },
	{ "range_text", 2, 13, "kafka.group_id: 300 bytes are too long (at most 255)" },
	{ "range_enum", 2, 10,
		"\"inof\" is not one of error, warn, info, debug (did you mean info?)" },
	{ "range_socket", 2, 11, "108 bytes are too long (at most 107)" },
	{ "unit_word", 2, 8,
		"\"5min\" is not a duration (like 250ms, 30s, 5m, 2h, 1d); did you mean 5m?" },
	{ "unit_short", 2, 13,
		"\"4G\" is not a size (like 4096, 64KiB, 16MiB, 4GiB); did you mean 4GiB?" },
	{ "unit_space", 2, 10, "did you mean 30s?" },
	{ "unit_swapped", 2, 15, "\"1h\" is not a size" },
	{ "unit_only", 2, 13, "\"ms\" is not a duration" },
	{ "duplicate_key", 4, 3, "log.level is set twice in this file" },
	{ "duplicate_section", 5, 1, "section \"log\" stands twice in this file" },
	{ "duplicate_property", 4, 5, "kafka.properties: debug is set twice" },
	{ "duplicate_flow", 1, 21, "workers.count is set twice" },
	{ "tables_key", 3, 5, "unknown key \"wieght\" in tenants.acme (did you mean \"weight\"?)" },
	{ "tables_key", 4, 5, "unknown key \"zzzzzz\" in tenants.acme; known there: weight, tasks, " },
	{ "tables_range", 2, 18, "tenants.acme.weight: 0 is out of range (1..1000)" },
	{ "tables_range", 2, 28, "tenants.acme.tasks: \"many\" is not a whole decimal number" },
	{ "tables_kind", 2, 9, "tenants.acme: a map of settings (indented lines of key: value) is wanted, not one value" },
	{ "tables_kind", 4, 12, "tenants.b.hosts: a list ([a, b]" },
	{ "tables_kind", 5, 12, "tenants.b.group: a text is wanted, not a list" },
	{ "tables_kind", 6, 13, "tenants.b.weight: a whole number is wanted, not a text; remove the quotes" },
	{ "tables_kind", 7, 11, "tenants.b.tasks: no value; a whole number is wanted" },
	{ "pools_rules", 3, 3, "pools: \"a b\" cannot be the name of a pool: it has something else than letters, digits, " },
	{ "pools_rules", 4, 17, "pools.fast.roots: /elsewhere is not below a directory of local.allowed_roots" },
	{ "pools_rules", 4, 51, "pools.fast.isolation: \"nobody\" is not one of tenant, job, shared" },
	{ "pools_rules", 5, 19, "pools.none.workers: 0 is out of range (1..1024)" },
	{ "pools_rules", 5, 30, "pools.none.spares: 2000 is out of range (0..1024)" },
	{ "pools_rules", 6, 24, "pools.ftp.source_types: \"fttp\" is not a source type: " },
	{ "pools_rules", 6, 41, "pools.ftp.tenants: \"[x\" is not a pattern: " },
	{ "tables_flat", 1, 10, "section \"tenants\" wants names on indented lines" },
	{ "tables_twice", 3, 17, "tenants.b.tasks is set twice in this file" },
	{ "tables_twice", 4, 3, "tenants.acme stands twice in this file" },
	{ "tables_name", 2, 3, "tenants: \"\" cannot be the name of a tenant: it holds no visible character" },
	{ "tables_name", 3, 3, "tenants: \" \" cannot be the name of a tenant: it holds no visible character" },
	{ "tables_name", 4, 3, "cannot be the name of a tenant: it holds a control character" },
	{ "tables_name", 5, 3, "a key must be one word" },
	{ "tables_lists", 3, 13, "tenants.a.hosts: \"[x\" is not a pattern: " },
	{ "tables_lists", 3, 19, "tenants.a.hosts: " },
	{ "tables_lists", 4, 25, "tenants.a.source_types: \"stfp\" is not a source type: " },
	{ "tables_lists", 5, 22, "tenants.a.credentials: \"a\" is listed twice" },
	{ "tables_lists", 6, 14, "tenants.a.topics: \"a b\" is not a topic name" },
	{ "tables_lists", 7, 19, "tenants.a.egress_deny: " },
	{ "tables_lists", 8, 13, "tenants.a.roots: \"relative\" is not an absolute path" },
	{ "tables_rules", 2, 18, "tenants.a.isolation: shared needs a group" },
	{ "tables_rules", 3, 14, "tenants.b.group has no effect without isolation: shared" },
	{ "tables_rules", 4, 14, "tenants.c.roots: /elsewhere is not below a directory of local.allowed_roots" },
	{ "tables_rules", 5, 20, "tenants.d.timeout_max is below 100ms" },
	{ "tables_section", 1, 1, "unknown section \"tennants\" (did you mean \"tenants\"?)" },
	{ "tab_indent", 2, 1, "a tab indents this line" },
	{ "tab_after_space", 3, 3, "a tab indents this line" },
	{ "tab_list", 3, 1, "a tab indents this line" },
	{ "tab_list", 4, 3, "a tab indents this line" },
	{ "tab_and_more", 2, 1, "a tab indents this line" },
	{ "tab_and_more", 2, 9, "\"loud\" is not one of" },
	{ "alias_value", 2, 13, "an alias (*name) is not allowed" },
	{ "alias_merge", 2, 3, "unknown key \"<<\" in log" },
	{ "alias_merge", 2, 7, "an alias (*base) is not allowed" },
	{ "alias_section", 1, 8, "an alias (*r) is not allowed" },
	{ "alias_section", 3, 10, "\"nope\" is not one of" },
	{ "alias_key", 1, 1, "an alias (*k) is not allowed" },
	{ "alias_list", 3, 7, "an alias (*a) is not allowed" },
	{ "alias_glob", 2, 19, "an alias (*name) or anchor (&name) is not allowed" },
	{ "anchor_value", 2, 13, "an anchor (&g) is not allowed" },
	{ "anchor_map", 1, 6, "an anchor (&l) is not allowed" },
	{ "anchor_list", 2, 18, "an anchor (&r) is not allowed" },
	{ "anchor_key", 1, 1, "an anchor (&s) is not allowed" },
	{ "tag_str", 2, 13, "a tag (tag:yaml.org,2002:str) is not allowed" },
	{ "tag_own", 2, 10, "a tag (!mine) is not allowed" },
	{ "tag_map", 1, 6, "a tag (tag:yaml.org,2002:map) is not allowed" },
	{ "tag_directive", 1, 1, "a %TAG line is not allowed" },
	{ "tag_handle", 2, 10, "a tag (!name) is not allowed" },
	{ "depth_list", 1, 1, "the file must be a map" },
	{ "depth_list", 1, 33, "nested too deep: more than 32 levels" },
	{ "depth_map", 2, 13, "a text is wanted, not a map" },
	{ "depth_map", 2, 133, "nested too deep" },
	{ "depth_block", 1, 1, "unknown section \"a\"" },
	{ "depth_block", 33, 33, "nested too deep" },
	{ "utf8_latin1", 2, 18, "byte 0xE9 is not valid UTF-8" },
	{ "utf8_overlong", 1, 3, "byte 0xC0 is not valid UTF-8" },
	{ "utf8_surrogate", 2, 10, "byte 0xED is not valid UTF-8" },
	{ "utf8_surrogate", 3, 10, "\"nope\" is not one of" },
	{ "utf8_cut", 2, 9, "syntax: a quote is opened here" },
	{ "utf8_cut", 2, 10, "byte 0xC3 is not valid UTF-8" },
	{ "utf8_control", 2, 11, "control or invisible character U+0007" },
	{ "utf8_nul", 2, 12, "control or invisible character U+0000" },
	{ "utf8_nul", 2, 10, "\"in?fo\" is not one of" },
	{ "utf8_column", 3, 3, "syntax: " },
	{ "bom_utf8", 1, 1, "byte order mark" },
	{ "bom_utf8_more", 1, 1, "byte order mark" },
	{ "bom_utf8_more", 2, 10, "\"nope\" is not one of" },
	{ "bom_utf16le", 1, 1, "the file is UTF-16" },
	{ "bom_utf16be", 1, 1, "the file is UTF-16" },
	{ "bom_middle", 2, 10, "control or invisible character U+FEFF" },
	{ "bom_middle", 2, 10, "\"?info\" is not one of" },
	{ "documents_two", 3, 1, "a second document (---) is not allowed" },
	{ "documents_end", 4, 1, "syntax: only one document with sections is expected" },
	{ "documents_empty", 2, 1, "a second document (---) is not allowed" },
	{ "syntax_quote", 2, 13, "syntax: a quote is opened here" },
	{ "syntax_colon", 2, 3, "syntax: a \":\" is missing behind this key" },
	{ "syntax_indent", 3, 4, "syntax: this line is not indented like the one before" },
	{ "syntax_after", 3, 17, "retry.max_attempts: 1000 is out of range" },
	{ "syntax_after", 4, 6, "section \"log\" wants its keys on indented lines, not a list" },
	{ "syntax_after", 4, 6, "syntax: a \",\" or the closing \"]\" of this list is missing" },
	{ "syntax_at", 2, 14, "syntax: a value cannot begin with this character" },
	{ "conflict_retry", 2, 10, "retry.delay (30s, " },
	{ "conflict_default", 2, 12, "is above timeouts.job_max (10s" },
	{ "conflict_session", 2, 20, "is above kafka.max_poll_interval (1m" },
	{ "conflict_topics", 4, 12, "topics.results (a, " },
	{ "conflict_topic_default", 2, 17,
		"must differ from topics.results (polling-results, default)" },
	{ "conflict_more", 2, 24, "must not name topics.results (polling-results, default)" },
	{ "conflict_queue", 2, 16, "is above jobs.queue_bytes (1MiB" },
	{ "form_topic", 2, 12, "is not a topic name" },
	{ "form_topic_dots", 2, 12, "Kafka forbids . and .." },
	{ "form_listen", 2, 11, "is not host:port" },
	{ "form_listen_port", 2, 11, "has no port from 0 to 65535" },
	{ "form_roots", 2, 27, "\"srv\" is not an absolute path" },
	{ "form_roots", 2, 32, "\"/srv/../etc\" is not normalised" },
	{ "form_roots", 2, 45, "\"/srv/\" is not normalised" },
	{ "form_roots", 2, 52, "\"/srv/a\" is listed twice" },
	{ "form_networks", 2, 24, "egress.allow: 10.1.2.3/8: bits are set behind the prefix; the network is 10.0.0.0/8" },
	{ "form_networks", 3, 10, "egress.deny: localhost: not a network" },
	{ "form_networks", 3, 21, "egress.deny: ::1/129: the prefix is longer than the 128 bits" },
	{ "form_egress", 2, 22, "egress.only: 10.0.0.1/8: bits are set behind the prefix" },
	{ "form_egress", 3, 29, "egress.ports: 90-80: the range ends before it begins" },
	{ "form_egress", 3, 38, "egress.ports: 0: not a port" },
	{ "form_egress", 4, 20, "egress.schemes: \"gopher\" is not one of http, https, ftp, ftps, sftp" },
	{ "form_brokers", 2, 22, "is not a list of host:port" },
	{ "form_empty", 2, 13, "kafka.group_id: must not be empty" },
	{ "property_forbidden", 3, 5, "kafka.properties: enable.idempotence: would break" },
	{ "property_quoted", 4, 5, "kafka.properties: acks: would break" },
	{ "property_flow", 2, 40, "kafka.properties: acks: would break" },
	{ "property_list", 3, 5, "a map (lines of name: value) is wanted, not a list" },
	{ "property_nested", 4, 7, "the value of ssl must be one text" },
	{ "good_empty", 0, 0, NULL },
	{ "good_comment", 0, 0, NULL },
	{ "good_sections", 0, 0, NULL },
	{ "good_crlf", 0, 0, NULL },
	{ "good_mixed", 0, 0, NULL },
	{ "tables_good", 0, 0, NULL },
};

static const char *
property_check(const char *name, const char *value, char *why, size_t n)
{
	if (!strcmp(name, "acks"))
		return "would break the promise that nothing is lost";
	if (strcmp(name, "enable.idempotence"))
		return NULL;
	snprintf(why, n, "would break the promise (%s)", value);
	return why;
}

static char *no_env[] = { NULL };

static int
load(struct config_set *set, const char *file)
{
	struct config_args args = { .file = file, .environ_ = no_env,
		.property_check = property_check };

	return config_load(set, &args);
}

static int
load_text(struct config_set *set, const char *text, char *const *env, const char *const *settings)
{
	struct config_args args = { .environ_ = env ? env : no_env, .settings = settings,
		.property_check = property_check };

	return config_load_text(set, "test.yaml", text, strlen(text), &args);
}

static const struct config_error *
find(const struct config_set *set, int line, int column, const char *text)
{
	for (size_t i = 0; i < set->n_errors; i++)
		if (set->errors[i].line == line && set->errors[i].column == column &&
		    strstr(set->errors[i].text, text))
			return &set->errors[i];
	return NULL;
}

static void
show(const struct config_set *set)
{
	for (size_t i = 0; i < set->n_errors; i++)
		fprintf(stderr, "# %s:%d:%d: %s\n", set->errors[i].file, set->errors[i].line,
		    set->errors[i].column, set->errors[i].text);
}

static void
write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

/* --- the corpus --- */

START_TEST(corpus)
{
	const struct row *row = &rows[_i];
	struct config_set set;
	char path[256];
	size_t wanted = 0;
	int rc;

	snprintf(path, sizeof(path), "t/data/yaml/%s.yaml", row->file);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		wanted += rows[i].text && !strcmp(rows[i].file, row->file);
	rc = load(&set, path);
	if (set.n_errors != wanted ||
	    (row->text && !find(&set, row->line, row->column, row->text)))
		show(&set);
	ck_assert_msg(set.n_errors == wanted, "%s: %zu errors, wanted %zu", row->file,
	    set.n_errors, wanted);
	ck_assert_int_eq(rc, wanted ? -1 : 0);
	if (row->text) {
		const struct config_error *e = find(&set, row->line, row->column, row->text);

		ck_assert_msg(e != NULL, "%s:%d:%d: no \"%s\"", row->file, row->line, row->column,
		    row->text);
		ck_assert_str_eq(e->file, path);
		ck_assert_ptr_nonnull(e->source);
	}
	config_set_release(&set);
}
END_TEST

START_TEST(many_errors_are_counted)
{
	struct config_set set;
	FILE *f = tmpfile();
	char line[1024];
	int lines = 0;

	ck_assert_int_eq(load(&set, "t/data/yaml/many.yaml"), -1);
	ck_assert_uint_eq(set.n_errors, CONFIG_ERRORS_MAX);
	ck_assert_uint_eq(set.n_more, 45 - CONFIG_ERRORS_MAX);
	config_print_errors(&set, f);
	rewind(f);
	while (fgets(line, sizeof(line), f))
		lines++;
	ck_assert_str_eq(line, "and 25 more errors\n");
	ck_assert_int_eq(lines, 3 * CONFIG_ERRORS_MAX + 1);
	fclose(f);
	config_set_release(&set);
}
END_TEST

/* libyaml's loader would need minutes; the bound is wide for valgrind and busy machines. */
static void
refused_quickly(const char *head, const char *unit, size_t times, const char *error)
{
	struct config_set set;
	struct timespec a, b;
	struct buf text = BUF_INIT;

	buf_puts(&text, head);
	for (size_t i = 0; i < times; i++)
		buf_puts(&text, unit);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	ck_assert_int_eq(load_text(&set, buf_str(&text), NULL, NULL), -1);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	ck_assert_msg(strstr(set.errors[0].text, error) ||
	    (set.n_errors > 1 && strstr(set.errors[1].text, error)), "%s: %s",
	    unit, set.errors[0].text);
	ck_assert_int_lt((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 10000);
	fprintf(stderr, "# %zu times %s: %ld us\n", times, unit,
	    (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
	config_set_release(&set);
	buf_release(&text);
}

START_TEST(bombs_are_refused_quickly)
{
	refused_quickly("", "[", 200000, "nested too deep");
	refused_quickly("", "{a: ", 200000, "nested too deep");
	refused_quickly("", "- ", 200000, "nested too deep");
	refused_quickly("", "a:\n", 300000, "unknown section");
	refused_quickly("kafka:\n", "  unknown_word: 1\n", 50000, "unknown key");
	refused_quickly("kafka:\n  group_id: ", "x", 900000, "are too long");
	refused_quickly("", "\tx\n", 300000, "a tab indents");
	refused_quickly("", "# comment\n", 200000, "too large");
}
END_TEST

/* --- forty slips of the pen in a file that is right --- */

static const char production[] =
    "# production\n"
    "kafka:\n"
    "  bootstrap_servers: \"k1:9093,k2:9093\"\n"
    "  group_id: pollers\n"
    "  session_timeout: 30s\n"
    "  compression: zstd\n"
    "  properties:\n"
    "    security.protocol: ssl\n"
    "    ssl.ca.location: /etc/ssl/ca.pem\n"
    "topics:\n"
    "  polling_queue: jobs\n"
    "  file_events: events\n"
    "jobs:\n"
    "  message_max: 512KiB\n"
    "  hold_max: 30s\n"
    "timeouts:\n"
    "  job: 2m\n"
    "  cancel: 2s\n"
    "retry:\n"
    "  max_attempts: 5\n"
    "  backoff: 1.5\n"
    "workers:\n"
    "  count: 16\n"
    "  memory_max: 512MiB\n"
    "local:\n"
    "  allowed_roots:\n"
    "    - /srv/in\n"
    "    - /srv/out\n"
    "http:\n"
    "  enabled: true\n"
    "  listen: 0.0.0.0:7093\n"
    "log:\n"
    "  level: info\n";

/* The place where the error must stand is marked by "^^" in what replaces the right text. */
static const struct {
	const char *from, *to, *hint;
} slips[] = {
	{ "group_id", "^^gropu_id", "group_id" },
	{ "bootstrap_servers", "^^bootstrap_server", "bootstrap_servers" },
	{ "bootstrap_servers", "^^brokers", "known there" },
	{ "session_timeout", "^^session_timeout_ms", "session_timeout" },
	{ "compression: zstd", "compression: ^^zsdt", "zstd" },
	{ "compression: zstd", "compression: ^^brotli", "one of" },
	{ "properties:", "^^property:", "properties" },
	{ "ssl.ca.location", "^^acks", "would break" },
	{ "topics:", "^^topic:", "topics" },
	{ "file_events: events", "file_events: ^^jobs", "must differ" },
	{ "polling_queue", "^^polling-queue", "polling_queue" },
	{ "message_max: 512KiB", "message_max: ^^512kb", "512KB" },
	{ "message_max: 512KiB", "message_max: ^^512 KiB", "512KiB" },
	{ "message_max: 512KiB", "message_max: ^^2GiB", "16MiB" },
	{ "hold_max: 30s", "hold_max: ^^30sec", "30s" },
	{ "hold_max: 30s", "hold_max: ^^-30s", "duration" },
	{ "job: 2m", "job: ^^2M", "2m" },
	{ "job: 2m", "job: ^^3d", "..1d" },
	{ "  cancel: 2s", "  ^^job: 2s", "twice" },
	{ "cancel", "^^cancle", "cancel" },
	{ "max_attempts: 5", "max_attempts: ^^five", "whole" },
	{ "max_attempts", "^^max_retries", "max" },
	{ "backoff: 1.5", "backoff: ^^1,5", "decimal" },
	{ "backoff: 1.5", "backoff: ^^\"1.5\"", "quotes" },
	{ "count: 16", "count: ^^0x10", "decimal" },
	{ "count: 16", "count: ^^16 workers", "whole" },
	{ "  memory_max", "    ^^memory_max", "indented" },
	{ "memory_max", "^^max_memory", "memory_max" },
	{ "    - /srv/out", "^^\t- /srv/out", "tab" },
	{ "- /srv/out", "- ^^srv/out", "absolute" },
	{ "- /srv/out", "- ^^*out", "alias" },
	{ "enabled: true", "enabled: ^^True", "true or false" },
	{ "enabled: true", "enabled: ^^1", "true or false" },
	{ "listen: 0.0.0.0:7093", "listen: ^^0.0.0.0", "host:port" },
	{ "listen: 0.0.0.0:7093", "listen: ^^[::]:7093", "quotes" },
	{ "log:", "^^logging:", "log" },
	{ "  level: info", "  ^^level info", "missing" },
	{ "level: info", "level: ^^warning", "warn" },
	{ "level: info", "level: ^^\"info", "quote" },
	{ "log:", "^^retry:", "twice" },
	{ "group_id: pollers", "group_id: ^^%pollers", "quotes" },
	{ "group_id", "^^client_idd", "client_id" },
};

START_TEST(seeded_slips)
{
	const char *at = strstr(production, slips[_i].from), *mark = strstr(slips[_i].to, "^^");
	struct buf text = BUF_INIT;
	struct config_set set;
	int line = 1, column = 1;

	ck_assert_int_eq(load_text(&set, production, NULL, NULL), 0);
	config_set_release(&set);
	ck_assert_msg(at && mark, "%s", slips[_i].from);
	buf_add(&text, production, (size_t)(at - production));
	buf_add(&text, slips[_i].to, (size_t)(mark - slips[_i].to));
	for (size_t i = 0; i < text.len; i++) {
		column = text.p[i] == '\n' ? 1 : column + 1;
		line += text.p[i] == '\n';
	}
	buf_puts(&text, mark + 2);
	buf_puts(&text, at + strlen(slips[_i].from));
	ck_assert_int_eq(load_text(&set, buf_str(&text), NULL, NULL), -1);
	if (!find(&set, line, column, slips[_i].hint))
		show(&set);
	ck_assert_msg(find(&set, line, column, slips[_i].hint) != NULL, "%s: %d:%d: no \"%s\"",
	    slips[_i].to, line, column, slips[_i].hint);
	config_set_release(&set);
	buf_release(&text);
}
END_TEST

/* --- files --- */

static char dir[64], path_a[128], path_b[128], path_d[128];

static void
dir_setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/iis-config-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path_a, sizeof(path_a), "%s/a.yaml", dir);
	snprintf(path_b, sizeof(path_b), "%s/b", dir);
	snprintf(path_d, sizeof(path_d), "%s/conf.d", dir);
}

static void
dir_teardown(void)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static void
unreadable(const char *path, const char *text)
{
	struct config_set set;

	ck_assert_int_eq(load(&set, path), -1);
	ck_assert_uint_eq(set.n_errors, 1);
	ck_assert_str_eq(set.errors[0].file, path);
	ck_assert_msg(strstr(set.errors[0].text, text) != NULL, "%s", set.errors[0].text);
	config_set_release(&set);
}

START_TEST(unreadable_files)
{
	unreadable(dir, "is a directory");
	unreadable(path_a, "No such file");
	ck_assert_int_eq(symlink("nowhere", path_a), 0);
	unreadable(path_a, "the link leads nowhere");
	ck_assert_int_eq(mkfifo(path_b, 0600), 0);
	unreadable(path_b, "is not a regular file");
	unreadable("/dev/zero", "too large");
}
END_TEST

START_TEST(conf_d_overrides_in_name_order)
{
	struct config_set set;
	char path[200];

	write_file(path_a, "log: {level: debug}\nretry: {delay: 2s, max_attempts: 7}\n"
	    "kafka: {properties: {debug: a, client.rack: r}}\n", 0600);
	ck_assert_int_eq(mkdir(path_d, 0700), 0);
	snprintf(path, sizeof(path), "%s/20-b.yaml", path_d);
	write_file(path, "retry:\n  delay: 4s\n", 0600);
	snprintf(path, sizeof(path), "%s/10-a.yaml", path_d);
	write_file(path, "retry: {delay: 3s}\nkafka: {properties: {debug: b}}\n", 0600);
	snprintf(path, sizeof(path), "%s/note.txt", path_d);
	write_file(path, "not yaml: [", 0600);
	ck_assert_int_eq(load(&set, path_a), 0);
	ck_assert_int_eq(set.c.retry_delay, 4000);
	ck_assert_int_eq(set.c.retry_max, 7);
	ck_assert_uint_eq(set.c.kafka_properties.k.n, 2);
	ck_assert_str_eq(set.c.kafka_properties.v.v[0], "b");
	snprintf(path, sizeof(path), "%s/20-b.yaml", path_d);
	ck_assert_str_eq(set.origin[CONFIG_retry_delay].file, path);
	ck_assert_int_eq(set.origin[CONFIG_retry_delay].line, 2);
	ck_assert_str_eq(set.origin[CONFIG_retry_max].file, path_a);
	config_set_release(&set);
	/* an error there is placed there, and the file before is still checked */
	write_file(path_a, "log: {level: nope}\n", 0600);
	write_file(path, "retry:\n  dela: 4s\n", 0600);
	ck_assert_int_eq(load(&set, path_a), -1);
	ck_assert_uint_eq(set.n_errors, 2);
	ck_assert_str_eq(set.errors[0].file, path_a);
	ck_assert_str_eq(set.errors[1].file, path);
	ck_assert_int_eq(set.errors[1].line, 2);
	config_set_release(&set);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("nowhere", path), 0);
	write_file(path_a, "", 0600);
	ck_assert_int_eq(load(&set, path_a), -1);
	ck_assert_str_eq(set.errors[0].file, path);
	config_set_release(&set);
}
END_TEST

START_TEST(readable_secrets)
{
	static const struct {
		const char *text;
		mode_t mode;
		int line, column;    /* 0: accepted */
	} files[] = {
		{ "kafka:\n  properties:\n    sasl.password: hunter2\n", 0644, 3, 5 },
		{ "kafka:\n  properties: {ssl.key.pem: hunter2}\n", 0604, 2, 16 },
		{ "kafka:\n  properties:\n    a.b: c\n    ssl.keystore.password: hunter2\n", 0666, 4, 5 },
		{ "kafka:\n  properties:\n    sasl.password: hunter2\n", 0640, 0, 0 },
		{ "kafka:\n  properties:\n    sasl.password: \"\"\n", 0644, 0, 0 },
		{ "kafka:\n  properties:\n    client.rack: r\n", 0644, 0, 0 },
	};
	struct config_set set;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		write_file(path_a, files[i].text, files[i].mode);
		ck_assert_int_eq(load(&set, path_a), files[i].line ? -1 : 0);
		if (files[i].line) {
			ck_assert_ptr_nonnull(find(&set, files[i].line, files[i].column,
			    "every user can read it"));
			ck_assert_ptr_null(strstr(set.errors[0].source, "hunter2"));
		}
		config_set_release(&set);
	}
}
END_TEST

START_TEST(password_file)
{
	static const struct {
		mode_t mode;
		const char *text;
	} modes[] = {
		{ 0600, NULL }, { 0400, NULL }, { 0640, "mode 0640" }, { 0644, "mode 0644" },
		{ 0604, "mode 0604" }, { 0620, "mode 0620" },
	};
	struct config_set set;
	char text[256], kept[320];

	snprintf(text, sizeof(text), "kafka:\n  password_file: %s\n", path_b);
	snprintf(kept, sizeof(kept), "%s  properties: {sasl.password: x}\n", text);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		unlink(path_b);
		write_file(path_b, "hunter2", modes[i].mode);
		ck_assert_int_eq(load_text(&set, text, NULL, NULL), modes[i].text ? -1 : 0);
		if (modes[i].text)
			ck_assert_ptr_nonnull(find(&set, 2, 18, modes[i].text));
		config_set_release(&set);
	}
	unlink(path_b);
	ck_assert_int_eq(load_text(&set, text, NULL, NULL), -1);
	ck_assert_ptr_nonnull(find(&set, 2, 18, "No such file"));
	config_set_release(&set);
	write_file(path_b, "hunter2", 0600);
	ck_assert_int_eq(load_text(&set, kept, NULL, NULL), -1);
	ck_assert_ptr_nonnull(find(&set, 2, 18, "sasl.password too"));
	config_set_release(&set);
	ck_assert_int_eq(unlink(path_b), 0);
	ck_assert_int_eq(mkdir(path_b, 0700), 0);
	ck_assert_int_eq(load_text(&set, text, NULL, NULL), -1);
	ck_assert_ptr_nonnull(find(&set, 2, 18, "is not a regular file"));
	config_set_release(&set);
}
END_TEST

/* --- environment and command line --- */

START_TEST(old_log_levels)
{
	static const struct {
		const char *env, *want;   /* NULL: refused */
	} levels[] = {
		{ "LOG_LEVEL=INFO", "info" }, { "LOG_LEVEL=WARNING", "warn" },
		{ "LOG_LEVEL=debug", "debug" }, { "LOG_LEVEL=Error", "error" },
		{ "LOG_LEVEL=CRITICAL", "error" }, { "LOG_LEVEL=loud", NULL },
		{ "LOG_LEVEL=", NULL }, { "IIS_POLLER_LOG_LEVEL=WARNING", NULL },
		{ "IIS_POLLER_LOG_LEVEL=warn", "warn" },
	};
	static const char *const names[] = { "error", "warn", "info", "debug" };

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		char *env[] = { xstrdup(levels[i].env), NULL };
		struct config_set set;

		ck_assert_int_eq(load_text(&set, "", env, NULL), levels[i].want ? 0 : -1);
		if (levels[i].want)
			ck_assert_str_eq(names[set.c.log_level], levels[i].want);
		else
			ck_assert_str_eq(set.errors[0].file, "environment");
		config_set_release(&set);
		free(env[0]);
	}
}
END_TEST

START_TEST(precedence_and_origins)
{
	char *env[] = { (char[]){ "KAFKA_GROUP_ID=from-env" },
		(char[]){ "IIS_POLLER_RETRY_DELAY=3s" }, (char[]){ "PATH=/bin" },
		(char[]){ "LOG_FORMAT=Console" },
		(char[]){ "IIS_POLLER_LOCAL_ALLOWED_ROOTS=/a,/b\\,c" },
		(char[]){ "IIS_POLLER_KAFKA_PROPERTIES=client.rack=r,ssl.cipher.suites=A\\,B" },
		NULL };
	const char *settings[] = { "retry.delay=4s", "retry.max_attempts=1", "retry.max_attempts=2",
		"kafka.properties.ssl.curves.list=a,b", NULL };
	struct config_set set;

	ck_assert_int_eq(load_text(&set,
	    "kafka: {group_id: from-file, client_id: file}\nretry:\n  delay: 2s\n  backoff: 3\n",
	    env, settings), 0);
	ck_assert_str_eq(set.c.kafka_group_id, "from-env");
	ck_assert_str_eq(set.c.kafka_client_id, "file");
	ck_assert_int_eq(set.c.retry_delay, 4000);
	ck_assert_int_eq(set.c.retry_max, 2);
	ck_assert_int_eq(set.c.retry_backoff, 3000);
	ck_assert_int_eq(set.c.log_format, 1);
	ck_assert_uint_eq(set.c.local_roots.n, 2);
	ck_assert_str_eq(set.c.local_roots.v[1], "/b,c");
	ck_assert_uint_eq(set.c.kafka_properties.k.n, 3);
	ck_assert_str_eq(set.c.kafka_properties.v.v[1], "A,B");
	ck_assert_str_eq(set.c.kafka_properties.v.v[2], "a,b");
	ck_assert_str_eq(set.origin[CONFIG_kafka_group_id].file, "environment KAFKA_GROUP_ID");
	ck_assert_str_eq(set.origin[CONFIG_kafka_client_id].file, "test.yaml");
	ck_assert_int_eq(set.origin[CONFIG_retry_backoff].line, 4);
	ck_assert_str_eq(set.origin[CONFIG_retry_delay].file, "command line");
	ck_assert_str_eq(set.origin[CONFIG_timeout_job].file, "default");
	config_set_release(&set);
}
END_TEST

START_TEST(wrong_environment)
{
	static const struct {
		const char *a, *b, *text;
	} cases[] = {
		{ "IIS_POLLER_LOG_LEVL=info", NULL,
			"unknown variable IIS_POLLER_LOG_LEVL (did you mean IIS_POLLER_LOG_LEVEL?)" },
		{ "IIS_POLLER_KAFKA_GRUOP_ID=x", NULL, "(did you mean IIS_POLLER_KAFKA_GROUP_ID?)" },
		{ "IIS_POLLER_=x", NULL, "unknown variable IIS_POLLER_" },
		{ "KAFKA_GROUP_ID=a", "IIS_POLLER_KAFKA_GROUP_ID=b",
			"IIS_POLLER_KAFKA_GROUP_ID and KAFKA_GROUP_ID are both set" },
		{ "KAFKA_GROUP_ID=a", "IIS_POLLER_KAFKA_GROUP_ID=a", NULL },
		{ "LOG_LEVEL=WARNING", "IIS_POLLER_LOG_LEVEL=warn", NULL },
		{ "IIS_POLLER_RETRY_DELAY=5ms", NULL,
			"IIS_POLLER_RETRY_DELAY: 5ms is out of range (10ms..1m)" },
		{ "IIS_POLLER_RETRY_DELAY=50s", "IIS_POLLER_RETRY_MAX_DELAY=20s",
			"IIS_POLLER_RETRY_DELAY: retry.delay (50s, " },
		{ "IIS_POLLER_KAFKA_PROPERTIES=acks=1", NULL, "acks: would break" },
		{ "IIS_POLLER_KAFKA_PROPERTIES=a=b,c", NULL, "entry 2 has no \"=\"" },
		{ "IIS_POLLER_LOCAL_ALLOWED_ROOTS=/a,b", NULL, "\"b\" is not an absolute path" },
		{ "IIS_POLLER_KAFKA_CLIENT_ID=a\xff", NULL, "is not valid UTF-8" },
		{ "IIS_POLLER_KAFKA_CLIENT_ID=a\nb", NULL, "holds a control character" },
		{ "KAFKA_GROUP_ID=", NULL, "KAFKA_GROUP_ID: must not be empty" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *env[] = { xstrdup(cases[i].a), cases[i].b ? xstrdup(cases[i].b) : NULL, NULL };
		struct config_set set;

		load_text(&set, "", env, NULL);
		if (set.n_errors != (cases[i].text ? 1 : 0))
			show(&set);
		ck_assert_msg(set.n_errors == (cases[i].text ? 1 : 0), "%s", cases[i].a);
		if (cases[i].text)
			ck_assert_msg(find(&set, 0, 0, cases[i].text) != NULL, "%s: %s", cases[i].a,
			    set.errors[0].text);
		config_set_release(&set);
		free(env[0]);
		free(env[1]);
	}
}
END_TEST

START_TEST(wrong_command_line)
{
	static const char *const cases[][2] = {
		{ "retry.delay", "\"retry.delay\" is not a setting: section.key=value" },
		{ "retry.dealy=2s", "unknown key \"dealy\" in retry (did you mean \"delay\"?)" },
		{ "rety.delay=2s", "unknown section \"rety\" (did you mean \"retry\"?)" },
		{ "workers.count=0", "workers.count: 0 is out of range (1..1024)" },
		{ "kafka.properties=sasl.password=x", "can be read by every user" },
		{ "kafka.properties.ssl.key.pem=x", "can be read by every user" },
		{ "kafka.properties.acks=1", "acks: would break" },
		{ "", "\"\" is not a setting" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *settings[] = { cases[i][0], NULL };
		struct config_set set;

		ck_assert_int_eq(load_text(&set, "", NULL, settings), -1);
		ck_assert_str_eq(set.errors[0].file, "command line");
		ck_assert_msg(strstr(set.errors[0].text, cases[i][1]) != NULL, "%s",
		    set.errors[0].text);
		config_set_release(&set);
	}
}
END_TEST

/* --- printing --- */

static const char secrets[] =
    "kafka:\n"
    "  properties:\n"
    "    sasl.password: hunter2\n"
    "    ssl.key.pem: \"hunter2\\nhunter2\"\n"
    "    ssl.keystore.password: hunter2\n"
    "    sasl.oauthbearer.config: hunter2\n"
    "    sasl.oauthbearer.client.secret: hunter2\n"
    "    security.protocol: sasl_ssl\n"
    "    odd name: \"a\\\"b\\\\c # d\\n\"\n"
    "local: {allowed_roots: [/srv/a, \"/srv/b c\"]}\n"
    "log: {file: \"żółw: # x\"}\n"
    "jobs: {max_age: 90s, message_max: 1500KB}\n"
    "retry: {backoff: 1.25}\n"
    "http: {enabled: no}\n";

START_TEST(printed_file_loads_again)
{
	struct config_set set, again;
	struct buf a = BUF_INIT, b = BUF_INIT;

	ck_assert_int_eq(load_text(&set, secrets, NULL, NULL), 0);
	for (int changed = 0; changed < 2; changed++) {
		buf_clear(&a);
		buf_clear(&b);
		config_print(&set, changed, &a);
		ck_assert_ptr_null(strstr(buf_str(&a), "hunter2"));
		ck_assert_ptr_nonnull(strstr(buf_str(&a), "sasl.password: \"***\""));
		ck_assert_ptr_nonnull(strstr(buf_str(&a), "backoff: 1.25  # test.yaml:13"));
		ck_assert_int_eq(load_text(&again, buf_str(&a), NULL, NULL), 0);
		/* the masked ones differ, nothing else does */
		ck_assert_int_eq(config_restart_needed(&set.c, &again.c, &b), 1);
		ck_assert_str_eq(buf_str(&b), "kafka.properties");
		ck_assert_str_eq(again.c.kafka_properties.v.v[6], "a\"b\\c # d\n");
		ck_assert_int_eq(again.c.retry_backoff, 1250);
		ck_assert_int_eq(again.c.jobs_message_max, 1500000);
		ck_assert_uint_eq(again.c.local_roots.n, 2);
		ck_assert_str_eq(again.c.log_file, "żółw: # x");
		config_set_release(&again);
	}
	ck_assert_ptr_null(strstr(buf_str(&a), "timeouts:"));
	config_set_release(&set);
	buf_release(&a);
	buf_release(&b);
}
END_TEST

START_TEST(json_masks_too)
{
	struct config_set set;
	struct buf b = BUF_INIT;

	ck_assert_int_eq(load_text(&set, secrets, NULL, NULL), 0);
	config_json(&set, true, &b);
	ck_assert_ptr_null(strstr(buf_str(&b), "hunter2"));
	ck_assert_ptr_nonnull(strstr(buf_str(&b), "\"retry.backoff\":{\"value\":1.25,\"default\":2.0,"
	    "\"origin\":\"test.yaml:13\",\"reload\":true,"));
	ck_assert_ptr_nonnull(strstr(buf_str(&b), "\"sasl.password\":\"***\""));
	ck_assert_ptr_nonnull(strstr(buf_str(&b), "\"http.enabled\":{\"value\":false,"));
	config_set_release(&set);
	buf_release(&b);
}
END_TEST

static void
printed(const char *text, const char *want)
{
	struct config_set set;
	char out[4096];
	FILE *f = tmpfile();
	size_t n;

	ck_assert_int_eq(load_text(&set, text, NULL, NULL), -1);
	config_print_errors(&set, f);
	rewind(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	fclose(f);
	ck_assert_str_eq(out, want);
	config_set_release(&set);
}

START_TEST(errors_as_shown)
{
	struct config_set set;
	struct buf b = BUF_INIT;

	printed("retry:\n  dealy: 2s\n",
	    "test.yaml:2:3: unknown key \"dealy\" in retry (did you mean \"delay\"?)\n"
	    "      dealy: 2s\n"
	    "      ^\n");
	printed("log:\n  level: żółw\n",
	    "test.yaml:2:10: log.level: \"żółw\" is not one of error, warn, info, debug\n"
	    "      level: żółw\n"
	    "             ^\n");
	printed("log:\n\tlevel: debug\n",
	    "test.yaml:2:1: a tab indents this line; YAML wants spaces\n"
	    "    \\tlevel: debug\n"
	    "    ^\n");
	printed("kafka:\n  pasword: hunter2\n",
	    "test.yaml:2:3: unknown key \"pasword\" in kafka (did you mean \"password_file\"?)\n"
	    "      pasword: ***\n"
	    "      ^\n");
	ck_assert_int_eq(load_text(&set, "a\"b: 1\n", NULL, NULL), -1);
	config_errors_json(&set, &b);
	ck_assert_ptr_nonnull(strstr(buf_str(&b),
	    "[{\"file\":\"test.yaml\",\"line\":1,\"column\":1,\"message\":\"unknown section "));
	config_set_release(&set);
	buf_release(&b);
}
END_TEST

START_TEST(no_secret_in_an_error)
{
	static const char *const texts[] = {
		"kafka:\n  properties:\n    sasl.pasword: hunter2\n    acks: 1\n    acks: hunter2\n",
		"kafka:\n  properties:\n    ssl.key.pem: |\n      hunter2\n      \x01hunter2\n",
		"kafka:\n  properties: {sasl.password: hunter2, sasl.password: hunter2}\n",
		"kafka:\n  properties:\n    sasl.password: [hunter2]\n",
		"kafka:\n  sasl.password: hunter2\n",
		"sasl_password: hunter2\n",
		"kafka:\n  properties:\n    sasl.password: \"hunter2\n",
		"kafka:\n  properties:\n\tsasl.password: hunter2\n",
	};
	char *env[] = { (char[]){ "IIS_POLLER_KAFKA_PROPERTIES=sasl.password=hunter2\x01,"
		"ssl.key.pem=a\xffhunter2" }, (char[]){ "IIS_POLLER_KAFKA_PASSWORD=hunter2" }, NULL };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct config_set set;

		ck_assert_msg(load_text(&set, texts[i], env, NULL) == -1, "%zu", i);
		ck_assert_uint_gt(set.n_errors, 3);
		for (size_t j = 0; j < set.n_errors; j++) {
			ck_assert_ptr_null(strstr(set.errors[j].text, "hunter2"));
			if (set.errors[j].source)
				ck_assert_msg(!strstr(set.errors[j].source, "hunter2"), "%zu: %s", i,
				    set.errors[j].source);
		}
		config_set_release(&set);
	}
}
END_TEST

START_TEST(long_lines_are_cut)
{
	struct config_set set;
	struct buf b = BUF_INIT;

	buf_puts(&b, "log: {file: \"");
	for (int i = 0; i < 5000; i++)
		buf_puts(&b, "ż");
	buf_puts(&b, "\", level: nope}\n");
	ck_assert_int_eq(load_text(&set, buf_str(&b), NULL, NULL), -1);
	ck_assert_uint_eq(set.n_errors, 2);
	ck_assert_int_eq(set.errors[1].column, 5024);
	ck_assert_uint_lt(strlen(set.errors[1].source), 400);
	ck_assert_ptr_nonnull(strstr(set.errors[1].source, "level: nope"));
	ck_assert_int_lt(set.errors[1].source_column, 100);
	config_set_release(&set);
	buf_release(&b);
}
END_TEST

/* --- the list --- */

START_TEST(rows_are_whole)
{
	struct config_set set;
	char a[128], b[128];

	for (int i = 0; i < CONFIG__MAX; i++) {
		const struct config_row *row = &config_rows[i];
		size_t n = strlen(row->help);

		ck_assert_msg(n > 10 && row->help[n - 1] == '.', "%s: help", row->key);
		ck_assert_msg(*row->section_help && *row->section, "%s", row->key);
		ck_assert_msg(!strncmp(row->key, row->section, strlen(row->section)), "%s", row->key);
		ck_assert_msg(((row->flags & CONFIG_RELOAD) != 0) != ((row->flags & CONFIG_RESTART) != 0),
		    "%s: one of reload and restart", row->key);
		config_env_name(row->key, a, sizeof(a));
		for (int j = 0; j < i; j++) {
			config_env_name(config_rows[j].key, b, sizeof(b));
			ck_assert_str_ne(a, b);
			ck_assert_str_ne(row->key, config_rows[j].key);
		}
	}
	config_env_name("jobs.hold_max", a, sizeof(a));
	ck_assert_str_eq(a, "IIS_POLLER_JOBS_HOLD_MAX");
	ck_assert_str_eq(config_rows[CONFIG_workers_count].range, "1..1024");
	/* every default through its own setter, and no conflict among them */
	ck_assert_int_eq(load_text(&set, "", NULL, NULL), 0);
	ck_assert_int_eq(set.c.timeout_job, 300000);
	ck_assert_int_eq(set.c.jobs_message_max, 1048576);
	ck_assert_int_eq(set.c.retry_backoff, 2000);
	ck_assert_str_eq(set.c.kafka_group_id, "poller-worker-group");
	config_set_release(&set);
}
END_TEST

START_TEST(each_default_by_environment)
{
	struct config_set set;
	char name[128];

	for (int i = 0; i < CONFIG__MAX; i++) {
		char *env[] = { NULL, NULL };

		config_env_name(config_rows[i].key, name, sizeof(name));
		env[0] = xasprintf("%s=%s", name, config_rows[i].def);
		ck_assert_msg(load_text(&set, "", env, NULL) == 0, "%s", env[0]);
		ck_assert_msg(strstr(set.origin[i].file, name) != NULL, "%s", env[0]);
		config_set_release(&set);
		free(env[0]);
	}
}
END_TEST

START_TEST(shipped_file)
{
	struct buf b = BUF_INIT, open_b = BUF_INIT, names = BUF_INIT;
	struct config_set set, defaults;
	FILE *f;
	char *text;
	size_t n;

	config_template(&b);
	if (getenv("REGENERATE")) {
		f = fopen("conf/iis-poller.yaml", "w");
		ck_assert_ptr_nonnull(f);
		ck_assert_uint_eq(fwrite(b.p, 1, b.len, f), b.len);
		ck_assert_int_eq(fclose(f), 0);
	}
	f = fopen("conf/iis-poller.yaml", "r");
	ck_assert_msg(f != NULL, "conf/iis-poller.yaml is missing");
	text = xmalloc(b.len + 2);
	n = fread(text, 1, b.len + 1, f);
	text[n] = '\0';
	fclose(f);
	ck_assert_msg(n == b.len && !strcmp(text, buf_str(&b)),
	    "conf/iis-poller.yaml is not what the list says: run this test with REGENERATE=1");
	ck_assert_int_eq(load_text(&set, text, NULL, NULL), 0);
	config_set_release(&set);
	/* with every setting switched on it still says the defaults */
	for (const char *p = text; *p; p++)
		if (!(p[0] == '#' && p[1] >= 'a' && p[1] <= 'z'))
			buf_putc(&open_b, *p);
	ck_assert_int_eq(load_text(&set, buf_str(&open_b), NULL, NULL), 0);
	ck_assert_int_eq(load_text(&defaults, "", NULL, NULL), 0);
	for (int i = 0; i < CONFIG__MAX; i++)
		ck_assert_msg(strcmp(set.origin[i].file, "default"), "%s is not in the file",
		    config_rows[i].key);
	/* but for the tables, whose entries are no defaults */
	ck_assert_int_eq(config_restart_needed(&defaults.c, &set.c, &names), 1);
	ck_assert_str_eq(buf_str(&names), "pools");
	buf_clear(&b);
	config_print(&set, true, &b);
	ck_assert_ptr_nonnull(strstr(buf_str(&b), "\ntenants:\n"));
	*strstr(b.p, "\ntenants:\n") = '\0';
	ck_assert_ptr_null(strstr(b.p, "\n  "));
	config_set_release(&set);
	config_set_release(&defaults);
	free(text);
	buf_release(&b);
	buf_release(&open_b);
	buf_release(&names);
}
END_TEST

START_TEST(reload)
{
	struct config_set old, new_;
	struct buf names = BUF_INIT;

	ck_assert_int_eq(load_text(&old, "log: {level: info}\nworkers: {count: 2}\n", NULL, NULL), 0);
	ck_assert_int_eq(load_text(&new_, "log: {level: debug, file: /x}\nworkers: {count: 3}\n"
	    "topics: {results: r}\nlocal: {allowed_roots: [/srv]}\n", NULL, NULL), 0);
	ck_assert_int_eq(config_restart_needed(&old.c, &new_.c, &names), 2);
	ck_assert_str_eq(buf_str(&names), "topics.results, workers.count");
	config_take_reloadable(&old, &new_);
	config_set_release(&new_);
	ck_assert_int_eq(old.c.log_level, 3);
	ck_assert_str_eq(old.c.log_file, "/x");
	ck_assert_str_eq(old.c.local_roots.v[0], "/srv");
	ck_assert_int_eq(old.c.workers_count, 2);
	ck_assert_str_eq(old.c.topic_results, "polling-results");
	ck_assert_int_eq(old.origin[CONFIG_local_roots].line, 4);
	config_set_release(&old);
	buf_release(&names);
}
END_TEST

START_TEST(manual_lists)
{
	struct buf b = BUF_INIT;

	config_mdoc(&b);
	for (int i = 0; i < CONFIG__MAX; i++) {
		char *item = xasprintf(".It Ic %s : Ar ", config_rows[i].key);

		ck_assert_msg(strstr(buf_str(&b), item) != NULL, "%s", item);
		free(item);
	}
	buf_clear(&b);
	config_mdoc_environment(&b);
	ck_assert_ptr_nonnull(strstr(buf_str(&b), ".It Ev KAFKA_BOOTSTRAP_SERVERS"));
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_config");
	TCase *t = tcase_create("config"), *files = tcase_create("files");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, corpus, 0, ARRAY_LEN(rows));
	tcase_add_loop_test(t, seeded_slips, 0, ARRAY_LEN(slips));
	tcase_add_test(t, many_errors_are_counted);
	tcase_add_test(t, bombs_are_refused_quickly);
	tcase_add_test(t, old_log_levels);
	tcase_add_test(t, precedence_and_origins);
	tcase_add_test(t, wrong_environment);
	tcase_add_test(t, wrong_command_line);
	tcase_add_test(t, printed_file_loads_again);
	tcase_add_test(t, json_masks_too);
	tcase_add_test(t, errors_as_shown);
	tcase_add_test(t, no_secret_in_an_error);
	tcase_add_test(t, long_lines_are_cut);
	tcase_add_test(t, rows_are_whole);
	tcase_add_test(t, each_default_by_environment);
	tcase_add_test(t, shipped_file);
	tcase_add_test(t, reload);
	tcase_add_test(t, manual_lists);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(files, dir_setup, dir_teardown);
	tcase_add_test(files, unreadable_files);
	tcase_add_test(files, conf_d_overrides_in_name_order);
	tcase_add_test(files, readable_secrets);
	tcase_add_test(files, password_file);
	suite_add_tcase(s, files);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
