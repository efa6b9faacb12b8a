/*
 * http_request.c - one HTTP request: its headers, credentials, redirects and the head of its answer.
 *
 * Called by http.c. libcurl never follows a redirect itself: each hop is judged here, resolved and checked against the
 * egress policy, and no credential, header or client certificate of the job goes to another origin than the job's.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/escape.h"
#include "common/units.h"
#include "common/uuid.h"
#include "worker/source/http.h"
#include "worker/source/http_sign.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define UNREAD_MAX (1 << 20)    /* of a body that nobody reads */
#define COOKIES_MAX (64 << 10)  /* bytes of cookies that a server may set in one task */

static const char propfind[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:propfind xmlns:D=\"DAV:\"><D:prop><D:resourcetype/>"
    "<D:getcontentlength/><D:getlastmodified/><D:getetag/><D:getcontenttype/></D:prop></D:propfind>\n";

#define SET(easy, option, value) \
	do { \
		if (curl_easy_setopt((easy), (option), (value))) \
			BUG("libcurl refused an option"); \
	} while (0)

static const char *
method(const struct http_request *q)
{
	if (q->what == HTTP_TOKEN)
		return "POST";
	return q->what != HTTP_PAGE ? "HEAD" : q->c->wanted == HTTP_FORMAT_WEBDAV ? "PROPFIND" : q->post ? "POST" : "GET";
}

const char *
http_request_text(const struct http_request *q, struct buf *b)
{
	struct buf url = BUF_INIT;

	buf_clear(b);
	buf_printf(b, "%s ", method(q));
	http_url_text(&q->url, false, &url);
	escape_term(b, url.p, url.len > 400 ? 400 : url.len);
	buf_release(&url);
	return buf_str(b);
}

int
http_request_refused(const struct http_request *q, struct err *e)
{
	unsigned status = q->answer.status;
	const char *words = http_status_words(status), *advice = http_status_advice(status);
	struct buf b = BUF_INIT;

	err_set(e, http_status_class(status), "%s: the server answered %u%s%s%s%s", http_request_text(q, &b), status,
	    *words ? " " : "", words, *advice ? ": " : "", advice);
	buf_release(&b);
	return -1;
}

/* ---- headers ------------------------------------------------------------------------------------------------------------ */

static void
add_header(struct http_request *q, const char *line)
{
	struct curl_slist *l = curl_slist_append(q->headers, line);

	if (!l)
		BUG("curl_slist_append");
	q->headers = l;
}

static void
drop_headers(struct http_request *q)
{
	for (struct curl_slist *l = q->headers; l; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(q->headers);
	q->headers = NULL;
}

static void
accept_header(struct http_request *q)
{
	static const char *const accept[] = {
		[HTTP_FORMAT_AUTO] = "Accept: application/json, text/html;q=0.9, application/xml;q=0.8, */*;q=0.5",
		[HTTP_FORMAT_HTML] = "Accept: text/html, */*;q=0.5",
		[HTTP_FORMAT_JSON] = "Accept: application/json",
		[HTTP_FORMAT_XML] = "Accept: application/xml, text/xml, */*;q=0.5",
		[HTTP_FORMAT_LINKS] = "Accept: text/html, */*;q=0.5",
		[HTTP_FORMAT_TEXT] = "Accept: text/plain, */*;q=0.5",
		[HTTP_FORMAT_JSONL] = "Accept: */*",
		[HTTP_FORMAT_WEBDAV] = "Accept: application/xml, text/xml",
	};

	add_header(q, q->what == HTTP_PAGE ? accept[q->c->wanted] : q->what == HTTP_TOKEN ? "Accept: application/json" : "Accept: */*");
	if (q->what == HTTP_PAGE && q->c->wanted == HTTP_FORMAT_WEBDAV) {
		add_header(q, "Depth: 1");
		add_header(q, "Content-Type: application/xml; charset=utf-8");
	}
}

/* libcurl would call it a form, also where there is no body. */
static void
type_header(struct http_request *q)
{
	const struct run *r = q->c->run;
	char *line = xasprintf("Content-Type: %s", run_str(r, SF_HTTP_CONTENT_TYPE));

	add_header(q, *run_str(r, SF_HTTP_BODY) ? line : "Content-Type:");
	free(line);
}

/* libcurl would name the server as TLS does. */
static void
host_header(struct http_request *q)
{
	struct buf b = BUF_INIT;
	char *line;

	http_url_origin(&q->url, false, &b);
	line = xasprintf("Host: %s", strstr(buf_str(&b), "://") + 3);
	add_header(q, line);
	free(line);
	buf_release(&b);
}

static void
add_signature(void *q, const char *line)
{
	if (!http_header_fault(line))
		add_header(q, line);
}

/* u: as it is asked for. */
static void
sign(struct http_request *q, const struct http_url *u)
{
	const struct run *r = q->c->run;
	char hash[65] = S3_EMPTY_SHA256;
	struct http_signing g = {
		.method = method(q), .region = run_str(r, SF_HTTP_AUTH_REGION), .service = run_str(r, SF_HTTP_AUTH_SERVICE),
		.access_key_id = run_str(r, SF_HTTP_AUTH_ACCESS_KEY_ID), .secret_access_key = run_str(r, SF_HTTP_AUTH_SECRET_ACCESS_KEY),
		.session_token = run_str(r, SF_HTTP_AUTH_SESSION_TOKEN), .payload_sha256 = hash, .seconds = (int64_t)time(NULL),
	};

	if (!strcmp(g.method, "PROPFIND"))
		sha256_hex(propfind, sizeof(propfind) - 1, hash);
	else if (q->post)
		sha256_hex(run_str(r, SF_HTTP_BODY), strlen(run_str(r, SF_HTTP_BODY)), hash);
	http_sign(&g, u, add_signature, q);
}

/* Who we are; to the job's own origin alone. u: as it is asked for. */
static void
identify(struct http_request *q, const struct http_url *u)
{
	const struct run *r = q->c->run;
	const struct strlist *own = &r->task->source.v[SF_HTTP_HEADERS].l;
	CURL *easy = q->t.easy;

	for (size_t i = 0; i < own->n; i++)
		if (!http_header_fault(own->v[i]))
			add_header(q, own->v[i]);
	if (*run_str(r, SF_HTTP_COOKIES))
		SET(easy, CURLOPT_COOKIE, run_str(r, SF_HTTP_COOKIES));
	if (q->c->jar) {
		SET(easy, CURLOPT_SHARE, q->c->jar);
		SET(easy, CURLOPT_COOKIEFILE, "");
	}
	switch (q->c->auth) {
	case HTTP_AUTH_BASIC:
	case HTTP_AUTH_DIGEST:
		SET(easy, CURLOPT_HTTPAUTH, (long)(q->c->auth == HTTP_AUTH_BASIC ? CURLAUTH_BASIC : CURLAUTH_DIGEST));
		SET(easy, CURLOPT_USERNAME, run_str(r, SF_HTTP_AUTH_USERNAME));
		SET(easy, CURLOPT_PASSWORD, run_str(r, SF_HTTP_AUTH_PASSWORD));
		break;
	case HTTP_AUTH_BEARER:
	case HTTP_AUTH_HEADER: {
		bool bearer = q->c->auth == HTTP_AUTH_BEARER;
		char *line = xasprintf("%s: %s%s", bearer ? "Authorization" : run_str(r, SF_HTTP_AUTH_HEADER), bearer ? "Bearer " : "",
		    run_str(r, SF_HTTP_AUTH_TOKEN));

		if (!http_header_fault(line))
			add_header(q, line);
		explicit_bzero(line, strlen(line));
		free(line);
		break;
	}
	case HTTP_AUTH_SIGV4:
		sign(q, u);
		break;
	case HTTP_AUTH_OAUTH2: {
		char *line = xasprintf("Authorization: Bearer %s", buf_str(&q->c->token));

		add_header(q, line);
		explicit_bzero(line, strlen(line));
		free(line);
		q->token_id = q->c->token_id;
		break;
	}
	default:
		break;
	}
}

static void
forget_certificate(CURL *easy)
{
	SET(easy, CURLOPT_SSLCERT_BLOB, NULL);
	SET(easy, CURLOPT_SSLKEY_BLOB, NULL);
	SET(easy, CURLOPT_KEYPASSWD, "");
}

/* ---- what comes ------------------------------------------------------------------------------------------------------------ */

static size_t
on_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_request *q = arg;

	n *= size;
	http_answer_line(&q->answer, p, n);
	if (!q->c->jar || q->foreign || n < 11 || strncasecmp(p, "set-cookie:", 11))
		return n;
	/* libcurl bounds what one answer sets, not what all do. */
	q->c->cookie_bytes += n;
	if (q->c->cookie_bytes > COOKIES_MAX && !q->rc)
		q->rc = err_set(&q->why, ERR_LIMIT, "the server sets more than %d KiB of cookies (keep_cookies)", COOKIES_MAX >> 10);
	return q->rc ? 0 : n;
}

static bool
wanted(const struct http_request *q)
{
	if (q->what == HTTP_TOKEN)
		return true;
	return q->body && (q->expected ? q->answer.status == q->expected : q->answer.status / 100 == 2);
}

static int
read_body(struct http_request *q, const char *p, size_t n, struct err *e)
{
	int64_t max = run_int(q->c->run, SF_HTTP_MAX_BODY);
	struct buf b = BUF_INIT;

	q->body_n += n;
	if (max && q->body_n > (uint64_t)max && q->what != HTTP_TOKEN) {
		err_set(e, ERR_LIMIT, "%s: the page has more than %lld bytes (max_body)", http_request_text(q, &b), (long long)max);
		buf_release(&b);
		return -1;
	}
	return q->body(q, p, n, e);
}

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_request *q = arg;

	n *= size;
	if (q->rc)
		return 0;
	if (!wanted(q)) {
		q->body_n += n;
		q->enough = q->body_n > UNREAD_MAX;
		return q->enough ? 0 : n;
	}
	if (q->ready && !q->ready(q)) {
		q->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	q->rc = read_body(q, p, n, &q->why);
	return q->rc ? 0 : n;
}

void
http_request_resume(struct http_request *q)
{
	if (!q->paused)
		return;
	q->paused = false;
	/* What was held back is read in there; libcurl goes on after a failure of it, so that ours is kept. */
	if (curl_easy_pause(q->t.easy, CURLPAUSE_CONT) && !q->rc)
		q->rc = err_set(&q->why, ERR_INTERNAL, "libcurl did not take up a transfer again");
}

/* ---- redirects ---------------------------------------------------------------------------------------------------------------- */

static bool
is_redirect(const struct http_request *q)
{
	unsigned s = q->answer.status;

	return (s == 301 || s == 302 || s == 303 || s == 307 || s == 308) && *q->answer.location && q->what != HTTP_TOKEN;
}

/* A POST stays one; others, as everywhere, become GET. */
static bool
keeps_method(const struct http_request *q)
{
	return q->post && (q->answer.status == 307 || q->answer.status == 308);
}

/* NULL, or why this hop may not be. *cls: its class. */
static const char *
hop_fault(const struct http_request *q, const struct http_url *to, enum err_class *cls)
{
	const struct run *r = q->c->run;

	*cls = ERR_POLICY;
	if (!run_int(r, SF_HTTP_FOLLOW_REDIRECTS))
		return "follow_redirects is false";
	if (to->user)
		return "it holds a user or password";
	if (q->url.https && !to->https && !run_int(r, SF_HTTP_ALLOW_DOWNGRADE))
		return "it leads from https to http (allow_downgrade)";
	if (!http_url_same_origin(&q->c->origin, to) && run_int(r, SF_HTTP_SAME_ORIGIN_ONLY))
		return "it leads to another origin (same_origin_only)";
	*cls = ERR_PERMANENT;
	if (q->post == keeps_method(q) && http_url_same_origin(&q->url, to) && !strcmp(q->url.path, to->path) &&
	    !strcmp(q->url.query ? q->url.query : "", to->query ? to->query : ""))
		return "it leads to itself";
	/* It was written for the job's own server, and headers and secrets do not go there either. */
	if (keeps_method(q) && !http_url_same_origin(&q->c->origin, to) && *run_str(r, SF_HTTP_BODY)) {
		*cls = ERR_POLICY;
		return "the body of a POST is sent to the url's own origin alone";
	}
	if (q->redirects >= (uint64_t)run_int(r, SF_HTTP_MAX_REDIRECTS))
		return "one redirect too many: a loop, or max_redirects is too low";
	return NULL;
}

static int
bad_hop(const struct http_request *q, enum err_class cls, const char *why, struct err *e)
{
	struct buf b = BUF_INIT, ref = BUF_INIT, to = BUF_INIT;

	http_ref_shown(q->answer.location, strcspn(q->answer.location, "?#"), &ref);
	escape_term(&to, buf_str(&ref), ref.len);
	err_set(e, cls, "%s: the redirect to %.300s is not followed: %s", http_request_text(q, &b), buf_str(&to), why);
	buf_release(&b);
	buf_release(&ref);
	buf_release(&to);
	return -1;
}

static int
follow(struct http_request *q, struct err *e)
{
	struct err refusal = ERR_INIT;
	struct http_url to;
	const char *why;
	enum err_class cls;

	if (http_url_resolve(&q->url, q->answer.location, strlen(q->answer.location), &to) != HTTP_REF_OK)
		return bad_hop(q, ERR_PROTOCOL, "it is no address of http or https", e);
	why = hop_fault(q, &to, &cls);
	if (!why && (net_scheme(to.https ? EGRESS_HTTPS : EGRESS_HTTP, &refusal) || net_host(to.host, &refusal))) {
		cls = refusal.cls;
		why = refusal.text;
	}
	if (why) {
		http_url_release(&to);
		return bad_hop(q, cls, why, e);
	}
	q->post = keeps_method(q);
	http_url_release(&q->url);
	q->url = to;
	q->redirects++;
	q->foreign = !http_url_same_origin(&q->c->origin, &to);
	if (q->foreign && curl_session_host(q->c->session, to.host, to.port, e))
		return -1;
	return http_request_send(q, e);
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */

static void
count(struct http_request *q, bool on)
{
	unsigned *n = q->what == HTTP_HEAD ? &q->c->heads : &q->c->pages;

	if (q->counted == on)
		return;
	q->counted = on;
	*n = on ? *n + 1 : *n - 1;
}

static int
on_ended(struct transfer *t, CURLcode code, struct err *e)
{
	struct http_request *q = (struct http_request *)t;
	struct buf b = BUF_INIT;
	int rc = 0;

	q->again = false;
	/* Its place is free for what done starts. */
	count(q, false);
	if (q->rc) {
		*e = q->why;
		rc = q->rc > 0 ? RUN_STOP : q->done(q, e);
	} else if (code && !(q->enough && code == CURLE_WRITE_ERROR)) {
		/* Not we have given up reading: what libcurl unpacks by itself (br, though nobody asked for it) was broken. */
		code = code == CURLE_WRITE_ERROR ? CURLE_BAD_CONTENT_ENCODING : code;
		curl_session_error(t, code, http_request_text(q, &b), &q->why);
		q->rc = -1;
		*e = q->why;
		rc = -1;
	} else if (is_redirect(q)) {
		q->again = true;
		rc = follow(q, &q->why);
		if (rc) {
			q->again = false;
			q->rc = -1;
			rc = q->done(q, e);
		}
	} else {
		rc = http_auth_again(q, &q->again, e);
		if (!rc && !q->again)
			rc = q->done(q, e);
	}
	buf_release(&b);
	if (!q->again)
		http_request_free(q);
	return rc;
}

struct http_request *
http_request_new(struct conn *c, enum http_what what, const struct http_url *u)
{
	struct http_request *q = xcalloc(1, sizeof(*q));

	q->c = c;
	q->what = what;
	http_url_copy(&q->url, u);
	http_answer_init(&q->answer);
	q->next = c->requests;
	q->at = &c->requests;
	if (q->next)
		q->next->at = &q->next;
	c->requests = q;
	return q;
}

void
http_request_free(struct http_request *q)
{
	if (!q)
		return;
	*q->at = q->next;
	if (q->next)
		q->next->at = q->at;
	count(q, false);
	curl_session_recycle(q->c->session, q->t.easy);
	drop_headers(q);
	index_free(q->parser);
	http_answer_release(&q->answer);
	http_url_release(&q->url);
	buf_wipe(&q->form);
	buf_wipe(&q->login);
	buf_wipe(&q->answered);
	free(q);
}

static void
set_method(struct http_request *q)
{
	CURL *easy = q->t.easy;

	if (q->what == HTTP_TOKEN) {
		SET(easy, CURLOPT_POSTFIELDSIZE, (long)q->form.len);
		SET(easy, CURLOPT_POSTFIELDS, buf_str(&q->form));
		if (q->login.len)
			add_header(q, buf_str(&q->login));
	} else if (q->what != HTTP_PAGE) {
		SET(easy, CURLOPT_NOBODY, 1L);
	} else if (q->c->wanted == HTTP_FORMAT_WEBDAV) {
		SET(easy, CURLOPT_POSTFIELDSIZE, (long)(sizeof(propfind) - 1));
		SET(easy, CURLOPT_POSTFIELDS, propfind);
		SET(easy, CURLOPT_CUSTOMREQUEST, "PROPFIND");
	} else if (q->post) {
		SET(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(run_str(q->c->run, SF_HTTP_BODY)));
		SET(easy, CURLOPT_POSTFIELDS, run_str(q->c->run, SF_HTTP_BODY));
		type_header(q);
	}
	/* A compressed manifest's end would be nobody's to vouch for; a head's length is that of the file itself. */
	if (q->what == HTTP_PAGE && run_int(q->c->run, SF_HTTP_COMPRESSED) && q->c->wanted != HTTP_FORMAT_TEXT &&
	    q->c->wanted != HTTP_FORMAT_JSONL)
		SET(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
}

int
http_request_send(struct http_request *q, struct err *e)
{
	const struct run *r = q->c->run;
	struct buf url = BUF_INIT;
	struct http_url u;
	CURL *easy;

	curl_session_recycle(q->c->session, q->t.easy);
	drop_headers(q);
	q->t.easy = easy = curl_session_easy(q->c->session);
	q->t.ended = on_ended;
	q->rc = 0;
	q->body_n = 0;
	q->enough = q->paused = false;
	http_answer_release(&q->answer);
	http_answer_init(&q->answer);
	index_free(q->parser);
	q->parser = NULL;
	if (q->c->auth == HTTP_AUTH_SIGV4 && !q->foreign)
		http_sign_url(&q->url, &u);
	else
		http_url_copy(&u, &q->url);
	http_url_text(&u, true, &url);
	if (curl_session_aim(q->c->session, easy, buf_str(&url), q->url.https))
		host_header(q);
	SET(easy, CURLOPT_PATH_AS_IS, 1L);
	SET(easy, CURLOPT_HEADERFUNCTION, on_header);
	SET(easy, CURLOPT_HEADERDATA, q);
	SET(easy, CURLOPT_WRITEFUNCTION, on_body);
	SET(easy, CURLOPT_WRITEDATA, q);
	if (*run_str(r, SF_HTTP_USER_AGENT))
		SET(easy, CURLOPT_USERAGENT, run_str(r, SF_HTTP_USER_AGENT));
	if (run_int(r, SF_HTTP_HTTP_VERSION) == 2)
		SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	set_method(q);
	accept_header(q);
	if (q->foreign)
		forget_certificate(easy);
	else
		identify(q, &u);
	http_url_release(&u);
	SET(easy, CURLOPT_HTTPHEADER, q->headers);
	buf_release(&url);
	count(q, true);
	return curl_session_start(q->c->session, &q->t, e);
}
