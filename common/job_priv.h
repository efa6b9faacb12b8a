/*
 * job_priv.h - what the job_*.c files share; nobody else includes it.
 */
#ifndef COMMON_JOB_PRIV_H
#define COMMON_JOB_PRIV_H

#include "common/field.h"
#include "common/job.h"

struct json_object;

struct job_parser {                /* one run of job_parse */
	const struct job_limits *limits;
	struct job *job;
	size_t unlisted;           /* warnings beyond JOB_WARNINGS_MAX */
	struct err *e;
};

/* A set of fields being read: rows and the values they give. */
struct job_fields {
	const struct field_row *rows;
	size_t n;
	int source;                /* enum source_type or SOURCE_COMMON */
	struct field_value *v;     /* n of them, zero before */
	const char *base;          /* JSON pointer of the object */
	const char *prefix;        /* "", or "tls." while the members of that object are read */
};

/* job.c: sets class, text and pointer (base, then /name where name is given); returns -1 */
int job_refuse(struct job_parser *, enum err_class, const char *base, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void job_warn(struct job_parser *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Reads all members of o; then defaults where nothing was said. given (n of them, or NULL): what the job said itself. */
int job_fields_read(struct job_parser *, struct json_object *o, const struct job_fields *, bool *given);

/* job_source.c: source_config or one of connection_list into s (zero before; released by the caller, also on failure) */
int job_source_read(struct job_parser *, struct json_object *o, const char *base, struct source_conf *s);
/* job_filter.c: filters{} of the job's root, and file_pattern, whose values were read */
int job_filter_read(struct job_parser *, struct json_object *root, struct field_value *patterns);
/* job_fit.c: what the filters ask of this source, which its protocol may not be able to tell; both were read */
int job_fit_check(struct job_parser *, const char *base, const struct source_conf *);
/* job_mask.c: compact JSON of o, secrets replaced. */
void job_mask_write(struct json_object *o, struct buf *);

/* source_s3.c */
int source_check_s3(struct job_parser *, const char *base, struct source_conf *, const bool *given);
/* source_s3_role.c */
int source_check_s3_role(struct job_parser *, const char *base, const struct source_conf *, const bool *given);
/* source_ftp.c */
int source_check_ftp(struct job_parser *, const char *base, struct source_conf *, const bool *given);
/* source_sftp.c */
int source_check_sftp(struct job_parser *, const char *base, struct source_conf *, const bool *given);
/* source_http.c */
int source_check_http(struct job_parser *, const char *base, struct source_conf *, const bool *given);

#endif
