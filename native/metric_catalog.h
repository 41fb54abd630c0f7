/*
 * The series a METRIC query computes with: physical series of every database, joined into logical ones
 * (QL-101), which stand in the order of the language (QL-104) and form groups of one name (QL-87).
 */
#ifndef EVENTD_METRIC_CATALOG_H
#define EVENTD_METRIC_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory that the owner of the query grants, bit by bit. */
struct metric_memory {
  size_t used;
  size_t limit;
  /* What the limit must at least be before the refused step can be repeated. */
  size_t wanted;
};

/* Accounts for `n` more bytes; false when the limit must be raised first. */
static inline bool metric_memory_take(struct metric_memory *memory, size_t n) {
  if (memory->limit - memory->used < n) {
    memory->wanted = memory->used + n;
    return false;
  }
  memory->used += n;
  return true;
}

/* One series of one database. */
struct metric_source {
  int64_t series_id;
  size_t text;
  uint32_t name_length;
  uint32_t labels_length;
  uint32_t database;
  uint32_t member;
  int type;
};

/* One logical series. */
struct metric_member {
  uint32_t first_source;
  uint32_t sources;
  uint32_t group;
};

/* The logical series of one name. */
struct metric_group {
  uint32_t first_member;
  uint32_t members;
  /* Of all its series, or -1 when they differ. */
  int type;
};

struct metric_catalog {
  struct metric_source *sources;
  struct metric_member *members;
  struct metric_group *groups;
  uint32_t source_count;
  uint32_t member_count;
  uint32_t group_count;
  size_t source_room;
  /* Name and labels of each source, one behind the other. */
  char *text;
  size_t text_length;
  size_t text_room;
};

enum metric_result { METRIC_OK, METRIC_WANTS_MEMORY, METRIC_NO_MEMORY };

/* Adds a series; on METRIC_WANTS_MEMORY nothing has changed. */
enum metric_result metric_catalog_add(struct metric_catalog *catalog, struct metric_memory *memory,
                                      const struct metric_source *source, const char *name, const char *labels);

/* All series are there: sorts and groups them. May be repeated after METRIC_WANTS_MEMORY. */
enum metric_result metric_catalog_finish(struct metric_catalog *catalog, struct metric_memory *memory);

void metric_catalog_free(struct metric_catalog *catalog);

/* The source whose name, labels and type are those of the member. */
static inline const struct metric_source *metric_member_source(const struct metric_catalog *catalog, uint32_t member) {
  return &catalog->sources[catalog->members[member].first_source];
}

#endif
