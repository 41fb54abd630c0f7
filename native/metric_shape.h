/*
 * From samples in the order of time to result rows: value functions, windows and the combination of
 * series (QL-93, QL-96..98, QL-106). Formulas: docs/decisions, "What METRIC computes".
 */
#ifndef EVENTD_METRIC_SHAPE_H
#define EVENTD_METRIC_SHAPE_H

#include "combine_tree.h"
#include "metric_eval.h"
#include "metric_reader.h"
#include "metric_rows.h"

/* What is known of a logical series at the current sample. */
struct shape_member {
  union {
    /* Of its values, in the range or in the current window. */
    struct metric_partial partial;
    struct metric_deltas deltas;
  };
  /* Start of the current window. */
  int64_t window;
  /* The last sample, for RATE and DELTA. */
  int64_t last;
  double value;
  bool has_last;
};

/* What is known of the series of one name together. */
struct shape_group {
  /* Newest value of each series. */
  struct combine_node *tree;
  /* Of the combined values in the current window. */
  struct metric_partial partial;
  int64_t window;
  /* Timestamp at which the tree changed last; it may still change at the same one. */
  int64_t last;
  bool changed;
  /* Series with deltas in the current window. */
  uint32_t touched;
};

struct metric_shaper {
  const struct metric_options *options;
  const struct metric_catalog *catalog;
  struct metric_rows *rows;
  struct shape_member *members;
  struct shape_group *groups;
  struct combine_node *nodes;
  /* Members touched in a group's window, in the places of the group's members. */
  uint32_t *touched;
};

/* Room for a finished catalog. */
enum metric_result metric_shaper_prepare(struct metric_shaper *shaper, struct metric_memory *memory);

/* The next sample in the order of time. Adds at most one row, to the sample's unit. SQLITE_OK or an error. */
int metric_shaper_add(struct metric_shaper *shaper, uint32_t member, const struct series_sample *sample);

/* The same for a stored rollup: its window's start and value, and the rest. */
int metric_shaper_add_piece(struct metric_shaper *shaper, uint32_t member, const struct series_sample *window,
                            const struct series_piece *piece);

/* There are no more samples: what is left of a unit, at most two rows. SQLITE_OK or an error. */
int metric_shaper_flush(struct metric_shaper *shaper, uint32_t unit);

/*
 * Whether the samples of a series may come as a block, before earlier ones of other series: its result does
 * not depend on them, nor does the order of rows that should be added in order.
 */
bool metric_shaper_takes_blocks(const struct metric_options *options);

void metric_shaper_free(struct metric_shaper *shaper);

#endif
