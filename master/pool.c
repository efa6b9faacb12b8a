/*
 * pool.c - the workers as one set: how many, which one is free, who is exchanged for a new one, and the end of all.
 * Called by main.c, dispatch.c and the status pages.
 *
 * One slot more than configured is kept empty, so that a worker that is due is replaced by one that is READY before it
 * leaves. What one worker goes through stands in slot.c, when and how one is started in slot_start.c,
 * who serves whom in pool_share.c, and
 * what the configuration says of the pools in crew.c.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"
#include "common/banned.h"

#define RECYCLE_CHECK_MS 1000
/* A worker that was taken over may say that it is stale as often as it likes. */
#define STALE_MS 10000

/* Descriptors of one worker: socket, pidfd, stderr, spool, page of refused calls. */
#define FDS_PER_WORKER 5
#define FDS_FOR_THE_REST 40

int
pool_send_setup(struct slot *s, struct err *e)
{
	const struct config *c = s->m->cfg;
	struct setup setup;
	struct buf b = BUF_INIT;
	int ret;

	setup_init(&setup);
	setup.role = s->role;
	setup.log_level = log_get_level();
	if (s->role == ROLE_LOCAL)
		crew_roots(s->crew, &setup.roots);
	setup.spool_max = c->spool_max;
	setup.memory_max = c->workers_memory;
	setup.cpu_max_s = c->workers_cpu / 1000;
	setup.open_files = c->workers_files;
	setup.allow_faults = c->dummy_faults;
	egress_lists_copy(&setup.egress, &(struct egress_lists){ c->egress_allow, c->egress_deny, c->egress_only, c->egress_ports, c->egress_schemes });
	setup.keep_ms = c->network_keep;
	setup.brokered = s->m->broker && s->role != ROLE_LOCAL;
	setup.sandbox = s->m->sandbox;
	s->setup = s->m->setup_generation;
	ipc_begin(&b, MSG_SETUP, s->generation, 0);
	setup_encode(&setup, &b);
	ipc_finish(&b);
	ret = ipc_send(s->proc.fd, &b) == 1 ? 0 : err_errno(e, ERR_SYSTEM, "cannot send SETUP");
	setup_release(&setup);
	buf_release(&b);
	return ret;
}

/* ---- exchange ---------------------------------------------------------------------------------------------------- */

bool
slot_due(const struct slot *s)
{
	return (s->proc.pid && s->tasks_served >= s->tasks_max) || loop_now(s->m->loop) - s->started_ms >= s->m->cfg->workers_age;
}

void
pool_exchange(struct pool *p, struct slot *old)
{
	struct slot *new_ = p->spare;

	if (!new_ || p->leaving || p->stopping)
		return;
	p->spare = NULL;
	new_->crew = old->crew;
	new_->next_role = old->next_role;
	new_->turning = true;
	p->coming = new_;
	p->leaving = old;
	slot_start(new_);
}

void
pool_refill(struct slot *s)
{
	struct pool *p = s->m->pool;

	if (s != p->leaving) {
		slot_start(s);
		return;
	}
	p->leaving = p->coming = NULL;
	p->spare = s;
	spool_close(s);
}

static void
on_recycle(void *arg)
{
	struct pool *p = arg;

	for (size_t i = 0; i <= p->n && !p->leaving; i++) {
		struct slot *s = &p->slots[i];

		if ((s->state == WORKER_IDLE || s->state == WORKER_BUSY) && slot_due(s))
			pool_exchange(p, s);
	}
	timer_set(p->m->loop, &p->recycle, RECYCLE_CHECK_MS);
}

/* ---- what dispatch.c asks ---------------------------------------------------------------------------------------- */

size_t
pool_crews(const struct pool *p)
{
	return p->n_crews;
}

size_t
pool_workers(const struct pool *p, size_t pool)
{
	return p->crews[pool].workers;
}

size_t
pool_in_state(const struct pool *p, enum worker_state st)
{
	size_t n = 0;

	for (size_t i = 0; i <= p->n; i++)
		n += p->slots[i].state == st && &p->slots[i] != p->spare;
	return n;
}

size_t
pool_sound(const struct pool *p)
{
	size_t n = pool_in_state(p, WORKER_IDLE) + pool_in_state(p, WORKER_BUSY) + pool_in_state(p, WORKER_DRAINING);

	for (size_t i = 0; i <= p->n; i++)
		n += p->slots[i].turning && p->slots[i].state != WORKER_DRAINING;
	return n;
}

size_t
pool_slots(const struct pool *p)
{
	return p->n + 1;
}

const char *
pool_program(const struct pool *p)
{
	return p->path;
}

size_t
pool_size(const struct pool *p)
{
	return p->spare ? p->n : p->n + 1;
}

struct slot *
pool_slot(const struct pool *p, size_t i)
{
	/* The empty slot is nobody's business but ours. */
	if (p->spare && i >= (size_t)(p->spare - p->slots))
		i++;
	return i <= p->n ? &p->slots[i] : NULL;
}

const struct deaths *
pool_deaths(const struct pool *p)
{
	return &p->deaths;
}

uint64_t
pool_restarts(const struct pool *p)
{
	return p->restarts;
}

bool
pool_broken(const struct pool *p)
{
	return p->config_error;
}

void
pool_refresh(struct pool *p)
{
	for (size_t i = 0; i <= p->n; i++)
		p->slots[i].tasks_max = 0;
}

void
pool_stale(struct pool *p)
{
	int64_t now = loop_now(p->m->loop);

	if (p->stale_ms && now - p->stale_ms < STALE_MS)
		return;
	p->stale_ms = now;
	p->m->setup_generation++;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

/* As many workers as the descriptor limit carries; Kafka's connections come first. */
static size_t
affordable(size_t wanted)
{
	struct rlimit rl;
	size_t n;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return wanted;
	if (rl.rlim_cur < rl.rlim_max) {
		rlim_t need = (wanted + 1) * FDS_PER_WORKER + 1024;

		rl.rlim_cur = need < rl.rlim_max ? (need > rl.rlim_cur ? need : rl.rlim_cur) : rl.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
			LOG(LOG_WARN, "descriptor_limit", LS("error", strerror(errno)));
	}
	n = rl.rlim_cur > FDS_FOR_THE_REST + 2 * FDS_PER_WORKER ? (rl.rlim_cur - FDS_FOR_THE_REST) / FDS_PER_WORKER - 1 : 1;
	if (n >= wanted)
		return wanted;
	LOG(LOG_ERROR, "workers_reduced", LI("wanted", wanted), LI("started", n), LI("descriptor_limit", rl.rlim_cur),
	    LS("todo", "raise LimitNOFILE= of the unit (ulimit -n), or lower workers.count"));
	return n;
}

/* Slots of all crews; where they are too many, spares go first and then workers, from the last crew on. */
static size_t
afford(struct pool *p)
{
	size_t wanted = 0, have, over;

	for (struct crew *c = p->crews; c < p->crews + p->n_crews; c++)
		wanted += c->workers + c->spares;
	have = affordable(wanted);
	if (have < p->n_crews)
		have = p->n_crews;
	over = wanted - have;
	for (struct crew *c = p->crews + p->n_crews; over && c-- > p->crews;) {
		size_t cut = c->spares < over ? c->spares : over;

		c->spares -= cut;
		over -= cut;
	}
	for (struct crew *c = p->crews + p->n_crews; over && c-- > p->crews;) {
		size_t cut = c->workers - 1 < over ? c->workers - 1 : over;

		c->workers -= cut;
		over -= cut;
	}
	return have;
}

struct pool *
pool_new(struct master *m)
{
	struct pool *p = xcalloc(1, sizeof(*p));

	p->m = m;
	timer_init(&p->recycle, on_recycle, p);
	crews_init(p);
	return p;
}

int
pool_start(struct pool *p, struct err *e)
{
	struct master *m = p->m;
	size_t slot = 0;
	int probe;

	p->path = spawn_find(m, m->cfg->workers_path, "iis-poller-worker", e);
	if (!p->path)
		return -1;
	/* A spool directory that cannot be written would fail every worker one by one; say it once, at the start. */
	probe = spool_open(m, e);
	if (probe < 0)
		return -1;
	close(probe);
	p->n = afford(p);
	p->slots = xcalloc(p->n + 1, sizeof(*p->slots));
	p->tokens = (double)p->n;
	p->tokens_ms = loop_now(m->loop);
	p->spare = &p->slots[p->n];
	for (struct crew *c = p->crews; c < p->crews + p->n_crews; c++)
		for (size_t i = 0; i < c->workers + c->spares; i++, slot++)
			slot_init(&p->slots[slot], m, (int)slot, c);
	slot_init(p->spare, m, (int)slot, p->crews);
	for (size_t i = 0; i < p->n; i++)
		slot_start(&p->slots[i]);
	timer_set(m->loop, &p->recycle, RECYCLE_CHECK_MS);
	return 0;
}

void
pool_stop(struct pool *p, bool hard)
{
	p->stopping = true;
	timer_cancel(p->m->loop, &p->recycle);
	for (size_t i = 0; i < p->n_crews; i++)
		timer_cancel(p->m->loop, &p->crews[i].linger);
	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		if (!s->proc.pid)
			timer_cancel(p->m->loop, &s->timer);
		else if (hard)
			slot_kill(s, DEATH_CANCELLED, true);
		else if (s->state == WORKER_IDLE || s->state == WORKER_STARTING)
			slot_kill(s, DEATH_CLEAN, false);
	}
}

bool
pool_empty(const struct pool *p)
{
	for (size_t i = 0; i <= p->n; i++)
		if (p->slots[i].proc.pid)
			return false;
	return true;
}

void
pool_free(struct pool *p)
{
	if (!p)
		return;
	for (size_t i = 0; p->slots && i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		slot_signal(s, SIGKILL);
		slot_forget(s);
		spool_close(s);
	}
	timer_cancel(p->m->loop, &p->recycle);
	crews_release(p);
	free(p->slots);
	free(p->path);
	free(p);
}
