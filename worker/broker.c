/*
 * broker.c - the worker's side of the egress broker: addresses and connected sockets, asked of the connector.
 *
 * net.c and curl.c call it where a worker that is not brokered would resolve or connect. It waits for the answer and for
 * the master's CANCEL alike; an answer that comes too late for its ask is dropped, with its descriptor. When the connector
 * is gone every ask fails as TRANSIENT: the master starts another, and workers that speak to it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/broker.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define WAIT_MS 200

static struct { bool on, gone; uint32_t seq; } broker;

void
broker_init(const struct setup *s)
{
	broker.on = s->brokered && s->role != ROLE_LOCAL;
}

bool
broker_on(void)
{
	return broker.on;
}

bool
broker_gone(void)
{
	return broker.gone;
}

/*
 * In place of the C library's, for libcurl: 7.88.1 connects even what CURLOPT_SOCKOPTFUNCTION told it is connected (mended
 * in 8.0). A brokered worker has no such call; its sockets are connected, or of no use.
 */
int
connect(int fd, const struct sockaddr *sa, socklen_t n)
{
	struct sockaddr_storage peer;
	socklen_t peer_n = sizeof(peer);

	if (!broker.on)
		return (int)syscall(SYS_connect, fd, sa, n);
	return getpeername(fd, (struct sockaddr *)&peer, &peer_n);
}

static int
gone(struct err *e)
{
	broker.gone = true;
	return err_set(e, ERR_TRANSIENT, "the connector that makes connections for workers is gone; it is started again");
}

/* 1 and the answer to this ask, 0 none yet, -1 with err. */
static int
take(uint32_t seq, struct broker_answer *a, int *fd, struct err *e)
{
	uint8_t in[BROKER_FRAME];
	ssize_t n = broker_recv(IPC_BROKER_FD, in, sizeof(in), fd);

	if (!n)
		return 0;
	if (n < 0)
		return gone(e);
	if (broker_answer_decode(a, in, (size_t)n, e)) {
		if (*fd >= 0)
			close(*fd);
		return -1;
	}
	if (a->seq == seq)
		return 1;
	/* of an ask that was given up */
	if (*fd >= 0)
		close(*fd);
	return 0;
}

/* 1 something came, 0 not yet, -1 the task must end. */
static int
wait_a_while(struct run *r, struct err *e)
{
	struct pollfd p[2] = { { .fd = IPC_BROKER_FD, .events = POLLIN }, { .fd = r->ch->fd, .events = POLLIN } };

	if (poll(p, 2, WAIT_MS) < 0 && errno != EINTR)
		return err_errno(e, ERR_SYSTEM, "waiting for the connector");
	if (p[1].revents && channel_poll(r->ch, 0, e))
		return -1;
	if (run_look(r, e))
		return -1;
	return p[0].revents != 0;
}

static int
ask(struct run *r, struct broker_ask *q, struct broker_answer *a, int *fd, struct err *e)
{
	struct buf b = BUF_INIT;
	int rc;

	*fd = -1;
	q->seq = ++broker.seq;
	broker_ask_encode(q, &b);
	rc = broker_send(IPC_BROKER_FD, &b, -1);
	buf_release(&b);
	if (rc != 1)
		return gone(e);
	for (;;) {
		rc = wait_a_while(r, e);
		if (rc > 0)
			rc = take(q->seq, a, fd, e);
		if (rc < 0)
			return -1;
		if (rc)
			break;
	}
	if (a->cls == ERR_OK)
		return 0;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = (int)a->error;
	return err_set(e, a->cls, "%s", a->text);
}

int
broker_resolve(struct run *r, int family, struct net_target *t, struct err *e)
{
	struct broker_ask q = { .op = BROKER_RESOLVE, .port = t->port, .family = family };
	struct broker_answer a;
	int fd;

	snprintf(q.host, sizeof(q.host), "%s", t->host);
	if (ask(r, &q, &a, &fd, e))
		return -1;
	if (fd >= 0)
		close(fd);
	for (size_t i = 0; i < a.n && t->n < NET_ADDRS; i++) {
		t->addr[t->n].len = broker_addr_to(&a.addr[i], t->port, &t->addr[t->n].sa);
		t->n++;
	}
	return t->n ? 0 : err_set(e, ERR_NOT_FOUND, "resolving %s: no address came back", t->host);
}

int
broker_connect(struct run *r, const struct net_target *t, bool data, int64_t timeout_ms, struct sockaddr_storage *reached, struct err *e)
{
	struct broker_ask q = { .op = BROKER_CONNECT, .port = t->port, .data = data, .n = t->n };
	struct broker_answer a;
	int fd;

	q.timeout_ms = timeout_ms > BROKER_TIMEOUT_MAX ? BROKER_TIMEOUT_MAX : (uint32_t)timeout_ms;
	for (size_t i = 0; i < t->n; i++)
		broker_addr_from(&q.addr[i], (const struct sockaddr *)&t->addr[i].sa);
	if (ask(r, &q, &a, &fd, e))
		return -1;
	if (fd < 0 || a.n != 1) {
		if (fd >= 0)
			close(fd);
		return err_set(e, ERR_SYSTEM, "the connector's answer has no connection in it");
	}
	broker_addr_to(&a.addr[0], t->port, reached);
	return fd;
}
