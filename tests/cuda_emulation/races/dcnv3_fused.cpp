// DCNv3 for inference, in every type: points that some threads of a block place and all of them read.
#include "../../../csrc/cuda/dcnv3_fused.h"
#include "noise.h"

using namespace cascadezoo;

namespace {

// Where input, points and output begin, in numbers of four bytes.
struct Begin {
  int input, points, output;
};

// of 5 x 6 output pixels, so two tiles, and neither is full
void sample(Kind kind, int images, int groups, int width, const Begin& begin = {}) {
  Dcnv3Shape32 p{};
  p.n = images, p.h = p.ho = 5, p.w = p.wo = 6, p.groups = groups, p.width = width;
  p.kernel_h = p.kernel_w = 3, p.pad_h = p.pad_w = 1, p.scale = 1;
  p.stride_h = p.stride_w = p.dilation_h = p.dilation_w = 1;
  const int row = (27 * groups + 7) / 8 * 8;
  // room for doubles; what is read as halves are some numbers too
  const std::vector<float> input = noise(static_cast<size_t>(2 * p.pixels() * p.channels() + 1), -1, 1, 0);
  const std::vector<float> points = noise(static_cast<size_t>(2 * p.pixels() * row + 1), -2, 2, 1);
  std::vector<float> output(input.size());
  dcnv3_fused_cuda(
      kind, input.data() + begin.input, points.data() + begin.points, output.data() + begin.output, row, p, nullptr);
}

}  // namespace

int main() {
  for (const int width : {8, 3})
    for (const Kind kind : {Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16}) sample(kind, 1, 2, width);
  sample(Kind::Float, 0, 2, 8);
  for (const Begin& begin : {Begin{1, 0, 0}, Begin{0, 1, 0}, Begin{0, 0, 1}}) sample(Kind::Float, 1, 2, 8, begin);
  sample(Kind::Float, 1, 7, 8);   // a block has room for five groups, and takes one of seven
  sample(Kind::Float, 1, 1, 80);  // its threads take several packs each
  sample(Kind(-1), 1, 2, 8);      // refused
}
