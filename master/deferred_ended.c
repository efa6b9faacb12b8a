/*
 * deferred_ended.c - a short memory of deferred jobs that have ended, so that their first messages are not done once more.
 *
 * Called by deferred.c and deferred_done.c. A message's offset is completed when its copy in the deferred topic is
 * acknowledged; but it may not be committed yet when the job has come due and ended: commits fail, or the message was read
 * again after a crash, or still has to be. Then the message comes again. So the end is remembered by origin and bytes
 * (deferred_holds finds it as it finds a copy that waits) until the origin's committed offset is beyond it. For as long
 * the commit of the deferred partition stays at the record, and a mark says that it ended: whoever reads the partition
 * next reads both, and remembers it anew.
 *
 * Where the origin's partition is another poller's nobody here knows what is committed: it is remembered in memory alone,
 * in case that the partition comes to us. In the common case, with its message committed long ago, nothing is remembered.
 * Bounded: DEFER_ENDED_MAX of each kind, the oldest one gives way; none for longer than an hour. Beyond that a message that
 * comes again is done again, with the same result_id.
 */
#include "master/deferred_priv.h"
#include "common/banned.h"

#define KEPT_MS 3600000

static enum consumer_place
place_of(const struct deferred *d, const struct defer_entry *e)
{
	/* One that no poller wrote has no first message. */
	if (!e->count)
		return PLACE_COMMITTED;
	return consumer_place(d->m->consumer, e->origin.topic, e->origin.partition, e->origin.offset);
}

void
deferred_remember(struct deferred *d, struct defer_entry *e)
{
	enum consumer_place place = place_of(d, e);

	if (place == PLACE_COMMITTED) {
		deferred_entry_free(d, e);
		return;
	}
	if (e->state != DEFER_WAITING)
		d->held--;
	defer_store_drop(d->store, e->slot);
	e->shadow = NULL;
	e->ended_ms = loop_now(d->m->loop);
	if (!defer_end(&d->index, e, place == PLACE_OPEN) || d->ended_full)
		return;
	d->ended_full = true;
	LOG(LOG_WARN, "deferred_ended_full", LI("jobs", DEFER_ENDED_MAX),
	    LS("todo", "see why offsets are not committed: of more jobs that have ended it is not known, and a restart may repeat them"));
}

void
deferred_forget(struct deferred *d)
{
	int64_t now = loop_now(d->m->loop);
	bool held = false;

	for (int holds = 1; holds >= 0; holds--) {
		struct defer_ended *kind = &d->index.ended[holds];
		struct defer_entry *next;

		for (struct defer_entry *e = kind->n ? TAILQ_FIRST(&kind->list) : NULL; e; e = next) {
			enum consumer_place place = place_of(d, e);

			next = TAILQ_NEXT(e, next_ended);
			if (place == PLACE_COMMITTED || now - e->ended_ms > KEPT_MS)
				deferred_entry_free(d, e);
			else if (holds && place == PLACE_ELSEWHERE)
				defer_end(&d->index, e, false);
			else
				continue;
			held |= holds;
		}
	}
	if (d->index.ended[0].n < DEFER_ENDED_MAX && d->index.ended[1].n < DEFER_ENDED_MAX)
		d->ended_full = false;
	if (held)
		consumer_commit_soon(d->m->consumer);
}
