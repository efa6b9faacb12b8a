/*
 * sandbox_seccomp.c - the system call filters of a child, made from syscalls.def by libseccomp. Called by sandbox.c as the
 * last step before READY.
 *
 * Two filters, of which the kernel takes the stricter answer: one by call (allowed, refused, never, anything else), one by
 * argument, which refuses what is not among the allowed values. The library compares an argument once in a rule, so
 * "none of these" is spelled as ranges. An unlisted call traps: the handler notes it for the master and dies by a call
 * that is never legal, which nothing in the process can prevent.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <ucontext.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* <signal.h> of this C library lacks it: si_code of a trapped call. */
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

#define L SANDBOX_LOCAL
#define NET (SANDBOX_NETWORK | SANDBOX_CREDENTIALS)
#define H SANDBOX_HTTP
#define B SANDBOX_BROKERED
#define HAVE (NET | B)
#define W (L | HAVE)
#define ALL (W | H)

/* An int fills its register with zeros above: the whole register is compared. */
#define INT UINT64_MAX
#define POINTER UINT64_MAX
#define SOCK_TYPE UINT64_C(0xf)
#define SELF (UINT64_MAX - 1)
#define PTHREAD_CLONE UINT64_C(0x3d0f00)

/*
 * Linux 6.1, Debian 12's. What came later is answered as if this kernel did not have it. A row each, as the library knows
 * no ranges of calls, and a start pays for each: to 1024 it would be 6 ms instead of 0.6.
 */
#define NEWEST 450
#define NEWEST_END 512

enum verdict_of { V_ALLOW, V_REFUSE, V_NEVER };

static const struct call_row { const char *name; unsigned roles; enum verdict_of verdict; int err; } calls[] = {
#define ALLOW(call, roles, why) { #call, roles, V_ALLOW, 0 },
#define REFUSE(call, roles, err, why) { #call, roles, V_REFUSE, err },
#define NEVER(call, why) { #call, ALL, V_NEVER, 0 },
#define ARG(call, roles, err, when, arg, mask, why, ...)
#include "common/syscalls.def"
};

#define VALUES_MAX 6

static const struct arg_row {
	const char *name;
	unsigned roles;
	int err;
	struct { bool on; unsigned arg; uint64_t mask, value; } when;
	unsigned arg;
	uint64_t mask;
	size_t n;
	uint64_t v[VALUES_MAX];
} args[] = {
#define ALWAYS { false, 0, 0, 0 }
#define IF(arg, mask, value) { true, arg, mask, value }
#define ALLOW(call, roles, why)
#define REFUSE(call, roles, err, why)
#define NEVER(call, why)
#define ARG(call, roles, err, when, arg, mask, why, ...) \
	{ #call, roles, err, when, arg, mask, sizeof((uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t), { __VA_ARGS__ } },
#include "common/syscalls.def"
};

/* ---- the filter by argument ---------------------------------------------------------------------------------------- */

struct refusing {                       /* one ARG row on its way into the filter */
	scmp_filter_ctx ctx;
	uint32_t action;
	int nr;
	const struct arg_row *row;
	int rc;
};

static void
refuse(struct refusing *r, enum scmp_compare op, uint64_t a, uint64_t b)
{
	struct scmp_arg_cmp cmp[2] = { { .arg = r->row->arg, .op = op, .datum_a = a, .datum_b = b } };
	unsigned n = 1;

	if (r->row->when.on)
		cmp[n++] = (struct scmp_arg_cmp){ .arg = r->row->when.arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = r->row->when.mask,
			.datum_b = r->row->when.value };
	if (!r->rc)
		r->rc = seccomp_rule_add_exact_array(r->ctx, r->action, r->nr, n, cmp);
}

/* All numbers from first to last, in blocks that a mask can name. */
static void
refuse_range(struct refusing *r, uint64_t first, uint64_t last)
{
	while (first <= last) {
		uint64_t size = first ? first & -first : UINT64_C(1) << 62;

		while (size - 1 > last - first)
			size >>= 1;
		refuse(r, SCMP_CMP_MASKED_EQ, ~(size - 1), first);
		first += size;
	}
}

/* Of the bits of a mask: every combination that is not one of v, from the highest bit down. */
static void
refuse_masked(struct refusing *r, uint64_t seen, uint64_t value, uint64_t rest, const uint64_t *v, size_t n)
{
	uint64_t bit, with[VALUES_MAX], without[VALUES_MAX];
	size_t n_with = 0, n_without = 0;

	if (!n)
		refuse(r, SCMP_CMP_MASKED_EQ, seen, value);
	if (!n || !rest)
		return;
	bit = UINT64_C(1) << (63 - __builtin_clzll(rest));
	for (size_t i = 0; i < n; i++) {
		if (v[i] & bit)
			with[n_with++] = v[i];
		else
			without[n_without++] = v[i];
	}
	refuse_masked(r, seen | bit, value | bit, rest & ~bit, with, n_with);
	refuse_masked(r, seen | bit, value, rest & ~bit, without, n_without);
}

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void
refuse_others(struct refusing *r)
{
	const struct arg_row *row = r->row;
	uint64_t v[VALUES_MAX];

	for (size_t i = 0; i < row->n; i++)
		v[i] = row->v[i] == SELF ? (uint64_t)getpid() : row->v[i];
	if (row->mask != UINT64_MAX) {
		refuse_masked(r, 0, 0, row->mask, v, row->n);
		return;
	}
	qsort(v, row->n, sizeof(v[0]), by_number);
	if (row->n == 1) {
		refuse(r, SCMP_CMP_NE, v[0], 0);
		return;
	}
	if (v[0])
		refuse(r, SCMP_CMP_LT, v[0], 0);
	refuse(r, SCMP_CMP_GT, v[row->n - 1], 0);
	for (size_t i = 1; i < row->n; i++)
		if (v[i] - v[i - 1] > 1)
			refuse_range(r, v[i - 1] + 1, v[i] - 1);
}

/* Below 0: this machine has none of that name. */
static int
number(const char *name)
{
	return seccomp_syscall_resolve_name(name);
}

static int
add_args(scmp_filter_ctx ctx, const struct sandbox *s)
{
	for (size_t i = 0; i < ARRAY_LEN(args); i++) {
		struct refusing r = { .ctx = ctx, .row = &args[i], .nr = number(args[i].name),
			.action = s->rules.mode == SANDBOX_LOG ? SCMP_ACT_LOG : SCMP_ACT_ERRNO((uint16_t)args[i].err) };

		if (!(args[i].roles & s->role) || r.nr < 0)
			continue;
		refuse_others(&r);
		if (r.rc)
			return r.rc;
	}
	return 0;
}

/* ---- the filter by call -------------------------------------------------------------------------------------------- */

static int
add_call(scmp_filter_ctx ctx, const struct sandbox *s, const struct call_row *c, bool no_landlock)
{
	int nr = number(c->name);
	uint32_t action = c->verdict == V_ALLOW ? SCMP_ACT_ALLOW : c->verdict == V_NEVER ? SCMP_ACT_KILL_PROCESS :
	    SCMP_ACT_ERRNO((uint16_t)c->err);

	if (!(c->roles & s->role) || nr < 0)
		return 0;
	/* It could open for writing, which Landlock alone would see; the walk goes on by openat. */
	if (no_landlock && !strcmp(c->name, "openat2"))
		action = SCMP_ACT_ERRNO(ENOSYS);
	if (s->rules.mode == SANDBOX_LOG && action != SCMP_ACT_ALLOW)
		return 0;       /* the default says so, too */
	/* The default does it already. */
	if (action == SCMP_ACT_KILL_PROCESS && s->rules.unlisted == SANDBOX_KILL)
		return 0;
	return seccomp_rule_add_exact(ctx, action, nr, 0);
}

static int
add_calls(scmp_filter_ctx ctx, const struct sandbox *s, bool no_landlock)
{
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if ((rc = add_call(ctx, s, &calls[i], no_landlock)))
			return rc;
	if (s->rules.mode == SANDBOX_LOG)
		return 0;
	for (int nr = NEWEST + 1; nr < NEWEST_END; nr++)
		if ((rc = seccomp_rule_add_exact(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0)))
			return rc;
	return 0;
}

static uint32_t
default_action(const struct sandbox *s)
{
	if (s->rules.mode == SANDBOX_LOG)
		return SCMP_ACT_LOG;
	return s->rules.unlisted == SANDBOX_KILL ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_TRAP;
}

/* which 0: by call, 1: by argument. NULL: with err. */
static scmp_filter_ctx
build(const struct sandbox *s, bool no_landlock, int which, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(which ? SCMP_ACT_ALLOW : default_action(s));
	int rc = -ENOMEM;

	if (!ctx)
		goto failed;
	/* 32-bit and x32 entries */
	rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, s->rules.mode == SANDBOX_LOG ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
	/* no_new_privs is set; libraries may have started threads by now */
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!rc)
		rc = which ? add_args(ctx, s) : add_calls(ctx, s, no_landlock);
	if (!rc)
		return ctx;
failed:
	errno = -rc;
	err_errno(e, ERR_SYSTEM, "making the system call filter");
	if (ctx)
		seccomp_release(ctx);
	return NULL;
}

/* ---- the trap -------------------------------------------------------------------------------------------------------- */

static void
on_sigsys(int sig, siginfo_t *si, void *context)
{
	const ucontext_t *u = context;
	uint64_t a[3] = { 0 };

	(void)sig;
#if defined(__x86_64__)
	a[0] = (uint64_t)u->uc_mcontext.gregs[REG_RDI];
	a[1] = (uint64_t)u->uc_mcontext.gregs[REG_RSI];
	a[2] = (uint64_t)u->uc_mcontext.gregs[REG_RDX];
#elif defined(__aarch64__)
	for (int i = 0; i < 3; i++)
		a[i] = u->uc_mcontext.regs[i];
#else
	(void)u;
#endif
	if (si->si_code == SYS_SECCOMP)
		refused_note(si->si_syscall, a);
	/* Never legal: the kernel ends the process with SIGSYS, whoever sent this one. */
	syscall(SYS_kill, getpid(), SIGSYS);
	_exit(EX_SOFTWARE);
}

static int
catch_traps(struct err *e)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_NODEFER };

	sa.sa_sigaction = on_sigsys;
	return sigaction(SIGSYS, &sa, NULL) < 0 ? err_errno(e, ERR_SYSTEM, "catching refused calls") : 0;
}

/* ---- interface ------------------------------------------------------------------------------------------------------- */

int
seccomp_enter(const struct sandbox *s, uint8_t landlock, struct err *e)
{
	/* The one by call last: it forbids to load another. Both are made before either is loaded. */
	scmp_filter_ctx by_arg = build(s, !landlock, 1, e), by_call = by_arg ? build(s, !landlock, 0, e) : NULL;
	int rc = 0, ret = -1;

	if (!by_call)
		goto out;
	if (s->rules.mode == SANDBOX_ENFORCE && s->rules.unlisted == SANDBOX_TRAP && catch_traps(e) < 0)
		goto out;
	if ((rc = seccomp_load(by_arg)) || (rc = seccomp_load(by_call))) {
		errno = -rc;
		err_errno(e, ERR_CONFIG, "this kernel does not take the system call filter (sandbox.mode: off does without)");
		goto out;
	}
	ret = 0;
out:
	if (by_arg)
		seccomp_release(by_arg);
	if (by_call)
		seccomp_release(by_call);
	return ret;
}

int
seccomp_write(const struct sandbox *s, uint8_t landlock, int which, int fd, struct err *e)
{
	scmp_filter_ctx ctx = build(s, !landlock, which, e);
	int rc;

	if (!ctx)
		return -1;
	rc = seccomp_export_bpf(ctx, fd);
	seccomp_release(ctx);
	errno = -rc;
	return rc ? err_errno(e, ERR_SYSTEM, "writing the system call filter") : 0;
}

static bool
has_action(uint32_t action)
{
	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

void
sandbox_kernel(struct sandbox_kernel *k)
{
	k->landlock = landlock_kernel();
	k->seccomp = has_action(SECCOMP_RET_KILL_PROCESS) && has_action(SECCOMP_RET_TRAP) && has_action(SECCOMP_RET_ERRNO) &&
	    has_action(SECCOMP_RET_LOG);
}
