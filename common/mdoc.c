/*
 * mdoc.c - manual text from the lists; see mdoc.h.
 */
#include <string.h>

#include "common/mdoc.h"
#include "common/banned.h"

#define MDOC_WIDTH 78

void
mdoc_text(struct buf *b, const char *s)
{
	size_t column = 0;

	while (*s) {
		size_t n = strcspn(s, " ");

		if (column && column + 1 + n > MDOC_WIDTH) {
			buf_putc(b, '\n');
			column = 0;
		}
		if (column)
			buf_putc(b, ' ');
		else if (*s == '.' || *s == '\'')
			buf_puts(b, "\\&");
		for (size_t i = 0; i < n; i++)
			if (s[i] == '\\')
				buf_puts(b, "\\e");
			else
				buf_putc(b, s[i]);
		column += n + 1;
		s += n;
		if (*s && s[-1] == '.') {
			buf_putc(b, '\n');
			column = 0;
		}
		s += strspn(s, " ");
	}
	buf_putc(b, '\n');
}

void
mdoc_words(struct buf *b, const char *words)
{
	const char *p = words;

	buf_puts(b, "One of\n");
	while (*p) {
		size_t n = strcspn(p, "|");

		buf_printf(b, ".Cm %.*s%s\n", (int)n, p, p[n] ? " ," : " .");
		p += n + (p[n] == '|');
	}
}
