/*
 * common_job.c - the job model: each field right, wrong, twice and unknown; paths, masks, frames.
 *
 * Rows give the job as JSON with ' in place of " where that reads better.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/field.h"
#include "common/job.h"
#include "common/json.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

static char *roots[] = { (char *)(uintptr_t)"/srv/in", (char *)(uintptr_t)"/data/", (char *)(uintptr_t)"/srv/in/deep" };
static const struct strlist local_roots = { roots, ARRAY_LEN(roots) };
static const struct job_limits usual = {
	.message_max = 1 << 20, .metadata_max = 256, .source_max = 49152, .timeout_max_ms = 86400000,
	.dummy_root = "/x/dummy_data", .local_roots = &local_roots,
};
static struct job_limits limits;

/* Tests that change them are followed by others where nothing is forked. */
static void
set_limits(void)
{
	limits = usual;
}

static char *
quoted(const char *s)
{
	char *p = xstrdup(s);

	for (char *c = p; *c; c++)
		if (*c == '\'')
			*c = '"';
	return p;
}

static struct job *
parse(const char *text, struct err *e)
{
	char *p = quoted(text);
	struct job *j = job_parse(p, strlen(p), &limits, NULL, NULL, NULL, e);

	free(p);
	return j;
}

static struct job *
good(const char *text)
{
	struct err e = ERR_INIT;
	struct job *j = parse(text, &e);

	ck_assert_msg(j != NULL, "%s: %s (%s)", text, e.text, e.pointer);
	return j;
}

#define LOCAL "'source_config':{'source_type':'local','path':'/srv/in'}"
#define DUMMY "'source_config':{'source_type':'dummy'}"

/* ---- refusals ---- */

struct refusal {
	const char *job;
	enum err_class cls;
	const char *pointer;
	const char *text;       /* a part of it */
	const char *at;         /* what stands at the position; NULL: not asked */
};

#define OF_S3 "'source_config':{'source_type':'s3','bucket':'b','anonymous':true"
#define OF_HTTP "'source_config':{'source_type':'http','url':'http://h/'"

static const struct refusal refusals[] = {
	{ "[]", ERR_INVALID_JOB, "", "object", "[" }, { "'x'", ERR_INVALID_JOB, "", "object", "'" }, { "null", ERR_INVALID_JOB, "", "object", "n" },
	{ "12", ERR_INVALID_JOB, "", "object", "1" },
	{ "{}", ERR_INVALID_JOB, "/job_id", "missing", "{" },
	{ "{'job_id':'a'}", ERR_INVALID_JOB, "/source_config", "missing", "{" },
	{ "{'job_id':''," DUMMY "}", ERR_INVALID_JOB, "/job_id", "empty", "''" },
	{ "{'job_id':' \\u00a0\\u200b'," DUMMY "}", ERR_INVALID_JOB, "/job_id", "visible", "' " },
	{ "{'job_id':'a\\u0007'," DUMMY "}", ERR_INVALID_JOB, "/job_id", "control", NULL },
	{ "{'job_id':'a\\u009b'," DUMMY "}", ERR_INVALID_JOB, "/job_id", "control", NULL },
	{ "{'job_id':'a\\u202e'," DUMMY "}", ERR_INVALID_JOB, "/job_id", "control", NULL },
	{ "{'job_id':'a\\nb'," DUMMY "}", ERR_INVALID_JOB, "/job_id", "LF", NULL },
	{ "{'job_id':7," DUMMY "}", ERR_INVALID_JOB, "/job_id", "not a number", "7" },
	{ "{'job_id':'a','org_id':'\\u007f'," DUMMY "}", ERR_INVALID_JOB, "/org_id", "control", NULL },
	{ "{'job_id':'a','org_id':null," DUMMY "}", ERR_INVALID_JOB, "/org_id", "null", "null" },
	{ "{'job_id':'a'," DUMMY ",'connection_list':[{'source_type':'dummy'}]}", ERR_INVALID_JOB, "/connection_list", "exclude", "[" },
	{ "{'job_id':'a','connection_list':[]}", ERR_INVALID_JOB, "/connection_list", "1..64", "[]" },
	{ "{'job_id':'a','connection_list':[{'source_type':'dummy'},3]}", ERR_INVALID_JOB, "/connection_list/1", "objects", "3" },
	{ "{'job_id':'a','connection_list':[{'source_type':'dummy'},{'source_type':'local'}]}", ERR_INVALID_JOB, "/connection_list/1/path", "missing", "{'source_type':'local'" },
	{ "{'job_id':'a','source_config':{}}", ERR_INVALID_JOB, "/source_config/source_type", "missing", "{}" },
	{ "{'job_id':'a','source_config':{'source_type':'onedrive'}}", ERR_UNKNOWN_SOURCE, "/source_config/source_type", "there are: dummy, local", "'one" },
	{ "{'job_id':'a','source_config':{'type':'mysql'}}", ERR_UNKNOWN_SOURCE, "/source_config/type", "mysql", "'my" },
	{ "{'job_id':'a','source_config':{'source_type':'Local'}}", ERR_UNKNOWN_SOURCE, "/source_config/source_type", "Local", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'s3','bucket':'b'}}", ERR_INVALID_JOB, "/source_config/access_key_id", "credentials are missing", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'minio'}}", ERR_INVALID_JOB, "/source_config/bucket", "bucket is missing", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'sftp'}}", ERR_INVALID_JOB, "/source_config/host", "host is missing", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'ftps'}}", ERR_INVALID_JOB, "/source_config/host", "host is missing", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'https'}}", ERR_INVALID_JOB, "/source_config/url", "missing", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'local','type':'dummy','path':'/srv/in'}}", ERR_INVALID_JOB, "/source_config/type", "different", "'dummy'" },
	{ "{'job_id':'a'," OF_S3 ",'directory_bucket':true}}", ERR_UNSUPPORTED, "/source_config/directory_bucket", "directory_bucket", "true" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'types':['file','pipe']}}", ERR_INVALID_JOB, "/filters/types", "none of file, dir and symlink", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'stability':true}}", ERR_INVALID_JOB, "/filters/stability", "must be an object", "true" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'stability':{'checks':0}}}", ERR_INVALID_JOB, "/filters/stability/checks", "1..100", "0" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'stability':{'interval':'2h'}}}", ERR_INVALID_JOB, "/filters/stability/interval", "1s..1h", "'2h'" },
	{ "{'job_id':'a','timeout':'30s'," DUMMY ",'filters':{'stability':{'checks':3}}}", ERR_INVALID_JOB, "/filters/stability", "30 s in all", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'types':[]}}", ERR_INVALID_JOB, "/filters/types", "at least one", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'types':'File'}}", ERR_INVALID_JOB, "/filters/types", "none of", NULL },
	{ "{'job_id':'a'," OF_S3 "},'filters':{'types':['file','symlink']}}", ERR_UNSUPPORTED, "/filters/types", "no symbolic links", NULL },
	{ "{'job_id':'a'," OF_HTTP "},'filters':{'types':'symlink'}}", ERR_UNSUPPORTED, "/filters/types", "http shows no symbolic links", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','files':3},'filters':{'types':'symlink'}}", ERR_UNSUPPORTED, "/filters/types", "generated", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','files':3},'filters':{'types':'dir'}}", ERR_UNSUPPORTED, "/filters/types", "no directories", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','files':3},'filters':{'exclude_if_present':'x'}}", ERR_UNSUPPORTED, "/filters/exclude_if_present", "no directories", NULL },
	{ "{'job_id':'a'," OF_HTTP ",'index_format':'links'},'filters':{'types':'dir'}}", ERR_UNSUPPORTED, "/filters/types", "index_format", NULL },
	{ "{'job_id':'a'," OF_HTTP ",'index_format':'manifest-text'},'filters':{'exclude_if_present':'x'}}", ERR_UNSUPPORTED, "/filters/exclude_if_present", "index_format", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/in','follow_symlinks':'files'},'filters':{'types':'symlink'}}", ERR_INVALID_JOB, "/source_config/follow_symlinks", "not both", NULL },
	{ "{'job_id':'a'," OF_S3 ",'start_after':'k'},'filters':{'types':'dir'}}", ERR_INVALID_JOB, "/source_config/start_after", "whole folders", NULL },
	{ "{'job_id':'a'," OF_S3 ",'prefix':'in/a'},'filters':{'exclude_if_present':'x'}}", ERR_INVALID_JOB, "/source_config/prefix", "ends with '/'", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'exclude_if_present':'a/b'}}", ERR_INVALID_JOB, "/filters/exclude_if_present", "not a file's name", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'exclude_if_present':'..'}}", ERR_INVALID_JOB, "/filters/exclude_if_present", "not a file's name", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'extensions':['.']}}", ERR_INVALID_JOB, "/filters/extensions", "end of a file's name", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'extensions':['a/b']}}", ERR_INVALID_JOB, "/filters/extensions", "end of a file's name", NULL },
	{ "{'job_id':'a'," OF_S3 ",'directory_bucket':3}}", ERR_UNSUPPORTED, "/source_config/directory_bucket", "directory_bucket", "3" },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/in','hash':'md4'}}", ERR_INVALID_JOB, "/source_config/hash", "hash", "'md4'" },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','crash':'segv'}}", ERR_POLICY, "/source_config/crash", "dummy.allow_faults", "'segv'" },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','fail_after':1}}", ERR_POLICY, "/source_config/fail_after", "dummy.allow_faults", "1" },
	/* paths */
	{ "{'job_id':'a','source_config':{'source_type':'local'}}", ERR_INVALID_JOB, "/source_config/path", "missing", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'in'}}", ERR_INVALID_JOB, "/source_config/path", "begin with '/'", "'in'" },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/in/../x'}}", ERR_INVALID_JOB, "/source_config/path", "..", "'/srv" },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/inner'}}", ERR_POLICY, "/source_config/path", "local.allowed_roots", "'/srv" },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'/'}}", ERR_POLICY, "/source_config/path", "local.allowed_roots", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/in\\u0000'}}", ERR_INVALID_JOB, "/source_config/path", "NUL", "\\u0000" },
	{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/in/a\\rb'}}", ERR_INVALID_JOB, "/source_config/path", "CR", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','path':'./other'}}", ERR_POLICY, "/source_config/path", "DUMMY_DATA_PATH", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','path':'/etc'}}", ERR_POLICY, "/source_config/path", "DUMMY_DATA_PATH", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','path':'dummy_data/../../etc'}}", ERR_INVALID_JOB, "/source_config/path", "..", NULL },
	/* patterns and filters */
	{ "{'job_id':'a'," DUMMY ",'file_pattern':'[a'}", ERR_INVALID_JOB, "/file_pattern", "pattern", "'[a'" },
	{ "{'job_id':'a'," DUMMY ",'file_pattern':['*','{a']}", ERR_INVALID_JOB, "/file_pattern/1", "pattern", "'{a'" },
	{ "{'job_id':'a'," DUMMY ",'file_pattern':[]}", ERR_INVALID_JOB, "/file_pattern", "at least one", "[]" },
	{ "{'job_id':'a'," DUMMY ",'file_pattern':['a',2]}", ERR_INVALID_JOB, "/file_pattern/1", "strings", "2" },
	{ "{'job_id':'a'," DUMMY ",'file_pattern':['a','']}", ERR_INVALID_JOB, "/file_pattern/1", "empty", "''" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'include':'*.csv'}}", ERR_INVALID_JOB, "/filters/include", "array", "'*" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'exclude':['a','b\\\\']}}", ERR_INVALID_JOB, "/filters/exclude/1", "pattern", "'b" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'exclude_dirs':['[']}}", ERR_INVALID_JOB, "/filters/exclude_dirs/0", "pattern", "'['" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'done_file':'a/b'}}", ERR_INVALID_JOB, "/filters/done_file", "done_file", "'a/b'" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'in_progress_suffixes':['/x']}}", ERR_INVALID_JOB, "/filters/in_progress_suffixes", "", "['/x']" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'min_size':2,'max_size':1}}", ERR_INVALID_JOB, "/filters/min_size", "larger", "2" },
	{ "{'job_id':'a'," DUMMY ",'filters':{'min_age':'2h','max_age':'1h'}}", ERR_INVALID_JOB, "/filters/min_age", "larger", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'modified_after':'2026-01-02T00:00:00Z','modified_before':'2026-01-01T00:00:00Z'}}", ERR_INVALID_JOB, "/filters/modified_after", "earlier", NULL },
	{ "{'job_id':'a'," DUMMY ",'filters':{'max_files':-1}}", ERR_INVALID_JOB, "/filters/max_files", "out of range", "-1" },
	/* values */
	{ "{'job_id':'a'," DUMMY ",'timeout':0}", ERR_INVALID_JOB, "/timeout", "out of range", "0" },
	{ "{'job_id':'a'," DUMMY ",'timeout':-5}", ERR_INVALID_JOB, "/timeout", "out of range", "-5" },
	{ "{'job_id':'a'," DUMMY ",'timeout':1.23456}", ERR_INVALID_JOB, "/timeout", "decimals", NULL },
	{ "{'job_id':'a'," DUMMY ",'timeout':9223372036854775807}", ERR_INVALID_JOB, "/timeout", "out of range", NULL },
	{ "{'job_id':'a'," DUMMY ",'timeout':1e300}", ERR_INVALID_JOB, "/timeout", "out of range", NULL },
	{ "{'job_id':'a'," DUMMY ",'timeout':'5 minutes'}", ERR_INVALID_JOB, "/timeout", "duration", NULL },
	{ "{'job_id':'a'," DUMMY ",'timeout':'25h'}", ERR_POLICY, "/timeout", "timeouts.job_max (1d)", "'25h'" },
	{ "{'job_id':'a'," DUMMY ",'deadline':86401}", ERR_POLICY, "/deadline", "timeouts.job_max", "86401" },
	{ "{'job_id':'a'," DUMMY ",'timeout':5,'deadline':6}", ERR_INVALID_JOB, "/deadline", "twice", "6" },
	{ "{'job_id':'a'," DUMMY ",'priority':'urgent'}", ERR_INVALID_JOB, "/priority", "high|normal|low", NULL },
	{ "{'job_id':'a'," DUMMY ",'priority':1}", ERR_INVALID_JOB, "/priority", "not a number", NULL },
	{ "{'job_id':'a'," DUMMY ",'publish':'now'}", ERR_INVALID_JOB, "/publish", "atomic|stream", NULL },
	{ "{'job_id':'a'," DUMMY ",'scheduled_at':'tomorrow'}", ERR_INVALID_JOB, "/scheduled_at", "RFC 3339", NULL },
	{ "{'job_id':'a'," DUMMY ",'created_at':1700000000}", ERR_INVALID_JOB, "/created_at", "not a number", NULL },
	{ "{'job_id':'a'," DUMMY ",'created_at':'2026-01-02T03:04:05'}", ERR_INVALID_JOB, "/created_at", "zone", NULL },
	{ "{'job_id':'a'," DUMMY ",'metadata':[]}", ERR_INVALID_JOB, "/metadata", "object", "[]" },
	{ "{'job_id':'a'," DUMMY ",'batch_size':1.5}", ERR_INVALID_JOB, "/batch_size", "whole", "1.5" },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','files':'+3'}}", ERR_INVALID_JOB, "/source_config/files", "integer", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','files':3,'count':4}}", ERR_INVALID_JOB, "/source_config/count", "twice", "4" },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','source_id':'a','name':'b'}}", ERR_INVALID_JOB, "/source_config/name", "twice", "'b'" },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','fanout':3,'dirs':'4'}}", ERR_INVALID_JOB, "/source_config/dirs", "twice", "'4'" },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','files':2,'name_template':'a.csv'}}", ERR_INVALID_JOB, "/source_config/name_template", "{index}", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','files':2,'name_template':'../{index}'}}", ERR_INVALID_JOB, "/source_config/name_template", "name", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','recursive':true,'min_depth':3,'max_depth':2}}", ERR_INVALID_JOB, "/source_config/min_depth", "larger", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','retry_delay':2,'retry_max_delay':1}}", ERR_INVALID_JOB, "/source_config/retry_delay", "larger", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','recursive':'yes'}}", ERR_INVALID_JOB, "/source_config/recursive", "true or false", NULL },
	{ "{'job_id':'a','source_config':{'source_type':'dummy','source_id':'\\u0001'}}", ERR_INVALID_JOB, "/source_config/source_id", "control", NULL },
	/* not JSON */
	{ "{'job_id':'a','job_id':'b'}", ERR_INVALID_JOB, "/job_id", "twice", NULL },
	{ "{'job_id':'a','metadata':{'x':[1,NaN]}}", ERR_INVALID_JOB, "/metadata/x/1", "NaN", "NaN" },
};

static void
check_refusal(const struct refusal *r)
{
	struct err e = ERR_INIT;
	char *p = quoted(r->job), *at = r->at ? quoted(r->at) : NULL;

	ck_assert_msg(!job_parse(p, strlen(p), &limits, NULL, NULL, NULL, &e), "taken: %s", p);
	ck_assert_msg(e.cls == r->cls, "%s: class %s: %s", p, err_name(e.cls), e.text);
	ck_assert_msg(!strcmp(e.pointer, r->pointer), "%s: pointer %s: %s", p, e.pointer, e.text);
	ck_assert_msg(strstr(e.text, r->text) != NULL, "%s: text %s", p, e.text);
	ck_assert_msg(e.pos >= 0 && e.pos < (long long)strlen(p), "%s: position %lld", p, e.pos);
	ck_assert_msg(!at || !strncmp(p + e.pos, at, strlen(at)), "%s: position %lld: %s", p, e.pos, p + e.pos);
	free(p);
	free(at);
}

START_TEST(refuses)
{
	check_refusal(&refusals[_i]);
}
END_TEST

START_TEST(refuses_faults)
{
	static const struct refusal rows[] = {
		{ "{'job_id':'a','source_config':{'source_type':'dummy','error':'nope'}}", ERR_INVALID_JOB, "/source_config/error", "error class", NULL },
		{ "{'job_id':'a','source_config':{'source_type':'dummy','error':'ok'}}", ERR_INVALID_JOB, "/source_config/error", "error class", NULL },
		{ "{'job_id':'a','source_config':{'source_type':'dummy','error':'master_crash'}}", ERR_INVALID_JOB, "/source_config/error", "error class", NULL },
		{ "{'job_id':'a','source_config':{'source_type':'dummy','error':'auth','crash':'segv'}}", ERR_INVALID_JOB, "/source_config/crash", "exclude", NULL },
		{ "{'job_id':'a','source_config':{'source_type':'dummy','crash':'boom'}}", ERR_INVALID_JOB, "/source_config/crash", "segv|", NULL },
	};
	struct job *j;

	limits.allow_faults = true;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check_refusal(&rows[i]);
	j = good("{'job_id':'a','source_config':{'source_type':'dummy','files':5,'crash':'hang','fail_after':2,'fault_attempts':1}}");
	ck_assert_uint_eq(j->warnings.n, 0);
	ck_assert_int_eq(j->sources[0].v[SF_DUMMY_FAIL_AFTER].i, 2);
	job_free(j);
}
END_TEST

/* Every field of every list, with each JSON type that it does not take. */

static const char *const samples[] = { "null", "true", "-3", "1.5", "'\\t?'", "[7]", "{'x':1}" };

static bool
takes(const struct field_row *r, size_t sample)
{
	switch (r->kind) {
	case KIND_ANY:
		return true;
	case KIND_BOOL:
		return sample == 1;
	case KIND_STR:
	case KIND_TEXT:
		return sample == 4;
	case KIND_STRS:
		return r->flags & FIELD_MAP ? false : sample == 4 && r->flags & FIELD_ONE;
	case KIND_OBJECT:
		return sample == 6;
	case KIND_DUR:
	case KIND_DBL:
		return sample == 3;
	default:
		return false;
	}
}

/* Which row's name, spelled how, in which object. */
static void
check_types(const struct field_row *r, const char *name, const char *before, const char *after)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		struct err e = ERR_INIT;
		char *text, *end;
		struct job *j;

		if (takes(r, i))
			continue;
		text = xasprintf("%s'%s':%s%s", before, name, samples[i], after);
		j = parse(text, &e);
		ck_assert_msg(!j, "taken: %s", text);
		ck_assert_msg(e.cls == ERR_INVALID_JOB || r->flags & FIELD_LATER, "%s: %s", text, e.text);
		end = strrchr(e.pointer, '/');
		/* [7] is refused at its member. */
		ck_assert_msg(end && (!strcmp(end + 1, name) || strstr(e.pointer, name)), "%s: %s", text, e.pointer);
		free(text);
	}
}

/* A served type that has the row; NULL: none yet. */
static const char *
type_with(const struct field_row *r)
{
	for (int t = 0; t < SOURCE__MAX; t++)
		if (!source_rows[t].later && field_applies(r, t))
			return source_rows[t].name;
	return NULL;
}

START_TEST(wrong_types)
{
	limits.allow_faults = true;
	for (size_t i = 0; i < JF__MAX; i++) {
		bool source = i == JF_SOURCE_CONFIG || i == JF_CONNECTION_LIST, id = i == JF_JOB_ID;
		const struct field_row *r = &job_rows[i];

		check_types(r, r->name, id ? "{" : "{'job_id':'a',", source ? "}" : "," DUMMY "}");
		if (*r->aliases)
			check_types(r, r->aliases, "{'job_id':'a',", "," DUMMY "}");
	}
	for (size_t i = 0; i < FF__MAX; i++) {
		const struct field_row *r = &filter_rows[i];
		const char *dot = strchr(r->name, '.');
		char *before = xasprintf("{'job_id':'a'," DUMMY ",'filters':{%s%.*s%s", dot ? "'" : "", dot ? (int)(dot - r->name) : 0, r->name, dot ? "':{" : "");

		check_types(r, dot ? dot + 1 : r->name, before, dot ? "}}}" : "}}");
		free(before);
	}
	for (size_t i = 0; i < SF__MAX; i++) {
		const struct field_row *r = &field_rows[i];
		const char *dot = strchr(r->name, '.'), *type = type_with(r);
		char *before, *words, *save = NULL;

		if (!type)
			continue;
		if (i == SF_COMMON_TYPE)
			before = xstrdup("{'job_id':'a','source_config':{");
		else
			before = xasprintf("{'job_id':'a','source_config':{'source_type':'%s',%s%s%.*s%s", type,
			    r->source == SOURCE_LOCAL ? "'path':'/srv/in'," : "", dot ? "'" : "",
			    dot ? (int)(dot - r->name) : 0, r->name, dot ? "':{" : "");
		check_types(r, dot ? dot + 1 : r->name, before, dot ? "}}}" : "}}");
		words = xstrdup(dot ? "" : r->aliases);
		for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
			check_types(r, w, before, "}}");
		free(words);
		free(before);
	}
}
END_TEST

/* The files of t/data/job, where fuzzing begins, too. */
static const struct { const char *file; enum err_class cls; const char *text; } corpus[] = {
	{ "dummy", ERR_OK, "" }, { "local", ERR_OK, "" }, { "s3", ERR_OK, "" }, { "ftps", ERR_OK, "" }, { "https", ERR_OK, "" }, { "sftp", ERR_OK, "" },
	{ "filters", ERR_OK, "" }, { "list", ERR_OK, "" }, { "faults", ERR_OK, "" }, { "escapes", ERR_OK, "" }, { "duplicate", ERR_INVALID_JOB, "twice" },
	{ "nan", ERR_INVALID_JOB, "NaN" }, { "comment", ERR_INVALID_JOB, "comments" }, { "quotes", ERR_INVALID_JOB, "double quotes" },
	{ "trailing", ERR_INVALID_JOB, "comma" }, { "cut", ERR_INVALID_JOB, "string" }, { "numbers", ERR_INVALID_JOB, "negative zero" },
	{ "depth", ERR_INVALID_JOB, "deeper than 32" }, { "conflict", ERR_INVALID_JOB, "twice" }, { "utf8", ERR_INVALID_JOB, "0xc0" },
	{ "controls", ERR_INVALID_JOB, "control byte 0x01" }, { "secret", ERR_INVALID_JOB, "" },
};

START_TEST(corpus_files)
{
	char path[128];
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct job *j;
	FILE *f;
	size_t n;

	limits.allow_faults = limits.allow_inline = true;
	snprintf(path, sizeof(path), "t/data/job/%s.json", corpus[_i].file);
	f = fopen(path, "re");
	ck_assert_msg(f != NULL, "%s: run from the top of the tree", path);
	while ((n = fread(buf_room(&b, 4096), 1, 4096, f)) > 0)
		b.len += n;
	fclose(f);
	j = job_parse(b.p, b.len, &limits, NULL, NULL, NULL, &e);
	ck_assert_msg(!j == (corpus[_i].cls != ERR_OK) && e.cls == corpus[_i].cls, "%s: %s: %s", path, err_name(e.cls), e.text);
	ck_assert_msg(strstr(e.text, corpus[_i].text) != NULL, "%s: %s", path, e.text);
	job_free(j);
	buf_release(&b);
}
END_TEST

/* ---- what is taken ---- */

START_TEST(readme_job)
{
	struct job *j = good("{ 'job_id': 'job_123', 'source_config': { 'source_type': 'dummy', 'path': './dummy_data' },"
	    " 'file_pattern': '*.csv', 'priority': 'normal', 'metadata': {} }");
	const struct source_conf *s = &j->sources[0];

	ck_assert_str_eq(j->job_id, "job_123");
	ck_assert_str_eq(j->org_id, "default");
	ck_assert_uint_eq(j->n_sources, 1);
	ck_assert_int_eq(s->type, SOURCE_DUMMY);
	ck_assert_str_eq(s->v[SF_COMMON_PATH].s, "/x/dummy_data");
	ck_assert_str_eq(s->canonical, "dummy:/x/dummy_data");
	ck_assert_str_eq(s->source_id, "dummy-f86f72a87c7d");
	ck_assert_uint_eq(j->filter.patterns.n, 1);
	ck_assert_str_eq(j->filter.patterns.v[0], "*.csv");
	ck_assert_int_eq(j->priority, PRIORITY_NORMAL);
	ck_assert_int_eq(j->publish, PUBLISH_ATOMIC);
	ck_assert_int_eq(j->timeout_ms, -1);
	ck_assert_int_eq(j->scheduled_at_ns, TIME_UNKNOWN);
	ck_assert_int_eq(j->created_at_ns, TIME_UNKNOWN);
	ck_assert_str_eq(j->metadata, "{}");
	ck_assert_uint_eq(j->metadata_n, 2);
	ck_assert_uint_eq(j->warnings.n, 0);
	ck_assert_str_eq(job_source_label(j), "dummy");
	ck_assert_int_eq(s->v[SF_COMMON_RECURSIVE].i, 0);
	ck_assert_int_eq(s->v[SF_COMMON_FOLLOW_SYMLINKS].i, 0);
	ck_assert(!s->v[SF_COMMON_RETRIES].set);
	ck_assert(!s->v[SF_DUMMY_FILES].set);
	ck_assert_int_eq(s->v[SF_DUMMY_SIZE].i, 1024);
	ck_assert_int_eq(s->v[SF_DUMMY_MTIME].i, INT64_C(1704067200000000000));
	ck_assert(!s->v[SF_LOCAL_ONE_FILE_SYSTEM].set);
	job_free(j);
}
END_TEST

START_TEST(whole_job)
{
	struct job *j = good("{'job_id':'j \xc3\xa9','org_id':'acme','connection_list':["
	    "{'type':'file','path':'//srv/./in/deep/x/','recursive':true,'max_depth':'3','min_depth':1.0,'follow_symlinks':'all',"
	    "'on_unreadable':'fail','retries':2,'retry_delay':'250ms','retry_backoff':1.5,'retry_max_delay':30,'one_file_system':'true','hash':'none'},"
	    "{'source_type':'dummy','name':'gen','files':'10','count':10,'size':'2KiB','seed':9007199254740991,'delay':1.5,'rate':5e2}],"
	    "'file_pattern':['*.csv','a/**/b'],'filters':{'include':['x*'],'exclude':['*.tmp'],'ignore_case':true,'min_size':1,'max_size':'1GiB',"
	    "'min_age':'5m','max_age':86400,'modified_after':'2026-01-01T00:00:00Z','modified_before':'2026-01-01T01:00:00.5+01:00',"
	    "'include_hidden':true,'exclude_dirs':['.git','old/'],'in_progress_suffixes':['.part'],'done_file':'{name}.done','max_files':100,"
	    "'types':'file'},"
	    "'priority':'low','timeout':'90s','deadline':90,'scheduled_at':'2026-05-01T00:00:00Z','created_at':'2026-04-30T00:00:00Z',"
	    "'publish':'stream','metadata':{'a/b':[1,1.10,1e5,null,true,'\xc3\xa9']},'api_keys':['k'],'batch_size':100}");
	const struct field_value *a = j->sources[0].v, *b = j->sources[1].v;
	const struct filter_spec *f = &j->filter;

	ck_assert_str_eq(j->job_id, "j \xc3\xa9");
	ck_assert_str_eq(j->org_id, "acme");
	ck_assert_str_eq(job_source_label(j), "mixed");
	ck_assert_uint_eq(j->warnings.n, 0);
	ck_assert_str_eq(a[SF_COMMON_PATH].s, "/srv/in/deep/x");
	ck_assert_str_eq(j->sources[0].canonical, "local:/srv/in/deep/x");
	ck_assert_int_eq(a[SF_COMMON_RECURSIVE].i, 1);
	ck_assert_int_eq(a[SF_COMMON_MAX_DEPTH].i, 3);
	ck_assert_int_eq(a[SF_COMMON_MIN_DEPTH].i, 1);
	ck_assert_int_eq(a[SF_COMMON_FOLLOW_SYMLINKS].i, 2);
	ck_assert_int_eq(a[SF_COMMON_ON_UNREADABLE].i, 1);
	ck_assert_int_eq(a[SF_COMMON_RETRIES].i, 2);
	ck_assert_int_eq(a[SF_COMMON_RETRY_DELAY].i, 250);
	ck_assert_int_eq(a[SF_COMMON_RETRY_BACKOFF].i, 1500);
	ck_assert_int_eq(a[SF_COMMON_RETRY_MAX_DELAY].i, 30000);
	ck_assert_int_eq(a[SF_LOCAL_ONE_FILE_SYSTEM].i, 1);
	ck_assert_str_eq(j->sources[1].source_id, "gen");
	ck_assert_str_eq(j->sources[1].canonical, "dummy:generator");
	ck_assert_int_eq(b[SF_DUMMY_FILES].i, 10);
	ck_assert_int_eq(b[SF_DUMMY_SIZE].i, 2048);
	ck_assert_int_eq(b[SF_DUMMY_SEED].i, INT64_C(9007199254740991));
	ck_assert_int_eq(b[SF_DUMMY_DELAY].i, 1500);
	ck_assert_int_eq(b[SF_DUMMY_RATE].i, 500);
	ck_assert_uint_eq(f->patterns.n, 2);
	ck_assert_str_eq(f->patterns.v[1], "a/**/b");
	ck_assert_str_eq(f->include.v[0], "x*");
	ck_assert_str_eq(f->exclude.v[0], "*.tmp");
	ck_assert_uint_eq(f->exclude_dirs.n, 2);
	ck_assert_str_eq(f->in_progress_suffixes.v[0], ".part");
	ck_assert_str_eq(f->done_file, "{name}.done");
	ck_assert_uint_eq(f->types, FILE_BIT(FILE_PLAIN));
	ck_assert(f->ignore_case && f->include_hidden);
	ck_assert_int_eq(f->min_size, 1);
	ck_assert_int_eq(f->max_size, 1 << 30);
	ck_assert_int_eq(f->min_age_ms, 300000);
	ck_assert_int_eq(f->max_age_ms, 86400000);
	ck_assert_int_eq(f->modified_after_ns, INT64_C(1767225600000000000));
	ck_assert_int_eq(f->modified_before_ns, INT64_C(1767225600500000000));
	ck_assert_int_eq(f->max_files, 100);
	ck_assert_int_eq(j->priority, PRIORITY_LOW);
	ck_assert_int_eq(j->publish, PUBLISH_STREAM);
	ck_assert_int_eq(j->timeout_ms, 90000);
	ck_assert_int_eq(j->scheduled_at_ns, INT64_C(1777593600000000000));
	ck_assert_int_eq(j->created_at_ns, INT64_C(1777507200000000000));
	ck_assert_str_eq(j->metadata, "{\"a/b\":[1,1.10,1e5,null,true,\"\xc3\xa9\"]}");
	ck_assert_uint_eq(j->metadata_n, strlen(j->metadata));
	job_free(j);
}
END_TEST

START_TEST(types_that_a_source_tells)
{
	static const struct { const char *text; unsigned types; const char *marker; } rows[] = {
		{ "{'job_id':'a'," DUMMY ",'filters':{'types':['dir','symlink','dir'],'exclude_if_present':'.nobackup'}}", 6, ".nobackup" },
		{ "{'job_id':'a'," OF_S3 ",'prefix':'in/'},'filters':{'types':['dir'],'exclude_if_present':'x'}}", 2, "x" },
		{ "{'job_id':'a'," OF_S3 ",'path':'in'},'filters':{'types':['file','dir']}}", 3, NULL },
		{ "{'job_id':'a'," OF_S3 ",'prefix':'in/a','start_after':'k'},'filters':{'types':'file'}}", 1, NULL },
		{ "{'job_id':'a'," OF_HTTP "},'filters':{'types':['dir','file']}}", 3, NULL },
		{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/in'},'filters':{'types':['file','dir','symlink']}}", 7, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct job *j = good(rows[i].text);

		ck_assert_msg(j->filter.types == rows[i].types, "%s: %u", rows[i].text, j->filter.types);
		ck_assert_pstr_eq(j->filter.exclude_if_present, rows[i].marker);
		job_free(j);
	}
}
END_TEST

START_TEST(stability)
{
	static const struct { const char *filters; int64_t checks, interval; } rows[] = {
		{ "{}", 0, 0 }, { "{'stability':{}}", 1, 10000 }, { "{'stability':{'checks':'2'}}", 2, 10000 }, { "{'stability':{'interval':1.5}}", 1, 1500 },
		{ "{'stability':{'checks':29,'interval':'1s'}}", 29, 1000 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("{'job_id':'a','timeout':'30s'," DUMMY ",'filters':%s}", rows[i].filters);
		struct job *j = good(text);

		ck_assert_int_eq(j->filter.stable_checks, rows[i].checks);
		ck_assert_int_eq(j->filter.stable_interval_ms, rows[i].interval);
		job_free(j);
		free(text);
	}
}
END_TEST

START_TEST(filter_defaults)
{
	struct job *j = good("{'job_id':'a'," DUMMY "}");
	const struct filter_spec *f = &j->filter;

	ck_assert_uint_eq(f->patterns.n, 1);
	ck_assert_str_eq(f->patterns.v[0], "*");
	ck_assert_int_eq(f->min_size, -1);
	ck_assert_int_eq(f->max_age_ms, -1);
	ck_assert_int_eq(f->modified_after_ns, TIME_UNKNOWN);
	ck_assert_int_eq(f->max_files, 0);
	ck_assert(!f->include_hidden && !f->ignore_case && !f->done_file && !f->exclude_if_present);
	ck_assert_uint_eq(f->types, FILE_BIT(FILE_PLAIN));
	ck_assert_str_eq(j->sources[0].v[SF_COMMON_PATH].s, "/x/dummy_data");
	job_free(j);
}
END_TEST

START_TEST(paths)
{
	static const struct { const char *path, *base, *want; } rows[] = {
		{ "/", NULL, "/" }, { "//", NULL, "/" }, { "/a//b/./c/", NULL, "/a/b/c" }, { "a", "/x", "/x/a" }, { "./a/.", "/", "/a" },
		{ ".", "/x/y/", "/x/y" }, { "/a", "/x", "/a" }, { "/..a/b..", NULL, "/..a/b.." }, { "...", "/", "/..." }, { "a", "", "/a" },
		{ "a", NULL, NULL }, { "/a/..", NULL, NULL }, { "..", "/x", NULL }, { "/a/../b", NULL, NULL }, { "a", "/x/..", NULL },
	};
	static const struct { const char *path, *root, *rest; } under[] = {
		{ "/srv/in", "/srv/in", "." }, { "/srv/in/a/b", "/srv/in", "a/b" }, { "/srv/in/deep/x", "/srv/in/deep", "x" },
		{ "/srv/in/deeper", "/srv/in", "deeper" }, { "/data", "/data/", "." }, { "/data/x", "/data/", "x" },
		{ "/srv", NULL, NULL }, { "/srv/inn", NULL, NULL }, { "/", NULL, NULL },
	};
	char *slash = xstrdup("/");
	struct strlist top = { &slash, 1 };
	const char *rest;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		char *got = path_normalise(rows[i].path, rows[i].base, &e);

		ck_assert_msg(rows[i].want ? got && !strcmp(got, rows[i].want) : !got, "%s: %s", rows[i].path, got);
		ck_assert_int_eq(e.cls, rows[i].want ? ERR_OK : ERR_INVALID_JOB);
		free(got);
	}
	for (size_t i = 0; i < ARRAY_LEN(under); i++) {
		const char *root;

		rest = NULL;
		root = path_under(&local_roots, under[i].path, &rest);
		ck_assert_pstr_eq(root, under[i].root);
		ck_assert_pstr_eq(rest, under[i].rest);
	}
	ck_assert_str_eq(path_under(&top, "/a/b", &rest), "/");
	ck_assert_str_eq(rest, "a/b");
	ck_assert_str_eq(path_under(&top, "/", &rest), "/");
	ck_assert_str_eq(rest, ".");
	ck_assert_ptr_null(path_under(NULL, "/a", &rest));
	free(slash);
}
END_TEST

/* ---- unknown fields, warnings, limits ---- */

START_TEST(unknown_fields)
{
	struct job *j = good("{'job_id':'a','colour':1,'max_depth':2,'source_config':{'source_type':'dummy','pass~word/':'x','hash':'md5','priority':'low'},"
	    "'filters':{'depth':3}}");
	static const struct refusal no = { "{'job_id':'a','colour':1," DUMMY "}", ERR_INVALID_JOB, "/colour", "jobs.unknown_fields", "1" };
	static const struct refusal below = { "{'job_id':'a','source_config':{'source_type':'dummy','bucket':'b'}}", ERR_INVALID_JOB, "/source_config/bucket", "unknown", "'b'" };
	static const char *const want[] = {
		"unknown field /colour", "unknown field /max_depth; it belongs into source_config",
		"unknown field /filters/depth; it belongs into source_config",
		"unknown field /source_config/pass~0word~1", "unknown field /source_config/hash; it belongs to another source type",
		"unknown field /source_config/priority; it belongs to the job itself",
	};

	ck_assert_uint_eq(j->warnings.n, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		ck_assert_str_eq(j->warnings.v[i], want[i]);
	job_free(j);
	limits.reject_unknown = true;
	check_refusal(&no);
	check_refusal(&below);
	job_free(good("{'job_id':'a'," DUMMY ",'metadata':{'colour':1}}"));
}
END_TEST

START_TEST(idle_fields)
{
	struct job *j = good("{'job_id':'a','connection_list':[{'source_type':'dummy','size':3,'max_depth':1},{'source_type':'dummy'}]}");

	ck_assert_uint_eq(j->warnings.n, 3);
	ck_assert_str_eq(j->warnings.v[0], "/connection_list/0/max_depth has no effect without recursive");
	ck_assert_str_eq(j->warnings.v[1], "/connection_list/0/size has no effect without files");
	ck_assert_str_eq(j->warnings.v[2], "/connection_list/1 has the same source_id as /connection_list/0");
	job_free(j);
}
END_TEST

START_TEST(many_warnings)
{
	struct buf b = BUF_INIT;
	struct job *j;

	buf_puts(&b, "{'job_id':'a'," DUMMY);
	for (int i = 0; i < 100; i++)
		buf_printf(&b, ",'unknown%d':0", i);
	buf_putc(&b, '}');
	j = good(buf_str(&b));
	ck_assert_uint_eq(j->warnings.n, JOB_WARNINGS_MAX);
	ck_assert_str_eq(j->warnings.v[JOB_WARNINGS_MAX - 1], "69 more warnings are not listed");
	job_free(j);
	buf_release(&b);
}
END_TEST

static void
fill(struct buf *b, const char *before, size_t n, const char *after)
{
	buf_clear(b);
	buf_puts(b, before);
	while (n--)
		buf_putc(b, 'x');
	buf_puts(b, after);
}

START_TEST(sizes)
{
	static const struct { const char *before, *after; size_t most; enum err_class cls; const char *pointer, *text; } rows[] = {
		{ "{'job_id':'", "'," DUMMY "}", 255, ERR_INVALID_JOB, "/job_id", "255" },
		{ "{'job_id':'a','org_id':'", "'," DUMMY "}", 128, ERR_INVALID_JOB, "/org_id", "128" },
		{ "{'job_id':'a'," DUMMY ",'metadata':{'a':'", "'}}", 256 - 8, ERR_INVALID_JOB, "/metadata", "jobs.metadata_max" },
		{ "{'job_id':'a','source_config':{'source_type':'dummy','x':'", "'}}", 49152 - 30, ERR_INVALID_JOB, "/source_config", "jobs.source_max" },
		{ "{'job_id':'a','source_config':{'source_type':'local','path':'/srv/in/", "'}}", 4096 - 8, ERR_INVALID_JOB, "/source_config/path", "4096" },
		{ "{'job_id':'a'," DUMMY ",'file_pattern':'", "'}", 4096, ERR_INVALID_JOB, "/file_pattern", "4096" },
		{ "{'job_id':'a'," DUMMY ",'unknown':'", "'}", (1 << 20) - 70, ERR_INVALID_JOB, "", "jobs.message_max" },
	};
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		struct job *j;
		size_t most = rows[i].most;

		if (!*rows[i].pointer)
			most = limits.message_max - strlen(rows[i].before) - strlen(rows[i].after);
		fill(&b, rows[i].before, most, rows[i].after);
		j = parse(buf_str(&b), &e);
		ck_assert_msg(j != NULL, "%zu: %s", i, e.text);
		job_free(j);
		fill(&b, rows[i].before, most + 1, rows[i].after);
		ck_assert_ptr_null(parse(buf_str(&b), &e));
		ck_assert_int_eq(e.cls, rows[i].cls);
		ck_assert_str_eq(e.pointer, rows[i].pointer);
		ck_assert_msg(strstr(e.text, rows[i].text) != NULL, "%s", e.text);
	}
	buf_release(&b);
}
END_TEST

START_TEST(lists_are_bounded)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct job *j;

	for (int n = FILTER_LIST_MAX; n <= FILTER_LIST_MAX + 1; n++) {
		buf_clear(&b);
		buf_puts(&b, "{'job_id':'a'," DUMMY ",'file_pattern':['x'");
		for (int i = 1; i < n; i++)
			buf_puts(&b, ",'y'");
		buf_puts(&b, "]}");
		j = parse(buf_str(&b), &e);
		ck_assert(n > FILTER_LIST_MAX ? !j : j != NULL);
		job_free(j);
	}
	ck_assert_str_eq(e.pointer, "/file_pattern");
	/* All together must fit the frame. */
	buf_clear(&b);
	buf_puts(&b, "{'job_id':'a'," DUMMY ",'file_pattern':['x'");
	for (int i = 0; i < 20; i++)
		buf_printf(&b, ",'%04000d'", i);
	buf_puts(&b, "]}");
	ck_assert_ptr_null(parse(buf_str(&b), &e));
	ck_assert_ptr_nonnull(strstr(e.text, "56000"));
	for (int n = JOB_SOURCES_MAX; n <= JOB_SOURCES_MAX + 1; n++) {
		buf_clear(&b);
		buf_puts(&b, "{'job_id':'a','connection_list':[{'type':'dummy','name':'0'}");
		for (int i = 1; i < n; i++)
			buf_printf(&b, ",{'type':'dummy','name':'%d'}", i);
		buf_puts(&b, "]}");
		j = parse(buf_str(&b), &e);
		ck_assert(n > JOB_SOURCES_MAX ? !j : j && j->n_sources == JOB_SOURCES_MAX);
		job_free(j);
	}
	buf_release(&b);
}
END_TEST

/* ---- what is handed out on failure, masks ---- */

START_TEST(hands_out)
{
	static const struct { const char *job, *id, *org, *masked; } rows[] = {
		{ "{'job_id':'a','org_id':'o','priority':3}", "a", "o", "{'job_id':'a','org_id':'o','priority':3}" },
		{ "{'job_id':'a'}", "a", NULL, "{'job_id':'a'}" }, { "{'job_id':5,'org_id':'o'}", NULL, "o", "{'job_id':5,'org_id':'o'}" },
		{ "{'job_id':'\\u0007','org_id':''}", NULL, NULL, "{'job_id':'\\u0007','org_id':''}" },
		{ "[{'password':'x'}]", NULL, NULL, NULL }, { "'secret'", NULL, NULL, NULL }, { "7", NULL, NULL, NULL },
		{ "null", NULL, NULL, NULL }, { "{'job_id':'a'", NULL, NULL, NULL }, { "", NULL, NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		char *p = quoted(rows[i].job), *want = rows[i].masked ? quoted(rows[i].masked) : NULL;
		char *id = p, *org = p, *masked = p;

		ck_assert_ptr_null(job_parse(p, strlen(p), &limits, &id, &org, &masked, &e));
		ck_assert_pstr_eq(id, rows[i].id);
		ck_assert_pstr_eq(org, rows[i].org);
		ck_assert_pstr_eq(masked, want);
		free(id);
		free(org);
		free(masked);
		free(want);
		free(p);
	}
}
END_TEST

/* Of a message that is a job; the caller frees it. */
static char *
masked_of(const char *quoted_with_ticks)
{
	char *p = quoted(quoted_with_ticks);
	struct buf text = BUF_INIT;
	struct err e = ERR_INIT;

	job_free(good(quoted_with_ticks));
	ck_assert_int_eq(job_mask_message(p, strlen(p), &text, &e), 0);
	free(p);
	return buf_take(&text);
}

START_TEST(masks)
{
	static const struct { const char *member, *want; } rows[] = {
		{ "'password':'x'", "'password':'***'" }, { "'Secret_Access_Key':{'a':1}", "'Secret_Access_Key':'***'" },
		{ "'secretAccessKey':7", "'secretAccessKey':'***'" }, { "'db-password':null", "'db-password':'***'" },
		{ "'x':{'y':[{'TOKEN':'t'},{'pass':'p'}]}", "'x':{'y':[{'TOKEN':'***'},{'pass':'***'}]}" },
		{ "'authorization':'Basic x','private_key':'k','passphrase':'p'", "'authorization':'***','private_key':'***','passphrase':'***'" },
		{ "'session_token':'s','secret_key':'s','headers':{'Authorization':'a','Accept':'b'}", "'session_token':'***','secret_key':'***','headers':'***'" },
		{ "'credentials_ref_':'name','passed':1,'monkey':2", "'credentials_ref_':'name','passed':1,'monkey':2" },
		{ "'u':'ftp://me:pw@host/a'", "'u':'ftp://***@host/a'" }, { "'u':'https://me@host/a@b'", "'u':'https://***@host/a@b'" },
		{ "'u':'see http://a:p/w#@host/x and http://b/c'", "'u':'see http://***@host/x and http://b/c'" },
		{ "'u':'http://h/p?a=1&X-Amz-Signature=abc&b=2#f'", "'u':'http://h/p?a=1&X-Amz-Signature=***&b=2#f'" },
		{ "'u':'http://h/p?sig=abc'", "'u':'http://h/p?sig=***'" }, { "'u':'http://host:80/a'", "'u':'http://host:80/a'" },
		{ "'u':'a@b?token=c'", "'u':'a@b?token=c'" }, { "'n':1.50,'e':1e5,'t':true,'z':null,'s':'\\u009b\\u2028/'", "'n':1.50,'e':1e5,'t':true,'z':null,'s':'\\u009b\\u2028/'" },
		{ "'metadata':{'password':'kept','u':'ftp://a:b@c'}", "'metadata':{'password':'kept','u':'ftp://a:b@c'}" },
		{ "'x':{'metadata':{'password':'p'}}", "'x':{'metadata':{'password':'***'}}" },
	};
	char *got = masked_of("{'job_id':'a','api_keys':{'k':'v'}," DUMMY "}"), *want = quoted("{'job_id':'a'," DUMMY "}");

	ck_assert_str_eq(got, want);
	free(got);
	free(want);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("{'job_id':'a'," DUMMY ",%s}", rows[i].member);

		want = xasprintf("{'job_id':'a'," DUMMY ",%s}", rows[i].want);
		got = masked_of(text);
		free(text);
		text = quoted(want);
		ck_assert_str_eq(got, text);
		free(text);
		free(want);
		free(got);
	}
}
END_TEST

START_TEST(masked_is_json)
{
	char *got = masked_of("{'job_id':'a \\ud83d\\ude00\\\\\\/',"
	    "'source_config':{'source_type':'local','path':'/srv/in/\\t\\u0001\\u007f','u':'://://:@://'}}");
	struct err e = ERR_INIT;

	ck_assert_msg(!json_check(got, strlen(got), JSON_DEPTH_MAX, &e), "%s: %s", got, e.text);
	free(got);
}
END_TEST

/* ---- frames ---- */

static struct job *
rich_job(void)
{
	limits.allow_faults = true;
	return good("{'job_id':'a','source_config':{'source_type':'dummy','files':5,'recursive':true,'depth':2,'name_template':'f{index}',"
	    "'delay':'3s','mtime':'2025-01-01T00:00:00Z','retries':9,'source_id':'mine','crash':'hang'}}");
}

START_TEST(frames_round_trip)
{
	struct job *j = rich_job();
	struct source_conf s;
	struct buf b = BUF_INIT, again = BUF_INIT;
	struct cursor c;

	source_conf_encode(&j->sources[0], &b);
	cursor_init(&c, b.p, b.len);
	ck_assert_int_eq(source_conf_decode(&s, &c), 0);
	ck_assert(cursor_end(&c));
	ck_assert_int_eq(s.type, SOURCE_DUMMY);
	ck_assert_ptr_null(s.source_id);
	ck_assert_ptr_null(s.canonical);
	for (int i = 0; i < SF__MAX; i++) {
		const struct field_value *v = &j->sources[0].v[i];

		if (field_rows[i].flags & FIELD_MASTER) {
			ck_assert(!s.v[i].set);
			continue;
		}
		ck_assert_int_eq(s.v[i].set, v->set);
		ck_assert(!v->set || field_value_same(field_rows[i].kind, &s.v[i], v));
	}
	source_conf_encode(&s, &again);
	ck_assert_uint_eq(b.len, again.len);
	ck_assert_int_eq(memcmp(b.p, again.p, b.len), 0);
	for (size_t n = 0; n < b.len; n++) {
		struct source_conf cut;

		cursor_init(&c, b.p, n);
		ck_assert_int_eq(source_conf_decode(&cut, &c), -1);
	}
	source_conf_release(&s);
	job_free(j);
	buf_release(&b);
	buf_release(&again);
}
END_TEST

static void
put_field(struct buf *b, enum source_type type, int id, int64_t i, const char *s)
{
	buf_clear(b);
	buf_u8(b, (uint8_t)type);
	buf_u16(b, 1);
	buf_u16(b, (uint16_t)id);
	if (s)
		buf_cstr(b, s);
	else
		buf_i64(b, i);
}

/* How many words an enumeration has; they are numbered from 0. */
static int64_t
words_of(const struct field_row *r)
{
	int64_t n = 1;

	for (const char *p = r->range; *p; p++)
		n += *p == '|';
	return n;
}

START_TEST(frames_are_checked)
{
	const int64_t words = words_of(&field_rows[SF_DUMMY_CRASH]);
	const struct { enum source_type type; int id; int64_t i; const char *s; int rc; } rows[] = {
		{ SOURCE_DUMMY, SF_DUMMY_DEPTH, 3, NULL, 0 }, { SOURCE_DUMMY, SF_COMMON_PATH, 0, "/a", 0 },
		{ SOURCE_DUMMY, SF_DUMMY_DEPTH, 101, NULL, -1 }, { SOURCE_DUMMY, SF_DUMMY_DEPTH, -1, NULL, -1 },
		{ SOURCE_LOCAL, SF_DUMMY_DEPTH, 3, NULL, -1 }, { SOURCE_DUMMY, SF_COMMON_SOURCE_ID, 0, "x", -1 },
		{ SOURCE_DUMMY, SF_COMMON_RECURSIVE, 2, NULL, -1 }, { SOURCE_DUMMY, SF_DUMMY_CRASH, words, NULL, -1 },
		{ SOURCE_DUMMY, SF_DUMMY_CRASH, words - 1, NULL, 0 }, { SOURCE_DUMMY, SF_COMMON_PATH, 0, "", -1 },
		{ SOURCE_DUMMY, SF_COMMON_PATH, 0, "/a\n", -1 }, { SOURCE_DUMMY, SF__MAX, 0, NULL, -1 },
		{ SOURCE_S3, SF_COMMON_PATH, 0, "/a", 0 }, { SOURCE__MAX, SF_COMMON_PATH, 0, "/a", -1 },
		{ SOURCE_DUMMY, SF_DUMMY_MTIME, -1, NULL, -1 },
	};
	struct buf b = BUF_INIT;
	struct source_conf s;
	struct cursor c;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		put_field(&b, rows[i].type, rows[i].id, rows[i].i, rows[i].s);
		cursor_init(&c, b.p, b.len);
		ck_assert_msg(source_conf_decode(&s, &c) == rows[i].rc, "row %zu", i);
		if (!rows[i].rc)
			source_conf_release(&s);
	}
	/* the same field twice */
	put_field(&b, SOURCE_DUMMY, SF_DUMMY_DEPTH, 3, NULL);
	b.p[1] = 2;
	buf_u16(&b, SF_DUMMY_DEPTH);
	buf_i64(&b, 4);
	cursor_init(&c, b.p, b.len);
	ck_assert_int_eq(source_conf_decode(&s, &c), -1);
	buf_release(&b);
}
END_TEST

static uint64_t
next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

START_TEST(survives_random_bytes)
{
	struct job *j = rich_job();
	struct buf b = BUF_INIT;
	uint64_t x = 88172645463325252u;
	size_t taken = 0;

	source_conf_encode(&j->sources[0], &b);
	for (int round = 0; round < 200000; round++) {
		char copy[1024];
		struct source_conf s;
		struct cursor c;

		ck_assert_uint_le(b.len, sizeof(copy));
		memcpy(copy, b.p, b.len);
		for (uint64_t k = next_random(&x) % 4 + 1; k; k--)
			copy[next_random(&x) % b.len] = (char)next_random(&x);
		cursor_init(&c, copy, next_random(&x) % (b.len + 1));
		if (round % 2)
			cursor_init(&c, copy, b.len);
		if (!source_conf_decode(&s, &c)) {
			for (int i = 0; i < SF__MAX; i++)
				ck_assert(!s.v[i].set || field_value_ok(&field_rows[i], &s.v[i]));
			source_conf_release(&s);
			taken++;
		}
	}
	ck_assert_uint_gt(taken, 0);
	job_free(j);
	buf_release(&b);
}
END_TEST

/* Any bytes: a job, or a refusal that says something. */
START_TEST(survives_broken_jobs)
{
	uint64_t x = 1181783497276652981u;

	for (int round = 0; round < 100000; round++) {
		char *p = quoted(refusals[(size_t)round % ARRAY_LEN(refusals)].job);
		size_t n = strlen(p);
		struct err e = ERR_INIT;
		struct job *j;

		if (n)
			p[next_random(&x) % n] = (char)next_random(&x);
		j = job_parse(p, n, &limits, NULL, NULL, NULL, &e);
		ck_assert(j ? e.cls == ERR_OK : e.cls != ERR_OK && *e.text && e.pos >= 0);
		job_free(j);
		free(p);
	}
}
END_TEST

/* ---- lists, schema, speed ---- */

START_TEST(rows_are_sound)
{
	const struct { const struct field_row *rows; size_t n; } lists[] = {
		{ job_rows, JF__MAX }, { filter_rows, FF__MAX }, { field_rows, SF__MAX },
	};

	for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
		for (size_t i = 0; i < lists[l].n; i++) {
			const struct field_row *r = &lists[l].rows[i];
			struct field_value v = { 0 };
			int64_t min, max;

			/* Aborts where the row's own text is wrong. */
			field_range(r, &min, &max);
			ck_assert_int_le(min, max);
			field_default(r, &v);
			field_value_release(&v);
			ck_assert_int_eq(field_find(lists[l].rows, lists[l].n, r->source, r->name), (int)i);
			ck_assert(*r->help && strlen(r->help) > 8);
		}
	}
	for (int i = 0; i < SOURCE__MAX; i++)
		ck_assert_int_eq(source_by_name(source_rows[i].name), i);
	ck_assert_int_eq(source_by_name("minio"), SOURCE_S3);
	ck_assert_int_eq(source_by_name("webdav"), SOURCE_HTTP);
	ck_assert_int_eq(source_by_name(""), -1);
	ck_assert_int_eq(source_by_name("https webdav"), -1);
}
END_TEST

START_TEST(schema_knows_every_field)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	FILE *f = fopen("conf/schemas/job.schema.json", "re");
	char pointer[ERR_POINTER_MAX];
	size_t n;

	ck_assert_msg(f != NULL, "run from the top of the tree");
	while ((n = fread(buf_room(&b, 4096), 1, 4096, f)) > 0)
		b.len += n;
	fclose(f);
	ck_assert_msg(!json_check(b.p, b.len, JSON_DEPTH_MAX, &e), "%lld: %s", e.pos, e.text);
	for (size_t i = 0; i < JF__MAX; i++) {
		snprintf(pointer, sizeof(pointer), "/properties/%s", job_rows[i].name);
		ck_assert_msg(json_locate(b.p, b.len, pointer) >= 0, "%s", pointer);
	}
	for (size_t i = 0; i < FF__MAX; i++) {
		const char *name = filter_rows[i].name, *dot = strchr(name, '.');

		if (dot)
			snprintf(pointer, sizeof(pointer), "/$defs/filters/properties/%.*s/properties/%s", (int)(dot - name), name, dot + 1);
		else
			snprintf(pointer, sizeof(pointer), "/$defs/filters/properties/%s", name);
		ck_assert_msg((json_locate(b.p, b.len, pointer) >= 0) == !(filter_rows[i].flags & FIELD_LATER), "%s", pointer);
	}
	for (size_t i = 0; i < SF__MAX; i++) {
		const struct field_row *r = &field_rows[i];

		const char *dot = strchr(r->name, '.');
		const char *type = r->source == SOURCE_COMMON ? "common" : r->source == SOURCE_NETWORK ? "network" :
		    source_rows[r->source].name;

		if (dot)
			snprintf(pointer, sizeof(pointer), "/$defs/%s/properties/%.*s/properties/%s", type,
			    (int)(dot - r->name), r->name, dot + 1);
		else
			snprintf(pointer, sizeof(pointer), "/$defs/%s/properties/%s", type, r->name);
		if (!(r->flags & FIELD_LATER))
			ck_assert_msg(json_locate(b.p, b.len, pointer) >= 0, "%s", pointer);
	}
	buf_release(&b);
}
END_TEST

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* make check-valgrind stretches Check's deadlines so; it is that much slower. */
static double
patience(void)
{
	return getenv("CK_DEFAULT_TIMEOUT") ? 10 : 1;
}

START_TEST(speed)
{
	char *p = quoted("{'job_id':'job_00012345','org_id':'acme','source_config':{'source_type':'local','path':'/srv/in/orders',"
	    "'recursive':true,'max_depth':4},'file_pattern':['*.csv','*.json'],'filters':{'min_size':1,'exclude':['*.tmp']},"
	    "'priority':'normal','timeout':'5m','metadata':{'customer':'4711','flow':'orders','note':'abc'}}");
	double start = seconds(), took;
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	int rounds = 2000;

	for (int i = 0; i < rounds; i++)
		job_free(job_parse(p, strlen(p), &limits, NULL, NULL, NULL, &e));
	took = (seconds() - start) / rounds;
	fprintf(stderr, "# job of %zu bytes: %.1f us\n", strlen(p), took * 1e6);
	ck_assert_double_lt(took, 0.01 * patience());
	buf_puts(&b, "{\"job_id\":\"a\",\"source_config\":{\"source_type\":\"dummy\"}");
	for (int i = 0; i < 100000; i++)
		buf_printf(&b, ",\"%d\":0", i);
	buf_putc(&b, '}');
	ck_assert_uint_gt(b.len, 900000);
	limits.message_max = 16 << 20;
	start = seconds();
	job_free(job_parse(b.p, b.len, &limits, NULL, NULL, NULL, &e));
	took = seconds() - start;
	fprintf(stderr, "# job of %zu bytes with 100,002 keys: %.3f s\n", b.len, took);
	ck_assert_double_lt(took, 10 * patience());
	/* a text made to look like many URLs */
	buf_clear(&b);
	buf_puts(&b, "{\"job_id\":\"a\",\"u\":\"");
	while (b.len < 1 << 20)
		buf_puts(&b, "://a:b");
	buf_puts(&b, "\"}");
	start = seconds();
	ck_assert_ptr_null(job_parse(b.p, b.len, &limits, NULL, NULL, NULL, &e));
	ck_assert_double_lt(seconds() - start, 10 * patience());
	buf_release(&b);
	free(p);
}
END_TEST

/* ---- whose files are the same: the identity that event_id is made from ---- */

static const struct { const char *a, *b; bool same; } identities[] = {
#define FTP "'source_type':'ftp','host':'a','path':'/x'"
#define SFTP "'source_type':'sftp','host':'a','path':'/x','host_key_fingerprint':'SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'"
#define HTTP "'source_type':'http','url':'http://a/x/'"
	{ FTP, FTP ",'username':'anonymous'", true },
	{ FTP ",'username':'u','password':'1'", FTP ",'username':'u','password':'2'", true },
	{ FTP ",'username':'u'", FTP ",'username':'v'", false },
	/* the name is in the set: the default is nobody's */
	{ FTP ",'credentials_ref':'u'", FTP ",'credentials_ref':'v'", false },
	{ FTP ",'credentials_ref':'u'", FTP, false },
	{ FTP ",'username':'u','credentials_ref':'old'", FTP ",'username':'u','credentials_ref':'new'", true },
	{ SFTP ",'credentials_ref':'u'", SFTP ",'credentials_ref':'v'", false },
	{ HTTP ",'auth':{'username':'u','password':'1'}", HTTP ",'auth':{'username':'u','password':'2'}", true },
	{ HTTP ",'auth':{'username':'u','password':'1'}", HTTP ",'auth':{'username':'v','password':'1'}", false },
	{ HTTP ",'credentials_ref':'u'", HTTP ",'credentials_ref':'v'", false },
	{ HTTP, HTTP, true },
};

START_TEST(identity)
{
	const char *texts[2] = { identities[_i].a, identities[_i].b };
	struct job *j[2];

	limits.allow_inline = true;
	for (int i = 0; i < 2; i++) {
		char *text = xasprintf("{'job_id':'j','file_pattern':['*'],'source_config':{%s}}", texts[i]);

		j[i] = good(text);
		free(text);
	}
	ck_assert_msg(identities[_i].same == !strcmp(j[0]->sources[0].identity, j[1]->sources[0].identity), "%s | %s",
	    j[0]->sources[0].identity, j[1]->sources[0].identity);
	job_free(j[0]);
	job_free(j[1]);
}
END_TEST

static const struct { const char *field, *pointer; } ways[] = {
	{ "'proxy':{'url':'http://p','no_proxy':['a.example','10.0.0.0/8','*.b','::1']}", NULL }, { "'proxy':{'url':'http://p','no_proxy':'*'}", NULL },
	{ "'proxy':{'no_proxy':'10.0.0.0/8:80'}", "proxy/no_proxy" }, { "'proxy':{'no_proxy':['a','b c']}", "proxy/no_proxy" },
	{ "'proxy':{'no_proxy':'10.1.0.0/8'}", "proxy/no_proxy" }, { "'tls':{'server_name':'a.example'}", NULL }, { "'tls':{'server_name':'10.1.2.3'}", NULL },
	{ "'tls':{'server_name':'a b'}", "tls/server_name" }, { "'tls':{'server_name':'a:443'}", "tls/server_name" }, { "'tls':{'server_name':'.a'}", "tls/server_name" },
	{ "'tls':{'server_name':'::1'}", "tls/server_name" }, { "'tls':{'server_name':'a\\r\\nb'}", "tls/server_name" },
};

START_TEST(way_and_name)
{
	char *text = xasprintf("{'job_id':'j','file_pattern':['*'],'source_config':{" HTTP ",%s}}", ways[_i].field);
	char *pointer = xasprintf("/source_config/%s", ways[_i].pointer ? ways[_i].pointer : "");
	struct err e = ERR_INIT;
	struct job *j = parse(text, &e);

	ck_assert_msg(!j == !!ways[_i].pointer, "%s: %s", text, e.text);
	if (!j) {
		ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
		ck_assert_str_eq(e.pointer, pointer);
	}
	job_free(j);
	free(text);
	free(pointer);
}
END_TEST

static const char *const two_ways[] = {
	"'tls':{'key_ref':'k','key_file':'/srv/in/k'}", "'tls':{'key_ref':'k','key_pem':'x'}", "'tls':{'key_file':'/srv/in/k','key_pem':'x'}",
};

/* One value, one way: else which of them counts would be a secret of its own. */
START_TEST(one_way_to_a_secret)
{
	char *text = xasprintf("{'job_id':'j','file_pattern':['*'],'source_config':{" HTTP ",%s}}", two_ways[_i]);
	struct err e = ERR_INIT;

	limits.allow_inline = true;
	limits.file_roots = &local_roots;
	ck_assert_ptr_null(parse(text, &e));
	ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
	ck_assert_msg(strstr(e.text, "exclude each other") != NULL, "%s", e.text);
	free(text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_job");
	TCase *t = tcase_create("job");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, set_limits, NULL);
	tcase_add_loop_test(t, refuses, 0, (int)ARRAY_LEN(refusals));
	tcase_add_loop_test(t, identity, 0, (int)ARRAY_LEN(identities));
	tcase_add_loop_test(t, way_and_name, 0, (int)ARRAY_LEN(ways));
	tcase_add_loop_test(t, one_way_to_a_secret, 0, (int)ARRAY_LEN(two_ways));
	tcase_add_test(t, refuses_faults);
	tcase_add_test(t, wrong_types);
	tcase_add_loop_test(t, corpus_files, 0, (int)ARRAY_LEN(corpus));
	tcase_add_test(t, readme_job);
	tcase_add_test(t, whole_job);
	tcase_add_test(t, filter_defaults);
	tcase_add_test(t, types_that_a_source_tells);
	tcase_add_test(t, stability);
	tcase_add_test(t, paths);
	tcase_add_test(t, unknown_fields);
	tcase_add_test(t, idle_fields);
	tcase_add_test(t, many_warnings);
	tcase_add_test(t, sizes);
	tcase_add_test(t, lists_are_bounded);
	tcase_add_test(t, hands_out);
	tcase_add_test(t, masks);
	tcase_add_test(t, masked_is_json);
	tcase_add_test(t, frames_round_trip);
	tcase_add_test(t, frames_are_checked);
	tcase_add_test(t, survives_random_bytes);
	tcase_add_test(t, survives_broken_jobs);
	tcase_add_test(t, rows_are_sound);
	tcase_add_test(t, schema_knows_every_field);
	tcase_add_test(t, speed);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
