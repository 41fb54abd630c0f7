#include "../metric_decode.h"

#include <math.h>

#include "expect.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1
#define RECEIPT UINT64_C(1714000000123456789)

/* A record under construction; `fields` is written over the head at the end. */
struct draft {
  struct msgpack_writer w;
  unsigned fields;
};

static void begin(struct draft *d) {
  *d = (struct draft){0};
  msgpack_write_map(&d->w, 0);
}

static struct msgpack_writer *put(struct draft *d, const char *key) {
  msgpack_write_str(&d->w, key, (uint32_t)strlen(key));
  d->fields++;
  return &d->w;
}

static void text(struct msgpack_writer *w, const char *value) { msgpack_write_str(w, value, (uint32_t)strlen(value)); }

/* Decodes a draft from a copy of exact size; the record's slices are only compared, never kept. */
static struct metric_decoder decoder;
static uint8_t *decoded_from;

static enum metric_verdict decode_bytes(const uint8_t *bytes, size_t n, struct metric_record *record) {
  free(decoded_from);
  decoded_from = exact_copy(bytes, n);
  struct datagrams_map map = {RECEIPT, decoded_from, decoded_from + n};
  const uint8_t *after = NULL;
  enum metric_verdict verdict = metric_decode(&decoder, &map, record, &after);
  EXPECT(after == decoded_from + n);
  return verdict;
}

static enum metric_verdict end(struct draft *d, struct metric_record *record) {
  d->w.bytes[0] = (uint8_t)(0x80 | d->fields);
  enum metric_verdict verdict = decode_bytes(d->w.bytes, d->w.length, record);
  msgpack_writer_free(&d->w);
  return verdict;
}

static bool accepted(struct draft *d) {
  struct metric_record record;
  return end(d, &record) == METRIC_VALID;
}

static void gauge(struct draft *d) {
  begin(d);
  text(put(d, "name"), "m");
  text(put(d, "type"), "gauge");
}

/* ---- Scalars ---- */

static void plain(void) {
  title("[MET-17] [MET-20] a record without labels and timestamp takes the receipt time and the empty label text");
  struct draft d;
  struct metric_record record;
  begin(&d);
  msgpack_write_double(put(&d, "value"), 1.5);
  text(put(&d, "type"), "counter");
  text(put(&d, "name"), "http.requests.total");
  EXPECT(end(&d, &record) == METRIC_VALID);
  EXPECT(record.type == METRIC_COUNTER && record.timestamp == (int64_t)RECEIPT && record.value == 1.5);
  EXPECT(record.key.length == 20 && memcmp(record.key.bytes, "http.requests.total\xff", 20) == 0);
  EXPECT(record.key.name_length == 19 && record.key.labels_length == 0 && !record.key.histogram);
  gauge(&d);
  msgpack_write_map(put(&d, "labels"), 0);
  msgpack_write_double(put(&d, "value"), 0);
  EXPECT(end(&d, &record) == METRIC_VALID && record.key.length == 2);
  begin(&d);
  text(put(&d, "name"), "");
  text(put(&d, "type"), "gauge");
  msgpack_write_double(put(&d, "value"), 0);
  EXPECT(end(&d, &record) == METRIC_VALID && record.key.length == 1);
}

static double value_of(const char *bytes, size_t n) {
  struct draft d;
  struct metric_record record;
  gauge(&d);
  msgpack_write_raw(put(&d, "value"), bytes, n);
  return end(&d, &record) == METRIC_VALID ? record.value : NAN;
}
#define VALUE(bytes) value_of(bytes, sizeof(bytes) - 1)

static void numbers(void) {
  title("[MET-20] every number is taken for a float, every integer format included");
  EXPECT(VALUE("\x2a") == 42);
  EXPECT(VALUE("\xff") == -1);
  EXPECT(VALUE("\xcc\xff") == 255);
  EXPECT(VALUE("\xcd\xff\xff") == 65535);
  EXPECT(VALUE("\xce\xff\xff\xff\xff") == 4294967295.0);
  EXPECT(VALUE("\xcf\xff\xff\xff\xff\xff\xff\xff\xff") == 18446744073709551616.0);
  EXPECT(VALUE("\xd0\x80") == -128);
  EXPECT(VALUE("\xd1\x80\x00") == -32768);
  EXPECT(VALUE("\xd2\x80\x00\x00\x00") == -2147483648.0);
  EXPECT(VALUE("\xd3\x80\x00\x00\x00\x00\x00\x00\x00") == -9223372036854775808.0);
  EXPECT(VALUE("\xca\x3f\xc0\x00\x00") == 1.5);
  EXPECT(VALUE("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00") == 1.5);
  title("[MET-23] anything else is no value");
  EXPECT(isnan(VALUE("\xc0")));
  EXPECT(isnan(VALUE("\xc3")));
  EXPECT(isnan(VALUE("\xa1" "1")));
  EXPECT(isnan(VALUE("\xc4\x01" "1")));
  EXPECT(isnan(VALUE("\x91\x01")));
  EXPECT(isnan(VALUE("\x80")));
  EXPECT(isnan(VALUE("\xd4\x01\x01")));
}

static bool scalar(const char *type, double value) {
  struct draft d;
  begin(&d);
  text(put(&d, "name"), "m");
  text(put(&d, "type"), type);
  msgpack_write_double(put(&d, "value"), value);
  return accepted(&d);
}

static void ranges(void) {
  title("[MET-6] [MET-7] [MET-27] counters are not negative; NaN and infinity are no measurement");
  EXPECT(scalar("counter", 0) && scalar("counter", -0.0) && scalar("counter", 1e308));
  EXPECT(!scalar("counter", -1) && !scalar("counter", -5e-324));
  EXPECT(scalar("gauge", -1) && scalar("gauge", -1.7e308));
  const char *const types[] = {"counter", "gauge"};
  for (int i = 0; i < 2; i++) {
    EXPECT(!scalar(types[i], NAN) && !scalar(types[i], -NAN));
    EXPECT(!scalar(types[i], INFINITY) && !scalar(types[i], -INFINITY));
  }
  EXPECT(isnan(VALUE("\xca\x7f\x80\x00\x00")));
  title("[MET-17] [MET-23] a type is exactly counter, gauge or histogram");
  EXPECT(!scalar("Counter", 1) && !scalar("count", 1) && !scalar("counters", 1) && !scalar("", 1));
  EXPECT(!scalar("summary", 1) && !scalar("gauge ", 1) && !scalar("histogram", 1));
}

static bool timestamp(const char *bytes, size_t n, int64_t expected) {
  struct draft d;
  struct metric_record record;
  gauge(&d);
  msgpack_write_raw(put(&d, "timestamp"), bytes, n);
  msgpack_write_double(put(&d, "value"), 1);
  return end(&d, &record) == METRIC_VALID && record.timestamp == expected;
}
#define TIME(bytes, expected) timestamp(bytes, sizeof(bytes) - 1, expected)

static void timestamps(void) {
  title("[MET-17] [MET-20] a timestamp is an integer of any format from 0 to 2^63-1");
  EXPECT(TIME("\x00", 0));
  EXPECT(TIME("\xd0\x05", 5));
  EXPECT(TIME("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff", INT64_MAX));
  EXPECT(TIME("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", INT64_MAX));
  title("[MET-23] a timestamp of another kind drops the record, though it is optional");
  EXPECT(!TIME("\xcf\x80\x00\x00\x00\x00\x00\x00\x00", INT64_MIN));
  EXPECT(!TIME("\xff", -1));
  EXPECT(!TIME("\xc0", (int64_t)RECEIPT));
  EXPECT(!TIME("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", 1));
  EXPECT(!TIME("\xa1" "1", 1));
  EXPECT(!TIME("\xd6\xff\x00\x00\x00\x01", 1));
}

/* ---- Shape ---- */

static void missing(void) {
  title("[MET-23] name, type and value are required");
  for (int absent = 0; absent < 4; absent++) {
    struct draft d;
    begin(&d);
    if (absent != 0) text(put(&d, "name"), "m");
    if (absent != 1) text(put(&d, "type"), "gauge");
    if (absent != 2) msgpack_write_double(put(&d, "value"), 1);
    EXPECT(accepted(&d) == (absent == 3));
  }
  struct draft d;
  begin(&d);
  EXPECT(!accepted(&d));
}

static void unknown_and_duplicate(void) {
  title("[MET-20] unknown keys of any kind are skipped, of duplicate keys the first counts");
  struct draft d;
  struct metric_record record;
  begin(&d);
  msgpack_write_raw(&d.w, "\x91\x81\x01\x02\x92\xa1x\x80", 8), d.fields++;
  msgpack_write_raw(&d.w, "\xc0\xc0", 2), d.fields++;
  msgpack_write_raw(put(&d, "\xff"), "\xa1\xff", 2);
  msgpack_write_raw(put(&d, "unit"), "\x93\x01\x80\x91\xc0", 5);
  text(put(&d, "name"), "first");
  msgpack_write_nil(put(&d, "name"));
  text(put(&d, "type"), "gauge");
  text(put(&d, "type"), "counter");
  msgpack_write_double(put(&d, "value"), -1);
  text(put(&d, "value"), "x");
  msgpack_write_uint(put(&d, "timestamp"), 7);
  msgpack_write_uint(put(&d, "timestamp"), 8);
  EXPECT(end(&d, &record) == METRIC_VALID);
  EXPECT(record.type == METRIC_GAUGE && record.value == -1 && record.timestamp == 7);
  EXPECT(record.key.length == 6 && memcmp(record.key.bytes, "first\xff", 6) == 0);
  /* A binary key is no string key. */
  gauge(&d);
  msgpack_write_bin(&d.w, (const uint8_t *)"value", 5), d.fields++;
  msgpack_write_double(&d.w, 1);
  EXPECT(!accepted(&d));
  /* The first counts, even where the second would be right. */
  begin(&d);
  msgpack_write_nil(put(&d, "name"));
  text(put(&d, "name"), "m");
  text(put(&d, "type"), "gauge");
  msgpack_write_double(put(&d, "value"), 1);
  EXPECT(!accepted(&d));
}

static void text_fields(void) {
  title("[MET-20] [MET-23] names are str of valid UTF-8, NUL included; bin is no text");
  static const struct {
    const char *bytes;
    size_t n;
    bool valid;
  } names[] = {
      {"\xa3" "a\0b", 4, true}, {"\xd9\x01" "a", 3, true},   {"\xdb\x00\x00\x00\x01" "a", 6, true},
      {"\xa2\xc3\xb6", 3, true}, {"\xa1\xc3", 2, false},      {"\xa3\xed\xa0\x80", 4, false},
      {"\xc4\x01" "a", 3, false}, {"\x01", 1, false},          {"\xc0", 1, false},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    struct draft d;
    begin(&d);
    msgpack_write_raw(put(&d, "name"), names[i].bytes, names[i].n);
    text(put(&d, "type"), "gauge");
    msgpack_write_double(put(&d, "value"), 1);
    EXPECT(accepted(&d) == names[i].valid);
  }
}

static bool labels(const char *bytes, size_t n, const char *expected) {
  struct draft d;
  struct metric_record record;
  gauge(&d);
  msgpack_write_raw(put(&d, "labels"), bytes, n);
  msgpack_write_double(put(&d, "value"), 1);
  if (end(&d, &record) != METRIC_VALID) return expected == NULL;
  return expected != NULL && record.key.labels_length == strlen(expected) &&
         memcmp(record.key.bytes + record.key.name_length + 1, expected, strlen(expected)) == 0;
}
#define LABELS(bytes, expected) labels(bytes, sizeof(bytes) - 1, expected)

static void label_maps(void) {
  title("[MET-17] [MET-29] labels come out canonical, the first of duplicate keys counts");
  EXPECT(LABELS("\x82\xa4host\xa7server1\xa4" "core\xa1" "0", "core=0,host=server1"));
  EXPECT(LABELS("\xde\x00\x01\xa1" "a\xd9\x01" "b", "a=b"));
  EXPECT(LABELS("\x82\xa1" "a\xa1" "1\xa1" "a\xa1" "2", "a=1"));
  EXPECT(LABELS("\x81\xa9__proto__\xab" "constructor", "__proto__=constructor"));
  title("[MET-3] [MET-4] [MET-23] one wrong label drops the record, a duplicate one too");
  EXPECT(LABELS("\x81\xa0\xa1" "1", NULL));
  EXPECT(LABELS("\x81\xa1" "a\xa0", NULL));
  EXPECT(LABELS("\x81\xa2" "a=\xa1" "1", NULL));
  EXPECT(LABELS("\x81\xa1" "a\xa2" "1,", NULL));
  EXPECT(LABELS("\x81\xa1\xff\xa1" "1", NULL));
  EXPECT(LABELS("\x81\xa1" "a\xa1\xff", NULL));
  EXPECT(LABELS("\x81\xa1" "a\x01", NULL));
  EXPECT(LABELS("\x81\x01\xa1" "a", NULL));
  EXPECT(LABELS("\x81\xa1" "a\xc4\x01" "1", NULL));
  EXPECT(LABELS("\x81\xa1" "a\x81\xa1" "a\xa1" "1", NULL));
  EXPECT(LABELS("\x81\x91\xa1" "a\xa1" "1", NULL));
  EXPECT(LABELS("\x82\xa1" "a\xa1" "1\xa1" "a\xc0", NULL));
  EXPECT(LABELS("\x82\xa1" "a\xa1" "1\xa1" "a\xa0", NULL));
  EXPECT(LABELS("\xc0", NULL));
  EXPECT(LABELS("\x90", NULL));
  EXPECT(LABELS("\xa0", NULL));
}

/* ---- Histograms ---- */

static bool histogram(const char *bytes, size_t n, struct metric_record *record) {
  struct draft d;
  begin(&d);
  text(put(&d, "name"), "h");
  text(put(&d, "type"), "histogram");
  msgpack_write_raw(put(&d, "value"), bytes, n);
  return end(&d, record) == METRIC_VALID;
}

/* A histogram map of `n` boundaries, counts 0, 1, 2 ... */
static bool bounds(const double *boundaries, uint32_t n, struct metric_record *record) {
  struct msgpack_writer w = {0};
  msgpack_write_map(&w, 4);
  text(&w, "boundaries");
  msgpack_write_array(&w, n);
  for (uint32_t i = 0; i < n; i++) msgpack_write_double(&w, boundaries[i]);
  text(&w, "counts");
  msgpack_write_array(&w, n);
  for (uint32_t i = 0; i < n; i++) msgpack_write_uint(&w, i);
  text(&w, "total_count");
  msgpack_write_uint(&w, n);
  text(&w, "sum");
  msgpack_write_double(&w, 2.5);
  bool valid = histogram((const char *)w.bytes, w.length, record);
  msgpack_writer_free(&w);
  return valid;
}

static bool bounds_valid(const double *boundaries, uint32_t n) {
  struct metric_record record;
  return bounds(boundaries, n, &record);
}
#define BOUNDS(...) bounds_valid((double[]){__VA_ARGS__}, sizeof((double[]){__VA_ARGS__}) / sizeof(double))

static void boundaries(void) {
  title("[MET-24] [MET-27] boundaries increase strictly, without NaN; -inf first and +inf last are allowed");
  EXPECT(BOUNDS(1) && BOUNDS(0.1, 0.5, 1) && BOUNDS(-INFINITY, 0, INFINITY) && BOUNDS(-INFINITY, INFINITY));
  EXPECT(bounds_valid(NULL, 0));
  EXPECT(!BOUNDS(1, 1) && !BOUNDS(2, 1) && !BOUNDS(0.0, -0.0) && !BOUNDS(-0.0, 0.0));
  EXPECT(!BOUNDS(NAN) && !BOUNDS(1, NAN) && !BOUNDS(NAN, 1) && !BOUNDS(1, NAN, 2));
  EXPECT(!BOUNDS(INFINITY, INFINITY) && !BOUNDS(INFINITY, 1) && !BOUNDS(1, -INFINITY));
}

static void histogram_shape(void) {
  title("[MET-18] [MET-23] [MET-24] a histogram has its four parts, of the right types and equal lengths");
  struct metric_record record;
#define H(bytes) histogram(bytes, sizeof(bytes) - 1, &record)
#define B1 "\xaa" "boundaries\x91\x01"
#define C1 "\xa6" "counts\x91\x05"
#define T "\xab" "total_count\x05"
#define S "\xa3" "sum\xcb\x40\x04\x00\x00\x00\x00\x00\x00"
  EXPECT(H("\x84" B1 C1 T S));
  EXPECT(record.buckets == 1 && record.total_count == 5 && record.sum == 2.5 && record.value == 0);
  EXPECT(H("\x84" S T C1 B1));
  EXPECT(H("\x85" B1 C1 T S "\x01\x02"));
  EXPECT(H("\x85" B1 C1 T S "\xa3" "sum\xc0"));
  EXPECT(!H("\x85\xa3" "sum\xc0" B1 C1 T S));
  EXPECT(!H("\x83" C1 T S) && !H("\x83" B1 T S) && !H("\x83" B1 C1 S) && !H("\x83" B1 C1 T));
  EXPECT(!H("\x84" B1 "\xa6" "counts\x90" T S));
  EXPECT(!H("\x84" B1 "\xa6" "counts\x92\x01\x02" T S));
  EXPECT(!H("\x84" B1 "\xa6" "counts\x91\xff" T S));
  EXPECT(!H("\x84" B1 "\xa6" "counts\x91\xca\x3f\x80\x00\x00" T S));
  EXPECT(!H("\x84" B1 "\xa6" "counts\x91\xc0" T S));
  EXPECT(!H("\x84" B1 "\xa6" "counts\x05" T S));
  EXPECT(H("\x84" B1 "\xa6" "counts\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff" T S));
  EXPECT(!H("\x84\xaa" "boundaries\x91\xa1" "1" C1 T S));
  EXPECT(!H("\x84\xaa" "boundaries\x91\x91\x01" C1 T S));
  EXPECT(!H("\x84\xaa" "boundaries\x81\x01\x01" C1 T S));
  EXPECT(!H("\x84" B1 C1 "\xab" "total_count\xff" S));
  EXPECT(!H("\x84" B1 C1 "\xab" "total_count\xca\x3f\x80\x00\x00" S));
  EXPECT(!H("\x84" B1 C1 T "\xa3" "sum\xa1" "1"));
  EXPECT(H("\x84" B1 C1 T "\xa3" "sum\x05") && record.sum == 5);
  EXPECT(!H("\x05") && !H("\xc0") && !H("\x90") && !H("\x80"));
  title("[MET-27] decreasing counts and a total below the last count are accepted");
  EXPECT(H("\x84\xaa" "boundaries\x92\x01\x02\xa6" "counts\x92\x09\x03\xab" "total_count\x00" S));
  title("[MET-23] a counter or gauge takes no histogram");
  struct draft d;
  gauge(&d);
  msgpack_write_raw(put(&d, "value"), "\x84" B1 C1 T S, sizeof("\x84" B1 C1 T S) - 1);
  EXPECT(!accepted(&d));
}

static void histogram_data(void) {
  title("[MET-39] [MET-20] histogram_data is one map in fixed order, floats as float64, counts as integers");
  struct metric_record record;
  static const char sent[] = "\x84" S T "\xa6" "counts\x92\xd3\x00\x00\x00\x00\x00\x00\x00\x02\xcc\xc8"
                             "\xaa" "boundaries\x92\xca\x3f\x00\x00\x00\xd0\x02";
  static const char stored[] = "\x84\xaa" "boundaries\x92\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00"
                               "\xcb\x40\x00\x00\x00\x00\x00\x00\x00\xa6" "counts\x92\x02\xcc\xc8" T S;
  EXPECT(histogram(sent, sizeof sent - 1, &record));
  struct msgpack_writer w = {0};
  metric_write_histogram(&w, &record);
  EXPECT(w.length == sizeof stored - 1 && memcmp(w.bytes, stored, w.length) == 0);
  EXPECT(w.length <= metric_histogram_bound(&record));
  msgpack_writer_free(&w);
}

static void many_buckets(void) {
  title("[MET-39] [MET-18] histograms of any number of buckets are stored whole");
  static const uint32_t buckets[] = {15, 16, 65535, 65536};
  double *boundaries = malloc(65536 * sizeof *boundaries);
  if (boundaries == NULL) abort();
  for (int i = 0; i < 65536; i++) boundaries[i] = i;
  for (int i = 0; i < 4; i++) {
    struct metric_record record;
    EXPECT(bounds(boundaries, buckets[i], &record) && record.buckets == buckets[i]);
    struct msgpack_writer w = {0};
    metric_write_histogram(&w, &record);
    EXPECT(msgpack_valid(w.bytes, w.length, 2) && w.length <= metric_histogram_bound(&record));
    struct msgpack_slice counts;
    struct msgpack_item head;
    EXPECT(msgpack_find_key((struct msgpack_slice){w.bytes, w.bytes + w.length}, BYTES("counts"), &counts));
    EXPECT(msgpack_read(counts.start, counts.end, &head) != NULL && head.length == buckets[i]);
    msgpack_writer_free(&w);
  }
  free(boundaries);
}

static void identity(void) {
  title("[MET-5] [MET-9] [MET-30] the boundaries are part of a histogram's key, the counts are not");
  struct metric_record record;
  EXPECT(bounds((double[]){0.1, 0.5, 1}, 3, &record));
  EXPECT(record.key.histogram && (int64_t)record.key.boundaries_hash == -8007442270075198572);
  EXPECT(record.key.length == 1 + 1 + 1 + 8 && memcmp(record.key.bytes, "h\xff\xff", 3) == 0);
  EXPECT(memcmp(record.key.bytes + 3, &record.key.boundaries_hash, 8) == 0);
  uint64_t plus = 0;
  EXPECT(bounds((double[]){0.0, 1}, 2, &record));
  plus = record.key.boundaries_hash;
  EXPECT(bounds((double[]){-0.0, 1}, 2, &record) && record.key.boundaries_hash == plus);
  EXPECT(bounds((double[]){0.0, 2}, 2, &record) && record.key.boundaries_hash != plus);
}

int main(void) {
  plain();
  numbers();
  ranges();
  timestamps();
  missing();
  unknown_and_duplicate();
  text_fields();
  label_maps();
  boundaries();
  histogram_shape();
  histogram_data();
  many_buckets();
  identity();
  free(decoded_from);
  metric_decoder_free(&decoder);
  return expect_result();
}
