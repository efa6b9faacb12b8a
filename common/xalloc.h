/*
 * xalloc.h - allocation that cannot fail for its caller, and BUG().
 *
 * On exhaustion the one handler that main.c set is called and must not return (it logs and exits 71,
 * EX_OSERR); a worker that dies so is restarted. Sizes that come from outside are bounded before they
 * get here.
 */
#ifndef COMMON_XALLOC_H
#define COMMON_XALLOC_H

#include <stddef.h>

void xalloc_set_handler(void (*handler)(size_t wanted));

/* The end of a process that has no memory. */
void xalloc_failed(size_t wanted) __attribute__((noreturn));

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
/* realloc with overflow check of n * size. */
void *xreallocarray(void *p, size_t n, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull, nonnull));
/* Copies n bytes and adds a NUL; the bytes may hold NULs. */
char *xmemdup0(const void *p, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* Our own inconsistency, never input: says where and aborts. */
#define BUG(msg) bug_at(__FILE__, __LINE__, (msg))
void bug_at(const char *file, int line, const char *msg) __attribute__((noreturn));

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
