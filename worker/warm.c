/*
 * warm.c - what libraries load or read once is loaded and read here, before the sandbox closes. Called by main.c.
 *
 * The filters would let most of it pass and the rest fail softly, but a module that was not loaded before cannot be: code
 * is not mapped any more. Nothing here goes to the network; what fails is tried again by whoever needs it, and told there.
 */
#include <curl/curl.h>
#include <libssh2.h>
#include <libxml/parser.h>
#include <netdb.h>
#include <stddef.h>
#include <time.h>

#include "worker/worker.h"
#include "common/banned.h"

/* Never handed back: they last as long as the process. */
static void
warm_network(void)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;

	curl_global_init(CURL_GLOBAL_DEFAULT);
	if (libssh2_init(0))
		return;
	xmlInitParser();
	/* The modules of nsswitch.conf; "localhost" is in /etc/hosts. */
	if (getaddrinfo("localhost", NULL, &hints, &list) == 0)
		freeaddrinfo(list);
}

void
warm_up(enum worker_role role)
{
	tzset();
	if (role == ROLE_LOCAL)
		local_names_init("/etc/passwd", "/etc/group");
	else
		warm_network();
}
