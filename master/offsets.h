/*
 * offsets.h - what may be committed of one partition: the frontier, and what is done beyond it.
 *
 * frontier: everything below is done. Done offsets beyond it are bits of a ring; they travel as text in the commit's
 * metadata, so that a restart skips them. Offsets that never arrive (compaction, transaction markers) count as done
 * once a higher one has arrived. Pure: knows no Kafka.
 *
 * The window bounds make the text fit always: a span of at most OFFSETS_SPAN_BITMAP is written as a bitmap; a longer
 * one, of at most OFFSETS_SPAN_MAX with at most OFFSETS_HOLES_MAX unfinished, as run lengths.
 */
#ifndef MASTER_OFFSETS_H
#define MASTER_OFFSETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define OFFSETS_SPAN_BITMAP 16384
#define OFFSETS_SPAN_MAX (1 << 20)
#define OFFSETS_HOLES_MAX 900
#define OFFSETS_TEXT_BITMAP_MAX 2734
#define OFFSETS_TEXT_MAX 3676 /* a broker takes 4096 by default */

struct offsets {
	bool known;        /* false: no position yet, the first offset taken is the frontier */
	int64_t frontier;  /* lowest offset not done */
	int64_t next;      /* highest seen + 1; below the frontier while repeats are still expected */
	int64_t end;       /* one beyond the highest offset the ring tells of; >= next and >= frontier */
	int64_t holes;     /* not done in [frontier, end) */
	int64_t open;      /* taken and not done */
	uint64_t changes;  /* counts what a commit would show */
	uint64_t *bits;    /* owned; bit (offset mod cap) set: done; clear outside of [frontier, end) */
	size_t cap;        /* bits; a power of two */
};

enum offsets_take {
	OFFSETS_NEW,       /* taken: complete it one day */
	OFFSETS_REPEAT,    /* was done before */
	OFFSETS_FULL,      /* not taken: outside of the window until something completes */
	OFFSETS_BELOW      /* below what was seen: the log was cut or made anew; reset */
};

enum offsets_meta { OFFSETS_META_OK, OFFSETS_META_FOREIGN, OFFSETS_META_LATER, OFFSETS_META_GARBLED };

void offsets_init(struct offsets *);
void offsets_release(struct offsets *);
/* Forgets everything; the next offset taken is the frontier. */
void offsets_reset(struct offsets *);
/* Begins anew at a committed offset (negative: none) with its metadata, which is not ours to trust. Whatever is
 * returned, the state is valid: metadata that is not OK is ignored. */
enum offsets_meta offsets_load(struct offsets *, int64_t committed, const char *meta, size_t n);
const char *offsets_meta_name(enum offsets_meta);

enum offsets_take offsets_take(struct offsets *, int64_t offset);
/* False when the offset is not one that was taken and is unfinished. */
bool offsets_complete(struct offsets *, int64_t offset);
/* Would the offset after the last be taken? */
bool offsets_room(const struct offsets *);
/* Far enough inside the window to go on after it was full. */
bool offsets_half(const struct offsets *);
/* Where reading goes on: at a start, and when the partition came back to us. -1: no position known. */
int64_t offsets_resume(const struct offsets *);
int64_t offsets_done_beyond(const struct offsets *);
/* Is this one done? */
bool offsets_done(const struct offsets *, int64_t offset);
/* Replaces the text by the metadata for a commit of the frontier; "" where nothing is done beyond it. */
void offsets_encode(const struct offsets *, struct buf *text);

#endif
