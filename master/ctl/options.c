/*
 * options.c - the command line of iis-pollerctl, its settings, and the run of one verb. Called by main.c only.
 *
 * Options of every verb may stand anywhere, those of a verb after it. Returns exit codes, never exits.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

extern char **environ;

int
ctl_fail(struct ctl *c, int code, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fputs("iis-pollerctl", c->err);
	if (c->verb >= 0)
		fprintf(c->err, " %s", ctl_cmds[c->verb].name);
	fputs(": ", c->err);
	out_term(c->err, text, strlen(text));
	putc('\n', c->err);
	return code;
}

/* ---- parsing --------------------------------------------------------------------------------------------------------- */

static int
give(struct ctl *c, const struct ctl_opt *o, const char *value, struct err *e)
{
	if (c->n_given == CTL_GIVEN_MAX)
		return err_set(e, ERR_CONFIG, "more than %d options", CTL_GIVEN_MAX);
	c->given[c->n_given].opt = o;
	c->given[c->n_given++].value = value;
	return 0;
}

static int
unknown(const struct ctl *c, const char *word, struct err *e)
{
	const char *names[128], *near;
	size_t n = 0;

	for (size_t i = 0; i < ctl_n_opts && n < ARRAY_LEN(names); i++)
		if (ctl_opts[i].name && ctl_find_opt(c->verb, ctl_opts[i].name, strlen(ctl_opts[i].name)) == &ctl_opts[i])
			names[n++] = ctl_opts[i].name;
	near = !strncmp(word, "--", 2) ? config_nearest(word + 2, names, n) : NULL;
	if (near)
		return err_set(e, ERR_CONFIG, "unknown option %s (did you mean --%s?)", word, near);
	return err_set(e, ERR_CONFIG, "unknown option %s%s", word,
	    c->verb < 0 ? " (options of a verb stand behind it)" : "");
}

/* "--name", "--name=value": words used, or -1. */
static int
long_option(struct ctl *c, const char *word, const char *next, struct err *e)
{
	const char *name = word + 2, *eq = strchr(name, '=');
	const struct ctl_opt *o = ctl_find_opt(c->verb, name, eq ? (size_t)(eq - name) : strlen(name));

	if (!o)
		return unknown(c, word, e);
	if (!*o->arg)
		return eq ? err_set(e, ERR_CONFIG, "--%s takes no value", o->name) : give(c, o, "", e) < 0 ? -1 : 1;
	if (!eq && !next)
		return err_set(e, ERR_CONFIG, "--%s wants a value: %s", o->name, o->arg);
	return give(c, o, eq ? eq + 1 : next, e) < 0 ? -1 : eq ? 1 : 2;
}

/* "-fn10", "-n 10": words used, or -1. */
static int
short_options(struct ctl *c, const char *word, const char *next, struct err *e)
{
	for (const char *p = word + 1; *p; p++) {
		const struct ctl_opt *o = ctl_find_letter(c->verb, *p);

		if (!o)
			return unknown(c, word, e);
		if (!*o->arg) {
			if (give(c, o, "", e) < 0)
				return -1;
			continue;
		}
		if (!p[1] && !next)
			return err_set(e, ERR_CONFIG, "-%c wants a value: %s", *p, o->arg);
		return give(c, o, p[1] ? p + 1 : next, e) < 0 ? -1 : p[1] ? 1 : 2;
	}
	return 1;
}

/* A word that is no option: the verb, or an argument of it. Words used, or -1. */
static int
plain_word(struct ctl *c, char *const *argv, size_t left, struct err *e)
{
	size_t used = 1;

	if (c->verb < 0) {
		c->verb = ctl_find(argv, left, &used);
		if (c->verb < 0) {
			const char *near = ctl_nearest(argv[0]);

			return err_set(e, ERR_CONFIG, near ? "unknown verb %s (did you mean %s?)" : "unknown verb %s", argv[0], near);
		}
		return (int)used;
	}
	if (c->n_args == ctl_cmds[c->verb].max || c->n_args == CTL_ARGS_MAX)
		return err_set(e, ERR_CONFIG, "one argument too many: %s", argv[0]);
	c->arg[c->n_args++] = argv[0];
	return 1;
}

int
ctl_parse(struct ctl *c, int argc, char *const *argv, struct err *e)
{
	bool only_words = false;
	int used;

	c->verb = -1;
	for (int i = 1; i < argc; i += used) {
		const char *w = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;

		used = 1;
		if (!only_words && !strcmp(w, "--"))
			only_words = true;
		else if (only_words || *w != '-' || !w[1])
			used = plain_word(c, argv + i, (size_t)(argc - i), e);
		else
			used = w[1] == '-' ? long_option(c, w, next, e) : short_options(c, w, next, e);
		if (used < 0)
			return -1;
	}
	return 0;
}

const char *
ctl_opt_nth(const struct ctl *c, const char *name, size_t i)
{
	const struct ctl_opt *o = ctl_find_opt(c->verb, name, strlen(name));

	for (size_t g = 0; g < c->n_given; g++)
		if (c->given[g].opt == o && !i--)
			return c->given[g].value;
	return NULL;
}

const char *
ctl_opt(const struct ctl *c, const char *name)
{
	const struct ctl_opt *o = ctl_find_opt(c->verb, name, strlen(name));

	for (size_t g = c->n_given; o && g > 0; g--)
		if (c->given[g - 1].opt == o)
			return c->given[g - 1].value;
	return NULL;
}

int
ctl_opt_int(struct ctl *c, const char *name, int64_t min, int64_t max, int64_t *v)
{
	const char *s = ctl_opt(c, name);
	int64_t n;

	if (!s)
		return 0;
	if (units_int(s, &n) < 0 || n < min || n > max) {
		ctl_fail(c, EX_USAGE, "--%s: %s is not a number from %lld to %lld", name, s, (long long)min, (long long)max);
		return -1;
	}
	*v = n;
	return 0;
}

int
ctl_opt_ms(struct ctl *c, const char *name, int64_t *v)
{
	const char *s = ctl_opt(c, name);
	int64_t ms;

	if (!s)
		return 0;
	if (units_duration(s, &ms) < 0 || ms < 1 || ms > INT64_C(86400000)) {
		ctl_fail(c, EX_USAGE, "--%s: %s is not a time like 500ms, 30s or 5m (at most 24h)", name, s);
		return -1;
	}
	*v = ms;
	return 0;
}

/* ---- settings ---------------------------------------------------------------------------------------------------------- */

static int
gather_settings(struct ctl *c)
{
	const struct ctl_opt *set = ctl_find_opt(-1, "set", 3);
	const char *socket = ctl_opt(c, "socket"), *brokers = ctl_opt(c, "bootstrap");

	for (size_t g = 0; g < c->n_given; g++) {
		if (c->given[g].opt != set)
			continue;
		if (c->n_settings == CTL_SETTINGS_MAX)
			return ctl_fail(c, EX_USAGE, "more than %d settings: put them into a file", CTL_SETTINGS_MAX);
		c->settings[c->n_settings++] = xstrdup(c->given[g].value);
	}
	if (socket)
		c->settings[c->n_settings++] = xasprintf("control.socket=%s", socket);
	if (brokers)
		c->settings[c->n_settings++] = xasprintf("kafka.bootstrap_servers=%s", brokers);
	return 0;
}

/* For a question to the daemon only control.socket counts: a mistake elsewhere must not keep an operator from asking. */
static int
settings_wrong(struct ctl *c)
{
	bool daemon = ctl_cmds[c->verb].needs == CTL_DAEMON && !ctl_opt(c, "local");

	for (size_t i = 0; i < c->set.n_errors; i++)
		if (!strcmp(c->set.errors[i].file, "command line") || strstr(c->set.errors[i].text, "control.socket"))
			daemon = false;
	if (!daemon) {
		config_print_errors(&c->set, c->err);
		return EX_CONFIG;
	}
	ctl_fail(c, 0, "the configuration has mistakes ('iis-pollerd -t' shows them); asking on %s", c->cfg->control_socket);
	return 0;
}

static int
load_settings(struct ctl *c)
{
	struct config_args args = {
		.file = ctl_opt(c, "config"), .settings = (const char *const *)c->settings, .environ_ = environ,
		.property_check = kafka_property_check,
	};
	int rc = gather_settings(c);

	if (rc)
		return rc;
	c->cfg = &c->set.c;
	c->loaded = true;
	/* Who may read the socket need not be allowed to read the daemon's settings. */
	if (!args.file && access(CONFIG_FILE, R_OK) < 0 && errno == EACCES) {
		ctl_fail(c, 0, "%s: not readable to you; using defaults, environment and options", CONFIG_FILE);
		rc = config_load_text(&c->set, CONFIG_FILE, "", 0, &args);
	} else {
		rc = config_load(&c->set, &args);
	}
	return rc < 0 ? settings_wrong(c) : 0;
}

/* ---- the run ------------------------------------------------------------------------------------------------------------- */

static bool
is_terminal(FILE *f)
{
	const char *term = getenv("TERM");

	return isatty(fileno(f)) && term && strcmp(term, "dumb");
}

static int
print_help(struct ctl *c)
{
	struct buf b = BUF_INIT;

	if (ctl_opt(c, "version"))
		buf_printf(&b, "iis-pollerctl %s (build %s, librdkafka %s)\n", VERSION, ipc_build_id, rd_kafka_version_str());
	else if (c->verb >= 0)
		ctl_help((enum ctl_verb)c->verb, &b);
	else
		ctl_usage(&b);
	return out_buf(c, &b) < 0 ? EX_IOERR : 0;
}

static int
run_verb(struct ctl *c)
{
	const struct ctl_cmd *cmd = &ctl_cmds[c->verb];
	int rc;

	if (c->n_args < cmd->min)
		return ctl_fail(c, EX_USAGE, "an argument is missing: %s", cmd->args);
	if (cmd->needs != CTL_NONE && (rc = load_settings(c)))
		return rc;
	rc = cmd->run(c);
	if (fflush(c->out) && rc == 0)
		rc = EX_IOERR;
	return rc;
}

int
ctl_main(int argc, char **argv)
{
	static struct ctl c;
	struct err e = ERR_INIT;
	int rc;

	c.out = stdout;
	c.err = stderr;
	c.colour = is_terminal(stdout) && !getenv("NO_COLOR");
	c.progress = is_terminal(stderr);
	/* A closed pipe is seen at the write; libraries that write must not die of it. */
	signal(SIGPIPE, SIG_IGN);
	if (ctl_parse(&c, argc, argv, &e) < 0) {
		ctl_fail(&c, EX_USAGE, "%s", e.text);
		fprintf(stderr, "Try 'iis-pollerctl %s%s--help'.\n", c.verb < 0 ? "" : ctl_cmds[c.verb].name, c.verb < 0 ? "" : " ");
		return EX_USAGE;
	}
	c.json = ctl_opt(&c, "json") != NULL;
	if (ctl_opt(&c, "help") || ctl_opt(&c, "version")) {
		rc = print_help(&c);
	} else if (c.verb < 0) {
		struct buf b = BUF_INIT;

		ctl_usage(&b);
		fputs(buf_str(&b), stderr);
		buf_release(&b);
		rc = EX_USAGE;
	} else {
		rc = run_verb(&c);
	}
	if (c.loaded)
		config_set_release(&c.set);
	for (size_t i = 0; i < c.n_settings; i++)
		free(c.settings[i]);
	return rc;
}
