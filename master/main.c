/*
 * main.c - iis-pollerd: reads options and settings, opens the rooms, runs the loop, closes the rooms in order.
 *
 * The only file of the master that exits. Signals arrive by signalfd: TERM and INT drain (the second ends at once), HUP
 * reloads, USR1 reopens the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/units.h"
#include "common/xalloc.h"
#include "master/kafka.h"
#include "master/master.h"
#include "master/options.h"
#include "common/banned.h"

#define TICK_MS 200
#define LEAVE_MS 1000            /* for leaving the group, once the drain deadline has passed */

static struct {
	struct watch *w_signal;
	int signal_fd, pid_fd;
	struct timer tick, wake, drain;
	int64_t tick_ms;            /* when the last tick was due */
	double stall, stall_before; /* longest late tick of this minute and of the last */
	int64_t stall_since;
	char why[512];              /* the last reason not to be ready */
	bool ready, hard, drained, leaving, drain_over;
	char *demo_dir;
	struct buf status;          /* last text given to systemd */
} run = { .signal_fd = -1, .pid_fd = -1, .status = BUF_INIT };

static void
out_of_memory(size_t wanted)
{
	dprintf(STDERR_FILENO, "iis-pollerd: out of memory (%zu bytes wanted)\n", wanted);
	_exit(EX_OSERR);
}

/* ---- readiness ----------------------------------------------------------------------------------------------------- */

const char *
master_not_ready(const struct master *m)
{
	const char *why;

	if (m->phase == MASTER_STARTING)
		return "starting";
	if (m->phase != MASTER_RUNNING)
		return "draining: the poller is being stopped";
	if (pool_broken(m->pool))
		return "workers refuse to run: see worker_config_error in the log, then restart iis-pollerd";
	if (!pool_sound(m->pool))
		return "no worker is ready: see worker_died in the log or 'iis-pollerctl crashes'";
	if (m->broker && broker_failing(m->broker))
		return "the connector does not start: see connector_died in the log";
	if ((why = consumer_trouble(m->consumer)))
		return why;
	if (!consumer_joined(m->consumer))
		return "the consumer group has not given this poller its partitions yet";
	if ((why = publisher_trouble(m->publisher)))
		return why;
	if ((why = deferred_trouble(m->deferred)))
		return why;
	return NULL;
}

static void
tell_systemd(struct master *m, const char *why)
{
	struct buf b = BUF_INIT;

	buf_printf(&b, "STATUS=%s; %zu of %zu worker%s busy, %zu job%s", why ? why : "ready",
	    pool_in_state(m->pool, WORKER_BUSY), pool_size(m->pool), units_s((long long)pool_size(m->pool)), jobs_count(m->jobs),
	    units_s((long long)jobs_count(m->jobs)));
	if (strcmp(buf_str(&b), buf_str(&run.status))) {
		notify_send(buf_str(&b));
		buf_clear(&run.status);
		buf_add(&run.status, b.p, b.len);
	}
	buf_release(&b);
}

static void
watch_readiness(struct master *m)
{
	const char *why = master_not_ready(m);

	/* Another reason is news, too. */
	if (!why != run.ready || (why && strcmp(why, run.why))) {
		run.ready = !why;
		snprintf(run.why, sizeof(run.why), "%s", why ? why : "");
		if (m->httpd)
			httpd_refresh(m->httpd);
		if (why)
			LOG(LOG_WARN, "not_ready", LS("reason", why));
		else
			LOG(LOG_INFO, "ready", LI("workers", pool_size(m->pool)));
	}
	tell_systemd(m, why);
}

/* ---- stopping -------------------------------------------------------------------------------------------------------- */

static bool
work_left(const struct master *m)
{
	if (publish_outstanding(m->publisher))
		return true;
	for (size_t i = 0; i < pool_size(m->pool); i++)
		if (pool_slot(m->pool, i)->task)
			return true;
	for (struct jobrec *rec = jobs_first(m->jobs); rec; rec = TAILQ_NEXT(rec, entry))
		if (rec->finishing)
			return true;
	return false;
}

/* The steps of a stop, each begun when the one before it is over; called after every round. */
static void
stop_step(struct master *m)
{
	if (!run.drained && (run.drain_over || !work_left(m))) {
		run.drained = true;
		consumer_close(m->consumer);
		pool_stop(m->pool, run.drain_over);
		if (m->httpd)
			httpd_stop(m->httpd);
		if (m->broker)
			broker_stop(m->broker);
		timer_set(m->loop, &run.drain, run.drain_over ? LEAVE_MS : m->cfg->timeout_drain + LEAVE_MS);
	}
	if (run.hard || (run.drained && consumer_closed(m->consumer) && pool_empty(m->pool) && (!m->httpd || httpd_empty(m->httpd)) &&
	    (!m->broker || broker_empty(m->broker)))) {
		m->phase = MASTER_STOPPED;
		loop_stop(m->loop);
	}
}

static void
on_drain_deadline(void *arg)
{
	struct master *m = arg;

	if (run.drained) {
		run.hard = true;    /* leaving the group or ending the children takes too long: the sockets close with us */
		return;
	}
	LOG(LOG_WARN, "drain_deadline", LI("jobs", jobs_count(m->jobs)), LI("records", publish_outstanding(m->publisher)),
	    LS("todo", "nothing is lost: jobs that had not ended are done again after the next start"));
	run.drain_over = true;
}

void
master_stop(struct master *m, const char *why)
{
	if (m->phase == MASTER_DRAINING) {
		LOG(LOG_WARN, "stopping_hard", LS("why", why), LI("jobs", jobs_count(m->jobs)));
		run.hard = true;
		return;
	}
	LOG(LOG_INFO, "draining", LS("why", why), LI("jobs", jobs_count(m->jobs)), LI("deadline_ms", m->cfg->timeout_drain));
	notify_send("STOPPING=1");
	m->phase = MASTER_DRAINING;
	consumer_stop(m->consumer);
	timer_set(m->loop, &run.drain, m->cfg->timeout_drain);
}

/* ---- settings ---------------------------------------------------------------------------------------------------------- */

/* A relative dummy path means the directory we were started in, also after a reload. */
static int
settle_paths(struct config *c, struct err *e)
{
	char *cwd = getcwd(NULL, 0), *path;

	path = path_normalise(c->dummy_path, cwd ? cwd : "/", e);
	free(cwd);
	if (!path)
		return -1;
	free(c->dummy_path);
	c->dummy_path = path;
	return 0;
}

static int
apply_log(const struct config *c, struct err *e)
{
	/* What can fail comes first: a refused configuration changes nothing. */
	if (log_open(*c->log_file ? c->log_file : NULL) < 0)
		return err_errno(e, ERR_CONFIG, "log.file: cannot open %s", c->log_file);
	log_set_level((enum log_level)c->log_level);
	log_set_format((enum log_format)c->log_format);
	log_set_rate((unsigned)c->log_rate);
	return 0;
}

static void
log_config_errors(const struct config_set *set)
{
	for (size_t i = 0; i < set->n_errors; i++)
		LOG(LOG_ERROR, "config_error", LS("file", set->errors[i].file), LI("line", set->errors[i].line),
		    LI("column", set->errors[i].column), LS("error", set->errors[i].text));
}

static bool
lists_differ(const struct strlist *a, const struct strlist *b)
{
	if (a->n != b->n)
		return true;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]))
			return true;
	return false;
}

/* What pool.c tells workers in SETUP: those that know the old values serve no further task. */
static bool
setup_differs(const struct config *a, const struct config *b)
{
	return a->dummy_faults != b->dummy_faults || strcmp(a->dummy_path, b->dummy_path) ||
	    a->network_keep != b->network_keep || lists_differ(&a->local_roots, &b->local_roots) ||
	    lists_differ(&a->egress_allow, &b->egress_allow) || lists_differ(&a->egress_deny, &b->egress_deny) ||
	    lists_differ(&a->egress_only, &b->egress_only) || lists_differ(&a->egress_ports, &b->egress_ports) ||
	    lists_differ(&a->egress_schemes, &b->egress_schemes) ||
	    /* with whom a tenant may share a worker */
	    !config_table_same(a, b, CONFIG_TABLE_TENANTS);
}

static int
reload(struct master *m, struct err *e)
{
	struct config_set fresh;
	struct buf names = BUF_INIT;
	bool limits_changed;
	int ret = -1;

	memset(&fresh, 0, sizeof(fresh));
	if (config_load(&fresh, &m->args) < 0) {
		log_config_errors(&fresh);
		err_set(e, ERR_CONFIG, "%s:%d:%d: %s", fresh.errors[0].file, fresh.errors[0].line, fresh.errors[0].column, fresh.errors[0].text);
		goto out;
	}
	if (settle_paths(&fresh.c, e) < 0 || apply_log(&fresh.c, e) < 0)
		goto out;
	if (setup_differs(&m->set.c, &fresh.c))
		m->setup_generation++;
	if (!m->demo && config_restart_needed(&m->set.c, &fresh.c, &names))
		LOG(LOG_WARN, "config_restart_needed", LS("settings", buf_str(&names)));
	limits_changed = !config_table_same(&m->set.c, &fresh.c, CONFIG_TABLE_TENANTS);
	config_take_reloadable(&m->set, &fresh);
	m->config_generation++;
	pool_refresh(m->pool);
	jobs_reloaded(m->jobs);
	endpoints_reloaded(m);
	keyring_reloaded(m->keyring);
	hostkeys_reloaded(m->hostkeys);
	tenants_reloaded(m);
	rates_reloaded(m);
	if (limits_changed)
		deferred_quotas_changed(m->deferred);
	ret = 0;
out:
	buf_release(&names);
	config_set_release(&fresh);
	return ret;
}

int
master_reload(struct master *m, struct err *e)
{
	int ret;

	notify_send("RELOADING=1");
	ret = reload(m, e);
	m->last_reload_ns = clock_real_ns();
	m->last_reload_ok = ret == 0;
	if (ret == 0)
		LOG(LOG_INFO, "config_reloaded", LI("generation", m->config_generation));
	else
		LOG(LOG_ERROR, "config_reload_failed", LS("error", e->text), LS("todo", "the old configuration stays in force; 'iis-pollerd -t' shows all errors"));
	notify_send("READY=1");
	return ret;
}

/* ---- signals and time ----------------------------------------------------------------------------------------------------- */

static void
on_signal(void *arg, int fd, uint32_t events)
{
	struct master *m = arg;
	struct signalfd_siginfo si;
	struct err e = ERR_INIT;

	(void)events;
	while (read(fd, &si, sizeof(si)) == sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGTERM:
		case SIGINT:
			master_stop(m, si.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
			break;
		case SIGHUP:
			master_reload(m, &e);
			break;
		case SIGUSR1:
			if (apply_log(m->cfg, &e) < 0)
				LOG(LOG_ERROR, "log_reopen_failed", LS("error", e.text));
			else
				LOG0(LOG_INFO, "log_reopened");
			break;
		}
	}
}

static void
measure_stall(struct master *m)
{
	int64_t now = loop_now(m->loop);
	double late = (double)(now - run.tick_ms) / 1000;

	if (late > run.stall)
		run.stall = late;
	if (now - run.stall_since >= 60000) {
		run.stall_since = now;
		run.stall_before = run.stall;
		run.stall = 0;
	}
	metric_set(METRIC_LOOP_STALL, run.stall > run.stall_before ? run.stall : run.stall_before, NULL, NULL);
}

static void
on_tick(void *arg)
{
	struct master *m = arg;
	static int64_t watchdog_ms;

	measure_stall(m);
	log_tick();
	watch_readiness(m);
	if (notify_watchdog_ms() && loop_now(m->loop) - watchdog_ms >= notify_watchdog_ms()) {
		watchdog_ms = loop_now(m->loop);
		notify_send("WATCHDOG=1");
	}
	run.tick_ms = loop_now(m->loop) + TICK_MS;
	timer_set(m->loop, &run.tick, TICK_MS);
}

static void
on_wake(void *arg)
{
	(void)arg;      /* the round itself is the purpose */
}

static void
after_round(void *arg)
{
	struct master *m = arg;

	dispatch_run(m);
	if (m->phase == MASTER_DRAINING)
		stop_step(m);
	if (dispatch_reading(m) && !timer_armed(&run.wake))
		timer_set(m->loop, &run.wake, 0);
}

static int
watch_signals(struct master *m, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	/* Before librdkafka's threads exist, so that they inherit the mask. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Inherited as ignored it would have the kernel reap our children, and us wait for them for ever. */
	signal(SIGCHLD, SIG_DFL);
	run.signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (run.signal_fd < 0)
		return err_errno(e, ERR_SYSTEM, "cannot watch signals");
	run.w_signal = loop_watch(m->loop, run.signal_fd, EPOLLIN, on_signal, m);
	return 0;
}

/* ---- opening the rooms ------------------------------------------------------------------------------------------------------ */

static int
lock_pid_file(const char *path, struct err *e)
{
	char text[32];
	int n;

	if (!*path)
		return 0;
	run.pid_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (run.pid_fd < 0)
		return err_errno(e, ERR_CONFIG, "state.pid_file: cannot open %s", path);
	if (flock(run.pid_fd, LOCK_EX | LOCK_NB) < 0) {
		ssize_t r = pread(run.pid_fd, text, sizeof(text) - 1, 0);

		text[r > 0 ? r : 0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		return err_set(e, ERR_CONFIG, "%s is locked: another iis-pollerd runs (pid %s)", path, *text ? text : "unknown");
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(run.pid_fd, 0) < 0 || pwrite(run.pid_fd, text, (size_t)n, 0) != n)
		return err_errno(e, ERR_SYSTEM, "cannot write %s", path);
	return 0;
}

static int
open_rooms(struct master *m, struct err *e)
{
	const struct config *c = m->cfg;
	char *identity;

	if (mkdir(c->state_dir, 0750) < 0 && errno != EEXIST)
		return err_errno(e, ERR_CONFIG, "state.dir: cannot make %s", c->state_dir);
	if (lock_pid_file(c->pid_file, e) < 0 || confine_start(m, e) < 0)
		return -1;
	identity = xasprintf("%s %s", c->topic_jobs, c->kafka_group_id);
	m->journal = journal_open(c->state_dir, identity, e);
	free(identity);
	if (!m->journal)
		return -1;
	m->hostkeys = hostkeys_new(m, e);
	if (!m->hostkeys)
		return -1;
	m->control = control_new(m);
	if (control_start(m->control, e) < 0)
		return -1;
	LOG(LOG_INFO, "control_ready", LS("path", c->control_socket));
	m->jobs = jobs_new(m);
	m->pool = pool_new(m);
	if (c->egress_mode == EGRESS_MODE_BROKER)
		m->broker = broker_new(m);
	m->sched = sched_new(m, pool_crews(m->pool));
	m->endpoints = endpoints_new();
	m->keyring = keyring_new(m);
	m->tenants = tenants_new(m);
	m->rates = rates_new(m);
	m->publisher = publisher_new(m);
	m->consumer = consumer_new(m);
	m->deferred = deferred_new(m);
	if (pool_start(m->pool, e) < 0)
		return -1;
	if (m->broker)
		broker_start(m->broker);
	if (deferred_start(m->deferred, e) < 0 || publisher_start(m->publisher, e) < 0 || consumer_start(m->consumer, e) < 0)
		return -1;
	if (!c->http_enabled)
		return 0;
	m->httpd = httpd_new(m);
	if (httpd_start(m->httpd, e) < 0)
		return -1;
	LOG(LOG_INFO, "http_ready", LS("url", httpd_url(m->httpd)));
	return 0;
}

static void
close_rooms(struct master *m)
{
	control_free(m->control);
	httpd_free(m->httpd);
	broker_free(m->broker);
	pool_free(m->pool);
	/* Tickets of what is still queued point into jobs: Kafka goes first. */
	publisher_free(m->publisher);
	consumer_free(m->consumer);
	deferred_free(m->deferred);
	jobs_free(m->jobs);
	sched_free(m->sched);
	endpoints_free(m->endpoints);
	keyring_free(m->keyring);
	hostkeys_free(m->hostkeys);
	tenants_free(m->tenants);
	rates_free(m->rates);
	journal_close(m->journal);
	demo_stop(m->demo_broker);
	loop_unwatch(m->loop, &run.w_signal);
	timer_cancel(m->loop, &run.tick);
	timer_cancel(m->loop, &run.wake);
	timer_cancel(m->loop, &run.drain);
	loop_free(m->loop);
	if (run.signal_fd >= 0)
		close(run.signal_fd);
	if (run.pid_fd >= 0)
		close(run.pid_fd);
	if (run.demo_dir)
		demo_dir_remove(run.demo_dir);
	free(run.demo_dir);
	buf_release(&run.status);
	free(m->libexec);
	config_set_release(&m->set);
	metrics_free();
}

static int
exit_code(const struct err *e)
{
	switch (e->cls) {
	case ERR_CONFIG: return EX_CONFIG;
	case ERR_KAFKA: return EX_UNAVAILABLE;
	case ERR_INTERNAL: return EX_SOFTWARE;
	default: return EX_OSERR;
	}
}

static int
serve(struct master *m)
{
	struct err e = ERR_INIT;

	prctl(PR_SET_DUMPABLE, 0);      /* Kafka's secrets live here */
	m->loop = loop_new();
	m->phase = MASTER_STARTING;
	m->started_ns = clock_real_ns();
	m->started_ms = loop_now(m->loop);
	m->config_generation = 1;
	m->last_reload_ns = m->started_ns;
	m->last_reload_ok = true;
	timer_init(&run.tick, on_tick, m);
	timer_init(&run.wake, on_wake, m);
	timer_init(&run.drain, on_drain_deadline, m);
	metrics_init();
	LOG(LOG_INFO, "starting", LS("version", VERSION), LS("build", ipc_build_id), LS("config", m->args.file),
	    LS("group", m->cfg->kafka_group_id), LS("brokers", m->cfg->kafka_bootstrap_servers));
	if (watch_signals(m, &e) < 0 || (m->demo && demo_prepare(m, &run.demo_dir, &e) < 0) || open_rooms(m, &e) < 0) {
		LOG(LOG_ERROR, "start_failed", LS("error", e.text), LS("todo", err_todo(e.cls)));
		close_rooms(m);
		return exit_code(&e);
	}
	m->phase = MASTER_RUNNING;
	run.tick_ms = loop_now(m->loop);
	timer_set(m->loop, &run.tick, 0);
	loop_set_after(m->loop, after_round, m);
	notify_send("READY=1");
	if (m->demo)
		demo_greet(m);
	loop_run(m->loop);
	log_tick();
	LOG(LOG_INFO, "stopped", LI("jobs_left", jobs_count(m->jobs)), LT("hard", run.hard));
	close_rooms(m);
	return EX_OK;
}

int
main(int argc, char **argv)
{
	static struct master m;
	struct options o;
	struct err e = ERR_INIT;
	int code;

	xalloc_set_handler(out_of_memory);
	log_init("iis-pollerd");
	code = options_parse(&o, argc, argv);
	if (code >= 0)
		return code;
	m.demo = o.demo;
	m.args = (struct config_args){ .file = o.file, .settings = o.settings, .environ_ = environ, .property_check = kafka_property_check };
	m.cfg = &m.set.c;
	m.libexec = options_libexec();
	if (config_load(&m.set, &m.args) < 0) {
		config_print_errors(&m.set, stderr);
		code = EX_CONFIG;
	} else if (settle_paths(&m.set.c, &e) < 0 || (!o.test && !o.dump && apply_log(m.cfg, &e) < 0)) {
		fprintf(stderr, "iis-pollerd: %s\n", e.text);
		code = EX_CONFIG;
	} else if (o.dump) {
		code = options_dump(&m.set);
	} else if (o.test) {
		code = options_test(&m.set, o.online);
	} else {
		return serve(&m);
	}
	config_set_release(&m.set);
	free(m.libexec);
	return code;
}
