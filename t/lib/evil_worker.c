/*
 * evil_worker.c - a worker that breaks one rule at a time, for tests that give it to the daemon as workers.path.
 *
 * It starts as it should (HELLO, SETUP, READY), but with --sin-at-start the first worker of slot N commits the
 * N-th of the sins that are for a start. A job whose name_template is "evil:KIND" is answered by that sin; any
 * other job with two files and a right DONE. Installed nowhere. Sins that leave the worker alive go on to wait for
 * what the master does about it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/ipc.h"
#include "common/keys.h"
#include "common/loop.h"
#include "common/record.h"
#include "common/task.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

static uint32_t generation;
static uint64_t task_id;
static struct task_spec task;
static struct buf out;          /* the frame in hand */
static struct buf spool;        /* what an atomic job's spool will hold */

static void
send_raw(const void *p, size_t n)
{
	ssize_t r;

	do
		r = send(IPC_FD, p, n, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	/* The master closed: that is how it answers, and the end of this process. */
	if (r < 0)
		exit(EX_OK);
}

static void
wait_for_the_end(void)
{
	for (;;)
		pause();
}

/* The header in place, without the checks of ipc_finish. */
static void
seal(struct buf *b)
{
	uint32_t len = (uint32_t)b->len;

	memcpy(b->p, &len, sizeof(len));
}

/* To where the job's publish mode wants its records. */
static void
deliver(struct buf *b)
{
	if (task.publish == PUBLISH_ATOMIC)
		buf_add(&spool, b->p, b->len);
	else
		send_raw(b->p, b->len);
}

static void
good_record(struct record *r, const char *path)
{
	record_init(r);
	r->path = path;
	r->path_n = strlen(path);
	r->rel_off = 1;
	r->size = 5;
	r->mtime_ns = INT64_C(1700000000000000000);
	r->precision = MTIME_NS;
}

static void
add_record(struct buf *b, struct record *r)
{
	struct err e = ERR_INIT;

	if (record_encode(r, b, &e))
		BUG("the evil worker's good record is bad");
}

/* A FILES frame that says `count` and holds `n` right records. */
static void
files_frame(struct buf *b, uint32_t count, int n)
{
	struct record r;
	char path[40];

	ipc_begin(b, MSG_FILES, generation, task_id);
	buf_u32(b, count);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/evil_%d.csv", i);
		good_record(&r, path);
		add_record(b, &r);
	}
	seal(b);
}

static void
done_frame(struct buf *b, uint64_t matched, uint64_t spool_bytes)
{
	struct task_done d;

	memset(&d, 0, sizeof(d));
	d.phase = PHASE_CLOSE;
	d.listed = d.matched = matched;
	d.spool_bytes = spool_bytes;
	ipc_begin(b, MSG_DONE, generation, task_id);
	task_done_encode(&d, b);
	seal(b);
}

static void
write_spool(void)
{
	if (task.publish != PUBLISH_ATOMIC)
		return;
	if (ftruncate(IPC_SPOOL_FD, 0) < 0 || pwrite(IPC_SPOOL_FD, spool.p, spool.len, 0) != (ssize_t)spool.len)
		exit(EX_OSERR);
}

/* Two files and a right account; other counts where a sin wants to lie. */
static void
finish(uint64_t matched)
{
	write_spool();
	done_frame(&out, matched, spool.len);
	send_raw(out.p, out.len);
}

static void
serve_well(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	finish(2);
}

/* The sins. Small parts of them first. */

static void
send_out(void)
{
	seal(&out);
	send_raw(out.p, out.len);
}

static void
begin_files(uint32_t count)
{
	ipc_begin(&out, MSG_FILES, generation, task_id);
	buf_u32(&out, count);
}

static void
pad(size_t n)
{
	memset(buf_room(&out, n), 'x', n);
	out.len += n;
}

/* The length that the frame in hand gives of itself. */
static void
say_length(size_t len)
{
	uint32_t v = (uint32_t)len;

	memcpy(out.p, &v, sizeof(v));
}

/* One frame of text under any type. */
static void
send_type(unsigned type)
{
	ipc_begin(&out, (enum msg_type)type, generation, task_id);
	buf_puts(&out, "a payload that some would take for sixteen bytes");
	send_out();
}

static void
progress_frame(void)
{
	struct progress g = { 1, 1 };

	ipc_begin(&out, MSG_PROGRESS, generation, task_id);
	progress_encode(&g, &out);
	seal(&out);
}

static void
ready_frame(void)
{
	struct ready r = { .sandbox = "none: this worker is evil" };

	ipc_begin(&out, MSG_READY, generation, 0);
	ready_encode(&r, &out);
	seal(&out);
}

/* Short */

static void
s_no_header(void)
{
	send_raw("too short", 9);
}

/* A message of no bytes looks like the end of file. */
static void
s_no_bytes(void)
{
	send_raw("", 0);
	wait_for_the_end();
}

static void
s_bare_header(void)
{
	ipc_begin(&out, MSG_DONE, generation, task_id);
	send_out();
}

static void
s_cut_record(void)
{
	files_frame(&out, 1, 1);
	out.len -= 11;
	send_out();
}

static void
s_cut_spool(void)
{
	buf_puts(&spool, "too short");
	finish(1);
}

/* Long */

static void
s_over_limit(void)
{
	begin_files(1);
	pad(80000);
	send_out();
}

static void
s_over_files(void)
{
	begin_files(1);
	pad(IPC_FRAME_MAX - out.len);
	send_out();
}

static void
s_over_progress(void)
{
	progress_frame();
	pad(1000);
	send_out();
}

static void
s_ask(void)
{
	ipc_begin(&out, MSG_ASK, generation, task_id);
	buf_u32(&out, 1);
	send_out();
}

static void
s_ask_nothing(void)
{
	ipc_begin(&out, MSG_ASK, generation, task_id);
	buf_u32(&out, 0);
	send_out();
}

static void
s_ask_much(void)
{
	ipc_begin(&out, MSG_ASK, generation, task_id);
	buf_u32(&out, IPC_ASK_MAX + 1);
	send_out();
}

static void
s_turns(void)
{
	ipc_begin(&out, MSG_TURNS, generation, task_id);
	buf_u32(&out, 1);
	send_out();
}

static void
s_bytes_after(void)
{
	files_frame(&out, 1, 1);
	pad(3);
	send_out();
}

static void
s_long_path(void)
{
	static char path[RECORD_PATH_MAX + 4000];

	memset(path, 'x', sizeof(path));
	begin_files(1);
	buf_u8(&out, 2);
	buf_u8(&out, MTIME_NONE);
	buf_bytes(&out, path, sizeof(path));
	buf_u32(&out, 0);
	buf_i64(&out, -1);
	buf_i64(&out, TIME_UNKNOWN);
	buf_u8(&out, 0);
	send_out();
}

/* Unknown type */

static void
s_type_gap(void)
{
	send_type(57);
}

static void
s_type_zero(void)
{
	send_type(0);
}

/* The first past any table of types, and the last there can be. */
static void
s_type_64(void)
{
	send_type(64);
}

static void
s_type_max(void)
{
	send_type(65535);
}

static void
s_reserved(void)
{
	files_frame(&out, 1, 1);
	out.p[6] = 1;
	send_raw(out.p, out.len);
}

/* Wrong state */

static void
s_ready(void)
{
	ready_frame();
	send_raw(out.p, out.len);
}

static void
s_hello(void)
{
	ipc_begin(&out, MSG_HELLO, generation, 0);
	hello_encode(&out);
	send_out();
}

static void
s_job(void)
{
	send_type(MSG_JOB);
}

static void
s_keys(void)
{
	send_type(MSG_KEYS);
}

static void
s_stat(void)
{
	send_type(MSG_STAT);
}

static void
s_files(void)
{
	files_frame(&out, 1, 1);
	send_raw(out.p, out.len);
}

static void
s_done(void)
{
	done_frame(&out, 0, 0);
	send_raw(out.p, out.len);
}

static void
s_done_twice(void)
{
	serve_well();
	send_raw(out.p, out.len);
}

static void
s_files_after_done(void)
{
	serve_well();
	s_files();
}

static void
s_done_in_spool(void)
{
	done_frame(&out, 2, 0);
	deliver(&out);
	finish(2);
}

/* Wrong generation */

static void
files_of_generation(uint32_t g)
{
	uint32_t own = generation;

	generation = g;
	files_frame(&out, 2, 2);
	generation = own;
	deliver(&out);
}

static void
s_next_generation(void)
{
	files_of_generation(generation + 1);
}

static void
s_generation_zero(void)
{
	files_of_generation(0);
}

static void
s_generation_max(void)
{
	uint32_t own = generation;

	generation = UINT32_MAX;
	done_frame(&out, 0, 0);
	generation = own;
	send_raw(out.p, out.len);
}

static void
s_generation_spool(void)
{
	files_of_generation(generation - 1);
	finish(2);
}

static void
s_generation_hello(void)
{
	generation++;
	s_hello();
}

/* Other task's id */

static void
s_next_task(void)
{
	task_id++;
	s_files();
	task_id--;
}

static void
s_task_zero(void)
{
	task_id = 0;
	s_done();
}

static void
s_task_max(void)
{
	task_id = UINT64_MAX;
	progress_frame();
	send_raw(out.p, out.len);
}

static void
s_task_spool(void)
{
	task_id++;
	files_frame(&out, 2, 2);
	task_id--;
	deliver(&out);
	finish(2);
}

/* Lengths past the end */

static void
s_says_more(void)
{
	files_frame(&out, 1, 1);
	say_length(out.len + 100);
	send_raw(out.p, out.len);
}

static void
s_says_less(void)
{
	files_frame(&out, 2, 2);
	say_length(out.len - 7);
	send_raw(out.p, out.len);
}

static void
s_says_nothing(void)
{
	files_frame(&out, 1, 1);
	say_length(0);
	send_raw(out.p, out.len);
}

/* The path's own length, right after flags and precision. */
static void
s_says_path(void)
{
	files_frame(&out, 1, 1);
	memset(out.p + IPC_HEADER + 4 + 2, 0xff, 4);
	send_raw(out.p, out.len);
}

static void
s_says_spool_frame(void)
{
	files_frame(&out, 2, 2);
	say_length(out.len + 100);
	deliver(&out);
	finish(2);
}

/* DONE speaks of more than the spool holds. */
static void
s_says_spool(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	write_spool();
	done_frame(&out, 2, spool.len + 1000);
	send_raw(out.p, out.len);
}

/* Counts that lie */

static void
s_count_more(void)
{
	files_frame(&out, 1000, 1);
	send_raw(out.p, out.len);
}

static void
s_count_fewer(void)
{
	files_frame(&out, 1, 2);
	send_raw(out.p, out.len);
}

static void
s_count_zero(void)
{
	files_frame(&out, 0, 1);
	send_raw(out.p, out.len);
}

static void
s_count_max(void)
{
	files_frame(&out, UINT32_MAX, 1);
	send_raw(out.p, out.len);
}

static void
s_matched_more(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	finish(3);
}

/* Of no entries listed, three matched. */
static void
s_matched_unlisted(void)
{
	struct task_done d;

	memset(&d, 0, sizeof(d));
	d.matched = 3;
	ipc_begin(&out, MSG_DONE, generation, task_id);
	task_done_encode(&d, &out);
	send_out();
}

/* Bad UTF-8 flags */

/* One record of this path; the flags byte of it is turned by `bits`. */
static void
flagged(const char *path, unsigned bits)
{
	struct record r;

	begin_files(1);
	good_record(&r, path);
	add_record(&out, &r);
	seal(&out);
	out.p[IPC_HEADER + 4] = (char)((uint8_t)out.p[IPC_HEADER + 4] ^ bits);
	deliver(&out);
	finish(1);
}

static void
s_flag_false(void)
{
	flagged("/evil_\xff.csv", 2);
}

static void
s_flag_missing(void)
{
	flagged("/evil_\xc3\xa9.csv", 2);
}

static void
s_flag_overlong(void)
{
	flagged("/evil_\xc0\xaf.csv", 2);
}

static void
s_flag_surrogate(void)
{
	flagged("/evil_\xed\xa0\x80.csv", 2);
}

static void
s_flag_unknown(void)
{
	flagged("/evil.csv", 128);
}

/* Flood */

static void
flood_of(const char *text)
{
	struct log_field f = LS("text", text);

	for (;;) {
		ipc_begin(&out, MSG_LOG, generation, task_id);
		log_frame_encode(&out, LOG_ERROR, "evil_flood", &f, 1);
		send_out();
	}
}

static void
s_flood_logs(void)
{
	flood_of("the worker floods its master with lines that nobody asked for");
}

static void
s_flood_long_logs(void)
{
	static char text[1500];

	memset(text, 'x', sizeof(text) - 1);
	flood_of(text);
}

static void
s_flood_progress(void)
{
	for (;;) {
		progress_frame();
		send_raw(out.p, out.len);
	}
}

static void
s_flood_refused(void)
{
	for (;;)
		s_type_gap();
}

/* Silence */

static void
s_silence(void)
{
	wait_for_the_end();
}

static void
s_silence_half(void)
{
	s_files();
	files_frame(&out, 2, 2);
	send_raw(out.p, out.len);
	wait_for_the_end();
}

static void
s_silence_deaf(void)
{
	signal(SIGTERM, SIG_IGN);
	wait_for_the_end();
}

static void
s_silence_stopped(void)
{
	raise(SIGSTOP);
	wait_for_the_end();
}

/* Descriptors. A right answer, but frames carry some: the master must take the frame and none of them. */

#define FDS_MAX 253     /* the most that Linux takes with one message */

static void
send_with(const int *fds, size_t n)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(FDS_MAX * sizeof(int))]; } control;
	struct iovec iov = { out.p, out.len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)) };

	memset(&control, 0, sizeof(control));
	control.h.cmsg_level = SOL_SOCKET;
	control.h.cmsg_type = SCM_RIGHTS;
	control.h.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.h), fds, n * sizeof(int));
	if (sendmsg(IPC_FD, &m, MSG_NOSIGNAL) < 0)
		exit(EX_OSERR);
}

static void
s_fds_often(void)
{
	static const int fds[8];

	for (int i = 0; i < 100; i++) {
		progress_frame();
		send_with(fds, ARRAY_LEN(fds));
	}
	serve_well();
}

static void
s_fds_many(void)
{
	static const int fds[FDS_MAX];

	progress_frame();
	send_with(fds, ARRAY_LEN(fds));
	serve_well();
}

/* Its own ends of the socket and the spool, with DONE itself. */
static void
s_fds_own(void)
{
	static const int fds[] = { IPC_FD, IPC_SPOOL_FD };

	files_frame(&out, 2, 2);
	deliver(&out);
	done_frame(&out, 2, 0);
	send_with(fds, ARRAY_LEN(fds));
}

static void
s_fds_refused(void)
{
	static const int fds[8];

	files_frame(&out, 1000, 1);
	send_with(fds, ARRAY_LEN(fds));
}

/* EOF in the middle */

static void
s_eof_close(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	close(IPC_FD);
	wait_for_the_end();
}

static void
s_eof_half_closed(void)
{
	s_files();
	shutdown(IPC_FD, SHUT_WR);
	wait_for_the_end();
}

static void
s_eof_exit(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	exit(EX_OK);
}

static void
s_eof_killed(void)
{
	s_files();
	raise(SIGKILL);
}

static void
s_eof_spool(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	write_spool();
	exit(EX_OK);
}

static void
s_eof_idle(void)
{
	close(IPC_FD);
	wait_for_the_end();
}

/* Whatever else is wrong inside a frame */

static void
s_attr(void)
{
	struct record r;

	begin_files(1);
	good_record(&r, "/evil.csv");
	r.attrs[r.n_attrs++] = (struct record_attr){ .id = task.source.type == SOURCE_LOCAL ? SA_DUMMY_INDEX :
	    SA_LOCAL_UID, .is_int = true, .i = 1 };
	add_record(&out, &r);
	send_out();
}

static void
s_log(void)
{
	ipc_begin(&out, MSG_LOG, generation, task_id);
	log_frame_encode(&out, LOG_ERROR, "not a\nname", NULL, 0);
	send_out();
}

static void
s_done_garbage(void)
{
	ipc_begin(&out, MSG_DONE, generation, task_id);
	memset(buf_room(&out, 200), 0xff, 200);
	out.len += 200;
	send_out();
}

/* What only the master may say of a job. */
static void
s_masters_class(void)
{
	struct task_done d;

	memset(&d, 0, sizeof(d));
	d.cls = ERR_KAFKA;
	ipc_begin(&out, MSG_DONE, generation, task_id);
	task_done_encode(&d, &out);
	send_out();
}

static void
s_spool_garbage(void)
{
	for (int i = 0; i < 5000; i++)
		buf_putc(&spool, (char)(i * 7));
	finish(2);
}

enum moment { AT_JOB, BEFORE_HELLO, AFTER_HELLO, AFTER_READY };

/*
 * The corpus, which t/42-evil-worker.t reads from here: class-case, sin, what the master answers, moment. The answer
 * is a part of the rule it names in its log; or =served, =timeout, =gone (an end of file, or the process), =start (not
 * READY in time). + before a rule: the job itself was served. Jobs of cases with "spool" in their name are atomic.
 */
static const struct sin { const char *name; void (*commit)(void); const char *answer; enum moment when; } sins[] = {
	/* short */
	{ "short-no_header", s_no_header, "shorter than its header", AT_JOB },
	{ "short-no_bytes", s_no_bytes, "=gone", AT_JOB },
	{ "short-bare_header", s_bare_header, "DONE of 0 bytes is out of its bounds", AT_JOB },
	{ "short-cut_record", s_cut_record, "ends before its end", AT_JOB },
	{ "short-spool", s_cut_spool, "shorter than its header", AT_JOB },
	{ "short-before_hello", s_no_header, "shorter than its header", BEFORE_HELLO },
	/* long */
	{ "long-over_limit", s_over_limit, "over the limit", AT_JOB },
	{ "long-over_files", s_over_files, "FILES of 65512 bytes is out of its bounds", AT_JOB },
	{ "long-over_progress", s_over_progress, "PROGRESS of 1016 bytes is out of its bounds", AT_JOB },
	{ "long-bytes_after", s_bytes_after, "FILES with 3 bytes after its 1 record", AT_JOB },
	{ "long-path", s_long_path, "a string is too long", AT_JOB },
	/* requests that nobody counts */
	{ "ask-unasked", s_ask, "ASK of a task that has no limit", AT_JOB },
	{ "ask-nothing", s_ask_nothing, "ASK for 0 requests", AT_JOB },
	{ "ask-much", s_ask_much, "ASK for 1025 requests", AT_JOB },
	{ "ask-turns", s_turns, "TURNS is not for this side to send", AT_JOB },
	/* unknown type */
	{ "unknown_type-gap", s_type_gap, "unknown type 57", AT_JOB },
	{ "unknown_type-zero", s_type_zero, "unknown type 0", AT_JOB },
	{ "unknown_type-past_table", s_type_64, "unknown type 64", AT_JOB },
	{ "unknown_type-max", s_type_max, "unknown type 65535", AFTER_READY },
	{ "unknown_type-reserved", s_reserved, "reserved bytes", AT_JOB },
	/* wrong state */
	{ "wrong_state-ready", s_ready, "READY is out of turn", AT_JOB },
	{ "wrong_state-hello", s_hello, "HELLO is out of turn", AT_JOB },
	{ "wrong_state-job", s_job, "JOB is not for this side to send", AT_JOB },
	{ "wrong_state-keys", s_keys, "KEYS is not a frame of a task", AT_JOB },
	{ "wrong_state-stat", s_stat, "STAT is not for this side to send", AT_JOB },
	{ "wrong_state-done_twice", s_done_twice, "+DONE is out of turn", AT_JOB },
	{ "wrong_state-files_after_done", s_files_after_done, "+FILES is out of turn", AT_JOB },
	{ "wrong_state-socket_not_spool", s_files, "FILES on the socket of an atomic job", AT_JOB },
	{ "wrong_state-done_in_spool", s_done_in_spool, "not this task's", AT_JOB },
	{ "wrong_state-ready_first", s_ready, "READY is out of turn", BEFORE_HELLO },
	{ "wrong_state-files_before_hello", s_files, "FILES is out of turn", BEFORE_HELLO },
	{ "wrong_state-done_without_job", s_done, "DONE is out of turn", AFTER_READY },
	/* wrong generation */
	{ "wrong_generation-next", s_next_generation, "FILES of generation", AT_JOB },
	{ "wrong_generation-zero", s_generation_zero, "FILES of generation 0,", AT_JOB },
	{ "wrong_generation-max", s_generation_max, "DONE of generation 4294967295,", AT_JOB },
	{ "wrong_generation-spool", s_generation_spool, "not this task's", AT_JOB },
	{ "wrong_generation-hello", s_generation_hello, "HELLO of generation 2,", BEFORE_HELLO },
	/* other task's id */
	{ "other_task-next", s_next_task, "FILES for a task that is not", AT_JOB },
	{ "other_task-zero", s_task_zero, "DONE for a task that is not", AT_JOB },
	{ "other_task-max", s_task_max, "PROGRESS for a task that is not", AT_JOB },
	{ "other_task-spool", s_task_spool, "not this task's", AT_JOB },
	/* lengths past the end */
	{ "past_end-more", s_says_more, "bytes where", AT_JOB },
	{ "past_end-less", s_says_less, "bytes where", AT_JOB },
	{ "past_end-nothing", s_says_nothing, "frame says 0 bytes where", AT_JOB },
	{ "past_end-path", s_says_path, "a string is too long", AT_JOB },
	{ "past_end-spool_frame", s_says_spool_frame, "bytes where", AT_JOB },
	{ "past_end-spool", s_says_spool, "shorter than its header", AT_JOB },
	/* counts that lie */
	{ "count_lies-more", s_count_more, "ends before its end", AT_JOB },
	{ "count_lies-fewer", s_count_fewer, "bytes after its 1 record", AT_JOB },
	{ "count_lies-zero", s_count_zero, "FILES with a count of 0", AT_JOB },
	{ "count_lies-max", s_count_max, "FILES with a count of 4294967295", AT_JOB },
	{ "count_lies-matched", s_matched_more, "DONE said 3 of 3 files, 2 came", AT_JOB },
	{ "count_lies-unlisted", s_matched_unlisted, "counts that do not add up", AT_JOB },
	{ "count_lies-spool", s_matched_more, "DONE said 3 files, the spool holds 2", AT_JOB },
	/* bad UTF-8 flags */
	{ "bad_utf8-flag_false", s_flag_false, "UTF-8 flag is not true", AT_JOB },
	{ "bad_utf8-flag_missing", s_flag_missing, "UTF-8 flag is not true", AT_JOB },
	{ "bad_utf8-overlong", s_flag_overlong, "UTF-8 flag is not true", AT_JOB },
	{ "bad_utf8-surrogate_in_spool", s_flag_surrogate, "UTF-8 flag is not true", AT_JOB },
	{ "bad_utf8-unknown_flag", s_flag_unknown, "unknown flags", AT_JOB },
	/* flood */
	{ "flood-logs", s_flood_logs, "LOG and PROGRESS frames in a second", AT_JOB },
	{ "flood-long_logs", s_flood_long_logs, "LOG and PROGRESS frames in a second", AT_JOB },
	{ "flood-progress", s_flood_progress, "LOG and PROGRESS frames in a second", AT_JOB },
	{ "flood-refused", s_flood_refused, "unknown type 57", AT_JOB },
	{ "flood-before_hello", s_flood_logs, "LOG and PROGRESS frames in a second", BEFORE_HELLO },
	/* silence */
	{ "silence-before_hello", s_silence, "=start", BEFORE_HELLO },
	{ "silence-after_hello", s_silence, "=start", AFTER_HELLO },
	{ "silence-at_job", s_silence, "=timeout", AT_JOB },
	{ "silence-half_of_files", s_silence_half, "=timeout", AT_JOB },
	{ "silence-deaf", s_silence_deaf, "=timeout", AT_JOB },
	{ "silence-stopped", s_silence_stopped, "=timeout", AT_JOB },
	/* descriptors attached */
	{ "descriptors-often", s_fds_often, "=served", AT_JOB },
	{ "descriptors-many", s_fds_many, "=served", AT_JOB },
	{ "descriptors-own", s_fds_own, "=served", AT_JOB },
	{ "descriptors-refused", s_fds_refused, "ends before its end", AT_JOB },
	/* EOF in the middle */
	{ "eof-close", s_eof_close, "=gone", AT_JOB },
	{ "eof-half_closed", s_eof_half_closed, "=gone", AT_JOB },
	{ "eof-exit", s_eof_exit, "=gone", AT_JOB },
	{ "eof-killed", s_eof_killed, "=gone", AT_JOB },
	{ "eof-spool", s_eof_spool, "=gone", AT_JOB },
	{ "eof-before_hello", s_eof_idle, "=gone", BEFORE_HELLO },
	{ "eof-idle", s_eof_idle, "=gone", AFTER_READY },
	/* wrong inside */
	{ "inside-attr", s_attr, "attribute is of another source type", AT_JOB },
	{ "inside-log", s_log, "LOG", AT_JOB },
	{ "inside-done", s_done_garbage, "DONE", AT_JOB },
	{ "inside-masters_class", s_masters_class, "class that a worker may not report", AT_JOB },
	{ "inside-spool", s_spool_garbage, "", AT_JOB },
	/* the same under names without a class, which other tests use */
	{ "eof_in_middle", s_eof_close, "=gone", AT_JOB },
	{ "bad_done", s_done_garbage, "DONE", AT_JOB },
};

static void
serve(void)
{
	const char *name = task.source.v[SF_DUMMY_NAME_TEMPLATE].s;

	buf_clear(&spool);
	if (!name || strncmp(name, "evil:", 5)) {
		serve_well();
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(sins); i++) {
		if (sins[i].when == AT_JOB && !strcmp(sins[i].name, name + 5)) {
			sins[i].commit();
			return;
		}
	}
	dprintf(STDERR_FILENO, "evil_worker: no sin is called \"%s\"\n", name + 5);
	exit(EX_USAGE);
}

static struct frame
receive(void)
{
	static uint8_t in[IPC_FRAME_MAX + 1];
	struct err e = ERR_INIT;
	struct frame f;

	if (ipc_recv(IPC_FD, 0, in, &f, &e) != 1)
		exit(EX_OK);
	return f;
}

/* The sin of the n-th row that is not for a job; NULL past the last. */
static const struct sin *
start_sin(int64_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(sins); i++)
		if (sins[i].when != AT_JOB && n-- == 0)
			return &sins[i];
	return NULL;
}

static void
at(const struct sin *s, enum moment when)
{
	if (s && s->when == when)
		s->commit();
}

static void
begin(const struct sin *s)
{
	at(s, BEFORE_HELLO);
	s_hello();
	at(s, AFTER_HELLO);
	if (receive().type != MSG_SETUP)
		exit(EX_CONFIG);
	ready_frame();
	send_raw(out.p, out.len);
	at(s, AFTER_READY);
}

/* Asked for credentials: the name of the role's session says how to answer. */
static void
serve_keys(const struct frame *f)
{
	char id[] = "ASIA", secret[] = "secret", token[] = "token", odd[] = "tok\nen";
	struct keys k = { id, secret, token, clock_real_ns() + INT64_C(3600000000000) };
	struct err e = ERR_INIT;
	struct keys_ask a;

	task_id = f->task;
	if (keys_ask_decode(&a, f->payload, f->n, &e))
		exit(EX_DATAERR);
	if (!strcmp(a.session_name, "evil-files")) {
		files_frame(&out, 1, 1);
	} else if (!strcmp(a.session_name, "evil-done")) {
		done_frame(&out, 0, 0);
	} else {
		if (!strcmp(a.session_name, "evil-expired"))
			k.expires_ns = 1;
		if (!strcmp(a.session_name, "evil-odd"))
			k.session_token = odd;
		ipc_begin(&out, MSG_KEYS, generation, task_id);
		keys_encode(&k, &out);
		if (!strcmp(a.session_name, "evil-more"))
			buf_u8(&out, 0);
		if (!strcmp(a.session_name, "evil-less"))
			out.len--;
		ipc_finish(&out);
	}
	keys_ask_release(&a);
	send_raw(out.p, out.len);
	wait_for_the_end();
}

int
main(int argc, char **argv)
{
	bool at_start = argc == 5 && !strcmp(argv[1], "--sin-at-start");
	struct err e = ERR_INIT;
	int64_t slot, g;

	argv += at_start;
	if (argc - at_start != 4 || units_int(argv[2], &slot) || units_int(argv[3], &g))
		return EX_USAGE;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	generation = (uint32_t)g;
	begin(at_start && g == 1 ? start_sin(slot) : NULL);
	for (;;) {
		struct frame f = receive();

		if (f.type == MSG_STOP)
			return EX_OK;
		if (f.type == MSG_KEYS_ASK) {
			serve_keys(&f);
			continue;
		}
		if (f.type != MSG_JOB)
			continue;
		task_id = f.task;
		if (task_spec_decode(&task, f.payload, f.n, &e)) {
			dprintf(STDERR_FILENO, "evil_worker: %s\n", e.text);
			return EX_DATAERR;
		}
		serve();
		task_spec_release(&task);
	}
}
