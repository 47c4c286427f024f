// The gradient of a convolution's weight by Winograd's F(4 x 4, 3 x 3), for one instruction set (instruction_sets.h).
#include "product.h"
#include "winograd_input_block.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

constexpr int kSums = CZ_LANES == 16 ? 8 : 4;  // input channels whose sums over tiles stay in registers, two vectors each

// A d along one axis: the gradient of a result of from_points, at its points
CZ_INLINE void gradient_to_points(const Vector* d, Vector* out, int step, int out_step) {
  const Vector four = Vector{} + 4, eight = Vector{} + 8;
  const Vector even = d[0] + d[2 * step], odd = d[step] + d[3 * step];
  const Vector far_even = CZ_FMA(four, d[2 * step], d[0]), far_odd = CZ_FMA(eight, d[3 * step], d[step] + d[step]);
  out[0] = d[0];
  out[out_step] = even + odd;
  out[2 * out_step] = even - odd;
  out[3 * out_step] = far_even + far_odd;
  out[4 * out_step] = far_even - far_odd;
  out[5 * out_step] = d[3 * step];
}

// The 4 x 4 pixels of tile t of p.y's gradient, channels begin .. end, to 36 points, laid out as transform_input does
CZ_TARGET inline void transform_gradient(
    const Convolution& p, const float* zeros, int64_t t, int64_t begin, int64_t end, float* to, int64_t step,
    int64_t next) {
  const Tile tile = p.tile(t);
  const float* pixels[16];
  for (int i = 0; i < 16; ++i) {
    const int64_t y = tile.y + i / 4, x = tile.x + i % 4;
    pixels[i] = y < p.h && x < p.w ? p.y + ((tile.image * p.h + y) * p.w + x) * p.out : zeros;
  }
  for (int64_t c = begin; c < end; c += CZ_LANES) {
    Vector d[16], half[24], points[36];
    for (int i = 0; i < 16; ++i) d[i] = load(pixels[i] + c);
    for (int i = 0; i < 4; ++i) gradient_to_points(d + i, half + i, 4, 4);
    for (int i = 0; i < 6; ++i) gradient_to_points(half + 4 * i, points + 6 * i, 1, 1);
    for (int i = 0; i < 36; ++i) store(to + i * step + (c - begin) / kLine * next + (c - begin) % kLine, points[i]);
  }
}

// sums (kSums, kChunk), of which it takes two vectors' width, += inputs' x gradients of one point, over tiles
CZ_TARGET inline void add_products(int64_t tiles, const float* v, const float* left, const float* right, float* sums) {
  Vector sum[kSums][2];
  for (int row = 0; row < kSums; ++row)
    for (int half : {0, 1}) sum[row][half] = load(sums + row * kChunk + half * CZ_LANES);
  for (int64_t t = 0; t < tiles; ++t) {
    const Vector l = load(left + t * kLine), r = load(right + t * kLine);
    for (int row = 0; row < kSums; ++row) {
      const Vector value = all(v[t * kLine + row]);
      sum[row][0] = CZ_FMA(value, l, sum[row][0]);
      sum[row][1] = CZ_FMA(value, r, sum[row][1]);
    }
  }
  for (int row = 0; row < kSums; ++row)
    for (int half : {0, 1}) store(sums + row * kChunk + half * CZ_LANES, sum[row][half]);
}

// The gradient at the points, to (p.out / kChunk, 36, p.in, kChunk), of output channels begin .. end, from p.x and p.y,
// which holds the output's gradient.  Room: room_of_gradient(p.in, end - begin) floats.
CZ_TARGET inline void run_gradient(
    const Convolution& p, const float* zeros, int64_t begin, int64_t end, float* room, float* to) {
  const int64_t next = (kSummed + 1) * kLine;  // one line more, or all would fall into the same lines of a cache
  const int64_t step = p.in / kLine * next + kApart, step_out = (end - begin) / kLine * next + kApart;
  float* const gradients = room + 36 * step;
  for (int64_t first = 0; first < p.tiles(); first += kSummed) {
    const int64_t count = std::min(kSummed, p.tiles() - first);
    for (int64_t t = 0; t < count; ++t) {
      transform_input<false, false>(p, zeros, p.tile(first + t), room + t * kLine, step, next);
      transform_gradient(p, zeros, first + t, begin, end, gradients + t * kLine, step_out, next);
    }
    for (int64_t point = 0; point < 36; ++point)
      for (int64_t k = begin; k < end; k += kChunk)
        for (int64_t c = 0; c < p.in; c += kSums)
          for (int i = 0; i < kChunk; i += 2 * CZ_LANES) {
            const float* own = gradients + point * step_out + (k - begin) / kLine * next;
            const int j = i + CZ_LANES;
            add_products(
                count, room + point * step + c / kLine * next + c % kLine, own + i / kLine * next + i % kLine,
                own + j / kLine * next + j % kLine, to + ((k / kChunk * 36 + point) * p.in + c) * kChunk + i);
          }
  }
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
