/*
 * Byte layouts: the KMES event header (KMES-24..29), the ring's metadata pages (KMES-94..101),
 * and the gap entry that may stand between events in a handoff segment.
 *
 * Events are packed back to back, so every field may be unaligned. Read and write them only
 * through the helpers here.
 */
#ifndef EVENTD_KMES_FORMAT_H
#define EVENTD_KMES_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rings are little-endian and read in place"
#endif

/* Event header. */
enum {
  KMES_EVENT_SIZE = 0,      /* u32 header + payload */
  KMES_HEADER_SIZE = 4,     /* u32 77 + type_len */
  KMES_TIMESTAMP = 8,       /* u64 CLOCK_REALTIME ns */
  KMES_SEQUENCE = 16,       /* u64 per CPU and boot, from 1 */
  KMES_CPU_ID = 24,         /* u16 */
  KMES_ORIGIN = 26,         /* u8 */
  KMES_EFFECTIVE_GUID = 27, /* 16 bytes each */
  KMES_TRUE_GUID = 43,
  KMES_PROCESS_GUID = 59,
  KMES_TYPE_LEN = 75, /* u16 */
  KMES_TYPE = 77,
  KMES_FIXED_HEADER = 77,
  KMES_GUID_BYTES = 16,
};

/* Ring file and mapping. */
enum {
  RING_PAGE = 4096,
  RING_DATA_OFFSET = 8192,
  RING_VERSION = 1,
  RING_MIN_CAPACITY = 65536,
  RING_MAX_CAPACITY = 268435456,
};

/* Producer page. */
enum {
  RING_MAGIC = 0,
  RING_VERSION_AT = 8,
  RING_CPU_ID = 12,
  RING_CAPACITY = 16,
  RING_DATA_OFFSET_AT = 24,
  RING_GENERATION = 32,
  RING_WRITE_POS = 64,
  RING_TAIL_POS = 72,
  RING_FUTEX = 128,
  /* Private to the embedded producer; a kernel ring leaves it zero. */
  RING_PRODUCER_STATE = 1024,
  /* Consumer page. */
  RING_NEED_WAKE = 4096,
};

/* "KMESRING", compared byte by byte (KMES-8). */
#define RING_MAGIC_BYTES "\x4b\x4d\x45\x53\x52\x49\x4e\x47"
#define RING_MAGIC_LEN 8

/*
 * Gap entry of a segment: a run of sequences that were lost. `GAP_MARKER` stands where an event
 * has its header size, a value no event can have.
 */
enum {
  GAP_ENTRY_SIZE = 0,   /* u32, = GAP_ENTRY_BYTES */
  GAP_MARKER_AT = 4,    /* u32, = GAP_MARKER */
  GAP_CPU = 8,          /* u16 */
  GAP_FLAGS = 10,       /* u16, GAP_HAS_* */
  GAP_CAUSE = 12,       /* u32, enum gap_cause */
  GAP_FIRST = 16,       /* u64 first missing sequence */
  GAP_LAST = 24,        /* u64 last missing sequence */
  GAP_PREVIOUS_TS = 32, /* u64 header timestamp before the gap */
  GAP_REVEALING_TS = 40,
  GAP_DETECTED_AT = 48, /* u64 CLOCK_REALTIME ns */
  GAP_ENTRY_BYTES = 56,
};

#define GAP_MARKER 0xffffffffu

enum { GAP_HAS_PREVIOUS = 1, GAP_HAS_REVEALING = 2 };

enum gap_cause { GAP_RING_LOSS = 0, GAP_RESTART = 1 };

static inline uint16_t read_u16(const uint8_t *at) {
  uint16_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static inline uint32_t read_u32(const uint8_t *at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static inline uint64_t read_u64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static inline void write_u16(uint8_t *at, uint16_t value) { memcpy(at, &value, sizeof value); }
static inline void write_u32(uint8_t *at, uint32_t value) { memcpy(at, &value, sizeof value); }
static inline void write_u64(uint8_t *at, uint64_t value) { memcpy(at, &value, sizeof value); }

/* Total bytes of the entry at `entry`, event or gap. */
static inline uint32_t entry_size(const uint8_t *entry) { return read_u32(entry); }

static inline bool entry_is_gap(const uint8_t *entry) {
  return read_u32(entry + GAP_MARKER_AT) == GAP_MARKER;
}

static inline uint16_t entry_cpu(const uint8_t *entry) {
  return read_u16(entry + (entry_is_gap(entry) ? (int)GAP_CPU : (int)KMES_CPU_ID));
}

/* First and last sequence an entry accounts for. */
static inline uint64_t entry_first(const uint8_t *entry) {
  return read_u64(entry + (entry_is_gap(entry) ? (int)GAP_FIRST : (int)KMES_SEQUENCE));
}

static inline uint64_t entry_last(const uint8_t *entry) {
  return read_u64(entry + (entry_is_gap(entry) ? (int)GAP_LAST : (int)KMES_SEQUENCE));
}

#endif
