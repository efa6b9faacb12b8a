/*
 * sftp_wire.h - the file transfer protocol of SSH, version 3 (draft-ietf-secsh-filexfer-02), the client's side.
 *
 * Requests in, bytes to send out; bytes received in, replies out. It knows no connection: sftp.c moves the bytes.
 * Everything that comes is hostile: a packet is bounded, is read to its exact end, and must answer a request that is
 * under way with a type that fits it; else the stream is of no use any more (PROTOCOL).
 */
#ifndef WORKER_SOURCE_SFTP_WIRE_H
#define WORKER_SOURCE_SFTP_WIRE_H

#include "common/buf.h"
#include "common/cursor.h"
#include "common/err.h"

#define SFTP_PACKET_MAX (256 * 1024)    /* bytes of one received packet */
#define SFTP_HANDLE_MAX 256             /* bytes of a handle */
#define SFTP_STRING_MAX 65535           /* bytes of a received name, long name or path */
#define SFTP_UNDER_WAY_MAX 1024         /* requests that wait for their replies */

enum sftp_op { SFTP_OPENDIR, SFTP_READDIR, SFTP_CLOSE, SFTP_REALPATH, SFTP_STAT, SFTP_LSTAT, SFTP_READLINK, SFTP_OP__MAX };

/* Status codes, section 7; above: version 4 and later, or of the server's own. */
enum sftp_status {
	SFTP_OK, SFTP_EOF, SFTP_NO_SUCH_FILE, SFTP_PERMISSION_DENIED, SFTP_FAILURE, SFTP_BAD_MESSAGE, SFTP_NO_CONNECTION,
	SFTP_CONNECTION_LOST, SFTP_OP_UNSUPPORTED, SFTP_STATUS__MAX
};

enum { SFTP_HAS_SIZE = 1, SFTP_HAS_IDS = 2, SFTP_HAS_MODE = 4, SFTP_HAS_TIMES = 8, SFTP_HAS_MORE = INT32_MIN };

struct sftp_attrs {
	uint32_t flags;                 /* which of the others are there */
	uint64_t size;
	uint32_t uid, gid, mode, atime, mtime;
};

struct sftp_name {                      /* all borrowed from the packet */
	const char *name, *longname;
	size_t name_n, longname_n;
	struct sftp_attrs attrs;
};

struct sftp_reply {
	enum sftp_op op;                /* of the request, and what it was given */
	void *arg;
	uint32_t status;                /* SFTP_OK: it holds what was asked for; SFTP_CLOSE: done */
	const char *text;               /* the server's words; borrowed, bytes */
	size_t text_n;
	const char *handle;             /* SFTP_OPENDIR */
	size_t handle_n;
	struct sftp_attrs attrs;        /* SFTP_STAT, SFTP_LSTAT */
	uint32_t names;                 /* how many sftp_reply_name has still to give */
	struct cursor left;
};

struct sftp_request { bool busy; uint32_t id; enum sftp_op op; void *arg; };

struct sftp_wire {
	bool ready;                     /* VERSION came */
	struct buf out;                 /* to be sent; the sender consumes it */
	size_t due;                     /* bytes of it that may be sent: whole packets; the sender takes off what it sent */
	unsigned queued;                /* requests behind those: their turn has not come */
	struct buf in;                  /* received, not yet read */
	size_t at;                      /* of it, read */
	uint32_t next;                  /* where to look for a free request */
	unsigned under_way;
	struct sftp_request requests[SFTP_UNDER_WAY_MAX];
};

/* Queues INIT. */
void sftp_wire_init(struct sftp_wire *);
void sftp_wire_release(struct sftp_wire *);
/* OPENDIR, REALPATH, STAT, LSTAT, READLINK of a path; READDIR, CLOSE of a handle. There must be room: under_way. */
void sftp_wire_ask(struct sftp_wire *, enum sftp_op, const void *what, size_t n, void *arg);
/* The first of those that are queued may be sent. */
void sftp_wire_let_go(struct sftp_wire *);
void sftp_wire_feed(struct sftp_wire *, const void *p, size_t n);
/* The next reply: 1; 0: more bytes are needed; -1 with err (PROTOCOL). Valid until the next feed. */
int sftp_wire_next(struct sftp_wire *, struct sftp_reply *, struct err *);
/* True in the midst of a packet. */
bool sftp_wire_partial(const struct sftp_wire *);
/* The next of reply->names: 1, 0 none left, -1 with err. After the last one the packet has been read to its end. */
int sftp_reply_name(struct sftp_reply *, struct sftp_name *, struct err *);

const char *sftp_op_name(enum sftp_op);
/* What a status means for the job, and in words; one table (sftp_wire.c). */
enum err_class sftp_status_class(uint32_t status);
const char *sftp_status_text(uint32_t status);
/* The owner and group that a long name like that of ls -l holds; false where it looks otherwise. */
bool sftp_longname_owners(const struct sftp_name *, const char **owner, size_t *owner_n, const char **group, size_t *group_n);

#endif
