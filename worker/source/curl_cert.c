/*
 * curl_cert.c - when the certificates end that the servers of a session show.
 *
 * curl.c calls it at the end of each transfer. Only one that made its connection has seen a certificate; for a task that goes
 * over kept connections alone, the session remembers its endpoint's. Whether it was valid was libcurl's to judge; the master
 * warns of those that will soon be no more.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "worker/source/curl_priv.h"
#include "common/task.h"
#include "common/banned.h"

/* Of the first certificate, which is the server's own: what else it sends may hold one that ended, and nobody needs. 0: none. */
static int64_t
shown_end(CURL *easy)
{
	static const char key[] = "Expire date:";
	const struct curl_certinfo *info = NULL;
	time_t end = -1;

	if (curl_easy_getinfo(easy, CURLINFO_CERTINFO, &info) || !info || info->num_of_certs < 1)
		return 0;
	for (const struct curl_slist *l = info->certinfo[0]; l; l = l->next)
		if (l->data && !strncmp(l->data, key, strlen(key)))
			end = curl_getdate(l->data + strlen(key), NULL);
	if (end < 0)
		return 0;
	/* One that ended in 1970 is told, too. */
	return end < 1 ? 1 : end < TASK_TIME_MAX ? end : TASK_TIME_MAX;
}

static void
met(struct run *r, int64_t end, const char *host)
{
	if (!end || (r->done.cert_expires && r->done.cert_expires <= end))
		return;
	r->done.cert_expires = end;
	snprintf(r->done.cert_host, sizeof(r->done.cert_host), "%s", host);
}

void
curl_cert_kept(struct curl_session *s)
{
	if (s->sockets)
		met(s->run, s->cert_expires, "");
}

void
curl_cert_look(struct curl_session *s, const struct curl_handle *h)
{
	int64_t end;

	if (!h->tls || !(end = shown_end(h->easy)))
		return;
	/* The last one that it showed: it may have been renewed since. */
	if (!*h->host)
		s->cert_expires = end;
	met(s->run, end, h->host);
}
