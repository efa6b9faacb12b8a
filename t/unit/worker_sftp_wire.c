/*
 * worker_sftp_wire.c - the SFTP packets: what we send, byte by byte; what servers answer, whole, in pieces, and hostile.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/sftp_wire.h"
#include "common/xalloc.h"
#include "common/banned.h"

static struct sftp_wire w;
static struct buf in;

static void
u32(uint32_t v)
{
	buf_u8(&in, (uint8_t)(v >> 24));
	buf_u8(&in, (uint8_t)(v >> 16));
	buf_u8(&in, (uint8_t)(v >> 8));
	buf_u8(&in, (uint8_t)v);
}

static void
str(const char *s)
{
	u32((uint32_t)strlen(s));
	buf_puts(&in, s);
}

/* The length of the packet that began at `at` is written when all of it is there. */
static void
end_packet(size_t at)
{
	uint32_t n = (uint32_t)(in.len - at - 4);

	in.p[at] = (char)(n >> 24);
	in.p[at + 1] = (char)(n >> 16);
	in.p[at + 2] = (char)(n >> 8);
	in.p[at + 3] = (char)n;
}

static size_t
begin_packet(unsigned type)
{
	size_t at = in.len;

	u32(0);
	buf_u8(&in, (uint8_t)type);
	return at;
}

static void
version(uint32_t v)
{
	size_t at = begin_packet(2);

	u32(v);
	end_packet(at);
}

static void
status(uint32_t id, uint32_t code, const char *text)
{
	size_t at = begin_packet(101);

	u32(id);
	u32(code);
	str(text);
	str("en");
	end_packet(at);
}

static void
name(const char *n, const char *longname, uint32_t mode, uint64_t size)
{
	str(n);
	str(longname);
	u32(1 | 2 | 4 | 8);
	u32((uint32_t)(size >> 32));
	u32((uint32_t)size);
	u32(1000);
	u32(1001);
	u32(mode);
	u32(1700000000);
	u32(1700000001);
}

static void
feed(void)
{
	sftp_wire_feed(&w, in.p, in.len);
	buf_clear(&in);
}

static void
setup(void)
{
	buf_init(&in);
	sftp_wire_init(&w);
}

static void
teardown(void)
{
	sftp_wire_release(&w);
	buf_release(&in);
}

/* After VERSION, with nothing sent. */
static void
ready(void)
{
	struct sftp_reply r;
	struct err e = ERR_INIT;

	version(3);
	feed();
	ck_assert_int_eq(sftp_wire_next(&w, &r, &e), 0);
	ck_assert(w.ready);
	buf_clear(&w.out);
}

START_TEST(requests)
{
	static const struct { enum sftp_op op; const char *what; size_t n; const char *bytes; } rows[] = {
		{ SFTP_OPENDIR, "/a", 2, "\0\0\0\13\13\0\0\0\0\0\0\0\2/a" },
		{ SFTP_READDIR, "\0h", 2, "\0\0\0\13\14\0\0\0\1\0\0\0\2\0h" },
		{ SFTP_CLOSE, "h1", 2, "\0\0\0\13\4\0\0\0\2\0\0\0\2h1" },
		{ SFTP_REALPATH, ".", 1, "\0\0\0\12\20\0\0\0\3\0\0\0\1." },
		{ SFTP_STAT, "\n\377", 2, "\0\0\0\13\21\0\0\0\4\0\0\0\2\n\377" },
		{ SFTP_LSTAT, "", 0, "\0\0\0\11\7\0\0\0\5\0\0\0\0" },
		{ SFTP_READLINK, "l", 1, "\0\0\0\12\23\0\0\0\6\0\0\0\1l" },
	};

	ck_assert_uint_eq(w.out.len, 9);
	ck_assert_mem_eq(w.out.p, "\0\0\0\5\1\0\0\0\3", 9);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_clear(&w.out);
		sftp_wire_ask(&w, rows[i].op, rows[i].what, rows[i].n, NULL);
		ck_assert_uint_eq(w.out.len, 13 + rows[i].n);
		ck_assert_mem_eq(w.out.p, rows[i].bytes, w.out.len);
	}
	ck_assert_uint_eq(w.under_way, ARRAY_LEN(rows));
}
END_TEST

/* What may be sent ends with a packet whose turn has come. */
START_TEST(turns)
{
	size_t all;

	ck_assert_uint_eq(w.due, w.out.len);
	ready();
	w.due = 0;
	sftp_wire_ask(&w, SFTP_OPENDIR, "/abc", 4, NULL);
	sftp_wire_ask(&w, SFTP_LSTAT, "", 0, NULL);
	all = w.out.len;
	ck_assert_uint_eq(w.queued, 2);
	ck_assert_uint_eq(w.due, 0);
	sftp_wire_let_go(&w);
	ck_assert_uint_eq(w.due, 17);
	ck_assert_uint_eq(w.queued, 1);
	/* A part of it was sent. */
	buf_consume(&w.out, 10);
	w.due -= 10;
	sftp_wire_let_go(&w);
	ck_assert_uint_eq(w.due, w.out.len);
	ck_assert_uint_eq(w.out.len, all - 10);
	ck_assert_uint_eq(w.queued, 0);
}
END_TEST

/* A whole conversation, cut at every place. */
START_TEST(pieces)
{
	struct sftp_name n;
	struct sftp_reply r;
	struct err e = ERR_INIT;
	struct buf all = BUF_INIT;
	int mark = 0;
	size_t at;

	version(3);
	at = begin_packet(102);
	u32(0);
	str("handle");
	end_packet(at);
	at = begin_packet(104);
	u32(1);
	u32(2);
	name("one\n.csv", "-rw-r--r-- 1 u g 5 Jan 1 00:00 one", 0100644, UINT64_C(5) << 32);
	name("", "", 040755, 0);
	end_packet(at);
	status(2, 1, "End of file");
	buf_add(&all, in.p, in.len);
	for (size_t cut = 1; cut < all.len; cut++) {
		sftp_wire_release(&w);
		sftp_wire_init(&w);
		sftp_wire_ask(&w, SFTP_OPENDIR, "/", 1, &mark);
		sftp_wire_ask(&w, SFTP_READDIR, "h", 1, &mark);
		sftp_wire_ask(&w, SFTP_READDIR, "h", 1, NULL);
		unsigned replies = 0, names = 0;

		for (size_t from = 0; from < all.len; from += cut) {
			sftp_wire_feed(&w, all.p + from, all.len - from < cut ? all.len - from : cut);
			while (sftp_wire_next(&w, &r, &e) == 1) {
				replies++;
				if (r.op == SFTP_OPENDIR) {
					ck_assert_ptr_eq(r.arg, &mark);
					ck_assert_uint_eq(r.handle_n, 6);
					ck_assert_mem_eq(r.handle, "handle", 6);
				}
				while (sftp_reply_name(&r, &n, &e) == 1)
					if (!names++) {
						ck_assert_uint_eq(n.name_n, 8);
						ck_assert_mem_eq(n.name, "one\n.csv", 8);
						ck_assert_uint_eq(n.attrs.size, UINT64_C(5) << 32);
						ck_assert_uint_eq(n.attrs.mode, 0100644);
						ck_assert_uint_eq(n.attrs.uid, 1000);
						ck_assert_uint_eq(n.attrs.gid, 1001);
						ck_assert_uint_eq(n.attrs.mtime, 1700000001);
					}
			}
		}
		ck_assert_int_eq(e.cls, ERR_OK);
		ck_assert_uint_eq(replies, 3);
		ck_assert_uint_eq(names, 2);
		ck_assert_uint_eq(r.status, SFTP_EOF);
		ck_assert_uint_eq(w.under_way, 0);
		ck_assert(!sftp_wire_partial(&w));
	}
	buf_release(&all);
}
END_TEST

/* Bytes that come where the reply to request 0 (READDIR) and 1 (OPENDIR), 2 (STAT), 3 (REALPATH) is due; '|' ends a C literal's escape. */
static const struct hostile { const char *what; const char *p; size_t n; const char *words; } hostile[] = {
#define H(what, bytes, words) { what, bytes, sizeof(bytes) - 1, words }
	H("a packet of no bytes", "\0\0\0\0", "a packet of 0 bytes"),
	H("a packet without id", "\0\0\0\1\145", "a packet of 1 bytes"),
	H("a packet of 4 GiB", "\377\377\377\377", "4294967295 bytes"),
	H("a packet just too large", "\0\4\0\1", "262145 bytes"),
	H("an unknown id", "\0\0\0\21\145\0\0\0\11\0\0\0\4\0\0\0\0\0\0\0\0", "not under way"),
	H("the id of an old request", "\0\0\0\21\145\0\0\4\0\0\0\0\4\0\0\0\0\0\0\0\0", "not under way"),
	H("an unknown type", "\0\0\0\5\310\0\0\0\0", "answered READDIR with packet type 200"),
	H("a handle for READDIR", "\0\0\0\12\146\0\0\0\0\0\0\0\1h", "answered READDIR with HANDLE"),
	H("names for OPENDIR", "\0\0\0\11\150\0\0\0\1\0\0\0\0", "answered OPENDIR with NAME"),
	H("attributes for READDIR", "\0\0\0\11\151\0\0\0\0\0\0\0\0", "answered READDIR with ATTRS"),
	H("a request instead of a reply", "\0\0\0\12\14\0\0\0\0\0\0\0\1h", "answered READDIR with packet type 12"),
	H("OK for READDIR", "\0\0\0\21\145\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "bare OK"),
	H("OK for OPENDIR", "\0\0\0\21\145\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0", "bare OK"),
	H("a status without code", "\0\0\0\5\145\0\0\0\0", "malformed STATUS"),
	H("a status whose text is longer than it", "\0\0\0\15\145\0\0\0\0\0\0\0\4\0\0\0\5", "malformed STATUS"),
	H("bytes behind a status", "\0\0\0\22\145\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0x", "malformed STATUS"),
	H("a handle longer than its packet", "\0\0\0\12\146\0\0\0\1\0\0\0\2h", "malformed HANDLE"),
	H("bytes behind a handle", "\0\0\0\13\146\0\0\0\1\0\0\0\1hh", "malformed HANDLE"),
	H("more names than bytes", "\0\0\0\11\150\0\0\0\0\377\377\377\377", "malformed NAME"),
	H("one name in too few bytes", "\0\0\0\24\150\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0", "malformed NAME"),
	H("no name, and bytes", "\0\0\0\12\150\0\0\0\0\0\0\0\0x", "malformed NAME"),
	H("a name longer than its packet", "\0\0\0\25\150\0\0\0\0\0\0\0\1\0\0\0\11\0\0\0\0\0\0\0\0", "malformed NAME"),
	H("unknown attributes", "\0\0\0\25\150\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\20", "malformed NAME"),
	H("attributes that are cut", "\0\0\0\31\150\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0", "malformed NAME"),
	H("4 billion extended attributes", "\0\0\0\31\150\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\200\0\0\0\377\377\377\377", "malformed NAME"),
	H("bytes behind the last name", "\0\0\0\26\150\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0x", "malformed NAME"),
	H("two paths for REALPATH", "\0\0\0\41\150\0\0\0\3\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "malformed NAME"),
	H("no path for REALPATH", "\0\0\0\11\150\0\0\0\3\0\0\0\0", "malformed NAME"),
	H("unknown attributes for STAT", "\0\0\0\11\151\0\0\0\2\0\0\1\0", "malformed ATTRS"),
	H("bytes behind the attributes of STAT", "\0\0\0\12\151\0\0\0\2\0\0\0\0x", "malformed ATTRS"),
	H("VERSION again", "\0\0\0\5\2\0\0\0\3", "not under way"),
};

START_TEST(refuses_hostile)
{
	const struct hostile *h = &hostile[_i];
	struct err e = ERR_INIT;
	struct sftp_name n;
	struct sftp_reply r;
	int rc;

	ready();
	/* VERSION has no request: its number must be one that is not used. */
	w.next = 0;
	sftp_wire_ask(&w, SFTP_READDIR, "h", 1, NULL);
	sftp_wire_ask(&w, SFTP_OPENDIR, "/", 1, NULL);
	sftp_wire_ask(&w, SFTP_STAT, "/", 1, NULL);
	if (!strstr(h->what, "VERSION"))
		sftp_wire_ask(&w, SFTP_REALPATH, "/", 1, NULL);
	sftp_wire_feed(&w, h->p, h->n);
	rc = sftp_wire_next(&w, &r, &e);
	while (rc == 1 && (rc = sftp_reply_name(&r, &n, &e)) == 1)
		;
	ck_assert_msg(rc == -1, "%s was taken", h->what);
	ck_assert_msg(e.cls == ERR_PROTOCOL && strstr(e.text, h->words), "%s: %s", h->what, e.text);
}
END_TEST

START_TEST(a_reply_comes_once)
{
	struct err e = ERR_INIT;
	struct sftp_reply r;

	ready();
	sftp_wire_ask(&w, SFTP_READDIR, "h", 1, NULL);
	status(0, 4, "no");
	status(0, 4, "no");
	feed();
	ck_assert_int_eq(sftp_wire_next(&w, &r, &e), 1);
	ck_assert_uint_eq(r.status, SFTP_FAILURE);
	ck_assert_uint_eq(r.text_n, 2);
	ck_assert_int_eq(sftp_wire_next(&w, &r, &e), -1);
	ck_assert_int_eq(e.cls, ERR_PROTOCOL);
}
END_TEST

START_TEST(beginnings)
{
	static const struct { const char *p; size_t n; enum err_class cls; const char *words; } rows[] = {
		{ "\0\0\0\5\2\0\0\0\2", 9, ERR_PERMANENT, "version 2" },
		{ "\0\0\0\5\2\0\0\0\6", 9, ERR_PERMANENT, "version 6" },
		{ "\0\0\0\11\2\0\0\0\3\0\0\0\7", 13, ERR_PROTOCOL, "malformed VERSION" },
		{ "\0\0\0\15\145\0\0\0\0\0\0\0\4\0\0\0\0", 17, ERR_PROTOCOL, "STATUS where VERSION was due" },
		{ "Welcome to\033[1m", 14, ERR_PROTOCOL, "text instead of SFTP: \"Welcome to\\x1b[1m\"" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		struct sftp_reply r;

		sftp_wire_release(&w);
		sftp_wire_init(&w);
		sftp_wire_feed(&w, rows[i].p, rows[i].n);
		ck_assert_int_eq(sftp_wire_next(&w, &r, &e), -1);
		ck_assert_msg(e.cls == rows[i].cls && strstr(e.text, rows[i].words), "%s", e.text);
	}
}
END_TEST

START_TEST(old_servers)
{
	struct err e = ERR_INIT;
	struct sftp_name n;
	struct sftp_reply r;
	size_t at;

	/* extensions in VERSION, a status without words, names without attributes */
	at = begin_packet(2);
	u32(3);
	str("posix-rename@openssh.com");
	str("1");
	end_packet(at);
	at = begin_packet(101);
	u32(0);
	u32(9);
	end_packet(at);
	at = begin_packet(104);
	u32(1);
	u32(1);
	str("bare");
	str("");
	u32(0);
	end_packet(at);
	at = begin_packet(105);
	u32(2);
	u32(0x80000004);
	u32(040700);
	u32(1);
	str("type");
	str("data");
	end_packet(at);
	sftp_wire_ask(&w, SFTP_OPENDIR, "/", 1, NULL);
	sftp_wire_ask(&w, SFTP_READDIR, "h", 1, NULL);
	sftp_wire_ask(&w, SFTP_STAT, "/", 1, NULL);
	feed();
	ck_assert_int_eq(sftp_wire_next(&w, &r, &e), 1);
	ck_assert_uint_eq(r.status, 9);
	ck_assert_uint_eq(r.text_n, 0);
	ck_assert_int_eq(sftp_wire_next(&w, &r, &e), 1);
	ck_assert_int_eq(sftp_reply_name(&r, &n, &e), 1);
	ck_assert_uint_eq(n.attrs.flags, 0);
	ck_assert_int_eq(sftp_reply_name(&r, &n, &e), 0);
	ck_assert_int_eq(sftp_wire_next(&w, &r, &e), 1);
	ck_assert_uint_eq(r.attrs.mode, 040700);
	ck_assert_int_eq(sftp_wire_next(&w, &r, &e), 0);
}
END_TEST

START_TEST(numbers_come_round)
{
	struct err e = ERR_INIT;
	struct sftp_reply r;

	ready();
	/* one request that never ends does not stop the others */
	sftp_wire_ask(&w, SFTP_READDIR, "h", 1, NULL);
	for (uint32_t i = 1; i < 5000; i++) {
		uint32_t id;

		buf_clear(&w.out);
		sftp_wire_ask(&w, SFTP_CLOSE, "h", 1, NULL);
		id = (uint32_t)(uint8_t)w.out.p[5] << 24 | (uint32_t)(uint8_t)w.out.p[6] << 16 | (uint32_t)(uint8_t)w.out.p[7] << 8 |
		    (uint8_t)w.out.p[8];
		ck_assert_uint_ne(id % SFTP_UNDER_WAY_MAX, 0);
		status(id, 0, "");
		feed();
		ck_assert_int_eq(sftp_wire_next(&w, &r, &e), 1);
	}
	ck_assert_uint_eq(w.under_way, 1);
	while (w.under_way < SFTP_UNDER_WAY_MAX)
		sftp_wire_ask(&w, SFTP_CLOSE, "h", 1, NULL);
}
END_TEST

/* draft-ietf-secsh-filexfer-02, section 7: each line of the table. */
START_TEST(statuses)
{
	static const struct { uint32_t code; enum err_class cls; const char *text; } rows[] = {
		{ 0, ERR_OK, "ok" },
		{ 1, ERR_PROTOCOL, "end of file" },
		{ 2, ERR_NOT_FOUND, "no such file" },
		{ 3, ERR_AUTH, "permission denied" },
		{ 4, ERR_PERMANENT, "failure" },
		{ 5, ERR_PERMANENT, "bad message" },
		{ 6, ERR_TRANSIENT, "no connection" },
		{ 7, ERR_TRANSIENT, "connection lost" },
		{ 8, ERR_PERMANENT, "operation unsupported" },
		{ 9, ERR_PERMANENT, "a status of no known meaning" },
		{ UINT32_MAX, ERR_PERMANENT, "a status of no known meaning" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert_int_eq(sftp_status_class(rows[i].code), rows[i].cls);
		ck_assert_str_eq(sftp_status_text(rows[i].code), rows[i].text);
	}
}
END_TEST

START_TEST(owners)
{
	static const struct { const char *longname, *owner, *group; } rows[] = {
		{ "-rwxr-xr-x   1 mjos     staff      348911 Mar 25 14:29 t-filexfer", "mjos", "staff" },
		{ "drwxrwsr-T+  2 0        1001         4096 Jan  1  2024 d", "0", "1001" },
		{ "lrwxrwxrwx 1 a b 3 Jan 1 2024 l -> x", "a", "b" },
		{ "-rw-r--r-- 1 user@corp.example domain\\users 5 Jan 1 2024 f", "user@corp.example", "domain\\users" },
		{ "-rw-r--r-- 1 user 348911", NULL, NULL },
		{ "-rw-r--r--", NULL, NULL },
		{ "rw-r--r-- 1 a b c", NULL, NULL },
		{ "-rw-r--r-?  1 a b c", NULL, NULL },
		{ "01-01-24  12:00AM <DIR> dir name", NULL, NULL },
		{ "file.csv", NULL, NULL },
		{ "", NULL, NULL },
		{ "          ", NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sftp_name n = { .longname = rows[i].longname, .longname_n = strlen(rows[i].longname) };
		const char *o, *g;
		size_t on, gn;

		ck_assert_msg(sftp_longname_owners(&n, &o, &on, &g, &gn) == (rows[i].owner != NULL), "%s", rows[i].longname);
		if (rows[i].owner) {
			ck_assert(on == strlen(rows[i].owner) && !memcmp(o, rows[i].owner, on));
			ck_assert(gn == strlen(rows[i].group) && !memcmp(g, rows[i].group, gn));
		}
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("sftp_wire");
	TCase *t = tcase_create("packets");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, requests);
	tcase_add_test(t, turns);
	tcase_add_test(t, pieces);
	tcase_add_loop_test(t, refuses_hostile, 0, (int)ARRAY_LEN(hostile));
	tcase_add_test(t, a_reply_comes_once);
	tcase_add_test(t, beginnings);
	tcase_add_test(t, old_servers);
	tcase_add_test(t, numbers_come_round);
	tcase_add_test(t, statuses);
	tcase_add_test(t, owners);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
