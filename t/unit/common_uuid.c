/*
 * common_uuid.c - unit of the name-based UUIDs and SHA-256. The wanted values were computed with Python's hashlib:
 * sha1(namespace, then for each part its length in 4 big-endian bytes and its bytes), version and variant set.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/uuid.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const uint8_t ns_dns[16] = {
	0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
};

#define PART(s) { s, sizeof(s) - 1 }

START_TEST(vectors)
{
	static const struct {
		const uint8_t *ns;
		struct uuid_part part[2];
		size_t n;
		const char *text;
	} t[] = {
		{ uuid_ns_poller, { { NULL, 0 } }, 0, "22b5c218-9b59-5915-a108-13ef23484af6" },
		{ uuid_ns_poller, { { NULL, 0 } }, 1, "ce13c5e3-18e1-506c-9bcc-161eae2ea3e8" },
		{ uuid_ns_poller, { PART("ab"), PART("c") }, 2, "b7073c8f-7c23-54f2-827a-53125e411314" },
		{ uuid_ns_poller, { PART("a"), PART("bc") }, 2, "8250465d-e20c-5744-b736-bc09250680a7" },
		{ uuid_ns_poller, { PART("abc") }, 1, "aabc3b62-0a2d-59c1-9467-afab0924ef93" },
		{ ns_dns, { PART("www.example.com") }, 1, "402aca09-285f-50f7-961d-0cce238c5bd5" },
	};
	char text[UUID_TEXT];

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		uuid5(t[i].ns, t[i].part, t[i].n, text);
		ck_assert_str_eq(text, t[i].text);
	}
}
END_TEST

START_TEST(large_parts)
{
	uint8_t all[256];
	char *x = malloc(100000), text[UUID_TEXT];
	struct uuid_part part[] = { { all, 256 }, { "", 1 }, { x, 100000 } };

	ck_assert_ptr_nonnull(x);
	for (int i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	memset(x, 'x', 100000);
	uuid5(uuid_ns_poller, part, 3, text);
	ck_assert_str_eq(text, "0345d83f-bf63-5cf3-95dd-ffca21c99091");
	free(x);
}
END_TEST

START_TEST(digests)
{
	uint8_t all[256];
	char out[65], *a = malloc(1000000);

	ck_assert_ptr_nonnull(a);
	memset(a, 'a', 1000000);
	for (int i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	sha256_hex(NULL, 0, out);
	ck_assert_str_eq(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_hex("abc", 3, out);
	ck_assert_str_eq(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_hex(a, 1000000, out);
	ck_assert_str_eq(out, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	sha256_hex(all, 256, out);
	ck_assert_str_eq(out, "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880");
	free(a);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_uuid");
	TCase *t = tcase_create("uuid");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, vectors);
	tcase_add_test(t, large_parts);
	tcase_add_test(t, digests);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
