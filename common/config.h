/*
 * config.h - the settings: one struct made from config.def, read from default, file, environment, command line.
 *
 * Reading never stops at the first mistake: all are collected (at most CONFIG_ERRORS_MAX), each with file, line,
 * column, the source line, a caret and, for an unknown word, the nearest known one.
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/buf.h"
#include "common/config_table.h"
#include "common/filter.h"

struct strmap { struct strlist k, v; };

struct config {
#define SECTION(name, help)
#define CONF_STR(field, key, def, max, flags, help) char *field;
#define CONF_BOOL(field, key, def, flags, help) bool field;
#define CONF_INT(field, key, def, min, max, flags, help) int64_t field;
#define CONF_DUR(field, key, def, min, max, flags, help) int64_t field;
#define CONF_SIZE(field, key, def, min, max, flags, help) int64_t field;
#define CONF_DBL(field, key, def, min, max, flags, help) int64_t field;
#define CONF_ENUM(field, key, def, words, flags, help) int field;
#define CONF_LIST(field, key, def, flags, help) struct strlist field;
#define CONF_MAP(field, key, flags, help) struct strmap field;
#define OLDENV(field, name)
#include "common/config.def"
	struct config_table table[CONFIG_TABLE__MAX];
};

enum config_id {
#define SECTION(name, help)
#define CONF_STR(field, key, def, max, flags, help) CONFIG_##field,
#define CONF_BOOL(field, key, def, flags, help) CONFIG_##field,
#define CONF_INT(field, key, def, min, max, flags, help) CONFIG_##field,
#define CONF_DUR(field, key, def, min, max, flags, help) CONFIG_##field,
#define CONF_SIZE(field, key, def, min, max, flags, help) CONFIG_##field,
#define CONF_DBL(field, key, def, min, max, flags, help) CONFIG_##field,
#define CONF_ENUM(field, key, def, words, flags, help) CONFIG_##field,
#define CONF_LIST(field, key, def, flags, help) CONFIG_##field,
#define CONF_MAP(field, key, flags, help) CONFIG_##field,
#define OLDENV(field, name)
#include "common/config.def"
	CONFIG__MAX
};

#define CONFIG_RELOAD 1
#define CONFIG_RESTART 2
#define CONFIG_SECRET 4
#define CONFIG_INHERIT 8
#define CONFIG_ERRORS_MAX 20
#define CONFIG_TOPICS_MORE_MAX 31 /* of topics.more_polling_queues */

struct config_error {
	char *file;          /* path, "environment", or "command line" */
	int line, column;    /* from 1; 0 where there is none */
	char *text;          /* "unknown key \"prot\" in kafka (did you mean \"port\"?)" */
	char *source;        /* the source line without its newline (long ones: the part around column), or NULL */
	int source_column;   /* where the caret stands in source, from 1 */
};

struct config_set {      /* a config, where each value is from, and what was wrong */
	struct config c;
	struct config_origin origin[CONFIG__MAX];
	struct config_error errors[CONFIG_ERRORS_MAX];
	size_t n_errors;     /* kept */
	size_t n_more;       /* found beyond those kept */
};

/* Extra checks of a kafka.properties entry: NULL when allowed, else why not (static). Set by the master and the admin
 * tool, which know librdkafka (kafka_property_check); common links no Kafka. */
typedef const char *config_property_check(const char *name, const char *value, char *why, size_t n);

struct config_args {
	const char *file;            /* NULL: CONFIG_FILE if it exists, else none */
	const char *const *settings; /* command line "section.key=value", NULL-ended; or NULL */
	char *const *environ_;       /* usually environ */
	config_property_check *property_check; /* or NULL */
};
#define CONFIG_FILE "/etc/iis-poller/iis-poller.yaml"

/* Reads it all: defaults < file, then its conf.d/ *.yaml beside it in name order < environment < command line.
 * 0 when right; -1 when errors were collected. set is filled either way; config_set_release frees. */
int config_load(struct config_set *set, const struct config_args *);
/* The same with the file's text given (name is shown in errors); no file and no conf.d is looked for. */
int config_load_text(struct config_set *set, const char *name, const char *text, size_t n,
    const struct config_args *);
void config_set_release(struct config_set *);
/* file:line:column: text, the line, a caret; for every error. */
void config_print_errors(const struct config_set *, FILE *);
/* The errors as a JSON array: file, line, column, message */
void config_errors_json(const struct config_set *, struct buf *);
/* -T: the effective configuration as YAML with each value's origin as a comment; secrets as "***". changed_only: only what is not a default. */
void config_print(const struct config_set *, bool changed_only, struct buf *);
/* The same as a JSON object: key → {value, default, origin, reload, help} */
void config_json(const struct config_set *, bool changed_only, struct buf *);
/* The commented conf/iis-poller.yaml, from the list alone. */
void config_template(struct buf *);
/* The SETTINGS and ENVIRONMENT lists of iis-poller.yaml(5) as mdoc. */
void config_mdoc(struct buf *);
void config_mdoc_environment(struct buf *);
/* true when the value of this librdkafka property must never be shown */
bool config_property_secret(const char *name);
/* After a reload: names of changed settings that need a restart, comma separated, appended; returns their number. */
int config_restart_needed(const struct config *old, const struct config *new_, struct buf *names);
/* Replaces the RELOAD settings of dst by those of src; the rest stays. */
void config_take_reloadable(struct config_set *dst, struct config_set *src);
/* Did-you-mean: the nearest of the candidates, or NULL where none is near enough. */
const char *config_nearest(const char *word, const char *const *candidates, size_t n);
/* Exact name → field; for tests and docs. */
struct config_row { const char *key, *type, *def, *range, *words; unsigned flags; const char *help; const char *section, *section_help; };
extern const struct config_row config_rows[CONFIG__MAX];
/* IIS_POLLER_JOBS_HOLD_MAX for "jobs.hold_max"; out at least 128 bytes */
void config_env_name(const char *key, char *out, size_t n);

#endif
