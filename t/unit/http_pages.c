/*
 * http_pages.c - the status child: pages put together from pieces, their age, and the server itself over loopback.
 */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/http/http.h"
#include "common/banned.h"

static struct pages *pages;
static struct answer a;

static void
setup(void)
{
	pages = pages_new();
}

static void
teardown(void)
{
	pages_free(pages);
}

static int
put(enum page page, unsigned status, size_t total, size_t offset, const char *text, int64_t now)
{
	struct err e = ERR_INIT;
	struct page_piece c = { .page = page, .status = (uint16_t)status, .total = (uint32_t)total, .offset = (uint32_t)offset,
		.p = text, .n = strlen(text) };
	struct page_piece back;
	struct buf b = BUF_INIT;
	int ret;

	/* All of it through the frame, as in life. */
	page_piece_encode(&c, &b);
	ret = page_piece_decode(&back, b.p, b.len, &e);
	if (ret == 0)
		ret = pages_put(pages, &back, now, &e);
	buf_release(&b);
	return ret;
}

static void
expect(const char *path, int64_t now, unsigned status, const char *body)
{
	pages_answer(pages, path, now, &a);
	ck_assert_uint_eq(a.status, status);
	ck_assert_msg(a.n == strlen(body) && !memcmp(a.body, body, a.n), "%s: %.*s", path, (int)a.n, a.body);
}

START_TEST(nothing_yet)
{
	for (int i = 0; i < PAGE__MAX; i++) {
		pages_answer(pages, page_rows[i].path, 5, &a);
		ck_assert_uint_eq(a.status, 503);
		ck_assert_ptr_nonnull(strstr(a.body, "starting"));
	}
}
END_TEST

START_TEST(whole_pages)
{
	ck_assert_int_eq(put(PAGE_READYZ, 503, 10, 0, "not ready\n", 1000), 0);
	expect("/readyz", 1000, 503, "not ready\n");
	ck_assert_str_eq(a.content_type, "text/plain; charset=utf-8");
	ck_assert_int_eq(put(PAGE_READYZ, 200, 6, 0, "ready\n", 2000), 0);
	expect("/readyz", 2000, 200, "ready\n");
	expect("/livez", 2000, 200, "ok\n");
	/* Others have not come: not an empty page. */
	pages_answer(pages, "/metrics", 2000, &a);
	ck_assert_uint_eq(a.status, 503);
	ck_assert_int_eq(put(PAGE_HEALTH, 200, 2, 0, "{}", 2000), 0);
	expect("/health", 2000, 200, "{}");
	ck_assert_str_eq(a.content_type, "application/json");
	ck_assert_int_eq(put(PAGE_STATUS, 200, 0, 0, "", 2000), 0);
	expect("/status", 2000, 200, "");
	ck_assert_str_eq(a.content_type, "text/html; charset=utf-8");
}
END_TEST

/* The old page stays until the new one is whole. */
START_TEST(pieces)
{
	ck_assert_int_eq(put(PAGE_METRICS, 200, 3, 0, "old", 0), 0);
	ck_assert_int_eq(put(PAGE_METRICS, 200, 6, 0, "ne", 0), 0);
	expect("/metrics", 0, 200, "old");
	ck_assert_int_eq(put(PAGE_METRICS, 200, 6, 2, "w on", 0), 0);
	expect("/metrics", 0, 200, "new on");
	/* A page that begins anew is no error: the master may have been cut off. */
	ck_assert_int_eq(put(PAGE_METRICS, 200, 6, 0, "xx", 0), 0);
	ck_assert_int_eq(put(PAGE_METRICS, 200, 4, 0, "last", 0), 0);
	expect("/metrics", 0, 200, "last");
}
END_TEST

static const struct { unsigned page, status, total, offset; const char *text; } wrong[] = {
	{ PAGE_METRICS, 200, 6, 3, "w o" },          /* a gap */
	{ PAGE_METRICS, 200, 6, 1, "w o" },          /* an overlap */
	{ PAGE_METRICS, 200, 7, 2, "w o" },          /* another total */
	{ PAGE_METRICS, 503, 6, 2, "w o" },          /* another status */
	{ PAGE_METRICS, 200, 6, 2, "w o is long" },  /* past the end */
	{ PAGE_METRICS, 200, 6, 2, "" },             /* nothing in it */
	{ PAGE_METRICS, 199, 3, 0, "abc" },
	{ PAGE_METRICS, 600, 3, 0, "abc" },
	{ PAGE__MAX, 200, 3, 0, "abc" },
	{ PAGE_METRICS, 200, PAGE_TOTAL_MAX + 1, 0, "abc" },
};

START_TEST(wrong_pieces)
{
	ck_assert_int_eq(put(PAGE_METRICS, 200, 6, 0, "ne", 0), 0);
	ck_assert_int_eq(put((enum page)wrong[_i].page, wrong[_i].status, wrong[_i].total, wrong[_i].offset, wrong[_i].text, 0), -1);
}
END_TEST

/* Each cut of a right frame is wrong, and so is what follows it. */
START_TEST(cut_frames)
{
	struct page_piece c = { .page = PAGE_HEALTH, .status = 200, .total = 2, .p = "{}", .n = 2 };
	struct page_stat s = { 3, 4 };
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;

	page_piece_encode(&c, &b);
	for (size_t n = 0; n < b.len; n++)
		ck_assert_int_eq(page_piece_decode(&c, b.p, n, &e), -1);
	buf_putc(&b, 'x');
	ck_assert_int_eq(page_piece_decode(&c, b.p, b.len, &e), -1);
	buf_clear(&b);
	page_stat_encode(&s, &b);
	for (size_t n = 0; n < b.len; n++)
		ck_assert_int_eq(page_stat_decode(&s, b.p, n, &e), -1);
	ck_assert_int_eq(page_stat_decode(&s, b.p, b.len, &e), 0);
	ck_assert_uint_eq(s.served, 3);
	ck_assert_uint_eq(s.refused, 4);
	buf_release(&b);
}
END_TEST

START_TEST(stale)
{
	put(PAGE_READYZ, 200, 6, 0, "ready\n", 1000);
	expect("/readyz", 1000 + PAGES_STALE_MS, 200, "ready\n");
	expect("/readyz", 1001 + PAGES_STALE_MS, 503, "the poller's main loop has not answered for 10 s\n");
	expect("/livez", 60000, 503, "the poller's main loop has not answered for 59 s\n");
	expect("/nowhere", 60000, 503, "the poller's main loop has not answered for 59 s\n");
	put(PAGE_READYZ, 200, 6, 0, "ready\n", 60001);
	expect("/livez", 60001, 200, "ok\n");
}
END_TEST

static const char *const strange[] = {
	"/", "", "/metrics/", "/METRICS", "//metrics", "/metrics?x", "/../etc/passwd", "/status.jsonx", "/\xff<script>",
};

START_TEST(unknown_paths)
{
	put(PAGE_READYZ, 200, 6, 0, "ready\n", 0);
	pages_answer(pages, strange[_i], 0, &a);
	ck_assert_uint_eq(a.status, 404);
	ck_assert_str_eq(a.content_type, "text/plain; charset=utf-8");
	for (int i = 0; i < PAGE__MAX; i++)
		ck_assert_ptr_nonnull(strstr(a.body, page_rows[i].path));
	ck_assert_ptr_null(strstr(a.body, "script"));
}
END_TEST

/* ---- the server ------------------------------------------------------------------------------------------------------- */

static struct loop *loop;
static struct server *server;
static struct sockaddr_in where;

static void
server_setup(void)
{
	struct err e = ERR_INIT;
	socklen_t n = sizeof(where);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	setup();
	loop = loop_new();
	where = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&where, sizeof(where)), 0);
	ck_assert_int_eq(listen(fd, 16), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&where, &n), 0);
	server = server_new(loop, pages, fd, 4, 300, &e);
	ck_assert_msg(server != NULL, "%s", e.text);
	put(PAGE_READYZ, 200, 6, 0, "ready\n", loop_now(loop));
}

static void
server_teardown(void)
{
	server_free(server);
	loop_free(loop);
	teardown();
}

static int
dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(fd, (const struct sockaddr *)&where, sizeof(where)), 0);
	return fd;
}

/* Turns the loop until the server has closed this connection; its answer, NUL-ended. */
static size_t
answer_of(int fd, char *text, size_t size, int64_t patience_ms)
{
	int64_t end = clock_mono_ms() + patience_ms;
	size_t got = 0;

	while (clock_mono_ms() < end && got < size - 1) {
		ssize_t n;

		loop_once(loop, 10);
		n = recv(fd, text + got, size - 1 - got, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n > 0)
			got += (size_t)n;
	}
	text[got] = '\0';
	close(fd);
	return got;
}

static void
expect_stat(uint64_t served, uint64_t refused)
{
	struct page_stat s;

	/* The end of a connection is noted in the round after. */
	for (int i = 0; i < 5; i++)
		loop_once(loop, 5);
	server_stat(server, &s);
	ck_assert_uint_eq(s.served, served);
	ck_assert_uint_eq(s.refused, refused);
}

static const struct { const char *request, *status, *body; bool refused; } requests[] = {
	{ "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\nready\n", false },
	{ "GET /readyz?a=b HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\nready\n", false },
	{ "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\nready\n", false },
	{ "GET /livez HTTP/1.0\r\n\r\n", "HTTP/1.", "\r\n\r\nok\n", false },
	{ "HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\n", false },
	{ "POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 ", "GET and HEAD only\n", true },
	{ "POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", "HTTP/1.1 405 ", "GET and HEAD only\n", true },
	{ "DELETE /status HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 ", "GET and HEAD only\n", true },
	{ "GET /%3Cscript%3E HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", "/status.json   the same for programs\n", true },
};

START_TEST(answers)
{
	char text[4096];
	int fd = dial();

	ck_assert_int_eq(send(fd, requests[_i].request, strlen(requests[_i].request), 0), (ssize_t)strlen(requests[_i].request));
	ck_assert_uint_gt(answer_of(fd, text, sizeof(text), 5000), 0);
	ck_assert_msg(!strncmp(text, requests[_i].status, strlen(requests[_i].status)), "%s", text);
	ck_assert_msg(strlen(text) > strlen(requests[_i].body) &&
	    !strcmp(text + strlen(text) - strlen(requests[_i].body), requests[_i].body), "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "X-Content-Type-Options: nosniff\r\n"));
	ck_assert_ptr_nonnull(strstr(text, "Cache-Control: no-store\r\n"));
	ck_assert_ptr_nonnull(strstr(text, "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'"));
	ck_assert_ptr_nonnull(strcasestr(text, "Connection: close\r\n"));
	if (!strncmp(text, "HTTP/1.1 405", 12))
		ck_assert_ptr_nonnull(strstr(text, "Allow: GET, HEAD\r\n"));
	expect_stat(!requests[_i].refused, requests[_i].refused);
}
END_TEST

static const struct { size_t header; bool line; } large[] = { { 4200, false }, { 4200, true }, { 20000, false }, { 20000, true } };

START_TEST(too_large)
{
	struct buf b = BUF_INIT;
	char text[4096];
	int fd = dial();

	buf_puts(&b, large[_i].line ? "GET /readyz?" : "GET /readyz HTTP/1.1\r\nHost: x\r\nX-Long: ");
	for (size_t i = 0; i < large[_i].header; i++)
		buf_putc(&b, 'x');
	buf_puts(&b, large[_i].line ? " HTTP/1.1\r\nHost: x\r\n\r\n" : "\r\n\r\n");
	ck_assert_int_gt(send(fd, b.p, b.len, MSG_NOSIGNAL), 0);
	answer_of(fd, text, sizeof(text), 5000);
	/* 413, 414 or 431, by who notices; a reset where the rest was not read. Never a page. */
	ck_assert_msg(!*text || !strncmp(text, "HTTP/1.1 4", 10), "%s", text);
	ck_assert_ptr_null(strstr(text, "ready\n"));
	expect_stat(0, 1);
	buf_release(&b);
}
END_TEST

/* One byte now and then does not keep a connection: the deadline counts from its beginning. */
START_TEST(slow_client)
{
	static const char request[] = "GET /readyz HTTP/1.1\r\nX-Long: ";
	int64_t began = clock_mono_ms(), took, sent = 0;
	int fd = dial();
	char text[256];
	ssize_t n;

	send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
	do {
		loop_once(loop, 20);
		n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
		took = clock_mono_ms() - began;
		if (n < 0 && took - sent >= 20) {
			send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
			sent = took;
			errno = EAGAIN;
		}
	} while (n < 0 && errno == EAGAIN && took < 5000);
	ck_assert_int_lt(took, 5000);
	ck_assert_int_ge(took, 290);
	close(fd);
	expect_stat(0, 1);
}
END_TEST

/* Four may hold a connection; the fifth waits until one of them is cut, and is served then. */
START_TEST(crowd)
{
	int idle[4], fd;
	char text[4096];

	for (size_t i = 0; i < ARRAY_LEN(idle); i++)
		idle[i] = dial();
	for (int i = 0; i < 5; i++)
		loop_once(loop, 5);
	fd = dial();
	ck_assert_int_gt(send(fd, requests[0].request, strlen(requests[0].request), 0), 0);
	answer_of(fd, text, sizeof(text), 5000);
	for (size_t i = 0; i < ARRAY_LEN(idle); i++)
		close(idle[i]);
	ck_assert_msg(!strncmp(text, "HTTP/1.1 200 ", 13), "%s", text);
	expect_stat(1, 4);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("http");
	TCase *p = tcase_create("pages"), *h = tcase_create("server");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(p, setup, teardown);
	tcase_add_test(p, nothing_yet);
	tcase_add_test(p, whole_pages);
	tcase_add_test(p, pieces);
	tcase_add_loop_test(p, wrong_pieces, 0, (int)ARRAY_LEN(wrong));
	tcase_add_test(p, cut_frames);
	tcase_add_test(p, stale);
	tcase_add_loop_test(p, unknown_paths, 0, (int)ARRAY_LEN(strange));
	suite_add_tcase(s, p);
	tcase_set_timeout(h, 30);
	tcase_add_checked_fixture(h, server_setup, server_teardown);
	tcase_add_loop_test(h, answers, 0, (int)ARRAY_LEN(requests));
	tcase_add_loop_test(h, too_large, 0, (int)ARRAY_LEN(large));
	tcase_add_test(h, slow_client);
	tcase_add_test(h, crowd);
	suite_add_tcase(s, h);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
