/*
 * units.c - durations, sizes, numbers and times as people and JSON write them.
 *
 * Used by the settings, the job validator and every writer of times. Calendar arithmetic is done here and
 * not by libc, whose gmtime_r may want to read the time zone file inside a sandbox, and whose strptime takes
 * too much. Never rounds silently: what has no exact value is refused.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NS_PER_S INT64_C(1000000000)
#define S_PER_DAY 86400

struct unit {
	const char *name;
	int64_t value;
};

/* Largest first, which is the order that the writers want. */
static const struct unit durations[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};

static const struct unit sizes[] = {
	{ "TiB", INT64_C(1) << 40 }, { "GiB", 1 << 30 }, { "MiB", 1 << 20 }, { "KiB", 1 << 10 },
	{ "TB", INT64_C(1000000000000) }, { "GB", 1000000000 }, { "MB", 1000000 }, { "KB", 1000 },
};

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads digits without a needless leading zero; gives what follows, or NULL. */
static const char *
digits(const char *s, int64_t *v)
{
	*v = 0;
	if (!is_digit(*s) || (*s == '0' && is_digit(s[1])))
		return NULL;
	for (; is_digit(*s); s++)
		if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, *s - '0', v))
			return NULL;
	return s;
}

/* 0 where no unit has this name */
static int64_t
unit_value(const struct unit *u, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(u[i].name, name))
			return u[i].value;
	return 0;
}

int
units_duration(const char *s, int64_t *ms)
{
	int64_t whole, part = 0, scale = 1, unit, v;

	s = digits(s, &whole);
	if (!s)
		return -1;
	if (*s == '.') {
		if (!is_digit(*++s))
			return -1;
		for (; is_digit(*s); s++) {
			if (scale >= NS_PER_S)
				return -1;
			part = part * 10 + (*s - '0');
			scale *= 10;
		}
	}
	unit = *s ? unit_value(durations, ARRAY_LEN(durations), s) : 1000;
	/* part < 10^9 and unit < 10^8: no overflow there */
	if (!unit || part * unit % scale || __builtin_mul_overflow(whole, unit, &v) ||
	    __builtin_add_overflow(v, part * unit / scale, &v))
		return -1;
	*ms = v;
	return 0;
}

int
units_size(const char *s, int64_t *bytes)
{
	int64_t unit, v;

	s = digits(s, &v);
	if (!s)
		return -1;
	unit = *s ? unit_value(sizes, ARRAY_LEN(sizes), s) : 1;
	if (!unit || __builtin_mul_overflow(v, unit, &v))
		return -1;
	*bytes = v;
	return 0;
}

int
units_int(const char *s, int64_t *v)
{
	bool minus = *s == '-';
	int64_t n = 0;

	s += minus;
	if (!is_digit(*s) || (*s == '0' && is_digit(s[1])))
		return -1;
	/* Counts downwards, because the lowest number has no positive twin. */
	for (; is_digit(*s); s++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, *s - '0', &n))
			return -1;
	if (*s || (!minus && n == INT64_MIN))
		return -1;
	*v = minus ? n : -n;
	return 0;
}

int
units_bool(const char *s, int *v)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (!strcmp(s, words[i])) {
			*v = i % 2;
			return 0;
		}
	}
	return -1;
}

/*
 * Days since the epoch of a date in the Gregorian calendar, for years from 1 on. A year is taken to begin in
 * March, so that the leap day is its last.
 */
static int64_t
days_of(int year, int month, int day)
{
	int64_t y = year - (month < 3);
	int m = (month + 9) % 12;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 1 - 719468;
}

static int
month_days(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	if (month == 2 && (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)))
		return 29;
	return days[month - 1];
}

/* Exactly n digits, between lo and hi, then the byte `after` (0: anything). Moves *s on. */
static int
field(const char **s, int n, int lo, int hi, char after, int *out)
{
	int v = 0;

	for (int i = 0; i < n; i++, ++*s) {
		if (!is_digit(**s))
			return -1;
		v = v * 10 + (**s - '0');
	}
	if (v < lo || v > hi || (after && *(*s)++ != after))
		return -1;
	*out = v;
	return 0;
}

/* ".123" in ns; nothing there is 0. */
static int
fraction(const char **s, int64_t *ns)
{
	int64_t unit = NS_PER_S / 10;

	*ns = 0;
	if (**s != '.')
		return 0;
	if (!is_digit(*++*s))
		return -1;
	for (; is_digit(**s); ++*s, unit /= 10) {
		if (!unit)
			return -1;
		*ns += (**s - '0') * unit;
	}
	return 0;
}

/* "Z" or "+hh:mm", to the end of the text; seconds east of Greenwich. */
static int
zone(const char *s, int *seconds)
{
	int h, m, sign = *s == '-' ? -1 : 1;

	*seconds = 0;
	if (*s == 'Z' || *s == 'z')
		return s[1] ? -1 : 0;
	if (*s != '+' && *s != '-')
		return -1;
	s++;
	if (field(&s, 2, 0, 23, ':', &h) || field(&s, 2, 0, 59, 0, &m) || *s)
		return -1;
	*seconds = sign * (h * 3600 + m * 60);
	return 0;
}

int
units_time(const char *s, int64_t *ns)
{
	int year, month, day, h, m, sec, east;
	int64_t frac, t;

	if (field(&s, 4, 1970, 9999, '-', &year) || field(&s, 2, 1, 12, '-', &month) ||
	    field(&s, 2, 1, month_days(year, month), 0, &day) || (*s != 'T' && *s != 't'))
		return -1;
	s++;
	if (field(&s, 2, 0, 23, ':', &h) || field(&s, 2, 0, 59, ':', &m) ||
	    field(&s, 2, 0, 60, 0, &sec) || fraction(&s, &frac) || zone(s, &east))
		return -1;
	t = days_of(year, month, day) * S_PER_DAY + h * 3600 + m * 60 + sec - east;
	if (sec == 60) {
		/* The second after it must begin a day of UTC: leap seconds are nowhere else. */
		if (t % S_PER_DAY)
			return -1;
		t--;
		frac = NS_PER_S - 1;
	}
	/* Nanoseconds end in 2262; a later time is as far away as can be said. */
	if (__builtin_mul_overflow(t, NS_PER_S, ns) || __builtin_add_overflow(*ns, frac, ns))
		*ns = INT64_MAX;
	return 0;
}

/* The date of a day, the other way round; days are counted from 1 March of year 0. */
static void
date_of(int64_t days, int *year, int *month, int *day)
{
	int64_t z = days + 719468, y = z * 400 / 146097 + 1;
	int m;

	while (y * 365 + y / 4 - y / 100 + y / 400 > z)
		y--;
	z -= y * 365 + y / 4 - y / 100 + y / 400;
	m = (int)((z * 10 + 5) / 306);
	*day = (int)z - (m * 306 + 5) / 10 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = (int)(y + (*month < 3));
}

/* n digits of v at p; gives what follows them. */
static char *
put_digits(char *p, uint32_t v, int n)
{
	for (int i = n - 1; i >= 0; i--) {
		p[i] = (char)('0' + v % 10);
		v /= 10;
	}
	return p + n;
}

/* n digits, then the byte that stands between them and the next */
static char *
put_part(char *p, int v, int n, char after)
{
	p = put_digits(p, (uint32_t)v, n);
	*p = after;
	return p + 1;
}

/* Without printf: events and listings hold several times for each file. */
size_t
units_time_text(int64_t ns, int n, char out[UNITS_TEXT])
{
	int64_t s = ns / NS_PER_S, frac = ns % NS_PER_S, days;
	int year, month, day, rest;
	char *p = out;

	if (n != 0 && n != 3 && n != 6 && n != 9)
		BUG("a second has 0, 3, 6 or 9 digits");
	if (frac < 0) {
		frac += NS_PER_S;
		s--;
	}
	days = s / S_PER_DAY - (s % S_PER_DAY < 0);
	rest = (int)(s - days * S_PER_DAY);
	date_of(days, &year, &month, &day);
	p = put_part(p, year, 4, '-');
	p = put_part(p, month, 2, '-');
	p = put_part(p, day, 2, 'T');
	p = put_part(p, rest / 3600, 2, ':');
	p = put_part(p, rest / 60 % 60, 2, ':');
	p = put_part(p, rest % 60, 2, n ? '.' : 'Z');
	if (n) {
		for (int i = n; i < 9; i++)
			frac /= 10;
		p = put_digits(p, (uint32_t)frac, n);
		*p++ = 'Z';
	}
	*p = '\0';
	return (size_t)(p - out);
}

static void
text(const struct unit *u, size_t n, int64_t v, char out[UNITS_TEXT])
{
	size_t i = 0;

	while (i < n && v % u[i].value)
		i++;
	if (i < n)
		snprintf(out, UNITS_TEXT, "%" PRId64 "%s", v / u[i].value, u[i].name);
	else
		snprintf(out, UNITS_TEXT, "%" PRId64, v);
}

void
units_duration_text(int64_t ms, char out[UNITS_TEXT])
{
	if (ms)
		text(durations, ARRAY_LEN(durations), ms, out);
	else
		snprintf(out, UNITS_TEXT, "0s");
}

void
units_size_text(int64_t bytes, char out[UNITS_TEXT])
{
	if (bytes)
		text(sizes, ARRAY_LEN(sizes), bytes, out);
	else
		snprintf(out, UNITS_TEXT, "0");
}
