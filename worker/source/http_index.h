/*
 * http_index.h - readers of HTTP index pages and manifests: bytes in pieces of any size in, entries out.
 *
 * One struct index_format for each form of listing; http.c feeds them from libcurl, the units and fuzz targets from
 * memory. A reader holds one entry at a time, never a page, trusts nothing, and says at the end whether the page was whole.
 */
#ifndef WORKER_SOURCE_HTTP_INDEX_H
#define WORKER_SOURCE_HTTP_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/record.h"

enum index_kind { INDEX_UNSAID, INDEX_FILE, INDEX_DIR, INDEX_OTHER };

struct index_entry {                /* all borrowed, until the sink returns */
	const char *name;           /* bytes as the page has them; may hold anything */
	size_t n;
	bool is_ref;                /* a reference (RFC 3986), percent-encoded; else a name as bytes, '/' between components */
	enum index_kind kind;       /* UNSAID: a reference with '/' at its end is a directory */
	int64_t size;               /* -1 unknown; where approximate, about so many bytes */
	bool approximate;           /* the page shows "1.2K" */
	int64_t mtime_ns;           /* TIME_UNKNOWN */
	enum mtime_precision precision;
	const char *etag, *content_type; /* "" unknown */
	unsigned status;            /* WebDAV: what the server says of this entry; 0 nothing */
};

struct index_sink {
	int (*entry)(void *arg, const struct index_entry *, struct err *); /* 0 go on; RUN_STOP (1) enough; -1 with err */
	int (*base)(void *arg, const char *ref, size_t n, struct err *);   /* <base href>; may be NULL */
	void *arg;
};

struct index_parser {               /* each format's own struct begins with it */
	const struct index_format *format;
	struct index_sink sink;
	bool heading;               /* the page calls itself an index */
	bool ended;                 /* its last mark (</html>, ']', </list>) was seen */
};

struct index_format {
	const char *name;           /* source{}.index_format of the events */
	struct index_parser *(*new)(void);
	/* 0, RUN_STOP, or -1: the sink's, PROTOCOL not of this form, LIMIT. After -1 nothing more may be fed. */
	int (*feed)(struct index_parser *, const char *p, size_t n, struct err *);
	/* framed: the protocol itself told where the page ends. 0, or -1: TRUNCATED, PROTOCOL, the sink's. */
	int (*finish)(struct index_parser *, bool framed, struct err *);
	void (*free)(struct index_parser *);
};

extern const struct index_format index_html, index_json, index_jsonl, index_xml, index_webdav, index_text;

#define INDEX_NAME_MAX 16400        /* bytes of a reference or name; more than a record's path may have */

struct index_parser *index_new(const struct index_format *, const struct index_sink *);
void index_free(struct index_parser *);
void index_entry_init(struct index_entry *);
/* Calls the sink; as its result, but a missing name is PROTOCOL. */
int index_emit(struct index_parser *, const struct index_entry *, struct err *);

/* http_index_text.c: dates and sizes as pages write them */

/* UTC; false where it is no date. s 60 is taken as 59. */
bool index_civil(int64_t year, int month, int day, int hour, int minute, int second, int64_t *ns);
/* The three forms of RFC 9110 section 5.6.7. */
bool index_http_date(const char *s, size_t n, int64_t *ns);
/* RFC 3339, HTTP date, seconds since 1970, or one of the forms below alone. */
bool index_any_date(const char *s, size_t n, int64_t *ns, enum mtime_precision *);
/* What stands beside a link: "01-Jan-2024 00:00   123", "2024-Jan-01 00:00:00 1.2K text/plain", "1/15/2020  3:45 PM  168",
 * "12 KiB 01/02/2006 03:04:05 PM +00:00". Sets time, precision, size and approximate of *en where they are there. */
void index_beside(const char *s, size_t n, struct index_entry *en);
/* "123", "1.2K", "12 KiB" as a whole. */
bool index_size(const char *s, size_t n, int64_t *size, bool *approximate);

#endif
