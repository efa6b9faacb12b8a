/*
 * stderr.c - the standard error of a child, line by line. Opened by spawn.c for workers and the status child;
 * what a line means is said by their owners.
 *
 * A child's words are foreign: a line is at most STDERR_LINE_MAX bytes, a longer one comes in pieces, and whoever logs
 * it escapes it.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "master/master.h"
#include "common/banned.h"

#define STDERR_LINE_MAX 512

static void
line(struct child_stderr *c)
{
	if (c->line.len)
		c->fn(c->arg, c->line.p, c->line.len);
	buf_clear(&c->line);
}

static void
on_bytes(void *arg, int fd, uint32_t events)
{
	struct child_stderr *c = arg;
	char chunk[1024];
	ssize_t n = read(fd, chunk, sizeof(chunk));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		line(c);
		loop_unwatch(c->loop, &c->watch);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (chunk[i] == '\n' || c->line.len == STDERR_LINE_MAX)
			line(c);
		if (chunk[i] != '\n')
			buf_putc(&c->line, chunk[i]);
	}
}

int
stderr_open(struct child_stderr *c, struct loop *l, int fd, stderr_fn *fn, void *arg)
{
	c->loop = l;
	c->fd = fd;
	c->fn = fn;
	c->arg = arg;
	c->watch = loop_watch(l, fd, EPOLLIN, on_bytes, c);
	return c->watch ? 0 : -1;
}

void
stderr_drain(struct child_stderr *c)
{
	if (c->watch)
		on_bytes(c, c->fd, 0);
	line(c);
}

void
stderr_close(struct child_stderr *c)
{
	loop_unwatch(c->loop, &c->watch);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	buf_release(&c->line);
}
