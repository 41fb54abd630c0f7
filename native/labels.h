/*
 * What identifies a series beside its name: canonical labels (MET-29), canonical bucket boundaries
 * (MET-30), and the hashes of both that the store keeps in columns (MET-31).
 */
#ifndef EVENTD_LABELS_H
#define EVENTD_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FNV1A64_START UINT64_C(0xcbf29ce484222325)

/* FNV-1a, 64 bits, of `n` more bytes behind those that gave `hash`; begin with FNV1A64_START. */
uint64_t fnv1a64(uint64_t hash, const void *bytes, size_t n);

/* The hash of one more boundary: its eight bytes, little-endian, -0 as +0 (MET-30). */
uint64_t boundary_hash(uint64_t hash, double boundary);

/* MET-3: a label key or value is UTF-8, not empty, and has neither '=' nor ','. */
bool label_valid(const uint8_t *text, size_t n);

/* One label; the bytes are somebody else's. */
struct label {
  const uint8_t *key;
  const uint8_t *value;
  uint32_t key_length;
  uint32_t value_length;
};

/*
 * Sorts by the bytes of the keys. Of labels with the same key the one that came first stays, as with
 * every duplicate key (LOG-17). Returns how many are left. No memory is needed.
 */
size_t labels_sort(struct label *labels, size_t count);

/* Bytes of the canonical text of sorted labels. */
size_t labels_size(const struct label *labels, size_t count);

/* Writes the canonical text, `key=value` joined by commas, and returns its end. */
uint8_t *labels_write(uint8_t *out, const struct label *labels, size_t count);

#endif
