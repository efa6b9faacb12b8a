/*
 * http_url.c - http and https addresses: read strictly, resolved against one another, shown without secrets.
 *
 * Called by the job's check and by the worker's http source for redirects and links. Never asks a resolver; never takes
 * a host that another reader could understand differently (controls, percent codes, raw UTF-8).
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/http_url.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define HOST_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
#define IPV6_CHARS "0123456789abcdefABCDEF:."

void
http_url_release(struct http_url *u)
{
	free(u->path);
	free(u->query);
	memset(u, 0, sizeof(*u));
}

void
http_url_copy(struct http_url *to, const struct http_url *from)
{
	*to = *from;
	to->path = from->path ? xstrdup(from->path) : NULL;
	to->query = from->query ? xstrdup(from->query) : NULL;
}

bool
http_url_same_origin(const struct http_url *a, const struct http_url *b)
{
	return a->https == b->https && a->port == b->port && !strcmp(a->host, b->host);
}

/* ---- the authority ---------------------------------------------------------------------------------------------------- */

static const char *
take_port(struct http_url *u, const char *p, size_t n)
{
	unsigned v = 0;

	u->port = u->https ? 443 : 80;
	if (!n)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return "the port is not a number";
		v = v * 10 + (unsigned)(p[i] - '0');
		if (v > 65535)
			return "the port is above 65535";
	}
	if (!v)
		return "the port is 0";
	u->port = (uint16_t)v;
	return NULL;
}

static const char *
take_host(struct http_url *u, const char *p, size_t n)
{
	size_t labels = 0;

	if (!n || n > 253)
		return n ? "the host's name is too long" : "there is no host";
	for (size_t i = 0; i < n; i++) {
		if (!p[i] || !strchr(u->ipv6 ? IPV6_CHARS : HOST_CHARS, p[i]))
			return "the host holds a character that no host's name has (write international names as xn--...)";
		u->host[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]);
		labels += p[i] != '.';
	}
	u->host[n] = '\0';
	return labels ? NULL : "the host is only dots";
}

/* NULL, or what is wrong with [user@]host[:port]. */
static const char *
take_authority(struct http_url *u, const char *p, size_t n)
{
	const char *at = memrchr(p, '@', n), *colon, *fault;
	size_t host_n;

	if (at) {
		u->user = true;
		n -= (size_t)(at + 1 - p);
		p = at + 1;
	}
	if (n && *p == '[') {
		const char *end = memchr(p, ']', n);

		if (!end || (end + 1 < p + n && end[1] != ':'))
			return "the host's brackets do not match";
		u->ipv6 = true;
		fault = take_host(u, p + 1, (size_t)(end - p - 1));
		colon = end + 1 < p + n ? end + 1 : NULL;
	} else {
		colon = memchr(p, ':', n);
		host_n = colon ? (size_t)(colon - p) : n;
		fault = take_host(u, p, host_n);
	}
	if (fault)
		return fault;
	return colon ? take_port(u, colon + 1, (size_t)(p + n - colon - 1)) : take_port(u, "", 0);
}

/* ---- the path ----------------------------------------------------------------------------------------------------------- */

/* "." and ".." also where their dots are percent-encoded: 1 or 2; 0 another segment. */
static int
dots(const char *p, size_t n)
{
	int count = 0;

	while (n) {
		size_t step = *p == '.' ? 1 : n >= 3 && p[0] == '%' && p[1] == '2' && (p[2] | 32) == 'e' ? 3 : 0;

		if (!step || ++count > 2)
			return 0;
		p += step;
		n -= step;
	}
	return count;
}

static void
drop_last(struct buf *b)
{
	while (b->len && b->p[--b->len] != '/')
		;
}

/* RFC 3986 section 5.2.4; p is absolute or empty. */
static void
add_path(struct buf *b, const char *p, size_t n)
{
	const char *end = p + n;

	while (p < end) {
		const char *slash = memchr(p + 1, '/', (size_t)(end - p - 1)), *next = slash ? slash : end;
		int d = dots(p + 1, (size_t)(next - p - 1));

		if (!d) {
			buf_add(b, p, (size_t)(next - p));
		} else {
			if (d == 2)
				drop_last(b);
			if (next == end)
				buf_putc(b, '/');
		}
		p = next;
	}
	if (!b->len)
		buf_putc(b, '/');
}

static bool
has_controls(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return true;
	return false;
}

/* What of n bytes stands before the first of the stop characters. */
static size_t
upto(const char *s, size_t n, const char *stop)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] && strchr(stop, s[i]))
			return i;
	return n;
}

/* Path and query of s into u; dir: what a relative path is added to, "" for none. */
static void
take_rest(struct http_url *u, const char *dir, size_t dir_n, const char *s, size_t n)
{
	struct buf whole = BUF_INIT, path = BUF_INIT;
	size_t path_n;

	n = upto(s, n, "#");
	path_n = upto(s, n, "?");
	buf_add(&whole, dir, dir_n);
	buf_add(&whole, s, path_n);
	if (whole.len && whole.p[0] != '/') {
		buf_clear(&whole);
		buf_putc(&whole, '/');
		buf_add(&whole, s, path_n);
	}
	add_path(&path, buf_str(&whole), whole.len);
	u->path = buf_take(&path);
	u->query = path_n < n ? xmemdup0(s + path_n + 1, n - path_n - 1) : NULL;
	buf_release(&whole);
}

int
http_url_parse(const char *s, size_t n, struct http_url *u, struct err *e)
{
	const char *fault;
	size_t skip, auth;

	memset(u, 0, sizeof(*u));
	if (n > HTTP_URL_MAX)
		return err_set(e, ERR_INVALID_JOB, "the address is longer than %d bytes", HTTP_URL_MAX);
	if (has_controls(s, n) || memchr(s, ' ', n))
		return err_set(e, ERR_INVALID_JOB, "the address holds a space or control character");
	if (n >= 8 && !strncasecmp(s, "https://", 8))
		u->https = true;
	else if (n < 7 || strncasecmp(s, "http://", 7))
		return err_set(e, ERR_INVALID_JOB, "the address must begin with http:// or https://");
	skip = u->https ? 8 : 7;
	auth = upto(s + skip, n - skip, "/?#\\");
	fault = take_authority(u, s + skip, auth);
	if (fault) {
		memset(u, 0, sizeof(*u));
		return err_set(e, ERR_INVALID_JOB, "%s", fault);
	}
	take_rest(u, "", 0, s + skip + auth, n - skip - auth);
	return 0;
}

/* ---- references ------------------------------------------------------------------------------------------------------------ */

/* A name like "a:b.csv" that a careless server did not encode looks like a scheme; only real ones count. */
static const char *const schemes[] = { "http", "https", "ftp", "ftps", "sftp", "mailto", "javascript", "data", "tel", "file",
	"about", "blob", "ws", "wss", "news", "irc", "magnet", "view-source" };

static const char *
scheme_of(const char *s, size_t n, size_t *len)
{
	const char *colon = memchr(s, ':', n);

	if (!colon)
		return NULL;
	*len = (size_t)(colon - s);
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (strlen(schemes[i]) == *len && !strncasecmp(s, schemes[i], *len))
			return schemes[i];
	return NULL;
}

static enum http_ref
absolute(const char *ref, size_t n, struct http_url *to)
{
	struct err e = ERR_INIT;
	char *escaped = xmemdup0(ref, n);
	enum http_ref rc;

	rc = http_url_parse(escaped, n, to, &e) ? HTTP_REF_BAD : HTTP_REF_OK;
	free(escaped);
	return rc;
}

static enum http_ref
network_path(const struct http_url *base, const char *ref, size_t n, struct http_url *to)
{
	struct buf b = BUF_INIT;
	enum http_ref rc;

	buf_puts(&b, base->https ? "https:" : "http:");
	buf_add(&b, ref, n);
	rc = absolute(buf_str(&b), b.len, to);
	buf_release(&b);
	return rc;
}

enum http_ref
http_url_resolve(const struct http_url *base, const char *ref, size_t n, struct http_url *to)
{
	const char *scheme, *slash;
	size_t len, dir;

	if (n > HTTP_URL_MAX || has_controls(ref, n))
		return HTTP_REF_BAD;
	scheme = scheme_of(ref, n, &len);
	if (scheme && strcmp(scheme, "http") && strcmp(scheme, "https"))
		return HTTP_REF_OTHER;
	/* "http:x" without slashes is understood in two ways: not at all here. */
	if (scheme)
		return absolute(ref, n, to);
	if (n >= 2 && ref[0] == '/' && ref[1] == '/')
		return network_path(base, ref, n, to);
	*to = *base;
	to->path = to->query = NULL;
	if (!n || *ref == '?' || *ref == '#') {
		size_t m = upto(ref, n, "#");

		to->path = xstrdup(base->path);
		if (n && *ref == '?')
			to->query = xmemdup0(ref + 1, m - 1);
		else
			to->query = base->query ? xstrdup(base->query) : NULL;
		return HTTP_REF_OK;
	}
	slash = strrchr(base->path, '/');
	dir = *ref == '/' ? 0 : (size_t)(slash - base->path + 1);
	take_rest(to, base->path, dir, ref, n);
	return HTTP_REF_OK;
}

void
http_ref_shown(const char *ref, size_t n, struct buf *b)
{
	size_t at = upto(ref, n, "/"), end;
	const char *user = NULL;

	if (at + 2 <= n && ref[at + 1] == '/' && (!at || ref[at - 1] == ':')) {
		at += 2;
		end = upto(ref + at, n - at, "/?#");
		user = memrchr(ref + at, '@', end);
	}
	buf_add(b, ref, user ? at : n);
	if (user)
		buf_add(b, user + 1, (size_t)(ref + n - user - 1));
}

/* ---- text ---------------------------------------------------------------------------------------------------------------------- */

void
http_url_origin(const struct http_url *u, bool with_port, struct buf *b)
{
	buf_printf(b, "%s://%s%s%s", u->https ? "https" : "http", u->ipv6 ? "[" : "", u->host, u->ipv6 ? "]" : "");
	if (with_port || u->port != (u->https ? 443 : 80))
		buf_printf(b, ":%u", u->port);
}

void
http_url_text(const struct http_url *u, bool query, struct buf *b)
{
	http_url_origin(u, false, b);
	buf_puts(b, u->path);
	if (query && u->query) {
		buf_putc(b, '?');
		buf_puts(b, u->query);
	}
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
http_path_decode(const char *p, size_t n, struct buf *b)
{
	size_t before = b->len;

	for (size_t i = 0; i < n; i++) {
		const char *percent = memchr(p + i, '%', n - i);
		size_t run = percent ? (size_t)(percent - p) - i : n - i;
		int c = '%';

		buf_add(b, p + i, run);
		i += run;
		if (i == n)
			break;
		if (i + 2 < n && hex(p[i + 1]) >= 0 && hex(p[i + 2]) >= 0) {
			c = hex(p[i + 1]) * 16 + hex(p[i + 2]);
			i += 2;
			if (!c || c == '/') {
				b->len = before;
				return -1;
			}
		}
		buf_putc(b, (char)c);
	}
	return 0;
}
