/*
 * common_buf.c - unit of buf and cursor: what is written is read back, and no read goes past the end,
 * whatever the lengths in the frame say.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/cursor.h"
#include "common/xalloc.h"
#include "common/banned.h"

START_TEST(grows)
{
	struct buf b = BUF_INIT;
	char *s;

	for (int i = 0; i < 10000; i++)
		buf_putc(&b, (char)('a' + i % 26));
	ck_assert_uint_eq(b.len, 10000);
	for (int i = 0; i < 10000; i++)
		ck_assert_int_eq(b.p[i], 'a' + i % 26);
	buf_consume(&b, 9998);
	ck_assert_str_eq(buf_str(&b), "op");
	buf_printf(&b, "-%d-%s", 7, "x");
	buf_puts(&b, "!");
	ck_assert_str_eq(buf_str(&b), "op-7-x!");
	buf_clear(&b);
	ck_assert_str_eq(buf_str(&b), "");
	buf_add(&b, NULL, 0);
	buf_puts(&b, "kept");
	s = buf_take(&b);
	ck_assert_str_eq(s, "kept");
	ck_assert_ptr_null(b.p);
	free(s);
	buf_release(&b);
	buf_puts(&b, "secret");
	buf_wipe(&b);
	ck_assert_ptr_null(b.p);
	ck_assert_uint_eq(b.len, 0);
}
END_TEST

START_TEST(consumes_too_much)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "ab");
	buf_consume(&b, 3);
}
END_TEST

static void
write_all(struct buf *b)
{
	buf_u8(b, 0xfe);
	buf_u16(b, 0xfedc);
	buf_u32(b, 0xfedcba98);
	buf_u64(b, 0xfedcba9876543210);
	buf_i64(b, -2);
	buf_bytes(b, "a\0b", 3);
	buf_cstr(b, "text");
	buf_cstr(b, NULL);
	buf_cstr(b, "array");
}

/* Reads the group of write_all; true when the decoder calls it good. */
static bool
read_all(const void *p, size_t n)
{
	struct cursor c;
	char text[16];
	size_t k;
	const char *three;
	char *s, *empty;
	bool good;

	cursor_init(&c, p, n);
	good = cursor_u8(&c) == 0xfe;
	good = cursor_u16(&c) == 0xfedc && good;
	good = cursor_u32(&c) == 0xfedcba98 && good;
	good = cursor_u64(&c) == 0xfedcba9876543210 && good;
	good = cursor_i64(&c) == -2 && good;
	three = cursor_bytes(&c, &k, 3);
	good = k == 3 && !memcmp(three, "a\0b", k) && good;
	s = cursor_strdup(&c, 4);
	empty = cursor_strdup(&c, 0);
	cursor_str(&c, text, sizeof(text));
	good = s && !strcmp(s, "text") && empty && !*empty && !strcmp(text, "array") && good;
	free(s);
	free(empty);
	if (cursor_end(&c))
		ck_assert(good);
	else
		ck_assert_uint_eq(c.bad ? cursor_left(&c) : 0, 0);
	return cursor_end(&c);
}

START_TEST(reads_back)
{
	struct buf b = BUF_INIT;

	write_all(&b);
	ck_assert(read_all(b.p, b.len));
	buf_release(&b);
}
END_TEST

/* Each copy is exactly as long as it says, so that the sanitizer sees a read behind it. */
START_TEST(ends_at_every_byte)
{
	struct buf b = BUF_INIT;

	write_all(&b);
	for (size_t n = 0; n < b.len; n++) {
		char *copy = malloc(n ? n : 1);

		ck_assert_ptr_nonnull(copy);
		memcpy(copy, b.p, n);
		ck_assert_msg(!read_all(copy, n), "%zu of %zu bytes were taken", n, b.len);
		free(copy);
	}
	buf_putc(&b, 'x');
	ck_assert_msg(!read_all(b.p, b.len), "a byte too many was taken");
	buf_release(&b);
}
END_TEST

START_TEST(lying_lengths)
{
	static const uint32_t lies[] = { 5, 6, 255, 0x7fffffff, 0x80000000, 0xfffffffb, 0xffffffff };

	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		struct buf b = BUF_INIT;
		struct cursor c;
		char text[8] = "before";
		size_t k = 99;

		buf_u32(&b, lies[i]);
		buf_add(&b, "four", 4);
		cursor_init(&c, b.p, b.len);
		ck_assert_str_eq(cursor_bytes(&c, &k, SIZE_MAX), "");
		ck_assert_uint_eq(k, 0);
		ck_assert(c.bad);
		ck_assert_uint_eq(cursor_u8(&c), 0);
		cursor_init(&c, b.p, b.len);
		ck_assert_ptr_null(cursor_strdup(&c, SIZE_MAX));
		ck_assert(!cursor_end(&c));
		cursor_init(&c, b.p, b.len);
		cursor_str(&c, text, sizeof(text));
		ck_assert_str_eq(text, "");
		ck_assert(c.bad);
		buf_release(&b);
	}
}
END_TEST

START_TEST(strings_are_bounded)
{
	struct buf b = BUF_INIT;
	struct cursor c;
	char five[5], four[4];
	size_t k;

	buf_cstr(&b, "four");
	cursor_init(&c, b.p, b.len);
	cursor_bytes(&c, &k, 3);
	ck_assert(c.bad);
	cursor_init(&c, b.p, b.len);
	ck_assert_ptr_null(cursor_strdup(&c, 3));
	cursor_init(&c, b.p, b.len);
	cursor_str(&c, four, sizeof(four));
	ck_assert(c.bad);
	ck_assert_str_eq(four, "");
	cursor_init(&c, b.p, b.len);
	cursor_str(&c, five, sizeof(five));
	ck_assert(cursor_end(&c));
	ck_assert_str_eq(five, "four");
	buf_clear(&b);
	buf_bytes(&b, "a\0b", 3);
	cursor_init(&c, b.p, b.len);
	ck_assert_ptr_null(cursor_strdup(&c, 9));
	cursor_init(&c, b.p, b.len);
	cursor_str(&c, five, sizeof(five));
	ck_assert(c.bad);
	buf_release(&b);
}
END_TEST

START_TEST(bad_is_for_good)
{
	struct cursor c;

	cursor_init(&c, "abc", 3);
	cursor_fail(&c);
	ck_assert_uint_eq(cursor_u8(&c), 0);
	ck_assert_uint_eq(cursor_left(&c), 0);
	ck_assert(!cursor_end(&c));
	cursor_init(&c, "abc", 3);
	ck_assert_uint_eq(cursor_u32(&c), 0);
	ck_assert_uint_eq(cursor_u8(&c), 0);
	ck_assert(!cursor_end(&c));
	cursor_init(&c, "", 0);
	ck_assert(cursor_end(&c));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_buf");
	TCase *t = tcase_create("buf");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, grows);
	tcase_add_test_raise_signal(t, consumes_too_much, SIGABRT);
	tcase_add_test(t, reads_back);
	tcase_add_test(t, ends_at_every_byte);
	tcase_add_test(t, lying_lengths);
	tcase_add_test(t, strings_are_bounded);
	tcase_add_test(t, bad_is_for_good);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
