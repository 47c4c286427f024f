// CUDA's execution model on the host: a grid's blocks one after another, a block's threads as fibres.
#pragma once

#include <cstddef>
#include <cstdint>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_emulated {

struct Index {
  unsigned x, y, z;
};

// of the thread that runs
extern Index thread_index, block_index;
extern dim3 block_size, grid_size;

// where a kernel calls the emulator
struct Place {
  const char* file;
  int line;
};

int lane();
void* dynamic_shared();

void sync_block(Place place);
void sync_warp(unsigned mask, Place place);

// The value that lane ``source`` of this warp brings to the same call
uint64_t exchange(unsigned mask, uint64_t value, int source, Place place);
unsigned ballot(unsigned mask, bool vote, Place place);

// Runs ``body(argument)`` for every thread of every block; ``kernel`` names what runs.  With CUDA_EMULATED_LAUNCHES in the
// environment it prints how many threads there are.
void launch(const void* kernel, dim3 grid, dim3 block, size_t shared, void (*body)(void*), void* argument);

// From now on ``kernel`` may be launched with this much dynamic shared memory: without, 48 KB are the limit.
void allow_shared(const void* kernel, size_t bytes);

// Of all later launches: the order of blocks, and of threads between their barriers.  At first it is the environment's
// CUDA_EMULATED_SEED, or 0.
void seed(unsigned value);

}  // namespace cuda_emulated

// Bytes of shared memory that a block may have: at first sm_90's 227 KB
extern "C" size_t cuda_emulated_most_shared;
// What the next launch shall fail with: a test's, since a real failure ends the program
extern "C" int cuda_emulated_error;
