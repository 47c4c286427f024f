// Rows of bfloat16 numbers times packed weights, with sums in float32, for one instruction set (instruction_sets_bf16.h).
#include "vectors.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

#if CZ_LANES == 16
CZ_INLINE Vector load(const Bits* from) { return load_bf16(from); }
CZ_INLINE void store(Bits* to, Vector first, Vector second) {
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}
CZ_INLINE void fetch(const Bits* from) { _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T0); }

// Rows (in / kLine, `next` numbers apart) times a chunk of weights (in / 2, kChunk, 2), to (Rows, kChunk)
template <int Rows>
CZ_INLINE void multiply(int64_t in, const Bits* v, int64_t next, const Bits* weight, float* to) {
  __m512 sums[Rows][2] = {};
  for (int64_t first = 0; first < in; first += kLine, v += next)
    for (int c = 0; c < kLine; c += 2, weight += 2 * kChunk) {
      const __m512bh left = (__m512bh)_mm512_loadu_si512(weight), right = (__m512bh)_mm512_loadu_si512(weight + kChunk);
#pragma GCC unroll 14
      for (int row = 0; row < Rows; ++row) {
        int32_t pair;
        std::memcpy(&pair, v + row * kLine + c, 4);
        const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
        sums[row][0] = _mm512_dpbf16_ps(sums[row][0], value, left);
        sums[row][1] = _mm512_dpbf16_ps(sums[row][1], value, right);
      }
    }
#pragma GCC unroll 14
  for (int row = 0; row < Rows; ++row) {
    _mm512_storeu_ps(to + row * kChunk, sums[row][0]);
    _mm512_storeu_ps(to + row * kChunk + 16, sums[row][1]);
  }
}
#else
CZ_INLINE Vector load(const Bits* from) {
  Vector value;
  for (int i = 0; i < CZ_LANES; ++i) value[i] = widened(from[i]);
  return value;
}
CZ_INLINE void store(Bits* to, Vector first, Vector second) {
  for (int i = 0; i < CZ_LANES; ++i) to[i] = rounded(first[i]), to[i + CZ_LANES] = rounded(second[i]);
}
CZ_INLINE void fetch(const Bits*) {}

template <int Rows>
CZ_INLINE void multiply(int64_t in, const Bits* v, int64_t next, const Bits* weight, float* to) {
  float sums[Rows][kChunk] = {};
  for (int64_t first = 0; first < in; first += kLine, v += next)
    for (int c = 0; c < kLine; c += 2, weight += 2 * kChunk)
      for (int row = 0; row < Rows; ++row)
        for (int k = 0; k < kChunk; ++k)
          for (int i : {0, 1}) sums[row][k] += widened(v[row * kLine + c + i]) * widened(weight[2 * k + i]);
  std::copy_n(&sums[0][0], Rows * kChunk, to);
}
#endif

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
