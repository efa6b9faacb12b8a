/*
 * egress.h - may a worker connect to this address? (DESIGN.md rule 10)
 *
 * Asked of addresses, never of names: after resolution, at each connect, redirect, data connection and proxied
 * destination. IPv4 addresses inside IPv6 ones (mapped, compatible, 6to4, NAT64, Teredo's server) are judged as the IPv4 ones they lead to.
 */
#ifndef COMMON_EGRESS_H
#define COMMON_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/err.h"
#include "common/filter.h"

struct egress_net { uint8_t addr[16]; uint8_t bits; bool v6; };  /* host bits are zero; v4: the first four bytes */

/* "10.0.0.0/8", "::1/128", or an address alone. 0, or -1 (CONFIG) with what is wrong: no such form, prefix too long, host
 * bits set (the message has the network that was meant). */
int egress_net_parse(const char *s, struct egress_net *, struct err *);

struct egress {
	struct egress_net *allow, *deny;   /* owned */
	size_t n_allow, n_deny;
	bool metadata;                     /* the role credentials alone: metadata addresses are allowed (egress.deny still wins) */
};
/* Compiles both lists; 0, or -1 with the first bad one. */
int egress_init(struct egress *, const struct strlist *allow, const struct strlist *deny, struct err *);
void egress_release(struct egress *);

#define EGRESS_TEXT 64
/* "10.1.2.3", "fe80::1"; "unix", "?" for others */
void egress_addr_text(const struct sockaddr *, char out[EGRESS_TEXT]);
/*
 * 0 allowed, else -1 (POLICY) with the address, the rule and the setting that would change it. Order: metadata addresses
 * (169.254.169.254, 169.254.170.2 and .23, 100.100.100.200, 168.63.129.16, fd00:ec2::254, fd00:ec2::23) are always refused; then
 * egress.deny; then egress.allow; then loopback, link-local, multicast, broadcast, unspecified and reserved ranges are
 * refused; the rest is allowed, private networks too.
 */
int egress_check(const struct egress *, const struct sockaddr *, struct err *);

#endif
