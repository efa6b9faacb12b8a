/*
 * gen.c - prints a manual page from its .in file, with the lists of the program in place of their
 * markers.
 *
 * Run by the Makefile: gen man/iis-poller.yaml.5.in > build/man/iis-poller.yaml.5. A line "@NAME@"
 * alone is replaced by what the function of that name writes; a marker that the table does not
 * know is an error, so that no page ships with one. To add a list: a row below, and its object in
 * the Makefile's rule.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/config.h"
#include "common/xalloc.h"
#include "man/lists.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

static const struct {
	const char *marker;
	void (*write)(struct buf *);
} lists[] = {
	{ "@SETTINGS@", config_mdoc },
	{ "@SETTINGS_ENVIRONMENT@", config_mdoc_environment },
	{ "@VERBS@", ctl_mdoc },
	{ "@VERB_OPTIONS@", ctl_mdoc_global },
	{ "@METRICS@", list_metrics },
	{ "@ERRORS@", list_errors },
	{ "@JOB_FIELDS@", list_job_fields },
	{ "@FILTER_FIELDS@", list_filter_fields },
	{ "@SOURCE_FIELDS@", list_source_fields },
	{ "@SOURCE_ATTRS@", list_source_attrs },
	{ "@EVENT_EXAMPLE@", example_event },
	{ "@RESULT_EXAMPLE@", example_result },
	{ "@DEAD_LETTER_EXAMPLE@", example_dead_letter },
};

static int
replace(const char *line, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		if (!strcmp(line, lists[i].marker)) {
			lists[i].write(out);
			return 0;
		}
	return -1;
}

static int
page(FILE *in, const char *name, struct buf *out)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int number = 0, rc = 0;

	while (rc == 0 && (n = getline(&line, &cap, in)) >= 0) {
		number++;
		if (n > 0 && line[n - 1] == '\n')
			line[--n] = '\0';
		if (n > 2 && line[0] == '@' && line[n - 1] == '@') {
			rc = replace(line, out);
			if (rc < 0)
				fprintf(stderr, "%s:%d: unknown marker %s\n", name, number, line);
		} else {
			buf_puts(out, line);
			buf_putc(out, '\n');
		}
	}
	if (ferror(in)) {
		fprintf(stderr, "%s: cannot be read\n", name);
		rc = -1;
	}
	free(line);
	return rc;
}

int
main(int argc, char **argv)
{
	struct buf out = BUF_INIT;
	FILE *in;
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: gen page.in\n");
		return 64;
	}
	in = fopen(argv[1], "r");
	if (!in) {
		perror(argv[1]);
		return 66;
	}
	rc = page(in, argv[1], &out);
	fclose(in);
	if (rc == 0 && (fwrite(out.p, 1, out.len, stdout) != out.len || fflush(stdout)))
		rc = -1;
	buf_release(&out);
	return rc < 0 ? 1 : 0;
}
