#include "metric_catalog.h"

#include <stdlib.h>
#include <string.h>

/* Grows an array to hold `needed` elements, accounted for. */
static enum metric_result grow(void **array, size_t *room, size_t needed, size_t size, struct metric_memory *memory) {
  if (needed <= *room) return METRIC_OK;
  size_t larger = *room == 0 ? 64 : *room * 2;
  while (larger < needed) larger *= 2;
  size_t before = memory->used;
  if (!metric_memory_take(memory, (larger - *room) * size)) return METRIC_WANTS_MEMORY;
  void *more = realloc(*array, larger * size);
  if (more == NULL) {
    memory->used = before;
    return METRIC_NO_MEMORY;
  }
  *array = more;
  *room = larger;
  return METRIC_OK;
}

enum metric_result metric_catalog_add(struct metric_catalog *catalog, struct metric_memory *memory,
                                      const struct metric_source *source, const char *name, const char *labels) {
  size_t length = (size_t)source->name_length + source->labels_length;
  void *array = catalog->sources;
  enum metric_result result =
      grow(&array, &catalog->source_room, (size_t)catalog->source_count + 1, sizeof *catalog->sources, memory);
  catalog->sources = array;
  if (result != METRIC_OK) return result;
  array = catalog->text;
  result = grow(&array, &catalog->text_room, catalog->text_length + length + 1, 1, memory);
  catalog->text = array;
  if (result != METRIC_OK) return result;
  struct metric_source *added = &catalog->sources[catalog->source_count++];
  *added = *source;
  added->text = catalog->text_length;
  if (source->name_length > 0) memcpy(catalog->text + added->text, name, source->name_length);
  char *behind = catalog->text + added->text + source->name_length;
  if (source->labels_length > 0) memcpy(behind, labels, source->labels_length);
  catalog->text_length += length;
  return METRIC_OK;
}

static int compare_text(const char *a, uint32_t a_length, const char *b, uint32_t b_length) {
  int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
  return order != 0 ? order : a_length < b_length ? -1 : a_length > b_length;
}

static int compare_names(const struct metric_catalog *catalog, const struct metric_source *a,
                         const struct metric_source *b) {
  return compare_text(catalog->text + a->text, a->name_length, catalog->text + b->text, b->name_length);
}

/* Zero for two parts of one logical series. */
static int compare_series(const struct metric_catalog *catalog, const struct metric_source *a,
                          const struct metric_source *b) {
  int order = compare_names(catalog, a, b);
  if (order != 0) return order;
  order = compare_text(catalog->text + a->text + a->name_length, a->labels_length,
                       catalog->text + b->text + b->name_length, b->labels_length);
  return order != 0 ? order : a->type < b->type ? -1 : a->type > b->type;
}

static int compare(const void *left, const void *right, void *catalog) {
  const struct metric_source *a = left;
  const struct metric_source *b = right;
  int order = compare_series(catalog, a, b);
  if (order != 0) return order;
  if (a->database != b->database) return a->database < b->database ? -1 : 1;
  return a->series_id < b->series_id ? -1 : a->series_id > b->series_id;
}

enum metric_result metric_catalog_finish(struct metric_catalog *catalog, struct metric_memory *memory) {
  uint32_t count = catalog->source_count;
  /* The sort may need a copy of what it sorts, for as long as it runs. */
  size_t before = memory->used;
  size_t each = sizeof *catalog->members + sizeof *catalog->groups + sizeof *catalog->sources;
  if (!metric_memory_take(memory, count * each)) return METRIC_WANTS_MEMORY;
  catalog->members = calloc((size_t)count + 1, sizeof *catalog->members);
  catalog->groups = calloc((size_t)count + 1, sizeof *catalog->groups);
  if (catalog->members == NULL || catalog->groups == NULL) {
    memory->used = before;
    return METRIC_NO_MEMORY;
  }
  if (count > 0) qsort_r(catalog->sources, count, sizeof *catalog->sources, compare, catalog);
  memory->used -= count * sizeof *catalog->sources;
  for (uint32_t i = 0; i < count; i++) {
    struct metric_source *source = &catalog->sources[i];
    if (i > 0 && compare_series(catalog, source - 1, source) == 0) {
      catalog->members[catalog->member_count - 1].sources++;
    } else {
      if (i == 0 || compare_names(catalog, source - 1, source) != 0) {
        catalog->groups[catalog->group_count++] = (struct metric_group){catalog->member_count, 0, source->type};
      }
      struct metric_group *group = &catalog->groups[catalog->group_count - 1];
      group->members++;
      if (group->type != source->type) group->type = -1;
      catalog->members[catalog->member_count++] = (struct metric_member){i, 1, catalog->group_count - 1};
    }
    source->member = catalog->member_count - 1;
  }
  return METRIC_OK;
}

void metric_catalog_free(struct metric_catalog *catalog) {
  free(catalog->sources);
  free(catalog->members);
  free(catalog->groups);
  free(catalog->text);
  *catalog = (struct metric_catalog){0};
}
