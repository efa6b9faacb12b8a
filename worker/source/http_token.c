/*
 * http_token.c - OAuth 2 by client credentials: the request's form, and its answer read strictly.
 *
 * Called by http_auth.c. Pure computing: no connection. What a token endpoint says is a stranger's word: bounded, strict
 * JSON, and a token only of characters that a header may carry.
 */
#include <string.h>
#include <strings.h>

#include "common/escape.h"
#include "common/json.h"
#include "common/units.h"
#include "worker/source/http.h"
#include "worker/source/http_token.h"
#include "worker/source/s3_sign.h"
#include "common/banned.h"

#define DEPTH_MAX 8
#define CODE_MAX 64

static void
add_pair(struct buf *b, const char *name, const char *value)
{
	if (b->len)
		buf_putc(b, '&');
	buf_puts(b, name);
	buf_putc(b, '=');
	s3_encode(b, value, strlen(value), false);
}

void
http_token_form(struct buf *b, const char *id, const char *secret, bool in_form, const struct strlist *scopes)
{
	add_pair(b, "grant_type", "client_credentials");
	for (size_t i = 0; i < scopes->n; i++) {
		buf_puts(b, i ? "%20" : "&scope=");
		s3_encode(b, scopes->v[i], strlen(scopes->v[i]), false);
	}
	if (!in_form)
		return;
	add_pair(b, "client_id", id);
	add_pair(b, "client_secret", secret);
}

void
http_token_login(struct buf *b, const char *id, const char *secret)
{
	struct buf plain = BUF_INIT;

	/* RFC 6749 section 2.3.1: as in a form, first */
	s3_encode(&plain, id, strlen(id), false);
	buf_putc(&plain, ':');
	s3_encode(&plain, secret, strlen(secret), false);
	buf_puts(b, "Authorization: Basic ");
	base64_encode(b, plain.p, plain.len);
	buf_wipe(&plain);
}

/* ---- the answer ---------------------------------------------------------------------------------------------------------- */

/* The member as text: a string without escapes but "\/", or what stands for a number. false: it is not there, or is neither. */
static bool
member(const char *p, size_t n, const char *pointer, struct buf *b)
{
	long long at = json_locate(p, n, pointer);
	bool string;

	buf_clear(b);
	if (at < 0)
		return false;
	string = p[at] == '"';
	for (size_t i = (size_t)at + string; i < n; i++) {
		if (string ? p[i] == '"' : !strchr("-+.0123456789eE", p[i]))
			break;
		if (p[i] == '\\' && p[++i] != '/')
			return false;
		buf_putc(b, p[i]);
	}
	return b->len > 0;
}

static int
refused(const char *p, size_t n, unsigned status, struct err *e)
{
	enum err_class cls = status == 400 || status == 403 ? ERR_AUTH : http_status_class(status);
	struct buf code = BUF_INIT, shown = BUF_INIT;
	struct err ignored = ERR_INIT;

	if (!json_check(p, n, DEPTH_MAX, &ignored) && member(p, n, "/error", &code) && code.len <= CODE_MAX)
		escape_term(&shown, code.p, code.len);
	err_set(e, cls, "the server that gives tokens answered %u%s%s%s%s", status, shown.len ? " " : "", buf_str(&shown),
	    cls == ERR_AUTH ? ": check auth.client_id, auth.client_secret, auth.scopes and auth.client_auth" : "",
	    status / 100 == 3 ? ": redirects of auth.token_url are not followed" : "");
	buf_release(&code);
	buf_release(&shown);
	return -1;
}

static bool
is_token(const struct buf *b)
{
	for (size_t i = 0; i < b->len; i++)
		if (b->p[i] <= ' ' || b->p[i] > '~')
			return false;
	return b->len && b->len <= HTTP_TOKEN_MAX;
}

int
http_token_read(const char *p, size_t n, unsigned status, struct buf *token, int64_t *seconds, struct err *e)
{
	struct err why = ERR_INIT;
	struct buf b = BUF_INIT;
	const char *fault = NULL;

	*seconds = 0;
	buf_clear(token);
	if (status != 200)
		return refused(p, n, status, e);
	if (json_check(p, n, DEPTH_MAX, &why))
		return err_set(e, ERR_PROTOCOL, "the answer of the server that gives tokens is no JSON (%.200s)", why.text);
	if (member(p, n, "/token_type", &b) && strcasecmp(buf_str(&b), "bearer"))
		fault = "a token of another type than Bearer";
	else if (!member(p, n, "/access_token", token))
		fault = "no access_token";
	else if (!is_token(token))
		fault = "an access_token that no header can carry";
	else if (member(p, n, "/expires_in", &b) && (units_int(buf_str(&b), seconds) || *seconds < 0))
		fault = "an expires_in that is no number of seconds";
	if (*seconds > HTTP_TOKEN_SECONDS_MAX)
		*seconds = HTTP_TOKEN_SECONDS_MAX;
	buf_release(&b);
	if (!fault)
		return 0;
	*seconds = 0;
	buf_wipe(token);
	return err_set(e, ERR_PROTOCOL, "the answer of the server that gives tokens has %s", fault);
}
