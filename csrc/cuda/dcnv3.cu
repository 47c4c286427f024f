// DCNv3 on CUDA: the functors of ../dcnv3.h, one item per thread.  No torch header: nvcc would take seconds for them.
#include "dcnv3.h"

#include "launch.h"

#include <algorithm>
#include <type_traits>

namespace cascadezoo {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlocks = 1 << 16;  // beyond these a thread takes several items

struct AtomicAdd {
  template <class A>
  __device__ void operator()(A* to, A value) const {
    atomicAdd(to, value);
  }
};

template <class F>
__global__ void __launch_bounds__(kThreads) for_each_kernel(int64_t items, F f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < items; item += step) f(item);
}

template <class F>
const char* for_each(const F& f, void* stream) {
  const int64_t items = f.items();
  if (items == 0) return nullptr;
  const int64_t blocks = std::min(kBlocks, (items + kThreads - 1) / kThreads);
  CZ_LAUNCH(for_each_kernel<F>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, items, f);
  return launched();
}

// 16 bytes per load where rows of a group start at multiples of that
template <class T, class F>
const char* by_pack(const Dcnv3Shape& p, bool all_aligned, F&& run) {
  constexpr int wide = 16 / sizeof(T);
  if (all_aligned && p.width % wide == 0) return run(std::integral_constant<int, wide>{});
  return run(std::integral_constant<int, 1>{});
}

template <class T, class S>
const char* forward(
    const void* input, const void* offset, const void* mask, void* output, const Dcnv3Shape& p, void* stream) {
  return by_pack<T>(p, aligned(input) && aligned(output), [&](auto pack) {
    return for_each(
        Dcnv3Forward<T, S, decltype(pack)::value>{
            static_cast<const T*>(input), static_cast<const S*>(offset), static_cast<const S*>(mask),
            static_cast<T*>(output), p},
        stream);
  });
}

template <class T, class S>
const char* backward(
    const void* grad, const void* input, const void* offset, const void* mask, void* grad_input, void* grad_offset,
    void* grad_mask, const Dcnv3Shape& p, void* stream) {
  using A = typename Accumulate<T>::type;
  return by_pack<T>(p, aligned(grad) && aligned(input), [&](auto pack) {
    return for_each(
        Dcnv3Backward<T, S, decltype(pack)::value, AtomicAdd>{
            static_cast<const T*>(grad), static_cast<const T*>(input), static_cast<const S*>(offset),
            static_cast<const S*>(mask), static_cast<A*>(grad_input), static_cast<S*>(grad_offset),
            static_cast<S*>(grad_mask), p, {}},
        stream);
  });
}

// calls run(T, S) with a value of the input's type and one of the points'
template <class F>
const char* by_type(Kind kind, bool float_points, F&& run) {
  return by_kind(kind, [&](auto t) {
    if constexpr (sizeof(t) == 2)
      if (float_points) return run(t, float{});
    return run(t, t);
  });
}

}  // namespace

const char* dcnv3_cuda_forward(
    Kind kind, bool float_points, const void* input, const void* offset, const void* mask, void* output,
    const Dcnv3Shape& p, void* stream) {
  return by_type(kind, float_points, [&](auto t, auto s) {
    return forward<decltype(t), decltype(s)>(input, offset, mask, output, p, stream);
  });
}

const char* dcnv3_cuda_backward(
    Kind kind, bool float_points, const void* grad, const void* input, const void* offset, const void* mask,
    void* grad_input, void* grad_offset, void* grad_mask, const Dcnv3Shape& p, void* stream) {
  return by_type(kind, float_points, [&](auto t, auto s) {
    return backward<decltype(t), decltype(s)>(
        grad, input, offset, mask, grad_input, grad_offset, grad_mask, p, stream);
  });
}

}  // namespace cascadezoo
