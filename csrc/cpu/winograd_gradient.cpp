// The gradient of a 3 x 3 convolution's weight by Winograd's F(4 x 4, 3 x 3), by as few products as the convolution itself:
// the products of its points and of its output's gradient's points, summed over tiles.
#include "winograd.h"

#include <algorithm>
#include <vector>

namespace cascadezoo {
namespace {

constexpr int64_t kSummed = 64;  // tiles that a weight's gradient is summed over at once

int64_t room_of_gradient(int64_t in, int64_t out) { return 36 * ((kSummed + 1) * (in + out) + 2 * kApart); }

}  // namespace
}  // namespace cascadezoo

#define CZ_BLOCK "winograd_gradient_block.h"
#include "instruction_sets.h"
#include "winograd_arguments.h"

namespace cascadezoo {
namespace {

Tensor winograd_weight_gradient(const Tensor& x, const Tensor& grad, int64_t lanes) {
  STD_TORCH_CHECK(
      x.dim() == 4 && grad.dim() == 4 && has_shape(grad, {x.size(0), x.size(1), x.size(2), grad.size(3)}),
      "winograd_weight_gradient: x must be (N, H, W, C) and grad (N, H, W, K)");
  const int64_t in = x.size(3), out = grad.size(3);
  check_channels("winograd_weight_gradient", in, out);
  check_floats("winograd_weight_gradient", {&x, &grad});
  check_lanes("winograd_weight_gradient", lanes);
  const Tensor from = torch::stable::contiguous(x), above = torch::stable::contiguous(grad);
  Tensor sums = torch::stable::new_zeros(x, {out / kChunk, 36, in, kChunk});
  const Convolution p{
      from.const_data_ptr<float>(), nullptr, nullptr, const_cast<float*>(above.const_data_ptr<float>()),
      x.size(0), x.size(1), x.size(2), in, out, false};
  const auto run_gradient = CZ_WIDEST(lanes, run_gradient);
  float* const to = sums.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, out / kChunk, 1, [&](int64_t begin, int64_t end) {
    const std::vector<float> zeros(std::max(in, out), 0.0f);
    const Room room(room_of_gradient(in, (end - begin) * kChunk));
    run_gradient(p, zeros.data(), begin * kChunk, end * kChunk, room.begin(), to);
  });
  return sums;
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("winograd_weight_gradient", TORCH_BOX(&cascadezoo::winograd_weight_gradient));
}
