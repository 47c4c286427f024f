// DCNv3 for inference on CUDA: the softmax over a group's points and the sampling, in one launch.  A block takes some
// groups of a tile of output pixels, whose windows overlap.  Its threads first place each group's nine points, once for
// all of the group's channels; then each sums 16 bytes of channels, which lie side by side.
#include "dcnv3_fused.h"

#include "launch.h"

#include <algorithm>
#include <cmath>

namespace cascadezoo {
namespace {

constexpr int kTileX = 8, kTileY = 4, kTile = kTileX * kTileY;
constexpr int kMostThreads = 320;

// The block's part of the output: ``groups`` groups, from ``first`` on, of each pixel of a tile.
struct Work {
  int image, top, left, first, groups;

  __device__ Work(const Dcnv3Shape32& p, int groups) : groups(groups) {
    int slab, tile_x, tile_y;
    int rest = split(static_cast<int>(blockIdx.x), p.groups / groups, slab);
    rest = split(rest, (p.wo + kTileX - 1) / kTileX, tile_x);
    image = split(rest, (p.ho + kTileY - 1) / kTileY, tile_y);
    top = tile_y * kTileY, left = tile_x * kTileX, first = slab * groups;
  }
};

// One group of one output pixel; ``number`` counts them within the block.
struct Place {
  int y, x, group;
  bool exists;

  __device__ Place(const Dcnv3Shape32& p, const Work& work, int number) {
    const int pixel = split(number, work.groups, group);
    group += work.first;
    y = work.top + pixel / kTileX, x = work.left + pixel % kTileX;
    exists = y < p.ho && x < p.wo;
  }

  __device__ int pixel(const Dcnv3Shape32& p, const Work& work) const { return (work.image * p.ho + y) * p.wo + x; }
};

// How much each of the four pixels around a point counts; outside the image nothing.
template <class A>
struct alignas(16) Corners {
  A weight[4];
};

// The points of a block in its shared memory: point k of place i is number k * kTile * groups + i.
template <class A>
struct Points {
  Corners<A>* corners;
  int* cell;  // the first number of the top left pixel in the input

  static size_t bytes(int groups) { return kFusedPoints * kTile * groups * (sizeof(Corners<A>) + sizeof(int)); }

  __device__ Points(unsigned char* shared, int groups)
      : corners(reinterpret_cast<Corners<A>*>(shared)),
        cell(reinterpret_cast<int*>(corners + kFusedPoints * kTile * groups)) {}
};

// Places column ``ix`` of a group's points; x is the slow index of points.  A row holds x and y of each group's point 0,
// of each group's point 1, ... then their logits in the same order: threads of neighbouring groups read side by side.
template <class T, int V>
__device__ void place_column(
    const Dcnv3Shape32& p, const Work& work, const Place& place, const T* row, int number, int ix,
    const Points<typename Accumulate<T>::type>& points) {
  using A = typename Accumulate<T>::type;
  constexpr int pair = V > 1 ? 2 : 1;  // numbers that the row's alignment lets us read at once
  const T* logits = row + 2 * kFusedPoints * p.groups + place.group;
  A logit[kFusedPoints];
  for (int k = 0; k < kFusedPoints; ++k) logit[k] = static_cast<A>(logits[k * p.groups]);
  A most = logit[0], total = 0;
  for (int k = 1; k < kFusedPoints; ++k) most = max(most, logit[k]);
  for (int k = 0; k < kFusedPoints; ++k) total += std::exp(logit[k] - most);
  const A part = 1 / total;
  Taps<A, int> taps;
  CZ_NO_UNROLL
  for (int iy = 0; iy < 3; ++iy) {
    const int k = 3 * ix + iy, at = k * kTile * work.groups + number;
    T moved[2];
    for (int i = 0; i < 2; i += pair)
      *reinterpret_cast<Pack<T, pair>*>(moved + i) =
          *reinterpret_cast<const Pack<T, pair>*>(row + 2 * (k * p.groups + place.group) + i);
    const bool near = taps.place(p, place.y, place.x, iy, ix, static_cast<A>(moved[0]), static_cast<A>(moved[1]));
    const A share = std::exp(static_cast<A>(logits[k * p.groups]) - most) * part;
    Corners<A> corners = {};
    if (near)
      for (int c = 0; c < 4; ++c) corners.weight[c] = taps.inside[c] ? share * taps.weight[c] : 0;
    points.corners[at] = corners;
    points.cell[at] = near ? (work.image * p.h * p.w + taps.pixel[0]) * p.channels() : 0;
  }
}

template <class T, int V>
__global__ void __launch_bounds__(kMostThreads, sizeof(T) == 8 ? 3 : 4) dcnv3_fused_kernel(
    const T* input, const T* offset_mask, T* output, int row, int groups, const __grid_constant__ Dcnv3Shape32 p) {
  using A = typename Accumulate<T>::type;
  CZ_DYNAMIC_SHARED(shared);
  const Points<A> points(shared, groups);
  const Work work(p, groups);
  const int threads = static_cast<int>(blockDim.x), me = static_cast<int>(threadIdx.x);
  for (int item = me; item < 3 * kTile * groups; item += threads) {
    int number;
    const int ix = split(item, kTile * groups, number);
    const Place place(p, work, number);
    if (!place.exists) continue;
    place_column<T, V>(p, work, place, offset_mask + place.pixel(p, work) * row, number, ix, points);
  }
  __syncthreads();
  const int parts = p.width / V, channels = p.channels();
  for (int item = me; item < kTile * groups * parts; item += threads) {
    int part;
    const int number = split(item, parts, part);
    const Place place(p, work, number);
    if (!place.exists) continue;
    const int channel = place.group * p.width + part * V;
    A sum[V] = {};
    for (int k = 0; k < kFusedPoints; ++k) {
      const int at = k * kTile * groups + number;
      const Corners<A> corners = points.corners[at];
      const int cell = points.cell[at] + channel;
      Pack<T, V> from[4] = {};  // all four are on their way before the first is needed
      for (int c = 0; c < 4; ++c)
        if (corners.weight[c] != 0)
          from[c] = *reinterpret_cast<const Pack<T, V>*>(input + cell + (c / 2 * p.w + c % 2) * channels);
      for (int c = 0; c < 4; ++c)
        for (int v = 0; v < V; ++v) sum[v] += corners.weight[c] * static_cast<A>(from[c].value[v]);
    }
    Pack<T, V> result;
    for (int v = 0; v < V; ++v) result.value[v] = static_cast<T>(sum[v]);
    *reinterpret_cast<Pack<T, V>*>(output + place.pixel(p, work) * channels + channel) = result;
  }
}

// As many groups as a block has threads and memory for, and such that no block has fewer.
template <class A>
int groups_of_block(const Dcnv3Shape32& p, int parts) {
  const int room = static_cast<int>(kFreeShared / Points<A>::bytes(1));
  int groups = std::clamp(std::min(kMostThreads / (kTile * parts), room), 1, p.groups);
  while (p.groups % groups != 0) --groups;
  return groups;
}

}  // namespace

const char* dcnv3_fused_cuda(
    Kind kind, const void* input, const void* offset_mask, void* output, int row, const Dcnv3Shape32& p, void* stream) {
  if (p.pixels() * p.channels() == 0) return nullptr;
  return by_kind(kind, [&](auto t) {
    using T = decltype(t);
    using A = typename Accumulate<T>::type;
    return by_pack<T>(p.width, aligned(input) && aligned(offset_mask) && aligned(output), [&](auto pack) {
      constexpr int V = decltype(pack)::value;
      constexpr auto kernel = dcnv3_fused_kernel<T, V>;
      const int parts = p.width / V, groups = groups_of_block<A>(p, parts);
      const int threads = std::min(kMostThreads, kTile * groups * parts);
      const int tiles = (p.wo + kTileX - 1) / kTileX * ((p.ho + kTileY - 1) / kTileY);
      CZ_LAUNCH(
          kernel, dim3(static_cast<unsigned>(p.n * tiles * (p.groups / groups))), dim3(threads),
          Points<A>::bytes(groups), stream, static_cast<const T*>(input), static_cast<const T*>(offset_mask),
          static_cast<T*>(output), row, groups, p);
      return launched();
    });
  });
}

}  // namespace cascadezoo
