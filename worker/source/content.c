/*
 * content.c - the checksum of a file's content, of a file that stays as it was looked at; for walk.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define ROOM 131072             /* bytes read at once */

/* Is it the file that was looked at, and as it was then? ctime cannot be set back. */
static bool
is_unchanged(int fd, const struct statx *was)
{
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) == 0 && S_ISREG(st.stx_mode) &&
	    st.stx_dev_major == was->stx_dev_major && st.stx_dev_minor == was->stx_dev_minor &&
	    st.stx_ino == was->stx_ino && st.stx_size == was->stx_size && st.stx_mtime.tv_sec == was->stx_mtime.tv_sec &&
	    st.stx_mtime.tv_nsec == was->stx_mtime.tv_nsec && st.stx_ctime.tv_sec == was->stx_ctime.tv_sec &&
	    st.stx_ctime.tv_nsec == was->stx_ctime.tv_nsec;
}

int
content_digest(struct content *c, struct run *r, int fd, const struct statx *st, enum digest_kind kind, enum task_note *note, struct err *e)
{
	uint64_t total = 0;
	ssize_t n;

	*note = NOTE_HASH_CHANGED;
	if (!is_unchanged(fd, st))
		return 1;
	if (digest_begin(&c->digest, kind, e))
		return -1;
	if (!c->buf)
		c->buf = xmalloc(ROOM);
	/* One that grows as fast as it is read has no end. */
	while (total <= st->stx_size) {
		n = read(fd, c->buf, ROOM);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			*note = NOTE_HASH_UNREADABLE;
		if (n <= 0)
			break;
		total += (uint64_t)n;
		digest_add(&c->digest, c->buf, (size_t)n);
		if (run_look(r, e))
			return -1;
	}
	if (*note == NOTE_HASH_UNREADABLE || total != st->stx_size || !is_unchanged(fd, st))
		return 1;
	digest_end(&c->digest, c->hash);
	return 0;
}

void
content_release(struct content *c)
{
	digest_release(&c->digest);
	free(c->buf);
	c->buf = NULL;
}
