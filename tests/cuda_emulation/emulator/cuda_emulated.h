// The part of CUDA C++ that the kernels of csrc/cuda use, for a C++ compiler on the CPU: csrc/cuda/launch.h includes it
// where nvcc does not compile.  What is missing has no meaning yet in this emulation: add it with its test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "half_types.h"
#include "scheduler.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static  // blocks run one after another

#define threadIdx (cuda_emulated::thread_index)
#define blockIdx (cuda_emulated::block_index)
#define blockDim (cuda_emulated::block_size)
#define gridDim (cuda_emulated::grid_size)

#define CZ_DYNAMIC_SHARED(name) unsigned char* name = static_cast<unsigned char*>(cuda_emulated::dynamic_shared())
#define CZ_LAUNCH(kernel, grid, block, shared, stream, ...)                             \
  (static_cast<void>(stream),                                                           \
   cuda_emulated::run(reinterpret_cast<const void*>(+(kernel)), grid, block, shared, [=] { (kernel)(__VA_ARGS__); }))

namespace cuda_emulated {

template <class F>
void run(const void* kernel, dim3 grid, dim3 block, size_t shared, F f) {
  launch(kernel, grid, block, shared, [](void* f) { (*static_cast<F*>(f))(); }, &f);
}

template <class T>
T exchanged(unsigned mask, T value, int source, Place place) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, source, place);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Replaces *at by f(*at) in one step; the value before.
template <class T, class F>
T changed(T* at, const F& f) {
  T before, after;
  __atomic_load(at, &before, __ATOMIC_RELAXED);
  do after = f(before);
  while (!__atomic_compare_exchange(at, &before, &after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}

}  // namespace cuda_emulated

// each call says where it stands
#define CZ_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CZ_PLACE) { cuda_emulated::sync_block({file, line}); }
inline void __syncwarp(unsigned mask = ~0u, CZ_PLACE) { cuda_emulated::sync_warp(mask, {file, line}); }

inline unsigned __ballot_sync(unsigned mask, int vote, CZ_PLACE) {
  return cuda_emulated::ballot(mask, vote != 0, {file, line});
}
inline int __any_sync(unsigned mask, int vote, CZ_PLACE) { return __ballot_sync(mask, vote, file, line) != 0; }
inline int __all_sync(unsigned mask, int vote, CZ_PLACE) { return __ballot_sync(mask, vote, file, line) == mask; }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, CZ_PLACE) {
  return cuda_emulated::exchanged(mask, value, source & 31, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other, CZ_PLACE) {
  return cuda_emulated::exchanged(mask, value, cuda_emulated::lane() ^ other, {file, line});
}
// beyond the warp's end a lane gets its own value
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned step, CZ_PLACE) {
  const int lane = cuda_emulated::lane(), source = lane + static_cast<int>(step);
  return cuda_emulated::exchanged(mask, value, source < 32 ? source : lane, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned step, CZ_PLACE) {
  const int lane = cuda_emulated::lane(), source = lane - static_cast<int>(step);
  return cuda_emulated::exchanged(mask, value, source >= 0 ? source : lane, {file, line});
}

using std::max;
using std::min;

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

template <class T>
T atomicAdd(T* at, T value) {
  return cuda_emulated::changed(at, [=](T before) { return before + value; });
}
template <class T>
T atomicMax(T* at, T value) {
  return cuda_emulated::changed(at, [=](T before) { return std::max(before, value); });
}

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

inline cudaError_t cudaGetLastError() { return std::exchange(cuda_emulated_error, cudaSuccess); }
inline const char* cudaGetErrorString(cudaError_t) { return "the error that a test asked for"; }

inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = static_cast<int>(cuda_emulated_most_shared), cudaSuccess;
}

template <class... Arguments>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Arguments...), cudaFuncAttribute, int bytes) {
  cuda_emulated::allow_shared(reinterpret_cast<const void*>(kernel), static_cast<size_t>(bytes));
  return cudaSuccess;
}
