/*
 * ssh_priv.h - what ssh_session.c, ssh_login.c and ssh_error.c share; nobody else includes it.
 */
#ifndef WORKER_SOURCE_SSH_PRIV_H
#define WORKER_SOURCE_SSH_PRIV_H

#include "worker/source/ssh.h"

struct ssh {
	LIBSSH2_SESSION *session;
	LIBSSH2_CHANNEL *channel;
	const struct ssh_io *io;
	struct run *run;
	int64_t deadline;               /* of the opening; 0 after it */
	bool dead;                      /* nothing goes over the stream any more */
	bool end;                       /* the server closed the channel */
	bool lost;                      /* the stream ended or broke */
	int reason;                     /* of the server's DISCONNECT, with its words; 0: none came */
	char farewell[160];
	size_t unsent;                  /* so many bytes libssh2 must be given again before anything else is sent */
	bool read_again;                /* reading wants to send: it goes first */
	int64_t heard, asked;           /* when bytes came last; when a keepalive went last */
	unsigned unanswered;
	unsigned questions;
	const char *user, *password;    /* during the login */
	const char *key, *passphrase;
	char *methods;                  /* what the server takes; libssh2's */
	char key_type[64];
	char peer[320];
	char fingerprint[SSH_FINGERPRINT];
	char banner[256];
	char offered[4][1024];          /* what was asked for, in the order of enum ssh_list */
	struct ssh_hello hello;
};

enum { STEP_ERROR = 1 };        /* beside libssh2's codes, which are not positive: err is set */

/* ssh_session.c: calls the step until it has ended, within the deadline of the opening; libssh2's code or STEP_ERROR */
int ssh_drive(struct ssh *, int (*step)(struct ssh *), const char *doing, struct err *);
/* libssh2's memory, for what it frees itself; cleared when it does */
void *ssh_take_memory(size_t n, void **abstract);

/* ssh_error.c: class and words of a code of libssh2; returns -1 */
int ssh_fail(struct ssh *, int code, const char *doing, struct err *);
const char *ssh_error_text(int code);

/* ssh_login.c: 0, or -1 with err */
int ssh_login(struct ssh *, struct err *);

#endif
