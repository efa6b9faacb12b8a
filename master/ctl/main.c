/*
 * main.c - iis-pollerctl: the admin tool. Everything is in options.c and the verbs; only this file exits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "master/ctl/ctl.h"
#include "common/banned.h"

static void
out_of_memory(size_t wanted)
{
	dprintf(STDERR_FILENO, "iis-pollerctl: out of memory (%zu bytes wanted)\n", wanted);
	_exit(EX_OSERR);
}

int
main(int argc, char **argv)
{
	xalloc_set_handler(out_of_memory);
	return ctl_main(argc, argv);
}
