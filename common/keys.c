/*
 * keys.c - the frames KEYS_ASK and KEYS: encoded on one side, checked on the other; see keys.h.
 *
 * The master's keys.c and the worker's keys.c use it. Decoders take nothing that the other side's code would not have
 * written: kinds that fit their members, bounded texts of visible characters. Secrets are cleared before they are freed.
 */
#include <stdlib.h>
#include <string.h>

#include "common/field.h"
#include "common/keys.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define LIFETIME_MAX_NS (INT64_C(7) * 86400 * 1000000000)

static void
wipe(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

static bool
visible(const char *s)
{
	for (; *s; s++)
		if (*s < 0x21 || *s > 0x7e)
			return false;
	return true;
}

/* ---- what is asked ---- */

void
keys_ask_init(struct keys_ask *a)
{
	memset(a, 0, sizeof(*a));
}

void
keys_ask_release(struct keys_ask *a)
{
	free(a->url);
	wipe(&a->token);
	free(a->role_arn);
	free(a->session_name);
	wipe(&a->external_id);
	free(a->sts_url);
	free(a->sts_region);
	egress_lists_release(&a->egress);
	source_conf_release(&a->conf);
	keys_ask_init(a);
}

void
keys_ask_encode(const struct keys_ask *a, struct buf *b)
{
	buf_u8(b, (uint8_t)a->base);
	buf_cstr(b, a->url);
	buf_cstr(b, a->token);
	buf_cstr(b, a->role_arn);
	buf_cstr(b, a->session_name);
	buf_cstr(b, a->external_id);
	buf_u32(b, a->duration_s);
	buf_cstr(b, a->sts_url);
	buf_cstr(b, a->sts_region);
	egress_lists_encode(&a->egress, b);
	source_conf_encode(&a->conf, b);
}

/* Fits what is asked for to the base that it is asked with? */
static bool
ask_ok(const struct keys_ask *a)
{
	bool instance = a->base == KEYS_METADATA || a->base == KEYS_CONTAINER, role = *a->role_arn;
	const struct field_value *v = a->conf.v;

	if (!visible(a->url) || !visible(a->role_arn) || !visible(a->session_name) || !visible(a->external_id) ||
	    !visible(a->sts_url) || !visible(a->sts_region) || a->conf.type != SOURCE_S3)
		return false;
	/* an Authorization may have a space */
	if (strpbrk(a->token, "\r\n") || (a->base == KEYS_WEB_IDENTITY && !visible(a->token)))
		return false;
	if (instance != (*a->url != '\0') || (!instance && !role) || role != (*a->sts_url && *a->sts_region))
		return false;
	if ((a->base == KEYS_WEB_IDENTITY) != (*a->token != '\0') && a->base != KEYS_CONTAINER)
		return false;
	if (a->base == KEYS_WEB_IDENTITY && *a->external_id)
		return false;
	return (a->base == KEYS_STATIC) == (v[SF_S3_ACCESS_KEY_ID].set && v[SF_S3_SECRET_ACCESS_KEY].set);
}

int
keys_ask_decode(struct keys_ask *a, const void *p, size_t n, struct err *e)
{
	struct cursor c;
	unsigned base;

	keys_ask_init(a);
	cursor_init(&c, p, n);
	base = cursor_u8(&c);
	a->url = cursor_strdup(&c, KEYS_URL_MAX);
	a->token = cursor_strdup(&c, KEYS_TOKEN_MAX);
	a->role_arn = cursor_strdup(&c, 2048);
	a->session_name = cursor_strdup(&c, 64);
	a->external_id = cursor_strdup(&c, 1224);
	a->duration_s = cursor_u32(&c);
	a->sts_url = cursor_strdup(&c, 600);
	a->sts_region = cursor_strdup(&c, 64);
	egress_lists_decode(&a->egress, &c);
	if (base >= KEYS_BASE__MAX)
		cursor_fail(&c);
	a->base = c.bad ? KEYS_STATIC : (enum keys_base)base;
	if (c.bad || source_conf_decode(&a->conf, &c) || !cursor_end(&c) || !ask_ok(a)) {
		keys_ask_release(a);
		return err_set(e, ERR_WORKER_PROTOCOL, "KEYS_ASK: a field is out of bounds, missing, or does not fit the others");
	}
	return 0;
}

/* ---- what was fetched ---- */

void
keys_wipe(struct keys *k)
{
	wipe(&k->access_key_id);
	wipe(&k->secret_access_key);
	wipe(&k->session_token);
	k->expires_ns = 0;
}

static bool
text_ok(const char *s, enum source_field f)
{
	int64_t min, max;

	field_range(&field_rows[f], &min, &max);
	return s && *s && strlen(s) <= (size_t)max && visible(s);
}

const char *
keys_fault(const struct keys *k, int64_t now_ns)
{
	if (!text_ok(k->access_key_id, SF_S3_ACCESS_KEY_ID))
		return "its access key id is missing, too long, or has odd characters";
	if (!text_ok(k->secret_access_key, SF_S3_SECRET_ACCESS_KEY))
		return "its secret key is missing, too long, or has odd characters";
	if (!text_ok(k->session_token, SF_S3_SESSION_TOKEN))
		return "its session token is missing, too long, or has odd characters";
	if (k->expires_ns <= now_ns)
		return "they have expired already (look at this machine's clock, too)";
	if (k->expires_ns - now_ns > LIFETIME_MAX_NS)
		return "they would be valid for more than a week, which no temporary credentials are";
	return NULL;
}

void
keys_encode(const struct keys *k, struct buf *b)
{
	buf_cstr(b, k->access_key_id);
	buf_cstr(b, k->secret_access_key);
	buf_cstr(b, k->session_token);
	buf_i64(b, k->expires_ns);
}

int
keys_decode(struct keys *k, const void *p, size_t n, int64_t now_ns, struct err *e)
{
	struct cursor c;
	const char *why;

	memset(k, 0, sizeof(*k));
	cursor_init(&c, p, n);
	k->access_key_id = cursor_strdup(&c, 255);
	k->secret_access_key = cursor_strdup(&c, 1024);
	k->session_token = cursor_strdup(&c, 8192);
	k->expires_ns = cursor_i64(&c);
	why = !cursor_end(&c) ? "a field is out of bounds, missing, or there is more than it should hold" : keys_fault(k, now_ns);
	if (!why)
		return 0;
	keys_wipe(k);
	return err_set(e, ERR_WORKER_PROTOCOL, "KEYS: %s", why);
}
