/*
 * err.h - what a failed call tells its caller: a class, a text, and where in a file it stands.
 *
 * A function that can fail returns 0 or -1 (or NULL) and takes a struct err last. The class (errors.def)
 * decides what becomes of the job; nobody else asks whether something can be retried. The text is plain
 * words for a person, may hold foreign bytes, and is escaped by whoever shows it.
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <stdbool.h>
#include <stddef.h>

enum err_class {
#define ERR(id, name, disposition, what, todo) ERR_##id,
#include "common/errors.def"
#undef ERR
	ERR__MAX
};

enum err_disposition { ERR_DO_NONE, ERR_DO_RETRY, ERR_DO_DEAD, ERR_DO_HOLD, ERR_DO_ALONE };

#define ERR_TEXT_MAX 1024
#define ERR_POINTER_MAX 256

struct err {
	enum err_class cls;
	char text[ERR_TEXT_MAX];       /* NUL-ended; cut at the end when too long */
	char pointer[ERR_POINTER_MAX]; /* JSON pointer or setting's name, or "" */
	long long pos;                 /* byte position in the input, or -1 */
};

#define ERR_INIT { ERR_OK, "", "", -1 }

void err_clear(struct err *);
/* Sets class and text, forgets pointer and position; always returns -1, so that `return err_set(...)` works. */
int err_set(struct err *, enum err_class, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with ": " and the text of errno added. */
int err_errno(struct err *, enum err_class, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* CONFIG where the path itself is wrong (not there, not a directory, no right), else SYSTEM; for what a setting names. */
enum err_class err_class_of_path(int errnum);
const char *err_name(enum err_class);
const char *err_what(enum err_class);
const char *err_todo(enum err_class);
enum err_disposition err_disposition(enum err_class);
/* -1 where the name is unknown */
int err_class_by_name(const char *name);

#endif
