/*
 * connector.c - the connector: one process beside the workers that alone resolves names and makes connections, where
 * egress.mode is broker. main.c runs it as iis-poller-worker --connector.
 *
 * It holds no secret and parses nothing but small frames: from the master which worker speaks on which descriptor and what
 * its task may reach, from workers asks for names and connections. A worker that breaks a rule loses its channel; nothing
 * that a worker says widens what the master granted. It waits for no name and no connection, and ends with the master.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

#include "worker/connector.h"
#include "worker/worker.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/task.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define SLOTS_MAX 4096
#define RESOLVING_MAX 2                 /* of one task: one, and one that it gave up */

static struct {
	struct loop *loop;
	struct peer **peers;            /* by slot */
	unsigned slots;
	uint64_t ids;
	uint32_t generation;
	struct buf out;
	int code;
	uint8_t in[IPC_FRAME_MAX + 1];
} hub;

static void
end(int code, const char *text)
{
	if (text)
		dprintf(STDERR_FILENO, "iis-poller-worker: connector: %s\n", text);
	tally_send();
	hub.code = code;
	loop_stop(hub.loop);
}

/* ---- workers ---------------------------------------------------------------------------------------------------------- */

static void
end_attempt(struct peer *p)
{
	if (!p->attempt)
		return;
	attempt_free(p->attempt);
	p->attempt = NULL;
	tally_flight(BROKER_CONNECT, -1);
}

static void
end_ask(struct peer *p, enum broker_outcome o)
{
	if (p->busy)
		tally_ended(p->ask.op, o, tally_now_us() - p->since_us);
	p->busy = false;
}

/* What is under way is nobody's any more. */
static void
give_up(struct peer *p)
{
	end_attempt(p);
	end_ask(p, BROKER_GIVEN_UP);
	p->turn++;
	if (p->resolving && resolver_drop(p)) {
		p->resolving--;
		tally_flight(BROKER_RESOLVE, -1);
	}
}

static void
peer_free(struct peer *p)
{
	hub.peers[p->slot] = NULL;
	give_up(p);
	loop_unwatch(hub.loop, &p->w);
	close(p->fd);
	peer_ungrant(p);
	free(p);
}

static void
answer(struct peer *p, enum broker_outcome o, const struct broker_answer *a, int fd)
{
	end_ask(p, o);
	broker_answer_encode(a, &hub.out);
	/* One ask, one answer: there is room, or nobody reads. */
	if (broker_send(p->fd, &hub.out, fd) != 1)
		peer_free(p);
}

static void
refuse(struct peer *p, enum broker_outcome o, const struct err *e, int error)
{
	struct broker_answer a = { .seq = p->ask.seq, .cls = e->cls, .error = (uint32_t)error };

	snprintf(a.text, sizeof(a.text), "%s", e->text);
	answer(p, o, &a, -1);
}

static void
on_attempt(struct peer *p, int fd, size_t which, const struct err *e, int error)
{
	struct broker_answer a = { .seq = p->ask.seq, .cls = ERR_OK, .n = 1 };

	end_attempt(p);
	if (fd < 0) {
		refuse(p, e->cls == ERR_TIMEOUT ? BROKER_TIMEOUT : BROKER_FAILED, e, error);
		return;
	}
	a.addr[0] = p->ask.addr[which];
	answer(p, BROKER_OK, &a, fd);
	close(fd);
}

static void
start_connect(struct peer *p)
{
	struct err e = ERR_INIT;

	for (size_t i = 0; i < p->ask.n; i++) {
		enum broker_outcome o = peer_may_connect(p, &p->ask, &p->ask.addr[i], &e);

		if (o != BROKER_OK) {
			refuse(p, o, &e, 0);
			return;
		}
	}
	p->attempt = attempt_new(p, on_attempt);
	tally_flight(BROKER_CONNECT, 1);
}

static void
start_resolve(struct peer *p)
{
	struct err e = ERR_INIT;
	enum broker_outcome o;

	/* resolv.conf or hosts is another file by now, which it has no leave to read: a fresh one has. */
	if (sandbox_stale()) {
		end(EX_TEMPFAIL, "a file that it may read was replaced; a fresh one takes over");
	} else if ((o = peer_may_resolve(p, &p->ask, &e)) != BROKER_OK) {
		refuse(p, o, &e, 0);
	} else if (p->resolving >= RESOLVING_MAX) {
		err_set(&e, ERR_TRANSIENT, "resolving %.200s: names that the task asked for before are still being looked up", p->ask.host);
		refuse(p, BROKER_BUSY, &e, 0);
	} else {
		p->resolving++;
		tally_flight(BROKER_RESOLVE, 1);
		resolver_ask(p, &p->ask);
	}
}

/* Those that policy allows; the first refusal where it allows none. */
static void
take_addresses(struct peer *p, const struct resolved *r)
{
	struct broker_answer a = { .seq = r->seq, .cls = ERR_OK };
	struct err first = ERR_INIT, e = ERR_INIT;

	for (size_t i = 0; i < r->n && a.n < BROKER_ADDRS; i++) {
		if (!peer_learn(p, (const struct sockaddr *)&r->addr[i], &a.addr[a.n], &e))
			a.n++;
		else if (!*first.text)
			first = e;
	}
	if (a.n) {
		answer(p, BROKER_OK, &a, -1);
	} else if (*first.text) {
		err_set(&e, ERR_POLICY, "%.200s may not be connected to: %s", r->host, first.text);
		refuse(p, BROKER_ADDRESS, &e, 0);
	} else {
		err_set(&e, ERR_NOT_FOUND, "resolving %.200s: no address came back", r->host);
		refuse(p, BROKER_NOT_FOUND, &e, 0);
	}
}

static void
on_resolved(struct resolved *r)
{
	struct peer *p = hub.peers[r->slot];
	struct err e = ERR_INIT;

	tally_flight(BROKER_RESOLVE, -1);
	if (p && p->id == r->peer) {
		p->resolving--;
		if (p->busy && p->turn == r->turn) {
			if (r->rc) {
				resolver_error(r, &e);
				refuse(p, e.cls == ERR_NOT_FOUND ? BROKER_NOT_FOUND : BROKER_FAILED, &e, r->error);
			} else {
				take_addresses(p, r);
			}
		}
	}
	free(r);
}

/* A fresh ask: what was under way was given up by its worker. */
static void
take_ask(struct peer *p, const struct broker_ask *q)
{
	give_up(p);
	p->ask = *q;
	p->since_us = tally_now_us();
	p->busy = true;
	if (q->op == BROKER_CONNECT)
		start_connect(p);
	else
		start_resolve(p);
}

static void drain_master(void);

static void
on_peer(void *arg, int fd, uint32_t events)
{
	uint32_t slot = (uint32_t)(uintptr_t)arg;
	struct peer *p;
	struct broker_ask q;
	struct err e = ERR_INIT;
	uint8_t in[BROKER_FRAME];
	ssize_t n;

	(void)events;
	/* The grant was sent before the task, and so before this ask. */
	drain_master();
	p = hub.peers[slot];
	if (!p || p->fd != fd)
		return;
	n = broker_recv(p->fd, in, sizeof(in), NULL);
	if (!n)
		return;
	if (n == -1) {
		peer_free(p);
	} else if (n < 0 || broker_ask_decode(&q, in, (size_t)n, &e)) {
		dprintf(STDERR_FILENO, "iis-poller-worker: connector: slot %u broke the rules of its channel\n", p->slot);
		peer_free(p);
	} else {
		take_ask(p, &q);
	}
}

/* ---- the master --------------------------------------------------------------------------------------------------------- */

static int
take_channel(const struct frame *f, int fd, struct err *e)
{
	struct cursor c;
	struct peer *p;
	uint32_t slot;

	cursor_init(&c, f->payload, f->n);
	slot = cursor_u32(&c);
	if (!cursor_end(&c) || slot >= hub.slots || fd < 0)
		return err_set(e, ERR_WORKER_PROTOCOL, "the master sent a CHANNEL that is none");
	if (hub.peers[slot])
		peer_free(hub.peers[slot]);
	p = xcalloc(1, sizeof(*p));
	p->loop = hub.loop;
	p->id = ++hub.ids;
	p->slot = slot;
	p->fd = fd;
	hub.peers[slot] = p;
	p->w = loop_watch(hub.loop, fd, EPOLLIN, on_peer, (void *)(uintptr_t)slot);
	return p->w ? 0 : err_errno(e, ERR_SYSTEM, "cannot watch a worker");
}

static int
take_grant(const struct frame *f, struct err *e)
{
	struct broker_grant g;
	struct peer *p;
	int rc = 0;

	if (broker_grant_decode(&g, f->payload, f->n, e))
		return -1;
	p = g.slot < hub.slots ? hub.peers[g.slot] : NULL;
	if (g.slot >= hub.slots) {
		rc = err_set(e, ERR_WORKER_PROTOCOL, "the master granted something to a slot that is none");
	} else if (p) {
		/* What was asked for under one grant does not arrive under the next. */
		give_up(p);
		p->id = ++hub.ids;
		p->resolving = 0;
		rc = peer_grant(p, &g, e);
	}
	broker_grant_release(&g);
	return rc;
}

/* One frame: 1 taken, 0 none there, -1 the process ends. */
static int
take_frame(void)
{
	struct err e = ERR_INIT;
	struct frame f;
	size_t used;
	int fd, rc = -1;
	ssize_t n = broker_recv(IPC_FD, hub.in, sizeof(hub.in), &fd);

	if (!n)
		return 0;
	if (n == -1) {
		end(EX_OK, NULL);       /* the master is gone */
		return -1;
	}
	if (n < 0 || ipc_parse(hub.in, (size_t)n, &f, &used, &e) != 1 || ipc_check(&f, IPC_MASTER, WORKER_IDLE, &e) < 0) {
		end(EX_SOFTWARE, e.text);
	} else if (f.type == MSG_STOP) {
		end(EX_OK, NULL);
	} else if (f.type == MSG_CHANNEL) {
		rc = take_channel(&f, fd, &e);
		fd = -1;
	} else if (f.type == MSG_GRANT) {
		rc = take_grant(&f, &e);
	} else {
		err_set(&e, ERR_WORKER_PROTOCOL, "%s is not for the connector", ipc_name(f.type));
	}
	if (fd >= 0)
		close(fd);
	if (rc < 0 && !hub.code && *e.text)
		end(EX_SOFTWARE, e.text);
	return rc < 0 ? -1 : 1;
}

static void
drain_master(void)
{
	while (take_frame() > 0)
		;
}

static void
on_master(void *arg, int fd, uint32_t events)
{
	(void)arg;
	(void)fd;
	(void)events;
	drain_master();
}

/* ---- start ---------------------------------------------------------------------------------------------------------------- */

static int
send_now(struct err *e)
{
	ipc_finish(&hub.out);
	return ipc_send(IPC_FD, &hub.out) == 1 ? 0 : err_errno(e, ERR_SYSTEM, "sending to the master");
}

/* 0, or -1 with the exit code where there is nothing to do. */
static int
shake_hands(struct setup *setup, int *code, struct err *e)
{
	struct frame f;
	int r;

	*code = EX_OSERR;
	ipc_begin(&hub.out, MSG_HELLO, hub.generation, 0);
	hello_encode(&hub.out);
	if (send_now(e))
		return -1;
	r = ipc_recv(IPC_FD, 0, hub.in, &f, e);
	*code = EX_OK;
	if (r == -1 || (r == 1 && f.type == MSG_STOP))
		return -1;
	*code = EX_SOFTWARE;
	if (r != 1 || f.type != MSG_SETUP)
		return err_set(e, ERR_WORKER_PROTOCOL, "the master did not send SETUP");
	return setup_decode(setup, f.payload, f.n, e);
}

static int
confine(const struct setup *setup, int parent_pid, struct err *e)
{
	struct sandbox s = { .keep_fds = IPC_REFUSED_FD + 1, .parent_pid = parent_pid, .role = SANDBOX_NETWORK, .data_max = setup->memory_max,
		.open_files = setup->open_files, .rules = setup->sandbox };
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	struct ready ready = { .sandbox = "" };

	/* The modules of nsswitch.conf: no code is loaded once the sandbox is closed. */
	if (getaddrinfo("localhost", NULL, &hints, &list) == 0)
		freeaddrinfo(list);
	if (sandbox_enter(&s, &ready.active, ready.sandbox, sizeof(ready.sandbox), e))
		return -1;
	/* Threads after it: Landlock holds for those alone that are made behind it. */
	if (resolver_start(hub.loop, hub.slots, on_resolved, e))
		return -1;
	ipc_begin(&hub.out, MSG_READY, hub.generation, 0);
	ready_encode(&ready, &hub.out);
	return send_now(e);
}

int
connector_main(uint32_t generation, unsigned slots, int parent_pid)
{
	struct sandbox first = { .keep_fds = IPC_REFUSED_FD + 1, .parent_pid = parent_pid };
	struct err e = ERR_INIT;
	struct setup setup;
	struct watch *w;
	int code = EX_OSERR;

	hub.generation = generation;
	hub.slots = slots && slots <= SLOTS_MAX ? slots : SLOTS_MAX;
	hub.peers = xcalloc(hub.slots, sizeof(*hub.peers));
	setup_init(&setup);
	if (sandbox_prepare(&first, &e))
		goto out;
	prctl(PR_SET_NAME, "iis-connector");
	refused_map(IPC_REFUSED_FD);
	hub.loop = loop_new();
	if (!hub.loop || shake_hands(&setup, &code, &e))
		goto out;
	code = EX_OSERR;
	if (confine(&setup, parent_pid, &e)) {
		code = e.cls == ERR_CONFIG ? EX_CONFIG : EX_OSERR;
		goto out;
	}
	tally_start(hub.loop, generation);
	w = loop_watch(hub.loop, IPC_FD, EPOLLIN, on_master, NULL);
	if (!w)
		goto out;
	loop_run(hub.loop);
	code = hub.code;
out:
	if (*e.text)
		dprintf(STDERR_FILENO, "iis-poller-worker: connector: %s\n", e.text);
	setup_release(&setup);
	/* its threads may still ask name servers: the process ends around them */
	return code;
}
