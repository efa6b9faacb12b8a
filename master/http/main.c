/*
 * main.c - iis-poller-http: serves the master's pages to browsers and scrapers, sandboxed, beside nobody's secrets.
 *
 * Started by the master alone: descriptor 3 is the frame socket, 5 the page of sandbox_refused.c, 6 the listening socket, 1
 * and 2 a pipe that the master reads. It opens nothing and connects to nothing. Exit codes: 0 told to end, or the master is gone; 64 started
 * by hand; 70 the master broke the protocol; 71 the system refused something; 78 the kernel lacks what the sandbox needs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "common/ipc.h"
#include "common/sandbox.h"
#include "common/task.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/http/http.h"
#include "common/banned.h"

#define FRAMES_A_ROUND 32
#define STAT_MS 1000

static struct {
	struct loop *loop;
	struct pages *pages;
	struct server *server;
	struct timer stat;
	struct page_stat told;
	struct buf out;
	uint32_t generation;
	int code;
	uint8_t in[IPC_FRAME_MAX + 1];
} http;

static void __attribute__((noreturn))
out_of_memory(size_t wanted)
{
	dprintf(STDERR_FILENO, "iis-poller-http: out of memory (%zu bytes wanted)\n", wanted);
	_exit(EX_OSERR);
}

static int
die(int code, const char *text)
{
	dprintf(STDERR_FILENO, "iis-poller-http: %s\n", text);
	return code;
}

static int
usage(int fd, int code)
{
	dprintf(fd,
	    "usage: iis-poller-http --help | --version\n"
	    "\n"
	    "Serves the status pages of iis-pollerd, which starts it with its own descriptors. See iis-poller-http(8).\n");
	return code;
}

/* ---- frames ------------------------------------------------------------------------------------------------------------ */

static void
end(int code)
{
	http.code = code;
	loop_stop(http.loop);
}

static int
frame_in(const struct frame *f, struct err *e)
{
	struct page_piece piece;

	if (ipc_check(f, IPC_MASTER, WORKER_IDLE, e) < 0)
		return -1;
	if (f->type == MSG_STOP) {
		end(EX_OK);
		return 0;
	}
	if (f->type != MSG_PAGE)
		return err_set(e, ERR_WORKER_PROTOCOL, "%s is not for the status child", ipc_name(f->type));
	if (page_piece_decode(&piece, f->payload, f->n, e) < 0)
		return -1;
	return pages_put(http.pages, &piece, loop_now(http.loop), e);
}

static void
on_master(void *arg, int fd, uint32_t events)
{
	struct err e = ERR_INIT;
	struct frame f;
	int r;

	(void)arg;
	(void)events;
	for (int i = 0; i < FRAMES_A_ROUND; i++) {
		r = ipc_recv(fd, MSG_DONTWAIT, http.in, &f, &e);
		if (r == 0)
			return;
		if (r == -1) {
			end(EX_OK);     /* the master is gone */
			return;
		}
		if (r == -2 || frame_in(&f, &e) < 0) {
			end(die(EX_SOFTWARE, e.text));
			return;
		}
	}
}

/* What is not taken now is part of the next count. */
static void
on_stat(void *arg)
{
	struct page_stat s;

	(void)arg;
	timer_set(http.loop, &http.stat, STAT_MS);
	server_stat(http.server, &s);
	if (s.served == http.told.served && s.refused == http.told.refused)
		return;
	ipc_begin(&http.out, MSG_STAT, http.generation, 0);
	page_stat_encode(&s, &http.out);
	ipc_finish(&http.out);
	if (ipc_send(IPC_FD, &http.out) == 1)
		http.told = s;
}

/* ---- start -------------------------------------------------------------------------------------------------------------- */

static int
send_now(struct err *e)
{
	ipc_finish(&http.out);
	return ipc_send(IPC_FD, &http.out) == 1 ? 0 : err_errno(e, ERR_SYSTEM, "sending to the master");
}

/* 0, or the exit code + 1 where there is nothing to serve. */
static int
shake_hands(struct setup *setup, struct err *e)
{
	struct frame f;
	int r;

	ipc_begin(&http.out, MSG_HELLO, http.generation, 0);
	hello_encode(&http.out);
	if (send_now(e) < 0)
		return die(EX_OSERR, e->text) + 1;
	r = ipc_recv(IPC_FD, 0, http.in, &f, e);
	if (r == -1 || (r == 1 && f.type == MSG_STOP))
		return EX_OK + 1;
	if (r != 1 || f.type != MSG_SETUP)
		return die(EX_SOFTWARE, "the master did not send SETUP") + 1;
	http.generation = f.generation;
	return setup_decode(setup, f.payload, f.n, e) < 0 ? die(EX_SOFTWARE, e->text) + 1 : 0;
}

static int
say_ready(const struct sandbox *s, struct err *e)
{
	struct ready ready = { .sandbox = "" };

	if (sandbox_enter(s, &ready.active, ready.sandbox, sizeof(ready.sandbox), e) < 0)
		return -1;
	ipc_begin(&http.out, MSG_READY, http.generation, 0);
	ready_encode(&ready, &http.out);
	return send_now(e);
}

static int
serve(struct sandbox *s, unsigned connections, int64_t deadline_ms)
{
	struct err e = ERR_INIT;
	struct setup setup;
	struct watch *w;
	int r;

	setup_init(&setup);
	r = shake_hands(&setup, &e);
	s->data_max = setup.memory_max;
	s->open_files = setup.open_files;
	s->rules = setup.sandbox;
	setup_release(&setup);
	if (r)
		return r - 1;
	tzset();
	http.loop = loop_new();
	http.pages = pages_new();
	if (!http.loop)
		return die(EX_OSERR, "no event loop");
	/* Before the sandbox closes: the library makes its descriptors now. */
	http.server = server_new(http.loop, http.pages, IPC_LISTEN_FD, connections, deadline_ms, &e);
	if (!http.server || say_ready(s, &e) < 0)
		return die(e.cls == ERR_CONFIG ? EX_CONFIG : EX_OSERR, e.text);
	w = loop_watch(http.loop, IPC_FD, EPOLLIN, on_master, NULL);
	if (!w)
		return die(EX_OSERR, "cannot watch the master's socket");
	timer_init(&http.stat, on_stat, NULL);
	timer_set(http.loop, &http.stat, STAT_MS);
	loop_run(http.loop);
	loop_unwatch(http.loop, &w);
	return http.code;
}

/* The frame socket, and who is at its other end; 0 where there is none. */
static pid_t
master_pid(void)
{
	struct ucred peer = { .pid = 0 };
	int type = 0, listening = 0;
	socklen_t n = sizeof(type);

	if (getsockopt(IPC_FD, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || type != SOCK_SEQPACKET)
		return 0;
	n = sizeof(listening);
	if (getsockopt(IPC_LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || !listening)
		return 0;
	n = sizeof(peer);
	return getsockopt(IPC_FD, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 ? 0 : peer.pid;
}

/* "--http CONNECTIONS DEADLINE_MS GENERATION" */
static int
parse_args(int argc, char **argv, int64_t v[3])
{
	if (argc != 5 || strcmp(argv[1], "--http"))
		return -1;
	for (int i = 0; i < 3; i++)
		if (units_int(argv[2 + i], &v[i]) < 0 || v[i] < 0 || v[i] > UINT32_MAX)
			return -1;
	return v[0] && v[1] ? 0 : -1;
}

int
main(int argc, char **argv)
{
	struct sandbox s = { .keep_fds = IPC_LISTEN_FD + 1, .role = SANDBOX_HTTP };
	struct err e = ERR_INIT;
	int64_t v[3];
	int code;

	if (argc == 2 && !strcmp(argv[1], "--help"))
		return usage(STDOUT_FILENO, EX_OK);
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		dprintf(STDOUT_FILENO, "iis-poller-http %s (%s)\n", VERSION, ipc_build_id);
		return EX_OK;
	}
	if (parse_args(argc, argv, v) < 0)
		return usage(STDERR_FILENO, EX_USAGE);
	s.parent_pid = master_pid();
	if (!s.parent_pid)
		return die(EX_USAGE, "descriptors 3 and 6 are not the master's: this program is started by iis-pollerd only");
	xalloc_set_handler(out_of_memory);
	if (sandbox_prepare(&s, &e) < 0)
		return die(EX_OSERR, e.text);
	refused_map(IPC_REFUSED_FD);
	http.generation = (uint32_t)v[2];
	code = serve(&s, (unsigned)v[0], v[1]);
	server_free(http.server);
	pages_free(http.pages);
	loop_free(http.loop);
	buf_release(&http.out);
	return code;
}
