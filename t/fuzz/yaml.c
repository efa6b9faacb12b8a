/*
 * yaml.c - fuzz target: a settings file of any bytes.
 *
 * Built by the fuzzing job with -fsanitize=fuzzer; reads no file and no environment. Whatever is
 * accepted must print as a file that is accepted again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/config_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *
check(const char *name, const char *value, char *why, size_t n)
{
	if (*value != 'x')
		return NULL;
	snprintf(why, n, "%s is refused", name);
	return why;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_args args = { .property_check = check };
	struct config_set set, again;
	struct buf b = BUF_INIT;

	if (config_load_text(&set, "fuzz", (const char *)data, size, &args) == 0) {
		config_print(&set, false, &b);
		args.property_check = NULL;
		if (config_load_text(&again, "again", buf_str(&b), b.len, &args) < 0)
			BUG("a printed configuration is refused");
		if (config_restart_needed(&set.c, &again.c, &b) && !set.c.kafka_properties.k.n)
			BUG("a printed configuration differs");
		for (int t = 0; t < CONFIG_TABLE__MAX; t++)
			if (!config_table_same(&set.c, &again.c, t))
				BUG("a printed table differs");
		config_set_release(&again);
	} else {
		config_errors_json(&set, &b);
	}
	config_set_release(&set);
	buf_release(&b);
	return 0;
}
