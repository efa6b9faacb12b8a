/*
 * mockbroker.c - a Kafka broker for tests: hosts librdkafka's mock cluster and obeys lines on standard input.
 *
 *	mockbroker [BROKERS]     prints "READY host:port,..." and answers each line with "OK" or "ERR text"
 *
 * topic NAME PARTITIONS | down N | up N | rtt N MS | topic_error TOPIC CODE | push_errors APIKEY CODE COUNT |
 * clear_errors APIKEY | leader TOPIC PARTITION BROKER | coordinator GROUP BROKER | quit. N -1 means all brokers. The end of
 * standard input ends it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "common/xalloc.h"
#include "common/banned.h"

#define ARGS_MAX 4
#define COUNT_MAX 10000

struct verb {
	const char *name;
	size_t args;
	size_t texts;   /* of them are text, in front; the rest are numbers */
	rd_kafka_resp_err_t (*run)(rd_kafka_mock_cluster_t *, char **text, const long *number);
};

static rd_kafka_resp_err_t
do_topic(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	return rd_kafka_mock_topic_create(m, text[0], (int)number[0], 1);
}

static rd_kafka_resp_err_t
do_down(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	(void)text;
	return rd_kafka_mock_broker_set_down(m, (int32_t)number[0]);
}

static rd_kafka_resp_err_t
do_up(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	(void)text;
	return rd_kafka_mock_broker_set_up(m, (int32_t)number[0]);
}

static rd_kafka_resp_err_t
do_rtt(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	(void)text;
	return rd_kafka_mock_broker_set_rtt(m, (int32_t)number[0], (int)number[1]);
}

static rd_kafka_resp_err_t
do_topic_error(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	rd_kafka_mock_topic_set_error(m, text[0], (rd_kafka_resp_err_t)number[0]);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
do_push_errors(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	rd_kafka_resp_err_t *errs;
	size_t n = (size_t)number[2];

	(void)text;
	if (number[2] < 1 || number[2] > COUNT_MAX)
		return RD_KAFKA_RESP_ERR__INVALID_ARG;
	errs = xcalloc(n, sizeof(*errs));
	for (size_t i = 0; i < n; i++)
		errs[i] = (rd_kafka_resp_err_t)number[1];
	rd_kafka_mock_push_request_errors_array(m, (int16_t)number[0], n, errs);
	free(errs);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
do_leader(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	return rd_kafka_mock_partition_set_leader(m, text[0], (int32_t)number[0], (int32_t)number[1]);
}

static rd_kafka_resp_err_t
do_clear_errors(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	(void)text;
	rd_kafka_mock_clear_request_errors(m, (int16_t)number[0]);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
do_coordinator(rd_kafka_mock_cluster_t *m, char **text, const long *number)
{
	return rd_kafka_mock_coordinator_set(m, "group", text[0], (int32_t)number[0]);
}

static const struct verb verbs[] = {
	{ "topic", 2, 1, do_topic },
	{ "down", 1, 0, do_down },
	{ "up", 1, 0, do_up },
	{ "rtt", 2, 0, do_rtt },
	{ "topic_error", 2, 1, do_topic_error },
	{ "push_errors", 3, 0, do_push_errors },
	{ "clear_errors", 1, 0, do_clear_errors },
	{ "leader", 3, 1, do_leader },
	{ "coordinator", 2, 1, do_coordinator },
};

static size_t
split(char *line, char **word)
{
	char *save = NULL;
	size_t n = 0;

	for (char *w = strtok_r(line, " \t\r\n", &save); w; w = strtok_r(NULL, " \t\r\n", &save)) {
		if (n == ARGS_MAX + 1)
			return n + 1;
		word[n++] = w;
	}
	return n;
}

static const char *
run(rd_kafka_mock_cluster_t *m, const struct verb *v, char **arg)
{
	long number[ARGS_MAX] = { 0 };
	rd_kafka_resp_err_t err;

	for (size_t i = v->texts; i < v->args; i++) {
		char *end;

		errno = 0;
		number[i - v->texts] = strtol(arg[i], &end, 10);
		if (errno || *end || end == arg[i])
			return "a number was expected";
	}
	err = v->run(m, arg, number);
	return err ? rd_kafka_err2str(err) : NULL;
}

static const char *
obey(rd_kafka_mock_cluster_t *m, char **word, size_t n)
{
	for (size_t i = 0; n && i < ARRAY_LEN(verbs); i++)
		if (!strcmp(verbs[i].name, word[0]))
			return n - 1 == verbs[i].args ? run(m, &verbs[i], word + 1) : "wrong number of arguments";
	return "unknown verb";
}

static void
serve(rd_kafka_mock_cluster_t *m)
{
	char line[1024], *word[ARGS_MAX + 1];

	while (fgets(line, sizeof(line), stdin)) {
		size_t n = split(line, word);
		const char *wrong;

		if (n == 1 && !strcmp(word[0], "quit"))
			break;
		wrong = obey(m, word, n);
		if (wrong)
			printf("ERR %s\n", wrong);
		else
			printf("OK\n");
	}
	printf("OK\n");
}

int
main(int argc, char **argv)
{
	long brokers = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_mock_cluster_t *m = NULL;
	char text[256];
	rd_kafka_t *rk;

	setvbuf(stdout, NULL, _IOLBF, 0);
	rd_kafka_conf_set_log_cb(conf, NULL);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
	if (rk && brokers > 0 && brokers < 100)
		m = rd_kafka_mock_cluster_new(rk, (int)brokers);
	if (!m) {
		fprintf(stderr, "mockbroker: cannot start\n");
		return 1;
	}
	printf("READY %s\n", rd_kafka_mock_cluster_bootstraps(m));
	serve(m);
	rd_kafka_mock_cluster_destroy(m);
	rd_kafka_destroy(rk);
	return 0;
}
