/*
 * curl_priv.h - what curl.c and curl_error.c share of a session; no source includes it.
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
	bool in_multi;
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
bool curl_session_proxied(const struct curl_session *);

#endif
