/*
 * The strict decoder of one metric record: a map that a stranger sent (MET-17..27).
 *
 * Whatever the map holds, nothing is set aside by a declared length, nothing recurses, and the work
 * is linear in its bytes but for the sorting of labels.
 */
#ifndef EVENTD_METRIC_DECODE_H
#define EVENTD_METRIC_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datagrams.h"
#include "labels.h"
#include "msgpack.h"

/* As stored in `series.type` (MET-46). */
enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/*
 * The identity of a series as one byte string (MET-5): name, 0xff, canonical labels, and for a
 * histogram 0xff and the eight bytes of its boundaries hash. 0xff is no byte of UTF-8, so two keys
 * are the same bytes only when all parts are. Counter and gauge of one name and labels share theirs.
 */
struct series_key {
  const uint8_t *bytes;
  size_t length;
  uint32_t name_length;
  uint32_t labels_length;
  bool histogram;
  uint64_t boundaries_hash; /* 0 without histogram */
};

struct metric_record {
  enum metric_type type;
  int64_t timestamp;
  /* 0 for histograms (MET-48). */
  double value;
  /* In the decoder's memory, until its next record. */
  struct series_key key;
  /* The parts of a histogram, in the datagram; checked, first elements at `start`. */
  struct msgpack_slice boundaries;
  struct msgpack_slice counts;
  uint32_t buckets;
  uint64_t total_count;
  double sum;
};

/* Working memory, kept from record to record. All zero is ready for use. */
struct metric_decoder {
  struct label *labels;
  size_t label_room;
  uint8_t *key;
  size_t key_room;
};

void metric_decoder_free(struct metric_decoder *decoder);

enum metric_verdict { METRIC_VALID, METRIC_INVALID, METRIC_NO_MEMORY };

/* Reads one record. `*after` gets the byte behind the map, whatever the verdict. */
enum metric_verdict metric_decode(struct metric_decoder *decoder, const struct datagrams_map *map,
                                  struct metric_record *record, const uint8_t **after);

/* Bytes that metric_write_histogram needs at most. */
size_t metric_histogram_bound(const struct metric_record *record);

/* Appends what `samples.histogram_data` holds (MET-39). */
void metric_write_histogram(struct msgpack_writer *writer, const struct metric_record *record);

#endif
