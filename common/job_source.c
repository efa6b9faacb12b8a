/*
 * job_source.c - one source of a job: its type, its fields, its path under a configured root, its
 * canonical address.
 *
 * Called by job_parse for source_config and for each member of connection_list. Asks no file system
 * and no network: whether the path exists is the worker's to find out.
 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/hosts.h"
#include "common/job_priv.h"
#include "common/source_ftp.h"
#include "common/task.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define INDEX_MARK "{index}"

/* "dummy, local": what the message of an unknown type offers */
static void
known_types(struct buf *b)
{
	for (int i = 0; i < SOURCE__MAX; i++) {
		if (source_rows[i].later)
			continue;
		if (b->len)
			buf_puts(b, ", ");
		buf_puts(b, source_rows[i].name);
	}
}

static int
unknown_type(struct job_parser *ps, const char *base, const char *member, const char *name)
{
	struct buf shown = BUF_INIT, known = BUF_INIT;
	int rc;

	escape_term(&shown, name, strnlen(name, 64));
	known_types(&known);
	rc = job_refuse(ps, ERR_UNKNOWN_SOURCE, base, member,
	    "unknown source type \"%s\"; there are: %s", buf_str(&shown), buf_str(&known));
	buf_release(&shown);
	buf_release(&known);
	return rc;
}

static int
read_type(struct job_parser *ps, struct json_object *o, const char *base, struct source_conf *s)
{
	const struct field_row *r = &field_rows[SF_COMMON_TYPE];
	const char *member[2] = { r->name, r->aliases };
	int type = -1;

	for (int i = 0; i < 2; i++) {
		struct field_value v = { 0 };
		struct json_object *value;
		int found;

		if (!json_object_object_get_ex(o, member[i], &value))
			continue;
		if (field_from_json(r, value, &v, ps->e)) {
			field_value_release(&v);
			return job_refuse(ps, ERR_INVALID_JOB, base, member[i], NULL);
		}
		found = source_by_name(v.s);
		if (found < 0)
			unknown_type(ps, base, member[i], v.s);
		field_value_release(&v);
		if (found < 0)
			return -1;
		if (type >= 0 && type != found)
			return job_refuse(ps, ERR_INVALID_JOB, base, member[i],
			    "%s and %s name different types", member[0], member[1]);
		type = found;
	}
	if (type < 0)
		return job_refuse(ps, ERR_INVALID_JOB, base, r->name, "%s is missing", r->name);
	s->type = (enum source_type)type;
	if (source_rows[type].later)
		return job_refuse(ps, ERR_UNSUPPORTED, base, r->name,
		    "source type \"%s\" is not served by this version", source_rows[type].name);
	return 0;
}

/* ---- paths ---- */

static int
set_path(struct job_parser *ps, const char *base, struct source_conf *s, const char *from)
{
	struct field_value *v = &s->v[SF_COMMON_PATH];
	char *path = path_normalise(v->set ? v->s : from, from, ps->e);

	if (!path)
		return job_refuse(ps, ERR_INVALID_JOB, base, "path", NULL);
	free(v->s);
	v->s = path;
	v->set = true;
	return 0;
}

/* "./dummy_data" with the root /x/dummy_data is that root: relative paths begin at the root's
 * parent. */
static int
dummy_path(struct job_parser *ps, const char *base, struct source_conf *s)
{
	struct field_value *v = &s->v[SF_COMMON_PATH];
	const char *wanted = ps->limits->dummy_root, *rest;
	char *root = wanted ? path_normalise(wanted, NULL, ps->e) : NULL, *parent;
	struct strlist roots = { &root, 1 };
	int rc;

	if (!root)
		return job_refuse(
		    ps, ERR_POLICY, base, "path", "dummy.data_path is not set to a directory");
	parent = xstrdup(root);
	*strrchr(parent, '/') = '\0';
	if (!v->set) {
		v->s = xstrdup(root);
		v->set = true;
	}
	rc = set_path(ps, base, s, parent);
	if (!rc && !path_under(&roots, v->s, &rest))
		rc = job_refuse(ps, ERR_POLICY, base, "path",
		    "the path is not below dummy.data_path (DUMMY_DATA_PATH)");
	free(root);
	free(parent);
	return rc;
}

static int
local_path(struct job_parser *ps, const char *base, struct source_conf *s)
{
	const char *rest;

	if (!s->v[SF_COMMON_PATH].set)
		return job_refuse(ps, ERR_INVALID_JOB, base, "path", "path is missing");
	if (set_path(ps, base, s, NULL))
		return -1;
	if (!path_under(ps->limits->local_roots, s->v[SF_COMMON_PATH].s, &rest))
		return job_refuse(ps, ERR_POLICY, base, "path",
		    "the path is not below a directory of local.allowed_roots");
	return 0;
}

/* ---- what holds between a type's fields ---- */

/* A field that has no effect as the others stand is said, not ignored. */
static void
warn_idle(struct job_parser *ps, const char *base, const bool *given, const int *ids, size_t n,
    const char *without)
{
	for (size_t i = 0; i < n; i++)
		if (given[ids[i]])
			job_warn(ps, "%s/%s has no effect without %s", base,
			    field_rows[ids[i]].name, without);
}

static int
check_dummy(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	static const int shape[] = { SF_DUMMY_NAME_TEMPLATE, SF_DUMMY_SIZE, SF_DUMMY_MTIME,
		SF_DUMMY_SEED, SF_DUMMY_DEPTH, SF_DUMMY_FANOUT };
	static const int fault[] = { SF_DUMMY_FAIL_AFTER, SF_DUMMY_ATTEMPTS };
	const char *name = s->v[SF_DUMMY_NAME_TEMPLATE].s, *error = s->v[SF_DUMMY_ERROR].s;
	const struct field_value *files = &s->v[SF_DUMMY_FILES];

	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return job_refuse(ps, ERR_INVALID_JOB, base, "name_template",
		    "name_template is not a file's name");
	if (files->set && files->i > 1 && !strstr(name, INDEX_MARK))
		return job_refuse(ps, ERR_INVALID_JOB, base, "name_template",
		    "name_template needs " INDEX_MARK " for more than one file");
	if (error) {
		int cls = err_class_by_name(error);

		if (cls < 0 || cls == ERR_OK || !task_class_allowed((enum err_class)cls))
			return job_refuse(ps, ERR_INVALID_JOB, base, "error",
			    "error must be an error class that a worker may report");
		if (s->v[SF_DUMMY_CRASH].set)
			return job_refuse(ps, ERR_INVALID_JOB, base, "crash",
			    "crash and error exclude each other");
	}
	if (!files->set)
		warn_idle(ps, base, given, shape, ARRAY_LEN(shape), "files");
	if (!error && !s->v[SF_DUMMY_CRASH].set)
		warn_idle(ps, base, given, fault, ARRAY_LEN(fault), "error or crash");
	return 0;
}

/* One component of a path, and not a hidden one. */
static bool
secret_name_ok(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n && !s[n] && *s != '.';
}

static int
check_common(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	static const int deep[] = { SF_COMMON_MAX_DEPTH, SF_COMMON_MIN_DEPTH };
	const struct field_value *max = &s->v[SF_COMMON_MAX_DEPTH],
				 *id = &s->v[SF_COMMON_SOURCE_ID];
	const char *fault;

	if (!s->v[SF_COMMON_RECURSIVE].i)
		warn_idle(ps, base, given, deep, ARRAY_LEN(deep), "recursive");
	if (max->i && s->v[SF_COMMON_MIN_DEPTH].i > max->i)
		return job_refuse(
		    ps, ERR_INVALID_JOB, base, "min_depth", "min_depth is larger than max_depth");
	if (s->v[SF_COMMON_RETRY_DELAY].set && s->v[SF_COMMON_RETRY_MAX_DELAY].set &&
	    s->v[SF_COMMON_RETRY_DELAY].i > s->v[SF_COMMON_RETRY_MAX_DELAY].i)
		return job_refuse(ps, ERR_INVALID_JOB, base, "retry_delay",
		    "retry_delay is larger than retry_max_delay");
	fault = id->set ? job_name_fault(id->s) : NULL;
	return fault ? job_refuse(ps, ERR_INVALID_JOB, base, "source_id", "source_id %s", fault)
		     : 0;
}

static void
set_address(struct source_conf *s)
{
	const char *type = source_rows[s->type].name;
	bool generated = s->type == SOURCE_DUMMY && s->v[SF_DUMMY_FILES].set;

	s->canonical = xasprintf("%s:%s", type, generated ? "generator" : s->v[SF_COMMON_PATH].s);
}

static int
check_dummy_source(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	if (check_dummy(ps, base, s, given) || dummy_path(ps, base, s))
		return -1;
	set_address(s);
	return 0;
}

static int
check_local_source(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	(void)given;
	if (local_path(ps, base, s))
		return -1;
	if (s->type == SOURCE_LOCAL && !s->v[SF_LOCAL_ONE_FILE_SYSTEM].i && !ps->limits->allow_mounts)
		return job_refuse(ps, ERR_POLICY, base, "one_file_system", "false needs local.cross_mounts");
	set_address(s);
	return 0;
}

/* A FIELD_FILE path must lie below a root of the settings; which file it is, the master finds out at each attempt. */
static int
check_file(struct job_parser *ps, const char *base, struct field_value *v, const struct field_row *r)
{
	char *path = path_normalise(v->s, NULL, ps->e);
	const char *rest;

	if (!path)
		return job_refuse(ps, ERR_INVALID_JOB, base, r->name, NULL);
	free(v->s);
	v->s = path;
	if (!path_under(ps->limits->file_roots, path, &rest))
		return job_refuse(ps, ERR_POLICY, base, r->name,
		    "%s is not below a directory of credentials.file_roots", r->name);
	return 0;
}

static int
check_names(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	const struct strlist *direct = &s->v[SF_NETWORK_PROXY_NO_PROXY].l;
	const char *name = s->v[SF_NETWORK_TLS_SERVER_NAME].s, *fault;

	for (size_t i = 0; i < direct->n; i++) {
		fault = hosts_no_proxy_fault(direct->v[i]);
		if (fault)
			return job_refuse(ps, ERR_INVALID_JOB, base, "proxy.no_proxy", "proxy.no_proxy %s", fault);
	}
	if (name && (!*name || *name == '.' || *name == '-' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != strlen(name)))
		return job_refuse(ps, ERR_INVALID_JOB, base, "tls.server_name",
		    "tls.server_name is no name of a host (letters, digits, '.', '-', '_')");
	return 0;
}

/* Only where TLS is spoken with the server itself. */
static void
warn_server_name(struct job_parser *ps, const char *base, const struct source_conf *s)
{
	bool tls = s->type == SOURCE_FTP ? s->v[SF_FTP_TLS_MODE].i != FTP_TLS_NONE :
	    s->endpoint && !strncmp(s->endpoint, "https:", 6);

	if (s->v[SF_NETWORK_TLS_SERVER_NAME].set && !tls)
		job_warn(ps, "%s/tls.server_name has no effect without TLS", base);
	if (s->v[SF_NETWORK_PROXY_NO_PROXY].l.n && !s->v[SF_NETWORK_PROXY_URL].set)
		job_warn(ps, "%s/proxy.no_proxy has no effect without proxy.url", base);
}

/* What holds for secrets, files, TLS and proxies of every network source. */
static int
check_network(struct job_parser *ps, const char *base, struct source_conf *s, const bool *given)
{
	for (int i = 0; i < SF__MAX; i++) {
		const struct field_row *r = &field_rows[i];

		if (!given[i])
			continue;
		if (r->flags & FIELD_SECRET && !ps->limits->allow_inline)
			return job_refuse(ps, ERR_POLICY, base, r->name,
			    "%s in a job is forbidden (credentials.allow_inline); use credentials_ref", r->name);
		if (r->flags & (FIELD_REF | FIELD_FILE) && given[field_target(field_rows, i)])
			return job_refuse(ps, ERR_INVALID_JOB, base, r->name, "%s and %s exclude each other",
			    r->name, field_rows[field_target(field_rows, i)].name);
		for (int k = field_target(field_rows, i) + 1; r->flags & (FIELD_REF | FIELD_FILE) && k < i; k++)
			if (given[k])
				return job_refuse(ps, ERR_INVALID_JOB, base, r->name, "%s and %s exclude each other",
				    r->name, field_rows[k].name);
		if (r->flags & FIELD_REF && !secret_name_ok(s->v[i].s))
			return job_refuse(ps, ERR_INVALID_JOB, base, r->name, "%s is not a secret's name (letters, digits, . _ -)",
			    r->name);
		if (r->flags & FIELD_FILE && check_file(ps, base, &s->v[i], r))
			return -1;
	}
	if (given[SF_NETWORK_CREDENTIALS_REF] && !secret_name_ok(s->v[SF_NETWORK_CREDENTIALS_REF].s))
		return job_refuse(ps, ERR_INVALID_JOB, base, "credentials_ref",
		    "credentials_ref is not a secret's name (letters, digits, . _ -)");
	if (check_names(ps, base, s))
		return -1;
	if (!s->v[SF_NETWORK_TLS_VERIFY].i && !ps->limits->allow_unverified_tls)
		return job_refuse(ps, ERR_POLICY, base, "tls.verify", "tls.verify: false needs network.allow_unverified_tls");
	if (s->v[SF_NETWORK_MAX_CONNECTIONS].set && s->v[SF_NETWORK_MAX_CONNECTIONS].i > ps->limits->connections_max) {
		s->v[SF_NETWORK_MAX_CONNECTIONS].i = ps->limits->connections_max;
		job_warn(ps, "%s/max_connections was lowered to %lld (network.connections_max)", base,
		    (long long)ps->limits->connections_max);
	}
	/* Where the job does not say how many, ftp opens the most. */
	if (!s->v[SF_NETWORK_MAX_CONNECTIONS].set && s->type == SOURCE_FTP && ps->limits->connections_max < FTP_CONNECTIONS_FAR) {
		s->v[SF_NETWORK_MAX_CONNECTIONS].i = ps->limits->connections_max < FTP_CONNECTIONS ? ps->limits->connections_max : FTP_CONNECTIONS;
		s->v[SF_NETWORK_MAX_CONNECTIONS].set = true;
	}
	return 0;
}

/*
 * What tells the files of one source from those of another, for event_id: the server, what is in front of the path, and
 * who looks, where each user may see a tree of his own. No secret, and nothing that changes when one does.
 */
static void
set_identity(struct source_conf *s, const bool *given)
{
	int user = field_find(field_rows, SF__MAX, (int)s->type, s->type == SOURCE_HTTP ? "auth.username" : "username");
	const struct field_value *ref = &s->v[SF_NETWORK_CREDENTIALS_REF];
	const char *who = "";

	/* A default is nobody where the secret set brings the name. */
	if (user >= 0)
		who = given[user] ? s->v[user].s : ref->set ? ref->s : s->v[user].set ? s->v[user].s : "";
	s->identity = xasprintf("%s:%s %s %s", source_rows[s->type].name, s->endpoint, s->url_base, who);
}

typedef int source_check_fn(struct job_parser *, const char *base, struct source_conf *, const bool *given);
static source_check_fn *const source_checks[SOURCE__MAX] = {
	[SOURCE_HTTP] = source_check_http,
	[SOURCE_DUMMY] = check_dummy_source,
	[SOURCE_LOCAL] = check_local_source,
	[SOURCE_FTP] = source_check_ftp,
	[SOURCE_S3] = source_check_s3,
	[SOURCE_SFTP] = source_check_sftp,
};

static void
set_source_id(struct source_conf *s)
{
	const char *type = source_rows[s->type].name;
	char hash[65];

	sha256_hex(s->canonical, strlen(s->canonical), hash);
	if (s->v[SF_COMMON_SOURCE_ID].set)
		s->source_id = xstrdup(s->v[SF_COMMON_SOURCE_ID].s);
	else
		s->source_id = xasprintf("%s-%.12s", type, hash);
}

int
job_source_read(
    struct job_parser *ps, struct json_object *o, const char *base, struct source_conf *s)
{
	struct job_fields fields = { field_rows, SF__MAX, SOURCE_COMMON, s->v, base, "" };
	size_t n = strlen(json_object_to_json_string_ext(
	    o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	bool given[SF__MAX] = { false };

	if (n > ps->limits->source_max)
		return job_refuse(ps, ERR_INVALID_JOB, base, NULL,
		    "the source's configuration has %zu bytes; jobs.source_max allows %zu", n,
		    ps->limits->source_max);
	if (read_type(ps, o, base, s))
		return -1;
	fields.source = (int)s->type;
	if (job_fields_read(ps, o, &fields, given) || check_common(ps, base, s, given))
		return -1;
	if (source_rows[s->type].role == ROLE_NETWORK && check_network(ps, base, s, given))
		return -1;
	if (source_checks[s->type](ps, base, s, given))
		return -1;
	if (source_rows[s->type].role == ROLE_NETWORK) {
		warn_server_name(ps, base, s);
		set_identity(s, given);
	}
	set_source_id(s);
	return 0;
}
