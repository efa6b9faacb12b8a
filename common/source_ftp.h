/*
 * source_ftp.h - what the job check and the worker must see alike of a source of type ftp.
 */
#ifndef COMMON_SOURCE_FTP_H
#define COMMON_SOURCE_FTP_H

#include <stdint.h>

enum ftp_tls { FTP_TLS_NONE, FTP_TLS_EXPLICIT, FTP_TLS_IMPLICIT };  /* in the order of the field tls_mode */

/* Connections at once where the job does not say: as many as rclone opens, and as pure-ftpd takes of one address. Where the
 * way is long and there is much to do, more; a server that takes fewer says so. */
#define FTP_CONNECTIONS 8
#define FTP_CONNECTIONS_FAR 16

/* "UTC", "Z", "+HH:MM", "-HH:MM" as seconds east; 0 or -1 */
int ftp_zone(const char *s, int64_t *seconds);

#endif
