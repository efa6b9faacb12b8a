/*
 * local_names.c - names of users, groups and file systems, for the events of local sources.
 *
 * warm.c has /etc/passwd and /etc/group read once, before the sandbox closes: a worker can open neither afterwards, and
 * no name service is asked, since one that hangs or grows would hold every worker's start. What is beyond the bounds, not
 * in the files, or new since the worker's start has no name; its number is told in any case.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "worker/worker.h"
#include "common/escape.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define FILE_BYTES_MAX (1 << 20)        /* of each file; the lines behind have no names */
#define NAME_MAX_BYTES 64

struct owner { uint32_t id, at; };      /* at: where its name begins in the text */

static struct owners {
	char *text;
	struct owner *v;                /* by id; of lines with the same one, the first */
	size_t n;
} users, groups;

/* ---- users and groups ---- */

static char *
read_file(const char *path, size_t *n)
{
	struct buf b = BUF_INIT;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = 1;

	while (fd >= 0 && got > 0 && b.len < FILE_BYTES_MAX) {
		got = read(fd, buf_room(&b, 4096), 4096);
		if (got > 0)
			b.len += (size_t)got;
	}
	if (fd >= 0)
		close(fd);
	*n = b.len;
	return buf_take(&b);
}

/* "name:x:1000:..." or "name:x:100:a,b": ends the name with a NUL. */
static bool
read_line(char *line, uint32_t *id)
{
	char *name_end = strchr(line, ':'), *p = name_end ? strchr(name_end + 1, ':') : NULL;
	uint64_t v = 0;

	if (!p || name_end == line || name_end - line > NAME_MAX_BYTES || p[1] < '0' || p[1] > '9')
		return false;
	for (p++; *p >= '0' && *p <= '9' && v <= UINT32_MAX; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	*name_end = '\0';
	*id = (uint32_t)v;
	return *p == ':' && v <= UINT32_MAX && utf8_valid(line, strlen(line));
}

static int
by_id(const void *a, const void *b)
{
	const struct owner *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static void
read_owners(struct owners *o, const char *path)
{
	size_t n, lines = 0, kept = 0;
	char *end;

	o->text = read_file(path, &n);
	for (size_t i = 0; i < n; i++)
		lines += o->text[i] == '\n';
	o->v = xcalloc(lines, sizeof(*o->v));
	/* A line that the bound cut has no end, and is left out. */
	for (char *line = o->text; n && (end = memchr(line, '\n', (size_t)(o->text + n - line))); line = end + 1) {
		uint32_t id;

		*end = '\0';
		if (read_line(line, &id))
			o->v[o->n++] = (struct owner){ id, (uint32_t)(line - o->text) };
	}
	if (o->n)
		qsort(o->v, o->n, sizeof(*o->v), by_id);
	for (size_t i = 0; i < o->n; i++)
		if (!kept || o->v[kept - 1].id != o->v[i].id)
			o->v[kept++] = o->v[i];
	o->n = kept;
}

void
local_names_init(const char *passwd, const char *group)
{
	read_owners(&users, passwd);
	read_owners(&groups, group);
}

void
local_names_release(void)
{
	struct owners *const both[] = { &users, &groups };

	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		free(both[i]->text);
		free(both[i]->v);
		*both[i] = (struct owners){ 0 };
	}
}

static const char *
find(const struct owners *o, uint32_t id)
{
	size_t low = 0, high = o->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (o->v[mid].id == id)
			return o->text + o->v[mid].at;
		if (o->v[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const char *
local_user(uint32_t uid)
{
	return find(&users, uid);
}

const char *
local_group(uint32_t gid)
{
	return find(&groups, gid);
}

/* ---- file systems ---- */

/* statfs(2); names as /proc/filesystems has them. 2, 3 and 4 of ext say the same number. */
static const struct { uint32_t magic; const char *name; } types[] = {
	{ 0xef53, "ext" }, { 0x58465342, "xfs" }, { 0x9123683e, "btrfs" }, { 0x01021994, "tmpfs" }, { 0x794c7630, "overlay" },
	{ 0x6969, "nfs" }, { 0xff534d42, "cifs" }, { 0xfe534d42, "smb2" }, { 0x517b, "smb" }, { 0x65735546, "fuse" },
	{ 0x2fc12fc1, "zfs" }, { 0xca451a4e, "bcachefs" }, { 0xf2f52010, "f2fs" }, { 0x00c36400, "ceph" }, { 0x0bd00bd0, "lustre" },
	{ 0x01021997, "9p" }, { 0x01161970, "gfs2" }, { 0x7461636f, "ocfs2" }, { 0x5346414f, "afs" }, { 0x4d44, "vfat" },
	{ 0x2011bab0, "exfat" }, { 0x5346544e, "ntfs" }, { 0x7366746e, "ntfs3" }, { 0x9660, "iso9660" }, { 0x15013346, "udf" },
	{ 0x73717368, "squashfs" }, { 0xe0f5e1e2, "erofs" }, { 0x858458f6, "ramfs" }, { 0x3153464a, "jfs" }, { 0x52654973, "reiserfs" },
	{ 0xf15f, "ecryptfs" }, { 0x9fa0, "proc" }, { 0x62656572, "sysfs" },
};

const char *
local_filesystem(int fd)
{
	struct statfs s;

	if (fstatfs(fd, &s) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (types[i].magic == (uint32_t)s.f_type)
			return types[i].name;
	return NULL;
}
