/*
 * http_index_text.c - dates and sizes as index pages write them, and what all readers of pages share.
 *
 * Called by the readers for each entry; works on bounded texts, allocates nothing for them. Pages tell no zone but for
 * Caddy's; UTC is taken, which is what nginx writes and what the manual says.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/units.h"
#include "worker/source/http_index.h"
#include "common/banned.h"

#define NS INT64_C(1000000000)

struct index_parser *
index_new(const struct index_format *f, const struct index_sink *sink)
{
	struct index_parser *p = f->new();

	p->format = f;
	p->sink = *sink;
	return p;
}

void
index_free(struct index_parser *p)
{
	if (p)
		p->format->free(p);
}

void
index_entry_init(struct index_entry *en)
{
	*en = (struct index_entry){ .size = -1, .mtime_ns = TIME_UNKNOWN, .precision = MTIME_NONE, .etag = "", .content_type = "" };
}

int
index_emit(struct index_parser *p, const struct index_entry *en, struct err *e)
{
	if (!en->n)
		return err_set(e, ERR_PROTOCOL, "an entry of the %s index has no name", p->format->name);
	return p->sink.entry(p->sink.arg, en, e);
}

/* ---- dates ------------------------------------------------------------------------------------------------------------ */

bool
index_civil(int64_t year, int month, int day, int hour, int minute, int second, int64_t *ns)
{
	static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = !(year % 4) && (year % 100 || !(year % 400));
	int64_t y, days;

	if (year < 1970 || year > 2261 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 ||
	    minute > 59 || second < 0 || second > 60 || day > lengths[month - 1] + (month == 2 && leap))
		return false;
	/* Days since 1970-01-01, with the year beginning in March. */
	y = year - (month < 3);
	days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day - 1 - 719468;
	*ns = (days * 86400 + hour * 3600 + minute * 60 + (second > 59 ? 59 : second)) * NS;
	return true;
}

struct text { const char *p, *end; };

/* min..max digits; false and nothing eaten else. */
static bool
number(struct text *t, int min, int max, int *v)
{
	const char *p = t->p;
	int n = 0;

	for (*v = 0; p < t->end && n < max && *p >= '0' && *p <= '9'; p++, n++)
		*v = *v * 10 + (*p - '0');
	if (n < min || (p < t->end && *p >= '0' && *p <= '9'))
		return false;
	t->p = p;
	return true;
}

static bool
literal(struct text *t, char c)
{
	if (t->p == t->end || *t->p != c)
		return false;
	t->p++;
	return true;
}

static bool
blanks(struct text *t)
{
	const char *p = t->p;

	while (t->p < t->end && (*t->p == ' ' || *t->p == '\t' || *t->p == '\n' || *t->p == '\r'))
		t->p++;
	return t->p > p;
}

static bool
month_name(struct text *t, int *month)
{
	static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
	char s[3];

	if (t->end - t->p < 3)
		return false;
	for (int i = 0; i < 3; i++)
		s[i] = (char)(t->p[i] >= 'A' && t->p[i] <= 'Z' ? t->p[i] | 32 : t->p[i]);
	for (int i = 0; i < 12; i++)
		if (!memcmp(s, names + (size_t)i * 3, 3)) {
			*month = i + 1;
			t->p += 3;
			return true;
		}
	return false;
}

struct date { int year, month, day, hour, minute, second; int64_t offset_s; enum mtime_precision precision; };

static bool
date_ns(const struct date *d, int64_t *ns)
{
	if (!index_civil(d->year, d->month, d->day, d->hour, d->minute, d->second, ns))
		return false;
	*ns -= d->offset_s * NS;
	return *ns >= 0;
}

/* "3:45 PM", "15:04", "15:04:05" */
static bool
clock_time(struct text *t, struct date *d)
{
	struct text at = *t;
	bool noon;

	if (!number(&at, 1, 2, &d->hour) || !literal(&at, ':') || !number(&at, 2, 2, &d->minute))
		return false;
	d->precision = MTIME_MIN;
	if (at.p < at.end && *at.p == ':') {
		at.p++;
		if (!number(&at, 2, 2, &d->second))
			return false;
		d->precision = MTIME_S;
	}
	*t = at;
	blanks(&at);
	if (at.end - at.p >= 2 && (at.p[1] | 32) == 'm' && ((at.p[0] | 32) == 'a' || (at.p[0] | 32) == 'p')) {
		noon = (at.p[0] | 32) == 'p';
		if (d->hour < 1 || d->hour > 12)
			return false;
		d->hour = d->hour % 12 + (noon ? 12 : 0);
		at.p += 2;
		*t = at;
	}
	return true;
}

/* " +02:00", as Caddy has it */
static void
zone(struct text *t, struct date *d)
{
	struct text at = *t;
	int h, m, sign;

	blanks(&at);
	if (at.p == at.end || (*at.p != '+' && *at.p != '-'))
		return;
	sign = *at.p++ == '-' ? -1 : 1;
	if (!number(&at, 2, 2, &h) || !literal(&at, ':') || !number(&at, 2, 2, &m) || h > 23 || m > 59)
		return;
	d->offset_s = sign * (h * 3600 + m * 60);
	*t = at;
}

static bool
day_first(struct text *t, struct date *d)
{
	/* 01-Jan-2024 */
	return number(t, 1, 2, &d->day) && literal(t, '-') && month_name(t, &d->month) && literal(t, '-') &&
	    number(t, 4, 4, &d->year);
}

static bool
year_first(struct text *t, struct date *d)
{
	/* 2024-Jan-01, 2024-01-01, 2024/01/01 */
	char sep;

	if (!number(t, 4, 4, &d->year) || t->p == t->end || (*t->p != '-' && *t->p != '/'))
		return false;
	sep = *t->p++;
	return (number(t, 2, 2, &d->month) || month_name(t, &d->month)) && literal(t, sep) && number(t, 2, 2, &d->day);
}

static bool
month_first(struct text *t, struct date *d)
{
	/* 1/15/2020 */
	return number(t, 1, 2, &d->month) && literal(t, '/') && number(t, 1, 2, &d->day) && literal(t, '/') &&
	    number(t, 4, 4, &d->year);
}

/* A date at t, eaten; else nothing is. */
static bool
take_date(struct text *t, struct date *d)
{
	static bool (*const forms[])(struct text *, struct date *) = { day_first, year_first, month_first };

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct text at = *t, after;

		memset(d, 0, sizeof(*d));
		d->precision = MTIME_DAY;
		if (!forms[i](&at, d))
			continue;
		after = at;
		if ((blanks(&after) || literal(&after, 'T')) && clock_time(&after, d)) {
			if (forms[i] == month_first)
				zone(&after, d);
			at = after;
		}
		if (at.p < at.end && *at.p != ' ' && *at.p != '\t' && *at.p != '\n' && *at.p != '\r' && *at.p != 'Z')
			continue;
		*t = at;
		return true;
	}
	return false;
}

bool
index_http_date(const char *s, size_t n, int64_t *ns)
{
	struct text t = { s, s + n };
	struct date d = { 0 };
	bool ok;

	while (t.p < t.end && *t.p != ' ')
		t.p++;
	blanks(&t);
	if (t.p < t.end && *t.p >= '0' && *t.p <= '9') {
		/* Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT */
		ok = number(&t, 1, 2, &d.day) && (literal(&t, ' ') || literal(&t, '-')) && month_name(&t, &d.month) &&
		    (literal(&t, ' ') || literal(&t, '-'));
		if (ok && !number(&t, 4, 4, &d.year)) {
			ok = number(&t, 2, 2, &d.year);
			d.year += d.year < 70 ? 2000 : 1900;
		}
		ok = ok && blanks(&t) && clock_time(&t, &d);
	} else {
		/* Sun Nov  6 08:49:37 1994 */
		ok = month_name(&t, &d.month) && blanks(&t) && number(&t, 1, 2, &d.day) && blanks(&t) && clock_time(&t, &d) &&
		    blanks(&t) && number(&t, 4, 4, &d.year);
	}
	return ok && d.precision == MTIME_S && date_ns(&d, ns);
}

bool
index_any_date(const char *s, size_t n, int64_t *ns, enum mtime_precision *precision)
{
	struct text t = { s, s + n };
	struct date d;
	char z[64];
	int64_t v;

	if (!n || n >= sizeof(z))
		return false;
	memcpy(z, s, n);
	z[n] = '\0';
	if (strlen(z) == n && !units_time(z, &v)) {
		*precision = strchr(z, '.') ? MTIME_NS : MTIME_S;
	} else if (strlen(z) == n && !units_int(z, &v)) {
		if (v < 0 || v > 9200000000)
			return false;
		v *= NS;
		*precision = MTIME_S;
	} else if (index_http_date(s, n, &v)) {
		*precision = MTIME_S;
	} else {
		if (!take_date(&t, &d) || t.p != t.end || !date_ns(&d, &v))
			return false;
		*precision = d.precision;
	}
	*ns = v;
	return true;
}

/* ---- sizes -------------------------------------------------------------------------------------------------------------- */

static size_t
word(const struct text *t)
{
	size_t n = 0;

	while (t->p + n < t->end && t->p[n] != ' ' && t->p[n] != '\t' && t->p[n] != '\n' && t->p[n] != '\r')
		n++;
	return n;
}

/* "", "B", "K", "KB", "KiB", "M" ...: the power of 1024, or -1. */
static int
unit(const char *p, size_t n)
{
	static const char letters[] = "kmgtpe";
	const char *at;

	if (!n || (n == 1 && (*p | 32) == 'b') || (n == 5 && !strncasecmp(p, "bytes", 5)))
		return 0;
	at = strchr(letters, *p | 32);
	if (!at || !*at)
		return -1;
	p++;
	n--;
	if (n && (*p | 32) == 'i') {
		p++;
		n--;
	}
	return !n || (n == 1 && (*p | 32) == 'b') ? (int)(at - letters) + 1 : -1;
}

/* A size at t, eaten; a unit may be a word of its own. */
static bool
take_size(struct text *t, int64_t *size, bool *approximate)
{
	struct text at = *t, next;
	double v = 0, scale = 1;
	int64_t whole = 0;
	bool point = false, any = false;
	int power;
	size_t n;

	for (; at.p < at.end && ((*at.p >= '0' && *at.p <= '9') || (*at.p == '.' && !point)); at.p++) {
		if (*at.p == '.') {
			point = true;
			continue;
		}
		any = true;
		if (point) {
			scale /= 10;
			v += (*at.p - '0') * scale;
		} else if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, *at.p - '0', &whole)) {
			return false;
		}
	}
	n = word(&at);
	power = any ? unit(at.p, n) : -1;
	if (power < 0)
		return false;
	at.p += n;
	next = at;
	if (!n && blanks(&next) && word(&next) && unit(next.p, word(&next)) >= 0) {
		power = unit(next.p, word(&next));
		at.p = next.p + word(&next);
	}
	*approximate = point || power;
	v += (double)whole;
	for (int i = 0; i < power; i++)
		v *= 1024;
	if (v > 4e18)
		return false;
	*size = *approximate ? (int64_t)v : whole;
	*t = at;
	return true;
}

bool
index_size(const char *s, size_t n, int64_t *size, bool *approximate)
{
	struct text t = { s, s + n };

	blanks(&t);
	if (!take_size(&t, size, approximate))
		return false;
	blanks(&t);
	return t.p == t.end;
}

/* ---- both ------------------------------------------------------------------------------------------------------------------ */

void
index_beside(const char *s, size_t n, struct index_entry *en)
{
	struct text t = { s, s + n }, before = { s, s };
	struct date d;
	int64_t ns, size;
	bool approximate;

	/* The date may stand behind the size; nothing else is looked for there. */
	for (;;) {
		blanks(&t);
		if (t.p == t.end)
			break;
		if (take_date(&t, &d) && date_ns(&d, &ns)) {
			en->mtime_ns = ns;
			en->precision = d.precision;
			break;
		}
		t.p += word(&t);
		before.end = t.p;
	}
	blanks(&t);
	blanks(&before);
	if (take_size(&t, &size, &approximate) || (before.p < before.end && index_size(before.p,
	    (size_t)(before.end - before.p), &size, &approximate))) {
		en->size = size;
		en->approximate = approximate;
	}
}
