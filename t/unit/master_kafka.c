/*
 * master_kafka.c - librdkafka properties that are refused and why, the configuration that is made, the online check.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "common/loop.h"
#include "common/xalloc.h"
#include "master/kafka.h"
#include "common/banned.h"

static const struct { const char *name, *value; } allowed[] = {
	{ "security.protocol", "sasl_ssl" },
	{ "sasl.mechanism", "SCRAM-SHA-512" },
	{ "sasl.username", "poller" },
	{ "sasl.password", "secret" },
	{ "ssl.ca.location", "/etc/ssl/certs/ca-certificates.crt" },
	{ "ssl.key.location", "/etc/key.pem" },
	{ "enable.ssl.certificate.verification", "false" },
	{ "fetch.wait.max.ms", "10" },
	{ "linger.ms", "50" },
	{ "batch.size", "100000" },
	{ "partitioner", "consistent_random" },
	{ "socket.timeout.ms", "10000" },
	{ "debug", "cgrp,broker" },
	{ "client.rack", "a" },
	/* what holds anyway may be written down */
	{ "acks", "all" },
	{ "acks", "-1" },
	{ "enable.auto.commit", "false" },
	{ "enable.idempotence", "true" },
	{ "auto.offset.reset", "earliest" },
	{ "auto.offset.reset", "EARLIEST" },
	{ "partition.assignment.strategy", "range" },
	{ "isolation.level", "read_committed" },
	{ "max.in.flight", "5" },
};

START_TEST(property_allowed)
{
	char why[512] = "";

	ck_assert_msg(!kafka_property_check(allowed[_i].name, allowed[_i].value, why, sizeof(why)), "%s=%s: %s",
	    allowed[_i].name, allowed[_i].value, why);
}
END_TEST

static const struct { const char *name, *value, *says; } refused[] = {
	{ "enable.auto.commit", "true", "committed by the poller" },
	{ "auto.commit.enable", "true", "committed by the poller" },
	{ "enable.auto.offset.store", "true", "committed by the poller" },
	{ "auto.commit.interval.ms", "100", "kafka.commit_interval" },
	{ "offset.store.method", "file", "kept by the brokers" },
	{ "offset.store.path", "/tmp", "kept by the brokers" },
	{ "auto.offset.reset", "latest", "skip the jobs" },
	{ "auto.offset.reset", "largest", "skip the jobs" },
	{ "auto.offset.reset", "error", "skip the jobs" },
	{ "auto.offset.reset", "", "skip the jobs" },
	{ "acks", "1", "all replicas" },
	{ "acks", "0", "all replicas" },
	{ "acks", "al", "all replicas" },
	{ "request.required.acks", "1", "all replicas" },
	{ "enable.idempotence", "false", "written twice" },
	{ "max.in.flight", "6", "idempotence" },
	{ "max.in.flight.requests.per.connection", "1000000", "idempotence" },
	{ "retries", "0", "until Kafka has taken them" },
	{ "message.send.max.retries", "3", "until Kafka has taken them" },
	{ "message.timeout.ms", "1000", "until Kafka has taken them" },
	{ "delivery.timeout.ms", "1000", "until Kafka has taken them" },
	{ "delivery.report.only.error", "true", "reported as written" },
	{ "queuing.strategy", "lifo", "order" },
	{ "transactional.id", "x", "transactions" },
	{ "isolation.level", "read_uncommitted", "aborted" },
	{ "bootstrap.servers", "evil:9092", "kafka.bootstrap_servers" },
	{ "metadata.broker.list", "evil:9092", "kafka.bootstrap_servers" },
	{ "client.id", "x", "kafka.client_id" },
	{ "group.id", "x", "kafka.group_id" },
	{ "group.instance.id", "x", "kafka.group_instance_id" },
	{ "session.timeout.ms", "6000", "kafka.session_timeout" },
	{ "heartbeat.interval.ms", "60000", "kafka.session_timeout" },
	{ "max.poll.interval.ms", "6000", "kafka.max_poll_interval" },
	{ "compression.codec", "lz4", "kafka.compression" },
	{ "compression.type", "lz4", "kafka.compression" },
	{ "message.max.bytes", "2000000", "kafka.message_max" },
	{ "queue.buffering.max.messages", "10", "kafka.queue_messages" },
	{ "queue.buffering.max.kbytes", "10", "kafka.queue_messages" },
	{ "partition.assignment.strategy", "cooperative-sticky", "range" },
	{ "partition.assignment.strategy", "range,roundrobin", "range" },
	{ "enable.partition.eof", "false", "the end of the deferred jobs" },
	{ "allow.auto.create.topics", "true", "missing topic" },
	{ "topic.blacklist", ".*", "hide" },
	{ "log.queue", "false", "log" },
	{ "plugin.library.paths", "evil.so", "foreign code" },
	{ "ssl.engine.location", "evil.so", "foreign code" },
	{ "sasl.kerberos.kinit.cmd", "sh -c id", "shell" },
	{ "enable.sasl.oauthbearer.unsecure.jwt", "true", "unsecured" },
	{ "rebalance_cb", "x", "program" },
	{ "dr_msg_cb", "x", "program" },
	{ "oauthbearer_token_refresh_cb", "x", "program" },
	{ "opaque", "x", "program" },
	{ "test.mock.num.brokers", "3", "tests" },
	/* librdkafka's own words */
	{ "sasl.pasword", "x", "no property \"sasl.pasword\"" },
	{ "", "x", "no property" },
	{ "security.protocol", "tls", "Invalid value" },
	{ "linger.ms", "soon", "Invalid value" },
	{ "socket.timeout.ms", "1", "outside allowed range" },
	{ "debug", "everything", "Invalid value" },
};

START_TEST(property_refused)
{
	char why[512] = "";
	const char *no = kafka_property_check(refused[_i].name, refused[_i].value, why, sizeof(why));

	ck_assert_msg(no && strstr(no, refused[_i].says), "%s=%s: \"%s\", wanted \"%s\"", refused[_i].name,
	    refused[_i].value, no ? no : "allowed", refused[_i].says);
}
END_TEST

/* ---- the configuration ------------------------------------------------------------------------------------------------ */

static struct config_set set;

static struct config *
settings(const char *const *extra)
{
	static char *environment[] = { NULL };
	struct config_args a = { .file = "/dev/null", .settings = extra, .environ_ = environment,
		.property_check = kafka_property_check };

	if (config_load(&set, &a) < 0)
		config_print_errors(&set, stderr);
	return &set.c;
}

static void
expect(rd_kafka_conf_t *conf, const char *name, const char *want)
{
	char got[512] = "";
	size_t n = sizeof(got);

	ck_assert_msg(rd_kafka_conf_get(conf, name, got, &n) == RD_KAFKA_CONF_OK && !strcmp(got, want),
	    "%s is %s, wanted %s", name, got, want);
}

START_TEST(roles)
{
	static const char *const more[] = { "kafka.session_timeout=6s", "kafka.group_instance_id=a-1",
		"kafka.compression=zstd", "kafka.message_max=500000", "kafka.properties=socket.timeout.ms=12345,linger.ms=7",
		NULL };
	struct config *cfg = settings(more);
	struct err e = ERR_INIT;
	rd_kafka_conf_t *c = kafka_conf(cfg, KAFKA_CONSUMER, &e);

	ck_assert_msg(c != NULL, "%s", e.text);
	expect(c, "enable.auto.commit", "false");
	expect(c, "enable.auto.offset.store", "false");
	expect(c, "auto.offset.reset", "smallest");
	expect(c, "partition.assignment.strategy", "range");
	expect(c, "session.timeout.ms", "6000");
	expect(c, "heartbeat.interval.ms", "2000");
	expect(c, "group.id", "poller-worker-group");
	expect(c, "group.instance.id", "a-1");
	expect(c, "socket.timeout.ms", "12345");
	expect(c, "log.queue", "true");
	rd_kafka_conf_destroy(c);
	c = kafka_conf(cfg, KAFKA_PRODUCER, &e);
	ck_assert_msg(c != NULL, "%s", e.text);
	expect(c, "enable.idempotence", "true");
	expect(c, "acks", "-1");
	expect(c, "message.timeout.ms", "0");
	expect(c, "compression.codec", "zstd");
	expect(c, "message.max.bytes", "500000");
	expect(c, "partitioner", "murmur2_random");
	expect(c, "linger.ms", "7");
	rd_kafka_conf_destroy(c);
	c = kafka_conf(cfg, KAFKA_ADMIN, &e);
	ck_assert_msg(c != NULL, "%s", e.text);
	expect(c, "allow.auto.create.topics", "false");
	rd_kafka_conf_destroy(c);
	config_set_release(&set);
}
END_TEST

/* Both kinds of handles take what is made for them: librdkafka checks settings against one another only here. */
START_TEST(handles)
{
	struct config *cfg = settings(NULL);
	struct err e = ERR_INIT;
	rd_kafka_t *rk;

	rk = kafka_new(RD_KAFKA_CONSUMER, kafka_conf(cfg, KAFKA_CONSUMER, &e), &e);
	ck_assert_msg(rk != NULL, "%s", e.text);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	rk = kafka_new(RD_KAFKA_PRODUCER, kafka_conf(cfg, KAFKA_PRODUCER, &e), &e);
	ck_assert_msg(rk != NULL, "%s", e.text);
	rd_kafka_destroy(rk);
	config_set_release(&set);
}
END_TEST

static const struct { const char *const extra[3]; const char *says; } bad_conf[] = {
	{ { "kafka.max_poll_interval=10s", NULL }, "kafka.max_poll_interval" },
	{ { "kafka.password_file=/nonexistent/x", NULL }, "/nonexistent/x" },
	{ { "kafka.password_file=/tmp", NULL }, "is not a file" },
	{ { "kafka.password_file=/dev/null", NULL }, "is not a file" },
};

START_TEST(conf_refused)
{
	struct config *cfg = settings(bad_conf[_i].extra);
	struct err e = ERR_INIT;
	rd_kafka_conf_t *c = kafka_conf(cfg, KAFKA_CONSUMER, &e);

	ck_assert(!c);
	ck_assert_int_eq(e.cls, ERR_CONFIG);
	ck_assert_msg(strstr(e.text, bad_conf[_i].says) != NULL, "%s", e.text);
	config_set_release(&set);
}
END_TEST

static const struct { const char *text; size_t n; mode_t mode; const char *password, *says; } passwords[] = {
	{ "hunter2\n", 8, 0600, "hunter2", NULL },
	{ "hunter2", 7, 0640, "hunter2", NULL },
	{ "with space \r\n", 13, 0400, "with space ", NULL },
	{ "hunter2\n", 8, 0644, NULL, "others can read" },
	{ "hunter2\n", 8, 0602, NULL, "others can read or write" },
	{ "", 0, 0600, NULL, "one line" },
	{ "\n\n", 2, 0600, NULL, "one line" },
	{ "a\nb\n", 4, 0600, NULL, "one line" },
	{ "a\0b\n", 4, 0600, NULL, "one line" },
};

START_TEST(password_file)
{
	char path[] = "/tmp/master_kafka.XXXXXX";
	int fd = mkstemp(path);
	struct config *cfg = settings(NULL);
	struct err e = ERR_INIT;
	rd_kafka_conf_t *c;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, passwords[_i].text, passwords[_i].n), (ssize_t)passwords[_i].n);
	ck_assert_int_eq(fchmod(fd, passwords[_i].mode), 0);
	close(fd);
	free(cfg->kafka_password_file);
	cfg->kafka_password_file = xstrdup(path);
	c = kafka_conf(cfg, KAFKA_PRODUCER, &e);
	unlink(path);
	if (passwords[_i].password) {
		ck_assert_msg(c != NULL, "%s", e.text);
		expect(c, "sasl.password", passwords[_i].password);
		rd_kafka_conf_destroy(c);
	} else {
		ck_assert(!c);
		ck_assert_msg(strstr(e.text, passwords[_i].says) != NULL, "%s", e.text);
		ck_assert_msg(!strstr(e.text, "hunter2"), "the secret is in the message");
	}
	config_set_release(&set);
}
END_TEST

/* ---- asking the brokers --------------------------------------------------------------------------------------------------- */

struct cluster { rd_kafka_t *rk; rd_kafka_mock_cluster_t *mock; };

static struct config *
cluster_start(struct cluster *k)
{
	static char servers[300];
	static const char *extra[] = { servers, NULL };
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char text[128];

	rd_kafka_conf_set_log_cb(conf, NULL);
	k->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
	k->mock = rd_kafka_mock_cluster_new(k->rk, 1);
	ck_assert(k->mock != NULL);
	snprintf(servers, sizeof(servers), "kafka.bootstrap_servers=%s", rd_kafka_mock_cluster_bootstraps(k->mock));
	return settings(extra);
}

static void
cluster_stop(struct cluster *k)
{
	rd_kafka_mock_cluster_destroy(k->mock);
	rd_kafka_destroy(k->rk);
	config_set_release(&set);
}

START_TEST(online_well)
{
	struct cluster k;
	struct config *cfg = cluster_start(&k);
	const char *topics[KAFKA_TOPICS_MAX];
	struct err e = ERR_INIT;

	for (size_t i = 0, n = kafka_topics(cfg, topics); i < n; i++)
		rd_kafka_mock_topic_create(k.mock, topics[i], 2, 1);
	ck_assert_msg(kafka_online_check(cfg, 10000, &e) == 0, "%s", e.text);
	cluster_stop(&k);
}
END_TEST

static const struct { rd_kafka_resp_err_t err; const char *says; } topic_errors[] = {
	{ RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "topic polling-results does not exist" },
	{ RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "topic polling-results is forbidden" },
	{ RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, "topic polling-results has a name" },
};

START_TEST(online_topic_trouble)
{
	struct cluster k;
	struct config *cfg = cluster_start(&k);
	struct err e = ERR_INIT;

	rd_kafka_mock_topic_set_error(k.mock, cfg->topic_results, topic_errors[_i].err);
	ck_assert_int_eq(kafka_online_check(cfg, 10000, &e), -1);
	ck_assert_int_eq(e.cls, ERR_KAFKA);
	ck_assert_msg(strstr(e.text, topic_errors[_i].says) != NULL, "%s", e.text);
	cluster_stop(&k);
}
END_TEST

START_TEST(online_away)
{
	struct cluster k;
	struct config *cfg = cluster_start(&k);
	struct err e = ERR_INIT;
	int64_t began = clock_mono_ms();

	rd_kafka_mock_broker_set_down(k.mock, -1);
	ck_assert_int_eq(kafka_online_check(cfg, 1500, &e), -1);
	ck_assert_int_lt(clock_mono_ms() - began, 6000);
	ck_assert_int_eq(e.cls, ERR_KAFKA);
	ck_assert_msg(strstr(e.text, cfg->kafka_bootstrap_servers) != NULL, "%s", e.text);
	ck_assert_msg(strstr(e.text, "onnect") != NULL, "%s", e.text);
	cluster_stop(&k);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("kafka");
	TCase *t = tcase_create("kafka");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, property_allowed, 0, (int)ARRAY_LEN(allowed));
	tcase_add_loop_test(t, property_refused, 0, (int)ARRAY_LEN(refused));
	tcase_add_test(t, roles);
	tcase_add_test(t, handles);
	tcase_add_loop_test(t, conf_refused, 0, (int)ARRAY_LEN(bad_conf));
	tcase_add_loop_test(t, password_file, 0, (int)ARRAY_LEN(passwords));
	tcase_add_test(t, online_well);
	tcase_add_loop_test(t, online_topic_trouble, 0, (int)ARRAY_LEN(topic_errors));
	tcase_add_test(t, online_away);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
