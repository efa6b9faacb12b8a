/*
 * http_url.c - fuzz target of addresses, references, the head of an answer and what stands beside links. The input is
 * lines: an address, a reference, then header lines. What must hold: no crash; an address that was read is read again as
 * the same; a path that was resolved has no dot segment; a decoded name holds no NUL.
 */
#include <stdint.h>
#include <string.h>

#include "common/xalloc.h"
#include "worker/source/http.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_path(const char *path)
{
	struct buf b = BUF_INIT;

	if (*path != '/')
		BUG("a path without its slash");
	for (const char *p = path; p; p = strchr(p, '/')) {
		size_t len = strcspn(++p, "/");

		if ((len == 1 && *p == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			BUG("a dot segment is left");
	}
	if (!http_path_decode(path, strlen(path), &b) && b.len && memchr(b.p, '\0', b.len))
		BUG("a decoded path holds a NUL");
	buf_release(&b);
}

static void
check_again(const struct http_url *u)
{
	struct buf a = BUF_INIT, b = BUF_INIT;
	struct err e = ERR_INIT;
	struct http_url v;

	check_path(u->path);
	http_url_text(u, true, &a);
	if (a.len > HTTP_URL_MAX || (u->query && strpbrk(u->query, " \t")) || strpbrk(u->path, " \t"))
		goto out;
	if (http_url_parse(buf_str(&a), a.len, &v, &e))
		BUG("an address is not one when it is read again");
	http_url_text(&v, true, &b);
	if (!http_url_same_origin(u, &v) || strcmp(buf_str(&a), buf_str(&b)))
		BUG("an address changes when it is read again");
	http_url_release(&v);
out:
	buf_release(&a);
	buf_release(&b);
}

static void
check_reference(const struct http_url *base, const char *ref, size_t n)
{
	struct http_url to;

	if (http_url_resolve(base, ref, n, &to) != HTTP_REF_OK)
		return;
	check_path(to.path);
	if (!memchr(ref, '\0', n))
		check_again(&to);
	http_url_release(&to);
}

static const char *
take_line(const char **p, const char *end, size_t *n)
{
	const char *line = *p, *stop = memchr(line, '\n', (size_t)(end - line));

	*n = (size_t)((stop ? stop : end) - line);
	*p = stop ? stop + 1 : end;
	return line;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *p = (const char *)data, *end = p + n, *line, *ref;
	struct index_entry en;
	struct http_answer a;
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct http_url u;
	size_t line_n, ref_n;

	if (!n)
		return 0;
	line = take_line(&p, end, &line_n);
	ref = take_line(&p, end, &ref_n);
	if (!http_url_parse(line, line_n, &u, &e)) {
		check_again(&u);
		check_reference(&u, ref, ref_n);
		http_url_release(&u);
	}
	index_entry_init(&en);
	index_beside(ref, ref_n, &en);
	if (en.size < -1)
		BUG("a size below nothing");
	http_answer_init(&a);
	while (p < end) {
		line = take_line(&p, end, &line_n);
		http_answer_line(&a, line, line_n);
	}
	if (a.link.len)
		http_link_next(a.link.p, a.link.len, &b);
	http_retry_after(&a, 0);
	http_status_class(a.status);
	http_answer_release(&a);
	buf_release(&b);
	return 0;
}
