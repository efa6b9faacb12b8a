/*
 * main.c - iis-poller-worker: start, sandbox, then one task after the other until the master says STOP or is gone.
 *
 * Started by the master alone: descriptor 0 is /dev/null, 1 and 2 a pipe that the master reads, 3 the frame socket,
 * 4 the spool, 5 the page of sandbox_refused.c, 6 (with egress.mode: broker) the channel to the connector. The only file of the worker that ends the process (but for faults that a test's job asks dummy.c for).
 * Exit codes: 0 told to end, or the master is gone; 64 started by hand; 70 the master broke the protocol; 71 the
 * system refused something; 75 it leaves by itself, before any further task; 78 master and worker are of different builds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* Numbers are given from the lowest: a leak shows among the first. */
#define FDS_LOOKED_AT 256

static struct channel channel;

static void __attribute__((noreturn))
out_of_memory(size_t wanted)
{
	dprintf(STDERR_FILENO, "iis-poller-worker: out of memory (%zu bytes wanted)\n", wanted);
	_exit(EX_OSERR);
}

static int __attribute__((format(printf, 2, 3)))
die(int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(STDERR_FILENO, "iis-poller-worker: %s\n", text);
	return code;
}

static int
usage(int fd, int code)
{
	dprintf(fd,
	    "usage: iis-poller-worker --help | --version\n"
	    "\n"
	    "Lists sources for iis-pollerd, which starts it with its own descriptors. See iis-poller-worker(8).\n");
	return code;
}

/* The frame socket, and who is at its other end; 0 where there is none. */
static pid_t
master_pid(void)
{
	struct ucred peer;
	int type = 0, domain = 0;
	socklen_t n = sizeof(type);

	if (getsockopt(IPC_FD, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || type != SOCK_SEQPACKET)
		return 0;
	n = sizeof(domain);
	if (getsockopt(IPC_FD, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0 || domain != AF_UNIX)
		return 0;
	n = sizeof(peer);
	if (getsockopt(IPC_FD, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return 0;
	return peer.pid;
}

/* The code that the end of the conversation stands for. */
static int
end_code(const struct channel *ch, const struct err *e)
{
	if (ch->gone)
		return EX_OK;
	return die(ch->broken ? EX_SOFTWARE : EX_OSERR, "%s", e->text);
}

/* The same for a task that got no answer: one whose connector is gone is given to another worker. */
static int
task_code(const struct channel *ch, const struct err *e)
{
	return broker_gone() && !ch->gone && !ch->broken ? die(EX_TEMPFAIL, "%s", e->text) : end_code(ch, e);
}

static int
receive_setup(struct channel *ch, struct setup *setup)
{
	struct err e = ERR_INIT;
	struct frame f;
	int r = channel_recv(ch, &f, &e);

	if (r <= 0)
		return end_code(ch, &e) == EX_OK ? -1 : EX_CONFIG;
	if (f.type == MSG_STOP)
		return -1;
	if (f.type != MSG_SETUP)
		return die(EX_CONFIG, "the master sent %s where SETUP was due", ipc_name(f.type));
	if (setup_decode(setup, f.payload, f.n, &e))
		return die(EX_CONFIG, "%s", e.text);
	return 0;
}

static int
say_ready(struct channel *ch, const struct sandbox *s, struct err *e)
{
	struct ready ready = { .sandbox = "" };

	if (sandbox_enter(s, &ready.active, ready.sandbox, sizeof(ready.sandbox), e))
		return -1;
	ready_encode(&ready, channel_begin(ch, MSG_READY));
	return channel_send(ch, e);
}

/* More descriptors than the kept connection may hold: a task left some open. */
static bool
descriptors_leaked(const struct setup *setup, const struct conns *conns)
{
	int64_t max = setup->open_files < FDS_LOOKED_AT ? setup->open_files : FDS_LOOKED_AT;
	unsigned open_now = 0;

	for (int fd = setup->brokered ? IPC_BROKER_FD + 1 : IPC_SPOOL_FD + 1; fd < max; fd++)
		open_now += fcntl(fd, F_GETFD) >= 0;
	return open_now > conns_fds(conns);
}

static int
serve(struct channel *ch, struct emit *m, struct conns *conns, const struct setup *setup)
{
	struct err e = ERR_INIT;
	enum err_class cls;
	struct frame f;
	int r;

	while (!ch->stop) {
		r = conns_wait(conns, &f, &e);
		if (r <= 0)
			return end_code(ch, &e);
		if (f.type == MSG_STOP)
			return EX_OK;
		if (f.type == MSG_KEYS_ASK) {
			if (keys_task(ch, setup, &f, &e))
				return task_code(ch, &e);
			continue;
		}
		if (f.type != MSG_JOB)
			return die(EX_SOFTWARE, "the master sent %s where JOB was due", ipc_name(f.type));
		/* Answered by leaving: the master gives the task to another, and nobody is charged. */
		if (sandbox_stale()) {
			LOG0(LOG_INFO, "worker_sandbox_stale");
			return die(EX_TEMPFAIL, "a directory or a file that it may read was replaced; a fresh worker takes over");
		}
		if (run_task(ch, m, conns, setup, &f, &cls, &e))
			return task_code(ch, &e);
		if (descriptors_leaked(setup, conns)) {
			/* what is still to be done at the end may need one */
			close_range(IPC_SPOOL_FD + 1, ~0U, 0);
			LOG0(LOG_WARN, "worker_descriptors_leaked");
			return die(EX_TEMPFAIL, "the last task left descriptors open; a fresh worker takes over");
		}
	}
	return EX_OK;
}

static enum sandbox_role
role_of(const struct setup *s)
{
	enum worker_role r = s->role;

	if (s->brokered && r != ROLE_LOCAL)
		return SANDBOX_BROKERED;
	return r == ROLE_LOCAL ? SANDBOX_LOCAL : r == ROLE_NETWORK ? SANDBOX_NETWORK : SANDBOX_CREDENTIALS;
}

static int
work(struct channel *ch, struct sandbox *s, struct setup *setup)
{
	struct err e = ERR_INIT;
	struct conns *conns;
	struct emit m;
	int code;

	hello_encode(channel_begin(ch, MSG_HELLO));
	if (channel_send(ch, &e))
		return end_code(ch, &e);
	code = receive_setup(ch, setup);
	if (code)
		return code < 0 ? EX_OK : code;
	broker_init(setup);
	if (net_init(setup, &e))
		return die(EX_CONFIG, "%s", e.text);
	log_set_level(setup->log_level);
	log_set_sink(channel_log, ch);
	warm_up(setup->role);
	s->file_max = setup->spool_max;
	s->data_max = setup->memory_max;
	s->cpu_max_s = setup->cpu_max_s;
	s->open_files = setup->open_files;
	s->role = role_of(setup);
	s->rules = setup->sandbox;
	s->roots = (const char *const *)setup->roots.v;
	s->n_roots = setup->roots.n;
	if (setup->role == ROLE_LOCAL)
		s->threads = ahead_start;
	if (say_ready(ch, s, &e))
		return e.cls == ERR_CONFIG ? die(EX_CONFIG, "%s", e.text) : end_code(ch, &e);
	emit_init(&m, ch, IPC_SPOOL_FD);
	conns = conns_new(ch, setup->keep_ms);
	code = serve(ch, &m, conns, setup);
	conns_free(conns);
	emit_release(&m);
	return code;
}

/* "--worker SLOT GENERATION" (the slot only shows in ps(1)), "--connector SLOTS GENERATION" */
static int
parse_args(int argc, char **argv, uint32_t *generation, int64_t *slots)
{
	int64_t slot, g;

	if (argc != 4 || (strcmp(argv[1], "--worker") && strcmp(argv[1], "--connector")) || units_int(argv[2], &slot) || slot < 0 ||
	    units_int(argv[3], &g) || g < 0 || g > UINT32_MAX)
		return -1;
	*generation = (uint32_t)g;
	*slots = strcmp(argv[1], "--connector") ? -1 : slot;
	return 0;
}

int
main(int argc, char **argv)
{
	struct sandbox s = { .keep_fds = IPC_BROKER_FD + 1 };
	struct setup setup;
	struct err e = ERR_INIT;
	uint32_t generation;
	int64_t slots;
	int code;

	if (argc == 2 && !strcmp(argv[1], "--help"))
		return usage(STDOUT_FILENO, EX_OK);
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		dprintf(STDOUT_FILENO, "iis-poller-worker %s (%s)\n", VERSION, ipc_build_id);
		return EX_OK;
	}
	if (parse_args(argc, argv, &generation, &slots))
		return usage(STDERR_FILENO, EX_USAGE);
	s.parent_pid = master_pid();
	if (!s.parent_pid)
		return die(EX_USAGE, "descriptor 3 is not the master's socket: this program is started by iis-pollerd only");
	xalloc_set_handler(out_of_memory);
	log_init("iis-poller-worker");
	if (slots >= 0)
		return connector_main(generation, (unsigned)slots, s.parent_pid);
	if (sandbox_prepare(&s, &e))
		return die(EX_OSERR, "%s", e.text);
	refused_map(IPC_REFUSED_FD);
	channel_init(&channel, IPC_FD, generation);
	setup_init(&setup);
	code = work(&channel, &s, &setup);
	log_set_sink(NULL, NULL);
	channel_release(&channel);
	setup_release(&setup);
	return code;
}
