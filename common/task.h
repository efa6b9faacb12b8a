/*
 * task.h - payloads of the frames HELLO, SETUP, READY, JOB, DONE, PROGRESS and LOG.
 *
 * A struct and an encoder and decoder each; decoders are bounded and must end exactly at the end of the payload.
 */
#ifndef COMMON_TASK_H
#define COMMON_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/egress.h"
#include "common/err.h"
#include "common/filter.h"
#include "common/ipc.h"
#include "common/job.h"
#include "common/log.h"
#include "common/sandbox.h"

struct setup {                      /* master to worker, once */
	enum worker_role role;
	enum log_level log_level;
	struct strlist roots;           /* directories the worker may read (absolute): local roots and the dummy root */
	int64_t spool_max;              /* bytes; RLIMIT_FSIZE */
	int64_t memory_max;             /* bytes; RLIMIT_DATA */
	int64_t cpu_max_s;              /* seconds of CPU for the whole life of the worker; 0: none */
	int64_t open_files;             /* RLIMIT_NOFILE */
	bool allow_faults;              /* dummy.allow_faults */
	struct egress_lists egress;     /* the daemon's own policy */
	int64_t keep_ms;                /* network.keep_idle */
	struct sandbox_rules sandbox;
	bool brokered;                  /* no sockets of its own: IPC_BROKER_FD leads to the connector */
};
void setup_init(struct setup *);
void setup_release(struct setup *);
void setup_encode(const struct setup *, struct buf *);
int setup_decode(struct setup *, const void *p, size_t n, struct err *);

#define TASK_HOST_KEY 4096
struct task_spec {                  /* JOB: what one worker does for one source of one job */
	struct source_conf source;
	struct filter_spec filter;
	enum job_publish publish;       /* ATOMIC: FILES frames go to the spool; STREAM: to the socket */
	uint32_t attempt;               /* from 1 */
	int64_t deadline_ms;            /* ms from now; for the worker's own timeouts; the master enforces it */
	int64_t now_ns;                 /* the time ages are measured from: one for all attempts of the job */
	int64_t entries_max;            /* limit of listed entries; 0 none */
	char tenant[129];               /* org_id: kept connections serve this tenant alone */
	char endpoint[512];             /* network: scheme, host and port; and they serve this endpoint alone */
	uint32_t connections;           /* network: so many at once at most, 1..CONNECTIONS_MAX */
	char host_key[TASK_HOST_KEY];   /* sftp with accept-new: what was accepted of this server before, "type base64"; "" nothing */
	char root[4097];                /* local, dummy: the configured root (absolute) */
	char below[4097];               /* local, dummy: path below it, "." for the root itself */
	bool asks;                      /* before it makes requests the worker asks for them (ASK) */
	bool last;                      /* the worker is given no other task */
	bool cross_mounts;              /* local: what is mounted below the root belongs to it */
	bool narrows;                   /* before it begins: from now on the worker reads below these alone */
	struct strlist narrow;          /* directories (absolute); may be none */
	struct egress_lists egress;     /* network: the tenant's part of the policy; narrows that of SETUP */
	struct strlist hosts;           /* network: the tenant's hosts, where a server's answer may lead to others than the job names */
};
void task_spec_init(struct task_spec *);
void task_spec_release(struct task_spec *);
void task_spec_encode(const struct task_spec *, struct buf *);
int task_spec_decode(struct task_spec *, const void *p, size_t n, struct err *);

#define TASK_UNREADABLE_MAX 16
#define TASK_TIME_MAX INT64_C(9223372036) /* seconds since the epoch: the last whose nanoseconds are an int64_t, in the year 2262 */
#define TASK_REUSED_MAX 65535    /* each pass of filters.stability counts */
enum task_phase { PHASE_START, PHASE_OPEN, PHASE_LIST, PHASE_CLOSE, PHASE__MAX };
const char *task_phase_name(enum task_phase);

/* What became of single files, counted; the terminal record warns of each that is not 0. */
enum task_note { NOTE_HASH_TOO_LARGE, NOTE_HASH_UNREADABLE, NOTE_HASH_CHANGED, NOTE_UNSTABLE, NOTE__MAX };
/* "without a checksum: ...", behind the number of files */
const char *task_note_text(enum task_note);

struct task_unreadable { char path[512]; char reason[128]; }; /* path: bytes, cut; not NUL inside */

struct task_done {                  /* DONE: the worker's account */
	enum err_class cls;             /* OK, or why it failed; only classes a worker may report (task.c has the list) */
	char text[ERR_TEXT_MAX];
	enum task_phase phase;          /* where it stood at the end */
	uint64_t listed, matched, skipped;
	uint64_t unreadable;            /* entries the source refused; the first of them named below */
	uint64_t notes[NOTE__MAX];
	bool truncated;                 /* max_files cut it */
	bool stale_login;               /* AUTH: the server says that the credentials are none any more (expired, taken back) */
	char peer[256];                 /* address of the server; "" for local sources */
	uint32_t reused;                /* kept connections that served it */
	uint32_t reconnected;           /* those that the server had closed: each gave way to a new one, and nobody was told */
	int64_t cert_expires;           /* TLS: when the certificate ends that ends first of those met, in seconds since the epoch; 0: none met */
	char cert_host[256];            /* whose; "": it is the source's own server */
	uint64_t retry_after_ms;        /* the server asked for this much time before the next attempt; 0: it did not */
	uint64_t spool_bytes;           /* length of what was written to the spool */
	uint64_t phase_us[PHASE__MAX];
	uint32_t n_named;
	struct task_unreadable named[TASK_UNREADABLE_MAX]; /* the last member: a master that keeps many leaves the rest out */
};
/* May a worker end a task with this class? (Not with those that are the master's own verdicts.) */
bool task_class_allowed(enum err_class);
void task_done_encode(const struct task_done *, struct buf *);
int task_done_decode(struct task_done *, const void *p, size_t n, struct err *);

struct hello { uint32_t version; char build_id[65]; };
void hello_encode(struct buf *);                      /* our own */
int hello_decode(struct hello *, const void *p, size_t n, struct err *);

struct ready {                      /* what of the sandbox is active */
	char sandbox[512];              /* for people: "rlimits no_new_privs ..." */
	struct sandbox_active active;
};
void ready_encode(const struct ready *, struct buf *);
int ready_decode(struct ready *, const void *p, size_t n, struct err *);

struct progress { uint64_t listed, matched; };
void progress_encode(const struct progress *, struct buf *);
int progress_decode(struct progress *, const void *p, size_t n, struct err *);

#define TASK_LOG_FIELDS 16
void log_frame_encode(struct buf *, enum log_level, const char *event, const struct log_field *, size_t n);
/* Logs the line through log_event with slot and worker_pid added in front; event and keys must be [a-z0-9_]+, strings are
 * bounded. -1: illegal. */
int log_frame_relay(const void *p, size_t n, int slot, int pid, struct err *);

#endif
