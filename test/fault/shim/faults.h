/*
 * The control block that a test shares with the programs it makes fail: a file, mapped by the shim
 * (faults.c), written and read by test/fixtures/faults.ts. Little-endian, 64 bytes of head and then
 * 64 rules of 256 bytes, all zero at first.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FAULT_RULES 64
#define FAULT_PATH_BYTES 212

/* Operations, as bits of `operations`. */
enum {
  FAULT_READ = 1,
  FAULT_WRITE = 2,
  FAULT_SYNC = 4,
  FAULT_TRUNCATE = 8,
  FAULT_OPEN = 16,       /* any open */
  FAULT_OPEN_WRITE = 32, /* one that may change or create the file */
  FAULT_ALLOCATE = 64,
  FAULT_UNLINK = 128,
  FAULT_RENAME = 256,
};

/* Flags. */
enum {
  FAULT_TORN = 1, /* a write puts the first half of its bytes into the file before it fails */
  FAULT_KILL = 2, /* SIGKILL to the process instead of an error */
};

struct fault_rule {
  _Atomic uint32_t armed; /* written last; 0 = the slot is free */
  uint32_t operations;
  uint32_t error; /* errno */
  uint32_t flags;
  _Atomic int64_t pass; /* matching operations still to let through */
  _Atomic int64_t fail; /* matching operations still to fail; negative = for ever */
  _Atomic uint64_t hits;
  uint32_t behind; /* 1 + the rule that must be used up before this one counts; 0 = none */
  char path[FAULT_PATH_BYTES]; /* fnmatch(3) pattern for the whole path, with its NUL */
};

struct fault_control {
  _Atomic uint32_t used; /* rules ever armed: those above need no look */
  char reserved[60];
  struct fault_rule rules[FAULT_RULES];
};

_Static_assert(sizeof(struct fault_rule) == 256 && offsetof(struct fault_rule, path) == 44,
               "faults.ts writes rules at these offsets");
_Static_assert(offsetof(struct fault_control, rules) == 64, "faults.ts writes rules behind the head");

#endif
