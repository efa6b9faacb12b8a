/*
 * record.c - encodes and checks one file of a listing; see record.h.
 *
 * The worker encodes, the master decodes and trusts nothing: one check serves both ends, so that what a right
 * worker sends is what the master takes. Never allocates; decoded strings point into the frame.
 */
#include <string.h>

#include "common/escape.h"
#include "common/record.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define RECORD_VERSION_MAX 1024
#define RECORD_CHECKSUM_MAX 256

enum { F_SYMLINK = 1, F_UTF8 = 2, F_TARGET = 4, F_VERSION = 8, F_CHECKSUM = 16, F_DIR = 32, F_LINK = 64, F_ALL = 127 };

static const char *const algorithms[] = { "etag", "md5", "sha256", "crc32" };
static const char *const origins[] = { "etag", "server", "local" };

void
record_init(struct record *r)
{
	/* The attributes are many bytes and few of them get used: how many is said by n_attrs. */
	memset(r, 0, offsetof(struct record, attrs));
	r->n_attrs = 0;
	r->size = -1;
	r->mtime_ns = TIME_UNKNOWN;
}

static bool
word_in(const char *const *words, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(words[i], s))
			return true;
	return false;
}

/* 1..max bytes without NUL */
static bool
text_ok(const char *p, size_t n, size_t max)
{
	return p && n && n <= max && !memchr(p, '\0', n);
}

static bool
visible(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return true;
}

/* NULL, or the rule that the record breaks, attributes aside. */
static const char *
broken_rule(const struct record *r)
{
	if (!text_ok(r->path, r->path_n, RECORD_PATH_MAX))
		return "path is empty, too long or holds a NUL";
	if (r->rel_off >= r->path_n)
		return "relative part begins past the path";
	if (r->size < -1)
		return "size is negative";
	if ((unsigned)r->precision >= MTIME__MAX)
		return "precision is unknown";
	if ((r->precision == MTIME_NONE) != (r->mtime_ns == TIME_UNKNOWN))
		return "precision and time do not agree";
	if ((unsigned)r->kind >= FILE__MAX)
		return "kind is unknown";
	if (r->kind != FILE_PLAIN && (r->size != -1 || r->checksum))
		return "size or checksum of what is no file";
	if (r->kind != FILE_PLAIN && r->is_symlink != (r->kind == FILE_LINK))
		return "kind and link do not agree";
	if (r->link_target && !r->is_symlink)
		return "link target of what is no link";
	if (r->link_target && !text_ok(r->link_target, r->link_target_n, RECORD_PATH_MAX))
		return "link target is empty, too long or holds a NUL";
	if (r->version && !text_ok(r->version, r->version_n, RECORD_VERSION_MAX))
		return "version is empty, too long or holds a NUL";
	if (!r->checksum)
		return r->checksum_algorithm[0] || r->checksum_origin[0] ? "algorithm without a checksum" : NULL;
	if (!text_ok(r->checksum, r->checksum_n, RECORD_CHECKSUM_MAX) || !visible(r->checksum, r->checksum_n))
		return "checksum is empty, too long or not visible";
	if (!word_in(algorithms, ARRAY_LEN(algorithms), r->checksum_algorithm))
		return "checksum algorithm is unknown";
	if (!word_in(origins, ARRAY_LEN(origins), r->checksum_origin))
		return "checksum origin is unknown";
	return NULL;
}

static const char *
attr_rule(const struct record_attr *a)
{
	if (a->id >= SA__MAX)
		return "attribute is unknown";
	if (a->is_int != attr_rows[a->id].is_int)
		return "attribute is of the wrong kind";
	if (!a->is_int && a->n && !text_ok(a->s, a->n, RECORD_ATTR_BYTES))
		return "attribute is too long or holds a NUL";
	return NULL;
}

/* Bytes of the encoded record. */
static size_t
record_bytes(const struct record *r)
{
	size_t n = 1 + 1 + 4 + r->path_n + 4 + 8 + 8 + 1;

	if (r->link_target)
		n += 4 + r->link_target_n;
	if (r->version)
		n += 4 + r->version_n;
	if (r->checksum)
		n += 4 + r->checksum_n + 4 + strlen(r->checksum_algorithm) + 4 + strlen(r->checksum_origin);
	for (size_t i = 0; i < r->n_attrs; i++)
		n += 2 + 1 + (r->attrs[i].is_int ? 8 : 4 + r->attrs[i].n);
	return n;
}

/* The writers of buf.h without a question for room at each field: there is room for all of them. */
static char *
put(char *p, const void *v, size_t n)
{
	memcpy(p, v, n);
	return p + n;
}

static char *
put_u8(char *p, uint8_t v)
{
	return put(p, &v, sizeof(v));
}

static char *
put_i64(char *p, int64_t v)
{
	return put(p, &v, sizeof(v));
}

static char *
put_bytes(char *p, const char *s, size_t n)
{
	uint32_t len = (uint32_t)n;

	p = put(p, &len, sizeof(len));
	return n ? put(p, s, n) : p;
}

static char *
put_attrs(char *p, const struct record *r)
{
	p = put_u8(p, (uint8_t)r->n_attrs);
	for (size_t i = 0; i < r->n_attrs; i++) {
		const struct record_attr *a = &r->attrs[i];

		p = put(p, &a->id, sizeof(a->id));
		p = put_u8(p, a->is_int);
		p = a->is_int ? put_i64(p, a->i) : put_bytes(p, a->s, a->n);
	}
	return p;
}

static char *
put_record(char *p, const struct record *r)
{
	uint32_t rel_off = (uint32_t)r->rel_off;

	p = put_u8(p, (uint8_t)((r->is_symlink ? F_SYMLINK : 0) | (r->utf8 ? F_UTF8 : 0) |
	    (r->link_target ? F_TARGET : 0) | (r->version ? F_VERSION : 0) |
	    (r->checksum ? F_CHECKSUM : 0) | (r->kind == FILE_DIR ? F_DIR : r->kind == FILE_LINK ? F_LINK : 0)));
	p = put_u8(p, (uint8_t)r->precision);
	p = put_bytes(p, r->path, r->path_n);
	p = put(p, &rel_off, sizeof(rel_off));
	p = put_i64(p, r->size);
	p = put_i64(p, r->mtime_ns);
	if (r->link_target)
		p = put_bytes(p, r->link_target, r->link_target_n);
	if (r->version)
		p = put_bytes(p, r->version, r->version_n);
	if (r->checksum) {
		p = put_bytes(p, r->checksum, r->checksum_n);
		p = put_bytes(p, r->checksum_algorithm, strlen(r->checksum_algorithm));
		p = put_bytes(p, r->checksum_origin, strlen(r->checksum_origin));
	}
	return put_attrs(p, r);
}

int
record_encode(struct record *r, struct buf *b, struct err *e)
{
	const char *why;
	size_t n;
	char *p;

	r->utf8 = r->path && r->path_n <= RECORD_PATH_MAX && utf8_valid(r->path, r->path_n);
	why = broken_rule(r);
	if (!why && r->n_attrs > RECORD_ATTR_MAX)
		why = "too many attributes";
	for (size_t i = 0; !why && i < r->n_attrs; i++)
		why = attr_rule(&r->attrs[i]);
	if (why)
		return err_set(e, ERR_LIMIT, "a file's record: %s", why);
	n = record_bytes(r);
	if (n > RECORD_MAX)
		return err_set(e, ERR_LIMIT, "a file's record is over %d bytes", RECORD_MAX);
	p = buf_room(b, n);
	if (put_record(p, r) != p + n)
		BUG("a record is not of its length");
	b->len += n;
	return 0;
}

static const char *
get_attrs(struct record *r, struct cursor *c, enum source_type type)
{
	uint64_t seen[(SA__MAX + 63) / 64] = { 0 };
	size_t n = cursor_u8(c);

	if (n > RECORD_ATTR_MAX)
		return "too many attributes";
	for (size_t i = 0; i < n && !c->bad; i++) {
		struct record_attr *a = &r->attrs[i];
		uint8_t kind;
		uint64_t bit;
		const char *why;

		a->id = cursor_u16(c);
		kind = cursor_u8(c);
		if (kind > 1)
			return "attribute is of an unknown kind";
		a->is_int = kind == 1;
		if (a->is_int)
			a->i = cursor_i64(c);
		else
			a->s = cursor_bytes(c, &a->n, RECORD_ATTR_BYTES);
		if (c->bad)
			break;
		why = attr_rule(a);
		if (why)
			return why;
		if (attr_rows[a->id].source != (int)type)
			return "attribute is of another source type";
		bit = UINT64_C(1) << (a->id & 63);
		if (seen[a->id >> 6] & bit)
			return "attribute is there twice";
		seen[a->id >> 6] |= bit;
	}
	r->n_attrs = n;
	return NULL;
}

int
record_decode(struct record *r, struct cursor *c, enum source_type type, struct err *e)
{
	const uint8_t *start = c->p;
	const char *why = NULL;
	uint8_t flags;

	record_init(r);
	flags = cursor_u8(c);
	r->precision = (enum mtime_precision)cursor_u8(c);
	r->path = cursor_bytes(c, &r->path_n, RECORD_PATH_MAX);
	r->rel_off = cursor_u32(c);
	r->size = cursor_i64(c);
	r->mtime_ns = cursor_i64(c);
	r->is_symlink = flags & F_SYMLINK;
	r->utf8 = flags & F_UTF8;
	r->kind = !(flags & (F_DIR | F_LINK)) ? FILE_PLAIN : !(flags & F_LINK) ? FILE_DIR : !(flags & F_DIR) ? FILE_LINK : FILE__MAX;
	if (flags & F_TARGET)
		r->link_target = cursor_bytes(c, &r->link_target_n, RECORD_PATH_MAX);
	if (flags & F_VERSION)
		r->version = cursor_bytes(c, &r->version_n, RECORD_VERSION_MAX);
	if (flags & F_CHECKSUM) {
		r->checksum = cursor_bytes(c, &r->checksum_n, RECORD_CHECKSUM_MAX);
		cursor_str(c, r->checksum_algorithm, sizeof(r->checksum_algorithm));
		cursor_str(c, r->checksum_origin, sizeof(r->checksum_origin));
	}
	if (!c->bad && (flags & ~F_ALL))
		why = "unknown flags";
	if (!c->bad && !why)
		why = broken_rule(r);
	if (!c->bad && !why && r->utf8 != utf8_valid(r->path, r->path_n))
		why = "the UTF-8 flag is not true";
	if (!c->bad && !why)
		why = get_attrs(r, c, type);
	if (c->bad)
		why = "it ends before its end, or a string is too long";
	if (!why && (size_t)(c->p - start) > RECORD_MAX)
		why = "it is too long";
	if (why) {
		cursor_fail(c);
		return err_set(e, ERR_WORKER_PROTOCOL, "file record: %s", why);
	}
	return 0;
}
