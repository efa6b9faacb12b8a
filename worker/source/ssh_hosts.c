/*
 * ssh_hosts.c - the keys that a known_hosts text has for one host: names plain, hashed, negated or with wildcards, ports,
 * @revoked and @cert-authority, as sshd(8) tells under SSH_KNOWN_HOSTS FILE FORMAT.
 *
 * ssh_session.c asks it before the handshake (which types) and after it (is this the key). Ours, because libssh2's reader
 * stops at the first malformed line and does not know revoked keys and wildcards. It never lets a key pass that it
 * could not judge: a @revoked line that cannot be read is an error.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "worker/source/ssh.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define DEFAULT_PORT 22
#define KEYS_MAX 256

struct span { const char *p; size_t n; };

void
ssh_hosts_init(struct ssh_hosts *h)
{
	memset(h, 0, sizeof(*h));
}

void
ssh_hosts_release(struct ssh_hosts *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->v[i].type);
		free(h->v[i].blob);
	}
	free(h->v);
	ssh_hosts_init(h);
}

/* ---- keys ----------------------------------------------------------------------------------- */

void
ssh_key_type(const void *blob, size_t n, char out[64])
{
	const unsigned char *p = blob;
	size_t len;

	out[0] = '\0';
	if (n < 4 || p[0] || p[1])
		return;
	len = (size_t)p[2] << 8 | p[3];
	if (len > n - 4 || len > 63)
		return;
	for (size_t i = 0; i < len; i++)
		if (p[4 + i] <= ' ' || p[4 + i] > '~' || p[4 + i] == ',')
			return;
	memcpy(out, p + 4, len);
	out[len] = '\0';
}

void
ssh_fingerprint(const void *blob, size_t n, char out[SSH_FINGERPRINT])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	struct buf b = BUF_INIT;
	unsigned len = 0;

	if (EVP_Digest(blob, n, md, &len, EVP_sha256(), NULL) != 1)
		BUG("libcrypto has no SHA-256");
	base64_encode(&b, md, len);
	while (b.len && b.p[b.len - 1] == '=')
		b.len--;
	snprintf(out, SSH_FINGERPRINT, "SHA256:%s", buf_str(&b));
	buf_release(&b);
}

/* "type base64", whose blob says the same type; -1 where it is none. */
static int
read_key(struct span type, struct span data, struct buf *blob)
{
	char inner[64];

	if (!type.n || !data.n || base64_decode(blob, data.p, data.n))
		return -1;
	ssh_key_type(blob->p, blob->len, inner);
	return strlen(inner) == type.n && !memcmp(inner, type.p, type.n) ? 0 : -1;
}

static void
add(struct ssh_hosts *h, struct span type, struct buf *blob, bool revoked, bool portless)
{
	struct ssh_host_key *k;

	h->v = xreallocarray(h->v, h->n + 1, sizeof(*h->v));
	k = &h->v[h->n++];
	k->type = xmemdup0(type.p, type.n);
	k->n = blob->len;
	k->blob = buf_take(blob);
	k->revoked = revoked;
	k->portless = portless;
}

/* ---- names ---------------------------------------------------------------------------------- */

/* '*' and '?', whatever the case; names are short and the pattern's stars few, so that trying is enough: the last star
 * alone is ever tried again. */
static bool
glob(const char *p, size_t n, const char *s)
{
	size_t i = 0, star = SIZE_MAX;
	const char *mark = NULL;

	while (*s) {
		if (i < n && p[i] == '*') {
			star = i++;
			mark = s;
		} else if (i < n && (p[i] == '?' || !strncasecmp(p + i, s, 1))) {
			i++;
			s++;
		} else if (star != SIZE_MAX) {
			i = star + 1;
			s = ++mark;
		} else {
			return false;
		}
	}
	while (i < n && p[i] == '*')
		i++;
	return i == n;
}

/* "|1|salt|hash": HMAC-SHA1 of the name. -1: not of this form. */
static int
hashed(const char *p, size_t n, const char *name)
{
	struct buf salt = BUF_INIT, hash = BUF_INIT;
	unsigned char md[EVP_MAX_MD_SIZE];
	const char *bar;
	unsigned len = 0;
	int rc = -1;

	if (n < 3 || memcmp(p, "|1|", 3) || !(bar = memchr(p + 3, '|', n - 3)))
		return -1;
	if (!base64_decode(&salt, p + 3, (size_t)(bar - p) - 3) && !base64_decode(&hash, bar + 1, n - (size_t)(bar - p) - 1) &&
	    salt.len && hash.len == 20 &&
	    HMAC(EVP_sha1(), salt.p, (int)salt.len, (const unsigned char *)name, strlen(name), md, &len))
		rc = len == hash.len && !memcmp(md, hash.p, len);
	buf_release(&salt);
	buf_release(&hash);
	return rc;
}

enum { NO_MATCH = 0, MATCH = 1, NEGATED = 2 };

/* One of these, or -1 where the names cannot be read. */
static int
names_match(struct span names, const char *host)
{
	bool hit = false;

	if (*names.p == '|')
		return hashed(names.p, names.n, host);
	for (size_t i = 0; i < names.n;) {
		const char *p = names.p + i;
		const char *comma = memchr(p, ',', names.n - i);
		size_t n = comma ? (size_t)(comma - p) : names.n - i;
		bool not = n && *p == '!';

		i += n + 1;
		if (n == not)
			return -1;
		if (!glob(p + not, n - not, host))
			continue;
		if (not)
			return NEGATED;
		hit = true;
	}
	return hit ? MATCH : NO_MATCH;
}

/* ---- lines ---------------------------------------------------------------------------------- */

static struct span
word(const char **p, const char *end)
{
	struct span w;

	while (*p < end && (**p == ' ' || **p == '\t'))
		++*p;
	w.p = *p;
	while (*p < end && **p != ' ' && **p != '\t')
		++*p;
	w.n = (size_t)(*p - w.p);
	return w;
}

static bool
is(struct span w, const char *s)
{
	return w.n == strlen(s) && !memcmp(w.p, s, w.n);
}

/* 0; -1: malformed. *revoked: the line begins with that mark, whatever follows. */
static int
read_line(struct ssh_hosts *h, const char *p, const char *end, const char *host, const char *portless, bool *revoked)
{
	struct span names = word(&p, end), type, data;
	struct buf blob = BUF_INIT;
	bool authority = false;
	int hit, plain = NO_MATCH;

	*revoked = false;
	if (names.n && *names.p == '@') {
		*revoked = is(names, "@revoked");
		authority = is(names, "@cert-authority");
		if (!*revoked && !authority)
			return -1;
		names = word(&p, end);
	}
	type = word(&p, end);
	data = word(&p, end);
	if (!names.n || read_key(type, data, &blob)) {
		buf_release(&blob);
		return -1;
	}
	hit = names_match(names, host);
	if (hit == NO_MATCH && portless)
		hit = plain = names_match(names, portless);
	if (hit == MATCH && authority)
		h->authority = true;
	else if (hit == MATCH && h->n < KEYS_MAX)
		add(h, type, &blob, *revoked, plain == MATCH);
	else if (hit == MATCH)
		hit = -1;
	buf_release(&blob);
	return hit < 0 ? -1 : 0;
}

int
ssh_hosts_add(struct ssh_hosts *h, const char *text, const char *host, uint16_t port, struct err *e)
{
	char *full = port == DEFAULT_PORT ? xstrdup(host) : xasprintf("[%s]:%u", host, port);
	int rc = 0;

	for (unsigned line = 1; *text && !rc; line++) {
		size_t n = strcspn(text, "\n");
		const char *p = text + strspn(text, " \t"), *end = text + n;
		bool revoked;

		if (end > text && end[-1] == '\r')
			end--;
		text += n + (text[n] == '\n');
		if (p >= end || *p == '#' || !read_line(h, p, end, full, port == DEFAULT_PORT ? NULL : host, &revoked))
			continue;
		if (revoked)
			rc = err_set(e, ERR_PERMANENT, "known_hosts: line %u marks a key as revoked and cannot be read: correct it", line);
		if (!h->malformed++)
			h->malformed_line = line;
	}
	free(full);
	return rc;
}

int
ssh_public_read(const char *line, struct buf *blob)
{
	const char *end = line + strcspn(line, "\r\n");
	struct span type = word(&line, end), data = word(&line, end);

	return read_key(type, data, blob);
}

int
ssh_hosts_add_key(struct ssh_hosts *h, const char *line, struct err *e)
{
	const char *end = line + strlen(line);
	struct span type = word(&line, end), data = word(&line, end);
	struct buf blob = BUF_INIT;
	int rc = read_key(type, data, &blob);

	if (rc || h->n >= KEYS_MAX)
		rc = err_set(e, ERR_PERMANENT, "host_keys: a member is not a public key like \"ssh-ed25519 AAAA...\"");
	else
		add(h, type, &blob, false, false);
	buf_release(&blob);
	return rc;
}

void
ssh_hosts_settle(struct ssh_hosts *h)
{
	bool exact = false;
	size_t kept = 0;

	for (size_t i = 0; i < h->n; i++)
		exact = exact || (!h->v[i].portless && !h->v[i].revoked);
	for (size_t i = 0; i < h->n; i++) {
		struct ssh_host_key *k = &h->v[i];

		if (exact && k->portless && !k->revoked) {
			free(k->type);
			free(k->blob);
			continue;
		}
		h->v[kept++] = *k;
	}
	h->n = kept;
}

/* ---- questions ------------------------------------------------------------------------------ */

enum ssh_verdict
ssh_hosts_judge(const struct ssh_hosts *h, const void *blob, size_t n)
{
	enum ssh_verdict v = SSH_UNKNOWN;

	for (size_t i = 0; i < h->n; i++) {
		const struct ssh_host_key *k = &h->v[i];
		bool same = k->n == n && !memcmp(k->blob, blob, n);

		if (same && k->revoked)
			return SSH_REVOKED;
		if (same)
			v = SSH_KNOWN;
		else if (!k->revoked && v == SSH_UNKNOWN)
			v = SSH_CHANGED;
	}
	return v;
}

static bool
has_type(const struct ssh_hosts *h, const char *type)
{
	for (size_t i = 0; i < h->n; i++)
		if (!h->v[i].revoked && !strcmp(h->v[i].type, type))
			return true;
	return false;
}

bool
ssh_hosts_any(const struct ssh_hosts *h)
{
	for (size_t i = 0; i < h->n; i++)
		if (!h->v[i].revoked)
			return true;
	return false;
}

void
ssh_hosts_types(const struct ssh_hosts *h, struct buf *out)
{
	static const char *const first[] = { "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521" };

	for (size_t i = 0; i < ARRAY_LEN(first); i++)
		if (has_type(h, first[i]))
			buf_printf(out, "%s%s", out->len ? "," : "", first[i]);
	for (size_t i = 0; i < h->n; i++)
		if (!h->v[i].revoked && (!out->len || !ssh_list_has(out->p, out->len, h->v[i].type, strlen(h->v[i].type))))
			buf_printf(out, "%s%s", out->len ? "," : "", h->v[i].type);
}
