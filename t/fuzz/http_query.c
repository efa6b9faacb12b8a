/*
 * http_query.c - fuzz target of queries of links (query_links: keep) and of the spelling of signed addresses. What must hold:
 * what is clean or spelled stays so, what is shown holds nothing more that would be left out, a name holds no '/'.
 */
#include <stdint.h>
#include <string.h>

#include "common/http_query.h"
#include "common/xalloc.h"
#include "worker/source/http_sign.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool
same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && (!a->len || !memcmp(a->p, b->p, a->len));
}

static void
query(const char *p, size_t n)
{
	struct buf clean = BUF_INIT, again = BUF_INIT, shown = BUF_INIT;

	http_query_clean(&clean, p, n);
	http_query_clean(&again, clean.p, clean.len);
	if (!same(&clean, &again))
		BUG("cleaning what is clean changes it");
	for (size_t i = 0; i < clean.len; i++)
		if (clean.p[i] <= ' ' || clean.p[i] > '~' || strchr("\"\\<>#", clean.p[i]))
			BUG("a clean query holds what no address may");
	http_query_shown(&shown, clean.p, clean.len);
	buf_clear(&again);
	if (http_query_shown(&again, shown.p, shown.len) != HTTP_QUERY_WHOLE || !same(&shown, &again))
		BUG("what is shown holds what is not to be");
	buf_clear(&again);
	http_query_name(&again, shown.p, shown.len);
	if (again.len && memchr(again.p, '/', again.len))
		BUG("a name with a slash");
	buf_release(&clean);
	buf_release(&again);
	buf_release(&shown);
}

static void
spelling(const char *p, size_t n)
{
	struct buf a = BUF_INIT, b = BUF_INIT;
	struct http_url u, once, twice;
	struct err e = ERR_INIT;

	buf_puts(&a, "http://h/");
	buf_add(&a, p, n);
	if (!http_url_parse(a.p, a.len, &u, &e)) {
		buf_clear(&a);
		http_sign_url(&u, &once);
		http_sign_url(&once, &twice);
		http_url_text(&once, true, &a);
		http_url_text(&twice, true, &b);
		if (!same(&a, &b))
			BUG("spelling what is spelled changes it");
		http_url_release(&u);
		http_url_release(&once);
		http_url_release(&twice);
	}
	buf_release(&a);
	buf_release(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	query((const char *)data, n);
	spelling((const char *)data, n);
	return 0;
}
