// The operators' arguments, checked: the kernels trust every number that they are given.
#pragma once

#include "dcnv3.h"
#include "stable.h"

#include <algorithm>
#include <vector>

namespace cascadezoo {

using Pair = std::vector<int64_t>;  // height, width

constexpr int64_t kMost = 2147483647;  // of sizes and counts: products of two of them are no overflow

inline int64_t dcnv3_output_size(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t span = size + 2 * pad - dilation * (kernel - 1) - 1;
  return span < 0 ? 0 : span / stride + 1;
}

// of the window and the input alone
inline Dcnv3Shape dcnv3_window(
    const Tensor& input, const Pair& kernel, const Pair& stride, const Pair& pad, const Pair& dilation, int64_t groups,
    double offset_scale) {
  STD_TORCH_CHECK(input.dim() == 4, "dcnv3: input must be (N, H, W, groups * width)");
  for (const Pair* pair : {&kernel, &stride, &pad, &dilation})
    STD_TORCH_CHECK(pair->size() == 2, "dcnv3: kernel, stride, pad and dilation must be pairs");
  for (int axis : {0, 1}) {
    STD_TORCH_CHECK(
        kernel[axis] > 0 && stride[axis] > 0 && dilation[axis] > 0, "dcnv3: kernel, stride and dilation must be positive");
    STD_TORCH_CHECK(pad[axis] >= 0, "dcnv3: pad must not be negative");
    STD_TORCH_CHECK(
        std::max({kernel[axis], stride[axis], dilation[axis], pad[axis], input.size(1 + axis)}) <= kMost,
        "dcnv3: kernel, stride, pad, dilation and the input's sides must be below 2^31");
  }
  STD_TORCH_CHECK(kernel[0] <= kMost / kernel[1], "dcnv3: a kernel of 2^31 points or more");
  STD_TORCH_CHECK(
      groups > 0 && groups <= kMost && input.size(3) % groups == 0, "dcnv3: groups must divide the input's channels");
  Dcnv3Shape p;
  p.n = input.size(0);
  p.h = input.size(1);
  p.w = input.size(2);
  p.ho = dcnv3_output_size(p.h, kernel[0], stride[0], pad[0], dilation[0]);
  p.wo = dcnv3_output_size(p.w, kernel[1], stride[1], pad[1], dilation[1]);
  STD_TORCH_CHECK(p.ho <= kMost && p.wo <= kMost, "dcnv3: an output side of 2^31 or more");
  p.groups = groups;
  p.width = input.size(3) / groups;
  p.kernel_h = kernel[0], p.kernel_w = kernel[1];
  p.stride_h = stride[0], p.stride_w = stride[1];
  p.pad_h = pad[0], p.pad_w = pad[1];
  p.dilation_h = dilation[0], p.dilation_w = dilation[1];
  p.scale = offset_scale;
  const ScalarType type = input.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || is_half(type), "dcnv3: input must be floating point");
  return p;
}

inline Dcnv3Shape dcnv3_shape(
    const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel, const Pair& stride,
    const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = dcnv3_window(input, kernel, stride, pad, dilation, groups, offset_scale);
  const int64_t sampled = groups * p.points();
  STD_TORCH_CHECK(
      has_shape(offset, {p.n, p.ho, p.wo, 2 * sampled}), "dcnv3: offset must be (N, Ho, Wo, groups * points * 2)");
  STD_TORCH_CHECK(has_shape(mask, {p.n, p.ho, p.wo, sampled}), "dcnv3: mask must be (N, Ho, Wo, groups * points)");
  const ScalarType type = input.scalar_type(), sampling = offset.scalar_type();
  STD_TORCH_CHECK(sampling == mask.scalar_type(), "dcnv3: offset and mask must be of one type");
  STD_TORCH_CHECK(
      sampling == type || sampling == accumulating(type), "dcnv3: offset and mask must be of input's type or float32");
  STD_TORCH_CHECK(
      input.device() == offset.device() && input.device() == mask.device(), "dcnv3: tensors on different devices");
  return p;
}

// The same in 32 bits, for a GPU.  Raises where an index, or a position along a side, needs more.  ``row``: the most
// numbers that a tensor holds of an output pixel's points.
inline Dcnv3Shape32 dcnv3_shape32(const Dcnv3Shape& p, int64_t row) {
  const double cells = static_cast<double>(p.n) * p.h * p.w + p.w + 1;  // with the corners of a point at the far edge
  const double outputs = static_cast<double>(p.n) * p.ho * p.wo;        // double holds such products well enough
  STD_TORCH_CHECK(
      cells * p.channels() <= kMost && outputs * p.channels() <= kMost && outputs * row <= kMost &&
          p.h + 2 * p.pad_h <= kMost && p.w + 2 * p.pad_w <= kMost,
      "dcnv3: 2^31 numbers or more in a tensor, or pixels along a padded side: give fewer images at a time");
  const auto as32 = [](int64_t number) { return static_cast<int32_t>(number); };
  return {as32(p.n),        as32(p.h),        as32(p.w),          as32(p.ho),         as32(p.wo),       as32(p.groups),
          as32(p.width),    as32(p.kernel_h), as32(p.kernel_w),   as32(p.stride_h),   as32(p.stride_w), as32(p.pad_h),
          as32(p.pad_w),    as32(p.dilation_h), as32(p.dilation_w), p.scale};
}

template <class I>
void dcnv3_check_grad(const Tensor& grad, const Tensor& input, const Dcnv3ShapeOf<I>& p) {
  STD_TORCH_CHECK(
      has_shape(grad, {p.n, p.ho, p.wo, p.channels()}) && grad.scalar_type() == input.scalar_type() &&
          grad.device() == input.device(),
      "dcnv3_backward: grad must be like the output");
}

}  // namespace cascadezoo
