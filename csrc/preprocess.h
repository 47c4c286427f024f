// A grey level of a resized image, as OpenCV's resize computes it, in the order of operations of
// cascadezoo/ops/preprocess.py.  Products and sums that are fused are so by name; nothing else may be.
#pragma once

#include <cmath>

#include "numbers.h"

namespace cascadezoo {

// Between which rows, or columns, of an image one of the resized image lies, and what each counts
template <class W, int N>
struct ResizeTaps {
  int at[N];
  W weight[N];
};

// double, whose last bits decide on rounding
CZ_HD double resize_position(double step, int pixel) { return (pixel + 0.5) * step - 0.5; }

CZ_HD int resize_edge(int at, int size) { return at < 0 ? 0 : at < size ? at : size - 1; }

// Linear between uint8 levels, in integers: weights are of 2048, and the sum of a row is cut to 16 bits
struct FixedLinear {
  static constexpr int kTaps = 2;
  using Taps = ResizeTaps<int, kTaps>;
  using Sum = int;

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

  CZ_HD static float down(const Taps& y, const int* rows, bool) {
    const int above = (rows[0] >> 4) * y.weight[0] >> 16, below = (rows[1] >> 4) * y.weight[1] >> 16;
    return static_cast<float>((above + below + 2) >> 2);
  }
};

// Linear between levels as float32, as Intel's library in OpenCV computes it
struct FloatLinear {
  static constexpr int kTaps = 2;
  using Taps = ResizeTaps<float, 2>;
  using Sum = float;

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

  CZ_HD static float down(const Taps& y, const float* rows, bool) { return between(rows[0], rows[1], y.weight[1]); }
};

// Cubic of slope -0.75, in float32, rounded to whole levels or not
struct Cubic {
  static constexpr int kTaps = 4;
  using Taps = ResizeTaps<float, kTaps>;
  using Sum = float;

  CZ_HD static Taps column(double step, int pixel, int size) { return row(step, pixel, size); }

  CZ_HD static Taps row(double step, int pixel, int size) {
    const double position = resize_position(step, pixel), first = floor(position);
    const int at = static_cast<int>(first);
    const float t = static_cast<float>(position - first), u = 1 - t;
    Taps taps{};
    for (int i = 0; i < kTaps; ++i) taps.at[i] = resize_edge(at - 1 + i, size);
    taps.weight[0] = -0.75f * (t * u * u);
    taps.weight[1] = (1.25f * t - 2.25f) * t * t + 1;
    taps.weight[2] = (1.25f * u - 2.25f) * u * u + 1;
    taps.weight[3] = -0.75f * (u * t * t);
    return taps;
  }

  CZ_HD static float across(const Taps& x, const uint8_t* row) {
    float sum = row[3 * x.at[0]] * x.weight[0];
    for (int i = 1; i < kTaps; ++i) sum += row[3 * x.at[i]] * x.weight[i];
    return sum;
  }

  CZ_HD static float down(const Taps& y, const float* rows, bool whole) {
    float sum = rows[0] * y.weight[0];
    for (int i = 1; i < kTaps; ++i) sum += rows[i] * y.weight[i];
    return whole ? fminf(fmaxf(rintf(sum), 0), 255) : sum;
  }
};

}  // namespace cascadezoo
