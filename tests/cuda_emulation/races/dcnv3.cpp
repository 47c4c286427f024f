// DCNv3, forward and backward, in every type that a network may have: a group's lanes add up by shuffles, and many add to
// the same pixels of grad_input.
#include "../../../csrc/cuda/dcnv3.h"
#include "noise.h"

using namespace cascadezoo;

namespace {

struct Size {
  int images, side, width;  // width: channels of a group
};

// ``from`` and ``to``: where input and output begin, in numbers of four bytes
void sample(Kind kind, bool float_points, const Size& size, int from = 0, int to = 0) {
  Dcnv3Shape32 p{};
  p.n = size.images, p.h = p.w = p.ho = p.wo = size.side, p.groups = 2, p.width = size.width;
  p.kernel_h = p.kernel_w = 3, p.pad_h = p.pad_w = 1, p.scale = 1;
  p.stride_h = p.stride_w = p.dilation_h = p.dilation_w = 1;
  // room for doubles; what is read as halves are some numbers too
  const auto values = static_cast<size_t>(2 * p.pixels() * p.channels() + 1);
  const auto points = static_cast<size_t>(2 * p.pixels() * p.groups * p.points());
  const std::vector<float> input = noise(values, -1, 1, 0), offset = noise(2 * points, -2, 2, 1);
  const std::vector<float> mask = noise(points, 0, 1, 2);
  std::vector<float> output(values), to_input(values), to_offset(2 * points), to_mask(points);
  dcnv3_cuda_forward(
      kind, float_points, input.data() + from, offset.data(), mask.data(), output.data() + to, p, nullptr);
  dcnv3_cuda_backward(
      kind, float_points, output.data() + to, input.data() + from, offset.data(), mask.data(), to_input.data(),
      to_offset.data(), to_mask.data(), p, nullptr);
}

}  // namespace

int main() {
  sample(Kind::Float, true, {1, 6, 8});
  sample(Kind::Float, true, {0, 6, 8});
  for (const int width : {8, 3}) {
    for (const Kind kind : {Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16}) sample(kind, false, {1, 3, width});
    for (const Kind kind : {Kind::Half, Kind::BFloat16}) sample(kind, true, {1, 3, width});
  }
  sample(Kind::Float, true, {1, 3, 8}, 1, 0);
  sample(Kind::Float, true, {1, 3, 8}, 0, 1);
  sample(Kind(-1), true, {1, 3, 8});  // refused
}
