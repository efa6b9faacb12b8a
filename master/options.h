/*
 * options.h - the command line of iis-pollerd, and the runs that end without serving (-t, -T).
 */
#ifndef MASTER_OPTIONS_H
#define MASTER_OPTIONS_H

#include <stdbool.h>

#include "common/config.h"

#define OPTIONS_SETTINGS_MAX 64

struct options {
	const char *file;
	const char *settings[OPTIONS_SETTINGS_MAX + 1];
	bool test, online, dump, demo;
};

/* -1: go on; else the code to exit with (help, version, usage). */
int options_parse(struct options *, int argc, char **argv);
/* Directory of this program; caller frees. */
char *options_libexec(void);
int options_test(const struct config_set *, bool online);
int options_dump(const struct config_set *);

#endif
