/*
 * world.c - what an attempt is made upon, and whether anything of it is not as it was. Called by the master's process of one
 * attempt; everything that is changed here goes with that process: mounts, host name and segments are of its own.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/xalloc.h"
#include "t/escape/escape.h"
#include "common/banned.h"

#define PING_MS 20000
#define LOOK_MS 20

/* Of the master and the sibling, at the same place in both; the worker is another program. */
struct shared {
	char secret[SECRET_LEN];
	char precious[sizeof(PRECIOUS)];
	volatile sig_atomic_t signals;
};

struct seen {
	struct buf files, process, mounts;
	char host[65];
};

static struct shared *shared;
static int tcp_fd = -1, tcp6_fd = -1, udp_fd = -1, stream_fd = -1, dgram_fd = -1, abstract_fd = -1;
static int ping_fd = -1;        /* the master's end of a pair with the sibling */

/* Files */

static int
make_file(const char *dir, const char *name, const void *p, size_t n)
{
	char path[256];
	int fd, rc;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	rc = write(fd, p, n) == (ssize_t)n ? 0 : -1;
	close(fd);
	return rc;
}

/* Two tenants' parts of the root. */
static int
make_tenants(const struct world *w)
{
	char mine[128], other[128], link[160];

	snprintf(mine, sizeof(mine), "%s/mine", w->root);
	snprintf(other, sizeof(other), "%s/other", w->root);
	snprintf(link, sizeof(link), "%s/link", mine);
	if (mkdir(mine, 0700) < 0 || mkdir(other, 0700) < 0 || symlink("../other/secret.txt", link) < 0)
		return -1;
	return make_file(mine, "file", "its own", 7) < 0 ? -1 : make_file(other, "secret.txt", shared->secret, SECRET_LEN);
}

static int
make_files(const struct world *w)
{
	char name[128], path[256];

	snprintf(name, sizeof(name), "name-%.*s", SECRET_LEN, shared->secret);
	snprintf(path, sizeof(path), "%s/empty", w->outside);
	if (mkdir(w->dir, 0700) < 0 || mkdir(w->root, 0700) < 0 || mkdir(w->outside, 0700) < 0 || mkdir(path, 0700) < 0 ||
	    make_file(w->outside, "secret.txt", shared->secret, SECRET_LEN) < 0 || make_file(w->outside, name, "", 0) < 0 ||
	    make_file(w->outside, "file", "a file outside", 14) < 0 || make_file(w->root, "file", "a file inside", 13) < 0 ||
	    make_file(w->outside, "spool", shared->secret, SECRET_LEN) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/file", w->outside);
	setxattr(path, "user.note", "1", 1, 0);
#if defined(__x86_64__)
	if (make_file(w->root, "code", "\xb8\x2a\0\0\0\xc3", 6) < 0)
		return -1;
#else
	if (make_file(w->root, "code", "\x40\x05\x80\x52\xc0\x03\x5f\xd6", 8) < 0)
		return -1;
#endif
	snprintf(path, sizeof(path), "%s/sub", w->root);
	if (mkdir(path, 0700) < 0 || make_tenants(w) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/link-to-secret", w->root);
	if (symlink("../outside/secret.txt", path) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/link-to-outside", w->root);
	return symlink("../outside", path);
}

/* Everything about a file that an attempt could have changed; when it was read does not count. */
static void
note_file(struct buf *b, const char *path)
{
	char line[512], text[512];
	struct stat st;
	ssize_t n;
	int fd;

	if (lstat(path, &st) < 0)
		return;
	snprintf(line, sizeof(line), "%s %o %u %u %ld %ld %ld.%ld\n", path, st.st_mode, st.st_uid, st.st_gid, (long)st.st_nlink,
	    (long)st.st_size, (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	buf_puts(b, line);
	n = listxattr(path, text, sizeof(text));
	if (n > 0)
		buf_add(b, text, (size_t)n);
	if (!S_ISREG(st.st_mode))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	if (n > 0)
		buf_add(b, text, (size_t)n);
	if (fd >= 0)
		close(fd);
}

static void
note_dir(struct buf *b, const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, NULL, alphasort);
	char path[512];

	note_file(b, dir);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, ".."))
			note_file(b, path);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

static void
note_process(struct buf *b, pid_t pid)
{
	struct rlimit r = { 0, 0 };
	char line[256];
	cpu_set_t set;

	CPU_ZERO(&set);
	prlimit(pid, RLIMIT_NOFILE, NULL, &r);
	sched_getaffinity(pid, sizeof(set), &set);
	snprintf(line, sizeof(line), "%ld %ld %d %d %d %ld\n", (long)r.rlim_cur, (long)r.rlim_max, getpriority(PRIO_PROCESS, (id_t)pid),
	    sched_getscheduler(pid), CPU_COUNT(&set), syscall(SYS_ioprio_get, 1, pid));
	buf_puts(b, line);
}

static void
note_text(struct buf *b, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[1024];

	while (f && fgets(line, sizeof(line), f))
		buf_puts(b, line);
	if (f)
		fclose(f);
}

static void
note(const struct world *w, struct seen *s)
{
	memset(s, 0, sizeof(*s));
	note_dir(&s->files, w->root);
	note_dir(&s->files, w->outside);
	note_process(&s->process, w->sibling);
	note_process(&s->process, w->master);
	note_text(&s->mounts, "/proc/self/mountinfo");
	gethostname(s->host, sizeof(s->host) - 1);
}

static bool
same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && (!a->len || !memcmp(a->p, b->p, a->len));
}

/* Processes */

static void
count_signal(int sig)
{
	(void)sig;
	shared->signals++;
}

/* All that can be caught, but for the end of a child and what the processor itself sends. */
static void
catch_all(void)
{
	static const int left[] = { SIGKILL, SIGSTOP, SIGCHLD, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGALRM };
	struct sigaction sa = { .sa_handler = count_signal, .sa_flags = SA_RESTART };

	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		bool skip = false;

		for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++)
			skip = skip || left[i] == sig;
		if (!skip)
			sigaction(sig, &sa, NULL);
	}
}

/* The sibling: holds a tenant's secret in memory and in its spool, and answers when it is asked whether it lives. */
static int
start_sibling(struct world *w)
{
	int sv[2], spool = open(in_dir(w->outside, "spool"), O_RDONLY | O_CLOEXEC);
	char c;

	if (spool < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	w->sibling = fork();
	if (w->sibling < 0)
		return -1;
	if (!w->sibling) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(spool, FD_SPOOL);
		close(sv[0]);
		while (read(sv[1], &c, 1) == 1 && write(sv[1], &c, 1) == 1)
			;
		_exit(0);
	}
	ping_fd = sv[0];
	close(sv[1]);
	close(spool);
	return 0;
}

/* Stopped, traced to a stop, or dead */
static bool
halted(pid_t pid)
{
	char path[64], text[256] = "";
	const char *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return true;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	state = strrchr(text, ')');
	return !state || !state[1] || strchr("TtZX", state[2]);
}

/* It answers only after it has taken every signal that came before. */
static bool
sibling_answers(const struct world *w)
{
	struct pollfd p = { .fd = ping_fd, .events = POLLIN };
	char c = 'x';

	if (send(ping_fd, &c, 1, MSG_NOSIGNAL) != 1)
		return false;
	for (int ms = 0; ms < PING_MS; ms += LOOK_MS) {
		if (poll(&p, 1, LOOK_MS) == 1)
			return read(ping_fd, &c, 1) == 1;
		if (halted(w->sibling))
			return false;
	}
	return false;
}

/* Sockets */

static int
listen_at(const struct sockaddr *a, socklen_t n, int type)
{
	int fd = socket(a->sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), depth = 8;

	if (fd < 0 || bind(fd, a, n) < 0)
		return -1;
	if (type == SOCK_STREAM && listen(fd, 8) < 0)
		return -1;
	/* best effort: without it a fast open is a slow one */
	if (type == SOCK_STREAM && a->sa_family == AF_INET)
		setsockopt(fd, 6, 23, &depth, sizeof(depth));
	return fd;
}

static uint16_t
port_of(int fd)
{
	struct sockaddr_in6 a;
	socklen_t n = sizeof(a);

	/* the port is at the same place in both families */
	return fd >= 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0 ? ntohs(a.sin6_port) : 0;
}

static int
listen_unix(const char *path, bool abstract, int type)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path));

	snprintf(a.sun_path + abstract, sizeof(a.sun_path) - 1, "%s", path);
	return listen_at((struct sockaddr *)&a, n, type);
}

static int
make_sockets(struct world *w)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(WORLD_ADDRESS) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd;

	tcp_fd = listen_at((struct sockaddr *)&a, sizeof(a), SOCK_STREAM);
	tcp6_fd = listen_at((struct sockaddr *)&a6, sizeof(a6), SOCK_STREAM);
	udp_fd = listen_at((struct sockaddr *)&a, sizeof(a), SOCK_DGRAM);
	stream_fd = listen_unix(w->unix_stream, false, SOCK_STREAM);
	dgram_fd = listen_unix(w->unix_dgram, false, SOCK_DGRAM);
	abstract_fd = listen_unix(w->abstract, true, SOCK_STREAM);
	w->tcp_port = port_of(tcp_fd);
	w->tcp6_port = port_of(tcp6_fd);
	w->udp_port = port_of(udp_fd);
	/* The status child's socket, with somebody who already waits there. */
	fd = listen_at((struct sockaddr *)&a, sizeof(a), SOCK_STREAM);
	if (tcp_fd < 0 || udp_fd < 0 || stream_fd < 0 || dgram_fd < 0 || abstract_fd < 0 || !world_connects(htons(port_of(fd))))
		return -1;
	return dup2(fd, FD_LISTEN) < 0 || fcntl(FD_LISTEN, F_SETFD, FD_CLOEXEC) < 0 ? -1 : 0;
}

bool
world_connects(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(WORLD_ADDRESS) };
	/* kept open: it is who waits */
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static bool
somebody_came(void)
{
	int fds[] = { tcp_fd, tcp6_fd, udp_fd, stream_fd, dgram_fd, abstract_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		struct pollfd p = { .fd = fds[i], .events = POLLIN };

		if (fds[i] >= 0 && poll(&p, 1, 0) == 1)
			return true;
	}
	return false;
}

/* The whole */

/* What an attempt changes of the machine goes with this process; without the rights, most such attempts fail anyhow. */
static void
make_private(const struct world *w)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC) < 0)
		return;
	mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	/* a mount that can be taken away or turned into the root */
	mount(w->dir, w->dir, NULL, MS_BIND, NULL);
	syscall(SYS_keyctl, 1, NULL);           /* a session of keys of its own */
}

static int
make_secret(void)
{
	unsigned char raw[SECRET_LEN / 2];

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		return -1;
	for (size_t i = 0; i < sizeof(raw); i++) {
		shared->secret[2 * i] = "0123456789abcdef"[raw[i] >> 4];
		shared->secret[2 * i + 1] = "0123456789abcdef"[raw[i] & 15];
	}
	memcpy(shared->precious, PRECIOUS, sizeof(PRECIOUS));
	return 0;
}

static int
make_segment(struct world *w)
{
	void *p;

	w->shm_id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	p = w->shm_id < 0 ? MAP_FAILED : shmat(w->shm_id, NULL, 0);
	if (p == MAP_FAILED)
		return -1;
	memcpy(p, shared->secret, SECRET_LEN);
	return 0;
}

/* What the master should not have left open. */
static int
leave_open(const struct world *w)
{
	int file = open(in_dir(w->outside, "secret.txt"), O_RDONLY | O_CLOEXEC);
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (file < 0 || root < 0 || dup2(file, FD_LEAKED) < 0 || dup2(root, FD_LEAKED_DIR) < 0)
		return -1;
	close(file);
	close(root);
	return 0;
}

int
world_make(struct world *w, const char *dir, struct seen **seen)
{
	int fd;

	/* The numbers that mean something to a worker are nobody's here. */
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && fd <= FD_LISTEN)
		;
	memset(w, 0, sizeof(*w));
	snprintf(w->dir, sizeof(w->dir), "%s", dir);
	snprintf(w->root, sizeof(w->root), "%s/root", dir);
	snprintf(w->outside, sizeof(w->outside), "%s/outside", dir);
	snprintf(w->unix_stream, sizeof(w->unix_stream), "%s/stream.sock", dir);
	snprintf(w->unix_dgram, sizeof(w->unix_dgram), "%s/dgram.sock", dir);
	snprintf(w->abstract, sizeof(w->abstract), "iis-escape-%d", (int)getpid());
	if (readlink("/proc/self/exe", w->self, sizeof(w->self) - 1) < 0)
		return -1;
	setpgid(0, 0);
	w->master = getpid();
	if (make_secret() < 0 || make_files(w) < 0)
		return -1;
	w->secret_at = (uint64_t)(uintptr_t)shared->secret;
	w->precious_at = (uint64_t)(uintptr_t)shared->precious;
	make_private(w);
	if (chdir(w->dir) < 0 || make_segment(w) < 0 || make_sockets(w) < 0)
		return -1;
	catch_all();
	if (start_sibling(w) < 0 || leave_open(w) < 0)
		return -1;
	*seen = xcalloc(1, sizeof(**seen));
	note(w, *seen);
	return 0;
}

unsigned
world_look(const struct world *w, const struct seen *before)
{
	bool answers = sibling_answers(w);
	struct seen now;
	unsigned found = 0;

	note(w, &now);
	found |= answers && !shared->signals ? 0 : W_SIGNAL;
	found |= memcmp(shared->precious, PRECIOUS, sizeof(PRECIOUS)) ? W_MEMORY : 0;
	found |= same(&before->files, &now.files) ? 0 : W_FILE;
	found |= same(&before->mounts, &now.mounts) ? 0 : W_MOUNT;
	found |= same(&before->process, &now.process) || !answers ? 0 : W_PROCESS;
	found |= strcmp(before->host, now.host) ? W_HOST : 0;
	found |= somebody_came() ? W_NET : 0;
	buf_release(&now.files);
	buf_release(&now.process);
	buf_release(&now.mounts);
	return found;
}

bool
world_secret(const void *p, size_t n)
{
	return memmem(p, n, shared->secret, SECRET_LEN) != NULL;
}

void
world_end(const struct world *w)
{
	kill(w->sibling, SIGKILL);
	waitpid(w->sibling, NULL, 0);
	shmctl(w->shm_id, IPC_RMID, NULL);
}
