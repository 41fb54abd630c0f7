/*
 * Any bytes as what is granted, and any bytes behind it as record and as payload: what is shown is exactly
 * what a plain recursive reading of the rules gives, cutting it again changes nothing, and who is granted
 * all paths of a payload sees all of them.
 */
#include <stdlib.h>

#include "../shown.h"

enum { MAX_LEVELS = 64, MAX_IDENTIFIERS = 4, MAX_PATHS_BYTES = 256 << 10 };

static void must(bool condition) {
  if (!condition) abort();
}

/* The entry of a spec that is being looked at: its names as they stand in the spec. */
struct grant {
  const uint8_t *names;
  const uint8_t *end;
  uint32_t count;
};

static bool is_granted(const struct grant *grant, const struct msgpack_writer *path) {
  const uint8_t *p = grant->names;
  for (uint32_t i = 0; i < grant->count; i++) {
    struct msgpack_item name;
    p = msgpack_read(p, grant->end, &name);
    if (name.length == path->length && (name.length == 0 || memcmp(name.data, path->bytes, name.length) == 0)) {
      return true;
    }
  }
  return false;
}

/* Appends what is shown of a well-formed map and returns the number of its pairs. */
static uint32_t model(const struct grant *grant, struct msgpack_slice map, struct msgpack_writer *path,
                      int level, bool granted, struct msgpack_writer *out) {
  struct msgpack_writer body = {0};
  struct msgpack_item head;
  uint32_t kept = 0;
  size_t before = path->length;
  const uint8_t *p = msgpack_read(map.start, map.end, &head);
  for (uint32_t i = 0; i < head.length; i++) {
    struct msgpack_item key;
    struct msgpack_item value;
    const uint8_t *start = p;
    const uint8_t *name_end = msgpack_skip(p, map.end);
    const uint8_t *end = msgpack_skip(name_end, map.end);
    msgpack_read(p, map.end, &key);
    msgpack_read(name_end, map.end, &value);
    p = end;
    bool shows = granted;
    if (key.kind == MSGPACK_STR) {
      if (level > 1) msgpack_write_raw(path, ".", 1);
      msgpack_write_raw(path, key.data, key.length);
      shows = is_granted(grant, path);
      if (value.kind == MSGPACK_MAP && value.length > 0) {
        struct msgpack_writer inner = {0};
        if (level < MAX_LEVELS &&
            model(grant, (struct msgpack_slice){name_end, end}, path, level + 1, shows, &inner) > 0) {
          msgpack_write_raw(&body, start, (size_t)(name_end - start));
          msgpack_write_raw(&body, inner.bytes, inner.length);
          kept++;
        }
        msgpack_writer_free(&inner);
        shows = false;
      }
      path->length = before;
    }
    if (!shows) continue;
    msgpack_write_raw(&body, start, (size_t)(end - start));
    kept++;
  }
  msgpack_write_map(out, kept);
  msgpack_write_raw(out, body.bytes, body.length);
  msgpack_writer_free(&body);
  return kept;
}

static void cut(struct shown *shown, const struct msgpack_item *identifier, struct msgpack_slice record,
                struct msgpack_writer *out) {
  size_t size = (size_t)(record.end - record.start);
  *out = (struct msgpack_writer){.bytes = malloc(size + 1), .length = size + 1, .capacity = size + 1};
  must(out->bytes != NULL);
  out->bytes[0] = 0xc1;
  if (size > 0) memcpy(out->bytes + 1, record.start, size);
  shown_cut(shown, identifier->data, identifier->length, out, 1);
  must(!out->failed && out->length <= size + 1 && out->bytes[0] == 0xc1);
}

static bool same(const struct msgpack_writer *cut, const struct msgpack_writer *expected) {
  return cut->length == expected->length + 1 && memcmp(cut->bytes + 1, expected->bytes, expected->length) == 0;
}

static void check_cut(struct shown *shown, const struct grant *grant, const struct msgpack_item *identifier,
                      struct msgpack_slice record) {
  struct msgpack_writer shows;
  struct msgpack_writer again;
  struct msgpack_writer path = {0};
  struct msgpack_writer expected = {0};
  cut(shown, identifier, record, &shows);
  struct msgpack_slice cut_once = {shows.bytes + 1, shows.bytes + shows.length};
  must(msgpack_skip(cut_once.start, cut_once.end) == cut_once.end);
  const uint8_t *end = msgpack_skip(record.start, record.end);
  struct msgpack_item head;
  if (end != NULL && msgpack_read(record.start, end, &head) != NULL && head.kind == MSGPACK_MAP) {
    model(grant, (struct msgpack_slice){record.start, end}, &path, 1, false, &expected);
  } else {
    msgpack_write_map(&expected, 0);
  }
  must(same(&shows, &expected));
  cut(shown, identifier, cut_once, &again);
  must(same(&again, &expected));
  msgpack_writer_free(&shows);
  msgpack_writer_free(&again);
  msgpack_writer_free(&path);
  msgpack_writer_free(&expected);
}

static bool is_lower(const struct msgpack_item *text) {
  for (uint32_t i = 0; i < text->length; i++) {
    if (text->data[i] >= 'A' && text->data[i] <= 'Z') return false;
  }
  return true;
}

/* Entries that name the identifier: which one counts is not told where there are more. */
static unsigned times_named(struct msgpack_slice spec, const struct msgpack_item *identifier) {
  struct msgpack_item list;
  unsigned times = 0;
  const uint8_t *p = msgpack_read(spec.start, spec.end, &list);
  for (uint32_t i = 0; i < list.length; i++) {
    struct msgpack_item entry;
    p = msgpack_read(p, spec.end, &entry);
    p = msgpack_skip(p, spec.end);
    for (uint32_t j = 1; j < entry.length; j++) {
      struct msgpack_item name;
      p = msgpack_read(p, spec.end, &name);
      times += name.length == identifier->length && memcmp(name.data, identifier->data, name.length) == 0;
    }
  }
  return times;
}

static void check_spec(struct shown *shown, struct msgpack_slice spec, struct msgpack_slice record) {
  struct msgpack_item list;
  unsigned checked = 0;
  const uint8_t *p = msgpack_read(spec.start, spec.end, &list);
  for (uint32_t i = 0; i < list.length && checked < MAX_IDENTIFIERS; i++) {
    struct msgpack_item entry;
    struct msgpack_item names;
    p = msgpack_read(p, spec.end, &entry);
    const uint8_t *first = msgpack_read(p, spec.end, &names);
    p = msgpack_skip(p, spec.end);
    for (uint32_t j = 1; j < entry.length; j++) {
      struct msgpack_item identifier;
      p = msgpack_read(p, spec.end, &identifier);
      if (names.kind != MSGPACK_ARRAY || checked == MAX_IDENTIFIERS) continue;
      if (!is_lower(&identifier) || times_named(spec, &identifier) > 1) continue;
      if (record.start == record.end) continue;
      check_cut(shown, &(struct grant){first, spec.end, names.length}, &identifier, record);
      checked++;
    }
  }
}

/* A spec that grants the paths to `t`; false where one is as deep as can be told. */
static bool grant_all(const struct msgpack_writer *paths, struct msgpack_writer *spec) {
  struct msgpack_item list;
  const uint8_t *end = paths->bytes + paths->length;
  const uint8_t *p = msgpack_read(paths->bytes, end, &list);
  struct msgpack_writer name = {0};
  bool told = true;
  msgpack_write_raw(spec, "\x91\x92", 2);
  msgpack_write_array(spec, list.length);
  for (uint32_t i = 0; i < list.length; i++) {
    struct msgpack_item path;
    p = msgpack_read(p, end, &path);
    told &= path.length < MAX_LEVELS;
    name.length = 0;
    for (uint32_t j = 0; j < path.length; j++) {
      struct msgpack_item segment;
      p = msgpack_read(p, end, &segment);
      if (j > 0) msgpack_write_raw(&name, ".", 1);
      msgpack_write_raw(&name, segment.data, segment.length);
    }
    msgpack_write_str(spec, name.bytes, (uint32_t)name.length);
  }
  msgpack_write_raw(spec, "\xa1t", 2);
  msgpack_writer_free(&name);
  return told;
}

static void check_paths(const uint8_t *payload, size_t size) {
  struct msgpack_writer paths = {0};
  shown_paths(&paths, payload, size);
  must(!paths.failed && msgpack_valid(paths.bytes, paths.length, 2));
  struct msgpack_writer spec = {0};
  bool malformed;
  if (grant_all(&paths, &spec) && paths.length < MAX_PATHS_BYTES && paths.length > 5) {
    struct shown *all = shown_new(spec.bytes, spec.length, &malformed);
    must(all != NULL);
    struct msgpack_writer record = {0};
    struct msgpack_writer shows;
    struct msgpack_writer left = {0};
    msgpack_write_repaired(&record, (struct msgpack_slice){payload, payload + size});
    struct msgpack_item t = {.data = (const uint8_t *)"t", .length = 1};
    cut(all, &t, (struct msgpack_slice){record.bytes, record.bytes + record.length}, &shows);
    shown_paths(&left, shows.bytes + 1, shows.length - 1);
    must(left.length == paths.length && memcmp(left.bytes, paths.bytes, left.length) == 0);
    msgpack_writer_free(&record);
    msgpack_writer_free(&shows);
    msgpack_writer_free(&left);
    shown_free(all);
  }
  msgpack_writer_free(&paths);
  msgpack_writer_free(&spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const uint8_t *end = msgpack_skip(data, data + size);
  struct msgpack_slice spec = {data, end == NULL ? data + size : end};
  size_t rest = (size_t)(data + size - spec.end);
  bool malformed;
  struct shown *shown = shown_new(spec.start, (size_t)(spec.end - spec.start), &malformed);
  must((shown == NULL) == malformed);
  if (shown != NULL) check_spec(shown, spec, (struct msgpack_slice){spec.end, data + size});
  shown_free(shown);
  check_paths(spec.end, rest);
  check_paths(data, size);
  return 0;
}
