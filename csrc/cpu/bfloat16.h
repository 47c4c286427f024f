// Numbers of bfloat16 on the CPU.  What uses avx512_bf16 is compiled for it alone, and runs where the processor has it.
#pragma once

#include "../stable.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 14 : __GNUC__ >= 12)
#define CZ_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#include <immintrin.h>
#endif

namespace cascadezoo {

using Bits = uint16_t;  // of a bfloat16

constexpr int kChunk = 32;  // outputs that lie side by side in packed weights
constexpr int kLine = 32;   // channels of a row that lie side by side: one line of a cache
constexpr int kRows = 14;   // of a product: their sums, two vectors each, fill the registers

// Memory from the begin of a line on
template <class T>
class Lines {
 public:
  explicit Lines(int64_t count) : memory_(count + 64 / sizeof(T)) {}
  T* begin() { return memory_.data() + (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64 / sizeof(T); }

 private:
  std::vector<T> memory_;
};

inline float widened(Bits bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

// to the nearest, to the even one of two
inline Bits rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return static_cast<Bits>(bits >> 16 | 0x40);
  return static_cast<Bits>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline const Bits* bits(const Tensor& tensor) { return static_cast<const Bits*>(tensor.const_data_ptr()); }
inline Bits* mutable_bits(Tensor& tensor) { return static_cast<Bits*>(tensor.mutable_data_ptr()); }

// whether the processor has it, and the compiler
inline bool has_avx512_bf16() {
#if defined(CZ_AVX512_BF16)
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

#if defined(CZ_AVX512_BF16)
constexpr __mmask16 kAll = 0xffff;  // without a mask, gcc 12 warns of what its own header leaves undefined

// 16 numbers from and to bfloat16
CZ_AVX512_BF16 __attribute__((always_inline)) inline __m512 load_bf16(const Bits* from) {
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, wide, 16));
}
CZ_AVX512_BF16 __attribute__((always_inline)) inline void store_bf16(Bits* to, __m512 value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
}
#endif

}  // namespace cascadezoo
