/*
 * rates.c - requests a second: of each tenant and of each endpoint, over all tasks that run.
 *
 * Where a limit holds for a task, its worker asks (ASK) for as many requests as it would start now and starts them when it
 * was answered (TURNS); so all tasks' requests together are what the buckets gave, however many tasks there are and
 * whatever each of them needs. Asks are answered in turn, as both buckets have something. Who starts without asking has
 * a worker that was taken over; it reaches no further than its own tenant's task does anyway.
 *
 * dispatch.c brings the asks and says when a task has ended. A wait here is not the task's time: its deadline stands still,
 * for as long as timeouts.job_max at most. A bucket that tasks had to wait for lately is short: endpoint.c and tenants.c
 * then let fewer tasks hold a worker to wait in.
 */
#include <stdlib.h>
#include <time.h>

#include "common/cursor.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define SECOND_NS INT64_C(1000000000)
#define BURST_PART 10                   /* of a second's requests to an endpoint, of a minute's of a tenant, so many at once */
#define SHORT_MS 1000                   /* so long after somebody found it empty a bucket is short */
#define LOOK_MS 500                     /* those that wait are looked at this often at least */
#define FULL_SOCKET_MS 10               /* a worker that does not read is tried again */

enum limit { LIMIT_TENANT, LIMIT_ENDPOINT, LIMIT__MAX };

struct ask {
	struct task *task;
	uint32_t n;
	int64_t since_ms, lent_ms;      /* loop time: when it came; up to which its task was given time back */
	bool lacked[LIMIT__MAX];        /* it had to wait for these */
	TAILQ_ENTRY(ask) entry;
};

struct rates {
	struct master *m;
	TAILQ_HEAD(asks, ask) asks;     /* those that wait; who was answered asks again behind the others */
	struct timer timer;             /* the next turn */
	struct timer calm;              /* no bucket may be short any more: more tasks may start */
};

/* ---- buckets -------------------------------------------------------------------------------------------------------- */

struct rate
rate_of(int64_t requests, int64_t span_ns)
{
	int64_t burst = requests / BURST_PART;

	/* Rounded up: never faster than the setting says. */
	return requests ? (struct rate){ (span_ns + requests - 1) / requests, burst > 1 ? burst : 1 } : (struct rate){ 0, 0 };
}

/* Of what a rate left that was lower before a reload nobody waits for more than one bucket. */
static int64_t
lacks(const struct bucket *b, struct rate r, int64_t now_ns)
{
	int64_t ns = b->full_ns > now_ns ? b->full_ns - now_ns : 0, all = (r.burst + 1) * r.each_ns;

	return ns < all ? ns : all;
}

uint32_t
bucket_has(const struct bucket *b, struct rate r, int64_t now_ns)
{
	int64_t n;

	if (!r.each_ns)
		return UINT32_MAX;
	n = (r.burst * r.each_ns - lacks(b, r, now_ns)) / r.each_ns;
	return n > 0 ? (uint32_t)n : 0;
}

int64_t
bucket_wait(const struct bucket *b, struct rate r, int64_t now_ns)
{
	int64_t ns = r.each_ns + lacks(b, r, now_ns) - r.burst * r.each_ns;

	return r.each_ns && ns > 0 ? ns : 0;
}

void
bucket_take(struct bucket *b, struct rate r, int64_t now_ns, uint32_t n)
{
	if (!r.each_ns)
		return;
	b->given += n;
	b->full_ns = now_ns + lacks(b, r, now_ns) + n * r.each_ns;
}

bool
bucket_short(const struct bucket *b, struct rate r, int64_t now_ms)
{
	return r.each_ns && b->short_ms && now_ms - b->short_ms < SHORT_MS;
}

unsigned
rates_tasks(int64_t workers)
{
	return workers > 2 ? (unsigned)(workers / 2) : 1;
}

/* ---- which buckets a task needs --------------------------------------------------------------------------------------- */

static const char *const limit_names[LIMIT__MAX] = { "tenant", "endpoint" };

struct need { struct bucket *b; struct rate r; };

static void
needs(struct master *m, const struct task *t, struct need n[LIMIT__MAX])
{
	n[LIMIT_TENANT].b = tenant_bucket(m, t, &n[LIMIT_TENANT].r);
	n[LIMIT_ENDPOINT].b = endpoint_bucket(m, t, &n[LIMIT_ENDPOINT].r);
}

bool
rates_hold(struct master *m, const struct task *t)
{
	struct need n[LIMIT__MAX];

	needs(m, t, n);
	return n[LIMIT_TENANT].r.each_ns || n[LIMIT_ENDPOINT].r.each_ns;
}

/* ---- asks --------------------------------------------------------------------------------------------------------------- */

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND_NS + ts.tv_nsec;
}

static int
send_turns(const struct task *t, uint32_t n)
{
	struct buf b = BUF_INIT;
	int r;

	ipc_begin(&b, MSG_TURNS, t->slot->generation, t->wire);
	buf_u32(&b, n);
	ipc_finish(&b);
	r = ipc_send(t->slot->proc.fd, &b);
	buf_release(&b);
	return r;
}

static void
forget(struct rates *r, struct ask *a)
{
	TAILQ_REMOVE(&r->asks, a, entry);
	a->task->ask = NULL;
	free(a);
}

/* The wait so far is not the task's time; ms that were given back. */
static int64_t
lend(struct rates *r, struct ask *a)
{
	int64_t now = loop_now(r->m->loop), ms = now - a->lent_ms, most = r->m->cfg->timeout_job_max - a->task->lent_ms;

	a->lent_ms = now;
	ms = ms < most ? ms : most;
	if (ms <= 0)
		return 0;
	a->task->lent_ms += ms;
	return ms;
}

/* As many as both buckets have; 0: none now, *wait_ns: for how long. */
static uint32_t
allowed(struct rates *r, struct ask *a, const struct need need[LIMIT__MAX], int64_t *wait_ns)
{
	int64_t now = now_ns();
	uint32_t n = a->n;

	*wait_ns = 0;
	for (int i = 0; i < LIMIT__MAX; i++) {
		uint32_t has = bucket_has(need[i].b, need[i].r, now);
		int64_t wait = bucket_wait(need[i].b, need[i].r, now);

		n = has < n ? has : n;
		*wait_ns = wait > *wait_ns ? wait : *wait_ns;
		if (has)
			continue;
		a->lacked[i] = true;
		need[i].b->short_ms = loop_now(r->m->loop);
	}
	return n;
}

static void
answered(struct rates *r, struct ask *a, const struct need need[LIMIT__MAX], uint32_t n)
{
	int64_t ms = loop_now(r->m->loop) - a->since_ms, lent = lend(r, a);

	if (lent)
		slot_extend(a->task->slot, lent);
	for (int i = 0; i < LIMIT__MAX; i++) {
		bucket_take(need[i].b, need[i].r, now_ns(), n);
		if (!a->lacked[i])
			continue;
		need[i].b->waited_ms += ms;
		metric_add(METRIC_REQUEST_WAIT, (double)ms / 1000, limit_names[i], NULL);
	}
	forget(r, a);
}

/* 0 answered, or nobody is there; else ns until it is worth another look. */
static int64_t
serve_one(struct rates *r, struct ask *a)
{
	struct need need[LIMIT__MAX];
	int64_t wait;
	uint32_t n;
	int sent;

	needs(r->m, a->task, need);
	n = allowed(r, a, need, &wait);
	if (!n)
		return wait > 0 ? wait : 1;
	sent = send_turns(a->task, n);
	if (!sent)
		return FULL_SOCKET_MS * 1000000;
	if (sent > 0)
		answered(r, a, need, n);
	else
		forget(r, a);           /* its worker's death is on the way */
	return 0;
}

static void
serve(struct rates *r)
{
	int64_t next = LOOK_MS * INT64_C(1000000), wait;
	struct ask *a, *behind;

	for (a = TAILQ_FIRST(&r->asks); a; a = behind) {
		behind = TAILQ_NEXT(a, entry);
		wait = serve_one(r, a);
		if (wait && wait < next)
			next = wait;
	}
	if (TAILQ_EMPTY(&r->asks)) {
		timer_cancel(r->m->loop, &r->timer);
		return;
	}
	timer_set(r->m->loop, &r->timer, (next + 999999) / 1000000);
	timer_set(r->m->loop, &r->calm, SHORT_MS + 1);
}

static void
timer_due(void *arg)
{
	serve(arg);
}

static void
calm_due(void *arg)
{
	struct rates *r = arg;

	endpoints_reloaded(r->m);
}

/* ---- what others tell --------------------------------------------------------------------------------------------------- */

struct rates *
rates_new(struct master *m)
{
	struct rates *r = xcalloc(1, sizeof(*r));

	r->m = m;
	TAILQ_INIT(&r->asks);
	timer_init(&r->timer, timer_due, r);
	timer_init(&r->calm, calm_due, r);
	return r;
}

void
rates_free(struct rates *r)
{
	if (!r)
		return;
	while (!TAILQ_EMPTY(&r->asks))
		forget(r, TAILQ_FIRST(&r->asks));
	timer_cancel(r->m->loop, &r->timer);
	timer_cancel(r->m->loop, &r->calm);
	free(r);
}

int
rates_ask(struct master *m, struct task *t, const struct frame *f, struct err *e)
{
	struct cursor c;
	struct ask *a;
	uint32_t n;

	cursor_init(&c, f->payload, f->n);
	n = cursor_u32(&c);
	if (!cursor_end(&c) || !n || n > IPC_ASK_MAX)
		return err_set(e, ERR_WORKER_PROTOCOL, "ASK for %u requests", n);
	if (!t->asks)
		return err_set(e, ERR_WORKER_PROTOCOL, "ASK of a task that has no limit");
	if (t->ask)
		return err_set(e, ERR_WORKER_PROTOCOL, "ASK while one is not answered yet");
	a = t->ask = xcalloc(1, sizeof(*a));
	a->task = t;
	a->n = n;
	a->since_ms = a->lent_ms = loop_now(m->loop);
	TAILQ_INSERT_TAIL(&m->rates->asks, a, entry);
	serve(m->rates);
	return 0;
}

void
rates_left(struct master *m, struct task *t)
{
	if (t->ask)
		forget(m->rates, t->ask);
}

int64_t
rates_lend(struct master *m, struct task *t)
{
	return t->ask ? lend(m->rates, t->ask) : 0;
}

void
rates_reloaded(struct master *m)
{
	for (size_t i = 0; i < pool_size(m->pool); i++) {
		struct slot *s = pool_slot(m->pool, i);
		struct task *t = s->task;

		/* It was given no limit when it began; 0: from now on it asks. */
		if (!t || t->slot != s || t->fetches || t->state != TASK_RUNNING || t->asks || !rates_hold(m, t))
			continue;
		t->asks = send_turns(t, 0) > 0;
	}
	serve(m->rates);
}
