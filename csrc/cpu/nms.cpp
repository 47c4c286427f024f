// Greedy suppression by groups on the CPU.  The candidates are sorted by group, and by rank within it; a group is gone
// through from its best on, each candidate compared with those kept before it, a block of them at a time, until one
// suppresses it.  No group is followed beyond what its image may keep.
#include "../nms.h"
#include "../nms_arguments.h"
#include "../stable.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

namespace cascadezoo {
namespace {

struct Rule {
  double threshold;  // a higher overlap suppresses
  int extent;
  bool rounded_shift;
  int64_t group_count, group_size;  // the groups lie below, and none of an image has more candidates
  int64_t keep;                     // of an image, of all groups together
};

// What is suppressed, of one image.  Both kinds: ``count`` candidates, each of a group.
template <class B, class S>
struct GroupedCandidates {
  const B* boxes;
  const S* scores;
  const int64_t* groups;
  const bool* valid;
  int64_t count;

  GroupedCandidates at(int64_t image) const {
    const int64_t before = image * count;
    return {boxes + 4 * before, scores + before, groups + before, valid + before, count};
  }
  const B* box(int64_t i) const { return boxes + 4 * i; }

  // f(candidate, group, score) of those that are valid
  template <class F>
  void each(const F& f) const {
    for (int64_t i = 0; i < count; ++i)
      if (valid[i]) f(i, groups[i], scores[i]);
  }
};

// every class of every row is a candidate, where its score is high enough; the classes are the groups
template <class B, class S>
struct ClassCandidates {
  const B* boxes;   // (images, rows, boxes_a_row, 4), boxes_a_row being 1 or the number of classes
  const S* scores;  // (images, rows, classes), rows ``row_stride`` numbers apart and images ``image_stride``
  const bool* valid;
  int64_t rows, classes, boxes_a_row, image_stride, row_stride;
  S least;  // scores must be above

  ClassCandidates at(int64_t image) const {
    ClassCandidates of = *this;
    of.boxes += image * rows * boxes_a_row * 4, of.scores += image * image_stride, of.valid += image * rows;
    return of;
  }
  const B* box(int64_t i) const { return boxes + 4 * (boxes_a_row == 1 ? i / classes : i); }

  template <class F>
  void each(const F& f) const {
    for (int64_t row = 0; row < rows; ++row) {
      const S* score = scores + row * row_stride;
      for (int64_t c = 0; valid[row] && c < classes; ++c)
        if (score[c] > least) f(row * classes + c, c, score[c]);
    }
  }
};

// Ascending, the best score comes first, NaN above all, and of equal ones the first candidate: as where torch sorts
struct Ranked {
  int64_t group;
  uint64_t falling;
  int64_t candidate;

  template <class T>
  Ranked(int64_t group, T score, int64_t candidate)
      : group(group), falling(score != score ? 0 : ~uint64_t(ordered(score == 0 ? T(0) : score))), candidate(candidate) {}

  static bool in_group(const Ranked& a, const Ranked& b) {
    return std::tie(a.group, a.falling, a.candidate) < std::tie(b.group, b.falling, b.candidate);
  }
  static bool in_image(const Ranked& a, const Ranked& b) {
    return std::tie(a.falling, a.candidate) < std::tie(b.falling, b.candidate);
  }
};

// The kept boxes of a group, in blocks whose loops compilers vectorise
template <class T>
class Kept {
 public:
  int64_t count = 0;

  void add(const Shifted<T>& box) {
    const int64_t lane = count++ % kLanes;
    if (lane == 0) blocks_.emplace_back();
    Block& last = blocks_.back();
    last.x1[lane] = box.x1, last.y1[lane] = box.y1, last.x2[lane] = box.x2, last.y2[lane] = box.y2;
    last.area[lane] = box.area;
  }

  // whether one of them overlaps a box by more than ``most``
  bool suppresses(const Shifted<T>& box, T most) const {
    T shared[kLanes];
    for (const Block& block : blocks_) {
      for (int i = 0; i < kLanes; ++i) shared[i] = shared_area(block.at(i), box);
      int sharing = 0;
      for (int i = 0; i < kLanes; ++i) sharing |= shared[i] > 0;
      if (!sharing && most >= 0) continue;  // most blocks end here, without a division
      for (int i = 0; i < kLanes; ++i)
        if ((shared[i] > 0 || most < 0) && overlap(block.at(i), box, shared[i]) > most) return true;
    }
    return false;
  }

 private:
  static constexpr int kLanes = 16;

  struct Block {
    T x1[kLanes] = {}, y1[kLanes] = {}, x2[kLanes] = {}, y2[kLanes] = {};
    T area[kLanes];

    // nobody is suppressed by an area of NaN
    Block() { std::fill_n(area, kLanes, std::numeric_limits<T>::quiet_NaN()); }

    Shifted<T> at(int i) const {
      Shifted<T> box;
      box.x1 = x1[i], box.y1 = y1[i], box.x2 = x2[i], box.y2 = y2[i], box.area = area[i];
      return box;
    }
  };

  std::vector<Block> blocks_;
};

// the largest T that is not above: what exceeds it exceeds the threshold too
template <class T>
T rounded_down(double threshold) {
  const T near = static_cast<T>(threshold);
  return near > threshold ? std::nextafter(near, -std::numeric_limits<T>::infinity()) : near;
}

// The candidates of one image, by group, and where they are moved
template <class T>
struct Image {
  std::vector<Ranked> ranked;
  T largest = -std::numeric_limits<T>::infinity();  // coordinate of all groups

  template <class Candidates>
  void gather(const Candidates& candidates, const Rule& rule) {
    candidates.each([&](int64_t i, int64_t group, auto score) {
      ranked.emplace_back(group, static_cast<T>(score), i);
      const auto* box = candidates.box(i);
      for (int side = 0; side < 4; ++side) {
        const T at = std::isfinite(box[side]) ? T(box[side]) : T(0);
        largest = larger(largest, at);
      }
    });
    std::sort(ranked.begin(), ranked.end(), Ranked::in_group);
    STD_TORCH_CHECK(
        ranked.empty() || ranked.back().group < rule.group_count, "nms: a candidate of group ", ranked.back().group,
        ", where there are ", rule.group_count, " groups");
  }
};

// one group of an image: places in its ``ranked``
struct Group {
  int64_t image, begin, end;
  std::vector<Ranked> kept;
};

template <class T>
std::vector<Group> groups_of(const std::vector<Image<T>>& images, const Rule& rule) {
  std::vector<Group> groups;
  for (size_t n = 0; n < images.size(); ++n) {
    const auto& ranked = images[n].ranked;
    for (int64_t begin = 0, end = 0, all = ranked.size(); begin < all; begin = end) {
      while (end < all && ranked[end].group == ranked[begin].group) ++end;
      STD_TORCH_CHECK(
          end - begin <= rule.group_size, "nms: a group of more than ", rule.group_size,
          " candidates, which was to be the largest");
      groups.push_back({static_cast<int64_t>(n), begin, end, {}});
    }
  }
  return groups;
}

template <class T, class Candidates>
void suppress(const Candidates& candidates, const Image<T>& image, const Rule& rule, Group& group) {
  const T shift = group_shift<T>(image.ranked[group.begin].group, image.largest, rule.extent);
  const T most = rounded_down<T>(rule.threshold);
  Kept<T> kept;
  for (int64_t i = group.begin; i < group.end && kept.count < rule.keep; ++i) {
    const Ranked& ranked = image.ranked[i];
    const Shifted<T> box(candidates.box(ranked.candidate), shift, rule.extent);
    if (kept.suppresses(box, most)) continue;
    kept.add(box);
    group.kept.push_back(ranked);
  }
}

template <class T, class Candidates>
std::tuple<Tensor, Tensor> run(const Tensor& like, const Candidates& candidates, const Rule& rule) {
  Tensor index = torch::stable::new_zeros(like, {like.size(0), rule.keep}, ScalarType::Long);
  Tensor count = torch::stable::new_zeros(like, {like.size(0)}, ScalarType::Long);
  std::vector<Image<T>> images(like.size(0));
  for (size_t n = 0; n < images.size(); ++n) images[n].gather(candidates.at(n), rule);
  std::vector<Group> groups = groups_of(images, rule);
  torch::stable::parallel_for(0, groups.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t image = groups[g].image;
      suppress(candidates.at(image), images[image], rule, groups[g]);
    }
  });
  auto group = groups.begin();
  for (size_t n = 0; n < images.size(); ++n) {
    std::vector<Ranked>& kept = images[n].ranked;
    kept.clear();
    for (; group != groups.end() && group->image == static_cast<int64_t>(n); ++group)
      kept.insert(kept.end(), group->kept.begin(), group->kept.end());
    std::sort(kept.begin(), kept.end(), Ranked::in_image);
    const int64_t found = std::min<int64_t>(kept.size(), rule.keep);
    for (int64_t i = 0; i < found; ++i) index.mutable_data_ptr<int64_t>()[n * rule.keep + i] = kept[i].candidate;
    count.mutable_data_ptr<int64_t>()[n] = found;
  }
  return {index, count};
}

// f with a number of a tensor's type, which is float32 or float64
template <class F>
auto by_type(const Tensor& tensor, const F& f) {
  return tensor.scalar_type() == ScalarType::Double ? f(double()) : f(float());
}

// candidates(box, score) where the types of their tensors are those of two numbers
template <class F>
std::tuple<Tensor, Tensor> run_typed(const Tensor& boxes, const Tensor& scores, const Rule& rule, const F& candidates) {
  return by_type(boxes, [&](auto box) {
    return by_type(scores, [&](auto score) {
      const auto found = candidates(box, score);
      return rule.rounded_shift ? run<decltype(box)>(boxes, found, rule) : run<double>(boxes, found, rule);
    });
  });
}

Rule rule_of(
    const Tensor& boxes, const Tensor& scores, double iou, int64_t extent, bool rounded_shift, int64_t group_count,
    int64_t group_size, int64_t max_keep) {
  STD_TORCH_CHECK(is_floating(boxes) && is_floating(scores), "nms: boxes and scores must be floating point");
  STD_TORCH_CHECK(
      !(rounded_shift && is_half(boxes.scalar_type())), "nms: boxes of a half type cannot be shifted with its rounding");
  STD_TORCH_CHECK(extent == 0 || extent == 1, "nms: extent must be 0 or 1, not ", extent);
  STD_TORCH_CHECK(max_keep >= 0, "nms: max_keep must not be negative, but is ", max_keep);
  return {iou, static_cast<int>(extent), rounded_shift, group_count, group_size, max_keep};
}

Tensor wide(const Tensor& tensor) { return cast(tensor, accumulating(tensor.scalar_type())); }

std::tuple<Tensor, Tensor> grouped_nms(
    const Tensor& boxes, const Tensor& scores, const Tensor& groups, const Tensor& valid, double iou, int64_t extent,
    bool rounded_shift, int64_t group_count, int64_t group_size, int64_t max_keep) {
  check_grouped_nms(boxes, scores, groups, valid);
  const int64_t k = boxes.size(1);
  const Rule rule = rule_of(boxes, scores, iou, extent, rounded_shift, group_count, group_size, max_keep);
  const Tensor b = torch::stable::contiguous(wide(boxes)), s = torch::stable::contiguous(wide(scores)),
               g = torch::stable::contiguous(groups), v = torch::stable::contiguous(valid);
  return run_typed(b, s, rule, [&](auto box, auto score) {
    using B = decltype(box);
    using S = decltype(score);
    return GroupedCandidates<B, S>{
        b.const_data_ptr<B>(), s.const_data_ptr<S>(), g.const_data_ptr<int64_t>(), v.const_data_ptr<bool>(), k};
  });
}

// A number compared with scores of this type, which torch rounds to it first
double as_score(double number, ScalarType type) {
  const float single = static_cast<float>(number);
  switch (type) {
    case ScalarType::Double:
      return number;
    case ScalarType::Half:
      return static_cast<float>(torch::headeronly::Half(single));
    case ScalarType::BFloat16:
      return static_cast<float>(torch::headeronly::BFloat16(single));
    default:
      return single;
  }
}

std::tuple<Tensor, Tensor> class_nms(
    const Tensor& boxes, const Tensor& scores, const Tensor& valid, double score_thresh, double iou, int64_t extent,
    bool rounded_shift, int64_t max_keep) {
  check_class_nms(boxes, scores, valid);
  const int64_t rows = scores.size(1), classes = scores.size(2);
  const Rule rule = rule_of(boxes, scores, iou, extent, rounded_shift, classes, rows, max_keep);
  const Tensor b = torch::stable::contiguous(wide(boxes)), v = torch::stable::contiguous(valid), all = wide(scores);
  // all but the last, background's, of more numbers a row are read where they are
  const Tensor s = all.stride(2) == 1 ? all : torch::stable::contiguous(all);
  const double least = as_score(score_thresh, scores.scalar_type());
  return run_typed(b, s, rule, [&](auto box, auto score) {
    using B = decltype(box);
    using S = decltype(score);
    return ClassCandidates<B, S>{
        b.const_data_ptr<B>(), s.const_data_ptr<S>(), v.const_data_ptr<bool>(), rows, classes, boxes.size(2),
        s.stride(0), s.stride(1), static_cast<S>(least)};
  });
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("grouped_nms", TORCH_BOX(&cascadezoo::grouped_nms));
  m.impl("class_nms", TORCH_BOX(&cascadezoo::class_nms));
}
