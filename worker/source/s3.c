/*
 * s3.c - the source type s3: one bucket, its connection, and its requests, signed by s3_sign.c.
 *
 * run.c opens, lists, closes. The walk over pages is s3_list.c's; here a request is built from its parameters, sent
 * through the libcurl session that all such sources share, and its answer gathered, bounded. Redirects are never
 * followed: the only other address is that of another region of Amazon's. Secrets leave only as a signature.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "worker/source/s3.h"
#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define RETRY_AFTER_MAX_MS (24 * 3600 * INT64_C(1000))

struct conn {
	struct run *run;                /* of the task in hand */
	struct curl_session *session;
	struct s3_address where;
	bool used;                      /* a task was served: the session must be told of the next */
};

struct curl_session *
s3_session(struct conn *c)
{
	return c->session;
}

const struct s3_address *
s3_where(const struct conn *c)
{
	return &c->where;
}

struct run *
s3_run(struct conn *c)
{
	return c->run;
}

/* What libcurl resolves: an IPv6 address has no brackets there. */
static void
bare_host(const struct s3_address *a, char out[256])
{
	size_t n = strlen(a->host);

	if (a->host[0] == '[')
		snprintf(out, 256, "%.*s", (int)n - 2, a->host + 1);
	else
		snprintf(out, 256, "%s", a->host);
}

int
s3_set_region(struct conn *c, const char *region, struct err *e)
{
	struct s3_address a;
	char host[256];

	if (s3_address(&c->run->task->source, region, &a, e))
		return -1;
	if (a.amazon && net_host(a.service, e))
		return -1;
	c->where = a;
	bare_host(&a, host);
	return a.amazon ? curl_session_host(c->session, host, a.port, e) : 0;
}

/* ---- the answer ---- */

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct s3_request *q = arg;

	n *= size;
	if (q->body.len + n > S3_BODY_MAX) {
		q->body_too_long = true;
		return 0;
	}
	buf_add(&q->body, p, n);
	return n;
}

/* The value of the header, if it is this one: without spaces at its ends. */
static bool
header_is(const char *p, size_t n, const char *name, char *out, size_t out_n)
{
	size_t k = strlen(name);

	if (n <= k || strncasecmp(p, name, k) || p[k] != ':')
		return false;
	for (p += k + 1, n -= k + 1; n && (*p == ' ' || *p == '\t'); p++, n--)
		;
	while (n && strchr(" \t\r\n", p[n - 1]))
		n--;
	snprintf(out, out_n, "%.*s", n < out_n ? (int)n : (int)out_n - 1, p);
	return true;
}

/* Seconds, or a date of RFC 9110; 0 where it is neither. */
static uint64_t
retry_after(const char *text)
{
	int64_t s;
	time_t at;

	if (units_int(text, &s)) {
		at = curl_getdate(text, NULL);
		s = at == -1 ? 0 : (int64_t)at - (int64_t)time(NULL);
	}
	if (s <= 0)
		return 0;
	return s > RETRY_AFTER_MAX_MS / 1000 ? RETRY_AFTER_MAX_MS : (uint64_t)s * 1000;
}

static size_t
on_header(char *p, size_t size, size_t n, void *arg)
{
	struct s3_request *q = arg;
	char text[65];

	n *= size;
	if (header_is(p, n, "retry-after", text, sizeof(text)))
		q->retry_after_ms = retry_after(text);
	else if (header_is(p, n, "x-amz-bucket-region", text, sizeof(text)) && s3_region_ok(text))
		snprintf(q->region, sizeof(q->region), "%s", text);
	return n;
}

/* ---- the request ---- */

static void
host_header(const struct s3_address *a, char *out, size_t n)
{
	if (a->port == (a->tls ? 443 : 80))
		snprintf(out, n, "%s", a->host);
	else
		snprintf(out, n, "%s:%u", a->host, a->port);
}

/* The path of the bucket, percent-encoded as it is signed and sent. */
static void
bucket_path(const struct conn *c, struct buf *b)
{
	const char *bucket = run_str(c->run, SF_S3_BUCKET);

	buf_puts(b, c->where.base);
	buf_putc(b, '/');
	if (c->where.path_style)
		s3_encode(b, bucket, strlen(bucket), false);
}

static void
add_header(struct s3_request *q, const char *name, const char *value)
{
	char *line = xasprintf("%s: %s", name, value);
	struct curl_slist *l = curl_slist_append(q->headers, line);

	if (!l)
		BUG("libcurl takes no header");
	q->headers = l;
	explicit_bzero(line, strlen(line));
	free(line);
}

static struct s3_pair
pair(const char *name, const char *value)
{
	return (struct s3_pair){ name, value, strlen(value) };
}

/* Headers of the request beside host and date that the job asks for. */
static size_t
job_headers(const struct run *r, struct s3_pair *h)
{
	size_t n = 0;

	if (run_int(r, SF_S3_REQUEST_PAYER))
		h[n++] = pair("x-amz-request-payer", "requester");
	if (*run_str(r, SF_S3_EXPECTED_BUCKET_OWNER))
		h[n++] = pair("x-amz-expected-bucket-owner", run_str(r, SF_S3_EXPECTED_BUCKET_OWNER));
	if (r->task->source.v[SF_S3_OPTIONAL_OBJECT_ATTRIBUTES].set)
		h[n++] = pair("x-amz-optional-object-attributes", "RestoreStatus");
	return n;
}

static void
sign(struct s3_request *q, const char *path)
{
	const struct run *r = q->conn->run;
	bool anonymous = run_int(r, SF_S3_ANONYMOUS);
	struct s3_pair h[8];
	struct s3_signing s = {
		.method = "GET", .path = path, .query = buf_str(&q->query), .region = q->conn->where.region, .service = "s3",
		.access_key_id = run_str(r, SF_S3_ACCESS_KEY_ID),
		.secret_access_key = run_str(r, SF_S3_SECRET_ACCESS_KEY),
		.payload_sha256 = S3_EMPTY_SHA256, .headers = h,
	};
	struct buf value = BUF_INIT;
	char host[300];

	s.n_headers = job_headers(r, h);
	s3_date((int64_t)time(NULL), s.date);
	if (!anonymous) {
		h[s.n_headers++] = pair("x-amz-content-sha256", S3_EMPTY_SHA256);
		h[s.n_headers++] = pair("x-amz-date", s.date);
		if (*run_str(r, SF_S3_SESSION_TOKEN))
			h[s.n_headers++] = pair("x-amz-security-token", run_str(r, SF_S3_SESSION_TOKEN));
	}
	for (size_t i = 0; i < s.n_headers; i++)
		add_header(q, h[i].name, h[i].value);
	if (anonymous)
		return;
	host_header(&q->conn->where, host, sizeof(host));
	h[s.n_headers++] = pair("host", host);
	s3_authorization(&s, &value);
	add_header(q, "Authorization", buf_str(&value));
	buf_wipe(&value);
}

static void
set_options(struct s3_request *q, const char *url, const char *host)
{
	CURL *h = q->t.easy;

	/* Signed as it is, whatever name TLS asks for. */
	if (curl_session_aim(q->conn->session, h, url, q->conn->where.tls))
		add_header(q, "Host", host);
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(h, CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, q->headers);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, q);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, q);
}

int
s3_request_start(struct s3_request *q, struct s3_pair *params, size_t n, struct err *e)
{
	struct buf path = BUF_INIT, url = BUF_INIT;
	char host[300];
	int rc;

	s3_query(&q->query, params, n);
	bucket_path(q->conn, &path);
	sign(q, buf_str(&path));
	host_header(&q->conn->where, host, sizeof(host));
	buf_printf(&url, "%s://%s%s?%s", q->conn->where.tls ? "https" : "http", host, buf_str(&path), buf_str(&q->query));
	q->t.easy = curl_session_easy(q->conn->session);
	set_options(q, buf_str(&url), host);
	rc = curl_session_start(q->conn->session, &q->t, e);
	buf_release(&path);
	buf_release(&url);
	return rc;
}

void
s3_request_release(struct s3_request *q)
{
	if (q->t.easy)
		curl_session_recycle(q->conn->session, q->t.easy);
	q->t.easy = NULL;
	/* It holds the session token. */
	for (struct curl_slist *l = q->headers; l; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(q->headers);
	q->headers = NULL;
	buf_release(&q->body);
	buf_clear(&q->query);
	q->body_too_long = false;
	q->retry_after_ms = 0;
	q->region[0] = '\0';
}

void
s3_request_text(const struct s3_request *q, char *out, size_t n)
{
	const struct s3_address *a = &q->conn->where;
	char host[300];

	host_header(a, host, sizeof(host));
	snprintf(out, n, "GET %s://%s%s/%s", a->tls ? "https" : "http", host, a->base,
	    a->path_style ? run_str(q->conn->run, SF_S3_BUCKET) : "");
}

/* ---- the source ---- */

static void
s3_close(struct conn *c)
{
	curl_session_free(c->session);
	free(c);
}

static struct conn *
s3_open(struct run *r, struct err *e)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	char host[256];

	c->run = r;
	if (!s3_address(&r->task->source, NULL, &c->where, e)) {
		bare_host(&c->where, host);
		c->session = curl_session_new(r, "http,https", host, c->where.port, r->task->connections, e);
	}
	if (c->session)
		return c;
	free(c);
	return NULL;
}

static int
s3_list_task(struct conn *c, struct run *r, struct err *e)
{
	int rc;

	c->run = r;
	rc = c->used ? curl_session_use(c->session, r, e) : 0;
	c->used = true;
	if (!rc)
		rc = s3_list(c, r, e);
	c->run = NULL;
	return rc;
}

/* Every answer was read whole; libcurl looks whether the server closed meanwhile. */
static bool
s3_keepable(struct conn *c)
{
	return curl_session_connections(c->session) > 0;
}

static unsigned
s3_connections(const struct conn *c)
{
	return curl_session_connections(c->session);
}

const struct source source_s3 = {
	.name = "s3",
	.open = s3_open,
	.keepable = s3_keepable,
	.list = s3_list_task,
	.close = s3_close,
	.connections = s3_connections,
};
