// One of the rows that a weighted sum is made of.
#pragma once

#include <cstdint>

namespace cascadezoo {

// a row of channels that lie side by side, and how much it counts
template <class A>
struct Tap {
  int64_t row;
  A weight;
};

}  // namespace cascadezoo
