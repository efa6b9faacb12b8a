/*
 * http_sign.h - Signature Version 4 of AWS for requests of the http source (auth.type aws_sigv4).
 */
#ifndef WORKER_SOURCE_HTTP_SIGN_H
#define WORKER_SOURCE_HTTP_SIGN_H

#include "common/http_url.h"
#include "worker/source/s3_sign.h"

struct http_signing {                   /* all borrowed */
	const char *method;
	const char *region, *service;
	const char *access_key_id, *secret_access_key;
	const char *session_token;      /* "" none */
	const char *payload_sha256;     /* hex */
	int64_t seconds;                /* now, since the epoch */
};

/*
 * The address as it must be asked for, so that nobody can read it in two ways: everything percent-encoded that can be, parameters
 * sorted by name and value. to is the caller's to release.
 */
void http_sign_url(const struct http_url *, struct http_url *to);
/* Calls add for each header of the signature, "Name: value"; the lines are cleared behind it. u is from http_sign_url. */
void http_sign(const struct http_signing *, const struct http_url *u, void (*add)(void *arg, const char *line), void *arg);

#endif
