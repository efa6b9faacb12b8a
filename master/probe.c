/*
 * probe.c - the one thread for Kafka calls that can only block: metadata of our topics, and a producer's end.
 *
 * Made by consume.c. The thread touches none of the master's state: it has its own copies, and a socketpair over
 * which fixed structs travel. It ends when the other end is closed. Never logs.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef __SANITIZE_THREAD__
#include <threads.h>
#endif

#include "common/xalloc.h"
#include "master/consumer.h"
#include "common/banned.h"

#define METADATA_MS 5000

struct question {
	rd_kafka_t *dispose;    /* NULL: ask for the topics */
};

struct probe {
	pthread_t thread;
	int fd;
};

struct prober {                 /* the thread's own; it frees it */
	int fd;
	rd_kafka_t *rk;
	char *topic[KAFKA_TOPICS_MAX];
	size_t n;
};

/* The other end is closed: nobody waits for an answer. */
static bool
abandoned(const struct prober *p)
{
	char c;

	return recv(p->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static rd_kafka_resp_err_t
ask_topic(const struct prober *p, const char *topic, rd_kafka_resp_err_t *of_topic, int *partitions)
{
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(p->rk, topic, NULL);
	const struct rd_kafka_metadata *md;
	rd_kafka_resp_err_t err;

	if (!rkt)
		return rd_kafka_last_error();
	err = rd_kafka_metadata(p->rk, 0, rkt, &md, METADATA_MS);
	rd_kafka_topic_destroy(rkt);
	if (err)
		return err;
	*of_topic = md->topic_cnt == 1 ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	*partitions = md->topic_cnt == 1 ? md->topics[0].partition_cnt : 0;
	rd_kafka_metadata_destroy(md);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void
ask_all(const struct prober *p)
{
	struct probe_answer a;

	memset(&a, 0, sizeof(a));
	for (size_t i = 0; i < p->n && !a.err; i++) {
		if (abandoned(p))
			return;
		a.err = ask_topic(p, p->topic[i], &a.topic[i], &a.partitions[i]);
	}
	/* fails when nobody listens any more; then the next read ends the thread */
	(void)!send(p->fd, &a, sizeof(a), MSG_NOSIGNAL);
}

static void *
prober_main(void *arg)
{
	struct prober *p = arg;
	struct question q;
	ssize_t n;

	for (;;) {
		n = recv(p->fd, &q, sizeof(q), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(q))
			break;
		if (q.dispose)
			rd_kafka_destroy(q.dispose);
		else
			ask_all(p);
	}
	close(p->fd);
	for (size_t i = 0; i < p->n; i++)
		free(p->topic[i]);
	free(p);
	return NULL;
}

static int
thread_start(struct probe *p, struct prober *own)
{
	sigset_t all, old;
	int ret;

	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&p->thread, NULL, prober_main, own);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

struct probe *
probe_new(rd_kafka_t *rk, const struct config *cfg, struct err *e)
{
	const char *topics[KAFKA_TOPICS_MAX];
	struct prober *own;
	struct probe *p;
	int fd[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0) {
		err_errno(e, ERR_SYSTEM, "socketpair");
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	own = xcalloc(1, sizeof(*own));
	p->fd = fd[0];
	own->fd = fd[1];
	own->rk = rk;
	own->n = kafka_topics(cfg, topics);
	for (size_t i = 0; i < own->n; i++)
		own->topic[i] = xstrdup(topics[i]);
	ret = thread_start(p, own);
	if (ret == 0)
		return p;
	err_set(e, ERR_SYSTEM, "cannot start a thread: %s", strerror(ret));
	for (size_t i = 0; i < own->n; i++)
		free(own->topic[i]);
	close(fd[0]);
	close(fd[1]);
	free(own);
	free(p);
	return NULL;
}

int
probe_fd(const struct probe *p)
{
	return p->fd;
}

static bool
ask(struct probe *p, const struct question *q)
{
	return send(p->fd, q, sizeof(*q), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(*q);
}

void
probe_ask(struct probe *p)
{
	struct question q = { NULL };

	/* at most one is on its way, so that there is room */
	if (!ask(p, &q))
		BUG("the probe's thread is gone");
}

void
probe_dispose(struct probe *p, rd_kafka_t *rk)
{
	struct question q = { rk };

	if (!ask(p, &q))
		rd_kafka_destroy(rk);
}

bool
probe_answer(struct probe *p, struct probe_answer *a)
{
	return recv(p->fd, a, sizeof(*a), MSG_DONTWAIT) == sizeof(*a);
}

bool
probe_free(struct probe *p, int wait_ms)
{
	struct timespec until;
	bool ended;

	if (!p)
		return true;
	close(p->fd);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += wait_ms / 1000;
	ended = pthread_timedjoin_np(p->thread, NULL, &until) == 0;
	if (!ended)
		pthread_detach(p->thread);
	free(p);
	return ended;
}

/* ---- ThreadSanitizer ------------------------------------------------------------------------------------------------ */

#ifdef __SANITIZE_THREAD__
/*
 * librdkafka starts its threads by thrd_create, which gcc 12's ThreadSanitizer does not know: it would crash in the
 * first of them. Built with it, the program brings these two, which take the way that it does know.
 */
struct thrd_start { thrd_start_t fn; void *arg; };

static void *
thrd_main(void *arg)
{
	struct thrd_start s = *(struct thrd_start *)arg;

	free(arg);
	return (void *)(intptr_t)s.fn(s.arg);
}

int
thrd_create(thrd_t *t, thrd_start_t fn, void *arg)
{
	struct thrd_start *s = xmalloc(sizeof(*s));
	pthread_t id;

	*s = (struct thrd_start){ fn, arg };
	if (pthread_create(&id, NULL, thrd_main, s)) {
		free(s);
		return thrd_error;
	}
	*t = (thrd_t)id;
	return thrd_success;
}

int
thrd_join(thrd_t t, int *result)
{
	void *r;

	if (pthread_join((pthread_t)t, &r))
		return thrd_error;
	if (result)
		*result = (int)(intptr_t)r;
	return thrd_success;
}
#endif
