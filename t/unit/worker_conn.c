/*
 * worker_conn.c - conn.c: which task a kept connection may serve, and what the master is told of it. The source is made up
 * here: source_find below stands in for that of table.c.
 */
#include "t/unit/worker_mini.h"
#include "common/field.h"

struct conn { int number; };

static struct task_spec task;
static struct setup setup;
static struct channel ch;
static struct conns *conns;
static int sock, opened, closed;
static bool down;
static struct err e;

static int64_t told(void);
static int64_t told_at_open;

static struct conn *
fake_open(struct run *r, struct err *why)
{
	struct conn *c;

	(void)r;
	told_at_open = told();
	if (down) {
		err_set(why, ERR_TRANSIENT, "nobody there");
		return NULL;
	}
	c = xcalloc(1, sizeof(*c));
	c->number = ++opened;
	return c;
}

static bool fake_keepable(struct conn *c) { return c->number > 0; }
static unsigned fake_connections(const struct conn *c) { return c->number ? 2 : 0; }

static void
fake_close(struct conn *c)
{
	closed++;
	free(c);
}

static const struct source fake = {
	.name = "fake", .open = fake_open, .keepable = fake_keepable, .close = fake_close, .connections = fake_connections,
};

const struct source *
source_find(enum source_type type)
{
	(void)type;
	return &fake;
}

static void
before(void)
{
	int s[2];

	err_clear(&e);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	sock = s[0];
	channel_init(&ch, s[1], 1);
	setup_init(&setup);
	mini_task(&task, SOURCE_FTP, "/");
	mini_set(&task, SF_NETWORK_KEEPALIVE, 1);
	mini_str(&task, SF_FTP_USERNAME, "u");
	mini_str(&task, SF_FTP_PASSWORD, "p");
	snprintf(task.tenant, sizeof(task.tenant), "t");
	snprintf(task.endpoint, sizeof(task.endpoint), "ftp://a:21");
	conns = conns_new(&ch, 60000);
	opened = closed = 0;
	down = false;
}

static void
after(void)
{
	conns_free(conns);
	ck_assert_int_eq(opened, closed);
	channel_release(&ch);
	close(ch.fd);
	close(sock);
	task_spec_release(&task);
	setup_release(&setup);
}

/* One task: the number of its connection; 0: none was had. */
static int
serve(bool failed)
{
	struct run r = { .setup = &setup, .task = &task, .ch = &ch };
	bool reused;
	struct conn *c = conns_open(conns, &r, &reused, &e);
	int n = c ? c->number : 0;

	if (c)
		conns_put(conns, &r, c, failed);
	return n;
}

/* What the master was told last; -1 nothing new. */
static int64_t
told(void)
{
	static uint8_t buf[IPC_FRAME_MAX + 1];
	struct frame f;
	struct cursor c;
	int64_t n = -1;

	while (ipc_recv(sock, MSG_DONTWAIT, buf, &f, &e) == 1) {
		ck_assert_int_eq(f.type, MSG_KEPT);
		cursor_init(&c, f.payload, f.n);
		n = cursor_u32(&c);
	}
	return n;
}

static void other_nothing(void) { }
static void other_tenant(void) { snprintf(task.tenant, sizeof(task.tenant), "t2"); }
static void other_endpoint(void) { snprintf(task.endpoint, sizeof(task.endpoint), "ftp://b:21"); }
static void other_user(void) { mini_str(&task, SF_FTP_USERNAME, "v"); }
static void other_password(void) { mini_str(&task, SF_FTP_PASSWORD, "q"); }
static void no_password(void) { field_value_release(&task.source.v[SF_FTP_PASSWORD]); }
static void other_tls(void) { mini_set(&task, SF_FTP_TLS_MODE, 1); }
static void other_ca(void) { mini_str(&task, SF_NETWORK_TLS_CA_PEM, "x"); }
static void other_proxy(void) { mini_str(&task, SF_NETWORK_PROXY_URL, "http://p:1"); }
static void other_path(void) { mini_str(&task, SF_COMMON_PATH, "/elsewhere"); }

static void
moved_text(void)
{
	/* the same letters, otherwise divided */
	mini_str(&task, SF_FTP_USERNAME, "up");
	no_password();
}

static const struct { void (*change)(void); bool again; } changes[] = {
	{ other_nothing, true }, { other_path, true }, { other_tenant, false }, { other_endpoint, false }, { other_user, false },
	{ other_password, false }, { no_password, false }, { other_tls, false }, { other_ca, false }, { other_proxy, false },
	{ moved_text, false },
};

START_TEST(whom_it_serves)
{
	ck_assert_int_eq(serve(false), 1);
	ck_assert_int_eq(told(), 2);
	ck_assert_uint_gt(conns_fds(conns), 0);
	changes[_i].change();
	ck_assert_int_eq(serve(false), changes[_i].again ? 1 : 2);
	ck_assert_int_eq(closed, changes[_i].again ? 0 : 1);
}
END_TEST

START_TEST(after_a_failure)
{
	ck_assert_int_eq(serve(true), 1);
	ck_assert_int_eq(closed, 1);
	ck_assert_int_eq(told(), -1);
	ck_assert_uint_eq(conns_fds(conns), 0);
	ck_assert_int_eq(serve(false), 2);
	mini_set(&task, SF_NETWORK_KEEPALIVE, 0);
	ck_assert_int_eq(serve(false), 2);
	ck_assert_int_eq(closed, 2);
	ck_assert_int_eq(told(), 0);
}
END_TEST

/* The kept one made room for one that could not be opened: there is none now, and the master knows. */
START_TEST(none_is_left)
{
	ck_assert_int_eq(serve(false), 1);
	ck_assert_int_eq(told(), 2);
	other_tenant();
	down = true;
	ck_assert_int_eq(serve(false), 0);
	ck_assert_int_eq(closed, 1);
	ck_assert_int_eq(told_at_open, 0);
}
END_TEST

/* What the master grants: a kept one with more than that is closed, and the master knows before the next one is opened. */
START_TEST(more_than_it_may_have)
{
	ck_assert_int_eq(serve(false), 1);
	ck_assert_int_eq(told(), 2);
	task.connections = 2;
	ck_assert_int_eq(serve(false), 1);
	ck_assert_int_eq(told(), -1);
	task.connections = 1;
	ck_assert_int_eq(serve(false), 2);
	ck_assert_int_eq(closed, 2);    /* nor is one kept that has more */
	ck_assert_int_eq(told_at_open, 0);
	ck_assert_int_eq(told(), -1);
}
END_TEST

/* It comes while the worker waits, or before. */
START_TEST(asked_to_drop)
{
	struct buf b = BUF_INIT;
	struct frame f;

	ck_assert_int_eq(serve(false), 1);
	ck_assert_int_eq(told(), 2);
	if (_i == 0) {
		ipc_begin(&b, MSG_DROP, 1, 0);
		ipc_finish(&b);
		ck_assert_int_eq(ipc_send(sock, &b), 1);
	} else {
		ch.drop = true;
	}
	ipc_begin(&b, MSG_STOP, 1, 0);
	ipc_finish(&b);
	ck_assert_int_eq(ipc_send(sock, &b), 1);
	ck_assert_int_eq(conns_wait(conns, &f, &e), 1);
	ck_assert_int_eq(f.type, MSG_STOP);
	ck_assert_int_eq(closed, 1);
	ck_assert_int_eq(told(), 0);
	ck_assert_int_eq(serve(false), 2);
	buf_release(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker_conn");
	TCase *t = tcase_create("conn");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, before, after);
	tcase_add_loop_test(t, whom_it_serves, 0, (int)ARRAY_LEN(changes));
	tcase_add_test(t, after_a_failure);
	tcase_add_test(t, none_is_left);
	tcase_add_test(t, more_than_it_may_have);
	tcase_add_loop_test(t, asked_to_drop, 0, 2);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
