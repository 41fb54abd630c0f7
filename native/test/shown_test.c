/* What a reader may see of finished records. Paths of payloads and the SQL: shown_paths_test.c. */
#include "../shown.h"

#include "expect.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static struct shown *spec(const uint8_t *bytes, size_t n) {
  bool malformed;
  uint8_t *copy = exact_copy(bytes, n);
  struct shown *shown = shown_new(copy, n, &malformed);
  EXPECT((shown == NULL) == malformed);
  /* Nothing of it is needed any more. */
  free(copy);
  return shown;
}

/* What shows the names, which spaces part, to the identifier "t". An empty name is written `""`. */
static struct shown *granting(const char *names) {
  struct msgpack_writer list = {0};
  struct msgpack_writer all = {0};
  uint32_t count = 0;
  for (const char *at = names; *at != '\0';) {
    size_t length = strcspn(at, " ");
    bool is_empty = length == 2 && memcmp(at, "\"\"", 2) == 0;
    msgpack_write_str(&list, at, is_empty ? 0 : (uint32_t)length);
    count++;
    at += length + strspn(at + length, " ");
  }
  msgpack_write_raw(&all, "\x91\x92", 2);
  msgpack_write_array(&all, count);
  msgpack_write_raw(&all, list.bytes, list.length);
  msgpack_write_raw(&all, "\xa1t", 2);
  struct shown *shown = spec(all.bytes, all.length);
  msgpack_writer_free(&list);
  msgpack_writer_free(&all);
  return shown;
}

/* A record behind others in its buffer, which ends where the record does. */
static bool cuts(struct shown *shown, const char *identifier, const uint8_t *in, size_t in_size,
                 const uint8_t *out, size_t out_size) {
  static const uint8_t before[] = {0x81, 0xa1, 'x', 0xc0};
  size_t size = sizeof before + in_size;
  struct msgpack_writer writer = {.bytes = exact_copy(before, sizeof before), .capacity = size, .length = size};
  writer.bytes = realloc(writer.bytes, size);
  if (writer.bytes == NULL) abort();
  memcpy(writer.bytes + sizeof before, in, in_size);
  shown_cut(shown, (const uint8_t *)identifier, strlen(identifier), &writer, sizeof before);
  bool same = !writer.failed && writer.length == sizeof before + out_size &&
              memcmp(writer.bytes, before, sizeof before) == 0 &&
              memcmp(writer.bytes + sizeof before, out, out_size) == 0;
  msgpack_writer_free(&writer);
  return same;
}

#define CUTS(shown, in, out) cuts(shown, "t", BYTES(in), BYTES(out))

/* Cut to the granted names. */
static bool shows_bytes(const char *names, const uint8_t *in, size_t n, const uint8_t *out, size_t m) {
  struct shown *shown = granting(names);
  bool same = cuts(shown, "t", in, n, out, m);
  shown_free(shown);
  return same;
}

#define SHOWS(names, in, out) shows_bytes(names, BYTES(in), BYTES(out))

static void identifiers(void) {
  title("[ACL-29] each identifier shows its own names, in any case; nil shows all, who is not named nothing");
  /* [[nil, "all", "every.x"], [["a", "bb", "c"], "some", "s"], [[], "none"]] */
  struct shown *shown = spec(BYTES("\x93" "\x93\xc0\xa3" "all\xa7" "every.x"
                                   "\x93\x93\xa1" "c\xa2" "bb\xa1" "a\xa4" "some\xa1s" "\x92\x90\xa4" "none"));
#define RECORD "\x84\xa1" "a\x01\xa1" "b\x02\xa2" "bb\x03\xa1" "A\x04"
  EXPECT(cuts(shown, "all", BYTES(RECORD), BYTES(RECORD)));
  EXPECT(cuts(shown, "Every.X", BYTES(RECORD), BYTES(RECORD)));
  EXPECT(cuts(shown, "some", BYTES(RECORD), BYTES("\x82\xa1" "a\x01\xa2" "bb\x03")));
  EXPECT(cuts(shown, "S", BYTES(RECORD), BYTES("\x82\xa1" "a\x01\xa2" "bb\x03")));
  static const char *const strangers[] = {"none", "", "al", "alll", "every_x", "every.", "some\x01", "\xff"};
  for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
    EXPECT(cuts(shown, strangers[i], BYTES(RECORD), BYTES("\x80")));
  }
#undef RECORD
  shown_free(shown);
  struct shown *nobody = spec(BYTES("\x90"));
  EXPECT(CUTS(nobody, "\x81\xa1" "a\x01", "\x80"));
  shown_free(nobody);
  /* Only what folds is folded. */
  struct shown *signs = spec(BYTES("\x91\x92\xc0\xa2[{"));
  EXPECT(cuts(signs, "[{", BYTES("\x81\xa1" "a\x01"), BYTES("\x81\xa1" "a\x01")));
  EXPECT(cuts(signs, "{[", BYTES("\x81\xa1" "a\x01"), BYTES("\x80")));
  shown_free(signs);
  shown_free(NULL);
}

/* A head of a width that need not be the shortest; 0: the shortest. */
static void write_map_head(struct msgpack_writer *writer, uint32_t pairs, unsigned width) {
  uint8_t wide[5] = {0xdf, (uint8_t)(pairs >> 24), (uint8_t)(pairs >> 16), (uint8_t)(pairs >> 8), (uint8_t)pairs};
  if (width == 0) {
    msgpack_write_map(writer, pairs);
  } else if (width == 1) {
    msgpack_write_raw(writer, (uint8_t[]){(uint8_t)(0x80 | pairs)}, 1);
  } else if (width == 3) {
    msgpack_write_raw(writer, (uint8_t[]){0xde, wide[3], wide[4]}, 3);
  } else {
    msgpack_write_raw(writer, wide, 5);
  }
}

/* A map of hidden and of granted pairs, in turn. */
static void write_pairs(struct msgpack_writer *writer, uint32_t hidden, uint32_t kept, unsigned width) {
  write_map_head(writer, hidden + kept, width);
  for (uint32_t i = 0; i < hidden || i < kept; i++) {
    if (i < hidden) msgpack_write_raw(writer, "\xa2xy\xd9\x01v", 6);
    if (i < kept) msgpack_write_raw(writer, "\xa1g\x07", 3);
  }
}

/* Two such maps as members, each followed by a pair that moves with its end; without the maps if none. */
static void write_members(struct msgpack_writer *writer, uint32_t hidden, uint32_t kept, unsigned width, bool maps) {
  write_map_head(writer, maps ? 4 : 2, width);
  for (uint8_t i = 0; i < 2; i++) {
    if (maps) {
      msgpack_write_raw(writer, "\xa1m", 2);
      write_pairs(writer, hidden, kept, width);
    }
    msgpack_write_raw(writer, (uint8_t[]){0xa1, 'g', i}, 3);
  }
}

static void shrinks(struct shown *shown, uint32_t hidden, uint32_t kept, unsigned width) {
  struct msgpack_writer in = {0};
  struct msgpack_writer out = {0};
  write_pairs(&in, hidden, kept, width);
  write_pairs(&out, 0, kept, 0);
  EXPECT(cuts(shown, "t", in.bytes, in.length, out.bytes, out.length));
  in.length = out.length = 0;
  write_members(&in, hidden, kept, width, true);
  write_members(&out, 0, kept, 0, kept > 0);
  EXPECT(cuts(shown, "t", in.bytes, in.length, out.bytes, out.length));
  msgpack_writer_free(&in);
  msgpack_writer_free(&out);
}

static void heads(void) {
  title("[ACL-29] a map of every width gets the shortest head for what is left of it");
  static const uint32_t sizes[] = {0, 1, 2, 14, 15, 16, 17, 255, 256, 65534, 65535, 65536, 65550};
  static const uint32_t left[] = {0, 1, 15, 16, 65535, 65536};
  struct shown *shown = granting("m.g g");
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    for (size_t j = 0; j < sizeof left / sizeof *left && left[j] <= sizes[i]; j++) {
      uint32_t hidden = sizes[i] - left[j];
      if (sizes[i] < 16) shrinks(shown, hidden, left[j], 1);
      if (sizes[i] < 65536) shrinks(shown, hidden, left[j], 3);
      shrinks(shown, hidden, left[j], 5);
    }
  }
  shown_free(shown);
}

static void nested(void) {
  title("[ACL-23] members of maps go by their full path; a map of which nothing is left goes, too");
#define RECORD "\x82\xa1" "a\x83\xa1" "b\x82\xa1" "c\x01\xa1" "d\x02\xa1" "c\x03\xa1" "e\x80\xa1" "z\x81\xa1" "c\x04"
  EXPECT(SHOWS("a.b.c", RECORD, "\x81\xa1" "a\x81\xa1" "b\x81\xa1" "c\x01"));
  EXPECT(SHOWS("a.c z.c", RECORD, "\x82\xa1" "a\x81\xa1" "c\x03\xa1" "z\x81\xa1" "c\x04"));
  EXPECT(SHOWS("a.b.c a.b.d a.c a.e z.c", RECORD, RECORD));
  /* Nothing but leaves is granted: not what is below a granted map, not what is above. */
  EXPECT(SHOWS("a a.b z", RECORD, "\x80"));
  EXPECT(SHOWS("b b.c c d e a.b.c.d", RECORD, "\x80"));
  EXPECT(SHOWS("A.b.c a.B.c a.b.C", RECORD, "\x80"));
  /* An empty map is a leaf. */
  EXPECT(SHOWS("a.e", RECORD, "\x81\xa1" "a\x81\xa1" "e\x80"));
  EXPECT(SHOWS("a.e", "\x81\xa1" "a\x81\xa1" "e\xdf\0\0\0\0", "\x81\xa1" "a\x81\xa1" "e\xdf\0\0\0\0"));
  EXPECT(SHOWS("a.b a.c", RECORD, "\x81\xa1" "a\x81\xa1" "c\x03"));
#undef RECORD
  EXPECT(SHOWS("a.b.c", "\x80", "\x80"));
  EXPECT(SHOWS("", "\x81\xa1" "a\x01", "\x80"));
}

static void odd_names(void) {
  title("[ACL-22] names that come out equal share one verdict: duplicates, dots in keys, empty keys");
  EXPECT(SHOWS("a", "\x84\xa1" "a\x01\xa1" "b\x02\xa1" "a\x81\xa1" "b\x03\xa1" "a\x04",
               "\x82\xa1" "a\x01\xa1" "a\x04"));
  EXPECT(SHOWS("a.b", "\x83\xa3" "a.b\x01\xa1" "a\x81\xa1" "b\x02\xa1" "a\x03",
               "\x82\xa3" "a.b\x01\xa1" "a\x81\xa1" "b\x02"));
  EXPECT(SHOWS("a.b.c", "\x82\xa3" "a.b\x81\xa1" "c\x01\xa1" "a\x81\xa3" "b.c\x02",
               "\x82\xa3" "a.b\x81\xa1" "c\x01\xa1" "a\x81\xa3" "b.c\x02"));
#define DOTS "\x86\xa1" "a\x81\xa0\x01\xa0\x81\xa1" "a\x02\xa2" "a.\x03\xa2" ".a\x04\xa1.\x05\xa0\x81\xa0\x06"
  EXPECT(SHOWS("a. .a . ..", DOTS, DOTS));
#undef DOTS
  /* The empty name comes first and so is looked for before any other. */
  EXPECT(SHOWS("\"\"", "\x81\xa0\x01", "\x81\xa0\x01"));
  EXPECT(SHOWS("\"\" x", "\x83\xa0\x01\xa1y\x02\xa0\x81\xa0\x03", "\x81\xa0\x01"));
  EXPECT(SHOWS("x", "\x82\xa0\x01\xa1x\x02", "\x81\xa1x\x02"));
  /* How a key is written does not matter, and it is left as it was. */
#define WIDE "\x81\xdb\0\0\0\x01" "a\x81\xda\0\x01" "b\xd9\x01z"
  EXPECT(SHOWS("a.b", WIDE, WIDE));
#undef WIDE
  /* Names are bytes, NUL and invalid ones among them. */
  struct shown *shown = spec(BYTES("\x91\x92\x92\xa2" "a\0\xa1\xff\xa1t"));
  EXPECT(CUTS(shown, "\x84\xa1" "a\x01\xa2" "a\0\x02\xa2" "a\x01\x03\xa1\xff\x04", "\x82\xa2" "a\0\x02\xa1\xff\x04"));
  shown_free(shown);
}

static void values(void) {
  title("[ACL-23] arrays, ext and bin are leaves, whatever is in them; a key that is no string goes with its map");
  static const struct {
    const char *bytes;
    size_t n;
  } leaves[] = {
#define V(text) {text, sizeof(text) - 1}
      V("\x00"), V("\xff"), V("\xc0"), V("\xc2"), V("\xc3"), V("\x80"), V("\x90"), V("\xa0"), V("\xa3xyz"),
      V("\xde\0\0"), V("\xdf\0\0\0\0"), V("\x92\x81\xa1" "b\x01\x81\xa1g\x02"), V("\xdc\0\x01\x91\x81\xa1" "b\x01"),
      V("\xdd\0\0\0\x01\x01"), V("\xc4\x02zz"), V("\xc5\0\x02zz"), V("\xc6\0\0\0\x02zz"), V("\xc7\x02\x05zz"),
      V("\xc8\0\x02\x05zz"), V("\xc9\0\0\0\x02\x05zz"), V("\xd4\x01z"), V("\xd5\x01zz"), V("\xd6\x01zzzz"),
      V("\xd7\x01zzzzzzzz"), V("\xd8\x01zzzzzzzzzzzzzzzz"), V("\xd9\x02zz"), V("\xda\0\x02zz"), V("\xdb\0\0\0\x02zz"),
      V("\xca\0\0\0\0"), V("\xcb\0\0\0\0\0\0\0\0"), V("\xcc\x01"), V("\xcd\x01\x01"), V("\xce\x01\x01\x01\x01"),
      V("\xcf\x01\x01\x01\x01\x01\x01\x01\x01"), V("\xd0\x01"), V("\xd1\x01\x01"), V("\xd2\x01\x01\x01\x01"),
      V("\xd3\x01\x01\x01\x01\x01\x01\x01\x01"),
#undef V
  };
  struct shown *shown = granting("g a");
  for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
    struct msgpack_writer in = {0};
    struct msgpack_writer out = {0};
    /* Hidden, granted, and as the name itself where it is no string. */
    msgpack_write_raw(&in, "\x84\xa1h", 3);
    msgpack_write_raw(&in, leaves[i].bytes, leaves[i].n);
    msgpack_write_raw(&in, "\xa1g", 2);
    msgpack_write_raw(&in, leaves[i].bytes, leaves[i].n);
    msgpack_write_raw(&in, leaves[i].bytes, leaves[i].n);
    msgpack_write_raw(&in, "\x81\xa1g\x06\xa1" "a\x05", 7);
    msgpack_write_raw(&out, "\x82\xa1g", 3);
    msgpack_write_raw(&out, leaves[i].bytes, leaves[i].n);
    msgpack_write_raw(&out, "\xa1" "a\x05", 3);
    EXPECT(cuts(shown, "t", in.bytes, in.length, out.bytes, out.length));
    msgpack_writer_free(&in);
    msgpack_writer_free(&out);
  }
  /* 1 and [] as keys beside b, in a hidden map and in one that is granted as well as its member. */
#define MAP "\x83\x01\x02\xa1" "b\x03\x90\x81\xa1" "b\x04"
  EXPECT(CUTS(shown, "\x82\xa1x" MAP "\xa1" "a" MAP, "\x81\xa1" "a\x82\x01\x02\x90\x81\xa1" "b\x04"));
  EXPECT(SHOWS("a.b", "\x82\xa1x" MAP "\xa1" "a" MAP, "\x81\xa1" "a\x81\xa1" "b\x03"));
  EXPECT(SHOWS("a a.b", "\x81\xa1" "a" MAP, "\x81\xa1" "a" MAP));
  EXPECT(SHOWS("\"\" .b b", MAP, "\x81\xa1" "b\x03"));
#undef MAP
  shown_free(shown);
}

/* Maps in each other under the key `a`, `levels` of them, the innermost {a: 1}. */
static size_t write_deep(uint8_t *bytes, size_t levels) {
  for (size_t i = 0; i < levels; i++) memcpy(bytes + 3 * i, "\x81\xa1" "a", 3);
  bytes[3 * levels] = 1;
  return 3 * levels + 1;
}

static void deep_name(char *name, size_t segments) {
  for (size_t i = 0; i < segments; i++) memcpy(name + 2 * i, "a.", 2);
  name[2 * segments - 1] = '\0';
}

static void depth(void) {
  title("[ACL-23] fields of up to 64 segments are shown, deeper ones never, however deep it goes");
  static uint8_t record[1 << 20];
  static char names[4][400];
  static const size_t segments[] = {63, 64, 65, 66};
  for (size_t i = 0; i < 4; i++) {
    deep_name(names[i], segments[i]);
    size_t n = write_deep(record, segments[i]);
    if (segments[i] <= 64) {
      EXPECT(shows_bytes(names[i], record, n, record, n));
    } else {
      EXPECT(shows_bytes(names[i], record, n, BYTES("\x80")));
    }
  }
  /* A granted map that is too deep is not shown with all that is in it. */
  size_t n = write_deep(record, 65);
  EXPECT(shows_bytes(names[1], record, n, BYTES("\x80")));
  /* What follows at the top stays. */
  n = write_deep(record, 1000);
  record[0] = 0x82;
  memcpy(record + n, "\xa1z\x05", 3);
  char both[500];
  snprintf(both, sizeof both, "z %s", names[1]);
  EXPECT(shows_bytes(both, record, n + 3, BYTES("\x81\xa1z\x05")));
  /* Bombs of every kind: maps, cut short and whole, arrays, maps as keys, all of them granted. */
  n = write_deep(record, sizeof record / 3 - 1);
  EXPECT(SHOWS("a", "\x81\xa1" "a\x01", "\x81\xa1" "a\x01"));
  EXPECT(shows_bytes("a", record, n, BYTES("\x80")));
  EXPECT(shows_bytes("a", record, n - 1, BYTES("\x80")));
  memcpy(record, "\x81\xa1" "a", 3);
  memset(record + 3, 0x91, sizeof record - 3);
  EXPECT(shows_bytes("a", record, sizeof record, BYTES("\x80")));
  record[sizeof record - 1] = 0xc0;
  EXPECT(shows_bytes("a", record, sizeof record, record, sizeof record));
  memset(record, 0x81, sizeof record);
  EXPECT(shows_bytes("a", record, sizeof record, BYTES("\x80")));
}

static void malformed_records(void) {
  title("[ACL-29] of a record that is malformed, cut short or no map nothing is shown");
  static const char good[] =
      "\x86\xa1" "a\x82\xa1" "b\xd9\x02xy\xa1" "c\x92\x01\xc4\x01z\xa1g\xc7\x01\x05z\x90\xda\0\x01q"
      "\xa1n\xde\0\x01\xa1g\xcb" "12345678\xa2hh\xce" "1234\xa1g\xdf\0\0\0\x01\xa1z\xcd" "12";
  struct shown *shown = granting("a.b a.c g n.g g.z");
  size_t size = sizeof good - 1;
  EXPECT(msgpack_valid((const uint8_t *)good, size, 32));
  for (size_t n = 1; n < size; n++) EXPECT(cuts(shown, "t", (const uint8_t *)good, n, BYTES("\x80")));
  /* Nothing stays nothing; what follows a record goes. */
  EXPECT(cuts(shown, "t", BYTES(""), BYTES("")));
  EXPECT(CUTS(shown, "\x81\xa1g\x01\xa1h\x02", "\x81\xa1g\x01"));
  static const struct {
    const char *bytes;
    size_t n;
  } bad[] = {
#define V(text) {text, sizeof(text) - 1}
      V("\xc1"), V("\xc0"), V("\x01"), V("\xa1g"), V("\x91\x81\xa1g\x01"), V("\xc4\x01g"), V("\xde"), V("\xdf\0\0\0"),
      V("\x81\xa1g\xc1"), V("\x81\xc1\x01"), V("\x82\xa1g\x01\xc1\x01"), V("\x82\xa1g\x01\xa1h\xc1"),
      V("\x81\xa1g\xdf\xff\xff\xff\xff"), V("\xdf\xff\xff\xff\xff\xa1g\x01"), V("\x82\xa1g\x01\x91\xc1\x02"),
      V("\x82\xa1g\x01\xa1n\x81\xa1g"), V("\x82\xa1g\x01\xa1n\x81\xa1g\xc1"),
      V("\x82\xa1g\x01\xa1n\x81\xdd\xff\xff\xff\xff"),
      V("\x82\xa1g\x01\xdb\xff\xff\xff\xff" "abc"), V("\x82\xa1g\x01\xa1h\xc9\xff\xff\xff\xff\x01z"),
#undef V
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    EXPECT(cuts(shown, "t", (const uint8_t *)bad[i].bytes, bad[i].n, BYTES("\x80")));
  }
  /* It leaves nothing behind for the next record. */
  EXPECT(CUTS(shown, "\x82\xa1g\x01\xa1h\x02", "\x81\xa1g\x01"));
  struct msgpack_writer failed = {.failed = true};
  shown_cut(shown, (const uint8_t *)"t", 1, &failed, 0);
  EXPECT(failed.failed && failed.length == 0);
  shown_free(shown);
}

static void malformed_specs(void) {
  title("[ACL-29] what does not say who is shown what is refused");
  static const char good[] = "\x92\x93\x92\xa1" "a\xd9\x01" "b\xa1t\xa1u\xdc\0\x02\xc0\xa1v";
  size_t size = sizeof good - 1;
  struct shown *shown = spec((const uint8_t *)good, size);
  EXPECT(shown != NULL);
  shown_free(shown);
  for (size_t n = 0; n < size; n++) EXPECT(spec((const uint8_t *)good, n) == NULL);
  static const struct {
    const char *bytes;
    size_t n;
  } bad[] = {
#define V(text) {text, sizeof(text) - 1}
      V("\x90\xc0"), V("\xc0"), V("\x80"), V("\xa0"), V("\xc1"), V("\x91\xc0"), V("\x91\x80"), V("\x91\x90"),
      V("\x91\x92\xa1" "a\xa1t"), V("\x91\x92\xc2\xa1t"), V("\x91\x92\x80\xa1t"), V("\x91\x92\x91\x01\xa1t"),
      V("\x91\x92\x91\xc4\x01" "a\xa1t"), V("\x91\x92\x91\x91\xa1" "a\xa1t"), V("\x91\x92\xc0\x01"),
      V("\x91\x92\xc0\xc0"),
      V("\x91\x92\xc0\xc4\x01t"), V("\x91\x92\xc0\x90"), V("\xdd\xff\xff\xff\xff"), V("\x91\xdd\xff\xff\xff\xff\xc0"),
      V("\x91\x92\xdd\xff\xff\xff\xff\xa1" "a"),
#undef V
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) EXPECT(spec((const uint8_t *)bad[i].bytes, bad[i].n) == NULL);
  uint8_t deep[4096];
  memset(deep, 0x91, sizeof deep);
  EXPECT(spec(deep, sizeof deep) == NULL);
  /* An entry for nobody is none. */
  shown = spec(BYTES("\x91\x91\x91\xa1" "a"));
  EXPECT(shown != NULL && CUTS(shown, "\x81\xa1" "a\x01", "\x80"));
  shown_free(shown);
}

int main(void) {
  identifiers();
  heads();
  nested();
  odd_names();
  values();
  depth();
  malformed_records();
  malformed_specs();
  return expect_result();
}
