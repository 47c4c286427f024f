// The selection of proposals for CUDA as an operator.
#include <vector>

#include "../rpn_select_arguments.h"
#include "binding.h"
#include "rpn_select.h"

namespace cascadezoo {
namespace {

constexpr int64_t kMostImages = 65535;  // of a grid's second axis

// All but the levels' memory
RpnLevels levels_of(
    const std::vector<Tensor>& logits, const std::vector<Tensor>& deltas, const Tensor& sizes,
    const std::vector<int64_t>& widths, const std::vector<int64_t>& strides, const Numbers& firsts,
    const Numbers& halves) {
  const size_t count = logits.size();
  STD_TORCH_CHECK(count >= 1 && count <= kMostRpnLevels, "rpn_select: 1 to ", kMostRpnLevels, " levels, not ", count);
  STD_TORCH_CHECK(
      halves.size() <= 2 * kMostAnchors, "rpn_select: halves must be those of at most ", kMostAnchors,
      " anchors: CASCADEZOO_OPS=torch has room for more");
  for (const Tensor& of_level : deltas) {
    const ScalarType type = of_level.scalar_type();
    STD_TORCH_CHECK(
        type == ScalarType::Float || is_half(type), "rpn_select: on CUDA deltas must be float32 or of a half type");
  }
  RpnLevels levels{};
  levels.levels = static_cast<int>(count);
  levels.cell = static_cast<int>(check_rpn_levels(logits, deltas, sizes, widths, strides, firsts, halves));
  for (size_t i = 0; i < halves.size(); ++i) levels.half[i / 2][i % 2] = static_cast<float>(halves[i]);
  for (size_t i = 0; i < count; ++i) levels.level[i] = rpn_level(logits[i], widths[i], strides[i], firsts[i]);
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
  const RpnRule rule = rpn_rule(probability, stds, log_scale, extent, min_size);
  RpnLevels levels = levels_of(logits, deltas, sizes, widths, strides, firsts, halves);
  check_rpn_top(top, levels.levels);
  const int64_t images = sizes.size(0);
  STD_TORCH_CHECK(images <= kMostImages, "rpn_select: ", images, " images: at most ", kMostImages, " at once");
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
