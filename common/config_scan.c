/*
 * config_scan.c - a settings file's bytes before YAML: what is no text is told with its place, tabs
 * that indent become spaces.
 *
 * Called by config_yaml.c alone. libyaml stops at the first such byte and places it badly; here the
 * rest of the file is still read, and all of it is told.
 */
#include <stdio.h>
#include <string.h>

#include "common/config_priv.h"
#include "common/escape.h"
#include "common/banned.h"

struct scan {
	struct config_reader *r;
	const struct config_text *t;
	struct buf *clean;
	bool tabs;                 /* some line is indented with one */
	const unsigned char *p, *end;
	int line, column;
	bool told;                 /* one error a line is enough */
};

static size_t
char_len(const unsigned char *p, const unsigned char *end)
{
	size_t n = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : *p >= 0xc2 ? 2 : 0;

	if (!n || n > (size_t)(end - p) || !utf8_valid(p, n))
		return 0;
	return n;
}

static unsigned
code_point(const unsigned char *p, size_t n)
{
	unsigned v = n == 1 ? *p : n == 2 ? *p & 0x1fu : n == 3 ? *p & 0x0fu : *p & 0x07u;

	for (size_t i = 1; i < n; i++)
		v = v << 6 | (p[i] & 0x3fu);
	return v;
}

/* Not text, or a line break that editors and libyaml count differently. */
static bool
char_refused(unsigned v)
{
	return (v < 0x20 && v != '\t' && v != '\n') || (v >= 0x7f && v < 0xa0) || v == 0x2028 ||
	    v == 0x2029 || v == 0xfeff || v == 0xfffe || v == 0xffff;
}

static void
scan_tell(struct scan *s, const char *text)
{
	if (!s->told)
		config_error(s->r, s->t->name, s->line, s->column, "%s", text);
	s->told = true;
}

/* Tabs at the start of a line; harmless where only a comment or nothing follows. */
static void
scan_indent(struct scan *s)
{
	const unsigned char *p = s->p, *first = NULL;

	while (p < s->end && (*p == ' ' || *p == '\t')) {
		if (*p == '\t' && !first)
			first = p;
		p++;
	}
	if (first && p < s->end && !strchr("\r\n#", *p)) {
		s->column = 1 + (int)(first - s->p);
		scan_tell(s, "a tab indents this line; YAML wants spaces");
		s->tabs = true;
	}
	s->column = 1 + (int)(p - s->p);
	for (; s->p < p; s->p++)
		for (int i = 0; i < (*s->p == '\t' ? CONFIG_TAB_WIDTH : 1); i++)
			buf_putc(s->clean, ' ');
}

static void
scan_char(struct scan *s)
{
	size_t n = char_len(s->p, s->end);
	char text[64];
	unsigned v;

	if (!n) {
		snprintf(text, sizeof(text), "byte 0x%02X is not valid UTF-8", *s->p);
		scan_tell(s, text);
		buf_putc(s->clean, '?');
		s->p++;
		s->column++;
		return;
	}
	v = code_point(s->p, n);
	if (v == '\r' && s->p + 1 < s->end && s->p[1] == '\n') {
		buf_putc(s->clean, ' ');
	} else if (char_refused(v)) {
		snprintf(text, sizeof(text), "control or invisible character U+%04X", v);
		scan_tell(s, text);
		buf_putc(s->clean, '?');
	} else {
		buf_add(s->clean, s->p, n);
	}
	s->p += n;
	s->column++;
	if (v == '\n') {
		s->line++;
		s->column = 1;
		s->told = false;
		scan_indent(s);
	}
}

/* false: not to be read further */
static bool
scan_mark(struct scan *s)
{
	const unsigned char *p = s->p;
	size_t n = s->t->len;

	if (n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3)) {
		config_error(s->r, s->t->name, 1, 1,
		    "the file begins with a byte order mark; save it as UTF-8 without BOM");
		s->p += 3;
	} else if (n >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff))) {
		config_error(s->r, s->t->name, 1, 1, "the file is UTF-16; save it as UTF-8");
		return false;
	}
	return true;
}

bool
config_scan(struct config_reader *r, const struct config_text *t, const char **text,
    struct buf *clean, bool *tabs)
{
	struct scan s = { .r = r, .t = t, .clean = clean, .line = 1, .column = 1,
		.p = (const unsigned char *)t->text, .end = (const unsigned char *)t->text + t->len };

	if (!scan_mark(&s))
		return false;
	*text = (const char *)s.p;
	scan_indent(&s);
	while (s.p < s.end)
		scan_char(&s);
	*tabs = s.tabs;
	return true;
}
