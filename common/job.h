/*
 * job.h - the job model: what a message of the polling queue says, checked and made canonical.
 *
 * job_parse is the only way in. It runs the strict scanner (json.h) first, so that json-c never sees what RFC 8259
 * forbids, then walks the fields of job.def and sources.def. Each field is honoured, refused by name, or, where it is
 * unknown, refused or listed as a warning (jobs.unknown_fields). The daemon, iis-pollerctl push and the tests share it.
 */
#ifndef COMMON_JOB_H
#define COMMON_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/cursor.h"
#include "common/err.h"
#include "common/filter.h"

enum source_type {
#define SOURCE(id, name, aliases, role, state, help) SOURCE_##id,
#define FIELD(src, id, name, aliases, kind, def, range, flags, help)
#define ATTR(src, id, name, kind, help)
#include "common/sources.def"
	SOURCE__MAX
};

#define SOURCE_COMMON (-1)          /* the `source` of FIELD rows that all types share */
#define SOURCE_NETWORK (-2)         /* of those that all types of the role network share */

enum worker_role { ROLE_LOCAL, ROLE_NETWORK, ROLE_CREDENTIALS, ROLE__MAX };

enum source_field {               /* one number for each FIELD row: SF_COMMON_PATH, SF_DUMMY_FILES, ... */
#define SOURCE(id, name, aliases, role, state, help)
#define FIELD(src, id, name, aliases, kind, def, range, flags, help) SF_##src##_##id,
#define ATTR(src, id, name, kind, help)
#include "common/sources.def"
	SF__MAX
};

enum job_field {                  /* JF_JOB_ID, ...: the rows of job.def */
#define JOB_FIELD(id, name, aliases, kind, def, range, flags, help) JF_##id,
#define FILTER_FIELD(id, name, aliases, kind, def, range, flags, help)
#include "common/job.def"
	JF__MAX
};

enum filter_field {               /* FF_INCLUDE, ... */
#define JOB_FIELD(id, name, aliases, kind, def, range, flags, help)
#define FILTER_FIELD(id, name, aliases, kind, def, range, flags, help) FF_##id,
#include "common/job.def"
	FF__MAX
};

enum source_attr {                /* one number for each ATTR row: SA_LOCAL_INODE, ... */
#define SOURCE(id, name, aliases, role, state, help)
#define FIELD(src, id, name, aliases, kind, def, range, flags, help)
#define ATTR(src, id, name, kind, help) SA_##src##_##id,
#include "common/sources.def"
	SA__MAX
};

/* STR: text without NUL, CR, LF; TEXT: the same with line ends (keys, certificates); INT; BOOL; DUR (ms); SIZE (bytes); TIME (ns); ENUM (index into range's words);
 * STRS: array of strings (FIELD_MAP: an object of strings, kept as "name: value"); DBL in thousandths. In job.def alone: OBJECT, OBJECTS (array of them) and ANY, which are
 * only checked to be that; whoever wants them reads on. */
enum field_kind {
	KIND_STR, KIND_INT, KIND_BOOL, KIND_DUR, KIND_SIZE, KIND_TIME, KIND_ENUM, KIND_STRS, KIND_DBL,
	KIND_OBJECT, KIND_OBJECTS, KIND_ANY, KIND_TEXT
};

#define FIELD_SECRET 1   /* masked everywhere, wiped after use */
#define FIELD_FAULT 2    /* refused unless dummy.allow_faults */
#define FIELD_LATER 4    /* known, but served by a later version: refused by name */
#define FIELD_MASTER 8   /* read by the master; not sent to the worker */
#define FIELD_ONE 16     /* STRS: a single string stands for an array of one */
#define FIELD_REF 32     /* names a file of the credentials directory that holds the value of field_target() */
#define FIELD_FILE 64    /* a file of this host, below credentials.file_roots, that holds the value of field_target() */
#define FIELD_LOGIN 128  /* may stand in the secret set that credentials_ref names, as all SECRET ones may */
#define FIELD_CONN 256   /* a kept connection serves another task only where this field is the same (SECRET, LOGIN: likewise) */
#define FIELD_MAP 512    /* STRS: written as an object of strings */

struct source_row {
	const char *name, *aliases;   /* aliases: space separated, "" for none */
	enum worker_role role;
	bool later;                   /* refused by name */
	const char *help;
};
struct field_row {
	int source;                   /* enum source_type, or -1: common to all */
	const char *name, *aliases;
	enum field_kind kind;
	const char *def;              /* default as text; "" none */
	const char *range;            /* "min..max" for numbers, words separated by '|' for ENUM, max length for STR */
	unsigned flags;
	const char *help;
};
struct attr_row { int source; const char *name; bool is_int; const char *help; };
extern const struct source_row source_rows[SOURCE__MAX];
extern const struct field_row field_rows[SF__MAX];
extern const struct attr_row attr_rows[SA__MAX];
extern const struct field_row job_rows[JF__MAX];       /* source: SOURCE_COMMON */
extern const struct field_row filter_rows[FF__MAX];
/* by name or alias; -1 */
int source_by_name(const char *name);

struct field_value {
	bool set;                     /* given by the job or filled by the default */
	int64_t i;                    /* INT, BOOL, DUR, SIZE, TIME, ENUM, DBL */
	char *s;                      /* STR; owned */
	struct strlist l;             /* STRS; owned */
};

#define CONNECTIONS_MAX 64          /* of one task */
#define CONNECTIONS_DEFAULT 8       /* of s3 and http without max_connections; ftp's are in source_ftp.h */

struct source_conf {
	enum source_type type;
	char *source_id;              /* the job's name for it, or type + "-" + 12 hex digits of the canonical address' SHA-256 */
	char *canonical;              /* the canonical address without secrets, e.g. "local:/srv/in"; part of source_id */
	char *endpoint;               /* network: "sftp://host:22"; what caps count; NULL for others */
	char *identity;               /* network: what tells its files from those of other sources: endpoint, user or secret's name, bucket; NULL for others */
	char *url_base;               /* network: what file_url puts before the path, no user data, no '/' at its end. All five NULL in a worker */
	struct field_value v[SF__MAX];
};

enum job_priority { PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW, PRIORITY__MAX };
enum job_publish { PUBLISH_ATOMIC, PUBLISH_STREAM };

#define JOB_SOURCES_MAX 64
#define JOB_TASK_MAX 56000          /* one source's fields and the filters, encoded: what the frame JOB has room for */
#define JOB_WARNINGS_MAX 32

struct job {
	char *job_id;
	char *org_id;
	struct source_conf *sources;
	size_t n_sources;
	struct filter_spec filter;
	enum job_priority priority;
	int64_t timeout_ms;           /* -1: the configured default */
	int64_t scheduled_at_ns;      /* TIME_UNKNOWN: at once */
	int64_t created_at_ns;        /* TIME_UNKNOWN */
	enum job_publish publish;
	char *metadata;               /* the object as compact JSON text, re-serialised by us; "{}" by default */
	size_t metadata_n;
	struct strlist warnings;
};

struct job_limits {               /* what the settings say; see config.def */
	size_t message_max;           /* bytes of the whole message */
	size_t metadata_max;
	size_t source_max;            /* bytes of one source's configuration */
	int64_t timeout_max_ms;
	bool reject_unknown;
	bool secret_set;        /* what is read is no job: unknown members are refused, whatever the settings say */
	bool allow_faults;            /* dummy.allow_faults */
	bool allow_inline;            /* credentials.allow_inline */
	bool allow_unverified_tls;    /* network.allow_unverified_tls */
	bool allow_unknown_hosts;     /* network.allow_unknown_hosts */
	bool allow_mounts;            /* local.cross_mounts */
	int64_t connections_max;      /* network.connections_max */
	const struct strlist *file_roots; /* credentials.file_roots: where FIELD_FILE fields may point */
	const char *dummy_root;       /* absolute, for dummy paths */
	const struct strlist *local_roots; /* absolute, canonical; a local path must lie under one */
};

/*
 * NULL with err: class (INVALID_JOB, UNKNOWN_SOURCE, UNSUPPORTED, POLICY), text, JSON pointer, byte position where known.
 * On failure *id_out and *org_out (if not NULL) get job_id and org_id where the message was a valid JSON object that held
 * valid ones (caller frees), and *masked_out the masked job if it was valid JSON; else NULL.
 */
struct job *job_parse(const char *p, size_t n, const struct job_limits *, char **id_out, char **org_out,
    char **masked_out, struct err *);
void job_free(struct job *);
/* A message of a polling queue, right or wrong, as it may be shown: appended to b as compact JSON, secrets replaced, api_keys left
 * out. -1 with err: no JSON object, and any text of it could be the secret; n <= INT_MAX. */
int job_mask_message(const char *p, size_t n, struct buf *b, struct err *);
/* A secret set (credentials_ref): JSON of login and secret fields of the type into v (SF__MAX, zero before; the caller wipes
 * and releases what is set). 0, or -1 with what is wrong, without any value. */
int job_secret_read(const char *p, size_t n, enum source_type, struct field_value *v, struct err *);

struct json_object;
/* Appends o as compact JSON, as it came but for its escapes: nothing in it steers a terminal (escape_json). */
void job_echo_write(struct json_object *o, struct buf *);

const char *job_priority_name(enum job_priority);
/* "dummy", ... ; the one type of all its sources, or "mixed" */
const char *job_source_label(const struct job *);

/* Of job_id, org_id, source_id. Visible: well-formed UTF-8, no control or direction-changing character, not blank. NULL, or what is wrong. */
const char *job_name_fault(const char *s);

/* For the schema of local and dummy paths: which root of l holds path (textually, by components; path absolute,
 * normalised)? NULL: none. *rest: the part below it, "." for the root itself. */
const char *path_under(const struct strlist *l, const char *path, const char **rest);
/* Lexical: absolute, no ".", no "//", no trailing '/'. ".." components, NUL: NULL with err. base: for relative ones. Caller frees. */
char *path_normalise(const char *path, const char *base, struct err *);

/* The part of a JOB frame that describes the source: type and the fields that are set (not FIELD_MASTER). */
/* So many connections at once the source asks for; 1..CONNECTIONS_MAX. scarce: without those that it asks for but seldom uses. */
unsigned source_connections(const struct source_conf *, bool scarce);
void source_conf_encode(const struct source_conf *, struct buf *);
int source_conf_decode(struct source_conf *, struct cursor *);
void source_conf_release(struct source_conf *);

/* job_glance.c */
/* The tenant that the message names, as far as a glance tells: a part of the message, of *len bytes; NULL: none, or not seen. */
const char *job_glance_tenant(const char *message, size_t n, size_t *len);

#endif
