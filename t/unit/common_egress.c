/*
 * common_egress.c - the address policy: networks from text, and every class of address against every list.
 */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "common/egress.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct sockaddr *
address(const char *s)
{
	static struct sockaddr_storage sa;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;

	memset(&sa, 0, sizeof(sa));
	sa.ss_family = strchr(s, ':') ? AF_INET6 : AF_INET;
	ck_assert_int_eq(inet_pton(sa.ss_family, s, strchr(s, ':') ? (void *)&v6->sin6_addr : &v4->sin_addr), 1);
	return (struct sockaddr *)&sa;
}

/* Space separated networks to a list. */
static struct strlist
list(const char *s)
{
	struct strlist l = { NULL, 0 };
	char *copy = xstrdup(s), *rest = copy, *one;

	while ((one = strsep(&rest, " ")))
		if (*one)
			strlist_add(&l, one);
	free(copy);
	return l;
}

static int
policy(struct egress *g, const char *allow, const char *deny, struct err *e)
{
	struct egress_lists l = { .allow = list(allow), .deny = list(deny) };
	int rc = egress_init(g, &l, e);

	egress_lists_release(&l);
	return rc;
}

static const struct {
	const char *text;
	const char *error;           /* NULL: right */
	unsigned bits;
	bool v6;
} nets[] = {
	{ "10.0.0.0/8", NULL, 8, false },
	{ "10.1.2.3", NULL, 32, false },
	{ "0.0.0.0/0", NULL, 0, false },
	{ "192.168.4.0/22", NULL, 22, false },
	{ "::/0", NULL, 0, true },
	{ "::1", NULL, 128, true },
	{ "::1/128", NULL, 128, true },
	{ "fd00::/8", NULL, 8, true },
	{ "2001:db8::/33", NULL, 33, true },
	{ "::ffff:10.0.0.0/104", NULL, 8, false },
	{ "::ffff:127.0.0.1", NULL, 32, false },
	{ "10.1.2.3/8", "the network is 10.0.0.0/8", 0, false },
	{ "10.0.0.255/25", "the network is 10.0.0.128/25", 0, false },
	{ "1.2.3.4/0", "the network is 0.0.0.0/0", 0, false },
	{ "fd00::1/8", "the network is fd00::/8", 0, false },
	{ "10.0.0.0/33", "longer than the 32 bits", 0, false },
	{ "::/129", "longer than the 128 bits", 0, false },
	{ "10.0.0.0/", "no number of bits", 0, false },
	{ "10.0.0.0/x", "no number of bits", 0, false },
	{ "10.0.0.0/-1", "no number of bits", 0, false },
	{ "10.0.0.0/+8", "no number of bits", 0, false },
	{ "10.0.0.0/8/8", "no number of bits", 0, false },
	{ "10.0.0.0/ 8", "no number of bits", 0, false },
	{ "10.0.0.0/99999999999999999999", "no number of bits", 0, false },
	{ "10.0.0/8", "not a network", 0, false },
	{ "0x7f.0.0.1", "not a network", 0, false },
	{ "localhost", "not a network", 0, false },
	{ "", "not a network", 0, false },
	{ "/8", "not a network", 0, false },
	{ "fe80::1%lo", "not a network", 0, false },
	{ "[::1]", "not a network", 0, false },
	{ "00000000000000000000000000000000000000000000000000000000000000000000", "too long", 0, false },
};

START_TEST(networks)
{
	struct egress_net n;
	struct err e = ERR_INIT;
	int rc = egress_net_parse(nets[_i].text, &n, &e);

	if (nets[_i].error) {
		ck_assert_int_eq(rc, -1);
		ck_assert_int_eq(e.cls, ERR_CONFIG);
		ck_assert_msg(strstr(e.text, nets[_i].error) != NULL, "%s", e.text);
		return;
	}
	ck_assert_msg(!rc, "%s: %s", nets[_i].text, e.text);
	ck_assert_uint_eq(n.bits, nets[_i].bits);
	ck_assert_int_eq(n.v6, nets[_i].v6);
}
END_TEST

static const struct {
	const char *addr, *allow, *deny;
	const char *refused;         /* a part of the text; NULL: allowed */
} rows[] = {
	/* by default: the world and private networks */
	{ "8.8.8.8", "", "", NULL },
	{ "10.0.0.1", "", "", NULL },
	{ "172.16.3.4", "", "", NULL },
	{ "192.168.1.1", "", "", NULL },
	{ "100.64.0.1", "", "", NULL },
	{ "223.255.255.255", "", "", NULL },
	{ "2606:4700::1111", "", "", NULL },
	{ "fd12:3456::1", "", "", NULL },
	/* what is refused by itself, from its first to its last address */
	{ "127.0.0.1", "", "", "127.0.0.1 is refused: a loopback address; egress.allow can allow it" },
	{ "127.255.255.255", "", "", "loopback" },
	{ "128.0.0.0", "", "", NULL },
	{ "126.255.255.255", "", "", NULL },
	{ "::1", "", "", "::1 is refused: a loopback address" },
	{ "0.0.0.0", "", "", "unspecified" },
	{ "0.255.255.255", "", "", "unspecified" },
	{ "1.0.0.0", "", "", NULL },
	{ "::", "", "", "unspecified" },
	{ "169.254.0.0", "", "", "link-local" },
	{ "169.254.255.255", "", "", "link-local" },
	{ "169.253.255.255", "", "", NULL },
	{ "169.255.0.0", "", "", NULL },
	{ "fe80::1", "", "", "link-local" },
	{ "febf:ffff::1", "", "", "link-local" },
	{ "fec0::1", "", "", "reserved" },
	{ "192.0.0.191", "", "", "reserved" },
	{ "224.0.0.0", "", "", "multicast" },
	{ "239.255.255.255", "", "", "multicast" },
	{ "ff02::1", "", "", "multicast" },
	{ "255.255.255.255", "", "", "broadcast" },
	{ "240.0.0.0", "", "", "reserved" },
	{ "255.255.255.254", "", "", "reserved" },
	{ "100::1", "", "", "reserved" },
	/* metadata, whatever the settings */
	{ "169.254.169.254", "", "", "metadata" },
	{ "169.254.169.254", "169.254.169.254", "", "no setting allows it to jobs" },
	{ "169.254.169.254", "0.0.0.0/0 ::/0", "", "metadata" },
	{ "169.254.170.2", "169.254.0.0/16", "", "metadata address of containers" },
	{ "169.254.170.23", "169.254.0.0/16", "", "metadata address of containers" },
	{ "169.254.169.253", "169.254.0.0/16", "", NULL },
	{ "100.100.100.200", "", "", "metadata" },
	{ "100.100.100.201", "", "", NULL },
	{ "168.63.129.16", "", "", "metadata" },
	{ "fd00:ec2::254", "::/0", "", "metadata" },
	{ "fd00:ec2::23", "", "", "metadata" },
	{ "fd00:ec2::255", "", "", NULL },
	{ "fd20:ce::254", "", "", "metadata" },
	{ "fd20:ce::254", "::/0", "", "no setting allows it to jobs" },
	{ "fd20:ce::253", "", "", NULL },
	{ "fd00:c1::a9fe:a9fe", "", "", "metadata" },
	{ "fd00:a9fe:a9fe::1", "", "", "metadata" },
	{ "fd00:42::42", "", "", "metadata" },
	{ "fd00:100::100:200", "", "", "metadata" },
	{ "fe80::a9fe:a9fe", "fe80::/10", "", "metadata" },
	{ "169.254.42.42", "169.254.0.0/16", "", "metadata" },
	{ "169.254.0.23", "169.254.0.0/16", "", "metadata" },
	{ "169.254.10.10", "169.254.0.0/16", "", "metadata" },
	{ "192.0.0.192", "192.0.0.0/24", "", "metadata" },
	/* IPv4 addresses within IPv6 ones */
	{ "::ffff:127.0.0.1", "", "", "::ffff:127.0.0.1, which leads to 127.0.0.1, is refused: a loopback" },
	{ "::ffff:8.8.8.8", "", "", NULL },
	{ "::ffff:10.0.0.1", "", "10.0.0.0/8", "egress.deny has 10.0.0.0/8" },
	{ "::ffff:127.0.0.1", "127.0.0.0/8", "", NULL },
	{ "::ffff:169.254.169.254", "::/0", "", "metadata" },
	{ "::169.254.169.254", "::/0", "", "metadata" },
	{ "::127.0.0.1", "", "", "loopback" },
	{ "::2", "", "", "unspecified" },
	{ "::ffff:0:169.254.169.254", "", "", "metadata" },
	{ "::ffff:0:127.0.0.1", "", "", "loopback" },
	{ "64:ff9b::169.254.169.254", "::/0 0.0.0.0/0", "", "metadata" },
	{ "64:ff9b::127.0.0.1", "", "", "loopback" },
	{ "64:ff9b::127.0.0.1", "127.0.0.0/8", "", NULL },
	{ "64:ff9b::8.8.8.8", "", "", NULL },
	{ "64:ff9b::8.8.8.8", "", "8.8.8.0/24", "egress.deny has 8.8.8.0/24" },
	{ "64:ff9b:1::169.254.169.254", "", "", "metadata" },
	{ "2002:a9fe:a9fe::1", "::/0", "", "metadata" },
	{ "2002:7f00:1::1", "", "", "leads to 127.0.0.1" },
	{ "2002:808:808::1", "", "", NULL },
	{ "2001:0:a9fe:a9fe::1", "", "", "metadata" },                 /* Teredo's server */
	{ "2001:0:808:808:0:0:5601:5601", "::/0", "", "metadata" },    /* its client, inverted */
	{ "2001:0:808:808::f7f7:f7f7", "", "", NULL },
	{ "2001:db8::5efe:169.254.169.254", "", "", "metadata" },      /* ISATAP */
	{ "2001:db8::200:5efe:127.0.0.1", "", "", "loopback" },
	{ "2001:db8::5efe:8.8.8.8", "", "", NULL },
	/* the two lists */
	{ "127.0.0.1", "127.0.0.0/8", "", NULL },
	{ "127.0.0.1", "127.0.0.1", "", NULL },
	{ "127.0.0.2", "127.0.0.1", "", "loopback" },
	{ "127.0.0.1", "::1", "", "loopback" },
	{ "::1", "127.0.0.0/8", "", "loopback" },
	{ "::1", "::1", "", NULL },
	{ "fe80::1", "fe80::/10", "", NULL },
	{ "10.1.2.3", "", "10.0.0.0/8", "10.1.2.3 is refused: egress.deny has 10.0.0.0/8" },
	{ "11.1.2.3", "", "10.0.0.0/8", NULL },
	{ "10.1.2.3", "10.1.2.3", "10.0.0.0/8", "egress.deny" },
	{ "127.0.0.1", "127.0.0.0/8", "127.0.0.1/32", "egress.deny has 127.0.0.1/32" },
	{ "127.0.0.2", "127.0.0.0/8", "127.0.0.1/32", NULL },
	{ "8.8.8.8", "", "0.0.0.0/0", "egress.deny" },
	{ "2606:4700::1", "", "0.0.0.0/0", NULL },
	{ "2606:4700::1", "", "10.0.0.0/8 2606:4700::/32", "egress.deny has 2606:4700::/32" },
	{ "192.168.7.9", "", "192.168.4.0/22", "egress.deny" },
	{ "192.168.8.0", "", "192.168.4.0/22", NULL },
};

START_TEST(checks)
{
	struct egress g;
	struct err e = ERR_INIT;
	int rc;

	ck_assert_int_eq(policy(&g, rows[_i].allow, rows[_i].deny, &e), 0);
	rc = egress_check(&g, address(rows[_i].addr), &e);
	if (rows[_i].refused) {
		ck_assert_msg(rc == -1, "%s was allowed", rows[_i].addr);
		ck_assert_int_eq(e.cls, ERR_POLICY);
		ck_assert_msg(strstr(e.text, rows[_i].refused) != NULL, "%s", e.text);
	} else {
		ck_assert_msg(!rc, "%s", e.text);
	}
	egress_release(&g);
}
END_TEST

START_TEST(role_credentials)
{
	struct egress g;
	struct err e = ERR_INIT;

	ck_assert_int_eq(policy(&g, "", "169.254.170.2", &e), 0);
	g.metadata = true;
	ck_assert_int_eq(egress_check(&g, address("169.254.169.254"), &e), 0);
	ck_assert_int_eq(egress_check(&g, address("fd00:ec2::254"), &e), 0);
	ck_assert_int_eq(egress_check(&g, address("169.254.170.2"), &e), -1);
	ck_assert_int_eq(egress_check(&g, address("169.254.1.1"), &e), -1);
	ck_assert_int_eq(egress_check(&g, address("127.0.0.1"), &e), -1);
	egress_release(&g);
}
END_TEST

START_TEST(other_families)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct egress g;
	struct err e = ERR_INIT;
	char text[EGRESS_TEXT];

	ck_assert_int_eq(policy(&g, "0.0.0.0/0 ::/0", "", &e), 0);
	ck_assert_int_eq(egress_check(&g, (struct sockaddr *)&un, &e), -1);
	ck_assert_int_eq(e.cls, ERR_POLICY);
	ck_assert_int_eq(egress_check(&g, &none, &e), -1);
	egress_addr_text((struct sockaddr *)&un, text);
	ck_assert_str_eq(text, "unix");
	egress_addr_text(&none, text);
	ck_assert_str_eq(text, "?");
	egress_addr_text(address("10.1.2.3"), text);
	ck_assert_str_eq(text, "10.1.2.3");
	egress_addr_text(address("FE80::1"), text);
	ck_assert_str_eq(text, "fe80::1");
	egress_release(&g);
}
END_TEST

START_TEST(bad_lists)
{
	struct egress g;
	struct err e = ERR_INIT;

	ck_assert_int_eq(policy(&g, "10.0.0.0/8 nonsense", "", &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "nonsense"));
	ck_assert_ptr_null(g.allow);
	ck_assert_int_eq(policy(&g, "10.0.0.0/8", "1.2.3.4/5", &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "1.2.3.4/5"));
	ck_assert_ptr_null(g.allow);
}
END_TEST

/* What narrows: the daemon's lists (A), a tenant's (T). */
static const struct {
	bool tenant;
	const char *deny, *only;
	const char *addr;
	const char *refused;         /* a part of the reason; NULL: allowed */
} narrows[] = {
	{ false, "", "10.0.0.0/8", "10.1.2.3", NULL },
	{ false, "", "10.0.0.0/8", "8.8.8.8", "8.8.8.8 is refused: egress.only does not have it" },
	{ false, "", "10.0.0.0/8 2001:db8::/32", "2001:db8::1", NULL },
	{ false, "", "10.0.0.0/8", "2001:db8::1", "egress.only" },
	{ false, "10.9.0.0/16", "10.0.0.0/8", "10.9.1.1", "egress.deny has 10.9.0.0/16" },
	/* mapped is IPv4; of what leads to IPv4 both must be named */
	{ false, "", "10.0.0.0/8", "::ffff:10.1.2.3", NULL },
	{ false, "", "10.0.0.0/8", "::ffff:8.8.8.8", "egress.only" },
	{ false, "", "8.8.8.0/24", "64:ff9b::8.8.8.8", "egress.only" },
	{ false, "", "64:ff9b::/96", "64:ff9b::8.8.8.8", "leads to 8.8.8.8" },
	{ false, "", "64:ff9b::/96 8.8.8.0/24", "64:ff9b::8.8.8.8", NULL },
	/* only does not allow what allow does not */
	{ false, "", "127.0.0.0/8", "127.0.0.1", "a loopback address; egress.allow" },
	{ false, "", "169.254.0.0/16", "169.254.169.254", "metadata" },
	{ false, "", "0.0.0.0/0 ::/0", "169.254.169.254", "metadata" },
	{ true, "", "", "10.1.2.3", NULL },
	{ true, "10.0.0.0/8", "", "10.1.2.3", "10.1.2.3 is refused: the tenant's egress_deny has 10.0.0.0/8" },
	{ true, "", "192.0.2.0/24", "10.1.2.3", "10.1.2.3 is refused: the tenant's egress_only does not have it" },
	{ true, "", "192.0.2.0/24", "192.0.2.9", NULL },
};

START_TEST(narrowing)
{
	struct egress_lists l = { .deny = list(narrows[_i].deny), .only = list(narrows[_i].only) };
	struct egress g;
	struct err e = ERR_INIT;
	int rc;

	ck_assert_int_eq((narrows[_i].tenant ? egress_init_tenant : egress_init)(&g, &l, &e), 0);
	rc = egress_check(&g, address(narrows[_i].addr), &e);
	if (narrows[_i].refused) {
		ck_assert_msg(rc == -1, "%s was allowed", narrows[_i].addr);
		ck_assert_int_eq(e.cls, ERR_POLICY);
		ck_assert_msg(strstr(e.text, narrows[_i].refused) != NULL, "%s", e.text);
	} else {
		ck_assert_msg(!rc, "%s", e.text);
	}
	egress_release(&g);
	egress_lists_release(&l);
}
END_TEST

START_TEST(tenants_only_narrow)
{
	struct egress_lists l = { .allow = list("127.0.0.0/8") };
	struct egress g;
	struct err e = ERR_INIT;

	ck_assert_int_eq(egress_init_tenant(&g, &l, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "can only narrow"));
	egress_release(&g);
	egress_lists_release(&l);
}
END_TEST

static const struct { const char *text; int from, to; } spans[] = {
	{ "443", 443, 443 }, { "1-65535", 1, 65535 }, { "8000-8999", 8000, 8999 }, { "80-80", 80, 80 },
	{ "", -1, 0 }, { "0", -1, 0 }, { "65536", -1, 0 }, { "-1", -1, 0 }, { "+80", -1, 0 }, { "80-", -1, 0 }, { "-80", -1, 0 },
	{ "90-80", -1, 0 }, { "80-90-95", -1, 0 }, { "0x50", -1, 0 }, { " 80", -1, 0 }, { "80 ", -1, 0 }, { "http", -1, 0 },
	{ "1-99999", -1, 0 }, { "00000080", -1, 0 },
};

START_TEST(ports)
{
	struct egress_span s;
	struct err e = ERR_INIT;
	int rc = egress_span_parse(spans[_i].text, &s, &e);

	if (spans[_i].from < 0) {
		ck_assert_msg(rc == -1, "%s was taken", spans[_i].text);
		ck_assert_int_eq(e.cls, ERR_CONFIG);
	} else {
		ck_assert_msg(!rc, "%s", e.text);
		ck_assert_int_eq(s.from, spans[_i].from);
		ck_assert_int_eq(s.to, spans[_i].to);
	}
}
END_TEST

START_TEST(port_and_scheme)
{
	struct egress_lists l = { .ports = list("443 21-22"), .schemes = list("https sftp") }, none = { .ports = list("") };
	struct egress g;
	struct err e = ERR_INIT;

	ck_assert_int_eq(egress_init(&g, &l, &e), 0);
	ck_assert_int_eq(egress_check_port(&g, 443, false, &e), 0);
	ck_assert_int_eq(egress_check_port(&g, 22, false, &e), 0);
	ck_assert_int_eq(egress_check_port(&g, 23, false, &e), -1);
	ck_assert_str_eq(e.text, "port 23 is refused: egress.ports does not have it");
	ck_assert_int_eq(e.cls, ERR_POLICY);
	ck_assert_int_eq(egress_check_port(&g, 6379, false, &e), -1);
	/* of data connections the server names the port */
	ck_assert_int_eq(egress_check_port(&g, 6379, true, &e), 0);
	ck_assert_int_eq(egress_check_port(&g, 1023, true, &e), -1);
	ck_assert_int_eq(egress_check_port(&g, 22, true, &e), 0);
	ck_assert_int_eq(egress_check_scheme(&g, EGRESS_HTTPS, &e), 0);
	ck_assert_int_eq(egress_check_scheme(&g, EGRESS_SFTP, &e), 0);
	ck_assert_int_eq(egress_check_scheme(&g, EGRESS_HTTP, &e), -1);
	ck_assert_str_eq(e.text, "http is refused: egress.schemes does not have it");
	egress_release(&g);
	ck_assert_int_eq(egress_init_tenant(&g, &l, &e), 0);
	ck_assert_int_eq(egress_check_port(&g, 80, false, &e), -1);
	ck_assert_str_eq(e.text, "port 80 is refused: the tenant's egress_ports does not have it");
	ck_assert_int_eq(egress_check_scheme(&g, EGRESS_FTP, &e), -1);
	ck_assert_str_eq(e.text, "ftp is refused: the tenant's egress_schemes does not have it");
	egress_release(&g);
	ck_assert_int_eq(egress_init(&g, &none, &e), 0);
	ck_assert_int_eq(egress_check_port(&g, 1, false, &e), 0);
	for (int i = 0; i < EGRESS__MAX; i++)
		ck_assert_int_eq(egress_check_scheme(&g, (enum egress_scheme)i, &e), 0);
	egress_release(&g);
	strlist_add(&l.schemes, "gopher");
	ck_assert_int_eq(egress_init(&g, &l, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "gopher"));
	egress_lists_release(&l);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("egress");
	TCase *t = tcase_create("egress");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, networks, 0, ARRAY_LEN(nets));
	tcase_add_loop_test(t, checks, 0, ARRAY_LEN(rows));
	tcase_add_test(t, role_credentials);
	tcase_add_test(t, other_families);
	tcase_add_test(t, bad_lists);
	tcase_add_loop_test(t, narrowing, 0, ARRAY_LEN(narrows));
	tcase_add_test(t, tenants_only_narrow);
	tcase_add_loop_test(t, ports, 0, ARRAY_LEN(spans));
	tcase_add_test(t, port_and_scheme);
	suite_add_tcase(s, t);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
