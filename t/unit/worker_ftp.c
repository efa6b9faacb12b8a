/*
 * worker_ftp.c - unit of the pure parts of ftp: each line of the corpus of listings against what it must give, the table
 * of replies line by line, times, zones, charsets, and what may be sent.
 */
#include <check.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/ftp.h"
#include "common/banned.h"

#define NOW (INT64_C(1795453200) * 1000000000)   /* 2026-11-23T17:00:00Z */

static void
read_file(const char *path, struct buf *b)
{
	FILE *f = fopen(path, "rb");
	size_t n;

	ck_assert_msg(f != NULL, "%s", path);
	do {
		n = fread(buf_room(b, 4096), 1, 4096, f);
		b->len += n;
	} while (n);
	fclose(f);
}

static bool
inside(struct ftp_text t, const char *p, size_t n)
{
	return !t.p || (t.p >= p && t.p + t.n <= p + n);
}

static void
render(struct buf *b, enum ftp_line what, const struct ftp_entry *en)
{
	static const char *const types[] = { "file", "dir", "link", "other" };
	static const char *const precisions[] = { "none", "ns", "s", "min", "day" };
	char when[UNITS_TEXT] = "-";

	if (what != FTP_LINE_ENTRY) {
		buf_puts(b, what == FTP_LINE_PASS ? "pass" : what == FTP_LINE_BAD ? "bad" :
		    what == FTP_LINE_NAMELESS ? "nameless" : "alien");
		return;
	}
	if (en->mtime_ns != TIME_UNKNOWN)
		units_time_text(en->mtime_ns, 0, when);
	buf_printf(b, "%s %lld %s %s ", types[en->type], (long long)en->size, when, precisions[en->precision]);
	buf_add(b, en->name.p, en->name.n);
	if (en->target.p) {
		buf_puts(b, " => ");
		buf_add(b, en->target.p, en->target.n);
	}
}

/* Each line of a listing against the line of the same number in FILE.want. */
static void
corpus(const char *path, bool mlsd)
{
	struct buf text = BUF_INIT, want = BUF_INIT, name = BUF_INIT;
	enum ftp_format fmt = FTP_ANY;
	const char *p, *w;
	size_t line = 0;

	buf_printf(&name, "%s.want", path);
	read_file(path, &text);
	read_file(buf_str(&name), &want);
	p = text.p;
	w = want.p;
	while (p < text.p + text.len) {
		const char *end = memchr(p, '\n', (size_t)(text.p + text.len - p));
		const char *wend = memchr(w, '\n', (size_t)(want.p + want.len - w)), *why = NULL;
		size_t n = (size_t)(end - p) - 1;       /* the CR */
		struct buf got = BUF_INIT;
		struct ftp_entry en;
		/* Of its own, so that a sanitizer sees a read past its end. */
		char *copy = memcpy(xmalloc(n + 1), p, n);
		enum ftp_line what;

		copy = xreallocarray(copy, n ? n : 1, 1);
		what = mlsd ? ftp_mlsd_line(copy, n, &en, &why) : ftp_list_line(copy, n, !line, NOW, &fmt, &en, &why);
		render(&got, what, &en);
		ck_assert_msg(wend && got.len == (size_t)(wend - w) && !memcmp(buf_str(&got), w, got.len),
		    "%s:%zu: got \"%s\" (%s)", path, line + 1, buf_str(&got), why);
		if (what == FTP_LINE_ENTRY) {
			ck_assert(en.name.n > 0 && inside(en.name, copy, n) && inside(en.target, copy, n));
			ck_assert(inside(en.owner, copy, n) && inside(en.permissions, copy, n) && inside(en.unique, copy, n));
		} else {
			ck_assert(what == FTP_LINE_PASS || (why && *why));
		}
		free(copy);
		buf_release(&got);
		p = end + 1;
		w = wend + 1;
		line++;
	}
	ck_assert_ptr_eq(w, want.p + want.len);
	ck_assert(line > 0);
	buf_release(&text);
	buf_release(&want);
	buf_release(&name);
}

static void
corpora(const char *pattern, bool mlsd, size_t least)
{
	glob_t g;

	ck_assert_int_eq(glob(pattern, 0, NULL, &g), 0);
	ck_assert_uint_ge(g.gl_pathc, least);
	for (size_t i = 0; i < g.gl_pathc; i++)
		corpus(g.gl_pathv[i], mlsd);
	globfree(&g);
}

START_TEST(list_corpus)
{
	corpora("t/data/ftp/*.list", false, 15);
}
END_TEST

START_TEST(mlsd_corpus)
{
	corpora("t/data/ftp/*.mlsd", true, 5);
}
END_TEST

static const struct { const char *line; int mode; const char *owner, *group, *uid, *gid; } columns[] = {
	{ "-rwsr-Sr-T   1 joe      staff         12 Jan  1  1999 x", 07744, "joe", "staff", NULL, NULL },
	{ "-rw-r--r--   1 1001     100           12 Jan  1  1999 x", 0644, NULL, NULL, "1001", "100" },
	{ "-rw-r--r--   1 joe           12 Jan  1  1999 x", 0644, "joe", NULL, NULL, NULL },
	{ "brw-rw----   1 root     disk     8,   0 Jan  1  1999 x", 0660, "root", "disk", NULL, NULL },
	{ "drwxr-sr-t+  2 root     0             12 Jan  1  1999 x", 03755, "root", NULL, NULL, "0" },
	{ "d [R----F--] joe            512       Jan 16 18:53    x", -1, "joe", NULL, NULL, NULL },
	{ "11-23-26  04:21PM                  953 x", -1, NULL, NULL, NULL, NULL },
};

static void
same_text(struct ftp_text got, const char *want, const char *line)
{
	ck_assert_msg(want ? got.p && got.n == strlen(want) && !memcmp(got.p, want, got.n) : !got.p, "%s: %.*s", line,
	    (int)got.n, got.p ? got.p : "");
}

START_TEST(list_columns)
{
	enum ftp_format fmt = FTP_ANY;
	const char *line = columns[_i].line, *why;
	struct ftp_entry en;

	ck_assert_int_eq(ftp_list_line(line, strlen(line), false, NOW, &fmt, &en, &why), FTP_LINE_ENTRY);
	ck_assert_int_eq(en.mode, columns[_i].mode);
	same_text(en.owner, columns[_i].owner, line);
	same_text(en.group, columns[_i].group, line);
	same_text(en.uid, columns[_i].uid, line);
	same_text(en.gid, columns[_i].gid, line);
	same_text(en.name, "x", line);
}
END_TEST

START_TEST(mlsd_facts)
{
	static const char line[] = "type=file;unique=U1;perm=adfr;UNIX.mode=100640;UNIX.owner=5;UNIX.group=staff;"
				   "UNIX.ownername=joe;modify=20260102030405; n";
	const char *why;
	struct ftp_entry en;

	ck_assert_int_eq(ftp_mlsd_line(line, strlen(line), &en, &why), FTP_LINE_ENTRY);
	ck_assert_int_eq(en.mode, 0640);
	same_text(en.unique, "U1", line);
	same_text(en.perm, "adfr", line);
	same_text(en.uid, "5", line);
	same_text(en.owner, "joe", line);
	same_text(en.group, "staff", line);
	same_text(en.modify, "20260102030405", line);
	same_text(en.kind, "file", line);
	ck_assert(en.utc);
}
END_TEST

/* As pure-ftpd writes them. */
START_TEST(mlsd_ids)
{
	static const char line[] = "type=file;size=5;modify=20260102030405;UNIX.mode=0644;UNIX.uid=3;UNIX.gid=4;unique=fd02g1; n";
	const char *why;
	struct ftp_entry en;

	ck_assert_int_eq(ftp_mlsd_line(line, strlen(line), &en, &why), FTP_LINE_ENTRY);
	same_text(en.uid, "3", line);
	same_text(en.gid, "4", line);
	same_text(en.owner, NULL, line);
	same_text(en.group, NULL, line);
}
END_TEST

/* What a listing's first entry was, all are. */
START_TEST(one_format)
{
	static const char u[] = "-rw-r--r-- 1 a b 6 Nov 23 16:21 x", d[] = "11-23-26  04:21PM                  953 x";
	enum ftp_format fmt = FTP_ANY;
	const char *why;
	struct ftp_entry en;

	ck_assert_int_eq(ftp_list_line(u, strlen(u), true, NOW, &fmt, &en, &why), FTP_LINE_ENTRY);
	ck_assert_int_eq(fmt, FTP_UNIX);
	ck_assert_int_eq(ftp_list_line(d, strlen(d), false, NOW, &fmt, &en, &why), FTP_LINE_ALIEN);
	fmt = FTP_DOS;
	ck_assert_int_eq(ftp_list_line(u, strlen(u), true, NOW, &fmt, &en, &why), FTP_LINE_ALIEN);
	ck_assert_int_eq(ftp_list_line(d, strlen(d), false, NOW, &fmt, &en, &why), FTP_LINE_ENTRY);
}
END_TEST

static const struct { const char *text; int rc; const char *want; } times[] = {
	{ "19700101000000", 0, "1970-01-01T00:00:00Z" }, { "20000229235959", 0, "2000-02-29T23:59:59Z" },
	{ "20260102030405.5", 0, "2026-01-02T03:04:05Z" }, { "19691231235959", 0, "1969-12-31T23:59:59Z" },
	{ "20161231235960", 0, "2017-01-01T00:00:00Z" }, { "22611231000000", 0, "2261-12-31T00:00:00Z" },
	{ "16010101000000", 1, NULL }, { "99991231235959", 1, NULL }, { "19000229000000", -1, NULL },
	{ "20260431000000", -1, NULL }, { "20260101240000", -1, NULL }, { "20260101006000", -1, NULL },
	{ "00000101000000", -1, NULL }, { "2026010203040", -1, NULL }, { "20260102030405.", -1, NULL },
	{ "20260102030405Z", -1, NULL }, { "2026010203040a", -1, NULL }, { "", -1, NULL },
};

START_TEST(time_values)
{
	int64_t ns = 5;
	char text[UNITS_TEXT];

	ck_assert_int_eq(ftp_time_val(times[_i].text, strlen(times[_i].text), &ns), times[_i].rc);
	if (times[_i].rc > 0)
		ck_assert_int_eq(ns, TIME_UNKNOWN);
	if (times[_i].rc)
		return;
	units_time_text(ns, 0, text);
	ck_assert_str_eq(text, times[_i].want);
}
END_TEST

static const struct { const char *text; int rc; int64_t seconds; } zones[] = {
	{ "UTC", 0, 0 }, { "Z", 0, 0 }, { "+00:00", 0, 0 }, { "+05:30", 0, 19800 }, { "-03:30", 0, -12600 },
	{ "+14:00", 0, 50400 }, { "+15:00", -1, 0 }, { "+1:00", -1, 0 }, { "0100", -1, 0 }, { "Europe/Berlin", -1, 0 },
	{ "+01:60", -1, 0 }, { "", -1, 0 }, { "+01:00 ", -1, 0 },
};

START_TEST(zone_values)
{
	int64_t s = 0;

	ck_assert_int_eq(ftp_zone(zones[_i].text, &s), zones[_i].rc);
	ck_assert_int_eq(s, zones[_i].seconds);
}
END_TEST

static const struct { enum ftp_phase phase; unsigned code; const char *text; enum err_class cls; } replies[] = {
	{ FTP_LOGIN, 120, "Service ready in 005 minutes", ERR_TRANSIENT },
	{ FTP_LOGIN, 331, "Password please", ERR_AUTH },
	{ FTP_LOGIN, 332, "Need account for login", ERR_AUTH },
	{ FTP_LOGIN, 421, "Too many connections from your address", ERR_TRANSIENT },
	{ FTP_PATH, 421, "Timeout", ERR_TRANSIENT },
	{ FTP_DATA, 425, "Can't open data connection", ERR_TRANSIENT },
	{ FTP_DATA, 426, "Connection closed; transfer aborted", ERR_TRUNCATED },
	{ FTP_LOGIN, 430, "Invalid username or password", ERR_AUTH },
	{ FTP_LOGIN, 431, "Unable to negotiate", ERR_PERMANENT },
	{ FTP_DATA, 431, "Need some unavailable resource", ERR_TRANSIENT },
	{ FTP_LOGIN, 434, "Requested host unavailable", ERR_TRANSIENT },
	{ FTP_DATA, 450, "File unavailable", ERR_TRANSIENT },
	{ FTP_DATA, 451, "Local error", ERR_TRANSIENT },
	{ FTP_DATA, 452, "No space", ERR_TRANSIENT },
	{ FTP_DATA, 500, "?", ERR_PERMANENT },
	{ FTP_PATH, 500, "OOPS: vsf_sysutil_recv_peek: no data", ERR_TRANSIENT },
	{ FTP_PATH, 501, "Bad path", ERR_PERMANENT },
	{ FTP_DATA, 502, "Not here", ERR_PERMANENT },
	{ FTP_DATA, 503, "Login with USER first", ERR_PERMANENT },
	{ FTP_LOGIN, 504, "Unknown AUTH type", ERR_PERMANENT },
	{ FTP_DATA, 521, "PROT P required", ERR_PERMANENT },
	{ FTP_DATA, 522, "SSL connection failed; session reuse required", ERR_PERMANENT },
	{ FTP_LOGIN, 530, "Login incorrect", ERR_AUTH },
	{ FTP_LOGIN, 530, "Sorry, the maximum number of clients (5) from your host are already connected.", ERR_TRANSIENT },
	{ FTP_LOGIN, 530, "Too many users", ERR_TRANSIENT },
	{ FTP_LOGIN, 530, "max connections reached", ERR_TRANSIENT },
	{ FTP_LOGIN, 532, "Need account", ERR_AUTH },
	{ FTP_LOGIN, 533, "Policy", ERR_PERMANENT },
	{ FTP_LOGIN, 534, "Policy requires SSL", ERR_PERMANENT },
	{ FTP_LOGIN, 535, "Failed security check", ERR_AUTH },
	{ FTP_LOGIN, 536, "PROT not supported", ERR_PERMANENT },
	{ FTP_LOGIN, 537, "Command protection level not supported", ERR_PERMANENT },
	{ FTP_LOGIN, 550, "Not welcome", ERR_AUTH },
	{ FTP_PATH, 550, "Failed to change directory.", ERR_NOT_FOUND },
	{ FTP_PATH, 550, "Can't change directory to x: No such file or directory", ERR_NOT_FOUND },
	{ FTP_PATH, 550, "/x: Permission denied", ERR_AUTH },
	{ FTP_PATH, 550, "Access is denied.", ERR_AUTH },
	{ FTP_PATH, 550, "Not allowed", ERR_AUTH },
	{ FTP_PATH, 550, "Operation not permitted", ERR_AUTH },
	{ FTP_PATH, 550, "Prohibited file name: x", ERR_AUTH },
	{ FTP_PATH, 550, "Forbidden", ERR_AUTH },
	{ FTP_DATA, 550, "SSL/TLS required on the data channel", ERR_PERMANENT },
	{ FTP_PATH, 551, "Page type", ERR_PERMANENT },
	{ FTP_PATH, 552, "Quota", ERR_PERMANENT },
	{ FTP_PATH, 553, "Name", ERR_PERMANENT },
	{ FTP_PATH, 631, "x", ERR_PROTOCOL }, { FTP_PATH, 632, "x", ERR_PROTOCOL }, { FTP_PATH, 633, "x", ERR_PROTOCOL },
	{ FTP_PATH, 499, "x", ERR_TRANSIENT }, { FTP_PATH, 599, "x", ERR_PERMANENT },
	{ FTP_PATH, 200, "x", ERR_PROTOCOL }, { FTP_PATH, 0, "", ERR_PROTOCOL }, { FTP_PATH, 999, "", ERR_PROTOCOL },
};

START_TEST(reply_table)
{
	const char *what = NULL;

	ck_assert_int_eq(ftp_reply_class(replies[_i].phase, replies[_i].code, replies[_i].text, &what), replies[_i].cls);
	ck_assert(what && *what);
}
END_TEST

static const struct { const char *text; bool cut; int64_t matches; } finals[] = {
	{ "226 Output truncated to 10000 matches", true, -1 }, { "226 5 matches total", false, 5 },
	{ "226 0 matches total", false, 0 }, { "226 Directory send OK.", false, -1 }, { "226 Transfer complete", false, -1 },
	{ "226 Listing incomplete", true, -1 }, { "226  matches total", false, -1 },
	{ "226 99999999999999999999 matches total", false, -1 }, { "", false, -1 },
};

START_TEST(final_replies)
{
	ck_assert_int_eq(ftp_reply_cut(finals[_i].text), finals[_i].cut);
	ck_assert_int_eq(ftp_reply_matches(finals[_i].text), finals[_i].matches);
}
END_TEST

START_TEST(other_replies)
{
	ck_assert(ftp_reply_unknown_command(500) && ftp_reply_unknown_command(502) && ftp_reply_unknown_command(504));
	ck_assert(!ftp_reply_unknown_command(550) && !ftp_reply_unknown_command(425) && !ftp_reply_unknown_command(226));
	ck_assert(ftp_reply_no_files(450, "No files found") && ftp_reply_no_files(550, "no files found."));
	ck_assert(!ftp_reply_no_files(450, "File busy") && !ftp_reply_no_files(530, "no files"));
	ck_assert_int_eq(ftp_verb_phase("USER"), FTP_LOGIN);
	ck_assert_int_eq(ftp_verb_phase(""), FTP_LOGIN);
	ck_assert_int_eq(ftp_verb_phase("cwd"), FTP_PATH);
	ck_assert_int_eq(ftp_verb_phase("EPSV"), FTP_DATA);
	ck_assert_int_eq(ftp_verb_phase("MLSD"), FTP_DATA);
	ck_assert_int_eq(ftp_verb_phase("NOOP"), FTP_PATH);
}
END_TEST

/* Lines of a control connection, and of each reply "code text". */
static const struct { const char *lines, *want; } dialogues[] = {
	{ "220 hello\r\n", "220 hello;" },
	{ "220\r\n331 \r\n", "220 ;331 ;" },
	{ "250 a\n229 ok (|||21|)\r\n", "250 a;229 ok (|||21|);" },
	{ "211-Features\r\n MLST\r\n211 no end\r\n226 x\r\n", "211 Features\n MLST\nno end;226 x;" },
	{ "230-a\r\n230-b\r\n226 c\r\n2300 d\r\n230 e\r\n", "230 a\nb\n226 c\n2300 d\ne;" },
	{ "hello\r\n\r\n12 x\r\n+50 x\r\n250 at last\r\n", "250 at last;" },
	{ "250-never\r\n", "" },
	{ "226-\r\n226\r\n", "226 ;" },
};

START_TEST(reply_lines)
{
	struct ftp_reply r = { .code = 0 };
	struct buf got = BUF_INIT;
	const char *p = dialogues[_i].lines;

	while (*p) {
		size_t n = strcspn(p, "\n") + 1;
		/* of its own, so that a sanitizer sees a read past its end */
		char *line = memcpy(xmalloc(n), p, n);

		if (ftp_reply_line(&r, line, n)) {
			buf_printf(&got, "%u %s;", r.code, r.text);
			ck_assert_uint_eq(r.multi, 0);
			r = (struct ftp_reply){ .code = 0 };
		} else {
			ck_assert_uint_eq(r.code, 0);
		}
		free(line);
		p += n;
	}
	ck_assert_msg(!strcmp(buf_str(&got), dialogues[_i].want), "%s", buf_str(&got));
	buf_release(&got);
}
END_TEST

/* More lines than are kept: the reply still ends where it ends. */
START_TEST(reply_long)
{
	struct ftp_reply r = { .code = 0 };

	ck_assert(!ftp_reply_line(&r, "230-x", 5));
	for (int i = 0; i < 1000; i++)
		ck_assert(!ftp_reply_line(&r, "a line of some length", 21));
	ck_assert(ftp_reply_line(&r, "230 end", 7));
	ck_assert_uint_eq(r.code, 230);
	ck_assert_uint_eq(strlen(r.text), FTP_TEXT - 1);
}
END_TEST

static const struct { const char *text; int epsv, pasv; } ports[] = {    /* -1: none */
	{ "Entering Extended Passive Mode (|||6446|)", 6446, -1 }, { "ok (!!!1!)", 1, -1 }, { "(|||65535|)", 65535, -1 },
	{ "(|||65536|)", -1, -1 }, { "(|||0|)", -1, -1 }, { "(|||123456|)", -1, -1 }, { "(||6446|)", -1, -1 },
	{ "(|||6446)", -1, -1 }, { "|||6446|", -1, -1 }, { "(1116446 1)", -1, -1 }, { "(|||-5|)", -1, -1 }, { "(||| 5|)", -1, -1 },
	{ "(|2|::1|6446|)", -1, -1 }, { "(", -1, -1 }, { "(|", -1, -1 }, { "(||", -1, -1 }, { "(|||", -1, -1 }, { "(|||6", -1, -1 }, { "", -1, -1 },
	{ "Entering Passive Mode (192,0,2,1,25,46).", -1, 6446 }, { "=192,0,2,1,0,21", -1, 21 }, { "(192,0,2,1,255,255)", -1, 65535 },
	{ "(192,0,2,1,0,0)", -1, -1 }, { "(192,0,2,1,256,1)", -1, -1 }, { "(192,0,2,1,25)", -1, -1 }, { "(192,0,2,1,25,)", -1, -1 },
	{ "(999,0,2,1,2,5)", -1, -1 }, { "192,0,2, 1,25,46", -1, -1 },
};

START_TEST(data_ports)
{
	uint16_t port = 0;

	ck_assert_int_eq(ftp_epsv_port(ports[_i].text, &port) ? -1 : port, ports[_i].epsv);
	ck_assert_int_eq(ftp_pasv_port(ports[_i].text, &port) ? -1 : port, ports[_i].pasv);
}
END_TEST

/* However the bytes come. */
START_TEST(line_ends)
{
	static const char text[] = "a\r\nb\nc\rd\r\r\ne\r\n\r\n\nf\r", want[] = "a\nb\nc\nd\n\ne\n\n\nf\n";

	for (size_t k = 0; k < sizeof(text); k++) {
		char a[sizeof(text)], b[sizeof(text)];
		bool cr = false;
		size_t n;

		memcpy(a, text, k);
		memcpy(b, text + k, sizeof(text) - 1 - k);
		n = ftp_line_ends(a, k, &cr);
		n += ftp_line_ends(memcpy(a + n, b, sizeof(text) - 1 - k), sizeof(text) - 1 - k, &cr);
		ck_assert_uint_eq(n, sizeof(want) - 1);
		ck_assert_mem_eq(a, want, n);
	}
}
END_TEST

/* Every byte goes to a character and back. */
START_TEST(charsets)
{
	static const enum ftp_encoding encs[] = { FTP_UTF8, FTP_LATIN1, FTP_CP1252 };
	struct buf out = BUF_INIT, back = BUF_INIT;
	char all[256];

	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	ftp_decode(&out, encs[_i], all, sizeof(all));
	ck_assert_int_eq(ftp_encode(&back, encs[_i], out.p, out.len), 0);
	ck_assert_uint_eq(back.len, sizeof(all));
	ck_assert_mem_eq(back.p, all, sizeof(all));
	buf_release(&out);
	buf_release(&back);
}
END_TEST

static const struct { enum ftp_encoding enc; const char *utf8, *bytes; } chars[] = {
	{ FTP_LATIN1, "caf\xc3\xa9", "caf\xe9" }, { FTP_CP1252, "\xe2\x82\xac", "\x80" }, { FTP_LATIN1, "\xe2\x82\xac", NULL },
	{ FTP_CP1252, "\xc5\xa1", "\x9a" }, { FTP_CP1252, "\xc2\x80", NULL }, { FTP_CP1252, "\xc2\x81", "\x81" },
	{ FTP_LATIN1, "\xc2\x80", "\x80" }, { FTP_LATIN1, "\xe9", NULL }, { FTP_CP1252, "\xe4\xb8\xad", NULL },
	{ FTP_UTF8, "\xff", "\xff" },
};

START_TEST(characters)
{
	struct buf b = BUF_INIT;
	const char *want = chars[_i].bytes;

	ck_assert_int_eq(ftp_encode(&b, chars[_i].enc, chars[_i].utf8, strlen(chars[_i].utf8)), want ? 0 : -1);
	ck_assert_str_eq(buf_str(&b), want ? want : "");
	buf_clear(&b);
	if (want) {
		ftp_decode(&b, chars[_i].enc, want, strlen(want));
		ck_assert_str_eq(buf_str(&b), chars[_i].utf8);
	}
	buf_release(&b);
}
END_TEST

START_TEST(sendable)
{
	struct buf b = BUF_INIT;

	ck_assert(ftp_sendable("a b\t\x01\xff%*", 8));
	ck_assert(!ftp_sendable("a\rb", 3) && !ftp_sendable("a\nDELE b", 8) && !ftp_sendable("a\0b", 3));
	ftp_url_path(&b, "/a b%c;type=i?#\xff~-_.\x01", 21);
	ck_assert_str_eq(buf_str(&b), "/a%20b%25c%3Btype%3Di%3F%23%FF~-_.%01");
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_ftp");
	TCase *tc = tcase_create("ftp");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, list_corpus);
	tcase_add_test(tc, mlsd_corpus);
	tcase_add_loop_test(tc, list_columns, 0, (int)ARRAY_LEN(columns));
	tcase_add_test(tc, mlsd_facts);
	tcase_add_test(tc, mlsd_ids);
	tcase_add_test(tc, one_format);
	tcase_add_loop_test(tc, time_values, 0, (int)ARRAY_LEN(times));
	tcase_add_loop_test(tc, zone_values, 0, (int)ARRAY_LEN(zones));
	tcase_add_loop_test(tc, reply_table, 0, (int)ARRAY_LEN(replies));
	tcase_add_loop_test(tc, final_replies, 0, (int)ARRAY_LEN(finals));
	tcase_add_test(tc, other_replies);
	tcase_add_loop_test(tc, reply_lines, 0, (int)ARRAY_LEN(dialogues));
	tcase_add_test(tc, reply_long);
	tcase_add_loop_test(tc, data_ports, 0, (int)ARRAY_LEN(ports));
	tcase_add_test(tc, line_ends);
	tcase_add_loop_test(tc, charsets, 0, 3);
	tcase_add_loop_test(tc, characters, 0, (int)ARRAY_LEN(chars));
	tcase_add_test(tc, sendable);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
