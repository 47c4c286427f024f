// Some tiles of one kind of a convolution by Winograd's F(6 x 6, 3 x 3), for one instruction set (instruction_sets.h).
#include "product.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

constexpr int64_t kTiles = CZ_ROWS < 12 ? 24 : 2 * CZ_ROWS;  // of a block

// B' d along one axis: of 8 pixels to all points, of 6 or 4 to the first ones.  The weights hold the divisors of eight
// points, so that fewer need what is left of these.
template <int Points>
CZ_INLINE void to_points(const Vector* d, Vector* out) {
  if constexpr (Points == 4) {
    out[0] = d[0] - d[2];
    out[1] = all(-2.25f) * (d[1] + d[2]);
    out[2] = all(2.25f) * (d[1] - d[2]);
    out[3] = d[3] - d[1];
  } else if constexpr (Points == 6) {
    const Vector near = all(0.75f) * CZ_FMA(all(-4), d[2], d[4]), near_odd = all(0.75f) * CZ_FMA(all(-4), d[1], d[3]);
    const Vector far = all(3.75f) * (d[4] - d[2]), far_odd = all(7.5f) * (d[3] - d[1]);
    out[0] = CZ_FMA(all(0.25f), d[4], CZ_FMA(all(-1.25f), d[2], d[0]));
    out[1] = near + near_odd;
    out[2] = near - near_odd;
    out[3] = CZ_FMA(all(4), d[1], CZ_FMA(all(-5), d[3], d[5]));
    out[4] = far + far_odd;
    out[5] = far - far_odd;
  } else {
    const Vector near = CZ_FMA(all(-4.25f), d[4], d[2]) + d[6], near_odd = CZ_FMA(all(-4.25f), d[3], d[1]) + d[5];
    const Vector far = CZ_FMA(all(0.25f), d[2], CZ_FMA(all(-1.25f), d[4], d[6]));
    const Vector far_odd = CZ_FMA(all(0.5f), d[1], CZ_FMA(all(-2.5f), d[3], d[5] + d[5]));
    const Vector half = CZ_FMA(all(4), d[2], CZ_FMA(all(-5), d[4], d[6]));
    const Vector half_odd = CZ_FMA(all(2), d[1], CZ_FMA(all(-2.5f), d[3], all(0.5f) * d[5]));
    out[0] = CZ_FMA(all(5.25f), d[4] - d[2], d[0] - d[6]);
    out[1] = near + near_odd;
    out[2] = near - near_odd;
    out[3] = CZ_FMA(all(5.25f), d[3] - d[5], d[7] - d[1]);
    out[4] = far + far_odd;
    out[5] = far - far_odd;
    out[6] = half + half_odd;
    out[7] = half - half_odd;
  }
}

// A' m along one axis: to Points - 2 pixels
template <int Points>
CZ_INLINE void from_points(const Vector* m, Vector* out) {
  const Vector sum = m[1] + m[2], difference = m[1] - m[2];
  if constexpr (Points == 4) {
    out[0] = m[0] + sum;
    out[1] = difference + m[3];
  } else if constexpr (Points == 6) {
    const Vector far_sum = m[4] + m[5], far_difference = m[4] - m[5];
    out[0] = m[0] + (sum + far_sum);
    out[1] = CZ_FMA(all(2), far_difference, difference);
    out[2] = CZ_FMA(all(4), far_sum, sum);
    out[3] = CZ_FMA(all(8), far_difference, difference) + m[3];
  } else {
    const Vector far_sum = m[4] + m[5], far_difference = m[4] - m[5];
    const Vector half_sum = m[6] + m[7], half_difference = m[6] - m[7];
    out[0] = (m[0] + sum) + CZ_FMA(all(32), half_sum, far_sum);
    out[1] = CZ_FMA(all(2), far_difference, CZ_FMA(all(16), half_difference, difference));
    out[2] = CZ_FMA(all(4), far_sum, CZ_FMA(all(8), half_sum, sum));
    out[3] = CZ_FMA(all(8), far_difference, CZ_FMA(all(4), half_difference, difference));
    out[4] = CZ_FMA(all(16), far_sum, CZ_FMA(all(2), half_sum, sum));
    out[5] = CZ_FMA(all(32), far_difference, half_difference + difference) + m[3];
  }
}

// G g along one axis: a weight's three numbers to their points
CZ_INLINE void weight_to_points(const Vector* g, Vector* out) {
  const Vector near = all(-2.0f / 9) * (g[0] + g[2]), near_odd = all(-2.0f / 9) * g[1];
  const Vector far = all(1.0f / 90) * CZ_FMA(all(4), g[2], g[0]), far_odd = all(1.0f / 45) * g[1];
  const Vector half = all(1.0f / 180) * CZ_FMA(all(4), g[0], g[2]), half_odd = all(1.0f / 90) * g[1];
  out[0] = g[0];
  out[1] = near + near_odd;
  out[2] = near - near_odd;
  out[3] = g[2];
  out[4] = far + far_odd;
  out[5] = far - far_odd;
  out[6] = half + half_odd;
  out[7] = half - half_odd;
}

// Of the (9, kChunk) numbers from `begin` to `end` of a weight (out / kChunk, in, 9, kChunk); points are `step` floats
// apart.  All together are too many for a near cache: written through it they would first be read.
CZ_TARGET inline void transform_weights(const float* weight, int64_t begin, int64_t end, int64_t step, float* to) {
  for (int64_t i = begin * kChunk; i < end * kChunk; i += CZ_LANES) {
    const float* const from = weight + i / kChunk * 9 * kChunk + i % kChunk;
    Vector columns[3][kSide];
    for (int x = 0; x < 3; ++x) {
      const Vector g[3] = {load(from + x * kChunk), load(from + (3 + x) * kChunk), load(from + (6 + x) * kChunk)};
      weight_to_points(g, columns[x]);
    }
    for (int y = 0; y < kSide; ++y) {
      const Vector g[3] = {columns[0][y], columns[1][y], columns[2][y]};
      Vector points[kSide];
      weight_to_points(g, points);
      for (int x = 0; x < kSide; ++x) CZ_STREAM(to + (y * kSide + x) * step + i, points[x]);
    }
  }
}

// The pixels around a tile, all channels, to its points: kLine of them in a row, the next ones `next` floats on
template <int Py, int Px>
CZ_TARGET inline void transform_input(
    const Convolution& p, const float* zeros, const Tile& tile, float* to, int64_t step, int64_t next) {
  const float* pixels[Py * Px];
  for (int i = 0; i < Py * Px; ++i) {
    const int64_t y = tile.y - 1 + i / Px, x = tile.x - 1 + i % Px;
    const bool inside = y >= 0 && x >= 0 && y < p.h && x < p.w;
    pixels[i] = inside ? p.x + ((tile.image * p.h + y) * p.w + x) * p.in : zeros;
  }
  for (int64_t c = 0; c < p.in; c += CZ_LANES) {
    Vector columns[Px][Py];
    for (int x = 0; x < Px; ++x) {
      Vector d[Py];
      for (int y = 0; y < Py; ++y) d[y] = load(pixels[y * Px + x] + c);
      to_points<Py>(d, columns[x]);
    }
    if (c % kLine == 0 && c + kLine < p.in)
      for (const float* pixel : pixels) __builtin_prefetch(pixel + c + kLine);
    for (int y = 0; y < Py; ++y) {
      Vector d[Px], points[Px];
      for (int x = 0; x < Px; ++x) d[x] = columns[x][y];
      to_points<Px>(d, points);
      for (int x = 0; x < Px; ++x) store(to + (y * Px + x) * step + c / kLine * next + c % kLine, points[x]);
    }
  }
}

// The points of a tile, kChunk channels from k on, to its pixels
template <int Py, int Px>
CZ_TARGET inline void transform_output(
    const Convolution& p, const Tile& tile, int64_t k, const float* from, int64_t step) {
  const int64_t height = std::min<int64_t>(Py - 2, p.h - tile.y), width = std::min<int64_t>(Px - 2, p.w - tile.x);
  float* const at = p.y + ((tile.image * p.h + tile.y) * p.w + tile.x) * p.out + k;
  for (int c = 0; c < kChunk; c += CZ_LANES) {
    Vector columns[Px][Py - 2];
    for (int x = 0; x < Px; ++x) {
      Vector m[Py];
      for (int y = 0; y < Py; ++y) m[y] = load(from + (y * Px + x) * step + c);
      from_points<Py>(m, columns[x]);
    }
    const Vector bias = load(p.bias + k + c);
    for (int64_t y = 0; y < height; ++y) {
      Vector m[Px], pixels[Px - 2];
      for (int x = 0; x < Px; ++x) m[x] = columns[x][y];
      from_points<Px>(m, pixels);
      for (int64_t x = 0; x < width; ++x) {
        Vector value = pixels[x] + bias;
        if (p.relu) value = value < 0 ? Vector{} : value;  // what is no number stays so
        store(at + (y * p.w + x) * p.out + c, value);
      }
    }
  }
}

template <int Py, int Px>
CZ_TARGET inline void run_kind(const Convolution& p, const float* zeros, const Block& block, float* room) {
  const int64_t count = block.count, step = p.step(count);
  for (int64_t t = 0; t < count; ++t)
    transform_input<Py, Px>(
        p, zeros, block.kind.tile(block.first + t), room + step + t * kLine, step, count * kLine);
  for (int point = 0; point < Py * Px; ++point) {
    const float* const weight = p.weight + (point / Px * kSide + point % Px) * p.out * p.in;
    float* const products = room + point * step;  // where the rows of the point before were
    for (int64_t k = 0; k < p.out; k += kChunk)
      multiply_chunk(count, p.in, products + step, count * kLine, weight + k * p.in, products + k * count);
  }
  for (int64_t t = 0; t < count; ++t)
    for (int64_t k = 0; k < p.out; k += kChunk)
      transform_output<Py, Px>(p, block.kind.tile(block.first + t), k, room + k * count + t * kChunk, step);
}

template <int Py>
CZ_TARGET inline void run_rows(const Convolution& p, const float* zeros, const Block& block, float* room) {
  if (block.kind.columns.side == 6) return run_kind<Py, 8>(p, zeros, block, room);
  if (block.kind.columns.side == 4) return run_kind<Py, 6>(p, zeros, block, room);
  run_kind<Py, 4>(p, zeros, block, room);
}

// Room: p.room_of(block) floats.
CZ_TARGET inline void run_block(const Convolution& p, const float* zeros, const Block& block, float* room) {
  if (block.kind.rows.side == 6) return run_rows<8>(p, zeros, block, room);
  if (block.kind.rows.side == 4) return run_rows<6>(p, zeros, block, room);
  run_rows<4>(p, zeros, block, room);
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
