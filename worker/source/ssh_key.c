/*
 * ssh_key.c - what kind of private key a text is, and whether the passphrase opens it, before libssh2 sees it: libssh2
 * says only that authentication failed.
 *
 * ssh_login.c calls it once a login. Nothing of the key is kept, shown or put into a message.
 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/ssh.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define OPENSSH_BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define OPENSSH_END "-----END OPENSSH PRIVATE KEY-----"
#define OPENSSH_MAGIC "openssh-key-v1"  /* and a NUL; PROTOCOL.key of OpenSSH */

static int
give_passphrase(char *out, int max, int writing, void *arg)
{
	const char *s = arg;
	size_t n = strlen(s);

	(void)writing;
	if (!n || n > (size_t)max)
		return -1;
	memcpy(out, s, n);
	return (int)n;
}

static int
no_passphrase(struct err *e)
{
	return err_set(e, ERR_AUTH, "private_key is encrypted: private_key_passphrase is needed");
}

/* ---- OpenSSH's own form --------------------------------------------------------------------- */

static const uint8_t *
get_string(const uint8_t **p, const uint8_t *end, size_t *n)
{
	const uint8_t *at;
	size_t left = (size_t)(end - *p);

	if (left < 4)
		return NULL;
	*n = (size_t)(*p)[0] << 24 | (size_t)(*p)[1] << 16 | (size_t)(*p)[2] << 8 | (*p)[3];
	if (*n > left - 4)
		return NULL;
	at = *p + 4;
	*p = at + *n;
	return at;
}

static void
keep_blob(struct ssh_key *k, const void *p, size_t n)
{
	k->blob_n = n <= sizeof(k->blob) ? n : 0;
	memcpy(k->blob, p, k->blob_n);
}

/* Magic, cipher, KDF, its options, number of keys, then the public key's blob. */
static int
look_openssh(const uint8_t *p, size_t n, struct ssh_key *k)
{
	const uint8_t *end = p + n, *cipher, *blob;
	size_t cipher_n, skipped, blob_n;

	if (n < sizeof(OPENSSH_MAGIC) || memcmp(p, OPENSSH_MAGIC, sizeof(OPENSSH_MAGIC)))
		return -1;
	p += sizeof(OPENSSH_MAGIC);
	cipher = get_string(&p, end, &cipher_n);
	if (!cipher || !get_string(&p, end, &skipped) || !get_string(&p, end, &skipped) || end - p < 4)
		return -1;
	p += 4;
	blob = get_string(&p, end, &blob_n);
	if (!blob)
		return -1;
	ssh_key_type(blob, blob_n, k->type);
	keep_blob(k, blob, blob_n);
	k->encrypted = cipher_n != 4 || memcmp(cipher, "none", 4);
	return k->type[0] ? 0 : -1;
}

static int
openssh(const char *text, struct ssh_key *k, struct err *e)
{
	const char *p = strstr(text, OPENSSH_BEGIN) + strlen(OPENSSH_BEGIN), *end = strstr(p, OPENSSH_END);
	struct buf b64 = BUF_INIT, raw = BUF_INIT;
	int rc = -1;

	for (; end && p < end; p++)
		if (*p != '\n' && *p != '\r' && *p != ' ' && *p != '\t')
			buf_putc(&b64, *p);
	if (end && b64.len && !base64_decode(&raw, b64.p, b64.len))
		rc = look_openssh((const uint8_t *)raw.p, raw.len, k);
	buf_wipe(&b64);
	buf_wipe(&raw);
	return rc ? err_set(e, ERR_AUTH, "private_key is a damaged OpenSSH key") : 0;
}

/* ---- PEM ------------------------------------------------------------------------------------ */

static void
name_pem(EVP_PKEY *key, struct ssh_key *k)
{
	int id = EVP_PKEY_base_id(key), bits = EVP_PKEY_bits(key);

	if (id == EVP_PKEY_RSA)
		snprintf(k->type, sizeof(k->type), "ssh-rsa");
	else if (id == EVP_PKEY_ED25519)
		snprintf(k->type, sizeof(k->type), "ssh-ed25519");
	else if (id == EVP_PKEY_EC && (bits == 256 || bits == 384 || bits == 521))
		snprintf(k->type, sizeof(k->type), "ecdsa-sha2-nistp%d", bits);
	else
		snprintf(k->type, sizeof(k->type), "%s", EVP_PKEY_get0_type_name(key) ? EVP_PKEY_get0_type_name(key) : "?");
}

/* RFC 4251 section 5: "string", and "mpint" of what is not negative */
static void
put_string(struct buf *b, const void *p, size_t n)
{
	const uint8_t head[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

	buf_add(b, head, sizeof(head));
	buf_add(b, p, n);
}

static void
put_mpint(struct buf *b, EVP_PKEY *key, const char *name)
{
	uint8_t bytes[SSH_BLOB_MAX] = { 0 };
	BIGNUM *n = NULL;
	int len;

	if (EVP_PKEY_get_bn_param(key, name, &n) && BN_num_bytes(n) < (int)sizeof(bytes)) {
		len = BN_bn2bin(n, bytes + 1);
		put_string(b, bytes + (len && bytes[1] < 0x80), (size_t)len + (bytes[1] >= 0x80));
	}
	BN_free(n);
}

/* RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4 */
static void
derive_blob(EVP_PKEY *key, struct ssh_key *k)
{
	struct buf b = BUF_INIT;
	uint8_t raw[SSH_BLOB_MAX];
	size_t n = sizeof(raw);

	put_string(&b, k->type, strlen(k->type));
	if (!strcmp(k->type, "ssh-rsa")) {
		put_mpint(&b, key, OSSL_PKEY_PARAM_RSA_E);
		put_mpint(&b, key, OSSL_PKEY_PARAM_RSA_N);
	} else if (!strcmp(k->type, "ssh-ed25519")) {
		if (EVP_PKEY_get_raw_public_key(key, raw, &n) == 1)
			put_string(&b, raw, n);
	} else if (!strncmp(k->type, "ecdsa-sha2-", 11)) {
		put_string(&b, k->type + 11, strlen(k->type + 11));
		if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, raw, sizeof(raw), &n) == 1)
			put_string(&b, raw, n);
	}
	keep_blob(k, b.p, b.len);
	buf_release(&b);
}

static int
pem(const char *text, const char *passphrase, struct ssh_key *k, struct err *e)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	EVP_PKEY *key;
	char *copy = xstrdup(passphrase);

	if (!bio)
		BUG("no memory for a BIO");
	k->encrypted = strstr(text, "BEGIN ENCRYPTED PRIVATE KEY") || strstr(text, "Proc-Type: 4,ENCRYPTED");
	key = PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, copy);
	explicit_bzero(copy, strlen(copy));
	free(copy);
	BIO_free(bio);
	ERR_clear_error();
	if (!key && k->encrypted)
		return *passphrase ? err_set(e, ERR_AUTH, "private_key_passphrase does not open private_key") : no_passphrase(e);
	if (!key)
		return err_set(e, ERR_AUTH, "private_key is not a private key in OpenSSH's or PEM form");
	name_pem(key, k);
	derive_blob(key, k);
	EVP_PKEY_free(key);
	return 0;
}

int
ssh_key_is(const struct ssh_key *k, const char *public, struct err *e)
{
	struct buf blob = BUF_INIT;
	int rc = ssh_public_read(public, &blob);

	if (rc)
		err_set(e, ERR_AUTH, "public_key is not a public key like \"ssh-ed25519 AAAA...\"");
	else if (blob.len != k->blob_n || memcmp(blob.p, k->blob, blob.len))
		rc = err_set(e, ERR_AUTH, "public_key is not that of private_key, which is a key of type %s", k->type);
	buf_release(&blob);
	return rc;
}

int
ssh_key_look(const char *text, const char *passphrase, struct ssh_key *k, struct err *e)
{
	memset(k, 0, sizeof(*k));
	if (strstr(text, OPENSSH_BEGIN) ? openssh(text, k, e) : pem(text, passphrase, k, e))
		return -1;
	if (k->encrypted && !*passphrase)
		return no_passphrase(e);
	if (strcmp(k->type, "ssh-rsa") && strcmp(k->type, "ssh-ed25519") && strncmp(k->type, "ecdsa-sha2-nistp", 16))
		return err_set(e, ERR_AUTH, "private_key is a key of type %s, which is not served: use an ed25519 or ecdsa key (ssh-keygen -t ed25519)",
		    k->type);
	return 0;
}
