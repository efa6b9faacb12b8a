/*
 * net.c - names to addresses that the worker may connect to.
 *
 * Every network source resolves through here and nowhere else, so that what is connected to is what was checked. Names
 * that are numbers (0x7f.1, 2130706433) come out of the resolver as the addresses they are and are judged as such. It
 * opens no connection of its own but the resolver's, and blocks for as long as resolv.conf(5) says.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "worker/worker.h"
#include "common/escape.h"
#include "common/hosts.h"
#include "common/source_ftp.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define ONLY_MAX (4 * NET_ADDRS)

static struct egress policy, tenants;
static struct strlist hosts;            /* the tenant's */
/* Of the role credentials: what was resolved since net_only, and nothing else, may be connected to. */
static struct { bool on; size_t n; struct net_addr addr[ONLY_MAX]; } only;

int
net_init(const struct setup *s, struct err *e)
{
	egress_release(&policy);
	egress_release(&tenants);
	if (egress_init(&policy, &s->egress, e))
		return -1;
	memset(&only, 0, sizeof(only));
	only.on = s->role == ROLE_CREDENTIALS;
	/* No lists, until a task brings some. */
	tenants.tenant = true;
	return 0;
}

/* By the endpoint that the master made of the job; AUTH TLS makes ftps of ftp. */
static int
scheme_of(const struct task_spec *t)
{
	int scheme = egress_scheme_by_name(t->endpoint, strcspn(t->endpoint, ":"));

	return scheme == EGRESS_FTP && t->source.v[SF_FTP_TLS_MODE].i != FTP_TLS_NONE ? EGRESS_FTPS : scheme;
}

int
net_task(const struct task_spec *t, struct err *e)
{
	int scheme = scheme_of(t);

	egress_release(&tenants);
	strlist_release(&hosts);
	for (size_t i = 0; i < t->hosts.n; i++)
		strlist_add(&hosts, t->hosts.v[i]);
	/* The master made the lists of checked settings: what it cannot mean is its fault. */
	if (egress_init_tenant(&tenants, &t->egress, e))
		return -1;
	return scheme < 0 ? 0 : net_scheme((enum egress_scheme)scheme, e);
}

int
net_scheme(enum egress_scheme scheme, struct err *e)
{
	return egress_check_scheme(&policy, scheme, e) || egress_check_scheme(&tenants, scheme, e) ? -1 : 0;
}

int
net_host(const char *host, struct err *e)
{
	if (hosts_allow(&hosts, host))
		return 0;
	return err_set(e, ERR_POLICY, "the host %.255s is refused: the tenant's hosts does not have it", host);
}

static int
port_allowed(uint16_t port, bool data, struct err *e)
{
	return egress_check_port(&policy, port, data, e) || egress_check_port(&tenants, port, data, e) ? -1 : 0;
}

static int
address_allowed(const struct sockaddr *sa, struct err *e)
{
	return egress_check(&policy, sa, e) || egress_check(&tenants, sa, e) ? -1 : 0;
}

void
net_only(const struct net_only *o)
{
	if (!only.on)
		BUG("net_only in a worker of another role");
	only.n = 0;
	policy.metadata = o && o->metadata;
	policy.loopback = o && o->loopback;
}

/* Address and port alone: the rest of the structures is not the destination's. */
static bool
same_place(const struct sockaddr *a, const struct sockaddr *b)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;

	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a->sa_family == AF_INET6 && a6->sin6_port == b6->sin6_port && !memcmp(&a6->sin6_addr, &b6->sin6_addr, 16);
}

static int
is_asked(const struct sockaddr *sa, struct err *e)
{
	char text[EGRESS_TEXT];

	for (size_t i = 0; i < only.n; i++)
		if (same_place(sa, (const struct sockaddr *)&only.addr[i].sa))
			return 0;
	egress_addr_text(sa, text);
	return err_set(e, ERR_POLICY, "%s is refused: it is not where these credentials are asked for", text);
}

int
net_allowed(const struct sockaddr *sa, bool data, struct err *e)
{
	/* of both families the port stands at the same place */
	if (address_allowed(sa, e) || port_allowed(ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port), data, e))
		return -1;
	return only.on ? is_asked(sa, e) : 0;
}

/* Without the brackets of an IPv6 address in a URL. Names go into options of libcurl and into requests: nothing odd. */
static int
take_host(struct net_target *t, const char *host, struct err *e)
{
	size_t n = strlen(host);
	bool bracketed = n > 2 && host[0] == '[' && host[n - 1] == ']';
	struct buf shown = BUF_INIT;

	if (bracketed) {
		host++;
		n -= 2;
	}
	if (n && n < sizeof(t->host) && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_") >= n) {
		memcpy(t->host, host, n);
		t->host[n] = '\0';
		return 0;
	}
	escape_term(&shown, host, n > 100 ? 100 : n);
	err_set(e, ERR_PERMANENT, "\"%s\" is not a host's name or address (letters, digits, '.', '-', '_', at most %zu; "
	    "write others in their ASCII form, xn--...)", buf_str(&shown), sizeof(t->host) - 1);
	buf_release(&shown);
	return -1;
}

static int
family_of(const struct run *r)
{
	static const int families[] = { AF_UNSPEC, AF_INET, AF_INET6 };  /* as in sources.def */
	int64_t i = run_int(r, SF_NETWORK_ADDRESS_FAMILY);

	return families[i >= 0 && i < (int64_t)ARRAY_LEN(families) ? i : 0];
}

/* gai_strerror(3), RFC 3493 section 6.1 */
int
net_resolve_error(int rc, int saved, const char *host, int family, struct err *e)
{
	const char *kind = family == AF_INET ? " IPv4" : family == AF_INET6 ? " IPv6" : "";

	switch (rc) {
	case EAI_NONAME:
		return err_set(e, ERR_NOT_FOUND, "resolving %s: there is no such host", host);
	case EAI_NODATA:
	case EAI_ADDRFAMILY:
		return err_set(e, ERR_NOT_FOUND, "resolving %s: the host has no%s address", host, kind);
	case EAI_AGAIN:
	case EAI_FAIL:
		return err_set(e, ERR_TRANSIENT, "resolving %s: the name servers did not answer or failed (%s)", host,
		    gai_strerror(rc));
	case EAI_SYSTEM:
		errno = saved;
		return err_errno(e, ERR_TRANSIENT, "resolving %s", host);
	default:
		return err_set(e, ERR_SYSTEM, "resolving %s: %s", host, gai_strerror(rc));
	}
}

/* The allowed ones; the text of the first refusal is kept for when none is. */
static int
take_addresses(struct net_target *t, const struct addrinfo *list, struct err *e)
{
	struct err first = ERR_INIT, why = ERR_INIT;

	for (const struct addrinfo *a = list; a && t->n < NET_ADDRS; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(t->addr[0].sa))
			continue;
		if (address_allowed(a->ai_addr, &why)) {
			if (!*first.text)
				first = why;
			continue;
		}
		memcpy(&t->addr[t->n].sa, a->ai_addr, a->ai_addrlen);
		t->addr[t->n++].len = a->ai_addrlen;
		if (only.on && only.n < ONLY_MAX)
			only.addr[only.n++] = t->addr[t->n - 1];
	}
	if (t->n)
		return 0;
	if (!*first.text)
		return err_set(e, ERR_NOT_FOUND, "resolving %s: no address came back", t->host);
	return err_set(e, ERR_POLICY, "%s may not be connected to: %s", t->host, first.text);
}

/* Checked there; where they are connected to they are checked here, too. */
static int
from_connector(struct run *r, int family, struct net_target *t, struct err *e)
{
	if (broker_resolve(r, family, t, e))
		return -1;
	for (size_t i = 0; i < t->n && only.on && only.n < ONLY_MAX; i++)
		only.addr[only.n++] = t->addr[i];
	return 0;
}

int
net_resolve(struct run *r, const char *host, uint16_t port, struct net_target *t, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *list = NULL;
	char service[8];
	int rc;

	memset(t, 0, sizeof(*t));
	t->port = port;
	if (take_host(t, host, e) || port_allowed(port, false, e))
		return -1;
	hints.ai_family = family_of(r);
	if (broker_on())
		return from_connector(r, hints.ai_family, t, e);
	snprintf(service, sizeof(service), "%u", port);
	rc = getaddrinfo(t->host, service, &hints, &list);
	if (rc)
		return net_resolve_error(rc, errno, t->host, hints.ai_family, e);
	rc = take_addresses(t, list, e);
	freeaddrinfo(list);
	return rc;
}
