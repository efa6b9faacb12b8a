/*
 * common_escape.c - unit of the escapes: well-formedness, replacement, each sink's table, and the promise that
 * holds for every input: no control byte comes out and JSON reads back as the text with U+FFFD for bad bytes.
 */
#include <check.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define FFFD "\xef\xbf\xbd"

static const struct {
	const char *in;
	const char *replaced;
} utf8[] = {
	{ "", "" }, { "plain", "plain" }, { "\xc3\xa9", "\xc3\xa9" }, { "\xe2\x82\xac", "\xe2\x82\xac" },
	{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" }, { "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
	{ "\xed\x9f\xbf", "\xed\x9f\xbf" }, { "\xee\x80\x80", "\xee\x80\x80" },
	/* as Python 3 decodes them with errors='replace' */
	{ "\xc3", FFFD }, { "\xc3" "a", FFFD "a" }, { "\xe2\x82", FFFD }, { "\xe2\x82" "a", FFFD "a" },
	{ "\xf0\x9f\x98", FFFD }, { "\xf0\x9f\x98\xe2\x82\xac", FFFD "\xe2\x82\xac" },
	{ "\xc0\xaf", FFFD FFFD }, { "\xe0\x80\xaf", FFFD FFFD FFFD }, { "\xed\xa0\x80", FFFD FFFD FFFD },
	{ "\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD }, { "\xff\xfe", FFFD FFFD }, { "\x80\x80", FFFD FFFD },
	{ "\xf8\x88\x80\x80\x80", FFFD FFFD FFFD FFFD FFFD }, { "\xe0\xa0", FFFD },
	{ "\xf0\x80\x80\x80", FFFD FFFD FFFD FFFD }, { "\xc1\xbf", FFFD FFFD }, { "\xf5\x80", FFFD FFFD },
	{ "a\xe2\x82\xc3\xa9z", "a" FFFD "\xc3\xa9z" },
};

START_TEST(well_formed)
{
	struct buf b = BUF_INIT;
	size_t n = strlen(utf8[_i].in);
	/* a copy that ends where the text ends, so that reading on is seen */
	char *copy = malloc(n ? n : 1);

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, utf8[_i].in, n);
	utf8_replace(&b, copy, n);
	ck_assert_str_eq(buf_str(&b), utf8[_i].replaced);
	ck_assert_int_eq(utf8_valid(copy, n), !strcmp(utf8[_i].in, utf8[_i].replaced));
	free(copy);
	buf_release(&b);
}
END_TEST

/* Every code point, encoded here by the definition, is taken exactly when it is a scalar value. */
START_TEST(every_code_point)
{
	uint32_t cp = 0;

	for (uint32_t c = 0x80; c < 0x120000; c++) {
		uint8_t s[4];
		int len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		bool good, scalar = c < 0x110000 && !(c >= 0xd800 && c < 0xe000);

		for (int i = len - 1; i; i--)
			s[i] = (uint8_t)(0x80 | (c >> (6 * (len - 1 - i)) & 0x3f));
		s[0] = (uint8_t)(0xf0 << (4 - len) | c >> (6 * (len - 1)));
		good = utf8_valid(s, (size_t)len) == scalar && !utf8_valid(s, (size_t)len - 1);
		if (scalar)
			good = utf8_step(s, (size_t)len, &cp) == len && cp == c && good;
		if (!good)
			ck_abort_msg("U+%04X", c);
	}
}
END_TEST

/* Wherever among ASCII a character stands, or the byte that is none. */
START_TEST(anywhere_in_ascii)
{
	char s[40];

	for (size_t n = 2; n <= sizeof(s); n++) {
		for (size_t i = 0; i + 2 <= n; i++) {
			memset(s, 'a', n);
			ck_assert(utf8_valid(s, n));
			memcpy(s + i, "\xc3\xa9", 2);
			ck_assert_msg(utf8_valid(s, n), "%zu of %zu", i, n);
			ck_assert_msg(!utf8_valid(s, i + 1), "cut at %zu of %zu", i, n);
			s[i + 1] = 'a';
			ck_assert_msg(!utf8_valid(s, n), "ill at %zu of %zu", i, n);
		}
	}
}
END_TEST

typedef void escape_fn(struct buf *, const void *, size_t);

static const struct {
	escape_fn *fn;
	const char *in, *out;
} rows[] = {
	{ escape_json, "", "\"\"" }, { escape_json, "a/b c", "\"a/b c\"" },
	{ escape_json, "q\"b\\", "\"q\\\"b\\\\\"" }, { escape_json, "\n\t\x1b\x7f", "\"\\u000a\\u0009\\u001b\\u007f\"" },
	{ escape_json, "\xc2\x85\xc2\x9b", "\"\\u0085\\u009b\"" }, { escape_json, "\xc2\xa0", "\"\xc2\xa0\"" },
	{ escape_json, "\xe2\x80\xa8\xe2\x80\xa9", "\"\\u2028\\u2029\"" },
	{ escape_json, "\xe2\x80\xae\xe2\x81\xa6\xd8\x9c\xe2\x80\x8f", "\"\\u202e\\u2066\\u061c\\u200f\"" },
	{ escape_json, "\xff\xc3\xa9", "\"" FFFD "\xc3\xa9\"" }, { escape_json, "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"" },
	{ escape_term, "plain \xc3\xa9", "plain \xc3\xa9" }, { escape_term, "a\\b", "a\\\\b" },
	{ escape_term, "\n\t\r\x1b[31m\x7f", "\\n\\t\\x0d\\x1b[31m\\x7f" }, { escape_term, "\xff\xe2\x82", "\\xff\\xe2\\x82" },
	{ escape_term, "\xc2\x9b" "31m", "\\u{009b}31m" }, { escape_term, "\xe2\x80\xae", "\\u{202e}" },
	{ escape_term, "\xe2\x81\xa9\xe2\x80\x8e", "\\u{2069}\\u{200e}" }, { escape_term, "\"'<&>", "\"'<&>" },
	{ escape_html, "<a href=\"x\">'&'</a>", "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;" },
	{ escape_html, "\x01\xff\xc2\x85", FFFD FFFD FFFD }, { escape_html, "\xe2\x80\xae" "x", FFFD "x" },
	{ escape_html, "\xc3\xa9 100%", "\xc3\xa9 100%" }, { escape_html, "\n", FFFD },
	{ escape_url_path, "/a-b_c.d~/E9", "/a-b_c.d~/E9" }, { escape_url_path, "a b?c#d%e", "a%20b%3Fc%23d%25e" },
	{ escape_url_path, "\xc3\xa9\xff\n", "%C3%A9%FF%0A" }, { escape_url_path, "a+b&c'd:e@f", "a%2Bb%26c%27d%3Ae%40f" },
	{ escape_url_path, "!$()*,;=", "!$()*,;=" }, { escape_url_path, "[a]\\\"<>", "%5Ba%5D%5C%22%3C%3E" },
	/* RFC 4648 section 10 */
	{ base64_encode, "", "" }, { base64_encode, "f", "Zg==" }, { base64_encode, "fo", "Zm8=" },
	{ base64_encode, "foo", "Zm9v" }, { base64_encode, "foob", "Zm9vYg==" }, { base64_encode, "fooba", "Zm9vYmE=" },
	{ base64_encode, "foobar", "Zm9vYmFy" }, { base64_encode, "\xfb\xff\xbf", "+/+/" },
};

START_TEST(table)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "before ");
	rows[_i].fn(&b, rows[_i].in, strlen(rows[_i].in));
	ck_assert(!strncmp(buf_str(&b), "before ", 7));
	ck_assert_str_eq(b.p + 7, rows[_i].out);
	buf_release(&b);
}
END_TEST

START_TEST(nul_bytes)
{
	struct buf b = BUF_INIT;

	escape_json(&b, "a\0b", 3);
	escape_term(&b, "a\0b", 3);
	escape_url_path(&b, "a\0b", 3);
	escape_html(&b, "\0", 1);
	ck_assert_str_eq(buf_str(&b), "\"a\\u0000b\"a\\x00ba%00b" FFFD);
	buf_release(&b);
}
END_TEST

START_TEST(base64_reads)
{
	static const struct {
		const char *in, *out; /* out NULL: refused */
	} t[] = {
		{ "", "" }, { "Zg==", "f" }, { "Zm8=", "fo" }, { "Zm9vYmFy", "foobar" }, { "+/+/", "\xfb\xff\xbf" },
		{ "Zg", NULL }, { "Zg=", NULL }, { "Zg=a", NULL }, { "Z===", NULL }, { "====", NULL }, { "Zh==", NULL },
		{ "Zm9=", NULL }, { "Zg==Zg==", NULL }, { "Zm9v ", NULL }, { " Zm9v", NULL }, { "Zm\nv", NULL },
		{ "Zm-_", NULL }, { "Zm9vZg=\n", NULL }, { "Zm\xc3v", NULL }, { "=m9v", NULL }, { "Zm9vZm9", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct buf b = BUF_INIT;
		int rc;

		buf_puts(&b, "+");
		rc = base64_decode(&b, t[i].in, strlen(t[i].in));
		ck_assert_msg(rc == (t[i].out ? 0 : -1), "'%s'", t[i].in);
		ck_assert_str_eq(buf_str(&b) + 1, t[i].out ? t[i].out : "");
		buf_release(&b);
	}
}
END_TEST

static uint32_t seed;

static size_t
random_bytes(uint8_t *p, size_t max)
{
	static const uint8_t likely[] = { 0xc2, 0x85, 0xe2, 0x80, 0xae, 0xa8, 0xed, 0xf4, '"', '\\', 0x1b, '<' };
	size_t n;

	seed = seed * 1664525 + 1013904223;
	n = (seed >> 8) % max;
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (seed >> 30) ? likely[(seed >> 8) % ARRAY_LEN(likely)] : (uint8_t)(seed >> 16);
	}
	return n;
}

/* One assertion a text: each costs Check a write. */
static void
check_safe(const struct buf *b)
{
	bool safe = utf8_valid(b->p, b->len);

	for (size_t i = 0; i < b->len; i++) {
		uint8_t c = (uint8_t)b->p[i], next = i + 1 < b->len ? (uint8_t)b->p[i + 1] : 0;

		if (c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0))
			safe = false;
	}
	if (b->len && (memmem(b->p, b->len, "\xe2\x80\xae", 3) || memmem(b->p, b->len, "\xe2\x80\xa8", 3)))
		safe = false;
	ck_assert_msg(safe, "%.*s", (int)b->len, b->p);
}

START_TEST(any_bytes)
{
	uint8_t in[200];

	seed = 7;
	for (int i = 0; i < 10000; i++) {
		size_t n = random_bytes(in, sizeof(in));
		struct buf json = BUF_INIT, term = BUF_INIT, html = BUF_INIT, want = BUF_INIT, raw = BUF_INIT;
		struct json_object *o;

		escape_json(&json, in, n);
		escape_term(&term, in, n);
		escape_html(&html, in, n);
		utf8_replace(&want, in, n);
		check_safe(&json);
		check_safe(&term);
		check_safe(&html);
		ck_assert(utf8_valid(want.p, want.len));
		o = json_tokener_parse(buf_str(&json));
		ck_assert(json_object_is_type(o, json_type_string));
		ck_assert_uint_eq((size_t)json_object_get_string_len(o), want.len);
		ck_assert(!want.len || !memcmp(json_object_get_string(o), want.p, want.len));
		json_object_put(o);
		buf_clear(&want);
		base64_encode(&want, in, n);
		ck_assert_int_eq(base64_decode(&raw, want.p, want.len), 0);
		ck_assert_uint_eq(raw.len, n);
		ck_assert(!n || !memcmp(raw.p, in, n));
		buf_release(&json);
		buf_release(&term);
		buf_release(&html);
		buf_release(&want);
		buf_release(&raw);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_escape");
	TCase *t = tcase_create("escape");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, well_formed, 0, (int)ARRAY_LEN(utf8));
	tcase_add_test(t, every_code_point);
	tcase_add_test(t, anywhere_in_ascii);
	tcase_add_loop_test(t, table, 0, (int)ARRAY_LEN(rows));
	tcase_add_test(t, nul_bytes);
	tcase_add_test(t, base64_reads);
	tcase_add_test(t, any_bytes);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
