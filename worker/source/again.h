/*
 * again.h - a listing that begins anew and anew: a server that sends the same names for ever is told from a large directory.
 */
#ifndef WORKER_SOURCE_AGAIN_H
#define WORKER_SOURCE_AGAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGAIN_PIECES 64
#define AGAIN_BYTES 2048

struct again {                  /* of one directory; all zero at its start */
	unsigned n;             /* pieces kept: the first ones, as far as there is room */
	unsigned at;            /* so many of them came once more, the last of them just now */
	bool full;
	uint16_t used, len[AGAIN_PIECES];
	char text[AGAIN_BYTES];
};

/* The next name, or line, of the directory. True: the first ones have come a second time, one after the other as before. */
bool again_begins(struct again *, const char *p, size_t n);

#endif
