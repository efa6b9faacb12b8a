/*
 * field.c - one field of a job, from JSON or text to a checked value.
 *
 * Called by the job parser for each member it meets, and by the frame decoder for ranges. Knows
 * nothing of single fields: kind, range and flags come from the row. Values of refused fields are
 * never repeated in the message, since a secret may have been put into the wrong one.
 */
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/field.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define EXACT_MAX 9007199254740992.0 /* 2^53: larger doubles are not exact integers */

bool
field_word_in(const char *name, const char *words)
{
	size_t n = strlen(name);

	while (*words) {
		size_t len = strcspn(words, " ");

		if (len == n && !memcmp(name, words, n))
			return true;
		words += len;
		words += *words == ' ';
	}
	return false;
}

bool
field_applies(const struct field_row *r, int source)
{
	if (r->source == SOURCE_COMMON || r->source == source)
		return true;
	return r->source == SOURCE_NETWORK && source >= 0 && source_rows[source].role == ROLE_NETWORK;
}

int
field_target(const struct field_row *rows, int id)
{
	do
		id--;
	while (id > 0 && rows[id].flags & (FIELD_REF | FIELD_FILE));
	return id;
}

int
field_find(const struct field_row *rows, size_t n, int source, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (!field_applies(&rows[i], source))
			continue;
		/* Nearly all differ in their first byte, and few have aliases. */
		if ((*rows[i].name == *name && !strcmp(rows[i].name, name)) ||
		    (*rows[i].aliases && field_word_in(name, rows[i].aliases)))
			return (int)i;
	}
	return -1;
}

const char *
field_kind_text(enum field_kind kind)
{
	static const char *const text[] = {
		[KIND_STR] = "a string",
		[KIND_INT] = "an integer",
		[KIND_BOOL] = "true or false",
		[KIND_DUR] = "a duration: a number of seconds, or a string like \"30s\" or \"5m\"",
		[KIND_SIZE] = "a size: a number of bytes, or a string like \"10MiB\"",
		[KIND_TIME] = "an RFC 3339 time with its zone, like \"2026-01-02T03:04:05Z\"",
		[KIND_ENUM] = "one of its words",
		[KIND_STRS] = "an array of strings",
		[KIND_DBL] = "a number",
		[KIND_OBJECT] = "an object",
		[KIND_OBJECTS] = "an array of objects",
		[KIND_ANY] = "any value",
		[KIND_TEXT] = "a text",
	};

	return text[kind];
}

/* ---- text ---- */

static int
thousandths(const char *s, int64_t *v)
{
	/* A duration's seconds in ms are just that; its units are not wanted here. */
	return s[strspn(s, "0123456789.")] ? -1 : units_duration(s, v);
}

static int
enum_index(const char *words, const char *s, size_t n)
{
	for (int i = 0; *words; i++) {
		size_t len = strcspn(words, "|");

		if (len == n && !memcmp(words, s, n))
			return i;
		words += len;
		words += *words == '|';
	}
	return -1;
}

/* Numbers, times, words and booleans from their text. */
static int
scalar_from_text(const struct field_row *r, const char *s, int64_t *v)
{
	int flag;

	switch (r->kind) {
	case KIND_INT:
		return units_int(s, v);
	case KIND_DUR:
		return units_duration(s, v);
	case KIND_SIZE:
		return units_size(s, v);
	case KIND_TIME:
		return units_time(s, v);
	case KIND_DBL:
		return thousandths(s, v);
	case KIND_BOOL:
		flag = !strcmp(s, "true");
		*v = flag;
		return flag || !strcmp(s, "false") ? 0 : -1;
	case KIND_ENUM:
		*v = enum_index(r->range, s, strlen(s));
		return *v < 0 ? -1 : 0;
	default:
		return -1;
	}
}

/* ---- ranges ---- */

static bool
is_text(enum field_kind kind)
{
	return kind == KIND_STR || kind == KIND_TEXT;
}

void
field_range(const struct field_row *r, int64_t *min, int64_t *max)
{
	const char *dots = strstr(r->range, "..");
	char low[32];

	*min = r->kind == KIND_INT ? INT64_MIN : 0;
	*max = INT64_MAX;
	if (is_text(r->kind) || r->kind == KIND_STRS) {
		if (units_int(r->range, max))
			BUG("a text field's range is not its length");
		return;
	}
	if (!dots || r->kind == KIND_OBJECTS)
		return;
	snprintf(low, sizeof(low), "%.*s", (int)(dots - r->range), r->range);
	if (scalar_from_text(r, low, min) || scalar_from_text(r, dots + 2, max))
		BUG("a field's range cannot be read");
}

static bool
text_ok(const char *s, int64_t max)
{
	size_t n = strlen(s);

	return n && n <= (uint64_t)max && !s[strcspn(s, "\r\n")];
}

bool
field_value_ok(const struct field_row *r, const struct field_value *v)
{
	int64_t min, max;

	switch (r->kind) {
	case KIND_STR:
		field_range(r, &min, &max);
		return v->s && text_ok(v->s, max);
	case KIND_TEXT:
		field_range(r, &min, &max);
		return v->s && *v->s && strlen(v->s) <= (uint64_t)max;
	case KIND_STRS:
		field_range(r, &min, &max);
		for (size_t i = 0; i < v->l.n; i++)
			if (!text_ok(v->l.v[i], max))
				return false;
		return v->l.n <= FILTER_LIST_MAX;
	case KIND_BOOL:
		return v->i == 0 || v->i == 1;
	case KIND_ENUM:
		max = 0;
		for (const char *s = r->range; *s; s++)
			max += *s == '|';
		return v->i >= 0 && v->i <= max;
	default:
		field_range(r, &min, &max);
		return v->i >= min && v->i <= max;
	}
}

/* ---- JSON ---- */

static int
refuse(const struct field_row *r, struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID_JOB, "%s must be %s", r->name, what);
}

static int
wrong_type(const struct field_row *r, struct json_object *o, struct err *e)
{
	static const char *const names[] = {
		[json_type_null] = "null",
		[json_type_boolean] = "a boolean",
		[json_type_double] = "a number",
		[json_type_int] = "a number",
		[json_type_object] = "an object",
		[json_type_array] = "an array",
		[json_type_string] = "a string",
	};
	const char *wanted = field_kind_text(r->kind);

	if (r->kind == KIND_ENUM)
		return err_set(e, ERR_INVALID_JOB, "%s must be one of %s, not %s", r->name,
		    r->range, names[json_object_get_type(o)]);
	return err_set(e, ERR_INVALID_JOB, "%s must be %s, not %s", r->name, wanted,
	    names[json_object_get_type(o)]);
}

static int
out_of_range(const struct field_row *r, struct err *e)
{
	return err_set(e, ERR_INVALID_JOB, "%s is out of range (%s)", r->name, r->range);
}

/* A JSON number in the unit that the field is kept in. */
static int
number_value(const struct field_row *r, struct json_object *o, int64_t *v, struct err *e)
{
	int64_t scale = r->kind == KIND_DUR || r->kind == KIND_DBL ? 1000 : 1;
	double d;

	if (json_object_is_type(o, json_type_int))
		return __builtin_mul_overflow(json_object_get_int64(o), scale, v)
		    ? out_of_range(r, e)
		    : 0;
	d = json_object_get_double(o) * (double)scale;
	if (fabs(d) > EXACT_MAX)
		return out_of_range(r, e);
	*v = llround(d);
	if (scale == 1 ? d != (double)*v : fabs(d - (double)*v) > 1e-6)
		return refuse(
		    r, e, scale == 1 ? "a whole number" : "a number of at most three decimals");
	return 0;
}

static bool
takes_number(enum field_kind kind)
{
	return kind == KIND_INT || kind == KIND_DUR || kind == KIND_SIZE || kind == KIND_DBL;
}

static int
scalar_from_json(
    const struct field_row *r, struct json_object *o, struct field_value *v, struct err *e)
{
	const char *s;

	switch (json_object_get_type(o)) {
	case json_type_boolean:
		if (r->kind != KIND_BOOL)
			return wrong_type(r, o, e);
		v->i = json_object_get_boolean(o);
		break;
	case json_type_int:
	case json_type_double:
		if (!takes_number(r->kind))
			return wrong_type(r, o, e);
		if (number_value(r, o, &v->i, e))
			return -1;
		break;
	case json_type_string:
		s = json_object_get_string(o);
		if (scalar_from_text(r, s, &v->i)) {
			if (r->kind == KIND_ENUM)
				return err_set(
				    e, ERR_INVALID_JOB, "%s must be one of %s", r->name, r->range);
			return refuse(r, e, field_kind_text(r->kind));
		}
		break;
	default:
		return wrong_type(r, o, e);
	}
	return field_value_ok(r, v) ? 0 : out_of_range(r, e);
}

static int
text_from_json(const struct field_row *r, struct json_object *o, char **out, struct err *e)
{
	const char *s = json_object_get_string(o);
	size_t n = (size_t)json_object_get_string_len(o);
	int64_t min, max;

	field_range(r, &min, &max);
	if (!n)
		return err_set(e, ERR_INVALID_JOB, "%s must not be empty", r->name);
	if (n > (uint64_t)max)
		return err_set(e, ERR_INVALID_JOB, "%s has %zu bytes; at most %lld are allowed",
		    r->name, n, (long long)max);
	if (memchr(s, '\0', n) || (r->kind != KIND_TEXT && (memchr(s, '\r', n) || memchr(s, '\n', n))))
		return err_set(e, ERR_INVALID_JOB, "%s holds a NUL, CR or LF", r->name);
	*out = xmemdup0(s, n);
	return 0;
}

static int
texts_add(const struct field_row *r, struct json_object *o, struct field_value *v, struct err *e)
{
	char *s;

	if (text_from_json(r, o, &s, e))
		return -1;
	strlist_add(&v->l, s);
	free(s);
	return 0;
}

static int
texts_from_json(
    const struct field_row *r, struct json_object *o, struct field_value *v, struct err *e)
{
	size_t n;

	if (r->flags & FIELD_ONE && json_object_is_type(o, json_type_string))
		return texts_add(r, o, v, e);
	if (!json_object_is_type(o, json_type_array))
		return wrong_type(r, o, e);
	n = json_object_array_length(o);
	if (n > FILTER_LIST_MAX)
		return err_set(e, ERR_INVALID_JOB, "%s has %zu members; at most %d are allowed",
		    r->name, n, FILTER_LIST_MAX);
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(o, i);
		int rc;

		if (json_object_is_type(item, json_type_string))
			rc = texts_add(r, item, v, e);
		else
			rc = wrong_type(r, item, e);
		if (rc) {
			snprintf(e->pointer, sizeof(e->pointer), "/%zu", i);
			return -1;
		}
	}
	return 0;
}

static int
objects_from_json(const struct field_row *r, struct json_object *o, struct err *e)
{
	struct field_row count = { .name = r->name, .kind = KIND_INT, .range = r->range };
	int64_t min, max;
	size_t n;

	if (!json_object_is_type(o, json_type_array))
		return wrong_type(r, o, e);
	field_range(&count, &min, &max);
	n = json_object_array_length(o);
	if (n < (uint64_t)min || n > (uint64_t)max)
		return err_set(
		    e, ERR_INVALID_JOB, "%s has %zu members; %s are allowed", r->name, n, r->range);
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(o, i);

		if (!json_object_is_type(item, json_type_object)) {
			wrong_type(r, item, e);
			snprintf(e->pointer, sizeof(e->pointer), "/%zu", i);
			return -1;
		}
	}
	return 0;
}

/* {"X-Name": "value"} as "X-Name: value" */
static int
map_from_json(const struct field_row *r, struct json_object *o, struct field_value *v, struct err *e)
{
	struct json_object_iterator it, end;

	if (!json_object_is_type(o, json_type_object))
		return refuse(r, e, "an object of strings");
	if (json_object_object_length(o) > FILTER_LIST_MAX)
		return err_set(e, ERR_INVALID_JOB, "%s has %d members; at most %d are allowed", r->name,
		    json_object_object_length(o), FILTER_LIST_MAX);
	it = json_object_iter_begin(o);
	end = json_object_iter_end(o);
	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		const char *name = json_object_iter_peek_name(&it);
		struct json_object *item = json_object_iter_peek_value(&it);
		char *value, *line;

		if (!json_object_is_type(item, json_type_string))
			return refuse(r, e, "an object of strings");
		if (text_from_json(r, item, &value, e))
			return -1;
		if (!*name || strlen(name) > 255 || name[strcspn(name, ": \t\r\n")]) {
			explicit_bzero(value, strlen(value));
			free(value);
			return err_set(e, ERR_INVALID_JOB, "%s holds a name with a colon, a space or a line end", r->name);
		}
		line = xasprintf("%s: %s", name, value);
		strlist_add(&v->l, line);
		explicit_bzero(value, strlen(value));
		explicit_bzero(line, strlen(line));
		free(value);
		free(line);
	}
	return 0;
}

int
field_from_json(
    const struct field_row *r, struct json_object *o, struct field_value *v, struct err *e)
{
	v->set = true;
	switch (r->kind) {
	case KIND_STR:
	case KIND_TEXT:
		return json_object_is_type(o, json_type_string) ? text_from_json(r, o, &v->s, e)
								: wrong_type(r, o, e);
	case KIND_STRS:
		return r->flags & FIELD_MAP ? map_from_json(r, o, v, e) : texts_from_json(r, o, v, e);
	case KIND_OBJECT:
		return json_object_is_type(o, json_type_object) ? 0 : wrong_type(r, o, e);
	case KIND_OBJECTS:
		return objects_from_json(r, o, e);
	case KIND_ANY:
		return 0;
	default:
		return scalar_from_json(r, o, v, e);
	}
}

bool
field_default(const struct field_row *r, struct field_value *v)
{
	if (!*r->def)
		return false;
	v->set = true;
	if (is_text(r->kind))
		v->s = xstrdup(r->def);
	else if (r->kind == KIND_STRS)
		strlist_add(&v->l, r->def);
	else if (scalar_from_text(r, r->def, &v->i) || !field_value_ok(r, v))
		BUG("a field's default is not a value of it");
	return true;
}

bool
field_value_same(enum field_kind kind, const struct field_value *a, const struct field_value *b)
{
	if (is_text(kind))
		return !strcmp(a->s, b->s);
	if (kind != KIND_STRS)
		return a->i == b->i;
	if (a->l.n != b->l.n)
		return false;
	for (size_t i = 0; i < a->l.n; i++)
		if (strcmp(a->l.v[i], b->l.v[i]))
			return false;
	return true;
}

void
field_value_release(struct field_value *v)
{
	free(v->s);
	strlist_release(&v->l);
	memset(v, 0, sizeof(*v));
}

void
field_value_wipe(struct field_value *v)
{
	if (v->s)
		explicit_bzero(v->s, strlen(v->s));
	for (size_t i = 0; i < v->l.n; i++)
		explicit_bzero(v->l.v[i], strlen(v->l.v[i]));
}
