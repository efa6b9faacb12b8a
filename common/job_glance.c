/*
 * job_glance.c - whose job a message is, by a glance at it.
 *
 * Called by the master for each message before it is its turn to be checked, so it costs next to nothing: no copy, no
 * number and no escape is looked into. What it says decides an order and nothing else; the check of job.c decides the rest.
 */
#include <string.h>

#include "common/job.h"
#include "common/banned.h"

#define GLANCE_MAX 65536                /* bytes; a tenant that is named behind them is not seen */
#define NAME "org_id"

/* The place behind the string whose opening quote is at i; n: it has no end. */
static size_t
string_end(const char *p, size_t n, size_t i)
{
	for (i++; i < n && p[i] != '"'; i++)
		if (p[i] == '\\')
			i++;
	return i < n ? i + 1 : n;
}

const char *
job_glance_tenant(const char *p, size_t n, size_t *len)
{
	size_t depth = 0, end;
	bool name_next = false, ours = false;

	if (n > GLANCE_MAX)
		n = GLANCE_MAX;
	for (size_t i = 0; i < n; i++) {
		switch (p[i]) {
		case '"':
			end = string_end(p, n, i);
			*len = end - i > 2 ? end - i - 2 : 0;
			if (depth == 1 && ours && end < n)
				return memchr(p + i, '\\', *len + 1) ? NULL : p + i + 1;
			if (depth == 1 && name_next)
				ours = *len == sizeof(NAME) - 1 && !memcmp(p + i + 1, NAME, *len);
			name_next = false;
			i = end - 1;
			break;
		case '{':
		case '[':
			if (!depth && p[i] == '[')
				return NULL;
			name_next = !depth;
			ours = false;
			depth++;
			break;
		case '}':
		case ']':
			if (depth <= 1)
				return NULL;
			depth--;
			break;
		case ',':
			if (depth == 1) {
				name_next = true;
				ours = false;
			}
			break;
		default:
			break;
		}
	}
	return NULL;
}
