/*
 * broker.c - asks, answers and grants of the egress broker, and descriptors in messages; see broker.h.
 *
 * Decoders are bounded and must end exactly; of what a worker asks nothing is believed but that it asks. Nothing here
 * blocks, resolves or connects.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "common/broker.h"
#include "common/hosts.h"
#include "common/xalloc.h"
#include "common/banned.h"

static int
finish(const struct cursor *c, const char *what, struct err *e)
{
	return cursor_end(c) ? 0 : err_set(e, ERR_WORKER_PROTOCOL, "%s: a field is out of bounds or missing", what);
}

static void
put_addrs(struct buf *b, const struct broker_addr *v, size_t n)
{
	buf_u8(b, (uint8_t)n);
	for (size_t i = 0; i < n; i++) {
		buf_u8(b, v[i].v6);
		buf_add(b, v[i].b, sizeof(v[i].b));
	}
}

static size_t
get_addrs(struct cursor *c, struct broker_addr v[BROKER_ADDRS])
{
	size_t n = cursor_u8(c);

	if (n > BROKER_ADDRS)
		cursor_fail(c);
	for (size_t i = 0; i < n && !c->bad; i++) {
		unsigned v6 = cursor_u8(c);

		if (v6 > 1)
			cursor_fail(c);
		v[i].v6 = v6;
		for (size_t k = 0; k < sizeof(v[i].b); k++)
			v[i].b[k] = cursor_u8(c);
	}
	return c->bad ? 0 : n;
}

static bool
get_bool(struct cursor *c)
{
	unsigned v = cursor_u8(c);

	if (v > 1)
		cursor_fail(c);
	return v;
}

void
broker_ask_encode(const struct broker_ask *a, struct buf *b)
{
	buf_clear(b);
	buf_u8(b, (uint8_t)a->op);
	buf_u32(b, a->seq);
	buf_u16(b, a->port);
	buf_u32(b, a->timeout_ms);
	buf_u8(b, a->family == AF_INET ? 4 : a->family == AF_INET6 ? 6 : 0);
	buf_cstr(b, a->host);
	buf_u8(b, a->data);
	put_addrs(b, a->addr, a->n);
}

int
broker_ask_decode(struct broker_ask *a, const void *p, size_t n, struct err *e)
{
	struct cursor c;
	unsigned op, family;

	memset(a, 0, sizeof(*a));
	cursor_init(&c, p, n);
	op = cursor_u8(&c);
	a->seq = cursor_u32(&c);
	a->port = cursor_u16(&c);
	a->timeout_ms = cursor_u32(&c);
	family = cursor_u8(&c);
	cursor_str(&c, a->host, sizeof(a->host));
	a->data = get_bool(&c);
	a->n = get_addrs(&c, a->addr);
	if ((op != BROKER_RESOLVE && op != BROKER_CONNECT) || !a->port || a->timeout_ms > BROKER_TIMEOUT_MAX ||
	    (family && family != 4 && family != 6) || (op == BROKER_RESOLVE) != (a->host[0] != '\0') || (op == BROKER_CONNECT) != (a->n > 0))
		cursor_fail(&c);
	a->op = (enum broker_op)op;
	a->family = family == 4 ? AF_INET : family == 6 ? AF_INET6 : AF_UNSPEC;
	return finish(&c, "an ask of the broker", e);
}

void
broker_answer_encode(const struct broker_answer *a, struct buf *b)
{
	buf_clear(b);
	buf_u32(b, a->seq);
	buf_u16(b, (uint16_t)a->cls);
	buf_u32(b, a->error);
	buf_bytes(b, a->text, strnlen(a->text, sizeof(a->text) - 1));
	put_addrs(b, a->addr, a->n);
}

int
broker_answer_decode(struct broker_answer *a, const void *p, size_t n, struct err *e)
{
	struct cursor c;
	unsigned cls;

	memset(a, 0, sizeof(*a));
	cursor_init(&c, p, n);
	a->seq = cursor_u32(&c);
	cls = cursor_u16(&c);
	a->error = cursor_u32(&c);
	cursor_str(&c, a->text, sizeof(a->text));
	a->n = get_addrs(&c, a->addr);
	if (cls != ERR_OK && cls != ERR_POLICY && cls != ERR_NOT_FOUND && cls != ERR_TRANSIENT && cls != ERR_TIMEOUT && cls != ERR_SYSTEM)
		cursor_fail(&c);
	a->cls = (enum err_class)cls;
	return finish(&c, "an answer of the broker", e);
}

void
broker_grant_release(struct broker_grant *g)
{
	strlist_release(&g->hosts);
	egress_lists_release(&g->daemon);
	egress_lists_release(&g->tenant);
}

void
broker_grant_encode(const struct broker_grant *g, struct buf *b)
{
	buf_u32(b, g->slot);
	buf_u8(b, g->on);
	buf_cstr(b, g->org_id);
	buf_u8(b, g->any_host);
	buf_u8(b, g->ftp);
	buf_cstr(b, g->suffix);
	buf_u8(b, (uint8_t)g->n);
	for (size_t i = 0; i < g->n; i++) {
		buf_cstr(b, g->host[i].name);
		buf_u16(b, g->host[i].port);
		buf_u8(b, g->host[i].own);
	}
	buf_u16(b, (uint16_t)g->hosts.n);
	for (size_t i = 0; i < g->hosts.n; i++)
		buf_cstr(b, g->hosts.v[i]);
	egress_lists_encode(&g->daemon, b);
	egress_lists_encode(&g->tenant, b);
}

int
broker_grant_decode(struct broker_grant *g, const void *p, size_t n, struct err *e)
{
	struct cursor c;

	memset(g, 0, sizeof(*g));
	cursor_init(&c, p, n);
	g->slot = cursor_u32(&c);
	g->on = get_bool(&c);
	cursor_str(&c, g->org_id, sizeof(g->org_id));
	g->any_host = get_bool(&c);
	g->ftp = get_bool(&c);
	cursor_str(&c, g->suffix, sizeof(g->suffix));
	g->n = cursor_u8(&c);
	if (g->n > BROKER_HOSTS)
		cursor_fail(&c);
	for (size_t i = 0; i < g->n && !c.bad; i++) {
		cursor_str(&c, g->host[i].name, sizeof(g->host[i].name));
		g->host[i].port = cursor_u16(&c);
		g->host[i].own = get_bool(&c);
	}
	for (size_t i = cursor_u16(&c); i && !c.bad; i--) {
		char name[HOSTS_TEXT];

		cursor_str(&c, name, sizeof(name));
		if (!c.bad && *name)
			strlist_add(&g->hosts, name);
		else
			cursor_fail(&c);        /* none would be all */
	}
	egress_lists_decode(&g->daemon, &c);
	egress_lists_decode(&g->tenant, &c);
	if (!finish(&c, "GRANT", e))
		return 0;
	broker_grant_release(g);
	return -1;
}

/* ---- what was done --------------------------------------------------------------------------------------------------- */

static const struct { const char *name; bool work; } outcomes[BROKER_OUTCOME__MAX] = {
#define OUTCOME(id, name, work) [BROKER_##id] = { name, work },
#include "common/broker_outcomes.def"
#undef OUTCOME
};

const char *
broker_outcome_name(enum broker_outcome o)
{
	return outcomes[o].name;
}

bool
broker_outcome_work(enum broker_outcome o)
{
	return outcomes[o].work;
}

void
broker_tally_encode(const struct broker_tally *t, struct buf *b)
{
	for (size_t i = 0; i < ARRAY_LEN(t->op); i++) {
		const struct broker_count *c = &t->op[i];

		buf_u32(b, c->in_flight);
		for (size_t k = 0; k < ARRAY_LEN(c->outcome); k++)
			buf_u32(b, c->outcome[k]);
		for (size_t k = 0; k < ARRAY_LEN(c->took); k++)
			buf_u32(b, c->took[k]);
		buf_u64(b, c->us);
	}
}

/* As many times as there was work. */
static bool
adds_up(const struct broker_count *c)
{
	uint64_t work = 0, took = 0;

	for (size_t k = 0; k < ARRAY_LEN(c->outcome); k++)
		work += outcomes[k].work ? c->outcome[k] : 0;
	for (size_t k = 0; k < ARRAY_LEN(c->took); k++)
		took += c->took[k];
	return work == took;
}

int
broker_tally_decode(struct broker_tally *t, const void *p, size_t n, struct err *e)
{
	struct cursor c;

	cursor_init(&c, p, n);
	for (size_t i = 0; i < ARRAY_LEN(t->op); i++) {
		struct broker_count *o = &t->op[i];

		o->in_flight = cursor_u32(&c);
		for (size_t k = 0; k < ARRAY_LEN(o->outcome); k++)
			o->outcome[k] = cursor_u32(&c);
		for (size_t k = 0; k < ARRAY_LEN(o->took); k++)
			o->took[k] = cursor_u32(&c);
		o->us = cursor_u64(&c);
		if (!adds_up(o))
			cursor_fail(&c);
	}
	return finish(&c, "TALLY", e);
}

void
broker_addr_from(struct broker_addr *a, const struct sockaddr *sa)
{
	memset(a, 0, sizeof(*a));
	a->v6 = sa->sa_family == AF_INET6;
	if (a->v6)
		memcpy(a->b, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	else
		memcpy(a->b, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
}

socklen_t
broker_addr_to(const struct broker_addr *a, uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	out->ss_family = a->v6 ? AF_INET6 : AF_INET;
	/* both have the port at the same place */
	v4->sin_port = htons(port);
	if (a->v6)
		memcpy(&v6->sin6_addr, a->b, 16);
	else
		memcpy(&v4->sin_addr, a->b, 4);
	return a->v6 ? sizeof(*v6) : sizeof(*v4);
}

union control { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; };

int
broker_send(int fd, const struct buf *b, int passed)
{
	union control control;
	struct iovec iov = { .iov_base = b->p, .iov_len = b->len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (passed >= 0) {
		memset(&control, 0, sizeof(control));
		control.align = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		m.msg_control = &control;
		m.msg_controllen = sizeof(control.room);
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &passed, sizeof(passed));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 1;
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -1;
}

/* The one descriptor into *passed. Others there is room for by alignment, or none that fits: all are closed, and -1. */
static int
take_descriptor(struct msghdr *m, int *passed)
{
	struct cmsghdr *h = CMSG_FIRSTHDR(m);
	int fds[sizeof(union control) / sizeof(int)];
	size_t n;

	if (!h)
		return 0;
	if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
		return -1;
	n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(h), n * sizeof(int));
	if (n == 1) {
		*passed = fds[0];
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	return -1;
}

ssize_t
broker_recv(int fd, void *p, size_t n, int *passed)
{
	union control control;
	struct iovec iov = { .iov_base = p, .iov_len = n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t got;

	if (passed) {
		*passed = -1;
		m.msg_control = &control;
		m.msg_controllen = sizeof(control.room);
	}
	do
		got = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	if (!got && !(m.msg_flags & (MSG_CTRUNC | MSG_TRUNC)))
		return -1;
	if ((passed && take_descriptor(&m, passed)) || m.msg_flags & (MSG_CTRUNC | MSG_TRUNC) || !got) {
		if (passed && *passed >= 0)
			close(*passed);
		return -2;
	}
	return got;
}
