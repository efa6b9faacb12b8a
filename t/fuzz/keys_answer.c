/*
 * keys_answer.c - fuzz target of what metadata services and STS answer. The input goes through both parsers. What must hold: no
 * crash; an answer is credentials that pass every check, or a refusal with a code that is fit to show, or an error that says why
 * and repeats nothing of the input; the same input says the same again; what is taken comes through a frame unchanged.
 */
#include <stdint.h>
#include <string.h>

#include "worker/keys_answer.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define NOW INT64_C(1893456000000000000)        /* 2030-01-01, the time of the seeds */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

typedef int reader(const char *p, size_t n, int64_t now, struct keys_answer *, struct err *);

static void
through_a_frame(const struct keys *k)
{
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct keys again;

	keys_encode(k, &b);
	if (keys_decode(&again, b.p, b.len, NOW, &e) || strcmp(again.access_key_id, k->access_key_id) ||
	    strcmp(again.secret_access_key, k->secret_access_key) || strcmp(again.session_token, k->session_token) || again.expires_ns != k->expires_ns)
		BUG("credentials that no frame carries");
	keys_wipe(&again);
	buf_release(&b);
}

static void
check(const struct keys_answer *a, int rc, const struct err *e)
{
	bool keys = a->keys.secret_access_key, code = *a->code;

	if ((rc == 0) != (e->cls == ERR_OK) || (rc && (keys || e->cls != ERR_PROTOCOL)) || (!rc && keys == code))
		BUG("an answer that is neither or both");
	if (keys && keys_fault(&a->keys, NOW))
		BUG("credentials that are none");
	if (keys)
		through_a_frame(&a->keys);
	for (const char *p = a->code; *p; p++)
		if (*p < 0x21 || *p > 0x7e)
			BUG("a code that is not fit to show");
}

static void
twice(reader *read, const char *p, size_t n)
{
	struct keys_answer a, b;
	struct err e = ERR_INIT, f = ERR_INIT;
	int rc = read(p, n, NOW, &a, &e);

	check(&a, rc, &e);
	if (read(p, n, NOW, &b, &f) != rc || strcmp(a.code, b.code) || strcmp(a.message, b.message) || strcmp(e.text, f.text) ||
	    !a.keys.session_token != !b.keys.session_token)
		BUG("two answers for one body");
	keys_answer_wipe(&a);
	keys_answer_wipe(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	twice(keys_answer_json, (const char *)data, n);
	twice(keys_answer_xml, (const char *)data, n);
	return 0;
}
