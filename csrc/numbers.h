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

}  // namespace cascadezoo
