/*
 * config_table_print.c - the named tables shown: -T as YAML, JSON, the commented file, the manual's lists.
 *
 * Called by config_print.c at the end of each. An entry is shown whole, what it inherits too, with the place each value
 * is from; with changed_only the members that stand in a file alone.
 */
#include <string.h>

#include "common/config_priv.h"
#include "common/escape.h"
#include "common/jsonw.h"
#include "common/mdoc.h"
#include "common/banned.h"

static void
put_value(const struct config_entry *e, const struct config_column *c, struct buf *b)
{
	struct buf text = BUF_INIT;

	if (c->s.type == CONFIG_T_LIST) {
		config_put_list(b, config_entry_field(e, c));
		return;
	}
	config_field_text(config_entry_field(e, c), &c->s, &text);
	if (c->s.type == CONFIG_T_STR)
		config_put_quoted(b, buf_str(&text));
	else
		buf_puts(b, buf_str(&text));
	buf_release(&text);
}

static void
put_place(const struct config_origin *o, struct buf *b)
{
	if (o->file)
		config_put_origin(o, b);
	else
		buf_puts(b, "default");
}

void
config_tables_print(const struct config_set *set, bool changed_only, struct buf *b)
{
	for (int id = 0; id < CONFIG_TABLE__MAX; id++) {
		const struct config_table_row *row = &config_tables[id];

		if (changed_only && !config_entries(&set->c, id))
			continue;
		buf_printf(b, "%s:\n", row->name);
		for (size_t i = 0; i < config_entries(&set->c, id); i++) {
			const struct config_entry *e = config_entry_at(&set->c, id, i);

			buf_puts(b, "  ");
			config_put_quoted(b, e->name);
			buf_puts(b, ":  # ");
			config_put_origin(&e->origin, b);
			buf_putc(b, '\n');
			for (size_t k = 0; k < row->n_columns; k++) {
				if (changed_only && !e->set[k].file)
					continue;
				buf_printf(b, "    %s: ", row->columns[k].key);
				put_value(e, &row->columns[k], b);
				buf_puts(b, "  # ");
				put_place(&e->set[k], b);
				buf_putc(b, '\n');
			}
		}
	}
}

static void
json_field(struct jsonw *w, const char *key, const void *f, const struct config_setting *s)
{
	const struct strlist *l = f;
	struct buf b = BUF_INIT;

	if (s->type == CONFIG_T_LIST) {
		jsonw_array(w, key);
		for (size_t i = 0; i < l->n; i++)
			jsonw_str(w, NULL, l->v[i]);
		jsonw_end_array(w);
		return;
	}
	config_field_text(f, s, &b);
	if (s->type == CONFIG_T_INT || s->type == CONFIG_T_BOOL || s->type == CONFIG_T_DBL)
		jsonw_raw(w, key, buf_str(&b), b.len);
	else
		jsonw_str(w, key, buf_str(&b));
	buf_release(&b);
}

/* The list's own default, which an entry has where nothing is said. */
static void
json_default(struct jsonw *w, const struct config_column *c)
{
	if (c->s.type == CONFIG_T_LIST) {
		jsonw_array(w, "default");
		jsonw_end_array(w);
	} else if (c->s.type == CONFIG_T_INT || c->s.type == CONFIG_T_BOOL || c->s.type == CONFIG_T_DBL) {
		jsonw_raw(w, "default", c->s.def, strlen(c->s.def));
	} else {
		jsonw_str(w, "default", c->s.def);
	}
}

static void
json_member(const struct config_table_row *row, const struct config_entry *e, size_t k, struct jsonw *w)
{
	const struct config_column *c = &row->columns[k];
	struct buf key = BUF_INIT, text = BUF_INIT;

	/* jsonw takes keys as they are, and the name is foreign. */
	buf_printf(&text, "%s.%s.%s", row->name, e->name, c->key);
	escape_json(&key, buf_str(&text), text.len);
	buf_clear(&text);
	buf_add(&text, key.p + 1, key.len - 2);
	jsonw_object(w, buf_str(&text));
	json_field(w, "value", config_entry_field(e, c), &c->s);
	json_default(w, c);
	buf_clear(&text);
	put_place(&e->set[k], &text);
	jsonw_str(w, "origin", buf_str(&text));
	jsonw_bool(w, "reload", row->flags & CONFIG_RELOAD);
	jsonw_str(w, "help", c->help);
	jsonw_end_object(w);
	buf_release(&key);
	buf_release(&text);
}

void
config_tables_json(const struct config_set *set, bool changed_only, struct jsonw *w)
{
	for (int id = 0; id < CONFIG_TABLE__MAX; id++)
		for (size_t i = 0; i < config_entries(&set->c, id); i++) {
			const struct config_entry *e = config_entry_at(&set->c, id, i);

			for (size_t k = 0; k < config_tables[id].n_columns; k++)
				if (!changed_only || e->set[k].file)
					json_member(&config_tables[id], e, k, w);
		}
}

/* ---- the commented file ---- */

static void
template_column(const struct config_column *c, struct buf *b)
{
	char range[CONFIG_RANGE_TEXT];
	struct buf text = BUF_INIT;

	buf_puts(&text, c->type);
	if (c->s.words)
		config_put_words(&text, c->s.words);
	config_range_text(&c->s, range, sizeof(range));
	if (*range)
		buf_printf(&text, ", %s", range);
	config_put_comment(b, "    ", c->help);
	config_put_comment(b, "    ", buf_str(&text));
	buf_printf(b, "    #%s: ", c->key);
	if (c->s.type == CONFIG_T_LIST)
		buf_puts(b, "[]");
	else if (c->s.type == CONFIG_T_STR)
		config_put_quoted(b, c->s.def);
	else
		buf_puts(b, c->s.def);
	buf_putc(b, '\n');
	buf_release(&text);
}

void
config_tables_template(struct buf *b)
{
	for (int id = 0; id < CONFIG_TABLE__MAX; id++) {
		const struct config_table_row *row = &config_tables[id];

		buf_putc(b, '\n');
		config_put_comment(b, "", row->help);
		buf_printf(b, "# A map of names, each with a map of the settings below; %s takes it; no environment variables.\n",
		    row->flags & CONFIG_RELOAD ? "a reload" : "a restart");
		buf_printf(b, "%s:\n", row->name);
		buf_printf(b, "  #%s:\n", row->flags & CONFIG_INHERIT ? "default" : "name");
		for (size_t k = 0; k < row->n_columns; k++)
			template_column(&row->columns[k], b);
	}
}

/* ---- the manual ---- */

void
config_tables_mdoc(struct buf *b)
{
	for (int id = 0; id < CONFIG_TABLE__MAX; id++) {
		const struct config_table_row *row = &config_tables[id];

		buf_printf(b, ".Ss %s\n", row->name);
		mdoc_text(b, row->help);
		buf_printf(b, "A map of names; each has a map of these settings.\n%s takes it.\n"
		    "They stand in the files alone: no environment variable and no option sets them.\n",
		    row->flags & CONFIG_RELOAD ? "A reload" : "A restart");
		buf_puts(b, ".Bl -tag -width Ds\n");
		for (size_t k = 0; k < row->n_columns; k++) {
			const struct config_column *c = &row->columns[k];
			char range[CONFIG_RANGE_TEXT];

			buf_printf(b, ".It Ic %s . Ns Ar name Ns Ic .%s : Ar %s\n", row->name, c->key, c->type);
			mdoc_text(b, c->help);
			if (c->s.words)
				mdoc_words(b, c->s.words);
			if (*c->s.def)
				buf_printf(b, "Default:\n.Ql %s%s\n", c->s.def, c->s.type == CONFIG_T_STR ? " ;" : " .");
			config_range_text(&c->s, range, sizeof(range));
			if (*range && c->s.type != CONFIG_T_STR)
				buf_printf(b, "Range: %s.\n", range);
		}
		buf_puts(b, ".El\n");
	}
}
