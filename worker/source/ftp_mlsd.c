/*
 * ftp_mlsd.c - lines of MLSD: facts and a name, RFC 3659 section 7; and what times ftp shares.
 *
 * Called by ftp.c for each line that came whole. A line is taken only with well-formed facts: each NAME=VALUE with its ';',
 * one space, the name. It never guesses: a line without a type, or with a fact twice, is bad. Nothing is copied.
 */
#include <string.h>
#include <strings.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/ftp.h"
#include "common/banned.h"

static bool
digits(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] < '0' || p[i] > '9')
			return false;
	return n > 0;
}

static int
number(const char *p, size_t n)
{
	int v = 0;

	for (size_t i = 0; i < n; i++)
		v = v * 10 + (p[i] - '0');
	return v;
}

int
ftp_civil_ns(int year, int month, int day, int hour, int minute, int second, int64_t *ns)
{
	static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100) || year % 400 == 0;
	int64_t y = year, era, days;
	int yoe, doy;

	if (year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 ||
	    day > lengths[month - 1] + (month == 2 && leap) || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
	    second < 0 || second > 60)
		return -1;
	/* Years that begin in March, so that the odd day is the last. */
	y -= month <= 2;
	era = y / 400;
	yoe = (int)(y - era * 400);
	doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	days = era * 146097 + (int64_t)yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
	if (year < 1678 || year > 2261) {
		*ns = TIME_UNKNOWN;
		return 1;
	}
	*ns = (days * 86400 + hour * 3600 + minute * 60 + second) * INT64_C(1000000000);
	return 0;
}

int
ftp_time_val(const char *p, size_t n, int64_t *ns)
{
	if (n < 14 || n > 32 || !digits(p, 14) || (n > 14 && (p[14] != '.' || !digits(p + 15, n - 15))))
		return -1;
	return ftp_civil_ns(number(p, 4), number(p + 4, 2), number(p + 6, 2), number(p + 8, 2), number(p + 10, 2),
	    number(p + 12, 2), ns);
}

static bool
is(struct ftp_text t, const char *word)
{
	return t.n == strlen(word) && !strncasecmp(t.p, word, t.n);
}

static bool
begins(struct ftp_text t, const char *word)
{
	return t.n >= strlen(word) && !strncasecmp(t.p, word, strlen(word));
}

enum fact { FACT_TYPE, FACT_SIZE, FACT_MODIFY, FACT_UNIQUE, FACT_PERM, FACT_MODE, FACT_OWNER, FACT_GROUP, FACT_OWNERNAME,
	FACT_GROUPNAME, FACT_UID, FACT_GID, FACT__MAX };
/* With their lengths: every fact of every line is looked up here. */
#define FACT(name) { (name), sizeof(name) - 1 }
static const struct ftp_text fact_names[FACT__MAX] = { FACT("type"), FACT("size"), FACT("modify"), FACT("unique"), FACT("perm"),
	FACT("UNIX.mode"), FACT("UNIX.owner"), FACT("UNIX.group"), FACT("UNIX.ownername"), FACT("UNIX.groupname"),
	FACT("UNIX.uid"), FACT("UNIX.gid") };

static bool
fact_name_ok(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = p[i], low = (char)(c | 0x20);

		if ((low < 'a' || low > 'z') && (c < '-' || c > '9') && c != '_')
			return false;
	}
	return n > 0;
}

/* The facts, all of p..n; NULL, or what is wrong. */
static const char *
read_facts(const char *p, size_t n, struct ftp_text fact[FACT__MAX])
{
	while (n) {
		const char *end = memchr(p, ';', n), *eq;
		size_t len;

		if (!end)
			return "a fact without its ';'";
		len = (size_t)(end - p);
		eq = memchr(p, '=', len);
		if (!eq || !fact_name_ok(p, (size_t)(eq - p)))
			return "a fact that is not name=value";
		for (int i = 0; i < FACT__MAX; i++) {
			if (fact_names[i].n != (size_t)(eq - p) || strncasecmp(p, fact_names[i].p, fact_names[i].n))
				continue;
			if (fact[i].p)
				return "a fact twice";
			fact[i] = (struct ftp_text){ eq + 1, (size_t)(end - eq - 1) };
		}
		p = end + 1;
		n -= len + 1;
	}
	return NULL;
}

/* "0644", "100644" */
static int
mode_value(struct ftp_text t)
{
	int v = 0;

	if (!t.n || t.n > 7)
		return -1;
	for (size_t i = 0; i < t.n; i++) {
		if (t.p[i] < '0' || t.p[i] > '7')
			return -1;
		v = v * 8 + (t.p[i] - '0');
	}
	return v & 07777;
}

/* UNIX.owner and UNIX.group are numbers at most servers, names at some. */
static void
set_id(struct ftp_text v, struct ftp_text *id, struct ftp_text *name)
{
	if (digits(v.p, v.n))
		*id = v;
	else if (!name->p)
		*name = v;
}

static const char *
fill(struct ftp_entry *en, const struct ftp_text fact[FACT__MAX])
{
	struct ftp_text size = fact[FACT_SIZE], modify = fact[FACT_MODIFY];

	if (size.n && en->type != FTP_DIR) {
		if (!digits(size.p, size.n) || size.n > 18)
			return "a size that is not a number";
		en->size = 0;
		for (size_t i = 0; i < size.n; i++)
			en->size = en->size * 10 + (size.p[i] - '0');
	}
	if (modify.n) {
		int rc = ftp_time_val(modify.p, modify.n, &en->mtime_ns);

		if (rc < 0)
			return "a modify time that is none";
		en->precision = rc ? MTIME_NONE : MTIME_S;
	}
	en->utc = true;
	en->mode = mode_value(fact[FACT_MODE]);
	en->unique = fact[FACT_UNIQUE];
	en->perm = fact[FACT_PERM];
	en->modify = modify;
	en->owner = fact[FACT_OWNERNAME];
	en->group = fact[FACT_GROUPNAME];
	/* pure-ftpd has UNIX.uid and UNIX.gid, proftpd the others */
	set_id(fact[FACT_UID], &en->uid, &en->owner);
	set_id(fact[FACT_GID], &en->gid, &en->group);
	set_id(fact[FACT_OWNER], &en->uid, &en->owner);
	set_id(fact[FACT_GROUP], &en->gid, &en->group);
	return NULL;
}

/* PASS for the directory itself and the one above. */
static enum ftp_line
read_type(struct ftp_entry *en, struct ftp_text type)
{
	static const char slink[] = "OS.unix=slink";

	en->kind = type;
	en->type = FTP_OTHER;
	if (is(type, "cdir") || is(type, "pdir"))
		return FTP_LINE_PASS;
	if (is(type, "file"))
		en->type = FTP_FILE;
	else if (is(type, "dir"))
		en->type = FTP_DIR;
	else if (is(type, "OS.unix=symlink"))
		en->type = FTP_LINK;
	else if (is(type, slink) || begins(type, "OS.unix=slink:")) {
		en->type = FTP_LINK;
		if (type.n > sizeof(slink))
			en->target = (struct ftp_text){ type.p + sizeof(slink), type.n - sizeof(slink) };
	}
	return FTP_LINE_ENTRY;
}

/* Has it the look of facts: letters and '=' at its start? */
static bool
looks_right(const char *p, size_t n)
{
	const char *eq = memchr(p, '=', n);

	return eq && fact_name_ok(p, (size_t)(eq - p)) && memchr(p, ';', n);
}

enum ftp_line
ftp_mlsd_line(const char *p, size_t n, struct ftp_entry *en, const char **why)
{
	struct ftp_text fact[FACT__MAX] = { 0 };
	const char *space = memchr(p, ' ', n);

	*en = (struct ftp_entry){ .size = -1, .mtime_ns = TIME_UNKNOWN, .mode = -1 };
	*why = "no facts of MLSD";
	if (!looks_right(p, n))
		return FTP_LINE_ALIEN;
	*why = "no name behind the facts";
	if (!space)
		return FTP_LINE_BAD;
	en->name = (struct ftp_text){ space + 1, (size_t)(p + n - space - 1) };
	*why = read_facts(p, (size_t)(space - p), fact);
	if (*why)
		return FTP_LINE_BAD;
	*why = "no type fact";
	if (!fact[FACT_TYPE].n)
		return FTP_LINE_BAD;
	if (read_type(en, fact[FACT_TYPE]) == FTP_LINE_PASS || is(en->name, ".") || is(en->name, ".."))
		return FTP_LINE_PASS;
	*why = fill(en, fact);
	if (*why)
		return FTP_LINE_BAD;
	*why = "a NUL in it";
	if (memchr(p, '\0', n))
		return FTP_LINE_BAD;
	*why = "no name behind the facts";
	return en->name.n ? FTP_LINE_ENTRY : FTP_LINE_NAMELESS;
}
