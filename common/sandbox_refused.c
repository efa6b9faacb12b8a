/*
 * sandbox_refused.c - the page that names the refused call: a memfd of the master's, mapped by the child, read by the
 * master when the child is dead.
 *
 * A page and no frame or line: a store cannot block, be cut, or be mixed with another's, whatever the child was doing. It is
 * sealed, so that nobody shrinks it; the master reads it by pread and never maps it. A child can write what it likes there:
 * it only speaks of its own death, and only when it died of SIGSYS.
 */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/banned.h"

#define PAGE_BYTES 4096
#define NR_MAX 4095
#define MARK 0x50616765

struct refused_page {
	uint32_t mark;                 /* MARK: a call is noted; written last */
	int32_t nr;
	uint64_t args[3];
};

static struct refused_page *page;

int
refused_create(void)
{
	int fd = memfd_create("iis-poller-refused", MFD_CLOEXEC | MFD_ALLOW_SEALING), saved;

	if (fd >= 0 && ftruncate(fd, PAGE_BYTES) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

void
refused_read(int fd, struct refused *r)
{
	struct refused_page p;

	*r = (struct refused){ .nr = -1 };
	if (fd < 0 || pread(fd, &p, sizeof(p), 0) != sizeof(p) || p.mark != MARK || p.nr < 0 || p.nr > NR_MAX)
		return;
	r->nr = p.nr;
	memcpy(r->args, p.args, sizeof(r->args));
}

void
refused_map(int fd)
{
	void *p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p != MAP_FAILED)
		page = p;
	close(fd);
}

/* From the handler of SIGSYS: async-signal-safe. The first one counts. */
void
refused_note(int nr, const uint64_t args[3])
{
	if (!page || page->mark == MARK)
		return;
	page->nr = nr;
	memcpy(page->args, args, sizeof(page->args));
	__atomic_store_n(&page->mark, MARK, __ATOMIC_RELEASE);
}

char *
refused_name(int nr)
{
	return seccomp_syscall_resolve_num_arch(seccomp_arch_native(), nr);
}
