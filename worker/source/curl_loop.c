/*
 * curl_loop.c - the loop of a libcurl session: waits for its transfers and lanes, ends what has ended or was silent too long.
 *
 * Response and idle timeouts are our own: libcurl has none for the first byte, and its low-speed one is blind below a
 * second and counts the time that we, not the server, were busy. What waits for its turn is begun by curl_turns.c.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/source/curl.h"
#include "worker/source/curl_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* Behind a proxy the peer is the destination: the proxy is known to who configured it. */
static void
tell_peer(struct curl_session *s, const struct curl_handle *h)
{
	struct sockaddr_storage sa = h->tried;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;
	char *ip = NULL;
	long port = 0;

	if (s->peer_told || (h->t && h->t->aside))
		return;
	curl_easy_getinfo(h->easy, CURLINFO_PRIMARY_IP, &ip);
	curl_easy_getinfo(h->easy, CURLINFO_PRIMARY_PORT, &port);
	if (h->proxied) {
		sa = s->target.addr[0].sa;
	} else if (ip && *ip) {
		memset(&sa, 0, sizeof(sa));
		sa.ss_family = strchr(ip, ':') ? AF_INET6 : AF_INET;
		/* both have the port at the same place */
		v4->sin_port = htons((uint16_t)port);
		if (inet_pton(sa.ss_family, ip, sa.ss_family == AF_INET ? (void *)&v4->sin_addr : &v6->sin6_addr) != 1)
			return;
	}
	if (!sa.ss_family)
		return;
	s->peer_told = true;
	run_peer(s->run, (const struct sockaddr *)&sa);
}

static void
tell_served(const struct curl_handle *h)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	long opened = 1;

	curl_easy_getinfo(h->easy, CURLINFO_NUM_CONNECTS, &opened);
	if (h->in_multi && !opened && !curl_easy_getinfo(h->easy, CURLINFO_ACTIVESOCKET, &fd) && fd != CURL_SOCKET_BAD)
		curl_sockets_served(h->session, fd);
}

static int
end_transfer(struct curl_handle *h, CURLcode code, struct err *e)
{
	struct curl_session *s = h->session;
	struct transfer *t = h->t;

	tell_peer(s, h);
	curl_cert_look(s, h);
	if (!code)
		tell_served(h);
	if (h->keep && !code) {
		s->active--;
		s->going--;
		h->t = NULL;
	} else {
		curl_turns_leave(h);
	}
	return t->ended(t, code, e);
}

/* It has given back what it had. */
static int
end_lane(struct curl_handle *h, CURLcode code, struct err *e)
{
	h->in_lane = false;
	h->session->going--;
	return end_transfer(h, code, e);
}

static int
finished(struct curl_session *s, struct err *e)
{
	struct curl_handle *h;
	CURLMsg *m;
	int left, rc;

	while ((m = curl_multi_info_read(s->multi, &left))) {
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &h);
		rc = end_transfer(h, m->data.result, e);
		if (rc)
			return rc;
	}
	return RUN_GO_ON;
}

/* Which timeout runs for it, and ns until it strikes. */
static enum curl_expiry
expiry_of(const struct curl_handle *h, int64_t *left)
{
	const struct curl_session *s = h->session;

	if (h->t && h->waiting) {
		int64_t patience = h->t->patience_ms, ms = h->connecting ? s->limits.connect_ms : s->limits.response_ms;

		ms = h->in_lane && patience && patience < ms ? patience : ms;
		*left = h->asked + ms * 1000000 - s->clock;
		return h->connecting ? EXPIRY_DATA : EXPIRY_RESPONSE;
	}
	if (h->t && h->heard >= 0) {
		*left = h->heard + s->limits.idle_ms * 1000000 - s->clock;
		return EXPIRY_IDLE;
	}
	*left = TURN_NS;
	return EXPIRY_NONE;
}

/* Ends what has been silent for too long; *next: ns until the next one may be. */
static int
overdue(struct curl_session *s, int64_t *next, struct err *e)
{
	struct curl_handle *h = s->handles;
	enum curl_expiry x;
	int64_t left;
	int rc;

	*next = TURN_NS;
	while (h) {
		x = expiry_of(h, &left);
		if (left > 0) {
			*next = left < *next ? left : *next;
			h = h->next;
			continue;
		}
		h->expiry = x;
		rc = end_transfer(h, CURLE_OPERATION_TIMEDOUT, e);
		if (rc)
			return rc;
		/* the list may be another one now */
		h = s->handles;
	}
	return RUN_GO_ON;
}

/*
 * The session's clock stands still for what takes us long (a master that does not read): a server is not late for it.
 */
static void
advance(struct curl_session *s)
{
	int64_t now = run_clock(), passed = now - s->turned_ns;

	s->clock += passed < TURN_NS ? passed : TURN_NS;
	s->turned_ns = now;
}

/* What is to be waited for beside libcurl's sockets: the master, and the lanes. */
static unsigned
collect_waits(struct curl_session *s)
{
	unsigned n = 1, most = 1 + s->going * LANE_SOCKETS;

	if (s->waits_room < most) {
		s->waits = xreallocarray(s->waits, most, sizeof(*s->waits));
		s->waits_room = most;
	}
	s->waits[0] = (struct curl_waitfd){ .fd = s->run->ch->fd, .events = CURL_WAIT_POLLIN };
	for (const struct curl_handle *h = s->handles; h; h = h->next)
		for (unsigned k = 0; h->in_lane && k < LANE_SOCKETS; k++)
			if (h->t->watch[k].fd >= 0)
				s->waits[n++] = h->t->watch[k];
	return n;
}

/* The same order as collect_waits. False: nothing came. */
static void
spread_waits(struct curl_session *s)
{
	unsigned n = 1;

	for (struct curl_handle *h = s->handles; h; h = h->next)
		for (unsigned k = 0; h->in_lane && k < LANE_SOCKETS; k++)
			if (h->t->watch[k].fd >= 0) {
				h->t->watch[k].revents = s->waits[n++].revents;
				h->ready |= h->t->watch[k].revents != 0;
			}
}

static bool
lane_is_ready(const struct curl_session *s)
{
	for (const struct curl_handle *h = s->handles; h; h = h->next)
		if (h->in_lane && h->ready)
			return true;
	return false;
}

static int
wait_for_traffic(struct curl_session *s, int64_t ns, struct err *e)
{
	int ms = lane_is_ready(s) ? 0 : (int)((ns + 999999) / 1000000);
	unsigned n = collect_waits(s);

	if (curl_multi_poll(s->multi, s->waits, n, ms, NULL))
		return err_set(e, ERR_SYSTEM, "libcurl cannot wait for its sockets");
	spread_waits(s);
	if (s->waits[0].revents && channel_poll(s->run->ch, 0, e))
		return -1;
	return run_look(s->run, e);
}

static int
work_lanes(struct curl_session *s, struct err *e)
{
	struct curl_handle *h = s->handles;
	CURLcode code;
	int rc;

	while (h) {
		if (!h->in_lane || !h->ready) {
			h = h->next;
			continue;
		}
		h->ready = false;
		code = CURLE_OK;
		if (!h->t->lane->work(h->t, &code)) {
			h = h->next;
			continue;
		}
		rc = end_lane(h, code, e);
		if (rc)
			return rc;
		/* the list may be another one now */
		h = s->handles;
	}
	return RUN_GO_ON;
}

static int
turn(struct curl_session *s, struct err *e)
{
	CURLMcode m;
	int64_t next, turn_ns;
	int running, rc;

	/* before libcurl, which looks over idle connections when it needs another one */
	rc = work_lanes(s, e);
	if (rc)
		return rc;
	m = curl_multi_perform(s->multi, &running);
	if (m)
		return err_set(e, ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(m));
	advance(s);
	rc = finished(s, e);
	if (!rc)
		rc = overdue(s, &next, e);
	if (rc || !s->active)
		return rc;
	/* What starts here has libcurl's poll return at once. */
	if (curl_turns_give(s, &turn_ns, e))
		return -1;
	return wait_for_traffic(s, turn_ns < next ? turn_ns : next, e);
}

int
curl_loop_run(struct curl_session *s, const struct curl_handle *one, struct err *e)
{
	int rc = RUN_GO_ON;

	if (s->running)
		BUG("curl_session_run within itself");
	s->running = true;
	s->turned_ns = run_clock();
	while (!rc && s->active && (!one || one->t))
		rc = turn(s, e);
	s->running = false;
	return rc;
}

int
curl_session_run(struct curl_session *s, struct err *e)
{
	int rc = curl_loop_run(s, NULL, e);

	for (struct curl_handle *h = s->handles; h; h = h->next) {
		if (!h->t)
			continue;
		tell_peer(s, h);
		curl_turns_leave(h);
	}
	return rc;
}
