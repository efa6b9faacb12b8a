/*
 * source_s3_role.c - the fields of a source of type s3 that ask for temporary credentials: what must hold between them,
 * and where the role is assumed.
 *
 * The job check calls source_check_s3_role; the master's keys.c makes its request with the rest. What the settings allow
 * to which tenant is asked there, when the credentials are fetched or used, since a reload may have changed it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/job_priv.h"
#include "common/keys.h"
#include "common/source_s3.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

bool
keys_asked(const struct source_conf *s)
{
	return s->type == SOURCE_S3 && (s->v[SF_S3_USE_INSTANCE_ROLE].i || s->v[SF_S3_ROLE_ARN].set);
}

bool
keys_origin_ok(const struct http_url *u)
{
	return !u->user && !u->query && !strcmp(u->path, "/");
}

bool
keys_metadata_host(const struct http_url *u)
{
	static const char *const hosts[] = {
		"169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1",
	};

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		if (!strcmp(u->host, hosts[i]))
			return true;
	return false;
}

/* ---- STS ---- */

static bool
amazon(const char *host)
{
	size_t n = strlen(host), k;
	static const char *const tails[] = { ".amazonaws.com", ".amazonaws.com.cn" };

	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		k = strlen(tails[i]);
		if (n > k && !strcmp(host + n - k, tails[i]))
			return true;
	}
	return false;
}

static int
wrong(struct err *e, const char *field, const char *why)
{
	err_set(e, ERR_INVALID_JOB, "%s %s", field, why);
	snprintf(e->pointer, sizeof(e->pointer), "%s", field);
	return -1;
}

static int
own_endpoint(const char *text, char **url, struct err *e)
{
	struct err why = ERR_INIT;
	struct buf b = BUF_INIT;
	struct http_url u;
	bool ok;

	if (http_url_parse(text, strlen(text), &u, &why))
		return wrong(e, "sts_endpoint", "is no URL (https://host or https://host:port)");
	ok = keys_origin_ok(&u);
	if (ok) {
		http_url_origin(&u, true, &b);
		*url = buf_take(&b);
	}
	http_url_release(&u);
	return ok ? 0 : wrong(e, "sts_endpoint", "has more than a host and a port");
}

int
keys_sts(const struct source_conf *s, char **url, char **region, struct err *e)
{
	const struct field_value *r = &s->v[SF_S3_STS_REGION], *own = &s->v[SF_S3_STS_ENDPOINT];
	struct s3_address a;

	*url = *region = NULL;
	if (s3_address(s, NULL, &a, e))
		return -1;
	if (r->set && !s3_region_ok(r->s))
		return wrong(e, "sts_region", "is no region's name");
	if (!own->set && !amazon(a.service))
		return wrong(e, "sts_endpoint", "is missing: where endpoint is not Amazon's, the role is not assumed there either");
	if (own->set) {
		if (own_endpoint(own->s, url, e))
			return -1;
		*region = xstrdup(r->set ? r->s : a.region);
		return 0;
	}
	*region = xstrdup(r->set ? r->s : a.region);
	*url = xasprintf("https://sts.%s.amazonaws.com%s:443", *region, !strncmp(*region, "cn-", 3) ? ".cn" : "");
	return 0;
}

void
keys_conf(const struct source_conf *from, struct source_conf *to)
{
	memset(to, 0, sizeof(*to));
	to->type = SOURCE_S3;
	for (int i = 0; i < SF__MAX; i++)
		/* the pinned key and the name are those of the store */
		if ((field_rows[i].source == SOURCE_NETWORK && i != SF_NETWORK_TLS_PINNED_PUBKEY && i != SF_NETWORK_TLS_SERVER_NAME) ||
		    i == SF_S3_ACCESS_KEY_ID || i == SF_S3_SECRET_ACCESS_KEY || i == SF_S3_SESSION_TOKEN)
			to->v[i] = from->v[i];
}

/* ---- the job ---- */

/* IAM's API reference gives these sets of characters. */
static const struct { enum source_field f; size_t min; const char *set; } words[] = {
	{ SF_S3_ROLE_ARN, 20, LETTERS "_+=,.@-/:" },
	{ SF_S3_ROLE_SESSION_NAME, 2, LETTERS "_+=,.@-" },
	{ SF_S3_EXTERNAL_ID, 2, LETTERS "_+=,.@:/-" },
};

static int
check_words(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		const struct field_value *v = &s->v[words[i].f];
		const char *name = field_rows[words[i].f].name;

		if (v->set && (strlen(v->s) < words[i].min || v->s[strspn(v->s, words[i].set)]))
			return job_refuse(ps, ERR_INVALID_JOB, base, name, "%s is shorter than %zu characters or holds one that may not stand there",
			    name, words[i].min);
	}
	if (s->v[SF_S3_ROLE_ARN].set && strncmp(s->v[SF_S3_ROLE_ARN].s, "arn:", 4))
		return job_refuse(ps, ERR_INVALID_JOB, base, "role_arn", "role_arn does not begin with arn:");
	return 0;
}

/* What says nothing without a role is a mistake: the job would sign as somebody else than it looks. */
static int
check_needs(struct job_parser *ps, const char *base, const bool *given)
{
	static const enum source_field need[] = { SF_S3_ROLE_SESSION_NAME, SF_S3_EXTERNAL_ID, SF_S3_ROLE_DURATION,
		SF_S3_STS_ENDPOINT, SF_S3_STS_REGION, SF_S3_WEB_IDENTITY_TOKEN_FILE };

	for (size_t i = 0; !given[SF_S3_ROLE_ARN] && i < ARRAY_LEN(need); i++)
		if (given[need[i]])
			return job_refuse(ps, ERR_INVALID_JOB, base, field_rows[need[i]].name, "%s needs role_arn", field_rows[need[i]].name);
	return 0;
}

/* One source of the identity alone. */
static int
check_one(struct job_parser *ps, const char *base, const struct source_conf *s, const bool *given)
{
	static const enum source_field others[] = { SF_S3_ACCESS_KEY_ID, SF_S3_SECRET_ACCESS_KEY, SF_S3_SECRET_ACCESS_KEY_REF,
		SF_S3_SESSION_TOKEN, SF_S3_SESSION_TOKEN_REF, SF_S3_PROFILE, SF_S3_SHARED_CREDENTIALS_FILE,
		SF_NETWORK_CREDENTIALS_REF };
	bool instance = s->v[SF_S3_USE_INSTANCE_ROLE].i, web = given[SF_S3_WEB_IDENTITY_TOKEN_FILE];
	const char *own = instance ? "use_instance_role" : "web_identity_token_file";

	if (instance && web)
		return job_refuse(ps, ERR_INVALID_JOB, base, "web_identity_token_file",
		    "use_instance_role and web_identity_token_file exclude each other");
	for (size_t i = 0; (instance || web) && i < ARRAY_LEN(others); i++)
		if (given[others[i]])
			return job_refuse(ps, ERR_INVALID_JOB, base, field_rows[others[i]].name, "%s and %s exclude each other", own,
			    field_rows[others[i]].name);
	if (web && given[SF_S3_EXTERNAL_ID])
		return job_refuse(ps, ERR_INVALID_JOB, base, "external_id", "external_id and web_identity_token_file exclude each other");
	if (s->v[SF_S3_ANONYMOUS].i && keys_asked(s))
		return job_refuse(ps, ERR_INVALID_JOB, base, "anonymous", "anonymous and a role exclude each other");
	return 0;
}

int
source_check_s3_role(struct job_parser *ps, const char *base, const struct source_conf *s, const bool *given)
{
	char *url, *region, field[64];

	if (check_needs(ps, base, given) || check_one(ps, base, s, given) || check_words(ps, base, s))
		return -1;
	if (!given[SF_S3_ROLE_ARN])
		return 0;
	if (keys_sts(s, &url, &region, ps->e)) {
		snprintf(field, sizeof(field), "%s", ps->e->pointer);
		return job_refuse(ps, ERR_INVALID_JOB, base, field, NULL);
	}
	free(url);
	free(region);
	return 0;
}
