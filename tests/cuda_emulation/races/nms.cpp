// Suppression of two groups, with ranks and boxes in shared memory, then in the scratch memory; then by classes.  Scores
// tie, and a group has more candidates than two warps settle and one thread each kills.
#include "../../../csrc/cuda/nms.h"
#include "noise.h"

int main() {
  constexpr int count = 300, room = 40000, rows = 150, classes = 2, keep = 100;
  std::vector<float> boxes = noise(4 * room, 0, 60, 0), scores = noise(room, 0, 1, 1);
  std::vector<int64_t> groups(room), index(keep), kept(1);
  static bool valid[room];
  for (int i = 0; i < count; ++i) {
    boxes[4 * i + 2] = boxes[4 * i] + 30, boxes[4 * i + 3] = boxes[4 * i + 1] + 30;
    scores[i] = scores[i] < 0.5f ? 0.25f : scores[i];
    groups[i] = i % 2, valid[i] = i % 7 != 0;
  }
  for (const int candidates : {count, room}) {
    const cascadezoo::NmsRule rule{0.5, 0, candidates == count, keep};
    const cascadezoo::NmsSize size{1, candidates, 2, candidates};
    std::vector<uint64_t> scratch(cascadezoo::nms_scratch(size, rule) / sizeof(uint64_t) + 1);
    cascadezoo::grouped_nms_cuda(
        {boxes.data(), scores.data(), groups.data(), valid, candidates}, size, rule, scratch.data(), index.data(),
        kept.data(), nullptr);
  }
  const cascadezoo::NmsRule rule{0.5, 0, true, keep};
  const cascadezoo::NmsSize size{1, count, classes, rows};
  std::vector<uint64_t> scratch(cascadezoo::nms_scratch(size, rule) / sizeof(uint64_t) + 1);
  cascadezoo::class_nms_cuda(
      {boxes.data(), scores.data(), valid, count, rows, classes, classes, count, classes, 0.3f}, size, rule,
      scratch.data(), index.data(), kept.data(), nullptr);
}
