/*
 * master_defer.c - unit tests of the deferred topic's pure parts: headers and marks, index, sealed file.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/defer.h"
#include "master/event_priv.h"

/* ---- headers and marks ---------------------------------------------------------------------------------------------- */

static struct deferral
sample(void)
{
	struct deferral d;

	memset(&d, 0, sizeof(d));
	snprintf(d.topic, sizeof(d.topic), "polling-queue");
	d.partition = 3;
	d.offset = INT64_MAX;
	d.due_ns = INT64_C(1777593600123456789);
	d.received_ns = INT64_C(1777593000000000001);
	d.started_ns = INT64_C(1777593001000000000);
	d.why = DEFER_RETRY;
	d.count = 7;
	d.n_tasks = 2;
	d.task[0] = (struct defer_task){ 3, 2, 1, true };
	d.task[1] = (struct defer_task){ 0, 0, 0, false };
	snprintf(d.job_id, sizeof(d.job_id), "j\xc3\xb6 b");
	snprintf(d.org_id, sizeof(d.org_id), "acme");
	snprintf(d.traceparent, sizeof(d.traceparent), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	snprintf(d.error, sizeof(d.error), "transient");
	return d;
}

START_TEST(headers_come_back)
{
	struct deferral d = sample(), got;
	struct out_record out;
	struct err e = ERR_INIT;

	out_record_init(&out);
	out_begin(&out, DEFER_HEADER_BYTES_MAX);
	deferral_write(&d, &out);
	ck_assert_uint_le(out.n_headers, DEFER_HEADERS_MAX);
	ck_assert_msg(deferral_read(out.h, out.n_headers, &got, &e) == 0, "%s", e.text);
	ck_assert(!memcmp(&d, &got, sizeof(d)));
	/* the most that there can be has room */
	d.n_tasks = JOB_SOURCES_MAX;
	for (size_t i = 0; i < JOB_SOURCES_MAX; i++)
		d.task[i] = (struct defer_task){ DEFER_COUNT_MAX, DEFER_COUNT_MAX, 1, true };
	memset(d.topic, 'x', DEFER_TOPIC_MAX);
	memset(d.job_id, 'x', 255);
	memset(d.org_id, 'x', 128);
	d.count = DEFER_COUNT_MAX;
	out_begin(&out, DEFER_HEADER_BYTES_MAX);
	deferral_write(&d, &out);
	ck_assert_msg(deferral_read(out.h, out.n_headers, &got, &e) == 0, "%s", e.text);
	ck_assert(!memcmp(&d, &got, sizeof(d)));
	out_record_release(&out);
}
END_TEST

static const struct { const char *name, *value; } wrong[] = {
	{ "deferred_version", "0" }, { "deferred_version", "" }, { "deferred_until", "now" }, { "deferred_until", "1960-01-01T00:00:00Z" },
	{ "deferred_count", "0" }, { "deferred_count", "1000001" }, { "deferred_count", "-1" }, { "deferred_tasks", "1.1.0" },
	{ "deferred_tasks", "1.2.0.0" }, { "deferred_tasks", "1.1.2.0" }, { "deferred_tasks", "1.1.0.0," }, { "deferred_tasks", ",1.1.0.0" },
	{ "deferred_tasks", "4294967297.0.0.0" }, { "deferred_tasks", "01.0.0.0" }, { "deferred_reason", "none" }, { "origin_topic", "a/b" },
	{ "origin_partition", "2147483648" }, { "origin_offset", "-5" }, { "origin_offset", "9223372036854775808" }, { "received_at", "x" },
	{ "started_at", "x" }, { "job_id", " " }, { "job_id", "\xff" }, { "job_id", "\x7f" }, { "org_id", "" }, { "error_type", "sad" },
	{ "traceparent", "0123456789012345678901234567890123456789012345678901234567890" },
};

START_TEST(headers_refused)
{
	struct deferral d = sample(), got;
	struct out_record out;
	struct err e = ERR_INIT;

	out_record_init(&out);
	out_begin(&out, DEFER_HEADER_BYTES_MAX);
	deferral_write(&d, &out);
	for (size_t i = 0; i < out.n_headers; i++) {
		if (strcmp(out.h[i].name, wrong[_i].name))
			continue;
		out.h[i].value = wrong[_i].value;
		out.h[i].n = strlen(wrong[_i].value);
	}
	ck_assert_int_eq(deferral_read(out.h, out.n_headers, &got, &e), -1);
	ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
	ck_assert_msg(strstr(e.text, wrong[_i].name) != NULL, "%s", e.text);
	out_record_release(&out);
}
END_TEST

START_TEST(marks)
{
	uint8_t key[DEFER_KEY], other[DEFER_KEY], read_back[DEFER_KEY];
	char meta[DEFER_META_TEXT];
	static struct defer_done done[DEFER_MARK_MAX], got[DEFER_MARK_MAX];
	struct defer_origin back, o = { .topic = UINT64_MAX - 5, .partition = INT32_MAX, .offset = INT64_MAX - 1, .digest = { 0, 255, 16 } };
	struct out_record out;

	defer_key_make(key);
	defer_key_make(other);
	ck_assert(memcmp(key, other, DEFER_KEY));
	defer_meta_write(key, meta);
	ck_assert(defer_meta_read(meta, strlen(meta), read_back));
	ck_assert(!memcmp(key, read_back, DEFER_KEY));
	ck_assert(!defer_meta_read(meta, strlen(meta) - 1, read_back));
	meta[0] = 'B';
	ck_assert(!defer_meta_read(meta, strlen(meta), read_back));
	out_record_init(&out);
	for (size_t i = 0; i < DEFER_MARK_MAX; i++)
		done[i] = (struct defer_done){ .offset = INT64_MAX - (int64_t)i, .ended = i % 3 == 0 };
	defer_mark_write(key, 5, done, DEFER_MARK_MAX, &out);
	ck_assert_int_eq(out.partition, 5);
	ck_assert(!out.has_key && defer_mark_is(out.h, out.n_headers));
	ck_assert_int_eq(defer_mark_read(key, 5, out.h, out.n_headers, out.value.p, out.value.len, got), DEFER_MARK_MAX);
	for (size_t i = 0; i < DEFER_MARK_MAX; i++)
		ck_assert(got[i].offset == done[i].offset && got[i].ended == done[i].ended);
	ck_assert_int_eq(defer_mark_read(other, 5, out.h, out.n_headers, out.value.p, out.value.len, got), -1);
	ck_assert_int_eq(defer_mark_read(key, 6, out.h, out.n_headers, out.value.p, out.value.len, got), -1);
	out.value.p[0] = '8';
	ck_assert_int_eq(defer_mark_read(key, 5, out.h, out.n_headers, out.value.p, out.value.len, got), -1);
	ck_assert_int_eq(defer_mark_read(key, 5, out.h, out.n_headers, "", 0, got), -1);
	defer_cancel_write(key, 5, &o, &out);
	ck_assert(out.partition == 5 && defer_mark_is(out.h, out.n_headers));
	ck_assert(defer_cancel_read(key, 5, out.h, out.n_headers, out.value.p, out.value.len, &back));
	ck_assert(o.topic == back.topic && o.partition == back.partition && o.offset == back.offset && !memcmp(o.digest, back.digest, sizeof(o.digest)));
	ck_assert_int_eq(defer_mark_read(key, 5, out.h, out.n_headers, out.value.p, out.value.len, got), -1);
	ck_assert(!defer_cancel_read(other, 5, out.h, out.n_headers, out.value.p, out.value.len, &back));
	ck_assert(!defer_cancel_read(key, 6, out.h, out.n_headers, out.value.p, out.value.len, &back));
	ck_assert(!defer_cancel_read(key, 5, out.h, out.n_headers, out.value.p, out.value.len - 1, &back));
	out.value.p[out.value.len - 1] ^= 1;
	ck_assert(!defer_cancel_read(key, 5, out.h, out.n_headers, out.value.p, out.value.len, &back));
	out_record_release(&out);
}
END_TEST

/* ---- index ---------------------------------------------------------------------------------------------------------- */

static struct defer_origin
origin(int64_t offset)
{
	struct defer_origin o = { .topic = 1, .offset = offset, .partition = 0 };

	memset(o.digest, (int)(offset * 37 & 255), sizeof(o.digest));
	return o;
}

#define MANY 20000

START_TEST(due_order)
{
	struct defer_index x;
	struct defer_line line[3];
	unsigned seed = 7;
	int64_t last = 0;
	size_t n = 0;

	memset(&x, 0, sizeof(x));
	memset(line, 0, sizeof(line));
	for (int64_t i = 0; i < MANY; i++) {
		struct defer_origin o = origin(i);
		struct defer_entry *e = defer_add(&x, &line[i % 3], i * 2, &o);

		e->due_ns = rand_r(&seed) % 5000;
		defer_wait(&x, e);
		defer_wait(&x, e);
	}
	ck_assert_uint_eq(x.n, MANY);
	/* every third leaves the heap, half of them come back with another time, a quarter is removed out of the middle */
	for (int64_t i = 0; i < MANY; i += 3) {
		struct defer_origin o = origin(i);
		struct defer_entry *e = defer_find(&line[i % 3], i * 2);

		ck_assert_ptr_eq(defer_find_origin(&x, NULL, &o), e);
		ck_assert_ptr_null(defer_find_origin(&x, &line[(i + 1) % 3], &o));
		defer_unwait(&x, e);
		e->due_ns = rand_r(&seed) % 5000;
		if (i % 2)
			defer_wait(&x, e);
		if (i % 4 == 0)
			defer_remove(&x, e);
	}
	for (struct defer_entry *e; (e = defer_next(&x)); n++) {
		ck_assert_int_ge(e->due_ns, last);
		last = e->due_ns;
		defer_remove(&x, e);
	}
	ck_assert_uint_eq(n, MANY - (MANY + 5) / 6);
	for (int k = 0; k < 3; k++)
		defer_line_clear(&x, &line[k]);
	ck_assert_uint_eq(x.n, 0);
	defer_index_release(&x);
}
END_TEST

START_TEST(frontier)
{
	struct defer_index x;
	struct defer_line line;
	struct defer_origin o;

	memset(&x, 0, sizeof(x));
	memset(&line, 0, sizeof(line));
	ck_assert_ptr_null(defer_line_first(&line));
	/* the first waits while ever more pass behind it: neither time nor room grows with them */
	o = origin(1);
	defer_add(&x, &line, 1, &o);
	for (int64_t i = 2; i < 300000; i++) {
		o = origin(i);
		defer_remove(&x, defer_add(&x, &line, i, &o));
	}
	ck_assert_int_eq(defer_line_first(&line)->offset, 1);
	ck_assert_uint_le(line.cap, 256);
	o = origin(300000);
	defer_add(&x, &line, 300000, &o);
	ck_assert_ptr_null(defer_find(&line, 2));
	ck_assert_ptr_nonnull(defer_find(&line, 300000));
	defer_remove(&x, defer_find(&line, 1));
	ck_assert_int_eq(defer_line_first(&line)->offset, 300000);
	/* the same origin with other bytes is another job */
	o.digest[3] ^= 1;
	ck_assert_ptr_null(defer_find_origin(&x, NULL, &o));
	defer_line_clear(&x, &line);
	defer_index_release(&x);
}
END_TEST

/* What has ended is found by its origin; it holds its line or not, and the oldest gives way. */
START_TEST(remembered)
{
	struct defer_index x;
	struct defer_line line[2];
	struct defer_origin o;

	memset(&x, 0, sizeof(x));
	memset(line, 0, sizeof(line));
	for (int64_t i = 0; i < 6; i++) {
		o = origin(i);
		defer_wait(&x, defer_add(&x, &line[i % 2], i, &o));
	}
	ck_assert(!defer_end(&x, defer_find(&line[0], 0), true));
	ck_assert(!defer_end(&x, defer_find(&line[1], 1), false));
	ck_assert_uint_eq(x.n_heap, 4);
	ck_assert_uint_eq(defer_ended(&x), 2);
	ck_assert_int_eq(defer_line_first(&line[0])->offset, 0);
	ck_assert_int_eq(defer_line_first(&line[1])->offset, 3);
	o = origin(1);
	ck_assert_int_eq(defer_find_origin(&x, &line[1], &o)->state, DEFER_ENDED);
	/* it lets go of its line, and is known still */
	ck_assert(!defer_end(&x, defer_find(&line[0], 0), false));
	ck_assert_int_eq(defer_line_first(&line[0])->offset, 2);
	ck_assert_uint_eq(x.ended[0].n, 2);
	o = origin(0);
	ck_assert_ptr_nonnull(defer_find_origin(&x, NULL, &o));
	/* a line that goes takes with it what it is remembered for */
	defer_line_clear(&x, &line[0]);
	ck_assert_ptr_null(defer_find_origin(&x, NULL, &o));
	ck_assert_uint_eq(defer_ended(&x), 1);
	for (int64_t i = 0; i < DEFER_ENDED_MAX; i++) {
		o = origin(100 + i);
		ck_assert(!defer_end(&x, defer_add(&x, &line[1], 100 + i, &o), true));
	}
	o = origin(99999);
	ck_assert(defer_end(&x, defer_add(&x, &line[1], 99999, &o), true));
	ck_assert_ptr_nonnull(defer_find_origin(&x, NULL, &o));
	ck_assert_ptr_null(defer_find(&line[1], 100));
	ck_assert_ptr_nonnull(defer_find(&line[1], 101));
	ck_assert_uint_eq(defer_ended(&x), DEFER_ENDED_MAX + 1);
	defer_line_clear(&x, &line[1]);
	ck_assert_uint_eq(x.n + defer_ended(&x), 0);
	defer_index_release(&x);
}
END_TEST

/* ---- the file ------------------------------------------------------------------------------------------------------- */

START_TEST(sealed_file)
{
	char path[] = "/tmp/defer-store.XXXXXX", text[3000], byte;
	int fd = mkstemp(path), look = dup(fd);
	struct defer_store *s = defer_store_new(fd);
	struct defer_slot slot[200], more;
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct stat st;
	int64_t bytes;
	char *all;

	unlink(path);
	for (size_t i = 0; i < 200; i++) {
		memset(text, 'a' + (int)(i % 20), sizeof(text));
		memcpy(text, "SECRET", 6);
		ck_assert_int_eq(defer_store_put(s, 1 << 20, text, 10 + i * 14, &slot[i], &e), 0);
	}
	for (size_t i = 0; i < 200; i++) {
		ck_assert_int_eq(defer_store_get(s, slot[i], &b, &e), 0);
		ck_assert_uint_eq(b.len, 10 + i * 14);
		ck_assert(!memcmp(b.p, "SECRET", 6) && b.p[b.len - 1] == 'a' + (int)(i % 20));
	}
	bytes = defer_store_bytes(s);
	ck_assert_int_eq(fstat(look, &st), 0);
	all = xmalloc((size_t)st.st_size);
	ck_assert_int_eq(pread(look, all, (size_t)st.st_size, 0), st.st_size);
	ck_assert_msg(!memmem(all, (size_t)st.st_size, "SECRET", 6) && !memmem(all, (size_t)st.st_size, "aaaaaa", 6), "nothing can be read in the file");
	/* slots are used again */
	for (size_t i = 0; i < 200; i += 2)
		defer_store_drop(s, slot[i]);
	for (size_t i = 0; i < 200; i += 2)
		ck_assert_int_eq(defer_store_put(s, 1 << 20, text, 10 + i * 14, &slot[i], &e), 0);
	ck_assert_int_eq(defer_store_bytes(s), bytes);
	ck_assert_int_eq(defer_store_put(s, bytes, text, 3000, &more, &e), -1);
	ck_assert_int_eq(e.cls, ERR_SPOOL_FULL);
	/* a bit that was changed, and a slot in the place of another */
	ck_assert_int_eq(pread(look, &byte, 1, slot[7].at + 40), 1);
	byte ^= 1;
	ck_assert_int_eq(pwrite(look, &byte, 1, slot[7].at + 40), 1);
	ck_assert_int_eq(defer_store_get(s, slot[7], &b, &e), -1);
	ck_assert_int_eq(pread(look, all, 512, slot[1].at), 512);
	ck_assert_int_eq(pwrite(look, all, 512, slot[3].at), 512);
	ck_assert_int_eq(defer_store_get(s, (struct defer_slot){ slot[3].at, slot[1].n }, &b, &e), -1);
	for (size_t i = 0; i < 200; i++)
		defer_store_drop(s, slot[i]);
	ck_assert_int_eq(fstat(look, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	ck_assert_int_eq(defer_store_bytes(s), 0);
	free(all);
	buf_release(&b);
	defer_store_free(s);
	close(look);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("defer");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, headers_come_back);
	tcase_add_loop_test(t, headers_refused, 0, ARRAY_LEN(wrong));
	tcase_add_test(t, marks);
	tcase_add_test(t, due_order);
	tcase_add_test(t, frontier);
	tcase_add_test(t, remembered);
	tcase_add_test(t, sealed_file);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
