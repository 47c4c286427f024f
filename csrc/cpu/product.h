// Rows times packed weights, for one instruction set (instruction_sets.h): the sums stay in registers over all channels.
// Rows come with kLine channels of each side by side, then the next kLine of all; of weights (out / kChunk, in, kChunk).

#ifndef CASCADEZOO_CPU_PRODUCT
#define CASCADEZOO_CPU_PRODUCT
#include <cstdint>
#include <memory>

namespace cascadezoo {
namespace {

constexpr int kChunk = 32;  // outputs that lie side by side in packed weights
constexpr int kLine = 16;   // channels of a row that lie side by side: one line of a cache
constexpr int kAhead = 32;  // channels by which weights are fetched ahead

// Memory for a thread, not set, from the begin of a line on
class Room {
 public:
  explicit Room(int64_t floats) : memory_(new float[floats + kLine]) {
    void* at = memory_.get();
    size_t size = (floats + kLine) * sizeof(float);
    begin_ = static_cast<float*>(std::align(kLine * sizeof(float), floats * sizeof(float), at, size));
  }
  float* begin() const { return begin_; }

 private:
  std::unique_ptr<float[]> memory_;
  float* begin_;
};

}  // namespace
}  // namespace cascadezoo
#endif

#include "vectors.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

// ROWS rows (in / kLine, `next` floats apart), times two vectors' width of a chunk of weights (in, kChunk), to (ROWS, kChunk)
template <int ROWS>
CZ_TARGET inline void multiply(int64_t in, const float* rows, int64_t next, const float* weight, float* to) {
  Vector sums[ROWS][2] = {};
  for (int64_t first = 0; first < in; first += kLine, rows += next)
    for (int c = 0; c < kLine; ++c, weight += kChunk) {
      for (int line = 0; line < 2 * CZ_LANES; line += kLine) __builtin_prefetch(weight + kAhead * kChunk + line);
      const Vector left = load(weight), right = load(weight + CZ_LANES);
      for (int row = 0; row < ROWS; ++row) {
        const Vector value = all(rows[row * kLine + c]);
        sums[row][0] = CZ_FMA(value, left, sums[row][0]);
        sums[row][1] = CZ_FMA(value, right, sums[row][1]);
      }
    }
  for (int row = 0; row < ROWS; ++row)
    for (int half : {0, 1}) store(to + row * kChunk + half * CZ_LANES, sums[row][half]);
}

template <int ROWS>
CZ_INLINE void multiply_some(
    int64_t count, int64_t in, const float* rows, int64_t next, const float* weight, float* to) {
  if (count == ROWS) return multiply<ROWS>(in, rows, next, weight, to);
  if constexpr (ROWS > 1) multiply_some<ROWS - 1>(count, in, rows, next, weight, to);
}

// Any number of rows times a whole chunk of weights, to (count, kChunk): in parts of about the same size
CZ_TARGET inline void multiply_chunk(
    int64_t count, int64_t in, const float* rows, int64_t next, const float* weight, float* to) {
  const int64_t parts = (count + CZ_ROWS - 1) / CZ_ROWS;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = count * part / parts, end = count * (part + 1) / parts;
    for (int c = 0; c < kChunk; c += 2 * CZ_LANES)
      multiply_some<CZ_ROWS>(end - begin, in, rows + begin * kLine, next, weight + c, to + begin * kChunk + c);
  }
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
