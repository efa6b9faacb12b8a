/*
 * lists.h - what man/gen.c splices into the pages: each list of the program as mdoc(7), and example records.
 */
#ifndef MAN_LISTS_H
#define MAN_LISTS_H

#include "common/buf.h"

void list_metrics(struct buf *);
void list_errors(struct buf *);
void list_job_fields(struct buf *);
void list_filter_fields(struct buf *);
void list_source_fields(struct buf *);
void list_source_attrs(struct buf *);
/* The files man/example.*.json, which a test holds against the schemas. */
void example_event(struct buf *);
void example_result(struct buf *);
void example_dead_letter(struct buf *);

#endif
