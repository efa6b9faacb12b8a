/*
 * control.c - the admin tool's socket: who may ask, one line in, one answer out, then the connection ends.
 *
 * Called by main.c. Request: one line, a verb and its words. Answer: "STATUS LENGTH\n" and a JSON document of LENGTH
 * bytes; STATUS is 0 or a code of sysexits(3). The kernel says who the peer is: root and the daemon's own user may do
 * everything, members of control.group may read. Never blocks: each connection has a deadline, their number is
 * capped, and an answer waits in its own buffer. What the verbs do stands in control_verbs.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/control_priv.h"
#include "common/banned.h"

#define CLIENTS_MAX 16
#define ADMINS_PER_UID 12        /* root and the daemon's own user; four seats stay for the others */
#define READERS_PER_UID 4        /* a member of control.group */
#define READERS_MAX 12           /* all of them: whoever may stop the daemon always finds a seat */
#define REQUEST_MS 5000
#define REPLY_MS 10000
#define LATER_MS 9000            /* for an answer that comes later: iis-pollerctl waits ten seconds */
#define ACCEPT_AGAIN_MS 100      /* after the descriptors ran out */
#define PROBE_MS 1000            /* for the answer of another master */
#define LOCK_MS 2000             /* for another master that is starting here */
#define GROUPS_MAX 65536

struct client {
	struct control *c;
	int fd;                         /* -1: free */
	struct ucred peer;
	bool admin;
	struct watch *w;
	struct timer deadline;
	struct buf in, out;
	size_t sent;
	bool answered;
	bool later;                     /* the answer comes by control_answer */
	uint64_t serial;                /* of the connection */
};

struct control {
	struct master *m;
	char *path;
	int fd;
	struct watch *w;
	struct timer again;
	dev_t dev;                      /* of our socket file, so that only that one is removed */
	ino_t ino;
	bool bound;
	gid_t group;                    /* (gid_t)-1: none */
	uint64_t serials;               /* the last one given */
	struct client client[CLIENTS_MAX];
};

static const struct verb {
	const char *name, *args;
	bool admin;
	int (*run)(const struct control_request *, struct buf *);
} verbs[] = {
#define READ false
#define ADMIN true
#define CONTROL(id, verb, args, level, help) { verb, args, level, control_##id },
#include "master/control.def"
#undef READ
#undef ADMIN
};

/* ---- answers ----------------------------------------------------------------------------------------------------------- */

int
control_fail(struct buf *out, int status, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	struct jsonw j;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_clear(out);
	jsonw_init(&j, out);
	jsonw_object(&j, NULL);
	jsonw_str(&j, "error", text);
	jsonw_end_object(&j);
	return status;
}

static void
client_close(struct client *cl)
{
	struct loop *l = cl->c->m->loop;

	loop_unwatch(l, &cl->w);
	timer_cancel(l, &cl->deadline);
	if (cl->fd >= 0)
		close(cl->fd);
	cl->fd = -1;
	buf_release(&cl->in);
	buf_release(&cl->out);
}

static void
pump(struct client *cl)
{
	while (cl->sent < cl->out.len) {
		ssize_t n = send(cl->fd, cl->out.p + cl->sent, cl->out.len - cl->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			loop_watch_set(cl->w, EPOLLOUT);
			return;
		}
		if (n <= 0)
			break;
		cl->sent += (size_t)n;
	}
	client_close(cl);
}

static void
answer(struct client *cl, int status, const struct buf *body)
{
	cl->answered = true;
	buf_printf(&cl->out, "%d %zu\n", status, body->len);
	buf_add(&cl->out, body->p, body->len);
	timer_set(cl->c->m->loop, &cl->deadline, REPLY_MS);
	pump(cl);
}

void
control_answer(struct control *c, struct control_seat s, int status, const struct buf *body)
{
	struct client *cl = &c->client[s.i];

	if (cl->fd < 0 || cl->serial != s.serial || !cl->later)
		return;
	cl->later = false;
	answer(cl, status, body);
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

static const struct verb *
find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* The line's words, in place. What follows a verb that takes an ID is one word: blanks may be part of it. -1: more than
 * there is room for. */
static int
split(char *line, struct control_request *rq, const struct verb **v)
{
	char *save = NULL, *w = strtok_r(line, " ", &save);

	*v = w ? find_verb(w) : NULL;
	if (*v && !strcmp((*v)->args, "ID")) {
		rq->word[rq->n++] = w;
		w = strtok_r(NULL, "", &save);
	}
	for (; w; w = strtok_r(NULL, " ", &save)) {
		if (rq->n == CONTROL_WORDS_MAX)
			return -1;
		rq->word[rq->n++] = w;
	}
	return 0;
}

static int
run(struct client *cl, char *line, struct buf *body)
{
	struct control_request rq = { .m = cl->c->m, .uid = cl->peer.uid, .pid = cl->peer.pid,
		.seat = { .i = (size_t)(cl - cl->c->client), .serial = cl->serial } };
	const struct verb *v;
	int status;

	if (split(line, &rq, &v) < 0 || !rq.n)
		return control_fail(body, EX_USAGE, "a request is one verb and at most %d words", CONTROL_WORDS_MAX - 1);
	if (!v)
		return control_fail(body, EX_USAGE, "no such verb: %.64s", rq.word[0]);
	if (v->admin && !cl->admin) {
		LOG(LOG_WARN, "control_refused", LS("verb", v->name), LI("peer_uid", rq.uid), LI("peer_pid", rq.pid));
		return control_fail(body, EX_NOPERM, "%s is for root and the daemon's own user (uid %u); you are uid %u", v->name,
		    (unsigned)geteuid(), (unsigned)rq.uid);
	}
	status = v->run(&rq, body);
	if (v->admin && status != CONTROL_LATER)
		LOG(LOG_INFO, "control_action", LS("verb", v->name), LS("argument", rq.word[1]), LI("peer_uid", rq.uid), LI("peer_pid", rq.pid),
		    LI("status", status));
	return status;
}

static void
handle_line(struct client *cl, size_t n)
{
	struct buf body = BUF_INIT;
	int status;

	n -= n && cl->in.p[n - 1] == '\r';
	cl->in.p[n] = '\0';
	if (memchr(cl->in.p, '\0', n))
		status = control_fail(&body, EX_USAGE, "a NUL byte in the request");
	else
		status = run(cl, cl->in.p, &body);
	if (status != CONTROL_LATER) {
		answer(cl, status, &body);
	} else {
		/* Nothing that it says or does is of interest until then. */
		cl->later = true;
		loop_watch_set(cl->w, 0);
		timer_set(cl->c->m->loop, &cl->deadline, LATER_MS);
	}
	buf_release(&body);
}

static void
take(struct client *cl)
{
	struct buf body = BUF_INIT;
	char *nl;
	ssize_t n = recv(cl->fd, buf_room(&cl->in, CONTROL_LINE_MAX), CONTROL_LINE_MAX, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n <= 0) {
		client_close(cl);
		return;
	}
	cl->in.len += (size_t)n;
	nl = memchr(cl->in.p, '\n', cl->in.len);
	if (nl && nl - cl->in.p < CONTROL_LINE_MAX) {
		handle_line(cl, (size_t)(nl - cl->in.p));
	} else if (cl->in.len >= CONTROL_LINE_MAX) {
		answer(cl, control_fail(&body, EX_USAGE, "the request is longer than %d bytes", CONTROL_LINE_MAX), &body);
		buf_release(&body);
	}
}

static void
on_client(void *arg, int fd, uint32_t events)
{
	struct client *cl = arg;

	(void)fd;
	if (cl->answered)
		pump(cl);
	else if (cl->later)
		/* Only its end comes through, and there may be words before it that are no second request. */
		client_close(cl);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		take(cl);
}

static void
on_deadline(void *arg)
{
	client_close(arg);
}

/* ---- peers ------------------------------------------------------------------------------------------------------------- */

static bool
in_group(const struct control *c, int fd, const struct ucred *peer)
{
	socklen_t len = 64 * sizeof(gid_t);
	gid_t *list;
	bool found = false;
	int rc;

	if (c->group == (gid_t)-1)
		return false;
	if (peer->gid == c->group)
		return true;
	list = xmalloc(len);
	rc = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list, &len);
	if (rc < 0 && errno == ERANGE && len <= GROUPS_MAX * sizeof(gid_t)) {
		list = xreallocarray(list, 1, len);
		rc = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list, &len);
	}
	for (size_t i = 0; rc == 0 && i < len / sizeof(gid_t); i++)
		found |= list[i] == c->group;
	free(list);
	return found;
}

/* A seat for this peer; NULL with the reason. */
static struct client *
seat(struct control *c, uid_t uid, bool admin, const char **why)
{
	struct client *free_one = NULL;
	size_t same = 0, readers = 0;

	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		const struct client *cl = &c->client[i];

		if (cl->fd < 0) {
			free_one = &c->client[i];
			continue;
		}
		same += cl->peer.uid == uid;
		readers += !cl->admin;
	}
	if (same >= (admin ? ADMINS_PER_UID : READERS_PER_UID)) {
		*why = "too many connections of this user";
		return NULL;
	}
	*why = "too many connections";
	return !admin && readers >= READERS_MAX ? NULL : free_one;
}

/* Best effort: who is turned away gets no buffer of ours. */
static void
turn_away(int fd, int status, const char *why)
{
	struct buf body = BUF_INIT, b = BUF_INIT;

	control_fail(&body, status, "%s", why);
	buf_printf(&b, "%d %zu\n", status, body.len);
	buf_add(&b, body.p, body.len);
	if (send(fd, b.p, b.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		LOG(LOG_DEBUG, "control_gone", LI("errno", errno));
	buf_release(&b);
	buf_release(&body);
	/* Unread bytes would turn the close into a reset, which could eat the answer. */
	shutdown(fd, SHUT_WR);
	close(fd);
}

static void
welcome(struct control *c, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct client *cl;
	const char *why;
	bool admin;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
		close(fd);
		return;
	}
	admin = peer.uid == 0 || peer.uid == geteuid();
	if (!admin && !in_group(c, fd, &peer)) {
		LOG(LOG_WARN, "control_refused", LS("verb", NULL), LI("peer_uid", peer.uid), LI("peer_pid", peer.pid));
		turn_away(fd, EX_NOPERM, "only root, the daemon's own user and members of control.group may ask");
		return;
	}
	cl = seat(c, peer.uid, admin, &why);
	if (!cl) {
		turn_away(fd, EX_TEMPFAIL, why);
		return;
	}
	cl->w = loop_watch(c->m->loop, fd, EPOLLIN, on_client, cl);
	if (!cl->w) {
		close(fd);
		return;
	}
	cl->fd = fd;
	cl->peer = peer;
	cl->admin = admin;
	cl->sent = 0;
	cl->answered = cl->later = false;
	cl->serial = ++c->serials;
	timer_set(c->m->loop, &cl->deadline, REQUEST_MS);
}

static void
on_accept(void *arg, int lfd, uint32_t events)
{
	struct control *c = arg;

	(void)events;
	for (int i = 0; i < CLIENTS_MAX; i++) {
		int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			welcome(c, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* The waiting connection stays; asking again at once would spin. */
			loop_watch_set(c->w, 0);
			timer_set(c->m->loop, &c->again, ACCEPT_AGAIN_MS);
			return;
		} else if (errno != ECONNABORTED && errno != EINTR) {
			return;
		}
	}
}

static void
on_again(void *arg)
{
	struct control *c = arg;

	loop_watch_set(c->w, EPOLLIN);
}

/* ---- opening ------------------------------------------------------------------------------------------------------------ */

static int
address(const char *path, struct sockaddr_un *sa, struct err *e)
{
	size_t n = strlen(path);

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (*path != '/' || n >= sizeof(sa->sun_path))
		return err_set(e, ERR_CONFIG, "control.socket: %s must begin with '/' and have less than %zu bytes", path,
		    sizeof(sa->sun_path));
	memcpy(sa->sun_path, path, n + 1);
	return 0;
}

/* The pid of the master behind this connection, by its answer to ping, else by the kernel's word; 0 unknown. */
static long
ask_pid(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[1024];
	const char *at;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	ssize_t n;

	if (send(fd, "ping\n", 5, MSG_NOSIGNAL | MSG_DONTWAIT) == 5 && poll(&p, 1, PROBE_MS) == 1 &&
	    (n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
		text[n] = '\0';
		at = strstr(text, "\"pid\":");
		if (at)
			return strtol(at + 6, NULL, 10);
	}
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.pid : 0;
}

/* Nobody may answer on the path; a socket that nobody listens on is removed, anything else stays and is an error. */
static int
clear_path(const struct sockaddr_un *sa, struct err *e)
{
	struct stat st;
	int fd, rc;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(e, ERR_CONFIG, "control.socket: %s", sa->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_CONFIG, "control.socket: %s exists and is no socket; remove it or name another path", sa->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, ERR_SYSTEM, "cannot make a socket");
	rc = connect(fd, (const struct sockaddr *)sa, sizeof(*sa));
	if (rc == 0 || errno == EAGAIN || errno == EINPROGRESS) {
		long pid = rc == 0 ? ask_pid(fd) : 0;

		close(fd);
		if (pid > 0)
			return err_set(e, ERR_CONFIG, "control.socket: another iis-pollerd (pid %ld) answers on %s: "
			    "stop it, or set control.socket to another path", pid, sa->sun_path);
		return err_set(e, ERR_CONFIG, "control.socket: another program listens on %s: stop it, or set control.socket to another path",
		    sa->sun_path);
	}
	rc = errno;
	close(fd);
	errno = rc;
	if (rc != ECONNREFUSED && rc != ENOENT)
		return err_errno(e, ERR_CONFIG, "control.socket: cannot find out who uses %s", sa->sun_path);
	if (unlink(sa->sun_path) < 0 && errno != ENOENT)
		return err_errno(e, ERR_CONFIG, "control.socket: cannot remove the stale %s", sa->sun_path);
	return 0;
}

static int
bind_socket(struct control *c, const struct sockaddr_un *sa, struct err *e)
{
	struct stat st;

	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return err_errno(e, ERR_SYSTEM, "cannot make a socket");
	/* The file is born with the socket's own mode: never open to more than it will be. */
	if (fchmod(c->fd, 0600) < 0 || bind(c->fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
		return err_errno(e, ERR_CONFIG, "control.socket: cannot make %s", sa->sun_path);
	if (lstat(sa->sun_path, &st) < 0)
		return err_errno(e, ERR_CONFIG, "control.socket: %s", sa->sun_path);
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	c->bound = true;
	if (c->group != (gid_t)-1 && lchown(sa->sun_path, (uid_t)-1, c->group) < 0)
		return err_errno(e, ERR_CONFIG, "control.group: cannot give %s to the group", sa->sun_path);
	if (chmod(sa->sun_path, 0660) < 0)
		return err_errno(e, ERR_CONFIG, "control.socket: cannot set the mode of %s", sa->sun_path);
	if (listen(c->fd, CLIENTS_MAX) < 0)
		return err_errno(e, ERR_SYSTEM, "cannot listen on %s", sa->sun_path);
	return 0;
}

/* The socket's directory, locked, so that two masters that start at once do not remove each other's socket. -1: with
 * err. */
static int
lock_directory(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash == path ? xstrdup("/") : xmemdup0(path, (size_t)(slash - path));
	int fd;

	if (mkdir(dir, 0750) < 0 && errno != EEXIST)
		LOG(LOG_DEBUG, "control_mkdir", LS("path", dir), LI("errno", errno));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		err_errno(e, ERR_CONFIG, "control.socket: cannot open the directory %s", dir);
	for (int waited = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0; waited += 20) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;          /* a file system without locks: the check below must do */
		if (waited >= LOCK_MS) {
			err_set(e, ERR_CONFIG, "control.socket: another program holds a lock on the directory %s", dir);
			close(fd);
			fd = -1;
			break;
		}
		poll(NULL, 0, 20);
	}
	free(dir);
	return fd;
}

static int
find_group(struct control *c, struct err *e)
{
	const char *name = c->m->cfg->control_group;
	const struct group *g;

	c->group = (gid_t)-1;
	if (!*name)
		return 0;
	errno = 0;
	g = getgrnam(name);
	if (!g)
		return err_set(e, ERR_CONFIG, "control.group: there is no group %s", name);
	c->group = g->gr_gid;
	return 0;
}

struct control *
control_new(struct master *m)
{
	struct control *c = xcalloc(1, sizeof(*c));

	c->m = m;
	c->fd = -1;
	c->group = (gid_t)-1;
	timer_init(&c->again, on_again, c);
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		c->client[i].c = c;
		c->client[i].fd = -1;
		timer_init(&c->client[i].deadline, on_deadline, &c->client[i]);
	}
	return c;
}

int
control_start(struct control *c, struct err *e)
{
	struct sockaddr_un sa;
	int lock, rc;

	c->path = xstrdup(c->m->cfg->control_socket);
	if (address(c->path, &sa, e) < 0 || find_group(c, e) < 0)
		return -1;
	lock = lock_directory(c->path, e);
	if (lock < 0)
		return -1;
	rc = clear_path(&sa, e);
	if (rc == 0)
		rc = bind_socket(c, &sa, e);
	close(lock);
	if (rc < 0)
		return -1;
	c->w = loop_watch(c->m->loop, c->fd, EPOLLIN, on_accept, c);
	return c->w ? 0 : err_errno(e, ERR_SYSTEM, "cannot watch %s", c->path);
}

void
control_free(struct control *c)
{
	struct stat st;

	if (!c)
		return;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		client_close(&c->client[i]);
	loop_unwatch(c->m->loop, &c->w);
	timer_cancel(c->m->loop, &c->again);
	if (c->bound && lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
	if (c->fd >= 0)
		close(c->fd);
	free(c->path);
	free(c);
}
