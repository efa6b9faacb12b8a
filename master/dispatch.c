/*
 * dispatch.c - tasks to workers, and workers' frames to events. Called by the loop (dispatch_run), slot.c and publish.c.
 *
 * Whatever a worker sends is hostile until checked here, record by record, before anything of the frame is published.
 * Back-pressure is one chain: without room in the producer neither a socket nor a spool is read. An attempt has ended
 * when its DONE (or its worker's death) is known and every event it sent has been reported; only then jobs.c decides.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "master/keyring.h"
#include "master/secret.h"
#include "common/banned.h"

/* Records of one frame at most: a record takes at least 60 bytes. */
#define FRAME_RECORDS_MAX 1200
/* Spool frames handled for one slot in one round of the loop. */
#define SPOOL_FRAMES_A_ROUND 4
/* Times a task may meet a worker that is leaving. */
#define BOUNCES_MAX 3

static struct out_record out;       /* reused by every event: the loop is one thread */

static void
events_delivered(struct ticket *ticket, enum delivery d, const char *why)
{
	struct task *t = (struct task *)((char *)ticket - offsetof(struct task, ticket));
	struct master *m = jobs_master(t->job);

	t->pending--;
	switch (d) {
	case DELIVERY_OK:
		t->published++;
		metric_add(METRIC_FILES_PUBLISHED, 1, "success", NULL);
		break;
	case DELIVERY_TOO_LARGE:
		t->too_large = true;
		metric_add(METRIC_FILES_PUBLISHED, 1, "error", NULL);
		break;
	case DELIVERY_HOLD:
		if (!t->held)
			LOG(LOG_WARN, "events_held", LS("job_id", t->job->job_id), LS("reason", why));
		t->held = true;
		metric_add(METRIC_FILES_PUBLISHED, 1, "error", NULL);
		break;
	}
	if (t->listed_all && !t->pending)
		jobs_task_ended(m, t);
}

/* ---- starting a task ---------------------------------------------------------------------------------------------- */

/*
 * The configured root that holds the path, and the path below it; dummy's generator needs none. Where the tenant's and
 * the pool's roots both hold it, the deeper one: the worker may read no more than that.
 */
static int
place(struct master *m, const struct task *t, const struct source_conf *c, struct task_spec *spec, struct err *e)
{
	const char *path = c->v[SF_COMMON_PATH].s, *rest, *deeper;
	struct strlist dummy = { .n = 0 };
	const struct strlist *roots = tenant_roots(m->cfg, spec->tenant);
	const char *root;

	if (!path)
		return 0;
	if (c->type == SOURCE_DUMMY) {
		strlist_add(&dummy, m->cfg->dummy_path);
		roots = &dummy;
	}
	root = path_under(roots, path, &rest);
	deeper = root && c->type == SOURCE_LOCAL ? pool_root(m->pool, t, path) : NULL;
	if (deeper && strlen(deeper) > strlen(root)) {
		struct strlist one = { .v = (char *[]){ (char *)(uintptr_t)deeper }, .n = 1 };

		root = path_under(&one, path, &rest);
	}
	if (!root)
		err_set(e, ERR_POLICY, "%s is not below %s", path,
		    c->type == SOURCE_DUMMY ? "dummy.data_path" : "any of local.allowed_roots");
	else if (strlen(root) >= sizeof(spec->root) || strlen(rest) >= sizeof(spec->below))
		{ root = NULL; err_set(e, ERR_LIMIT, "the path is longer than %zu bytes", sizeof(spec->root) - 1); }
	else {
		memcpy(spec->root, root, strlen(root) + 1);
		memcpy(spec->below, rest, strlen(rest) + 1);
	}
	strlist_release(&dummy);
	return root ? 0 : -1;
}

static int64_t
deadline_of(const struct master *m, const struct job *j)
{
	return tenant_deadline(m->cfg, j);
}

/* Lent by the configuration. */
static struct egress_lists
tenant_egress(const struct master *m, const struct task *t)
{
	const struct tenant_conf *c = tenants_get(m->cfg, t->job->org_id);

	return (struct egress_lists){ .deny = c->egress_deny, .only = c->egress_only, .ports = c->egress_ports, .schemes = c->egress_schemes };
}

/* A server's answer may send its worker to hosts that the job does not name: redirects, another region's endpoint. */
static bool
leads_elsewhere(const struct source_conf *s)
{
	return s->type == SOURCE_HTTP || s->type == SOURCE_S3;
}

/* Before the JOB: where its worker may be connected to, if another process connects for it. source: with what its secret set
 * brought. 0; -1: the task's fault; 1: the connector is not there. */
static int
grant(struct master *m, const struct task *t, const struct slot *s, const struct source_conf *source, struct err *e)
{
	struct egress_lists lists = tenant_egress(m, t);
	const char *org_id = t->job->job->org_id;

	if (!m->broker || s->role == ROLE_LOCAL)
		return 0;
	if (!broker_grant(m->broker, (uint32_t)s->index, org_id, source, &lists, &tenants_get(m->cfg, org_id)->hosts, e))
		return 0;
	return e->cls == ERR_LIMIT ? -1 : 1;
}

/* The JOB frame, and the grant that goes before it; the parts of the job's own structures are lent to spec. As grant() says. */
static int
encode_job(struct master *m, struct task *t, const struct slot *s, struct buf *b, struct err *e)
{
	const struct job *j = t->job->job;
	struct task_spec spec;
	struct secrets secrets;
	int ret;

	/* Again: a reload may have narrowed it since the job was taken. */
	if (tenant_permits_source(m->cfg, t->job->org_id, &j->sources[t->index], e) || pool_fits(m->pool, t, e))
		return -1;
	task_spec_init(&spec);
	spec.source = j->sources[t->index];
	spec.filter = j->filter;
	spec.publish = j->publish;
	spec.attempt = t->attempt;
	spec.deadline_ms = deadline_of(m, j);
	spec.now_ns = t->job->received_ns;
	spec.entries_max = m->cfg->jobs_entries_max;
	spec.cross_mounts = m->cfg->local_mounts;
	spec.egress = tenant_egress(m, t);
	if (leads_elsewhere(&spec.source))
		spec.hosts = tenants_get(m->cfg, t->job->org_id)->hosts;
	spec.connections = t->connections;
	spec.asks = t->asks = s->role == ROLE_NETWORK && rates_hold(m, t);
	snprintf(spec.tenant, sizeof(spec.tenant), "%s", t->job->org_id);
	snprintf(spec.endpoint, sizeof(spec.endpoint), "%s", spec.source.endpoint ? spec.source.endpoint : "");
	if (source_rows[spec.source.type].role == ROLE_LOCAL && place(m, t, &spec.source, &spec, e) < 0)
		return -1;
	if (secrets_load(m->cfg, t->job->org_id, &spec.source, &secrets, e))
		return -1;
	secrets_lend(&secrets, &spec.source);
	if (keyring_lend(m, t, &spec.source, e) || hostkeys_lend(m, t, spec.host_key, sizeof(spec.host_key), e)) {
		secrets_wipe(&secrets);
		return -1;
	}
	/* At once: a buffer that grows leaves copies of the secrets behind. What is over 65000 bytes is refused below. */
	buf_room(b, 2 * IPC_FRAME_MAX);
	pool_confine(s, t, &spec);
	ipc_begin(b, MSG_JOB, s->generation, t->wire);
	task_spec_encode(&spec, b);
	strlist_release(&spec.narrow);
	if (b->len > IPC_HEADER + 65000) {
		ret = err_set(e, ERR_LIMIT, "patterns, filters, source and the tenant's lists take %zu bytes together; a worker is given at most 65000",
		    b->len - IPC_HEADER);
	} else {
		ipc_finish(b);
		ret = grant(m, t, s, &spec.source, e);
	}
	secrets_wipe(&secrets);
	return ret;
}

void
dispatch_begin(struct master *m, struct task *t, struct slot *s, int64_t deadline_ms)
{
	t->slot = s;
	t->error = (struct err)ERR_INIT;
	task_account_forget(t);
	t->verdict = (struct verdict){ .pid = 0 };
	t->pending = 0;
	t->sent = t->published = 0;
	t->held = t->too_large = t->listed_all = false;
	t->began_ms = loop_now(m->loop);
	t->lent_ms = 0;
	t->done_ms = 0;
	t->ticket.delivered = events_delivered;
	event_ctx_free(t->events);
	t->events = event_ctx_new(m->cfg, t);
	s->task = t;
	s->spool_end = -1;
	pool_bind(s, t);
	slot_set_state(s, WORKER_BUSY);
	timer_set(m->loop, &s->deadline, deadline_ms);
	endpoint_started(m, t, s);
	jobs_task_started(m, t);
	task_set_state(m, t, TASK_RUNNING);
}

/* The attempt ends here and now, without a worker. */
void
dispatch_fail(struct master *m, struct task *t, const struct err *e)
{
	t->error = *e;
	task_account(t)->cls = e->cls;
	task_account_trim(t);
	t->published = t->sent = 0;
	t->listed_all = true;
	endpoint_left(m, t);
	jobs_task_ended(m, t);
}

uint64_t
dispatch_wire(void)
{
	static uint64_t wire;

	return ++wire;
}

static void
start(struct master *m, struct task *t, struct slot *s)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	int ret;

	if (s->role == ROLE_CREDENTIALS) {
		keyfetch_start(m, t, s);
		return;
	}
	/* They were there when it was queued, and have expired since. */
	if (keyring_wanted(m, t)) {
		endpoint_left(m, t);
		t->needs_keys = true;
		sched_push_first(m->sched, t);
		return;
	}
	t->connections = endpoint_grant(m, t, s);
	if (!t->connections) {
		endpoint_wait(m, t);
		return;
	}
	t->attempt++;
	t->wire = dispatch_wire();
	ret = encode_job(m, t, s, &b, &e);
	if (ret < 0) {
		dispatch_fail(m, t, &e);
	} else if (ret || ipc_send(s->proc.fd, &b) != 1) {
		/* The worker is gone, or its connector; its death is on the way. The task has lost nothing but a moment. */
		t->attempt--;
		endpoint_again(m, t);
		slot_kill(s, DEATH_KILLED, true);
	} else {
		dispatch_begin(m, t, s, deadline_of(m, t->job->job));
	}
	buf_wipe(&b);
	buf_release(&b);
}

/* ---- events ----------------------------------------------------------------------------------------------------------- */

static bool
unwanted(const struct task *t)
{
	return t->cancel || t->job->revoked || t->held;
}

static void
publish_record(struct master *m, struct task *t, const struct record *r)
{
	struct err e = ERR_INIT;

	event_write(t->events, r, &out);
	t->sent++;
	t->pending++;
	if (publish_send(m->publisher, OUT_EVENTS, &out, &t->ticket, &e) == 0)
		return;
	t->pending--;
	if (e.cls == ERR_MESSAGE_TOO_LARGE)
		t->too_large = true;
	else
		t->held = true;
	metric_add(METRIC_FILES_PUBLISHED, 1, "error", NULL);
}

/* The whole frame is checked before its first record is published; the number of its records, or -1. */
static int
files(struct master *m, struct task *t, const struct frame *f, bool publish, struct err *e)
{
	enum source_type type = t->job->job->sources[t->index].type;
	struct cursor c, again;
	struct record r;
	uint32_t n;

	cursor_init(&c, f->payload, f->n);
	n = cursor_u32(&c);
	again = c;
	if (!n || n > FRAME_RECORDS_MAX)
		return err_set(e, ERR_WORKER_PROTOCOL, "FILES with a count of %u", n);
	for (uint32_t i = 0; i < n; i++)
		if (record_decode(&r, &c, type, e) < 0)
			return -1;
	if (!cursor_end(&c))
		return err_set(e, ERR_WORKER_PROTOCOL, "FILES with %zu byte%s after its %u record%s", cursor_left(&c),
		    units_s((long long)cursor_left(&c)), n, units_s(n));
	for (uint32_t i = 0; publish && i < n && !unwanted(t); i++) {
		record_decode(&r, &again, type, e);
		publish_record(m, t, &r);
	}
	return (int)n;
}

/* ---- the end of an attempt ------------------------------------------------------------------------------------------------ */

static void
account(struct task *t)
{
	const char *type = source_rows[t->job->job->sources[t->index].type].name;

	metric_add(METRIC_FILES_PROCESSED, (double)t->done->matched, "matched", type);
	metric_add(METRIC_FILES_PROCESSED, (double)t->done->skipped, "skipped", type);
	metric_add(METRIC_FILES_PROCESSED, (double)t->done->unreadable, "error", type);
	if (t->done->reused)
		metric_add(METRIC_CONNECTIONS_REUSED, t->done->reused, type, NULL);
	if (t->done->reconnected)
		metric_add(METRIC_CONNECTIONS_LOST, t->done->reconnected, type, NULL);
	metric_observe(METRIC_JOB_PHASE, (double)t->done->phase_us[PHASE_OPEN] / 1e6, "open");
	metric_observe(METRIC_JOB_PHASE, (double)t->done->phase_us[PHASE_LIST] / 1e6, "list");
}

/* No more records come: the worker is free, and the attempt ends when all its events are reported. */
static void
all_sent(struct master *m, struct task *t)
{
	struct slot *s = t->slot;

	t->slot = NULL;
	t->listed_all = true;
	if (s) {
		slot_release(s);
		tenant_ended(m, t);
	}
	if (t->pending)
		task_set_state(m, t, TASK_PUBLISHING);
	else
		jobs_task_ended(m, t);
}

static void
broken_spool(struct master *m, struct slot *s, const struct err *e)
{
	struct task *t = s->task;

	metric_add(METRIC_FRAMES_REFUSED, 1, NULL, NULL);
	LOG(LOG_ERROR, "spool_refused", LI("slot", s->index), LS("job_id", t->job->job_id), LS("rule", e->text));
	t->error = *e;
	snprintf(s->err_tail, sizeof(s->err_tail), "%s", e->text);
	slot_kill(s, DEATH_PROTOCOL, true);
	all_sent(m, t);
}

/*
 * One frame of the spool: 1 read, 0 at its end, -1 it is not what DONE said. The spool is gone through twice: checked to
 * its end before the first event leaves, so that an atomic listing is published whole or not at all; then published, each
 * frame copied and checked again, since its writer could still change it.
 */
static int
spool_frame(struct master *m, struct slot *s, struct err *e)
{
	static uint8_t page[IPC_FRAME_MAX];
	struct task *t = s->task;
	struct frame f;
	size_t used;
	ssize_t n;
	int records;

	if (s->spool_at == s->spool_end) {
		if (s->spool_files != t->done->matched)
			return err_set(e, ERR_WORKER_PROTOCOL, "DONE said %llu file%s, the spool holds %llu",
			    (unsigned long long)t->done->matched, units_s((long long)t->done->matched), (unsigned long long)s->spool_files);
		if (s->spool_checked)
			return 0;
		s->spool_checked = true;
		s->spool_at = 0;
		s->spool_files = 0;
		return 1;
	}
	n = pread(s->spool_fd, page, sizeof(page), s->spool_at);
	if (n < 0)
		return err_errno(e, ERR_SYSTEM, "cannot read the spool");
	if (n > s->spool_end - s->spool_at)
		n = (ssize_t)(s->spool_end - s->spool_at);
	if (ipc_parse(page, (size_t)n, &f, &used, e) != 1)
		return -1;
	if (f.type != MSG_FILES || f.task != t->wire || f.generation != s->spool_generation)
		return err_set(e, ERR_WORKER_PROTOCOL, "the spool holds a frame that is not this task's");
	records = files(m, t, &f, s->spool_checked, e);
	if (records < 0)
		return -1;
	s->spool_files += (uint64_t)records;
	s->spool_at += (int64_t)used;
	return 1;
}

static void
spool_step(struct master *m, struct slot *s)
{
	struct err e = ERR_INIT;
	int r = 1;

	journal_hold(m->journal, &s->task->job->origin);
	for (int i = 0; i < SPOOL_FRAMES_A_ROUND && r == 1 && publish_room(m->publisher, FRAME_RECORDS_MAX); i++)
		r = unwanted(s->task) ? 0 : spool_frame(m, s, &e);
	if (r < 0)
		broken_spool(m, s, &e);
	else if (r == 0)
		all_sent(m, s->task);
	journal_clear(m->journal);
}

static int
done(struct master *m, struct slot *s, const struct frame *f, struct err *e)
{
	static struct task_done said;
	struct task *t = s->task;
	bool atomic = t->job->job->publish == PUBLISH_ATOMIC;

	/* Nothing of an account that breaks a rule is kept: the terminal record shall not repeat it. */
	if (task_done_decode(&said, f->payload, f->n, e) < 0)
		return -1;
	if (said.matched > said.listed || (!atomic && !unwanted(t) && !t->too_large && said.matched != t->sent))
		return err_set(e, ERR_WORKER_PROTOCOL, "DONE said %llu of %llu file%s, %llu came", (unsigned long long)said.matched,
		    (unsigned long long)said.listed, units_s((long long)said.listed), (unsigned long long)t->sent);
	if ((int64_t)said.spool_bytes < 0 || (int64_t)said.spool_bytes > m->cfg->spool_max || (!atomic && said.spool_bytes))
		return err_set(e, ERR_WORKER_PROTOCOL, "DONE with a spool of %llu byte%s", (unsigned long long)said.spool_bytes,
		    units_s((long long)said.spool_bytes));
	*task_account(t) = said;
	if (t->done->cls != ERR_OK)
		err_set(&t->error, t->done->cls, "%s", t->done->text);
	/* It obeyed the cancel frame: the reason is ours. */
	if (t->done->cls == ERR_CANCELLED && s->killed_for == DEATH_DEADLINE)
		err_set(&t->error, ERR_TIMEOUT, "not listed within the deadline of %lld ms (%llu %s so far)",
		    (long long)deadline_of(m, t->job->job), (unsigned long long)t->done->listed, t->done->listed == 1 ? "entry" : "entries");
	else if (t->done->cls == ERR_CANCELLED && !t->cancel)
		return err_set(e, ERR_WORKER_PROTOCOL, "DONE cancelled, but nobody had cancelled");
	t->done_ms = loop_now(m->loop);
	rates_left(m, t);
	endpoint_task_done(s);
	task_account_trim(t);
	slot_obeyed(s);
	account(t);
	if (atomic && t->done->cls == ERR_OK && t->done->spool_bytes && !unwanted(t)) {
		s->spool_at = 0;
		s->spool_end = (int64_t)t->done->spool_bytes;
		s->spool_generation = s->generation;
		s->spool_files = 0;
		s->spool_checked = false;
		task_set_state(m, t, TASK_PUBLISHING);
	} else if (atomic && t->done->cls == ERR_OK && t->done->matched && !unwanted(t)) {
		return err_set(e, ERR_WORKER_PROTOCOL, "DONE with files and an empty spool");
	} else {
		all_sent(m, t);
	}
	return 0;
}

int
dispatch_frame(struct master *m, struct slot *s, const struct frame *f, struct err *e)
{
	struct task *t = s->task;
	struct progress p;
	int ret;

	if (!t || f->task != t->wire)
		return err_set(e, ERR_WORKER_PROTOCOL, "%s for a task that is not this worker's", ipc_name(f->type));
	/* After DONE the task is ours alone. */
	if (s->spool_end >= 0)
		return err_set(e, ERR_WORKER_PROTOCOL, "%s after DONE", ipc_name(f->type));
	journal_hold(m->journal, &t->job->origin);
	if (t->fetches) {
		ret = keyfetch_frame(m, s, f, e);
		journal_clear(m->journal);
		return ret;
	}
	switch (f->type) {
	case MSG_FILES:
		ret = t->job->job->publish != PUBLISH_STREAM
		    ? err_set(e, ERR_WORKER_PROTOCOL, "FILES on the socket of an atomic job")
		    : files(m, t, f, true, e) < 0 ? -1 : 0;
		if (ret == 0)
			endpoint_answered(m, t);
		break;
	case MSG_ASK:
		ret = rates_ask(m, t, f, e);
		break;
	case MSG_DONE:
		ret = done(m, s, f, e);
		break;
	case MSG_PROGRESS:
		ret = progress_decode(&p, f->payload, f->n, e);
		if (ret == 0) {
			s->listed = p.listed;
			s->matched = p.matched;
			if (p.listed)
				endpoint_answered(m, t);
		}
		break;
	case MSG_HOSTKEY:
		ret = hostkeys_frame(m, t, f, e);
		if (ret == 0)
			endpoint_answered(m, t);
		break;
	default:
		ret = err_set(e, ERR_WORKER_PROTOCOL, "%s is not a frame of a task", ipc_name(f->type));
	}
	journal_clear(m->journal);
	return ret;
}

void
dispatch_worker_died(struct master *m, struct slot *s, const struct err *why, const struct verdict *v)
{
	struct task *t = s->task;

	t->verdict = *v;
	t->slot = NULL;
	s->task = NULL;
	keyring_gave_up(m, t);
	/* Killed because the drain's time is over: nothing is said of the job, which is done again after the next start. */
	if (why->cls == ERR_CANCELLED && !t->cancel) {
		task_set_state(m, t, TASK_RETRY);
		return;
	}
	/* It was leaving by itself when the task crossed its way: no attempt of the task's, unless that becomes a habit. */
	if (v->exit_code == EX_TEMPFAIL && !t->cancel && !t->sent && t->bounced < BOUNCES_MAX) {
		t->bounced++;
		pool_stale(m->pool);
		t->attempt--;
		event_ctx_free(t->events);
		t->events = NULL;
		task_set_state(m, t, TASK_QUEUED);
		return;
	}
	if (t->cancel)
		err_set(&t->error, ERR_CANCELLED, "cancelled; %s", why->text);
	else
		t->error = *why;
	t->listed_all = true;
	if (t->pending)
		task_set_state(m, t, TASK_PUBLISHING);
	else
		jobs_task_ended(m, t);
}

void
dispatch_cancel(struct master *m, struct task *t)
{
	(void)m;
	/* Once DONE is in, the spool reader sees t->cancel by itself. */
	if (t->slot && t->slot->spool_end < 0)
		slot_kill(t->slot, DEATH_CANCELLED, false);
}

/* ---- the loop ------------------------------------------------------------------------------------------------------------- */

static void
resume_readers(struct master *m)
{
	for (size_t i = 0; i < pool_size(m->pool); i++) {
		struct slot *s = pool_slot(m->pool, i);

		if (!publish_room(m->publisher, FRAME_RECORDS_MAX))
			return;
		if (s->paused)
			slot_pause(s, false);
	}
}

void
dispatch_room(struct master *m)
{
	resume_readers(m);
}

bool
dispatch_reading(const struct master *m)
{
	if (!publish_room(m->publisher, FRAME_RECORDS_MAX))
		return false;
	for (size_t i = 0; i < pool_size(m->pool); i++)
		if (pool_slot(m->pool, i)->spool_end >= 0)
			return true;
	return false;
}

void
dispatch_run(struct master *m)
{
	struct slot *s;
	struct task *t;

	for (size_t i = 0; i < pool_size(m->pool); i++) {
		s = pool_slot(m->pool, i);
		if (s->spool_end >= 0)
			spool_step(m, s);
	}
	if (m->phase != MASTER_RUNNING)
		return;
	while ((t = pool_next(m->pool, &s)))
		start(m, t, s);
}
