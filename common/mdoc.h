/*
 * mdoc.h - manual text (mdoc(7)) from the lists: what config_mdoc and man/ print their help texts with.
 */
#ifndef COMMON_MDOC_H
#define COMMON_MDOC_H

#include "common/buf.h"

/* Plain text as lines of whole words, each sentence on its own, nothing taken for a request. */
void mdoc_text(struct buf *, const char *);
/* "One of a, b, c." from words separated by '|' */
void mdoc_words(struct buf *, const char *words);

#endif
