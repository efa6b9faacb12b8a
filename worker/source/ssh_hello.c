/*
 * ssh_hello.c - the server's KEXINIT, read from the bytes before encryption begins, so that a handshake that finds no
 * common algorithm can say which one and what to do about it.
 *
 * ssh_session.c adds the bytes as they come and asks when libssh2 gave up. Nothing here decides anything: a hello that
 * cannot be read only leaves the message shorter.
 */
#include <string.h>

#include "worker/source/ssh.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define KEXINIT 20              /* RFC 4253, section 12 */
#define COOKIE 16

/* RFC 4253, section 7.1: the lists in their order; those of the direction server to client. */
static const struct { unsigned index; const char *name, *remedy; } rows[SSH_LIST__MAX] = {
	[SSH_LIST_KEX] = { 0, "key exchanges", "let the server offer curve25519-sha256 or ecdh-sha2-nistp256 (KexAlgorithms)" },
	[SSH_LIST_HOST_KEY] = { 1, "host key algorithms",
	    "give the server an ed25519 or ecdsa host key (HostKey), and put that key into known_hosts" },
	[SSH_LIST_CIPHER] = { 3, "ciphers", "let the server offer aes256-ctr or aes128-ctr (Ciphers)" },
	[SSH_LIST_MAC] = { 5, "MACs", "let the server offer hmac-sha2-256 or hmac-sha2-512 (MACs)" },
};

void
ssh_hello_add(struct ssh_hello *h, const void *p, size_t n)
{
	size_t room = sizeof(h->p) - h->n;

	memcpy(h->p + h->n, p, n < room ? n : room);
	h->n += n < room ? n : room;
}

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Behind the line that begins with "SSH-"; other lines may come before it (RFC 4253, section 4.2). */
static size_t
after_banner(const struct ssh_hello *h)
{
	for (size_t at = 0; at < h->n;) {
		const uint8_t *nl = memchr(h->p + at, '\n', h->n - at);

		if (!nl)
			return h->n;
		if (h->n - at >= 4 && !memcmp(h->p + at, "SSH-", 4))
			return (size_t)(nl - h->p) + 1;
		at = (size_t)(nl - h->p) + 1;
	}
	return h->n;
}

bool
ssh_hello_list(const struct ssh_hello *h, enum ssh_list which, const char **list, size_t *list_n)
{
	size_t at = after_banner(h), end;
	uint32_t n;

	if (h->n - at < 4 + 2 + COOKIE)
		return false;
	n = be32(h->p + at);
	at += 4;
	if (n > h->n - at || n < 2 + COOKIE || h->p[at + 1] != KEXINIT)
		return false;
	end = at + n;
	at += 2 + COOKIE;
	for (unsigned i = 0; end - at >= 4; i++) {
		n = be32(h->p + at);
		at += 4;
		if (n > end - at)
			return false;
		if (i == rows[which].index) {
			*list = (const char *)h->p + at;
			*list_n = n;
			return true;
		}
		at += n;
	}
	return false;
}

bool
ssh_list_has(const char *list, size_t n, const char *w, size_t word_n)
{
	while (n) {
		const char *comma = memchr(list, ',', n);
		size_t len = comma ? (size_t)(comma - list) : n;

		if (len == word_n && !memcmp(list, w, len))
			return true;
		if (!comma)
			break;
		list += len + 1;
		n -= len + 1;
	}
	return false;
}

static bool
common(const char *ours, const char *theirs, size_t theirs_n)
{
	while (*ours) {
		size_t n = strcspn(ours, ",");

		if (ssh_list_has(theirs, theirs_n, ours, n))
			return true;
		ours += n + (ours[n] == ',');
	}
	return false;
}

bool
ssh_hello_explain(const struct ssh_hello *h, const char *const ours[SSH_LIST__MAX], struct buf *out)
{
	for (int i = 0; i < SSH_LIST__MAX; i++) {
		const char *list;
		size_t n;

		if (!ssh_hello_list(h, (enum ssh_list)i, &list, &n) || common(ours[i], list, n))
			continue;
		buf_printf(out, "no common %s: the server offers ", rows[i].name);
		escape_term(out, list, n > 200 ? 200 : n);
		buf_printf(out, "; the poller asked for %.200s. To do: %s", ours[i], rows[i].remedy);
		return true;
	}
	return false;
}
