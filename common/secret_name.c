/*
 * secret_name.c - names of secrets, in one place: what job_mask.c masks, and what http_query.c leaves out of addresses.
 */
#include <ctype.h>
#include <string.h>

#include "common/secret_name.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NAME_KEPT 64 /* of a name, from its end: longer than any word below */

/* Small letters only, '_', '-', '.' and spaces left out; a name that ends so is a secret's. */
static const char *const endings[] = {
	"password", "passwd", "passphrase", "passcode", "secret", "secretkey", "secretaccesskey",
	"secretstring", "token", "apikey", "apikeys", "privatekey", "privatekeypem", "keypem",
	"keydata", "accountkey", "sharedkey", "encryptionkey", "customerkey", "authorization",
	"authheader", "credentials", "credential", "cookie", "cookies", "signature",
	"connectionstring", "saskey", "bearer", "jwt",
};
static const char *const whole[] = { "pass", "pwd", "pw", "auth", "sig", "key", "secrets",
	"passwords", "tokens" };

static bool
ends_with(const char *s, size_t n, const char *end)
{
	size_t len = strlen(end);

	return n >= len && !memcmp(s + n - len, end, len);
}

bool
secret_name(const char *name, size_t n)
{
	char plain[NAME_KEPT];
	size_t len = 0, skipped = n > 2 * NAME_KEPT ? n - 2 * NAME_KEPT : 0;

	for (size_t i = skipped; i < n; i++) {
		if (strchr("_-. ", name[i]))
			continue;
		if (len == sizeof(plain)) {
			memmove(plain, plain + 1, --len);
			skipped = 1;
		}
		plain[len++] = (char)tolower((unsigned char)name[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(endings); i++)
		if (ends_with(plain, len, endings[i]))
			return true;
	for (size_t i = 0; i < ARRAY_LEN(whole) && !skipped; i++)
		if (len == strlen(whole[i]) && !memcmp(plain, whole[i], len))
			return true;
	return false;
}
