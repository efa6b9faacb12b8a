/*
 * conn.c - the connection that a worker keeps for its next task: at most one, for one endpoint, tenant and set of secrets.
 *
 * run.c takes and gives back, main.c waits through it. Whether a kept connection fits is decided by a hash over the type,
 * the tenant, the endpoint and every field that is a secret, a login or decides the connection (sources.def), so that a connection
 * never serves what it was not opened for. One with more connections than the task may have is closed, too: the master counts
 * what is open at an endpoint, and hears of what was closed before anything else is opened.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"
#include "common/field.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define KEY_BYTES 32
/* Descriptors of a session beside its sockets: libcurl's wake-up pair, and some that are being closed. */
#define FDS_BESIDE 4

struct conns {
	struct channel *ch;
	int64_t keep_ms;
	const struct source *source;    /* of conn */
	struct conn *conn;              /* NULL: none kept */
	unsigned char key[KEY_BYTES];
	int64_t idle_since;             /* run_clock */
	unsigned told;                  /* what the master was told last */
};

struct conns *
conns_new(struct channel *ch, int64_t keep_ms)
{
	struct conns *c = xcalloc(1, sizeof(*c));

	c->ch = ch;
	c->keep_ms = keep_ms;
	return c;
}

static void
drop(struct conns *c)
{
	if (c->conn)
		c->source->close(c->conn);
	c->conn = NULL;
	c->source = NULL;
	explicit_bzero(c->key, sizeof(c->key));
}

void
conns_free(struct conns *c)
{
	drop(c);
	free(c);
}

static void
hash_value(EVP_MD_CTX *md, const struct field_row *r, const struct field_value *v)
{
	/* Lengths first: no two sets of values have the same bytes. */
	if (r->kind == KIND_STR || r->kind == KIND_TEXT) {
		uint64_t n = strlen(v->s);

		EVP_DigestUpdate(md, &n, sizeof(n));
		EVP_DigestUpdate(md, v->s, (size_t)n);
	} else if (r->kind == KIND_STRS) {
		uint64_t count = v->l.n;

		EVP_DigestUpdate(md, &count, sizeof(count));
		for (size_t i = 0; i < v->l.n; i++) {
			uint64_t n = strlen(v->l.v[i]);

			EVP_DigestUpdate(md, &n, sizeof(n));
			EVP_DigestUpdate(md, v->l.v[i], (size_t)n);
		}
	} else {
		EVP_DigestUpdate(md, &v->i, sizeof(v->i));
	}
}

static void
make_key(const struct task_spec *t, unsigned char key[KEY_BYTES])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	struct buf policy = BUF_INIT;
	uint32_t head = (uint32_t)t->source.type;
	unsigned n = 0;

	if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		BUG("libcrypto has no SHA-256");
	EVP_DigestUpdate(md, &head, sizeof(head));
	EVP_DigestUpdate(md, t->tenant, sizeof(t->tenant));
	EVP_DigestUpdate(md, t->endpoint, sizeof(t->endpoint));
	/* What a narrower policy would have refused is not kept across it. */
	egress_lists_encode(&t->egress, &policy);
	EVP_DigestUpdate(md, policy.p, policy.len);
	buf_release(&policy);
	for (int i = 0; i < SF__MAX; i++) {
		const struct field_row *r = &field_rows[i];

		if (!t->source.v[i].set || !(r->flags & (FIELD_SECRET | FIELD_LOGIN | FIELD_CONN)))
			continue;
		EVP_DigestUpdate(md, &i, sizeof(i));
		hash_value(md, r, &t->source.v[i]);
	}
	EVP_DigestFinal_ex(md, key, &n);
	EVP_MD_CTX_free(md);
}

/* The master counts it and prefers this worker for the endpoint; only changes are told. */
static int
tell(struct conns *c, struct err *e)
{
	unsigned n = c->conn ? c->source->connections(c->conn) : 0;

	if (n == c->told)
		return 0;
	c->told = n;
	buf_u32(channel_begin(c->ch, MSG_KEPT), n);
	return channel_send(c->ch, e);
}

struct conn *
conns_open(struct conns *c, struct run *r, bool *reused, struct err *e)
{
	const struct source *s = source_find(r->task->source.type);
	unsigned char key[KEY_BYTES];
	struct conn *conn = NULL;

	*reused = false;
	if (!s) {
		err_set(e, ERR_UNSUPPORTED, "source type %s is not served by this worker",
		    source_rows[r->task->source.type].name);
		return NULL;
	}
	make_key(r->task, key);
	if (c->conn && c->source == s && !memcmp(c->key, key, KEY_BYTES) && s->connections(c->conn) <= r->task->connections) {
		conn = c->conn;
		c->conn = NULL;
		*reused = true;
	} else {
		drop(c);
		conn = tell(c, e) ? NULL : s->open(r, e);
	}
	c->source = conn ? s : NULL;
	memcpy(c->key, key, KEY_BYTES);
	explicit_bzero(key, sizeof(key));
	return conn;
}

void
conns_put(struct conns *c, struct run *r, struct conn *conn, bool failed)
{
	const struct source *s = c->source;
	struct err e = ERR_INIT;

	if (!failed && c->keep_ms && s->keepable && run_int(r, SF_NETWORK_KEEPALIVE) && s->keepable(conn) &&
	    s->connections(conn) <= r->task->connections) {
		c->conn = conn;
		c->idle_since = run_clock();
	} else {
		s->close(conn);
		drop(c);
	}
	/* A master that is gone shows at the next frame. */
	if (!c->ch->gone && !c->ch->broken)
		tell(c, &e);
}

unsigned
conns_fds(const struct conns *c)
{
	return c->conn ? c->source->connections(c->conn) + FDS_BESIDE : 0;
}

int
conns_wait(struct conns *c, struct frame *f, struct err *e)
{
	for (;;) {
		int64_t left = c->keep_ms - (run_clock() - c->idle_since) / 1000000;
		int r;

		if (c->conn && (left <= 0 || c->ch->drop)) {
			drop(c);
			if (tell(c, e))
				return c->ch->gone ? 0 : -1;
		}
		c->ch->drop = false;
		r = channel_recv_for(c->ch, c->conn ? (int)left : -1, f, e);
		if (r == 1 && f->type == MSG_DROP)
			c->ch->drop = true;
		else if (r != CHANNEL_TIMEOUT)
			return r;
	}
}
