/*
 * dummy.c - the source type dummy: real files below DUMMY_DATA_PATH, or generated ones; and injected faults.
 *
 * For trials, load and the tests of everything else. The generator needs the same memory for one file and for a
 * hundred million. Faults are how a worker can end or misbehave, each on purpose; they need SETUP's leave, so that a
 * job of a production site cannot ask for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define TOP "/generated/"
#define DEPTH_MAX 100

struct conn {
	struct walk *walk;      /* NULL: the generator */
	bool faulty;            /* a fault is to strike in this attempt */
	int64_t fail_after;
	int64_t done;           /* files before which it could have struck */
	/* generator */
	char path[sizeof(TOP) + DEPTH_MAX * 8 + 4096];
	size_t path_n;
	int64_t depth;          /* levels of generated directories */
};

/* A mix of seed and number that looks random and is the same everywhere (the finaliser of MurmurHash3's family). */
static uint64_t
mix(uint64_t seed, uint64_t i)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + i;

	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

/* Faults */

static void
die_by(int sig)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };

	/* A sanitizer may hold the signal; the verdict is to be the plain one. */
	sigaction(sig, &sa, NULL);
	raise(sig);
	for (;;)
		poll(NULL, 0, -1);
}

static void
spin(void)
{
	volatile uint64_t n = 0;

	for (;;)
		n = n + 1;
}

/* Grows until there is no more, by the limit or by what a sanitized build, which has no limit, was told. */
static void
grow(const struct run *r)
{
	const size_t piece = 1 << 20;
	int64_t total = 0;
	char *p;

	while (total <= r->setup->memory_max && (p = malloc(piece))) {
		memset(p, 1, piece);
		total += (int64_t)piece;
	}
	dprintf(STDERR_FILENO, "out of memory by a fault that the job asked for\n");
	_exit(EX_OSERR);
}

/* The leak is left: what follows in this worker must cope, and main.c must see it. */
static int
leak_descriptors(struct err *e)
{
	while (dup(STDIN_FILENO) >= 0)
		;
	return err_errno(e, ERR_SYSTEM, "injected leak of descriptors");
}

static int
send_garbage(struct run *r, struct err *e)
{
	uint8_t bytes[200];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)mix(1, i);
	if (send(r->ch->fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0)
		return err_errno(e, ERR_SYSTEM, "sending garbage");
	return 0;
}

static int
send_oversized(struct run *r, struct err *e)
{
	struct buf b = BUF_INIT;
	uint32_t len = IPC_FRAME_MAX + 4096;
	int rc = 0;

	ipc_begin(&b, MSG_FILES, r->ch->generation, r->ch->task);
	memset(buf_room(&b, len - IPC_HEADER), 'x', len - IPC_HEADER);
	b.len = len;
	memcpy(b.p, &len, sizeof(len));
	if (send(r->ch->fd, b.p, b.len, MSG_NOSIGNAL) < 0)
		rc = err_errno(e, ERR_SYSTEM, "sending an oversized frame");
	buf_release(&b);
	return rc;
}

static int
send_out_of_turn(struct run *r, struct err *e)
{
	struct ready ready = { .sandbox = "out of turn" };

	ready_encode(&ready, channel_begin(r->ch, MSG_READY));
	return channel_send(r->ch, e);
}

static int
crash(struct run *r, const char *kind, struct err *e)
{
	static const struct { const char *kind; int sig; } signals[] = {
		{ "segv", SIGSEGV }, { "bus", SIGBUS }, { "fpe", SIGFPE }, { "ill", SIGILL }, { "sys", SIGSYS },
		{ "kill", SIGKILL }, { "term", SIGTERM }, { "xcpu", SIGXCPU }, { "abrt", SIGABRT },
	};

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (!strcmp(kind, signals[i].kind))
			die_by(signals[i].sig);
	if (!strcmp(kind, "spin"))
		spin();
	if (!strcmp(kind, "oom"))
		grow(r);
	if (!strcmp(kind, "exit"))
		_exit(EXIT_FAILURE);
	if (!strcmp(kind, "fdleak"))
		return leak_descriptors(e);
	if (!strcmp(kind, "garbage"))
		return send_garbage(r, e);
	if (!strcmp(kind, "oversize"))
		return send_oversized(r, e);
	if (!strcmp(kind, "turn"))
		return send_out_of_turn(r, e);
	/* Harmless ones, which the sandbox cannot know; where it lets them pass the task goes on. */
	if (!strcmp(kind, "syscall") || !strcmp(kind, "never")) {
		syscall(kind[0] == 's' ? SYS_getpriority : SYS_syslog, 0, 0, 0);
		return 0;
	}
	/* "hang": deaf to CANCEL, too */
	for (;;)
		poll(NULL, 0, -1);
}

/* The word of the ENUM's list that the value is the index of. */
static void
crash_word(int64_t index, char *out, size_t n)
{
	const char *s = field_rows[SF_DUMMY_CRASH].range;

	for (; index > 0 && s; index--) {
		s = strchr(s, '|');
		s = s ? s + 1 : NULL;
	}
	snprintf(out, n, "%.*s", s ? (int)strcspn(s, "|") : 0, s ? s : "");
}

static int
strike(struct conn *c, struct run *r, struct err *e)
{
	const struct field_value *kind = &r->task->source.v[SF_DUMMY_CRASH];
	const char *name = run_str(r, SF_DUMMY_ERROR);
	char word[16];
	int cls;

	c->faulty = false;
	/* What was listed before shall be seen before. */
	if (emit_flush(r->emit, e))
		return -1;
	if (kind->set) {
		crash_word(kind->i, word, sizeof(word));
		if (crash(r, word, e))
			return -1;
	}
	if (!name[0])
		return 0;
	cls = err_class_by_name(name);
	if (cls <= ERR_OK || !task_class_allowed((enum err_class)cls) || cls == ERR_CANCELLED)
		return err_set(e, ERR_UNSUPPORTED, "\"%s\" is no class that a listing can fail with", name);
	return err_set(e, (enum err_class)cls, "injected after %lld files", (long long)c->done);
}

/* Before each file, and once more at the end. */
static int
before_file(void *arg, struct run *r, struct err *e)
{
	struct conn *c = arg;

	if (c->faulty && c->done >= c->fail_after && strike(c, r, e))
		return -1;
	c->done++;
	return 0;
}

static int
plan_fault(struct conn *c, struct run *r, struct err *e)
{
	int64_t attempts = run_int(r, SF_DUMMY_ATTEMPTS);

	if (!r->task->source.v[SF_DUMMY_CRASH].set && !run_str(r, SF_DUMMY_ERROR)[0])
		return 0;
	if (!r->setup->allow_faults)
		return err_set(e, ERR_POLICY, "dummy.allow_faults is false");
	c->fail_after = run_int(r, SF_DUMMY_FAIL_AFTER);
	c->faulty = !attempts || r->task->attempt <= (uint64_t)attempts;
	return 0;
}

/* Generator */

static bool
dirs_allowed(struct conn *c, struct run *r, size_t from)
{
	const char *rel = c->path + sizeof(TOP) - 1;

	for (size_t i = from; i < c->path_n; i++)
		if (c->path[i] == '/' && filter_dir(r->filter, rel, (size_t)(c->path + i - rel)) != FILTER_YES)
			return false;
	return true;
}

/* /generated/d3/d0/NAME: levels take turns, so that every level holds files. */
static int64_t
make_path(struct conn *c, const struct run *r, uint64_t i, const char *name_template)
{
	uint64_t fanout = (uint64_t)run_int(r, SF_DUMMY_FANOUT), q;
	int64_t level = (int64_t)(i % (uint64_t)(c->depth + 1));
	size_t n = sizeof(TOP) - 1;
	const char *s = name_template;

	q = i / (uint64_t)(c->depth + 1);
	for (int64_t k = 0; k < level; k++, q /= fanout)
		n += (size_t)snprintf(c->path + n, 9, "d%u/", (unsigned)(q % fanout));
	while (*s && n + 24 < sizeof(c->path)) {
		if (!strncmp(s, "{index}", 7)) {
			n += (size_t)snprintf(c->path + n, 24, "%llu", (unsigned long long)i);
			s += 7;
		} else {
			c->path[n++] = *s++;
		}
	}
	c->path_n = n;
	return level;
}

static void
fill(const struct run *r, uint64_t i, struct record *rec)
{
	uint64_t seed = (uint64_t)run_int(r, SF_DUMMY_SEED);
	int64_t size = run_int(r, SF_DUMMY_SIZE), ns, seconds = (int64_t)i;

	if (seed) {
		size = (int64_t)(mix(seed, i) % (2 * (uint64_t)size + 1));
		seconds += (int64_t)(mix(seed + 1, i) % 86400);
	}
	rec->size = size;
	if (__builtin_add_overflow(run_int(r, SF_DUMMY_MTIME), seconds * INT64_C(1000000000), &ns) || ns == TIME_UNKNOWN)
		return;
	rec->mtime_ns = ns;
	rec->precision = MTIME_NS;
}

static int
generate_one(struct conn *c, struct run *r, uint64_t i, const char *name_template, struct err *e)
{
	int64_t level = make_path(c, r, i, name_template), max_depth = run_int(r, SF_COMMON_MAX_DEPTH);
	struct record rec;

	/* Levels that are not entered are not seen at all, as in a real tree. */
	if (level && (!run_int(r, SF_COMMON_RECURSIVE) || (max_depth && level > max_depth) ||
	    !dirs_allowed(c, r, sizeof(TOP) - 1)))
		return run_turn(r, e);
	if (run_listed(r, e))
		return -1;
	record_init(&rec);
	rec.path = c->path;
	rec.path_n = c->path_n;
	rec.rel_off = sizeof(TOP) - 1;
	fill(r, i, &rec);
	if (level < run_int(r, SF_COMMON_MIN_DEPTH) ||
	    filter_name(r->filter, rec.path + rec.rel_off, rec.path_n - rec.rel_off) != FILTER_YES ||
	    filter_attrs(r->filter, rec.size, rec.mtime_ns) != FILTER_YES) {
		run_skipped(r);
		return 0;
	}
	walk_attr_str(&rec, SA_DUMMY_GENERATOR, "index");
	walk_attr_int(&rec, SA_DUMMY_INDEX, (int64_t)i);
	walk_attr_int(&rec, SA_DUMMY_SEED, run_int(r, SF_DUMMY_SEED));
	return run_emit(r, &rec, e);
}

static int
generate(struct conn *c, struct run *r, struct err *e)
{
	const char *name_template = run_str(r, SF_DUMMY_NAME_TEMPLATE);
	uint64_t count = (uint64_t)run_int(r, SF_DUMMY_FILES);
	int64_t rate = run_int(r, SF_DUMMY_RATE), start = run_clock();
	int rc;

	if (!name_template[0])
		name_template = "file_{index}.csv";
	for (uint64_t i = 0; i < count; i++) {
		if (rate > 0 && run_wait(r, start + (int64_t)((double)i * 1e9 / (double)rate), e))
			return -1;
		if (before_file(c, r, e))
			return -1;
		rc = generate_one(c, r, i, name_template, e);
		if (rc)
			return rc == RUN_STOP ? 0 : -1;
	}
	return 0;
}

/* Files */

static void
attrs(struct record *rec, const struct statx *st, const char *root, const char *filesystem, char text[WALK_TEXT][48])
{
	(void)filesystem;
	walk_attr_str(rec, SA_DUMMY_ROOT, root);
	walk_attr_int(rec, SA_DUMMY_INODE, (int64_t)st->stx_ino);
	walk_mode_text(st->stx_mode, text[0]);
	walk_attr_str(rec, SA_DUMMY_MODE, text[0]);
}

static int
open_files(struct conn *c, struct run *r, struct err *e)
{
	struct walk_how how = {
		.follow = (int)run_int(r, SF_COMMON_FOLLOW_SYMLINKS),
		.recursive = run_int(r, SF_COMMON_RECURSIVE),
		.min_depth = run_int(r, SF_COMMON_MIN_DEPTH),
		.max_depth = run_int(r, SF_COMMON_MAX_DEPTH),
		.attrs = attrs,
		.before = before_file,
		.arg = c,
	};

	c->walk = walk_open(r, &how, e);
	return c->walk ? 0 : -1;
}

static void
dummy_close(struct conn *c)
{
	walk_close(c->walk);
	free(c);
}

static struct conn *
dummy_open(struct run *r, struct err *e)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	bool generated = r->task->source.v[SF_DUMMY_FILES].set;
	int64_t depth = run_int(r, SF_DUMMY_DEPTH);

	c->depth = depth < 0 ? 0 : depth > DEPTH_MAX ? DEPTH_MAX : depth;
	memcpy(c->path, TOP, sizeof(TOP));
	if (generated && run_int(r, SF_DUMMY_FANOUT) < 1) {
		err_set(e, ERR_UNSUPPORTED, "fanout is less than 1");
		dummy_close(c);
		return NULL;
	}
	if (plan_fault(c, r, e) || (!generated && open_files(c, r, e))) {
		dummy_close(c);
		return NULL;
	}
	return c;
}

static int
dummy_list(struct conn *c, struct run *r, struct err *e)
{
	int64_t delay = run_int(r, SF_DUMMY_DELAY), jitter = run_int(r, SF_DUMMY_JITTER);
	int rc;

	if (jitter > 0)
		delay += (int64_t)(mix((uint64_t)run_int(r, SF_DUMMY_SEED), r->task->attempt) % (uint64_t)(jitter + 1));
	if (delay > 0 && run_wait(r, run_clock() + delay * 1000000, e))
		return -1;
	rc = c->walk ? walk_list(c->walk, r, e) : generate(c, r, e);
	if (!rc && c->faulty && c->done >= c->fail_after)
		rc = strike(c, r, e);
	return rc;
}

const struct source source_dummy = {
	.name = "dummy",
	.open = dummy_open,
	.list = dummy_list,
	.close = dummy_close,
};
