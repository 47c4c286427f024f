// DCNv3's kernels for CUDA as operators.  Compiled by the C++ compiler, without a CUDA header.
#include "dcnv3.h"

#include <torch/csrc/stable/accelerator.h>

#include "../dcnv3_arguments.h"

// the stable headers declare it only where CUDA's own are included
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

namespace cascadezoo {
namespace {

Kind kind_of(ScalarType type) {
  switch (type) {
    case ScalarType::Double:
      return Kind::Double;
    case ScalarType::Half:
      return Kind::Half;
    case ScalarType::BFloat16:
      return Kind::BFloat16;
    default:
      return Kind::Float;  // dcnv3_shape lets nothing else through
  }
}

void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

void check(const char* error) {
  STD_TORCH_CHECK(
      error == nullptr, "dcnv3: ", error ? error : "",
      " (a library built for another GPU? `cascadezoo build-ops --cuda` builds for this one)");
}

Tensor dcnv3(
    const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel, const Pair& stride,
    const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = dcnv3_shape(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const Tensor in = torch::stable::contiguous(input), off = torch::stable::contiguous(offset),
               m = torch::stable::contiguous(mask);
  Tensor output = torch::stable::new_empty(in, {p.n, p.ho, p.wo, p.channels()});
  check(dcnv3_cuda_forward(
      kind_of(in.scalar_type()), off.scalar_type() == ScalarType::Float, in.const_data_ptr(), off.const_data_ptr(),
      m.const_data_ptr(), output.mutable_data_ptr(), p, current_stream(in)));
  return output;
}

std::tuple<Tensor, Tensor, Tensor> dcnv3_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel,
    const Pair& stride, const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = dcnv3_shape(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  dcnv3_check_grad(grad, input, p);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const Tensor up = torch::stable::contiguous(grad), in = torch::stable::contiguous(input),
               off = torch::stable::contiguous(offset), m = torch::stable::contiguous(mask);
  // sums of half types are kept in float32: there are no fast atomic additions of halves, and they would lose digits
  Tensor to_input = torch::stable::new_zeros(in, in.sizes(), accumulating(in.scalar_type()));
  Tensor to_offset = torch::stable::new_empty(off, off.sizes()), to_mask = torch::stable::new_empty(m, m.sizes());
  check(dcnv3_cuda_backward(
      kind_of(in.scalar_type()), off.scalar_type() == ScalarType::Float, up.const_data_ptr(), in.const_data_ptr(),
      off.const_data_ptr(), m.const_data_ptr(), to_input.mutable_data_ptr(), to_offset.mutable_data_ptr(),
      to_mask.mutable_data_ptr(), p, current_stream(in)));
  return {cast(to_input, in.scalar_type()), to_offset, to_mask};
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CUDA, m) {
  m.impl("dcnv3", TORCH_BOX(&cascadezoo::dcnv3));
  m.impl("dcnv3_backward", TORCH_BOX(&cascadezoo::dcnv3_backward));
}
