// What the maths of several operators is written in, for C++ compilers and nvcc alike.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define CZ_HD __host__ __device__ __forceinline__
#define CZ_NO_UNROLL _Pragma("unroll 1")  // before a loop whose copies would need more registers than there are
#define CZ_UNROLL _Pragma("unroll")       // before a loop over an array that is to lie in registers
#else
#define CZ_HD inline
#define CZ_NO_UNROLL
#define CZ_UNROLL
#endif

namespace cascadezoo {

// the type in which sums of T are kept
template <class T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};

// V numbers that are read and written at once
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T value[V];
};

// a / b, and a % b as ``rest``
CZ_HD int32_t split(int32_t a, int32_t b, int32_t& rest) {
  const uint32_t quotient = static_cast<uint32_t>(a) / static_cast<uint32_t>(b);  // neither is negative
  rest = static_cast<int32_t>(static_cast<uint32_t>(a) - quotient * static_cast<uint32_t>(b));
  return static_cast<int32_t>(quotient);
}

// a * b, rounded before anything is added to it: nvcc fuses what it may
CZ_HD float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
CZ_HD double product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

}  // namespace cascadezoo
