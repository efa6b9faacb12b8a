/*
 * confine.c - what the children are told of their sandbox, and whether this machine can do it. Called by main.c before any
 * child is started.
 *
 * Under sandbox.mode enforce a kernel without system call filters is refused, since nothing would stop a worker that was
 * taken over; one without Landlock is served, and what then does not hold is logged. Never loads a filter of its own.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "master/master.h"
#include "common/banned.h"

static int
find_user(const char *name, struct sandbox_rules *r, struct err *e)
{
	const struct passwd *pw;

	if (!*name)
		return 0;
	errno = 0;
	pw = getpwnam(name);
	if (!pw && errno)
		return err_errno(e, ERR_CONFIG, "sandbox.user: cannot look up %s", name);
	if (!pw)
		return err_set(e, ERR_CONFIG, "sandbox.user: there is no user %s", name);
	if (!pw->pw_uid)
		return err_set(e, ERR_CONFIG, "sandbox.user: %s is root: name another user, or leave it empty", name);
	if (geteuid() && geteuid() != pw->pw_uid)
		return err_set(e, ERR_CONFIG, "sandbox.user: only root can start workers as %s: start the daemon as root, or leave it empty", name);
	/* Who is that user already needs no change, and has no right to one. */
	if (!geteuid()) {
		r->uid = pw->pw_uid;
		r->gid = pw->pw_gid;
	}
	return 0;
}

int
confine_start(struct master *m, struct err *e)
{
	const struct config *c = m->cfg;
	struct sandbox_kernel *k = &m->kernel;
	char abi[8];

	sandbox_kernel(k);
	m->sandbox = (struct sandbox_rules){ .mode = (enum sandbox_mode)c->sandbox_mode,
		.unlisted = (enum sandbox_unlisted)c->sandbox_unlisted, .landlock_max = (unsigned)c->sandbox_landlock };
	if (find_user(c->sandbox_user, &m->sandbox, e) < 0)
		return -1;
	if (m->sandbox.mode != SANDBOX_OFF && !k->seccomp)
		return err_set(e, ERR_CONFIG, "sandbox.mode: %s needs seccomp, which this kernel or the container around does not allow: use a kernel "
		    "with CONFIG_SECCOMP_FILTER (Debian's have it), or let the container have it, or set sandbox.mode: off and "
		    "run no jobs of people you do not trust", sandbox_mode_name(m->sandbox.mode));
	snprintf(abi, sizeof(abi), "%u", confine_landlock(m));
	metric_set(METRIC_SANDBOX, 1, sandbox_mode_name(m->sandbox.mode), abi);
	LOG(LOG_INFO, "sandbox", LS("mode", sandbox_mode_name(m->sandbox.mode)), LT("seccomp", k->seccomp), LI("landlock_kernel", k->landlock),
	    LI("landlock", confine_landlock(m)), LI("uid", m->sandbox.uid ? m->sandbox.uid : geteuid()));
	if (m->sandbox.mode != SANDBOX_ENFORCE)
		LOG(LOG_WARN, "sandbox_weak", LS("mode", sandbox_mode_name(m->sandbox.mode)), LS("lacks", confine_lacks(m)),
		    LS("todo", "set sandbox.mode: enforce"));
	else if (confine_lacks(m))
		LOG(LOG_WARN, "sandbox_weak", LS("mode", "enforce"), LS("lacks", confine_lacks(m)),
		    LS("todo", confine_landlock(m) ? "let the children be a user that can write nothing there (sandbox.user, or the unit's User= and "
		    "ProtectSystem=), or use a kernel of 6.2 or later" : "use a kernel of 6.2 or later (5.19 at least) with Landlock switched "
		    "on (lsm=landlock,...)"));
	return 0;
}

unsigned
confine_landlock(const struct master *m)
{
	unsigned abi = m->kernel.landlock;

	if (m->sandbox.mode != SANDBOX_ENFORCE)
		return 0;
	if (abi > LANDLOCK_ABI_KNOWN)
		abi = LANDLOCK_ABI_KNOWN;
	return abi < m->sandbox.landlock_max ? abi : m->sandbox.landlock_max;
}

const char *
confine_lacks(const struct master *m)
{
	if (m->sandbox.mode == SANDBOX_OFF)
		return "system calls and files: a worker that was taken over can do what its user can";
	if (m->sandbox.mode == SANDBOX_LOG)
		return "system calls and files: what would be refused is let through and logged by the kernel";
	if (!confine_landlock(m))
		return "files: a worker that was taken over can read what its user can read (it can write nothing); links below local "
		    "roots are not followed";
	/* O_RDONLY | O_TRUNC, hidden from the filter in openat2's struct */
	if (confine_landlock(m) < 3)
		return "emptying: a worker of role local that was taken over can empty files below the local roots that its user may write";
	return NULL;
}
