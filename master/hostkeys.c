/*
 * hostkeys.c - the keys of SSH servers that jobs with host_key_check: accept-new took: kept by tenant, host and port, so that
 * a changed key is refused from then on.
 *
 * dispatch.c calls it: what is known goes with the task; a worker that meets a server without a
 * known key tells the key in a HOSTKEY frame before it logs in. For which host is the task's word, not the worker's: a
 * worker that lies spoils its own tenant's host alone. The file state.dir/known_hosts has a line for each, as sshd(8) has
 * them, the tenant as its comment; it is read at the start and at a reload, so that an operator can take a line out. One poller's
 * memory is not another's.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define HOSTS_MAX 100000
#define FILE_MAX ((off_t)256 * 1024 * 1024)
#define TYPE_MAX 63

enum { CHECK_ACCEPT_NEW = 2 };          /* as in sources.def */

struct host {
	char *place;                    /* "[host]:port tenant": one line's without its key; owned */
	char *key;                      /* "type base64"; owned */
	UT_hash_handle hh;
};

struct hostkeys {
	struct master *m;
	struct host *hosts;
	char *path;
};

static void
drop_all(struct hostkeys *k)
{
	struct host *h, *next;

	HASH_ITER(hh, k->hosts, h, next) {
		HASH_DEL(k->hosts, h);
		free(h->place);
		free(h->key);
		free(h);
	}
}

static char *
place_of(const struct task *t)
{
	const struct source_conf *s = &t->job->job->sources[t->index];
	char *place = xasprintf("[%s]:%lld %s", s->v[SF_SFTP_HOST].s, (long long)s->v[SF_SFTP_PORT].i, t->job->org_id);

	/* Names of hosts have no case; the tenant's begins behind the blank. */
	for (char *p = place; *p && *p != ' '; p++)
		*p = (char)tolower((unsigned char)*p);
	return place;
}

static bool
accepts_new(const struct task *t)
{
	const struct source_conf *s = &t->job->job->sources[t->index];

	return s->type == SOURCE_SFTP && s->v[SF_SFTP_HOST_KEY_CHECK].i == CHECK_ACCEPT_NEW;
}

/* "type base64" of visible characters, nothing before, between or behind. */
static bool
key_ok(const char *p, size_t n)
{
	size_t type = 0;

	while (type < n && (isalnum((unsigned char)p[type]) || strchr("-@._", p[type])) && p[type])
		type++;
	if (!type || type > TYPE_MAX || type + 2 > n || n >= TASK_HOST_KEY || p[type] != ' ')
		return false;
	for (size_t i = type + 1; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && !(p[i] && strchr("+/=", p[i])))
			return false;
	return true;
}

static struct host *
find(const struct hostkeys *k, const char *place)
{
	struct host *h;

	HASH_FIND_STR(k->hosts, place, h);
	return h;
}

/* place is taken */
static void
add(struct hostkeys *k, char *place, const char *key, size_t n)
{
	struct host *h = xcalloc(1, sizeof(*h));

	h->place = place;
	h->key = xmemdup0(key, n);
	HASH_ADD_KEYPTR(hh, k->hosts, h->place, strlen(h->place), h);
}

/* ---- the file -------------------------------------------------------------------------------------------------------- */

/* "[host]:port type base64 tenant"; false: it is none of ours. */
static bool
read_line(struct hostkeys *k, const char *line, size_t n)
{
	const char *end = line + n, *key = memchr(line, ' ', n), *blob, *tenant;
	char *place;

	if (!key || *line != '[')
		return false;
	key++;
	blob = memchr(key, ' ', (size_t)(end - key));
	tenant = blob ? memchr(blob + 1, ' ', (size_t)(end - blob - 1)) : NULL;
	if (!tenant || !key_ok(key, (size_t)(tenant - key)) || tenant + 1 == end)
		return false;
	place = xasprintf("%.*s%.*s", (int)(key - line), line, (int)(end - tenant - 1), tenant + 1);
	if (find(k, place) || HASH_COUNT(k->hosts) >= HOSTS_MAX) {
		free(place);
		return false;
	}
	add(k, place, key, (size_t)(tenant - key));
	return true;
}

static void
read_lines(struct hostkeys *k, const struct buf *b)
{
	const char *p = b->p, *end = p + b->len;

	for (unsigned line = 1; p < end; line++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);

		if (n && *p != '#' && !read_line(k, p, n))
			LOG(LOG_WARN, "known_hosts_line", LS("file", k->path), LI("line", line),
			    LS("todo", "it is not as the poller writes it, or there twice, and does not count: correct it, then reload"));
		p += n + 1;
	}
}

static int
read_all(int fd, struct buf *b)
{
	for (;;) {
		ssize_t n = read(fd, buf_room(b, 65536), 65536);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n;
		b->len += (size_t)n;
	}
}

/* A file that is there and cannot be read must not pass for an empty one: each changed key would be new. */
static int
load(struct hostkeys *k, struct err *e)
{
	int fd = open(k->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc = 0;
	struct buf b = BUF_INIT;
	struct stat st;

	if (fd < 0 && errno == ENOENT) {
		drop_all(k);
		return 0;
	}
	if (fd < 0)
		return err_errno(e, ERR_CONFIG, "cannot read %s, the host keys that were accepted", k->path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		rc = err_set(e, ERR_CONFIG, "%s, the host keys that were accepted, is no file or too large", k->path);
	else if (read_all(fd, &b) < 0)
		rc = err_errno(e, ERR_CONFIG, "cannot read %s, the host keys that were accepted", k->path);
	close(fd);
	if (rc == 0) {
		drop_all(k);
		if (b.len)
			read_lines(k, &b);
	}
	buf_release(&b);
	return rc;
}

static int
write_all(int fd, const struct buf *b)
{
	for (size_t done = 0; done < b->len;) {
		ssize_t n = write(fd, b->p + done, b->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

/* Appended and on the disk before the job goes on: a line at a time, so that what an operator changed meanwhile stays. */
static int
save(const struct hostkeys *k, const char *place, const char *key, size_t n)
{
	int fd = open(k->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640), rc;
	const char *tenant = strchr(place, ' ');
	struct buf b = BUF_INIT;
	struct stat st;

	if (fd < 0)
		return -1;
	/* A line that was cut by a full disk, or an editor's last one. */
	if (fstat(fd, &st) == 0 && st.st_size > 0)
		buf_putc(&b, '\n');
	buf_printf(&b, "%.*s %.*s%s", (int)(tenant - place), place, (int)n, key, tenant);
	rc = write_all(fd, &b);
	if (rc == 0)
		rc = fdatasync(fd);
	close(fd);
	buf_release(&b);
	return rc;
}

/* ---- tasks ----------------------------------------------------------------------------------------------------------- */

int
hostkeys_lend(struct master *m, const struct task *t, char *key, size_t n, struct err *e)
{
	const struct host *h;
	char *place;

	*key = '\0';
	if (!accepts_new(t))
		return 0;
	place = place_of(t);
	h = find(m->hostkeys, place);
	free(place);
	if (!h && HASH_COUNT(m->hostkeys->hosts) >= HOSTS_MAX)
		return err_set(e, ERR_LIMIT, "%s holds %d servers, more are not accepted: take out those that are gone, or name the server's key in the job",
		    m->hostkeys->path, HOSTS_MAX);
	if (h)
		snprintf(key, n, "%s", h->key);
	return 0;
}

int
hostkeys_frame(struct master *m, const struct task *t, const struct frame *f, struct err *e)
{
	struct hostkeys *k = m->hostkeys;
	const char *key = (const char *)f->payload;
	struct host *h;
	char *place;

	if (!accepts_new(t))
		return err_set(e, ERR_WORKER_PROTOCOL, "HOSTKEY of a task that accepts none");
	if (!key_ok(key, f->n))
		return err_set(e, ERR_WORKER_PROTOCOL, "HOSTKEY is no key");
	place = place_of(t);
	h = find(k, place);
	if (h) {
		bool same = strlen(h->key) == f->n && !memcmp(h->key, key, f->n);

		free(place);
		/* Two first tasks at once met two servers: one of them is not the one. */
		return same ? 0 : err_set(e, ERR_PERMANENT, "the server's key is not the one that another job was just shown: somebody stands between");
	}
	if (save(k, place, key, f->n) < 0)
		LOG(LOG_ERROR, "known_hosts_not_saved", LS("file", k->path), LS("error", strerror(errno)),
		    LS("todo", "make room or correct the rights: at the next start this server's key is taken as new once more"));
	LOG(LOG_WARN, "host_key_remembered", LS("org_id", t->job->org_id), LS("endpoint", t->job->job->sources[t->index].endpoint), LS("file", k->path));
	add(k, place, key, f->n);
	return 0;
}

void
hostkeys_reloaded(struct hostkeys *k)
{
	struct err e = ERR_INIT;

	if (load(k, &e) < 0)
		LOG(LOG_ERROR, "known_hosts_unread", LS("trouble", e.text), LS("todo", "what was known still counts"));
}

struct hostkeys *
hostkeys_new(struct master *m, struct err *e)
{
	struct hostkeys *k = xcalloc(1, sizeof(*k));

	k->m = m;
	k->path = xasprintf("%s/known_hosts", m->cfg->state_dir);
	if (load(k, e) == 0)
		return k;
	hostkeys_free(k);
	return NULL;
}

void
hostkeys_free(struct hostkeys *k)
{
	if (!k)
		return;
	drop_all(k);
	free(k->path);
	free(k);
}
