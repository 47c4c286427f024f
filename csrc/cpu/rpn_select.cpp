// The best anchors of each level of a pyramid, best first, as boxes, on the CPU.  The anchors of a level are gone through
// once, and no more than twice as many as are wanted are kept at a time.  Probabilities and exponentials are torch's, so
// that every bit is the reference's.
#include "../ranks.h"
#include "../rpn_select_arguments.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>
#include <torch/headeronly/util/shim_utils.h>

#include <algorithm>
#include <vector>

namespace cascadezoo {
namespace {

// The lowest ranks of many, of which no two are equal
class Lowest {
 public:
  Lowest(size_t wanted, size_t all) : wanted_(wanted) { ranks_.reserve(std::min(2 * wanted, all)); }

  void offer(uint64_t rank) {
    if (rank > last_) return;
    ranks_.push_back(rank);
    if (ranks_.size() == 2 * wanted_) cut();
  }

  // as many as are wanted, in order
  const std::vector<uint64_t>& sorted() {
    if (ranks_.size() > wanted_) cut();
    std::sort(ranks_.begin(), ranks_.end());
    return ranks_;
  }

 private:
  size_t wanted_;
  uint64_t last_ = kLastRank;  // none above is wanted
  std::vector<uint64_t> ranks_;

  void cut() {
    const auto last = ranks_.begin() + (wanted_ - 1);
    std::nth_element(ranks_.begin(), last, ranks_.end());
    last_ = *last;
    ranks_.resize(wanted_);
  }
};

// What is selected of one level of one image: ``rows`` of each, from its first on
struct Selected {
  Box* boxes;
  float* scores;
  float* growth;  // (rows, 2)
  int64_t* levels;
  bool* valid;
  int* anchors;
  int64_t rows;

  Selected at(int64_t block) const {
    const int64_t row = block * rows;
    return {boxes + row, scores + row, growth + 2 * row, levels + row, valid + row, anchors + row, rows};
  }
};

// All but the boxes, in whose places the deltas lie; ``growth`` is still a logarithm
template <class D>
void choose(const RpnLevel& level, int64_t image, int64_t number, const RpnRule& rule, const Selected& selected) {
  const float* scores = level.logits + image * level.count;
  const D* deltas = static_cast<const D*>(level.deltas) + image * level.count * 4;
  const auto total = std::min<int64_t>(selected.rows, level.count);
  Lowest lowest(total, level.count);
  for (int i = 0; i < level.count; ++i) lowest.offer(rank_of(scores[i], static_cast<uint32_t>(i)));
  const std::vector<uint64_t>& ranks = lowest.sorted();
  for (int64_t row = 0; row < selected.rows; ++row) {
    const auto i = static_cast<int>(candidate_of(ranks[std::min(row, total - 1)]));  // too few: the last again
    Box& move = selected.boxes[row];
    for (int side = 0; side < 4; ++side) move.value[side] = static_cast<float>(deltas[int64_t(i) * 4 + side]);
    for (int axis = 0; axis < 2; ++axis) selected.growth[2 * row + axis] = log_growth(move, axis, rule);
    selected.anchors[row] = i;
    selected.scores[row] = scores[i];
    selected.levels[row] = number;
    selected.valid[row] = row < total;
  }
}

void decode(
    const RpnLevel& level, const float (*halves)[2], int of_cell, const float* size, const RpnRule& rule,
    const Selected& selected) {
  for (int64_t row = 0; row < selected.rows; ++row) {
    const Box anchor = anchor_of(level, halves, of_cell, selected.anchors[row]);
    Box& box = selected.boxes[row];
    box = clipped(decoded(box, selected.growth + 2 * row, anchor, rule), size, rule);
    selected.valid[row] = selected.valid[row] && large_enough(box, rule);
  }
}

template <class F>
void by_type(ScalarType type, const F& f) {
  switch (type) {
    case ScalarType::Double:
      return f(double());
    case ScalarType::Half:
      return f(torch::headeronly::Half());
    case ScalarType::BFloat16:
      return f(torch::headeronly::BFloat16());
    default:
      return f(float());
  }
}

// torch's function of one tensor
Tensor torchs(const char* name, const Tensor& x) {
  std::array<StableIValue, 1> stack{torch::stable::detail::from(x)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> rpn_select(
    const std::vector<Tensor>& logits, const std::vector<Tensor>& deltas, const Tensor& sizes,
    const std::vector<int64_t>& widths, const std::vector<int64_t>& strides, const Numbers& firsts,
    const Numbers& halves, bool probability, const Numbers& stds, const Numbers& log_scale, int64_t extent,
    double min_size, int64_t top) {
  const RpnRule rule = rpn_rule(probability, stds, log_scale, extent, min_size);
  const auto of_cell = static_cast<int>(check_rpn_levels(logits, deltas, sizes, widths, strides, firsts, halves));
  const auto count = static_cast<int64_t>(logits.size()), images = sizes.size(0);
  check_rpn_top(top, count);
  std::vector<std::array<float, 2>> half(halves.size() / 2);
  for (size_t i = 0; i < halves.size(); ++i) half[i / 2][i % 2] = static_cast<float>(halves[i]);
  std::vector<RpnLevel> levels;
  std::vector<Tensor> kept;  // as long as their memory is read
  for (int64_t i = 0; i < count; ++i) {
    levels.push_back(rpn_level(logits[i], widths[i], strides[i], firsts[i]));
    kept.push_back(torch::stable::contiguous(probability ? torchs("aten::sigmoid", logits[i]) : logits[i]));
    levels.back().logits = kept.back().const_data_ptr<float>();
    kept.push_back(torch::stable::contiguous(deltas[i]));
    levels.back().deltas = kept.back().const_data_ptr();
  }
  const Tensor sides = torch::stable::contiguous(cast(sizes, ScalarType::Float));
  const int64_t rows = count * top;
  Tensor boxes = torch::stable::new_empty(sides, {images, rows, 4});
  Tensor scores = torch::stable::new_empty(sides, {images, rows});
  Tensor of_level = torch::stable::new_empty(sides, {images, rows}, ScalarType::Long);
  Tensor valid = torch::stable::new_empty(sides, {images, rows}, ScalarType::Bool);
  Tensor growth = torch::stable::new_empty(sides, {images, rows, 2});
  std::vector<int> anchors(images * rows);
  Selected selected{
      static_cast<Box*>(boxes.mutable_data_ptr()), scores.mutable_data_ptr<float>(), growth.mutable_data_ptr<float>(),
      of_level.mutable_data_ptr<int64_t>(), valid.mutable_data_ptr<bool>(), anchors.data(), top};
  const auto each = [&](const auto& f) {
    torch::stable::parallel_for(0, images * count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) f(block % count, block / count, selected.at(block));
    });
  };
  by_type(deltas[0].scalar_type(), [&](auto number) {
    each([&](int64_t level, int64_t image, const Selected& its) {
      choose<decltype(number)>(levels[level], image, level, rule, its);
    });
  });
  growth = torchs("aten::exp", growth);
  selected.growth = growth.mutable_data_ptr<float>();
  each([&](int64_t level, int64_t image, const Selected& its) {
    const auto* of_level = reinterpret_cast<const float(*)[2]>(half.data() + level * of_cell);
    decode(levels[level], of_level, of_cell, sides.const_data_ptr<float>() + 2 * image, rule, its);
  });
  return {boxes, scores, of_level, valid};
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) { m.impl("rpn_select", TORCH_BOX(&cascadezoo::rpn_select)); }
