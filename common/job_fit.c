/*
 * job_fit.c - what filters{} ask of a source against what its type can tell.
 *
 * Called by job.c for each source, when filters and source are read. A listing that could only guess is refused here by
 * name, before any worker starts; filters that a type merely never meets (a size of what has none) are no matter of this.
 */
#include <string.h>

#include "common/http_url.h"
#include "common/job_priv.h"
#include "common/banned.h"

#define AT "/filters"

static bool
reports(const struct job_parser *ps, enum file_kind kind)
{
	return ps->job->filter.types & FILE_BIT(kind);
}

/* A list of files that is no listing of directories. */
static bool
is_list(const struct source_conf *s)
{
	int64_t format = s->v[SF_HTTP_INDEX_FORMAT].i;

	return s->type == SOURCE_HTTP && (format == HTTP_FORMAT_LINKS || format == HTTP_FORMAT_TEXT || format == HTTP_FORMAT_JSONL);
}

static bool
is_generated(const struct source_conf *s)
{
	return s->type == SOURCE_DUMMY && s->v[SF_DUMMY_FILES].set;
}

static int
check_links(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	if (!reports(ps, FILE_LINK))
		return 0;
	if (s->type == SOURCE_S3 || s->type == SOURCE_HTTP || is_generated(s))
		return job_refuse(ps, ERR_UNSUPPORTED, AT, "types", "types: a source of type %s%s shows no symbolic links",
		    source_rows[s->type].name, is_generated(s) ? " that is generated" : "");
	if (s->v[SF_COMMON_FOLLOW_SYMLINKS].i)
		return job_refuse(ps, ERR_INVALID_JOB, base, "follow_symlinks",
		    "links are followed, or with types symlink reported as themselves, not both");
	return 0;
}

static int
check_dirs(struct job_parser *ps, const struct source_conf *s)
{
	if (reports(ps, FILE_DIR) && (is_generated(s) || is_list(s)))
		return job_refuse(ps, ERR_UNSUPPORTED, AT, "types", "types: a source of type %s %s shows no directories",
		    source_rows[s->type].name, is_generated(s) ? "that is generated" : "with this index_format");
	if (ps->job->filter.exclude_if_present && (is_generated(s) || is_list(s)))
		return job_refuse(ps, ERR_UNSUPPORTED, AT, "exclude_if_present", "exclude_if_present: a source of type %s %s lists no directories",
		    source_rows[s->type].name, is_generated(s) ? "that is generated" : "with this index_format");
	return 0;
}

/* What names folders, or asks for whole ones, knows them by '/'. */
static int
check_delimiter(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	const struct filter_spec *f = &ps->job->filter;
	const char *asks = f->exclude_dirs.n ? "exclude_dirs" : f->exclude_if_present ? "exclude_if_present" :
	    reports(ps, FILE_DIR) ? "dir in filters.types" : NULL;

	if (s->type != SOURCE_S3 || !asks || !s->v[SF_S3_DELIMITER].s || !strcmp(s->v[SF_S3_DELIMITER].s, "/"))
		return 0;
	return job_refuse(ps, ERR_INVALID_JOB, base, "delimiter", "%s needs folders that end with '/': it and another delimiter exclude each other", asks);
}

/* Keys behind one, or that begin in the middle of a name, are no whole folders. */
static int
check_folders(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	const char *prefix = s->v[SF_S3_PREFIX].s, *asks = ps->job->filter.exclude_if_present ? "exclude_if_present" :
	    reports(ps, FILE_DIR) ? "dir in filters.types" : NULL;

	if (s->type != SOURCE_S3 || !asks)
		return 0;
	if (s->v[SF_S3_START_AFTER].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "start_after", "%s needs whole folders: it and start_after exclude each other", asks);
	if (prefix && *prefix && prefix[strlen(prefix) - 1] != '/')
		return job_refuse(ps, ERR_INVALID_JOB, base, "prefix", "%s needs whole folders: use path, or a prefix that ends with '/'", asks);
	return 0;
}

int
job_fit_check(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	return check_links(ps, base, s) || check_dirs(ps, s) || check_folders(ps, base, s) || check_delimiter(ps, base, s) ? -1 : 0;
}
