/*
 * profile.c - one section of a shared credentials file of the AWS tools (~/.aws/credentials): key, secret, token.
 *
 * secret.c calls it with the file's content, which is the operator's and still judged line by line: what is not a section,
 * a comment or "name = value" is an error with its line, and never with its text. The form is that of "Configuration and
 * credential file settings" in the AWS CLI's guide; a section may begin with "profile ", as in the config file.
 */
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "master/secret.h"
#include "common/banned.h"

static const char *
skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

static const char *
drop_blanks(const char *p, const char *end)
{
	while (end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	return end;
}

static bool
is(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(end - p) == n && !memcmp(p, word, n);
}

/* "[name]" or "[profile name]" */
static bool
is_section(const char *p, const char *end, const char *name)
{
	const char *in = skip_blanks(p + 1, end - 1), *in_end = drop_blanks(in, end - 1);

	if (in_end - in > 8 && !memcmp(in, "profile ", 8))
		in = skip_blanks(in + 8, in_end);
	return is(in, in_end, name);
}

static void
set(char **to, const char *p, const char *end)
{
	if (*to) {
		explicit_bzero(*to, strlen(*to));
		free(*to);
	}
	*to = xmemdup0(p, (size_t)(end - p));
}

/* "name = value" of the section; other names are of no concern here. */
static int
take(const char *p, const char *end, struct profile *out)
{
	const char *equals = memchr(p, '=', (size_t)(end - p)), *name_end, *value;

	if (!equals)
		return -1;
	name_end = drop_blanks(p, equals);
	value = skip_blanks(equals + 1, end);
	if (memchr(value, '\0', (size_t)(end - value)))
		return -1;
	if (is(p, name_end, "aws_access_key_id"))
		set(&out->access_key_id, value, end);
	else if (is(p, name_end, "aws_secret_access_key"))
		set(&out->secret_access_key, value, end);
	else if (is(p, name_end, "aws_session_token") || is(p, name_end, "aws_security_token"))
		set(&out->session_token, value, end);
	return 0;
}

int
profile_read(const char *text, size_t n, const char *name, struct profile *out, struct err *e)
{
	const char *p = text, *end = text + n;
	bool found = false, inside = false;

	memset(out, 0, sizeof(*out));
	for (int line = 1; p < end; line++) {
		const char *eol = memchr(p, '\n', (size_t)(end - p)), *next = eol ? eol + 1 : end;
		const char *at = skip_blanks(p, eol ? eol : end), *stop = drop_blanks(at, eol ? eol : end);

		if (at == stop || *at == '#' || *at == ';') {
			p = next;
			continue;
		}
		if (*at == '[') {
			if (stop - at < 2 || stop[-1] != ']')
				return err_set(e, ERR_AUTH, "line %d: a section without its ']'", line);
			inside = is_section(at, stop, name);
			found |= inside;
		} else if (inside ? take(at, stop, out) : !memchr(at, '=', (size_t)(stop - at))) {
			return err_set(e, ERR_AUTH, "line %d: neither a section nor name = value", line);
		}
		p = next;
	}
	if (!found)
		return err_set(e, ERR_AUTH, "there is no section [%s]", name);
	if (!out->access_key_id || !out->secret_access_key)
		return err_set(e, ERR_AUTH, "the section [%s] lacks aws_access_key_id or aws_secret_access_key", name);
	return 0;
}

void
profile_wipe(struct profile *p)
{
	char **all[] = { &p->access_key_id, &p->secret_access_key, &p->session_token };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (*all[i])
			explicit_bzero(*all[i], strlen(*all[i]));
		free(*all[i]);
		*all[i] = NULL;
	}
}
