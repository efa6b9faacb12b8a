/*
 * s3_page.c - reads one answer of S3: ListBucketResult, ListVersionsResult or Error, with libxml2's SAX2 push parser.
 *
 * s3_fetch.c calls it with a whole body. Objects are handed out as their elements end, so that nothing of a page is
 * held but one object. Foreign bytes: no DTD is taken, so there are no entities but XML's own five; nothing is ever
 * loaded; depth and text are capped. A body that is not well-formed is said to be so, never a short page.
 */
#include <libxml/parser.h>
#include <string.h>

#include "worker/source/s3_page.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define CHUNK 16384
#define DEPTH_MAX 16

/* Where an element may stand: within which other one. */
enum s3_place { IN_ROOT, IN_OBJECT, IN_OWNER, IN_RESTORE, IN_PREFIXES, IN_OTHER };

static const struct {
	enum s3_place in;
	const char *name;
	enum s3_text text;
} leaves[] = {
	{ IN_OBJECT, "Key", S3_KEY },
	{ IN_OBJECT, "LastModified", S3_LAST_MODIFIED },
	{ IN_OBJECT, "ETag", S3_ETAG },
	{ IN_OBJECT, "Size", S3_SIZE },
	{ IN_OBJECT, "StorageClass", S3_STORAGE_CLASS },
	{ IN_OBJECT, "VersionId", S3_VERSION_ID },
	{ IN_OBJECT, "IsLatest", S3_IS_LATEST },
	{ IN_OBJECT, "ChecksumAlgorithm", S3_CHECKSUM_ALGORITHM },
	{ IN_OBJECT, "ChecksumType", S3_CHECKSUM_TYPE },
	{ IN_OWNER, "ID", S3_OWNER_ID },
	{ IN_OWNER, "DisplayName", S3_OWNER_NAME },
	{ IN_RESTORE, "IsRestoreInProgress", S3_RESTORING },
	{ IN_RESTORE, "RestoreExpiryDate", S3_RESTORE_EXPIRY },
	{ IN_PREFIXES, "Prefix", S3_PREFIX },
	{ IN_ROOT, "IsTruncated", S3_TRUNCATED },
	{ IN_ROOT, "NextContinuationToken", S3_NEXT_TOKEN },
	{ IN_ROOT, "NextMarker", S3_NEXT_MARKER },
	{ IN_ROOT, "NextKeyMarker", S3_NEXT_KEY_MARKER },
	{ IN_ROOT, "NextVersionIdMarker", S3_NEXT_VERSION },
	{ IN_ROOT, "EncodingType", S3_ENCODING },
	{ IN_ROOT, "Code", S3_CODE },
	{ IN_ROOT, "Message", S3_MESSAGE },
	{ IN_ROOT, "Region", S3_REGION },
	{ IN_ROOT, "Endpoint", S3_ENDPOINT },
	{ IN_ROOT, "RequestId", S3_REQUEST_ID },
};

struct parse {
	struct s3_page *page;
	xmlParserCtxtPtr ctxt;
	const char *body;               /* whole, to look ahead for the encoding */
	size_t n;
	unsigned depth;                 /* open elements */
	enum s3_place place[DEPTH_MAX + 1];  /* what the open elements are: place[d] is where children of depth d stand */
	int leaf;                       /* enum s3_text of the open leaf, or -1 */
	unsigned leaf_depth;
	bool encoding_known, delete_marker;
	struct buf key;                 /* decoded */
	enum s3_page_result result;
	struct err *e;
};

void
s3_page_init(struct s3_page *p)
{
	memset(p, 0, sizeof(*p));
}

void
s3_page_release(struct s3_page *p)
{
	buf_release(&p->last_key);
	buf_release(&p->last_version);
	for (int i = 0; i < S3_TEXTS; i++)
		buf_release(&p->text[i]);
}

void
s3_page_clear(struct s3_page *p)
{
	p->root = S3_ROOT_NONE;
	p->encoded = p->truncated = p->truncated_told = false;
	p->objects = p->prefixes = 0;
	buf_clear(&p->last_key);
	buf_clear(&p->last_version);
	for (int i = 0; i < S3_TEXTS; i++)
		buf_clear(&p->text[i]);
}

/* -1 or 0..15 */
static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
s3_decode(struct buf *b, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high, low;

		if (p[i] != '%') {
			buf_putc(b, p[i] == '+' ? ' ' : p[i]);
			continue;
		}
		high = n - i > 2 ? hex_digit(p[i + 1]) : -1;
		low = high >= 0 ? hex_digit(p[i + 2]) : -1;
		if (low < 0)
			return -1;
		buf_putc(b, (char)(high << 4 | low));
		i += 2;
	}
	return 0;
}

/* Stops the parser: the page ends here, as this. */
static void
stop(struct parse *p, enum s3_page_result result)
{
	p->result = result;
	xmlStopParser(p->ctxt);
}

static void
refuse(struct parse *p, const char *why)
{
	err_set(p->e, ERR_PROTOCOL, "the server's answer is not a page of S3: %s", why);
	stop(p, S3_PAGE_REFUSED);
}

static bool
named(const xmlChar *name, const char *want)
{
	return !strcmp((const char *)name, want);
}

static bool
is_text(const struct buf *b, const char *want)
{
	return b->len == strlen(want) && !memcmp(b->p, want, b->len);
}

/*
 * Keys are decoded only where the page says that they are encoded. Some servers say it behind the keys: the body is
 * whole, so it can be looked for; '<' stands in no key, which makes the text certain.
 */
static void
learn_encoding(struct parse *p)
{
	static const char tag[] = "EncodingType>url<";

	if (p->encoding_known)
		return;
	p->encoding_known = true;
	p->page->encoded = is_text(&p->page->text[S3_ENCODING], "url") ||
	    memmem(p->body, p->n, tag, sizeof(tag) - 1) != NULL;
}

static enum s3_root
root_of(const xmlChar *name)
{
	if (named(name, "ListBucketResult"))
		return S3_ROOT_LIST;
	/* the second is the name of the operation's older schema */
	if (named(name, "ListVersionsResult") || named(name, "ListBucketVersionsResult"))
		return S3_ROOT_VERSIONS;
	return named(name, "Error") ? S3_ROOT_ERROR : S3_ROOT_OTHER;
}

static void
begin_object(struct parse *p, bool delete_marker)
{
	p->delete_marker = delete_marker;
	for (int i = 0; i < S3_OBJECT_TEXTS; i++)
		buf_clear(&p->page->text[i]);
}

/* What stands in an element of this name within `in`. */
static enum s3_place
enter(struct parse *p, enum s3_place in, const xmlChar *name)
{
	bool listing = p->page->root == S3_ROOT_LIST || p->page->root == S3_ROOT_VERSIONS;

	if (in == IN_ROOT && listing) {
		bool marker = named(name, "DeleteMarker");

		if (marker || named(name, "Contents") || named(name, "Version")) {
			begin_object(p, marker);
			return IN_OBJECT;
		}
		if (named(name, "CommonPrefixes"))
			return IN_PREFIXES;
	} else if (in == IN_OBJECT) {
		if (named(name, "Owner"))
			return IN_OWNER;
		if (named(name, "RestoreStatus"))
			return IN_RESTORE;
	}
	return IN_OTHER;
}

static int
leaf_of(enum s3_place in, const xmlChar *name)
{
	for (size_t i = 0; i < ARRAY_LEN(leaves); i++)
		if (leaves[i].in == in && named(name, leaves[i].name))
			return (int)leaves[i].text;
	return -1;
}

static void
on_start(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int n_ns, const xmlChar **ns,
    int n_attrs, int n_defaulted, const xmlChar **attrs)
{
	struct parse *p = ctx;
	enum s3_place in;

	(void)prefix, (void)uri, (void)n_ns, (void)ns, (void)n_attrs, (void)n_defaulted, (void)attrs;
	if (p->result != S3_PAGE_WHOLE)
		return;
	if (p->depth >= DEPTH_MAX) {
		refuse(p, "its elements are nested too deep");
		return;
	}
	p->depth++;
	if (p->depth == 1) {
		p->page->root = root_of(name);
		p->place[1] = IN_ROOT;
		return;
	}
	in = p->place[p->depth - 1];
	if (p->leaf >= 0) {
		refuse(p, "an element stands within a text");
		return;
	}
	p->leaf = leaf_of(in, name);
	p->leaf_depth = p->depth;
	p->place[p->depth] = p->leaf >= 0 ? IN_OTHER : enter(p, in, name);
	/* the last one counts; there may be several checksum algorithms */
	if (p->leaf >= 0)
		buf_clear(&p->page->text[p->leaf]);
	if (p->page->root != S3_ROOT_ERROR && p->leaf == S3_PREFIX)
		learn_encoding(p);
}

static void
on_text(void *ctx, const xmlChar *s, int n)
{
	struct parse *p = ctx;
	struct buf *b;

	if (p->result != S3_PAGE_WHOLE || p->leaf < 0 || n < 0)
		return;
	b = &p->page->text[p->leaf];
	if (b->len + (size_t)n > S3_TEXT_MAX) {
		refuse(p, "a text is too long");
		return;
	}
	buf_add(b, s, (size_t)n);
}

/* A number of bytes: digits that fit. -1 and refused, where it is none. */
static int64_t
size_of(struct parse *p, struct buf *b)
{
	int64_t v;

	if (!b->len)
		return -1;
	if (units_int(buf_str(b), &v) || v < 0) {
		refuse(p, "a Size is no number");
		return -1;
	}
	return v;
}

static int64_t
time_of(struct parse *p, struct buf *b)
{
	int64_t v;

	if (!b->len)
		return TIME_UNKNOWN;
	if (units_time(buf_str(b), &v)) {
		refuse(p, "a LastModified is no time");
		return TIME_UNKNOWN;
	}
	return v;
}

/* The key or prefix in text[which] as bytes, into p->key. */
static int
decode_name(struct parse *p, enum s3_text which)
{
	const struct buf *raw = &p->page->text[which];

	buf_clear(&p->key);
	learn_encoding(p);
	if (!raw->len) {
		refuse(p, which == S3_KEY ? "an object without a Key" : "CommonPrefixes without a Prefix");
		return -1;
	}
	if (!p->page->encoded) {
		buf_add(&p->key, raw->p, raw->len);
		return 0;
	}
	if (!s3_decode(&p->key, raw->p, raw->len))
		return 0;
	refuse(p, "a key is not percent-encoded, as the page says it is");
	return -1;
}

static void
note_last(struct s3_page *page, const struct buf *name, const struct buf *version)
{
	size_t n = name->len < page->last_key.len ? name->len : page->last_key.len;
	int order = n ? memcmp(name->p, page->last_key.p, n) : 0;

	/* Versions of one key stand together: the later one counts. */
	if (order < 0 || (!order && name->len < page->last_key.len))
		return;
	buf_clear(&page->last_key);
	buf_add(&page->last_key, name->p, name->len);
	buf_clear(&page->last_version);
	if (version)
		buf_add(&page->last_version, version->p, version->len);
}

static void
end_object(struct parse *p)
{
	struct s3_page *page = p->page;
	struct s3_object o = { .delete_marker = p->delete_marker, .text = page->text };

	if (decode_name(p, S3_KEY))
		return;
	o.key = p->key.p;
	o.key_n = p->key.len;
	o.size = size_of(p, &page->text[S3_SIZE]);
	o.mtime_ns = time_of(p, &page->text[S3_LAST_MODIFIED]);
	if (p->result != S3_PAGE_WHOLE)
		return;
	if (page->object && page->object(page->arg, &o)) {
		stop(p, S3_PAGE_STOPPED);
		return;
	}
	page->objects++;
	note_last(page, &p->key, &page->text[S3_VERSION_ID]);
}

static void
end_prefix(struct parse *p)
{
	struct s3_page *page = p->page;

	if (decode_name(p, S3_PREFIX))
		return;
	if (page->prefix && page->prefix(page->arg, p->key.p, p->key.len)) {
		stop(p, S3_PAGE_STOPPED);
		return;
	}
	page->prefixes++;
	note_last(page, &p->key, NULL);
}

static void
end_truncated(struct parse *p)
{
	const struct buf *b = &p->page->text[S3_TRUNCATED];

	p->page->truncated = is_text(b, "true");
	p->page->truncated_told = true;
	if (!p->page->truncated && !is_text(b, "false"))
		refuse(p, "IsTruncated is neither true nor false");
}

static void
on_end(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
	struct parse *p = ctx;
	enum s3_place was;

	(void)name, (void)prefix, (void)uri;
	if (p->result != S3_PAGE_WHOLE || !p->depth)
		return;
	was = p->place[p->depth];
	if (p->leaf >= 0 && p->leaf_depth == p->depth) {
		int leaf = p->leaf;

		p->leaf = -1;
		p->depth--;
		if (leaf == S3_PREFIX)
			end_prefix(p);
		else if (leaf == S3_TRUNCATED)
			end_truncated(p);
		return;
	}
	p->depth--;
	if (was == IN_OBJECT)
		end_object(p);
}

/* Comes with the first word of a DOCTYPE, before anything in it was read. */
static void
on_doctype(void *ctx, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
	(void)name, (void)external, (void)system;
	refuse(ctx, "it has a DTD");
}

/* Errors are asked for when the parser has ended. */
static void
on_error(void *ctx, xmlErrorPtr error)
{
	(void)ctx, (void)error;
}

static xmlSAXHandler handlers = {
	.initialized = XML_SAX2_MAGIC,
	.startElementNs = on_start,
	.endElementNs = on_end,
	.characters = on_text,
	.ignorableWhitespace = on_text,
	.cdataBlock = on_text,
	.internalSubset = on_doctype,
	.serror = on_error,
};

/* NextMarker and NextKeyMarker are encoded like keys. */
static int
decode_markers(struct parse *p)
{
	static const enum s3_text which[] = { S3_NEXT_MARKER, S3_NEXT_KEY_MARKER };

	if (!p->page->encoded)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(which); i++) {
		struct buf *b = &p->page->text[which[i]], out = BUF_INIT;
		int bad = s3_decode(&out, b->p, b->len);

		buf_clear(b);
		if (!bad)
			buf_add(b, out.p, out.len);
		buf_release(&out);
		if (bad)
			return err_set(p->e, ERR_PROTOCOL, "the server's answer is not a page of S3: a marker is not "
			    "percent-encoded, as the page says it is");
	}
	return 0;
}

static void
feed(struct parse *p)
{
	size_t at = 0;

	while (at < p->n && p->result == S3_PAGE_WHOLE) {
		size_t n = p->n - at < CHUNK ? p->n - at : CHUNK;

		if (xmlParseChunk(p->ctxt, p->body + at, (int)n, 0))
			break;
		at += n;
	}
	if (p->result == S3_PAGE_WHOLE)
		xmlParseChunk(p->ctxt, NULL, 0, 1);
}

enum s3_page_result
s3_page_parse(struct s3_page *page, const char *body, size_t n, struct err *e)
{
	/* an answer without a body has no bytes to point to */
	struct parse p = { .page = page, .body = n ? body : "", .n = n, .leaf = -1, .result = S3_PAGE_WHOLE, .e = e };
	xmlErrorPtr why;

	s3_page_clear(page);
	p.ctxt = xmlCreatePushParserCtxt(&handlers, &p, NULL, 0, NULL);
	if (!p.ctxt)
		BUG("libxml2 gives no parser");
	xmlCtxtUseOptions(p.ctxt, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	feed(&p);
	if (p.result == S3_PAGE_WHOLE) {
		learn_encoding(&p);
		if (!p.ctxt->wellFormed) {
			why = xmlCtxtGetLastError(p.ctxt);
			err_set(e, ERR_PROTOCOL, "the server's answer is not well-formed XML (code %d, line %d)",
			    why ? why->code : 0, why ? why->line : 0);
			p.result = S3_PAGE_BROKEN;
		} else if (decode_markers(&p)) {
			p.result = S3_PAGE_REFUSED;
		}
	}
	xmlFreeParserCtxt(p.ctxt);
	buf_release(&p.key);
	return p.result;
}
