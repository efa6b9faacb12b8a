/*
 * http_sign.c - signed requests of the http source: what is asked for, in its one strict spelling, and the headers that sign it.
 *
 * http_request.c calls it for each request to the job's own origin, each hop of a redirect anew; s3_sign.c computes. Servers
 * verify what they received, so that the address is rewritten to what is signed, never signed as somebody wrote it.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/source/http_sign.h"
#include "common/xalloc.h"
#include "common/banned.h"

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Codes are read and written anew: those of unreserved characters go, the others are in upper case. '+' is a space where plus says so. */
static void
strict(struct buf *b, const char *s, size_t n, bool keep_slash, bool plus)
{
	for (size_t i = 0; i < n; i++) {
		char c = plus && s[i] == '+' ? ' ' : s[i];
		bool code = s[i] == '%' && i + 2 < n && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0;

		if (code) {
			c = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
			i += 2;
		}
		/* a code for '/' is no separator */
		s3_encode(b, &c, 1, keep_slash && !code);
	}
}

struct parameter { char *name, *value; };

static int
by_name(const void *a, const void *b)
{
	const struct parameter *x = a, *y = b;
	int rc = strcmp(x->name, y->name);

	return rc ? rc : strcmp(x->value, y->value);
}

/* NULL of a query without parameters ("&"): none is asked for, not an empty one. */
static char *
strict_query(const char *q)
{
	struct buf b = BUF_INIT;
	struct parameter *v;
	size_t n = 0, room = 1;

	for (const char *p = q; *p; p++)
		room += *p == '&';
	v = xcalloc(room, sizeof(*v));
	for (const char *p = q; *p; p += *p == '&') {
		size_t len = strcspn(p, "&"), name = strcspn(p, "=&");

		if (len) {
			strict(&b, p, name, false, true);
			v[n].name = buf_take(&b);
			if (name < len)
				strict(&b, p + name + 1, len - name - 1, false, true);
			buf_str(&b);
			v[n++].value = buf_take(&b);
		}
		p += len;
	}
	qsort(v, n, sizeof(*v), by_name);
	for (size_t i = 0; i < n; i++) {
		buf_printf(&b, "%s%s=%s", i ? "&" : "", v[i].name, v[i].value);
		free(v[i].name);
		free(v[i].value);
	}
	free(v);
	return n ? buf_take(&b) : NULL;
}

void
http_sign_url(const struct http_url *u, struct http_url *to)
{
	struct buf b = BUF_INIT;

	*to = *u;
	strict(&b, u->path, strlen(u->path), true, false);
	to->path = buf_take(&b);
	to->query = u->query ? strict_query(u->query) : NULL;
}

/* S3 signs the path as it is asked for; all other services sign it encoded once more, and with single slashes. */
static void
signed_path(const char *service, const char *path, struct buf *b)
{
	size_t n = strlen(path);

	if (!strncmp(service, "s3", 2)) {
		buf_puts(b, path);
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (path[i] != '/' || !i || path[i - 1] != '/')
			s3_encode(b, path + i, 1, true);
}

static struct s3_pair
pair(const char *name, const char *value)
{
	return (struct s3_pair){ name, value, strlen(value) };
}

static void
add_line(const char *name, const char *value, void (*add)(void *, const char *), void *arg)
{
	char *line = xasprintf("%s: %s", name, value);

	add(arg, line);
	explicit_bzero(line, strlen(line));
	free(line);
}

void
http_sign(const struct http_signing *g, const struct http_url *u, void (*add)(void *arg, const char *line), void *arg)
{
	struct buf path = BUF_INIT, origin = BUF_INIT, value = BUF_INIT;
	struct s3_pair h[4];
	struct s3_signing s = {
		.method = g->method, .query = u->query ? u->query : "", .region = g->region, .service = g->service,
		.access_key_id = g->access_key_id, .secret_access_key = g->secret_access_key, .payload_sha256 = g->payload_sha256, .headers = h,
	};

	s3_date(g->seconds, s.date);
	signed_path(g->service, u->path, &path);
	s.path = buf_str(&path);
	http_url_origin(u, false, &origin);
	h[s.n_headers++] = pair("x-amz-content-sha256", g->payload_sha256);
	h[s.n_headers++] = pair("x-amz-date", s.date);
	if (*g->session_token)
		h[s.n_headers++] = pair("x-amz-security-token", g->session_token);
	for (size_t i = 0; i < s.n_headers; i++)
		add_line(h[i].name, h[i].value, add, arg);
	h[s.n_headers++] = pair("host", strstr(buf_str(&origin), "://") + 3);
	s3_authorization(&s, &value);
	add_line("Authorization", buf_str(&value), add, arg);
	buf_wipe(&value);
	buf_release(&path);
	buf_release(&origin);
}
