/*
 * ftp_list.c - fuzz target: any bytes as the lines of a LIST.
 *
 * What is given back must lie within the line, and the name at its end: a parser never invents one.
 */
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/ftp.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
check_text(struct ftp_text t, const char *p, size_t n)
{
	if (t.p && (t.p < p || t.n > n || t.p + t.n > p + n))
		BUG("a piece that is not of the line");
}

static void
check_line(const char *from, size_t n, bool first, enum ftp_format *fmt)
{
	char *p = memcpy(xmalloc(n ? n : 1), from, n);
	struct ftp_entry en;
	const char *why = NULL;
	enum ftp_line what = ftp_list_line(p, n, first, INT64_C(1795453200000000000), fmt, &en, &why);

	if (what == FTP_LINE_ENTRY) {
		if (!en.name.n || (en.name.n == 1 && *en.name.p == '.'))
			BUG("a name that is none");
		if (!en.target.p && en.name.p + en.name.n != p + n)
			BUG("a name that does not end with the line");
		if ((en.mtime_ns == TIME_UNKNOWN) != (en.precision == MTIME_NONE) || en.size < -1)
			BUG("a time without precision, or a size below nothing");
		check_text(en.name, p, n);
		check_text(en.target, p, n);
		check_text(en.permissions, p, n);
		check_text(en.owner, p, n);
		check_text(en.group, p, n);
		check_text(en.uid, p, n);
		check_text(en.gid, p, n);
	} else if (what != FTP_LINE_PASS && !why) {
		BUG("refused without a reason");
	}
	free(p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *p = (const char *)data, *end = p + n;
	enum ftp_format fmt = n && data[0] == 'D' ? FTP_DOS : FTP_ANY;
	bool first = true;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)((nl ? nl : end) - p);

		check_line(p, len && p[len - 1] == '\r' ? len - 1 : len, first, &fmt);
		first = false;
		p += len + 1;
	}
	return 0;
}
