/*
 * master_schedule.c - unit tests of schedule.c: overtaking, guaranteed turns, tenants' turns, fresh workers.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/master.h"

struct item { struct jobrec rec; struct job job; struct source_conf source; struct task task; char org[16]; };

static struct item *
item_of(struct sched *s, enum source_type type, enum job_priority p, const char *org, bool alone)
{
	struct item *i = xcalloc(1, sizeof(*i));

	i->source.type = type;
	i->job.sources = &i->source;
	i->job.n_sources = 1;
	snprintf(i->org, sizeof(i->org), "%s", org);
	i->job.priority = p;
	i->rec.job = &i->job;
	i->rec.org_id = i->org;
	i->task.job = &i->rec;
	i->task.alone = alone;
	sched_push(s, &i->task);
	return i;
}

static struct item *
item(struct sched *s, enum job_priority p, const char *org, bool alone)
{
	return item_of(s, SOURCE_LOCAL, p, org, alone);
}

static struct item *
pop_of(struct sched *s, enum worker_role role, bool fresh)
{
	struct task *t = fresh ? sched_pop_alone(s, 0, role) : NULL;

	if (!t)
		t = sched_pop(s, 0, role, "");

	return t ? (struct item *)((char *)t - offsetof(struct item, task)) : NULL;
}

static struct item *
pop(struct sched *s, bool fresh)
{
	return pop_of(s, ROLE_LOCAL, fresh);
}

START_TEST(high_overtakes_a_thousand_normal)
{
	struct sched *s = sched_new(NULL, 1);
	struct item *high, *got;
	int turns = 0;

	for (int i = 0; i < 1000; i++)
		item(s, PRIORITY_NORMAL, "a", false);
	free(pop(s, false));
	high = item(s, PRIORITY_HIGH, "a", false);
	ck_assert_uint_eq(sched_depth(s, PRIORITY_HIGH), 1);
	/* At most the turns kept for normal jobs come before it. */
	do {
		got = pop(s, false);
		turns++;
		if (got != high)
			free(got);
	} while (got != high);
	ck_assert_int_le(turns, 2);
	free(got);
	ck_assert_uint_eq(sched_depth(s, PRIORITY_HIGH), 0);
	while ((got = pop(s, false)))
		free(got);
	sched_free(s);
}
END_TEST

START_TEST(low_starts_within_ten_turns)
{
	struct sched *s = sched_new(NULL, 1);

	for (int round = 0; round < 50; round++) {
		struct item *low, *got;
		int turns = 0;

		for (int i = 0; i < 40; i++) {
			item(s, PRIORITY_HIGH, "a", false);
			item(s, PRIORITY_NORMAL, "a", false);
		}
		low = item(s, PRIORITY_LOW, "a", false);
		do {
			got = pop(s, false);
			turns++;
			free(got);
		} while (got != low);
		ck_assert_int_le(turns, 10);
	}
	for (struct item *got; (got = pop(s, false));)
		free(got);
	sched_free(s);
}
END_TEST

START_TEST(tenants_take_turns)
{
	struct sched *s = sched_new(NULL, 1);
	int a = 0, b = 0;

	for (int i = 0; i < 100; i++)
		item(s, PRIORITY_NORMAL, "greedy", false);
	for (int i = 0; i < 5; i++)
		item(s, PRIORITY_NORMAL, "modest", false);
	for (int i = 0; i < 10; i++) {
		struct item *got = pop(s, false);

		a += !strcmp(got->org, "greedy");
		b += !strcmp(got->org, "modest");
		free(got);
	}
	ck_assert_int_eq(a, 5);
	ck_assert_int_eq(b, 5);
	for (struct item *got; (got = pop(s, false));)
		free(got);
	sched_free(s);
}
END_TEST

START_TEST(turns_by_weight)
{
	static const char text[] = "tenants: {a: {weight: 3}, b: {weight: 1}, c: {weight: 2}}\n";
	struct config_args args = { .file = NULL };
	struct config_set set;
	struct master m;
	struct sched *s;
	struct item *got;
	int n[3] = { 0 };

	ck_assert_int_eq(config_load_text(&set, "t.yaml", text, strlen(text), &args), 0);
	memset(&m, 0, sizeof(m));
	m.cfg = &set.c;
	s = sched_new(&m, 1);
	for (int i = 0; i < 300; i++) {
		item(s, PRIORITY_NORMAL, "a", false);
		item(s, PRIORITY_NORMAL, "b", false);
	}
	/* One that comes later has no arrears to make up. */
	for (int i = 0; i < 240; i++) {
		if (i == 120)
			for (int k = 0; k < 300; k++)
				item(s, PRIORITY_NORMAL, "c", false);
		got = pop(s, false);
		if (!got)
			break;
		n[got->org[0] - 'a']++;
		if (i == 119) {
			ck_assert_int_ge(n[0], 89);
			ck_assert_int_le(n[0], 91);
		}
		free(got);
	}
	/* 120 turns more, 3 : 1 : 2 */
	ck_assert_int_ge(n[0], 148);
	ck_assert_int_le(n[0], 152);
	ck_assert_int_ge(n[2], 38);
	ck_assert_int_le(n[2], 42);
	while ((got = pop(s, false)))
		free(got);
	sched_free(s);
	config_set_release(&set);
}
END_TEST

START_TEST(order_of_arrival_within_a_tenant)
{
	struct sched *s = sched_new(NULL, 1);
	struct item *in[5];

	for (int i = 0; i < 5; i++)
		in[i] = item(s, PRIORITY_LOW, "a", false);
	for (int i = 0; i < 5; i++) {
		ck_assert_ptr_eq(pop(s, false), in[i]);
		free(in[i]);
	}
	ck_assert_ptr_null(pop(s, false));
	sched_free(s);
}
END_TEST

START_TEST(alone_waits_for_a_fresh_worker)
{
	struct sched *s = sched_new(NULL, 1);
	struct item *alone = item(s, PRIORITY_NORMAL, "a", true), *other = item(s, PRIORITY_HIGH, "a", false);

	ck_assert(sched_wants_fresh(s, 0, ROLE_LOCAL));
	ck_assert_ptr_eq(pop(s, false), other);
	ck_assert_ptr_null(pop(s, false));
	ck_assert_ptr_eq(pop(s, true), alone);
	ck_assert(!sched_wants_fresh(s, 0, ROLE_LOCAL));
	free(alone);
	free(other);
	sched_free(s);
}
END_TEST

START_TEST(removed_is_not_popped)
{
	struct sched *s = sched_new(NULL, 1);
	struct item *a = item(s, PRIORITY_NORMAL, "a", false), *b = item(s, PRIORITY_NORMAL, "b", false);
	struct item *c = item(s, PRIORITY_NORMAL, "a", true);

	sched_remove(s, &a->task);
	sched_remove(s, &c->task);
	ck_assert(!sched_wants_fresh(s, 0, ROLE_LOCAL));
	ck_assert_ptr_eq(pop(s, true), b);
	ck_assert_ptr_null(pop(s, true));
	ck_assert_uint_eq(sched_depth(s, PRIORITY_NORMAL), 0);
	free(a);
	free(b);
	free(c);
	sched_free(s);
}
END_TEST

START_TEST(a_role_holds_up_no_other)
{
	struct sched *s = sched_new(NULL, 1);
	struct item *net[20], *alone, *low;

	for (int i = 0; i < 20; i++)
		net[i] = item_of(s, SOURCE_FTP, PRIORITY_HIGH, "a", false);
	alone = item_of(s, SOURCE_S3, PRIORITY_HIGH, "a", true);
	low = item_of(s, SOURCE_DUMMY, PRIORITY_LOW, "a", false);
	ck_assert_uint_eq(sched_waiting(s, 0, ROLE_NETWORK), 21);
	ck_assert_uint_eq(sched_waiting(s, 0, ROLE_LOCAL), 1);
	ck_assert_uint_eq(sched_waiting(s, 0, ROLE_CREDENTIALS), 0);
	ck_assert_uint_eq(sched_depth(s, PRIORITY_HIGH), 21);
	ck_assert_uint_eq(sched_depth(s, PRIORITY_LOW), 1);
	ck_assert(!sched_wants_fresh(s, 0, ROLE_LOCAL));
	ck_assert(sched_wants_fresh(s, 0, ROLE_NETWORK));
	ck_assert_ptr_eq(pop_of(s, ROLE_LOCAL, true), low);
	ck_assert_ptr_null(pop_of(s, ROLE_LOCAL, true));
	ck_assert_ptr_null(pop_of(s, ROLE_CREDENTIALS, true));
	sched_remove(s, &net[7]->task);
	for (int i = 0; i < 20; i++)
		if (i != 7)
			ck_assert_ptr_eq(pop_of(s, ROLE_NETWORK, false), net[i]);
	ck_assert_ptr_null(pop_of(s, ROLE_NETWORK, false));
	ck_assert_ptr_eq(pop_of(s, ROLE_NETWORK, true), alone);
	ck_assert_uint_eq(sched_depth(s, PRIORITY_HIGH), 0);
	for (int i = 0; i < 20; i++)
		free(net[i]);
	free(alone);
	free(low);
	sched_free(s);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("schedule");
	TCase *tc = tcase_create("schedule");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, high_overtakes_a_thousand_normal);
	tcase_add_test(tc, low_starts_within_ten_turns);
	tcase_add_test(tc, tenants_take_turns);
	tcase_add_test(tc, turns_by_weight);
	tcase_add_test(tc, order_of_arrival_within_a_tenant);
	tcase_add_test(tc, alone_waits_for_a_fresh_worker);
	tcase_add_test(tc, removed_is_not_popped);
	tcase_add_test(tc, a_role_holds_up_no_other);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
