/*
 * job_secret.c - a secret set: the JSON object in a file of the credentials directory that credentials_ref names.
 *
 * Called by the master before a task is given to a worker. Its members are fields of the source's type that are secrets
 * or logins (sources.def: SECRET, LOGIN), under the names and aliases they have in a job; anything else is an error, so
 * that a misspelt one is not silently absent. No value is ever repeated in an error's text.
 */
#include <json-c/json.h>
#include <json-c/printbuf.h>
#include <stdlib.h>
#include <string.h>

#include "common/job_priv.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* json-c has no wiping of its own; the strings are ours until the tree is put. */
static void
wipe_tree(struct json_object *o)
{
	if (json_object_is_type(o, json_type_object)) {
		struct json_object_iterator it = json_object_iter_begin(o), end = json_object_iter_end(o);

		for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it))
			wipe_tree(json_object_iter_peek_value(&it));
	} else if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			wipe_tree(json_object_array_get_idx(o, i));
	} else if (json_object_is_type(o, json_type_string)) {
		explicit_bzero((void *)(uintptr_t)json_object_get_string(o), (size_t)json_object_get_string_len(o));
	}
}

static struct json_object *
parse(const char *p, size_t n, struct err *e)
{
	struct json_tokener *tok;
	struct json_object *root;

	if (json_check(p, n, JSON_DEPTH_MAX, e))
		return NULL;
	tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	if (!tok)
		BUG("json-c gave no parser");
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	/* Its scratch room: of its last size at once, so that no growing leaves a copy behind. */
	printbuf_memset(tok->pb, 0, 0, (int)n + 64);
	printbuf_reset(tok->pb);
	root = json_tokener_parse_ex(tok, p, (int)n);
	explicit_bzero(tok->pb->buf, (size_t)tok->pb->size);
	json_tokener_free(tok);
	if (!json_object_is_type(root, json_type_object)) {
		err_set(e, ERR_INVALID_JOB, "not a JSON object");
		wipe_tree(root);
		json_object_put(root);
		return NULL;
	}
	return root;
}

int
job_secret_read(const char *p, size_t n, enum source_type type, struct field_value *v, struct err *e)
{
	static const struct job_limits limits = { .reject_unknown = true, .secret_set = true };
	struct job_parser ps = { .limits = &limits, .e = e };
	struct job_fields fields = { field_rows, SF__MAX, (int)type, v, "", "" };
	bool given[SF__MAX] = { false };
	struct json_object *root = parse(p, n, e);
	int rc = root ? job_fields_read(&ps, root, &fields, given) : -1;

	for (int i = 0; !rc && i < SF__MAX; i++)
		if (given[i] && !(field_rows[i].flags & (FIELD_SECRET | FIELD_LOGIN)))
			rc = err_set(e, ERR_INVALID_JOB, "%s is neither a secret nor a login", field_rows[i].name);
	for (int i = 0; i < SF__MAX; i++) {
		if (!rc && given[i])
			continue;
		field_value_wipe(&v[i]);
		field_value_release(&v[i]);
	}
	if (root) {
		wipe_tree(root);
		json_object_put(root);
	}
	return rc;
}
