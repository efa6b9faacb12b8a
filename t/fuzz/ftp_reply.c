/*
 * ftp_reply.c - fuzz target: any bytes as the replies of an FTP server and as a listing's line ends.
 *
 * A reply that is whole has a code of three digits and a bounded text; ports are ports; line ends are the same however the
 * bytes are cut.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "worker/source/ftp.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
check_reply(const struct ftp_reply *r)
{
	enum ftp_phase phase = (enum ftp_phase)(r->code % FTP_PHASE__MAX);
	const char *what = NULL;
	uint16_t port = 1;

	if (!r->code || r->code > 999 || r->multi || !memchr(r->text, '\0', sizeof(r->text)))
		BUG("a whole reply that is none");
	if ((!ftp_epsv_port(r->text, &port) && !port) || (!ftp_pasv_port(r->text, &port) && !port))
		BUG("a port that is none");
	if (r->code >= 400 && (ftp_reply_class(phase, r->code, r->text, &what) == ERR_OK || !what))
		BUG("a negative reply without a meaning");
}

static void
check_lines(const char *from, size_t n)
{
	struct ftp_reply r = { .code = 0 };
	const char *p = from, *end = from + n;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)(nl ? nl + 1 - p : end - p);
		char *line = memcpy(xmalloc(len), p, len);

		if (ftp_reply_line(&r, line, len)) {
			check_reply(&r);
			memset(&r, 0, sizeof(r));
		}
		free(line);
		p += len;
	}
}

static void
check_ends(const char *from, size_t n)
{
	char *whole = xmalloc(n ? n : 1), *cut = xmalloc(n ? n : 1);
	bool a = false, b = false;
	size_t all, some, half = n / 2;

	all = ftp_line_ends(memcpy(whole, from, n), n, &a);
	some = ftp_line_ends(memcpy(cut, from, half), half, &b);
	some += ftp_line_ends(memcpy(cut + some, from + half, n - half), n - half, &b);
	if (all != some || a != b || memcmp(whole, cut, all) || memchr(whole, '\r', all))
		BUG("line ends that depend on how the bytes come");
	free(whole);
	free(cut);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	check_lines((const char *)data, n);
	check_ends((const char *)data, n);
	return 0;
}
