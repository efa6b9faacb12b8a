/*
 * demo_run.c - iis-pollerd --demo: a poller that needs nothing: embedded broker, temporary state, settings fit for a trial.
 *
 * Called by main.c. Overrides only what neither file nor environment nor command line has set. What it makes on disk is
 * one directory, removed at the end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

static bool
is_default(const struct master *m, enum config_id id)
{
	const char *from = m->set.origin[id].file;

	return !from || !strcmp(from, "default");
}

/* The origin is told by -T's like: `iis-pollerctl config` must not call it a default. */
static void
from_demo(struct master *m, enum config_id id)
{
	free(m->set.origin[id].file);
	m->set.origin[id].file = xstrdup("--demo");
	m->set.origin[id].line = 0;
}

static void
set_text(struct master *m, enum config_id id, char **field, char *value)
{
	free(*field);
	*field = value;
	from_demo(m, id);
}

static bool
port_is_free(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	bool ok;

	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ok = bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	return ok;
}

static void
property(struct config *c, const char *name, const char *value)
{
	strlist_add(&c->kafka_properties.k, name);
	strlist_add(&c->kafka_properties.v, value);
}

/* The embedded broker answers an empty fetch late and keeps a lost member for the whole session timeout. */
static void
suit_broker(struct master *m)
{
	if (is_default(m, CONFIG_kafka_session_timeout)) {
		m->cfg->kafka_session_timeout = 6000;
		from_demo(m, CONFIG_kafka_session_timeout);
	}
	if (!is_default(m, CONFIG_kafka_properties))
		return;
	property(m->cfg, "fetch.wait.max.ms", "20");
	from_demo(m, CONFIG_kafka_properties);
}

int
demo_prepare(struct master *m, char **dir, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	char *path = xasprintf("%s/iis-poller-demo.XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");

	if (!mkdtemp(path)) {
		err_errno(e, ERR_SYSTEM, "cannot make a directory for the demo (%s)", path);
		free(path);
		return -1;
	}
	*dir = path;
	suit_broker(m);
	m->demo_broker = demo_start(m->cfg, e);
	if (!m->demo_broker)
		return -1;
	set_text(m, CONFIG_kafka_bootstrap_servers, &m->cfg->kafka_bootstrap_servers, xstrdup(demo_bootstrap(m->demo_broker)));
	if (is_default(m, CONFIG_state_dir))
		set_text(m, CONFIG_state_dir, &m->cfg->state_dir, xstrdup(path));
	if (is_default(m, CONFIG_control_socket))
		set_text(m, CONFIG_control_socket, &m->cfg->control_socket, xasprintf("%s/control.sock", path));
	if (is_default(m, CONFIG_http_listen) && !port_is_free(7093))
		set_text(m, CONFIG_http_listen, &m->cfg->http_listen, xstrdup("127.0.0.1:0"));
	return 0;
}

void
demo_greet(const struct master *m)
{
	printf("iis-pollerd --demo: an embedded broker, gone with this process. Dummy files: %s\n"
	    "bootstrap  %s\n"
	    "status     %s\n"
	    "socket     %s\n"
	    "In another terminal:\n"
	    "  export KAFKA_BOOTSTRAP_SERVERS=%s IIS_POLLER_CONTROL_SOCKET=%s\n"
	    "  iis-pollerctl push --type dummy --path ./dummy_data --pattern '*.csv'\n"
	    "  iis-pollerctl peek events -f\n"
	    "  kcat -b %s -C -t %s -o beginning -e\n"
	    "Control-C ends it.\n",
	    m->cfg->dummy_path, m->cfg->kafka_bootstrap_servers, m->httpd ? httpd_url(m->httpd) : "off", m->cfg->control_socket,
	    m->cfg->kafka_bootstrap_servers, m->cfg->control_socket, m->cfg->kafka_bootstrap_servers, m->cfg->topic_events);
	fflush(stdout);
}

void
demo_dir_remove(const char *dir)
{
	static const char *const names[] = { "journal", "control.sock" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path = xasprintf("%s/%s", dir, names[i]);

		unlink(path);
		free(path);
	}
	if (rmdir(dir) < 0 && errno != ENOENT)
		LOG(LOG_WARN, "demo_dir_left", LS("path", dir), LS("error", strerror(errno)));
}
