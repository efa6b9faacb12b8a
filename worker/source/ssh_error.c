/*
 * ssh_error.c - what libssh2's error codes mean for the job: one table, and the text of an error.
 *
 * The other files of the session call it where libssh2 failed. It asks and changes nothing; words that may be the
 * server's are escaped.
 */
#include <stdio.h>

#include "worker/source/ssh_priv.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

/* The error codes of libssh2.h; what each function returns is in its manual page (libssh2_session_handshake(3),
 * libssh2_userauth_password_ex(3), libssh2_channel_read_ex(3) ...). */
static const struct error_row { int code; enum err_class cls; const char *text; } error_rows[] = {
	{ LIBSSH2_ERROR_SOCKET_NONE, ERR_TRANSIENT, "the socket is not valid" },
	{ LIBSSH2_ERROR_BANNER_RECV, ERR_PROTOCOL, "the server sent no SSH banner" },
	{ LIBSSH2_ERROR_BANNER_SEND, ERR_TRANSIENT, "the banner could not be sent" },
	{ LIBSSH2_ERROR_INVALID_MAC, ERR_PROTOCOL, "a packet's MAC is wrong" },
	{ LIBSSH2_ERROR_KEX_FAILURE, ERR_PERMANENT, "no common algorithms" },
	{ LIBSSH2_ERROR_ALLOC, ERR_SYSTEM, "out of memory" },
	{ LIBSSH2_ERROR_SOCKET_SEND, ERR_TRANSIENT, "sending failed" },
	{ LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE, ERR_PROTOCOL, "the key exchange failed" },
	{ LIBSSH2_ERROR_TIMEOUT, ERR_TIMEOUT, "timed out" },
	{ LIBSSH2_ERROR_HOSTKEY_INIT, ERR_PROTOCOL, "the server's key cannot be read" },
	{ LIBSSH2_ERROR_HOSTKEY_SIGN, ERR_PERMANENT, "the server did not prove that it owns its key" },
	{ LIBSSH2_ERROR_DECRYPT, ERR_PROTOCOL, "decryption failed" },
	{ LIBSSH2_ERROR_SOCKET_DISCONNECT, ERR_TRANSIENT, "the server closed the connection" },
	{ LIBSSH2_ERROR_PROTO, ERR_PROTOCOL, "the server sent what SSH does not allow" },
	{ LIBSSH2_ERROR_PASSWORD_EXPIRED, ERR_AUTH, "the password has expired" },
	{ LIBSSH2_ERROR_FILE, ERR_AUTH, "the private key cannot be used" },
	{ LIBSSH2_ERROR_METHOD_NONE, ERR_PERMANENT, "no method" },
	{ LIBSSH2_ERROR_AUTHENTICATION_FAILED, ERR_AUTH, "the server refused the login" },
	{ LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED, ERR_AUTH, "the server refused the key's signature" },
	{ LIBSSH2_ERROR_CHANNEL_OUTOFORDER, ERR_PROTOCOL, "channel packets out of order" },
	{ LIBSSH2_ERROR_CHANNEL_FAILURE, ERR_TRANSIENT, "the server refused a channel" },
	{ LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED, ERR_PERMANENT, "the server refused the request" },
	{ LIBSSH2_ERROR_CHANNEL_UNKNOWN, ERR_PROTOCOL, "a packet for an unknown channel" },
	{ LIBSSH2_ERROR_CHANNEL_WINDOW_EXCEEDED, ERR_PROTOCOL, "the server sent more than the window" },
	{ LIBSSH2_ERROR_CHANNEL_PACKET_EXCEEDED, ERR_PROTOCOL, "the server sent a packet that is too large" },
	{ LIBSSH2_ERROR_CHANNEL_CLOSED, ERR_TRUNCATED, "the server closed the channel" },
	{ LIBSSH2_ERROR_CHANNEL_EOF_SENT, ERR_INTERNAL, "the channel was ended" },
	{ LIBSSH2_ERROR_ZLIB, ERR_PROTOCOL, "decompression failed" },
	{ LIBSSH2_ERROR_SOCKET_TIMEOUT, ERR_TIMEOUT, "timed out" },
	{ LIBSSH2_ERROR_REQUEST_DENIED, ERR_PERMANENT, "the server refused the request" },
	{ LIBSSH2_ERROR_METHOD_NOT_SUPPORTED, ERR_PERMANENT, "this build of libssh2 has none of the algorithms" },
	{ LIBSSH2_ERROR_INVAL, ERR_INTERNAL, "libssh2 was called wrongly" },
	{ LIBSSH2_ERROR_PUBLICKEY_PROTOCOL, ERR_PROTOCOL, "the server broke the public key protocol" },
	{ LIBSSH2_ERROR_BUFFER_TOO_SMALL, ERR_PROTOCOL, "a packet does not fit" },
	{ LIBSSH2_ERROR_BAD_USE, ERR_INTERNAL, "libssh2 was called wrongly" },
	{ LIBSSH2_ERROR_COMPRESS, ERR_PROTOCOL, "compression failed" },
	{ LIBSSH2_ERROR_OUT_OF_BOUNDARY, ERR_PROTOCOL, "a packet is shorter than it says" },
	{ LIBSSH2_ERROR_SOCKET_RECV, ERR_TRANSIENT, "receiving failed" },
	{ LIBSSH2_ERROR_ENCRYPT, ERR_SYSTEM, "encryption failed" },
	{ LIBSSH2_ERROR_BAD_SOCKET, ERR_TRANSIENT, "the socket is not valid" },
	{ LIBSSH2_ERROR_CHANNEL_WINDOW_FULL, ERR_PROTOCOL, "the server's window is full" },
	{ LIBSSH2_ERROR_KEYFILE_AUTH_FAILED, ERR_AUTH, "the passphrase does not open the private key" },
	{ LIBSSH2_ERROR_RANDGEN, ERR_SYSTEM, "no random numbers" },
};

static const struct error_row *
error_row(int code)
{
	static const struct error_row other = { 0, ERR_PROTOCOL, "libssh2 gave up" };

	for (size_t i = 0; i < ARRAY_LEN(error_rows); i++)
		if (error_rows[i].code == code)
			return &error_rows[i];
	return &other;
}

enum err_class
ssh_error_class(int code)
{
	return error_row(code)->cls;
}

const char *
ssh_error_text(int code)
{
	return error_row(code)->text;
}

/* libssh2's own words may hold the server's (a disconnect message). */
int
ssh_fail(struct ssh *s, int code, const char *doing, struct err *e)
{
	const struct error_row *r = error_row(code);
	struct buf shown = BUF_INIT;
	char *words = NULL;
	int n = 0;

	if (s->session && libssh2_session_last_error(s->session, &words, &n, 0) == code && n > 0)
		escape_term(&shown, words, n > 200 ? 200 : (size_t)n);
	err_set(e, r->cls, "%s at %s: %s (libssh2 %d: %s)%s%s", doing, s->peer, r->text, code, buf_str(&shown),
	    s->reason ? "; the server said: " : "", s->farewell);
	buf_release(&shown);
	return -1;
}
