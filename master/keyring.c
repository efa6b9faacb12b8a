/*
 * keyring.c - the temporary credentials of S3 sources: who may have them, how they are asked for, kept until some minutes
 * before they end, and given to the one task at hand.
 *
 * dispatch.c and keyfetch.c call it. Kept by tenant and all that the identity is asked with (a hash of the very fields,
 * secrets among them), so that no tenant, and no job with another key, is ever given another's. One worker asks at a time for one
 * identity; the others wait. What was refused is not asked again at once. Everything is cleared before it is freed, nothing of it is
 * logged. Whether a tenant may is asked each time: the settings may have changed.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uthash.h>

#include "common/http_url.h"
#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/keyring.h"
#include "master/secret.h"
#include "common/banned.h"

#define ENTRIES_MAX 1024
#define MARGIN_NS (INT64_C(300) * 1000000000)   /* fetched anew so long before their end */
#define AGAIN_NS (INT64_C(30) * 1000000000)     /* after a refresh that failed, while the old ones hold */
#define REFUSED_MS 5000                         /* not asked again meanwhile */
#define FAILED_MS 500
#define SWEEP_MS 30000

struct keyring_entry {
	char id[65];
	char *what;                     /* for the log: the role, or "instance role"; owned */
	struct keys keys;               /* no secret: none */
	uint64_t serial;                /* of these; 0: none */
	int64_t refresh_ns;             /* CLOCK_REALTIME, as their end is */
	struct err failed;              /* the last fetch's, until failed_until_ms (loop time) */
	int64_t failed_until_ms, used_ms;
	struct task *fetcher;           /* its worker is at it; NULL: none */
	struct taskq waiting;
	UT_hash_handle hh;
};

struct keyring {
	struct master *m;
	struct keyring_entry *by_id;
	uint64_t serial;
	size_t waiting[PRIORITY__MAX];
	struct timer sweep;
	/* Where the machine's own credentials are, from the environment that the daemon was started with. */
	char *metadata_url, *container_url, *container_token, *container_token_file;
	struct err env_wrong;           /* class OK: nothing */
};

static const struct source_conf *
conf_of(const struct task *t)
{
	return &t->job->job->sources[t->index];
}

/* ---- entries ---------------------------------------------------------------------------------------------------------- */

static void
forget_keys(struct keyring_entry *n)
{
	keys_wipe(&n->keys);
	n->serial = 0;
}

static void
entry_free(struct keyring *r, struct keyring_entry *n)
{
	HASH_DEL(r->by_id, n);
	forget_keys(n);
	free(n->what);
	free(n);
}

static bool
in_use(const struct keyring_entry *n)
{
	return n->fetcher || !TAILQ_EMPTY(&n->waiting);
}

static void
put_value(struct buf *b, int id, const struct field_value *v)
{
	buf_u16(b, (uint16_t)id);
	buf_i64(b, v->i);
	buf_cstr(b, v->s ? v->s : "");
	buf_u16(b, (uint16_t)v->l.n);
	for (size_t i = 0; i < v->l.n; i++)
		buf_cstr(b, v->l.v[i]);
}

/* Does the field say who asks, for what, or how it is reached? */
static bool
tells(int id)
{
	const struct field_row *r = &field_rows[id];

	if (r->source == SOURCE_NETWORK)
		return id == SF_NETWORK_CREDENTIALS_REF ||
		    r->flags & (FIELD_CONN | FIELD_LOGIN | FIELD_SECRET | FIELD_REF | FIELD_FILE);
	return (id >= SF_S3_ACCESS_KEY_ID && id <= SF_S3_WEB_IDENTITY_TOKEN_FILE) || id == SF_S3_ENDPOINT || id == SF_S3_REGION;
}

static void
id_of(const struct task *t, char id[65])
{
	const struct source_conf *c = conf_of(t);
	struct buf b = BUF_INIT;

	/* At once: inline secrets are among it. */
	buf_room(&b, 2 * IPC_FRAME_MAX);
	buf_cstr(&b, t->job->org_id);
	for (int i = 0; i < SF__MAX; i++)
		if (c->v[i].set && tells(i))
			put_value(&b, i, &c->v[i]);
	sha256_hex(b.p, b.len, id);
	buf_wipe(&b);
}

static struct keyring_entry *
entry_find(const struct keyring *r, const struct task *t)
{
	struct keyring_entry *n;
	char id[65];

	id_of(t, id);
	HASH_FIND_STR(r->by_id, id, n);
	return n;
}

static void
make_room(struct keyring *r)
{
	struct keyring_entry *n, *next, *oldest = NULL;

	if (HASH_COUNT(r->by_id) < ENTRIES_MAX)
		return;
	HASH_ITER(hh, r->by_id, n, next)
		if (!in_use(n) && (!oldest || n->used_ms < oldest->used_ms))
			oldest = n;
	if (oldest)
		entry_free(r, oldest);
}

static struct keyring_entry *
entry_of(struct keyring *r, const struct task *t)
{
	const struct source_conf *c = conf_of(t);
	struct keyring_entry *n = entry_find(r, t);

	if (!n) {
		make_room(r);
		n = xcalloc(1, sizeof(*n));
		id_of(t, n->id);
		n->what = xstrdup(c->v[SF_S3_ROLE_ARN].set ? c->v[SF_S3_ROLE_ARN].s : "instance role");
		n->failed = (struct err)ERR_INIT;
		TAILQ_INIT(&n->waiting);
		HASH_ADD_STR(r->by_id, id, n);
	}
	n->used_ms = loop_now(r->m->loop);
	return n;
}

static bool
usable(const struct keyring_entry *n)
{
	return n && n->serial && clock_real_ns() < n->refresh_ns;
}

static bool
lately_refused(const struct keyring *r, const struct keyring_entry *n)
{
	return n && n->failed.cls != ERR_OK && loop_now(r->m->loop) < n->failed_until_ms;
}

/* ---- who may ------------------------------------------------------------------------------------------------------------ */

static bool
endpoint_allowed(const struct strlist *allowed, const char *url)
{
	for (size_t i = 0; i < allowed->n; i++) {
		struct err ignored = ERR_INIT;
		struct buf b = BUF_INIT;
		struct http_url u;
		bool same;

		if (http_url_parse(allowed->v[i], strlen(allowed->v[i]), &u, &ignored))
			continue;
		http_url_origin(&u, true, &b);
		same = !strcmp(buf_str(&b), url);
		http_url_release(&u);
		buf_release(&b);
		if (same)
			return true;
	}
	return false;
}

static bool
tenant_allowed(const struct strlist *l, const char *tenant)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], "*") || !strcmp(l->v[i], tenant))
			return true;
	return false;
}

static int
policy(const struct master *m, const struct task *t, struct err *e)
{
	const struct source_conf *c = conf_of(t);
	char *url, *region;
	int rc = 0;

	if (tenant_permits_source(m->cfg, t->job->org_id, c, e))
		return -1;
	if (c->v[SF_S3_USE_INSTANCE_ROLE].i && !tenant_allowed(&m->cfg->credentials_instance, t->job->org_id))
		return err_set(e, ERR_POLICY, "use_instance_role: credentials.instance_role_tenants does not name the tenant %s", t->job->org_id);
	if (!c->v[SF_S3_STS_ENDPOINT].set)
		return 0;
	if (keys_sts(c, &url, &region, e))
		return -1;
	if (!endpoint_allowed(&m->cfg->credentials_sts, url))
		rc = err_set(e, ERR_POLICY, "sts_endpoint: %s is none of credentials.sts_endpoints", url);
	free(url);
	free(region);
	return rc;
}

/* ---- who waits ------------------------------------------------------------------------------------------------------------ */

bool
keyring_wanted(struct master *m, const struct task *t)
{
	struct err ignored = ERR_INIT;
	struct keyring_entry *n;

	if (!m->keyring || !keys_asked(conf_of(t)) || policy(m, t, &ignored))
		return false;
	n = entry_find(m->keyring, t);
	return !usable(n) && !lately_refused(m->keyring, n);
}

void
keyring_unpark(struct master *m, struct task *t)
{
	TAILQ_REMOVE(&t->awaits->waiting, t, entry);
	t->awaits = NULL;
	m->keyring->waiting[t->job->job->priority]--;
}

size_t
keyring_waiting(const struct keyring *r, enum job_priority p)
{
	return r ? r->waiting[p] : 0;
}

static void
park(struct keyring *r, struct keyring_entry *n, struct task *t)
{
	TAILQ_INSERT_TAIL(&n->waiting, t, entry);
	t->awaits = n;
	r->waiting[t->job->job->priority]++;
}

/* The last one first, since each goes to the front. */
static void
wake(struct master *m, struct keyring_entry *n)
{
	struct task *t;

	while ((t = TAILQ_LAST(&n->waiting, taskq))) {
		keyring_unpark(m, t);
		t->needs_keys = keyring_wanted(m, t);
		sched_push_first(m->sched, t);
	}
}

static struct keyring_entry *
fetch_over(struct task *t)
{
	struct keyring_entry *n = t->fetches;

	n->fetcher = NULL;
	t->fetches = NULL;
	return n;
}

void
keyring_gave_up(struct master *m, struct task *t)
{
	if (t->fetches)
		wake(m, fetch_over(t));
}

/* ---- the request ------------------------------------------------------------------------------------------------------------ */

static int
container_token(const struct keyring *r, char **token, struct err *e)
{
	const char *path = r->container_token_file;
	char text[KEYS_TOKEN_MAX + 1];
	ssize_t n;
	int fd;

	*token = xstrdup(r->container_token ? r->container_token : "");
	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (n < 0)
		err_errno(e, ERR_AUTH, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %s", path);
	else if (n == sizeof(text) || memchr(text, '\0', (size_t)n))
		n = err_set(e, ERR_AUTH, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %s holds no token", path);
	if (fd >= 0)
		close(fd);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	if (n >= 0) {
		free(*token);
		*token = xmemdup0(text, (size_t)n);
	}
	explicit_bzero(text, sizeof(text));
	if (n >= 0 && strpbrk(*token, "\r\n"))
		return err_set(e, ERR_AUTH, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %s has several lines", path);
	return n < 0 ? -1 : 0;
}

static int
web_token(const struct config *cfg, const char *path, char **token, struct err *e)
{
	struct buf b = BUF_INIT;
	int rc = secret_file_read(cfg, path, &b, e);

	while (!rc && b.len && (b.p[b.len - 1] == '\n' || b.p[b.len - 1] == '\r'))
		b.len--;
	for (size_t i = 0; !rc && i < b.len; i++)
		if (b.p[i] < 0x21 || b.p[i] > 0x7e)
			rc = err_set(e, ERR_AUTH, "web_identity_token_file: %s holds no token (one line without spaces)", path);
	if (!rc && (!b.len || b.len > KEYS_TOKEN_MAX))
		rc = err_set(e, ERR_AUTH, "web_identity_token_file: %s is empty or longer than %d bytes", path, KEYS_TOKEN_MAX);
	*token = xmemdup0(rc || !b.p ? "" : b.p, rc ? 0 : b.len);
	buf_wipe(&b);
	return rc;
}

static int
fill_base(const struct master *m, const struct source_conf *c, struct keys_ask *a, struct err *e)
{
	const struct keyring *r = m->keyring;

	a->base = KEYS_STATIC;
	if (c->v[SF_S3_WEB_IDENTITY_TOKEN_FILE].set) {
		a->base = KEYS_WEB_IDENTITY;
		return web_token(m->cfg, c->v[SF_S3_WEB_IDENTITY_TOKEN_FILE].s, &a->token, e);
	}
	if (!c->v[SF_S3_USE_INSTANCE_ROLE].i)
		return 0;
	if (r->env_wrong.cls != ERR_OK) {
		*e = r->env_wrong;
		return -1;
	}
	a->base = r->container_url ? KEYS_CONTAINER : KEYS_METADATA;
	a->url = xstrdup(r->container_url ? r->container_url : r->metadata_url);
	return r->container_url ? container_token(r, &a->token, e) : 0;
}

static char *
text_or_empty(const struct source_conf *c, enum source_field f, bool role)
{
	return xstrdup(role && c->v[f].s ? c->v[f].s : "");
}

static int
fill(const struct master *m, const struct source_conf *c, struct keys_ask *a, struct err *e)
{
	bool role = c->v[SF_S3_ROLE_ARN].set;

	if (fill_base(m, c, a, e))
		return -1;
	if (role && keys_sts(c, &a->sts_url, &a->sts_region, e))
		return -1;
	a->role_arn = text_or_empty(c, SF_S3_ROLE_ARN, role);
	a->session_name = text_or_empty(c, SF_S3_ROLE_SESSION_NAME, role);
	a->external_id = text_or_empty(c, SF_S3_EXTERNAL_ID, role);
	a->duration_s = role ? (uint32_t)(c->v[SF_S3_ROLE_DURATION].i / 1000) : 0;
	a->url = a->url ? a->url : xstrdup("");
	a->token = a->token ? a->token : xstrdup("");
	a->sts_url = a->sts_url ? a->sts_url : xstrdup("");
	a->sts_region = a->sts_region ? a->sts_region : xstrdup("");
	return 0;
}

/* A base of another kind brings its own. */
static void
drop_static(struct source_conf *c)
{
	static const enum source_field ids[] = { SF_S3_ACCESS_KEY_ID, SF_S3_SECRET_ACCESS_KEY, SF_S3_SESSION_TOKEN };

	for (size_t i = 0; i < ARRAY_LEN(ids); i++)
		c->v[ids[i]] = (struct field_value){ .set = false };
}

static int
encode(const struct master *m, const struct task *t, struct buf *b, struct err *e)
{
	const struct tenant_conf *tenant = tenants_get(m->cfg, t->job->org_id);
	const struct source_conf *c = conf_of(t);
	struct source_conf lent = *c;
	struct secrets secrets;
	struct keys_ask a;
	int rc;

	if (secrets_load(m->cfg, t->job->org_id, c, &secrets, e))
		return -1;
	secrets_lend(&secrets, &lent);
	keys_ask_init(&a);
	rc = fill(m, c, &a, e);
	a.egress = (struct egress_lists){ .deny = tenant->egress_deny, .only = tenant->egress_only, .ports = tenant->egress_ports,
		.schemes = tenant->egress_schemes };
	keys_conf(&lent, &a.conf);
	if (a.base != KEYS_STATIC)
		drop_static(&a.conf);
	else if (!rc && (!a.conf.v[SF_S3_ACCESS_KEY_ID].set || !a.conf.v[SF_S3_SECRET_ACCESS_KEY].set))
		rc = err_set(e, ERR_AUTH, "role_arn: the secrets that the job names hold no access_key_id and secret_access_key to assume it with");
	if (!rc)
		keys_ask_encode(&a, b);
	/* borrowed */
	memset(&a.conf, 0, sizeof(a.conf));
	memset(&a.egress, 0, sizeof(a.egress));
	keys_ask_release(&a);
	secrets_wipe(&secrets);
	return rc;
}

enum keyring_reply
keyring_ask(struct master *m, struct task *t, struct buf *b, struct err *e)
{
	struct keyring_entry *n;

	if (policy(m, t, e))
		return KEYRING_FAILED;
	n = entry_of(m->keyring, t);
	if (usable(n))
		return KEYRING_HAVE;
	if (lately_refused(m->keyring, n)) {
		*e = n->failed;
		return KEYRING_FAILED;
	}
	if (n->fetcher) {
		park(m->keyring, n, t);
		return KEYRING_WAIT;
	}
	return encode(m, t, b, e) ? KEYRING_FAILED : KEYRING_ASK;
}

void
keyring_began(struct master *m, struct task *t)
{
	t->fetches = entry_of(m->keyring, t);
	t->fetches->fetcher = t;
}

/* ---- the answer ---------------------------------------------------------------------------------------------------------------- */

/* Short-lived ones are used for three quarters of their time. */
static int64_t
refresh_at(int64_t now, int64_t expires)
{
	int64_t left = expires - now, margin = left / 4;

	return expires - (margin < MARGIN_NS ? margin : MARGIN_NS);
}

int
keyring_take(struct master *m, struct task *t, const struct frame *f, struct err *e)
{
	struct keyring_entry *n = t->fetches;
	int64_t now = clock_real_ns();
	char until[UNITS_TEXT];
	struct keys k;

	if (keys_decode(&k, f->payload, f->n, now, e))
		return -1;
	forget_keys(n);
	n->keys = k;
	n->serial = ++m->keyring->serial;
	n->refresh_ns = refresh_at(now, k.expires_ns);
	n->failed = (struct err)ERR_INIT;
	units_time_text(k.expires_ns, 0, until);
	LOG(LOG_INFO, "credentials_fetched", LS("org_id", t->job->org_id), LS("job_id", t->job->job_id), LS("of", n->what), LS("valid_until", until));
	metric_add(METRIC_KEYS_FETCHED, 1, "success", NULL);
	wake(m, fetch_over(t));
	return 0;
}

bool
keyring_failed(struct master *m, struct task *t)
{
	struct keyring_entry *n = t->fetches;
	enum err_class cls = t->error.cls;
	int64_t now = clock_real_ns();
	bool again = err_disposition(cls) == ERR_DO_RETRY, good = n->serial && n->keys.expires_ns - now > AGAIN_NS;

	metric_add(METRIC_KEYS_FETCHED, 1, "error", NULL);
	LOG(LOG_WARN, "credentials_failed", LS("org_id", t->job->org_id), LS("job_id", t->job->job_id), LS("of", n->what),
	    LS("error_class", err_name(cls)), LS("error", t->error.text));
	if (cls == ERR_CANCELLED) {
		wake(m, fetch_over(t));
		return false;
	}
	if (again && good) {
		n->refresh_ns = now + AGAIN_NS;
	} else {
		n->failed = t->error;
		n->failed_until_ms = loop_now(m->loop) + (again ? FAILED_MS : REFUSED_MS);
		/* Refused for good: those of before are no better. */
		if (!again)
			forget_keys(n);
	}
	wake(m, fetch_over(t));
	return again && good;
}

int
keyring_lend(struct master *m, struct task *t, struct source_conf *c, struct err *e)
{
	struct keyring_entry *n;

	t->keys_serial = 0;
	if (!m->keyring || !keys_asked(c))
		return 0;
	if (policy(m, t, e))
		return -1;
	n = entry_of(m->keyring, t);
	if (!usable(n)) {
		if (!lately_refused(m->keyring, n))
			return err_set(e, ERR_TRANSIENT, "the credentials have just expired");
		*e = n->failed;
		return -1;
	}
	t->keys_serial = n->serial;
	c->v[SF_S3_ACCESS_KEY_ID] = (struct field_value){ .set = true, .s = n->keys.access_key_id };
	c->v[SF_S3_SECRET_ACCESS_KEY] = (struct field_value){ .set = true, .s = n->keys.secret_access_key };
	c->v[SF_S3_SESSION_TOKEN] = (struct field_value){ .set = true, .s = n->keys.session_token };
	return 0;
}

bool
keyring_stale(struct master *m, struct task *t)
{
	struct keyring_entry *n;

	if (!m->keyring || !t->keys_serial || t->rekeyed)
		return false;
	t->rekeyed = true;
	n = entry_find(m->keyring, t);
	/* Unless they were fetched anew since. */
	if (n && n->serial == t->keys_serial)
		forget_keys(n);
	return true;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------------------------ */

static void
on_sweep(void *arg)
{
	struct keyring *r = arg;
	struct keyring_entry *n, *next;

	HASH_ITER(hh, r->by_id, n, next)
		if (!in_use(n) && !lately_refused(r, n) && (!n->serial || n->keys.expires_ns <= clock_real_ns()))
			entry_free(r, n);
	timer_set(r->m->loop, &r->sweep, SWEEP_MS);
}

void
keyring_reloaded(struct keyring *r)
{
	struct keyring_entry *n, *next;

	HASH_ITER(hh, r->by_id, n, next) {
		forget_keys(n);
		n->failed = (struct err)ERR_INIT;
		if (!in_use(n))
			entry_free(r, n);
	}
}

static char *
env(const char *name)
{
	const char *s = getenv(name);

	return s && *s ? xstrdup(s) : NULL;
}

/* Plain HTTP goes to this machine alone. origin: nothing may stand behind host and port. */
static int
env_url(struct keyring *r, const char *name, const char *url, bool origin)
{
	struct err why = ERR_INIT;
	struct http_url u;
	bool ok;

	if (strlen(url) >= KEYS_URL_MAX || http_url_parse(url, strlen(url), &u, &why))
		return err_set(&r->env_wrong, ERR_AUTH, "use_instance_role: %s in the poller's environment is no URL", name);
	ok = !u.user && (!origin || keys_origin_ok(&u)) && (keys_metadata_host(&u) || (!origin && u.https));
	http_url_release(&u);
	return ok ? 0 : err_set(&r->env_wrong, ERR_AUTH,
	    "use_instance_role: %s in the poller's environment leads neither to a metadata address nor to this machine", name);
}

/* The names are those of the SDKs' shared settings; the container's win, as there. */
static void
read_env(struct keyring *r)
{
	char *relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");

	r->metadata_url = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	r->container_token = env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	r->container_token_file = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	if (relative)
		r->container_url = xasprintf("http://169.254.170.2%s%s", *relative == '/' ? "" : "/", relative);
	else
		r->container_url = env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	if (!r->metadata_url)
		r->metadata_url = xstrdup("http://169.254.169.254");
	if (r->container_url)
		env_url(r, relative ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" : "AWS_CONTAINER_CREDENTIALS_FULL_URI", r->container_url, false);
	else
		env_url(r, "AWS_EC2_METADATA_SERVICE_ENDPOINT", r->metadata_url, true);
	if (r->container_token && strpbrk(r->container_token, "\r\n"))
		err_set(&r->env_wrong, ERR_AUTH, "use_instance_role: AWS_CONTAINER_AUTHORIZATION_TOKEN has several lines");
	free(relative);
}

struct keyring *
keyring_new(struct master *m)
{
	struct keyring *r = xcalloc(1, sizeof(*r));

	r->m = m;
	r->env_wrong = (struct err)ERR_INIT;
	read_env(r);
	timer_init(&r->sweep, on_sweep, r);
	timer_set(m->loop, &r->sweep, SWEEP_MS);
	return r;
}

void
keyring_free(struct keyring *r)
{
	struct keyring_entry *n, *next;

	if (!r)
		return;
	HASH_ITER(hh, r->by_id, n, next)
		entry_free(r, n);
	timer_cancel(r->m->loop, &r->sweep);
	if (r->container_token)
		explicit_bzero(r->container_token, strlen(r->container_token));
	free(r->container_token);
	free(r->container_token_file);
	free(r->container_url);
	free(r->metadata_url);
	free(r);
}
