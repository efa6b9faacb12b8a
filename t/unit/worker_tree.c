/*
 * worker_tree.c - tree.c: the queue of directories, depths, links, names, what is held back, loops. Listings are made up
 * in the test; records come out through emit.c as in a worker.
 */
#include "t/unit/worker_mini.h"
#include "common/log.h"

static struct task_spec task;
static struct setup setup;
static struct run run;
static struct channel ch;
static struct emit emit;
static struct tree *tree;
static struct listing got;
static int sock = -1, spool = -1;
static struct err e;

static void
begin(const char *root)
{
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	sock = s[0];
	spool = memfd_create("spool", 0);
	channel_init(&ch, s[1], 9);
	ch.task = 5;
	ch.busy = true;
	emit_init(&emit, &ch, spool);
	ck_assert_int_eq(emit_start(&emit, PUBLISH_ATOMIC, &e), 0);
	run = (struct run){ .setup = &setup, .task = &task, .ch = &ch, .emit = &emit };
	run.flushed_ns = run.polled_ns = run.progress_ns = run_clock();
	run.filter = filter_new(&task.filter, task.now_ns, &e);
	ck_assert_ptr_nonnull(run.filter);
	tree = tree_new(&run, root, strlen(root), &e);
	ck_assert_ptr_nonnull(tree);
}

/* The listing is over: what came out. */
static void
end(void)
{
	ck_assert_int_eq(emit_flush(&emit, &e), 0);
	got.done = run.done;
	got.done.spool_bytes = emit.spool_bytes;
	take_spool(&got, spool, task.source.type, 9, 5);
	ck_assert_uint_eq(got.n, run.done.matched);
	if (got.n)
		qsort(got.v, got.n, sizeof(*got.v), seen_cmp);
}

static void
before(void)
{
	err_clear(&e);
	setup_init(&setup);
	mini_task(&task, SOURCE_LOCAL, "/r");
	mini_set(&task, SF_COMMON_RECURSIVE, 1);
	sock = -1;
}

static void
after(void)
{
	listing_release(&got);
	if (sock >= 0) {
		tree_free(tree);
		filter_free(run.filter);
		emit_release(&emit);
		channel_release(&ch);
		close(ch.fd);
		close(sock);
		close(spool);
	}
	task_spec_release(&task);
	setup_release(&setup);
}

static enum tree_want
give(struct tree_dir *d, const char *name, enum entry_type type)
{
	struct entry en;

	entry_init(&en, name, strlen(name), type);
	en.rec.size = 7;
	return tree_entry(tree, d, &en, &e);
}

static void
finish(struct tree_dir *d)
{
	ck_assert_msg(!tree_dir_done(tree, d, &e), "%s", e.text);
}

/* The paths that came out, joined. */
static const char *
paths(void)
{
	static struct buf b;

	buf_clear(&b);
	for (size_t i = 0; i < got.n; i++)
		buf_printf(&b, "%s%s", i ? " " : "", got.v[i].path);
	return buf_str(&b);
}

START_TEST(walks_below)
{
	struct tree_dir *d, *inner;

	begin("/r");
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "/r");
	ck_assert_uint_eq(d->rel_n, 0);
	ck_assert_int_eq(give(d, ".", ENTRY_DIR), TREE_NO);
	ck_assert_int_eq(give(d, "..", ENTRY_DIR), TREE_NO);
	ck_assert_int_eq(give(d, "a", ENTRY_FILE), TREE_NO);
	ck_assert_int_eq(give(d, "sub", ENTRY_DIR), TREE_NO);
	ck_assert_int_eq(give(d, ".hid", ENTRY_DIR), TREE_NO);
	ck_assert_int_eq(give(d, ".h", ENTRY_FILE), TREE_NO);
	ck_assert_int_eq(give(d, "dev", ENTRY_OTHER), TREE_NO);
	ck_assert_int_eq(give(d, "link", ENTRY_LINK), TREE_NO);
	ck_assert_uint_eq(tree_open_dirs(tree), 1);
	ck_assert_uint_eq(tree_waiting(tree), 1);
	finish(d);
	inner = tree_next(tree);
	ck_assert_uint_eq(tree_waiting(tree), 0);
	ck_assert_str_eq(inner->path, "/r/sub");
	ck_assert_str_eq(inner->rel, "sub");
	ck_assert_uint_eq(inner->depth, 1);
	ck_assert(!tree_dir_begun(inner));
	give(inner, "b", ENTRY_FILE);
	ck_assert(tree_dir_begun(inner));
	finish(inner);
	ck_assert_ptr_null(tree_next(tree));
	ck_assert_uint_eq(tree_open_dirs(tree), 0);
	end();
	ck_assert_str_eq(paths(), "/r/a /r/sub/b");
	ck_assert_str_eq(got.v[1].rel, "sub/b");
	ck_assert_uint_eq(run.done.listed, 5);
	ck_assert_uint_eq(run.done.skipped, 3);
}
END_TEST

/* Roots: the top, none at all (keys). */
START_TEST(roots)
{
	struct tree_dir *d;

	begin("/");
	d = tree_next(tree);
	give(d, "a", ENTRY_FILE);
	give(d, "s", ENTRY_DIR);
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "/s");
	give(d, "b", ENTRY_FILE);
	finish(d);
	end();
	ck_assert_str_eq(paths(), "/a /s/b");
	ck_assert_str_eq(got.v[0].rel, "a");
}
END_TEST

/* Keys: slashes, empty components and dots are parts of names. */
START_TEST(keys)
{
	struct tree_dir *d;

	task.filter.include_hidden = true;
	begin("in/");
	tree_keys(tree);
	d = tree_next(tree);
	give(d, "x", ENTRY_FILE);
	give(d, "a//b.csv", ENTRY_FILE);
	give(d, "./x.csv", ENTRY_FILE);
	give(d, "x/../y.csv", ENTRY_FILE);
	give(d, "/lead.csv", ENTRY_FILE);
	give(d, "e", ENTRY_DIR);
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "in/e");
	give(d, "", ENTRY_DIR);
	give(d, "f", ENTRY_FILE);
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "in/e/");
	give(d, "g", ENTRY_FILE);
	finish(d);
	end();
	ck_assert_str_eq(paths(), "in/./x.csv in//lead.csv in/a//b.csv in/e//g in/e/f in/x in/x/../y.csv");
	ck_assert_str_eq(must_find(&got, "e//g")->rel, "e//g");
}
END_TEST

static const struct { const char *root; bool recursive; const char *want, *rel; } delimited[] = {
	{ "", false, "a/b c", "c" }, { "", true, "a/b c d||e x||", "c" }, { "x||", false, "x||a/b x||c", "c" }, { "x||", true, "x||a/b x||c x||d||e x||x||", "c" },
};

START_TEST(keys_with_another_delimiter)
{
	struct tree_dir *d;

	mini_set(&task, SF_COMMON_RECURSIVE, delimited[_i].recursive);
	begin(delimited[_i].root);
	tree_keys(tree);
	tree_delimiter(tree, "||");
	d = tree_next(tree);
	give(d, "a/b", ENTRY_FILE);
	give(d, "c", ENTRY_FILE);
	give(d, "d||e", ENTRY_FILE);
	give(d, "x||", ENTRY_FILE);
	give(d, "f", ENTRY_DIR);
	finish(d);
	ck_assert_msg(delimited[_i].recursive || !tree_next(tree), "a directory is entered");
	end();
	ck_assert_str_eq(paths(), delimited[_i].want);
	ck_assert_str_eq(must_find(&got, "c")->rel, delimited[_i].rel);
}
END_TEST

static const struct { const char *key; int64_t min, max; bool recursive; const char *exclude; bool there; } deep_keys[] = {
	{ "a", 0, 0, false, NULL, true },
	{ "d/a", 0, 0, false, NULL, false },
	{ "d/a", 0, 1, true, NULL, true },
	{ "d/e/a", 0, 1, true, NULL, false },
	{ "a", 1, 0, true, NULL, false },
	{ "d/a", 1, 0, true, NULL, true },
	{ "d/e/a", 0, 0, true, "e", false },
	{ "d/e/a", 0, 0, true, "d", false },
	{ "d/e", 0, 0, true, "e", true },
};

START_TEST(keys_are_judged_by_their_own_path)
{
	struct tree_dir *d;

	mini_set(&task, SF_COMMON_RECURSIVE, deep_keys[_i].recursive);
	mini_set(&task, SF_COMMON_MIN_DEPTH, deep_keys[_i].min);
	mini_set(&task, SF_COMMON_MAX_DEPTH, deep_keys[_i].max);
	if (deep_keys[_i].exclude)
		strlist_add(&task.filter.exclude_dirs, deep_keys[_i].exclude);
	begin("");
	tree_keys(tree);
	d = tree_next(tree);
	give(d, deep_keys[_i].key, ENTRY_FILE);
	finish(d);
	end();
	ck_assert_uint_eq(got.n, deep_keys[_i].there);
}
END_TEST

static const struct { bool recursive; int64_t min, max; const char *want; } depths[] = {
	{ false, 0, 0, "/r/f0" },
	{ true, 0, 0, "/r/d/d/d/f3 /r/d/d/f2 /r/d/f1 /r/f0" },
	{ true, 0, 1, "/r/d/f1 /r/f0" },
	{ true, 2, 0, "/r/d/d/d/f3 /r/d/d/f2" },
	{ true, 1, 2, "/r/d/d/f2 /r/d/f1" },
};

START_TEST(depth)
{
	struct tree_dir *d;

	mini_set(&task, SF_COMMON_RECURSIVE, depths[_i].recursive);
	mini_set(&task, SF_COMMON_MIN_DEPTH, depths[_i].min);
	mini_set(&task, SF_COMMON_MAX_DEPTH, depths[_i].max);
	begin("/r");
	while ((d = tree_next(tree))) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", d->depth);
		give(d, name, ENTRY_FILE);
		if (d->depth < 3)
			give(d, "d", ENTRY_DIR);
		finish(d);
	}
	end();
	ck_assert_str_eq(paths(), depths[_i].want);
}
END_TEST

START_TEST(names_that_cannot_be)
{
	struct tree_dir *d;
	struct entry en;
	char *name = xcalloc(1, RECORD_PATH_MAX + 2);

	memset(name, 'n', RECORD_PATH_MAX + 1);
	begin("/r");
	d = tree_next(tree);
	entry_init(&en, "a\0b", 3, ENTRY_FILE);
	ck_assert_int_eq(tree_entry(tree, d, &en, &e), TREE_NO);
	ck_assert_int_eq(give(d, "a/b", ENTRY_FILE), TREE_NO);
	ck_assert_int_eq(give(d, "../up", ENTRY_DIR), TREE_NO);
	ck_assert_int_eq(give(d, name, ENTRY_FILE), TREE_NO);
	ck_assert_int_eq(give(d, "", ENTRY_FILE), TREE_NO);
	ck_assert_int_eq(give(d, "\xff\n\r\x01", ENTRY_FILE), TREE_NO);
	finish(d);
	ck_assert_ptr_null(tree_next(tree));
	end();
	ck_assert_str_eq(paths(), "/r/\xff\n\r\x01");
	ck_assert_uint_eq(run.done.unreadable, 4);
	ck_assert_str_eq(run.done.named[1].reason, "the name holds a '/'");
	free(name);
}
END_TEST

START_TEST(refused_directories)
{
	struct tree_dir *d;

	begin("/r");
	d = tree_next(tree);
	give(d, "gone", ENTRY_DIR);
	give(d, "shut", ENTRY_DIR);
	give(d, "broken", ENTRY_DIR);
	finish(d);
	d = tree_next(tree);
	ck_assert_int_eq(tree_dir_refused(tree, d, ERR_TRANSIENT, "reset", &e), -1);
	ck_assert_int_eq(e.cls, ERR_TRANSIENT);
	d = tree_next(tree);
	ck_assert_int_eq(tree_dir_refused(tree, d, ERR_AUTH, "denied", &e), 0);
	d = tree_next(tree);
	ck_assert_int_eq(tree_dir_refused(tree, d, ERR_NOT_FOUND, "no such file", &e), 0);
	ck_assert_uint_eq(run.done.unreadable, 1);
	ck_assert_str_eq(run.done.named[0].path, "/r/shut");
	ck_assert_str_eq(run.done.named[0].reason, "denied");
	end();
}
END_TEST

START_TEST(refused_root)
{
	begin("/r");
	ck_assert_int_eq(tree_dir_refused(tree, tree_next(tree), ERR_NOT_FOUND, "no such directory", &e), -1);
	ck_assert_int_eq(e.cls, ERR_NOT_FOUND);
}
END_TEST

START_TEST(unreadable_may_fail)
{
	struct tree_dir *d;

	mini_set(&task, SF_COMMON_ON_UNREADABLE, 1);
	begin("/r");
	d = tree_next(tree);
	give(d, "shut", ENTRY_DIR);
	finish(d);
	ck_assert_int_eq(tree_dir_refused(tree, tree_next(tree), ERR_AUTH, "denied", &e), -1);
	ck_assert_int_eq(e.cls, ERR_AUTH);
}
END_TEST

START_TEST(again)
{
	struct tree_dir *d;

	begin("/r");
	d = tree_next(tree);
	tree_dir_again(tree, d);
	ck_assert_uint_eq(tree_open_dirs(tree), 0);
	ck_assert_ptr_eq(tree_next(tree), d);
	give(d, "a", ENTRY_FILE);
	finish(d);
	end();
	ck_assert_str_eq(paths(), "/r/a");
}
END_TEST

START_TEST(max_files_stops)
{
	struct tree_dir *d;

	task.filter.max_files = 2;
	begin("/r");
	d = tree_next(tree);
	give(d, "a", ENTRY_FILE);
	give(d, "b", ENTRY_FILE);
	ck_assert(!tree_stopped(tree));
	give(d, "c", ENTRY_FILE);
	ck_assert(tree_stopped(tree));
	give(d, "sub", ENTRY_DIR);
	finish(d);
	ck_assert_ptr_null(tree_next(tree));
	end();
	ck_assert_str_eq(paths(), "/r/a /r/b");
	ck_assert(run.done.truncated);
}
END_TEST

/* ---- held back ---- */

static const struct { const char *done, *suffix, *names, *want; } holds[] = {
	{ "_SUCCESS", NULL, "a b _SUCCESS", "/r/a /r/b" },
	{ "_SUCCESS", NULL, "_SUCCESS a", "/r/a" },
	{ "_SUCCESS", NULL, "a b", "" },
	{ "{name}.done", NULL, "a a.done b c.done", "/r/a" },
	{ "{name}.done", NULL, "a.done a", "/r/a" },
	{ NULL, ".part", "a a.part b c.part", "/r/b" },
	{ NULL, ".part", "a.part b.part", "" },
	{ "ok", ".tmp", "a a.tmp b ok", "/r/b" },
	{ "ok", ".tmp", "a b", "" },
};

START_TEST(held_back)
{
	struct tree_dir *d;
	char *names = xstrdup(holds[_i].names), *save = NULL;

	if (holds[_i].done)
		task.filter.done_file = xstrdup(holds[_i].done);
	if (holds[_i].suffix)
		strlist_add(&task.filter.in_progress_suffixes, holds[_i].suffix);
	begin("/r");
	ck_assert(tree_holds(tree));
	d = tree_next(tree);
	for (char *n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save))
		ck_assert_int_eq(give(d, n, ENTRY_FILE), TREE_NO);
	ck_assert_uint_eq(run.done.matched, 0);
	finish(d);
	end();
	ck_assert_str_eq(paths(), holds[_i].want);
	ck_assert_uint_eq(run.done.listed, run.done.matched + run.done.skipped);
	free(names);
}
END_TEST

/* A done file counts for its own directory only. */
START_TEST(held_back_by_directory)
{
	struct tree_dir *d;

	task.filter.done_file = xstrdup("ok");
	begin("/r");
	d = tree_next(tree);
	give(d, "a", ENTRY_FILE);
	give(d, "ok", ENTRY_FILE);
	give(d, "sub", ENTRY_DIR);
	finish(d);
	d = tree_next(tree);
	give(d, "b", ENTRY_FILE);
	finish(d);
	end();
	ck_assert_str_eq(paths(), "/r/a");
}
END_TEST

/* A directory that holds the marker is passed over with all below it, whenever the marker comes; one beside it is not. */
START_TEST(marked_directories)
{
	static const char *const orders[] = { "a sub/ mark b", "mark a sub/ b", "a b sub/ mark", "sub/ a .h mark b" };
	char *names = xstrdup(orders[_i]), *save = NULL;
	struct tree_dir *d;

	task.filter.exclude_if_present = xstrdup("mark");
	begin("/r");
	d = tree_next(tree);
	give(d, "one", ENTRY_FILE);
	give(d, "in", ENTRY_DIR);
	give(d, "marks", ENTRY_FILE);
	give(d, "out", ENTRY_DIR);
	ck_assert_msg(!tree_next(tree), "a directory was handed out before its parent was read");
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "/r/out");
	give(d, "two", ENTRY_FILE);
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "/r/in");
	for (char *n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save)) {
		bool dir = n[strlen(n) - 1] == '/';

		n[strcspn(n, "/")] = '\0';
		ck_assert_int_eq(give(d, n, dir ? ENTRY_DIR : ENTRY_FILE), TREE_NO);
	}
	finish(d);
	ck_assert_ptr_null(tree_next(tree));
	end();
	ck_assert_str_eq(paths(), "/r/marks /r/one /r/out/two");
	ck_assert_uint_eq(run.done.listed, run.done.matched + run.done.skipped);
	free(names);
}
END_TEST

/* Whatever kind of entry has the name; the root is no exception; one file as the path is. */
START_TEST(marked_root)
{
	struct tree_dir *d;

	task.filter.exclude_if_present = xstrdup("mark");
	begin("/r");
	if (_i)
		tree_one_file(tree);
	ck_assert_int_eq(tree_holds(tree), !_i);
	d = tree_next(tree);
	give(d, "a", ENTRY_FILE);
	give(d, "mark", ENTRY_DIR);
	finish(d);
	end();
	ck_assert_str_eq(paths(), _i ? "/r/a" : "");
	ck_assert_ptr_null(_i ? NULL : tree_next(tree));
}
END_TEST

/* Directories that wait for their parent's end count as waiting, and are given back. */
START_TEST(marked_directories_are_bounded)
{
	enum tree_want want = TREE_NO;
	char name[260];
	struct tree_dir *d;

	task.filter.exclude_if_present = xstrdup("mark");
	begin("/r");
	d = tree_next(tree);
	for (int round = 0; round < 3; round++) {
		for (int k = 0; k < 10000; k++) {
			snprintf(name, sizeof(name), "%0240d", k);
			ck_assert_msg(give(d, name, ENTRY_DIR) == TREE_NO, "round %d: %s", round, e.text);
		}
		give(d, "mark", ENTRY_FILE);
		finish(d);
		ck_assert_ptr_null(tree_next(tree));
		tree_free(tree);
		tree = tree_new(&run, "/r", 2, &e);
		d = tree_next(tree);
	}
	for (int k = 0; k < 100000 && want == TREE_NO; k++) {
		snprintf(name, sizeof(name), "%0240d", k);
		want = give(d, name, ENTRY_DIR);
	}
	ck_assert_int_eq(want, TREE_FAILED);
	ck_assert_int_eq(e.cls, ERR_LIMIT);
	ck_assert_int_eq(tree_dir_refused(tree, d, ERR_LIMIT, e.text, &e), -1);
}
END_TEST

static const struct { unsigned types; const char *want; uint64_t listed; } typed[] = {
	{ 1, "/r/a /r/d/b", 5 }, { 2, "/r/d /r/d/e", 8 }, { 4, "/r/l", 5 }, { 7, "/r/a /r/d /r/d/b /r/d/e /r/l", 8 },
};

/* Directories count as listed only where they are asked for. */
START_TEST(types)
{
	static const char *const kinds[] = { "d", "e", NULL };
	struct tree_dir *d;

	task.filter.types = typed[_i].types;
	strlist_add(&task.filter.exclude_dirs, "x");
	begin("/r");
	d = tree_next(tree);
	give(d, "a", ENTRY_FILE);
	give(d, "d", ENTRY_DIR);
	give(d, "l", ENTRY_LINK);
	give(d, "x", ENTRY_DIR);
	give(d, "o", ENTRY_OTHER);
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "/r/d");
	give(d, "b", ENTRY_FILE);
	give(d, ".m", ENTRY_LINK);
	give(d, "e", ENTRY_DIR);
	finish(d);
	end();
	ck_assert_str_eq(paths(), typed[_i].want);
	ck_assert_uint_eq(run.done.listed, typed[_i].listed);
	ck_assert_uint_eq(run.done.listed, run.done.matched + run.done.skipped);
	for (size_t i = 0; i < got.n; i++) {
		bool dir = false;

		for (int k = 0; kinds[k]; k++)
			dir |= !strcmp(strrchr(got.v[i].path, '/') + 1, kinds[k]);
		ck_assert_int_eq(got.v[i].kind, dir ? FILE_DIR : !strcmp(got.v[i].path, "/r/l") ? FILE_LINK : FILE_PLAIN);
		ck_assert_int_eq(got.v[i].size, got.v[i].kind == FILE_PLAIN ? 7 : -1);
		ck_assert_int_eq(got.v[i].is_symlink, got.v[i].kind == FILE_LINK);
	}
}
END_TEST

/* The companions of one directory are no burden to the next. */
START_TEST(companions_are_given_back)
{
	char name[260];

	task.filter.done_file = xstrdup("{name}.done");
	begin("/r");
	for (int i = 0; i < 200; i++) {
		struct tree_dir *d = tree_next(tree);

		snprintf(name, sizeof(name), "d%d", i);
		give(d, name, ENTRY_DIR);
		for (int k = 0; k < 400; k++) {
			snprintf(name, sizeof(name), "%0240d.done", k);
			ck_assert_msg(give(d, name, ENTRY_FILE) == TREE_NO, "directory %d: %s", i, e.text);
		}
		finish(d);
	}
	end();
	ck_assert_uint_eq(run.done.listed, 200 * 400);
	ck_assert_uint_eq(run.done.skipped, 200 * 400);
}
END_TEST

static const struct { const char *done; bool finished; } cuts[] = { { "ok", true }, { "ok", false }, { NULL, true }, { NULL, false } };

/* Each that was listed is matched or skipped, also where max_files cut, or the directory broke off. */
START_TEST(counts_of_a_cut)
{
	struct entry en;
	struct tree_dir *d;

	task.filter.done_file = cuts[_i].done ? xstrdup(cuts[_i].done) : NULL;
	task.filter.max_files = 2;
	begin("/r");
	d = tree_next(tree);
	entry_init(&en, "asked", 5, ENTRY_FILE);
	ck_assert_int_eq(tree_ask(tree, d, &en, &e), TREE_YES);
	for (const char *n = "a\0b\0c\0d\0ok\0"; *n; n += strlen(n) + 1)
		give(d, n, ENTRY_FILE);
	if (cuts[_i].finished)
		finish(d);
	else
		ck_assert_int_eq(tree_dir_refused(tree, d, ERR_TRANSIENT, "gone", &e), -1);
	ck_assert_int_eq(tree_stopped(tree), cuts[_i].finished || !cuts[_i].done);
	if (tree_stopped(tree)) {
		tree_free(tree);
		tree = NULL;
	} else {
		run_skipped(&run);      /* "asked": an error ends this listing */
	}
	end();
	ck_assert_uint_eq(run.done.listed, 6);
	ck_assert_uint_eq(run.done.matched, tree ? 0 : 2);
	ck_assert_uint_eq(run.done.skipped, 6 - run.done.matched);
}
END_TEST

/* ---- links ---- */

static const struct { int follow; enum entry_type leads_to; const char *real, *want; bool enters; } links[] = {
	{ 0, ENTRY_FILE, "/r/t", "", false },
	{ 1, ENTRY_FILE, "/r/t", "/r/link", false },
	{ 1, ENTRY_DIR, "/r/d", "", false },
	{ 2, ENTRY_FILE, "/r/t", "/r/link", false },
	{ 2, ENTRY_DIR, "/r/d", "", true },
	{ 2, ENTRY_DIR, "/elsewhere", "", true },
	{ 2, ENTRY_DIR, NULL, "", true },
	{ 2, ENTRY_DIR, "/r", "", false },      /* itself */
	{ 2, ENTRY_DIR, "/", "", false },       /* above */
	{ 2, ENTRY_OTHER, "/r/dev", "", false },
};

START_TEST(links_lead)
{
	struct tree_dir *d;
	struct entry en;
	const char *real = links[_i].real;
	enum tree_want want;

	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, links[_i].follow);
	begin("/r");
	d = tree_next(tree);
	entry_init(&en, "link", 4, ENTRY_LINK);
	want = tree_entry(tree, d, &en, &e);
	ck_assert_int_eq(want, links[_i].follow ? TREE_RESOLVE : TREE_NO);
	if (want == TREE_RESOLVE) {
		en.type = links[_i].leads_to;
		en.rec.is_symlink = true;
		en.rec.link_target = "t";
		en.rec.link_target_n = 1;
		ck_assert_int_eq(tree_link(tree, d, &en, real, real ? strlen(real) : 0, &e), RUN_GO_ON);
	}
	finish(d);
	d = tree_next(tree);
	ck_assert_int_eq(d != NULL, links[_i].enters);
	if (d)
		finish(d);
	end();
	ck_assert_str_eq(paths(), links[_i].want);
	if (got.n)
		ck_assert(got.v[0].is_symlink && !strcmp(got.v[0].target, "t"));
	ck_assert_uint_eq(run.done.listed, run.done.matched + run.done.skipped);
}
END_TEST

/* a/link -> /r: below what a link led to, the way back is known as well. */
START_TEST(links_back_through_links)
{
	struct tree_dir *d;
	struct entry en;

	mini_set(&task, SF_COMMON_FOLLOW_SYMLINKS, 2);
	begin("/r");
	d = tree_next(tree);
	entry_init(&en, "out", 3, ENTRY_LINK);
	ck_assert_int_eq(tree_entry(tree, d, &en, &e), TREE_RESOLVE);
	en.type = ENTRY_DIR;
	ck_assert_int_eq(tree_link(tree, d, &en, "/other", 6, &e), RUN_GO_ON);
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "/r/out");
	give(d, "deep", ENTRY_DIR);
	finish(d);
	d = tree_next(tree);
	ck_assert_str_eq(d->path, "/r/out/deep");
	for (size_t i = 0; i < 3; i++) {
		static const char *const back[] = { "/r", "/other", "/other/deep" };

		entry_init(&en, "back", 4, ENTRY_LINK);
		ck_assert_int_eq(tree_entry(tree, d, &en, &e), TREE_RESOLVE);
		en.type = ENTRY_DIR;
		ck_assert_int_eq(tree_link(tree, d, &en, back[i], strlen(back[i]), &e), RUN_GO_ON);
	}
	finish(d);
	ck_assert_ptr_null(tree_next(tree));
	end();
}
END_TEST

static const struct { const char *cycle[4]; size_t period; } cycles[] = {
	{ { "up" }, 1 }, { { "a", "up" }, 2 }, { { "a", "b", "up" }, 3 }, { { "a", "b", "c", "up" }, 4 },
};

START_TEST(loops_that_the_protocol_does_not_show)
{
	struct tree_dir *d = NULL;
	unsigned levels = 0;
	enum tree_want want = TREE_NO;

	begin("/r");
	while (want != TREE_FAILED && levels < 200) {
		d = tree_next(tree);
		want = give(d, cycles[_i].cycle[levels++ % cycles[_i].period], ENTRY_DIR);
		if (want != TREE_FAILED)
			finish(d);
	}
	ck_assert_int_eq(e.cls, ERR_LISTING_LOOP);
	ck_assert_uint_le(levels, 8 * cycles[_i].period);
	finish(d);
}
END_TEST

START_TEST(keys_may_repeat)
{
	struct tree_dir *d;

	begin("");
	tree_keys(tree);
	for (int i = 0; i < 20; i++) {
		d = tree_next(tree);
		ck_assert_int_eq(give(d, "a", ENTRY_DIR), TREE_NO);
		finish(d);
	}
	d = tree_next(tree);
	ck_assert_uint_eq(d->depth, 20);
	finish(d);
}
END_TEST

START_TEST(deep_is_no_loop)
{
	struct tree_dir *d = NULL;
	unsigned levels = 0;
	enum tree_want want = TREE_NO;

	begin("/r");
	while (want != TREE_FAILED && levels < 300) {
		char name[16];

		snprintf(name, sizeof(name), "%u", levels++);
		d = tree_next(tree);
		want = give(d, name, ENTRY_DIR);
		if (want != TREE_FAILED)
			finish(d);
	}
	ck_assert_int_eq(e.cls, ERR_LIMIT);
	ck_assert_uint_eq(levels, 256);
	finish(d);
}
END_TEST

START_TEST(the_queue_is_bounded)
{
	struct tree_dir *d;
	enum tree_want want = TREE_NO;
	unsigned n = 0;

	begin("/r");
	d = tree_next(tree);
	while (want != TREE_FAILED && n < 10000000) {
		char name[240];

		snprintf(name, sizeof(name), "%0230u", n++);
		want = give(d, name, ENTRY_DIR);
	}
	ck_assert_int_eq(e.cls, ERR_LIMIT);
	ck_assert_uint_gt(n, 10000);
	ck_assert_uint_lt(n, 50000);
	finish(d);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_tree");
	TCase *t = tcase_create("tree");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_test(t, walks_below);
	tcase_add_test(t, roots);
	tcase_add_test(t, keys);
	tcase_add_loop_test(t, keys_with_another_delimiter, 0, ARRAY_LEN(delimited));
	tcase_add_loop_test(t, keys_are_judged_by_their_own_path, 0, (int)ARRAY_LEN(deep_keys));
	tcase_add_loop_test(t, depth, 0, (int)ARRAY_LEN(depths));
	tcase_add_test(t, names_that_cannot_be);
	tcase_add_test(t, refused_directories);
	tcase_add_test(t, refused_root);
	tcase_add_test(t, unreadable_may_fail);
	tcase_add_test(t, again);
	tcase_add_test(t, max_files_stops);
	tcase_add_loop_test(t, held_back, 0, (int)ARRAY_LEN(holds));
	tcase_add_test(t, held_back_by_directory);
	tcase_add_test(t, companions_are_given_back);
	tcase_add_loop_test(t, marked_directories, 0, 4);
	tcase_add_loop_test(t, marked_root, 0, 2);
	tcase_add_test(t, marked_directories_are_bounded);
	tcase_add_loop_test(t, types, 0, ARRAY_LEN(typed));
	tcase_add_loop_test(t, counts_of_a_cut, 0, (int)ARRAY_LEN(cuts));
	tcase_add_loop_test(t, links_lead, 0, (int)ARRAY_LEN(links));
	tcase_add_test(t, links_back_through_links);
	tcase_add_loop_test(t, loops_that_the_protocol_does_not_show, 0, (int)ARRAY_LEN(cycles));
	tcase_add_test(t, keys_may_repeat);
	tcase_add_test(t, deep_is_no_loop);
	tcase_add_test(t, the_queue_is_bounded);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
