/*
 * defer_format.c - the records of the deferred topic: a job that waits, and the mark that says which ones are done.
 *
 * Called by defer.c and deferred.c. Pure: knows no Kafka. What is read back may have been written by anybody with the
 * right to write there: every header is needed once, in its one form, within its bounds. A mark counts only with the
 * signature of the partition's key, which travels in the group's committed metadata; so no mark of a stranger ends a job.
 * Who may write to the topic can still delay a job or repeat it: pollers alone should.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/job.h"
#include "master/defer.h"
#include "master/event_priv.h"
#include "common/banned.h"

#define VERSION_TEXT "1"
#define MAC_BYTES 16
#define TASK_TEXT 40

static const char *const why_names[DEFER__MAX] = {
	[DEFER_SCHEDULE] = "schedule", [DEFER_RETRY] = "retry", [DEFER_QUOTA] = "quota",
};

const char *
defer_why_name(enum defer_why w)
{
	return why_names[w];
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static void
put(struct out_record *out, const char *name, const char *text)
{
	out_header_text(out, name, text, strlen(text));
}

static void
put_int(struct out_record *out, const char *name, int64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)v);
	put(out, name, text);
}

static void
put_time(struct out_record *out, const char *name, int64_t ns)
{
	char text[UNITS_TEXT];

	units_time_text(ns, 9, text);
	put(out, name, text);
}

/* "attempt.charged.crashes.streamed" of each source, with a comma between two. */
static void
put_tasks(struct out_record *out, const struct deferral *d)
{
	char text[JOB_SOURCES_MAX * TASK_TEXT];
	size_t n = 0;

	for (size_t i = 0; i < d->n_tasks; i++) {
		const struct defer_task *t = &d->task[i];

		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u.%u.%u.%d", i ? "," : "", t->attempt, t->charged, t->crashes, t->streamed);
	}
	out_header_text(out, "deferred_tasks", text, n);
}

void
deferral_write(const struct deferral *d, struct out_record *out)
{
	put(out, "deferred_version", VERSION_TEXT);
	put_time(out, "deferred_until", d->due_ns);
	put(out, "deferred_reason", why_names[d->why]);
	put_int(out, "deferred_count", d->count);
	put_tasks(out, d);
	put(out, "origin_topic", d->topic);
	put_int(out, "origin_partition", d->partition);
	put_int(out, "origin_offset", d->offset);
	put_time(out, "received_at", d->received_ns);
	if (d->started_ns)
		put_time(out, "started_at", d->started_ns);
	put(out, "job_id", d->job_id);
	put(out, "org_id", d->org_id);
	if (d->error[0])
		put(out, "error_type", d->error);
	if (d->traceparent[0])
		put(out, "traceparent", d->traceparent);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* The header as a C string of at most max bytes. 0; 1 where there is none; -1 twice, too long, not UTF-8 or with a NUL. */
static int
get_text(const struct out_header *h, size_t n, const char *name, char *out, size_t max)
{
	const struct out_header *found = NULL;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(h[i].name, name))
			continue;
		if (found)
			return -1;
		found = &h[i];
	}
	out[0] = '\0';
	if (!found)
		return 1;
	if (!found->value || !found->n || found->n > max || memchr(found->value, '\0', found->n) || !utf8_valid(found->value, found->n))
		return -1;
	memcpy(out, found->value, found->n);
	out[found->n] = '\0';
	return 0;
}

/* The same of a word: -1 also with a byte that none of ours has. */
static int
get(const struct out_header *h, size_t n, const char *name, char *out, size_t max)
{
	int got = get_text(h, n, name, out, max);

	for (const char *p = out; !got && *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 127)
			return -1;
	return got;
}

/* A job's or a tenant's name, by the rule of jobs: a blank within it is nothing odd. */
static int
get_name(const struct out_header *h, size_t n, const char *name, char *out, size_t max)
{
	int got = get_text(h, n, name, out, max);

	return got || !job_name_fault(out) ? got : -1;
}

static int
bad(struct err *e, const char *name)
{
	return err_set(e, ERR_INVALID_JOB, "the header %s of a deferred job is missing or not as a poller writes it", name);
}

static int
get_int(const struct out_header *h, size_t n, const char *name, int64_t max, int64_t *v, struct err *e)
{
	char text[24];

	if (get(h, n, name, text, sizeof(text) - 1) || units_int(text, v) < 0 || *v < 0 || *v > max)
		return bad(e, name);
	return 0;
}

static int
get_time(const struct out_header *h, size_t n, const char *name, bool needed, int64_t *ns, struct err *e)
{
	char text[UNITS_TEXT];
	int got = get(h, n, name, text, sizeof(text) - 1);

	*ns = 0;
	if (got > 0 && !needed)
		return 0;
	if (got || units_time(text, ns) < 0 || *ns < 0)
		return bad(e, name);
	return 0;
}

static bool
number(const char **p, char end, uint32_t max, uint32_t *v)
{
	uint64_t n = 0;
	const char *s = *p;

	if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
		return false;
	for (; *s >= '0' && *s <= '9' && n <= max; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	if (n > max || *s != end)
		return false;
	*p = s + 1;
	*v = (uint32_t)n;
	return true;
}

static int
get_tasks(const struct out_header *h, size_t n, struct deferral *d, struct err *e)
{
	char text[JOB_SOURCES_MAX * TASK_TEXT + 2];
	const char *p = text;
	size_t len;

	if (get(h, n, "deferred_tasks", text, sizeof(text) - 2))
		return bad(e, "deferred_tasks");
	len = strlen(text);
	text[len] = ',';
	text[len + 1] = '\0';
	for (d->n_tasks = 0; *p; d->n_tasks++) {
		struct defer_task *t = &d->task[d->n_tasks];
		uint32_t streamed;

		if (d->n_tasks == JOB_SOURCES_MAX || !number(&p, '.', DEFER_COUNT_MAX, &t->attempt) || !number(&p, '.', t->attempt, &t->charged) ||
		    !number(&p, '.', 1, &t->crashes) || !number(&p, ',', 1, &streamed))
			return bad(e, "deferred_tasks");
		t->streamed = streamed;
	}
	return 0;
}

static int
get_why(const struct out_header *h, size_t n, struct deferral *d, struct err *e)
{
	char text[16];

	if (get(h, n, "deferred_reason", text, sizeof(text) - 1))
		return bad(e, "deferred_reason");
	for (int i = 0; i < DEFER__MAX; i++) {
		if (!strcmp(text, why_names[i])) {
			d->why = (enum defer_why)i;
			return 0;
		}
	}
	return bad(e, "deferred_reason");
}

static int
get_origin(const struct out_header *h, size_t n, struct deferral *d, struct err *e)
{
	int64_t partition;

	if (get(h, n, "origin_topic", d->topic, sizeof(d->topic) - 1))
		return bad(e, "origin_topic");
	for (const char *p = d->topic; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *p))
			return bad(e, "origin_topic");
	if (get_int(h, n, "origin_partition", INT32_MAX, &partition, e) < 0 || get_int(h, n, "origin_offset", INT64_MAX, &d->offset, e) < 0)
		return -1;
	d->partition = (int32_t)partition;
	return 0;
}

int
deferral_read(const struct out_header *h, size_t n, struct deferral *d, struct err *e)
{
	char version[8];
	int64_t count;

	memset(d, 0, sizeof(*d));
	if (n > DEFER_HEADERS_MAX)
		return err_set(e, ERR_INVALID_JOB, "a deferred job with more than %d headers is none of a poller", DEFER_HEADERS_MAX);
	if (get(h, n, "deferred_version", version, sizeof(version) - 1) || strcmp(version, VERSION_TEXT))
		return bad(e, "deferred_version");
	if (get_time(h, n, "deferred_until", true, &d->due_ns, e) < 0 || get_time(h, n, "received_at", true, &d->received_ns, e) < 0 ||
	    get_time(h, n, "started_at", false, &d->started_ns, e) < 0 || get_why(h, n, d, e) < 0 ||
	    get_int(h, n, "deferred_count", DEFER_COUNT_MAX, &count, e) < 0 || get_tasks(h, n, d, e) < 0 || get_origin(h, n, d, e) < 0)
		return -1;
	if (!count)
		return bad(e, "deferred_count");
	d->count = (uint32_t)count;
	if (get_name(h, n, "job_id", d->job_id, sizeof(d->job_id) - 1))
		return bad(e, "job_id");
	if (get_name(h, n, "org_id", d->org_id, sizeof(d->org_id) - 1))
		return bad(e, "org_id");
	if (get(h, n, "error_type", d->error, sizeof(d->error) - 1) < 0 || (d->error[0] && err_class_by_name(d->error) < 0))
		return bad(e, "error_type");
	if (get(h, n, "traceparent", d->traceparent, sizeof(d->traceparent) - 1) < 0)
		return bad(e, "traceparent");
	return 0;
}

/* ---- the key of a partition's marks --------------------------------------------------------------------------------- */

void
defer_key_make(uint8_t key[DEFER_KEY])
{
	if (RAND_bytes(key, DEFER_KEY) != 1)
		BUG("no random bytes");
}

void
defer_meta_write(const uint8_t key[DEFER_KEY], char text[DEFER_META_TEXT])
{
	struct buf b = BUF_INIT;

	base64_encode(&b, key, DEFER_KEY);
	snprintf(text, DEFER_META_TEXT, "D1%s", buf_str(&b));
	buf_release(&b);
}

bool
defer_meta_read(const char *text, size_t n, uint8_t key[DEFER_KEY])
{
	struct buf b = BUF_INIT;
	bool good = n == DEFER_META_TEXT - 1 && !memcmp(text, "D1", 2) && base64_decode(&b, text + 2, n - 2) == 0 && b.len == DEFER_KEY;

	if (good)
		memcpy(key, b.p, DEFER_KEY);
	buf_release(&b);
	return good;
}

/* ---- marks: offsets with a comma between two, each with an 'e' behind it where its job has ended ---------------------------------------------------------------------------------------------------------- */

static void
sign(const uint8_t key[DEFER_KEY], int32_t partition, const void *value, size_t n, uint8_t mac[MAC_BYTES])
{
	uint8_t whole[EVP_MAX_MD_SIZE];
	struct buf b = BUF_INIT;
	unsigned len = 0;

	buf_printf(&b, "mark %d\n", (int)partition);
	buf_add(&b, value, n);
	if (!HMAC(EVP_sha256(), key, DEFER_KEY, (const uint8_t *)b.p, b.len, whole, &len) || len < MAC_BYTES)
		BUG("libcrypto cannot sign");
	memcpy(mac, whole, MAC_BYTES);
	buf_release(&b);
}

bool
defer_mark_is(const struct out_header *h, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(h[i].name, "deferred_mark"))
			return true;
	return false;
}

/* The value is written: the headers say what it is, and that it is the group's. */
static void
finish_signed(const uint8_t key[DEFER_KEY], int32_t partition, struct out_record *out)
{
	struct buf text = BUF_INIT;
	uint8_t mac[MAC_BYTES];

	sign(key, partition, out->value.p, out->value.len, mac);
	base64_encode(&text, mac, sizeof(mac));
	put(out, "deferred_version", VERSION_TEXT);
	put(out, "deferred_mark", buf_str(&text));
	out->partition = partition;
	buf_release(&text);
}

void
defer_mark_write(const uint8_t key[DEFER_KEY], int32_t partition, const struct defer_done *done, size_t n, struct out_record *out)
{
	out_begin(out, 256);
	for (size_t i = 0; i < n; i++)
		buf_printf(&out->value, "%s%lld%s", i ? "," : "", (long long)done[i].offset, done[i].ended ? "e" : "");
	finish_signed(key, partition, out);
}

static bool
signed_text(const uint8_t key[DEFER_KEY], int32_t partition, const char *text, const void *value, size_t n)
{
	struct buf b = BUF_INIT;
	uint8_t mac[MAC_BYTES];
	bool good;

	sign(key, partition, value, n, mac);
	good = base64_decode(&b, text, strlen(text)) == 0 && b.len == sizeof(mac) && !CRYPTO_memcmp(b.p, mac, sizeof(mac));
	buf_release(&b);
	return good;
}

static bool
signed_by(const uint8_t key[DEFER_KEY], int32_t partition, const struct out_header *h, size_t n_headers, const void *value, size_t n)
{
	char text[64];

	return n && !get(h, n_headers, "deferred_version", text, 8) && !strcmp(text, VERSION_TEXT) &&
	    !get(h, n_headers, "deferred_mark", text, sizeof(text) - 1) && signed_text(key, partition, text, value, n);
}

int
defer_mark_read(const uint8_t key[DEFER_KEY], int32_t partition, const struct out_header *h, size_t n_headers, const void *value, size_t n,
    struct defer_done out[DEFER_MARK_MAX])
{
	const char *p = value, *end = p + n;
	int found = 0;

	if (!signed_by(key, partition, h, n_headers, value, n))
		return -1;
	for (;;) {
		char number[24];
		const char *comma = memchr(p, ',', (size_t)(end - p));
		size_t len = (size_t)((comma ? comma : end) - p);

		if (found == DEFER_MARK_MAX || len >= sizeof(number))
			return -1;
		out[found].ended = len && p[len - 1] == 'e';
		len -= out[found].ended;
		memcpy(number, p, len);
		number[len] = '\0';
		if (units_int(number, &out[found].offset) < 0 || out[found].offset < 0)
			return -1;
		found++;
		if (!comma)
			return found;
		p = comma + 1;
	}
}

/* ---- wishes: "cancel", and the origin as hexadecimal digits ----------------------------------------------------------- */

#define CANCEL_WORD "cancel "
#define CANCEL_DIGITS (16 + 8 + 16 + 32)

void
defer_cancel_write(const uint8_t key[DEFER_KEY], int32_t partition, const struct defer_origin *o, struct out_record *out)
{
	out_begin(out, 256);
	buf_printf(&out->value, CANCEL_WORD "%016llx%08x%016llx", (unsigned long long)o->topic, (unsigned)o->partition, (unsigned long long)o->offset);
	for (size_t i = 0; i < sizeof(o->digest); i++)
		buf_printf(&out->value, "%02x", o->digest[i]);
	finish_signed(key, partition, out);
}

/* The next n digits, at most 16. */
static bool
digits(const char **p, size_t n, uint64_t *v)
{
	*v = 0;
	for (size_t i = 0; i < n; i++, ++*p) {
		const char *all = "0123456789abcdef", *at = **p ? strchr(all, **p) : NULL;

		if (!at)
			return false;
		*v = *v << 4 | (uint64_t)(at - all);
	}
	return true;
}

bool
defer_cancel_read(const uint8_t key[DEFER_KEY], int32_t partition, const struct out_header *h, size_t n_headers, const void *value, size_t n,
    struct defer_origin *o)
{
	const char *p = value;
	uint64_t id, offset, byte;

	if (n != strlen(CANCEL_WORD) + CANCEL_DIGITS || memcmp(p, CANCEL_WORD, strlen(CANCEL_WORD)) || !signed_by(key, partition, h, n_headers, value, n))
		return false;
	p += strlen(CANCEL_WORD);
	if (!digits(&p, 16, &o->topic) || !digits(&p, 8, &id) || !digits(&p, 16, &offset))
		return false;
	o->partition = (int32_t)id;
	o->offset = (int64_t)offset;
	for (size_t i = 0; i < sizeof(o->digest); i++) {
		if (!digits(&p, 2, &byte))
			return false;
		o->digest[i] = (uint8_t)byte;
	}
	return true;
}
