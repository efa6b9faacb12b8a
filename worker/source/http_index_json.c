/*
 * http_index_json.c - JSON index pages (nginx, Caddy, rclone) and JSON-lines manifests: an object for each entry.
 *
 * A tokenizer in pieces of any size that holds one object's fields at a time. It asks for RFC 8259's grammar, but takes
 * bytes that are not UTF-8 inside of strings as they are: nginx sends names so, and they are right. Members that mean
 * nothing here are read over, nested ones too.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/http_index.h"
#include "common/banned.h"

#define DEPTH_MAX 32
#define KEY_MAX 32
#define SCALAR_MAX 64

enum state { VALUE, FIRST, KEY, COLON, AFTER, STRING, ESCAPE, UNICODE, SCALAR, END };

enum field { F_NONE, F_REF, F_PATH, F_NAME, F_SIZE, F_MTIME, F_TYPE, F_IS_DIR, F_ETAG, F_CONTENT_TYPE };

struct json {
	struct index_parser pub;
	bool lines;             /* one value a line, else one array */
	enum state state;
	unsigned depth, objects; /* objects: the depth that entries have */
	uint32_t is_object;     /* bit n: what opened depth n+1 is an object */
	bool in_key, may_close; /* may_close: right behind '[' or '{' */
	unsigned left;          /* hex digits to come */
	uint32_t unit, high;
	struct buf text;        /* the string or scalar at hand */
	enum field field;       /* what the last key means: asked of every byte of a value */
	/* the entry */
	struct buf ref, path, name;
	struct index_entry en;
	char etag[256], content_type[128];
	uint64_t entries;
};

static void
clear_entry(struct json *j)
{
	index_entry_init(&j->en);
	buf_clear(&j->ref);
	buf_clear(&j->path);
	buf_clear(&j->name);
	*j->etag = *j->content_type = '\0';
}

static struct json *
make(bool lines)
{
	struct json *j = xcalloc(1, sizeof(*j));

	j->lines = lines;
	j->objects = lines ? 1 : 2;
	j->state = VALUE;
	clear_entry(j);
	return j;
}

static struct index_parser *
json_new(void)
{
	return &make(false)->pub;
}

static struct index_parser *
jsonl_new(void)
{
	return &make(true)->pub;
}

static void
json_free(struct index_parser *p)
{
	struct json *j = (struct json *)p;

	buf_release(&j->text);
	buf_release(&j->ref);
	buf_release(&j->path);
	buf_release(&j->name);
	free(j);
}

/* ---- what an entry's members mean ---------------------------------------------------------------------------------------- */

static enum field
field_of(const char *key, size_t n)
{
#define ROW(key, f) { key, sizeof(key) - 1, f }
	static const struct { const char *key; size_t n; enum field f; } rows[] = {
		ROW("name", F_NAME), ROW("type", F_TYPE), ROW("size", F_SIZE), ROW("mtime", F_MTIME),
		ROW("url", F_REF), ROW("href", F_REF), ROW("link", F_REF),
		ROW("path", F_PATH), ROW("key", F_PATH),
		ROW("file", F_NAME), ROW("filename", F_NAME),
		ROW("length", F_SIZE), ROW("bytes", F_SIZE),
		ROW("modtime", F_MTIME), ROW("modified", F_MTIME), ROW("lastmodified", F_MTIME), ROW("modifiedat", F_MTIME),
		ROW("isdir", F_IS_DIR), ROW("isdirectory", F_IS_DIR),
		ROW("etag", F_ETAG), ROW("contenttype", F_CONTENT_TYPE), ROW("mimetype", F_CONTENT_TYPE),
	};
#undef ROW

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].n == n && !memcmp(rows[i].key, key, n))
			return rows[i].f;
	return F_NONE;
}

static bool
wanted(const struct json *j)
{
	return j->in_key || (j->depth == j->objects && j->field != F_NONE);
}

static void
copy(char *to, size_t size, const struct buf *b)
{
	size_t n = b->len < size && !memchr(b->len ? b->p : "", '\0', b->len) ? b->len : 0;

	memcpy(to, n ? b->p : "", n);
	to[n] = '\0';
}

static bool
equals(const struct buf *b, const char *s)
{
	return b->len == strlen(s) && !strncasecmp(b->p, s, b->len);
}

static void
size_field(struct json *j)
{
	char s[SCALAR_MAX];
	int64_t v;

	copy(s, sizeof(s), &j->text);
	if (*s && !units_int(s, &v) && v >= 0)
		j->en.size = v;
}

static void
type_field(struct json *j)
{
	const struct buf *b = &j->text;

	if (equals(b, "directory") || equals(b, "dir") || equals(b, "folder"))
		j->en.kind = INDEX_DIR;
	else if (equals(b, "file"))
		j->en.kind = INDEX_FILE;
	else if (equals(b, "other") || equals(b, "symlink"))
		j->en.kind = INDEX_OTHER;
}

/* A string or scalar has ended. */
static void
take_value(struct json *j, bool string)
{
	struct buf *to = NULL;

	if (!wanted(j))
		return;
	switch (j->field) {
	case F_REF:
		to = string ? &j->ref : NULL;
		break;
	case F_PATH:
		to = string ? &j->path : NULL;
		break;
	case F_NAME:
		to = string ? &j->name : NULL;
		break;
	case F_SIZE:
		size_field(j);
		break;
	case F_MTIME:
		index_any_date(j->text.p, j->text.len, &j->en.mtime_ns, &j->en.precision);
		break;
	case F_TYPE:
		type_field(j);
		break;
	case F_IS_DIR:
		if (!string && equals(&j->text, "true"))
			j->en.kind = INDEX_DIR;
		else if (!string && equals(&j->text, "false") && j->en.kind == INDEX_UNSAID)
			j->en.kind = INDEX_FILE;
		break;
	case F_ETAG:
		copy(j->etag, sizeof(j->etag), &j->text);
		break;
	case F_CONTENT_TYPE:
		copy(j->content_type, sizeof(j->content_type), &j->text);
		break;
	default:
		break;
	}
	if (to) {
		buf_clear(to);
		buf_add(to, j->text.p, j->text.len);
	}
}

static void
take_key(struct json *j)
{
	char key[KEY_MAX];      /* small letters, without '_' and '-' */
	size_t n = 0;

	for (size_t i = 0; i < j->text.len; i++) {
		char c = j->text.p[i];

		if (c == '_' || c == '-')
			continue;
		if (n == KEY_MAX || !c) {
			n = 0;
			break;
		}
		key[n++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
	}
	j->field = field_of(key, n);
}

static int
entry_ends(struct json *j, struct err *e)
{
	const struct buf *b = j->ref.len ? &j->ref : j->path.len ? &j->path : &j->name;
	int rc;

	j->en.is_ref = b == &j->ref;
	j->en.name = b->p;
	j->en.n = b->len;
	/* Caddy and rclone end directories' names so; a name that is nothing else stays. */
	while (!j->en.is_ref && j->en.n > 1 && j->en.name[j->en.n - 1] == '/') {
		j->en.n--;
		if (j->en.kind == INDEX_UNSAID)
			j->en.kind = INDEX_DIR;
	}
	j->en.etag = j->etag;
	j->en.content_type = j->content_type;
	j->entries++;
	rc = index_emit(&j->pub, &j->en, e);
	clear_entry(j);
	return rc;
}

/* ---- grammar ------------------------------------------------------------------------------------------------------------------ */

static int
broken(struct json *j, const char *what, struct err *e)
{
	return err_set(e, ERR_PROTOCOL, "the %s index is not JSON behind its entry %llu: %s", j->lines ? "JSON-lines" : "JSON",
	    (unsigned long long)j->entries, what);
}

static bool
blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* A value at this depth is over. */
static void
value_ends(struct json *j)
{
	j->state = j->depth ? AFTER : j->lines ? VALUE : END;
	if (!j->depth && !j->lines)
		j->pub.ended = true;
}

static int
opens(struct json *j, char c, struct err *e)
{
	if (j->depth == DEPTH_MAX)
		return broken(j, "nested too deeply", e);
	if (c == '{')
		j->is_object |= UINT32_C(1) << j->depth;
	else
		j->is_object &= ~(UINT32_C(1) << j->depth);
	j->depth++;
	if (!j->lines && j->depth == 1 && c == '{')
		return err_set(e, ERR_PERMANENT, "the JSON is an object, not an index (an array of entries)");
	if (j->depth == j->objects) {
		if (c != '{')
			return err_set(e, ERR_PROTOCOL, "the JSON index holds an array where an entry should be");
		clear_entry(j);
	}
	j->field = F_NONE;
	j->may_close = true;
	j->state = c == '{' ? KEY : FIRST;
	return 0;
}

static int
closes(struct json *j, char c, struct err *e)
{
	bool object = j->is_object >> (j->depth - 1) & 1;
	int rc = 0;

	if (object != (c == '}'))
		return broken(j, "brackets that do not match", e);
	if (j->depth == j->objects)
		rc = entry_ends(j, e);
	j->depth--;
	j->field = F_NONE;
	value_ends(j);
	return rc;
}

static int
value_begins(struct json *j, char c, struct err *e)
{
	if (blank(c))
		return 0;
	if (c == ']' && j->state == FIRST)
		return closes(j, c, e);
	if (c == '{' || c == '[')
		return opens(j, c, e);
	if (c != '"' && (!c || !strchr("-0123456789tfn", c)))
		return broken(j, "a value that is none", e);
	if (j->depth < j->objects)
		return err_set(e, ERR_PERMANENT, "the %s holds something that is no entry (an object with a name)",
		    j->lines ? "manifest" : "JSON index");
	buf_clear(&j->text);
	j->in_key = false;
	j->high = 0;
	if (c == '"') {
		j->state = STRING;
		return 0;
	}
	buf_putc(&j->text, c);
	j->state = SCALAR;
	return 0;
}

static int
key_begins(struct json *j, char c, struct err *e)
{
	if (blank(c))
		return 0;
	if (c == '}' && j->may_close)
		return closes(j, c, e);
	if (c != '"')
		return broken(j, "a name must stand here", e);
	buf_clear(&j->text);
	j->in_key = true;
	j->high = 0;
	j->state = STRING;
	return 0;
}

static int
after(struct json *j, char c, struct err *e)
{
	if (blank(c))
		return 0;
	if (c == ',') {
		bool object = j->is_object >> (j->depth - 1) & 1;

		j->may_close = false;
		j->state = object ? KEY : VALUE;
		return 0;
	}
	if (c == '}' || c == ']')
		return closes(j, c, e);
	return broken(j, "a comma or bracket must stand here", e);
}

/* ---- strings ---------------------------------------------------------------------------------------------------------------------- */

static void
put(struct json *j, char c)
{
	/* One byte more than any name may have tells that it is too long. */
	if (wanted(j) && j->text.len < INDEX_NAME_MAX)
		buf_putc(&j->text, c);
}

static void
put_char(struct json *j, uint32_t c)
{
	if (c < 0x80) {
		put(j, (char)c);
	} else if (c < 0x800) {
		put(j, (char)(0xc0 | c >> 6));
		put(j, (char)(0x80 | (c & 0x3f)));
	} else if (c < 0x10000) {
		put(j, (char)(0xe0 | c >> 12));
		put(j, (char)(0x80 | (c >> 6 & 0x3f)));
		put(j, (char)(0x80 | (c & 0x3f)));
	} else {
		put(j, (char)(0xf0 | c >> 18));
		put(j, (char)(0x80 | (c >> 12 & 0x3f)));
		put(j, (char)(0x80 | (c >> 6 & 0x3f)));
		put(j, (char)(0x80 | (c & 0x3f)));
	}
}

static int
string_ends(struct json *j)
{
	if (j->in_key) {
		take_key(j);
		j->state = COLON;
	} else {
		take_value(j, true);
		value_ends(j);
	}
	return 0;
}

static int
string(struct json *j, char c, struct err *e)
{
	if (j->high && c != '\\')
		return broken(j, "half a character (\\uD8..)", e);
	if (c == '"')
		return string_ends(j);
	if (c == '\\')
		j->state = ESCAPE;
	else if ((unsigned char)c < 0x20)
		return broken(j, "a control character in a string", e);
	else
		put(j, c);
	return 0;
}

static int
escape(struct json *j, char c, struct err *e)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = c ? strchr(from, c) : NULL;

	if (c == 'u') {
		j->left = 4;
		j->unit = 0;
		j->state = UNICODE;
		return 0;
	}
	if (!at || j->high)
		return broken(j, "an escape that is none", e);
	put(j, to[at - from]);
	j->state = STRING;
	return 0;
}

static int
unicode(struct json *j, char c, struct err *e)
{
	char l = c | 32;
	uint32_t d = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : l >= 'a' && l <= 'f' ? (uint32_t)(l - 'a' + 10) : 99;

	if (d == 99)
		return broken(j, "\\u without four digits", e);
	j->unit = j->unit << 4 | d;
	if (--j->left)
		return 0;
	j->state = STRING;
	if (j->high) {
		if (j->unit < 0xdc00 || j->unit > 0xdfff)
			return broken(j, "half a character (\\uD8..)", e);
		put_char(j, 0x10000 + ((j->high - 0xd800) << 10) + (j->unit - 0xdc00));
		j->high = 0;
	} else if (j->unit >= 0xd800 && j->unit <= 0xdbff) {
		j->high = j->unit;
	} else if (j->unit >= 0xdc00 && j->unit <= 0xdfff) {
		return broken(j, "half a character (\\uDC..)", e);
	} else {
		put_char(j, j->unit);
	}
	return 0;
}

/* true, false, null, or RFC 8259's number */
static bool
scalar_ok(const char *s)
{
	if (!strcmp(s, "true") || !strcmp(s, "false") || !strcmp(s, "null"))
		return true;
	s += *s == '-';
	if (*s == '0')
		s++;
	else if (*s >= '1' && *s <= '9')
		s += strspn(s, "0123456789");
	else
		return false;
	if (*s == '.') {
		size_t n = strspn(++s, "0123456789");

		if (!n)
			return false;
		s += n;
	}
	if (*s == 'e' || *s == 'E') {
		size_t n;

		s++;
		s += *s == '+' || *s == '-';
		n = strspn(s, "0123456789");
		if (!n)
			return false;
		s += n;
	}
	return !*s;
}

static int step(struct json *, char c, struct err *);

static int
scalar(struct json *j, char c, struct err *e)
{
	if (!blank(c) && c != ',' && c != ']' && c != '}') {
		if (j->text.len == SCALAR_MAX - 1)
			return broken(j, "a number or word that is too long", e);
		buf_putc(&j->text, c);
		return 0;
	}
	if (memchr(j->text.p, '\0', j->text.len) || !scalar_ok(buf_str(&j->text)))
		return broken(j, "a value that is none", e);
	if (!equals(&j->text, "null"))
		take_value(j, false);
	value_ends(j);
	return step(j, c, e);
}

static int
step(struct json *j, char c, struct err *e)
{
	switch (j->state) {
	case VALUE:
	case FIRST:
		return value_begins(j, c, e);
	case KEY:
		return key_begins(j, c, e);
	case COLON:
		if (c == ':')
			j->state = VALUE;
		else if (!blank(c))
			return broken(j, "a colon must stand here", e);
		return 0;
	case AFTER:
		return after(j, c, e);
	case STRING:
		return string(j, c, e);
	case ESCAPE:
		return escape(j, c, e);
	case UNICODE:
		return unicode(j, c, e);
	case SCALAR:
		return scalar(j, c, e);
	default:
		return blank(c) ? 0 : broken(j, "something behind its end", e);
	}
}

/* What of a string says nothing but itself, at once. */
static size_t
plain(struct json *j, const char *s, size_t n)
{
	size_t run = 0, room = j->text.len < INDEX_NAME_MAX ? INDEX_NAME_MAX - j->text.len : 0;

	while (run < n && s[run] != '"' && s[run] != '\\' && (unsigned char)s[run] >= 0x20)
		run++;
	if (run && wanted(j))
		buf_add(&j->text, s, run < room ? run : room);
	return run;
}

static int
json_feed(struct index_parser *p, const char *s, size_t n, struct err *e)
{
	struct json *j = (struct json *)p;

	for (size_t i = 0; i < n; i++) {
		int rc;

		if (j->state == STRING && !j->high)
			i += plain(j, s + i, n - i);
		rc = i < n ? step(j, s[i], e) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int
json_finish(struct index_parser *p, bool framed, struct err *e)
{
	struct json *j = (struct json *)p;

	if (j->depth || (!j->lines && !p->ended))
		return err_set(e, ERR_TRUNCATED, "the JSON ends in its middle, behind entry %llu", (unsigned long long)j->entries);
	if (j->lines && !framed)
		return err_set(e, ERR_PROTOCOL, "nothing tells where the manifest ends (no Content-Length, no chunks), so that a cut would not show");
	return 0;
}

const struct index_format index_json = {
	.name = "json",
	.new = json_new,
	.feed = json_feed,
	.finish = json_finish,
	.free = json_free,
};

const struct index_format index_jsonl = {
	.name = "manifest-jsonl",
	.new = jsonl_new,
	.feed = json_feed,
	.finish = json_finish,
	.free = json_free,
};
