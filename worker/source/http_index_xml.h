/*
 * http_index_xml.h - libxml2's push parser as nginx's lists and WebDAV's multistatus need it: SAX, no DTD, no network.
 */
#ifndef WORKER_SOURCE_HTTP_INDEX_XML_H
#define WORKER_SOURCE_HTTP_INDEX_XML_H

#include <libxml/parser.h>

#include "worker/source/http_index.h"

struct xml {                            /* begins the struct of each XML format */
	struct index_parser pub;
	xmlParserCtxtPtr ctxt;
	unsigned depth;                 /* open elements */
	int rc;                         /* of the sink or a check: what feed shall return */
	struct err *e;                  /* of the call at hand */
	struct buf text;                /* of the element at hand */
	bool keep_text, cut;            /* cut: text was longer than INDEX_NAME_MAX */
	/* ns: "" none. attrs: libxml2's array of five pointers each */
	void (*start)(struct xml *, const char *name, const char *ns, const xmlChar **attrs, int n);
	void (*end)(struct xml *, const char *name, const char *ns);
};

void xml_init(struct xml *);
void xml_release(struct xml *);
int xml_feed(struct index_parser *, const char *p, size_t n, struct err *);
int xml_finish(struct index_parser *, bool framed, struct err *);
/* From a handler: ends the parsing with -1 and this error. */
void xml_fail(struct xml *, enum err_class, const char *text);
/* From a handler: the entry to the sink, unless the parsing has ended. */
void xml_emit(struct xml *, const struct index_entry *);
/* The attribute's value into out (cut when too long); "" where it is not there. */
void xml_attr(const xmlChar **attrs, int n, const char *name, char *out, size_t size);

#endif
