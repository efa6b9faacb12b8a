/*
 * common_ipc.c - frames: round trips, every rule of a frame broken, random bytes, a real socketpair.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc.h"
#include "common/banned.h"

static void
make(struct buf *b, enum msg_type type, size_t n)
{
	ipc_begin(b, type, 7, 42);
	memset(buf_room(b, n), 'x', n);
	b->len += n;
}

START_TEST(frame_goes_round)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct frame f;
	uint8_t in[IPC_FRAME_MAX + 1];
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	ck_assert_int_eq(ipc_recv(s[1], MSG_DONTWAIT, in, &f, &e), 0);
	make(&b, MSG_FILES, 1000);
	ipc_finish(&b);
	ck_assert_int_eq(ipc_send(s[0], &b), 1);
	ck_assert_int_eq(ipc_recv(s[1], 0, in, &f, &e), 1);
	ck_assert_int_eq(f.type, MSG_FILES);
	ck_assert_uint_eq(f.generation, 7);
	ck_assert_uint_eq(f.task, 42);
	ck_assert_uint_eq(f.n, 1000);
	ck_assert_int_eq(f.payload[999], 'x');
	close(s[0]);
	ck_assert_int_eq(ipc_recv(s[1], 0, in, &f, &e), -1);
	ck_assert_int_eq(e.cls, ERR_OK);
	ck_assert_int_eq(ipc_send(s[1], &b), -1);
	ck_assert_int_eq(errno, EPIPE);
	close(s[1]);
	ck_assert_int_eq(ipc_recv(s[1], 0, in, &f, &e), -1);
	ck_assert_int_eq(e.cls, ERR_SYSTEM);
	buf_release(&b);
}
END_TEST

START_TEST(sending_never_blocks)
{
	struct buf b = BUF_INIT;
	int s[2], r, sent = 0;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	make(&b, MSG_FILES, 60000);
	ipc_finish(&b);
	while ((r = ipc_send(s[0], &b)) == 1)
		sent++;
	ck_assert_int_eq(r, 0);
	ck_assert_int_gt(sent, 0);
	close(s[0]);
	close(s[1]);
	buf_release(&b);
}
END_TEST

START_TEST(descriptors_are_not_taken)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct frame f;
	uint8_t in[IPC_FRAME_MAX + 1];
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } control;
	struct iovec iov;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control) };
	int s[2], before, after;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	make(&b, MSG_PROGRESS, 16);
	ipc_finish(&b);
	iov = (struct iovec){ b.p, b.len };
	memset(&control, 0, sizeof(control));
	control.h.cmsg_level = SOL_SOCKET;
	control.h.cmsg_type = SCM_RIGHTS;
	control.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.h), &s[0], sizeof(int));
	ck_assert_int_ge(sendmsg(s[0], &m, MSG_NOSIGNAL), 0);
	before = dup(0);
	close(before);
	ck_assert_int_eq(ipc_recv(s[1], 0, in, &f, &e), 1);
	after = dup(0);
	close(after);
	ck_assert_int_eq(before, after);
	buf_release(&b);
}
END_TEST

/* One rule broken a row: bytes written over a right PROGRESS frame of 16 bytes payload. */
static const struct { const char *what; size_t at; uint8_t bytes[4]; size_t n; } broken[] = {
	{ "length zero", 0, { 0, 0, 0, 0 }, 4 },
	{ "length shorter than the header", 0, { 23, 0, 0, 0 }, 4 },
	{ "length one less", 0, { 39, 0, 0, 0 }, 4 },
	{ "length past the end", 0, { 41, 0, 0, 0 }, 4 },
	{ "length huge", 0, { 255, 255, 255, 255 }, 4 },
	{ "type 0", 4, { 0, 0 }, 2 },
	{ "type without a row", 4, { 9, 0 }, 2 },
	{ "type past the table", 4, { 64, 0 }, 2 },
	{ "type huge", 4, { 255, 255 }, 2 },
	{ "type with another payload", 4, { 13, 0 }, 2 },
	{ "reserved 1", 6, { 1, 0 }, 2 },
	{ "reserved 2", 12, { 0, 0, 0, 1 }, 4 },
};

START_TEST(broken_frames)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct frame f;
	uint8_t in[IPC_FRAME_MAX + 1];
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	make(&b, MSG_PROGRESS, 16);
	ipc_finish(&b);
	memcpy(b.p + broken[_i].at, broken[_i].bytes, broken[_i].n);
	ck_assert_int_eq(ipc_send(s[0], &b), 1);
	ck_assert_msg(ipc_recv(s[1], 0, in, &f, &e) == -2, "%s was taken", broken[_i].what);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	buf_release(&b);
}
END_TEST

START_TEST(oversized_and_short)
{
	static char bytes[IPC_FRAME_MAX + 5000];
	struct err e = ERR_INIT;
	struct frame f;
	uint8_t in[IPC_FRAME_MAX + 1];
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	for (size_t n = 1; n < IPC_HEADER; n++) {
		ck_assert_int_eq(send(s[0], bytes, n, 0), (ssize_t)n);
		ck_assert_int_eq(ipc_recv(s[1], 0, in, &f, &e), -2);
	}
	for (size_t n = IPC_FRAME_MAX + 1; n <= sizeof(bytes); n += 1333) {
		ck_assert_int_eq(send(s[0], bytes, n, 0), (ssize_t)n);
		ck_assert_int_eq(ipc_recv(s[1], 0, in, &f, &e), -2);
	}
}
END_TEST

START_TEST(truncated_in_memory)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct frame f;
	size_t used;

	make(&b, MSG_FILES, 300);
	ipc_finish(&b);
	for (size_t n = 0; n < b.len; n++) {
		/* an exact copy, so that a sanitizer sees a read past it */
		uint8_t *copy = malloc(n ? n : 1);

		memcpy(copy, b.p, n);
		ck_assert_int_eq(ipc_parse(copy, n, &f, &used, &e), -2);
		free(copy);
	}
	buf_puts(&b, "next frame");
	ck_assert_int_eq(ipc_parse((const uint8_t *)b.p, b.len, &f, &used, &e), 1);
	ck_assert_uint_eq(used, IPC_HEADER + 300);
	buf_release(&b);
}
END_TEST

START_TEST(random_bytes)
{
	struct err e = ERR_INIT;
	struct frame f;
	uint8_t p[96];
	size_t used;

	srandom(1);
	for (int round = 0; round < 100000; round++) {
		size_t n = (size_t)random() % sizeof(p);
		int r;

		for (size_t i = 0; i < n; i++)
			p[i] = (uint8_t)(random() % 4 ? random() % 16 : random());
		r = ipc_parse(p, n, &f, &used, &e);
		ck_assert(r == 1 || r == -2);
		if (r == 1)
			ck_assert(used <= n && f.payload + f.n == p + used);
	}
}
END_TEST

static const struct { enum msg_type type; enum ipc_sender sender; enum worker_state state; int want; } turns[] = {
	{ MSG_HELLO, IPC_WORKER, WORKER_STARTING, 0 },
	{ MSG_HELLO, IPC_WORKER, WORKER_IDLE, -1 },
	{ MSG_READY, IPC_WORKER, WORKER_BUSY, -1 },
	{ MSG_FILES, IPC_WORKER, WORKER_BUSY, 0 },
	{ MSG_FILES, IPC_WORKER, WORKER_DRAINING, 0 },
	{ MSG_FILES, IPC_WORKER, WORKER_IDLE, -1 },
	{ MSG_FILES, IPC_MASTER, WORKER_BUSY, -1 },
	{ MSG_DONE, IPC_WORKER, WORKER_STARTING, -1 },
	{ MSG_JOB, IPC_WORKER, WORKER_IDLE, -1 },
	{ MSG_JOB, IPC_MASTER, WORKER_IDLE, 0 },
	{ MSG_LOG, IPC_WORKER, WORKER_STARTING, 0 },
	{ MSG_LOG, IPC_WORKER, WORKER_DYING, -1 },
	{ MSG_STAT, IPC_WORKER, WORKER_IDLE, -1 },
	{ MSG_STAT, IPC_HTTP, WORKER_IDLE, 0 },
	{ MSG_TALLY, IPC_WORKER, WORKER_IDLE, -1 },
	{ MSG_TALLY, IPC_CONNECTOR, WORKER_IDLE, 0 },
	{ MSG_TALLY, IPC_CONNECTOR, WORKER_STARTING, -1 },
	{ (enum msg_type)63, IPC_WORKER, WORKER_IDLE, -1 },
};

START_TEST(turn)
{
	struct frame f = { .type = turns[_i].type };
	struct err e = ERR_INIT;

	ck_assert_int_eq(ipc_check(&f, turns[_i].sender, turns[_i].state, &e), turns[_i].want);
	if (turns[_i].want)
		ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
}
END_TEST

START_TEST(bounds_and_names)
{
	struct buf b = BUF_INIT;

	make(&b, MSG_FILES, 65000);
	ck_assert(ipc_fits(&b));
	buf_putc(&b, 'x');
	ck_assert(!ipc_fits(&b));
	make(&b, MSG_FILES, 3);
	ck_assert(!ipc_fits(&b));
	ck_assert_str_eq(ipc_name(MSG_FILES), "FILES");
	ck_assert_str_eq(ipc_name(MSG__NONE), "?");
	ck_assert_str_eq(ipc_name((enum msg_type)4000), "?");
	buf_release(&b);
}
END_TEST

START_TEST(own_bug_aborts)
{
	struct buf b = BUF_INIT;

	make(&b, MSG_FILES, 65001);
	ipc_finish(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_ipc");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, frame_goes_round);
	tcase_add_test(t, sending_never_blocks);
	tcase_add_test(t, descriptors_are_not_taken);
	tcase_add_loop_test(t, broken_frames, 0, sizeof(broken) / sizeof(broken[0]));
	tcase_add_test(t, oversized_and_short);
	tcase_add_test(t, truncated_in_memory);
	tcase_add_test(t, random_bytes);
	tcase_add_loop_test(t, turn, 0, sizeof(turns) / sizeof(turns[0]));
	tcase_add_test(t, bounds_and_names);
	tcase_add_test_raise_signal(t, own_bug_aborts, 6);
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
