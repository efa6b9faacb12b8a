/*
 * source_ftp.c - what must hold between the fields of a source of type ftp, and its address.
 *
 * The job check calls source_check_ftp. What ends up in a command of FTP is refused here if it could end that command:
 * CR, LF and NUL in path, user name and password. Asks no server.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/job_priv.h"
#include "common/source_ftp.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define PORT_FTP 21
#define PORT_FTPS 990

static bool
digit(char c)
{
	return c >= '0' && c <= '9';
}

int
ftp_zone(const char *s, int64_t *seconds)
{
	int hours, minutes;

	if (!strcmp(s, "UTC") || !strcmp(s, "Z")) {
		*seconds = 0;
		return 0;
	}
	if (strlen(s) != 6 || (s[0] != '+' && s[0] != '-') || s[3] != ':' || !digit(s[1]) || !digit(s[2]) ||
	    !digit(s[4]) || !digit(s[5]))
		return -1;
	hours = (s[1] - '0') * 10 + s[2] - '0';
	minutes = (s[4] - '0') * 10 + s[5] - '0';
	if (hours > 14 || minutes > 59)
		return -1;
	*seconds = (s[0] == '-' ? -1 : 1) * (int64_t)(hours * 3600 + minutes * 60);
	return 0;
}

static const char *
text_of(const struct source_conf *s, enum source_field f)
{
	return s->v[f].s ? s->v[f].s : "";
}

/* A name, an IPv4 or an IPv6 address, that one with or without brackets. */
static bool
host_ok(const char *p)
{
	size_t n = strlen(p);

	if (!n || n > 250)
		return false;
	if (strchr(p, ':'))
		return strspn(p, "0123456789abcdefABCDEF:.") == n;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && p[i] != '.' && p[i] != '-' && p[i] != '_')
			return false;
	return p[0] != '.' && p[0] != '-';
}

static int
check_host(struct job_parser *ps, const char *base, struct source_conf *s)
{
	struct field_value *v = &s->v[SF_FTP_HOST];
	size_t n = v->set ? strlen(v->s) : 0;

	if (!n)
		return job_refuse(ps, ERR_INVALID_JOB, base, "host", "host is missing");
	if (n > 2 && v->s[0] == '[' && v->s[n - 1] == ']') {
		memmove(v->s, v->s + 1, n - 2);
		v->s[n - 2] = '\0';
	}
	if (!host_ok(v->s))
		return job_refuse(ps, ERR_INVALID_JOB, base, "host", "host is neither a name nor an address");
	for (char *p = v->s; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return 0;
}

static void
set_number(struct field_value *v, int64_t i)
{
	v->i = i;
	v->set = true;
}

/* The alias ftps means TLS; which, the port says where nothing else does. */
static void
set_tls(struct source_conf *s)
{
	const char *type = text_of(s, SF_COMMON_TYPE);
	struct field_value *port = &s->v[SF_FTP_PORT], *tls = &s->v[SF_FTP_TLS_MODE];

	if (!tls->set && !strcmp(type, "ftps"))
		set_number(tls, port->set && port->i == PORT_FTPS ? FTP_TLS_IMPLICIT : FTP_TLS_EXPLICIT);
	else if (!tls->set)
		set_number(tls, FTP_TLS_NONE);
	if (!port->set)
		set_number(port, tls->i == FTP_TLS_IMPLICIT ? PORT_FTPS : PORT_FTP);
}

static int
check_commands(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	static const struct { enum source_field f; const char *name; } fields[] = {
		{ SF_COMMON_PATH, "path" }, { SF_FTP_USERNAME, "username" }, { SF_FTP_PASSWORD, "password" },
	};

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (strpbrk(text_of(s, fields[i].f), "\r\n"))
			return job_refuse(ps, ERR_INVALID_JOB, base, fields[i].name,
			    "%s holds a line break, which would end the command of FTP that it stands in", fields[i].name);
	return 0;
}

/* Absolute, or below the directory where the login ends: "in/new", "." */
static int
set_path(struct job_parser *ps, const char *base, struct source_conf *s)
{
	struct field_value *v = &s->v[SF_COMMON_PATH];
	bool relative = v->set && v->s[0] != '/' && v->s[0];
	char *path = path_normalise(v->set ? v->s : "/", "/", ps->e);

	if (!path)
		return job_refuse(ps, ERR_INVALID_JOB, base, "path", NULL);
	if (relative) {
		char *below = xstrdup(path[1] ? path + 1 : ".");

		free(path);
		path = below;
	}
	free(v->s);
	v->s = path;
	v->set = true;
	return 0;
}

static int
check_modes(struct job_parser *ps, const char *base, const struct source_conf *s, const bool *given)
{
	const struct field_value *zone = &s->v[SF_FTP_SERVER_TIMEZONE];
	bool tls = s->v[SF_FTP_TLS_MODE].i != FTP_TLS_NONE;
	int64_t east;

	if (!s->v[SF_FTP_PASSIVE].i)
		return job_refuse(ps, ERR_UNSUPPORTED, base, "passive",
		    "passive: false is not served: the poller's workers never listen for data connections");
	if (!s->v[SF_FTP_SKIP_PASV_IP].i)
		return job_refuse(ps, ERR_POLICY, base, "skip_pasv_ip",
		    "skip_pasv_ip: false is not allowed: an address in an answer to PASV is never connected to");
	if (zone->set && ftp_zone(zone->s, &east))
		return job_refuse(ps, ERR_INVALID_JOB, base, "server_timezone",
		    "server_timezone must be UTC, +HH:MM or -HH:MM");
	if (zone->set && given[SF_FTP_PROBE_MDTM_OFFSET])
		job_warn(ps, "%s/probe_mdtm_offset has no effect with server_timezone", base);
	if (!tls && (given[SF_FTP_DATA_TLS] || given[SF_FTP_TLS_SESSION_REUSE]))
		job_warn(ps, "%s/data_tls and tls_session_reuse have no effect without TLS (tls_mode)", base);
	return 0;
}

static void
set_address(struct source_conf *s)
{
	bool implicit = s->v[SF_FTP_TLS_MODE].i == FTP_TLS_IMPLICIT;
	const char *scheme = implicit ? "ftps" : "ftp", *host = text_of(s, SF_FTP_HOST), *ref = text_of(s, SF_NETWORK_CREDENTIALS_REF);
	const char *open = strchr(host, ':') ? "[" : "", *shut = *open ? "]" : "";
	int port = (int)s->v[SF_FTP_PORT].i;

	s->endpoint = xasprintf("%s://%s%s%s:%d", scheme, open, host, shut, port);
	if (port == (implicit ? PORT_FTPS : PORT_FTP))
		s->url_base = xasprintf("%s://%s%s%s", scheme, open, host, shut);
	else
		s->url_base = xstrdup(s->endpoint);
	s->canonical = xasprintf("%s;%s=%s;path=%s", s->endpoint, *ref ? "ref" : "user", *ref ? ref : text_of(s, SF_FTP_USERNAME),
	    text_of(s, SF_COMMON_PATH));
}

int
source_check_ftp(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	if (check_commands(ps, base, s) || check_host(ps, base, s) || set_path(ps, base, s))
		return -1;
	set_tls(s);
	if (check_modes(ps, base, s, given))
		return -1;
	set_address(s);
	return 0;
}
