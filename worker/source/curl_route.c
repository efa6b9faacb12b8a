/*
 * curl_route.c - which way a request goes: through the proxy or directly, and under which name.
 *
 * curl.c asks for each host that it resolves and each URL that it is given. Nothing here connects or resolves; whether an
 * address may be connected to is the egress policy's to say, by either way.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/hosts.h"
#include "worker/source/curl_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* --- the proxy --- */

static const struct proxy_scheme { const char *name, *libcurl, *port; } proxy_schemes[] = {
	{ "http", "http", "80" },
	{ "https", "https", "443" },
	{ "socks5", "socks5", "1080" },
	/* the name would be the proxy's to resolve; ours is an address by then */
	{ "socks5h", "socks5", "1080" },
};

static const struct proxy_scheme *
proxy_scheme(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(proxy_schemes); i++)
		if (name && !strcasecmp(name, proxy_schemes[i].name))
			return &proxy_schemes[i];
	return NULL;
}

static const char *
take_proxy(struct proxy *p, CURLU *u)
{
	const struct proxy_scheme *scheme;
	char *name = NULL, *host = NULL, *port = NULL, *user = NULL;
	const char *wrong = NULL;

	curl_url_get(u, CURLUPART_SCHEME, &name, 0);
	curl_url_get(u, CURLUPART_HOST, &host, 0);
	curl_url_get(u, CURLUPART_PORT, &port, 0);
	scheme = proxy_scheme(name);
	if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
		wrong = "user and password belong into proxy.username and proxy.password";
	else if (!scheme)
		wrong = "the scheme is none of http, https, socks5, socks5h";
	else if (!host || strlen(host) >= sizeof(p->host))
		wrong = "it names no host";
	else {
		snprintf(p->host, sizeof(p->host), "%s", host);
		p->port = (uint16_t)strtoul(port ? port : scheme->port, NULL, 10);
		p->url = xasprintf("%s://%s:%u", scheme->libcurl, host, p->port);
	}
	curl_free(name);
	curl_free(host);
	curl_free(port);
	curl_free(user);
	return wrong;
}

/* libcurl takes "http:/a/b://c" for the host a; the master, which holds it to the tenant's hosts, looks behind "://". */
static bool
is_plain_origin(const char *url)
{
	const char *p = url + strcspn(url, ":/?#");

	if (strncmp(p, "://", 3))
		return false;
	p += 3 + strcspn(p + 3, "/?#\\");
	return !*p || !strcmp(p, "/");
}

int
route_proxy(struct proxy *p, const char *url, struct err *e)
{
	const char *wrong;
	CURLU *u;

	free(p->url);
	memset(p, 0, sizeof(*p));
	if (!*url)
		return 0;
	u = curl_url();
	if (!u)
		return err_set(e, ERR_SYSTEM, "out of memory");
	if (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME))
		wrong = "it is not a URL";
	else if (!is_plain_origin(url))
		wrong = "it is more than scheme://host:port";
	else
		wrong = take_proxy(p, u);
	curl_url_cleanup(u);
	return wrong ? err_set(e, ERR_PERMANENT, "proxy.url: %s", wrong) : 0;
}

/* --- past the proxy --- */

static bool
all_in(const char *network, const struct net_target *t)
{
	char text[EGRESS_TEXT];

	for (size_t i = 0; i < t->n; i++) {
		egress_addr_text((const struct sockaddr *)&t->addr[i].sa, text);
		if (!hosts_in_network(network, text))
			return false;
	}
	return t->n;
}

/* The domain itself, or a name below it. */
static bool
in_domain(const char *domain, const char *host)
{
	size_t n, k = strlen(host);

	domain += *domain == '*';
	domain += *domain == '.';
	n = strlen(domain);
	k -= k && host[k - 1] == '.';
	return n && k >= n && !strncasecmp(host + k - n, domain, n) && (k == n || host[k - n - 1] == '.');
}

bool
route_passes_by(const struct strlist *l, const struct net_target *t)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], "*") || (hosts_is_network(l->v[i]) ? all_in(l->v[i], t) : in_domain(l->v[i], t->host)))
			return true;
	return false;
}

/* --- URLs --- */

static uint16_t
port_of(const char *url)
{
	static const struct { const char *scheme; uint16_t port; } known[] = {
		{ "http:", 80 }, { "https:", 443 }, { "ftp:", 21 }, { "ftps:", 990 },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (!strncmp(url, known[i].scheme, strlen(known[i].scheme)))
			return known[i].port;
	return 0;
}

/* "scheme://" is before it, and what it returns behind it. */
static const char *
authority(const char *url, size_t *n)
{
	const char *p = strstr(url, "://");

	if (!p)
		BUG("a URL without a scheme");
	p += 3;
	*n = strcspn(p, "/?");
	return p;
}

void
route_place(const char *url, char host[256], uint16_t *port)
{
	size_t n, k;
	const char *p = authority(url, &n);
	const char *shut = *p == '[' ? memchr(p, ']', n) : NULL, *colon;

	k = shut ? (size_t)(shut - p) + 1 : n;
	colon = shut ? (k < n ? p + k : NULL) : memchr(p, ':', n);
	k = shut ? k : colon ? (size_t)(colon - p) : n;
	*port = colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : port_of(url);
	if (shut)
		snprintf(host, 256, "%.*s", (int)k - 2, p + 1);
	else
		snprintf(host, 256, "%.*s", (int)k, p);
}

void
route_rename(const char *url, const char *host, uint16_t port, struct buf *out)
{
	size_t n;
	const char *p = authority(url, &n);

	buf_clear(out);
	buf_add(out, url, (size_t)(p - url));
	buf_printf(out, "%s:%u%s", host, port, p + n);
}
