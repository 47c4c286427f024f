// The order of scores and their candidates as integers, which can be sorted and compared bit by bit.
#pragma once

#include <cstring>

#include "numbers.h"

namespace cascadezoo {

// Unsigned integers in the order of the floats
CZ_HD uint32_t ordered(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
CZ_HD uint64_t ordered(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits >> 63 ? ~bits : bits | uint64_t(1) << 63;
}
CZ_HD float unordered(uint32_t number) {
  const uint32_t bits = number >> 31 ? number & 0x7fffffffu : ~number;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// Ascending, the best score comes first, and of equal ones the first candidate.  As where torch sorts, NaN is above all,
// and the zeros are equal.
CZ_HD uint64_t rank_of(float score, uint32_t candidate) {
  const uint32_t up = score != score ? 0xffffffffu : ordered(score == 0 ? 0.0f : score);
  return static_cast<uint64_t>(~up) << 32 | candidate;
}
CZ_HD uint32_t candidate_of(uint64_t rank) { return static_cast<uint32_t>(rank); }

constexpr uint64_t kLastRank = ~uint64_t(0);  // after every candidate's

}  // namespace cascadezoo
