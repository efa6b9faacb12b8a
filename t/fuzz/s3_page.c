/*
 * s3_page.c - fuzz target of the pages of S3. The input is a whole answer. What must hold: no crash; every key handed out
 * has bytes; a page that is whole says the same when it is read again; one that was refused or broken says why; what is
 * encoded and decoded again is the same.
 */
#include <stdint.h>
#include <string.h>

#include "worker/source/s3_page.h"
#include "worker/source/s3_sign.h"
#include "common/xalloc.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
	uint64_t objects, prefixes, hash;
};

static void
mix(struct seen *s, const char *p, size_t n)
{
	if (!n)
		BUG("a name without bytes");
	for (size_t i = 0; i < n; i++)
		s->hash = (s->hash ^ (unsigned char)p[i]) * UINT64_C(1099511628211);
}

static int
on_object(void *arg, const struct s3_object *o)
{
	struct seen *s = arg;

	if (o->size < -1)
		BUG("a negative size");
	s->objects++;
	mix(s, o->key, o->key_n);
	return 0;
}

static int
on_prefix(void *arg, const char *p, size_t n)
{
	struct seen *s = arg;

	s->prefixes++;
	mix(s, p, n);
	return 0;
}

static enum s3_page_result
read_page(struct s3_page *p, struct seen *s, const uint8_t *data, size_t n)
{
	struct err e = ERR_INIT;
	enum s3_page_result r;

	memset(s, 0, sizeof(*s));
	p->object = on_object;
	p->prefix = on_prefix;
	p->arg = s;
	r = s3_page_parse(p, (const char *)data, n, &e);
	if ((r == S3_PAGE_WHOLE) != (e.cls == ERR_OK) || r == S3_PAGE_STOPPED)
		BUG("a result without its reason");
	if (s->objects != p->objects || s->prefixes != p->prefixes)
		BUG("the counts are wrong");
	return r;
}

static void
check_coding(const uint8_t *data, size_t n)
{
	struct buf coded = BUF_INIT, plain = BUF_INIT;

	s3_encode(&coded, data, n, false);
	if (s3_decode(&plain, coded.p, coded.len) || plain.len != n || (n && memcmp(plain.p, data, n)))
		BUG("what is encoded is not what was decoded");
	buf_release(&coded);
	buf_release(&plain);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct s3_page p;
	struct seen first, second;

	s3_page_init(&p);
	if (read_page(&p, &first, data, n) != read_page(&p, &second, data, n) || memcmp(&first, &second, sizeof(first)))
		BUG("two answers for one page");
	s3_page_release(&p);
	check_coding(data, n);
	return 0;
}
