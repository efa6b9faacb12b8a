/*
 * sandbox.c - what a child gives up before it says READY; see sandbox.h.
 *
 * Called by the main.c of workers and of the status child, from their only thread (a local worker makes its second one
 * between Landlock and the filters, and so has both there). It never ends the process: a
 * child whose sandbox failed reports it and ends with 71. What cannot be had on some machine and only helps the rest
 * of it (the out-of-memory score) is tried and left out of the words that sandbox_enter writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/banned.h"

static bool oom_first;

/*
 * Handlers end at exec; what is ignored or blocked stays. Back to the default, but for: XFSZ, so that a full spool is
 * an error and not a death; PIPE, likewise for stderr; INT and HUP, which a terminal sends to the whole group while
 * only the master decides what becomes of its children.
 */
static int
reset_signals(struct err *e)
{
	static const int ignored[] = { SIGXFSZ, SIGPIPE, SIGINT, SIGHUP };
	struct sigaction sa;
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++) {
		if (sigaction(sig, NULL, &sa) < 0 || sa.sa_handler != SIG_IGN)
			continue;
		sa = (struct sigaction){ .sa_handler = SIG_DFL };
		sigaction(sig, &sa, NULL);
	}
	sa = (struct sigaction){ .sa_handler = SIG_IGN };
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		if (sigaction(ignored[i], &sa, NULL) < 0)
			return err_errno(e, ERR_SYSTEM, "ignoring signal %d", ignored[i]);
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return err_errno(e, ERR_SYSTEM, "unblocking signals");
	return 0;
}

/* Under memory pressure a worker goes before the master. Must come before the process is not dumpable: its files in
 * /proc belong to root then. */
static void
prefer_for_oom(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	oom_first = fd >= 0 && write(fd, "500", 3) == 3;
	if (fd >= 0)
		close(fd);
}

/* Sets soft and hard; a lower hard limit that is there already stays, as only root could raise it. */
static int
limit(int what, const char *name, rlim_t soft, rlim_t hard, struct err *e)
{
	struct rlimit r;

	if (getrlimit((__rlimit_resource_t)what, &r) < 0)
		return err_errno(e, ERR_SYSTEM, "reading the limit %s", name);
	if (r.rlim_max == RLIM_INFINITY || hard < r.rlim_max)
		r.rlim_max = hard;
	r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
	if (setrlimit((__rlimit_resource_t)what, &r) < 0)
		return err_errno(e, ERR_SYSTEM, "setting the limit %s", name);
	return 0;
}

static int
not_dumpable(struct err *e)
{
#ifndef SANITIZED
	/* The leak check of a sanitizer attaches to its own process at the end. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_errno(e, ERR_SYSTEM, "becoming not dumpable");
#else
	(void)e;
#endif
	return 0;
}

const char *
sandbox_mode_name(enum sandbox_mode m)
{
	static const char *const names[SANDBOX_MODE__MAX] = {
		[SANDBOX_ENFORCE] = "enforce", [SANDBOX_LOG] = "log", [SANDBOX_OFF] = "off",
	};

	return names[m];
}

int
sandbox_prepare(const struct sandbox *s, struct err *e)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_errno(e, ERR_SYSTEM, "asking for the parent-death signal");
	/* It may have died before the signal was asked for. */
	if (getppid() != s->parent_pid)
		return err_set(e, ERR_SYSTEM, "the parent %d is gone", s->parent_pid);
	prefer_for_oom();
	if (limit(RLIMIT_CORE, "core", 0, 0, e))
		return -1;
	if (not_dumpable(e) < 0)
		return -1;
	if (close_range((unsigned)s->keep_fds, ~0U, 0) < 0)
		return err_errno(e, ERR_SYSTEM, "closing inherited descriptors");
	return reset_signals(e);
}

/*
 * Another user, for good. Whoever changes the user loses the parent-death signal and may be dumped again: both once more.
 * As before, the parent may have died between.
 */
static int
become(const struct sandbox *s, struct err *e)
{
	const struct sandbox_rules *r = &s->rules;

	if (!r->uid)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(r->gid, r->gid, r->gid) < 0 || setresuid(r->uid, r->uid, r->uid) < 0)
		return err_errno(e, ERR_SYSTEM, "becoming user %u", r->uid);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_errno(e, ERR_SYSTEM, "asking for the parent-death signal again");
	if (getppid() != s->parent_pid)
		return err_set(e, ERR_SYSTEM, "the parent %d is gone", s->parent_pid);
	return not_dumpable(e);
}

static int
limits(const struct sandbox *s, struct err *e)
{
	rlim_t cpu = (rlim_t)s->cpu_max_s;

	if (limit(RLIMIT_NOFILE, "nofile", (rlim_t)s->open_files, (rlim_t)s->open_files, e) ||
	    limit(RLIMIT_FSIZE, "fsize", (rlim_t)s->file_max, (rlim_t)s->file_max, e))
		return -1;
#ifndef SANITIZED
	if (s->data_max > 0 && limit(RLIMIT_DATA, "data", (rlim_t)s->data_max, (rlim_t)s->data_max, e))
		return -1;
#endif
	/* Hard above soft: equal ones give a bare SIGKILL that looks like the out-of-memory killer. */
	if (cpu > 0 && limit(RLIMIT_CPU, "cpu", cpu, cpu + 5, e))
		return -1;
	return 0;
}

/* What holds, for people. */
static void
describe(const struct sandbox_active *a, char *out, size_t n)
{
	char landlock[24] = "";

	if (a->landlock)
		snprintf(landlock, sizeof(landlock), " landlock_%u", a->landlock);
	snprintf(out, n, "%s uid_%u parent_death_signal closed_descriptors clean_signals rlimits no_new_privs%s%s%s%s",
	    sandbox_mode_name(a->mode), a->uid, prctl(PR_GET_DUMPABLE) == 0 ? " not_dumpable" : "", oom_first ? " oom_first" : "",
	    landlock, a->filter ? a->mode == SANDBOX_LOG ? " seccomp_log" : " seccomp" : "");
}

int
sandbox_enter(const struct sandbox *s, struct sandbox_active *active, char *out, size_t n, struct err *e)
{
	*active = (struct sandbox_active){ .mode = s->rules.mode };
#ifdef SANITIZED
	/* Sanitizers end with ptrace (leaks), want threads and files of their own, and map what they like. */
	active->mode = SANDBOX_OFF;
#endif
	if (become(s, e) < 0 || limits(s, e) < 0)
		return -1;
	active->uid = getuid();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, ERR_SYSTEM, "setting no_new_privs");
	/* Landlock can only refuse, not log. */
	if (active->mode == SANDBOX_ENFORCE && landlock_enter(s, &active->landlock, e) < 0)
		return -1;
	if (s->threads)
		s->threads();
	active->filter = active->mode != SANDBOX_OFF;
	describe(active, out, n);
	return active->filter ? seccomp_enter(s, active->landlock, e) : 0;
}
