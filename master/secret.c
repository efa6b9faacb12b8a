/*
 * secret.c - the secrets that a job names, read from the credentials directory and from files of this host.
 *
 * dispatch.c calls it when a task is about to go to its worker: read anew each time, so that a changed file counts from
 * the next attempt; encoded into that worker's JOB frame; wiped. Nothing is cached, logged or shown. A secret that cannot
 * be had is the class auth, with the file's name and what to do, and never its content.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/field.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "master/secret.h"
#include "common/banned.h"

#define SECRET_FILE_MAX 65536
#define CREDENTIALS_DIR "/etc/iis-poller/credentials.d"

const char *
secret_dir(const struct config *cfg)
{
	const char *systemd = getenv("CREDENTIALS_DIRECTORY");

	if (*cfg->credentials_dir)
		return cfg->credentials_dir;
	return systemd && *systemd == '/' ? systemd : CREDENTIALS_DIR;
}

/* No way out of the root, by ".." or by a link. */
static int
open_beneath(const char *root, const char *name)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, saved;

	if (dir < 0)
		return -1;
	fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
	saved = errno;
	close(dir);
	errno = saved;
	return fd;
}

static int
read_all(int fd, struct buf *b, const char *root, const char *name, struct err *e)
{
	/* At once: a buffer that grows leaves copies of the secret behind. */
	buf_room(b, SECRET_FILE_MAX + 2 * 4096);
	for (;;) {
		ssize_t n = read(fd, buf_room(b, 4096), 4096);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, ERR_AUTH, "reading %s/%s", root, name);
		if (!n)
			return 0;
		b->len += (size_t)n;
		if (b->len > SECRET_FILE_MAX)
			return err_set(e, ERR_AUTH, "%s/%s is larger than %d bytes", root, name, SECRET_FILE_MAX);
	}
}

/* secret: others must have no rights on it. The content in b, which the caller wipes. */
static int
read_file(const char *root, const char *name, bool secret, struct buf *b, struct err *e)
{
	int fd = open_beneath(root, name), ret = -1;
	struct stat st;

	if (fd < 0)
		return err_errno(e, ERR_AUTH, "cannot open %s/%s, which the job names", root, name);
	if (fstat(fd, &st) < 0)
		err_errno(e, ERR_AUTH, "%s/%s", root, name);
	else if (!S_ISREG(st.st_mode))
		err_set(e, ERR_AUTH, "%s/%s is not a regular file", root, name);
	else if (secret && st.st_mode & (S_IRWXO | S_IWGRP))
		err_set(e, ERR_AUTH, "%s/%s is open to others (mode %04o); chmod 0400 it", root, name, (unsigned)st.st_mode & 07777);
	else
		ret = read_all(fd, b, root, name, e);
	close(fd);
	return ret;
}

static int
keep(struct secrets *s, int id, struct field_value *v, struct err *e)
{
	if (s->n == SECRETS_MAX) {
		field_value_wipe(v);
		field_value_release(v);
		return err_set(e, ERR_AUTH, "a source names more than %d secrets", SECRETS_MAX);
	}
	s->got[s->n].id = id;
	s->got[s->n++].v = *v;
	return 0;
}

/* The content as the value of one field: text as it is, a line without its end. */
static int
keep_text(struct secrets *s, int id, struct buf *b, const char *root, const char *name, struct err *e)
{
	const struct field_row *r = &field_rows[id];
	struct field_value v = { .set = true };

	while (r->kind == KIND_STR && b->len && (b->p[b->len - 1] == '\n' || b->p[b->len - 1] == '\r'))
		b->len--;
	if (memchr(b->p ? b->p : "", '\0', b->len))
		return err_set(e, ERR_AUTH, "%s/%s holds a NUL", root, name);
	v.s = xmemdup0(b->p ? b->p : "", b->len);
	if (!field_value_ok(r, &v)) {
		field_value_wipe(&v);
		field_value_release(&v);
		return err_set(e, ERR_AUTH, "%s/%s does not hold a %s: it is empty, too long (%s bytes at most), or has several lines",
		    root, name, r->name, r->range);
	}
	return keep(s, id, &v, e);
}

static int
load_ref(const struct config *cfg, const struct source_conf *c, int id, struct secrets *s, struct err *e)
{
	const char *dir = secret_dir(cfg), *name = c->v[id].s;
	struct buf b = BUF_INIT;
	int ret = read_file(dir, name, true, &b, e);

	if (!ret)
		ret = keep_text(s, field_target(field_rows, id), &b, dir, name, e);
	buf_wipe(&b);
	return ret;
}

static int
load_file(const struct config *cfg, const struct source_conf *c, int id, struct secrets *s, struct err *e)
{
	int target = field_target(field_rows, id);
	const char *rest = NULL, *root = path_under(&cfg->credentials_file_roots, c->v[id].s, &rest);
	struct buf b = BUF_INIT;
	int ret;

	/* The settings may have changed since the job was taken. */
	if (!root)
		return err_set(e, ERR_POLICY, "%s is not below a directory of credentials.file_roots", field_rows[id].name);
	ret = read_file(root, rest, field_rows[target].flags & FIELD_SECRET, &b, e);
	if (!ret)
		ret = keep_text(s, target, &b, root, rest, e);
	buf_wipe(&b);
	return ret;
}

int
secret_file_read(const struct config *cfg, const char *path, struct buf *b, struct err *e)
{
	const char *rest = NULL, *root = path_under(&cfg->credentials_file_roots, path, &rest);

	if (!root)
		return err_set(e, ERR_POLICY, "%s is not below a directory of credentials.file_roots", path);
	return read_file(root, rest, true, b, e);
}

/* "name: value" of an object of strings, as http's headers; names of headers have no case. */
static bool
same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, ":");

	return n == strcspn(b, ":") && !strncasecmp(a, b, n);
}

/* Of an object of strings the set's own members win, and those that the job alone has stay. 0, or -1 (AUTH). */
static int
merge(const struct field_row *r, struct field_value *v, const struct field_value *job, struct err *e)
{
	size_t own = v->l.n;

	for (size_t i = 0; job->set && i < job->l.n; i++) {
		size_t k = 0;

		while (k < own && !same_name(v->l.v[k], job->l.v[i]))
			k++;
		if (k == own)
			strlist_add(&v->l, job->l.v[i]);
	}
	if (field_value_ok(r, v))
		return 0;
	return err_set(e, ERR_AUTH, "the secret set and the job have more %s together than a source may have", r->name);
}

static int
load_set(const struct config *cfg, const struct source_conf *c, struct secrets *s, struct err *e)
{
	const char *dir = secret_dir(cfg), *name = c->v[SF_NETWORK_CREDENTIALS_REF].s;
	struct field_value v[SF__MAX] = { { 0 } };
	struct buf b = BUF_INIT;
	struct err why = ERR_INIT;
	int ret = read_file(dir, name, true, &b, e);

	if (!ret && job_secret_read(b.p ? b.p : "", b.len, c->type, v, &why))
		ret = err_set(e, ERR_AUTH, "the secret set %s/%s: %s", dir, name, why.text);
	for (int i = 0; i < SF__MAX; i++) {
		if (!v[i].set)
			continue;
		if (!ret && field_rows[i].flags & FIELD_MAP)
			ret = merge(&field_rows[i], &v[i], &c->v[i], e);
		if (!ret) {
			ret = keep(s, i, &v[i], e);
		} else {
			field_value_wipe(&v[i]);
			field_value_release(&v[i]);
		}
	}
	buf_wipe(&b);
	return ret;
}

static int
keep_string(struct secrets *s, int id, const char *value, struct err *e)
{
	struct field_value v = { .set = true, .s = xstrdup(value) };

	if (field_value_ok(&field_rows[id], &v))
		return keep(s, id, &v, e);
	field_value_wipe(&v);
	field_value_release(&v);
	return err_set(e, ERR_AUTH, "%s is empty or too long", field_rows[id].name);
}

/* S3's profile: a section of a file that other tools use, too. */
static int
load_profile(const struct config *cfg, const struct source_conf *c, struct secrets *s, struct err *e)
{
	const char *path = c->v[SF_S3_SHARED_CREDENTIALS_FILE].s, *rest = NULL, *root;
	const char *name = c->v[SF_S3_PROFILE].set ? c->v[SF_S3_PROFILE].s : "default";
	struct profile p = { NULL, NULL, NULL };
	struct buf b = BUF_INIT;
	struct err why = ERR_INIT;
	int ret;

	root = path_under(&cfg->credentials_file_roots, path, &rest);
	if (!root)
		return err_set(e, ERR_POLICY, "shared_credentials_file is not below a directory of credentials.file_roots");
	ret = read_file(root, rest, true, &b, e);
	if (!ret && (profile_read(b.p ? b.p : "", b.len, name, &p, &why) ||
	    keep_string(s, SF_S3_ACCESS_KEY_ID, p.access_key_id, &why) ||
	    keep_string(s, SF_S3_SECRET_ACCESS_KEY, p.secret_access_key, &why) ||
	    (p.session_token && keep_string(s, SF_S3_SESSION_TOKEN, p.session_token, &why))))
		ret = err_set(e, ERR_AUTH, "%s: %s", path, why.text);
	profile_wipe(&p);
	buf_wipe(&b);
	return ret;
}

int
secrets_load(const struct config *cfg, const char *org_id, const struct source_conf *c, struct secrets *s, struct err *e)
{
	int ret = 0;

	s->n = 0;
	/* Before any file is opened: whose secret it is comes first. */
	for (int i = 0; !ret && i < SF__MAX; i++)
		ret = tenant_permits_secret(cfg, org_id, c, i, e);
	for (int i = 0; !ret && i < SF__MAX; i++) {
		if (!c->v[i].set)
			continue;
		if (field_rows[i].flags & FIELD_REF)
			ret = load_ref(cfg, c, i, s, e);
		else if (field_rows[i].flags & FIELD_FILE)
			ret = load_file(cfg, c, i, s, e);
	}
	if (!ret && c->v[SF_S3_SHARED_CREDENTIALS_FILE].set)
		ret = load_profile(cfg, c, s, e);
	/* Last: the set wins. */
	if (!ret && c->v[SF_NETWORK_CREDENTIALS_REF].set)
		ret = load_set(cfg, c, s, e);
	if (ret)
		secrets_wipe(s);
	return ret;
}

void
secrets_lend(const struct secrets *s, struct source_conf *c)
{
	for (size_t i = 0; i < s->n; i++)
		c->v[s->got[i].id] = s->got[i].v;
}

void
secrets_wipe(struct secrets *s)
{
	for (size_t i = 0; i < s->n; i++) {
		field_value_wipe(&s->got[i].v);
		field_value_release(&s->got[i].v);
	}
	s->n = 0;
}
