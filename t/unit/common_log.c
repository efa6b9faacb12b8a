/*
 * common_log.c - unit of the log: every line is one line and valid, whatever is logged; nothing waits for a reader;
 * what was dropped or suppressed is told; the console's form; the files.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/escape.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/xalloc.h"
#include "common/banned.h"

static int out[2];  /* out[1] is descriptor 2 too */
static int err_was;
static struct buf got;

/* Each test runs in a process of its own, so descriptor 2 may be replaced. */
static void
redirect(int is_socket)
{
	ck_assert_int_eq(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, out) : pipe(out), 0);
	err_was = dup(2);
	ck_assert_int_eq(dup2(out[1], 2), 2);
	ck_assert_int_eq(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	log_init("unit");
}

static void
setup(void)
{
	redirect(0);
}

static void
teardown(void)
{
	dup2(err_was, 2);
	buf_release(&got);
}

/* All that can be read now, as one text. */
static const char *
take(void)
{
	char chunk[65536];
	ssize_t n;

	buf_clear(&got);
	while ((n = read(out[0], chunk, sizeof(chunk))) > 0)
		buf_add(&got, chunk, (size_t)n);
	return buf_str(&got);
}

/* The next line as an object; *at moves on. NULL at the end. */
static struct json_object *
next_line(const char **at)
{
	static const char *const keys[] = { "time", "level", "program", "pid", "event" };
	const char *end = strchr(*at, '\n');
	enum json_tokener_error bad;
	struct json_object *o;
	char *line;

	if (!end) {
		ck_assert_msg(!**at, "a line without its end: %s", *at);
		return NULL;
	}
	ck_assert_int_le(end + 1 - *at, LOG_LINE_MAX);
	line = strndup(*at, (size_t)(end - *at));
	for (const char *s = line; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			ck_abort_msg("control byte %d in a line", *s);
	ck_assert(utf8_valid(line, strlen(line)));
	o = json_tokener_parse_verbose(line, &bad);
	ck_assert_msg(bad == json_tokener_success, "%s: %s", json_tokener_error_desc(bad), line);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		ck_assert_msg(json_object_object_get(o, keys[i]) != NULL, "%s lacks %s", line, keys[i]);
	free(line);
	*at = end + 1;
	return o;
}

static const char *
text(struct json_object *o, const char *key)
{
	return json_object_get_string(json_object_object_get(o, key));
}

START_TEST(json_line)
{
	const char *at;
	struct json_object *o;

	LOG(LOG_INFO, "job_done", LS("job_id", "x"), LI("files", -3), LD("seconds", 0.25), LT("partial", 0),
	    LS("none", NULL), LB("part", "abcdef", 3), LD("nan", (double)NAN), LT("yes", 7));
	at = take();
	ck_assert_ptr_nonnull(strstr(at, ",\"event\":\"job_done\",\"job_id\":\"x\",\"files\":-3,\"seconds\":0.25,"
	    "\"partial\":false,\"none\":null,\"part\":\"abc\",\"nan\":null,\"yes\":true}\n"));
	o = next_line(&at);
	ck_assert_str_eq(text(o, "level"), "info");
	ck_assert_str_eq(text(o, "program"), "unit");
	ck_assert_int_eq(json_object_get_int64(json_object_object_get(o, "pid")), getpid());
	ck_assert_uint_eq(strlen(text(o, "time")), strlen("2026-11-23T19:42:02.123Z"));
	json_object_put(o);
	ck_assert_ptr_null(next_line(&at));
	LOG0(LOG_ERROR, "bare");
	ck_assert_ptr_nonnull(strstr(take(), "\"event\":\"bare\"}\n"));
}
END_TEST

START_TEST(console_line)
{
	log_set_format(LOG_CONSOLE);
	LOG(LOG_WARN, "odd", LS("a", "plain"), LS("b", "two words"), LS("c", ""), LS("d", "say \"hi\""),
	    LS("e", "x=y"), LS("f", "l1\nl2\x1b[31m"), LI("n", 5), LT("t", 1), LS("z", NULL), LS("g", "\xc3\xa9\xff\\"));
	ck_assert_str_eq(strstr(take(), " warn ") ? got.p + strlen("2026-11-23T19:42:02.123Z") : got.p,
	    " warn odd a=plain b=\"two words\" c=\"\" d=\"say \\\"hi\\\"\" e=\"x=y\" f=l1\\nl2\\x1b[31m n=5 t=true "
	    "z=null g=\xc3\xa9\\xff\\\\\n");
}
END_TEST

START_TEST(console_for_the_journal)
{
	static const char *const prefix[] = {
		[LOG_ERROR] = "<3>2", [LOG_WARN] = "<4>2", [LOG_INFO] = "<6>2", [LOG_DEBUG] = "<7>2",
	};
	char id[64];
	struct stat st;

	ck_assert_int_eq(fstat(2, &st), 0);
	snprintf(id, sizeof(id), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", id, 1);
	log_set_level(LOG_DEBUG);
	LOG0(LOG_INFO, "json");
	ck_assert_int_eq(take()[0], '{');
	log_set_format(LOG_CONSOLE);
	for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
		LOG0((enum log_level)level, "e");
		ck_assert_msg(!strncmp(take(), prefix[level], 4), "%s", got.p);
	}
	setenv("JOURNAL_STREAM", "1:2", 1);
	LOG0(LOG_INFO, "another stream");
	ck_assert_int_eq(take()[0], '2');
}
END_TEST

START_TEST(levels)
{
	static const struct {
		const char *name;
		int level;
	} t[] = {
		{ "error", LOG_ERROR }, { "warn", LOG_WARN }, { "info", LOG_INFO }, { "debug", LOG_DEBUG },
		{ "ERROR", LOG_ERROR }, { "CRITICAL", LOG_ERROR }, { "WARNING", LOG_WARN }, { "INFO", LOG_INFO },
		{ "DEBUG", LOG_DEBUG }, { "", -1 }, { "loud", -1 }, { "inf", -1 }, { "info ", -1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		ck_assert_msg(log_level_by_name(t[i].name) == t[i].level, "%s", t[i].name);
	for (int i = LOG_ERROR; i <= LOG_DEBUG; i++)
		ck_assert_int_eq(log_level_by_name(log_level_name((enum log_level)i)), i);
	ck_assert_int_eq(log_get_level(), LOG_INFO);
	LOG0(LOG_DEBUG, "hidden");
	log_set_level(LOG_ERROR);
	LOG0(LOG_WARN, "hidden");
	LOG0(LOG_ERROR, "shown");
	ck_assert_ptr_null(strstr(take(), "hidden"));
	ck_assert_ptr_nonnull(strstr(got.p, "shown"));
}
END_TEST

/* Every byte, every format trick, every length around the limit, in text, event and key. */
START_TEST(hostile_text)
{
	static const char *const corpus[] = {
		"\x1b]0;title\x07", "\x1b[2J", "a\nb\r\nc", "\xc2\x9b" "31m", "\xe2\x80\xae" "evil", "\xff\xfe",
		"\xed\xa0\x80", "\"},{\"event\":\"forged\"", "\\", "\\u0000", "%s%n", "\xf0\x9f\x98", "\xe2\x80\xa8",
	};
	char all[256];
	const char *at;
	struct json_object *o;

	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
		LOG(LOG_INFO, corpus[i], LS(corpus[i], corpus[i]), LB("all", all, 256));
		at = take();
		o = next_line(&at);
		ck_assert_ptr_nonnull(o);
		ck_assert(json_object_object_get(o, "forged") == NULL);
		json_object_put(o);
		ck_assert_ptr_null(next_line(&at));
		log_set_format(LOG_CONSOLE);
		LOG(LOG_INFO, corpus[i], LS(corpus[i], corpus[i]), LB("all", all, 256));
		log_set_format(LOG_JSON);
		at = take();
		ck_assert(utf8_valid(at, got.len));
		for (size_t k = 0; k + 1 < got.len; k++)
			if ((unsigned char)at[k] < 0x20 || at[k] == 0x7f)
				ck_abort_msg("control byte %d in a line", at[k]);
		ck_assert_int_eq(at[got.len - 1], '\n');
	}
}
END_TEST

/* The limit is met from both sides by every kind of byte: the longest escapes, characters that must not be split. */
START_TEST(long_text)
{
	static const char *const units[] = { "a", "\x01", "\xe2\x82\xac", "\"", "\xff", "\xf0\x9f\x98\x80" };
	char *big = xcalloc(1, 20000);
	const char *at;

	for (size_t u = 0; u < ARRAY_LEN(units); u++) {
		size_t k = strlen(units[u]);

		for (size_t n = k; n < 20000; n += n < 3600 ? 397 * k : n < 4400 ? k : 1999 * k) {
			bool was_cut;
			struct json_object *o;

			for (size_t i = 0; i < n; i++)
				big[i] = units[u][i % k];
			LOG(LOG_INFO, "long", LB("big", big, n), LI("after", 1));
			at = take();
			o = next_line(&at);
			ck_assert_ptr_nonnull(o);
			ck_assert_ptr_null(next_line(&at));
			ck_assert_ptr_nonnull(json_object_object_get(o, "after"));
			was_cut = json_object_object_get(o, "cut") != NULL;
			/* whole characters only: nothing became U+FFFD that was good */
			if (u == 2 || u == 5)
				ck_assert_ptr_null(strstr(text(o, "big"), "\xef\xbf\xbd"));
			if (u == 0)
				ck_assert_int_eq(strlen(text(o, "big")) == n, !was_cut);
			json_object_put(o);
		}
	}
	free(big);
}
END_TEST

START_TEST(many_fields)
{
	struct log_field f[300];
	char big[500];
	const char *at;
	struct json_object *o;

	memset(big, '\x02', sizeof(big));
	for (size_t i = 0; i < ARRAY_LEN(f); i++)
		f[i] = LB("key_of_a_field", big, sizeof(big));
	for (int console = 0; console < 2; console++) {
		log_set_format(console ? LOG_CONSOLE : LOG_JSON);
		log_event(LOG_INFO, "many", f, ARRAY_LEN(f));
		at = take();
		ck_assert_uint_le(got.len, LOG_LINE_MAX);
		ck_assert_ptr_nonnull(strstr(at, console ? " cut=true\n" : ",\"cut\":true}\n"));
		if (!console) {
			o = next_line(&at);
			ck_assert_ptr_nonnull(o);
			json_object_put(o);
		}
	}
}
END_TEST

/* Nobody reads: the caller goes on, and the loss is told and counted as soon as somebody does. */
static void
full_descriptor(void)
{
	uint64_t written = 0, lost, told = 0, lines = 0;
	char big[1500];
	const char *at;
	struct json_object *o;

	memset(big, 'x', sizeof(big));
	for (int i = 0; i < 1000; i++)
		LOG(LOG_INFO, "flood", LB("big", big, sizeof(big)), LI("n", i));
	lost = log_dropped();
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_lt(lost, 1000);
	for (at = take(); (o = next_line(&at)); written++) {
		ck_assert_int_eq(json_object_get_int64(json_object_object_get(o, "n")), (int64_t)written);
		json_object_put(o);
	}
	ck_assert_uint_eq(written + lost, 1000);
	LOG0(LOG_INFO, "again");
	for (at = take(); (o = next_line(&at)); lines++) {
		if (!strcmp(text(o, "event"), "log_dropped"))
			told += (uint64_t)json_object_get_int64(json_object_object_get(o, "count"));
		else
			ck_assert_str_eq(text(o, "event"), "again");
		json_object_put(o);
	}
	ck_assert_uint_eq(told, lost);
	ck_assert_uint_eq(lines, 2);
	ck_assert_uint_eq(log_dropped(), lost);
}

START_TEST(full_pipe)
{
	full_descriptor();
}
END_TEST

START_TEST(full_socket)
{
	redirect(1);
	full_descriptor();
}
END_TEST

START_TEST(dropped_is_told_by_tick)
{
	char big[3000];

	memset(big, 'x', sizeof(big));
	while (!log_dropped())
		LOG(LOG_INFO, "flood", LB("big", big, sizeof(big)));
	take();
	log_tick();
	ck_assert_ptr_nonnull(strstr(take(), "\"event\":\"log_dropped\",\"count\":1}"));
	log_tick();
	ck_assert_str_eq(take(), "");
}
END_TEST

START_TEST(reader_gone)
{
	ck_assert(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	close(out[0]);
	for (int i = 0; i < 3; i++)
		LOG0(LOG_INFO, "alone");
	ck_assert_uint_eq(log_dropped(), 3);
	close(2);
	LOG0(LOG_INFO, "no descriptor");
	ck_assert_uint_eq(log_dropped(), 4);
}
END_TEST

/* Waits for the clock, not for a guess: until the second that began before the last line is over. */
static void
next_second(int64_t from)
{
	while (clock_mono_ms() <= from + 1000)
		poll(NULL, 0, 20);
}

START_TEST(rate_limit)
{
	int64_t begun, most;
	int shown = 0, other = 0, told = 0;
	const char *at;
	struct json_object *o;

	log_set_rate(5);
	begun = clock_mono_ms();
	for (int i = 0; i < 50; i++)
		LOG(LOG_INFO, "storm", LI("n", i));
	LOG0(LOG_INFO, "calm");
	/* A machine that stands still lets more through; the sum holds. */
	most = 5 * (1 + (clock_mono_ms() - begun) / 1000);
	next_second(clock_mono_ms());
	log_tick();
	for (at = take(); (o = next_line(&at)); json_object_put(o)) {
		const char *event = text(o, "event");

		shown += !strcmp(event, "storm");
		other += !strcmp(event, "calm");
		if (!strcmp(event, "log_suppressed")) {
			ck_assert_str_eq(text(o, "name"), "storm");
			told += json_object_get_int(json_object_object_get(o, "count"));
		}
	}
	ck_assert_int_ge(shown, 5);
	ck_assert_int_le(shown, most);
	ck_assert_int_eq(other, 1);
	ck_assert_int_eq(shown + told, 50);
	/* Without a tick the next line of that name tells it. */
	for (int i = 0; i < 7; i++)
		LOG0(LOG_INFO, "storm");
	next_second(clock_mono_ms());
	take();
	LOG0(LOG_INFO, "storm");
	ck_assert_ptr_nonnull(strstr(take(), "\"event\":\"log_suppressed\",\"name\":\"storm\",\"count\":2}"));
	ck_assert_ptr_nonnull(strstr(got.p, "\"event\":\"storm\"}"));
	log_set_rate(0);
	for (int i = 0; i < 20; i++)
		LOG0(LOG_INFO, "storm");
	shown = 0;
	for (at = take(); (o = next_line(&at)); json_object_put(o))
		shown++;
	ck_assert_int_eq(shown, 20);
}
END_TEST

/* More names than are counted at a time, and names that are long: none is lost without a word. */
START_TEST(many_names)
{
	char name[200];
	int64_t shown = 0, told = 0;
	const char *at;
	struct json_object *o;

	log_set_rate(1);
	memset(name, 'n', sizeof(name));
	for (int i = 0; i < 400; i++) {
		snprintf(name, 8, "e%03d", i);
		name[4] = i % 2 ? '\0' : 'n';
		name[199] = '\0';
		LOG0(LOG_INFO, name);
		LOG0(LOG_INFO, name);
		at = take();
		for (; (o = next_line(&at)); json_object_put(o)) {
			if (strcmp(text(o, "event"), "log_suppressed"))
				shown++;
			else
				told += json_object_get_int64(json_object_object_get(o, "count"));
		}
	}
	ck_assert_int_eq(shown, 400);
	next_second(clock_mono_ms());
	log_tick();
	for (at = take(); (o = next_line(&at)); json_object_put(o))
		told += json_object_get_int64(json_object_object_get(o, "count"));
	ck_assert_int_eq(told, 400);
}
END_TEST

static int sunk;

static void
sink(void *arg, enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	ck_assert_ptr_eq(arg, &sunk);
	ck_assert_int_eq(level, LOG_WARN);
	ck_assert_str_eq(event, "e");
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(f[0].s, "\x1b");
	sunk++;
}

START_TEST(other_sink)
{
	log_set_sink(sink, &sunk);
	LOG(LOG_WARN, "e", LS("k", "\x1b"));
	LOG(LOG_DEBUG, "e", LS("k", "\x1b"));
	ck_assert_int_eq(sunk, 1);
	ck_assert_str_eq(take(), "");
	log_set_sink(NULL, NULL);
	LOG0(LOG_WARN, "back");
	ck_assert_ptr_nonnull(strstr(take(), "\"back\""));
}
END_TEST

START_TEST(files)
{
	char dir[] = "/tmp/iis-poller-log-XXXXXX", path[64], moved[64], line[512];
	FILE *f;
	int n = 0;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(moved, sizeof(moved), "%s/log.1", dir);
	ck_assert_int_eq(log_open(path), 0);
	LOG0(LOG_INFO, "first");
	ck_assert_int_eq(rename(path, moved), 0);
	LOG0(LOG_INFO, "second");
	ck_assert_int_eq(log_open(path), 0);
	LOG0(LOG_INFO, "third");
	ck_assert_int_eq(log_open("/nonexistent/log"), -1);
	ck_assert_int_eq(errno, ENOENT);
	LOG0(LOG_INFO, "fourth");
	ck_assert_int_eq(log_open(NULL), 0);
	ck_assert_str_eq(take(), "");
	LOG0(LOG_INFO, "fifth");
	ck_assert_ptr_nonnull(strstr(take(), "fifth"));
	for (int i = 0; i < 2; i++) {
		f = fopen(i ? path : moved, "r");
		ck_assert_ptr_nonnull(f);
		for (; fgets(line, sizeof(line), f); n++)
			ck_assert_ptr_nonnull(strstr(line, n == 0 ? "first" : n == 1 ? "second" :
			    n == 2 ? "third" : "fourth"));
		fclose(f);
	}
	ck_assert_int_eq(n, 4);
	ck_assert_uint_eq(log_dropped(), 0);
	unlink(path);
	unlink(moved);
	rmdir(dir);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_log");
	TCase *t = tcase_create("log");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, json_line);
	tcase_add_test(t, console_line);
	tcase_add_test(t, console_for_the_journal);
	tcase_add_test(t, levels);
	tcase_add_test(t, hostile_text);
	tcase_add_test(t, long_text);
	tcase_add_test(t, many_fields);
	tcase_add_test(t, full_pipe);
	tcase_add_test(t, full_socket);
	tcase_add_test(t, dropped_is_told_by_tick);
	tcase_add_test(t, reader_gone);
	tcase_add_test(t, rate_limit);
	tcase_add_test(t, many_names);
	tcase_add_test(t, other_sink);
	tcase_add_test(t, files);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
