// Masks to run lengths on CUDA as an operator.
#include <algorithm>

#include "../paste_rle_arguments.h"
#include "binding.h"
#include "paste_rle.h"

namespace cascadezoo {
namespace {

constexpr int64_t kMostDetections = 65535;  // of a launch
constexpr int64_t kMostWords = 1 << 24;     // of scratch memory, where one detection does not need more: 64 MB

std::tuple<Tensor, Tensor> paste_rle(
    const Tensor& probabilities, const Tensor& boxes, int64_t height, int64_t width, bool integer_box, int64_t cap) {
  check_paste_rle(probabilities, boxes, height, width, cap);
  const int64_t detections = probabilities.size(0), cells = probabilities.size(1);
  const OnDevice device(probabilities);
  Tensor ends = torch::stable::new_empty(boxes, {detections, cap}, ScalarType::Int);
  Tensor counts = torch::stable::new_empty(boxes, {detections}, ScalarType::Int);
  if (detections == 0) return {ends, counts};
  const Tensor masks = torch::stable::contiguous(cast(probabilities, ScalarType::Float));
  const Tensor corners = torch::stable::contiguous(cast(boxes, ScalarType::Float));
  const PasteSize size{static_cast<int>(cells), static_cast<int>(height), static_cast<int>(width)};
  const int64_t words = paste_words(size);
  const int64_t at_once = std::clamp<int64_t>(kMostWords / std::max<int64_t>(words, 1), 1, kMostDetections);
  Tensor scratch = torch::stable::new_empty(boxes, {std::min(at_once, detections) * words}, ScalarType::Int);
  for (int64_t start = 0; start < detections; start += at_once)
    check_launch(
        "paste_rle",
        paste_rle_cuda(
            integer_box ? PasteMethod::IntegerBox : PasteMethod::Bilinear, size,
            static_cast<int>(std::min(at_once, detections - start)),
            masks.const_data_ptr<float>() + start * cells * cells, corners.const_data_ptr<float>() + 4 * start,
            static_cast<int>(cap), reinterpret_cast<unsigned*>(scratch.mutable_data_ptr<int32_t>()),
            ends.mutable_data_ptr<int32_t>() + start * cap, counts.mutable_data_ptr<int32_t>() + start,
            device.stream));
  return {ends, counts};
}

}  // namespace
}  // namespace cascadezoo

CZ_CUDA_OPERATORS(m) { m.impl("paste_rle", TORCH_BOX(&cascadezoo::paste_rle)); }
