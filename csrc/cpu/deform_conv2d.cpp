// Deformable convolution (Dai et al. 2017, https://arxiv.org/abs/1703.06211).  Channels lie side by side: what the points
// of some output pixels read is laid out as rows, which are multiplied with packed weights while they lie in a core's
// cache.  Half types are computed in float32.
#include "../dcnv3.h"
#include "../stable.h"
#include "tap.h"

#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

namespace cascadezoo {
namespace {

struct DeformConvShape {
  int64_t n, h, w, in, ho, wo, out;
  int64_t kernel_h, kernel_w, stride, pad, groups;

  int64_t points() const { return kernel_h * kernel_w; }
  int64_t pixels() const { return n * ho * wo; }

  // The pixels, as rows of an image, that a point of an output pixel is made of: none, 1, 2 or 4
  template <class A>
  int64_t place(int64_t pixel, int64_t point, const A* offset, Tap<A>* taps) const {
    const int64_t i = pixel / wo % ho * stride - pad + point / kernel_w, j = pixel % wo * stride - pad + point % kernel_w;
    const A* const moved = offset + 2 * (pixel * points() + point);
    Taps<A, int64_t> around;
    if (!around.at(h, w, static_cast<A>(i) + moved[0], static_cast<A>(j) + moved[1])) return 0;
    int64_t count = 0;
    for (int c = 0; c < 4; ++c)
      if (around.inside[c]) taps[count++] = {around.pixel[c] * in, around.weight[c]};
    return count;
  }
};

struct DeformConv : DeformConvShape {
  const float *x, *offset, *weight, *bias;  // the weight packed (out / kChunk, points * block, kChunk)
  float* y;
  int64_t block;  // channels that a chunk of results reads: those of one group, or of as many as share the chunk

  int64_t place(int64_t pixel, int64_t point, Tap<float>* taps) const {
    return DeformConvShape::place(pixel, point, offset, taps);
  }
};

}  // namespace
}  // namespace cascadezoo

#define CZ_BLOCK "deform_conv2d_block.h"
#include "instruction_sets.h"

namespace cascadezoo {
namespace {

constexpr int64_t kCached = 1 << 17;  // floats of rows that stay in a core's cache
constexpr int64_t kAtOnce = 14;       // pixels: rows of a product that are kept in registers

int64_t room_of(const DeformConvShape& p, int64_t count) { return count * (p.points() * p.in + kChunk); }

// Channels that a chunk of results reads, or 0 where it is not whole groups, or the channels no whole lines
int64_t block_of(const DeformConvShape& p) {
  const int64_t in = p.in / p.groups, out = p.out / p.groups;
  const int64_t block = out % kChunk == 0 ? in : kChunk % out == 0 ? kChunk / out * in : 0;
  return p.out % kChunk == 0 && block % kLine == 0 ? block : 0;
}

// A weight (out, in / groups, points) as (out / kChunk, points * block, kChunk), zero between groups
std::vector<float> packed(const DeformConvShape& p, int64_t block, const float* weight) {
  const int64_t points = p.points(), in = p.in / p.groups, out = p.out / p.groups;
  std::vector<float> to(p.out * points * block);
  torch::stable::parallel_for(0, p.out / kChunk, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin * kChunk; k < end * kChunk; ++k) {
      const int64_t first = k / out * in % block;  // of the group's channels in the block
      float* const chunk = to.data() + k / kChunk * points * block * kChunk + k % kChunk;
      for (int64_t c = 0; c < in; ++c)
        for (int64_t point = 0; point < points; ++point)
          chunk[(point * block + first + c) * kChunk] = weight[(k * in + c) * points + point];
    }
  });
  return to;
}

void run_packed(DeformConv p, const float* weight) {
  const std::vector<float> own = packed(p, p.block, weight);
  p.weight = own.data();
  const int64_t most = std::max<int64_t>(1, kCached / (p.points() * p.in) / kAtOnce) * kAtOnce;
  const auto run_pixels = CZ_WIDEST(16, run_pixels);
  torch::stable::parallel_for(0, (p.pixels() + most - 1) / most, 1, [&](int64_t begin, int64_t end) {
    const Room room(room_of(p, most));
    for (int64_t first = begin * most; first < std::min(end * most, p.pixels()); first += most)
      run_pixels(p, first, std::min(most, p.pixels() - first), room.begin());
  });
}

// Any type and any number of channels
template <class A>
void run_plain(const DeformConvShape& p, const A* x, const A* offset, const A* weight, const A* bias, A* y) {
  const int64_t points = p.points(), in = p.in / p.groups, out = p.out / p.groups;
  torch::stable::parallel_for(0, p.pixels(), 16, [&](int64_t begin, int64_t end) {
    std::vector<A> rows(points * p.in);
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      for (int64_t point = 0; point < points; ++point) {
        Tap<A> taps[4];
        const int64_t count = p.place(pixel, point, offset, taps);
        const A* const from = x + pixel / (p.ho * p.wo) * p.h * p.w * p.in;
        for (int64_t c = 0; c < p.in; ++c) {
          A sum = 0;
          for (int64_t t = 0; t < count; ++t) sum += taps[t].weight * from[taps[t].row + c];
          rows[point * p.in + c] = sum;
        }
      }
      for (int64_t k = 0; k < p.out; ++k) {
        A sum = bias[k];
        for (int64_t c = 0; c < in; ++c)
          for (int64_t point = 0; point < points; ++point)
            sum += rows[point * p.in + k / out * in + c] * weight[(k * in + c) * points + point];
        y[pixel * p.out + k] = sum;
      }
    }
  });
}

DeformConvShape checked(
    const Tensor& x, const Tensor& offset, const Tensor& weight, const Tensor& bias, int64_t stride, int64_t pad,
    int64_t groups) {
  STD_TORCH_CHECK(
      x.dim() == 4 && offset.dim() == 4 && weight.dim() == 4,
      "deform_conv2d: x, offset and weight must have four axes each");
  STD_TORCH_CHECK(
      is_floating(x) && is_floating(offset) && weight.scalar_type() == x.scalar_type() &&
          bias.scalar_type() == x.scalar_type(),
      "deform_conv2d: x and offset must be floating point, and weight and bias of x's type");
  STD_TORCH_CHECK(
      x.is_cpu() && offset.is_cpu() && weight.is_cpu() && bias.is_cpu(), "deform_conv2d: tensors must be on one device");
  const int64_t kMost = 1 << 30;
  STD_TORCH_CHECK(
      stride > 0 && groups > 0 && pad >= 0 && std::max({stride, groups, pad}) < kMost,
      "deform_conv2d: stride and groups must be positive and pad not negative, and none 2^30 or more");
  DeformConvShape p;
  p.n = x.size(0), p.h = x.size(1), p.w = x.size(2), p.in = x.size(3);
  p.out = weight.size(0), p.kernel_h = weight.size(2), p.kernel_w = weight.size(3);
  p.stride = stride, p.pad = pad, p.groups = groups;
  STD_TORCH_CHECK(
      p.out % groups == 0 && p.in % groups == 0 && weight.size(1) == p.in / groups && weight.numel() > 0,
      "deform_conv2d: the weight does not take ", p.in, " channels in ", groups, " groups");
  const int64_t high = p.h + 2 * pad - p.kernel_h, wide = p.w + 2 * pad - p.kernel_w;
  p.ho = high < 0 ? 0 : high / stride + 1, p.wo = wide < 0 ? 0 : wide / stride + 1;
  STD_TORCH_CHECK(
      p.ho > 0 && p.wo > 0 && has_shape(offset, {p.n, p.ho, p.wo, 2 * p.points()}),
      "deform_conv2d: offset must be (", p.n, ", ", p.ho, ", ", p.wo, ", ", 2 * p.points(), ")");
  STD_TORCH_CHECK(has_shape(bias, {p.out}), "deform_conv2d: bias must be (", p.out, ",)");
  return p;
}

template <class A>
void run(
    const DeformConvShape& p, const Tensor& x, const Tensor& offset, const Tensor& weight, const Tensor& bias, Tensor& y) {
  const A *from = x.const_data_ptr<A>(), *moved = offset.const_data_ptr<A>(), *w = weight.const_data_ptr<A>(),
          *b = bias.const_data_ptr<A>();
  A* const to = y.mutable_data_ptr<A>();
  if constexpr (std::is_same_v<A, float>)
    if (const int64_t block = block_of(p)) return run_packed({p, from, moved, nullptr, b, to, block}, w);
  run_plain(p, from, moved, w, b, to);
}

Tensor deform_conv2d(
    const Tensor& x, const Tensor& offset, const Tensor& weight, const std::optional<Tensor>& bias, int64_t stride,
    int64_t pad, int64_t groups) {
  const Tensor added = bias ? *bias : torch::stable::new_zeros(weight, {weight.dim() ? weight.size(0) : 0});
  const DeformConvShape p = checked(x, offset, weight, added, stride, pad, groups);
  const ScalarType type = accumulating(x.scalar_type());
  const auto prepared = [&](const Tensor& tensor) { return torch::stable::contiguous(cast(tensor, type)); };
  const Tensor from = prepared(x), moved = prepared(offset), w = prepared(weight), b = prepared(added);
  Tensor y = torch::stable::new_empty(from, {p.n, p.ho, p.wo, p.out});
  if (p.pixels() > 0) type == ScalarType::Double ? run<double>(p, from, moved, w, b, y) : run<float>(p, from, moved, w, b, y);
  return cast(y, x.scalar_type());
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) { m.impl("deform_conv2d", TORCH_BOX(&cascadezoo::deform_conv2d)); }
