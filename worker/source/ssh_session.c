/*
 * ssh_session.c - one SSH session over a connected stream: handshake, the server's key, login, a channel with the
 * subsystem; then bytes in and out.
 *
 * sftp.c opens, uses and closes it. With ssh_login.c the only file that calls libssh2, always non-blocking: every wait is a poll on the
 * stream and on the master's channel, so that CANCEL works at any point. libssh2's own SFTP, known_hosts and agent are
 * never used. What libssh2 frees is cleared first: keys and passwords pass through its memory.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/source/ssh_priv.h"
#include "common/escape.h"
#include "common/log.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define WINDOW (1024 * 1024)            /* bytes that the server may send ahead: what libssh2 may have to keep */
#define PACKET 32768
#define SLICE_NS 200000000              /* a silent server does not hold back records that wait */
#define CLOSE_TRIES 64
#define KEEPALIVE_MIN_NS INT64_C(2000000000)

/* ---- memory and stream, as libssh2 calls them ----------------------------------------------- */

/* The size lies before the block: freeing clears what was there. */
union head { size_t n; max_align_t align; };

void *
ssh_take_memory(size_t n, void **abstract)
{
	union head *h = xmalloc(sizeof(*h) + n);

	(void)abstract;
	h->n = n;
	return h + 1;
}

static LIBSSH2_FREE_FUNC(give_memory)
{
	union head *h = ptr;

	(void)abstract;
	if (!ptr)
		return;
	h--;
	explicit_bzero(ptr, h->n);
	free(h);
}

static LIBSSH2_REALLOC_FUNC(change_memory)
{
	void *fresh = ssh_take_memory(count, abstract);

	if (ptr) {
		union head *h = (union head *)ptr - 1;

		memcpy(fresh, ptr, h->n < count ? h->n : count);
		give_memory(ptr, abstract);
	}
	return fresh;
}

static LIBSSH2_RECV_FUNC(receive)
{
	struct ssh *s = *abstract;
	ssize_t got;

	(void)socket;
	(void)flags;
	if (s->dead)
		return -ECONNRESET;
	got = s->io->recv(s->io->arg, buffer, length);
	s->lost = s->lost || !got || (got < 0 && got != -EAGAIN);
	if (got > 0) {
		s->heard = run_clock();
		s->unanswered = 0;
		if (s->deadline)
			ssh_hello_add(&s->hello, buffer, (size_t)got);
	}
	return got;
}

static LIBSSH2_SEND_FUNC(transmit)
{
	struct ssh *s = *abstract;

	(void)socket;
	(void)flags;
	return s->dead ? -ECONNRESET : s->io->send(s->io->arg, buffer, length);
}

static LIBSSH2_DISCONNECT_FUNC(farewell)
{
	struct ssh *s = *abstract;
	struct buf shown = BUF_INIT;

	(void)session;
	(void)language;
	(void)language_len;
	s->reason = reason ? reason : -1;
	escape_term(&shown, message, message_len < 0 ? 0 : message_len > 120 ? 120 : (size_t)message_len);
	snprintf(s->farewell, sizeof(s->farewell), "%s", buf_str(&shown));
	buf_release(&shown);
}

/* ---- waiting -------------------------------------------------------------------------------- */

static int
poll_once(struct ssh *s, int64_t wait_ns, struct err *e)
{
	struct channel *ch = s->run->ch;
	struct pollfd p[2] = { { .fd = s->io->fd, .events = POLLIN }, { .fd = ch->fd, .events = POLLIN } };
	int64_t turns = ch->turns;
	int r;

	if (libssh2_session_block_directions(s->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND)
		p[0].events |= POLLOUT;
	r = poll(p, 2, (int)((wait_ns + 999999) / 1000000));
	if (r < 0 && errno != EINTR)
		return err_errno(e, ERR_SYSTEM, "waiting for %s", s->peer);
	if (r > 0 && p[1].revents && channel_poll(ch, 0, e))
		return -1;
	/* More requests may be sent now, or the server said something. */
	if (ch->turns != turns || (r > 0 && p[0].revents))
		return 1;
	/* Nothing from the server: what waits goes out, and the master hears how far it is. run_turn counts entries; a wait is
	 * worth a look at the clock. */
	return run_look(s->run, e);
}

/* Asks a silent server whether it is there. */
static int
keep_alive(struct ssh *s, int64_t now, struct err *e)
{
	int64_t every = run_int(s->run, SF_SFTP_KEEPALIVE_INTERVAL) * 1000000;
	int64_t since = s->heard > s->asked ? s->heard : s->asked;
	int next;

	/* libssh2 sends none sooner. */
	if (every && every < KEEPALIVE_MIN_NS)
		every = KEEPALIVE_MIN_NS;
	if (!every || s->deadline || s->unsent || s->read_again || now - since < every)
		return 0;
	if (s->unanswered >= (unsigned)run_int(s->run, SF_SFTP_KEEPALIVE_COUNT_MAX))
		return err_set(e, ERR_TRANSIENT, "%s does not answer: %u keepalives without any reply", s->peer, s->unanswered);
	s->asked = now;
	s->unanswered++;
	libssh2_keepalive_config(s->session, 1, 1);
	libssh2_keepalive_send(s->session, &next);
	return 0;
}

int
ssh_wait(struct ssh *s, int64_t until_ns, struct err *e)
{
	for (;;) {
		int64_t now = run_clock(), left = until_ns - now;
		int r;

		if (left <= 0)
			return 0;
		if (keep_alive(s, now, e))
			return -1;
		r = poll_once(s, left < SLICE_NS ? left : SLICE_NS, e);
		if (r)
			return r;
	}
}

int
ssh_drive(struct ssh *s, int (*step)(struct ssh *), const char *doing, struct err *e)
{
	int rc;

	while ((rc = step(s)) == LIBSSH2_ERROR_EAGAIN) {
		int r = ssh_wait(s, s->deadline, e);

		if (!r)
			err_set(e, ERR_TIMEOUT, "%s at %s: not done within connect_timeout", doing, s->peer);
		if (r <= 0)
			return STEP_ERROR;
	}
	return rc;
}

/* ---- algorithms ----------------------------------------------------------------------------- */

static void
supported(struct ssh *s, int method, char *out, size_t size)
{
	const char **list = NULL;
	int n = libssh2_session_supported_algs(s->session, method, &list);

	out[0] = '\0';
	for (int i = 0; i < n; i++) {
		size_t at = strlen(out);

		snprintf(out + at, size - at, "%s%s", i ? "," : "", list[i]);
	}
	if (n > 0)
		libssh2_free(s->session, list);
}

static int
prefer(struct ssh *s, int method, const char *list, enum source_field field, struct err *e)
{
	char have[1024];

	if (libssh2_session_method_pref(s->session, method, list) == 0)
		return 0;
	supported(s, method, have, sizeof(have));
	return err_set(e, ERR_PERMANENT, "%s: libssh2 %s has none of %.300s; it has %s", field_rows[field].name, libssh2_version(0), list, have);
}

/* Both directions where there are two; nothing given: what libssh2 has. */
static int
choose(struct ssh *s, enum ssh_list which, const char *list, enum source_field field, struct err *e)
{
	static const int methods[SSH_LIST__MAX][2] = {
		[SSH_LIST_KEX] = { LIBSSH2_METHOD_KEX, -1 },
		[SSH_LIST_HOST_KEY] = { LIBSSH2_METHOD_HOSTKEY, -1 },
		[SSH_LIST_CIPHER] = { LIBSSH2_METHOD_CRYPT_SC, LIBSSH2_METHOD_CRYPT_CS },
		[SSH_LIST_MAC] = { LIBSSH2_METHOD_MAC_SC, LIBSSH2_METHOD_MAC_CS },
	};

	if (!*list) {
		supported(s, methods[which][0], s->offered[which], sizeof(s->offered[which]));
		return 0;
	}
	snprintf(s->offered[which], sizeof(s->offered[which]), "%s", list);
	for (int i = 0; i < 2; i++)
		if (methods[which][i] >= 0 && prefer(s, methods[which][i], list, field, e))
			return -1;
	return 0;
}

/* libssh2 asks for ecdsa first, whatever known_hosts has: it must be told which types are known. */
static int
choose_host_key(struct ssh *s, const struct ssh_hosts *known, const char *only, struct err *e)
{
	const char *wanted = run_str(s->run, SF_SFTP_HOST_KEY_ALGORITHMS);
	struct buf types = BUF_INIT;
	int rc;

	if (only)
		buf_puts(&types, only);
	else if (*wanted)
		buf_puts(&types, wanted);
	else
		ssh_hosts_types(known, &types);
	if (!types.len)
		buf_puts(&types, "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,ssh-rsa");
	rc = choose(s, SSH_LIST_HOST_KEY, buf_str(&types), SF_SFTP_HOST_KEY_ALGORITHMS, e);
	if (rc && !*wanted)
		err_set(e, ERR_PERMANENT, "known_hosts has for %s only keys of types that libssh2 %s does not serve (%s): add its ed25519 or ecdsa key",
		    s->peer, libssh2_version(0), buf_str(&types));
	buf_release(&types);
	return rc;
}

static int
choose_all(struct ssh *s, const struct ssh_hosts *known, const char *only, struct err *e)
{
	static const char compressed[] = "zlib@openssh.com,zlib,none";

	if (choose(s, SSH_LIST_KEX, run_str(s->run, SF_SFTP_KEX_ALGORITHMS), SF_SFTP_KEX_ALGORITHMS, e) ||
	    choose(s, SSH_LIST_CIPHER, run_str(s->run, SF_SFTP_CIPHERS), SF_SFTP_CIPHERS, e) ||
	    choose(s, SSH_LIST_MAC, run_str(s->run, SF_SFTP_MACS), SF_SFTP_MACS, e) || choose_host_key(s, known, only, e))
		return -1;
	if (!run_int(s->run, SF_SFTP_COMPRESSION))
		return 0;
	libssh2_session_flag(s->session, LIBSSH2_FLAG_COMPRESS, 1);
	return prefer(s, LIBSSH2_METHOD_COMP_CS, compressed, SF_SFTP_COMPRESSION, e) ||
	    prefer(s, LIBSSH2_METHOD_COMP_SC, compressed, SF_SFTP_COMPRESSION, e) ? -1 : 0;
}

/* ---- handshake ------------------------------------------------------------------------------ */

static int
step_handshake(struct ssh *s)
{
	return libssh2_session_handshake(s->session, s->io->fd);
}

static int
no_common_algorithm(struct ssh *s, int code, struct err *e)
{
	const char *const ours[SSH_LIST__MAX] = { s->offered[0], s->offered[1], s->offered[2], s->offered[3] };
	struct buf why = BUF_INIT;

	if (ssh_hello_explain(&s->hello, ours, &why))
		err_set(e, ERR_PERMANENT, "%s: libssh2 %s: %s", s->peer, libssh2_version(0), buf_str(&why));
	else
		ssh_fail(s, code, "handshake", e);
	buf_release(&why);
	return -1;
}

static int
handshake(struct ssh *s, struct err *e)
{
	const char *banner;
	int rc = ssh_drive(s, step_handshake, "handshake", e);

	if (rc == STEP_ERROR)
		return -1;
	if (rc == LIBSSH2_ERROR_KEX_FAILURE || rc == LIBSSH2_ERROR_METHOD_NOT_SUPPORTED)
		return no_common_algorithm(s, rc, e);
	/* A server that is full (MaxStartups) closes before its banner. */
	if (rc == LIBSSH2_ERROR_BANNER_RECV && !s->hello.n)
		return err_set(e, ERR_TRANSIENT, "%s closed the connection before it said anything", s->peer);
	if (rc)
		return ssh_fail(s, rc, "handshake", e);
	banner = libssh2_session_banner_get(s->session);
	snprintf(s->banner, sizeof(s->banner), "%s", banner ? banner : "");
	return 0;
}

/* ---- the server's key ----------------------------------------------------------------------- */

enum { CHECK_STRICT, CHECK_PIN, CHECK_ACCEPT_NEW, CHECK_OFF };  /* as in sources.def */

static int
known_hosts(struct ssh *s, struct ssh_hosts *h, struct err *e)
{
	const struct strlist *keys = &s->run->task->source.v[SF_SFTP_HOST_KEYS].l;

	if (ssh_hosts_add(h, run_str(s->run, SF_SFTP_KNOWN_HOSTS), run_str(s->run, SF_SFTP_HOST),
	    (uint16_t)run_int(s->run, SF_SFTP_PORT), e))
		return -1;
	for (size_t i = 0; i < keys->n; i++)
		if (ssh_hosts_add_key(h, keys->v[i], e))
			return -1;
	ssh_hosts_settle(h);
	/* What was accepted before says something only where the job itself has nothing to say of this server. */
	if (run_int(s->run, SF_SFTP_HOST_KEY_CHECK) == CHECK_ACCEPT_NEW && *s->run->task->host_key && !ssh_hosts_any(h) &&
	    ssh_hosts_add_key(h, s->run->task->host_key, e))
		return -1;
	if (h->malformed)
		LOG(LOG_WARN, "known_hosts_malformed", LS("peer", s->peer), LI("lines", h->malformed), LI("first", h->malformed_line));
	return 0;
}

static bool
pinned(const struct strlist *pins, const char *fingerprint)
{
	for (size_t i = 0; i < pins->n; i++) {
		size_t n = strlen(fingerprint);

		/* Some tools write the padding. */
		if (!strncmp(pins->v[i], fingerprint, n) && (!pins->v[i][n] || !strcmp(pins->v[i] + n, "=")))
			return true;
	}
	return false;
}

/* Another of its keys may be. */
static enum ssh_result
other_pin(struct ssh *s, const char *type, struct ssh_asked *asked, struct err *e)
{
	size_t at = strlen(asked->shown);

	snprintf(asked->shown + at, sizeof(asked->shown) - at, "%s%s %s", at ? ", " : "", type, s->fingerprint);
	err_set(e, ERR_PERMANENT, "%s is not the pinned server: its keys are %s; host_key_fingerprint names another. Ask its operator before you change it",
	    s->peer, asked->shown);
	return SSH_ASK_AGAIN;
}

static enum ssh_result
refuse_key(struct ssh *s, const struct ssh_hosts *h, enum ssh_verdict v, const char *type, struct err *e)
{
	char lines[128] = "";

	if (h->malformed)
		snprintf(lines, sizeof(lines), " (%u of its lines cannot be read, the first is line %u)", h->malformed, h->malformed_line);
	else if (h->authority)
		snprintf(lines, sizeof(lines), " (it has a @cert-authority line; host certificates are not served)");
	if (v == SSH_REVOKED)
		err_set(e, ERR_PERMANENT, "%s: its key %s %s is revoked in known_hosts", s->peer, type, s->fingerprint);
	else if (v == SSH_CHANGED)
		err_set(e, ERR_PERMANENT, "%s: its key is not the one %s but %s %s%s: it changed, or somebody stands between. Ask its operator before you replace the line",
		    s->peer, run_int(s->run, SF_SFTP_HOST_KEY_CHECK) == CHECK_ACCEPT_NEW ?
		    "that was accepted before (known_hosts in the poller's state.dir) or is given" : "of known_hosts", type, s->fingerprint, lines);
	else
		err_set(e, ERR_PERMANENT, "%s: its key %s %s is not in known_hosts%s: check it with its operator and add it (ssh-keyscan), or pin it by host_key_fingerprint",
		    s->peer, type, s->fingerprint, lines);
	return SSH_FAILED;
}

/* The master remembers it, before any secret goes there. */
static enum ssh_result
accept_key(struct ssh *s, const char *type, const char *blob, size_t n, struct err *e)
{
	struct buf *b;

	LOG(LOG_WARN, "host_key_accepted", LS("peer", s->peer), LS("type", type), LS("fingerprint", s->fingerprint));
	b = channel_begin(s->run->ch, MSG_HOSTKEY);
	buf_printf(b, "%s ", type);
	base64_encode(b, blob, n);
	return channel_send(s->run->ch, e) ? SSH_FAILED : SSH_DONE;
}

static enum ssh_result
judge_key(struct ssh *s, const struct ssh_hosts *h, struct ssh_asked *asked, struct err *e)
{
	const struct strlist *pins = &s->run->task->source.v[SF_SFTP_FINGERPRINT].l;
	int check = (int)run_int(s->run, SF_SFTP_HOST_KEY_CHECK), kind;
	enum ssh_verdict v;
	char type[64];
	size_t n = 0;
	const char *blob = libssh2_session_hostkey(s->session, &n, &kind);

	if (!blob) {
		err_set(e, ERR_PROTOCOL, "%s showed no key", s->peer);
		return SSH_FAILED;
	}
	ssh_fingerprint(blob, n, s->fingerprint);
	ssh_key_type(blob, n, type);
	v = ssh_hosts_judge(h, blob, n);
	if (v == SSH_REVOKED)
		return refuse_key(s, h, v, type, e);
	if (check == CHECK_OFF)
		return SSH_DONE;
	if (pins->n && !pinned(pins, s->fingerprint))
		return other_pin(s, type, asked, e);
	if (v == SSH_CHANGED && check != CHECK_PIN)
		return refuse_key(s, h, v, type, e);
	/* Unknown: in strict, known_hosts and host_keys must have it, unless the pin is all that was given. */
	if (v == SSH_UNKNOWN && check == CHECK_STRICT &&
	    (!pins->n || *run_str(s->run, SF_SFTP_KNOWN_HOSTS) || s->run->task->source.v[SF_SFTP_HOST_KEYS].l.n))
		return refuse_key(s, h, v, type, e);
	if (v == SSH_UNKNOWN && check == CHECK_ACCEPT_NEW && !pins->n)
		return accept_key(s, type, blob, n, e);
	return SSH_DONE;
}

/* ---- channel -------------------------------------------------------------------------------- */

static int
step_channel(struct ssh *s)
{
	s->channel = libssh2_channel_open_ex(s->session, "session", 7, WINDOW, PACKET, NULL, 0);
	return s->channel ? 0 : libssh2_session_last_errno(s->session);
}

static int
step_subsystem(struct ssh *s)
{
	const char *name = run_str(s->run, SF_SFTP_SUBSYSTEM);

	return libssh2_channel_process_startup(s->channel, "subsystem", 9, name, (unsigned)strlen(name));
}

/* What the subsystem prints for people must not fill the window. */
static int
step_stderr(struct ssh *s)
{
	return libssh2_channel_handle_extended_data2(s->channel, LIBSSH2_CHANNEL_EXTENDED_DATA_IGNORE);
}

static int
open_channel(struct ssh *s, struct err *e)
{
	int rc = ssh_drive(s, step_channel, "opening a channel", e);

	if (rc)
		return rc == STEP_ERROR ? -1 : ssh_fail(s, rc, "opening a channel", e);
	rc = ssh_drive(s, step_stderr, "opening a channel", e);
	if (!rc)
		rc = ssh_drive(s, step_subsystem, "starting the subsystem", e);
	if (rc == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED || rc == LIBSSH2_ERROR_CHANNEL_FAILURE)
		return err_set(e, ERR_PERMANENT, "%s has no subsystem \"%s\" for this user", s->peer, run_str(s->run, SF_SFTP_SUBSYSTEM));
	return !rc ? 0 : rc == STEP_ERROR ? -1 : ssh_fail(s, rc, "starting the subsystem", e);
}

/* ---- open and close ------------------------------------------------------------------------- */

static int
start_library(struct err *e)
{
	static bool started;

	if (!started && libssh2_init(0))
		return err_set(e, ERR_SYSTEM, "libssh2 cannot be initialised");
	started = true;
	return 0;
}

static int
new_session(struct ssh *s, struct err *e)
{
	s->session = libssh2_session_init_ex(ssh_take_memory, give_memory, change_memory, s);
	if (!s->session)
		return err_set(e, ERR_SYSTEM, "libssh2 gave no session");
	libssh2_session_set_blocking(s->session, 0);
	/* The type of the callbacks is that of a function without a name: libssh2's own way. */
	libssh2_session_callback_set(s->session, LIBSSH2_CALLBACK_RECV, (void *)(uintptr_t)receive);
	libssh2_session_callback_set(s->session, LIBSSH2_CALLBACK_SEND, (void *)(uintptr_t)transmit);
	libssh2_session_callback_set(s->session, LIBSSH2_CALLBACK_DISCONNECT, (void *)(uintptr_t)farewell);
	return 0;
}

static const char *const key_types[] = { "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa" };

/* After a key that was not the pinned one: the next type that the server has. NULL: none is left. */
static const char *
next_type(const struct ssh *s, const struct ssh_asked *asked)
{
	const char *list, *wanted = run_str(s->run, SF_SFTP_HOST_KEY_ALGORITHMS);
	size_t n;

	for (unsigned i = 0; i < ARRAY_LEN(key_types); i++) {
		const char *t = key_types[i];

		if (asked->tried & 1U << i || strstr(asked->shown, t) ||
		    (*wanted && !ssh_list_has(wanted, strlen(wanted), t, strlen(t))))
			continue;
		if (ssh_hello_list(&s->hello, SSH_LIST_HOST_KEY, &list, &n) && ssh_list_has(list, n, t, strlen(t)))
			return t;
	}
	return NULL;
}

static const char *
asked_type(const struct ssh_asked *asked)
{
	for (unsigned i = ARRAY_LEN(key_types); i-- > 0;)
		if (asked->tried & 1U << i)
			return key_types[i];
	return NULL;
}

static enum ssh_result
establish(struct ssh *s, struct ssh_asked *asked, struct err *e)
{
	enum ssh_result rc = SSH_FAILED;
	const char *type;
	struct ssh_hosts h;

	ssh_hosts_init(&h);
	if (known_hosts(s, &h, e) || choose_all(s, &h, asked_type(asked), e) || handshake(s, e))
		goto out;
	rc = judge_key(s, &h, asked, e);
	if (rc == SSH_ASK_AGAIN) {
		type = next_type(s, asked);
		if (!type)
			rc = SSH_FAILED;
		for (unsigned i = 0; type && i < ARRAY_LEN(key_types); i++)
			if (!strcmp(type, key_types[i]))
				asked->tried |= 1U << i;
	} else if (rc == SSH_DONE && (ssh_login(s, e) || open_channel(s, e))) {
		rc = SSH_FAILED;
	}
out:
	ssh_hosts_release(&h);
	return rc;
}

enum ssh_result
ssh_open(struct run *r, const struct ssh_io *io, int64_t deadline_ns, struct ssh_asked *asked, struct ssh **out, struct err *e)
{
	struct ssh *s = xcalloc(1, sizeof(*s));
	enum ssh_result rc = SSH_FAILED;

	s->io = io;
	s->run = r;
	s->deadline = deadline_ns;
	s->heard = run_clock();
	snprintf(s->peer, sizeof(s->peer), "%s port %lld", run_str(r, SF_SFTP_HOST), (long long)run_int(r, SF_SFTP_PORT));
	if (!start_library(e) && !new_session(s, e))
		rc = establish(s, asked, e);
	s->deadline = 0;
	if (rc == SSH_DONE)
		*out = s;
	else
		ssh_close(s);
	return rc;
}

void
ssh_close(struct ssh *s)
{
	if (!s)
		return;
	if (s->session && !s->unsent && !s->read_again)
		libssh2_session_disconnect(s->session, "");
	/* From here on nobody waits for the server: every further byte fails at once. */
	s->dead = true;
	for (int i = 0; s->session && i < CLOSE_TRIES; i++)
		if (libssh2_session_free(s->session) != LIBSSH2_ERROR_EAGAIN)
			s->session = NULL;
	free(s);
}

void
ssh_use(struct ssh *s, struct run *r)
{
	s->run = r;
	s->heard = run_clock();
	s->unanswered = 0;
}

const char *
ssh_host_fingerprint(const struct ssh *s)
{
	return s->fingerprint;
}

const char *
ssh_banner(const struct ssh *s)
{
	return s->banner;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static int
ended(struct ssh *s, struct err *e)
{
	s->end = true;
	return err_set(e, ERR_TRUNCATED, "%s ended the SFTP session before the listing was whole", s->peer);
}

ssize_t
ssh_read(struct ssh *s, void *p, size_t n, struct err *e)
{
	ssize_t got;

	/* A half-sent packet of our own goes first. */
	if (s->unsent)
		return 0;
	got = libssh2_channel_read_ex(s->channel, 0, p, n);
	s->read_again = got == LIBSSH2_ERROR_EAGAIN &&
	    libssh2_session_block_directions(s->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND;
	if (got == LIBSSH2_ERROR_EAGAIN)
		return 0;
	if (got > 0)
		return got;
	if (!got && !libssh2_channel_eof(s->channel))
		return 0;
	if (!got)
		return ended(s, e);
	s->end = true;
	ssh_fail(s, (int)got, "reading the listing", e);
	/* Whatever came before the cut is a part of a listing. */
	if (e->cls == ERR_TRANSIENT)
		e->cls = ERR_TRUNCATED;
	return -1;
}

int
ssh_write(struct ssh *s, struct buf *b, size_t n, struct err *e)
{
	while (n && !s->read_again) {
		/* The same bytes again, after EAGAIN: libssh2_channel_write_ex(3). */
		size_t some = s->unsent ? s->unsent : n;
		ssize_t put = libssh2_channel_write_ex(s->channel, 0, b->p, some);

		if (put == LIBSSH2_ERROR_EAGAIN) {
			/* Else the server's window is full: nothing of ours is half sent. */
			bool stuck = libssh2_session_block_directions(s->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND;

			s->unsent = stuck ? some : 0;
			return 0;
		}
		s->unsent = 0;
		if (put < 0) {
			s->end = true;
			ssh_fail(s, (int)put, "sending requests", e);
			if (e->cls == ERR_TRANSIENT)
				e->cls = ERR_TRUNCATED;
			return -1;
		}
		if (!put)
			return 0;
		buf_consume(b, (size_t)put);
		n -= (size_t)put;
	}
	return 0;
}

bool
ssh_quiet(struct ssh *s)
{
	char byte;
	ssize_t got;

	if (s->end || s->unsent || s->read_again)
		return false;
	/* Nothing may lie there: a reply nobody asked for, or the server's end. */
	got = libssh2_channel_read_ex(s->channel, 0, &byte, 1);
	return got == LIBSSH2_ERROR_EAGAIN && !libssh2_channel_eof(s->channel);
}
