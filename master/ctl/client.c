/*
 * client.c - one question to the daemon's control socket, one answer. Called by daemon.c, lag.c.
 *
 * Blocks at most the given time. What comes back is bounded; a daemon that answers nonsense is an error, not a crash.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/loop.h"
#include "common/units.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

#define CHUNK 65536
#define HEADER_MAX 40

static int
open_socket(const char *path, int timeout_ms, struct err *e)
{
	struct timeval bound = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, ERR_CONFIG, "the path of the socket is longer than %zu bytes: %s", sizeof(sa.sun_path) - 1, path);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, ERR_SYSTEM, "cannot make a socket");
	/* A daemon that takes no connection leaves us waiting in connect(2) as soon as its queue is full. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound)) == 0 &&
	    connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	if (errno == EAGAIN)
		err_set(e, ERR_TIMEOUT, "the daemon takes no connection on %s; it may hang: look at its log", path);
	else if (errno == EACCES || errno == EPERM)
		err_set(e, ERR_AUTH, "you may not connect to %s: be root, the daemon's user or a member of control.group", path);
	else if (errno == ENOENT || errno == ECONNREFUSED)
		err_set(e, ERR_NOT_FOUND, "no daemon answers on %s (%s): is iis-pollerd running, and is this its control.socket?", path,
		    strerror(errno));
	else
		err_errno(e, ERR_SYSTEM, "cannot connect to %s", path);
	close(fd);
	return -1;
}

static int
send_line(int fd, const char *line, struct err *e)
{
	struct buf b = BUF_INIT;
	int rc = 0;

	buf_printf(&b, "%s\n", line);
	/* Shorter than any socket buffer. */
	if (send(fd, b.p, b.len, MSG_NOSIGNAL) != (ssize_t)b.len && errno != EPIPE)
		rc = err_errno(e, ERR_SYSTEM, "cannot send the question");
	buf_release(&b);
	return rc;
}

/* All that comes until the daemon closes. */
static int
receive(int fd, int64_t until, struct buf *in, struct err *e)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until - clock_mono_ms();
		ssize_t n;

		if (left <= 0)
			return err_set(e, ERR_TIMEOUT, "the daemon did not answer in time; it may hang: look at its log");
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = recv(fd, buf_room(in, CHUNK), CHUNK, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return err_errno(e, ERR_SYSTEM, "the daemon's answer cannot be read");
		if (n > 0)
			in->len += (size_t)n;
		if (in->len > CTL_REPLY_MAX)
			return err_set(e, ERR_PROTOCOL, "the daemon's answer is too long");
	}
}

/* "STATUS LENGTH\n": bytes of the line, or -1. */
static int
header(struct buf *in, int64_t *status, int64_t *length)
{
	char line[HEADER_MAX + 1];
	const char *nl = in->len ? memchr(in->p, '\n', in->len < HEADER_MAX ? in->len : HEADER_MAX) : NULL;
	char *space;
	size_t n;

	if (!nl)
		return -1;
	n = (size_t)(nl - in->p);
	memcpy(line, in->p, n);
	line[n] = '\0';
	space = strchr(line, ' ');
	if (!space)
		return -1;
	*space = '\0';
	if (units_int(line, status) < 0 || units_int(space + 1, length) < 0 || *status < 0 || *status > 255 || *length < 0)
		return -1;
	return (int)n + 1;
}

int
client_ask(const char *path, const char *line, int timeout_ms, struct buf *body, struct err *e)
{
	int64_t until = clock_mono_ms() + timeout_ms, status = 0, length = 0;
	int fd = open_socket(path, timeout_ms, e), rc, n;

	if (fd < 0)
		return -1;
	buf_clear(body);
	rc = send_line(fd, line, e);
	if (rc == 0)
		rc = receive(fd, until, body, e);
	close(fd);
	if (rc < 0)
		return -1;
	n = header(body, &status, &length);
	if (n < 0 || (int64_t)body->len - n != length)
		return err_set(e, ERR_PROTOCOL, body->len ? "the answer on %s is not one of iis-pollerd's, or was cut" :
		    "%s was closed without an answer", path);
	buf_consume(body, (size_t)n);
	return (int)status;
}
