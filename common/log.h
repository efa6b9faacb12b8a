/*
 * log.h - one line an event: a name and typed fields, never a format string.
 *
 *	LOG(LOG_INFO, "job_done", LS("job_id", id), LI("files", n));
 *
 * Levels: error = someone must act; warn = we coped; info = a job or a process changed state; debug = the
 * rest. Strings are escaped by the sink, so foreign bytes may be passed as they are. Master, http child and
 * iis-pollerctl write to a descriptor; a worker never does: its sink is set by log_set_sink and sends LOG
 * frames. A line is at most LOG_LINE_MAX bytes and is written whole or, when the reader of the descriptor
 * does not take it at once, dropped and counted: a blocked terminal or journal never blocks the daemon.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_JSON, LOG_CONSOLE };

#define LOG_LINE_MAX 4096

struct log_field {
	enum { LOG_F_STR, LOG_F_INT, LOG_F_DBL, LOG_F_BOOL } kind;
	const char *key;      /* our own constant: [a-z_]+ */
	const char *s;        /* NULL prints null */
	size_t n;             /* bytes of s */
	int64_t i;
	double d;
};

struct log_field log_str(const char *key, const char *s);
#define LS(k, v) log_str((k), (v))
#define LB(k, p, len) ((struct log_field){ .kind = LOG_F_STR, .key = (k), .s = (p), .n = (len) })
#define LI(k, v) ((struct log_field){ .kind = LOG_F_INT, .key = (k), .i = (int64_t)(v) })
#define LD(k, v) ((struct log_field){ .kind = LOG_F_DBL, .key = (k), .d = (v) })
#define LT(k, v) ((struct log_field){ .kind = LOG_F_BOOL, .key = (k), .i = (v) ? 1 : 0 })

#define LOG(level, event, ...)                                                                     \
	log_event((level), (event), (const struct log_field[]){ __VA_ARGS__ },                     \
	    sizeof((const struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field))
#define LOG0(level, event) log_event((level), (event), NULL, 0)

void log_event(enum log_level, const char *event, const struct log_field *, size_t n);

/* program: shown in every line ("iis-pollerd"); call first. Default: info, JSON, descriptor 2. */
void log_init(const char *program);
void log_set_level(enum log_level);
enum log_level log_get_level(void);
void log_set_format(enum log_format);
/* Lines of one event name a second before the rest are dropped and counted ("log_suppressed"); 0 = no limit. */
void log_set_rate(unsigned per_second);
/* Writes the log_suppressed and log_dropped lines that are due; otherwise they wait for a later event. Call it every
 * second or so, and before the end. */
void log_tick(void);
/* A closed pipe must not kill the program: main.c ignores SIGPIPE.
 * Opens path for append and logs there from now on; NULL: descriptor 2. Reopen with the same path on USR1. 0 or -1 with errno. */
int log_open(const char *path);
/* Replaces the sink: gets level, event name and fields (a worker's frames; tests). NULL restores it. */
void log_set_sink(void (*sink)(void *arg, enum log_level, const char *event, const struct log_field *, size_t n), void *arg);
/* Lines that were lost because the descriptor did not take them, since the start. */
uint64_t log_dropped(void);
/* "error", "warn", ...; -1 where unknown. Also takes the old service's INFO, WARNING, DEBUG, ERROR, CRITICAL. */
int log_level_by_name(const char *name);
const char *log_level_name(enum log_level);

#endif
