/*
 * worker_stable.c - unit of stable.c: what counts as the same file, over several passes, and how many it takes.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"
#include "common/xalloc.h"
#include "common/banned.h"

static struct err e;

static struct record
sample(const char *path)
{
	struct record r;

	record_init(&r);
	r.path = path;
	r.path_n = strlen(path);
	r.size = 5;
	r.mtime_ns = 77;
	r.precision = MTIME_S;
	r.version = "v1";
	r.version_n = 2;
	return r;
}

static void change_nothing(struct record *r) { (void)r; }
static void change_path(struct record *r) { r->path = "/b"; }
static void change_size(struct record *r) { r->size++; }
static void change_time(struct record *r) { r->mtime_ns--; }
static void change_precision(struct record *r) { r->precision = MTIME_MIN; }
static void change_version(struct record *r) { r->version = "v2"; }
static void change_weak(struct record *r) { r->version = "W/v1"; r->version_n = 4; }
static void change_no_version(struct record *r) { r->version = NULL; r->version_n = 0; }
static void change_kind(struct record *r) { r->kind = FILE_DIR; }
static void change_split(struct record *r) { r->path = "/av"; r->path_n = 3; r->version = "1"; r->version_n = 1; }
static void change_checksum(struct record *r) { r->checksum = "x"; r->checksum_n = 1; }
static void change_attrs(struct record *r) { r->n_attrs = 1; r->attrs[0] = (struct record_attr){ .is_int = true, .i = 3 }; }

static const struct { void (*f)(struct record *); int same; } changes[] = {
	{ change_nothing, 1 }, { change_path, 0 }, { change_size, 0 }, { change_time, 0 }, { change_precision, 0 }, { change_version, 0 },
	{ change_no_version, 0 }, { change_weak, 1 }, { change_kind, 0 }, { change_split, 0 }, { change_checksum, 1 }, { change_attrs, 1 },
};

START_TEST(the_same_file)
{
	struct record r = sample("/a");
	struct stable *s = stable_new(1);

	ck_assert(stable_next(s));
	ck_assert(!stable_is_last(s));
	ck_assert_int_eq(stable_look(s, &r, &e), 1);
	ck_assert(stable_next(s));
	ck_assert(stable_is_last(s));
	changes[_i].f(&r);
	ck_assert_int_eq(stable_look(s, &r, &e), changes[_i].same);
	ck_assert(!stable_next(s));
	stable_free(s);
}
END_TEST

/* In every pass: "1101" is a file that the third did not see. */
static const struct { const char *seen; int reported; } passes[] = {
	{ "1111", 1 }, { "1101", 0 }, { "1011", 0 }, { "0111", 0 }, { "0001", 0 }, { "1001", 0 },
};

START_TEST(every_pass)
{
	struct record r = sample("/a"), other = sample("/b");
	struct stable *s = stable_new(3);
	int last = 0, n = 0;

	while (stable_next(s)) {
		/* twice in one listing is no less */
		for (int k = 0; passes[_i].seen[n] == '1' && k < 2; k++)
			last = stable_look(s, &r, &e);
		ck_assert_int_eq(stable_look(s, &other, &e), 1);
		n++;
	}
	ck_assert_int_eq(n, 4);
	ck_assert_int_eq(last, passes[_i].reported);
	stable_free(s);
}
END_TEST

/* A size or a version tells; without both nothing does, but of what has no content. */
START_TEST(what_cannot_be_told)
{
	struct record r = sample("/a");
	struct stable *s = stable_new(1);

	stable_next(s);
	r.size = -1;
	ck_assert_int_eq(stable_look(s, &r, &e), 1);
	r.version = NULL;
	ck_assert_int_eq(stable_look(s, &r, &e), 0);
	r.kind = FILE_DIR;
	ck_assert_int_eq(stable_look(s, &r, &e), 1);
	stable_next(s);
	ck_assert_int_eq(stable_look(s, &r, &e), 1);
	stable_free(s);
}
END_TEST

START_TEST(many_files)
{
	struct stable *s = stable_new(1);
	char path[32];

	for (int pass = 0; pass < 2; pass++) {
		ck_assert(stable_next(s));
		for (int i = 0; i < STABLE_FILES_MAX; i++) {
			struct record r;

			snprintf(path, sizeof(path), "/f%d", i);
			r = sample(path);
			ck_assert_int_eq(stable_look(s, &r, &e), 1);
		}
		if (!pass) {
			struct record r = sample("/one more");

			ck_assert_int_eq(stable_look(s, &r, &e), -1);
			ck_assert_int_eq(e.cls, ERR_LIMIT);
			r = sample("/f0");
			ck_assert_int_eq(stable_look(s, &r, &e), 1);
		}
	}
	stable_free(s);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("stable");
	TCase *t = tcase_create("stable");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, the_same_file, 0, ARRAY_LEN(changes));
	tcase_add_loop_test(t, every_pass, 0, ARRAY_LEN(passes));
	tcase_add_test(t, what_cannot_be_told);
	tcase_add_test(t, many_files);
	suite_add_tcase(suite, t);
	sr = srunner_create(suite);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
