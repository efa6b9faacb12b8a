/*
 * curl_socket.c - the sockets of a libcurl session: how they are opened, and how a lane of a source uses them.
 *
 * libcurl opens and closes its own through here, so that every address is asked of the egress policy or had from the
 * connector. A lane (ftp_lane.c) speaks over the control connection that libcurl has logged in on, between two transfers of
 * libcurl's; its data connections are opened by the same function. While a socket is lent, libcurl may find it readable
 * when it looks over its idle connections, and give it up: then it is closed here only when nobody uses it any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/source/curl.h"
#include "worker/source/curl_priv.h"
#include "common/broker.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* FTP's data connections: the same address, a port that the server names. Through a proxy none is seen here. */
static bool
is_data(const struct curl_handle *h, const struct sockaddr *sa)
{
	const struct curl_session *s = h->session;

	return strstr(s->schemes, "ftp") && !h->proxied && ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port) != s->port;
}

static bool
same_place(const struct net_addr *a, const struct curl_sockaddr *b)
{
	struct broker_addr x, y;

	broker_addr_from(&x, (const struct sockaddr *)&a->sa);
	broker_addr_from(&y, &b->addr);
	return a->sa.ss_family == b->addr.sa_family && !memcmp(&x, &y, sizeof(x));
}

/* From the connector, and connected: of the endpoint's addresses to the first that answers, else to this one. */
static int
brokered_socket(const struct curl_handle *h, struct curl_sockaddr *a, struct err *e)
{
	struct curl_session *s = h->session;
	struct net_target one = { .n = 1 };
	struct sockaddr_storage reached;
	const struct net_target *t = &one;
	int fd;

	memcpy(&one.addr[0].sa, &a->addr, a->addrlen < sizeof(reached) ? a->addrlen : sizeof(reached));
	one.port = ntohs(((const struct sockaddr_in *)(const void *)&a->addr)->sin_port);
	if (!h->proxied && s->target.n && one.port == s->target.port && same_place(&s->target.addr[0], a))
		t = &s->target;
	fd = broker_connect(s->run, t, is_data(h, &a->addr), s->limits.connect_ms, &reached, e);
	if (fd < 0)
		return -1;
	/* libcurl's own room behind it takes any address */
	a->family = reached.ss_family;
	a->addrlen = reached.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	memcpy((void *)&a->addr, &reached, a->addrlen);
	return fd;
}

static void
note_open(struct curl_session *s, const struct curl_handle *h, int fd, bool data)
{
	if (s->sockets == s->sockets_room) {
		s->sockets_room = s->sockets_room * 2 + 4;
		s->socket = xreallocarray(s->socket, s->sockets_room, sizeof(*s->socket));
	}
	s->socket[s->sockets++] = (struct curl_socket){ .fd = fd, .owner = h, .data = data };
}

curl_socket_t
curl_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct curl_handle *h = arg;
	struct err why = ERR_INIT;
	int fd = -1;

	h->refused = purpose != CURLSOCKTYPE_IPCXN || net_allowed(&a->addr, is_data(h, &a->addr), &why);
	if (a->addrlen <= sizeof(h->tried))
		memcpy(&h->tried, &a->addr, a->addrlen);
	if (!h->refused && broker_on()) {
		fd = brokered_socket(h, a, &why);
		h->refused = fd < 0;
	}
	if (h->refused) {
		h->refusal_cls = why.cls ? why.cls : ERR_POLICY;
		snprintf(h->refusal, sizeof(h->refusal), "%s", why.text);
		return CURL_SOCKET_BAD;
	}
	if (fd < 0)
		fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	note_open(h->session, h, fd, is_data(h, &a->addr));
	return fd;
}

/* The server closed it while it was kept. */
static bool
hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

static void
forget(struct curl_session *s, unsigned i)
{
	/* Not at the session's own end: there is no task then, or it has failed. */
	if (s->running && s->socket[i].kept && hung_up(s->socket[i].fd))
		s->run->done.reconnected++;
	close(s->socket[i].fd);
	s->socket[i] = s->socket[--s->sockets];
}

static struct curl_socket *
find(const struct curl_session *s, int fd)
{
	for (unsigned i = 0; i < s->sockets; i++)
		if (s->socket[i].fd == fd)
			return &s->socket[i];
	BUG("a socket that was not opened here");
}

int
curl_close_socket(void *arg, curl_socket_t fd)
{
	struct curl_session *s = arg;
	struct curl_socket *k = find(s, fd);

	if (k->lent)
		k->orphan = true;
	else
		forget(s, (unsigned)(k - s->socket));
	return 0;
}

void
curl_sockets_release(struct curl_session *s, const struct curl_handle *h)
{
	for (unsigned i = s->sockets; i-- > 0;)
		if (s->socket[i].owner == h && s->socket[i].orphan)
			forget(s, i);
}

/*
 * libcurl looks at an idle connection before it uses it. One that is shut down it takes for alive as long as bytes of before can
 * be read, or an error; and the bytes then for the answer to what it did not ask, in a buffer that it does not have any more.
 */
void
curl_sockets_drain(const struct curl_session *s, const struct curl_handle *h)
{
	char rest[4096];

	for (unsigned i = 0; i < s->sockets; i++) {
		unsigned errors = 0;
		ssize_t n = 1;

		if (s->socket[i].owner != h || !s->socket[i].broken)
			continue;
		/* No more than its buffer holds: it is shut down. */
		while (n && errors < 2) {
			n = recv(s->socket[i].fd, rest, sizeof(rest), MSG_DONTWAIT);
			errors += n < 0;
		}
	}
}

void
curl_sockets_disown(struct curl_session *s, const struct curl_handle *h)
{
	curl_sockets_release(s, h);
	for (unsigned i = 0; i < s->sockets; i++)
		if (s->socket[i].owner == h)
			s->socket[i].owner = NULL;
}

void
curl_session_release(const struct transfer *t)
{
	if (t->handle)
		curl_sockets_release(t->handle->session, t->handle);
}

/* ---- kept ones ---- */

static void
serves(struct curl_session *s, struct curl_socket *k)
{
	s->run->done.reused += k->kept;
	k->kept = false;
}

void
curl_sockets_keep(struct curl_session *s)
{
	for (unsigned i = 0; i < s->sockets; i++)
		s->socket[i].kept = true;
}

void
curl_sockets_served(struct curl_session *s, int fd)
{
	for (unsigned i = 0; i < s->sockets; i++)
		if (s->socket[i].fd == fd)
			serves(s, &s->socket[i]);
}

/* ---- lanes ---- */

/* Of a connection that was idle: something that nobody asked for, or its end. */
static bool
has_input(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	return n >= 0 || (errno != EAGAIN && errno != EINTR);
}

/* Its one control connection; NULL: none, or it is not clear which. */
static struct curl_socket *
control_of(const struct curl_session *s, const struct transfer *t)
{
	struct curl_socket *one = NULL;

	for (unsigned i = 0; i < s->sockets; i++) {
		if (s->socket[i].data || s->socket[i].broken || !s->socket[i].owner || s->socket[i].owner->easy != t->easy)
			continue;
		if (one)
			return NULL;
		one = &s->socket[i];
	}
	return one;
}

bool
curl_session_has(const struct curl_session *s, const struct transfer *t)
{
	return control_of(s, t) != NULL;
}

int
curl_session_lend(struct curl_session *s, const struct transfer *t)
{
	struct curl_socket *one = control_of(s, t);

	if (!one || one->owner->proxied || has_input(one->fd))
		return -1;
	one->lent = true;
	serves(s, one);
	return one->fd;
}

void
curl_session_lend_over(struct curl_session *s, int fd, bool whole)
{
	struct curl_socket *k = find(s, fd);

	/* An orphan stays, for this handle's next lane; what libcurl still has it closes when it finds it dead. */
	k->lent = k->orphan && whole;
	if (whole)
		return;
	k->broken = true;
	shutdown(fd, SHUT_RDWR);
	if (k->orphan)
		forget(s, (unsigned)(k - s->socket));
}

int
curl_session_data_socket(const struct transfer *t, int control, uint16_t port, bool *connected)
{
	/* libcurl's struct ends with a sockaddr behind which it has more room; so has this. */
	union { struct curl_sockaddr a; char room[sizeof(struct curl_sockaddr) + sizeof(struct sockaddr_storage)]; } u;
	struct sockaddr_storage peer;
	socklen_t n = sizeof(peer);
	int fd, flags;

	memset(&u, 0, sizeof(u));
	*connected = broker_on();
	if (getpeername(control, (struct sockaddr *)&peer, &n))
		return -1;
	/* of both families the port stands at the same place */
	((struct sockaddr_in *)&peer)->sin_port = htons(port);
	u.a.family = peer.ss_family;
	u.a.socktype = SOCK_STREAM;
	u.a.protocol = IPPROTO_TCP;
	u.a.addrlen = n;
	memcpy((void *)&u.a.addr, &peer, n);
	fd = curl_open_socket(t->handle, CURLSOCKTYPE_IPCXN, &u.a);
	if (fd == CURL_SOCKET_BAD || *connected)
		return fd;
	flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && !fcntl(fd, F_SETFL, flags | O_NONBLOCK) && !connect(fd, (const struct sockaddr *)&peer, n)) {
		*connected = true;
		return fd;
	}
	if (flags >= 0 && errno == EINPROGRESS)
		return fd;
	curl_close_socket(t->handle->session, fd);
	return -1;
}

void
curl_session_close(struct curl_session *s, int fd)
{
	curl_close_socket(s, fd);
}

/* ---- what the timeouts know of a transfer ---- */

void
curl_session_asked(const struct transfer *t, bool connecting)
{
	struct curl_handle *h = t->handle;

	h->asked = h->session->clock;
	h->waiting = true;
	h->connecting = connecting;
}

void
curl_session_heard(const struct transfer *t, bool content)
{
	struct curl_handle *h = t->handle;

	h->heard = h->session->clock;
	h->waiting = h->connecting = false;
	h->received |= content;
	h->session->run->answered = true;
}
