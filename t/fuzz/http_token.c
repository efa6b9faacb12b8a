/*
 * http_token.c - fuzz target of the answers of token endpoints (OAuth 2), as they come with each kind of status. What must
 * hold: no crash, a token that a header can carry or an error with its reason, never both, never a secret's length too much.
 */
#include <stdint.h>
#include <string.h>

#include "common/xalloc.h"
#include "worker/source/http_token.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const unsigned statuses[] = { 200, 400, 401, 302, 503, 0 };

	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		struct buf token = BUF_INIT;
		struct err e = ERR_INIT;
		int64_t seconds = -1;
		int rc = http_token_read((const char *)data, n, statuses[i], &token, &seconds, &e);

		if (rc ? !*e.text || !e.cls || token.len : !token.len || token.len > HTTP_TOKEN_MAX)
			BUG("neither a token nor a reason, or both");
		if (seconds < 0 || seconds > HTTP_TOKEN_SECONDS_MAX || (rc && seconds))
			BUG("a time that is none");
		for (size_t k = 0; k < token.len; k++)
			if (token.p[k] <= ' ' || token.p[k] > '~')
				BUG("a token that no header can carry");
		buf_wipe(&token);
	}
	return 0;
}
