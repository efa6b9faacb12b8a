/*
 * worker_net.c - names to allowed addresses, with a resolver of this file's own: what it answers is the row's.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>

#include "common/source_ftp.h"
#include "t/unit/worker_mini.h"
#include "common/banned.h"

static struct setup setup;
static struct task_spec task;
static struct run run = { .task = &task };
static struct err e = ERR_INIT;

/* What the resolver below does next. */
static struct { const char *addresses; int error, errnum; unsigned calls; int family; char host[300], service[16]; } answer;

static int
real(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	int (*f)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	*(void **)&f = dlsym(RTLD_NEXT, "getaddrinfo");
	ck_assert_ptr_nonnull((void *)*(void **)&f);
	return f(host, service, hints, out);
}

/* In place of the C library's: numbers as it would, names from the row. */
int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = hints->ai_socktype };
	char *copy, *rest, *one;

	answer.calls++;
	answer.family = hints->ai_family;
	snprintf(answer.host, sizeof(answer.host), "%s", host);
	snprintf(answer.service, sizeof(answer.service), "%s", service);
	if (answer.error) {
		errno = answer.errnum;
		return answer.error;
	}
	*out = NULL;
	copy = rest = xstrdup(answer.addresses ? answer.addresses : host);
	while ((one = strsep(&rest, " "))) {
		ck_assert_int_eq(real(one, service, &numeric, out), 0);
		out = &(*out)->ai_next;
	}
	free(copy);
	return 0;
}

static void
before(void)
{
	setup_init(&setup);
	ck_assert_int_eq(net_init(&setup, &e), 0);
	mini_task(&task, SOURCE_SFTP, "");
}

static void
after(void)
{
	setup_release(&setup);
	ck_assert_int_eq(net_init(&setup, &e), 0);
	task_spec_release(&task);
}

/* The addresses that came out, space separated. */
static const char *
text_of(const struct net_target *t)
{
	static char text[1000];
	char one[EGRESS_TEXT];

	*text = '\0';
	for (size_t i = 0; i < t->n; i++) {
		size_t n = strlen(text);

		egress_addr_text((const struct sockaddr *)&t->addr[i].sa, one);
		snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "", one);
	}
	return text;
}

static const struct {
	const char *host;
	const char *addresses;       /* the resolver's answer; NULL: the host is a number */
	const char *want;            /* the addresses; NULL: refused */
	const char *text;            /* a part of the error */
} rows[] = {
	{ "a.test", "10.1.1.1", "10.1.1.1", NULL },
	{ "a.test", "2001:db8::1 10.1.1.1", "2001:db8::1 10.1.1.1", NULL },
	{ "a.test", "127.0.0.1 10.1.1.1 ::1 2001:db8::1 169.254.169.254", "10.1.1.1 2001:db8::1", NULL },
	{ "a.test", "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5 1.1.1.6 1.1.1.7 1.1.1.8 1.1.1.9 1.1.1.10",
		"1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5 1.1.1.6 1.1.1.7 1.1.1.8", NULL },
	{ "a.test", "127.0.0.1 169.254.169.254", NULL, "a.test may not be connected to: 127.0.0.1 is refused: a loopback address; egress.allow" },
	{ "a.test", "169.254.169.254", NULL, "metadata" },
	{ "a.test", "64:ff9b::7f00:1", NULL, "leads to 127.0.0.1" },
	{ "10.1", NULL, "10.0.0.1", NULL },
	{ "127.1", NULL, NULL, "127.0.0.1 is refused" },
	{ "2130706433", NULL, NULL, "127.0.0.1 is refused" },
	{ "0x7f000001", NULL, NULL, "127.0.0.1 is refused" },
	{ "0177.0.0.1", NULL, NULL, "127.0.0.1 is refused" },
	{ "0xa9.0xfe.0xa9.0xfe", NULL, NULL, "169.254.169.254 is refused" },
	{ "0", NULL, NULL, "unspecified" },
	{ "::1", NULL, NULL, "::1 is refused" },
	{ "[::1]", NULL, NULL, "::1 is refused" },
	{ "[2001:db8::1]", NULL, "2001:db8::1", NULL },
	{ "::ffff:169.254.169.254", NULL, NULL, "metadata" },
};

START_TEST(addresses)
{
	struct net_target t;
	int rc;

	answer.addresses = rows[_i].addresses;
	rc = net_resolve(&run, rows[_i].host, 2222, &t, &e);
	ck_assert_str_eq(answer.service, "2222");
	if (rows[_i].want) {
		ck_assert_msg(!rc, "%s", e.text);
		ck_assert_str_eq(text_of(&t), rows[_i].want);
		ck_assert_uint_eq(t.port, 2222);
		ck_assert_ptr_null(strchr(t.host, '['));
		for (size_t i = 0; i < t.n; i++)
			ck_assert_uint_eq(ntohs(((struct sockaddr_in *)&t.addr[i].sa)->sin_port), 2222);
	} else {
		ck_assert_int_eq(rc, -1);
		ck_assert_int_eq(e.cls, ERR_POLICY);
		ck_assert_msg(strstr(e.text, rows[_i].text) != NULL, "%s", e.text);
	}
}
END_TEST

static const struct { int error, errnum; enum err_class cls; const char *text; } failures[] = {
	{ EAI_NONAME, 0, ERR_NOT_FOUND, "resolving a.test: there is no such host" },
	{ EAI_NODATA, 0, ERR_NOT_FOUND, "has no address" },
	{ EAI_ADDRFAMILY, 0, ERR_NOT_FOUND, "has no address" },
	{ EAI_AGAIN, 0, ERR_TRANSIENT, "name servers did not answer" },
	{ EAI_FAIL, 0, ERR_TRANSIENT, "name servers did not answer" },
	{ EAI_SYSTEM, ENETUNREACH, ERR_TRANSIENT, "resolving a.test: Network is unreachable" },
	{ EAI_MEMORY, 0, ERR_SYSTEM, "Memory" },
	{ EAI_SERVICE, 0, ERR_SYSTEM, "resolving a.test" },
};

START_TEST(resolver_fails)
{
	struct net_target t;

	answer.error = failures[_i].error;
	answer.errnum = failures[_i].errnum;
	ck_assert_int_eq(net_resolve(&run, "a.test", 22, &t, &e), -1);
	ck_assert_msg(e.cls == failures[_i].cls, "%s: %s", err_name(e.cls), e.text);
	ck_assert_msg(strstr(e.text, failures[_i].text) != NULL, "%s", e.text);
	ck_assert(task_class_allowed(e.cls));
}
END_TEST

START_TEST(families)
{
	static const int wanted[] = { AF_UNSPEC, AF_INET, AF_INET6 };
	struct net_target t;

	answer.addresses = "10.1.1.1";
	for (int i = 0; i < 3; i++) {
		mini_set(&task, SF_NETWORK_ADDRESS_FAMILY, i);
		ck_assert_int_eq(net_resolve(&run, "a.test", 22, &t, &e), 0);
		ck_assert_int_eq(answer.family, wanted[i]);
	}
	answer.error = EAI_NODATA;
	ck_assert_int_eq(net_resolve(&run, "a.test", 22, &t, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "has no IPv6 address"));
}
END_TEST

static const char *const odd[] = { "", "[]", "a b", "a/b", "a@b", "a,b", "a#b", "a?b", "a\\b", "*", "a\nb", "ex\xc3\xa4mple", "a%lo",
	"[::1", "a]" };

START_TEST(odd_hosts)
{
	struct net_target t;
	char longest[257];

	ck_assert_int_eq(net_resolve(&run, odd[_i], 22, &t, &e), -1);
	ck_assert_int_eq(e.cls, ERR_PERMANENT);
	ck_assert_ptr_null(strchr(e.text, '\n'));
	memset(longest, 'a', 256);
	longest[256] = '\0';
	ck_assert_int_eq(net_resolve(&run, longest, 22, &t, &e), -1);
	ck_assert_uint_eq(answer.calls, 0);
	answer.addresses = "10.1.1.1";
	ck_assert_int_eq(net_resolve(&run, longest + 1, 22, &t, &e), 0);
	ck_assert_uint_eq(answer.calls, 1);
}
END_TEST

START_TEST(policies)
{
	struct net_target t;

	strlist_add(&setup.egress.allow, "127.0.0.0/8");
	strlist_add(&setup.egress.deny, "10.0.0.0/8");
	ck_assert_int_eq(net_init(&setup, &e), 0);
	ck_assert_int_eq(net_resolve(&run, "127.0.0.1", 22, &t, &e), 0);
	ck_assert_int_eq(net_resolve(&run, "10.0.0.1", 22, &t, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "egress.deny has 10.0.0.0/8"));
	ck_assert_int_eq(net_resolve(&run, "169.254.169.254", 80, &t, &e), -1);
	setup.role = ROLE_CREDENTIALS;
	ck_assert_int_eq(net_init(&setup, &e), 0);
	ck_assert_int_eq(net_resolve(&run, "169.254.169.254", 80, &t, &e), -1);
	strlist_add(&setup.egress.allow, "nonsense");
	ck_assert_int_eq(net_init(&setup, &e), -1);
	ck_assert_int_eq(e.cls, ERR_CONFIG);
	/* a policy that is not understood allows nothing that the default does not */
	ck_assert_int_eq(net_resolve(&run, "127.0.0.1", 22, &t, &e), -1);
}
END_TEST

static const struct sockaddr *
where(const char *text, uint16_t port)
{
	static struct sockaddr_in sa;

	sa = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
	ck_assert_int_eq(inet_pton(AF_INET, text, &sa.sin_addr), 1);
	return (const struct sockaddr *)&sa;
}

/* Both the daemon's and the tenant's lists must let it pass, whichever is the wider. */
START_TEST(tenants)
{
	struct net_target t;

	strlist_add(&setup.egress.only, "10.0.0.0/8");
	strlist_add(&setup.egress.ports, "22");
	strlist_add(&setup.egress.ports, "443");
	ck_assert_int_eq(net_init(&setup, &e), 0);
	ck_assert_int_eq(net_resolve(&run, "10.1.0.1", 443, &t, &e), 0);
	strlist_add(&task.egress.only, "10.1.0.0/16");
	strlist_add(&task.egress.only, "192.0.2.0/24");
	strlist_add(&task.egress.ports, "22");
	strlist_add(&task.egress.ports, "80");
	snprintf(task.endpoint, sizeof(task.endpoint), "sftp://10.1.0.1:22");
	ck_assert_int_eq(net_task(&task, &e), 0);
	ck_assert_int_eq(net_resolve(&run, "10.1.0.1", 22, &t, &e), 0);
	ck_assert_int_eq(net_allowed(where("10.1.0.1", 22), false, &e), 0);
	ck_assert_int_eq(net_resolve(&run, "10.1.0.1", 443, &t, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "the tenant's egress_ports"));
	ck_assert_int_eq(e.cls, ERR_POLICY);
	ck_assert_int_eq(net_resolve(&run, "10.1.0.1", 80, &t, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "egress.ports"));
	ck_assert_int_eq(net_allowed(where("10.2.0.1", 22), false, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "the tenant's egress_only"));
	ck_assert_int_eq(net_allowed(where("192.0.2.1", 22), false, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "egress.only"));
	/* FTP's data connections: any port from 1024, of an allowed address */
	ck_assert_int_eq(net_allowed(where("10.1.0.1", 40000), true, &e), 0);
	ck_assert_int_eq(net_allowed(where("10.1.0.1", 80), true, &e), -1);
	ck_assert_int_eq(net_allowed(where("10.2.0.1", 40000), true, &e), -1);
	/* nothing of it is left for the next task */
	egress_lists_release(&task.egress);
	ck_assert_int_eq(net_task(&task, &e), 0);
	ck_assert_int_eq(net_resolve(&run, "10.1.0.1", 443, &t, &e), 0);
	strlist_add(&task.egress.allow, "127.0.0.0/8");
	ck_assert_int_eq(net_task(&task, &e), -1);
}
END_TEST

/* Where an answer leads: the tenant's hosts, compared as the master does. */
START_TEST(elsewhere)
{
	static const struct { const char *host; int want; } led[] = {
		{ "a.example", 0 }, { "A.EXAMPLE.", 0 }, { "b.example", -1 }, { "x.cloud.example", 0 }, { "10.1.2.3", 0 }, { "11.1.2.3", -1 },
		{ "2001:db8::1", 0 }, { "[2001:db8::1]", 0 }, { "2001:db9::1", -1 }, { "", -1 }, { ".", -1 },
	};
	char name[300];

	ck_assert_int_eq(net_init(&setup, &e), 0);
	ck_assert_int_eq(net_task(&task, &e), 0);
	ck_assert_int_eq(net_host("anywhere.example", &e), 0);
	strlist_add(&task.hosts, "a.example");
	strlist_add(&task.hosts, "*.cloud.example");
	strlist_add(&task.hosts, "10.0.0.0/8");
	strlist_add(&task.hosts, "2001:db8::/32");
	ck_assert_int_eq(net_task(&task, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(led); i++) {
		ck_assert_msg(net_host(led[i].host, &e) == led[i].want, "%s", led[i].host);
		if (led[i].want)
			ck_assert_msg(e.cls == ERR_POLICY && strstr(e.text, "the tenant's hosts"), "%s", e.text);
	}
	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(net_host(name, &e), -1);
	strlist_release(&task.hosts);
	ck_assert_int_eq(net_task(&task, &e), 0);
	ck_assert_int_eq(net_host("b.example", &e), 0);
}
END_TEST

static const struct { const char *endpoint; int tls; bool ftp; const char *allowed; int want; } spoken[] = {
	{ "https://a.test:443", 0, false, "https", 0 }, { "http://a.test:80", 0, false, "https", -1 },
	{ "sftp://a.test:22", 0, false, "sftp", 0 }, { "sftp://a.test:22", 0, false, "ftp", -1 },
	{ "ftp://a.test:21", FTP_TLS_NONE, true, "ftp", 0 }, { "ftp://a.test:21", FTP_TLS_NONE, true, "ftps", -1 },
	{ "ftp://a.test:21", FTP_TLS_EXPLICIT, true, "ftps", 0 }, { "ftp://a.test:21", FTP_TLS_EXPLICIT, true, "ftp", -1 },
	{ "ftps://a.test:990", FTP_TLS_IMPLICIT, true, "ftps", 0 }, { "ftps://a.test:990", FTP_TLS_IMPLICIT, true, "ftp", -1 },
};

START_TEST(schemes)
{
	snprintf(task.endpoint, sizeof(task.endpoint), "%s", spoken[_i].endpoint);
	if (spoken[_i].ftp) {
		task.source.type = SOURCE_FTP;
		task.source.v[SF_FTP_TLS_MODE].set = true;
		task.source.v[SF_FTP_TLS_MODE].i = spoken[_i].tls;
	}
	strlist_add(_i % 2 ? &task.egress.schemes : &setup.egress.schemes, spoken[_i].allowed);
	ck_assert_int_eq(net_init(&setup, &e), 0);
	ck_assert_int_eq(net_task(&task, &e), spoken[_i].want);
	if (spoken[_i].want)
		ck_assert_int_eq(e.cls, ERR_POLICY);
}
END_TEST

static int
check_of(const char *address, uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool six = strchr(address, ':');

	ck_assert_int_eq(inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&v6.sin6_addr : &v4.sin_addr), 1);
	return net_allowed(six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, false, &e);
}

/* A worker of the role credentials reaches what was resolved since net_only, and nothing else. */
START_TEST(only_there)
{
	static const struct net_only metadata = { true, true }, sts = { false, false };
	struct net_target t;

	setup.role = ROLE_CREDENTIALS;
	/* where the machine's own credentials are is not for these lists to say */
	strlist_add(&setup.egress.only, "192.0.2.0/24");
	strlist_add(&setup.egress.only, "2001:db8::/32");
	strlist_add(&setup.egress.ports, "443");
	ck_assert_int_eq(net_init(&setup, &e), 0);
	ck_assert_int_eq(check_of("192.0.2.1", 443), -1);
	net_only(&metadata);
	ck_assert_int_eq(check_of("169.254.169.254", 80), -1);
	ck_assert_int_eq(net_resolve(&run, "169.254.169.254", 80, &t, &e), 0);
	ck_assert_int_eq(check_of("169.254.169.254", 80), 0);
	ck_assert_int_eq(check_of("169.254.169.254", 81), -1);
	ck_assert_ptr_nonnull(strstr(e.text, "not where these credentials are asked for"));
	ck_assert_int_eq(check_of("169.254.170.2", 80), -1);
	ck_assert_int_eq(check_of("192.0.2.1", 80), -1);
	ck_assert_int_eq(check_of("127.0.0.1", 80), -1);
	ck_assert_int_eq(net_resolve(&run, "127.0.0.1", 9911, &t, &e), 0);
	ck_assert_int_eq(check_of("127.0.0.1", 9911), 0);
	ck_assert_int_eq(net_resolve(&run, "::1", 9911, &t, &e), 0);
	ck_assert_int_eq(check_of("::1", 9911), 0);
	net_only(&sts);
	ck_assert_int_eq(check_of("169.254.169.254", 80), -1);
	ck_assert_int_eq(check_of("127.0.0.1", 9911), -1);
	ck_assert_int_eq(net_resolve(&run, "169.254.169.254", 80, &t, &e), -1);
	ck_assert_int_eq(net_resolve(&run, "127.0.0.1", 80, &t, &e), -1);
	ck_assert_int_eq(net_resolve(&run, "::ffff:169.254.169.254", 80, &t, &e), -1);
	answer.addresses = "192.0.2.1 2001:db8::1";
	ck_assert_int_eq(net_resolve(&run, "a.test", 443, &t, &e), 0);
	ck_assert_int_eq(check_of("192.0.2.1", 443), 0);
	ck_assert_int_eq(check_of("2001:db8::1", 443), 0);
	ck_assert_int_eq(check_of("192.0.2.2", 443), -1);
	ck_assert_int_eq(net_resolve(&run, "a.test", 80, &t, &e), -1);
	net_only(NULL);
	ck_assert_int_eq(check_of("192.0.2.1", 443), -1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_net");
	TCase *t = tcase_create("net");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_loop_test(t, addresses, 0, (int)ARRAY_LEN(rows));
	tcase_add_loop_test(t, resolver_fails, 0, (int)ARRAY_LEN(failures));
	tcase_add_test(t, only_there);
	tcase_add_test(t, families);
	tcase_add_loop_test(t, odd_hosts, 0, (int)ARRAY_LEN(odd));
	tcase_add_test(t, policies);
	tcase_add_test(t, tenants);
	tcase_add_test(t, elsewhere);
	tcase_add_loop_test(t, schemes, 0, (int)ARRAY_LEN(spoken));
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
