// Includes CZ_BLOCK, a header of kernels, once for each instruction set that this processor's family has, with these set:
//   CZ_SET     a name for it, the namespace of what the header defines
//   CZ_TARGET  the attribute that lets a function use it
//   CZ_INLINE  the same, of a function that is always part of its caller
//   CZ_LANES   floats of one vector: 4, 8 or 16
//   CZ_FMA     (a, b, c) -> a * b + c of vectors
//   CZ_STREAM  (to, a) stores a vector where a line of a cache begins, past the caches where the processor can
//   CZ_ROWS    the most rows of a product that are kept in registers, two vectors of sums each
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CZ_INLINE CZ_TARGET __attribute__((always_inline)) inline

#define CZ_SET plain
#define CZ_TARGET
#define CZ_LANES 4
#define CZ_FMA(a, b, c) ((a) * (b) + (c))
#define CZ_STREAM(to, a) store(to, a)
#define CZ_ROWS 4
#include CZ_BLOCK
#undef CZ_SET
#undef CZ_TARGET
#undef CZ_LANES
#undef CZ_FMA
#undef CZ_STREAM
#undef CZ_ROWS

#if defined(__x86_64__)
#define CZ_SET avx2
#define CZ_TARGET __attribute__((target("avx2,fma")))
#define CZ_LANES 8
#define CZ_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define CZ_STREAM(to, a) _mm256_stream_ps(to, a)
#define CZ_ROWS 6
#include CZ_BLOCK
#undef CZ_SET
#undef CZ_TARGET
#undef CZ_LANES
#undef CZ_FMA
#undef CZ_STREAM
#undef CZ_ROWS

#define CZ_SET avx512
#define CZ_TARGET __attribute__((target("avx512f")))
#define CZ_LANES 16
#define CZ_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define CZ_STREAM(to, a) _mm512_stream_ps(to, a)
#define CZ_ROWS 14
#include CZ_BLOCK
#undef CZ_SET
#undef CZ_TARGET
#undef CZ_LANES
#undef CZ_FMA
#undef CZ_STREAM
#undef CZ_ROWS
#endif

#undef CZ_INLINE
#undef CZ_BLOCK

#ifndef CASCADEZOO_CPU_INSTRUCTION_SETS
#define CASCADEZOO_CPU_INSTRUCTION_SETS
#include <cstdint>

namespace cascadezoo {
namespace {

// The widest of at most `lanes` that this processor has
template <class F>
F widest(int64_t lanes, F plain, F avx2, F avx512) {
#if defined(__x86_64__)
  if (lanes >= 16 && __builtin_cpu_supports("avx512f")) return avx512;
  if (lanes >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
#endif
  return plain;
}

#if defined(__x86_64__)
#define CZ_WIDEST(lanes, name) widest(lanes, plain::name, avx2::name, avx512::name)
#else
#define CZ_WIDEST(lanes, name) widest(lanes, plain::name, plain::name, plain::name)
#endif

}  // namespace
}  // namespace cascadezoo
#endif
