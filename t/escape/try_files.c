/*
 * try_files.c - attempts on files: contents and names outside of the root, changes anywhere, ways round the path.
 *
 * Raw system calls, so that what is tried is what the row says and not what the C library makes of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/xalloc.h"
#include "t/escape/escape.h"
#include "common/banned.h"

static int
read_fd(int fd)
{
	char text[4096];
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text));
	return n < 0 ? -1 : steal(text, (size_t)n);
}

static int
raw_openat2(int at, const char *path, uint64_t flags, uint64_t mode)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .mode = mode };

	return (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
}

static int
raw_openat(const char *path, int flags, mode_t mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static int
read_path(const char *path)
{
	return read_fd(raw_openat(path, O_RDONLY, 0));
}

static int
write_fd(int fd)
{
	if (fd < 0)
		return -1;
	return write(fd, "evil", 4) == 4 ? 0 : -1;
}

/* 0 or -1 of a system call's answer */
static int
came(long r)
{
	return r < 0 ? -1 : 0;
}

static const char *
secret(const struct world *w)
{
	return in_dir(w->outside, "secret.txt");
}

/* Reading */

static int a_openat(const struct world *w) { return read_path(secret(w)); }
static int a_openat2(const struct world *w) { return read_fd(raw_openat2(AT_FDCWD, secret(w), O_RDONLY, 0)); }
static int a_dotdot(const struct world *w) { return read_path(in_dir(w->root, "../outside/secret.txt")); }
static int a_symlink(const struct world *w) { return read_path(in_dir(w->root, "link-to-secret")); }
static int a_dirlink(const struct world *w) { return read_path(in_dir(w->root, "link-to-outside/secret.txt")); }

static int
a_open(const struct world *w)
{
#ifdef SYS_open
	return read_fd((int)syscall(SYS_open, secret(w), O_RDONLY));
#else
	(void)w;
	return NOT_HERE;
#endif
}

static int
a_list(const struct world *w)
{
	char names[4096];
	int fd = raw_openat(w->outside, O_RDONLY | O_DIRECTORY, 0);
	long n;

	if (fd < 0)
		return -1;
	n = syscall(SYS_getdents64, fd, names, sizeof(names));
	/* one of the names holds the secret */
	return n < 0 ? -1 : steal(names, (size_t)n);
}

static int
a_shadow(const struct world *w)
{
	char text[64];
	int fd = raw_openat("/etc/shadow", O_RDONLY, 0);

	(void)w;
	return fd < 0 ? -1 : came(read(fd, text, sizeof(text)));
}

static int
a_self_root(const struct world *w)
{
	return read_path(in_dir("/proc/self/root", secret(w) + 1));
}

static const char *
proc(pid_t pid, const char *name)
{
	static char path[2][128];
	static unsigned turn;

	turn ^= 1;
	snprintf(path[turn], sizeof(path[turn]), "/proc/%d/%s", (int)pid, name);
	return path[turn];
}

static int a_master_root(const struct world *w) { return read_path(in_dir(proc(w->master, "root"), secret(w) + 1)); }
static int a_master_cwd(const struct world *w) { return read_path(in_dir(proc(w->master, "cwd"), "outside/secret.txt")); }
static int a_sibling_spool(const struct world *w) { return read_path(proc(w->sibling, "fd/4")); }
static int a_environ(const struct world *w) { return came(raw_openat(proc(w->master, "environ"), O_RDONLY, 0)); }
static int a_maps(const struct world *w) { return came(raw_openat(proc(w->sibling, "maps"), O_RDONLY, 0)); }

static int
a_handle(const struct world *w)
{
	union { struct file_handle h; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u;
	int id, at;

	memset(&u, 0, sizeof(u));
	u.h.handle_bytes = MAX_HANDLE_SZ;
	if (syscall(SYS_name_to_handle_at, AT_FDCWD, secret(w), &u.h, &id, 0) < 0)
		return -1;
	at = raw_openat(w->root, O_RDONLY | O_DIRECTORY, 0);
	return at < 0 ? -1 : read_fd((int)syscall(SYS_open_by_handle_at, at, &u.h, O_RDONLY));
}

/* Without the path to a handle: made up from the number of the file, as on a file system that does no more. */
static int
a_handle_alone(const struct world *w)
{
	union { struct file_handle h; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u;

	(void)w;
	memset(&u, 0, sizeof(u));
	u.h.handle_bytes = 8;
	u.h.handle_type = 1;
	return came(syscall(SYS_open_by_handle_at, FD_SPOOL, &u.h, O_RDONLY));
}

static int a_leaked(const struct world *w) { (void)w; return read_fd(FD_LEAKED); }

static int
a_leaked_dir(const struct world *w)
{
	return read_fd((int)syscall(SYS_openat, FD_LEAKED_DIR, secret(w) + 1, O_RDONLY));
}

static int
a_any_fd(const struct world *w)
{
	(void)w;
	for (int fd = FD_LISTEN; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0 && fd != FD_LISTEN)
			return 0;
	errno = EBADF;
	return -1;
}

/* A worker serves one tenant at a time, whose part of the roots is all that it may still read from its first task on. */
static int
narrowed(const struct world *w, const char *then)
{
	struct err e = ERR_INIT;

	if (sandbox_narrow(in_dir(w->root, "mine"), &e) < 0 || (then && sandbox_narrow(then, &e) < 0)) {
		errno = EPROTO;
		return -1;
	}
	return read_path(in_dir(w->root, "other/secret.txt"));
}

static int a_narrow(const struct world *w) { return narrowed(w, NULL); }
static int a_narrow_link(const struct world *w) { return narrowed(w, NULL) < 0 ? read_path(in_dir(w->root, "mine/link")) : 0; }
/* A layer that allows more, on top of one that allows less. */
static int a_narrow_wide(const struct world *w) { return narrowed(w, "/"); }

/* That what it may read it does read: else the attempts above would prove nothing of a worker that reads nothing. */
static int
a_narrow_own(const struct world *w)
{
	return narrowed(w, NULL) < 0 ? read_path(in_dir(w->root, "mine/file")) : 0;
}

static int
a_kmsg(const struct world *w)
{
	(void)w;
	return came(raw_openat("/dev/kmsg", O_RDONLY | O_NONBLOCK, 0));
}

/* Writing */

static int a_write(const struct world *w) { return write_fd(raw_openat(in_dir(w->outside, "file"), O_WRONLY, 0)); }
static int a_write_root(const struct world *w) { return write_fd(raw_openat(in_dir(w->root, "file"), O_WRONLY, 0)); }
static int a_append(const struct world *w) { return write_fd(raw_openat(in_dir(w->outside, "file"), O_WRONLY | O_APPEND, 0)); }
static int a_rdwr(const struct world *w) { return write_fd(raw_openat(in_dir(w->outside, "file"), O_RDWR, 0)); }
static int a_create(const struct world *w) { return write_fd(raw_openat(in_dir(w->outside, "new"), O_WRONLY | O_CREAT, 0600)); }
static int a_create_root(const struct world *w) { return write_fd(raw_openat(in_dir(w->root, "new"), O_WRONLY | O_CREAT, 0600)); }
static int a_create_read(const struct world *w) { return came(raw_openat(in_dir(w->outside, "new"), O_RDONLY | O_CREAT, 0600)); }
static int a_trunc_read(const struct world *w) { return came(raw_openat(in_dir(w->outside, "file"), O_RDONLY | O_TRUNC, 0)); }
static int a_tmpfile(const struct world *w) { return write_fd(raw_openat(w->outside, O_WRONLY | O_TMPFILE, 0600)); }
static int a_openat2_write(const struct world *w) { return write_fd(raw_openat2(AT_FDCWD, in_dir(w->outside, "file"), O_WRONLY, 0)); }
static int a_openat2_root(const struct world *w) { return write_fd(raw_openat2(AT_FDCWD, in_dir(w->root, "file"), O_WRONLY, 0)); }
static int a_openat2_create(const struct world *w) { return came(raw_openat2(AT_FDCWD, in_dir(w->outside, "new"), O_WRONLY | O_CREAT, 0600)); }
static int a_openat2_trunc(const struct world *w) { return came(raw_openat2(AT_FDCWD, in_dir(w->outside, "file"), O_RDONLY | O_TRUNC, 0)); }
static int a_openat2_trunc_root(const struct world *w) { return came(raw_openat2(AT_FDCWD, in_dir(w->root, "file"), O_RDONLY | O_TRUNC, 0)); }
static int a_truncate(const struct world *w) { return came(syscall(SYS_truncate, in_dir(w->outside, "file"), 0L)); }
static int a_truncate_root(const struct world *w) { return came(syscall(SYS_truncate, in_dir(w->root, "file"), 0L)); }
static int a_unlink(const struct world *w) { return came(syscall(SYS_unlinkat, AT_FDCWD, in_dir(w->outside, "file"), 0)); }
static int a_rmdir(const struct world *w) { return came(syscall(SYS_unlinkat, AT_FDCWD, in_dir(w->outside, "empty"), AT_REMOVEDIR)); }
static int a_mkdir(const struct world *w) { return came(syscall(SYS_mkdirat, AT_FDCWD, in_dir(w->root, "new"), 0700)); }
static int a_rename(const struct world *w) { return came(syscall(SYS_renameat2, AT_FDCWD, secret(w), AT_FDCWD, in_dir(w->root, "mine"), 0)); }
static int a_link(const struct world *w) { return came(syscall(SYS_linkat, AT_FDCWD, secret(w), AT_FDCWD, in_dir(w->root, "mine"), 0)); }
static int a_symlinkat(const struct world *w) { return came(syscall(SYS_symlinkat, "/etc", AT_FDCWD, in_dir(w->root, "mine"))); }
static int a_mkfifo(const struct world *w) { return came(syscall(SYS_mknodat, AT_FDCWD, in_dir(w->root, "mine"), S_IFIFO | 0600, 0)); }
static int a_mknod(const struct world *w) { return came(syscall(SYS_mknodat, AT_FDCWD, in_dir(w->root, "mine"), S_IFCHR | 0600, 0x101)); }
static int a_chmod(const struct world *w) { return came(syscall(SYS_fchmodat, AT_FDCWD, in_dir(w->outside, "file"), 0777)); }
static int a_chown(const struct world *w) { return came(syscall(SYS_fchownat, AT_FDCWD, in_dir(w->outside, "file"), 1, 1, 0)); }
static int a_setxattr(const struct world *w) { return came(syscall(SYS_setxattr, in_dir(w->outside, "file"), "user.evil", "1", 1L, 0)); }
static int a_fchmod(const struct world *w) { (void)w; return came(syscall(SYS_fchmod, FD_SPOOL, 0777)); }

static int
a_utimes(const struct world *w)
{
	struct timespec old[2] = { { 1, 0 }, { 1, 0 } };

	return came(syscall(SYS_utimensat, AT_FDCWD, in_dir(w->outside, "file"), old, 0));
}

/* More than the spool may hold, through the one descriptor that may be written. */
static int
a_spool_over(const struct world *w)
{
	(void)w;
	return pwrite(FD_SPOOL, "x", 1, INT64_C(8) << 30) == 1 ? 0 : -1;
}

/* Names and metadata */

static int
a_stat(const struct world *w)
{
	struct stat st;

	return came(syscall(SYS_newfstatat, AT_FDCWD, secret(w), &st, 0));
}

static int a_access(const struct world *w) { return came(syscall(SYS_faccessat, AT_FDCWD, secret(w), F_OK)); }

static int
a_readlink(const struct world *w)
{
	char text[256];

	return came(syscall(SYS_readlinkat, AT_FDCWD, in_dir(w->root, "link-to-secret"), text, sizeof(text)));
}

static int
a_exe_of_master(const struct world *w)
{
	char text[256];

	return came(syscall(SYS_readlinkat, AT_FDCWD, proc(w->master, "exe"), text, sizeof(text)));
}

static int a_path_fd(const struct world *w) { return came(raw_openat(secret(w), O_PATH, 0)); }
static int a_path_fd2(const struct world *w) { return came(raw_openat2(AT_FDCWD, secret(w), O_PATH, 0)); }
static int a_chdir(const struct world *w) { return came(syscall(SYS_chdir, w->outside)); }

static int
a_statfs(const struct world *w)
{
	struct statfs fs;

	return came(syscall(SYS_statfs, w->outside, &fs));
}

static int
a_getxattr(const struct world *w)
{
	char text[64];

	return came(syscall(SYS_getxattr, in_dir(w->outside, "file"), "user.note", text, sizeof(text)));
}

static int
a_listxattr(const struct world *w)
{
	char text[256];

	return came(syscall(SYS_listxattr, in_dir(w->outside, "file"), text, sizeof(text)));
}

static int
a_inotify(const struct world *w)
{
	int fd = (int)syscall(SYS_inotify_init1, IN_CLOEXEC);

	return fd < 0 ? -1 : came(syscall(SYS_inotify_add_watch, fd, w->outside, IN_ALL_EVENTS));
}

static int a_fanotify(const struct world *w) { (void)w; return came(syscall(SYS_fanotify_init, 0, O_RDONLY)); }

const struct attempt attempts_files[] = {
	{ "read-openat", LANDLOCK, W_SECRET, a_openat, "a file outside of the root" },
	{ "read-openat2", ALWAYS, W_SECRET, a_openat2, "the same by openat2" },
	{ "read-open", ALWAYS, W_SECRET, a_open, "the same by the old call" },
	{ "read-dotdot", LANDLOCK, W_SECRET, a_dotdot, "the same by .. from the root" },
	{ "read-symlink", LANDLOCK, W_SECRET, a_symlink, "the same by a link inside of the root" },
	{ "read-directory-symlink", LANDLOCK, W_SECRET, a_dirlink, "the same by a link to its directory" },
	{ "read-directory", LANDLOCK, W_SECRET, a_list, "the names in a directory outside of the root" },
	{ "read-shadow", LANDLOCK, 0, a_shadow, "/etc/shadow" },
	{ "read-self-root", LANDLOCK, W_SECRET, a_self_root, "by /proc/self/root" },
	{ "read-master-root", LANDLOCK, W_SECRET, a_master_root, "by /proc/MASTER/root" },
	{ "read-master-cwd", LANDLOCK, W_SECRET, a_master_cwd, "by /proc/MASTER/cwd" },
	{ "read-sibling-spool", LANDLOCK, W_SECRET, a_sibling_spool, "a sibling's spool by /proc/SIBLING/fd" },
	{ "read-master-environ", LANDLOCK, 0, a_environ, "the master's environment" },
	{ "read-sibling-maps", LANDLOCK, 0, a_maps, "a sibling's memory map" },
	{ "read-handle", ALWAYS, W_SECRET, a_handle, "by a file handle" },
	{ "read-handle-alone", ALWAYS, 0, a_handle_alone, "by a file handle made up" },
	{ "read-kernel-log", LANDLOCK, 0, a_kmsg, "/dev/kmsg" },
	{ "tenant-other", LANDLOCK, W_SECRET, a_narrow, "another tenant's part of the root" },
	{ "tenant-link", LANDLOCK, W_SECRET, a_narrow_link, "the same by a link in its own" },
	{ "tenant-wider", LANDLOCK, W_SECRET, a_narrow_wide, "the same after another, wider layer" },
	{ "tenant-own", OWN_FILES, 0, a_narrow_own, "its own part: what it is for" },
	{ "fd-leaked-file", ALWAYS, W_SECRET, a_leaked, "a descriptor that the master left open" },
	{ "fd-leaked-directory", ALWAYS, W_SECRET, a_leaked_dir, "a directory that the master left open" },
	{ "fd-any", ALWAYS, 0, a_any_fd, "any descriptor but a worker's own" },
	{ "write-openat", ALWAYS, W_FILE, a_write, "a file outside of the root" },
	{ "write-root", ALWAYS, W_FILE, a_write_root, "a file in the root" },
	{ "write-append", ALWAYS, W_FILE, a_append, "appending" },
	{ "write-rdwr", ALWAYS, W_FILE, a_rdwr, "opened for reading and writing" },
	{ "write-create", ALWAYS, W_FILE, a_create, "a new file" },
	{ "write-create-root", ALWAYS, W_FILE, a_create_root, "a new file in the root" },
	{ "write-create-read", ALWAYS, W_FILE, a_create_read, "O_CREAT of a file opened to read" },
	{ "write-trunc-read", ALWAYS, W_FILE, a_trunc_read, "O_TRUNC of a file opened to read" },
	{ "write-tmpfile", ALWAYS, 0, a_tmpfile, "a file without a name" },
	{ "write-openat2", ALWAYS, W_FILE, a_openat2_write, "a file outside, by openat2" },
	{ "write-openat2-root", ALWAYS, W_FILE, a_openat2_root, "a file in the root, by openat2" },
	{ "write-openat2-create", ALWAYS, W_FILE, a_openat2_create, "a new file, by openat2" },
	{ "write-openat2-trunc", ALWAYS, W_FILE, a_openat2_trunc, "O_TRUNC by openat2" },
	{ "write-openat2-trunc-root", LOCAL_ABI_3, W_FILE, a_openat2_trunc_root, "the same in the root" },
	{ "write-truncate", ALWAYS, W_FILE, a_truncate, "truncate by name" },
	{ "write-truncate-root", ALWAYS, W_FILE, a_truncate_root, "truncate by name in the root" },
	{ "write-unlink", ALWAYS, W_FILE, a_unlink, "removing a file" },
	{ "write-rmdir", ALWAYS, W_FILE, a_rmdir, "removing a directory" },
	{ "write-mkdir", ALWAYS, W_FILE, a_mkdir, "a new directory" },
	{ "write-rename", ALWAYS, W_FILE, a_rename, "moving a file into the root" },
	{ "write-link", ALWAYS, W_FILE, a_link, "a hard link in the root" },
	{ "write-symlink", ALWAYS, W_FILE, a_symlinkat, "a symbolic link in the root" },
	{ "write-mkfifo", ALWAYS, W_FILE, a_mkfifo, "a named pipe" },
	{ "write-mknod", ALWAYS, W_FILE, a_mknod, "a device node (/dev/mem)" },
	{ "write-spool-over", ALWAYS, 0, a_spool_over, "more than the spool may hold" },
	{ "meta-chmod", ALWAYS, W_FILE, a_chmod, "changing a mode" },
	{ "meta-chown", ALWAYS, W_FILE, a_chown, "changing an owner" },
	{ "meta-utimes", ALWAYS, W_FILE, a_utimes, "changing times" },
	{ "meta-setxattr", ALWAYS, W_FILE, a_setxattr, "setting an extended attribute" },
	{ "meta-fchmod", ALWAYS, 0, a_fchmod, "changing the spool's mode" },
	{ "meta-stat", NAMES, 0, a_stat, "stat of a file outside" },
	{ "meta-access", NAMES, 0, a_access, "access to a file outside" },
	{ "meta-readlink", NAMES, 0, a_readlink, "what a link says" },
	{ "meta-master-exe", LANDLOCK, 0, a_exe_of_master, "which program the master is" },
	{ "meta-path-fd", LOCAL_NAMES, 0, a_path_fd, "an O_PATH descriptor" },
	{ "meta-path-fd2", LOCAL_OPENAT2, 0, a_path_fd2, "an O_PATH descriptor by openat2" },
	{ "meta-chdir", ALWAYS, 0, a_chdir, "changing into a directory outside" },
	{ "meta-statfs", ALWAYS, 0, a_statfs, "statfs of a directory outside" },
	{ "meta-getxattr", ALWAYS, 0, a_getxattr, "an extended attribute of a file outside" },
	{ "meta-listxattr", ALWAYS, 0, a_listxattr, "the names of its attributes" },
	{ "meta-inotify", ALWAYS, 0, a_inotify, "watching a directory outside" },
	{ "meta-fanotify", ALWAYS, 0, a_fanotify, "watching the whole file system" },
	{ NULL, 0, 0, NULL, NULL },
};
