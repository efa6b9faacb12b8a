/*
 * worker_s3_page.c - pages and errors of S3: what is handed out of each, and what each error means.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/s3.h"
#include "common/escape.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* What came of a page, as one line: "key=... size time" and so on */
struct told {
	struct buf text;
	unsigned stop_after;    /* 0: never */
	unsigned n;
};

static int
on_object(void *arg, const struct s3_object *o)
{
	struct told *t = arg;
	char when[UNITS_TEXT];

	buf_puts(&t->text, o->delete_marker ? "deleted " : "key ");
	escape_term(&t->text, o->key, o->key_n);
	buf_printf(&t->text, " %lld", (long long)o->size);
	if (o->mtime_ns != TIME_UNKNOWN) {
		units_time_text(o->mtime_ns, 3, when);
		buf_printf(&t->text, " %s", when);
	}
	buf_putc(&t->text, '\n');
	return ++t->n == t->stop_after;
}

static int
on_prefix(void *arg, const char *p, size_t n)
{
	struct told *t = arg;

	buf_puts(&t->text, "prefix ");
	escape_term(&t->text, p, n);
	buf_putc(&t->text, '\n');
	return 0;
}

static enum s3_page_result
parse(struct s3_page *p, struct told *t, const char *body, size_t n, struct err *e)
{
	memset(t, 0, sizeof(*t));
	s3_page_init(p);
	p->object = on_object;
	p->prefix = on_prefix;
	p->arg = t;
	return s3_page_parse(p, body, n, e);
}

#define LIST(inner) "<ListBucketResult>" inner "</ListBucketResult>"
#define NO "<IsTruncated>false</IsTruncated>"
#define URL "<EncodingType>url</EncodingType>"
#define KEY(k) "<Contents><Key>" k "</Key></Contents>"

static const struct {
	const char *body;
	enum s3_page_result result;
	const char *told;       /* lines */
	const char *error;      /* part of the text, NULL for none */
} pages[] = {
	{ LIST(NO), S3_PAGE_WHOLE, "", NULL },
	{ LIST(NO KEY("a.csv")), S3_PAGE_WHOLE, "key a.csv -1\n", NULL },
	/* decoded only where the page says so, wherever it says it */
	{ LIST(NO KEY("a%41+b")), S3_PAGE_WHOLE, "key a%41+b -1\n", NULL },
	{ LIST(URL NO KEY("a%41+b")), S3_PAGE_WHOLE, "key aA b -1\n", NULL },
	{ LIST(NO KEY("a%2B%20%c3%A9%0a") URL), S3_PAGE_WHOLE, "key a+ \xc3\xa9\\n -1\n", NULL },
	{ LIST("<EncodingType>none</EncodingType>" NO KEY("a%41")), S3_PAGE_WHOLE, "key a%41 -1\n", NULL },
	{ LIST(NO KEY("EncodingType&gt;url&lt;a%41")), S3_PAGE_WHOLE, "key EncodingType>url<a%41 -1\n", NULL },
	{ LIST(URL NO KEY("100%")), S3_PAGE_REFUSED, "", "percent" },
	{ LIST(URL NO KEY("%4")), S3_PAGE_REFUSED, "", "percent" },
	{ LIST(URL NO KEY("%zz")), S3_PAGE_REFUSED, "", "percent" },
	{ LIST(URL NO KEY("%00")), S3_PAGE_WHOLE, "key \\x00 -1\n", NULL },
	{ LIST(URL NO KEY("%ff%2F..%2F")), S3_PAGE_WHOLE, "key \\xff/../ -1\n", NULL },
	/* legal keys that look odd */
	{ LIST(NO KEY("/lead.csv") KEY("a//b.csv") KEY("./x.csv") KEY("x/../y.csv") KEY("dirmarker/")), S3_PAGE_WHOLE,
	    "key /lead.csv -1\nkey a//b.csv -1\nkey ./x.csv -1\nkey x/../y.csv -1\nkey dirmarker/ -1\n", NULL },
	{ LIST(NO KEY(" a ") KEY("&amp;&lt;&#x41;&#66;") KEY("<![CDATA[<c>]]>")), S3_PAGE_WHOLE,
	    "key  a  -1\nkey &<AB -1\nkey <c> -1\n", NULL },
	{ LIST(NO KEY("a<!-- b -->c")), S3_PAGE_WHOLE, "key ac -1\n", NULL },
	{ LIST(NO KEY("") ), S3_PAGE_REFUSED, "", "without a Key" },
	{ LIST(NO "<Contents><Size>1</Size></Contents>"), S3_PAGE_REFUSED, "", "without a Key" },
	{ LIST(NO "<Contents><Key>a</Key><Size>0</Size></Contents>"), S3_PAGE_WHOLE, "key a 0\n", NULL },
	{ LIST(NO "<Contents><Key>a</Key><Size>9223372036854775807</Size></Contents>"), S3_PAGE_WHOLE, "key a 9223372036854775807\n", NULL },
	{ LIST(NO "<Contents><Key>a</Key><Size>9223372036854775808</Size></Contents>"), S3_PAGE_REFUSED, "", "Size" },
	{ LIST(NO "<Contents><Key>a</Key><Size>-1</Size></Contents>"), S3_PAGE_REFUSED, "", "Size" },
	{ LIST(NO "<Contents><Key>a</Key><Size>1 </Size></Contents>"), S3_PAGE_REFUSED, "", "Size" },
	{ LIST(NO "<Contents><Key>a</Key><LastModified>2009-10-12T17:50:30.123Z</LastModified></Contents>"), S3_PAGE_WHOLE,
	    "key a -1 2009-10-12T17:50:30.123Z\n", NULL },
	{ LIST(NO "<Contents><Key>a</Key><LastModified>yesterday</LastModified></Contents>"), S3_PAGE_REFUSED, "", "LastModified" },
	{ LIST(NO "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>" KEY("a")), S3_PAGE_WHOLE, "prefix d/\nkey a -1\n", NULL },
	{ LIST(NO "<CommonPrefixes><Prefix>d/</Prefix><Prefix>e/</Prefix></CommonPrefixes>"), S3_PAGE_WHOLE, "prefix d/\nprefix e/\n", NULL },
	{ LIST(NO "<Prefix>d/</Prefix>"), S3_PAGE_WHOLE, "", NULL },
	/* a name that is no object's key */
	{ LIST(NO "<Contents><Key>a</Key><Owner><ID>1</ID><Key>b</Key></Owner></Contents>"), S3_PAGE_WHOLE, "key a -1\n", NULL },
	{ LIST(NO "<Future><Contents><Key>b</Key></Contents></Future>" KEY("a")), S3_PAGE_WHOLE, "key a -1\n", NULL },
	{ "<x:ListBucketResult xmlns:x='urn:x'><x:IsTruncated>false</x:IsTruncated><x:Contents><x:Key>a</x:Key></x:Contents></x:ListBucketResult>",
	    S3_PAGE_WHOLE, "key a -1\n", NULL },
	{ "<ListVersionsResult>" NO "<Version><Key>a</Key></Version><DeleteMarker><Key>b</Key></DeleteMarker></ListVersionsResult>",
	    S3_PAGE_WHOLE, "key a -1\ndeleted b -1\n", NULL },
	/* cut, broken: what came before is right, and it is not whole */
	{ "<ListBucketResult>" NO KEY("a") "<Contents><Key>b</Ke", S3_PAGE_BROKEN, "key a -1\n", "not well-formed" },
	{ "<ListBucketResult>" NO KEY("a"), S3_PAGE_BROKEN, "key a -1\n", "not well-formed" },
	{ "<ListBucketResult>" NO KEY("a") "</ListBucketResul", S3_PAGE_BROKEN, "key a -1\n", "not well-formed" },
	{ LIST(NO KEY("a")) "x", S3_PAGE_BROKEN, "key a -1\n", "not well-formed" },
	{ LIST(NO KEY("a") KEY("b\x01") KEY("c")), S3_PAGE_BROKEN, "key a -1\n", "not well-formed" },
	{ LIST(KEY("a") "<NextContinuationToken>\x07</NextContinuationToken>"), S3_PAGE_BROKEN, "key a -1\n", "not well-formed" },
	{ LIST(NO KEY("a") KEY("&b;")), S3_PAGE_BROKEN, "key a -1\n", "not well-formed" },
	{ LIST(NO KEY("\xff")), S3_PAGE_BROKEN, "", "not well-formed" },
	{ "", S3_PAGE_BROKEN, "", "not well-formed" },
	{ "hello", S3_PAGE_BROKEN, "", "not well-formed" },
	/* never to be believed */
	{ "<!DOCTYPE l><ListBucketResult>" NO "</ListBucketResult>", S3_PAGE_REFUSED, "", "DTD" },
	{ "<!DOCTYPE l [<!ENTITY a 'b'>]><ListBucketResult>" NO KEY("&a;") "</ListBucketResult>", S3_PAGE_REFUSED, "", "DTD" },
	{ "<!DOCTYPE l SYSTEM 'file:///etc/passwd'><ListBucketResult/>", S3_PAGE_REFUSED, "", "DTD" },
	{ LIST("<IsTruncated>maybe</IsTruncated>"), S3_PAGE_REFUSED, "", "IsTruncated" },
	{ LIST("<IsTruncated/>"), S3_PAGE_REFUSED, "", "IsTruncated" },
	{ LIST(NO "<Contents><Key>a<b/></Key></Contents>"), S3_PAGE_REFUSED, "", "within a text" },
	{ "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a>",
	    S3_PAGE_REFUSED, "", "too deep" },
	{ LIST(URL NO "<NextMarker>%</NextMarker>"), S3_PAGE_REFUSED, "", "marker" },
};

START_TEST(test_pages)
{
	struct err e = ERR_INIT;
	struct s3_page p;
	struct told t;
	enum s3_page_result r = parse(&p, &t, pages[_i].body, strlen(pages[_i].body), &e);

	ck_assert_msg(!strcmp(buf_str(&t.text), pages[_i].told), "%s\ngot:    %swanted: %s", pages[_i].body, buf_str(&t.text), pages[_i].told);
	ck_assert_msg(r == pages[_i].result, "%s: result %d: %s", pages[_i].body, (int)r, e.text);
	ck_assert_int_eq(e.cls, r == S3_PAGE_WHOLE ? ERR_OK : ERR_PROTOCOL);
	ck_assert_msg(!pages[_i].error || strstr(e.text, pages[_i].error), "%s: %s", pages[_i].body, e.text);
	s3_page_release(&p);
	buf_release(&t.text);
}
END_TEST

static char *
file(const char *name, size_t *n)
{
	char path[128];
	struct buf b = BUF_INIT;
	FILE *f;
	size_t got;

	snprintf(path, sizeof(path), "t/data/s3/%s", name);
	f = fopen(path, "re");
	ck_assert_msg(f != NULL, "%s: run from the top of the tree", path);
	while ((got = fread(buf_room(&b, 4096), 1, 4096, f)) > 0)
		b.len += got;
	fclose(f);
	*n = b.len;
	return buf_take(&b);
}

static void
check_text(struct s3_page *p, enum s3_text which, const char *want)
{
	ck_assert_str_eq(buf_str(&p->text[which]), want);
}

static void
load(const char *name, struct s3_page *p, struct told *t, enum s3_page_result want)
{
	struct err e = ERR_INIT;
	size_t n;
	char *body = file(name, &n);

	ck_assert_int_eq(parse(p, t, body, n, &e), want);
	free(body);
}

START_TEST(test_whole_pages)
{
	struct s3_page p;
	struct told t;

	load("aws-v2.xml", &p, &t, S3_PAGE_WHOLE);
	ck_assert_str_eq(buf_str(&t.text), "key a+b c%.csv 434234 2009-10-12T17:50:30.000Z\nkey \\x01\\n\xc3\xa9.csv 0 2009-10-12T17:50:30.123Z\n");
	ck_assert_int_eq(p.root, S3_ROOT_LIST);
	ck_assert(p.truncated && p.truncated_told && p.encoded);
	check_text(&p, S3_NEXT_TOKEN, "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
	/* of the last object, which has no owner and no class */
	check_text(&p, S3_ETAG, "\"x-2\"");
	check_text(&p, S3_OWNER_ID, "");
	check_text(&p, S3_STORAGE_CLASS, "");
	ck_assert_str_eq(buf_str(&p.last_key), "a+b c%.csv");
	s3_page_release(&p);
	buf_release(&t.text);

	load("v1-delimited.xml", &p, &t, S3_PAGE_WHOLE);
	ck_assert_str_eq(buf_str(&t.text), "key in/a.csv 1\nprefix in/sub/\n");
	check_text(&p, S3_NEXT_MARKER, "in/sub/");
	ck_assert_str_eq(buf_str(&p.last_key), "in/sub/");
	s3_page_release(&p);
	buf_release(&t.text);

	load("versions.xml", &p, &t, S3_PAGE_WHOLE);
	ck_assert_int_eq(p.root, S3_ROOT_VERSIONS);
	check_text(&p, S3_NEXT_KEY_MARKER, "a b");
	check_text(&p, S3_NEXT_VERSION, "3/L4kqtJl40Nr8X8gdRQBpUMLUo");
	ck_assert_str_eq(buf_str(&p.last_version), "3/L4kqtJl40Nr8X8gdRQBpUMLUo");
	ck_assert_str_eq(buf_str(&t.text), "key a b 166434 2009-10-10T17:50:30.000Z\ndeleted a b -1 2009-11-12T17:50:30.000Z\n");
	s3_page_release(&p);
	buf_release(&t.text);

	load("error.xml", &p, &t, S3_PAGE_WHOLE);
	ck_assert_int_eq(p.root, S3_ROOT_ERROR);
	check_text(&p, S3_CODE, "AuthorizationHeaderMalformed");
	check_text(&p, S3_MESSAGE, "The region 'us-east-1' is wrong; expecting 'eu-west-1' & no other");
	check_text(&p, S3_REGION, "eu-west-1");
	s3_page_release(&p);
	buf_release(&t.text);
}
END_TEST

START_TEST(test_object_texts)
{
	static const char body[] = LIST(NO "<Contents><Key>a</Key><Owner><ID>7</ID><DisplayName>me</DisplayName></Owner>"
	    "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2012</RestoreExpiryDate></RestoreStatus>"
	    "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA256</ChecksumAlgorithm></Contents>");
	struct err e = ERR_INIT;
	struct s3_page p;
	struct told t;

	ck_assert_int_eq(parse(&p, &t, body, sizeof(body) - 1, &e), S3_PAGE_WHOLE);
	check_text(&p, S3_OWNER_ID, "7");
	check_text(&p, S3_OWNER_NAME, "me");
	check_text(&p, S3_RESTORING, "false");
	check_text(&p, S3_RESTORE_EXPIRY, "2012");
	check_text(&p, S3_CHECKSUM_ALGORITHM, "SHA256");
	s3_page_release(&p);
	buf_release(&t.text);
}
END_TEST

/* A whole page, cut at each byte: never whole but at its end, and never a key that was not in it. */
START_TEST(test_cut)
{
	size_t n;
	char *body = file("aws-v2.xml", &n);
	const char *end = strstr(body, "</ListBucketResult>") + strlen("</ListBucketResult>");

	for (size_t k = 0; k <= n; k++) {
		struct err e = ERR_INIT;
		struct s3_page p;
		struct told t;
		enum s3_page_result r = parse(&p, &t, body, k, &e);

		ck_assert_int_eq(r, body + k >= end ? S3_PAGE_WHOLE : S3_PAGE_BROKEN);
		ck_assert(!strncmp(buf_str(&t.text), "key a+b c%.csv 434234 2009-10-12T17:50:30.000Z\nkey \\x01\\n\xc3\xa9.csv 0 ", t.text.len < 60 ? t.text.len : 60));
		s3_page_release(&p);
		buf_release(&t.text);
	}
	free(body);
}
END_TEST

START_TEST(test_bounds)
{
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;
	struct s3_page p;
	struct told t;

	/* an element's text: as long as allowed, and a byte longer */
	for (size_t over = 0; over < 2; over++) {
		buf_clear(&b);
		buf_puts(&b, "<ListBucketResult>" NO "<Contents><Key>");
		memset(buf_room(&b, S3_TEXT_MAX + over), 'a', S3_TEXT_MAX + over);
		b.len += S3_TEXT_MAX + over;
		buf_puts(&b, "</Key></Contents></ListBucketResult>");
		ck_assert_int_eq(parse(&p, &t, b.p, b.len, &e), over ? S3_PAGE_REFUSED : S3_PAGE_WHOLE);
		ck_assert_uint_eq(p.objects, !over);
		s3_page_release(&p);
		buf_release(&t.text);
	}
	/* an answer without a body */
	ck_assert_int_eq(parse(&p, &t, NULL, 0, &e), S3_PAGE_BROKEN);
	s3_page_release(&p);
	/* a callback that has enough */
	buf_clear(&b);
	buf_puts(&b, LIST(NO KEY("a") KEY("b") KEY("c")));
	memset(&t, 0, sizeof(t));
	t.stop_after = 2;
	s3_page_init(&p);
	p.object = on_object;
	p.arg = &t;
	ck_assert_int_eq(s3_page_parse(&p, b.p, b.len, &e), S3_PAGE_STOPPED);
	ck_assert_uint_eq(t.n, 2);
	s3_page_release(&p);
	buf_release(&t.text);
	buf_release(&b);
}
END_TEST

/* S3 API reference, "List of error codes"; statuses: RFC 9110, RFC 6585 */
static const struct {
	const char *code;
	long status;
	enum err_class cls;
	bool again, region, v1;
} errors[] = {
	{ "AccessDenied", 403, ERR_AUTH, false, false, false },
	{ "AccessForbidden", 403, ERR_AUTH, false, false, false },
	{ "AccountProblem", 403, ERR_AUTH, false, false, false },
	{ "AllAccessDisabled", 403, ERR_AUTH, false, false, false },
	{ "AuthorizationHeaderMalformed", 400, ERR_AUTH, false, true, false },
	{ "CredentialsNotSupported", 400, ERR_AUTH, false, false, false },
	{ "CrossLocationLoggingProhibited", 403, ERR_AUTH, false, false, false },
	{ "ExpiredToken", 400, ERR_AUTH, false, false, false },
	{ "InvalidAccessKeyId", 403, ERR_AUTH, false, false, false },
	{ "InvalidPayer", 403, ERR_AUTH, false, false, false },
	{ "InvalidSecurity", 403, ERR_AUTH, false, false, false },
	{ "InvalidToken", 400, ERR_AUTH, false, false, false },
	{ "MissingSecurityHeader", 400, ERR_AUTH, false, false, false },
	{ "NotSignedUp", 403, ERR_AUTH, false, false, false },
	{ "RequestExpired", 400, ERR_AUTH, false, false, false },
	{ "RequestTimeTooSkewed", 403, ERR_AUTH, false, false, false },
	{ "SignatureDoesNotMatch", 403, ERR_AUTH, false, false, false },
	{ "TokenRefreshRequired", 400, ERR_AUTH, false, false, false },
	{ "UnauthorizedAccess", 403, ERR_AUTH, false, false, false },
	{ "NoSuchBucket", 404, ERR_NOT_FOUND, false, false, false },
	{ "NoSuchKey", 404, ERR_NOT_FOUND, false, false, false },
	{ "NoSuchUpload", 404, ERR_NOT_FOUND, false, false, false },
	{ "NoSuchVersion", 404, ERR_NOT_FOUND, false, false, false },
	{ "IllegalLocationConstraintException", 400, ERR_PERMANENT, false, true, false },
	{ "InvalidArgument", 400, ERR_PERMANENT, false, false, true },
	{ "InvalidBucketName", 400, ERR_PERMANENT, false, false, false },
	{ "InvalidObjectState", 403, ERR_PERMANENT, false, false, false },
	{ "InvalidRegion", 403, ERR_PERMANENT, false, true, false },
	{ "InvalidRequest", 400, ERR_PERMANENT, false, false, true },
	{ "InvalidURI", 400, ERR_PERMANENT, false, false, false },
	{ "MethodNotAllowed", 405, ERR_PERMANENT, false, false, false },
	{ "NotImplemented", 501, ERR_PERMANENT, false, false, true },
	{ "PermanentRedirect", 301, ERR_PERMANENT, false, true, false },
	{ "Redirect", 307, ERR_PERMANENT, false, true, false },
	{ "TemporaryRedirect", 307, ERR_TRANSIENT, false, true, false },
	{ "BandwidthLimitExceeded", 503, ERR_TRANSIENT, true, false, false },
	{ "Busy", 503, ERR_TRANSIENT, true, false, false },
	{ "InternalError", 500, ERR_TRANSIENT, true, false, false },
	{ "OperationAborted", 409, ERR_TRANSIENT, true, false, false },
	{ "RequestTimeout", 400, ERR_TRANSIENT, true, false, false },
	{ "ServiceUnavailable", 503, ERR_TRANSIENT, true, false, false },
	{ "SlowDown", 503, ERR_TRANSIENT, true, false, false },
	{ "503 SlowDown", 503, ERR_TRANSIENT, true, false, false },
	{ "Throttling", 400, ERR_TRANSIENT, true, false, false },
	{ "ThrottlingException", 400, ERR_TRANSIENT, true, false, false },
	{ "TooManyRequests", 429, ERR_TRANSIENT, true, false, false },
	/* a code inside an answer that says 200 */
	{ "InternalError", 200, ERR_TRANSIENT, true, false, false },
	/* none, or one that is not known: the status decides */
	{ "", 301, ERR_PERMANENT, false, true, false },
	{ "", 302, ERR_PERMANENT, false, true, false },
	{ "", 307, ERR_TRANSIENT, false, true, false },
	{ "", 308, ERR_PERMANENT, false, true, false },
	{ "", 400, ERR_PERMANENT, false, false, true },
	{ "", 401, ERR_AUTH, false, false, false },
	{ "", 403, ERR_AUTH, false, false, false },
	{ "", 404, ERR_NOT_FOUND, false, false, false },
	{ "", 407, ERR_AUTH, false, false, false },
	{ "", 408, ERR_TRANSIENT, true, false, false },
	{ "", 418, ERR_PERMANENT, false, false, false },
	{ "", 425, ERR_TRANSIENT, true, false, false },
	{ "", 429, ERR_TRANSIENT, true, false, false },
	{ "", 500, ERR_TRANSIENT, true, false, false },
	{ "", 501, ERR_PERMANENT, false, false, true },
	{ "", 502, ERR_TRANSIENT, true, false, false },
	{ "", 503, ERR_TRANSIENT, true, false, false },
	{ "", 504, ERR_TRANSIENT, true, false, false },
	{ "", 599, ERR_TRANSIENT, true, false, false },
	{ "", 200, ERR_PROTOCOL, false, false, false },
	{ "", 204, ERR_PROTOCOL, false, false, false },
	{ "NoSuchBucke", 404, ERR_NOT_FOUND, false, false, false },
	{ "NoSuchBucketX", 403, ERR_AUTH, false, false, false },
	{ "Unheard", 503, ERR_TRANSIENT, true, false, false },
};

START_TEST(test_errors)
{
	struct s3_failure f = s3_failure_of(errors[_i].code, strlen(errors[_i].code), errors[_i].status);

	ck_assert_msg(f.cls == errors[_i].cls, "%s %ld: %s", errors[_i].code, errors[_i].status, err_name(f.cls));
	ck_assert_int_eq(f.again, errors[_i].again);
	ck_assert_int_eq(f.region, errors[_i].region);
	ck_assert_int_eq(f.v1, errors[_i].v1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_s3_page");
	TCase *c = tcase_create("page");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(c, test_pages, 0, ARRAY_LEN(pages));
	tcase_add_test(c, test_whole_pages);
	tcase_add_test(c, test_object_texts);
	tcase_add_test(c, test_cut);
	tcase_add_test(c, test_bounds);
	tcase_add_loop_test(c, test_errors, 0, ARRAY_LEN(errors));
	suite_add_tcase(s, c);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
