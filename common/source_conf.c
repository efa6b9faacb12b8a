/*
 * source_conf.c - the tables made from sources.def and job.def, and a source's fields in a JOB
 * frame.
 *
 * The master encodes, the worker decodes; the decoder checks kind, range and owner of each field as
 * if the other side were hostile. Fields that only the master reads, the source's name and its
 * canonical address do not travel.
 */
#include <stdlib.h>
#include <string.h>

#include "common/field.h"
#include "common/job.h"
#include "common/source_ftp.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define STATE_READY false
#define STATE_LATER true
#define ATTR_INT true
#define ATTR_STR false

const struct source_row source_rows[SOURCE__MAX] = {
#define SOURCE(id, name, aliases, role, state, help) \
	[SOURCE_##id] = { name, aliases, ROLE_##role, STATE_##state, help },
#define FIELD(src, id, name, aliases, kind, def, range, flags, help)
#define ATTR(src, id, name, kind, help)
#include "common/sources.def"
};

const struct field_row field_rows[SF__MAX] = {
#define SOURCE(id, name, aliases, role, state, help)
#define FIELD(src, id, name, aliases, kind, def, range, flags, help) \
	[SF_##src##_##id] = { SOURCE_##src, name, aliases, KIND_##kind, def, range, flags, help },
#define ATTR(src, id, name, kind, help)
#include "common/sources.def"
};

const struct attr_row attr_rows[SA__MAX] = {
#define SOURCE(id, name, aliases, role, state, help)
#define FIELD(src, id, name, aliases, kind, def, range, flags, help)
#define ATTR(src, id, name, kind, help) \
	[SA_##src##_##id] = { SOURCE_##src, name, ATTR_##kind, help },
#include "common/sources.def"
};

const struct field_row job_rows[JF__MAX] = {
#define JOB_FIELD(id, name, aliases, kind, def, range, flags, help) \
	[JF_##id] = { SOURCE_COMMON, name, aliases, KIND_##kind, def, range, flags, help },
#define FILTER_FIELD(id, name, aliases, kind, def, range, flags, help)
#include "common/job.def"
};

const struct field_row filter_rows[FF__MAX] = {
#define JOB_FIELD(id, name, aliases, kind, def, range, flags, help)
#define FILTER_FIELD(id, name, aliases, kind, def, range, flags, help) \
	[FF_##id] = { SOURCE_COMMON, name, aliases, KIND_##kind, def, range, flags, help },
#include "common/job.def"
};

int
source_by_name(const char *name)
{
	for (int i = 0; i < SOURCE__MAX; i++)
		if (!strcmp(source_rows[i].name, name) ||
		    field_word_in(name, source_rows[i].aliases))
			return i;
	return -1;
}

static bool
travels(const struct source_conf *s, int id)
{
	return s->v[id].set && !(field_rows[id].flags & FIELD_MASTER);
}

static void
value_encode(const struct field_row *r, const struct field_value *v, struct buf *b)
{
	if (r->kind == KIND_STR || r->kind == KIND_TEXT) {
		buf_cstr(b, v->s);
	} else if (r->kind == KIND_STRS) {
		buf_u16(b, (uint16_t)v->l.n);
		for (size_t i = 0; i < v->l.n; i++)
			buf_cstr(b, v->l.v[i]);
	} else {
		buf_i64(b, v->i);
	}
}

unsigned
source_connections(const struct source_conf *s, bool scarce)
{
	const struct field_value *v = &s->v[SF_NETWORK_MAX_CONNECTIONS];

	/* An SFTP session is one, whatever is asked for. */
	if (s->type == SOURCE_SFTP)
		return 1;
	if (v->set && v->i > 0 && v->i <= CONNECTIONS_MAX)
		return (unsigned)v->i;
	if (s->type == SOURCE_FTP)
		return scarce ? FTP_CONNECTIONS : FTP_CONNECTIONS_FAR;
	return CONNECTIONS_DEFAULT;
}

void
source_conf_encode(const struct source_conf *s, struct buf *b)
{
	uint16_t count = 0;

	for (int i = 0; i < SF__MAX; i++)
		count += travels(s, i);
	buf_u8(b, (uint8_t)s->type);
	buf_u16(b, count);
	for (int i = 0; i < SF__MAX; i++) {
		if (!travels(s, i))
			continue;
		buf_u16(b, (uint16_t)i);
		value_encode(&field_rows[i], &s->v[i], b);
	}
}

static void
strs_decode(struct strlist *l, int64_t max, struct cursor *c)
{
	size_t n = cursor_u16(c);

	if (n > FILTER_LIST_MAX)
		cursor_fail(c);
	for (size_t i = 0; i < n && !c->bad; i++) {
		char *s = cursor_strdup(c, (size_t)max);

		if (s)
			strlist_add(l, s);
		if (s)
			explicit_bzero(s, strlen(s));   /* headers may be secrets */
		free(s);
	}
}

static void
value_decode(const struct field_row *r, struct field_value *v, struct cursor *c)
{
	int64_t min, max;

	v->set = true;
	field_range(r, &min, &max);
	if (r->kind == KIND_STR || r->kind == KIND_TEXT)
		v->s = cursor_strdup(c, (size_t)max);
	else if (r->kind == KIND_STRS)
		strs_decode(&v->l, max, c);
	else
		v->i = cursor_i64(c);
	if (!c->bad && !field_value_ok(r, v))
		cursor_fail(c);
}

int
source_conf_decode(struct source_conf *s, struct cursor *c)
{
	unsigned type, count;
	int last = -1;

	memset(s, 0, sizeof(*s));
	type = cursor_u8(c);
	count = cursor_u16(c);
	if (type >= SOURCE__MAX || source_rows[type].later || count > SF__MAX)
		cursor_fail(c);
	s->type = c->bad ? 0 : (enum source_type)type;
	while (!c->bad && count--) {
		int id = cursor_u16(c);
		const struct field_row *r;

		/* Ascending numbers: none twice, and one spelling for one content. */
		if (c->bad || id <= last || id >= SF__MAX) {
			cursor_fail(c);
			break;
		}
		r = &field_rows[id];
		if (!field_applies(r, (int)s->type) || r->flags & FIELD_MASTER) {
			cursor_fail(c);
			break;
		}
		value_decode(r, &s->v[id], c);
		last = id;
	}
	if (c->bad) {
		source_conf_release(s);
		return -1;
	}
	return 0;
}

void
source_conf_release(struct source_conf *s)
{
	for (int i = 0; i < SF__MAX; i++) {
		/* Of some two hundred a handful hold anything. */
		if (!s->v[i].s && !s->v[i].l.v)
			continue;
		if (field_rows[i].flags & FIELD_SECRET)
			field_value_wipe(&s->v[i]);
		field_value_release(&s->v[i]);
	}
	free(s->source_id);
	free(s->canonical);
	free(s->endpoint);
	free(s->identity);
	free(s->url_base);
	memset(s, 0, sizeof(*s));
}
