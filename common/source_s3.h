/*
 * source_s3.h - where a source of type s3 is: scheme, host and port from endpoint, region and bucket.
 */
#ifndef COMMON_SOURCE_S3_H
#define COMMON_SOURCE_S3_H

#include <stdbool.h>
#include <stdint.h>

#include "common/job.h"

struct s3_address {
	bool tls, path_style;
	bool amazon;                /* no endpoint was given: it follows from the region */
	uint16_t port;
	char service[256];          /* the endpoint's host, lower case, brackets around IPv6 */
	char host[256];             /* what requests go to: the same, or with the bucket before it */
	char base[256];             /* path before the bucket, "" or "/x" */
	char region[65];
};

/* region: NULL or "" for the job's, else one that the server named. 0, or -1 (INVALID_JOB) with the field in pointer. */
int s3_address(const struct source_conf *, const char *region, struct s3_address *, struct err *);
/* Letters, digits and hyphens, 1 to 64 of them. */
bool s3_region_ok(const char *);
/* Its form in URLs: "https://host", or with ":port" where that is not the scheme's. */
void s3_address_url(const struct s3_address *, char *out, size_t n);

#endif
