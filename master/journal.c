/*
 * journal.c - remembers across the master's own deaths which job it had in hand (DESIGN.md rule 11).
 *
 * A mapped file of one page: the job in hand now, and a few counts of deaths. Stores to a shared mapping survive the
 * process, however it dies, and cost no system call, so every message and frame can be noted. jobs.c dead-letters a
 * job that was in hand at two deaths. A file that is not ours or is damaged starts empty: it can only forget.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/uuid.h"
#include "common/xalloc.h"
#include "master/defer.h"
#include "master/master.h"
#include "common/banned.h"

#define JOURNAL_MAGIC 0x4a50534949303033ULL
#define JOURNAL_ROWS 64

struct row { uint64_t topic; int64_t offset; int32_t partition; uint32_t deaths; }; /* topic: its name hashed; 0: topics.polling_queue */

struct page {
	uint64_t magic;
	char identity[65];               /* SHA-256 of topic and group */
	struct row hand;                 /* deaths 1: something is in hand */
	struct row rows[JOURNAL_ROWS];   /* deaths 0: free */
	uint32_t next;                   /* the row that is overwritten when all are in use */
};

struct journal { struct page *page; int fd; };

static struct row *
find(struct page *p, uint64_t topic, int32_t partition, int64_t offset)
{
	for (size_t i = 0; i < JOURNAL_ROWS; i++)
		if (p->rows[i].deaths && p->rows[i].topic == topic && p->rows[i].partition == partition && p->rows[i].offset == offset)
			return &p->rows[i];
	return NULL;
}

static uint64_t
topic_of(const struct origin *o)
{
	return o->topic ? defer_hash(o->topic, strlen(o->topic)) : 0;
}

static struct row *
free_row(struct page *p)
{
	for (size_t i = 0; i < JOURNAL_ROWS; i++)
		if (!p->rows[i].deaths)
			return &p->rows[i];
	return &p->rows[p->next++ % JOURNAL_ROWS];
}

/* The last process died with something in hand: one death more for it. */
static void
count_death(struct page *p)
{
	struct row *r;

	if (!p->hand.deaths)
		return;
	r = find(p, p->hand.topic, p->hand.partition, p->hand.offset);
	if (!r) {
		r = free_row(p);
		*r = (struct row){ .topic = p->hand.topic, .partition = p->hand.partition, .offset = p->hand.offset };
	}
	r->deaths++;
	LOG(LOG_WARN, "journal_death", LI("partition", r->partition), LI("offset", r->offset), LI("deaths", r->deaths));
	p->hand.deaths = 0;
}

struct journal *
journal_open(const char *dir, const char *identity, struct err *e)
{
	char *path = xasprintf("%s/journal", dir);
	struct journal *j = NULL;
	struct page *p = MAP_FAILED;
	struct stat st;
	char id[65];
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		err_errno(e, err_class_of_path(errno), "cannot open %s (state.dir must be a directory the poller may write)", path);
		goto out;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		err_set(e, ERR_CONFIG, "%s is in use: another iis-pollerd runs with this state.dir", path);
		goto out;
	}
	/* posix_fallocate, not ftruncate: a full disk must show here, not as SIGBUS at a store. */
	if (fstat(fd, &st) < 0 || (errno = posix_fallocate(fd, 0, sizeof(*p))) != 0) {
		err_errno(e, ERR_SYSTEM, "cannot make room for %s", path);
		goto out;
	}
	p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		err_errno(e, ERR_SYSTEM, "cannot map %s", path);
		goto out;
	}
	sha256_hex(identity, strlen(identity), id);
	if (p->magic != JOURNAL_MAGIC || st.st_size < (off_t)sizeof(*p) || memcmp(p->identity, id, sizeof(id))) {
		memset(p, 0, sizeof(*p));
		p->magic = JOURNAL_MAGIC;
		memcpy(p->identity, id, sizeof(id));
	}
	count_death(p);
	j = xcalloc(1, sizeof(*j));
	j->page = p;
	j->fd = fd;
	fd = -1;
out:
	if (fd >= 0)
		close(fd);
	free(path);
	return j;
}

void
journal_close(struct journal *j)
{
	if (!j)
		return;
	munmap(j->page, sizeof(*j->page));
	close(j->fd);
	free(j);
}

void
journal_hold(struct journal *j, const struct origin *o)
{
	j->page->hand.topic = topic_of(o);
	j->page->hand.partition = o->partition;
	j->page->hand.offset = o->offset;
	/* The mark comes last: a death between the stores must not blame another job. */
	__atomic_store_n(&j->page->hand.deaths, 1, __ATOMIC_RELEASE);
}

void
journal_clear(struct journal *j)
{
	__atomic_store_n(&j->page->hand.deaths, 0, __ATOMIC_RELEASE);
}

unsigned
journal_deaths(const struct journal *j, const struct origin *o)
{
	const struct row *r = find(j->page, topic_of(o), o->partition, o->offset);

	return r ? r->deaths : 0;
}

void
journal_forget(struct journal *j, const struct origin *o)
{
	struct row *r = find(j->page, topic_of(o), o->partition, o->offset);

	if (r)
		r->deaths = 0;
}
