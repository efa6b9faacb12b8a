/*
 * sources.c - the verb sources: what sources.def says, for people and programs.
 */
#include <string.h>

#include "common/field.h"
#include "common/jsonw.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

static const char *const kinds[] = {
	[KIND_STR] = "text", [KIND_INT] = "number", [KIND_BOOL] = "bool", [KIND_DUR] = "duration", [KIND_SIZE] = "size",
	[KIND_TIME] = "time", [KIND_ENUM] = "word", [KIND_STRS] = "texts", [KIND_DBL] = "number", [KIND_OBJECT] = "object",
	[KIND_OBJECTS] = "objects", [KIND_ANY] = "any", [KIND_TEXT] = "text",
};
static const char *const roles[ROLE__MAX] = {
	[ROLE_LOCAL] = "local", [ROLE_NETWORK] = "network", [ROLE_CREDENTIALS] = "credentials",
};

static const char *
note(unsigned flags)
{
	return flags & FIELD_LATER ? "refused by this version" : flags & FIELD_FAULT ? "needs dummy.allow_faults" :
	    flags & FIELD_SECRET ? "secret" : "";
}

static void
types_json(struct buf *b)
{
	for (int i = 0; i < SOURCE__MAX; i++) {
		const struct source_row *r = &source_rows[i];
		struct jsonw j;

		jsonw_init(&j, b);
		jsonw_object(&j, NULL);
		jsonw_str(&j, "type", r->name);
		jsonw_str(&j, "aliases", r->aliases);
		jsonw_str(&j, "role", roles[r->role]);
		jsonw_bool(&j, "served", !r->later);
		jsonw_str(&j, "help", r->help);
		jsonw_end_object(&j);
		buf_putc(b, '\n');
	}
}

static int
types(struct ctl *c)
{
	struct buf b = BUF_INIT;
	struct table t;

	if (c->json) {
		types_json(&b);
		return out_buf(c, &b) < 0 ? EX_IOERR : 0;
	}
	table_init(&t, "TYPE|ALSO|SERVED|WHAT");
	for (int i = 0; i < SOURCE__MAX; i++) {
		table_cell(&t, source_rows[i].name);
		table_cell(&t, source_rows[i].aliases);
		table_cell(&t, source_rows[i].later ? "later" : "yes");
		table_cell(&t, source_rows[i].help);
	}
	table_print(&t, c);
	table_release(&t);
	return 0;
}

static void
field_json(struct buf *b, const struct field_row *r)
{
	struct jsonw j;

	jsonw_init(&j, b);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "field", r->name);
	jsonw_str(&j, "aliases", r->aliases);
	jsonw_str(&j, "kind", kinds[r->kind]);
	jsonw_str(&j, "default", *r->def ? r->def : NULL);
	jsonw_str(&j, "range", *r->range ? r->range : NULL);
	jsonw_bool(&j, "common", r->source < 0);
	jsonw_bool(&j, "served", !(r->flags & FIELD_LATER));
	jsonw_str(&j, "note", *note(r->flags) ? note(r->flags) : NULL);
	jsonw_str(&j, "help", r->help);
	jsonw_end_object(&j);
	buf_putc(b, '\n');
}

static void
field_row(struct table *t, const struct field_row *r)
{
	table_cell(t, r->name);
	table_cell(t, r->aliases);
	table_cell(t, kinds[r->kind]);
	table_cell(t, r->def);
	table_cell(t, r->kind == KIND_STR || r->kind == KIND_TEXT ? "" : r->range);
	table_cell(t, note(r->flags));
	table_cell(t, r->help);
}

/* The type's own fields first, then those that all network sources have, then those that all have. */
int
ctl_sources(struct ctl *c)
{
	struct buf b = BUF_INIT;
	struct table t;
	int type;

	if (!c->n_args)
		return types(c);
	type = source_by_name(c->arg[0]);
	if (type < 0)
		return ctl_fail(c, EX_NOINPUT, "no such source type: %s", c->arg[0]);
	table_init(&t, "FIELD|ALSO|KIND|DEFAULT|RANGE|NOTE|WHAT");
	for (size_t round = 0; round < 3; round++)
		for (int i = 0; i < SF__MAX; i++) {
			const int of[] = { type, SOURCE_NETWORK, SOURCE_COMMON };

			if (field_rows[i].source != of[round] || !field_applies(&field_rows[i], type))
				continue;
			if (c->json)
				field_json(&b, &field_rows[i]);
			else
				field_row(&t, &field_rows[i]);
		}
	if (!c->json)
		table_print(&t, c);
	table_release(&t);
	return out_buf(c, &b) < 0 ? EX_IOERR : 0;
}
