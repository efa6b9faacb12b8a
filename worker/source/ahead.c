/*
 * ahead.c - a second thread that looks at files while the first one writes of them; for walk.c alone.
 *
 * A listing's time is mostly statx, one call for each file. The walk gives the names of a directory as they stand in its
 * buffer: the first thread takes them from the front, one by one, and tells of each at once; the second takes them
 * from the back and only looks. Where they meet, all are looked at. The order of what is told stays the directory's.
 *
 * The thread begins once Landlock has closed and before the system call filters do, so that it has the first and gets the
 * second, and a local worker needs no leave to make threads. It waits on a futex between directories, never allocates, and is
 * narrowed whenever the first one is. Without it (it could not be made, unit tests) the walk does all by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "worker/worker.h"
#include "common/sandbox.h"
#include "common/banned.h"

#define STACK 131072
/* Looks at whether the other one is ready before it is waited for: it needs a microsecond or two, a wake-up fifty. */
#define SPINS 1000

enum { LOOK_OPEN, LOOK_TAKEN, LOOK_DONE };
enum order { ORDER_NONE, ORDER_GIVEN, ORDER_RUNNING };

static struct {
	pthread_mutex_t lock;
	pthread_cond_t given, done;
	bool there;
	enum order order;
	/* what is to be done: narrow to these, or look at those */
	const char *const *roots;
	size_t n_roots;
	int narrowed;           /* what came of it */
	struct err *why;
	int fd;
	struct look *v;         /* NULL: narrow */
	size_t n;
	atomic_bool stop;       /* nobody wants the rest */
} twin = { .lock = PTHREAD_MUTEX_INITIALIZER, .given = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER };

static bool
look(int fd, struct look *k)
{
	int open = LOOK_OPEN;

	if (!atomic_compare_exchange_strong(&k->state, &open, LOOK_TAKEN))
		return false;
	k->error = statx(fd, k->name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, AHEAD_MASK, &k->st) < 0 ? errno : 0;
	atomic_store(&k->state, LOOK_DONE);
	return true;
}

static void
obey(void)
{
	if (!twin.v)
		twin.narrowed = sandbox_narrow_to(twin.roots, twin.n_roots, twin.why);
	else
		for (size_t i = twin.n; i && !atomic_load(&twin.stop) && look(twin.fd, &twin.v[i - 1]); i--)
			;
}

static void * __attribute__((noreturn))
second(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&twin.lock);
	for (;;) {
		while (twin.order != ORDER_GIVEN)
			pthread_cond_wait(&twin.given, &twin.lock);
		twin.order = ORDER_RUNNING;
		pthread_mutex_unlock(&twin.lock);
		obey();
		pthread_mutex_lock(&twin.lock);
		twin.order = ORDER_NONE;
		pthread_cond_signal(&twin.done);
	}
}

void
ahead_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (pthread_attr_init(&attr))
		return;
	if (!pthread_attr_setstacksize(&attr, STACK) && !pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED))
		twin.there = !pthread_create(&thread, &attr, second, NULL);
	pthread_attr_destroy(&attr);
}

bool
ahead_there(void)
{
	return twin.there;
}

static void
give(void)
{
	pthread_mutex_lock(&twin.lock);
	twin.order = ORDER_GIVEN;
	pthread_cond_signal(&twin.given);
	pthread_mutex_unlock(&twin.lock);
}

static void
await(void)
{
	pthread_mutex_lock(&twin.lock);
	while (twin.order != ORDER_NONE)
		pthread_cond_wait(&twin.done, &twin.lock);
	pthread_mutex_unlock(&twin.lock);
}

int
ahead_narrow(const char *const *roots, size_t n, struct err *e)
{
	if (!twin.there)
		return 0;
	twin.v = NULL;
	twin.roots = roots;
	twin.n_roots = n;
	twin.why = e;
	give();
	await();
	return twin.narrowed < 0 ? -1 : 0;
}

void
ahead_begin(int fd, struct look *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		atomic_init(&v[i].state, LOOK_OPEN);
	atomic_store(&twin.stop, false);
	twin.fd = fd;
	twin.v = v;
	twin.n = n;
	give();
}

void
ahead_wait(struct look *k)
{
	if (look(twin.fd, k))
		return;
	for (int i = 0; i < SPINS && atomic_load(&k->state) != LOOK_DONE; i++)
		;
	/* It is the second one's last: what lies before it is taken. */
	if (atomic_load(&k->state) != LOOK_DONE)
		await();
}

void
ahead_end(void)
{
	atomic_store(&twin.stop, true);
	pthread_mutex_lock(&twin.lock);
	/* On a busy machine it may not even have begun. */
	if (twin.order == ORDER_GIVEN)
		twin.order = ORDER_NONE;
	pthread_mutex_unlock(&twin.lock);
	await();
}
