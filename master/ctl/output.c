/*
 * output.c - what the admin tool prints: aligned tables, JSON made compact, JSON made readable.
 *
 * Every foreign string passes escape_term here, or stays an escaped JSON string. Called by the verbs.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

#define BOLD "\033[1m"
#define PLAIN "\033[0m"

/* ---- streams ----------------------------------------------------------------------------------------------------------- */

void
out_term(FILE *f, const void *p, size_t n)
{
	struct buf b = BUF_INIT;

	escape_term(&b, p, n);
	if (b.len)
		fwrite(b.p, 1, b.len, f);
	buf_release(&b);
}

int
out_buf(struct ctl *c, struct buf *b)
{
	bool ok = (!b->len || fwrite(b->p, 1, b->len, c->out) == b->len) && fflush(c->out) == 0;

	buf_release(b);
	return ok ? 0 : -1;
}

/* ---- tables ------------------------------------------------------------------------------------------------------------ */

/* Characters, not bytes; what comes here is valid UTF-8. */
static size_t
width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void
table_init(struct table *t, const char *columns)
{
	memset(t, 0, sizeof(*t));
	for (;;) {
		size_t n = strcspn(columns, "|");

		if (t->n_columns == TABLE_COLUMNS_MAX)
			BUG("a table with too many columns");
		t->column[t->n_columns].right = *columns == '>';
		t->column[t->n_columns].head = columns + (*columns == '>');
		t->column[t->n_columns].width = n - (*columns == '>');
		t->n_columns++;
		if (!columns[n])
			return;
		columns += n + 1;
	}
}

void
table_release(struct table *t)
{
	buf_release(&t->text);
}

void
table_celln(struct table *t, const void *p, size_t n)
{
	size_t start = t->text.len, column = t->n_cells % t->n_columns, w;

	if (n)
		escape_term(&t->text, p, n);
	else
		buf_putc(&t->text, '-');
	buf_putc(&t->text, '\0');
	w = width(t->text.p + start);
	if (w > t->column[column].width)
		t->column[column].width = w;
	t->n_cells++;
}

void
table_cell(struct table *t, const char *s)
{
	table_celln(t, s, s ? strlen(s) : 0);
}

void
table_cellf(struct table *t, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	table_cell(t, text);
}

static void
put_cell(const struct table *t, size_t column, const char *s, size_t n, size_t w, FILE *f)
{
	size_t pad = t->column[column].width > w ? t->column[column].width - w : 0;
	bool last = column + 1 == t->n_columns;

	if (t->column[column].right)
		fprintf(f, "%*s", (int)pad, "");
	fwrite(s, 1, n, f);
	if (!last && !t->column[column].right)
		fprintf(f, "%*s", (int)pad, "");
	fputs(last ? "\n" : "  ", f);
}

void
table_print(struct table *t, struct ctl *c)
{
	const char *s = t->text.p;

	if (!t->headed) {
		fputs(c->colour ? BOLD : "", c->out);
		for (size_t i = 0; i < t->n_columns; i++) {
			size_t n = strcspn(t->column[i].head, "|");

			put_cell(t, i, t->column[i].head, n, n, c->out);
		}
		fputs(c->colour ? PLAIN : "", c->out);
		t->headed = true;
	}
	for (size_t i = 0; i < t->n_cells; i++) {
		put_cell(t, i % t->n_columns, s, strlen(s), width(s), c->out);
		s += strlen(s) + 1;
	}
	t->n_cells = 0;
	buf_clear(&t->text);
}

/* ---- JSON, compact --------------------------------------------------------------------------------------------------------- */

/* Characters that JSON allows bare and a terminal does not like. */
static bool
unsafe(uint32_t cp)
{
	return (cp >= 0x7f && cp <= 0x9f) || cp == 0x61c || cp == 0x200e || cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) ||
	    (cp >= 0x2066 && cp <= 0x2069);
}

void
json_compact(struct buf *b, const char *p, size_t n)
{
	bool string = false;

	for (size_t i = 0; i < n;) {
		uint32_t cp;
		int len = utf8_step(p + i, n - i, &cp);

		if (len < 1)
			BUG("text that is not valid JSON");
		if (!string && strchr(" \t\r\n", p[i]) && p[i]) {
			i++;
			continue;
		}
		if (string && p[i] == '\\' && i + 1 < n) {
			buf_add(b, p + i, 2);
			i += 2;
			continue;
		}
		if (p[i] == '"')
			string = !string;
		if (unsafe(cp))
			buf_printf(b, "\\u%04x", (unsigned)cp);
		else
			buf_add(b, p + i, (size_t)len);
		i += (size_t)len;
	}
}

/* ---- JSON, readable -------------------------------------------------------------------------------------------------------- */

static bool
ends(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

static void
bytes_words(struct buf *b, int64_t n)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)n;
	size_t u = 0;

	while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
		v /= 1024;
		u++;
	}
	if (u)
		buf_printf(b, "%.1f %s", v, units[u]);
	else
		buf_printf(b, "%lld B", (long long)n);
}

void
json_words(struct buf *b, const char *key, struct json_object *o)
{
	switch (json_object_get_type(o)) {
	case json_type_null:
		buf_putc(b, '-');
		break;
	case json_type_boolean:
		buf_puts(b, json_object_get_boolean(o) ? "yes" : "no");
		break;
	case json_type_int:
		if (key && ends(key, "bytes"))
			bytes_words(b, json_object_get_int64(o));
		else
			buf_printf(b, "%lld", (long long)json_object_get_int64(o));
		break;
	case json_type_double:
		buf_printf(b, "%.*f", key && ends(key, "seconds") ? 1 : 3, json_object_get_double(o));
		if (key && ends(key, "seconds"))
			buf_puts(b, " s");
		break;
	case json_type_string:
		buf_add(b, json_object_get_string(o), (size_t)json_object_get_string_len(o));
		break;
	default:
		buf_puts(b, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	}
}

static void
cell_of(struct table *t, struct json_object *row, const char *key, size_t n)
{
	struct json_object *v = NULL;
	struct buf b = BUF_INIT;
	char *name = xmemdup0(key, n);

	json_object_object_get_ex(row, name, &v);
	json_words(&b, name, v);
	table_celln(t, b.p, b.len);
	buf_release(&b);
	free(name);
}

static void
row_of(struct table *t, struct json_object *row, const char *columns)
{
	for (const char *p = columns; *p;) {
		size_t n = strcspn(p, "|");
		const char *eq = memchr(p, '=', n);

		if (!eq)
			BUG("a column without a key");
		cell_of(t, row, eq + 1, n - (size_t)(eq + 1 - p));
		p += n + (p[n] == '|');
	}
}

void
json_table(struct ctl *c, struct json_object *array, const char *columns)
{
	struct buf heads = BUF_INIT;
	struct table t;

	for (const char *p = columns; *p; p += strcspn(p, "|"), p += *p == '|') {
		if (heads.len)
			buf_putc(&heads, '|');
		buf_add(&heads, p, strcspn(p, "="));
	}
	table_init(&t, buf_str(&heads));
	for (size_t i = 0; json_object_is_type(array, json_type_array) && i < json_object_array_length(array); i++)
		row_of(&t, json_object_array_get_idx(array, i), columns);
	table_print(&t, c);
	table_release(&t);
	buf_release(&heads);
}

static bool
is_rows(struct json_object *o)
{
	return json_object_is_type(o, json_type_array) && json_object_array_length(o) &&
	    json_object_is_type(json_object_array_get_idx(o, 0), json_type_object);
}

/* Columns are the members of the first row. */
static void
outline_rows(struct ctl *c, const char *key, struct json_object *array)
{
	struct buf columns = BUF_INIT;
	size_t n = 0;

	fputs("\n", c->out);
	out_term(c->out, key, strlen(key));
	fputs(":\n", c->out);
	json_object_object_foreach(json_object_array_get_idx(array, 0), k, v) {
		if (n++ == TABLE_COLUMNS_MAX || json_object_is_type(v, json_type_object) || strpbrk(k, "|=>"))
			continue;
		buf_printf(&columns, "%s%s%s=%s", columns.len ? "|" : "", json_object_is_type(v, json_type_int) ? ">" : "", k, k);
	}
	if (columns.len)
		json_table(c, array, buf_str(&columns));
	buf_release(&columns);
}

static void
outline_values(struct ctl *c, struct table *t, const char *prefix, struct json_object *o, unsigned depth)
{
	json_object_object_foreach(o, k, v) {
		char *name = xasprintf("%s%s%s", prefix, *prefix ? "." : "", k);
		struct buf b = BUF_INIT;

		if (json_object_is_type(v, json_type_object) && depth < 8) {
			outline_values(c, t, name, v, depth + 1);
		} else if (!is_rows(v)) {
			json_words(&b, k, v);
			table_cell(t, name);
			table_celln(t, b.p, b.len);
		}
		buf_release(&b);
		free(name);
	}
}

static void
outline_tables(struct ctl *c, const char *prefix, struct json_object *o, unsigned depth)
{
	json_object_object_foreach(o, k, v) {
		char *name = xasprintf("%s%s%s", prefix, *prefix ? "." : "", k);

		if (is_rows(v))
			outline_rows(c, name, v);
		else if (json_object_is_type(v, json_type_object) && depth < 8)
			outline_tables(c, name, v, depth + 1);
		free(name);
	}
}

void
json_outline(struct ctl *c, struct json_object *o)
{
	struct table t;

	table_init(&t, "WHAT|VALUE");
	outline_values(c, &t, "", o, 0);
	table_print(&t, c);
	table_release(&t);
	outline_tables(c, "", o, 0);
}
