/*
 * worker.h - what the files of the worker show one another, grouped by file.
 *
 * A worker is one process that lists one source at a time, by one thread; what others there are (ahead.c, the resolver of
 * libcurl) look things up for it. It holds no other tenant's secret, no
 * Kafka and no configuration file; what it may do comes in SETUP, what it shall do in JOB, and all it has to say
 * goes through channel.c. Whatever it says is checked by the master, so nothing here needs to be believed.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/egress.h"
#include "common/err.h"
#include "common/filter.h"
#include "common/ipc.h"
#include "common/record.h"
#include "common/task.h"
#include "worker/source/digest.h"

/* channel.c: the frames to and from the master */

struct channel {
	int fd;
	uint32_t generation;
	uint64_t task;          /* the one in flight */
	bool busy;              /* a task is in flight */
	bool cancelled;         /* CANCEL came for it */
	bool asks;              /* the task's requests wait for the master's word */
	bool asked;             /* ASK was sent, and is not answered */
	int64_t turns;          /* requests that the master allowed and that were not made; < 0: made unasked */
	bool stop;              /* STOP came: end when the task is done */
	bool drop;              /* DROP came: what is kept open is to be closed */
	bool last;              /* no task comes after the one that was given */
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
/* The same for at most timeout_ms (-1: for ever); CHANNEL_TIMEOUT when nothing came. */
enum { CHANNEL_TIMEOUT = 2 };
int channel_recv_for(struct channel *, int timeout_ms, struct frame *f, struct err *);
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
	uint64_t sent;          /* records of this task that left */
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

/* pace.c: when the next request of a task may start */

struct run;
struct pace {                   /* the job's own rate_limit; what the master allows is in the channel */
	int64_t each_ns;        /* between requests, at the least; 0: there is none */
	int64_t burst;          /* requests at once, where none were made for long enough */
	int64_t full_ns;        /* run_clock: when its bucket is full again */
};
void pace_begin(struct run *);
/* Does anything bound the task's requests? Then it makes none that it may not need. */
bool pace_on(const struct run *);
/* May a request start now? true: it is counted, and starts. Else *wait_ns: so much later the answer may be another. */
/* want: as many would, it and those behind it. */
bool pace_take(struct run *, unsigned want, int64_t *wait_ns);
/* One was made without asking (a library repeated it): those that follow wait for it. */
void pace_owe(struct run *);

/* run.c: one task from JOB to DONE */

struct conns;

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
	struct stable *stable;  /* with filters.stability */
	bool answered;          /* the server has answered something in this attempt: a kept connection was no dead one */
	struct pace pace;
};

enum { RUN_GO_ON = 0, RUN_STOP = 1, RUN_FAILED = -1 };

/* Serves one JOB frame and sends its DONE. -1 only when no answer could be sent. *cls: how the task ended. */
int run_task(struct channel *, struct emit *, struct conns *, const struct setup *, const struct frame *,
    enum err_class *cls, struct err *);
/* A source calls this for every entry it sees that is not a directory: counts it, looks for CANCEL now and then, keeps
 * the batches flowing. 0 or -1. */
int run_listed(struct run *, struct err *);
/* In the passes before the last of filters.stability nothing is sent: what only an event needs is not worth asking for. */
bool run_only_watches(const struct run *);
/* Counts a file of which the terminal record is to warn. */
void run_note(struct run *, enum task_note);
/* The entry is not for the job. */
void run_skipped(struct run *);
/* The entry is for the job: RUN_GO_ON, RUN_STOP (max_files reached: end the listing, it is right), RUN_FAILED. */
int run_emit(struct run *, struct record *, struct err *);
/* Does what a server says hold a secret of the task, or a piece of it? Such words are shown to nobody. */
bool run_repeats_secret(const struct run *, const char *p, size_t n);
/* The source refused an entry: 0, or -1 (AUTH) where the job says so. */
int run_unreadable(struct run *, const char *path, size_t n, const char *reason, struct err *);
/* Looks for CANCEL without an entry at hand; directories count as work, too. */
int run_turn(struct run *, struct err *);
/* The same for a source that has just waited: the clock is looked at in any case. */
int run_look(struct run *, struct err *);
/* Waits until the monotonic clock shows until_ns; -1 when cancelled. */
int run_wait(struct run *, int64_t until_ns, struct err *);
int64_t run_clock(void);
/* Value of a source's field: its number, or its text ("" where unset). */
int64_t run_int(const struct run *, enum source_field);
const char *run_str(const struct run *, enum source_field);

/* The server asks for this much time before the next attempt (Retry-After, SlowDown). */
void run_retry_after(struct run *, uint64_t ms);
/* The server says that the credentials are none any more; the listing ends with AUTH. */
void run_stale_login(struct run *);
/* The server this task talks to, as "192.0.2.1:22"; goes into the terminal record. */
void run_peer(struct run *, const struct sockaddr *);

/* source/table.c */

struct conn;                    /* each source's own */

struct source {
	const char *name;       /* source_type in the job */
	/* Connects and logs in. NULL with err. The connection is the caller's; close frees it. */
	struct conn *(*open)(struct run *, struct err *);
	/* After a task: is it in a state that the next task could use (nothing outstanding, server willing)? NULL: never kept. */
	bool (*keepable)(struct conn *);
	/* 0: complete, or cut by max_files; else -1 with err. Nothing of the last run may be left in a kept conn. */
	int (*list)(struct conn *, struct run *, struct err *);
	void (*close)(struct conn *);
	/* Open sockets of it: no more than the task's connections when a task has ended. NULL where it is never kept. */
	unsigned (*connections)(const struct conn *);
};

extern const struct source source_dummy, source_local, source_s3, source_ftp, source_sftp, source_http;
/* NULL where this worker does not serve the type. */
const struct source *source_find(enum source_type);

/* stable.c: filters.stability */

#define STABLE_FILES_MAX 400000         /* 8 MiB */

struct stable *stable_new(int64_t checks);
void stable_free(struct stable *);
/* Begins the first or the next pass; false: there were enough. */
bool stable_next(struct stable *);
bool stable_is_last(const struct stable *);
/* A file that matches, in this pass: 1 it was in all passes before, and the same; 0 not, or nothing could tell; -1 (LIMIT). */
int stable_look(struct stable *, const struct record *, struct err *);

/* conn.c: the connection kept for the next task of the same endpoint, tenant and secrets; at most one */

struct conns;
struct conns *conns_new(struct channel *, int64_t keep_ms);
void conns_free(struct conns *);
/* The kept connection where it fits the task (then *reused), else the old one is closed, the master told so, and a new one opened. */
struct conn *conns_open(struct conns *, struct run *, bool *reused, struct err *);
/* After the task; kept where keepable and keepalive, else closed. failed: it is closed in any case. */
void conns_put(struct conns *, struct run *, struct conn *, bool failed);
/* Waits for the next frame; closes what has been idle for too long meanwhile, or what the master wants closed. As channel_recv. */
int conns_wait(struct conns *, struct frame *, struct err *);
/* Descriptors that the kept connection holds, for the check that a task left none open. */
unsigned conns_fds(const struct conns *);

/* keys.c: temporary credentials, for the role credentials */

/* Serves one KEYS_ASK: answers KEYS or DONE. -1 only when no answer could be sent. */
int keys_task(struct channel *, const struct setup *, const struct frame *, struct err *);

/* net.c: names to allowed addresses */

#define NET_ADDRS 8
struct net_target {             /* one host and port */
	char host[256];
	uint16_t port;
	size_t n;
	struct net_addr { struct sockaddr_storage sa; socklen_t len; } addr[NET_ADDRS];  /* allowed ones, in the resolver's order */
};
/* The policy of SETUP, compiled once. 0 or -1 with err (CONFIG). */
/* warm.c: everything that is loaded or read once, before the sandbox closes. */
void warm_up(enum worker_role);

int net_init(const struct setup *, struct err *);
/* The tenant's part of it, and whether the task's scheme is allowed. Before the task connects. 0 or -1 with err. */
int net_task(const struct task_spec *, struct err *);
/* May the task speak this (a redirect leads there)? 0 or -1 (POLICY). */
int net_scheme(enum egress_scheme, struct err *);
/* May it go to a server of this name, where an answer leads it? The tenant's hosts; what the job itself names the master has
 * asked about. 0 or -1 (POLICY). */
int net_host(const char *host, struct err *);
/* May it connect to this address and port? data: a data connection of FTP. 0 or -1 (POLICY). */
int net_allowed(const struct sockaddr *, bool data, struct err *);
/* A worker of the role credentials may connect only to what net_resolve gave since this; NULL: to nothing. */
struct net_only { bool metadata, loopback; };  /* such addresses, too */
void net_only(const struct net_only *);
/* What an error of getaddrinfo(3), with its errno, means. Always -1. */
int net_resolve_error(int rc, int saved, const char *host, int family, struct err *);
/* Resolves and checks. 0; -1: NOT_FOUND no such host (TRANSIENT where the resolver failed for now), POLICY all addresses are refused. */
int net_resolve(struct run *, const char *host, uint16_t port, struct net_target *, struct err *);

/* broker.c: egress.mode broker: addresses and connected sockets come from the connector */

void broker_init(const struct setup *);
bool broker_on(void);
/* The connector has left this worker: it can serve no further task. */
bool broker_gone(void);
/* The addresses of t->host into t. As net_resolve. */
int broker_resolve(struct run *, int family, struct net_target *t, struct err *);
/* A connected socket to one of t's addresses at its port; *reached: which. -1 with err. */
int broker_connect(struct run *, const struct net_target *t, bool data, int64_t timeout_ms, struct sockaddr_storage *reached, struct err *);

/* connector.c: the connector, another process of the same program; its exit code */
int connector_main(uint32_t generation, unsigned slots, int parent_pid);

/* source/tree.c: what every listing of a remote tree does alike */

enum entry_type { ENTRY_FILE, ENTRY_DIR, ENTRY_LINK, ENTRY_OTHER };

struct tree;
struct tree_dir {               /* a directory being listed; made and freed by tree.c */
	const char *path;       /* whole, bytes, NUL-ended, as the record's path begins; no '/' at its end but for "/" itself; may be "" */
	size_t path_n;
	const char *rel;        /* below the source's root; "" the root */
	size_t rel_n;
	unsigned depth;         /* 0: the root */
	unsigned tries;         /* the source's own count of attempts */
	void *data;             /* the source's own; freed with free() */
};

struct entry {                  /* one line of a listing; all borrowed */
	const char *name;       /* one component; in a flat listing (keys) it may hold '/' */
	size_t name_n;
	enum entry_type type;
	struct record rec;      /* size, mtime, precision, link target, version, checksum, attrs; path and rel_off are tree.c's */
};
void entry_init(struct entry *, const char *name, size_t n, enum entry_type);

enum tree_want { TREE_FAILED = -1, TREE_NO, TREE_YES, TREE_RESOLVE };

/* root: the whole path of the source's root, bytes; "" where paths have no root (keys). */
struct tree *tree_new(struct run *, const char *root, size_t n, struct err *);
/* Before the run ends: what a cut listing left undecided is counted as skipped. */
void tree_free(struct tree *);
/* Names are keys: they may hold '/', empty components, "." and "..". A key deeper than its directory is judged by its own
 * path: recursive, max_depth, exclude_dirs. */
void tree_keys(struct tree *);
/* Behind tree_keys: folders end with delimiter (borrowed), not with '/'. The root's path ends so, or is "". There are no directories
 * to be named or entered then: recursive alone counts. */
void tree_delimiter(struct tree *, const char *delimiter);
/* done_file, in_progress_suffixes or exclude_if_present is set: files come out at the end of their directory only. */
bool tree_holds(const struct tree *);
/* The path is one file, not its directory: exclude_if_present says nothing of it. */
void tree_one_file(struct tree *);
/* The next directory to list, deepest first; NULL: none waits (others may still be open: tree_open). */
struct tree_dir *tree_next(struct tree *);
/* Directories that wait for tree_next; those that it gave are open. */
size_t tree_waiting(const struct tree *);
unsigned tree_open_dirs(const struct tree *);
/* max_files was reached: end the listing, it is right. */
bool tree_stopped(const struct tree *);
/*
 * First question, by name alone: counts the entry, takes directories into the queue, and says whether it is to be reported:
 * a file, or what else filters.types names: a directory, a link itself. TREE_RESOLVE: a link that the job follows: find out what it leads to, set type, link target and
 * is_symlink, and call tree_link. "." and ".." are passed over. A name with NUL or '/' where none may be, or too long, is
 * named as unreadable.
 */
enum tree_want tree_ask(struct tree *, struct tree_dir *, const struct entry *, struct err *);
/* Second, with size and time: filters, holds back (tree_holds) or emits. The record is of the kind that the entry's type says.
 * RUN_GO_ON, RUN_STOP, RUN_FAILED. */
int tree_report(struct tree *, struct tree_dir *, struct entry *, struct err *);
/* Both in one, for sources that know all at once; links that are followed come back as TREE_RESOLVE. TREE_NO: done. */
enum tree_want tree_entry(struct tree *, struct tree_dir *, struct entry *, struct err *);
/* A link whose target is known: FILE is asked and reported; DIR is entered where follow_symlinks is all, unless real (the
 * canonical path of the target, NULL unknown) is the directory itself or one above it; OTHER: skipped. */
int tree_link(struct tree *, struct tree_dir *, struct entry *, const char *real, size_t real_n, struct err *);
/* Read to its end: what was held back is decided. */
int tree_dir_done(struct tree *, struct tree_dir *, struct err *);
/* It could not be read. The root, or a class that is not about this directory alone: -1 with that class. Below, NOT_FOUND:
 * it vanished, 0. AUTH, PERMANENT, POLICY: named as unreadable, 0, unless on_unreadable is fail. */
int tree_dir_refused(struct tree *, struct tree_dir *, enum err_class, const char *reason, struct err *);
/* Back into the queue, to be read again from its start; only while nothing of it was reported. */
void tree_dir_again(struct tree *, struct tree_dir *);
/* True once anything of this directory was counted or reported. */
bool tree_dir_begun(const struct tree_dir *);
/* Adds to entry->rec.attrs; text is borrowed, and cut at RECORD_ATTR_BYTES or a NUL. NULL or empty text: nothing is added. */
void entry_attr_str(struct entry *, enum source_attr, const char *s, size_t n);
void entry_attr_int(struct entry *, enum source_attr, int64_t);

/* source/ahead.c: the second thread of a local worker, which looks at files for walk.c */

#define AHEAD_MASK (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
struct look {                   /* one name of a directory */
	const char *name;       /* borrowed, NUL-ended */
	struct statx st;
	int error;              /* errno of statx; 0: st is right */
	atomic_int state;       /* ahead.c's own */
};
/* Makes it; where that fails there is none. Once, between Landlock and the filters. */
void ahead_start(void);
bool ahead_there(void);
/* sandbox_narrow_to for it. 0 or -1 with err. */
int ahead_narrow(const char *const *roots, size_t n, struct err *);
/* Has these looked at, from the last on. fd and v must last until ahead_end, which is called in any case. */
void ahead_begin(int fd, struct look *v, size_t n);
/* This one is looked at when it returns. To be called from the first on, one after the other. */
void ahead_wait(struct look *);
void ahead_end(void);

/* source/beneath.c: what lies beneath a directory, and nothing else; for walk.c */

/* openat2(2) with RESOLVE_BENEATH. links: may links be followed where they stay beneath? A descriptor, or -1 with errno. */
int beneath_open(int at, const char *path, int flags, bool links);
/* The same for a path of n bytes, however long, in pieces that the kernel takes. */
int beneath_open_long(int at, const char *path, size_t n, int flags, bool links);
/* What serves where openat2 is missing; beneath_open calls it where no link is to be followed. */
int beneath_by_names(int at, const char *path, int flags);

/* source/content.c: the checksum of a file; for walk.c */

struct content {                /* zeroed at first */
	struct digest digest;
	char *buf;
	char hash[DIGEST_TEXT];
};
/* Reads fd from where it stands to its end; it was looked at as in the statx. 0: c->hash; 1: none, *note says why; -1 with err. */
int content_digest(struct content *c, struct run *, int fd, const struct statx *, enum digest_kind, enum task_note *note, struct err *);
void content_release(struct content *);

/* source/walk.c: a tree of real files, for dummy and local */

#define WALK_TEXT 5             /* texts an attribute function may format */

struct walk;
struct walk_how {
	enum { FOLLOW_NEVER, FOLLOW_FILES, FOLLOW_ALL } follow;  /* as in sources.def */
	bool recursive;
	bool one_file_system;
	bool cross_mounts;              /* else the root ends where something is mounted below it */
	int64_t min_depth, max_depth;
	enum digest_kind hash;
	int64_t hash_max_size;          /* -1: no limit */
	bool noatime;
	/* Adds the attributes of source{}. filesystem: the type's name, NULL unknown; text: room for those that are formatted here. */
	void (*attrs)(struct record *, const struct statx *, const char *root, const char *filesystem, char text[WALK_TEXT][48]);
	/* Called before each file is reported; -1 fails the listing. May be NULL. */
	int (*before)(void *arg, struct run *, struct err *);
	void *arg;
};

/* Opens task->root and what lies at task->below; NULL with err. */
struct walk *walk_open(struct run *, const struct walk_how *, struct err *);
int walk_list(struct walk *, struct run *, struct err *);
void walk_close(struct walk *);
/* source/local_names.c: what warm.c had read before the sandbox closed */

void local_names_init(const char *passwd, const char *group);
/* For tests: as if nothing had been read. */
void local_names_release(void);
/* NULL: no name is known. */
const char *local_user(uint32_t uid);
const char *local_group(uint32_t gid);
/* The type of the file system that fd is on; NULL unknown. */
const char *local_filesystem(int fd);

/* "0644" */
void walk_mode_text(unsigned mode, char out[48]);
void walk_attr_int(struct record *, enum source_attr, int64_t);
void walk_attr_str(struct record *, enum source_attr, const char *);

#endif
