/*
 * event.c - one file of a listing to one record of the events topic: JSON value, key, headers.
 *
 * dispatch.c calls it for every record of every worker, a million times in a row: what is the same for a whole task
 * is written once, when the task begins. What the record holds has been checked by record_decode; its bytes are still
 * foreign and leave here escaped only. Never fails.
 */
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/http_query.h"
#include "common/units.h"
#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/event_priv.h"
#include "common/banned.h"

#define NS_PER_DAY INT64_C(86400000000000)
#define EVENT_TYPE "com.iis.poller.file.discovered.v1"
#define HEADER_TEXT 256          /* two ids and a time */

enum event_key { KEY_FILE_URL, KEY_JOB_ID, KEY_ORG_ID, KEY_NONE }; /* the words of topics.event_key */

struct event_ctx {
	struct buf head;                /* ,"job_id":... up to the source's type */
	struct buf tail;                /* ,"metadata":... to the closing brace, but for processed_at */
	struct buf ce_source;
	char *job_id, *org_id;
	char traceparent[64];
	enum event_key key;
	char *url_base;                 /* of file_url; "file://", "dummy://" (generated: there is no such file), "sftp://host" */
	bool keys;                      /* paths are keys: a '/' in front is part of them */
	bool queries;                   /* query_links: keep: paths may end with a query */
	struct uuid_part id[4];         /* org, source, path, version; the first two are of the task */
	char *identity;                 /* owns id[1] */
};

static const char *const precisions[MTIME__MAX] = {
	[MTIME_NS] = "ns", [MTIME_S] = "s", [MTIME_MIN] = "min", [MTIME_DAY] = "day",
};

/* What tells sources apart in event_id: local files are named by their path alone, others by their server and user, too. */
static char *
identity(const struct source_conf *c)
{
	return xstrdup(c->identity ? c->identity : source_rows[c->type].name);
}

struct event_ctx *
event_ctx_new(const struct config *cfg, const struct task *t)
{
	const struct jobrec *rec = t->job;
	const struct source_conf *c = &rec->job->sources[t->index];
	struct event_ctx *x = xcalloc(1, sizeof(*x));
	struct jsonw j;

	x->job_id = xstrdup(rec->job_id);
	x->org_id = xstrdup(rec->org_id);
	memcpy(x->traceparent, rec->traceparent, sizeof(x->traceparent));
	x->key = (enum event_key)cfg->event_key;
	x->keys = c->type == SOURCE_S3;
	x->queries = c->type == SOURCE_HTTP && c->v[SF_HTTP_QUERY_LINKS].i;
	x->url_base = xstrdup(c->url_base ? c->url_base : c->type == SOURCE_DUMMY && c->v[SF_DUMMY_FILES].set ? "dummy://" : "file://");
	x->identity = identity(c);
	x->id[0] = (struct uuid_part){ x->org_id, strlen(x->org_id) };
	x->id[1] = (struct uuid_part){ x->identity, strlen(x->identity) };
	ce_source(&x->ce_source, x->org_id, c->source_id);

	/* Both are written as objects of their own and lose their first brace. */
	jsonw_init(&j, &x->head);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "job_id", x->job_id);
	jsonw_str(&j, "org_id", x->org_id);
	jsonw_str(&j, "source_type", source_rows[c->type].name);
	jsonw_str(&j, "source_id", c->source_id);
	x->head.p[0] = ',';
	jsonw_init(&j, &x->tail);
	jsonw_object(&j, NULL);
	jsonw_raw(&j, "metadata", rec->job->metadata, rec->job->metadata_n);
	jsonw_int(&j, "attempt", t->attempt);
	jsonw_int(&j, "schema_version", 1);
	jsonw_str(&j, "event_type", "file.discovered");
	jsonw_time(&j, "discovered_at", clock_real_ns());
	jsonw_end_object(&j);
	x->tail.p[0] = ',';
	return x;
}

void
event_ctx_free(struct event_ctx *x)
{
	if (!x)
		return;
	buf_release(&x->head);
	buf_release(&x->tail);
	buf_release(&x->ce_source);
	free(x->job_id);
	free(x->org_id);
	free(x->identity);
	free(x->url_base);
	free(x);
}

/* ---- small parts --------------------------------------------------------------------------------------------------- */

static char *
put_be64(char *p, uint64_t v)
{
	for (int i = 7; i >= 0; i--)
		*p++ = (char)(v >> (8 * i) & 255);
	return p;
}

/* The last component; a path that ends in '/' keeps it. */
static const char *
name_of(const struct record *r, size_t *n)
{
	const char *slash = memrchr(r->path, '/', r->path_n - 1);
	const char *name = slash ? slash + 1 : r->path;

	*n = (size_t)(r->path + r->path_n - name);
	return name;
}

/* ".csv" of "a.CSV"; nothing of "a", ".profile", "a.". */
static void
write_file_type(struct jsonw *j, const char *name, size_t n)
{
	size_t from = 0;
	const char *dot;
	char lower[256];

	while (from < n && name[from] == '.')
		from++;
	dot = memrchr(name + from, '.', n - from);
	n = dot ? (size_t)(name + n - dot) : 0;
	if (n < 2 || n > sizeof(lower)) {
		jsonw_null(j, "file_type");
		return;
	}
	for (size_t i = 0; i < n; i++)
		lower[i] = (char)(dot[i] >= 'A' && dot[i] <= 'Z' ? dot[i] + ('a' - 'A') : dot[i]);
	jsonw_strn(j, "file_type", lower, n);
}

/*
 * How much of the path is path: a link with a query has that behind a '?', which is no name's character then. query: it,
 * clean; the worker's word for it is not taken.
 */
static size_t
without_query(const struct event_ctx *x, const struct record *r, struct buf *query)
{
	struct buf tail = BUF_INIT;
	size_t n = r->path_n;

	for (size_t i = 0; x->queries && i < r->n_attrs; i++)
		if (r->attrs[i].id == SA_HTTP_QUERY)
			http_query_clean(query, r->attrs[i].s, r->attrs[i].n);
	http_query_name(&tail, query->p, query->len);
	if (tail.len && tail.len < n && !memcmp(r->path + n - tail.len, tail.p, tail.len))
		n -= tail.len;
	else
		buf_clear(query);
	buf_release(&tail);
	return n;
}

/* As without_query. */
static size_t
file_url(const struct event_ctx *x, const struct record *r, struct buf *b)
{
	struct buf query = BUF_INIT;
	size_t path_n = without_query(x, r, &query), n = path_n;
	const char *p = r->path;

	buf_puts(b, x->url_base);
	buf_putc(b, '/');
	/* A key may begin with '/', a path always does. */
	if (n && *p == '/' && !x->keys) {
		p++;
		n--;
	}
	escape_url_path(b, p, n);
	/* A directory's address ends so; "file:///" is the root. */
	if (r->kind == FILE_DIR && n)
		buf_putc(b, '/');
	if (query.len) {
		buf_putc(b, '?');
		buf_add(b, query.p, query.len);
	}
	buf_release(&query);
	return path_n;
}

static void
write_attrs(struct jsonw *j, const struct record *r)
{
	jsonw_object(j, "source");
	for (size_t i = 0; i < r->n_attrs; i++) {
		const struct record_attr *a = &r->attrs[i];
		const char *name = attr_rows[a->id].name;

		if (a->is_int)
			jsonw_int(j, name, a->i);
		else
			jsonw_strn(j, name, a->s, a->n);
	}
	jsonw_end_object(j);
}

/* Text that needs no escape: ids, times, URLs. */
static void
write_plain(struct jsonw *j, const char *key, const char *s, size_t n)
{
	jsonw_raw(j, key, "\"", 1);
	buf_add(j->b, s, n);
	buf_putc(j->b, '"');
}

static void
write_opt(struct jsonw *j, const char *key, const char *s, size_t n)
{
	if (s)
		jsonw_strn(j, key, s, n);
	else
		jsonw_null(j, key);
}

/*
 * What makes it another version of the same file. A date of a listing changes its form as the file ages ("Jan 2 15:04"
 * becomes "Jan 2 2024"): only its day holds.
 */
static void
event_id(struct event_ctx *x, const struct record *r, char out[UUID_TEXT])
{
	char text[24];
	bool coarse = r->precision == MTIME_MIN || r->precision == MTIME_DAY;
	uint64_t when = (uint64_t)r->mtime_ns;
	char *p = text;

	x->id[2] = (struct uuid_part){ r->path, r->path_n };
	if (r->version) {
		x->id[3] = (struct uuid_part){ r->version, r->version_n };
		uuid5(uuid_ns_poller, x->id, 4, out);
		return;
	}
	if (coarse)
		when = (uint64_t)(r->mtime_ns / NS_PER_DAY - (r->mtime_ns % NS_PER_DAY < 0));
	/* A NUL in front: no version id begins with one. An unknown size is -1. */
	*p++ = '\0';
	*p++ = r->precision == MTIME_NONE ? '-' : coarse ? 'd' : r->precision == MTIME_S ? 's' : 'n';
	p = put_be64(p, r->precision == MTIME_NONE ? 0 : when);
	p = put_be64(p, (uint64_t)r->size);
	x->id[3] = (struct uuid_part){ text, (size_t)(p - text) };
	uuid5(uuid_ns_poller, x->id, 4, out);
}

/* ---- the event ------------------------------------------------------------------------------------------------------- */

static void
write_file(struct jsonw *j, const struct record *r, size_t path_n, const struct buf *url)
{
	size_t name_n;
	const char *name = name_of(r, &name_n);
	char when[UNITS_TEXT];

	jsonw_strn(j, "file_path", r->path, r->path_n);
	if (!r->utf8) {
		struct buf b64 = BUF_INIT;

		base64_encode(&b64, r->path, r->path_n);
		write_plain(j, "file_path_b64", b64.p, b64.len);
		buf_release(&b64);
	}
	jsonw_strn(j, "file_name", name, name_n);
	jsonw_strn(j, "relative_path", r->path + r->rel_off, r->path_n - r->rel_off);
	if (r->size < 0)
		jsonw_null(j, "file_size");
	else
		jsonw_int(j, "file_size", r->size);
	if (r->kind == FILE_DIR)
		jsonw_null(j, "file_type");
	else
		write_file_type(j, name, name_n - (r->path_n - path_n));
	jsonw_str(j, "entry_type", file_kind_names[r->kind]);
	write_plain(j, "file_url", url->p, url->len);
	write_opt(j, "checksum", r->checksum, r->checksum_n);
	jsonw_str(j, "checksum_algorithm", r->checksum_algorithm[0] ? r->checksum_algorithm : NULL);
	jsonw_str(j, "checksum_origin", r->checksum_origin[0] ? r->checksum_origin : NULL);
	if (r->precision == MTIME_NONE) {
		jsonw_null(j, "modified_at");
	} else {
		size_t n = units_time_text(r->mtime_ns, r->precision == MTIME_NS ? 9 : 0, when);

		write_plain(j, "modified_at", when, n);
	}
	jsonw_str(j, "modified_precision", precisions[r->precision]);
	jsonw_bool(j, "is_symlink", r->is_symlink);
	write_opt(j, "link_target", r->link_target, r->link_target_n);
	write_attrs(j, r);
}

static void
write_headers(const struct event_ctx *x, const char *id, const char *now, struct out_record *out)
{
	out_header_text(out, "event_id", id, UUID_TEXT - 1);
	out_header(out, "job_id", x->job_id, strlen(x->job_id));
	out_header(out, "org_id", x->org_id, x->id[0].n);
	out_ce(out, id, x->ce_source.p, x->ce_source.len, EVENT_TYPE, now);
	if (x->traceparent[0])
		out_header(out, "traceparent", x->traceparent, strlen(x->traceparent));
}

void
event_write(struct event_ctx *x, const struct record *r, struct out_record *out)
{
	char id[UUID_TEXT], now[UNITS_TEXT];
	size_t now_n = units_time_text(clock_real_ns(), 3, now), path_n;
	struct jsonw j;

	out_begin(out, HEADER_TEXT);
	/* The URL is written into the key's buffer first: it is the key by default. */
	path_n = file_url(x, r, &out->key);
	event_id(x, r, id);
	jsonw_init(&j, &out->value);
	jsonw_object(&j, NULL);
	write_plain(&j, "event_id", id, UUID_TEXT - 1);
	buf_add(&out->value, x->head.p, x->head.len);
	write_file(&j, r, path_n, &out->key);
	write_plain(&j, "processed_at", now, now_n);
	buf_add(&out->value, x->tail.p, x->tail.len);
	write_headers(x, id, now, out);

	out->has_key = x->key != KEY_NONE;
	if (x->key == KEY_FILE_URL)
		return;
	buf_clear(&out->key);
	if (x->key == KEY_JOB_ID)
		buf_puts(&out->key, x->job_id);
	else if (x->key == KEY_ORG_ID)
		buf_puts(&out->key, x->org_id);
}
