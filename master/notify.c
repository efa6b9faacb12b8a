/*
 * notify.c - tells systemd how the service fares: sd_notify(3)'s datagram, without its library.
 *
 * Called by main.c at ready, reload, stop and for the watchdog. Never blocks, never fails loudly: a service
 * manager that does not listen is no reason to end.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/units.h"
#include "master/master.h"
#include "common/banned.h"

void
notify_send(const char *state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path ? strlen(path) : 0;
	int fd;

	/* A path, or with '@' in front a name in the abstract space. */
	if (n < 2 || n >= sizeof(a.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(a.sun_path, path, n);
	if (a.sun_path[0] == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&a,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		LOG(LOG_DEBUG, "notify_failed", LS("socket", path), LS("error", strerror(errno)));
	close(fd);
}

int64_t
notify_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	int64_t v;

	if (pid && (units_int(pid, &v) < 0 || v != getpid()))
		return 0;
	if (!usec || units_int(usec, &v) < 0 || v <= 0)
		return 0;
	return v / 2000 > 0 ? v / 2000 : 1;
}
