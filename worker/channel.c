/*
 * channel.c - the worker's end of its socket: frames to and from the master.
 *
 * run.c, emit.c and main.c use it. Before it waits for room it also listens, so that a worker whose master does not
 * read can still be cancelled. It never takes a descriptor, never allocates by what the master says, and on the
 * master's end of file only notes it: main.c ends the process.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/worker.h"
#include "common/log.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define LOG_PER_SECOND 50

void
channel_init(struct channel *ch, int fd, uint32_t generation)
{
	memset(ch, 0, sizeof(*ch));
	ch->fd = fd;
	ch->generation = generation;
}

void
channel_release(struct channel *ch)
{
	buf_release(&ch->out);
}

static int
lost(struct channel *ch, struct err *e)
{
	ch->gone = true;
	return err_set(e, ERR_SYSTEM, "the master is gone");
}

/* So many more requests may start; 0: from now on each waits for such a word. One that crossed our DONE is for nobody. */
static int
turns(struct channel *ch, const struct frame *f, struct err *e)
{
	struct cursor c;
	uint32_t n;

	cursor_init(&c, f->payload, f->n);
	n = cursor_u32(&c);
	if (!cursor_end(&c) || n > IPC_ASK_MAX) {
		ch->broken = true;
		return err_set(e, ERR_SYSTEM, "the master sent TURNS for %u requests", n);
	}
	if (!ch->busy || f->task != ch->task)
		return 0;
	ch->asks = true;
	ch->asked = ch->asked && !n;
	ch->turns += n;
	return 0;
}

/* What may come while a task runs or room is awaited. -1: a frame that the master must not send now. */
static int
handle(struct channel *ch, const struct frame *f, struct err *e)
{
	if (f->type == MSG_STOP) {
		ch->stop = true;
		return 0;
	}
	/* A CANCEL that crossed our DONE is for a task that has ended. */
	if (f->type == MSG_CANCEL) {
		if (ch->busy && f->task == ch->task)
			ch->cancelled = true;
		return 0;
	}
	if (f->type == MSG_TURNS)
		return turns(ch, f, e);
	/* It came before we were back to wait for the next task. */
	if (f->type == MSG_DROP) {
		ch->drop = true;
		return 0;
	}
	ch->broken = true;
	return err_set(e, ERR_SYSTEM, "the master sent %s out of turn", ipc_name(f->type));
}

/* One frame: 1, 0 none there, -1. */
static int
receive(struct channel *ch, int flags, struct frame *f, struct err *e)
{
	int r = ipc_recv(ch->fd, flags, ch->in, f, e);

	if (r == -1) {
		ch->gone = true;
		if (e->cls == ERR_OK)
			err_set(e, ERR_SYSTEM, "the master is gone");
	} else if (r == -2) {
		ch->broken = true;
		r = -1;
	} else if (r == 1 && f->generation != ch->generation) {
		ch->broken = true;
		return err_set(e, ERR_SYSTEM, "the master sent %s of another generation", ipc_name(f->type));
	}
	return r;
}

int
channel_recv_for(struct channel *ch, int timeout_ms, struct frame *f, struct err *e)
{
	for (;;) {
		struct pollfd p = { .fd = ch->fd, .events = POLLIN };
		int r = receive(ch, MSG_DONTWAIT, f, e);

		/* They crossed our DONE. */
		if (r == 1 && (f->type == MSG_CANCEL || f->type == MSG_TURNS))
			continue;
		if (r == 1)
			return 1;
		if (r < 0)
			return ch->gone ? 0 : -1;
		r = poll(&p, 1, timeout_ms);
		if (r < 0 && errno != EINTR)
			return err_errno(e, ERR_SYSTEM, "waiting for the master");
		if (!r)
			return CHANNEL_TIMEOUT;
	}
}

int
channel_recv(struct channel *ch, struct frame *f, struct err *e)
{
	return channel_recv_for(ch, -1, f, e);
}

/* All that lies there; -1 when the channel is of no use any more. */
static int
drain(struct channel *ch, struct err *e)
{
	struct frame f;
	int r;

	while ((r = receive(ch, MSG_DONTWAIT, &f, e)) == 1)
		if (handle(ch, &f, e))
			return -1;
	return r;
}

int
channel_poll(struct channel *ch, int timeout_ms, struct err *e)
{
	struct pollfd p = { .fd = ch->fd, .events = POLLIN };
	int r = 1;

	if (timeout_ms) {
		r = poll(&p, 1, timeout_ms);
		if (r < 0 && errno != EINTR)
			return err_errno(e, ERR_SYSTEM, "waiting");
	}
	if (r > 0 && drain(ch, e))
		return -1;
	if (ch->cancelled)
		return err_set(e, ERR_CANCELLED, "cancelled");
	return 0;
}

static int
send_frame(struct channel *ch, const struct buf *b, bool data, struct err *e)
{
	for (;;) {
		struct pollfd p = { .fd = ch->fd, .events = POLLIN | POLLOUT };
		int r = ipc_send(ch->fd, b);

		if (r > 0)
			return 0;
		if (r < 0)
			return errno == EPIPE || errno == ECONNRESET ? lost(ch, e) :
			    err_errno(e, ERR_SYSTEM, "sending to the master");
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return err_errno(e, ERR_SYSTEM, "waiting for room in the socket");
		if ((p.revents & (POLLIN | POLLHUP | POLLERR)) && drain(ch, e))
			return -1;
		if (data && ch->cancelled)
			return err_set(e, ERR_CANCELLED, "cancelled");
	}
}

struct buf *
channel_begin(struct channel *ch, enum msg_type type)
{
	ipc_begin(&ch->out, type, ch->generation, ch->busy ? ch->task : 0);
	return &ch->out;
}

int
channel_send(struct channel *ch, struct err *e)
{
	ipc_finish(&ch->out);
	return send_frame(ch, &ch->out, false, e);
}

int
channel_send_data(struct channel *ch, const struct buf *b, struct err *e)
{
	return send_frame(ch, b, true, e);
}

/* Room for one more line in this second? A line that tells of dropped ones goes first. */
static bool
log_room(struct channel *ch)
{
	int64_t second = run_clock() / 1000000000;

	if (second != ch->log_second) {
		ch->log_second = second;
		ch->log_lines = 0;
	}
	if (ch->log_lines >= LOG_PER_SECOND) {
		ch->log_dropped++;
		return false;
	}
	ch->log_lines++;
	return true;
}

static void
log_send(struct channel *ch, enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;

	/* Its own buffer: a line may be logged while ch->out is being filled. What cannot be sent is lost. */
	ipc_begin(&b, MSG_LOG, ch->generation, ch->busy ? ch->task : 0);
	log_frame_encode(&b, level, event, f, n);
	ipc_finish(&b);
	if (send_frame(ch, &b, false, &e))
		ch->log_dropped++;
	buf_release(&b);
}

void
channel_log(void *channel, enum log_level level, const char *event, const struct log_field *f, size_t n)
{
	struct channel *ch = channel;
	struct log_field lost_lines = LI("lines", ch->log_dropped);

	if (ch->gone || !log_room(ch))
		return;
	if (ch->log_dropped) {
		ch->log_dropped = 0;
		log_send(ch, LOG_WARN, "log_suppressed", &lost_lines, 1);
	}
	log_send(ch, level, event, f, n);
}
