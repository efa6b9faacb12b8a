/*
 * ftp_conn.h - what the files of the source ftp that talk to a server share; nobody else includes it.
 *
 * ftp.c decides what is asked and when, ftp_control.c asks over one control connection, ftp_lines.c makes entries of what
 * a listing brings.
 */
#ifndef WORKER_SOURCE_FTP_CONN_H
#define WORKER_SOURCE_FTP_CONN_H

#include "worker/source/again.h"
#include "worker/source/curl.h"
#include "worker/source/ftp.h"

#define FTP_CONTROLS CONNECTIONS_MAX /* control connections of one task */
#define FTP_BATCH 16            /* entries asked about in one go */
#define FTP_ASKS (FTP_BATCH * 4 + 4)
#define FTP_FLIGHT 6            /* commands that a lane sends at once */

enum ftp_step { FTP_IDLE, FTP_HELLO, FTP_LISTING, FTP_ASKING };
enum ftp_about { FTP_ABOUT_NONE, FTP_ABOUT_ZONE, FTP_ABOUT_ENTRIES, FTP_ABOUT_ROOT };

struct ftp_found {              /* what single commands told of one name */
	int64_t size;           /* -1: nothing */
	int64_t mtime_ns;       /* TIME_UNKNOWN */
	char modify[36];
	bool dir;
	char *pwd;              /* owned */
};

enum ftp_ask_kind { FTP_ASK_OTHER, FTP_ASK_SIZE, FTP_ASK_MDTM, FTP_ASK_CWD, FTP_ASK_PWD };
struct ftp_ask { enum ftp_ask_kind kind; unsigned k; };

struct ftp_slot { struct buf line; struct ftp_entry en; };

enum ftp_lane_at { FTP_LANE_OUT, FTP_LANE_FLIGHT, FTP_LANE_CONNECT, FTP_LANE_LIST };

struct ftp_lane {               /* a listing without libcurl: ftp_lane.c */
	enum ftp_lane_at at;
	int control, data;      /* sockets; -1 none */
	struct buf out;         /* commands that are not sent yet, from out_at on */
	size_t out_at;
	struct buf in;          /* of the control connection: less than a line */
	size_t reply_bytes;     /* of the reply that comes */
	struct ftp_reply reply;
	char due[FTP_FLIGHT][8]; /* verbs of the commands whose replies are to come */
	unsigned n_due, due_at;
	uint16_t port;          /* of the data connection */
	bool refused;           /* CWD was; its reply is kept */
	bool begun, ended, eof; /* the listing: 1xx came, its last reply came, its data ended */
	bool spoilt;            /* replies came that nothing had asked for */
	bool cr;                /* the data ended with a CR so far */
	bool odd;               /* the server does not go along: libcurl is to do it */
};

struct ftp_control {            /* one control connection: one easy handle for its whole life */
	struct transfer t;      /* first */
	struct conn *c;
	enum ftp_step step;
	struct tree_dir *dir;   /* being listed; NULL: none */
	bool setup;             /* the OPTS of this server were sent on this connection, or go with this transfer */
	bool setup_goes;        /* they go with this transfer */
	bool asks_hello;        /* this transfer asks for system and features */
	bool entered;           /* this task has logged in on it ahead of a listing */
	bool logged_in;         /* this transfer had to log in */
	bool typed;             /* a lane has set type A on this connection */
	bool strayed;           /* a lane has led the server to another directory than libcurl believes */
	struct ftp_lane lane;

	/* the dialogue */
	struct curl_slist *quote;
	struct ftp_ask asks[FTP_ASKS];  /* one for each of quote */
	size_t n_asks, next_ask;
	int ask_now;            /* the one whose reply is due; -1 none */
	char verb[8];           /* of the last command; "": the greeting is due */
	struct ftp_reply reply; /* the last one; code 0: none since the command */
	int64_t asked_ns;       /* run_clock, when the command was sent */
	bool told_end;          /* TLS told the end of what it carried (close_notify) */
	bool leaving;           /* QUIT was sent: what follows is of no use */

	/* the listing */
	struct buf line;        /* one that has not ended */
	struct ftp_slot slot[2];
	unsigned held;          /* slot that waits for the line after it; 2: none */
	uint64_t lines;
	struct again repeats;
	enum ftp_format format;
	struct buf deferred;    /* lines that wait for the zone */
	bool deferring, overflow;
	struct buf pending;     /* lines whose entries are to be asked about */
	size_t pending_at;      /* those before it are done */
	enum ftp_about about;
	struct ftp_found found[FTP_BATCH];
	unsigned batch;         /* of found */
	bool stop;              /* max_files */
	bool again;             /* the directory must be read anew */
	struct err why;         /* set by a callback; ERR_OK: none */
};

struct conn {
	struct run *run;
	struct curl_session *session;
	bool fresh;             /* opened for this very task */
	char url[320];          /* "ftp://host:21/" */
	enum ftp_encoding encoding;
	struct ftp_control *ctl[FTP_CONTROLS];
	unsigned limit;         /* controls that may be */
	unsigned allowed;       /* controls that may be now: it grows as directories come */
	unsigned used;          /* controls that this task, or the last one, had use for */
	unsigned cap;           /* the most that the server let in; FTP_CONTROLS while it refused none */
	bool proved;            /* a listing came whole: the command is right */
	int64_t rtt_ns;         /* the least that a command has waited for its reply; 0: not known */
	bool lane_off;          /* a lane did not work with this server */
	bool lane_proved;       /* it did */
	bool pasv;              /* EPSV was refused */

	/* what the server told */
	bool greeted;           /* it was asked */
	bool has_feat, has_mlst, has_utf8;
	char mlst_facts[200];   /* what OPTS MLST should say; "": nothing to say */
	char system[100];
	char tls_version[24], tls_cipher[64];
	char *home;             /* directory where the login ended; NULL unknown */

	/* the task */
	bool mlsd;
	bool hidden;            /* LIST -a */
	bool hidden_asked;      /* by the job, so that there is no other way */
	bool zone_wanted;
	int64_t east;           /* seconds that LIST's times are ahead of UTC */
	struct tree *tree;
	char *root;             /* the path, as in records */
	struct buf name, target, path, url_text; /* scratch */
};

/* ftp_control.c */

struct ftp_control *ftp_control_new(struct conn *);
void ftp_control_free(struct ftp_control *);
/* Forgets what a listing left. */
void ftp_control_clear(struct ftp_control *);
/* Asks for system and features. */
int ftp_hello(struct ftp_control *, struct err *);
/* One more line of a reply to ctl->verb, and what it tells of the server. True: the reply is whole. */
bool ftp_told_line(struct ftp_control *, const char *p, size_t n);
/* Connects and logs in, no more. */
int ftp_log_in(struct ftp_control *, struct err *);
/* The k-th option (OPTS) that this server is to be given, as a command. False: there is none. */
bool ftp_setup(const struct conn *, unsigned k, char *text, size_t n);
/* Is it to be logged in on before it lists its next directory? ftp_list_start does. */
bool ftp_logs_in_first(const struct ftp_control *);
/* Lists ctl->dir. 0, 1: its name cannot be sent (the reason in e), -1. */
int ftp_list_start(struct ftp_control *, struct err *);
/* Begins a set of commands about names; add what is to be asked, then start it. dir: bytes where the server is left. */
void ftp_ask_begin(struct ftp_control *);
/* path: bytes; NULL for a command alone. optional: a negative answer is an answer. */
void ftp_ask(struct ftp_control *, enum ftp_ask_kind, unsigned k, const char *verb, const char *path, size_t n);
int ftp_ask_start(struct ftp_control *, enum ftp_about, const char *dir, size_t n, struct err *);
/* Did a reply of the server, not the network, end this transfer? */
bool ftp_replied(const struct ftp_control *, CURLcode);
/* The error of a transfer: by the reply where there was one. Returns -1. below: the path is not the job's own. */
int ftp_error(const struct ftp_control *, CURLcode, bool below, struct err *);
/* The bytes that name a path of a record at the server, in c->path. -1: the charset lacks a character. */
int ftp_bytes(struct conn *, const char *path, size_t n);
const char *ftp_list_verb(const struct conn *);

/* ftp_lane.c */

/* May listings of this task go by a lane? */
bool ftp_lane_may(const struct ftp_control *);
/* Can the next one? True: the connection is the lane's, and it must be started. */
bool ftp_lane_ready(struct ftp_control *);
/* Asks for system and features, as ftp_hello. Where it has ended with lane.odd, libcurl is to ask. */
int ftp_lane_hello(struct ftp_control *, struct err *);
/* Lists ctl->dir, whose bytes are in c->path, as ftp_list_start. Where it has ended with lane.odd, libcurl is to list it. */
int ftp_lane_start(struct ftp_control *, struct err *);

/* ftp_lines.c */

/* More bytes of a listing. 0, or -1 with ctl->why (or ctl->stop). */
int ftp_lines_feed(struct ftp_control *, const char *p, size_t n);
/* The listing has ended: nothing may be left over. Likewise. */
int ftp_lines_end(struct ftp_control *);
/* The zone is known, or will not be: takes what waited for it. */
int ftp_lines_deferred(struct ftp_control *);
/* Asks about the next entries of pending; 1 asked, 0 none is left, -1 with err. */
int ftp_lines_ask(struct ftp_control *, struct err *);
/* The answers are in found. 0 or -1 with ctl->why (or ctl->stop). */
int ftp_lines_answered(struct ftp_control *);
/* Asks MDTM of files whose times are known to the minute: 1 asked, 0 there is none, -1 with err. */
int ftp_lines_ask_zone(struct ftp_control *, struct err *);
/* What the answers say of the zone. */
void ftp_lines_zone(struct ftp_control *);
/* The job's path is one file: found[0] tells of it. 0 or -1 with err. */
int ftp_lines_single(struct ftp_control *, struct err *);

#endif
