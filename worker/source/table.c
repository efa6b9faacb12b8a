/*
 * table.c - binds each source type of sources.def to its code.
 *
 * run.c asks it once a task. A type without a row here is refused by name, by the master before, and by run.c.
 */
#include <stddef.h>

#include "worker/worker.h"
#include "common/banned.h"

static const struct source *const sources[SOURCE__MAX] = {
	[SOURCE_DUMMY] = &source_dummy,
	[SOURCE_LOCAL] = &source_local,
	[SOURCE_HTTP] = &source_http,
	[SOURCE_FTP] = &source_ftp,
	[SOURCE_S3] = &source_s3,
	[SOURCE_SFTP] = &source_sftp,
};

const struct source *
source_find(enum source_type type)
{
	return (unsigned)type < SOURCE__MAX ? sources[type] : NULL;
}
