// Of three levels of an image: one that ties, so that the numbers of its anchors decide, one that does not, and one of fewer
// anchors than rows; then more rows than a block's shared memory has room for.
#include "../../../csrc/cuda/rpn_select.h"
#include "noise.h"

#include <memory>

int main() {
  constexpr int counts[] = {300, 150, 6}, most = 40000;
  std::vector<float> logits = noise(most, -3, 3, 0), deltas = noise(4 * most, -1, 1, 1), sizes = {60, 80};
  for (int i = 0; i < 300; ++i) logits[i] = i % 3 == 0 ? 40.0f : logits[i];
  const cascadezoo::RpnRule rule{true, {1, 1, 1, 1}, -4, 4, 0, 2};
  for (const bool large : {false, true}) {
    cascadezoo::RpnLevels levels{};
    levels.levels = large ? 1 : 3, levels.cell = 1;
    for (int i = 0; i < levels.levels; ++i) {
      levels.level[i] = {
          logits.data(), reinterpret_cast<const cascadezoo::Box*>(deltas.data()), large ? most : counts[i], 6, 8, 0};
      levels.half[i][0] = 8, levels.half[i][1] = 12;
    }
    const cascadezoo::RpnSize size{1, large ? most : 50};
    const size_t rows = static_cast<size_t>(levels.levels) * size.top;
    std::vector<uint64_t> scratch(cascadezoo::rpn_select_scratch(levels, size) / sizeof(uint64_t) + 1);
    std::vector<cascadezoo::Box> boxes(rows);
    std::vector<float> scores(rows);
    std::vector<int64_t> of_level(rows);
    const auto valid = std::make_unique<bool[]>(rows);
    cascadezoo::rpn_select_cuda(
        levels, size, rule, sizes.data(), scratch.data(), {boxes.data(), scores.data(), of_level.data(), valid.get()},
        nullptr);
  }
}
