/*
 * config_fault.c - what a text must look like to be the value of a setting: topic, address, root,
 * network, name.
 *
 * Called by config_value.c alone, with the kind of check that the setting's row asks for. Knows no
 * setting, reads no file.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_priv.h"
#include "common/egress.h"
#include "common/escape.h"
#include "common/glob.h"
#include "common/job.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

/*
 * What YAML can hold and a log can show: UTF-8 without controls; lines and tabs where several are
 * meant.
 */
const char *
config_text_fault(const char *s, bool lines)
{
	const unsigned char *p = (const unsigned char *)s;

	if (!utf8_valid(s, strlen(s)))
		return "is not valid UTF-8";
	for (; *p; p++) {
		if (lines && (*p == '\n' || *p == '\r' || *p == '\t'))
			continue;
		if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0))
			return "holds a control character";
		if ((*p == 0xef && p[1] == 0xbb && p[2] == 0xbf) ||
		    (*p == 0xef && p[1] == 0xbf && p[2] >= 0xbe))
			return "holds a byte order mark or a code that is no character";
	}
	return NULL;
}

static const char *
topic_fault(const char *s)
{
	if (!strcmp(s, ".") || !strcmp(s, ".."))
		return "is not a topic name: Kafka forbids . and ..";
	for (; *s; s++)
		if (!isascii((unsigned char)*s) ||
		    (!isalnum((unsigned char)*s) && !strchr("._-", *s)))
			return "is not a topic name: letters, digits, \".\", \"_\" and \"-\" only";
	return NULL;
}

static bool
port_ok(const char *s, int64_t least)
{
	int64_t v;

	return units_int(s, &v) == 0 && v >= least && v <= 65535;
}

static bool
host_ok(const char *s, size_t n)
{
	char v6[INET6_ADDRSTRLEN];
	struct in6_addr a;

	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		if (n - 2 >= sizeof(v6))
			return false;
		memcpy(v6, s + 1, n - 2);
		v6[n - 2] = '\0';
		return inet_pton(AF_INET6, v6, &a) == 1;
	}
	for (size_t i = 0; i < n; i++)
		if (!isascii((unsigned char)s[i]) ||
		    (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i])))
			return false;
	return n > 0 && n <= 253;
}

static const char *
listen_fault(const char *s)
{
	const char *colon = strrchr(s, ':');

	if (!colon || !host_ok(s, (size_t)(colon - s)))
		return "is not host:port (like 127.0.0.1:7093 or [::1]:7093)";
	if (!port_ok(colon + 1, 0))
		return "has no port from 0 to 65535 behind its \":\"";
	return NULL;
}

/* host, host:port or protocol://host:port, which librdkafka takes too */
static bool
broker_ok(char *s)
{
	char *proto = strstr(s, "://"), *colon, *end;

	if (proto)
		s = proto + 3;
	end = s + strlen(s);
	colon = strrchr(s, ':');
	if (colon && *s == '[' && end[-1] == ']')
		colon = NULL;
	if (colon && !port_ok(colon + 1, 1))
		return false;
	return host_ok(s, (size_t)((colon ? colon : end) - s));
}

static const char *
brokers_fault(const char *s)
{
	const char *fault = NULL;
	char *copy = xstrdup(s), *rest = copy, *one;

	while (!fault && (one = strsep(&rest, ","))) {
		one += strspn(one, " ");
		one[strcspn(one, " ")] = '\0';
		if (!broker_ok(one))
			fault = "is not a list of host:port, comma separated";
	}
	free(copy);
	return fault;
}

static const char *
group_fault(const char *s)
{
	for (; *s; s++)
		if (isspace((unsigned char)*s) || strchr(":,/", *s))
			return "is not the name of a group";
	return NULL;
}

/*
 * Absolute, without "//", "/./", "/../" or an ending "/": what is compared must have one spelling.
 */
static const char *
root_fault(const char *s)
{
	if (*s != '/')
		return "is not an absolute path";
	if (!s[1])
		return NULL;
	while (*s) {
		size_t n = strcspn(++s, "/");

		if (!n || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return "is not normalised (no \"//\", \".\", \"..\" or ending \"/\")";
		s += n;
	}
	return NULL;
}

/* A name, an address or a pattern of either: what is compared with a server's host name. */
static int
host_pattern(const char *s, struct buf *why)
{
	struct egress_net net;
	struct err e = ERR_INIT;
	struct glob *g;

	if (strchr(s, '/')) {
		if (!egress_net_parse(s, &net, &e))
			return 0;
		buf_puts(why, e.text);
		return -1;
	}
	g = glob_new(s, strlen(s), true, &e);
	if (!g) {
		config_quote(why, s);
		buf_printf(why, " is not a pattern: %s", e.text);
		return -1;
	}
	glob_free(g);
	return 0;
}

static int
pattern(const char *s, struct buf *why)
{
	struct err e = ERR_INIT;
	struct glob *g = glob_new(s, strlen(s), false, &e);

	if (!g) {
		config_quote(why, s);
		buf_printf(why, " is not a pattern: %s", e.text);
		return -1;
	}
	glob_free(g);
	return 0;
}

static int
network(const char *s, struct buf *why)
{
	struct egress_net net;
	struct err e = ERR_INIT;

	if (!egress_net_parse(s, &net, &e))
		return 0;
	buf_puts(why, e.text);
	return -1;
}

/* "*": all of them */
static int
source_name(const char *s, struct buf *why)
{
	const char *names[SOURCE__MAX];
	const char *near;

	for (int i = 0; i < SOURCE__MAX; i++) {
		names[i] = source_rows[i].name;
		if (!strcmp(s, names[i]) || !strcmp(s, "*"))
			return 0;
	}
	config_quote(why, s);
	buf_puts(why, " is not a source type: ");
	for (int i = 0; i < SOURCE__MAX; i++)
		buf_printf(why, "%s%s", i ? ", " : "", names[i]);
	near = config_nearest(s, names, SOURCE__MAX);
	if (near)
		buf_printf(why, " (did you mean %s?)", near);
	return -1;
}

static const char *
name_fault(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return s[n] ? "is not a name: letters, digits, \".\", \"_\" and \"-\" only" : NULL;
}

static int
port_span(const char *s, struct buf *why)
{
	struct egress_span span;
	struct err e = ERR_INIT;

	if (!egress_span_parse(s, &span, &e))
		return 0;
	buf_puts(why, e.text);
	return -1;
}

int
config_fault(enum config_check check, const char *s, struct buf *why)
{
	const char *fault = NULL;

	switch (check) {
	case CONFIG_CHECK_NONE:
		return 0;
	case CONFIG_CHECK_TOPIC:
		fault = topic_fault(s);
		break;
	case CONFIG_CHECK_LISTEN:
		fault = listen_fault(s);
		break;
	case CONFIG_CHECK_BROKERS:
		fault = brokers_fault(s);
		break;
	case CONFIG_CHECK_GROUP:
		fault = group_fault(s);
		break;
	case CONFIG_CHECK_ROOT:
		fault = root_fault(s);
		break;
	case CONFIG_CHECK_NAME:
		fault = name_fault(s);
		break;
	case CONFIG_CHECK_NETWORK:
		return network(s, why);
	case CONFIG_CHECK_PORT:
		return port_span(s, why);
	case CONFIG_CHECK_SCHEME:
		fault = egress_scheme_by_name(s, strlen(s)) < 0 ? "is not one of http, https, ftp, ftps, sftp" : NULL;
		break;
	case CONFIG_CHECK_HOST:
		return host_pattern(s, why);
	case CONFIG_CHECK_PATTERN:
		return pattern(s, why);
	case CONFIG_CHECK_SOURCE:
		return source_name(s, why);
	}
	if (!fault)
		return 0;
	config_quote(why, s);
	buf_printf(why, " %s", fault);
	return -1;
}
