/*
 * task.c - payloads of HELLO, SETUP, READY, JOB, DONE, PROGRESS and LOG; see task.h.
 *
 * Encoders are for one's own side and cut what is too long; decoders read what the other side sent and refuse what
 * breaks a bound, so that neither a bug nor a taken-over worker gets past them. Nothing here logs but log_frame_relay.
 */
#include <stdlib.h>
#include <string.h>

#include "common/hosts.h"
#include "common/task.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define PATH_BYTES 4096
#define LOG_NAME 64
#define LOG_STRING 2048
#define LOG_PAYLOAD 8192

static int
bad(struct err *e, const char *what, const char *why)
{
	return err_set(e, ERR_WORKER_PROTOCOL, "%s: %s", what, why);
}

/* "What ends too early or has bytes to spare" */
static int
finish(const struct cursor *c, const char *what, struct err *e)
{
	return cursor_end(c) ? 0 : bad(e, what, "a field is out of bounds, missing, or there is more than it should hold");
}

static void
put_fixed(struct buf *b, const char *s, size_t size)
{
	buf_bytes(b, s, strnlen(s, size - 1));
}

/* SETUP */

void
setup_init(struct setup *s)
{
	memset(s, 0, sizeof(*s));
}

void
setup_release(struct setup *s)
{
	strlist_release(&s->roots);
	egress_lists_release(&s->egress);
	setup_init(s);
}

static void
put_list(struct buf *b, const struct strlist *l)
{
	buf_u16(b, (uint16_t)l->n);
	for (size_t i = 0; i < l->n; i++)
		buf_cstr(b, l->v[i]);
}

void
setup_encode(const struct setup *s, struct buf *b)
{
	buf_u8(b, (uint8_t)s->role);
	buf_u8(b, (uint8_t)s->log_level);
	buf_i64(b, s->spool_max);
	buf_i64(b, s->memory_max);
	buf_i64(b, s->cpu_max_s);
	buf_i64(b, s->open_files);
	buf_u8(b, s->allow_faults);
	put_list(b, &s->roots);
	buf_i64(b, s->keep_ms);
	egress_lists_encode(&s->egress, b);
	buf_u8(b, (uint8_t)s->sandbox.mode);
	buf_u8(b, (uint8_t)s->sandbox.unlisted);
	buf_u32(b, s->sandbox.landlock_max);
	buf_u32(b, s->sandbox.uid);
	buf_u32(b, s->sandbox.gid);
	buf_u8(b, s->brokered);
}

static void
get_list(struct strlist *l, size_t max, struct cursor *c)
{
	size_t n = cursor_u16(c);

	if (n > FILTER_LIST_MAX)
		cursor_fail(c);
	for (size_t i = 0; i < n && !c->bad; i++) {
		char *s = cursor_strdup(c, max);

		if (s)
			strlist_add(l, s);
		free(s);
	}
}

static void
get_roots(struct strlist *l, struct cursor *c)
{
	get_list(l, PATH_BYTES, c);
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i][0] != '/')
			cursor_fail(c);
}

static void
get_sandbox(struct sandbox_rules *r, struct cursor *c)
{
	unsigned mode = cursor_u8(c), unlisted = cursor_u8(c);

	r->landlock_max = cursor_u32(c);
	r->uid = cursor_u32(c);
	r->gid = cursor_u32(c);
	if (mode >= SANDBOX_MODE__MAX || unlisted >= SANDBOX_UNLISTED__MAX)
		cursor_fail(c);
	r->mode = (enum sandbox_mode)mode;
	r->unlisted = (enum sandbox_unlisted)unlisted;
}

int
setup_decode(struct setup *s, const void *p, size_t n, struct err *e)
{
	struct cursor c;
	unsigned role, level, faults, brokered;

	setup_init(s);
	cursor_init(&c, p, n);
	role = cursor_u8(&c);
	level = cursor_u8(&c);
	s->spool_max = cursor_i64(&c);
	s->memory_max = cursor_i64(&c);
	s->cpu_max_s = cursor_i64(&c);
	s->open_files = cursor_i64(&c);
	faults = cursor_u8(&c);
	get_roots(&s->roots, &c);
	s->keep_ms = cursor_i64(&c);
	egress_lists_decode(&s->egress, &c);
	get_sandbox(&s->sandbox, &c);
	brokered = cursor_u8(&c);
	if (role >= ROLE__MAX || level > LOG_DEBUG || faults > 1 || brokered > 1 || s->spool_max < 0 || s->memory_max < 0 ||
	    s->cpu_max_s < 0 || s->open_files < 8 || s->keep_ms < 0)
		cursor_fail(&c);
	s->role = (enum worker_role)role;
	s->log_level = (enum log_level)level;
	s->allow_faults = faults;
	s->brokered = brokered;
	if (finish(&c, "SETUP", e)) {
		setup_release(s);
		return -1;
	}
	return 0;
}

/* JOB */

void
task_spec_init(struct task_spec *t)
{
	memset(t, 0, sizeof(*t));
	t->connections = 1;
	filter_spec_init(&t->filter);
}

void
task_spec_release(struct task_spec *t)
{
	source_conf_release(&t->source);
	filter_spec_release(&t->filter);
	egress_lists_release(&t->egress);
	strlist_release(&t->narrow);
	strlist_release(&t->hosts);
	task_spec_init(t);
}

void
task_spec_encode(const struct task_spec *t, struct buf *b)
{
	buf_u8(b, (uint8_t)t->publish);
	buf_u32(b, t->attempt);
	buf_i64(b, t->deadline_ms);
	buf_i64(b, t->now_ns);
	buf_i64(b, t->entries_max);
	buf_u32(b, t->connections);
	put_fixed(b, t->tenant, sizeof(t->tenant));
	put_fixed(b, t->endpoint, sizeof(t->endpoint));
	put_fixed(b, t->host_key, sizeof(t->host_key));
	put_fixed(b, t->root, sizeof(t->root));
	put_fixed(b, t->below, sizeof(t->below));
	buf_u8(b, (uint8_t)(t->last | t->narrows << 1 | t->cross_mounts << 2 | t->asks << 3));
	put_list(b, &t->narrow);
	egress_lists_encode(&t->egress, b);
	put_list(b, &t->hosts);
	source_conf_encode(&t->source, b);
	filter_spec_encode(&t->filter, b);
}

/* Relative, no empty or ".." component; "." alone is the root itself. */
static bool
below_ok(const char *s)
{
	if (!strcmp(s, "."))
		return true;
	for (;;) {
		size_t n = strcspn(s, "/");

		if (!n || (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

int
task_spec_decode(struct task_spec *t, const void *p, size_t n, struct err *e)
{
	struct cursor c;
	unsigned publish, ends;

	task_spec_init(t);
	cursor_init(&c, p, n);
	publish = cursor_u8(&c);
	t->attempt = cursor_u32(&c);
	t->deadline_ms = cursor_i64(&c);
	t->now_ns = cursor_i64(&c);
	t->entries_max = cursor_i64(&c);
	t->connections = cursor_u32(&c);
	cursor_str(&c, t->tenant, sizeof(t->tenant));
	cursor_str(&c, t->endpoint, sizeof(t->endpoint));
	cursor_str(&c, t->host_key, sizeof(t->host_key));
	cursor_str(&c, t->root, sizeof(t->root));
	cursor_str(&c, t->below, sizeof(t->below));
	ends = cursor_u8(&c);
	get_roots(&t->narrow, &c);
	if (ends > 15 || (t->narrow.n && !(ends & 2)))
		cursor_fail(&c);
	t->last = ends & 1;
	t->narrows = ends & 2;
	t->cross_mounts = ends & 4;
	t->asks = ends & 8;
	egress_lists_decode(&t->egress, &c);
	get_list(&t->hosts, HOSTS_TEXT - 1, &c);
	if (publish > PUBLISH_STREAM || !t->attempt || t->deadline_ms < 0 || t->entries_max < 0 || !t->connections || t->connections > CONNECTIONS_MAX)
		cursor_fail(&c);
	t->publish = (enum job_publish)publish;
	if ((t->root[0] && t->root[0] != '/') || (t->below[0] && !below_ok(t->below)))
		cursor_fail(&c);
	if (c.bad || source_conf_decode(&t->source, &c) || filter_spec_decode(&t->filter, &c))
		cursor_fail(&c);
	if (finish(&c, "JOB", e)) {
		task_spec_release(t);
		return -1;
	}
	return 0;
}

/* DONE */

const char *
task_phase_name(enum task_phase p)
{
	static const char *const names[PHASE__MAX] = {
		[PHASE_START] = "start", [PHASE_OPEN] = "open", [PHASE_LIST] = "list", [PHASE_CLOSE] = "close",
	};

	return (unsigned)p < PHASE__MAX ? names[p] : "?";
}

const char *
task_note_text(enum task_note n)
{
	static const char *const texts[NOTE__MAX] = {
		[NOTE_HASH_TOO_LARGE] = "without a checksum: larger than hash_max_size",
		[NOTE_HASH_UNREADABLE] = "without a checksum: the content could not be read",
		[NOTE_HASH_CHANGED] = "without a checksum: changed while being read",
		[NOTE_UNSTABLE] = "left out: new, changed or of unknown size while the source was watched (filters.stability)",
	};

	return (unsigned)n < NOTE__MAX ? texts[n] : "?";
}

bool
task_class_allowed(enum err_class cls)
{
	switch (cls) {
	case ERR_OK:
	case ERR_UNSUPPORTED:
	case ERR_POLICY:
	case ERR_NOT_FOUND:
	case ERR_AUTH:
	case ERR_PERMANENT:
	case ERR_TRANSIENT:
	case ERR_TIMEOUT:
	case ERR_PROTOCOL:
	case ERR_TRUNCATED:
	case ERR_LISTING_LOOP:
	case ERR_LIMIT:
	case ERR_SPOOL_FULL:
	case ERR_CANCELLED:
	case ERR_SYSTEM:
	case ERR_INTERNAL:
		return true;
	default:
		return false;
	}
}

void
task_done_encode(const struct task_done *d, struct buf *b)
{
	buf_u16(b, (uint16_t)d->cls);
	buf_u8(b, (uint8_t)d->phase);
	buf_u8(b, d->truncated);
	buf_u8(b, d->stale_login);
	buf_u64(b, d->listed);
	buf_u64(b, d->matched);
	buf_u64(b, d->skipped);
	buf_u64(b, d->unreadable);
	for (int i = 0; i < NOTE__MAX; i++)
		buf_u64(b, d->notes[i]);
	buf_u64(b, d->spool_bytes);
	for (int i = 0; i < PHASE__MAX; i++)
		buf_u64(b, d->phase_us[i]);
	put_fixed(b, d->text, sizeof(d->text));
	put_fixed(b, d->peer, sizeof(d->peer));
	buf_u32(b, d->reused);
	buf_u32(b, d->reconnected);
	buf_u64(b, (uint64_t)d->cert_expires);
	put_fixed(b, d->cert_host, sizeof(d->cert_host));
	buf_u64(b, d->retry_after_ms);
	buf_u8(b, (uint8_t)d->n_named);
	for (uint32_t i = 0; i < d->n_named; i++) {
		put_fixed(b, d->named[i].path, sizeof(d->named[i].path));
		put_fixed(b, d->named[i].reason, sizeof(d->named[i].reason));
	}
}

/* NULL, or the rule that the account breaks. */
static const char *
done_rule(const struct task_done *d, unsigned phase, unsigned truncated, unsigned stale)
{
	if (!task_class_allowed(d->cls))
		return "class that a worker may not report";
	if (phase >= PHASE__MAX || truncated > 1 || stale > 1)
		return "unknown phase or flag";
	if (stale && d->cls != ERR_AUTH)
		return "a stale login without the class auth";
	if (d->matched > d->listed || d->skipped > d->listed - d->matched)
		return "counts that do not add up";
	for (int i = 0; i < NOTE__MAX; i++)
		if (d->notes[i] > d->listed)
			return "more files noted than listed";
	if (d->reused > TASK_REUSED_MAX || d->reconnected > TASK_REUSED_MAX)
		return "more connections than one task can have";
	if (d->cert_expires < 0 || d->cert_expires > TASK_TIME_MAX)
		return "a certificate that ends at no time";
	if (d->n_named > TASK_UNREADABLE_MAX || d->n_named > d->unreadable)
		return "more names than unreadable entries";
	return NULL;
}

int
task_done_decode(struct task_done *d, const void *p, size_t n, struct err *e)
{
	struct cursor c;
	unsigned phase, truncated, stale;
	const char *why;

	memset(d, 0, sizeof(*d));
	cursor_init(&c, p, n);
	d->cls = (enum err_class)cursor_u16(&c);
	phase = cursor_u8(&c);
	truncated = cursor_u8(&c);
	stale = cursor_u8(&c);
	d->listed = cursor_u64(&c);
	d->matched = cursor_u64(&c);
	d->skipped = cursor_u64(&c);
	d->unreadable = cursor_u64(&c);
	for (int i = 0; i < NOTE__MAX; i++)
		d->notes[i] = cursor_u64(&c);
	d->spool_bytes = cursor_u64(&c);
	for (int i = 0; i < PHASE__MAX; i++)
		d->phase_us[i] = cursor_u64(&c);
	cursor_str(&c, d->text, sizeof(d->text));
	cursor_str(&c, d->peer, sizeof(d->peer));
	d->reused = cursor_u32(&c);
	d->reconnected = cursor_u32(&c);
	d->cert_expires = (int64_t)cursor_u64(&c);
	cursor_str(&c, d->cert_host, sizeof(d->cert_host));
	d->retry_after_ms = cursor_u64(&c);
	d->n_named = cursor_u8(&c);
	if (!c.bad && (why = done_rule(d, phase, truncated, stale)))
		return bad(e, "DONE", why);
	for (uint32_t i = 0; i < d->n_named && !c.bad; i++) {
		cursor_str(&c, d->named[i].path, sizeof(d->named[i].path));
		cursor_str(&c, d->named[i].reason, sizeof(d->named[i].reason));
	}
	d->phase = (enum task_phase)phase;
	d->truncated = truncated;
	d->stale_login = stale;
	return finish(&c, "DONE", e);
}

/* HELLO, READY, PROGRESS */

void
hello_encode(struct buf *b)
{
	buf_u32(b, IPC_VERSION);
	buf_cstr(b, ipc_build_id);
}

int
hello_decode(struct hello *h, const void *p, size_t n, struct err *e)
{
	struct cursor c;

	cursor_init(&c, p, n);
	h->version = cursor_u32(&c);
	cursor_str(&c, h->build_id, sizeof(h->build_id));
	return finish(&c, "HELLO", e);
}

void
ready_encode(const struct ready *r, struct buf *b)
{
	put_fixed(b, r->sandbox, sizeof(r->sandbox));
	buf_u8(b, (uint8_t)r->active.mode);
	buf_u8(b, r->active.landlock);
	buf_u8(b, r->active.filter);
	buf_u32(b, r->active.uid);
}

int
ready_decode(struct ready *r, const void *p, size_t n, struct err *e)
{
	struct cursor c;
	unsigned mode, filter;

	cursor_init(&c, p, n);
	cursor_str(&c, r->sandbox, sizeof(r->sandbox));
	mode = cursor_u8(&c);
	r->active.landlock = cursor_u8(&c);
	filter = cursor_u8(&c);
	r->active.uid = cursor_u32(&c);
	if (mode >= SANDBOX_MODE__MAX || filter > 1)
		cursor_fail(&c);
	r->active.mode = (enum sandbox_mode)mode;
	r->active.filter = filter;
	return finish(&c, "READY", e);
}

void
progress_encode(const struct progress *g, struct buf *b)
{
	buf_u64(b, g->listed);
	buf_u64(b, g->matched);
}

int
progress_decode(struct progress *g, const void *p, size_t n, struct err *e)
{
	struct cursor c;

	cursor_init(&c, p, n);
	g->listed = cursor_u64(&c);
	g->matched = cursor_u64(&c);
	if (g->matched > g->listed)
		cursor_fail(&c);
	return finish(&c, "PROGRESS", e);
}

/* LOG */

static bool
name_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return n && !s[n];
}

void
log_frame_encode(struct buf *b, enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	size_t start = b->len, count_at, kept = 0;

	buf_u8(b, (uint8_t)level);
	buf_bytes(b, event, strnlen(event, LOG_NAME - 1));
	count_at = b->len;
	buf_u8(b, 0);
	for (size_t i = 0; i < n && kept < TASK_LOG_FIELDS; i++) {
		size_t before = b->len, len = f[i].n < LOG_STRING ? f[i].n : LOG_STRING;

		buf_u8(b, (uint8_t)f[i].kind);
		buf_bytes(b, f[i].key, strnlen(f[i].key, LOG_NAME - 1));
		if (f[i].kind == LOG_F_STR) {
			buf_u8(b, f[i].s != NULL);
			buf_bytes(b, f[i].s, f[i].s ? len : 0);
		} else if (f[i].kind == LOG_F_DBL) {
			buf_add(b, &f[i].d, sizeof(f[i].d));
		} else {
			buf_i64(b, f[i].i);
		}
		if (b->len - start > LOG_PAYLOAD)
			b->len = before;    /* a field that does not fit is left out, the line still goes */
		else
			kept++;
	}
	b->p[count_at] = (char)kept;
}

static void
get_log_value(struct log_field *f, unsigned kind, struct cursor *c)
{
	uint64_t bits;
	unsigned there;

	switch (kind) {
	case LOG_F_STR:
		there = cursor_u8(c);
		f->s = cursor_bytes(c, &f->n, LOG_STRING);
		if (there > 1 || (!there && f->n))
			cursor_fail(c);
		if (!there)
			f->s = NULL;
		break;
	case LOG_F_DBL:
		bits = cursor_u64(c);
		memcpy(&f->d, &bits, sizeof(f->d));
		break;
	case LOG_F_INT:
		f->i = cursor_i64(c);
		break;
	case LOG_F_BOOL:
		f->i = cursor_i64(c);
		if (f->i != 0 && f->i != 1)
			cursor_fail(c);
		break;
	default:
		cursor_fail(c);
	}
}

/* The members that the line has already, so that a worker cannot say them in the master's name. */
static bool
key_reserved(const char *key)
{
	static const char *const ours[] = {
		"time", "level", "program", "pid", "event", "cut", "slot", "worker_pid",
	};

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (!strcmp(ours[i], key))
			return true;
	return false;
}

int
log_frame_relay(const void *p, size_t n, int slot, int pid, struct err *e)
{
	struct log_field f[TASK_LOG_FIELDS + 2] = { LI("slot", slot), LI("worker_pid", pid) };
	char keys[TASK_LOG_FIELDS][LOG_NAME], event[LOG_NAME];
	struct cursor c;
	unsigned level;
	size_t count;

	cursor_init(&c, p, n);
	level = cursor_u8(&c);
	cursor_str(&c, event, sizeof(event));
	count = cursor_u8(&c);
	if (level > LOG_DEBUG || !name_ok(event) || count > TASK_LOG_FIELDS)
		cursor_fail(&c);
	for (size_t i = 0; i < count && !c.bad; i++) {
		unsigned kind = cursor_u8(&c);

		cursor_str(&c, keys[i], sizeof(keys[i]));
		if (!name_ok(keys[i]) || key_reserved(keys[i]))
			cursor_fail(&c);
		for (size_t j = 0; j < i && !c.bad; j++)
			if (!strcmp(keys[j], keys[i]))
				cursor_fail(&c);
		if (c.bad)
			break;
		f[i + 2] = (struct log_field){ .key = keys[i] };
		memcpy(&f[i + 2].kind, &kind, sizeof(kind));
		get_log_value(&f[i + 2], kind, &c);
	}
	if (finish(&c, "LOG", e))
		return -1;
	log_event((enum log_level)level, event, f, count + 2);
	return 0;
}
