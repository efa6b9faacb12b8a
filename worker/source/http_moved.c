/*
 * http_moved.c - directories that a redirect found elsewhere: their files and directories are there, too.
 *
 * Links are relative to where their page came from (RFC 3986, section 5.1.3), and a server that redirects a directory need
 * not redirect what is below it: asked for at the directory's own path, that would be 404, which is the answer for what has
 * vanished. Paths in events stay those below the job's url, so that their ids do. http.c and http_entry.c call it.
 */
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/xalloc.h"
#include "worker/source/http.h"
#include "common/banned.h"

#define MOVES_MAX 1024

struct http_move {
	struct http_move *next;
	struct http_url to;             /* its path ends with '/' */
	bool post;
	size_t n;
	char from[];                    /* the directory's path with a '/' at its end */
};

static const struct http_move *
move_of(const struct conn *c, const char *path, size_t n)
{
	const struct http_move *best = NULL;

	for (const struct http_move *m = c->moves; m; m = m->next)
		if (m->n < n && (!best || m->n > best->n) && !memcmp(m->from, path, m->n))
			best = m;
	return best;
}

static void
add_folder(struct buf *b, const struct tree_dir *d)
{
	escape_url_path(b, d->path, d->path_n);
	if (!b->len || b->p[b->len - 1] != '/')
		buf_putc(b, '/');
}

bool
http_moved_dir(const struct conn *c, const struct tree_dir *d, struct http_url *u, bool *post)
{
	const struct http_move *m = move_of(c, d->path, d->path_n);
	struct buf b = BUF_INIT;

	http_url_copy(u, m ? &m->to : &c->origin);
	if (m) {
		buf_puts(&b, m->to.path);
		escape_url_path(&b, d->path + m->n, d->path_n - m->n);
		buf_putc(&b, '/');
		*post = *post && m->post;
	} else {
		add_folder(&b, d);
	}
	free(u->path);
	u->path = xstrdup(buf_str(&b));
	buf_release(&b);
	return m != NULL;
}

void
http_moved_under(struct http_listing *l, const struct http_url *u)
{
	http_url_copy(&l->place, u);
	/* That its own directories are there follows from where the one above is. */
	l->moved = l->move_kept = true;
}

void
http_moved_page(struct http_listing *l, const struct http_request *q)
{
	struct http_url own;
	struct buf b = BUF_INIT;
	bool post = false;

	if (!q->redirects || l->pages > 1)
		return;
	http_moved_dir(l->c, l->dir, &own, &post);
	escape_url_path(&b, l->path.p, l->path.len);
	if (!http_url_same_origin(&own, &q->url) || strcmp(own.path, buf_str(&b))) {
		l->moved = true;
		l->move_kept = false;
		http_url_release(&l->place);
		http_url_copy(&l->place, &q->url);
		free(l->place.path);
		l->place.path = xstrdup(buf_str(&b));
		/* That of the job's url goes with each of its directories; that of a redirect may be signed. */
		free(l->place.query);
		l->place.query = l->c->origin.query && !q->foreign ? xstrdup(l->c->origin.query) : NULL;
		l->moved_post = q->post;
	}
	http_url_release(&own);
	buf_release(&b);
}

int
http_moved_keep(struct http_listing *l, struct err *e)
{
	struct conn *c = l->c;
	const struct tree_dir *d = l->dir;
	struct http_move *m;

	if (!l->moved || l->move_kept)
		return 0;
	if (c->n_moves >= MOVES_MAX)
		return err_set(e, ERR_LIMIT, "the server redirects more than %d directories elsewhere", MOVES_MAX);
	m = xcalloc(1, sizeof(*m) + d->path_n + 1);
	memcpy(m->from, d->path, d->path_n);
	m->n = d->path_n;
	if (!m->n || m->from[m->n - 1] != '/')
		m->from[m->n++] = '/';
	http_url_copy(&m->to, &l->place);
	m->post = l->moved_post;
	m->next = c->moves;
	c->moves = m;
	c->n_moves++;
	l->move_kept = true;
	return 0;
}

void
http_moved_name(const struct http_listing *l, const char *name, size_t n, struct buf *b)
{
	struct buf path = BUF_INIT;

	if (l->moved)
		buf_puts(&path, l->place.path);
	else
		add_folder(&path, l->dir);
	escape_url_path(&path, name, n);
	buf_puts(b, buf_str(&path));
	buf_release(&path);
}

int
http_moved_send(struct http_request *q, struct err *e)
{
	q->foreign = !http_url_same_origin(&q->c->origin, &q->url);
	if (q->foreign && curl_session_host(q->c->session, q->url.host, q->url.port, e))
		return -1;
	return http_request_send(q, e);
}

void
http_moved_forget(struct conn *c)
{
	while (c->moves) {
		struct http_move *m = c->moves;

		c->moves = m->next;
		http_url_release(&m->to);
		free(m);
	}
	c->n_moves = 0;
}
