#include "shown.h"

#include <stdlib.h>
#include <string.h>

/* Fields with more segments are nobody's (src/access/fieldLists.ts). */
#define MAX_LEVELS 64
/* What the paths of one payload may take: names repeat in the paths of their members. */
#define MAX_PATHS_BYTES (256u << 10)

struct name_set {
  struct msgpack_name *names;
  size_t count;
  bool everything;
};

struct identifier {
  struct msgpack_name name;
  const struct name_set *set;
};

struct shown {
  /* Names point into it. */
  uint8_t *spec;
  struct msgpack_name *names;
  struct name_set *sets;
  struct identifier *identifiers;
  size_t identifier_count;
  /* The dotted name of the pair being looked at. */
  struct msgpack_writer path;
};

void shown_free(struct shown *shown) {
  if (shown == NULL) return;
  free(shown->spec);
  free(shown->names);
  free(shown->sets);
  free(shown->identifiers);
  msgpack_writer_free(&shown->path);
  free(shown);
}

static int compare_names(const void *left, const void *right) {
  const struct msgpack_name *a = left;
  const struct msgpack_name *b = right;
  if (a->length != b->length) return a->length < b->length ? -1 : 1;
  /* A path that is empty may have no bytes at all. */
  return a->length == 0 ? 0 : memcmp(a->bytes, b->bytes, a->length);
}

static int compare_identifiers(const void *left, const void *right) {
  return compare_names(&((const struct identifier *)left)->name, &((const struct identifier *)right)->name);
}

/* ---- specs ---- */

struct reader {
  const uint8_t *at;
  const uint8_t *end;
};

static bool read_kind(struct reader *reader, enum msgpack_kind kind, struct msgpack_item *item) {
  reader->at = msgpack_read(reader->at, reader->end, item);
  return reader->at != NULL && item->kind == kind;
}

static bool read_name(struct reader *reader, struct msgpack_name *name) {
  struct msgpack_item item;
  if (!read_kind(reader, MSGPACK_STR, &item)) return false;
  *name = (struct msgpack_name){item.data, item.length};
  return true;
}

/* One `[names | nil, identifier...]`; takes its room from what is left of the arrays. */
static bool read_entry(struct reader *reader, struct shown *shown, struct name_set *set, size_t *names) {
  struct msgpack_item list;
  struct msgpack_item item;
  if (!read_kind(reader, MSGPACK_ARRAY, &list) || list.length == 0) return false;
  reader->at = msgpack_read(reader->at, reader->end, &item);
  if (reader->at == NULL || (item.kind != MSGPACK_NIL && item.kind != MSGPACK_ARRAY)) return false;
  *set = (struct name_set){shown->names + *names, 0, item.kind == MSGPACK_NIL};
  for (; !set->everything && set->count < item.length; set->count++) {
    if (!read_name(reader, &set->names[set->count])) return false;
  }
  *names += set->count;
  if (set->count > 0) qsort(set->names, set->count, sizeof *set->names, compare_names);
  for (uint32_t i = 1; i < list.length; i++) {
    struct identifier *identifier = &shown->identifiers[shown->identifier_count++];
    identifier->set = set;
    if (!read_name(reader, &identifier->name)) return false;
  }
  return true;
}

static bool read_spec(struct shown *shown, size_t length) {
  struct reader reader = {shown->spec, shown->spec + length};
  struct msgpack_item list;
  size_t names = 0;
  if (!read_kind(&reader, MSGPACK_ARRAY, &list)) return false;
  for (uint32_t i = 0; i < list.length; i++) {
    if (!read_entry(&reader, shown, &shown->sets[i], &names)) return false;
  }
  return true;
}

struct shown *shown_new(const uint8_t *spec, size_t length, bool *malformed) {
  *malformed = !msgpack_valid(spec, length, 3);
  if (*malformed) return NULL;
  struct shown *shown = calloc(1, sizeof *shown);
  if (shown == NULL) return NULL;
  /* Each name, set and identifier takes a byte of the spec at least. */
  shown->spec = malloc(length);
  shown->names = calloc(length, sizeof *shown->names);
  shown->sets = calloc(length, sizeof *shown->sets);
  shown->identifiers = calloc(length, sizeof *shown->identifiers);
  bool room = shown->spec != NULL && shown->names != NULL && shown->sets != NULL && shown->identifiers != NULL;
  if (room) {
    memcpy(shown->spec, spec, length);
    *malformed = !read_spec(shown, length);
  }
  if (!room || *malformed) {
    shown_free(shown);
    return NULL;
  }
  if (shown->identifier_count > 0) {
    qsort(shown->identifiers, shown->identifier_count, sizeof *shown->identifiers, compare_identifiers);
  }
  return shown;
}

/* ---- records ---- */

static uint8_t lower(uint8_t byte) {
  return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

/* Like compare_names, with the first in any case. */
static int compare_folded(const uint8_t *bytes, size_t length, const struct msgpack_name *name) {
  if (length != name->length) return length < name->length ? -1 : 1;
  for (size_t i = 0; i < length; i++) {
    if (lower(bytes[i]) != name->bytes[i]) return lower(bytes[i]) < name->bytes[i] ? -1 : 1;
  }
  return 0;
}

static const struct name_set *set_of(const struct shown *shown, const uint8_t *bytes, size_t length) {
  static const struct name_set nothing = {NULL, 0, false};
  size_t low = 0;
  for (size_t high = shown->identifier_count; low < high;) {
    size_t middle = low + (high - low) / 2;
    int order = compare_folded(bytes, length, &shown->identifiers[middle].name);
    if (order == 0) return shown->identifiers[middle].set;
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return &nothing;
}

static bool is_granted(const struct name_set *set, const struct msgpack_writer *path) {
  struct msgpack_name name = {path->bytes, path->length};
  return set->count > 0 && bsearch(&name, set->names, set->count, sizeof name, compare_names) != NULL;
}

/* A map being copied: its pairs still to read, those kept, where its key and its head were put. */
struct level {
  uint32_t left;
  uint32_t kept;
  bool granted;
  size_t path;
  uint8_t *key;
  uint8_t *head;
  uint8_t *body;
};

static size_t head_size(uint32_t pairs) {
  return pairs < 16 ? 1 : pairs < 65536 ? 3 : 5;
}

static void write_head(uint8_t *at, uint32_t pairs) {
  if (pairs < 16) {
    at[0] = (uint8_t)(0x80 | pairs);
  } else if (pairs < 65536) {
    uint16_t big = __builtin_bswap16((uint16_t)pairs);
    at[0] = 0xde;
    memcpy(at + 1, &big, sizeof big);
  } else {
    uint32_t big = __builtin_bswap32(pairs);
    at[0] = 0xdf;
    memcpy(at + 1, &big, sizeof big);
  }
}

/* Ends a map that ends at `out`; its head shrinks with the number of its pairs. Returns the new end. */
static uint8_t *close_map(const struct level *level, uint8_t *out) {
  size_t size = head_size(level->kept);
  size_t length = (size_t)(out - level->body);
  if (level->head + size != level->body) memmove(level->head + size, level->body, length);
  write_head(level->head, level->kept);
  return level->head + size + length;
}

static struct level open_map(uint8_t *key, uint8_t *head, uint32_t pairs, size_t path, bool granted) {
  return (struct level){pairs, 0, granted, path, key, head, head + head_size(pairs)};
}

static void append_segment(struct msgpack_writer *path, const struct msgpack_item *segment, bool is_first) {
  if (!is_first) msgpack_write_raw(path, ".", 1);
  msgpack_write_raw(path, segment->data, segment->length);
}

/* In place: what is written never overtakes what is read. Returns the end; NULL: not well-formed. */
static uint8_t *cut(const struct name_set *set, struct msgpack_writer *path, uint8_t *out, const uint8_t *end) {
  struct level levels[MAX_LEVELS];
  struct msgpack_item item;
  struct msgpack_item value;
  size_t depth = 0;
  const uint8_t *p = msgpack_read(out, end, &item);
  if (p == NULL || item.kind != MSGPACK_MAP) return NULL;
  levels[0] = open_map(out, out, item.length, 0, false);
  out = levels[0].body;
  path->length = 0;
  for (;;) {
    struct level *level = &levels[depth];
    if (level->left == 0) {
      out = close_map(level, out);
      path->length = level->path;
      if (depth == 0) return path->failed ? NULL : out;
      depth--;
      if (level->kept == 0) {
        out = level->key;
      } else {
        levels[depth].kept++;
      }
      continue;
    }
    level->left--;
    size_t before = path->length;
    const uint8_t *key = p;
    p = msgpack_read(key, end, &item);
    bool named = p != NULL && item.kind == MSGPACK_STR;
    if (!named) p = msgpack_skip(key, end);
    const uint8_t *body = p == NULL ? NULL : msgpack_read(p, end, &value);
    if (body == NULL) return NULL;
    if (named) append_segment(path, &item, depth == 0);
    /* A key that is no string has no name: it goes with its map. */
    bool granted = named ? is_granted(set, path) : level->granted;
    if (named && value.kind == MSGPACK_MAP && value.length > 0 && depth + 1 < MAX_LEVELS) {
      size_t length = (size_t)(p - key);
      memmove(out, key, length);
      levels[++depth] = open_map(out, out + length, value.length, before, granted);
      out = levels[depth].body;
      p = body;
      continue;
    }
    bool too_deep = named && value.kind == MSGPACK_MAP && value.length > 0;
    p = msgpack_skip(p, end);
    if (p == NULL) return NULL;
    if (granted && !too_deep) {
      memmove(out, key, (size_t)(p - key));
      out += p - key;
      level->kept++;
    }
    path->length = before;
  }
}

void shown_cut(struct shown *shown, const uint8_t *identifier, size_t length, struct msgpack_writer *writer,
               size_t start) {
  if (writer->failed || writer->length == start) return;
  const struct name_set *set = set_of(shown, identifier, length);
  if (set->everything) return;
  uint8_t *record = writer->bytes + start;
  uint8_t *end = cut(set, &shown->path, record, writer->bytes + writer->length);
  if (end == NULL) {
    *record = 0x80;
    end = record + 1;
    writer->failed |= shown->path.failed;
  }
  writer->length = (size_t)(end - writer->bytes);
}

/* ---- paths ---- */

struct map_level {
  uint32_t left;
  struct msgpack_name name;
};

static void write_path(struct msgpack_writer *writer, const struct map_level *levels, size_t depth,
                       const struct msgpack_item *last) {
  msgpack_write_array(writer, (uint32_t)depth + 1);
  for (size_t i = 1; i <= depth; i++) {
    msgpack_write_text(writer, levels[i].name.bytes, (uint32_t)levels[i].name.length);
  }
  msgpack_write_text(writer, last->data, last->length);
}

static uint32_t write_paths(struct msgpack_writer *writer, const uint8_t *p, const uint8_t *end, size_t limit) {
  struct map_level levels[MAX_LEVELS];
  struct msgpack_item item;
  struct msgpack_item value;
  size_t depth = 0;
  uint32_t count = 0;
  p = msgpack_read(p, end, &item);
  if (p == NULL || item.kind != MSGPACK_MAP) return 0;
  levels[0] = (struct map_level){item.length, {NULL, 0}};
  while (writer->length < limit && !writer->failed) {
    if (levels[depth].left == 0) {
      if (depth == 0) break;
      depth--;
      continue;
    }
    levels[depth].left--;
    const uint8_t *key = p;
    p = msgpack_read(key, end, &item);
    bool named = p != NULL && item.kind == MSGPACK_STR;
    if (!named) p = msgpack_skip(key, end);
    const uint8_t *body = p == NULL ? NULL : msgpack_read(p, end, &value);
    if (body == NULL) break;
    if (named && value.kind == MSGPACK_MAP && value.length > 0 && depth + 1 < MAX_LEVELS) {
      levels[++depth] = (struct map_level){value.length, {item.data, item.length}};
      p = body;
      continue;
    }
    p = msgpack_skip(p, end);
    if (p == NULL) break;
    if (!named) continue;
    write_path(writer, levels, depth, &item);
    count++;
  }
  return count;
}

void shown_paths(struct msgpack_writer *writer, const uint8_t *payload, size_t length) {
  size_t head = writer->length;
  msgpack_write_raw(writer, "\xdd\0\0\0\0", 5);
  /* A payload that is not well-formed to its last byte has no fields (QL-44). */
  uint32_t count = 0;
  if (msgpack_skip(payload, payload + length) == payload + length) {
    count = write_paths(writer, payload, payload + length, writer->length + MAX_PATHS_BYTES);
  }
  if (writer->failed) return;
  uint32_t big = __builtin_bswap32(count);
  memcpy(writer->bytes + head + 1, &big, sizeof big);
}
