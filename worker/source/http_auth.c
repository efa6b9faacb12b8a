/*
 * http_auth.c - OAuth 2 for the http source: gets a token before the first request, keeps it with the connection, and gets
 * another one where the server no longer takes it.
 *
 * The token belongs to the kept connection, which is of one tenant and one set of secrets (conn.c), and goes with it. The
 * endpoint's host is resolved and checked against the egress policy as any other; nothing of the job but the client's own
 * name and secret goes there.
 */
#include <string.h>

#include "worker/source/http.h"
#include "worker/source/http_token.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define MARGIN_NS INT64_C(30000000000)  /* a token that ends sooner is not begun with */
#define USELESS_MAX 3                   /* new tokens of one task that did not help */

static int
endpoint(const struct run *r, struct http_url *u, struct err *e)
{
	const char *s = run_str(r, SF_HTTP_AUTH_TOKEN_URL), *fault = NULL;

	if (!*s || !*run_str(r, SF_HTTP_AUTH_CLIENT_ID) || !*run_str(r, SF_HTTP_AUTH_CLIENT_SECRET))
		return err_set(e, ERR_AUTH, "auth.type oauth2 needs auth.token_url, auth.client_id and auth.client_secret, and neither the job nor its secret set has all of them");
	if (http_url_parse(s, strlen(s), u, e)) {
		e->cls = ERR_PERMANENT;
		return -1;
	}
	fault = http_token_url_fault(u);
	if (fault) {
		http_url_release(u);
		return err_set(e, ERR_PERMANENT, "auth.token_url %s", fault);
	}
	return 0;
}

/* A piece of the answer. */
static int
on_piece(struct http_request *q, const char *p, size_t n, struct err *e)
{
	if (q->answered.len + n > HTTP_TOKEN_BODY_MAX)
		return err_set(e, ERR_LIMIT, "the server that gives tokens answers with more than %d bytes", HTTP_TOKEN_BODY_MAX);
	/* of its last size at once: growing would leave copies behind */
	buf_room(&q->answered, HTTP_TOKEN_BODY_MAX - q->answered.len);
	buf_add(&q->answered, p, n);
	return 0;
}

static int
send_parked(struct conn *c, struct err *e)
{
	for (struct http_request *q = c->requests; q; q = q->next) {
		if (!q->parked)
			continue;
		q->parked = false;
		if (http_request_send(q, e))
			return -1;
	}
	return 0;
}

static int
token_done(struct http_request *q, struct err *e)
{
	struct conn *c = q->c;
	struct err why = ERR_INIT;
	struct buf b = BUF_INIT;
	int64_t seconds;

	c->renewing = false;
	if (!q->rc && !http_token_read(q->answered.p, q->answered.len, q->answer.status, &c->token, &seconds, &why)) {
		c->token_id++;
		c->token_kept = c->token_worked = false;
		c->token_until = seconds ? run_clock() + seconds * INT64_C(1000000000) : 0;
		return send_parked(c, e);
	}
	err_set(e, q->rc ? q->why.cls : why.cls, "%s: %.600s", http_request_text(q, &b), q->rc ? q->why.text : why.text);
	buf_release(&b);
	return -1;
}

static int
ask(struct conn *c, struct err *e)
{
	const struct run *r = c->run;
	const char *id = run_str(r, SF_HTTP_AUTH_CLIENT_ID), *secret = run_str(r, SF_HTTP_AUTH_CLIENT_SECRET);
	bool in_form = run_int(r, SF_HTTP_AUTH_CLIENT_AUTH) != 0;
	struct http_request *q;
	struct http_url u;

	if (endpoint(r, &u, e))
		return -1;
	if (net_scheme(EGRESS_HTTPS, e) || net_host(u.host, e) ||
	    (!http_url_same_origin(&c->origin, &u) && curl_session_host(c->session, u.host, u.port, e))) {
		http_url_release(&u);
		return -1;
	}
	q = http_request_new(c, HTTP_TOKEN, &u);
	http_url_release(&u);
	q->foreign = true;
	q->t.aside = true;
	buf_room(&q->form, 65536);
	http_token_form(&q->form, id, secret, in_form, &r->task->source.v[SF_HTTP_AUTH_SCOPES].l);
	if (!in_form)
		http_token_login(&q->login, id, secret);
	q->body = on_piece;
	q->done = token_done;
	c->renewing = true;
	return http_request_send(q, e);
}

int
http_auth_begin(struct conn *c, struct err *e)
{
	int rc;

	c->renewing = false;
	c->useless = 0;
	c->token_worked = false;
	c->token_kept = c->token.len > 0;
	if (c->auth != HTTP_AUTH_OAUTH2 || (c->token.len && run_clock() + MARGIN_NS < c->token_until))
		return 0;
	http_auth_forget(c);
	if (ask(c, e))
		return -1;
	rc = curl_session_run(c->session, e);
	return rc ? rc : c->token.len ? 0 : err_set(e, ERR_INTERNAL, "no token came");
}

int
http_auth_again(struct http_request *q, bool *again, struct err *e)
{
	struct conn *c = q->c;
	bool ours = c->auth == HTTP_AUTH_OAUTH2 && q->what != HTTP_TOKEN && !q->foreign;

	*again = false;
	if (!ours)
		return 0;
	if (q->answer.status != 401) {
		c->token_worked = c->token_worked || q->token_id == c->token_id;
		return 0;
	}
	if (q->retried) {
		c->useless++;
		return 0;
	}
	if (q->token_id == c->token_id && ((!c->token_worked && !c->token_kept) || c->useless >= USELESS_MAX))
		return 0;
	*again = q->retried = true;
	/* Another request's refusal has brought a new one already. */
	if (q->token_id != c->token_id)
		return http_request_send(q, e);
	q->parked = true;
	return c->renewing ? 0 : ask(c, e);
}

void
http_auth_forget(struct conn *c)
{
	buf_wipe(&c->token);
	c->token_until = 0;
	c->token_kept = false;
}
