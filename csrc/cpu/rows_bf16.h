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
// 32 numbers a vector of memory: those of even places and those of odd ones are summed apart
template <int Vectors>
CZ_AVX512_BF16 inline void sum_vectors(const Tap<float>* taps, int64_t count, const Bits* from, Bits* to) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  __m512 even[Vectors] = {}, odd[Vectors] = {};
  for (int64_t t = 0; t < count; ++t) {
    const __m512 weight = _mm512_set1_ps(taps[t].weight);
    const Bits* row = from + taps[t].row;
    for (int i = 0; i < Vectors; ++i) {
      const __m512i pairs = _mm512_loadu_si512(row + 32 * i);
      even[i] = _mm512_fmadd_ps(weight, _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, pairs, 16)), even[i]);
      odd[i] = _mm512_fmadd_ps(weight, _mm512_castsi512_ps(_mm512_and_si512(pairs, high)), odd[i]);
    }
  }
  for (int i = 0; i < Vectors; ++i) {
    const __m512i low = _mm512_maskz_cvtepu16_epi32(kAll, (__m256i)_mm512_cvtneps_pbh(even[i]));
    const __m512i above = _mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, (__m256i)_mm512_cvtneps_pbh(odd[i])), 16);
    _mm512_storeu_si512(to + 32 * i, _mm512_or_si512(low, above));
  }
}
#endif

inline void sum_rows(const Tap<float>* taps, int64_t count, int64_t width, const Bits* from, Bits* to) {
  int64_t i = 0;
#if defined(CZ_AVX512_BF16)
  static const bool wide = has_avx512_bf16();
  if (wide) {
    for (; i + 256 <= width; i += 256) sum_vectors<8>(taps, count, from + i, to + i);
    for (; i + 32 <= width; i += 32) sum_vectors<1>(taps, count, from + i, to + i);
  }
#endif
  sum_some(taps, count, width - i, from + i, to + i);
}

}  // namespace cascadezoo
