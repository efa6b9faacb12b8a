/*
 * options.c - the command line of iis-pollerd, and the runs that end without serving. Called by main.c only; returns
 * exit codes, never exits.
 */
#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <json-c/json_c_version.h>

#include "common/ipc.h"
#include "common/xalloc.h"
#include "master/kafka.h"
#include "master/options.h"
#include "common/banned.h"

static const char help[] =
    "Usage: iis-pollerd [-c FILE] [-o SECTION.KEY=VALUE]... [-t [--online] | -T | --demo]\n"
    "Takes polling jobs from Kafka, lists their sources, publishes an event for each file.\n"
    "\n"
    "  -c, --config FILE     read FILE instead of " CONFIG_FILE "\n"
    "  -o, --set KEY=VALUE   set one setting; wins over file and environment\n"
    "  -t, --test            check the configuration and end: 0 good, 78 not\n"
    "      --online          with -t: ask the brokers and topics too; 69 when they do not answer\n"
    "  -T, --dump            print the configuration in force, and where each value is from\n"
    "      --demo            run with an embedded broker, without Kafka or a configuration file\n"
    "  -h, --help            this text\n"
    "      --version         one line\n"
    "  -V                    version, build and libraries\n"
    "\n"
    "Stays in the foreground and logs to standard error. SIGTERM drains, SIGHUP reloads, SIGUSR1 reopens the log.\n"
    "Manuals: iis-pollerd(8), iis-poller.yaml(5), iis-poller-job(5), iis-pollerctl(8).\n";

static void
libraries(void)
{
	printf("iis-pollerd %s\nbuild        %s\nlibrdkafka   %s (built with %08x)\njson-c       %s (built with %s)\n", VERSION, ipc_build_id,
	    rd_kafka_version_str(), (unsigned)RD_KAFKA_VERSION, json_c_version(), JSON_C_VERSION);
}

static int
usage(const char *why, const char *what)
{
	fprintf(stderr, "iis-pollerd: %s%s\nTry 'iis-pollerd --help'.\n", why, what);
	return EX_USAGE;
}

int
options_parse(struct options *o, int argc, char **argv)
{
	enum { ONLINE = 256, DEMO, VERSION_ONLY };
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' }, { "set", required_argument, NULL, 'o' }, { "test", no_argument, NULL, 't' },
		{ "online", no_argument, NULL, ONLINE }, { "dump", no_argument, NULL, 'T' }, { "demo", no_argument, NULL, DEMO },
		{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, VERSION_ONLY }, { NULL, 0, NULL, 0 },
	};
	size_t n = 0;
	int c;

	memset(o, 0, sizeof(*o));
	while ((c = getopt_long(argc, argv, "c:o:tThV", longs, NULL)) != -1) {
		switch (c) {
		case 'c': o->file = optarg; break;
		case 'o':
			if (n == OPTIONS_SETTINGS_MAX)
				return usage("too many -o: put the settings into a file", "");
			o->settings[n++] = optarg;
			break;
		case 't': o->test = true; break;
		case ONLINE: o->online = true; break;
		case 'T': o->dump = true; break;
		case DEMO: o->demo = true; break;
		case 'h': fputs(help, stdout); return EX_OK;
		case VERSION_ONLY: printf("iis-pollerd %s\n", VERSION); return EX_OK;
		case 'V': libraries(); return EX_OK;
		default: return usage("the option above is not right", "");
		}
	}
	if (optind < argc)
		return usage("takes no argument: ", argv[optind]);
	if (o->online && !o->test)
		return usage("--online goes with -t", "");
	if (o->test + o->dump + o->demo > 1)
		return usage("-t, -T and --demo exclude one another", "");
	return -1;
}

char *
options_libexec(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n <= 0)
		return xstrdup(".");
	path[n] = '\0';
	return xstrdup(dirname(path));
}

int
options_test(const struct config_set *set, bool online)
{
	struct err e = ERR_INIT;

	if (!online) {
		printf("iis-pollerd: the configuration is good\n");
		return EX_OK;
	}
	if (kafka_online_check(&set->c, 10000, &e) < 0) {
		fprintf(stderr, "iis-pollerd: the configuration is good, but: %s\n", e.text);
		return EX_UNAVAILABLE;
	}
	printf("iis-pollerd: the configuration is good, brokers and topics answer\n");
	return EX_OK;
}

int
options_dump(const struct config_set *set)
{
	struct buf b = BUF_INIT;
	int ok;

	config_print(set, false, &b);
	ok = fwrite(b.p, 1, b.len, stdout) == b.len && fflush(stdout) == 0;
	buf_release(&b);
	return ok ? EX_OK : EX_IOERR;
}
