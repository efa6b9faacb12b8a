/*
 * http_query.h - queries of links that are files of their own (http, query_links: keep): what is asked, what is shown.
 *
 * The worker makes names of them, the master addresses; both by these functions, so that the two agree.
 */
#ifndef COMMON_HTTP_QUERY_H
#define COMMON_HTTP_QUERY_H

#include <stddef.h>

#include "common/buf.h"

/* Appends the query as a URL may hold it: what a query may not is percent-encoded, codes that stand there are kept. */
void http_query_clean(struct buf *, const char *q, size_t n);

enum http_query_hidden {
	HTTP_QUERY_WHOLE,           /* nothing was left out */
	HTTP_QUERY_SIGNATURE,       /* the parameters of a signed address, which are others each time it is signed */
	HTTP_QUERY_SECRET,          /* others whose names are those of secrets: what told two files apart may be gone */
};
/* Appends what of a clean query events may show. Parameters keep their order; '&' at the end go. */
enum http_query_hidden http_query_shown(struct buf *, const char *q, size_t n);
/* Appends what stands for it behind the path in a file's name: '?' and the query, its '/' as %2F; of an empty one nothing. */
void http_query_name(struct buf *, const char *q, size_t n);

#endif
