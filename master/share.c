/*
 * share.c - may one more task of this tenant, or of this endpoint, start now, beside the others that were seen lately?
 *
 * Called by tenants.c and endpoint.c before a task is given out. One that holds no more than its fair part may always start
 * what a free worker takes. Beyond that it may hold workers up to a limit, and only while some stay free: whoever comes
 * finds a worker at once, however long the tasks of the others take. One alone has all workers, and of few none is spared.
 * One whose tasks are brief gives workers back before they are missed: it may hold a few more.
 */
#include "master/master.h"
#include "common/banned.h"

#define FEW_PART 8                      /* of the workers that one whose tasks are brief may hold more, and has to leave free */

/* How many it may hold while enough stay free. */
static int64_t
most_of(const struct share *s, int64_t weight)
{
	int64_t workers = (int64_t)s->workers, fair = workers * weight / (s->weights > 0 ? s->weights : 1), most = workers * s->limit / 1000;

	return most < fair ? fair : most;
}

bool
share_lends(const struct share *s, unsigned running, int64_t weight)
{
	int64_t workers = (int64_t)s->workers, few = workers / FEW_PART > 1 ? workers / FEW_PART : 1;

	return running < most_of(s, weight) + few && workers - (int64_t)s->busy > few;
}

bool
share_allows(const struct share *s, unsigned running, int64_t weight)
{
	int64_t workers = (int64_t)s->workers, fair, spare;

	if (s->active < 2 || workers < SHARE_WORKERS_MIN)
		return true;
	fair = workers * weight / (s->weights > 0 ? s->weights : 1);
	if (running < (fair > 1 ? fair : 1))
		return true;
	if (running >= most_of(s, weight))
		return false;
	spare = workers - workers * s->limit / 1000;
	return workers - (int64_t)s->busy > spare;
}
