// What nms.cu offers to its binding.
#pragma once

#include <cstddef>

#include "../nms.h"

namespace cascadezoo {

struct NmsRule {
  double threshold;  // a higher overlap suppresses
  int extent;
  bool rounded_shift;
  int keep;  // of an image, of all groups together
};

// What is suppressed.  Both kinds: (images, count) candidates, of image ``n`` with ``at(n)``, each of a group.
struct GroupedCandidates {
  const float* boxes;      // (images, count, 4)
  const float* scores;     // (images, count)
  const int64_t* groups;   // (images, count)
  const bool* valid;       // (images, count)
  int count;

  CZ_HD GroupedCandidates at(int64_t image) const {
    const int64_t before = image * count;
    return {boxes + 4 * before, scores + before, groups + before, valid + before, count};
  }
  CZ_HD bool is_valid(int i) const { return valid[i]; }
  CZ_HD int64_t group(int i) const { return groups[i]; }
  CZ_HD float score(int i) const { return scores[i]; }
  CZ_HD const float* box(int i) const { return boxes + 4 * static_cast<int64_t>(i); }
};

// every class of every row is a candidate, where its score is high enough; the classes are the groups
struct ClassCandidates {
  const float* boxes;   // (images, rows, boxes_a_row, 4), boxes_a_row being 1 or the number of classes
  const float* scores;  // (images, rows, classes), rows ``row_stride`` numbers apart and images ``image_stride``
  const bool* valid;    // (images, rows)
  int count;            // rows * classes
  int rows, classes, boxes_a_row;
  int64_t image_stride, row_stride;
  float least;  // scores must be above

  CZ_HD ClassCandidates at(int64_t image) const {
    ClassCandidates of = *this;
    of.boxes += image * rows * boxes_a_row * 4;
    of.scores += image * image_stride;
    of.valid += image * rows;
    return of;
  }
  CZ_HD bool is_valid(int i) const { return score(i) > least && valid[i / classes]; }
  CZ_HD int64_t group(int i) const { return i % classes; }
  CZ_HD float score(int i) const { return scores[i / classes * row_stride + i % classes]; }
  CZ_HD const float* box(int i) const {
    return boxes + 4 * (static_cast<int64_t>(i / classes) * boxes_a_row + (boxes_a_row == 1 ? 0 : i % classes));
  }
};

// How many candidates there are, at most
struct NmsSize {
  int images, count;  // candidates of an image
  int groups;         // they lie in 0 .. groups - 1: others are never looked at
  int most;           // valid candidates of one group of one image: of a larger group some are lost
};

// bytes that a call needs for itself
size_t nms_scratch(const NmsSize& size, const NmsRule& rule);

// ``index`` (images, keep): the candidates kept, best first, then zeros; ``kept`` (images): how many.  They return what
// went wrong, or nullptr.
const char* grouped_nms_cuda(
    const GroupedCandidates& candidates, const NmsSize& size, const NmsRule& rule, void* scratch, int64_t* index,
    int64_t* kept, void* stream);
const char* class_nms_cuda(
    const ClassCandidates& candidates, const NmsSize& size, const NmsRule& rule, void* scratch, int64_t* index,
    int64_t* kept, void* stream);

}  // namespace cascadezoo
