/*
 * worker_http.c - the parts of the http source that need no server: addresses, dates and sizes, the head of an answer,
 * statuses, and the readers of index pages over pages that real servers wrote (t/data/http), cut at every byte.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http_url.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/http.h"
#include "common/banned.h"

#define S(s) (s), strlen(s)

/* ---- addresses --------------------------------------------------------------------------------------------------------- */

static const struct { const char *in, *want; } urls[] = {
	{ "http://h", "http://h/" }, { "HTTP://Host.Example/A", "http://host.example/A" }, { "https://h:443/", "https://h/" },
	{ "https://h:80/", "https://h:80/" }, { "http://h:80", "http://h/" }, { "http://h:/x", "http://h/x" },
	{ "http://[::1]:8080/x", "http://[::1]:8080/x" }, { "http://[FE80::1]/", "http://[fe80::1]/" },
	{ "http://h/a/../b/./c", "http://h/b/c" }, { "http://h/../../x", "http://h/x" }, { "http://h/a/..", "http://h/" },
	{ "http://h/a/%2e%2E/b", "http://h/b" }, { "http://h/%2e/b", "http://h/b" }, { "http://h/.../b", "http://h/.../b" },
	{ "http://h?q=1", "http://h/?q=1" }, { "http://h/x?q=1#f", "http://h/x?q=1" }, { "http://h#f", "http://h/" },
	{ "http://h//a//b", "http://h//a//b" }, { "http://u:p@h/", "http://h/" }, { "http://a@b@h/", "http://h/" },
	{ "http://h_x.y-z/", "http://h_x.y-z/" },
	{ "", NULL }, { "http://", NULL }, { "http:///x", NULL }, { "ftp://h/", NULL }, { "//h/", NULL }, { "h/x", NULL },
	{ "http://h:0/", NULL }, { "http://h:65536/", NULL }, { "http://h:8a/", NULL }, { "http://h h/", NULL }, { "http://h/a b", NULL },
	{ "http://h/a\nb", NULL }, { "http://h%41/", NULL }, { "http://b\xc3\xbc/", NULL }, { "http://[::1", NULL }, { "http://[::1]x/", NULL },
	{ "http://[g::1]/", NULL }, { "http://...", NULL }, { "http://[]/", NULL }, { "http://h\\@x/", "http://h/\\@x/" },
};

START_TEST(url)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct http_url u;
	int rc = http_url_parse(S(urls[_i].in), &u, &e);

	ck_assert_msg((rc == 0) == (urls[_i].want != NULL), "%s: %d", urls[_i].in, rc);
	if (rc) {
		ck_assert_int_eq(e.cls, ERR_INVALID_JOB);
		return;
	}
	http_url_text(&u, true, &b);
	ck_assert_str_eq(buf_str(&b), urls[_i].want);
	ck_assert_int_eq(u.user, strchr(urls[_i].in, '@') && urls[_i].in[8] != '\\');
	buf_release(&b);
	http_url_release(&u);
}
END_TEST

/* Base http://a/b/c/d;p?q; RFC 3986 section 5.4 and what pages hold. NULL: none of ours. */
static const struct { const char *ref, *want; } refs[] = {
	{ "g", "http://a/b/c/g" }, { "./g", "http://a/b/c/g" }, { "g/", "http://a/b/c/g/" }, { "/g", "http://a/g" }, { "//g", "http://g/" },
	{ "?y", "http://a/b/c/d;p?y" }, { "g?y", "http://a/b/c/g?y" }, { "#s", "http://a/b/c/d;p?q" }, { "g#s", "http://a/b/c/g" },
	{ "g?y#s", "http://a/b/c/g?y" }, { ";x", "http://a/b/c/;x" }, { "g;x", "http://a/b/c/g;x" }, { "", "http://a/b/c/d;p?q" },
	{ ".", "http://a/b/c/" }, { "./", "http://a/b/c/" }, { "..", "http://a/b/" }, { "../", "http://a/b/" }, { "../g", "http://a/b/g" },
	{ "../..", "http://a/" }, { "../../", "http://a/" }, { "../../g", "http://a/g" }, { "../../../g", "http://a/g" },
	{ "/./g", "http://a/g" }, { "/../g", "http://a/g" }, { "g.", "http://a/b/c/g." }, { ".g", "http://a/b/c/.g" }, { "g..", "http://a/b/c/g.." },
	{ "..g", "http://a/b/c/..g" }, { "./../g", "http://a/b/g" }, { "./g/.", "http://a/b/c/g/" }, { "g/./h", "http://a/b/c/g/h" },
	{ "g/../h", "http://a/b/c/h" }, { "g?y/./x", "http://a/b/c/g?y/./x" }, { "http://x/y", "http://x/y" }, { "HTTPS://x", "https://x/" },
	{ "%2e%2e/g", "http://a/b/g" }, { "co:lon.csv", "http://a/b/c/co:lon.csv" }, { "a%00b", "http://a/b/c/a%00b" },
	{ "http:g", NULL }, { "mailto:a@b", NULL }, { "javascript:x()", NULL }, { "ftp://x/y", NULL }, { "data:,x", NULL }, { "a\nb", NULL },
	{ "//", NULL }, { "http://x:0/", NULL },
};

START_TEST(reference)
{
	struct http_url base, u;
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;

	ck_assert_int_eq(http_url_parse(S("http://a/b/c/d;p?q"), &base, &e), 0);
	if (http_url_resolve(&base, S(refs[_i].ref), &u) == HTTP_REF_OK) {
		http_url_text(&u, true, &b);
		http_url_release(&u);
	}
	if (refs[_i].want)
		ck_assert_msg(!strcmp(buf_str(&b), refs[_i].want), "%s: %s", refs[_i].ref, buf_str(&b));
	else
		ck_assert_msg(!b.len, "%s: %s", refs[_i].ref, buf_str(&b));
	buf_release(&b);
	http_url_release(&base);
}
END_TEST

static const struct { const char *ref, *want; } shown_refs[] = {
	{ "http://u:p@x/y#z", "http://x/y#z" }, { "//u@x/y", "//x/y" }, { "ftp://u:p@q@x", "ftp://x" }, { "http://x/a@b#c@d", "http://x/a@b#c@d" }, { "http://x?a@b", "http://x?a@b" },
	{ "a@b/c", "a@b/c" }, { "/a//b@c/d", "/a//b@c/d" }, { "a//b@c", "a//b@c" }, { "/", "/" }, { "//", "//" }, { "http://", "http://" },
	{ "http:/u@x", "http:/u@x" }, { "", "" },
};

START_TEST(shown_reference)
{
	struct buf b = BUF_INIT;

	http_ref_shown(S(shown_refs[_i].ref), &b);
	ck_assert_str_eq(buf_str(&b), shown_refs[_i].want);
	buf_release(&b);
}
END_TEST

static const struct { const char *in, *want; } paths[] = {
	{ "/a%20b", "/a b" }, { "/%41%4a", "/AJ" }, { "/100%", "/100%" }, { "/%2", "/%2" }, { "/%zz", "/%zz" }, { "/%25", "/%" }, { "/%FF", "/\xff" },
	{ "/a%2Fb", NULL }, { "/a%2fb", NULL }, { "/a%00", NULL }, { "/%2e%2e", "/.." },
};

START_TEST(decode)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "x");
	if (paths[_i].want) {
		ck_assert_int_eq(http_path_decode(S(paths[_i].in), &b), 0);
		ck_assert_str_eq(buf_str(&b) + 1, paths[_i].want);
	} else {
		ck_assert_int_eq(http_path_decode(S(paths[_i].in), &b), -1);
		ck_assert_uint_eq(b.len, 1);
	}
	buf_release(&b);
}
END_TEST

/* ---- dates and sizes ------------------------------------------------------------------------------------------------------ */

static const struct { const char *in, *when; enum mtime_precision p; int64_t size; bool approximate; } besides[] = {
	{ "01-Jan-2024 00:05                 123", "2024-01-01T00:05:00Z", MTIME_MIN, 123, false },
	{ "01-Jan-2024 00:05                   -", "2024-01-01T00:05:00Z", MTIME_MIN, -1, false },
	{ "2024-01-01 00:05  1.2K", "2024-01-01T00:05:00Z", MTIME_MIN, 1228, true },
	{ "2024-01-01 00:05  12 ", "2024-01-01T00:05:00Z", MTIME_MIN, 12, false },
	{ "2024-01-01 00:05  - ", "2024-01-01T00:05:00Z", MTIME_MIN, -1, false },
	{ " 2024-Jan-01 00:05:06  0.1K text/csv", "2024-01-01T00:05:06Z", MTIME_S, 102, true },
	{ "2024-Jan-01 00:05:06 -   Directory", "2024-01-01T00:05:06Z", MTIME_S, -1, false },
	{ " 1/15/2020  3:45 PM          168 ", "2020-01-15T15:45:00Z", MTIME_MIN, 168, false },
	{ " 1/15/2020 12:45 AM        &lt;dir&gt; ", "2020-01-15T00:45:00Z", MTIME_MIN, -1, false },
	{ "12 KiB 01/02/2006 03:04:05 PM +02:00", "2006-01-02T13:04:05Z", MTIME_S, 12288, true },
	{ "0 B 11/14/2023 10:13:20 PM +00:00", "2023-11-14T22:13:20Z", MTIME_S, 0, false },
	{ "2024-01-01", "2024-01-01T00:00:00Z", MTIME_DAY, -1, false }, { "1234", NULL, MTIME_NONE, 1234, false },
	{ "1.5 GB", NULL, MTIME_NONE, 1610612736, true }, { "29-Feb-2024 10:00 1", "2024-02-29T10:00:00Z", MTIME_MIN, 1, false },
	{ "29-Feb-2023 10:00 1", NULL, MTIME_NONE, -1, false }, { "99-Jan-2024 00:00 1", NULL, MTIME_NONE, -1, false }, { "", NULL, MTIME_NONE, -1, false },
	{ "some words 7 more", NULL, MTIME_NONE, -1, false }, { "2024-01-01 25:00 5", NULL, MTIME_NONE, -1, false },
	{ "2024-01-01 00:00 99999999999999999999", "2024-01-01T00:00:00Z", MTIME_MIN, -1, false },
	{ "2024-01-01 00:00 99999999T", "2024-01-01T00:00:00Z", MTIME_MIN, -1, false },
};

START_TEST(beside)
{
	struct index_entry en;
	int64_t want = TIME_UNKNOWN;

	index_entry_init(&en);
	index_beside(S(besides[_i].in), &en);
	if (besides[_i].when)
		ck_assert_int_eq(units_time(besides[_i].when, &want), 0);
	ck_assert_msg(en.mtime_ns == want && en.precision == besides[_i].p && en.size == besides[_i].size &&
	    en.approximate == besides[_i].approximate, "%s: %lld %d %lld", besides[_i].in, (long long)en.mtime_ns, en.precision, (long long)en.size);
}
END_TEST

static const struct { const char *in, *want; } dates[] = {
	{ "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z" }, { "Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z" },
	{ "Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z" }, { "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00Z" },
	{ "Sun, 06 Nov 1994", NULL }, { "yesterday", NULL }, { "", NULL }, { "Sun, 32 Nov 1994 08:49:37 GMT", NULL }, { "Sun, 06 Nov 1969 08:49:37 GMT", NULL },
};

START_TEST(http_date)
{
	int64_t want, got;
	bool ok = index_http_date(S(dates[_i].in), &got);

	ck_assert_msg(ok == (dates[_i].want != NULL), "%s", dates[_i].in);
	if (!ok)
		return;
	ck_assert_int_eq(units_time(dates[_i].want, &want), 0);
	ck_assert_int_eq(got, want);
}
END_TEST

/* ---- answers ------------------------------------------------------------------------------------------------------------------ */

/* Every row of http_answer.c, and what is none. */
static const struct { unsigned status; enum err_class want; } statuses[] = {
	{ 204, ERR_PROTOCOL }, { 205, ERR_PROTOCOL }, { 206, ERR_TRUNCATED }, { 300, ERR_PERMANENT }, { 304, ERR_PROTOCOL }, { 400, ERR_PERMANENT },
	{ 401, ERR_AUTH }, { 402, ERR_PERMANENT }, { 403, ERR_AUTH }, { 404, ERR_NOT_FOUND }, { 405, ERR_PERMANENT }, { 406, ERR_PERMANENT },
	{ 407, ERR_AUTH }, { 408, ERR_TRANSIENT }, { 409, ERR_PERMANENT }, { 410, ERR_NOT_FOUND }, { 411, ERR_PERMANENT }, { 412, ERR_PERMANENT },
	{ 413, ERR_PERMANENT }, { 414, ERR_PERMANENT }, { 415, ERR_PERMANENT }, { 416, ERR_PERMANENT }, { 417, ERR_PERMANENT }, { 421, ERR_TRANSIENT },
	{ 422, ERR_PERMANENT }, { 423, ERR_TRANSIENT }, { 424, ERR_PERMANENT }, { 425, ERR_TRANSIENT }, { 426, ERR_PERMANENT }, { 428, ERR_PERMANENT },
	{ 429, ERR_TRANSIENT }, { 431, ERR_PERMANENT }, { 451, ERR_PERMANENT }, { 500, ERR_TRANSIENT }, { 501, ERR_PERMANENT }, { 502, ERR_TRANSIENT },
	{ 503, ERR_TRANSIENT }, { 504, ERR_TRANSIENT }, { 505, ERR_PERMANENT }, { 507, ERR_TRANSIENT }, { 508, ERR_LISTING_LOOP }, { 511, ERR_AUTH },
	{ 0, ERR_PROTOCOL }, { 100, ERR_PROTOCOL }, { 201, ERR_PROTOCOL }, { 302, ERR_PROTOCOL }, { 418, ERR_PERMANENT }, { 499, ERR_PERMANENT },
	{ 599, ERR_TRANSIENT }, { 600, ERR_PROTOCOL }, { 999, ERR_PROTOCOL },
};

START_TEST(status)
{
	ck_assert_int_eq(http_status_class(statuses[_i].status), statuses[_i].want);
}
END_TEST

START_TEST(head)
{
	struct http_answer a;

	http_answer_init(&a);
	http_answer_line(&a, S("HTTP/1.1 401 Unauthorized\r\n"));
	http_answer_line(&a, S("Content-Length: 3\r\n"));
	http_answer_line(&a, S("ETag: \"old\"\r\n"));
	http_answer_line(&a, S("\r\n"));
	http_answer_line(&a, S("HTTP/1.1 200 OK\r\n"));
	ck_assert_int_eq(a.length, -1);
	ck_assert(!a.framed);
	http_answer_line(&a, S("etag:\t \"x\"  \r\n"));
	http_answer_line(&a, S("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
	http_answer_line(&a, S("Server: evil\x1b[31m\r\n"));
	http_answer_line(&a, S("no colon here\r\n"));
	http_answer_line(&a, S("CONTENT-LENGTH: 18446744073709551616\r\n"));
	ck_assert_int_eq(a.length, -1);
	http_answer_line(&a, S("Transfer-Encoding: chunked\r\n"));
	ck_assert_uint_eq(a.status, 200);
	ck_assert_str_eq(a.etag, "\"x\"");
	ck_assert_str_eq(a.server, "");
	ck_assert(a.framed && a.modified_ns == INT64_C(784111777000000000));
	http_answer_line(&a, S("HTTP/2 207 \r\n"));
	ck_assert(a.framed && a.status == 207 && a.modified_ns == TIME_UNKNOWN && !*a.etag);
	http_answer_line(&a, S("Content-Encoding: gzip\r\n"));
	ck_assert(a.compressed);
	http_answer_release(&a);
}
END_TEST

static const struct { const char *in, *want; } links[] = {
	{ "</x?p=2>; rel=\"next\"", "/x?p=2" }, { "<a>; rel=next", "a" }, { "<a>; rel=\"prev next\"", "a" }, { "<a>; rel=prev, <b>; rel=next", "b" },
	{ "<a>; title=\"x, y; rel=next\"; rel=prev, <b>;rel=\"next\"", "b" }, { "<a>; REL=NEXT", "a" }, { "<a>; rel=\"nextish\"", NULL }, { "<a", NULL },
	{ "", NULL }, { "<a>; rev=next", NULL }, { "<a>;;;", NULL }, { "<a>; rel=\"", NULL }, { "<a,b>; rel=next", "a,b" },
};

START_TEST(link_next)
{
	struct buf b = BUF_INIT;
	bool ok = http_link_next(S(links[_i].in), &b);

	ck_assert_msg(ok == (links[_i].want != NULL), "%s", links[_i].in);
	if (ok)
		ck_assert_str_eq(buf_str(&b), links[_i].want);
	buf_release(&b);
}
END_TEST

static const struct { const char *retry, *date; uint64_t want; } retries[] = {
	{ "", "", 0 }, { "0", "", 0 }, { "7", "", 7000 }, { "-7", "", 0 }, { "999999999", "", 86400000 }, { "soon", "", 0 },
	{ "Sun, 06 Nov 1994 08:49:47 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 10000 }, { "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:47 GMT", 0 },
	{ "Sun, 06 Nov 1994 08:49:47 GMT", "", 5000 }, { "1e9", "", 0 },
};

START_TEST(retry_after)
{
	struct http_answer a;

	http_answer_init(&a);
	snprintf(a.retry, sizeof(a.retry), "%s", retries[_i].retry);
	if (*retries[_i].date)
		ck_assert(index_http_date(S(retries[_i].date), &a.date_ns));
	ck_assert_uint_eq(http_retry_after(&a, INT64_C(784111782000000000)), retries[_i].want);
}
END_TEST

static const struct { const char *line; bool ok; } headers[] = {
	{ "X-Key: v", true }, { "Authorization: Bearer x", true }, { "Accept: a", true }, { "Host: x", false }, { "host: x", false },
	{ "Range: bytes=0-", false }, { "If-None-Match: x", false }, { "Transfer-Encoding: x", false }, { "a b: c", false }, { ": v", false },
	{ "novalue", false }, { "X: a\nY: b", false }, { "X: a\x01", false }, { "Accept-Encoding: br", false }, { "Depth: infinity", false },
};

START_TEST(header)
{
	ck_assert_int_eq(http_header_fault(headers[_i].line) == NULL, headers[_i].ok);
}
END_TEST

START_TEST(names)
{
	struct http_names s = { 0 };
	char name[32];

	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		ck_assert(!http_names_add(&s, S(name)));
	}
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		ck_assert(http_names_add(&s, S(name)));
	}
	ck_assert(!http_names_add(&s, "a\0b", 3));
	ck_assert(!http_names_add(&s, "a\0c", 3));
	ck_assert(!http_names_add(&s, "", 0));
	ck_assert(http_names_add(&s, "", 0));
	http_names_release(&s);
}
END_TEST

/* ---- pages ---------------------------------------------------------------------------------------------------------------------- */

struct seen { struct buf text; size_t n; int stop_at; };

/* name|kind|size|seconds, one a line */
static int
note(void *arg, const struct index_entry *en, struct err *e)
{
	static const char kinds[] = "?FDO";
	struct seen *s = arg;

	(void)e;
	ck_assert_uint_le(en->n, INDEX_NAME_MAX);
	ck_assert_int_eq(en->mtime_ns == TIME_UNKNOWN, en->precision == MTIME_NONE);
	ck_assert_int_ge(en->size, -1);
	buf_add(&s->text, en->name, en->n);
	buf_printf(&s->text, "|%c|%s%lld|%lld\n", kinds[en->kind], en->approximate ? "~" : "", (long long)en->size,
	    en->mtime_ns == TIME_UNKNOWN ? -1LL : (long long)(en->mtime_ns / 1000000000));
	s->n++;
	return s->stop_at && (int)s->n == s->stop_at ? 1 : 0;
}

static int
note_base(void *arg, const char *ref, size_t n, struct err *e)
{
	struct seen *s = arg;

	(void)e;
	buf_puts(&s->text, "base ");
	buf_add(&s->text, ref, n);
	buf_putc(&s->text, '\n');
	return 0;
}

static int
read_page(const struct index_format *f, const char *p, size_t n, size_t step, bool framed, struct seen *s, struct err *e)
{
	struct index_sink sink = { note, note_base, s };
	struct index_parser *x = index_new(f, &sink);
	int rc = 0;

	buf_clear(&s->text);
	s->n = 0;
	err_clear(e);
	for (size_t at = 0; at < n && !rc; at += step)
		rc = x->format->feed(x, p + at, n - at < step ? n - at : step, e);
	if (!rc)
		rc = x->format->finish(x, framed, e);
	index_free(x);
	return rc;
}

static const struct { const struct index_format *f; const char *page, *want; enum err_class cls; } made[] = {
	{ &index_html, "<a href=\"x.csv\">x</a> 01-Jan-2024 00:00 12\n", "x.csv|?|12|1704067200\n", ERR_OK },
	{ &index_html, "<A HREF='a&amp;b&#x20;&#99;.csv'>x", "a&b c.csv|?|-1|-1\n", ERR_OK },
	{ &index_html, "<a href=x.csv>x</a><a href= y/ >", "x.csv|?|-1|-1\ny/|?|-1|-1\n", ERR_OK },
	{ &index_html, "<a class=q href=\"\xff\xe9\">", "\xff\xe9|?|-1|-1\n", ERR_OK },
	{ &index_html, "<a href=\"\nx\ty \r\">", "xy|?|-1|-1\n", ERR_OK },
	{ &index_html, "<!-- <a href=no> --><a href=yes><!doctype><?x <a href=no2?>", "yes|?|-1|-1\n", ERR_OK },
	{ &index_html, "<script>'<a href=no>'</scriptx></script ><a href=yes>", "yes|?|-1|-1\n", ERR_OK },
	{ &index_html, "<title><a href=no></title><style><a href=no></style><a href=yes>", "yes|?|-1|-1\n", ERR_OK },
	{ &index_html, "<base href=/b/><a href=x>", "base /b/\nx|?|-1|-1\n", ERR_OK },
	{ &index_html, "<a href=i><img></a> <a href=i>i</a></td><td>2024-01-01 00:00</td><td>1.5M", "i|?|~1572864|1704067200\n", ERR_OK },
	{ &index_html, "<a href=\"\">", "", ERR_OK }, { &index_html, "<a name=x>", "", ERR_OK }, { &index_html, "a < b <a href=x", "", ERR_TRUNCATED },
	{ &index_html, "<a href><time><base>", "", ERR_OK }, { &index_html, "<a href=\"  \">", "", ERR_OK },
	{ &index_html, "<a href=a href=b>", "a|?|-1|-1\n", ERR_OK },
	{ &index_html, "<td><a href=x>x</a></td><td data-order=\"77\">77 B</td><td><time datetime=\" 2024-01-01T00:00:00Z\">", "x|?|77|1704067200\n", ERR_OK },
	{ &index_html, "<br> 1/1/2024 12:00 AM  5 <A HREF=\"/x\">x</A><br> 1/1/2024 12:00 AM  6 <A HREF=\"/y\">y</A><br>",
	    "/x|?|5|1704067200\n/y|?|6|1704067200\n", ERR_OK },
	{ &index_json, "[]", "", ERR_OK }, { &index_json, " [ { } ]", "", ERR_PROTOCOL }, { &index_json, "{}", "", ERR_PERMANENT },
	{ &index_json, "[{\"name\":\"a\",\"size\":1,\"type\":\"file\",\"mtime\":\"Mon, 01 Jan 2024 00:00:00 GMT\"}]", "a|F|1|1704067200\n", ERR_OK },
	{ &index_json, "[{\"Name\":\"d/\",\"is_dir\":true,\"x\":{\"name\":[1,{\"size\":3}]}},{\"Path\":\"p/q\",\"ModTime\":\"2024-01-01T00:00:00.5Z\"}]",
	    "d|D|-1|-1\np/q|?|-1|1704067200\n", ERR_OK },
	{ &index_json, "[{\"name\":\"\\u00e9\\ud83d\\udcc4\\n\"}]", "\xc3\xa9\xf0\x9f\x93\x84\n|?|-1|-1\n", ERR_OK },
	{ &index_json, "[{\"name\":\"\xff\"}]", "\xff|?|-1|-1\n", ERR_OK }, { &index_json, "[{\"name\":\"a\"},]", "a|?|-1|-1\n", ERR_PROTOCOL },
	{ &index_json, "[{\"name\":\"\\ud83d\"}]", "", ERR_PROTOCOL }, { &index_json, "[{\"name\":\"a\"}", "a|?|-1|-1\n", ERR_TRUNCATED },
	{ &index_json, "[{\"name\":01}]", "", ERR_PROTOCOL }, { &index_json, "[{\"name\":\"a\"}]x", "a|?|-1|-1\n", ERR_PROTOCOL },
	{ &index_json, "[1]", "", ERR_PERMANENT }, { &index_json, "[[1]]", "", ERR_PROTOCOL }, { &index_json, "[{\"name\":\"a\"]", "", ERR_PROTOCOL },
	{ &index_json, "[{\"name\":\"a\",\"size\":-5}]", "a|?|-1|-1\n", ERR_OK }, { &index_json, "[{\"name\":\"a\nb\"}]", "", ERR_PROTOCOL },
	{ &index_json, "[{\"name\":\"a\",}]", "", ERR_PROTOCOL }, { &index_json, "[{,}]", "", ERR_PROTOCOL }, { &index_json, "", "", ERR_TRUNCATED },
	{ &index_json, "[{\"name\":\"a\" \"size\":1}]", "", ERR_PROTOCOL }, { &index_json, "[{\"name\":tru}]", "", ERR_PROTOCOL },
	{ &index_json, "[{\"url\":\"./b%20c\",\"name\":\"wrong\",\"size\":null}]", "./b%20c|?|-1|-1\n", ERR_OK },
	{ &index_jsonl, "{\"name\":\"a\",\"size\":\"5\"}\n\n{\"name\":\"b\"}", "a|?|5|-1\nb|?|-1|-1\n", ERR_OK },
	{ &index_jsonl, "{\"name\":\"a\"}\n[1]\n", "a|?|-1|-1\n", ERR_PROTOCOL }, { &index_jsonl, "{\"name\":\"a\"}\n{\"na", "a|?|-1|-1\n", ERR_TRUNCATED },
	{ &index_text, "a\n# b\r\n  c d \r\n\n", "a|?|-1|-1\nc d|?|-1|-1\n", ERR_OK }, { &index_text, "", "", ERR_OK }, { &index_text, "x", "x|?|-1|-1\n", ERR_OK },
	{ &index_xml, "<list><file mtime=\"2024-01-01T00:00:00Z\" size=\"5\">a&amp;&#98;</file><directory mtime=\"x\">d</directory><other>o</other></list>",
	    "a&b|F|5|1704067200\nd|D|-1|-1\no|O|-1|-1\n", ERR_OK },
	{ &index_xml, "<list></list>", "", ERR_OK }, { &index_xml, "<html/>", "", ERR_PERMANENT }, { &index_xml, "<list><file>a</file>", "a|F|-1|-1\n", ERR_TRUNCATED },
	{ &index_xml, "<list><file>a\x01</file></list>", "", ERR_PROTOCOL }, { &index_xml, "<list><file>a<b/></file></list>", "", ERR_PROTOCOL },
	{ &index_xml, "<!DOCTYPE x [<!ENTITY a \"b\">]><list><file>&a;</file></list>", "", ERR_PROTOCOL },
	{ &index_xml, "<list><file></file></list>", "", ERR_PROTOCOL }, { &index_xml, "", "", ERR_TRUNCATED },
	{ &index_webdav, "<multistatus xmlns=\"DAV:\"><response><href> /a%20b </href><propstat><prop><getcontentlength>5</getcontentlength><resourcetype/>"
	    "<getlastmodified>Mon, 01 Jan 2024 00:00:00 GMT</getlastmodified></prop><status>HTTP/1.1 200 OK</status></propstat><propstat><prop>"
	    "<getcontentlength>9</getcontentlength></prop><status>HTTP/1.1 404 Not Found</status></propstat></response></multistatus>",
	    "/a%20b|F|5|1704067200\n", ERR_OK },
	{ &index_webdav, "<d:multistatus xmlns:d=\"DAV:\" xmlns:x=\"other\"><d:response><d:href>/d/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/>"
	    "</d:resourcetype><x:getcontentlength>7</x:getcontentlength></d:prop></d:propstat></d:response></d:multistatus>", "/d/|D|-1|-1\n", ERR_OK },
	{ &index_webdav, "<multistatus/>", "", ERR_PROTOCOL }, { &index_webdav, "<multistatus xmlns=\"DAV:\"/>", "", ERR_PROTOCOL },
};

START_TEST(made_page)
{
	struct seen s = { BUF_INIT, 0, 0 };
	struct err e = ERR_INIT;

	for (size_t step = 1; step < 1000; step = step * 3 + 1) {
		int rc = read_page(made[_i].f, S(made[_i].page), step, true, &s, &e);

		ck_assert_msg((rc ? e.cls : ERR_OK) == made[_i].cls, "%s by %zu: %s %s", made[_i].page, step, err_name(e.cls), e.text);
		ck_assert_msg(!strcmp(buf_str(&s.text), made[_i].want), "%s by %zu: %s", made[_i].page, step, buf_str(&s.text));
	}
	buf_release(&s.text);
}
END_TEST

/* Pages of real servers over one tree of odd names. entries: links of the page's frame (parent, sort) are among them. */
static const struct { const struct index_format *f; const char *file; size_t entries; const char *holds; } files[] = {
	{ &index_html, "nginx.html", 0, "plain.csv|?|0|1699999980\n" }, { &index_html, "nginx_empty.html", 1, "../|" },
	{ &index_json, "nginx.json", 0, "bad\xff\xfe.csv|F|" }, { &index_json, "nginx_empty.json", 0, "" },
	{ &index_html, "apache_fancy.html", 0, "%2541.csv|?|~1638|" }, { &index_html, "apache_table.html", 0, "new%0aline.csv|?|" },
	{ &index_html, "apache_plain.html", 0, "plain.csv|?|-1|-1\n" }, { &index_html, "apache_plain_empty.html", 1, "/|" },
	{ &index_html, "lighttpd.html", 0, "plain.csv|?|~0|1700000000\n" }, { &index_html, "lighttpd_empty.html", 1, "../|" },
	{ &index_html, "caddy.html", 0, "./plain.csv|?|0|1700000000\n" }, { &index_json, "caddy.json", 0, "./bad%FF%FE.csv|F|" },
	{ &index_json, "caddy_empty.json", 0, "" }, { &index_html, "python.html", 0, "%2541.csv|?|-1|-1\n" },
	{ &index_webdav, "apache_dav.xml", 0, "/plain.csv|F|0|1700000000\n" }, { &index_webdav, "apache_dav_empty.xml", 1, "/empty/|D|" },
	{ &index_webdav, "lighttpd_dav.xml", 0, "/plain.csv|F|0|1700000000\n" }, { &index_webdav, "lighttpd_dav_empty.xml", 1, "/empty/|D|" },
	{ &index_xml, "nginx_empty.xml", 0, "" }, { &index_html, "apache_fancy_empty.html", 0, "" },
	{ &index_html, "apache_table_empty.html", 0, "" }, { &index_html, "caddy_empty.html", 0, "" }, { &index_html, "python_empty.html", 0, "" },
	{ &index_json, "rclone.json", 2, "plain.csv|F|5|1704067200\n" },
	{ &index_text, "list.txt", 7, "\norders/with%20space%20%26%20more.csv|?|-1|-1\n" },
	{ &index_jsonl, "list.jsonl", 5, "\nin/caf\xc3\xa9.csv|?|12|1704067200\n" },
};

static void
load(const char *file, struct buf *b)
{
	char path[256];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "t/data/http/%s", file);
	f = fopen(path, "re");
	ck_assert_msg(f != NULL, "%s: run from the top of the tree", path);
	while ((n = fread(buf_room(b, 65536), 1, 65536, f)) > 0)
		b->len += n;
	fclose(f);
}

START_TEST(real_page)
{
	struct seen whole = { BUF_INIT, 0, 0 }, cut = { BUF_INIT, 0, 0 };
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;

	load(files[_i].file, &b);
	ck_assert_msg(!read_page(files[_i].f, b.p, b.len, b.len, true, &whole, &e), "%s", e.text);
	ck_assert_msg(!files[_i].entries || whole.n == files[_i].entries, "%zu", whole.n);
	ck_assert_msg(strstr(buf_str(&whole.text), files[_i].holds) != NULL, "%s", buf_str(&whole.text));
	ck_assert(!read_page(files[_i].f, b.p, b.len, 1, true, &cut, &e));
	ck_assert_str_eq(buf_str(&whole.text), buf_str(&cut.text));
	/* Cut anywhere before its last line, and nothing else to tell its end: never whole, and never an entry that is not there. */
	for (size_t n = 0; n + 20 < b.len; n += n < 300 ? 1 : 53) {
		int rc = read_page(files[_i].f, b.p, n, 4096, false, &cut, &e);

		ck_assert_msg(rc == -1 && (e.cls == ERR_TRUNCATED || e.cls == ERR_PROTOCOL), "%s cut at %zu: %s", files[_i].file, n, err_name(e.cls));
		ck_assert_uint_le(cut.n, whole.n);
	}
	buf_release(&whole.text);
	buf_release(&cut.text);
	buf_release(&b);
}
END_TEST

START_TEST(control_character_in_xml)
{
	struct seen s = { BUF_INIT, 0, 0 };
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;

	load("nginx.xml", &b);
	ck_assert_int_eq(read_page(&index_xml, b.p, b.len, 1000, true, &s, &e), -1);
	ck_assert_int_eq(e.cls, ERR_PROTOCOL);
	buf_release(&s.text);
	buf_release(&b);
}
END_TEST

START_TEST(sink_stops)
{
	const struct { const struct index_format *f; const char *page; } rows[] = {
		{ &index_html, "<a href=a><a href=b><a href=c><a href=d>" }, { &index_json, "[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"}]" },
		{ &index_text, "a\nb\nc\n" }, { &index_xml, "<list><file>a</file><file>b</file><file>c</file></list>" },
	};
	struct seen s = { BUF_INIT, 0, 2 };
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert_int_eq(read_page(rows[i].f, S(rows[i].page), 1000, true, &s, &e), 1);
		ck_assert_uint_eq(s.n, 2);
	}
	buf_release(&s.text);
}
END_TEST

/* Once a name that begins with a NUL, which is empty for C, was looked for without end. */
START_TEST(nul_in_markup)
{
	static const char page[] = "<a \0=x \0y='z' href=a><\0b \0=1></\0><!\0><a\0 href=no><a href=\"b\0c\">";
	struct seen s = { BUF_INIT, 0, 0 };
	struct err e = ERR_INIT;

	ck_assert(!read_page(&index_html, page, sizeof(page) - 1, 1, true, &s, &e));
	ck_assert_uint_eq(s.n, 2);
	ck_assert_uint_eq(s.text.len, strlen("a|?|-1|-1\nb c|?|-1|-1\n"));
	ck_assert(!memcmp(s.text.p, "a|?|-1|-1\nb\0c|?|-1|-1\n", s.text.len));
	buf_release(&s.text);
}
END_TEST

START_TEST(long_names)
{
	const struct { const struct index_format *f; const char *before, *behind; } rows[] = {
		{ &index_html, "<a href=\"", "\">" }, { &index_text, "", "\n" }, { &index_json, "[{\"name\":\"", "\"}]" },
		{ &index_xml, "<list><file>", "</file></list>" },
	};
	struct seen s = { BUF_INIT, 0, 0 };
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b = BUF_INIT;

		buf_puts(&b, rows[i].before);
		for (int n = 0; n < 100000; n++)
			buf_putc(&b, 'x');
		buf_puts(&b, rows[i].behind);
		/* refused, or handed on as one that is longer than any may be */
		if (!read_page(rows[i].f, b.p, b.len, 100, true, &s, &e))
			ck_assert_uint_ge(s.text.len, INDEX_NAME_MAX);
		buf_release(&b);
	}
	buf_release(&s.text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_http");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, url, 0, ARRAY_LEN(urls));
	tcase_add_loop_test(t, reference, 0, ARRAY_LEN(refs));
	tcase_add_loop_test(t, shown_reference, 0, (int)ARRAY_LEN(shown_refs));
	tcase_add_loop_test(t, decode, 0, ARRAY_LEN(paths));
	tcase_add_loop_test(t, beside, 0, ARRAY_LEN(besides));
	tcase_add_loop_test(t, http_date, 0, ARRAY_LEN(dates));
	tcase_add_loop_test(t, status, 0, ARRAY_LEN(statuses));
	tcase_add_test(t, head);
	tcase_add_loop_test(t, link_next, 0, ARRAY_LEN(links));
	tcase_add_loop_test(t, retry_after, 0, ARRAY_LEN(retries));
	tcase_add_loop_test(t, header, 0, ARRAY_LEN(headers));
	tcase_add_test(t, names);
	tcase_add_loop_test(t, made_page, 0, ARRAY_LEN(made));
	tcase_add_loop_test(t, real_page, 0, ARRAY_LEN(files));
	tcase_add_test(t, control_character_in_xml);
	tcase_add_test(t, sink_stops);
	tcase_add_test(t, nul_in_markup);
	tcase_add_test(t, long_names);
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
