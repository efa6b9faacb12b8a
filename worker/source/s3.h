/*
 * s3.h - what the files of the source s3 share: the requests of one connection (s3.c), its errors (s3_error.c), the walk
 * over pages (s3_list.c).
 */
#ifndef WORKER_SOURCE_S3_H
#define WORKER_SOURCE_S3_H

#include "common/source_s3.h"
#include "worker/source/curl.h"
#include "worker/source/s3_page.h"
#include "worker/source/s3_sign.h"
#include "worker/worker.h"

#define S3_BODY_MAX (8 << 20)       /* bytes of one answer: a page of 1,000 of the longest keys has 4 MiB */

/* s3_error.c */

struct s3_failure {
	enum err_class cls;
	bool again;                 /* worth asking again within the listing */
	bool region;                /* another region is right; the answer may name it */
	bool v1;                    /* the server may not know listings of type 2 */
	bool stale;                 /* the credentials are none any more */
};
/* What an error's code (bytes, may be empty) and the HTTP status mean. */
struct s3_failure s3_failure_of(const char *code, size_t n, long status);

/* s3.c: one request, from its parameters to its answer */

struct conn;
struct s3_request {
	struct transfer t;          /* first: libcurl's side knows only this */
	struct conn *conn;
	struct buf body;            /* of the answer */
	bool body_too_long;
	uint64_t retry_after_ms;    /* header of the answer; 0: none */
	char region[65];            /* x-amz-bucket-region, "" none */
	struct curl_slist *headers;
	struct buf query;           /* as signed */
};
/* Signs and starts a GET of the bucket with these parameters. t.ended was set. 0 or -1. */
int s3_request_start(struct s3_request *, struct s3_pair *, size_t n, struct err *);
/* Gives the handle back and forgets the answer. */
void s3_request_release(struct s3_request *);
/* "GET http://host:1/bucket?..." for messages. */
void s3_request_text(const struct s3_request *, char *out, size_t n);
struct curl_session *s3_session(struct conn *);
const struct s3_address *s3_where(const struct conn *);
struct run *s3_run(struct conn *);
/* Signs for another region from now on, and goes to its endpoint where that follows from the region. 0 or -1. */
int s3_set_region(struct conn *, const char *region, struct err *);

/* s3_list.c */

int s3_list(struct conn *, struct run *, struct err *);

#endif
