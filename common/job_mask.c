/*
 * job_mask.c - a job as JSON text that may be shown: secrets replaced by "***", api_keys left out.
 *
 * Called by job_parse, for dead letters and for people. What counts as a secret goes by the
 * member's name anywhere but inside the top level's metadata, which the contract echoes as it came,
 * and by the look of a text: user data and signed parameters of a URL. Rather masks too much.
 */
#include <json-c/json.h>
#include <string.h>
#include <strings.h>

#include "common/escape.h"
#include "common/job_priv.h"
#include "common/json.h"
#include "common/secret_name.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define MASK "***"

static bool
is_listed(const char *name)
{
	for (size_t i = 0; i < SF__MAX; i++)
		if (field_rows[i].flags & FIELD_SECRET &&
		    (!strcasecmp(field_rows[i].name, name) ||
			field_word_in(name, field_rows[i].aliases)))
			return true;
	return false;
}

/* ---- texts that look like URLs ---- */

static size_t
span(const char *s, size_t n, const char *stop)
{
	size_t i = 0;

	while (i < n && !strchr(stop, s[i]))
		i++;
	return i;
}

/* The run without spaces or quotes that a place is in; its last '@', or its end. */
struct word {
	size_t end, at;
};

static void
word_find(struct word *w, const char *s, size_t n, size_t i)
{
	const char *at;

	/* Once a word, however many "://" it holds. */
	if (i < w->end)
		return;
	w->end = i + span(s + i, n - i, " \t\"'<>");
	at = memrchr(s + i, '@', w->end - i);
	w->at = at ? (size_t)(at - s) : w->end;
}

/* Where the user data that begins at i ends, behind its '@'; i: none. A password may hold what
 * should be escaped. */
static size_t
user_end(const char *s, size_t n, size_t i, struct word *w)
{
	size_t authority = span(s + i, n - i, "/?# \t\"'<>");
	const char *at = memrchr(s + i, '@', authority);

	if (at)
		return (size_t)(at - s) + 1;
	word_find(w, s, n, i);
	return memchr(s + i, ':', authority) && w->at >= i && w->at < w->end ? w->at + 1 : i;
}

/* s stands behind '?' or '&': copies the parameter, its value masked where its name says so. */
static size_t
add_parameter(struct buf *b, const char *s, size_t n)
{
	size_t name = span(s, n, "=&# \t"), value;

	buf_add(b, s, name);
	if (name == n || s[name] != '=')
		return name;
	buf_putc(b, '=');
	name++;
	value = span(s + name, n - name, "&# \t");
	if (secret_name(s, name - 1))
		buf_puts(b, MASK);
	else
		buf_add(b, s + name, value);
	return name + value;
}

static void
add_text(struct buf *b, const char *s, size_t n)
{
	struct buf masked = BUF_INIT;
	struct word w = { 0, 0 };
	bool url = false;
	size_t i = 0;

	if (!memmem(s, n, "://", 3)) {
		escape_json(b, s, n);
		return;
	}
	while (i < n) {
		if (n - i >= 3 && !memcmp(s + i, "://", 3)) {
			size_t from = i + 3;

			url = true;
			i = user_end(s, n, from, &w);
			buf_puts(&masked, i > from ? "://" MASK "@" : "://");
		} else if (url && (s[i] == '?' || s[i] == '&')) {
			buf_putc(&masked, s[i++]);
			i += add_parameter(&masked, s + i, n - i);
		} else {
			buf_putc(&masked, s[i++]);
		}
	}
	escape_json(b, masked.p, masked.len);
	buf_wipe(&masked);
}

/* ---- the tree; its depth is bounded by the scanner ---- */

static void write_value(struct json_object *, struct buf *, bool top, bool mask);

static void
write_member(const char *key, struct json_object *o, struct buf *b, bool top, bool mask)
{
	escape_json(b, key, strlen(key));
	buf_putc(b, ':');
	if (top && !strcmp(key, "metadata"))
		write_value(o, b, false, false);
	else if (mask && (secret_name(key, strlen(key)) || is_listed(key)))
		buf_puts(b, "\"" MASK "\"");
	else
		write_value(o, b, false, mask);
}

static void
write_object(struct json_object *o, struct buf *b, bool top, bool mask)
{
	struct json_object_iterator it = json_object_iter_begin(o), end = json_object_iter_end(o);
	bool some = false;

	buf_putc(b, '{');
	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		const char *key = json_object_iter_peek_name(&it);

		if (top && !strcmp(key, "api_keys"))
			continue;
		if (some)
			buf_putc(b, ',');
		some = true;
		write_member(key, json_object_iter_peek_value(&it), b, top, mask);
	}
	buf_putc(b, '}');
}

static void
write_value(struct json_object *o, struct buf *b, bool top, bool mask)
{
	switch (json_object_get_type(o)) {
	case json_type_object:
		write_object(o, b, top, mask);
		return;
	case json_type_array:
		buf_putc(b, '[');
		for (size_t i = 0; i < json_object_array_length(o); i++) {
			if (i)
				buf_putc(b, ',');
			write_value(json_object_array_get_idx(o, i), b, false, mask);
		}
		buf_putc(b, ']');
		return;
	case json_type_string:
		if (mask)
			add_text(
			    b, json_object_get_string(o), (size_t)json_object_get_string_len(o));
		else
			escape_json(
			    b, json_object_get_string(o), (size_t)json_object_get_string_len(o));
		return;
	default:
		/* json-c keeps the spelling of numbers with a fraction. */
		buf_puts(b, o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN) : "null");
	}
}

void
job_mask_write(struct json_object *o, struct buf *b)
{
	write_value(o, b, true, true);
}

void
job_echo_write(struct json_object *o, struct buf *b)
{
	write_value(o, b, false, false);
}

int
job_mask_message(const char *p, size_t n, struct buf *b, struct err *e)
{
	struct json_tokener *tok;
	struct json_object *o;
	int rc = 0;

	if (json_check(p, n, JSON_DEPTH_MAX, e))
		return -1;
	tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	if (!tok)
		BUG("json-c gave no parser");
	o = json_tokener_parse_ex(tok, p, (int)n);
	json_tokener_free(tok);
	if (json_object_is_type(o, json_type_object))
		job_mask_write(o, b);
	else
		rc = err_set(e, ERR_INVALID_JOB, "a job must be a JSON object");
	json_object_put(o);
	return rc;
}
