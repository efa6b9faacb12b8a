/*
 * keyfetch.c - the first half of a task whose source needs temporary credentials: a worker of the role credentials fetches
 * them, then the task is queued again for a worker that lists.
 *
 * dispatch.c calls it with a task and a worker of that role, and for the frames of such a worker. It is the same attempt: what
 * fails here fails it, what succeeds is not counted. The worker has held one tenant's secrets and is not asked twice: it ends.
 */
#include <stdlib.h>

#include "common/keys.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/keyring.h"
#include "common/banned.h"

/* Two requests to a metadata service or one to STS, with all their own timeouts, are over by then. */
#define FETCH_MAX_MS 90000

static int64_t
deadline_of(const struct master *m, const struct task *t)
{
	int64_t ms = tenant_deadline(m->cfg, t->job->job);

	return ms < FETCH_MAX_MS ? ms : FETCH_MAX_MS;
}

/* Where its worker may be connected to, if another process connects for it. */
static int
grant(struct master *m, const struct task *t, const struct slot *s, const struct buf *b, struct err *e)
{
	struct keys_ask a;
	int rc;

	if (!m->broker)
		return 0;
	if (keys_ask_decode(&a, b->p + IPC_HEADER, b->len - IPC_HEADER, e))
		BUG("a KEYS_ASK of our own cannot be read");
	rc = broker_grant_keys(m->broker, (uint32_t)s->index, t->job->job->org_id, &a, e);
	keys_ask_release(&a);
	return rc;
}

static void
send_ask(struct master *m, struct task *t, struct slot *s, struct buf *b)
{
	struct err e = ERR_INIT;

	if (!ipc_fits(b)) {
		t->attempt++;
		err_set(&e, ERR_LIMIT, "the token and the source's TLS fields take %zu bytes together; a worker is given at most 65000",
		    b->len - IPC_HEADER);
		dispatch_fail(m, t, &e);
		return;
	}
	if (grant(m, t, s, b, &e) < 0 && e.cls == ERR_LIMIT) {
		t->attempt++;
		dispatch_fail(m, t, &e);
		return;
	}
	ipc_finish(b);
	if (e.cls != ERR_OK || ipc_send(s->proc.fd, b) != 1) {
		endpoint_again(m, t);
		slot_kill(s, DEATH_KILLED, true);
		return;
	}
	t->attempt++;
	keyring_began(m, t);
	dispatch_begin(m, t, s, deadline_of(m, t));
}

void
keyfetch_start(struct master *m, struct task *t, struct slot *s)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;

	t->wire = dispatch_wire();
	/* At once: a buffer that grows leaves copies of the secrets behind. */
	buf_room(&b, 3 * IPC_FRAME_MAX);
	ipc_begin(&b, MSG_KEYS_ASK, s->generation, t->wire);
	switch (keyring_ask(m, t, &b, &e)) {
	case KEYRING_ASK:
		send_ask(m, t, s, &b);
		break;
	case KEYRING_WAIT:
		endpoint_left(m, t);
		break;
	case KEYRING_HAVE:
		endpoint_left(m, t);
		t->needs_keys = false;
		sched_push_first(m->sched, t);
		break;
	case KEYRING_FAILED:
		t->attempt++;
		dispatch_fail(m, t, &e);
		break;
	}
	buf_wipe(&b);
}

/* Queued for the listing, or ended if nobody wants that any more. */
static void
go_on(struct master *m, struct task *t)
{
	if (t->cancel || t->job->revoked) {
		err_set(&t->error, ERR_CANCELLED, "cancelled");
		t->listed_all = true;
		jobs_task_ended(m, t);
		return;
	}
	t->attempt--;
	t->error = (struct err)ERR_INIT;
	task_set_state(m, t, TASK_QUEUED);
}

static void
let_go(struct task *t, struct slot *s)
{
	slot_obeyed(s);
	t->slot = NULL;
	pool_spent(s);
	slot_release(s);
}

static int
failed(struct master *m, struct slot *s, const struct frame *f, struct err *e)
{
	static struct task_done said;
	struct task *t = s->task;
	bool late = s->killed_for == DEATH_DEADLINE, still_good;

	if (task_done_decode(&said, f->payload, f->n, e) < 0)
		return -1;
	if (said.cls == ERR_OK || said.listed || said.unreadable || said.spool_bytes || said.truncated)
		return err_set(e, ERR_WORKER_PROTOCOL, "DONE of a listing where credentials were asked for");
	if (said.cls == ERR_CANCELLED && !late && !t->cancel)
		return err_set(e, ERR_WORKER_PROTOCOL, "DONE cancelled, but nobody had cancelled");
	*task_account(t) = said;
	if (said.cls == ERR_CANCELLED && late)
		err_set(&t->error, ERR_TIMEOUT, "no credentials within the deadline of %lld ms", (long long)deadline_of(m, t));
	else
		err_set(&t->error, said.cls, "%s", said.text);
	task_account_trim(t);
	let_go(t, s);
	still_good = keyring_failed(m, t);
	if (still_good && !t->cancel && !t->job->revoked) {
		go_on(m, t);
		return 0;
	}
	t->listed_all = true;
	jobs_task_ended(m, t);
	return 0;
}

int
keyfetch_frame(struct master *m, struct slot *s, const struct frame *f, struct err *e)
{
	struct task *t = s->task;
	struct progress p;

	switch (f->type) {
	case MSG_KEYS:
		if (keyring_take(m, t, f, e))
			return -1;
		let_go(t, s);
		go_on(m, t);
		return 0;
	case MSG_DONE:
		return failed(m, s, f, e);
	case MSG_PROGRESS:
		return progress_decode(&p, f->payload, f->n, e);
	default:
		return err_set(e, ERR_WORKER_PROTOCOL, "%s where credentials were asked for", ipc_name(f->type));
	}
}
