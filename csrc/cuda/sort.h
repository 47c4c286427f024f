// Sorting of ranks (../ranks.h) by a block; after launch.h.
#pragma once

#include "../ranks.h"

namespace cascadezoo {

inline int power_of_two(int64_t least) {
  int power = 1;
  while (power < least) power *= 2;
  return power;
}

// Sorts ``ranks[0 .. size]``, a power of two, by all threads of the block.
inline __device__ void sort(uint64_t* ranks, int size) {
  for (int run = 2; run <= size; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      for (int pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
        const int i = 2 * pair - (pair & (step - 1)), other = i + step;
        const uint64_t a = ranks[i], b = ranks[other];
        if ((a > b) == ((i & run) == 0)) ranks[i] = b, ranks[other] = a;
      }
      __syncthreads();
    }
}

// fills up to the next power of two with ranks that come last, and sorts
inline __device__ void sort_some(uint64_t* ranks, int count) {
  int size = 1;
  while (size < count) size *= 2;
  for (int i = count + threadIdx.x; i < size; i += blockDim.x) ranks[i] = kLastRank;
  __syncthreads();
  sort(ranks, size);
}

}  // namespace cascadezoo
