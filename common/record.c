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
	memset(r, 0, sizeof(*r));
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

static void
put_attrs(const struct record *r, struct buf *b)
{
	buf_u8(b, (uint8_t)r->n_attrs);
	for (size_t i = 0; i < r->n_attrs; i++) {
		const struct record_attr *a = &r->attrs[i];

		buf_u16(b, a->id);
		buf_u8(b, a->is_int);
		if (a->is_int)
			buf_i64(b, a->i);
		else
			buf_bytes(b, a->s, a->n);
	}
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

int
record_encode(struct record *r, struct buf *b, struct err *e)
{
	size_t before = b->len;
	const char *why;

	r->utf8 = r->path && r->path_n <= RECORD_PATH_MAX && utf8_valid(r->path, r->path_n);
	why = broken_rule(r);
	if (!why && r->n_attrs > RECORD_ATTR_MAX)
		why = "too many attributes";
	for (size_t i = 0; !why && i < r->n_attrs; i++)
		why = attr_rule(&r->attrs[i]);
	if (why)
		return err_set(e, ERR_LIMIT, "a file's record: %s", why);

	buf_u8(b, (uint8_t)((r->is_symlink ? F_SYMLINK : 0) | (r->utf8 ? F_UTF8 : 0) |
	    (r->link_target ? F_TARGET : 0) | (r->version ? F_VERSION : 0) |
	    (r->checksum ? F_CHECKSUM : 0) | (r->kind == FILE_DIR ? F_DIR : r->kind == FILE_LINK ? F_LINK : 0)));
	buf_u8(b, (uint8_t)r->precision);
	buf_bytes(b, r->path, r->path_n);
	buf_u32(b, (uint32_t)r->rel_off);
	buf_i64(b, r->size);
	buf_i64(b, r->mtime_ns);
	if (r->link_target)
		buf_bytes(b, r->link_target, r->link_target_n);
	if (r->version)
		buf_bytes(b, r->version, r->version_n);
	if (r->checksum) {
		buf_bytes(b, r->checksum, r->checksum_n);
		buf_cstr(b, r->checksum_algorithm);
		buf_cstr(b, r->checksum_origin);
	}
	put_attrs(r, b);
	if (b->len - before > RECORD_MAX) {
		b->len = before;
		return err_set(e, ERR_LIMIT, "a file's record is over %d bytes", RECORD_MAX);
	}
	return 0;
}

static const char *
get_attrs(struct record *r, struct cursor *c, enum source_type type)
{
	bool seen[SA__MAX] = { false };
	size_t n = cursor_u8(c);

	if (n > RECORD_ATTR_MAX)
		return "too many attributes";
	for (size_t i = 0; i < n && !c->bad; i++) {
		struct record_attr *a = &r->attrs[i];
		uint8_t kind;
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
		if (seen[a->id])
			return "attribute is there twice";
		seen[a->id] = true;
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
