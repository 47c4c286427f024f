// A grey level of a resized image, as OpenCV's resize computes it, in the order of operations of
// cascadezoo/ops/preprocess.py.  Products and sums that are fused are so by name; nothing else may be.
#pragma once

#include <cmath>

#include "numbers.h"

namespace cascadezoo {

// Between which two rows, or columns, of an image one of the resized image lies, and what each counts
template <class W>
struct ResizeTaps {
  int at[2];
  W weight[2];
};

// double, whose last bits decide on rounding
CZ_HD double resize_position(double step, int pixel) { return (pixel + 0.5) * step - 0.5; }

CZ_HD int resize_edge(int at, int size) { return at < 0 ? 0 : at < size ? at : size - 1; }

// Linear between uint8 levels, in integers: weights are of 2048, and the sum of a row is cut to 16 bits
struct FixedLinear {
  using Taps = ResizeTaps<int>;

  CZ_HD static Taps column(double step, int pixel, int size) {
    const Taps taps = row(step, pixel, size);
    return taps.at[0] == taps.at[1] ? Taps{{taps.at[0], taps.at[1]}, {2048, 0}} : taps;
  }

  CZ_HD static Taps row(double step, int pixel, int size) {
    const float position = static_cast<float>(resize_position(step, pixel)), first = floorf(position);
    const float rest = position - first;
    const int at = static_cast<int>(first);
    const int after = static_cast<int>(rintf(rest * 2048)), before = static_cast<int>(rintf((1 - rest) * 2048));
    return {{resize_edge(at, size), resize_edge(at + 1, size)}, {before, after}};
  }

  CZ_HD static int across(const Taps& x, const uint8_t* row) {
    return row[3 * x.at[0]] * x.weight[0] + row[3 * x.at[1]] * x.weight[1];
  }

  CZ_HD static float down(const Taps& y, int above, int below) {
    const int first = (above >> 4) * y.weight[0] >> 16, second = (below >> 4) * y.weight[1] >> 16;
    return static_cast<float>((first + second + 2) >> 2);
  }
};

// Linear between levels as float32, as Intel's library in OpenCV computes it
struct FloatLinear {
  using Taps = ResizeTaps<float>;

  CZ_HD static Taps column(double step, int pixel, int size) { return row(step, pixel, size); }

  CZ_HD static Taps row(double step, int pixel, int size) {
    const double position = resize_position(step, pixel), first = floor(position);
    const int at = static_cast<int>(first);
    return {{resize_edge(at, size), resize_edge(at + 1, size)}, {0, static_cast<float>(position - first)}};
  }

  CZ_HD static float between(float before, float after, float weight) { return fmaf(after - before, weight, before); }

  CZ_HD static float across(const Taps& x, const uint8_t* row) {
    return between(row[3 * x.at[0]], row[3 * x.at[1]], x.weight[1]);
  }

  CZ_HD static float down(const Taps& y, float above, float below) { return between(above, below, y.weight[1]); }
};

}  // namespace cascadezoo
