// Masks to run lengths on the CPU, without their pixels.  Down a column of pixels a mask is a straight line from one of its
// cells to the next, so the values at both ends tell which pixels between them are set.  Only pixels so near the threshold
// that rounding decides are computed, as the reference computes them.
#include "../paste_rle.h"
#include "../paste_rle_arguments.h"
#include "../stable.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cascadezoo {
namespace {

constexpr double kThreshold = 0.5;
// what a pixel's value may differ by from the straight line, over the largest cell: 10 roundings to float32, of 2^-24 each
constexpr double kRounding = 1.0 / (1 << 20);
constexpr int64_t kMostComputed = 1 << 22;  // pixels of a mask: where it has more, the caller pastes it, in steps

// Where the runs of one mask end, as far as there is room
class Runs {
 public:
  Runs(int32_t* ends, int64_t cap) : ends_(ends), cap_(cap) {}

  // pixels begin .. end are set; called in their order
  void set(int64_t begin, int64_t end) {
    if (count_ > 0 && begin == last_)
      --count_;  // the run goes on
    else
      push(begin);
    push(end);
  }

  bool fits() const { return count_ <= cap_; }
  void give_up() { count_ = cap_ + 1; }

  // how many they are, in an image of so many pixels, or -1 where they do not fit; beyond them are zeros
  int32_t finish(int64_t pixels) {
    if (count_ == 0 || last_ != pixels) push(pixels);
    std::fill(ends_ + (fits() ? count_ : 0), ends_ + cap_, 0);
    return fits() ? static_cast<int32_t>(count_) : -1;
  }

 private:
  int32_t* ends_;
  int64_t cap_, count_ = 0, last_ = 0;

  void push(int64_t pixel) {
    if (count_ < cap_) ends_[count_] = static_cast<int32_t>(pixel);
    ++count_;
    last_ = pixel;
  }
};

// Rows of the window that lie between one cell and the next, with weights that do not fall
struct Stretch {
  int begin, end, cell;
};

std::vector<Stretch> stretches_of(const std::vector<Tap>& rows) {
  std::vector<Stretch> found;
  for (int i = 0; i < static_cast<int>(rows.size()); ++i) {
    if (!rows[i].inside) continue;
    const bool goes_on = !found.empty() && found.back().end == i && found.back().cell == rows[i].first &&
                         rows[i - 1].weight <= rows[i].weight;
    if (goes_on)
      ++found.back().end;
    else
      found.push_back({i, i + 1, rows[i].first});
  }
  return found;
}

// One mask, pasted column by column
template <class Paste>
class Mask {
 public:
  Mask(const Paste& paste, const float* cells) : paste_(paste), cells_(cells) {
    for (int row = paste.window.top; row < paste.window.bottom; ++row) rows_.push_back(paste.row(row));
    stretches_ = stretches_of(rows_);
    values_.resize(paste.size.cells + 4);  // with the rims that either method has, and one beyond
    float largest = 0;
    for (int i = 0; i < paste.size.cells * paste.size.cells; ++i) largest = std::max(largest, std::abs(cells[i]));
    low_ = kThreshold - kRounding * largest, high_ = kThreshold + kRounding * largest;
  }

  void run(Runs& runs) {
    for (int column = paste_.window.left; column < paste_.window.right && runs.fits(); ++column) {
      const Tap x = paste_.column(column);
      if (x.inside) paste_column(x, static_cast<int64_t>(column) * paste_.size.height + paste_.window.top, runs);
    }
  }

 private:
  const Paste& paste_;
  const float* cells_;
  double low_, high_;  // values below are not set, and values above are; between them, and NaN, rounding decides
  std::vector<Tap> rows_;
  std::vector<Stretch> stretches_;
  std::vector<double> values_;  // of a column at each row of cells, from row -1 on
  int64_t computed_ = 0;

  // ``first``: the image's pixel in the window's first row
  void paste_column(const Tap& x, int64_t first, Runs& runs) {
    const double before = 1.0 - x.weight, after = x.weight;
    for (size_t i = 0; i < values_.size(); ++i) {
      const int row = static_cast<int>(i) - 1;
      values_[i] = paste_.cell(cells_, row, x.first) * before + paste_.cell(cells_, row, x.first + 1) * after;
    }
    for (const Stretch& stretch : stretches_) {
      const double above = values_[stretch.cell + 1], below = values_[stretch.cell + 2];
      if (above > high_ && below > high_)
        runs.set(first + stretch.begin, first + stretch.end);
      else if (!(above < low_ && below < low_))
        paste_rows(x, above, below, stretch.begin, stretch.end, first, runs);
    }
  }

  // some rows of a stretch from the value ``above`` to the value ``below``, halved until their ends tell what is between
  void paste_rows(const Tap& x, double above, double below, int begin, int end, int64_t first, Runs& runs) {
    const double from = above + (below - above) * rows_[begin].weight;
    const double to = above + (below - above) * rows_[end - 1].weight;
    if (from < low_ && to < low_) return;
    if (from > high_ && to > high_) return runs.set(first + begin, first + end);
    if (end - begin == 1) {
      if (paste_.set(cells_, x, rows_[begin])) runs.set(first + begin, first + end);
      if (++computed_ > kMostComputed) runs.give_up();
    } else {
      const int middle = begin + (end - begin) / 2;
      paste_rows(x, above, below, begin, middle, first, runs);
      paste_rows(x, above, below, middle, end, first, runs);
    }
  }
};

template <class Paste>
int32_t paste_one(const PasteSize& size, const float* cells, const float* box, int32_t* ends, int64_t cap) {
  const Paste paste(box, size);
  Runs runs(ends, cap);
  if (paste.by_host)
    runs.give_up();
  else if (paste.window.rows() > 0 && paste.window.columns() > 0)
    Mask<Paste>(paste, cells).run(runs);
  return runs.finish(static_cast<int64_t>(size.height) * size.width);
}

std::tuple<Tensor, Tensor> paste_rle(
    const Tensor& probabilities, const Tensor& boxes, int64_t height, int64_t width, bool integer_box, int64_t cap) {
  check_paste_rle(probabilities, boxes, height, width, cap);
  const int64_t detections = probabilities.size(0), cells = probabilities.size(1);
  Tensor ends = torch::stable::new_empty(boxes, {detections, cap}, ScalarType::Int);
  Tensor counts = torch::stable::new_empty(boxes, {detections}, ScalarType::Int);
  const Tensor masks = torch::stable::contiguous(cast(probabilities, ScalarType::Float));
  const Tensor corners = torch::stable::contiguous(cast(boxes, ScalarType::Float));
  const PasteSize size{static_cast<int>(cells), static_cast<int>(height), static_cast<int>(width)};
  const auto one = integer_box ? &paste_one<IntegerBoxPaste> : &paste_one<BilinearPaste>;
  const float *of_masks = masks.const_data_ptr<float>(), *of_boxes = corners.const_data_ptr<float>();
  int32_t *to_ends = ends.mutable_data_ptr<int32_t>(), *to_counts = counts.mutable_data_ptr<int32_t>();
  torch::stable::parallel_for(0, detections, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      to_counts[i] = one(size, of_masks + i * cells * cells, of_boxes + 4 * i, to_ends + i * cap, cap);
  });
  return {ends, counts};
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) { m.impl("paste_rle", TORCH_BOX(&cascadezoo::paste_rle)); }
