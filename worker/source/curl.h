/*
 * curl.h - the libcurl session that s3, http and ftp share: one endpoint, its secrets, a few connections.
 *
 * Every easy handle comes from here, with what holds for all: no other protocol than asked for, no environment, no netrc,
 * no signals, no resolver of libcurl's own (net_resolve's addresses are given to it), every socket checked against the
 * egress policy at connect time, TLS and proxy as the job says, timeouts. sftp uses connect_only for its socket, so that
 * proxies and the policy are the same there.
 */
#ifndef WORKER_SOURCE_CURL_H
#define WORKER_SOURCE_CURL_H

#include <curl/curl.h>

#include "worker/worker.h"

struct curl_session;

/*
 * schemes: "http,https" or "ftp,ftps" or "http" (connect_only). host, port: the endpoint; resolved and checked here
 * (more hosts, for redirects, by curl_session_host). connections: at most so many are open at once, kept ones too. NULL with err.
 */
struct curl_session *curl_session_new(struct run *, const char *schemes, const char *host, uint16_t port,
    unsigned connections, struct err *);
void curl_session_free(struct curl_session *);
/* For the next task: its run, which must be told before anything else, and its number of connections, not less than are open;
 * resolves again. 0 or -1. */
int curl_session_use(struct curl_session *, struct run *, struct err *);
/* Resolves and checks another host (a redirect's), so that handles may go there. 0 or -1 (POLICY, NOT_FOUND ...). */
int curl_session_host(struct curl_session *, const char *host, uint16_t port, struct err *);
/* Sockets open now; beside them the session itself holds two descriptors (libcurl's wake-up pair). */
unsigned curl_session_connections(const struct curl_session *);

struct transfer;

/*
 * A transfer without libcurl: a source that speaks itself over the connection that an easy handle left (curl_session_lend).
 * Its turn, its timeouts and its end are those of every transfer.
 */
struct lane {
	/* Does what can be done without waiting. False: watch says what it waits for; true: it has ended, with *code. */
	bool (*work)(struct transfer *, CURLcode *code);
	/* It is taken out before its end: its sockets go back. */
	void (*drop)(struct transfer *);
};
#define LANE_SOCKETS 2

struct transfer {                   /* one request under way; the source's own struct begins with it */
	CURL *easy;                 /* from curl_session_easy; given back by curl_session_recycle */
	/* Called once from curl_session_run when it has ended. 0 go on, 1 (RUN_STOP) end the whole run, -1 with err. It may add transfers. */
	int (*ended)(struct transfer *, CURLcode, struct err *);
	/* Sees what goes and comes (CURLOPT_DEBUGFUNCTION): commands, headers, libcurl's words. May hold secrets. NULL: nobody does. */
	void (*told)(struct transfer *, curl_infotype, const char *p, size_t n);
	const struct lane *lane;    /* NULL: libcurl's */
	struct curl_waitfd watch[LANE_SOCKETS]; /* a lane's: fd -1 none; CURL_WAIT_POLLIN, _POLLOUT; revents: what came */
	int64_t patience_ms;        /* a lane's own response timeout, if it is less; 0: none */
	void *arg;
	bool aside;                 /* it goes to another server than the source's: whom it reached is not told as the peer */
	char error[CURL_ERROR_SIZE];
	struct curl_handle *handle; /* curl.c's own, from curl_session_start until the easy handle is recycled */
};
/* A handle with every common option set and nothing of its last request left. */
CURL *curl_session_easy(struct curl_session *);
void curl_session_recycle(struct curl_session *, CURL *);
/*
 * Where it goes, before it is started: CURLOPT_URL, of a host that the session was told; through the proxy or directly. tls: it
 * speaks TLS. True: with the endpoint, under tls.server_name; a request that names its host must do so by a header then.
 */
bool curl_session_aim(struct curl_session *, CURL *, const char *url, bool tls);
/* Starts it: CURLOPT_PRIVATE, ERRORBUFFER are set here. Of more than `connections` the rest waits for its turn, and
 * all wait for the one that the task's rate gives them. */
int curl_session_start(struct curl_session *, struct transfer *, struct err *);
/* Transfers under way. */
unsigned curl_session_active(const struct curl_session *);
/*
 * Runs until none is under way, one's ended said so, or the task is cancelled. All that is still under way is then taken
 * out (its easy handle must be recycled by its owner). 0, RUN_STOP or -1 with err.
 */
int curl_session_run(struct curl_session *, struct err *);
/* The last socket that the transfer wanted was refused, by policy or the connector. */
bool curl_session_refused(const struct transfer *);
/* What a CURLcode means: one table with its manual (curl_error.c); what: "GET http://...", never with secrets. Before the
 * easy handle is recycled. Returns -1. */
int curl_session_error(const struct transfer *, CURLcode, const char *what, struct err *);
/* A connected socket to the session's endpoint, through the proxy if any; libcurl keeps owning it (with its easy handle). -1 with err. */
int curl_session_socket(struct curl_session *, CURL **owner, struct err *);


/* curl_socket.c: for lanes, from work and drop alone but for curl_session_lend */

/* The easy handle has an open connection of FTP left. */
bool curl_session_has(const struct curl_session *, const struct transfer *);
/* The idle control connection that the transfer's easy handle left behind, direct and in clear; -1: there is none, or
 * something came over it that nobody asked for. It is the lane's until curl_session_lend_over. */
int curl_session_lend(struct curl_session *, const struct transfer *);
/* whole: nothing is under way on it, libcurl may go on. Otherwise it is cut. */
void curl_session_lend_over(struct curl_session *, int fd, bool whole);
/* What libcurl has given up and was kept for this transfer's lane alone is closed: it is not begun again. */
void curl_session_release(const struct transfer *);
/* A socket to the host that control is connected to, checked like any; *connected, or it will be writable then. -1: none
 * (curl_session_refused, else errno). Closed by curl_session_close. */
int curl_session_data_socket(const struct transfer *, int control, uint16_t port, bool *connected);
void curl_session_close(struct curl_session *, int fd);
/* The timeouts begin: something was sent, or a connection is being made (under connect_timeout). */
void curl_session_asked(const struct transfer *, bool connecting);
/* Something came; content: of what was asked for. */
void curl_session_heard(const struct transfer *, bool content);

#endif
