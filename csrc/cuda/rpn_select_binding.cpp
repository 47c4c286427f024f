// The selection of proposals for CUDA as an operator.
#include <algorithm>
#include <vector>

#include "binding.h"
#include "rpn_select.h"

namespace cascadezoo {
namespace {

constexpr int64_t kMostOfLevel = 1 << 30;  // anchors
constexpr int64_t kMostRows = 1 << 30;     // of an image
constexpr int64_t kMostImages = 65535;     // of a grid's second axis

using Numbers = std::vector<double>;

RpnRule rule_of(
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

// All but the levels' memory
RpnLevels levels_of(
    const std::vector<Tensor>& logits, const std::vector<Tensor>& deltas, const Tensor& sizes,
    const std::vector<int64_t>& widths, const std::vector<int64_t>& strides, const Numbers& firsts,
    const Numbers& halves) {
  const size_t count = logits.size();
  STD_TORCH_CHECK(count >= 1 && count <= kMostRpnLevels, "rpn_select: 1 to ", kMostRpnLevels, " levels, not ", count);
  STD_TORCH_CHECK(
      deltas.size() == count && widths.size() == count && strides.size() == count && firsts.size() == count,
      "rpn_select: give deltas, widths, strides and firsts for each level");
  STD_TORCH_CHECK(
      !halves.empty() && halves.size() % (2 * count) == 0 && halves.size() <= 2 * kMostAnchors,
      "rpn_select: halves must be (L, A, 2), and at most ", kMostAnchors,
      " pairs: CASCADEZOO_OPS=torch has room for more");
  RpnLevels levels{};
  levels.levels = static_cast<int>(count);
  levels.cell = static_cast<int>(halves.size() / (2 * count));
  for (size_t i = 0; i < halves.size(); ++i) levels.half[i / 2][i % 2] = static_cast<float>(halves[i]);
  for (size_t i = 0; i < count; ++i) {
    const ScalarType type = deltas[i].scalar_type();
    STD_TORCH_CHECK(
        logits[i].scalar_type() == ScalarType::Float && (type == ScalarType::Float || is_half(type)),
        "rpn_select: on CUDA logits must be float32, and deltas float32 or of a half type");
    STD_TORCH_CHECK(type == deltas[0].scalar_type(), "rpn_select: deltas of different types");
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
        widths[i] >= 1 && anchors % levels.cell == 0 && anchors / levels.cell % widths[i] == 0,
        "rpn_select: a level's anchors must be rows of ", widths[i], " cells of ", levels.cell, ", not ", anchors);
    levels.level[i] = {
        nullptr, nullptr, static_cast<int>(anchors), static_cast<int>(widths[i]), static_cast<float>(strides[i]),
        static_cast<float>(firsts[i])};
  }
  return levels;
}

// each anchor's four numbers are read at once
Tensor dense(const Tensor& tensor) {
  const Tensor made = torch::stable::contiguous(tensor);
  const size_t bytes = 4 * made.element_size();
  return reinterpret_cast<uintptr_t>(made.const_data_ptr()) % bytes == 0 ? made : torch::stable::clone(made);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> rpn_select(
    const std::vector<Tensor>& logits, const std::vector<Tensor>& deltas, const Tensor& sizes,
    const std::vector<int64_t>& widths, const std::vector<int64_t>& strides, const Numbers& firsts,
    const Numbers& halves, bool probability, const Numbers& stds, const Numbers& log_scale, int64_t extent,
    double min_size, int64_t top) {
  STD_TORCH_CHECK(sizes.dim() == 2 && sizes.size(1) == 2, "rpn_select: sizes must be (N, 2)");
  const RpnRule rule = rule_of(probability, stds, log_scale, extent, min_size);
  RpnLevels levels = levels_of(logits, deltas, sizes, widths, strides, firsts, halves);
  const int64_t images = sizes.size(0);
  STD_TORCH_CHECK(images <= kMostImages, "rpn_select: ", images, " images: at most ", kMostImages, " at once");
  STD_TORCH_CHECK(
      top >= 1 && top <= kMostRows / levels.levels, "rpn_select: top must lie in 1..", kMostRows / levels.levels,
      ", not ", top);
  const OnDevice device(sizes);
  std::vector<Tensor> kept;  // as long as the kernel is launched
  for (int i = 0; i < levels.levels; ++i) {
    kept.push_back(torch::stable::contiguous(logits[i]));
    levels.level[i].logits = kept.back().const_data_ptr<float>();
    kept.push_back(dense(deltas[i]));
    levels.level[i].deltas = kept.back().const_data_ptr();
  }
  const Tensor sides = torch::stable::contiguous(cast(sizes, ScalarType::Float));
  const int64_t rows = levels.levels * top;
  Tensor boxes = torch::stable::new_empty(sides, {images, rows, 4});
  Tensor scores = torch::stable::new_empty(sides, {images, rows});
  Tensor of_level = torch::stable::new_empty(sides, {images, rows}, ScalarType::Long);
  Tensor valid = torch::stable::new_empty(sides, {images, rows}, ScalarType::Bool);
  if (images > 0) {
    const RpnSize size{static_cast<int>(images), static_cast<int>(top)};
    const auto bytes = static_cast<int64_t>(rpn_select_scratch(levels, size));
    Tensor scratch = torch::stable::new_empty(sides, {bytes}, ScalarType::Byte);
    const RpnSelected selected{
        static_cast<Box*>(boxes.mutable_data_ptr()), scores.mutable_data_ptr<float>(),
        of_level.mutable_data_ptr<int64_t>(), valid.mutable_data_ptr<bool>()};
    const char* error = rpn_select_cuda(
        kind_of(deltas[0].scalar_type()), levels, size, rule, sides.const_data_ptr<float>(), scratch.mutable_data_ptr(),
        selected, device.stream);
    check_launch("rpn_select", error);
  }
  return {boxes, scores, of_level, valid};
}

}  // namespace
}  // namespace cascadezoo

CZ_CUDA_OPERATORS(m) { m.impl("rpn_select", TORCH_BOX(&cascadezoo::rpn_select)); }
