// What paste_rle is given, checked on every device: the kernels trust every number that they are given.
#pragma once

#include "stable.h"

namespace cascadezoo {

constexpr int64_t kMostPixels = 2147483647;  // of an image
constexpr int64_t kMostSide = 1 << 24;       // float32 counts no further
constexpr int64_t kMostCells = 32768;        // of a side, so that int32 counts those of a mask

inline void check_paste_rle(
    const Tensor& probabilities, const Tensor& boxes, int64_t height, int64_t width, int64_t cap) {
  STD_TORCH_CHECK(
      is_floating(probabilities) && is_floating(boxes), "paste_rle: probabilities and boxes must be floating point");
  STD_TORCH_CHECK(
      probabilities.dim() == 3 && probabilities.size(1) == probabilities.size(2) && probabilities.size(1) >= 1,
      "paste_rle: probabilities must be (D, M, M)");
  STD_TORCH_CHECK(has_shape(boxes, {probabilities.size(0), 4}), "paste_rle: boxes must be (D, 4)");
  STD_TORCH_CHECK(
      probabilities.size(1) <= kMostCells, "paste_rle: masks of more than ", kMostCells, " x ", kMostCells, " cells");
  STD_TORCH_CHECK(
      height >= 0 && width >= 0 && height <= kMostSide && width <= kMostSide && height * width <= kMostPixels,
      "paste_rle: an image of ", height, " x ", width, ": at most 2^24 pixels a side and 2^31 - 1 in all are counted");
  STD_TORCH_CHECK(cap >= 1 && cap <= kMostPixels / 2, "paste_rle: cap must lie in 1..2^30, not ", cap);
  STD_TORCH_CHECK(probabilities.device() == boxes.device(), "paste_rle: tensors on different devices");
}

}  // namespace cascadezoo
