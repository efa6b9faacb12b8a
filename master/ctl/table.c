/*
 * table.c - the verbs as tables, and what is made of them: usage, help, completion, manual text, did-you-mean.
 *
 * Called by options.c, and by man/gen and the tests. Pure: writes to buffers only.
 */
#include <stdlib.h>
#include <string.h>

#include "common/mdoc.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

#define HELP_INDENT 26
#define HELP_WIDTH 100

#define NONE CTL_NONE
#define DAEMON CTL_DAEMON
#define KAFKA CTL_KAFKA
#define CONFIG CTL_CONFIG

const struct ctl_cmd ctl_cmds[CTL_VERB__MAX] = {
#define GLOBAL(name, letter, arg, help)
#define VERB(id, name, args, needs, min, max, help) { name, args, needs, min, max, ctl_##id, help },
#define OPTION(name, letter, arg, help)
#include "master/ctl/verbs.def"
};

/* In the order of the list, each verb as a row without a name, so that its number can be counted. */
const struct ctl_opt ctl_opts[] = {
#define GLOBAL(name, letter, arg, help) { -1, name, letter, arg, help },
#define VERB(id, name, args, needs, min, max, help) { CTL_VERB_##id, NULL, 0, "", "" },
#define OPTION(name, letter, arg, help) { -2, name, letter, arg, help },
#include "master/ctl/verbs.def"
};
const size_t ctl_n_opts = ARRAY_LEN(ctl_opts);

/* The verb that the option belongs to: the last one above it. */
static int
owner(size_t i)
{
	if (ctl_opts[i].verb == -1)
		return -1;
	while (i && ctl_opts[i].name)
		i--;
	return ctl_opts[i].verb;
}

static bool
belongs(size_t i, int verb)
{
	return ctl_opts[i].name && owner(i) == verb;
}

/* The verb's own options hide the global ones. */
const struct ctl_opt *
ctl_find_opt(int verb, const char *name, size_t n)
{
	for (int v = verb; ; v = -1) {
		for (size_t i = 0; i < ctl_n_opts; i++)
			if (belongs(i, v) && strlen(ctl_opts[i].name) == n && !memcmp(ctl_opts[i].name, name, n))
				return &ctl_opts[i];
		if (v < 0)
			return NULL;
	}
}

const struct ctl_opt *
ctl_find_letter(int verb, char letter)
{
	for (int v = verb; ; v = -1) {
		for (size_t i = 0; i < ctl_n_opts; i++)
			if (belongs(i, v) && ctl_opts[i].letter == letter && letter)
				return &ctl_opts[i];
		if (v < 0)
			return NULL;
	}
}

int
ctl_find(char *const *argv, size_t n, size_t *used)
{
	for (int v = 0; v < CTL_VERB__MAX; v++) {
		const char *name = ctl_cmds[v].name, *space = strchr(name, ' ');
		size_t first = space ? (size_t)(space - name) : strlen(name);

		if (!n || strlen(argv[0]) != first || memcmp(argv[0], name, first))
			continue;
		if (space && (n < 2 || strcmp(argv[1], space + 1)))
			continue;
		*used = space ? 2 : 1;
		return v;
	}
	return -1;
}

const char *
ctl_nearest(const char *word)
{
	const char *names[CTL_VERB__MAX];

	for (int v = 0; v < CTL_VERB__MAX; v++)
		names[v] = ctl_cmds[v].name;
	return config_nearest(word, names, CTL_VERB__MAX);
}

/* ---- texts ----------------------------------------------------------------------------------------------------------- */

/* The text from column HELP_INDENT on, in whole words; `column`: where the line stands. */
static void
wrap(struct buf *b, const char *s, size_t column)
{
	if (column >= HELP_INDENT) {
		buf_putc(b, '\n');
		column = 0;
	}
	while (*s) {
		size_t n = strcspn(s, " ");

		if (column + n + 1 > HELP_WIDTH) {
			buf_putc(b, '\n');
			column = 0;
		}
		if (column < HELP_INDENT) {
			buf_printf(b, "%*s", (int)(HELP_INDENT - column), "");
			column = HELP_INDENT;
		} else {
			buf_putc(b, ' ');
			column++;
		}
		buf_add(b, s, n);
		column += n;
		s += n + (s[n] == ' ');
	}
	buf_putc(b, '\n');
}

static void
options(struct buf *b, int verb)
{
	for (size_t i = 0; i < ctl_n_opts; i++) {
		const struct ctl_opt *o = &ctl_opts[i];
		size_t start = b->len;

		if (!belongs(i, verb))
			continue;
		if (o->letter)
			buf_printf(b, "  -%c, ", o->letter);
		else
			buf_puts(b, "      ");
		buf_printf(b, "--%s%s%s", o->name, *o->arg ? " " : "", o->arg);
		wrap(b, o->help, b->len - start);
	}
}

void
ctl_usage(struct buf *b)
{
	buf_puts(b, "Usage: iis-pollerctl [OPTION]... VERB [ARGUMENT]...\n"
	    "Asks and steers iis-pollerd, and looks into its topics.\n\nVerbs:\n");
	for (int v = 0; v < CTL_VERB__MAX; v++) {
		const struct ctl_cmd *c = &ctl_cmds[v];
		size_t start = b->len, n = strcspn(c->help, ".:;");
		char *first = xmemdup0(c->help, n);

		buf_printf(b, "  %s%s%s", c->name, *c->args ? " " : "", c->args);
		wrap(b, first, b->len - start);
		free(first);
	}
	buf_puts(b, "\nOptions of every verb:\n");
	options(b, -1);
	buf_puts(b, "\n'iis-pollerctl VERB --help' tells more. Exit status: 0, or 64 usage, 65 bad data, 66 no such thing, 69 no\n"
	    "daemon or broker, 75 try again, 77 not permitted, 78 configuration. Manual: iis-pollerctl(8).\n");
}

void
ctl_help(enum ctl_verb v, struct buf *b)
{
	static const char *const needs[] = { "", "Asks the daemon on control.socket.\n", "Asks the brokers.\n", "" };
	const struct ctl_cmd *c = &ctl_cmds[v];
	size_t before;

	buf_printf(b, "Usage: iis-pollerctl %s [OPTION]...%s%s\n", c->name, *c->args ? " " : "", c->args);
	buf_printf(b, "%s\n%s", c->help, needs[c->needs]);
	before = b->len;
	buf_puts(b, "\nOptions:\n");
	options(b, (int)v);
	if (b->len == before + strlen("\nOptions:\n"))
		b->len = before;
	buf_puts(b, "\nOptions of every verb:\n");
	options(b, -1);
}

/* ---- completion -------------------------------------------------------------------------------------------------------- */

static void
option_words(struct buf *b, int verb)
{
	for (size_t i = 0; i < ctl_n_opts; i++)
		if (belongs(i, verb))
			buf_printf(b, " --%s", ctl_opts[i].name);
}

/* Words an argument may be: "jobs|events|results|dlq" as they are. */
static void
argument_words(struct buf *b, const char *args)
{
	if (*args == '[' || (*args >= 'A' && *args <= 'Z'))
		return;
	for (; *args; args++)
		buf_putc(b, *args == '|' ? ' ' : *args);
}

static void
verb_case(struct buf *b, int v)
{
	const struct ctl_cmd *c = &ctl_cmds[v];
	const char *space = strchr(c->name, ' ');

	buf_printf(b, "\t%.*s)\n\t\twords='", (int)(space ? space - c->name : (long)strlen(c->name)), c->name);
	if (space)
		buf_puts(b, space + 1);
	argument_words(b, c->args);
	option_words(b, v);
	buf_puts(b, "'\n");
	if (v == CTL_VERB_sources)
		buf_puts(b, "\t\twords+=\" $(\"${COMP_WORDS[0]}\" sources --json 2>/dev/null |\n"
		    "\t\t\tsed -n 's/^.*\"type\":\"\\([a-z0-9]*\\)\".*$/\\1/p')\"\n");
	buf_puts(b, "\t\t;;\n");
}

void
ctl_completion_bash(struct buf *b)
{
	buf_puts(b, "# bash completion for iis-pollerctl(8); made by 'iis-pollerctl completion bash'\n"
	    "_iis_pollerctl()\n{\n"
	    "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= words= i\n"
	    "\tcase \"$prev\" in\n"
	    "\t-c|--config|-S|--socket)\n\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n\t\treturn\n\t\t;;\n"
	    "\tesac\n"
	    "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	    "\t\tcase \"${COMP_WORDS[i]}\" in\n"
	    "\t\t-c|-S|-b|-o|--config|--socket|--bootstrap|--set)\n\t\t\ti=$((i + 1))\n\t\t\t;;\n"
	    "\t\t-*) ;;\n"
	    "\t\t*)\n\t\t\tverb=${COMP_WORDS[i]}\n\t\t\tbreak\n\t\t\t;;\n"
	    "\t\tesac\n\tdone\n"
	    "\tcase \"$verb\" in\n\t'')\n\t\twords='");
	for (int v = 0; v < CTL_VERB__MAX; v++) {
		const char *name = ctl_cmds[v].name;

		buf_printf(b, "%s%.*s", v ? " " : "", (int)strcspn(name, " "), name);
	}
	buf_puts(b, "'\n\t\t;;\n");
	for (int v = 0; v < CTL_VERB__MAX; v++)
		verb_case(b, v);
	buf_puts(b, "\tesac\n\twords+='");
	option_words(b, -1);
	buf_puts(b, "'\n"
	    "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	    "\t[[ $verb == push && $cur != -* ]] && COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
	    "\treturn 0\n"
	    "}\n"
	    "complete -F _iis_pollerctl iis-pollerctl\n");
}

int
ctl_completion(struct ctl *c)
{
	struct buf b = BUF_INIT;

	if (strcmp(c->arg[0], "bash"))
		return ctl_fail(c, EX_USAGE, "no script for %s, only for bash", c->arg[0]);
	ctl_completion_bash(&b);
	return out_buf(c, &b) < 0 ? EX_IOERR : 0;
}

/* ---- manual ------------------------------------------------------------------------------------------------------------ */

static void
mdoc_options(struct buf *b, int verb)
{
	bool any = false;

	for (size_t i = 0; i < ctl_n_opts; i++) {
		const struct ctl_opt *o = &ctl_opts[i];

		if (!belongs(i, verb))
			continue;
		if (!any)
			buf_puts(b, ".Bl -tag -width Ds\n");
		any = true;
		buf_puts(b, ".It Fl ");
		if (o->letter)
			buf_printf(b, "%c , Fl ", o->letter);
		buf_printf(b, "\\-%s", o->name);
		if (*o->arg)
			buf_printf(b, " Ar %s", o->arg);
		buf_putc(b, '\n');
		mdoc_text(b, o->help);
	}
	if (any)
		buf_puts(b, ".El\n");
}

void
ctl_mdoc_global(struct buf *b)
{
	mdoc_options(b, -1);
}

void
ctl_mdoc(struct buf *b)
{
	buf_puts(b, ".Bl -tag -width Ds\n");
	for (int v = 0; v < CTL_VERB__MAX; v++) {
		buf_printf(b, ".It Cm %s%s%s\n", ctl_cmds[v].name, *ctl_cmds[v].args ? " Ar " : "", ctl_cmds[v].args);
		mdoc_text(b, ctl_cmds[v].help);
		mdoc_options(b, v);
	}
	buf_puts(b, ".El\n");
}
