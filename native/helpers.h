/*
 * Threads that take a part of a call's work, so that several databases are read at once (QX-23). They are
 * shared by the whole process, one less than there are processors, and start when they are first needed.
 */
#ifndef EVENTD_HELPERS_H
#define EVENTD_HELPERS_H

#include <stddef.h>

/* Items worked on at once, the caller's own included: at least 1. */
size_t helpers_width(void);

/*
 * Works on every item and returns when all are done. The caller works as well, so nothing depends on a
 * helper being free, or there being any. Items must not touch what another one touches.
 */
void helpers_run(void (*work)(void *), void *const *items, size_t count);

#endif
