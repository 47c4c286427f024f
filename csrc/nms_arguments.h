// Suppression's arguments, checked on every device: the kernels trust every number that they are given.
#pragma once

#include "stable.h"

namespace cascadezoo {

inline void check_nms_tensors(const Tensor& boxes, const Tensor& scores, const Tensor& valid) {
  STD_TORCH_CHECK(valid.scalar_type() == ScalarType::Bool, "nms: valid must be bool");
  STD_TORCH_CHECK(
      boxes.device() == scores.device() && boxes.device() == valid.device(), "nms: tensors on different devices");
}

inline void check_grouped_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, const Tensor& valid) {
  STD_TORCH_CHECK(boxes.dim() == 3 && boxes.size(2) == 4, "nms: boxes must be (N, K, 4)");
  const int64_t n = boxes.size(0), k = boxes.size(1);
  STD_TORCH_CHECK(
      has_shape(scores, {n, k}) && has_shape(groups, {n, k}) && has_shape(valid, {n, k}),
      "nms: scores, groups and valid must be (N, K)");
  STD_TORCH_CHECK(
      groups.scalar_type() == ScalarType::Long && groups.device() == boxes.device(),
      "nms: groups must be int64, on the boxes' device");
  check_nms_tensors(boxes, scores, valid);
}

inline void check_class_nms(const Tensor& boxes, const Tensor& scores, const Tensor& valid) {
  STD_TORCH_CHECK(scores.dim() == 3, "nms: scores must be (N, R, C)");
  const int64_t n = scores.size(0), rows = scores.size(1), classes = scores.size(2);
  STD_TORCH_CHECK(
      boxes.dim() == 4 && boxes.size(0) == n && boxes.size(1) == rows && boxes.size(3) == 4 &&
          (boxes.size(2) == 1 || boxes.size(2) == classes),
      "nms: boxes must be (N, R, 1, 4) or (N, R, C, 4)");
  STD_TORCH_CHECK(has_shape(valid, {n, rows}), "nms: valid must be (N, R)");
  check_nms_tensors(boxes, scores, valid);
}

}  // namespace cascadezoo
