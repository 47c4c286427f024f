// Greedy suppression's decisions, in the order of operations of torchvision's operator for the CPU: whoever takes them
// has to be compiled without fused products and sums.
#pragma once

#include <cstring>

#include "numbers.h"

namespace cascadezoo {

// A box's corners, where its group has moved it, and its area
template <class T>
struct Shifted {
  T x1, y1, x2, y2, area;

  CZ_HD Shifted(const float* box, T shift, int extent) {
    x1 = T(box[0]) + shift;
    y1 = T(box[1]) + shift;
    x2 = T(box[2]) + shift + T(extent);
    y2 = T(box[3]) + shift + T(extent);
    area = (x2 - x1) * (y2 - y1);
  }
};

// Of group ``group``, where ``largest`` is the largest coordinate of all groups
template <class T>
CZ_HD T group_shift(int64_t group, float largest, int extent) {
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

// Whether ``better`` overlaps ``other`` by more than the threshold
template <class T>
CZ_HD bool suppresses(const Shifted<T>& better, const Shifted<T>& other, double threshold) {
  const T w = larger(T(0), smaller(better.x2, other.x2) - larger(better.x1, other.x1));
  const T h = larger(T(0), smaller(better.y2, other.y2) - larger(better.y1, other.y1));
  const T shared = w * h;
  return static_cast<double>(shared / (better.area + other.area - shared)) > threshold;
}

// Unsigned integers in the order of the floats
CZ_HD uint32_t ordered(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
CZ_HD float unordered(uint32_t number) {
  const uint32_t bits = number >> 31 ? number & 0x7fffffffu : ~number;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// The order of suppression: ascending, the best score comes first, and of equal ones the first candidate.  As where
// torch sorts, NaN is above all, and the zeros are equal.
CZ_HD uint64_t rank_of(float score, uint32_t candidate) {
  const uint32_t up = score != score ? 0xffffffffu : ordered(score == 0 ? 0.0f : score);
  return static_cast<uint64_t>(~up) << 32 | candidate;
}
CZ_HD uint32_t candidate_of(uint64_t rank) { return static_cast<uint32_t>(rank); }

constexpr uint64_t kLastRank = ~uint64_t(0);  // after every candidate's

}  // namespace cascadezoo
