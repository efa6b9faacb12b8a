/*
 * secret.h - the secrets of one task: loaded, lent to the JOB frame, wiped. See secret.c.
 */
#ifndef MASTER_SECRET_H
#define MASTER_SECRET_H

#include "common/config.h"
#include "common/err.h"
#include "common/job.h"

#define SECRETS_MAX 48

struct secrets {
	size_t n;
	struct { int id; struct field_value v; } got[SECRETS_MAX];
};

/* credentials.dir, else systemd's, else /etc/iis-poller/credentials.d */
const char *secret_dir(const struct config *);
/* All that the source names. 0, or -1: AUTH (missing, open to others, not what the field takes), POLICY; nothing is held then. */
int secrets_load(const struct config *, const char *org_id, const struct source_conf *, struct secrets *, struct err *);
/* Into a shallow copy of the source, which must not be released and ends before secrets_wipe. */
void secrets_lend(const struct secrets *, struct source_conf *);
void secrets_wipe(struct secrets *);

/* A file below credentials.file_roots, closed to others, into b (the caller wipes). 0 or -1: AUTH, POLICY. */
int secret_file_read(const struct config *, const char *path, struct buf *b, struct err *);

/* profile.c */
struct profile { char *access_key_id, *secret_access_key, *session_token; }; /* owned; the token may be NULL */
/* The section of a shared credentials file. 0, or -1 (AUTH) with the line and never its text; wiped by the caller in both cases. */
int profile_read(const char *text, size_t n, const char *name, struct profile *, struct err *);
void profile_wipe(struct profile *);

#endif
