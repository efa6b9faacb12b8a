/*
 * worker_local.c - the source local against real trees: names, links, escapes, depth, size, races, refusals.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "t/unit/worker_mini.h"
#include "common/banned.h"

static char top[64];    /* of the whole program, removed by it; base is one test's */
static char base[80];
static struct task_spec task;
static struct listing got;

static char *
at(const char *name)
{
	return xasprintf("%s/%s", base, name);
}

static void
make_dir(const char *name)
{
	char *p = at(name);

	ck_assert_int_eq(mkdir(p, 0755), 0);
	free(p);
}

static void
make_file(const char *name, size_t size)
{
	char *p = at(name);
	int fd = open(p, O_WRONLY | O_CREAT | O_EXCL, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
	free(p);
}

static void
make_link(const char *target, const char *name)
{
	char *p = at(name);

	ck_assert_int_eq(symlink(target, p), 0);
	free(p);
}

/* base/root is the configured root, base/outside what must not be seen. */
static void
setup_tree(void)
{
	snprintf(base, sizeof(base), "%s/XXXXXX", top);
	ck_assert_ptr_nonnull(mkdtemp(base));
	ck_assert_int_eq(chmod(base, 0755), 0);
	make_dir("root");
	make_dir("outside");
	make_file("outside/secret.csv", 3);
	mini_task(&task, SOURCE_LOCAL, "");
	snprintf(task.root, sizeof(task.root), "%s/root", base);
}

static void
remove_tree(void)
{
	listing_release(&got);
	task_spec_release(&task);
}

static void
make_base(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(top, sizeof(top), "%.40s/walk.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(top));
	ck_assert_int_eq(chmod(top, 0755), 0);
}

/* Outside of the tests' processes, since one of those gives up its rights. */
static void
remove_base(void)
{
	pid_t pid = fork();

	if (!pid) {
		execlp("rm", "rm", "-rf", "--", top, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static void
list(void)
{
	listing_release(&got);
	mini_list(&task, &got);
}

static void
below(const char *s)
{
	snprintf(task.below, sizeof(task.below), "%s", s);
}

START_TEST(plain_file_and_its_attributes)
{
	struct timespec when[2] = { { 1600000000, 5 }, { 1700000000, 123456789 } };
	char *p = at("root/a.csv"), *root = at("root");
	struct seen *s;

	make_file("root/a.csv", 700);
	ck_assert_int_eq(chmod(p, 04640), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, p, when, 0), 0);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, 1);
	s = &got.v[0];
	ck_assert_str_eq(s->path, p);
	ck_assert_str_eq(s->rel, "a.csv");
	ck_assert_int_eq(s->size, 700);
	ck_assert_int_eq(s->mtime_ns, INT64_C(1700000000123456789));
	ck_assert_str_eq(s->attr[SA_LOCAL_ROOT], root);
	ck_assert_str_eq(s->attr[SA_LOCAL_MODE], "4640");
	ck_assert_str_eq(s->attr[SA_LOCAL_PERMISSIONS], "rwSr-----");
	ck_assert_str_eq(s->attr[SA_LOCAL_NLINK], "1");
	ck_assert_str_eq(s->attr[SA_LOCAL_ATIME], "2020-09-13T12:26:40.000000005Z");
	ck_assert_ptr_nonnull(s->attr[SA_LOCAL_CTIME]);
	ck_assert_ptr_nonnull(s->attr[SA_LOCAL_INODE]);
	ck_assert_ptr_nonnull(s->attr[SA_LOCAL_DEV]);
	ck_assert_ptr_nonnull(s->attr[SA_LOCAL_BLOCKS]);
	free(p);
	free(root);
}
END_TEST

START_TEST(times_of_all_ages)
{
	static const struct { int64_t s; long ns; const char *want; } rows[] = {
		{ 0, 0, "1970-01-01T00:00:00.000000000Z" }, { -1, 999999999, "1969-12-31T23:59:59.999999999Z" },
		{ 951827696, 7, "2000-02-29T12:34:56.000000007Z" }, { 4102444799, 120000000, "2099-12-31T23:59:59.120000000Z" },
		{ 86399, 1, "1970-01-01T23:59:59.000000001Z" }, { 86400, 1, "1970-01-02T00:00:00.000000001Z" },
	};
	char name[20];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct timespec when[2] = { { rows[i].s, rows[i].ns }, { rows[i].s, rows[i].ns } };
		char *p;

		snprintf(name, sizeof(name), "root/%zu", i);
		make_file(name, 0);
		p = at(name);
		ck_assert_int_eq(utimensat(AT_FDCWD, p, when, 0), 0);
		free(p);
	}
	list();
	ck_assert_uint_eq(got.n, ARRAY_LEN(rows));
	for (size_t i = 0; i < got.n; i++) {
		ck_assert_str_eq(got.v[i].attr[SA_LOCAL_ATIME], rows[i].want);
		ck_assert_int_eq(got.v[i].mtime_ns, rows[i].s * 1000000000 + rows[i].ns);
	}
}
END_TEST

START_TEST(names_of_any_bytes)
{
	char name[80];
	size_t n = 0;

	for (int c = 1; c < 256; c++) {
		if (c == '/' || c == '.')
			continue;
		snprintf(name, sizeof(name), "root/%c", c);
		make_file(name, 1);
		n++;
	}
	make_file("root/a\nb\r\t\x1b[31m", 1);
	make_file("root/\xe2\x82\xac \xff\xfe", 1);
	make_file("root/ -rf *", 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, n + 3);
	ck_assert_ptr_nonnull(find_rel(&got, "a\nb\r\t\x1b[31m"));
	ck_assert_ptr_nonnull(find_rel(&got, "\xe2\x82\xac \xff\xfe"));
}
END_TEST

START_TEST(single_file)
{
	make_dir("root/d");
	make_file("root/d/a.csv", 5);
	make_file("root/d/b.csv", 5);
	below("d/a.csv");
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, 1);
	ck_assert_str_eq(got.v[0].rel, "a.csv");
	ck_assert_int_eq(got.v[0].size, 5);
	ck_assert_uint_eq(got.done.listed, 1);
}
END_TEST

static void
tree(void)
{
	make_file("root/0.csv", 0);
	make_dir("root/d1");
	make_file("root/d1/1.csv", 1);
	make_dir("root/d1/d2");
	make_file("root/d1/d2/2.csv", 2);
	make_dir("root/d1/d2/d3");
	make_file("root/d1/d2/d3/3.txt", 3);
	make_dir("root/.hid");
	make_file("root/.hid/h.csv", 3);
	make_file("root/.h.csv", 3);
}

static const struct { bool recursive; int min, max; const char *below; const char *want; } depths[] = {
	{ false, 0, 0, ".", "0.csv " },
	{ true, 0, 0, ".", "0.csv d1/1.csv d1/d2/2.csv d1/d2/d3/3.txt " },
	{ true, 0, 1, ".", "0.csv d1/1.csv " },
	{ true, 1, 2, ".", "d1/1.csv d1/d2/2.csv " },
	{ true, 3, 0, ".", "d1/d2/d3/3.txt " },
	{ false, 1, 0, ".", "" },
	{ true, 0, 0, "d1/d2", "2.csv d3/3.txt " },
	{ false, 0, 0, ".hid", "h.csv " },
};

static void
want(const char *names)
{
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < got.n; i++) {
		buf_puts(&b, got.v[i].rel);
		buf_putc(&b, ' ');
	}
	ck_assert_str_eq(buf_str(&b), names);
	buf_release(&b);
}

START_TEST(depth_bounds)
{
	tree();
	mini_set(&task, SF_COMMON_RECURSIVE, depths[_i].recursive);
	mini_set(&task, SF_COMMON_MIN_DEPTH, depths[_i].min);
	mini_set(&task, SF_COMMON_MAX_DEPTH, depths[_i].max);
	below(depths[_i].below);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	want(depths[_i].want);
}
END_TEST

START_TEST(filters)
{
	tree();
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	task.filter.include_hidden = true;
	list();
	ck_assert_uint_eq(got.n, 6);
	strlist_add(&task.filter.exclude_dirs, "d2");
	list();
	ck_assert_uint_eq(got.n, 4);
	strlist_add(&task.filter.exclude, "*.csv");
	list();
	ck_assert_uint_eq(got.n, 0);
	ck_assert_uint_eq(got.done.skipped, 4);
	ck_assert_uint_eq(got.done.listed, 4);
}
END_TEST

START_TEST(max_files_cuts_and_says_so)
{
	static const struct { int max; size_t n; bool cut; } rows[] = { { 2, 2, true }, { 5, 5, false }, { 6, 5, false } };

	for (int i = 0; i < 5; i++) {
		char name[20];

		snprintf(name, sizeof(name), "root/%d", i);
		make_file(name, 0);
	}
	task.filter.max_files = rows[_i].max;
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, rows[_i].n);
	ck_assert_int_eq(got.done.truncated, rows[_i].cut);
}
END_TEST

START_TEST(entries_limit)
{
	make_file("root/a", 0);
	make_file("root/b", 0);
	make_file("root/c", 0);
	task.entries_max = 3;
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	task.entries_max = 2;
	list();
	ck_assert_int_eq(got.done.cls, ERR_LIMIT);
	ck_assert_uint_eq(got.n, 0);
}
END_TEST

START_TEST(companions)
{
	make_file("root/a.csv", 1);
	make_file("root/b.csv", 1);
	make_file("root/b.csv.part", 1);
	make_file("root/c.csv.part", 1);
	strlist_add(&task.filter.in_progress_suffixes, ".part");
	list();
	want("a.csv ");
	task.filter.done_file = xstrdup("{name}.done");
	list();
	want("");
	make_file("root/a.csv.done", 0);
	list();
	want("a.csv ");
	free(task.filter.done_file);
	task.filter.done_file = xstrdup("_READY");
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	make_dir("root/d");
	make_file("root/d/x.csv", 1);
	make_file("root/d/_READY", 1);
	list();
	want("d/x.csv ");
}
END_TEST

static void
links(void)
{
	make_dir("root/d");
	make_file("root/d/f.csv", 4);
	make_link("d/f.csv", "root/to_file.csv");
	make_link("d", "root/to_dir");
	make_link("../d/f.csv", "root/d/up.csv");
	make_link("nowhere", "root/dangling");
	make_link("self", "root/self");
	make_link("..", "root/d/loop");
	make_link("../outside", "root/out_dir");
	make_link("../outside/secret.csv", "root/out.csv");
	make_link("/etc/passwd", "root/abs.csv");
	make_link("/proc/self/root/etc/passwd", "root/magic.csv");
}

START_TEST(links_never)
{
	links();
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	want("d/f.csv ");
	ck_assert_uint_eq(got.done.unreadable, 0);
}
END_TEST

static bool
named(const char *part, const char *reason)
{
	for (uint32_t i = 0; i < got.done.n_named; i++)
		if (strstr(got.done.named[i].path, part) && strstr(got.done.named[i].reason, reason))
			return true;
	return false;
}

static const struct { unsigned types; const char *want; uint64_t listed; } typed[] = {
	{ 2, "d e e/f ", 14 }, { 3, "d d/f.csv e e/f ", 14 },
	{ 4, "abs.csv d/loop d/up.csv dangling out.csv out_dir self to_dir to_file.csv ", 11 },
};

/* Entries as themselves; links lead nowhere then, and what is no file has no size. */
START_TEST(types)
{
	links();
	make_dir("root/e");
	make_dir("root/e/f");
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	task.filter.types = typed[_i].types;
	strlist_add(&task.filter.exclude, "magic*");
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.done.unreadable, 0);
	want(typed[_i].want);
	ck_assert_uint_eq(got.done.listed, got.done.matched + got.done.skipped);
	for (size_t i = 0; i < got.n; i++) {
		struct seen *s = &got.v[i];

		ck_assert_int_eq(s->size, s->kind == FILE_PLAIN ? 4 : -1);
		ck_assert_int_eq(s->is_symlink, s->kind == FILE_LINK);
		ck_assert_int_eq(s->target != NULL, s->kind == FILE_LINK);
		ck_assert_str_ne(s->attr[SA_LOCAL_INODE], "0");
		ck_assert_int_gt(s->mtime_ns, 0);
	}
	if (typed[_i].types == 4)
		ck_assert_str_eq(must_find(&got, "to_file.csv")->target, "d/f.csv");
}
END_TEST

/* Depths are those of the entry itself: a directory at the path is at depth 0. */
START_TEST(types_and_depth)
{
	make_dir("root/a");
	make_dir("root/a/b");
	make_dir("root/a/b/c");
	task.filter.types = FILE_BIT(FILE_DIR);
	list();
	want("a ");
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	mini_set(&task, SF_COMMON_MAX_DEPTH, 1);
	list();
	want("a a/b ");
	mini_set(&task, SF_COMMON_MIN_DEPTH, 1);
	list();
	want("a/b ");
	mini_set(&task, SF_COMMON_MAX_DEPTH, 0);
	strlist_add(&task.filter.exclude_dirs, "c");
	list();
	want("a/b ");
	task.filter.max_files = 1;
	mini_set(&task, SF_COMMON_MIN_DEPTH, 0);
	list();
	ck_assert_uint_eq(got.n, 1);
	ck_assert(got.done.truncated);
}
END_TEST

static void
write_file(const char *name, const char *text)
{
	char *p = at(name);
	int fd = open(p, O_WRONLY | O_TRUNC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	free(p);
}

static const struct { int hash; const char *nothing, *check, *million; } hashes[] = {
	{ DIGEST_MD5, "md5 local d41d8cd98f00b204e9800998ecf8427e", "md5 local 25f9e794323b453885f5181f1b624d0b",
	    "md5 local 879f4bba57ed37c9ec5e5aedf9864698" },
	{ DIGEST_SHA256, "sha256 local e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	    "sha256 local 15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
	    "sha256 local d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025" },
	{ DIGEST_CRC32, "crc32 local 00000000", "crc32 local cbf43926", "crc32 local 1279cb9e" },
};

/* The known answers of "" and "123456789"; larger than one read; through a link. */
START_TEST(checksums)
{
	make_file("root/nothing", 0);
	make_file("root/check", 0);
	write_file("root/check", "123456789");
	make_file("root/zeros", 1000000);
	make_link("check", "root/link");
	mini_set(&task, SF_LOCAL_HASH, hashes[_i].hash);
	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_str_eq(must_find(&got, "nothing")->checksum, hashes[_i].nothing);
	ck_assert_str_eq(must_find(&got, "check")->checksum, hashes[_i].check);
	ck_assert_str_eq(must_find(&got, "link")->checksum, hashes[_i].check);
	ck_assert_str_eq(must_find(&got, "zeros")->checksum, hashes[_i].million);
	for (int i = 0; i < NOTE__MAX; i++)
		ck_assert_uint_eq(got.done.notes[i], 0);
	mini_set(&task, SF_LOCAL_HASH_MAX_SIZE, 9);
	list();
	ck_assert_str_eq(must_find(&got, "check")->checksum, hashes[_i].check);
	ck_assert_ptr_null(must_find(&got, "zeros")->checksum);
	ck_assert_uint_eq(got.done.notes[NOTE_HASH_TOO_LARGE], 1);
	ck_assert_uint_eq(got.done.matched, 4);
}
END_TEST

/* A file with more in it than its size says is one that grows under the reader; directories have no content. */
START_TEST(checksum_of_what_changes)
{
	snprintf(task.root, sizeof(task.root), "/proc");
	below("self");
	mini_set(&task, SF_LOCAL_HASH, DIGEST_SHA256);
	task.filter.types = FILE_BIT(FILE_PLAIN) | FILE_BIT(FILE_DIR);
	strlist_release(&task.filter.patterns);
	strlist_add(&task.filter.patterns, "{status,stat,fd}");
	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, 2);
	list();
	ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
	ck_assert_uint_eq(got.n, 3);
	for (size_t i = 0; i < got.n; i++)
		ck_assert_ptr_null(got.v[i].checksum);
	ck_assert_uint_eq(got.done.notes[NOTE_HASH_CHANGED], 2);
	ck_assert_uint_eq(got.done.notes[NOTE_HASH_UNREADABLE], 0);
}
END_TEST

static void
named_files(const char *passwd, const char *group)
{
	make_file("passwd", 0);
	make_file("group", 0);
	write_file("passwd", passwd);
	write_file("group", group);
}

/* Names by number: the first line of a number counts, what is no line of passwd(5) does not. */
START_TEST(owners)
{
	static const struct { uint32_t id; const char *user, *group; } rows[] = {
		{ 0, "root", "wheel" }, { 7, "first", NULL }, { 4294967295U, "last", NULL }, { 8, NULL, "g" }, { 9, NULL, NULL }, { 10, NULL, NULL }, { 11, NULL, NULL },
	};
	char *passwd = at("passwd"), *group = at("group");

	named_files("last:x:4294967295:1::/:/bin/sh\n# a comment\n\nfirst:x:7:7:::\nsecond:x:7:7:::\nroot:x:0:0:root:/root:/bin/sh\n"
	    ":x:9:9:::\nmany:x:4294967296:1:::\nsigned:x:-1:1:::\nhex:x:0x9:1:::\n+nis::::::\n\xff:x:10:10:::\ncut:x:11:", "g:*:8:a,b\nwheel:x:0:\n");
	local_names_init(passwd, group);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert_pstr_eq(local_user(rows[i].id), rows[i].user);
		ck_assert_pstr_eq(local_group(rows[i].id), rows[i].group);
	}
	local_names_release();
	ck_assert_ptr_null(local_user(0));
	unlink(passwd);
	local_names_init(passwd, group);
	ck_assert_ptr_null(local_user(0));
	ck_assert_str_eq(local_group(8), "g");
	local_names_release();
	free(passwd);
	free(group);
}
END_TEST

/* Beyond the first MiB there are no names, and no line that the bound cut. */
START_TEST(owners_are_bounded)
{
	struct buf b = BUF_INIT;
	char *passwd = at("passwd"), *group = at("group");
	uint32_t n = 1000;

	while (b.len < (1 << 20) + 5000)
		buf_printf(&b, "user%u:x:%u:1:::\n", n, n), n++;
	named_files(buf_str(&b), "");
	local_names_init(passwd, group);
	ck_assert_str_eq(local_user(1000), "user1000");
	ck_assert_str_eq(local_user(20000), "user20000");
	ck_assert_ptr_null(local_user(n - 1));
	local_names_release();
	buf_release(&b);
	free(passwd);
	free(group);
}
END_TEST

/* The marker may be anything with that name, also where it is hidden; the source's own path is no exception, one file is. */
START_TEST(marked_directories)
{
	make_file("root/a.csv", 1);
	make_dir("root/d");
	make_file("root/d/b.csv", 1);
	make_dir("root/d/e");
	make_file("root/d/e/c.csv", 1);
	make_dir("root/f");
	make_file("root/f/d.csv", 1);
	make_link("nowhere", "root/f/.skip");
	make_dir("root/d/e/.skip");
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	task.filter.exclude_if_present = xstrdup(".skip");
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	want("a.csv d/b.csv ");
	below("f");
	list();
	want("");
	ck_assert_uint_eq(got.done.listed, 0);
	below("f/d.csv");
	list();
	want("d.csv ");
}
END_TEST

START_TEST(links_to_files)
{
	struct seen *s;

	links();
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	want("d/f.csv d/up.csv to_file.csv ");
	s = must_find(&got, "to_file.csv");
	ck_assert(s->is_symlink);
	ck_assert_str_eq(s->target, "d/f.csv");
	ck_assert_int_eq(s->size, 4);
	ck_assert(!must_find(&got, "d/f.csv")->is_symlink);
	ck_assert(named("out.csv", "leads outside the root"));
	ck_assert(named("abs.csv", "leads outside the root"));
	ck_assert(named("magic.csv", "leads outside the root"));
	ck_assert(named("self", ""));
}
END_TEST

START_TEST(links_all)
{
	links();
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, 2);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	want("d/f.csv d/up.csv to_dir/f.csv to_dir/up.csv to_file.csv ");
	ck_assert(named("out_dir", "leads outside the root"));
	for (size_t i = 0; i < got.n; i++)
		ck_assert_ptr_null(strstr(got.v[i].path, "secret"));
}
END_TEST

static const struct { const char *link, *below; int follow; enum err_class want; } tops[] = {
	{ NULL, "missing", 0, ERR_NOT_FOUND },
	{ NULL, "missing/deeper", 0, ERR_NOT_FOUND },
	{ "../outside", "l", 0, ERR_PERMANENT },
	{ "../outside", "l", 2, ERR_POLICY },
	{ "/etc", "l", 2, ERR_POLICY },
	{ "/proc/self/cwd", "l", 2, ERR_POLICY },
	{ "l", "l", 2, ERR_PERMANENT },
	{ "..", "l/outside", 2, ERR_POLICY },
	{ NULL, "fifo", 0, ERR_PERMANENT },
};

START_TEST(top_errors)
{
	char *fifo = at("root/fifo");

	if (tops[_i].link)
		make_link(tops[_i].link, "root/l");
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	below(tops[_i].below);
	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, tops[_i].follow);
	list();
	ck_assert_msg(got.done.cls == tops[_i].want, "%s: %s", err_name(got.done.cls), got.done.text);
	ck_assert_ptr_nonnull(strstr(got.done.text, tops[_i].below));
	free(fifo);
}
END_TEST

/* Even a hostile JOB reaches nothing that SETUP did not name. */
START_TEST(root_that_setup_did_not_name)
{
	struct setup s;

	setup_init(&s);
	s.open_files = 64;
	strlist_add(&s.roots, "/srv/other");
	mini_list_with(&task, &s, &got);
	ck_assert_int_eq(got.done.cls, ERR_SYSTEM);
	ck_assert_uint_eq(got.n, 0);
	setup_release(&s);
}
END_TEST

START_TEST(other_kinds_are_skipped)
{
	char *fifo = at("root/fifo"), *sock = at("root/sock");

	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	ck_assert_int_eq(mknod(sock, S_IFSOCK | 0600, 0), 0);
	make_file("root/a", 0);
	list();
	want("a ");
	ck_assert_uint_eq(got.done.listed, 3);
	ck_assert_uint_eq(got.done.skipped, 2);
	free(fifo);
	free(sock);
}
END_TEST

static void
deep(int levels, int file_every)
{
	char *root = at("root");
	int dir = open(root, O_RDONLY | O_DIRECTORY), next;

	for (int i = 0; i < levels; i++) {
		ck_assert_int_eq(mkdirat(dir, "dddddddd", 0755), 0);
		next = openat(dir, "dddddddd", O_RDONLY | O_DIRECTORY);
		ck_assert_int_ge(next, 0);
		close(dir);
		dir = next;
		/* one before and one behind the directory, in whatever order it is read */
		if (i % file_every == 0) {
			close(openat(dir, "a", O_CREAT | O_WRONLY, 0644));
			close(openat(dir, "zz", O_CREAT | O_WRONLY, 0644));
		}
	}
	close(dir);
	free(root);
}

static size_t
open_descriptors(void)
{
	int fd = dup(0);

	close(fd);
	return (size_t)fd;
}

START_TEST(deep_tree)
{
	static const int windows[] = { 64, 16, 10 };
	struct setup s;

	deep(500, 1);
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	setup_init(&s);
	strlist_add(&s.roots, task.root);
	s.open_files = windows[_i];
	size_t before = open_descriptors();
	mini_list_with(&task, &s, &got);
	ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
	ck_assert_uint_eq(got.n, 1000);
	ck_assert_uint_eq(got.done.unreadable, 0);
	for (size_t i = 1; i < got.n; i++)
		ck_assert_str_ne(got.v[i - 1].path, got.v[i].path);
	ck_assert_uint_eq(open_descriptors(), before);
	setup_release(&s);
}
END_TEST

START_TEST(descriptor_bound_holds)
{
	struct rlimit r = { 0, 0 };
	char *null = at("root/x");

	deep(300, 1);
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	/* what the test itself has open, and the limit that the worker was told */
	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = open_descriptors() + 3 + 64 - 5;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &r), 0);
	list();
	ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
	ck_assert_uint_eq(got.n, 600);
	free(null);
}
END_TEST

START_TEST(deeper_than_the_limit)
{
	deep(1002, 500);
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_LIMIT);
	ck_assert_ptr_nonnull(strstr(got.done.text, "dddddddd"));
	ck_assert_ptr_nonnull(strstr(got.done.text, "1000"));
}
END_TEST

START_TEST(paths_longer_than_a_record)
{
	char *root = at("root"), name[201];
	int dir = open(root, O_RDONLY | O_DIRECTORY), next;

	memset(name, 'd', 200);
	name[200] = '\0';
	for (int i = 0; i < 90; i++) {
		ck_assert_int_eq(mkdirat(dir, name, 0755), 0);
		next = openat(dir, name, O_RDONLY | O_DIRECTORY);
		close(dir);
		dir = next;
		close(openat(dir, "f", O_CREAT | O_WRONLY, 0644));
	}
	close(dir);
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	list();
	ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
	ck_assert_uint_gt(got.n, 70);
	ck_assert_uint_eq(got.done.unreadable, 1);
	ck_assert_str_eq(got.done.named[0].reason, "the path is too long");
	free(root);
}
END_TEST

START_TEST(five_thousand_entries)
{
	char name[40];

	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "root/some_longer_name_%d.csv", i);
		make_file(name, 0);
	}
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, 5000);
	for (size_t i = 1; i < got.n; i++)
		ck_assert_str_ne(got.v[i - 1].path, got.v[i].path);
}
END_TEST

/* Files in long runs and short ones, between directories and links, some not wanted: a second thread changes nothing of it. */
START_TEST(two_threads)
{
	static bool seen[4000];
	size_t alone_n, wanted = 0;
	char **alone, name[40];

	for (int i = 0; i < 4000; i++) {
		snprintf(name, sizeof(name), "root/%d.%s", i, i % 50 == 7 ? "txt" : "csv");
		make_file(name, (size_t)i);
		wanted += i % 50 != 7;
		if (i % 800 == 0) {
			snprintf(name, sizeof(name), "root/d%d", i);
			make_dir(name);
			snprintf(name, sizeof(name), "root/d%d/0.txt", i);
			make_file(name, 0);
			snprintf(name, sizeof(name), "root/l%d.csv", i);
			make_link("0.csv", name);
		}
	}
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	strlist_add(&task.filter.include, "*.csv");
	list();
	ck_assert_uint_eq(got.n, wanted);
	alone_n = got.n;
	alone = xcalloc(alone_n, sizeof(*alone));
	for (size_t i = 0; i < alone_n; i++)
		alone[i] = xstrdup(got.v[i].path);

	ahead_start();
	ck_assert(ahead_there());
	for (int round = 0; round < 5; round++) {
		list();
		ck_assert_int_eq(got.done.cls, ERR_OK);
		ck_assert_uint_eq(got.n, alone_n);
		ck_assert_uint_eq(got.done.skipped, got.done.listed - got.n);
		for (size_t i = 0; i < got.n; i++)
			ck_assert_str_eq(got.v[i].path, alone[i]);
	}
	for (size_t i = 0; i < got.n; i++) {
		ck_assert_int_ge(got.v[i].size, 0);
		ck_assert_int_lt(got.v[i].size, 4000);
		snprintf(name, sizeof(name), "%d.csv", (int)got.v[i].size);
		ck_assert_str_eq(got.v[i].rel, name);
		ck_assert(!seen[got.v[i].size]);
		seen[got.v[i].size] = true;
	}
	/* Cut in the middle of a run. */
	task.filter.max_files = 100;
	list();
	ck_assert_uint_eq(got.n, 100);
	ck_assert(got.done.truncated);
	task.filter.max_files = 0;
	task.entries_max = 1000;
	list();
	ck_assert_int_eq(got.done.cls, ERR_LIMIT);
	for (size_t i = 0; i < alone_n; i++)
		free(alone[i]);
	free(alone);
}
END_TEST

static volatile bool racing;

/* A directory and a link that leads out change places as fast as they can. */
static void *
race(void *arg)
{
	char *d = at("root/swap"), *l = at("root/.link");

	(void)arg;
	while (racing)
		renameat2(AT_FDCWD, d, AT_FDCWD, l, RENAME_EXCHANGE);
	free(d);
	free(l);
	return NULL;
}

START_TEST(rename_race_never_leads_out)
{
	pthread_t t;

	make_dir("root/swap");
	make_file("root/swap/in.csv", 0);
	make_link("../outside", "root/.link");
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	task.filter.include_hidden = true;
	racing = true;
	ck_assert_int_eq(pthread_create(&t, NULL, race, NULL), 0);
	for (int i = 0; i < 2000; i++) {
		mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, i % 3);
		list();
		ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
		for (size_t k = 0; k < got.n; k++)
			ck_assert_ptr_null(strstr(got.v[k].path, "secret"));
	}
	racing = false;
	pthread_join(t, NULL);
}
END_TEST

static bool
have_openat2(void)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how));

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* An old container's filter knows no openat2: no link is followed then, and none can lead out. */
START_TEST(without_openat2)
{
	struct sock_filter rows[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { ARRAY_LEN(rows), rows };
	pthread_t t;

	tree();
	make_link("../outside", "root/to_dir");
	make_link("../outside/secret.csv", "root/to_file.csv");
	make_dir("root/swap");
	make_file("root/swap/in.csv", 0);
	make_link("../outside", "root/.link");
	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
	ck_assert(!have_openat2());
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	list();
	ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
	want("0.csv d1/1.csv d1/d2/2.csv d1/d2/d3/3.txt swap/in.csv ");
	below("d1/d2");
	list();
	want("2.csv d3/3.txt ");
	below("d1/1.csv");
	list();
	want("1.csv ");
	below("to_file.csv");
	list();
	ck_assert_int_eq(got.done.cls, ERR_PERMANENT);
	below("to_dir/secret.csv");
	list();
	ck_assert_int_eq(got.done.cls, ERR_NOT_FOUND);
	below("to_dir");
	list();
	ck_assert_int_ne(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.n, 0);
	below(".");
	racing = true;
	ck_assert_int_eq(pthread_create(&t, NULL, race, NULL), 0);
	for (int i = 0; i < 1000; i++) {
		list();
		ck_assert_msg(got.done.cls == ERR_OK, "%s", got.done.text);
		for (size_t k = 0; k < got.n; k++)
			ck_assert_ptr_null(strstr(got.v[k].path, "secret"));
	}
	racing = false;
	pthread_join(t, NULL);
	/* wanting links is wanting what cannot be had safely */
	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, 2);
	list();
	ck_assert_int_eq(got.done.cls, ERR_SYSTEM);
}
END_TEST

/* Rights bite nobody but root: those tests continue as nobody. */
static void
drop_rights(void)
{
	if (geteuid())
		return;
	ck_assert_int_eq(setgroups(0, NULL), 0);
	ck_assert_int_eq(setresgid(65534, 65534, 65534), 0);
	ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
}

static volatile bool growing;

static void *
grow(void *path)
{
	for (off_t n = 1; growing; n++) {
		if (truncate(path, n) < 0)
			break;
		usleep(200);
	}
	return NULL;
}

/* filters.stability: what changes from pass to pass is left out; counts and checksums are those of the last one. */
START_TEST(watched)
{
	char *path = at("root/grows.csv");
	pthread_t t;
	int64_t began;

	make_file("root/grows.csv", 1);
	make_file("root/stays.csv", 1);
	make_dir("root/d");
	make_file("root/d/stays.csv", 1);
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	mini_set(&task, SF_LOCAL_HASH, DIGEST_CRC32);
	task.filter.types = FILE_BIT(FILE_PLAIN) | FILE_BIT(FILE_DIR);
	task.filter.stable_checks = 2;
	task.filter.stable_interval_ms = 200;
	growing = true;
	ck_assert_int_eq(pthread_create(&t, NULL, grow, path), 0);
	began = run_clock();
	list();
	growing = false;
	pthread_join(t, NULL);
	ck_assert_int_ge(run_clock() - began, 400000000);
	ck_assert_int_eq(got.done.cls, ERR_OK);
	want("d d/stays.csv stays.csv ");
	ck_assert_uint_eq(got.done.listed, 4);
	ck_assert_uint_eq(got.done.matched, 3);
	ck_assert_uint_eq(got.done.skipped, 1);
	ck_assert_uint_eq(got.done.notes[NOTE_UNSTABLE], 1);
	ck_assert_str_eq(must_find(&got, "stays.csv")->checksum, "crc32 local d202ef8d");
	list();
	ck_assert_uint_eq(got.n, 4);
	ck_assert_uint_eq(got.done.notes[NOTE_UNSTABLE], 0);
	free(path);
}
END_TEST

/* Listed, but not to be read: without a checksum. */
START_TEST(unreadable_content)
{
	char *shut = at("root/shut.csv");

	make_file("root/shut.csv", 5);
	make_file("root/ok.csv", 0);
	ck_assert_int_eq(chmod(shut, 0), 0);
	mini_set(&task, SF_LOCAL_HASH, DIGEST_CRC32);
	mini_set(&task, SF_LOCAL_NOATIME, 1);
	drop_rights();
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_ptr_null(must_find(&got, "shut.csv")->checksum);
	/* not its owner's any more, so that O_NOATIME is refused */
	ck_assert_str_eq(must_find(&got, "ok.csv")->checksum, "crc32 local 00000000");
	ck_assert_uint_eq(got.done.notes[NOTE_HASH_UNREADABLE], 1);
	ck_assert_uint_eq(got.done.unreadable, 0);
	free(shut);
}
END_TEST

START_TEST(unreadable_directories)
{
	char *shut = at("root/shut"), *blind = at("root/blind");

	make_dir("root/shut");
	make_file("root/shut/x.csv", 0);
	make_dir("root/blind");
	make_file("root/blind/y.csv", 0);
	make_file("root/ok.csv", 0);
	ck_assert_int_eq(chmod(shut, 0), 0);
	/* names can be read there, files not looked at */
	ck_assert_int_eq(chmod(blind, 0444), 0);
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	drop_rights();
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	want("ok.csv ");
	ck_assert_uint_eq(got.done.unreadable, 2);
	ck_assert(named("root/shut", "Permission denied"));
	ck_assert(named("root/blind/y.csv", "Permission denied"));
	mini_set(&task, SF_COMMON_ON_UNREADABLE, 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_AUTH);
	ck_assert_uint_eq(got.n, 0);
	mini_set(&task, SF_COMMON_ON_UNREADABLE, 0);
	below("shut");
	list();
	ck_assert_int_eq(got.done.cls, ERR_AUTH);
	/* so that their owner, if that is who runs this, can remove them; root can as it is */
	if (chmod(shut, 0700) < 0 || chmod(blind, 0700) < 0)
		ck_assert_int_eq(errno, EPERM);
	free(shut);
	free(blind);
}
END_TEST

START_TEST(many_unreadable_are_counted_and_some_named)
{
	char name[40];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "root/l%02d", i);
		make_link("../outside/secret.csv", name);
	}
	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, 1);
	list();
	ck_assert_int_eq(got.done.cls, ERR_OK);
	ck_assert_uint_eq(got.done.unreadable, 40);
	ck_assert_uint_eq(got.done.n_named, TASK_UNREADABLE_MAX);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_local");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_unchecked_fixture(t, make_base, remove_base);
	tcase_add_checked_fixture(t, setup_tree, remove_tree);
	tcase_add_test(t, plain_file_and_its_attributes);
	tcase_add_test(t, times_of_all_ages);
	tcase_add_test(t, names_of_any_bytes);
	tcase_add_test(t, single_file);
	tcase_add_loop_test(t, depth_bounds, 0, sizeof(depths) / sizeof(depths[0]));
	tcase_add_test(t, filters);
	tcase_add_loop_test(t, max_files_cuts_and_says_so, 0, 3);
	tcase_add_test(t, entries_limit);
	tcase_add_test(t, companions);
	tcase_add_test(t, links_never);
	tcase_add_test(t, root_that_setup_did_not_name);
	tcase_add_test(t, other_kinds_are_skipped);
	tcase_add_loop_test(t, deep_tree, 0, 3);
	tcase_add_test(t, descriptor_bound_holds);
	tcase_add_test(t, deeper_than_the_limit);
	tcase_add_test(t, paths_longer_than_a_record);
	tcase_add_test(t, five_thousand_entries);
	tcase_add_test(t, two_threads);
	tcase_add_test(t, unreadable_directories);
	tcase_add_test(t, unreadable_content);
	if (have_openat2()) {
		tcase_add_test(t, links_to_files);
		tcase_add_loop_test(t, types, 0, ARRAY_LEN(typed));
		tcase_add_test(t, types_and_depth);
		tcase_add_test(t, marked_directories);
		tcase_add_loop_test(t, checksums, 0, ARRAY_LEN(hashes));
		tcase_add_test(t, checksum_of_what_changes);
		tcase_add_test(t, watched);
		tcase_add_test(t, owners);
		tcase_add_test(t, owners_are_bounded);
		tcase_add_test(t, links_all);
		tcase_add_loop_test(t, top_errors, 0, sizeof(tops) / sizeof(tops[0]));
		tcase_add_test(t, rename_race_never_leads_out);
		tcase_add_test(t, many_unreadable_are_counted_and_some_named);
		tcase_add_test(t, without_openat2);
	} else {
		printf("# without openat2 here: what follows links was not tested\n");
		fflush(stdout);
	}
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
