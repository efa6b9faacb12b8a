/*
 * broker.c - the master's side of the egress broker (egress.mode: broker): the connector, which alone makes connections
 * for workers, and what it is told each of their tasks may reach.
 *
 * Called by main.c, slot_start.c (a channel for each worker) and dispatch.c (a grant for each task). It is started again
 * when it dies, with growing waits; workers that spoke to the dead one serve no further task. Without a connector no
 * worker of the network starts: their tasks wait. It never resolves or connects anything itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/broker.h"
#include "common/hosts.h"
#include "common/http_url.h"
#include "common/keys.h"
#include "common/source_s3.h"
#include "common/task.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "master/master.h"
#include "common/banned.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 30000
#define STEADY_MS 60000          /* one that lived so long was well: the next death is the first again */
#define MEMORY_MAX (INT64_C(256) << 20)
#define FDS_BESIDE 256
#define FDS_A_SLOT 12            /* its channel, the addresses of one connection */
#define SOCKET_BYTES (1 << 20)   /* grants that it has not read yet */

struct broker {
	struct master *m;
	enum worker_state state;        /* STARTING, IDLE (connecting), DYING, BACKOFF */
	uint32_t generation;
	struct child proc;
	struct timer timer;             /* READY deadline, back-off, kill */
	unsigned failures;              /* deaths in a row */
	int64_t ready_ms, since_ms;     /* loop time: of READY; of the state */
	uint64_t restarts;
	char sandbox[256], last_death[128];
	bool stopping;
	struct buf frame;
	uint8_t in[IPC_FRAME_MAX + 1];
};

static void start_child(struct broker *);

static void
enter(struct broker *b, enum worker_state s)
{
	b->state = s;
	b->since_ms = loop_now(b->m->loop);
}

static void
kill_child(struct broker *b, const char *why)
{
	if (!b->proc.pid || b->state == WORKER_DYING)
		return;
	LOG(LOG_ERROR, "connector_killed", LI("pid", b->proc.pid), LS("reason", why));
	enter(b, WORKER_DYING);
	child_signal(&b->proc, SIGKILL);
}

/* ---- frames -------------------------------------------------------------------------------------------------------- */

static int
send_setup(struct broker *b, struct err *e)
{
	struct setup s;
	int ret;

	setup_init(&s);
	s.role = ROLE_NETWORK;
	s.log_level = log_get_level();
	s.memory_max = MEMORY_MAX;
	s.sandbox = b->m->sandbox;
	s.open_files = (int64_t)pool_slots(b->m->pool) * FDS_A_SLOT + FDS_BESIDE;
	ipc_begin(&b->frame, MSG_SETUP, b->generation, 0);
	setup_encode(&s, &b->frame);
	ipc_finish(&b->frame);
	ret = ipc_send(b->proc.fd, &b->frame) == 1 ? 0 : err_errno(e, ERR_SYSTEM, "cannot send SETUP");
	setup_release(&s);
	return ret;
}

static int
on_hello(struct broker *b, const struct frame *f, struct err *e)
{
	struct hello hello;

	if (hello_decode(&hello, f->payload, f->n, e) < 0)
		return -1;
	if (hello.version != IPC_VERSION || strcmp(hello.build_id, ipc_build_id))
		return err_set(e, ERR_CONFIG, "it is of another build (%s, the master is %s): restart iis-pollerd", hello.build_id, ipc_build_id);
	return send_setup(b, e);
}

static int
on_ready(struct broker *b, const struct frame *f, struct err *e)
{
	struct ready r;

	if (ready_decode(&r, f->payload, f->n, e) < 0)
		return -1;
	timer_cancel(b->m->loop, &b->timer);
	enter(b, WORKER_IDLE);
	b->ready_ms = b->since_ms;
	snprintf(b->sandbox, sizeof(b->sandbox), "%s", r.sandbox);
	LOG(LOG_INFO, "connector_ready", LI("pid", b->proc.pid), LS("sandbox", r.sandbox));
	return 0;
}

static int
on_tally(const struct frame *f, struct err *e)
{
	struct broker_tally t;

	if (broker_tally_decode(&t, f->payload, f->n, e) < 0)
		return -1;
	broker_tally(&t);
	return 0;
}

static int
handle_frame(struct broker *b, const struct frame *f, struct err *e)
{
	if (ipc_check(f, f->type == MSG_TALLY ? IPC_CONNECTOR : IPC_WORKER, b->state, e) < 0)
		return -1;
	if (f->generation != b->generation)
		return err_set(e, ERR_WORKER_PROTOCOL, "%s of generation %u, this child is %u", ipc_name(f->type), f->generation, b->generation);
	if (f->type == MSG_HELLO)
		return on_hello(b, f, e);
	if (f->type == MSG_READY)
		return on_ready(b, f, e);
	if (f->type == MSG_TALLY)
		return on_tally(f, e);
	return err_set(e, ERR_WORKER_PROTOCOL, "%s is not for the connector to send", ipc_name(f->type));
}

static void
on_socket(void *arg, int fd, uint32_t events)
{
	struct broker *b = arg;
	struct err e = ERR_INIT;
	struct frame f;
	int r;

	(void)fd;
	(void)events;
	for (int i = 0; i < 8 && b->proc.w_sock && b->state != WORKER_DYING; i++) {
		r = ipc_recv(b->proc.fd, MSG_DONTWAIT, b->in, &f, &e);
		if (r == 0)
			return;
		if (r == -1) {
			loop_unwatch(b->m->loop, &b->proc.w_sock);
			/* It should end by itself any moment. */
			timer_set(b->m->loop, &b->timer, b->m->cfg->timeout_kill);
			return;
		}
		if (r == -2 || handle_frame(b, &f, &e) < 0)
			kill_child(b, e.text);
	}
}

/* Its last TALLY, if it had the time. */
static void
drain(struct broker *b)
{
	struct err e = ERR_INIT;
	struct frame f;

	while (b->state == WORKER_IDLE && ipc_recv(b->proc.fd, MSG_DONTWAIT, b->in, &f, &e) == 1 && !handle_frame(b, &f, &e))
		;
}

static void
on_stderr_line(void *arg, const char *p, size_t n)
{
	struct broker *b = arg;

	LOG(LOG_WARN, "connector_stderr", LI("pid", b->proc.pid), LB("text", p, n));
}

/* ---- the process ------------------------------------------------------------------------------------------------------ */

static void
forget_process(struct broker *b)
{
	child_forget(&b->proc, b->m->loop);
	timer_cancel(b->m->loop, &b->timer);
}

static void
backoff(struct broker *b)
{
	int64_t ms = BACKOFF_FIRST_MS;

	if (b->ready_ms && loop_now(b->m->loop) - b->ready_ms > STEADY_MS)
		b->failures = 0;
	b->ready_ms = 0;
	for (unsigned i = 0; i < b->failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	b->failures++;
	enter(b, WORKER_BACKOFF);
	if (!b->stopping)
		timer_set(b->m->loop, &b->timer, ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS);
}

/* The call for which its sandbox ended it; NULL: none, or none that is known. Caller frees. */
static char *
refused_call(const struct broker *b, int status)
{
	struct refused r = { .nr = -1 };

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		refused_read(b->proc.refused_fd, &r);
	return r.nr >= 0 ? refused_name(r.nr) : NULL;
}

/* For people and metrics; of one that was told to stop nothing is said. */
static void
count_death(struct broker *b, int status, const char *call)
{
	enum death_cause cause = b->state == WORKER_DYING ? DEATH_KILLED : death_cause_of(status);

	if (b->stopping)
		return;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EX_TEMPFAIL && b->ready_ms)
		cause = DEATH_RECYCLED;
	b->restarts++;
	metric_add(METRIC_CONNECTOR_RESTARTS, 1, death_cause_name(cause), NULL);
	snprintf(b->last_death, sizeof(b->last_death), "%s: process %lld, %s %d%s%s", death_cause_name(cause), (long long)b->proc.pid,
	    WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
	    call ? ", call " : "", call ? call : "");
}

/* What was under way went with it. */
static void
forget_work(struct broker *b)
{
	static const struct broker_tally none;

	broker_tally(&none);
	b->sandbox[0] = '\0';
}

static void
on_exit_of(void *arg, int fd, uint32_t events)
{
	struct broker *b = arg;
	char *name;
	int status;

	(void)fd;
	(void)events;
	if (waitpid(b->proc.pid, &status, WNOHANG) != b->proc.pid)
		return;
	stderr_drain(&b->proc.err);
	name = refused_call(b, status);
	LOG(b->stopping ? LOG_INFO : LOG_WARN, "connector_died", LI("pid", b->proc.pid), LI("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
	    LI("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1), LS("refused_call", name));
	drain(b);
	count_death(b, status, name);
	forget_work(b);
	free(name);
	forget_process(b);
	/* Whoever spoke to it speaks to nobody now, and serves no further task. */
	b->m->setup_generation++;
	pool_refresh(b->m->pool);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EX_TEMPFAIL && b->ready_ms)
		b->failures = 0;        /* it left for a fresh one, and was well */
	backoff(b);
}

static void
on_timer(void *arg)
{
	struct broker *b = arg;

	if (b->state == WORKER_BACKOFF)
		start_child(b);
	else if (b->state == WORKER_STARTING)
		kill_child(b, "it was not READY in time");
	else
		kill_child(b, b->stopping ? "it does not stop" : "it closed its socket and lives on");
}

static int
spawn_connector(struct broker *b, struct err *e)
{
	char slots[16], generation[16];
	const char *const argv[] = { "iis-poller-worker", "--connector", slots, generation, NULL };
	const struct spawn_spec spec = { .path = pool_program(b->m->pool), .argv = argv, .spool_fd = -1, .listen_fd = -1, .on_socket = on_socket,
		.on_exit = on_exit_of, .on_stderr = on_stderr_line, .arg = b };
	int bytes = SOCKET_BYTES;

	snprintf(slots, sizeof(slots), "%zu", pool_slots(b->m->pool));
	snprintf(generation, sizeof(generation), "%u", ++b->generation);
	if (child_start(&b->proc, b->m->loop, &spec, e) < 0)
		return -1;
	/* what the kernel allows of it will do */
	setsockopt(b->proc.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	return 0;
}

static void
start_child(struct broker *b)
{
	struct err e = ERR_INIT;

	if (b->stopping)
		return;
	if (spawn_connector(b, &e) < 0) {
		LOG(LOG_ERROR, "connector_start_failed", LS("error", e.text));
		forget_process(b);
		backoff(b);
		return;
	}
	enter(b, WORKER_STARTING);
	timer_set(b->m->loop, &b->timer, b->m->cfg->timeout_start);
}

/* ---- channels and grants --------------------------------------------------------------------------------------------- */

bool
broker_ready(const struct broker *b)
{
	return b->state == WORKER_IDLE;
}

void
broker_view(const struct broker *b, struct broker_view *v)
{
	*v = (struct broker_view){ .state = broker_state_name(b->state), .pid = b->proc.pid, .since_ms = b->since_ms, .restarts = b->restarts,
		.sandbox = b->sandbox, .last_death = b->last_death };
}

bool
broker_failing(const struct broker *b)
{
	return b->state != WORKER_IDLE && b->failures >= 3;
}

int
broker_channel(struct broker *b, uint32_t slot, struct err *e)
{
	int sv[2], rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, ERR_SYSTEM, "cannot make a worker's channel to the connector");
	ipc_begin(&b->frame, MSG_CHANNEL, b->generation, 0);
	buf_u32(&b->frame, slot);
	ipc_finish(&b->frame);
	rc = broker_ready(b) ? broker_send(b->proc.fd, &b->frame, sv[1]) : -1;
	close(sv[1]);
	if (rc == 1)
		return sv[0];
	close(sv[0]);
	return err_set(e, ERR_SYSTEM, "the connector takes no channel for a worker now");
}

/* "scheme://[host]:port" into one of the grant's hosts; without a port: the scheme's. */
static void
add_host(struct broker_grant *g, const char *url)
{
	static const struct { const char *scheme; uint16_t port; } ports[] = { { "http", 80 }, { "https", 443 }, { "socks5", 1080 }, { "socks5h", 1080 } };
	const char *host = strstr(url, "://"), *end, *colon;
	struct broker_host *h = &g->host[g->n];
	int64_t port = 0;
	size_t n;

	if (!host || g->n == BROKER_HOSTS)
		return;
	n = (size_t)(host - url);
	for (size_t i = 0; i < ARRAY_LEN(ports); i++)
		if (strlen(ports[i].scheme) == n && !strncasecmp(url, ports[i].scheme, n))
			port = ports[i].port;
	host += 3;
	end = host + strcspn(host, "/?#");
	colon = memrchr(host, ':', (size_t)(end - host));
	if (colon && !memchr(colon, ']', (size_t)(end - colon))) {
		char text[8];

		snprintf(text, sizeof(text), "%.*s", (int)(end - colon - 1), colon + 1);
		if (units_int(text, &port) < 0)
			return;
		end = colon;
	}
	if (end - host > 2 && *host == '[' && end[-1] == ']') {
		host++;
		end--;
	}
	n = (size_t)(end - host);
	if (!n || n >= sizeof(h->name) || port < 1 || port > 65535)
		return;
	memcpy(h->name, host, n);
	h->name[n] = '\0';
	h->port = (uint16_t)port;
	g->n++;
}

static void
add_bucket(struct broker_grant *g, const struct source_conf *s)
{
	struct s3_address a;
	struct err e = ERR_INIT;
	char url[600];

	if (s3_address(s, NULL, &a, &e))
		return;
	snprintf(url, sizeof(url), "%s://%s:%u", a.tls ? "https" : "http", a.host, a.port);
	add_host(g, url);
	/* the bucket's region may be another one, as its answer tells */
	if (a.amazon)
		snprintf(g->suffix, sizeof(g->suffix), ".amazonaws.com%s", strstr(a.service, ".com.cn") ? ".cn" : "");
}

/* Where tokens are had; it may come of a secret set, so that nobody has held it to the tenant's hosts yet. */
static void
add_token_host(struct broker_grant *g, const char *url)
{
	struct err ignored = ERR_INIT;
	struct buf b = BUF_INIT;
	struct http_url u;

	/* The worker says what is wrong with it. */
	if (http_url_parse(url, strlen(url), &u, &ignored))
		return;
	http_url_origin(&u, false, &b);
	if (hosts_allow(&g->hosts, u.host))
		add_host(g, buf_str(&b));
	buf_release(&b);
	http_url_release(&u);
}

/* What a source of this type may lead to; the policy is asked of each address all the same. */
static void
add_places(struct broker_grant *g, const struct source_conf *s)
{
	const char *proxy = s->v[SF_NETWORK_PROXY_URL].s;

	if (s->endpoint)
		add_host(g, s->endpoint);
	if (s->type == SOURCE_S3)
		add_bucket(g, s);
	if (proxy && *proxy)
		add_host(g, proxy);
	if (s->type == SOURCE_HTTP && s->v[SF_HTTP_AUTH_TOKEN_URL].s)
		add_token_host(g, s->v[SF_HTTP_AUTH_TOKEN_URL].s);
	g->ftp = s->type == SOURCE_FTP;
	g->any_host = s->type == SOURCE_HTTP && s->v[SF_HTTP_FOLLOW_REDIRECTS].i && !s->v[SF_HTTP_SAME_ORIGIN_ONLY].i;
}

static int
send_grant(struct broker *b, const struct broker_grant *g, struct err *e)
{
	int rc;

	ipc_begin(&b->frame, MSG_GRANT, b->generation, 0);
	broker_grant_encode(g, &b->frame);
	if (!ipc_fits(&b->frame))
		return err_set(e, ERR_LIMIT, "the networks of egress and the lists of the tenant take %zu bytes together: too many for egress.mode: broker",
		    b->frame.len - IPC_HEADER);
	ipc_finish(&b->frame);
	rc = broker_ready(b) ? ipc_send(b->proc.fd, &b->frame) : -1;
	if (rc == 1)
		return 0;
	if (!rc)
		kill_child(b, "it does not take what it is told");
	return err_set(e, ERR_TRANSIENT, "the connector that makes connections for workers is not there; it is started again");
}

static struct egress_lists
daemon_lists(const struct broker *b)
{
	const struct config *c = b->m->cfg;

	return (struct egress_lists){ c->egress_allow, c->egress_deny, c->egress_only, c->egress_ports, c->egress_schemes };
}

int
broker_grant(struct broker *b, uint32_t slot, const char *org_id, const struct source_conf *s, const struct egress_lists *tenant,
    const struct strlist *hosts, struct err *e)
{
	struct broker_grant g = { .slot = slot, .on = true, .tenant = *tenant, .hosts = *hosts, .daemon = daemon_lists(b) };

	snprintf(g.org_id, sizeof(g.org_id), "%s", org_id);
	add_places(&g, s);
	return send_grant(b, &g, e);
}

/* As worker/keys.c takes it: the metadata service directly, STS by the job's own way. */
int
broker_grant_keys(struct broker *b, uint32_t slot, const char *org_id, const struct keys_ask *a, struct err *e)
{
	struct broker_grant g = { .slot = slot, .on = true, .tenant = a->egress, .daemon = daemon_lists(b) };
	const char *proxy = a->conf.v[SF_NETWORK_PROXY_URL].s;
	struct http_url u;
	struct err why = ERR_INIT;

	snprintf(g.org_id, sizeof(g.org_id), "%s", org_id);
	if (*a->url) {
		add_host(&g, a->url);
		if (g.n && !http_url_parse(a->url, strlen(a->url), &u, &why)) {
			g.host[0].own = keys_metadata_host(&u);
			http_url_release(&u);
		}
	}
	if (*a->sts_url)
		add_host(&g, a->sts_url);
	if (*a->sts_url && proxy && *proxy)
		add_host(&g, proxy);
	return send_grant(b, &g, e);
}

void
broker_revoke(struct broker *b, uint32_t slot)
{
	struct broker_grant g = { .slot = slot };
	struct err e = ERR_INIT;

	/* One that cannot be told is ended: what it may do must not outlive the task. */
	if (broker_ready(b) && send_grant(b, &g, &e) < 0)
		kill_child(b, "it does not take what it is told");
}

/* ---- interface --------------------------------------------------------------------------------------------------------- */

struct broker *
broker_new(struct master *m)
{
	struct broker *b = xcalloc(1, sizeof(*b));

	b->m = m;
	broker_init_metrics();
	child_init(&b->proc);
	enter(b, WORKER_BACKOFF);
	timer_init(&b->timer, on_timer, b);
	return b;
}

void
broker_start(struct broker *b)
{
	start_child(b);
}

void
broker_stop(struct broker *b)
{
	b->stopping = true;
	timer_cancel(b->m->loop, &b->timer);
	if (!b->proc.pid)
		return;
	ipc_begin(&b->frame, MSG_STOP, b->generation, 0);
	ipc_finish(&b->frame);
	if (b->proc.fd < 0 || ipc_send(b->proc.fd, &b->frame) != 1)
		kill_child(b, "it does not take STOP");
	else
		timer_set(b->m->loop, &b->timer, b->m->cfg->timeout_cancel);
}

bool
broker_empty(const struct broker *b)
{
	return !b->proc.pid;
}

void
broker_free(struct broker *b)
{
	if (!b)
		return;
	if (b->proc.pid)
		child_signal(&b->proc, SIGKILL);
	forget_process(b);
	buf_release(&b->frame);
	free(b);
}
