/*
 * hosts.h - host names against a list of patterns, addresses and networks: tenants.X.hosts.
 *
 * The master asks for what a job names, a worker for where a server's answer leads it. Names alone are compared: what
 * they resolve to is the business of egress.h.
 */
#ifndef COMMON_HOSTS_H
#define COMMON_HOSTS_H

#include <stdbool.h>

#include "common/filter.h"

#define HOSTS_TEXT 256

/* The host of scheme://[user@]host[:port][/...], without brackets and without a dot at its end. False: it names none, or
 * one that is too long. */
bool hosts_of_url(const char *url, char out[HOSTS_TEXT]);
/* No list, or everything by its one word "*". */
bool hosts_any(const struct strlist *);
/* Is the address in the network, "10.0.0.0/8" or "10.1.2.3"? False also where either is none. */
bool hosts_in_network(const char *network, const char *address);
/* Has it the form of a network or an address? Names of digits and dots alone have. */
bool hosts_is_network(const char *);
/* NULL, or why no entry of proxy.no_proxy: "*", a network, an address, or a domain ("example.org", ".example.org", "*.example.org"). */
const char *hosts_no_proxy_fault(const char *);
/* One of the list's patterns (*.example.org, of either case), addresses or networks has the host. */
bool hosts_hold(const struct strlist *, const char *host);
/* May a host as a URL or a resolver has it (brackets, a dot at its end) be asked for? Any, where there is no list. */
bool hosts_allow(const struct strlist *, const char *host);

#endif
