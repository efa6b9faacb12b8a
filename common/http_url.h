/*
 * http_url.h - http and https addresses: read strictly, resolved against one another, shown without secrets.
 *
 * The job's check, redirects, links of index pages and WebDAV's hrefs all go through here, so that there is one opinion
 * about where a reference leads. Paths stay percent-encoded until http_path_decode makes bytes of them.
 */
#ifndef COMMON_HTTP_URL_H
#define COMMON_HTTP_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

#define HTTP_URL_MAX 16384          /* bytes of a reference or address */

struct http_url {
	bool https;
	bool ipv6;                  /* host is an IPv6 address, without its brackets */
	bool user;                  /* user data stood in it and was dropped */
	char host[256];             /* lower case */
	uint16_t port;              /* the scheme's own where none stood there */
	char *path;                 /* owned; begins with '/', no dot segments; percent-encoded as it came */
	char *query;                /* owned; what stood behind '?'; NULL none */
};

/* An absolute address. 0, or -1 (INVALID_JOB) with what is wrong and nothing to release; no part of it is repeated. */
int http_url_parse(const char *s, size_t n, struct http_url *, struct err *);
void http_url_copy(struct http_url *to, const struct http_url *from);
void http_url_release(struct http_url *);
/*
 * Where a reference leads from base (RFC 3986 section 5.2; the fragment is dropped). HTTP_REF_OK; HTTP_REF_OTHER: another
 * scheme (mailto:, javascript:, ftp: ...); HTTP_REF_BAD: no reference at all. to is only set for OK.
 */
enum http_ref { HTTP_REF_OK, HTTP_REF_OTHER, HTTP_REF_BAD };
enum http_ref http_url_resolve(const struct http_url *base, const char *ref, size_t n, struct http_url *to);
/* A reference that is not followed, for people: without user data. A query is the caller's to cut. */
void http_ref_shown(const char *ref, size_t n, struct buf *);
bool http_url_same_origin(const struct http_url *, const struct http_url *);
/* "https://host" (with_port: always with its port) */
void http_url_origin(const struct http_url *, bool with_port, struct buf *);
/* The whole address, for requests (query) or for people and events (without). */
void http_url_text(const struct http_url *, bool query, struct buf *);
/* Bytes of a percent-encoded path; a '%' that begins no code stands for itself. -1: a code stands for NUL or '/', which no
 * name may hold; nothing is appended then. */
int http_path_decode(const char *p, size_t n, struct buf *);

/* source_http.c: what the worker shares with the job's check. Words of sources.def, in its order. */
enum { HTTP_FORMAT_AUTO, HTTP_FORMAT_HTML, HTTP_FORMAT_JSON, HTTP_FORMAT_XML, HTTP_FORMAT_LINKS, HTTP_FORMAT_TEXT,
	HTTP_FORMAT_JSONL, HTTP_FORMAT_WEBDAV };
enum { HTTP_AUTH_AUTO, HTTP_AUTH_NONE, HTTP_AUTH_BASIC, HTTP_AUTH_BEARER, HTTP_AUTH_DIGEST, HTTP_AUTH_HEADER, HTTP_AUTH_MTLS,
	HTTP_AUTH_SIGV4, HTTP_AUTH_OAUTH2 };
enum { HTTP_HEAD_MISSING, HTTP_HEAD_NONE, HTTP_HEAD_ALL };
/* NULL, or why no secret of a client may go there. */
const char *http_token_url_fault(const struct http_url *);
/* NULL, or why it is no list of cookies, as the header Cookie has one. */
const char *http_cookies_fault(const char *);
/* NULL, or why "Name: value" may not be sent. */
const char *http_header_fault(const char *line);

#endif
