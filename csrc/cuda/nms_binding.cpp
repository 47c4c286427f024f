// Suppression's kernels for CUDA as operators.
#include <algorithm>
#include <cmath>

#include "../nms_arguments.h"
#include "binding.h"
#include "nms.h"

namespace cascadezoo {
namespace {

constexpr int64_t kMost = 2147483647;
constexpr int64_t kMostImages = 65535;  // of a grid's second axis

void check_types(const Tensor& boxes, const Tensor& scores) {
  STD_TORCH_CHECK(
      boxes.scalar_type() == ScalarType::Float && scores.scalar_type() == ScalarType::Float,
      "nms: on CUDA boxes and scores must be float32");
}

NmsRule rule_of(double iou, int64_t extent, bool rounded_shift, int64_t max_keep) {
  STD_TORCH_CHECK(max_keep >= 0 && max_keep <= kMost, "nms: max_keep must lie in 0..", kMost, ", not ", max_keep);
  STD_TORCH_CHECK(extent == 0 || extent == 1, "nms: extent must be 0 or 1, not ", extent);
  return {iou, static_cast<int>(extent), rounded_shift, static_cast<int>(max_keep)};
}

NmsSize size_of(int64_t images, int64_t count, int64_t groups, int64_t most, const NmsRule& rule) {
  STD_TORCH_CHECK(images <= kMostImages, "nms: ", images, " images: at most ", kMostImages, " at once");
  STD_TORCH_CHECK(count <= kMost, "nms: 2^31 candidates or more");
  STD_TORCH_CHECK(
      groups >= 0 && most >= 0 && groups <= kMost && most <= kMost,
      "nms: group_count and group_size must not be negative, and below 2^31");
  most = std::min(most, count);
  STD_TORCH_CHECK(
      most <= kMost / 2 && groups * std::min<int64_t>(rule.keep, most) <= kMost / 2,
      "nms: groups times what each keeps must be below 2^30");
  return {static_cast<int>(images), static_cast<int>(count), static_cast<int>(groups), static_cast<int>(most)};
}

// run(scratch, index, kept) where there is something to suppress
template <class F>
std::tuple<Tensor, Tensor> kept_of(const Tensor& like, const NmsSize& size, const NmsRule& rule, const F& run) {
  if (size.images == 0 || size.groups == 0 || size.most == 0 || rule.keep == 0)
    return {
        torch::stable::new_zeros(like, {size.images, rule.keep}, ScalarType::Long),
        torch::stable::new_zeros(like, {size.images}, ScalarType::Long)};
  const auto bytes = static_cast<int64_t>(nms_scratch(size, rule));
  Tensor scratch = torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
  Tensor index = torch::stable::new_empty(like, {size.images, rule.keep}, ScalarType::Long);
  Tensor kept = torch::stable::new_empty(like, {size.images}, ScalarType::Long);
  check_launch(
      "nms", run(scratch.mutable_data_ptr(), index.mutable_data_ptr<int64_t>(), kept.mutable_data_ptr<int64_t>()));
  return {index, kept};
}

std::tuple<Tensor, Tensor> grouped_nms(
    const Tensor& boxes, const Tensor& scores, const Tensor& groups, const Tensor& valid, double iou, int64_t extent,
    bool rounded_shift, int64_t group_count, int64_t group_size, int64_t max_keep) {
  check_grouped_nms(boxes, scores, groups, valid);
  check_types(boxes, scores);
  const int64_t n = boxes.size(0), k = boxes.size(1);
  const NmsRule rule = rule_of(iou, extent, rounded_shift, max_keep);
  const NmsSize size = size_of(n, k, group_count, group_size, rule);
  const OnDevice device(boxes);
  const Tensor b = torch::stable::contiguous(boxes), s = torch::stable::contiguous(scores),
               g = torch::stable::contiguous(groups), v = torch::stable::contiguous(valid);
  const GroupedCandidates candidates{
      b.const_data_ptr<float>(), s.const_data_ptr<float>(), g.const_data_ptr<int64_t>(), v.const_data_ptr<bool>(),
      size.count};
  return kept_of(boxes, size, rule, [&](void* scratch, int64_t* index, int64_t* kept) {
    return grouped_nms_cuda(candidates, size, rule, scratch, index, kept, device.stream);
  });
}

std::tuple<Tensor, Tensor> class_nms(
    const Tensor& boxes, const Tensor& scores, const Tensor& valid, double score_thresh, double iou, int64_t extent,
    bool rounded_shift, int64_t max_keep) {
  check_class_nms(boxes, scores, valid);
  check_types(boxes, scores);
  const int64_t n = scores.size(0), rows = scores.size(1), classes = scores.size(2);
  STD_TORCH_CHECK(classes == 0 || rows <= kMost / classes, "nms: 2^31 candidates or more");
  const NmsRule rule = rule_of(iou, extent, rounded_shift, max_keep);
  const NmsSize size = size_of(n, rows * classes, classes, rows, rule);
  const OnDevice device(boxes);
  const Tensor b = torch::stable::contiguous(boxes), v = torch::stable::contiguous(valid);
  // all but the last, background's, of more numbers a row are read where they are
  const Tensor s = scores.stride(2) == 1 ? scores : torch::stable::contiguous(scores);
  const ClassCandidates candidates{
      b.const_data_ptr<float>(), s.const_data_ptr<float>(), v.const_data_ptr<bool>(), size.count,
      static_cast<int>(rows), static_cast<int>(classes), static_cast<int>(boxes.size(2)), s.stride(0), s.stride(1),
      static_cast<float>(score_thresh)};
  return kept_of(boxes, size, rule, [&](void* scratch, int64_t* index, int64_t* kept) {
    return class_nms_cuda(candidates, size, rule, scratch, index, kept, device.stream);
  });
}

}  // namespace
}  // namespace cascadezoo

CZ_CUDA_OPERATORS(m) {
  m.impl("grouped_nms", TORCH_BOX(&cascadezoo::grouped_nms));
  m.impl("class_nms", TORCH_BOX(&cascadezoo::class_nms));
}
