/*
 * broker_show.c - what the connector has done and how it is: as metrics, as JSON for /status.json and the verb workers, as
 * a line for people.
 *
 * broker.c hands over each TALLY; status.c, status_html.c and control_verbs.c ask. The counts are the metrics' own, so that
 * they outlive a connector.
 */
#include "common/broker.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

static const char *const ops[] = { "resolve", "connect" };
static const char *const states[] = { "starting", "ready", "dying", "backoff" };

void
broker_init_metrics(void)
{
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		for (int o = 0; o < BROKER_OUTCOME__MAX; o++)
			metric_add(METRIC_CONNECTOR_ASKS, 0, ops[i], broker_outcome_name((enum broker_outcome)o));
		metric_merge(METRIC_CONNECTOR_SECONDS, ops[i], NULL, 0);
		metric_set(METRIC_CONNECTOR_FLIGHT, 0, ops[i], NULL);
	}
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		metric_set(METRIC_CONNECTOR, 0, states[i], NULL);
}

void
broker_tally(const struct broker_tally *t)
{
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		const struct broker_count *c = &t->op[i];

		for (int o = 0; o < BROKER_OUTCOME__MAX; o++)
			metric_add(METRIC_CONNECTOR_ASKS, c->outcome[o], ops[i], broker_outcome_name((enum broker_outcome)o));
		metric_merge(METRIC_CONNECTOR_SECONDS, ops[i], c->took, (double)c->us / 1e6);
		metric_set(METRIC_CONNECTOR_FLIGHT, c->in_flight, ops[i], NULL);
	}
}

void
broker_refresh_metrics(const struct master *m)
{
	struct broker_view v;

	if (!m->broker)
		return;
	broker_view(m->broker, &v);
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		metric_set(METRIC_CONNECTOR, states[i] == v.state, states[i], NULL);
}

const char *
broker_state_name(enum worker_state s)
{
	return states[s == WORKER_STARTING ? 0 : s == WORKER_IDLE ? 1 : s == WORKER_DYING ? 2 : 3];
}

static int64_t
asks(size_t op, enum broker_outcome o)
{
	return (int64_t)metric_get(METRIC_CONNECTOR_ASKS, ops[op], broker_outcome_name(o));
}

void
broker_json(struct jsonw *j, const struct master *m)
{
	struct broker_view v;

	if (!m->broker) {
		jsonw_str(j, "connector", NULL);
		return;
	}
	broker_view(m->broker, &v);
	jsonw_object(j, "connector");
	jsonw_str(j, "state", v.state);
	if (v.pid)
		jsonw_int(j, "pid", v.pid);
	else
		jsonw_null(j, "pid");
	jsonw_dbl(j, "since_seconds", (double)(loop_now(m->loop) - v.since_ms) / 1000, 3);
	jsonw_int(j, "restarts", (int64_t)v.restarts);
	jsonw_str(j, "last_death", *v.last_death ? v.last_death : NULL);
	jsonw_str(j, "sandbox", *v.sandbox ? v.sandbox : NULL);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		jsonw_object(j, ops[i]);
		jsonw_int(j, "in_flight", (int64_t)metric_get(METRIC_CONNECTOR_FLIGHT, ops[i], NULL));
		for (int o = 0; o < BROKER_OUTCOME__MAX; o++)
			jsonw_int(j, broker_outcome_name((enum broker_outcome)o), asks(i, (enum broker_outcome)o));
		jsonw_end_object(j);
	}
	jsonw_end_object(j);
}

void
broker_work(struct broker_work *w)
{
	*w = (struct broker_work){ .names = asks(0, BROKER_OK), .connections = asks(1, BROKER_OK) };
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		w->in_flight += (int64_t)metric_get(METRIC_CONNECTOR_FLIGHT, ops[i], NULL);
		w->refused += asks(i, BROKER_NO_TASK) + asks(i, BROKER_PLACE) + asks(i, BROKER_PORT) + asks(i, BROKER_ADDRESS) + asks(i, BROKER_BUSY);
		w->failed += asks(i, BROKER_NOT_FOUND) + asks(i, BROKER_FAILED) + asks(i, BROKER_TIMEOUT);
	}
}
