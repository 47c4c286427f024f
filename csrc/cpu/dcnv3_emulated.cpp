// The CUDA kernels' functors run as plain loops, so that a machine without a GPU tests their maths: all that is left to a
// GPU is the launch and the atomic additions.
#include "../dcnv3_arguments.h"

namespace cascadezoo {
namespace {

struct PlainAdd {
  template <class A>
  void operator()(A* to, A value) const {
    *to += value;
  }
};

template <class F>
void for_each(const F& f) {
  for (int64_t item = 0; item < f.items(); ++item) f(item);
}

template <class T, int V>
Tensor run_forward(const Tensor& input, const Tensor& offset, const Tensor& mask, const Dcnv3Shape& p) {
  if (input.numel() == 0) return torch::stable::new_zeros(input, {p.n, p.ho, p.wo, p.channels()});
  Tensor output = torch::stable::new_empty(input, {p.n, p.ho, p.wo, p.channels()});
  for_each(Dcnv3Forward<T, T, V>{
      input.const_data_ptr<T>(), offset.const_data_ptr<T>(), mask.const_data_ptr<T>(), output.mutable_data_ptr<T>(), p});
  return output;
}

template <class T, int V>
std::tuple<Tensor, Tensor, Tensor> run_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, const Dcnv3Shape& p) {
  Tensor to_input = torch::stable::new_zeros(input, input.sizes());
  Tensor to_offset = torch::stable::new_zeros(offset, offset.sizes());
  Tensor to_mask = torch::stable::new_zeros(mask, mask.sizes());
  if (input.numel() == 0) return {to_input, to_offset, to_mask};
  for_each(Dcnv3Backward<T, T, V, PlainAdd>{
      grad.const_data_ptr<T>(), input.const_data_ptr<T>(), offset.const_data_ptr<T>(), mask.const_data_ptr<T>(),
      to_input.mutable_data_ptr<T>(), to_offset.mutable_data_ptr<T>(), to_mask.mutable_data_ptr<T>(), p, {}});
  return {to_input, to_offset, to_mask};
}

Dcnv3Shape checked(
    const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel, const Pair& stride,
    const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  STD_TORCH_CHECK(
      input.scalar_type() == offset.scalar_type() && !is_half(input.scalar_type()) && input.is_contiguous() &&
          offset.is_contiguous() && mask.is_contiguous(),
      "the emulation takes contiguous tensors of float32 or float64");
  return dcnv3_shape(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
}

Tensor forward(
    const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel, const Pair& stride,
    const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = checked(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  if (input.scalar_type() == ScalarType::Double)
    return p.width % 2 ? run_forward<double, 1>(input, offset, mask, p) : run_forward<double, 2>(input, offset, mask, p);
  return p.width % 4 ? run_forward<float, 1>(input, offset, mask, p) : run_forward<float, 4>(input, offset, mask, p);
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel,
    const Pair& stride, const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = checked(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  dcnv3_check_grad(grad, input, p);
  STD_TORCH_CHECK(grad.is_contiguous(), "the emulation takes contiguous tensors");
  if (input.scalar_type() == ScalarType::Double)
    return p.width % 2 ? run_backward<double, 1>(grad, input, offset, mask, p)
                       : run_backward<double, 2>(grad, input, offset, mask, p);
  return p.width % 4 ? run_backward<float, 1>(grad, input, offset, mask, p)
                     : run_backward<float, 4>(grad, input, offset, mask, p);
}

}  // namespace
}  // namespace cascadezoo

#define CZ_NUMBERS "int[2] kernel, int[2] stride, int[2] pad, int[2] dilation, int groups, float offset_scale"
STABLE_TORCH_LIBRARY_FRAGMENT(cascadezoo, m) {
  m.def("dcnv3_emulated(Tensor input, Tensor offset, Tensor mask, " CZ_NUMBERS ") -> Tensor");
  m.def(
      "dcnv3_backward_emulated(Tensor grad, Tensor input, Tensor offset, Tensor mask, " CZ_NUMBERS
      ") -> (Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("dcnv3_emulated", TORCH_BOX(&cascadezoo::forward));
  m.impl("dcnv3_backward_emulated", TORCH_BOX(&cascadezoo::backward));
}
