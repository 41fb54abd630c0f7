#include "../labels.h"

#include "../siphash.h"
#include "expect.h"

static uint64_t hash_text(const char *text) { return fnv1a64(FNV1A64_START, text, strlen(text)); }

static uint64_t hash_bounds(const double *bounds, size_t count) {
  uint64_t hash = FNV1A64_START;
  for (size_t i = 0; i < count; i++) hash = boundary_hash(hash, bounds[i]);
  return hash;
}

static void vectors(void) {
  title("[MET-31] FNV-1a 64 gives the vectors of the specification");
  EXPECT((int64_t)hash_text("") == -3750763034362895579);
  EXPECT((int64_t)hash_text("core=0") == -1880841242445082997);
  EXPECT((int64_t)hash_text("core=0,host=server1") == -883976354372829056);
  EXPECT((int64_t)hash_bounds((double[]){0.1, 0.5, 1}, 3) == -8007442270075198572);
}

static void zeros(void) {
  title("[MET-30] a boundary of -0 hashes as +0, and infinities as themselves");
  EXPECT(hash_bounds((double[]){-0.0, 1}, 2) == hash_bounds((double[]){0.0, 1}, 2));
  EXPECT(hash_bounds((double[]){0.0}, 1) == fnv1a64(FNV1A64_START, "\0\0\0\0\0\0\0\0", 8));
  EXPECT(hash_bounds((double[]){1.0 / 0.0}, 1) == fnv1a64(FNV1A64_START, "\0\0\0\0\0\0\xf0\x7f", 8));
  EXPECT(hash_bounds((double[]){-1.0 / 0.0}, 1) != hash_bounds((double[]){1.0 / 0.0}, 1));
  EXPECT(hash_bounds((double[]){1, 2}, 2) != hash_bounds((double[]){2, 1}, 2));
}

static bool valid(const char *text) {
  size_t n = strlen(text);
  uint8_t *copy = exact_copy(text, n);
  bool result = label_valid(copy, n);
  free(copy);
  return result;
}

static void validity(void) {
  title("[MET-3] a label key or value is UTF-8, not empty, without = and ,");
  EXPECT(valid("core"));
  EXPECT(valid("0"));
  EXPECT(valid(" "));
  EXPECT(valid("K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x8c\x8d"));
  EXPECT(valid("__proto__"));
  EXPECT(label_valid((const uint8_t *)"a\0b", 3));
  EXPECT(!valid(""));
  EXPECT(!valid("="));
  EXPECT(!valid("a=b"));
  EXPECT(!valid("a,"));
  EXPECT(!valid(",a"));
  EXPECT(!valid("\xff"));
  EXPECT(!valid("a\xc3"));
  EXPECT(!valid("\xed\xa0\x80"));
}

static struct label label(const char *key, const char *value) {
  return (struct label){(const uint8_t *)key, (const uint8_t *)value, (uint32_t)strlen(key), (uint32_t)strlen(value)};
}

static bool canonical(struct label *labels, size_t count, const char *expected) {
  count = labels_sort(labels, count);
  size_t size = labels_size(labels, count);
  uint8_t *out = exact_copy(expected, size == strlen(expected) ? size : 0);
  bool same = size == strlen(expected) && labels_write(out, labels, count) == out + size &&
              memcmp(out, expected, size) == 0;
  free(out);
  return same;
}

static void order(void) {
  title("[MET-29] labels are sorted by the UTF-8 bytes of their keys and joined unchanged");
  EXPECT(canonical(NULL, 0, ""));
  struct label two[] = {label("host", "server1"), label("core", "0")};
  EXPECT(canonical(two, 2, "core=0,host=server1"));
  /* '!' comes before '=': sorting the joined text instead of the keys would turn these round. */
  struct label prefix[] = {label("a!", "2"), label("a", "1"), label("B", "3")};
  EXPECT(canonical(prefix, 3, "B=3,a=1,a!=2"));
  /* U+FF5E before U+1F30D by UTF-8, after it by UTF-16. */
  struct label planes[] = {label("\xf0\x9f\x8c\x8d", "2"), label("\xef\xbd\x9e", "1")};
  EXPECT(canonical(planes, 2, "\xef\xbd\x9e=1,\xf0\x9f\x8c\x8d=2"));
  struct label unnormalised[] = {label("e\xcc\x81", "1"), label("\xc3\xa9", "2"), label("E", "3")};
  EXPECT(canonical(unnormalised, 3, "E=3,e\xcc\x81=1,\xc3\xa9=2"));
}

static void duplicates(void) {
  title("[MET-20] [MET-29] of labels with the same key the first counts, however many there are");
  struct label few[] = {label("b", "1"), label("a", "1"), label("b", "2"), label("a", "2"), label("a", "3")};
  EXPECT(canonical(few, 5, "a=1,b=1"));
  /* Beyond a few another way of sorting is used; all keys lie in one buffer, as in a datagram. */
  enum { KEYS = 37, REPEATS = 50 };
  char bytes[KEYS * REPEATS * 4];
  struct label many[KEYS * REPEATS];
  for (int i = 0; i < KEYS * REPEATS; i++) {
    char *key = bytes + (size_t)i * 4;
    key[0] = (char)('a' + i * 7 % KEYS % 26);
    key[1] = (char)('a' + i * 7 % KEYS / 26);
    memcpy(key + 2, i < KEYS ? "1" : "2", 2);
    many[i] = (struct label){(uint8_t *)key, (uint8_t *)key + 2, 2, 1};
  }
  size_t left = labels_sort(many, KEYS * REPEATS);
  EXPECT(left == KEYS);
  for (size_t i = 0; i < left; i++) {
    EXPECT(many[i].value[0] == '1');
    EXPECT(i == 0 || memcmp(many[i - 1].key, many[i].key, 2) < 0);
  }
}

static void keyed(void) {
  title("[MET-32] the table's hash gives the published values of SipHash-1-3 and depends on its key");
  struct siphash_key key;
  uint8_t bytes[64];
  for (int i = 0; i < 64; i++) bytes[i] = (uint8_t)i;
  memcpy(&key, bytes, sizeof key);
  EXPECT(siphash13(&key, bytes, 0) == UINT64_C(0xabac0158050fc4dc));
  EXPECT(siphash13(&key, bytes, 1) == UINT64_C(0xc9f49bf37d57ca93));
  EXPECT(siphash13(&key, bytes, 7) == UINT64_C(0xd3927d989bb11140));
  EXPECT(siphash13(&key, bytes, 8) == UINT64_C(0x369095118d299a8e));
  EXPECT(siphash13(&key, bytes, 63) == UINT64_C(0x9d199062b7bbb3a8));
  struct siphash_key one = siphash_random_key(), other = siphash_random_key();
  EXPECT(siphash13(&one, bytes, 8) != siphash13(&other, bytes, 8));
  EXPECT(siphash13(&one, bytes, 8) == siphash13(&one, bytes, 8));
  EXPECT(siphash13(&one, bytes, 8) != siphash13(&one, bytes, 9));
}

int main(void) {
  vectors();
  zeros();
  validity();
  order();
  duplicates();
  keyed();
  return expect_result();
}
