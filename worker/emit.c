/*
 * emit.c - records to FILES frames: to the socket in stream mode, into the spool in atomic mode.
 *
 * run.c calls it. The spool holds the same frames, headers and all, one after the other from its first byte; the
 * master reads it once, after DONE. A full spool is ERR_SPOOL_FULL, whichever of file limit, quota or disk was first.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/banned.h"

/* A batch is sent when it holds this much; one more record may make it larger, up to the frame's own limit. */
#define BATCH_BYTES 32768
#define BATCH_MAX (IPC_HEADER + 65000)

void
emit_init(struct emit *m, struct channel *ch, int spool_fd)
{
	memset(m, 0, sizeof(*m));
	m->ch = ch;
	m->spool_fd = spool_fd;
}

void
emit_release(struct emit *m)
{
	buf_release(&m->frame);
}

static int
empty_spool(struct emit *m, struct err *e)
{
	m->spool_bytes = 0;
	if (ftruncate(m->spool_fd, 0) < 0 || lseek(m->spool_fd, 0, SEEK_SET) < 0)
		return err_errno(e, ERR_SYSTEM, "emptying the spool");
	return 0;
}

int
emit_start(struct emit *m, enum job_publish publish, struct err *e)
{
	buf_clear(&m->frame);
	m->count = 0;
	m->sent = 0;
	m->spool_bytes = 0;
	m->to_spool = publish == PUBLISH_ATOMIC;
	return m->to_spool ? empty_spool(m, e) : 0;
}

static int
spool_write(struct emit *m, struct err *e)
{
	size_t done = 0;

	while (done < m->frame.len) {
		ssize_t n = write(m->spool_fd, m->frame.p + done, m->frame.len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT))
			return err_errno(e, ERR_SPOOL_FULL, "the spool is full after %llu bytes",
			    (unsigned long long)(m->spool_bytes + done));
		if (n < 0)
			return err_errno(e, ERR_SYSTEM, "writing the spool");
		done += (size_t)n;
	}
	m->spool_bytes += done;
	return 0;
}

int
emit_flush(struct emit *m, struct err *e)
{
	int r;

	if (!m->count)
		return 0;
	memcpy(m->frame.p + IPC_HEADER, &m->count, sizeof(m->count));
	ipc_finish(&m->frame);
	r = m->to_spool ? spool_write(m, e) : channel_send_data(m->ch, &m->frame, e);
	if (!r)
		m->sent += m->count;
	m->count = 0;
	buf_clear(&m->frame);
	return r;
}

static void
begin(struct emit *m)
{
	ipc_begin(&m->frame, MSG_FILES, m->ch->generation, m->ch->task);
	buf_u32(&m->frame, 0);
}

int
emit_add(struct emit *m, struct record *r, struct err *e)
{
	size_t before;

	if (!m->count)
		begin(m);
	before = m->frame.len;
	if (record_encode(r, &m->frame, e))
		return -1;
	if (m->frame.len > BATCH_MAX) {
		m->frame.len = before;
		if (emit_flush(m, e))
			return -1;
		begin(m);
		if (record_encode(r, &m->frame, e))
			return -1;
	}
	m->count++;
	return m->frame.len >= BATCH_BYTES ? emit_flush(m, e) : 0;
}

void
emit_discard(struct emit *m)
{
	struct err e = ERR_INIT;

	m->count = 0;
	buf_clear(&m->frame);
	/* Where even this fails the next task's start says so. */
	if (m->to_spool)
		(void)empty_spool(m, &e);
}
