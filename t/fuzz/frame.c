/*
 * frame.c - fuzz target: whatever a worker may send, through the decoders that the master uses.
 *
 * Built with -fsanitize=fuzzer. The first byte chooses the decoder, so that one corpus serves them all. Beyond not
 * crashing, a record that is taken must come out of the encoder as the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/broker.h"
#include "common/ipc.h"
#include "common/keys.h"
#include "common/record.h"
#include "common/task.h"
#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
no_sink(void *arg, enum log_level level, const char *event, const struct log_field *f, size_t count)
{
	volatile size_t sum = 0;

	(void)arg;
	(void)level;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; f[i].kind == LOG_F_STR && f[i].s && k < f[i].n; k++)
			sum += (unsigned char)f[i].s[k];
	sum += strlen(event);
}

static void
records(const uint8_t *p, size_t n, enum source_type type)
{
	struct err e = ERR_INIT;
	struct buf b = BUF_INIT;
	struct record r;
	struct cursor c;

	cursor_init(&c, p, n);
	while (cursor_left(&c)) {
		const uint8_t *start = c.p;

		if (record_decode(&r, &c, type, &e))
			break;
		buf_clear(&b);
		if (record_encode(&r, &b, &e) || b.len != (size_t)(c.p - start) || memcmp(b.p, start, b.len))
			abort();
	}
	buf_release(&b);
}

static void
frames(const uint8_t *p, size_t n)
{
	struct err e = ERR_INIT;
	struct frame f;
	size_t used;

	while (n && ipc_parse(p, n, &f, &used, &e) == 1) {
		for (int state = 0; state < WORKER__MAX; state++)
			ipc_check(&f, IPC_WORKER, (enum worker_state)state, &e);
		p += used;
		n -= used;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct err e = ERR_INIT;
	struct task_spec t;
	struct task_done d;
	struct progress g;
	struct setup s;
	struct hello h;
	struct ready r;
	struct keys k;
	struct keys_ask a;
	struct broker_tally y;

	if (!n)
		return 0;
	log_set_sink(no_sink, NULL);
	switch (p[0] % 13) {
	case 0: records(p + 1, n - 1, SOURCE_LOCAL); break;
	case 1: records(p + 1, n - 1, SOURCE_DUMMY); break;
	case 2: frames(p + 1, n - 1); break;
	case 3: task_done_decode(&d, p + 1, n - 1, &e); break;
	case 4: hello_decode(&h, p + 1, n - 1, &e); break;
	case 5: ready_decode(&r, p + 1, n - 1, &e); break;
	case 6: progress_decode(&g, p + 1, n - 1, &e); break;
	case 7: log_frame_relay(p + 1, n - 1, 0, 1, &e); break;
	case 8:
		if (!setup_decode(&s, p + 1, n - 1, &e))
			setup_release(&s);
		break;
	case 10:
		if (!keys_decode(&k, p + 1, n - 1, 0, &e))
			keys_wipe(&k);
		break;
	case 11:
		if (!keys_ask_decode(&a, p + 1, n - 1, &e))
			keys_ask_release(&a);
		break;
	case 12: broker_tally_decode(&y, p + 1, n - 1, &e); break;
	default:
		if (!task_spec_decode(&t, p + 1, n - 1, &e))
			task_spec_release(&t);
	}
	return 0;
}
