/*
 * http.h - what the http_*.c files show one another beside the readers of http_index.h.
 */
#ifndef WORKER_SOURCE_HTTP_H
#define WORKER_SOURCE_HTTP_H

#include "common/http_query.h"
#include "common/http_url.h"
#include "worker/source/curl.h"
#include "worker/source/http_index.h"

/* http_answer.c: the head of an answer, and what its status means */

#define HTTP_TEXT_MAX 1024

struct http_answer {
	unsigned status;
	bool framed;                    /* a length, chunks or HTTP/2 tell where the body ends, and it is not compressed */
	bool compressed;
	int64_t length;                 /* Content-Length; -1 none */
	int64_t date_ns, modified_ns;   /* Date, Last-Modified; TIME_UNKNOWN */
	/* as they came; "" none */
	char etag[256], modified[64], type[256], encoding[64], disposition[HTTP_TEXT_MAX], ranges[64], cache[256], server[256];
	char retry[64], allow[256];
	char location[4096];
	struct buf link;                /* all Link fields, joined by commas */
};

void http_answer_init(struct http_answer *);
void http_answer_release(struct http_answer *);
/* One line of the head, with or without its end; a status line begins a new head. */
void http_answer_line(struct http_answer *, const char *p, size_t n);
/* RFC 8288: the target of rel=next in the Link fields into out; false where there is none. */
bool http_link_next(const char *p, size_t n, struct buf *out);
/* Retry-After in ms (seconds, or a date against Date or now); 0 none. At most a day. */
uint64_t http_retry_after(const struct http_answer *, int64_t now_ns);
/* What a status other than the expected one means for a job. */
enum err_class http_status_class(unsigned status);
/* "403 Forbidden"; words are RFC 9110's, "" for others */
const char *http_status_words(unsigned status);
/* What to do about it, or "". */
const char *http_status_advice(unsigned status);

/* http_request.c: one request with its redirects */

struct conn {
	struct curl_session *session;
	struct run *run;
	bool fresh;                     /* opened for the task that comes first */
	bool broken;                    /* the last listing failed */
	struct http_url origin;         /* the job's address: origin, path and query */
	int wanted;                     /* HTTP_FORMAT_... */
	int auth;                       /* HTTP_AUTH_..., never AUTO */
	struct http_listing *listings;  /* all that are open */
	struct http_request *requests;  /* all under way */
	unsigned pages, heads;          /* of them */
	unsigned limit, most, head_most; /* requests at once: now, at most, of HEAD */
	int64_t resume_ns;              /* nothing new is asked before */
	struct tree *tree;
	struct http_head *first, **last; /* HEADs that wait */
	size_t queued, queued_bytes;
	uint64_t answered, gone;        /* HEADs: those that came back, and those of them that found nothing */
	struct buf name, text, url;     /* of the entry at hand */
	struct buf query, shown;        /* query_links: that of its link, whole and as events show it; empty: none */
	size_t path_n;                  /* with a query: so much of name is path */
	enum http_query_hidden hidden;
	uint64_t entries;               /* that indexes showed, for max_entries */
	bool is_file;                   /* url names one file, as the first question showed */
	CURLSH *jar;                    /* keep_cookies: the cookies of this task; NULL none */
	size_t cookie_bytes;            /* that the server has set in it */
	struct buf token;               /* oauth2: kept with the connection; empty none */
	int64_t token_until;            /* run_clock; 0: it is for this task alone */
	unsigned token_id;              /* one more with each */
	bool token_kept, token_worked;  /* it is of a task before; the server took it in this one */
	bool renewing;                  /* another one is being asked for: nothing new is started */
	unsigned useless;               /* new tokens that were refused as the old ones */
	bool beside;                    /* it names a page without '/' at its end: files are beside it, not below */
	struct http_move *moves;        /* directories that redirects found elsewhere, and that have others below */
	unsigned n_moves;
};

enum http_what { HTTP_PROBE, HTTP_PAGE, HTTP_HEAD, HTTP_TOKEN };

struct http_request {
	struct transfer t;              /* first */
	struct conn *c;
	enum http_what what;
	struct http_request *next, **at;
	struct http_url url;            /* where it goes now */
	unsigned redirects;
	bool foreign;                   /* another origin than the job's: no credentials */
	bool post;                      /* PAGE: by POST, until a redirect makes GET of it */
	struct curl_slist *headers;
	struct http_answer answer;
	uint64_t body_n;
	bool enough;                    /* of a body that nobody reads */
	bool paused;
	int rc;                         /* of the body's reader: RUN_STOP, -1 with why */
	struct err why;
	struct index_parser *parser;
	struct http_listing *listing;   /* PAGE */
	struct http_head *head;         /* HEAD */
	/* PAGE: a piece of the body; 0, RUN_STOP, -1. The answer is the expected one. */
	int (*body)(struct http_request *, const char *p, size_t n, struct err *);
	/* PAGE: may it go on? false: the transfer is paused until http_request_resume */
	bool (*ready)(struct http_request *);
	/* Called once, when redirects are behind; the request is freed behind it. As transfer.ended. */
	int (*done)(struct http_request *, struct err *);
	unsigned expected;              /* status of a body worth reading; 0 any 2xx */
	bool again;                     /* a redirect is followed */
	bool counted;                   /* in pages or heads */
	unsigned token_id;              /* oauth2: sent with this one */
	bool parked, retried;           /* it waits for a new one; it was sent again with one */
	struct buf form, login, answered; /* TOKEN: what is sent, and what came; secrets */
};

struct http_request *http_request_new(struct conn *, enum http_what, const struct http_url *);
/* Sends it, or sends it to where its url leads now. 0 or -1. */
int http_request_send(struct http_request *, struct err *);
/* Frees it, also while it is under way. */
void http_request_free(struct http_request *);
void http_request_resume(struct http_request *);
/* "GET https://host/path", escaped, for errors */
const char *http_request_text(const struct http_request *, struct buf *);
/* What its status means: always -1. */
int http_request_refused(const struct http_request *, struct err *);

/* http_auth.c: tokens of OAuth 2 */

/* Before the task's first request: there is a token, or there is no need of one. 0, RUN_STOP or -1. */
int http_auth_begin(struct conn *, struct err *);
/* A request was answered, redirects aside. *again: it has been sent again, or will be when a new token is there. 0 or -1. */
int http_auth_again(struct http_request *, bool *again, struct err *);
void http_auth_forget(struct conn *);

/* http_names.c: the names a page has shown, as 128 bits of hash each */

struct http_names { uint64_t (*v)[2]; size_t n, cap; };
/* True where it was there already. */
bool http_names_add(struct http_names *, const void *p, size_t n);
void http_names_release(struct http_names *);

struct http_listing {                   /* one directory; lives until its HEADs are back */
	struct http_listing *next, **at;
	struct conn *c;
	struct tree_dir *dir;
	struct http_url base;           /* what references are relative to */
	struct http_url page;           /* where the page at hand came from */
	bool based;                     /* <base> was seen */
	struct buf path;                /* page's path as bytes, up to and with its last '/' */
	struct buf url;                 /* what the addresses of its files begin with; empty until one is written */
	const struct index_format *format;
	unsigned pending;               /* HEADs queued or under way */
	unsigned pages;
	bool read;                      /* the last page is read */
	bool proved;                    /* HTML: it is an index */
	bool moved, move_kept;          /* it is elsewhere, by a redirect: what it shows is there, too; c->moves knows of it */
	bool moved_post;                /* and was asked for by POST there */
	struct http_url place;          /* moved: where; its path ends with '/' */
	struct http_names names, visited;
	char server[64];
};

/* http_moved.c: directories that a redirect found elsewhere */

/* The first page of a directory came: is it from where the directory's path leads? */
void http_moved_page(struct http_listing *, const struct http_request *);
/* A directory is shown by it: whoever asks for that will know where it is. 0 or -1. */
int http_moved_keep(struct http_listing *, struct err *);
/* Where a directory below the root is: address and, by *post, the method; the caller releases it. True: not at its own path. */
bool http_moved_dir(const struct conn *, const struct tree_dir *, struct http_url *, bool *post);
/* The listing is that of a directory that http_moved_dir found at u. */
void http_moved_under(struct http_listing *, const struct http_url *u);
/* The path of a name that the listing shows, appended to b. */
void http_moved_name(const struct http_listing *, const char *name, size_t n, struct buf *);
/* Sends a new request, that for a next page, too: without credentials where that is not to the job's own origin. 0 or -1. */
int http_moved_send(struct http_request *, struct err *);
void http_moved_forget(struct conn *);

struct http_head {                      /* a file whose details are asked for */
	struct http_head *next;
	struct http_listing *listing;
	int64_t size, mtime_ns;
	bool approximate;
	enum mtime_precision precision;
	unsigned tries;
	bool open;              /* no_slash: a file or a directory, as the answer shows */
	size_t n;
	size_t path_n, query_n; /* of name what is its path; behind name: the query to ask with */
	char name[];
};

/* http_entry.c: from what a page shows to the tree */

/* The address is that of a file with names. */
bool http_is_manifest(const struct conn *);
/* Names are paths below the address, and no directory is entered. */
bool http_is_flat(const struct conn *);
/* The sink of the readers; arg: the request of the page. */
int http_on_entry(void *arg, const struct index_entry *, struct err *);
int http_on_base(void *arg, const char *ref, size_t n, struct err *);
size_t http_head_cost(const struct http_head *);
int http_unreadable(struct http_listing *, const char *name, size_t n, const char *why, struct err *);
/* By the answer to HEAD where it tells, else by the index. As tree_report. */
/* The entry is a directory after all; it was counted as skipped. RUN_GO_ON, RUN_STOP, RUN_FAILED. */
int http_report_dir(struct http_listing *, const struct http_head *, struct err *);
int http_report_head(struct http_request *, struct http_head *, struct err *);

#endif
