/*
 * config_table.h - the named tables of the settings (tables.def): a struct for each, made from its .def.
 *
 * An entry begins with struct config_entry, so that a pointer to one is a pointer to the other; entries stand in the order
 * of the files. A reload swaps whole tables: whoever keeps a pointer to an entry asks again after one.
 */
#ifndef COMMON_CONFIG_TABLE_H
#define COMMON_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/filter.h"

struct config;

struct config_origin { char *file; int line, column; }; /* "default", path, "environment NAME", "command line" */

struct config_entry {
	char *name;
	struct config_origin origin;     /* of the name */
	struct config_origin *set;       /* one for each column, where its value stands; file NULL: nowhere */
};

struct config_table { struct config_entry **v; size_t n, cap; struct config_entry **by_name; /* sorted; after loading */ };

enum config_table_id {
#define TABLE(id, name, type, one, flags, name_fault, check, help) CONFIG_TABLE_##id,
#include "common/tables.def"
#undef TABLE
	CONFIG_TABLE__MAX
};

struct tenant_conf {
	struct config_entry e;
#include "common/config_fields.def"
#include "common/tenant.def"
};
struct pool_conf {
	struct config_entry e;
#include "common/config_fields.def"
#include "common/pool.def"
};
enum isolation { ISOLATION_TENANT, ISOLATION_JOB, ISOLATION_SHARED, ISOLATION__MAX }; /* the words of `isolation` */

/* The entry of exactly this name; NULL. */
const struct config_entry *config_entry_get(const struct config *, enum config_table_id, const char *name);
size_t config_entries(const struct config *, enum config_table_id);
const struct config_entry *config_entry_at(const struct config *, enum config_table_id, size_t i);
bool config_table_same(const struct config *, const struct config *, enum config_table_id);
/* What holds for this tenant: its entry, else `default`, else the list's own defaults. Never NULL; until the next reload. */
const struct tenant_conf *tenants_get(const struct config *, const char *org_id);
/* The name of the entry that holds: what an error names. */
const char *tenant_entry_name(const struct tenant_conf *);

#endif
