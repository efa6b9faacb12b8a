/*
 * again.c - see again.h. Called by sftp_list.c for names and by ftp_lines.c for lines; other types have page tokens to look at.
 *
 * The first pieces are kept as they are: 64, or 2 KiB of them. No directory holds a name twice; one that changes while it is
 * read may show a name again, but not that many in a row. And nobody who may upload can bring it about: SFTP tells names
 * apart whatever is in them, and a name that forges lines of FTP has not room for so many.
 */
#include <string.h>

#include "worker/source/again.h"
#include "common/banned.h"

static const char *
piece(const struct again *a, unsigned i)
{
	size_t at = 0;

	while (i--)
		at += a->len[i];
	return a->text + at;
}

static bool
keep(struct again *a, const char *p, size_t n)
{
	if (a->n == AGAIN_PIECES || n > (size_t)(AGAIN_BYTES - a->used))
		return false;
	memcpy(a->text + a->used, p, n);
	a->used = (uint16_t)(a->used + n);
	a->len[a->n++] = (uint16_t)n;
	return true;
}

static bool
is(const struct again *a, unsigned i, const char *p, size_t n)
{
	return a->len[i] == n && !memcmp(piece(a, i), p, n);
}

bool
again_begins(struct again *a, const char *p, size_t n)
{
	if (!a->full && keep(a, p, n))
		return false;
	a->full = true;
	/* one piece that is longer than the room says nothing */
	if (!a->n)
		return false;
	if (is(a, a->at, p, n))
		a->at++;
	else
		a->at = is(a, 0, p, n);
	if (a->at < a->n)
		return false;
	a->at = 0;
	return true;
}
