// RoIAlign's sampling (He et al. 2017) along one axis.  The points of a bin form a grid, so its mean is a sum over rows
// of a sum over columns, and each axis can be placed by itself.
#pragma once

#include <cmath>

#include "numbers.h"

namespace cascadezoo {

// Where the bins of a box lie along one axis, in cells
template <class A>
struct Span {
  A start, bin;

  CZ_HD Span(A begin, A end, A scale, bool aligned, int64_t bins) {
    const A shift = aligned ? A(0.5) : A(0);
    start = begin * scale - shift;
    A length = end * scale - shift - start;
    if (!aligned && length < 1) length = 1;
    bin = length / static_cast<A>(bins);
  }

  // of a bin; 0 asks for as many as the cells that it spans.  No integer: a box of 3e38 has more than any of them.
  CZ_HD A points(int64_t sampling) const { return sampling > 0 ? static_cast<A>(sampling) : std::ceil(bin); }

  // of point i of bin b
  CZ_HD A position(int64_t b, A i, A points) const {
    return start + static_cast<A>(b) * bin + (i + A(0.5)) * bin / points;
  }
};

// The two cells around a position, and the second one's share
template <class A>
struct Between {
  int64_t low, high;
  A rest;

  // false: the position lies off a map of ``size`` cells
  CZ_HD bool place(A at, int64_t size) {
    if (size == 0 || !(at >= -1 && at <= static_cast<A>(size))) return false;
    if (!(at > 0)) at = 0;
    low = static_cast<int64_t>(at);
    if (low > size - 1) low = size - 1;  // compared as integers: beyond 2^24 cells a float32 may lie past the last one
    high = low + 1 < size ? low + 1 : low;
    rest = low == high ? A(0) : at - static_cast<A>(low);
    return true;
  }
};

}  // namespace cascadezoo
