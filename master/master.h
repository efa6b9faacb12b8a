/*
 * master.h - the role header of the master: what its rooms show one another, grouped by file name.
 *
 * One struct master a process, one thread (the loop). Every pointer named below is owned by the room it is grouped
 * under. What a room calls in another is declared there; nothing else is shared.
 */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <uthash.h>

#include "common/buf.h"
#include "common/config.h"
#include "common/err.h"
#include "common/ipc.h"
#include "common/job.h"
#include "common/jsonw.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/record.h"
#include "common/task.h"
#include "master/metrics.h"

struct master;
struct jobrec;
struct task;
struct slot;
struct crew;
struct tenant_use;
struct ask;

/* ---- main.c ------------------------------------------------------------------------------------------------- */

enum master_phase { MASTER_STARTING, MASTER_RUNNING, MASTER_DRAINING, MASTER_STOPPED };

struct master {
	struct loop *loop;
	struct config_set set;          /* what is in force */
	struct config *cfg;             /* = &set.c */
	struct config_args args;        /* how it was read; SIGHUP reads it again */
	enum master_phase phase;
	bool demo;                      /* --demo: embedded broker, temporary state */
	char *libexec;                  /* directory of the other programs of this build */
	int64_t started_ns;             /* CLOCK_REALTIME */
	int64_t started_ms;             /* loop time */
	int64_t last_reload_ns;         /* last attempt */
	bool last_reload_ok;
	uint32_t config_generation;     /* 1 + successful reloads */
	uint32_t setup_generation;      /* 1 more whenever a reload changed what SETUP tells workers */
	struct sandbox_rules sandbox;   /* what children are told; confine.c */
	struct sandbox_kernel kernel;   /* what this machine has of it */

	struct jobs *jobs;
	struct sched *sched;
	struct endpoints *endpoints;
	struct hostkeys *hostkeys;
	struct keyring *keyring;
	struct tenants *tenants;
	struct rates *rates;
	struct pool *pool;
	struct consumer *consumer;
	struct publisher *publisher;
	struct deferred *deferred;
	struct httpd *httpd;            /* NULL when http.enabled is false */
	struct broker *broker;          /* NULL where egress.mode is direct */
	struct control *control;
	struct journal *journal;
	struct demo *demo_broker;       /* NULL but in --demo */
};

/* confine.c */
/* -1 (CONFIG): this machine cannot do what sandbox.* demands. Logs what is active. */
int confine_start(struct master *, struct err *);
/* The Landlock ABI that children use; 0: none. */
unsigned confine_landlock(const struct master *);
/* What does not hold, in words; NULL: all does. */
const char *confine_lacks(const struct master *);

/* Begins a graceful stop (the second call a hard one); from signals and from the admin tool. */
void master_stop(struct master *, const char *why);
/* SIGHUP: reads, validates, swaps. 0, or -1 with the first error; the old configuration stays in force then. */
int master_reload(struct master *, struct err *);
/* May be NULL: nothing wrong. Else one sentence why the poller is not ready (first reason found). */
const char *master_not_ready(const struct master *);

/* ---- jobs.c: one record per job, its states, its end ------------------------------------------------------------ */

struct origin {                     /* where a message stands */
	const char *topic;              /* NULL: topics.polling_queue */
	int32_t partition;
	int64_t offset;
	uint32_t epoch;                 /* assignment of the partition, counted by consume.c; stale ones are dropped */
	bool deferred;                  /* in the deferred topic */
};

struct deferral;                    /* defer.h: what a deferred record says of its job */
/* What a deferred job waits for. */
enum defer_why { DEFER_SCHEDULE, DEFER_RETRY, DEFER_QUOTA, DEFER__MAX };

struct message {                    /* consume.c, deferred.c → jobs.c; all borrowed for the call */
	struct origin origin;           /* where the job's message stood first: names the job in all its records */
	struct origin at;               /* where it was read now: what is completed when the job has ended */
	const struct deferral *deferral; /* read back from the deferred topic; NULL: from the polling queue */
	const struct err *bad;          /* it cannot be a job, whatever it holds; NULL */
	bool cancel;                    /* it ends as cancelled */
	const void *key;
	size_t key_n;
	const void *payload;
	size_t n;
	int64_t timestamp_ms;           /* -1 unknown */
	const char *traceparent;        /* NULL, or a checked W3C traceparent */
};

enum task_state { TASK_NEW, TASK_QUEUED, TASK_RUNNING, TASK_PUBLISHING, TASK_RETRY, TASK_DONE, TASK_DEAD, TASK__MAX };

/* One delivery report for each record sent with it; must outlive them. */
enum delivery { DELIVERY_OK, DELIVERY_TOO_LARGE, DELIVERY_HOLD };
struct ticket { void (*delivered)(struct ticket *, enum delivery, const char *why); };

struct verdict {                    /* how the worker of a task died; zeros where it did not */
	int pid, signal, exit_code;
	int syscall;                    /* the call that its sandbox refused; 0: none is known */
	char syscall_name[32];          /* "" where it has none here */
	double cpu_seconds;
	int64_t max_rss_bytes;
	enum task_phase phase;
	char stderr_tail[512];
};

struct task {                       /* one source of one job */
	struct jobrec *job;             /* borrowed: owns this */
	size_t index;                   /* of job->job->sources */
	size_t pool;                    /* the configured pool whose workers it goes to: crew.c's index */
	const char *key;                /* who may share a worker there: its tenant's name, a group's, "" (NULL) for all; borrowed */
	enum task_state state;          /* changed by task_set_state alone */
	uint64_t wire;                  /* id in frames; new at each attempt */
	uint32_t attempt;               /* from 1; the one running, or the last */
	uint32_t charged;               /* attempts that used the budget */
	uint32_t crashes;               /* worker deaths of class ALONE at this task */
	uint32_t holds;                 /* replays that Kafka's trouble caused */
	uint32_t bounced;               /* times its worker was leaving when it came */
	bool alone;                     /* next attempt in a fresh worker, alone */
	bool cancel;                    /* an operator, a revoke or the drain deadline wants it to end */
	struct slot *slot;              /* while RUNNING, and while its spool is read */
	struct err error;               /* last attempt's; class OK: none */
	struct task_done *done;         /* last attempt's account; never NULL; owned but for the zeros of a task not begun */
	struct verdict verdict;
	struct event_ctx *events;       /* while RUNNING or PUBLISHING */
	struct ticket ticket;           /* its events' */
	uint32_t pending;               /* events sent, not yet reported */
	uint64_t sent;                  /* events given to publish.c, this attempt */
	uint64_t published;             /* acknowledged, this attempt */
	bool held;                      /* an event of this attempt was not taken by Kafka: replay */
	bool too_large;                 /* an event of this attempt is larger than Kafka takes */
	bool listed_all;                /* DONE came and every record was sent */
	bool streamed_before;           /* an earlier attempt in stream mode has published something */
	int64_t queued_ms, began_ms;    /* loop time: last queued, last begun */
	int64_t done_ms;                /* when this attempt's DONE came; 0: not yet */
	struct timer timer;             /* not-before and retry */
	TAILQ_ENTRY(task) entry;        /* schedule.c's queue, or its endpoint's */
	TAILQ_ENTRY(task) calls;        /* its endpoint's list of those that it has called */
	TAILQ_ENTRY(task) away;         /* its tenant's list of those that wait at their endpoints */
	struct tenant_use *away_of;     /* is in that list; NULL: it is not */
	struct endpoint *parked;        /* waits there; NULL: it does not */
	struct endpoint *called;        /* waited there and is the scheduler's again; NULL: it did not, or was taken out since */
	struct endpoint *endpoint;      /* counted there while it runs; NULL: it is not */
	size_t endpoint_in;             /* the pool for which it counts there, called or running: a reload may give it another */
	unsigned connections;           /* to its endpoint, that its attempt may have open at once */
	int64_t lacks_ms;               /* parked: loop time since when it lacks nothing but a connection; 0: something else */
	/* rates.c's */
	bool asks;                      /* RUNNING: its worker asks before it makes requests */
	struct ask *ask;                /* that waits; NULL: none */
	int64_t lent_ms;                /* of this attempt: time that was given back to it */
	bool needs_keys;                /* QUEUED, RUNNING: for temporary credentials first; changed only while in no queue */
	struct keyring_entry *awaits;   /* waits there for a fetch that is under way; NULL: it does not */
	struct keyring_entry *fetches;  /* RUNNING: its worker fetches these, and lists nothing */
	uint64_t keys_serial;           /* of the temporary credentials that the last attempt was given; 0: none */
	bool rekeyed;                   /* its source called them stale once */
	/* tenants.c's, in the same way */
	struct tenant_use *waits_at, *waits_called, *tenant;
	size_t counts_in;               /* the pool where it counts while it waits or is called: a reload may give it another */
	bool waits_rate;                /* for its minute, not for a place */
	bool was_called;                /* has waited there since it was last queued */
	int64_t waits_ms;               /* loop time when it began to */
};

struct jobrec {
	struct master *m;
	uint64_t id;
	struct origin origin;           /* its topic is owned */
	struct origin at;
	char *key;                      /* of the message; NULL none */
	size_t key_n;
	char *job_id, *org_id;          /* NULL where the message did not tell */
	char *masked;                   /* of a message without payload, as JSON with its secrets masked; NULL: it is none */
	char *refused_metadata;         /* of a message that is JSON but no valid job; NULL */
	struct job *job;                /* NULL: not valid; parse_error says why */
	struct err parse_error;
	char traceparent[64];           /* "" none */
	size_t bytes;                   /* what it takes of jobs.queue_bytes */
	size_t payload_n;               /* bytes of the message */
	char *payload;                  /* them, for the deferred topic; wiped when freed */
	char payload_sha256[65];
	int64_t first_received_ns;      /* before it was deferred */
	int64_t received_ns, started_ns, finished_ns; /* CLOCK_REALTIME; started 0 until a worker had it */
	int64_t received_ms, started_ms;
	struct task *tasks;
	size_t n_tasks, tasks_left;
	bool finishing;                 /* terminal records are on their way, or the deferred one */
	bool deferring;                 /* it leaves for the deferred topic */
	int64_t due_ns;                 /* until when, and why */
	enum defer_why why;
	uint32_t deferrals;             /* how often before */
	bool waits_long;                /* taken, but not before a time that is beyond jobs.hold_max */
	bool cancelled;                 /* by an operator */
	bool revoked;                   /* its partition was lost: nothing more is published or committed */
	struct ticket ticket;           /* terminal records' */
	uint32_t pending;
	bool held;                      /* a terminal record was not taken: sent again */
	bool letter_due;                /* the dead letter goes first, and only once it is acknowledged the terminal record */
	uint32_t holds;                 /* how often in a row: the wait grows */
	bool small_records;             /* one was too large: metadata, warnings and names are left out */
	struct timer timer;             /* to send them again */
	struct tenant_use *holder;      /* whose part of the queue it takes; NULL: nobody's, or it leaves for the deferred topic */
	TAILQ_ENTRY(jobrec) entry;      /* jobs.c's list, in order of arrival */
	UT_hash_handle hh;              /* jobs.c: by origin */
	struct job_place { uint64_t topic; int64_t offset, partition; } place; /* of the origin; the topic's name hashed */
	bool placed;
};

enum job_outcome { OUTCOME_COMPLETED, OUTCOME_PARTIAL, OUTCOME_FAILED, OUTCOME_CANCELLED, OUTCOME__MAX };

TAILQ_HEAD(job_list, jobrec);

struct jobs *jobs_new(struct master *);
void jobs_free(struct jobs *);
/* Room for one job more beside `more` others of these bytes (jobs.queue_max, jobs.queue_bytes; false while draining)? consume.c
 * asks before each message. */
bool jobs_room(const struct jobs *, size_t more, size_t bytes);
/* Takes a message for good: it ends as its records in Kafka, whatever is wrong with it. */
void jobs_accept(struct jobs *, const struct message *);
/* The job in hand of this origin, NULL: none. */
struct jobrec *jobs_find(const struct jobs *, const struct origin *);
/* The partition was taken away (epoch: the assignment that ended): its jobs are dropped, their late results too. */
void jobs_revoke(struct jobs *, int32_t partition, uint32_t epoch);
/* 0, or -1: no such job. By job_id; every job that carries it. Returns the number. */
size_t jobs_cancel(struct jobs *, const char *job_id);
/* The same of the one that came from this place. */
void jobs_cancel_at(struct jobs *, const struct origin *at);
/* A reload has changed what tenants may share. */
void jobs_reloaded(struct jobs *);
size_t jobs_count(const struct jobs *);
size_t jobs_bytes(const struct jobs *);
/* First job in order of arrival, then TAILQ_NEXT(j, entry); last, then TAILQ_PREV(j, job_list, entry). */
struct jobrec *jobs_first(const struct jobs *);
struct jobrec *jobs_last(const struct jobs *);
void task_set_state(struct master *, struct task *, enum task_state);
const char *task_state_name(enum task_state);
const char *job_outcome_name(enum job_outcome); /* "completed", ... */
/* Of a job whose tasks have all ended. */
enum job_outcome job_outcome(const struct jobrec *);
/* The error that stands for the whole job, or NULL: parse error, else the first failed source's. */
const struct err *job_error(const struct jobrec *);
struct master *jobs_master(const struct jobrec *);
/* A fresh, zeroed account for the attempt that begins or ends now; the task owns it. */
struct task_done *task_account(struct task *);
/* The account of a task that has not begun: zeros. */
extern struct task_done task_no_account;
/* Back to zeros; and: the room of names that were not needed is given back. */
void task_account_forget(struct task *);
void task_account_trim(struct task *);
/* dispatch.c: a worker has taken the task's next attempt. */
void jobs_task_started(struct master *, struct task *);
/* dispatch.c: the attempt has ended (class in t->error) with all its events reported. */
void jobs_task_ended(struct master *, struct task *);

/* ---- share.c: one of many, and what it may hold of the workers ----------------------------------------------------- */

struct share {
	size_t workers, busy;           /* all; with a task */
	size_t active;                  /* who was here lately */
	int64_t weights;                /* of those, together */
	int64_t limit;                  /* thousandths of the workers that one may hold beside others */
};
#define SHARE_WORKERS_MIN 4             /* of fewer none is spared */
bool share_allows(const struct share *, unsigned running, int64_t weight);
/* Where share_allows does not: may it, if its tasks are brief? */
bool share_lends(const struct share *, unsigned running, int64_t weight);

/* ---- tenants.c: what each tenant has in hand, and what has to wait ----------------------------------------------------- */

struct tenants *tenants_new(struct master *);
void tenants_free(struct tenants *);
/* A task of it came: it counts among those that share the pool's workers. */
void tenant_seen(struct master *, const char *org_id, size_t pool);
int64_t tenant_weight(const struct master *, const char *org_id);
/* May it start now? If not it waits there until it may, and then goes to the front of its queue. */
bool tenant_admit(struct master *, struct task *);
/* Would it be admitted now? Changes nothing. */
bool tenant_would_admit(struct master *, const struct task *);
/* What a task that waits there (t->waits_at) waits for: the setting. */
const char *tenant_waits_for(const struct task *);
/* true: it waited there, and does not any more. */
bool tenant_unpark(struct task *);
/* It waits at its endpoint: that counts as its tenant's backlog, too, until it is back. */
void tenant_away(struct master *, struct task *);
void tenant_back(struct task *);
void tenant_started(struct master *, struct task *);
/* Tasks of it that wait, for whatever limit. */
size_t tenant_backlog(const struct master *, const char *org_id);
/* Its place is another's: its worker is free, or gone. Again is no harm. */
void tenant_ended(struct master *, struct task *);
/* It was admitted and did not start. */
void tenant_passed(struct master *, struct task *);
void tenants_reloaded(struct master *);
/* tenants_crowd.c: a valid job is in hand; it has ended, or leaves for the deferred topic, or its partition was lost. */
void tenant_took(struct jobrec *);
void tenant_gave(struct jobrec *, bool ended);
/* A partition is paused until more of its jobs have ended. */
void tenants_window_full(struct master *);
size_t tenants_parked(const struct tenants *, enum job_priority);
/* metrics.tenants: its own name, or "other" */
const char *tenant_label(struct master *, const char *org_id);
void tenants_count_job(struct master *, const char *org_id, const char *outcome);
void tenants_refresh_metrics(struct master *);
struct tenant_view {
	const char *name, *entry;       /* borrowed; entry: of the settings */
	const struct tenant_conf *conf;
	unsigned running, waiting;      /* tasks; waiting: for a quota or for its share */
	const char *why;                /* the setting that the last one waits for: tasks, share, jobs_per_minute, requests_per_minute; "" */
	uint64_t started, waited;
	uint64_t requests;              /* given under requests_per_minute */
	int64_t request_wait_ms;
	int64_t waited_ms, idle_ms;
};
/* The array "tenants", those with something in hand first; returns how many it left out. */
size_t tenants_json(struct jsonw *, const struct master *, size_t max);
/* all: how many there are. */
size_t tenants_view(const struct master *, struct tenant_view *out, size_t max, size_t *all);

/* ---- rates.c: requests a second of tenants and endpoints ----------------------------------------------------------------- */

struct rate { int64_t each_ns, burst; };        /* between requests; so many at once. each_ns 0: no limit */
struct bucket {
	int64_t full_ns;                /* CLOCK_MONOTONIC: when it is full again */
	int64_t short_ms;               /* loop time when somebody last found it empty; 0: never */
	uint64_t given;                 /* requests */
	int64_t waited_ms;              /* asks of workers that found it empty, together */
};
struct rate rate_of(int64_t requests, int64_t span_ns);
/* Requests that may start now; UINT32_MAX: without a limit. */
uint32_t bucket_has(const struct bucket *, struct rate, int64_t now_ns);
/* ns until one may. */
int64_t bucket_wait(const struct bucket *, struct rate, int64_t now_ns);
void bucket_take(struct bucket *, struct rate, int64_t now_ns, uint32_t n);
/* Of so many workers of a pool, those that tasks may hold which wait for one bucket that is short. */
unsigned rates_tasks(int64_t workers);
/* Somebody had to wait for it lately. */
bool bucket_short(const struct bucket *, struct rate, int64_t now_ms);

struct rates *rates_new(struct master *);
void rates_free(struct rates *);
/* Does any such limit hold for the task? */
bool rates_hold(struct master *, const struct task *);
/* The frame ASK; 0 or -1 with the rule it breaks. */
int rates_ask(struct master *, struct task *, const struct frame *, struct err *);
/* It makes no further request. */
void rates_left(struct master *, struct task *);
/* ms that its deadline is to be later, since it waits for its turn. */
int64_t rates_lend(struct master *, struct task *);
void rates_reloaded(struct master *);
/* endpoint.c, tenants.c: the bucket of a task that runs, and its rate. */
struct bucket *endpoint_bucket(struct master *, const struct task *, struct rate *);
struct bucket *tenant_bucket(struct master *, const struct task *, struct rate *);

/* ---- tenant_policy.c: what a tenant's job may ask for ------------------------------------------------------------------ */

/* 0, or -1 (POLICY) with what is asked for and the setting that forbids it. topic: where the message came from. */
int tenant_permits_job(const struct config *, const struct job *, const char *topic, struct err *);
int tenant_permits_source(const struct config *, const char *org_id, const struct source_conf *, struct err *);
/* May its field id, which names a secret, name this one? */
int tenant_permits_secret(const struct config *, const char *org_id, const struct source_conf *, int id, struct err *);
/* Where its local jobs may list. */
const struct strlist *tenant_roots(const struct config *, const char *org_id);
/* Time for one attempt: the job's, or the setting's, within the tenant's. */
int64_t tenant_deadline(const struct config *, const struct job *);

/* ---- defer.c, deferred.c: jobs that must wait longer than jobs.hold_max ------------------------------------------------- */

/* Hands the job to the deferred topic until due (CLOCK_REALTIME): its tasks leave whatever they wait in, and when Kafka has
 * taken it the record is gone; it is accepted anew when it is due. 0; or -1 with the reason (ERR_POLICY: later than
 * deferred.longest; ERR_UNSUPPORTED: a source of the job runs or has ended), and nothing has changed. */
int jobs_defer(struct jobrec *, int64_t due_ns, enum defer_why, struct err *);
/* None of its sources runs or has ended, and it is not ending. */
bool jobs_deferrable(const struct jobrec *);

struct deferred *deferred_new(struct master *);
int deferred_start(struct deferred *, struct err *);
void deferred_free(struct deferred *);
/* A job read back has ended: its record is done. Stale epochs are dropped. */
void deferred_completed(struct deferred *, const struct origin *);
/* This very message waits in the deferred topic already: it was deferred before a crash, and its offset not committed. */
bool deferred_holds(const struct deferred *, const struct origin *, const char *payload_sha256);
/* jobs.c: there may be room; what is due is released. */
void deferred_kick(struct deferred *);
struct control_seat { size_t i; uint64_t serial; };     /* a peer of the control socket that waits for its answer */
struct deferred_asker {                 /* wants the waiting jobs with this job_id cancelled */
	/* Once: of so many of them Kafka has the wish, so that they will end as cancelled; of the others it is not known, and why. */
	void (*told)(const struct deferred_asker *, size_t recorded, size_t others, const char *why);
	struct master *m;
	struct control_seat seat;
	uid_t uid;
	pid_t pid;
	size_t in_hand;                 /* jobs with this job_id that were cancelled elsewhere */
	char job_id[256];
};
/* How many there are; with 0 nobody is told anything. Else told, now or later, but within some seconds; the asker is copied. */
size_t deferred_cancel(struct deferred *, const struct deferred_asker *);
/* A reload has changed tenants' limits: those that wait for a quota ask again now, in the order in which they were due. */
void deferred_quotas_changed(struct deferred *);
/* NULL: fine. Else why deferred jobs are not read back. */
const char *deferred_trouble(const struct deferred *);
void deferred_refresh_metrics(const struct deferred *);
struct jsonw;
/* The waiting jobs, the next that is due first: at most max objects of an array; the number of the others is returned. */
size_t deferred_list(struct deferred *, struct jsonw *, size_t max);
size_t deferred_count(const struct deferred *);

/* ---- schedule.c: which task next ----------------------------------------------------------------------------------- */

/* Those whose tasks the same workers of a pool and role may serve; alive while it has tasks that wait, or workers. */
struct sched_key {
	char *name;                     /* the tenant, a group of them, or "": everybody */
	size_t n[PRIORITY__MAX], total; /* tasks that wait, but for those that wait alone */
	unsigned turn;
	unsigned workers;               /* that hold it */
	/* pool_share.c's, of its last look */
	uint64_t look;
	size_t has, idle;               /* workers; those without a task */
	bool met;                       /* its need of a further worker is met by one on its way */
	UT_hash_handle hh;
};

struct sched *sched_new(struct master *, size_t pools);
void sched_free(struct sched *);
void sched_push(struct sched *, struct task *);
void sched_remove(struct sched *, struct task *);
/* Takes out a task that waits here, for sched_push to put it back at once under another pool or key. All of a tenant's are lifted
 * before the first is put back. */
void sched_lift(struct sched *, struct task *);
/* The role a worker must have to be given this task. */
enum worker_role task_role(const struct task *);
/* The next task of this key for an idle worker of the pool and role; NULL: none that may start now. */
struct task *sched_pop(struct sched *, size_t pool, enum worker_role, const char *key);
/* The next of those that need a worker which has served none. */
struct task *sched_pop_alone(struct sched *, size_t pool, enum worker_role);
/* Is there one that may start now? Those before it that may not leave for where they wait, as sched_pop would have them. Asked
 * before another's worker is ended for it. A key without any more may be gone. */
bool sched_may_start(struct sched *, size_t pool, enum worker_role, struct sched_key *);
/* The same of those that need a worker which has served none. */
bool sched_wants_fresh(struct sched *, size_t pool, enum worker_role);
/* Tasks that wait for a worker of the pool and role and for nothing else. */
size_t sched_waiting(const struct sched *, size_t pool, enum worker_role);
/* Of these, those of one priority that need no fresh one. */
size_t sched_queued(const struct sched *, size_t pool, enum worker_role, enum job_priority);
/* May workers of this key (NULL: none) serve the task? */
bool sched_key_serves(const struct sched *, const struct sched_key *, const struct task *);
/* A worker is bound to the task's key from now on, or is not any more (NULL: it was not). */
struct sched_key *sched_key_hold(struct sched *, const struct task *);
void sched_key_release(struct sched *, size_t pool, enum worker_role, struct sched_key *);
/* Keys with tasks that wait. */
size_t sched_keys(const struct sched *, size_t pool, enum worker_role);
/* The key of each tenant in the order of their turns, until stop says so: that one, or NULL. */
struct sched_key *sched_walk(const struct sched *, size_t pool, enum worker_role, enum job_priority,
    bool (*stop)(void *, struct sched_key *), void *);
size_t sched_depth(const struct sched *, enum job_priority);
/* The same as sched_push, but the tenant's next one. */
void sched_push_first(struct sched *, struct task *);

/* ---- endpoint.c: the servers of network sources ---------------------------------------------------------------------- */

TAILQ_HEAD(taskq, task);
struct endpoints *endpoints_new(void);
void endpoints_free(struct endpoints *);
/* May the task start now? false: it waits here until one of its endpoint's ends (t->parked). */
bool endpoint_admit(struct master *, struct task *);
/* Would it be admitted now, by its tenant and here? Changes nothing. */
bool endpoint_would_admit(struct master *, const struct task *);
/* A task that waits here is taken out, and does not start: who waits behind it may. */
void endpoint_unpark(struct master *, struct task *);
/* What a task that waits here (t->parked) waits for: the setting. */
const char *endpoint_waits_for(const struct task *);
/* The task left the scheduler and does not start: who waits for the same endpoint may. */
void endpoint_left(struct master *, struct task *);
/* It was admitted, and its worker was gone: it is its tenant's next, and keeps its place. */
void endpoint_again(struct master *, struct task *);
/* network.tasks_per_endpoint may have changed. */
void endpoints_reloaded(struct master *);
size_t endpoints_parked(const struct endpoints *, enum job_priority);
void endpoint_started(struct master *, struct task *, struct slot *);
/* Once or more after each start; the next that waits goes to the scheduler. */
void endpoint_ended(struct master *, struct task *, bool failed);
/* Its server has answered something: it may hold more than network.silent_share. */
void endpoint_answered(struct master *, const struct task *);
/* It was admitted, and its worker finds no connection left for it: it keeps its turn. */
void endpoint_wait(struct master *, struct task *);
struct endpoint_view {
	const char *name;
	unsigned running, waiting, kept, held;  /* held: connections that are open or may be opened, kept ones too */
	const char *waits_for;                  /* the setting; NULL: none waits */
	uint64_t tasks, failed, requests;       /* requests: given under network.endpoint_requests_per_second */
	bool answers;
	uint64_t reused, reconnected;           /* kept connections: that served again; that the server had closed */
	int64_t idle_ms, request_wait_ms, connection_wait_ms;
	int64_t cert_expires;                   /* task.h's; 0: none met */
};
size_t endpoints_view(const struct master *, struct endpoint_view *out, size_t max);
/* Those whose TLS certificate ends within network.certificate_warning, or has ended. */
size_t endpoints_ending(const struct master *);
/* certificate.c: appends the warning of what the task met, if it is one at this time. */
void certificate_warning(const struct config *, const struct task_done *, int64_t now_ns, struct buf *);

/* ---- endpoint_conns.c: connections to them ----------------------------------------------------------------------------- */

/* So many connections the task may have open if this worker lists it now; 0: not one is left for it. */
unsigned endpoint_grant(struct master *, const struct task *, const struct slot *);
/* DONE came: what the worker has open is what it says that it keeps. */
void endpoint_task_done(struct slot *);
/* It may be given another task. */
void endpoint_worker_free(struct slot *);
/* The worker is gone, and with it all that it had open. */
void endpoint_worker_gone(struct slot *);
/* The frame KEPT. */
int endpoint_kept(struct slot *, const struct frame *, struct err *);
/* A worker was asked to close what it keeps, and has not told that it did. */
void endpoint_not_dropped(void *slot);
/* The idle worker that kept connections for this task's endpoint and tenant; else s. */
struct slot *endpoint_worker(struct master *, const struct task *, struct slot *s);

/* ---- hostkeys.c: keys of SSH servers that were accepted as new ----------------------------------------------------------- */

/* NULL with ERR_CONFIG: what is known cannot be read. */
struct hostkeys *hostkeys_new(struct master *, struct err *);
void hostkeys_free(struct hostkeys *);
void hostkeys_reloaded(struct hostkeys *);
/* The key that is remembered of the task's server into key, "" where there is none. 0, or -1: ERR_LIMIT, no further server can be
 * remembered. */
int hostkeys_lend(struct master *, const struct task *, char *key, size_t n, struct err *);
/* The frame HOSTKEY. */
int hostkeys_frame(struct master *, const struct task *, const struct frame *, struct err *);

/* ---- keyring.c: temporary credentials of S3 sources (more in keyring.h) ------------------------------------------------ */

struct keyring *keyring_new(struct master *);
void keyring_free(struct keyring *);
/* What tenants may has perhaps changed: all is fetched anew. */
void keyring_reloaded(struct keyring *);
/* Must the task's credentials be fetched before it can be listed? */
bool keyring_wanted(struct master *, const struct task *);
/* A task that waits here is taken out. */
void keyring_unpark(struct master *, struct task *);
size_t keyring_waiting(const struct keyring *, enum job_priority);
/* If its worker was fetching: it does no more, and others may. */
void keyring_gave_up(struct master *, struct task *);
/* The source says that the credentials are none any more. true: they are fetched anew, and the task is worth one more attempt. */
bool keyring_stale(struct master *, struct task *);

/* ---- dispatch.c: tasks to workers, frames to events ---------------------------------------------------------------- */

/* Gives queued tasks to idle workers; called after every round of the loop. */
void dispatch_run(struct master *);
/* A frame of a worker, already checked by ipc_check; 0, or -1 with the rule it breaks. */
int dispatch_frame(struct master *, struct slot *, const struct frame *, struct err *);
/* The worker of this slot has died and its socket is drained; verdict filled. */
void dispatch_worker_died(struct master *, struct slot *, const struct err *why, const struct verdict *);
/* publish.c: there is room again. */
void dispatch_room(struct master *);
/* For keyfetch.c: the next number of a task in frames; the task is this worker's from now on; it ends without a worker. */
uint64_t dispatch_wire(void);
void dispatch_begin(struct master *, struct task *, struct slot *, int64_t deadline_ms);
void dispatch_fail(struct master *, struct task *, const struct err *);
/* A spool waits to be read and there is room: the loop must not sleep. */
bool dispatch_reading(const struct master *);
/* Stops a task that is running (t->cancel is set by the caller). */
void dispatch_cancel(struct master *, struct task *);

/* ---- crew.c: the pools of the configuration --------------------------------------------------------------------------- */

const char *isolation_name(enum isolation);
/* The pool of the task and with whom it may share a worker there; -1: none takes it (POLICY). */
int pool_assign(struct pool *, struct task *, struct err *);
/* Whether a reload has left the task's pool fit for it. */
int pool_fits(const struct pool *, const struct task *, struct err *);
/* What the worker may read and do from this task on, beyond what its SETUP said; spec->root is set. */
void pool_confine(const struct slot *, const struct task *, struct task_spec *spec);
/* The directory among its pool's that holds this path; NULL: none. Borrowed until a reload. */
const char *pool_root(const struct pool *, const struct task *, const char *path);

/* ---- pool.c, pool_share.c, slot.c, slot_start.c, spawn.c: slots and processes ----------------------------------------------------- */

enum death_cause { DEATH_CLEAN, DEATH_CONFIG, DEATH_RESOURCE, DEATH_CRASH, DEATH_SANDBOX, DEATH_CPU, DEATH_MEMORY, DEATH_DEADLINE,
	DEATH_PROTOCOL, DEATH_KILLED, DEATH_START, DEATH_RECYCLED, DEATH_EXCHANGED, DEATH_CANCELLED, DEATH_EXIT, DEATH__MAX };
const char *death_cause_name(enum death_cause);

struct death {                      /* kept for `iis-pollerctl crashes` */
	int64_t at_ns;
	int slot;
	uint32_t generation;
	enum death_cause cause;
	struct verdict verdict;
	char job_id[256], org_id[129], source_type[16];
	char text[256];                 /* one sentence */
};
#define DEATHS_KEPT 64

struct deaths { struct death kept[DEATHS_KEPT]; uint64_t n; };
/* From a wait status alone. */
enum death_cause death_cause_of(int status);
/* What it means for the task that the worker had. */
enum err_class death_class(enum death_cause);
/* Fills in the verdict and the text, counts, logs, keeps; borrowed until DEATHS_KEPT more have died. */
const struct death *death_record(struct deaths *, const struct slot *, enum death_cause, int status);
/* Newest first; NULL past the end. */
const struct death *deaths_get(const struct deaths *, size_t i);

/* stderr.c: lines of a child's standard error; zeroed with fd -1 before the first open. */
typedef void stderr_fn(void *arg, const char *p, size_t n);
struct child_stderr { struct loop *loop; int fd; struct watch *watch; struct buf line; stderr_fn *fn; void *arg; };
/* Takes fd (non-blocking). -1: it cannot be watched; still to be closed. */
int stderr_open(struct child_stderr *, struct loop *, int fd, stderr_fn *, void *arg);
/* What is there now, and the last line, ended or not. */
void stderr_drain(struct child_stderr *);
void stderr_close(struct child_stderr *);

struct spawn_spec {                 /* spawn.c: one child; everything it inherits is named here and in spawn.c */
	const char *path;
	const char *const *argv;
	int spool_fd, listen_fd;        /* become 4 and 5, its end of the socket 3, its end of the stderr pipe 1 and 2; -1: none */
	/* Called for the socket (EPOLLIN), the exit (of the pidfd) and each line of its stderr. */
	watch_fn *on_socket, *on_exit;
	stderr_fn *on_stderr;
	void *arg;
};

struct child {                      /* one process that was started, and what the loop watches of it */
	pid_t pid;                      /* 0: none */
	int pidfd, fd;                  /* fd: our end of its socket, non-blocking; -1: none */
	int refused_fd;                 /* the page where it notes a call that its sandbox refused; sandbox_refused.c */
	struct watch *w_sock, *w_pid;   /* w_sock NULL: not read any more */
	struct child_stderr err;
};

void child_init(struct child *);
/* Starts and watches it. -1 (ERR_SYSTEM): nothing runs and nothing is open. Only from the main thread. */
int child_start(struct child *, struct loop *, const struct spawn_spec *, struct err *);
/* Closes and forgets all of it; the process, if it still runs, is not touched. */
void child_forget(struct child *, struct loop *);
/* -1: errno, ESRCH when it is gone. */
int child_signal(const struct child *, int sig);
/* <workers.path>, or NAME beside this program, or in LIBEXECDIR. Caller frees; NULL with err. */
char *spawn_find(const struct master *, const char *setting, const char *name, struct err *);

struct slot {
	struct master *m;
	int index;                      /* from 0 */
	struct crew *crew;              /* its pool in the configuration */
	struct sched_key *key;          /* whose tasks alone it serves, from its first one on; NULL: it has served none */
	int64_t bound_ms;               /* loop time of that */
	bool single;                    /* it ends with its first task */
	uint32_t generation;            /* one more at each spawn */
	enum worker_state state;        /* changed by slot_set_state alone */
	enum worker_role role;          /* of the process, told in SETUP; for its whole life */
	enum worker_role next_role;     /* of the slot's next process */
	bool turning;                   /* it was sound and is exchanged for a fresh one, not READY yet */
	uint32_t setup;                 /* the master's setup_generation when SETUP was sent */
	struct child proc;
	int spool_fd;
	struct timer timer;             /* READY deadline, kill steps, back-off */
	struct timer deadline;          /* the task's; stands still while reading is paused */
	int64_t deadline_left;          /* ms, while paused */
	struct task *task;
	uint64_t tasks_served;
	uint64_t tasks_max;             /* this worker's own recycling point */
	int64_t started_ms, since_ms;   /* of the process; of the state */
	int64_t spawned_us;             /* CLOCK_MONOTONIC, for the time to READY */
	unsigned failures;              /* deaths before READY in a row */
	bool paused;                    /* not read: Kafka has no room */
	bool greeted;                   /* HELLO came and was answered by SETUP: once a process */
	bool retire;                    /* is replaced when idle */
	bool spent;                     /* it has fetched credentials: exchanged when idle */
	enum death_cause killed_for;    /* why we kill it; DEATH_CLEAN: we do not */
	int kill_step;                  /* 0 none, 1 cancel or stop sent, 2 TERM sent, 3 KILL sent */
	uint64_t listed, matched;       /* from PROGRESS */
	int64_t chatter_ms;             /* LOG and PROGRESS frames are counted from here, for a second */
	unsigned chatter;
	int64_t spool_at, spool_end;    /* reading of the spool; end -1: not reading */
	uint32_t spool_generation;      /* of the worker that wrote it */
	uint64_t spool_files;           /* records read in this pass */
	bool spool_checked;             /* the first pass is over: now it is published */
	/* endpoint_conns.c's */
	struct endpoint *granted_at, *kept_at; /* NULL: none */
	unsigned granted;               /* connections that its running task may have open */
	unsigned kept;                  /* that it says it keeps open, between tasks and into its next one */
	bool dropping;                  /* it was asked to close these */
	struct timer drop_timer;        /* until when it must have */
	char tenant[129];               /* of its last task */
	char sandbox[512];              /* "" until READY */
	struct sandbox_active confined; /* as it says; while sandbox is not "" */
	char err_tail[512];
	struct rusage usage;
};

/* slot_start.c: an empty file without a name in spool.dir; -1 with the error. */
int spool_open(struct master *, struct err *);
struct pool *pool_new(struct master *);
int pool_start(struct pool *, struct err *);
void pool_free(struct pool *);
size_t pool_slots(const struct pool *);        /* those and the spare one: numbers of slots are below it */
const char *pool_program(const struct pool *); /* the worker's */
size_t pool_size(const struct pool *);         /* slots in use: workers.count, or what the descriptor limit allows */
struct slot *pool_slot(const struct pool *, size_t i);
size_t pool_in_state(const struct pool *, enum worker_state);
/* Workers that serve, or are exchanged for fresh ones just now: 0 is trouble. */
size_t pool_sound(const struct pool *);
/* The next task that can start now, taken from the scheduler, and the idle worker that gets it; NULL: none. Idle workers make
 * room for those that are needed more. */
struct task *pool_next(struct pool *, struct slot **);
/* Before its release: it has fetched credentials and is not used again; its slot's next worker lists. */
void pool_spent(struct slot *);
/* The worker has taken its first task. */
void pool_bind(struct slot *, const struct task *);
const char *slot_pool(const struct slot *);      /* the name of its pool */
/* The tenant ("acme"), or the group ("group g"), that it serves and no other; NULL: it has served none, or ends with its task. */
const char *slot_bound_to(const struct slot *);
size_t pool_crews(const struct pool *);          /* configured pools */
size_t pool_workers(const struct pool *, size_t pool); /* tasks that one of them serves at once */
const char *worker_role_name(enum worker_role);
const struct deaths *pool_deaths(const struct pool *);
uint64_t pool_restarts(const struct pool *);
/* A worker refused to run (exit 78): no more are started. */
bool pool_broken(const struct pool *);
/* Every worker is replaced, one at a time: what SETUP tells them has changed. */
void pool_refresh(struct pool *);
/* A worker left rather than take a task, since a root or file is not what its sandbox knows: the others of its age know no
 * better, and take no further task. */
void pool_stale(struct pool *);
/* STOP to the idle, end for all; pool_empty tells when. hard: KILL at once. */
void pool_stop(struct pool *, bool hard);
bool pool_empty(const struct pool *);
void slot_set_state(struct slot *, enum worker_state);
const char *worker_state_name(enum worker_state);
/* Begins to end this worker: cancel frame or STOP, then TERM, then KILL. now: KILL at once. */
void slot_kill(struct slot *, enum death_cause, bool now);
/* Its task's deadline is so much later. */
void slot_extend(struct slot *, int64_t ms);
/* Pauses or resumes reading the worker's socket, and its deadline with it. */
void slot_pause(struct slot *, bool paused);
/* DONE came: no deadline, and no kill that was under way, touches this worker any more. */
void slot_obeyed(struct slot *);
/* Finished with its task: idle again, or replaced. */
void slot_release(struct slot *);

/* ---- kafka.c: what consumer, producer and the admin tool share ------------------------------------------------------ */

/* (declared in master/kafka.h, since it needs rdkafka.h) */

/* ---- consume.c ------------------------------------------------------------------------------------------------------ */

struct consumer *consumer_new(struct master *);
int consumer_start(struct consumer *, struct err *);
void consumer_free(struct consumer *);         /* bounded, also with a hung broker */
/* jobs.c: there may be room again; reads on. */
void consumer_kick(struct consumer *);
/* The job's outcome is durable: its offset may be committed. Stale epochs are dropped. */
void consumer_completed(struct consumer *, const struct origin *);
/* Stop taking jobs (drain); the group is left by consumer_close. */
void consumer_stop(struct consumer *);
/* Final commit, leave the group; calls back consumer_closed() (bool) within its own 5 s bound. */
void consumer_close(struct consumer *);
bool consumer_closed(const struct consumer *);
/* Of the deferred topic, as last seen; at least 1. */
uint32_t consumer_deferred_partitions(const struct consumer *);
bool consumer_joined(const struct consumer *); /* the group has given us an assignment (it may be empty) */
/* NULL: fine. Else why nothing is consumed: brokers away, topic missing or forbidden (rule 14), held by ... */
const char *consumer_trouble(const struct consumer *);
struct partition_view {             /* for status, lag, metrics */
	const char *topic;          /* the consumer's */
	int32_t partition;
	int64_t frontier;               /* committed or to be committed next: everything below is done */
	int64_t next;                   /* highest taken + 1 */
	int64_t done_beyond;            /* done at or above the frontier */
	int64_t unfinished;
	int64_t high;                   /* high watermark last seen; -1 unknown */
	int64_t committed;              /* last acknowledged commit; -1 none yet */
	bool paused;
};
size_t consumer_partitions(const struct consumer *, struct partition_view *out, size_t max);

/* ---- publish.c -------------------------------------------------------------------------------------------------------- */

enum out_topic { OUT_EVENTS, OUT_RESULTS, OUT_DLQ, OUT_DEFERRED, OUT__MAX };

struct out_header { const char *name; const void *value; size_t n; };
#define OUT_HEADERS_MAX 40
struct out_record {                 /* event.c fills it, publish.c sends it; reused */
	struct buf key;
	bool has_key;
	struct buf value;
	struct buf text;                /* holds the headers' values */
	struct out_header h[OUT_HEADERS_MAX];
	size_t n_headers;
	int32_t partition;              /* -1: by the key */
};
void out_record_init(struct out_record *);
void out_record_release(struct out_record *);

struct publisher *publisher_new(struct master *);
int publisher_start(struct publisher *, struct err *);
void publisher_free(struct publisher *);       /* purges what is left; bounded */
/* Room for n more records now? Always true while nothing is outstanding. */
bool publish_room(const struct publisher *, size_t n);
/* Copies and queues the record. 0; or -1 and no report will come: ERR_MESSAGE_TOO_LARGE, ERR_KAFKA (held). */
int publish_send(struct publisher *, enum out_topic, const struct out_record *, struct ticket *, struct err *);
size_t publish_outstanding(const struct publisher *);
bool publisher_up(const struct publisher *);   /* a broker connection is up and no fatal error is being mended */
const char *publisher_trouble(const struct publisher *); /* NULL: fine */
const char *out_topic_name(const struct config *, enum out_topic);

/* ---- event.c: records to JSON -------------------------------------------------------------------------------------------- */

struct event_ctx;                   /* the constant parts of one task's events */
struct event_ctx *event_ctx_new(const struct config *, const struct task *);
void event_ctx_free(struct event_ctx *);
/* One file event: value, key, headers. out is cleared first. */
void event_write(struct event_ctx *, const struct record *, struct out_record *out);
/* The terminal record of a job whose tasks have all ended. */
void result_write(const struct config *, const struct jobrec *, struct out_record *out);
/* Its dead letter; falls back to the headers and the pointer to the original when larger than kafka.message_max. */
void dead_letter_write(const struct config *, const struct jobrec *, struct out_record *out);
void result_id(const struct config *, const struct origin *, char out[37]);
const char *origin_topic(const struct config *, const struct origin *);

/* ---- broker.c: the connector, where egress.mode is broker -------------------------------------------------------------- */

struct broker *broker_new(struct master *);
void broker_start(struct broker *);                   /* behind pool_start */
void broker_stop(struct broker *);
bool broker_empty(const struct broker *);             /* its child has ended */
void broker_free(struct broker *);
bool broker_ready(const struct broker *);
bool broker_failing(const struct broker *);           /* it died several times in a row, and is not there */
/* The worker's end of a channel to the connector, the caller's to close; -1 with err. */
int broker_channel(struct broker *, uint32_t slot, struct err *);
/* What the slot's next task, org_id's, may reach, before its JOB. 0; -1: LIMIT (the task's), TRANSIENT (the connector's). */
int broker_grant(struct broker *, uint32_t slot, const char *org_id, const struct source_conf *, const struct egress_lists *tenant,
    const struct strlist *hosts, struct err *);
struct keys_ask;
int broker_grant_keys(struct broker *, uint32_t slot, const char *org_id, const struct keys_ask *, struct err *);
/* Nothing any more. */
void broker_revoke(struct broker *, uint32_t slot);
struct broker_view {
	const char *state;              /* starting, ready, dying, backoff */
	pid_t pid;                      /* 0: none */
	int64_t since_ms;               /* loop time of the state's beginning */
	uint64_t restarts;              /* it ended without being told to */
	const char *sandbox;            /* what holds, in words; "" while it is not ready */
	const char *last_death;         /* "" none yet */
};
void broker_view(const struct broker *, struct broker_view *);

/* ---- broker_show.c ------------------------------------------------------------------------------------------------------ */

struct broker_tally;
void broker_init_metrics(void); /* their series: none where workers connect themselves */
void broker_tally(const struct broker_tally *);
void broker_refresh_metrics(const struct master *);
const char *broker_state_name(enum worker_state);
/* The member "connector": null where workers connect themselves. */
void broker_json(struct jsonw *, const struct master *);
/* Asks since the start, of names and connections together but for those that came to something. */
struct broker_work { int64_t names, connections, in_flight, refused, failed; };
void broker_work(struct broker_work *);

/* ---- status.c, httpd.c: pages and the child that serves them --------------------------------------------------------- */

struct httpd *httpd_new(struct master *);
int httpd_start(struct httpd *, struct err *); /* binds; a taken port is an error that names it */
/* A snapshot now instead of at the next second: readiness has changed. */
void httpd_refresh(struct httpd *);
void httpd_stop(struct httpd *);
bool httpd_empty(const struct httpd *);        /* its child has ended */
void httpd_free(struct httpd *);
const char *httpd_url(const struct httpd *);   /* "http://127.0.0.1:7093" */
/* Renderers, shared with control.c. */
void status_json(struct master *, struct buf *);
void status_html(struct master *, struct buf *);
void status_health(struct master *, struct buf *, int *http_status);
void status_refresh_metrics(struct master *);  /* sets the gauges that are read off the rooms */

/* ---- control.c: the admin socket ------------------------------------------------------------------------------------------ */

struct control *control_new(struct master *);
int control_start(struct control *, struct err *); /* another master on the socket: ERR_CONFIG that names it */
void control_free(struct control *);

/* ---- notify.c ----------------------------------------------------------------------------------------------------------------- */

/* sd_notify(3)'s datagram to $NOTIFY_SOCKET; nothing where it is not set. */
void notify_send(const char *state);
/* WATCHDOG_USEC / 2 in ms, or 0 */
int64_t notify_watchdog_ms(void);

/* ---- journal.c: DESIGN.md rule 11 -------------------------------------------------------------------------------------------- */

/* identity: whose messages they are (topic and group); a journal of another identity is forgotten. */
struct journal *journal_open(const char *dir, const char *identity, struct err *);
void journal_close(struct journal *);
/* What the master has in hand now; journal_clear when it is through. Nesting is not needed. */
void journal_hold(struct journal *, const struct origin *);
void journal_clear(struct journal *);
/* Deaths of the master while it had this message in hand (before this process). */
unsigned journal_deaths(const struct journal *, const struct origin *);
/* The job has ended: forget it. */
void journal_forget(struct journal *, const struct origin *);

/* ---- demo.c: the embedded broker ---------------------------------------------------------------------------------------------- */

struct demo *demo_start(const struct config *, struct err *); /* creates the topics */
const char *demo_bootstrap(const struct demo *);
void demo_stop(struct demo *);

/* ---- demo_run.c: what --demo changes and says ------------------------------------------------------------------------------- */

/* Temporary directory (caller frees and removes), embedded broker, settings. */
int demo_prepare(struct master *, char **dir, struct err *);
void demo_greet(const struct master *);
void demo_dir_remove(const char *dir);

#endif
