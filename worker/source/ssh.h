/*
 * ssh.h - what the files of the SSH session show one another and sftp.c, grouped by file.
 *
 * ssh_hosts.c, ssh_hello.c and ssh_key.c are pure: they only look at bytes. ssh_session.c and ssh_login.c talk to libssh2.
 */
#ifndef WORKER_SOURCE_SSH_H
#define WORKER_SOURCE_SSH_H

#include <libssh2.h>

#include "worker/worker.h"

/* ssh_hosts.c: known_hosts, as sshd(8) has it */

#define SSH_FINGERPRINT 64              /* "SHA256:" and 43 characters */

struct ssh_host_key { char *type; char *blob; size_t n; bool revoked; bool portless; };

struct ssh_hosts {                      /* the keys that concern one host */
	struct ssh_host_key *v;
	size_t n;
	unsigned malformed;             /* lines that could not be read and were passed over */
	unsigned malformed_line;        /* the first of them */
	bool authority;                 /* a @cert-authority line names the host */
};

enum ssh_verdict { SSH_KNOWN, SSH_UNKNOWN, SSH_CHANGED, SSH_REVOKED };

void ssh_hosts_init(struct ssh_hosts *);
void ssh_hosts_release(struct ssh_hosts *);
/* Adds the keys of host:port; names may be hashed, negated and have wildcards. -1 (PERMANENT): a @revoked line that
 * cannot be read. */
int ssh_hosts_add(struct ssh_hosts *, const char *text, const char *host, uint16_t port, struct err *);
/* "ssh-ed25519 AAAA...", for any host. -1 (PERMANENT) where it is no such thing. */
int ssh_hosts_add_key(struct ssh_hosts *, const char *line, struct err *);
/* Call it once after all was added: entries with the port win over those without. */
void ssh_hosts_settle(struct ssh_hosts *);
enum ssh_verdict ssh_hosts_judge(const struct ssh_hosts *, const void *blob, size_t n);
/* The types of its keys, "ssh-ed25519,ecdsa-sha2-nistp256"; nothing where it is not known. */
/* Is there any that is not revoked? */
bool ssh_hosts_any(const struct ssh_hosts *);
void ssh_hosts_types(const struct ssh_hosts *, struct buf *);
void ssh_fingerprint(const void *blob, size_t n, char out[SSH_FINGERPRINT]);
/* The type that a key's blob begins with; "" where it has none that may be shown. */
void ssh_key_type(const void *blob, size_t n, char out[64]);

/* ssh_hello.c: what the server said before encryption began */

#define SSH_HELLO_MAX 16384
enum ssh_list { SSH_LIST_KEX, SSH_LIST_HOST_KEY, SSH_LIST_CIPHER, SSH_LIST_MAC, SSH_LIST__MAX };

struct ssh_hello { size_t n; uint8_t p[SSH_HELLO_MAX]; };

void ssh_hello_add(struct ssh_hello *, const void *p, size_t n);
/* A list of its KEXINIT (server to client), comma separated; false where there is none. */
bool ssh_hello_list(const struct ssh_hello *, enum ssh_list, const char **, size_t *n);
bool ssh_list_has(const char *list, size_t n, const char *word, size_t word_n);
/* Appends which list has nothing in common with ours, and the remedy; false where all have. */
bool ssh_hello_explain(const struct ssh_hello *, const char *const ours[SSH_LIST__MAX], struct buf *);

/* "ssh-ed25519 AAAA... comment": appends the key's blob; -1 where that is none. */
int ssh_public_read(const char *line, struct buf *blob);

/* ssh_key.c: what kind of private key a text is */

#define SSH_BLOB_MAX 2100       /* of RSA with 16,384 bits */
struct ssh_key { char type[64]; bool encrypted; uint8_t blob[SSH_BLOB_MAX]; size_t blob_n; };  /* blob: the public key; 0 bytes: too long */
/* -1 (AUTH): not a private key that can be used, or the passphrase is missing or wrong. */
int ssh_key_look(const char *text, const char *passphrase, struct ssh_key *, struct err *);
/* public: the line of a .pub file. -1 (AUTH): it is none, or that of another key. */
int ssh_key_is(const struct ssh_key *, const char *public, struct err *);

/* ssh_session.c, ssh_login.c, ssh_error.c: handshake, host key, login, one channel with the subsystem */

struct ssh_io {                         /* the connected stream */
	int fd;                         /* to wait on */
	void *arg;
	ssize_t (*recv)(void *arg, void *p, size_t n);          /* bytes, 0 at the end, or -errno */
	ssize_t (*send)(void *arg, const void *p, size_t n);    /* bytes or -errno */
};

/* Which host key to ask for: a pinned one may be another than the first that the server shows. */
struct ssh_asked { unsigned tried; char shown[512]; };

enum ssh_result { SSH_DONE, SSH_FAILED, SSH_ASK_AGAIN };

struct ssh;
/* Up to the open channel, within deadline_ns. SSH_ASK_AGAIN: not the pinned key, but the server has others: once more on a
 * fresh stream. The stream is the caller's and outlives *out. */
enum ssh_result ssh_open(struct run *, const struct ssh_io *, int64_t deadline_ns, struct ssh_asked *, struct ssh **out,
    struct err *);
void ssh_close(struct ssh *);
/* The task that waits from now on; NULL: none. */
void ssh_use(struct ssh *, struct run *);
const char *ssh_host_fingerprint(const struct ssh *);
const char *ssh_banner(const struct ssh *);
/* Bytes read; 0: none yet; -1: the end (TRUNCATED) or an error. */
ssize_t ssh_read(struct ssh *, void *p, size_t n, struct err *);
/* Of the first n bytes, sends and consumes what it can; n never less than the last time, without what was consumed. */
int ssh_write(struct ssh *, struct buf *, size_t n, struct err *);
/* Something for ssh_read or ssh_write to do, or turns for more requests came: 1; until_ns came: 0; cancelled, or keepalives are not answered: -1. */
int ssh_wait(struct ssh *, int64_t until_ns, struct err *);
/* Everything sent, nothing received that waits, the server still there. */
bool ssh_quiet(struct ssh *);
/* Code of libssh2 to class; one table (ssh_error.c). */
enum err_class ssh_error_class(int code);

#endif
