/*
 * http_index_xml.c - XML index pages of nginx, and what all XML formats share: libxml2's SAX2 push parser.
 *
 * Document type declarations end the parsing, so that there are no entities but the five and character codes; nothing is
 * fetched; libxml2's messages go nowhere. No tree is built.
 */
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/http_index_xml.h"
#include "common/banned.h"

#define CHUNK (1 << 16)         /* libxml2 counts in int */

void
xml_fail(struct xml *x, enum err_class cls, const char *text)
{
	if (x->rc)
		return;
	x->rc = err_set(x->e, cls, "%s", text);
	xmlStopParser(x->ctxt);
}

void
xml_emit(struct xml *x, const struct index_entry *en)
{
	if (x->rc)
		return;
	x->rc = index_emit(&x->pub, en, x->e);
	if (x->rc)
		xmlStopParser(x->ctxt);
}

void
xml_attr(const xmlChar **attrs, int n, const char *name, char *out, size_t size)
{
	*out = '\0';
	for (int i = 0; i < n; i++) {
		const char *const *a = (const char *const *)(attrs + (size_t)i * 5);
		size_t len = (size_t)(a[4] - a[3]);

		if (strcmp(a[0], name) || (a[2] && *a[2]))
			continue;
		if (len >= size)
			len = size - 1;
		memcpy(out, a[3], len);
		out[len] = '\0';
	}
}

/* ---- handlers ---------------------------------------------------------------------------------------------------------- */

static void
on_start(void *arg, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int nn, const xmlChar **ns, int na,
    int nd, const xmlChar **attrs)
{
	struct xml *x = arg;

	(void)prefix;
	(void)nn;
	(void)ns;
	(void)nd;
	x->depth++;
	x->keep_text = false;
	buf_clear(&x->text);
	x->cut = false;
	if (!x->rc)
		x->start(x, (const char *)name, uri ? (const char *)uri : "", attrs, na);
}

static void
on_end(void *arg, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
	struct xml *x = arg;

	(void)prefix;
	x->depth--;
	if (!x->rc)
		x->end(x, (const char *)name, uri ? (const char *)uri : "");
	x->keep_text = false;
	if (!x->depth)
		x->pub.ended = true;
}

static void
on_text(void *arg, const xmlChar *p, int n)
{
	struct xml *x = arg;
	size_t len = (size_t)n;

	if (!x->keep_text || n <= 0)
		return;
	if (len > INDEX_NAME_MAX - x->text.len) {
		len = INDEX_NAME_MAX - x->text.len;
		x->cut = true;
	}
	buf_add(&x->text, p, len);
}

static void
on_doctype(void *arg, const xmlChar *name, const xmlChar *id, const xmlChar *system)
{
	(void)name;
	(void)id;
	(void)system;
	xml_fail(arg, ERR_PROTOCOL, "the XML holds a document type declaration, which no index does");
}

static void
quiet(void *arg, const xmlError *error)
{
	(void)arg;
	(void)error;
}

static void
quiet_error(void *arg, xmlErrorPtr error)
{
	quiet(arg, error);
}

/* ---- life ----------------------------------------------------------------------------------------------------------------- */

void
xml_init(struct xml *x)
{
	xmlSAXHandler sax;

	memset(&sax, 0, sizeof(sax));
	sax.initialized = XML_SAX2_MAGIC;
	sax.startElementNs = on_start;
	sax.endElementNs = on_end;
	sax.characters = on_text;
	sax.cdataBlock = on_text;
	sax.ignorableWhitespace = on_text;
	sax.internalSubset = on_doctype;
	sax.serror = quiet_error;
	x->ctxt = xmlCreatePushParserCtxt(&sax, x, NULL, 0, NULL);
	if (!x->ctxt)
		BUG("libxml2 gave no parser");
	xmlCtxtUseOptions(x->ctxt, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
}

void
xml_release(struct xml *x)
{
	if (x->ctxt && x->ctxt->myDoc)
		xmlFreeDoc(x->ctxt->myDoc);
	xmlFreeParserCtxt(x->ctxt);
	buf_release(&x->text);
}

static int
broken(struct xml *x, struct err *e)
{
	const xmlError *why = xmlCtxtGetLastError(x->ctxt);

	return err_set(e, ERR_PROTOCOL, "the XML index is not well-formed at line %d (libxml2's error %d); index_format html or json may serve",
	    why ? why->line : 0, why ? why->code : 0);
}

int
xml_feed(struct index_parser *p, const char *s, size_t n, struct err *e)
{
	struct xml *x = (struct xml *)p;

	x->e = e;
	while (n && !x->rc) {
		size_t part = n < CHUNK ? n : CHUNK;
		int fault = xmlParseChunk(x->ctxt, s, (int)part, 0);

		if (!x->rc && (fault || !x->ctxt->wellFormed))
			return broken(x, e);
		s += part;
		n -= part;
	}
	return x->rc;
}

int
xml_finish(struct index_parser *p, bool framed, struct err *e)
{
	struct xml *x = (struct xml *)p;

	(void)framed;
	x->e = e;
	if (x->rc)
		return x->rc;
	if (!p->ended)
		return err_set(e, ERR_TRUNCATED, "the XML ends in its middle");
	if (xmlParseChunk(x->ctxt, NULL, 0, 1) || !x->ctxt->wellFormed)
		return x->rc ? x->rc : broken(x, e);
	return x->rc;
}

/* ---- nginx: <list><file mtime="..." size="1">name</file><directory mtime="...">name</directory></list> ------------------------ */

struct nginx {
	struct xml xml;
	struct index_entry en;
};

static void
nginx_start(struct xml *x, const char *name, const char *ns, const xmlChar **attrs, int n)
{
	struct nginx *g = (struct nginx *)x;
	char size[32], mtime[48];

	if (x->depth == 1) {
		if (strcmp(name, "list") || *ns)
			xml_fail(x, ERR_PERMANENT, "the XML is no index: it does not begin with <list>");
		else
			x->pub.heading = true;
		return;
	}
	if (x->depth != 2) {
		xml_fail(x, ERR_PROTOCOL, "the XML index holds elements inside of its entries");
		return;
	}
	index_entry_init(&g->en);
	g->en.kind = !strcmp(name, "file") ? INDEX_FILE : !strcmp(name, "directory") ? INDEX_DIR : INDEX_OTHER;
	xml_attr(attrs, n, "size", size, sizeof(size));
	xml_attr(attrs, n, "mtime", mtime, sizeof(mtime));
	if (*size && (units_int(size, &g->en.size) || g->en.size < 0))
		g->en.size = -1;
	index_any_date(mtime, strlen(mtime), &g->en.mtime_ns, &g->en.precision);
	x->keep_text = true;
}

static void
nginx_end(struct xml *x, const char *name, const char *ns)
{
	struct nginx *g = (struct nginx *)x;

	(void)name;
	(void)ns;
	if (x->depth != 1)
		return;
	g->en.name = x->text.p;
	g->en.n = x->text.len;
	xml_emit(x, &g->en);
}

static struct index_parser *
nginx_new(void)
{
	struct nginx *g = xcalloc(1, sizeof(*g));

	xml_init(&g->xml);
	g->xml.start = nginx_start;
	g->xml.end = nginx_end;
	return &g->xml.pub;
}

static void
nginx_free(struct index_parser *p)
{
	xml_release((struct xml *)p);
	free(p);
}

const struct index_format index_xml = {
	.name = "xml",
	.new = nginx_new,
	.feed = xml_feed,
	.finish = xml_finish,
	.free = nginx_free,
};
