/*
 * keys.h - temporary credentials for S3: what a worker of the role credentials is asked for, and what it answers.
 *
 * Payloads of the frames KEYS_ASK and KEYS. The master says where to ask and with what; the worker opens nothing else and
 * reads no file. A job's metadata, bucket and patterns are none of its business and do not travel.
 */
#ifndef COMMON_KEYS_H
#define COMMON_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/cursor.h"
#include "common/egress.h"
#include "common/err.h"
#include "common/http_url.h"
#include "common/job.h"

enum keys_base {
	KEYS_STATIC,                /* a key of the job's own; a role is assumed with it */
	KEYS_METADATA,              /* the machine's: IMDSv2 */
	KEYS_CONTAINER,             /* the container's: one GET */
	KEYS_WEB_IDENTITY,          /* a token; a role is assumed with it, unsigned */
	KEYS_BASE__MAX
};

#define KEYS_URL_MAX 2048
#define KEYS_TOKEN_MAX 20480        /* of web identities and of Authorization headers */

struct keys_ask {                   /* strings are owned, never NULL but after keys_ask_init */
	enum keys_base base;
	char *url;                  /* METADATA: its origin; CONTAINER: what to get; else "" */
	char *token;                /* CONTAINER: for the header Authorization, "" none; WEB_IDENTITY: the token; else "" */
	char *role_arn;             /* "": the base's own credentials are the answer (METADATA, CONTAINER) */
	char *session_name, *external_id;
	uint32_t duration_s;
	char *sts_url, *sts_region; /* origin; with a role */
	struct egress_lists egress; /* the tenant's, for STS */
	struct source_conf conf;    /* of type s3: the key of STATIC, and how STS is reached (tls, proxy, timeouts) */
};
void keys_ask_init(struct keys_ask *);
/* Clears the bytes first. */
void keys_ask_release(struct keys_ask *);
void keys_ask_encode(const struct keys_ask *, struct buf *);
int keys_ask_decode(struct keys_ask *, const void *p, size_t n, struct err *);

struct keys { char *access_key_id, *secret_access_key, *session_token; int64_t expires_ns; };  /* owned; NULL: none */
void keys_wipe(struct keys *);
/* NULL, or what is wrong with them: lengths, characters, an end that is past or years away. No value is repeated. */
const char *keys_fault(const struct keys *, int64_t now_ns);
void keys_encode(const struct keys *, struct buf *);
int keys_decode(struct keys *, const void *p, size_t n, int64_t now_ns, struct err *);

/* source_s3_role.c */

/* Does a source of this kind need such credentials? */
bool keys_asked(const struct source_conf *);
/* Where the role of this source is assumed, as URL of the origin, and the region to sign for. 0, or -1 (INVALID_JOB) with
 * the field in pointer; caller frees. */
int keys_sts(const struct source_conf *, char **url, char **region, struct err *);
/* The fields that travel in keys_ask.conf: a shallow copy, which must not be released. */
void keys_conf(const struct source_conf *from, struct source_conf *to);
/* "https://host:port" alone, without user, path and query? */
bool keys_origin_ok(const struct http_url *);
/* May instance credentials be asked for there: a metadata address, or this machine itself? https may lead anywhere. */
bool keys_metadata_host(const struct http_url *);

#endif
