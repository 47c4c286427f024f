// The mask logits of one RoI, for one instruction set (instruction_sets.h).
#include "product.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

// Of RoI r.  Room: room_of(p) floats.
CZ_TARGET inline void run_roi(const MaskHead& p, int64_t r, float* room) {
  const int64_t cells = p.height * p.width, next = cells * kLine, label = p.labels[r];
  float* const products = room + cells * p.in;
  float* const sums = products + cells * kChunk;
  for (int64_t cell = 0; cell < cells; ++cell)
    for (int64_t c = 0; c < p.in; ++c)
      room[c / kLine * next + cell * kLine + c % kLine] = p.x[(r * cells + cell) * p.in + c];
  for (int64_t corner = 0; corner < 4; ++corner) {
    std::fill_n(sums, cells * CZ_LANES, 0.0f);
    for (int64_t k = 0; k < p.out; k += kChunk) {
      multiply_chunk(cells, p.in, room, next, p.weight + (corner * p.out + k) * p.in, products);
      for (int half = 0; half < kChunk; half += CZ_LANES) {
        const Vector bias = load(p.bias + k + half), factor = load(p.class_weight + label * p.out + k + half);
        for (int64_t cell = 0; cell < cells; ++cell) {
          const Vector value = load(products + cell * kChunk + half) + bias;
          const Vector rectified = value < 0 ? Vector{} : value;  // what is no number stays so
          store(sums + cell * CZ_LANES, CZ_FMA(rectified, factor, load(sums + cell * CZ_LANES)));
        }
      }
    }
    for (int64_t cell = 0; cell < cells; ++cell) {
      const int64_t y = 2 * (cell / p.width) + corner / 2, x = 2 * (cell % p.width) + corner % 2;
      const float* const of = sums + cell * CZ_LANES;
      p.y[(r * 2 * p.height + y) * 2 * p.width + x] = std::accumulate(of, of + CZ_LANES, p.class_bias[label]);
    }
  }
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
