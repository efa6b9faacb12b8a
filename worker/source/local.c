/*
 * local.c - the source type local: files of this machine below one of the configured roots.
 *
 * Everything that touches the file system is walk.c's; here stands what the type adds: its fields, and the members of
 * its events' source{}. The master chose the root; a worker that is told another one than SETUP named refuses.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "worker/worker.h"
#include "common/units.h"
#include "common/xalloc.h"
#include "common/banned.h"

struct conn {
	struct walk *walk;
};

static void
time_attr(struct record *r, enum source_attr id, const struct statx_timestamp *t, char text[48])
{
	/* Beyond, nanoseconds do not fit 64 bits: the years 1678 and 2262. */
	if (t->tv_sec < -9200000000 || t->tv_sec > 9200000000)
		return;
	units_time_text(t->tv_sec * INT64_C(1000000000) + t->tv_nsec, 9, text);
	walk_attr_str(r, id, text);
}

/* The nine letters of ls(1), with its s, S, t and T. */
static const char *
permissions(unsigned mode, char out[10])
{
	static const char letters[] = "rwxrwxrwx";

	for (int i = 0; i < 9; i++)
		out[i] = mode & (0400U >> i) ? letters[i] : '-';
	if (mode & S_ISUID)
		out[2] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		out[5] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		out[8] = mode & S_IXOTH ? 't' : 'T';
	out[9] = '\0';
	return out;
}

static void
opt_attr(struct record *r, enum source_attr id, const char *s)
{
	if (s)
		walk_attr_str(r, id, s);
}

static void
attrs(struct record *r, const struct statx *st, const char *root, const char *filesystem, char text[WALK_TEXT][48])
{
	walk_attr_str(r, SA_LOCAL_ROOT, root);
	walk_attr_int(r, SA_LOCAL_DEV, (int64_t)makedev(st->stx_dev_major, st->stx_dev_minor));
	walk_attr_int(r, SA_LOCAL_INODE, (int64_t)st->stx_ino);
	walk_attr_int(r, SA_LOCAL_NLINK, st->stx_nlink);
	walk_mode_text(st->stx_mode, text[0]);
	walk_attr_str(r, SA_LOCAL_MODE, text[0]);
	walk_attr_str(r, SA_LOCAL_PERMISSIONS, permissions(st->stx_mode, text[0] + 8));
	walk_attr_int(r, SA_LOCAL_UID, st->stx_uid);
	walk_attr_int(r, SA_LOCAL_GID, st->stx_gid);
	opt_attr(r, SA_LOCAL_OWNER, local_user(st->stx_uid));
	opt_attr(r, SA_LOCAL_GROUP, local_group(st->stx_gid));
	time_attr(r, SA_LOCAL_ATIME, &st->stx_atime, text[1]);
	time_attr(r, SA_LOCAL_MTIME, &st->stx_mtime, text[4]);
	time_attr(r, SA_LOCAL_CTIME, &st->stx_ctime, text[2]);
	if (st->stx_mask & STATX_BTIME)
		time_attr(r, SA_LOCAL_BTIME, &st->stx_btime, text[3]);
	walk_attr_int(r, SA_LOCAL_BLOCKS, (int64_t)st->stx_blocks);
	opt_attr(r, SA_LOCAL_FILESYSTEM, filesystem);
}

static struct conn *
local_open(struct run *r, struct err *e)
{
	struct walk_how how = {
		.follow = (int)run_int(r, SF_COMMON_FOLLOW_SYMLINKS),
		.recursive = run_int(r, SF_COMMON_RECURSIVE),
		.one_file_system = run_int(r, SF_LOCAL_ONE_FILE_SYSTEM),
		.cross_mounts = r->task->cross_mounts,
		.min_depth = run_int(r, SF_COMMON_MIN_DEPTH),
		.max_depth = run_int(r, SF_COMMON_MAX_DEPTH),
		.hash = (enum digest_kind)run_int(r, SF_LOCAL_HASH),
		.hash_max_size = r->task->source.v[SF_LOCAL_HASH_MAX_SIZE].set ? run_int(r, SF_LOCAL_HASH_MAX_SIZE) : -1,
		.noatime = run_int(r, SF_LOCAL_NOATIME),
		.attrs = attrs,
	};
	struct walk *w = walk_open(r, &how, e);
	struct conn *c;

	if (!w)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->walk = w;
	return c;
}

static int
local_list(struct conn *c, struct run *r, struct err *e)
{
	return walk_list(c->walk, r, e);
}

static void
local_close(struct conn *c)
{
	walk_close(c->walk);
	free(c);
}

const struct source source_local = {
	.name = "local",
	.open = local_open,
	.list = local_list,
	.close = local_close,
};
