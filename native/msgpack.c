#include "msgpack.h"

#include "utf8.h"

static uint16_t big16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t big32(const uint8_t *p) {
  uint32_t value;
  memcpy(&value, p, 4);
  return __builtin_bswap32(value);
}

static uint64_t big64(const uint8_t *p) {
  uint64_t value;
  memcpy(&value, p, 8);
  return __builtin_bswap64(value);
}

/* Bytes a head of 0xc0..0xdf has after its first byte; 0xc1 is handled apart. */
static const uint8_t head_bytes[32] = {
    0, 0, 0, 0, 1, 2, 4, 2, 3, 5, 4, 8, 1, 2, 4, 8, /* c0..cf */
    1, 2, 4, 8, 2, 3, 5, 9, 17, 1, 2, 4, 2, 4, 2, 4, /* d0..df */
};

/*
 * Steps over one head and the contents of a str, bin or ext. `*members` gets the number of values
 * that must follow inside a container, `*text` the start of a string's contents or NULL.
 */
static inline const uint8_t *step(const uint8_t *p, const uint8_t *end, uint64_t *members, const uint8_t **text) {
  *members = 0;
  *text = NULL;
  if (p >= end) return NULL;
  uint8_t c = *p++;
  size_t left = (size_t)(end - p);
  if (c < 0x80 || c >= 0xe0) return p;
  size_t contents = 0;
  if (c < 0xc0) {
    if (c < 0x90) {
      *members = (uint64_t)(c & 0x0f) * 2;
      return p;
    }
    if (c < 0xa0) {
      *members = c & 0x0f;
      return p;
    }
    contents = c & 0x1f;
    if (contents > left) return NULL;
    *text = p;
    return p + contents;
  }
  if (c == 0xc1) return NULL;
  size_t head = head_bytes[c - 0xc0];
  if (head > left) return NULL;
  const uint8_t *after = p + head;
  left -= head;
  switch (c) {
    case 0xc4: case 0xc7: case 0xd9: contents = p[0]; break;
    case 0xc5: case 0xc8: case 0xda: contents = big16(p); break;
    case 0xc6: case 0xc9: case 0xdb: contents = big32(p); break;
    case 0xdc: *members = big16(p); return after;
    case 0xdd: *members = big32(p); return after;
    case 0xde: *members = (uint64_t)big16(p) * 2; return after;
    case 0xdf: *members = (uint64_t)big32(p) * 2; return after;
    default: return after;
  }
  if (contents > left) return NULL;
  if (c >= 0xd9) *text = after;
  return after + contents;
}

const uint8_t *msgpack_scan(const uint8_t *p, const uint8_t *end, bool *utf8) {
  /* Only the number of values still due matters, so nesting needs no stack. */
  uint64_t due = 1;
  while (due > 0) {
    uint64_t members;
    const uint8_t *text;
    p = step(p, end, &members, &text);
    if (p == NULL) return NULL;
    if (utf8 != NULL && text != NULL && *utf8 && !utf8_valid(text, (size_t)(p - text))) *utf8 = false;
    due += members - 1;
    /* Every value needs a byte: refuses absurd counts at once and keeps `due` from overflowing. */
    if (due > (uint64_t)(end - p)) return NULL;
  }
  return p;
}

bool msgpack_valid(const uint8_t *bytes, size_t n, unsigned max_depth) {
  uint64_t due[MSGPACK_DEPTH_LIMIT + 1];
  if (max_depth > MSGPACK_DEPTH_LIMIT) max_depth = MSGPACK_DEPTH_LIMIT;
  const uint8_t *p = bytes;
  const uint8_t *end = bytes + n;
  unsigned depth = 0;
  due[0] = 1;
  for (;;) {
    while (due[depth] == 0) {
      if (depth == 0) return p == end;
      depth--;
    }
    due[depth]--;
    bool container = p < end && ((*p >= 0x80 && *p < 0xa0) || (*p >= 0xdc && *p < 0xe0));
    uint64_t members;
    const uint8_t *text;
    p = step(p, end, &members, &text);
    if (p == NULL || members > (uint64_t)(end - p)) return false;
    if (container) {
      if (depth >= max_depth) return false;
      due[++depth] = members;
    }
  }
}

const uint8_t *msgpack_read(const uint8_t *p, const uint8_t *end, struct msgpack_item *item) {
  uint64_t members;
  const uint8_t *text;
  const uint8_t *after = step(p, end, &members, &text);
  if (after == NULL) return NULL;
  *item = (struct msgpack_item){.kind = MSGPACK_NIL};
  uint8_t c = *p++;
  if (text != NULL) {
    item->kind = MSGPACK_STR;
    item->data = text;
    item->length = (uint32_t)(after - text);
    return after;
  }
  if (c < 0x80) {
    item->kind = MSGPACK_UINT;
    item->uint = c;
    return after;
  }
  if (c < 0x90 || c == 0xde || c == 0xdf) {
    item->kind = MSGPACK_MAP;
    item->length = (uint32_t)(members / 2);
    return after;
  }
  if (c < 0xa0 || c == 0xdc || c == 0xdd) {
    item->kind = MSGPACK_ARRAY;
    item->length = (uint32_t)members;
    return after;
  }
  if (c >= 0xe0) {
    item->kind = MSGPACK_SINT;
    item->sint = (int8_t)c;
    return after;
  }
  int64_t sint = 0;
  switch (c) {
    case 0xc0: return after;
    case 0xc2: case 0xc3:
      item->kind = MSGPACK_BOOL;
      item->boolean = c == 0xc3;
      return after;
    case 0xc4: case 0xc5: case 0xc6:
      item->kind = MSGPACK_BIN;
      item->data = p + head_bytes[c - 0xc0];
      item->length = (uint32_t)(after - item->data);
      return after;
    case 0xca: {
      uint32_t bits = big32(p);
      float value;
      memcpy(&value, &bits, 4);
      item->kind = MSGPACK_FLOAT32;
      item->real = value;
      return after;
    }
    case 0xcb: {
      uint64_t bits = big64(p);
      memcpy(&item->real, &bits, 8);
      item->kind = MSGPACK_FLOAT64;
      return after;
    }
    case 0xcc: item->kind = MSGPACK_UINT; item->uint = p[0]; return after;
    case 0xcd: item->kind = MSGPACK_UINT; item->uint = big16(p); return after;
    case 0xce: item->kind = MSGPACK_UINT; item->uint = big32(p); return after;
    case 0xcf: item->kind = MSGPACK_UINT; item->uint = big64(p); return after;
    case 0xd0: sint = (int8_t)p[0]; break;
    case 0xd1: sint = (int16_t)big16(p); break;
    case 0xd2: sint = (int32_t)big32(p); break;
    case 0xd3: sint = (int64_t)big64(p); break;
    default: /* the ext family: c7..c9, d4..d8 */
      item->kind = MSGPACK_EXT;
      item->data = c < 0xd0 ? p + head_bytes[c - 0xc0] : p + 1;
      item->length = (uint32_t)(after - item->data);
      return after;
  }
  if (sint < 0) {
    item->kind = MSGPACK_SINT;
    item->sint = sint;
  } else {
    item->kind = MSGPACK_UINT;
    item->uint = (uint64_t)sint;
  }
  return after;
}

bool msgpack_find_key(struct msgpack_slice map, const uint8_t *key, size_t length, struct msgpack_slice *value) {
  struct msgpack_item head;
  const uint8_t *p = msgpack_read(map.start, map.end, &head);
  if (p == NULL || head.kind != MSGPACK_MAP) return false;
  for (uint32_t pair = 0; pair < head.length; pair++) {
    struct msgpack_item name;
    const uint8_t *start = p;
    p = msgpack_read(p, map.end, &name);
    if (p == NULL) return false;
    bool match = name.kind == MSGPACK_STR && name.length == length && memcmp(name.data, key, length) == 0;
    if (name.kind == MSGPACK_ARRAY || name.kind == MSGPACK_MAP) p = msgpack_skip(start, map.end);
    if (p == NULL) return false;
    start = p;
    p = msgpack_skip(p, map.end);
    if (p == NULL) return false;
    if (match) {
      *value = (struct msgpack_slice){start, p};
      return true;
    }
  }
  return false;
}

bool msgpack_descend(struct msgpack_slice from, const struct msgpack_name *names, size_t count,
                     struct msgpack_slice *value) {
  for (size_t i = 0; i < count; i++) {
    if (!msgpack_find_key(from, names[i].bytes, names[i].length, &from)) return false;
  }
  *value = from;
  return count > 0;
}

bool msgpack_find_path(const uint8_t *bytes, size_t n, const struct msgpack_path *path,
                       struct msgpack_slice *value) {
  struct msgpack_item head;
  const uint8_t *end = bytes + n;
  const uint8_t *p = msgpack_read(bytes, end, &head);
  if (p == NULL || head.kind != MSGPACK_MAP || path->count == 0) return false;
  const struct msgpack_name *first = &path->names[0];
  struct msgpack_slice found = {NULL, NULL};
  /* One pass does both: it finds the first matching pair and checks everything behind it. */
  for (uint32_t pair = 0; pair < head.length; pair++) {
    uint64_t members;
    const uint8_t *text;
    const uint8_t *after = step(p, end, &members, &text);
    if (after == NULL) return false;
    bool match = text != NULL && found.start == NULL && (size_t)(after - text) == first->length &&
                 memcmp(text, first->bytes, first->length) == 0;
    p = members > 0 ? msgpack_skip(p, end) : after;
    if (p == NULL) return false;
    const uint8_t *start = p;
    p = msgpack_skip(p, end);
    if (p == NULL) return false;
    if (match) found = (struct msgpack_slice){start, p};
  }
  if (p != end || found.start == NULL) return false;
  if (path->count == 1) {
    *value = found;
    return true;
  }
  return msgpack_descend(found, path->names + 1, path->count - 1, value);
}
