// RoIAlign's kernels for CUDA, over all levels of a pyramid, as operators.
#include <algorithm>
#include <cmath>
#include <vector>

#include "binding.h"
#include "pyramid_roi_align.h"

namespace cascadezoo {
namespace {

using torch::headeronly::MemoryFormat;

constexpr int64_t kMostPoints = 1 << 14;   // per bin and axis, as on the CPU
constexpr int64_t kMostShared = 48 << 10;  // bytes that a block has without asking
constexpr int64_t kMost = 2147483647;

Tensor with_channels_last(const Tensor& tensor) {
  return torch::stable::contiguous(tensor, MemoryFormat::ChannelsLast);
}

void check_boxes(const Tensor& boxes, const Tensor& levels, const Tensor& like) {
  STD_TORCH_CHECK(boxes.dim() == 3 && boxes.size(2) == 4, "pyramid_roi_align: boxes must be (N, R, 4)");
  STD_TORCH_CHECK(
      has_shape(levels, {boxes.size(0), boxes.size(1)}) && levels.scalar_type() == ScalarType::Long,
      "pyramid_roi_align: levels must be (N, R), of int64");
  const ScalarType type = like.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || is_half(type),
      "pyramid_roi_align: features, or grad, must be floating point");
  STD_TORCH_CHECK(
      boxes.scalar_type() == ScalarType::Float || boxes.scalar_type() == accumulating(type),
      "pyramid_roi_align: boxes must be of float32, or of the features' type where that is float64");
  STD_TORCH_CHECK(
      boxes.device() == like.device() && levels.device() == like.device(),
      "pyramid_roi_align: tensors on different devices");
}

// All but the maps' memory; sizes are (N, C, H, W) of each level.
Pyramid pyramid(
    const std::vector<std::array<int64_t, 4>>& sizes, const std::vector<double>& scales, const Tensor& boxes,
    ScalarType type, int64_t resolution, int64_t sampling, bool aligned) {
  STD_TORCH_CHECK(
      sizes.size() >= 1 && sizes.size() <= kMostLevels && scales.size() == sizes.size(),
      "pyramid_roi_align: 1 to ", kMostLevels, " levels, and a scale for each");
  STD_TORCH_CHECK(
      sampling >= 0 && sampling <= kMostPoints, "pyramid_roi_align: sampling_ratio must lie in 0..", kMostPoints,
      ", not ", sampling);
  Pyramid p{};
  p.levels = static_cast<int>(sizes.size());
  for (int i = 0; i < p.levels; ++i) {
    const auto& [n, channels, h, w] = sizes[i];
    STD_TORCH_CHECK(
        n == boxes.size(0) && channels == sizes[0][1], "pyramid_roi_align: levels of different images or channels");
    STD_TORCH_CHECK(std::max({h, w, channels}) <= kMost, "pyramid_roi_align: a level of 2^31 cells along a side");
    STD_TORCH_CHECK(std::isfinite(scales[i]), "pyramid_roi_align: scale must be a finite number");
    p.level[i] = {nullptr, static_cast<int>(h), static_cast<int>(w), scales[i]};
  }
  const int64_t rois = boxes.size(0) * boxes.size(1);
  STD_TORCH_CHECK(rois <= kMost, "pyramid_roi_align: 2^31 boxes or more");
  // what a block places of its box has to fit into its shared memory
  STD_TORCH_CHECK(
      resolution > 0 && resolution <= kMostShared, "pyramid_roi_align: resolution must lie in 1..", kMostShared,
      ", not ", resolution);
  p.channels = static_cast<int>(sizes[0][1]);
  p.boxes = static_cast<int>(boxes.size(1));
  p.bins = static_cast<int>(resolution);
  p.sampling = static_cast<int>(sampling);
  p.aligned = aligned;
  STD_TORCH_CHECK(
      pyramid_roi_align_shared(kind_of(type), p) <= kMostShared,
      "pyramid_roi_align: more cells along a side of a level, or more bins, than the CUDA kernel has memory for:"
      " CASCADEZOO_OPS=torch has room");
  return p;
}

Tensor pyramid_roi_align(
    const std::vector<Tensor>& features, const Tensor& boxes, const Tensor& levels, const std::vector<double>& scales,
    int64_t resolution, int64_t sampling_ratio, bool aligned) {
  STD_TORCH_CHECK(!features.empty(), "pyramid_roi_align: no levels");
  const ScalarType type = features[0].scalar_type();
  std::vector<std::array<int64_t, 4>> sizes;
  for (const Tensor& map : features) {
    STD_TORCH_CHECK(map.dim() == 4, "pyramid_roi_align: features must be (N, C, H, W)");
    STD_TORCH_CHECK(
        map.scalar_type() == type && map.device() == features[0].device(),
        "pyramid_roi_align: features of different types or devices");
    sizes.push_back({map.size(0), map.size(1), map.size(2), map.size(3)});
  }
  check_boxes(boxes, levels, features[0]);
  Pyramid p = pyramid(sizes, scales, boxes, type, resolution, sampling_ratio, aligned);
  const OnDevice device(features[0]);
  std::vector<Tensor> maps;
  for (int i = 0; i < p.levels; ++i) {
    maps.push_back(with_channels_last(features[i]));
    p.level[i].cells = const_cast<void*>(maps[i].const_data_ptr());
  }
  const Tensor from = torch::stable::contiguous(cast(boxes, accumulating(type)));
  const Tensor of = torch::stable::contiguous(levels);
  const int64_t rois = boxes.size(0) * boxes.size(1);
  Tensor pooled = torch::stable::new_empty(features[0], {rois, resolution, resolution, p.channels});
  if (pooled.numel() > 0) {
    const char* error = pyramid_roi_align_cuda_forward(
        kind_of(type), p, rois, from.const_data_ptr(), of.const_data_ptr<int64_t>(), pooled.mutable_data_ptr(),
        device.stream);
    check_launch("pyramid_roi_align", error);
  }
  return seen_channels_first(pooled);
}

std::vector<Tensor> pyramid_roi_align_backward(
    const Tensor& grad, const Tensor& boxes, const Tensor& levels, const std::vector<double>& scales,
    int64_t sampling_ratio, bool aligned, const std::vector<int64_t>& heights, const std::vector<int64_t>& widths) {
  STD_TORCH_CHECK(
      grad.dim() == 4 && grad.size(2) == grad.size(3), "pyramid_roi_align_backward: grad must be (N * R, C, P, P)");
  STD_TORCH_CHECK(
      heights.size() == widths.size(), "pyramid_roi_align_backward: a height and a width for each level");
  check_boxes(boxes, levels, grad);
  STD_TORCH_CHECK(
      grad.size(0) == boxes.size(0) * boxes.size(1), "pyramid_roi_align_backward: grad must be (N * R, C, P, P)");
  const ScalarType type = grad.scalar_type();
  std::vector<std::array<int64_t, 4>> sizes;
  for (size_t i = 0; i < heights.size(); ++i) {
    STD_TORCH_CHECK(heights[i] >= 0 && widths[i] >= 0, "pyramid_roi_align_backward: sides must not be negative");
    sizes.push_back({boxes.size(0), grad.size(1), heights[i], widths[i]});
  }
  Pyramid p = pyramid(sizes, scales, boxes, type, grad.size(2), sampling_ratio, aligned);
  const OnDevice device(grad);
  // sums of half types are kept in float32: there are no fast atomic additions of halves, and they would lose digits
  std::vector<Tensor> maps;
  for (int i = 0; i < p.levels; ++i) {
    const Pyramid::Level& level = p.level[i];
    maps.push_back(
        torch::stable::new_zeros(grad, {boxes.size(0), level.h, level.w, p.channels}, accumulating(type)));
    p.level[i].cells = maps[i].mutable_data_ptr();
  }
  const Tensor above = with_channels_last(grad);
  const Tensor from = torch::stable::contiguous(cast(boxes, accumulating(type)));
  const Tensor of = torch::stable::contiguous(levels);
  if (grad.numel() > 0) {
    const char* error = pyramid_roi_align_cuda_backward(
        kind_of(type), p, grad.size(0), from.const_data_ptr(), of.const_data_ptr<int64_t>(), above.const_data_ptr(),
        device.stream);
    check_launch("pyramid_roi_align_backward", error);
  }
  for (Tensor& map : maps) map = seen_channels_first(cast(map, type));
  return maps;
}

}  // namespace
}  // namespace cascadezoo

CZ_CUDA_OPERATORS(m) {
  m.impl("pyramid_roi_align", TORCH_BOX(&cascadezoo::pyramid_roi_align));
  m.impl("pyramid_roi_align_backward", TORCH_BOX(&cascadezoo::pyramid_roi_align_backward));
}
