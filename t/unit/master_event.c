/*
 * master_event.c - events, terminal records and dead letters: each field of the contract, read back by json-c; identities;
 * nasty names; what is left out when Kafka would not take it.
 */
#include <check.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

/* Of sample() in the job above, and of its message. */
#define GOLDEN_EVENT "efe4e6bf-ddb6-5048-80f8-e26e12ecfc7e"
#define GOLDEN_RESULT "bf8f916d-0635-569e-a5d1-51f1492d0f9a"

static struct config cfg;
static struct strlist roots;
static struct jobrec rec;
static struct out_record out;
static struct json_object *value;    /* of the last record written */

static const char two_sources[] =
    "{\"job_id\":\"job_1\",\"org_id\":\"acme/x\",\"connection_list\":["
    "{\"source_type\":\"local\",\"path\":\"/srv/in\",\"source_id\":\"in\",\"retries\":5},"
    "{\"source_type\":\"dummy\",\"files\":10}],\"metadata\":{\"a\":[1,\"\\u00e4\"]}}";

static void
config_setup(void)
{
	static char jobs[] = "polling-queue", dlq[] = "polling-queue-dlq", dummy[] = "/srv/dummy";

	memset(&cfg, 0, sizeof(cfg));
	cfg.topic_jobs = jobs;
	cfg.topic_dlq = dlq;
	cfg.dummy_path = dummy;
	cfg.kafka_message_max = 1000000;
	cfg.retry_max = 3;
}

static void
parse(const char *json)
{
	struct job_limits l = {
		.message_max = 1 << 20, .metadata_max = 16384, .source_max = 49152, .timeout_max_ms = 86400000,
		.dummy_root = cfg.dummy_path, .local_roots = &roots,
	};

	memset(&rec, 0, sizeof(rec));
	rec.parse_error = (struct err)ERR_INIT;
	rec.payload_n = strlen(json);
	sha256_hex(json, rec.payload_n, rec.payload_sha256);
	rec.job = job_parse(json, rec.payload_n, &l, &rec.job_id, &rec.org_id, &rec.masked, &rec.parse_error);
	if (rec.job)
		rec.payload = xmemdup0(json, rec.payload_n);
	rec.origin = (struct origin){ .partition = 2, .offset = 77 };
	rec.received_ns = INT64_C(1767323045000000000);
	rec.first_received_ns = rec.received_ns;
	rec.started_ns = rec.received_ns + 1000000000;
	rec.finished_ns = rec.started_ns + 2500000000;
	if (!rec.job)
		return;
	free(rec.job_id);
	free(rec.org_id);
	rec.job_id = xstrdup(rec.job->job_id);
	rec.org_id = xstrdup(rec.job->org_id);
	rec.n_tasks = rec.job->n_sources;
	rec.tasks = xcalloc(rec.n_tasks, sizeof(*rec.tasks));
	for (size_t i = 0; i < rec.n_tasks; i++) {
		rec.tasks[i] = (struct task){ .job = &rec, .index = i, .attempt = 1, .state = TASK_DONE, .error = ERR_INIT };
		rec.tasks[i].done = xcalloc(1, sizeof(*rec.tasks[i].done));
	}
}

static void
release(void)
{
	for (size_t i = 0; i < rec.n_tasks; i++)
		free(rec.tasks[i].done);
	job_free(rec.job);
	free(rec.tasks);
	free(rec.job_id);
	free(rec.org_id);
	free(rec.masked);
	free(rec.payload);
	free(rec.key);
	memset(&rec, 0, sizeof(rec));
	json_object_put(value);
	value = NULL;
}

static void
setup(void)
{
	config_setup();
	strlist_add(&roots, "/srv");
	out_record_init(&out);
	parse(two_sources);
	ck_assert_msg(rec.job != NULL, "%s", rec.parse_error.text);
}

static void
teardown(void)
{
	release();
	out_record_release(&out);
	strlist_release(&roots);
}

static void
read_value(void)
{
	struct json_tokener *t = json_tokener_new_ex(64);

	json_object_put(value);
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	value = json_tokener_parse_ex(t, out.value.p, (int)out.value.len);
	ck_assert_msg(value != NULL, "%.*s", (int)out.value.len, out.value.p);
	ck_assert_uint_eq(json_tokener_get_parse_end(t), out.value.len);
	json_tokener_free(t);
}

/* "sources.0.error" */
static struct json_object *
at(const char *path)
{
	struct json_object *o = value, *next;
	char name[64];

	while (*path) {
		size_t n = strcspn(path, ".");

		ck_assert_uint_lt(n, sizeof(name));
		memcpy(name, path, n);
		name[n] = '\0';
		path += n + (path[n] == '.');
		if (json_object_is_type(o, json_type_array)) {
			ck_assert_uint_lt(strtoul(name, NULL, 10), json_object_array_length(o));
			o = json_object_array_get_idx(o, strtoul(name, NULL, 10));
		} else {
			ck_assert_msg(json_object_object_get_ex(o, name, &next), "no %s", name);
			o = next;
		}
	}
	return o;
}

/* The value as JSON text. */
static void
expect(const char *path, const char *json)
{
	struct json_object *o = at(path);

	ck_assert_msg(!strcmp(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), json),
	    "%s is %s, not %s", path, json_object_to_json_string(o), json);
}

static void
expect_bytes(const char *path, const char *p, size_t n)
{
	ck_assert_int_eq(json_object_get_string_len(at(path)), (int)n);
	ck_assert_mem_eq(json_object_get_string(at(path)), p, n);
}

static const struct out_header *
header(const char *name)
{
	const struct out_header *found = NULL;

	for (size_t i = 0; i < out.n_headers; i++)
		if (!strcmp(out.h[i].name, name)) {
			ck_assert_ptr_null(found);
			found = &out.h[i];
		}
	return found;
}

static void
expect_header(const char *name, const char *text)
{
	const struct out_header *h = header(name);

	ck_assert_msg(h != NULL, "no header %s", name);
	ck_assert_msg(h->n == strlen(text) && !memcmp(h->value, text, h->n), "%s: %.*s", name, (int)h->n, (const char *)h->value);
}

static void
write_event(size_t task, const struct record *r)
{
	struct event_ctx *x = event_ctx_new(&cfg, &rec.tasks[task]);

	event_write(x, r, &out);
	read_value();
	/* Borrowed headers live as long as the context: read them before it goes. */
	ck_assert_ptr_nonnull(header("event_id"));
	expect_header("content-type", "application/json");
	expect_header("ce_specversion", "1.0");
	expect_header("ce_type", "com.iis.poller.file.discovered.v1");
	expect_header("job_id", rec.job_id);
	expect_header("org_id", rec.org_id);
	expect_header("event_id", json_object_get_string(at("event_id")));
	expect_header("ce_id", json_object_get_string(at("event_id")));
	expect_header("ce_time", json_object_get_string(at("processed_at")));
	if (task == 0)
		expect_header("ce_source", "/iis-poller/acme%2Fx/in");
	if (rec.traceparent[0])
		expect_header("traceparent", rec.traceparent);
	else
		ck_assert_ptr_null(header("traceparent"));
	event_ctx_free(x);
}

static struct record
sample(void)
{
	static const char path[] = "/srv/in/a b/Report.CSV";
	struct record r;

	record_init(&r);
	r.path = path;
	r.path_n = sizeof(path) - 1;
	r.rel_off = 8;
	r.utf8 = true;
	r.size = 1234;
	r.mtime_ns = INT64_C(1767323045123456789);
	r.precision = MTIME_NS;
	return r;
}

static bool
is_time(const char *s)
{
	int64_t ns;

	return s[strlen(s) - 1] == 'Z' && units_time(s, &ns) == 0;
}

START_TEST(event_fields)
{
	struct record r = sample();
	static const char root[] = "/srv";

	snprintf(rec.traceparent, sizeof(rec.traceparent), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	rec.tasks[0].attempt = 3;
	r.is_symlink = true;
	r.link_target = "../x";
	r.link_target_n = 4;
	r.checksum = "abc";
	r.checksum_n = 3;
	snprintf(r.checksum_algorithm, sizeof(r.checksum_algorithm), "md5");
	snprintf(r.checksum_origin, sizeof(r.checksum_origin), "local");
	r.n_attrs = 2;
	r.attrs[0] = (struct record_attr){ .id = SA_LOCAL_INODE, .is_int = true, .i = INT64_MAX };
	r.attrs[1] = (struct record_attr){ .id = SA_LOCAL_ROOT, .s = root, .n = 4 };
	write_event(0, &r);
	ck_assert_int_eq(json_object_object_length(value), 26);
	ck_assert_int_eq(json_object_get_string_len(at("event_id")), 36);
	expect("job_id", "\"job_1\"");
	expect("source_type", "\"local\"");
	expect("file_path", "\"/srv/in/a b/Report.CSV\"");
	expect("file_name", "\"Report.CSV\"");
	expect("file_size", "1234");
	expect("file_type", "\".csv\"");
	expect("file_url", "\"file:///srv/in/a%20b/Report.CSV\"");
	expect("checksum", "\"abc\"");
	expect("metadata", "{\"a\":[1,\"\xc3\xa4\"]}");
	ck_assert(is_time(json_object_get_string(at("discovered_at"))));
	ck_assert(is_time(json_object_get_string(at("processed_at"))));
	ck_assert_int_le(strcmp(json_object_get_string(at("discovered_at")), json_object_get_string(at("processed_at"))), 0);
	expect("schema_version", "1");
	expect("event_type", "\"file.discovered\"");
	expect("org_id", "\"acme/x\"");
	expect("source_id", "\"in\"");
	expect("modified_at", "\"2026-01-02T03:04:05.123456789Z\"");
	expect("modified_precision", "\"ns\"");
	expect("checksum_algorithm", "\"md5\"");
	expect("checksum_origin", "\"local\"");
	expect("relative_path", "\"a b/Report.CSV\"");
	expect("entry_type", "\"file\"");
	expect("is_symlink", "true");
	expect("link_target", "\"../x\"");
	expect("source", "{\"inode\":9223372036854775807,\"root\":\"/srv\"}");
	expect("attempt", "3");
	ck_assert(out.has_key);
	ck_assert_str_eq(buf_str(&out.key), "file:///srv/in/a%20b/Report.CSV");
}
END_TEST

START_TEST(event_of_a_directory)
{
	struct record r = sample();

	r.kind = FILE_DIR;
	r.size = -1;
	write_event(0, &r);
	expect("entry_type", "\"dir\"");
	expect("file_path", "\"/srv/in/a b/Report.CSV\"");
	expect("file_url", "\"file:///srv/in/a%20b/Report.CSV/\"");
	ck_assert_ptr_null(at("file_type"));
	ck_assert_ptr_null(at("file_size"));
	r.kind = FILE_LINK;
	r.is_symlink = true;
	write_event(0, &r);
	expect("entry_type", "\"symlink\"");
	expect("file_url", "\"file:///srv/in/a%20b/Report.CSV\"");
	expect("file_type", "\".csv\"");
	expect("is_symlink", "true");
}
END_TEST

START_TEST(unknown_is_null)
{
	static const char *const nulls[] = {
		"file_size", "checksum", "checksum_algorithm", "checksum_origin", "modified_at", "modified_precision", "link_target",
		"file_type",
	};
	struct record r = sample();

	r.path_n -= 4;
	r.size = -1;
	r.mtime_ns = TIME_UNKNOWN;
	r.precision = MTIME_NONE;
	write_event(0, &r);
	for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
		ck_assert_msg(at(nulls[i]) == NULL, "%s", nulls[i]);
	expect("source", "{}");
	expect("is_symlink", "false");
}
END_TEST

#define U "\xef\xbf\xbd"
static const struct {
	const char *name, *shown, *url, *type;   /* type NULL: null */
	const char *b64;                         /* of the whole path; NULL: the name is UTF-8 */
} names[] = {
	{ "a.txt", "a.txt", "a.txt", ".txt", NULL },
	{ "A.TAR.GZ", "A.TAR.GZ", "A.TAR.GZ", ".gz", NULL },
	{ "noext", "noext", "noext", NULL, NULL },
	{ ".profile", ".profile", ".profile", NULL, NULL },
	{ "..a", "..a", "..a", NULL, NULL },
	{ ".a.B", ".a.B", ".a.B", ".b", NULL },
	{ "end.", "end.", "end.", NULL, NULL },
	{ "q?u#o%t\"e\\.x", "q?u#o%t\"e\\.x", "q%3Fu%23o%25t%22e%5C.x", ".x", NULL },
	{ "new\nline.csv", "new\nline.csv", "new%0Aline.csv", ".csv", NULL },
	{ "esc\x1b[31m.c", "esc\x1b[31m.c", "esc%1B%5B31m.c", ".c", NULL },
	{ "\xe2\x80\xae" "fdp.exe", "\xe2\x80\xae" "fdp.exe", "%E2%80%AEfdp.exe", ".exe", NULL },
	{ "\xf0\x9f\x98\x80.\xc3\x84", "\xf0\x9f\x98\x80.\xc3\x84", "%F0%9F%98%80.%C3%84", ".\xc3\x84", NULL },
	{ "l\xe4rm.csv", "l" U "rm.csv", "l%E4rm.csv", ".csv", "L3Nydi9pbi9s5HJtLmNzdg==" },
	{ "\xff\xfe", U U, "%FF%FE", NULL, "L3Nydi9pbi///g==" },
	{ "cut\xe2\x82", "cut" U, "cut%E2%82", NULL, "L3Nydi9pbi9jdXTigg==" },
	{ "a+b&c;d=e", "a+b&c;d=e", "a%2Bb%26c;d=e", NULL, NULL },
	{ "</script>.html", "</script>.html", NULL, ".html", NULL },
};

START_TEST(nasty_names)
{
	struct buf path = BUF_INIT, url = BUF_INIT;
	struct record r = sample();
	const char *slash;

	buf_printf(&path, "/srv/in/%s", names[_i].name);
	buf_printf(&url, "file:///srv/in/%s", names[_i].url ? names[_i].url : "%3C/script%3E.html");
	r.path = buf_str(&path);
	r.path_n = path.len;
	r.utf8 = !names[_i].b64;
	write_event(0, &r);
	slash = strrchr(names[_i].shown, '/');
	if (slash)
		expect_bytes("file_name", slash + 1, strlen(slash + 1));
	else
		expect_bytes("file_name", names[_i].shown, strlen(names[_i].shown));
	expect_bytes("relative_path", names[_i].shown, strlen(names[_i].shown));
	ck_assert_str_eq(json_object_get_string(at("file_url")), buf_str(&url));
	ck_assert_str_eq(buf_str(&out.key), buf_str(&url));
	if (names[_i].type)
		ck_assert_str_eq(json_object_get_string(at("file_type")), names[_i].type);
	else
		ck_assert_ptr_null(at("file_type"));
	ck_assert_int_eq(json_object_object_get_ex(value, "file_path_b64", NULL), names[_i].b64 != NULL);
	if (names[_i].b64)
		ck_assert_str_eq(json_object_get_string(at("file_path_b64")), names[_i].b64);
	/* The line is safe on a terminal and in a log: nothing but printable bytes and UTF-8. */
	for (size_t i = 0; i < out.value.len; i++)
		ck_assert((unsigned char)out.value.p[i] >= ' ' && out.value.p[i] != 0x7f);
	buf_release(&path);
	buf_release(&url);
}
END_TEST

static const struct { int64_t ns; enum mtime_precision p; const char *text, *word; } times[] = {
	{ 0, MTIME_NS, "1970-01-01T00:00:00.000000000Z", "ns" },
	{ -1, MTIME_NS, "1969-12-31T23:59:59.999999999Z", "ns" },
	{ INT64_C(951782400000000000), MTIME_S, "2000-02-29T00:00:00Z", "s" },
	{ INT64_C(1767323040000000000), MTIME_MIN, "2026-01-02T03:04:00Z", "min" },
	{ INT64_C(1767312000000000000), MTIME_DAY, "2026-01-02T00:00:00Z", "day" },
	{ -INT64_C(86400000000001), MTIME_NS, "1969-12-30T23:59:59.999999999Z", "ns" },
};

START_TEST(event_times)
{
	struct record r = sample();

	r.mtime_ns = times[_i].ns;
	r.precision = times[_i].p;
	write_event(0, &r);
	ck_assert_str_eq(json_object_get_string(at("modified_at")), times[_i].text);
	ck_assert_str_eq(json_object_get_string(at("modified_precision")), times[_i].word);
}
END_TEST

/* The dates of one context are kept from event to event: a run over many days must read as if each stood alone. */
START_TEST(times_of_a_run)
{
	struct event_ctx *x = event_ctx_new(&cfg, &rec.tasks[0]);
	struct record r = sample();
	char wanted[UNITS_TEXT];

	for (int i = 0; i < 500; i++) {
		r.mtime_ns = ((int64_t)i - 250) * 20000 * 1000000000 + i;
		event_write(x, &r, &out);
		read_value();
		units_time_text(r.mtime_ns, 9, wanted);
		ck_assert_str_eq(json_object_get_string(at("modified_at")), wanted);
	}
	event_ctx_free(x);
}
END_TEST

/* ---- identity -------------------------------------------------------------------------------------------------------- */

static void
id_of(size_t task, const struct record *r, char id[UUID_TEXT])
{
	write_event(task, r);
	snprintf(id, UUID_TEXT, "%s", json_object_get_string(at("event_id")));
	ck_assert_int_eq(id[14], '5');
}

static void change_nothing(struct record *r) { (void)r; }
static void change_attempt(struct record *r) { (void)r; rec.tasks[0].attempt = 9; }
static void change_job(struct record *r) { (void)r; free(rec.job_id); rec.job_id = xstrdup("another"); }
static void change_source_id(struct record *r) { (void)r; free(rec.job->sources[0].source_id); rec.job->sources[0].source_id = xstrdup("in"); }
static void change_root(struct record *r) { r->rel_off = 5; }
static void change_link(struct record *r) { r->is_symlink = true; }
static void change_org(struct record *r) { (void)r; free(rec.org_id); rec.org_id = xstrdup("other"); }
static void change_path(struct record *r) { r->path_n--; }
static void change_size(struct record *r) { r->size++; }
static void change_no_size(struct record *r) { r->size = -1; }
static void change_zero_size(struct record *r) { r->size = 0; }
static void change_mtime(struct record *r) { r->mtime_ns++; }
static void change_precision(struct record *r) { r->precision = MTIME_S; }
static void change_no_mtime(struct record *r) { r->precision = MTIME_NONE; r->mtime_ns = TIME_UNKNOWN; }
static void change_version(struct record *r) { r->version = "v1"; r->version_n = 2; }
static void change_other_version(struct record *r) { r->version = "v2"; r->version_n = 2; }

static const struct { void (*change)(struct record *); bool same; } changes[] = {
	{ change_nothing, true }, { change_attempt, true }, { change_job, true }, { change_source_id, true }, { change_root, true },
	{ change_link, true }, { change_org, false }, { change_path, false }, { change_size, false }, { change_no_size, false },
	{ change_zero_size, false }, { change_mtime, false }, { change_precision, false }, { change_no_mtime, false },
	{ change_version, false }, { change_other_version, false },
};

START_TEST(identity)
{
	struct record r = sample();
	char before[UUID_TEXT], after[UUID_TEXT], others[ARRAY_LEN(changes)][UUID_TEXT];
	struct event_ctx *x;

	/* write_event compares headers to rec, whose org the rows change: written here by hand. */
	x = event_ctx_new(&cfg, &rec.tasks[0]);
	event_write(x, &r, &out);
	event_ctx_free(x);
	read_value();
	snprintf(before, sizeof(before), "%s", json_object_get_string(at("event_id")));
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		release();
		parse(two_sources);
		r = sample();
		changes[i].change(&r);
		x = event_ctx_new(&cfg, &rec.tasks[0]);
		event_write(x, &r, &out);
		event_ctx_free(x);
		read_value();
		snprintf(after, sizeof(after), "%s", json_object_get_string(at("event_id")));
		ck_assert_msg(!strcmp(before, after) == changes[i].same, "row %zu", i);
		memcpy(others[i], after, sizeof(after));
		for (size_t k = 0; k < i; k++)
			ck_assert_msg(changes[i].same || strcmp(others[k], after), "rows %zu and %zu", i, k);
	}
	/* A version speaks for itself: times may then change. */
	r.mtime_ns += 5;
	r.size = -1;
	id_of(0, &r, after);
	ck_assert_str_eq(after, others[ARRAY_LEN(changes) - 1]);
}
END_TEST

/* The form of a listing's date changes with its age: the day is what holds. */
START_TEST(identity_of_coarse_times)
{
	struct record r = sample();
	char minute[UUID_TEXT], day[UUID_TEXT], next[UUID_TEXT];

	r.mtime_ns = INT64_C(1767323040000000000);
	r.precision = MTIME_MIN;
	id_of(0, &r, minute);
	r.mtime_ns = INT64_C(1767312000000000000);
	r.precision = MTIME_DAY;
	id_of(0, &r, day);
	ck_assert_str_eq(minute, day);
	r.mtime_ns += INT64_C(86400000000000);
	id_of(0, &r, next);
	ck_assert_str_ne(day, next);
}
END_TEST

/* Written down once: an id that changes with a release would make every consumer see every file again. */
START_TEST(identity_for_ever)
{
	struct record r = sample();
	char id[UUID_TEXT];

	id_of(0, &r, id);
	ck_assert_str_eq(id, GOLDEN_EVENT);
	result_id(&cfg, &rec.origin, id);
	ck_assert_str_eq(id, GOLDEN_RESULT);
}
END_TEST

/* path, attribute query, file_url, file_type; on: query_links: keep */
static const struct { const char *path, *query, *url, *type; bool on; } queries[] = {
	{ "/d/get.php?f=a%2Fb", "f=a/b", "\"http://h/d/get.php?f=a/b\"", "\".php\"", true },
	{ "/d/a.csv?v=2", "v=2", "\"http://h/d/a.csv?v=2\"", "\".csv\"", true },
	{ "/d/a.csv?v=2", "v=2", "\"http://h/d/a.csv%3Fv=2\"", "\".csv?v=2\"", false },
	{ "/d/a.csv?v=2", NULL, "\"http://h/d/a.csv%3Fv=2\"", "\".csv?v=2\"", true },
	{ "/d/a.csv?v=2", "v=3", "\"http://h/d/a.csv%3Fv=2\"", "\".csv?v=2\"", true },
	{ "/d/a.csv?%22%0A", "\"\n", "\"http://h/d/a.csv?%22%0A\"", "\".csv\"", true },
	{ "?v=2", "v=2", "\"http://h/%3Fv=2\"", "null", true },
};

START_TEST(query_links)
{
	struct source_conf *c = &rec.job->sources[0];
	struct record r = sample();

	c->type = SOURCE_HTTP;
	c->url_base = xstrdup("http://h");
	c->v[SF_HTTP_QUERY_LINKS].i = queries[_i].on;
	r.path = queries[_i].path;
	r.path_n = strlen(r.path);
	r.rel_off = 0;
	if (queries[_i].query)
		r.attrs[r.n_attrs++] = (struct record_attr){ .id = SA_HTTP_QUERY, .s = queries[_i].query, .n = strlen(queries[_i].query) };
	write_event(0, &r);
	expect("file_url", queries[_i].url);
	expect("file_type", queries[_i].type);
}
END_TEST

START_TEST(generated_files)
{
	static const char path[] = "/generated/d1/file 3.csv";
	struct record r = sample();

	r.path = path;
	r.path_n = sizeof(path) - 1;
	r.rel_off = 11;
	write_event(1, &r);
	expect("source_type", "\"dummy\"");
	expect("file_url", "\"dummy:///generated/d1/file%203.csv\"");
	expect("relative_path", "\"d1/file 3.csv\"");
}
END_TEST

static const struct { int setting; const char *key; } keys[] = {
	{ 0, "file:///srv/in/a%20b/Report.CSV" }, { 1, "job_1" }, { 2, "acme/x" }, { 3, NULL },
};

START_TEST(event_keys)
{
	struct record r = sample();

	cfg.event_key = keys[_i].setting;
	write_event(0, &r);
	ck_assert_int_eq(out.has_key, keys[_i].key != NULL);
	if (keys[_i].key)
		ck_assert_str_eq(buf_str(&out.key), keys[_i].key);
}
END_TEST

/* ---- terminal records -------------------------------------------------------------------------------------------------- */

static void
write_result(void)
{
	result_write(&cfg, &rec, &out);
	read_value();
	expect_header("ce_id", json_object_get_string(at("result_id")));
	expect_header("ce_time", "2026-01-02T03:04:08.500Z");
	expect_header("content-type", "application/json");
	expect("schema_version", "1");
	expect("origin", "{\"topic\":\"polling-queue\",\"partition\":2,\"offset\":77}");
}

START_TEST(result_completed)
{
	*rec.tasks[0].done = (struct task_done){ .listed = 10, .matched = 4, .skipped = 6, .truncated = true };
	rec.tasks[0].published = 4;
	rec.tasks[0].attempt = 2;
	*rec.tasks[1].done = (struct task_done){ .listed = 3, .matched = 3, .peer = "192.0.2.1:22" };
	rec.tasks[1].published = 3;
	write_result();
	ck_assert_str_eq(buf_str(&out.key), "job_1");
	expect_header("job_id", "job_1");
	expect_header("org_id", "acme/x");
	expect_header("ce_source", "/iis-poller/acme%2Fx");
	expect_header("ce_type", "com.iis.poller.job.completed.v1");
	expect("event_type", "\"job.completed\"");
	expect("job_id", "\"job_1\"");
	expect("org_id", "\"acme/x\"");
	expect("attempt", "2");
	expect("started_at", "\"2026-01-02T03:04:06.000Z\"");
	expect("finished_at", "\"2026-01-02T03:04:08.500Z\"");
	expect("duration_seconds", "2.500");
	expect("listed", "13");
	expect("matched", "7");
	expect("published", "7");
	expect("skipped", "6");
	expect("truncated", "true");
	expect("error", "null");
	expect("metadata", "{\"a\":[1,\"\xc3\xa4\"]}");
	ck_assert_uint_eq(json_object_array_length(at("sources")), 2);
	expect("sources.0.source_id", "\"in\"");
	expect("sources.0.source_type", "\"local\"");
	expect("sources.0.listed", "10");
	expect("sources.0.truncated", "true");
	expect("sources.0.attempts", "2");
	expect("sources.0.peer", "null");
	expect("sources.0.error", "null");
	expect("sources.1.source_type", "\"dummy\"");
	expect("sources.1.peer", "\"192.0.2.1:22\"");
	expect("warnings", "[\"in: more files match than filters.max_files\"]");
}
END_TEST

/* Nothing there, nothing known and something refused are three different things. */
START_TEST(result_empty)
{
	write_result();
	expect("event_type", "\"job.completed\"");
	expect("listed", "0");
	expect("matched", "0");
	expect("sources.0.matched", "0");
	expect("error", "null");
	expect("warnings", "[]");
}
END_TEST

START_TEST(result_failed)
{
	for (size_t i = 0; i < 2; i++) {
		rec.tasks[i].state = TASK_DEAD;
		err_set(&rec.tasks[i].error, ERR_WORKER_CRASH, "worker %d died of signal 11", 100 + (int)i);
		rec.tasks[i].verdict = (struct verdict){ .pid = 100, .signal = SIGSEGV };
	}
	write_result();
	expect_header("ce_type", "com.iis.poller.job.failed.v1");
	expect("event_type", "\"job.failed\"");
	expect("listed", "null");
	expect("matched", "null");
	expect("published", "0");
	expect("sources.0.listed", "null");
	expect("sources.1.error", "{\"class\":\"worker_crash\",\"message\":\"worker 101 died of signal 11\"}");
	expect("error", "{\"class\":\"worker_crash\",\"message\":\"worker 100 died of signal 11\"}");
}
END_TEST

START_TEST(result_partial)
{
	struct task_done *d = rec.tasks[0].done;

	*d = (struct task_done){ .listed = 5, .matched = 2, .unreadable = 40, .n_named = 2 };
	snprintf(d->named[0].path, sizeof(d->named[0].path), "/srv/in/\xff\x1b");
	snprintf(d->named[0].reason, sizeof(d->named[0].reason), "Permission denied");
	rec.tasks[1].state = TASK_DEAD;
	rec.tasks[1].done->cls = ERR_NOT_FOUND;
	err_set(&rec.tasks[1].error, ERR_NOT_FOUND, "gone");
	write_result();
	expect_header("ce_type", "com.iis.poller.job.partial.v1");
	expect("event_type", "\"job.partial\"");
	expect("sources.0.error", "null");
	expect("sources.0.unreadable", "40");
	ck_assert_uint_eq(json_object_array_length(at("sources.0.unreadable_entries")), 2);
	expect_bytes("sources.0.unreadable_entries.0.path", "/srv/in/" U "\x1b", 12);
	expect("sources.0.unreadable_entries.0.reason", "\"Permission denied\"");
	expect("sources.1.listed", "0");
	expect("sources.1.error", "{\"class\":\"not_found\",\"message\":\"gone\"}");
	expect("warnings", "[\"in: 40 entries could not be read\"]");
}
END_TEST

START_TEST(result_cancelled)
{
	rec.cancelled = true;
	for (size_t i = 0; i < 2; i++) {
		rec.tasks[i].state = TASK_DEAD;
		rec.tasks[i].attempt = 0;
		err_set(&rec.tasks[i].error, ERR_CANCELLED, "cancelled by an operator");
	}
	rec.started_ns = 0;
	write_result();
	expect_header("ce_type", "com.iis.poller.job.cancelled.v1");
	expect("event_type", "\"job.cancelled\"");
	expect("attempt", "null");
	expect("started_at", "null");
	expect("duration_seconds", "null");
	expect("sources.0.published", "null");
	expect("error.class", "\"cancelled\"");
}
END_TEST

START_TEST(result_unparsable)
{
	release();
	parse("{\"job_id\": oops}");
	ck_assert_ptr_null(rec.job);
	rec.key = xstrdup("its-key");
	rec.key_n = 7;
	rec.started_ns = 0;
	write_result();
	ck_assert_str_eq(buf_str(&out.key), "its-key");
	expect("event_type", "\"job.failed\"");
	expect("job_id", "null");
	expect("org_id", "null");
	expect("sources", "[]");
	expect("metadata", "null");
	expect("listed", "null");
	expect("error.class", "\"invalid_job\"");
	expect_header("ce_source", "/iis-poller");
	ck_assert_ptr_null(header("job_id"));
}
END_TEST

/* The same message has the same id, any other another. */
START_TEST(result_ids)
{
	struct origin o[] = { { .partition = 2, .offset = 77 }, { .partition = 2, .offset = 77, .epoch = 5 }, { .partition = 27, .offset = 7 },
		{ .partition = 2, .offset = 78 }, { .partition = 3, .offset = 77 } };
	char id[ARRAY_LEN(o)][UUID_TEXT], other_topic[UUID_TEXT];
	static char topic[] = "other";

	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		result_id(&cfg, &o[i], id[i]);
		for (size_t k = 0; k < i; k++)
			ck_assert_int_eq(!strcmp(id[i], id[k]), i == 1 && k == 0);
	}
	cfg.topic_jobs = topic;
	result_id(&cfg, &o[0], other_topic);
	ck_assert_str_ne(id[0], other_topic);
}
END_TEST

static size_t
whole_size(void)
{
	size_t n = out.value.len + out.key.len;

	for (size_t i = 0; i < out.n_headers; i++)
		n += out.h[i].n + strlen(out.h[i].name);
	return n;
}

static const struct { int64_t max; size_t sources; bool metadata; } fits[] = {
	{ 1000000, 2, true }, { 6000, 2, false }, { 2000, 0, false },
};

START_TEST(result_must_fit)
{
	for (size_t i = 0; i < 2; i++) {
		*rec.tasks[i].done = (struct task_done){ .listed = 20, .unreadable = 16, .n_named = TASK_UNREADABLE_MAX };
		for (int k = 0; k < TASK_UNREADABLE_MAX; k++)
			memset(rec.tasks[i].done->named[k].path, 'x', 511);
		rec.tasks[i].state = TASK_DEAD;
		rec.tasks[i].done->cls = ERR_PERMANENT;
		err_set(&rec.tasks[i].error, ERR_PERMANENT, "%0900d", 7);
	}
	cfg.kafka_message_max = fits[_i].max;
	result_write(&cfg, &rec, &out);
	read_value();
	ck_assert_uint_le(whole_size(), (size_t)fits[_i].max);
	ck_assert_uint_eq(json_object_array_length(at("sources")), fits[_i].sources);
	ck_assert_int_eq(at("metadata") != NULL, fits[_i].metadata);
	expect("event_type", "\"job.failed\"");
	expect("error.class", "\"permanent\"");
	expect("job_id", "\"job_1\"");
	if (!fits[_i].metadata)
		ck_assert_uint_eq(json_object_array_length(at("warnings")), 1);
}
END_TEST

/* Kafka's own word counts, too, not only our setting. */
START_TEST(result_small_on_demand)
{
	rec.small_records = true;
	write_result();
	ck_assert_ptr_null(at("metadata"));
	ck_assert_uint_eq(json_object_array_length(at("sources")), 2);
}
END_TEST

/* ---- dead letters --------------------------------------------------------------------------------------------------------- */

static void
write_letter(void)
{
	dead_letter_write(&cfg, &rec, &out);
	read_value();
	expect("schema_version", "1");
	expect("metadata", "{\"dlq_topic\":\"polling-queue-dlq\",\"original_topic\":\"polling-queue\",\"original_partition\":2,"
	    "\"original_offset\":77}");
	expect("failure_info.failed_at", "\"2026-01-02T03:04:08.500Z\"");
	expect_header("failed_at", "2026-01-02T03:04:08.500Z");
	expect_header("error_type", json_object_get_string(at("failure_info.error_type")));
	expect_header("ce_type", "com.iis.poller.job.dead_lettered.v1");
	expect_header("ce_time", "2026-01-02T03:04:08.500Z");
	ck_assert_uint_eq(header("ce_id")->n, 36);
}

START_TEST(letter_of_a_crash)
{
	struct task *t = &rec.tasks[0];

	snprintf(rec.traceparent, sizeof(rec.traceparent), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	t->state = TASK_DEAD;
	t->attempt = 2;
	err_set(&t->error, ERR_WORKER_CRASH, "worker 4711 died of signal 11 (Segmentation fault)");
	t->verdict = (struct verdict){ .pid = 4711, .signal = SIGSEGV, .exit_code = -1, .cpu_seconds = 0.25, .max_rss_bytes = 5 << 20,
		.phase = PHASE_LIST, .stderr_tail = "bad \xff thing" };
	write_letter();
	ck_assert_str_eq(buf_str(&out.key), "job_1");
	expect_header("job_id", "job_1");
	expect_header("org_id", "acme/x");
	expect_header("retry_count", "1");
	expect_header("traceparent", rec.traceparent);
	expect("original_job.job_id", "\"job_1\"");
	expect("failure_info.error_type", "\"worker_crash\"");
	expect("failure_info.error_class", "\"crash\"");
	expect("failure_info.error_message", "\"worker 4711 died of signal 11 (Segmentation fault)\"");
	ck_assert_ptr_nonnull(strstr(json_object_get_string(at("failure_info.failure_reason")), err_todo(ERR_WORKER_CRASH)));
	expect("failure_info.source_id", "\"in\"");
	expect("failure_info.retry_count", "1");
	expect("failure_info.max_retries", "5");
	expect("failure_info.position", "{\"byte\":null,\"pointer\":null}");
	expect("failure_info.worker.pid", "4711");
	expect("failure_info.worker.signal", "11");
	expect("failure_info.worker.signal_name", "\"SEGV\"");
	expect("failure_info.worker.exit_code", "null");
	expect("failure_info.worker.syscall", "null");
	expect("failure_info.worker.cpu_seconds", "0.250");
	expect("failure_info.worker.max_rss_bytes", "5242880");
	ck_assert_str_eq(json_object_get_string(at("failure_info.worker.phase")), task_phase_name(PHASE_LIST));
	expect("failure_info.worker.stderr", "\"bad " U " thing\"");
}
END_TEST

static const struct { enum err_class cls; const char *word; } words[] = {
	{ ERR_TRANSIENT, "\"transient\"" }, { ERR_TIMEOUT, "\"transient\"" }, { ERR_WORKER_LOST, "\"transient\"" },
	{ ERR_NOT_FOUND, "\"permanent\"" }, { ERR_POLICY, "\"permanent\"" }, { ERR_WORKER_PROTOCOL, "\"crash\"" },
};

START_TEST(letter_classes)
{
	rec.tasks[1].state = TASK_DEAD;
	rec.tasks[1].attempt = 4;
	err_set(&rec.tasks[1].error, words[_i].cls, "so");
	write_letter();
	expect("failure_info.error_class", words[_i].word);
	expect("failure_info.retry_count", "3");
	expect("failure_info.max_retries", "3");
	expect("failure_info.worker", "null");
}
END_TEST

START_TEST(letter_of_bad_json)
{
	static const char text[] = "{\"job_id\":\"x\",\"password\":\"hunter2\",}";

	release();
	parse(text);
	ck_assert_ptr_null(rec.job);
	write_letter();
	expect("original_job", "null");
	expect("failure_info.error_type", "\"invalid_job\"");
	expect("failure_info.error_class", "\"permanent\"");
	ck_assert_int_eq(json_object_get_int64(at("failure_info.original_size")), (int64_t)sizeof(text) - 1);
	ck_assert_str_eq(json_object_get_string(at("failure_info.original_sha256")), rec.payload_sha256);
	ck_assert_int_gt(json_object_get_int64(at("failure_info.position.byte")), 0);
	ck_assert_ptr_null(strstr(buf_str(&out.value), "hunter2"));
	ck_assert(!out.has_key);
}
END_TEST

START_TEST(letter_of_a_wrong_field)
{
	release();
	parse("{\"job_id\":\"x\",\"source_config\":{\"source_type\":\"dummy\",\"recursive\":17}}");
	ck_assert_ptr_null(rec.job);
	write_letter();
	ck_assert_str_eq(buf_str(&out.key), "x");
	expect("original_job.job_id", "\"x\"");
	expect("failure_info.position.pointer", "\"/source_config/recursive\"");
}
END_TEST

START_TEST(letter_must_fit)
{
	struct buf job = BUF_INIT;

	buf_puts(&job, "{\"job_id\":\"big\",\"source_config\":{\"source_type\":\"dummy\"},\"metadata\":{\"x\":\"");
	for (int i = 0; i < 16000; i++)
		buf_putc(&job, 'y');
	buf_puts(&job, "\"}}");
	release();
	parse(buf_str(&job));
	ck_assert_msg(rec.job != NULL, "%s", rec.parse_error.text);
	rec.tasks[0].state = TASK_DEAD;
	err_set(&rec.tasks[0].error, ERR_PERMANENT, "%01000d", 7);
	write_letter();
	ck_assert_ptr_nonnull(at("original_job"));
	cfg.kafka_message_max = 2500;
	write_letter();
	ck_assert_uint_le(whole_size(), 2500);
	ck_assert_ptr_null(at("original_job"));
	expect("failure_info.error_type", "\"permanent\"");
	ck_assert_str_eq(json_object_get_string(at("failure_info.original_sha256")), rec.payload_sha256);
	expect_header("job_id", "big");
	buf_release(&job);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("event");
	TCase *e = tcase_create("events"), *r = tcase_create("results"), *d = tcase_create("dead letters");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(e, setup, teardown);
	tcase_add_test(e, event_fields);
	tcase_add_test(e, unknown_is_null);
	tcase_add_test(e, event_of_a_directory);
	tcase_add_loop_test(e, nasty_names, 0, (int)ARRAY_LEN(names));
	tcase_add_loop_test(e, event_times, 0, (int)ARRAY_LEN(times));
	tcase_add_test(e, times_of_a_run);
	tcase_add_test(e, identity);
	tcase_add_test(e, identity_of_coarse_times);
	tcase_add_test(e, identity_for_ever);
	tcase_add_loop_test(e, query_links, 0, ARRAY_LEN(queries));
	tcase_add_test(e, generated_files);
	tcase_add_loop_test(e, event_keys, 0, (int)ARRAY_LEN(keys));
	suite_add_tcase(s, e);
	tcase_add_checked_fixture(r, setup, teardown);
	tcase_add_test(r, result_completed);
	tcase_add_test(r, result_empty);
	tcase_add_test(r, result_failed);
	tcase_add_test(r, result_partial);
	tcase_add_test(r, result_cancelled);
	tcase_add_test(r, result_unparsable);
	tcase_add_test(r, result_ids);
	tcase_add_loop_test(r, result_must_fit, 0, (int)ARRAY_LEN(fits));
	tcase_add_test(r, result_small_on_demand);
	suite_add_tcase(s, r);
	tcase_add_checked_fixture(d, setup, teardown);
	tcase_add_test(d, letter_of_a_crash);
	tcase_add_loop_test(d, letter_classes, 0, (int)ARRAY_LEN(words));
	tcase_add_test(d, letter_of_bad_json);
	tcase_add_test(d, letter_of_a_wrong_field);
	tcase_add_test(d, letter_must_fit);
	suite_add_tcase(s, d);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
