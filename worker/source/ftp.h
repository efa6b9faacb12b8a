/*
 * ftp.h - the pure parts of the source ftp: lines of listings, replies, charsets. No sockets, no libcurl.
 *
 * ftp.c calls them; the units and the fuzz targets do so without a server. All input is foreign; all that is given back
 * points into it.
 */
#ifndef WORKER_SOURCE_FTP_H
#define WORKER_SOURCE_FTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/record.h"
#include "common/source_ftp.h"

enum ftp_type { FTP_FILE, FTP_DIR, FTP_LINK, FTP_OTHER };
enum ftp_format { FTP_ANY, FTP_UNIX, FTP_DOS };     /* in the order of the field list_format */

struct ftp_text { const char *p; size_t n; };       /* borrowed; p NULL: not said */

struct ftp_entry {
	enum ftp_type type;
	struct ftp_text name, target;
	int64_t size;                   /* -1 unknown */
	int64_t mtime_ns;               /* TIME_UNKNOWN; by the server's clock unless utc */
	enum mtime_precision precision;
	bool utc;
	bool yearless;                  /* the year is a guess from now */
	struct ftp_text permissions;    /* "rw-r--r--" */
	int mode;                       /* -1 unknown */
	struct ftp_text owner, group, uid, gid;
	struct ftp_text unique, perm, modify, kind;     /* facts of MLSD as they came */
};

/* What a line is. */
enum ftp_line {
	FTP_LINE_ENTRY,
	FTP_LINE_NAMELESS,      /* an entry but for its name: that begins with a line break */
	FTP_LINE_PASS,          /* no entry and right so: "total 12", ".", "..", cdir, pdir */
	FTP_LINE_BAD,           /* has the look of an entry, but is none: *why */
	FTP_LINE_ALIEN          /* nothing a listing has: the rest of a name with a line break, or not a listing at all */
};

/*
 * One line of LIST, without its line end. fmt: what the listing has turned out to be; FTP_ANY becomes what the first entry
 * is. first: no line came before. now_ns: where years are missing, the latest that is not after tomorrow is meant.
 */
enum ftp_line ftp_list_line(const char *p, size_t n, bool first, int64_t now_ns, enum ftp_format *fmt,
    struct ftp_entry *, const char **why);
/* One line of MLSD or MLST (there without its leading space): RFC 3659 section 7. */
enum ftp_line ftp_mlsd_line(const char *p, size_t n, struct ftp_entry *, const char **why);
/* YYYYMMDDHHMMSS[.f...]: a time-val of RFC 3659 section 2.3. As ftp_civil_ns. */
int ftp_time_val(const char *p, size_t n, int64_t *ns);
/* Civil time to ns since the epoch. 0; 1 and TIME_UNKNOWN where a 64-bit number cannot say it; -1: there is no such time. */
int ftp_civil_ns(int year, int month, int day, int hour, int minute, int second, int64_t *ns);

/* ftp_reply.c */

#define FTP_TEXT 400            /* bytes of a reply that are kept */

struct ftp_reply {              /* zeroed before the first line */
	unsigned code;          /* 0: not whole yet */
	unsigned multi;         /* code of the reply that goes on in further lines; 0: none */
	char text[FTP_TEXT];    /* of all lines */
};

/* One more line, with or without its end: RFC 959 section 4.2. True: the reply is whole; the next line begins another one. */
bool ftp_reply_line(struct ftp_reply *, const char *p, size_t n);
/* The port in the text of 229 (RFC 2428 section 3) or 227 (RFC 959 section 4.1.2), whose address nobody reads. 0 or -1. */
int ftp_epsv_port(const char *text, uint16_t *port);
int ftp_pasv_port(const char *text, uint16_t *port);

enum ftp_phase { FTP_LOGIN, FTP_PATH, FTP_DATA, FTP_PHASE__MAX };  /* which commands: identity and TLS; paths; listings and their data */

/* The phase a command belongs to, by its verb. */
enum ftp_phase ftp_verb_phase(const char *verb);
/* What a negative reply means for the task; never OK. *what: the table's words. */
enum err_class ftp_reply_class(enum ftp_phase, unsigned code, const char *text, const char **what);
/* A reply that says that this server does not have the command. */
bool ftp_reply_unknown_command(unsigned code);
/* LIST of an empty directory, as some servers say it. */
bool ftp_reply_no_files(unsigned code, const char *text);
/* The final reply was good, but its text says that something is missing: "226 Output truncated ...". */
bool ftp_reply_cut(const char *text);
/* "226 5 matches total": how many lines the server says it sent; -1: it did not say. */
int64_t ftp_reply_matches(const char *text);

/* ftp_text.c */

enum ftp_encoding { FTP_UTF8, FTP_LATIN1, FTP_CP1252 };   /* in the order of the field encoding */

/* Bytes of the server to those of records; UTF-8 is passed as it is. */
void ftp_decode(struct buf *, enum ftp_encoding, const char *p, size_t n);
/* And back, for commands. -1: p has a character that the charset lacks. */
int ftp_encode(struct buf *, enum ftp_encoding, const char *p, size_t n);
/* Can a command carry it? CR, LF and NUL end a command. */
bool ftp_sendable(const char *p, size_t n);
/* The line ends of a listing in type A to LF, in place, as libcurl makes them: CR LF is one, a lone CR is one. cr: what the bytes
 * before ended with; false at first. Returns the bytes left. */
size_t ftp_line_ends(char *p, size_t n, bool *cr);
/* For a URL: everything but letters, digits, '-', '.', '_', '~' and '/' as %XX. */
void ftp_url_path(struct buf *, const char *p, size_t n);

#endif
