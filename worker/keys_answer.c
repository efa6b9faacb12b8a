/*
 * keys_answer.c - the answers of metadata services (JSON) and STS (XML), read as what they are: foreign bytes with secrets
 * in them.
 *
 * keys.c calls it with a whole body. JSON passes the strict scanner first and is then only looked into for five texts; XML
 * goes through libxml2's SAX2 parser without DTD, entities, network. Nothing of an answer is ever repeated in an error's text but
 * a refusal's code and words. Every buffer that held a secret is cleared; what libxml2 copied ends with the process.
 */
#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "worker/keys_answer.h"
#include "worker/source/s3.h"
#include "common/banned.h"

#define DEPTH_MAX 8
#define JSON_DEPTH 8

enum text { T_ID, T_SECRET, T_TOKEN, T_EXPIRES, T_CODE, T_MESSAGE, T__MAX };

static const size_t text_max[T__MAX] = {
	[T_ID] = 255, [T_SECRET] = 1024, [T_TOKEN] = 8192, [T_EXPIRES] = 64, [T_CODE] = KEYS_CODE_MAX - 1, [T_MESSAGE] = 8192,
};

void
keys_answer_wipe(struct keys_answer *a)
{
	keys_wipe(&a->keys);
	explicit_bzero(a, sizeof(*a));
}

static int
bad(struct err *e, const char *why)
{
	return err_set(e, ERR_PROTOCOL, "the answer holds no credentials: %s", why);
}

/* Room at once: a buffer that grows leaves copies of the secrets behind. */
static void
texts_init(struct buf t[T__MAX])
{
	for (int i = 0; i < T__MAX; i++) {
		buf_init(&t[i]);
		buf_room(&t[i], text_max[i] + 1);
	}
}

static void
texts_wipe(struct buf t[T__MAX])
{
	for (int i = 0; i < T__MAX; i++)
		buf_wipe(&t[i]);
}

static bool
code_ok(const char *s)
{
	for (; *s; s++)
		if (*s < 0x21 || *s > 0x7e)
			return false;
	return true;
}

static int
take_refusal(struct buf t[T__MAX], struct keys_answer *a, struct err *e)
{
	size_t n = t[T_MESSAGE].len;

	if (memchr(t[T_CODE].p, '\0', t[T_CODE].len) || !code_ok(buf_str(&t[T_CODE])))
		return bad(e, "its error code has odd characters");
	if (n >= KEYS_MESSAGE_MAX)
		n = KEYS_MESSAGE_MAX - 1;
	memcpy(a->code, t[T_CODE].p, t[T_CODE].len);
	if (n)
		memcpy(a->message, t[T_MESSAGE].p, n);
	return 0;
}

static int
take_keys(struct buf t[T__MAX], int64_t now_ns, struct keys_answer *a, struct err *e)
{
	static const char *const names[] = { "the access key id", "the secret key", "the session token", "the expiry" };
	const char *why;

	for (int i = T_ID; i <= T_EXPIRES; i++) {
		if (!t[i].len)
			return err_set(e, ERR_PROTOCOL, "the answer holds no credentials: %s is missing", names[i]);
		if (memchr(t[i].p, '\0', t[i].len))
			return bad(e, "it holds a NUL");
	}
	if (units_time(buf_str(&t[T_EXPIRES]), &a->keys.expires_ns))
		return bad(e, "the expiry is no time");
	a->keys.access_key_id = xmemdup0(t[T_ID].p, t[T_ID].len);
	a->keys.secret_access_key = xmemdup0(t[T_SECRET].p, t[T_SECRET].len);
	a->keys.session_token = xmemdup0(t[T_TOKEN].p, t[T_TOKEN].len);
	why = keys_fault(&a->keys, now_ns);
	if (!why)
		return 0;
	keys_wipe(&a->keys);
	return bad(e, why);
}

/* ---- JSON ---- */

static int
hex4(const char *p, unsigned *v)
{
	*v = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		*v <<= 4;
		if (c >= '0' && c <= '9')
			*v += (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			*v += (unsigned)((c | 32) - 'a' + 10);
		else
			return -1;
	}
	return 0;
}

/* One escape behind its backslash; texts of ours are ASCII, what else is said so becomes '?'. Bytes eaten. */
static size_t
unescape(const char *p, const char *end, struct buf *b)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const char *at;
	unsigned v;

	if (*p == 'u' && end - p >= 5 && !hex4(p + 1, &v)) {
		buf_putc(b, v && v < 0x80 ? (char)v : '?');
		return 5;
	}
	at = memchr(names, *p, sizeof(names) - 1);
	buf_putc(b, at ? values[at - names] : '?');
	return 1;
}

/* The text at this pointer, where there is one. The whole was scanned: a string ends. */
static int
json_text(const char *p, size_t n, const char *pointer, enum text which, struct buf *b, struct err *e)
{
	long long at = json_locate(p, n, pointer);
	const char *s, *end = p + n;

	if (at < 0 || (size_t)at >= n || p[at] != '"')
		return 0;
	for (s = p + at + 1; s < end && *s != '"';) {
		if (b->len >= text_max[which])
			return which == T_MESSAGE ? 0 : bad(e, "one of its texts is too long");
		if (*s == '\\' && s + 1 < end)
			s += 1 + unescape(s + 1, end, b);
		else
			buf_putc(b, *s++);
	}
	return 0;
}

int
keys_answer_json(const char *p, size_t n, int64_t now_ns, struct keys_answer *a, struct err *e)
{
	static const struct { const char *pointer; enum text t; } rows[] = {
		{ "/AccessKeyId", T_ID }, { "/SecretAccessKey", T_SECRET }, { "/Token", T_TOKEN }, { "/Expiration", T_EXPIRES },
		{ "/Code", T_CODE }, { "/Message", T_MESSAGE },
		/* what containers' services say of an error */
		{ "/code", T_CODE }, { "/message", T_MESSAGE },
	};
	struct err why = ERR_INIT;
	struct buf t[T__MAX];
	int rc = 0;

	memset(a, 0, sizeof(*a));
	if (n > KEYS_BODY_MAX)
		return bad(e, "it is too long");
	if (json_check(p, n, JSON_DEPTH, &why))
		return err_set(e, ERR_PROTOCOL, "the answer holds no credentials: it is no JSON (byte %lld)", why.pos);
	texts_init(t);
	for (size_t i = 0; !rc && i < ARRAY_LEN(rows); i++)
		if (!t[rows[i].t].len)
			rc = json_text(p, n, rows[i].pointer, rows[i].t, &t[rows[i].t], e);
	if (!rc && t[T_CODE].len && !(t[T_CODE].len == 7 && !memcmp(t[T_CODE].p, "Success", 7)))
		rc = take_refusal(t, a, e);
	else if (!rc)
		rc = take_keys(t, now_ns, a, e);
	texts_wipe(t);
	return rc;
}

/* ---- XML ---- */

struct parse {
	xmlParserCtxtPtr ctxt;
	unsigned depth;
	enum { IN_OTHER, IN_CREDENTIALS, IN_ERROR } in;
	unsigned in_depth;              /* of the element that `in` is */
	int leaf;                       /* enum text, or -1 */
	struct buf *t;
	bool answer;                    /* the root is one of those that are answers */
	const char *refused;
};

static void
stop(struct parse *p, const char *why)
{
	if (!p->refused)
		p->refused = why;
	xmlStopParser(p->ctxt);
}

static bool
named(const xmlChar *name, const char *want)
{
	return !strcmp((const char *)name, want);
}

static int
leaf_of(const struct parse *p, const xmlChar *name)
{
	static const struct { int in; const char *name; enum text t; } leaves[] = {
		{ IN_CREDENTIALS, "AccessKeyId", T_ID }, { IN_CREDENTIALS, "SecretAccessKey", T_SECRET },
		{ IN_CREDENTIALS, "SessionToken", T_TOKEN }, { IN_CREDENTIALS, "Expiration", T_EXPIRES },
		{ IN_ERROR, "Code", T_CODE }, { IN_ERROR, "Message", T_MESSAGE },
	};

	for (size_t i = 0; i < ARRAY_LEN(leaves); i++)
		if (leaves[i].in == (int)p->in && p->depth == p->in_depth + 1 && named(name, leaves[i].name))
			return (int)leaves[i].t;
	return -1;
}

static void
on_start(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int n_ns, const xmlChar **ns,
    int n_attrs, int n_defaulted, const xmlChar **attrs)
{
	struct parse *p = ctx;

	(void)prefix, (void)uri, (void)n_ns, (void)ns, (void)n_attrs, (void)n_defaulted, (void)attrs;
	if (p->refused)
		return;
	if (++p->depth > DEPTH_MAX) {
		stop(p, "its elements are nested too deep");
		return;
	}
	if (p->leaf >= 0) {
		stop(p, "an element stands within a text");
		return;
	}
	if (p->depth == 1) {
		p->answer = named(name, "AssumeRoleResponse") || named(name, "AssumeRoleWithWebIdentityResponse") ||
		    named(name, "ErrorResponse");
		if (!p->answer)
			stop(p, "it is none of STS");
		return;
	}
	if (p->in == IN_OTHER && (named(name, "Credentials") || named(name, "Error"))) {
		p->in = named(name, "Error") ? IN_ERROR : IN_CREDENTIALS;
		p->in_depth = p->depth;
		return;
	}
	p->leaf = leaf_of(p, name);
	/* a second one would be glued to the first */
	if (p->leaf >= 0 && p->t[p->leaf].len)
		stop(p, "one of its texts stands there twice");
}

static void
on_text(void *ctx, const xmlChar *s, int n)
{
	struct parse *p = ctx;

	if (p->refused || p->leaf < 0 || n < 0)
		return;
	if (p->t[p->leaf].len + (size_t)n > text_max[p->leaf]) {
		stop(p, "one of its texts is too long");
		return;
	}
	buf_add(&p->t[p->leaf], s, (size_t)n);
}

static void
on_end(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
	struct parse *p = ctx;

	(void)name, (void)prefix, (void)uri;
	if (p->refused || !p->depth)
		return;
	p->leaf = -1;
	if (p->in != IN_OTHER && p->depth == p->in_depth)
		p->in = IN_OTHER;
	p->depth--;
}

static void
on_doctype(void *ctx, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
	(void)name, (void)external, (void)system;
	stop(ctx, "it has a DTD");
}

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

static int
parse_xml(struct parse *p, const char *body, size_t n, struct err *e)
{
	bool whole;

	p->ctxt = xmlCreatePushParserCtxt(&handlers, p, NULL, 0, NULL);
	if (!p->ctxt)
		BUG("libxml2 gives no parser");
	xmlCtxtUseOptions(p->ctxt, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (n)
		xmlParseChunk(p->ctxt, body, (int)n, 0);
	if (!p->refused)
		xmlParseChunk(p->ctxt, NULL, 0, 1);
	whole = p->ctxt->wellFormed;
	xmlFreeParserCtxt(p->ctxt);
	if (p->refused)
		return bad(e, p->refused);
	return whole ? 0 : bad(e, "it is no well-formed XML");
}

int
keys_answer_xml(const char *body, size_t n, int64_t now_ns, struct keys_answer *a, struct err *e)
{
	struct buf t[T__MAX];
	struct parse p = { .leaf = -1, .t = t };
	int rc;

	memset(a, 0, sizeof(*a));
	if (n > KEYS_BODY_MAX)
		return bad(e, "it is too long");
	texts_init(t);
	rc = parse_xml(&p, body, n, e);
	if (!rc)
		rc = t[T_CODE].len ? take_refusal(t, a, e) : take_keys(t, now_ns, a, e);
	texts_wipe(t);
	return rc;
}

/* Codes of STS: API reference, "Common errors" and those of AssumeRole and AssumeRoleWithWebIdentity. */
static const struct { const char *code; enum err_class cls; } sts_codes[] = {
	{ "AccessDenied", ERR_AUTH }, { "AccessDeniedException", ERR_AUTH }, { "ExpiredToken", ERR_AUTH },
	{ "ExpiredTokenException", ERR_AUTH }, { "IDPRejectedClaim", ERR_AUTH }, { "IDPCommunicationError", ERR_TRANSIENT },
	{ "IncompleteSignature", ERR_AUTH }, { "InternalFailure", ERR_TRANSIENT }, { "InvalidAction", ERR_PERMANENT },
	{ "InvalidClientTokenId", ERR_AUTH }, { "InvalidIdentityToken", ERR_AUTH }, { "InvalidParameterValue", ERR_PERMANENT },
	{ "MalformedPolicyDocument", ERR_PERMANENT }, { "MissingAuthenticationToken", ERR_AUTH },
	{ "MissingParameter", ERR_PERMANENT }, { "NotAuthorized", ERR_AUTH }, { "OptInRequired", ERR_AUTH },
	{ "PackedPolicyTooLarge", ERR_PERMANENT }, { "RegionDisabledException", ERR_PERMANENT }, { "RequestExpired", ERR_AUTH },
	{ "RequestLimitExceeded", ERR_TRANSIENT }, { "ServiceUnavailable", ERR_TRANSIENT }, { "SignatureDoesNotMatch", ERR_AUTH },
	{ "Throttling", ERR_TRANSIENT }, { "ThrottlingException", ERR_TRANSIENT }, { "ValidationError", ERR_PERMANENT },
	{ "ValidationException", ERR_PERMANENT },
};

enum err_class
keys_answer_class(const char *code, long status)
{
	for (size_t i = 0; i < ARRAY_LEN(sts_codes); i++)
		if (!strcmp(sts_codes[i].code, code))
			return sts_codes[i].cls;
	return s3_failure_of(code, strlen(code), status).cls;
}
