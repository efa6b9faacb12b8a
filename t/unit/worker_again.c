/*
 * worker_again.c - a listing that begins anew is told, whatever its length; one that only looks like it is not.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "worker/source/again.h"
#include "common/banned.h"

/* So many pieces of a ring of `ring` names, `pad` bytes longer than their number, until it is told; -1: never. */
static int
told_at(int ring, int pad, int pieces)
{
	struct again a = { .n = 0 };
	char name[2200];

	for (int i = 0; i < pieces; i++) {
		int n = snprintf(name, sizeof(name), "%06d%0*d", i % ring, pad, 0);

		if (again_begins(&a, name, (size_t)n))
			return i;
	}
	return -1;
}

START_TEST(rings)
{
	/* the first 64 are kept, and come again after the ring's end */
	ck_assert_int_eq(told_at(10, 1, 10000), 70 + 63);
	ck_assert_int_eq(told_at(1, 1, 10000), 64 + 63);
	ck_assert_int_eq(told_at(64, 1, 10000), 64 + 63);
	ck_assert_int_eq(told_at(1000, 1, 10000), 1000 + 63);
	/* long names: as many as there is room for */
	ck_assert_int_eq(told_at(1000, 250, 10000), 1000 + 7);
	ck_assert_int_eq(told_at(1000, 2040, 10000), 1000);
}
END_TEST

START_TEST(no_rings)
{
	ck_assert_int_eq(told_at(1000000, 1, 300000), -1);
	/* fewer than are kept, then the end */
	ck_assert_int_eq(told_at(10, 1, 64), -1);
	/* longer than the room: nothing is known of it */
	ck_assert_int_eq(told_at(10, 2100, 1000), -1);
}
END_TEST

START_TEST(some_names_twice_are_no_ring)
{
	struct again a = { .n = 0 };
	char name[16];

	for (int round = 0; round < 100; round++)
		for (int i = 0; i < 200; i++) {
			/* the first 63 as before, another in between */
			int n = snprintf(name, sizeof(name), "%d", i == 63 ? 1000 + round : i < 63 ? i : 10000 + round * 200 + i);

			ck_assert(!again_begins(&a, name, (size_t)n));
		}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("again");
	TCase *tc = tcase_create("again");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, rings);
	tcase_add_test(tc, no_rings);
	tcase_add_test(tc, some_names_twice_are_no_ring);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
