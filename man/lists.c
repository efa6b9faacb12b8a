/*
 * lists.c - metrics, error classes, job and source fields as mdoc(7), from the same .def files as the program.
 *
 * Part of man/gen, run at build time only.
 */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/job.h"
#include "common/mdoc.h"
#include "common/xalloc.h"
#include "man/lists.h"
#include "common/banned.h"

static void
open_list(struct buf *b)
{
	buf_puts(b, ".Bl -tag -width Ds\n");
}

static void
close_list(struct buf *b)
{
	buf_puts(b, ".El\n");
}

void
list_metrics(struct buf *b)
{
	static const struct { const char *name, *type, *labels, *help; } rows[] = {
#define METRIC(id, name, type, labels, help) { name, #type, labels, help },
#include "master/metrics.def"
#undef METRIC
	};

	open_list(b);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_printf(b, ".It Li %s\n", rows[i].name);
		mdoc_text(b, rows[i].help);
		buf_printf(b, "%c%s", rows[i].type[0], !strcmp(rows[i].type, "COUNTER") ? "ounter"
		    : !strcmp(rows[i].type, "GAUGE") ? "auge" : "istogram");
		buf_printf(b, "%s%s.\n", *rows[i].labels ? ", by " : "", rows[i].labels);
	}
	close_list(b);
}

void
list_errors(struct buf *b)
{
	static const char *const then[] = {
		[ERR_DO_NONE] = "", [ERR_DO_RETRY] = "Tried again, then dead-lettered.", [ERR_DO_DEAD] = "Dead-lettered at once.",
		[ERR_DO_HOLD] = "Held and replayed; never charged to the job.",
		[ERR_DO_ALONE] = "Tried once more alone in a fresh worker, then dead-lettered.",
	};

	open_list(b);
	for (int c = 1; c < ERR__MAX; c++) {
		buf_printf(b, ".It Li %s\n", err_name((enum err_class)c));
		buf_printf(b, "What happened: ");
		mdoc_text(b, err_what((enum err_class)c));
		buf_puts(b, ".Pq to do :\n");
		mdoc_text(b, err_todo((enum err_class)c));
		if (*then[err_disposition((enum err_class)c)])
			mdoc_text(b, then[err_disposition((enum err_class)c)]);
	}
	close_list(b);
}

static const char *const kind_words[] = {
	[KIND_STR] = "text", [KIND_STRS] = "array of texts", [KIND_INT] = "number", [KIND_BOOL] = "true or false",
	[KIND_DUR] = "duration", [KIND_SIZE] = "size", [KIND_TIME] = "time", [KIND_ENUM] = "word", [KIND_DBL] = "number",
	[KIND_OBJECT] = "object", [KIND_OBJECTS] = "array of objects", [KIND_ANY] = "any value",
	[KIND_TEXT] = "text of several lines",
};

static void
field(struct buf *b, const struct field_row *r)
{
	buf_printf(b, ".It Cm %s : Ar %s\n", r->name, kind_words[r->kind]);
	mdoc_text(b, r->help);
	if (r->kind == KIND_ENUM)
		mdoc_words(b, r->range);
	else if (*r->range && strstr(r->range, ".."))
		buf_printf(b, "Range: %s.\n", r->range);
	if (*r->def)
		buf_printf(b, "Default:\n.Ql %s .\n", r->def);
	if (*r->aliases)
		buf_printf(b, "Also written\n.Cm %s .\n", r->aliases);
	if (r->flags & FIELD_LATER)
		buf_puts(b, "This version refuses it by name.\n");
	if (r->flags & FIELD_FAULT)
		buf_puts(b, "Refused unless\n.Cm dummy.allow_faults\nis set.\n");
}

static void
fields(struct buf *b, const struct field_row *rows, size_t n)
{
	open_list(b);
	for (size_t i = 0; i < n; i++)
		field(b, &rows[i]);
	close_list(b);
}

void
list_job_fields(struct buf *b)
{
	fields(b, job_rows, JF__MAX);
}

void
list_filter_fields(struct buf *b)
{
	fields(b, filter_rows, FF__MAX);
}

static void
fields_of(struct buf *b, int source)
{
	open_list(b);
	for (int i = 0; i < SF__MAX; i++)
		if (field_rows[i].source == source)
			field(b, &field_rows[i]);
	close_list(b);
}

void
list_source_fields(struct buf *b)
{
	buf_puts(b, "For every type:\n");
	fields_of(b, SOURCE_COMMON);
	buf_puts(b, ".Pp\nFor every type that is reached over a network:\n");
	fields_of(b, SOURCE_NETWORK);
	for (int t = 0; t < SOURCE__MAX; t++) {
		buf_printf(b, ".Pp\nThe type\n.Ql %s .\n", source_rows[t].name);
		mdoc_text(b, source_rows[t].help);
		if (*source_rows[t].aliases)
			buf_printf(b, "Also written\n.Ql %s .\n", source_rows[t].aliases);
		if (source_rows[t].later)
			buf_puts(b, "This version knows the type and refuses it by name.\n");
		else
			fields_of(b, t);
	}
}

void
list_source_attrs(struct buf *b)
{
	for (int t = 0; t < SOURCE__MAX; t++) {
		if (source_rows[t].later)
			continue;
		buf_printf(b, ".Pp\nOf the type\n.Ql %s :\n", source_rows[t].name);
		open_list(b);
		for (int a = 0; a < SA__MAX; a++)
			if (attr_rows[a].source == t) {
				buf_printf(b, ".It Cm %s\n", attr_rows[a].name);
				mdoc_text(b, attr_rows[a].help);
			}
		close_list(b);
	}
}

#define EXAMPLE_WIDTH 78

static void
put_roff(struct buf *b, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] == '\\')
			buf_puts(b, "\\e");
		else
			buf_putc(b, p[i]);
}

/* A line of JSON too wide for a page goes on below itself: after its colon, then at spaces. */
static void
example_line(struct buf *b, const char *line)
{
	size_t indent = strspn(line, " "), n = strlen(line), cut;
	const char *colon = strstr(line, "\": ");

	if (n <= EXAMPLE_WIDTH) {
		put_roff(b, line, n);
		buf_putc(b, '\n');
		return;
	}
	cut = colon && (size_t)(colon - line) < EXAMPLE_WIDTH ? (size_t)(colon - line) + 2 : EXAMPLE_WIDTH;
	if (!colon)
		while (cut > indent && line[cut] != ' ')
			cut--;
	put_roff(b, line, cut);
	for (line += cut + 1; *line; line += cut + (line[cut] == ' ')) {
		n = strlen(line);
		cut = n;
		if (n > EXAMPLE_WIDTH - indent - 4) {
			cut = EXAMPLE_WIDTH - indent - 4;
			while (cut && line[cut] != ' ')
				cut--;
			if (!cut)
				cut = n;
		}
		buf_printf(b, "\n%*s", (int)indent + 4, "");
		put_roff(b, line, cut);
	}
	buf_putc(b, '\n');
}

/* The examples are kept as files, so that a test can hold them against the schemas. */
static void
example(struct buf *b, const char *path)
{
	char line[1024];
	FILE *f = fopen(path, "r");

	if (!f) {
		perror(path);
		BUG("an example of the manual is missing: run from the top of the tree");
	}
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		example_line(b, line);
	}
	fclose(f);
}

void
example_event(struct buf *b)
{
	example(b, "man/example.event.json");
}

void
example_result(struct buf *b)
{
	example(b, "man/example.result.json");
}

void
example_dead_letter(struct buf *b)
{
	example(b, "man/example.dead_letter.json");
}
