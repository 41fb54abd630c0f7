#include "metric_reader.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <math.h>
#include <stdlib.h>

#include "histogram.h"

/* Samples read ahead over all series, and per series. */
enum { AHEAD_ALL = 16384, AHEAD_MAX = 512, AHEAD_MIN = 8 };

enum { COLUMN_ROWID, COLUMN_TIMESTAMP, COLUMN_VALUE, COLUMN_HISTOGRAM };

enum metric_result metric_reader_prepare(struct metric_reader *reader, struct metric_memory *memory) {
  uint32_t count = reader->catalog->source_count;
  uint32_t ahead = AHEAD_ALL / (count == 0 ? 1 : count);
  reader->ahead = (uint16_t)(ahead > AHEAD_MAX ? AHEAD_MAX : ahead < AHEAD_MIN ? AHEAD_MIN : ahead);
  bool rollups = reader->rollups->any;
  size_t pieces = rollups ? (size_t)count * reader->rollups->ahead : 0;
  size_t each = reader->ahead * sizeof *reader->samples + sizeof *reader->places + sizeof *reader->heap;
  size_t before = memory->used;
  if (!metric_memory_take(memory, count * each + pieces * sizeof *reader->pieces)) return METRIC_WANTS_MEMORY;
  reader->samples = malloc(((size_t)count * reader->ahead + 1) * sizeof *reader->samples);
  reader->pieces = malloc((pieces + 1) * sizeof *reader->pieces);
  reader->places = calloc((size_t)count + 1, sizeof *reader->places);
  reader->heap = calloc((size_t)count + 1, sizeof *reader->heap);
  if (reader->samples != NULL && reader->pieces != NULL && reader->places != NULL && reader->heap != NULL) {
    int64_t before = (int64_t)((uint64_t)reader->from - 1);
    for (uint32_t i = 0; i < count; i++) {
      reader->places[i] = (struct metric_place){.timestamp = before, .rowid = INT64_MAX, .raw_until = INT64_MIN};
    }
    return METRIC_OK;
  }
  memory->used = before;
  return METRIC_NO_MEMORY;
}

void metric_reader_free(struct metric_reader *reader) {
  free(reader->samples);
  free(reader->pieces);
  free(reader->places);
  free(reader->heap);
}

bool metric_reader_value(sqlite3_stmt *row, double quantile, double *value) {
  if (quantile == 0) {
    int type = sqlite3_column_type(row, COLUMN_VALUE);
    if (type != SQLITE_FLOAT && type != SQLITE_INTEGER) return false;
    *value = sqlite3_column_double(row, COLUMN_VALUE);
    return true;
  }
  size_t length = (size_t)sqlite3_column_bytes(row, COLUMN_HISTOGRAM);
  return histogram_quantile(sqlite3_column_blob(row, COLUMN_HISTOGRAM), length, quantile, value) && !isnan(*value);
}

/*
 * Fills what is left of a source's buffer from a statement. SQLITE_ROW when there may be more, SQLITE_DONE, or
 * an error.
 */
static int read_on(struct metric_reader *reader, uint32_t index, sqlite3_stmt *statement, int64_t bound, int64_t end) {
  const struct metric_source *source = &reader->catalog->sources[index];
  struct metric_place *place = &reader->places[index];
  struct series_sample *samples = &reader->samples[(size_t)index * reader->ahead];
  int first = sqlite3_bind_parameter_count(statement) - 2;
  sqlite3_bind_int64(statement, first, source->series_id);
  sqlite3_bind_int64(statement, first + 1, bound);
  sqlite3_bind_int64(statement, first + 2, end);
  int rc = SQLITE_ROW;
  while (place->count < reader->ahead && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
    reader->rows++;
    place->timestamp = sqlite3_column_int64(statement, COLUMN_TIMESTAMP);
    place->rowid = sqlite3_column_int64(statement, COLUMN_ROWID);
    double value;
    if (!metric_reader_value(statement, reader->quantile, &value)) continue;
    samples[place->count++] = (struct series_sample){place->timestamp, place->rowid, value};
    place->any = true;
  }
  if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
    sqlite3_reset(statement);
  } else {
    reader->failed = statement;
  }
  return rc;
}

/*
 * Reads on behind the last row, up to `until`. SQLITE_ROW: there may be more. The samples at the last row's
 * timestamp are asked for by rowid, however many there are: as a range of both, SQLite would walk over all of
 * them each time.
 */
static int read_samples(struct metric_reader *reader, uint32_t index, int64_t until) {
  uint32_t database = reader->catalog->sources[index].database;
  struct metric_place *place = &reader->places[index];
  int rc = SQLITE_DONE;
  if (place->rowid != INT64_MAX) {
    rc = read_on(reader, index, reader->samples_at[database], place->timestamp, place->rowid);
  }
  if (rc == SQLITE_DONE) rc = read_on(reader, index, reader->samples_after[database], place->timestamp, until);
  return rc;
}

/* The window of a rollup is read over, or read in full: the next sample comes behind it. */
static void pass(struct metric_place *place, int64_t end) {
  place->timestamp = end;
  place->rowid = INT64_MAX;
}

static bool asks_for_deltas(const struct metric_reader *reader) {
  enum metric_rollup rollup = reader->rollups->options->rollup;
  return rollup == ROLLUP_RATE || rollup == ROLLUP_DELTA;
}

/* Looks up the newest sample of a rollup's window. SQLITE_DONE: it has none, so the row is not to be trusted. */
static int find_last(struct metric_reader *reader, uint32_t index, int64_t start, int64_t end,
                     struct series_piece *piece) {
  const struct metric_source *source = &reader->catalog->sources[index];
  int rc = metric_rollups_last(reader->rollups, source, end, &piece->last, &piece->last_value);
  if (rc == SQLITE_ROW) return piece->last >= start ? SQLITE_ROW : SQLITE_DONE;
  if (rc != SQLITE_DONE) reader->failed = reader->rollups->failed;
  return rc;
}

/*
 * Reads ahead rollups that lie side by side, from `next` on, which begins right behind the last row. SQLITE_OK,
 * also if none of them can be used, or an error.
 */
static int read_pieces(struct metric_reader *reader, uint32_t index, struct rollup_piece next) {
  struct metric_place *place = &reader->places[index];
  const struct metric_source *source = &reader->catalog->sources[index];
  uint16_t room = reader->rollups->ahead < reader->ahead ? reader->rollups->ahead : reader->ahead;
  struct series_sample *samples = &reader->samples[(size_t)index * reader->ahead];
  struct series_piece *pieces = &reader->pieces[(size_t)index * reader->rollups->ahead];
  bool total = reader->rollups->options->shape == METRIC_TOTAL;
  for (int rc = SQLITE_ROW; rc == SQLITE_ROW && next.row.start == place->timestamp + 1 && place->count < room;) {
    struct series_piece *piece = &pieces[place->count];
    *piece = (struct series_piece){.count = next.row.count, .last = next.row.start};
    rc = asks_for_deltas(reader) ? find_last(reader, index, next.row.start, next.end, piece) : SQLITE_ROW;
    if (rc == SQLITE_DONE) place->raw_until = next.row.start;
    if (rc == SQLITE_ROW) {
      samples[place->count++] = (struct series_sample){next.row.start, INT64_MIN, next.row.value};
      pass(place, next.end);
      rc = next.end == INT64_MAX ? SQLITE_DONE
                                 : metric_rollups_peek(reader->rollups, index, source, next.end, &next);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
      reader->failed = reader->rollups->failed;
      return rc;
    }
  }
  if (total && place->count > 0) {
    /* QL-109 shows the time of the newest sample: the last window of a run may hold it. */
    int64_t start = samples[place->count - 1].timestamp;
    int rc = find_last(reader, index, start, place->timestamp, &pieces[place->count - 1]);
    if (rc == SQLITE_DONE) {
      place->raw_until = start;
      place->count--;
      pass(place, start - 1);
    } else if (rc != SQLITE_ROW) {
      return rc;
    }
  }
  place->pieces = place->count > 0;
  return SQLITE_OK;
}

/* Reads on behind the last row; with nothing left it stays empty. */
static int fill(struct metric_reader *reader, uint32_t index) {
  const struct metric_source *source = &reader->catalog->sources[index];
  struct metric_place *place = &reader->places[index];
  place->at = place->count = 0;
  place->pieces = false;
  for (;;) {
    struct rollup_piece next;
    int found = metric_rollups_peek(reader->rollups, index, source, place->timestamp, &next);
    if (found != SQLITE_ROW && found != SQLITE_DONE) {
      reader->failed = reader->rollups->failed;
      return found;
    }
    int64_t until = found == SQLITE_ROW ? next.row.start - 1 : reader->to;
    /* What lies before the window comes first: of a delta, the sample before has to be in the range (ROL-31). */
    bool adjoins = found == SQLITE_ROW && place->rowid == INT64_MAX && place->timestamp == until;
    bool unusable = adjoins && (next.row.start <= place->raw_until || (asks_for_deltas(reader) && !place->any));
    if (unusable) until = next.end;
    if (place->rowid != INT64_MAX || place->timestamp < until || found == SQLITE_DONE) {
      int rc = read_samples(reader, index, until);
      if (rc != SQLITE_DONE) return rc == SQLITE_ROW ? SQLITE_OK : rc;
      place->ended = found == SQLITE_DONE;
      if (place->ended) return SQLITE_OK;
      pass(place, until);
      if (place->count > 0) return SQLITE_OK;
      continue;
    }
    int rc = read_pieces(reader, index, next);
    if (rc != SQLITE_OK || place->count > 0) return rc;
  }
}

static bool before(const struct metric_reader *reader, uint32_t a, uint32_t b) {
  const struct series_sample *left = metric_reader_sample(reader, a);
  const struct series_sample *right = metric_reader_sample(reader, b);
  if (left->timestamp != right->timestamp) return left->timestamp < right->timestamp;
  const struct metric_source *one = &reader->catalog->sources[a];
  const struct metric_source *other = &reader->catalog->sources[b];
  if (one->member != other->member) return one->member < other->member;
  if (one->database != other->database) return one->database < other->database;
  return left->rowid < right->rowid;
}

static void sift_down(struct metric_reader *reader) {
  uint32_t *heap = reader->heap;
  for (size_t at = 0;;) {
    size_t first = at;
    size_t child = at * 2 + 1;
    if (child < reader->heap_count && before(reader, heap[child], heap[first])) first = child;
    if (child + 1 < reader->heap_count && before(reader, heap[child + 1], heap[first])) first = child + 1;
    if (first == at) return;
    uint32_t moved = heap[at];
    heap[at] = heap[first];
    heap[first] = moved;
    at = first;
  }
}

static void sift_up(struct metric_reader *reader, size_t at) {
  uint32_t *heap = reader->heap;
  for (; at > 0 && before(reader, heap[at], heap[(at - 1) / 2]); at = (at - 1) / 2) {
    uint32_t moved = heap[at];
    heap[at] = heap[(at - 1) / 2];
    heap[(at - 1) / 2] = moved;
  }
}

int metric_reader_open(struct metric_reader *reader) {
  if (reader->opened == reader->catalog->source_count) return SQLITE_DONE;
  uint32_t source = reader->opened;
  /* Deltas of a series that is in several files are those between its samples in all of them. */
  bool whole = reader->catalog->members[reader->catalog->sources[source].member].sources == 1;
  if (reader->rollups->tracks != NULL && (whole || !asks_for_deltas(reader))) {
    int rc = metric_rollups_open(reader->rollups, source, &reader->catalog->sources[source]);
    if (rc != SQLITE_OK) {
      reader->failed = reader->rollups->failed;
      return rc;
    }
  }
  int rc = fill(reader, source);
  if (rc != SQLITE_OK) return rc;
  reader->opened++;
  if (reader->places[source].count == 0) return SQLITE_OK;
  reader->heap[reader->heap_count++] = source;
  sift_up(reader, reader->heap_count - 1);
  return SQLITE_OK;
}

int metric_reader_advance(struct metric_reader *reader, uint32_t samples) {
  uint32_t source = reader->heap[0];
  struct metric_place *place = &reader->places[source];
  place->at += (uint16_t)samples;
  if (place->at == place->count) {
    int rc = place->ended ? SQLITE_OK : fill(reader, source);
    if (rc != SQLITE_OK) return rc;
    if (place->at == place->count) reader->heap[0] = reader->heap[--reader->heap_count];
  }
  sift_down(reader);
  return SQLITE_OK;
}
