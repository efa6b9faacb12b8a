/*
 * sftp.h - what sftp.c and sftp_list.c show one another.
 */
#ifndef WORKER_SOURCE_SFTP_H
#define WORKER_SOURCE_SFTP_H

#include "worker/source/curl.h"
#include "worker/source/sftp_wire.h"
#include "worker/source/ssh.h"

struct conn {
	struct curl_session *curl;
	CURL *stream;                   /* owns the socket */
	struct ssh_io io;
	struct ssh *ssh;
	struct sftp_wire wire;
	int64_t heard;                  /* since when a reply is awaited */
	bool kept;                      /* it has served a task */
	bool busy;                      /* the time went into our own work since: the wait begins anew */
};

/* sftp.c: sends what waits, receives what is there or waits for it. 0, or -1 with err; sftp_wire_next may have replies then. */
int sftp_turn(struct conn *, struct run *, struct err *);
/* One request and its reply, while nothing else is under way. 0 with the reply, whatever its status, or -1. */
int sftp_ask(struct conn *, struct run *, enum sftp_op, const void *what, size_t n, struct sftp_reply *, struct err *);
/* "OPENDIR of /in: no such file (status 2: No such file)"; class by the status. Returns -1. */
int sftp_refused(const struct sftp_reply *, const void *path, size_t n, struct err *);

/* sftp_list.c */

struct sftp_place {                     /* what is listed, and what all its events say alike */
	const char *real;               /* the path as the server has it */
	size_t real_n;
	struct conn *conn;
};
/* The directory and what is below it, many requests at once. */
int sftp_list_tree(struct sftp_place *, struct run *, struct err *);
/* One file; attrs are its own. */
int sftp_list_file(struct sftp_place *, struct run *, const struct sftp_attrs *, struct err *);
enum entry_type sftp_mode_type(uint32_t mode);

#endif
