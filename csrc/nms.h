// Greedy suppression's decisions, in the order of operations of torchvision's operator for the CPU: whoever takes them
// has to be compiled without fused products and sums.
#pragma once

#include "numbers.h"
#include "ranks.h"

namespace cascadezoo {

// A box's corners, where its group has moved it, and its area
template <class T>
struct Shifted {
  T x1, y1, x2, y2, area;

  Shifted() = default;
  template <class B>
  CZ_HD Shifted(const B* box, T shift, int extent) {
    x1 = T(box[0]) + shift;
    y1 = T(box[1]) + shift;
    x2 = T(box[2]) + shift + T(extent);
    y2 = T(box[3]) + shift + T(extent);
    area = (x2 - x1) * (y2 - y1);
  }
};

// Of group ``group``, where ``largest`` is the largest coordinate of all groups
template <class T, class B>
CZ_HD T group_shift(int64_t group, B largest, int extent) {
  return T(group) * (T(largest) + T(1) + T(extent));
}

// std::min and std::max, which nvcc does not compile for a device; its own treat a NaN otherwise
template <class T>
CZ_HD T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
CZ_HD T larger(T a, T b) {
  return a < b ? b : a;
}

template <class T>
CZ_HD T shared_area(const Shifted<T>& better, const Shifted<T>& other) {
  const T w = larger(T(0), smaller(better.x2, other.x2) - larger(better.x1, other.x1));
  const T h = larger(T(0), smaller(better.y2, other.y2) - larger(better.y1, other.y1));
  return w * h;
}

// of two boxes that share an area
template <class T>
CZ_HD T overlap(const Shifted<T>& better, const Shifted<T>& other, T shared) {
  return shared / (better.area + other.area - shared);
}

// Whether ``better`` overlaps ``other`` by more than the threshold
template <class T>
CZ_HD bool suppresses(const Shifted<T>& better, const Shifted<T>& other, double threshold) {
  return static_cast<double>(overlap(better, other, shared_area(better, other))) > threshold;
}

}  // namespace cascadezoo
