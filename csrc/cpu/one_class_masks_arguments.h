// What the ends of mask heads take in any type, beside their packed weights.
#pragma once

#include "../stable.h"

#include <algorithm>

namespace cascadezoo {
namespace {

// that tensors are of ``type``, on a CPU, and belong together; name: of the operator
inline void check_mask_end(
    const char* name, ScalarType type, const Tensor& x, const Tensor& weight, const Tensor& bias,
    const Tensor& class_weight, const Tensor& class_bias, const Tensor& labels) {
  const int64_t out = bias.numel(), classes = class_bias.numel();
  STD_TORCH_CHECK(
      has_shape(bias, {out}) && has_shape(class_weight, {classes, out}) && has_shape(class_bias, {classes}) &&
          has_shape(labels, {x.size(0)}),
      name, ": bias must be (K,), class_weight (classes, K), class_bias (classes,) and labels (R,)");
  for (const Tensor* tensor : {&x, &weight, &bias, &class_weight, &class_bias})
    STD_TORCH_CHECK(
        tensor->scalar_type() == type && tensor->is_cpu(), name, ": tensors must be ",
        type == ScalarType::Float ? "float32" : "bfloat16", ", on a CPU");
  STD_TORCH_CHECK(labels.scalar_type() == ScalarType::Long && labels.is_cpu(), name, ": labels must be int64, on a CPU");
  const Tensor of = torch::stable::contiguous(labels);
  const int64_t* first = of.const_data_ptr<int64_t>();
  STD_TORCH_CHECK(
      std::all_of(first, first + of.numel(), [&](int64_t label) { return label >= 0 && label < classes; }), name,
      ": labels must lie in 0..", classes - 1);
}

}  // namespace
}  // namespace cascadezoo
