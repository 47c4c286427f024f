// RoIAlign on the CPU, of one pyramid level.  A bin's mean is a sum over rows of a sum over columns: each feature cell is
// read once per bin, however many points fall around it.  Channels lie side by side.
#include "../roi_align.h"
#include "../stable.h"
#include "rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cascadezoo {
namespace {

struct RoiShape {
  int64_t n, h, w, channels, bins;  // bins: along a side
  double scale;
  int64_t sampling;  // points per bin and axis; 0: as many as cells that the bin spans
  bool aligned;
};

// What torchvision's operator has no limit for, and then runs out of memory or of time
constexpr int64_t kMostPoints = 1 << 14;  // per bin and axis
constexpr int64_t kMostBins = 1 << 20;    // along a side

// a box with a coordinate that is no number pools to zeros
template <class A>
inline bool finite(const A* roi) {
  return std::isfinite(roi[1]) && std::isfinite(roi[2]) && std::isfinite(roi[3]) && std::isfinite(roi[4]);
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

  void place(const A* roi, const RoiShape& p) {
    if (!finite(roi)) {
      for (Axis<A>* axis : {&rows, &columns}) axis->none(p);
      return;
    }
    columns.place(roi[1], roi[3], p.w, p);
    rows.place(roi[2], roi[4], p.h, p);
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

inline bool within(double image, const RoiShape& p) { return image >= 0 && image < static_cast<double>(p.n); }

template <class A>
Tensor run_forward(const Tensor& feature, const Tensor& rois, const RoiShape& p) {
  const int64_t area = p.bins * p.bins;
  if (feature.numel() == 0) return torch::stable::new_zeros(feature, {rois.size(0), p.channels, p.bins, p.bins});
  Tensor pooled = torch::stable::new_empty(feature, {rois.size(0), p.channels, p.bins, p.bins});
  const A *from = feature.const_data_ptr<A>(), *boxes = rois.const_data_ptr<A>();
  A* to = pooled.mutable_data_ptr<A>();
  torch::stable::parallel_for(0, rois.size(0), 1, [&](int64_t begin, int64_t end) {
    Bins<A> bins;
    std::vector<A> row(p.channels);
    for (int64_t k = begin; k < end; ++k) {
      const A* roi = boxes + 5 * k;
      bins.place(roi, p);
      bins.each(static_cast<int64_t>(roi[0]), p, [&](int64_t bin) {
        sum_rows(bins.taps.data(), static_cast<int64_t>(bins.taps.size()), p.channels, from, row.data());
        A* out = to + k * p.channels * area + bin;
        for (int64_t c = 0; c < p.channels; ++c) out[c * area] = row[c];
      });
    }
  });
  return pooled;
}

constexpr int64_t kSlice = 32;  // channels a task: no other task writes them, so the order of sums is fixed

template <class A>
Tensor run_backward(const Tensor& grad, const Tensor& rois, const RoiShape& p) {
  const int64_t area = p.bins * p.bins, slices = (p.channels + kSlice - 1) / kSlice;
  Tensor to_feature = torch::stable::new_zeros(grad, {p.n, p.h, p.w, p.channels});
  if (to_feature.numel() == 0) return to_feature;
  const A *up = grad.const_data_ptr<A>(), *boxes = rois.const_data_ptr<A>();
  A* to = to_feature.mutable_data_ptr<A>();
  torch::stable::parallel_for(0, slices, 1, [&](int64_t begin, int64_t end) {
    Bins<A> bins;
    for (int64_t k = 0; k < rois.size(0); ++k) {
      const A* roi = boxes + 5 * k;
      bins.place(roi, p);
      bins.each(static_cast<int64_t>(roi[0]), p, [&](int64_t bin) {
        for (int64_t first = begin * kSlice; first < std::min(end * kSlice, p.channels); first += kSlice) {
          const int64_t width = std::min(kSlice, p.channels - first);
          A above[kSlice];
          for (int64_t c = 0; c < width; ++c) above[c] = up[(k * p.channels + first + c) * area + bin];
          for (const Tap<A>& tap : bins.taps) {
            A* out = to + tap.row + first;
            for (int64_t c = 0; c < width; ++c) out[c] += tap.weight * above[c];
          }
        }
      });
    }
  });
  return to_feature;
}

RoiShape checked(
    int64_t n, int64_t h, int64_t w, int64_t channels, double scale, int64_t resolution, int64_t sampling, bool aligned) {
  STD_TORCH_CHECK(
      resolution > 0 && resolution <= kMostBins, "roi_align: resolution must lie in 1..", kMostBins, ", not ", resolution);
  STD_TORCH_CHECK(
      sampling >= 0 && sampling <= kMostPoints, "roi_align: sampling_ratio must lie in 0..", kMostPoints, ", not ", sampling);
  STD_TORCH_CHECK(std::isfinite(scale), "roi_align: scale must be a finite number");
  return {n, h, w, channels, resolution, scale, sampling, aligned};
}

void check_rois(const Tensor& rois, const Tensor& like) {
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5, "roi_align: rois must be (K, 5)");
  const ScalarType type = like.scalar_type();
  STD_TORCH_CHECK(
      (type == ScalarType::Float || type == ScalarType::Double) && rois.scalar_type() == type,
      "roi_align: feature, or grad, and rois must both be float32 or float64");
  STD_TORCH_CHECK(rois.device() == like.device(), "roi_align: tensors on different devices");
}

// before the threads start: what an operator throws there loses its message
template <class A>
void check_boxes(const Tensor& rois, const RoiShape& p) {
  const A* boxes = rois.const_data_ptr<A>();
  for (int64_t k = 0; k < rois.size(0); ++k) {
    const A* roi = boxes + 5 * k;
    STD_TORCH_CHECK(within(static_cast<double>(roi[0]), p), "roi_align: a box of an image that is not there");
    if (!finite(roi)) continue;
    for (int axis : {1, 2}) {
      const Span<A> span = spanned(roi[axis], roi[axis + 2], p);
      STD_TORCH_CHECK(
          std::isfinite(span.bin) && span.points(p.sampling) <= static_cast<A>(kMostPoints), "roi_align: a box spans more than ",
          kMostPoints, " cells per bin: clip boxes to their image");
    }
  }
}

Tensor roi_align(
    const Tensor& feature, const Tensor& rois, double scale, int64_t resolution, int64_t sampling_ratio, bool aligned) {
  STD_TORCH_CHECK(feature.dim() == 4, "roi_align: feature must be (N, H, W, C)");
  check_rois(rois, feature);
  const RoiShape p = checked(
      feature.size(0), feature.size(1), feature.size(2), feature.size(3), scale, resolution, sampling_ratio, aligned);
  const Tensor from = torch::stable::contiguous(feature), boxes = torch::stable::contiguous(rois);
  if (feature.scalar_type() == ScalarType::Double)
    return check_boxes<double>(boxes, p), run_forward<double>(from, boxes, p);
  return check_boxes<float>(boxes, p), run_forward<float>(from, boxes, p);
}

Tensor roi_align_backward(
    const Tensor& grad, const Tensor& rois, double scale, int64_t sampling_ratio, bool aligned, int64_t n, int64_t h,
    int64_t w) {
  check_rois(rois, grad);
  STD_TORCH_CHECK(
      grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(2) == grad.size(3),
      "roi_align_backward: grad must be (K, C, P, P)");
  STD_TORCH_CHECK(n >= 0 && h >= 0 && w >= 0, "roi_align_backward: n, h and w must not be negative");
  const RoiShape p = checked(n, h, w, grad.size(1), scale, grad.size(2), sampling_ratio, aligned);
  const Tensor up = torch::stable::contiguous(grad), boxes = torch::stable::contiguous(rois);
  if (grad.scalar_type() == ScalarType::Double)
    return check_boxes<double>(boxes, p), run_backward<double>(up, boxes, p);
  return check_boxes<float>(boxes, p), run_backward<float>(up, boxes, p);
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&cascadezoo::roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&cascadezoo::roi_align_backward));
}
