// DCNv3, forward and backward: many items add to the same pixels of grad_input.
#include "../../../csrc/cuda/dcnv3.h"
#include "noise.h"

int main() {
  cascadezoo::Dcnv3Shape p{};
  p.n = 1, p.h = p.w = p.ho = p.wo = 6, p.groups = 2, p.width = 8;
  p.kernel_h = p.kernel_w = 3, p.pad_h = p.pad_w = 1, p.scale = 1;
  p.stride_h = p.stride_w = p.dilation_h = p.dilation_w = 1;
  const auto values = static_cast<size_t>(p.pixels() * p.channels());
  const auto points = static_cast<size_t>(p.pixels() * p.groups * p.points());
  const std::vector<float> input = noise(values, -1, 1, 0), offset = noise(2 * points, -2, 2, 1);
  const std::vector<float> mask = noise(points, 0, 1, 2);
  std::vector<float> output(values), to_input(values), to_offset(2 * points), to_mask(points);
  cascadezoo::dcnv3_cuda_forward(
      cascadezoo::Kind::Float, true, input.data(), offset.data(), mask.data(), output.data(), p, nullptr);
  cascadezoo::dcnv3_cuda_backward(
      cascadezoo::Kind::Float, true, output.data(), input.data(), offset.data(), mask.data(), to_input.data(),
      to_offset.data(), to_mask.data(), p, nullptr);
}
