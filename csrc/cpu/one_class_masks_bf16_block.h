// The mask logits of some cells of a RoI, for one instruction set (instruction_sets_bf16.h).
#include "product_bf16.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

// Of cells first .. first + count, count <= kRows.  Room: kRows * p.in numbers.
CZ_TARGET inline void run_cells(const MaskHead& p, int64_t roi, int64_t first, int64_t count, Bits* room) {
  const int64_t label = p.labels[roi];
  for (int64_t row = 0; row < kRows; ++row) {  // beyond the last cell: any one again, whose result nobody reads
    const Bits* cell = p.x + (roi * p.height * p.width + first + (row < count ? row : 0)) * p.in;
    for (int64_t c = 0; c < p.in; c += kLine) std::copy_n(cell + c, kLine, room + c * kRows + row * kLine);
  }
  for (int64_t corner = 0; corner < 4; ++corner) {
    float products[kRows * kChunk];
    Vector sums[kRows] = {};
    for (int64_t k = 0; k < p.out; k += kChunk) {
      multiply<kRows>(p.in, room, kRows * kLine, p.weight + (corner * p.out + k) * p.in, products);
      for (int c = 0; c < kChunk; c += CZ_LANES) {
        const Vector bias = load(p.bias + k + c), factor = load(p.class_weight + label * p.out + k + c);
        for (int row = 0; row < kRows; ++row) {
          const Vector value = load(products + row * kChunk + c) + bias;
          const Vector rectified = value < 0 ? Vector{} : value;  // what is no number stays so
          sums[row] = CZ_FMA(rectified, factor, sums[row]);
        }
      }
    }
    for (int64_t row = 0; row < count; ++row) {
      float lanes[CZ_LANES];
      store(lanes, sums[row]);
      const int64_t cell = first + row;
      const int64_t y = 2 * (cell / p.width) + corner / 2, x = 2 * (cell % p.width) + corner % 2;
      const float logit = std::accumulate(lanes, lanes + CZ_LANES, p.class_bias[label]);
      p.y[(roi * 2 * p.height + y) * 2 * p.width + x] = rounded(logit);
    }
  }
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
