/*
 * master_crew.c - unit tests of crew.c: which pool a task goes to, with whom it shares a worker there, what that worker
 * may read.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/pool_priv.h"

static struct master m;
static struct config_set set;
static struct jobrec rec;
static struct job job;
static struct source_conf source;
static struct task task;
static struct err e;

static const char text[] =
    "local: {allowed_roots: [/srv, /data]}\n"
    "dummy: {data_path: /dummy}\n"
    "tenants:\n"
    "  strict: {isolation: job}\n"
    "  g1: {isolation: shared, group: g}\n"
    "  g2: {isolation: shared, group: g}\n"
    "  h1: {isolation: shared, group: h}\n"
    "  narrow: {roots: [/srv/a, /data/n]}\n"
    "pools:\n"
    "  deep: {source_types: [local], roots: [/srv/a/deep]}\n"
    "  vip: {source_types: [local, dummy], tenants: [\"vip-*\", \"x/*\", boss]}\n"
    "  once: {source_types: [ftp], isolation: job}\n"
    "  mixed: {source_types: [ftp, local], isolation: shared, roots: [/srv]}\n";

static void
use(const char *yaml)
{
	struct config_args args = { .file = NULL };

	ck_assert_int_eq(config_load_text(&set, "t.yaml", yaml, strlen(yaml), &args), 0);
	memset(&m, 0, sizeof(m));
	m.cfg = &set.c;
	m.loop = loop_new();
	m.pool = pool_new(&m);
	e = (struct err)ERR_INIT;
}

static void
after(void)
{
	pool_free(m.pool);
	loop_free(m.loop);
	config_set_release(&set);
	source_conf_release(&source);
}

static int
assign(const char *org, enum source_type type, const char *path)
{
	source_conf_release(&source);
	memset(&source, 0, sizeof(source));
	source.type = type;
	if (path)
		source.v[SF_COMMON_PATH] = (struct field_value){ .set = true, .s = xstrdup(path) };
	job = (struct job){ .sources = &source, .n_sources = 1 };
	rec = (struct jobrec){ .job = &job, .m = &m };
	rec.org_id = (char *)(uintptr_t)org;
	task = (struct task){ .job = &rec };
	return pool_assign(m.pool, &task, &e);
}

static const struct { const char *org; enum source_type type; const char *path, *pool, *key; bool single; } rows[] = {
	{ "default", SOURCE_LOCAL, "/srv/a/deep/x", "deep", "default", false },
	{ "default", SOURCE_LOCAL, "/srv/a/deep", "deep", "default", false },
	{ "default", SOURCE_LOCAL, "/srv/a/deeper", "mixed", "default", false },
	{ "default", SOURCE_LOCAL, "/srv/b", "mixed", "default", false },
	{ "default", SOURCE_LOCAL, "/data/b", NULL, NULL, false },
	{ "vip-1", SOURCE_LOCAL, "/data/b", "vip", "vip-1", false },
	{ "vip", SOURCE_LOCAL, "/data/b", NULL, NULL, false },
	{ "boss", SOURCE_DUMMY, NULL, "vip", "boss", false },
	{ "a/boss", SOURCE_DUMMY, NULL, NULL, NULL, false },    /* a whole name, not a path's end */
	{ "x/y", SOURCE_DUMMY, NULL, "vip", "x/y", false },
	{ "default", SOURCE_DUMMY, NULL, NULL, NULL, false },
	{ "default", SOURCE_FTP, NULL, "once", "", true },
	{ "default", SOURCE_SFTP, NULL, NULL, NULL, false },
	/* isolation: never less than the tenant demands, nor less than the pool gives */
	{ "strict", SOURCE_FTP, NULL, "once", "", true },
	{ "strict", SOURCE_LOCAL, "/srv/b", "mixed", "strict", true },
	{ "g1", SOURCE_LOCAL, "/srv/b", "mixed", "\tgroup g", false },
	{ "g2", SOURCE_LOCAL, "/srv/b", "mixed", "\tgroup g", false },
	{ "h1", SOURCE_LOCAL, "/srv/b", "mixed", "\tgroup h", false },
	{ "g1", SOURCE_LOCAL, "/srv/a/deep", "deep", "g1", false },
};

START_TEST(where_and_with_whom)
{
	int ret;

	use(text);
	ret = assign(rows[_i].org, rows[_i].type, rows[_i].path);
	if (!rows[_i].pool) {
		ck_assert_int_eq(ret, -1);
		ck_assert_int_eq(e.cls, ERR_POLICY);
		ck_assert_ptr_nonnull(strstr(e.text, "no pool takes"));
		return;
	}
	ck_assert_msg(ret == 0, "%s", e.text);
	ck_assert_str_eq(m.pool->crews[task.pool].name, rows[_i].pool);
	ck_assert_str_eq(task.key, rows[_i].key);
	ck_assert_int_eq(crew_single(&m.pool->crews[task.pool], rows[_i].org), rows[_i].single);
	ck_assert_int_eq(pool_fits(m.pool, &task, &e), 0);
}
END_TEST

START_TEST(a_refusal_names_each_pool)
{
	use(text);
	task.pool = 2;
	ck_assert_int_eq(assign("default", SOURCE_LOCAL, "/data/b"), -1);
	ck_assert_str_eq(e.text, "no pool takes a task of the source type local for the tenant default: deep has no root that holds its path, "
	    "vip is not for its tenant, once is not for its source type, mixed has no root that holds its path");
}
END_TEST

START_TEST(without_pools)
{
	use("local: {allowed_roots: [/srv]}\nworkers: {count: 3, spares: 2}\n"
	    "tenants: {a: {isolation: job}, b: {isolation: shared, group: g}}\n");
	ck_assert_uint_eq(m.pool->n_crews, 1);
	ck_assert_uint_eq(m.pool->crews[0].workers, 3);
	ck_assert_uint_eq(m.pool->crews[0].spares, 2);
	for (int t = 0; t < SOURCE__MAX; t++) {
		ck_assert_int_eq(assign("default", t, t == SOURCE_LOCAL ? "/srv/x" : NULL), 0);
		ck_assert_str_eq(task.key, "default");
	}
	ck_assert_int_eq(assign("a", SOURCE_DUMMY, NULL), 0);
	ck_assert(crew_single(&m.pool->crews[0], "a"));
	ck_assert_int_eq(assign("b", SOURCE_DUMMY, NULL), 0);
	ck_assert_str_eq(task.key, "\tgroup g");
}
END_TEST

/* The first in the order that takes it, but rather one that gives what the tenant demands. */
START_TEST(isolation_before_order)
{
	use("tenants: {a: {isolation: job}}\npools: {first: {}, second: {isolation: job}, third: {isolation: shared}}\n");
	ck_assert_int_eq(assign("default", SOURCE_FTP, NULL), 0);
	ck_assert_str_eq(m.pool->crews[task.pool].name, "first");
	ck_assert_int_eq(assign("a", SOURCE_FTP, NULL), 0);
	ck_assert_str_eq(m.pool->crews[task.pool].name, "second");
}
END_TEST

static const struct { const char *org, *path, *root; bool bound; const char *want; } confined[] = {
	/* a tenant with roots of its own: what both hold, at the worker's first task */
	{ "narrow", "/srv/b", "/srv", false, "/srv/a" },
	{ "narrow", "/srv/b", "/srv", true, NULL },
	{ "narrow", "/srv/a/deep", "/srv/a/deep", false, "/srv/a/deep" },
	{ "default", "/srv/b", "/srv", false, NULL },
	/* one task and no more: its root */
	{ "strict", "/srv/b", "/srv", false, "/srv" },
	/* workers of a group serve the others, too */
	{ "g1", "/srv/b", "/srv", false, NULL },
};

START_TEST(what_a_worker_may_read)
{
	static struct task_spec spec;
	static struct slot s;
	struct sched_key bound = { .name = NULL };

	use(text);
	task_spec_init(&spec);
	ck_assert_int_eq(assign(confined[_i].org, SOURCE_LOCAL, confined[_i].path), 0);
	s.crew = &m.pool->crews[task.pool];
	s.key = confined[_i].bound ? &bound : NULL;
	snprintf(spec.root, sizeof(spec.root), "%s", confined[_i].root);
	pool_confine(&s, &task, &spec);
	ck_assert_int_eq(spec.narrows, confined[_i].want != NULL);
	ck_assert_int_eq(spec.last, !strcmp(confined[_i].org, "strict"));
	ck_assert_uint_eq(spec.narrow.n, confined[_i].want ? 1 : 0);
	if (confined[_i].want)
		ck_assert_str_eq(spec.narrow.v[0], confined[_i].want);
	task_spec_release(&spec);
}
END_TEST

START_TEST(roots_of_a_pool)
{
	struct strlist l = { .n = 0 };

	use(text);
	crew_roots(&m.pool->crews[0], &l);
	ck_assert_uint_eq(l.n, 1);
	ck_assert_str_eq(l.v[0], "/srv/a/deep");
	strlist_release(&l);
	crew_roots(&m.pool->crews[1], &l);
	ck_assert_uint_eq(l.n, 3);
	ck_assert_str_eq(l.v[2], "/dummy");
	strlist_release(&l);
	crew_roots(&m.pool->crews[2], &l);
	ck_assert_uint_eq(l.n, 0);
	ck_assert_int_eq(crew_first_role(&m.pool->crews[2]), ROLE_NETWORK);
	ck_assert_int_eq(crew_first_role(&m.pool->crews[3]), ROLE_LOCAL);
	/* a reload has taken /srv away: nothing below it is read any more */
	strlist_release(&set.c.local_roots);
	strlist_add(&set.c.local_roots, "/data");
	crew_roots(&m.pool->crews[0], &l);
	ck_assert_uint_eq(l.n, 0);
	ck_assert_int_eq(assign("default", SOURCE_LOCAL, "/srv/b"), -1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("crew");
	TCase *tc = tcase_create("crew");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, NULL, after);
	tcase_add_loop_test(tc, where_and_with_whom, 0, ARRAY_LEN(rows));
	tcase_add_test(tc, a_refusal_names_each_pool);
	tcase_add_test(tc, without_pools);
	tcase_add_test(tc, isolation_before_order);
	tcase_add_loop_test(tc, what_a_worker_may_read, 0, ARRAY_LEN(confined));
	tcase_add_test(tc, roots_of_a_pool);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
