/*
 * consumer.h - what consume.c, partition.c, rebalance.c and probe.c share; nobody else includes it.
 *
 * consume.c owns the handle, its queues and the reading; partition.c the partitions' states and commits; rebalance.c
 * answers the group's rebalances; probe.c is the one thread for calls that can only block.
 */
#ifndef MASTER_CONSUMER_H
#define MASTER_CONSUMER_H

#include "master/intake.h"
#include "master/kafka.h"
#include "master/master.h"
#include "master/offsets.h"

struct written {                    /* one commit of one partition; meta NULL: none yet */
	int64_t offset;
	char *meta;
};

struct part {                       /* one partition of a polling queue, ours or just revoked */
	const char *topic;          /* the consumer's */
	size_t slot;                /* in the table */
	int32_t id;
	uint32_t epoch;             /* new whenever its jobs in hand are no longer ours to complete */
	struct offsets of;
	bool assigned;
	bool paused;                /* its own window is full */
	size_t in_window;           /* scratch of tenants_crowd.c */
	rd_kafka_queue_t *queue;    /* forwarded to the jobs queue */
	rd_kafka_message_t **stash; /* read, but outside of the window; in order */
	size_t n_stash, stash_cap;
	struct written acked, sent; /* last commits: acknowledged, and sent (perhaps acknowledged unseen) */
	struct offsets acked_of;    /* what the acknowledged one says, when somebody has asked since */
	bool acked_read;
	uint64_t acked_changes, sent_changes;
	uintptr_t sent_seq;
};

enum rebalance { REB_NONE, REB_REVOKING, REB_ASKING };
enum closing { CLOSE_NO, CLOSE_COMMIT, CLOSE_LEAVE, CLOSE_DONE };

struct probe;

struct consumer {
	struct master *m;
	rd_kafka_t *rk;             /* NULL until consumer_start */
	rd_kafka_queue_t *events;   /* rebalances, errors, logs, commits' and admin's results */
	rd_kafka_queue_t *jobs;     /* all partitions' messages */
	rd_kafka_queue_t *deferred; /* those of the deferred topic, read apart: neither may keep the other from being fetched */
	rd_kafka_queue_t *leaving;  /* takes the events' place while the group is left */
	int events_fd, jobs_fd, deferred_fd; /* eventfds, written by librdkafka when a queue is no longer empty */
	struct watch *w_events, *w_jobs, *w_deferred, *w_probe;
	struct timer tick;          /* each second: librdkafka wants its queues polled */
	struct timer read;          /* reading goes on */
	struct timer read_deferred;
	struct timer commit;
	struct timer rebalance;     /* deadline of the revoke's commit, or back-off of the question for offsets */
	struct timer close;
	struct timer check;         /* next probe */

	char *queues[KAFKA_QUEUES_MAX]; /* the polling queues; owned, and the same until the end */
	size_t n_queues;
	struct part **parts;        /* partition p of queue q: p * n_queues + q; NULL: not ours */
	size_t n_parts;
	size_t stashed;             /* messages in all stashes */
	struct intake *intake;      /* read, taken of their partitions, and no jobs yet */
	uint32_t epochs;            /* the last one given */

	bool jobs_ready;            /* the jobs queue was not drained */
	bool deferred_ready;        /* nor the deferred ones' */
	bool events_left;           /* nor the events' */
	bool stopped;
	bool subscribed;
	bool joined;
	bool committing;
	uintptr_t commit_seq;

	enum rebalance rebalancing;
	bool revoke_committed;
	rd_kafka_topic_partition_list_t *wanted; /* the assignment to answer */
	uintptr_t ask_seq;
	int64_t ask_wait_ms;

	enum closing closing;
	int64_t close_ms;           /* bound of each of the two steps */
	int64_t left_ms;            /* time spent on leaving the group */

	struct probe *probe;
	int deferred_partitions;    /* of the deferred topic, as the probe saw them */
	bool probe_busy, probe_again, probe_good;
	bool trouble_told;          /* by the connections, not by the probe */
	char trouble[896];          /* brokers and topics; "" none; the next good probe clears it */
	char group_trouble[512];    /* the next assignment clears it */
	char fatal[640];            /* for good */
};

/* tenants_crowd.c asks: could messages be read, if there were room? Is the window of some partition full? */
bool consumer_is_well(const struct consumer *);
bool consumer_jammed(const struct consumer *);
/* A count for each full window, cleared together; NULL: there is room in the job's, or it has none. */
void consumer_windows_clear(struct consumer *);
size_t *consumer_window(struct consumer *, const struct origin *at);

/* partition.c */
/* NULL: not ours; topic NULL: the first polling queue. */
struct part *consumer_part(struct consumer *, const char *topic, int32_t id);
/* Makes room in the table; NULL for a number that no topic has, and for another topic. */
struct part *consumer_part_add(struct consumer *, const char *topic, int32_t id);
void consumer_part_free(struct consumer *, struct part *);
void consumer_stash_free(struct consumer *, struct part *);
bool consumer_dirty(const struct consumer *);
/* Commits what has changed of the assigned partitions; nothing while one is in flight. */
void consumer_commit(struct consumer *);
void consumer_commit_due(void *consumer);
/* The result of a commit. */
void consumer_committed(struct consumer *, rd_kafka_event_t *);
void consumer_pause(struct consumer *, struct part *, bool paused);
void written_set(struct written *, int64_t offset, const char *meta, size_t n);
bool written_is(const struct written *, int64_t offset, const char *meta, size_t n);
/* This commit is known to stand. */
void consumer_part_acked(struct part *, int64_t offset, const char *meta, size_t n);

enum consumer_place { PLACE_COMMITTED, PLACE_OPEN, PLACE_ELSEWHERE };
/* Does the group's committed offset say that the message is done? Elsewhere: the partition is not ours, nobody knows here.
 * topic: its defer_hash. */
enum consumer_place consumer_place(struct consumer *, uint64_t topic, int32_t partition, int64_t offset);

/* Commits within the commit interval. */
void consumer_commit_soon(struct consumer *);

/* consume.c */
/* May a job be taken now? */
bool consumer_may_read(const struct consumer *);
/* A fresh epoch for a partition. */
uint32_t consumer_epoch(struct consumer *);
bool consumer_traceparent_valid(const char *);
/* The last commit before the group is left is on its way, or over. */
void consumer_close_step(struct consumer *);

/* rebalance.c */
void rebalance_event(struct consumer *, rd_kafka_event_t *);
/* The answer to the question for committed offsets. */
void rebalance_offsets(struct consumer *, rd_kafka_event_t *);
/* A commit has ended: a revoke may wait for it. */
void rebalance_step(struct consumer *);
void rebalance_due(void *consumer);
/* Answers what is pending with "nothing": the group is being left. */
void rebalance_abandon(struct consumer *);

/* deferred.c: the partitions of the deferred topic */
/* All of them: nothing more is released; state and jobs in hand stay. */
void deferred_unassign(struct deferred *);
/* Those that are not in the list went elsewhere. */
void deferred_drop_lost(struct deferred *, const rd_kafka_topic_partition_list_t *);
/* One is ours, with what is committed of it: where to read on; -1: its beginning. */
int64_t deferred_assign(struct deferred *, const rd_kafka_topic_partition_t *, size_t meta_n);
/* Some are not read to their end yet, and it is not long ago that they were given: a job of the polling queue may wait here too. */
bool deferred_catching_up(const struct deferred *);
bool deferred_room(const struct deferred *);
void deferred_message(struct deferred *, rd_kafka_message_t *); /* takes it */
void deferred_tick(struct deferred *);
bool deferred_dirty(const struct deferred *);
void deferred_commit_add(struct deferred *, rd_kafka_topic_partition_list_t *, uintptr_t seq);
void deferred_committed(struct deferred *, int32_t partition, uintptr_t seq);
/* Marks what is done and not marked yet. */
void deferred_flush(struct deferred *);
/* Gives back what it has of the consumer's handle, before that goes. */
void deferred_close(struct deferred *);
/* deferred_rewrite.c */
void deferred_ask_retention(struct deferred *, rd_kafka_t *, rd_kafka_queue_t *answer);
void deferred_retention(struct deferred *, rd_kafka_event_t *);

/* probe.c */
struct probe_answer {
	rd_kafka_resp_err_t err;                  /* of the brokers: then the rest says nothing */
	rd_kafka_resp_err_t topic[KAFKA_TOPICS_MAX];  /* in kafka_topics' order */
	int partitions[KAFKA_TOPICS_MAX];
};
struct probe *probe_new(rd_kafka_t *, const struct config *, struct err *);
int probe_fd(const struct probe *);
void probe_ask(struct probe *);
bool probe_answer(struct probe *, struct probe_answer *);
void probe_dispose(struct probe *, rd_kafka_t *);
/* False: the thread hangs in a call and was left behind; its handle must not be destroyed then. */
bool probe_free(struct probe *, int wait_ms);

#endif
