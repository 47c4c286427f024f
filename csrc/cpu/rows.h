// Weighted sums of rows of channels that lie side by side.
#pragma once

#include "tap.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace cascadezoo {

template <class A, int B>
inline void sum_block(const Tap<A>* taps, int64_t count, const A* from, A* to) {
  A sum[B] = {};
  for (int64_t t = 0; t < count; ++t) {
    const A* row = from + taps[t].row;
    const A weight = taps[t].weight;
    for (int i = 0; i < B; ++i) sum[i] += weight * row[i];
  }
  for (int i = 0; i < B; ++i) to[i] = sum[i];
}

}  // namespace cascadezoo

#define CZ_BLOCK "rows_block.h"
#include "instruction_sets.h"

namespace cascadezoo {
namespace {

template <class A>
inline void sum_rows(
    const Tap<A>* taps, int64_t count, int64_t width, const A* from, A* to) {
  if (count == 0) return static_cast<void>(std::fill_n(to, width, A(0)));
  if constexpr (std::is_same_v<A, float>) {
    static const auto of_floats = CZ_WIDEST(16, sum_rows);
    return of_floats(taps, count, width, from, to);
  }
  int64_t i = 0;
  for (; i + 16 <= width; i += 16) sum_block<A, 16>(taps, count, from + i, to + i);
  for (; i + 4 <= width; i += 4) sum_block<A, 4>(taps, count, from + i, to + i);
  for (; i < width; ++i) sum_block<A, 1>(taps, count, from + i, to + i);
}

}  // namespace
}  // namespace cascadezoo
