/*
 * ssh_login.c - who the poller is: public key, password, keyboard-interactive, in the job's order.
 *
 * ssh_session.c calls it once, after the server's key was believed: no secret leaves before. What was tried, and what
 * came of it, goes into the one error; secrets go nowhere else than to libssh2.
 */
#include <stdio.h>
#include <string.h>

#include "worker/source/ssh_priv.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define QUESTIONS_MAX 16                /* of keyboard-interactive, over all its rounds */
#define PROMPT_MAX 8

/* Every question that hides its answer is taken for the password; others get nothing. */
static LIBSSH2_USERAUTH_KBDINT_RESPONSE_FUNC(answer)
{
	struct ssh *s = *abstract;

	(void)name;
	(void)name_len;
	(void)instruction;
	(void)instruction_len;
	for (int i = 0; i < num_prompts; i++) {
		bool tell = i < PROMPT_MAX && !prompts[i].echo && ++s->questions <= QUESTIONS_MAX;
		size_t n = tell ? strlen(s->password) : 0;

		responses[i].text = ssh_take_memory(n + 1, abstract);
		memcpy(responses[i].text, tell ? s->password : "", n + 1);
		responses[i].length = (unsigned)n;
	}
}

static int
step_methods(struct ssh *s)
{
	s->methods = libssh2_userauth_list(s->session, s->user, (unsigned)strlen(s->user));
	if (s->methods || libssh2_userauth_authenticated(s->session))
		return 0;
	return libssh2_session_last_errno(s->session);
}

static int
step_key(struct ssh *s)
{
	return libssh2_userauth_publickey_frommemory(s->session, s->user, strlen(s->user), NULL, 0, s->key, strlen(s->key), s->passphrase);
}

static int
step_password(struct ssh *s)
{
	return libssh2_userauth_password_ex(s->session, s->user, (unsigned)strlen(s->user), s->password,
	    (unsigned)strlen(s->password), NULL);
}

static int
step_keyboard(struct ssh *s)
{
	return libssh2_userauth_keyboard_interactive_ex(s->session, s->user, (unsigned)strlen(s->user), answer);
}

/* What was tried and what came of it; password: the method that refused it. */
struct tried { struct buf text; bool rsa; const char *password; };

static int
try_key(struct ssh *s, struct err *e)
{
	struct ssh_key k;
	const char *public = run_str(s->run, SF_SFTP_PUBLIC_KEY);

	if (ssh_key_look(s->key, s->passphrase, &k, e) || (*public && ssh_key_is(&k, public, e)))
		return STEP_ERROR;
	snprintf(s->key_type, sizeof(s->key_type), "%s", k.type);
	return ssh_drive(s, step_key, "login by key", e);
}

static int
try_password(struct ssh *s, struct err *e)
{
	return ssh_drive(s, step_password, "login by password", e);
}

static int
try_keyboard(struct ssh *s, struct err *e)
{
	s->questions = 0;
	return ssh_drive(s, step_keyboard, "login by keyboard-interactive", e);
}

static const struct method {
	const char *name;
	bool by_key;                    /* else by the password */
	int (*try)(struct ssh *, struct err *);
} methods[] = {
	{ "publickey", true, try_key },
	{ "password", false, try_password },
	{ "keyboard-interactive", false, try_keyboard },
};

static const struct method *
find_method(const char *name, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (strlen(methods[i].name) == n && !memcmp(methods[i].name, name, n))
			return &methods[i];
	return NULL;
}

/*
 * A stream that broke in the midst of a login: libssh2 calls some of that a refused key. A server that says why it goes
 * (RFC 4253, section 11.1) may have had enough of wrong logins: 2 is OpenSSH's "Too many authentication failures".
 */
static int
broke_off(struct ssh *s, struct err *e)
{
	enum { PROTOCOL_ERROR = 2, AUTH_CANCELLED = 13, NO_MORE_METHODS = 14, ILLEGAL_USER = 15 };
	bool enough = s->reason == PROTOCOL_ERROR || (s->reason >= AUTH_CANCELLED && s->reason <= ILLEGAL_USER);

	return err_set(e, enough ? ERR_AUTH : ERR_TRANSIENT, "%s ended the connection during the login%s%s", s->peer,
	    s->reason ? ": " : "", s->farewell);
}

/* Not a refusal of this one method but the end of the conversation. */
static bool
is_fatal(int rc)
{
	return rc == STEP_ERROR || (rc && ssh_error_class(rc) != ERR_AUTH && rc != LIBSSH2_ERROR_METHOD_NONE);
}

/* One method: 1 logged in, 0 not, -1 with err. */
static int
try_method(struct ssh *s, const struct method *m, struct tried *t, struct err *e)
{
	int rc;

	if (!*(m->by_key ? s->key : s->password)) {
		buf_printf(&t->text, "; no secret for %s", m->name);
		return 0;
	}
	/* Asked anew each time: after a part of a login the server takes others. */
	rc = ssh_drive(s, step_methods, "login", e);
	if (rc == STEP_ERROR)
		return -1;
	if (rc && (s->lost || s->reason))
		return broke_off(s, e);
	if (is_fatal(rc))
		return ssh_fail(s, rc, "login", e);
	if (libssh2_userauth_authenticated(s->session))
		return 1;
	if (s->methods && !ssh_list_has(s->methods, strlen(s->methods), m->name, strlen(m->name))) {
		buf_printf(&t->text, "; %s is not offered", m->name);
		return 0;
	}
	/* While the method that refused it is still offered it was no first half of a login. */
	if (!m->by_key && t->password && s->methods && ssh_list_has(s->methods, strlen(s->methods), t->password, strlen(t->password))) {
		buf_printf(&t->text, "; %s would send the same password", m->name);
		return 0;
	}
	rc = m->try(s, e);
	if (!rc)
		return 1;
	if (rc != STEP_ERROR && (s->lost || s->reason))
		return broke_off(s, e);
	if (is_fatal(rc))
		return rc == STEP_ERROR ? -1 : ssh_fail(s, rc, "login", e);
	buf_printf(&t->text, "; %s %s", m->name, rc == LIBSSH2_ERROR_AUTHENTICATION_FAILED ? "was refused" : ssh_error_text(rc));
	if (!m->by_key)
		t->password = m->name;
	t->rsa = t->rsa || (m->by_key && !strcmp(s->key_type, "ssh-rsa"));
	return 0;
}

static int
refused(struct ssh *s, const struct tried *t, struct err *e)
{
	struct buf user = BUF_INIT, offered = BUF_INIT;

	escape_term(&user, s->user, strlen(s->user));
	if (s->methods)
		escape_term(&offered, s->methods, strnlen(s->methods, 200));
	if (t->rsa)
		err_set(e, ERR_PERMANENT, "%s refused the RSA key of user %s: libssh2 %s signs with RSA keys by SHA-1 only (ssh-rsa), which current servers refuse. "
		    "Use an ed25519 or ecdsa key (ssh-keygen -t ed25519), or let the server take it (PubkeyAcceptedAlgorithms +ssh-rsa)%.*s",
		    s->peer, buf_str(&user), libssh2_version(0), (int)t->text.len, t->text.p);
	else
		err_set(e, ERR_AUTH, "%s refused the login of user %s (it offers %s)%.*s", s->peer, buf_str(&user),
		    offered.len ? buf_str(&offered) : "nothing", (int)t->text.len, t->text.p);
	buf_release(&user);
	buf_release(&offered);
	return -1;
}

int
ssh_login(struct ssh *s, struct err *e)
{
	const char *order = run_str(s->run, SF_SFTP_AUTH_METHODS);
	struct tried t = { .text = BUF_INIT };
	int rc = 0;

	s->user = run_str(s->run, SF_SFTP_USERNAME);
	s->password = run_str(s->run, SF_SFTP_PASSWORD);
	s->key = run_str(s->run, SF_SFTP_PRIVATE_KEY);
	s->passphrase = run_str(s->run, SF_SFTP_PASSPHRASE);
	if (!*s->user)
		return err_set(e, ERR_AUTH, "neither the job nor its credentials_ref names a username");
	if (!*s->password && !*s->key)
		return err_set(e, ERR_AUTH, "neither the job nor its credentials_ref has a password or a private_key");
	while (*order && !rc) {
		size_t n = strcspn(order, ",");
		const struct method *m = find_method(order, n);

		if (m)
			rc = try_method(s, m, &t, e);
		order += n + (order[n] == ',');
	}
	if (!rc)
		refused(s, &t, e);
	s->user = s->password = s->key = s->passphrase = "";
	s->methods = NULL;
	buf_release(&t.text);
	return rc == 1 ? 0 : -1;
}
