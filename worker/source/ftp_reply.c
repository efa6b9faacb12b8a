/*
 * ftp_reply.c - what the replies of an FTP server mean for a task.
 *
 * One table, code and place to class, from RFC 959 section 4.2, RFC 2228 section 5, RFC 2428 section 3, RFC 3659, RFC 4217
 * section 12 and, where said, from what servers do. A code without a row goes by its first digit. Called by ftp.c with
 * the last reply before libcurl gave up; keeps nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/xalloc.h"
#include "worker/source/ftp.h"
#include "common/banned.h"

#define ANY FTP_PHASE__MAX

static const struct {
	unsigned code;
	enum ftp_phase phase;   /* ANY: all others of the code */
	enum err_class cls;
	const char *what;
} rows[] = {
	{ 120, ANY, ERR_TRANSIENT, "the server will be ready later" },                  /* RFC 959 */
	{ 331, ANY, ERR_AUTH, "the server wants a password" },                          /* RFC 959 */
	{ 332, ANY, ERR_AUTH, "the server wants an account (ACCT)" },                   /* RFC 959 */
	{ 421, ANY, ERR_TRANSIENT, "the server closes the connection" },                /* RFC 959 */
	{ 425, ANY, ERR_TRANSIENT, "the server could not open the data connection" },   /* RFC 959 */
	{ 426, ANY, ERR_TRUNCATED, "the data connection was broken off" },              /* RFC 959 */
	{ 430, ANY, ERR_AUTH, "wrong user name or password" },                          /* in use; no RFC */
	{ 431, FTP_LOGIN, ERR_PERMANENT, "the server has no TLS" },                     /* RFC 2228, to AUTH TLS */
	{ 431, ANY, ERR_TRANSIENT, "a security resource is missing for now" },          /* RFC 2228 */
	{ 434, ANY, ERR_TRANSIENT, "the host is not available" },                       /* in use; no RFC */
	{ 450, ANY, ERR_TRANSIENT, "not available for now" },                           /* RFC 959 */
	{ 451, ANY, ERR_TRANSIENT, "an error at the server" },                          /* RFC 959 */
	{ 452, ANY, ERR_TRANSIENT, "the server's disk is full" },                       /* RFC 959 */
	{ 500, ANY, ERR_PERMANENT, "the server does not know the command" },            /* RFC 959 */
	{ 501, ANY, ERR_PERMANENT, "the server does not take the argument" },           /* RFC 959 */
	{ 502, ANY, ERR_PERMANENT, "the server does not have the command" },            /* RFC 959 */
	{ 503, ANY, ERR_PERMANENT, "the server does not take the command now" },        /* RFC 959 */
	{ 504, ANY, ERR_PERMANENT, "the server does not have the argument" },           /* RFC 959 */
	{ 521, ANY, ERR_PERMANENT, "the server wants data connections with other protection; see data_tls" }, /* RFC 4217 */
	{ 522, ANY, ERR_PERMANENT, "the server wants another network protocol, or TLS sessions reused; see tls_session_reuse" }, /* RFC 2428, RFC 4217 */
	{ 530, ANY, ERR_AUTH, "not logged in" },                                        /* RFC 959 */
	{ 532, ANY, ERR_AUTH, "the server wants an account (ACCT)" },                   /* RFC 959 */
	{ 533, ANY, ERR_PERMANENT, "the server's policy forbids clear commands; see tls_mode" }, /* RFC 2228 */
	{ 534, ANY, ERR_PERMANENT, "the server's policy on TLS forbids it; see tls_mode and data_tls" }, /* RFC 2228, RFC 4217 */
	{ 535, ANY, ERR_AUTH, "a check of security failed" },                           /* RFC 2228 */
	{ 536, ANY, ERR_PERMANENT, "the server does not have this protection of data; see data_tls" }, /* RFC 2228 */
	{ 537, ANY, ERR_PERMANENT, "the server does not have this protection of commands" }, /* RFC 2228 */
	{ 550, FTP_LOGIN, ERR_AUTH, "the server refused the login" },                   /* in use */
	{ 550, ANY, ERR_NOT_FOUND, "not found, or no access" },                         /* RFC 959; by text, below */
	{ 551, ANY, ERR_PERMANENT, "page type unknown" },                               /* RFC 959 */
	{ 552, ANY, ERR_PERMANENT, "over the server's quota" },                         /* RFC 959 */
	{ 553, ANY, ERR_PERMANENT, "the server does not allow the name" },              /* RFC 959 */
	{ 631, ANY, ERR_PROTOCOL, "a protected reply that was not asked for" },         /* RFC 2228 */
	{ 632, ANY, ERR_PROTOCOL, "a protected reply that was not asked for" },         /* RFC 2228 */
	{ 633, ANY, ERR_PROTOCOL, "a protected reply that was not asked for" },         /* RFC 2228 */
};

/* Where a text tells more than its code. The first that fits. */
static const struct {
	unsigned code;
	const char *text;
	enum err_class cls;
	const char *what;
} texts[] = {
	{ 500, "oops", ERR_TRANSIENT, "vsftpd broke" },
	{ 530, "too many", ERR_TRANSIENT, "the server takes no more connections for now" },
	{ 530, "maximum number", ERR_TRANSIENT, "the server takes no more connections for now" },
	{ 530, "max connections", ERR_TRANSIENT, "the server takes no more connections for now" },
	{ 550, "ermission", ERR_AUTH, "no permission" },
	{ 550, "denied", ERR_AUTH, "no permission" },
	{ 550, "not allowed", ERR_AUTH, "no permission" },
	{ 550, "not permitted", ERR_AUTH, "no permission" },
	{ 550, "prohibited", ERR_AUTH, "no permission" },
	{ 550, "orbidden", ERR_AUTH, "no permission" },
	{ 550, "tls", ERR_PERMANENT, "the server wants TLS; see tls_mode and data_tls" },
};

static const struct { const char *verb; enum ftp_phase phase; } verbs[] = {
	{ "", FTP_LOGIN }, { "USER", FTP_LOGIN }, { "PASS", FTP_LOGIN }, { "ACCT", FTP_LOGIN }, { "AUTH", FTP_LOGIN },
	{ "PBSZ", FTP_LOGIN }, { "PROT", FTP_LOGIN }, { "PWD", FTP_LOGIN }, { "SYST", FTP_LOGIN }, { "FEAT", FTP_LOGIN },
	{ "OPTS", FTP_LOGIN }, { "CCC", FTP_LOGIN }, { "CWD", FTP_PATH }, { "SIZE", FTP_PATH }, { "MDTM", FTP_PATH },
	{ "MLST", FTP_PATH }, { "TYPE", FTP_DATA }, { "EPSV", FTP_DATA }, { "PASV", FTP_DATA }, { "LIST", FTP_DATA },
	{ "MLSD", FTP_DATA },
};

enum ftp_phase
ftp_verb_phase(const char *verb)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcasecmp(verbs[i].verb, verb))
			return verbs[i].phase;
	return FTP_PATH;
}

enum err_class
ftp_reply_class(enum ftp_phase phase, unsigned code, const char *text, const char **what)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i].code == code && strcasestr(text, texts[i].text)) {
			*what = texts[i].what;
			return texts[i].cls;
		}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].code == code && (rows[i].phase == phase || rows[i].phase == ANY)) {
			*what = rows[i].what;
			return rows[i].cls;
		}
	/* RFC 959 section 4.2: the first digit says whether to come again. */
	*what = code >= 400 && code < 500 ? "refused for now" : code >= 500 && code < 600 ? "refused" : "not the reply that was due";
	return code >= 400 && code < 500 ? ERR_TRANSIENT : code >= 500 && code < 600 ? ERR_PERMANENT : ERR_PROTOCOL;
}

bool
ftp_reply_unknown_command(unsigned code)
{
	return code == 500 || code == 501 || code == 502 || code == 503 || code == 504;
}

bool
ftp_reply_no_files(unsigned code, const char *text)
{
	return (code == 450 || code == 550 || code == 226) && strcasestr(text, "no files");
}

bool
ftp_reply_cut(const char *text)
{
	static const char *const words[] = { "truncat", "incomplete", "output limited", "partial" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcasestr(text, words[i]))
			return true;
	return false;
}

int64_t
ftp_reply_matches(const char *text)
{
	const char *at = strstr(text, " matches total");
	const char *p = at;

	if (!at)
		return -1;
	while (p > text && p[-1] >= '0' && p[-1] <= '9')
		p--;
	return p == at || at - p > 15 ? -1 : (int64_t)strtoll(p, NULL, 10);
}

bool
ftp_reply_line(struct ftp_reply *r, const char *p, size_t n)
{
	unsigned code = 0;
	size_t len;
	bool last;

	while (n && (p[n - 1] == '\n' || p[n - 1] == '\r'))
		n--;
	if (n >= 3 && p[0] >= '0' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9' && p[2] >= '0' && p[2] <= '9' &&
	    (n == 3 || p[3] == ' ' || p[3] == '-'))
		code = (unsigned)((p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0'));
	if (!r->multi) {
		r->code = 0;
		r->text[0] = '\0';
		r->multi = code;
	}
	/* "ddd-" begins several lines, "ddd " ends them, whatever stands between */
	last = code && code == r->multi && (n == 3 || p[3] != '-');
	len = strlen(r->text);
	if (code && code == r->multi) {
		p += n > 3 ? 4 : 3;
		n -= n > 3 ? 4 : 3;
	}
	snprintf(r->text + len, sizeof(r->text) - len, "%s%.*s", len ? "\n" : "", (int)(n < FTP_TEXT ? n : FTP_TEXT), p);
	if (!last)
		return false;
	r->code = code;
	r->multi = 0;
	return true;
}

/* A decimal number of at most 5 digits from p on; where it ends, or NULL. */
static const char *
read_number(const char *p, unsigned *v)
{
	size_t n = strspn(p, "0123456789");

	if (!n || n > 5)
		return NULL;
	*v = (unsigned)strtoul(p, NULL, 10);
	return p + n;
}

int
ftp_epsv_port(const char *text, uint16_t *port)
{
	const char *p = strchr(text, '(');
	char sep = p ? p[1] : '\0';
	unsigned v;

	if (!sep || (sep >= '0' && sep <= '9') || p[2] != sep || p[3] != sep)
		return -1;
	p = read_number(p + 4, &v);
	if (!p || *p != sep || !v || v > 65535)
		return -1;
	*port = (uint16_t)v;
	return 0;
}

int
ftp_pasv_port(const char *text, uint16_t *port)
{
	/* Some write no parentheses, so the first six numbers with commas are it. */
	for (bool digit = false, before = false; *text; text++, before = digit) {
		const char *p = text;
		unsigned v[6] = { 0 };
		size_t k = 0;

		digit = *text >= '0' && *text <= '9';
		while (k < 6 && !before && (p = read_number(p, &v[k])) && v[k] <= 255 && *p == (k < 5 ? ',' : *p)) {
			p += k < 5;
			k++;
		}
		if (k < 6)
			continue;
		*port = (uint16_t)(v[4] << 8 | v[5]);
		return *port ? 0 : -1;
	}
	return -1;
}
