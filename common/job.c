/*
 * job.c - the way from a message's bytes to a struct job.
 *
 * Called by the master for each message of the polling queue and by the admin tool before it sends
 * one. Strict scanner, then json-c, then the fields by their lists. Asks no file system, no clock
 * and no setting but those in job_limits. On failure it names class, reason, JSON pointer and byte,
 * and frees all it made.
 */
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/job_priv.h"
#include "common/json.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* ---- refusals and warnings ---- */

/* fmt NULL: class aside, keep text and pointer that are there, the pointer being below the named
 * place. */
/* A row's own name may be that of a member of an object: "tls.verify" is /tls/verify. */
static void
add_name(char *pointer, const char *name)
{
	const char *dot = strchr(name, '.');

	for (size_t i = 0; dot && i < SF__MAX + FF__MAX; i++) {
		if (strcmp(i < SF__MAX ? field_rows[i].name : filter_rows[i - SF__MAX].name, name))
			continue;
		json_pointer_add(pointer, name, (size_t)(dot - name));
		name = dot + 1;
		break;
	}
	json_pointer_add(pointer, name, strlen(name));
}

int
job_refuse(struct job_parser *ps, enum err_class cls, const char *base, const char *name,
    const char *fmt, ...)
{
	char text[ERR_TEXT_MAX], pointer[ERR_POINTER_MAX], *below = ps->e->pointer;
	va_list ap;

	if (fmt) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		err_set(ps->e, cls, "%s", text);
	}
	snprintf(pointer, sizeof(pointer), "%s", base);
	if (name)
		add_name(pointer, name);
	if (*below == '/')
		json_pointer_add(pointer, below + 1, strlen(below + 1));
	ps->e->cls = cls;
	ps->e->pos = -1;
	memcpy(ps->e->pointer, pointer, sizeof(pointer));
	return -1;
}

void
job_warn(struct job_parser *ps, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	/* The last place is kept for how many more there were. */
	if (ps->job->warnings.n >= JOB_WARNINGS_MAX - 1) {
		ps->unlisted++;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	strlist_add(&ps->job->warnings, text);
}

/* ---- names ---- */

static bool
is_blank(uint32_t cp)
{
	return cp == ' ' || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200d) ||
	    cp == 0x202f || cp == 0x205f || cp == 0x2060 || cp == 0x3000 || cp == 0xfeff;
}

static bool
is_control(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || cp == 0x061c || cp == 0x200e ||
	    cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

const char *
job_name_fault(const char *s)
{
	size_t n = strlen(s);
	bool visible = false;

	while (n) {
		uint32_t cp = 0;
		int k = utf8_step(s, n, &cp);

		if (k < 0)
			return "is not UTF-8";
		if (is_control(cp))
			return "holds a control character";
		visible |= !is_blank(cp);
		s += k;
		n -= (size_t)k;
	}
	return visible ? NULL : "holds no visible character";
}

/* ---- members by their rows ---- */

/* Fields are now and then put one level too high or too low. */
static const char *
other_place(const struct job_fields *f, const char *name)
{
	if (f->rows != job_rows && field_find(job_rows, JF__MAX, SOURCE_COMMON, name) >= 0)
		return "it belongs to the job itself";
	if (f->rows != filter_rows && field_find(filter_rows, FF__MAX, SOURCE_COMMON, name) >= 0)
		return "it belongs into filters";
	for (int i = 0; i < SF__MAX; i++)
		if (!strcmp(field_rows[i].name, name))
			return f->rows == field_rows ? "it belongs to another source type"
						     : "it belongs into source_config";
	return NULL;
}

static int
unknown_member(struct job_parser *ps, const struct job_fields *f, const char *name)
{
	const char *hint = other_place(f, name);
	char pointer[ERR_POINTER_MAX];

	if (ps->limits->secret_set)
		/* Its name is not told: it may be a secret in a wrong place. */
		return job_refuse(ps, ERR_INVALID_JOB, f->base, NULL, "it has a member that is no field of this source type; iis-pollerctl sources shows those that are");
	if (ps->limits->reject_unknown)
		return job_refuse(ps, ERR_INVALID_JOB, f->base, name,
		    "unknown field, and jobs.unknown_fields is reject%s%s", hint ? "; " : "",
		    hint ? hint : "");
	snprintf(pointer, sizeof(pointer), "%s", f->base);
	json_pointer_add(pointer, name, strlen(name));
	job_warn(ps, "unknown field %s%s%s", pointer, hint ? "; " : "", hint ? hint : "");
	return 0;
}

/* LATER fields may say what is done anyway; FAULT fields need their setting. */
static int
check_allowed(struct job_parser *ps, const struct job_fields *f, const struct field_row *r,
    const char *name, const struct field_value *v)
{
	if (r->flags & FIELD_FAULT && !ps->limits->allow_faults)
		return job_refuse(
		    ps, ERR_POLICY, f->base, name, "%s needs dummy.allow_faults", r->name);
	if (r->flags & FIELD_LATER) {
		struct field_value def = { 0 };
		bool same = field_default(r, &def) && field_value_same(r->kind, &def, v);

		field_value_release(&def);
		if (!same)
			return job_refuse(ps, ERR_UNSUPPORTED, f->base, name,
			    "%s is not served by this version", r->name);
	}
	return 0;
}

/* The row of this member; "tls.verify" is the member verify of the object tls, and no name of its own. */
static int
member_row(const struct job_fields *f, const char *name)
{
	char full[128];
	int id;

	if ((size_t)snprintf(full, sizeof(full), "%s%s", f->prefix, name) >= sizeof(full))
		return -1;
	id = field_find(f->rows, f->n, f->source, full);
	return id >= 0 && !*f->prefix && strchr(f->rows[id].name, '.') && !strcmp(f->rows[id].name, name) ? -1 : id;
}

/* Is name an object whose members are fields: "tls" of "tls.verify"? */
static bool
is_group(const struct job_fields *f, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; !*f->prefix && i < f->n; i++)
		if (field_applies(&f->rows[i], f->source) && !strncmp(f->rows[i].name, name, n) && f->rows[i].name[n] == '.')
			return true;
	return false;
}

static int read_members(struct job_parser *, struct json_object *, const struct job_fields *, bool *given);

static int
read_group(struct job_parser *ps, const struct job_fields *f, const char *name, struct json_object *o, bool *given)
{
	struct job_fields inner = *f;
	char base[ERR_POINTER_MAX], prefix[64];

	if (!json_object_is_type(o, json_type_object))
		return job_refuse(ps, ERR_INVALID_JOB, f->base, name, "%s must be an object", name);
	snprintf(base, sizeof(base), "%s/%s", f->base, name);
	snprintf(prefix, sizeof(prefix), "%s.", name);
	inner.base = base;
	inner.prefix = prefix;
	return read_members(ps, o, &inner, given);
}

static int
read_member(struct job_parser *ps, const struct job_fields *f, const char *name,
    struct json_object *o, bool *given)
{
	int id = member_row(f, name);
	const struct field_row *r = &f->rows[id < 0 ? 0 : id];
	struct field_value v = { 0 };
	int rc;

	if (id < 0)
		return is_group(f, name) ? read_group(ps, f, name, o, given) : unknown_member(ps, f, name);
	err_clear(ps->e);
	rc = field_from_json(r, o, &v, ps->e);
	/* What cannot be served is said first: the sender need not get its value right before. */
	if (rc && r->flags & (FIELD_LATER | FIELD_FAULT) &&
	    !(r->flags & FIELD_FAULT && ps->limits->allow_faults))
		rc = job_refuse(ps, r->flags & FIELD_LATER ? ERR_UNSUPPORTED : ERR_POLICY, f->base,
		    name,
		    r->flags & FIELD_LATER ? "%s is not served by this version"
					   : "%s needs dummy.allow_faults",
		    r->name);
	else if (rc)
		rc = job_refuse(ps, ERR_INVALID_JOB, f->base, name, NULL);
	else
		rc = check_allowed(ps, f, r, name, &v);
	/* The scanner let no key stand twice, so this is another spelling. The type was compared by
	 * meaning. */
	if (!rc && f->v[id].set && !field_value_same(r->kind, &f->v[id], &v) &&
	    r != &field_rows[SF_COMMON_TYPE])
		rc = job_refuse(ps, ERR_INVALID_JOB, f->base, name,
		    "%s is said twice, differently, as %s and as %s", r->name, r->name, r->aliases);
	if (rc || f->v[id].set) {
		if (r->flags & FIELD_SECRET)
			field_value_wipe(&v);
		field_value_release(&v);
		return rc;
	}
	f->v[id] = v;
	if (given)
		given[id] = true;
	return 0;
}

static int
read_members(struct job_parser *ps, struct json_object *o, const struct job_fields *f, bool *given)
{
	struct json_object_iterator it = json_object_iter_begin(o), end = json_object_iter_end(o);

	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it))
		if (read_member(ps, f, json_object_iter_peek_name(&it),
			json_object_iter_peek_value(&it), given))
			return -1;
	return 0;
}

int
job_fields_read(
    struct job_parser *ps, struct json_object *o, const struct job_fields *f, bool *given)
{
	if (read_members(ps, o, f, given))
		return -1;
	for (size_t i = 0; i < f->n; i++)
		if (!f->v[i].set && field_applies(&f->rows[i], f->source))
			field_default(&f->rows[i], &f->v[i]);
	return 0;
}

/* ---- the job ---- */

static int
read_name(struct job_parser *ps, struct json_object *root, enum job_field id)
{
	const struct field_row *r = &job_rows[id];
	struct json_object *o;
	struct field_value v = { 0 };
	char **to = id == JF_JOB_ID ? &ps->job->job_id : &ps->job->org_id;
	const char *fault;

	if (!json_object_object_get_ex(root, r->name, &o)) {
		if (!field_default(r, &v))
			return job_refuse(
			    ps, ERR_INVALID_JOB, "", r->name, "%s is missing", r->name);
	} else {
		if (field_from_json(r, o, &v, ps->e)) {
			field_value_release(&v);
			return job_refuse(ps, ERR_INVALID_JOB, "", r->name, NULL);
		}
		fault = job_name_fault(v.s);
		if (fault) {
			field_value_release(&v);
			return job_refuse(
			    ps, ERR_INVALID_JOB, "", r->name, "%s %s", r->name, fault);
		}
	}
	*to = v.s;
	return 0;
}

/* On failure: what can be told of whose job it was. */
static char *
known_name(struct json_object *root, enum job_field id)
{
	struct err e = ERR_INIT;
	struct field_value v = { 0 };
	struct json_object *o;

	if (!json_object_is_type(root, json_type_object) ||
	    !json_object_object_get_ex(root, job_rows[id].name, &o) ||
	    field_from_json(&job_rows[id], o, &v, &e) || job_name_fault(v.s)) {
		field_value_release(&v);
		return NULL;
	}
	return v.s;
}

static int
read_metadata(struct job_parser *ps, struct json_object *root)
{
	struct json_object *o;
	struct buf text = BUF_INIT;

	if (json_object_object_get_ex(root, "metadata", &o))
		job_echo_write(o, &text);
	else
		buf_puts(&text, "{}");
	if (text.len > ps->limits->metadata_max) {
		job_refuse(ps, ERR_INVALID_JOB, "", "metadata",
		    "metadata has %zu bytes; jobs.metadata_max allows %zu", text.len,
		    ps->limits->metadata_max);
		buf_release(&text);
		return -1;
	}
	ps->job->metadata = xmemdup0(text.p, text.len);
	ps->job->metadata_n = text.len;
	buf_release(&text);
	return 0;
}

/* The frame JOB must have room for it. */
static int
check_task_size(struct job_parser *ps, const struct source_conf *s, const char *base)
{
	struct buf b = BUF_INIT;
	size_t n;

	source_conf_encode(s, &b);
	filter_spec_encode(&ps->job->filter, &b);
	n = b.len;
	buf_wipe(&b);
	if (n > JOB_TASK_MAX)
		return job_refuse(ps, ERR_INVALID_JOB, base, NULL,
		    "patterns, filters and source take %zu bytes together; at most %d are allowed",
		    n, JOB_TASK_MAX);
	return 0;
}

static int
read_sources(struct job_parser *ps, struct json_object *root)
{
	struct json_object *one = NULL, *list = NULL;
	struct job *j = ps->job;
	size_t n = 1;

	json_object_object_get_ex(root, "source_config", &one);
	json_object_object_get_ex(root, "connection_list", &list);
	if (one && list)
		return job_refuse(ps, ERR_INVALID_JOB, "", "connection_list",
		    "source_config and connection_list exclude each other");
	if (!one && !list)
		return job_refuse(ps, ERR_INVALID_JOB, "", "source_config",
		    "source_config (or connection_list) is missing");
	if (list)
		n = json_object_array_length(list);
	j->sources = xcalloc(n, sizeof(*j->sources));
	for (size_t i = 0; i < n; i++) {
		char base[ERR_POINTER_MAX] = "/source_config";

		if (list)
			snprintf(base, sizeof(base), "/connection_list/%zu", i);
		j->n_sources++;
		if (job_source_read(ps, list ? json_object_array_get_idx(list, i) : one, base,
			&j->sources[i]) ||
		    job_fit_check(ps, base, &j->sources[i]) || check_task_size(ps, &j->sources[i], base))
			return -1;
		for (size_t k = 0; k < i; k++)
			if (!strcmp(j->sources[k].source_id, j->sources[i].source_id)) {
				job_warn(ps, "%s has the same source_id as /connection_list/%zu",
				    base, k);
				break;
			}
	}
	return 0;
}

static void
take_values(struct job *j, const struct field_value *v)
{
	j->priority = (enum job_priority)v[JF_PRIORITY].i;
	j->publish = (enum job_publish)v[JF_PUBLISH].i;
	j->timeout_ms = v[JF_TIMEOUT].set ? v[JF_TIMEOUT].i : -1;
	j->scheduled_at_ns = v[JF_SCHEDULED_AT].set ? v[JF_SCHEDULED_AT].i : TIME_UNKNOWN;
	j->created_at_ns = v[JF_CREATED_AT].set ? v[JF_CREATED_AT].i : TIME_UNKNOWN;
}

static int
check_timeout(struct job_parser *ps, struct json_object *root)
{
	const struct field_row *r = &job_rows[JF_TIMEOUT];
	char limit[UNITS_TEXT];

	if (ps->job->timeout_ms <= ps->limits->timeout_max_ms)
		return 0;
	units_duration_text(ps->limits->timeout_max_ms, limit);
	return job_refuse(ps, ERR_POLICY, "",
	    json_object_object_get_ex(root, r->name, NULL) ? r->name : r->aliases,
	    "timeout is longer than timeouts.job_max (%s)", limit);
}

static int
read_job(struct job_parser *ps, struct json_object *root)
{
	struct field_value v[JF__MAX] = { 0 };
	struct job_fields fields = { job_rows, JF__MAX, SOURCE_COMMON, v, "", "" };
	int rc;

	rc = read_name(ps, root, JF_JOB_ID) || read_name(ps, root, JF_ORG_ID) ||
	    job_fields_read(ps, root, &fields, NULL);
	if (!rc) {
		take_values(ps->job, v);
		rc = check_timeout(ps, root) || read_metadata(ps, root) ||
		    job_filter_read(ps, root, &v[JF_FILE_PATTERN]) || read_sources(ps, root);
	}
	for (size_t i = 0; i < JF__MAX; i++)
		field_value_release(&v[i]);
	if (!rc && ps->unlisted) {
		char more[64];

		snprintf(more, sizeof(more), "%zu more warnings are not listed", ps->unlisted);
		strlist_add(&ps->job->warnings, more);
	}
	return rc ? -1 : 0;
}

/* ---- the message ---- */

/* NULL with err: the message is not JSON. */
static struct json_object *
read_message(const char *p, size_t n, const struct job_limits *limits, struct err *e)
{
	struct json_tokener *tok;
	struct json_object *root;

	if (n > limits->message_max) {
		err_set(e, ERR_INVALID_JOB,
		    "the message has %zu bytes; jobs.message_max allows %zu", n,
		    limits->message_max);
		return NULL;
	}
	if (json_check(p, n, JSON_DEPTH_MAX, e))
		return NULL;
	tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	if (!tok)
		BUG("json-c gave no parser");
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	root = json_tokener_parse_ex(tok, p, (int)n);
	/* A number at the very end waits for the byte after it. */
	if (!root && json_tokener_get_error(tok) == json_tokener_continue)
		root = json_tokener_parse_ex(tok, " ", 1);
	if (!root && json_tokener_get_error(tok) != json_tokener_success)
		err_set(e, ERR_INVALID_JOB, "not JSON: %s",
		    json_tokener_error_desc(json_tokener_get_error(tok)));
	else if (!json_object_is_type(root, json_type_object))
		err_set(e, ERR_INVALID_JOB, "a job must be a JSON object");
	json_tokener_free(tok);
	return root;
}

/* The byte of the field, or of the nearest thing around it that is there. */
static void
locate(const char *p, size_t n, struct err *e)
{
	char pointer[ERR_POINTER_MAX], *slash;

	if (e->pos >= 0)
		return;
	memcpy(pointer, e->pointer, sizeof(pointer));
	while ((e->pos = json_locate(p, n, pointer)) < 0 && (slash = strrchr(pointer, '/')))
		*slash = '\0';
}

static struct job *
job_new(void)
{
	struct job *j = xcalloc(1, sizeof(*j));

	filter_spec_init(&j->filter);
	return j;
}

static void
hand_out(struct json_object *root, char **id_out, char **org_out, char **masked_out)
{
	struct buf b = BUF_INIT;

	if (id_out)
		*id_out = known_name(root, JF_JOB_ID);
	if (org_out)
		*org_out = known_name(root, JF_ORG_ID);
	/* A text or number without a name, bare or in an array, could be the secret itself. */
	if (masked_out && json_object_is_type(root, json_type_object)) {
		job_mask_write(root, &b);
		*masked_out = buf_take(&b);
	}
}

struct job *
job_parse(const char *p, size_t n, const struct job_limits *limits, char **id_out, char **org_out,
    char **masked_out, struct err *e)
{
	struct job_parser ps = { .limits = limits, .e = e };
	struct json_object *root;

	if (id_out)
		*id_out = NULL;
	if (org_out)
		*org_out = NULL;
	if (masked_out)
		*masked_out = NULL;
	err_clear(e);
	root = read_message(p, n, limits, e);
	if (e->cls == ERR_OK) {
		ps.job = job_new();
		if (!read_job(&ps, root)) {
			json_object_put(root);
			err_clear(e);
			return ps.job;
		}
		job_free(ps.job);
	}
	if (root)
		hand_out(root, id_out, org_out, masked_out);
	if (n <= limits->message_max)
		locate(p, n, e);
	json_object_put(root);
	return NULL;
}

void
job_free(struct job *j)
{
	if (!j)
		return;
	for (size_t i = 0; i < j->n_sources; i++)
		source_conf_release(&j->sources[i]);
	free(j->sources);
	filter_spec_release(&j->filter);
	strlist_release(&j->warnings);
	free(j->job_id);
	free(j->org_id);
	free(j->metadata);
	free(j);
}

const char *
job_priority_name(enum job_priority p)
{
	static const char *const names[PRIORITY__MAX] = {
		[PRIORITY_HIGH] = "high",
		[PRIORITY_NORMAL] = "normal",
		[PRIORITY_LOW] = "low",
	};

	return (unsigned)p < PRIORITY__MAX ? names[p] : "?";
}

const char *
job_source_label(const struct job *j)
{
	for (size_t i = 1; i < j->n_sources; i++)
		if (j->sources[i].type != j->sources[0].type)
			return "mixed";
	return j->n_sources ? source_rows[j->sources[0].type].name : "unknown";
}
