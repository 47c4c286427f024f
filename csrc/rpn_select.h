// The boxes of a region proposal network, in the order of operations of cascadezoo/ops/boxes.py and ops/anchors.py: whoever
// makes them has to be compiled without fused products and sums.
#pragma once

#include <cmath>

#include "numbers.h"

namespace cascadezoo {

// x1, y1, x2, y2; or what moves it: dx, dy, dw, dh
using Box = Pack<float, 4>;

// What a network says of a level's anchors, ordered by row, column and anchor of the cell
struct RpnLevel {
  const float* logits;  // (images, count)
  const void* deltas;   // (images, count, 4)
  int count, width;     // anchors, and cells in a row
  float stride, first;  // pixels between cells, and of the first one's centre
};

// How anchors move, and which are kept
struct RpnRule {
  bool probability;  // scores are the logits' sigmoid, else the logits
  float stds[4];     // factors of the deltas
  float low, high;   // bounds of dw and dh
  int extent;        // 1 where x2 is the last pixel inside a box
  float least;       // the smallest side
};

CZ_HD float rpn_score(float logit, const RpnRule& rule) { return rule.probability ? 1 / (1 + expf(-logit)) : logit; }

// as torch's clamp: NaN stays, and ``high`` comes last
CZ_HD float clamped(float value, float low, float high) {
  if (value != value) return value;
  const float raised = value < low ? low : value;
  return high < raised || high != high ? high : raised;
}

// Anchor ``i`` of a level; ``halves``: half the width and height of each of a cell's
CZ_HD Box anchor_of(const RpnLevel& level, const float (*halves)[2], int of_cell, int i) {
  const float* half = halves[i % of_cell];
  const int cell = i / of_cell;
  const float x = static_cast<float>(cell % level.width) * level.stride + level.first;
  const float y = static_cast<float>(cell / level.width) * level.stride + level.first;
  return {{x - half[0], y - half[1], x + half[0], y + half[1]}};
}

// The logarithm of how much larger than its anchor a box is along an axis
CZ_HD float log_growth(const Box& deltas, int axis, const RpnRule& rule) {
  return clamped(deltas.value[axis + 2] * rule.stds[axis + 2], rule.low, rule.high);
}

// ``growth``: the exponentials of both axes' ``log_growth``
CZ_HD Box decoded(const Box& deltas, const float* growth, const Box& anchor, const RpnRule& rule) {
  float low[2], high[2];
  const auto extent = static_cast<float>(rule.extent);
  for (int axis = 0; axis < 2; ++axis) {
    const float from = anchor.value[axis], to = anchor.value[axis + 2];
    const float side = to - from + extent;
    const float centre = (from + to + extent) * 0.5f + side * (deltas.value[axis] * rule.stds[axis]);
    const float half = side * growth[axis] * 0.5f;
    low[axis] = centre - half, high[axis] = centre + half - extent;
  }
  return {{low[0], low[1], high[0], high[1]}};
}

// ``size``: height and width of the image
CZ_HD Box clipped(const Box& box, const float* size, const RpnRule& rule) {
  const auto extent = static_cast<float>(rule.extent);
  const float height = size[0] - extent, width = size[1] - extent;
  return {
      {clamped(box.value[0], 0, width), clamped(box.value[1], 0, height), clamped(box.value[2], 0, width),
       clamped(box.value[3], 0, height)}};
}

CZ_HD bool large_enough(const Box& box, const RpnRule& rule) {
  const auto extent = static_cast<float>(rule.extent);
  return box.value[2] - box.value[0] + extent >= rule.least && box.value[3] - box.value[1] + extent >= rule.least;
}

}  // namespace cascadezoo
