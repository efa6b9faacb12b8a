/*
 * uuid.c - name-based UUIDs and SHA-256, by libcrypto.
 *
 * Called for every event and terminal record: the digest and its context are fetched once and kept, since
 * libcrypto's own look-up costs more than the hash of a short name. One thread. Never takes a name apart:
 * what is hashed is the caller's business. Without SHA-1 or SHA-256 nothing here can be done: it aborts.
 */
#include <openssl/evp.h>

#include "common/uuid.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define SHA256_SIZE 32

/* Chosen at random once; the same for ever, or every event_id would change. */
const uint8_t uuid_ns_poller[16] = {
	0x37, 0x65, 0x92, 0xc2, 0xb3, 0x89, 0x43, 0x8f,
	0xa8, 0x89, 0x93, 0x16, 0x75, 0xdc, 0xa1, 0xee
};

struct digest {
	const char *name;
	EVP_MD *md;        /* kept until the process ends */
	EVP_MD_CTX *ctx;
};

static struct digest sha1 = { .name = "SHA1" };
static struct digest sha256 = { .name = "SHA256" };

static void
digest_begin(struct digest *d)
{
	if (!d->md)
		d->md = EVP_MD_fetch(NULL, d->name, NULL);
	if (!d->ctx)
		d->ctx = EVP_MD_CTX_new();
	if (!d->md || !d->ctx || !EVP_DigestInit_ex2(d->ctx, d->md, NULL))
		BUG("libcrypto lacks a digest");
}

static void
digest_add(struct digest *d, const void *p, size_t n)
{
	if (n && !EVP_DigestUpdate(d->ctx, p, n))
		BUG("digest failed");
}

static void
digest_end(struct digest *d, uint8_t out[EVP_MAX_MD_SIZE])
{
	if (!EVP_DigestFinal_ex(d->ctx, out, NULL))
		BUG("digest failed");
}

static char *
hex(char *out, const uint8_t *p, size_t n)
{
	static const char digit[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digit[p[i] >> 4];
		*out++ = digit[p[i] & 15];
	}
	return out;
}

void
uuid5(const uint8_t ns[16], const struct uuid_part *parts, size_t n, char out[UUID_TEXT])
{
	static const uint8_t group[] = { 4, 2, 2, 2, 6 };
	uint8_t h[EVP_MAX_MD_SIZE], *p = h;

	digest_begin(&sha1);
	digest_add(&sha1, ns, 16);
	for (size_t i = 0; i < n; i++) {
		uint32_t len = (uint32_t)parts[i].n;
		uint8_t be[4] = { len >> 24 & 255, len >> 16 & 255, len >> 8 & 255, len & 255 };

		if (parts[i].n > UINT32_MAX)
			BUG("part of a name is too long");
		digest_add(&sha1, be, sizeof(be));
		digest_add(&sha1, parts[i].p, parts[i].n);
	}
	digest_end(&sha1, h);
	h[6] = (uint8_t)((h[6] & 0x0f) | 0x50); /* version 5 */
	h[8] = (uint8_t)((h[8] & 0x3f) | 0x80); /* the RFC's variant */
	for (size_t i = 0; i < sizeof(group); i++) {
		if (i)
			*out++ = '-';
		out = hex(out, p, group[i]);
		p += group[i];
	}
	*out = '\0';
}

void
sha256_hex(const void *p, size_t n, char out[65])
{
	uint8_t h[EVP_MAX_MD_SIZE];

	digest_begin(&sha256);
	digest_add(&sha256, p, n);
	digest_end(&sha256, h);
	*hex(out, h, SHA256_SIZE) = '\0';
}
