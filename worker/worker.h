/*
 * worker.h - what the files of the worker show one another, grouped by file.
 *
 * A worker is one process and one thread that lists one source at a time. It holds no other tenant's secret, no
 * Kafka and no configuration file; what it may do comes in SETUP, what it shall do in JOB, and all it has to say
 * goes through channel.c. Whatever it says is checked by the master, so nothing here needs to be believed.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/filter.h"
#include "common/ipc.h"
#include "common/record.h"
#include "common/task.h"

/* channel.c: the frames to and from the master */

struct channel {
	int fd;
	uint32_t generation;
	uint64_t task;          /* the one in flight */
	bool busy;              /* a task is in flight */
	bool cancelled;         /* CANCEL came for it */
	bool stop;              /* STOP came: end when the task is done */
	bool gone;              /* the master closed, or reading failed: nobody is there to answer */
	bool broken;            /* the master sent what it must not send */
	struct buf out;         /* the frame in hand, but for FILES */
	int64_t log_second;     /* second of the monotonic clock the next two belong to */
	unsigned log_lines;
	uint64_t log_dropped;
	uint8_t in[IPC_FRAME_MAX + 1];
};

void channel_init(struct channel *, int fd, uint32_t generation);
void channel_release(struct channel *);
/* Waits for the next frame. 1 and *f; 0 end (the master is gone); -1 with err. */
int channel_recv(struct channel *, struct frame *f, struct err *);
/* Begins a frame of the task in flight in ch->out. */
struct buf *channel_begin(struct channel *, enum msg_type);
/* Sends ch->out, waiting for room. 0, or -1 (SYSTEM: the master is gone). A CANCEL that comes meanwhile is noted. */
int channel_send(struct channel *, struct err *);
/* The same with another frame, but gives up (-1, CANCELLED) once the task is cancelled. */
int channel_send_data(struct channel *, const struct buf *, struct err *);
/* Reads what lies in the socket, and waits up to timeout_ms for something (0: not at all). -1 when the task must end. */
int channel_poll(struct channel *, int timeout_ms, struct err *);
/* The sink of the log: LOG frames, a bounded number a second. */
void channel_log(void *channel, enum log_level, const char *event, const struct log_field *, size_t n);

/* emit.c: records to FILES frames, to the socket or to the spool */

struct emit {
	struct channel *ch;
	int spool_fd;           /* where ATOMIC listings go */
	bool to_spool;          /* else to the socket */
	uint64_t spool_bytes;
	struct buf frame;       /* the batch in hand; empty between batches */
	uint32_t count;         /* its records */
};

void emit_init(struct emit *, struct channel *, int spool_fd);
void emit_release(struct emit *);
/* Begins a task's output; ATOMIC empties the spool. */
int emit_start(struct emit *, enum job_publish, struct err *);
int emit_add(struct emit *, struct record *, struct err *);
/* Sends or writes the batch in hand. */
int emit_flush(struct emit *, struct err *);
/* Forgets the batch in hand and empties the spool, so that a failed listing does not hold the disk. */
void emit_discard(struct emit *);

/* run.c: one task from JOB to DONE */

struct run {
	const struct setup *setup;
	const struct task_spec *task;
	struct channel *ch;
	struct emit *emit;
	struct filter *filter;
	struct task_done done;
	int64_t flushed_ns;     /* monotonic time of the last flush, poll and progress frame */
	int64_t polled_ns;
	int64_t progress_ns;
	uint32_t since_poll;    /* entries since the last poll */
};

enum { RUN_GO_ON = 0, RUN_STOP = 1, RUN_FAILED = -1 };

/* Serves one JOB frame and sends its DONE. -1 only when no answer could be sent. *cls: how the task ended. */
int run_task(struct channel *, struct emit *, const struct setup *, const struct frame *, enum err_class *cls,
    struct err *);
/* A source calls this for every entry it sees that is not a directory: counts it, looks for CANCEL now and then, keeps
 * the batches flowing. 0 or -1. */
int run_listed(struct run *, struct err *);
/* The entry is not for the job. */
void run_skipped(struct run *);
/* The entry is for the job: RUN_GO_ON, RUN_STOP (max_files reached: end the listing, it is right), RUN_FAILED. */
int run_emit(struct run *, struct record *, struct err *);
/* The source refused an entry: 0, or -1 (AUTH) where the job says so. */
int run_unreadable(struct run *, const char *path, size_t n, const char *reason, struct err *);
/* Looks for CANCEL without an entry at hand; directories count as work, too. */
int run_turn(struct run *, struct err *);
/* Waits until the monotonic clock shows until_ns; -1 when cancelled. */
int run_wait(struct run *, int64_t until_ns, struct err *);
int64_t run_clock(void);
/* Value of a source's field: its number, or its text ("" where unset). */
int64_t run_int(const struct run *, enum source_field);
const char *run_str(const struct run *, enum source_field);

/* source/table.c */

struct conn;                    /* each source's own */

struct source {
	const char *name;       /* source_type in the job */
	/* NULL with err. The connection is the caller's; close frees it. */
	struct conn *(*open)(struct run *, struct err *);
	/* A kept connection still good for this task? NULL: never kept. */
	bool (*alive)(struct conn *, const struct task_spec *);
	/* 0: complete, or cut by max_files; else -1 with err. */
	int (*list)(struct conn *, struct run *, struct err *);
	void (*close)(struct conn *);
};

extern const struct source source_dummy, source_local;
/* NULL where this worker does not serve the type. */
const struct source *source_find(enum source_type);

/* source/walk.c: a tree of real files, for dummy and local */

#define WALK_TEXT 4             /* texts an attribute function may format */

struct walk;
struct walk_how {
	enum { FOLLOW_NEVER, FOLLOW_FILES, FOLLOW_ALL } follow;  /* as in sources.def */
	bool recursive;
	bool one_file_system;
	int64_t min_depth, max_depth;
	/* Adds the attributes of source{}; text: room for those that are formatted here. */
	void (*attrs)(struct record *, const struct statx *, const char *root, char text[WALK_TEXT][48]);
	/* Called before each file is reported; -1 fails the listing. May be NULL. */
	int (*before)(void *arg, struct run *, struct err *);
	void *arg;
};

/* Opens task->root and what lies at task->below; NULL with err. */
struct walk *walk_open(struct run *, const struct walk_how *, struct err *);
int walk_list(struct walk *, struct run *, struct err *);
void walk_close(struct walk *);
/* "0644" */
void walk_mode_text(unsigned mode, char out[48]);
void walk_attr_int(struct record *, enum source_attr, int64_t);
void walk_attr_str(struct record *, enum source_attr, const char *);

#endif
