// What rpn_select is given, checked on every device: the kernels trust every number that they are given.
#pragma once

#include <algorithm>
#include <vector>

#include "rpn_select.h"
#include "stable.h"

namespace cascadezoo {

constexpr int64_t kMostOfLevel = 1 << 30;  // anchors
constexpr int64_t kMostRows = 1 << 30;     // of an image

using Numbers = std::vector<double>;

inline RpnRule rpn_rule(
    bool probability, const Numbers& stds, const Numbers& log_scale, int64_t extent, double min_size) {
  STD_TORCH_CHECK(stds.size() == 4 && log_scale.size() == 2, "rpn_select: stds must be 4 numbers, and log_scale 2");
  STD_TORCH_CHECK(extent == 0 || extent == 1, "rpn_select: extent must be 0 or 1, not ", extent);
  RpnRule rule{};
  rule.probability = probability;
  std::copy(stds.begin(), stds.end(), rule.stds);
  rule.low = static_cast<float>(log_scale[0]), rule.high = static_cast<float>(log_scale[1]);
  rule.extent = static_cast<int>(extent);
  rule.least = static_cast<float>(min_size);
  return rule;
}

// How many anchors a cell has
inline int64_t check_rpn_levels(
    const std::vector<Tensor>& logits, const std::vector<Tensor>& deltas, const Tensor& sizes,
    const std::vector<int64_t>& widths, const std::vector<int64_t>& strides, const Numbers& firsts,
    const Numbers& halves) {
  const size_t count = logits.size();
  STD_TORCH_CHECK(sizes.dim() == 2 && sizes.size(1) == 2, "rpn_select: sizes must be (N, 2)");
  STD_TORCH_CHECK(
      count >= 1 && deltas.size() == count && widths.size() == count && strides.size() == count &&
          firsts.size() == count,
      "rpn_select: give deltas, widths, strides and firsts for each level");
  STD_TORCH_CHECK(!halves.empty() && halves.size() % (2 * count) == 0, "rpn_select: halves must be (L, A, 2)");
  const auto of_cell = static_cast<int64_t>(halves.size() / (2 * count));
  for (size_t i = 0; i < count; ++i) {
    STD_TORCH_CHECK(logits[i].scalar_type() == ScalarType::Float, "rpn_select: logits must be float32");
    STD_TORCH_CHECK(is_floating(deltas[i]), "rpn_select: deltas must be floating point");
    STD_TORCH_CHECK(
        deltas[i].scalar_type() == deltas[0].scalar_type(), "rpn_select: deltas of different types");
    STD_TORCH_CHECK(
        logits[i].device() == sizes.device() && deltas[i].device() == sizes.device(),
        "rpn_select: tensors on different devices");
    const int64_t anchors = logits[i].dim() == 2 ? logits[i].size(1) : 0;
    STD_TORCH_CHECK(
        has_shape(logits[i], {sizes.size(0), anchors}) && has_shape(deltas[i], {sizes.size(0), anchors, 4}),
        "rpn_select: logits must be (N, K), and deltas (N, K, 4)");
    STD_TORCH_CHECK(
        anchors >= 1 && anchors <= kMostOfLevel, "rpn_select: a level must have 1 to ", kMostOfLevel,
        " anchors, not ", anchors);
    STD_TORCH_CHECK(
        widths[i] >= 1 && anchors % of_cell == 0 && anchors / of_cell % widths[i] == 0,
        "rpn_select: a level's anchors must be rows of ", widths[i], " cells of ", of_cell, ", not ", anchors);
  }
  return of_cell;
}

inline void check_rpn_top(int64_t top, int64_t levels) {
  STD_TORCH_CHECK(
      top >= 1 && top <= kMostRows / levels, "rpn_select: top must lie in 1..", kMostRows / levels, ", not ", top);
}

// All but the level's memory
inline RpnLevel rpn_level(const Tensor& logits, int64_t width, int64_t stride, double first) {
  return {
      nullptr, nullptr, static_cast<int>(logits.size(1)), static_cast<int>(width), static_cast<float>(stride),
      static_cast<float>(first)};
}

}  // namespace cascadezoo
