/*
 * units.h - durations, sizes, numbers and times as people and JSON write them.
 *
 * All return 0 or -1 and write nothing on failure; none accepts leading or trailing bytes.
 */
#ifndef COMMON_UNITS_H
#define COMMON_UNITS_H

#include <stddef.h>
#include <stdint.h>

#define TIME_UNKNOWN INT64_MIN

/* "250ms", "30s", "5m", "2h", "1d", "1.5s"; a bare number is seconds. Result in ms. */
int units_duration(const char *s, int64_t *ms);
/* "512", "10KiB", "64MiB", "4GiB", "1TiB", "10KB", "1MB" (powers of 1000), "4k" is refused. Result in bytes. */
int units_size(const char *s, int64_t *bytes);
/* Decimal integer, optional minus; refuses "", "+1", "0x1", "1_0", " 1", "01" and what does not fit. */
int units_int(const char *s, int64_t *v);
/* true/false, yes/no, on/off (YAML 1.1's words), lower case. */
int units_bool(const char *s, int *v);
/* RFC 3339 with zone ("2026-01-02T03:04:05.678Z", "...+02:00"); years 1970..9999; result ns since the epoch. A
 * leap second (:60) is taken as the last nanosecond of its minute. */
int units_time(const char *s, int64_t *ns);

#define UNITS_TEXT 40
/* RFC 3339 UTC with Z and 0, 3, 6 or 9 digits of a second; its length. */
size_t units_time_text(int64_t ns, int digits, char out[UNITS_TEXT]);
/* The shortest exact form: "300s" -> "5m", 1500 ms -> "1500ms", 1048576 -> "1MiB". */
void units_duration_text(int64_t ms, char out[UNITS_TEXT]);
void units_size_text(int64_t bytes, char out[UNITS_TEXT]);
/* What "%lld job%s" takes behind its number. */
static inline const char *
units_s(long long n)
{
	return n == 1 ? "" : "s";
}

#endif
