/*
 * pool.c - the worker slots: starts workers, watches them, ends them, replaces them. Called by main.c and dispatch.c.
 *
 * A slot is in one state at a time, changed by slot_set_state alone. A worker that dies before READY makes its slot
 * wait (0.1 s doubling to 30 s, with jitter); one that dies at a task is replaced at once: a poison job must not take
 * the pool from its neighbours. A token bucket bounds starts, and when no start succeeds any more only one slot
 * goes on trying. One slot more than configured is kept empty, so that a worker that is due is replaced by one that
 * is READY before it leaves. What a frame means is dispatch.c's business; how a process ends is told to it from here.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 30000
#define TOKENS_PER_SECOND 5
#define FRAMES_A_ROUND 8
#define CHATTER_A_SECOND 1000
#define RECYCLE_CHECK_MS 1000

/* Records of one frame at most: what publish_room is asked for before a frame is read. */
#define FRAME_RECORDS_MAX 1200

struct pool {
	struct master *m;
	struct slot *slots;             /* n + 1: one is empty, see `spare` */
	size_t n;                       /* workers wanted */
	struct slot *spare;             /* the empty one */
	struct slot *coming, *leaving;  /* an exchange: when the first is READY the second leaves; NULL: none under way */
	char *path;                     /* the worker program */
	double tokens;
	int64_t tokens_ms;
	unsigned failed_starts;         /* deaths before READY since the last READY, of all slots */
	bool stopping;
	bool config_error;              /* a worker ended with EX_CONFIG: starting more cannot help */
	uint64_t restarts;
	struct timer recycle;
	struct deaths deaths;
	uint8_t frame[IPC_FRAME_MAX + 1];
};

static void start_slot(struct slot *);
static void on_socket(void *arg, int fd, uint32_t events);

static const char *const state_names[WORKER__MAX] = {
	[WORKER_STARTING] = "starting", [WORKER_IDLE] = "idle", [WORKER_BUSY] = "busy",
	[WORKER_DRAINING] = "draining", [WORKER_DYING] = "dying", [WORKER_BACKOFF] = "backoff",
};

const char *
worker_state_name(enum worker_state s)
{
	return state_names[s];
}

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

void
slot_set_state(struct slot *s, enum worker_state to)
{
	if (s->state == to)
		return;
	LOG(LOG_DEBUG, "worker_state", LI("slot", s->index), LI("pid", s->proc.pid), LS("from", state_names[s->state]),
	    LS("to", state_names[to]));
	s->state = to;
	s->since_ms = loop_now(s->m->loop);
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Everything of the process but the spool, which dispatch.c may still read. */
static void
forget_process(struct slot *s)
{
	struct loop *l = s->m->loop;

	child_forget(&s->proc, l);
	timer_cancel(l, &s->timer);
	timer_cancel(l, &s->deadline);
	s->deadline_left = 0;
	s->paused = s->retire = s->greeted = false;
	s->killed_for = DEATH_CLEAN;
	s->kill_step = 0;
	s->listed = s->matched = 0;
}

/* ---- starting ----------------------------------------------------------------------------------------------------- */

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

static void
failed_before_ready(struct slot *s)
{
	int64_t ms = BACKOFF_FIRST_MS;

	for (unsigned i = 0; i < s->failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	s->failures++;
	s->m->pool->failed_starts++;
	backoff(s, jitter(ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS));
}

/* The spool: a file without a name, so that nothing stays behind whoever dies. */
static int
open_spool(struct master *m, struct err *e)
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

/* A line of the worker's own stderr: logged, and kept as the tail for the verdict. */
static void
on_stderr_line(void *arg, const char *p, size_t n)
{
	struct slot *s = arg;

	LOG(LOG_WARN, "worker_stderr", LI("slot", s->index), LI("pid", s->proc.pid), LB("text", p, n));
	snprintf(s->err_tail, sizeof(s->err_tail), "%.*s", (int)n, p);
}

static int
send_setup(struct slot *s, struct err *e)
{
	const struct config *c = s->m->cfg;
	struct setup setup;
	struct buf b = BUF_INIT;
	int ret;

	setup_init(&setup);
	setup.role = ROLE_LOCAL;
	setup.log_level = log_get_level();
	for (size_t i = 0; i < c->local_roots.n; i++)
		strlist_add(&setup.roots, c->local_roots.v[i]);
	strlist_add(&setup.roots, c->dummy_path);
	setup.spool_max = c->spool_max;
	setup.memory_max = c->workers_memory;
	setup.cpu_max_s = c->workers_cpu / 1000;
	setup.open_files = c->workers_files;
	setup.allow_faults = c->dummy_faults;
	for (size_t i = 0; i < c->egress_allow.n; i++)
		strlist_add(&setup.egress_allow, c->egress_allow.v[i]);
	for (size_t i = 0; i < c->egress_deny.n; i++)
		strlist_add(&setup.egress_deny, c->egress_deny.v[i]);
	setup.keep_ms = c->network_keep;
	s->setup = s->m->setup_generation;
	ipc_begin(&b, MSG_SETUP, s->generation, 0);
	setup_encode(&setup, &b);
	ipc_finish(&b);
	ret = ipc_send(s->proc.fd, &b) == 1 ? 0 : err_errno(e, ERR_SYSTEM, "cannot send SETUP");
	setup_release(&setup);
	buf_release(&b);
	return ret;
}

static int
on_hello(struct slot *s, const struct frame *f, struct err *e)
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
	return send_setup(s, e);
}

static int
on_ready(struct slot *s, const struct frame *f, struct err *e)
{
	struct pool *p = s->m->pool;
	struct ready r;

	if (!s->greeted)
		return err_set(e, ERR_WORKER_PROTOCOL, "READY is out of turn: no HELLO came before it");
	if (ready_decode(&r, f->payload, f->n, e) < 0)
		return -1;
	/* never empty: it tells a worker that was READY once from one that was not */
	snprintf(s->sandbox, sizeof(s->sandbox), "%s", r.sandbox[0] ? r.sandbox : "none");
	timer_cancel(s->m->loop, &s->timer);
	s->failures = 0;
	p->failed_starts = 0;
	p->config_error = false;
	metric_observe(METRIC_WORKER_START, (double)(mono_us() - s->spawned_us) / 1e6, NULL);
	LOG(LOG_INFO, "worker_ready", LI("slot", s->index), LI("pid", s->proc.pid), LI("generation", s->generation),
	    LD("seconds", (double)(mono_us() - s->spawned_us) / 1e6), LS("sandbox", s->sandbox));
	slot_set_state(s, WORKER_IDLE);
	if (s == p->coming && p->leaving) {
		p->leaving->retire = true;
		if (p->leaving->state == WORKER_IDLE)
			slot_kill(p->leaving, DEATH_RECYCLED, false);
	}
	return 0;
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

static void on_exit_of(void *arg, int fd, uint32_t events);

static int
spawn_worker(struct slot *s, struct err *e)
{
	char slot_text[16], generation_text[16];
	const char *const argv[] = { "iis-poller-worker", "--worker", slot_text, generation_text, NULL };
	struct spawn_spec spec = { .path = s->m->pool->path, .argv = argv, .listen_fd = -1, .on_socket = on_socket,
		.on_exit = on_exit_of, .on_stderr = on_stderr_line, .arg = s };

	s->generation++;
	snprintf(slot_text, sizeof(slot_text), "%d", s->index);
	snprintf(generation_text, sizeof(generation_text), "%u", s->generation);
	if (s->spool_fd < 0 && (s->spool_fd = open_spool(s->m, e)) < 0)
		return -1;
	spec.spool_fd = s->spool_fd;
	s->spawned_us = mono_us();
	return child_start(&s->proc, s->m->loop, &spec, e);
}

static void
start_slot(struct slot *s)
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
	wait = token(p);
	if (wait) {
		backoff(s, wait);
		return;
	}
	s->tasks_served = 0;
	s->tasks_max = (uint64_t)jitter(s->m->cfg->workers_tasks);
	if (!s->tasks_max)
		s->tasks_max = 1;
	s->err_tail[0] = '\0';
	s->sandbox[0] = '\0';
	s->started_ms = loop_now(s->m->loop);
	if (spawn_worker(s, &e) < 0) {
		LOG(LOG_ERROR, "worker_start_failed", LI("slot", s->index), LS("error", e.text));
		forget_process(s);
		failed_before_ready(s);
		return;
	}
	slot_set_state(s, WORKER_STARTING);
	timer_set(s->m->loop, &s->timer, s->m->cfg->timeout_start);
}

/* ---- frames ----------------------------------------------------------------------------------------------------------- */

static int
chatter(struct slot *s, struct err *e)
{
	int64_t now = loop_now(s->m->loop);

	if (now - s->chatter_ms >= 1000) {
		s->chatter_ms = now;
		s->chatter = 0;
	}
	if (++s->chatter > CHATTER_A_SECOND)
		return err_set(e, ERR_WORKER_PROTOCOL, "more than %d LOG and PROGRESS frames in a second", CHATTER_A_SECOND);
	return 0;
}

static int
handle_frame(struct slot *s, const struct frame *f, struct err *e)
{
	if (ipc_check(f, IPC_WORKER, s->state, e) < 0)
		return -1;
	if (f->generation != s->generation)
		return err_set(e, ERR_WORKER_PROTOCOL, "%s of generation %u, this worker is %u", ipc_name(f->type), f->generation,
		    s->generation);
	switch (f->type) {
	case MSG_HELLO:
		return on_hello(s, f, e);
	case MSG_READY:
		if (on_ready(s, f, e) < 0)
			return -1;
		wake_backoff(s->m->pool);
		return 0;
	case MSG_LOG:
		if (chatter(s, e) < 0)
			return -1;
		return log_frame_relay(f->payload, f->n, s->index, (int)s->proc.pid, e);
	case MSG_PROGRESS:
		if (chatter(s, e) < 0)
			return -1;
		return dispatch_frame(s->m, s, f, e);
	default:
		return dispatch_frame(s->m, s, f, e);
	}
}

static void
refuse(struct slot *s, const struct err *e)
{
	metric_add(METRIC_FRAMES_REFUSED, 1, NULL, NULL);
	LOG(LOG_ERROR, "frame_refused", LI("slot", s->index), LI("pid", s->proc.pid),
	    LS("job_id", s->task ? s->task->job->job_id : NULL), LS("rule", e->text));
	snprintf(s->err_tail, sizeof(s->err_tail), "%s", e->text);
	slot_kill(s, DEATH_PROTOCOL, true);
}

/* Reads one frame: 1 handled, 0 nothing there, -1 the socket is of no more use. */
static int
read_frame(struct slot *s)
{
	struct frame f;
	struct err e = ERR_INIT;
	int r = ipc_recv(s->proc.fd, MSG_DONTWAIT, s->m->pool->frame, &f, &e);

	if (r == 0 || r == -1)
		return r;
	if (s->state == WORKER_DYING)
		return 1;       /* it is being killed: nothing it says counts any more */
	if (r == -2 || handle_frame(s, &f, &e) < 0) {
		refuse(s, &e);
		return -1;
	}
	return 1;
}

static void
on_socket(void *arg, int fd, uint32_t events)
{
	struct slot *s = arg;

	(void)fd;
	(void)events;
	for (int i = 0; i < FRAMES_A_ROUND && s->proc.w_sock && !s->paused; i++) {
		/* The records of a cancelled task are dropped: they need no room, and its DONE must come through. */
		if (s->task && !s->task->cancel && !publish_room(s->m->publisher, FRAME_RECORDS_MAX)) {
			slot_pause(s, true);
			return;
		}
		switch (read_frame(s)) {
		case 0:
			return;
		case -1:
			/* End of file: the process should be gone any moment; if it lingers, it is ended. */
			loop_unwatch(s->m->loop, &s->proc.w_sock);
			if (s->proc.pid && s->kill_step < 3)
				timer_set(s->m->loop, &s->timer, s->m->cfg->timeout_kill);
			return;
		}
	}
}

void
slot_pause(struct slot *s, bool paused)
{
	struct loop *l = s->m->loop;

	if (s->paused == paused)
		return;
	s->paused = paused;
	if (s->proc.w_sock)
		loop_watch_set(s->proc.w_sock, paused ? 0 : EPOLLIN);
	/* The worker cannot go on while we do not read: that time is not its. */
	if (paused && timer_armed(&s->deadline)) {
		s->deadline_left = timer_left(l, &s->deadline);
		timer_cancel(l, &s->deadline);
	} else if (!paused && s->deadline_left > 0) {
		timer_set(l, &s->deadline, s->deadline_left);
		s->deadline_left = 0;
	}
}

/* ---- ending ------------------------------------------------------------------------------------------------------------- */

static void
signal_worker(struct slot *s, int sig)
{
	if (s->proc.pid && child_signal(&s->proc, sig) < 0 && errno != ESRCH)
		LOG(LOG_ERROR, "kill_failed", LI("slot", s->index), LI("pid", s->proc.pid), LS("error", strerror(errno)));
}

static void
send_plain(struct slot *s, enum msg_type type, uint64_t task)
{
	struct buf b = BUF_INIT;

	ipc_begin(&b, type, s->generation, task);
	ipc_finish(&b);
	ipc_send(s->proc.fd, &b);    /* not taken: the next step is a signal */
	buf_release(&b);
}

static void
kill_next_step(struct slot *s)
{
	const struct config *c = s->m->cfg;

	switch (++s->kill_step) {
	case 1:
		if (s->state == WORKER_BUSY || s->state == WORKER_DRAINING)
			send_plain(s, s->killed_for == DEATH_RECYCLED ? MSG_STOP : MSG_CANCEL, s->task ? s->task->wire : 0);
		else
			send_plain(s, MSG_STOP, 0);
		slot_set_state(s, WORKER_DRAINING);
		timer_set(s->m->loop, &s->timer, c->timeout_cancel);
		break;
	case 2:
		slot_set_state(s, WORKER_DYING);
		signal_worker(s, SIGTERM);
		timer_set(s->m->loop, &s->timer, c->timeout_kill);
		break;
	default:
		s->kill_step = 3;
		slot_set_state(s, WORKER_DYING);
		signal_worker(s, SIGKILL);
		/* A process that the kernel cannot end (disk wait) is signalled again now and then. */
		timer_set(s->m->loop, &s->timer, 1000);
		break;
	}
}

void
slot_kill(struct slot *s, enum death_cause cause, bool now)
{
	if (!s->proc.pid || s->kill_step >= 3)
		return;
	if (s->killed_for == DEATH_CLEAN || now)
		s->killed_for = cause;
	if (now)
		s->kill_step = 2;
	else if (s->kill_step)
		return;
	else if (s->state == WORKER_STARTING)
		s->kill_step = 1;       /* it would take STOP for an answer to its HELLO */
	/* A worker we do not read cannot answer; its frames are small change by now. */
	slot_pause(s, false);
	kill_next_step(s);
}

static void
on_timer(void *arg)
{
	struct slot *s = arg;

	switch (s->state) {
	case WORKER_BACKOFF:
		start_slot(s);
		break;
	case WORKER_STARTING:
		LOG(LOG_ERROR, "worker_start_timeout", LI("slot", s->index), LI("pid", s->proc.pid), LI("ms", s->m->cfg->timeout_start));
		slot_kill(s, DEATH_START, true);
		break;
	case WORKER_IDLE:
	case WORKER_BUSY:
		/* It closed its socket and lives on. */
		slot_kill(s, DEATH_PROTOCOL, true);
		break;
	case WORKER_DRAINING:
	case WORKER_DYING:
		kill_next_step(s);
		break;
	default:
		BUG("timer in an unknown worker state");
	}
}

static void
on_deadline(void *arg)
{
	struct slot *s = arg;

	LOG(LOG_WARN, "job_deadline", LS("job_id", s->task ? s->task->job->job_id : NULL), LI("slot", s->index), LI("pid", s->proc.pid));
	slot_kill(s, DEATH_DEADLINE, false);
}

/* An empty slot: the next worker, or, after an exchange, it is kept for the next one. */
static void
refill(struct slot *s)
{
	struct pool *p = s->m->pool;

	if (s != p->leaving) {
		start_slot(s);
		return;
	}
	p->leaving = p->coming = NULL;
	p->spare = s;
	close_fd(&s->spool_fd);
}

/* What a listing took of the disk is given back at once, whoever ended it. */
static void
empty_spool(struct slot *s)
{
	if (s->spool_fd >= 0 && ftruncate(s->spool_fd, 0) < 0)
		LOG(LOG_WARN, "spool_truncate_failed", LI("slot", s->index), LS("error", strerror(errno)));
}

/* After a death: what becomes of the slot. */
static void
replace(struct slot *s, bool was_ready, enum death_cause cause)
{
	struct pool *p = s->m->pool;

	slot_set_state(s, WORKER_BACKOFF);
	if (s != p->leaving && !p->stopping)
		p->restarts++;
	if (s->spool_end >= 0)
		return;         /* its spool is still read: slot_release goes on from here */
	empty_spool(s);
	if (s == p->leaving) {
		refill(s);
		return;
	}
	if (p->stopping)
		return;
	if (cause == DEATH_CONFIG) {
		p->config_error = true;
		LOG(LOG_ERROR, "worker_config_error", LI("slot", s->index),
		    LS("todo", "the worker refuses to run (exit 78): see its stderr above, then restart iis-pollerd"));
		return;
	}
	if (!was_ready)
		failed_before_ready(s);
	else
		start_slot(s);
}

static void
on_exit_of(void *arg, int fd, uint32_t events)
{
	struct slot *s = arg;
	bool was_ready;
	enum death_cause cause;
	struct err why = ERR_INIT;
	const struct death *d;
	int status, r;

	(void)fd;
	(void)events;
	if (wait4(s->proc.pid, &status, WNOHANG, &s->usage) != s->proc.pid)
		return;
	/* What it had sent before it died still counts: at most a socket buffer full. */
	while (s->proc.w_sock && (r = read_frame(s)) == 1)
		;
	stderr_drain(&s->proc.err);
	was_ready = s->state != WORKER_STARTING && s->killed_for != DEATH_START && s->sandbox[0];
	cause = s->killed_for != DEATH_CLEAN ? s->killed_for : death_cause_of(status);
	/* It has run: whatever it says now, the next one can. A worker that was taken over must not stop the pool. */
	if (was_ready && cause == DEATH_CONFIG)
		cause = DEATH_EXIT;
	d = death_record(&s->m->pool->deaths, s, cause, status);
	forget_process(s);
	if (s->task && s->spool_end < 0) {
		err_set(&why, death_class(cause), "%s", d->text);
		dispatch_worker_died(s->m, s, &why, &d->verdict);
		s->task = NULL;
	}
	replace(s, was_ready, cause);
}

/* ---- what dispatch.c asks --------------------------------------------------------------------------------------------------- */

static bool
due(const struct slot *s)
{
	return (s->proc.pid && s->tasks_served >= s->tasks_max) || loop_now(s->m->loop) - s->started_ms >= s->m->cfg->workers_age;
}

/* One exchange at a time: the spare starts, and when it is READY the old one leaves. */
static void
exchange(struct pool *p, struct slot *old)
{
	struct slot *new_ = p->spare;

	if (!new_ || p->leaving || p->stopping)
		return;
	p->spare = NULL;
	p->coming = new_;
	p->leaving = old;
	start_slot(new_);
}

static void
on_recycle(void *arg)
{
	struct pool *p = arg;

	for (size_t i = 0; i <= p->n && !p->leaving; i++) {
		struct slot *s = &p->slots[i];

		if ((s->state == WORKER_IDLE || s->state == WORKER_BUSY) && due(s))
			exchange(p, s);
	}
	timer_set(p->m->loop, &p->recycle, RECYCLE_CHECK_MS);
}

void
slot_obeyed(struct slot *s)
{
	timer_cancel(s->m->loop, &s->deadline);
	s->deadline_left = 0;
	if (s->kill_step != 1)
		return;
	/* Only the cancel frame was sent; with its socket closed it is still given no more than its time. */
	if (s->proc.w_sock)
		timer_cancel(s->m->loop, &s->timer);
	s->killed_for = DEATH_CLEAN;
	s->kill_step = 0;
	slot_set_state(s, WORKER_BUSY);
}

void
slot_release(struct slot *s)
{
	s->task = NULL;
	s->spool_end = -1;
	s->listed = s->matched = 0;
	timer_cancel(s->m->loop, &s->deadline);
	s->deadline_left = 0;
	slot_pause(s, false);
	empty_spool(s);
	if (!s->proc.pid) {
		refill(s);
		return;
	}
	if (s->state == WORKER_DYING)
		return;
	s->tasks_served++;
	/* With its socket closed it is given its time to be gone, and no more. */
	if (s->proc.w_sock)
		timer_cancel(s->m->loop, &s->timer);
	s->killed_for = DEATH_CLEAN;
	s->kill_step = 0;
	slot_set_state(s, WORKER_IDLE);
	if (s->m->pool->stopping || s->retire)
		slot_kill(s, s->m->pool->stopping ? DEATH_CLEAN : DEATH_RECYCLED, false);
	else if (due(s))
		exchange(s->m->pool, s);
}

/* A worker that has served nothing is on its way: none needs to make room for it. */
static bool
fresh_coming(const struct pool *p)
{
	for (size_t i = 0; i <= p->n; i++) {
		const struct slot *s = &p->slots[i];

		if (s == p->spare || s == p->leaving)
			continue;
		if (s->state == WORKER_STARTING || s->state == WORKER_BACKOFF || s->state == WORKER_DYING ||
		    (s->state == WORKER_DRAINING && !s->task))
			return true;
	}
	return false;
}

struct slot *
pool_idle(struct pool *p, bool fresh)
{
	struct slot *used = NULL;

	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		if (s->state != WORKER_IDLE || s->task)
			continue;
		/* It was set up with what a reload has changed since. */
		if (s->setup != p->m->setup_generation) {
			slot_kill(s, DEATH_RECYCLED, false);
			continue;
		}
		if (!fresh || !s->tasks_served)
			return s;
		used = s;
	}
	/* A fresh one is wanted: an idle one makes room for it; one only, since a new one is for all who wait. */
	if (fresh && used && !fresh_coming(p))
		slot_kill(used, DEATH_RECYCLED, false);
	return NULL;
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
pool_stop(struct pool *p, bool hard)
{
	p->stopping = true;
	timer_cancel(p->m->loop, &p->recycle);
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

/* Descriptors of one worker: socket, pidfd, stderr, spool. */
#define FDS_PER_WORKER 4
#define FDS_FOR_THE_REST 40

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

void
pool_refresh(struct pool *p)
{
	for (size_t i = 0; i <= p->n; i++)
		p->slots[i].tasks_max = 0;
}

struct pool *
pool_new(struct master *m)
{
	struct pool *p = xcalloc(1, sizeof(*p));

	p->m = m;
	timer_init(&p->recycle, on_recycle, p);
	return p;
}

int
pool_start(struct pool *p, struct err *e)
{
	struct master *m = p->m;
	int probe;

	p->path = spawn_find(m, m->cfg->workers_path, "iis-poller-worker", e);
	if (!p->path)
		return -1;
	/* A spool directory that cannot be written would fail every worker one by one; say it once, at the start. */
	probe = open_spool(m, e);
	if (probe < 0)
		return -1;
	close(probe);
	p->n = affordable((size_t)m->cfg->workers_count);
	p->slots = xcalloc(p->n + 1, sizeof(*p->slots));
	p->tokens = (double)p->n;
	p->tokens_ms = loop_now(m->loop);
	p->spare = &p->slots[p->n];
	for (size_t i = 0; i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		s->m = m;
		s->index = (int)i;
		s->state = WORKER_BACKOFF;
		child_init(&s->proc);
		s->spool_fd = -1;
		s->spool_end = -1;
		timer_init(&s->timer, on_timer, s);
		timer_init(&s->deadline, on_deadline, s);
		start_slot(s);
	}
	timer_set(m->loop, &p->recycle, RECYCLE_CHECK_MS);
	return 0;
}

void
pool_free(struct pool *p)
{
	if (!p)
		return;
	for (size_t i = 0; p->slots && i <= p->n; i++) {
		struct slot *s = &p->slots[i];

		signal_worker(s, SIGKILL);
		forget_process(s);
		close_fd(&s->spool_fd);
	}
	timer_cancel(p->m->loop, &p->recycle);
	free(p->slots);
	free(p->path);
	free(p);
}
