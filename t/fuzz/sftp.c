/*
 * sftp.c - fuzz target: what an SSH server or a job's author may send to the parsers of the source sftp.
 *
 * Built with -fsanitize=fuzzer. The first byte chooses: SFTP packets (fed in pieces of a size that the second byte
 * says, with requests of every kind under way), known_hosts, the server's hello, a private key.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/source/sftp_wire.h"
#include "worker/source/ssh.h"
#include "common/xalloc.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
touch(const char *p, size_t n)
{
	volatile unsigned char sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (unsigned char)(sum + (unsigned char)p[i]);
}

static int
take_reply(struct sftp_reply *r, struct err *e)
{
	struct sftp_name name;
	int rc;

	touch(r->text, r->text_n);
	touch(r->handle, r->handle_n);
	if (r->handle_n > SFTP_HANDLE_MAX)
		abort();
	while ((rc = sftp_reply_name(r, &name, e)) == 1) {
		const char *owner, *group;
		size_t owner_n, group_n;

		touch(name.name, name.name_n);
		touch(name.longname, name.longname_n);
		if (sftp_longname_owners(&name, &owner, &owner_n, &group, &group_n)) {
			touch(owner, owner_n);
			touch(group, group_n);
		}
	}
	return rc;
}

static void
packets(const uint8_t *p, size_t n, size_t piece)
{
	static struct sftp_wire w;
	struct sftp_reply r;
	struct err e = ERR_INIT;
	int rc = 0;

	sftp_wire_init(&w);
	for (int i = 0; i < 4 * SFTP_OP__MAX; i++)
		sftp_wire_ask(&w, (enum sftp_op)(i % SFTP_OP__MAX), "x", 1, NULL);
	for (size_t at = 0; at < n && rc >= 0; at += piece) {
		sftp_wire_feed(&w, p + at, n - at < piece ? n - at : piece);
		while ((rc = sftp_wire_next(&w, &r, &e)) == 1)
			if (take_reply(&r, &e)) {
				rc = -1;
				break;
			}
	}
	if (rc < 0 && e.cls != ERR_PROTOCOL && e.cls != ERR_PERMANENT)
		abort();
	sftp_wire_release(&w);
}

static void
known_hosts(const uint8_t *p, size_t n)
{
	char *text = xmemdup0(p, n);
	struct buf types = BUF_INIT;
	struct err e = ERR_INIT;
	struct ssh_hosts h;

	for (uint16_t port = 22; port < 24; port++) {
		ssh_hosts_init(&h);
		ssh_hosts_add(&h, text, "host.example", port, &e);
		ssh_hosts_add_key(&h, text, &e);
		ssh_hosts_settle(&h);
		ssh_hosts_types(&h, &types);
		for (size_t i = 0; i < h.n; i++)
			if (ssh_hosts_judge(&h, h.v[i].blob, h.v[i].n) == SSH_UNKNOWN)
				abort();
		ssh_hosts_release(&h);
	}
	buf_release(&types);
	free(text);
}

static void
hello(const uint8_t *p, size_t n)
{
	static const char *const ours[SSH_LIST__MAX] = { "curve25519-sha256", "ssh-ed25519", "aes256-ctr", "hmac-sha2-256" };
	static struct ssh_hello h;
	struct buf why = BUF_INIT;

	h.n = 0;
	ssh_hello_add(&h, p, n);
	ssh_hello_explain(&h, ours, &why);
	buf_release(&why);
}

static void
private_key(const uint8_t *p, size_t n)
{
	char *text = xmemdup0(p, n);
	struct err e = ERR_INIT;
	struct ssh_key k;

	if (ssh_key_look(text, "", &k, &e) && e.cls != ERR_AUTH)
		abort();
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 2)
		return 0;
	switch (p[0] % 4) {
	case 0: packets(p + 2, n - 2, p[1] ? p[1] : 4096); break;
	case 1: known_hosts(p + 1, n - 1); break;
	case 2: hello(p + 1, n - 1); break;
	default: private_key(p + 1, n - 1);
	}
	return 0;
}
