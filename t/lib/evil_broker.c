/*
 * evil_broker.c - a brokered worker that was taken over: closes the sandbox as any other, and then, at its first job, tries
 * to reach what the job does not. Each try is a line on stderr: its name, and what came of it. t/27-broker.t reads them.
 *
 * Started in the worker's place: --worker SLOT GENERATION. Tries of the last kind cost it its channel, so they are last.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/broker.h"
#include "common/sandbox.h"
#include "common/task.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define ANSWER_MS 10000

static uint32_t generation, seq;
static uint8_t in[IPC_FRAME_MAX + 1];

static int
bad(const char *what)
{
	dprintf(STDERR_FILENO, "evil_broker: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
send_frame(struct buf *b)
{
	ipc_finish(b);
	if (ipc_send(IPC_FD, b) != 1)
		bad("send");
}

static void
tell(const char *name, const char *what)
{
	dprintf(STDERR_FILENO, "try %s: %s\n", name, what);
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

static void
try_socket(const char *name, int family, int type, int protocol)
{
	int fd = socket(family, type, protocol);

	tell(name, fd < 0 ? strerror(errno) : "IT IS THERE");
	if (fd >= 0)
		close(fd);
}

/* A socket that is there already, led elsewhere. */
static void
try_connect(const char *name, int fd, int family, const char *address, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = (sa_family_t)family, .sin_port = htons(port) };

	inet_pton(AF_INET, address, &sa.sin_addr);
	tell(name, connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? strerror(errno) : "IT IS THERE");
}

static void
calls(void)
{
	try_socket("tcp", AF_INET, SOCK_STREAM, 0);
	try_socket("udp", AF_INET, SOCK_DGRAM, 0);
	try_socket("tcp6", AF_INET6, SOCK_STREAM, 0);
	try_socket("udp6", AF_INET6, SOCK_DGRAM, 0);
	try_socket("unix", AF_UNIX, SOCK_STREAM, 0);
	try_socket("unix-dgram", AF_UNIX, SOCK_DGRAM, 0);
	try_socket("netlink", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	try_socket("raw", AF_INET, SOCK_RAW, IPPROTO_ICMP);
	try_socket("packet", AF_PACKET, SOCK_RAW, 0);
	try_socket("mptcp", AF_INET, SOCK_STREAM, 262);
	try_socket("vsock", AF_VSOCK, SOCK_STREAM, 0);
}

/* ---- asks ------------------------------------------------------------------------------------------------------------ */

/* The answer to it: 0, or -1 the channel is gone, -2 none came in time. */
static int
ask_for(int ms, struct broker_ask *q, struct broker_answer *a, int *fd)
{
	struct pollfd p = { .fd = IPC_BROKER_FD, .events = POLLIN };
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	uint8_t got[BROKER_FRAME];
	ssize_t n;

	q->seq = ++seq;
	broker_ask_encode(q, &b);
	if (broker_send(IPC_BROKER_FD, &b, -1) != 1)
		return -1;
	buf_release(&b);
	do {
		if (poll(&p, 1, ms) != 1)
			return -2;
		n = broker_recv(IPC_BROKER_FD, got, sizeof(got), fd);
		if (n <= 0 || broker_answer_decode(a, got, (size_t)n, &e))
			return -1;
	} while (a->seq != q->seq);
	return 0;
}

static int
ask(struct broker_ask *q, struct broker_answer *a, int *fd)
{
	int rc = ask_for(ANSWER_MS, q, a, fd);

	if (rc == -2)
		bad("no answer");
	return rc;
}

static void
try_ask(const char *name, struct broker_ask *q)
{
	struct broker_answer a;
	int fd = -1;

	if (ask(q, &a, &fd))
		tell(name, "the channel is gone");
	else if (a.cls != ERR_OK)
		tell(name, a.text);
	else
		tell(name, fd >= 0 ? "CONNECTED" : "RESOLVED");
	if (fd >= 0)
		close(fd);
}

static void
try_resolve(const char *name, const char *host, uint16_t port)
{
	struct broker_ask q = { .op = BROKER_RESOLVE, .port = port };

	snprintf(q.host, sizeof(q.host), "%s", host);
	try_ask(name, &q);
}

static struct broker_ask
to(const char *address, uint16_t port, bool data)
{
	struct broker_ask q = { .op = BROKER_CONNECT, .port = port, .timeout_ms = 2000, .data = data, .n = 1 };

	q.addr[0].v6 = strchr(address, ':') != NULL;
	inet_pton(q.addr[0].v6 ? AF_INET6 : AF_INET, address, q.addr[0].b);
	return q;
}

static void
try_connection(const char *name, const char *address, uint16_t port, bool data)
{
	struct broker_ask q = to(address, port, data);

	try_ask(name, &q);
}

/* Two addresses in one ask, the second forbidden. */
static void
try_second(const char *name, uint16_t port)
{
	struct broker_ask q = to("127.0.0.1", port, false), other = to("169.254.169.254", port, false);

	q.addr[q.n++] = other.addr[0];
	try_ask(name, &q);
}

static void
led_elsewhere(uint16_t port, uint16_t closed)
{
	struct broker_ask q = to("127.0.0.1", port, false);
	struct broker_answer a;
	int fd = -1;

	if (ask(&q, &a, &fd) || fd < 0) {
		tell("own", "NOT CONNECTED");
		return;
	}
	tell("own", "connected");
	try_connect("again", fd, AF_INET, "127.0.0.1", closed);
	try_connect("dissolve", fd, AF_UNSPEC, "0.0.0.0", 0);
	close(fd);
}

static void
asks(uint16_t port, uint16_t closed)
{
	try_connection("before-resolving", "127.0.0.1", port, false);
	try_resolve("other-name", "localhost", port);
	try_resolve("other-port", "127.0.0.1", closed);
	try_resolve("other-address", "127.0.0.2", port);
	try_resolve("metadata-name", "169.254.169.254", 80);
	try_resolve("the-job's", "127.0.0.1", port);
	try_connection("an-address-of-no-name", "127.0.0.2", port, false);
	try_connection("another-port", "127.0.0.1", closed, false);
	try_connection("another-port-as-data", "127.0.0.1", closed, true);
	try_connection("mapped", "::ffff:127.0.0.1", closed, false);
	try_connection("metadata", "169.254.169.254", 80, false);
	try_second("second-of-two", port);
	led_elsewhere(port, closed);
}

/* What is no ask at all; n bytes, with a descriptor or without. */
static void
try_garbage(const char *name, size_t n, int passed)
{
	static char junk[BROKER_FRAME + 100];
	struct buf b = { .p = junk, .len = n, .cap = sizeof(junk) };
	struct pollfd p = { .fd = IPC_BROKER_FD, .events = POLLIN };
	char c;

	memset(junk, 7, sizeof(junk));
	if (broker_send(IPC_BROKER_FD, &b, passed) != 1) {
		tell(name, "the channel is gone");
		return;
	}
	tell(name, poll(&p, 1, ANSWER_MS) == 1 && recv(IPC_BROKER_FD, &c, 1, MSG_DONTWAIT) <= 0 ? "the channel is gone" : "IT IS THERE");
}

/* ---- the worker's part --------------------------------------------------------------------------------------------------- */

static void
start(void)
{
	struct sandbox s = { .keep_fds = IPC_BROKER_FD + 1, .parent_pid = getppid() };
	struct ready ready = { .sandbox = "" };
	struct buf b = BUF_INIT;
	struct setup setup;
	struct frame f;
	struct err e = ERR_INIT;

	if (sandbox_prepare(&s, &e))
		bad(e.text);
	ipc_begin(&b, MSG_HELLO, generation, 0);
	hello_encode(&b);
	send_frame(&b);
	if (ipc_recv(IPC_FD, 0, in, &f, &e) != 1 || f.type != MSG_SETUP || setup_decode(&setup, f.payload, f.n, &e))
		bad("SETUP");
	s.role = setup.brokered ? SANDBOX_BROKERED : setup.role == ROLE_LOCAL ? SANDBOX_LOCAL : SANDBOX_NETWORK;
	s.rules = setup.sandbox;
	s.open_files = setup.open_files;
	if (sandbox_enter(&s, &ready.active, ready.sandbox, sizeof(ready.sandbox), &e))
		bad(e.text);
	ipc_begin(&b, MSG_READY, generation, 0);
	ready_encode(&ready, &b);
	send_frame(&b);
	setup_release(&setup);
	buf_release(&b);
}

/* The master revokes when it has read DONE; an ask that is under way then is never answered. */
static void
until_revoked(uint16_t port)
{
	for (int i = 0; i < 1000; i++) {
		struct broker_ask q = to("127.0.0.1", port, false);
		struct broker_answer a;
		int fd = -1;

		int rc = ask_for(200, &q, &a, &fd);

		if (rc == -2)
			continue;
		if (rc || a.cls != ERR_OK) {
			tell("after-the-task", a.text);
			return;
		}
		close(fd);
		poll(NULL, 0, 10);
	}
	tell("after-the-task", "IT IS THERE");
}

/* The job's url: the port of its own server; user_agent: one that is not its own, and what to do. */
static void
serve(const struct frame *f)
{
	struct task_done d = { .cls = ERR_PERMANENT, .text = "tried" };
	struct task_spec t;
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;
	int64_t port, closed;
	char *rest;

	if (task_spec_decode(&t, f->payload, f->n, &e) || units_int(strrchr(t.endpoint, ':') + 1, &port))
		bad("JOB");
	rest = t.source.v[SF_HTTP_USER_AGENT].s;
	closed = strtol(rest, &rest, 10);
	if (!strcmp(rest, " asks")) {
		calls();
		asks((uint16_t)port, (uint16_t)closed);
	} else if (!strcmp(rest, " descriptor")) {
		try_garbage("descriptor", 40, STDERR_FILENO);
	} else if (!strcmp(rest, " garbage")) {
		try_garbage("garbage", 40, -1);
	} else {
		try_garbage("oversize", BROKER_FRAME + 50, -1);
	}
	ipc_begin(&b, MSG_DONE, generation, f->task);
	task_done_encode(&d, &b);
	send_frame(&b);
	if (!strcmp(rest, " asks"))
		until_revoked((uint16_t)port);
	buf_release(&b);
	task_spec_release(&t);
}

int
main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct frame f;
	int64_t g;

	if (argc != 4 || units_int(argv[3], &g))
		return 64;
	generation = (uint32_t)g;
	start();
	while (ipc_recv(IPC_FD, 0, in, &f, &e) == 1 && f.type == MSG_JOB)
		serve(&f);
	return 0;
}
