/*
 * curl.c - the libcurl session that s3, http, ftp and sftp's socket share: options, hosts, handles.
 *
 * Its users are the sources alone. libcurl never resolves a name here, never connects where the egress policy was not
 * asked of the very address, never reads the environment or a file but the authorities' certificates, and never follows
 * a redirect.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "worker/source/curl.h"
#include "worker/source/curl_priv.h"
#include "common/broker.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define HOSTS_MAX 32
#define PLACE_TEXT 300          /* "host:65535 proxy" */
#define BUFFER_BYTES 65536L

/* A refused option is a bug; a lack of memory ends the worker, as everywhere. */
static void
set_ok(CURLcode code)
{
	if (code)
		BUG("libcurl refused an option");
}
#define SET(easy, option, value) set_ok(curl_easy_setopt((easy), (option), (value)))

const struct curl_limits *
curl_session_limits(const struct curl_session *s)
{
	return &s->limits;
}

/* The connector's are. */
static int
socket_is_connected(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	(void)arg;
	(void)fd;
	(void)purpose;
	return CURL_SOCKOPT_ALREADY_CONNECTED;
}

/* Called where libcurl would resolve, numeric addresses included. Names are all in its cache, so that none is left. */
static int
resolver_start(void *resolver, void *reserved, void *arg)
{
	const struct curl_session *s = arg;

	(void)resolver;
	(void)reserved;
	return !s->literals;
}

/* A transfer's second request over HTTP: for digest the answer to 401, or once more where a kept connection was dead. */
static bool
repeated(struct curl_handle *h, const char *p, size_t n)
{
	static const char connect[] = "CONNECT ";

	if (strstr(h->session->schemes, "ftp") || (n > strlen(connect) && !memcmp(p, connect, strlen(connect))))
		return false;
	return h->requests++ > 0;
}

/* Not for its text: it is told of every byte that goes and comes, which is what the timeouts need to know. */
static int
traffic(CURL *easy, curl_infotype type, char *p, size_t n, void *arg)
{
	struct curl_handle *h = arg;

	(void)easy;
	if (type == CURLINFO_HEADER_OUT && repeated(h, p, n))
		pace_owe(h->session->run);
	if (type == CURLINFO_HEADER_OUT || type == CURLINFO_DATA_OUT) {
		h->asked = h->session->clock;
		h->waiting = true;
	} else if (type == CURLINFO_HEADER_IN || type == CURLINFO_DATA_IN) {
		h->heard = h->session->clock;
		h->waiting = false;
		h->session->run->answered = true;
	}
	if (h->t && h->t->told)
		h->t->told(h->t, type, p, n);
	return 0;
}

/* --- options --- */

static void
set_blob(CURL *easy, CURLoption option, const char *text)
{
	struct curl_blob b = { .len = strlen(text), .flags = CURL_BLOB_COPY };

	/* copied, not written to: the member is void * for libcurl's own use */
	memcpy(&b.data, &text, sizeof(b.data));
	set_ok(curl_easy_setopt(easy, option, &b));
}

static void
set_tls(struct curl_session *s, CURL *easy)
{
	const struct field_value *verify = &s->run->task->source.v[SF_NETWORK_TLS_VERIFY];
	long check = !verify->set || verify->i, least = run_int(s->run, SF_NETWORK_TLS_MIN_VERSION) == 1 ?
	    CURL_SSLVERSION_TLSv1_3 : CURL_SSLVERSION_TLSv1_2;
	const char *ca = run_str(s->run, SF_NETWORK_TLS_CA_PEM), *cert = run_str(s->run, SF_NETWORK_TLS_CERT_PEM);
	const char *key = run_str(s->run, SF_NETWORK_TLS_KEY_PEM), *text;

	SET(easy, CURLOPT_SSL_VERIFYPEER, check);
	SET(easy, CURLOPT_SSL_VERIFYHOST, check ? 2L : 0L);
	SET(easy, CURLOPT_PROXY_SSL_VERIFYPEER, check);
	SET(easy, CURLOPT_PROXY_SSL_VERIFYHOST, check ? 2L : 0L);
	SET(easy, CURLOPT_CERTINFO, 1L);
	SET(easy, CURLOPT_SSLVERSION, least);
	SET(easy, CURLOPT_PROXY_SSLVERSION, least);
	/* Without the directory libcurl keeps the parsed bundle for the next connection, and a job's own are the only ones. */
	SET(easy, CURLOPT_CAPATH, NULL);
	SET(easy, CURLOPT_PROXY_CAPATH, NULL);
	if (*ca) {
		set_blob(easy, CURLOPT_CAINFO_BLOB, ca);
		set_blob(easy, CURLOPT_PROXY_CAINFO_BLOB, ca);
	}
	if (*cert)
		set_blob(easy, CURLOPT_SSLCERT_BLOB, cert);
	if (*key)
		set_blob(easy, CURLOPT_SSLKEY_BLOB, key);
	text = run_str(s->run, SF_NETWORK_TLS_KEY_PASSWORD);
	/* never NULL: OpenSSL would ask the terminal */
	SET(easy, CURLOPT_KEYPASSWD, text);
	text = run_str(s->run, SF_NETWORK_TLS_PINNED_PUBKEY);
	if (*text)
		SET(easy, CURLOPT_PINNEDPUBLICKEY, text);
	text = run_str(s->run, SF_NETWORK_TLS_CIPHERS);
	if (*text)
		SET(easy, CURLOPT_SSL_CIPHER_LIST, text);
}

/* libcurl 7.88 percent-decodes both (parse_proxy_auth in its url.c), whatever their manual pages say. */
static void
set_proxy_login(CURL *easy, CURLoption option, const char *text)
{
	struct buf b = BUF_INIT;

	for (; *text; text++) {
		if (*text == '%')
			buf_puts(&b, "%25");
		else
			buf_putc(&b, *text);
	}
	set_ok(curl_easy_setopt(easy, option, buf_str(&b)));
	buf_wipe(&b);
}

static void
set_proxy(struct curl_session *s, const struct curl_handle *h)
{
	const char *user = run_str(s->run, SF_NETWORK_PROXY_USERNAME);
	CURL *easy = h->easy;

	/* the empty text, unlike none, keeps the environment out */
	SET(easy, CURLOPT_NOPROXY, "");
	SET(easy, CURLOPT_PROXY, h->proxied ? s->proxy.url : "");
	if (!h->proxied)
		return;
	SET(easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
	SET(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(easy, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
	SET(easy, CURLOPT_SOCKS5_AUTH, (long)CURLAUTH_BASIC);
	if (*user) {
		set_proxy_login(easy, CURLOPT_PROXYUSERNAME, user);
		set_proxy_login(easy, CURLOPT_PROXYPASSWORD, run_str(s->run, SF_NETWORK_PROXY_PASSWORD));
	}
}

static void
set_common(struct curl_session *s, struct curl_handle *h)
{
	CURL *easy = h->easy;

	SET(easy, CURLOPT_PROTOCOLS_STR, s->schemes);
	SET(easy, CURLOPT_REDIR_PROTOCOLS_STR, s->schemes);
	SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SET(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(easy, CURLOPT_NOSIGNAL, 1L);
	SET(easy, CURLOPT_OPENSOCKETFUNCTION, curl_open_socket);
	SET(easy, CURLOPT_OPENSOCKETDATA, h);
	if (broker_on())
		SET(easy, CURLOPT_SOCKOPTFUNCTION, socket_is_connected);
	SET(easy, CURLOPT_CLOSESOCKETFUNCTION, curl_close_socket);
	SET(easy, CURLOPT_CLOSESOCKETDATA, s);
	SET(easy, CURLOPT_RESOLVER_START_FUNCTION, resolver_start);
	SET(easy, CURLOPT_RESOLVER_START_DATA, s);
	SET(easy, CURLOPT_DEBUGFUNCTION, traffic);
	SET(easy, CURLOPT_DEBUGDATA, h);
	SET(easy, CURLOPT_VERBOSE, 1L);
	SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	SET(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	SET(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)s->limits.connect_ms);
	/* libcurl's own one for FTP runs while we are busy elsewhere; ours does not */
	SET(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, 86400L);
	SET(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(easy, CURLOPT_FTP_SKIP_PASV_IP, 1L);
	SET(easy, CURLOPT_USERAGENT, "iis-poller/" VERSION);
	set_tls(s, easy);
}

/* --- hosts --- */

/* "::1" to "[::1]" */
static void
put_host(struct buf *b, const char *host)
{
	buf_printf(b, strchr(host, ':') ? "[%s]" : "%s", host);
}

static void
put_addr(struct buf *b, const struct net_addr *a)
{
	char text[EGRESS_TEXT];

	egress_addr_text((const struct sockaddr *)&a->sa, text);
	put_host(b, text);
}

static void
append(struct curl_slist **list, struct buf *line)
{
	/* At the end: those under way keep their pointer to the first one. */
	struct curl_slist *l = curl_slist_append(*list, buf_str(line));

	if (!l)
		BUG("curl_slist_append");
	*list = l;
}

/* libcurl's reader of URLs makes 127.0.0.1 of 0x7f.1, and looks for that. */
static bool
is_literal(const char *host)
{
	struct in_addr a;

	return strchr(host, ':') || inet_aton(host, &a);
}

/* CURLOPT_RESOLVE of 7.88: "host:port:addr,[addr]"; a host with ':' cannot be told and needs not, nor does a number. */
static void
tell_addresses(struct curl_session *s, const struct net_target *t)
{
	struct buf b = BUF_INIT;

	if (is_literal(t->host)) {
		s->literals = true;
		return;
	}
	buf_printf(&b, "%s:%u:", t->host, t->port);
	for (size_t i = 0; i < t->n; i++) {
		if (i)
			buf_putc(&b, ',');
		put_addr(&b, &t->addr[i]);
	}
	append(&s->resolve, &b);
	buf_release(&b);
}

/* A proxy is asked for the address that was checked: by its own resolver it might get another. */
static void
tell_proxied(struct curl_session *s, const struct net_target *t)
{
	struct buf b = BUF_INIT;

	put_host(&b, t->host);
	buf_printf(&b, ":%u:", t->port);
	put_addr(&b, &t->addr[0]);
	buf_printf(&b, ":%u", t->port);
	append(&s->connect_to, &b);
	buf_release(&b);
	s->literals = true;
}

static bool
holds(const struct strlist *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcasecmp(l->v[i], name))
			return true;
	return false;
}

static bool
goes_by_proxy(const struct curl_session *s, const char *host, uint16_t port)
{
	char name[PLACE_TEXT];

	snprintf(name, sizeof(name), "%s:%u", host, port);
	return s->proxy.url && !holds(&s->direct, name);
}

/* Where the endpoint is asked for by another name than its own, it is found by its own all the same. */
static void
tell_renamed(struct curl_session *s)
{
	const char *name = run_str(s->run, SF_NETWORK_TLS_SERVER_NAME);
	struct buf b = BUF_INIT;

	if (!*name)
		return;
	buf_printf(&b, "%s:%u:", name, s->port);
	if (goes_by_proxy(s, s->host, s->port))
		put_addr(&b, &s->target.addr[0]);
	else
		put_host(&b, s->target.host);
	buf_printf(&b, ":%u", s->port);
	append(&s->renamed, &b);
	buf_release(&b);
}

static int add_host(struct curl_session *, const char *host, uint16_t port, bool destination, struct net_target *, struct err *);

/* Decided by what the host resolved to, once for this run. */
static int
choose_way(struct curl_session *s, const struct net_target *t, const char *name, struct err *e)
{
	const struct strlist *direct = &s->run->task->source.v[SF_NETWORK_PROXY_NO_PROXY].l;
	struct net_target proxy;

	if (!s->proxy.url)
		return 0;
	if (route_passes_by(direct, t)) {
		strlist_add(&s->direct, name);
		return 0;
	}
	tell_proxied(s, t);
	return add_host(s, s->proxy.host, s->proxy.port, false, &proxy, e);
}

static int
add_host(struct curl_session *s, const char *host, uint16_t port, bool destination, struct net_target *t, struct err *e)
{
	char name[PLACE_TEXT];

	snprintf(name, sizeof(name), "%s:%u%s", host, port, destination ? "" : " proxy");
	if (holds(&s->hosts, name))
		return 0;
	if (s->hosts.n >= HOSTS_MAX)
		return err_set(e, ERR_LIMIT, "the source leads to more than %d hosts", HOSTS_MAX);
	if (net_resolve(s->run, host, port, t, e))
		return -1;
	tell_addresses(s, t);
	strlist_add(&s->hosts, name);
	return destination ? choose_way(s, t, name, e) : 0;
}

int
curl_session_host(struct curl_session *s, const char *host, uint16_t port, struct err *e)
{
	struct net_target t;

	return add_host(s, host, port, true, &t, e);
}

/* --- the session --- */

static int
start_libcurl(struct err *e)
{
	static bool started;

	if (!started && curl_global_init(CURL_GLOBAL_DEFAULT))
		return err_set(e, ERR_SYSTEM, "libcurl does not start");
	started = true;
	return 0;
}

static int64_t
limit_of(const struct run *r, enum source_field f, int64_t otherwise)
{
	int64_t ms = run_int(r, f);

	return ms > 0 ? ms : otherwise;
}

static void
set_bound(struct curl_session *s, unsigned connections)
{
	s->connections = connections ? connections : 1;
	curl_multi_setopt(s->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)s->connections);
	curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)s->connections);
}

static int
use(struct curl_session *s, struct run *r, struct err *e)
{
	s->run = r;
	s->peer_told = false;
	s->literals = strstr(s->schemes, "ftp") != NULL; /* data connections go to the address of the control connection */
	s->limits = (struct curl_limits){ limit_of(r, SF_NETWORK_CONNECT_TIMEOUT, 30000),
		limit_of(r, SF_NETWORK_RESPONSE_TIMEOUT, 60000), limit_of(r, SF_NETWORK_IDLE_TIMEOUT, 60000) };
	curl_slist_free_all(s->resolve);
	curl_slist_free_all(s->connect_to);
	curl_slist_free_all(s->renamed);
	s->resolve = s->connect_to = s->renamed = NULL;
	strlist_release(&s->hosts);
	strlist_release(&s->direct);
	if (route_proxy(&s->proxy, run_str(r, SF_NETWORK_PROXY_URL), e) || add_host(s, s->host, s->port, true, &s->target, e))
		return -1;
	tell_renamed(s);
	return 0;
}

int
curl_session_use(struct curl_session *s, struct run *r, struct err *e)
{
	if (s->active)
		BUG("a curl session changes its task while transfers are under way");
	set_bound(s, r->task->connections);
	curl_sockets_keep(s);
	if (use(s, r, e))
		return -1;
	curl_cert_kept(s);
	return 0;
}

struct curl_session *
curl_session_new(struct run *r, const char *schemes, const char *host, uint16_t port, unsigned connections,
    struct err *e)
{
	struct curl_session *s;

	if (start_libcurl(e))
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->schemes = xstrdup(schemes);
	s->host = xstrdup(host);
	s->port = port;
	s->queue_end = &s->queue;
	s->multi = curl_multi_init();
	if (!s->multi) {
		err_set(e, ERR_SYSTEM, "libcurl does not start");
		curl_session_free(s);
		return NULL;
	}
	set_bound(s, connections);
	curl_multi_setopt(s->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	if (use(s, r, e)) {
		curl_session_free(s);
		return NULL;
	}
	return s;
}

/* --- handles --- */

static void
handle_free(struct curl_handle *h)
{
	curl_turns_leave(h);
	curl_sockets_disown(h->session, h);
	curl_easy_cleanup(h->easy);
	free(h);
}

/*
 * libcurl says QUIT on each control connection of FTP and waits for the answer, for as long as its own response timeout,
 * one connection after the other. What is said goes out; that nothing comes any more it sees at once.
 */
static void
stop_listening(const struct curl_session *s)
{
	for (unsigned i = 0; i < s->sockets; i++)
		shutdown(s->socket[i].fd, SHUT_RD);
}

void
curl_session_free(struct curl_session *s)
{
	struct curl_handle *h;

	if (!s)
		return;
	stop_listening(s);
	while ((h = s->handles)) {
		s->handles = h->next;
		handle_free(h);
	}
	if (s->multi)
		curl_multi_cleanup(s->multi);
	curl_slist_free_all(s->resolve);
	curl_slist_free_all(s->connect_to);
	curl_slist_free_all(s->renamed);
	strlist_release(&s->hosts);
	strlist_release(&s->direct);
	free(s->proxy.url);
	free(s->schemes);
	free(s->host);
	free(s->socket);
	free(s->waits);
	free(s);
}

unsigned
curl_session_connections(const struct curl_session *s)
{
	return s->sockets;
}

unsigned
curl_session_active(const struct curl_session *s)
{
	return s->active;
}

static struct curl_handle *
pooled(struct curl_session *s)
{
	for (struct curl_handle *h = s->handles; h; h = h->next)
		if (!h->out) {
			s->pooled--;
			return h;
		}
	return NULL;
}

CURL *
curl_session_easy(struct curl_session *s)
{
	struct curl_handle *h = pooled(s);

	if (!h) {
		h = xcalloc(1, sizeof(*h));
		h->session = s;
		h->easy = curl_easy_init();
		if (!h->easy)
			BUG("curl_easy_init");
		h->next = s->handles;
		s->handles = h;
	}
	h->out = true;
	set_common(s, h);
	return h->easy;
}

static struct curl_handle **
find(struct curl_session *s, const CURL *easy)
{
	struct curl_handle **at = &s->handles;

	while (*at && (*at)->easy != easy)
		at = &(*at)->next;
	if (!*at)
		BUG("an easy handle of another session");
	return at;
}

void
curl_session_recycle(struct curl_session *s, CURL *easy)
{
	struct curl_handle **at, *h;

	if (!easy)
		return;
	at = find(s, easy);
	h = *at;
	curl_turns_leave(h);
	if (s->pooled > s->connections) {
		*at = h->next;
		handle_free(h);
		return;
	}
	/* A reset leaves it, and who made it ends it. */
	SET(easy, CURLOPT_SHARE, NULL);
	/* Options go, the TLS session stays: the next connection to the same server is cheaper by it. */
	curl_easy_reset(easy);
	h->out = h->aimed = h->proxied = h->renamed = false;
	s->pooled++;
}

bool
curl_session_aim(struct curl_session *s, CURL *easy, const char *url, bool tls)
{
	const char *name = run_str(s->run, SF_NETWORK_TLS_SERVER_NAME);
	struct curl_handle *h = *find(s, easy);
	struct buf b = BUF_INIT;
	char host[256];
	uint16_t port;
	bool own;

	route_place(url, host, &port);
	h->aimed = true;
	h->proxied = goes_by_proxy(s, host, port);
	h->tls = tls;
	own = port == s->port && !strcasecmp(host, s->host);
	snprintf(h->host, sizeof(h->host), "%s", own ? "" : host);
	h->renamed = tls && *name && own;
	set_proxy(s, h);
	if (h->renamed)
		route_rename(url, name, port, &b);
	SET(easy, CURLOPT_URL, h->renamed ? buf_str(&b) : url);
	buf_release(&b);
	return h->renamed;
}

int
curl_session_start(struct curl_session *s, struct transfer *t, struct err *e)
{
	struct curl_handle *h = *find(s, t->easy);

	if (h->in_multi || h->in_lane || h->queued)
		BUG("a transfer is started twice");
	if (!h->aimed)
		BUG("a transfer goes nowhere");
	h->t = t;
	h->refused = h->waiting = h->connecting = h->received = false;
	h->requests = 0;
	h->expiry = EXPIRY_NONE;
	h->asked = h->heard = -1;
	memset(&h->tried, 0, sizeof(h->tried));
	t->handle = h;
	*t->error = '\0';
	SET(t->easy, CURLOPT_PRIVATE, h);
	SET(t->easy, CURLOPT_ERRORBUFFER, t->error);
	/* here, not with the rest: a handle may be older than the run, and its lists gone */
	SET(t->easy, CURLOPT_RESOLVE, s->resolve);
	SET(t->easy, CURLOPT_CONNECT_TO, h->renamed ? s->renamed : s->connect_to);
	/* A bare socket is no request. */
	if (!h->keep && (s->queue || pace_on(s->run))) {
		curl_turns_wait(h);
	} else if (curl_turns_begin(h, e)) {
		h->t = NULL;
		return -1;
	}
	s->active++;
	return 0;
}

/* --- a socket of its own --- */

static int
socket_ended(struct transfer *t, CURLcode code, struct err *e)
{
	struct buf what = BUF_INIT;

	if (!code)
		return RUN_GO_ON;
	buf_printf(&what, "connecting to %s", (const char *)t->arg);
	curl_session_error(t, code, buf_str(&what), e);
	buf_release(&what);
	return -1;
}

int
curl_session_socket(struct curl_session *s, CURL **owner, struct err *e)
{
	CURL *easy = curl_session_easy(s);
	struct curl_handle *h = *find(s, easy);
	struct transfer t = { .easy = easy, .ended = socket_ended };
	curl_socket_t fd = CURL_SOCKET_BAD;
	struct buf url = BUF_INIT;

	buf_puts(&url, "http://");
	put_host(&url, s->target.host);
	buf_printf(&url, ":%u", s->port);
	t.arg = url.p + strlen("http://");
	curl_session_aim(s, easy, buf_str(&url), false);
	SET(easy, CURLOPT_CONNECT_ONLY, 1L);
	h->keep = true;
	if (!curl_session_start(s, &t, e) && !curl_loop_run(s, h, e)) {
		curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd);
		if (fd == CURL_SOCKET_BAD)
			err_set(e, ERR_TRANSIENT, "connecting to %s: the connection is gone again", (char *)t.arg);
	}
	/* t and its error text end here */
	SET(easy, CURLOPT_ERRORBUFFER, NULL);
	buf_release(&url);
	if (fd == CURL_SOCKET_BAD) {
		curl_session_recycle(s, easy);
		return -1;
	}
	*owner = easy;
	return fd;
}
