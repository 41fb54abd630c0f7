#include "metric_shape.h"

#include <stdlib.h>

/* Whether series are combined at each timestamp. */
static bool has_line(const struct metric_options *options) {
  return !options->by_series && (options->shape == METRIC_EACH || options->shape == METRIC_WINDOWS);
}

bool metric_shaper_takes_blocks(const struct metric_options *options) {
  if (options->shape == METRIC_TOTAL) return true;
  return options->by_series && options->shape != METRIC_EACH;
}

enum metric_result metric_shaper_prepare(struct metric_shaper *shaper, struct metric_memory *memory) {
  const struct metric_catalog *catalog = shaper->catalog;
  size_t nodes = 0;
  if (has_line(shaper->options)) {
    for (uint32_t i = 0; i < catalog->group_count; i++) nodes += combine_tree_size(catalog->groups[i].members);
  }
  size_t touched = shaper->options->shape == METRIC_DELTA_WINDOWS ? catalog->member_count : 0;
  size_t before = memory->used;
  if (!metric_memory_take(memory, catalog->member_count * sizeof *shaper->members +
                                      catalog->group_count * sizeof *shaper->groups + nodes * sizeof *shaper->nodes +
                                      touched * sizeof *shaper->touched)) {
    return METRIC_WANTS_MEMORY;
  }
  shaper->members = calloc((size_t)catalog->member_count + 1, sizeof *shaper->members);
  shaper->groups = calloc((size_t)catalog->group_count + 1, sizeof *shaper->groups);
  shaper->nodes = calloc(nodes + 1, sizeof *shaper->nodes);
  shaper->touched = calloc(touched + 1, sizeof *shaper->touched);
  if (shaper->members == NULL || shaper->groups == NULL || shaper->nodes == NULL || shaper->touched == NULL) {
    memory->used = before;
    return METRIC_NO_MEMORY;
  }
  struct combine_node *tree = shaper->nodes;
  for (uint32_t i = 0; i < catalog->group_count && nodes > 0; i++) {
    shaper->groups[i].tree = tree;
    tree += combine_tree_size(catalog->groups[i].members);
  }
  return METRIC_OK;
}

void metric_shaper_free(struct metric_shaper *shaper) {
  free(shaper->members);
  free(shaper->groups);
  free(shaper->nodes);
  free(shaper->touched);
}

/* The window that holds a timestamp: [k * w, (k + 1) * w), k an integer (ROL-4). */
static int64_t window_start(int64_t timestamp, int64_t length) {
  int64_t index = timestamp / length - (timestamp % length < 0);
  return (int64_t)((uint64_t)index * (uint64_t)length);
}

static int end_window(struct metric_shaper *shaper, struct metric_partial *partial, int64_t window, uint32_t unit) {
  if (partial->count == 0) return SQLITE_OK;
  double value = metric_partial_value(partial, shaper->options->window);
  *partial = (struct metric_partial){0};
  return metric_rows_add(shaper->rows, unit, window, value, NULL, 0);
}

static int add_to_window(struct metric_shaper *shaper, struct metric_partial *partial, int64_t *window, uint32_t unit,
                         int64_t timestamp, double value) {
  int64_t start = window_start(timestamp, shaper->options->window_ns);
  int rc = start == *window ? SQLITE_OK : end_window(shaper, partial, *window, unit);
  *window = start;
  metric_partial_add(partial, value, timestamp);
  return rc;
}

/* All changes at a timestamp are in: the combined value there (QL-97). */
static int end_moment(struct metric_shaper *shaper, struct shape_group *group) {
  if (!group->changed) return SQLITE_OK;
  group->changed = false;
  uint32_t unit = (uint32_t)(group - shaper->groups);
  double value = combine_tree_value(group->tree, shaper->options->combine);
  if (shaper->options->shape == METRIC_EACH) return metric_rows_add(shaper->rows, unit, group->last, value, NULL, 0);
  return add_to_window(shaper, &group->partial, &group->window, unit, group->last, value);
}

static int change_line(struct metric_shaper *shaper, uint32_t member, int64_t timestamp, double value) {
  uint32_t index = shaper->catalog->members[member].group;
  const struct metric_group *series = &shaper->catalog->groups[index];
  struct shape_group *group = &shaper->groups[index];
  int rc = group->last == timestamp ? SQLITE_OK : end_moment(shaper, group);
  combine_tree_set(group->tree, series->members, member - series->first_member, value, shaper->options->combine);
  group->last = timestamp;
  group->changed = true;
  return rc;
}

static int add_value(struct metric_shaper *shaper, uint32_t member, int64_t timestamp, double value) {
  const struct metric_options *options = shaper->options;
  struct shape_member *state = &shaper->members[member];
  if (options->shape == METRIC_TOTAL) {
    metric_partial_add(&state->partial, value, timestamp);
    return SQLITE_OK;
  }
  if (!options->by_series) return change_line(shaper, member, timestamp, value);
  if (options->shape == METRIC_EACH) return metric_rows_add(shaper->rows, member, timestamp, value, NULL, 0);
  return add_to_window(shaper, &state->partial, &state->window, member, timestamp, value);
}

static int end_deltas(struct metric_shaper *shaper, uint32_t member) {
  struct shape_member *state = &shaper->members[member];
  double value;
  bool any = metric_deltas_value(&state->deltas, shaper->options->function == METRIC_RATE, &value);
  state->deltas = (struct metric_deltas){0};
  return any ? metric_rows_add(shaper->rows, member, state->window, value, NULL, 0) : SQLITE_OK;
}

static int by_index(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left;
  uint32_t b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

/* The mean over the series that have a value in the window, added up in their order. */
static int end_group_deltas(struct metric_shaper *shaper, uint32_t index) {
  struct shape_group *group = &shaper->groups[index];
  uint32_t *touched = &shaper->touched[shaper->catalog->groups[index].first_member];
  struct metric_partial mean = {0};
  if (group->touched > 1) qsort(touched, group->touched, sizeof *touched, by_index);
  for (uint32_t i = 0; i < group->touched; i++) {
    struct metric_deltas *deltas = &shaper->members[touched[i]].deltas;
    double value;
    if (metric_deltas_value(deltas, shaper->options->function == METRIC_RATE, &value)) {
      metric_partial_add(&mean, value, group->window);
    }
    *deltas = (struct metric_deltas){0};
  }
  group->touched = 0;
  if (mean.count == 0) return SQLITE_OK;
  double value = metric_partial_value(&mean, FOLD_AVG);
  return metric_rows_add(shaper->rows, index, group->window, value, NULL, 0);
}

static int add_deltas(struct metric_shaper *shaper, uint32_t member, int64_t timestamp,
                      const struct metric_deltas *deltas) {
  struct shape_member *state = &shaper->members[member];
  int64_t start = window_start(timestamp, shaper->options->window_ns);
  int rc = SQLITE_OK;
  if (shaper->options->by_series) {
    if (start != state->window) rc = end_deltas(shaper, member);
    state->window = start;
  } else {
    uint32_t index = shaper->catalog->members[member].group;
    struct shape_group *group = &shaper->groups[index];
    if (start != group->window) rc = end_group_deltas(shaper, index);
    group->window = start;
    if (state->deltas.count == 0) {
      shaper->touched[shaper->catalog->groups[index].first_member + group->touched++] = member;
    }
  }
  metric_deltas_merge(&state->deltas, deltas);
  return rc;
}

int metric_shaper_add(struct metric_shaper *shaper, uint32_t member, const struct series_sample *sample) {
  const struct metric_options *options = shaper->options;
  if (options->function != METRIC_RATE && options->function != METRIC_DELTA) {
    return add_value(shaper, member, sample->timestamp, sample->value);
  }
  struct shape_member *state = &shaper->members[member];
  struct shape_member last = *state;
  state->has_last = true;
  state->last = sample->timestamp;
  state->value = sample->value;
  if (!last.has_last) return SQLITE_OK;
  double delta = metric_delta(last.value, sample->value);
  uint64_t elapsed = (uint64_t)sample->timestamp - (uint64_t)last.last;
  if (options->shape == METRIC_DELTA_WINDOWS) {
    struct metric_deltas one = {.sum.sum = delta, .count = 1, .elapsed = elapsed};
    return add_deltas(shaper, member, sample->timestamp, &one);
  }
  if (options->function == METRIC_DELTA) return add_value(shaper, member, sample->timestamp, delta);
  if (elapsed == 0) return SQLITE_OK;
  return add_value(shaper, member, sample->timestamp, delta / metric_seconds(elapsed));
}

/* ROL-25: what the samples of the window would have given, as far as the query asks for it. */
static struct metric_partial partial_of(const struct series_sample *window, const struct series_piece *piece,
                                        enum metric_rollup rollup) {
  return (struct metric_partial){
      .sum.sum = rollup == ROLLUP_AVG ? window->value * (double)piece->count : window->value,
      .count = piece->count,
      .min = window->value,
      .max = window->value,
      .newest = piece->last,
  };
}

int metric_shaper_add_piece(struct metric_shaper *shaper, uint32_t member, const struct series_sample *window,
                            const struct series_piece *piece) {
  const struct metric_options *options = shaper->options;
  struct shape_member *state = &shaper->members[member];
  if (options->shape == METRIC_DELTA_WINDOWS) {
    struct metric_deltas deltas = {
        .sum.sum = window->value,
        .count = piece->count,
        .elapsed = (uint64_t)piece->last - (uint64_t)state->last,
    };
    state->last = piece->last;
    state->value = piece->last_value;
    return add_deltas(shaper, member, window->timestamp, &deltas);
  }
  struct metric_partial partial = partial_of(window, piece, options->rollup);
  int rc = SQLITE_OK;
  if (options->shape == METRIC_WINDOWS) {
    int64_t start = window_start(window->timestamp, options->window_ns);
    if (start != state->window) rc = end_window(shaper, &state->partial, state->window, member);
    state->window = start;
  }
  metric_partial_merge(&state->partial, &partial);
  return rc;
}

/* All values of the range in one. */
static int end_total(struct metric_shaper *shaper, uint32_t unit) {
  struct metric_partial total = {0};
  uint32_t first = unit;
  uint32_t count = 1;
  if (!shaper->options->by_series) {
    first = shaper->catalog->groups[unit].first_member;
    count = shaper->catalog->groups[unit].members;
  }
  for (uint32_t i = 0; i < count; i++) metric_partial_merge(&total, &shaper->members[first + i].partial);
  if (total.count == 0) return SQLITE_OK;
  double value = metric_partial_value(&total, shaper->options->combine);
  return metric_rows_add(shaper->rows, unit, total.newest, value, NULL, 0);
}

int metric_shaper_flush(struct metric_shaper *shaper, uint32_t unit) {
  bool by_series = shaper->options->by_series;
  switch (shaper->options->shape) {
    case METRIC_TOTAL: return end_total(shaper, unit);
    case METRIC_DELTA_WINDOWS: return by_series ? end_deltas(shaper, unit) : end_group_deltas(shaper, unit);
    case METRIC_EACH: return by_series ? SQLITE_OK : end_moment(shaper, &shaper->groups[unit]);
    case METRIC_WINDOWS: {
      if (by_series) return end_window(shaper, &shaper->members[unit].partial, shaper->members[unit].window, unit);
      struct shape_group *group = &shaper->groups[unit];
      int rc = end_moment(shaper, group);
      return rc != SQLITE_OK ? rc : end_window(shaper, &group->partial, group->window, unit);
    }
    default: return SQLITE_OK;
  }
}
