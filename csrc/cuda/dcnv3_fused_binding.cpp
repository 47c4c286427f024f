// DCNv3's kernel for inference as an operator.
#include "../dcnv3_arguments.h"
#include "binding.h"
#include "dcnv3_fused.h"

namespace cascadezoo {
namespace {

Tensor dcnv3_fused(
    const Tensor& input, const Tensor& offset_mask, const Pair& stride, const Pair& pad, const Pair& dilation,
    int64_t groups, double offset_scale) {
  const Dcnv3Shape p = dcnv3_window(input, {3, 3}, stride, pad, dilation, groups, offset_scale);
  const int64_t row = (3 * kFusedPoints * p.groups + 7) / 8 * 8;
  STD_TORCH_CHECK(
      has_shape(offset_mask, {p.n, p.ho, p.wo, row}),
      "dcnv3_fused: offset_mask must be (N, Ho, Wo, 27 * groups rounded up to a multiple of 8)");
  STD_TORCH_CHECK(
      offset_mask.scalar_type() == input.scalar_type() && offset_mask.device() == input.device(),
      "dcnv3_fused: offset_mask must be of input's type and device");
  STD_TORCH_CHECK(p.channels() < 1 << 26, "dcnv3_fused: 2^26 channels or more");  // a block counts those of 32 pixels
  const Dcnv3Shape32 small = dcnv3_shape32(p, row);
  const OnDevice device(input);
  const Tensor in = torch::stable::contiguous(input), points = torch::stable::contiguous(offset_mask);
  Tensor output = torch::stable::new_empty(in, {p.n, p.ho, p.wo, p.channels()});
  const char* error = dcnv3_fused_cuda(
      kind_of(in.scalar_type()), in.const_data_ptr(), points.const_data_ptr(), output.mutable_data_ptr(),
      static_cast<int>(row), small, device.stream);
  check_launch("dcnv3_fused", error);
  return output;
}

}  // namespace
}  // namespace cascadezoo

CZ_CUDA_OPERATORS(m) { m.impl("dcnv3_fused", TORCH_BOX(&cascadezoo::dcnv3_fused)); }
