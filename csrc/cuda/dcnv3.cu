// DCNv3 on CUDA, as training needs it: offsets and weights are tensors of their own, with gradients.  No torch header:
// nvcc would take seconds for them.
#include "dcnv3.h"

#include "launch.h"

#include <algorithm>

namespace cascadezoo {
namespace {

constexpr int kThreads = 256, kWarp = 32;

// A thread takes V channels of one group of one output pixel.
template <class T, class S, int V>
__global__ void __launch_bounds__(kThreads) dcnv3_forward_kernel(
    const T* input, const S* offset, const S* mask, T* output, const __grid_constant__ Dcnv3Shape32 p) {
  using A = typename Accumulate<T>::type;
  const unsigned item = blockIdx.x * kThreads + threadIdx.x;
  if (item >= static_cast<unsigned>(p.pixels() * p.channels() / V)) return;
  int part, g, x, y;
  int rest = split(static_cast<int>(item), p.width / V, part);
  rest = split(rest, p.groups, g);
  int at = (rest * p.groups + g) * p.points();
  rest = split(rest, p.wo, x);
  const int image = split(rest, p.ho, y);
  const T* from = input + image * p.h * p.w * p.channels() + g * p.width + part * V;
  A sum[V] = {};
  Taps<A, int> taps;
  for (int k = 0; k < p.points(); ++k, ++at) {
    int iy;
    const int ix = split(k, p.kernel_h, iy);  // x is the slow index
    if (!taps.place(p, y, x, iy, ix, static_cast<A>(offset[2 * at]), static_cast<A>(offset[2 * at + 1]))) continue;
    const A m = static_cast<A>(mask[at]);
    for (int c = 0; c < 4; ++c) {
      if (!taps.inside[c]) continue;
      const auto row = *reinterpret_cast<const Pack<T, V>*>(from + taps.pixel[c] * p.channels());
      for (int v = 0; v < V; ++v) sum[v] += m * taps.weight[c] * static_cast<A>(row.value[v]);
    }
  }
  Pack<T, V> result;
  for (int v = 0; v < V; ++v) result.value[v] = static_cast<T>(sum[v]);
  *reinterpret_cast<Pack<T, V>*>(output + item * static_cast<size_t>(V)) = result;
}

// to[v] += value[v], beside other threads' additions; ``to`` is a multiple of 16 bytes where V > 1
template <class A, int V>
__device__ void add(A* to, const A (&value)[V]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (V % 4 == 0) {  // of floats: doubles come in twos at most
    for (int v = 0; v < V; v += 4)
      atomicAdd(reinterpret_cast<float4*>(to + v), make_float4(value[v], value[v + 1], value[v + 2], value[v + 3]));
  } else
#endif
    for (int v = 0; v < V; ++v) atomicAdd(to + v, value[v]);
}

// ``lanes`` neighbours, a power of two up to a warp, take one group of one output pixel: V channels each at a time.  A
// point's gradients are sums over the group's channels, so the lanes add theirs up by shuffles.
template <class T, class S, int V>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 4 : 5) dcnv3_backward_kernel(
    const T* grad, const T* input, const S* offset, const S* mask, typename Accumulate<T>::type* grad_input,
    S* grad_offset, S* grad_mask, int lanes, const __grid_constant__ Dcnv3Shape32 p) {
  using A = typename Accumulate<T>::type;
  const unsigned sampled = (blockIdx.x * kThreads + threadIdx.x) / lanes;
  const bool mine = sampled < static_cast<unsigned>(p.pixels() * p.groups);  // all lanes of a warp shuffle
  const int first = static_cast<int>(threadIdx.x) % lanes * V;
  int g, x, y;
  int rest = split(mine ? static_cast<int>(sampled) : 0, p.groups, g);
  const T* above = grad + rest * p.channels() + g * p.width;
  int at = (rest * p.groups + g) * p.points();
  rest = split(rest, p.wo, x);
  const int image = split(rest, p.ho, y);
  const int base = image * p.h * p.w * p.channels() + g * p.width;
  const A scale = static_cast<A>(p.scale);
  Taps<A, int> taps;
  for (int k = 0; k < p.points(); ++k, ++at) {
    int iy;
    const int ix = split(k, p.kernel_h, iy);  // x is the slow index
    const A m = static_cast<A>(mask[at]);
    A to_mask = 0, to_x = 0, to_y = 0;
    if (mine && taps.place(p, y, x, iy, ix, static_cast<A>(offset[2 * at]), static_cast<A>(offset[2 * at + 1])))
      CZ_NO_UNROLL
      for (int i = first; i < p.width; i += lanes * V) {
        const auto up = *reinterpret_cast<const Pack<T, V>*>(above + i);
        for (int c = 0; c < 4; ++c) {
          if (!taps.inside[c]) continue;
          const int cell = base + taps.pixel[c] * p.channels() + i;
          const auto row = *reinterpret_cast<const Pack<T, V>*>(input + cell);
          A dot = 0, spread[V];
          for (int v = 0; v < V; ++v) {
            dot += static_cast<A>(up.value[v]) * static_cast<A>(row.value[v]);
            spread[v] = m * taps.weight[c] * static_cast<A>(up.value[v]);
          }
          to_mask += taps.weight[c] * dot;
          to_x += taps.along_x[c] * dot;
          to_y += taps.along_y[c] * dot;
          add(grad_input + cell, spread);
        }
      }
    for (int other = lanes / 2; other > 0; other /= 2) {
      to_mask += __shfl_xor_sync(~0u, to_mask, other);
      to_x += __shfl_xor_sync(~0u, to_x, other);
      to_y += __shfl_xor_sync(~0u, to_y, other);
    }
    if (!mine || first != 0) continue;
    grad_mask[at] = static_cast<S>(to_mask);
    grad_offset[2 * at] = static_cast<S>(scale * m * to_x);
    grad_offset[2 * at + 1] = static_cast<S>(scale * m * to_y);
  }
}

dim3 blocks(int64_t threads) { return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)); }

int lanes_of(int parts) {
  int lanes = 1;
  while (2 * lanes <= std::min(kWarp, parts)) lanes *= 2;
  return lanes;
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
    const Dcnv3Shape32& p, void* stream) {
  if (p.pixels() * p.channels() == 0) return nullptr;
  return by_type(kind, float_points, [&](auto t, auto s) {
    using T = decltype(t);
    using S = decltype(s);
    return by_pack<T>(p.width, aligned(input) && aligned(output), [&](auto pack) {
      constexpr int V = decltype(pack)::value;
      constexpr auto kernel = dcnv3_forward_kernel<T, S, V>;
      CZ_LAUNCH(
          kernel, blocks(p.pixels() * p.channels() / V), dim3(kThreads), 0, stream, static_cast<const T*>(input),
          static_cast<const S*>(offset), static_cast<const S*>(mask), static_cast<T*>(output), p);
      return launched();
    });
  });
}

const char* dcnv3_cuda_backward(
    Kind kind, bool float_points, const void* grad, const void* input, const void* offset, const void* mask,
    void* grad_input, void* grad_offset, void* grad_mask, const Dcnv3Shape32& p, void* stream) {
  if (p.pixels() * p.groups == 0) return nullptr;
  return by_type(kind, float_points, [&](auto t, auto s) {
    using T = decltype(t);
    using S = decltype(s);
    using A = typename Accumulate<T>::type;
    return by_pack<T>(p.width, aligned(grad) && aligned(input), [&](auto pack) {
      constexpr int V = decltype(pack)::value;
      constexpr auto kernel = dcnv3_backward_kernel<T, S, V>;
      const int lanes = lanes_of(p.width / V);
      CZ_LAUNCH(
          kernel, blocks(int64_t{lanes} * p.pixels() * p.groups), dim3(kThreads), 0, stream,
          static_cast<const T*>(grad), static_cast<const T*>(input), static_cast<const S*>(offset),
          static_cast<const S*>(mask), static_cast<A*>(grad_input), static_cast<S*>(grad_offset),
          static_cast<S*>(grad_mask), lanes, p);
      return launched();
    });
  });
}

}  // namespace cascadezoo
