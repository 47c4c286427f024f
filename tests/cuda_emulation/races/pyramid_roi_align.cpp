// RoIAlign over two levels, forward and backward: bins of one box add to the same cells.
#include "../../../csrc/cuda/pyramid_roi_align.h"
#include "noise.h"

int main() {
  cascadezoo::Pyramid p{};
  p.levels = 2, p.channels = 8, p.boxes = 3, p.bins = 7, p.sampling = 0, p.aligned = true;
  std::vector<float> fine = noise(2 * 12 * 10 * 8, -1, 1, 0), coarse = noise(2 * 6 * 5 * 8, -1, 1, 1);
  p.level[0] = {fine.data(), 12, 10, 0.25}, p.level[1] = {coarse.data(), 6, 5, 0.125};
  const std::vector<float> boxes = {1, 2, 30, 40, -9, -9, 60, 50, 5, 5, 5, 5,
                                    0, 0, 40, 48, 9,  1,  2,  30, 20, 20, 26, 23};
  const std::vector<int64_t> level = {0, 1, 0, 1, -1, 0};
  std::vector<float> pooled(6 * 7 * 7 * 8);
  cascadezoo::pyramid_roi_align_cuda_forward(
      cascadezoo::Kind::Float, p, 6, boxes.data(), level.data(), pooled.data(), nullptr);
  cascadezoo::pyramid_roi_align_cuda_backward(
      cascadezoo::Kind::Float, p, 6, boxes.data(), level.data(), pooled.data(), nullptr);
}
