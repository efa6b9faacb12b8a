/*
 * build_id.c - the id that a child must share with its master: from the Makefile, a hash of the sources.
 */
#include "common/ipc.h"
#include "common/banned.h"

const char ipc_build_id[] = BUILD_ID;
