/*
 * A call that uses SQLite, in slices of time (QX-67): one step of a SELECT may search for seconds before it
 * finds a row, and SQLite cannot return from its middle. So the call has a stack of its own. What SQLite calls
 * again and again meanwhile, to read a page or to test a row, looks at the time, and when the slice is over
 * switches back to whoever runs it; the next slice goes on from there.
 *
 * Until the call has returned, nothing else may use its connections. The next slice may be run by another thread,
 * where SQLite's connections may be used by any (SQLITE_THREADSAFE=2).
 */
#ifndef EVENTD_SLICED_CALL_H
#define EVENTD_SLICED_CALL_H

#include <stdbool.h>
#include <stdint.h>

struct sliced_call;

/* NULL when memory is short. */
struct sliced_call *sliced_call_new(void);
/* No call is under way. Any thread. */
void sliced_call_free(struct sliced_call *sliced);

/* The next slice begins with this call; none is under way. */
void sliced_call_begin(struct sliced_call *sliced, void (*call)(void *), void *argument);
/* Goes on with the call, for about `ns`; UINT64_MAX = until it returns. Whether it has returned, or there is none. */
bool sliced_call_run(struct sliced_call *sliced, uint64_t ns);
bool sliced_call_is_under_way(const struct sliced_call *sliced);

/* For what is called inside of SQLite, where it holds no lock: the slice may end here. Nothing outside of a slice. */
void sliced_call_look(void);
/* The same for what is called so often that looking at the clock would be felt. */
void sliced_call_glance(void);

#endif
