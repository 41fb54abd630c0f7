#include "sliced_call.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "clock.h"

/* Far more than is needed, for nothing recurses with what is stored. Only pages that are used take memory. */
#define STACK_BYTES (1u << 20)

/* Glances that make a look. */
#define GLANCES 32

struct sliced_call {
  /* The lowest page cannot be used, so that an overflow is a fault. */
  uint8_t *stack;
  size_t stack_bytes;
  ucontext_t caller;
  ucontext_t callee;
  void (*call)(void *);
  void *argument;
  bool under_way;
  unsigned glances;
  /* CLOCK_MONOTONIC ns; UINT64_MAX = never. */
  uint64_t slice_end;
};

/* Whose slice the thread is in. */
static _Thread_local struct sliced_call *running;

struct sliced_call *sliced_call_new(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  struct sliced_call *sliced = calloc(1, sizeof *sliced);
  if (sliced == NULL) return NULL;
  sliced->stack_bytes = STACK_BYTES + page;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
  sliced->stack = mmap(NULL, sliced->stack_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (sliced->stack == MAP_FAILED) {
    free(sliced);
    return NULL;
  }
  if (mprotect(sliced->stack, page, PROT_NONE) != 0) {
    sliced_call_free(sliced);
    return NULL;
  }
  /* A huge page for the few that are used would be a waste. */
  madvise(sliced->stack, sliced->stack_bytes, MADV_NOHUGEPAGE);
  return sliced;
}

void sliced_call_free(struct sliced_call *sliced) {
  if (sliced == NULL) return;
  munmap(sliced->stack, sliced->stack_bytes);
  free(sliced);
}

/* makecontext passes integers. */
static void enter(unsigned high, unsigned low) {
  struct sliced_call *sliced = (struct sliced_call *)(uintptr_t)((uint64_t)high << 32 | low);
  sliced->call(sliced->argument);
  sliced->under_way = false;
}

void sliced_call_begin(struct sliced_call *sliced, void (*call)(void *), void *argument) {
  sliced->call = call;
  sliced->argument = argument;
  sliced->under_way = true;
  getcontext(&sliced->callee);
  sliced->callee.uc_stack.ss_sp = sliced->stack;
  sliced->callee.uc_stack.ss_size = sliced->stack_bytes;
  sliced->callee.uc_link = &sliced->caller;
  uint64_t self = (uintptr_t)sliced;
  makecontext(&sliced->callee, (void (*)(void))enter, 2, (unsigned)(self >> 32), (unsigned)self);
}

bool sliced_call_run(struct sliced_call *sliced, uint64_t ns) {
  if (!sliced->under_way) return true;
  sliced->slice_end = ns == UINT64_MAX ? UINT64_MAX : clock_monotonic() + ns;
  running = sliced;
  swapcontext(&sliced->caller, &sliced->callee);
  running = NULL;
  return !sliced->under_way;
}

bool sliced_call_is_under_way(const struct sliced_call *sliced) {
  return sliced->under_way;
}

void sliced_call_look(void) {
  struct sliced_call *sliced = running;
  if (sliced == NULL || sliced->slice_end == UINT64_MAX || clock_monotonic() < sliced->slice_end) return;
  swapcontext(&sliced->callee, &sliced->caller);
}

void sliced_call_glance(void) {
  if (running != NULL && ++running->glances % GLANCES == 0) sliced_call_look();
}
