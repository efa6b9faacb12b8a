/*
 * source_sftp.c - what must hold between the fields of a source sftp, its path and its address.
 *
 * Called by job_source.c once the fields were read. Asks no server; whether the key of a server is known, and a login
 * good, is the worker's to find out.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/job_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define DEFAULT_PORT 22
#define FINGERPRINT "SHA256:"
#define FINGERPRINT_CHARS 43            /* of base64, without padding */

enum { CHECK_STRICT, CHECK_PIN, CHECK_ACCEPT_NEW, CHECK_OFF };  /* as in sources.def */

/* ---- host and path ----------------------------------------------------------------------------------------------------------- */

/* A name, or an address; lower case, an IPv6 address without brackets. */
static int
check_host(struct job_parser *ps, const char *base, struct field_value *v)
{
	size_t n = strlen(v->s);
	bool v6;

	if (n > 2 && v->s[0] == '[' && v->s[n - 1] == ']') {
		memmove(v->s, v->s + 1, n - 2);
		v->s[n - 2] = '\0';
	}
	v6 = strchr(v->s, ':');
	for (char *p = v->s; *p; p++) {
		*p = (char)tolower((unsigned char)*p);
		if (v6 ? !strchr("0123456789abcdef:.", *p) :
		    !strchr("0123456789abcdefghijklmnopqrstuvwxyz.-_", *p))
			return job_refuse(ps, ERR_INVALID_JOB, base, "host",
			    "host is not the name or address of a server (no scheme, no user, no port)");
	}
	return 0;
}

/* Absolute, or relative to where the server puts the user: "." and "in/new" stay what they are. */
static int
check_path(struct job_parser *ps, const char *base, struct field_value *v)
{
	bool relative = !v->set || *v->s != '/';
	char *path = path_normalise(v->set ? v->s : ".", "/", ps->e);

	if (!path)
		return job_refuse(ps, ERR_INVALID_JOB, base, "path", NULL);
	free(v->s);
	v->set = true;
	v->s = !relative ? xstrdup(path) : xstrdup(path[1] ? path + 1 : ".");
	free(path);
	return 0;
}

static void
set_address(struct source_conf *s)
{
	const char *host = s->v[SF_SFTP_HOST].s, *user = s->v[SF_SFTP_USERNAME].s, *ref = s->v[SF_NETWORK_CREDENTIALS_REF].s;
	const char *open = strchr(host, ':') ? "[" : "", *close = *open ? "]" : "";
	int port = (int)s->v[SF_SFTP_PORT].i;

	s->endpoint = xasprintf("sftp://%s%s%s:%d", open, host, close, port);
	s->url_base = port == DEFAULT_PORT ? xasprintf("sftp://%s%s%s", open, host, close) : xstrdup(s->endpoint);
	/* The user decides what the path leads to. */
	s->canonical = xasprintf("%s;%s=%s;%s", s->endpoint, ref ? "credentials_ref" : "user", ref ? ref : user, s->v[SF_COMMON_PATH].s);
}

/* ---- login and keys ----------------------------------------------------------------------------------------------------------- */

static int
check_methods(struct job_parser *ps, const char *base, const char *s)
{
	static const char *const known[] = { "publickey", "password", "keyboard-interactive" };

	for (bool last = false; !last;) {
		size_t n = strcspn(s, ","), i = 0;

		while (i < ARRAY_LEN(known) && (strlen(known[i]) != n || memcmp(known[i], s, n)))
			i++;
		if (i == ARRAY_LEN(known))
			return job_refuse(ps, ERR_INVALID_JOB, base, "auth_methods",
			    "auth_methods is a comma separated list of publickey, password, keyboard-interactive");
		last = !s[n];
		s += n + 1;
	}
	return 0;
}

static int
check_login(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	bool ref = given[SF_NETWORK_CREDENTIALS_REF];
	bool password = given[SF_SFTP_PASSWORD] || given[SF_SFTP_PASSWORD_REF];
	bool key = given[SF_SFTP_PRIVATE_KEY] || given[SF_SFTP_PRIVATE_KEY_REF] || given[SF_SFTP_PRIVATE_KEY_FILE];

	if (!given[SF_SFTP_USERNAME] && !ref)
		return job_refuse(ps, ERR_INVALID_JOB, base, "username", "username is missing, and no credentials_ref may bring it");
	if (!password && !key && !ref)
		return job_refuse(ps, ERR_INVALID_JOB, base, NULL,
		    "there is nothing to log in with: password, private_key, their _ref or _file, or credentials_ref");
	if (!key && !ref && (given[SF_SFTP_PASSPHRASE] || given[SF_SFTP_PASSPHRASE_REF]))
		job_warn(ps, "%s/private_key_passphrase has no effect without private_key", base);
	if (!key && !ref && given[SF_SFTP_PUBLIC_KEY])
		job_warn(ps, "%s/public_key has no effect without private_key", base);
	return check_methods(ps, base, s->v[SF_SFTP_AUTH_METHODS].s);
}

static bool
fingerprint_ok(const char *s)
{
	size_t n;

	if (strncmp(s, FINGERPRINT, strlen(FINGERPRINT)))
		return false;
	s += strlen(FINGERPRINT);
	n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
	return n == FINGERPRINT_CHARS && (!s[n] || !strcmp(s + n, "="));
}

static int
check_host_keys(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	const struct strlist *pins = &s->v[SF_SFTP_FINGERPRINT].l;
	bool known = given[SF_SFTP_KNOWN_HOSTS] || given[SF_SFTP_KNOWN_HOSTS_FILE] || s->v[SF_SFTP_HOST_KEYS].l.n;
	int check = (int)s->v[SF_SFTP_HOST_KEY_CHECK].i;

	for (size_t i = 0; i < pins->n; i++)
		if (!fingerprint_ok(pins->v[i]))
			return job_refuse(ps, ERR_INVALID_JOB, base, "host_key_fingerprint",
			    "a fingerprint is \"SHA256:\" and 43 characters, as ssh-keygen -l shows it");
	if ((check == CHECK_ACCEPT_NEW || check == CHECK_OFF) && !ps->limits->allow_unknown_hosts)
		return job_refuse(ps, ERR_POLICY, base, "host_key_check",
		    "host_key_check: %s needs network.allow_unknown_hosts", check == CHECK_OFF ? "off" : "accept-new");
	if (check == CHECK_PIN && !pins->n)
		return job_refuse(ps, ERR_INVALID_JOB, base, "host_key_fingerprint", "host_key_check: pin needs host_key_fingerprint");
	if (check == CHECK_STRICT && !pins->n && !known)
		return job_refuse(ps, ERR_INVALID_JOB, base, "known_hosts",
		    "the server's key must be known: give known_hosts, known_hosts_file, host_keys or host_key_fingerprint");
	if (check == CHECK_PIN && known)
		job_warn(ps, "%s/known_hosts and host_keys have no effect with host_key_check: pin, but for @revoked lines", base);
	return 0;
}

/* Lists of SSH names: visible, no empty member. */
static int
check_lists(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	static const int lists[] = { SF_SFTP_CIPHERS, SF_SFTP_KEX_ALGORITHMS, SF_SFTP_MACS, SF_SFTP_HOST_KEY_ALGORITHMS };

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		const char *v = s->v[lists[i]].s, *name = field_rows[lists[i]].name;

		if (!v)
			continue;
		if (v[strspn(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.@_,-")] || *v == ',' ||
		    strstr(v, ",,") || v[strlen(v) - 1] == ',')
			return job_refuse(ps, ERR_INVALID_JOB, base, name, "%s is not a comma separated list of algorithms", name);
	}
	return 0;
}

int
source_check_sftp(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	if (!s->v[SF_SFTP_HOST].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "host", "host is missing");
	if (s->v[SF_SFTP_MAX_SESSIONS].i > 1)
		job_warn(ps, "%s/max_sessions has no effect above 1: one channel carries the requests of dozens of directories at once", base);
	if (s->v[SF_NETWORK_MAX_CONNECTIONS].set && s->v[SF_NETWORK_MAX_CONNECTIONS].i > 1)
		job_warn(ps, "%s/max_connections has no effect above 1 with sftp, for the same reason as max_sessions", base);
	if (check_host(ps, base, &s->v[SF_SFTP_HOST]) || check_path(ps, base, &s->v[SF_COMMON_PATH]) ||
	    check_login(ps, base, s, given) || check_host_keys(ps, base, s, given) || check_lists(ps, base, s))
		return -1;
	set_address(s);
	return 0;
}
