/*
 * config_print.c - the settings shown: -T as YAML, JSON, the commented file, the manual's lists.
 *
 * Everything here derives from config_rows and a config_set; values whose property name tells of a
 * secret are "***". The YAML is itself a file that config_load reads to the same values.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_priv.h"
#include "common/escape.h"
#include "common/mdoc.h"
#include "common/jsonw.h"
#include "common/xalloc.h"
#include "common/banned.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

#define MASK "***"

static bool
is_text(enum config_id id)
{
	return config_settings[id].type == CONFIG_T_STR;
}

static const char *
shown(const char *name, const char *value)
{
	return config_property_secret(name) && *value ? MASK : value;
}

/* JSON's escapes are YAML's in double quotes, so one writer serves both. */
void
config_put_quoted(struct buf *b, const char *s)
{
	escape_json(b, s, strlen(s));
}

void
config_put_list(struct buf *b, const struct strlist *l)
{
	buf_putc(b, '[');
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			buf_puts(b, ", ");
		config_put_quoted(b, l->v[i]);
	}
	buf_putc(b, ']');
}

static void
put_scalar(const struct config *c, enum config_id id, struct buf *b)
{
	struct buf text = BUF_INIT;

	config_value_text(c, id, &text);
	if (is_text(id))
		config_put_quoted(b, buf_str(&text));
	else
		buf_puts(b, buf_str(&text));
	buf_wipe(&text);
}

void
config_put_origin(const struct config_origin *o, struct buf *b)
{
	escape_term(b, o->file, strlen(o->file));
	if (o->line > 0)
		buf_printf(b, ":%d", o->line);
}

/* A name that YAML reads as the same text without quotes. */
static void
put_name(struct buf *b, const char *s)
{
	size_t i = 0;

	while (isascii((unsigned char)s[i]) && (isalnum((unsigned char)s[i]) ||
	    (i && (s[i] == '.' || s[i] == '_'))))
		i++;
	if (i && !s[i] && isalpha((unsigned char)*s) && strchr(s, '.'))
		buf_puts(b, s);
	else
		config_put_quoted(b, s);
}

static void
print_map(const struct config_set *set, enum config_id id, struct buf *b)
{
	const struct strmap *m = config_map(&set->c, id);

	buf_printf(b, "  %s:%s  # ", config_key_name(id), m->k.n ? "" : " {}");
	config_put_origin(&set->origin[id], b);
	buf_putc(b, '\n');
	for (size_t i = 0; i < m->k.n; i++) {
		buf_puts(b, "    ");
		put_name(b, m->k.v[i]);
		buf_puts(b, ": ");
		config_put_quoted(b, shown(m->k.v[i], m->v.v[i]));
		buf_putc(b, '\n');
	}
}

static void
print_setting(const struct config_set *set, enum config_id id, struct buf *b)
{
	if (config_settings[id].type == CONFIG_T_MAP) {
		print_map(set, id, b);
		return;
	}
	buf_printf(b, "  %s: ", config_key_name(id));
	if (config_settings[id].type == CONFIG_T_LIST)
		config_put_list(b, config_list(&set->c, id));
	else
		put_scalar(&set->c, id, b);
	buf_puts(b, "  # ");
	config_put_origin(&set->origin[id], b);
	buf_putc(b, '\n');
}

void
config_print(const struct config_set *set, bool changed_only, struct buf *b)
{
	const char *section = "";
	struct config defaults;

	config_defaults(&defaults);
	buf_printf(b, "# iis-poller %s: %s\n", VERSION,
	    changed_only ? "settings that are not at their defaults" : "settings in force");
	for (int id = 0; id < CONFIG__MAX; id++) {
		if (changed_only && config_value_same(&set->c, &defaults, id))
			continue;
		if (strcmp(section, config_rows[id].section)) {
			section = config_rows[id].section;
			buf_printf(b, "%s:\n", section);
		}
		print_setting(set, id, b);
	}
	config_tables_print(set, changed_only, b);
	config_release(&defaults);
}

/* --- JSON --- */

static void
json_list(struct jsonw *w, const char *key, const struct strlist *l)
{
	jsonw_array(w, key);
	for (size_t i = 0; i < l->n; i++)
		jsonw_str(w, NULL, l->v[i]);
	jsonw_end_array(w);
}

/* The names are foreign, and jsonw takes keys as they are: the object is written here. */
static void
json_map(struct jsonw *w, const char *key, const struct strmap *m)
{
	struct buf b = BUF_INIT;

	buf_putc(&b, '{');
	for (size_t i = 0; i < m->k.n; i++) {
		if (i)
			buf_putc(&b, ',');
		escape_json(&b, m->k.v[i], strlen(m->k.v[i]));
		buf_putc(&b, ':');
		config_put_quoted(&b, shown(m->k.v[i], m->v.v[i]));
	}
	buf_putc(&b, '}');
	jsonw_raw(w, key, buf_str(&b), b.len);
	buf_wipe(&b);
}

static void
json_value(struct jsonw *w, const char *key, const struct config *c, enum config_id id)
{
	struct buf b = BUF_INIT;

	switch (config_settings[id].type) {
	case CONFIG_T_LIST:
		json_list(w, key, config_list(c, id));
		break;
	case CONFIG_T_MAP:
		json_map(w, key, config_map(c, id));
		break;
	case CONFIG_T_BOOL:
	case CONFIG_T_INT:
	case CONFIG_T_DBL:
		config_value_text(c, id, &b);
		jsonw_raw(w, key, buf_str(&b), b.len);
		break;
	default:
		config_value_text(c, id, &b);
		jsonw_str(w, key, buf_str(&b));
	}
	buf_wipe(&b);
}

void
config_json(const struct config_set *set, bool changed_only, struct buf *b)
{
	struct config defaults;
	struct buf origin = BUF_INIT;
	struct jsonw w;

	config_defaults(&defaults);
	jsonw_init(&w, b);
	jsonw_object(&w, NULL);
	for (int id = 0; id < CONFIG__MAX; id++) {
		if (changed_only && config_value_same(&set->c, &defaults, id))
			continue;
		buf_clear(&origin);
		config_put_origin(&set->origin[id], &origin);
		jsonw_object(&w, config_rows[id].key);
		json_value(&w, "value", &set->c, id);
		json_value(&w, "default", &defaults, id);
		jsonw_str(&w, "origin", buf_str(&origin));
		jsonw_bool(&w, "reload", config_rows[id].flags & CONFIG_RELOAD);
		jsonw_str(&w, "help", config_rows[id].help);
		jsonw_end_object(&w);
	}
	config_tables_json(set, changed_only, &w);
	jsonw_end_object(&w);
	buf_release(&origin);
	config_release(&defaults);
}

/* --- the commented file --- */

/* Whole words, so that no line of the file is longer than 98 columns. */
void
config_put_comment(struct buf *b, const char *indent, const char *text)
{
	size_t width = 96 - strlen(indent);

	while (*text) {
		size_t n = strlen(text);

		if (n > width)
			for (n = width; n > 0 && text[n] != ' '; n--)
				;
		if (!n)
			n = strlen(text);
		buf_printf(b, "%s# %.*s\n", indent, (int)n, text);
		text += n;
		text += strspn(text, " ");
	}
}

void
config_put_words(struct buf *b, const char *words)
{
	buf_puts(b, ": ");
	for (const char *p = words; *p; p++) {
		if (*p == '|')
			buf_puts(b, ", ");
		else
			buf_putc(b, *p);
	}
}

static void
facts(enum config_id id, struct buf *b)
{
	const struct config_row *row = &config_rows[id];
	char env[128];

	buf_puts(b, row->type);
	if (row->words)
		config_put_words(b, row->words);
	if (*row->range)
		buf_printf(b, ", %s", row->range);
	config_env_name(row->key, env, sizeof(env));
	buf_printf(b, "; %s; %s", row->flags & CONFIG_RELOAD ? "reload" : "restart", env);
	if (config_old_env[id])
		buf_printf(b, " or %s", config_old_env[id]);
}

static void
template_setting(enum config_id id, const struct config *defaults, struct buf *b)
{
	struct buf text = BUF_INIT;

	facts(id, &text);
	config_put_comment(b, "  ", config_rows[id].help);
	config_put_comment(b, "  ", buf_str(&text));
	buf_printf(b, "  #%s: ", config_key_name(id));
	if (config_settings[id].type == CONFIG_T_MAP)
		buf_puts(b, "{}");
	else if (config_settings[id].type == CONFIG_T_LIST)
		config_put_list(b, config_list(defaults, id));
	else if (is_text(id))
		put_scalar(defaults, id, b);
	else
		buf_puts(b, config_rows[id].def);
	buf_putc(b, '\n');
	buf_release(&text);
}

void
config_template(struct buf *b)
{
	const char *section = "";
	struct config defaults;

	config_defaults(&defaults);
	buf_puts(b,
	    "# iis-poller.yaml - settings of iis-pollerd(8); iis-poller.yaml(5) explains them.\n"
	    "#\n"
	    "# Every setting stands here with its default: remove a \"#\" and change the value.\n"
	    "# Below each help text: its type, range, whether a reload (SIGHUP) is enough or a\n"
	    "# restart is needed, and the environment variable that overrides this file.\n"
	    "# Test the file with: iis-pollerd -t\n");
	for (int id = 0; id < CONFIG__MAX; id++) {
		if (strcmp(section, config_rows[id].section)) {
			section = config_rows[id].section;
			buf_putc(b, '\n');
			config_put_comment(b, "", config_rows[id].section_help);
			buf_printf(b, "%s:\n", section);
		}
		template_setting(id, &defaults, b);
	}
	config_tables_template(b);
	config_release(&defaults);
}

/* --- the manual --- */

static void
mdoc_default(enum config_id id, struct buf *b)
{
	const struct config_row *row = &config_rows[id];

	if (*row->def)
		buf_printf(b, "Default:\n.Ql %s ;\n", row->def);
	else
		buf_puts(b, "Default: empty;\n");
	if (*row->range)
		buf_printf(b, "%s%s;\n", is_text(id) ? "" : "range: ", row->range);
	buf_puts(b, row->flags & CONFIG_RELOAD ? "a reload takes it.\n" : "needs a restart.\n");
}

void
config_mdoc(struct buf *b)
{
	const char *section = "";

	for (int id = 0; id < CONFIG__MAX; id++) {
		const struct config_row *row = &config_rows[id];

		if (strcmp(section, row->section)) {
			if (*section)
				buf_puts(b, ".El\n");
			section = row->section;
			buf_printf(b, ".Ss %s\n", section);
			mdoc_text(b, row->section_help);
			buf_puts(b, ".Bl -tag -width Ds\n");
		}
		buf_printf(b, ".It Ic %s : Ar %s\n", row->key, row->type);
		mdoc_text(b, row->help);
		if (row->words)
			mdoc_words(b, row->words);
		mdoc_default(id, b);
	}
	buf_puts(b, ".El\n");
	config_tables_mdoc(b);
}

void
config_mdoc_environment(struct buf *b)
{
	buf_puts(b, ".Bl -tag -width Ds\n");
	for (int id = 0; id < CONFIG__MAX; id++) {
		if (!config_old_env[id])
			continue;
		buf_printf(b, ".It Ev %s\n.Ic %s\n", config_old_env[id], config_rows[id].key);
	}
	buf_puts(b, ".El\n");
}
