/*
 * sandbox_landlock.c - which files a child may read: Landlock layers. Called by sandbox.c before the system call filter, and
 * by the worker for one more layer of one task.
 *
 * Reading below the roots of a local worker; of a network worker what name resolution and TLS read; of the status child
 * nothing. Whatever the kernel's ABI has beyond that is refused: writing, executing, renaming, device ioctls, TCP ports,
 * signals and abstract sockets beyond the process. An older kernel refuses less; sandbox.c says what is active. Never
 * fails for a path that is not there.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* Debian 12's header has those of ABI 2. */
#define FS_READ_FILE (1ULL << 2)
#define FS_READ_DIR (1ULL << 3)
#define FS_TO_ABI(n) ((1ULL << (n)) - 1)
#define NET_BIND_TCP (1ULL << 0)
#define NET_CONNECT_TCP (1ULL << 1)
#define SCOPE_ABSTRACT_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL (1ULL << 1)
#define RULE_PATH_BENEATH 1
#define CREATE_RULESET_VERSION 1U

struct ruleset_attr { uint64_t fs, net, scoped; };              /* the kernel takes as much of it as its ABI knows */
struct path_attr { uint64_t allowed; int32_t fd; } __attribute__((packed));

/* Name resolution: single files, as their directory holds other people's secrets. */
static const char *const resolver_files[] = {
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/ssl/openssl.cnf",
};
/* These hold nothing else. */
static const char *const network_dirs[] = {
	"/run/systemd/resolve", "/run/resolvconf", "/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
	"/usr/share/zoneinfo",
};

#define GRANTS_MAX 512
/* What was allowed: its path, and which inode that was. */
static struct grant { char *path; dev_t dev; ino_t ino; } grants[GRANTS_MAX];
static size_t n_grants;
static unsigned active_abi;

unsigned
landlock_kernel(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return abi > 0 ? (unsigned)abi : 0;
}

/* Every right on files that this ABI can take away. */
static uint64_t
fs_rights(unsigned abi)
{
	return FS_TO_ABI(abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13);
}

static int
create(unsigned abi, enum sandbox_role role, struct err *e)
{
	struct ruleset_attr a = { .fs = fs_rights(abi) };
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	int fd;

	if (abi >= 4)
		a.net = NET_BIND_TCP | (role == SANDBOX_LOCAL || role == SANDBOX_HTTP || role == SANDBOX_BROKERED ? NET_CONNECT_TCP : 0);
	if (abi >= 6)
		a.scoped = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL;
	fd = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
	return fd >= 0 ? fd : err_errno(e, ERR_SYSTEM, "making a Landlock ruleset of ABI %u", abi);
}

static void
remember(const char *path, const struct stat *st)
{
	if (n_grants == GRANTS_MAX)
		return;
	grants[n_grants].path = xstrdup(path);
	grants[n_grants].dev = st ? st->st_dev : 0;
	grants[n_grants++].ino = st ? st->st_ino : 0;
}

/* Reading of this file, or below this directory. One that is not there is remembered as such: it may come. */
static int
allow(int ruleset, const char *path, bool noting, struct err *e)
{
	struct path_attr rule = { .allowed = FS_READ_FILE };
	struct stat st;
	int fd = open(path, O_PATH | O_CLOEXEC), ret = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		if (noting)
			remember(path, NULL);
	} else {
		rule.fd = fd;
		if (S_ISDIR(st.st_mode))
			rule.allowed |= FS_READ_DIR;
		if (noting)
			remember(path, &st);
		if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
			ret = err_errno(e, ERR_SYSTEM, "a Landlock rule for %s", path);
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

static int
allow_all(int ruleset, const struct sandbox *s, struct err *e)
{
	if (s->role == SANDBOX_LOCAL) {
		for (size_t i = 0; i < s->n_roots; i++)
			if (allow(ruleset, s->roots[i], true, e) < 0)
				return -1;
	} else if (s->role != SANDBOX_HTTP) {
		for (size_t i = 0; i < ARRAY_LEN(resolver_files); i++)
			if (allow(ruleset, resolver_files[i], true, e) < 0)
				return -1;
		for (size_t i = 0; i < ARRAY_LEN(network_dirs); i++)
			if (allow(ruleset, network_dirs[i], false, e) < 0)
				return -1;
	}
	return 0;
}

static int
restrict_self(int ruleset, struct err *e)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? err_errno(e, ERR_SYSTEM, "closing Landlock") : 0;
}

int
landlock_enter(const struct sandbox *s, uint8_t *abi, struct err *e)
{
	unsigned use = landlock_kernel();
	int fd, ret;

	if (use > LANDLOCK_ABI_KNOWN)
		use = LANDLOCK_ABI_KNOWN;
	if (use > s->rules.landlock_max)
		use = s->rules.landlock_max;
	*abi = (uint8_t)use;
	active_abi = use;
	if (!use)
		return 0;
	fd = create(use, s->role, e);
	if (fd < 0)
		return -1;
	ret = allow_all(fd, s, e) < 0 || restrict_self(fd, e) < 0 ? -1 : 0;
	close(fd);
	return ret;
}

int
sandbox_narrow_to(const char *const *roots, size_t n, struct err *e)
{
	int fd, ret = 1;

	if (!active_abi)
		return 0;
	fd = create(active_abi, SANDBOX_LOCAL, e);
	if (fd < 0)
		return -1;
	for (size_t i = 0; i < n && ret > 0; i++)
		if (allow(fd, roots[i], false, e) < 0)
			ret = -1;
	if (ret > 0 && restrict_self(fd, e) < 0)
		ret = -1;
	close(fd);
	return ret;
}

int
sandbox_narrow(const char *root, struct err *e)
{
	return sandbox_narrow_to(&root, 1, e);
}

bool
sandbox_stale(void)
{
	struct stat st;

	for (size_t i = 0; i < n_grants; i++) {
		bool there = stat(grants[i].path, &st) == 0;

		if (there && (st.st_dev != grants[i].dev || st.st_ino != grants[i].ino))
			return true;
	}
	return false;
}
