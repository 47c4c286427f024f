// DCNv3's kernels for CUDA as operators.
#include "../dcnv3_arguments.h"
#include "binding.h"
#include "dcnv3.h"

namespace cascadezoo {
namespace {

Dcnv3Shape32 checked(
    const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel, const Pair& stride,
    const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = dcnv3_shape(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  return dcnv3_shape32(p, 2 * p.groups * p.points());
}

Tensor dcnv3(
    const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel, const Pair& stride,
    const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape32 p = checked(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  const OnDevice device(input);
  const Tensor in = torch::stable::contiguous(input), off = torch::stable::contiguous(offset),
               m = torch::stable::contiguous(mask);
  Tensor output = torch::stable::new_empty(in, {p.n, p.ho, p.wo, p.channels()});
  const char* error = dcnv3_cuda_forward(
      kind_of(in.scalar_type()), off.scalar_type() == ScalarType::Float, in.const_data_ptr(), off.const_data_ptr(),
      m.const_data_ptr(), output.mutable_data_ptr(), p, device.stream);
  check_launch("dcnv3", error);
  return output;
}

std::tuple<Tensor, Tensor, Tensor> dcnv3_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel,
    const Pair& stride, const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape32 p = checked(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  dcnv3_check_grad(grad, input, p);
  const OnDevice device(input);
  const Tensor up = torch::stable::contiguous(grad), in = torch::stable::contiguous(input),
               off = torch::stable::contiguous(offset), m = torch::stable::contiguous(mask);
  // sums of half types are kept in float32: there are no fast atomic additions of halves, and they would lose digits
  Tensor to_input = torch::stable::new_zeros(in, in.sizes(), accumulating(in.scalar_type()));
  Tensor to_offset = torch::stable::new_empty(off, off.sizes()), to_mask = torch::stable::new_empty(m, m.sizes());
  const char* error = dcnv3_cuda_backward(
      kind_of(in.scalar_type()), off.scalar_type() == ScalarType::Float, up.const_data_ptr(), in.const_data_ptr(),
      off.const_data_ptr(), m.const_data_ptr(), to_input.mutable_data_ptr(), to_offset.mutable_data_ptr(),
      to_mask.mutable_data_ptr(), p, device.stream);
  check_launch("dcnv3_backward", error);
  return {cast(to_input, in.scalar_type()), to_offset, to_mask};
}

}  // namespace
}  // namespace cascadezoo

CZ_CUDA_OPERATORS(m) {
  m.impl("dcnv3", TORCH_BOX(&cascadezoo::dcnv3));
  m.impl("dcnv3_backward", TORCH_BOX(&cascadezoo::dcnv3_backward));
}
