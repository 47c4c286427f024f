// cuda_fp16.h's and cuda_bf16.h's types, as far as kernels here use them: storage, and conversion by way of float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace cuda_emulated {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// to the nearest, of two equally near ones to the even one
inline uint32_t without_last_bits(uint32_t bits, int count) {
  return (bits + ((1u << (count - 1)) - 1) + (bits >> count & 1)) >> count;
}

inline uint16_t half_of(float value) {
  const uint32_t sign = bits_of(value) >> 16 & 0x8000, size = bits_of(value) & 0x7fffffff;
  if (size > 0x7f800000) return static_cast<uint16_t>(0x7fff);                             // not a number
  if (size >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);                     // 65520 and more
  if (size >= 0x38800000) return static_cast<uint16_t>(sign | (without_last_bits(size, 13) - (112 << 10)));
  return static_cast<uint16_t>(sign | (bits_of(float_of(size) + 0.5f) - bits_of(0.5f)));   // in steps of 2^-24
}

inline float of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, size = half & 0x7fff;
  if (size >= 0x7c00) return float_of(sign | 0x7f800000 | (size & 0x3ff) << 13);
  return float_of(sign | bits_of(float_of(size << 13) * 0x1p112f));
}

}  // namespace cuda_emulated

struct __half {
  uint16_t bits;

  __half() = default;
  __half(float value) : bits(cuda_emulated::half_of(value)) {}
  operator float() const { return cuda_emulated::of_half(bits); }
};

struct __nv_bfloat16 {
  uint16_t bits;

  __nv_bfloat16() = default;
  __nv_bfloat16(float value) {
    const uint32_t exact = cuda_emulated::bits_of(value);
    bits = static_cast<uint16_t>(value != value ? 0x7fff : cuda_emulated::without_last_bits(exact, 16));
  }
  operator float() const { return cuda_emulated::float_of(static_cast<uint32_t>(bits) << 16); }
};
