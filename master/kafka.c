/*
 * kafka.c - librdkafka's configuration from our settings, and what nobody may set. Called by consume.c, publish.c,
 * main.c (-t, -t --online) and the admin tool. Never starts anything in the loop; kafka_online_check alone blocks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/xalloc.h"
#include "master/kafka.h"
#include "common/banned.h"

#define PASSWORD_MAX 4096

/* ---- properties that would break a promise ------------------------------------------------------------------------ */

struct property_rule {
	const char *name;   /* a trailing '*' stands for any ending, a leading one for any beginning */
	const char *only;   /* "a|b": the values that are harmless; NULL: none is */
	const char *why;
};

static const struct property_rule rules[] = {
	/* settings of our own */
	{ "bootstrap.servers", NULL, "use the setting kafka.bootstrap_servers" },
	{ "metadata.broker.list", NULL, "use the setting kafka.bootstrap_servers" },
	{ "client.id", NULL, "use the setting kafka.client_id" },
	{ "group.id", NULL, "use the setting kafka.group_id" },
	{ "group.instance.id", NULL, "use the setting kafka.group_instance_id" },
	{ "session.timeout.ms", NULL, "use the setting kafka.session_timeout" },
	{ "heartbeat.interval.ms", NULL, "it follows the setting kafka.session_timeout" },
	{ "max.poll.interval.ms", NULL, "use the setting kafka.max_poll_interval" },
	{ "compression.codec", NULL, "use the setting kafka.compression" },
	{ "compression.type", NULL, "use the setting kafka.compression" },
	{ "message.max.bytes", NULL, "use the setting kafka.message_max" },
	{ "queue.buffering.max.messages", NULL, "use the setting kafka.queue_messages" },
	{ "queue.buffering.max.kbytes", NULL, "the queue is bounded by the setting kafka.queue_messages" },
	/* at least once: what is committed is done, what is sent is written */
	{ "enable.auto.commit", "false", "offsets are committed by the poller, when a job's outcome is written" },
	{ "auto.commit.enable", "false", "offsets are committed by the poller, when a job's outcome is written" },
	{ "auto.commit.interval.ms", NULL, "use the setting kafka.commit_interval" },
	{ "enable.auto.offset.store", "false", "offsets are committed by the poller, when a job's outcome is written" },
	{ "offset.store.*", NULL, "offsets are kept by the brokers, with what is done beyond them" },
	{ "auto.offset.reset", "earliest|smallest|beginning", "a new group would skip the jobs that wait" },
	{ "acks", "all|-1", "a record counts as written when all replicas have it" },
	{ "request.required.acks", "all|-1", "a record counts as written when all replicas have it" },
	{ "enable.idempotence", "true", "a retried record would be written twice" },
	{ "max.in.flight", "1|2|3|4|5", "more than 5 requests at once would break the order and the idempotence" },
	{ "max.in.flight.requests.per.connection", "1|2|3|4|5",
		"more than 5 requests at once would break the order and the idempotence" },
	{ "retries", NULL, "records are tried until Kafka has taken them" },
	{ "message.send.max.retries", NULL, "records are tried until Kafka has taken them" },
	{ "message.timeout.ms", NULL, "records wait until Kafka has taken them" },
	{ "delivery.timeout.ms", NULL, "records wait until Kafka has taken them" },
	{ "delivery.report.only.error", "false", "a job ends when all of its records are reported as written" },
	{ "queuing.strategy", "fifo", "records of one key keep their order" },
	{ "enable.gapless.guarantee", NULL, "fatal errors of the producer are mended by the poller" },
	{ "transactional.id", NULL, "transactions are the poller's own affair" },
	{ "transaction.timeout.ms", NULL, "transactions are the poller's own affair" },
	{ "isolation.level", "read_committed", "a job of an aborted transaction is no job" },
	/* the group and its queues */
	{ "partition.assignment.strategy", "range", "all members of a group must use the same one, and rebalancing here is made for range" },
	{ "group.protocol.type", NULL, "the poller is a consumer group" },
	{ "enable.partition.eof", "true", "the poller waits for the end of the deferred jobs" },
	{ "allow.auto.create.topics", "false", "a missing topic must be seen, not made" },
	{ "topic.blacklist", NULL, "it could hide the poller's own topics" },
	{ "api.version.request", "true", "record headers need it" },
	{ "log.queue", "true", "librdkafka's log goes through the poller's" },
	{ "log_level", NULL, "use the setting log.level" },
	{ "enabled_events", NULL, "the poller chooses the events it serves" },
	/* foreign code in the process that holds Kafka's secrets, and pointers */
	{ "plugin.library.paths", NULL, "it loads foreign code into the process that holds Kafka's secrets" },
	{ "ssl.engine.location", NULL, "it loads foreign code into the process that holds Kafka's secrets" },
	{ "ssl.engine.id", NULL, "it loads foreign code into the process that holds Kafka's secrets" },
	{ "ssl.providers", NULL, "it loads foreign code into the process that holds Kafka's secrets" },
	{ "sasl.kerberos.kinit.cmd", NULL, "it runs a shell command" },
	{ "enable.sasl.oauthbearer.unsecure.jwt", "false", "unsecured tokens let anybody in" },
	{ "internal.termination.signal", NULL, "signals are the poller's own affair" },
	{ "test.*", NULL, "it is made for librdkafka's own tests" },
	{ "interceptors", NULL, "only a program can set it" },
	{ "opaque", NULL, "only a program can set it" },
	{ "default_topic_conf", NULL, "only a program can set it" },
	{ "msg_order_cmp", NULL, "only a program can set it" },
	{ "ssl_engine_callback_data", NULL, "only a program can set it" },
	{ "ssl_key", NULL, "only a program can set it: use ssl.key.pem or ssl.key.location" },
	{ "ssl_certificate", NULL, "only a program can set it: use ssl.certificate.pem or ssl.certificate.location" },
	{ "ssl_ca", NULL, "only a program can set it: use ssl.ca.pem or ssl.ca.location" },
	{ "*_cb", NULL, "only a program can set it" },
};

static bool
rule_matches(const struct property_rule *r, const char *name)
{
	size_t n = strlen(r->name), len = strlen(name);

	if (r->name[0] == '*')
		return len >= n - 1 && !strcmp(name + len - (n - 1), r->name + 1);
	if (r->name[n - 1] == '*')
		return !strncmp(name, r->name, n - 1);
	return !strcmp(name, r->name);
}

static bool
word_in(const char *words, const char *value)
{
	size_t n = strlen(value);

	for (const char *p = words; p; p = strchr(p, '|')) {
		p += *p == '|';
		if (!strncasecmp(p, value, n) && (p[n] == '|' || !p[n]))
			return n > 0;
	}
	return false;
}

const char *
kafka_property_check(const char *name, const char *value, char *why, size_t n)
{
	rd_kafka_conf_t *scratch;
	rd_kafka_conf_res_t res;
	char text[256] = "";

	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		if (!rule_matches(&rules[i], name))
			continue;
		if (!rules[i].only) {
			snprintf(why, n, "%s cannot be set here: %s", name, rules[i].why);
			return why;
		}
		if (!word_in(rules[i].only, value)) {
			snprintf(why, n, "%s can only be %s: %s", name, rules[i].only, rules[i].why);
			return why;
		}
	}
	scratch = rd_kafka_conf_new();
	res = rd_kafka_conf_set(scratch, name, value, text, sizeof(text));
	rd_kafka_conf_destroy(scratch);
	if (res == RD_KAFKA_CONF_OK)
		return NULL;
	if (res == RD_KAFKA_CONF_UNKNOWN)
		snprintf(why, n, "librdkafka has no property \"%s\"", name);
	else
		snprintf(why, n, "%s", text[0] ? text : "librdkafka refuses the value");
	return why;
}

/* ---- configuration --------------------------------------------------------------------------------------------------- */

static int
put(rd_kafka_conf_t *c, const char *name, const char *value, struct err *e)
{
	char text[256] = "";

	if (rd_kafka_conf_set(c, name, value, text, sizeof(text)) == RD_KAFKA_CONF_OK)
		return 0;
	return err_set(e, ERR_CONFIG, "%s", text[0] ? text : name);
}

static int
put_number(rd_kafka_conf_t *c, const char *name, int64_t value, struct err *e)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	return put(c, name, text, e);
}

struct pair { const char *name, *value; };

static int
put_pairs(rd_kafka_conf_t *c, const struct pair *p, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (put(c, p[i].name, p[i].value, e) < 0)
			return -1;
	return 0;
}

/* Defaults of ours that the user's properties may change. */
static const struct pair defaults_common[] = {
	{ "socket.nagle.disable", "true" },
	{ "socket.keepalive.enable", "true" },
	{ "socket.timeout.ms", "30000" },
	{ "reconnect.backoff.max.ms", "1000" },
	{ "log.connection.close", "false" },
	{ "statistics.interval.ms", "0" },
};
static const struct pair defaults_consumer[] = {
	{ "queued.min.messages", "100000" },
	{ "queued.max.messages.kbytes", "16384" },
	{ "fetch.wait.max.ms", "500" },
};
static const struct pair defaults_producer[] = {
	{ "linger.ms", "5" },
	{ "partitioner", "murmur2_random" },
	{ "message.copy.max.bytes", "65535" },
};

/* What holds whatever the user wrote. */
static const struct pair fixed_common[] = {
	{ "log.queue", "true" },
	{ "allow.auto.create.topics", "false" },
};
static const struct pair fixed_consumer[] = {
	{ "enable.auto.commit", "false" },
	{ "enable.auto.offset.store", "false" },
	{ "auto.offset.reset", "earliest" },
	{ "partition.assignment.strategy", "range" },
	/* deferred.c waits for the end of what it reads back */
	{ "enable.partition.eof", "true" },
	{ "isolation.level", "read_committed" },
};
static const struct pair fixed_producer[] = {
	{ "enable.idempotence", "true" },
	{ "acks", "all" },
	{ "message.timeout.ms", "0" },
	/* the bound is publish.c's own count; librdkafka's would count reports that we have not read yet */
	{ "queue.buffering.max.messages", "2147483647" },
	{ "queue.buffering.max.kbytes", "2147483647" },
};

static int
conf_consumer(rd_kafka_conf_t *c, const struct config *cfg, struct err *e)
{
	int64_t beat = cfg->kafka_session_timeout / 3;

	if (cfg->kafka_max_poll_interval < cfg->kafka_session_timeout)
		return err_set(e, ERR_CONFIG, "kafka.max_poll_interval must not be below kafka.session_timeout");
	if (put_pairs(c, fixed_consumer, ARRAY_LEN(fixed_consumer), e) < 0 ||
	    put(c, "group.id", cfg->kafka_group_id, e) < 0 ||
	    put_number(c, "session.timeout.ms", cfg->kafka_session_timeout, e) < 0 ||
	    put_number(c, "heartbeat.interval.ms", beat > 3000 ? 3000 : beat, e) < 0 ||
	    put_number(c, "max.poll.interval.ms", cfg->kafka_max_poll_interval, e) < 0)
		return -1;
	if (cfg->kafka_group_instance_id[0])
		return put(c, "group.instance.id", cfg->kafka_group_instance_id, e);
	return 0;
}

static int
conf_producer(rd_kafka_conf_t *c, const struct config *cfg, struct err *e)
{
	static const char *const codecs[] = { "none", "gzip", "snappy", "lz4", "zstd" };

	if (put_pairs(c, fixed_producer, ARRAY_LEN(fixed_producer), e) < 0 ||
	    put(c, "compression.codec", codecs[cfg->kafka_compression], e) < 0)
		return -1;
	return put_number(c, "message.max.bytes", cfg->kafka_message_max, e);
}

/* One line; a newline at its end is the editor's. */
static int
password_read(int fd, const char *path, char out[PASSWORD_MAX + 1], struct err *e)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_errno(e, ERR_CONFIG, "kafka.password_file: %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_CONFIG, "kafka.password_file: %s is not a file", path);
	if (st.st_mode & S_IRWXO)
		return err_set(e, ERR_CONFIG, "kafka.password_file: others can read or write %s (mode %03o); chmod o= it",
		    path, (unsigned)st.st_mode & 0777);
	n = read(fd, out, PASSWORD_MAX);
	if (n < 0)
		return err_errno(e, ERR_CONFIG, "kafka.password_file: %s", path);
	while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r'))
		n--;
	out[n] = '\0';
	if (!n || st.st_size > PASSWORD_MAX || memchr(out, '\0', (size_t)n) || memchr(out, '\n', (size_t)n))
		return err_set(e, ERR_CONFIG, "kafka.password_file: %s must hold one line of 1 to %d bytes", path,
		    PASSWORD_MAX);
	return 0;
}

static int
conf_password(rd_kafka_conf_t *c, const struct config *cfg, struct err *e)
{
	const char *path = cfg->kafka_password_file;
	char secret[PASSWORD_MAX + 1];
	int fd, ret;

	if (!path[0])
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(e, ERR_CONFIG, "kafka.password_file: %s", path);
	ret = password_read(fd, path, secret, e);
	close(fd);
	if (ret == 0)
		ret = put(c, "sasl.password", secret, e);
	explicit_bzero(secret, sizeof(secret));
	return ret;
}

static int
conf_properties(rd_kafka_conf_t *c, const struct config *cfg, struct err *e)
{
	const struct strmap *m = &cfg->kafka_properties;
	char why[512];

	for (size_t i = 0; i < m->k.n; i++) {
		const char *no = kafka_property_check(m->k.v[i], m->v.v[i], why, sizeof(why));

		if (no)
			return err_set(e, ERR_CONFIG, "kafka.properties: %s", no);
		if (put(c, m->k.v[i], m->v.v[i], e) < 0)
			return -1;
	}
	return 0;
}

static int
conf_fill(rd_kafka_conf_t *c, const struct config *cfg, enum kafka_role role, struct err *e)
{
	if (put_pairs(c, defaults_common, ARRAY_LEN(defaults_common), e) < 0 ||
	    (role == KAFKA_CONSUMER && put_pairs(c, defaults_consumer, ARRAY_LEN(defaults_consumer), e) < 0) ||
	    (role == KAFKA_PRODUCER && put_pairs(c, defaults_producer, ARRAY_LEN(defaults_producer), e) < 0) ||
	    conf_properties(c, cfg, e) < 0 || conf_password(c, cfg, e) < 0 ||
	    put_pairs(c, fixed_common, ARRAY_LEN(fixed_common), e) < 0 ||
	    put(c, "bootstrap.servers", cfg->kafka_bootstrap_servers, e) < 0 ||
	    put(c, "client.id", cfg->kafka_client_id, e) < 0)
		return -1;
	if (role == KAFKA_CONSUMER)
		return conf_consumer(c, cfg, e);
	if (role == KAFKA_PRODUCER)
		return conf_producer(c, cfg, e);
	return 0;
}

rd_kafka_conf_t *
kafka_conf(const struct config *cfg, enum kafka_role role, struct err *e)
{
	rd_kafka_conf_t *c = rd_kafka_conf_new();

	rd_kafka_conf_set_log_cb(c, kafka_log);
	rd_kafka_conf_enable_sasl_queue(c, 1);
	if (conf_fill(c, cfg, role, e) == 0)
		return c;
	rd_kafka_conf_destroy(c);
	return NULL;
}

rd_kafka_t *
kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *e)
{
	char text[512] = "";
	rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof(text));

	if (!rk) {
		rd_kafka_conf_destroy(conf);
		err_set(e, ERR_CONFIG, "kafka: %s", text);
		return NULL;
	}
	/* token refresh may ask a server: not in our loop. An error says only that the mechanism is another. */
	rd_kafka_error_destroy(rd_kafka_sasl_background_callbacks_enable(rk));
	return rk;
}

void
kafka_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
	enum log_level to = level <= 3 ? LOG_WARN : level <= 6 ? LOG_INFO : LOG_DEBUG;

	/* librdkafka tells of each lost connection as an error; ours are told by consume.c and publish.c. A property that
	 * only one of the two clients uses, and an old broker that ignores a wish, are nobody's concern. */
	if (!strcmp(fac, "CONFWARN") || !strcmp(fac, "AUTOCREATE"))
		to = LOG_DEBUG;
	LOG(to, "kafka_library", LS("client", rk ? rd_kafka_name(rk) : NULL), LS("facility", fac), LS("text", text));
}

/* ---- topics ------------------------------------------------------------------------------------------------------------- */

size_t
kafka_topics(const struct config *cfg, const char *out[KAFKA_TOPICS_MAX])
{
	out[0] = cfg->topic_jobs;
	out[1] = cfg->topic_results;
	out[2] = cfg->topic_dlq;
	out[3] = cfg->topic_events;
	out[KAFKA_TOPIC_DEFERRED] = cfg->topic_deferred;
	for (size_t i = 0; i < cfg->topics_more.n; i++)
		out[KAFKA_TOPICS_FIXED + i] = cfg->topics_more.v[i];
	return KAFKA_TOPICS_FIXED + cfg->topics_more.n;
}

bool
kafka_topic_consumed(size_t place)
{
	return place == 0 || place >= KAFKA_TOPIC_DEFERRED;
}

size_t
kafka_queues(const struct config *cfg, const char *out[KAFKA_QUEUES_MAX])
{
	out[0] = cfg->topic_jobs;
	for (size_t i = 0; i < cfg->topics_more.n; i++)
		out[1 + i] = cfg->topics_more.v[i];
	return 1 + cfg->topics_more.n;
}

void
kafka_topic_trouble(char *text, size_t n, const char *topic, rd_kafka_resp_err_t err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		snprintf(text, n, "topic %s does not exist: create it ('iis-pollerctl verify --create-topics')", topic);
		break;
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		snprintf(text, n, "topic %s is forbidden to this client: grant it the right in the brokers' ACLs", topic);
		break;
	case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		snprintf(text, n, "topic %s has a name that the brokers refuse: correct the settings topics.*", topic);
		break;
	default:
		snprintf(text, n, "topic %s: %s", topic, rd_kafka_err2str(err));
	}
}

/*
 * Until 2.6.1 librdkafka repeats its own nonce in the last message of SCRAM. Brokers looked over it until Kafka 4.0,
 * and have refused it since, with the words of a wrong password.
 */
const char *
kafka_refusal_note(const char *reason)
{
	if (rd_kafka_version() >= 0x020601ff || !strstr(reason, "SASL mechanism SCRAM"))
		return "";
	return "; the password may be right: Kafka 4.0 and later refuse SCRAM of the librdkafka installed here (before 2.6.1): use SASL PLAIN over TLS, "
	    "a client certificate or a newer librdkafka";
}

struct online {
	char text[768];  /* first error that the brokers' connections told */
};

static void
online_error(rd_kafka_t *rk, int err, const char *reason, void *arg)
{
	struct online *o = arg;

	(void)rk;
	if (err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && !o->text[0])
		snprintf(o->text, sizeof(o->text), "%s%s", reason, kafka_refusal_note(reason));
}

/* What the connections' errors said beats "timed out". */
static int
online_failed(rd_kafka_t *rk, const struct config *cfg, struct online *o, rd_kafka_resp_err_t err, struct err *e)
{
	for (int i = 0; i < 100 && rd_kafka_poll(rk, 0) > 0; i++)
		;
	return err_set(e, ERR_KAFKA, "brokers %s do not answer: %s", cfg->kafka_bootstrap_servers,
	    o->text[0] ? o->text : rd_kafka_err2str(err));
}

static int
online_topic(rd_kafka_t *rk, const struct config *cfg, struct online *o, const char *topic, int timeout_ms, struct err *e)
{
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
	const struct rd_kafka_metadata *md = NULL;
	rd_kafka_resp_err_t err;
	char text[512];
	int ret = 0;

	if (!rkt)
		return err_set(e, ERR_KAFKA, "topic %s: %s", topic, rd_kafka_err2str(rd_kafka_last_error()));
	err = rd_kafka_metadata(rk, 0, rkt, &md, timeout_ms > 0 ? timeout_ms : 1);
	if (err) {
		ret = online_failed(rk, cfg, o, err, e);
	} else if (md->topic_cnt != 1 || md->topics[0].err) {
		kafka_topic_trouble(text, sizeof(text), topic,
		    md->topic_cnt == 1 ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
		ret = err_set(e, ERR_KAFKA, "%s", text);
	}
	if (!err)
		rd_kafka_metadata_destroy(md);
	rd_kafka_topic_destroy(rkt);
	return ret;
}

int
kafka_online_check(const struct config *cfg, int timeout_ms, struct err *e)
{
	rd_kafka_conf_t *conf = kafka_conf(cfg, KAFKA_ADMIN, e);
	int64_t until = clock_mono_ms() + timeout_ms;
	const char *topics[KAFKA_TOPICS_MAX];
	struct online o = { "" };
	rd_kafka_t *rk;
	size_t n;
	int ret = 0;

	if (!conf)
		return -1;
	rd_kafka_conf_set_opaque(conf, &o);
	rd_kafka_conf_set_error_cb(conf, online_error);
	/* a consumer's question never creates the topic it asks about */
	rk = kafka_new(RD_KAFKA_CONSUMER, conf, e);
	if (!rk)
		return -1;
	n = kafka_topics(cfg, topics);
	for (size_t i = 0; i < n && ret == 0; i++)
		ret = online_topic(rk, cfg, &o, topics[i], (int)(until - clock_mono_ms()), e);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return ret;
}
