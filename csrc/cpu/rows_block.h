// Weighted sums of rows of channels, for one instruction set (instruction_sets.h).
#include "vectors.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

constexpr int kWide = 4;  // vectors of sums that are kept in registers

template <int COUNT>
CZ_INLINE void sum_vectors(const Tap<float>* taps, int64_t count, const float* from, float* to) {
  Vector sums[COUNT] = {};
  for (int64_t t = 0; t < count; ++t) {
    const Vector weight = all(taps[t].weight);
    for (int i = 0; i < COUNT; ++i) sums[i] = CZ_FMA(weight, load(from + taps[t].row + i * CZ_LANES), sums[i]);
  }
  for (int i = 0; i < COUNT; ++i) store(to + i * CZ_LANES, sums[i]);
}

CZ_TARGET inline void sum_rows(const Tap<float>* taps, int64_t count, int64_t width, const float* from, float* to) {
  int64_t i = 0;
  for (; i + kWide * CZ_LANES <= width; i += kWide * CZ_LANES) sum_vectors<kWide>(taps, count, from + i, to + i);
  for (; i + CZ_LANES <= width; i += CZ_LANES) sum_vectors<1>(taps, count, from + i, to + i);
  for (; i < width; ++i) sum_block<float, 1>(taps, count, from + i, to + i);
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
