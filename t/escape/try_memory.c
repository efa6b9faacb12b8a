/*
 * try_memory.c - attempts to run code that was not in the program: each one that succeeds really runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <linux/openat2.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "t/escape/escape.h"
#include "common/banned.h"

#define PAGE 4096

/* A function that gives 42. */
#if defined(__x86_64__)
static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
#elif defined(__aarch64__)
static const unsigned char code[] = { 0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6 };
#else
#error "code of this processor"
#endif

static int
run_at(void *p)
{
	union { void *data; int (*function)(void); } u = { .data = p };

	__builtin___clear_cache((char *)p, (char *)p + sizeof(code));
	return u.function() == 42 ? 0 : -1;
}

static void *
page(int prot)
{
	void *p = mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int
a_rwx(const struct world *w)
{
	void *p = page(PROT_READ | PROT_WRITE | PROT_EXEC);

	(void)w;
	if (!p)
		return -1;
	memcpy(p, code, sizeof(code));
	return run_at(p);
}

static void *
written(void)
{
	void *p = page(PROT_READ | PROT_WRITE);

	if (p)
		memcpy(p, code, sizeof(code));
	return p;
}

static int
protect(long how, int prot)
{
	void *p = written();

	if (!p || syscall(how, p, (unsigned long)PAGE, prot, -1) < 0)
		return -1;
	return run_at(p);
}

static int a_mprotect(const struct world *w) { (void)w; return protect(SYS_mprotect, PROT_READ | PROT_EXEC); }
static int a_pkey(const struct world *w) { (void)w; return protect(SYS_pkey_mprotect, PROT_READ | PROT_EXEC); }

/* The text of the program itself made writable, which its own pages would then be. */
static int
a_text(const struct world *w)
{
	uintptr_t here = (uintptr_t)a_rwx & ~(uintptr_t)(PAGE - 1);

	(void)w;
	return (int)syscall(SYS_mprotect, here, (unsigned long)PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static int
a_file(const struct world *w)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, in_dir(w->root, "code"), O_RDONLY);
	void *p;

	if (fd < 0)
		return -1;
	p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	return p == MAP_FAILED ? -1 : run_at(p);
}

/* The spool is a file that a worker may write. */
static int
a_spool(const struct world *w)
{
	void *p;

	(void)w;
	if (pwrite(FD_SPOOL, code, sizeof(code), 0) != (ssize_t)sizeof(code))
		return -1;
	p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, FD_SPOOL, 0);
	return p == MAP_FAILED ? -1 : run_at(p);
}

static int
a_shm(const struct world *w)
{
	long id = syscall(SYS_shmget, 0, (unsigned long)PAGE, 01700);
	void *p;

	(void)w;
	if (id < 0)
		return -1;
	p = (void *)syscall(SYS_shmat, id, NULL, 0100000);      /* SHM_EXEC */
	syscall(SYS_shmctl, id, 0, NULL);                       /* IPC_RMID */
	if (p == MAP_FAILED)
		return -1;
	memcpy(p, code, sizeof(code));
	return run_at(p);
}

/* Readable memory is executable under this personality, without the flag that a filter looks at. */
static int
a_personality(const struct world *w)
{
	void *p;

	(void)w;
	if (syscall(SYS_personality, READ_IMPLIES_EXEC) < 0)
		return -1;
	p = written();
	return p ? run_at(p) : -1;
}

static __attribute__((noinline, noclone, aligned(64))) int
victim(void)
{
	__asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop");
	return 7;
}

/* A process's file of its own memory writes where no page may be written. */
static int
patch(int fd)
{
	int (*volatile call)(void) = victim;

	if (fd < 0 || pwrite(fd, code, sizeof(code), (off_t)(uintptr_t)victim) != (ssize_t)sizeof(code))
		return -1;
	errno = EFAULT;
	return call() == 42 ? 0 : -1;
}

static int a_self_mem(const struct world *w) { (void)w; return patch((int)syscall(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR)); }

static int
a_self_mem2(const struct world *w)
{
	struct open_how how = { .flags = O_RDWR };

	(void)w;
	return patch((int)syscall(SYS_openat2, AT_FDCWD, "/proc/self/mem", &how, sizeof(how)));
}

const struct attempt attempts_memory[] = {
	{ "code-rwx", ALWAYS, 0, a_rwx, "memory to write and run" },
	{ "code-mprotect", ALWAYS, 0, a_mprotect, "written memory made executable" },
	{ "code-pkey", ALWAYS, 0, a_pkey, "the same by pkey_mprotect" },
	{ "code-text", ALWAYS, 0, a_text, "the program's text made writable" },
	{ "code-file", ALWAYS, 0, a_file, "a file of the root, mapped to run" },
	{ "code-spool", ALWAYS, 0, a_spool, "the spool, mapped to run" },
	{ "code-shm", ALWAYS, 0, a_shm, "a shared memory segment to run" },
	{ "code-personality", ALWAYS, 0, a_personality, "all readable memory executable" },
	{ "code-self-mem", ALWAYS, 0, a_self_mem, "the text overwritten by /proc/self/mem" },
	{ "code-self-mem2", ALWAYS, 0, a_self_mem2, "the same by openat2" },
	{ NULL, 0, 0, NULL, NULL },
};
