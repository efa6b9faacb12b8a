/*
 * master_intake.c - unit tests of intake.c and of the glance that says whose line a message goes to.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/job.h"
#include "common/xalloc.h"
#include "master/intake.h"
#include "common/banned.h"

/* Never looked into. */
static char place[20000];

static void
put(struct intake *in, const char *tenant, size_t i)
{
	intake_put(in, tenant, tenant ? strlen(tenant) : 0, &(struct intake_item){ .msg = (rd_kafka_message_t *)(void *)&place[i], .epoch = (uint32_t)i }, 10);
}

static size_t
next(struct intake *in)
{
	struct intake_item item;

	ck_assert(intake_next(in, &item));
	ck_assert_ptr_eq((char *)item.msg, &place[item.epoch]);
	return item.epoch;
}

/* No byte behind its end is looked at: the sanitizers see to that. */
static char *
copy_of(const char *message, size_t n)
{
	char *copy = xcalloc(n ? n : 1, 1);

	memcpy(copy, message, n);
	return copy;
}

START_TEST(turns)
{
	struct intake *in = intake_new();
	struct intake_item item;

	for (size_t i = 0; i < 10000; i++)
		put(in, "noisy", i);
	put(in, "quiet", 10000);
	put(in, NULL, 10001);
	put(in, "quiet", 10002);
	put(in, "", 10003);
	ck_assert_uint_eq(intake_count(in), 10004);
	ck_assert_uint_eq(intake_bytes(in), 100040);
	ck_assert_uint_eq(next(in), 0);
	ck_assert_uint_eq(next(in), 10000);
	ck_assert_uint_eq(next(in), 10001);
	/* One that comes now waits for one of each. */
	put(in, "newcomer", 10004);
	ck_assert_uint_eq(next(in), 1);
	ck_assert_uint_eq(next(in), 10002);
	ck_assert_uint_eq(next(in), 10003);
	ck_assert_uint_eq(next(in), 10004);
	for (size_t i = 2; i < 10000; i++)
		ck_assert_uint_eq(next(in), i);
	ck_assert_uint_eq(intake_count(in), 0);
	ck_assert_uint_eq(intake_bytes(in), 0);
	ck_assert(!intake_next(in, &item));
	/* It begins anew. */
	put(in, "quiet", 1);
	ck_assert_uint_eq(next(in), 1);
	intake_free(in);
}
END_TEST

static const struct { const char *message, *tenant; } glances[] = {
	{ "{\"org_id\":\"a\"}", "a" },
	{ " { \"job_id\" : \"x\" , \"org_id\"\t:\n\"acme corp\" , \"n\": 1}", "acme corp" },
	{ "{\"metadata\":{\"org_id\":\"other\"},\"list\":[\"org_id\",\"b\"],\"org_id\":\"mine\"}", "mine" },
	{ "{\"x\":\"org_id\",\"y\":\"a\",\"org_id\":\"b\"}", "b" },
	{ "{\"x\":\"\\\",\\\"org_id\\\":\\\"c\\\"\",\"org_id\":\"d\"}", "d" },
	{ "{\"org_id\":\"\"}", "" },
	{ "{\"org_id\":1,\"x\":\"y\"}", NULL },
	{ "{\"org_id\":null}", NULL },
	{ "{\"org_id\":{\"a\":\"b\"}}", NULL },
	{ "{\"org_id\":[\"b\"],\"c\":\"d\"}", NULL },
	{ "{\"org_id\":\"a\\u0041\"}", NULL },
	{ "{\"org_id\":\"a", NULL },
	{ "{\"org_id\":\"a\\\"", NULL },
	{ "{\"org_id\"", NULL },
	{ "{\"org_id\":", NULL },
	{ "{\"org_ids\":\"a\"}", NULL },
	{ "[\"org_id\",\"a\"]", NULL },
	{ "[{\"org_id\":\"a\"}]", NULL },
	{ "\"org_id\":\"a\"", NULL },
	{ "}{\"org_id\":\"a\"}", NULL },
	{ "{}", NULL },
	{ "", NULL },
	{ "\\", NULL },
	{ "{\"", NULL },
	{ "{\"\\", NULL },
};

START_TEST(glance)
{
	size_t n = strlen(glances[_i].message), len = 0;
	char *copy = copy_of(glances[_i].message, n);
	const char *tenant = job_glance_tenant(copy, n, &len);

	if (!glances[_i].tenant) {
		ck_assert_ptr_null(tenant);
	} else {
		ck_assert_ptr_nonnull(tenant);
		ck_assert_uint_eq(len, strlen(glances[_i].tenant));
		ck_assert_mem_eq(tenant, glances[_i].tenant, len);
	}
	free(copy);
}
END_TEST

/* Every beginning of every message, each byte of it replaced in turn. */
START_TEST(glance_at_anything)
{
	static const char with[] = "\"\\{}[],:a";
	const char *message = glances[_i].message;
	size_t len;

	for (size_t n = 0; n <= strlen(message); n++)
		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; k < sizeof(with); k++) {
				char *copy = copy_of(message, n);
				const char *tenant;

				copy[i] = with[k];
				tenant = job_glance_tenant(copy, n, &len);
				if (tenant)
					ck_assert(tenant > copy && tenant + len < copy + n && tenant[-1] == '"' && tenant[len] == '"');
				free(copy);
			}
}
END_TEST

START_TEST(glance_is_bounded)
{
	size_t n = 1 << 20, len;
	char *text = xcalloc(1, n);

	memset(text, ' ', n);
	text[0] = '{';
	memcpy(text + 65000, "\"org_id\":\"a\"", 12);
	ck_assert_ptr_nonnull(job_glance_tenant(text, n, &len));
	memset(text + 65000, ' ', 12);
	memcpy(text + 65530, "\"org_id\":\"a\"", 12);
	ck_assert_ptr_null(job_glance_tenant(text, n, &len));
	free(text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("master_intake");
	TCase *t = tcase_create("intake");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, turns);
	tcase_add_loop_test(t, glance, 0, (int)ARRAY_LEN(glances));
	tcase_add_loop_test(t, glance_at_anything, 0, (int)ARRAY_LEN(glances));
	tcase_add_test(t, glance_is_bounded);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
