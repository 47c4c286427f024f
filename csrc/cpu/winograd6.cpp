// 3 x 3 convolutions of stride 1 by Winograd's F(6 x 6, 3 x 3) (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308):
// 64 products where the sum itself takes 324.  Where up to four rows or columns remain, tiles are two or four wide,
// F(2, 3) or F(4, 3): these take a part of the same points, and so of the same weights.
//
// Channels lie side by side.  The weights are taken to their points at every call: they are seven times as many there,
// and it takes some hundredths of the time of a map that is worth it.  A block of tiles is taken to its points; then
// each point's products, of all channels, take the place of the point before, so that rows are read once from a far
// cache, and weights once for a block.
#include "winograd_tiles.h"

#include <algorithm>
#include <vector>

namespace cascadezoo {
namespace {

constexpr int kSide = 8;    // points of a whole tile along a side: 0, 1, -1, infinity, 2, -2, 1/2, -1/2
constexpr int kApart = 16;  // floats between the points of a block, or all would fall into the same lines of a cache

// what six pixels each cover, and the two or four that may remain
std::array<Stretches, 2> stretches(int64_t size) {
  const int64_t rest = size % 6, whole = size / 6 + (rest == 5);
  return {{{0, 6, whole}, {6 * whole, rest <= 2 ? 2 : 4, rest >= 1 && rest <= 4}}};
}

struct Convolution {
  const float *x, *weight, *bias;  // (n, h, w, in), (64, out / kChunk, in, kChunk), (out,)
  float* y;                        // (n, h, w, out)
  int64_t n, h, w, in, out;
  bool relu;

  // floats from a point of a block of tiles to the next
  int64_t step(int64_t tiles) const { return tiles * std::max(in, out) + kApart; }
  int64_t room_of(const Block& block) const { return (block.kind.points() + 1) * step(block.count); }
};

}  // namespace
}  // namespace cascadezoo

#define CZ_BLOCK "winograd6_block.h"
#include "instruction_sets.h"
#include "winograd_arguments.h"

namespace cascadezoo {
namespace {

// Tiles with fewer points are more in a block.  A small image is left for several threads.
int64_t tiles_of_block(const Kind& kind, int64_t best) {
  const int64_t wanted = std::clamp(kind.tiles() / 8, best / 2, best);
  return wanted * kSide * kSide / kind.points();
}

void run(const Convolution& p, int64_t lanes) {
  const int64_t best = CZ_WIDEST(lanes, kTiles);
  const auto run_block = CZ_WIDEST(lanes, run_block);
  const std::vector<Block> blocks =
      blocks_of(p.n, stretches(p.h), stretches(p.w), [best](const Kind& kind) { return tiles_of_block(kind, best); });
  int64_t most = 0;
  for (const Block& block : blocks) most = std::max(most, p.room_of(block));
  torch::stable::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    const std::vector<float> zeros(p.in, 0.0f);
    const Room room(most);
    for (int64_t i = begin; i < end; ++i) run_block(p, zeros.data(), blocks[i], room.begin());
  });
}

Tensor winograd6_conv3x3(const Tensor& x, const Tensor& weight, const Tensor& bias, bool relu, int64_t lanes) {
  STD_TORCH_CHECK(x.dim() == 4, "winograd6_conv3x3: x must be (N, H, W, C)");
  const int64_t in = x.size(3), out = bias.numel();
  check_channels("winograd6_conv3x3", in, out);
  STD_TORCH_CHECK(has_shape(bias, {out}), "winograd6_conv3x3: bias must be (K,)");
  STD_TORCH_CHECK(
      has_shape(weight, {out / kChunk, in, 9, kChunk}), "winograd6_conv3x3: weight must be as pack_weight makes it");
  check_floats("winograd6_conv3x3", {&x, &weight, &bias});
  check_lanes("winograd6_conv3x3", lanes);
  const Tensor from = torch::stable::contiguous(x), w = torch::stable::contiguous(weight),
               b = torch::stable::contiguous(bias);
  Tensor to = torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), out});
  if (to.numel() == 0) return to;
  const Room points(kSide * kSide * out * in);
  const auto transform_weights = CZ_WIDEST(lanes, transform_weights);
  torch::stable::parallel_for(0, out / kChunk * in, 64, [&](int64_t begin, int64_t end) {
    transform_weights(w.const_data_ptr<float>(), begin, end, out * in, points.begin());
#if defined(__x86_64__)
    _mm_sfence();  // before another thread reads them
#endif
  });
  run({from.const_data_ptr<float>(), points.begin(), b.const_data_ptr<float>(),
       to.mutable_data_ptr<float>(), x.size(0), x.size(1), x.size(2), in, out, relu},
      lanes);
  return to;
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) { m.impl("winograd6_conv3x3", TORCH_BOX(&cascadezoo::winograd6_conv3x3)); }
