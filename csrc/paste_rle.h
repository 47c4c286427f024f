// From a detection's small mask of probabilities to the pixels of the image: which of them can be set, and which are,
// in the order of operations of cascadezoo/ops/mask_paste.py on an x86-64 CPU.  Where torch and OpenCV fuse a product
// and a sum there, so does this, by name; nothing else may be fused.
#pragma once

#include <cmath>

#include "numbers.h"

namespace cascadezoo {

// cells along a mask's side, pixels of the image
struct PasteSize {
  int cells, height, width;
};

CZ_HD double within(double value, double low, double high) { return fmin(fmax(value, low), high); }
CZ_HD bool all_finite(float a, float b, float c, float d) {
  return a - a == 0 && b - b == 0 && c - c == 0 && d - d == 0;
}

// Between which cells a row or column of pixels lies: ``first`` and the next, which counts ``weight``
struct Tap {
  int first;
  float weight;
  bool inside;  // else nothing there is set
};

// The part of the image outside which the mask is empty
struct PasteWindow {
  int left = 0, right = 0, top = 0, bottom = 0;

  CZ_HD int columns() const { return right - left; }
  CZ_HD int rows() const { return bottom - top; }
};

// mmdetection's: torch's grid_sample at the pixels' centres
struct BilinearPaste {
  static constexpr bool by_host = false;
  const float* box;
  PasteSize size;
  PasteWindow window;

  CZ_HD BilinearPaste(const float* box, const PasteSize& size) : box(box), size(size) {
    if (!all_finite(box[0], box[1], box[2], box[3])) return;
    along(box[0], box[2], size.width, &window.left, &window.right);
    along(box[1], box[3], size.height, &window.top, &window.bottom);
  }

  CZ_HD static void along(double low, double high, int pixels, int* start, int* stop) {
    *start = static_cast<int>(floor(within(low - 1, 0, pixels)));
    *stop = static_cast<int>(ceil(within(high + 1, 0, pixels)));
    if (*stop < *start) *stop = *start;
  }

  CZ_HD Tap column(int pixel) const { return tap(pixel, box[0], box[2]); }
  CZ_HD Tap row(int pixel) const { return tap(pixel, box[1], box[3]); }

  CZ_HD Tap tap(int pixel, float low, float high) const {
    float centre = (static_cast<float>(pixel) + 0.5f - low) / (high - low) * 2 - 1;
    if (centre - centre != 0 && centre == centre) centre = 0;  // infinite: the mask's middle
    const float at = fmaf(centre + 1, static_cast<float>(size.cells) / 2, -0.5f);
    if (!(at > -1 && at < static_cast<float>(size.cells))) return {0, 0, false};
    const float first = floorf(at);
    return {static_cast<int>(first), at - first, true};
  }

  CZ_HD float cell(const float* cells, int row, int column) const {
    const bool there = row >= 0 && row < size.cells && column >= 0 && column < size.cells;
    return there ? cells[row * size.cells + column] : 0;
  }

  CZ_HD bool set(const float* cells, const Tap& x, const Tap& y) const {
    if (!x.inside || !y.inside) return false;
    const float before = 1 - x.weight, above = 1 - y.weight;
    float value = cell(cells, y.first, x.first) * (before * above);
    value = fmaf(cell(cells, y.first, x.first + 1), x.weight * above, value);
    value = fmaf(cell(cells, y.first + 1, x.first), before * y.weight, value);
    value = fmaf(cell(cells, y.first + 1, x.first + 1), x.weight * y.weight, value);
    return value >= 0.5f;
  }
};

// Detectron's: OpenCV's resize of the mask with a rim of zeros to a box of whole pixels, as Intel's library in OpenCV
// 4.12 and later computes it: positions in double, then along the rows, then down the columns
struct IntegerBoxPaste {
  PasteSize size;
  PasteWindow window;
  bool by_host = false;  // the box is so large beside the image that the host resizes it otherwise
  double left, top, wide, high;

  CZ_HD IntegerBoxPaste(const float* box, const PasteSize& size) : size(size) {
    const float widened = static_cast<float>(static_cast<double>(size.cells + 2) / size.cells);
    float low[2], up[2];
    for (int axis = 0; axis < 2; ++axis) {
      const float centre = (box[2 + axis] + box[axis]) * 0.5f;
      const float half = (box[2 + axis] - box[axis]) * 0.5f * widened;
      low[axis] = centre - half, up[axis] = centre + half;
    }
    left = top = 0, wide = high = 1;
    if (!all_finite(low[0], low[1], up[0], up[1])) return;
    left = trunc(static_cast<double>(low[0])), top = trunc(static_cast<double>(low[1]));
    const double right = trunc(static_cast<double>(up[0])) + 1, bottom = trunc(static_cast<double>(up[1])) + 1;
    wide = right - left, high = bottom - top;
    const double x1 = fmax(left, 0.0), y1 = fmax(top, 0.0);
    const double x2 = fmin(right, static_cast<double>(size.width)), y2 = fmin(bottom, static_cast<double>(size.height));
    if (x2 <= x1 || y2 <= y1) return;
    window.left = static_cast<int>(x1), window.right = static_cast<int>(x2);
    window.top = static_cast<int>(y1), window.bottom = static_cast<int>(y2);
    by_host = wide * high > 4 * fmax(1048576.0, static_cast<double>(size.height) * size.width);
  }

  CZ_HD Tap column(int pixel) const { return tap(pixel - left, wide); }
  CZ_HD Tap row(int pixel) const { return tap(pixel - top, high); }

  CZ_HD Tap tap(double pixel, double pixels) const {
    const int cells = size.cells + 2;
    const double at = (pixel + 0.5) * (cells / pixels) - 0.5, first = floor(at);
    if (first < 0) return {0, 0, true};
    if (first >= cells - 1) return {cells - 1, 0, true};
    return {static_cast<int>(first), static_cast<float>(at - first), true};
  }

  CZ_HD float cell(const float* cells, int row, int column) const {
    const bool there = row > 0 && row <= size.cells && column > 0 && column <= size.cells;
    return there ? cells[(row - 1) * size.cells + column - 1] : 0;
  }

  // between two cells of a row of cells
  CZ_HD float across(const float* cells, int row, const Tap& x) const {
    const float here = cell(cells, row, x.first);
    return fmaf(cell(cells, row, x.first + 1) - here, x.weight, here);
  }

  CZ_HD bool set(const float* cells, const Tap& x, const Tap& y) const {
    const float above = across(cells, y.first, x);
    return fmaf(across(cells, y.first + 1, x) - above, y.weight, above) > 0.5f;
  }
};

}  // namespace cascadezoo
