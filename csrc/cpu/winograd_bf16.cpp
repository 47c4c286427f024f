// 3 x 3 convolutions of stride 1 in bfloat16 by Winograd's F(4 x 4, 3 x 3) (Lavin and Gray 2016,
// https://arxiv.org/abs/1509.09308), whose points lie where the roundings of transformed pixels and weights cost least.
// Transforms and sums are in float32.  Where one or two rows or columns remain, tiles are two wide: these take a part of
// the same points, and so of the same weights.
#include "bfloat16.h"
#include "winograd_tiles.h"

#include <optional>

namespace cascadezoo {
namespace {

constexpr float kNear = 11.0f / 16, kFar = 3.0f / 2;  // the points are 0, kNear, -kNear, infinity, kFar, -kFar
constexpr int kApart = 32;  // numbers between the points of a block, or all would fall into the same lines of a cache
constexpr int kTiles = kRows;  // of a block

// what four pixels each cover, and the one or two that may remain
std::array<Stretches, 2> stretches(int64_t size) {
  const int64_t rest = size % 4, whole = size / 4 + (rest == 3);
  return {{{0, 4, whole}, {4 * whole, 2, rest == 1 || rest == 2}}};
}

struct Convolution {
  const Bits *x, *weight, *onto;  // (n, h, w, in), (out / kChunk, 36, in / 2, kChunk, 2), (n, h, w, out) or null
  const float* bias;              // (out,)
  Bits* y;                        // (n, h, w, out)
  int64_t n, h, w, in, out;
  bool relu;
};

// of one block, where nobody else writes
struct Room {
  const Bits* zeros;
  Bits* v;
  float* products;
};

}  // namespace
}  // namespace cascadezoo

#define CZ_BLOCK "winograd_bf16_block.h"
#include "instruction_sets_bf16.h"

namespace cascadezoo {
namespace {

void run(const Convolution& p, int64_t lanes) {
  const auto run_block = CZ_OF_LANES(lanes, run_block);
  const std::vector<Block> blocks =
      blocks_of(p.n, stretches(p.h), stretches(p.w), [](const Kind&) -> int64_t { return kTiles; });
  torch::stable::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    const std::vector<Bits> zeros(p.in);
    Lines<Bits> v(36 * (kTiles * p.in + kApart));
    Lines<float> products(36 * (kTiles * kChunk + kApart));
    const Room room{zeros.data(), v.begin(), products.begin()};
    for (int64_t i = begin; i < end; ++i) run_block(p, blocks[i].kind, blocks[i].first, blocks[i].count, room);
  });
}

Tensor winograd_conv3x3_bf16(
    const Tensor& x, const Tensor& weight, const Tensor& bias, const std::optional<Tensor>& onto, bool relu,
    int64_t lanes) {
  STD_TORCH_CHECK(x.dim() == 4, "winograd_conv3x3_bf16: x must be (N, H, W, C)");
  const int64_t in = x.size(3), out = bias.numel();
  STD_TORCH_CHECK(
      in > 0 && out > 0 && in % kLine == 0 && out % kChunk == 0, "winograd_conv3x3_bf16: it takes and gives multiples of ",
      kChunk, " channels, not ", in, " and ", out);
  STD_TORCH_CHECK(has_shape(bias, {out}), "winograd_conv3x3_bf16: bias must be (K,)");
  STD_TORCH_CHECK(
      has_shape(weight, {out / kChunk, 36, in / 2, kChunk, 2}),
      "winograd_conv3x3_bf16: weight must be as pack_weight makes it");
  STD_TORCH_CHECK(
      !onto || has_shape(*onto, {x.size(0), x.size(1), x.size(2), out}),
      "winograd_conv3x3_bf16: onto must be of the result's shape");
  for (const Tensor* tensor : {&x, &weight, &bias, onto ? &*onto : &x})
    STD_TORCH_CHECK(
        tensor->scalar_type() == ScalarType::BFloat16 && tensor->is_cpu(),
        "winograd_conv3x3_bf16: tensors must be bfloat16, on a CPU");
  const Tensor from = torch::stable::contiguous(x), w = torch::stable::contiguous(weight),
               b = torch::stable::contiguous(cast(bias, ScalarType::Float)),
               sum = torch::stable::contiguous(onto ? *onto : x);
  Tensor to = torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), out});
  run({bits(from), bits(w), onto ? bits(sum) : nullptr, b.const_data_ptr<float>(),
       mutable_bits(to), x.size(0), x.size(1), x.size(2), in, out, relu},
      lanes);
  return to;
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("winograd_conv3x3_bf16", TORCH_BOX(&cascadezoo::winograd_conv3x3_bf16));
}
