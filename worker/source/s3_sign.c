/*
 * s3_sign.c - Signature Version 4 for requests to S3 and STS, with libcrypto's SHA-256 and HMAC.
 *
 * s3.c calls it for each request. Pure computing: no clock, no connection, and no secret in anything that it gives
 * back but the signature. Derived keys are cleared before it returns.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/source/s3_sign.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const char algorithm[] = "AWS4-HMAC-SHA256";

void
s3_encode(struct buf *b, const void *p, size_t n, bool keep_slash)
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *s = p;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = s[i];
		bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		    c == '-' || c == '.' || c == '_' || c == '~';

		if (plain || (c == '/' && keep_slash)) {
			buf_putc(b, (char)c);
		} else {
			buf_putc(b, '%');
			buf_putc(b, hex[c >> 4]);
			buf_putc(b, hex[c & 15]);
		}
	}
}

static int
pair_cmp(const void *a, const void *b)
{
	return strcmp(((const struct s3_pair *)a)->name, ((const struct s3_pair *)b)->name);
}

void
s3_query(struct buf *b, struct s3_pair *v, size_t n)
{
	qsort(v, n, sizeof(*v), pair_cmp);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_putc(b, '&');
		s3_encode(b, v[i].name, strlen(v[i].name), false);
		buf_putc(b, '=');
		s3_encode(b, v[i].value, v[i].n, false);
	}
}

void
s3_date(int64_t seconds, char out[S3_DATE_TEXT])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, S3_DATE_TEXT, "%Y%m%dT%H%M%SZ", &tm))
		BUG("the clock shows no date");
}

static void
hex_of(struct buf *b, const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%02x", p[i]);
}

static void
hmac(const void *key, size_t key_n, const void *p, size_t n, unsigned char out[SHA256_DIGEST_LENGTH])
{
	unsigned len = SHA256_DIGEST_LENGTH;

	if (!HMAC(EVP_sha256(), key, (int)key_n, p, n, out, &len))
		BUG("libcrypto has no HMAC");
}

/* The scope: day/region/service/aws4_request */
static void
add_scope(const struct s3_signing *s, struct buf *b)
{
	buf_add(b, s->date, 8);
	buf_printf(b, "/%s/%s/aws4_request", s->region, s->service);
}

static void
add_names(const struct s3_signing *s, struct buf *b)
{
	for (size_t i = 0; i < s->n_headers; i++) {
		if (i)
			buf_putc(b, ';');
		buf_puts(b, s->headers[i].name);
	}
}

/* Spaces at the ends go, runs of them within become one. */
static void
add_value(struct buf *b, const char *p, size_t n)
{
	bool space = false, begun = false;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == ' ' || p[i] == '\t') {
			space = begun;
			continue;
		}
		if (space)
			buf_putc(b, ' ');
		space = false;
		begun = true;
		buf_putc(b, p[i]);
	}
}

static void
canonical_request(const struct s3_signing *s, struct buf *b)
{
	buf_printf(b, "%s\n%s\n%s\n", s->method, s->path, s->query);
	for (size_t i = 0; i < s->n_headers; i++) {
		buf_puts(b, s->headers[i].name);
		buf_putc(b, ':');
		add_value(b, s->headers[i].value, s->headers[i].n);
		buf_putc(b, '\n');
	}
	buf_putc(b, '\n');
	add_names(s, b);
	buf_printf(b, "\n%s", s->payload_sha256);
}

static void
string_to_sign(const struct s3_signing *s, struct buf *b)
{
	struct buf request = BUF_INIT;
	unsigned char hash[SHA256_DIGEST_LENGTH];

	canonical_request(s, &request);
	SHA256((const unsigned char *)request.p, request.len, hash);
	buf_printf(b, "%s\n%s\n", algorithm, s->date);
	add_scope(s, b);
	buf_putc(b, '\n');
	hex_of(b, hash, sizeof(hash));
	/* it may hold a session token */
	buf_wipe(&request);
}

static void
signature(const struct s3_signing *s, struct buf *out)
{
	unsigned char a[SHA256_DIGEST_LENGTH], b[SHA256_DIGEST_LENGTH];
	struct buf text = BUF_INIT;

	buf_puts(&text, "AWS4");
	buf_puts(&text, s->secret_access_key);
	hmac(text.p, text.len, s->date, 8, a);
	buf_wipe(&text);
	hmac(a, sizeof(a), s->region, strlen(s->region), b);
	hmac(b, sizeof(b), s->service, strlen(s->service), a);
	hmac(a, sizeof(a), "aws4_request", 12, b);
	string_to_sign(s, &text);
	hmac(b, sizeof(b), text.p, text.len, a);
	hex_of(out, a, sizeof(a));
	explicit_bzero(b, sizeof(b));
	buf_release(&text);
}

void
s3_authorization(struct s3_signing *s, struct buf *b)
{
	qsort(s->headers, s->n_headers, sizeof(*s->headers), pair_cmp);
	buf_printf(b, "%s Credential=%s/", algorithm, s->access_key_id);
	add_scope(s, b);
	buf_puts(b, ", SignedHeaders=");
	add_names(s, b);
	buf_puts(b, ", Signature=");
	signature(s, b);
}
