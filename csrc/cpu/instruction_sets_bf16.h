// Includes CZ_BLOCK, a header of kernels, for every processor and for those with avx512_bf16, with these set:
//   CZ_SET     a name for it, the namespace of what the header defines
//   CZ_TARGET  the attribute that lets a function use it
//   CZ_INLINE  the same, of a function that is always part of its caller
//   CZ_LANES   floats of one vector: 16 with avx512_bf16, 4 without
//   CZ_FMA     (a, b, c) -> a * b + c of vectors
#include "bfloat16.h"

#define CZ_INLINE CZ_TARGET __attribute__((always_inline)) inline

#define CZ_SET plain
#define CZ_TARGET
#define CZ_LANES 4
#define CZ_FMA(a, b, c) ((a) * (b) + (c))
#include CZ_BLOCK
#undef CZ_SET
#undef CZ_TARGET
#undef CZ_LANES
#undef CZ_FMA

#if defined(CZ_AVX512_BF16)
#define CZ_SET avx512_bf16
#define CZ_TARGET CZ_AVX512_BF16
#define CZ_LANES 16
#define CZ_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#include CZ_BLOCK
#undef CZ_SET
#undef CZ_TARGET
#undef CZ_LANES
#undef CZ_FMA
#endif

#undef CZ_INLINE
#undef CZ_BLOCK

#ifndef CASCADEZOO_CPU_INSTRUCTION_SETS_BF16
#define CASCADEZOO_CPU_INSTRUCTION_SETS_BF16

namespace cascadezoo {
namespace {

// The one of `lanes`; 16 of them where there is no avx512_bf16 are an error
template <class F>
F of_lanes(int64_t lanes, F plain, F avx512_bf16) {
  STD_TORCH_CHECK(
      lanes == 4 || (lanes == 16 && has_avx512_bf16()), "lanes must be 4, or 16 where there is avx512_bf16, not ", lanes);
  return lanes == 4 ? plain : avx512_bf16;
}

#if defined(CZ_AVX512_BF16)
#define CZ_OF_LANES(lanes, name) of_lanes(lanes, plain::name, avx512_bf16::name)
#else
#define CZ_OF_LANES(lanes, name) of_lanes(lanes, plain::name, plain::name)
#endif

}  // namespace
}  // namespace cascadezoo
#endif
