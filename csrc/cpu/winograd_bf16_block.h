// Some tiles of one kind of a convolution by Winograd's way, for one instruction set (instruction_sets_bf16.h).
#include "product_bf16.h"

namespace cascadezoo {
namespace {
namespace CZ_SET {

// B' d along one axis: of 6 pixels to all points, of 4 to the first 4.  The weights hold the divisors of six points, so
// that four need what is left of these.
template <int Points>
CZ_INLINE void to_points(const Vector* d, Vector* out) {
  constexpr float a = kNear, b = kFar, aa = a * a, bb = b * b;
  if constexpr (Points == 4) {
    const Vector even = all(aa - bb) * d[2], odd = all(a * (aa - bb)) * d[1];
    out[0] = CZ_FMA(all(aa * bb), d[0], all(-bb) * d[2]);
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = CZ_FMA(all(-aa), d[1], d[3]);
  } else {
    const Vector near = CZ_FMA(all(-bb), d[2], d[4]), near_odd = CZ_FMA(all(-bb), d[1], d[3]);
    const Vector far = CZ_FMA(all(-aa), d[2], d[4]), far_odd = CZ_FMA(all(-aa), d[1], d[3]);
    out[0] = CZ_FMA(all(aa * bb), d[0], CZ_FMA(all(-aa - bb), d[2], d[4]));
    out[1] = CZ_FMA(all(a), near_odd, near);
    out[2] = CZ_FMA(all(-a), near_odd, near);
    out[3] = CZ_FMA(all(aa * bb), d[1], CZ_FMA(all(-aa - bb), d[3], d[5]));
    out[4] = CZ_FMA(all(b), far_odd, far);
    out[5] = CZ_FMA(all(-b), far_odd, far);
  }
}

// A' m along one axis: to Points - 2 pixels
template <int Points>
CZ_INLINE void from_points(const Vector* m, Vector* out) {
  constexpr float a = kNear, b = kFar;
  const Vector sum = m[1] + m[2], difference = m[1] - m[2];
  if constexpr (Points == 4) {
    out[0] = m[0] + sum;
    out[1] = CZ_FMA(all(a), difference, m[3]);
  } else {
    const Vector far_sum = m[4] + m[5], far_difference = m[4] - m[5];
    out[0] = m[0] + (sum + far_sum);
    out[1] = CZ_FMA(all(a), difference, all(b) * far_difference);
    out[2] = CZ_FMA(all(a * a), sum, all(b * b) * far_sum);
    out[3] = CZ_FMA(all(a * a * a), difference, CZ_FMA(all(b * b * b), far_difference, m[3]));
  }
}

// The pixels around a tile, all channels, to its points: kLine of them in a row, the next ones `next` numbers on
template <int Py, int Px>
CZ_TARGET inline void transform_input(
    const Convolution& p, const Bits* zeros, const Tile& tile, Bits* to, int64_t step, int64_t next) {
  const Bits* pixels[Py * Px];
  for (int i = 0; i < Py * Px; ++i) {
    const int64_t y = tile.y - 1 + i / Px, x = tile.x - 1 + i % Px;
    const bool inside = y >= 0 && x >= 0 && y < p.h && x < p.w;
    pixels[i] = inside ? p.x + ((tile.image * p.h + y) * p.w + x) * p.in : zeros;
  }
  for (int64_t c = 0; c < p.in; c += 2 * CZ_LANES) {
    Vector columns[2][Px][Py];
    for (int half : {0, 1})
      for (int x = 0; x < Px; ++x) {
        Vector d[Py];
        for (int y = 0; y < Py; ++y) d[y] = load(pixels[y * Px + x] + c + half * CZ_LANES);
        to_points<Py>(d, columns[half][x]);
      }
    if (c + kLine < p.in)
      for (const Bits* pixel : pixels) fetch(pixel + c + kLine);
    for (int y = 0; y < Py; ++y) {
      Vector d[Px], points[2][Px];
      for (int half : {0, 1}) {
        for (int x = 0; x < Px; ++x) d[x] = columns[half][x][y];
        to_points<Px>(d, points[half]);
      }
      for (int x = 0; x < Px; ++x)
        store(to + (y * Px + x) * step + c / kLine * next + c % kLine, points[0][x], points[1][x]);
    }
  }
}

// Points of a tile, kChunk channels from k on, to its pixels
template <int Py, int Px>
CZ_TARGET inline void transform_output(
    const Convolution& p, const Tile& tile, int64_t k, const float* from, int64_t step) {
  for (int c = 0; c < kChunk; c += 2 * CZ_LANES) {
    Vector columns[2][Px][Py - 2];
    for (int half : {0, 1})
      for (int x = 0; x < Px; ++x) {
        Vector m[Py];
        for (int y = 0; y < Py; ++y) m[y] = load(from + (y * Px + x) * step + c + half * CZ_LANES);
        from_points<Py>(m, columns[half][x]);
      }
    for (int64_t y = 0; y < Py - 2 && tile.y + y < p.h; ++y) {
      Vector m[Px], pixels[2][Px - 2];
      for (int half : {0, 1}) {
        for (int x = 0; x < Px; ++x) m[x] = columns[half][x][y];
        from_points<Px>(m, pixels[half]);
      }
      for (int64_t x = 0; x < Px - 2 && tile.x + x < p.w; ++x) {
        const int64_t at = ((tile.image * p.h + tile.y + y) * p.w + tile.x + x) * p.out + k + c;
        for (int half : {0, 1}) {
          Vector& value = pixels[half][x];
          value += load(p.bias + k + c + half * CZ_LANES);
          if (p.onto) value += load(p.onto + at + half * CZ_LANES);
          if (p.relu) value = value < 0 ? Vector{} : value;  // what is no number stays so
        }
        store(p.y + at, pixels[0][x], pixels[1][x]);
      }
    }
  }
}

template <int Rows, int Py, int Px>
CZ_TARGET inline void multiply_points(const Convolution& p, int64_t k, const Bits* v, int64_t step, float* products) {
  for (int point = 0; point < Py * Px; ++point) {
    const Bits* weight = p.weight + (k * 36 + (point / Px * 6 + point % Px) * kChunk) * p.in;
    multiply<Rows>(p.in, v + point * step, Rows * kLine, weight, products + point * (kRows * kChunk + kApart));
  }
}

// Tiles first .. first + count of a kind with Py x Px points, count <= Rows <= kRows
template <int Rows, int Py, int Px>
CZ_TARGET inline void run_rows(const Convolution& p, const Kind& kind, int64_t first, int64_t count, const Room& room) {
  const int64_t step = Rows * p.in + kApart;
  for (int64_t t = 0; t < Rows; ++t)  // beyond the last tile: any one again, whose result nobody reads
    transform_input<Py, Px>(p, room.zeros, kind.tile(first + (t < count ? t : 0)), room.v + t * kLine, step, Rows * kLine);
  for (int64_t k = 0; k < p.out; k += kChunk) {
    multiply_points<Rows, Py, Px>(p, k, room.v, step, room.products);
    for (int64_t t = 0; t < count; ++t)
      transform_output<Py, Px>(p, kind.tile(first + t), k, room.products + t * kChunk, kRows * kChunk + kApart);
  }
}

template <int Py, int Px>
CZ_TARGET inline void run_kind(const Convolution& p, const Kind& kind, int64_t first, int64_t count, const Room& room) {
  if (count <= 4) return run_rows<4, Py, Px>(p, kind, first, count, room);
  if (count <= 8) return run_rows<8, Py, Px>(p, kind, first, count, room);
  run_rows<kRows, Py, Px>(p, kind, first, count, room);
}

CZ_TARGET inline void run_block(const Convolution& p, const Kind& kind, int64_t first, int64_t count, const Room& room) {
  if (kind.rows.side == 4 && kind.columns.side == 4) return run_kind<6, 6>(p, kind, first, count, room);
  if (kind.rows.side == 4) return run_kind<6, 4>(p, kind, first, count, room);
  if (kind.columns.side == 4) return run_kind<4, 6>(p, kind, first, count, room);
  run_kind<4, 4>(p, kind, first, count, room);
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
