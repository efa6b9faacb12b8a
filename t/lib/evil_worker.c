/*
 * evil_worker.c - a worker that breaks one rule at a time, for tests that give it to the daemon as workers.path.
 *
 * It starts as it should (HELLO, SETUP, READY). A job whose name_template is "evil:KIND" is answered by that sin; any
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

/* The sins */

static void
s_short(void)
{
	send_raw("too short", 9);
}

static void
s_long(void)
{
	ipc_begin(&out, MSG_FILES, generation, task_id);
	memset(buf_room(&out, 80000), 'x', 80000);
	out.len += 80000;
	seal(&out);
	send_raw(out.p, out.len);
}

static void
s_unknown_type(void)
{
	ipc_begin(&out, (enum msg_type)57, generation, task_id);
	buf_puts(&out, "nobody knows this type");
	seal(&out);
	send_raw(out.p, out.len);
}

static void
s_wrong_state(void)
{
	struct ready r = { "out of turn" };

	ipc_begin(&out, MSG_READY, generation, 0);
	ready_encode(&r, &out);
	seal(&out);
	send_raw(out.p, out.len);
}

static void
s_master_type(void)
{
	ipc_begin(&out, MSG_JOB, generation, task_id);
	buf_puts(&out, "a worker gives no jobs to anybody");
	seal(&out);
	send_raw(out.p, out.len);
}

static void
s_wrong_generation(void)
{
	generation++;
	files_frame(&out, 1, 1);
	generation--;
	send_raw(out.p, out.len);
}

static void
s_other_task(void)
{
	task_id++;
	files_frame(&out, 1, 1);
	task_id--;
	send_raw(out.p, out.len);
}

static void
s_length_past_end(void)
{
	uint32_t len;

	files_frame(&out, 1, 1);
	len = (uint32_t)out.len + 100;
	memcpy(out.p, &len, sizeof(len));
	send_raw(out.p, out.len);
}

static void
s_count_lies(void)
{
	files_frame(&out, 1000, 1);
	deliver(&out);
	finish(1000);
}

static void
s_count_zero(void)
{
	files_frame(&out, 0, 1);
	deliver(&out);
	finish(0);
}

static void
s_matched_lies(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	finish(3);
}

/* Flips the flags byte of the frame's first record. */
static void
flip_flags(unsigned bits)
{
	out.p[IPC_HEADER + 4] = (char)((uint8_t)out.p[IPC_HEADER + 4] ^ bits);
}

static void
s_bad_utf8_flag(void)
{
	struct record r;

	ipc_begin(&out, MSG_FILES, generation, task_id);
	buf_u32(&out, 1);
	good_record(&r, "/evil_\xff.csv");
	add_record(&out, &r);
	seal(&out);
	flip_flags(2);
	deliver(&out);
	finish(1);
}

static void
s_bad_attr(void)
{
	struct record r;

	ipc_begin(&out, MSG_FILES, generation, task_id);
	buf_u32(&out, 1);
	good_record(&r, "/evil.csv");
	r.attrs[r.n_attrs++] = (struct record_attr){ .id = task.source.type == SOURCE_LOCAL ? SA_DUMMY_INDEX :
	    SA_LOCAL_UID, .is_int = true, .i = 1 };
	add_record(&out, &r);
	seal(&out);
	deliver(&out);
	finish(1);
}

static void
s_huge_record(void)
{
	static char path[RECORD_PATH_MAX + 4000];

	memset(path, 'x', sizeof(path));
	ipc_begin(&out, MSG_FILES, generation, task_id);
	buf_u32(&out, 1);
	buf_u8(&out, 2);
	buf_u8(&out, MTIME_NONE);
	buf_bytes(&out, path, sizeof(path));
	buf_u32(&out, 0);
	buf_i64(&out, -1);
	buf_i64(&out, TIME_UNKNOWN);
	buf_u8(&out, 0);
	seal(&out);
	deliver(&out);
	finish(1);
}

static void
s_flood(void)
{
	struct log_field f = LS("text", "the worker floods its master with lines that nobody asked for");

	for (;;) {
		ipc_begin(&out, MSG_LOG, generation, task_id);
		log_frame_encode(&out, LOG_ERROR, "evil_flood", &f, 1);
		seal(&out);
		send_raw(out.p, out.len);
	}
}

static void
s_bad_log(void)
{
	ipc_begin(&out, MSG_LOG, generation, task_id);
	log_frame_encode(&out, LOG_ERROR, "not a\nname", NULL, 0);
	seal(&out);
	send_raw(out.p, out.len);
}

static void
s_silence(void)
{
	wait_for_the_end();
}

/* A right answer, but each frame carries descriptors. The master must not take them. */
static void
s_descriptors(void)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(8 * sizeof(int))]; } control;
	int fds[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
	struct iovec iov;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct progress g = { 1, 1 };

	for (int i = 0; i < 100; i++) {
		ipc_begin(&out, MSG_PROGRESS, generation, task_id);
		progress_encode(&g, &out);
		seal(&out);
		iov = (struct iovec){ out.p, out.len };
		memset(&control, 0, sizeof(control));
		control.h.cmsg_level = SOL_SOCKET;
		control.h.cmsg_type = SCM_RIGHTS;
		control.h.cmsg_len = CMSG_LEN(sizeof(fds));
		memcpy(CMSG_DATA(&control.h), fds, sizeof(fds));
		if (sendmsg(IPC_FD, &m, MSG_NOSIGNAL) < 0)
			exit(EX_OK);
	}
	serve_well();
}

static void
s_eof_in_middle(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	close(IPC_FD);
	wait_for_the_end();
}

static void
s_exit_in_middle(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	exit(EX_OK);
}

static void
s_duplicate_done(void)
{
	serve_well();
	send_raw(out.p, out.len);
}

static void
s_bad_done(void)
{
	ipc_begin(&out, MSG_DONE, generation, task_id);
	memset(buf_room(&out, 200), 0xff, 200);
	out.len += 200;
	seal(&out);
	send_raw(out.p, out.len);
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
	seal(&out);
	send_raw(out.p, out.len);
}

/* DONE speaks of more than the spool holds. */
static void
s_spool_lies(void)
{
	files_frame(&out, 2, 2);
	deliver(&out);
	write_spool();
	done_frame(&out, 2, spool.len + 1000);
	send_raw(out.p, out.len);
}

static void
s_spool_garbage(void)
{
	for (int i = 0; i < 5000; i++)
		buf_putc(&spool, (char)(i * 7));
	finish(2);
}

/* The frames of another task in this one's spool. */
static void
s_spool_stale(void)
{
	task_id++;
	files_frame(&out, 2, 2);
	task_id--;
	deliver(&out);
	finish(2);
}

/* Frames that belong to the socket, in the spool. */
static void
s_spool_types(void)
{
	done_frame(&out, 2, 0);
	deliver(&out);
	finish(2);
}

static const struct { const char *name; void (*commit)(void); } sins[] = {
	{ "short", s_short }, { "long", s_long }, { "unknown_type", s_unknown_type }, { "wrong_state", s_wrong_state },
	{ "master_type", s_master_type }, { "wrong_generation", s_wrong_generation }, { "other_task", s_other_task },
	{ "length_past_end", s_length_past_end }, { "count_lies", s_count_lies }, { "count_zero", s_count_zero },
	{ "matched_lies", s_matched_lies }, { "bad_utf8_flag", s_bad_utf8_flag }, { "bad_attr", s_bad_attr },
	{ "huge_record", s_huge_record }, { "flood", s_flood }, { "bad_log", s_bad_log }, { "silence", s_silence },
	{ "descriptors", s_descriptors }, { "eof_in_middle", s_eof_in_middle }, { "exit_in_middle", s_exit_in_middle },
	{ "duplicate_done", s_duplicate_done }, { "bad_done", s_bad_done }, { "masters_class", s_masters_class },
	{ "spool_lies", s_spool_lies }, { "spool_garbage", s_spool_garbage }, { "spool_stale", s_spool_stale },
	{ "spool_types", s_spool_types },
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
		if (!strcmp(sins[i].name, name + 5)) {
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

static void
begin(void)
{
	struct ready r = { "none: this worker is evil" };

	ipc_begin(&out, MSG_HELLO, generation, 0);
	hello_encode(&out);
	seal(&out);
	send_raw(out.p, out.len);
	if (receive().type != MSG_SETUP)
		exit(EX_CONFIG);
	ipc_begin(&out, MSG_READY, generation, 0);
	ready_encode(&r, &out);
	seal(&out);
	send_raw(out.p, out.len);
}

int
main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	int64_t g;

	if (argc != 4 || units_int(argv[3], &g))
		return EX_USAGE;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	generation = (uint32_t)g;
	begin();
	for (;;) {
		struct frame f = receive();

		if (f.type == MSG_STOP)
			return EX_OK;
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
