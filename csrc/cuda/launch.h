// What every kernel file includes first: CUDA under nvcc, and under a C++ compiler its emulation on the CPU
// (tests/cuda_emulation, whose folder must then be on the include path).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kind.h"

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// kernel<<<grid, block, bytes of dynamic shared memory, stream>>>(arguments...)
#define CZ_LAUNCH(kernel, grid, block, shared, stream, ...) \
  kernel<<<grid, block, shared, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)

// unsigned char* name: the block's dynamic shared memory
#define CZ_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

#else

#include <cuda_emulated.h>

#endif

namespace cascadezoo {

// What the last launch's error was, or nullptr
inline const char* launched() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

constexpr size_t kOwnShared = 1 << 10;    // bytes left to a kernel's static shared memory
constexpr size_t kFreeShared = 48 << 10;  // bytes of dynamic shared memory that a kernel has without asking

// What a block of the current device can have
inline size_t most_shared() {
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return static_cast<size_t>(bytes) < kFreeShared + kOwnShared ? kFreeShared : static_cast<size_t>(bytes) - kOwnShared;
}

// Asks for it; where that fails so does the launch.
template <class Kernel>
void allow_shared(Kernel* kernel, size_t bytes) {
  if (bytes > kFreeShared)
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Calls run(T) with a value of the type that ``kind`` names.
template <class F>
const char* by_kind(Kind kind, F&& run) {
  switch (kind) {
    case Kind::Float:
      return run(float{});
    case Kind::Double:
      return run(double{});
    case Kind::Half:
      return run(__half{});
    case Kind::BFloat16:
      return run(__nv_bfloat16{});
  }
  return "unknown type";
}

// Calls run(V) for V numbers per load: 16 bytes where rows of ``count`` numbers start at multiples of that, else one.
template <class T, class F>
auto by_pack(int64_t count, bool all_aligned, F&& run) {
  constexpr int wide = 16 / sizeof(T);
  if (all_aligned && count % wide == 0) return run(std::integral_constant<int, wide>{});
  return run(std::integral_constant<int, 1>{});
}

}  // namespace cascadezoo
