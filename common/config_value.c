/*
 * config_value.c - one setting's value: from text to its field, strictly, and back.
 *
 * Used by the file, environment and command line readers and by every dump. A refused text leaves
 * the field as it was and says why in words that fit behind "section.key: ". Reads no file, knows
 * no order. The config_field_ functions work on any field that a struct config_setting describes,
 * so that the members of tables (config_table.c) are read and shown by the same code.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_priv.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define QUOTE_MAX 64

static void *
field(struct config *c, enum config_id id)
{
	return (char *)c + config_settings[id].offset;
}

static const void *
field_const(const struct config *c, enum config_id id)
{
	return (const char *)c + config_settings[id].offset;
}

/* Which settings hold more than any text. */
static enum config_check
check_of(enum config_id id)
{
	switch (id) {
	case CONFIG_topic_jobs:
	case CONFIG_topics_more:
	case CONFIG_topic_events:
	case CONFIG_topic_results:
	case CONFIG_topic_dlq:
	case CONFIG_topic_deferred:
		return CONFIG_CHECK_TOPIC;
	case CONFIG_http_listen:
		return CONFIG_CHECK_LISTEN;
	case CONFIG_kafka_bootstrap_servers:
		return CONFIG_CHECK_BROKERS;
	case CONFIG_control_group:
		return CONFIG_CHECK_GROUP;
	case CONFIG_egress_allow:
	case CONFIG_egress_deny:
	case CONFIG_egress_only:
		return CONFIG_CHECK_NETWORK;
	case CONFIG_egress_ports:
		return CONFIG_CHECK_PORT;
	case CONFIG_egress_schemes:
		return CONFIG_CHECK_SCHEME;
	case CONFIG_local_roots:
		return CONFIG_CHECK_ROOT;
	default:
		return CONFIG_CHECK_NONE;
	}
}

struct config_setting
config_setting_of(enum config_id id)
{
	struct config_setting s = config_settings[id];

	s.check = check_of(id);
	return s;
}

const struct strlist *
config_list(const struct config *c, enum config_id id)
{
	return field_const(c, id);
}

const struct strmap *
config_map(const struct config *c, enum config_id id)
{
	return field_const(c, id);
}

void
config_quote(struct buf *b, const char *text)
{
	size_t n = strlen(text);

	buf_putc(b, '"');
	if (n > QUOTE_MAX) {
		/* not through the middle of a character */
		for (n = QUOTE_MAX; n && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
			;
		buf_add(b, text, n);
		buf_puts(b, "...");
	} else {
		buf_puts(b, text);
	}
	buf_putc(b, '"');
}

static int
refuse(struct buf *why, const char *text, const char *what)
{
	config_quote(why, text);
	buf_printf(why, " %s", what);
	return -1;
}

static int
put_str(char **f, const struct config_setting *s, const char *text, struct buf *why)
{
	const char *fault = config_text_fault(text, false);

	if ((int64_t)strlen(text) > s->max) {
		buf_printf(why, "%zu bytes are too long (at most %lld)", strlen(text),
		    (long long)s->max);
		return -1;
	}
	if (!*text && *s->def) {
		buf_printf(why, "must not be empty (the default is %s)", s->def);
		return -1;
	}
	if (fault)
		return refuse(why, text, fault);
	if (config_fault(s->check, text, why) < 0)
		return -1;
	free(*f);
	*f = xstrdup(text);
	return 0;
}

/* --- numbers --- */

/* A decimal with at most three decimals, in thousandths. */
static int
parse_thousandths(const char *s, int64_t *out)
{
	const char *dot = strchr(s, '.');
	size_t n = dot ? (size_t)(dot - s) : strlen(s), decimals = dot ? strlen(dot + 1) : 0;
	char whole[16];
	int64_t v, part = 0, scale = 100;

	if (n >= sizeof(whole) || *s == '-' || (dot && (!decimals || decimals > 3)))
		return -1;
	memcpy(whole, s, n);
	whole[n] = '\0';
	if (units_int(whole, &v) < 0 || v > INT64_MAX / 1000 - 1)
		return -1;
	for (size_t i = 0; i < decimals; i++, scale /= 10) {
		if (!isdigit((unsigned char)dot[1 + i]))
			return -1;
		part += (dot[1 + i] - '0') * scale;
	}
	*out = v * 1000 + part;
	return 0;
}

static void
thousandths_text(int64_t v, char out[UNITS_TEXT])
{
	int n = snprintf(out, UNITS_TEXT, "%lld.%03d", (long long)(v / 1000), (int)(v % 1000));

	while (n > 2 && out[n - 1] == '0' && out[n - 2] != '.')
		out[--n] = '\0';
}

static int
parse_number(enum config_type type, const char *text, int64_t *v)
{
	switch (type) {
	case CONFIG_T_DUR:
		return units_duration(text, v);
	case CONFIG_T_SIZE:
		return units_size(text, v);
	case CONFIG_T_DBL:
		return parse_thousandths(text, v);
	default:
		return units_int(text, v);
	}
}

static void
number_text(enum config_type type, int64_t v, char out[UNITS_TEXT])
{
	switch (type) {
	case CONFIG_T_DUR:
		units_duration_text(v, out);
		break;
	case CONFIG_T_SIZE:
		units_size_text(v, out);
		break;
	case CONFIG_T_DBL:
		thousandths_text(v, out);
		break;
	default:
		snprintf(out, UNITS_TEXT, "%lld", (long long)v);
	}
}

/* "10 Min" → "10m": what was most likely meant, if that reads. */
static bool
guess_unit(enum config_type type, const char *text, char *out, size_t n)
{
	static const struct {
		enum config_type type;
		const char *word, *unit;
	} units[] = {
		{ CONFIG_T_DUR, "msec", "ms" }, { CONFIG_T_DUR, "millis", "ms" },
		{ CONFIG_T_DUR, "milliseconds", "ms" }, { CONFIG_T_DUR, "ms", "ms" },
		{ CONFIG_T_DUR, "s", "s" }, { CONFIG_T_DUR, "sec", "s" },
		{ CONFIG_T_DUR, "secs", "s" }, { CONFIG_T_DUR, "second", "s" },
		{ CONFIG_T_DUR, "seconds", "s" }, { CONFIG_T_DUR, "m", "m" },
		{ CONFIG_T_DUR, "min", "m" }, { CONFIG_T_DUR, "mins", "m" },
		{ CONFIG_T_DUR, "minute", "m" }, { CONFIG_T_DUR, "minutes", "m" },
		{ CONFIG_T_DUR, "h", "h" }, { CONFIG_T_DUR, "hr", "h" },
		{ CONFIG_T_DUR, "hour", "h" }, { CONFIG_T_DUR, "hours", "h" },
		{ CONFIG_T_DUR, "d", "d" }, { CONFIG_T_DUR, "day", "d" },
		{ CONFIG_T_DUR, "days", "d" }, { CONFIG_T_SIZE, "b", "" },
		{ CONFIG_T_SIZE, "bytes", "" }, { CONFIG_T_SIZE, "k", "KiB" },
		{ CONFIG_T_SIZE, "kb", "KB" }, { CONFIG_T_SIZE, "kib", "KiB" },
		{ CONFIG_T_SIZE, "ki", "KiB" }, { CONFIG_T_SIZE, "m", "MiB" },
		{ CONFIG_T_SIZE, "mb", "MB" }, { CONFIG_T_SIZE, "mib", "MiB" },
		{ CONFIG_T_SIZE, "mi", "MiB" }, { CONFIG_T_SIZE, "g", "GiB" },
		{ CONFIG_T_SIZE, "gb", "GB" }, { CONFIG_T_SIZE, "gib", "GiB" },
		{ CONFIG_T_SIZE, "gi", "GiB" }, { CONFIG_T_SIZE, "t", "TiB" },
		{ CONFIG_T_SIZE, "tib", "TiB" }, { CONFIG_T_SIZE, "tb", "TB" },
	};
	size_t digits = strspn(text, "0123456789."), skip = digits + strspn(text + digits, " ");
	int64_t v;

	if (!digits || digits > 15)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (units[i].type != type || strcasecmp(units[i].word, text + skip))
			continue;
		snprintf(out, n, "%.*s%s", (int)digits, text, units[i].unit);
		return parse_number(type, out, &v) == 0;
	}
	return false;
}

static int
not_a_number(enum config_type type, const char *text, struct buf *why)
{
	char guess[UNITS_TEXT];

	config_quote(why, text);
	switch (type) {
	case CONFIG_T_DUR:
		buf_puts(why, " is not a duration (like 250ms, 30s, 5m, 2h, 1d)");
		break;
	case CONFIG_T_SIZE:
		buf_puts(why, " is not a size (like 4096, 64KiB, 16MiB, 4GiB)");
		break;
	case CONFIG_T_DBL:
		buf_puts(why, " is not a decimal number with at most 3 decimals");
		break;
	default:
		buf_puts(why, " is not a whole decimal number (digits only, no leading zero)");
	}
	if (guess_unit(type, text, guess, sizeof(guess)))
		buf_printf(why, "; did you mean %s?", guess);
	return -1;
}

static int
put_number(int64_t *f, const struct config_setting *s, const char *text, struct buf *why)
{
	char range[CONFIG_RANGE_TEXT];
	int64_t v;

	if (parse_number(s->type, text, &v) < 0)
		return not_a_number(s->type, text, why);
	if (v < s->min || v > s->max) {
		config_range_text(s, range, sizeof(range));
		buf_printf(why, "%s is out of range (%s)", text, range);
		return -1;
	}
	*f = v;
	return 0;
}

static int
put_bool(bool *f, const char *text, struct buf *why)
{
	int v;

	if (units_bool(text, &v) < 0)
		return refuse(why, text, "is not true or false");
	*f = v != 0;
	return 0;
}

/* --- words --- */

static void
words_of(const struct config_setting *s, struct strlist *out)
{
	char *copy = xstrdup(s->words), *rest = copy, *one;

	while ((one = strsep(&rest, "|")))
		strlist_add(out, one);
	free(copy);
}

static int
put_enum(int *f, const struct config_setting *s, const char *text, struct buf *why)
{
	struct strlist words = { NULL, 0 };
	const char *near = NULL;
	int rc = -1;

	words_of(s, &words);
	for (size_t i = 0; i < words.n && rc < 0; i++) {
		if (strcmp(words.v[i], text))
			continue;
		*f = (int)i;
		rc = 0;
	}
	if (rc < 0) {
		refuse(why, text, "is not one of ");
		for (size_t i = 0; i < words.n; i++)
			buf_printf(why, "%s%s", i ? ", " : "", words.v[i]);
		near = config_nearest(text, (const char *const *)words.v, words.n);
		if (near)
			buf_printf(why, " (did you mean %s?)", near);
	}
	strlist_release(&words);
	return rc;
}

/* --- lists and maps --- */

void
config_split(const char *text, struct strlist *out)
{
	struct buf one = BUF_INIT;

	if (!*text)
		return;
	for (;; text++) {
		if (*text == '\\' && (text[1] == ',' || text[1] == '\\')) {
			buf_putc(&one, *++text);
		} else if (*text == ',' || !*text) {
			strlist_add(out, buf_str(&one));
			buf_clear(&one);
			if (!*text)
				break;
		} else {
			buf_putc(&one, *text);
		}
	}
	buf_wipe(&one);
}

int
config_field_add(struct strlist *l, const struct config_setting *s, const char *text,
    struct buf *why)
{
	const char *fault = config_text_fault(text, false);

	if (fault)
		return refuse(why, text, fault);
	if (config_fault(s->check, text, why) < 0)
		return -1;
	if (l->n >= CONFIG_ENTRIES_MAX) {
		buf_printf(why, "more than %d entries", CONFIG_ENTRIES_MAX);
		return -1;
	}
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], text))
			return refuse(why, text, "is listed twice");
	strlist_add(l, text);
	return 0;
}

int
config_list_put(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	struct config_setting s = config_setting_of(id);

	return config_field_add(field(c, id), &s, text, why);
}

static void
wipe_replace(char **s, const char *value)
{
	explicit_bzero(*s, strlen(*s));
	free(*s);
	*s = xstrdup(value);
}

/* The value is never part of the reason: it may be a secret under a misspelt name. */
int
config_map_put(struct config *c, enum config_id id, const char *name, const char *value,
    struct buf *why)
{
	struct strmap *m = field(c, id);
	const char *fault = config_text_fault(name, false);

	if (!*name || fault)
		return refuse(why, name, fault ? fault : "is no name");
	fault = config_text_fault(value, true);
	if (fault || strlen(value) > CONFIG_VALUE_MAX) {
		buf_printf(why, "the value of ");
		config_quote(why, name);
		buf_printf(why, " %s", fault ? fault : "is too long");
		return -1;
	}
	for (size_t i = 0; i < m->k.n; i++)
		if (!strcmp(m->k.v[i], name)) {
			wipe_replace(&m->v.v[i], value);
			return 0;
		}
	if (m->k.n >= CONFIG_ENTRIES_MAX) {
		buf_printf(why, "more than %d entries", CONFIG_ENTRIES_MAX);
		return -1;
	}
	strlist_add(&m->k, name);
	strlist_add(&m->v, value);
	return 0;
}

void
config_list_clear(struct config *c, enum config_id id)
{
	config_field_release(field(c, id), &config_settings[id]);
}

void
config_field_release(void *f, const struct config_setting *s)
{
	struct strmap *m = f;

	if (s->type == CONFIG_T_STR) {
		if (*(char **)f)
			explicit_bzero(*(char **)f, strlen(*(char **)f));
		free(*(char **)f);
		*(char **)f = NULL;
	} else if (s->type == CONFIG_T_LIST) {
		strlist_release(f);
	} else if (s->type == CONFIG_T_MAP) {
		for (size_t i = 0; i < m->v.n; i++)
			explicit_bzero(m->v.v[i], strlen(m->v.v[i]));
		strlist_release(&m->k);
		strlist_release(&m->v);
	}
}

/* Of a list or map only the empty text is taken here: it is the default. */
int
config_field_put(void *f, const struct config_setting *s, const char *text, struct buf *why)
{
	switch (s->type) {
	case CONFIG_T_STR:
		return put_str(f, s, text, why);
	case CONFIG_T_BOOL:
		return put_bool(f, text, why);
	case CONFIG_T_ENUM:
		return put_enum(f, s, text, why);
	case CONFIG_T_LIST:
	case CONFIG_T_MAP:
		if (*text)
			return refuse(why, text, "is one value where several are wanted");
		config_field_release(f, s);
		return 0;
	default:
		return put_number(f, s, text, why);
	}
}

int
config_put(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	struct config_setting s = config_setting_of(id);

	return config_field_put(field(c, id), &s, text, why);
}

/* --- back to text --- */

void
config_field_text(const void *f, const struct config_setting *s, struct buf *b)
{
	struct strlist words = { NULL, 0 };
	char text[UNITS_TEXT];

	switch (s->type) {
	case CONFIG_T_STR:
		buf_puts(b, *(char *const *)f);
		break;
	case CONFIG_T_BOOL:
		buf_puts(b, *(const bool *)f ? "true" : "false");
		break;
	case CONFIG_T_ENUM:
		words_of(s, &words);
		buf_puts(b, words.v[*(const int *)f]);
		strlist_release(&words);
		break;
	case CONFIG_T_LIST:
	case CONFIG_T_MAP:
		BUG("a list has no single text");
	default:
		number_text(s->type, *(const int64_t *)f, text);
		buf_puts(b, text);
	}
}

void
config_value_text(const struct config *c, enum config_id id, struct buf *b)
{
	config_field_text(field_const(c, id), &config_settings[id], b);
}

void
config_range_text(const struct config_setting *s, char *out, size_t n)
{
	char lo[UNITS_TEXT], hi[UNITS_TEXT];

	*out = '\0';
	switch (s->type) {
	case CONFIG_T_STR:
		snprintf(out, n, "at most %lld bytes", (long long)s->max);
		break;
	case CONFIG_T_INT:
	case CONFIG_T_DUR:
	case CONFIG_T_SIZE:
	case CONFIG_T_DBL:
		number_text(s->type, s->min, lo);
		number_text(s->type, s->max, hi);
		snprintf(out, n, "%s..%s", lo, hi);
		break;
	default:
		break;
	}
}

static bool
lists_same(const struct strlist *a, const struct strlist *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]))
			return false;
	return true;
}

/* The order of names does not matter. */
static bool
maps_same(const struct strmap *a, const struct strmap *b)
{
	if (a->k.n != b->k.n)
		return false;
	for (size_t i = 0; i < a->k.n; i++) {
		size_t j = 0;

		while (j < b->k.n && strcmp(a->k.v[i], b->k.v[j]))
			j++;
		if (j == b->k.n || strcmp(a->v.v[i], b->v.v[j]))
			return false;
	}
	return true;
}

bool
config_field_same(const void *x, const void *y, const struct config_setting *s)
{
	switch (s->type) {
	case CONFIG_T_STR:
		return !strcmp(*(char *const *)x, *(char *const *)y);
	case CONFIG_T_BOOL:
		return *(const bool *)x == *(const bool *)y;
	case CONFIG_T_ENUM:
		return *(const int *)x == *(const int *)y;
	case CONFIG_T_LIST:
		return lists_same(x, y);
	case CONFIG_T_MAP:
		return maps_same(x, y);
	default:
		return *(const int64_t *)x == *(const int64_t *)y;
	}
}

bool
config_value_same(const struct config *a, const struct config *b, enum config_id id)
{
	return config_field_same(field_const(a, id), field_const(b, id), &config_settings[id]);
}

static size_t
field_size(enum config_type type)
{
	switch (type) {
	case CONFIG_T_STR:
		return sizeof(char *);
	case CONFIG_T_BOOL:
		return sizeof(bool);
	case CONFIG_T_ENUM:
		return sizeof(int);
	case CONFIG_T_LIST:
		return sizeof(struct strlist);
	case CONFIG_T_MAP:
		return sizeof(struct strmap);
	default:
		return sizeof(int64_t);
	}
}

void
config_value_swap(struct config *a, struct config *b, enum config_id id)
{
	char tmp[sizeof(struct strmap)];
	size_t n = field_size(config_settings[id].type);

	memcpy(tmp, field(a, id), n);
	memcpy(field(a, id), field(b, id), n);
	memcpy(field(b, id), tmp, n);
}

/* to: as config_field_put left it, or zero */
void
config_field_copy(void *to, const void *from, const struct config_setting *s)
{
	const struct strlist *l = from;

	config_field_release(to, s);
	switch (s->type) {
	case CONFIG_T_STR:
		*(char **)to = xstrdup(*(char *const *)from);
		break;
	case CONFIG_T_LIST:
		for (size_t i = 0; i < l->n; i++)
			strlist_add(to, l->v[i]);
		break;
	case CONFIG_T_MAP:
		BUG("a table has no maps");
	default:
		memcpy(to, from, field_size(s->type));
	}
}
