/*
 * field.h - one field of a job: from JSON or text to a checked value, by its row in job.def or sources.def.
 */
#ifndef COMMON_FIELD_H
#define COMMON_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/job.h"

struct json_object;

/* Has a source of this type (or SOURCE_COMMON, SOURCE_NETWORK themselves) the row's field? */
bool field_applies(const struct field_row *, int source);
/* The field whose value a REF or FILE field leads to: the nearest row before it that is neither. */
int field_target(const struct field_row *rows, int id);
/* The row that `name` is the name or an alias of, among those of `source` and the common ones; -1. */
int field_find(const struct field_row *rows, size_t n, int source, const char *name);
/* Reads the row's range. INT, DUR (ms), SIZE, DBL (thousandths): both ends. STR, STRS: max bytes. Else all there is. */
void field_range(const struct field_row *, int64_t *min, int64_t *max);
/* Is v, of this row, within its range? Used on what came through a frame. */
bool field_value_ok(const struct field_row *, const struct field_value *v);
/* 0, or -1 with ERR_INVALID_JOB; the pointer then has the part below the field ("/3"), or is "". v was zero. */
int field_from_json(const struct field_row *, struct json_object *, struct field_value *v, struct err *);
/* The default; false where the row has none. A wrong default is a bug. */
bool field_default(const struct field_row *, struct field_value *v);
bool field_value_same(enum field_kind, const struct field_value *, const struct field_value *);
void field_value_release(struct field_value *);
/* Clears the bytes of a secret before its release. */
void field_value_wipe(struct field_value *);
/* "a string", "an array of strings", ... */
const char *field_kind_text(enum field_kind);
/* Is `name` one of the space separated words? */
bool field_word_in(const char *name, const char *words);

#endif
