/*
 * slot_start.c - starts a slot's worker, or makes the slot wait for it; HELLO, SETUP and READY. Called by pool.c and
 * slot.c.
 *
 * A worker that dies before READY makes its slot wait (0.1 s doubling to 30 s, with jitter); one that dies at a task is
 * replaced at once: a poison job must not take the pool from its neighbours. A token bucket bounds starts, but for those
 * in the place of sound workers, and when no start succeeds any more only one slot goes on trying.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"
#include "common/banned.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 30000
#define TOKENS_PER_SECOND 5
#define CONNECTOR_WAIT_MS 50

static int64_t
mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* 0.8 .. 1.2 of v, so that slots do not move in step. */
static int64_t
jitter(int64_t v)
{
	uint32_t r = 0;

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = (uint32_t)mono_us();
	return v * 4 / 5 + (int64_t)((double)v * 0.4 * (r / 4294967296.0));
}

/* ---- when -------------------------------------------------------------------------------------------------------- */

/* One start of the bucket: 0, or the ms to wait for it. */
static int64_t
token(struct pool *p)
{
	int64_t now = loop_now(p->m->loop);

	p->tokens += (double)(now - p->tokens_ms) * TOKENS_PER_SECOND / 1000;
	if (p->tokens > (double)p->n)
		p->tokens = (double)p->n;
	p->tokens_ms = now;
	if (p->tokens < 1)
		return (int64_t)((1 - p->tokens) * 1000 / TOKENS_PER_SECOND) + 1;
	p->tokens -= 1;
	return 0;
}

static bool
breaker_open(const struct pool *p)
{
	return p->failed_starts >= 3 * p->n;
}

/* While no start succeeds one slot alone goes on trying: the first of those that wait, unless one is starting. */
static bool
its_try(const struct slot *s)
{
	const struct pool *p = s->m->pool;

	for (size_t i = 0; i <= p->n; i++)
		if (p->slots[i].state == WORKER_STARTING)
			return false;
	for (size_t i = 0; i <= p->n; i++) {
		const struct slot *o = &p->slots[i];

		if (o != p->spare && o->state == WORKER_BACKOFF && o->spool_end < 0)
			return o == s;
	}
	return true;
}

/* Waits and starts again; ms 0: at the next turn of the loop. */
static void
backoff(struct slot *s, int64_t ms)
{
	slot_set_state(s, WORKER_BACKOFF);
	timer_set(s->m->loop, &s->timer, ms);
}

void
slot_failed_early(struct slot *s)
{
	int64_t ms = BACKOFF_FIRST_MS;

	for (unsigned i = 0; i < s->failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	s->turning = false;
	s->failures++;
	s->m->pool->failed_starts++;
	backoff(s, jitter(ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS));
}

/* The slots that wait only because no start succeeded, or a worker refused to run, try again now that one has. */
static void
wake_backoff(struct pool *p)
{
	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		if (s->state == WORKER_BACKOFF && s != p->spare && s->spool_end < 0)
			timer_set(p->m->loop, &s->timer, 0);
	}
}

/* ---- how --------------------------------------------------------------------------------------------------------- */

int
spool_open(struct master *m, struct err *e)
{
	const char *dir = *m->cfg->spool_dir ? m->cfg->spool_dir : m->cfg->state_dir;
	char *path;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR) {
		err_errno(e, err_class_of_path(errno), "cannot make a spool in %s", dir);
		return -1;
	}
	path = xasprintf("%s/spool.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		err_errno(e, err_class_of_path(errno), "cannot make a spool in %s", dir);
	else
		unlink(path);
	free(path);
	return fd;
}

void
spool_empty(struct slot *s)
{
	if (s->spool_fd >= 0 && ftruncate(s->spool_fd, 0) < 0)
		LOG(LOG_WARN, "spool_truncate_failed", LI("slot", s->index), LS("error", strerror(errno)));
}

void
spool_close(struct slot *s)
{
	if (s->spool_fd >= 0)
		close(s->spool_fd);
	s->spool_fd = -1;
}

/* A line of the worker's own stderr: logged, and kept as the tail for the verdict. */
static void
on_stderr_line(void *arg, const char *p, size_t n)
{
	struct slot *s = arg;

	LOG(LOG_WARN, "worker_stderr", LI("slot", s->index), LI("pid", s->proc.pid), LB("text", p, n));
	snprintf(s->err_tail, sizeof(s->err_tail), "%.*s", (int)n, p);
}

static bool
needs_connector(const struct slot *s)
{
	return s->m->broker && s->next_role != ROLE_LOCAL;
}

static int
spawn_worker(struct slot *s, struct err *e)
{
	int rc;
	char slot_text[16], generation_text[16];
	const char *const argv[] = { "iis-poller-worker", "--worker", slot_text, generation_text, NULL };
	struct spawn_spec spec = { .path = s->m->pool->path, .argv = argv, .listen_fd = -1, .on_socket = slot_on_socket,
		.on_exit = slot_on_exit, .on_stderr = on_stderr_line, .arg = s };

	s->generation++;
	snprintf(slot_text, sizeof(slot_text), "%d", s->index);
	snprintf(generation_text, sizeof(generation_text), "%u", s->generation);
	/* A new one for each process: what one did to its descriptor's flags (O_DIRECT, say) would hold for all after it. */
	spool_close(s);
	s->spool_fd = spool_open(s->m, e);
	if (s->spool_fd < 0)
		return -1;
	spec.spool_fd = s->spool_fd;
	/* its number in the worker is IPC_BROKER_FD */
	if (needs_connector(s) && (spec.listen_fd = broker_channel(s->m->broker, (uint32_t)s->index, e)) < 0)
		return -1;
	s->spawned_us = mono_us();
	rc = child_start(&s->proc, s->m->loop, &spec, e);
	if (spec.listen_fd >= 0)
		close(spec.listen_fd);
	return rc;
}

void
slot_start(struct slot *s)
{
	struct pool *p = s->m->pool;
	struct err e = ERR_INIT;
	int64_t wait;

	if (p->stopping || p->config_error || s == p->spare)
		return;
	if (breaker_open(p) && !its_try(s)) {
		backoff(s, BACKOFF_MAX_MS);
		return;
	}
	if (needs_connector(s) && !broker_ready(s->m->broker)) {
		backoff(s, CONNECTOR_WAIT_MS);
		return;
	}
	/* The bucket is there for workers that die; an exchanged one ended because it was well. */
	wait = s->turning ? 0 : token(p);
	if (wait) {
		backoff(s, wait);
		return;
	}
	s->role = s->next_role;
	s->tasks_served = 0;
	s->tasks_max = (uint64_t)jitter(s->m->cfg->workers_tasks);
	if (!s->tasks_max)
		s->tasks_max = 1;
	s->err_tail[0] = '\0';
	s->sandbox[0] = '\0';
	s->started_ms = loop_now(s->m->loop);
	if (spawn_worker(s, &e) < 0) {
		LOG(LOG_ERROR, "worker_start_failed", LI("slot", s->index), LS("error", e.text));
		slot_forget(s);
		slot_failed_early(s);
		return;
	}
	slot_set_state(s, WORKER_STARTING);
	timer_set(s->m->loop, &s->timer, s->m->cfg->timeout_start);
}

/* ---- HELLO and READY --------------------------------------------------------------------------------------------- */

int
slot_hello(struct slot *s, const struct frame *f, struct err *e)
{
	struct hello h;

	if (s->greeted)
		return err_set(e, ERR_WORKER_PROTOCOL, "HELLO is out of turn: it came before");
	if (hello_decode(&h, f->payload, f->n, e) < 0)
		return -1;
	if (h.version != IPC_VERSION || strcmp(h.build_id, ipc_build_id)) {
		s->m->pool->config_error = true;
		LOG(LOG_ERROR, "worker_build_mismatch", LI("slot", s->index), LS("path", s->m->pool->path), LS("worker", h.build_id),
		    LS("master", ipc_build_id), LS("todo", "the worker program is of another build: restart iis-pollerd"));
		slot_kill(s, DEATH_CONFIG, true);
		return 0;
	}
	s->greeted = true;
	return pool_send_setup(s, e);
}

int
slot_ready(struct slot *s, const struct frame *f, struct err *e)
{
	struct pool *p = s->m->pool;
	struct ready r;

	if (!s->greeted)
		return err_set(e, ERR_WORKER_PROTOCOL, "READY is out of turn: no HELLO came before it");
	if (ready_decode(&r, f->payload, f->n, e) < 0)
		return -1;
	/* never empty: it tells a worker that was READY once from one that was not */
	snprintf(s->sandbox, sizeof(s->sandbox), "%s", r.sandbox[0] ? r.sandbox : "none");
	s->confined = r.active;
	if (r.active.mode != s->m->sandbox.mode)
		LOG(LOG_WARN, "worker_sandbox_weak", LI("slot", s->index), LI("pid", s->proc.pid), LS("wanted", sandbox_mode_name(s->m->sandbox.mode)),
		    LS("active", sandbox_mode_name(r.active.mode)));
	timer_cancel(s->m->loop, &s->timer);
	s->failures = 0;
	s->turning = false;
	p->failed_starts = 0;
	p->config_error = false;
	metric_observe(METRIC_WORKER_START, (double)(mono_us() - s->spawned_us) / 1e6, NULL);
	LOG(LOG_INFO, "worker_ready", LI("slot", s->index), LI("pid", s->proc.pid), LI("generation", s->generation),
	    LS("pool", slot_pool(s)), LS("role", worker_role_name(s->role)), LD("seconds", (double)(mono_us() - s->spawned_us) / 1e6),
	    LS("sandbox", s->sandbox));
	slot_set_state(s, WORKER_IDLE);
	if (s == p->coming && p->leaving) {
		p->leaving->retire = true;
		if (p->leaving->state == WORKER_IDLE)
			slot_kill(p->leaving, DEATH_RECYCLED, false);
	}
	wake_backoff(p);
	return 0;
}
