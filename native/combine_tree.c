#include "combine_tree.h"

/* Leaves of the tree: the power of two that holds all series. */
static uint32_t leaves(uint32_t series) {
  uint32_t count = 1;
  while (count < series) count *= 2;
  return count;
}

/* Node 1 is the root, node n has the children 2n and 2n + 1; node 0 is unused. */
size_t combine_tree_size(uint32_t series) {
  return (size_t)leaves(series) * 2;
}

static double both(double left, double right, enum metric_fold fold) {
  switch (fold) {
    case FOLD_MIN: return right < left ? right : left;
    case FOLD_MAX: return right > left ? right : left;
    default: return left + right;
  }
}

void combine_tree_set(struct combine_node *tree, uint32_t series, uint32_t index, double value,
                      enum metric_fold fold) {
  size_t at = (size_t)leaves(series) + index;
  tree[at] = (struct combine_node){value, 1};
  while (at > 1) {
    at /= 2;
    const struct combine_node *left = &tree[at * 2];
    const struct combine_node *right = left + 1;
    tree[at].count = left->count + right->count;
    if (right->count == 0) {
      tree[at].value = left->value;
    } else {
      tree[at].value = left->count == 0 ? right->value : both(left->value, right->value, fold);
    }
  }
}

double combine_tree_value(const struct combine_node *tree, enum metric_fold fold) {
  return fold == FOLD_AVG ? tree[1].value / tree[1].count : tree[1].value;
}
