// Some tiles of a convolution by Winograd's F(4 x 4, 3 x 3), for one instruction set (instruction_sets.h).
#include "product.h"
#include "winograd_input_block.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

constexpr int64_t kTiles = CZ_ROWS < 12 ? 12 : CZ_ROWS;  // of a block of kChannels, which fits a core's cache

// A' m along one axis
template <bool SHORT>
CZ_INLINE void from_points(const Vector* m, Vector* out) {
  const Vector sum = m[1] + m[2], difference = m[1] - m[2];
  if constexpr (SHORT) {
    out[0] = m[0] + sum;
    out[1] = difference + m[5];
  } else {
    const Vector two = Vector{} + 2, four = Vector{} + 4, eight = Vector{} + 8;
    const Vector far_sum = m[3] + m[4], far_difference = m[3] - m[4];
    out[0] = m[0] + (sum + far_sum);
    out[1] = CZ_FMA(two, far_difference, difference);
    out[2] = CZ_FMA(four, far_sum, sum);
    out[3] = CZ_FMA(eight, far_difference, difference) + m[5];
  }
}

// The points of a tile, kChunk channels from k on, to its pixels
template <bool LOW, bool NARROW>
CZ_TARGET inline void transform_output(const Convolution& p, const Tile& tile, int64_t k, const float* from, int64_t step) {
  constexpr int rows = LOW ? 2 : 4, columns = NARROW ? 2 : 4;
  const int64_t height = std::min<int64_t>(rows, p.h - tile.y), width = std::min<int64_t>(columns, p.w - tile.x);
  float* const at = p.y + ((tile.image * p.h + tile.y) * p.w + tile.x) * p.out + k;
  for (int c = 0; c < kChunk; c += CZ_LANES) {
    Vector half[24], pixels[4];
    for (int j = 0; j < 6; ++j) {
      if (absent(NARROW, j)) continue;
      Vector points[6], out[4];
      for (int i = 0; i < 6; ++i)
        if (!absent(LOW, i)) points[i] = load(from + (6 * i + j) * step + c);
      from_points<LOW>(points, out);
      for (int i = 0; i < rows; ++i) half[6 * i + j] = out[i];
    }
    const Vector bias = load(p.bias + k + c);
    for (int64_t i = 0; i < height; ++i) {
      from_points<NARROW>(half + 6 * i, pixels);
      for (int64_t j = 0; j < width; ++j) {
        Vector value = pixels[j] + bias;
        if (p.relu) value = value < 0 ? Vector{} : value;  // what is no number stays so
        store(at + (i * p.w + j) * p.out + c, value);
      }
    }
  }
}

using TransformInput = void (*)(const Convolution&, const float*, const Tile&, float*, int64_t, int64_t);
using TransformOutput = void (*)(const Convolution&, const Tile&, int64_t, const float*, int64_t);
constexpr TransformInput kTransformInput[2][2] = {
    {transform_input<false, false>, transform_input<false, true>}, {transform_input<true, false>, transform_input<true, true>}};
constexpr TransformOutput kTransformOutput[2][2] = {
    {transform_output<false, false>, transform_output<false, true>}, {transform_output<true, false>, transform_output<true, true>}};

// Tiles first .. first + count of a convolution.  Room: room_of(count, p.in) floats.
CZ_TARGET inline void run_block(const Convolution& p, const float* zeros, int64_t first, int64_t count, float* room) {
  const int64_t step = count * p.in + kApart;
  float* const products = room + 36 * step;
  const Places places(p, first, count);
  for (int64_t t = 0; t < count; ++t) {
    const Tile tile = p.tile(first + t);
    kTransformInput[tile.low][tile.narrow](p, zeros, tile, room + places.of(t) * kLine, step, count * kLine);
  }
  for (int64_t k = 0; k < p.out; k += kChunk) {
    for (int64_t point = 0; point < 36; ++point) {
      const auto [begin, end] = places.with(point);
      multiply_chunk(
          end - begin, p.in, room + point * step + begin * kLine, count * kLine,
          p.weight + (k * 36 + point * kChunk) * p.in, products + (point * count + begin) * kChunk);
    }
    for (int64_t t = 0; t < count; ++t) {
      const Tile tile = p.tile(first + t);
      kTransformOutput[tile.low][tile.narrow](p, tile, k, products + places.of(t) * kChunk, count * kChunk);
    }
  }
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
