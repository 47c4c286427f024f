// RoIAlign on the CPU, over all levels of a pyramid.  A bin's mean is a sum over rows of a sum over columns: each feature cell is
// read once per bin, however many points fall around it.  Channels lie side by side.
#include "../roi_align.h"
#include "../stable.h"
#include "rows.h"
#include "rows_bf16.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace cascadezoo {
namespace {

using torch::headeronly::MemoryFormat;

// of one level
struct RoiShape {
  int64_t n, h, w, channels, bins;  // bins: along a side
  double scale;
  int64_t sampling;  // points per bin and axis; 0: as many as cells that the bin spans
  bool aligned;
};

// Boxes (n * boxes, 4), and where each is pooled: a level that is not there pools to zeros
template <class A>
struct Pyramid {
  std::vector<RoiShape> level;
  std::vector<Tensor> maps;  // (n, h, w, channels) of a level
  Tensor boxes, levels;
  int64_t channels, bins;

  int64_t rois() const { return boxes.size(0) * boxes.size(1); }
  int64_t image(int64_t roi) const { return roi / boxes.size(1); }
  const A* box(int64_t roi) const { return boxes.const_data_ptr<A>() + 4 * roi; }
  // of the levels' places, or -1
  int64_t level_of(int64_t roi) const {
    const int64_t found = levels.const_data_ptr<int64_t>()[roi];
    return found >= 0 && found < static_cast<int64_t>(level.size()) ? found : -1;
  }
};

// What torchvision's operator has no limit for, and then runs out of memory or of time
constexpr int64_t kMostPoints = 1 << 14;  // per bin and axis
constexpr int64_t kMostBins = 1 << 20;    // along a side

// a box with a coordinate that is no number pools to zeros
template <class A>
inline bool finite(const A* box) {
  return std::isfinite(box[0]) && std::isfinite(box[1]) && std::isfinite(box[2]) && std::isfinite(box[3]);
}

template <class A>
inline Span<A> spanned(A begin, A end, const RoiShape& p) {
  return Span<A>(begin, end, static_cast<A>(p.scale), p.aligned, p.bins);
}

// Along one axis: the cells of each bin, first[b] .. first[b] + count[b], and their weights
template <class A>
struct Axis {
  std::vector<int64_t> first, count;
  std::vector<A> weights;

  void none(const RoiShape& p) { first.assign(p.bins, 0), count.assign(p.bins, 0), weights.clear(); }

  void place(A begin, A end, int64_t size, const RoiShape& p) {
    none(p);
    const Span<A> span = spanned(begin, end, p);
    const A points = std::max(span.points(p.sampling), A(0));
    Between<A> cells;
    for (int64_t b = 0; b < p.bins; ++b) {
      int64_t last = -1;
      first[b] = size;
      for (int pass : {0, 1}) {  // which cells, then how much each counts; a box turned over goes backwards
        if (pass) count[b] = std::max<int64_t>(0, last - first[b] + 1), weights.resize(weights.size() + count[b], A(0));
        A* weight = weights.data() + weights.size() - count[b];
        for (int64_t i = 0; i < static_cast<int64_t>(points); ++i) {
          if (!cells.place(span.position(b, static_cast<A>(i), points), size)) continue;
          if (pass) {
            weight[cells.low - first[b]] += (1 - cells.rest) / points;
            weight[cells.high - first[b]] += cells.rest / points;
          } else {
            first[b] = std::min(first[b], cells.low), last = std::max(last, cells.high);
          }
        }
      }
    }
  }
};

// The cells of one box, bin by bin
template <class A>
struct Bins {
  Axis<A> rows, columns;
  std::vector<Tap<A>> taps;

  void place(const A* box, const RoiShape& p) {
    if (!finite(box)) {
      for (Axis<A>* axis : {&rows, &columns}) axis->none(p);
      return;
    }
    columns.place(box[0], box[2], p.w, p);
    rows.place(box[1], box[3], p.h, p);
  }

  // f(bin) for each bin, with its taps filled in
  template <class F>
  void each(int64_t image, const RoiShape& p, const F& f) {
    const A* wy = rows.weights.data();
    for (int64_t by = 0; by < p.bins; wy += rows.count[by], ++by) {
      const A* wx = columns.weights.data();
      for (int64_t bx = 0; bx < p.bins; wx += columns.count[bx], ++bx) {
        taps.clear();
        for (int64_t y = 0; y < rows.count[by]; ++y)
          for (int64_t x = 0; x < columns.count[bx]; ++x) {
            const int64_t cell = (image * p.h + rows.first[by] + y) * p.w + columns.first[bx] + x;
            taps.push_back({cell * p.channels, wy[y] * wx[x]});
          }
        f(by * p.bins + bx);
      }
    }
  }
};

// T: what maps and results hold, A or bfloat16
template <class T, class A>
Tensor run_forward(const Pyramid<A>& p, const Tensor& like) {
  const int64_t area = p.bins * p.bins;
  Tensor pooled = torch::stable::new_empty(like, {p.rois(), p.bins, p.bins, p.channels});
  T* to = static_cast<T*>(pooled.mutable_data_ptr());
  torch::stable::parallel_for(0, p.rois(), 1, [&](int64_t begin, int64_t end) {
    Bins<A> bins;
    for (int64_t k = begin; k < end; ++k) {
      T* out = to + k * area * p.channels;
      const int64_t level = p.level_of(k);
      if (level < 0 || p.maps[level].numel() == 0) {
        std::fill_n(out, area * p.channels, T(0));
        continue;
      }
      const T* from = static_cast<const T*>(p.maps[level].const_data_ptr());
      bins.place(p.box(k), p.level[level]);
      bins.each(p.image(k), p.level[level], [&](int64_t bin) {
        sum_rows(
            bins.taps.data(), static_cast<int64_t>(bins.taps.size()), p.channels, from, out + bin * p.channels);
      });
    }
  });
  return pooled;
}

constexpr int64_t kSlice = 32;  // channels a task: no other task writes them, so the order of sums is fixed

// ``grad`` (rois, bins, bins, channels) added to the maps
template <class A>
void run_backward(Pyramid<A>& p, const Tensor& grad) {
  const int64_t area = p.bins * p.bins, slices = (p.channels + kSlice - 1) / kSlice;
  const A* up = grad.const_data_ptr<A>();
  std::vector<A*> to;
  for (Tensor& map : p.maps) to.push_back(map.template mutable_data_ptr<A>());
  torch::stable::parallel_for(0, slices, 1, [&](int64_t begin, int64_t end) {
    Bins<A> bins;
    for (int64_t k = 0; k < p.rois(); ++k) {
      const int64_t level = p.level_of(k);
      if (level < 0 || p.maps[level].numel() == 0) continue;
      bins.place(p.box(k), p.level[level]);
      bins.each(p.image(k), p.level[level], [&](int64_t bin) {
        for (int64_t first = begin * kSlice; first < std::min(end * kSlice, p.channels); first += kSlice) {
          const int64_t width = std::min(kSlice, p.channels - first);
          const A* above = up + (k * area + bin) * p.channels + first;
          for (const Tap<A>& tap : bins.taps) {
            A* out = to[level] + tap.row + first;
            for (int64_t c = 0; c < width; ++c) out[c] += tap.weight * above[c];
          }
        }
      });
    }
  });
}

// before the threads start: what an operator throws there loses its message
template <class A>
void check_boxes(const Pyramid<A>& p) {
  for (int64_t k = 0; k < p.rois(); ++k) {
    const int64_t level = p.level_of(k);
    const A* box = p.box(k);
    if (level < 0 || !finite(box)) continue;
    for (int axis : {0, 1}) {
      const RoiShape& shape = p.level[level];
      const Span<A> span = spanned(box[axis], box[axis + 2], shape);
      STD_TORCH_CHECK(
          std::isfinite(span.bin) && span.points(shape.sampling) <= static_cast<A>(kMostPoints),
          "pyramid_roi_align: a box spans more than ", kMostPoints, " cells per bin: clip boxes to their image");
    }
  }
}

// (n, channels, h, w) as (n, h, w, channels), in memory too
Tensor channels_last(const Tensor& tensor) {
  return seen_channels_last(torch::stable::contiguous(tensor, MemoryFormat::ChannelsLast));
}

// All but the maps.  ``like`` is of the type of the features, or grad; sizes are (N, C, H, W) of each level.
template <class A>
Pyramid<A> pyramid(
    const Tensor& like, const std::vector<std::array<int64_t, 4>>& sizes, const Tensor& boxes, const Tensor& levels,
    const std::vector<double>& scales, int64_t resolution, int64_t sampling, bool aligned) {
  STD_TORCH_CHECK(boxes.dim() == 3 && boxes.size(2) == 4, "pyramid_roi_align: boxes must be (N, R, 4)");
  STD_TORCH_CHECK(
      has_shape(levels, {boxes.size(0), boxes.size(1)}) && levels.scalar_type() == ScalarType::Long,
      "pyramid_roi_align: levels must be (N, R), of int64");
  STD_TORCH_CHECK(
      boxes.scalar_type() == ScalarType::Float || boxes.scalar_type() == accumulating(like.scalar_type()),
      "pyramid_roi_align: boxes must be of float32, or of the features' type where that is float64");
  STD_TORCH_CHECK(
      boxes.device() == like.device() && levels.device() == like.device(),
      "pyramid_roi_align: tensors on different devices");
  STD_TORCH_CHECK(
      resolution > 0 && resolution <= kMostBins, "pyramid_roi_align: resolution must lie in 1..", kMostBins, ", not ",
      resolution);
  STD_TORCH_CHECK(
      sampling >= 0 && sampling <= kMostPoints, "pyramid_roi_align: sampling_ratio must lie in 0..", kMostPoints,
      ", not ", sampling);
  STD_TORCH_CHECK(
      !sizes.empty() && scales.size() == sizes.size(), "pyramid_roi_align: one level or more, and a scale for each");
  Pyramid<A> p;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto& [n, channels, h, w] = sizes[i];
    STD_TORCH_CHECK(
        n == boxes.size(0) && channels == sizes[0][1] && std::min({n, channels, h, w}) >= 0,
        "pyramid_roi_align: levels of different images or channels, or of negative sides");
    STD_TORCH_CHECK(std::isfinite(scales[i]), "pyramid_roi_align: scale must be a finite number");
    p.level.push_back({n, h, w, channels, resolution, scales[i], sampling, aligned});
  }
  p.boxes = torch::stable::contiguous(cast(boxes, accumulating(like.scalar_type())));
  p.levels = torch::stable::contiguous(levels);
  p.channels = sizes[0][1], p.bins = resolution;
  check_boxes(p);
  return p;
}

// f with a number of the accumulating type
template <class F>
auto by_type(const Tensor& like, const F& f) {
  const ScalarType type = like.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || is_half(type),
      "pyramid_roi_align: features, or grad, must be floating point");
  return type == ScalarType::Double ? f(double()) : f(float());
}

Tensor pyramid_roi_align(
    const std::vector<Tensor>& features, const Tensor& boxes, const Tensor& levels, const std::vector<double>& scales,
    int64_t resolution, int64_t sampling_ratio, bool aligned) {
  STD_TORCH_CHECK(!features.empty(), "pyramid_roi_align: no levels");
  std::vector<std::array<int64_t, 4>> sizes;
  for (const Tensor& map : features) {
    STD_TORCH_CHECK(map.dim() == 4, "pyramid_roi_align: features must be (N, C, H, W)");
    STD_TORCH_CHECK(
        map.scalar_type() == features[0].scalar_type() && map.device() == features[0].device(),
        "pyramid_roi_align: features of different types or devices");
    sizes.push_back({map.size(0), map.size(1), map.size(2), map.size(3)});
  }
  return by_type(features[0], [&](auto number) {
    auto p = pyramid<decltype(number)>(
        features[0], sizes, boxes, levels, scales, resolution, sampling_ratio, aligned);
    const ScalarType type = features[0].scalar_type();
    if constexpr (std::is_same_v<decltype(number), float>)
      if (type == ScalarType::BFloat16) {
        for (const Tensor& map : features) p.maps.push_back(channels_last(map));
        return seen_channels_first(run_forward<Bits>(p, p.maps[0]));
      }
    for (const Tensor& map : features) p.maps.push_back(channels_last(cast(map, accumulating(type))));
    return seen_channels_first(cast(run_forward<decltype(number)>(p, p.maps[0]), type));
  });
}

std::vector<Tensor> pyramid_roi_align_backward(
    const Tensor& grad, const Tensor& boxes, const Tensor& levels, const std::vector<double>& scales,
    int64_t sampling_ratio, bool aligned, const std::vector<int64_t>& heights, const std::vector<int64_t>& widths) {
  STD_TORCH_CHECK(
      grad.dim() == 4 && boxes.dim() == 3 && grad.size(0) == boxes.size(0) * boxes.size(1) &&
          grad.size(2) == grad.size(3),
      "pyramid_roi_align_backward: grad must be (N * R, C, P, P)");
  STD_TORCH_CHECK(heights.size() == widths.size(), "pyramid_roi_align_backward: as many heights as widths");
  std::vector<std::array<int64_t, 4>> sizes;
  for (size_t i = 0; i < heights.size(); ++i)
    sizes.push_back({boxes.size(0), grad.size(1), heights[i], widths[i]});
  return by_type(grad, [&](auto number) {
    auto p = pyramid<decltype(number)>(
        grad, sizes, boxes, levels, scales, grad.size(2), sampling_ratio, aligned);
    const Tensor up = channels_last(cast(grad, accumulating(grad.scalar_type())));
    for (const auto& [n, channels, h, w] : sizes) p.maps.push_back(torch::stable::new_zeros(up, {n, h, w, channels}));
    run_backward(p, up);
    std::vector<Tensor> grads;
    for (const Tensor& map : p.maps) grads.push_back(seen_channels_first(cast(map, grad.scalar_type())));
    return grads;
  });
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("pyramid_roi_align", TORCH_BOX(&cascadezoo::pyramid_roi_align));
  m.impl("pyramid_roi_align_backward", TORCH_BOX(&cascadezoo::pyramid_roi_align_backward));
}
