// Suppression with ranks and boxes in shared memory, then boxes, ranks and the merged ranks in the scratch memory; then
// by classes.  Scores tie, and a group has more candidates than two warps settle and one thread each kills; some groups
// have more than are told, and some keep all that they may before they are through.
#include "../../../csrc/cuda/nms.h"
#include "noise.h"

#include <scheduler.h>

#include <cmath>
#include <memory>

using namespace cascadezoo;

namespace {

constexpr int kCount = 300;  // candidates there are; there may be room for more
constexpr int kRoom = 40000;

struct Made {
  std::vector<float> boxes = noise(4 * kRoom, 0, 60, 0), scores = noise(kRoom, 0, 1, 1);
  std::vector<int64_t> groups = std::vector<int64_t>(kRoom);
  std::unique_ptr<bool[]> valid = std::make_unique<bool[]>(kRoom);

  Made() {
    for (int i = 0; i < kCount; ++i) {
      boxes[4 * i + 2] = boxes[4 * i] + 30, boxes[4 * i + 3] = boxes[4 * i + 1] + 30;
      scores[i] = scores[i] < 0.5f ? 0.25f : scores[i];
      groups[i] = i % 2, valid[i] = i % 7 != 0;
    }
  }
};

template <class Candidates, class Nms>
void suppress(const Candidates& candidates, const NmsSize& size, bool rounded_shift, int keep, const Nms& nms) {
  const NmsRule rule{0.5, 0, rounded_shift, keep};
  std::vector<uint64_t> scratch(nms_scratch(size, rule) / sizeof(uint64_t) + 1);
  std::vector<int64_t> index(keep), kept(1);
  nms(candidates, size, rule, scratch.data(), index.data(), kept.data(), nullptr);
}

void by_groups(const Made& made, int room, int most, bool rounded_shift, int keep) {
  const GroupedCandidates candidates{
      made.boxes.data(), made.scores.data(), made.groups.data(), made.valid.get(), room};
  suppress(candidates, {1, room, 2, most}, rounded_shift, keep, grouped_nms_cuda);
}

void by_classes(const Made& made, bool own_boxes) {
  constexpr int rows = 150, classes = 2;
  const ClassCandidates candidates{
      made.boxes.data(), made.scores.data(), made.valid.get(), rows * classes, rows, classes,
      own_boxes ? classes : 1, rows * classes, classes, 0.3f};
  suppress(candidates, {1, rows * classes, classes, rows}, true, 100, class_nms_cuda);
}

}  // namespace

int main() {
  Made made;
  cuda_emulated_error = 1;  // of the first launch: there is no second one
  by_groups(made, kCount, kCount, true, 100);
  by_groups(made, kCount, kCount, true, 100);
  by_groups(made, kCount, 100, true, 3);         // more in a group than 100, and more than 3 to keep
  by_groups(made, 3000, 3000, true, 100);        // more shared memory than a block has without asking
  by_groups(made, 6000, 6000, false, 100);       // boxes in the scratch memory
  by_groups(made, kRoom, kRoom, false, kRoom);   // all of it
  made.boxes[9] = INFINITY, made.scores[1] = NAN;
  for (const bool own_boxes : {false, true}) by_classes(made, own_boxes);
  made.boxes[9] = 0, made.scores[2] = 0, made.scores[3] = -1;
  for (float& side : made.boxes) side -= 1000;
  by_groups(made, kCount, kCount, true, 100);
}
