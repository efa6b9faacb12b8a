/*
 * worker_connector_policy.c - what the connector lets a worker ask for, by the master's GRANT alone.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "t/unit/worker_mini.h"
#include "worker/connector.h"
#include "common/banned.h"

static struct peer peer;
static struct err e;

static void
grant(const struct broker_grant *g)
{
	ck_assert_int_eq(peer_grant(&peer, g, &e), 0);
}

/* Files at files.test, and wherever its redirects lead. */
static struct broker_grant
redirects(void)
{
	struct broker_grant g = { .on = true, .org_id = "acme", .any_host = true, .n = 1, .host = { { "files.test", 443, false } } };

	strlist_add(&g.daemon.ports, "443");
	return g;
}

static enum broker_outcome
resolve(const char *host, uint16_t port)
{
	struct broker_ask q = { .op = BROKER_RESOLVE, .port = port };

	snprintf(q.host, sizeof(q.host), "%s", host);
	return peer_may_resolve(&peer, &q, &e);
}

START_TEST(nothing_without_a_grant)
{
	struct broker_grant g = redirects(), none = { .on = false };

	ck_assert_int_eq(resolve("files.test", 443), BROKER_NO_TASK);
	grant(&g);
	ck_assert_int_eq(resolve("files.test", 443), BROKER_OK);
	grant(&none);
	ck_assert_int_eq(resolve("files.test", 443), BROKER_NO_TASK);
	broker_grant_release(&g);
}
END_TEST

START_TEST(places)
{
	struct broker_grant g = redirects();

	g.any_host = false;
	snprintf(g.suffix, sizeof(g.suffix), ".amazonaws.com");
	grant(&g);
	ck_assert_int_eq(resolve("FILES.test", 443), BROKER_OK);
	ck_assert_int_eq(resolve("files.test", 8443), BROKER_PLACE);
	ck_assert_int_eq(resolve("other.test", 443), BROKER_PLACE);
	ck_assert_int_eq(resolve("s3.eu-west-1.amazonaws.com", 443), BROKER_OK);
	ck_assert_int_eq(resolve("amazonaws.com", 443), BROKER_PLACE);
	ck_assert_int_eq(resolve("s3.amazonaws.com.other.test", 443), BROKER_PLACE);
	broker_grant_release(&g);
}
END_TEST

/* A worker that was taken over asks where a redirect would lead: its tenant's hosts hold for it all the same. */
START_TEST(tenants_hosts)
{
	struct broker_grant g = redirects();

	grant(&g);
	ck_assert_int_eq(resolve("other.test", 443), BROKER_OK);
	ck_assert_int_eq(resolve("other.test", 22), BROKER_PORT);
	strlist_add(&g.hosts, "*.acme.test");
	strlist_add(&g.hosts, "192.0.2.0/24");
	grant(&g);
	ck_assert_int_eq(resolve("cdn.acme.test", 443), BROKER_OK);
	ck_assert_int_eq(resolve("cdn.acme.test.", 443), BROKER_OK);
	ck_assert_int_eq(resolve("192.0.2.7", 443), BROKER_OK);
	ck_assert_int_eq(resolve("other.test", 443), BROKER_PLACE);
	ck_assert_ptr_nonnull(strstr(e.text, "other.test is refused: the tenant's hosts"));
	ck_assert_int_eq(resolve("acme.test", 443), BROKER_PLACE);
	ck_assert_int_eq(resolve("[2001:db8::1]", 443), BROKER_PLACE);
	/* what the job names was held to them by the master */
	ck_assert_int_eq(resolve("files.test", 443), BROKER_OK);
	broker_grant_release(&g);
}
END_TEST

/* Only what a name of this grant came to, at that name's port. */
START_TEST(addresses)
{
	struct broker_grant g = redirects();
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(443) };
	struct broker_ask q = { .op = BROKER_CONNECT, .port = 443 };
	struct broker_addr a;

	strlist_add(&g.tenant.deny, "198.51.100.0/24");
	grant(&g);
	inet_pton(AF_INET, "192.0.2.1", &sa.sin_addr);
	broker_addr_from(&a, (const struct sockaddr *)&sa);
	ck_assert_int_eq(peer_may_connect(&peer, &q, &a, &e), BROKER_PLACE);
	peer.ask = (struct broker_ask){ .op = BROKER_RESOLVE, .port = 443, .host = "files.test" };
	ck_assert_int_eq(peer_learn(&peer, (const struct sockaddr *)&sa, &a, &e), 0);
	ck_assert_int_eq(peer_may_connect(&peer, &q, &a, &e), BROKER_OK);
	q.port = 22;
	ck_assert_int_eq(peer_may_connect(&peer, &q, &a, &e), BROKER_PLACE);
	q.data = true;  /* it is no task of FTP */
	ck_assert_int_eq(peer_may_connect(&peer, &q, &a, &e), BROKER_PLACE);
	inet_pton(AF_INET, "198.51.100.1", &sa.sin_addr);
	ck_assert_int_eq(peer_learn(&peer, (const struct sockaddr *)&sa, &a, &e), -1);
	/* not under the next grant */
	inet_pton(AF_INET, "192.0.2.1", &sa.sin_addr);
	broker_addr_from(&a, (const struct sockaddr *)&sa);
	q = (struct broker_ask){ .op = BROKER_CONNECT, .port = 443 };
	grant(&g);
	ck_assert_int_eq(peer_may_connect(&peer, &q, &a, &e), BROKER_PLACE);
	broker_grant_release(&g);
}
END_TEST

static void
end(void)
{
	peer_ungrant(&peer);
}

int
main(void)
{
	Suite *s = suite_create("worker_connector_policy");
	TCase *t = tcase_create("policy");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, nothing_without_a_grant);
	tcase_add_test(t, places);
	tcase_add_test(t, tenants_hosts);
	tcase_add_test(t, addresses);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
