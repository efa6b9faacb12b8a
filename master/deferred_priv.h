/*
 * deferred_priv.h - what the files of struct deferred share; nobody else includes it.
 */
#ifndef MASTER_DEFERRED_PRIV_H
#define MASTER_DEFERRED_PRIV_H

#include "master/consumer.h"
#include "master/defer.h"

struct defer_part {                     /* a partition of the deferred topic, ours or just revoked */
	struct defer_line line;         /* first: an entry's line is its partition */
	int32_t id;
	uint32_t epoch;                 /* new whenever its jobs in hand are no longer ours to complete */
	bool assigned;
	bool caught_up;                 /* read to its end since it was assigned: marks behind a record are known */
	int64_t next;                   /* highest seen + 1; -1 unknown */
	uint8_t key[DEFER_KEY];         /* of its marks */
	int64_t acked, sent;            /* frontiers committed: acknowledged, and sent; -1 none */
	bool acked_key;                 /* the key is in the committed metadata: marks can be understood by the next owner */
	uintptr_t sent_seq;
	struct defer_done *done;        /* beyond the frontier, not marked yet */
	size_t n_done, done_cap;
	bool marking;                   /* a mark is on its way */
};

struct deferred {
	struct master *m;
	struct defer_store *store;
	struct defer_index index;
	struct defer_part **parts;      /* by partition number; NULL: not ours */
	size_t n_parts;
	size_t held;                    /* entries that do not wait: in hand, and their shadows */
	struct timer due;               /* the next release */
	struct timer mark;              /* what is done is marked */
	struct timer sweep;             /* what has grown old is written again */
	rd_kafka_message_t *stuck;      /* read, but there was no room for it */
	size_t rewriting;               /* copies on their way */
	LIST_HEAD(, wishes) wishes;     /* to cancel jobs, on their way */
	int64_t assigned_ms;            /* loop time of the last assignment */
	int64_t retention_ms;           /* of the topic; -1 unknown, or none */
	bool full;                      /* told that deferred.jobs_max is reached */
	bool ended_full;                /* told that more have ended than are remembered */
	int64_t held_ms;                /* loop time when there last was no room to read */
	bool copies;                    /* some were written again since the reading was held: their copies are awaited */
	bool list_full;
	char trouble[512];              /* of the bytes that are kept: nothing is released; "" none */
	char no_room[512];              /* of keeping more: nothing is read, what is known is released; "" none */
};

/* A record's parts; headers and bytes are borrowed from the buffer they were read from. */
struct defer_record {
	const void *key, *value;
	bool has_key;
	size_t key_n, n, n_headers;
	struct out_header h[DEFER_HEADERS_MAX + 1];
};

/* deferred.c */
/* From the store; 0, or -1 with the trouble noted. b holds what r borrows. */
int deferred_load(struct deferred *, const struct defer_entry *, struct buf *b, struct defer_record *r);
/* The lowest offset that is not done; -1 unknown. */
int64_t deferred_frontier(const struct defer_part *);

struct defer_part *deferred_part_of(const struct deferred *, int32_t id);
/* Forgets it, and its bytes. */
void deferred_entry_free(struct deferred *, struct defer_entry *);
/* Jobs that are known and have not ended. */
size_t deferred_known(const struct deferred *);

/* deferred_done.c */
/* ended: the job has; else the record was of no use. */
void deferred_entry_done(struct deferred *, struct defer_part *, struct defer_entry *, bool ended);
void deferred_offset_done(struct deferred *, struct defer_part *, int64_t offset, bool ended);
void deferred_mark_due(void *deferred);

/* defer_record.c */
/* Borrows from the message. */
void defer_record_of(const rd_kafka_message_t *, struct defer_record *);
void defer_record_pack(const struct defer_record *, struct buf *);
/* Borrows from the buffer. */
void defer_record_unpack(const struct buf *, struct defer_record *);

/* deferred_ended.c */
/* Its job has ended: forgotten; or remembered, where its first message may be read again. */
void deferred_remember(struct deferred *, struct defer_entry *);
/* Once a second: what need not be remembered any more is forgotten. */
void deferred_forget(struct deferred *);

/* deferred_view.c */
/* The job of this origin, where it has not ended, is cancelled: a record says that somebody wished it. */
void deferred_wish(struct deferred *, struct defer_part *, const struct defer_origin *);
void deferred_wishes_free(struct deferred *);

/* deferred_rewrite.c */
void deferred_sweep_due(void *deferred);

#endif
