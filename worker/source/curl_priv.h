/*
 * curl_priv.h - what curl.c and the files curl_*.c share of a session; no source includes it.
 */
#ifndef WORKER_SOURCE_CURL_PRIV_H
#define WORKER_SOURCE_CURL_PRIV_H

#include "worker/source/curl.h"

enum curl_expiry { EXPIRY_NONE, EXPIRY_RESPONSE, EXPIRY_IDLE, EXPIRY_DATA };

struct curl_handle {                /* one easy handle */
	struct curl_handle *next;
	struct curl_session *session;
	CURL *easy;
	struct transfer *t;         /* under way; NULL: not */
	bool out;                   /* a source has it; else it waits in the pool */
	bool queued;                /* under way for its source, but its turn has not come (pace.c) */
	struct curl_handle *next_queued;
	bool in_multi;
	bool in_lane;               /* under way without libcurl: its transfer's lane */
	bool ready;                 /* a lane that has something to do */
	unsigned requests;          /* that it sent, of HTTP */
	bool aimed;                 /* it has a URL, and by that: */
	bool proxied;               /* it goes through the proxy */
	bool renamed;               /* to the endpoint, under tls.server_name */
	bool tls;
	char host[256];             /* "": the endpoint's */
	bool keep;                  /* stays in the multi handle when it has ended: its socket is in use */
	bool refused;               /* it did not get the last socket it wanted: the policy's word, or the connector's */
	enum err_class refusal_cls;
	char refusal[256];
	struct sockaddr_storage tried; /* where its last socket was to lead; family 0: none was opened */
	bool waiting;               /* something was asked and nothing came since */
	bool connecting;            /* a lane: what it waits for is its data connection */
	bool received;              /* a lane: of what was asked for something came */
	int64_t asked, heard;       /* by the session's clock; -1: never */
	enum curl_expiry expiry;    /* which of our own timeouts ended it */
};

struct curl_socket {                /* one open socket of a session */
	int fd;
	const struct curl_handle *owner; /* who had it opened; NULL: is gone */
	bool data;                  /* a data connection of FTP */
	bool kept;                  /* from the task before, and not used by this one */
	bool lent;                  /* a lane speaks over it: libcurl must not close it */
	bool orphan;                /* libcurl would have closed it: ours alone now */
	bool broken;                /* not to be lent any more */
};

struct curl_limits { int64_t connect_ms, response_ms, idle_ms; };
const struct curl_limits *curl_session_limits(const struct curl_session *);

/* curl_route.c: which way a request goes, and under which name */

struct proxy { char *url; char host[256]; uint16_t port; };  /* url NULL: none */
/* Reads proxy.url, "" for none, over what was there. 0, or -1 (PERMANENT). */
int route_proxy(struct proxy *, const char *url, struct err *);
/* proxy.no_proxy: is the target reached without the proxy? By its name, or since all its addresses lie in one network. */
bool route_passes_by(const struct strlist *no_proxy, const struct net_target *);
/* Host, without brackets, and port of a URL of our own making: it has no user, and the scheme's port where none is written. */
void route_place(const char *url, char host[256], uint16_t *port);
/* The URL with another host; the port is written. */
void route_rename(const char *url, const char *host, uint16_t port, struct buf *out);

struct curl_session {
	struct run *run;
	CURLM *multi;
	char *schemes, *host;
	uint16_t port;
	unsigned connections;
	struct curl_handle *handles;
	unsigned active, pooled;
	struct curl_socket *socket;     /* open ones */
	unsigned sockets, sockets_room;
	unsigned going;                 /* of the active ones, those that have begun; the others wait for their turn */
	struct curl_waitfd *waits;      /* room for what the lanes wait for */
	unsigned waits_room;
	struct curl_handle *queue, **queue_end;
	bool running;
	struct strlist hosts;           /* "host:port" of what was resolved for this run */
	struct strlist direct;          /* those of them that are reached without the proxy */
	struct curl_slist *resolve, *connect_to;
	struct curl_slist *renamed;     /* connect_to of handles that go to the endpoint under tls.server_name */
	bool literals;                  /* libcurl may "resolve" addresses: those it was given itself */
	struct proxy proxy;             /* url NULL: none */
	struct net_target target;       /* of the endpoint */
	int64_t cert_expires;           /* its certificate's end, as task.h has it; 0: none was shown */
	bool peer_told;
	struct curl_limits limits;
	int64_t clock, turned_ns;       /* clock: ns this session has watched its transfers for */
};

/* curl_cert.c: when certificates end; into the run's account */

/* A further task begins, on what is kept. */
void curl_cert_kept(struct curl_session *);
/* The handle's transfer has ended. */
void curl_cert_look(struct curl_session *, const struct curl_handle *);

/* curl_turns.c: which transfers have begun */

#define TURN_NS INT64_C(1000000000)     /* one turn of the loop waits no longer */

/* The handle's transfer waits for its turn. */
void curl_turns_wait(struct curl_handle *);
/* It begins now. 0, or -1 with err. */
int curl_turns_begin(struct curl_handle *, struct err *);
/* Whose turn has come begins, as far as there are connections. *next: ns until the next one's turn comes. 0, or -1 with err. */
int curl_turns_give(struct curl_session *, int64_t *next, struct err *);
/* It waits no more, or is no more under way. */
void curl_turns_leave(struct curl_handle *);

/* curl_loop.c */

/* Until none is under way, or one, if it is not NULL, has ended; RUN_STOP or -1 as curl_session_run. What is under way stays. */
int curl_loop_run(struct curl_session *, const struct curl_handle *one, struct err *);

/* curl_socket.c: the sockets of a session, libcurl's and the lanes' */

/* CURLOPT_OPENSOCKETFUNCTION with the handle, CURLOPT_CLOSESOCKETFUNCTION with the session. */
curl_socket_t curl_open_socket(void *handle, curlsocktype, struct curl_sockaddr *);
int curl_close_socket(void *session, curl_socket_t);
/* The handle begins a transfer of libcurl's, or ends: a socket that libcurl has given up is closed. */
void curl_sockets_release(struct curl_session *, const struct curl_handle *);
/* Before libcurl goes on: what a lane broke off must look as dead to it as it is. */
void curl_sockets_drain(const struct curl_session *, const struct curl_handle *);
/* All that are open are of the task before. */
void curl_sockets_keep(struct curl_session *);
/* A transfer has ended that opened none: the kept one that it went over has served. */
void curl_sockets_served(struct curl_session *, int fd);
/* The handle is freed; its sockets stay for libcurl to close. */
void curl_sockets_disown(struct curl_session *, const struct curl_handle *);

#endif
