/*
 * status_priv.h - what the page for people shares with the one for programs.
 */
#ifndef MASTER_STATUS_PRIV_H
#define MASTER_STATUS_PRIV_H

#include "master/master.h"

/* Partitions shown and measured one by one. */
#define STATUS_PARTITIONS 1024
#define STATUS_TENANTS 100

const char *status_phase(const struct master *);
/* Messages of the partition not done yet; -1 unknown. */
int64_t status_lag(const struct partition_view *);
/* Age of the oldest job that has not ended; 0 without one. */
double status_oldest_seconds(const struct master *);
/* Jobs that ended so, of all source types. */
uint64_t status_jobs_ended(const char *outcome);

#endif
