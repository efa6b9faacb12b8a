/*
 * http_index_html.c - HTML index pages: each link with the date and size text beside it.
 *
 * A tokenizer of our own, in pieces of any size: attribute values arrive as the bytes they are (a name need not be
 * UTF-8), and memory does not grow with the page, be it one of 100,000 links. It knows tags, attributes, character
 * references, comments and the elements whose content is no markup; it builds no tree. The visible text of a link is
 * never used: servers cut it.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "worker/source/http_index.h"
#include "common/banned.h"

#define WORD_MAX 24             /* of a tag's or an attribute's name */
#define TEXT_MAX 512            /* beside a link */
#define HEADING_MAX 64

enum state {
	DATA, TAG_OPEN, TAG_NAME, ATTR_NEXT, ATTR_NAME, ATTR_AFTER, VALUE_BEFORE, VALUE, MARKUP, COMMENT, BOGUS, RAW, RAW_END
};

enum place { NOWHERE, IN_TITLE, IN_HEADING };

struct html {
	struct index_parser pub;
	enum state state;
	bool closing;           /* the tag at hand is an end tag */
	char quote;             /* around the value at hand; 0 none */
	char tag[WORD_MAX + 1], attr[WORD_MAX + 1];
	size_t tag_n, attr_n;
	struct buf value;       /* of the attribute at hand, as it stands */
	unsigned matched;       /* bytes of "--" or "</script" seen */
	char raw[WORD_MAX + 1]; /* element whose content is no markup */
	enum place place;
	char heading[HEADING_MAX];
	size_t heading_n;
	/* the tag's attributes that matter, decoded */
	struct buf href, order, datetime;
	bool has_href;
	/* the link at hand */
	struct buf link;
	bool pending, in_link;
	char before[TEXT_MAX], text[TEXT_MAX];
	size_t before_n, text_n;
	char exact[32];         /* data-order of a cell: the size without rounding */
	char when[48];          /* <time datetime> */
};

static struct index_parser *
html_new(void)
{
	struct html *h = xcalloc(1, sizeof(*h));

	return &h->pub;
}

static void
html_free(struct index_parser *p)
{
	struct html *h = (struct html *)p;

	buf_release(&h->value);
	buf_release(&h->href);
	buf_release(&h->order);
	buf_release(&h->datetime);
	buf_release(&h->link);
	free(h);
}

/* ---- character references -------------------------------------------------------------------------------------------------- */

static const struct { const char *name; uint32_t cp; } entities[] = {
	{ "amp", '&' }, { "lt", '<' }, { "gt", '>' }, { "quot", '"' }, { "apos", '\'' }, { "nbsp", ' ' }, { "num", '#' },
	{ "percnt", '%' }, { "sol", '/' }, { "colon", ':' }, { "period", '.' }, { "lowbar", '_' }, { "hyphen", 0x2010 },
	{ "mdash", 0x2014 }, { "ndash", 0x2013 }, { "sol", '/' }, { "bsol", '\\' }, { "Tab", '\t' }, { "NewLine", '\n' },
	{ "equals", '=' }, { "plus", '+' }, { "quest", '?' }, { "lpar", '(' }, { "rpar", ')' }, { "lsqb", '[' }, { "rsqb", ']' },
	{ "lcub", '{' }, { "rcub", '}' }, { "ast", '*' }, { "comma", ',' }, { "semi", ';' }, { "excl", '!' }, { "dollar", '$' },
	{ "commat", '@' }, { "grave", '`' }, { "verbar", '|' }, { "auml", 0xe4 }, { "ouml", 0xf6 }, { "uuml", 0xfc },
	{ "Auml", 0xc4 }, { "Ouml", 0xd6 }, { "Uuml", 0xdc }, { "szlig", 0xdf }, { "eacute", 0xe9 }, { "egrave", 0xe8 },
	{ "agrave", 0xe0 }, { "ccedil", 0xe7 }, { "ntilde", 0xf1 }, { "copy", 0xa9 }, { "shy", 0xad },
};

static void
add_utf8(struct buf *b, uint32_t c)
{
	if (c < 0x80) {
		buf_putc(b, (char)c);
	} else if (c < 0x800) {
		buf_putc(b, (char)(0xc0 | c >> 6));
		buf_putc(b, (char)(0x80 | (c & 0x3f)));
	} else if (c < 0x10000) {
		buf_putc(b, (char)(0xe0 | c >> 12));
		buf_putc(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_putc(b, (char)(0x80 | (c & 0x3f)));
	} else {
		buf_putc(b, (char)(0xf0 | c >> 18));
		buf_putc(b, (char)(0x80 | (c >> 12 & 0x3f)));
		buf_putc(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_putc(b, (char)(0x80 | (c & 0x3f)));
	}
}

/* "#38;", "#x26;" behind the '&': bytes eaten; 0 it is none. */
static size_t
numeric(const char *p, size_t n, uint32_t *cp)
{
	bool is_hex = n > 1 && (p[1] | 32) == 'x';
	size_t i = is_hex ? 2 : 1, first = i;
	uint32_t v = 0;

	for (; i < n; i++) {
		char c = p[i] | 32;
		uint32_t d = p[i] >= '0' && p[i] <= '9' ? (uint32_t)(p[i] - '0') :
		    is_hex && c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10) : 99;

		if (d == 99)
			break;
		if (v <= 0x10ffff)
			v = v * (is_hex ? 16 : 10) + d;
	}
	if (i == first)
		return 0;
	if (!v || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		v = 0xfffd;
	*cp = v;
	return i + (i < n && p[i] == ';');
}

static size_t
named(const char *p, size_t n, uint32_t *cp)
{
	for (size_t i = 0; i < ARRAY_LEN(entities); i++) {
		size_t len = strlen(entities[i].name);

		if (len < n && p[len] == ';' && !memcmp(p, entities[i].name, len)) {
			*cp = entities[i].cp;
			return len + 1;
		}
	}
	return 0;
}

static void
decode(const char *p, size_t n, struct buf *out)
{
	buf_clear(out);
	for (size_t i = 0; i < n; i++) {
		uint32_t cp;
		size_t used = 0;

		if (p[i] == '&' && i + 1 < n)
			used = p[i + 1] == '#' ? numeric(p + i + 1, n - i - 1, &cp) : named(p + i + 1, n - i - 1, &cp);
		if (used) {
			add_utf8(out, cp);
			i += used;
		} else {
			buf_putc(out, p[i]);
		}
	}
}

/* ---- links -------------------------------------------------------------------------------------------------------------------- */

static int
flush(struct html *h, struct err *e)
{
	struct index_entry en;
	bool approximate;
	int64_t v;

	if (!h->pending)
		return 0;
	h->pending = h->in_link = false;
	index_entry_init(&en);
	en.name = h->link.p;
	en.n = h->link.len;
	en.is_ref = true;
	index_beside(h->text, h->text_n, &en);
	if (en.precision == MTIME_NONE && h->before_n)
		index_beside(h->before, h->before_n, &en);
	if (*h->when)
		index_any_date(h->when, strlen(h->when), &en.mtime_ns, &en.precision);
	if (*h->exact && index_size(h->exact, strlen(h->exact), &v, &approximate) && !approximate) {
		en.size = v;
		en.approximate = false;
	}
	h->text_n = h->before_n = 0;
	*h->exact = *h->when = '\0';
	/* <a href=""> is the page itself. */
	return en.n ? index_emit(&h->pub, &en, e) : 0;
}

/* Line ends and tabs do not belong to a reference, nor do spaces around it. */
static void
trim(struct buf *b)
{
	size_t from = 0, to = 0;

	for (size_t i = 0; i < b->len; i++)
		if (b->p[i] != '\n' && b->p[i] != '\r' && b->p[i] != '\t')
			b->p[to++] = b->p[i];
	while (to && b->p[to - 1] == ' ')
		to--;
	while (from < to && b->p[from] == ' ')
		from++;
	b->len = to;
	if (from)
		buf_consume(b, from);
}

static int
link_begins(struct html *h, struct err *e)
{
	bool again;
	int rc;

	if (!h->has_href)
		return 0;
	trim(&h->href);
	/* An icon and the name may be two links to one thing. */
	again = h->pending && h->href.len == h->link.len && (!h->href.len || !memcmp(h->href.p, h->link.p, h->link.len));
	if (!again) {
		bool had = h->pending;

		rc = flush(h, e);
		if (rc)
			return rc;
		if (!had) {
			memcpy(h->before, h->text, h->text_n);
			h->before_n = h->text_n;
		}
		buf_clear(&h->link);
		buf_add(&h->link, h->href.p, h->href.len);
		h->pending = true;
		h->text_n = 0;
	}
	h->in_link = true;
	return 0;
}

static void
add_text(struct html *h, char c)
{
	if (c == '\n' || c == '\r' || c == '\t')
		c = ' ';
	if (h->place != NOWHERE && h->heading_n < HEADING_MAX - 1 && (c != ' ' || h->heading_n))
		h->heading[h->heading_n++] = c;
	if (h->in_link)
		return;
	if (c == ' ' && (!h->text_n || h->text[h->text_n - 1] == ' '))
		return;
	if (h->text_n < TEXT_MAX)
		h->text[h->text_n++] = c;
}

/* ---- tags ------------------------------------------------------------------------------------------------------------------------ */

static bool
is(const char *tag, const char *names)
{
	size_t n = strlen(tag);

	for (const char *p = names; n && (p = strstr(p, tag)); p += n)
		if ((p == names || p[-1] == ' ') && (!p[n] || p[n] == ' '))
			return true;
	return false;
}

static void
heading_ends(struct html *h)
{
	static const char *const words[] = { "Index of", "Directory listing for", "Directory Listing", "Directory: ",
		"Directory listing", "Listing of", "listing directory", "Files of" };

	h->heading[h->heading_n] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (!strncasecmp(h->heading, words[i], strlen(words[i])))
			h->pub.heading = true;
	/* IIS: "localhost - /in/" */
	if (strstr(h->heading, " - /"))
		h->pub.heading = true;
	h->place = NOWHERE;
	h->heading_n = 0;
}

static void
keep(char *to, size_t size, const struct buf *b)
{
	size_t n = b->len < size ? b->len : 0;

	memcpy(to, n ? b->p : "", n);
	to[n] = '\0';
}

static int
base_tag(struct html *h, struct err *e)
{
	if (!h->has_href || !h->pub.sink.base)
		return 0;
	trim(&h->href);
	return h->pub.sink.base(h->pub.sink.arg, h->href.p, h->href.len, e);
}

static int
start_tag(struct html *h, struct err *e)
{
	const char *t = h->tag;

	if (!strcmp(t, "a"))
		return link_begins(h, e);
	if (!strcmp(t, "base"))
		return base_tag(h, e);
	if (is(t, "td th")) {
		add_text(h, ' ');
		if (h->pending && h->order.len && !*h->exact && !h->in_link)
			keep(h->exact, sizeof(h->exact), &h->order);
	} else if (!strcmp(t, "time")) {
		trim(&h->datetime);
		if (h->pending && h->datetime.len)
			keep(h->when, sizeof(h->when), &h->datetime);
	} else if (is(t, "title h1")) {
		h->place = *t == 't' ? IN_TITLE : IN_HEADING;
		h->heading_n = 0;
	} else if (is(t, "br tr li hr pre ul ol table p div body")) {
		int rc = flush(h, e);

		h->text_n = 0;
		return rc;
	}
	if (is(t, "script style textarea title xmp iframe noframes"))
		memcpy(h->raw, t, strlen(t) + 1);
	return 0;
}

static int
end_tag(struct html *h, struct err *e)
{
	const char *t = h->tag;

	if (!strcmp(t, "a")) {
		h->in_link = false;
	} else if (is(t, "title h1")) {
		heading_ends(h);
	} else if (is(t, "tr li pre ul ol table body html")) {
		int rc = flush(h, e);

		h->text_n = 0;
		if (!strcmp(t, "html"))
			h->pub.ended = true;
		return rc;
	} else if (is(t, "td th")) {
		add_text(h, ' ');
	}
	return 0;
}

static int
tag_ends(struct html *h, struct err *e)
{
	int rc;

	h->tag[h->tag_n] = '\0';
	rc = h->closing ? end_tag(h, e) : start_tag(h, e);
	h->state = *h->raw ? RAW : DATA;
	h->matched = 0;
	return rc;
}

static void
tag_begins(struct html *h)
{
	h->tag_n = 0;
	h->has_href = false;
	buf_clear(&h->href);
	buf_clear(&h->order);
	buf_clear(&h->datetime);
}

static bool
wanted(const struct html *h)
{
	return is(h->attr, "href data-order datetime");
}

/* The first of two attributes with one name counts. */
static void
attr_ends(struct html *h)
{
	h->attr[h->attr_n] = '\0';
	if (!strcmp(h->attr, "href") && !h->has_href) {
		h->has_href = true;
		decode(h->value.p, h->value.len, &h->href);
	} else if (!strcmp(h->attr, "data-order")) {
		decode(h->value.p, h->value.len, &h->order);
	} else if (!strcmp(h->attr, "datetime")) {
		decode(h->value.p, h->value.len, &h->datetime);
	}
	buf_clear(&h->value);
	h->attr_n = 0;
}

static char
lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static void
word_char(char *word, size_t *n, char c)
{
	/* What is longer, or holds a NUL, is none that matters: it must not become one by being cut. */
	if (*n < WORD_MAX && c) {
		word[(*n)++] = lower(c);
	} else {
		word[0] = '!';
		*n += !*n;
	}
}

static bool
blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* ---- states ------------------------------------------------------------------------------------------------------------------------- */

static int
tag_open(struct html *h, char c)
{
	if (c == '/' && !h->closing) {
		h->closing = true;
	} else if ((lower(c) >= 'a' && lower(c) <= 'z')) {
		tag_begins(h);
		word_char(h->tag, &h->tag_n, c);
		h->state = TAG_NAME;
	} else if (c == '!' && !h->closing) {
		h->state = MARKUP;
		h->matched = 0;
	} else if (c == '?' || h->closing) {
		h->state = c == '>' ? DATA : BOGUS;
	} else {
		h->state = DATA;
		add_text(h, '<');
		return 1;
	}
	return 0;
}

/* Between attributes, and behind a name: '=' makes a value follow. */
static int
attr_step(struct html *h, char c, struct err *e)
{
	if (h->state == ATTR_AFTER && c == '=') {
		h->state = VALUE_BEFORE;
		return 0;
	}
	if (blank(c) || (c == '/' && h->state != VALUE_BEFORE))
		return 0;
	if (c == '>') {
		if (h->attr_n)
			attr_ends(h);
		return tag_ends(h, e);
	}
	if (h->attr_n)
		attr_ends(h);
	word_char(h->attr, &h->attr_n, c);
	h->state = ATTR_NAME;
	return 0;
}

static int
attr_name(struct html *h, char c, struct err *e)
{
	if (c == '=')
		h->state = VALUE_BEFORE;
	else if (blank(c) || c == '/')
		h->state = ATTR_AFTER;
	else if (c == '>')
		return attr_step(h, c, e);
	else
		word_char(h->attr, &h->attr_n, c);
	h->attr[h->attr_n] = '\0';
	return 0;
}

static int
value_add(struct html *h, const char *p, size_t n, struct err *e)
{
	if (!wanted(h))
		return 0;
	if (n > INDEX_NAME_MAX - h->value.len)
		return err_set(e, ERR_PROTOCOL, "the page holds a link of more than %d bytes", INDEX_NAME_MAX);
	buf_add(&h->value, p, n);
	return 0;
}

static int
value_before(struct html *h, char c, struct err *e)
{
	if (blank(c))
		return 0;
	if (c == '>')
		return attr_step(h, c, e);
	h->state = VALUE;
	h->quote = c == '"' || c == '\'' ? c : 0;
	return h->quote ? 0 : value_add(h, &c, 1, e);
}

static int
value(struct html *h, char c, struct err *e)
{
	if (h->quote ? c == h->quote : blank(c)) {
		attr_ends(h);
		h->state = ATTR_NEXT;
		return 0;
	}
	if (!h->quote && c == '>') {
		attr_ends(h);
		return tag_ends(h, e);
	}
	return value_add(h, &c, 1, e);
}

/* Behind "<!": "--" makes a comment, anything else ends at the next '>'. */
static void
markup(struct html *h, char c)
{
	if (c == '-' && ++h->matched == 2) {
		h->state = COMMENT;
		h->matched = 2; /* "<!-->" is whole */
	} else if (c == '>') {
		h->state = DATA;
	} else if (c != '-') {
		h->state = BOGUS;
	}
}

static void
comment(struct html *h, char c)
{
	if (c == '>' && h->matched >= 2)
		h->state = DATA;
	else if (c == '-')
		h->matched += h->matched < 2;
	else if (c != '!' || h->matched < 2)
		h->matched = 0;
}

/* Content that is no markup: only its own end tag ends it. */
static int
raw_step(struct html *h, char c, struct err *e)
{
	size_t n = strlen(h->raw);

	if (h->state == RAW) {
		if (c == '<') {
			h->state = RAW_END;
			h->matched = 0;
		} else if (h->place != NOWHERE) {
			add_text(h, c);
		}
		return 0;
	}
	if (!h->matched ? c == '/' : h->matched <= n && lower(c) == h->raw[h->matched - 1]) {
		h->matched++;
		return 0;
	}
	if (h->matched == n + 1 && (c == '>' || c == '/' || blank(c))) {
		memcpy(h->tag, h->raw, n);
		tag_begins(h);
		h->tag_n = n;
		h->closing = true;
		*h->raw = '\0';
		h->state = ATTR_NEXT;
		return c == '>' ? tag_ends(h, e) : 0;
	}
	h->state = RAW;
	return c == '<' ? raw_step(h, c, e) : 0;
}

static int
step(struct html *h, char c, struct err *e)
{
	switch (h->state) {
	case DATA:
		if (c == '<') {
			h->state = TAG_OPEN;
			h->closing = false;
		} else {
			add_text(h, c);
		}
		return 0;
	case TAG_OPEN:
		/* "a < b": the character is text after all */
		return tag_open(h, c) ? step(h, c, e) : 0;
	case TAG_NAME:
		if (c == '>')
			return tag_ends(h, e);
		if (blank(c) || c == '/') {
			h->state = ATTR_NEXT;
			h->attr_n = 0;
		} else {
			word_char(h->tag, &h->tag_n, c);
		}
		return 0;
	case ATTR_NEXT:
	case ATTR_AFTER:
		return attr_step(h, c, e);
	case ATTR_NAME:
		return attr_name(h, c, e);
	case VALUE_BEFORE:
		return value_before(h, c, e);
	case VALUE:
		return value(h, c, e);
	case MARKUP:
		markup(h, c);
		return 0;
	case COMMENT:
		comment(h, c);
		return 0;
	case BOGUS:
		if (c == '>')
			h->state = DATA;
		return 0;
	default:
		return raw_step(h, c, e);
	}
}

/* What comes before the '<' behind a text, or before the quote behind a value, at once. */
static int
plain(struct html *h, const char *p, size_t n, size_t *run, struct err *e)
{
	char until = h->state == DATA ? '<' : h->state == VALUE ? h->quote : '\0';
	const char *end = until ? memchr(p, until, n) : p;

	*run = end ? (size_t)(end - p) : n;
	if (h->state == VALUE)
		return *run ? value_add(h, p, *run, e) : 0;
	for (size_t i = 0; i < *run && (h->place != NOWHERE || !h->in_link); i++)
		add_text(h, p[i]);
	return 0;
}

static int
html_feed(struct index_parser *p, const char *s, size_t n, struct err *e)
{
	struct html *h = (struct html *)p;

	for (size_t i = 0; i < n; i++) {
		size_t run;
		int rc = plain(h, s + i, n - i, &run, e);

		i += run;
		if (!rc && i < n)
			rc = step(h, s[i], e);
		if (rc)
			return rc;
	}
	return 0;
}

static int
html_finish(struct index_parser *p, bool framed, struct err *e)
{
	struct html *h = (struct html *)p;

	if (!framed && !p->ended)
		return err_set(e, ERR_TRUNCATED, "the page ends without </html>, and nothing else tells where it should");
	if (h->state != DATA)
		return err_set(e, ERR_TRUNCATED, "the page ends inside a tag");
	return flush(h, e);
}

const struct index_format index_html = {
	.name = "html",
	.new = html_new,
	.feed = html_feed,
	.finish = html_finish,
	.free = html_free,
};
