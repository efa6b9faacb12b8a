/*
 * control_priv.h - what control.c hands to the verbs of control_verbs.c; nobody else includes it.
 */
#ifndef MASTER_CONTROL_PRIV_H
#define MASTER_CONTROL_PRIV_H

#include <sysexits.h>

#include "master/master.h"

#define CONTROL_LINE_MAX 4096
#define CONTROL_WORDS_MAX 8
#define CONTROL_JOBS_MAX 1000
#define CONTROL_LATER (-1)              /* instead of a status: control_answer brings it */

struct control_request {
	struct master *m;
	uid_t uid;                      /* of the peer */
	pid_t pid;
	const char *word[CONTROL_WORDS_MAX + 1]; /* the verb first; NULL-ended */
	size_t n;
	struct control_seat seat;       /* where an answer that is CONTROL_LATER goes */
};

/* Status of an answer: 0, or a code of sysexits(3), which iis-pollerctl exits with. */
#define CONTROL(id, verb, args, level, help) int control_##id(const struct control_request *, struct buf *out);
#include "master/control.def"

/* Replaces the body by {"error": text}; returns status. */
int control_fail(struct buf *out, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The answer that was to come later; a peer that is gone needs none. Borrows the body. */
void control_answer(struct control *, struct control_seat, int status, const struct buf *body);

#endif
