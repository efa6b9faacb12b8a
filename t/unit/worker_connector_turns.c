/*
 * worker_connector_turns.c - whose name the connector looks up next, and what one tenant may hold.
 */
#include <stdlib.h>
#include <string.h>

#include "t/unit/worker_mini.h"
#include "worker/connector.h"
#include "common/banned.h"

#define SHARE 2

static uint64_t peers;

/* One question of a peer of its own; what it asks for is the tenant's name. */
static uint64_t
add(const char *org_id)
{
	struct resolved *r = xcalloc(1, sizeof(*r));

	r->peer = ++peers;
	snprintf(r->host, sizeof(r->host), "%s", org_id);
	turns_add(r, org_id);
	return r->peer;
}

static void
done(struct resolved *r)
{
	turns_done(r);
	free(r);
}

/* Of that tenant, and by that peer; 0: any. */
static struct resolved *
expect(const char *org_id, uint64_t peer)
{
	struct resolved *r = turns_take(SHARE);

	ck_assert_ptr_nonnull(r);
	ck_assert_str_eq(r->host, org_id);
	if (peer)
		ck_assert_uint_eq(r->peer, peer);
	return r;
}

START_TEST(in_order)
{
	uint64_t one = add("a"), two = add("a");
	struct resolved *first, *second;

	first = expect("a", one);
	second = expect("a", two);
	ck_assert_ptr_null(turns_take(SHARE));
	done(second);
	done(first);
	/* nothing is left of it, and it may come again */
	done(expect("a", add("a")));
}
END_TEST

/* One that asks for much gets its share, and goes on with each that ends. */
START_TEST(a_share)
{
	struct resolved *hog[SHARE], *other;

	for (int i = 0; i < 5; i++)
		add("hog");
	for (int i = 0; i < SHARE; i++)
		hog[i] = expect("hog", 0);
	ck_assert_ptr_null(turns_take(SHARE));
	add("other");
	other = expect("other", 0);
	ck_assert_ptr_null(turns_take(SHARE));
	done(hog[0]);
	hog[0] = expect("hog", 0);
	ck_assert_ptr_null(turns_take(SHARE));
	done(other);
	ck_assert_ptr_null(turns_take(SHARE));
	done(hog[0]);
	done(hog[1]);
}
END_TEST

/* The fewest first; with equally few, whoever was served longest ago. */
START_TEST(fewest_first)
{
	struct resolved *r[6];

	for (int i = 0; i < 3; i++)
		add("a");
	r[0] = expect("a", 0);
	add("b");
	add("b");
	add("c");
	r[1] = expect("b", 0);
	r[2] = expect("c", 0);
	r[3] = expect("a", 0);
	r[4] = expect("b", 0);
	ck_assert_ptr_null(turns_take(SHARE));
	done(r[0]);
	r[5] = expect("a", 0);
	for (int i = 1; i < 6; i++)
		done(r[i]);
}
END_TEST

/* What nobody waits for any more takes no thread: the first, the last, one between, the only one. */
START_TEST(dropped)
{
	uint64_t p[5];
	struct resolved *r;

	for (int i = 0; i < 5; i++)
		p[i] = add("a");
	for (int i = 0; i < 5; i += 2) {
		r = turns_drop(p[i]);
		ck_assert_ptr_nonnull(r);
		ck_assert_uint_eq(r->peer, p[i]);
		free(r);
		ck_assert_ptr_null(turns_drop(p[i]));
	}
	add("b");
	r = turns_drop(peers);
	ck_assert_ptr_nonnull(r);
	free(r);
	r = expect("a", p[1]);
	/* one that is under way is not dropped */
	ck_assert_ptr_null(turns_drop(p[1]));
	done(r);
	add("a");
	done(expect("a", p[3]));
	done(expect("a", peers));
	ck_assert_ptr_null(turns_take(SHARE));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_connector_turns");
	TCase *t = tcase_create("turns");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, in_order);
	tcase_add_test(t, a_share);
	tcase_add_test(t, fewest_first);
	tcase_add_test(t, dropped);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
