/*
 * record.h - one file of a listing as it travels from worker to master, many to a FILES frame.
 *
 * Encoding is by the typed writers of buf.h. The decoder trusts nothing: every bound below is checked, the
 * flags must agree with the bytes, attribute numbers must be ones of sources.def for that source type.
 */
#ifndef COMMON_RECORD_H
#define COMMON_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/cursor.h"
#include "common/job.h"

#define RECORD_PATH_MAX 16384     /* bytes of a path */
#define RECORD_ATTR_MAX 40        /* attributes of source{} */
#define RECORD_ATTR_BYTES 4096    /* bytes of one attribute's text */
#define RECORD_MAX 60000          /* bytes of one encoded record: fits a frame */

enum mtime_precision { MTIME_NONE, MTIME_NS, MTIME_S, MTIME_MIN, MTIME_DAY, MTIME__MAX };

struct record_attr {              /* one member of source{}; the id is from sources.def ATTR rows */
	uint16_t id;
	bool is_int;
	int64_t i;
	const char *s;                /* borrowed; bytes, may be ill-formed UTF-8 */
	size_t n;
};

/* A directory has no size and no checksum; a link that is reported as itself neither, and is_symlink. */
struct record {                   /* all pointers are borrowed from the frame (decode) or from the source (encode) */
	const char *path;             /* the whole path at the source, 1..RECORD_PATH_MAX bytes, no NUL */
	size_t path_n;
	size_t rel_off;               /* where the part relative to the source's root begins; < path_n */
	enum file_kind kind;          /* FILE_PLAIN with is_symlink: a file that a link led to */
	int64_t size;                 /* -1 unknown */
	int64_t mtime_ns;             /* TIME_UNKNOWN */
	enum mtime_precision precision; /* MTIME_NONE exactly where mtime is unknown */
	bool is_symlink;
	bool utf8;                    /* path is well-formed UTF-8; the encoder sets it, the decoder checks it */
	const char *link_target;      /* NULL where none */
	size_t link_target_n;
	const char *version;          /* etag or version id, for event_id; NULL: mtime and size serve */
	size_t version_n;
	const char *checksum;         /* NULL: none; visible ASCII */
	size_t checksum_n;
	char checksum_algorithm[16];  /* "", "etag", "md5", "sha256", "crc32" */
	char checksum_origin[8];      /* "", "etag", "server", "local" */
	size_t n_attrs;
	struct record_attr attrs[RECORD_ATTR_MAX]; /* the first n_attrs; the rest is not written to, not even by record_init */
};

void record_init(struct record *);
/* Appends the encoded record; -1 (ERR_LIMIT) and nothing appended where a bound is broken. */
int record_encode(struct record *, struct buf *, struct err *);
/* Reads one record of a FILES payload; 0, or -1 with the rule that it breaks (ERR_WORKER_PROTOCOL). */
int record_decode(struct record *, struct cursor *, enum source_type, struct err *);

#endif
