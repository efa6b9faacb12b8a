/*
 * config_error.c - what is said about a wrong setting: collected, with its place, line, caret and
 * hint.
 *
 * Errors beyond CONFIG_ERRORS_MAX are only counted. Source lines are kept raw (escaped when
 * shown), cut around the column, and never with the value of something that looks like a secret.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/config_priv.h"
#include "common/escape.h"
#include "common/jsonw.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define SOURCE_MAX 160    /* characters of a source line that are shown */
#define WORD_MAX 64       /* longer words are not compared */

bool
config_property_secret(const char *name)
{
	return strcasestr(name, "password") || strcasestr(name, "secret") ||
	    !strcasecmp(name, "ssl.key.pem") || !strcasecmp(name, "sasl.oauthbearer.config");
}

/* --- source lines --- */

static size_t
indent_of(const char *line, size_t n)
{
	size_t i = 0;

	while (i < n && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return i;
}

/*
 * Wider than config_property_secret: here the name may be misspelt, and hiding too much costs
 * nothing.
 */
static bool
looks_secret(const char *line, size_t n)
{
	static const char *const words[] = { "pass", "pasw", "pwd", "secret", "key.pem", "key_pem",
		"oauthbearer", "jaas", "token", "credential", "properties", "PRIVATE KEY" };
	char *s = xmemdup0(line, n);
	char *path = strstr(s, "password_file");
	bool found = false;

	if (path)
		memset(path, ' ', strlen("password_file")); /* the name of a file is none */
	for (size_t i = 0; i < ARRAY_LEN(words) && !found; i++)
		found = strcasestr(s, words[i]) != NULL;
	explicit_bzero(s, n);
	free(s);
	return found;
}

/* True when any line this one is indented beneath looks like a secret's, as in a PEM block. */
static bool
beneath_secret(const char *text, size_t start, size_t indent)
{
	while (start > 0 && indent > 0) {
		size_t end = start - 1, n, own;

		start = end;
		while (start > 0 && text[start - 1] != '\n')
			start--;
		n = end - start;
		own = indent_of(text + start, n);
		if (own == n || text[start + own] == '\r' || own >= indent)
			continue;
		indent = own;
		if (looks_secret(text + start, n))
			return true;
	}
	return false;
}

/* The same line with what stands behind its ":" (or, without one, all of it) hidden. */
static char *
hide(const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n);
	size_t keep = colon ? (size_t)(colon - line) + 1 : indent_of(line, n);

	if (keep >= n)
		return xmemdup0(line, n);
	return xasprintf("%.*s ***", (int)keep, line);
}

static size_t
next_char(const char *s, size_t i, size_t n)
{
	do
		i++;
	while (i < n && ((unsigned char)s[i] & 0xc0) == 0x80);
	return i;
}

/* Cuts a long line to SOURCE_MAX characters around the column. */
static void
source_cut(struct config_error *e, char *line)
{
	size_t n = strlen(line), first = 0, i = 0, end;
	size_t skip = e->column > SOURCE_MAX / 2 ? (size_t)e->column - SOURCE_MAX / 2 : 0;

	for (end = 0; i < n && end <= SOURCE_MAX; end++)
		i = next_char(line, i, n);
	e->source_column = e->column;
	if (end <= SOURCE_MAX) {
		e->source = line;
		return;
	}
	for (i = 0; first < n && i < skip; i++)
		first = next_char(line, first, n);
	e->source_column -= (int)i;
	for (i = 0, end = first; end < n && i < SOURCE_MAX; i++)
		end = next_char(line, end, n);
	e->source = xmemdup0(line + first, end - first);
	free(line);
}

static void
source_take(struct config_error *e, const struct config_text *t)
{
	const char *p = t->text, *end = t->text + t->len, *nl;
	size_t n, indent;

	for (int line = 1; line < e->line; line++) {
		p = memchr(p, '\n', (size_t)(end - p));
		if (!p)
			return;
		p++;
	}
	nl = memchr(p, '\n', (size_t)(end - p));
	n = (size_t)((nl ? nl : end) - p);
	if (n && p[n - 1] == '\r')
		n--;
	if (memchr(p, '\0', n))
		n = strlen(p);
	if (e->line == 1 && n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3)) {
		p += 3;
		n -= 3;
	}
	indent = indent_of(p, n);
	if (beneath_secret(t->text, (size_t)(p - t->text), indent) || looks_secret(p, n))
		source_cut(e, hide(p, n));
	else
		source_cut(e, xmemdup0(p, n));
}

/* --- collecting --- */

void
config_error(struct config_reader *r, const char *file, int line, int column, const char *fmt, ...)
{
	struct config_set *set = r->set;
	struct config_error *e;
	va_list ap;
	char text[2048];

	if (set->n_errors == CONFIG_ERRORS_MAX) {
		set->n_more++;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e = &set->errors[set->n_errors++];
	*e = (struct config_error){ .file = xstrdup(file), .line = line, .column = column,
		.text = xstrdup(text) };
	for (size_t i = r->n_files; i-- > 0 && line > 0;)
		if (!strcmp(r->files[i].name, file)) {
			source_take(e, &r->files[i]);
			break;
		}
}

/* Takes the last error back: the next one explains it better. */
void
config_error_drop(struct config_set *set)
{
	struct config_error *e = &set->errors[--set->n_errors];

	free(e->file);
	free(e->text);
	free(e->source);
	memset(e, 0, sizeof(*e));
}

/* Places errors[first..] in the order of the file, for they were found in two passes. */
void
config_error_sort(struct config_set *set, size_t first)
{
	for (size_t i = first + 1; i < set->n_errors; i++) {
		struct config_error e = set->errors[i];
		size_t j = i;

		while (j > first && (set->errors[j - 1].line > e.line ||
		    (set->errors[j - 1].line == e.line &&
		    set->errors[j - 1].column > e.column))) {
			set->errors[j] = set->errors[j - 1];
			j--;
		}
		set->errors[j] = e;
	}
}

/* --- did you mean --- */

static int
min3(int a, int b, int c)
{
	int m = a < b ? a : b;

	return m < c ? m : c;
}

/*
 * Optimal string alignment: insert, delete, change, swap of neighbours; upper and lower case
 * alike.
 */
static int
distance(const char *a, const char *b)
{
	int rows[3][WORD_MAX + 1];
	int na = (int)strlen(a), nb = (int)strlen(b);

	for (int j = 0; j <= nb; j++)
		rows[0][j] = j;
	for (int i = 1; i <= na; i++) {
		int *now = rows[i % 3], *before = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];

		now[0] = i;
		for (int j = 1; j <= nb; j++) {
			int x = tolower((unsigned char)a[i - 1]);
			int y = tolower((unsigned char)b[j - 1]);

			now[j] = min3(before[j] + 1, now[j - 1] + 1, before[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
			    y == tolower((unsigned char)a[i - 2]) && two[j - 2] + 1 < now[j])
				now[j] = two[j - 2] + 1;
		}
	}
	return rows[na % 3][nb];
}

/* "pasword" for "password_file": near to one of the words a name is made of. */
static bool
part_near(const char *word, const char *candidate)
{
	char part[WORD_MAX + 1];

	while (*candidate) {
		size_t n = strcspn(candidate, "_");

		if (n >= 4 && n < sizeof(part)) {
			memcpy(part, candidate, n);
			part[n] = '\0';
			if (distance(word, part) <= 1)
				return true;
		}
		candidate += n + (candidate[n] == '_');
	}
	return false;
}

const char *
config_nearest(const char *word, const char *const *candidates, size_t n)
{
	size_t len = strlen(word);
	const char *best = NULL;
	int best_d = len < 6 ? 3 : (int)(len + 1) / 3 + 1;

	if (!len || len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		int d;

		if (strlen(candidates[i]) > WORD_MAX)
			continue;
		d = distance(word, candidates[i]);
		/* a word that shares nothing is not near, however short */
		if (d < best_d && d < (int)len) {
			best_d = d;
			best = candidates[i];
		}
	}
	for (size_t i = 0; i < n && !best && len >= 4; i++)
		if (strcasestr(candidates[i], word) || (strlen(candidates[i]) >= 4 &&
		    strcasestr(word, candidates[i])))
			best = candidates[i];
	for (size_t i = 0; i < n && !best && len >= 4; i++)
		if (part_near(word, candidates[i]))
			best = candidates[i];
	return best;
}

static size_t
keys_of(const char *section, const char *keys[CONFIG__MAX])
{
	size_t n = 0;

	for (int id = 0; id < CONFIG__MAX; id++)
		if (!section || !strcmp(config_rows[id].section, section))
			keys[n++] = config_key_name(id);
	return n;
}

static size_t
sections_of(const char *names[CONFIG__MAX + CONFIG_TABLE__MAX])
{
	size_t n = 0;

	for (int id = 0; id < CONFIG__MAX; id++)
		if (!n || strcmp(names[n - 1], config_rows[id].section))
			names[n++] = config_rows[id].section;
	for (int t = 0; t < CONFIG_TABLE__MAX; t++)
		names[n++] = config_tables[t].name;
	return n;
}

/* The key stands elsewhere: says where. */
static bool
known_elsewhere(struct buf *b, const char *key)
{
	int n = 0;

	for (int id = 0; id < CONFIG__MAX; id++) {
		if (strcmp(config_key_name(id), key))
			continue;
		buf_printf(b, "%s%s", n++ ? " or " : "; it belongs to ", config_rows[id].section);
	}
	return n > 0;
}

static void
list_words(struct buf *b, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s%s", i ? ", " : "", words[i]);
}

static void
unknown_at_top(struct buf *b, const char *key)
{
	const char *words[CONFIG__MAX + CONFIG_TABLE__MAX];
	const char *near;
	size_t n = sections_of(words);
	int id = config_find(key);

	buf_puts(b, "unknown section ");
	config_quote(b, key);
	if (id >= 0) {
		buf_printf(b, "; write \"%s\" on a line of its own beneath \"%s:\"",
		    config_key_name(id), config_rows[id].section);
		return;
	}
	near = config_nearest(key, words, n);
	if (near) {
		buf_printf(b, " (did you mean \"%s\"?)", near);
		return;
	}
	if (known_elsewhere(b, key))
		return;
	n = keys_of(NULL, words);
	near = config_nearest(key, words, n);
	if (near) {
		buf_printf(b, " (did you mean \"%s\"", near);
		known_elsewhere(b, near);
		buf_puts(b, "?)");
		return;
	}
	buf_puts(b, "; the sections are ");
	list_words(b, words, sections_of(words));
}

void
config_unknown_key(struct buf *b, const char *section, const char *key)
{
	const char *words[CONFIG__MAX];
	const char *near;
	size_t n;

	if (!section) {
		unknown_at_top(b, key);
		return;
	}
	buf_puts(b, "unknown key ");
	config_quote(b, key);
	buf_printf(b, " in %s", section);
	if (known_elsewhere(b, key))
		return;
	n = keys_of(section, words);
	near = config_nearest(key, words, n);
	if (near) {
		buf_printf(b, " (did you mean \"%s\"?)", near);
		return;
	}
	n = keys_of(NULL, words);
	near = config_nearest(key, words, n);
	if (near) {
		buf_printf(b, " (did you mean \"%s\"", near);
		known_elsewhere(b, near);
		buf_puts(b, "?)");
		return;
	}
	buf_puts(b, "; known there: ");
	list_words(b, words, keys_of(section, words));
}

void
config_unknown_column(struct buf *b, const struct config_table_row *row, const char *entry,
    const char *key)
{
	const char *words[CONFIG__MAX];
	const char *near;

	for (size_t i = 0; i < row->n_columns; i++)
		words[i] = row->columns[i].key;
	buf_puts(b, "unknown key ");
	config_quote(b, key);
	buf_printf(b, " in %s.%s", row->name, entry);
	near = config_nearest(key, words, row->n_columns);
	if (near) {
		buf_printf(b, " (did you mean \"%s\"?)", near);
		return;
	}
	buf_puts(b, "; known there: ");
	list_words(b, words, row->n_columns);
}

/* --- showing --- */

static size_t
char_count(struct buf *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->len; i++)
		n += ((unsigned char)b->p[i] & 0xc0) != 0x80;
	return n;
}

static void
print_source(const struct config_error *e, FILE *f)
{
	struct buf line = BUF_INIT, before = BUF_INIT;
	size_t n = strlen(e->source), at = 0;

	for (int i = 1; i < e->source_column && at < n; i++)
		at = next_char(e->source, at, n);
	escape_term(&line, e->source, n);
	escape_term(&before, e->source, at);
	fprintf(f, "    %s\n    %*s^\n", buf_str(&line), (int)char_count(&before), "");
	buf_release(&line);
	buf_release(&before);
}

void
config_print_errors(const struct config_set *set, FILE *f)
{
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < set->n_errors; i++) {
		const struct config_error *e = &set->errors[i];

		buf_clear(&b);
		escape_term(&b, e->file, strlen(e->file));
		if (e->line > 0)
			buf_printf(&b, ":%d:%d", e->line, e->column);
		buf_puts(&b, ": ");
		escape_term(&b, e->text, strlen(e->text));
		fprintf(f, "%s\n", buf_str(&b));
		if (e->source)
			print_source(e, f);
	}
	if (set->n_more)
		fprintf(f, "and %zu more error%s\n", set->n_more, set->n_more > 1 ? "s" : "");
	buf_release(&b);
}

void
config_errors_json(const struct config_set *set, struct buf *b)
{
	struct jsonw w;

	jsonw_init(&w, b);
	jsonw_array(&w, NULL);
	for (size_t i = 0; i < set->n_errors; i++) {
		const struct config_error *e = &set->errors[i];

		jsonw_object(&w, NULL);
		jsonw_str(&w, "file", e->file);
		jsonw_int(&w, "line", e->line);
		jsonw_int(&w, "column", e->column);
		jsonw_str(&w, "message", e->text);
		jsonw_end_object(&w);
	}
	jsonw_end_array(&w);
}
