/*
 * egress.c - the address policy: networks from text, and the one question whether a worker may connect somewhere.
 *
 * Workers ask it of every address they resolve and again of every socket they open; the master only checks the two
 * lists of the settings with it. It never resolves a name and never opens anything. An IPv6 address that carries IPv4
 * ones is judged with each of them: where such a packet ends is not ours to choose.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/egress.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define EMBEDDED_MAX 3

struct address { uint8_t b[16]; bool v6; };

struct range { struct egress_net net; const char *what; };

#define V4(a, b, c, d, bits) { { a, b, c, d }, bits, false }
#define V6(bits, ...) { { __VA_ARGS__ }, bits, true }

/* Where clouds hand out the credentials of the machine; RFC 3927 and RFC 4193 ranges hold most of them. */
static const struct range metadata[] = {
	{ V4(169, 254, 169, 254, 32), "a cloud's metadata address" },
	{ V4(169, 254, 170, 2, 32), "the metadata address of containers" },
	{ V4(169, 254, 170, 23, 32), "the metadata address of containers" },
	{ V4(100, 100, 100, 200, 32), "a cloud's metadata address" },
	{ V4(168, 63, 129, 16, 32), "a cloud's metadata address" },
	{ V4(169, 254, 42, 42, 32), "a cloud's metadata address" },     /* Scaleway */
	{ V4(169, 254, 0, 23, 32), "a cloud's metadata address" },      /* Tencent */
	{ V4(169, 254, 10, 10, 32), "a cloud's metadata address" },
	{ V4(192, 0, 0, 192, 32), "a cloud's metadata address" },       /* Oracle, of old */
	{ V6(128, 0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54), "a cloud's metadata address" },
	/* By IPv6 they stand among private addresses, which jobs may reach: Google, Oracle, Akamai, Scaleway, Alibaba, OpenStack. */
	{ V6(128, 0xfd, 0x20, 0, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54), "a cloud's metadata address" },
	{ V6(128, 0xfd, 0x00, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0xa9, 0xfe), "a cloud's metadata address" },
	{ V6(128, 0xfd, 0x00, 0xa9, 0xfe, 0xa9, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01), "a cloud's metadata address" },
	{ V6(128, 0xfd, 0x00, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x42), "a cloud's metadata address" },
	{ V6(128, 0xfd, 0x00, 0x01, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x00, 0x02, 0x00), "a cloud's metadata address" },
	{ V6(128, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0xa9, 0xfe), "a cloud's metadata address" },
	{ V6(128, 0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x23), "the metadata address of containers" },
};

/* IANA's registries of special-purpose addresses: what no source can stand at. */
static const struct range special[] = {
	{ V4(255, 255, 255, 255, 32), "the broadcast address" },
	{ V4(0, 0, 0, 0, 8), "an unspecified address" },
	{ V4(127, 0, 0, 0, 8), "a loopback address" },
	{ V4(169, 254, 0, 0, 16), "a link-local address" },
	{ V4(192, 0, 0, 0, 24), "a reserved address" },
	{ V4(224, 0, 0, 0, 4), "a multicast address" },
	{ V4(240, 0, 0, 0, 4), "a reserved address" },
	{ V6(128, 0), "the unspecified address" },
	{ V6(128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), "a loopback address" },
	{ V6(64, 0x01, 0x00), "a reserved address" },
	{ V6(10, 0xfe, 0x80), "a link-local address" },
	{ V6(10, 0xfe, 0xc0), "a reserved address" },
	{ V6(8, 0xff), "a multicast address" },
};

/* Forms of IPv6 addresses that lead to IPv4 ones, and where those stand in them. */
static const struct embedding { struct egress_net net; uint8_t at[2]; uint8_t n; bool inverted[2]; } embeddings[] = {
	{ V6(96, 0), { 12 }, 1, { false } },                                       /* RFC 4291, 2.5.5.1: compatible */
	{ V6(96, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), { 12 }, 1, { false } },      /* RFC 2765: translated */
	{ V6(96, 0, 0x64, 0xff, 0x9b), { 12 }, 1, { false } },                     /* RFC 6052: NAT64 */
	{ V6(48, 0, 0x64, 0xff, 0x9b, 0, 1), { 12 }, 1, { false } },               /* RFC 8215: local NAT64, /96 below it */
	{ V6(16, 0x20, 0x02), { 2 }, 1, { false } },                               /* RFC 3056: 6to4 */
	{ V6(32, 0x20, 0x01, 0, 0), { 4, 12 }, 2, { false, true } },               /* RFC 4380: Teredo's server and client */
};

static bool
bits_same(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(a, b, bits / 8))
		return false;
	return !rest || !((a[bits / 8] ^ b[bits / 8]) & (0xff00 >> rest));
}

static bool
in_net(const struct egress_net *n, const struct address *a)
{
	return n->v6 == a->v6 && bits_same(n->addr, a->b, n->bits);
}

static const struct egress_net *
in_nets(const struct egress_net *v, size_t n, const struct address *a)
{
	for (size_t i = 0; i < n; i++)
		if (in_net(&v[i], a))
			return &v[i];
	return NULL;
}

static const struct range *
in_ranges(const struct range *v, size_t n, const struct address *a)
{
	for (size_t i = 0; i < n; i++)
		if (in_net(&v[i].net, a))
			return &v[i];
	return NULL;
}

static void
address_text(const struct address *a, char out[EGRESS_TEXT])
{
	if (!inet_ntop(a->v6 ? AF_INET6 : AF_INET, a->b, out, EGRESS_TEXT))
		BUG("inet_ntop");
}

static void
net_text(const struct egress_net *n, char out[EGRESS_TEXT + 4])
{
	struct address a = { .v6 = n->v6 };
	char text[EGRESS_TEXT];

	memcpy(a.b, n->addr, sizeof(a.b));
	address_text(&a, text);
	snprintf(out, EGRESS_TEXT + 4, "%s/%u", text, n->bits);
}

/* --- networks from text --- */

static bool
is_mapped(const uint8_t b[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(b, prefix, sizeof(prefix));
}

/* Clears what lies behind the prefix; true when something did. */
static bool
clear_host_bits(struct egress_net *n)
{
	unsigned size = n->v6 ? 16 : 4, at = n->bits / 8;
	bool any = false;

	for (unsigned i = at; i < size; i++) {
		uint8_t keep = i == at ? (uint8_t)(0xff00 >> n->bits % 8) : 0;

		any |= (n->addr[i] & ~keep) != 0;
		n->addr[i] &= keep;
	}
	return any;
}

static int
parse_prefix(const char *slash, struct egress_net *n, const char *s, struct err *e)
{
	int64_t bits, max = n->v6 ? 128 : 32;

	n->bits = (uint8_t)max;
	if (!slash)
		return 0;
	/* digits alone: units_int also takes signs */
	if (!slash[1] || strspn(slash + 1, "0123456789") != strlen(slash + 1) || units_int(slash + 1, &bits))
		return err_set(e, ERR_CONFIG, "%s: what stands behind the '/' is no number of bits", s);
	if (bits > max)
		return err_set(e, ERR_CONFIG, "%s: the prefix is longer than the %d bits of such an address", s, (int)max);
	n->bits = (uint8_t)bits;
	return 0;
}

int
egress_net_parse(const char *s, struct egress_net *n, struct err *e)
{
	const char *slash = strchr(s, '/');
	size_t len = slash ? (size_t)(slash - s) : strlen(s);
	char addr[EGRESS_TEXT], meant[EGRESS_TEXT + 4];

	memset(n, 0, sizeof(*n));
	if (strlen(s) >= EGRESS_TEXT)
		return err_set(e, ERR_CONFIG, "%.40s...: too long for a network", s);
	memcpy(addr, s, len);
	addr[len] = '\0';
	n->v6 = strchr(addr, ':') != NULL;
	if (inet_pton(n->v6 ? AF_INET6 : AF_INET, addr, n->addr) != 1)
		return err_set(e, ERR_CONFIG, "%s: not a network, as 10.0.0.0/8, ::1/128 or 192.0.2.7 are", s);
	if (parse_prefix(slash, n, s, e))
		return -1;
	if (clear_host_bits(n)) {
		net_text(n, meant);
		return err_set(e, ERR_CONFIG, "%s: bits are set behind the prefix; the network is %s", s, meant);
	}
	/* Such addresses are IPv4 ones, and are compared as such. */
	if (n->v6 && n->bits >= 96 && is_mapped(n->addr)) {
		memmove(n->addr, n->addr + 12, 4);
		memset(n->addr + 4, 0, 12);
		n->bits = (uint8_t)(n->bits - 96);
		n->v6 = false;
	}
	return 0;
}

static int
compile(const struct strlist *l, struct egress_net **v, size_t *n, struct err *e)
{
	*n = l->n;
	*v = xcalloc(l->n ? l->n : 1, sizeof(**v));
	for (size_t i = 0; i < l->n; i++)
		if (egress_net_parse(l->v[i], &(*v)[i], e))
			return -1;
	return 0;
}

static int
compile_ports(const struct strlist *l, struct egress *g, struct err *e)
{
	g->n_ports = l->n;
	g->ports = xcalloc(l->n ? l->n : 1, sizeof(*g->ports));
	for (size_t i = 0; i < l->n; i++)
		if (egress_span_parse(l->v[i], &g->ports[i], e))
			return -1;
	return 0;
}

static int
compile_schemes(const struct strlist *l, struct egress *g, struct err *e)
{
	for (size_t i = 0; i < l->n; i++) {
		int scheme = egress_scheme_by_name(l->v[i], strlen(l->v[i]));

		if (scheme < 0)
			return err_set(e, ERR_CONFIG, "%.40s: not one of http, https, ftp, ftps, sftp", l->v[i]);
		g->schemes |= 1u << scheme;
	}
	return 0;
}

int
egress_init(struct egress *g, const struct egress_lists *l, struct err *e)
{
	memset(g, 0, sizeof(*g));
	if (compile(&l->allow, &g->allow, &g->n_allow, e) || compile(&l->deny, &g->deny, &g->n_deny, e) ||
	    compile(&l->only, &g->only, &g->n_only, e) || compile_ports(&l->ports, g, e) || compile_schemes(&l->schemes, g, e)) {
		egress_release(g);
		return -1;
	}
	return 0;
}

int
egress_init_tenant(struct egress *g, const struct egress_lists *l, struct err *e)
{
	memset(g, 0, sizeof(*g));
	if (l->allow.n)
		return err_set(e, ERR_CONFIG, "a tenant's networks can only narrow: %.40s may not be allowed", l->allow.v[0]);
	if (egress_init(g, l, e))
		return -1;
	g->tenant = true;
	return 0;
}

void
egress_release(struct egress *g)
{
	free(g->allow);
	free(g->deny);
	free(g->only);
	free(g->ports);
	memset(g, 0, sizeof(*g));
}

/* --- the question --- */

void
egress_addr_text(const struct sockaddr *sa, char out[EGRESS_TEXT])
{
	struct address a = { .v6 = sa->sa_family == AF_INET6 };

	if (sa->sa_family == AF_INET) {
		memcpy(a.b, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
		address_text(&a, out);
	} else if (a.v6) {
		memcpy(a.b, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
		address_text(&a, out);
	} else {
		snprintf(out, EGRESS_TEXT, "%s", sa->sa_family == AF_UNIX ? "unix" : "?");
	}
}

static size_t
embedded(const struct address *a, struct address out[EMBEDDED_MAX])
{
	static const uint8_t isatap[4] = { 0, 0, 0x5e, 0xfe };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(embeddings); i++) {
		const struct embedding *m = &embeddings[i];

		if (!in_net(&m->net, a))
			continue;
		for (size_t j = 0; j < m->n; j++, n++)
			for (size_t k = 0; k < 4; k++)
				out[n].b[k] = (uint8_t)(a->b[m->at[j] + k] ^ (m->inverted[j] ? 0xff : 0));
		break;
	}
	/* RFC 5214: ISATAP, below any prefix; the bit 2 of the first byte says whether the IPv4 address is global */
	if ((a->b[8] & ~2) == isatap[0] && !memcmp(a->b + 9, isatap + 1, 3)) {
		memcpy(out[n].b, a->b + 12, 4);
		n++;
	}
	return n;
}

/* The address itself first, then those inside it; a mapped one is nothing but the IPv4 address. */
static size_t
unfold(const struct sockaddr *sa, struct address out[1 + EMBEDDED_MAX])
{
	memset(out, 0, (1 + EMBEDDED_MAX) * sizeof(*out));
	if (sa->sa_family == AF_INET) {
		memcpy(out->b, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
		return 1;
	}
	memcpy(out->b, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	if (is_mapped(out->b)) {
		memmove(out->b, out->b + 12, 4);
		memset(out->b + 4, 0, 12);
		return 1;
	}
	out->v6 = true;
	/* :: and ::1 are addresses of their own, not compatible ones */
	if (in_net(&(struct egress_net)V6(127, 0), out))
		return 1;
	return 1 + embedded(out, out + 1);
}

static bool
is_loopback(const struct address *a)
{
	static const struct egress_net v4 = V4(127, 0, 0, 0, 8), v6 = V6(128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

	return in_net(&v4, a) || in_net(&v6, a);
}

static int
refuse(const struct sockaddr *sa, const struct address *a, struct err *e, const char *why, const char *remedy)
{
	char text[EGRESS_TEXT], inner[EGRESS_TEXT];

	egress_addr_text(sa, text);
	address_text(a, inner);
	if (!strcmp(text, inner))
		return err_set(e, ERR_POLICY, "%s is refused: %s%s", text, why, remedy);
	return err_set(e, ERR_POLICY, "%s, which leads to %s, is refused: %s%s", text, inner, why, remedy);
}

/* "egress.deny", or the tenant's. */
static const char *
setting(const struct egress *g, const char *ours, const char *tenants)
{
	return g->tenant ? tenants : ours;
}

/* What the lists of networks say: each address must pass, since where a packet ends is not ours to choose. */
static int
check_lists(const struct egress *g, const struct sockaddr *sa, const struct address *a, size_t n, struct err *e)
{
	const struct egress_net *net;
	char text[EGRESS_TEXT + 4], why[EGRESS_TEXT + 64];

	for (size_t i = 0; i < n; i++)
		if ((net = in_nets(g->deny, g->n_deny, &a[i]))) {
			net_text(net, text);
			snprintf(why, sizeof(why), "%s has %s", setting(g, "egress.deny", "the tenant's egress_deny"), text);
			return refuse(sa, &a[i], e, why, "");
		}
	for (size_t i = 0; i < n && g->n_only && !g->metadata; i++)
		if (!in_nets(g->only, g->n_only, &a[i]))
			return refuse(sa, &a[i], e, setting(g, "egress.only", "the tenant's egress_only"), " does not have it");
	return 0;
}

static int
check_special(const struct egress *g, const struct sockaddr *sa, const struct address *a, size_t n, struct err *e)
{
	const struct range *r;

	if (in_nets(g->allow, g->n_allow, a) || (g->loopback && is_loopback(a)))
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (in_nets(g->allow, g->n_allow, &a[i]) ||
		    (g->metadata && in_ranges(metadata, ARRAY_LEN(metadata), &a[i])))
			continue;
		if ((r = in_ranges(special, ARRAY_LEN(special), &a[i])))
			return refuse(sa, &a[i], e, r->what, "; egress.allow can allow it");
	}
	return 0;
}

int
egress_check(const struct egress *g, const struct sockaddr *sa, struct err *e)
{
	struct address a[1 + EMBEDDED_MAX];
	const struct range *r;
	size_t n;

	if (sa->sa_family != AF_INET && sa->sa_family != AF_INET6)
		return err_set(e, ERR_POLICY, "an address of family %d is refused: only IPv4 and IPv6 are served",
		    sa->sa_family);
	n = unfold(sa, a);
	for (size_t i = 0; i < n && !g->metadata && !g->tenant; i++)
		if ((r = in_ranges(metadata, ARRAY_LEN(metadata), &a[i])))
			return refuse(sa, &a[i], e, r->what, "; no setting allows it to jobs");
	if (check_lists(g, sa, a, n, e))
		return -1;
	return g->tenant ? 0 : check_special(g, sa, a, n, e);
}

int
egress_check_port(const struct egress *g, uint16_t port, bool data, struct err *e)
{
	if (!g->n_ports || g->metadata || (data && port >= 1024))
		return 0;
	for (size_t i = 0; i < g->n_ports; i++)
		if (port >= g->ports[i].from && port <= g->ports[i].to)
			return 0;
	return err_set(e, ERR_POLICY, "port %u is refused: %s does not have it%s", port,
	    setting(g, "egress.ports", "the tenant's egress_ports"), data ? " (data connections may use those from 1024)" : "");
}

int
egress_check_scheme(const struct egress *g, enum egress_scheme scheme, struct err *e)
{
	if (!g->schemes || g->schemes & 1u << scheme)
		return 0;
	return err_set(e, ERR_POLICY, "%s is refused: %s does not have it", egress_scheme_names[scheme],
	    setting(g, "egress.schemes", "the tenant's egress_schemes"));
}
