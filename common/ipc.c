/*
 * ipc.c - frames over SOCK_SEQPACKET, and in the spool; see ipc.h.
 *
 * Both sides use it. It never blocks in sending, never raises SIGPIPE, never accepts a descriptor, and keeps no state:
 * a message is a whole frame or it is wrong. The catalogue is messages.def.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/ipc.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define S(s) (1U << WORKER_##s)
struct msg_row {
	const char *name;
	unsigned sender;
	unsigned states;
	size_t min, max;
};

#define MSG_LAST 64

static const struct msg_row rows[MSG_LAST] = {
#define MSG(id, number, sender_, states_, min_, max_, meaning)                                     \
	[number] = { #id, IPC_##sender_, states_, min_, max_ },
#include "common/messages.def"
#undef MSG
};
#undef S

static const struct msg_row *
row_of(unsigned type)
{
	return type < MSG_LAST && rows[type].name ? &rows[type] : NULL;
}

const char *
ipc_name(enum msg_type type)
{
	const struct msg_row *r = row_of((unsigned)type);

	return r ? r->name : "?";
}

void
ipc_begin(struct buf *b, enum msg_type type, uint32_t generation, uint64_t task)
{
	buf_clear(b);
	buf_u32(b, 0);
	buf_u16(b, (uint16_t)type);
	buf_u16(b, 0);
	buf_u32(b, generation);
	buf_u32(b, 0);
	buf_u64(b, task);
}

bool
ipc_fits(const struct buf *b)
{
	const struct msg_row *r;
	uint16_t type;

	if (b->len < IPC_HEADER)
		BUG("a frame without its header");
	memcpy(&type, b->p + 4, sizeof(type));
	r = row_of(type);
	if (!r)
		BUG("a frame of no type");
	return b->len - IPC_HEADER >= r->min && b->len - IPC_HEADER <= r->max;
}

void
ipc_finish(struct buf *b)
{
	uint32_t len = (uint32_t)b->len;

	if (!ipc_fits(b))
		BUG("a frame out of its own bounds");
	memcpy(b->p, &len, sizeof(len));
}

int
ipc_send(int fd, const struct buf *b)
{
	ssize_t n;

	do
		n = send(fd, b->p, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 1;
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -1;
}

int
ipc_parse(const uint8_t *p, size_t n, struct frame *f, size_t *used, struct err *e)
{
	struct cursor c;
	uint32_t len, zero2;
	uint16_t type, zero1;
	const struct msg_row *r;

	cursor_init(&c, p, n);
	len = cursor_u32(&c);
	type = cursor_u16(&c);
	zero1 = cursor_u16(&c);
	f->generation = cursor_u32(&c);
	zero2 = cursor_u32(&c);
	f->task = cursor_u64(&c);
	if (c.bad)
		return err_set(e, ERR_WORKER_PROTOCOL, "frame of %zu bytes is shorter than its header", n) - 1;
	if (len < IPC_HEADER || len > IPC_FRAME_MAX || len > n)
		return err_set(e, ERR_WORKER_PROTOCOL, "frame says %u bytes where %zu are", len, n) - 1;
	if (zero1 || zero2)
		return err_set(e, ERR_WORKER_PROTOCOL, "reserved bytes of a frame are not zero") - 1;
	r = row_of(type);
	if (!r)
		return err_set(e, ERR_WORKER_PROTOCOL, "frame of unknown type %u", type) - 1;
	f->type = (enum msg_type)type;
	f->payload = c.p;
	f->n = len - IPC_HEADER;
	if (f->n < r->min || f->n > r->max)
		return err_set(e, ERR_WORKER_PROTOCOL, "%s of %zu bytes is out of its bounds %zu..%zu",
		    r->name, f->n, r->min, r->max) - 1;
	*used = len;
	return 1;
}

int
ipc_recv(int fd, int flags, uint8_t *buf, struct frame *f, struct err *e)
{
	ssize_t n;
	size_t used;
	int r;

	do
		n = recv(fd, buf, IPC_FRAME_MAX + 1, flags | MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	/* The other end closed while something of ours lay unread there: the same end of file to us. */
	if (n == 0 || (n < 0 && errno == ECONNRESET)) {
		err_clear(e);
		return -1;
	}
	if (n < 0)
		return err_errno(e, ERR_SYSTEM, "reading the frame socket");
	if (n > IPC_FRAME_MAX)
		return err_set(e, ERR_WORKER_PROTOCOL, "frame of %zd bytes is over the limit of %d", n, IPC_FRAME_MAX) - 1;
	r = ipc_parse(buf, (size_t)n, f, &used, e);
	if (r == 1 && used != (size_t)n)
		return err_set(e, ERR_WORKER_PROTOCOL, "frame says %zu bytes where %zd came", used, n) - 1;
	return r;
}

int
ipc_check(const struct frame *f, enum ipc_sender sender, enum worker_state state, struct err *e)
{
	const struct msg_row *r = row_of((unsigned)f->type);

	if (!r)
		return err_set(e, ERR_WORKER_PROTOCOL, "frame of unknown type %u", (unsigned)f->type);
	if (!(r->sender & (unsigned)sender))
		return err_set(e, ERR_WORKER_PROTOCOL, "%s is not for this side to send", r->name);
	if (!(r->states & (1U << state)))
		return err_set(e, ERR_WORKER_PROTOCOL, "%s is out of turn (state %d)", r->name, (int)state);
	return 0;
}
