/* Work shared with the helper threads: each item is worked on once, whoever asks and however many do. */
#include <pthread.h>
#include <stdatomic.h>

#include "../helpers.h"
#include "expect.h"

enum { CALLERS = 3, CALLS = 300, ITEMS = 7 };

struct item {
  /* Not atomic: only what happens before helpers_run returns may be seen by its caller. */
  int times;
  struct item *nested;
};

static void work(void *argument) {
  struct item *item = argument;
  item->times++;
  if (item->nested == NULL) return;
  void *inner[] = {item->nested, item->nested + 1};
  helpers_run(work, inner, 2);
}

static void *call(void *failures) {
  for (int n = 0; n < CALLS; n++) {
    struct item items[ITEMS] = {0};
    struct item nested[2] = {0};
    void *places[ITEMS];
    for (int i = 0; i < ITEMS; i++) places[i] = &items[i];
    items[ITEMS - 1].nested = nested;
    size_t count = (size_t)(n % (ITEMS + 1));
    helpers_run(work, places, count);
    for (size_t i = 0; i < ITEMS; i++) {
      if (items[i].times != (i < count)) atomic_fetch_add((atomic_int *)failures, 1);
    }
    if (nested[0].times != (count == ITEMS) || nested[1].times != (count == ITEMS)) {
      atomic_fetch_add((atomic_int *)failures, 1);
    }
  }
  return NULL;
}

int main(void) {
  title("[QX-23] every item is worked on once and done when the call returns, with several callers at a time");
  atomic_int failures = 0;
  pthread_t callers[CALLERS];
  for (int i = 0; i < CALLERS; i++) EXPECT(pthread_create(&callers[i], NULL, call, &failures) == 0);
  for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
  EXPECT(failures == 0);
  EXPECT(helpers_width() >= 1);
  return expect_result();
}
