/*
 * common_broker.c - asks, answers and grants of the egress broker: there and back, cut and changed; descriptors in messages.
 */
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/broker.h"
#include "common/xalloc.h"
#include "common/banned.h"

static struct err e = ERR_INIT;

static struct broker_ask
an_ask(void)
{
	struct broker_ask a = { .op = BROKER_CONNECT, .seq = 7, .port = 443, .timeout_ms = 3000, .data = true, .n = 2 };

	a.addr[0].b[0] = 10;
	a.addr[1].v6 = true;
	a.addr[1].b[15] = 1;
	return a;
}

static struct broker_ask
a_question(void)
{
	struct broker_ask a = { .op = BROKER_RESOLVE, .seq = 8, .port = 22, .family = AF_INET6, .host = "a.test" };

	return a;
}

static struct broker_grant
a_grant(void)
{
	struct broker_grant g = { .slot = 3, .on = true, .org_id = "acme", .ftp = true, .n = 2, .suffix = ".example.org",
		.host = { { "a.test", 21, true }, { "::1", 1080, false } } };

	strlist_add(&g.daemon.deny, "10.0.0.0/8");
	strlist_add(&g.tenant.only, "192.0.2.0/24");
	strlist_add(&g.hosts, "*.a.test");
	strlist_add(&g.hosts, "10.0.0.0/8");
	return g;
}

START_TEST(asks)
{
	struct broker_ask a = an_ask(), q = a_question(), got;
	struct buf b = BUF_INIT;

	broker_ask_encode(&a, &b);
	ck_assert_int_eq(broker_ask_decode(&got, b.p, b.len, &e), 0);
	ck_assert_mem_eq(&got, &a, sizeof(a));
	broker_ask_encode(&q, &b);
	ck_assert_int_eq(broker_ask_decode(&got, b.p, b.len, &e), 0);
	ck_assert_mem_eq(&got, &q, sizeof(q));
	buf_release(&b);
}
END_TEST

static struct broker_tally
a_tally(void)
{
	struct broker_tally t;

	memset(&t, 0, sizeof(t));
	t.op[0].in_flight = 3;
	t.op[0].outcome[BROKER_OK] = 2;
	t.op[0].outcome[BROKER_NOT_FOUND] = 1;
	t.op[0].outcome[BROKER_PLACE] = 7;
	t.op[0].took[0] = 2;
	t.op[0].took[BROKER_N_BOUNDS] = 1;
	t.op[0].us = UINT64_C(1) << 40;
	t.op[1].outcome[BROKER_GIVEN_UP] = UINT32_MAX;
	return t;
}

START_TEST(tallies)
{
	struct broker_tally t = a_tally(), got;
	struct buf b = BUF_INIT;

	broker_tally_encode(&t, &b);
	ck_assert_int_eq(broker_tally_decode(&got, b.p, b.len, &e), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_uint_eq(got.op[i].in_flight, t.op[i].in_flight);
		ck_assert_mem_eq(got.op[i].outcome, t.op[i].outcome, sizeof(t.op[i].outcome));
		ck_assert_mem_eq(got.op[i].took, t.op[i].took, sizeof(t.op[i].took));
		ck_assert_uint_eq(got.op[i].us, t.op[i].us);
	}
	/* it fits its frame */
	ck_assert_uint_le(b.len, 512);
	/* a time of nothing, and work that took none */
	t.op[1].took[3] = 1;
	buf_clear(&b);
	broker_tally_encode(&t, &b);
	ck_assert_int_eq(broker_tally_decode(&got, b.p, b.len, &e), -1);
	t = a_tally();
	t.op[1].outcome[BROKER_FAILED] = 1;
	buf_clear(&b);
	broker_tally_encode(&t, &b);
	ck_assert_int_eq(broker_tally_decode(&got, b.p, b.len, &e), -1);
	buf_release(&b);
}
END_TEST

/* What a worker must not ask. */
static void no_op(struct broker_ask *a) { a->op = (enum broker_op)3; }
static void no_port(struct broker_ask *a) { a->port = 0; }
static void no_address(struct broker_ask *a) { a->n = 0; }
static void host_and_addresses(struct broker_ask *a) { a->host[0] = 'x'; }
static void too_patient(struct broker_ask *a) { a->timeout_ms = BROKER_TIMEOUT_MAX + 1; }
static void name_without_host(struct broker_ask *a) { *a = a_question(); a->host[0] = '\0'; }
static void name_with_addresses(struct broker_ask *a) { *a = a_question(); a->n = 1; }

static void (*const bad_asks[])(struct broker_ask *) = {
	no_op, no_port, no_address, host_and_addresses, too_patient, name_without_host, name_with_addresses,
};

START_TEST(refused_asks)
{
	struct broker_ask a = an_ask(), got;
	struct buf b = BUF_INIT;

	bad_asks[_i](&a);
	broker_ask_encode(&a, &b);
	ck_assert_int_eq(broker_ask_decode(&got, b.p, b.len, &e), -1);
	ck_assert_int_eq(e.cls, ERR_WORKER_PROTOCOL);
	buf_release(&b);
}
END_TEST

/* Cut anywhere, or with a byte to spare, none is right. */
START_TEST(cut)
{
	struct broker_ask a = an_ask(), got_ask;
	struct broker_answer r = { .seq = 1, .cls = ERR_POLICY, .text = "no", .n = 1 }, got_answer;
	struct broker_grant g = a_grant(), got;
	struct broker_tally t = a_tally(), got_tally;
	struct buf b[4] = { BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT };

	broker_ask_encode(&a, &b[0]);
	broker_answer_encode(&r, &b[1]);
	broker_grant_encode(&g, &b[2]);
	broker_tally_encode(&t, &b[3]);
	for (int i = 0; i < 4; i++) {
		size_t n = b[i].len;

		buf_putc(&b[i], '\0');
		for (size_t len = 0; len <= n + 1; len++) {
			int rc = i == 0 ? broker_ask_decode(&got_ask, b[i].p, len, &e) : i == 1 ?
			    broker_answer_decode(&got_answer, b[i].p, len, &e) : i == 2 ? broker_grant_decode(&got, b[i].p, len, &e) :
			    broker_tally_decode(&got_tally, b[i].p, len, &e);

			ck_assert_int_eq(rc, len == n ? 0 : -1);
			if (i == 2 && !rc)
				broker_grant_release(&got);
		}
		buf_release(&b[i]);
	}
	broker_grant_release(&g);
}
END_TEST

START_TEST(answers_and_grants)
{
	struct broker_answer r = { .seq = 9, .cls = ERR_TIMEOUT, .error = 110, .text = "late", .n = 1 }, got;
	struct broker_grant g = a_grant(), back;
	struct buf b = BUF_INIT;

	r.addr[0].b[3] = 4;
	broker_answer_encode(&r, &b);
	ck_assert_int_eq(broker_answer_decode(&got, b.p, b.len, &e), 0);
	ck_assert_mem_eq(&got, &r, sizeof(r));
	/* a class that the connector has no business with */
	r.cls = ERR_WORKER_CRASH;
	broker_answer_encode(&r, &b);
	ck_assert_int_eq(broker_answer_decode(&got, b.p, b.len, &e), -1);
	buf_clear(&b);
	broker_grant_encode(&g, &b);
	ck_assert_int_eq(broker_grant_decode(&back, b.p, b.len, &e), 0);
	ck_assert_uint_eq(back.slot, 3);
	ck_assert(back.on && back.ftp && !back.any_host && back.host[0].own && !back.host[1].own);
	ck_assert_str_eq(back.org_id, "acme");
	ck_assert_uint_eq(back.n, 2);
	ck_assert_str_eq(back.host[1].name, "::1");
	ck_assert_uint_eq(back.host[1].port, 1080);
	ck_assert_str_eq(back.suffix, ".example.org");
	ck_assert_str_eq(back.daemon.deny.v[0], "10.0.0.0/8");
	ck_assert_str_eq(back.tenant.only.v[0], "192.0.2.0/24");
	ck_assert_uint_eq(back.hosts.n, 2);
	ck_assert_str_eq(back.hosts.v[1], "10.0.0.0/8");
	broker_grant_release(&back);
	broker_grant_release(&g);
	buf_release(&b);
}
END_TEST

START_TEST(addresses)
{
	static const struct { int family; const char *text; } rows[] = { { AF_INET, "192.0.2.7" }, { AF_INET6, "2001:db8::9" } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sockaddr_storage sa, back;
		struct broker_addr a;

		memset(&sa, 0, sizeof(sa));
		sa.ss_family = (sa_family_t)rows[i].family;
		((struct sockaddr_in *)&sa)->sin_port = htons(81);
		inet_pton(rows[i].family, rows[i].text, i ? (void *)&((struct sockaddr_in6 *)&sa)->sin6_addr : &((struct sockaddr_in *)&sa)->sin_addr);
		broker_addr_from(&a, (struct sockaddr *)&sa);
		ck_assert_uint_eq(broker_addr_to(&a, 81, &back), i ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
		ck_assert_mem_eq(&sa, &back, sizeof(sa));
	}
}
END_TEST

START_TEST(descriptors)
{
	struct buf b = BUF_INIT;
	char in[16];
	int sv[2], fd;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	buf_puts(&b, "hello");
	ck_assert_int_eq(broker_recv(sv[1], in, sizeof(in), &fd), 0);
	/* none, one, and one where none may be */
	ck_assert_int_eq(broker_send(sv[0], &b, -1), 1);
	ck_assert_int_eq(broker_recv(sv[1], in, sizeof(in), &fd), 5);
	ck_assert_int_eq(fd, -1);
	ck_assert_int_eq(broker_send(sv[0], &b, STDERR_FILENO), 1);
	ck_assert_int_eq(broker_recv(sv[1], in, sizeof(in), &fd), 5);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	ck_assert_int_eq(broker_send(sv[0], &b, STDERR_FILENO), 1);
	ck_assert_int_eq(broker_recv(sv[1], in, sizeof(in), NULL), -2);
	/* too long for the reader; then the end */
	buf_puts(&b, "hello, hello, hello");
	ck_assert_int_eq(broker_send(sv[0], &b, STDERR_FILENO), 1);
	fd = -1;
	ck_assert_int_eq(broker_recv(sv[1], in, sizeof(in), &fd), -2);
	ck_assert(fd < 0 || fcntl(fd, F_GETFD) < 0);
	close(sv[0]);
	ck_assert_int_eq(broker_recv(sv[1], in, sizeof(in), &fd), -1);
	close(sv[1]);
	buf_release(&b);
}
END_TEST

/* Two descriptors in one message: refused, and neither stays open. */
START_TEST(several_descriptors)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(2 * sizeof(int))]; } c;
	struct iovec iov = { .iov_base = (char[]){ "x" }, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c.room) };
	int two[2] = { 0, 1 }, sv[2], fd, next;
	char in[16];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	next = dup(0);
	close(next);
	memset(&c, 0, sizeof(c));
	c.h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(two)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&c.h), two, sizeof(two));
	ck_assert_int_eq(sendmsg(sv[0], &m, 0), 1);
	ck_assert_int_eq(broker_recv(sv[1], in, sizeof(in), &fd), -2);
	fd = dup(0);
	ck_assert_int_eq(fd, next);
	close(fd);
	close(sv[0]);
	close(sv[1]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("broker");
	TCase *t = tcase_create("broker");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, asks);
	tcase_add_loop_test(t, refused_asks, 0, ARRAY_LEN(bad_asks));
	tcase_add_test(t, tallies);
	tcase_add_test(t, cut);
	tcase_add_test(t, answers_and_grants);
	tcase_add_test(t, addresses);
	tcase_add_test(t, descriptors);
	tcase_add_test(t, several_descriptors);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
