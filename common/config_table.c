/*
 * config_table.c - the named tables of the settings: their columns, their entries, what one does not say.
 *
 * config_yaml.c makes the entries as it reads; config_tables_finish, once all is read, hands `default` down, sorts the
 * names and checks what must hold within an entry. Everything here derives from tables.def and the .def of each table.
 */
#include <stdlib.h>
#include <string.h>

#include "common/config_priv.h"
#include "common/job.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define RELOAD CONFIG_RELOAD
#define RESTART CONFIG_RESTART
#define INHERIT CONFIG_INHERIT
#define TENANT_NAME_MAX 128
#define POOL_NAME_MAX 32

/* ---- the tables ---- */

#define TABLE_STRUCT struct tenant_conf
static const struct config_column columns_TENANTS[] = {
#include "common/config_columns.def"
#include "common/tenant.def"
};
#undef TABLE_STRUCT

#define TABLE_STRUCT struct pool_conf
static const struct config_column columns_POOLS[] = {
#include "common/config_columns.def"
#include "common/pool.def"
};
#undef TABLE_STRUCT

static const char *
tenant_name_fault(const char *s)
{
	return strlen(s) > TENANT_NAME_MAX ? "is longer than 128 bytes" : job_name_fault(s);
}

/* Where the value stands, or else the entry. */
static const struct config_origin *
place(const struct config_entry *e, enum config_table_id t, const char *key)
{
	int i = config_column_find(&config_tables[t], key);

	return i >= 0 && e->set[i].file ? &e->set[i] : &e->origin;
}

/* It stands in tables, logs and messages. */
static const char *
pool_name_fault(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	if (!*s || s[n])
		return "has something else than letters, digits, \".\", \"_\" and \"-\"";
	return n > POOL_NAME_MAX ? "is longer than 32 bytes" : NULL;
}

static void
roots_check(struct config_reader *r, const struct config_origin *o, const char *table, const struct config_entry *e,
    const struct strlist *roots)
{
	const char *rest;

	for (size_t i = 0; i < roots->n; i++)
		if (!path_under(&r->set->c.local_roots, roots->v[i], &rest))
			config_error(r, o->file, o->line, o->column, "%s.%s.roots: %s is not below a directory "
			    "of local.allowed_roots", table, e->name, roots->v[i]);
}

static void
pool_check(struct config_reader *r, const struct config_entry *e)
{
	roots_check(r, place(e, CONFIG_TABLE_POOLS, "roots"), "pools", e, &((const struct pool_conf *)e)->roots);
}

static void
tenant_check(struct config_reader *r, const struct config_entry *e)
{
	const struct tenant_conf *c = (const struct tenant_conf *)e;
	const struct config_origin *o = place(e, CONFIG_TABLE_TENANTS, "isolation");

	if (c->isolation == ISOLATION_SHARED && !*c->group)
		config_error(r, o->file, o->line, o->column, "tenants.%s.isolation: shared needs a group; name it "
		    "in tenants.%s.group", e->name, e->name);
	o = place(e, CONFIG_TABLE_TENANTS, "group");
	if (c->isolation != ISOLATION_SHARED && *c->group)
		config_error(r, o->file, o->line, o->column, "tenants.%s.group has no effect without "
		    "isolation: shared", e->name);
	o = place(e, CONFIG_TABLE_TENANTS, "timeout_max");
	if (c->timeout_max && c->timeout_max < 100)
		config_error(r, o->file, o->line, o->column, "tenants.%s.timeout_max is below 100ms", e->name);
	roots_check(r, place(e, CONFIG_TABLE_TENANTS, "roots"), "tenants", e, &c->roots);
}

const struct config_table_row config_tables[CONFIG_TABLE__MAX] = {
#define TABLE(id, name, type, one, flags, name_fault, check, help)                                 \
	[CONFIG_TABLE_##id] = { (name), (one), sizeof(struct type), columns_##id,                  \
		ARRAY_LEN(columns_##id), (flags), name_fault, check, (help) },
#include "common/tables.def"
#undef TABLE
};

int
config_table_find(const char *name)
{
	for (int t = 0; t < CONFIG_TABLE__MAX; t++)
		if (!strcmp(config_tables[t].name, name))
			return t;
	return -1;
}

int
config_column_find(const struct config_table_row *row, const char *key)
{
	for (size_t i = 0; i < row->n_columns; i++)
		if (!strcmp(row->columns[i].key, key))
			return (int)i;
	return -1;
}

/* ---- entries ---- */

void *
config_entry_field(const struct config_entry *e, const struct config_column *c)
{
	/* The caller knows whether it may change what it gets. */
	return (char *)(uintptr_t)e + c->s.offset;
}

static struct config_entry *
entry_new(const struct config_table_row *row, const char *name)
{
	struct config_entry *e = xcalloc(1, row->size);
	struct buf why = BUF_INIT;

	e->name = xstrdup(name);
	e->set = xcalloc(row->n_columns, sizeof(*e->set));
	for (size_t i = 0; i < row->n_columns; i++)
		if (config_field_put(config_entry_field(e, &row->columns[i]), &row->columns[i].s,
		    row->columns[i].s.def, &why) < 0)
			BUG(buf_str(&why));
	buf_release(&why);
	return e;
}

static void
entry_free(const struct config_table_row *row, struct config_entry *e)
{
	for (size_t i = 0; i < row->n_columns; i++) {
		config_field_release(config_entry_field(e, &row->columns[i]), &row->columns[i].s);
		free(e->set[i].file);
	}
	free(e->set);
	free(e->origin.file);
	free(e->name);
	free(e);
}

static struct config_entry *
find(const struct config_table *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->v[i]->name, name))
			return t->v[i];
	return NULL;
}

struct config_entry *
config_entry_make(struct config *c, enum config_table_id id, const char *name)
{
	struct config_table *t = &c->table[id];
	struct config_entry *e = find(t, name);

	if (e)
		return e;
	if (t->n == CONFIG_TABLE_MAX)
		return NULL;
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 16;
		t->v = xreallocarray(t->v, t->cap, sizeof(*t->v));
	}
	e = entry_new(&config_tables[id], name);
	t->v[t->n++] = e;
	return e;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp((*(struct config_entry *const *)a)->name, (*(struct config_entry *const *)b)->name);
}

static void
inherit(const struct config_table_row *row, struct config_entry *e, const struct config_entry *from)
{
	for (size_t i = 0; i < row->n_columns; i++) {
		if (e->set[i].file || !from->set[i].file)
			continue;
		config_field_copy(config_entry_field(e, &row->columns[i]), config_entry_field(from, &row->columns[i]),
		    &row->columns[i].s);
		e->set[i] = from->set[i];
		e->set[i].file = xstrdup(from->set[i].file);
	}
}

void
config_tables_finish(struct config_reader *r)
{
	for (int id = 0; id < CONFIG_TABLE__MAX; id++) {
		const struct config_table_row *row = &config_tables[id];
		struct config_table *t = &r->set->c.table[id];
		const struct config_entry *def = row->flags & CONFIG_INHERIT ? find(t, "default") : NULL;

		if (!t->n)
			continue;
		t->by_name = xreallocarray(NULL, t->n, sizeof(*t->by_name));
		memcpy(t->by_name, t->v, t->n * sizeof(*t->by_name));
		qsort(t->by_name, t->n, sizeof(*t->by_name), by_name);
		for (size_t i = 0; i < t->n; i++) {
			if (def && t->v[i] != def)
				inherit(row, t->v[i], def);
			if (row->check)
				row->check(r, t->v[i]);
		}
	}
}

void
config_tables_release(struct config *c)
{
	for (int id = 0; id < CONFIG_TABLE__MAX; id++) {
		for (size_t i = 0; i < c->table[id].n; i++)
			entry_free(&config_tables[id], c->table[id].v[i]);
		free(c->table[id].v);
		free(c->table[id].by_name);
	}
}

bool
config_table_same(const struct config *a, const struct config *b, enum config_table_id id)
{
	const struct config_table_row *row = &config_tables[id];

	if (a->table[id].n != b->table[id].n)
		return false;
	for (size_t i = 0; i < a->table[id].n; i++) {
		const struct config_entry *x = a->table[id].v[i], *y = b->table[id].v[i];

		if (strcmp(x->name, y->name))
			return false;
		for (size_t k = 0; k < row->n_columns; k++)
			if (!config_field_same(config_entry_field(x, &row->columns[k]),
			    config_entry_field(y, &row->columns[k]), &row->columns[k].s))
				return false;
	}
	return true;
}

void
config_table_swap(struct config *a, struct config *b, enum config_table_id id)
{
	struct config_table t = a->table[id];

	a->table[id] = b->table[id];
	b->table[id] = t;
}

/* ---- asking ---- */

size_t
config_entries(const struct config *c, enum config_table_id id)
{
	return c->table[id].n;
}

const struct config_entry *
config_entry_at(const struct config *c, enum config_table_id id, size_t i)
{
	return c->table[id].v[i];
}

const struct config_entry *
config_entry_get(const struct config *c, enum config_table_id id, const char *name)
{
	const struct config_table *t = &c->table[id];
	size_t lo = 0, hi = t->by_name ? t->n : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int d = strcmp(name, t->by_name[mid]->name);

		if (!d)
			return t->by_name[mid];
		if (d < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

const struct tenant_conf *
tenants_get(const struct config *c, const char *org_id)
{
	static struct config_entry *none;
	const struct config_entry *e = config_entry_get(c, CONFIG_TABLE_TENANTS, org_id);

	if (!e)
		e = config_entry_get(c, CONFIG_TABLE_TENANTS, "default");
	if (e)
		return (const struct tenant_conf *)e;
	if (!none)
		none = entry_new(&config_tables[CONFIG_TABLE_TENANTS], "default");
	return (const struct tenant_conf *)none;
}

const char *
tenant_entry_name(const struct tenant_conf *t)
{
	return t->e.name;
}
