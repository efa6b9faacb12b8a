/*
 * s3_page.h - one answer of S3: a page of a listing, or an error, out of its XML.
 */
#ifndef WORKER_SOURCE_S3_PAGE_H
#define WORKER_SOURCE_S3_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

#define S3_TEXT_MAX 49152           /* bytes of one element's text: a path of RECORD_PATH_MAX, percent-encoded */

enum s3_text {                      /* the texts of one object, and at the end those of a page */
	S3_KEY, S3_LAST_MODIFIED, S3_ETAG, S3_SIZE, S3_STORAGE_CLASS, S3_VERSION_ID, S3_IS_LATEST,
	S3_CHECKSUM_ALGORITHM, S3_CHECKSUM_TYPE, S3_OWNER_ID, S3_OWNER_NAME, S3_RESTORING, S3_RESTORE_EXPIRY,
	S3_PREFIX,
	S3_OBJECT_TEXTS,
	S3_TRUNCATED = S3_OBJECT_TEXTS, S3_NEXT_TOKEN, S3_NEXT_MARKER, S3_NEXT_KEY_MARKER, S3_NEXT_VERSION, S3_ENCODING,
	S3_CODE, S3_MESSAGE, S3_REGION, S3_ENDPOINT, S3_REQUEST_ID,
	S3_TEXTS
};

struct s3_object {                  /* borrowed from the page, until the callback returns */
	const char *key;            /* decoded bytes */
	size_t key_n;
	int64_t size;               /* -1: not told */
	int64_t mtime_ns;           /* TIME_UNKNOWN: not told */
	bool delete_marker;
	const struct buf *text;     /* S3_OBJECT_TEXTS of them as they came; len 0: not told */
};

enum s3_root { S3_ROOT_NONE, S3_ROOT_LIST, S3_ROOT_VERSIONS, S3_ROOT_ERROR, S3_ROOT_OTHER };

struct s3_page {
	/* 0, or nonzero: the page is given up, s3_page_parse returns S3_PAGE_STOPPED. Either may be NULL. */
	int (*object)(void *arg, const struct s3_object *);
	int (*prefix)(void *arg, const char *p, size_t n);
	void *arg;

	enum s3_root root;
	bool encoded;               /* keys came percent-encoded */
	bool truncated;             /* IsTruncated said true */
	bool truncated_told;        /* IsTruncated was there */
	uint64_t objects, prefixes; /* handed out */
	struct buf last_key;        /* greatest key or prefix handed out, decoded */
	struct buf last_version;    /* its version, "" where it has none */
	struct buf text[S3_TEXTS];  /* decoded where S3 encodes them: NEXT_MARKER, NEXT_KEY_MARKER */
};

enum s3_page_result {
	S3_PAGE_WHOLE,              /* well-formed to its end */
	S3_PAGE_BROKEN,             /* not well-formed; what was handed out before is right */
	S3_PAGE_REFUSED,            /* never to be believed: a DTD, too deep, a text too long, a value that is none; err says */
	S3_PAGE_STOPPED             /* by a callback */
};

void s3_page_init(struct s3_page *);
void s3_page_release(struct s3_page *);
/* Forgets the last page; keeps callbacks and memory. */
void s3_page_clear(struct s3_page *);
/* The whole body. err is set for BROKEN and REFUSED (PROTOCOL). */
enum s3_page_result s3_page_parse(struct s3_page *, const char *body, size_t n, struct err *);
/* Appends the bytes that a percent-encoded text stands for ('+' is a space); -1 where it is none. */
int s3_decode(struct buf *, const char *p, size_t n);

#endif
