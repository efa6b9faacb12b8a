/*
 * config_value.c - one setting's value: from text to its field, strictly, and back.
 *
 * Used by the file, environment and command line readers and by every dump. A refused text leaves
 * the field as it was and says why in words that fit behind "section.key: ". Reads no file, knows
 * no order.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_priv.h"
#include "common/egress.h"
#include "common/escape.h"
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

/* --- texts --- */

/*
 * What YAML can hold and a log can show: UTF-8 without controls; lines and tabs where several are
 * meant.
 */
static const char *
text_fault(const char *s, bool lines)
{
	const unsigned char *p = (const unsigned char *)s;

	if (!utf8_valid(s, strlen(s)))
		return "is not valid UTF-8";
	for (; *p; p++) {
		if (lines && (*p == '\n' || *p == '\r' || *p == '\t'))
			continue;
		if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0))
			return "holds a control character";
		if ((*p == 0xef && p[1] == 0xbb && p[2] == 0xbf) ||
		    (*p == 0xef && p[1] == 0xbf && p[2] >= 0xbe))
			return "holds a byte order mark or a code that is no character";
	}
	return NULL;
}

static const char *
topic_fault(const char *s)
{
	if (!strcmp(s, ".") || !strcmp(s, ".."))
		return "is not a topic name: Kafka forbids . and ..";
	for (; *s; s++)
		if (!isascii((unsigned char)*s) ||
		    (!isalnum((unsigned char)*s) && !strchr("._-", *s)))
			return "is not a topic name: letters, digits, \".\", \"_\" and \"-\" only";
	return NULL;
}

static bool
port_ok(const char *s, int64_t least)
{
	int64_t v;

	return units_int(s, &v) == 0 && v >= least && v <= 65535;
}

static bool
host_ok(const char *s, size_t n)
{
	char v6[INET6_ADDRSTRLEN];
	struct in6_addr a;

	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		if (n - 2 >= sizeof(v6))
			return false;
		memcpy(v6, s + 1, n - 2);
		v6[n - 2] = '\0';
		return inet_pton(AF_INET6, v6, &a) == 1;
	}
	for (size_t i = 0; i < n; i++)
		if (!isascii((unsigned char)s[i]) ||
		    (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i])))
			return false;
	return n > 0 && n <= 253;
}

static const char *
listen_fault(const char *s)
{
	const char *colon = strrchr(s, ':');

	if (!colon || !host_ok(s, (size_t)(colon - s)))
		return "is not host:port (like 127.0.0.1:7093 or [::1]:7093)";
	if (!port_ok(colon + 1, 0))
		return "has no port from 0 to 65535 behind its \":\"";
	return NULL;
}

/* host, host:port or protocol://host:port, which librdkafka takes too */
static bool
broker_ok(char *s)
{
	char *proto = strstr(s, "://"), *colon, *end;

	if (proto)
		s = proto + 3;
	end = s + strlen(s);
	colon = strrchr(s, ':');
	if (colon && *s == '[' && end[-1] == ']')
		colon = NULL;
	if (colon && !port_ok(colon + 1, 1))
		return false;
	return host_ok(s, (size_t)((colon ? colon : end) - s));
}

static const char *
brokers_fault(const char *s)
{
	const char *fault = NULL;
	char *copy = xstrdup(s), *rest = copy, *one;

	while (!fault && (one = strsep(&rest, ","))) {
		one += strspn(one, " ");
		one[strcspn(one, " ")] = '\0';
		if (!broker_ok(one))
			fault = "is not a list of host:port, comma separated";
	}
	free(copy);
	return fault;
}

static const char *
group_fault(const char *s)
{
	for (; *s; s++)
		if (isspace((unsigned char)*s) || strchr(":,/", *s))
			return "is not the name of a group";
	return NULL;
}

/*
 * Absolute, without "//", "/./", "/../" or an ending "/": what is compared must have one spelling.
 */
static const char *
root_fault(const char *s)
{
	if (*s != '/')
		return "is not an absolute path";
	if (!s[1])
		return NULL;
	while (*s) {
		size_t n = strcspn(++s, "/");

		if (!n || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return "is not normalised (no \"//\", \".\", \"..\" or ending \"/\")";
		s += n;
	}
	return NULL;
}

static const char *
special_fault(enum config_id id, const char *s)
{
	switch (id) {
	case CONFIG_topic_jobs:
	case CONFIG_topic_events:
	case CONFIG_topic_results:
	case CONFIG_topic_dlq:
		return topic_fault(s);
	case CONFIG_http_listen:
		return listen_fault(s);
	case CONFIG_kafka_bootstrap_servers:
		return brokers_fault(s);
	case CONFIG_control_group:
		return group_fault(s);
	default:
		return NULL;
	}
}

static int
put_str(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	const char *fault = text_fault(text, false);
	char **f = field(c, id);
	int64_t max = config_settings[id].max;

	if ((int64_t)strlen(text) > max) {
		buf_printf(why, "%zu bytes are too long (at most %lld)", strlen(text),
		    (long long)max);
		return -1;
	}
	if (!*text && *config_rows[id].def) {
		buf_printf(why, "must not be empty (the default is %s)", config_rows[id].def);
		return -1;
	}
	if (!fault)
		fault = special_fault(id, text);
	if (fault)
		return refuse(why, text, fault);
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
put_number(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	const struct config_setting *s = &config_settings[id];
	int64_t v;

	if (parse_number(s->type, text, &v) < 0)
		return not_a_number(s->type, text, why);
	if (v < s->min || v > s->max) {
		buf_printf(why, "%s is out of range (%s)", text, config_rows[id].range);
		return -1;
	}
	*(int64_t *)field(c, id) = v;
	return 0;
}

static int
put_bool(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	int v;

	if (units_bool(text, &v) < 0)
		return refuse(why, text, "is not true or false");
	*(bool *)field(c, id) = v != 0;
	return 0;
}

/* --- words --- */

static void
words_of(enum config_id id, struct strlist *out)
{
	char *copy = xstrdup(config_rows[id].words), *rest = copy, *one;

	while ((one = strsep(&rest, "|")))
		strlist_add(out, one);
	free(copy);
}

static int
put_enum(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	struct strlist words = { NULL, 0 };
	const char *near = NULL;
	int rc = -1;

	words_of(id, &words);
	for (size_t i = 0; i < words.n && rc < 0; i++) {
		if (strcmp(words.v[i], text))
			continue;
		*(int *)field(c, id) = (int)i;
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

static int
put_network(const char *text, struct buf *why)
{
	struct egress_net net;
	struct err e = ERR_INIT;

	if (!egress_net_parse(text, &net, &e))
		return 0;
	buf_puts(why, e.text);
	return -1;
}

int
config_list_put(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	struct strlist *l = field(c, id);
	const char *fault = text_fault(text, false);

	if (!fault && (id == CONFIG_egress_allow || id == CONFIG_egress_deny) && put_network(text, why))
		return -1;

	if (!fault && id == CONFIG_local_roots)
		fault = root_fault(text);
	if (fault)
		return refuse(why, text, fault);
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
	const char *fault = text_fault(name, false);

	if (!*name || fault)
		return refuse(why, name, fault ? fault : "is no name");
	fault = text_fault(value, true);
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
	struct strmap *m = field(c, id);

	if (config_settings[id].type == CONFIG_T_LIST) {
		strlist_release(field(c, id));
		return;
	}
	for (size_t i = 0; i < m->v.n; i++)
		explicit_bzero(m->v.v[i], strlen(m->v.v[i]));
	strlist_release(&m->k);
	strlist_release(&m->v);
}

/* Of a list or map only the empty text is taken here: it is the default. */
int
config_put(struct config *c, enum config_id id, const char *text, struct buf *why)
{
	switch (config_settings[id].type) {
	case CONFIG_T_STR:
		return put_str(c, id, text, why);
	case CONFIG_T_BOOL:
		return put_bool(c, id, text, why);
	case CONFIG_T_ENUM:
		return put_enum(c, id, text, why);
	case CONFIG_T_LIST:
	case CONFIG_T_MAP:
		if (*text)
			return refuse(why, text, "is one value where several are wanted");
		config_list_clear(c, id);
		return 0;
	default:
		return put_number(c, id, text, why);
	}
}

/* --- back to text --- */

void
config_value_text(const struct config *c, enum config_id id, struct buf *b)
{
	const void *f = field_const(c, id);
	struct strlist words = { NULL, 0 };
	char text[UNITS_TEXT];

	switch (config_settings[id].type) {
	case CONFIG_T_STR:
		buf_puts(b, *(char *const *)f);
		break;
	case CONFIG_T_BOOL:
		buf_puts(b, *(const bool *)f ? "true" : "false");
		break;
	case CONFIG_T_ENUM:
		words_of(id, &words);
		buf_puts(b, words.v[*(const int *)f]);
		strlist_release(&words);
		break;
	case CONFIG_T_LIST:
	case CONFIG_T_MAP:
		BUG("a list has no single text");
	default:
		number_text(config_settings[id].type, *(const int64_t *)f, text);
		buf_puts(b, text);
	}
}

void
config_range_text(enum config_id id, char *out, size_t n)
{
	const struct config_setting *s = &config_settings[id];
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
config_value_same(const struct config *a, const struct config *b, enum config_id id)
{
	const void *x = field_const(a, id), *y = field_const(b, id);

	switch (config_settings[id].type) {
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
