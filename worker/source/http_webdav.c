/*
 * http_webdav.c - what a PROPFIND brings: RFC 4918's multistatus, one response element for each member of a collection.
 *
 * Asked for are five properties only. Those of a propstat whose status is not 200 are not there. The collection itself
 * is among the responses; http.c knows its address and leaves it out.
 */
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/http_index_xml.h"
#include "common/banned.h"

#define DAV_NS "DAV:"

struct props {
	bool collection, typed;         /* typed: it was told what it is */
	int64_t size, mtime_ns;
	char etag[256], content_type[128];
};

struct dav {
	struct xml xml;
	bool in_response, in_propstat, in_prop, in_type;
	bool responses;                 /* there were some */
	struct buf href;                /* a NUL behind each, where there are several */
	unsigned status;                /* of the response; 0 none */
	unsigned prop_status;
	struct props some, all;         /* of the propstat at hand; of those with status 200 */
};

static void
props_init(struct props *p)
{
	memset(p, 0, sizeof(*p));
	p->size = -1;
	p->mtime_ns = TIME_UNKNOWN;
}

static void
dav_start(struct xml *x, const char *name, const char *ns, const xmlChar **attrs, int n)
{
	struct dav *d = (struct dav *)x;

	(void)attrs;
	(void)n;
	if (x->depth == 1) {
		if (strcmp(name, "multistatus") || strcmp(ns, DAV_NS))
			xml_fail(x, ERR_PROTOCOL, "the answer to PROPFIND is no DAV: multistatus");
		x->pub.heading = true;
		return;
	}
	if (strcmp(ns, DAV_NS))
		return;
	if (!strcmp(name, "response")) {
		d->in_response = true;
		d->status = 0;
		buf_clear(&d->href);
		props_init(&d->all);
	} else if (!strcmp(name, "propstat")) {
		d->in_propstat = true;
		d->prop_status = 200;
		props_init(&d->some);
	} else if (!strcmp(name, "prop")) {
		d->in_prop = d->in_propstat;
	} else if (!strcmp(name, "resourcetype")) {
		d->in_type = d->in_prop;
		d->some.typed = d->some.typed || d->in_prop;
	} else if (!strcmp(name, "collection") && d->in_type) {
		d->some.collection = true;
	}
	x->keep_text = true;
}

/* "HTTP/1.1 404 Not Found" */
static unsigned
status_of(const struct buf *b)
{
	const char *p = b->len ? memchr(b->p, ' ', b->len) : NULL;
	size_t left = p ? b->len - (size_t)(p - b->p) : 0;
	unsigned v = 0;

	if (left < 4)
		return 0;
	for (int i = 1; i <= 3; i++) {
		if (p[i] < '0' || p[i] > '9')
			return 0;
		v = v * 10 + (unsigned)(p[i] - '0');
	}
	return v;
}

static void
keep(char *to, size_t size, const struct buf *b)
{
	size_t n = b->len < size ? b->len : 0;

	memcpy(to, n ? b->p : "", n);
	to[n] = '\0';
}

static void
prop_ends(struct dav *d, const char *name)
{
	struct buf *text = &d->xml.text;
	char s[32];
	int64_t v;

	if (!strcmp(name, "getcontentlength")) {
		keep(s, sizeof(s), text);
		if (!units_int(s, &v) && v >= 0)
			d->some.size = v;
	} else if (!strcmp(name, "getlastmodified")) {
		if (text->len && index_http_date(text->p, text->len, &v))
			d->some.mtime_ns = v;
	} else if (!strcmp(name, "getetag")) {
		keep(d->some.etag, sizeof(d->some.etag), text);
	} else if (!strcmp(name, "getcontenttype")) {
		keep(d->some.content_type, sizeof(d->some.content_type), text);
	}
}

static void
propstat_ends(struct dav *d)
{
	const struct props *p = &d->some;

	d->in_propstat = false;
	if (d->prop_status != 200)
		return;
	d->all.collection |= p->collection;
	d->all.typed |= p->typed;
	if (p->size >= 0)
		d->all.size = p->size;
	if (p->mtime_ns != TIME_UNKNOWN)
		d->all.mtime_ns = p->mtime_ns;
	if (*p->etag)
		memcpy(d->all.etag, p->etag, sizeof(p->etag));
	if (*p->content_type)
		memcpy(d->all.content_type, p->content_type, sizeof(p->content_type));
}

static void
response_ends(struct dav *d)
{
	struct index_entry en;

	d->in_response = false;
	index_entry_init(&en);
	en.name = d->href.p;
	en.n = d->href.len;
	en.is_ref = true;
	en.status = d->status;
	/* Where its type is refused, the '/' at its end tells. */
	en.kind = d->all.collection ? INDEX_DIR : d->all.typed ? INDEX_FILE : INDEX_UNSAID;
	en.size = d->all.size;
	en.mtime_ns = d->all.mtime_ns;
	en.precision = en.mtime_ns == TIME_UNKNOWN ? MTIME_NONE : MTIME_S;
	en.etag = d->all.etag;
	en.content_type = d->all.content_type;
	/* Several hrefs have one status in common. */
	for (const char *next; en.n && (next = memchr(en.name, '\0', en.n)); en.name = next + 1) {
		size_t rest = en.n - (size_t)(next + 1 - en.name);

		en.n = (size_t)(next - en.name);
		xml_emit(&d->xml, &en);
		en.n = rest;
	}
	xml_emit(&d->xml, &en);
}

static void
dav_end(struct xml *x, const char *name, const char *ns)
{
	struct dav *d = (struct dav *)x;

	if (strcmp(ns, DAV_NS))
		return;
	if (!strcmp(name, "multistatus")) {
		/* RFC 4918 section 9.1: of an empty collection there is its own. */
		if (!d->responses)
			xml_fail(x, ERR_PROTOCOL, "a multistatus without a response, not even of the directory itself");
	} else if (!strcmp(name, "response")) {
		d->responses = true;
		response_ends(d);
	} else if (!strcmp(name, "propstat")) {
		propstat_ends(d);
	} else if (!strcmp(name, "prop")) {
		d->in_prop = false;
	} else if (!strcmp(name, "resourcetype")) {
		d->in_type = false;
	} else if (!strcmp(name, "status")) {
		if (d->in_propstat)
			d->prop_status = status_of(&x->text);
		else
			d->status = status_of(&x->text);
	} else if (!strcmp(name, "href") && d->in_response && !d->in_propstat) {
		const char *p = x->text.p;
		size_t n = x->text.len;

		while (n && (unsigned char)*p <= ' ') {
			p++;
			n--;
		}
		while (n && (unsigned char)p[n - 1] <= ' ')
			n--;
		if (d->href.len && n)
			buf_putc(&d->href, '\0');
		if (d->href.len > 4 * INDEX_NAME_MAX)
			xml_fail(x, ERR_PROTOCOL, "a response of the multistatus has too many hrefs");
		else
			buf_add(&d->href, p, n);
	} else if (d->in_prop) {
		prop_ends(d, name);
	}
}

static struct index_parser *
dav_new(void)
{
	struct dav *d = xcalloc(1, sizeof(*d));

	xml_init(&d->xml);
	d->xml.start = dav_start;
	d->xml.end = dav_end;
	return &d->xml.pub;
}

static void
dav_free(struct index_parser *p)
{
	struct dav *d = (struct dav *)p;

	buf_release(&d->href);
	xml_release(&d->xml);
	free(d);
}

const struct index_format index_webdav = {
	.name = "webdav",
	.new = dav_new,
	.feed = xml_feed,
	.finish = xml_finish,
	.free = dav_free,
};
