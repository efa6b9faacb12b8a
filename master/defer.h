/*
 * defer.h - what the files of the deferred topic share; jobs.c includes it for a job that was read back.
 *
 * A deferred record: the key and the bytes of the job's message, untouched, and headers (struct deferral) that say where
 * the message first stood, what has happened to the job and until when it waits. A mark: a record of the same partition
 * that says which deferred records before it are done. Both are read back as hostile input.
 */
#ifndef MASTER_DEFER_H
#define MASTER_DEFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "master/master.h"

/* ---- defer_format.c ----------------------------------------------------------------------------------------------- */

#define DEFER_HEADERS_MAX 32
#define DEFER_HEADER_BYTES_MAX 16384
#define DEFER_TOPIC_MAX 249
#define DEFER_COUNT_MAX 1000000
#define DEFER_KEY 24                   /* bytes of the key that a partition's marks are signed with */
#define DEFER_META_TEXT 35             /* "D1", base64 of the key, NUL */
#define DEFER_MARK_MAX 2000            /* offsets in one mark */
#define DEFER_ENDED_MAX 10000          /* ended jobs that are remembered, of each kind */

struct defer_task { uint32_t attempt, charged, crashes; bool streamed; };

struct deferral {
	char topic[DEFER_TOPIC_MAX + 1]; /* where the message first stood */
	int32_t partition;
	int64_t offset;
	int64_t due_ns;
	int64_t received_ns;            /* when it was first taken */
	int64_t started_ns;             /* of its first attempt; 0: none yet */
	enum defer_why why;
	uint32_t count;                 /* how often it was deferred, this time included */
	size_t n_tasks;                 /* sources of the job */
	struct defer_task task[JOB_SOURCES_MAX];
	char job_id[256], org_id[129];
	char traceparent[56];           /* "" none */
	char error[33];                 /* class of the last attempt's error; "" none */
};

const char *defer_why_name(enum defer_why);
/* Adds the headers; the record was begun with room for DEFER_HEADER_BYTES_MAX bytes of them. */
void deferral_write(const struct deferral *, struct out_record *);
/* 0, or -1 with ERR_INVALID_JOB: not a record that a poller has written. n over DEFER_HEADERS_MAX is one. */
int deferral_read(const struct out_header *, size_t n, struct deferral *, struct err *);

/* A fresh key; and the commit's metadata that carries it. */
void defer_key_make(uint8_t key[DEFER_KEY]);
void defer_meta_write(const uint8_t key[DEFER_KEY], char text[DEFER_META_TEXT]);
/* False: not such a metadata. */
bool defer_meta_read(const char *text, size_t n, uint8_t key[DEFER_KEY]);

struct defer_origin { uint64_t topic; int64_t offset; int32_t partition; uint8_t digest[16]; };

struct defer_done {                     /* a record that is done, of a mark */
	int64_t offset;
	bool ended;                     /* its job has ended or was deferred anew; else the record was of no use */
};

/* Does the record claim to be a mark? */
bool defer_mark_is(const struct out_header *, size_t n);
/* What is done, 1 to DEFER_MARK_MAX, becomes a whole record for the partition. */
void defer_mark_write(const uint8_t key[DEFER_KEY], int32_t partition, const struct defer_done *, size_t n, struct out_record *);
/* What a mark that was signed with this key for this partition says: their number, or -1. */
int defer_mark_read(const uint8_t key[DEFER_KEY], int32_t partition, const struct out_header *, size_t n_headers,
    const void *value, size_t n, struct defer_done out[DEFER_MARK_MAX]);

/* An operator's wish that the job of this origin be cancelled, as a record of the partition that it waits in: a mark, too. */
void defer_cancel_write(const uint8_t key[DEFER_KEY], int32_t partition, const struct defer_origin *, struct out_record *);
/* False: no such record, or not signed with this key for this partition. */
bool defer_cancel_read(const uint8_t key[DEFER_KEY], int32_t partition, const struct out_header *, size_t n_headers,
    const void *value, size_t n, struct defer_origin *);

/* ---- defer_store.c: the records' bytes, in an unlinked file --------------------------------------------------------- */

struct defer_store;
struct defer_slot { int64_t at; uint32_t n; };

struct defer_store *defer_store_new(int fd);    /* takes the descriptor of an empty file that nobody else has */
void defer_store_free(struct defer_store *);
/* Keeps n bytes; 0, or -1 with ERR_SPOOL_FULL (max bytes reached, or the disk is full) or ERR_SYSTEM. */
int defer_store_put(struct defer_store *, int64_t max, const void *p, size_t n, struct defer_slot *, struct err *);
/* Replaces b's content by the slot's; -1 with ERR_SYSTEM: it cannot be read, or is not what was put. */
int defer_store_get(const struct defer_store *, struct defer_slot, struct buf *b, struct err *);
void defer_store_drop(struct defer_store *, struct defer_slot);
int64_t defer_store_bytes(const struct defer_store *); /* of the file */

/* ---- defer_index.c: which deferred records there are, and which is due next ------------------------------------------- */

enum defer_state {
	DEFER_WAITING,
	DEFER_IN_HAND,                  /* released: a job of jobs.c */
	DEFER_SHADOW,                   /* the same as another one that is in hand: ends with it */
	DEFER_ENDED,                    /* its job has ended: remembered by its origin, without its bytes */
};

struct defer_line;

struct defer_entry {                    /* one record that is not done, or remembered */
	struct defer_line *line;        /* its partition's */
	int64_t offset;
	int64_t due_ns;
	int64_t written_ms;             /* Kafka's time of the record */
	int64_t rewritten_ms;           /* loop time when it was sent again: its copy is awaited; 0: it was not */
	struct defer_origin origin;
	uint64_t job_hash;
	struct defer_slot slot;
	uint32_t count;
	size_t heap;                    /* place there + 1; 0: not in it */
	enum defer_state state;
	bool cancel;                    /* an operator's wish, and it stands in Kafka: it ends when released */
	bool wished;                    /* the wish is on its way there */
	bool quota;                     /* waits for one of its tenant's */
	bool holds;                     /* ended, and its line still begins with it at the latest */
	int64_t ended_ms;               /* loop time */
	struct defer_tenant *early;     /* may be released before it is due; NULL: it may not */
	union {
		TAILQ_ENTRY(defer_entry) next_early; /* while it is in the heap */
		TAILQ_ENTRY(defer_entry) next_ended;
	};
	struct defer_entry *same;       /* next of the origins' bucket */
	struct defer_entry *shadow;     /* that end with this one */
};

struct defer_row { int64_t offset; struct defer_entry *e; };

struct defer_line {                     /* one partition's, by offset; zeroed before its first use */
	struct defer_row *row;          /* e NULL: done */
	size_t head, n, cap;
	size_t live;
};

TAILQ_HEAD(defer_entries, defer_entry);
struct defer_ended { struct defer_entries list; size_t n; };   /* those that are remembered, the oldest first */

struct defer_tenant {                   /* one with entries that may come early */
	char *name;
	size_t n;                       /* all of them */
	struct defer_entries waiting;   /* those in the heap, in the order in which they began to wait */
	UT_hash_handle hh;
};

struct defer_index {                    /* zeroed before its first use */
	struct defer_tenant *tenants;
	struct defer_entry **heap;
	size_t n_heap, heap_cap;
	struct defer_entry **bucket;
	size_t n_buckets, n;
	struct defer_ended ended[2];    /* [1]: those that hold their lines */
};

void defer_index_release(struct defer_index *);
/* The next record of the line: higher than all before it. Owned by the index; not in the heap yet. */
struct defer_entry *defer_add(struct defer_index *, struct defer_line *, int64_t offset, const struct defer_origin *);
/* Its job has ended, and is remembered for now; holds: so is its place, and the line goes on to begin with it. Also of one that
 * is remembered already. True: there were too many, and the oldest one of them is forgotten. */
bool defer_end(struct defer_index *, struct defer_entry *, bool holds);
/* Of both kinds. */
size_t defer_ended(const struct defer_index *);
/* Done: forgotten. */
void defer_remove(struct defer_index *, struct defer_entry *);
void defer_line_clear(struct defer_index *, struct defer_line *);
struct defer_entry *defer_find(const struct defer_line *, int64_t offset);
/* Of this origin and these bytes; line NULL: of any partition. */
struct defer_entry *defer_find_origin(const struct defer_index *, const struct defer_line *, const struct defer_origin *);
/* The lowest one that is not done, or is remembered together with its place; or NULL. */
struct defer_entry *defer_line_first(const struct defer_line *);
/* The heap: who waits for its time. */
void defer_wait(struct defer_index *, struct defer_entry *);
void defer_unwait(struct defer_index *, struct defer_entry *);
struct defer_entry *defer_next(const struct defer_index *);
/* It waits for room of its tenant, not for a time: it may be released as soon as there is some. Once, before defer_wait. */
void defer_early(struct defer_index *, struct defer_entry *, const char *tenant);
/* The first such of a tenant that has room; NULL: there is none. */
struct defer_entry *defer_next_early(const struct defer_index *, bool (*has_room)(void *, const char *tenant), void *);
uint64_t defer_hash(const void *, size_t n);

#endif
