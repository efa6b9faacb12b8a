/*
 * keys.c - temporary credentials for S3, fetched by a worker of the role credentials: instance role (IMDSv2), container,
 * AssumeRole, AssumeRoleWithWebIdentity.
 *
 * main.c calls keys_task for a frame KEYS_ASK. Each request goes through a libcurl session of its own, and while it is
 * under way this process may connect to nothing but that request's endpoint (net_only): metadata addresses only where the
 * instance's credentials are asked for. No redirect is followed. The answer is KEYS, or DONE with why there are none; neither
 * ever repeats a secret, and what a server says is only shown where it holds none of them.
 */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/escape.h"
#include "common/keys.h"
#include "common/loop.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "worker/keys_answer.h"
#include "worker/source/curl.h"
#include "worker/source/s3.h"
#include "worker/worker.h"
#include "common/banned.h"

/* A metadata service answers from the machine itself, or not at all. */
#define METADATA_CONNECT_MS 2000
#define METADATA_ANSWER_MS 5000
#define METADATA_TOTAL_MS 15000L
#define STS_TOTAL_MS 45000L
#define TOKEN_SECONDS "300"
#define ROLE_MAX 128
#define HINT "; is this a machine of a cloud, and its metadata service switched on? In a container the hop limit must be 2 or more"

struct fetch {
	struct run run;
	struct task_spec task;          /* of the request under way: where libcurl's side looks for timeouts, TLS and proxy */
	const struct keys_ask *ask;
	struct curl_session *session;
	struct http_url url;            /* its endpoint */
};

struct request {
	struct transfer t;              /* first: libcurl's side knows only this */
	const char *method, *path;      /* path with its query, percent-encoded */
	const char *post;               /* body; NULL none */
	size_t post_n;
	struct curl_slist *headers;
	long total_ms;
	CURLcode code;
	long status;
	struct buf body;
	bool too_long;
	uint64_t retry_after_ms;
};

/* ---- one request ---- */

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct request *q = arg;

	n *= size;
	if (q->body.len + n > KEYS_BODY_MAX) {
		q->too_long = true;
		return 0;
	}
	buf_add(&q->body, p, n);
	return n;
}

static size_t
on_header(char *p, size_t size, size_t n, void *arg)
{
	struct request *q = arg;
	char text[16];
	int64_t s;

	n *= size;
	if (n > 12 && n < 28 && !strncasecmp(p, "retry-after:", 12)) {
		snprintf(text, sizeof(text), "%.*s", (int)strcspn(p + 12 + strspn(p + 12, " "), " \r\n"), p + 12 + strspn(p + 12, " "));
		if (!units_int(text, &s) && s > 0 && s <= 86400)
			q->retry_after_ms = (uint64_t)s * 1000;
	}
	return n;
}

static int
on_ended(struct transfer *t, CURLcode code, struct err *e)
{
	struct request *q = (struct request *)t;

	(void)e;
	q->code = code;
	return RUN_STOP;
}

static void
add_header(struct request *q, const char *name, const char *value)
{
	char *line = xasprintf("%s: %s", name, value);
	struct curl_slist *l = curl_slist_append(q->headers, line);

	if (!l)
		BUG("libcurl takes no header");
	q->headers = l;
	explicit_bzero(line, strlen(line));
	free(line);
}

static void
request_init(struct request *q, const char *method, const char *path)
{
	memset(q, 0, sizeof(*q));
	q->method = method;
	q->path = path;
	/* At once: a buffer that grows leaves copies behind. */
	buf_room(&q->body, KEYS_BODY_MAX + 1);
}

static void
request_release(struct request *q)
{
	for (struct curl_slist *l = q->headers; l; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(q->headers);
	buf_wipe(&q->body);
}

static void
set_options(struct request *q, struct curl_session *session, const char *url, bool tls)
{
	CURL *h = q->t.easy;

	curl_session_aim(session, h, url, tls);
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
	if (q->post) {
		curl_easy_setopt(h, CURLOPT_POST, 1L);
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, q->post);
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, (long)q->post_n);
	} else {
		curl_easy_setopt(h, CURLOPT_HTTPGET, 1L);
		curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
	}
	curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, q->headers);
	curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, q->total_ms);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, q);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, q);
}

/* "GET http://host/path" for messages: nothing of a query. */
static void
request_text(const struct fetch *f, const struct request *q, struct buf *b)
{
	buf_printf(b, "%s ", q->method);
	http_url_origin(&f->url, false, b);
	buf_add(b, q->path, strcspn(q->path, "?"));
}

/* Sends it and waits for the answer: 0 with q->status and q->body, or -1. */
static int
ask(struct fetch *f, struct request *q, struct err *e)
{
	struct buf url = BUF_INIT, what = BUF_INIT;
	int64_t began = run_clock();
	int rc = -1;

	http_url_origin(&f->url, false, &url);
	buf_puts(&url, q->path);
	request_text(f, q, &what);
	q->t.ended = on_ended;
	q->t.easy = curl_session_easy(f->session);
	set_options(q, f->session, buf_str(&url), f->url.https);
	if (!curl_session_start(f->session, &q->t, e) && curl_session_run(f->session, e) >= 0) {
		if (q->too_long)
			err_set(e, ERR_PROTOCOL, "%s: the answer is longer than %d bytes", buf_str(&what), KEYS_BODY_MAX);
		else if (q->code == CURLE_OPERATION_TIMEDOUT && run_clock() - began >= q->total_ms * INT64_C(1000000))
			err_set(e, ERR_TIMEOUT, "%s: the answer was not whole after %ld s", buf_str(&what), q->total_ms / 1000);
		else if (q->code != CURLE_OK)
			curl_session_error(&q->t, q->code, buf_str(&what), e);
		else
			rc = 0;
	}
	curl_easy_getinfo(q->t.easy, CURLINFO_RESPONSE_CODE, &q->status);
	curl_session_recycle(f->session, q->t.easy);
	if (q->status == 429 || q->status >= 500)
		run_retry_after(&f->run, q->retry_after_ms);
	buf_release(&url);
	buf_release(&what);
	return rc;
}

/* ---- the endpoint ---- */

static void
endpoint_close(struct fetch *f)
{
	curl_session_free(f->session);
	f->session = NULL;
	http_url_release(&f->url);
	net_only(NULL);
}

static int
endpoint_open(struct fetch *f, const char *url, bool metadata, struct err *e)
{
	struct net_only only = { .metadata = metadata };
	struct err why = ERR_INIT;

	if (http_url_parse(url, strlen(url), &f->url, &why))
		return err_set(e, ERR_INTERNAL, "the master named an endpoint that is no URL");
	/* A tenant's lists are of where its jobs go; the machine's own credentials are where the poller's environment says. */
	f->task.egress = metadata ? (struct egress_lists){ .deny = { NULL, 0 } } : f->ask->egress;
	snprintf(f->task.endpoint, sizeof(f->task.endpoint), "%s", metadata ? "" : url);
	if (net_task(&f->task, e)) {
		http_url_release(&f->url);
		return -1;
	}
	only.loopback = metadata && keys_metadata_host(&f->url);
	only.metadata = only.loopback;
	/* What the session resolves, its endpoint and its proxy, is all that may be connected to. */
	net_only(&only);
	f->session = curl_session_new(&f->run, "http,https", f->url.host, f->url.port, 1, e);
	if (f->session)
		return 0;
	endpoint_close(f);
	return -1;
}

static void
set_ms(struct source_conf *c, enum source_field f, int64_t ms)
{
	c->v[f].set = true;
	c->v[f].i = ms;
}

/* Metadata services are asked directly and soon: the job's proxy and TLS are for STS. */
static int
metadata_open(struct fetch *f, struct err *e)
{
	struct source_conf *c = &f->task.source;

	memset(c, 0, sizeof(*c));
	c->type = SOURCE_S3;
	set_ms(c, SF_NETWORK_CONNECT_TIMEOUT, METADATA_CONNECT_MS);
	set_ms(c, SF_NETWORK_RESPONSE_TIMEOUT, METADATA_ANSWER_MS);
	set_ms(c, SF_NETWORK_IDLE_TIMEOUT, METADATA_ANSWER_MS);
	return endpoint_open(f, f->ask->url, true, e);
}

/* ---- refusals ---- */

/* Is any part of the secret in the text? */
static bool
holds(const char *text, const char *secret)
{
	size_t n = secret ? strlen(secret) : 0, piece = n < 12 ? n : 12;

	for (size_t i = 0; piece && i + piece <= n; i++)
		if (memmem(text, strlen(text), secret + i, piece))
			return true;
	return false;
}

/* ": Code: words", as far as it may be shown: a server may repeat what it was sent. */
static void
put_words(const struct fetch *f, const struct keys_answer *a, struct buf *b)
{
	const struct field_value *v = f->ask->conf.v;
	char line[201];

	if (*a->code)
		buf_printf(b, ": %s", a->code);
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(a->message, "\r\n"), a->message);
	if (!*line || holds(line, v[SF_S3_SECRET_ACCESS_KEY].s) || holds(line, v[SF_S3_SESSION_TOKEN].s) || holds(line, f->ask->token))
		return;
	buf_puts(b, ": ");
	escape_term(b, line, strlen(line));
}

static int
redirected(const char *what, long status, struct err *e)
{
	return err_set(e, ERR_PROTOCOL, "%s: a redirect (%ld), which is never followed", what, status);
}

/* Statuses of RFC 9110 as a metadata service means them (EC2 user guide, "Use the IMDS"). */
static int
metadata_refused(const struct fetch *f, const struct request *q, struct err *e)
{
	struct buf what = BUF_INIT;
	long st = q->status;
	int rc;

	request_text(f, q, &what);
	if (st >= 300 && st < 400)
		rc = redirected(buf_str(&what), st, e);
	else if (st == 429 || st >= 500)
		rc = err_set(e, ERR_TRANSIENT, "%s: status %ld", buf_str(&what), st);
	else if (st == 401)
		rc = err_set(e, ERR_PROTOCOL, "%s: status 401 for a token that was given a moment ago", buf_str(&what));
	else if (st == 403)
		rc = err_set(e, ERR_AUTH, "%s: status 403: the metadata service is switched off or closed to this machine's poller; "
		    "switch it on (HttpEndpoint), or give the job credentials of its own", buf_str(&what));
	else
		rc = err_set(e, ERR_PERMANENT, "%s: status %ld, which no metadata service of version 2 answers", buf_str(&what), st);
	buf_release(&what);
	return rc;
}

static int
sts_refused(const struct fetch *f, const struct request *q, struct err *e)
{
	struct buf what = BUF_INIT;
	struct err ignored = ERR_INIT;
	struct keys_answer a;
	int rc;

	request_text(f, q, &what);
	if (q->status >= 300 && q->status < 400) {
		rc = redirected(buf_str(&what), q->status, e);
	} else {
		/* what is no ErrorResponse leaves the code empty: the status alone speaks then */
		keys_answer_xml(q->body.p, q->body.len, 0, &a, &ignored);
		buf_printf(&what, " as %s: status %ld", f->ask->role_arn, q->status);
		put_words(f, &a, &what);
		rc = err_set(e, keys_answer_class(a.code, q->status), "%s", buf_str(&what));
		keys_answer_wipe(&a);
	}
	buf_release(&what);
	return rc;
}

/* ---- the instance's ---- */

static int
hint(struct err *e)
{
	char text[ERR_TEXT_MAX];

	if (e->cls != ERR_TRANSIENT && e->cls != ERR_TIMEOUT)
		return -1;
	memcpy(text, e->text, sizeof(text));
	return err_set(e, ERR_TRANSIENT, "%.*s%s", (int)(sizeof(text) - sizeof(HINT)), text, HINT);
}

/* The first line of the body, of these characters alone, into out; -1 otherwise. */
static int
line_of(const struct request *q, const char *set, char *out, size_t size)
{
	size_t n = 0;

	while (n < q->body.len && q->body.p[n] != '\n' && q->body.p[n] != '\r')
		n++;
	if (!n || n >= size)
		return -1;
	memcpy(out, q->body.p, n);
	out[n] = '\0';
	return strlen(out) == n && !out[strspn(out, set)] ? 0 : -1;
}

#define VISIBLE "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=,.@_-/:~!#$%&'()*;<>?[]^`{|}\"\\"
#define ROLE_NAME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=,.@_-"

static int
metadata_token(struct fetch *f, char *token, size_t size, struct err *e)
{
	struct request q;
	int rc;

	request_init(&q, "PUT", "/latest/api/token");
	q.total_ms = METADATA_TOTAL_MS;
	add_header(&q, "X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
	rc = ask(f, &q, e);
	if (rc)
		hint(e);
	else if (q.status != 200)
		rc = metadata_refused(f, &q, e);
	else if (line_of(&q, VISIBLE, token, size))
		rc = err_set(e, ERR_PROTOCOL, "the metadata service's token is empty, too long, or has odd characters");
	request_release(&q);
	return rc;
}

static int
metadata_role(struct fetch *f, const char *token, char *role, struct err *e)
{
	struct request q;
	int rc;

	request_init(&q, "GET", "/latest/meta-data/iam/security-credentials/");
	q.total_ms = METADATA_TOTAL_MS;
	add_header(&q, "X-aws-ec2-metadata-token", token);
	rc = ask(f, &q, e);
	if (!rc && (q.status == 404 || (q.status == 200 && !q.body.len)))
		rc = err_set(e, ERR_AUTH, "no role is attached to this machine: attach an instance profile to it, or give the job "
		    "credentials of its own");
	else if (!rc && q.status != 200)
		rc = metadata_refused(f, &q, e);
	else if (!rc && line_of(&q, ROLE_NAME, role, ROLE_MAX))
		rc = err_set(e, ERR_PROTOCOL, "the metadata service names a role that cannot be one");
	request_release(&q);
	return rc;
}

/* One GET that answers with JSON. */
static int
json_keys(struct fetch *f, const char *path, const char *header, const char *value, struct keys *k, struct err *e)
{
	struct keys_answer a;
	struct buf what = BUF_INIT;
	struct err why = ERR_INIT;
	struct request q;
	int rc;

	memset(&a, 0, sizeof(a));
	request_init(&q, "GET", path);
	q.total_ms = METADATA_TOTAL_MS;
	if (*value)
		add_header(&q, header, value);
	request_text(f, &q, &what);
	rc = ask(f, &q, e);
	if (rc)
		hint(e);
	else if (q.status != 200)
		rc = metadata_refused(f, &q, e);
	else if (keys_answer_json(q.body.p, q.body.len, clock_real_ns(), &a, &why))
		rc = err_set(e, why.cls, "%s: %s", buf_str(&what), why.text);
	else if (*a.code) {
		put_words(f, &a, &what);
		rc = err_set(e, ERR_AUTH, "%s", buf_str(&what));
	} else {
		*k = a.keys;
		memset(&a.keys, 0, sizeof(a.keys));
	}
	keys_answer_wipe(&a);
	buf_release(&what);
	request_release(&q);
	return rc;
}

static int
from_metadata(struct fetch *f, struct keys *k, struct err *e)
{
	char token[1024] = "", role[ROLE_MAX], *path;
	int rc;

	if (metadata_open(f, e))
		return -1;
	rc = metadata_token(f, token, sizeof(token), e);
	if (!rc)
		rc = metadata_role(f, token, role, e);
	if (!rc) {
		path = xasprintf("/latest/meta-data/iam/security-credentials/%s", role);
		rc = json_keys(f, path, "X-aws-ec2-metadata-token", token, k, e);
		free(path);
	}
	explicit_bzero(token, sizeof(token));
	endpoint_close(f);
	return rc;
}

static int
from_container(struct fetch *f, struct keys *k, struct err *e)
{
	char *path;
	int rc;

	if (metadata_open(f, e))
		return -1;
	path = xasprintf("%s%s%s", f->url.path, f->url.query ? "?" : "", f->url.query ? f->url.query : "");
	rc = json_keys(f, path, "Authorization", f->ask->token, k, e);
	free(path);
	endpoint_close(f);
	return rc;
}

/* ---- STS ---- */

static void
form(struct buf *b, const char *name, const char *value)
{
	if (b->len)
		buf_putc(b, '&');
	buf_puts(b, name);
	buf_putc(b, '=');
	s3_encode(b, value, strlen(value), false);
}

static void
sts_body(const struct keys_ask *a, struct buf *b)
{
	char seconds[16];

	/* At once: it may hold a token. */
	buf_room(b, 3 * (KEYS_TOKEN_MAX + 4096));
	form(b, "Action", a->base == KEYS_WEB_IDENTITY ? "AssumeRoleWithWebIdentity" : "AssumeRole");
	form(b, "Version", "2011-06-15");
	form(b, "RoleArn", a->role_arn);
	form(b, "RoleSessionName", a->session_name);
	snprintf(seconds, sizeof(seconds), "%u", a->duration_s);
	form(b, "DurationSeconds", seconds);
	if (*a->external_id)
		form(b, "ExternalId", a->external_id);
	if (a->base == KEYS_WEB_IDENTITY)
		form(b, "WebIdentityToken", a->token);
}

static void
sha256_text(const void *p, size_t n, char out[65])
{
	unsigned char hash[SHA256_DIGEST_LENGTH];

	SHA256(p, n, hash);
	for (size_t i = 0; i < sizeof(hash); i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static void
host_of(const struct http_url *u, struct buf *b)
{
	buf_printf(b, u->ipv6 ? "[%s]" : "%s", u->host);
	if (u->port != (u->https ? 443 : 80))
		buf_printf(b, ":%u", u->port);
}

static void
sts_sign(struct fetch *f, struct request *q, const struct keys *base, const char *type)
{
	struct buf value = BUF_INIT, host = BUF_INIT;
	struct s3_pair h[4];
	char hash[65];
	struct s3_signing s = {
		.method = "POST", .path = "/", .query = "", .region = f->ask->sts_region, .service = "sts",
		.access_key_id = base->access_key_id, .secret_access_key = base->secret_access_key, .payload_sha256 = hash, .headers = h,
	};

	sha256_text(q->post, q->post_n, hash);
	s3_date((int64_t)time(NULL), s.date);
	host_of(&f->url, &host);
	h[s.n_headers++] = (struct s3_pair){ "host", host.p, host.len };
	h[s.n_headers++] = (struct s3_pair){ "content-type", type, strlen(type) };
	h[s.n_headers++] = (struct s3_pair){ "x-amz-date", s.date, strlen(s.date) };
	if (base->session_token && *base->session_token)
		h[s.n_headers++] = (struct s3_pair){ "x-amz-security-token", base->session_token, strlen(base->session_token) };
	s3_authorization(&s, &value);
	add_header(q, "X-Amz-Date", s.date);
	if (base->session_token && *base->session_token)
		add_header(q, "X-Amz-Security-Token", base->session_token);
	add_header(q, "Authorization", buf_str(&value));
	buf_wipe(&value);
	buf_release(&host);
}

/* base: NULL for a web identity, which is its own proof. */
static int
assume(struct fetch *f, const struct keys *base, struct keys *k, struct err *e)
{
	static const char type[] = "application/x-www-form-urlencoded; charset=utf-8";
	struct keys_answer a;
	struct buf body = BUF_INIT, what = BUF_INIT;
	struct err why = ERR_INIT;
	struct request q;
	int rc;

	memset(&a, 0, sizeof(a));
	f->task.source = f->ask->conf;
	if (endpoint_open(f, f->ask->sts_url, false, e))
		return -1;
	request_init(&q, "POST", "/");
	q.total_ms = STS_TOTAL_MS;
	sts_body(f->ask, &body);
	q.post = body.p;
	q.post_n = body.len;
	add_header(&q, "Content-Type", type);
	add_header(&q, "Accept", "text/xml");
	add_header(&q, "Expect", "");
	if (base)
		sts_sign(f, &q, base, type);
	rc = ask(f, &q, e);
	if (!rc && q.status != 200) {
		rc = sts_refused(f, &q, e);
	} else if (!rc) {
		request_text(f, &q, &what);
		if (keys_answer_xml(q.body.p, q.body.len, clock_real_ns(), &a, &why))
			rc = err_set(e, why.cls, "%s: %s", buf_str(&what), why.text);
		else if (*a.code)
			rc = err_set(e, keys_answer_class(a.code, 200), "%s: %s", buf_str(&what), a.code);
		else {
			*k = a.keys;
			memset(&a.keys, 0, sizeof(a.keys));
		}
	}
	keys_answer_wipe(&a);
	buf_wipe(&body);
	buf_release(&what);
	request_release(&q);
	endpoint_close(f);
	return rc;
}

/* ---- the task ---- */

static int
fetch_keys(struct fetch *f, struct keys *k, struct err *e)
{
	const struct keys_ask *a = f->ask;
	const struct field_value *v = a->conf.v;
	struct keys base = { NULL, NULL, NULL, 0 };
	struct keys own = { v[SF_S3_ACCESS_KEY_ID].s, v[SF_S3_SECRET_ACCESS_KEY].s, v[SF_S3_SESSION_TOKEN].s, 0 };
	int rc;

	if (a->base == KEYS_WEB_IDENTITY)
		return assume(f, NULL, k, e);
	if (a->base == KEYS_STATIC)
		return assume(f, &own, k, e);
	rc = a->base == KEYS_METADATA ? from_metadata(f, &base, e) : from_container(f, &base, e);
	if (!rc && *a->role_arn) {
		rc = assume(f, &base, k, e);
		keys_wipe(&base);
	} else if (!rc) {
		*k = base;
	}
	return rc;
}

static int
answer(struct channel *ch, struct fetch *f, int rc, struct keys *k, const struct err *why, struct err *e)
{
	struct task_done *d = &f->run.done;

	if (ch->gone || ch->broken) {
		*e = *why;
		return -1;
	}
	/* Answered by leaving: nobody was asked, and nobody is charged. */
	if (rc && broker_gone())
		return err_set(e, ERR_SYSTEM, "the connector is gone; a fresh worker takes over");
	if (!rc) {
		struct buf *b = channel_begin(ch, MSG_KEYS);

		buf_room(b, 16384);
		keys_encode(k, b);
		rc = channel_send(ch, e);
		explicit_bzero(b->p, b->cap);
		return rc;
	}
	/* Counts and phases of a listing that was not begun are zero. */
	memset(d->phase_us, 0, sizeof(d->phase_us));
	d->phase = PHASE_OPEN;
	d->cls = task_class_allowed(why->cls) && why->cls != ERR_OK ? why->cls : ERR_INTERNAL;
	snprintf(d->text, sizeof(d->text), "credentials: %s", why->text);
	task_done_encode(d, channel_begin(ch, MSG_DONE));
	return channel_send(ch, e);
}

int
keys_task(struct channel *ch, const struct setup *setup, const struct frame *frame, struct err *e)
{
	struct keys k = { NULL, NULL, NULL, 0 };
	struct fetch *f = xcalloc(1, sizeof(*f));
	struct keys_ask a;
	struct err why = ERR_INIT;
	int rc;

	ch->task = frame->task;
	ch->busy = true;
	ch->cancelled = false;
	rc = keys_ask_decode(&a, frame->payload, frame->n, e);
	explicit_bzero(ch->in, sizeof(ch->in));
	if (rc || setup->role != ROLE_CREDENTIALS) {
		if (!rc)
			err_set(e, ERR_WORKER_PROTOCOL, "the master sent KEYS_ASK to a worker of another role");
		ch->broken = true;
		rc = -1;
		goto out;
	}
	f->ask = &a;
	f->run.setup = setup;
	f->run.task = &f->task;
	f->run.ch = ch;
	f->run.progress_ns = f->run.polled_ns = f->run.flushed_ns = run_clock();
	rc = answer(ch, f, fetch_keys(f, &k, &why), &k, &why, e);
out:
	keys_wipe(&k);
	keys_ask_release(&a);
	free(f);
	ch->busy = ch->cancelled = false;
	return rc;
}
