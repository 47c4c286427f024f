// RoIAlign over levels, forward and backward, in every type that a network may have: bins of one box add to the same
// cells.  Boxes lie across the edges of their maps, far off, in one point, at infinity and nowhere; one bin has more cells
// along a side than a warp has lanes.
#include "../../../csrc/cuda/pyramid_roi_align.h"
#include "noise.h"

#include <cmath>

using namespace cascadezoo;

namespace {

struct Rule {
  int channels, bins, sampling;
  bool aligned;
};

// ``to``: where the result begins, in numbers of four bytes
template <class A>
void pool(Kind kind, const std::vector<A>& boxes, const std::vector<int64_t>& level, const Rule& rule, int to = 0) {
  Pyramid p{};
  p.levels = 3, p.channels = rule.channels, p.boxes = static_cast<int>(level.size());
  p.bins = rule.bins, p.sampling = rule.sampling, p.aligned = rule.aligned;
  // room for doubles; what is read as halves are some numbers too
  std::vector<float> fine = noise(2 * 48 * 40 * rule.channels, -1, 1, 0);
  std::vector<float> coarse = noise(2 * 6 * 5 * rule.channels, -1, 1, 1);
  p.level[0] = {fine.data(), 48, 40, 1}, p.level[1] = {coarse.data(), 6, 5, 0.125}, p.level[2] = {fine.data(), 0, 0, 4};
  const auto rois = static_cast<int64_t>(level.size());
  std::vector<float> pooled(2 * rois * rule.bins * rule.bins * rule.channels + to);
  if (pyramid_roi_align_shared(kind, p) > 48 << 10) std::abort();
  pyramid_roi_align_cuda_forward(kind, p, rois, boxes.data(), level.data(), pooled.data() + to, nullptr);
  pyramid_roi_align_cuda_backward(kind, p, rois, boxes.data(), level.data(), pooled.data() + to, nullptr);
}

}  // namespace

int main() {
  pool<float>(
      Kind::Float, {1, 2, 30, 40, -9, -9, 60, 50, 5, 5, 5, 5, 20, 3, 0, 9, 0, 0, 40, 48}, {0, 1, 0, -1, 3},
      {8, 7, 0, true});
  pool<float>(
      Kind::Float, {NAN, 1, 2, 3, 0, NAN, 2, 3, 0, 1, INFINITY, 3, 0, 1, 2, INFINITY, 5, 5, 5, 5}, {0, 0, 0, 0, 0},
      {8, 3, 2, true});
  pool<float>(Kind::Float, {2e38f, 0, 3e38f, 2, 0, 0, 2e38f, 2, 1, 2, 30, 40}, {2, 2, 2}, {8, 3, 2, false});
  pool<float>(
      Kind::Float, {0, 0, 40, 48, -900, 1, -800, 9, 39.5f, 47.5f, 40.5f, 48.5f, 5, 5, 5, 5}, {0, 0, 0, 0}, {8, 1, 0, false}, 1);
  for (const int channels : {8, 3}) {
    for (const Kind kind : {Kind::Float, Kind::Half, Kind::BFloat16})
      pool<float>(kind, {0, 0, 20, 20}, {0}, {channels, 3, 0, true});
    pool<double>(Kind::Double, {0, 0, 20, 20}, {0}, {channels, 3, 0, true});
  }
  pool<float>(Kind(-1), {0, 0, 20, 20}, {0}, {8, 3, 0, true});  // refused
}
