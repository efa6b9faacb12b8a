/*
 * digest.c - checksums of files of local sources: MD5, SHA-256, CRC-32.
 *
 * libcrypto does the first two. Its configuration file is not read: the worker that asks is inside its sandbox already,
 * and what it has built in is all that is needed. CRC-32 is that of zip and gzip (ISO 3309, reflected 0x04c11db7).
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "worker/source/digest.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define CRC_POLYNOMIAL UINT32_C(0xedb88320)

static const char *const names[] = { [DIGEST_NONE] = "", [DIGEST_MD5] = "md5", [DIGEST_SHA256] = "sha256", [DIGEST_CRC32] = "crc32" };

/* Eight bytes a round: table k holds what a byte becomes k bytes later. */
static uint32_t crc_table[8][256];

static void
crc_init(void)
{
	if (crc_table[0][1])
		return;
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t v = i;

		for (int bit = 0; bit < 8; bit++)
			v = v & 1 ? v >> 1 ^ CRC_POLYNOMIAL : v >> 1;
		crc_table[0][i] = v;
	}
	for (int k = 1; k < 8; k++)
		for (int i = 0; i < 256; i++)
			crc_table[k][i] = crc_table[k - 1][i] >> 8 ^ crc_table[0][crc_table[k - 1][i] & 255];
}

static uint32_t
crc_add(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n >= 8; p += 8, n -= 8) {
		uint32_t a = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);

		crc = crc_table[7][a & 255] ^ crc_table[6][a >> 8 & 255] ^ crc_table[5][a >> 16 & 255] ^ crc_table[4][a >> 24] ^
		    crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^ crc_table[0][p[7]];
	}
	while (n--)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p++) & 255];
	return crc;
}

const char *
digest_name(enum digest_kind kind)
{
	return names[kind];
}

int
digest_begin(struct digest *d, enum digest_kind kind, struct err *e)
{
	const EVP_MD *md = kind == DIGEST_MD5 ? EVP_md5() : EVP_sha256();

	d->kind = kind;
	if (kind == DIGEST_CRC32) {
		crc_init();
		d->crc = UINT32_MAX;
		return 0;
	}
	if (!d->ctx) {
		OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
		d->ctx = EVP_MD_CTX_new();
	}
	/* A system's policy may forbid MD5. */
	if (!d->ctx || !EVP_DigestInit_ex(d->ctx, md, NULL))
		return err_set(e, ERR_UNSUPPORTED, "libcrypto does not do %s here", names[kind]);
	return 0;
}

void
digest_add(struct digest *d, const void *p, size_t n)
{
	if (d->kind == DIGEST_CRC32)
		d->crc = crc_add(d->crc, p, n);
	else if (!EVP_DigestUpdate(d->ctx, p, n))
		BUG("a digest that began does not go on");
}

unsigned
digest_bytes(struct digest *d, uint8_t out[DIGEST_BYTES])
{
	uint8_t md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!EVP_DigestFinal_ex(d->ctx, md, &n) || n > DIGEST_BYTES)
		BUG("a digest that began does not end");
	memcpy(out, md, n);
	return n;
}

void
digest_end(struct digest *d, char out[DIGEST_TEXT])
{
	uint8_t md[DIGEST_BYTES];
	unsigned n;

	if (d->kind == DIGEST_CRC32) {
		snprintf(out, DIGEST_TEXT, "%08x", ~d->crc);
		return;
	}
	n = digest_bytes(d, md);
	for (unsigned i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", md[i]);
}

void
digest_release(struct digest *d)
{
	EVP_MD_CTX_free(d->ctx);
	d->ctx = NULL;
}
