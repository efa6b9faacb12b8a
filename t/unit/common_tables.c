/*
 * common_tables.c - the named tables of the settings: entries, what default hands down, conf.d, reload, and every way back
 * to text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>
#include <json-c/json.h>

#include "common/config_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

static int
load(struct config_set *set, const char *text)
{
	struct config_args args = { .file = NULL };
	int ret = config_load_text(set, "t.yaml", text, strlen(text), &args);

	if (ret)
		config_print_errors(set, stderr);
	return ret;
}

static const char two[] = "local: {allowed_roots: [/srv]}\n"
    "tenants:\n"
    "  zeta: {weight: 5, hosts: []}\n"
    "  default: {tasks: 4, hosts: [\"*.example\"], roots: [/srv/pub], isolation: job}\n"
    "  acme:\n    timeout_max: 5m\n    group: g\n    isolation: shared\n"
    "  plain:\n";

START_TEST(an_entry_or_default_or_the_list)
{
	struct config_set set;
	const struct tenant_conf *t;

	ck_assert_int_eq(load(&set, two), 0);
	ck_assert_uint_eq(config_entries(&set.c, CONFIG_TABLE_TENANTS), 4);
	ck_assert_str_eq(config_entry_at(&set.c, CONFIG_TABLE_TENANTS, 0)->name, "zeta");
	t = tenants_get(&set.c, "zeta");
	ck_assert_str_eq(tenant_entry_name(t), "zeta");
	ck_assert_int_eq(t->weight, 5);
	ck_assert_int_eq(t->tasks, 4);
	ck_assert_uint_eq(t->hosts.n, 0);   /* said, so not handed down */
	ck_assert_uint_eq(t->roots.n, 1);
	t = tenants_get(&set.c, "acme");
	ck_assert_int_eq(t->weight, 1);
	ck_assert_int_eq(t->timeout_max, 300000);
	ck_assert_int_eq(t->isolation, ISOLATION_SHARED);
	ck_assert_str_eq(t->group, "g");
	ck_assert_str_eq(t->hosts.v[0], "*.example");
	ck_assert_int_eq(tenants_get(&set.c, "plain")->isolation, ISOLATION_JOB);
	t = tenants_get(&set.c, "never heard of");
	ck_assert_str_eq(tenant_entry_name(t), "default");
	ck_assert_int_eq(t->tasks, 4);
	config_set_release(&set);
	ck_assert_int_eq(load(&set, ""), 0);
	t = tenants_get(&set.c, "any");
	ck_assert_int_eq(t->weight, 1);
	ck_assert_int_eq(t->tasks, 0);
	ck_assert_int_eq(t->isolation, ISOLATION_TENANT);
	ck_assert_int_eq(t->credentials_inline, 1);
	config_set_release(&set);
}
END_TEST

START_TEST(printed_and_read_again)
{
	struct config_set set, again;
	struct buf b = BUF_INIT;

	for (int changed = 0; changed < 2; changed++) {
		ck_assert_int_eq(load(&set, two), 0);
		buf_clear(&b);
		config_print(&set, changed, &b);
		ck_assert_ptr_nonnull(strstr(buf_str(&b), "  \"acme\":  # t.yaml:5"));
		ck_assert_ptr_nonnull(strstr(buf_str(&b), "    tasks: 4  # t.yaml:4"));
		ck_assert(changed != (strstr(buf_str(&b), "    egress_deny: []  # default") != NULL));
		ck_assert_int_eq(load(&again, buf_str(&b)), 0);
		ck_assert(config_table_same(&set.c, &again.c, CONFIG_TABLE_TENANTS));
		config_set_release(&again);
		ck_assert_int_eq(load(&again, "tenants: {acme: {}}\n"), 0);
		ck_assert(!config_table_same(&set.c, &again.c, CONFIG_TABLE_TENANTS));
		config_set_release(&again);
		config_set_release(&set);
	}
	buf_release(&b);
}
END_TEST

START_TEST(json_escapes_names)
{
	struct config_set set;
	struct buf b = BUF_INIT;
	struct json_object *o, *row, *v;

	ck_assert_int_eq(load(&set, "tenants: {'a\"\\b': {weight: 3, hosts: [x]}}\n"), 0);
	config_json(&set, true, &b);
	o = json_tokener_parse(buf_str(&b));
	ck_assert_ptr_nonnull(o);
	ck_assert(json_object_object_get_ex(o, "tenants.a\"\\b.weight", &row));
	ck_assert(json_object_object_get_ex(row, "value", &v) && json_object_get_int(v) == 3);
	ck_assert(json_object_object_get_ex(row, "default", &v) && json_object_get_int(v) == 1);
	ck_assert(json_object_object_get_ex(row, "origin", &v) && !strcmp(json_object_get_string(v), "t.yaml:1"));
	ck_assert(!json_object_object_get_ex(o, "tenants.a\"\\b.tasks", &row));
	json_object_put(o);
	config_set_release(&set);
	buf_release(&b);
}
END_TEST

START_TEST(a_reload_swaps_the_table)
{
	struct config_set old, new_;
	struct buf names = BUF_INIT;

	ck_assert_int_eq(load(&old, two), 0);
	ck_assert_int_eq(load(&new_, "tenants: {acme: {weight: 7}}\n"), 0);
	ck_assert_int_eq(config_restart_needed(&old.c, &new_.c, &names), 0);
	config_take_reloadable(&old, &new_);
	config_set_release(&new_);
	ck_assert_int_eq(tenants_get(&old.c, "acme")->weight, 7);
	ck_assert_int_eq(tenants_get(&old.c, "zeta")->weight, 1);
	config_set_release(&old);
	buf_release(&names);
}
END_TEST

START_TEST(too_many)
{
	struct config_args args = { .file = NULL };
	struct config_set set;
	struct buf b = BUF_INIT;

	buf_puts(&b, "tenants:\n");
	for (int i = 0; i <= CONFIG_TABLE_MAX; i++)
		buf_printf(&b, "  t%d: {weight: 2}\n", i);
	ck_assert_int_eq(config_load_text(&set, "t.yaml", buf_str(&b), b.len, &args), -1);
	ck_assert_uint_eq(set.n_errors, 1);
	ck_assert_int_eq(set.errors[0].line, CONFIG_TABLE_MAX + 2);
	ck_assert_str_eq(set.errors[0].text, "tenants: more than 1024 entries");
	config_set_release(&set);
	buf_release(&b);
}
END_TEST

static void
put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(files_add_up_and_nothing_else_sets_them)
{
	char dir[] = "/tmp/common_tables.XXXXXX";
	char *env[] = { NULL, NULL };
	const char *options[] = { NULL, NULL };
	struct config_args args = { .environ_ = env, .settings = options };
	struct config_set set;
	char *path, *sub;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	path = xasprintf("%s/a.yaml", dir);
	put_file(path, "tenants: {acme: {weight: 2, hosts: [a, b]}}\n");
	sub = xasprintf("%s/conf.d", dir);
	ck_assert_int_eq(mkdir(sub, 0700), 0);
	free(sub);
	sub = xasprintf("%s/conf.d/b.yaml", dir);
	put_file(sub, "tenants: {acme: {hosts: [c], tasks: 9}, other: {}}\n");
	args.file = path;
	ck_assert_int_eq(config_load(&set, &args), 0);
	ck_assert_uint_eq(config_entries(&set.c, CONFIG_TABLE_TENANTS), 2);
	ck_assert_int_eq(tenants_get(&set.c, "acme")->weight, 2);
	ck_assert_int_eq(tenants_get(&set.c, "acme")->tasks, 9);
	ck_assert_uint_eq(tenants_get(&set.c, "acme")->hosts.n, 1);
	config_set_release(&set);
	env[0] = xstrdup("IIS_POLLER_TENANTS_ACME_WEIGHT=3");
	options[0] = "tenants.acme.weight=3";
	ck_assert_int_eq(config_load(&set, &args), -1);
	ck_assert_uint_eq(set.n_errors, 2);
	ck_assert_str_eq(set.errors[0].text, "unknown variable IIS_POLLER_TENANTS_ACME_WEIGHT; tenants are set in the file alone");
	ck_assert_str_eq(set.errors[1].text, "tenants are set in the file alone");
	config_set_release(&set);
	free(env[0]);
	unlink(path);
	unlink(sub);
	free(path);
	free(sub);
	path = xasprintf("%s/conf.d", dir);
	rmdir(path);
	rmdir(dir);
	free(path);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_tables");
	TCase *t = tcase_create("tables");
	SRunner *sr;
	int failed;

	tcase_add_test(t, an_entry_or_default_or_the_list);
	tcase_add_test(t, printed_and_read_again);
	tcase_add_test(t, json_escapes_names);
	tcase_add_test(t, a_reload_swaps_the_table);
	tcase_add_test(t, too_many);
	tcase_add_test(t, files_add_up_and_nothing_else_sets_them);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
