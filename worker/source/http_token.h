/*
 * http_token.h - OAuth 2 tokens by client credentials (RFC 6749 section 4.4): what is sent, what is answered.
 */
#ifndef WORKER_SOURCE_HTTP_TOKEN_H
#define WORKER_SOURCE_HTTP_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/job.h"

#define HTTP_TOKEN_BODY_MAX 65536       /* bytes of an answer */
#define HTTP_TOKEN_MAX 16384            /* of the token in it */
#define HTTP_TOKEN_SECONDS_MAX 86400    /* it is kept at most */

/* The form that asks; with the client's name and secret in it where in_form. Both buffers hold secrets: buf_wipe. */
void http_token_form(struct buf *, const char *id, const char *secret, bool in_form, const struct strlist *scopes);
/* "Authorization: Basic ...", for a client that does not say who it is in the form. */
void http_token_login(struct buf *, const char *id, const char *secret);
/*
 * The answer to it. 0: token, which can stand in a header, and for how many seconds it is good (0: not told). -1: AUTH, where
 * the server refuses the client; PROTOCOL; or what the status means. Nothing of the answer but the code of a refusal is repeated.
 */
int http_token_read(const char *p, size_t n, unsigned status, struct buf *token, int64_t *seconds, struct err *);

#endif
