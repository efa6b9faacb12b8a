/*
 * ipc.h - frames over SOCK_SEQPACKET: one message of at most IPC_FRAME_MAX bytes, header and payload.
 *
 * Header, host byte order: u32 length of the whole frame, u16 type, u16 zero, u32 generation of the slot, u32 zero,
 * u64 task. A frame is right when its length is the one received, its type is in messages.def, was sent by who may,
 * in a state that allows it, with a size within its bounds; the master also checks generation and task. What breaks a
 * rule is an error (ERR_WORKER_PROTOCOL) and costs that worker only. Descriptors are never taken: no control buffer.
 */
#ifndef COMMON_IPC_H
#define COMMON_IPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/cursor.h"
#include "common/err.h"

#define IPC_VERSION 1
#define IPC_HEADER 24
#define IPC_ASK_MAX 1024            /* requests that one ASK may be for */
#define IPC_FRAME_MAX 65536

/* One for the slot, in pool.c and in messages.def; see master.h for the meaning. */
enum worker_state { WORKER_STARTING, WORKER_IDLE, WORKER_BUSY, WORKER_DRAINING, WORKER_DYING, WORKER_BACKOFF, WORKER__MAX };

enum ipc_sender { IPC_MASTER = 1, IPC_WORKER = 2, IPC_HTTP = 4, IPC_CONNECTOR = 8 };

enum msg_type {
#define S(s)
#define MSG(id, number, sender, states, min, max, meaning) MSG_##id = number,
#include "common/messages.def"
#undef MSG
#undef S
	MSG__NONE = 0
};

struct frame {                /* one received frame; payload borrowed from the reader's buffer */
	enum msg_type type;
	uint32_t generation;
	uint64_t task;
	const uint8_t *payload;
	size_t n;
};

/* "FILES"; "?" where unknown */
const char *ipc_name(enum msg_type);
/* Fixed fd numbers of a child. */
enum { IPC_FD = 3, IPC_SPOOL_FD = 4, IPC_REFUSED_FD = 5, IPC_LISTEN_FD = 6, IPC_BROKER_FD = 6 /* of a brokered worker */ };

/* Begins a frame in b (cleared): room for the header; then append the payload; then ipc_finish writes the header. */
void ipc_begin(struct buf *b, enum msg_type, uint32_t generation, uint64_t task);
/* Is the payload within its message's bounds? For senders of foreign content (JOB, SETUP), before ipc_finish. */
bool ipc_fits(const struct buf *b);
/* Completes the header in place. Aborts when the payload is out of the message's own bounds (our bug). */
void ipc_finish(struct buf *b);
/* Sends one finished frame: 1 sent, 0 would block, -1 error (errno; EPIPE: the other side is gone). MSG_NOSIGNAL; never
 * blocks, whatever the descriptor's flags. */
int ipc_send(int fd, const struct buf *b);
/* Receives one frame into buf (IPC_FRAME_MAX + 1 bytes): 1 and *f, 0 nothing there now, -1 end of file or a read error
 * (err class OK: end of file; SYSTEM: errno), -2 a frame that is wrong in itself (ERR_WORKER_PROTOCOL). flags: MSG_DONTWAIT or 0. */
int ipc_recv(int fd, int flags, uint8_t *buf, struct frame *f, struct err *);
/* Header and bounds of a frame that lies in memory (the spool): same rules, same -2 or 1. n: bytes there; *used: its length. */
int ipc_parse(const uint8_t *p, size_t n, struct frame *f, size_t *used, struct err *);
/* May `sender` send this type while the worker is in `state`? 0, or -1 with the rule. */
int ipc_check(const struct frame *f, enum ipc_sender sender, enum worker_state state, struct err *);

/* The build id that HELLO carries: both binaries of one build share it. */
extern const char ipc_build_id[];

#endif
