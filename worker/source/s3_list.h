/*
 * s3_list.h - a listing of a bucket under way, shared by s3_list.c (the whole), s3_unit.c (one prefix, page after page) and
 * s3_entry.c (what stands in a page).
 */
#ifndef WORKER_SOURCE_S3_LIST_H
#define WORKER_SOURCE_S3_LIST_H

#include "worker/source/s3.h"

enum from { FROM_START, FROM_TOKEN, FROM_KEY };

struct unit {
	struct s3_request q;        /* first: so that its transfer is the unit */
	struct listing *l;
	struct unit *next;          /* in listing.units */
	struct tree_dir *dir;       /* where its entries go */
	char *prefix;               /* of all its keys; bytes without NUL */
	size_t prefix_n;
	bool delimited;             /* asks with a delimiter */
	bool splitter;              /* its common prefixes become units */
	bool may_split;             /* its first page decides whether it becomes one */
	bool root;                  /* what the job itself asked for */
	bool active;                /* a request is under way */
	int64_t not_before;         /* run_clock; while not active */
	enum from from;             /* of the next page */
	struct buf token, after, after_version;
	struct buf last_token, first, last; /* of the page before */
	unsigned tries, empty;
	uint64_t pages;
	struct buf decided;         /* version_at: the key whose version of that time was found */
	char region[65];            /* it was signed for */
	/* of the page in hand */
	bool behind;                /* a key came that had come before */
	struct buf page_first, component;
	uint64_t keys, components;
};

struct listing {
	struct conn *c;
	struct run *run;
	struct tree *tree;
	struct tree_dir *root;      /* NULL while none, and where directories are units */
	const char *only;           /* NULL, or the one key that is wanted */
	const char *delimiter;
	size_t delimiter_n;
	struct unit *units;
	unsigned n_units, n_active, width;
	struct strlist pending;     /* prefixes, last first */
	unsigned retries;
	uint64_t entries;           /* keys and prefixes seen */
	int64_t at_ns;              /* version_at; TIME_UNKNOWN: as it is now, or all versions */
	bool by_dirs, v1, versions, region_tried, page_seen;
	int stopped;                /* a callback's RUN_STOP or -1 */
	struct s3_page page;
	char endpoint[300];
	struct err *e;              /* for callbacks */
};

/* s3_unit.c */
int s3_compare(const void *a, size_t an, const void *b, size_t bn);
void s3_set_buf(struct buf *, const void *p, size_t n);
/* One more in l->units; freed with s3_unit_free, which takes its request back, too. */
/* Does it end with the listing's delimiter? */
bool s3_ends_folder(const struct listing *, const char *p, size_t n);
struct unit *s3_unit_new(struct listing *, struct tree_dir *, const char *prefix, size_t n);
void s3_unit_free(struct unit *);
/* Asks for its next page. Whatever follows, happens when that ends. 0 or -1. */
int s3_unit_ask(struct unit *, struct err *);

/* s3_entry.c: the page in the unit's hand; l->page has the account */
/* Reports nothing: counts keys and folders, and sees whether keys come again. */
enum s3_page_result s3_unit_survey(struct unit *, struct err *);
/* Reports all. STOPPED: l->stopped says how. */
enum s3_page_result s3_unit_tell(struct unit *, struct err *);

/* s3_list.c: as many requests as may be under way at once. 0 or -1. */
int s3_listing_fill(struct listing *, struct err *);

#endif
