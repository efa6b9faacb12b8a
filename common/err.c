/*
 * err.c - error classes and texts; see err.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct {
	const char *name;
	enum err_disposition disposition;
	const char *what;
	const char *todo;
} classes[ERR__MAX] = {
#define ERR(id, name, disposition, what, todo)                                                     \
	[ERR_##id] = { name, ERR_DO_##disposition, what, todo },
#include "common/errors.def"
#undef ERR
};

void
err_clear(struct err *e)
{
	e->cls = ERR_OK;
	e->text[0] = e->pointer[0] = '\0';
	e->pos = -1;
}

static void
set(struct err *e, enum err_class cls, const char *fmt, va_list ap)
{
	err_clear(e);
	e->cls = cls;
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
}

int
err_set(struct err *e, enum err_class cls, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set(e, cls, fmt, ap);
	va_end(ap);
	return -1;
}

int
err_errno(struct err *e, enum err_class cls, const char *fmt, ...)
{
	int saved = errno;
	size_t n;
	va_list ap;

	va_start(ap, fmt);
	set(e, cls, fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof(e->text) - n, ": %s", strerror(saved));
	return -1;
}

enum err_class
err_class_of_path(int errnum)
{
	switch (errnum) {
	case EACCES: case EPERM: case ENOENT: case ENOTDIR: case EISDIR: case EROFS: case ELOOP: case ENAMETOOLONG:
		return ERR_CONFIG;
	default:
		return ERR_SYSTEM;
	}
}

const char *
err_name(enum err_class c)
{
	return classes[c].name;
}

const char *
err_what(enum err_class c)
{
	return classes[c].what;
}

const char *
err_todo(enum err_class c)
{
	return classes[c].todo;
}

enum err_disposition
err_disposition(enum err_class c)
{
	return classes[c].disposition;
}

int
err_class_by_name(const char *name)
{
	for (int i = 0; i < ERR__MAX; i++)
		if (!strcmp(classes[i].name, name))
			return i;
	return -1;
}
