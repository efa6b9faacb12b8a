/*
 * curl_turns.c - the transfers of a libcurl session: which of them wait for their turn, and which have begun.
 *
 * curl.c calls it. A turn is what the task's rate gives (pace.c), and there are no more begun than connections.
 */
#include "worker/source/curl.h"
#include "worker/source/curl_priv.h"
#include "common/banned.h"

void
curl_turns_wait(struct curl_handle *h)
{
	struct curl_session *s = h->session;

	h->queued = true;
	h->next_queued = NULL;
	*s->queue_end = h;
	s->queue_end = &h->next_queued;
}

static void
dequeue(struct curl_handle *h)
{
	struct curl_session *s = h->session;
	struct curl_handle **at = &s->queue;

	while (*at != h)
		at = &(*at)->next_queued;
	*at = h->next_queued;
	if (!*at)
		s->queue_end = at;
	h->queued = false;
}

int
curl_turns_begin(struct curl_handle *h, struct err *e)
{
	if (h->t->lane) {
		h->in_lane = h->ready = true;
		curl_session_asked(h->t, false);
		h->session->going++;
		return 0;
	}
	curl_sockets_release(h->session, h);
	curl_sockets_drain(h->session, h);
	if (curl_multi_add_handle(h->session->multi, h->easy))
		return err_set(e, ERR_SYSTEM, "libcurl takes no further transfer");
	h->in_multi = true;
	h->session->going++;
	return 0;
}

/* One that waited within libcurl would go out whenever a connection is free, at any rate. */
int
curl_turns_give(struct curl_session *s, int64_t *next, struct err *e)
{
	struct curl_handle *h;

	*next = TURN_NS;
	while ((h = s->queue) && s->going < s->connections) {
		unsigned queued = s->active - s->going, room = s->connections - s->going;

		if (!pace_take(s->run, queued < room ? queued : room, next))
			return 0;
		dequeue(h);
		if (curl_turns_begin(h, e))
			return -1;
		*next = TURN_NS;
	}
	return 0;
}

void
curl_turns_leave(struct curl_handle *h)
{
	if (h->queued)
		dequeue(h);
	if (h->in_multi)
		curl_multi_remove_handle(h->session->multi, h->easy);
	if (h->in_lane)
		h->t->lane->drop(h->t);
	if (h->t && (h->in_multi || h->in_lane))
		h->session->going--;
	if (h->t)
		h->session->active--;
	h->in_multi = h->in_lane = h->keep = false;
	h->t = NULL;
}
