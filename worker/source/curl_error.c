/*
 * curl_error.c - what a failed transfer means: one table from libcurl's codes to our classes.
 *
 * Asked by the sources through curl_session_error. Codes are those of libcurl-errors(3); what a protocol's own status
 * (HTTP's, FTP's replies) means is decided by its source, before it asks here. Texts name the server, the phase and what
 * libcurl or the server said, made safe; never a secret.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "worker/source/curl.h"
#include "worker/source/curl_priv.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

struct meaning { int code; enum err_class cls; const char *words; };

/* libcurl-errors(3), 7.88 */
static const struct meaning meanings[] = {
	{ CURLE_UNSUPPORTED_PROTOCOL, ERR_PERMANENT, "the URL's scheme is not one that this source speaks" },
	{ CURLE_FAILED_INIT, ERR_INTERNAL, "libcurl could not begin" },
	{ CURLE_URL_MALFORMAT, ERR_PERMANENT, "the URL is malformed" },
	{ CURLE_NOT_BUILT_IN, ERR_UNSUPPORTED, "libcurl was built without it" },
	{ CURLE_COULDNT_RESOLVE_PROXY, ERR_INTERNAL, "the proxy was not resolved beforehand" },
	{ CURLE_COULDNT_RESOLVE_HOST, ERR_INTERNAL, "the host was not resolved beforehand" },
	{ CURLE_COULDNT_CONNECT, ERR_TRANSIENT, "no connection" },
	{ CURLE_WEIRD_SERVER_REPLY, ERR_PROTOCOL, "the server's answer makes no sense" },
	{ CURLE_REMOTE_ACCESS_DENIED, ERR_AUTH, "the server refuses access" },
	{ CURLE_FTP_ACCEPT_FAILED, ERR_TRANSIENT, "the server did not open the data connection" },
	{ CURLE_FTP_WEIRD_PASS_REPLY, ERR_PROTOCOL, "the answer to the password makes no sense" },
	{ CURLE_FTP_ACCEPT_TIMEOUT, ERR_TIMEOUT, "the server did not open the data connection in time" },
	{ CURLE_FTP_WEIRD_PASV_REPLY, ERR_PROTOCOL, "the answer to EPSV or PASV makes no sense" },
	{ CURLE_FTP_WEIRD_227_FORMAT, ERR_PROTOCOL, "the answer to PASV makes no sense" },
	{ CURLE_FTP_CANT_GET_HOST, ERR_PROTOCOL, "the address of the data connection makes no sense" },
	{ CURLE_HTTP2, ERR_PROTOCOL, "HTTP/2 broke" },
	{ CURLE_FTP_COULDNT_SET_TYPE, ERR_PROTOCOL, "the server refuses the transfer's type" },
	{ CURLE_PARTIAL_FILE, ERR_TRUNCATED, "the answer was cut" },
	{ CURLE_FTP_COULDNT_RETR_FILE, ERR_PERMANENT, "the server refuses the transfer" },
	{ CURLE_QUOTE_ERROR, ERR_PERMANENT, "the server refuses a command" },
	{ CURLE_HTTP_RETURNED_ERROR, ERR_PERMANENT, "the server answered with an error" },
	{ CURLE_WRITE_ERROR, ERR_INTERNAL, "reading was given up" },
	{ CURLE_UPLOAD_FAILED, ERR_PERMANENT, "the server refuses the request's body" },
	{ CURLE_READ_ERROR, ERR_INTERNAL, "the request's body could not be made" },
	{ CURLE_OUT_OF_MEMORY, ERR_SYSTEM, "out of memory, or a header line of the answer beyond 100 kB" },
	{ CURLE_OPERATION_TIMEDOUT, ERR_TIMEOUT, "timed out" },
	{ CURLE_FTP_PORT_FAILED, ERR_PROTOCOL, "the server refuses PORT" },
	{ CURLE_FTP_COULDNT_USE_REST, ERR_PROTOCOL, "the server refuses REST" },
	{ CURLE_RANGE_ERROR, ERR_PROTOCOL, "the server refuses the range" },
	{ CURLE_HTTP_POST_ERROR, ERR_INTERNAL, "the request could not be made" },
	{ CURLE_SSL_CONNECT_ERROR, ERR_PERMANENT, "no TLS session" },
	{ CURLE_BAD_DOWNLOAD_RESUME, ERR_PROTOCOL, "the server refuses the offset" },
	{ CURLE_FUNCTION_NOT_FOUND, ERR_UNSUPPORTED, "libcurl lacks a function" },
	{ CURLE_ABORTED_BY_CALLBACK, ERR_INTERNAL, "the transfer was given up" },
	{ CURLE_BAD_FUNCTION_ARGUMENT, ERR_INTERNAL, "libcurl was called wrongly" },
	{ CURLE_INTERFACE_FAILED, ERR_SYSTEM, "the local address cannot be used" },
	{ CURLE_TOO_MANY_REDIRECTS, ERR_PERMANENT, "too many redirects" },
	{ CURLE_UNKNOWN_OPTION, ERR_INTERNAL, "libcurl does not know an option" },
	{ CURLE_GOT_NOTHING, ERR_TRANSIENT, "the server closed the connection without an answer" },
	{ CURLE_SSL_ENGINE_NOTFOUND, ERR_INTERNAL, "OpenSSL's engine was not found" },
	{ CURLE_SSL_ENGINE_SETFAILED, ERR_INTERNAL, "OpenSSL's engine cannot be used" },
	{ CURLE_SEND_ERROR, ERR_TRANSIENT, "the connection broke while the request was sent" },
	{ CURLE_RECV_ERROR, ERR_TRANSIENT, "the connection broke while an answer was awaited" },
	{ CURLE_SSL_CERTPROBLEM, ERR_AUTH, "tls.cert_pem or tls.key_pem cannot be used" },
	{ CURLE_SSL_CIPHER, ERR_PERMANENT, "tls.ciphers cannot be used" },
	{ CURLE_PEER_FAILED_VERIFICATION, ERR_PERMANENT, "the server's certificate is refused" },
	{ CURLE_BAD_CONTENT_ENCODING, ERR_PROTOCOL, "the answer's encoding is broken" },
	{ CURLE_FILESIZE_EXCEEDED, ERR_LIMIT, "the answer is too large" },
	{ CURLE_USE_SSL_FAILED, ERR_PERMANENT, "the server does not offer TLS" },
	{ CURLE_SEND_FAIL_REWIND, ERR_TRANSIENT, "the connection broke while the request's body was sent" },
	{ CURLE_SSL_ENGINE_INITFAILED, ERR_INTERNAL, "OpenSSL's engine does not start" },
	{ CURLE_LOGIN_DENIED, ERR_AUTH, "the server refuses the login" },
	{ CURLE_REMOTE_DISK_FULL, ERR_TRANSIENT, "the server has no room" },
	{ CURLE_REMOTE_FILE_EXISTS, ERR_PERMANENT, "the server says that the file exists" },
	{ CURLE_SSL_CACERT_BADFILE, ERR_PERMANENT, "the authorities' certificates (tls.ca_pem, or those of this host) cannot be read" },
	{ CURLE_REMOTE_FILE_NOT_FOUND, ERR_NOT_FOUND, "the server has no such file" },
	{ CURLE_SSH, ERR_INTERNAL, "libcurl's SSH is not used here" },
	{ CURLE_SSL_SHUTDOWN_FAILED, ERR_TRANSIENT, "the TLS session did not end cleanly" },
	{ CURLE_AGAIN, ERR_INTERNAL, "a socket was not ready" },
	{ CURLE_SSL_CRL_BADFILE, ERR_PERMANENT, "the revocation list cannot be read" },
	{ CURLE_SSL_ISSUER_ERROR, ERR_PERMANENT, "the server's certificate is of another issuer" },
	{ CURLE_FTP_PRET_FAILED, ERR_PROTOCOL, "the server refuses PRET" },
	{ CURLE_FTP_BAD_FILE_LIST, ERR_PROTOCOL, "the listing cannot be read" },
	{ CURLE_CHUNK_FAILED, ERR_INTERNAL, "a chunk was refused" },
	{ CURLE_NO_CONNECTION_AVAILABLE, ERR_SYSTEM, "no connection is free" },
	{ CURLE_SSL_PINNEDPUBKEYNOTMATCH, ERR_PERMANENT, "the server's public key is none of tls.pinned_pubkey" },
	{ CURLE_SSL_INVALIDCERTSTATUS, ERR_PERMANENT, "the certificate's status is refused" },
	{ CURLE_HTTP2_STREAM, ERR_PROTOCOL, "an HTTP/2 stream broke" },
	{ CURLE_RECURSIVE_API_CALL, ERR_INTERNAL, "libcurl was called from its own callback" },
	{ CURLE_AUTH_ERROR, ERR_AUTH, "authentication failed" },
	{ CURLE_HTTP3, ERR_PROTOCOL, "HTTP/3 broke" },
	{ CURLE_QUIC_CONNECT_ERROR, ERR_PROTOCOL, "no QUIC connection" },
	{ CURLE_PROXY, ERR_TRANSIENT, "the proxy failed" },
	{ CURLE_SSL_CLIENTCERT, ERR_AUTH, "the server wants a client certificate (tls.cert_pem)" },
	{ CURLE_UNRECOVERABLE_POLL, ERR_SYSTEM, "waiting for the sockets failed" },
};

/* CURLINFO_PROXY_ERROR(3); the replies are those of RFC 1928, section 6, the login's those of RFC 1929 */
static const struct meaning socks_meanings[] = {
	{ CURLPX_BAD_VERSION, ERR_PROTOCOL, "the proxy does not speak SOCKS5" },
	{ CURLPX_CLOSED, ERR_TRANSIENT, "the proxy closed the connection" },
	{ CURLPX_LONG_PASSWD, ERR_PERMANENT, "proxy.password is too long for SOCKS5" },
	{ CURLPX_LONG_USER, ERR_PERMANENT, "proxy.username is too long for SOCKS5" },
	{ CURLPX_NO_AUTH, ERR_AUTH, "the proxy takes none of the ways to log in (no login, or user and password)" },
	{ CURLPX_REPLY_ADDRESS_TYPE_NOT_SUPPORTED, ERR_PERMANENT, "the proxy does not serve this family of addresses" },
	{ CURLPX_REPLY_COMMAND_NOT_SUPPORTED, ERR_PERMANENT, "the proxy does not connect" },
	{ CURLPX_REPLY_CONNECTION_REFUSED, ERR_TRANSIENT, "the server refused the proxy's connection" },
	{ CURLPX_REPLY_GENERAL_SERVER_FAILURE, ERR_TRANSIENT, "the proxy failed" },
	{ CURLPX_REPLY_HOST_UNREACHABLE, ERR_TRANSIENT, "the proxy cannot reach the server" },
	{ CURLPX_REPLY_NETWORK_UNREACHABLE, ERR_TRANSIENT, "the proxy cannot reach the server's network" },
	{ CURLPX_REPLY_NOT_ALLOWED, ERR_AUTH, "the proxy's rules forbid the connection" },
	{ CURLPX_REPLY_TTL_EXPIRED, ERR_TRANSIENT, "the proxy did not reach the server in time" },
	{ CURLPX_UNKNOWN_MODE, ERR_PROTOCOL, "the proxy's choice of login makes no sense" },
	{ CURLPX_USER_REJECTED, ERR_AUTH, "the proxy refuses proxy.username and proxy.password" },
};

/* RFC 9110, sections 9.3.6 and 15: what an HTTP proxy answered to CONNECT */
static struct meaning
connect_meaning(long status)
{
	if (status == 407 || status == 401)
		return (struct meaning){ 0, ERR_AUTH, "the proxy wants (another) proxy.username and proxy.password" };
	if (status == 403)
		return (struct meaning){ 0, ERR_AUTH, "the proxy's rules forbid the connection" };
	if (status == 408 || status == 429 || status >= 500)
		return (struct meaning){ 0, ERR_TRANSIENT, "the proxy cannot reach the server for now" };
	return (struct meaning){ 0, ERR_PERMANENT, "the proxy refuses the connection" };
}

static const struct meaning *
look_up(const struct meaning *v, size_t n, int code)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].code == code)
			return &v[i];
	return NULL;
}

static int64_t
info_off(CURL *easy, CURLINFO info)
{
	curl_off_t v = 0;

	return curl_easy_getinfo(easy, info, &v) ? 0 : v;
}

static long
info_long(CURL *easy, CURLINFO info)
{
	long v = 0;

	return curl_easy_getinfo(easy, info, &v) ? 0 : v;
}

/* A handshake that the network broke may pass; one that the two sides could not agree on will not. */
static bool
handshake_was_cut(const char *text)
{
	return strstr(text, "SSL_ERROR_SYSCALL") || strstr(text, "unexpected eof") || strstr(text, "Connection reset");
}

/* RFC 8446, section 6.2: alerts about our certificate, or that there was none. TLS 1.3 tells so late only. */
static bool
client_was_refused(const char *text)
{
	static const char *const alerts[] = { "alert certificate required", "alert bad certificate", "alert unknown ca",
		"alert certificate expired", "alert certificate revoked", "alert certificate unknown",
		"alert unsupported certificate", "alert access denied" };

	for (size_t i = 0; i < ARRAY_LEN(alerts); i++)
		if (strstr(text, alerts[i]))
			return true;
	return false;
}

static struct meaning
timeout_meaning(const struct curl_handle *h, CURL *easy, const char *error, char *words, size_t n)
{
	const struct curl_limits *l = curl_session_limits(h->session);
	struct meaning m = { 0, ERR_TIMEOUT, words };

	if (h->expiry == EXPIRY_RESPONSE)
		snprintf(words, n, "no answer within %g s (response_timeout)", (double)l->response_ms / 1000);
	else if (h->expiry == EXPIRY_IDLE)
		snprintf(words, n, "the answer stopped: nothing for %g s (idle_timeout)", (double)l->idle_ms / 1000);
	else if (h->expiry == EXPIRY_DATA)
		snprintf(words, n, "no data connection within %g s (connect_timeout)", (double)l->connect_ms / 1000);
	else if (!info_off(easy, CURLINFO_CONNECT_TIME_T) && !strstr(error, "SSL"))
		snprintf(words, n, "no connection within %g s (connect_timeout)", (double)l->connect_ms / 1000);
	else
		snprintf(words, n, "connected, but TLS or login took longer than %g s (connect_timeout)",
		    (double)l->connect_ms / 1000);
	return m;
}

static struct meaning
meaning_of(const struct transfer *t, CURLcode code, char *words, size_t n)
{
	const struct curl_handle *h = t->handle;
	const struct meaning *row = look_up(meanings, ARRAY_LEN(meanings), (int)code), *socks;
	long status = info_long(t->easy, CURLINFO_HTTP_CONNECTCODE);
	struct meaning m = row ? *row : (struct meaning){ 0, ERR_INTERNAL, "libcurl failed in a way not foreseen" };

	if (h->refused)
		return (struct meaning){ 0, h->refusal_cls, h->refusal_cls == ERR_POLICY ? "the address may not be connected to" : "no connection" };
	if (code == CURLE_OPERATION_TIMEDOUT)
		return timeout_meaning(h, t->easy, t->error, words, n);
	if (code == CURLE_RECV_ERROR && h->proxied && status >= 300) {
		m = connect_meaning(status);
		snprintf(words, n, "%s (it answered %ld)", m.words, status);
		m.words = words;
	}
	if (code == CURLE_RECV_ERROR && (t->lane ? h->received : info_off(t->easy, CURLINFO_SIZE_DOWNLOAD_T) > 0))
		return (struct meaning){ 0, ERR_TRUNCATED, "the connection broke in the middle of the answer" };
	if ((code == CURLE_RECV_ERROR || code == CURLE_SSL_CONNECT_ERROR) && client_was_refused(t->error))
		return (struct meaning){ 0, ERR_AUTH, "the server refuses the client certificate (tls.cert_pem, tls.key_pem)" };
	if (code == CURLE_SSL_CONNECT_ERROR && handshake_was_cut(t->error))
		return (struct meaning){ 0, ERR_TRANSIENT, "the connection broke while TLS began" };
	if (code == CURLE_PROXY) {
		socks = look_up(socks_meanings, ARRAY_LEN(socks_meanings),
		    (int)info_long(t->easy, CURLINFO_PROXY_ERROR));
		return socks ? *socks : m;
	}
	return m;
}

/* ", 192.0.2.1 port 80", and whether that is a proxy */
static void
put_peer(struct buf *b, const struct transfer *t)
{
	const struct sockaddr *sa = (const struct sockaddr *)&t->handle->tried;
	char text[EGRESS_TEXT], *ip = NULL;
	long port = info_long(t->easy, CURLINFO_PRIMARY_PORT);
	const char *whose = t->handle->proxied ? "proxy" : "server";

	curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_IP, &ip);
	if (ip && *ip)
		buf_printf(b, " (%s %s port %ld)", whose, ip, port);
	else if (sa->sa_family) {
		egress_addr_text(sa, text);
		buf_printf(b, " (%s %s port %u)", whose, text,
		    ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port));
	}
}

bool
curl_session_refused(const struct transfer *t)
{
	return t->handle->refused;
}

int
curl_session_error(const struct transfer *t, CURLcode code, const char *what, struct err *e)
{
	char words[200];
	struct meaning m = meaning_of(t, code, words, sizeof(words));
	struct buf b = BUF_INIT;
	const char *detail = t->handle->refused ? t->handle->refusal : *t->error ? t->error : curl_easy_strerror(code);

	buf_printf(&b, "%s: %s", what, m.words);
	put_peer(&b, t);
	/* our own timeouts are told already */
	if (t->handle->expiry == EXPIRY_NONE) {
		buf_puts(&b, ": ");
		escape_term(&b, detail, strlen(detail));
	}
	/* libcurl does not say why it could not connect */
	if (code == CURLE_COULDNT_CONNECT && !t->handle->refused && info_long(t->easy, CURLINFO_OS_ERRNO))
		buf_printf(&b, " (%s)", strerror((int)info_long(t->easy, CURLINFO_OS_ERRNO)));
	err_set(e, m.cls, "%s", buf_str(&b));
	buf_release(&b);
	return -1;
}
