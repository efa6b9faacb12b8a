/*
 * worker_mini.h - what the worker's units share: a listing run in the test's own process into a memory spool, and
 * the records that came out of it, sorted by path.
 */
#ifndef T_UNIT_WORKER_MINI_H
#define T_UNIT_WORKER_MINI_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/source_ftp.h"
#include "common/units.h"
#include "common/xalloc.h"

struct seen {
	char *path, *rel, *target;
	size_t path_n;
	int64_t size, mtime_ns;
	bool is_symlink;
	enum file_kind kind;
	char *checksum;                 /* "md5 local 0123..", or NULL */
	char *attr[SA__MAX];            /* text of each attribute, or NULL */
};

struct listing {
	struct seen *v;
	size_t n;
	struct task_done done;
};

static inline int
seen_cmp(const void *a, const void *b)
{
	return strcmp(((const struct seen *)a)->path, ((const struct seen *)b)->path);
}

static inline void
take_record(struct listing *l, const struct record *r)
{
	struct seen *s;

	/* doubled where n is a power of two */
	if (!(l->n & (l->n - 1)))
		l->v = xreallocarray(l->v, l->n ? 2 * l->n : 1, sizeof(*l->v));
	s = &l->v[l->n++];
	memset(s, 0, sizeof(*s));
	s->path = xmemdup0(r->path, r->path_n);
	s->path_n = r->path_n;
	s->rel = s->path + r->rel_off;
	s->target = r->link_target ? xmemdup0(r->link_target, r->link_target_n) : NULL;
	s->size = r->size;
	s->mtime_ns = r->mtime_ns;
	s->is_symlink = r->is_symlink;
	s->kind = r->kind;
	if (r->checksum)
		s->checksum = xasprintf("%s %s %.*s", r->checksum_algorithm, r->checksum_origin, (int)r->checksum_n, r->checksum);
	for (size_t i = 0; i < r->n_attrs; i++)
		s->attr[r->attrs[i].id] = r->attrs[i].is_int ? xasprintf("%lld", (long long)r->attrs[i].i) :
		    xmemdup0(r->attrs[i].s, r->attrs[i].n);
}

/* Every record of a FILES payload; fails the test when one is wrong. */
static inline void
take_files(struct listing *l, const struct frame *f, enum source_type type)
{
	struct err e = ERR_INIT;
	struct record r;
	struct cursor c;
	uint32_t count;

	cursor_init(&c, f->payload, f->n);
	count = cursor_u32(&c);
	ck_assert_uint_gt(count, 0);
	for (uint32_t i = 0; i < count; i++) {
		ck_assert_msg(record_decode(&r, &c, type, &e) == 0, "%s", e.text);
		take_record(l, &r);
	}
	ck_assert(cursor_end(&c));
}

static inline void
take_spool(struct listing *l, int fd, enum source_type type, uint32_t generation, uint64_t task)
{
	struct err e = ERR_INIT;
	struct stat st;
	struct frame f;
	size_t at = 0, used;
	char *p;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, l->done.spool_bytes);
	if (!st.st_size)
		return;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ck_assert(p != MAP_FAILED);
	for (; at < (size_t)st.st_size; at += used) {
		ck_assert_int_eq(ipc_parse((const uint8_t *)p + at, (size_t)st.st_size - at, &f, &used, &e), 1);
		ck_assert_int_eq(f.type, MSG_FILES);
		ck_assert_uint_eq(f.generation, generation);
		ck_assert_uint_eq(f.task, task);
		take_files(l, &f, type);
	}
	munmap(p, (size_t)st.st_size);
}

static inline void
listing_release(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].path);
		free(l->v[i].target);
		free(l->v[i].checksum);
		for (int a = 0; a < SA__MAX; a++)
			free(l->v[i].attr[a]);
	}
	free(l->v);
	memset(l, 0, sizeof(*l));
}

static inline struct seen *
find_rel(struct listing *l, const char *rel)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i].rel, rel))
			return &l->v[i];
	return NULL;
}

static inline struct seen *
must_find(struct listing *l, const char *rel)
{
	static struct seen none;
	struct seen *s = find_rel(l, rel);

	ck_assert_msg(s != NULL, "%s was not reported", rel);
	return s ? s : &none;
}

/* A local task over root with everything at its default. */
static inline void
mini_task(struct task_spec *t, enum source_type type, const char *root)
{
	task_spec_init(t);
	t->source.type = type;
	t->attempt = 1;
	t->deadline_ms = 60000;
	t->connections = type == SOURCE_FTP ? FTP_CONNECTIONS_FAR : CONNECTIONS_DEFAULT;
	t->now_ns = INT64_C(1800000000000000000);
	t->publish = PUBLISH_ATOMIC;
	snprintf(t->root, sizeof(t->root), "%s", root);
	snprintf(t->below, sizeof(t->below), ".");
	strlist_add(&t->filter.patterns, "*");
	t->source.v[SF_LOCAL_ONE_FILE_SYSTEM].i = type == SOURCE_LOCAL;
}

static inline void
mini_set(struct task_spec *t, enum source_field f, int64_t i)
{
	t->source.v[f].set = true;
	t->source.v[f].i = i;
}

static inline void
mini_str(struct task_spec *t, enum source_field f, const char *s)
{
	free(t->source.v[f].s);
	t->source.v[f].set = true;
	t->source.v[f].s = xstrdup(s);
}

/* Lists in this process. The task is sent as bytes, as the master does. */
static inline void
mini_list_with(const struct task_spec *t, const struct setup *setup, struct listing *l)
{
	static struct channel ch;
	static struct conns *conns;     /* kept from listing to listing, as in a worker */
	static uint8_t in[IPC_FRAME_MAX + 1];
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;
	struct frame f;
	struct emit m;
	enum err_class cls;
	int s[2], spool = memfd_create("spool", 0), r;

	memset(l, 0, sizeof(*l));
	ck_assert_int_ge(spool, 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	channel_init(&ch, s[1], 9);
	if (!conns)
		conns = conns_new(&ch, setup->keep_ms);
	emit_init(&m, &ch, spool);
	task_spec_encode(t, &b);
	f = (struct frame){ .type = MSG_JOB, .generation = 9, .task = 5, .payload = (uint8_t *)b.p, .n = b.len };
	ck_assert_msg(run_task(&ch, &m, conns, setup, &f, &cls, &e) == 0, "%s", e.text);
	while ((r = ipc_recv(s[0], MSG_DONTWAIT, in, &f, &e)) == 1 && f.type != MSG_DONE)
		ck_assert(f.type == MSG_PROGRESS || f.type == MSG_LOG || f.type == MSG_KEPT);
	ck_assert_int_eq(r, 1);
	ck_assert_uint_eq(f.task, 5);
	ck_assert_msg(task_done_decode(&l->done, f.payload, f.n, &e) == 0, "%s", e.text);
	ck_assert_int_eq(l->done.cls, cls);
	take_spool(l, spool, t->source.type, 9, 5);
	ck_assert_uint_eq(l->n, l->done.cls == ERR_OK ? l->done.matched : 0);
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), seen_cmp);
	emit_release(&m);
	channel_release(&ch);
	buf_release(&b);
	close(s[0]);
	close(s[1]);
	close(spool);
}

static inline void
mini_list(const struct task_spec *t, struct listing *l)
{
	struct setup s;

	setup_init(&s);
	s.open_files = 64;
	s.memory_max = 1 << 28;
	s.allow_faults = true;
	if (t->root[0])
		strlist_add(&s.roots, t->root);
	mini_list_with(t, &s, l);
	setup_release(&s);
}

#endif
