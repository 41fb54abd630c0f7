#include "range_units.h"

#include <math.h>
#include <stdlib.h>

#include "combine_tree.h"

struct unit {
  size_t first;
  uint32_t count;
  /* Of its tree among the nodes of all. */
  size_t root;
  bool holds;
  bool changed;
};

struct range_units {
  struct range_test test;
  struct unit *units;
  uint32_t *unit_of;
  struct combine_node *nodes;
  /* Units that changed since the test was last asked. */
  uint32_t *changed;
  size_t changed_count;
  size_t holding;
};

struct range_units *range_units_new(const struct range_test *test, const uint32_t *unit_of, size_t series) {
  struct range_units *units = calloc(1, sizeof *units);
  if (units == NULL) return NULL;
  size_t count = series == 0 ? 0 : (size_t)unit_of[series - 1] + 1;
  units->test = *test;
  units->units = calloc(count + 1, sizeof *units->units);
  units->unit_of = calloc(series + 1, sizeof *units->unit_of);
  units->changed = calloc(count + 1, sizeof *units->changed);
  if (units->units == NULL || units->unit_of == NULL || units->changed == NULL) {
    range_units_free(units);
    return NULL;
  }
  for (size_t i = 0; i < series; i++) {
    struct unit *unit = &units->units[unit_of[i]];
    units->unit_of[i] = unit_of[i];
    if (unit->count++ == 0) unit->first = i;
  }
  size_t nodes = 0;
  for (size_t i = 0; i < count; i++) {
    units->units[i].root = nodes;
    nodes += combine_tree_size(units->units[i].count);
  }
  units->nodes = calloc(nodes + 1, sizeof *units->nodes);
  if (units->nodes == NULL) {
    range_units_free(units);
    return NULL;
  }
  return units;
}

void range_units_free(struct range_units *units) {
  if (units == NULL) return;
  free(units->units);
  free(units->unit_of);
  free(units->nodes);
  free(units->changed);
  free(units);
}

void range_units_set(struct range_units *units, size_t series, double value) {
  uint32_t index = units->unit_of[series];
  struct unit *unit = &units->units[index];
  combine_tree_set(units->nodes + unit->root, unit->count, (uint32_t)(series - unit->first), value, FOLD_AVG);
  if (unit->changed) return;
  unit->changed = true;
  units->changed[units->changed_count++] = index;
}

static bool listed(const struct range_test *test, const struct number *value) {
  size_t start = 0;
  size_t end = test->count;
  while (start < end) {
    size_t middle = start + (end - start) / 2;
    int order = number_compare(value, &test->numbers[middle]);
    if (order == 0) return true;
    if (order < 0) {
      end = middle;
    } else {
      start = middle + 1;
    }
  }
  return false;
}

static bool fulfils(const struct range_test *test, double mean) {
  /* Values near the limits of a double may add up to infinities that cancel each other. */
  if (isnan(mean)) return false;
  struct number value = {.kind = NUMBER_REAL, .real = mean};
  int order = number_compare(&value, &test->numbers[0]);
  switch (test->kind) {
    case TEST_EQUAL: return order == 0;
    case TEST_UNEQUAL: return order != 0;
    case TEST_ABOVE: return order > 0;
    case TEST_AT_LEAST: return order >= 0;
    case TEST_BELOW: return order < 0;
    case TEST_AT_MOST: return order <= 0;
    case TEST_IN: return listed(test, &value);
    case TEST_NOT_IN: return !listed(test, &value);
  }
  return false;
}

bool range_units_hold(struct range_units *units) {
  for (size_t i = 0; i < units->changed_count; i++) {
    struct unit *unit = &units->units[units->changed[i]];
    bool holds = fulfils(&units->test, combine_tree_value(units->nodes + unit->root, FOLD_AVG));
    units->holding += (size_t)holds - (size_t)unit->holds;
    unit->holds = holds;
    unit->changed = false;
  }
  units->changed_count = 0;
  return units->holding > 0;
}
