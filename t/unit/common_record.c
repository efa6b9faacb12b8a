/*
 * common_record.c - file records: round trips, each bound broken on both ends, truncation, random bytes.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/record.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

static char long_text[RECORD_MAX + 100];

/* A record that uses every field. */
static void
full(struct record *r)
{
	record_init(r);
	r->path = "/srv/in/a/b.csv";
	r->path_n = strlen(r->path);
	r->rel_off = 8;
	r->size = 12;
	r->mtime_ns = 1700000000123456789;
	r->precision = MTIME_NS;
	r->is_symlink = true;
	r->link_target = "../\xff";
	r->link_target_n = 4;
	r->version = "v1";
	r->version_n = 2;
	r->checksum = "abc";
	r->checksum_n = 3;
	memcpy(r->checksum_algorithm, "etag", 5);
	memcpy(r->checksum_origin, "server", 7);
	r->attrs[r->n_attrs++] = (struct record_attr){ .id = SA_LOCAL_INODE, .is_int = true, .i = -5 };
	r->attrs[r->n_attrs++] = (struct record_attr){ .id = SA_LOCAL_ROOT, .s = "/srv\xfe", .n = 5 };
}

START_TEST(round_trip)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct record r, q;
	struct cursor c;

	full(&r);
	ck_assert_int_eq(record_encode(&r, &b, &e), 0);
	ck_assert(r.utf8);
	cursor_init(&c, b.p, b.len);
	ck_assert_int_eq(record_decode(&q, &c, SOURCE_LOCAL, &e), 0);
	ck_assert(cursor_end(&c));
	ck_assert_mem_eq(q.path, r.path, r.path_n);
	ck_assert_uint_eq(q.rel_off, 8);
	ck_assert_int_eq(q.size, 12);
	ck_assert_int_eq(q.mtime_ns, r.mtime_ns);
	ck_assert_int_eq(q.precision, MTIME_NS);
	ck_assert(q.is_symlink && q.utf8);
	ck_assert_mem_eq(q.link_target, "../\xff", 4);
	ck_assert_mem_eq(q.version, "v1", 2);
	ck_assert_mem_eq(q.checksum, "abc", 3);
	ck_assert_str_eq(q.checksum_algorithm, "etag");
	ck_assert_str_eq(q.checksum_origin, "server");
	ck_assert_uint_eq(q.n_attrs, 2);
	ck_assert_int_eq(q.attrs[0].i, -5);
	ck_assert_mem_eq(q.attrs[1].s, "/srv\xfe", 5);
	buf_release(&b);
}
END_TEST

START_TEST(smallest_and_names_of_any_bytes)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct record r, q;
	struct cursor c;

	for (int byte = 1; byte < 256; byte++) {
		char path[2] = { (char)byte, 0 };

		buf_clear(&b);
		record_init(&r);
		r.path = path;
		r.path_n = 1;
		ck_assert_int_eq(record_encode(&r, &b, &e), 0);
		ck_assert_int_eq(r.utf8, byte < 128);
		cursor_init(&c, b.p, b.len);
		ck_assert_int_eq(record_decode(&q, &c, SOURCE_DUMMY, &e), 0);
		ck_assert_int_eq((unsigned char)q.path[0], byte);
		ck_assert_int_eq(q.size, -1);
		ck_assert_int_eq(q.mtime_ns, TIME_UNKNOWN);
	}
	buf_release(&b);
}
END_TEST

static void b_empty(struct record *r) { r->path_n = 0; }
static void b_nul(struct record *r) { r->path = "a\0b"; r->path_n = 3; r->rel_off = 0; }
static void b_path_long(struct record *r) { r->path = long_text; r->path_n = RECORD_PATH_MAX + 1; }
static void b_rel(struct record *r) { r->rel_off = r->path_n; }
static void b_size(struct record *r) { r->size = -2; }
static void b_precision(struct record *r) { r->precision = MTIME__MAX; }
static void b_no_time(struct record *r) { r->mtime_ns = TIME_UNKNOWN; }
static void b_no_precision(struct record *r) { r->precision = MTIME_NONE; }
static void b_target(struct record *r) { r->is_symlink = false; }
static void b_target_empty(struct record *r) { r->link_target_n = 0; }
static void b_target_long(struct record *r) { r->link_target = long_text; r->link_target_n = RECORD_PATH_MAX + 1; }
static void b_version_long(struct record *r) { r->version = long_text; r->version_n = 1025; }
static void b_version_empty(struct record *r) { r->version_n = 0; }
static void b_sum_space(struct record *r) { r->checksum = "a b"; }
static void b_sum_long(struct record *r) { r->checksum = long_text; r->checksum_n = 257; }
static void b_algorithm(struct record *r) { r->checksum_algorithm[0] = 'x'; }
static void b_origin(struct record *r) { r->checksum_origin[0] = 'x'; }
static void b_kind(struct record *r) { r->kind = FILE__MAX; }
static void b_dir_size(struct record *r) { r->kind = FILE_DIR; r->is_symlink = false; r->link_target = r->checksum = NULL; r->checksum_algorithm[0] = r->checksum_origin[0] = '\0'; }
static void b_dir_sum(struct record *r) { r->kind = FILE_DIR; r->is_symlink = false; r->link_target = NULL; r->size = -1; }
static void b_dir_link(struct record *r) { b_dir_size(r); r->size = -1; r->is_symlink = true; }
static void b_no_link(struct record *r) { b_dir_size(r); r->size = -1; r->kind = FILE_LINK; }
static void b_no_sum(struct record *r) { r->checksum = NULL; }
static void b_attr_id(struct record *r) { r->attrs[0].id = SA__MAX; }
static void b_attr_kind(struct record *r) { r->attrs[0].is_int = false; r->attrs[0].s = "x"; r->attrs[0].n = 1; }
static void b_attr_long(struct record *r) { r->attrs[1].s = long_text; r->attrs[1].n = RECORD_ATTR_BYTES + 1; }
static void b_attr_nul(struct record *r) { r->attrs[1].s = "a\0b"; r->attrs[1].n = 3; }
static void
b_attr_many(struct record *r)
{
	for (size_t i = r->n_attrs; i < RECORD_ATTR_MAX; i++)
		r->attrs[i] = r->attrs[0];
	r->n_attrs = RECORD_ATTR_MAX + 1;
}
/* only the decoder's */
static void b_attr_twice(struct record *r) { r->attrs[1] = r->attrs[0]; }
static void b_attr_other(struct record *r) { r->attrs[0].id = SA_DUMMY_INODE; }

static const struct { const char *what; void (*f)(struct record *); bool decoder_only; } breaks[] = {
	{ "empty path", b_empty, false }, { "NUL in path", b_nul, false }, { "long path", b_path_long, false },
	{ "relative part past the end", b_rel, false }, { "size -2", b_size, false },
	{ "unknown precision", b_precision, false }, { "precision without time", b_no_time, false },
	{ "time without precision", b_no_precision, false }, { "target of no link", b_target, false },
	{ "empty target", b_target_empty, false }, { "long target", b_target_long, false },
	{ "long version", b_version_long, false }, { "empty version", b_version_empty, false },
	{ "checksum with a space", b_sum_space, false }, { "long checksum", b_sum_long, false },
	{ "unknown algorithm", b_algorithm, false }, { "unknown origin", b_origin, false },
	{ "unknown kind", b_kind, false }, { "directory with a size", b_dir_size, false }, { "directory with a checksum", b_dir_sum, false },
	{ "directory that is a link", b_dir_link, false }, { "link that is none", b_no_link, false },
	{ "algorithm without checksum", b_no_sum, false }, { "unknown attribute", b_attr_id, false },
	{ "attribute of the wrong kind", b_attr_kind, false }, { "long attribute", b_attr_long, false },
	{ "NUL in attribute", b_attr_nul, false }, { "too many attributes", b_attr_many, false },
	{ "attribute twice", b_attr_twice, true }, { "attribute of another source", b_attr_other, true },
};

/* Writes a record as it is, right or not, so that the decoder is asked and not the encoder. */
static void
raw(const struct record *r, bool utf8, unsigned more_flags, struct buf *b)
{
	buf_u8(b, (uint8_t)((r->is_symlink ? 1 : 0) | (utf8 ? 2 : 0) | (r->link_target ? 4 : 0) |
	    (r->version ? 8 : 0) | (r->checksum ? 16 : 0) |
	    (r->kind == FILE_DIR ? 32 : r->kind == FILE_LINK ? 64 : r->kind == FILE__MAX ? 96 : 0) | more_flags));
	buf_u8(b, (uint8_t)r->precision);
	buf_bytes(b, r->path, r->path_n);
	buf_u32(b, (uint32_t)r->rel_off);
	buf_i64(b, r->size);
	buf_i64(b, r->mtime_ns);
	if (r->link_target)
		buf_bytes(b, r->link_target, r->link_target_n);
	if (r->version)
		buf_bytes(b, r->version, r->version_n);
	if (r->checksum) {
		buf_bytes(b, r->checksum, r->checksum_n);
		buf_cstr(b, r->checksum_algorithm);
		buf_cstr(b, r->checksum_origin);
	}
	buf_u8(b, (uint8_t)r->n_attrs);
	for (size_t i = 0; i < r->n_attrs && i < RECORD_ATTR_MAX; i++) {
		buf_u16(b, r->attrs[i].id);
		buf_u8(b, r->attrs[i].is_int);
		if (r->attrs[i].is_int)
			buf_i64(b, r->attrs[i].i);
		else
			buf_bytes(b, r->attrs[i].s, r->attrs[i].n);
	}
}

START_TEST(broken)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct record r, q;
	struct cursor c;

	memset(long_text, 'x', sizeof(long_text));
	full(&r);
	breaks[_i].f(&r);
	if (!breaks[_i].decoder_only) {
		ck_assert_msg(record_encode(&r, &b, &e) == -1, "%s was encoded", breaks[_i].what);
		ck_assert_int_eq(e.cls, ERR_LIMIT);
		ck_assert_uint_eq(b.len, 0);
	}
	/* algorithm without checksum cannot even be said in a frame */
	if (breaks[_i].f == b_no_sum)
		return;
	raw(&r, true, 0, &b);
	cursor_init(&c, b.p, b.len);
	ck_assert_msg(record_decode(&q, &c, SOURCE_LOCAL, &e) == -1, "%s was decoded", breaks[_i].what);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	ck_assert(!cursor_end(&c));
	buf_release(&b);
}
END_TEST

/* What is no file has neither size nor checksum. */
START_TEST(kinds)
{
	static const struct { enum file_kind kind; bool link; const char *target; } rows[] = {
		{ FILE_PLAIN, false, NULL }, { FILE_PLAIN, true, "t" }, { FILE_DIR, false, NULL }, { FILE_LINK, true, NULL }, { FILE_LINK, true, "t" },
	};
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct record r, q;
	struct cursor c;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		record_init(&r);
		r.path = "/a";
		r.path_n = 2;
		r.rel_off = 1;
		r.kind = rows[i].kind;
		r.is_symlink = rows[i].link;
		r.link_target = rows[i].target;
		r.link_target_n = rows[i].target ? 1 : 0;
		buf_clear(&b);
		ck_assert_msg(!record_encode(&r, &b, &e), "row %zu: %s", i, e.text);
		cursor_init(&c, b.p, b.len);
		ck_assert_int_eq(record_decode(&q, &c, SOURCE_FTP, &e), 0);
		ck_assert_int_eq(q.kind, rows[i].kind);
		ck_assert_int_eq(q.is_symlink, rows[i].link);
		ck_assert_int_eq(q.link_target_n, r.link_target_n);
	}
	buf_release(&b);
}
END_TEST

START_TEST(flags_that_lie)
{
	static const struct { const char *path; bool utf8; unsigned more; int want; } rows[] = {
		{ "/a", true, 0, 0 }, { "/a", false, 0, -1 }, { "/\xff", true, 0, -1 }, { "/\xff", false, 0, 0 },
		{ "/a", true, 32, -1 }, { "/a", true, 64, -1 }, { "/a", true, 96, -1 }, { "/a", true, 128, -1 }, { "/\xc0\xaf", true, 0, -1 },
		{ "/\xed\xa0\x80", true, 0, -1 }, { "/\xe2\x82\xac", true, 0, 0 }, { "/\xe2\x82\xac", false, 0, -1 },
	};
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct record r, q;
	struct cursor c;

	full(&r);
	r.path = rows[_i].path;
	r.path_n = strlen(r.path);
	r.rel_off = 1;
	raw(&r, rows[_i].utf8, rows[_i].more, &b);
	cursor_init(&c, b.p, b.len);
	ck_assert_int_eq(record_decode(&q, &c, SOURCE_LOCAL, &e), rows[_i].want);
	buf_release(&b);
}
END_TEST

START_TEST(truncated)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct record r, q;
	struct cursor c;

	full(&r);
	ck_assert_int_eq(record_encode(&r, &b, &e), 0);
	for (size_t n = 0; n < b.len; n++) {
		char *copy = malloc(n ? n : 1);

		memcpy(copy, b.p, n);
		cursor_init(&c, copy, n);
		ck_assert_int_eq(record_decode(&q, &c, SOURCE_LOCAL, &e), -1);
		free(copy);
	}
	buf_release(&b);
}
END_TEST

/* Whatever is decoded must be encodable to the same bytes: one form for one record. */
START_TEST(random_changes)
{
	struct buf b = BUF_INIT, again = BUF_INIT;
	struct err e = ERR_INIT;
	struct record r, q;
	struct cursor c;
	int good = 0;

	srandom(2);
	full(&r);
	ck_assert_int_eq(record_encode(&r, &b, &e), 0);
	for (int round = 0; round < 100000; round++) {
		char copy[256];
		size_t n = b.len;

		memcpy(copy, b.p, n);
		for (long k = random() % 4; k >= 0; k--)
			copy[(size_t)random() % n] = (char)random();
		if (random() % 8 == 0)
			for (size_t i = 0; i < n; i++)
				copy[i] = (char)random();
		cursor_init(&c, copy, n);
		if (record_decode(&q, &c, SOURCE_LOCAL, &e))
			continue;
		good++;
		buf_clear(&again);
		ck_assert_int_eq(record_encode(&q, &again, &e), 0);
		ck_assert_uint_eq(again.len, n - cursor_left(&c));
		ck_assert_mem_eq(again.p, copy, again.len);
	}
	ck_assert_int_gt(good, 100);
	buf_release(&b);
	buf_release(&again);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_record");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, round_trip);
	tcase_add_test(t, smallest_and_names_of_any_bytes);
	tcase_add_loop_test(t, broken, 0, sizeof(breaks) / sizeof(breaks[0]));
	tcase_add_loop_test(t, flags_that_lie, 0, 12);
	tcase_add_test(t, kinds);
	tcase_add_test(t, truncated);
	tcase_add_test(t, random_changes);
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
