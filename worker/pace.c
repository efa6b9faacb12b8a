/*
 * pace.c - when the next request of a task may start: the job's own rate_limit, and the limits of its tenant and endpoint,
 * which the master keeps for all tasks: it is asked (ASK) and answers (TURNS, by channel.c).
 *
 * Each source asks in the one place where its requests start, and waits in its own loop, where CANCEL, keepalives and what
 * the master is told go on; nothing here sleeps. A wait is no silence of the server: sources begin their response timeouts
 * when a request is sent. The bucket is kept as the one time at which it would be full (GCRA: ITU-T I.371, annex A), so that
 * no timer fills it.
 */
#include "worker/worker.h"
#include "common/banned.h"

#define SECOND_NS INT64_C(1000000000)
#define BURST_PART 10           /* where the job names no burst: of a second's requests, so many at once */

void
pace_begin(struct run *r)
{
	struct pace *p = &r->pace;
	int64_t ops = run_int(r, SF_NETWORK_RATE_LIMIT_OPS), burst = run_int(r, SF_NETWORK_RATE_LIMIT_BURST);

	*p = (struct pace){ .each_ns = 0 };
	r->ch->asks = r->task->asks;
	r->ch->asked = false;
	r->ch->turns = 0;
	if (ops <= 0)
		return;
	/* Rounded up: never faster than asked for. */
	p->each_ns = (SECOND_NS + ops - 1) / ops;
	p->burst = burst > 0 ? burst : ops / BURST_PART > 1 ? ops / BURST_PART : 1;
}

bool
pace_on(const struct run *r)
{
	return r->pace.each_ns > 0 || r->ch->asks;
}

static void
count(struct pace *p, int64_t now)
{
	if (p->full_ns < now)
		p->full_ns = now;
	p->full_ns += p->each_ns;
}

/* A master that is gone shows where the source waits. */
static void
ask(struct channel *ch, unsigned want)
{
	struct err ignored = ERR_INIT;
	int64_t n = want - ch->turns;

	if (ch->asked)
		return;
	ch->asked = true;
	buf_u32(channel_begin(ch, MSG_ASK), n < IPC_ASK_MAX ? (uint32_t)n : IPC_ASK_MAX);
	channel_send(ch, &ignored);
}

bool
pace_take(struct run *r, unsigned want, int64_t *wait_ns)
{
	struct pace *p = &r->pace;
	int64_t now = p->each_ns ? run_clock() : 0, early = p->full_ns - now - (p->burst - 1) * p->each_ns;

	*wait_ns = 0;
	if (p->each_ns && early > 0) {
		*wait_ns = early;
		return false;
	}
	if (r->ch->asks && r->ch->turns <= 0) {
		/* The answer wakes whoever waits. */
		*wait_ns = SECOND_NS;
		/* Its own rate lets one go now; more are asked for only where it lets them. */
		ask(r->ch, p->each_ns ? 1 : want);
		return false;
	}
	if (p->each_ns)
		count(p, now);
	if (r->ch->asks)
		r->ch->turns--;
	return true;
}

void
pace_owe(struct run *r)
{
	if (r->pace.each_ns)
		count(&r->pace, run_clock());
	if (r->ch->asks)
		r->ch->turns--;
}
