/*
 * connector_policy.c - what a worker may be connected to: the master's GRANT for its task, and nothing the worker says.
 *
 * A name must be one of the grant's (or, where the job follows redirects elsewhere, any that the tenant's hosts allow);
 * an address must have come of such a name since the grant, and pass the daemon's and the tenant's policy; a port must be
 * that of the name, but for FTP's data connections. connector.c asks; nothing here does anything.
 */
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "worker/connector.h"
#include "common/hosts.h"
#include "common/xalloc.h"
#include "common/banned.h"

void
peer_ungrant(struct peer *p)
{
	egress_release(&p->daemon);
	egress_release(&p->tenant);
	broker_grant_release(&p->grant);
	memset(&p->grant, 0, sizeof(p->grant));
	p->n_known = 0;
	p->granted = false;
}

int
peer_grant(struct peer *p, const struct broker_grant *g, struct err *e)
{
	peer_ungrant(p);
	if (!g->on)
		return 0;
	if (egress_init(&p->daemon, &g->daemon, e) || egress_init_tenant(&p->tenant, &g->tenant, e)) {
		peer_ungrant(p);
		return -1;
	}
	p->grant = *g;
	/* the lists stay the caller's: what is needed of them is compiled, or copied */
	memset(&p->grant.hosts, 0, sizeof(p->grant.hosts));
	for (size_t i = 0; i < g->hosts.n; i++)
		strlist_add(&p->grant.hosts, g->hosts.v[i]);
	memset(&p->grant.daemon, 0, sizeof(p->grant.daemon));
	memset(&p->grant.tenant, 0, sizeof(p->grant.tenant));
	p->granted = true;
	return 0;
}

static bool
ends_in(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return k && n > k && !strcasecmp(s + n - k, suffix);
}

/* The grant's host of this name and port; NULL: none. */
static const struct broker_host *
named(const struct peer *p, const char *host, uint16_t port)
{
	for (size_t i = 0; i < p->grant.n; i++)
		if (!strcasecmp(p->grant.host[i].name, host) && p->grant.host[i].port == port)
			return &p->grant.host[i];
	return NULL;
}

static int
check_port(const struct peer *p, uint16_t port, bool data, bool own, struct err *e)
{
	if (own)
		return 0;
	return egress_check_port(&p->daemon, port, data, e) || egress_check_port(&p->tenant, port, data, e) ? -1 : 0;
}

static int
check_address(const struct peer *p, const struct sockaddr *sa, bool own, struct err *e)
{
	struct egress machine = p->daemon;      /* its lists stay where they are */

	if (!own)
		return egress_check(&p->daemon, sa, e) || egress_check(&p->tenant, sa, e) ? -1 : 0;
	machine.metadata = machine.loopback = true;
	return egress_check(&machine, sa, e);
}

static enum broker_outcome
no_task(struct err *e)
{
	err_set(e, ERR_POLICY, "no task of this worker may connect now");
	return BROKER_NO_TASK;
}

enum broker_outcome
peer_may_resolve(const struct peer *p, const struct broker_ask *q, struct err *e)
{
	const struct broker_host *h = named(p, q->host, q->port);

	if (!p->granted)
		return no_task(e);
	if (!h && !p->grant.any_host && !(q->port == 443 && ends_in(q->host, p->grant.suffix))) {
		err_set(e, ERR_POLICY, "%.200s port %u is no part of this task", q->host, q->port);
		return BROKER_PLACE;
	}
	/* What the job itself names was held to them in the master. */
	if (!h && !hosts_allow(&p->grant.hosts, q->host)) {
		err_set(e, ERR_POLICY, "the host %.200s is refused: the tenant's hosts does not have it", q->host);
		return BROKER_PLACE;
	}
	return check_port(p, q->port, false, h && h->own, e) ? BROKER_PORT : BROKER_OK;
}

/* FTP's data connections go to the address of the control connection: any that the task has. */
static const struct known *
find(const struct peer *p, const struct broker_addr *a, uint16_t port, bool data)
{
	for (size_t i = 0; i < p->n_known; i++)
		if (!memcmp(&p->known[i].addr, a, sizeof(*a)) && (data || p->known[i].port == port))
			return &p->known[i];
	return NULL;
}

enum broker_outcome
peer_may_connect(const struct peer *p, const struct broker_ask *q, const struct broker_addr *a, struct err *e)
{
	bool data = q->data && p->grant.ftp;
	const struct known *k = find(p, a, q->port, data);
	struct sockaddr_storage sa;

	if (!p->granted)
		return no_task(e);
	if (!k) {
		err_set(e, ERR_POLICY, "the address and port %u are not what a name of this task leads to", q->port);
		return BROKER_PLACE;
	}
	broker_addr_to(a, q->port, &sa);
	if (check_address(p, (const struct sockaddr *)&sa, k->own, e))
		return BROKER_ADDRESS;
	return check_port(p, q->port, data, k->own, e) ? BROKER_PORT : BROKER_OK;
}

int
peer_learn(struct peer *p, const struct sockaddr *sa, struct broker_addr *a, struct err *e)
{
	const struct broker_host *h = named(p, p->ask.host, p->ask.port);
	bool own = h && h->own;

	if (check_address(p, sa, own, e))
		return -1;
	broker_addr_from(a, sa);
	if (find(p, a, p->ask.port, false))
		return 0;
	if (p->n_known == KNOWN_MAX)
		return err_set(e, ERR_POLICY, "the task leads to more than %d addresses", KNOWN_MAX);
	p->known[p->n_known++] = (struct known){ *a, p->ask.port, own };
	return 0;
}
