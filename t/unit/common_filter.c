/*
 * common_filter.c - unit of the filters: a table of entries for each rule, the frame's limits, and what is
 * refused when a filter is made.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/filter.h"
#include "common/glob.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NOW (INT64_C(1767323045) * 1000000000)
#define MS INT64_C(1000000)

/* Lists are written "a b c". */
static void
add_all(struct strlist *l, const char *words)
{
	char *copy = xstrdup(words ? words : ""), *save = NULL;

	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		strlist_add(l, w);
	free(copy);
}

static const struct {
	const char *patterns, *include, *exclude, *suffixes, *ext, *done, *rel;
	bool fold, hidden, wanted;
} names[] = {
	{ .patterns = "*", .rel = "a", .wanted = 1 },
	{ .patterns = "*", .rel = "d/e/a", .wanted = 1 },
	{ .patterns = "*.csv *.txt", .rel = "d/a.txt", .wanted = 1 },
	{ .patterns = "*.csv *.txt", .rel = "a.pdf" },
	{ .patterns = "in/*.csv", .rel = "in/a.csv", .wanted = 1 },
	{ .patterns = "in/*.csv", .rel = "out/a.csv" },
	{ .patterns = "*.CSV", .rel = "a.csv" },
	{ .patterns = "*.CSV", .rel = "a.csv", .fold = 1, .wanted = 1 },
	{ .patterns = "", .rel = "a" },
	{ .patterns = "*", .include = "a* b*", .rel = "b1", .wanted = 1 },
	{ .patterns = "*", .include = "a* b*", .rel = "c1" },
	{ .patterns = "*", .exclude = "*.bak tmp/**", .rel = "a.bak" },
	{ .patterns = "*", .exclude = "*.bak tmp/**", .rel = "tmp/x/a" },
	{ .patterns = "*", .exclude = "*.bak tmp/**", .rel = "a", .wanted = 1 },
	{ .patterns = "*", .include = "a*", .exclude = "*z", .rel = "az" },
	{ .patterns = "*", .rel = ".a" },
	{ .patterns = "*", .rel = "d/.a" },
	{ .patterns = "*", .rel = ".d/a" },
	{ .patterns = "*", .rel = "d/.e/a" },
	{ .patterns = "*", .rel = "d.e/a.b", .wanted = 1 },
	{ .patterns = ".*", .rel = ".a" },
	{ .patterns = "*", .rel = ".d/.a", .hidden = 1, .wanted = 1 },
	{ .patterns = "*", .suffixes = ".part .tmp", .rel = "a.part" },
	{ .patterns = "*", .suffixes = ".part .tmp", .rel = "d/a.tmp" },
	{ .patterns = "*", .suffixes = ".part .tmp", .rel = "a.part2", .wanted = 1 },
	{ .patterns = "*", .suffixes = ".part .tmp", .rel = "d.tmp/a", .wanted = 1 },
	{ .patterns = "*", .suffixes = "part", .rel = "part" },
	{ .patterns = "*", .suffixes = ".longer.than.the.name", .rel = "a", .wanted = 1 },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "a.csv", .wanted = 1 },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "d/A.CSV", .wanted = 1 },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "a.TAR.gz", .wanted = 1 },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "a.gz" },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "acsv" },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "csv" },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "a.csv.bak" },
	{ .patterns = "*", .ext = "csv .tar.gz", .rel = "a.csv/b" },
	{ .patterns = "*", .ext = "csv", .rel = "d/.csv", .hidden = 1 },
	{ .patterns = "b*", .ext = "csv", .rel = "a.csv" },
	{ .patterns = "*", .done = "_SUCCESS", .rel = "d/_SUCCESS" },
	{ .patterns = "*", .done = "_SUCCESS", .rel = "d/_SUCCESS2", .wanted = 1 },
	{ .patterns = "*", .done = "{name}.done", .rel = "a.csv.done" },
	{ .patterns = "*", .done = "{name}.done", .rel = "a.csv", .wanted = 1 },
	{ .patterns = "*", .done = "{name}.done", .rel = ".done", .hidden = 1, .wanted = 1 },
	{ .patterns = "*", .done = "ok-{name}-ok", .rel = "ok-a-ok" },
	{ .patterns = "*", .done = "ok-{name}-ok", .rel = "ok-ok", .wanted = 1 },
	{ .patterns = "*", .done = "ok-{name}-ok", .rel = "ok--ok", .wanted = 1 },
};

START_TEST(by_name)
{
	struct filter_spec spec;
	struct err e = ERR_INIT;
	struct filter *f;

	filter_spec_init(&spec);
	add_all(&spec.patterns, names[_i].patterns);
	add_all(&spec.include, names[_i].include);
	add_all(&spec.exclude, names[_i].exclude);
	add_all(&spec.in_progress_suffixes, names[_i].suffixes);
	add_all(&spec.extensions, names[_i].ext);
	spec.done_file = names[_i].done ? xstrdup(names[_i].done) : NULL;
	spec.ignore_case = names[_i].fold;
	spec.include_hidden = names[_i].hidden;
	f = filter_new(&spec, NOW, &e);
	ck_assert_msg(f != NULL, "%s", e.text);
	ck_assert_msg((filter_name(f, names[_i].rel, strlen(names[_i].rel)) == FILTER_YES) == names[_i].wanted,
	    "row %d: %s", _i, names[_i].rel);
	ck_assert(!filter_needs_attrs(f));
	ck_assert_int_eq(filter_attrs(f, -1, TIME_UNKNOWN), FILTER_YES);
	filter_free(f);
	filter_spec_release(&spec);
}
END_TEST

static const struct {
	int64_t min_size, max_size, min_age, max_age, after, before; /* -1: none */
	int64_t size, mtime;
	bool wanted;
} attrs[] = {
	{ 10, -1, -1, -1, -1, -1, 9, NOW, 0 }, { 10, -1, -1, -1, -1, -1, 10, TIME_UNKNOWN, 1 },
	{ 0, -1, -1, -1, -1, -1, 0, NOW, 1 }, { 0, -1, -1, -1, -1, -1, -1, NOW, 0 },
	{ -1, 10, -1, -1, -1, -1, 10, NOW, 1 }, { -1, 10, -1, -1, -1, -1, 11, NOW, 0 },
	{ -1, 0, -1, -1, -1, -1, 0, NOW, 1 }, { -1, 10, -1, -1, -1, -1, -1, NOW, 0 },
	{ 5, 5, -1, -1, -1, -1, 5, NOW, 1 }, { 1, -1, -1, -1, -1, -1, INT64_MAX, NOW, 1 },
	{ -1, -1, 1000, -1, -1, -1, 1, NOW - 1000 * MS, 1 }, { -1, -1, 1000, -1, -1, -1, 1, NOW - 1000 * MS + 1, 0 },
	{ -1, -1, 0, -1, -1, -1, 1, NOW, 1 }, { -1, -1, 0, -1, -1, -1, 1, NOW + 1, 0 },
	{ -1, -1, 1000, -1, -1, -1, 1, TIME_UNKNOWN, 0 }, { -1, -1, -1, 1000, -1, -1, 1, NOW - 1000 * MS, 1 },
	{ -1, -1, -1, 1000, -1, -1, 1, NOW - 1000 * MS - 1, 0 }, { -1, -1, -1, 0, -1, -1, 1, NOW + 5, 1 },
	{ -1, -1, -1, 1000, -1, -1, 1, TIME_UNKNOWN, 0 }, { -1, -1, INT64_MAX, -1, -1, -1, 1, 0, 0 },
	{ -1, -1, -1, INT64_MAX, -1, -1, 1, INT64_MIN + 1, 1 }, { -1, -1, 1000, -1, -1, -1, 1, INT64_MIN + 1, 1 },
	{ -1, -1, 1000, -1, -1, -1, 1, INT64_MAX, 0 }, { -1, -1, -1, -1, NOW, -1, 1, NOW, 0 },
	{ -1, -1, -1, -1, NOW, -1, 1, NOW + 1, 1 }, { -1, -1, -1, -1, -1, NOW, 1, NOW, 0 },
	{ -1, -1, -1, -1, -1, NOW, 1, NOW - 1, 1 }, { -1, -1, -1, -1, -1, NOW, 1, TIME_UNKNOWN, 0 },
	{ -1, -1, -1, -1, 5, 7, 1, 6, 1 }, { 1, 2, 1, 2, 5, NOW, 2, NOW - 2 * MS, 1 },
	{ 1, 2, 1, 2, 5, NOW, 3, NOW - 2 * MS, 0 },
};

START_TEST(by_attrs)
{
	struct filter_spec spec;
	struct err e = ERR_INIT;
	struct filter *f;

	filter_spec_init(&spec);
	strlist_add(&spec.patterns, "*");
	spec.min_size = attrs[_i].min_size;
	spec.max_size = attrs[_i].max_size;
	spec.min_age_ms = attrs[_i].min_age;
	spec.max_age_ms = attrs[_i].max_age;
	spec.modified_after_ns = attrs[_i].after < 0 ? TIME_UNKNOWN : attrs[_i].after;
	spec.modified_before_ns = attrs[_i].before < 0 ? TIME_UNKNOWN : attrs[_i].before;
	f = filter_new(&spec, NOW, &e);
	ck_assert_ptr_nonnull(f);
	ck_assert(filter_needs_attrs(f));
	ck_assert_int_eq(filter_attrs(f, attrs[_i].size, attrs[_i].mtime) == FILTER_YES, attrs[_i].wanted);
	filter_free(f);
	filter_spec_release(&spec);
}
END_TEST

START_TEST(directories)
{
	static const struct {
		const char *exclude, *rel;
		bool hidden, wanted;
	} t[] = {
		{ "", "d", 0, 1 }, { "", ".d", 0, 0 }, { "", "d/.e", 0, 0 }, { "", "d/.e", 1, 1 },
		{ "tmp", "tmp", 0, 0 }, { "tmp", "a/tmp", 0, 0 }, { "tmp", "tmp2", 0, 1 }, { "tmp/", "a/tmp", 0, 0 },
		{ "/tmp", "a/tmp", 0, 1 }, { "/tmp", "tmp", 0, 0 }, { "a/*", "a/b", 0, 0 }, { "a/*", "a", 0, 1 },
		{ "x**/old", "x/y/old", 0, 0 }, { "x y*", "yz", 0, 0 }, { "/", "a", 0, 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct filter_spec spec;
		struct err e = ERR_INIT;
		struct filter *f;

		filter_spec_init(&spec);
		strlist_add(&spec.patterns, "*");
		add_all(&spec.exclude_dirs, t[i].exclude);
		spec.include_hidden = t[i].hidden;
		f = filter_new(&spec, NOW, &e);
		ck_assert_ptr_nonnull(f);
		ck_assert_msg((filter_dir(f, t[i].rel, strlen(t[i].rel)) == FILTER_YES) == t[i].wanted, "'%s' '%s'",
		    t[i].exclude, t[i].rel);
		filter_free(f);
		filter_spec_release(&spec);
	}
}
END_TEST

START_TEST(done_names)
{
	static const struct {
		const char *done, *name, *out; /* out NULL: no rule */
	} t[] = {
		{ NULL, "a", NULL }, { "_SUCCESS", "a", "_SUCCESS" }, { "{name}.done", "a.csv", "a.csv.done" },
		{ "ok-{name}", "a", "ok-a" }, { "x{name}y", "{name}", "x{name}y" },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct filter_spec spec;
		struct err e = ERR_INIT;
		struct buf b = BUF_INIT;
		struct filter *f;

		filter_spec_init(&spec);
		strlist_add(&spec.patterns, "*");
		spec.done_file = t[i].done ? xstrdup(t[i].done) : NULL;
		f = filter_new(&spec, NOW, &e);
		ck_assert_ptr_nonnull(f);
		ck_assert_int_eq(filter_done_name(f, t[i].name, strlen(t[i].name), &b), t[i].out != NULL);
		ck_assert_str_eq(buf_str(&b), t[i].out ? t[i].out : "");
		buf_release(&b);
		filter_free(f);
		filter_spec_release(&spec);
	}
}
END_TEST

START_TEST(refused)
{
	static const struct {
		const char *pattern, *exclude, *dirs, *suffix, *done, *marker;
	} t[] = {
		{ .pattern = "[a" }, { .pattern = "*", .exclude = "a{b" }, { .pattern = "*", .dirs = "a\\" },
		{ .pattern = "*", .suffix = "/x" }, { .pattern = "*", .done = "a/b" }, { .pattern = "*", .done = "" },
		{ .pattern = "*", .done = ".." }, { .pattern = "*", .done = "{name}" },
		{ .pattern = "*", .done = "{name}{name}" }, { .pattern = "*", .marker = "" }, { .pattern = "*", .marker = "a/b" },
		{ .pattern = "*", .marker = "." }, { .pattern = "*", .marker = ".." },
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct filter_spec spec;
		struct err e = ERR_INIT;

		filter_spec_init(&spec);
		add_all(&spec.patterns, t[i].pattern);
		add_all(&spec.exclude, t[i].exclude);
		add_all(&spec.exclude_dirs, t[i].dirs);
		add_all(&spec.in_progress_suffixes, t[i].suffix);
		spec.done_file = t[i].done ? xstrdup(t[i].done) : NULL;
		spec.exclude_if_present = t[i].marker ? xstrdup(t[i].marker) : NULL;
		ck_assert_msg(!filter_new(&spec, NOW, &e), "row %zu", i);
		ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
		ck_assert(e.text[0]);
		filter_spec_release(&spec);
	}
}
END_TEST

static void
fill(struct filter_spec *s)
{
	filter_spec_init(s);
	add_all(&s->patterns, "*.csv a{b,c}");
	add_all(&s->include, "x");
	add_all(&s->exclude_dirs, "tmp old");
	add_all(&s->in_progress_suffixes, ".part");
	add_all(&s->extensions, "csv");
	s->done_file = xstrdup("{name}.ok");
	s->exclude_if_present = xstrdup(".skip");
	s->stable_checks = 3;
	s->stable_interval_ms = 1500;
	s->types = FILE_BIT(FILE_DIR) | FILE_BIT(FILE_LINK);
	s->ignore_case = true;
	s->min_size = 1;
	s->max_size = INT64_MAX;
	s->max_age_ms = 7;
	s->modified_before_ns = -9;
	s->max_files = 11;
}

START_TEST(frame_reads_back)
{
	struct filter_spec in, out;
	struct buf b = BUF_INIT, again = BUF_INIT;
	struct cursor c;

	fill(&in);
	filter_spec_encode(&in, &b);
	cursor_init(&c, b.p, b.len);
	ck_assert_int_eq(filter_spec_decode(&out, &c), 0);
	ck_assert(cursor_end(&c));
	ck_assert_uint_eq(out.patterns.n, 2);
	ck_assert_str_eq(out.patterns.v[1], "a{b,c}");
	ck_assert_uint_eq(out.exclude.n, 0);
	ck_assert_str_eq(out.exclude_dirs.v[1], "old");
	ck_assert_str_eq(out.in_progress_suffixes.v[0], ".part");
	ck_assert_str_eq(out.extensions.v[0], "csv");
	ck_assert_str_eq(out.done_file, "{name}.ok");
	ck_assert_str_eq(out.exclude_if_present, ".skip");
	ck_assert_uint_eq(out.types, 6);
	ck_assert_int_eq(out.stable_checks, 3);
	ck_assert_int_eq(out.stable_interval_ms, 1500);
	ck_assert(out.ignore_case && !out.include_hidden);
	ck_assert_int_eq(out.max_size, INT64_MAX);
	ck_assert_int_eq(out.min_age_ms, -1);
	ck_assert_int_eq(out.modified_after_ns, TIME_UNKNOWN);
	ck_assert_int_eq(out.modified_before_ns, -9);
	ck_assert_int_eq(out.max_files, 11);
	filter_spec_encode(&out, &again);
	ck_assert_uint_eq(again.len, b.len);
	ck_assert_mem_eq(again.p, b.p, b.len);
	filter_spec_release(&in);
	filter_spec_release(&out);
	buf_release(&b);
	buf_release(&again);
}
END_TEST

static bool
decodes(const void *p, size_t n)
{
	struct filter_spec s;
	struct cursor c;
	bool good;

	cursor_init(&c, p, n);
	good = filter_spec_decode(&s, &c) == 0;
	ck_assert_int_eq(good, !c.bad);
	/* Released or not, what is there can be released. */
	filter_spec_release(&s);
	return good;
}

START_TEST(frame_is_hostile)
{
	struct filter_spec s;
	struct buf b = BUF_INIT;
	uint32_t n = FILTER_LIST_MAX + 1;
	char *big = xcalloc(1, GLOB_MAX + 2);

	fill(&s);
	filter_spec_encode(&s, &b);
	for (size_t i = 0; i < b.len; i++) {
		char *copy = xmemdup0(b.p, i);

		ck_assert_msg(!decodes(copy, i), "%zu bytes of %zu were taken", i, b.len);
		free(copy);
	}
	/* Every byte turned to 0xff in turn: refused or taken, never worse. */
	for (size_t i = 0; i < b.len; i++) {
		char was = b.p[i];

		b.p[i] = (char)0xff;
		/* The types and two flags stand before the seven numbers; the flags are 0 or 1. */
		ck_assert(!decodes(b.p, b.len) || i < b.len - 59 || i > b.len - 57);
		b.p[i] = was;
	}
	ck_assert(decodes(b.p, b.len));
	/* before the types: interval, and checks before that */
	b.p[b.len - 75] = 101;
	ck_assert_msg(!decodes(b.p, b.len), "101 checks were taken");
	b.p[b.len - 75] = 3;
	b.p[b.len - 59] = 0;
	ck_assert_msg(!decodes(b.p, b.len), "no types at all were taken");
	b.p[b.len - 59] = 7;
	ck_assert(decodes(b.p, b.len));
	memcpy(b.p, &n, sizeof(n));
	ck_assert(!decodes(b.p, b.len));
	filter_spec_release(&s);

	/* as many as may be, and one more; as long as may be, and one more */
	for (size_t more = 0; more < 2; more++) {
		filter_spec_init(&s);
		for (size_t i = 0; i < FILTER_LIST_MAX + more; i++)
			strlist_add(&s.exclude, "x");
		buf_clear(&b);
		filter_spec_encode(&s, &b);
		ck_assert_int_eq(decodes(b.p, b.len), !more);
		filter_spec_release(&s);
		memset(big, 'a', GLOB_MAX + more);
		strlist_add(&s.patterns, big);
		buf_clear(&b);
		filter_spec_encode(&s, &b);
		ck_assert_int_eq(decodes(b.p, b.len), !more);
		filter_spec_release(&s);
	}
	s.min_age_ms = -2;
	buf_clear(&b);
	filter_spec_encode(&s, &b);
	ck_assert(!decodes(b.p, b.len));
	free(big);
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("common_filter");
	TCase *t = tcase_create("filter");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, by_name, 0, (int)ARRAY_LEN(names));
	tcase_add_loop_test(t, by_attrs, 0, (int)ARRAY_LEN(attrs));
	tcase_add_test(t, directories);
	tcase_add_test(t, done_names);
	tcase_add_test(t, refused);
	tcase_add_test(t, frame_reads_back);
	tcase_add_test(t, frame_is_hostile);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
