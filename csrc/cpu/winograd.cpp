// 3 x 3 convolutions of stride 1 by Winograd's F(4 x 4, 3 x 3) (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308):
// 36 products where the sum itself takes 144.  Channels lie side by side; a block of tiles is transformed, multiplied and
// transformed back while it lies in a core's cache.
#include "../stable.h"

#include <algorithm>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cascadezoo {
namespace {

constexpr int kSide = 4;    // of a tile of the output
constexpr int kChunk = 32;  // output channels that lie side by side in the packed weight
constexpr int kLine = 16;   // channels that a block keeps side by side: one line of a cache
constexpr int kApart = 16;  // floats between the points of a block, or all would fall into the same lines of a cache

constexpr int64_t kSummed = 64;  // tiles that a weight's gradient is summed over at once

int64_t room_of(int64_t tiles, int64_t in) { return 36 * (tiles * (in + kChunk) + kApart); }
int64_t room_of_gradient(int64_t in, int64_t out) { return 36 * ((kSummed + 1) * (in + out) + 2 * kApart); }

struct Tile {
  int64_t image, y, x;
};

struct Convolution {
  const float *x, *weight, *bias;  // (n, h, w, in), (out / kChunk, 36, in, kChunk), (out,)
  float* y;                        // (n, h, w, out)
  int64_t n, h, w, in, out;
  bool relu;

  int64_t rows() const { return (h + kSide - 1) / kSide; }
  int64_t columns() const { return (w + kSide - 1) / kSide; }
  int64_t tiles() const { return n * rows() * columns(); }
  Tile tile(int64_t t) const {
    return {t / columns() / rows(), t / columns() % rows() * kSide, t % columns() * kSide};
  }
};

#define CZ_SET plain
#define CZ_TARGET
#define CZ_LANES 4
#define CZ_FMA(a, b, c) ((a) * (b) + (c))
#define CZ_ROWS 4
#define CZ_TILES 8
#define CZ_SUMS 4
#include "winograd_block.h"

#if defined(__x86_64__)
#define CZ_SET avx2
#define CZ_TARGET __attribute__((target("avx2,fma")))
#define CZ_LANES 8
#define CZ_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define CZ_ROWS 6
#define CZ_TILES 12
#define CZ_SUMS 4
#include "winograd_block.h"

#define CZ_SET avx512
#define CZ_TARGET __attribute__((target("avx512f")))
#define CZ_LANES 16
#define CZ_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define CZ_ROWS 14
#define CZ_TILES 14
#define CZ_SUMS 8
#include "winograd_block.h"
#endif

using RunBlock = void (*)(const Convolution&, const float*, int64_t, int64_t, float*);
using RunGradient = void (*)(const Convolution&, const float*, int64_t, int64_t, float*, float*);

struct InstructionSet {
  int64_t tiles;  // of a block
  RunBlock run;
  RunGradient run_gradient;
};

// the widest of at most `lanes` that this processor has
InstructionSet instruction_set(int64_t lanes) {
#if defined(__x86_64__)
  if (lanes >= 16 && __builtin_cpu_supports("avx512f")) return {14, avx512::run_block, avx512::run_gradient};
  if (lanes >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {12, avx2::run_block, avx2::run_gradient};
#endif
  return {8, plain::run_block, plain::run_gradient};
}

void check_channels(const char* name, int64_t in, int64_t out) {
  STD_TORCH_CHECK(
      in > 0 && out > 0 && in % 16 == 0 && out % kChunk == 0, name,
      ": it takes multiples of 16 channels and gives multiples of ", kChunk, ", not ", in, " and ", out);
}

void check_floats(const char* name, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors)
    STD_TORCH_CHECK(
        tensor->scalar_type() == ScalarType::Float && tensor->is_cpu(), name, ": tensors must be float32, on a CPU");
}

void check_lanes(const char* name, int64_t lanes) {
  STD_TORCH_CHECK(lanes == 4 || lanes == 8 || lanes == 16, name, ": lanes must be 4, 8 or 16, not ", lanes);
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
  const InstructionSet set = instruction_set(lanes);
  const int64_t block = set.tiles;
  torch::stable::parallel_for(0, (p.tiles() + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    const std::vector<float> zeros(in, 0.0f);
    std::vector<float> room(room_of(block, in));
    for (int64_t first = begin * block; first < std::min(end * block, p.tiles()); first += block)
      set.run(p, zeros.data(), first, std::min(block, p.tiles() - first), room.data());
  });
  return to;
}

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
  const InstructionSet set = instruction_set(lanes);
  float* const to = sums.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, out / kChunk, 1, [&](int64_t begin, int64_t end) {
    const std::vector<float> zeros(std::max(in, out), 0.0f);
    std::vector<float> room(room_of_gradient(in, (end - begin) * kChunk));
    set.run_gradient(p, zeros.data(), begin * kChunk, end * kChunk, room.data(), to);
  });
  return sums;
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("winograd_conv3x3", TORCH_BOX(&cascadezoo::winograd_conv3x3));
  m.impl("winograd_weight_gradient", TORCH_BOX(&cascadezoo::winograd_weight_gradient));
}
