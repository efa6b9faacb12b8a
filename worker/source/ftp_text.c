/*
 * ftp_text.c - names of files between the server's bytes, records and commands.
 *
 * RFC 2640 says UTF-8; old servers send ISO 8859-1 or windows-1252. Both directions are exact: the five bytes that
 * windows-1252 leaves open are taken for the control characters of the same number, so that every name of a listing goes
 * back as it came. Called by ftp.c; sends nothing itself.
 */
#include <string.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "worker/source/ftp.h"
#include "common/banned.h"

/* 0x80..0x9f of windows-1252 */
static const uint16_t cp1252[32] = {
	0x20ac, 0x0081, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008d,
	0x017d, 0x008f, 0x0090, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a,
	0x0153, 0x009d, 0x017e, 0x0178,
};

static void
put_utf8(struct buf *b, unsigned cp)
{
	if (cp < 0x80) {
		buf_putc(b, (char)cp);
	} else if (cp < 0x800) {
		buf_putc(b, (char)(0xc0 | cp >> 6));
		buf_putc(b, (char)(0x80 | (cp & 0x3f)));
	} else {
		buf_putc(b, (char)(0xe0 | cp >> 12));
		buf_putc(b, (char)(0x80 | (cp >> 6 & 0x3f)));
		buf_putc(b, (char)(0x80 | (cp & 0x3f)));
	}
}

void
ftp_decode(struct buf *b, enum ftp_encoding enc, const char *p, size_t n)
{
	if (enc == FTP_UTF8) {
		buf_add(b, p, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned c = (unsigned char)p[i];

		put_utf8(b, enc == FTP_CP1252 && c >= 0x80 && c < 0xa0 ? cp1252[c - 0x80] : c);
	}
}

/* The byte of a character, or -1. */
static int
byte_of(enum ftp_encoding enc, uint32_t cp)
{
	if (enc == FTP_CP1252 && (cp < 0x80 || cp >= 0xa0))
		for (int i = 0; i < 32; i++)
			if (cp1252[i] == cp)
				return 0x80 + i;
	if (enc == FTP_CP1252 && cp >= 0x80 && cp < 0xa0)
		return cp1252[cp - 0x80] == cp ? (int)cp : -1;
	return cp < 0x100 ? (int)cp : -1;
}

int
ftp_encode(struct buf *b, enum ftp_encoding enc, const char *p, size_t n)
{
	size_t before = b->len;

	if (enc == FTP_UTF8) {
		buf_add(b, p, n);
		return 0;
	}
	while (n) {
		uint32_t cp;
		int len = utf8_step(p, n, &cp), c = len > 0 ? byte_of(enc, cp) : -1;

		if (c < 0) {
			b->len = before;
			return -1;
		}
		buf_putc(b, (char)c);
		p += len;
		n -= (size_t)len;
	}
	return 0;
}

bool
ftp_sendable(const char *p, size_t n)
{
	return !memchr(p, '\r', n) && !memchr(p, '\n', n) && !memchr(p, '\0', n);
}

void
ftp_url_path(struct buf *b, const char *p, size_t n)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";

	for (size_t i = 0; i < n; i++) {
		if (p[i] && strchr(plain, p[i]))
			buf_putc(b, p[i]);
		else
			buf_printf(b, "%%%02X", (unsigned)(unsigned char)p[i]);
	}
}

size_t
ftp_line_ends(char *p, size_t n, bool *cr)
{
	size_t to = 0, from = *cr && n && *p == '\n';
	bool lf;

	*cr = *cr && !n;
	while (from < n) {
		const char *at = memchr(p + from, '\r', n - from);
		size_t len = at ? (size_t)(at - p) - from : n - from;

		if (to != from)
			memmove(p + to, p + from, len);
		to += len;
		from += len;
		if (!at)
			break;
		lf = from + 1 < n && p[from + 1] == '\n';
		p[to++] = '\n';
		from += 1 + lf;
		*cr = from == n && !lf;
	}
	return to;
}
