/*
 * slot.c - one worker from its first frame to its death: its state, reading it, ending it. Called by the loop, pool.c
 * and dispatch.c.
 *
 * A slot is in one state at a time, changed by slot_set_state alone. A worker is ended in steps, each with its time:
 * a frame that asks it to, TERM, KILL. What a frame means is dispatch.c's business; how a process ends is told to it
 * from here. Starts nothing: that is slot_start.c's, which is also asked what follows a death.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"
#include "common/banned.h"

#define FRAMES_A_ROUND 8
#define CHATTER_A_SECOND 1000

/* Records of one frame at most: what publish_room is asked for before a frame is read. */
#define FRAME_RECORDS_MAX 1200

static const char *const state_names[WORKER__MAX] = {
	[WORKER_STARTING] = "starting", [WORKER_IDLE] = "idle", [WORKER_BUSY] = "busy",
	[WORKER_DRAINING] = "draining", [WORKER_DYING] = "dying", [WORKER_BACKOFF] = "backoff",
};

const char *
worker_state_name(enum worker_state s)
{
	return state_names[s];
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

void
slot_forget(struct slot *s)
{
	struct loop *l = s->m->loop;

	child_forget(&s->proc, l);
	timer_cancel(l, &s->timer);
	timer_cancel(l, &s->deadline);
	s->deadline_left = 0;
	s->paused = s->retire = s->spent = s->greeted = false;
	s->killed_for = DEATH_CLEAN;
	s->kill_step = 0;
	s->listed = s->matched = 0;
	endpoint_worker_gone(s);
	sched_key_release(s->m->sched, s->crew->index, s->role, s->key);
	s->key = NULL;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

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
		return slot_hello(s, f, e);
	case MSG_READY:
		return slot_ready(s, f, e);
	case MSG_LOG:
		if (chatter(s, e) < 0)
			return -1;
		return log_frame_relay(f->payload, f->n, s->index, (int)s->proc.pid, e);
	case MSG_KEPT:
		if (chatter(s, e) < 0)
			return -1;
		return endpoint_kept(s, f, e);
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

void
slot_on_socket(void *arg, int fd, uint32_t events)
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

void
slot_extend(struct slot *s, int64_t ms)
{
	struct loop *l = s->m->loop;

	if (timer_armed(&s->deadline))
		timer_set(l, &s->deadline, timer_left(l, &s->deadline) + ms);
	else if (s->deadline_left > 0)
		s->deadline_left += ms;
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */

void
slot_signal(struct slot *s, int sig)
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
	ipc_send(s->proc.fd, &b);       /* not taken: the next step is a signal */
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
		slot_signal(s, SIGTERM);
		timer_set(s->m->loop, &s->timer, c->timeout_kill);
		break;
	default:
		s->kill_step = 3;
		slot_set_state(s, WORKER_DYING);
		slot_signal(s, SIGKILL);
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

void
slot_exchange(struct slot *s)
{
	s->turning = true;
	slot_kill(s, DEATH_EXCHANGED, false);
}

static void
on_timer(void *arg)
{
	struct slot *s = arg;

	switch (s->state) {
	case WORKER_BACKOFF:
		slot_start(s);
		break;
	case WORKER_STARTING:
		LOG(LOG_ERROR, "worker_start_timeout", LI("slot", s->index), LI("pid", s->proc.pid),
		    LI("ms", s->m->cfg->timeout_start));
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
	int64_t more = s->task ? rates_lend(s->m, s->task) : 0;

	if (more) {
		timer_set(s->m->loop, &s->deadline, more);
		return;
	}
	LOG(LOG_WARN, "job_deadline", LS("job_id", s->task ? s->task->job->job_id : NULL), LI("slot", s->index),
	    LI("pid", s->proc.pid));
	slot_kill(s, DEATH_DEADLINE, false);
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
	spool_empty(s);
	if (s == p->leaving) {
		pool_refill(s);
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
		slot_failed_early(s);
	else
		slot_start(s);
}

void
slot_on_exit(void *arg, int fd, uint32_t events)
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
	slot_forget(s);
	if (s->task && s->spool_end < 0) {
		err_set(&why, death_class(cause), "%s", d->text);
		dispatch_worker_died(s->m, s, &why, &d->verdict);
		s->task = NULL;
	}
	replace(s, was_ready, cause);
}

void
slot_init(struct slot *s, struct master *m, int index, struct crew *crew)
{
	s->m = m;
	s->index = index;
	s->crew = crew;
	s->state = WORKER_BACKOFF;
	s->role = s->next_role = crew_first_role(crew);
	child_init(&s->proc);
	s->spool_fd = -1;
	s->spool_end = -1;
	timer_init(&s->timer, on_timer, s);
	timer_init(&s->deadline, on_deadline, s);
	timer_init(&s->drop_timer, endpoint_not_dropped, s);
}

/* ---- the end of a task ------------------------------------------------------------------------------------------- */

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
	if (s->m->broker && s->role != ROLE_LOCAL && s->proc.pid)
		broker_revoke(s->m->broker, (uint32_t)s->index);
	s->spool_end = -1;
	s->listed = s->matched = 0;
	timer_cancel(s->m->loop, &s->deadline);
	s->deadline_left = 0;
	slot_pause(s, false);
	spool_empty(s);
	if (!s->proc.pid) {
		pool_refill(s);
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
	else if (s->spent || s->single)
		slot_exchange(s);
	else if (slot_due(s))
		pool_exchange(s->m->pool, s);
	endpoint_worker_free(s);
}
