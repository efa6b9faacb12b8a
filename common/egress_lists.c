/*
 * egress_lists.c - the lists of the address policy as text: ports, schemes, and their way through frames.
 *
 * Called by the settings, which refuse what means nothing, and by SETUP and JOB, which carry the lists to workers. What
 * the lists allow is egress.c's to say. It never fails but by its return value or by marking a cursor bad.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/egress.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define TEXT_BYTES 64           /* of one entry */

const char *const egress_scheme_names[EGRESS__MAX] = {
	[EGRESS_HTTP] = "http", [EGRESS_HTTPS] = "https", [EGRESS_FTP] = "ftp", [EGRESS_FTPS] = "ftps", [EGRESS_SFTP] = "sftp",
};

int
egress_scheme_by_name(const char *s, size_t n)
{
	for (int i = 0; i < EGRESS__MAX; i++)
		if (strlen(egress_scheme_names[i]) == n && !memcmp(egress_scheme_names[i], s, n))
			return i;
	return -1;
}

/* Digits alone: units_int also takes signs. */
static bool
port_of(const char *s, size_t n, uint16_t *port)
{
	char text[8];
	int64_t v;

	if (!n || n >= sizeof(text) || strspn(s, "0123456789") < n)
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	if (units_int(text, &v) || v < 1 || v > 65535)
		return false;
	*port = (uint16_t)v;
	return true;
}

int
egress_span_parse(const char *s, struct egress_span *span, struct err *e)
{
	const char *dash = strchr(s, '-');
	size_t n = dash ? (size_t)(dash - s) : strlen(s);

	memset(span, 0, sizeof(*span));
	if (!port_of(s, n, &span->from) || (dash && !port_of(dash + 1, strlen(dash + 1), &span->to)))
		return err_set(e, ERR_CONFIG, "%.40s: not a port, as 443 is, nor a range of them, as 8000-8999 is", s);
	if (!dash)
		span->to = span->from;
	if (span->to < span->from)
		return err_set(e, ERR_CONFIG, "%.40s: the range ends before it begins", s);
	return 0;
}

/* Each list once, in the order of the frame. */
#define EACH(l) { &(l)->allow, &(l)->deny, &(l)->only, &(l)->ports, &(l)->schemes }
#define LISTS 5

void
egress_lists_release(struct egress_lists *l)
{
	struct strlist *const each[LISTS] = EACH(l);

	for (int i = 0; i < LISTS; i++)
		strlist_release(each[i]);
}

void
egress_lists_copy(struct egress_lists *to, const struct egress_lists *from)
{
	struct strlist *const out[LISTS] = EACH(to);
	const struct strlist *const in[LISTS] = EACH(from);

	memset(to, 0, sizeof(*to));
	for (int i = 0; i < LISTS; i++)
		for (size_t k = 0; k < in[i]->n; k++)
			strlist_add(out[i], in[i]->v[k]);
}

void
egress_lists_encode(const struct egress_lists *l, struct buf *b)
{
	const struct strlist *const each[LISTS] = EACH(l);

	for (int i = 0; i < LISTS; i++) {
		buf_u16(b, (uint16_t)each[i]->n);
		for (size_t k = 0; k < each[i]->n; k++)
			buf_cstr(b, each[i]->v[k]);
	}
}

void
egress_lists_decode(struct egress_lists *l, struct cursor *c)
{
	struct strlist *const each[LISTS] = EACH(l);

	memset(l, 0, sizeof(*l));
	for (int i = 0; i < LISTS; i++) {
		size_t n = cursor_u16(c);

		if (n > FILTER_LIST_MAX)
			cursor_fail(c);
		for (size_t k = 0; k < n && !c->bad; k++) {
			char *s = cursor_strdup(c, TEXT_BYTES);

			if (s)
				strlist_add(each[i], s);
			free(s);
		}
	}
}
