/*
 * ctl.h - the role header of the admin tool: what its files show one another, grouped by file name.
 *
 * One struct ctl a run. A verb returns its exit code (sysexits(3)); it never exits. Results go to stdout, chatter to
 * stderr; foreign bytes pass escape_term or escape_json on their way.
 */
#ifndef MASTER_CTL_CTL_H
#define MASTER_CTL_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sysexits.h>

#include "common/buf.h"
#include "common/config.h"
#include "common/err.h"
#include "common/job.h"
#include "master/kafka.h"

struct ctl;
struct json_object;

/* ---- table.c: the list of verbs ---------------------------------------------------------------------------------- */

enum ctl_needs { CTL_NONE, CTL_DAEMON, CTL_KAFKA, CTL_CONFIG };

enum ctl_verb {
#define GLOBAL(name, letter, arg, help)
#define VERB(id, name, args, needs, min, max, help) CTL_VERB_##id,
#define OPTION(name, letter, arg, help)
#include "master/ctl/verbs.def"
	CTL_VERB__MAX
};

struct ctl_opt {
	int verb;                       /* enum ctl_verb; -1: of every verb */
	const char *name;
	char letter;                    /* 0: none */
	const char *arg;                /* "": a flag */
	const char *help;
};

struct ctl_cmd {
	const char *name, *args;
	enum ctl_needs needs;
	size_t min, max;                /* arguments */
	int (*run)(struct ctl *);
	const char *help;
};

extern const struct ctl_cmd ctl_cmds[CTL_VERB__MAX];
extern const struct ctl_opt ctl_opts[];
extern const size_t ctl_n_opts;
/* The verb that begins argv ("job cancel" takes two words); *used: words. -1: none. */
int ctl_find(char *const *argv, size_t n, size_t *used);
/* The nearest verb's name, or NULL. */
const char *ctl_nearest(const char *word);
const struct ctl_opt *ctl_find_opt(int verb, const char *name, size_t n);
const struct ctl_opt *ctl_find_letter(int verb, char letter);
void ctl_usage(struct buf *);
void ctl_help(enum ctl_verb, struct buf *);
void ctl_completion_bash(struct buf *);
/* The verbs and their options as mdoc(7), for man/gen. */
void ctl_mdoc(struct buf *);
void ctl_mdoc_global(struct buf *);

/* ---- options.c: the command line ------------------------------------------------------------------------------------ */

#define CTL_GIVEN_MAX 128
#define CTL_ARGS_MAX 4
#define CTL_SETTINGS_MAX 64

struct ctl {
	int verb;                       /* -1: none given */
	struct { const struct ctl_opt *opt; const char *value; } given[CTL_GIVEN_MAX]; /* borrowed from argv */
	size_t n_given;
	const char *arg[CTL_ARGS_MAX];
	size_t n_args;
	char *settings[CTL_SETTINGS_MAX + 3]; /* owned; for config_load */
	size_t n_settings;
	struct config_set set;
	struct config *cfg;             /* = &set.c */
	bool loaded;
	bool json;
	bool colour;                    /* stdout is a terminal that takes it */
	bool progress;                  /* stderr is a terminal */
	FILE *out, *err;
};

/* The whole run; what main.c returns. */
int ctl_main(int argc, char **argv);
/* Fills verb, given and arg. 0, or -1 with the reason (a usage error). */
int ctl_parse(struct ctl *, int argc, char *const *argv, struct err *);
/* The last value of the option; NULL: not given. A flag gives "". */
const char *ctl_opt(const struct ctl *, const char *name);
/* The i-th value of an option that may be repeated; NULL past the end. */
const char *ctl_opt_nth(const struct ctl *, const char *name, size_t i);
/* Numbers and durations of options: 0, or -1 after a message on stderr (exit 64). Unset: *v stays. */
int ctl_opt_int(struct ctl *, const char *name, int64_t min, int64_t max, int64_t *v);
int ctl_opt_ms(struct ctl *, const char *name, int64_t *v);
/* "iis-pollerctl VERB: text" on stderr; returns code. */
int ctl_fail(struct ctl *, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- output.c ----------------------------------------------------------------------------------------------------------- */

#define TABLE_COLUMNS_MAX 20

struct table {
	size_t n_columns;
	struct { const char *head; bool right; size_t width; } column[TABLE_COLUMNS_MAX];
	struct buf text;                /* the cells, escaped, NUL-ended, one after the other */
	size_t n_cells;
	bool headed;                    /* the header was printed */
};

/* columns: "NAME|>SIZE|TEXT"; '>' aligns to the right; borrowed, at most TABLE_COLUMNS_MAX */
void table_init(struct table *, const char *columns);
void table_release(struct table *);
/* Escaped here. NULL or "": "-". */
void table_cell(struct table *, const char *s);
void table_celln(struct table *, const void *p, size_t n);
void table_cellf(struct table *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints header (once) and rows, and forgets the rows; widths only grow. */
void table_print(struct table *, struct ctl *);
/* Foreign text to a stream. */
void out_term(FILE *, const void *p, size_t n);
/* Writes b, empties it, and flushes; -1: stdout is gone. */
int out_buf(struct ctl *, struct buf *);
/* Text that is valid JSON, without white space between tokens, safe on a terminal. */
void json_compact(struct buf *, const char *p, size_t n);
/* A JSON value as one would say it: null "-", texts as they are, numbers short; *_bytes and *_seconds with units. */
void json_words(struct buf *, const char *key, struct json_object *);
/* The document as indented lines "key value"; arrays of objects as tables. */
void json_outline(struct ctl *, struct json_object *);
/* One column a row: "HEAD=key" with '>' as in table_init, '|' between. The array's objects as a table. */
void json_table(struct ctl *, struct json_object *array, const char *columns);

/* ---- client.c: the daemon's socket ------------------------------------------------------------------------------------- */

#define CTL_REPLY_MAX (64 * 1024 * 1024)
/* Sends the line (without newline), gives the answer's status (>= 0) and body. -1: no answer, with err (ERR_AUTH: not
 * allowed to connect; ERR_KAFKA never). */
int client_ask(const char *path, const char *line, int timeout_ms, struct buf *body, struct err *);

/* ---- broker.c: short-lived handles to Kafka ------------------------------------------------------------------------------ */

struct broker {
	rd_kafka_t *rk;
	const struct config *cfg;
	char trouble[768];              /* the first error of the connections, "" none */
	bool fatal;
	bool has_pid;                   /* the producer was given its id: it may write (verify) */
	void *arg;                      /* the verb's own */
	void (*delivered)(struct broker *, const rd_kafka_message_t *);
};
struct broker_property { const char *name, *value; };

/* Opens a handle that never joins a group and never commits. NULL-ended properties win over all. 0 or -1. */
int broker_open(struct broker *, const struct config *, rd_kafka_type_t, const struct broker_property *, struct err *);
void broker_close(struct broker *);
/* Serves callbacks. */
void broker_poll(struct broker *, int ms);
/* Partitions of the topic. -1 with err: ERR_KAFKA no broker answers; ERR_NOT_FOUND the topic's trouble. */
int broker_partitions(struct broker *, const char *topic, int ms, struct err *);
/* The polling queue that --topic names, by default the first one; borrowed. NULL: it is none of the settings', and that was said. */
const char *ctl_queue(struct ctl *);
/* First and next offset. */
int broker_watermarks(struct broker *, const char *topic, int32_t partition, int ms, int64_t *low, int64_t *high, struct err *);
/* Adds what the connections said to err. */
int broker_error(struct broker *, const char *what, rd_kafka_resp_err_t, struct err *);

struct reader {                     /* reads partitions of one topic through one queue, without a group */
	struct broker *b;
	rd_kafka_topic_t *rkt;
	rd_kafka_queue_t *q;
	int32_t *part;                  /* started */
	bool *at_end;
	size_t n, n_at_end;
	size_t cap;
};
int reader_open(struct reader *, struct broker *, const char *topic, struct err *);
int reader_start(struct reader *, int32_t partition, int64_t offset, struct err *);
/* The next record, or NULL (time is over, or a partition's end was seen: look at n_at_end). -1 in *rc: failed with err.
 * Caller destroys. */
rd_kafka_message_t *reader_next(struct reader *, int ms, int *rc, struct err *);
void reader_close(struct reader *);

/* ---- push.c ----------------------------------------------------------------------------------------------------------------- */

struct push_list { char **job; size_t *len; size_t n, cap; }; /* owned: the jobs' texts */
void push_list_release(struct push_list *);
void push_random_id(char out[37]);
void push_limits(const struct config *, struct job_limits *);
/* One job made of the options. */
int push_from_options(struct ctl *, struct buf *job, struct err *);
/* The jobs of a text: one document, or one a line. */
int push_from_text(const char *p, size_t n, struct push_list *, struct err *);
/* The text with a job_id: its own, or a random one; suffix (or NULL) is added to it. Replaces out; *id: caller frees. */
int push_stamp(const char *p, size_t n, const char *suffix, struct buf *out, char **id, struct err *);

/* ---- peek.c ----------------------------------------------------------------------------------------------------------------- */

/* A record as one JSON line, without a newline: topic, partition, offset, timestamp, key, headers, value. */
void peek_json(struct buf *, const rd_kafka_message_t *, const char *topic, bool mask);
bool peek_is_job(const rd_kafka_message_t *, const char *job_id);

/* daemon.c: the verb lag --daemon */
int ctl_lag_daemon(struct ctl *);

/* ---- the verbs: each returns an exit code ----------------------------------------------------------------------------------- */

#define GLOBAL(name, letter, arg, help)
#define VERB(id, name, args, needs, min, max, help) int ctl_##id(struct ctl *);
#define OPTION(name, letter, arg, help)
#include "master/ctl/verbs.def"

#endif
