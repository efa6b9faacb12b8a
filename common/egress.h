/*
 * egress.h - may a worker connect to this address? (DESIGN.md rule 10)
 *
 * Asked of addresses, ports and schemes, never of names: after resolution, at each connect, redirect, data connection and
 * proxied destination. IPv4 addresses inside IPv6 ones (mapped, compatible, 6to4, NAT64, Teredo's server) are judged as the IPv4 ones they lead to.
 */
#ifndef COMMON_EGRESS_H
#define COMMON_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/cursor.h"
#include "common/err.h"
#include "common/filter.h"

enum egress_mode { EGRESS_MODE_DIRECT, EGRESS_MODE_BROKER };  /* the words of egress.mode */

struct egress_net { uint8_t addr[16]; uint8_t bits; bool v6; };  /* host bits are zero; v4: the first four bytes */

/* "10.0.0.0/8", "::1/128", or an address alone. 0, or -1 (CONFIG) with what is wrong: no such form, prefix too long, host
 * bits set (the message has the network that was meant). */
int egress_net_parse(const char *s, struct egress_net *, struct err *);

/* What is spoken with a source; in the order of egress.schemes. FTPS: FTP over TLS, from the first byte or by AUTH TLS. */
enum egress_scheme { EGRESS_HTTP, EGRESS_HTTPS, EGRESS_FTP, EGRESS_FTPS, EGRESS_SFTP, EGRESS__MAX };
extern const char *const egress_scheme_names[EGRESS__MAX];
/* By the whole name; -1 none. */
int egress_scheme_by_name(const char *s, size_t n);

struct egress_span { uint16_t from, to; };  /* ports, both included */
/* "443", "8000-8999"; 0, or -1 (CONFIG) */
int egress_span_parse(const char *s, struct egress_span *, struct err *);

struct egress_lists { struct strlist allow, deny, only, ports, schemes; };  /* as the settings have them */
void egress_lists_release(struct egress_lists *);
void egress_lists_copy(struct egress_lists *to, const struct egress_lists *from);
void egress_lists_encode(const struct egress_lists *, struct buf *);
/* Bounded; what is wrong marks the cursor bad. Whether each text means something is egress_init's to say. */
void egress_lists_decode(struct egress_lists *, struct cursor *);

struct egress {
	struct egress_net *allow, *deny, *only;   /* owned */
	size_t n_allow, n_deny, n_only;
	struct egress_span *ports;                /* owned; none: all are allowed */
	size_t n_ports;
	unsigned schemes;                         /* bit of each allowed enum egress_scheme; 0: all are */
	/* The role credentials alone, while it asks for the machine's own credentials: where that is follows from the poller's own
	 * environment, so that only egress.deny still counts. */
	bool metadata;                            /* metadata addresses are allowed */
	bool loopback;                            /* 127.0.0.0/8 and ::1 are */
	bool tenant;                              /* a tenant's lists, asked beside the daemon's own: they can only narrow those */
};
/* Compiles the lists; 0, or -1 with the first bad entry. */
int egress_init(struct egress *, const struct egress_lists *, struct err *);
/* A tenant's deny, only, ports and schemes; entries of allow are a mistake. */
int egress_init_tenant(struct egress *, const struct egress_lists *, struct err *);
void egress_release(struct egress *);

#define EGRESS_TEXT 64
/* "10.1.2.3", "fe80::1"; "unix", "?" for others */
void egress_addr_text(const struct sockaddr *, char out[EGRESS_TEXT]);
/*
 * 0 allowed, else -1 (POLICY) with the address, the rule and the setting that would change it. Order: metadata addresses
 * (169.254.169.254, 169.254.170.2 and .23, 100.100.100.200, 168.63.129.16, fd00:ec2::254, fd00:ec2::23) are always refused; then
 * egress.deny; then all that egress.only does not hold, where it is given; then egress.allow; then loopback, link-local,
 * multicast, broadcast, unspecified and reserved ranges are refused; the rest is allowed, private networks too. A tenant's
 * lists refuse by deny and only, and allow nothing that these do not.
 */
int egress_check(const struct egress *, const struct sockaddr *, struct err *);
/* data: of a connection whose port the server names (FTP): any from 1024 is allowed. 0, or -1 (POLICY). */
int egress_check_port(const struct egress *, uint16_t port, bool data, struct err *);
int egress_check_scheme(const struct egress *, enum egress_scheme, struct err *);

#endif
