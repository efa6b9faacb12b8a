/*
 * source_s3.c - what must hold between the fields of a source of type s3, and its address.
 *
 * The job check calls source_check_s3; it and the worker share s3_address, so that the endpoint whose caps are counted
 * is the one that is connected to. Asks no server: whether the bucket exists is the worker's to find out.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/job_priv.h"
#include "common/source_s3.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const char lower[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

bool
s3_region_ok(const char *s)
{
	size_t n = strspn(s, lower);

	return n && n <= 64 && !s[n];
}

static const char *
text_of(const struct source_conf *s, enum source_field f)
{
	return s->v[f].s ? s->v[f].s : "";
}

static int
wrong(struct err *e, const char *field, const char *why)
{
	err_set(e, ERR_INVALID_JOB, "%s %s", field, why);
	snprintf(e->pointer, sizeof(e->pointer), "%s", field);
	return -1;
}

/* ---- the endpoint ---- */

/* host or [address] at p, of n bytes */
static bool
host_ok(const char *p, size_t n)
{
	if (n > 2 && p[0] == '[' && p[n - 1] == ']')
		return strspn(p + 1, "0123456789abcdefABCDEF:.") == n - 2;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && p[i] != '.' && p[i] != '-' && p[i] != '_')
			return false;
	return n && n < 250 && p[0] != '.' && p[0] != '-';
}

static bool
base_ok(const char *p)
{
	size_t n = strlen(p);

	return n < sizeof(((struct s3_address *)0)->base) && !strstr(p, "..") && !strstr(p, "//") &&
	    strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/") == n;
}

static int
port_of(const char *p, size_t n, uint16_t *port)
{
	char text[8];
	int64_t v;

	if (!n || n >= sizeof(text))
		return -1;
	memcpy(text, p, n);
	text[n] = '\0';
	if (units_int(text, &v) || v < 1 || v > 65535)
		return -1;
	*port = (uint16_t)v;
	return 0;
}

/* scheme://host[:port][/base]; without a scheme it is https */
static int
read_endpoint(const char *url, struct s3_address *a, struct err *e)
{
	const char *p = strstr(url, "://"), *end, *colon;
	size_t n;

	a->tls = true;
	if (p) {
		a->tls = p - url == 5 && !strncasecmp(url, "https", 5);
		if (!a->tls && (p - url != 4 || strncasecmp(url, "http", 4)))
			return wrong(e, "endpoint", "must begin with https:// or http://");
		p += 3;
	} else {
		p = url;
	}
	if (strpbrk(p, "@?#"))
		return wrong(e, "endpoint", "must not hold a user, a query or a fragment");
	end = p + strcspn(p, "/");
	colon = memrchr(p, ':', (size_t)(end - p));
	if (colon && memchr(colon, ']', (size_t)(end - colon)))
		colon = NULL;
	a->port = a->tls ? 443 : 80;
	if (colon && port_of(colon + 1, (size_t)(end - colon - 1), &a->port))
		return wrong(e, "endpoint", "has a port that is none");
	n = (size_t)((colon ? colon : end) - p);
	if (!host_ok(p, n))
		return wrong(e, "endpoint", "names no host");
	for (size_t i = 0; i < n; i++)
		a->service[i] = (char)tolower((unsigned char)p[i]);
	a->service[n] = '\0';
	n = strlen(end);
	while (n && end[n - 1] == '/')
		n--;
	if (!base_ok(end))
		return wrong(e, "endpoint", "has a path that cannot be one");
	snprintf(a->base, sizeof(a->base), "%.*s", (int)n, end);
	return 0;
}

/* "s3.eu-west-1.amazonaws.com" names a region */
static void
region_of_host(const char *host, char out[65])
{
	static const char *const heads[] = { "s3.dualstack.", "s3-fips.dualstack.", "s3-fips.", "s3.", "s3-" };
	const char *tail = strstr(host, ".amazonaws.com");

	for (size_t i = 0; tail && i < ARRAY_LEN(heads); i++) {
		size_t n = strlen(heads[i]);

		if (strncmp(host, heads[i], n) || tail <= host + n || tail - host - (ptrdiff_t)n > 64)
			continue;
		snprintf(out, 65, "%.*s", (int)(tail - host - (ptrdiff_t)n), host + n);
		if (s3_region_ok(out))
			return;
	}
	out[0] = '\0';
}

static void
amazon_host(const struct source_conf *s, struct s3_address *a)
{
	a->tls = a->amazon = true;
	a->port = 443;
	snprintf(a->service, sizeof(a->service), "s3%s.%s%s.amazonaws.com%s", s->v[SF_S3_USE_FIPS].i ? "-fips" : "",
	    s->v[SF_S3_USE_DUALSTACK].i ? "dualstack." : "", a->region, !strncmp(a->region, "cn-", 3) ? ".cn" : "");
}

/* May it stand before the host? */
static bool
dns_bucket(const char *b)
{
	size_t n = strlen(b);

	return n >= 3 && n <= 63 && strspn(b, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n && b[0] != '-' && b[0] != '.' &&
	    b[n - 1] != '-' && b[n - 1] != '.' && !strstr(b, "..");
}

static bool
bucket_ok(const char *b)
{
	size_t n = strlen(b);

	/* the widest of the compatible stores; ':' stands between a tenant and its bucket */
	return n && strspn(b, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:") == n && isalnum((unsigned char)b[0]);
}

int
s3_address(const struct source_conf *s, const char *region, struct s3_address *a, struct err *e)
{
	const char *endpoint = text_of(s, SF_S3_ENDPOINT), *bucket = text_of(s, SF_S3_BUCKET);
	const struct field_value *style = &s->v[SF_S3_FORCE_PATH_STYLE];

	memset(a, 0, sizeof(*a));
	if (!region || !*region)
		region = text_of(s, SF_S3_REGION);
	if (*region && !s3_region_ok(region))
		return wrong(e, "region", "is no region's name");
	if (*endpoint && read_endpoint(endpoint, a, e))
		return -1;
	if (!*region)
		region_of_host(a->service, a->region);
	else
		snprintf(a->region, sizeof(a->region), "%s", region);
	if (!a->region[0])
		snprintf(a->region, sizeof(a->region), "us-east-1");
	if (!*endpoint)
		amazon_host(s, a);
	if (!bucket_ok(bucket))
		return wrong(e, "bucket", "is no bucket's name");
	a->path_style = style->set ? style->i : *endpoint || !dns_bucket(bucket) || strchr(bucket, '.');
	if (!a->path_style && (!dns_bucket(bucket) || a->service[0] == '['))
		return wrong(e, "bucket", "cannot stand in a host's name: force_path_style is needed");
	if (!a->path_style && strlen(bucket) + 1 + strlen(a->service) >= sizeof(a->host))
		return wrong(e, "endpoint", "is too long");
	snprintf(a->host, sizeof(a->host), "%s%s%s", a->path_style ? "" : bucket, a->path_style ? "" : ".", a->service);
	return 0;
}

void
s3_address_url(const struct s3_address *a, char *out, size_t n)
{
	const char *scheme = a->tls ? "https" : "http";

	if (a->port == (a->tls ? 443 : 80))
		snprintf(out, n, "%s://%s", scheme, a->service);
	else
		snprintf(out, n, "%s://%s:%u", scheme, a->service, a->port);
}

/* ---- the job ---- */

static int
check_login(struct job_parser *ps, const char *base, const struct source_conf *s, const bool *given)
{
	bool id = given[SF_S3_ACCESS_KEY_ID];
	bool secret = given[SF_S3_SECRET_ACCESS_KEY] || given[SF_S3_SECRET_ACCESS_KEY_REF];
	bool profile = given[SF_S3_PROFILE] || given[SF_S3_SHARED_CREDENTIALS_FILE];
	bool ref = given[SF_NETWORK_CREDENTIALS_REF];

	if (s->v[SF_S3_ANONYMOUS].i) {
		if (id || secret || profile || ref)
			return job_refuse(ps, ERR_INVALID_JOB, base, "anonymous", "anonymous and credentials exclude each other");
		return 0;
	}
	if (profile && (id || secret))
		return job_refuse(ps, ERR_INVALID_JOB, base, given[SF_S3_PROFILE] ? "profile" : "shared_credentials_file",
		    "a key in the job and one of a profile exclude each other");
	if (ref || profile || s->v[SF_S3_USE_INSTANCE_ROLE].i || given[SF_S3_WEB_IDENTITY_TOKEN_FILE])
		return 0;
	if (!id && !secret)
		return job_refuse(ps, ERR_INVALID_JOB, base, "access_key_id", "credentials are missing: give access_key_id and "
		    "secret_access_key, credentials_ref, profile, use_instance_role, web_identity_token_file, or anonymous: true");
	if (!id || !secret)
		return job_refuse(ps, ERR_INVALID_JOB, base, id ? "secret_access_key" : "access_key_id",
		    "%s is missing", id ? "secret_access_key" : "access_key_id");
	return 0;
}

/* The master reads it, so it must lie where the settings allow. */
static int
check_file(struct job_parser *ps, const char *base, struct source_conf *s, enum source_field f)
{
	struct field_value *v = &s->v[f];
	const char *rest, *name = field_rows[f].name;
	char *path;

	if (!v->set)
		return 0;
	path = path_normalise(v->s, NULL, ps->e);
	if (!path)
		return job_refuse(ps, ERR_INVALID_JOB, base, name, NULL);
	free(v->s);
	v->s = path;
	if (!path_under(ps->limits->file_roots, path, &rest))
		return job_refuse(ps, ERR_POLICY, base, name, "%s is not below a directory of credentials.file_roots", name);
	return 0;
}

static int
check_files(struct job_parser *ps, const char *base, struct source_conf *s)
{
	if (s->v[SF_S3_PROFILE].set && !s->v[SF_S3_SHARED_CREDENTIALS_FILE].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "profile", "profile needs shared_credentials_file");
	return check_file(ps, base, s, SF_S3_SHARED_CREDENTIALS_FILE) || check_file(ps, base, s, SF_S3_WEB_IDENTITY_TOKEN_FILE) ? -1 : 0;
}

/* A path is a folder or one key, without slashes at its ends; a prefix is taken to the byte. */
static int
set_path(struct job_parser *ps, const char *base, struct source_conf *s)
{
	struct field_value *v = &s->v[SF_COMMON_PATH];
	const char *p = v->set ? v->s : "";
	size_t n;

	if (v->set && s->v[SF_S3_PREFIX].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "prefix", "prefix and path exclude each other");
	p += strspn(p, "/");
	n = strlen(p);
	while (n && p[n - 1] == '/')
		n--;
	if (v->set) {
		char *path = xmemdup0(p, n);

		free(v->s);
		v->s = path;
		v->set = n > 0;
	}
	return 0;
}

/* Another separator than that of paths: only whether a key is in a folder can be told by it. */
static int
check_delimiter(struct job_parser *ps, const char *base, struct source_conf *s)
{
	static const int depths[] = { SF_COMMON_MAX_DEPTH, SF_COMMON_MIN_DEPTH };
	struct field_value *path = &s->v[SF_COMMON_PATH];
	const char *delimiter = text_of(s, SF_S3_DELIMITER);
	size_t n = strlen(delimiter), len;

	if (!strcmp(delimiter, "/"))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(depths); i++)
		if (s->v[depths[i]].i)
			return job_refuse(ps, ERR_INVALID_JOB, base, field_rows[depths[i]].name, "%s counts folders that end with '/': it and another delimiter exclude each other",
			    field_rows[depths[i]].name);
	/* "a|b|" is the folder "a|b", as "a/b/" is "a/b" */
	len = path->set ? strlen(path->s) : 0;
	while (len > n && !memcmp(path->s + len - n, delimiter, n))
		path->s[len -= n] = '\0';
	return 0;
}

static int
check_words(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	const char *owner = text_of(s, SF_S3_EXPECTED_BUCKET_OWNER);
	static const int lists[] = { SF_S3_STORAGE_CLASSES, SF_S3_EXCLUDE_STORAGE_CLASSES };

	if (*owner && (strspn(owner, "0123456789") != 12 || owner[12]))
		return job_refuse(ps, ERR_INVALID_JOB, base, "expected_bucket_owner", "expected_bucket_owner is no account's number (12 digits)");
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		for (size_t k = 0; k < s->v[lists[i]].l.n; k++) {
			const char *w = s->v[lists[i]].l.v[k];

			if (!*w || w[strspn(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")])
				return job_refuse(ps, ERR_INVALID_JOB, base, field_rows[lists[i]].name,
				    "%s holds what is no storage class", field_rows[lists[i]].name);
		}
	return 0;
}

static void
warn_idle(struct job_parser *ps, const char *base, const struct source_conf *s, const bool *given)
{
	if (given[SF_S3_INCLUDE_DELETE_MARKERS] && !s->v[SF_S3_VERSIONS].i)
		job_warn(ps, "%s/include_delete_markers has no effect without versions", base);
	if (given[SF_S3_INCLUDE_DIR_MARKERS] && !s->v[SF_COMMON_RECURSIVE].i)
		job_warn(ps, "%s/include_dir_markers has no effect without recursive", base);
	if (given[SF_S3_ENDPOINT] && (s->v[SF_S3_USE_DUALSTACK].i || s->v[SF_S3_USE_FIPS].i))
		job_warn(ps, "%s/use_dualstack and use_fips have no effect with endpoint", base);
}

int
source_check_s3(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	struct s3_address a;
	char field[64], url[400];

	if (!s->v[SF_S3_BUCKET].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "bucket", "bucket is missing");
	if (s3_address(s, NULL, &a, ps->e)) {
		snprintf(field, sizeof(field), "%s", ps->e->pointer);
		return job_refuse(ps, ERR_INVALID_JOB, base, field, NULL);
	}
	if (source_check_s3_role(ps, base, s, given))
		return -1;
	if (check_login(ps, base, s, given) || check_files(ps, base, s) || set_path(ps, base, s) || check_delimiter(ps, base, s) || check_words(ps, base, s))
		return -1;
	if ((s->v[SF_S3_VERSIONS].i || s->v[SF_S3_VERSION_AT].set) && s->v[SF_S3_START_AFTER].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "start_after", "start_after and versions (or version_at) exclude each other");
	if (s->v[SF_S3_VERSIONS].i && s->v[SF_S3_VERSION_AT].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "version_at", "version_at and versions exclude each other");
	warn_idle(ps, base, s, given);
	s3_address_url(&a, url, sizeof(url));
	s->endpoint = xasprintf("%s://%s:%u", a.tls ? "https" : "http", a.service, a.port);
	s->url_base = xasprintf("s3://%s", text_of(s, SF_S3_BUCKET));
	s->canonical = xasprintf("s3:%s%s/%s/%s", url, a.base, text_of(s, SF_S3_BUCKET),
	    s->v[SF_S3_PREFIX].set ? text_of(s, SF_S3_PREFIX) : text_of(s, SF_COMMON_PATH));
	return 0;
}
