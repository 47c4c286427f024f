// Weighted sums of rows of bfloat16 numbers that lie side by side, in float32.
#pragma once

#include "bfloat16.h"
#include "rows.h"

namespace cascadezoo {

inline void sum_some(const Tap<float>* taps, int64_t count, int64_t width, const Bits* from, Bits* to) {
  for (int64_t i = 0; i < width; ++i) {
    float sum = 0;
    for (int64_t t = 0; t < count; ++t) sum += taps[t].weight * widened(from[taps[t].row + i]);
    to[i] = rounded(sum);
  }
}

#if defined(CZ_AVX512_BF16)
template <int Vectors>
CZ_AVX512_BF16 inline void sum_vectors(const Tap<float>* taps, int64_t count, const Bits* from, Bits* to) {
  __m512 sums[Vectors] = {};
  for (int64_t t = 0; t < count; ++t) {
    const __m512 weight = _mm512_set1_ps(taps[t].weight);
    const Bits* row = from + taps[t].row;
    for (int i = 0; i < Vectors; ++i) sums[i] = _mm512_fmadd_ps(weight, load_bf16(row + 16 * i), sums[i]);
  }
  for (int i = 0; i < Vectors; ++i) store_bf16(to + 16 * i, sums[i]);
}
#endif

inline void sum_rows(const Tap<float>* taps, int64_t count, int64_t width, const Bits* from, Bits* to) {
  int64_t i = 0;
#if defined(CZ_AVX512_BF16)
  static const bool wide = has_avx512_bf16();
  if (wide) {
    for (; i + 128 <= width; i += 128) sum_vectors<8>(taps, count, from + i, to + i);
    for (; i + 16 <= width; i += 16) sum_vectors<1>(taps, count, from + i, to + i);
  }
#endif
  sum_some(taps, count, width - i, from + i, to + i);
}

}  // namespace cascadezoo
