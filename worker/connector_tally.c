/*
 * connector_tally.c - what the connector has done, told to the master in TALLY frames: at once after a quiet second, then
 * at most one a second.
 *
 * The other connector_*.c files count here. Only differences travel, so that the master's counters outlive a connector; what
 * the master has no room for goes with the next one. It never blocks.
 */
#include <string.h>
#include <time.h>

#include "worker/connector.h"
#include "worker/worker.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define EVERY_MS 1000

static struct {
	struct loop *loop;
	uint32_t generation;
	struct broker_tally t;
	bool fresh;                     /* something has changed since the last one */
	int64_t sent_ms;
	struct timer timer;
	struct buf out;
} tally;

int64_t
tally_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static struct broker_count *
count_of(enum broker_op op)
{
	return &tally.t.op[op == BROKER_CONNECT];
}

static void
sent(void)
{
	for (size_t i = 0; i < ARRAY_LEN(tally.t.op); i++)
		tally.t.op[i] = (struct broker_count){ .in_flight = tally.t.op[i].in_flight };
	tally.fresh = false;
}

void
tally_send(void)
{
	if (!tally.fresh)
		return;
	ipc_begin(&tally.out, MSG_TALLY, tally.generation, 0);
	broker_tally_encode(&tally.t, &tally.out);
	ipc_finish(&tally.out);
	tally.sent_ms = loop_now(tally.loop);
	switch (ipc_send(IPC_FD, &tally.out)) {
	case 1: sent(); break;
	case 0: timer_set(tally.loop, &tally.timer, EVERY_MS); break;
	default: break;         /* the master is gone, as the loop will see */
	}
}

static void
on_timer(void *arg)
{
	(void)arg;
	tally_send();
}

static void
changed(void)
{
	tally.fresh = true;
	if (!timer_armed(&tally.timer))
		timer_set(tally.loop, &tally.timer, tally.sent_ms + EVERY_MS - loop_now(tally.loop));
}

void
tally_start(struct loop *l, uint32_t generation)
{
	tally.loop = l;
	tally.generation = generation;
	tally.sent_ms = loop_now(l) - EVERY_MS;
	timer_init(&tally.timer, on_timer, NULL);
}

void
tally_flight(enum broker_op op, int more)
{
	count_of(op)->in_flight += (uint32_t)more;
	changed();
}

void
tally_ended(enum broker_op op, enum broker_outcome o, int64_t us)
{
	static const double bounds[BROKER_N_BOUNDS] = { BROKER_BOUNDS };
	struct broker_count *c = count_of(op);
	size_t i = 0;

	c->outcome[o]++;
	changed();
	if (!broker_outcome_work(o))
		return;
	while (i < BROKER_N_BOUNDS && (double)us > bounds[i] * 1e6)
		i++;
	c->took[i]++;
	c->us += (uint64_t)us;
}
