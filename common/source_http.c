/*
 * source_http.c - the job-side check of the source type http (https, webdav).
 *
 * Called by job_source.c with the fields read. Splits url into its origin, which a kept connection is bound to, and the
 * path, percent-encoded in one way; sets the endpoint, the base of file URLs and the canonical address. Asks no network.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/escape.h"
#include "common/http_url.h"
#include "common/job_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define PATH_BYTES 4096

static const char *
text_of(const struct source_conf *s, enum source_field f)
{
	return s->v[f].s ? s->v[f].s : "";
}

const char *
http_header_fault(const char *line)
{
	static const char *const ours[] = { "host", "content-length", "transfer-encoding", "connection", "upgrade", "te",
		"trailer", "expect", "range", "accept-encoding", "if-match", "if-none-match", "if-modified-since",
		"if-unmodified-since", "if-range", "depth", "content-type", "proxy-authorization", "keep-alive" };
	size_t n = strcspn(line, ":");

	if (!n || line[n] != ':')
		return "holds a line without a name";
	if (strspn(line, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != n)
		return "holds a name with a character that no header's name has";
	for (const char *p = line + n; *p; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return "holds a value with a control character";
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (strlen(ours[i]) == n && !strncasecmp(line, ours[i], n))
			return "holds a header that the poller sets itself";
	return NULL;
}

/* NULL, or why it is no list of cookies (RFC 6265 section 4.2.1, and what servers write beside it). */
const char *
http_cookies_fault(const char *s)
{
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return "holds a control character";
	while (*s) {
		size_t n, name;

		s += strspn(s, " ");
		name = strcspn(s, "=;");
		if (!name || s[name] != '=')
			return "is no list of name=value, with \"; \" between them";
		n = strcspn(s, ";");
		s += n + (s[n] == ';');
	}
	return NULL;
}

static int
check_headers(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	const struct strlist *l = &s->v[SF_HTTP_HEADERS].l;
	const char *name = text_of(s, SF_HTTP_AUTH_HEADER), *fault;
	char line[160];

	for (size_t i = 0; i < l->n; i++) {
		fault = http_header_fault(l->v[i]);
		if (fault)
			return job_refuse(ps, ERR_INVALID_JOB, base, "headers", "headers %s", fault);
	}
	fault = http_cookies_fault(text_of(s, SF_HTTP_COOKIES));
	if (fault)
		return job_refuse(ps, ERR_INVALID_JOB, base, "cookies", "cookies %s", fault);
	snprintf(line, sizeof(line), "%s:", name);
	fault = http_header_fault(line);
	return fault ? job_refuse(ps, ERR_INVALID_JOB, base, "auth.header", "auth.header %s", fault) : 0;
}

/* Region and service stand in the scope of a signature, between slashes. */
static bool
is_scope_word(const char *s)
{
	return !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")];
}

const char *
http_token_url_fault(const struct http_url *u)
{
	if (!u->https)
		return "must begin with https://: the client's secret goes there";
	return u->user ? "holds a user or password" : NULL;
}

static int
check_token_url(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	const char *url = text_of(s, SF_HTTP_AUTH_TOKEN_URL), *fault;
	struct http_url u;

	if (!*url)
		return 0;
	if (http_url_parse(url, strlen(url), &u, ps->e))
		return job_refuse(ps, ERR_INVALID_JOB, base, "auth.token_url", NULL);
	fault = http_token_url_fault(&u);
	http_url_release(&u);
	return fault ? job_refuse(ps, ERR_INVALID_JOB, base, "auth.token_url", "auth.token_url %s", fault) : 0;
}

/* What a type of auth cannot do without; a secret set may bring it, so that only jobs without one are held to it. */
static int
check_auth(struct job_parser *ps, const char *base, const struct source_conf *s, const bool *given)
{
	bool set = s->v[SF_NETWORK_CREDENTIALS_REF].set;
	bool token = s->v[SF_HTTP_AUTH_TOKEN].set || s->v[SF_HTTP_AUTH_TOKEN_REF].set;
	bool cert = s->v[SF_NETWORK_TLS_CERT_PEM].set || s->v[SF_NETWORK_TLS_CERT_FILE].set;
	int64_t type = s->v[SF_HTTP_AUTH_TYPE].i;

	if (strpbrk(text_of(s, SF_HTTP_AUTH_USERNAME), ":") && s->v[SF_HTTP_AUTH_TYPE].i != HTTP_AUTH_DIGEST)
		return job_refuse(ps, ERR_INVALID_JOB, base, "auth.username", "auth.username must not hold a colon");
	if (!is_scope_word(text_of(s, SF_HTTP_AUTH_REGION)) || !is_scope_word(text_of(s, SF_HTTP_AUTH_SERVICE)))
		return job_refuse(ps, ERR_INVALID_JOB, base, "auth", "auth.region and auth.service are words of letters, digits, '-' and '_'");
	if (check_token_url(ps, base, s))
		return -1;
	if (type == HTTP_AUTH_AUTO && given[SF_HTTP_AUTH_TOKEN_URL] && !given[SF_HTTP_AUTH_USERNAME] && !token)
		type = HTTP_AUTH_OAUTH2;
	if (set)
		return 0;
	switch (type) {
	case HTTP_AUTH_BASIC:
	case HTTP_AUTH_DIGEST:
		if (!given[SF_HTTP_AUTH_USERNAME])
			return job_refuse(ps, ERR_INVALID_JOB, base, "auth", "auth.username is missing");
		return 0;
	case HTTP_AUTH_BEARER:
	case HTTP_AUTH_HEADER:
		return token ? 0 : job_refuse(ps, ERR_INVALID_JOB, base, "auth", "auth.token is missing");
	case HTTP_AUTH_MTLS:
		return cert ? 0 : job_refuse(ps, ERR_INVALID_JOB, base, "auth", "auth.type mtls needs tls.cert_pem and tls.key_pem");
	case HTTP_AUTH_OAUTH2:
		if (!given[SF_HTTP_AUTH_TOKEN_URL] || !given[SF_HTTP_AUTH_CLIENT_ID] ||
		    (!given[SF_HTTP_AUTH_CLIENT_SECRET] && !given[SF_HTTP_AUTH_CLIENT_SECRET_REF]))
			return job_refuse(ps, ERR_INVALID_JOB, base, "auth",
			    "auth.type oauth2 needs auth.token_url, auth.client_id and auth.client_secret (or client_secret_ref)");
		return 0;
	case HTTP_AUTH_SIGV4:
		if (!given[SF_HTTP_AUTH_REGION] || !given[SF_HTTP_AUTH_ACCESS_KEY_ID] ||
		    (!given[SF_HTTP_AUTH_SECRET_ACCESS_KEY] && !given[SF_HTTP_AUTH_SECRET_ACCESS_KEY_REF]))
			return job_refuse(ps, ERR_INVALID_JOB, base, "auth",
			    "auth.type aws_sigv4 needs auth.region, auth.access_key_id and auth.secret_access_key (or secret_access_key_ref)");
		return 0;
	default:
		return 0;
	}
}

static void
set_text(struct field_value *v, char *s)
{
	free(v->s);
	v->s = s;
	v->set = true;
}

/* The job's path is plain text below the url's. */
static void
add_path(struct buf *b, const char *path)
{
	while (b->len && b->p[b->len - 1] == '/')
		b->len--;
	if (*path != '/')
		buf_putc(b, '/');
	buf_puts(b, path);
}

static bool
climbs(const char *path)
{
	for (; *path; path += *path == '/') {
		size_t n = strcspn(path, "/");

		if (n && n <= 2 && strspn(path, ".") >= n)
			return true;
		path += n;
	}
	return false;
}

/* path_escape: false: it is part of a URL. */
static int
add_job_path(const struct source_conf *s, struct buf *b)
{
	const char *path = s->v[SF_COMMON_PATH].s;
	struct buf plain = BUF_INIT;
	int rc = 0;

	if (s->v[SF_HTTP_PATH_ESCAPE].i) {
		add_path(b, path);
		return 0;
	}
	for (const char *p = path; *p && !rc; p++)
		rc = (unsigned char)*p <= ' ' || *p == 0x7f || *p == '?' || *p == '#' ? -1 : 0;
	if (!rc)
		rc = http_path_decode(path, strlen(path), &plain);
	if (!rc)
		add_path(b, buf_str(&plain));
	buf_release(&plain);
	return rc;
}

static int
set_address(struct job_parser *ps, const char *base, struct source_conf *s, const struct http_url *u)
{
	const char *ref = text_of(s, SF_NETWORK_CREDENTIALS_REF), *user = text_of(s, SF_HTTP_AUTH_USERNAME);
	struct field_value *path = &s->v[SF_COMMON_PATH];
	struct buf b = BUF_INIT, raw = BUF_INIT;

	if (http_path_decode(u->path, strlen(u->path), &b)) {
		buf_release(&b);
		return job_refuse(ps, ERR_INVALID_JOB, base, "url", "the path holds %%00 or %%2F, which no name can hold");
	}
	if (path->set && add_job_path(s, &b)) {
		buf_release(&b);
		return job_refuse(ps, ERR_INVALID_JOB, base, "path", "with path_escape: false, the path may hold no '?', '#', %%00, %%2F, space or control character");
	}
	if (climbs(buf_str(&b))) {
		buf_release(&b);
		return job_refuse(ps, ERR_INVALID_JOB, base, "path", "the path holds \".\" or \"..\"");
	}
	escape_url_path(&raw, b.p, b.len);
	buf_clear(&b);
	http_url_origin(u, true, &b);
	s->endpoint = buf_take(&b);
	http_url_origin(u, false, &b);
	s->url_base = buf_take(&b);
	s->canonical = xasprintf("http:%s;%s=%s;path=%s", s->endpoint, *ref ? "ref" : "user", *ref ? ref : user, buf_str(&raw));
	set_text(&s->v[SF_HTTP_URL], xstrdup(s->endpoint));
	if (u->query)
		buf_printf(&raw, "?%s", u->query);
	set_text(path, buf_take(&raw));
	if (strlen(path->s) > PATH_BYTES)
		return job_refuse(ps, ERR_INVALID_JOB, base, "url", "the path is longer than %d bytes when it is percent-encoded", PATH_BYTES);
	return 0;
}

static int
check_url(struct job_parser *ps, const char *base, struct source_conf *s)
{
	const char *url = text_of(s, SF_HTTP_URL), *type = text_of(s, SF_COMMON_TYPE);
	struct http_url u;
	int rc;

	if (!*url)
		return job_refuse(ps, ERR_INVALID_JOB, base, "url", "url is missing");
	if (http_url_parse(url, strlen(url), &u, ps->e))
		return job_refuse(ps, ERR_INVALID_JOB, base, "url", NULL);
	if (u.user)
		rc = job_refuse(ps, ERR_INVALID_JOB, base, "url", "user and password belong into auth, not into url");
	else if (!strcmp(type, "https") && !u.https)
		rc = job_refuse(ps, ERR_INVALID_JOB, base, "url", "source_type https needs an https:// address");
	else
		rc = set_address(ps, base, s, &u);
	http_url_release(&u);
	return rc;
}

static int
check_post(struct job_parser *ps, const char *base, const struct source_conf *s, const bool *given)
{
	bool post = s->v[SF_HTTP_METHOD].i;
	char *line = xasprintf("X: %s", text_of(s, SF_HTTP_CONTENT_TYPE));
	const char *fault = http_header_fault(line);

	free(line);
	if (fault)
		return job_refuse(ps, ERR_INVALID_JOB, base, "content_type", "content_type %s", fault);
	if (post && s->v[SF_HTTP_INDEX_FORMAT].i == HTTP_FORMAT_WEBDAV)
		return job_refuse(ps, ERR_INVALID_JOB, base, "method", "method: POST: WebDAV asks by PROPFIND alone");
	if (!post && given[SF_HTTP_BODY])
		return job_refuse(ps, ERR_INVALID_JOB, base, "body", "body needs method: POST");
	if (given[SF_HTTP_CONTENT_TYPE] && !s->v[SF_HTTP_BODY].set && !s->v[SF_NETWORK_CREDENTIALS_REF].set)
		job_warn(ps, "%s/content_type has no effect without body", base);
	return 0;
}

int
source_check_http(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	if (check_url(ps, base, s) || check_headers(ps, base, s) || check_auth(ps, base, s, given))
		return -1;
	if (!given[SF_HTTP_INDEX_FORMAT] && !strcmp(text_of(s, SF_COMMON_TYPE), "webdav"))
		s->v[SF_HTTP_INDEX_FORMAT].i = HTTP_FORMAT_WEBDAV;
	return check_post(ps, base, s, given);
}
