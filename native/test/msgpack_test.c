#include "../msgpack.h"

#include "../utf8.h"
#include "expect.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

/* Every check runs on a copy of exact size. */
static bool valid(const uint8_t *bytes, size_t n, unsigned depth) {
  uint8_t *copy = exact_copy(bytes, n);
  bool result = msgpack_valid(copy, n, depth);
  const uint8_t *end = msgpack_skip(copy, copy + n);
  if (result) EXPECT(end == copy + n);
  free(copy);
  return result;
}

/* `depth` nested arrays around a nil. */
static bool nested(unsigned levels, unsigned depth) {
  uint8_t bytes[1024];
  memset(bytes, 0x91, levels);
  bytes[levels] = 0xc0;
  return valid(bytes, levels + 1, depth);
}

static void every_format(void) {
  title("[KMES-45] [KMES-47] every format is accepted whole and refused when cut short or followed by more");
  static const struct {
    const char *bytes;
    size_t n;
  } values[] = {
#define V(text) {text, sizeof(text) - 1}
      V("\x00"), V("\x7f"), V("\xe0"), V("\xff"), V("\x80"), V("\x90"), V("\xa0"), V("\xc0"), V("\xc2"), V("\xc3"),
      V("\x81\xa1k\x01"), V("\x92\x01\x02"), V("\xa3xyz"), V("\xc4\x02zz"), V("\xc5\x00\x02zz"),
      V("\xc6\x00\x00\x00\x02zz"), V("\xc7\x02\x05zz"), V("\xc8\x00\x02\x05zz"), V("\xc9\x00\x00\x00\x02\x05zz"),
      V("\xca\x00\x00\x00\x00"), V("\xcb\x00\x00\x00\x00\x00\x00\x00\x00"), V("\xcc\x01"), V("\xcd\x01\x01"),
      V("\xce\x01\x01\x01\x01"), V("\xcf\x01\x01\x01\x01\x01\x01\x01\x01"), V("\xd0\x01"), V("\xd1\x01\x01"),
      V("\xd2\x01\x01\x01\x01"), V("\xd3\x01\x01\x01\x01\x01\x01\x01\x01"), V("\xd4\x01z"), V("\xd5\x01zz"),
      V("\xd6\x01zzzz"), V("\xd7\x01zzzzzzzz"), V("\xd8\x01zzzzzzzzzzzzzzzz"), V("\xd9\x02zz"), V("\xda\x00\x02zz"),
      V("\xdb\x00\x00\x00\x02zz"), V("\xdc\x00\x01\x01"), V("\xdd\x00\x00\x00\x01\x01"), V("\xde\x00\x01\x01\x01"),
      V("\xdf\x00\x00\x00\x01\x01\x01"),
#undef V
  };
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    const uint8_t *bytes = (const uint8_t *)values[i].bytes;
    EXPECT(valid(bytes, values[i].n, 32));
    for (size_t cut = 0; cut < values[i].n; cut++) EXPECT(!valid(bytes, cut, 32));
    uint8_t longer[32];
    memcpy(longer, bytes, values[i].n);
    longer[values[i].n] = 0xc0;
    EXPECT(!valid(longer, values[i].n + 1, 32));
  }
  EXPECT(!valid(BYTES("\xc1"), 32));
  EXPECT(!valid(BYTES("\x92\x01\xc1"), 32));
}

static void depth(void) {
  title("[KMES-47] [KMES-148] the outermost container counts one, an empty one too; beyond the limit is refused");
  EXPECT(nested(32, 32));
  EXPECT(!nested(33, 32));
  EXPECT(nested(4, 4));
  EXPECT(!nested(5, 4));
  EXPECT(nested(256, 256));
  EXPECT(!nested(257, 256));
  EXPECT(!nested(257, 100000));
  EXPECT(valid(BYTES("\xc0"), 0));
  EXPECT(!valid(BYTES("\x90"), 0));
  EXPECT(valid(BYTES("\x91\x90"), 2));
  EXPECT(!valid(BYTES("\x91\x91\x80"), 2));
  EXPECT(valid(BYTES("\x93\x91\x01\x91\x02\x91\x03"), 2));
}

static void absurd_counts(void) {
  title("[KMES-47] counts beyond the bytes present are refused at once, without memory set aside");
  EXPECT(!valid(BYTES("\xdd\xff\xff\xff\xff"), 32));
  EXPECT(!valid(BYTES("\xdf\xff\xff\xff\xff\x01\x02"), 32));
  EXPECT(!valid(BYTES("\xdb\xff\xff\xff\xff" "abc"), 32));
  uint8_t many[5 * 4000];
  for (size_t i = 0; i < sizeof many; i += 5) memcpy(many + i, "\xdd\xff\xff\xff\xff", 5);
  EXPECT(!valid(many, sizeof many, 256));
  EXPECT(msgpack_skip(many, many + sizeof many) == NULL);
}

static void deep_skip(void) {
  title("[QX-30] skipping needs no stack: a hundred thousand levels are stepped over");
  size_t n = 100001;
  uint8_t *bytes = malloc(n);
  memset(bytes, 0x91, n);
  bytes[n - 1] = 0xc0;
  EXPECT(msgpack_skip(bytes, bytes + n) == bytes + n);
  EXPECT(msgpack_skip(bytes, bytes + n - 1) == NULL);
  free(bytes);
}

static struct msgpack_item read_one(const uint8_t *bytes, size_t n) {
  struct msgpack_item item;
  uint8_t *copy = exact_copy(bytes, n);
  EXPECT(msgpack_read(copy, copy + n, &item) == copy + n);
  free(copy);
  return item;
}

static void reading(void) {
  title("[IDX-34] numbers are read with sign and width; non-negative ones come out alike");
  EXPECT(read_one(BYTES("\xff")).sint == -1);
  EXPECT(read_one(BYTES("\xd0\x80")).sint == -128);
  EXPECT(read_one(BYTES("\xd1\xff\x00")).sint == -256);
  EXPECT(read_one(BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00")).sint == INT64_MIN);
  EXPECT(read_one(BYTES("\xd2\x00\x00\x00\x07")).kind == MSGPACK_UINT);
  EXPECT(read_one(BYTES("\xd2\x00\x00\x00\x07")).uint == 7);
  EXPECT(read_one(BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff")).uint == UINT64_MAX);
  EXPECT(read_one(BYTES("\xca\x3f\xc0\x00\x00")).real == 1.5);
  EXPECT(read_one(BYTES("\xcb\xc0\x04\x00\x00\x00\x00\x00\x00")).real == -2.5);
  EXPECT(read_one(BYTES("\xc3")).boolean);
  EXPECT(read_one(BYTES("\xc9\x00\x00\x00\x02\x05zz")).length == 2);
  EXPECT(read_one(BYTES("\xd5\x05zz")).kind == MSGPACK_EXT);
}

/* The number at a path, -1 when nothing is there. */
static long long at(const uint8_t *bytes, size_t n, size_t count, const char *first, const char *second) {
  struct msgpack_name names[2] = {{(const uint8_t *)first, strlen(first)},
                                  {(const uint8_t *)second, second == NULL ? 0 : strlen(second)}};
  struct msgpack_path path = {count, names};
  struct msgpack_slice value;
  struct msgpack_item item;
  uint8_t *copy = exact_copy(bytes, n);
  long long result = -1;
  if (msgpack_find_path(copy, n, &path, &value) && msgpack_read(value.start, value.end, &item) != NULL) {
    result = (long long)item.uint;
  }
  free(copy);
  return result;
}

static void paths(void) {
  title("[QL-41] [QL-44] paths follow string keys down nested maps, the first duplicate wins");
  EXPECT(at(BYTES("\x82\xa1" "a\x05\xa1" "b\x06"), 1, "b", NULL) == 6);
  EXPECT(at(BYTES("\x82\xa1" "a\x05\xa1" "a\x06"), 1, "a", NULL) == 5);
  EXPECT(at(BYTES("\x81\xa1" "a\x82\xa1" "b\x07\xa1" "b\x08"), 2, "a", "b") == 7);
  EXPECT(at(BYTES("\x82\x01\x05\xa1" "1\x06"), 1, "1", NULL) == 6);
  EXPECT(at(BYTES("\x82\xc4\x01" "a\x05\xa1" "a\x06"), 1, "a", NULL) == 6);
  EXPECT(at(BYTES("\x82\x91\xa1" "a\x05\xa1" "a\x06"), 1, "a", NULL) == 6);
  EXPECT(at(BYTES("\x81\xa1" "a\x91\x05"), 2, "a", "0") == -1);
  EXPECT(at(BYTES("\x81\xa1" "a\x05"), 2, "a", "b") == -1);
  EXPECT(at(BYTES("\x81\xa0\x05"), 1, "", NULL) == 5);
  title("[QL-44] a payload that is cut off, trailed or no map has no fields, even before the damage");
  EXPECT(at(BYTES("\x82\xa1" "a\x05\xa1" "b"), 1, "a", NULL) == -1);
  EXPECT(at(BYTES("\x82\xa1" "a\x05\xa1" "b\xc1"), 1, "a", NULL) == -1);
  EXPECT(at(BYTES("\x81\xa1" "a\x05\x00"), 1, "a", NULL) == -1);
  EXPECT(at(BYTES("\x92\xa1" "a\x05"), 1, "a", NULL) == -1);
  EXPECT(at(BYTES(""), 1, "a", NULL) == -1);
}

static void writing(void) {
  title("[WIRE-10] written values read back the same, in the smallest form, floats always as float64");
  static const int64_t integers[] = {0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, INT64_MAX,
                                     -1, -32, -33, -128, -129, -32768, -32769, -2147483648LL, -2147483649LL, INT64_MIN};
  static const size_t sizes[] = {1, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9};
  for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
    struct msgpack_writer writer = {0};
    msgpack_write_int(&writer, integers[i]);
    EXPECT(writer.length == sizes[i]);
    struct msgpack_item item = read_one(writer.bytes, writer.length);
    EXPECT((item.kind == MSGPACK_SINT ? item.sint : (int64_t)item.uint) == integers[i]);
    msgpack_writer_free(&writer);
  }
  struct msgpack_writer writer = {0};
  msgpack_write_double(&writer, 1.0);
  EXPECT(writer.length == 9 && writer.bytes[0] == 0xcb);
  EXPECT(read_one(writer.bytes, 9).real == 1.0);
  writer.length = 0;
  for (uint32_t n = 0; n < 70000; n += n < 300 ? 1 : 1777) {
    uint8_t *text = calloc(1, n + 1);
    memset(text, 'x', n);
    writer.length = 0;
    msgpack_write_str(&writer, text, n);
    struct msgpack_item item = read_one(writer.bytes, writer.length);
    EXPECT(item.kind == MSGPACK_STR && item.length == n);
    writer.length = 0;
    msgpack_write_bin(&writer, text, n);
    item = read_one(writer.bytes, writer.length);
    EXPECT(item.kind == MSGPACK_BIN && item.length == n);
    writer.length = 0;
    msgpack_write_map(&writer, n);
    item = read_one(writer.bytes, writer.length);
    EXPECT(item.kind == MSGPACK_MAP && item.length == n);
    free(text);
  }
  msgpack_writer_free(&writer);
}

static bool repairs(const char *from, size_t n, const char *to) {
  uint8_t *copy = exact_copy(from, n);
  uint8_t *out = malloc(UTF8_REPAIR_BOUND(n) + 1);
  size_t length = utf8_repair(out, copy, n);
  bool same = length == strlen(to) && memcmp(out, to, length) == 0;
  EXPECT(utf8_valid(out, length));
  EXPECT(utf8_valid(copy, n) == (length == n && memcmp(out, copy, n) == 0));
  free(copy);
  free(out);
  return same;
}

static void text(void) {
  title("[WIRE-10] each maximal ill-formed part of a text becomes one U+FFFD, valid text stays");
#define FFFD "\xef\xbf\xbd"
  EXPECT(repairs("plain ascii, long enough", 24, "plain ascii, long enough"));
  EXPECT(repairs("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80", 15, "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"));
  EXPECT(repairs("a\xff" "b", 3, "a" FFFD "b"));
  EXPECT(repairs("\xc3", 1, FFFD));
  EXPECT(repairs("\xe2\x82", 2, FFFD));
  EXPECT(repairs("\xf0\x9f\x98x", 4, FFFD "x"));
  EXPECT(repairs("\xc0\xaf", 2, FFFD FFFD));
  EXPECT(repairs("\xe0\x80\x80", 3, FFFD FFFD FFFD));
  EXPECT(repairs("\xed\xa0\x80", 3, FFFD FFFD FFFD));
  EXPECT(repairs("\xf4\x90\x80\x80", 4, FFFD FFFD FFFD FFFD));
  EXPECT(repairs("\xf5", 1, FFFD));
  EXPECT(repairs("\x80" "1234567\x80" "1234567\xff", 17, FFFD "1234567" FFFD "1234567" FFFD));
  struct msgpack_writer writer = {0};
  static const uint8_t damaged[] = "\x82\xa2k\xff\x92\xa1\xfe\x05\xa1z\xc4\x01\xff";
  msgpack_write_repaired(&writer, (struct msgpack_slice){damaged, damaged + sizeof damaged - 1});
  EXPECT(writer.length == 17);
  EXPECT(memcmp(writer.bytes, "\x82\xa4k" FFFD "\x92\xa3" FFFD "\x05\xa1z\xc4\x01\xff", 17) == 0);
  msgpack_writer_free(&writer);
}

int main(void) {
  every_format();
  depth();
  absurd_counts();
  deep_skip();
  reading();
  paths();
  writing();
  text();
  return expect_result();
}
