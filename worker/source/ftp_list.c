/*
 * ftp_list.c - lines of LIST, as ls(1) and as DOS write them.
 *
 * No standard says how LIST looks (RFC 959 section 4.1.3: "a text for people"), so these are the forms that servers in use
 * write, told apart strictly: a line is taken only where every column before the name is what it must be, and what is
 * given back are pieces of the line. Called by ftp.c where MLSD is not to be had. A name with a line break comes as lines
 * of their own, and one that is made to look like an entry cannot be told from one.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/ftp.h"
#include "common/banned.h"

#define DAY_NS (INT64_C(86400) * 1000000000)
#define TOKENS 12               /* of a line's start; more columns than any form has */

struct line {
	const char *p;
	size_t n;
	struct ftp_text tok[TOKENS];
	size_t n_tok;
};

static bool
digits(struct ftp_text t)
{
	for (size_t i = 0; i < t.n; i++)
		if (t.p[i] < '0' || t.p[i] > '9')
			return false;
	return t.n > 0;
}

static bool
is(struct ftp_text t, const char *word)
{
	return t.n == strlen(word) && !strncasecmp(t.p, word, t.n);
}

/* Of at most 9 digits; the caller looked. */
static int
number(struct ftp_text t)
{
	int v = 0;

	for (size_t i = 0; i < t.n && i < 9; i++)
		v = v * 10 + (t.p[i] - '0');
	return v;
}

static struct ftp_text
part(struct ftp_text t, size_t at, size_t n)
{
	return at + n <= t.n ? (struct ftp_text){ t.p + at, n } : (struct ftp_text){ t.p, 0 };
}

static void
split(struct line *l, const char *p, size_t n)
{
	size_t i = 0;

	*l = (struct line){ .p = p, .n = n };
	while (l->n_tok < TOKENS) {
		size_t start;

		while (i < n && (p[i] == ' ' || p[i] == '\t'))
			i++;
		if (i == n)
			return;
		start = i;
		while (i < n && p[i] != ' ' && p[i] != '\t')
			i++;
		l->tok[l->n_tok++] = (struct ftp_text){ p + start, i - start };
	}
}

/* Everything behind the one space that ends token i. Leading spaces are the name's own. */
static struct ftp_text
rest_after(const struct line *l, size_t i)
{
	const char *end = l->tok[i].p + l->tok[i].n;

	return end + 1 < l->p + l->n ? (struct ftp_text){ end + 1, (size_t)(l->p + l->n - end - 1) }
				     : (struct ftp_text){ end, 0 };
}

static bool
blank_after(const struct line *l, size_t i)
{
	return l->tok[i].p + l->tok[i].n < l->p + l->n;
}

static int
read_size(struct ftp_text t, int64_t *size)
{
	int64_t v = 0;

	if (!digits(t) || t.n > 18)
		return -1;
	for (size_t i = 0; i < t.n; i++)
		v = v * 10 + (t.p[i] - '0');
	*size = v;
	return 0;
}

/* ---- dates ---- */

struct when {
	int year, month, day, hour, minute, second;     /* year -1: not said; hour -1: likewise */
	bool seconds;
	bool zoned;
	int64_t east;           /* seconds, where zoned */
	size_t last;            /* the token that ends it */
};

static int
month_of(struct ftp_text t)
{
	static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";

	for (int i = 0; t.n == 3 && i < 12; i++)
		if (!strncasecmp(t.p, names + 3 * i, 3))
			return i + 1;
	return 0;
}

static bool
is_day(struct ftp_text t)
{
	return digits(t) && t.n <= 2 && number(t) >= 1 && number(t) <= 31;
}

/* "16:21", "6:21", "16:21:05" */
static bool
read_clock(struct ftp_text t, struct when *w)
{
	size_t h = t.n == 4 || t.n == 7 ? 1 : 2;
	bool seconds = t.n == h + 6;

	if ((t.n != h + 3 && !seconds) || t.p[h] != ':' || !digits(part(t, 0, h)) || !digits(part(t, h + 1, 2)))
		return false;
	if (seconds && (t.p[h + 3] != ':' || !digits(part(t, h + 4, 2))))
		return false;
	w->hour = number(part(t, 0, h));
	w->minute = number(part(t, h + 1, 2));
	w->second = seconds ? number(part(t, h + 4, 2)) : 0;
	w->seconds = seconds;
	return true;
}

/* "2024-01-02" */
static bool
read_iso_day(struct ftp_text t, struct when *w)
{
	if (t.n != 10 || t.p[4] != '-' || t.p[7] != '-' || !digits(part(t, 0, 4)) || !digits(part(t, 5, 2)) ||
	    !digits(part(t, 8, 2)))
		return false;
	w->year = number(part(t, 0, 4));
	w->month = number(part(t, 5, 2));
	w->day = number(part(t, 8, 2));
	return true;
}

/* "16:21:05.000000000 +0100", as ls --full-time has it; i is the clock's token */
static bool
read_full_clock(const struct line *l, size_t i, struct when *w)
{
	struct ftp_text t = l->tok[i], z;

	if (t.n < 10 || t.p[8] != '.' || !digits(part(t, 9, t.n - 9)) || i + 1 >= l->n_tok)
		return false;
	z = l->tok[i + 1];
	if (z.n != 5 || (z.p[0] != '+' && z.p[0] != '-') || !digits(part(z, 1, 4)) || !read_clock(part(t, 0, 8), w))
		return false;
	w->zoned = true;
	w->east = (number(part(z, 1, 2)) * 3600 + number(part(z, 3, 2)) * 60) * (z.p[0] == '-' ? -1 : 1);
	w->last = i + 1;
	return true;
}

/* "Nov 23 16:21", "23 Nov 16:21", "Nov 23  2027", "Nov 23 16:21:05 2027", "2027-11-23 16:21", from token i on. */
static bool
read_when(const struct line *l, size_t i, struct when *w)
{
	struct ftp_text t;

	*w = (struct when){ .year = -1, .hour = -1 };
	if (i + 1 >= l->n_tok)
		return false;
	if (read_iso_day(l->tok[i], w)) {
		w->last = i + 1;
		return read_full_clock(l, i + 1, w) || read_clock(l->tok[i + 1], w);
	}
	if (i + 2 >= l->n_tok)
		return false;
	w->month = month_of(l->tok[i]);
	t = l->tok[i + 1];
	if (!w->month) {
		w->month = month_of(t);
		t = l->tok[i];
	}
	if (!w->month || !is_day(t))
		return false;
	w->day = number(t);
	t = l->tok[i + 2];
	w->last = i + 2;
	if (digits(t) && t.n == 4) {
		w->year = number(t);
		return true;
	}
	if (!read_clock(t, w))
		return false;
	if (w->seconds && i + 3 < l->n_tok && l->tok[i + 3].n == 4 && digits(l->tok[i + 3])) {
		w->year = number(l->tok[i + 3]);
		w->last = i + 3;
	}
	return true;
}

static int
year_of(int64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;

	return gmtime_r(&s, &tm) ? tm.tm_year + 1900 : 1970;
}

/* A time without a year: the latest one that is not after tomorrow (the server's clock may run in any zone). */
static int
latest(const struct when *w, int64_t now_ns, int64_t *ns)
{
	int year = year_of(now_ns) + 1;

	/* 29 February may be eight years back. */
	for (int i = 0; i < 10; i++, year--)
		if (!ftp_civil_ns(year, w->month, w->day, w->hour, w->minute, w->second, ns) && *ns <= now_ns + DAY_NS)
			return 0;
	return -1;
}

static int
set_time(struct ftp_entry *en, const struct when *w, int64_t now_ns)
{
	int rc;

	if (w->year < 0) {
		rc = latest(w, now_ns, &en->mtime_ns);
		en->yearless = true;
	} else {
		bool day = w->hour < 0;

		rc = ftp_civil_ns(w->year, w->month, w->day, day ? 0 : w->hour, w->minute, w->second, &en->mtime_ns);
	}
	if (rc < 0)
		return -1;
	en->precision = rc ? MTIME_NONE : w->hour < 0 ? MTIME_DAY : w->seconds ? MTIME_S : MTIME_MIN;
	if (!rc && w->zoned) {
		en->mtime_ns -= w->east * 1000000000;
		en->utc = true;
	}
	return 0;
}

/* ---- ls ---- */

static bool
permissions_ok(const char *p)
{
	return strchr("-r", p[0]) && strchr("-w", p[1]) && strchr("-xsSlL", p[2]) && strchr("-r", p[3]) &&
	    strchr("-w", p[4]) && strchr("-xsSlL", p[5]) && strchr("-r", p[6]) && strchr("-w", p[7]) &&
	    strchr("-xtTlL", p[8]);
}

static int
mode_of(const char *p)
{
	int mode = 0;

	for (int i = 0; i < 9; i++)
		if (p[i] != '-' && p[i] != 'S' && p[i] != 'T' && p[i] != 'l' && p[i] != 'L')
			mode |= 0400 >> i;
	mode |= strchr("sS", p[2]) ? 04000 : 0;
	mode |= strchr("sSlL", p[5]) ? 02000 : 0;
	mode |= strchr("tT", p[8]) ? 01000 : 0;
	return mode;
}

/* "-rw-r--r--", with what some put behind it: an ACL's mark */
static bool
is_unix_mode(struct ftp_text t)
{
	if (t.n < 10 || t.n > 11 || memchr(t.p, '\0', t.n) || !strchr("-dlbcpsDnCMP?", t.p[0]))
		return false;
	return permissions_ok(t.p + 1) && (t.n == 10 || strchr("+.@*", t.p[10]));
}

/* "d [RWCEAFMS]" of NetWare */
static bool
is_netware(const struct line *l)
{
	struct ftp_text t = l->n_tok > 1 ? l->tok[1] : (struct ftp_text){ "", 0 };

	return l->n_tok > 1 && l->tok[0].n == 1 && (l->tok[0].p[0] == 'd' || l->tok[0].p[0] == '-') && t.n >= 3 &&
	    t.n <= 12 && t.p[0] == '[' && t.p[t.n - 1] == ']' && l->tok[0].p == l->p;
}

/* Which ' -> ' parts a link from its target? The size of a link is its target's length at most servers. */
static void
cut_link(struct ftp_entry *en)
{
	static const char arrow[] = " -> ";
	const char *p = en->name.p, *end = p + en->name.n, *first = NULL, *at = p;

	while ((at = memmem(at, (size_t)(end - at), arrow, 4))) {
		if (!first)
			first = at;
		if (end - at - 4 == en->size) {
			first = at;
			break;
		}
		at++;
	}
	if (!first || first == p || first + 4 == end)
		return;
	en->target = (struct ftp_text){ first + 4, (size_t)(end - first - 4) };
	en->name.n = (size_t)(first - p);
}

/* The columns between the mode and the date, which begins at token i: [links] owner [group] size, or "major, minor". */
static bool
read_columns(const struct line *l, size_t i, struct ftp_entry *en)
{
	bool device = l->tok[0].p[0] == 'b' || l->tok[0].p[0] == 'c';
	size_t owner = 1, end = i - 1;

	if (device && i >= 4 && l->tok[i - 2].p[l->tok[i - 2].n - 1] == ',' && digits(l->tok[i - 1])) {
		end = i - 2;
	} else if (device && memchr(l->tok[i - 1].p, ',', l->tok[i - 1].n)) {
		en->size = -1;
	} else if (read_size(l->tok[i - 1], &en->size)) {
		return false;
	}
	/* Behind the number of links, or NetWare's rights. */
	if (i > 3 && (digits(l->tok[1]) || l->tok[0].n == 1))
		owner = 2;
	if (owner < end)
		*(digits(l->tok[owner]) ? &en->uid : &en->owner) = l->tok[owner];
	if (owner + 1 < end)
		*(digits(l->tok[owner + 1]) ? &en->gid : &en->group) = l->tok[owner + 1];
	if (en->type != FTP_FILE && en->type != FTP_LINK)
		en->size = -1;
	return true;
}

static enum ftp_type
unix_type(char c)
{
	return c == '-' || c == 'n' || c == 'C' || c == 'M' ? FTP_FILE : c == 'd' ? FTP_DIR : c == 'l' ? FTP_LINK : FTP_OTHER;
}

static enum ftp_line
unix_line(const struct line *l, int64_t now_ns, struct ftp_entry *en, const char **why)
{
	/* Where the date begins: with links, owner, group and size; without group; with a device's two numbers or a
	 * blank in an owner's name; without the number of links. */
	static const size_t places[] = { 5, 4, 6, 7, 8, 3 };
	bool netware = is_netware(l);
	struct when w;

	*why = "no line of ls -l";
	if (!l->n_tok || l->tok[0].p != l->p || (!netware && !is_unix_mode(l->tok[0])))
		return FTP_LINE_ALIEN;
	en->type = unix_type(l->p[0]);
	*why = "no size and date that are understood (months must be English)";
	for (size_t k = 0; k < ARRAY_LEN(places); k++) {
		size_t i = places[k];

		if (i + 1 >= l->n_tok || !read_when(l, i, &w) || !read_columns(l, i, en))
			continue;
		en->name = rest_after(l, w.last);
		while (netware && en->name.n && *en->name.p == ' ')
			en->name = part(en->name, 1, en->name.n - 1);
		*why = "no name behind the date";
		if (!en->name.n && (netware || !blank_after(l, w.last)))
			return FTP_LINE_BAD;
		*why = "a date that is none";
		if (set_time(en, &w, now_ns))
			return FTP_LINE_BAD;
		*why = "no name behind the date";
		if (!en->name.n)
			return FTP_LINE_NAMELESS;
		if (!netware) {
			en->permissions = (struct ftp_text){ l->p + 1, 9 };
			en->mode = mode_of(l->p + 1);
		}
		if (en->type == FTP_LINK)
			cut_link(en);
		return FTP_LINE_ENTRY;
	}
	return FTP_LINE_BAD;
}

/* ---- DOS ---- */

/* "11-23-26", "11-23-2026", "2026-11-23", with '/' too */
static bool
read_dos_day(struct ftp_text t, struct when *w)
{
	char sep = t.n > 2 ? t.p[2] : '\0';

	if (read_iso_day(t, w))
		return true;
	if ((t.n != 8 && t.n != 10) || (sep != '-' && sep != '/') || t.p[5] != sep || !digits(part(t, 0, 2)) ||
	    !digits(part(t, 3, 2)) || !digits(part(t, 6, t.n - 6)))
		return false;
	w->month = number(part(t, 0, 2));
	w->day = number(part(t, 3, 2));
	w->year = number(part(t, 6, t.n - 6));
	if (t.n == 8)
		w->year += w->year < 70 ? 2000 : 1900;
	return true;
}

/* "04:21PM", "16:21" */
static bool
read_dos_clock(struct ftp_text t, struct when *w)
{
	bool pm;

	if (t.n != 7 || (strncasecmp(t.p + 5, "AM", 2) && strncasecmp(t.p + 5, "PM", 2)))
		return t.n == 5 && read_clock(t, w);
	pm = t.p[5] == 'P' || t.p[5] == 'p';
	if (!read_clock(part(t, 0, 5), w) || w->hour < 1 || w->hour > 12)
		return false;
	w->hour = w->hour % 12 + (pm ? 12 : 0);
	return true;
}

/* <DIR> and a size stand in a column of 21; behind it one blank and the name, which may begin with blanks of its own. */
static struct ftp_text
dos_name(const struct line *l, bool number_before)
{
	const char *column = l->tok[1].p + l->tok[1].n + 22, *end = l->p + l->n;
	struct ftp_text name = rest_after(l, 2);

	if (number_before)
		return name;
	while (name.n && *name.p == ' ' && (name.p < column || column >= end)) {
		name.p++;
		name.n--;
	}
	return name;
}

/* "name [target]" */
static void
cut_dos_link(struct ftp_entry *en)
{
	const char *p = en->name.p, *open = memmem(p, en->name.n, " [", 2);

	if (!open || open == p || p[en->name.n - 1] != ']')
		return;
	en->target = (struct ftp_text){ open + 2, (size_t)(p + en->name.n - 1 - (open + 2)) };
	en->name.n = (size_t)(open - p);
}

static enum ftp_line
dos_line(const struct line *l, struct ftp_entry *en, const char **why)
{
	struct when w = { .year = -1, .hour = -1 };

	*why = "no line of a DOS listing";
	if (l->n_tok < 2 || l->tok[0].p != l->p || !read_dos_day(l->tok[0], &w) || !read_dos_clock(l->tok[1], &w))
		return FTP_LINE_ALIEN;
	*why = "no size or <DIR> behind the date";
	if (l->n_tok < 3)
		return FTP_LINE_BAD;
	if (is(l->tok[2], "<DIR>"))
		en->type = FTP_DIR;
	else if (is(l->tok[2], "<JUNCTION>") || is(l->tok[2], "<SYMLINK>") || is(l->tok[2], "<SYMLINKD>"))
		en->type = FTP_LINK;
	else if (read_size(l->tok[2], &en->size))
		return FTP_LINE_BAD;
	en->name = dos_name(l, en->size >= 0);
	*why = "no name behind the size";
	if (!en->name.n)
		return FTP_LINE_BAD;
	if (en->type == FTP_LINK)
		cut_dos_link(en);
	*why = "a date that is none";
	return set_time(en, &w, 0) ? FTP_LINE_BAD : FTP_LINE_ENTRY;
}

/* ---- any line ---- */

/* "total 12", in any language: one word and one number; only a listing's first line can be that. */
static bool
is_total(const struct line *l)
{
	return l->n_tok == 2 && l->tok[0].p == l->p && l->tok[0].n <= 24 && !digits(l->tok[0]) &&
	    (digits(l->tok[1]) || (l->tok[1].n > 1 && strchr("KMGT", l->tok[1].p[l->tok[1].n - 1]) &&
				   digits(part(l->tok[1], 0, l->tok[1].n - 1))));
}

static bool
is_dots(struct ftp_text t)
{
	return t.n && t.n <= 2 && t.p[0] == '.' && t.p[t.n - 1] == '.';
}

enum ftp_line
ftp_list_line(const char *p, size_t n, bool first, int64_t now_ns, enum ftp_format *fmt, struct ftp_entry *en,
    const char **why)
{
	static const struct ftp_entry none = { .size = -1, .mtime_ns = TIME_UNKNOWN, .mode = -1 };
	enum ftp_line what = FTP_LINE_ALIEN;
	enum ftp_format found = FTP_UNIX;
	struct line l;

	*en = none;
	*why = "an empty line";
	if (!n)
		return first ? FTP_LINE_PASS : FTP_LINE_ALIEN;
	split(&l, p, n);
	if (*fmt != FTP_DOS)
		what = unix_line(&l, now_ns, en, why);
	if (what == FTP_LINE_ALIEN && *fmt != FTP_UNIX) {
		*en = none;
		found = FTP_DOS;
		what = dos_line(&l, en, why);
	}
	if (what == FTP_LINE_ALIEN)
		return first && is_total(&l) ? FTP_LINE_PASS : FTP_LINE_ALIEN;
	if (what == FTP_LINE_BAD)
		return what;
	if (memchr(p, '\0', n)) {
		*why = "a NUL in it";
		return FTP_LINE_BAD;
	}
	*fmt = found;
	if (what == FTP_LINE_NAMELESS)
		return what;
	return is_dots(en->name) ? FTP_LINE_PASS : FTP_LINE_ENTRY;
}
