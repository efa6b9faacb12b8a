/*
 * http_index.c - fuzz target of the readers of HTTP index pages and manifests. The input is a page, read by each of them; its
 * last byte chooses the size of the pieces. What must hold: no crash, no entry without a name or longer than may be, the
 * same entries in pieces as in one, and an error has its reason.
 */
#include <stdint.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/http_index.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct sum { uint64_t hash, entries; };

static void
add(struct sum *s, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		s->hash = (s->hash ^ b[i]) * UINT64_C(0x100000001b3);
}

static int
entry(void *arg, const struct index_entry *en, struct err *e)
{
	struct sum *s = arg;

	(void)e;
	if (!en->n || en->n > INDEX_NAME_MAX || en->size < -1 || (unsigned)en->kind > INDEX_OTHER ||
	    (en->mtime_ns == TIME_UNKNOWN) != (en->precision == MTIME_NONE) || !en->etag || !en->content_type)
		BUG("an entry that breaks its own rules");
	add(s, en->name, en->n);
	add(s, &en->size, sizeof(en->size));
	add(s, &en->mtime_ns, sizeof(en->mtime_ns));
	s->entries++;
	return 0;
}

static int
base(void *arg, const char *ref, size_t n, struct err *e)
{
	(void)e;
	add(arg, ref, n);
	return 0;
}

static int
page(const struct index_format *f, const char *p, size_t n, size_t step, struct sum *s)
{
	struct index_sink sink = { entry, base, s };
	struct index_parser *x = index_new(f, &sink);
	struct err e = ERR_INIT;
	int rc = 0;

	memset(s, 0, sizeof(*s));
	for (size_t at = 0; at < n && !rc; at += step)
		rc = x->format->feed(x, p + at, n - at < step ? n - at : step, &e);
	if (!rc)
		rc = x->format->finish(x, true, &e);
	if (rc && (e.cls == ERR_OK || !*e.text))
		BUG("an error without its reason");
	index_free(x);
	return rc;
}

static void
check(const struct index_format *f, const char *p, size_t n, size_t step)
{
	struct sum whole, parts;
	int a = page(f, p, n, n, &whole), b = page(f, p, n, step, &parts);
	bool xml = f == &index_xml || f == &index_webdav;

	/* libxml2 hands on what stands before a fault sooner or later, by how much it has got. */
	if (!xml && (a != b || whole.hash != parts.hash || whole.entries != parts.entries))
		BUG("pieces change what a page says");
	if (!a && (b || whole.hash != parts.hash))
		BUG("a page that is whole at once is not in pieces");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct index_format *const formats[] = { &index_html, &index_json, &index_jsonl, &index_xml, &index_webdav, &index_text };

	/* Time goes with the square of this in the smallest pieces. */
	if (n > 8192)
		n = 8192;
	for (size_t i = 0; n && i < ARRAY_LEN(formats); i++)
		check(formats[i], (const char *)data, n, 1 + data[n - 1] % 64u);
	return 0;
}
