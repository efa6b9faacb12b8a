/*
 * http_query.c - queries of links: made fit for an address, and freed of signatures and secrets before anybody sees them.
 *
 * Pure computing over bounded text. Parameters are left out, not masked: a signature is another one each time, and a file
 * must keep its name and its event_id.
 */
#include <string.h>
#include <strings.h>

#include "common/http_query.h"
#include "common/http_url.h"
#include "common/secret_name.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* RFC 3986 section 3.4, and '[' ']' '|' '^' '`' '{' '}' not among them. */
#define QUERY_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/?"

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

void
http_query_clean(struct buf *b, const char *q, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (q[i] == '%' && i + 2 < n && is_hex(q[i + 1]) && is_hex(q[i + 2])) {
			buf_add(b, q + i, 3);
			i += 2;
		} else if (q[i] && strchr(QUERY_CHARS, q[i])) {
			buf_putc(b, q[i]);
		} else {
			buf_printf(b, "%%%02X", (unsigned char)q[i]);
		}
	}
}

/* ---- what is left out ---------------------------------------------------------------------------------------------------- */

/* Signatures, and whole families of parameters around one. */
static const char *const signatures[] = { "sig", "signature", "hmac" };
static const char *const families[] = { "x-amz-", "x-goog-", "x-oss-", "x-cos-", "q-sign-", "q-key-" };
/* What stands beside a signature and belongs to it: CloudFront, S3 version 2, Google, Azure (shared access signatures), and others. */
static const char *const beside[] = { "expires", "exp", "expiry", "key-pair-id", "policy", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid",
	"sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "sip", "skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "sdd",
	"ses", "si", "rscc", "rscd", "rsce", "rscl", "rsct" };

static bool
is_one_of(const char *name, const char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(name, v[i]))
			return true;
	return false;
}

static bool
is_of_family(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		if (!strncasecmp(name, families[i], strlen(families[i])))
			return true;
	return false;
}

/* One parameter of the query from *at on, without its '&'; false at the end. Its name, decoded, in name. */
static bool
next(const char *q, size_t n, size_t *at, const char **p, size_t *len, struct buf *name)
{
	const char *amp;
	size_t eq;

	if (*at >= n)
		return false;
	*p = q + *at;
	amp = memchr(*p, '&', n - *at);
	*len = amp ? (size_t)(amp - *p) : n - *at;
	*at += *len + 1;
	for (eq = 0; eq < *len && (*p)[eq] != '='; eq++)
		;
	buf_clear(name);
	if (http_path_decode(*p, eq, name))
		buf_add(name, *p, eq);
	return true;
}

static bool
is_signed(const char *q, size_t n, struct buf *name)
{
	const char *p;
	size_t at = 0, len;

	while (next(q, n, &at, &p, &len, name))
		if (is_one_of(buf_str(name), signatures, ARRAY_LEN(signatures)))
			return true;
	return false;
}

enum http_query_hidden
http_query_shown(struct buf *b, const char *q, size_t n)
{
	enum http_query_hidden hidden = HTTP_QUERY_WHOLE;
	struct buf name = BUF_INIT;
	bool signature = is_signed(q, n, &name), first = true;
	const char *p;
	size_t at = 0, len, begin = b->len;

	while (next(q, n, &at, &p, &len, &name)) {
		const char *s = buf_str(&name);

		if (is_of_family(s) || (signature && (is_one_of(s, signatures, ARRAY_LEN(signatures)) || is_one_of(s, beside, ARRAY_LEN(beside))))) {
			hidden = hidden ? hidden : HTTP_QUERY_SIGNATURE;
			continue;
		}
		if (secret_name(name.p, name.len)) {
			hidden = HTTP_QUERY_SECRET;
			continue;
		}
		if (!first)
			buf_putc(b, '&');
		first = false;
		buf_add(b, p, len);
	}
	while (b->len > begin && b->p[b->len - 1] == '&')
		b->len--;
	buf_release(&name);
	return hidden;
}

void
http_query_name(struct buf *b, const char *q, size_t n)
{
	if (!n)
		return;
	buf_putc(b, '?');
	for (size_t i = 0; i < n; i++) {
		if (q[i] == '/')
			buf_puts(b, "%2F");
		else
			buf_putc(b, q[i]);
	}
}
