#include "ring_read.h"

#include <stdatomic.h>
#include <string.h>

#include "kmes_format.h"
#include "ring_bytes.h"
#include "ring_map.h"

void ring_reader_start(struct ring_reader *reader, const uint8_t *page, const uint8_t *data,
                       uint64_t capacity, uint16_t cpu) {
  *reader = (struct ring_reader){
      .page = page,
      .data = data,
      .capacity = capacity,
      .read_pos = ring_load(page, RING_TAIL_POS),
      .cpu = cpu,
  };
}

uint32_t ring_event_size(const uint8_t *bytes, uint64_t available, uint16_t cpu) {
  if (available < KMES_FIXED_HEADER) return 0;
  uint32_t size = read_u32(bytes + KMES_EVENT_SIZE);
  uint32_t header = read_u32(bytes + KMES_HEADER_SIZE);
  if (size < KMES_FIXED_HEADER || size > available) return 0;
  if (header < KMES_FIXED_HEADER || header > size) return 0;
  if (header - KMES_FIXED_HEADER < read_u16(bytes + KMES_TYPE_LEN)) return 0;
  if (read_u16(bytes + KMES_CPU_ID) != cpu) return 0;
  /* SQLite stores sequences as signed 64-bit numbers; 0 is never assigned (KMES-32). */
  uint64_t sequence = read_u64(bytes + KMES_SEQUENCE);
  return sequence >= 1 && sequence <= INT64_MAX ? size : 0;
}

enum ring_state ring_next(struct ring_reader *reader, uint64_t limit, struct ring_event *event) {
  uint64_t write_pos = ring_load(reader->page, RING_WRITE_POS);
  /* >=, not ==: within a batch the tail may run ahead of the published position. */
  if (reader->read_pos >= write_pos || reader->read_pos >= limit) return RING_EMPTY;
  uint64_t tail = ring_load(reader->page, RING_TAIL_POS);
  if (reader->read_pos < tail) {
    event->from = reader->read_pos;
    event->to = reader->read_pos = tail;
    return RING_LAPPED;
  }
  uint64_t available = write_pos - reader->read_pos;
  if (available > reader->capacity) available = reader->capacity;

  /* A private copy of the fixed header: the producer may change the original at any time. */
  uint8_t header[KMES_FIXED_HEADER];
  const uint8_t *at = reader->data + (reader->read_pos & (reader->capacity - 1));
  if (available >= sizeof header) ring_bytes_out(header, at, sizeof header);
  uint32_t size = ring_event_size(header, available, reader->cpu);
  if (size != 0) {
    event->size = size;
    event->available = available;
    return RING_READY;
  }

  /* Tear check before the verdict: an insane size under a moved tail is only a tear. */
  ring_fence_acquire();
  tail = ring_load(reader->page, RING_TAIL_POS);
  event->from = reader->read_pos;
  if (tail > reader->read_pos) {
    event->to = reader->read_pos = tail;
    return RING_LAPPED;
  }
  /* The tail is not ahead, and going back would repeat events: the write position is the only
   * other event boundary known. The sequence gap will record the loss. */
  write_pos = ring_load(reader->page, RING_WRITE_POS);
  if (write_pos > reader->read_pos) reader->read_pos = write_pos;
  event->to = reader->read_pos;
  return RING_CORRUPT;
}

bool ring_copy(const struct ring_reader *reader, uint8_t *to, size_t length) {
  const uint8_t *at = reader->data + (reader->read_pos & (reader->capacity - 1));
  ring_bytes_out(to, at, length);
  /* An acquire load of the tail would not keep the data reads above from sinking below it. */
  ring_fence_acquire();
  return ring_load(reader->page, RING_TAIL_POS) <= reader->read_pos;
}

double ring_fill(const struct ring_reader *reader) {
  uint64_t write_pos = ring_load(reader->page, RING_WRITE_POS);
  if (write_pos <= reader->read_pos) return 0;
  uint64_t unread = write_pos - reader->read_pos;
  return unread >= reader->capacity ? 1 : (double)unread / (double)reader->capacity;
}
