/*
 * curl_priv.h - what curl.c, curl_route.c and curl_error.c share of a session; no source includes it.
 */
#ifndef WORKER_SOURCE_CURL_PRIV_H
#define WORKER_SOURCE_CURL_PRIV_H

#include "worker/source/curl.h"

enum curl_expiry { EXPIRY_NONE, EXPIRY_RESPONSE, EXPIRY_IDLE };

struct curl_handle {                /* one easy handle */
	struct curl_handle *next;
	struct curl_session *session;
	CURL *easy;
	struct transfer *t;         /* under way; NULL: not */
	bool out;                   /* a source has it; else it waits in the pool */
	bool queued;                /* under way for its source, but its turn has not come (pace.c) */
	struct curl_handle *next_queued;
	bool in_multi;
	unsigned requests;          /* that it sent, of HTTP */
	bool aimed;                 /* it has a URL, and by that: */
	bool proxied;               /* it goes through the proxy */
	bool renamed;               /* to the endpoint, under tls.server_name */
	bool keep;                  /* stays in the multi handle when it has ended: its socket is in use */
	bool refused;               /* it did not get the last socket it wanted: the policy's word, or the connector's */
	enum err_class refusal_cls;
	char refusal[256];
	struct sockaddr_storage tried; /* where its last socket was to lead; family 0: none was opened */
	bool waiting;               /* something was asked and nothing came since */
	int64_t asked, heard;       /* by the session's clock; -1: never */
	enum curl_expiry expiry;    /* which of our own timeouts ended it */
};

struct curl_limits { int64_t connect_ms, response_ms, idle_ms; };
const struct curl_limits *curl_session_limits(const struct curl_session *);

/* curl_route.c: which way a request goes, and under which name */

struct proxy { char *url; char host[256]; uint16_t port; };  /* url NULL: none */
/* Reads proxy.url, "" for none, over what was there. 0, or -1 (PERMANENT). */
int route_proxy(struct proxy *, const char *url, struct err *);
/* proxy.no_proxy: is the target reached without the proxy? By its name, or since all its addresses lie in one network. */
bool route_passes_by(const struct strlist *no_proxy, const struct net_target *);
/* Host, without brackets, and port of a URL of our own making: it has no user, and the scheme's port where none is written. */
void route_place(const char *url, char host[256], uint16_t *port);
/* The URL with another host; the port is written. */
void route_rename(const char *url, const char *host, uint16_t port, struct buf *out);

#endif
