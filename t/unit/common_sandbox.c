/*
 * common_sandbox.c - the system call list, compiled: every row is held against an interpreter of the filters that the kernel
 * would get, call by call and argument by argument; the page that names a refused call.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define L SANDBOX_LOCAL
#define NET (SANDBOX_NETWORK | SANDBOX_CREDENTIALS)
#define H SANDBOX_HTTP
#define B SANDBOX_BROKERED
#define HAVE (NET | B)
#define W (L | HAVE)
#define ALL (W | H)

static const enum sandbox_role roles[] = { SANDBOX_LOCAL, SANDBOX_NETWORK, SANDBOX_CREDENTIALS, SANDBOX_HTTP, SANDBOX_BROKERED };

struct program { struct sock_filter rows[4096]; size_t n; };
static struct program programs[2];      /* by call, by argument */
static struct sandbox box;
static uint8_t landlock = LANDLOCK_ABI_KNOWN;

static void
compile(void)
{
	for (int which = 0; which < 2; which++) {
		struct err e = ERR_INIT;
		int fd = memfd_create("bpf", MFD_CLOEXEC);
		ssize_t n;

		ck_assert_msg(seccomp_write(&box, landlock, which, fd, &e) == 0, "%s", e.text);
		n = pread(fd, programs[which].rows, sizeof(programs[which].rows), 0);
		close(fd);
		ck_assert_int_gt(n, 0);
		/* the kernel's bound */
		ck_assert_int_lt(n, (ssize_t)(BPF_MAXINSNS * sizeof(struct sock_filter)));
		programs[which].n = (size_t)n / sizeof(struct sock_filter);
	}
}

/* What of classic BPF libseccomp makes. */
static uint32_t
interpret(const struct program *p, const struct seccomp_data *d)
{
	uint32_t acc = 0;

	for (size_t pc = 0; pc < p->n; pc++) {
		const struct sock_filter *f = &p->rows[pc];
		bool yes;

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			ck_assert_uint_le(f->k, sizeof(*d) - 4);
			memcpy(&acc, (const char *)d + f->k, 4);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			acc &= f->k;
			continue;
		case BPF_JMP | BPF_JA:
			pc += f->k;
			continue;
		case BPF_RET | BPF_K:
			return f->k;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = acc == f->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = acc > f->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = acc >= f->k;
			break;
		default:
			ck_abort_msg("an instruction that this test does not know: %#x", f->code);
		}
		pc += yes ? f->jt : f->jf;
	}
	ck_abort_msg("past the end");
}

static int32_t
severity(uint32_t answer)
{
	return (int32_t)(answer & SECCOMP_RET_ACTION_FULL);     /* as the kernel compares: the lowest wins */
}

static uint32_t
ask(uint32_t arch, int nr, const uint64_t a[6])
{
	struct seccomp_data d = { .nr = nr, .arch = arch };
	uint32_t by_call, by_arg;

	for (int i = 0; i < 6; i++)
		d.args[i] = a[i];
	by_call = interpret(&programs[0], &d);
	by_arg = interpret(&programs[1], &d);
	return severity(by_arg) < severity(by_call) ? by_arg : by_call;
}

/* ---- the list, read once more ------------------------------------------------------------------------------------------ */

#define INT UINT64_MAX
#define POINTER UINT64_MAX
#define SOCK_TYPE UINT64_C(0xf)
#define SELF ((uint64_t)getpid())
#define PTHREAD_CLONE UINT64_C(0x3d0f00)

enum { ALLOWED = 'a', REFUSED = 'r', KILLED = 'k' };

static const struct row { const char *name; unsigned roles; char what; int err; } rows[] = {
#define ALLOW(call, r, why) { #call, r, ALLOWED, 0 },
#define REFUSE(call, r, err, why) { #call, r, REFUSED, err },
#define NEVER(call, why) { #call, ALL, KILLED, 0 },
#define ARG(call, r, err, when, arg, mask, why, ...)
#include "common/syscalls.def"
};

struct when { bool on; unsigned arg; uint64_t mask, value; };

static bool
holds(struct when w, const uint64_t a[6])
{
	return !w.on || (a[w.arg] & w.mask) == w.value;
}

/* The error for which these arguments are refused, or 0; said by the rows themselves, one after the other. */
static int
wanted_error(const char *name, unsigned role, const uint64_t a[6])
{
	int found = 0;

#define ALWAYS ((struct when){ false, 0, 0, 0 })
#define IF(n, m, v) ((struct when){ true, n, m, v })
#define ALLOW(call, r, why)
#define REFUSE(call, r, err, why)
#define NEVER(call, why)
#define ARG(call, r, err, w, which, m, why, ...) \
	if (!strcmp(#call, name) && (role & (r)) && holds(w, a)) { \
		const uint64_t v[] = { __VA_ARGS__ }; \
		bool ok = false; \
		for (size_t i = 0; i < ARRAY_LEN(v); i++) \
			ok = ok || (a[which] & (m)) == v[i]; \
		if (!ok) \
			found = (err); \
	}
#include "common/syscalls.def"
	return found;
}

static const struct row *
row_of(const char *name, unsigned role)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (!strcmp(rows[i].name, name) && (rows[i].roles & role))
			return &rows[i];
	return NULL;
}

static uint64_t
some_number(void)
{
	static const uint64_t odd[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 23, 25, 26, 41, 132, 262, 1030, FIONREAD, FIONBIO, TIOCSTI,
		PR_SET_NAME, PR_SET_DUMPABLE, MSG_FASTOPEN, PROT_EXEC, PROT_READ | PROT_EXEC, O_CREAT | O_WRONLY, O_TMPFILE | O_RDWR,
		O_CLOEXEC | O_DIRECTORY, O_PATH | O_CLOEXEC, SOCK_STREAM | SOCK_CLOEXEC, SOCK_DGRAM | SOCK_NONBLOCK, 0x3d0f00, 0x3d0f01,
		0x1200011, UINT64_C(0x100000002), UINT64_MAX };
	uint64_t r = (uint64_t)random();

	switch (r % 4) {
	case 0: return (uint64_t)getpid();
	case 1: return r >> 8 & 0x7ff;
	default: return odd[(r >> 8) % ARRAY_LEN(odd)];
	}
}

START_TEST(the_filter_says_what_the_list_says)
{
	static const uint32_t want_of[] = { [ALLOWED] = SECCOMP_RET_ALLOW, [KILLED] = SECCOMP_RET_KILL_PROCESS };
	unsigned refused = 0, allowed = 0;

	box = (struct sandbox){ .role = roles[_i] };
	compile();
	for (int nr = 0; nr < 1100; nr++) {
		char *name = refused_name(nr);
		const struct row *row = name ? row_of(name, box.role) : NULL;

		for (int i = 0; i < (row ? 400 : 3); i++) {
			uint64_t a[6];
			uint32_t want = nr > 450 && nr < 512 ? SECCOMP_RET_ERRNO | ENOSYS : SECCOMP_RET_TRAP, got;
			int err;

			for (int k = 0; k < 6; k++)
				a[k] = some_number();
			err = name ? wanted_error(name, box.role, a) : 0;
			if (row && nr <= 450)
				want = row->what == REFUSED ? SECCOMP_RET_ERRNO | (uint32_t)row->err : want_of[(int)row->what];
			if (want == SECCOMP_RET_ALLOW && err)
				want = SECCOMP_RET_ERRNO | (uint32_t)err;
			got = ask(seccomp_arch_native(), nr, a);
			ck_assert_msg(got == want, "%s (%d) %#llx %#llx %#llx %#llx: %#x, not %#x", name ? name : "?", nr, (unsigned long long)a[0],
			    (unsigned long long)a[1], (unsigned long long)a[2], (unsigned long long)a[3], got, want);
			refused += err != 0;
			allowed += got == SECCOMP_RET_ALLOW;
		}
		free(name);
	}
	ck_assert_uint_gt(refused, 500);
	ck_assert_uint_gt(allowed, 5000);
}
END_TEST

/* A misspelt name would be left out in silence: here are the ones that this machine may lack. */
START_TEST(names_are_of_this_kernel)
{
	static const char *const old[] = { "open", "stat", "lstat", "access", "readlink", "poll", "epoll_wait", "time", "fork", "vfork",
		"chmod", "chown", "lchown", "iopl", "ioperm", "modify_ldt" };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool may_lack = false;

#ifndef __x86_64__
		for (size_t k = 0; k < ARRAY_LEN(old); k++)
			may_lack = may_lack || !strcmp(old[k], rows[i].name);
#else
		(void)old;
#endif
		ck_assert_msg(may_lack || seccomp_syscall_resolve_name(rows[i].name) >= 0, "%s", rows[i].name);
	}
}
END_TEST

/* No call has two rows for one role: the second would be refused or forgotten. */
START_TEST(rows_are_one_a_role)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (size_t k = 0; k < i; k++)
			ck_assert_msg(strcmp(rows[i].name, rows[k].name) || !(rows[i].roles & rows[k].roles), "%s", rows[i].name);
}
END_TEST

START_TEST(other_entries_are_killed)
{
	const uint64_t a[6] = { 0 };

	box = (struct sandbox){ .role = roles[_i] };
	compile();
	ck_assert_uint_eq(ask(AUDIT_ARCH_ARM, SYS_read, a), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_eq(ask(seccomp_arch_native(), SYS_read, a), SECCOMP_RET_ALLOW);
#ifdef __x86_64__
	ck_assert_uint_eq(ask(AUDIT_ARCH_I386, 3, a), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_eq(ask(AUDIT_ARCH_X86_64, SYS_read | 0x40000000, a), SECCOMP_RET_KILL_PROCESS);
#endif
}
END_TEST

START_TEST(modes)
{
	const uint64_t a[6] = { AF_UNIX, SOCK_STREAM };
	const uint32_t native = seccomp_arch_native();

	box = (struct sandbox){ .role = SANDBOX_NETWORK, .rules.unlisted = SANDBOX_KILL };
	compile();
	ck_assert_uint_eq(ask(native, SYS_mlock, a), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_eq(ask(native, SYS_execve, a), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_eq(ask(native, SYS_socket, a), SECCOMP_RET_ERRNO | EAFNOSUPPORT);
	box.rules = (struct sandbox_rules){ .mode = SANDBOX_LOG };
	compile();
	ck_assert_uint_eq(ask(native, SYS_mlock, a), SECCOMP_RET_LOG);
	ck_assert_uint_eq(ask(native, SYS_execve, a), SECCOMP_RET_LOG);
	ck_assert_uint_eq(ask(native, SYS_socket, a), SECCOMP_RET_LOG);
	ck_assert_uint_eq(ask(native, SYS_clone3, a), SECCOMP_RET_LOG);
	ck_assert_uint_eq(ask(native, 460, a), SECCOMP_RET_LOG);
	ck_assert_uint_eq(ask(native, SYS_read, a), SECCOMP_RET_ALLOW);
}
END_TEST

/* Landlock alone would see what openat2 opens a file for. */
START_TEST(without_landlock_no_openat2)
{
	const uint64_t a[6] = { 0 };

	box = (struct sandbox){ .role = SANDBOX_LOCAL };
	landlock = 0;
	compile();
	ck_assert_uint_eq(ask(seccomp_arch_native(), SYS_openat2, a), SECCOMP_RET_ERRNO | ENOSYS);
	landlock = 2;
	compile();
	ck_assert_uint_eq(ask(seccomp_arch_native(), SYS_openat2, a), SECCOMP_RET_ALLOW);
}
END_TEST

/* ---- the page ------------------------------------------------------------------------------------------------------------ */

START_TEST(page_is_not_believed)
{
	static const int32_t bad[][2] = { { 0, 5 }, { 0x50616765, -1 }, { 0x50616765, 5000 }, { 1, 5 } };
	struct refused r;
	int fd = refused_create();

	ck_assert_int_ge(fd, 0);
	refused_read(fd, &r);
	ck_assert_int_eq(r.nr, -1);
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), -1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_int_eq(pwrite(fd, bad[i], sizeof(bad[i]), 0), sizeof(bad[i]));
		refused_read(fd, &r);
		ck_assert_int_eq(r.nr, -1);
	}
	refused_read(-1, &r);
	ck_assert_int_eq(r.nr, -1);
	close(fd);
}
END_TEST

START_TEST(names)
{
	char *name = refused_name(SYS_mlock);

	ck_assert_str_eq(name, "mlock");
	free(name);
	ck_assert_ptr_null(refused_name(4000));
}
END_TEST

/* ---- for real ------------------------------------------------------------------------------------------------------------ */

#ifndef SANITIZED

static char dir[64];

static void
tree(void)
{
	char path[128];

	snprintf(dir, sizeof(dir), "/tmp/iis-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%c", dir, 'a' + i);
		ck_assert_int_eq(mkdir(path, 0755), 0);
		snprintf(path, sizeof(path), "%s/%c/file", dir, 'a' + i);
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
}

static void
no_tree(void)
{
	char *command = xasprintf("rm -r %s", dir);

	ck_assert_int_eq(system(command), 0);
	free(command);
}

static const char *
in(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void
enter(struct sandbox *s, const char *root)
{
	struct sandbox_active active;
	struct err e = ERR_INIT;
	char words[512];
	const char *list[] = { root };

	s->roots = list;
	s->n_roots = root ? 1 : 0;
	s->file_max = 1 << 20;
	s->open_files = 64;
	if (sandbox_enter(s, &active, words, sizeof(words), &e) < 0) {
		dprintf(2, "%s\n", e.text);
		_exit(99);
	}
}

static int
opens(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0 ? 0 : errno;
}

/* A process of its own; its status. refused: what it left on the page. */
static int
in_child(void (*body)(void), struct refused *refused)
{
	int fd = refused_create(), status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		refused_map(fd);
		body();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (refused)
		refused_read(fd, refused);
	close(fd);
	return status;
}

static void
calls_mlock(void)
{
	struct sandbox s = { .role = SANDBOX_LOCAL };

	enter(&s, NULL);
	syscall(SYS_mlock, 0x1000, 0x2000, 3);
	_exit(1);
}

/* Takes the handler away first. */
static void
calls_mlock_unhandled(void)
{
	struct sandbox s = { .role = SANDBOX_NETWORK };

	enter(&s, NULL);
	signal(SIGSYS, SIG_DFL);
	syscall(SYS_mlock, 0, 0, 0);
	_exit(1);
}

static void
calls_execve(void)
{
	struct sandbox s = { .role = SANDBOX_HTTP };

	enter(&s, NULL);
	signal(SIGSYS, SIG_IGN);
	execl("/bin/true", "true", (char *)NULL);
	_exit(1);
}

static void
calls_mlock_plain_kill(void)
{
	struct sandbox s = { .role = SANDBOX_LOCAL, .rules.unlisted = SANDBOX_KILL };

	enter(&s, NULL);
	syscall(SYS_mlock, 0, 0, 0);
	_exit(1);
}

static void
aborts(void)
{
	struct sandbox s = { .role = SANDBOX_CREDENTIALS };

	enter(&s, NULL);
	abort();
}

START_TEST(refused_call_is_named)
{
	struct refused r;
	int status = in_child(calls_mlock, &r);

	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %#x", status);
	ck_assert_int_eq(r.nr, SYS_mlock);
	ck_assert_uint_eq(r.args[0], 0x1000);
	ck_assert_uint_eq(r.args[1], 0x2000);
	ck_assert_uint_eq(r.args[2], 3);
}
END_TEST

START_TEST(nothing_outlives_its_refusal)
{
	static void (*const bodies[])(void) = { calls_mlock_unhandled, calls_execve, calls_mlock_plain_kill };
	struct refused r;

	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		int status = in_child(bodies[i], &r);

		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%zu: status %#x", i, status);
		ck_assert_int_eq(r.nr, -1);
	}
}
END_TEST

START_TEST(abort_keeps_its_signal)
{
	int status = in_child(aborts, NULL);

	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", status);
}
END_TEST

static unsigned abi_of_case;

static void
reads_its_root(void)
{
	struct sandbox s = { .role = SANDBOX_LOCAL, .rules.landlock_max = abi_of_case };
	struct err e = ERR_INIT;

	enter(&s, dir);
	if (opens(in("a/file")) || opens(in("b/file")) || sandbox_stale())
		_exit(1);
	if (opens("/etc/passwd") != (abi_of_case ? EACCES : 0))
		_exit(2);
	if (open(in("a/file"), O_WRONLY) >= 0 || open(in("a/new"), O_CREAT | O_WRONLY, 0600) >= 0)
		_exit(3);
	if (sandbox_narrow(in("a"), &e) != (abi_of_case > 0))
		_exit(4);
	if (opens(in("a/file")) || opens(in("b/file")) != (abi_of_case ? EACCES : 0))
		_exit(5);
	/* a wider layer on top widens nothing */
	if (sandbox_narrow(dir, &e) < 0 || opens(in("b/file")) != (abi_of_case ? EACCES : 0))
		_exit(6);
}

START_TEST(files_by_landlock)
{
	static const unsigned abis[] = { 0, 1, 2, 3, 4, 5, 6, 7, 99 };
	struct sandbox_kernel k;
	int status;

	sandbox_kernel(&k);
	ck_assert(k.seccomp);
	abi_of_case = abis[_i];
	if (!k.landlock)
		abi_of_case = 0;
	tree();
	status = in_child(reads_its_root, NULL);
	no_tree();
	ck_assert_msg(WIFEXITED(status) && !WEXITSTATUS(status), "ABI %u: status %#x", abi_of_case, status);
}
END_TEST

static int go[2], told[2];

/* Looks, says so, waits for the other side, looks again. */
static void
root_is_replaced(void)
{
	struct sandbox s = { .role = SANDBOX_LOCAL, .rules.landlock_max = 99 };
	char c = sandbox_stale();

	enter(&s, in("a"));
	c = sandbox_stale();
	if (write(told[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
		_exit(1);
	_exit(sandbox_stale() ? 42 : 2);
}

START_TEST(replaced_root_is_stale)
{
	char there[128], c;
	pid_t helper;

	tree();
	ck_assert_int_eq(pipe(go), 0);
	ck_assert_int_eq(pipe(told), 0);
	helper = fork();
	if (!helper) {
		if (read(told[0], &c, 1) != 1 || c)
			_exit(1);
		snprintf(there, sizeof(there), "%s/old", dir);
		if (rename(in("a"), there) < 0 || mkdir(in("a"), 0755) < 0)
			_exit(2);
		_exit(write(go[1], "", 1) != 1);
	}
	ck_assert_int_eq(WEXITSTATUS(in_child(root_is_replaced, NULL)), 42);
	waitpid(helper, NULL, 0);
	no_tree();
}
END_TEST

#endif

static bool
under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

static void
with_seccomp(TCase *t)
{
	tcase_add_loop_test(t, the_filter_says_what_the_list_says, 0, ARRAY_LEN(roles));
	tcase_add_loop_test(t, other_entries_are_killed, 0, ARRAY_LEN(roles));
	tcase_add_test(t, modes);
	tcase_add_test(t, without_landlock_no_openat2);
#ifndef SANITIZED
	tcase_add_test(t, refused_call_is_named);
	tcase_add_test(t, nothing_outlives_its_refusal);
	tcase_add_test(t, abort_keeps_its_signal);
	tcase_add_loop_test(t, files_by_landlock, 0, 9);
	tcase_add_test(t, replaced_root_is_stale);
#endif
}

int
main(void)
{
	Suite *s = suite_create("common_sandbox");
	TCase *t = tcase_create("sandbox");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, names_are_of_this_kernel);
	tcase_add_test(t, rows_are_one_a_role);
	tcase_add_test(t, page_is_not_believed);
	tcase_add_test(t, names);
	/* valgrind is a kernel without seccomp: the library makes no filter there */
	if (!under_valgrind())
		with_seccomp(t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
