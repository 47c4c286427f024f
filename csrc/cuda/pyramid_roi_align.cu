// RoIAlign over all levels of a pyramid in one launch.  A block pools one box: it places the bins' cells along each axis
// in shared memory, then each of its warps takes a bin at a time, and each lane 16 bytes of channels: these lie side by
// side.
#include "pyramid_roi_align.h"

#include "launch.h"

#include "../roi_align.h"

#include <algorithm>
#include <type_traits>

namespace cascadezoo {
namespace {

constexpr int kThreads = 256, kWarp = 32, kWarps = kThreads / kWarp;
constexpr int kHalfFull = 4;  // blocks that a multiprocessor shall hold at least: half of its threads

// The cells under a block's box.  Along axis 0, x, and 1, y, bin b covers cells first[b] .. first[b] + count[b], whose
// weights begin at weight[offset[b]].
template <class A>
struct Cells {
  int bins, most;
  int *first, *count, *offset;  // (2, bins)
  A* weight;                    // (2, most)

  // Bins lie side by side, so those of an axis share at most its cells, and two or three more each for their ends.
  static __host__ __device__ int most_of(int bins, int longest) { return longest + 4 * bins; }

  static size_t bytes(int bins, int longest) {
    return 2 * (most_of(bins, longest) * sizeof(A) + 3 * bins * sizeof(int));
  }

  __device__ Cells(unsigned char* shared, int bins, int longest) : bins(bins), most(most_of(bins, longest)) {
    weight = reinterpret_cast<A*>(shared);
    first = reinterpret_cast<int*>(weight + 2 * most);
    count = first + 2 * bins;
    offset = count + 2 * bins;
  }

  // by all threads of the block; ``box``: x1, y1, x2, y2, or null for one that covers nothing
  __device__ void place(const A* box, const Pyramid::Level& level, int sampling, bool aligned) {
    for (int at = threadIdx.x; at < 2 * bins; at += kThreads) {
      int low = axis_size(level, at / bins), high = -1;
      if (box != nullptr)
        each_point(box, level, sampling, aligned, at, [&](const Between<A>& cells, A) {
          low = min(low, static_cast<int>(cells.low)), high = max(high, static_cast<int>(cells.high));
        });
      first[at] = low, count[at] = max(0, high - low + 1);
    }
    __syncthreads();
    if (threadIdx.x < 2)
      for (int b = 0, next = 0; b < bins; ++b) {
        offset[threadIdx.x * bins + b] = threadIdx.x * most + next;
        next += count[threadIdx.x * bins + b];
      }
    __syncthreads();
    for (int at = threadIdx.x; at < 2 * bins; at += kThreads) {
      A* mine = weight + offset[at];
      for (int i = 0; i < count[at]; ++i) mine[i] = 0;
      if (box == nullptr) continue;
      each_point(box, level, sampling, aligned, at, [&](const Between<A>& cells, A points) {
        mine[cells.low - first[at]] += (1 - cells.rest) / points;
        mine[cells.high - first[at]] += cells.rest / points;
      });
    }
    __syncthreads();
  }

  // f(cell, weight) for the cells of a bin on a map of this width
  template <class T, class F>
  __device__ void each(int bin, T* map, int w, int channels, const F& f) const {
    const int bx = bin % bins, by = bins + bin / bins;
    for (int y = 0; y < count[by]; ++y) {
      const A of_row = weight[offset[by] + y];
      T* cell = map + (static_cast<int64_t>(first[by] + y) * w + first[bx]) * channels;
      for (int x = 0; x < count[bx]; ++x, cell += channels) f(cell, of_row * weight[offset[bx] + x]);
    }
  }

 private:
  static __device__ int axis_size(const Pyramid::Level& level, int axis) { return axis ? level.h : level.w; }

  // f(cells around it, number of points) for the points of bin ``at`` = axis * bins + b that lie on the map.  Those far
  // off it are passed over unseen: a box of any size takes no more time than its map.
  template <class F>
  __device__ void each_point(
      const A* box, const Pyramid::Level& level, int sampling, bool aligned, int at, const F& f) const {
    const int axis = at / bins, b = at % bins, size = axis_size(level, axis);
    const Span<A> span(box[axis], box[axis + 2], static_cast<A>(level.scale), aligned, bins);
    const A points = span.points(sampling), step = span.bin / points;
    const A begin = span.start + static_cast<A>(b) * span.bin;
    if (!(points > 0 && span.start - span.start == 0 && span.bin - span.bin == 0)) return;  // nor infinite ones
    A next = 0, last = points;
    if (step != 0) {  // two more on each side, as these are rounded
      const A one = (-1 - begin) / step, other = (static_cast<A>(size) - begin) / step;
      next = max(next, std::floor(min(one, other)) - 2);
      last = min(last, std::ceil(max(one, other)) + 2);
    }
    Between<A> cells;
    for (int left = next < last ? static_cast<int>(last - next) : 0; left > 0; --left, next += 1)
      if (cells.place(span.position(b, next, points), size)) f(cells, points);
  }
};

// What a block works on: its box's cells, and the box's map from the first cell of its image on.  A box of no level, or
// with a coordinate that is no number, covers no cell of the first one.
template <class T, class A>
struct Work {
  Cells<A> cells;
  const Pyramid::Level& level;
  T* map;

  __device__ static int level_of(const Pyramid& p, const A* box, int64_t level) {
    const bool finite = box[0] - box[0] == 0 && box[1] - box[1] == 0 && box[2] - box[2] == 0 && box[3] - box[3] == 0;
    return finite && level >= 0 && level < p.levels ? static_cast<int>(level) : -1;
  }

  // all threads of the block come here
  __device__ Work(const Pyramid& p, int longest, const A* box, int found, unsigned char* shared)
      : cells(shared, p.bins, longest), level(p.level[max(found, 0)]) {
    const int64_t image = blockIdx.x / p.boxes;
    map = static_cast<T*>(level.cells) + image * level.h * level.w * p.channels;
    cells.place(found < 0 ? nullptr : box, level, p.sampling, p.aligned);
  }

  // f(bin, first channel) for V channels of a bin at a time
  template <int V, class F>
  __device__ void each_part(const Pyramid& p, const F& f) const {
    for (int bin = threadIdx.x / kWarp; bin < p.bins * p.bins; bin += kWarps)
      for (int channel = threadIdx.x % kWarp * V; channel < p.channels; channel += kWarp * V) f(bin, channel);
  }
};

template <class T, int V>
__global__ void __launch_bounds__(kThreads, kHalfFull) forward_kernel(
    const __grid_constant__ Pyramid p, int longest, const typename Accumulate<T>::type* boxes, const int64_t* levels,
    T* pooled) {
  using A = typename Accumulate<T>::type;
  CZ_DYNAMIC_SHARED(shared);
  const int64_t roi = blockIdx.x;
  const A* box = boxes + 4 * roi;
  const Work<const T, A> work(p, longest, box, Work<const T, A>::level_of(p, box, levels[roi]), shared);
  work.template each_part<V>(p, [&](int bin, int channel) {
    A sum[V] = {};
    work.cells.each(bin, work.map + channel, work.level.w, p.channels, [&](const T* cell, A weight) {
      const auto row = *reinterpret_cast<const Pack<T, V>*>(cell);
      for (int v = 0; v < V; ++v) sum[v] += weight * static_cast<A>(row.value[v]);
    });
    Pack<T, V> result;
    for (int v = 0; v < V; ++v) result.value[v] = static_cast<T>(sum[v]);
    T* to = pooled + (roi * p.bins * p.bins + bin) * p.channels + channel;
    *reinterpret_cast<Pack<T, V>*>(to) = result;
  });
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads, kHalfFull) backward_kernel(
    const __grid_constant__ Pyramid p, int longest, const typename Accumulate<T>::type* boxes, const int64_t* levels,
    const T* grad) {
  using A = typename Accumulate<T>::type;
  CZ_DYNAMIC_SHARED(shared);
  const int64_t roi = blockIdx.x;
  const A* box = boxes + 4 * roi;
  const Work<A, A> work(p, longest, box, Work<A, A>::level_of(p, box, levels[roi]), shared);
  work.template each_part<V>(p, [&](int bin, int channel) {
    const T* from = grad + (roi * p.bins * p.bins + bin) * p.channels + channel;
    const auto above = *reinterpret_cast<const Pack<T, V>*>(from);
    work.cells.each(bin, work.map + channel, work.level.w, p.channels, [&](A* cell, A weight) {
      for (int v = 0; v < V; ++v) atomicAdd(cell + v, weight * static_cast<A>(above.value[v]));
    });
  });
}

int longest_side(const Pyramid& p) {
  int longest = 0;
  for (int i = 0; i < p.levels; ++i) longest = std::max({longest, p.level[i].h, p.level[i].w});
  return longest;
}

template <class A>
size_t shared_bytes(const Pyramid& p) {
  return Cells<A>::bytes(p.bins, longest_side(p));
}

}  // namespace

size_t pyramid_roi_align_shared(Kind kind, const Pyramid& p) {
  return kind == Kind::Double ? shared_bytes<double>(p) : shared_bytes<float>(p);
}

const char* pyramid_roi_align_cuda_forward(
    Kind kind, const Pyramid& p, int64_t rois, const void* boxes, const int64_t* level, void* pooled, void* stream) {
  bool all_aligned = aligned(pooled);
  for (int i = 0; i < p.levels; ++i) all_aligned &= aligned(p.level[i].cells);
  const dim3 grid(static_cast<unsigned>(rois));
  const int longest = longest_side(p);
  return by_kind(kind, [&](auto t) {
    using T = decltype(t);
    using A = typename Accumulate<T>::type;
    const A* from = static_cast<const A*>(boxes);
    T* to = static_cast<T*>(pooled);
    by_pack<T>(p.channels, all_aligned, [&](auto v) {
      constexpr auto kernel = forward_kernel<T, decltype(v)::value>;
      CZ_LAUNCH(kernel, grid, dim3(kThreads), shared_bytes<A>(p), stream, p, longest, from, level, to);
    });
    return launched();
  });
}

const char* pyramid_roi_align_cuda_backward(
    Kind kind, const Pyramid& p, int64_t rois, const void* boxes, const int64_t* level, const void* grad,
    void* stream) {
  const dim3 grid(static_cast<unsigned>(rois));
  const int longest = longest_side(p);
  return by_kind(kind, [&](auto t) {
    using T = decltype(t);
    using A = typename Accumulate<T>::type;
    const A* from = static_cast<const A*>(boxes);
    const T* above = static_cast<const T*>(grad);
    by_pack<T>(p.channels, aligned(grad), [&](auto v) {
      constexpr auto kernel = backward_kernel<T, decltype(v)::value>;
      CZ_LAUNCH(kernel, grid, dim3(kThreads), shared_bytes<A>(p), stream, p, longest, from, level, above);
    });
    return launched();
  });
}

}  // namespace cascadezoo
