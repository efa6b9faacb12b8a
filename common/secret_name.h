/*
 * secret_name.h - does a name say that what it names is a secret? For members of jobs, and for parameters of addresses.
 */
#ifndef COMMON_SECRET_NAME_H
#define COMMON_SECRET_NAME_H

#include <stdbool.h>
#include <stddef.h>

/* "password", "X-Amz-Signature", "sas_key" ...; case, '_', '-', '.' and spaces make no difference. Rather too many. */
bool secret_name(const char *name, size_t n);

#endif
