/*
 * defer_store.c - the bytes of the deferred jobs that a poller knows of, in one unlinked file instead of in memory.
 *
 * Called by deferred.c; a cache of what stands in Kafka, read back from there at each start. Each record is sealed with
 * AES-256-GCM under a key that only this process has and that dies with it: jobs may hold secrets, and the blocks stay
 * on the disk when the file is gone. Slots come in sizes of powers of two and are used again; a slot that does not open
 * is an error, never another record. Takes no lock, keeps no names.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "common/xalloc.h"
#include "master/defer.h"
#include "common/banned.h"

#define SLOT_MIN 512
#define CLASSES 18                      /* up to 64 MiB */
#define NONCE 12
#define TAG 16
#define HEAD (NONCE + TAG)

struct pile { int64_t *at; size_t n, cap; };

struct defer_store {
	int fd;
	uint8_t key[32];
	uint64_t sealed;                /* the next nonce */
	int64_t end;                    /* of the file */
	size_t live;
	struct pile unused[CLASSES];
	EVP_CIPHER_CTX *ctx;
};

struct defer_store *
defer_store_new(int fd)
{
	struct defer_store *s = xcalloc(1, sizeof(*s));

	s->fd = fd;
	s->ctx = EVP_CIPHER_CTX_new();
	if (!s->ctx || RAND_bytes(s->key, sizeof(s->key)) != 1)
		BUG("libcrypto has no random bytes");
	return s;
}

void
defer_store_free(struct defer_store *s)
{
	if (!s)
		return;
	EVP_CIPHER_CTX_free(s->ctx);
	explicit_bzero(s->key, sizeof(s->key));
	for (size_t i = 0; i < CLASSES; i++)
		free(s->unused[i].at);
	close(s->fd);
	free(s);
}

/* -1: too large for any. */
static int
class_of(size_t n)
{
	int c = 0;

	for (size_t size = SLOT_MIN; size < n + HEAD && c < CLASSES; c++)
		size *= 2;
	return c < CLASSES ? c : -1;
}

/* out: HEAD + n bytes. The slot's place is signed along, so that no slot passes for another. */
static bool
seal(struct defer_store *s, int64_t at, const void *p, size_t n, uint8_t *out)
{
	int len = 0, more = 0;

	memset(out, 0, NONCE);
	s->sealed++;
	memcpy(out, &s->sealed, sizeof(s->sealed));
	return EVP_EncryptInit_ex(s->ctx, EVP_aes_256_gcm(), NULL, s->key, out) == 1 &&
	    EVP_EncryptUpdate(s->ctx, NULL, &len, (const uint8_t *)&at, sizeof(at)) == 1 &&
	    EVP_EncryptUpdate(s->ctx, out + HEAD, &len, p, (int)n) == 1 && (size_t)len == n &&
	    EVP_EncryptFinal_ex(s->ctx, out + HEAD + n, &more) == 1 && more == 0 &&
	    EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_GCM_GET_TAG, TAG, out + NONCE) == 1;
}

static bool
unseal(const struct defer_store *s, int64_t at, uint8_t *in, size_t n, uint8_t *out)
{
	int len = 0, more = 0;

	return EVP_DecryptInit_ex(s->ctx, EVP_aes_256_gcm(), NULL, s->key, in) == 1 &&
	    EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_GCM_SET_TAG, TAG, in + NONCE) == 1 &&
	    EVP_DecryptUpdate(s->ctx, NULL, &len, (const uint8_t *)&at, sizeof(at)) == 1 &&
	    EVP_DecryptUpdate(s->ctx, out, &len, in + HEAD, (int)n) == 1 && (size_t)len == n &&
	    EVP_DecryptFinal_ex(s->ctx, out + n, &more) == 1;
}

static bool
write_all(int fd, const uint8_t *p, size_t n, int64_t at)
{
	while (n) {
		ssize_t w = pwrite(fd, p, n, at);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		p += w;
		at += w;
		n -= (size_t)w;
	}
	return true;
}

static bool
read_all(int fd, uint8_t *p, size_t n, int64_t at)
{
	while (n) {
		ssize_t r = pread(fd, p, n, at);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		p += r;
		at += r;
		n -= (size_t)r;
	}
	return true;
}

static void
pile_add(struct pile *p, int64_t at)
{
	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 64;
		p->at = xreallocarray(p->at, p->cap, sizeof(*p->at));
	}
	p->at[p->n++] = at;
}

int
defer_store_put(struct defer_store *s, int64_t max, const void *p, size_t n, struct defer_slot *slot, struct err *e)
{
	int c = class_of(n);
	struct pile *unused = &s->unused[c < 0 ? 0 : c];
	int64_t size = (int64_t)SLOT_MIN << (c < 0 ? 0 : c), at;
	bool fresh = !unused->n, good;
	uint8_t *sealed;

	if (c < 0)
		return err_set(e, ERR_SYSTEM, "a deferred job of %zu bytes is too large to be kept", n);
	if (fresh && s->end + size > max)
		return err_set(e, ERR_SPOOL_FULL, "the deferred jobs' file holds deferred.store_max (%lld bytes)", (long long)max);
	at = fresh ? s->end : unused->at[unused->n - 1];
	sealed = xmalloc(HEAD + n + TAG);
	if (!seal(s, at, p, n, sealed))
		BUG("libcrypto cannot seal");
	good = write_all(s->fd, sealed, HEAD + n, at);
	free(sealed);
	if (!good)
		return err_errno(e, errno == ENOSPC || errno == EDQUOT ? ERR_SPOOL_FULL : ERR_SYSTEM, "cannot write the deferred jobs' file in spool.dir");
	if (fresh)
		s->end += size;
	else
		unused->n--;
	s->live++;
	*slot = (struct defer_slot){ .at = at, .n = (uint32_t)n };
	return 0;
}

int
defer_store_get(const struct defer_store *s, struct defer_slot slot, struct buf *b, struct err *e)
{
	uint8_t *sealed = xmalloc(HEAD + slot.n + 1);
	int ret = 0;

	buf_clear(b);
	buf_room(b, slot.n + TAG);
	if (!read_all(s->fd, sealed, HEAD + slot.n, slot.at))
		ret = err_errno(e, ERR_SYSTEM, "cannot read the deferred jobs' file in spool.dir");
	else if (!unseal(s, slot.at, sealed, slot.n, (uint8_t *)b->p))
		ret = err_set(e, ERR_SYSTEM, "the deferred jobs' file in spool.dir was changed by somebody else");
	else
		b->len = slot.n;
	free(sealed);
	return ret;
}

void
defer_store_drop(struct defer_store *s, struct defer_slot slot)
{
	pile_add(&s->unused[class_of(slot.n)], slot.at);
	if (--s->live)
		return;
	/* Nothing is left: the disk gets its room back. A file that keeps its length is only used again from its beginning. */
	for (size_t i = 0; i < CLASSES; i++)
		s->unused[i].n = 0;
	s->end = 0;
	(void)!ftruncate(s->fd, 0);
}

int64_t
defer_store_bytes(const struct defer_store *s)
{
	return s->end;
}
