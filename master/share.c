/*
 * share.c - may one more task of this tenant, or of this endpoint, start now, beside the others that were seen lately?
 *
 * Called by tenants.c and endpoint.c before a task is given out. One that holds no more than its fair part may always start
 * what a free worker takes. Beyond that it may hold workers up to a limit, and only while some stay free: whoever comes
 * finds a worker at once, however long the tasks of the others take. One alone has all workers, and of few none is spared.
 */
#include "master/master.h"
#include "common/banned.h"

bool
share_allows(const struct share *s, unsigned running, int64_t weight)
{
	int64_t workers = (int64_t)s->workers, fair, most, spare;

	if (s->active < 2 || workers < SHARE_WORKERS_MIN)
		return true;
	fair = workers * weight / (s->weights > 0 ? s->weights : 1);
	if (running < (fair > 1 ? fair : 1))
		return true;
	most = workers * s->limit / 1000;
	if (most < fair)
		most = fair;
	if (running >= most)
		return false;
	spare = workers - workers * s->limit / 1000;
	return workers - (int64_t)s->busy > spare;
}
