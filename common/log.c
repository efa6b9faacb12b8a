/*
 * log.c - one line an event, as JSON or for a console.
 *
 * Master, http child and admin tool call it through LOG(); a worker's sink turns the same fields into frames.
 * One thread. Never waits for the reader of the descriptor: a line that is not taken at once is dropped and
 * counted, and the count is told when lines are taken again. A line too long has its strings cut, never its
 * syntax. Never fails and never reports an error to its caller: there is nobody to tell.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/escape.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define CUT_MARK_MAX 13  /* ,"cut":true}\n and no less than the console's " cut=true\n" */
#define CUT_MIN 16       /* strings are not cut below this; then fields are left out */
#define RATE_SLOTS 128   /* event names that are counted at a time; a power of 2 */
#define RATE_PROBES 8
#define RATE_NAME 64

/* Lines of one event name in the present second. */
struct rate {
	char name[RATE_NAME];  /* "" is free; longer names share what they begin with */
	int64_t since;         /* ms, begin of the second */
	unsigned lines;
	uint64_t suppressed;   /* not yet told */
};

static struct {
	const char *program;
	enum log_level level;
	enum log_format format;
	int fd;                /* -1: descriptor 2 */
	unsigned per_second;   /* 0: no limit */
	struct rate rate[RATE_SLOTS];
	uint64_t dropped;      /* since the start */
	uint64_t owed;         /* of these, not yet told */
	struct buf line;       /* kept, so that a line costs no allocation */
	struct buf rest;       /* what the descriptor has not yet taken of a line it began to take */
	void (*sink)(void *arg, enum log_level, const char *event, const struct log_field *, size_t n);
	void *sink_arg;
} lg = { .program = "iis-poller", .level = LOG_INFO, .format = LOG_JSON, .fd = -1 };

static const char *const level_names[] = {
	[LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

/* The numbers of syslog(3), which journald reads from the begin of a line. */
static const char priorities[] = {
	[LOG_ERROR] = '3', [LOG_WARN] = '4', [LOG_INFO] = '6', [LOG_DEBUG] = '7',
};

struct log_field
log_str(const char *key, const char *s)
{
	return LB(key, s, s ? strlen(s) : 0);
}

void
log_init(const char *program)
{
	lg.program = program;
	/* Room for any line, so that running out of memory can still be logged. */
	buf_room(&lg.line, 8 * LOG_LINE_MAX);
	buf_room(&lg.rest, LOG_LINE_MAX);
}

void
log_set_level(enum log_level level)
{
	lg.level = level;
}

enum log_level
log_get_level(void)
{
	return lg.level;
}

void
log_set_format(enum log_format format)
{
	lg.format = format;
}

void
log_set_rate(unsigned per_second)
{
	lg.per_second = per_second;
}

void
log_set_sink(void (*sink)(void *arg, enum log_level, const char *event, const struct log_field *, size_t n),
    void *arg)
{
	lg.sink = sink;
	lg.sink_arg = arg;
}

uint64_t
log_dropped(void)
{
	return lg.dropped;
}

int
log_open(const char *path)
{
	int fd = -1;

	if (path) {
		/* Not blocking: the path may be a FIFO that nobody reads. */
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
		if (fd < 0)
			return -1;
	}
	if (lg.fd >= 0)
		close(lg.fd);
	lg.fd = fd;
	buf_clear(&lg.rest);
	return 0;
}

int
log_level_by_name(const char *name)
{
	static const struct {
		const char *name;
		enum log_level level;
	} also[] = {
		{ "error", LOG_ERROR }, { "critical", LOG_ERROR }, { "warn", LOG_WARN },
		{ "warning", LOG_WARN }, { "info", LOG_INFO }, { "debug", LOG_DEBUG },
	};

	for (size_t i = 0; i < ARRAY_LEN(also); i++)
		if (!strcasecmp(name, also[i].name))
			return (int)also[i].level;
	return -1;
}

const char *
log_level_name(enum log_level level)
{
	return level_names[level];
}

/* formats */

/* Cuts to at most max bytes, not inside a character. */
static size_t
cut(const char *s, size_t n, size_t max, bool *was_cut)
{
	size_t m = max;

	if (n <= max)
		return n;
	*was_cut = true;
	while (m && max - m < 3 && ((unsigned char)s[m] & 0xc0) == 0x80)
		m--;
	return m;
}

static void
number(struct buf *b, const struct log_field *f)
{
	if (f->kind == LOG_F_INT)
		buf_printf(b, "%" PRId64, f->i);
	else if (f->kind == LOG_F_BOOL)
		buf_puts(b, f->i ? "true" : "false");
	else if (isfinite(f->d))
		buf_printf(b, "%.9g", f->d);
	else
		buf_puts(b, "null");
}

static void
field_json(struct buf *b, const struct log_field *f, size_t max, bool *was_cut)
{
	buf_putc(b, ',');
	escape_json(b, f->key, strlen(f->key));
	buf_putc(b, ':');
	if (f->kind != LOG_F_STR)
		number(b, f);
	else if (!f->s)
		buf_puts(b, "null");
	else
		escape_json(b, f->s, cut(f->s, f->n, max, was_cut));
}

/* A value is quoted when a reader could not tell where it ends. */
static void
value_console(struct buf *b, const char *s, size_t n)
{
	bool quote = !n || memchr(s, ' ', n) || memchr(s, '"', n) || memchr(s, '=', n);
	size_t from = 0;

	if (!quote) {
		escape_term(b, s, n);
		return;
	}
	buf_putc(b, '"');
	for (size_t i = 0; i < n; i++) {
		if (s[i] != '"')
			continue;
		escape_term(b, s + from, i - from);
		buf_puts(b, "\\\"");
		from = i + 1;
	}
	escape_term(b, s + from, n - from);
	buf_putc(b, '"');
}

static void
field_console(struct buf *b, const struct log_field *f, size_t max, bool *was_cut)
{
	buf_putc(b, ' ');
	escape_term(b, f->key, strlen(f->key));
	buf_putc(b, '=');
	if (f->kind != LOG_F_STR)
		number(b, f);
	else if (!f->s)
		buf_puts(b, "null");
	else
		value_console(b, f->s, cut(f->s, f->n, max, was_cut));
}

/* The process a line is about is named once: our own where the fields name no other. */
static bool
names_pid(const struct log_field *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(f[i].key, "pid"))
			return true;
	return false;
}

static void
head_json(struct buf *b, enum log_level level, const char *event, bool own_pid, bool *was_cut)
{
	char now[UNITS_TEXT];

	units_time_text(clock_real_ns(), 3, now);
	buf_printf(b, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":", now, level_names[level]);
	escape_json(b, lg.program, strlen(lg.program));
	if (own_pid)
		buf_printf(b, ",\"pid\":%ld", (long)getpid());
	buf_puts(b, ",\"event\":");
	escape_json(b, event, cut(event, strlen(event), RATE_NAME, was_cut));
}

/* Is descriptor 2 the stream that systemd made for us? Then a line may begin with its priority. */
static bool
is_journal(void)
{
	const char *s = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (lg.fd >= 0 || !s || fstat(STDERR_FILENO, &st))
		return false;
	snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return !strcmp(s, own);
}

static void
head_console(struct buf *b, enum log_level level, const char *event, bool *was_cut)
{
	char now[UNITS_TEXT];

	units_time_text(clock_real_ns(), 3, now);
	if (is_journal())
		buf_printf(b, "<%c>", priorities[level]);
	buf_printf(b, "%s %s ", now, level_names[level]);
	escape_term(b, event, cut(event, strlen(event), RATE_NAME, was_cut));
}

/*
 * Makes the line with strings of at most max bytes. false: it does not fit so. At CUT_MIN it always fits,
 * since fields that do not are left out.
 */
static bool
make_line(enum log_level level, const char *event, const struct log_field *f, size_t n, size_t max)
{
	bool json = lg.format == LOG_JSON, was_cut = false;
	struct buf *b = &lg.line;

	buf_clear(b);
	if (json)
		head_json(b, level, event, !names_pid(f, n), &was_cut);
	else
		head_console(b, level, event, &was_cut);
	for (size_t i = 0; i < n; i++) {
		size_t before = b->len;

		if (json)
			field_json(b, &f[i], max, &was_cut);
		else
			field_console(b, &f[i], max, &was_cut);
		if (b->len + CUT_MARK_MAX <= LOG_LINE_MAX)
			continue;
		if (max > CUT_MIN)
			return false;
		b->len = before;
		was_cut = true;
	}
	if (was_cut)
		buf_puts(b, json ? ",\"cut\":true" : " cut=true");
	buf_puts(b, json ? "}\n" : "\n");
	return true;
}

/* the descriptor */

/* What the descriptor takes at once of p: -1 where it takes nothing. */
static ssize_t
write_now(const char *p, size_t n)
{
	int fd = lg.fd >= 0 ? lg.fd : STDERR_FILENO;
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	ssize_t k = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (k >= 0 || errno != ENOTSOCK)
		return k;
	/* A pipe that polls writable takes a whole line of up to PIPE_BUF bytes; files always do. */
	if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT) || pfd.revents & POLLERR)
		return -1;
	return write(fd, p, n);
}

/* Whole or not at all, but for what a terminal takes in two goes. */
static bool
put_line(const char *p, size_t n)
{
	ssize_t k;

	if (lg.rest.len) {
		k = write_now(lg.rest.p, lg.rest.len);
		if (k > 0)
			buf_consume(&lg.rest, (size_t)k);
		if (lg.rest.len)
			return false;
	}
	k = write_now(p, n);
	if (k <= 0)
		return false;
	buf_add(&lg.rest, p + k, n - (size_t)k);
	return true;
}

static bool
emit(enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	size_t max = LOG_LINE_MAX;

	while (!make_line(level, event, f, n, max))
		max /= 2;
	return put_line(lg.line.p, lg.line.len);
}

/* Tells how many lines were lost, once lines are taken again. */
static void
pay_owed(void)
{
	struct log_field f = LI("count", lg.owed);

	if (lg.owed && emit(LOG_WARN, "log_dropped", &f, 1))
		lg.owed = 0;
}

static void
output(enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	if (lg.sink) {
		lg.sink(lg.sink_arg, level, event, f, n);
		return;
	}
	pay_owed();
	if (lg.owed || !emit(level, event, f, n)) {
		lg.dropped++;
		lg.owed++;
	}
}

/* rates */

static void
tell_suppressed(struct rate *r)
{
	struct log_field f[] = { LS("name", r->name), LI("count", r->suppressed) };

	if (!r->suppressed)
		return;
	r->suppressed = 0;
	output(LOG_WARN, "log_suppressed", f, ARRAY_LEN(f));
}

/* The slot of a name; where all near slots are taken, that of the name that was silent longest. */
static struct rate *
rate_slot(const char *event)
{
	char name[RATE_NAME];
	uint32_t h = 2166136261u;
	struct rate *r, *old = NULL;

	snprintf(name, sizeof(name), "%s", event);
	for (const char *s = name; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	for (uint32_t i = 0; i < RATE_PROBES; i++) {
		r = &lg.rate[(h + i) % RATE_SLOTS];
		if (r->name[0] && !strcmp(r->name, name))
			return r;
		if (!old || (old->name[0] && (!r->name[0] || r->since < old->since)))
			old = r;
	}
	tell_suppressed(old);
	*old = (struct rate){ .since = INT64_MIN };
	memcpy(old->name, name, sizeof(name));
	return old;
}

static bool
over_rate(const char *event)
{
	int64_t now = clock_mono_ms();
	struct rate *r;

	if (!lg.per_second)
		return false;
	r = rate_slot(event);
	if (now - 1000 >= r->since) {
		tell_suppressed(r);
		r->since = now;
		r->lines = 0;
	}
	if (r->lines < lg.per_second) {
		r->lines++;
		return false;
	}
	r->suppressed++;
	return true;
}

void
log_tick(void)
{
	int64_t now = clock_mono_ms();

	for (size_t i = 0; i < RATE_SLOTS; i++)
		if (lg.rate[i].suppressed && now - 1000 >= lg.rate[i].since)
			tell_suppressed(&lg.rate[i]);
	if (!lg.sink)
		pay_owed();
}

void
log_event(enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	if (level <= lg.level && !over_rate(event))
		output(level, event, f, n);
}
