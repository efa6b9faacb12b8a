/*
 * certificate.c - servers' TLS certificates that end soon: when, and who is told.
 *
 * Workers tell with DONE which of those they met ends first. From then on the endpoint knows it, for iis-pollerctl endpoints and
 * the metric; result.c warns in each terminal record, the log once a day. Nothing is decided by it: a certificate that has
 * ended is refused by the worker.
 */
#include <string.h>

#include "common/units.h"
#include "master/endpoint_priv.h"
#include "common/banned.h"

#define DAY_MS INT64_C(86400000)
#define SECOND_NS INT64_C(1000000000)

static bool
ends_soon(const struct config *cfg, int64_t ends_s, int64_t now_ns)
{
	int64_t before = cfg->network_certificate_warning;

	return before && ends_s && ends_s < now_ns / SECOND_NS + before / 1000;
}

void
certificate_warning(const struct config *cfg, const struct task_done *d, int64_t now_ns, struct buf *b)
{
	int64_t left = d->cert_expires - now_ns / SECOND_NS;
	char when[UNITS_TEXT];

	if (!ends_soon(cfg, d->cert_expires, now_ns))
		return;
	units_time_text(d->cert_expires * SECOND_NS, 0, when);
	buf_printf(b, "the TLS certificate of %s ", *d->cert_host ? d->cert_host : "the server");
	if (left > 0)
		buf_printf(b, "ends at %s, in %lld h: jobs will fail then; its operator must renew it", when, (long long)(left / 3600));
	else
		buf_printf(b, "ended at %s; its operator must renew it", when);
}

void
certificate_seen(const struct master *m, struct endpoint *p, const struct task *t)
{
	const struct task_done *d = t->done;
	int64_t now = loop_now(m->loop), wall = clock_real_ns();
	struct buf b = BUF_INIT;

	if (!d->cert_expires)
		return;
	p->cert_expires = d->cert_expires;
	p->cert_ms = now;
	certificate_warning(m->cfg, d, wall, &b);
	if (b.len && (!p->cert_logged_ms || now - p->cert_logged_ms >= DAY_MS)) {
		p->cert_logged_ms = now > 0 ? now : 1;
		LOG(LOG_WARN, "certificate_ends", LS("endpoint", p->name), LS("job_id", t->job->job_id), LS("org_id", t->job->org_id), LS("reason", buf_str(&b)));
	}
	buf_release(&b);
}

bool
certificate_counts(const struct master *m, const struct endpoint *p)
{
	return ends_soon(m->cfg, p->cert_expires, clock_real_ns()) && loop_now(m->loop) - p->cert_ms < DAY_MS;
}
