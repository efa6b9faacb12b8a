/*
 * http_answer.c - the head of an HTTP answer: its fields, its status and what that means for a job.
 *
 * Called by http.c for each line that libcurl hands over. Texts are kept bounded and without control characters; a field
 * that is too long for its place is left out, never cut to something else.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/units.h"
#include "worker/source/http.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define LINK_MAX 16384
#define DAY_MS UINT64_C(86400000)

void
http_answer_init(struct http_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->length = -1;
	a->date_ns = a->modified_ns = TIME_UNKNOWN;
}

void
http_answer_release(struct http_answer *a)
{
	buf_release(&a->link);
}

/* ---- fields ------------------------------------------------------------------------------------------------------------- */

static void
keep(char *to, size_t size, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
			n = 0;
	if (n >= size)
		n = 0;
	memcpy(to, n ? p : "", n);
	to[n] = '\0';
}

static void
status_line(struct http_answer *a, const char *p, size_t n)
{
	struct buf link = a->link;
	size_t i = 5;

	buf_clear(&link);
	http_answer_init(a);
	a->link = link;
	a->framed = n > 5 && p[5] >= '2';
	while (i < n && p[i] != ' ')
		i++;
	for (i++; i < n && p[i] >= '0' && p[i] <= '9' && a->status < 1000; i++)
		a->status = a->status * 10 + (unsigned)(p[i] - '0');
}

static void
number_field(struct http_answer *a, const char *p, size_t n)
{
	char s[32];

	keep(s, sizeof(s), p, n);
	if (units_int(s, &a->length) || a->length < 0)
		a->length = -1;
	else
		a->framed = true;
}

static void
link_field(struct http_answer *a, const char *p, size_t n)
{
	if (a->link.len + n + 2 > LINK_MAX)
		return;
	if (a->link.len)
		buf_putc(&a->link, ',');
	buf_add(&a->link, p, n);
}

static void
field(struct http_answer *a, const char *name, size_t name_n, const char *p, size_t n)
{
	const struct { const char *name; char *to; size_t size; } texts[] = {
		{ "etag", a->etag, sizeof(a->etag) }, { "last-modified", a->modified, sizeof(a->modified) },
		{ "content-type", a->type, sizeof(a->type) }, { "content-encoding", a->encoding, sizeof(a->encoding) },
		{ "content-disposition", a->disposition, sizeof(a->disposition) },
		{ "accept-ranges", a->ranges, sizeof(a->ranges) }, { "cache-control", a->cache, sizeof(a->cache) },
		{ "server", a->server, sizeof(a->server) }, { "retry-after", a->retry, sizeof(a->retry) },
		{ "allow", a->allow, sizeof(a->allow) }, { "location", a->location, sizeof(a->location) },
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (strlen(texts[i].name) == name_n && !strncasecmp(texts[i].name, name, name_n))
			keep(texts[i].to, texts[i].size, p, n);
	if (name_n == 14 && !strncasecmp(name, "content-length", 14))
		number_field(a, p, n);
	else if (name_n == 17 && !strncasecmp(name, "transfer-encoding", 17))
		a->framed = true;
	else if (name_n == 4 && !strncasecmp(name, "link", 4))
		link_field(a, p, n);
	else if (name_n == 4 && !strncasecmp(name, "date", 4))
		index_http_date(p, n, &a->date_ns);
	if (*a->modified)
		index_http_date(a->modified, strlen(a->modified), &a->modified_ns);
	a->compressed = *a->encoding && strcasecmp(a->encoding, "identity");
}

void
http_answer_line(struct http_answer *a, const char *p, size_t n)
{
	const char *colon;

	while (n && (p[n - 1] == '\r' || p[n - 1] == '\n' || p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	if (n >= 5 && !memcmp(p, "HTTP/", 5)) {
		status_line(a, p, n);
		return;
	}
	colon = memchr(p, ':', n);
	if (!colon)
		return;
	for (const char *v = colon + 1;; v++)
		if (v == p + n || (*v != ' ' && *v != '\t')) {
			field(a, p, (size_t)(colon - p), v, (size_t)(p + n - v));
			return;
		}
}

/* ---- Link ------------------------------------------------------------------------------------------------------------------ */

/* The end of one parameter or element: the next of the stop characters outside of quotes. */
static const char *
until(const char *p, const char *end, const char *stop)
{
	bool quoted = false;

	for (; p < end; p++) {
		if (quoted && *p == '\\' && p + 1 < end)
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && *p && strchr(stop, *p))
			break;
	}
	return p;
}

/* rel="prev next" or rel=next */
static bool
is_next(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	if (end - p < 4 || strncasecmp(p, "rel", 3))
		return false;
	p += 3;
	while (p < end && (*p == ' ' || *p == '=' || *p == '"' || *p == '\t')) {
		p++;
	}
	while (p < end) {
		const char *word = p;

		while (p < end && *p != ' ' && *p != '"' && *p != '\t')
			p++;
		if (p - word == 4 && !strncasecmp(word, "next", 4))
			return true;
		while (p < end && (*p == ' ' || *p == '"' || *p == '\t'))
			p++;
	}
	return false;
}

bool
http_link_next(const char *p, size_t n, struct buf *out)
{
	const char *end = p + n;

	while (p < end) {
		const char *open = memchr(p, '<', (size_t)(end - p)), *close, *element;

		if (!open)
			return false;
		close = memchr(open, '>', (size_t)(end - open));
		if (!close)
			return false;
		element = until(close + 1, end, ",");
		for (const char *q = close + 1; q < element;) {
			const char *stop = until(q, element, ";");

			if (is_next(q, stop)) {
				buf_add(out, open + 1, (size_t)(close - open - 1));
				return true;
			}
			q = stop + 1;
		}
		p = element + 1;
	}
	return false;
}

/* ---- Retry-After ------------------------------------------------------------------------------------------------------------- */

uint64_t
http_retry_after(const struct http_answer *a, int64_t now_ns)
{
	int64_t v;

	if (!*a->retry)
		return 0;
	if (!units_int(a->retry, &v))
		return v <= 0 ? 0 : v > 86400 ? DAY_MS : (uint64_t)v * 1000;
	if (!index_http_date(a->retry, strlen(a->retry), &v))
		return 0;
	v -= a->date_ns != TIME_UNKNOWN ? a->date_ns : now_ns;
	return v <= 0 ? 0 : (uint64_t)v / 1000000 > DAY_MS ? DAY_MS : (uint64_t)v / 1000000;
}

/* ---- status -------------------------------------------------------------------------------------------------------------------- */

/* RFC 9110 section 15; 423, 424, 507, 508 RFC 4918 and 5842; 425 RFC 8470; 428, 429, 431, 511 RFC 6585; 451 RFC 7725. */
static const struct { unsigned status; enum err_class cls; const char *words, *advice; } statuses[] = {
	{ 204, ERR_PROTOCOL, "No Content", "an index must have content" },
	{ 205, ERR_PROTOCOL, "Reset Content", "an index must have content" },
	{ 206, ERR_TRUNCATED, "Partial Content", "no part was asked for" },
	{ 300, ERR_PERMANENT, "Multiple Choices", "name one of them in url" },
	{ 304, ERR_PROTOCOL, "Not Modified", "nothing conditional was asked" },
	{ 400, ERR_PERMANENT, "Bad Request", "the server cannot read this address" },
	{ 401, ERR_AUTH, "Unauthorized", "check auth.type and the credentials" },
	{ 402, ERR_PERMANENT, "Payment Required", "" },
	{ 403, ERR_AUTH, "Forbidden", "check the rights, and that the server shows an index here" },
	{ 404, ERR_NOT_FOUND, "Not Found", "" },
	{ 405, ERR_PERMANENT, "Method Not Allowed", "the server does not take this method here: look at method and index_format" },
	{ 406, ERR_PERMANENT, "Not Acceptable", "" },
	{ 407, ERR_AUTH, "Proxy Authentication Required", "check proxy.username and proxy.password" },
	{ 408, ERR_TRANSIENT, "Request Timeout", "" },
	{ 409, ERR_PERMANENT, "Conflict", "" },
	{ 410, ERR_NOT_FOUND, "Gone", "" },
	{ 411, ERR_PERMANENT, "Length Required", "" },
	{ 412, ERR_PERMANENT, "Precondition Failed", "look at headers" },
	{ 413, ERR_PERMANENT, "Content Too Large", "" },
	{ 414, ERR_PERMANENT, "URI Too Long", "" },
	{ 415, ERR_PERMANENT, "Unsupported Media Type", "" },
	{ 416, ERR_PERMANENT, "Range Not Satisfiable", "look at headers" },
	{ 417, ERR_PERMANENT, "Expectation Failed", "look at headers" },
	{ 421, ERR_TRANSIENT, "Misdirected Request", "" },
	{ 422, ERR_PERMANENT, "Unprocessable Content", "" },
	{ 423, ERR_TRANSIENT, "Locked", "" },
	{ 424, ERR_PERMANENT, "Failed Dependency", "" },
	{ 425, ERR_TRANSIENT, "Too Early", "" },
	{ 426, ERR_PERMANENT, "Upgrade Required", "look at http_version" },
	{ 428, ERR_PERMANENT, "Precondition Required", "" },
	{ 429, ERR_TRANSIENT, "Too Many Requests", "lower max_connections" },
	{ 431, ERR_PERMANENT, "Request Header Fields Too Large", "look at headers" },
	{ 451, ERR_PERMANENT, "Unavailable For Legal Reasons", "" },
	{ 500, ERR_TRANSIENT, "Internal Server Error", "" },
	{ 501, ERR_PERMANENT, "Not Implemented", "" },
	{ 502, ERR_TRANSIENT, "Bad Gateway", "" },
	{ 503, ERR_TRANSIENT, "Service Unavailable", "lower max_connections" },
	{ 504, ERR_TRANSIENT, "Gateway Timeout", "" },
	{ 505, ERR_PERMANENT, "HTTP Version Not Supported", "look at http_version" },
	{ 507, ERR_TRANSIENT, "Insufficient Storage", "" },
	{ 508, ERR_LISTING_LOOP, "Loop Detected", "" },
	{ 511, ERR_AUTH, "Network Authentication Required", "" },
};

static int
row_of(unsigned status)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].status == status)
			return (int)i;
	return -1;
}

enum err_class
http_status_class(unsigned status)
{
	int row = row_of(status);

	if (row >= 0)
		return statuses[row].cls;
	/* RFC 9110 section 15: an unknown one is treated as the x00 of its class. */
	return status >= 600 || status < 400 ? ERR_PROTOCOL : status >= 500 ? ERR_TRANSIENT : ERR_PERMANENT;
}

const char *
http_status_words(unsigned status)
{
	int row = row_of(status);

	return row >= 0 ? statuses[row].words : "";
}

const char *
http_status_advice(unsigned status)
{
	int row = row_of(status);

	return row >= 0 ? statuses[row].advice : "";
}
