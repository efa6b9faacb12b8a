/*
 * job_filter.c - file_pattern and filters{} of a job: read, held against each other, compiled once.
 *
 * Called by job_parse. Compiling here is only a check; each worker compiles its own. A pattern that
 * cannot be compiled is named by its JSON pointer.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/glob.h"
#include "common/job_priv.h"
#include "common/json.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define AT "/filters"

static void
take_list(struct strlist *to, struct field_value *v)
{
	*to = v->l;
	v->l = (struct strlist){ NULL, 0 };
}

static void
take_values(struct filter_spec *f, struct field_value *v)
{
	take_list(&f->include, &v[FF_INCLUDE]);
	take_list(&f->exclude, &v[FF_EXCLUDE]);
	take_list(&f->exclude_dirs, &v[FF_EXCLUDE_DIRS]);
	take_list(&f->in_progress_suffixes, &v[FF_IN_PROGRESS_SUFFIXES]);
	take_list(&f->extensions, &v[FF_EXTENSIONS]);
	f->done_file = v[FF_DONE_FILE].s;
	v[FF_DONE_FILE].s = NULL;
	f->exclude_if_present = v[FF_EXCLUDE_IF_PRESENT].s;
	v[FF_EXCLUDE_IF_PRESENT].s = NULL;
	f->ignore_case = v[FF_IGNORE_CASE].i;
	f->include_hidden = v[FF_INCLUDE_HIDDEN].i;
	f->max_files = v[FF_MAX_FILES].i;
	if (v[FF_MIN_SIZE].set)
		f->min_size = v[FF_MIN_SIZE].i;
	if (v[FF_MAX_SIZE].set)
		f->max_size = v[FF_MAX_SIZE].i;
	if (v[FF_MIN_AGE].set)
		f->min_age_ms = v[FF_MIN_AGE].i;
	if (v[FF_MAX_AGE].set)
		f->max_age_ms = v[FF_MAX_AGE].i;
	if (v[FF_MODIFIED_AFTER].set)
		f->modified_after_ns = v[FF_MODIFIED_AFTER].i;
	if (v[FF_MODIFIED_BEFORE].set)
		f->modified_before_ns = v[FF_MODIFIED_BEFORE].i;
}

static int
take_types(struct job_parser *ps, const struct strlist *l)
{
	unsigned *types = &ps->job->filter.types;

	*types = 0;
	for (size_t i = 0; i < l->n; i++) {
		int kind = 0;

		while (kind < FILE__MAX && strcmp(l->v[i], file_kind_names[kind]))
			kind++;
		if (kind == FILE__MAX)
			return job_refuse(ps, ERR_INVALID_JOB, AT, "types", "types holds what is none of file, dir and symlink");
		*types |= FILE_BIT(kind);
	}
	return *types ? 0 : job_refuse(ps, ERR_INVALID_JOB, AT, "types", "types must name at least one");
}

static int
take_stability(struct job_parser *ps, const struct field_value *v)
{
	struct filter_spec *f = &ps->job->filter;
	int64_t timeout = ps->job->timeout_ms >= 0 ? ps->job->timeout_ms : ps->limits->timeout_max_ms;

	f->stable_checks = v[FF_STABILITY_CHECKS].i;
	f->stable_interval_ms = v[FF_STABILITY_INTERVAL].i;
	if (f->stable_checks * f->stable_interval_ms < timeout)
		return 0;
	return job_refuse(ps, ERR_INVALID_JOB, AT, "stability", "stability waits for %lld s in all, and the job's timeout is %lld s",
	    (long long)(f->stable_checks * f->stable_interval_ms / 1000), (long long)(timeout / 1000));
}

/* Two bounds that leave nothing between them are a mistake, not a wish. */
static int
check_bounds(struct job_parser *ps)
{
	const struct filter_spec *f = &ps->job->filter;

	if (f->max_size >= 0 && f->min_size > f->max_size)
		return job_refuse(
		    ps, ERR_INVALID_JOB, AT, "min_size", "min_size is larger than max_size");
	if (f->max_age_ms >= 0 && f->min_age_ms > f->max_age_ms)
		return job_refuse(
		    ps, ERR_INVALID_JOB, AT, "min_age", "min_age is larger than max_age");
	if (f->modified_after_ns != TIME_UNKNOWN && f->modified_before_ns != TIME_UNKNOWN &&
	    f->modified_after_ns >= f->modified_before_ns)
		return job_refuse(ps, ERR_INVALID_JOB, AT, "modified_after",
		    "modified_after is not earlier than modified_before");
	return 0;
}

/* Is it one of these globs that cannot be compiled? Then it is refused; alone: the job gave it
 * outside of an array. */
static bool
blame_globs(
    struct job_parser *ps, const char *base, const char *name, const struct strlist *l, bool alone)
{
	for (size_t i = 0; i < l->n; i++) {
		struct err e = ERR_INIT;
		struct glob *g =
		    glob_new(l->v[i], strlen(l->v[i]), ps->job->filter.ignore_case, &e);

		glob_free(g);
		if (g)
			continue;
		job_refuse(ps, e.cls, base, name, "%s", e.text);
		if (!alone)
			json_pointer_index(ps->e->pointer, i);
		return true;
	}
	return false;
}

static int
compile(struct job_parser *ps, bool alone)
{
	const struct filter_spec *f = &ps->job->filter;
	struct err e = ERR_INIT;
	char field[64];
	struct filter *compiled = filter_new(f, 0, &e);

	filter_free(compiled);
	if (compiled)
		return 0;
	if (blame_globs(ps, "", "file_pattern", &f->patterns, alone) ||
	    blame_globs(ps, AT, "include", &f->include, false) ||
	    blame_globs(ps, AT, "exclude", &f->exclude, false) ||
	    blame_globs(ps, AT, "exclude_dirs", &f->exclude_dirs, false))
		return -1;
	/* The others' texts begin with their field's name. */
	snprintf(field, sizeof(field), "%.*s", (int)strcspn(e.text, ":"), e.text);
	return job_refuse(ps, e.cls, AT, field, "%s", e.text);
}

int
job_filter_read(struct job_parser *ps, struct json_object *root, struct field_value *patterns)
{
	struct json_object *filters = NULL, *given = NULL;
	struct field_value v[FF__MAX] = { 0 };
	struct job_fields fields = { filter_rows, FF__MAX, SOURCE_COMMON, v, AT, "" };
	bool alone;
	int rc = 0;

	json_object_object_get_ex(root, "file_pattern", &given);
	alone = json_object_is_type(given, json_type_string);
	if (json_object_object_get_ex(root, "filters", &filters))
		rc = job_fields_read(ps, filters, &fields, NULL);
	if (!rc) {
		take_values(&ps->job->filter, v);
		take_list(&ps->job->filter.patterns, patterns);
		rc = ps->job->filter.patterns.n
		    ? check_bounds(ps)
		    : job_refuse(ps, ERR_INVALID_JOB, "", "file_pattern",
			  "file_pattern must hold at least one pattern");
	}
	if (!rc && filters && json_object_object_get_ex(filters, "stability", &given))
		rc = take_stability(ps, v);
	if (!rc && v[FF_TYPES].set)
		rc = take_types(ps, &v[FF_TYPES].l);
	if (!rc)
		rc = compile(ps, alone);
	for (size_t i = 0; i < FF__MAX; i++)
		field_value_release(&v[i]);
	return rc;
}
