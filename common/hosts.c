/*
 * hosts.c - host names against a list of patterns, addresses and networks; see hosts.h.
 *
 * Called with what jobs and servers' answers name, so that nothing here trusts its form: what cannot be compared is in no
 * list. Asks no resolver.
 */
#include <arpa/inet.h>
#include <string.h>

#include "common/egress.h"
#include "common/glob.h"
#include "common/hosts.h"
#include "common/banned.h"

bool
hosts_of_url(const char *url, char out[HOSTS_TEXT])
{
	const char *p = strstr(url, "://"), *end, *at;
	size_t n;

	p = p ? p + 3 : url;
	end = p + strcspn(p, "/?#");
	for (at = p; at < end; at++)
		if (*at == '@')
			p = at + 1;
	if (*p == '[') {
		p++;
		n = strcspn(p, "]");
	} else {
		n = strcspn(p, ":/?#");
	}
	if (n && p[n - 1] == '.')
		n--;
	if (!n || n >= HOSTS_TEXT || p + n > end)
		return false;
	memcpy(out, p, n);
	out[n] = '\0';
	return true;
}

bool
hosts_any(const struct strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], "*"))
			return true;
	return !l->n;
}

bool
hosts_in_network(const char *network, const char *address)
{
	struct egress_net net;
	struct err e = ERR_INIT;
	uint8_t a[16];

	if (egress_net_parse(network, &net, &e) || inet_pton(net.v6 ? AF_INET6 : AF_INET, address, a) != 1)
		return false;
	for (unsigned i = 0; i < net.bits; i++)
		if ((a[i / 8] ^ net.addr[i / 8]) & (0x80 >> i % 8))
			return false;
	return true;
}

bool
hosts_is_network(const char *s)
{
	return strpbrk(s, ":/") || strspn(s, "0123456789.") == strlen(s);
}

const char *
hosts_no_proxy_fault(const char *s)
{
	struct egress_net net;
	struct err e = ERR_INIT;

	if (!strcmp(s, "*"))
		return NULL;
	if (hosts_is_network(s))
		return egress_net_parse(s, &net, &e) ? "holds what is neither a network nor an address (10.0.0.0/8, ::1; no port)" : NULL;
	s += *s == '*' && s[1] == '.';
	s += *s == '.';
	if (!*s || *s == '.' || strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != strlen(s))
		return "holds what is no name of a host or domain, no network, no address and not \"*\"";
	return NULL;
}

static bool
matches(const char *pattern, const char *host)
{
	struct err e = ERR_INIT;
	struct glob *g = glob_new(pattern, strlen(pattern), true, &e);
	bool yes = g && !glob_wants_path(g) && glob_match(g, host, strlen(host));

	glob_free(g);
	return yes;
}

bool
hosts_hold(const struct strlist *l, const char *host)
{
	for (size_t i = 0; i < l->n; i++)
		if (strchr(l->v[i], '/') ? hosts_in_network(l->v[i], host) : matches(l->v[i], host))
			return true;
	return false;
}

bool
hosts_allow(const struct strlist *l, const char *host)
{
	size_t n = strlen(host);
	char name[HOSTS_TEXT];

	if (hosts_any(l))
		return true;
	if (n > 2 && *host == '[') {
		host++;
		n -= 2;
	}
	if (n && host[n - 1] == '.')
		n--;
	if (n >= sizeof(name))
		return false;
	memcpy(name, host, n);
	name[n] = '\0';
	return hosts_hold(l, name);
}
