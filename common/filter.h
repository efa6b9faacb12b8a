/*
 * filter.h - which entries of a listing the job wants: patterns and filters, the same code for every source.
 *
 * A source asks in two steps, so that nothing is fetched for what does not match: filter_name on the name alone,
 * then filter_attrs once size and time are known. Directories are asked by filter_dir before they are entered.
 */
#ifndef COMMON_FILTER_H
#define COMMON_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cursor.h"
#include "common/buf.h"
#include "common/err.h"

#define FILTER_LIST_MAX 256
#define FILTER_CHECKS_MAX 100     /* stable_checks */

/* What an entry is reported as: the words of filters.types, and entry_type of events. */
enum file_kind { FILE_PLAIN, FILE_DIR, FILE_LINK, FILE__MAX };
#define FILE_BIT(kind) (1U << (kind))
extern const char *const file_kind_names[FILE__MAX];

struct strlist { char **v; size_t n; };   /* owned strings */
void strlist_add(struct strlist *, const char *s);
void strlist_release(struct strlist *);

struct filter_spec {                 /* as the job says it; in the task frame */
	struct strlist patterns;         /* file_pattern; at least one */
	struct strlist include, exclude; /* globs: one of include (if any) must match, none of exclude may */
	struct strlist exclude_dirs;     /* globs for directories not to enter */
	struct strlist in_progress_suffixes; /* names with such an ending are skipped; so is NAME while NAME+suffix exists in the same directory (the source checks) */
	struct strlist extensions;       /* one of them (if any) must end the name, behind a dot and something before it; ASCII letters of either case */
	char *done_file;                 /* NULL, or a name: files of a directory count only once it holds that name; with "{name}" in it: a file counts only once its own companion exists. The done files themselves are never reported. */
	char *exclude_if_present;        /* NULL, or a name: directories that hold it are passed over with all below them */
	int64_t stable_checks;           /* 0: none; else further listings that must show a file as it was before */
	int64_t stable_interval_ms;      /* between them */
	unsigned types;                  /* FILE_BITs of what is reported; at least one */
	bool ignore_case;
	bool include_hidden;             /* names that begin with '.' */
	int64_t min_size, max_size;      /* -1: none */
	int64_t min_age_ms, max_age_ms;  /* -1: none */
	int64_t modified_after_ns, modified_before_ns; /* TIME_UNKNOWN: none; both exclusive */
	int64_t max_files;               /* 0: no cut; more matches than this: the listing stops, truncated */
};

void filter_spec_init(struct filter_spec *);
void filter_spec_release(struct filter_spec *);
void filter_spec_encode(const struct filter_spec *, struct buf *);
/* Bounded; 0 or -1 (cursor bad). */
int filter_spec_decode(struct filter_spec *, struct cursor *);

struct filter;
enum filter_result { FILTER_NO, FILTER_YES };

/* Compiles; now_ns is the time that ages are measured from. NULL with the pattern's error. spec is borrowed and must outlive it. */
struct filter *filter_new(const struct filter_spec *spec, int64_t now_ns, struct err *);
void filter_free(struct filter *);
/* rel: path relative to the source's root, no leading '/' */
enum filter_result filter_name(struct filter *, const char *rel, size_t n);
/* Size -1 or time TIME_UNKNOWN: a filter that needs it does not match. */
enum filter_result filter_attrs(struct filter *, int64_t size, int64_t mtime_ns);
enum filter_result filter_dir(struct filter *, const char *rel, size_t n);
/* Does a directory that holds this name count for nothing? */
bool filter_is_marker(const struct filter *, const char *name, size_t n);
/* true when any filter needs size or time (stability does, too), so that a source that lacks them must ask */
bool filter_needs_attrs(const struct filter *);
/* Another file's fate may depend on it: a done file, or a name with an in-progress ending. */
bool filter_is_companion(const struct filter *, const char *name, size_t n);
/* The done-file rule: NULL if none; else writes the name that must exist beside `name`. */
bool filter_done_name(const struct filter *, const char *name, size_t n, struct buf *out);

#endif
