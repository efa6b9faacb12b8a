/*
 * worker_dummy.c - the source dummy: shapes, sizes and times of generated files, real files, injected errors.
 * Faults that end or break a worker are in worker_run.c, where there is one to break.
 */
#include "t/unit/worker_mini.h"
#include "common/banned.h"

static struct task_spec task;
static struct listing got, again;

/* As the master's parser fills them in: every default set. */
static void
generator(int64_t files)
{
	mini_task(&task, SOURCE_DUMMY, "");
	mini_set(&task, SF_DUMMY_FILES, files);
	mini_set(&task, SF_DUMMY_SIZE, 1024);
	mini_set(&task, SF_DUMMY_MTIME, INT64_C(1704067200000000000));
	mini_set(&task, SF_DUMMY_FANOUT, 10);
	mini_str(&task, SF_DUMMY_NAME_TEMPLATE, "file_{index}.csv");
}

static void
release(void)
{
	listing_release(&got);
	listing_release(&again);
	task_spec_release(&task);
}

static void
list(void)
{
	listing_release(&got);
	mini_list(&task, &got);
}

START_TEST(plain)
{
	struct seen *s;

	generator(3);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, 3);
	s = must_find(&got, "file_2.csv");
	ck_assert_str_eq(s->path, "/generated/file_2.csv");
	ck_assert_int_eq(s->size, 1024);
	ck_assert_int_eq(s->mtime_ns, INT64_C(1704067202000000000));
	ck_assert_str_eq(s->attr[SA_DUMMY_GENERATOR], "index");
	ck_assert_str_eq(s->attr[SA_DUMMY_INDEX], "2");
	ck_assert_str_eq(s->attr[SA_DUMMY_SEED], "0");
	ck_assert_ptr_null(s->attr[SA_DUMMY_INODE]);
	release();
}
END_TEST

START_TEST(none_at_all)
{
	generator(0);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, 0);
	ck_assert_uint_eq(got.done.spool_bytes, 0);
	release();
}
END_TEST

static const struct { int depth, fanout, recursive, max_depth, min_depth; const char *exclude; size_t want; } shapes[] = {
	{ 0, 10, 0, 0, 0, NULL, 300 }, { 2, 10, 1, 0, 0, NULL, 300 }, { 2, 10, 0, 0, 0, NULL, 100 },
	{ 2, 10, 1, 1, 0, NULL, 200 }, { 2, 10, 1, 0, 2, NULL, 100 }, { 2, 2, 1, 0, 0, "d1", 175 },
	{ 99, 100000, 1, 0, 0, NULL, 300 }, { 2, 1, 1, 0, 0, "d0", 100 },
};

START_TEST(shape)
{
	generator(300);
	mini_set(&task, SF_DUMMY_DEPTH, shapes[_i].depth);
	mini_set(&task, SF_DUMMY_FANOUT, shapes[_i].fanout);
	mini_set(&task, SF_COMMON_RECURSIVE, shapes[_i].recursive);
	mini_set(&task, SF_COMMON_MAX_DEPTH, shapes[_i].max_depth);
	mini_set(&task, SF_COMMON_MIN_DEPTH, shapes[_i].min_depth);
	if (shapes[_i].exclude)
		strlist_add(&task.filter.exclude_dirs, shapes[_i].exclude);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, shapes[_i].want);
	for (size_t i = 1; i < got.n; i++)
		ck_assert_str_ne(got.v[i - 1].path, got.v[i].path);
	release();
}
END_TEST

START_TEST(seed_repeats_itself)
{
	size_t differ = 0;

	generator(200);
	mini_set(&task, SF_DUMMY_SEED, 7);
	list();
	mini_list(&task, &again);
	for (size_t i = 0; i < got.n; i++) {
		ck_assert_int_eq(got.v[i].size, again.v[i].size);
		ck_assert_int_eq(got.v[i].mtime_ns, again.v[i].mtime_ns);
		ck_assert(got.v[i].size >= 0 && got.v[i].size <= 2048);
	}
	mini_set(&task, SF_DUMMY_SEED, 8);
	list();
	for (size_t i = 0; i < got.n; i++)
		differ += got.v[i].size != again.v[i].size;
	ck_assert_uint_gt(differ, 150);
	release();
}
END_TEST

START_TEST(names)
{
	generator(2);
	mini_str(&task, SF_DUMMY_NAME_TEMPLATE, "a{index}b{index}{inde}\xff.txt");
	list();
	ck_assert_ptr_nonnull(find_rel(&got, "a1b1{inde}\xff.txt"));
	mini_str(&task, SF_DUMMY_NAME_TEMPLATE, "same");
	list();
	ck_assert_uint_eq(got.n, 2);
	release();
}
END_TEST

START_TEST(filters)
{
	generator(100);
	mini_set(&task, SF_DUMMY_SEED, 1);
	task.filter.min_size = 1000;
	strlist_add(&task.filter.exclude, "*7.csv");
	list();
	ck_assert_uint_gt(got.n, 0);
	ck_assert_uint_lt(got.n, 90);
	ck_assert_uint_eq(got.done.listed, 100);
	ck_assert_uint_eq(got.done.matched + got.done.skipped, 100);
	for (size_t i = 0; i < got.n; i++)
		ck_assert_int_ge(got.v[i].size, 1000);
	release();
}
END_TEST

START_TEST(cut)
{
	generator(100000000);
	task.filter.max_files = 10;
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, 10);
	ck_assert(got.done.truncated);
	release();
}
END_TEST

START_TEST(rate_and_delay)
{
	int64_t start = run_clock(), took;

	generator(20);
	mini_set(&task, SF_DUMMY_RATE, 100);
	mini_set(&task, SF_DUMMY_DELAY, 100);
	list();
	took = run_clock() - start;
	ck_assert_int_eq(got.done.cls, ERR_OK);
	/* 100 ms, then the 20th after 190 ms; nothing is asked about slowness */
	ck_assert_int_ge(took, 290000000);
	release();
}
END_TEST

static const struct { const char *error; int files, after, attempts, attempt; enum err_class want; } faults[] = {
	{ "transient", 10, 0, 0, 1, ERR_TRANSIENT }, { "transient", 10, 5, 0, 1, ERR_TRANSIENT },
	{ "auth", 10, 10, 0, 1, ERR_AUTH }, { "auth", 10, 11, 0, 1, ERR_OK },
	{ "timeout", 10, 0, 2, 2, ERR_TIMEOUT }, { "timeout", 10, 0, 2, 3, ERR_OK },
	{ "spool_full", 10, 3, 1, 1, ERR_SPOOL_FULL }, { "listing_loop", 10, 3, 0, 9, ERR_LISTING_LOOP },
	{ "worker_crash", 10, 0, 0, 1, ERR_UNSUPPORTED }, { "kafka", 10, 0, 0, 1, ERR_UNSUPPORTED },
	{ "ok", 10, 0, 0, 1, ERR_UNSUPPORTED }, { "cancelled", 10, 0, 0, 1, ERR_UNSUPPORTED },
	{ "nonsense", 10, 0, 0, 1, ERR_UNSUPPORTED },
};

START_TEST(errors_by_class)
{
	generator(faults[_i].files);
	mini_str(&task, SF_DUMMY_ERROR, faults[_i].error);
	mini_set(&task, SF_DUMMY_FAIL_AFTER, faults[_i].after);
	mini_set(&task, SF_DUMMY_ATTEMPTS, faults[_i].attempts);
	task.attempt = (uint32_t)faults[_i].attempt;
	list();
	ck_assert_msg(got.done.cls == faults[_i].want, "%s: %s", err_name(got.done.cls), got.done.text);
	if (got.done.cls != ERR_UNSUPPORTED && got.done.cls != ERR_OK)
		ck_assert_uint_eq(got.done.listed, (uint64_t)faults[_i].after);
	release();
}
END_TEST

START_TEST(faults_need_leave)
{
	struct setup s;

	setup_init(&s);
	s.open_files = 64;
	generator(5);
	mini_str(&task, SF_DUMMY_ERROR, "transient");
	mini_list_with(&task, &s, &got);
	ck_assert_int_eq(got.done.cls, ERR_POLICY);
	listing_release(&got);
	task.source.v[SF_DUMMY_ERROR].set = false;
	mini_set(&task, SF_DUMMY_CRASH, 0);
	mini_list_with(&task, &s, &got);
	ck_assert_int_eq(got.done.cls, ERR_POLICY);
	release();
}
END_TEST

START_TEST(real_files)
{
	char dir[] = "/tmp/dummy.XXXXXX", *p;
	struct seen *s;
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	p = xasprintf("%s/sample.csv", dir);
	f = fopen(p, "w");
	fputs("a,b\n", f);
	fclose(f);
	mini_task(&task, SOURCE_DUMMY, dir);
	list();
	ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
	s = must_find(&got, "sample.csv");
	ck_assert_str_eq(s->path, p);
	ck_assert_int_eq(s->size, 4);
	ck_assert_str_eq(s->attr[SA_DUMMY_ROOT], dir);
	ck_assert_ptr_nonnull(s->attr[SA_DUMMY_INODE]);
	ck_assert_ptr_nonnull(s->attr[SA_DUMMY_MODE]);
	mini_str(&task, SF_DUMMY_ERROR, "transient");
	mini_set(&task, SF_DUMMY_FAIL_AFTER, 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_TRANSIENT);
	ck_assert_uint_eq(got.done.matched, 1);
	unlink(p);
	rmdir(dir);
	free(p);
	release();
}
END_TEST

START_TEST(types_of_later)
{
	for (int type = 0; type < SOURCE__MAX; type++) {
		const struct source *src = source_find((enum source_type)type);

		ck_assert_int_eq(src == NULL, source_rows[type].later);
		if (src)
			ck_assert_str_eq(src->name, source_rows[type].name);
	}
	ck_assert_ptr_null(source_find(SOURCE__MAX));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_dummy");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, plain);
	tcase_add_test(t, none_at_all);
	tcase_add_loop_test(t, shape, 0, sizeof(shapes) / sizeof(shapes[0]));
	tcase_add_test(t, seed_repeats_itself);
	tcase_add_test(t, names);
	tcase_add_test(t, filters);
	tcase_add_test(t, cut);
	tcase_add_test(t, rate_and_delay);
	tcase_add_loop_test(t, errors_by_class, 0, sizeof(faults) / sizeof(faults[0]));
	tcase_add_test(t, faults_need_leave);
	tcase_add_test(t, real_files);
	tcase_add_test(t, types_of_later);
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
