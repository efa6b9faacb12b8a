/*
 * worker_ssh.c - the pure parts of the SSH session: known_hosts, the server's hello, private keys, classes of errors.
 */
#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/source/ssh.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define ED "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBRPo4sC8KCEbN/hoRx/O8IStBTBJsgTdDxmd6WdARzV"
#define ED_PRINT "SHA256:mfNgZ25m7vM7gY/96nuD1Joh926GJNCbTfBNRewn/C0"
#define EC "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGTxm/VPYlhEOr/1QnG6igUuua6jJPE16RS1h1nLbJZ3gE1iBzNEhN0JuBezEmdUIFmBtEyKclQDsA+n1iZH51I="
/* of host.example, by ssh-keygen -H */
#define HASHED "|1|A6ta2NUvwmix5GyzlvOltSuPTYI=|MDioL27XasuWW++hINsk7BzyMRo="

static void
blob_of(const char *key, struct buf *out)
{
	const char *data = strchr(key, ' ') + 1;

	ck_assert_int_eq(base64_decode(out, data, strcspn(data, " ")), 0);
}

static const struct hosts_row {
	const char *text;
	uint16_t port;
	enum ssh_verdict ed;            /* on the key ED, for host.example */
	const char *types;
	unsigned malformed, line;
} hosts[] = {
	{ "", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "host.example " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "host.example " ED, 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "\r\n# comment\r\n\t host.example\t" ED " a comment here\r\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "HOST.example " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "other.example,host.example,10.0.0.1 " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "other.example " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "host.example.org " ED "\nhost.exampl " ED "\nxhost.example " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "host.example " EC "\n", 22, SSH_CHANGED, "ecdsa-sha2-nistp256", 0, 0 },
	{ "host.example " EC "\nhost.example " ED "\n", 22, SSH_KNOWN, "ssh-ed25519,ecdsa-sha2-nistp256", 0, 0 },
	{ "*.example " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "h?st.*mple " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "* " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "**a*b " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "*,!host.example " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "!host.example,* " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "!other.example " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ HASHED " " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ HASHED " " ED "\n", 2222, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "[host.example]:2222 " ED "\n", 2222, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "[host.example]:2222 " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "[host.example]:2222 " ED "\n", 2223, SSH_UNKNOWN, "", 0, 0 },
	{ "host.example " ED "\n", 2222, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "host.example " ED "\n[host.example]:2222 " EC "\n", 2222, SSH_CHANGED, "ecdsa-sha2-nistp256", 0, 0 },
	{ "*,![host.example]:2222 " ED "\n", 2222, SSH_UNKNOWN, "", 0, 0 },
	{ "@revoked * " ED "\nhost.example " ED "\n", 22, SSH_REVOKED, "ssh-ed25519", 0, 0 },
	{ "host.example " ED "\n@revoked host.example " ED "\n", 22, SSH_REVOKED, "ssh-ed25519", 0, 0 },
	{ "host.example " ED "\n@revoked host.example " EC "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "@revoked host.example " EC "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "@revoked host.example " ED "\n", 2222, SSH_REVOKED, "", 0, 0 },
	{ "[host.example]:2222 " ED "\n@revoked host.example " ED "\n", 2222, SSH_REVOKED, "ssh-ed25519", 0, 0 },
	{ "@cert-authority *.example " ED "\n", 22, SSH_UNKNOWN, "", 0, 0 },
	{ "@cert-authority *.example " ED "\nhost.example " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 0, 0 },
	{ "@unknown host.example " ED "\n", 22, SSH_UNKNOWN, "", 1, 1 },
	{ "host.example\nhost.example ssh-ed25519\nhost.example " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 2, 1 },
	{ "\nhost.example ssh-ed25519 AAAA!\n", 22, SSH_UNKNOWN, "", 1, 2 },
	{ "host.example ecdsa-sha2-nistp256 AAAAC3NzaC1lZDI1NTE5AAAAIBRPo4sC8KCEbN/hoRx/O8IStBTBJsgTdDxmd6WdARzV\n", 22, SSH_UNKNOWN, "", 1, 1 },
	{ "host.example 1024 35 1234567890\n", 22, SSH_UNKNOWN, "", 1, 1 },
	{ "host.example, " ED "\n,host.example " ED "\n! " ED "\n", 22, SSH_KNOWN, "ssh-ed25519", 2, 2 },
	{ "|1|AAAA " ED "\n|1|!|! " ED "\n|2|A6ta2NUvwmix5GyzlvOltSuPTYI=|MDioL27XasuWW++hINsk7BzyMRo= " ED "\n", 22, SSH_UNKNOWN, "", 3, 1 },
};

START_TEST(known_hosts)
{
	const struct hosts_row *r = &hosts[_i];
	struct buf blob = BUF_INIT, types = BUF_INIT;
	struct err e = ERR_INIT;
	struct ssh_hosts h;

	ssh_hosts_init(&h);
	blob_of(ED, &blob);
	ck_assert_msg(ssh_hosts_add(&h, r->text, "host.example", r->port, &e) == 0, "%s", e.text);
	ssh_hosts_settle(&h);
	ck_assert_msg(ssh_hosts_judge(&h, blob.p, blob.len) == r->ed, "%s: %d", r->text, ssh_hosts_judge(&h, blob.p, blob.len));
	ssh_hosts_types(&h, &types);
	ck_assert_str_eq(buf_str(&types), r->types);
	ck_assert_uint_eq(h.malformed, r->malformed);
	ck_assert_uint_eq(h.malformed_line, r->line);
	buf_release(&blob);
	buf_release(&types);
	ssh_hosts_release(&h);
}
END_TEST

START_TEST(revoked_lines_are_read_or_refused)
{
	static const char *const rows[] = { "@revoked\n", "@revoked *\n", "@revoked * ssh-ed25519 AAAA!\n", "@revoked * ssh-rsa AAAA\n",
		"@revoked |1|!|! " ED "\n" };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("host.example " ED "\n%s", rows[i]);
		struct err e = ERR_INIT;
		struct ssh_hosts h;

		ssh_hosts_init(&h);
		ck_assert_int_eq(ssh_hosts_add(&h, text, "host.example", 22, &e), -1);
		ck_assert_msg(e.cls == ERR_PERMANENT && strstr(e.text, "line 2"), "%s", e.text);
		ssh_hosts_release(&h);
		free(text);
	}
}
END_TEST

START_TEST(single_keys)
{
	struct buf blob = BUF_INIT;
	struct err e = ERR_INIT;
	struct ssh_hosts h;
	char print[SSH_FINGERPRINT], type[64];

	ssh_hosts_init(&h);
	blob_of(ED, &blob);
	ck_assert_int_eq(ssh_hosts_add_key(&h, ED " name@host", &e), 0);
	ck_assert_int_eq(ssh_hosts_add_key(&h, EC, &e), 0);
	ck_assert_int_eq(ssh_hosts_judge(&h, blob.p, blob.len), SSH_KNOWN);
	ck_assert_int_eq(ssh_hosts_judge(&h, blob.p, blob.len - 1), SSH_CHANGED);
	ck_assert_int_eq(ssh_hosts_add_key(&h, "AAAA", &e), -1);
	ck_assert_int_eq(ssh_hosts_add_key(&h, "", &e), -1);
	ssh_fingerprint(blob.p, blob.len, print);
	ck_assert_str_eq(print, ED_PRINT);
	ssh_key_type(blob.p, blob.len, type);
	ck_assert_str_eq(type, "ssh-ed25519");
	for (size_t n = 0; n < 15; n++) {
		ssh_key_type(blob.p, n, type);
		ck_assert_str_eq(type, "");
	}
	ssh_key_type("\0\0\0\3a\nb", 7, type);
	ck_assert_str_eq(type, "");
	buf_release(&blob);
	ssh_hosts_release(&h);
}
END_TEST

/* ---- the server's hello ------------------------------------------------------------------------------------------------------- */

static void
u32(struct buf *b, size_t v)
{
	buf_putc(b, (char)(v >> 24));
	buf_putc(b, (char)(v >> 16));
	buf_putc(b, (char)(v >> 8));
	buf_putc(b, (char)v);
}

static void
make_hello(struct buf *b, const char *before, const char *const lists[10])
{
	struct buf p = BUF_INIT;

	buf_puts(b, before);
	buf_putc(&p, 4);
	buf_putc(&p, 20);
	buf_add(&p, "0123456789abcdef", 16);
	for (int i = 0; i < 10; i++) {
		u32(&p, strlen(lists[i]));
		buf_puts(&p, lists[i]);
	}
	buf_add(&p, "\0\0\0\0\0pad!", 9);
	u32(b, p.len);
	buf_add(b, p.p, p.len);
	buf_release(&p);
}

static const char *const offered[10] = { "kex-a,kex-b", "rsa-sha2-512,ssh-ed25519", "cs-only", "aes256-gcm@openssh.com", "cs-mac", "hmac-sha2-256-etm@openssh.com",
	"none", "none", "", "" };

START_TEST(hello)
{
	static const struct { const char *ours[SSH_LIST__MAX], *words; } rows[] = {
		{ { "x,kex-b", "ssh-ed25519", "aes256-gcm@openssh.com", "hmac-sha2-256-etm@openssh.com" }, NULL },
		{ { "kex", "ssh-ed25519", "aes256-gcm@openssh.com", "hmac-sha2-256-etm@openssh.com" }, "no common key exchanges: the server offers kex-a,kex-b; the poller asked for kex" },
		{ { "kex-a", "ssh-rsa", "aes256-gcm@openssh.com", "hmac-sha2-256-etm@openssh.com" }, "no common host key algorithms: the server offers rsa-sha2-512,ssh-ed25519" },
		{ { "kex-a", "ssh-ed25519", "cs-only,aes256-ctr", "hmac-sha2-256-etm@openssh.com" }, "no common ciphers: the server offers aes256-gcm@openssh.com" },
		{ { "kex-a", "ssh-ed25519", "aes256-gcm@openssh.com", "hmac-sha2-256" }, "no common MACs: the server offers hmac-sha2-256-etm@openssh.com" },
	};
	static struct ssh_hello h;
	struct buf b = BUF_INIT, why = BUF_INIT;
	const char *list;
	size_t n;

	make_hello(&b, "Some words before\r\nSSH-2.0-Test\r\n", offered);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		memset(&h, 0, sizeof(h));
		for (size_t at = 0; at < b.len; at += 7)
			ssh_hello_add(&h, b.p + at, b.len - at < 7 ? b.len - at : 7);
		buf_clear(&why);
		ck_assert_int_eq(ssh_hello_explain(&h, rows[i].ours, &why), rows[i].words != NULL);
		ck_assert_msg(!rows[i].words || strstr(buf_str(&why), rows[i].words), "%s", buf_str(&why));
	}
	ck_assert(ssh_hello_list(&h, SSH_LIST_HOST_KEY, &list, &n));
	ck_assert(ssh_list_has(list, n, "ssh-ed25519", 11));
	ck_assert(!ssh_list_has(list, n, "ssh-ed2551", 10));
	ck_assert(!ssh_list_has(list, n, "rsa-sha2-512,ssh-ed25519", 24));
	ck_assert(!ssh_list_has(list, 0, "", 0));
	/* any part of it is none, or the same */
	for (size_t cut = 0; cut < b.len; cut++) {
		memset(&h, 0, sizeof(h));
		ssh_hello_add(&h, b.p, cut);
		for (int i = 0; i < SSH_LIST__MAX; i++)
			ck_assert(!ssh_hello_list(&h, (enum ssh_list)i, &list, &n));
	}
	buf_release(&b);
	buf_release(&why);
}
END_TEST

START_TEST(hello_is_bounded)
{
	static struct ssh_hello h;
	static char zeros[SSH_HELLO_MAX];
	const char *list;
	size_t n;

	for (int i = 0; i < 3; i++)
		ssh_hello_add(&h, zeros, sizeof(zeros) - 1);
	ck_assert_uint_eq(h.n, SSH_HELLO_MAX);
	ck_assert(!ssh_hello_list(&h, SSH_LIST_KEX, &list, &n));
	/* a length that leads out of it */
	memset(&h, 0, sizeof(h));
	ssh_hello_add(&h, "SSH-2.0-x\n\377\377\377\377\4\24", 16);
	ssh_hello_add(&h, zeros, 100);
	ck_assert(!ssh_hello_list(&h, SSH_LIST_KEX, &list, &n));
	memset(&h, 0, sizeof(h));
	ssh_hello_add(&h, "SSH-2.0-x\n\0\0\0\50\4\24", 16);
	ssh_hello_add(&h, "0123456789abcdef\0\0\1\0", 20);
	ssh_hello_add(&h, zeros, 100);
	ck_assert(!ssh_hello_list(&h, SSH_LIST_KEX, &list, &n));
}
END_TEST

/* ---- private keys: made here, so that none lies in the tree --------------------------------------------------------------------- */

static char *
pem_of(EVP_PKEY *key, const char *passphrase)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *p, *text;
	long n;

	ck_assert_ptr_nonnull(key);
	ck_assert_int_eq(PEM_write_bio_PKCS8PrivateKey(bio, key, passphrase ? EVP_aes_256_cbc() : NULL, passphrase,
	    passphrase ? (int)strlen(passphrase) : 0, NULL, NULL), 1);
	n = BIO_get_mem_data(bio, &p);
	text = xmemdup0(p, (size_t)n);
	BIO_free(bio);
	EVP_PKEY_free(key);
	return text;
}

static void
check_key(char *text, const char *passphrase, const char *type, const char *words)
{
	struct err e = ERR_INIT;
	struct ssh_key k;
	int rc = ssh_key_look(text, passphrase, &k, &e);

	ck_assert_msg(rc == (type ? 0 : -1), "%s", e.text);
	if (type)
		ck_assert_str_eq(k.type, type);
	else
		ck_assert_msg(e.cls == ERR_AUTH && strstr(e.text, words), "%s", e.text);
	free(text);
}

START_TEST(pem_keys)
{
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL), "", "ssh-ed25519", NULL);
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), NULL), "", "ecdsa-sha2-nistp256", NULL);
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521"), NULL), "", "ecdsa-sha2-nistp521", NULL);
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024), NULL), "", "ssh-rsa", NULL);
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), "open"), "open", "ecdsa-sha2-nistp384", NULL);
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), "open"), "shut", NULL, "does not open");
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), "open"), "", NULL, "is needed");
	check_key(pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), NULL), "", NULL, "not served");
	check_key(xstrdup("no key at all"), "", NULL, "not a private key");
	check_key(xstrdup(ED), "", NULL, "not a private key");
}
END_TEST

static char *
openssh_of(const char *raw, size_t n)
{
	struct buf b = BUF_INIT, b64 = BUF_INIT;

	base64_encode(&b64, raw, n);
	buf_puts(&b, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
	for (size_t i = 0; i < b64.len; i += 70)
		buf_printf(&b, "%.*s\r\n", b64.len - i < 70 ? (int)(b64.len - i) : 70, b64.p + i);
	buf_puts(&b, "-----END OPENSSH PRIVATE KEY-----\n");
	buf_release(&b64);
	return buf_take(&b);
}

START_TEST(openssh_keys)
{
#define MAGIC "openssh-key-v1\0"
#define PUBLIC "\0\0\0\1\0\0\0\17\0\0\0\13ssh-ed25519rest"
	static const char plain[] = MAGIC "\0\0\0\4none\0\0\0\4none\0\0\0\0" PUBLIC;
	static const char locked[] = MAGIC "\0\0\0\12aes256-ctr\0\0\0\6bcrypt\0\0\0\2ab" PUBLIC;
	static const char hardware[] = MAGIC "\0\0\0\4none\0\0\0\4none\0\0\0\0\0\0\0\1\0\0\0\36\0\0\0\32sk-ssh-ed25519@openssh.com";

	check_key(openssh_of(plain, sizeof(plain) - 1), "", "ssh-ed25519", NULL);
	check_key(openssh_of(locked, sizeof(locked) - 1), "x", "ssh-ed25519", NULL);
	check_key(openssh_of(locked, sizeof(locked) - 1), "", NULL, "is needed");
	check_key(openssh_of(hardware, sizeof(hardware) - 1), "", NULL, "sk-ssh-ed25519@openssh.com, which is not served");
	for (size_t n = 0; n < sizeof(plain) - 5; n++)
		check_key(openssh_of(plain, n), "", NULL, "damaged");
	check_key(xstrdup("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"), "", NULL, "damaged");
	check_key(xstrdup("-----BEGIN OPENSSH PRIVATE KEY-----\n!!!!\n-----END OPENSSH PRIVATE KEY-----"), "", NULL, "damaged");
}
END_TEST

/* libssh2.h: each line of the table. */
START_TEST(classes)
{
	static const struct { int code; enum err_class cls; } rows[] = {
		{ -1, ERR_TRANSIENT }, { -2, ERR_PROTOCOL }, { -3, ERR_TRANSIENT }, { -4, ERR_PROTOCOL }, { -5, ERR_PERMANENT },
		{ -6, ERR_SYSTEM }, { -7, ERR_TRANSIENT }, { -8, ERR_PROTOCOL }, { -9, ERR_TIMEOUT }, { -10, ERR_PROTOCOL },
		{ -11, ERR_PERMANENT }, { -12, ERR_PROTOCOL }, { -13, ERR_TRANSIENT }, { -14, ERR_PROTOCOL }, { -15, ERR_AUTH },
		{ -16, ERR_AUTH }, { -17, ERR_PERMANENT }, { -18, ERR_AUTH }, { -19, ERR_AUTH }, { -20, ERR_PROTOCOL },
		{ -21, ERR_TRANSIENT }, { -22, ERR_PERMANENT }, { -23, ERR_PROTOCOL }, { -24, ERR_PROTOCOL }, { -25, ERR_PROTOCOL },
		{ -26, ERR_TRUNCATED }, { -27, ERR_INTERNAL }, { -29, ERR_PROTOCOL }, { -30, ERR_TIMEOUT }, { -32, ERR_PERMANENT },
		{ -33, ERR_PERMANENT }, { -34, ERR_INTERNAL }, { -36, ERR_PROTOCOL }, { -38, ERR_PROTOCOL }, { -39, ERR_INTERNAL },
		{ -40, ERR_PROTOCOL }, { -41, ERR_PROTOCOL }, { -43, ERR_TRANSIENT }, { -44, ERR_SYSTEM }, { -45, ERR_TRANSIENT },
		{ -47, ERR_PROTOCOL }, { -48, ERR_AUTH }, { -49, ERR_SYSTEM }, { -1000, ERR_PROTOCOL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_msg(ssh_error_class(rows[i].code) == rows[i].cls, "%d", rows[i].code);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ssh");
	TCase *t = tcase_create("ssh");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, known_hosts, 0, (int)ARRAY_LEN(hosts));
	tcase_add_test(t, revoked_lines_are_read_or_refused);
	tcase_add_test(t, single_keys);
	tcase_add_test(t, hello);
	tcase_add_test(t, hello_is_bounded);
	tcase_add_test(t, pem_keys);
	tcase_add_test(t, openssh_keys);
	tcase_add_test(t, classes);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
