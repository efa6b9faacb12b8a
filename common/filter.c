/*
 * filter.c - which entries of a listing the job wants.
 *
 * Sources ask before they fetch anything: by name, then by size and time; directories before they are
 * entered. The validator makes one too, so that a bad pattern fails the job before it runs. Decides from what
 * it is given alone: it never looks at a file system. Lists that come in a frame are bounded here.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/filter.h"
#include "common/glob.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NS_PER_MS 1000000

static const char name_mark[] = "{name}";

const char *const file_kind_names[FILE__MAX] = { [FILE_PLAIN] = "file", [FILE_DIR] = "dir", [FILE_LINK] = "symlink" };

void
strlist_add(struct strlist *l, const char *s)
{
	/* Grows at powers of two, which are the only lengths at which there is no room left. */
	if (!(l->n & (l->n - 1)))
		l->v = xreallocarray(l->v, l->n ? l->n * 2 : 1, sizeof(char *));
	l->v[l->n++] = xstrdup(s);
}

void
strlist_release(struct strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct strlist){ NULL, 0 };
}

/* the frame */

static void
strlist_encode(const struct strlist *l, struct buf *b)
{
	buf_u32(b, (uint32_t)l->n);
	for (size_t i = 0; i < l->n; i++)
		buf_cstr(b, l->v[i]);
}

static void
strlist_decode(struct strlist *l, struct cursor *c)
{
	uint32_t n = cursor_u32(c);

	if (n > FILTER_LIST_MAX)
		cursor_fail(c);
	for (uint32_t i = 0; i < n && !c->bad; i++) {
		char *s = cursor_strdup(c, GLOB_MAX);

		if (s)
			strlist_add(l, s);
		free(s);
	}
}

static bool
flag_decode(struct cursor *c)
{
	uint8_t v = cursor_u8(c);

	if (v > 1)
		cursor_fail(c);
	return v == 1;
}

void
filter_spec_init(struct filter_spec *f)
{
	*f = (struct filter_spec){
		.min_size = -1, .max_size = -1, .min_age_ms = -1, .max_age_ms = -1,
		.modified_after_ns = TIME_UNKNOWN, .modified_before_ns = TIME_UNKNOWN, .types = FILE_BIT(FILE_PLAIN),
	};
}

void
filter_spec_release(struct filter_spec *f)
{
	strlist_release(&f->patterns);
	strlist_release(&f->include);
	strlist_release(&f->exclude);
	strlist_release(&f->exclude_dirs);
	strlist_release(&f->in_progress_suffixes);
	strlist_release(&f->extensions);
	free(f->done_file);
	free(f->exclude_if_present);
	filter_spec_init(f);
}

void
filter_spec_encode(const struct filter_spec *f, struct buf *b)
{
	strlist_encode(&f->patterns, b);
	strlist_encode(&f->include, b);
	strlist_encode(&f->exclude, b);
	strlist_encode(&f->exclude_dirs, b);
	strlist_encode(&f->in_progress_suffixes, b);
	strlist_encode(&f->extensions, b);
	buf_u8(b, f->done_file != NULL);
	if (f->done_file)
		buf_cstr(b, f->done_file);
	buf_u8(b, f->exclude_if_present != NULL);
	if (f->exclude_if_present)
		buf_cstr(b, f->exclude_if_present);
	buf_i64(b, f->stable_checks);
	buf_i64(b, f->stable_interval_ms);
	buf_u8(b, (uint8_t)f->types);
	buf_u8(b, f->ignore_case);
	buf_u8(b, f->include_hidden);
	buf_i64(b, f->min_size);
	buf_i64(b, f->max_size);
	buf_i64(b, f->min_age_ms);
	buf_i64(b, f->max_age_ms);
	buf_i64(b, f->modified_after_ns);
	buf_i64(b, f->modified_before_ns);
	buf_i64(b, f->max_files);
}

int
filter_spec_decode(struct filter_spec *f, struct cursor *c)
{
	filter_spec_init(f);
	strlist_decode(&f->patterns, c);
	strlist_decode(&f->include, c);
	strlist_decode(&f->exclude, c);
	strlist_decode(&f->exclude_dirs, c);
	strlist_decode(&f->in_progress_suffixes, c);
	strlist_decode(&f->extensions, c);
	if (flag_decode(c))
		f->done_file = cursor_strdup(c, GLOB_MAX);
	if (flag_decode(c))
		f->exclude_if_present = cursor_strdup(c, GLOB_MAX);
	f->stable_checks = cursor_i64(c);
	f->stable_interval_ms = cursor_i64(c);
	f->types = cursor_u8(c);
	f->ignore_case = flag_decode(c);
	f->include_hidden = flag_decode(c);
	f->min_size = cursor_i64(c);
	f->max_size = cursor_i64(c);
	f->min_age_ms = cursor_i64(c);
	f->max_age_ms = cursor_i64(c);
	f->modified_after_ns = cursor_i64(c);
	f->modified_before_ns = cursor_i64(c);
	f->max_files = cursor_i64(c);
	if (f->min_size < -1 || f->max_size < -1 || f->min_age_ms < -1 || f->max_age_ms < -1 ||
	    f->max_files < 0 || !f->types || f->types >= FILE_BIT(FILE__MAX) ||
	    f->stable_checks < 0 || f->stable_checks > FILTER_CHECKS_MAX || f->stable_interval_ms < 0)
		cursor_fail(c);
	if (!c->bad)
		return 0;
	filter_spec_release(f);
	return -1;
}

/* the filter */

struct globs {
	struct glob **v;
	size_t n;
};

struct filter {
	const struct filter_spec *spec;  /* borrowed */
	int64_t now_ns;
	struct globs patterns, include, exclude, exclude_dirs;
	size_t done_head, done_tail;     /* done_file: bytes before and after "{name}" */
	bool done_each;                  /* it holds "{name}" */
};

static int
globs_init(struct globs *g, const struct strlist *l, bool dirs, bool ignore_case, struct err *e)
{
	g->v = xcalloc(l->n, sizeof(*g->v));
	for (size_t i = 0; i < l->n; i++) {
		size_t n = strlen(l->v[i]);

		/* A directory may be written as it is shown, with its slash; an escaped one is meant. */
		if (dirs && n > 1 && l->v[i][n - 1] == '/' && l->v[i][n - 2] != '\\')
			n--;
		g->v[i] = glob_new(l->v[i], n, ignore_case, e);
		if (!g->v[i])
			return -1;
		g->n++;
	}
	return 0;
}

static void
globs_release(struct globs *g)
{
	for (size_t i = 0; i < g->n; i++)
		glob_free(g->v[i]);
	free(g->v);
}

static bool
globs_any(const struct globs *g, const char *rel, size_t n)
{
	for (size_t i = 0; i < g->n; i++)
		if (glob_match_entry(g->v[i], rel, n))
			return true;
	return false;
}

static bool
is_name(const char *s)
{
	return s[0] && !strchr(s, '/') && strcmp(s, ".") && strcmp(s, "..");
}

static int
done_init(struct filter *f, const char *done, struct err *e)
{
	const char *mark;

	if (!done)
		return 0;
	if (!is_name(done))
		return err_set(e, ERR_INVALID_JOB, "done_file: not a file's name");
	mark = strstr(done, name_mark);
	if (!mark)
		return 0;
	f->done_each = true;
	f->done_head = (size_t)(mark - done);
	f->done_tail = strlen(mark) - strlen(name_mark);
	if (!f->done_head && !f->done_tail)
		return err_set(e, ERR_INVALID_JOB, "done_file: {name} alone is the file itself");
	if (strstr(mark + 1, name_mark))
		return err_set(e, ERR_INVALID_JOB, "done_file: {name} may stand only once");
	return 0;
}

static int
suffixes_check(const struct strlist *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i][0] || strchr(l->v[i], '/'))
			return err_set(e, ERR_INVALID_JOB,
			    "in_progress_suffixes: not the end of a file's name");
	return 0;
}

static int
extensions_check(const struct strlist *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i][l->v[i][0] == '.'] || strchr(l->v[i], '/'))
			return err_set(e, ERR_INVALID_JOB, "extensions: not the end of a file's name");
	return 0;
}

static int
marker_check(const char *marker, struct err *e)
{
	return !marker || is_name(marker) ? 0 : err_set(e, ERR_INVALID_JOB, "exclude_if_present: not a file's name");
}

struct filter *
filter_new(const struct filter_spec *spec, int64_t now_ns, struct err *e)
{
	struct filter *f = xcalloc(1, sizeof(*f));
	bool fold = spec->ignore_case;

	f->spec = spec;
	f->now_ns = now_ns;
	if (globs_init(&f->patterns, &spec->patterns, false, fold, e) ||
	    globs_init(&f->include, &spec->include, false, fold, e) ||
	    globs_init(&f->exclude, &spec->exclude, false, fold, e) ||
	    globs_init(&f->exclude_dirs, &spec->exclude_dirs, true, fold, e) ||
	    done_init(f, spec->done_file, e) || suffixes_check(&spec->in_progress_suffixes, e) ||
	    extensions_check(&spec->extensions, e) || marker_check(spec->exclude_if_present, e)) {
		filter_free(f);
		return NULL;
	}
	return f;
}

void
filter_free(struct filter *f)
{
	if (!f)
		return;
	globs_release(&f->patterns);
	globs_release(&f->include);
	globs_release(&f->exclude);
	globs_release(&f->exclude_dirs);
	free(f);
}

/* Does any component begin with '.'? */
static bool
is_hidden(const char *rel, size_t n)
{
	const char *p = rel, *end = rel + n;

	while (p && p < end) {
		if (*p == '.')
			return true;
		p = memchr(p, '/', (size_t)(end - p));
		if (p)
			p++;
	}
	return false;
}

static bool
is_in_progress(const struct strlist *l, const char *name, size_t n)
{
	for (size_t i = 0; i < l->n; i++) {
		size_t k = strlen(l->v[i]);

		if (k <= n && !memcmp(name + n - k, l->v[i], k))
			return true;
	}
	return false;
}

/* The C locale's strncasecmp(3) folds ASCII letters alone, and the program sets no other. */
static bool
has_extension(const struct strlist *l, const char *name, size_t n)
{
	for (size_t i = 0; i < l->n; i++) {
		const char *ext = l->v[i] + (l->v[i][0] == '.');
		size_t k = strlen(ext);

		if (n > k + 1 && name[n - k - 1] == '.' && !strncasecmp(name + n - k, ext, k))
			return true;
	}
	return false;
}

static bool
is_done_file(const struct filter *f, const char *name, size_t n)
{
	const char *done = f->spec->done_file;
	size_t len;

	if (!done)
		return false;
	len = strlen(done);
	if (!f->done_each)
		return n == len && !memcmp(name, done, n);
	return n > f->done_head + f->done_tail && !memcmp(name, done, f->done_head) &&
	    !memcmp(name + n - f->done_tail, done + len - f->done_tail, f->done_tail);
}

bool
filter_is_marker(const struct filter *f, const char *name, size_t n)
{
	const char *marker = f->spec->exclude_if_present;

	return marker && strlen(marker) == n && !memcmp(name, marker, n);
}

bool
filter_is_companion(const struct filter *f, const char *name, size_t n)
{
	return is_done_file(f, name, n) || is_in_progress(&f->spec->in_progress_suffixes, name, n);
}

enum filter_result
filter_name(struct filter *f, const char *rel, size_t n)
{
	const char *slash = memrchr(rel, '/', n), *name = slash ? slash + 1 : rel;
	size_t name_n = n - (size_t)(name - rel);

	if (!f->spec->include_hidden && is_hidden(rel, n))
		return FILTER_NO;
	if (is_in_progress(&f->spec->in_progress_suffixes, name, name_n) ||
	    is_done_file(f, name, name_n))
		return FILTER_NO;
	if (f->spec->extensions.n && !has_extension(&f->spec->extensions, name, name_n))
		return FILTER_NO;
	if (!globs_any(&f->patterns, rel, n))
		return FILTER_NO;
	if (f->include.n && !globs_any(&f->include, rel, n))
		return FILTER_NO;
	return globs_any(&f->exclude, rel, n) ? FILTER_NO : FILTER_YES;
}

static bool
needs_size(const struct filter_spec *s)
{
	return s->min_size >= 0 || s->max_size >= 0;
}

static bool
needs_time(const struct filter_spec *s)
{
	return s->min_age_ms >= 0 || s->max_age_ms >= 0 || s->modified_after_ns != TIME_UNKNOWN ||
	    s->modified_before_ns != TIME_UNKNOWN;
}

/* An age in ns against a bound in ms; what does not fit is farther away than any age. */
static int64_t
age_bound(int64_t ms)
{
	int64_t ns;

	return __builtin_mul_overflow(ms, NS_PER_MS, &ns) ? INT64_MAX : ns;
}

static bool
time_fits(const struct filter *f, int64_t mtime)
{
	const struct filter_spec *s = f->spec;
	int64_t age;

	if (mtime == TIME_UNKNOWN)
		return false;
	if (__builtin_sub_overflow(f->now_ns, mtime, &age))
		age = mtime > 0 ? INT64_MIN : INT64_MAX;
	if (s->min_age_ms >= 0 && age < age_bound(s->min_age_ms))
		return false;
	if (s->max_age_ms >= 0 && age > age_bound(s->max_age_ms))
		return false;
	if (s->modified_after_ns != TIME_UNKNOWN && mtime <= s->modified_after_ns)
		return false;
	return s->modified_before_ns == TIME_UNKNOWN || mtime < s->modified_before_ns;
}

enum filter_result
filter_attrs(struct filter *f, int64_t size, int64_t mtime_ns)
{
	const struct filter_spec *s = f->spec;

	if (needs_size(s) && size < 0)
		return FILTER_NO;
	if (s->min_size >= 0 && size < s->min_size)
		return FILTER_NO;
	if (s->max_size >= 0 && size > s->max_size)
		return FILTER_NO;
	return !needs_time(s) || time_fits(f, mtime_ns) ? FILTER_YES : FILTER_NO;
}

enum filter_result
filter_dir(struct filter *f, const char *rel, size_t n)
{
	if (!f->spec->include_hidden && is_hidden(rel, n))
		return FILTER_NO;
	return globs_any(&f->exclude_dirs, rel, n) ? FILTER_NO : FILTER_YES;
}

bool
filter_needs_attrs(const struct filter *f)
{
	return needs_size(f->spec) || needs_time(f->spec) || f->spec->stable_checks;
}

bool
filter_done_name(const struct filter *f, const char *name, size_t n, struct buf *out)
{
	const char *done = f->spec->done_file;

	buf_clear(out);
	if (!done)
		return false;
	if (!f->done_each) {
		buf_puts(out, done);
		return true;
	}
	buf_add(out, done, f->done_head);
	buf_add(out, name, n);
	buf_add(out, done + strlen(done) - f->done_tail, f->done_tail);
	return true;
}
