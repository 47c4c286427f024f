// DCNv3 on the CPU.  Channels lie side by side, so each tap is a run of adjacent numbers: the inner loops are vectorised
// over the group's channels.  Wider vectors than the baseline's gain nothing: placing the points takes longer.  Half
// types are computed in float32.
#include "../dcnv3_arguments.h"
#include "rows.h"

#include <algorithm>

namespace cascadezoo {
namespace {

template <class A>
void forward_pixels(
    int64_t begin, int64_t end, const A* input, const A* offset, const A* mask, A* output, const Dcnv3Shape& p) {
  const int64_t points = p.points();
  std::vector<Tap<A>> taps(4 * points);
  Taps<A, int64_t> around;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const int64_t x = pixel % p.wo, y = pixel / p.wo % p.ho, image = pixel / (p.wo * p.ho);
    const A* from = input + image * p.h * p.w * p.channels();
    for (int64_t g = 0; g < p.groups; ++g) {
      int64_t count = 0;
      int64_t at = (pixel * p.groups + g) * points;
      for (int64_t ix = 0; ix < p.kernel_w; ++ix)  // x is the slow index
        for (int64_t iy = 0; iy < p.kernel_h; ++iy, ++at) {
          if (!around.place(p, y, x, iy, ix, offset[2 * at], offset[2 * at + 1])) continue;
          for (int c = 0; c < 4; ++c)
            if (around.inside[c]) taps[count++] = {around.pixel[c] * p.channels(), mask[at] * around.weight[c]};
        }
      sum_rows(taps.data(), count, p.width, from + g * p.width, output + pixel * p.channels() + g * p.width);
    }
  }
}

// <grad, row>, and weight * grad added to grad_row; eight partial sums, so that it can be vectorised
template <class A>
inline A dot_and_add(const A* grad, const A* row, A* grad_row, A weight, int64_t width) {
  A lanes[8] = {}, rest = 0;
  int64_t i = 0;
  for (; i + 8 <= width; i += 8)
    for (int v = 0; v < 8; ++v) {
      lanes[v] += grad[i + v] * row[i + v];
      grad_row[i + v] += weight * grad[i + v];
    }
  for (; i < width; ++i) {
    rest += grad[i] * row[i];
    grad_row[i] += weight * grad[i];
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7])) + rest;
}

// one group of one image: no other task writes its channels of grad_input, so the order of its sums is fixed
template <class A>
void backward_group(
    int64_t image, int64_t g, const A* grad, const A* input, const A* offset, const A* mask, A* grad_input,
    A* grad_offset, A* grad_mask, const Dcnv3Shape& p) {
  const int64_t points = p.points(), area = p.ho * p.wo, base = image * p.h * p.w * p.channels() + g * p.width;
  const A scale = static_cast<A>(p.scale);
  Taps<A, int64_t> around;
  for (int64_t pixel = image * area; pixel < (image + 1) * area; ++pixel) {
    const int64_t x = pixel % p.wo, y = pixel / p.wo % p.ho;
    const A* above = grad + pixel * p.channels() + g * p.width;
    for (int64_t k = 0, at = (pixel * p.groups + g) * points; k < points; ++k, ++at) {
      A to_mask = 0, to_x = 0, to_y = 0;
      if (around.place(p, y, x, k % p.kernel_h, k / p.kernel_h, offset[2 * at], offset[2 * at + 1]))
        for (int c = 0; c < 4; ++c) {
          if (!around.inside[c]) continue;
          const int64_t row = base + around.pixel[c] * p.channels();
          const A dot = dot_and_add(above, input + row, grad_input + row, mask[at] * around.weight[c], p.width);
          to_mask += around.weight[c] * dot;
          to_x += around.along_x[c] * dot;
          to_y += around.along_y[c] * dot;
        }
      grad_mask[at] = to_mask;
      grad_offset[2 * at] = scale * mask[at] * to_x;
      grad_offset[2 * at + 1] = scale * mask[at] * to_y;
    }
  }
}

template <class A>
Tensor run_forward(const Tensor& input, const Tensor& offset, const Tensor& mask, const Dcnv3Shape& p) {
  if (input.numel() == 0) return torch::stable::new_zeros(input, {p.n, p.ho, p.wo, p.channels()});
  Tensor output = torch::stable::new_empty(input, {p.n, p.ho, p.wo, p.channels()});
  const A *in = input.const_data_ptr<A>(), *off = offset.const_data_ptr<A>(), *m = mask.const_data_ptr<A>();
  A* out = output.mutable_data_ptr<A>();
  const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, p.channels()));
  torch::stable::parallel_for(
      0, p.pixels(), grain, [&](int64_t begin, int64_t end) { forward_pixels(begin, end, in, off, m, out, p); });
  return output;
}

template <class A>
std::tuple<Tensor, Tensor, Tensor> run_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, const Dcnv3Shape& p) {
  Tensor grad_input = torch::stable::new_zeros(input, input.sizes());
  if (input.numel() == 0)
    return {grad_input, torch::stable::new_zeros(offset, offset.sizes()), torch::stable::new_zeros(mask, mask.sizes())};
  Tensor grad_offset = torch::stable::new_empty(offset, offset.sizes());
  Tensor grad_mask = torch::stable::new_empty(mask, mask.sizes());
  const A *up = grad.const_data_ptr<A>(), *in = input.const_data_ptr<A>(), *off = offset.const_data_ptr<A>(),
          *m = mask.const_data_ptr<A>();
  A *to_input = grad_input.mutable_data_ptr<A>(), *to_offset = grad_offset.mutable_data_ptr<A>(),
    *to_mask = grad_mask.mutable_data_ptr<A>();
  torch::stable::parallel_for(0, p.n * p.groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task)
      backward_group(task / p.groups, task % p.groups, up, in, off, m, to_input, to_offset, to_mask, p);
  });
  return {grad_input, grad_offset, grad_mask};
}

Tensor prepared(const Tensor& tensor, ScalarType type) { return torch::stable::contiguous(cast(tensor, type)); }

Tensor dcnv3(
    const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel, const Pair& stride,
    const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = dcnv3_shape(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  const ScalarType type = accumulating(input.scalar_type());
  const Tensor in = prepared(input, type), off = prepared(offset, type), m = prepared(mask, type);
  const Tensor output = type == ScalarType::Double ? run_forward<double>(in, off, m, p) : run_forward<float>(in, off, m, p);
  return cast(output, input.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> dcnv3_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, const Pair& kernel,
    const Pair& stride, const Pair& pad, const Pair& dilation, int64_t groups, double offset_scale) {
  const Dcnv3Shape p = dcnv3_shape(input, offset, mask, kernel, stride, pad, dilation, groups, offset_scale);
  dcnv3_check_grad(grad, input, p);
  const ScalarType type = accumulating(input.scalar_type());
  const Tensor up = prepared(grad, type), in = prepared(input, type), off = prepared(offset, type),
               m = prepared(mask, type);
  const auto [to_input, to_offset, to_mask] =
      type == ScalarType::Double ? run_backward<double>(up, in, off, m, p) : run_backward<float>(up, in, off, m, p);
  return {cast(to_input, input.scalar_type()), cast(to_offset, offset.scalar_type()), cast(to_mask, mask.scalar_type())};
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("dcnv3", TORCH_BOX(&cascadezoo::dcnv3));
  m.impl("dcnv3_backward", TORCH_BOX(&cascadezoo::dcnv3_backward));
}
