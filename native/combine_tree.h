/*
 * The newest values of many series, combined anew after each change in logarithmic time (QL-97).
 *
 * A complete binary tree over the series in their fixed order: every node holds the aggregate of its
 * two children. Nothing is ever subtracted, so a result depends on the values alone, not on how they
 * came to be, and an infinity leaves no trace behind.
 */
#ifndef EVENTD_COMBINE_TREE_H
#define EVENTD_COMBINE_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "metric_partial.h"

struct combine_node {
  double value;
  /* Series below that have a value; 0 = the value means nothing. */
  uint32_t count;
};

/* Nodes of a tree over `series` (at least one) series. All zero is a tree without values. */
size_t combine_tree_size(uint32_t series);

/* Sets the value of one series. */
void combine_tree_set(struct combine_node *tree, uint32_t series, uint32_t index, double value, enum metric_fold fold);

/* The aggregate over all series that have a value; there must be one. */
double combine_tree_value(const struct combine_node *tree, enum metric_fold fold);

#endif
