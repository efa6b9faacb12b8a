/*
 * config_yaml.c - one YAML file into the settings, by libyaml's events alone.
 *
 * config_scan.c has looked through the text, so that libyaml sees only what it can place; here
 * sections and keys are walked. libyaml's document loader is never used: it is
 * quadratic in nesting and would expand aliases. Every mistake goes to config_error and the walk
 * goes on; only broken syntax and too deep nesting end it.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "common/config_priv.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

struct walk {
	struct config_reader *r;
	const struct config_text *t;
	const char *text;          /* t->text behind a byte order mark */
	const char *end;
	struct buf clean;          /* what libyaml reads */
	bool tabs;                 /* told of: syntax errors may only be their echo */
	bool dead;                 /* the rest of the file cannot be read */
	bool secret_told;
	int depth;
	yaml_parser_t parser;
	yaml_event_t ev;
	bool have_ev;
	yaml_mark_t merged;        /* where the last event began, a text of several lines */
	bool have_merged;
	bool seen[CONFIG__MAX];
	struct strlist seen_sections;
};

/* Where a value goes: a setting, or one member of an entry of a table. */
struct target {
	const char *key;           /* "retry.delay", "tenants.acme.weight" */
	struct config_setting s;
	void *field;
	struct config_origin *origin;
};

/* --- places --- */

/* Columns as in the file: clean has CONFIG_TAB_WIDTH spaces for each tab that indents. */
static int
column_at(const struct walk *w, yaml_mark_t m)
{
	const char *p = w->text;
	size_t column = 0, tabs = 0;

	if (!w->tabs)
		return (int)m.column + 1;
	for (size_t i = 0; i < m.line; i++) {
		p = memchr(p, '\n', (size_t)(w->end - p));
		if (!p)
			return (int)m.column + 1;
		p++;
	}
	for (; p < w->end && (*p == ' ' || *p == '\t') && column < m.column; p++) {
		column += *p == '\t' ? CONFIG_TAB_WIDTH : 1;
		tabs += *p == '\t';
	}
	return (int)(m.column - tabs * (CONFIG_TAB_WIDTH - 1)) + 1;
}

static void tell(struct walk *, yaml_mark_t, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void
tell(struct walk *w, yaml_mark_t m, const char *fmt, ...)
{
	va_list ap;
	char text[2048];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	config_error(w->r, w->t->name, (int)m.line + 1, column_at(w, m), "%s", text);
}

/* --- syntax --- */

/*
 * The end of a file is no help; where the thing began that is still open, or lacks its colon, is.
 */
static yaml_mark_t
syntax_mark(const struct walk *w)
{
	const yaml_parser_t *p = &w->parser;

	if (p->context && (!strcmp(p->context, "while scanning a simple key") ||
	    !strncmp(p->context, "while scanning an a", 19) || /* alias, anchor */
	    !strcmp(p->context, "while scanning a quoted scalar") ||
	    (strstr(p->context, "flow") && p->problem_mark.index >= w->clean.len)))
		return p->context_mark;
	return p->problem_mark;
}

static const char *
syntax_text(const char *problem)
{
	static const char *const texts[][2] = {
		{ "found character that cannot start any token",
			"a value cannot begin with this character; put it in quotes" },
		{ "mapping values are not allowed in this context",
			"a \":\" is not expected here; look at the indentation, or "
			"put the value in quotes" },
		{ "did not find expected key",
			"a key is expected here; look at the indentation and at the line before" },
		{ "could not find expected ':'", "a \":\" is missing behind this key" },
		{ "found unexpected end of stream", "a quote is opened here and never closed" },
		{ "did not find expected ',' or ']'",
			"a \",\" or the closing \"]\" of this list is missing" },
		{ "did not find expected ',' or '}'",
			"a \",\" or the closing \"}\" of this map is missing" },
		{ "block sequence entries are not allowed in this context",
			"a \"-\" is not expected here; write the list on lines of its own" },
		{ "found unknown escape character",
			"an unknown escape; in double quotes write \\\\ for a backslash" },
		{ "did not find expected <document start>",
			"only one document with sections is expected; look at the indentation" },
		{ "did not find expected node content", "a value is missing here" },
		{ "found undefined tag handle", "a tag (!name) is not allowed" },
		{ "did not find expected alphabetic or numeric character",
			"an alias (*name) or anchor (&name) is not allowed; "
			"put the value in quotes" },
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (problem && !strcmp(problem, texts[i][0]))
			return texts[i][1];
	return problem ? problem : "not YAML";
}

/*
 * A line without its colon, or one indented too far, runs into the line beside it, and libyaml
 * stumbles only over the second line's colon. Says which it was, in place of what was said about
 * the merged text.
 */
static bool
merged_lines(struct walk *w)
{
	yaml_mark_t at = w->parser.problem_mark, from = w->merged;
	const char *p = buf_str(&w->clean);
	struct config_set *set = w->r->set;
	struct config_error *last;

	if (!w->have_merged || at.line <= from.line || !w->parser.problem ||
	    strcmp(w->parser.problem, "mapping values are not allowed in this context"))
		return false;
	for (size_t i = 0; i < at.line && p; i++)
		p = strchr(p, '\n') + 1;
	at.column = strspn(p, " ");
	last = set->n_errors ? &set->errors[set->n_errors - 1] : NULL;
	if (last && !strcmp(last->file, w->t->name) && last->line == (int)from.line + 1 &&
	    last->column == column_at(w, from))
		config_error_drop(set);
	if (at.column == from.column)
		tell(w, from, "syntax: a \":\" is missing behind this key");
	else
		tell(w, at, "syntax: this line is not indented like the one before");
	return true;
}

static void
syntax_error(struct walk *w)
{
	w->dead = true;
	if (w->parser.error == YAML_MEMORY_ERROR)
		BUG("out of memory in libyaml");
	if (!w->tabs && !merged_lines(w))
		tell(w, syntax_mark(w), "syntax: %s", syntax_text(w->parser.problem));
}

/* --- events --- */

/* What YAML can do and a settings file has no need for. */
static void
refuse_extras(struct walk *w)
{
	const yaml_event_t *e = &w->ev;
	const yaml_char_t *anchor = NULL, *tag = NULL;

	switch (e->type) {
	case YAML_ALIAS_EVENT:
		tell(w, e->start_mark, "an alias (*%s) is not allowed; write the value itself",
		    (const char *)e->data.alias.anchor);
		return;
	case YAML_SCALAR_EVENT:
		anchor = e->data.scalar.anchor;
		tag = e->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = e->data.sequence_start.anchor;
		tag = e->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = e->data.mapping_start.anchor;
		tag = e->data.mapping_start.tag;
		break;
	default:
		return;
	}
	if (anchor)
		tell(w, e->start_mark, "an anchor (&%s) is not allowed", (const char *)anchor);
	if (tag)
		tell(w, e->start_mark, "a tag (%.64s) is not allowed", (const char *)tag);
}

/* The next event into w->ev; false when the file ends here for us. */
static bool
next(struct walk *w)
{
	if (w->have_ev)
		yaml_event_delete(&w->ev);
	w->have_ev = false;
	if (w->dead)
		return false;
	if (!yaml_parser_parse(&w->parser, &w->ev)) {
		syntax_error(w);
		return false;
	}
	w->have_ev = true;
	w->merged = w->ev.start_mark;
	w->have_merged = w->ev.type == YAML_SCALAR_EVENT &&
	    w->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	    w->ev.end_mark.line > w->ev.start_mark.line;
	refuse_extras(w);
	if (w->ev.type == YAML_MAPPING_START_EVENT || w->ev.type == YAML_SEQUENCE_START_EVENT)
		w->depth++;
	if (w->ev.type == YAML_MAPPING_END_EVENT || w->ev.type == YAML_SEQUENCE_END_EVENT)
		w->depth--;
	if (w->depth > CONFIG_DEPTH_MAX) {
		tell(w, w->ev.start_mark, "nested too deep: more than %d levels", CONFIG_DEPTH_MAX);
		w->dead = true;
		return false;
	}
	return true;
}

/* Leaves the value that begins with the current event. */
static void
skip(struct walk *w)
{
	int outside = w->depth;

	if (!w->have_ev || (w->ev.type != YAML_MAPPING_START_EVENT &&
	    w->ev.type != YAML_SEQUENCE_START_EVENT))
		return;
	while (next(w) && w->depth >= outside)
		;
}

static const char *
scalar(const struct walk *w)
{
	return (const char *)w->ev.data.scalar.value;
}

static bool
is_plain(const struct walk *w)
{
	return w->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool
is_null(const struct walk *w)
{
	const char *s = scalar(w);

	return w->ev.type == YAML_SCALAR_EVENT && is_plain(w) &&
	    (!*s || !strcmp(s, "~") || !strcasecmp(s, "null"));
}

static bool
has_nul(const struct walk *w)
{
	return strlen(scalar(w)) != w->ev.data.scalar.length;
}

static const char *
kind(const struct walk *w)
{
	return w->ev.type == YAML_MAPPING_START_EVENT ? "a map" :
	    w->ev.type == YAML_SEQUENCE_START_EVENT ? "a list" : "one value";
}

/*
 * The next key of a mapping as a fresh string; NULL at its end. Keys that are no words are told
 * and passed.
 */
static char *
next_key(struct walk *w, yaml_mark_t *where)
{
	while (next(w) && w->ev.type != YAML_MAPPING_END_EVENT) {
		*where = w->ev.start_mark;
		if (w->ev.type == YAML_SCALAR_EVENT && !has_nul(w))
			return xstrdup(scalar(w));
		if (w->ev.type != YAML_ALIAS_EVENT)
			tell(w, *where, "a key must be one word");
		skip(w);
		if (!next(w))
			break;
		skip(w);
	}
	return NULL;
}

/* --- values --- */

static struct target
setting_target(struct walk *w, enum config_id id)
{
	return (struct target){ config_rows[id].key, config_setting_of(id),
		(char *)&w->r->set->c + config_settings[id].offset, &w->r->set->origin[id] };
}

static const char *
wanted(const struct target *to)
{
	switch (to->s.type) {
	case CONFIG_T_STR:
		return "a text";
	case CONFIG_T_BOOL:
		return "true or false";
	case CONFIG_T_INT:
		return "a whole number";
	case CONFIG_T_DUR:
		return "a duration (like 30s)";
	case CONFIG_T_SIZE:
		return "a size (like 16MiB)";
	case CONFIG_T_DBL:
		return "a number";
	case CONFIG_T_ENUM:
		return to->s.words;
	case CONFIG_T_LIST:
		return "a list ([a, b], or lines that begin with \"-\")";
	default:
		return "a map (lines of name: value)";
	}
}

static void
wrong_kind(struct walk *w, const struct target *to)
{
	if (w->ev.type == YAML_ALIAS_EVENT)
		return;
	if (is_null(w))
		tell(w, w->ev.start_mark, "%s: no value; %s is wanted", to->key, wanted(to));
	else
		tell(w, w->ev.start_mark, "%s: %s is wanted, not %s%s", to->key, wanted(to), kind(w),
		    to->s.type == CONFIG_T_STR ? "; put it in quotes if it is meant as text" : "");
	skip(w);
}

/* Quotes make a text of a number, and the lack of them a truth value of a word: both are slips. */
static bool
style_wrong(struct walk *w, const struct target *to)
{
	enum config_type type = to->s.type;
	const char *s = scalar(w);

	if (has_nul(w)) {
		tell(w, w->ev.start_mark, "%s: the text holds a NUL", to->key);
		return true;
	}
	if (!is_plain(w) &&
	    (type == CONFIG_T_INT || type == CONFIG_T_BOOL || type == CONFIG_T_DBL)) {
		tell(w, w->ev.start_mark, "%s: %s is wanted, not a text; remove the quotes", to->key,
		    wanted(to));
		return true;
	}
	if (is_plain(w) && type == CONFIG_T_STR && (!strcmp(s, "true") || !strcmp(s, "false"))) {
		tell(w, w->ev.start_mark,
		    "%s: a text is wanted, not true or false; put it in quotes if it is meant so",
		    to->key);
		return true;
	}
	return false;
}

static void
take_origin(struct walk *w, struct config_origin *o, yaml_mark_t m)
{
	free(o->file);
	*o = (struct config_origin){ xstrdup(w->t->name), (int)m.line + 1, column_at(w, m) };
}

static void
take_scalar(struct walk *w, const struct target *to)
{
	struct buf why = BUF_INIT;

	if (w->ev.type != YAML_SCALAR_EVENT || is_null(w)) {
		wrong_kind(w, to);
		return;
	}
	take_origin(w, to->origin, w->ev.start_mark);
	if (!style_wrong(w, to) && config_field_put(to->field, &to->s, scalar(w), &why) < 0)
		tell(w, w->ev.start_mark, "%s: %s", to->key, buf_str(&why));
	buf_release(&why);
}

static void
take_list(struct walk *w, const struct target *to)
{
	struct buf why = BUF_INIT;

	if (w->ev.type != YAML_SEQUENCE_START_EVENT) {
		wrong_kind(w, to);
		return;
	}
	take_origin(w, to->origin, w->ev.start_mark);
	config_field_release(to->field, &to->s);
	while (next(w) && w->ev.type != YAML_SEQUENCE_END_EVENT) {
		buf_clear(&why);
		if (w->ev.type == YAML_ALIAS_EVENT)
			continue;
		if (w->ev.type != YAML_SCALAR_EVENT || is_null(w) || has_nul(w)) {
			tell(w, w->ev.start_mark, "%s: an entry must be a text", to->key);
			skip(w);
		} else if (config_field_add(to->field, &to->s, scalar(w), &why) < 0) {
			tell(w, w->ev.start_mark, "%s: %s", to->key, buf_str(&why));
		}
	}
	buf_release(&why);
}

/* Once a file: the first secret in it shows that others may read it. */
static void
check_readers(struct walk *w, yaml_mark_t m, const char *name, const char *value)
{
	if (w->secret_told || !*value || !config_property_secret(name) ||
	    !(w->t->mode & S_IROTH))
		return;
	w->secret_told = true;
	tell(w, m, "the file holds a secret (%s) and every user can read it; chmod o= it", name);
}

static void
take_property(struct walk *w, enum config_id id, const char *name, yaml_mark_t m)
{
	struct buf why = BUF_INIT;
	char text[512] = "";
	const char *bad = NULL;

	if (w->ev.type == YAML_ALIAS_EVENT)
		return;
	if (w->ev.type != YAML_SCALAR_EVENT || is_null(w) || has_nul(w)) {
		tell(w, w->ev.start_mark, "%s: the value of %.128s must be one text",
		    config_rows[id].key, name);
		skip(w);
		return;
	}
	check_readers(w, m, name, scalar(w));
	if (config_map_put(&w->r->set->c, id, name, scalar(w), &why) < 0)
		tell(w, m, "%s: %s", config_rows[id].key, buf_str(&why));
	else if (w->r->args->property_check)
		bad = w->r->args->property_check(name, scalar(w), text, sizeof(text));
	if (bad)
		tell(w, m, "%s: %s: %s", config_rows[id].key, name, bad);
	buf_release(&why);
}

static bool
listed(const struct strlist *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], s))
			return true;
	return false;
}

/* Properties add up from file to file, name by name. */
static void
take_map(struct walk *w, enum config_id id)
{
	struct strlist seen = { NULL, 0 };
	yaml_mark_t m;
	char *name;

	if (w->ev.type != YAML_MAPPING_START_EVENT) {
		struct target to = setting_target(w, id);

		wrong_kind(w, &to);
		return;
	}
	take_origin(w, &w->r->set->origin[id], w->ev.start_mark);
	while ((name = next_key(w, &m))) {
		if (listed(&seen, name))
			tell(w, m, "%s: %.128s is set twice", config_rows[id].key, name);
		else if (seen.n < CONFIG_ENTRIES_MAX)
			strlist_add(&seen, name);
		if (next(w))
			take_property(w, id, name, m);
		free(name);
	}
	strlist_release(&seen);
}

/* --- sections --- */

static void
take_value(struct walk *w, const struct target *to)
{
	if (to->s.type == CONFIG_T_LIST)
		take_list(w, to);
	else
		take_scalar(w, to);
}

static void
take_key(struct walk *w, const char *section, const char *name, yaml_mark_t m)
{
	struct buf why = BUF_INIT;
	struct target to;
	char key[160];
	int id;

	snprintf(key, sizeof(key), "%s.%s", section, name);
	id = config_find(key);
	if (id < 0) {
		/* beyond what is kept nobody reads the hint, and looking for one costs */
		if (w->r->set->n_errors < CONFIG_ERRORS_MAX)
			config_unknown_key(&why, section, name);
		tell(w, m, "%s", buf_str(&why));
		if (next(w))
			skip(w);
		buf_release(&why);
		return;
	}
	if (w->seen[id])
		tell(w, m, "%s is set twice in this file", key);
	w->seen[id] = true;
	if (!next(w))
		return;
	if (config_settings[id].type == CONFIG_T_MAP) {
		take_map(w, id);
		return;
	}
	to = setting_target(w, id);
	take_value(w, &to);
}

/* "level info" where "level: info" was meant */
static bool
lacks_colon(struct walk *w, const char *section)
{
	char key[160];

	if (w->ev.type != YAML_SCALAR_EVENT || !strchr(scalar(w), ' '))
		return false;
	snprintf(key, sizeof(key), "%s.%.*s", section, (int)strcspn(scalar(w), " "), scalar(w));
	if (config_find(key) < 0)
		return false;
	tell(w, w->ev.start_mark, "syntax: a \":\" is missing behind this key");
	return true;
}

/* --- tables --- */

static void
take_column(struct walk *w, const struct config_table_row *row, struct config_entry *e,
    const char *name, yaml_mark_t m, struct strlist *seen)
{
	int i = config_column_find(row, name);
	struct buf key = BUF_INIT;
	struct target to;

	if (i < 0) {
		if (w->r->set->n_errors < CONFIG_ERRORS_MAX)
			config_unknown_column(&key, row, e->name, name);
		tell(w, m, "%s", buf_str(&key));
		if (next(w))
			skip(w);
		buf_release(&key);
		return;
	}
	buf_printf(&key, "%s.%s.%s", row->name, e->name, name);
	if (listed(seen, name))
		tell(w, m, "%s is set twice in this file", buf_str(&key));
	else
		strlist_add(seen, name);
	to = (struct target){ buf_str(&key), row->columns[i].s,
		config_entry_field(e, &row->columns[i]), &e->set[i] };
	if (next(w))
		take_value(w, &to);
	buf_release(&key);
}

/* Keys add up from file to file, as everywhere. An entry without any is one, too. */
static void
take_entry(struct walk *w, const struct config_table_row *row, struct config_entry *e, yaml_mark_t m)
{
	struct strlist seen = { NULL, 0 };
	char *name;

	take_origin(w, &e->origin, m);
	if (!next(w) || w->ev.type == YAML_ALIAS_EVENT || is_null(w))
		return;
	if (w->ev.type != YAML_MAPPING_START_EVENT) {
		tell(w, w->ev.start_mark, "%s.%s: a map of settings (indented lines of key: value) "
		    "is wanted, not %s", row->name, e->name, kind(w));
		skip(w);
		return;
	}
	while ((name = next_key(w, &m))) {
		take_column(w, row, e, name, m, &seen);
		free(name);
	}
	strlist_release(&seen);
}

static void
take_named(struct walk *w, enum config_table_id id, const char *name, yaml_mark_t m,
    struct strlist *seen)
{
	const struct config_table_row *row = &config_tables[id];
	const char *fault = row->name_fault ? row->name_fault(name) : NULL;
	struct config_entry *e = NULL;
	struct buf why = BUF_INIT;

	config_quote(&why, name);
	if (fault)
		tell(w, m, "%s: %s cannot be the name of a %s: it %s", row->name, buf_str(&why), row->one, fault);
	else if (!(e = config_entry_make(&w->r->set->c, id, name)))
		tell(w, m, "%s: more than %d entries", row->name, CONFIG_TABLE_MAX);
	else if (listed(seen, name))
		tell(w, m, "%s.%s stands twice in this file", row->name, name);
	else
		strlist_add(seen, name);
	buf_release(&why);
	if (e)
		take_entry(w, row, e, m);
	else if (next(w))
		skip(w);
}

static void
take_table(struct walk *w, enum config_table_id id, yaml_mark_t m)
{
	struct strlist seen = { NULL, 0 };
	const char *name = config_tables[id].name;
	char *key;

	if (listed(&w->seen_sections, name))
		tell(w, m, "section \"%s\" stands twice in this file", name);
	else
		strlist_add(&w->seen_sections, name);
	if (!next(w) || w->ev.type == YAML_ALIAS_EVENT || is_null(w))
		return;
	if (w->ev.type != YAML_MAPPING_START_EVENT) {
		tell(w, w->ev.start_mark, "section \"%s\" wants names on indented lines, each with a "
		    "map of settings, not %s", name, kind(w));
		skip(w);
		return;
	}
	while ((key = next_key(w, &m))) {
		take_named(w, id, key, m, &seen);
		free(key);
	}
	strlist_release(&seen);
}

static void
take_section(struct walk *w, const char *name, yaml_mark_t m)
{
	char *key;

	if (listed(&w->seen_sections, name))
		tell(w, m, "section \"%s\" stands twice in this file", name);
	else
		strlist_add(&w->seen_sections, name);
	if (!next(w) || w->ev.type == YAML_ALIAS_EVENT || is_null(w))
		return;
	if (lacks_colon(w, name))
		return;
	if (w->ev.type != YAML_MAPPING_START_EVENT) {
		tell(w, w->ev.start_mark, "section \"%s\" wants its keys on indented lines, not %s",
		    name, kind(w));
		skip(w);
		return;
	}
	while ((key = next_key(w, &m))) {
		take_key(w, name, key, m);
		free(key);
	}
}

static void
take_sections(struct walk *w)
{
	struct buf why = BUF_INIT;
	yaml_mark_t m;
	char *name;

	while ((name = next_key(w, &m))) {
		if (config_table_find(name) >= 0) {
			take_table(w, config_table_find(name), m);
		} else if (config_section_known(name)) {
			take_section(w, name, m);
		} else {
			buf_clear(&why);
			if (w->r->set->n_errors < CONFIG_ERRORS_MAX)
				config_unknown_key(&why, NULL, name);
			tell(w, m, "%s", buf_str(&why));
			if (next(w))
				skip(w);
		}
		free(name);
	}
	buf_release(&why);
}

static void
take_document(struct walk *w)
{
	if (w->ev.data.document_start.tag_directives.start !=
	    w->ev.data.document_start.tag_directives.end)
		tell(w, w->ev.start_mark, "a %%TAG line is not allowed");
	if (!next(w) || is_null(w))
		return;
	if (w->ev.type == YAML_MAPPING_START_EVENT) {
		take_sections(w);
	} else if (w->ev.type != YAML_ALIAS_EVENT) {
		tell(w, w->ev.start_mark, "the file must be a map of sections, not %s", kind(w));
		skip(w);
	}
}

static void
take_stream(struct walk *w)
{
	int documents = 0;

	while (next(w) && w->ev.type != YAML_STREAM_END_EVENT) {
		if (w->ev.type != YAML_DOCUMENT_START_EVENT)
			continue;
		if (documents++) {
			tell(w, w->ev.start_mark,
			    "a second document (---) is not allowed; it is not read");
			w->dead = true;
			break;
		}
		take_document(w);
	}
	if (w->have_ev)
		yaml_event_delete(&w->ev);
}

void
config_yaml(struct config_reader *r, const struct config_text *t)
{
	struct walk w = { .r = r, .t = t, .text = t->text, .end = t->text + t->len,
		.clean = BUF_INIT };
	size_t first = r->set->n_errors;

	if (config_scan(r, t, &w.text, &w.clean, &w.tabs)) {
		if (!yaml_parser_initialize(&w.parser))
			BUG("out of memory in libyaml");
		yaml_parser_set_encoding(&w.parser, YAML_UTF8_ENCODING);
		yaml_parser_set_input_string(&w.parser,
		    (const unsigned char *)buf_str(&w.clean), w.clean.len);
		take_stream(&w);
		yaml_parser_delete(&w.parser);
	}
	buf_wipe(&w.clean);
	strlist_release(&w.seen_sections);
	config_error_sort(r->set, first);
}
