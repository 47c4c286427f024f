// Levels that tie, so that the numbers of their anchors decide, that do not, and that have fewer anchors than rows, with
// deltas of each type; then numbers that no network makes, and more rows than a block's shared memory has room for.
#include "../../../csrc/cuda/rpn_select.h"
#include "noise.h"

#include <cmath>
#include <memory>

using namespace cascadezoo;

namespace {

constexpr int kMost = 40000;
const std::vector<float> kDeltas = noise(4 * kMost, -1, 1, 1);  // read as halves, they are some numbers too

void select(
    Kind kind, const std::vector<float>& logits, const std::vector<int>& counts, int top, bool probability, float width) {
  const RpnRule rule{probability, {1, 1, 1, 1}, -0.5f, 0.5f, 0, 2};
  RpnLevels levels{};
  levels.levels = static_cast<int>(counts.size()), levels.cell = 1;
  for (int i = 0; i < levels.levels; ++i) {
    levels.level[i] = {logits.data(), kDeltas.data(), counts[i], 6, 8, 0};
    levels.half[i][0] = 8, levels.half[i][1] = 12;
  }
  const RpnSize size{1, top};
  const float sides[] = {60, width};
  const size_t rows = counts.size() * top;
  std::vector<uint64_t> scratch(rpn_select_scratch(levels, size) / sizeof(uint64_t) + 1);
  std::vector<Box> boxes(rows);
  std::vector<float> scores(rows);
  std::vector<int64_t> of_level(rows);
  const auto valid = std::make_unique<bool[]>(rows);
  const RpnSelected selected{boxes.data(), scores.data(), of_level.data(), valid.get()};
  rpn_select_cuda(kind, levels, size, rule, sides, scratch.data(), selected, nullptr);
}

}  // namespace

int main() {
  std::vector<float> logits = noise(kMost, -3, 3, 0);
  for (int i = 0; i < 300; ++i) logits[i] = i % 3 == 0 ? 40.0f : logits[i];
  select(Kind::Float, logits, {300, 150, 6}, 50, true, 80);
  for (const Kind half : {Kind::Half, Kind::BFloat16}) select(half, logits, {300}, 50, true, 80);
  logits[1] = NAN, logits[2] = 0;
  select(Kind::Float, logits, {300}, 300, false, NAN);
  select(Kind::Float, logits, {kMost}, kMost, true, 80);
}
