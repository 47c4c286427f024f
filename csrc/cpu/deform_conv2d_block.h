// The results of some output pixels of a deformable convolution, for one instruction set (instruction_sets.h).
#include "product.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

// All channels of one point: sums of COUNT pixels' rows, a line after the other, each `next` floats behind the last
template <int COUNT>
CZ_INLINE void sample(const DeformConv& p, const Tap<float>* taps, const float* from, float* to, int64_t next) {
  for (int64_t block = 0; block < p.in; block += p.block, to += p.points() * p.block / kLine * next)
    for (int64_t line = 0; line < p.block; line += kLine)
      for (int c = 0; c < kLine; c += CZ_LANES) {
        Vector sum = {};
        for (int t = 0; t < COUNT; ++t)
          sum = CZ_FMA(all(taps[t].weight), load(from + taps[t].row + block + line + c), sum);
        store(to + line / kLine * next + c, sum);
      }
}

// Of pixels first .. first + count.  Room: room_of(p, count) floats.
CZ_TARGET inline void run_pixels(const DeformConv& p, int64_t first, int64_t count, float* room) {
  const int64_t points = p.points(), next = count * kLine;
  float* const products = room + count * points * p.in;
  for (int64_t row = 0; row < count; ++row)
    for (int64_t k = 0; k < points; ++k) {
      Tap<float> taps[4];
      const int64_t found = p.place(first + row, k, taps);
      const float* const from = p.x + (first + row) / (p.ho * p.wo) * p.h * p.w * p.in;
      float* const to = room + k * p.block / kLine * next + row * kLine;
      if (found == 4) sample<4>(p, taps, from, to, next);
      else if (found == 2) sample<2>(p, taps, from, to, next);
      else if (found == 1) sample<1>(p, taps, from, to, next);
      else sample<0>(p, taps, from, to, next);
    }
  const int64_t in = points * p.block, chunks = p.out * p.block / p.in / kChunk;  // outputs of a block, in chunks
  for (int64_t chunk = 0; chunk < p.out / kChunk; ++chunk) {
    multiply_chunk(count, in, room + chunk / chunks * in * count, next, p.weight + chunk * in * kChunk, products);
    float* const to = p.y + first * p.out + chunk * kChunk;
    for (int c = 0; c < kChunk; c += CZ_LANES) {
      const Vector bias = load(p.bias + chunk * kChunk + c);
      for (int64_t row = 0; row < count; ++row)
        store(to + row * p.out + c, load(products + row * kChunk + c) + bias);
    }
  }
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
