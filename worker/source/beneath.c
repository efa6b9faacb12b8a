/*
 * beneath.c - opens what lies beneath a directory, and nothing else, whatever links and renames try; for walk.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/banned.h"

#define CHUNK 4000              /* bytes of a path given to one openat2 */
#define RETRIES 10              /* of openat2's EAGAIN: somebody renames under our feet */

/*
 * For systems without openat2 (a container's old filter, valgrind): one name after the other, none of them a link. It
 * refuses every link, so it serves only where links are not wanted; ".." is never in a path that gets here.
 */
int
beneath_by_names(int at, const char *path, int flags)
{
	int dir = at, fd = -1, saved;
	struct stat st;

	for (;;) {
		size_t n = strcspn(path, "/");
		char name[256];

		errno = ENAMETOOLONG;
		if (n >= sizeof(name))
			break;
		memcpy(name, path, n);
		name[n] = '\0';
		fd = openat(dir, name, O_NOFOLLOW | O_CLOEXEC | (path[n] ? O_PATH | O_DIRECTORY : flags));
		if (fd < 0 || !path[n])
			break;
		if (dir != at)
			close(dir);
		dir = fd;
		fd = -1;
		path += n + 1;
	}
	/* O_PATH opens the link itself. */
	if (fd >= 0 && (flags & O_PATH) && (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))) {
		close(fd);
		fd = -1;
		errno = ELOOP;
	}
	saved = errno;
	if (dir != at)
		close(dir);
	errno = saved;
	return fd;
}

int
beneath_open(int at, const char *path, int flags, bool links)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (links ? 0 : RESOLVE_NO_SYMLINKS),
	};
	int fd, tries = 0;

	do
		fd = (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < RETRIES)));
	if (fd < 0 && errno == ENOSYS && !links)
		fd = beneath_by_names(at, path, flags);
	return fd;
}

int
beneath_open_long(int top, const char *path, size_t n, int flags, bool links)
{
	int at = top, fd;

	for (;;) {
		size_t cut = n;
		char piece[CHUNK + 1];

		if (n > CHUNK)
			for (cut = CHUNK; cut && path[cut] != '/'; cut--)
				;
		if (!cut) {
			errno = ENAMETOOLONG;
			fd = -1;
		} else {
			memcpy(piece, path, cut);
			piece[cut] = '\0';
			fd = beneath_open(at, piece, cut < n ? O_PATH | O_DIRECTORY : flags, links);
		}
		if (at != top) {
			int saved = errno;

			close(at);
			errno = saved;
		}
		if (fd < 0 || cut == n)
			return fd;
		at = fd;
		path += cut + 1;
		n -= cut + 1;
	}
}
