/*
 * s3_sign.h - Signature Version 4 of AWS for one request: the query string, the canonical request, the header.
 */
#ifndef WORKER_SOURCE_S3_SIGN_H
#define WORKER_SOURCE_S3_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define S3_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define S3_DATE_TEXT 17             /* "20130524T000000Z" and its NUL */

struct s3_pair {                    /* a query parameter, or a header whose name is in lower case */
	const char *name;
	const char *value;          /* bytes, borrowed */
	size_t n;
};

struct s3_signing {
	const char *method;
	const char *path;           /* percent-encoded, with its leading '/' */
	const char *query;          /* as s3_query wrote it, "" for none */
	const char *region, *service;
	const char *access_key_id, *secret_access_key;
	const char *payload_sha256; /* hex */
	char date[S3_DATE_TEXT];
	struct s3_pair *headers;    /* all that are signed, host among them; sorted in place */
	size_t n_headers;
};

/* RFC 3986: unreserved bytes stay, the rest is %XX in upper case; '/' stays where keep_slash. */
void s3_encode(struct buf *, const void *p, size_t n, bool keep_slash);
/* Sorts the parameters in place and appends name=value&...; an empty value keeps its '='. */
void s3_query(struct buf *, struct s3_pair *, size_t n);
/* Seconds since the epoch as the date header has them. */
void s3_date(int64_t seconds, char out[S3_DATE_TEXT]);
/* Appends the value of the header authorization. */
void s3_authorization(struct s3_signing *, struct buf *);

#endif
