/* Calls that stop in their middle. */
#include "../clock.h"
#include "../sliced_call.h"
#include "expect.h"

struct work {
  unsigned looks;
  unsigned left;
  /* Something on the call's own stack, which must be as it was left. */
  unsigned sum;
  void (*look)(void);
};

static void work(void *argument) {
  struct work *work = argument;
  unsigned numbers[64];
  for (unsigned i = 0; i < 64; i++) numbers[i] = i;
  while (work->left > 0) {
    work->left--;
    work->look();
    work->looks++;
  }
  for (unsigned i = 0; i < 64; i++) work->sum += numbers[i];
}

static void idle(void) {
  uint64_t until = clock_monotonic() + 100000;
  while (clock_monotonic() < until) sliced_call_glance();
}

int main(void) {
  struct sliced_call *one = sliced_call_new();
  struct sliced_call *other = sliced_call_new();
  EXPECT(one != NULL && other != NULL);

  title("[QX-67] a call ends its slice where it looks, and goes on from there in the next");
  struct work first = {.left = 50, .look = sliced_call_look};
  struct work second = {.left = 20, .look = sliced_call_look};
  EXPECT(sliced_call_run(one, 0) && !sliced_call_is_under_way(one));
  sliced_call_begin(one, work, &first);
  sliced_call_begin(other, work, &second);
  unsigned slices = 0;
  for (bool done = false; !done; slices++) {
    done = sliced_call_run(one, 0);
    EXPECT(first.looks == (slices < 50 ? slices : 50));
    EXPECT(sliced_call_is_under_way(one) == !done);
    EXPECT(sliced_call_run(other, 0) == (slices >= 20));
  }
  EXPECT(slices == 51 && first.sum == 2016 && second.sum == 2016);

  title("[QX-67] without an end of its slice a call runs until it returns, and its stack serves the next");
  struct work again = {.left = 1000, .look = sliced_call_look};
  sliced_call_begin(one, work, &again);
  EXPECT(sliced_call_run(one, UINT64_MAX) && again.sum == 2016);

  title("[QX-67] a slice takes about as long as it may, and outside of one a look does nothing");
  struct work long_one = {.left = 50, .look = idle};
  sliced_call_begin(one, work, &long_one);
  uint64_t began = clock_monotonic();
  EXPECT(!sliced_call_run(one, 1000000) && clock_monotonic() - began >= 1000000 && long_one.looks < 50);
  idle();
  sliced_call_look();
  EXPECT(sliced_call_run(one, UINT64_MAX) && long_one.sum == 2016);
  sliced_call_free(one);
  sliced_call_free(other);
  sliced_call_free(NULL);
  return expect_result();
}
