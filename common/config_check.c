/*
 * config_check.c - rules that hold between settings, and about the secret file that one of them
 * names.
 *
 * Runs after everything was read, on the effective values, so that a conflict between a file and
 * the environment is seen too. Each error stands where the later of the two values came from.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config_priv.h"
#include "common/keys.h"
#include "common/banned.h"

static bool
is_default(const struct config_set *set, enum config_id id)
{
	return !strcmp(set->origin[id].file, "default");
}

static void
origin_text(const struct config_set *set, enum config_id id, struct buf *b)
{
	buf_puts(b, set->origin[id].file);
	if (set->origin[id].line > 0)
		buf_printf(b, ":%d", set->origin[id].line);
}

/* "retry.delay (10s, /etc/...:12)" */
static void
name_value(const struct config_set *set, enum config_id id, struct buf *b)
{
	buf_printf(b, "%s (", config_rows[id].key);
	config_value_text(&set->c, id, b);
	buf_puts(b, ", ");
	origin_text(set, id, b);
	buf_putc(b, ')');
}

static void
at_origin(struct config_reader *r, enum config_id id, const char *text)
{
	const struct config_origin *o = &r->set->origin[id];

	/* "environment NAME" is shown as environment, like every error there */
	if (!strncmp(o->file, "environment ", 12))
		config_error(r, "environment", 0, 0, "%s: %s", o->file + 12, text);
	else
		config_error(r, o->file, o->line, o->column, "%s", text);
}

static void
conflict(struct config_reader *r, enum config_id a, enum config_id b, const char *what)
{
	struct buf text = BUF_INIT;

	name_value(r->set, a, &text);
	buf_printf(&text, " %s ", what);
	name_value(r->set, b, &text);
	at_origin(r, is_default(r->set, a) ? b : a, buf_str(&text));
	buf_release(&text);
}

static void
check_order(struct config_reader *r)
{
	const struct config *c = &r->set->c;

	if (c->retry_delay > c->retry_max_delay)
		conflict(r, CONFIG_retry_delay, CONFIG_retry_max_delay, "is above");
	if (c->timeout_job > c->timeout_job_max)
		conflict(r, CONFIG_timeout_job, CONFIG_timeout_job_max, "is above");
	if (c->kafka_session_timeout > c->kafka_max_poll_interval)
		conflict(r, CONFIG_kafka_session_timeout, CONFIG_kafka_max_poll_interval,
		    "is above");
	if (c->jobs_message_max > c->jobs_queue_bytes)
		conflict(r, CONFIG_jobs_message_max, CONFIG_jobs_queue_bytes, "is above");
}

static void
more_conflict(struct config_reader *r, enum config_id id)
{
	struct buf text = BUF_INIT;

	buf_puts(&text, "topics.more_polling_queues must not name ");
	name_value(r->set, id, &text);
	at_origin(r, CONFIG_topics_more, buf_str(&text));
	buf_release(&text);
}

static void
check_topics(struct config_reader *r)
{
	static const enum config_id ids[] = { CONFIG_topic_jobs, CONFIG_topic_events,
		CONFIG_topic_results, CONFIG_topic_dlq, CONFIG_topic_deferred };
	const struct config *c = &r->set->c;
	const char *names[] = { c->topic_jobs, c->topic_events, c->topic_results, c->topic_dlq,
		c->topic_deferred };

	for (size_t i = 1; i < sizeof(ids) / sizeof(ids[0]); i++)
		for (size_t j = 0; j < i; j++)
			if (!strcmp(names[i], names[j]))
				conflict(r, ids[i], ids[j], "must differ from");
	for (size_t i = 0; i < c->topics_more.n; i++)
		for (size_t j = 0; j < sizeof(ids) / sizeof(ids[0]); j++)
			if (!strcmp(c->topics_more.v[i], names[j]))
				more_conflict(r, ids[j]);
	if (c->topics_more.n > CONFIG_TOPICS_MORE_MAX)
		at_origin(r, CONFIG_topics_more, "topics.more_polling_queues names more than 31 topics");
}

static void
check_sts(struct config_reader *r)
{
	const struct strlist *l = &r->set->c.credentials_sts;

	for (size_t i = 0; i < l->n; i++) {
		struct err why = ERR_INIT;
		struct buf text = BUF_INIT;
		struct http_url u;
		bool ok = !http_url_parse(l->v[i], strlen(l->v[i]), &u, &why);

		if (ok) {
			ok = keys_origin_ok(&u);
			http_url_release(&u);
		}
		if (!ok) {
			buf_puts(&text, "credentials.sts_endpoints: ");
			config_quote(&text, l->v[i]);
			buf_puts(&text, " is not https://host or https://host:port");
			at_origin(r, CONFIG_credentials_sts, buf_str(&text));
		}
		buf_release(&text);
	}
}

static void
check_password(struct config_reader *r)
{
	const char *path = r->set->c.kafka_password_file;
	const struct strlist *names = &r->set->c.kafka_properties.k;
	struct buf text = BUF_INIT;
	struct stat st;

	if (!*path)
		return;
	buf_puts(&text, "kafka.password_file: ");
	config_quote(&text, path);
	if (stat(path, &st) < 0)
		buf_printf(&text, " cannot be read: %s", strerror(errno));
	else if (!S_ISREG(st.st_mode))
		buf_puts(&text, " is not a regular file");
	else if (st.st_mode & (S_IRWXG | S_IRWXO))
		buf_printf(&text, " is open to others than its owner (mode %04o); chmod 0400 it",
		    (unsigned)(st.st_mode & 07777));
	else if (access(path, R_OK) < 0)
		buf_printf(&text, " cannot be read: %s", strerror(errno));
	else
		buf_clear(&text);
	if (text.len)
		at_origin(r, CONFIG_kafka_password_file, buf_str(&text));
	for (size_t i = 0; i < names->n; i++)
		if (!strcmp(names->v[i], "sasl.password"))
			at_origin(r, CONFIG_kafka_password_file, "kafka.password_file: "
			    "kafka.properties has sasl.password too; keep one of them");
	buf_release(&text);
}

void
config_check(struct config_reader *r)
{
	check_order(r);
	check_topics(r);
	check_password(r);
	check_sts(r);
}
