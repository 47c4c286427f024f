// 3 x 3 convolutions of stride 1 by Winograd's F(4 x 4, 3 x 3) (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308):
// 36 products where the sum itself takes 144.  Channels lie side by side; a block of tiles is transformed, multiplied and
// transformed back while it lies in a core's cache.
#include "winograd.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace cascadezoo {
namespace {

constexpr int64_t kChannels = 256;  // of a block of as many tiles as are quickest; of fewer channels there are more tiles

int64_t room_of(int64_t tiles, int64_t in, int64_t chunk) { return 36 * (tiles * (in + chunk) + kApart); }

// Where the tiles of a block lie: in the order low, whole, narrow, both, so that those which have a point are neighbours
class Places {
 public:
  Places(const Convolution& p, int64_t first, int64_t count) : of_(count) {
    const auto kind = [&](int64_t t) {
      const Tile tile = p.tile(first + t);
      return tile.low ? (tile.narrow ? 3 : 0) : (tile.narrow ? 2 : 1);
    };
    for (int64_t t = 0; t < count; ++t) ++begin_[kind(t) + 1];
    for (int i = 0; i < 4; ++i) begin_[i + 1] += begin_[i];
    int64_t next[4];
    std::copy_n(begin_, 4, next);
    for (int64_t t = 0; t < count; ++t) of_[t] = next[kind(t)]++;
  }
  int64_t of(int64_t t) const { return of_[t]; }
  // the first one with a point, and the one after the last
  std::pair<int64_t, int64_t> with(int64_t point) const {
    const auto of_whole_tiles = [](int64_t i) { return i == 3 || i == 4; };
    const bool tall = of_whole_tiles(point / 6), wide = of_whole_tiles(point % 6);
    return {begin_[tall ? 1 : 0], begin_[wide ? 2 : tall ? 3 : 4]};
  }

 private:
  std::vector<int64_t> of_;
  int64_t begin_[5] = {};  // of each kind
};

}  // namespace
}  // namespace cascadezoo

#define CZ_BLOCK "winograd_block.h"
#include "instruction_sets.h"
#include "winograd_arguments.h"

namespace cascadezoo {
namespace {

// Tiles of a block.  Twice as many as a core's cache holds best read the weights half as often: the quicker of the two
// unless there is nothing else to do, and left for a small image to several threads.  Images of few tiles (14 x 14
// pixels) are not taken apart.
int64_t tiles_of_block(const Convolution& p, int64_t best) {
  const int64_t image = p.rows() * p.columns(), often = std::max<int64_t>(1, kChannels / p.in);
  const int64_t wanted = best * often * (p.tiles() >= 16 * best * often ? 2 : 1);
  return image <= best + 2 ? std::max<int64_t>(1, (wanted + image - 1) / image) * image : wanted;
}

Tensor winograd_conv3x3(const Tensor& x, const Tensor& weight, const Tensor& bias, bool relu, int64_t lanes) {
  STD_TORCH_CHECK(x.dim() == 4, "winograd_conv3x3: x must be (N, H, W, C)");
  const int64_t in = x.size(3), out = bias.numel();
  check_channels("winograd_conv3x3", in, out);
  STD_TORCH_CHECK(has_shape(bias, {out}), "winograd_conv3x3: bias must be (K,)");
  STD_TORCH_CHECK(
      has_shape(weight, {out / kChunk, 36, in, kChunk}), "winograd_conv3x3: weight must be as pack_weight makes it");
  check_floats("winograd_conv3x3", {&x, &weight, &bias});
  check_lanes("winograd_conv3x3", lanes);
  const Tensor from = torch::stable::contiguous(x), w = torch::stable::contiguous(weight),
               b = torch::stable::contiguous(bias);
  Tensor to = torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), out});
  const Convolution p{
      from.const_data_ptr<float>(), w.const_data_ptr<float>(), b.const_data_ptr<float>(), to.mutable_data_ptr<float>(),
      x.size(0), x.size(1), x.size(2), in, out, relu};
  if (p.tiles() == 0) return to;
  const auto run_block = CZ_WIDEST(lanes, run_block);
  const int64_t block = tiles_of_block(p, CZ_WIDEST(lanes, kTiles));
  torch::stable::parallel_for(0, (p.tiles() + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    const std::vector<float> zeros(in, 0.0f);
    const Room room(room_of(block, in, kChunk));
    for (int64_t first = begin * block; first < std::min(end * block, p.tiles()); first += block)
      run_block(p, zeros.data(), first, std::min(block, p.tiles() - first), room.begin());
  });
  return to;
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) { m.impl("winograd_conv3x3", TORCH_BOX(&cascadezoo::winograd_conv3x3)); }
