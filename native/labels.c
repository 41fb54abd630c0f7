#include "labels.h"

#include <string.h>

#include "utf8.h"

uint64_t fnv1a64(uint64_t hash, const void *bytes, size_t n) {
  const uint8_t *p = bytes;
  for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
  return hash;
}

uint64_t boundary_hash(uint64_t hash, double boundary) {
  /* Equal to both zeros; every other value is untouched. */
  if (boundary == 0) boundary = 0;
  uint64_t bits;
  memcpy(&bits, &boundary, sizeof bits);
  for (unsigned shift = 0; shift < 64; shift += 8) {
    uint8_t byte = (uint8_t)(bits >> shift);
    hash = fnv1a64(hash, &byte, 1);
  }
  return hash;
}

/* One pass, because most text is short and ASCII: calls would cost more than the bytes. */
bool label_valid(const uint8_t *text, size_t n) {
  uint8_t seen = 0;
  for (size_t i = 0; i < n; i++) {
    if (text[i] == '=' || text[i] == ',') return false;
    seen |= text[i];
  }
  return n > 0 && (seen < 0x80 || utf8_valid(text, n));
}

static int compare_keys(const struct label *a, const struct label *b) {
  uint32_t common = a->key_length < b->key_length ? a->key_length : b->key_length;
  int order = memcmp(a->key, b->key, common);
  if (order != 0) return order;
  return a->key_length < b->key_length ? -1 : a->key_length > b->key_length;
}

static bool before(const struct label *a, const struct label *b) { return compare_keys(a, b) < 0; }

/* Few labels, often sorted already: the usual case. Stable. */
static void insertion_sort(struct label *labels, size_t count) {
  for (size_t i = 1; i < count; i++) {
    struct label moving = labels[i];
    size_t at = i;
    for (; at > 0 && before(&moving, &labels[at - 1]); at--) labels[at] = labels[at - 1];
    labels[at] = moving;
  }
}

/* Equal keys are told apart by where they lie: a later one has the higher address. */
static bool heap_before(const struct label *a, const struct label *b) {
  int order = compare_keys(a, b);
  return order != 0 ? order < 0 : a->key < b->key;
}

static void sift_down(struct label *labels, size_t root, size_t count) {
  for (size_t child; (child = root * 2 + 1) < count; root = child) {
    if (child + 1 < count && heap_before(&labels[child], &labels[child + 1])) child++;
    if (!heap_before(&labels[root], &labels[child])) return;
    struct label swapped = labels[root];
    labels[root] = labels[child];
    labels[child] = swapped;
  }
}

/* A datagram has room for tens of thousands of labels: never quadratic, no memory of its own. */
static void heap_sort(struct label *labels, size_t count) {
  for (size_t root = count / 2; root-- > 0;) sift_down(labels, root, count);
  for (size_t left = count; left-- > 1;) {
    struct label largest = labels[0];
    labels[0] = labels[left];
    labels[left] = largest;
    sift_down(labels, 0, left);
  }
}

enum { FEW_LABELS = 24 };

size_t labels_sort(struct label *labels, size_t count) {
  if (count <= FEW_LABELS) {
    insertion_sort(labels, count);
  } else {
    heap_sort(labels, count);
  }
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    if (kept > 0 && compare_keys(&labels[kept - 1], &labels[i]) == 0) continue;
    labels[kept++] = labels[i];
  }
  return kept;
}

size_t labels_size(const struct label *labels, size_t count) {
  size_t size = count > 0 ? count - 1 : 0;
  for (size_t i = 0; i < count; i++) size += (size_t)labels[i].key_length + 1 + labels[i].value_length;
  return size;
}

uint8_t *labels_write(uint8_t *out, const struct label *labels, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (i > 0) *out++ = ',';
    memcpy(out, labels[i].key, labels[i].key_length);
    out += labels[i].key_length;
    *out++ = '=';
    memcpy(out, labels[i].value, labels[i].value_length);
    out += labels[i].value_length;
  }
  return out;
}
